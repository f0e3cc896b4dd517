//! What is known of an account's books, how fresh it is, and what is to be asked next. It asks nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use chrono::{Days, NaiveDate, TimeDelta};

use super::listing::{BuiltListing, CompleteDraft, ListingDraft, OrderEndFailures, OrderEnds, OrderListing};
use super::part::{HistoryPart, RETRY_INTERVAL};
use super::sharing::{SharedFund, SharingSearch, WatchedFunds};
use super::unlisted::UnlistedOrders;
use super::window;
use crate::certcentral::{ReadError, ReadErrorKind};
use crate::domain::balance::{Persistence, Unreadable};
use crate::domain::history::{AccountHistory, HistoryGap};
use crate::domain::ledger::{Ledger, LedgerEntry};
use crate::domain::order::Order;
use crate::domain::{Division, Time};

/// A ledger is read so often at most, and is good for so long when it can be read no more.
const LEDGER_INTERVAL: TimeDelta = TimeDelta::hours(1);
const LEDGER_MAX_AGE: TimeDelta = TimeDelta::hours(48);
/// The same of the orders.
const ORDERS_INTERVAL: TimeDelta = TimeDelta::hours(24);
const ORDERS_MAX_AGE: TimeDelta = TimeDelta::hours(72);
/// Time from one listing to the next, at least, where debits name orders that the first one lacks.
const ORDERS_MIN_INTERVAL: TimeDelta = TimeDelta::hours(1);
/// The same again for each so many orders: a long listing takes hundreds of requests.
const SHORT_LISTING_ORDERS: usize = 10_000;
/// Where the server itself is not well, nothing at all is asked for so long.
const OUTAGE_PAUSE: TimeDelta = TimeDelta::minutes(5);
/// What is new is asked for from so many days before the newest line on, whatever zone the dates of filters are of.
const OVERLAP_DAYS: u64 = 1;
/// The ledger of a division that is wanted no more is still known for so long, and its file is there for so long: what is
/// wanted now and then is not read as a whole each time.
const RETIRED_LEDGER_MAX_AGE: TimeDelta = TimeDelta::days(1);
const RETIRED_FILE_MAX_AGE: TimeDelta = TimeDelta::days(30);
/// Undocumented statuses that are remembered. A server that makes up new ones for ever is not warned of for ever.
const MAX_UNDOCUMENTED_STATUSES: usize = 100;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RefreshTask {
    /// Look what the cache has.
    LoadLedger(Division),
    LoadOrders,
    /// A division that is wanted no more.
    Forget(Division),
    /// All lines since then.
    Ledger {
        division: Division,
        since: NaiveDate,
    },
    /// Those whose certificates end within these days.
    Orders {
        from: NaiveDate,
        to: NaiveDate,
    },
    /// Who shares the funds that are searched for, of all divisions but the watched ones.
    Sharing {
        watched: BTreeSet<u64>,
        search: SharingSearch,
        only_failed: bool,
    },
    /// When this order ends.
    End {
        order: u64,
        certificate_ends: NaiveDate,
    },
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    Run(RefreshTask),
    /// Nothing before that.
    WaitUntil(Time),
    /// Nothing, until something is wanted.
    Idle,
}

/// What came of a ledger that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LedgerUpdate {
    /// The first whole one.
    First,
    /// More of it.
    Extended,
    /// It does not go on where the one before ended: that one is dropped, and all is read.
    Discontinuous,
}

/// How many orders are shown now, and what to write into the cache and of when, if it is to be written.
pub(super) type PublishedOrders = (usize, Option<(Arc<[Order]>, Arc<OrderEnds>, Time)>);

/// A division that is wanted no more.
#[derive(Debug)]
struct RetiredLedger {
    /// What is known of it, for some time.
    part: Option<HistoryPart<Arc<Ledger>>>,
    since: Time,
}

