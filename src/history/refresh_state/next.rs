//! Decides the next step of the refresher.

use std::collections::BTreeSet;

use chrono::{Days, NaiveDate, TimeDelta};

use super::super::listing::ListingDraft;
use super::super::part::RETRY_INTERVAL;
use super::super::sharing::SharingSearch;
use super::super::window;
use super::{HistoryState, LEDGER_INTERVAL, ORDERS_INTERVAL, ORDERS_MAX_AGE, RetiredLedger, last_day};
use crate::domain::{Division, Time};

/// Pause of all requests while the server is unavailable.
pub(super) const OUTAGE_PAUSE: TimeDelta = TimeDelta::minutes(5);
/// Number of days that a read of new entries overlaps the known ones, since the time zone of date filters is not
/// documented.
pub(super) const OVERLAP_DAYS: u64 = 1;
/// Time for which the ledger of a division that is no longer requested stays in memory, so that occasional requests do
/// not read the whole ledger.
const RETIRED_LEDGER_MAX_AGE: TimeDelta = TimeDelta::days(1);
/// Time for which the ledger of a division that is no longer requested stays on disk.
const RETIRED_FILE_MAX_AGE: TimeDelta = TimeDelta::days(30);

/// The next step of the refresher.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum NextStep {
    /// A task is due.
    Run(RefreshTask),
    /// No task is due before this time.
    WaitUntil(Time),
    /// No task is due until a division is requested.
    Idle,
}

/// A task of the refresher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum RefreshTask {
    /// Load a ledger from the disk cache.
    LoadLedger(Division),
    /// Load the orders and their ends from the disk cache.
    LoadOrders,
    /// Delete the cached ledger of a division that is no longer requested.
    DeleteLedger(Division),
    /// Read the entries of a ledger from the day `since` on.
    Ledger { division: Division, since: NaiveDate },
    /// List the orders whose certificates end within these days.
    Orders { from: NaiveDate, to: NaiveDate },
    /// Search one more round for unwatched divisions that share a fund.
    Sharing { watched: BTreeSet<u64>, search: SharingSearch, only_failed: bool },
    /// Read the end of an order.
    OrderEnd { order: u64, certificate_ends: NaiveDate },
}

impl HistoryState {
    /// Returns the next step at `now`. The ends of certificates matter up to `watched_days` ahead.
    pub(in super::super) fn next(&mut self, now: Time, watched_days: u64) -> NextStep {
        self.orders.drop_if_ahead(now);
        self.ledgers.values_mut().for_each(|part| part.drop_if_ahead(now));
        if let Some(division) = self.drop_retired(now) {
            return NextStep::Run(RefreshTask::DeleteLedger(division));
        }
        if self.ledgers.is_empty() {
            return NextStep::Idle;
        }
        if !self.orders.loaded {
            return NextStep::Run(RefreshTask::LoadOrders);
        }
        if let Some(division) = self.ledgers.iter().find(|(_, part)| !part.loaded).map(|(division, _)| *division) {
            return NextStep::Run(RefreshTask::LoadLedger(division));
        }
        if let Some(until) = self.paused.filter(|until| *until > now && *until - now <= OUTAGE_PAUSE) {
            return NextStep::WaitUntil(until);
        }
        self.due(now, watched_days).map_or_else(|| self.earliest(now), NextStep::Run)
    }

