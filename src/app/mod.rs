//! The only place that builds concrete things from a configuration and spawns tasks.

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
use tokio::task::JoinSet;
use url::Url;

pub use self::reload::ConfigSource;

use self::generation::{AppContext, CarriedOver, Generation, PreparedConfig};
use self::reload::ReloadOutcome;
use crate::alerting::end_alerts::end_unconfigured_alerts;
use crate::alerting::policy::{AccountPolicy, DivisionScope};
use crate::certcentral::{CertCentralClient, HistorySource, LimiterAccount, RateLimitWindow, RateLimiter};
use crate::config::{Account, ChannelConfig, Config, ConnectionOptions, Divisions, Loaded, NotifierConfig};
use crate::domain::{Name, Time};
use crate::forecast::Spending;
use crate::history::HistoryCache;
use crate::notify::delivery::Route;
use crate::notify::{MessageContext, RuleTexts};
use crate::polling::history_access::HistoryAccess;
use crate::polling::poller::Poller;
use crate::polling::scheduler::CronJobs;
use crate::state::{FileBackend, OpenedState, StateOpenError, StateStore};
use crate::status::control;
use crate::status::control::Registry;
use crate::status::heartbeat;
use crate::status::systemd::Supervisor;
use crate::util::clock::Clock;
use crate::util::http_client;
use crate::util::secret::Redactor;

/// How long running sends get after the service was told to stop.
const DELIVERY_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// So many problems of a refused configuration are told.
const MAX_REPORTED_PROBLEMS: usize = 50;

/// The pause before the control socket is tried again, where its folder was not to be used.
const SOCKET_RETRY_PAUSE: Duration = Duration::from_secs(5);

/// The pause between two looks at the lock file and the control socket: somebody may have cleaned them away.
const OWNERSHIP_CHECK_INTERVAL: Duration = Duration::from_secs(3);

/// How often a state that somebody else has is tried before it is refused, and the pause between.
const STATE_OPEN_ATTEMPTS: u32 = 10;
const STATE_OPEN_PAUSE: Duration = Duration::from_millis(100);

/// Why the service did not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The state is refused.
    #[error(transparent)]
    State(#[from] StateOpenError),
    /// Another process has taken the state while this one ran.
    #[error(
        "state {path} was taken by another lowtide after its lock file had gone: this one ends, so that nothing is sent twice"
    )]
    StateTaken {
        /// The state file.
        path: PathBuf,
    },
    /// Something could not be built.
    #[error("{0:#}")]
    Build(#[from] anyhow::Error),
}

/// The limiters by API key: everything that uses a key shares one.
type Limiters = BTreeMap<String, (Vec<RateLimitWindow>, Arc<RateLimiter>)>;

/// Tells whether a key is the one before; it is in memory only.
type KeyDigest = [u8; 32];

/// What a reload leaves as it is where it still fits.
#[derive(Default)]
struct AccountResources {
    limiters: Limiters,
    /// The books by account, of which place they are, and a digest of the key that they are read with.
    history_caches: BTreeMap<Name, (Url, KeyDigest, Arc<HistoryCache>)>,
}

/// Builds the poller of each account.
pub fn build_pollers(config: &Config, redactor: &Redactor, clock: &Arc<dyn Clock>) -> anyhow::Result<Vec<Arc<Poller>>> {
    Ok(build_pollers_reusing(config, redactor, clock, &AccountResources::default())?.0)
}

/// The same with what is `previous` and still fits, and with what to know next time.
fn build_pollers_reusing(
    config: &Config,
    redactor: &Redactor,
    clock: &Arc<dyn Clock>,
    previous: &AccountResources,
) -> anyhow::Result<(Vec<Arc<Poller>>, AccountResources)> {
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
                Some((_, before, shelf)) if *before == digest => Arc::clone(shelf),
                Some(_) => Arc::new(HistoryCache::unverified(Arc::clone(clock))),
                None => Arc::new(HistoryCache::new(Arc::clone(clock))),
            };
        history_caches.insert(name.clone(), (account.base_url.clone(), digest, Arc::clone(&history_cache)));
        let spending = account.not_spend.as_ref().map_or_else(Spending::default, Spending::without);
        let source: Arc<dyn HistorySource> = Arc::clone(&client) as _;
        let policy = AccountPolicy {
            account: name.clone(),
            scope: scope(&account.divisions),
            rules: Arc::clone(&rules),
            unreadable: Arc::clone(&unreadable),
            silences: Arc::clone(&silences),
            incident_notifiers: Arc::clone(&incident_notifiers),
        };
        let history = Some(Arc::new(HistoryAccess { cache: history_cache, source, spending }));
        Ok(Arc::new(Poller { policy, source: client, history, clock: Arc::clone(clock) }))
    };
    let pollers = config.accounts.iter().map(&mut build).collect::<anyhow::Result<_>>()?;
    Ok((pollers, AccountResources { limiters, history_caches }))
}

