//! The Unix socket beside the state file (mode 0600) through which `status` and `health` ask a running service, and
//! `change_silences` tells it what to hush.
//!
//! One line of JSON each way. Who may ask is decided by the file's mode alone. Nothing but silences can be changed.

mod answers;

pub use crate::status::tally::AccountHealth;
pub use answers::{
    AccountSummary, AlertSummary, ControlRequest, CycleHealth, PendingSummary, ReloadStatus, ServiceCounters,
    ServiceStatus, SilenceReply, SilenceReport,
};

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::alerting::state::State;
use crate::domain::alert::{AlertKey, AlertStatus};
use crate::domain::quiet_hours::QuietHours;
use crate::domain::silence::Silence;
use crate::domain::{Division, Name, Time};
use crate::polling::figures::TimedReading;
use crate::polling::poller::CycleOutcome;
use crate::polling::reports::FiguresByAccount;
use crate::polling::scheduler::CycleTiming;
use crate::state::StateStore;
use crate::state::silences;
use crate::state::silences::{SilenceChange, SilenceResult};
use crate::status::tally;
use crate::util::clock::Clock;

/// Longest wait for the other side.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest request line, in bytes.
const MAX_REQUEST_BYTES: u64 = 4096;
/// Longest socket path that every system takes as it is.
const MAX_PATH_BYTES: usize = 100;

/// What the service tells about itself; shared by the tasks that know it.
#[derive(Default)]
pub struct Registry {
    pub(crate) timings: Mutex<std::collections::BTreeMap<Name, CycleTiming>>,
    pub(crate) readings: Mutex<std::collections::BTreeMap<Name, Vec<TimedReading>>>,
    pub(crate) counts: Mutex<ServiceCounters>,
    pub(crate) active: Mutex<tally::ActiveConfig>,
    quiet: Mutex<std::collections::BTreeMap<Name, QuietHours>>,
    pub(crate) progress: tally::ProgressByAccount,
    /// The last figures, for reports.
    pub(crate) figures: FiguresByAccount,
}

impl Registry {
    /// Notes when notifiers hold what they owe.
    pub fn set_quiet_hours(&self, quiet: std::collections::BTreeMap<Name, QuietHours>) {
        *self.quiet.lock().unwrap_or_else(PoisonError::into_inner) = quiet;
    }

    /// Whether what is owed to a notifier is held at a time.
    pub fn is_held(&self, notifier: &Name, at: Time, about_critical: bool) -> bool {
        let quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        quiet.get(notifier).is_some_and(|quiet| quiet.quiet_until(at, about_critical).is_some())
    }

    /// Notes when an account's cycles run.
    pub fn record_timing(&self, account: &Name, timing: CycleTiming) {
        let mut timings = self.timings.lock().unwrap_or_else(PoisonError::into_inner);
        // A reload begins a new row of cycles, but forgets none.
        let ended = timing.ended.or(timings.get(account).and_then(|known| known.ended));
        timings.insert(account.clone(), CycleTiming { ended, ..timing });
    }

    /// Notes what an account's cycle did.
    pub fn record_cycle(&self, account: &Name, mut outcome: CycleOutcome) {
        let latest = std::mem::take(&mut outcome.latest);
        self.figures.note(account, latest, outcome.listing_failure.as_deref(), outcome.ended);
        self.note_cycle(account, &outcome);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.cycles += 1;
        counts.readings += (outcome.readings.len() - outcome.unreadable.min(outcome.readings.len())) as u64;
        counts.unreadable += outcome.unreadable as u64;
        for event in outcome.events {
            *counts.events.entry(event).or_default() += 1;
        }
        drop(counts);
        let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        // One that failed still knows when the last good one was.
        let some_failed = outcome.readings.iter().any(|it| it.last_good.is_none());
        let before = readings.remove(account).filter(|_| some_failed);
        let mut good: std::collections::BTreeMap<Division, Option<Time>> =
            before.into_iter().flatten().map(|it| (it.reading.division, it.last_good)).collect();
        for reading in outcome.readings.iter_mut().filter(|it| it.last_good.is_none()) {
            reading.last_good = good.remove(&reading.reading.division).flatten();
        }
        readings.insert(account.clone(), outcome.readings);
    }

    /// Whether the cycles are on time.
    pub fn health(&self, now: Time) -> CycleHealth {
        let timings = self.timings.lock().unwrap_or_else(PoisonError::into_inner);
        let late: Vec<Name> = timings
            .iter()
            .filter(|(name, it)| !self.progress.on_time(name, **it, now))
            .map(|it| it.0.clone())
            .collect();
        CycleHealth { on_time: late.is_empty(), late }
    }

    /// The accounts without a cycle that finished within twice its period.
    pub fn not_ready(&self, now: Time) -> Vec<Name> {
        let timings = self.timings.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = |name: &Name| {
            timings.get(name).is_some_and(|timing| self.progress.adjusted_timing(name, *timing).ready(now))
        };
        self.accounts().into_keys().filter(|name| !ready(name)).collect()
    }

    /// What the state and this board can tell together.
    pub fn status(&self, state: &State, now: Time) -> ServiceStatus {
        let timings = self.timings.lock().unwrap_or_else(PoisonError::into_inner);
        let account = |(name, timing): (&Name, &CycleTiming)| {
            let on_time = self.progress.on_time(name, *timing, now);
            let adjusted = self.progress.adjusted_timing(name, *timing);
            AccountSummary {
                account: name.clone(),
                last_cycle: adjusted.ended,
                next_cycle: adjusted.due,
                on_time,
                reading: adjusted.ended.is_none_or(|ended| ended < adjusted.began),
            }
        };
        let readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        ServiceStatus {
            running: true,
            accounts: timings.iter().map(account).collect(),
            rules: self.rules().into_iter().map(|rule| rule.name).collect(),
            readings: readings
                .iter()
                .flat_map(|(account, divisions)| divisions.iter().map(|it| it.figures(account)))
                .collect(),
            counts: self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            reload: self.reload(),
            ..status_from_state(state)
        }
    }
}

