//! Ledger of a fund: what changed its balance.

use std::collections::BTreeMap;
use std::sync::Arc;

use rust_decimal::Decimal;

use super::Time;
use super::money::Currency;

/// One line of the ledger (`finance/balance-history`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Id that CertCentral gave it; unique, but not in order of time.
    pub id: Box<str>,
    /// Time of the line. The API names no zone; it is read as UTC.
    pub at: Time,
    /// Change of the balance: positive for a credit, negative for a debit.
    pub change: Decimal,
    /// Transaction type, such as `ChargedPrice` or `CreditLimit Card RequiredDeposit`. The set is open.
    pub kind: Arc<str>,
    /// Balance afterwards, if the line contains it.
    pub balance_after: Option<Decimal>,
    /// Currency of the amounts, if the line contains it.
    pub currency: Option<Currency>,
    /// Number of the order that it pays for.
    pub order: Option<u64>,
    /// Time at which the rest of this deposit expires.
    pub expires: Option<Time>,
}

/// Ledger of one fund: its lines, oldest first, each once. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Shared with ledgers as of an earlier time, which contain only the first lines.
    lines: Arc<Vec<LedgerEntry>>,
    count: usize,
}

impl Ledger {
    /// Sorts lines by time. Lines of the same time keep their order. Of two lines with the same id, the later one in `entries` is
    /// kept.
    pub fn new(entries: Vec<LedgerEntry>) -> Self {
        let newest: BTreeMap<Box<str>, usize> =
            entries.iter().enumerate().map(|(index, entry)| (entry.id.clone(), index)).collect();
        let is_newest = |index: usize, entry: &LedgerEntry| newest.get(&entry.id) == Some(&index);
        let mut entries: Vec<LedgerEntry> = entries
            .into_iter()
            .enumerate()
            .filter_map(|(index, entry)| is_newest(index, &entry).then_some(entry))
            .collect();
        entries.sort_by_key(|entry| entry.at);
        Self { count: entries.len(), lines: Arc::new(entries) }
    }

    /// Returns the lines, oldest first.
    pub fn entries(&self) -> &[LedgerEntry] {
        &self.lines[..self.count]
    }

    /// Returns the ledger as of `at`, without later lines.
    #[must_use]
    pub fn as_of(&self, at: Time) -> Self {
        let count = self.entries().partition_point(|entry| entry.at <= at);
        Self { lines: Arc::clone(&self.lines), count }
    }
}

impl PartialEq for Ledger {
    fn eq(&self, other: &Self) -> bool {
        self.entries() == other.entries()
    }
}

impl Eq for Ledger {}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use chrono::TimeZone as _;

    pub(in crate::domain) fn entry(id: &str, day: u32, change: i64) -> LedgerEntry {
        LedgerEntry {
            id: id.into(),
            at: chrono::Utc.with_ymd_and_hms(2026, 11, day, 12, 0, 0).unwrap(),
            change: Decimal::from(change),
            kind: "Charge".into(),
            balance_after: None,
            currency: None,
            order: None,
            expires: None,
        }
    }

    #[test]
    fn a_ledger_holds_each_entry_once_oldest_first() {
        let lines = [entry("9", 3, -1), entry("b", 2, -2), entry("a", 2, -3), entry("9", 3, -4)];
        let ledger = Ledger::new(lines.to_vec());
        let entries: Vec<_> = ledger.entries().iter().map(|entry| (&*entry.id, entry.change)).collect();
        assert_eq!(entries, [("b", (-2).into()), ("a", (-3).into()), ("9", (-4).into())]);
    }

    #[test]
    fn a_ledger_as_of_a_moment_lacks_later_entries() {
        let ledger = Ledger::new(vec![entry("c", 3, -3), entry("a", 1, -1), entry("b", 2, -2)]);
        let noon = |day| chrono::Utc.with_ymd_and_hms(2026, 11, day, 12, 0, 0).unwrap();
        let two = ledger.as_of(noon(2));
        assert_eq!(two, Ledger::new(vec![entry("a", 1, -1), entry("b", 2, -2)]));
        assert_eq!(two.as_of(noon(3)), two, "what was cut off does not come back");
        assert_eq!(ledger.as_of(noon(1) - chrono::TimeDelta::seconds(1)), Ledger::default());
        assert_eq!(ledger.as_of(noon(3)), ledger);
    }
}