/// Everything that is known of one account's books.
#[derive(Debug, Default)]
pub(super) struct HistoryState {
    /// What is asked for.
    requested: BTreeSet<Division>,
    /// Where others may share the funds of that.
    watched: WatchedFunds,
    /// Who does.
    sharing: HistoryPart<Vec<SharedFund>>,
    /// How that is found out.
    search: SharingSearch,
    /// Exactly the divisions that are wanted: those that are asked for, and those that share their funds.
    ledgers: BTreeMap<Division, HistoryPart<Arc<Ledger>>>,
    /// And those that are wanted no more.
    retired: BTreeMap<Division, RetiredLedger>,
    orders: HistoryPart<OrderListing>,
    unlisted: UnlistedOrders,
    draft: Option<ListingDraft>,
    ends: Arc<OrderEnds>,
    /// The last day up to which ends were asked for.
    ends_until: Option<NaiveDate>,
    /// When to ask again for those that failed.
    ends_due: Option<Time>,
    /// Orders on the listing whose ends could not be read, the divisions that pay for them, and why.
    ends_failed: OrderEndFailures,
    paused: Option<Time>,
    /// What the cache has may be another account's: it is shown only once it was read on from.
    unverified: bool,
    /// Statuses of the undocumented orders that were met so far.
    undocumented: BTreeSet<String>,
}

/// A ledger that goes on from the one before.
#[derive(Debug)]
pub(super) struct MergedLedger {
    update: LedgerUpdate,
    ledger: Arc<Ledger>,
    changed: bool,
}

/// Puts what was read behind what is known, if it goes on there; else it is another account's, or rewritten: then `None`,
/// and nothing of it is believed. It was asked for at `read`. Takes a moment where there are many lines.
pub(super) fn merge(before: Option<&Arc<Ledger>>, lines: Vec<LedgerEntry>, read: Time) -> Option<MergedLedger> {
    let Some((before, newest)) = before.and_then(|it| Some((it, it.entries().last()?))) else {
        return Some(MergedLedger { update: LedgerUpdate::First, ledger: Arc::new(Ledger::new(lines)), changed: true });
    };
    if !lines.iter().any(|line| line.id == newest.id) {
        return None;
    }
    let oldest = window::oldest_line(read.date_naive());
    let kept = before.entries().iter().filter(|line| line.at.date_naive() >= oldest).cloned();
    let merged = Ledger::new(kept.chain(lines).collect());
    let changed = merged != **before;
    let ledger = if changed { Arc::new(merged) } else { Arc::clone(before) };
    Some(MergedLedger { update: LedgerUpdate::Extended, ledger, changed })
}

impl HistoryState {
    /// Nothing is known; what the cache has is shown only once it was read on from.
    pub(super) fn unverified() -> Self {
        Self { unverified: true, ..Self::default() }
    }

    pub(super) fn request(&mut self, divisions: &BTreeSet<Division>, watched: &WatchedFunds, now: Time) {
        self.requested.clone_from(divisions);
        self.watched.clone_from(watched);
        // One that is searched for already is not searched for anew: what failed keeps its pause.
        let is_new = |fund: &BTreeSet<u64>| self.sharers(fund).is_none() && !self.search.covers(fund);
        if self.watched.funds.iter().any(is_new) {
            self.search = SharingSearch::new(&self.watched.funds, self.sharing_known());
            (self.sharing.due, self.sharing.settled) = (None, false);
        }
        self.update_ledgers(now);
    }

    fn update_ledgers(&mut self, now: Time) {
        let others = self.watched.funds.iter().filter_map(|fund| self.sharers(fund)).flatten();
        let divisions: BTreeSet<Division> = self.requested.iter().copied().chain(others.map(Some)).collect();
        for (division, part) in mem::take(&mut self.ledgers) {
            if divisions.contains(&division) {
                self.ledgers.insert(division, part);
            } else {
                self.retired.insert(division, RetiredLedger { part: Some(part), since: now });
            }
        }
        for division in divisions {
            let retired = self.retired.remove(&division).and_then(|it| it.part);
            self.ledgers.entry(division).or_insert_with(|| retired.unwrap_or_default());
        }
    }

    fn sharing_known(&self) -> &[SharedFund] {
        self.sharing.known.as_ref().map(|(funds, _)| funds.as_slice()).unwrap_or_default()
    }

    /// Who shares the fund of these watched divisions, as far as that was ever found out.
    fn sharers(&self, watched: &BTreeSet<u64>) -> Option<BTreeSet<u64>> {
        let mut found = self.sharing_known().iter().filter(|fund| fund.has_any(watched)).peekable();
        found.peek()?;
        Some(found.flat_map(|fund| &fund.others).copied().filter(|id| !self.watched.divisions.contains(id)).collect())
    }

