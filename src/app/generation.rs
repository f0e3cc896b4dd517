//! Everything that runs with one configuration: prepared as a whole, started as a whole, stopped between two cycles.
//!
//! The store and the registry outlive a reload. So do the resources in [`CarriedOver`] and sends in progress, which no other
//! notifier waits for.

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
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use super::build::{AccountResources, build_pollers_reusing, build_routes};
use super::http_clients::http_client;
use super::{DELIVERY_SHUTDOWN_TIMEOUT, forget_unconfigured};
use crate::alerting::policy::{AccountPolicy, DivisionScope};
use crate::alerting::state::State;
use crate::config::{Config, Heartbeat, NotifierConfig};
use crate::domain::Name;
use crate::domain::schedule::Schedule;
use crate::domain::silence::Silence;
use crate::history::DiskCache;
use crate::notify::delivery::{DeliveryOutcome, DeliveryWorker, RetryPauses, Route, RunningSend, StoppedWorker};
use crate::polling::poller::{Poller, PollerState};
use crate::polling::reports;
use crate::polling::reports::ReportPlan;
use crate::polling::scheduler;
use crate::polling::scheduler::CronJobs;
use crate::state::StateStore;
use crate::status::heartbeat::HeartbeatTarget;
use crate::status::http;
use crate::status::http::HttpServer;
use crate::status::registry::Registry;
use crate::util::clock::Clock;
use crate::util::secret::Redactor;
use crate::util::shutdown::StagedShutdown;

/// Time that a running cycle gets to finish at a reload. After that it is abandoned, and starts again with the new
/// configuration.
const CYCLE_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Handles that every generation uses.
pub(super) struct AppContext {
    pub(super) store: Arc<StateStore>,
    pub(super) registry: Arc<Registry>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) jobs: CronJobs,
    /// Target of the heartbeat; `None` while none is configured.
    pub(super) heartbeat: watch::Sender<Option<HeartbeatTarget>>,
    /// Cancelled when the service ends, for whatever reason. Every task ends then.
    pub(super) shutdown: CancellationToken,
}

/// Resources that survive a reload as long as their account or notifier stays configured.
#[derive(Default)]
pub(super) struct CarriedOver {
    pub(super) resources: AccountResources,
    pub(super) http: Option<HttpServer>,
    pollers: BTreeMap<Name, CarriedPoller>,
    /// Sends in progress when their workers were stopped. The send of a removed notifier stays here until it ends.
    sending: BTreeMap<Name, RunningSend>,
    /// Retry pauses of notifiers after failures, with the configuration that they apply to.
    pauses: BTreeMap<Name, (NotifierConfig, RetryPauses)>,
}

/// State of an account's poller, with the settings that it is valid for.
struct CarriedPoller {
    base_url: Url,
    scope: DivisionScope,
    poller_state: Arc<Mutex<PollerState>>,
}