/// What the state alone can tell.
pub fn status_from_state(state: &State) -> ServiceStatus {
    let alert = |(key, known): (&AlertKey, &crate::alerting::state::AlertRecord)| {
        let (status, level) = match known.alert.status() {
            AlertStatus::Ok => return None,
            AlertStatus::Pending(level) => ("pending", level),
            AlertStatus::Firing(level) => ("firing", level),
        };
        Some(AlertSummary {
            rule: key.rule.clone(),
            account: key.account.clone(),
            division: key.division,
            division_name: known.division_name.clone(),
            status: status.to_owned(),
            level,
            since: known.alert.level_since(),
            last_event: known.alert.last_event,
            notified: known.alert.notified.keys().cloned().collect(),
            reason: known.reason.clone(),
            silenced: known.suppressed.as_ref().map(|suppression| suppression.silence.clone()),
        })
    };
    let names: std::collections::BTreeSet<&Name> =
        state.queue.iter().flat_map(|event| event.pending.keys()).chain(state.failing_notifiers.keys()).collect();
    let pending = names.into_iter().map(|name| {
        let failure = state.failing_notifiers.get(name);
        PendingSummary {
            notifier: name.clone(),
            events: state.queue.pending_for(name).count(),
            critical: state.queue.pending_for(name).filter(|(event, _)| event.is_about_critical()).count(),
            held_until: None,
            oldest: state.queue.pending_for(name).map(|(event, _)| event.at).min(),
            failing_since: failure.map(|trouble| trouble.since),
            error: failure.map(|trouble| trouble.error.clone()),
        }
    });
    let silence =
        |(id, silence): (&u32, &Silence)| SilenceReport { id: Some(*id), name: None, silence: silence.clone() };
    ServiceStatus {
        alerts: state.alerts.iter().filter_map(alert).collect(),
        silences: state.silences.iter().map(silence).collect(),
        pending: pending.collect(),
        ..ServiceStatus::default()
    }
}

/// Where the socket of a state file is.
pub fn socket_path(state: &Path) -> PathBuf {
    crate::state::beside(state, "sock")
}

/// A path of a socket that the system takes, however long the folder's is: through the opened folder.
struct ShortSocketPath {
    path: PathBuf,
    /// Open for as long as the path is used.
    _folder: Option<std::fs::File>,
}

impl ShortSocketPath {
    fn of(path: &Path) -> io::Result<Self> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        };
        if path.as_os_str().len() <= MAX_PATH_BYTES {
            return Ok(Self { path: path.to_owned(), _folder: None });
        }
        let folder = std::fs::File::open(folder)?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _folder: Some(folder) })
    }
}

/// Answers until dropped. The socket file appears under its name only once nobody else may use it.
pub async fn serve(
    state: &Path,
    store: Arc<StateStore>,
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
) -> io::Result<()> {
    let (path, fresh) = (socket_path(state), crate::state::beside(state, "sk"));
    let _ = std::fs::remove_file(&fresh); // of a run that died between the next lines
    let listener = ShortSocketPath::of(&fresh).and_then(|short| UnixListener::bind(&short.path))?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&fresh, &path)?;
    loop {
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "control socket cannot accept");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let (store, registry, clock) = (Arc::clone(&store), Arc::clone(&registry), Arc::clone(&clock));
        tokio::spawn(async move {
            let answered = tokio::time::timeout(SOCKET_TIMEOUT, answer(stream, &store, &registry, clock.now())).await;
            if let Ok(Err(error)) = answered {
                tracing::debug!(%error, "control request not answered");
            }
        });
    }
}

async fn answer(mut stream: UnixStream, store: &StateStore, registry: &Registry, now: Time) -> io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut line = String::new();
    BufReader::new(reading.take(MAX_REQUEST_BYTES)).read_line(&mut line).await?;
    let mut json = match serde_json::from_str(&line)? {
        ControlRequest::Status => serde_json::to_vec(&store.read(|state| registry.status(state, now)))?,
        ControlRequest::Health => serde_json::to_vec(&registry.health(now))?,
        ControlRequest::Silence(change) => serde_json::to_vec(&change_silences(store, change, now).await)?,
    };
    json.push(b'\n');
    writing.write_all(&json).await
}

/// On disk before it is answered: whoever was told that it is there finds it after any death.
async fn change_silences(store: &StateStore, change: SilenceChange, now: Time) -> SilenceReply {
    let changed = store.change(|state| silences::apply_change(state, change, now)).await;
    match &changed {
        SilenceResult::Added { id, .. } => tracing::info!(id, "silence added"),
        SilenceResult::Removed { .. } => tracing::info!("silence removed: what it hushed is told at the next reading"),
        SilenceResult::Unknown | SilenceResult::AlreadyEnded => {}
    }
    SilenceReply { saved: store.flush().await, changed }
}

/// Asks the service that owns `state`. An error means that none answers.
pub async fn ask<R: serde::de::DeserializeOwned>(state: &Path, request: ControlRequest) -> io::Result<R> {
    let talk = async {
        let short = ShortSocketPath::of(&socket_path(state))?;
        let mut stream = UnixStream::connect(&short.path).await?;
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(serde_json::from_slice(&answer)?)
    };
    tokio::time::timeout(SOCKET_TIMEOUT, talk).await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
}
