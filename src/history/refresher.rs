//! The task that fills a shelf: one request at a time, of what is wanted and due, until it is told to stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;
use tokio_util::sync::CancellationToken;

use super::listing::OrderListing;
use super::{DiskCache, HistoryCache};
use super::{sharing, window};
use crate::certcentral::{HistorySource, OrderList, ReadError};
use crate::domain::{Division, Name, Time};
use crate::history::disk_worker::DiskCacheWorker;
use crate::history::refresh_state;
use crate::history::refresh_state::{LedgerUpdate, NextStep, RefreshTask};
use crate::util::clock::{BackgroundActivity, Clock};

/// Nothing is wanted: a look at the clock now and then does no harm.
const IDLE_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// An order's end can matter at least so many days ahead.
const MIN_WATCHED_DAYS: u64 = 30;
/// The longest window that is looked ahead.
const MAX_WATCHED_DAYS: u64 = 400;
/// Ends are asked for so many days further: a listing is shown for up to three days after it was read, and the window goes on.
const EXTRA_WATCHED_DAYS: u64 = 4;
/// Ends that were asked for are written to disk as soon as there are so many more, or a tenth of all where that is more.
const MIN_ENDS_PER_SAVE: usize = 100;
/// Time that a keeper that is stopped has to write what it has asked for.
const FINAL_SAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// What to say where a search fails.
const SHARING_UNKNOWN: &str = "which divisions share a fund cannot be found out";

/// Reads one account's books.
pub struct Refresher {
    account: Name,
    source: Arc<dyn HistorySource>,
    history: Arc<HistoryCache>,
    clock: Arc<dyn Clock>,
    pub(super) disk: DiskCacheWorker,
    watched_days: u64,
    /// The cache could not be written, and that was told.
    save_failure_logged: bool,
    /// Number of ends that were asked for and are not on disk.
    ends_unsaved: usize,
    /// Number of unsaved ends at which all are written.
    ends_due: usize,
    ends_failure_logged: bool,
    _presence: BackgroundActivity,
}