/// A limiter that is known goes on counting.
fn limiter(
    key: String,
    windows: Vec<RateLimitWindow>,
    previous: &Limiters,
) -> (String, (Vec<RateLimitWindow>, Arc<RateLimiter>)) {
    let same = previous.get(&key).filter(|(before, _)| *before == windows).map(|(_, limiter)| Arc::clone(limiter));
    let limiter = same.unwrap_or_else(|| Arc::new(RateLimiter::new(windows.iter().copied())));
    (key, (windows, limiter))
}

/// Accounts that share a key share its limit: the windows of all of them hold.
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

/// Notifiers that keep an incident open for each alert.
fn incident_notifiers(config: &Config) -> BTreeSet<Name> {
    let keeping = config.notifiers.iter().filter(|(_, it)| matches!(it.channel, ChannelConfig::PagerDuty { .. }));
    keeping.map(|(name, _)| name.clone()).collect()
}

/// What the accounts of each API key ask, as far as their configuration says: only a listing tells how many `all` are.
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

/// A client for requests to `url`; `None`: an address that is not understood is nobody's own.
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

/// What messages say beside the events' own figures.
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

/// The notifiers, built.
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

/// What the service is asked by from outside, beside its control socket.
#[derive(Default)]
pub struct RunOptions {
    /// Where its configuration is read again; `None`: it keeps the one that it has.
    pub source: Option<ConfigSource>,
    /// Who is told how it is.
    pub supervisor: Supervisor,
}

/// Runs the service until `stop` completes. Returns when everything has ended and is saved.
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
    let mut background = spawn_background_tasks(&state, &store, &registry, &clock);
    let (heartbeat, targets) = watch::channel(None);
    background.spawn(heartbeat::run(targets, Arc::clone(&registry), Arc::clone(&store), Arc::clone(&clock)));
    let supervisor = Arc::new(options.supervisor);
    background.spawn(run_watchdog(Arc::clone(&supervisor), Arc::clone(&registry), Arc::clone(&clock)));
    let jobs = CronJobs::on_demand().await.context("the scheduler cannot be made")?;
    let context = AppContext { store, registry, clock, jobs, heartbeat };
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
    drop(background);
    let _ = std::fs::remove_file(control::socket_path(&state)); // its absence is what matters
    let pending = context.store.read(|state| state.queue.len());
    tracing::info!(pending, saved, "stopped");
    Ok(())
}

fn log_start(config: &Config) {
    tracing::info!(accounts = config.accounts.len(), rules = config.rules.len(), notifiers = config.notifiers.len(), state = %config.state.display(), "lowtide runs");
}

/// A sign of life for as long as cycles are on time.
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
    tracing::info!("told to stop: running sends get ten seconds");
    generation.stop(carried_over).await;
}

/// The next configuration that can be used, everything of it that can fail done. One that cannot is reported, and changes
/// nothing.
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

/// What was read, built, with what there is to note about it; or what is wrong with it.
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

/// Opens the state. Whoever has it may be a command that lets go in a moment; a service does not.
async fn open_state(path: &Path, clock: &dyn Clock) -> Result<OpenedState, StateOpenError> {
    for _ in 0..STATE_OPEN_ATTEMPTS {
        match FileBackend::open(path, clock.now()) {
            Err(StateOpenError::InUse { .. }) => tokio::time::sleep(STATE_OPEN_PAUSE).await,
            opened => return opened,
        }
    }
    FileBackend::open(path, clock.now())
}

/// What left the configuration ends quietly: a line in the log, no message. Its incidents are resolved.
async fn forget_unconfigured(store: &StateStore, pollers: &[Arc<Poller>], routes: &BTreeMap<Name, Route>, now: Time) {
    let policies: Vec<&AccountPolicy> = pollers.iter().map(|poller| &poller.policy).collect();
    let incident_notifiers = policies.first().map(|policy| Arc::clone(&policy.incident_notifiers)).unwrap_or_default();
    let (alerts, redirected, dropped) = store
        .change(|state| {
            let alerts = end_unconfigured_alerts(state, &policies, now);
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
            alert = key.label(),
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
        tracing::warn!(%notifier, events, "owed notifications dropped: their notifier is no longer configured");
    }
}

/// Saving again and answering questions; ends when dropped.
fn spawn_background_tasks(
    state: &Path,
    store: &Arc<StateStore>,
    registry: &Arc<Registry>,
    clock: &Arc<dyn Clock>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (saver, its_clock) = (Arc::clone(store), Arc::clone(clock));
    tasks.spawn(async move { saver.retry_saves(its_clock.as_ref()).await });
    let (path, store, registry, clock) = (state.to_owned(), Arc::clone(store), Arc::clone(registry), Arc::clone(clock));
    tasks.spawn(async move {
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
                tracing::error!(%error, "no control socket: `status` shows only the state file, `health` fails; tried again");
            }
            store.ensure_ownership().await;
            tokio::time::sleep(SOCKET_RETRY_PAUSE).await;
        }
    });
    tasks
}

/// Keeps the state this process's own. Completes when the control socket is gone while it is.
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
            let rebuilt = build_pollers_reusing(&config(host, key), &Redactor::default(), &clock, &resources).unwrap();
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
