//! Which debit paid for which order, and which order renewed which.
//!
//! Every choice looks its candidates up by day: accounts have tens of thousands of orders with one name, or of one price and day.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::Hash;

use chrono::{Datelike as _, Days, NaiveDate, TimeDelta};
use rust_decimal::{Decimal, RoundingStrategy};

use super::purchases::{Purchase, PurchaseKind, Renewal, order_end};
use super::renewals::{MAX_DAYS_AFTER_END, MAX_DAYS_AFTER_END_BY_PRICE, MAX_DAYS_BEFORE_END, days_before};
use crate::domain::order::Order;

/// A debit that names an order pays for it from so many days before the order's date to so many after.
const MAX_DAYS_PAID_BEFORE: i64 = 2;
const MAX_DAYS_PAID_AFTER: i64 = 35;
/// Days from an order's date to a debit that is recognised by its price, the likeliest first.
const PRICED_DAYS: [i64; 6] = [0, -1, 1, 2, 3, 4];
/// No tax is higher: a factor.
const MAX_TAX: Decimal = Decimal::from_parts(13, 0, 0, false, 1);
/// Decimal places to which a rate of tax is told.
const RATE_PLACES: u32 = 3;
/// Difference that this and the rounding of a rate leave, as a part of the price.
const RATE_STEP: Decimal = Decimal::from_parts(1, 0, 0, false, RATE_PLACES);
/// Difference that the rounding of an amount leaves.
const CENT: Decimal = Decimal::from_parts(1, 0, 0, false, 2);
/// Number of orders that the rate is told from, and of amounts that are compared for each, at most.
const MAX_SAMPLED: usize = 1000;
const MAX_AMOUNTS: usize = 500;

/// Of each order, the place of the purchase that paid for it. Those purchases are marked as new orders.
pub(super) fn paid_orders(purchases: &mut [Purchase<'_>], orders: &[Order]) -> Vec<Option<usize>> {
    if orders.is_empty() {
        return Vec::new();
    }
    let named = paid_by_name(purchases, orders);
    let paid = paid_by_price(purchases, orders, named);
    for (place, number) in paid.iter().enumerate() {
        if let Some(number) = number {
            purchases[*number].order = Some(place);
            purchases[*number].kind = PurchaseKind::NewOrder;
        }
    }
    paid
}

/// Of the debits that name one order, the one of its price pays for it, else the nearest to its date.
fn paid_by_name(purchases: &[Purchase<'_>], orders: &[Order]) -> Vec<Option<usize>> {
    let mut places: Vec<(u64, usize)> = orders.iter().enumerate().map(|(place, order)| (order.id, place)).collect();
    places.sort_unstable();
    let mut best: Vec<Option<(bool, i64, usize)>> = vec![None; orders.len()];
    for (number, purchase) in purchases.iter().enumerate() {
        let Some(id) = purchase.entry.order else { continue };
        let Ok(place) = places.binary_search_by_key(&id, |(id, _)| *id).map(|found| places[found].1) else { continue };
        let order = &orders[place];
        let days = order.placed.map_or(0, |placed| (day(purchase) - placed).num_days());
        if (-MAX_DAYS_PAID_BEFORE..=MAX_DAYS_PAID_AFTER).contains(&days) {
            let found = (amount(purchase) != order.price, days.abs(), number);
            best[place] = Some(best[place].map_or(found, |before| before.min(found)));
        }
    }
    best.into_iter().map(|best| best.map(|(.., number)| number)).collect()
}

/// Each order that no debit names is paid by a debit that names no order, by its price. Where one rate of tax explains more
/// orders than the price alone, prices are listed without tax: then what it explains is paid before the rest.
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
        let fits = |(order, number): &(&Order, &Option<usize>)| {
            number.is_some_and(|number| charge.fits(order.price, amount(&purchases[number])))
        };
        orders.iter().zip(paid).filter(fits).count()
    };
    if explained(taxed, &with_tax) > explained(ChargedPrice::Listed, &listed) { with_tax } else { listed }
}

