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
const LOOK: Duration = Duration::from_secs(4);
/// The pause before a thread is tried again, where none is to be had.
const NO_LOOK: Duration = Duration::from_secs(60);
/// The pause before the next look at a file that is being written.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Where a running service's configuration came from, and comes from again.
pub struct Source {
    file: PathBuf,
    environment: Environment,
    hangup: Signal,
    /// What the configuration in use was read from.
    running: Sources,
    /// What a refused one was read from, if the last one was refused.
    refused: Option<Sources>,
    /// The files to look at, as they were before they were last read.
    watched: Sources,
    seen: Stamps,
}

/// Who wants it to be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Somebody sent SIGHUP: it is read and reported on, changed or not.
    Signal,
    /// A file was saved: only what differs is worth a word.
    Saved,
}

/// What was read, as far as it is news.
pub(super) enum Again {
    /// What is in use already. `mended`: the one before was refused.
    Same { mended: bool },
    /// What was refused already.
    RefusedBefore,
    /// Something to use or to refuse.
    New(Box<Loaded>),
}

impl Source {
    /// The configuration in use was read from `running`. `hangup` asks for it to be read again.
    pub fn new(file: PathBuf, environment: Environment, running: Sources, hangup: Signal) -> Self {
        // Without stamps the first look finds a difference: what was saved since the reading is noticed.
        let seen = Stamps::default();
        Self { file, environment, hangup, watched: running.clone(), running, refused: None, seen }
    }

    /// Waits until it should be read again.
    pub(super) async fn asked(&mut self) -> Asked {
        loop {
            let (tell, saved) = oneshot::channel();
            // Dropped with this wait, whoever asks first: the thread ends then.
            let (waiting, over) = mpsc::channel();
            let (watched, seen) = (self.watched.clone(), self.seen.clone());
            let lookout = move || {
                if await_saved(&watched, &seen, &over) {
                    let _ = tell.send(()); // nobody waits any more: somebody else asked
                }
            };
            let looks = std::thread::Builder::new().name("files".to_owned()).spawn(lookout);
            if let Err(error) = &looks {
                tracing::warn!(%error, "saved files are not noticed for a minute: a SIGHUP has the configuration read again");
            }
            tokio::select! {
                _ = self.hangup.recv() => return Asked::Signal, // it never ends
                Ok(()) = saved => return Asked::Saved,
                () = tokio::time::sleep(NO_LOOK), if looks.is_err() => {}
            }
            drop(waiting);
        }
    }

    /// Reads it. A file that changes meanwhile is seen at the next look, because its stamp is older than its content.
    pub(super) async fn read(&mut self, asked: Asked) -> Again {
        let before = self.look().await;
        let (file, environment) = (self.file.clone(), self.environment.clone());
        let loading = tokio::task::spawn_blocking(move || config::load(&file, &environment));
        let Ok(loaded) = loading.await else { return Again::RefusedBefore };
        self.watched = loaded.sources.clone();
        self.seen = before.within(&self.watched);
        if asked == Asked::Signal {
            return Again::New(Box::new(loaded));
        }
        if loaded.sources == self.running {
            return Again::Same { mended: self.refused.take().is_some() };
        }
        if self.refused.as_ref() == Some(&loaded.sources) {
            return Again::RefusedBefore;
        }
        Again::New(Box::new(loaded))
    }

    /// What was read last is in use now.
    pub(super) fn taken(&mut self) {
        self.running = self.watched.clone();
        self.refused = None;
    }

    /// What was read last cannot be used.
    pub(super) fn refuse(&mut self) {
        self.refused = Some(self.watched.clone());
    }

    /// A disk that hangs keeps only this from going on.
    async fn look(&self) -> Stamps {
        let watched = self.watched.clone();
        tokio::task::spawn_blocking(move || watched.stamps()).await.unwrap_or_default()
    }
}

/// Looks at files until one was saved (`true`) or nobody waits any more, on a thread of its own: a look is a wake of this
/// thread and no more, and a disk that hangs keeps only this from going on. A file that is being written is left alone until
/// it rests for a whole look: half a configuration could be a valid one.
fn await_saved(watched: &Sources, seen: &Stamps, over: &mpsc::Receiver<Infallible>) -> bool {
    let mut moving = None;
    loop {
        let pause = if moving.is_some() { LOOK_AGAIN } else { LOOK };
        if over.recv_timeout(pause) != Err(mpsc::RecvTimeoutError::Timeout) {
            return false;
        }
        let now = watched.stamps();
        if now == *seen {
            moving = None;
        } else if moving.replace(now.clone()) == Some(now) {
            return true;
        }
    }
}
