//! History of a fund: its ledger and its orders, as far as they could be read.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Time;
use super::balance::Unreadable;
use super::ledger::Ledger;
use super::order::Order;

/// Reason why the ledger or the orders of a fund are not available.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HistoryGap {
    /// Being read for the first time, or never requested. This is no failure, and raises no alert.
    NotYetRead,
    /// Could not be read, and no earlier data is fresh enough to use.
    Unreadable(Unreadable),
}

/// Ledger and orders of one fund, as last read. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountHistory {
    /// Ledger of the fund.
    pub ledger: Result<Arc<Ledger>, HistoryGap>,
    /// Time at which the ledger was read, however long ago; `None` if it never was.
    pub ledger_read: Option<Time>,
    /// Orders of the fund.
    pub orders: Result<Arc<[Order]>, HistoryGap>,
    /// Time at which the orders were requested; later orders may be missing. `None` if they never were.
    pub orders_read: Option<Time>,
    /// Failure to read when some of these orders end. Such an order has no [`Order::order_ends`].
    pub order_ends_failure: Option<Unreadable>,
}

impl AccountHistory {
    /// Merges the histories of divisions that share one fund, with each line and each order once. What is missing in one of them
    /// is missing in the result.
    pub fn merge(parts: &[AccountHistory]) -> Self {
        let [first, others @ ..] = parts else { return Self::unread() };
        others.iter().fold(first.clone(), AccountHistory::merge_with)
    }

    fn merge_with(self, other: &AccountHistory) -> Self {
        let ledger = match (self.ledger, &other.ledger) {
            (Ok(one), Ok(other)) => {
                Ok(Arc::new(Ledger::new(one.entries().iter().chain(other.entries()).cloned().collect())))
            }
            (one, other) => Err(merged_gap(one.err(), other.as_ref().err())),
        };
        let orders = match (self.orders, &other.orders) {
            (Ok(one), Ok(other)) => {
                let all: BTreeMap<u64, &Order> =
                    one.iter().chain(other.iter()).map(|order| (order.id, order)).collect();
                Ok(all.into_values().cloned().collect())
            }
            (one, other) => Err(merged_gap(one.err(), other.as_ref().err())),
        };
        let (ledger_read, orders_read) =
            (self.ledger_read.min(other.ledger_read), self.orders_read.min(other.orders_read));
        let order_ends_failure = self.order_ends_failure.or_else(|| other.order_ends_failure.clone());
        Self { ledger, ledger_read, orders, orders_read, order_ends_failure }
    }

    /// Creates a history of which nothing has been read.
    pub fn unread() -> Self {
        Self {
            ledger: Err(HistoryGap::NotYetRead),
            ledger_read: None,
            orders: Err(HistoryGap::NotYetRead),
            orders_read: None,
            order_ends_failure: None,
        }
    }
}

/// Returns the gap of a merged history: a failure takes precedence over what is being read.
fn merged_gap(one: Option<HistoryGap>, other: Option<&HistoryGap>) -> HistoryGap {
    match (one, other) {
        (Some(failed @ HistoryGap::Unreadable(_)), _) => failed,
        (_, Some(failed @ HistoryGap::Unreadable(_))) => failed.clone(),
        _ => HistoryGap::NotYetRead,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::balance::Persistence;
    use crate::domain::ledger::LedgerEntry;
    use crate::domain::ledger::tests::entry;

    #[test]
    fn histories_of_one_fund_are_merged_and_keep_each_others_gaps() {
        let part = |entries: Vec<LedgerEntry>| AccountHistory {
            ledger: Ok(Arc::new(Ledger::new(entries))),
            ..AccountHistory::unread()
        };
        let parts =
            [part(vec![entry("a", 1, -1), entry("c", 3, -3)]), part(vec![entry("b", 2, -2), entry("a", 1, -1)])];
        let merged = AccountHistory::merge(&parts).ledger.unwrap();
        assert_eq!(merged.entries().iter().map(|entry| &*entry.id).collect::<Vec<_>>(), ["a", "b", "c"]);
        let why = Unreadable { persistence: Persistence::Transient, reason: "503".to_owned() };
        let failed = AccountHistory { ledger: Err(HistoryGap::Unreadable(why.clone())), ..AccountHistory::unread() };
        let [one, other] = parts;
        assert_eq!(AccountHistory::merge(&[one.clone(), failed, other]).ledger, Err(HistoryGap::Unreadable(why)));
        assert_eq!(AccountHistory::merge(&[one, AccountHistory::unread()]).ledger, Err(HistoryGap::NotYetRead));
    }
}
