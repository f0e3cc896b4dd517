//! Records what came of the refresher's tasks.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use chrono::{Days, NaiveDate, TimeDelta};

use super::super::listing::{BuiltListing, CompleteDraft, ListingDraft, OrderEnds, OrderListing};
use super::super::part::RETRY_INTERVAL;
use super::super::sharing::{SharedFund, SharingSearch};
use super::super::unlisted::UnlistedOrders;
use super::super::window;
use super::next::{OUTAGE_PAUSE, OVERLAP_DAYS};
use super::{HistoryState, LEDGER_INTERVAL, ORDERS_INTERVAL, last_day};
use crate::certcentral::{ReadError, ReadErrorKind};
use crate::domain::balance::{Persistence, Unreadable};
use crate::domain::ledger::{Ledger, LedgerEntry};
use crate::domain::order::Order;
use crate::domain::{Division, Time};

/// Least time between two listings, if debits name orders that the first one lacks.
const ORDERS_MIN_INTERVAL: TimeDelta = TimeDelta::hours(1);
/// Number of orders for each of which [`ORDERS_MIN_INTERVAL`] is added once more, since a long listing takes hundreds
/// of requests.
const SHORT_LISTING_ORDERS: usize = 10_000;
/// Number of undocumented statuses that are remembered. If there are more, new ones are no longer reported.
const MAX_UNDOCUMENTED_STATUSES: usize = 100;

/// Result of a ledger read.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum LedgerUpdate {
    /// The first complete ledger.
    First,
    /// The known ledger with new entries.
    Extended,
    /// No continuation of the known ledger, which is dropped; the whole ledger is read next.
    Discontinuous,
}

/// Number of published orders, and the orders, ends and read time to save, if the cache is to be written.
pub(in super::super) type PublishedOrders = (usize, Option<(Arc<[Order]>, Arc<OrderEnds>, Time)>);

/// A ledger that continues the known one.
#[derive(Debug)]
pub(in super::super) struct MergedLedger {
    update: LedgerUpdate,
    ledger: Arc<Ledger>,
    changed: bool,
}

/// Appends entries read at `read` to the known ledger. Returns `None` if they do not contain its newest entry: then
/// they are another account's, or the ledger was rewritten. Takes some time for many entries.
pub(in super::super) fn merge(
    before: Option<&Arc<Ledger>>,
    entries: Vec<LedgerEntry>,
    read: Time,
) -> Option<MergedLedger> {
    let Some((before, newest)) = before.and_then(|ledger| Some((ledger, ledger.entries().last()?))) else {
        return Some(MergedLedger {
            update: LedgerUpdate::First,
            ledger: Arc::new(Ledger::new(entries)),
            changed: true,
        });
    };
    if !entries.iter().any(|entry| entry.id == newest.id) {
        return None;
    }
    let oldest = window::oldest_entry(read.date_naive());
    let kept = before.entries().iter().filter(|entry| entry.at.date_naive() >= oldest).cloned();
    let merged = Ledger::new(kept.chain(entries).collect());
    let changed = merged != **before;
    let ledger = if changed { Arc::new(merged) } else { Arc::clone(before) };
    Some(MergedLedger { update: LedgerUpdate::Extended, ledger, changed })
}

impl HistoryState {
    /// Records the ledger that the disk cache has.
    pub(in super::super) fn loaded_ledger(&mut self, division: Division, cached: Option<(Ledger, Time)>, now: Time) {
        if let Some(part) = self.ledgers.get_mut(&division) {
            part.loaded(cached.map(|(ledger, read)| (Arc::new(ledger), read)), now, LEDGER_INTERVAL);
            if self.unverified {
                part.mark_unverified();
            } else if let Some((ledger, read)) = part.known.clone() {
                self.record_unlisted(&ledger, read);
            }
        }
    }

    /// Records the listing that the disk cache has, and all order ends that were ever requested.
    pub(in super::super) fn loaded_orders(
        &mut self,
        listing: Option<(OrderListing, Time)>,
        ends: OrderEnds,
        now: Time,
        watched_days: u64,
    ) {
        self.ends = Arc::new(ends);
        self.orders.loaded(listing, now, ORDERS_INTERVAL);
        if self.unverified {
            return self.orders.mark_unverified();
        }
        if self.orders.settled {
            self.retry_ends(now, watched_days);
            self.orders.settled = self.draft.is_none();
        }
    }

    /// Returns the known ledger of a division, even if it is too old to be used.
    pub(in super::super) fn ledger(&self, division: Division) -> Option<Arc<Ledger>> {
        self.ledgers.get(&division)?.known.as_ref().map(|(ledger, _)| Arc::clone(ledger))
    }

