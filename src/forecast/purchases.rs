//! What each purchase of a ledger bought: the renewal of an order, a new order, or something else.
//!
//! A debit belongs to the order that it names; where it names none, to the order of its price that was placed on that day. An
//! order renews the one that it follows: same common name and product, marked as renewed, dates that fit. A credit that names
//! an order takes its purchase back; a refund that names none, a purchase of the same amount.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::Spending;
use super::matching::{paid_orders, renewals};
use super::renewals::days_before;
use super::spending::entries_until;
use crate::domain::Time;
use crate::domain::ledger::{Ledger, LedgerEntry};
use crate::domain::order::Order;
use crate::forecast::depletion::typical_cost;

/// An order of the last days may not be charged yet.
const MAX_CHARGE_DELAY_DAYS: u64 = 2;
/// A credit may come so long before the debit that it pays for.
const MAX_CREDIT_LEAD: chrono::TimeDelta = chrono::TimeDelta::days(1);

/// The kind of thing that a purchase bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PurchaseKind {
    /// An order that takes the place of an earlier one.
    Renewal,
    /// An order that follows no other.
    NewOrder,
    /// Anything else: an added domain, a debit that belongs to no listed order.
    Other,
}

/// Source of the money for an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PaymentSource {
    /// From the balance.
    Balance,
    /// From elsewhere: by card, or on an invoice.
    Elsewhere,
    /// The order is older than the ledger.
    Unknown,
}

/// A number of purchases and what they cost, in the account's currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PurchaseSum {
    /// Number of purchases.
    pub count: usize,
    /// Their cost, refunds deducted.
    pub amount: Decimal,
}

impl PurchaseSum {
    fn add(&mut self, amount: Decimal) {
        self.count += 1;
        self.amount = self.amount.saturating_add(amount);
    }
}

/// The purchases of a time by what they bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PurchaseSums {
    /// Renewals that were paid from the balance.
    pub renewals: PurchaseSum,
    /// New orders that were paid from the balance.
    pub new_orders: PurchaseSum,
    /// Added domains and other debits.
    pub other: PurchaseSum,
    /// Purchases that were taken back as a whole.
    pub refunded: usize,
    /// Orders that were paid by card or on an invoice, at their list price.
    pub paid_elsewhere: PurchaseSum,
}

/// One purchase.
#[derive(Debug, Clone)]
pub(super) struct Purchase<'a> {
    pub(super) entry: &'a LedgerEntry,
    /// Its cost, refunds deducted; 0 if all of it was refunded.
    pub(super) cost: Decimal,
    pub(super) kind: PurchaseKind,
    /// The place of the order that it paid for.
    pub(super) order: Option<usize>,
}

/// An order that was renewed, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Renewal {
    /// The place of the order that was renewed.
    pub(super) renewed: usize,
    /// The place of the order that follows it, where that is listed.
    pub(super) by: Option<usize>,
    /// The place of the purchase, where it was paid from the balance.
    pub(super) purchase: Option<usize>,
    /// The day on which it was renewed.
    pub(super) on: NaiveDate,
    /// Days from then to the end of the renewed order; below 0 after it.
    pub(super) lead: i32,
}

/// The purchases of a ledger up to a moment, oldest first, with the orders that they paid for.
#[derive(Debug, Clone)]
pub struct Purchases<'a> {
    pub(super) now: Time,
    /// The lines of the ledger that are known.
    pub(super) known: &'a [LedgerEntry],
    pub(super) orders: &'a [Order],
    pub(super) all: Vec<Purchase<'a>>,
    /// Of each order.
    pub(super) payments: Vec<PaymentSource>,
    pub(super) renewals: Vec<Renewal>,
}

impl<'a> Purchases<'a> {
    /// The purchases up to `now`. Without orders each of them is something else.
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

    /// Number of days that the ledger reaches back; `None` where it has no line.
    pub(super) fn days_covered(&self) -> Option<u32> {
        let first = self.known.first()?;
        u32::try_from((self.now - first.at).num_days()).ok()
    }

    /// The usual cost of a purchase.
    pub(super) fn typical_cost(&self) -> Decimal {
        typical_cost(self.all.iter().map(|purchase| (purchase.entry, purchase.cost)), self.now)
    }

    /// The purchases of the 365 days up to `now`, by what they bought.
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

    /// The moment at which each renewed order was renewed, by its id, where that is known.
    pub fn renewed_at(&self) -> BTreeMap<u64, Time> {
        let at = |renewal: &Renewal| match renewal.purchase {
            Some(place) => self.all[place].entry.at,
            None => renewal.on.and_time(chrono::NaiveTime::MIN).and_utc(),
        };
        self.renewals.iter().map(|renewal| (self.orders[renewal.renewed].id, at(renewal))).collect()
    }
}

/// Which of the purchases of its amount a refund that names no order takes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefundMatch {
    /// The newest before it.
    Newest,
    /// The oldest.
    Oldest,
}

/// The purchases among these lines with their costs, oldest first, refunds deducted.
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

/// Purchases that can still be taken back, by what a credit names them by. They are found in one pass over the ledger.
struct RefundablePurchases<K> {
    /// Their places, oldest first.
    places: BTreeMap<K, VecDeque<usize>>,
    /// Number of purchases that were looked at.
    passed: usize,
}

impl<K: Ord> RefundablePurchases<K> {
    /// Starts before the first purchase; purchases with other keys than these are passed over.
    fn new(keys: impl Iterator<Item = K>) -> Self {
        Self { places: keys.map(|key| (key, VecDeque::new())).collect(), passed: 0 }
    }

    /// Goes on to the last purchase that was made by this moment.
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

/// A credit that names an order takes back what this order's debits up to a day later cost, the newest first.
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

/// A refund that names no order takes back a purchase before it that cost exactly as much. Where there is none, it takes back
/// something that the ledger does not show.
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

/// The source of the money for an order. One that was placed in the covered days and has no debit was paid elsewhere.
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

/// The day on which an order ends, as near as is known.
pub(super) fn order_end(order: &Order) -> NaiveDate {
    order.probably_ends().unwrap_or(order.certificate_ends)
}
