//! What is known of an account's history, how fresh it is, and what to read next. Nothing here reads anything.
//!
//! [`next`] decides the next step of the refresher, and [`results`] records what came of it.

mod next;
mod results;

pub(super) use next::{NextStep, RefreshTask};
pub(super) use results::{LedgerUpdate, merge};

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use chrono::{Days, NaiveDate, TimeDelta};

use super::listing::{ListingDraft, OrderEndFailures, OrderEnds, OrderListing};
use super::part::HistoryPart;
use super::sharing::{SharedFund, SharingSearch, WatchedFunds};
use super::unlisted::UnlistedOrders;
use crate::domain::balance::{Persistence, Unreadable};
use crate::domain::history::{AccountHistory, HistoryGap};
use crate::domain::ledger::Ledger;
use crate::domain::{Division, Time};

/// Time between two reads of a ledger.
const LEDGER_INTERVAL: TimeDelta = TimeDelta::hours(1);
/// Age up to which a ledger is used.
const LEDGER_MAX_AGE: TimeDelta = TimeDelta::hours(48);
/// Time between two listings of the orders.
const ORDERS_INTERVAL: TimeDelta = TimeDelta::hours(24);
/// Age up to which the orders are used.
const ORDERS_MAX_AGE: TimeDelta = TimeDelta::hours(72);

/// The known history of one account, and the progress of its reads.
#[derive(Debug, Default)]
pub(super) struct HistoryState {
    /// Divisions whose history was requested.
    requested: BTreeSet<Division>,
    /// Watched funds that unwatched divisions may share.
    watched: WatchedFunds,
    /// Funds with the unwatched divisions that share them.
    sharing: HistoryPart<Vec<SharedFund>>,
    /// The search for divisions that share a fund.
    search: SharingSearch,
    /// Ledgers of the requested divisions, and of the divisions that share their funds.
    ledgers: BTreeMap<Division, HistoryPart<Arc<Ledger>>>,
    /// Ledgers of divisions that are no longer requested.
    retired: BTreeMap<Division, RetiredLedger>,
    orders: HistoryPart<OrderListing>,
    unlisted: UnlistedOrders,
    draft: Option<ListingDraft>,
    ends: Arc<OrderEnds>,
    /// Last day up to which order ends were requested.
    ends_until: Option<NaiveDate>,
    /// Time of the next request for the order ends that failed.
    ends_due: Option<Time>,
    /// Failures of order ends, for orders in the current listing.
    ends_failed: OrderEndFailures,
    paused: Option<Time>,
    /// True while the disk cache may belong to another account: its data is hidden until CertCentral confirms it.
    unverified: bool,
    /// Statuses of the undocumented orders seen so far.
    undocumented: BTreeSet<String>,
}

/// The ledger of a division that is no longer requested.
#[derive(Debug)]
struct RetiredLedger {
    /// The ledger, until it is dropped from memory.
    part: Option<HistoryPart<Arc<Ledger>>>,
    since: Time,
}

impl HistoryState {
    /// Returns an empty state that hides the data of the disk cache until CertCentral confirms it.
    pub(super) fn unverified() -> Self {
        Self { unverified: true, ..Self::default() }
    }

    /// Replaces the divisions whose history is requested.
    pub(super) fn request(&mut self, divisions: &BTreeSet<Division>, watched: &WatchedFunds, now: Time) {
        self.requested.clone_from(divisions);
        self.watched.clone_from(watched);
        // A search in progress is not restarted, so that its failures keep their pauses.
        let is_new = |fund: &BTreeSet<u64>| self.sharers(fund).is_none() && !self.search.covers(fund);
        if self.watched.funds.iter().any(is_new) {
            self.search = SharingSearch::new(&self.watched.funds, self.sharing_known());
            (self.sharing.due, self.sharing.settled) = (None, false);
        }
        self.update_ledgers(now);
    }

