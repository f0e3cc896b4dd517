//! Ledger lines that are purchases, and the amounts spent on them.

use std::collections::BTreeSet;

use rust_decimal::Decimal;

use crate::domain::Time;
use crate::domain::ledger::{Ledger, LedgerEntry};

/// Transaction types whose debits are not purchases, unless the configuration lists others.
///
/// Expired credit, corrections, transfers and reversals take money out without a purchase. Every other type counts,
/// since an overlooked purchase makes funds look safer than they are.
const NON_PURCHASE_TYPES: [&str; 14] = [
    "Adjustment",
    "Balance Adjustment",
    "Balance Transfer",
    "Chargeback",
    "Credit Adjustment",
    "Credit Expiration",
    "Deposit Expired",
    "Deposit Reversal",
    "Deposit Transfer",
    "Expired Credit",
    "Expired Deposit",
    "Funds Transfer",
    "Refund Reversal",
    "Transfer",
];

/// Transaction types that count as purchases: all debits except the types listed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spending {
    excluded_types: BTreeSet<String>,
    /// Bit set of the lengths in bytes of the excluded types; the last bit stands for all longer ones.
    type_lengths: u64,
}

impl Spending {
    /// Counts all types but these. Case and surrounding space are ignored.
    pub fn without<T: AsRef<str>>(types: impl IntoIterator<Item = T>) -> Self {
        let excluded_types: BTreeSet<String> = types.into_iter().map(|kind| normalized(kind.as_ref())).collect();
        let type_lengths = excluded_types.iter().fold(0, |all, other| all | length_bit(other));
        Self { excluded_types, type_lengths }
    }

    /// Returns the excluded types, in lower case.
    pub fn not_counted(&self) -> impl Iterator<Item = &str> {
        self.excluded_types.iter().map(String::as_str)
    }

    /// Returns the amount spent, above 0, if the line is a purchase.
    pub fn spent(&self, entry: &LedgerEntry) -> Option<Decimal> {
        let debit = entry.change.is_sign_negative() && !entry.change.is_zero();
        (debit && !self.is_excluded(&entry.kind)).then(|| -entry.change)
    }

    /// Reports whether a line is a credit that refunds a purchase: its type contains the word *refund*
    /// (*non-refundable* does not count) and is not excluded.
    pub(super) fn is_refund(&self, entry: &LedgerEntry) -> bool {
        let mut words = entry.kind.split(|letter: char| !letter.is_alphanumeric());
        entry.change > Decimal::ZERO
            && words
                .any(|word| ["refund", "refunds", "refunded"].iter().any(|refund| word.eq_ignore_ascii_case(refund)))
            && !self.is_excluded(&entry.kind)
    }

    /// Allocates nothing for ASCII types, since long ledgers are checked line by line.
    fn is_excluded(&self, kind: &str) -> bool {
        if kind.is_ascii() {
            let kind = kind.trim();
            return self.type_lengths & length_bit(kind) != 0
                && self.excluded_types.iter().any(|other| other.eq_ignore_ascii_case(kind));
        }
        self.excluded_types.contains(normalized(kind).as_str())
    }
}

impl Default for Spending {
    fn default() -> Self {
        Self::without(NON_PURCHASE_TYPES)
    }
}

fn length_bit(text: &str) -> u64 {
    1 << text.len().min(63)
}

fn normalized(kind: &str) -> String {
    kind.trim().to_lowercase()
}

/// Returns the ledger lines up to `now`.
pub(super) fn entries_until(ledger: &Ledger, now: Time) -> &[LedgerEntry] {
    let entries = ledger.entries();
    &entries[..entries.partition_point(|entry| entry.at <= now)]
}
