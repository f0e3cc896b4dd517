//! Matches debits to the orders that they paid for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::{NaiveDate, TimeDelta};
use rust_decimal::{Decimal, RoundingStrategy};

use crate::domain::order::Order;
use crate::forecast::purchase::{Purchase, PurchaseKind};

/// A debit that names an order can pay for it from this number of days before the order's date to this number of days
/// after it.
const MAX_DAYS_PAID_BEFORE: i64 = 2;
const MAX_DAYS_PAID_AFTER: i64 = 35;
/// Days from an order's date to a debit that is recognised by its price, most likely first.
const PRICED_DAYS: [i64; 6] = [0, -1, 1, 2, 3, 4];
/// Highest tax, as a factor: 30 %.
const MAX_TAX: Decimal = Decimal::from_parts(13, 0, 0, false, 1);
/// Decimal places of a tax rate.
const RATE_PLACES: u32 = 3;
/// Tolerance that the rounding of a rate needs, as a share of the price.
const RATE_STEP: Decimal = Decimal::from_parts(1, 0, 0, false, RATE_PLACES);
/// Tolerance that the rounding of an amount needs.
const CENT: Decimal = Decimal::from_parts(1, 0, 0, false, 2);
/// Number of orders from which the tax rate is derived, and of amounts compared for each, at most.
const MAX_SAMPLED: usize = 1000;
const MAX_AMOUNTS: usize = 500;

