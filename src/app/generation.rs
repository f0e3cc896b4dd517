//! What runs by one configuration: built as a whole, started as a whole, ended between two cycles.
//!
//! What outlives a reload is not its own: the book, the board, what is [`CarriedOver`] of accounts that stay, and sends
//! that run, which nothing waits for.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::discriminant;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::join_all;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use url::Url;

use super::{
    AccountResources, DELIVERY_SHUTDOWN_TIMEOUT, build_pollers_reusing, build_routes, forget_unconfigured, http_client,
};
use crate::alerting::policy::{AccountPolicy, DivisionScope};
use crate::alerting::state::State;
use crate::config::{Config, Heartbeat, NotifierConfig};
use crate::domain::Name;
use crate::domain::silence::Silence;
use crate::history::DiskCache;
use crate::notify::delivery::{DeliveryOutcome, DeliveryWorker, RetryPauses, Route, RunningSend, StoppedWorker};
use crate::polling::poller::{Poller, PollerState};
use crate::polling::reports;
use crate::polling::reports::ReportPlan;
use crate::polling::schedule::Schedule;
use crate::polling::scheduler;
use crate::polling::scheduler::{CronJobs, Halt};
use crate::state::StateStore;
use crate::status::control::Registry;
use crate::status::heartbeat::HeartbeatTarget;
use crate::status::http;
use crate::status::http::HttpServer;
use crate::util::clock::Clock;
use crate::util::secret::Redactor;

/// How long a running cycle may take when the next configuration waits for it. Then it is begun anew.
const CYCLE_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// What every generation uses.
pub(super) struct AppContext {
    pub(super) store: Arc<StateStore>,
    pub(super) registry: Arc<Registry>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) jobs: CronJobs,
    /// Who is told that the service is awake.
    pub(super) heartbeat: watch::Sender<Option<HeartbeatTarget>>,
}

/// What a reload forgets only with the account that it belongs to.
#[derive(Default)]
pub(super) struct CarriedOver {
    pub(super) resources: AccountResources,
    pub(super) http: Option<HttpServer>,
    pollers: BTreeMap<Name, CarriedPoller>,
    /// Sends that still ran when their workers were stopped. That of a notifier that left stays here to its end.
    sending: BTreeMap<Name, RunningSend>,
    /// The pauses of notifiers after failures, and by which configuration these send.
    pauses: BTreeMap<Name, (NotifierConfig, RetryPauses)>,
}

/// What an account's cycles remember, and of what.
struct CarriedPoller {
    base_url: Url,
    scope: DivisionScope,
    poller_state: Arc<Mutex<PollerState>>,
}

/// Everything that can fail about a configuration, done; nothing of it runs yet.
pub(super) struct PreparedConfig {
    pub(super) config: Config,
    pollers: Vec<Arc<Poller>>,
    routes: BTreeMap<Name, Route>,
    resources: AccountResources,
    /// Where it will answer, if that is not where it answers now.
    listener: Option<TcpListener>,
    heartbeat: Option<HeartbeatTarget>,
}

impl PreparedConfig {
    pub(super) fn new(
        config: &Config,
        redactor: &Redactor,
        clock: &Arc<dyn Clock>,
        carried_over: &CarriedOver,
    ) -> anyhow::Result<Self> {
        let (pollers, resources) = build_pollers_reusing(config, redactor, clock, &carried_over.resources)?;
        let routes = build_routes(config, redactor)?;
        let listener = bind_listener(config, carried_over.http.as_ref())?;
        let heartbeat = config.heartbeat.as_ref().map(heartbeat_target).transpose().context("heartbeat")?;
        Ok(Self { config: config.clone(), pollers, routes, resources, listener, heartbeat })
    }
}

fn heartbeat_target(config: &Heartbeat) -> anyhow::Result<HeartbeatTarget> {
    let http = http_client(&config.connection, Url::parse(config.url.expose()).ok().as_ref())?;
    Ok(HeartbeatTarget { url: config.url.clone(), interval: config.every, http })
}

/// The address that is new, taken.
fn bind_listener(config: &Config, running: Option<&HttpServer>) -> anyhow::Result<Option<TcpListener>> {
    let Some(http) = config.http.as_ref().filter(|http| running.is_none_or(|it| it.listen != http.listen)) else {
        return Ok(None);
    };
    let own = running.is_some_and(|it| it.listen.port() == http.listen.port());
    let what = if own { "this service has the port: restart it, or choose another" } else { "choose another address" };
    let bound = http::bind(http.listen);
    bound.map(Some).with_context(|| format!("http.listen: {} cannot be listened on ({what})", http.listen))
}

/// The running tasks of one configuration.
pub(super) struct Generation {
    cycles: JoinSet<()>,
    notifiers: BTreeMap<Name, NotifierConfig>,
    workers: JoinSet<(Name, StoppedWorker)>,
    /// Workers that have been stopped.
    stopped: BTreeMap<Name, StoppedWorker>,
    /// Reports, and what keeps ledgers and orders fresh.
    others: JoinSet<()>,
    halt: watch::Sender<Halt>,
    no_more_sends: watch::Sender<bool>,
}

