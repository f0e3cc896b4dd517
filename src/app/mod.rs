//! Builds the service from a configuration, runs it, reloads it and shuts it down.

mod channels;
mod generation;
mod reload;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

pub use self::reload::ConfigSource;

use self::generation::{AppContext, CarriedOver, Generation, PreparedConfig};
use self::reload::ReloadOutcome;
use crate::alerting::process;
use crate::certcentral::{CertCentralClient, HistorySource, LimiterAccount, RateLimitWindow, RateLimiter};
use crate::config::{Account, ChannelConfig, Config, ConnectionOptions, Divisions, Loaded, NotifierConfig};
use crate::domain::{Name, Time};
use crate::forecast::Spending;
use crate::history::HistoryCache;
use crate::notify::delivery::Route;
use crate::notify::{MessageContext, RuleTexts};
use crate::polling::forecasts::HistoryAccess;
use crate::polling::poller::{AccountPolicy, DivisionScope};
use crate::polling::scheduler::CronJobs;
use crate::state::{FileBackend, OpenedState, StateOpenError, StateStore};
use crate::status::control;
use crate::status::heartbeat;
use crate::status::registry::Registry;
use crate::status::systemd::Supervisor;
use crate::util::clock::Clock;
use crate::util::http_client;
use crate::util::secret::Redactor;

/// Time that running sends get at shutdown.
const DELIVERY_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of problems of a refused configuration that are logged and shown.
const MAX_REPORTED_PROBLEMS: usize = 50;

/// Pause before the control socket is created again after a failure.
const SOCKET_RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Interval at which the lock file and the control socket are checked: someone may have deleted them.
const OWNERSHIP_CHECK_INTERVAL: Duration = Duration::from_secs(3);

/// Number of attempts to open a state that another process holds, and the pause between them.
const STATE_OPEN_ATTEMPTS: u32 = 10;
const STATE_OPEN_PAUSE: Duration = Duration::from_millis(100);

/// An error that keeps the service from running or ends it.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The state cannot be used.
    #[error(transparent)]
    State(#[from] StateOpenError),
    /// Another process has taken the state while this one ran.
    #[error(
        "state {path} was taken by another lowtide after its lock file was deleted: this one ends, so that nothing is sent twice"
    )]
    StateTaken {
        /// Path of the state file.
        path: PathBuf,
    },
    /// A part of the service could not be built.
    #[error("{0:#}")]
    Build(#[from] anyhow::Error),
}

/// Limiters by API key: all requests with one key share a limiter.
type Limiters = BTreeMap<String, (Vec<RateLimitWindow>, Arc<RateLimiter>)>;

/// Digest that shows whether an API key has changed. Kept in memory only.
type KeyDigest = [u8; 32];

/// Resources of accounts that a reload keeps where they still fit the configuration.
#[derive(Default)]
struct AccountResources {
    limiters: Limiters,
    /// History caches by account, with the base URL and the digest of the API key that they belong to.
    history_caches: BTreeMap<Name, (Url, KeyDigest, Arc<HistoryCache>)>,
}

