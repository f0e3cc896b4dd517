//! Classification of each purchase in a ledger: renewal, new order, or other.
//!
//! A debit belongs to the order that it names. If it names none, it belongs to the order of its price that was placed
//! on that day. An order renews an earlier one if the common name, product and dates fit and the earlier one is
//! marked as renewed. A credit that names an order cancels its purchase. A refund that names none cancels a purchase
//! of its amount.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::Spending;
use super::matching::{paid_orders, renewals};
use super::renewals::days_before;
use super::spending::entries_until;
use crate::domain::Time;
use crate::domain::history::{Ledger, LedgerEntry, Order};
use crate::forecast::depletion::typical_cost;

/// Days after which an order is charged, at most.
const MAX_CHARGE_DELAY_DAYS: u64 = 2;
/// Time by which a credit can come before the debit that it cancels.
const MAX_CREDIT_LEAD: chrono::TimeDelta = chrono::TimeDelta::days(1);

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

/// Number and cost of some purchases, in the account's currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PurchaseSum {
    /// Number of purchases.
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
            if let Some(place) = renewal.purchase {
                all[place].kind = PurchaseKind::Renewal;
            }
        }
        let covered =
            known.first().map(|first| (first.at.date_naive(), days_before(now.date_naive(), MAX_CHARGE_DELAY_DAYS)));
        let payments =
            orders.iter().zip(&paid).map(|(order, paid)| payment_source(order, paid.map(|it| &all[it]), covered));
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
        for (place, (order, payment)) in self.orders.iter().zip(&self.payments).enumerate() {
            if *payment == PaymentSource::Elsewhere
                && !order.price.is_zero()
                && recent(order)
                && !charged.contains(&place)
            {
                sums.paid_elsewhere.add(order.price);
            }
        }
        sums
    }

    /// Returns the time at which each renewed order was renewed, by order id, if known.
    pub fn renewed_at(&self) -> BTreeMap<u64, Time> {
        let at = |renewal: &Renewal| match renewal.purchase {
            Some(place) => self.all[place].entry.at,
            None => renewal.on.and_time(chrono::NaiveTime::MIN).and_utc(),
        };
        self.renewals.iter().map(|renewal| (self.orders[renewal.renewed].id, at(renewal))).collect()
    }
}

/// Choice among the purchases of its amount for a refund that names no order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefundMatch {
    /// The newest purchase before the refund.
    Newest,
    /// The oldest purchase.
    Oldest,
}

/// Returns the purchases among these lines with their cost, oldest first, minus refunds.
pub(super) fn net_purchases<'a>(
    lines: &'a [LedgerEntry],
    spending: &Spending,
    refund_match: RefundMatch,
) -> Vec<(&'a LedgerEntry, Decimal)> {
    let mut purchases: Vec<(&LedgerEntry, Decimal)> =
        lines.iter().filter_map(|line| Some((line, spending.spent(line)?))).collect();
    deduct_by_order(&mut purchases, lines);
    deduct_by_amount(&mut purchases, lines, spending, refund_match);
    purchases
}

/// Purchases that can still be refunded, by a key of the credit. They are found in one pass over the ledger.
struct RefundablePurchases<K> {
    /// Indexes of the purchases of each key, oldest first.
    places: BTreeMap<K, VecDeque<usize>>,
    /// Number of purchases passed so far.
    passed: usize,
}

impl<K: Ord> RefundablePurchases<K> {
    /// Starts before the first purchase. Purchases with other keys are ignored.
    fn new(keys: impl Iterator<Item = K>) -> Self {
        Self { places: keys.map(|key| (key, VecDeque::new())).collect(), passed: 0 }
    }

    /// Adds the purchases up to this time.
    fn advance(
        &mut self,
        purchases: &[(&LedgerEntry, Decimal)],
        until: Time,
        key: impl Fn(&(&LedgerEntry, Decimal)) -> Option<K>,
    ) {
        while let Some(purchase) = purchases.get(self.passed).filter(|(line, _)| line.at <= until) {
            if let Some(places) = key(purchase).and_then(|key| self.places.get_mut(&key)) {
                places.push_back(self.passed);
            }
            self.passed += 1;
        }
    }
}

/// Deducts credits that name an order from this order's debits up to a day later, newest first.
fn deduct_by_order(purchases: &mut [(&LedgerEntry, Decimal)], lines: &[LedgerEntry]) {
    let credits = || lines.iter().filter(|line| line.change > Decimal::ZERO);
    let mut refundable = RefundablePurchases::new(credits().filter_map(|line| line.order));
    for credit in credits() {
        let Some(order) = credit.order else { continue };
        let last = credit.at.checked_add_signed(MAX_CREDIT_LEAD).unwrap_or(Time::MAX_UTC);
        refundable.advance(purchases, last, |(line, _)| line.order);
        let Some(places) = refundable.places.get_mut(&order) else { continue };
        let mut left = credit.change;
        while let Some(place) = places.back().copied().filter(|_| !left.is_zero()) {
            let cost = &mut purchases[place].1;
            let taken = left.min(*cost);
            (*cost, left) = (*cost - taken, left - taken);
            if cost.is_zero() {
                places.pop_back();
            }
        }
    }
}

/// Deducts refunds that name no order from an earlier purchase of exactly the same amount. If there is none, the
/// refund belongs to something that is not in the ledger, and has no effect.
fn deduct_by_amount(
    purchases: &mut [(&LedgerEntry, Decimal)],
    lines: &[LedgerEntry],
    spending: &Spending,
    refund_match: RefundMatch,
) {
    let refunds = || lines.iter().filter(|line| line.order.is_none() && spending.is_refund(line));
    let mut refundable = RefundablePurchases::new(refunds().map(|refund| refund.change));
    for refund in refunds() {
        refundable.advance(purchases, refund.at, |(_, cost)| Some(*cost));
        let Some(places) = refundable.places.get_mut(&refund.change) else { continue };
        let place = match refund_match {
            RefundMatch::Newest => places.pop_back(),
            RefundMatch::Oldest => places.pop_front(),
        };
        if let Some(place) = place {
            purchases[place].1 = Decimal::ZERO;
        }
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

/// Returns the day on which an order ends, as far as known.
pub(super) fn order_end(order: &Order) -> NaiveDate {
    order.probably_ends().unwrap_or(order.certificate_ends)
}