impl Generation {
    /// Takes over: forgets what is no longer configured, then lets cycles and sends begin.
    pub(super) async fn start(prepared: PreparedConfig, context: &AppContext, carried_over: &mut CarriedOver) -> Self {
        let PreparedConfig { config, pollers, routes, resources, listener, heartbeat } = prepared;
        forget_unconfigured(&context.store, &pollers, &routes, context.clock.now()).await;
        let accounts = config.accounts.keys().cloned().collect();
        context.registry.apply_config(&accounts, &config.rules, &routes.keys().cloned().collect());
        carried_over.resources = resources;
        carried_over.update_http_server(&config, listener, context);
        context.heartbeat.send_replace(heartbeat);
        let (no_more_sends, sends_end) = watch::channel(false);
        let (halt, halted) = watch::channel(Halt::No);
        let quiet = routes.iter().filter_map(|(name, route)| Some((name.clone(), route.quiet_hours.clone()?)));
        context.registry.set_quiet_hours(quiet.collect());
        let workers = spawn_workers(routes, &config.notifiers, context, carried_over, &sends_end);
        let mut others = JoinSet::new();
        spawn_reports(&config, context, &sends_end, &mut others).await;
        let mut carried_pollers = BTreeMap::new();
        let mut cycles = JoinSet::new();
        for poller in pollers {
            let policy = &poller.policy;
            let Some(account) = config.accounts.get(&policy.account) else { continue };
            let cache = DiskCache::new(history_folder(&config.state), &policy.account, account.base_url.as_str());
            if let Some(refresher) = poller.refresher(Some(cache)) {
                others.spawn(refresher.run(sends_end.clone()));
            }
            let poller_state = carried_over.poller_state(policy, &account.base_url);
            let (base_url, scope) = (account.base_url.clone(), policy.scope.clone());
            carried_pollers.insert(
                policy.account.clone(),
                CarriedPoller { base_url, scope, poller_state: Arc::clone(&poller_state) },
            );
            cycles.spawn(run_account(
                poller,
                poller_state,
                account.schedule.clone(),
                context.clone_handles(),
                halted.clone(),
            ));
        }
        carried_over.pollers = carried_pollers;
        let notifiers = config.notifiers;
        Self { cycles, notifiers, workers, stopped: BTreeMap::new(), others, halt, no_more_sends }
    }

    /// Ends between two cycles; messages are sent meanwhile. A send that runs goes on: the next worker of its notifier
    /// marks it, and nobody else waits for it.
    pub(super) async fn stop_between_cycles(&mut self, carried_over: &mut CarriedOver) {
        let _ = self.halt.send(Halt::AfterThis);
        let last = async { while self.cycles.join_next().await.is_some() {} };
        if tokio::time::timeout(CYCLE_SHUTDOWN_TIMEOUT, last).await.is_err() {
            tracing::info!("a cycle still runs after ten seconds: it is begun anew with the new configuration");
            let _ = self.halt.send(Halt::Now);
            while self.cycles.join_next().await.is_some() {}
        }
        self.stop_workers().await;
        carried_over.sending.retain(|_, sending| !sending.has_ended());
        for (name, stopped) in std::mem::take(&mut self.stopped) {
            let (sending, pauses) = stopped.into_parts();
            carried_over.sending.extend(sending.map(|sending| (name.clone(), sending)));
            carried_over.pauses.extend(self.notifiers.remove(&name).map(|config| (name, (config, pauses))));
        }
    }

    /// Ends for good: cycles at once; running sends get ten seconds.
    pub(super) async fn stop(mut self, carried_over: &mut CarriedOver) {
        let _ = self.halt.send(Halt::Now);
        let all = async {
            while self.cycles.join_next().await.is_some() {}
            self.stop_workers().await;
            let marked = std::mem::take(&mut self.stopped).into_values().map(StoppedWorker::finish);
            let unmarked = carried_over.sending.values_mut().map(RunningSend::ended);
            tokio::join!(join_all(marked), join_all(unmarked));
        };
        if tokio::time::timeout(DELIVERY_SHUTDOWN_TIMEOUT, all).await.is_err() {
            tracing::warn!("a send still runs after ten seconds: it is abandoned and stays owed");
        }
    }

    /// Stops whatever sends or has something sent, without a wait for sends that run.
    async fn stop_workers(&mut self) {
        let _ = self.no_more_sends.send(true); // everybody who listens may have ended already
        while self.others.join_next().await.is_some() {}
        while let Some(joined) = self.workers.join_next().await {
            self.stopped.extend(joined); // a worker that panicked leaves nothing
        }
    }
}

/// Returns the folder of the history cache, beside the state file. Deleting it only makes the next start slower.
fn history_folder(state: &Path) -> PathBuf {
    let mut name = state.file_name().unwrap_or_default().to_owned();
    name.push(".history");
    state.with_file_name(name)
}

impl AppContext {
    fn clone_handles(&self) -> Self {
        let (store, registry) = (Arc::clone(&self.store), Arc::clone(&self.registry));
        Self {
            store,
            registry,
            clock: Arc::clone(&self.clock),
            jobs: self.jobs.clone(),
            heartbeat: self.heartbeat.clone(),
        }
    }
}

