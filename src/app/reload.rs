//! When a running service reads its configuration again, and what comes of it.
//!
//! A signal, or a file of the configuration that was saved. It only tells what was read: it swaps nothing.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::sync::oneshot;

use crate::config::{self, Environment, Loaded, Sources, Stamps};

/// The pause between two looks at the files.
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(4);
/// The pause before a thread is tried again, where none is to be had.
const THREAD_RETRY_PAUSE: Duration = Duration::from_secs(60);
/// The pause before the next look at a file that is being written.
const FILE_SETTLE_PAUSE: Duration = Duration::from_secs(1);

/// Where a running service's configuration came from, and comes from again.
pub struct ConfigSource {
    file: PathBuf,
    environment: Environment,
    hangup: Signal,
    /// What the configuration in use was read from.
    running: Sources,
    /// What a refused one was read from, if the last one was refused.
    refused: Option<Sources>,
    /// The files to look at, as they were before they were last read.
    watched: Sources,
    stamps: Stamps,
}

/// Who wants it to be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReloadTrigger {
    /// Somebody sent SIGHUP: it is read and reported on, changed or not.
    Signal,
    /// A file was saved: only what differs is worth a word.
    FileSaved,
}

/// What was read, as far as it is news.
pub(super) enum ReloadOutcome {
    /// What is in use already. `recovered`: the one before was refused.
    Unchanged { recovered: bool },
    /// What was refused already.
    StillRefused,
    /// Something to use or to refuse.
    Candidate(Box<Loaded>),
}

impl ConfigSource {
    /// The configuration in use was read from `running`. `hangup` asks for it to be read again.
    pub fn new(file: PathBuf, environment: Environment, running: Sources, hangup: Signal) -> Self {
        // Without stamps the first look finds a difference: what was saved since the reading is noticed.
        let stamps = Stamps::default();
        Self { file, environment, hangup, watched: running.clone(), running, refused: None, stamps: stamps }
    }

    /// Waits until it should be read again.
    pub(super) async fn wait_for_trigger(&mut self) -> ReloadTrigger {
        loop {
            let (notify, saved) = oneshot::channel();
            // Dropped with this wait, whoever asks first: the thread ends then.
            let (waiting, cancelled) = mpsc::channel();
            let (watched, stamps) = (self.watched.clone(), self.stamps.clone());
            let watch_files = move || {
                if await_saved(&watched, &stamps, &cancelled) {
                    let _ = notify.send(()); // nobody waits any more: somebody else asked
                }
            };
            let watcher = std::thread::Builder::new().name("files".to_owned()).spawn(watch_files);
            if let Err(error) = &watcher {
                tracing::warn!(%error, "saved files are not noticed for a minute: a SIGHUP has the configuration read again");
            }
            tokio::select! {
                _ = self.hangup.recv() => return ReloadTrigger::Signal, // it never ends
                Ok(()) = saved => return ReloadTrigger::FileSaved,
                () = tokio::time::sleep(THREAD_RETRY_PAUSE), if watcher.is_err() => {}
            }
            drop(waiting);
        }
    }

    /// Reads it. A file that changes meanwhile is seen at the next look, because its stamp is older than its content.
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

    /// What was read last is in use now.
    pub(super) fn mark_in_use(&mut self) {
        self.running = self.watched.clone();
        self.refused = None;
    }

    /// What was read last cannot be used.
    pub(super) fn mark_refused(&mut self) {
        self.refused = Some(self.watched.clone());
    }

    /// A disk that hangs keeps only this from going on.
    async fn read_stamps(&self) -> Stamps {
        let watched = self.watched.clone();
        tokio::task::spawn_blocking(move || watched.stamps()).await.unwrap_or_default()
    }
}

/// Looks at files until one was saved (`true`) or nobody waits any more, on a thread of its own: a look is a wake of this
/// thread and no more, and a disk that hangs keeps only this from going on. A file that is being written is left alone until
/// it rests for a whole look: half a configuration could be a valid one.
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
