//! The task that fills a [`HistoryCache`]. It sends one request at a time for what is requested and due, until it is
//! stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;
use tokio_util::sync::CancellationToken;

use super::disk_worker::DiskCacheWorker;
use super::listing::OrderListing;
use super::refresh_state::{self, LedgerUpdate, NextStep, RefreshTask};
use super::sharing::{self, SharingSearch};
use super::{DiskCache, HistoryCache, window};
use crate::certcentral::{HistorySource, OrderList, ReadError};
use crate::domain::{Division, Name, Time};
use crate::util::clock::{BackgroundActivity, Clock};

/// Longest wait while no history is requested.
const IDLE_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// Least number of days ahead for which order ends matter.
const MIN_WATCHED_DAYS: u64 = 30;
/// Largest number of days ahead for which order ends matter.
const MAX_WATCHED_DAYS: u64 = 400;
/// Number of further days for which order ends are read, since a listing is used for three days and the window moves on
/// meanwhile.
const EXTRA_WATCHED_DAYS: u64 = 4;
/// Number of new order ends after which all are saved, or a tenth of all if that is more.
const MIN_ENDS_PER_SAVE: usize = 100;
/// Time limit for the last save of a refresher that is stopped.
const FINAL_SAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Log message of a failed search for shared funds.
const SHARING_UNKNOWN: &str = "cannot determine which divisions share a fund";

/// A task that keeps the history of one account up to date.
pub struct Refresher {
    account: Name,
    source: Arc<dyn HistorySource>,
    history: Arc<HistoryCache>,
    clock: Arc<dyn Clock>,
    pub(super) disk: DiskCacheWorker,
    watched_days: u64,
    /// True after a failed save was logged.
    save_failure_logged: bool,
    /// Number of order ends that were read and are not on disk.
    ends_unsaved: usize,
    /// Number of unsaved ends at which all are saved.
    ends_due: usize,
    ends_failure_logged: bool,
    _presence: BackgroundActivity,
}

impl Refresher {
    /// Returns a refresher for the account with this name. `watched_days` is the longest time that rules look ahead.
    /// Without a `cache`, every start reads the whole history.
    pub fn new(
        account: Name,
        source: Arc<dyn HistorySource>,
        history: Arc<HistoryCache>,
        clock: Arc<dyn Clock>,
        cache: Option<DiskCache>,
        watched_days: u64,
    ) -> Self {
        let presence = BackgroundActivity::begin(&clock);
        Self {
            disk: DiskCacheWorker::new(account.clone(), cache),
            account,
            source,
            history,
            clock,
            watched_days: watched_days.clamp(MIN_WATCHED_DAYS, MAX_WATCHED_DAYS) + EXTRA_WATCHED_DAYS,
            save_failure_logged: false,
            ends_unsaved: 0,
            ends_due: MIN_ENDS_PER_SAVE,
            ends_failure_logged: false,
            _presence: presence,
        }
    }