    /// The same of any divisions, if it is fresh enough to be used; nobody where all are watched.
    fn others(&self, divisions: &BTreeSet<Division>, now: Time) -> Result<BTreeSet<u64>, HistoryGap> {
        let mut others = BTreeSet::new();
        let ids: BTreeSet<u64> = divisions.iter().copied().flatten().collect();
        for fund in self.watched.funds.iter().filter(|fund| !fund.is_disjoint(&ids)) {
            self.sharing.fresh(now, LEDGER_MAX_AGE)?;
            others.extend(self.sharers(fund).ok_or(HistoryGap::NotYetRead)?);
        }
        Ok(others)
    }

    pub(super) fn fund_histories(&self, divisions: &[Division], now: Time) -> Vec<AccountHistory> {
        let mut histories: Vec<AccountHistory> =
            divisions.iter().map(|division| self.history(*division, now)).collect();
        match self.others(&divisions.iter().copied().collect(), now) {
            Ok(others) => histories.extend(others.into_iter().map(|id| self.history(Some(id), now))),
            Err(gap) => histories.push(AccountHistory {
                ledger: Err(gap.clone()),
                orders: Err(gap),
                ..AccountHistory::unread()
            }),
        }
        histories
    }

    /// Drops what has rested long enough; the division whose file may go.
    fn drop_retired(&mut self, now: Time) -> Option<Division> {
        for RetiredLedger { part, since } in self.retired.values_mut() {
            part.take_if(|_| now - *since >= RETIRED_LEDGER_MAX_AGE);
        }
        let gone =
            self.retired.iter().find(|(_, it)| now - it.since >= RETIRED_FILE_MAX_AGE).map(|(division, _)| *division);
        gone.inspect(|division| drop(self.retired.remove(division)))
    }

    pub(super) fn history(&self, division: Division, now: Time) -> AccountHistory {
        let part = self.ledgers.get(&division);
        let orders = self.orders.fresh(now, ORDERS_MAX_AGE).map(|listing| Arc::clone(listing.of(division)));
        AccountHistory {
            ledger: part.map_or(Err(HistoryGap::NotYetRead), |part| part.fresh(now, LEDGER_MAX_AGE).cloned()),
            ledger_read: part.and_then(HistoryPart::read_at),
            orders,
            orders_read: self.orders.read_at(),
            order_ends_failure: self.ends_failure(division),
        }
    }

    /// Of the ends that could not be read, why; what somebody has to mend first comes first.
    fn ends_failure(&self, division: Division) -> Option<Unreadable> {
        let of_it = |paid_by: Division| division.is_none() || paid_by.is_none() || paid_by == division;
        let failures = || self.ends_failed.values().filter(|(paid_by, _)| of_it(*paid_by)).map(|(_, why)| why);
        failures().find(|why| why.persistence == Persistence::Permanent).or_else(|| failures().next()).cloned()
    }

    /// Whether each of these was tried at least once, and nothing of them is to be asked at `now`.
    pub(super) fn settled(&self, divisions: &BTreeSet<Division>, now: Time) -> bool {
        let others = self.others(divisions, now).unwrap_or_default().into_iter().map(Some);
        let all: BTreeSet<Division> = divisions.iter().copied().chain(others).collect();
        let mut parts = all.iter().filter_map(|division| self.ledgers.get(division)).peekable();
        let sharing = self.watched.funds.is_empty() || self.sharing.settled;
        let paused = self.paused.is_some_and(|until| until > now);
        let fresh = |part: &HistoryPart<Arc<Ledger>>| part.settled && (paused || !part.is_due(now, LEDGER_INTERVAL));
        parts.peek().is_none() || (self.orders.settled && sharing && parts.all(fresh))
    }

