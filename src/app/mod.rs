//! Builds the service from a configuration, runs it, reloads it and shuts it down.

mod background;
mod build;
mod channels;
mod generation;
mod http_clients;
mod reload;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::build::{build_pollers, build_routes, message_context};
pub use self::reload::ConfigSource;

use self::background::{BackgroundTasks, retry_saves, run_watchdog, serve_control_socket};
use self::generation::{AppContext, CarriedOver, Generation, PreparedConfig};
use self::reload::ReloadOutcome;
use crate::alerting::end_alerts::end_unconfigured_alerts;
use crate::alerting::policy::AccountPolicy;
use crate::config::{Config, Loaded};
use crate::domain::{Name, Time};
use crate::notify::delivery::Route;
use crate::polling::poller::Poller;
use crate::polling::scheduler::CronJobs;
use crate::state::{FileBackend, OpenedState, StateOpenError, StateStore};
use crate::status::control;
use crate::status::heartbeat;
use crate::status::registry::Registry;
use crate::status::systemd::Supervisor;
use crate::util::clock::Clock;
use crate::util::secret::Redactor;

/// Time that running sends get at shutdown.
const DELIVERY_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of problems of a refused configuration that are logged and shown.
const MAX_REPORTED_PROBLEMS: usize = 50;

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
        tracing::warn!(%notifier, events, "pending notifications dropped: their notifier is no longer configured");
    }
}