/// Builds the policy of each account.
pub fn build_policies(
    config: &Config,
    redactor: &Redactor,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Vec<Arc<AccountPolicy>>> {
    Ok(build_policies_reusing(config, redactor, clock, &AccountResources::default())?.0)
}

/// Builds the policies like [`build_policies`], reusing `previous` resources that still fit. Also returns the resources in use
/// from now on.
fn build_policies_reusing(
    config: &Config,
    redactor: &Redactor,
    clock: &Arc<dyn Clock>,
    previous: &AccountResources,
) -> anyhow::Result<(Vec<Arc<AccountPolicy>>, AccountResources)> {
    let rules: Arc<[_]> = config.rules.clone().into();
    let unreadable = Arc::new(config.unreadable.clone());
    let limiters: Limiters =
        limits_by_key(config).into_iter().map(|(key, windows)| limiter(key, windows, &previous.limiters)).collect();
    let mut sharers = sharers(config, clock.now());
    for (key, (_, limiter)) in &limiters {
        limiter.set_accounts(sharers.remove(key.as_str()).unwrap_or_default());
    }
    let mut history_caches = BTreeMap::new();
    let silences: Arc<[_]> = config.silences.values().cloned().collect();
    let incident_notifiers = Arc::new(incident_notifiers(config));
    let mut build = |(name, account): (&Name, &Account)| {
        let limiter = limiters.get(account.api_key.expose()).map(|(_, limiter)| Arc::clone(limiter));
        let http =
            http_client(&account.connection, Some(&account.base_url)).with_context(|| format!("account {name}"))?;
        let client = CertCentralClient::new(
            &**name,
            account.base_url.clone(),
            &account.api_key,
            http,
            limiter.unwrap_or_else(|| Arc::new(RateLimiter::new([]))),
            redactor.clone(),
            Arc::clone(clock),
        )
        .with_context(|| format!("account {name}"))?;
        let client = Arc::new(client);
        let digest: KeyDigest = Sha256::digest(account.api_key.expose()).into();
        let history_cache =
            match previous.history_caches.get(name).filter(|(base_url, ..)| *base_url == account.base_url) {
                Some((_, before, cache)) if *before == digest => Arc::clone(cache),
                Some(_) => Arc::new(HistoryCache::unverified(Arc::clone(clock))),
                None => Arc::new(HistoryCache::new(Arc::clone(clock))),
            };
        history_caches.insert(name.clone(), (account.base_url.clone(), digest, Arc::clone(&history_cache)));
        let spending = account.not_spend.as_ref().map_or_else(Spending::default, Spending::without);
        let source: Arc<dyn HistorySource> = Arc::clone(&client) as _;
        Ok(Arc::new(AccountPolicy {
            account: name.clone(),
            source: client,
            history: Some(Arc::new(HistoryAccess { cache: history_cache, source, spending })),
            scope: scope(&account.divisions),
            rules: Arc::clone(&rules),
            unreadable: Arc::clone(&unreadable),
            silences: Arc::clone(&silences),
            incident_notifiers: Arc::clone(&incident_notifiers),
        }))
    };
    let policies = config.accounts.iter().map(&mut build).collect::<anyhow::Result<_>>()?;
    Ok((policies, AccountResources { limiters, history_caches }))
}

/// Returns the previous limiter of a key if its windows are unchanged, so that it keeps counting.
fn limiter(
    key: String,
    windows: Vec<RateLimitWindow>,
    previous: &Limiters,
) -> (String, (Vec<RateLimitWindow>, Arc<RateLimiter>)) {
    let same = previous.get(&key).filter(|(before, _)| *before == windows).map(|(_, limiter)| Arc::clone(limiter));
    let limiter = same.unwrap_or_else(|| Arc::new(RateLimiter::new(windows.iter().copied())));
    (key, (windows, limiter))
}

/// Collects the rate limits by API key. Accounts that share a key must keep to the limits of all of them.
fn limits_by_key(config: &Config) -> BTreeMap<String, Vec<RateLimitWindow>> {
    let mut limits: BTreeMap<String, Vec<RateLimitWindow>> = BTreeMap::new();
    for account in config.accounts.values() {
        let windows = limits.entry(account.api_key.expose().to_owned()).or_default();
        windows.extend(
            account.rate_limit.iter().map(|quota| RateLimitWindow { requests: quota.requests, length: quota.window }),
        );
    }
    limits
}

/// Returns the notifiers that keep an incident open for each alert.
fn incident_notifiers(config: &Config) -> BTreeSet<Name> {
    let keeping =
        config.notifiers.iter().filter(|(_, notifier)| matches!(notifier.channel, ChannelConfig::PagerDuty { .. }));
    keeping.map(|(name, _)| name.clone()).collect()
}

/// Returns the load of each account by API key, as far as the configuration shows it: the number of divisions that `all`
/// stands for is known only after a listing.
fn sharers(config: &Config, now: Time) -> BTreeMap<&str, Vec<LimiterAccount>> {
    let mut sharers: BTreeMap<&str, Vec<LimiterAccount>> = BTreeMap::new();
    for (name, account) in &config.accounts {
        let first = account.schedule.next_after(now);
        let next = first.and_then(|first| account.schedule.next_after(first));
        let period = next.zip(first).and_then(|(next, first)| (next - first).to_std().ok());
        let requests = account.divisions.count();
        let sharer = period.map(|period| LimiterAccount { account: name.clone(), requests, period });
        sharers.entry(account.api_key.expose()).or_default().extend(sharer);
    }
    sharers
}

fn scope(divisions: &Divisions) -> DivisionScope {
    match divisions {
        Divisions::Undivided => DivisionScope::Undivided,
        Divisions::All { exclude } => DivisionScope::All(exclude.clone()),
        Divisions::Listed(ids) => DivisionScope::Listed(ids.clone()),
    }
}

/// Builds a client for requests to `url`. `None` stands for an address that could not be parsed; it is treated as remote.
fn http_client(connection: &ConnectionOptions, url: Option<&Url>) -> anyhow::Result<reqwest::Client> {
    if connection.ca_pem.is_none() && url.is_some_and(http_client::is_plain_loopback) {
        return Ok(http_client::plain_client(connection.timeout)?);
    }
    let (timeout, loopback) = (connection.timeout, url.is_some_and(http_client::is_loopback));
    Ok(http_client::client(&http_client::HttpClientOptions {
        timeout,
        extra_ca_pem: connection.ca_pem.clone(),
        loopback,
    })?)
}

/// Builds the texts of messages that come from the configuration.
pub fn message_context(config: &Config) -> MessageContext {
    let rule = |rule: &crate::domain::rule::Rule| {
        (rule.name.clone(), RuleTexts { description: rule.description.clone(), link: rule.link.clone() })
    };
    MessageContext {
        timezone: config.timezone,
        rules: config.rules.iter().map(rule).collect(),
        console_urls: config
            .accounts
            .iter()
            .map(|(name, account)| (name.clone(), account.console_url.to_string()))
            .collect(),
    }
}

/// Builds every notifier, with its fallback and quiet hours.
pub fn build_routes(config: &Config, redactor: &Redactor) -> anyhow::Result<BTreeMap<Name, Route>> {
    let context = Arc::new(message_context(config));
    let build = |(name, notifier): (&Name, &NotifierConfig)| {
        let built =
            channels::build_notifier(name, notifier, &context, redactor).with_context(|| format!("notifier {name}"))?;
        let (fallback, quiet_hours) = (notifier.fallback.clone(), notifier.quiet_hours.clone());
        Ok((name.clone(), Route { notifier: built, fallback, quiet_hours }))
    };
    config.notifiers.iter().map(build).collect()
}

/// Connections of the service to the outside, besides its control socket.
#[derive(Default)]
pub struct RunOptions {
    /// Source that the configuration is reloaded from. `None` disables reloading.
    pub source: Option<ConfigSource>,
    /// Supervisor that is notified of readiness, reloads and shutdown.
    pub supervisor: Supervisor,
}

/// Runs the service until `stop` completes. Returns once every task has ended and the state is saved.
pub async fn run(
    config: &Config,
    redactor: &Redactor,
    clock: Arc<dyn Clock>,
    options: RunOptions,
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let opened = open_state(&config.state, clock.as_ref()).await?;
    for problem in &opened.problems {
        tracing::error!("{problem}");
    }
    let store = Arc::new(StateStore::new(opened.state, Arc::new(opened.backend)));
    tokio::select! {
        ended = run_with(Arc::clone(&store), config, redactor, clock, options, stop) => ended,
        () = store.wait_until_taken() => Err(RunError::StateTaken { path: config.state.clone() }),
    }
}

/// Runs the service with the state that it owns.
async fn run_with(
    store: Arc<StateStore>,
    config: &Config,
    redactor: &Redactor,
    clock: Arc<dyn Clock>,
    mut options: RunOptions,
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let mut carried_over = CarriedOver::default();
    let mut prepared = PreparedConfig::new(config, redactor, &clock, &carried_over)?;
    let state = config.state.clone();
    let registry = Arc::new(Registry::default());
    registry.record_reload(clock.now(), Ok(Vec::new()));
    let shutdown = CancellationToken::new();
    let _guard = shutdown.clone().drop_guard(); // also ends everything when this future is dropped
    let background = BackgroundTasks::new(&shutdown);
    background.spawn(retry_saves(Arc::clone(&store), Arc::clone(&clock)));
    background.spawn(serve_control_socket(
        state.clone(),
        Arc::clone(&store),
        Arc::clone(&registry),
        Arc::clone(&clock),
    ));
    let (heartbeat, targets) = watch::channel(None);
    background.spawn(heartbeat::run(targets, Arc::clone(&registry), Arc::clone(&store), Arc::clone(&clock)));
    let supervisor = Arc::new(options.supervisor);
    background.spawn(run_watchdog(Arc::clone(&supervisor), Arc::clone(&registry), Arc::clone(&clock)));
    let jobs = CronJobs::on_demand().await.context("the scheduler cannot be made")?;
    let context = AppContext { store, registry, clock, jobs, heartbeat, shutdown };
    tokio::pin!(stop);
    loop {
        log_start(&prepared.config);
        let mut generation = Generation::start(prepared, &context, &mut carried_over).await;
        supervisor.ready();
        let next = tokio::select! {
            () = &mut stop => None,
            next = await_next_config(&mut options.source, &state, redactor, &context, &carried_over) => Some(next),
        };
        let Some(next) = next else { break finish(generation, &mut carried_over, &supervisor).await };
        supervisor.reloading();
        let left = tokio::select! {
            () = &mut stop => false,
            () = generation.stop_between_cycles(&mut carried_over) => true,
        };
        if !left {
            break finish(generation, &mut carried_over, &supervisor).await;
        }
        prepared = next;
    }
    let saved = context.store.flush().await;
    background.stop().await;
    let _ = std::fs::remove_file(control::socket_path(&state)); // its absence is what matters
    let pending = context.store.read(|state| state.queue.len());
    tracing::info!(pending, saved, "stopped");
    Ok(())
}

fn log_start(config: &Config) {
    tracing::info!(accounts = config.accounts.len(), rules = config.rules.len(), notifiers = config.notifiers.len(), state = %config.state.display(), "lowtide runs");
}

/// Pings the watchdog while cycles are on time.
async fn run_watchdog(supervisor: Arc<Supervisor>, registry: Arc<Registry>, clock: Arc<dyn Clock>) {
    let Some(pause) = supervisor.watchdog_interval() else { return };
    loop {
        if registry.health(clock.now()).on_time {
            supervisor.ping_watchdog();
        }
        tokio::time::sleep(pause).await;
    }
}

async fn finish(generation: Generation, carried_over: &mut CarriedOver, supervisor: &Supervisor) {
    supervisor.stopping();
    tracing::info!("shutting down, waiting up to 10 s for deliveries");
    generation.stop(carried_over).await;
}

/// Waits for the next usable configuration and prepares it. An unusable one is logged and shown by `status`; the one in use
/// stays.
async fn await_next_config(
    source: &mut Option<ConfigSource>,
    state: &Path,
    redactor: &Redactor,
    context: &AppContext,
    carried_over: &CarriedOver,
) -> PreparedConfig {
    let Some(source) = source else { return std::future::pending().await };
    loop {
        let trigger = source.wait_for_trigger().await;
        let loaded = match source.read(trigger).await {
            ReloadOutcome::Candidate(loaded) => *loaded,
            ReloadOutcome::StillRefused | ReloadOutcome::Unchanged { recovered: false } => continue,
            ReloadOutcome::Unchanged { recovered: true } => {
                tracing::info!("configuration is again the one in use");
                context.registry.record_reload(context.clock.now(), Ok(Vec::new()));
                continue;
            }
        };
        match prepare(loaded, state, redactor, context, carried_over) {
            Ok((prepared, notes)) => {
                source.mark_in_use();
                tracing::info!("configuration read again: it takes over between two cycles");
                context.registry.record_reload(context.clock.now(), Ok(notes));
                return prepared;
            }
            Err(mut problems) => {
                source.mark_refused();
                if let Some(more) = problems.len().checked_sub(MAX_REPORTED_PROBLEMS).filter(|more| *more > 0) {
                    problems.truncate(MAX_REPORTED_PROBLEMS);
                    problems.push(format!("and {more} more: `lowtide validate` shows all of them"));
                }
                for problem in &problems {
                    tracing::error!("{problem}");
                }
                tracing::error!(
                    problems = problems.len(),
                    "configuration refused: the one before stays in use; correct the file, and it is read again"
                );
                context.registry.record_reload(context.clock.now(), Err(problems));
            }
        }
    }
}

/// Prepares a loaded configuration. Returns it with notes for the operator, or the list of its problems.
fn prepare(
    loaded: Loaded,
    state: &Path,
    redactor: &Redactor,
    context: &AppContext,
    carried_over: &CarriedOver,
) -> Result<(PreparedConfig, Vec<String>), Vec<String>> {
    loaded.secrets.iter().for_each(|secret| redactor.learn(secret));
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let mut config = loaded.config.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let mut notes = Vec::new();
    if config.state != state {
        let configured = std::mem::replace(&mut config.state, state.to_owned());
        let note =
            format!("state: {} needs a restart; {} stays in use until then", configured.display(), state.display());
        tracing::warn!("{note}");
        notes.push(note);
    }
    let prepared = PreparedConfig::new(&config, redactor, &context.clock, carried_over);
    let prepared = prepared.map_err(|error| vec![redactor.redact(&format!("{error:#}"))])?;
    Ok((prepared, notes))
}

/// Opens the state. Retries while another process holds it: a command releases it within moments, a service does not.
async fn open_state(path: &Path, clock: &dyn Clock) -> Result<OpenedState, StateOpenError> {
    for _ in 0..STATE_OPEN_ATTEMPTS {
        match FileBackend::open(path, clock.now()) {
            Err(StateOpenError::InUse { .. }) => tokio::time::sleep(STATE_OPEN_PAUSE).await,
            opened => return opened,
        }
    }
    FileBackend::open(path, clock.now())
}

/// Ends the alerts and notifications of everything that left the configuration: logged, without a message. Incidents are
/// resolved.
async fn forget_unconfigured(
    store: &StateStore,
    policies: &[Arc<AccountPolicy>],
    routes: &BTreeMap<Name, Route>,
    now: Time,
) {
    let policies: Vec<&AccountPolicy> = policies.iter().map(AsRef::as_ref).collect();
    let incident_notifiers = policies.first().map(|policy| Arc::clone(&policy.incident_notifiers)).unwrap_or_default();
    let (alerts, redirected, dropped) = store
        .change(|state| {
            let alerts = process::end_unconfigured_alerts(state, &policies, now);
            let before = state.failing_notifiers.len();
            let configured = |name: &str| routes.contains_key(name);
            state.end_removed_notifiers(configured, &incident_notifiers, now);
            let redirected = state.hand_over_to_new_fallbacks(|name| routes.get(name)?.fallback.clone());
            let dropped = state.drop_unconfigured_notifiers(configured);
            let changed =
                !alerts.is_empty() || redirected > 0 || !dropped.is_empty() || state.failing_notifiers.len() != before;
            ((alerts, redirected, dropped), changed)
        })
        .await;
    for key in alerts {
        tracing::info!(
            alert = process::alert_label(&key),
            "alert ended quietly: its rule, account or division left the configuration"
        );
    }
    if redirected > 0 {
        tracing::info!(
            events = redirected,
            "fallback replaced: what the old one has not delivered is queued for the new one"
        );
    }
    for (notifier, events) in dropped {
        tracing::warn!(%notifier, events, "pending notifications dropped: their notifier is no longer configured");
    }
}

/// Tasks that outlive every generation. They end at once when they are stopped.
struct BackgroundTasks {
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

impl BackgroundTasks {
    fn new(parent: &CancellationToken) -> Self {
        Self { tracker: TaskTracker::new(), shutdown: parent.child_token() }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(self.shutdown.clone().run_until_cancelled_owned(task));
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Retries failed saves of the state.
async fn retry_saves(store: Arc<StateStore>, clock: Arc<dyn Clock>) {
    store.retry_saves(clock.as_ref()).await;
}

/// Serves the control socket, and creates it again after a failure or when it was deleted.
async fn serve_control_socket(path: PathBuf, store: Arc<StateStore>, registry: Arc<Registry>, clock: Arc<dyn Clock>) {
    let mut reported = false;
    loop {
        let served = control::serve(&path, Arc::clone(&store), Arc::clone(&registry), Arc::clone(&clock));
        let served = tokio::select! {
            served = served => served,
            () = await_socket_removal(&path, &store) => continue,
        };
        if let Err(error) = served
            && !std::mem::replace(&mut reported, true)
        {
            tracing::error!(%error, "no control socket: `status` shows only the state file, `health` fails; trying again");
        }
        store.ensure_ownership().await;
        tokio::time::sleep(SOCKET_RETRY_PAUSE).await;
    }
}

/// Keeps the lock on the state. Completes once the control socket has been deleted while this process still owns the state.
async fn await_socket_removal(state: &Path, store: &StateStore) {
    let socket = control::socket_path(state);
    loop {
        tokio::time::sleep(OWNERSHIP_CHECK_INTERVAL).await;
        let gone = matches!(tokio::fs::try_exists(&socket).await, Ok(false));
        if store.ensure_ownership().await && gone {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::clock::SystemClock;

    #[test]
    fn reload_keeps_a_history_cache_while_base_url_and_key_are_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.yaml");
        let config = |host: &str, key: &str| {
            let text = format!(
                "accounts: {{ acme: {{ api_key: '${{KEY}}', base_url: 'https://{host}/services/v2' }} }}\n\
                 notifiers: {{ slack: {{ type: slack, webhook_url: 'https://hooks.slack.com/services/T0/B0/abcdefgh' }} }}\n\
                 rules: {{ low: {{ metric: available_funds, warning: {{ below: 1 }}, notify: [slack] }} }}\n"
            );
            std::fs::write(&path, text).unwrap();
            crate::config::load(&path, &std::iter::once(("KEY", key)).collect()).config.unwrap()
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut resources = AccountResources::default();
        let mut history_cache = |host, key| {
            let rebuilt = build_policies_reusing(&config(host, key), &Redactor::default(), &clock, &resources).unwrap();
            resources = rebuilt.1;
            Arc::clone(&resources.history_caches.values().next().unwrap().2)
        };
        let first = history_cache("www.digicert.com", "KEY-0123456789-FIRST");
        assert!(Arc::ptr_eq(&first, &history_cache("www.digicert.com", "KEY-0123456789-FIRST")));
        let second = history_cache("www.digicert.com", "KEY-0123456789-SECOND");
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(!Arc::ptr_eq(&second, &history_cache("certcentral.digicert.eu", "KEY-0123456789-SECOND")));
    }
}
