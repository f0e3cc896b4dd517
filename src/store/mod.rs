//! Remembering: the state file, and the book that every change of the state goes through.
//!
//! The promise kept here: what [`Book::change`] changed is on disk before it returns, or has loudly failed to be and is
//! tried again. Nothing here decides what is remembered.

mod file;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

pub(crate) use file::beside;
#[doc(hidden)]
pub use file::decode;
pub use file::{FileStore, OpenError, Opened, read_only};

use crate::clock::Clock;
use crate::domain::state::State;

/// The longest pause before saving is tried again.
const SAVE_AGAIN: Duration = Duration::from_secs(5);
/// The version of the state file that this program writes.
pub const VERSION: u32 = 1;

/// Somewhere to keep the state.
pub trait Store: Send + Sync {
    /// Replaces what is kept, atomically: afterwards either the old or the new bytes are there, whatever happens.
    fn save(&self, json: &[u8]) -> std::io::Result<()>;
}

/// The one owner of the state. Every change is applied in memory first, then saved, before anything is sent.
pub struct Book {
    inner: Mutex<Inner>,
    saved: Arc<tokio::sync::Mutex<Saved>>,
    store: Arc<dyn Store>,
    changed: Notify,
    unsaved: Arc<Notify>,
}

struct Inner {
    state: State,
    edition: u64,
}

struct Saved {
    edition: u64,
    failing: bool,
}

impl Saved {
    /// Notes how a write ended, and tells when that changes.
    fn note(&mut self, edition: u64, written: std::io::Result<()>) -> bool {
        match written {
            Ok(()) => {
                self.edition = edition;
                if std::mem::replace(&mut self.failing, false) {
                    tracing::info!("state is saved again");
                }
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "state cannot be saved: reading and notifying go on, saving is tried again every few seconds; a restart now could repeat messages");
                }
                false
            }
        }
    }
}

impl Book {
    /// A book that begins with `state`, as it was loaded.
    pub fn new(state: State, store: Arc<dyn Store>) -> Self {
        Self {
            inner: Mutex::new(Inner { state, edition: 0 }),
            saved: Arc::new(tokio::sync::Mutex::new(Saved { edition: 0, failing: false })),
            store,
            changed: Notify::new(),
            unsaved: Arc::new(Notify::new()),
        }
    }

    /// Looks at the state.
    pub fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.lock().state)
    }

    /// Changes the state and saves it. `edit` returns its result and whether it changed anything: if not, nothing is
    /// written. A save that fails is logged, stays due and stops nobody.
    pub async fn change<R>(&self, edit: impl FnOnce(&mut State) -> (R, bool)) -> R {
        let (result, edition) = {
            let mut inner = self.lock();
            let (result, changed) = edit(&mut inner.state);
            if !changed {
                return result;
            }
            inner.edition += 1;
            (result, inner.edition)
        };
        self.save(edition).await;
        self.changed.notify_waiters();
        result
    }

    /// Waits for the next change. Ask before looking at the state, so that none is missed.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// Tries saving again, at least every ten seconds, for as long as the last save failed. Never returns.
    pub async fn save_again(&self, clock: &dyn Clock) {
        loop {
            self.unsaved.notified().await;
            while self.saved.lock().await.failing {
                clock.sleep(SAVE_AGAIN).await;
                self.flush().await;
            }
        }
    }

    /// Saves what is not saved yet. `true` if everything is on disk afterwards.
    pub async fn flush(&self) -> bool {
        let edition = self.lock().edition;
        self.save(edition).await
    }

    /// Makes sure that `edition` is on disk. Whoever waits meanwhile is served by the same write. A write that has begun
    /// is finished and noted even if nobody waits for it any more, so that no older one can ever follow a newer.
    async fn save(&self, edition: u64) -> bool {
        let mut saved = Arc::clone(&self.saved).lock_owned().await;
        if saved.edition >= edition {
            return true;
        }
        let (json, edition) = {
            let inner = self.lock();
            (encode(&inner.state), inner.edition)
        };
        let (store, unsaved) = (Arc::clone(&self.store), Arc::clone(&self.unsaved));
        let write = move || {
            let good = saved.note(edition, json.and_then(|json| store.save(&json)));
            if !good {
                unsaved.notify_one();
            }
            good
        };
        tokio::task::spawn_blocking(write).await.unwrap_or(false)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while holding the lock leaves a state that is whole: edits are plain assignments on owned values.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(serde::Serialize)]
struct Envelope<'a> {
    version: u32,
    #[serde(flatten)]
    state: &'a State,
}

/// The state file's bytes.
pub fn encode(state: &State) -> std::io::Result<Vec<u8>> {
    let mut json = serde_json::to_vec_pretty(&Envelope { version: VERSION, state })?;
    json.push(b'\n');
    Ok(json)
}
