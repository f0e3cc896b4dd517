//! The history of an account, that is, its ledger and its orders: the data read last, and the task that refreshes it.
//!
//! Cycles look at a [`HistoryCache`], which a [`Refresher`] fills from a
//! [`HistorySource`](crate::certcentral::HistorySource). Its copy on disk is a [`DiskCache`], which may be deleted at
//! any time. `refresh_state` determines how often each part is read, and `window` how much of it.
//!
//! This module evaluates no rule and sends no message, and no balance reading waits for its requests.

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

/// Activity of a refresher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RefresherActivity {
    Working,
    Idle,
    /// The refresher is still idle, but a request has woken it.
    Waking,
}

/// The known history of one account. It outlives the refresher that fills it.
pub struct HistoryCache {
    state: Mutex<HistoryState>,
    clock: Arc<dyn Clock>,
    /// Wakes the refresher, because the requested divisions or the clock may have changed.
    requested: Notify,
    /// Activity of the refresher, for simulated clocks that advance only while all tasks are idle.
    activity: Mutex<RefresherActivity>,
    /// Notified when the refresher has completed a task, for callers of [`HistoryCache::wait_until_settled`].
    attempted: Notify,
}

impl HistoryCache {
    /// Returns an empty cache. Nothing is requested yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with(HistoryState::default(), clock)
    }

    /// Returns an empty cache for an account whose API key has changed. Data from the disk cache may belong to another
    /// account: it is hidden until a read from `CertCentral` continues it.
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

    /// Returns the history of a division (`None`: of the account itself) as far as it is fresh. The data is shared, not
    /// copied.
    pub fn history(&self, division: Division) -> AccountHistory {
        self.state().history(division, self.clock.now())
    }

    /// Returns the history of one fund: of each of these divisions, and of the unwatched divisions that share it. While
    /// those are unknown, one entry is a gap.
    pub fn fund_histories(&self, divisions: &[Division]) -> Vec<AccountHistory> {
        self.state().fund_histories(divisions, self.clock.now())
    }

    /// Replaces the divisions whose history is requested. The history of all others is hidden, and dropped from memory
    /// after a day. Call it in each cycle, because it also makes the refresher check the clock.
    pub fn request(&self, divisions: &BTreeSet<Division>) {
        self.request_shared(divisions, &WatchedFunds::default());
    }

    /// Like [`HistoryCache::request`], and also requests the history of unwatched divisions that share a watched fund.
    pub fn request_shared(&self, divisions: &BTreeSet<Division>, watched: &WatchedFunds) {
        self.state().request(divisions, watched, self.clock.now());
        self.wake();
        self.requested.notify_one();
        self.attempted.notify_waiters();
    }

    /// Waits until the history of these divisions, and of those that share their funds, has been read or tried and is
    /// not due, or until the timeout. Divisions that are not requested are not waited for.
    pub async fn wait_until_settled(&self, divisions: &BTreeSet<Division>, timeout: Duration) {
        let settled = async {
            loop {
                let attempted = self.attempted.notified();
                tokio::pin!(attempted);
                // No notification is missed from here on.
                attempted.as_mut().enable();
                if self.state().settled(divisions, self.clock.now()) {
                    return;
                }
                attempted.await;
            }
        };
        tokio::select! {
            biased;
            () = settled => {}
            () = self.clock.sleep(timeout) => {}
        }
    }

    /// Marks an idle refresher as active before it wakes.
    fn wake(&self) {
        let mut activity = self.activity();
        if *activity == RefresherActivity::Idle {
            *activity = RefresherActivity::Waking;
            self.clock.set_background_active(true);
        }
    }

    /// Waits, as the idle refresher, until it is woken or `timeout` is over.
    async fn wait_idle(&self, timeout: Duration) {
        *self.activity() = RefresherActivity::Idle;
        tokio::select! {
            () = self.clock.sleep_idle(timeout) => {}
            () = self.requested.notified() => {}
        }
        let before = std::mem::replace(&mut *self.activity(), RefresherActivity::Working);
        if before == RefresherActivity::Waking {
            self.clock.set_background_active(false); // the end of `sleep_idle` has marked the refresher as active, too
        }
    }

    fn activity(&self) -> MutexGuard<'_, RefresherActivity> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, HistoryState> {
        // The state is consistent between any two of its own steps.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
