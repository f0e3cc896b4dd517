//! Orders that debits name and the listing does not hold: bought since it began, or never listed. Nothing is asked here.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use rust_decimal::Decimal;

use crate::domain::ledger::Ledger;
use crate::domain::order::Order;

/// Order ids from new debits that the listing at hand lacks.
#[derive(Debug, Default)]
pub(super) struct UnlistedOrders {
    /// No listing has been made since a debit named these.
    new: BTreeSet<u64>,
    /// A listing made for these did not show them: they are pending, have a status that is not listed, or are hidden from the key.
    absent: BTreeSet<u64>,
}

impl UnlistedOrders {
    /// Notes the orders that the debits of a ledger name from day `since` on. `listed_later` says that the orders were listed after
    /// this ledger was read.
    pub(super) fn record(&mut self, ledger: &Ledger, since: NaiveDate, orders: &[Order], listed_later: bool) {
        let lines = ledger.entries();
        let recent = &lines[lines.partition_point(|line| line.at.date_naive() < since)..];
        let debits = recent.iter().filter(|line| line.change < Decimal::ZERO);
        let mut named: BTreeSet<u64> = debits.filter_map(|line| line.order).collect();
        named.retain(|id| !self.new.contains(id) && !self.absent.contains(id));
        remove_listed(&mut named, orders);
        if listed_later { &mut self.absent } else { &mut self.new }.append(&mut named);
    }

    /// Records that a new listing has been read: none is made again for the orders noted so far.
    pub(super) fn mark_searched(&mut self) {
        self.absent.append(&mut self.new);
    }

    /// Forgets the orders that this listing shows.
    pub(super) fn remove_listed(&mut self, orders: &[Order]) {
        remove_listed(&mut self.new, orders);
        remove_listed(&mut self.absent, orders);
    }

    /// Reports whether another listing may show an order that the one at hand lacks.
    pub(super) fn needs_listing(&self) -> bool {
        !self.new.is_empty()
    }
}

fn remove_listed(ids: &mut BTreeSet<u64>, orders: &[Order]) {
    if ids.is_empty() {
        return;
    }
    for order in orders {
        ids.remove(&order.id);
    }
}