    /// Runs until `shutdown` is cancelled. The request in progress is abandoned; order ends read so
    /// far are saved for the next start.
    pub async fn run(mut self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.work()).await;
        if self.ends_unsaved > 0 {
            let _ = tokio::time::timeout(FINAL_SAVE_TIMEOUT, self.save_ends()).await; // unsaved ends are read again
        }
    }

    async fn work(&mut self) {
        loop {
            let now = self.clock.now();
            let next = self.history.state().next(now, self.watched_days);
            match next {
                NextStep::Run(task) => self.perform(task, now).await,
                NextStep::WaitUntil(at) => {
                    let pause = (at - now).to_std().unwrap_or_default().max(Duration::from_millis(1));
                    self.history.wait_idle(pause).await;
                }
                NextStep::Idle => self.history.wait_idle(IDLE_INTERVAL).await,
            }
            self.publish().await;
            self.history.attempted.notify_waiters();
        }
    }

    async fn perform(&mut self, task: RefreshTask, now: Time) {
        match task {
            RefreshTask::LoadLedger(division) => {
                let cached = self.disk.run(move |cache| cache.ledger(division)).await.flatten();
                self.history.state().loaded_ledger(division, cached, now);
            }
            RefreshTask::LoadOrders => self.load_orders(now).await,
            RefreshTask::DeleteLedger(division) => {
                self.disk.run(move |cache| cache.remove_ledger(division)).await;
            }
            RefreshTask::Sharing { watched, search, only_failed } => {
                self.search_sharing(&watched, search, only_failed).await;
            }
            RefreshTask::Ledger { division, since } => self.read_ledger(division, since, now).await,
            RefreshTask::Orders { from, to } => self.list_orders(from, to, now).await,
            RefreshTask::OrderEnd { order, certificate_ends } => self.read_order_end(order, certificate_ends).await,
        }
    }

    async fn load_orders(&mut self, now: Time) {
        let cached = self.disk.run(|cache| (cache.orders(), cache.requested_ends())).await;
        let (orders, requested) = cached.unwrap_or_default();
        let (orders, mut ends) = orders.map_or_else(Default::default, |(orders, ends, read)| {
            (Some((OrderListing::new(&orders, &ends), read)), ends)
        });
        ends.extend(requested);
        self.history.state().loaded_orders(orders, ends, now, self.watched_days);
    }

    async fn search_sharing(&self, watched: &BTreeSet<u64>, search: SharingSearch, only_failed: bool) {
        let result = sharing::search_round(self.source.as_ref(), watched, search, only_failed).await;
        let now = self.clock.now();
        match result {
            Ok(search) => {
                let others: usize = search.funds.iter().map(|fund| fund.others.len()).sum();
                let (failed, complete) = (search.failed.len(), search.complete);
                tracing::debug!(account = %self.account, others, failed, complete, "unwatched divisions that share a watched fund");
                let interrupted = search.interrupted.clone();
                let already_logged = self.history.state().read_sharing(search, only_failed, now);
                if let Some(error) = interrupted {
                    self.log_failure(already_logged, SHARING_UNKNOWN, None, &error);
                }
            }
            Err(error) => {
                let already_logged = self.history.state().fail_sharing(error.clone(), now);
                self.log_failure(already_logged, SHARING_UNKNOWN, None, &error);
            }
        }
    }

    async fn read_order_end(&mut self, order: u64, certificate_ends: NaiveDate) {
        let result = self.source.order_end(order).await;
        match result {
            Ok(end) => {
                self.history.state().read_end(order, certificate_ends, end);
                self.ends_unsaved += 1;
                if self.ends_unsaved >= self.ends_due {
                    self.save_ends().await;
                }
            }
            Err(error) => {
                self.history.state().fail_end(error.clone());
                let already_logged = std::mem::replace(&mut self.ends_failure_logged, true);
                self.log_failure(already_logged, "the end of an order cannot be read", None, &error);
            }
        }
    }

    async fn read_ledger(&mut self, division: Division, since: NaiveDate, began: Time) {
        let result = self.source.ledger(division, Some(since)).await;
        let read = match result {
            Ok(entries) => entries,
            Err(error) => {
                let already_logged = self.history.state().fail_ledger(division, error.clone(), self.clock.now());
                return self.log_failure(already_logged || self.runs_once(), "ledger cannot be read", division, &error);
            }
        };
        let (entries, duration_ms) = (read.len(), self.milliseconds_since(began));
        // The merge holds no lock. Its days are those of the request, since the clock may have been set meanwhile.
        let before = self.history.state().ledger(division);
        let merged = refresh_state::merge(before.as_ref(), read, began);
        let Some((update, save)) = self.history.state().read_ledger(division, merged, began) else { return };
        let account = &self.account;
        match update {
            LedgerUpdate::First => tracing::info!(%account, division, entries, duration_ms, "ledger read"),
            LedgerUpdate::Extended => tracing::debug!(%account, division, entries, duration_ms, "ledger read"),
            LedgerUpdate::Discontinuous => {
                tracing::info!(%account, division, "ledger does not continue where it ended, reading all of it");
            }
        }
        if let Some(ledger) = save
            && !self.save(move |cache| cache.save_ledger(division, &ledger, began)).await
        {
            self.history.state().ledger_not_saved(division);
        }
    }

    async fn list_orders(&self, from: NaiveDate, to: NaiveDate, began: Time) {
        let result = self.source.orders(from, to).await;
        let OrderList { orders: listed, undocumented } = match result {
            Ok(list) => list,
            Err(error) => {
                let already_logged = self.history.state().fail_orders(error.clone(), self.clock.now());
                return self.log_failure(already_logged || self.runs_once(), "orders cannot be read", None, &error);
            }
        };
        let (orders, duration_ms) = (listed.len(), self.milliseconds_since(began));
        tracing::debug!(account = %self.account, orders, since = %from, duration_ms, "orders listed");
        self.log_undocumented(&undocumented);
        // The merge holds no lock.
        let before = self.history.state().known_orders().unwrap_or_default();
        let merged = window::merge(&before, listed, from, began.date_naive());
        self.history.state().read_orders(merged.into(), began, self.watched_days);
    }

    /// Publishes the orders of a draft that is complete, and saves them.
    async fn publish(&mut self) {
        let now = self.clock.now();
        let Some(draft) = self.history.state().take_complete_draft() else { return };
        // Building holds no lock.
        let built = draft.build();
        let (orders, save) = self.history.state().publish(built, now);
        tracing::info!(account = %self.account, orders, "orders read");
        self.ends_failure_logged = false;
        if let Some((orders, ends, read)) = save {
            let ends_due = ends_between_saves(ends.len());
            let saved = self.save(move |cache| {
                cache.save_orders(&orders, &ends, read)?;
                cache.remove_requested_ends();
                Ok(())
            });
            if saved.await {
                (self.ends_unsaved, self.ends_due) = (0, ends_due);
            } else {
                self.history.state().orders_not_saved();
            }
        }
    }

    /// Saves the ends read so far, so that an account with very many orders completes its listing even if restarts are
    /// frequent.
    async fn save_ends(&mut self) {
        let (ends, now) = (self.history.state().ends(), self.clock.now());
        let until_next_save = ends_between_saves(ends.len());
        if self.save(move |cache| cache.save_requested_ends(&ends, now)).await {
            self.ends_unsaved = 0;
        }
        self.ends_due = self.ends_unsaved + until_next_save;
    }

    /// Logs orders that every figure lacks, as a warning if their status is new.
    fn log_undocumented(&self, undocumented: &BTreeMap<String, usize>) {
        if undocumented.is_empty() {
            return;
        }
        let account = &self.account;
        let orders: usize = undocumented.values().sum();
        let statuses =
            undocumented.iter().map(|(status, orders)| format!("{status}: {orders}")).collect::<Vec<_>>().join(", ");
        if self.history.state().has_new_status(undocumented) {
            tracing::warn!(%account, orders, statuses, "orders with undocumented statuses are ignored, renewals may cost more than forecast");
        } else {
            tracing::debug!(%account, orders, statuses, "orders with undocumented statuses are ignored");
        }
    }

    fn milliseconds_since(&self, began: Time) -> i64 {
        (self.clock.now() - began).num_milliseconds()
    }

    /// Returns whether a command reads the history once. Such a command has no cache, and its output says what is
    /// missing.
    fn runs_once(&self) -> bool {
        !self.disk.has_cache()
    }

    /// Logs a failure as a warning, or at debug level if it is `already_logged`.
    fn log_failure(&self, already_logged: bool, what: &str, division: Division, error: &ReadError) {
        let account = &self.account;
        if already_logged {
            tracing::debug!(%account, division, reason = %error.reason, "{what}");
        } else if self.runs_once() {
            tracing::warn!(%account, division, reason = %error.reason, "{what}");
        } else {
            tracing::warn!(%account, division, reason = %error.reason, "{what}: earlier data is used while it is fresh");
        }
    }

    /// Writes to the disk cache, and returns whether that succeeded. A failure only makes the next start slower.
    async fn save(&mut self, save: impl FnOnce(&DiskCache) -> std::io::Result<()> + Send + 'static) -> bool {
        let result = self.disk.run(save).await;
        match &result {
            Some(Err(error)) if !std::mem::replace(&mut self.save_failure_logged, true) => {
                tracing::info!(account = %self.account, %error, "cannot write the history cache: the next start reads the whole history");
            }
            Some(Ok(())) => self.save_failure_logged = false,
            _ => {}
        }
        matches!(result, Some(Ok(())))
    }
}

/// Returns the number of new ends after which all are saved. It grows with the known ends, since each save writes all
/// of them.
fn ends_between_saves(known: usize) -> usize {
    MIN_ENDS_PER_SAVE.max(known / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_ends_are_saved_in_few_writes() {
        let (mut saved, mut saves) = (0, 0);
        while saved < 100_000 {
            let more = ends_between_saves(saved);
            assert!(more == 100 || more <= saved / 10, "{more} after {saved}");
            (saved, saves) = (saved + more, saves + 1);
        }
        assert!(saves < 100, "{saves}");
    }
}
