//! The orders as they are shown, and a listing on its way there, whose orders' ends are still being asked for. It asks nothing
//! itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use chrono::NaiveDate;

use super::window::may_change;
use crate::domain::balance::{Outlook, Unreadable};
use crate::domain::history::Order;
use crate::domain::{Division, Time};

/// So many orders' ends may fail in a row before the rest is left for later.
const MOST_FAILED: usize = 3;

/// An order's own end, and the end of the certificate that it was asked at.
pub(super) type Ends = BTreeMap<u64, (NaiveDate, NaiveDate)>;

/// Why ends could not be read, by order, with the division that pays for it.
pub(super) type EndsFailed = BTreeMap<u64, (Division, Unreadable)>;

/// The orders by the division that pays. One whose division is not said is everybody's: better one too many.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) all: Arc<[Order]>,
    by_division: BTreeMap<u64, Arc<[Order]>>,
    of_nobody: Arc<[Order]>,
}

impl Listing {
    /// These orders with their ends, where the list does not tell them and they were asked for at the present certificate.
    pub(super) fn new(orders: &[Order], ends: &Ends) -> Self {
        let with_end = |order: &Order| {
            let known = ends.get(&order.id).filter(|(certificate, _)| *certificate == order.certificate_ends);
            Order { order_ends: order.order_ends.or(known.map(|(_, end)| *end)), ..order.clone() }
        };
        let orders: Vec<Order> = orders.iter().map(with_end).collect();
        let divisions: BTreeSet<u64> = orders.iter().filter_map(|order| order.division).collect();
        let mut by_division: BTreeMap<u64, Vec<Order>> = divisions.iter().map(|id| (*id, Vec::new())).collect();
        let mut of_nobody = Vec::new();
        for order in &orders {
            match order.division.and_then(|id| by_division.get_mut(&id)) {
                Some(own) => own.push(order.clone()),
                None => of_nobody.push(order.clone()),
            }
        }
        for own in by_division.values_mut() {
            own.extend(of_nobody.iter().cloned());
        }
        let by_division = by_division.into_iter().map(|(id, own)| (id, own.into())).collect();
        Self { all: orders.into(), by_division, of_nobody: of_nobody.into() }
    }

    pub(super) fn of(&self, division: Division) -> &Arc<[Order]> {
        match division {
            None => &self.all,
            Some(id) => self.by_division.get(&id).unwrap_or(&self.of_nobody),
        }
    }
}

/// An order whose end is to be asked for.
#[derive(Debug)]
struct Lacking {
    order: u64,
    certificate_ends: NaiveDate,
    division: Division,
}

/// A listing whose orders' ends are still being asked for.
#[derive(Debug)]
pub(super) struct Draft {
    orders: Arc<[Order]>,
    read: Time,
    /// Whether it was just read; else it is the one that is shown.
    anew: bool,
    /// The last day on which a certificate's end matters.
    until: NaiveDate,
    lacking: VecDeque<Lacking>,
    failed: EndsFailed,
    /// The failures since an end was last read.
    in_a_row: Vec<Unreadable>,
}

impl Draft {
    /// A listing that was just read.
    pub(super) fn of_new(orders: Arc<[Order]>, read: Time, until: NaiveDate, ends: &Ends) -> Self {
        Self::new(orders, read, true, until, ends, EndsFailed::new())
    }

    /// The listing that is shown, once more. Of the ends that failed, those are not asked for that somebody has to see to.
    pub(super) fn of_shown(listing: &Listing, read: Time, until: NaiveDate, ends: &Ends, failed: &EndsFailed) -> Self {
        let mut failed = failed.clone();
        failed.retain(|_, (_, why)| why.outlook == Outlook::NeedsAction);
        Self::new(Arc::clone(&listing.all), read, false, until, ends, failed)
    }

    fn new(orders: Arc<[Order]>, read: Time, anew: bool, until: NaiveDate, ends: &Ends, failed: EndsFailed) -> Self {
        let matters = |order: &&Order| {
            order.certificate_ends <= until && order.end_is_in_doubt() && may_change(order, read.date_naive())
        };
        let unknown = |order: &&Order| {
            !failed.contains_key(&order.id)
                && ends.get(&order.id).is_none_or(|(certificate, _)| *certificate != order.certificate_ends)
        };
        let lacks = |order: &Order| Lacking {
            order: order.id,
            certificate_ends: order.certificate_ends,
            division: order.division,
        };
        let lacking = orders.iter().filter(matters).filter(unknown).map(lacks).collect();
        Self { orders, read, anew, until, lacking, failed, in_a_row: Vec::new() }
    }

    /// The order whose end is to be asked for next, and the end of its certificate.
    pub(super) fn next(&self) -> Option<(u64, NaiveDate)> {
        self.lacking.front().map(|it| (it.order, it.certificate_ends))
    }

    /// The end of the next order is known.
    pub(super) fn answered(&mut self) {
        self.lacking.pop_front();
        self.in_a_row.clear();
    }

    /// The end of the next order could not be read. What keeps several in a row from being read keeps the others too.
    pub(super) fn fail(&mut self, why: Unreadable) {
        let Some(next) = self.lacking.pop_front() else { return };
        self.failed.insert(next.order, (next.division, why.clone()));
        self.in_a_row.push(why);
        if self.in_a_row.len() < MOST_FAILED {
            return;
        }
        let heals = self.in_a_row.iter().find(|why| why.outlook == Outlook::MayHeal);
        if let Some(why) = heals.or(self.in_a_row.last()) {
            self.failed.extend(self.lacking.drain(..).map(|it| (it.order, (it.division, why.clone()))));
        }
    }
}

/// A draft that lacks nothing any more.
pub(super) struct Finished {
    pub(super) draft: Draft,
    pub(super) ends: Arc<Ends>,
    /// What is shown at present.
    pub(super) shown: Option<Arc<[Order]>>,
}

/// What becomes of it.
pub(super) struct Built {
    pub(super) listing: Listing,
    pub(super) ends: Arc<Ends>,
    pub(super) failed: EndsFailed,
    pub(super) read: Time,
    pub(super) anew: bool,
    pub(super) until: NaiveDate,
    /// Whether it differs from what is shown.
    pub(super) changed: bool,
}

impl Finished {
    /// Takes a moment where there are many orders.
    pub(super) fn build(self) -> Built {
        let Self { draft, mut ends, shown } = self;
        let Draft { orders, read, anew, until, failed, .. } = draft;
        let listed: BTreeSet<u64> = orders.iter().map(|order| order.id).collect();
        Arc::make_mut(&mut ends).retain(|order, _| listed.contains(order));
        let listing = Listing::new(&orders, &ends);
        let changed = shown.is_none_or(|before| before != listing.all);
        Built { listing, ends, failed, read, anew, until, changed }
    }
}