/// A configuration after every step that can fail. Nothing of it runs yet.
pub(super) struct PreparedConfig {
    pub(super) config: Config,
    pollers: Vec<Arc<Poller>>,
    routes: BTreeMap<Name, Route>,
    resources: AccountResources,
    /// Bound listener of the HTTP server, if its address changes.
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

/// Binds the HTTP address if it differs from that of the running server.
fn bind_listener(config: &Config, running: Option<&HttpServer>) -> anyhow::Result<Option<TcpListener>> {
    let Some(http) = config.http.as_ref().filter(|http| running.is_none_or(|server| server.listen != http.listen))
    else {
        return Ok(None);
    };
    let own = running.is_some_and(|server| server.listen.port() == http.listen.port());
    let advice =
        if own { "this service uses the port: restart it, or choose another" } else { "choose another address" };
    let bound = http::bind(http.listen);
    bound.map(Some).with_context(|| format!("http.listen: {} cannot be listened on ({advice})", http.listen))
}

/// Running tasks of one configuration.
pub(super) struct Generation {
    cycles: TaskTracker,
    cycle_shutdown: StagedShutdown,
    notifiers: BTreeMap<Name, NotifierConfig>,
    workers: JoinSet<(Name, StoppedWorker)>,
    /// Workers that have stopped.
    stopped: BTreeMap<Name, StoppedWorker>,
    /// Tasks that send reports and refresh ledgers and orders.
    others: TaskTracker,
    /// Stops workers, reports and refreshers.
    delivery_shutdown: CancellationToken,
}

impl Generation {
    /// Starts a prepared configuration: drops everything that is no longer configured, then spawns workers and cycles.
    pub(super) async fn start(prepared: PreparedConfig, context: &AppContext, carried_over: &mut CarriedOver) -> Self {
        let PreparedConfig { config, pollers, routes, resources, listener, heartbeat } = prepared;
        forget_unconfigured(&context.store, &pollers, &routes, context.clock.now()).await;
        let accounts = config.accounts.keys().cloned().collect();
        context.registry.apply_config(&accounts, &config.rules, &routes.keys().cloned().collect());
        carried_over.resources = resources;
        carried_over.update_http_server(&config, listener, context);
        context.heartbeat.send_replace(heartbeat);
        let cycle_shutdown = StagedShutdown::child_of(&context.shutdown);
        let delivery_shutdown = context.shutdown.child_token();
        let quiet = routes.iter().filter_map(|(name, route)| Some((name.clone(), route.quiet_hours.clone()?)));
        context.registry.set_quiet_hours(quiet.collect());
        let workers = spawn_workers(routes, &config.notifiers, context, carried_over, &delivery_shutdown);
        let others = TaskTracker::new();
        spawn_reports(&config, context, &delivery_shutdown, &others).await;
        let mut carried_pollers = BTreeMap::new();
        let cycles = TaskTracker::new();
        for poller in pollers {
            let policy = &poller.policy;
            let Some(account) = config.accounts.get(&policy.account) else { continue };
            let cache = DiskCache::new(history_folder(&config.state), &policy.account, account.base_url.as_str());
            if let Some(refresher) = poller.refresher(Some(cache)) {
                others.spawn(refresher.run(delivery_shutdown.clone()));
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
                cycle_shutdown.clone(),
            ));
        }
        carried_over.pollers = carried_pollers;
        cycles.close();
        others.close();
        let (notifiers, stopped) = (config.notifiers, BTreeMap::new());
        Self { cycles, cycle_shutdown, notifiers, workers, stopped, others, delivery_shutdown }
    }

    /// Stops between two cycles; messages are sent meanwhile. A send in progress continues: the next worker of its notifier
    /// records its outcome, and no other notifier waits for it.
    pub(super) async fn stop_between_cycles(&mut self, carried_over: &mut CarriedOver) {
        self.cycle_shutdown.begin();
        if tokio::time::timeout(CYCLE_SHUTDOWN_TIMEOUT, self.cycles.wait()).await.is_err() {
            tracing::info!("a cycle still runs after ten seconds: it is begun anew with the new configuration");
            self.cycle_shutdown.abandon();
            self.cycles.wait().await;
        }
        self.stop_workers().await;
        carried_over.sending.retain(|_, sending| !sending.has_ended());
        for (name, stopped) in std::mem::take(&mut self.stopped) {
            let (sending, pauses) = stopped.into_parts();
            carried_over.sending.extend(sending.map(|sending| (name.clone(), sending)));
            carried_over.pauses.extend(self.notifiers.remove(&name).map(|config| (name, (config, pauses))));
        }
    }

