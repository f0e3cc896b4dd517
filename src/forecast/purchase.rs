//! Purchases and renewals, each as matched to its orders.

use chrono::NaiveDate;
use rust_decimal::Decimal;

use crate::domain::ledger::LedgerEntry;
use crate::domain::order::Order;

/// Kind of a purchase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PurchaseKind {
    /// An order that replaces an earlier one.
    Renewal,
    /// An order that replaces none.
    NewOrder,
    /// Anything else, such as an added domain or a debit that belongs to no listed order.
    Other,
}

/// Source of the payment for an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PaymentSource {
    /// Paid from the account's balance.
    Balance,
    /// Paid by card or on an invoice.
    Elsewhere,
    /// Not known: the order is older than the ledger.
    Unknown,
}

/// A debit for a purchase.
#[derive(Debug, Clone)]
pub(super) struct Purchase<'a> {
    pub(super) entry: &'a LedgerEntry,
    /// Amount minus refunds; 0 if fully refunded.
    pub(super) cost: Decimal,
    pub(super) kind: PurchaseKind,
    /// Index of the order that it paid for.
    pub(super) order: Option<usize>,
}

impl Purchase<'_> {
    pub(super) fn day(&self) -> NaiveDate {
        self.entry.at.date_naive()
    }

    /// Returns the amount of the debit, above 0, without refunds.
    pub(super) fn amount(&self) -> Decimal {
        -self.entry.change
    }
}

/// A renewed order and its renewal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Renewal {
    /// Index of the renewed order.
    pub(super) renewed: usize,
    /// Index of the successor, if it is listed.
    pub(super) by: Option<usize>,
    /// Index of the purchase, if it was paid from the balance.
    pub(super) purchase: Option<usize>,
    /// Day of the renewal.
    pub(super) on: NaiveDate,
    /// Days from the renewal to the end of the renewed order; negative if it was late.
    pub(super) lead: i32,
}

/// Returns the day on which an order ends, as far as known.
pub(super) fn order_end(order: &Order) -> NaiveDate {
    order.probably_ends().unwrap_or(order.certificate_ends)
}