/// Returns for each order the index of the purchase that paid for it. Marks those purchases as new orders.
pub(in crate::forecast) fn paid_orders(purchases: &mut [Purchase<'_>], orders: &[Order]) -> Vec<Option<usize>> {
    if orders.is_empty() {
        return Vec::new();
    }
    let named = paid_by_name(purchases, orders);
    let paid = paid_by_price(purchases, orders, named);
    for (index, debit) in paid.iter().enumerate() {
        if let Some(debit) = debit {
            purchases[*debit].order = Some(index);
            purchases[*debit].kind = PurchaseKind::NewOrder;
        }
    }
    paid
}

/// Matches debits that name their order. If several name one order, the one of its price pays for it, or else the one
/// nearest to its date.
fn paid_by_name(purchases: &[Purchase<'_>], orders: &[Order]) -> Vec<Option<usize>> {
    let mut indexes: Vec<(u64, usize)> = orders.iter().enumerate().map(|(index, order)| (order.id, index)).collect();
    indexes.sort_unstable();
    let mut best: Vec<Option<(bool, i64, usize)>> = vec![None; orders.len()];
    for (debit, purchase) in purchases.iter().enumerate() {
        let Some(id) = purchase.entry.order else { continue };
        let Ok(index) = indexes.binary_search_by_key(&id, |(id, _)| *id).map(|found| indexes[found].1) else {
            continue;
        };
        let order = &orders[index];
        let days = order.placed.map_or(0, |placed| (purchase.day() - placed).num_days());
        if (-MAX_DAYS_PAID_BEFORE..=MAX_DAYS_PAID_AFTER).contains(&days) {
            let found = (purchase.amount() != order.price, days.abs(), debit);
            best[index] = Some(best[index].map_or(found, |before| before.min(found)));
        }
    }
    best.into_iter().map(|best| best.map(|(.., debit)| debit)).collect()
}

/// Matches the orders that no debit names to debits that name no order, by price. If one tax rate explains more
/// orders than the exact price does, prices are listed without tax: then debits with this tax are matched first.
fn paid_by_price(purchases: &[Purchase<'_>], orders: &[Order], named: Vec<Option<usize>>) -> Vec<Option<usize>> {
    let debits = UnnamedDebits::from_purchases(purchases);
    if debits.0.is_empty() {
        return named;
    }
    let pay = |charges: &[ChargedPrice]| {
        let (mut debits, mut paid) = (debits.clone(), named.clone());
        for charge in charges {
            debits.pay(orders, *charge, &mut paid);
        }
        paid
    };
    let listed = pay(&[ChargedPrice::Listed]);
    let Some(taxed) = taxed_charge(purchases, orders, &named, &debits) else { return listed };
    let with_tax = pay(&[taxed, ChargedPrice::Listed]);
    let explained = |charge: ChargedPrice, paid: &[Option<usize>]| {
        let fits = |(order, debit): &(&Order, &Option<usize>)| {
            debit.is_some_and(|debit| charge.fits(order.price, purchases[debit].amount()))
        };
        orders.iter().zip(paid).filter(fits).count()
    };
    if explained(taxed, &with_tax) > explained(ChargedPrice::Listed, &listed) { with_tax } else { listed }
}

/// Amount that is debited for an order.
#[derive(Debug, Clone, Copy)]
enum ChargedPrice {
    /// Exactly the listed price.
    Listed,
    /// Listed price times this factor, rounded.
    Taxed(Decimal),
}

impl ChargedPrice {
    /// Returns the amount debited for a price, and its tolerance.
    fn charged(self, price: Decimal) -> (Decimal, Decimal) {
        match self {
            Self::Listed => (price, Decimal::ZERO),
            Self::Taxed(rate) => (price.saturating_mul(rate), CENT.max(price.saturating_mul(RATE_STEP))),
        }
    }

    fn fits(self, price: Decimal, amount: Decimal) -> bool {
        let (charged, difference) = self.charged(price);
        (amount - charged).abs() <= difference
    }
}

/// Debits that name no order, by day and amount. Debits of one day and amount are in ledger order.
#[derive(Clone)]
struct UnnamedDebits(BTreeMap<(NaiveDate, Decimal), VecDeque<usize>>);

impl UnnamedDebits {
    fn from_purchases(purchases: &[Purchase<'_>]) -> Self {
        let mut debits: BTreeMap<_, VecDeque<usize>> = BTreeMap::new();
        for (debit, purchase) in purchases.iter().enumerate().filter(|(_, purchase)| purchase.entry.order.is_none()) {
            debits.entry((purchase.day(), purchase.amount())).or_default().push_back(debit);
        }
        Self(debits)
    }

    /// Matches the orders without a payment, oldest first.
    fn pay(&mut self, orders: &[Order], charge: ChargedPrice, paid: &mut [Option<usize>]) {
        let mut open: Vec<(NaiveDate, u64, usize)> = (0..orders.len())
            .filter(|index| paid[*index].is_none() && orders[*index].price > Decimal::ZERO)
            .filter_map(|index| Some((orders[index].placed?, orders[index].id, index)))
            .collect();
        open.sort_unstable();
        for (placed, _, index) in open {
            paid[index] = self.take(placed, charge.charged(orders[index].price));
        }
    }

    /// Removes and returns the debit nearest to a day whose amount is within the tolerance.
    fn take(&mut self, placed: NaiveDate, (charged, difference): (Decimal, Decimal)) -> Option<usize> {
        let amounts = (charged - difference, charged.saturating_add(difference));
        let key = debit_days(placed).find_map(|day| {
            let fitting = self.of_day(day, amounts);
            fitting.min_by_key(|amount| (*amount - charged).abs()).map(|amount| (day, amount))
        })?;
        let same = self.0.get_mut(&key)?;
        let debit = same.pop_front();
        if same.is_empty() {
            self.0.remove(&key);
        }
        debit
    }

    /// Returns the different amounts of a day within a range.
    fn of_day(&self, day: NaiveDate, (low, high): (Decimal, Decimal)) -> impl Iterator<Item = Decimal> {
        self.0.range((day, low)..=(day, high)).map(|((_, amount), _)| *amount)
    }
}

/// Returns the days around an order's date on which it may be debited.
fn debit_days(placed: NaiveDate) -> impl Iterator<Item = NaiveDate> {
    PRICED_DAYS.into_iter().filter_map(move |days| placed.checked_add_signed(TimeDelta::days(days)))
}

/// Returns the tax rate that explains most of the orders with a possible debit, if it explains more of them than the
/// exact price does.
fn taxed_charge(
    purchases: &[Purchase<'_>],
    orders: &[Order],
    named: &[Option<usize>],
    debits: &UnnamedDebits,
) -> Option<ChargedPrice> {
    /// Multiplier that spreads the sample over orders of all dates and prices.
    const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
    let amounts = |index: usize| -> Vec<Decimal> {
        let range = (orders[index].price, orders[index].price.saturating_mul(MAX_TAX));
        let own = named[index].map(|debit| purchases[debit].amount());
        let around = orders[index].placed.filter(|_| own.is_none()).into_iter().flat_map(debit_days);
        let unnamed = around.flat_map(|day| debits.of_day(day, range)).take(MAX_AMOUNTS);
        own.into_iter().filter(|amount| (range.0..=range.1).contains(amount)).chain(unnamed).collect()
    };
    let mut indexes: Vec<usize> = (0..orders.len()).filter(|index| orders[*index].price > Decimal::ZERO).collect();
    indexes.sort_unstable_by_key(|index| orders[*index].id.wrapping_mul(SPREAD));
    let sample = indexes.into_iter().map(|index| (orders[index].price, amounts(index)));
    let (mut rates, mut exact, mut all) = (BTreeMap::<Decimal, usize>::new(), 0, 0);
    for (price, amounts) in sample.filter(|(_, amounts)| !amounts.is_empty()).take(MAX_SAMPLED) {
        all += 1;
        exact += usize::from(amounts.contains(&price));
        let ratios =
            amounts.into_iter().filter(|amount| *amount != price).filter_map(|amount| amount.checked_div(price));
        // A rate between two steps supports both.
        let sides = [RoundingStrategy::ToZero, RoundingStrategy::AwayFromZero];
        let steps = ratios.flat_map(|ratio| sides.map(|side| ratio.round_dp_with_strategy(RATE_PLACES, side)));
        for rate in steps.collect::<BTreeSet<Decimal>>() {
            *rates.entry(rate).or_default() += 1;
        }
    }
    let explains = |count: usize| count * 2 > all && count > exact;
    rates
        .into_iter()
        .filter(|(_, count)| explains(*count))
        .max_by_key(|(_, count)| *count)
        .map(|(rate, _)| ChargedPrice::Taxed(rate))
}