    /// Returns the first task that is due: of the ledgers the one that has waited longest, then the search for shared
    /// funds, then a new listing, and then the missing ends of the listing at hand.
    fn due(&mut self, now: Time, watched_days: u64) -> Option<RefreshTask> {
        let due = self.ledgers.iter().filter(|(_, part)| part.is_due(now, LEDGER_INTERVAL));
        if let Some((division, part)) = due.min_by_key(|(_, part)| part.due) {
            let newest = part.known.as_ref().and_then(|(ledger, _)| ledger.entries().last());
            let since = newest.map_or(window::oldest_entry(now.date_naive()), |entry| {
                entry.at.date_naive() - Days::new(OVERLAP_DAYS)
            });
            return Some(RefreshTask::Ledger {
                division: *division,
                since: since.max(window::oldest_entry(now.date_naive())),
            });
        }
        if !self.watched.funds.is_empty() && self.sharing.is_due(now, LEDGER_INTERVAL) {
            return Some(self.search_round(now));
        }
        if self.draft.is_none() {
            if self.orders.is_due(now, ORDERS_INTERVAL) {
                let (from, to) = (self.listing_start(now), window::last_certificate_end(now.date_naive()));
                return Some(RefreshTask::Orders { from, to });
            }
            self.retry_ends(now, watched_days);
        }
        let (order, certificate_ends) = self.draft.as_ref()?.next()?;
        Some(RefreshTask::OrderEnd { order, certificate_ends })
    }

    /// Returns the day from which the orders have to be listed. If the known orders are unverified, all orders are
    /// listed.
    fn listing_start(&self, now: Time) -> NaiveDate {
        let known = self.orders.known.as_ref().filter(|_| !self.orders.unverified);
        let known = known.map(|(listing, read)| (&*listing.all, read.date_naive()));
        window::listing_start(known, now.date_naive())
    }

    /// Returns the next round of the search: hourly the divisions that come next, and otherwise those that could not be
    /// read.
    fn search_round(&mut self, now: Time) -> RefreshTask {
        let continues = self.search.due.is_none_or(|due| due <= now || due - now > LEDGER_INTERVAL);
        let only_failed = !continues && !self.search.failed.is_empty();
        if self.search.complete && !only_failed {
            let known = self.sharing_known().to_vec();
            self.search.set_funds(&self.watched.funds, &known);
        }
        RefreshTask::Sharing { watched: self.watched.divisions.clone(), search: self.search.clone(), only_failed }
    }

    /// Requests ends that the published listing lacks: ends that matter now that days have passed, and ends that
    /// failed.
    pub(super) fn retry_ends(&mut self, now: Time, watched_days: u64) {
        let until = last_day(now, watched_days);
        let further = self.ends_until.is_none_or(|before| before < until);
        let again = self.ends_due.is_some_and(|due| due <= now || due - now > RETRY_INTERVAL);
        if !further && !again {
            return;
        }
        // Without a fresh listing, the next listing requests the ends. A due time in the past would wake the refresher
        // forever.
        self.ends_due = None;
        let until = self.ends_until.map_or(until, |before| before.max(until));
        let Ok(listing) = self.orders.fresh(now, ORDERS_MAX_AGE) else { return };
        let Some(read) = self.orders.read_at() else { return };
        let draft = ListingDraft::for_published_listing(listing, read, until, &self.ends, &self.ends_failed);
        self.ends_until = Some(until);
        self.draft = Some(draft).filter(|draft| draft.next().is_some());
    }

    /// Returns the earliest time at which something is due.
    fn earliest(&self, now: Time) -> NextStep {
        let ledgers = self.ledgers.values().filter_map(|part| part.due);
        let sharing = self.sharing.due.filter(|_| !self.watched.funds.is_empty());
        ledgers
            .chain(sharing)
            .chain(self.orders.due)
            .chain(self.ends_due)
            .min()
            .map_or(NextStep::WaitUntil(now + LEDGER_INTERVAL), |due| NextStep::WaitUntil(due.max(now)))
    }

    /// Drops ledgers that were retired long ago. Returns a division whose file is to be deleted.
    fn drop_retired(&mut self, now: Time) -> Option<Division> {
        for RetiredLedger { part, since } in self.retired.values_mut() {
            part.take_if(|_| now - *since >= RETIRED_LEDGER_MAX_AGE);
        }
        let expired = self.retired.iter().find(|(_, ledger)| now - ledger.since >= RETIRED_FILE_MAX_AGE);
        let expired = expired.map(|(division, _)| *division);
        expired.inspect(|division| drop(self.retired.remove(division)))
    }
}
