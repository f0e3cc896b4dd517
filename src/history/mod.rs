//! Keeping an account's books fresh: what was last read of its ledger and orders, and the task that reads it.
//!
//! An edge: it imports the domain and `certcentral`'s trait [`BooksSource`](crate::certcentral::BooksSource), and `app` hands
//! it plain values. It judges nothing, it sends no message, and no balance reading ever waits for it. What it keeps on disk
//! is a cache that may be deleted at any time.
//!
//! A [`Shelf`] is what cycles look at; a [`Keeper`] fills it. How often each part is read is said in `memory.rs`, and how
//! much of it in `window.rs`.

mod disk_cache;
mod disk_worker;
mod listing;
mod part;
mod refresh_state;
mod refresher;
mod sharing;
mod unlisted;
mod window;

pub use disk_cache::Cache;
pub use refresher::Keeper;
pub use sharing::Watched;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use self::refresh_state::Memory;
use crate::domain::Division;
use crate::domain::history::Books;
use crate::util::clock::Clock;

/// What a keeper does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Works,
    Dozes,
    /// It dozes, but somebody has called it.
    IsCalled,
}

/// The books of one account as they are known now. It outlives the task that fills it.
pub struct Shelf {
    memory: Mutex<Memory>,
    clock: Arc<dyn Clock>,
    /// For the keeper: what is wanted may have changed, or the clock.
    asked: Notify,
    /// What the keeper does, for clocks that are moved when everybody rests.
    keeper: Mutex<Doing>,
    /// For whoever waits until something was tried.
    tried: Notify,
}

impl Shelf {
    /// An empty one: nothing is wanted yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with(Memory::default(), clock)
    }

    /// An empty one for an account whose key is another than before: what the cache has may be another account's. It is read
    /// on from at once, and not shown before that.
    pub fn doubting(clock: Arc<dyn Clock>) -> Self {
        Self::with(Memory::doubting(), clock)
    }

    fn with(memory: Memory, clock: Arc<dyn Clock>) -> Self {
        Self {
            memory: Mutex::new(memory),
            clock,
            asked: Notify::new(),
            keeper: Mutex::new(Doing::Works),
            tried: Notify::new(),
        }
    }

    /// The books of one division (`None`: of the account itself) as far as they are fresh enough to be used. Cheap: what was
    /// read is shared, not copied.
    pub fn books(&self, division: Division) -> Books {
        self.memory().books(division, self.clock.now())
    }

    /// The books of one fund: those of each of these divisions, and of the others that share it. While it is not known who
    /// does, one of them is a gap.
    pub fn parts(&self, divisions: &[Division]) -> Vec<Books> {
        self.memory().parts(divisions, self.clock.now())
    }

    /// The divisions whose books are wanted from now on, all of them; of others nothing is shown, and what is known of them is
    /// forgotten after a day. Say it at each
    /// cycle: it also makes the keeper look at the clock again.
    pub fn want(&self, divisions: &BTreeSet<Division>) {
        self.want_shared(divisions, &Watched::default());
    }

    /// The same, with the books of whoever shares these funds and is not watched.
    pub fn want_shared(&self, divisions: &BTreeSet<Division>, watched: &Watched) {
        self.memory().want(divisions, watched, self.clock.now());
        self.call();
        self.asked.notify_one();
        self.tried.notify_waiters();
    }

    /// Waits until ledger and orders of each of these divisions, and of whoever shares their fund, have been tried at least
    /// once and nothing of them is due, or for so long. Those that are not wanted are not waited for.
    pub async fn settled(&self, divisions: &BTreeSet<Division>, patience: Duration) {
        let all = async {
            loop {
                let tried = self.tried.notified();
                tokio::pin!(tried);
                // From here on no change is missed.
                tried.as_mut().enable();
                if self.memory().settled(divisions, self.clock.now()) {
                    return;
                }
                tried.await;
            }
        };
        tokio::select! {
            biased;
            () = all => {}
            () = self.clock.sleep(patience) => {}
        }
    }

    /// A keeper that dozes is there from this moment on, not only once it has noticed.
    fn call(&self) {
        let mut doing = self.doing();
        if *doing == Doing::Dozes {
            *doing = Doing::IsCalled;
            self.clock.there(true);
        }
    }

    /// The keeper dozes until it is called, and for so long at most.
    async fn doze(&self, pause: Duration) {
        *self.doing() = Doing::Dozes;
        tokio::select! {
            () = self.clock.doze(pause) => {}
            () = self.asked.notified() => {}
        }
        let was = std::mem::replace(&mut *self.doing(), Doing::Works);
        if was == Doing::IsCalled {
            self.clock.there(false); // it counts itself again
        }
    }

    fn doing(&self) -> MutexGuard<'_, Doing> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // What is kept is whole between any two of its own steps.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