/// What is debited for an order.
#[derive(Debug, Clone, Copy)]
enum ChargedPrice {
    /// Exactly its price.
    Listed,
    /// Its price times this factor, rounded.
    Taxed(Decimal),
}

impl ChargedPrice {
    /// The amount for a price, and by how much a debit may differ from it.
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

/// Debits that name no order by day and amount; of one day and amount, in the order of the ledger.
#[derive(Clone)]
struct UnnamedDebits(BTreeMap<(NaiveDate, Decimal), VecDeque<usize>>);

impl UnnamedDebits {
    fn from_purchases(purchases: &[Purchase<'_>]) -> Self {
        let mut debits: BTreeMap<_, VecDeque<usize>> = BTreeMap::new();
        for (number, purchase) in purchases.iter().enumerate().filter(|(_, purchase)| purchase.entry.order.is_none()) {
            debits.entry((day(purchase), amount(purchase))).or_default().push_back(number);
        }
        Self(debits)
    }

    /// Pays the orders that are not paid yet, the oldest first.
    fn pay(&mut self, orders: &[Order], charge: ChargedPrice, paid: &mut [Option<usize>]) {
        let mut open: Vec<(NaiveDate, u64, usize)> = (0..orders.len())
            .filter(|place| paid[*place].is_none() && orders[*place].price > Decimal::ZERO)
            .filter_map(|place| Some((orders[place].placed?, orders[place].id, place)))
            .collect();
        open.sort_unstable();
        for (placed, _, place) in open {
            paid[place] = self.take(placed, charge.charged(orders[place].price));
        }
    }

    /// Takes the debit of an amount, give or take a difference, that is nearest to a day.
    fn take(&mut self, placed: NaiveDate, (charged, difference): (Decimal, Decimal)) -> Option<usize> {
        let amounts = (charged - difference, charged.saturating_add(difference));
        let key = debit_days(placed).find_map(|day| {
            let fitting = self.of_day(day, amounts);
            fitting.min_by_key(|amount| (*amount - charged).abs()).map(|amount| (day, amount))
        })?;
        let same = self.0.get_mut(&key)?;
        let number = same.pop_front();
        if same.is_empty() {
            self.0.remove(&key);
        }
        number
    }

    /// The different amounts of a day from a lowest to a highest.
    fn of_day(&self, day: NaiveDate, (low, high): (Decimal, Decimal)) -> impl Iterator<Item = Decimal> {
        self.0.range((day, low)..=(day, high)).map(|((_, amount), _)| *amount)
    }
}

/// The days around an order's date on which it may be debited.
fn debit_days(placed: NaiveDate) -> impl Iterator<Item = NaiveDate> {
    PRICED_DAYS.into_iter().filter_map(move |days| placed.checked_add_signed(TimeDelta::days(days)))
}

/// The rate of tax that explains most orders which have a debit that may be theirs, and more of them than the price alone.
fn taxed_charge(
    purchases: &[Purchase<'_>],
    orders: &[Order],
    named: &[Option<usize>],
    debits: &UnnamedDebits,
) -> Option<ChargedPrice> {
    /// Spreads the sample over orders of all dates and prices.
    const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
    let amounts = |place: usize| -> Vec<Decimal> {
        let range = (orders[place].price, orders[place].price.saturating_mul(MAX_TAX));
        let its = named[place].map(|number| amount(&purchases[number]));
        let around = orders[place].placed.filter(|_| its.is_none()).into_iter().flat_map(debit_days);
        let unnamed = around.flat_map(|day| debits.of_day(day, range)).take(MAX_AMOUNTS);
        its.into_iter().filter(|its| (range.0..=range.1).contains(its)).chain(unnamed).collect()
    };
    let mut places: Vec<usize> = (0..orders.len()).filter(|place| orders[*place].price > Decimal::ZERO).collect();
    places.sort_unstable_by_key(|place| orders[*place].id.wrapping_mul(SPREAD));
    let sample = places.into_iter().map(|place| (orders[place].price, amounts(place)));
    let (mut rates, mut exact, mut all) = (BTreeMap::<Decimal, usize>::new(), 0, 0);
    for (price, amounts) in sample.filter(|(_, amounts)| !amounts.is_empty()).take(MAX_SAMPLED) {
        all += 1;
        exact += usize::from(amounts.contains(&price));
        let ratios = amounts.into_iter().filter(|amount| *amount != price).filter_map(|it| it.checked_div(price));
        // A rate between two steps is told by either.
        let sides = [RoundingStrategy::ToZero, RoundingStrategy::AwayFromZero];
        let steps = ratios.flat_map(|ratio| sides.map(|side| ratio.round_dp_with_strategy(RATE_PLACES, side)));
        for rate in steps.collect::<BTreeSet<Decimal>>() {
            *rates.entry(rate).or_default() += 1;
        }
    }
    let explains = |its: usize| its * 2 > all && its > exact;
    rates
        .into_iter()
        .filter(|(_, its)| explains(*its))
        .max_by_key(|(_, its)| *its)
        .map(|(rate, _)| ChargedPrice::Taxed(rate))
}

/// Every order that is marked as renewed and whose renewal can be told, in the order of their ends.
pub(super) fn renewals(purchases: &[Purchase<'_>], orders: &[Order], paid: &[Option<usize>]) -> Vec<Renewal> {
    let mut renewed: Vec<(NaiveDate, u64, usize)> = (0..orders.len())
        .filter(|place| orders[*place].renewed)
        .map(|place| (order_end(&orders[place]), orders[place].id, place))
        .collect();
    if renewed.is_empty() {
        return Vec::new();
    }
    renewed.sort_unstable();
    let mut successors = SuccessorOrders::new(orders);
    let (mut found, mut rest) = (Vec::with_capacity(renewed.len()), Vec::new());
    for (end, _, place) in renewed {
        match successors.take(place, end) {
            Some((by, placed)) => {
                let on = paid[by].map_or(placed, |number| day(&purchases[number]));
                found.push(Renewal { renewed: place, by: Some(by), purchase: paid[by], on, lead: lead(end, on) });
            }
            None => rest.push((end, place)),
        }
    }
    let known: BTreeSet<usize> = found.iter().filter_map(|renewal| renewal.purchase).collect();
    found.extend(renewals_by_price(purchases, orders, &rest, &known));
    found
}

/// What may follow or pay for something: its day, its rank among those of the day, its place.
type MatchCandidate = (NaiveDate, u64, usize);

/// Candidates of each key by day.
struct CandidatesByDay<K>(HashMap<K, BTreeSet<MatchCandidate>>);

impl<K: Eq + Hash> CandidatesByDay<K> {
    fn insert(&mut self, key: K, candidate: MatchCandidate) {
        self.0.entry(key).or_default().insert(candidate);
    }

    fn remove(&mut self, key: &K, candidate: MatchCandidate) {
        if let Some(its) = self.0.get_mut(key) {
            its.remove(&candidate);
        }
    }

    /// The nearest candidate before `day` and the nearest from it on, of those in the window; of one day, the first.
    fn nearest(
        &self,
        key: &K,
        day: NaiveDate,
        (from, to): (NaiveDate, NaiveDate),
        fits: impl Fn(usize) -> bool,
    ) -> [Option<MatchCandidate>; 2] {
        let fits = |candidate: &&MatchCandidate| fits(candidate.2);
        let its = self.0.get(key);
        let before = its.filter(|_| from < day).and_then(|its| {
            let (nearest, ..) = *its.range((from, 0, 0)..(day, 0, 0)).rev().find(fits)?;
            its.range((nearest, 0, 0)..).find(fits)
        });
        let first = from.max(day);
        let after = its.filter(|_| first <= to);
        let after = after.and_then(|its| its.range((first, 0, 0)..=(to, u64::MAX, usize::MAX)).find(fits));
        [before.copied(), after.copied()]
    }
}

/// The orders of each common name by the day on which they were placed: each renews one order at most.
struct SuccessorOrders<'a> {
    orders: &'a [Order],
    by_product: CandidatesByDay<(&'a str, Option<&'a str>)>,
    by_name: CandidatesByDay<&'a str>,
    /// Those that may still follow one, the last to end first.
    ends: Vec<(NaiveDate, usize)>,
}

impl<'a> SuccessorOrders<'a> {
    fn new(orders: &'a [Order]) -> Self {
        let (by_product, by_name) = (CandidatesByDay(HashMap::new()), CandidatesByDay(HashMap::new()));
        let mut successors = Self { orders, by_product, by_name, ends: Vec::new() };
        for (place, order) in orders.iter().enumerate() {
            if let Some((name, candidate)) = successors.candidate(place) {
                successors.by_product.insert((name, order.product.as_deref()), candidate);
                successors.by_name.insert(name, candidate);
                successors.ends.push((order_end(order), place));
            }
        }
        successors.ends.sort_unstable_by(|one, other| other.cmp(one));
        successors
    }

    fn candidate(&self, place: usize) -> Option<(&'a str, MatchCandidate)> {
        let order = &self.orders[place];
        Some((order.common_name.as_deref()?, (order.placed?, order.id, place)))
    }

    /// The order that follows the one at `place`, which ends on `end`: of the same product before any other, and the nearest.
    /// An earlier `end` must not come after a later one.
    fn take(&mut self, place: usize, end: NaiveDate) -> Option<(usize, NaiveDate)> {
        while let Some((_, ended)) = self.ends.pop_if(|(last, _)| *last <= end) {
            self.remove(ended);
        }
        let renewed = &self.orders[place];
        let name = renewed.common_name.as_deref()?;
        let earliest = days_before(end, MAX_DAYS_BEFORE_END.unsigned_abs());
        let after_it = renewed.placed.and_then(|placed| placed.succ_opt());
        let window = (
            after_it.map_or(earliest, |day| day.max(earliest)),
            days_after(end, MAX_DAYS_AFTER_END.unsigned_abs().into()),
        );
        let rank = |(placed, id, _): &MatchCandidate| ((end - *placed).num_days().abs(), *id);
        let nearest = |found: [Option<MatchCandidate>; 2]| found.into_iter().flatten().min_by_key(rank);
        let same_product = (name, renewed.product.as_deref());
        let (placed, _, by) = nearest(self.by_product.nearest(&same_product, end, window, |_| true))
            .or_else(|| nearest(self.by_name.nearest(&name, end, window, |_| true)))?;
        self.remove(by);
        Some((by, placed))
    }

    fn remove(&mut self, place: usize) {
        if let Some((name, candidate)) = self.candidate(place) {
            self.by_product.remove(&(name, self.orders[place].product.as_deref()), candidate);
            self.by_name.remove(&name, candidate);
        }
    }
}

/// Renewals of orders whose follower is not told by its name, in the order of their ends: of the debits of exactly the price
/// near the end, the one whose own order ends whole years later, else the nearest. Each debit renews one order at most.
fn renewals_by_price(
    purchases: &[Purchase<'_>],
    orders: &[Order],
    renewed: &[(NaiveDate, usize)],
    taken: &BTreeSet<usize>,
) -> Vec<Renewal> {
    let mut debits = DebitsByPrice::new(purchases, orders, renewed, taken);
    let renewal = |(end, place): (NaiveDate, usize)| {
        let number = debits.take(place, end)?;
        let (by, on) = (purchases[number].order, day(&purchases[number]));
        Some(Renewal { renewed: place, by, purchase: Some(number), on, lead: lead(end, on) })
    };
    renewed.iter().copied().filter_map(renewal).collect()
}

/// An amount, and the common name of the order that it paid for, where that has one.
type AmountAndName<'a> = (Decimal, Option<&'a str>);

/// Debits that may have renewed an order of their amount.
struct DebitsByPrice<'a> {
    purchases: &'a [Purchase<'a>],
    orders: &'a [Order],
    all: CandidatesByDay<AmountAndName<'a>>,
    /// Those whose own order has not ended, by the day of the year on which it ends.
    by_end: CandidatesByDay<(AmountAndName<'a>, i32)>,
    /// The same, the last to end first.
    ends: Vec<(NaiveDate, usize)>,
}

impl<'a> DebitsByPrice<'a> {
    fn new(
        purchases: &'a [Purchase<'a>],
        orders: &'a [Order],
        renewed: &[(NaiveDate, usize)],
        taken: &BTreeSet<usize>,
    ) -> Self {
        let (all, by_end) = (CandidatesByDay(HashMap::new()), CandidatesByDay(HashMap::new()));
        let mut debits = Self { purchases, orders, all, by_end, ends: Vec::new() };
        let prices: BTreeSet<Decimal> = renewed.iter().map(|(_, place)| orders[*place].price).collect();
        let fits = |number: &usize| !taken.contains(number) && prices.contains(&amount(&purchases[*number]));
        for number in (0..purchases.len()).filter(fits) {
            let (key, candidate) = debits.candidate(number);
            debits.all.insert(key, candidate);
            if let Some(own) = debits.own(number) {
                debits.by_end.insert((key, day_of_year(order_end(own))), candidate);
                debits.ends.push((order_end(own), number));
            }
        }
        debits.ends.sort_unstable_by(|one, other| other.cmp(one));
        debits
    }

