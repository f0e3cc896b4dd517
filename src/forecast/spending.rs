//! Which lines of a ledger are purchases, and what was spent on them.

use std::collections::BTreeSet;
use std::time::Duration;

use rust_decimal::Decimal;

use super::purchases::{RefundMatch, net_purchases};
use crate::domain::Time;
use crate::domain::ledger::{Ledger, LedgerEntry};

/// Transaction types whose debits buy nothing, unless the configuration names others.
///
/// What expires, is corrected, moved to another fund or given back, took money out without a purchase. Whatever is not
/// named here counts: a purchase that is overlooked makes funds look safer than they are.
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

/// Which transaction types count as purchases: every debit's but those of the types listed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spending {
    excluded_types: BTreeSet<String>,
    /// Whether one of them is so many bytes long (a bit for each length, the last for all that are longer).
    type_lengths: u64,
}

impl Spending {
    /// Debits of all types count but these; case and surrounding space make no difference.
    pub fn without<T: AsRef<str>>(types: impl IntoIterator<Item = T>) -> Self {
        let excluded_types: BTreeSet<String> = types.into_iter().map(|it| normalized(it.as_ref())).collect();
        let type_lengths = excluded_types.iter().fold(0, |all, other| all | length_bit(other));
        Self { excluded_types, type_lengths }
    }

    /// The types that do not count, in lower case.
    pub fn not_counted(&self) -> impl Iterator<Item = &str> {
        self.excluded_types.iter().map(String::as_str)
    }

    /// What a line spent on purchases, above 0, if it is a purchase.
    pub fn spent(&self, entry: &LedgerEntry) -> Option<Decimal> {
        let debit = entry.change.is_sign_negative() && !entry.change.is_zero();
        (debit && !self.is_excluded(&entry.kind)).then(|| -entry.change)
    }

    /// Reports whether a line is a credit that takes a purchase back: its type has the word *refund* (a *non-refundable*
    /// deposit is none), and is not among those that do not count.
    pub(super) fn is_refund(&self, entry: &LedgerEntry) -> bool {
        let mut words = entry.kind.split(|it: char| !it.is_alphanumeric());
        entry.change > Decimal::ZERO
            && words.any(|word| ["refund", "refunds", "refunded"].iter().any(|it| word.eq_ignore_ascii_case(it)))
            && !self.is_excluded(&entry.kind)
    }

    /// Long ledgers are asked line by line, so no text is made where none is needed.
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

/// Sums what was debited for purchases after `now - within`, up to and including `now`, without what was refunded of them.
///
/// The refunded purchases are looked for in the whole ledger. A refund that names no order and fits several purchases takes
/// back the oldest: it must not hide what was bought just now.
pub fn spend(ledger: &Ledger, spending: &Spending, now: Time, within: Duration) -> Decimal {
    let purchases = net_purchases(entries_until(ledger, now), spending, RefundMatch::Oldest);
    let from = chrono::Duration::from_std(within).ok().and_then(|within| now.checked_sub_signed(within));
    let first = from.map_or(0, |from| purchases.partition_point(|(entry, _)| entry.at <= from));
    purchases[first..].iter().map(|(_, cost)| *cost).sum()
}

/// The lines that are known at `now`.
pub(super) fn entries_until(ledger: &Ledger, now: Time) -> &[LedgerEntry] {
    let entries = ledger.entries();
    &entries[..entries.partition_point(|entry| entry.at <= now)]
}
