//! The published orders, and the draft of a listing whose missing order ends are still being read. Nothing here sends a
//! request.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use chrono::NaiveDate;

use super::window::may_change;
use crate::domain::balance::{Persistence, Unreadable};
use crate::domain::order::Order;
use crate::domain::{Division, Time};

/// Number of failed order ends in a row after which the rest is left for later.
const MAX_CONSECUTIVE_FAILURES: usize = 3;

/// By order id: the end of its certificate when the order's end was requested, and the order's end.
pub(super) type OrderEnds = BTreeMap<u64, (NaiveDate, NaiveDate)>;

/// Failures of order ends by order id, with the division that pays for the order.
pub(super) type OrderEndFailures = BTreeMap<u64, (Division, Unreadable)>;

/// The orders by the division that pays for them. An order without a division counts for every division, since one
/// order too many is the smaller mistake.
#[derive(Debug)]
pub(super) struct OrderListing {
    pub(super) all: Arc<[Order]>,
    by_division: BTreeMap<u64, Arc<[Order]>>,
    without_division: Arc<[Order]>,
}

impl OrderListing {
    /// Returns a listing of these orders. Ends that the list lacks are added if they were requested for the present
    /// certificate.
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

    /// Returns the orders of a division (`None`: of the whole account).
    pub(super) fn for_division(&self, division: Division) -> &Arc<[Order]> {
        match division {
            None => &self.all,
            Some(id) => self.by_division.get(&id).unwrap_or(&self.without_division),
        }
    }
}

/// An order whose end has to be read.
#[derive(Debug)]
struct MissingEnd {
    order: u64,
    certificate_ends: NaiveDate,
    division: Division,
}

/// A listing whose missing order ends are still being read.
#[derive(Debug)]
pub(super) struct ListingDraft {
    orders: Arc<[Order]>,
    read: Time,
    /// True for a new listing, false for the published one.
    is_new: bool,
    /// Last day on which the end of a certificate matters.
    until: NaiveDate,
    missing: VecDeque<MissingEnd>,
    failed: OrderEndFailures,
    /// Failures since the last good read of an end.
    consecutive_failures: Vec<Unreadable>,
}

impl ListingDraft {
    /// Returns the draft of a new listing.
    pub(super) fn for_new_listing(orders: Arc<[Order]>, read: Time, until: NaiveDate, ends: &OrderEnds) -> Self {
        Self::new(orders, read, true, until, ends, OrderEndFailures::new())
    }

    /// Returns a draft of the published listing, to read more of its ends. Ends that failed permanently are not read
    /// again.
    pub(super) fn for_published_listing(
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
        Self { orders, read, is_new, until, missing, failed, consecutive_failures: Vec::new() }
    }

    /// Returns the order whose end is to be read next, and the end of its certificate.
    pub(super) fn next(&self) -> Option<(u64, NaiveDate)> {
        self.missing.front().map(|missing| (missing.order, missing.certificate_ends))
    }

    /// Removes the next order, whose end is now known.
    pub(super) fn complete_next(&mut self) {
        self.missing.pop_front();
        self.consecutive_failures.clear();
    }

    /// Records that the end of the next order cannot be read. After several failures in a row, all remaining ends fail,
    /// too.
    pub(super) fn fail(&mut self, why: Unreadable) {
        let Some(next) = self.missing.pop_front() else { return };
        self.failed.insert(next.order, (next.division, why.clone()));
        self.consecutive_failures.push(why);
        if self.consecutive_failures.len() < MAX_CONSECUTIVE_FAILURES {
            return;
        }
        let transient = self.consecutive_failures.iter().find(|why| why.persistence == Persistence::Transient);
        if let Some(why) = transient.or(self.consecutive_failures.last()) {
            let rest = self.missing.drain(..);
            self.failed.extend(rest.map(|missing| (missing.order, (missing.division, why.clone()))));
        }
    }
}

/// A draft without missing ends.
pub(super) struct CompleteDraft {
    pub(super) draft: ListingDraft,
    pub(super) ends: Arc<OrderEnds>,
    /// Orders that are published at present.
    pub(super) published: Option<Arc<[Order]>>,
}

/// A listing that is ready to be published.
pub(super) struct BuiltListing {
    pub(super) listing: OrderListing,
    pub(super) ends: Arc<OrderEnds>,
    pub(super) failed: OrderEndFailures,
    pub(super) read: Time,
    pub(super) is_new: bool,
    pub(super) until: NaiveDate,
    /// True if the orders differ from the published ones.
    pub(super) changed: bool,
}

impl CompleteDraft {
    /// Builds the listing. Takes some time for many orders.
    pub(super) fn build(self) -> BuiltListing {
        let Self { draft, mut ends, published } = self;
        let ListingDraft { orders, read, is_new, until, failed, .. } = draft;
        let listed: BTreeSet<u64> = orders.iter().map(|order| order.id).collect();
        Arc::make_mut(&mut ends).retain(|order, _| listed.contains(order));
        let listing = OrderListing::new(&orders, &ends);
        let changed = published.is_none_or(|before| before != listing.all);
        BuiltListing { listing, ends, failed, read, is_new, until, changed }
    }
}
