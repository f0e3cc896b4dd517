//! Decides when a running service reads its configuration again: on a signal, or when one of its files is saved.
//!
//! Only reads and compares; the caller switches to the new configuration.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::sync::oneshot;

use crate::config::{self, Environment, Loaded, Sources, Stamps};

/// Interval at which the files are checked.
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(4);
/// Pause before another attempt to create the thread that checks the files.
const THREAD_RETRY_PAUSE: Duration = Duration::from_secs(60);
/// Time that a changed file must stay the same before it is read.
const FILE_SETTLE_PAUSE: Duration = Duration::from_secs(1);

/// Source of a running service's configuration, with what is in use, refused and watched.
pub struct ConfigSource {
    file: PathBuf,
    environment: Environment,
    hangup: Signal,
    /// Sources of the configuration in use.
    running: Sources,
    /// Sources of the configuration read last, if it was refused.
    refused: Option<Sources>,
    /// Files that are checked for changes.
    watched: Sources,
    /// Stamps of the watched files from before they were last read.
    stamps: Stamps,
}

/// Reason to read the configuration again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReloadTrigger {
    /// SIGHUP. The result is reported even if nothing has changed.
    Signal,
    /// A saved file. Nothing is reported if its content is the same.
    FileSaved,
}

/// Result of reading the configuration again.
pub(super) enum ReloadOutcome {
    /// The configuration in use. `recovered` is set if the previous read was refused.
    Unchanged { recovered: bool },
    /// The configuration that was refused before.
    StillRefused,
    /// A configuration to use or to refuse.
    Candidate(Box<Loaded>),
}

impl ConfigSource {
    /// Creates the source of a configuration that was read from `running`. `hangup` triggers a reload.
    pub fn new(file: PathBuf, environment: Environment, running: Sources, hangup: Signal) -> Self {
        // Without stamps the first check finds a difference, so a save since the configuration was read is noticed.
        let stamps = Stamps::default();
        Self { file, environment, hangup, watched: running.clone(), running, refused: None, stamps }
    }

    /// Waits for a reason to read the configuration again.
    pub(super) async fn wait_for_trigger(&mut self) -> ReloadTrigger {
        loop {
            let (notify, saved) = oneshot::channel();
            // Dropped at the end of this wait, whatever ended it; the thread then ends too.
            let (waiting, cancelled) = mpsc::channel();
            let (watched, stamps) = (self.watched.clone(), self.stamps.clone());
            let watch_files = move || {
                if await_saved(&watched, &stamps, &cancelled) {
                    let _ = notify.send(()); // fails if another trigger ended the wait
                }
            };
            let watcher = std::thread::Builder::new().name("files".to_owned()).spawn(watch_files);
            if let Err(error) = &watcher {
                tracing::warn!(%error, "saved files are not noticed for a minute: SIGHUP reloads the configuration");
            }
            tokio::select! {
                _ = self.hangup.recv() => return ReloadTrigger::Signal, // the stream never ends
                Ok(()) = saved => return ReloadTrigger::FileSaved,
                () = tokio::time::sleep(THREAD_RETRY_PAUSE), if watcher.is_err() => {}
            }
            drop(waiting);
        }
    }

    /// Reads the configuration. A file that changes meanwhile is noticed at the next check, because its stamp is older than its
    /// content.
    pub(super) async fn read(&mut self, trigger: ReloadTrigger) -> ReloadOutcome {
        let before = self.read_stamps().await;
        let (file, environment) = (self.file.clone(), self.environment.clone());
        let loading = tokio::task::spawn_blocking(move || config::load(&file, &environment));
        let Ok(loaded) = loading.await else { return ReloadOutcome::StillRefused };
        self.watched = loaded.sources.clone();
        self.stamps = before.within(&self.watched);
        if trigger == ReloadTrigger::Signal {
            return ReloadOutcome::Candidate(Box::new(loaded));
        }
        if loaded.sources == self.running {
            return ReloadOutcome::Unchanged { recovered: self.refused.take().is_some() };
        }
        if self.refused.as_ref() == Some(&loaded.sources) {
            return ReloadOutcome::StillRefused;
        }
        ReloadOutcome::Candidate(Box::new(loaded))
    }

    /// Records that the configuration read last is now in use.
    pub(super) fn mark_in_use(&mut self) {
        self.running = self.watched.clone();
        self.refused = None;
    }

    /// Records that the configuration read last was refused.
    pub(super) fn mark_refused(&mut self) {
        self.refused = Some(self.watched.clone());
    }

    /// Reads the stamps on a blocking thread, so that a disk that hangs stops only the reload.
    async fn read_stamps(&self) -> Stamps {
        let watched = self.watched.clone();
        tokio::task::spawn_blocking(move || watched.stamps()).await.unwrap_or_default()
    }
}

/// Checks the files until one is saved (returns `true`) or the wait is cancelled. Runs on a thread of its own: a check wakes only
/// this thread, and a disk that hangs blocks only this thread. A changed file is reported once it has stayed the same for
/// [`FILE_SETTLE_PAUSE`]: a partly written configuration could be valid.
fn await_saved(watched: &Sources, stamps: &Stamps, cancelled: &mpsc::Receiver<Infallible>) -> bool {
    let mut changing = None;
    loop {
        let pause = if changing.is_some() { FILE_SETTLE_PAUSE } else { FILE_CHECK_INTERVAL };
        if cancelled.recv_timeout(pause) != Err(mpsc::RecvTimeoutError::Timeout) {
            return false;
        }
        let now = watched.stamps();
        if now == *stamps {
            changing = None;
        } else if changing.replace(now.clone()) == Some(now) {
            return true;
        }
    }
}