    fn own(&self, number: usize) -> Option<&'a Order> {
        self.purchases[number].order.map(|place| &self.orders[place])
    }

    fn candidate(&self, number: usize) -> (AmountAndName<'a>, MatchCandidate) {
        let purchase = &self.purchases[number];
        let name = self.own(number).and_then(|own| own.common_name.as_deref());
        ((amount(purchase), name), (day(purchase), 0, number))
    }

    /// The debit that renewed the order at `place`, which ends on `end`. An earlier `end` must not come after a later one.
    fn take(&mut self, place: usize, end: NaiveDate) -> Option<usize> {
        while let Some((_, ended)) = self.ends.pop_if(|(last, _)| *last <= end) {
            self.remove_end(ended);
        }
        let order = &self.orders[place];
        let name = order.common_name.as_deref();
        let names = [None, name];
        let keys = || names[..=usize::from(name.is_some())].iter().map(|name| (order.price, *name));
        let window = (
            days_before(end, MAX_DAYS_BEFORE_END.unsigned_abs()),
            days_after(end, MAX_DAYS_AFTER_END_BY_PRICE.unsigned_abs()),
        );
        let fits = |number: usize| {
            self.purchases[number].entry.order != Some(order.id)
                && self.own(number).is_none_or(|own| own.id != order.id)
        };
        let rank = |(on, _, number): &MatchCandidate| (*on >= end, (end - *on).num_days().abs(), *number);
        let years_later = [day_of_year(end), (day_of_year(end) + 1).rem_euclid(YEAR)];
        let years_later = keys().flat_map(|key| years_later.map(|end| (key, end)));
        let years_later = years_later.flat_map(|key| self.by_end.nearest(&key, end, window, fits)).flatten();
        let any = || keys().flat_map(|key| self.all.nearest(&key, end, window, fits)).flatten().min_by_key(rank);
        let (.., number) = years_later.min_by_key(rank).or_else(any)?;
        let (key, candidate) = self.candidate(number);
        self.all.remove(&key, candidate);
        self.remove_end(number);
        Some(number)
    }

    fn remove_end(&mut self, number: usize) {
        let (key, candidate) = self.candidate(number);
        if let Some(own) = self.own(number) {
            self.by_end.remove(&(key, day_of_year(order_end(own))), candidate);
        }
    }
}

/// Days of a year without a leap day.
const YEAR: i32 = 365;

/// Equal for days that are whole years of 365 days apart.
fn day_of_year(day: NaiveDate) -> i32 {
    day.num_days_from_ce().rem_euclid(YEAR)
}

fn day(purchase: &Purchase<'_>) -> NaiveDate {
    purchase.entry.at.date_naive()
}

fn amount(purchase: &Purchase<'_>) -> Decimal {
    -purchase.entry.change
}

fn days_after(day: NaiveDate, days: u64) -> NaiveDate {
    day.checked_add_days(Days::new(days)).unwrap_or(NaiveDate::MAX)
}

fn lead(end: NaiveDate, on: NaiveDate) -> i32 {
    i32::try_from((end - on).num_days()).unwrap_or(0)
}