impl CarriedOver {
    /// Answers over HTTP as configured from now on.
    fn update_http_server(&mut self, config: &Config, listener: Option<TcpListener>, context: &AppContext) {
        let Some(configured) = &config.http else {
            self.http = None;
            return;
        };
        let Some(listener) = listener else {
            self.http.iter().for_each(|running| running.set_token(configured.token.clone()));
            return;
        };
        let AppContext { store, registry, clock, .. } = context.clone_handles();
        match HttpServer::start(
            configured.listen,
            listener,
            configured.token.clone(),
            http::HttpContext { registry, store, clock },
        ) {
            Ok(server) => self.http = Some(server),
            Err(error) => tracing::error!(%error, "http cannot be served: restart the service"),
        }
    }

    /// What an account that stays remembers of its divisions; of another place, or read in another way, it is
    /// worthless.
    fn poller_state(&self, policy: &AccountPolicy, base_url: &Url) -> Arc<Mutex<PollerState>> {
        let same =
            |it: &&CarriedPoller| it.base_url == *base_url && discriminant(&it.scope) == discriminant(&policy.scope);
        let known = self.pollers.get(&policy.account).filter(same);
        known.map_or_else(Arc::default, |it| Arc::clone(&it.poller_state))
    }
}

/// One worker a notifier. It begins with the send that its predecessor left running, so that there are never two at
/// once, and with its pauses, unless it sends in another way now.
fn spawn_workers(
    routes: BTreeMap<Name, Route>,
    notifiers: &BTreeMap<Name, NotifierConfig>,
    context: &AppContext,
    carried_over: &mut CarriedOver,
    stopped: &watch::Receiver<bool>,
) -> JoinSet<(Name, StoppedWorker)> {
    let everyone: BTreeSet<Name> = routes.keys().cloned().collect();
    let mut pauses = std::mem::take(&mut carried_over.pauses);
    let mut tasks = JoinSet::new();
    for (name, route) in routes {
        let registry = Arc::clone(&context.registry);
        let counter = Arc::new(move |name: &Name, outcome: DeliveryOutcome| registry.count_delivery(name, outcome));
        let (store, clock) = (Arc::clone(&context.store), Arc::clone(&context.clock));
        let worker = DeliveryWorker::new(name.clone(), route, everyone.clone(), store, clock).with_counter(counter);
        let same =
            pauses.remove(&name).filter(|(before, _)| notifiers.get(&name).is_some_and(|now| now.sends_as(before)));
        let worker =
            worker.with_running_send(carried_over.sending.remove(&name)).with_pauses(same.map(|(_, pauses)| pauses));
        let stopped = stopped.clone();
        tasks.spawn(async move { (name, worker.run_until_stopped(stopped).await) });
    }
    for notifier in carried_over.sending.keys() {
        tracing::info!(%notifier, "a send of a notifier that is no longer configured still runs: it is finished");
    }
    tasks
}

/// Reports end with the sends. What is remembered of reports that left the configuration goes.
async fn spawn_reports(
    config: &Config,
    context: &AppContext,
    stopped: &watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) {
    let forget = |state: &mut State| {
        let before = state.reports.len();
        state.reports.retain(|name, _| config.reports.contains_key(name));
        ((), state.reports.len() != before)
    };
    context.store.change(forget).await;
    let accounts: Arc<[Name]> = config.accounts.keys().cloned().collect();
    let silences: Arc<[Silence]> = config.silences.values().cloned().collect();
    for (name, report) in &config.reports {
        let (schedule, notify) = (report.schedule.clone(), report.notify.clone());
        let plan = ReportPlan { name: name.clone(), schedule, notify, silences: Arc::clone(&silences) };
        let AppContext { store, registry, clock, .. } = context.clone_handles();
        tasks.spawn(reports::run(plan, Arc::clone(&accounts), registry, store, clock, stopped.clone()));
    }
}

async fn run_account(
    poller: Arc<Poller>,
    poller_state: Arc<Mutex<PollerState>>,
    schedule: Schedule,
    context: AppContext,
    halted: watch::Receiver<Halt>,
) {
    let AppContext { store, registry, clock, jobs, .. } = context;
    let account = &poller.policy.account;
    registry.set_progress(account, poller_state.lock().await.progress());
    let cycle = |planned| {
        let (poller, poller_state, store) = (Arc::clone(&poller), Arc::clone(&poller_state), Arc::clone(&store));
        let registry = Arc::clone(&registry);
        let period = schedule.next_after(planned).and_then(|next| (next - planned).to_std().ok());
        async move {
            let mut poller_state = poller_state.lock().await;
            poller_state.set_period(period);
            let outcome = poller.run_cycle(&mut poller_state, &store, planned).await;
            registry.record_cycle(&poller.policy.account, outcome);
        }
    };
    let record_timing = |timing| registry.record_timing(account, timing);
    scheduler::run(account.clone(), schedule.clone(), jobs, Arc::clone(&clock), halted, cycle, record_timing).await;
}
