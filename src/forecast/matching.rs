//! Which debit paid for which order, and which order renewed which.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::purchases::{Purchase, PurchaseKind, Renewal, last_day};
use super::renewals::{EARLIEST_RENEWAL, LATEST_BY_PRICE, LATEST_RENEWAL, days_before};
use crate::domain::books::Order;

/// A debit that names an order pays for it from so many days before the order's date to so many after.
const PAID_BEFORE: i64 = 2;
const PAID_AFTER: i64 = 35;
/// The same of a debit that is recognised by its price.
const PRICED_BEFORE: i64 = 1;
const PRICED_AFTER: i64 = 4;
/// Candidates that are compared at most: bounds the time where thousands of orders have one name, or one price.
const MOST_COMPARED: usize = 5000;
/// The same of debits with tax.
const MOST_TAXED: usize = 200;
/// No tax is higher: a factor.
const MOST_TAX: Decimal = Decimal::from_parts(13, 0, 0, false, 1);

/// Of each order, the place of the purchase that paid for it. Those purchases are marked as new orders.
pub(super) fn paid_orders(purchases: &mut [Purchase<'_>], orders: &[Order]) -> Vec<Option<usize>> {
    let mut paid: Vec<Option<usize>> = vec![None; orders.len()];
    if orders.is_empty() {
        return paid;
    }
    let mut places: Vec<(u64, usize)> = orders.iter().enumerate().map(|(place, order)| (order.id, place)).collect();
    places.sort_unstable();
    let mut best: Vec<Option<(bool, i64, usize)>> = vec![None; orders.len()];
    let mut unnamed: BTreeMap<Decimal, Vec<usize>> = BTreeMap::new();
    for (number, purchase) in purchases.iter().enumerate() {
        let amount = -purchase.entry.change;
        let Some(id) = purchase.entry.order else {
            unnamed.entry(amount).or_default().push(number);
            continue;
        };
        let Ok(place) = places.binary_search_by_key(&id, |(id, _)| *id).map(|found| places[found].1) else { continue };
        let order = &orders[place];
        let days = order.placed.map_or(0, |placed| (purchase.entry.at.date_naive() - placed).num_days());
        if (-PAID_BEFORE..=PAID_AFTER).contains(&days) {
            let found = (amount != order.price, days.abs(), number);
            best[place] = Some(best[place].map_or(found, |before| before.min(found)));
        }
    }
    for (paid, best) in paid.iter_mut().zip(best) {
        *paid = best.map(|(.., number)| number);
    }
    pay_by_price(purchases, orders, &unnamed, &mut paid);
    pay_with_tax(purchases, orders, &unnamed, &mut paid);
    for (place, number) in paid.iter().enumerate() {
        if let Some(number) = number {
            purchases[*number].order = Some(place);
            purchases[*number].kind = PurchaseKind::NewOrder;
        }
    }
    paid
}

/// Each order that no debit names is paid by the debit of its price that is nearest to its date and names no order.
fn pay_by_price(
    purchases: &[Purchase<'_>],
    orders: &[Order],
    unnamed: &BTreeMap<Decimal, Vec<usize>>,
    paid: &mut [Option<usize>],
) {
    let day = |number: usize| purchases[number].entry.at.date_naive();
    let mut open: Vec<(NaiveDate, u64, usize)> = (0..orders.len())
        .filter(|place| paid[*place].is_none())
        .filter_map(|place| Some((orders[place].placed?, orders[place].id, place)))
        .collect();
    open.sort_unstable();
    let mut taken = BTreeSet::new();
    let mut passed: BTreeMap<Decimal, usize> = BTreeMap::new();
    for (placed, _, place) in open {
        let Some(same) = unnamed.get(&orders[place].price) else { continue };
        let days = |number: usize| (day(number) - placed).num_days();
        // What lies before the window of this order lies before that of the next, and what was taken stays taken.
        let first = passed.entry(orders[place].price).or_default();
        while same.get(*first).is_some_and(|number| days(*number) < -PRICED_BEFORE || taken.contains(number)) {
            *first += 1;
        }
        let near = same[*first..].iter().copied().take_while(|number| days(*number) <= PRICED_AFTER);
        let best = near.filter(|number| !taken.contains(number)).take(MOST_COMPARED).min_by_key(|it| days(*it).abs());
        if let Some(number) = best {
            taken.insert(number);
            paid[place] = Some(number);
        }
    }
}

/// The same where no debit names an order or has the exact price of one: then the prices are listed without their tax.
fn pay_with_tax(
    purchases: &[Purchase<'_>],
    orders: &[Order],
    unnamed: &BTreeMap<Decimal, Vec<usize>>,
    paid: &mut [Option<usize>],
) {
    if unnamed.is_empty() || paid.iter().any(Option::is_some) {
        return;
    }
    let mut by_day: Vec<(NaiveDate, usize)> =
        unnamed.values().flatten().map(|number| (purchases[*number].entry.at.date_naive(), *number)).collect();
    by_day.sort_unstable();
    // Debits near an order's date, and what they are beside its price.
    let near = |order: &Order| -> Vec<(Decimal, usize)> {
        let Some(placed) = order.placed.filter(|_| order.price > Decimal::ZERO) else { return Vec::new() };
        let days = |day: NaiveDate| (day - placed).num_days();
        let first = by_day.partition_point(|(day, _)| days(*day) < -PRICED_BEFORE);
        let its = by_day[first..].iter().take_while(|(day, _)| days(*day) <= PRICED_AFTER).take(MOST_TAXED);
        let ratio = |number: usize| (-purchases[number].entry.change).checked_div(order.price).map(|it| it.round_dp(3));
        let its = its.filter_map(|(_, number)| Some((ratio(*number)?, *number)));
        its.filter(|(ratio, _)| (Decimal::ONE..=MOST_TAX).contains(ratio)).collect()
    };
    let mut rates: BTreeMap<Decimal, usize> = BTreeMap::new();
    for order in orders {
        let found: BTreeSet<Decimal> = near(order).into_iter().map(|(ratio, _)| ratio).collect();
        for ratio in found {
            *rates.entry(ratio).or_default() += 1;
        }
    }
    let dated = orders.iter().filter(|order| !near(order).is_empty()).count();
    // One rate explains most of them, or they have nothing to do with each other.
    let Some((rate, _)) = rates.into_iter().filter(|(_, its)| its * 2 > dated).max_by_key(|(_, its)| *its) else {
        return;
    };
    let mut taken = BTreeSet::new();
    for (paid, order) in paid.iter_mut().zip(orders) {
        let fits = near(order).into_iter().find(|(ratio, number)| *ratio == rate && !taken.contains(number));
        *paid = fits.map(|(_, number)| number);
        taken.extend(*paid);
    }
}

/// Every order that is marked as renewed and whose renewal can be told, in the order of their ends.
pub(super) fn renewals(purchases: &[Purchase<'_>], orders: &[Order], paid: &[Option<usize>]) -> Vec<Renewal> {
    let mut renewed: Vec<(NaiveDate, u64, usize)> = (0..orders.len())
        .filter(|place| orders[*place].renewed)
        .map(|place| (last_day(&orders[place]), orders[place].id, place))
        .collect();
    if renewed.is_empty() {
        return Vec::new();
    }
    renewed.sort_unstable();
    let mut followers = Followers::new(orders);
    let (mut found, mut rest) = (Vec::with_capacity(renewed.len()), Vec::new());
    for (end, _, place) in renewed {
        match followers.take(orders, place, end) {
            Some((by, placed)) => {
                let on = paid[by].map_or(placed, |number| purchases[number].entry.at.date_naive());
                found.push(Renewal { renewed: place, by: Some(by), purchase: paid[by], on, lead: lead(end, on) });
            }
            None => rest.push((end, place)),
        }
    }
    let known: BTreeSet<usize> = found.iter().filter_map(|renewal| renewal.purchase).collect();
    found.extend(renewals_by_price(purchases, orders, &rest, known));
    found
}

/// The orders of each common name by the day on which they were placed: each renews one order at most.
struct Followers<'a> {
    by_name: HashMap<&'a str, Vec<(NaiveDate, usize)>>,
    taken: Vec<bool>,
}

impl<'a> Followers<'a> {
    fn new(orders: &'a [Order]) -> Self {
        let mut by_name: HashMap<&str, Vec<(NaiveDate, usize)>> = HashMap::new();
        for (place, order) in orders.iter().enumerate() {
            if let (Some(name), Some(placed)) = (&order.common_name, order.placed) {
                by_name.entry(name).or_default().push((placed, place));
            }
        }
        for its in by_name.values_mut() {
            its.sort_unstable();
        }
        Self { by_name, taken: vec![false; orders.len()] }
    }

    /// The order that follows the one at `place`, which ends on `end`: of the same product before any other, and the nearest.
    fn take(&mut self, orders: &[Order], place: usize, end: NaiveDate) -> Option<(usize, NaiveDate)> {
        let renewed = &orders[place];
        let same_name = self.by_name.get(&**renewed.common_name.as_ref()?)?;
        let days = |placed: NaiveDate| (end - placed).num_days();
        let first = same_name.partition_point(|(placed, _)| days(*placed) > EARLIEST_RENEWAL);
        let near = same_name[first..].iter().take_while(|(placed, _)| days(*placed) >= -i64::from(LATEST_RENEWAL));
        let follows = |(placed, other): &&(NaiveDate, usize)| {
            *other != place && !self.taken[*other] && last_day(&orders[*other]) > end && renewed.placed < Some(*placed)
        };
        let rank = |(placed, other): &&(NaiveDate, usize)| {
            (orders[*other].product != renewed.product, days(*placed).abs(), orders[*other].id)
        };
        let (placed, by) = *near.take(MOST_COMPARED).filter(follows).min_by_key(rank)?;
        self.taken[by] = true;
        Some((by, placed))
    }
}

/// Renewals of orders whose follower is not told by its name: of the debits of exactly the price near the end, the one whose
/// own order ends whole years later, else the nearest. Each debit renews one order at most.
fn renewals_by_price(
    purchases: &[Purchase<'_>],
    orders: &[Order],
    renewed: &[(NaiveDate, usize)],
    mut taken: BTreeSet<usize>,
) -> Vec<Renewal> {
    let mut by_price: BTreeMap<Decimal, Vec<usize>> = BTreeMap::new();
    if !renewed.is_empty() {
        for (number, purchase) in purchases.iter().enumerate() {
            by_price.entry(-purchase.entry.change).or_default().push(number);
        }
    }
    let mut found = Vec::new();
    for (end, place) in renewed.iter().copied() {
        let order = &orders[place];
        let Some(same) = by_price.get(&order.price) else { continue };
        let day = |number: usize| purchases[number].entry.at.date_naive();
        let first = same.partition_point(|number| day(*number) < days_before(end, EARLIEST_RENEWAL.unsigned_abs()));
        let own = |number: usize| purchases[number].order.map(|its| &orders[its]);
        let fits = |number: &usize| {
            let named_otherwise = |own: &Order| own.common_name.is_some() && own.common_name != order.common_name;
            !taken.contains(number)
                && purchases[*number].entry.order != Some(order.id)
                && own(*number).is_none_or(|own| own.id != order.id && !named_otherwise(own))
        };
        let years_later = |number: usize| {
            let own_end = own(number).map(last_day);
            own_end.is_some_and(|own| own > end && (own - end).num_days().rem_euclid(365) <= 1)
        };
        let days = |number: usize| (end - day(number)).num_days();
        let near = same[first..].iter().copied().take_while(|number| days(*number) >= -LATEST_BY_PRICE);
        let rank = |number: &usize| (!years_later(*number), days(*number) <= 0, days(*number).abs());
        if let Some(number) = near.take(MOST_COMPARED).filter(fits).min_by_key(rank) {
            taken.insert(number);
            let (by, on) = (purchases[number].order, day(number));
            found.push(Renewal { renewed: place, by, purchase: Some(number), on, lead: lead(end, on) });
        }
    }
    found
}

fn lead(end: NaiveDate, on: NaiveDate) -> i32 {
    i32::try_from((end - on).num_days()).unwrap_or(0)
}
