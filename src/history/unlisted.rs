//! Orders that debits name and the listing lacks: placed since the listing, or never listed. Nothing here sends a
//! request.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use rust_decimal::Decimal;

use crate::domain::ledger::Ledger;
use crate::domain::order::Order;

/// Ids of orders that new debits name and the known listing lacks.
#[derive(Debug, Default)]
pub(super) struct UnlistedOrders {
    /// Orders named since the last listing.
    new: BTreeSet<u64>,
    /// Orders that a later listing lacked as well: they are pending, have a status that is not listed, or are hidden
    /// from the API key.
    absent: BTreeSet<u64>,
}

impl UnlistedOrders {
    /// Notes the unlisted orders that debits of this ledger name from the day `since` on. `listed_later` is true if the
    /// orders were listed after the ledger was read.
    pub(super) fn record(&mut self, ledger: &Ledger, since: NaiveDate, orders: &[Order], listed_later: bool) {
        let entries = ledger.entries();
        let recent = &entries[entries.partition_point(|entry| entry.at.date_naive() < since)..];
        let debits = recent.iter().filter(|entry| entry.change < Decimal::ZERO);
        let mut named: BTreeSet<u64> = debits.filter_map(|entry| entry.order).collect();
        named.retain(|id| !self.new.contains(id) && !self.absent.contains(id));
        remove_listed(&mut named, orders);
        if listed_later { &mut self.absent } else { &mut self.new }.append(&mut named);
    }

    /// Records a new listing: the orders noted so far cause no other one.
    pub(super) fn mark_searched(&mut self) {
        self.absent.append(&mut self.new);
    }

    /// Removes the orders that a listing contains.
    pub(super) fn remove_listed(&mut self, orders: &[Order]) {
        remove_listed(&mut self.new, orders);
        remove_listed(&mut self.absent, orders);
    }

    /// Returns whether another listing may contain an order that the known one lacks.
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
