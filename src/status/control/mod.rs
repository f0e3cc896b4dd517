//! The Unix socket beside the state file (mode 0600) through which `status` and `health` ask a running service, and
//! `silence` tells it what to hush.
//!
//! One line of JSON each way. Who may ask is decided by the file's mode alone. Nothing but silences can be changed.

mod answers;

pub use crate::status::tally::Fares;
pub use answers::{
    AccountReport, AlertReport, Counts, Health, OwedReport, Reload, Report, Request, SilenceReport, Silenced,
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
use crate::domain::alert::{AlertKey, Status};
use crate::domain::quiet_hours::QuietHours;
use crate::domain::silence::Silence;
use crate::domain::{Division, Name, Time};
use crate::polling::poller::{Outcome, Seen};
use crate::polling::reports::Ledger;
use crate::polling::scheduler::Beat;
use crate::state::Book;
use crate::state::silences;
use crate::state::silences::{Change, Changed};
use crate::status::tally;
use crate::util::clock::Clock;

/// Longest wait for the other side.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest request line, in bytes.
const LONGEST_REQUEST: u64 = 4096;
/// Longest socket path that every system takes as it is.
const LONGEST_PATH: usize = 100;

/// What the service tells about itself; shared by the tasks that know it.
#[derive(Default)]
pub struct Board {
    pub(crate) beats: Mutex<std::collections::BTreeMap<Name, Beat>>,
    pub(crate) readings: Mutex<std::collections::BTreeMap<Name, Vec<Seen>>>,
    pub(crate) counts: Mutex<Counts>,
    pub(crate) tally: Mutex<tally::Tally>,
    quiet: Mutex<std::collections::BTreeMap<Name, QuietHours>>,
    pub(crate) paces: tally::Paces,
    /// The last figures, for reports.
    pub(crate) ledger: Ledger,
}

impl Board {
    /// Notes when notifiers hold what they owe.
    pub fn quiet_hours(&self, quiet: std::collections::BTreeMap<Name, QuietHours>) {
        *self.quiet.lock().unwrap_or_else(PoisonError::into_inner) = quiet;
    }

    /// Whether what is owed to a notifier is held at a time.
    pub fn held(&self, notifier: &Name, at: Time, about_critical: bool) -> bool {
        let quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        quiet.get(notifier).is_some_and(|quiet| quiet.held_until(at, about_critical).is_some())
    }

    /// Notes when an account's cycles run.
    pub fn beat(&self, account: &Name, beat: Beat) {
        let mut beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        // A reload begins a new row of cycles, but forgets none.
        let ended = beat.ended.or(beats.get(account).and_then(|known| known.ended));
        beats.insert(account.clone(), Beat { ended, ..beat });
    }

    /// Notes what an account's cycle did.
    pub fn cycle(&self, account: &Name, mut outcome: Outcome) {
        let latest = std::mem::take(&mut outcome.latest);
        self.ledger.note(account, latest, outcome.listing_failure.as_deref(), outcome.ended);
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
            before.into_iter().flatten().map(|it| (it.read.division, it.last_good)).collect();
        for reading in outcome.readings.iter_mut().filter(|it| it.last_good.is_none()) {
            reading.last_good = good.remove(&reading.read.division).flatten();
        }
        readings.insert(account.clone(), outcome.readings);
    }

    /// Whether the cycles are on time.
    pub fn health(&self, now: Time) -> Health {
        let beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        let late: Vec<Name> =
            beats.iter().filter(|(name, it)| !self.paces.on_time(name, **it, now)).map(|it| it.0.clone()).collect();
        Health { on_time: late.is_empty(), late }
    }

    /// The accounts without a cycle that finished within twice its period.
    pub fn not_ready(&self, now: Time) -> Vec<Name> {
        let beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = |name: &Name| beats.get(name).is_some_and(|beat| self.paces.stretched(name, *beat).ready(now));
        self.accounts().into_keys().filter(|name| !ready(name)).collect()
    }

    /// What the state and this board can tell together.
    pub fn report(&self, state: &State, now: Time) -> Report {
        let beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        let account = |(name, beat): (&Name, &Beat)| {
            let on_time = self.paces.on_time(name, *beat, now);
            let beat = self.paces.stretched(name, *beat);
            AccountReport {
                account: name.clone(),
                last_cycle: beat.ended,
                next_cycle: beat.due,
                on_time,
                reading: beat.ended.is_none_or(|ended| ended < beat.began),
            }
        };
        let readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        Report {
            running: true,
            accounts: beats.iter().map(account).collect(),
            rules: self.rules().into_iter().map(|rule| rule.name).collect(),
            readings: readings.iter().flat_map(|(account, seen)| seen.iter().map(|it| it.figures(account))).collect(),
            counts: self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            reload: self.reload(),
            ..report_state(state)
        }
    }
}

/// What the state alone can tell.
pub fn report_state(state: &State) -> Report {
    let alert = |(key, known): (&AlertKey, &crate::alerting::state::Remembered)| {
        let (status, level) = match known.alert.status() {
            Status::Ok => return None,
            Status::Pending(level) => ("pending", level),
            Status::Firing(level) => ("firing", level),
        };
        Some(AlertReport {
            rule: key.rule.clone(),
            account: key.account.clone(),
            division: key.division,
            division_name: known.division_name.clone(),
            status: status.to_owned(),
            level,
            since: known.alert.level_since(),
            last_event: known.alert.last_event,
            told: known.alert.told.keys().cloned().collect(),
            reason: known.reason.clone(),
            silenced: known.hushed.as_ref().map(|hushed| hushed.by.clone()),
        })
    };
    let names: std::collections::BTreeSet<&Name> =
        state.owed.iter().flat_map(|owed| owed.to.keys()).chain(state.notifiers.keys()).collect();
    let owed = names.into_iter().map(|name| {
        let trouble = state.notifiers.get(name);
        OwedReport {
            notifier: name.clone(),
            events: state.owed_to(name).count(),
            critical: state.owed_to(name).filter(|(event, _)| event.is_about_critical()).count(),
            held_until: None,
            oldest: state.owed_to(name).map(|(event, _)| event.at).min(),
            failing_since: trouble.map(|trouble| trouble.since),
            error: trouble.map(|trouble| trouble.error.clone()),
        }
    });
    let silence =
        |(id, silence): (&u32, &Silence)| SilenceReport { id: Some(*id), name: None, silence: silence.clone() };
    Report {
        alerts: state.alerts.iter().filter_map(alert).collect(),
        silences: state.silences.iter().map(silence).collect(),
        owed: owed.collect(),
        ..Report::default()
    }
}

/// Where the socket of a state file is.
pub fn socket_path(state: &Path) -> PathBuf {
    crate::state::beside(state, "sock")
}

/// A path of a socket that the system takes, however long the folder's is: through the opened folder.
struct Short {
    path: PathBuf,
    /// Open for as long as the path is used.
    _folder: Option<std::fs::File>,
}

impl Short {
    fn of(path: &Path) -> io::Result<Self> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        };
        if path.as_os_str().len() <= LONGEST_PATH {
            return Ok(Self { path: path.to_owned(), _folder: None });
        }
        let folder = std::fs::File::open(folder)?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _folder: Some(folder) })
    }
}

