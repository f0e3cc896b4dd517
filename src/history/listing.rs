//! The orders as they are shown, and a listing on its way there, whose orders' ends are still being asked for. It asks nothing
//! itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use chrono::NaiveDate;

use super::window::may_change;
use crate::domain::balance::{Persistence, Unreadable};
use crate::domain::order::Order;
use crate::domain::{Division, Time};

/// So many orders' ends may fail in a row before the rest is left for later.
const MAX_CONSECUTIVE_FAILURES: usize = 3;

/// An order's own end, and the end of the certificate that it was asked at.
pub(super) type OrderEnds = BTreeMap<u64, (NaiveDate, NaiveDate)>;

/// Why ends could not be read, by order, with the division that pays for it.
pub(super) type OrderEndFailures = BTreeMap<u64, (Division, Unreadable)>;

/// The orders by the division that pays. One whose division is not said is everybody's: better one too many.
#[derive(Debug)]
pub(super) struct OrderListing {
    pub(super) all: Arc<[Order]>,
    by_division: BTreeMap<u64, Arc<[Order]>>,
    without_division: Arc<[Order]>,
}

impl OrderListing {
    /// These orders with their ends, where the list does not tell them and they were asked for at the present certificate.
    pub(super) fn new(orders: &[Order], ends: &OrderEnds) -> Self {
        let with_end = |order: &Order| {
            let known = ends.get(&order.id).filter(|(certificate, _)| *certificate == order.certificate_ends);
            Order { order_ends: order.order_ends.or(known.map(|(_, end)| *end)), ..order.clone() }
        };
        let orders: Vec<Order> = orders.iter().map(with_end).collect();
        let divisions: BTreeSet<u64> = orders.iter().filter_map(|order| order.division).collect();
        let mut by_division: BTreeMap<u64, Vec<Order>> = divisions.iter().map(|id| (*id, Vec::new())).collect();
        let mut without_division = Vec::new();
        for order in &orders {
            match order.division.and_then(|id| by_division.get_mut(&id)) {
                Some(own) => own.push(order.clone()),
                None => without_division.push(order.clone()),
            }
        }
        for own in by_division.values_mut() {
            own.extend(without_division.iter().cloned());
        }
        let by_division = by_division.into_iter().map(|(id, own)| (id, own.into())).collect();
        Self { all: orders.into(), by_division, without_division: without_division.into() }
    }

    pub(super) fn of(&self, division: Division) -> &Arc<[Order]> {
        match division {
            None => &self.all,
            Some(id) => self.by_division.get(&id).unwrap_or(&self.without_division),
        }
    }
}

/// An order whose end is to be asked for.
#[derive(Debug)]
struct MissingEnd {
    order: u64,
    certificate_ends: NaiveDate,
    division: Division,
}

/// A listing whose orders' ends are still being asked for.
#[derive(Debug)]
pub(super) struct ListingDraft {
    orders: Arc<[Order]>,
    read: Time,
    /// Whether it was just read; else it is the one that is shown.
    is_new: bool,
    /// The last day on which a certificate's end matters.
    until: NaiveDate,
    missing: VecDeque<MissingEnd>,
    failed: OrderEndFailures,
    /// The failures since an end was last read.
    consecutive_failures: Vec<Unreadable>,
}

impl ListingDraft {
    /// A listing that was just read.
    pub(super) fn for_new_listing(orders: Arc<[Order]>, read: Time, until: NaiveDate, ends: &OrderEnds) -> Self {
        Self::new(orders, read, true, until, ends, OrderEndFailures::new())
    }

    /// The listing that is shown, once more. Of the ends that failed, those are not asked for that somebody has to see to.
    pub(super) fn for_shown_listing(
        listing: &OrderListing,
        read: Time,
        until: NaiveDate,
        ends: &OrderEnds,
        failed: &OrderEndFailures,
    ) -> Self {
        let mut failed = failed.clone();
        failed.retain(|_, (_, why)| why.persistence == Persistence::Permanent);
        Self::new(Arc::clone(&listing.all), read, false, until, ends, failed)
    }

    fn new(
        orders: Arc<[Order]>,
        read: Time,
        is_new: bool,
        until: NaiveDate,
        ends: &OrderEnds,
        failed: OrderEndFailures,
    ) -> Self {
        let matters = |order: &&Order| {
            order.certificate_ends <= until && order.end_is_uncertain() && may_change(order, read.date_naive())
        };
        let unknown = |order: &&Order| {
            !failed.contains_key(&order.id)
                && ends.get(&order.id).is_none_or(|(certificate, _)| *certificate != order.certificate_ends)
        };
        let missing_end = |order: &Order| MissingEnd {
            order: order.id,
            certificate_ends: order.certificate_ends,
            division: order.division,
        };
        let missing = orders.iter().filter(matters).filter(unknown).map(missing_end).collect();
        Self { orders, read, is_new: is_new, until, missing: missing, failed, consecutive_failures: Vec::new() }
    }

    /// The order whose end is to be asked for next, and the end of its certificate.
    pub(super) fn next(&self) -> Option<(u64, NaiveDate)> {
        self.missing.front().map(|it| (it.order, it.certificate_ends))
    }

    /// The end of the next order is known.
    pub(super) fn answered(&mut self) {
        self.missing.pop_front();
        self.consecutive_failures.clear();
    }

    /// The end of the next order could not be read. What keeps several in a row from being read keeps the others too.
    pub(super) fn fail(&mut self, why: Unreadable) {
        let Some(next) = self.missing.pop_front() else { return };
        self.failed.insert(next.order, (next.division, why.clone()));
        self.consecutive_failures.push(why);
        if self.consecutive_failures.len() < MAX_CONSECUTIVE_FAILURES {
            return;
        }
        let transient = self.consecutive_failures.iter().find(|why| why.persistence == Persistence::Transient);
        if let Some(why) = transient.or(self.consecutive_failures.last()) {
            self.failed.extend(self.missing.drain(..).map(|it| (it.order, (it.division, why.clone()))));
        }
    }
}

/// A draft that lacks nothing any more.
pub(super) struct CompleteDraft {
    pub(super) draft: ListingDraft,
    pub(super) ends: Arc<OrderEnds>,
    /// What is shown at present.
    pub(super) shown: Option<Arc<[Order]>>,
}

/// What becomes of it.
pub(super) struct BuiltListing {
    pub(super) listing: OrderListing,
    pub(super) ends: Arc<OrderEnds>,
    pub(super) failed: OrderEndFailures,
    pub(super) read: Time,
    pub(super) is_new: bool,
    pub(super) until: NaiveDate,
    /// Whether it differs from what is shown.
    pub(super) changed: bool,
}

impl CompleteDraft {
    /// Takes a moment where there are many orders.
    pub(super) fn build(self) -> BuiltListing {
        let Self { draft, mut ends, shown } = self;
        let ListingDraft { orders, read, is_new, until, failed, .. } = draft;
        let listed: BTreeSet<u64> = orders.iter().map(|order| order.id).collect();
        Arc::make_mut(&mut ends).retain(|order, _| listed.contains(order));
        let listing = OrderListing::new(&orders, &ends);
        let changed = shown.is_none_or(|before| before != listing.all);
        BuiltListing { listing, ends, failed, read, is_new, until, changed }
    }
}