impl Refresher {
    /// `account` is its name in the log; `watched_days` the longest window that rules look ahead; without a `cache` every
    /// start reads the whole ledger.
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
            history: history,
            clock,
            watched_days: watched_days.clamp(MIN_WATCHED_DAYS, MAX_WATCHED_DAYS) + EXTRA_WATCHED_DAYS,
            save_failure_logged: false,
            ends_unsaved: 0,
            ends_due: MIN_ENDS_PER_SAVE,
            ends_failure_logged: false,
            _presence: presence,
        }
    }

    /// Runs until `shutdown` is cancelled. A request under way is abandoned then; what was answered of a
    /// listing that is not finished is kept for the next start.
    pub async fn run(mut self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.work()).await;
        if self.ends_unsaved > 0 {
            let _ = tokio::time::timeout(FINAL_SAVE_TIMEOUT, self.save_ends()).await; // they are asked for again
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
            RefreshTask::LoadOrders => {
                let cached = self.disk.run(|cache| (cache.orders(), cache.requested_ends())).await;
                let (orders, requested) = cached.unwrap_or_default();
                let (orders, mut ends) = orders.map_or_else(Default::default, |(orders, ends, read)| {
                    (Some((OrderListing::new(&orders, &ends), read)), ends)
                });
                ends.extend(requested);
                self.history.state().loaded_orders(orders, ends, now, self.watched_days);
            }
            RefreshTask::Forget(division) => {
                self.disk.run(move |cache| cache.remove_ledger(division)).await;
            }
            RefreshTask::Sharing { watched, search, only_failed } => {
                let found = sharing::search_round(self.source.as_ref(), &watched, search, only_failed).await;
                let now = self.clock.now();
                match found {
                    Ok(search) => {
                        let others: usize = search.funds.iter().map(|fund| fund.others.len()).sum();
                        let (failed, complete) = (search.failed.len(), search.complete);
                        tracing::debug!(account = %self.account, others, failed, complete, "divisions that share the funds of those that are watched");
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
            RefreshTask::Ledger { division, since } => self.ledger(division, since, now).await,
            RefreshTask::Orders { from, to } => self.orders(from, to, now).await,
            RefreshTask::End { order, certificate_ends } => {
                let read = self.source.order_end(order).await;
                match read {
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
        }
    }

    async fn ledger(&mut self, division: Division, since: NaiveDate, began: Time) {
        let read = self.source.ledger(division, Some(since)).await;
        let lines = match read {
            Ok(lines) => lines,
            Err(error) => {
                let already_logged = self.history.state().fail_ledger(division, error.clone(), self.clock.now());
                return self.log_failure(already_logged || self.runs_once(), "ledger cannot be read", division, &error);
            }
        };
        let (entries, duration_ms) = (lines.len(), self.since(began));
        // Put together while the shelf is free for others. The clock may have been set meanwhile: the days are those that
        // were asked for.
        let before = self.history.state().ledger(division);
        let merged = refresh_state::merge(before.as_ref(), lines, began);
        let Some((update, save)) = self.history.state().read_ledger(division, merged, began) else { return };
        let account = &self.account;
        match update {
            LedgerUpdate::First => tracing::info!(%account, division, entries, duration_ms, "ledger read"),
            LedgerUpdate::Extended => tracing::debug!(%account, division, entries, duration_ms, "ledger read"),
            LedgerUpdate::Discontinuous => {
                tracing::info!(%account, division, "ledger does not go on where it ended before: it is read as a whole");
            }
        }
        if let Some(ledger) = save
            && !self.save(move |cache| cache.save_ledger(division, &ledger, began)).await
        {
            self.history.state().ledger_not_saved(division);
        }
    }

    async fn orders(&self, from: NaiveDate, to: NaiveDate, began: Time) {
        let read = self.source.orders(from, to).await;
        let OrderList { orders: listed, undocumented } = match read {
            Ok(list) => list,
            Err(error) => {
                let already_logged = self.history.state().fail_orders(error.clone(), self.clock.now());
                return self.log_failure(already_logged || self.runs_once(), "orders cannot be read", None, &error);
            }
        };
        let (orders, duration_ms) = (listed.len(), self.since(began));
        tracing::debug!(account = %self.account, orders, since = %from, duration_ms, "orders read");
        self.log_undocumented(&undocumented);
        // Put together while the shelf is free for others.
        let before = self.history.state().known_orders().unwrap_or_default();
        let merged = window::merge(&before, listed, from, began.date_naive());
        self.history.state().read_orders(merged.into(), began, self.watched_days);
    }

    /// Shows the orders once nothing that matters of them is left to be asked.
    async fn publish(&mut self) {
        let now = self.clock.now();
        let Some(finished) = self.history.state().finished() else { return };
        // Put together while the shelf is free for others.
        let built = finished.build();
        let (orders, save) = self.history.state().publish(built, now);
        tracing::info!(account = %self.account, orders, "orders are known");
        self.ends_failure_logged = false;
        if let Some((orders, ends, read)) = save {
            let more = ends_between_saves(ends.len());
            let saved = self.save(move |cache| {
                cache.save_orders(&orders, &ends, read)?;
                cache.remove_requested_ends();
                Ok(())
            });
            if saved.await {
                (self.ends_unsaved, self.ends_due) = (0, more);
            } else {
                self.history.state().orders_not_saved();
            }
        }
    }

    /// Keeps what was asked for: an account with very many such orders, restarted often, would never have asked for all.
    async fn save_ends(&mut self) {
        let (ends, now) = (self.history.state().ends(), self.clock.now());
        let more = ends_between_saves(ends.len());
        if self.save(move |cache| cache.save_requested_ends(&ends, now)).await {
            self.ends_unsaved = 0;
        }
        self.ends_due = self.ends_unsaved + more;
    }

    /// Orders that are missing from every figure are told where they are news.
    fn log_undocumented(&self, undocumented: &BTreeMap<String, usize>) {
        if undocumented.is_empty() {
            return;
        }
        let account = &self.account;
        let orders: usize = undocumented.values().sum();
        let statuses =
            undocumented.iter().map(|(what, orders)| format!("{what}: {orders}")).collect::<Vec<_>>().join(", ");
        if self.history.state().has_new_status(undocumented) {
            tracing::warn!(%account, orders, statuses, "orders have a status that is not documented: they are left out, so renewals may cost more than is said");
        } else {
            tracing::debug!(%account, orders, statuses, "orders have a status that is not documented: they are left out");
        }
    }

    fn since(&self, began: Time) -> i64 {
        (self.clock.now() - began).num_milliseconds()
    }

    /// Whether this is a command that reads once: nothing was read before, and its answer says what is missing.
    fn runs_once(&self) -> bool {
        !self.disk.has_cache()
    }

    /// A failure is told once for as long as it stays the same.
    fn log_failure(&self, already_logged: bool, what: &str, division: Division, error: &ReadError) {
        let account = &self.account;
        if already_logged {
            tracing::debug!(%account, division, reason = %error.reason, "{what}");
        } else if self.runs_once() {
            tracing::warn!(%account, division, reason = %error.reason, "{what}");
        } else {
            tracing::warn!(%account, division, reason = %error.reason, "{what}: what was read before is used while it is fresh");
        }
    }

    /// Writes into the cache, and returns whether that was done. A cache that cannot be written costs time at the next start
    /// and nothing else.
    async fn save(&mut self, save: impl FnOnce(&DiskCache) -> std::io::Result<()> + Send + 'static) -> bool {
        let done = self.disk.run(save).await;
        match &done {
            Some(Err(error)) if !std::mem::replace(&mut self.save_failure_logged, true) => {
                tracing::info!(account = %self.account, %error, "books are not kept on disk: the next start reads them as a whole");
            }
            Some(Ok(())) => self.save_failure_logged = false,
            _ => {}
        }
        matches!(done, Some(Ok(())))
    }
}

/// Number of new ends after which all are written again. It grows with them: each time costs as much as there are.
fn ends_between_saves(known: usize) -> usize {
    MIN_ENDS_PER_SAVE.max(known / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saving_many_ends_takes_few_writes() {
        let (mut saved, mut saves) = (0, 0);
        while saved < 100_000 {
            let more = ends_between_saves(saved);
            assert!(more == 100 || more <= saved / 10, "{more} behind {saved}");
            (saved, saves) = (saved + more, saves + 1);
        }
        assert!(saves < 100, "{saves}");
    }
}