    /// What to do at `now`; `watched_days` is how far ahead an order's end can matter.
    pub(super) fn next(&mut self, now: Time, watched_days: u64) -> NextStep {
        self.orders.drop_if_ahead(now);
        self.ledgers.values_mut().for_each(|part| part.drop_if_ahead(now));
        if let Some(division) = self.drop_retired(now) {
            return NextStep::Run(RefreshTask::Forget(division));
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

    /// Ledgers, the one that waits longest before the others; then who shares the funds; then what the listing at hand lacks; then a new one.
    fn due(&mut self, now: Time, watched_days: u64) -> Option<RefreshTask> {
        let due = self.ledgers.iter().filter(|(_, part)| part.is_due(now, LEDGER_INTERVAL));
        if let Some((division, part)) = due.min_by_key(|(_, part)| part.due) {
            let newest = part.known.as_ref().and_then(|(ledger, _)| ledger.entries().last());
            let since = newest
                .map_or(window::oldest_line(now.date_naive()), |line| line.at.date_naive() - Days::new(OVERLAP_DAYS));
            return Some(RefreshTask::Ledger {
                division: *division,
                since: since.max(window::oldest_line(now.date_naive())),
            });
        }
        if !self.watched.funds.is_empty() && self.sharing.is_due(now, LEDGER_INTERVAL) {
            return Some(self.go_on_searching(now));
        }
        if self.draft.is_none() {
            if self.orders.is_due(now, ORDERS_INTERVAL) {
                let (from, to) = (self.listing_begins(now), window::last_certificate(now.date_naive()));
                return Some(RefreshTask::Orders { from, to });
            }
            self.retry_ends(now, watched_days);
        }
        let (order, certificate_ends) = self.draft.as_ref()?.next()?;
        Some(RefreshTask::End { order, certificate_ends })
    }

    /// The day from which the orders have to be listed. Where those that are known are doubted, all of them have to be.
    fn listing_begins(&self, now: Time) -> NaiveDate {
        let known = self.orders.known.as_ref().filter(|_| !self.orders.unverified);
        let known = known.map(|(listing, read)| (&*listing.all, read.date_naive()));
        window::listing_begins(known, now.date_naive())
    }

    /// The next round of the search: once an hour those that come next, else those that could not be read.
    fn go_on_searching(&mut self, now: Time) -> RefreshTask {
        let goes_on = self.search.due.is_none_or(|due| due <= now || due - now > LEDGER_INTERVAL);
        let only_failed = !goes_on && !self.search.failed.is_empty();
        if self.search.complete && !only_failed {
            let known = self.sharing_known().to_vec();
            self.search.set_funds(&self.watched.funds, &known);
        }
        RefreshTask::Sharing { watched: self.watched.divisions.clone(), search: self.search.clone(), only_failed }
    }

    /// The listing that is shown lacks ends where days came into view since it was read, and where asking failed.
    fn retry_ends(&mut self, now: Time, watched_days: u64) {
        let until = last_day(now, watched_days);
        let further = self.ends_until.is_none_or(|before| before < until);
        let again = self.ends_due.is_some_and(|due| due <= now || due - now > RETRY_INTERVAL);
        if !further && !again {
            return;
        }
        // Where nothing is shown, the next listing asks: a time that has passed would wake the keeper for ever.
        self.ends_due = None;
        let until = self.ends_until.map_or(until, |before| before.max(until));
        let Ok(listing) = self.orders.fresh(now, ORDERS_MAX_AGE) else { return };
        let Some(read) = self.orders.read_at() else { return };
        let draft = ListingDraft::for_shown_listing(listing, read, until, &self.ends, &self.ends_failed);
        self.ends_until = Some(until);
        self.draft = Some(draft).filter(|draft| draft.next().is_some());
    }

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

    pub(super) fn loaded_ledger(&mut self, division: Division, cached: Option<(Ledger, Time)>, now: Time) {
        if let Some(part) = self.ledgers.get_mut(&division) {
            part.loaded(cached.map(|(ledger, read)| (Arc::new(ledger), read)), now, LEDGER_INTERVAL);
            if self.unverified {
                part.mark_unverified();
            } else if let Some((ledger, read)) = part.known.clone() {
                self.record_unlisted(&ledger, read);
            }
        }
    }

    /// The listing of the cache, and all ends that were ever asked for.
    pub(super) fn loaded_orders(
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

    /// The ledger that is known of a division, shown or not.
    pub(super) fn ledger(&self, division: Division) -> Option<Arc<Ledger>> {
        self.ledgers.get(&division)?.known.as_ref().map(|(ledger, _)| Arc::clone(ledger))
    }

    /// Shows what [`merge`] made of what was asked for at `read`. With it, the ledger if the cache is to be written.
    pub(super) fn read_ledger(
        &mut self,
        division: Division,
        merged: Option<MergedLedger>,
        read: Time,
    ) -> Option<(LedgerUpdate, Option<Arc<Ledger>>)> {
        let part = self.ledgers.get_mut(&division)?;
        let Some(MergedLedger { update, ledger, changed }) = merged else {
            (part.known, part.due) = (None, None);
            // Nor is it certain whose the orders are.
            self.orders.mark_unverified();
            (self.draft, self.unlisted) = (None, UnlistedOrders::default());
            return Some((LedgerUpdate::Discontinuous, None));
        };
        part.read(Arc::clone(&ledger), read, LEDGER_INTERVAL);
        let save = part.should_save(changed, read);
        self.record_unlisted(&ledger, read);
        Some((update, save.then_some(ledger)))
    }

    /// Looks for orders that the listing lacks in a ledger that was asked for at `read`.
    fn record_unlisted(&mut self, ledger: &Ledger, read: Time) {
        let known = self.orders.known.as_ref();
        let (orders, listed) = known.map_or((&[][..], None), |(listing, listed)| (&*listing.all, Some(*listed)));
        let since = listed.unwrap_or(read).date_naive() - Days::new(OVERLAP_DAYS);
        self.unlisted.record(ledger, since, orders, listed.is_some_and(|listed| listed >= read));
        self.list_earlier();
    }

    /// Makes the orders due before their day is over, where another listing may show more. One that failed keeps its pause.
    fn list_earlier(&mut self) {
        let Some((orders, listed)) = &self.orders.known else { return };
        if self.unlisted.needs_listing() && self.orders.failure.is_none() {
            let longer = i32::try_from(orders.all.len() / SHORT_LISTING_ORDERS).unwrap_or(i32::MAX).min(23);
            self.orders.due = self.orders.due.map(|due| due.min(*listed + ORDERS_MIN_INTERVAL * (1 + longer)));
        }
    }

    /// Notes that a ledger was not written into the cache: the next reading writes it, changed or not.
    pub(super) fn ledger_not_saved(&mut self, division: Division) {
        if let Some(part) = self.ledgers.get_mut(&division) {
            part.saved = None;
        }
    }

    /// Notes that the orders were not written into the cache: the next listing writes them, changed or not.
    pub(super) fn orders_not_saved(&mut self) {
        self.orders.saved = None;
    }

    /// Reports whether the undocumented orders of a listing have a status that has not been met before. Once there are very
    /// many, none counts as new.
    pub(super) fn has_new_status(&mut self, undocumented: &BTreeMap<String, usize>) -> bool {
        let before = self.undocumented.len();
        let new: Vec<_> = undocumented.keys().filter(|it| !self.undocumented.contains(*it)).cloned().collect();
        self.undocumented.extend(new.into_iter().take(MAX_UNDOCUMENTED_STATUSES - before));
        self.undocumented.len() > before
    }

    /// The orders that are known, shown or not.
    pub(super) fn known_orders(&self) -> Option<Arc<[Order]>> {
        self.orders.known.as_ref().map(|(listing, _)| Arc::clone(&listing.all))
    }

    /// Orders that were asked for at `read`, merged with those known before. They are shown once the ends that matter have
    /// been asked for.
    pub(super) fn read_orders(&mut self, orders: Arc<[Order]>, read: Time, watched_days: u64) {
        self.draft = Some(ListingDraft::for_new_listing(orders, read, last_day(read, watched_days), &self.ends));
        self.unlisted.mark_searched();
    }

    /// An order whose details do not say when it ends ends with its certificate.
    pub(super) fn read_end(&mut self, order: u64, certificate_ends: NaiveDate, end: Option<NaiveDate>) {
        Arc::make_mut(&mut self.ends).insert(order, (certificate_ends, end.unwrap_or(certificate_ends)));
        self.draft.iter_mut().for_each(ListingDraft::answered);
    }

    /// The ends that are known, whether their orders are shown or not.
    pub(super) fn ends(&self) -> Arc<OrderEnds> {
        Arc::clone(&self.ends)
    }

    pub(super) fn fail_end(&mut self, error: ReadError) {
        if let Some(draft) = &mut self.draft {
            draft.fail(error.into());
        }
    }

    /// Takes out a listing that lacks no end any more, to be built where nobody waits for it and then to be shown.
    pub(super) fn finished(&mut self) -> Option<CompleteDraft> {
        let draft = self.draft.take_if(|draft| draft.next().is_none())?;
        Some(CompleteDraft { draft, ends: mem::take(&mut self.ends), shown: self.known_orders() })
    }

    pub(super) fn publish(&mut self, built: BuiltListing, now: Time) -> PublishedOrders {
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
        // After a restart, too, the next listing keeps its distance from this one.
        let save = self.orders.should_save(changed || is_new, now).then(|| (all, Arc::clone(&self.ends), read));
        (orders, save)
    }

    /// A round of the search is over. Who shares the funds is known once every division was asked. Returns whether
    /// there is nothing to tell: that is so, or a round ended early in this way the time before.
    pub(super) fn read_sharing(&mut self, mut search: SharingSearch, only_failed: bool, now: Time) -> bool {
        if !search.is_the_same_as(&self.search) {
            return true; // another one has begun meanwhile
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
            let funds = self.found();
            self.sharing.read(funds, now, LEDGER_INTERVAL);
        }
        self.sharing.settled |= failure.is_some();
        (self.sharing.failure, self.sharing.due) = (failure, due);
        self.update_ledgers(now);
        already_logged
    }

    /// What was found, and what was known of funds that are not searched for at present.
    fn found(&self) -> Vec<SharedFund> {
        let others = self
            .sharing_known()
            .iter()
            .filter(|fund| !self.search.covers(&fund.watched) && fund.has_any(&self.watched.divisions));
        self.search.funds.iter().chain(others).cloned().collect()
    }

    /// Whether it failed in this way the time before.
    pub(super) fn fail_sharing(&mut self, error: ReadError, now: Time) -> bool {
        let already_logged = is_same_failure(self.sharing.failure.as_ref(), &error);
        let kind = error.kind;
        let failure = Unreadable::from(error);
        self.pause(kind, &failure, now);
        self.sharing.fail(failure, now);
        already_logged
    }

    /// Whether a part failed in this way the time before, or another division's did.
    pub(super) fn fail_ledger(&mut self, division: Division, error: ReadError, now: Time) -> bool {
        let already_logged = self.ledgers.values().any(|part| is_same_failure(part.failure.as_ref(), &error));
        let kind = error.kind;
        let failure = Unreadable::from(error);
        self.pause(kind, &failure, now);
        if let Some(part) = self.ledgers.get_mut(&division) {
            part.fail(failure, now);
        }
        already_logged
    }

    pub(super) fn fail_orders(&mut self, error: ReadError, now: Time) -> bool {
        let already_logged = is_same_failure(self.orders.failure.as_ref(), &error);
        let kind = error.kind;
        let failure = Unreadable::from(error);
        self.pause(kind, &failure, now);
        self.orders.fail(failure, now);
        already_logged
    }

    /// What keeps one request from being answered keeps all: the others that are due are not tried, and fail alike.
    fn pause(&mut self, kind: ReadErrorKind, failure: &Unreadable, now: Time) {
        if matches!(kind, ReadErrorKind::Refused | ReadErrorKind::InvalidResponse) {
            return;
        }
        self.paused = Some(now + OUTAGE_PAUSE);
        for part in self.ledgers.values_mut().filter(|part| part.is_due(now, LEDGER_INTERVAL)) {
            (part.failure, part.settled) = (Some(failure.clone()), true);
        }
        if self.sharing.is_due(now, LEDGER_INTERVAL) {
            (self.sharing.failure, self.sharing.settled) = (Some(failure.clone()), true);
        }
        // Whoever waits for the ends of orders from the cache waits no more.
        self.orders.settled = true;
        if self.orders.is_due(now, ORDERS_INTERVAL) {
            self.orders.failure = Some(failure.clone());
        }
    }
}

/// Reasons hold times and numbers: what is known is told by its beginning, up to what was said.
fn is_same_failure(before: Option<&Unreadable>, error: &ReadError) -> bool {
    before.is_some_and(|before| {
        before.persistence == error.kind.persistence() && reason_prefix(&before.reason) == reason_prefix(&error.reason)
    })
}

fn reason_prefix(reason: &str) -> &str {
    reason.split(':').next().unwrap_or_default()
}

fn last_day(now: Time, watched_days: u64) -> NaiveDate {
    now.date_naive() + Days::new(watched_days)
}