    /// Adds the ledgers of newly requested divisions, and retires those of divisions that are no longer requested.
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
            let retired = self.retired.remove(&division).and_then(|ledger| ledger.part);
            self.ledgers.entry(division).or_insert_with(|| retired.unwrap_or_default());
        }
    }

    fn sharing_known(&self) -> &[SharedFund] {
        self.sharing.known.as_ref().map(|(funds, _)| funds.as_slice()).unwrap_or_default()
    }

    /// Returns the unwatched divisions that share the fund of these watched ones; `None` if that was never determined.
    fn sharers(&self, watched: &BTreeSet<u64>) -> Option<BTreeSet<u64>> {
        let mut found = self.sharing_known().iter().filter(|fund| fund.has_any(watched)).peekable();
        found.peek()?;
        Some(found.flat_map(|fund| &fund.others).copied().filter(|id| !self.watched.divisions.contains(id)).collect())
    }

    /// Returns the unwatched divisions that share a fund with any of these. Fails if that is unknown or too old.
    fn others(&self, divisions: &BTreeSet<Division>, now: Time) -> Result<BTreeSet<u64>, HistoryGap> {
        let mut others = BTreeSet::new();
        let ids: BTreeSet<u64> = divisions.iter().copied().flatten().collect();
        for fund in self.watched.funds.iter().filter(|fund| !fund.is_disjoint(&ids)) {
            self.sharing.fresh(now, LEDGER_MAX_AGE)?;
            others.extend(self.sharers(fund).ok_or(HistoryGap::NotYetRead)?);
        }
        Ok(others)
    }

    /// Returns the history of each of these divisions and of the unwatched ones that share their funds. If those are
    /// unknown, one entry is a gap.
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

    /// Returns the history of a division as far as it is fresh.
    pub(super) fn history(&self, division: Division, now: Time) -> AccountHistory {
        let part = self.ledgers.get(&division);
        let orders = self.orders.fresh(now, ORDERS_MAX_AGE).map(|listing| Arc::clone(listing.for_division(division)));
        AccountHistory {
            ledger: part.map_or(Err(HistoryGap::NotYetRead), |part| part.fresh(now, LEDGER_MAX_AGE).cloned()),
            ledger_read: part.and_then(HistoryPart::read_at),
            orders,
            orders_read: self.orders.read_at(),
            order_ends_failure: self.ends_failure(division),
        }
    }

    /// Returns why the end of an order of this division cannot be read; permanent failures take precedence.
    fn ends_failure(&self, division: Division) -> Option<Unreadable> {
        let concerns = |paid_by: Division| division.is_none() || paid_by.is_none() || paid_by == division;
        let failures = || self.ends_failed.values().filter(|(paid_by, _)| concerns(*paid_by)).map(|(_, why)| why);
        failures().find(|why| why.persistence == Persistence::Permanent).or_else(|| failures().next()).cloned()
    }

    /// Returns whether everything of these divisions was read or tried, and nothing of them is due. Divisions that are
    /// not requested do not count.
    pub(super) fn settled(&self, divisions: &BTreeSet<Division>, now: Time) -> bool {
        let others = self.others(divisions, now).unwrap_or_default().into_iter().map(Some);
        let all: BTreeSet<Division> = divisions.iter().copied().chain(others).collect();
        let mut parts = all.iter().filter_map(|division| self.ledgers.get(division)).peekable();
        let sharing = self.watched.funds.is_empty() || self.sharing.settled;
        let paused = self.paused.is_some_and(|until| until > now);
        let fresh = |part: &HistoryPart<Arc<Ledger>>| part.settled && (paused || !part.is_due(now, LEDGER_INTERVAL));
        parts.peek().is_none() || (self.orders.settled && sharing && parts.all(fresh))
    }
}

/// Returns the last day on which the end of a certificate matters.
fn last_day(now: Time, watched_days: u64) -> NaiveDate {
    now.date_naive() + Days::new(watched_days)
}