/// Answers until dropped. The socket file appears under its name only once nobody else may use it.
pub async fn serve(state: &Path, book: Arc<Book>, board: Arc<Board>, clock: Arc<dyn Clock>) -> io::Result<()> {
    let (path, fresh) = (socket_path(state), crate::state::beside(state, "sk"));
    let _ = std::fs::remove_file(&fresh); // of a run that died between the next lines
    let listener = Short::of(&fresh).and_then(|short| UnixListener::bind(&short.path))?;
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
        let (book, board, clock) = (Arc::clone(&book), Arc::clone(&board), Arc::clone(&clock));
        tokio::spawn(async move {
            let answered = tokio::time::timeout(PATIENCE, answer(stream, &book, &board, clock.now())).await;
            if let Ok(Err(error)) = answered {
                tracing::debug!(%error, "control request not answered");
            }
        });
    }
}

async fn answer(mut stream: UnixStream, book: &Book, board: &Board, now: Time) -> io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut line = String::new();
    BufReader::new(reading.take(LONGEST_REQUEST)).read_line(&mut line).await?;
    let mut json = match serde_json::from_str(&line)? {
        Request::Status => serde_json::to_vec(&book.read(|state| board.report(state, now)))?,
        Request::Health => serde_json::to_vec(&board.health(now))?,
        Request::Silence(change) => serde_json::to_vec(&silence(book, change, now).await)?,
    };
    json.push(b'\n');
    writing.write_all(&json).await
}

/// On disk before it is answered: whoever was told that it is there finds it after any death.
async fn silence(book: &Book, change: Change, now: Time) -> Silenced {
    let changed = book.change(|state| silences::apply(state, change, now)).await;
    match &changed {
        Changed::Added { id, .. } => tracing::info!(id, "silence added"),
        Changed::Removed { .. } => tracing::info!("silence removed: what it hushed is told at the next reading"),
        Changed::Unknown | Changed::Over => {}
    }
    Silenced { saved: book.flush().await, changed }
}

/// Asks the service that owns `state`. An error means that none answers.
pub async fn ask<R: serde::de::DeserializeOwned>(state: &Path, request: Request) -> io::Result<R> {
    let talk = async {
        let short = Short::of(&socket_path(state))?;
        let mut stream = UnixStream::connect(&short.path).await?;
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(serde_json::from_slice(&answer)?)
    };
    tokio::time::timeout(PATIENCE, talk).await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
}