    /// Stops for shutdown: cycles at once, sends after [`DELIVERY_SHUTDOWN_TIMEOUT`] at the latest.
    pub(super) async fn stop(mut self, carried_over: &mut CarriedOver) {
        self.cycle_shutdown.abandon();
        let all = async {
            self.cycles.wait().await;
            self.stop_workers().await;
            let marked = std::mem::take(&mut self.stopped).into_values().map(StoppedWorker::finish);
            let unmarked = carried_over.sending.values_mut().map(RunningSend::ended);
            tokio::join!(join_all(marked), join_all(unmarked));
        };
        if tokio::time::timeout(DELIVERY_SHUTDOWN_TIMEOUT, all).await.is_err() {
            tracing::warn!("a send still runs after ten seconds: abandoned; its notifications stay pending");
        }
    }

    /// Stops workers, reports and refreshers without waiting for sends in progress.
    async fn stop_workers(&mut self) {
        self.delivery_shutdown.cancel();
        self.others.wait().await;
        while let Some(joined) = self.workers.join_next().await {
            self.stopped.extend(joined); // a worker that panicked leaves nothing
        }
    }
}

/// Returns the folder of the history cache, beside the state. Its loss costs only the time to read it again.
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
            shutdown: self.shutdown.clone(),
        }
    }
}

impl CarriedOver {
    /// Starts, stops or updates the HTTP server as configured.
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

    /// Returns the poller state of an account that stays. With another base URL or kind of scope it starts empty.
    fn poller_state(&self, policy: &AccountPolicy, base_url: &Url) -> Arc<Mutex<PollerState>> {
        let same = |poller: &&CarriedPoller| {
            poller.base_url == *base_url && discriminant(&poller.scope) == discriminant(&policy.scope)
        };
        let known = self.pollers.get(&policy.account).filter(same);
        known.map_or_else(Arc::default, |poller| Arc::clone(&poller.poller_state))
    }
}

/// Spawns one worker for each notifier. A worker takes over the send in progress of its predecessor, so that there are never
/// two at once, and its retry pauses, unless the notifier now sends in another way.
fn spawn_workers(
    routes: BTreeMap<Name, Route>,
    notifiers: &BTreeMap<Name, NotifierConfig>,
    context: &AppContext,
    carried_over: &mut CarriedOver,
    shutdown: &CancellationToken,
) -> JoinSet<(Name, StoppedWorker)> {
    let all_notifiers: BTreeSet<Name> = routes.keys().cloned().collect();
    let mut pauses = std::mem::take(&mut carried_over.pauses);
    let mut tasks = JoinSet::new();
    for (name, route) in routes {
        let registry = Arc::clone(&context.registry);
        let counter = Arc::new(move |name: &Name, outcome: DeliveryOutcome| registry.count_delivery(name, outcome));
        let (store, clock) = (Arc::clone(&context.store), Arc::clone(&context.clock));
        let worker =
            DeliveryWorker::new(name.clone(), route, all_notifiers.clone(), store, clock).with_counter(counter);
        let same =
            pauses.remove(&name).filter(|(before, _)| notifiers.get(&name).is_some_and(|now| now.sends_as(before)));
        let worker =
            worker.with_running_send(carried_over.sending.remove(&name)).with_pauses(same.map(|(_, pauses)| pauses));
        let shutdown = shutdown.clone();
        tasks.spawn(async move { (name, worker.run_until_stopped(shutdown).await) });
    }
    for notifier in carried_over.sending.keys() {
        tracing::info!(%notifier, "a send of a notifier that is no longer configured still runs: it is finished");
    }
    tasks
}

/// Spawns a task for each report and forgets reports that left the configuration.
async fn spawn_reports(config: &Config, context: &AppContext, shutdown: &CancellationToken, tasks: &TaskTracker) {
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
        tasks.spawn(reports::run(plan, Arc::clone(&accounts), registry, store, clock, shutdown.clone()));
    }
}

async fn run_account(
    poller: Arc<Poller>,
    poller_state: Arc<Mutex<PollerState>>,
    schedule: Schedule,
    context: AppContext,
    shutdown: StagedShutdown,
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
    scheduler::run(account.clone(), schedule.clone(), jobs, Arc::clone(&clock), shutdown, cycle, record_timing).await;
}
