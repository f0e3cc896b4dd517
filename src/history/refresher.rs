//! The task that fills a shelf: one request at a time, of what is wanted and due, until it is told to stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;
use tokio::sync::watch;

use super::listing::Listing;
use super::{Cache, Shelf};
use super::{sharing, window};
use crate::certcentral::{BooksSource, OrderList, ReadError};
use crate::domain::{Division, Name, Time};
use crate::history::disk_worker::Disk;
use crate::history::refresh_state;
use crate::history::refresh_state::{Came, Next, Task};
use crate::util::clock::{Clock, Presence};

/// Nothing is wanted: a look at the clock now and then does no harm.
const REST: Duration = Duration::from_secs(24 * 3600);
/// An order's end can matter at least so many days ahead.
const LEAST_WATCHED: u64 = 30;
/// The longest window that is looked ahead.
const MOST_WATCHED: u64 = 400;
/// Ends are asked for so many days further: a listing is shown for up to three days after it was read, and the window goes on.
const IN_ADVANCE: u64 = 4;
/// Ends that were asked for are written to disk as soon as there are so many more, or a tenth of all where that is more.
const ENDS_SAVED: usize = 100;
/// Time that a keeper that is stopped has to write what it has asked for.
const LAST_SAVE: Duration = Duration::from_secs(2);

/// What to say where a search fails.
const NOT_FOUND_OUT: &str = "which divisions share a fund cannot be found out";

/// Reads one account's books.
pub struct Keeper {
    account: Name,
    source: Arc<dyn BooksSource>,
    shelf: Arc<Shelf>,
    clock: Arc<dyn Clock>,
    pub(super) disk: Disk,
    watched_days: u64,
    /// The cache could not be written, and that was told.
    unsaved: bool,
    /// Number of ends that were asked for and are not on disk.
    ends_unsaved: usize,
    /// Number of unsaved ends at which all are written.
    ends_due: usize,
    ends_fail: bool,
    _presence: Presence,
}

impl Keeper {
    /// `account` is its name in the log; `watched_days` the longest window that rules look ahead; without a `cache` every
    /// start reads the whole ledger.
    pub fn new(
        account: Name,
        source: Arc<dyn BooksSource>,
        shelf: Arc<Shelf>,
        clock: Arc<dyn Clock>,
        cache: Option<Cache>,
        watched_days: u64,
    ) -> Self {
        let presence = Presence::of(&clock);
        Self {
            disk: Disk::new(account.clone(), cache),
            account,
            source,
            shelf,
            clock,
            watched_days: watched_days.clamp(LEAST_WATCHED, MOST_WATCHED) + IN_ADVANCE,
            unsaved: false,
            ends_unsaved: 0,
            ends_due: ENDS_SAVED,
            ends_fail: false,
            _presence: presence,
        }
    }

    /// Runs until `stopped` says `true` or its sender is gone. A request under way is abandoned then; what was answered of a
    /// listing that is not finished is kept for the next start.
    pub async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        tokio::select! {
            () = self.work() => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        if self.ends_unsaved > 0 {
            let _ = tokio::time::timeout(LAST_SAVE, self.save_ends()).await; // they are asked for again
        }
    }

    async fn work(&mut self) {
        loop {
            let now = self.clock.now();
            let next = self.shelf.memory().next(now, self.watched_days);
            match next {
                Next::Do(task) => self.perform(task, now).await,
                Next::At(at) => {
                    let pause = (at - now).to_std().unwrap_or_default().max(Duration::from_millis(1));
                    self.shelf.doze(pause).await;
                }
                Next::Rest => self.shelf.doze(REST).await,
            }
            self.publish().await;
            self.shelf.tried.notify_waiters();
        }
    }

