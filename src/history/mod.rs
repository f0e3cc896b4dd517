//! Keeping an account's books fresh: what was last read of its ledger and orders, and the task that reads it.
//!
//! An edge: it imports the domain and `certcentral`'s trait [`HistorySource`](crate::certcentral::HistorySource), and `app` hands
//! it plain values. It judges nothing, it sends no message, and no balance reading ever waits for it. What it keeps on disk
//! is a cache that may be deleted at any time.
//!
//! A [`HistoryCache`] is what cycles look at; a [`Refresher`] fills it. How often each part is read is said in `state.rs`, and how
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

pub use disk_cache::DiskCache;
pub use refresher::Refresher;
pub use sharing::WatchedFunds;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use self::refresh_state::HistoryState;
use crate::domain::Division;
use crate::domain::history::AccountHistory;
use crate::util::clock::Clock;

/// What a keeper does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RefresherActivity {
    Working,
    Idle,
    /// It dozes, but somebody has called it.
    Waking,
}

/// The books of one account as they are known now. It outlives the task that fills it.
pub struct HistoryCache {
    state: Mutex<HistoryState>,
    clock: Arc<dyn Clock>,
    /// For the keeper: what is wanted may have changed, or the clock.
    requested: Notify,
    /// What the keeper does, for clocks that are moved when everybody rests.
    activity: Mutex<RefresherActivity>,
    /// For whoever waits until something was tried.
    attempted: Notify,
}

impl HistoryCache {
    /// An empty one: nothing is wanted yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with(HistoryState::default(), clock)
    }

    /// An empty one for an account whose key is another than before: what the cache has may be another account's. It is read
    /// on from at once, and not shown before that.
    pub fn unverified(clock: Arc<dyn Clock>) -> Self {
        Self::with(HistoryState::unverified(), clock)
    }

    fn with(state: HistoryState, clock: Arc<dyn Clock>) -> Self {
        Self {
            state: Mutex::new(state),
            clock,
            requested: Notify::new(),
            activity: Mutex::new(RefresherActivity::Working),
            attempted: Notify::new(),
        }
    }

    /// The books of one division (`None`: of the account itself) as far as they are fresh enough to be used. Cheap: what was
    /// read is shared, not copied.
    pub fn history(&self, division: Division) -> AccountHistory {
        self.state().history(division, self.clock.now())
    }

    /// The books of one fund: those of each of these divisions, and of the others that share it. While it is not known who
    /// does, one of them is a gap.
    pub fn fund_histories(&self, divisions: &[Division]) -> Vec<AccountHistory> {
        self.state().fund_histories(divisions, self.clock.now())
    }

    /// The divisions whose books are wanted from now on, all of them; of others nothing is shown, and what is known of them is
    /// forgotten after a day. Say it at each
    /// cycle: it also makes the keeper look at the clock again.
    pub fn request(&self, divisions: &BTreeSet<Division>) {
        self.request_shared(divisions, &WatchedFunds::default());
    }

    /// The same, with the books of whoever shares these funds and is not watched.
    pub fn request_shared(&self, divisions: &BTreeSet<Division>, watched: &WatchedFunds) {
        self.state().request(divisions, watched, self.clock.now());
        self.wake();
        self.requested.notify_one();
        self.attempted.notify_waiters();
    }

    /// Waits until ledger and orders of each of these divisions, and of whoever shares their fund, have been tried at least
    /// once and nothing of them is due, or for so long. Those that are not wanted are not waited for.
    pub async fn wait_until_settled(&self, divisions: &BTreeSet<Division>, timeout: Duration) {
        let all = async {
            loop {
                let tried = self.attempted.notified();
                tokio::pin!(tried);
                // From here on no change is missed.
                tried.as_mut().enable();
                if self.state().settled(divisions, self.clock.now()) {
                    return;
                }
                tried.await;
            }
        };
        tokio::select! {
            biased;
            () = all => {}
            () = self.clock.sleep(timeout) => {}
        }
    }

    /// A keeper that dozes is there from this moment on, not only once it has noticed.
    fn wake(&self) {
        let mut activity = self.activity();
        if *activity == RefresherActivity::Idle {
            *activity = RefresherActivity::Waking;
            self.clock.set_background_active(true);
        }
    }

    /// The keeper dozes until it is called, and for so long at most.
    async fn wait_idle(&self, pause: Duration) {
        *self.activity() = RefresherActivity::Idle;
        tokio::select! {
            () = self.clock.sleep_idle(pause) => {}
            () = self.requested.notified() => {}
        }
        let was = std::mem::replace(&mut *self.activity(), RefresherActivity::Working);
        if was == RefresherActivity::Waking {
            self.clock.set_background_active(false); // it counts itself again
        }
    }

    fn activity(&self) -> MutexGuard<'_, RefresherActivity> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, HistoryState> {
        // What is kept is whole between any two of its own steps.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
