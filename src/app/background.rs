//! Tasks that outlive every generation: saving again, the control socket and the watchdog.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::state::StateStore;
use crate::status::control;
use crate::status::registry::Registry;
use crate::status::systemd::Supervisor;
use crate::util::clock::Clock;

/// Pause before the control socket is created again after a failure.
const SOCKET_RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Interval at which the lock file and the control socket are checked: someone may have deleted them.
const OWNERSHIP_CHECK_INTERVAL: Duration = Duration::from_secs(3);

/// Tasks that outlive every generation. They end at once when they are stopped.
pub(super) struct BackgroundTasks {
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

impl BackgroundTasks {
    pub(super) fn new(parent: &CancellationToken) -> Self {
        Self { tracker: TaskTracker::new(), shutdown: parent.child_token() }
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(self.shutdown.clone().run_until_cancelled_owned(task));
    }

    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Retries failed saves of the state.
pub(super) async fn retry_saves(store: Arc<StateStore>, clock: Arc<dyn Clock>) {
    store.retry_saves(clock.as_ref()).await;
}

/// Serves the control socket, and creates it again after a failure or when it was deleted.
pub(super) async fn serve_control_socket(
    path: PathBuf,
    store: Arc<StateStore>,
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
) {
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

/// Pings the watchdog while cycles are on time.
pub(super) async fn run_watchdog(supervisor: Arc<Supervisor>, registry: Arc<Registry>, clock: Arc<dyn Clock>) {
    let Some(pause) = supervisor.watchdog_interval() else { return };
    loop {
        if registry.health(clock.now()).on_time {
            supervisor.ping_watchdog();
        }
        tokio::time::sleep(pause).await;
    }
}