    /// Records the result of [`merge`] for entries requested at `read`. Returns the ledger if the cache is to be
    /// written.
    pub(in super::super) fn read_ledger(
        &mut self,
        division: Division,
        merged: Option<MergedLedger>,
        read: Time,
    ) -> Option<(LedgerUpdate, Option<Arc<Ledger>>)> {
        let part = self.ledgers.get_mut(&division)?;
        let Some(MergedLedger { update, ledger, changed }) = merged else {
            (part.known, part.due) = (None, None);
            // The orders may belong to another account, too.
            self.orders.mark_unverified();
            (self.draft, self.unlisted) = (None, UnlistedOrders::default());
            return Some((LedgerUpdate::Discontinuous, None));
        };
        part.read(Arc::clone(&ledger), read, LEDGER_INTERVAL);
        let save = part.should_save(changed, read);
        self.record_unlisted(&ledger, read);
        Some((update, save.then_some(ledger)))
    }

    /// Notes the orders that the entries of a ledger name and the listing lacks. The ledger was requested at `read`.
    fn record_unlisted(&mut self, ledger: &Ledger, read: Time) {
        let known = self.orders.known.as_ref();
        let (orders, listed) = known.map_or((&[][..], None), |(listing, listed)| (&*listing.all, Some(*listed)));
        let since = listed.unwrap_or(read).date_naive() - Days::new(OVERLAP_DAYS);
        self.unlisted.record(ledger, since, orders, listed.is_some_and(|listed| listed >= read));
        self.list_earlier();
    }

    /// Makes the orders due earlier if another listing may contain the unlisted ones. A failed listing keeps its pause.
    fn list_earlier(&mut self) {
        let Some((orders, listed)) = &self.orders.known else { return };
        if self.unlisted.needs_listing() && self.orders.failure.is_none() {
            let longer = i32::try_from(orders.all.len() / SHORT_LISTING_ORDERS).unwrap_or(i32::MAX).min(23);
            self.orders.due = self.orders.due.map(|due| due.min(*listed + ORDERS_MIN_INTERVAL * (1 + longer)));
        }
    }

    /// Notes that saving a ledger failed, so that the next read saves it even if it is unchanged.
    pub(in super::super) fn ledger_not_saved(&mut self, division: Division) {
        if let Some(part) = self.ledgers.get_mut(&division) {
            part.saved = None;
        }
    }

    /// Notes that saving the orders failed, so that the next listing saves them even if they are unchanged.
    pub(in super::super) fn orders_not_saved(&mut self) {
        self.orders.saved = None;
    }

    /// Returns whether the undocumented orders of a listing have a new status. After [`MAX_UNDOCUMENTED_STATUSES`] none
    /// counts as new.
    pub(in super::super) fn has_new_status(&mut self, undocumented: &BTreeMap<String, usize>) -> bool {
        let before = self.undocumented.len();
        let new: Vec<_> = undocumented.keys().filter(|status| !self.undocumented.contains(*status)).cloned().collect();
        self.undocumented.extend(new.into_iter().take(MAX_UNDOCUMENTED_STATUSES - before));
        self.undocumented.len() > before
    }

    /// Returns the known orders, even if they are too old to be used.
    pub(in super::super) fn known_orders(&self) -> Option<Arc<[Order]>> {
        self.orders.known.as_ref().map(|(listing, _)| Arc::clone(&listing.all))
    }

    /// Records orders requested at `read`, merged with those known before. They are published when all ends that matter
    /// are read.
    pub(in super::super) fn read_orders(&mut self, orders: Arc<[Order]>, read: Time, watched_days: u64) {
        self.draft = Some(ListingDraft::for_new_listing(orders, read, last_day(read, watched_days), &self.ends));
        self.unlisted.mark_searched();
    }

    /// Records the end of an order. Without an `end` in its details, the order ends with its certificate.
    pub(in super::super) fn read_end(&mut self, order: u64, certificate_ends: NaiveDate, end: Option<NaiveDate>) {
        Arc::make_mut(&mut self.ends).insert(order, (certificate_ends, end.unwrap_or(certificate_ends)));
        self.draft.iter_mut().for_each(ListingDraft::complete_next);
    }

    /// Returns the known ends, including those of orders that are not published.
    pub(in super::super) fn ends(&self) -> Arc<OrderEnds> {
        Arc::clone(&self.ends)
    }

    /// Records that the end of the next order cannot be read.
    pub(in super::super) fn fail_end(&mut self, error: ReadError) {
        if let Some(draft) = &mut self.draft {
            draft.fail(error.into());
        }
    }

    /// Takes a draft that is complete, so that it can be built without a lock on this state, and then be published.
    pub(in super::super) fn take_complete_draft(&mut self) -> Option<CompleteDraft> {
        let draft = self.draft.take_if(|draft| draft.next().is_none())?;
        Some(CompleteDraft { draft, ends: mem::take(&mut self.ends), published: self.known_orders() })
    }