    async fn perform(&mut self, task: Task, now: Time) {
        match task {
            Task::LoadLedger(division) => {
                let cached = self.disk.run(move |cache| cache.ledger(division)).await.flatten();
                self.shelf.memory().loaded_ledger(division, cached, now);
            }
            Task::LoadOrders => {
                let cached = self.disk.run(|cache| (cache.orders(), cache.asked_ends())).await;
                let (orders, asked) = cached.unwrap_or_default();
                let (orders, mut ends) = orders.map_or_else(Default::default, |(orders, ends, read)| {
                    (Some((Listing::new(&orders, &ends), read)), ends)
                });
                ends.extend(asked);
                self.shelf.memory().loaded_orders(orders, ends, now, self.watched_days);
            }
            Task::Forget(division) => {
                self.disk.run(move |cache| cache.forget(division)).await;
            }
            Task::Sharing { watched, search, only_failed } => {
                let found = sharing::go_on(self.source.as_ref(), &watched, search, only_failed).await;
                let now = self.clock.now();
                match found {
                    Ok(search) => {
                        let others: usize = search.funds.iter().map(|fund| fund.others.len()).sum();
                        let (failed, complete) = (search.failed.len(), search.complete);
                        tracing::debug!(account = %self.account, others, failed, complete, "divisions that share the funds of those that are watched");
                        let interrupted = search.interrupted.clone();
                        let told = self.shelf.memory().read_sharing(search, only_failed, now);
                        if let Some(error) = interrupted {
                            self.tell(told, NOT_FOUND_OUT, None, &error);
                        }
                    }
                    Err(error) => {
                        let told = self.shelf.memory().fail_sharing(error.clone(), now);
                        self.tell(told, NOT_FOUND_OUT, None, &error);
                    }
                }
            }
            Task::Ledger { division, since } => self.ledger(division, since, now).await,
            Task::Orders { from, to } => self.orders(from, to, now).await,
            Task::End { order, certificate_ends } => {
                let read = self.source.order_end(order).await;
                match read {
                    Ok(end) => {
                        self.shelf.memory().read_end(order, certificate_ends, end);
                        self.ends_unsaved += 1;
                        if self.ends_unsaved >= self.ends_due {
                            self.save_ends().await;
                        }
                    }
                    Err(error) => {
                        self.shelf.memory().fail_end(error.clone());
                        let told = std::mem::replace(&mut self.ends_fail, true);
                        self.tell(told, "the end of an order cannot be read", None, &error);
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
                let told = self.shelf.memory().fail_ledger(division, error.clone(), self.clock.now());
                return self.tell(told || self.is_asked_once(), "ledger cannot be read", division, &error);
            }
        };
        let (entries, duration_ms) = (lines.len(), self.since(began));
        // Put together while the shelf is free for others. The clock may have been set meanwhile: the days are those that
        // were asked for.
        let before = self.shelf.memory().ledger(division);
        let merged = refresh_state::merge(before.as_ref(), lines, began);
        let Some((came, save)) = self.shelf.memory().read_ledger(division, merged, began) else { return };
        let account = &self.account;
        match came {
            Came::First => tracing::info!(%account, division, entries, duration_ms, "ledger read"),
            Came::More => tracing::debug!(%account, division, entries, duration_ms, "ledger read"),
            Came::Broken => {
                tracing::info!(%account, division, "ledger does not go on where it ended before: it is read as a whole");
            }
        }
        if let Some(ledger) = save
            && !self.save(move |cache| cache.save_ledger(division, &ledger, began)).await
        {
            self.shelf.memory().ledger_not_saved(division);
        }
    }

    async fn orders(&self, from: NaiveDate, to: NaiveDate, began: Time) {
        let read = self.source.orders(from, to).await;
        let OrderList { orders: listed, undocumented } = match read {
            Ok(list) => list,
            Err(error) => {
                let told = self.shelf.memory().fail_orders(error.clone(), self.clock.now());
                return self.tell(told || self.is_asked_once(), "orders cannot be read", None, &error);
            }
        };
        let (orders, duration_ms) = (listed.len(), self.since(began));
        tracing::debug!(account = %self.account, orders, since = %from, duration_ms, "orders read");
        self.tell_undocumented(&undocumented);
        // Put together while the shelf is free for others.
        let before = self.shelf.memory().known_orders().unwrap_or_default();
        let merged = window::merge(&before, listed, from, began.date_naive());
        self.shelf.memory().read_orders(merged.into(), began, self.watched_days);
    }

    /// Shows the orders once nothing that matters of them is left to be asked.
    async fn publish(&mut self) {
        let now = self.clock.now();
        let Some(finished) = self.shelf.memory().finished() else { return };
        // Put together while the shelf is free for others.
        let built = finished.build();
        let (orders, save) = self.shelf.memory().publish(built, now);
        tracing::info!(account = %self.account, orders, "orders are known");
        self.ends_fail = false;
        if let Some((orders, ends, read)) = save {
            let more = ends_between_saves(ends.len());
            let saved = self.save(move |cache| {
                cache.save_orders(&orders, &ends, read)?;
                cache.forget_asked_ends();
                Ok(())
            });
            if saved.await {
                (self.ends_unsaved, self.ends_due) = (0, more);
            } else {
                self.shelf.memory().orders_not_saved();
            }
        }
    }

    /// Keeps what was asked for: an account with very many such orders, restarted often, would never have asked for all.
    async fn save_ends(&mut self) {
        let (ends, now) = (self.shelf.memory().ends(), self.clock.now());
        let more = ends_between_saves(ends.len());
        if self.save(move |cache| cache.save_asked_ends(&ends, now)).await {
            self.ends_unsaved = 0;
        }
        self.ends_due = self.ends_unsaved + more;
    }

    /// Orders that are missing from every figure are told where they are news.
    fn tell_undocumented(&self, undocumented: &BTreeMap<String, usize>) {
        if undocumented.is_empty() {
            return;
        }
        let account = &self.account;
        let orders: usize = undocumented.values().sum();
        let statuses =
            undocumented.iter().map(|(what, orders)| format!("{what}: {orders}")).collect::<Vec<_>>().join(", ");
        if self.shelf.memory().meets(undocumented) {
            tracing::warn!(%account, orders, statuses, "orders have a status that is not documented: they are left out, so renewals may cost more than is said");
        } else {
            tracing::debug!(%account, orders, statuses, "orders have a status that is not documented: they are left out");
        }
    }

    fn since(&self, began: Time) -> i64 {
        (self.clock.now() - began).num_milliseconds()
    }

    /// Whether this is a command that reads once: nothing was read before, and its answer says what is missing.
    fn is_asked_once(&self) -> bool {
        !self.disk.has_cache()
    }

    /// A failure is told once for as long as it stays the same.
    fn tell(&self, told: bool, what: &str, division: Division, error: &ReadError) {
        let account = &self.account;
        if told {
            tracing::debug!(%account, division, reason = %error.reason, "{what}");
        } else if self.is_asked_once() {
            tracing::warn!(%account, division, reason = %error.reason, "{what}");
        } else {
            tracing::warn!(%account, division, reason = %error.reason, "{what}: what was read before is used while it is fresh");
        }
    }

    /// Writes into the cache, and returns whether that was done. A cache that cannot be written costs time at the next start
    /// and nothing else.
    async fn save(&mut self, save: impl FnOnce(&Cache) -> std::io::Result<()> + Send + 'static) -> bool {
        let done = self.disk.run(save).await;
        match &done {
            Some(Err(error)) if !std::mem::replace(&mut self.unsaved, true) => {
                tracing::info!(account = %self.account, %error, "books are not kept on disk: the next start reads them as a whole");
            }
            Some(Ok(())) => self.unsaved = false,
            _ => {}
        }
        matches!(done, Some(Ok(())))
    }
}

/// Number of new ends after which all are written again. It grows with them: each time costs as much as there are.
fn ends_between_saves(known: usize) -> usize {
    ENDS_SAVED.max(known / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_thousand_ends_are_written_less_than_a_hundred_times() {
        let (mut saved, mut saves) = (0, 0);
        while saved < 100_000 {
            let more = ends_between_saves(saved);
            assert!(more == 100 || more <= saved / 10, "{more} behind {saved}");
            (saved, saves) = (saved + more, saves + 1);
        }
        assert!(saves < 100, "{saves}");
    }
}
