//! Classification of each purchase in a ledger: renewal, new order, or other.
//!
//! A debit belongs to the order that it names. If it names none, it belongs to the order of its price that was placed
//! on that day. An order renews an earlier one if the common name, product and dates fit and the earlier one is
//! marked as renewed. A credit that names an order cancels its purchase. A refund that names none cancels a purchase
//! of its amount.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::matching::{paid_orders, renewals};
use super::purchase::{PaymentSource, Purchase, PurchaseKind, Renewal};
use super::refunds::{RefundMatch, net_purchases};
use super::renewal_window::days_before;
use super::spending::{Spending, entries_until};
use crate::domain::Time;
use crate::domain::ledger::{Ledger, LedgerEntry};
use crate::domain::order::Order;
use crate::forecast::depletion::typical_cost;

/// Days after which an order is charged, at most.
const MAX_CHARGE_DELAY_DAYS: u64 = 2;

/// Number and cost of some purchases, in the account's currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PurchaseSum {
    /// Number of the purchases.
    pub count: usize,
    /// Their cost, minus refunds.
    pub amount: Decimal,
}

impl PurchaseSum {
    fn add(&mut self, amount: Decimal) {
        self.count += 1;
        self.amount = self.amount.saturating_add(amount);
    }
}

/// Purchases of a period by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PurchaseSums {
    /// Renewals that were paid from the balance.
    pub renewals: PurchaseSum,
    /// New orders that were paid from the balance.
    pub new_orders: PurchaseSum,
    /// Added domains and other debits.
    pub other: PurchaseSum,
    /// Number of purchases that were fully refunded.
    pub refunded: usize,
    /// Orders that were paid by card or on an invoice, at their list price.
    pub paid_elsewhere: PurchaseSum,
}

/// Purchases of a ledger up to a given time, oldest first, matched to orders.
#[derive(Debug, Clone)]
pub struct Purchases<'a> {
    pub(super) now: Time,
    /// Ledger lines up to `now`.
    pub(super) known: &'a [LedgerEntry],
    pub(super) orders: &'a [Order],
    pub(super) all: Vec<Purchase<'a>>,
    /// Source of each order's payment.
    pub(super) payments: Vec<PaymentSource>,
    pub(super) renewals: Vec<Renewal>,
}

impl<'a> Purchases<'a> {
    /// Classifies the purchases up to `now`. Without orders, every purchase is [`PurchaseKind::Other`].
    pub fn read(ledger: &'a Ledger, orders: Option<&'a [Order]>, spending: &Spending, now: Time) -> Self {
        let (known, orders) = (entries_until(ledger, now), orders.unwrap_or_default());
        let purchase = |(entry, cost)| Purchase { entry, cost, kind: PurchaseKind::Other, order: None };
        let mut all: Vec<Purchase<'_>> =
            net_purchases(known, spending, RefundMatch::Newest).into_iter().map(purchase).collect();
        let paid = paid_orders(&mut all, orders);
        let renewals = renewals(&all, orders, &paid);
        for renewal in &renewals {
            if let Some(index) = renewal.purchase {
                all[index].kind = PurchaseKind::Renewal;
            }
        }
        let covered =
            known.first().map(|first| (first.at.date_naive(), days_before(now.date_naive(), MAX_CHARGE_DELAY_DAYS)));
        let payments =
            orders.iter().zip(&paid).map(|(order, paid)| payment_source(order, paid.map(|index| &all[index]), covered));
        Self { payments: payments.collect(), now, known, orders, renewals, all }
    }

    /// Returns the number of days that the ledger covers; `None` if it is empty.
    pub(super) fn days_covered(&self) -> Option<u32> {
        let first = self.known.first()?;
        u32::try_from((self.now - first.at).num_days()).ok()
    }

    /// Returns the cost of a typical order.
    pub(super) fn typical_cost(&self) -> Decimal {
        typical_cost(self.all.iter().map(|purchase| (purchase.entry, purchase.cost)), self.now)
    }

    /// Returns the purchases of the 365 days up to `now` by kind.
    pub fn past_year(&self) -> PurchaseSums {
        let first = self.now - chrono::TimeDelta::days(365);
        let mut sums = PurchaseSums::default();
        for purchase in self.all.iter().filter(|purchase| purchase.entry.at > first) {
            if purchase.cost.is_zero() {
                sums.refunded += 1;
                continue;
            }
            let sum = match purchase.kind {
                PurchaseKind::Renewal => &mut sums.renewals,
                PurchaseKind::NewOrder => &mut sums.new_orders,
                PurchaseKind::Other => &mut sums.other,
            };
            sum.add(purchase.cost);
        }
        let charged: BTreeSet<usize> = self.all.iter().filter_map(|purchase| purchase.order).collect();
        let recent = |order: &Order| order.placed.is_some_and(|placed| placed > first.date_naive());
        for (index, (order, payment)) in self.orders.iter().zip(&self.payments).enumerate() {
            if *payment == PaymentSource::Elsewhere
                && !order.price.is_zero()
                && recent(order)
                && !charged.contains(&index)
            {
                sums.paid_elsewhere.add(order.price);
            }
        }
        sums
    }

    /// Returns the time at which each renewed order was renewed, by order id, if known.
    pub fn renewed_at(&self) -> BTreeMap<u64, Time> {
        let at = |renewal: &Renewal| match renewal.purchase {
            Some(index) => self.all[index].entry.at,
            None => renewal.on.and_time(chrono::NaiveTime::MIN).and_utc(),
        };
        self.renewals.iter().map(|renewal| (self.orders[renewal.renewed].id, at(renewal))).collect()
    }
}

/// Returns the source of an order's payment. An order placed in the covered days without a debit was paid elsewhere.
fn payment_source(
    order: &Order,
    paid: Option<&Purchase<'_>>,
    covered: Option<(NaiveDate, NaiveDate)>,
) -> PaymentSource {
    if let Some(purchase) = paid {
        return if purchase.cost.is_zero() { PaymentSource::Elsewhere } else { PaymentSource::Balance };
    }
    let covered = order.placed.zip(covered).is_some_and(|(placed, (first, last))| placed > first && placed < last);
    if covered { PaymentSource::Elsewhere } else { PaymentSource::Unknown }
}