    /// Replaces the published orders.
    pub(in super::super) fn publish(&mut self, built: BuiltListing, now: Time) -> PublishedOrders {
        let BuiltListing { listing, ends, failed, read, is_new, until, changed } = built;
        let all = Arc::clone(&listing.all);
        self.unlisted.remove_listed(&all);
        if is_new {
            self.orders.read(listing, read, ORDERS_INTERVAL);
            self.list_earlier();
        } else {
            (self.orders.known, self.orders.settled) = (Some((listing, read)), true);
        }
        self.ends_due =
            failed.values().any(|(_, why)| why.persistence == Persistence::Transient).then(|| now + RETRY_INTERVAL);
        (self.ends, self.ends_failed, self.ends_until) = (ends, failed, Some(until));
        let orders = all.len();
        // A new listing is saved even if it is unchanged, so that its time survives a restart.
        let save = self.orders.should_save(changed || is_new, now).then(|| (all, Arc::clone(&self.ends), read));
        (orders, save)
    }

    /// Records a round of the search. Shared funds are known once every division was read. Returns true if nothing is
    /// to be logged: the search is complete, or the round was interrupted in the same way as the previous one.
    pub(in super::super) fn read_sharing(&mut self, mut search: SharingSearch, only_failed: bool, now: Time) -> bool {
        if !search.has_same_funds(&self.search) {
            return true; // another search has begun meanwhile
        }
        if search.complete && !only_failed {
            search.due = Some(now + if search.interrupted.is_some() { RETRY_INTERVAL } else { LEDGER_INTERVAL });
        }
        let again = (search.interrupted.is_some() || search.complete && !search.failed.is_empty())
            .then(|| now + RETRY_INTERVAL);
        let due = [again, search.due].into_iter().flatten().min();
        let before = self.sharing.failure.as_ref();
        let already_logged =
            search.complete || search.interrupted.as_ref().is_some_and(|error| is_same_failure(before, error));
        let failure = search.interrupted.clone().map(Unreadable::from);
        self.search = search;
        if self.search.complete {
            let funds = self.shared_funds();
            self.sharing.read(funds, now, LEDGER_INTERVAL);
        }
        self.sharing.settled |= failure.is_some();
        (self.sharing.failure, self.sharing.due) = (failure, due);
        self.update_ledgers(now);
        already_logged
    }

    /// Returns the funds of the current search, and known funds outside of it.
    fn shared_funds(&self) -> Vec<SharedFund> {
        let others = self
            .sharing_known()
            .iter()
            .filter(|fund| !self.search.covers(&fund.watched) && fund.has_any(&self.watched.divisions));
        self.search.funds.iter().chain(others).cloned().collect()
    }

    /// Records a failed search. Returns true if it failed in the same way before.
    pub(in super::super) fn fail_sharing(&mut self, error: ReadError, now: Time) -> bool {
        let already_logged = is_same_failure(self.sharing.failure.as_ref(), &error);
        let failure = self.pause_after(error, now);
        self.sharing.fail(failure, now);
        already_logged
    }

    /// Records a failed read of a ledger. Returns true if any ledger failed in the same way before.
    pub(in super::super) fn fail_ledger(&mut self, division: Division, error: ReadError, now: Time) -> bool {
        let already_logged = self.ledgers.values().any(|part| is_same_failure(part.failure.as_ref(), &error));
        let failure = self.pause_after(error, now);
        if let Some(part) = self.ledgers.get_mut(&division) {
            part.fail(failure, now);
        }
        already_logged
    }

    /// Records a failed listing. Returns true if it failed in the same way before.
    pub(in super::super) fn fail_orders(&mut self, error: ReadError, now: Time) -> bool {
        let already_logged = is_same_failure(self.orders.failure.as_ref(), &error);
        let failure = self.pause_after(error, now);
        self.orders.fail(failure, now);
        already_logged
    }

    /// Returns the failure of a part. If it affects all requests, they are paused, and everything else that is due fails
    /// with it, without a request.
    fn pause_after(&mut self, error: ReadError, now: Time) -> Unreadable {
        let affects_all = !matches!(error.kind, ReadErrorKind::Refused | ReadErrorKind::InvalidResponse);
        let failure = Unreadable::from(error);
        if affects_all {
            self.pause_all(&failure, now);
        }
        failure
    }

    fn pause_all(&mut self, failure: &Unreadable, now: Time) {
        self.paused = Some(now + OUTAGE_PAUSE);
        for part in self.ledgers.values_mut().filter(|part| part.is_due(now, LEDGER_INTERVAL)) {
            (part.failure, part.settled) = (Some(failure.clone()), true);
        }
        if self.sharing.is_due(now, LEDGER_INTERVAL) {
            (self.sharing.failure, self.sharing.settled) = (Some(failure.clone()), true);
        }
        // Nothing waits for the ends of cached orders any longer.
        self.orders.settled = true;
        if self.orders.is_due(now, ORDERS_INTERVAL) {
            self.orders.failure = Some(failure.clone());
        }
    }
}

/// Compares failures by the beginning of their reasons, since the rest contains times and numbers.
fn is_same_failure(before: Option<&Unreadable>, error: &ReadError) -> bool {
    before.is_some_and(|before| {
        before.persistence == error.kind.persistence() && reason_prefix(&before.reason) == reason_prefix(&error.reason)
    })
}

fn reason_prefix(reason: &str) -> &str {
    reason.split(':').next().unwrap_or_default()
}
