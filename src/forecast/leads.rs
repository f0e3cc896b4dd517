//! Days before their end on which orders are renewed, learnt from all that could have been renewed lately: also from those that
//! were renewed before their end came, and from those that still wait.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::prelude::ToPrimitive as _;

use super::purchases::{Renewal, last_day};
use super::ratio::count;
use super::renewals::{LATEST_RENEWAL, LONGEST_LEAD, days_before, days_between};
use crate::domain::history::Order;
use crate::forecast::spend_history::minor;

/// Number of the newest renewals that tell the leads, as far as they were made within a year …
const NEWEST: usize = 40;
/// … or all of so many days.
const LEAST_DAYS: i32 = 31;
/// Number of leads that are kept, at most.
const MOST: usize = 200;
/// Number of renewals from which on a product has leads of its own alone. Of fewer each counts as so many, and leads of all orders as the
/// rest.
const LEAST: usize = 12;
const OWN: usize = 2;
/// Orders that are added to those of each day, so that a few orders cannot say that none is renewed later.
const DOUBT: f64 = 0.5;
/// Beside the known leads there is one of unknown length: any below one of these, chosen for each future.
pub(super) const LONGEST_LEADS: [u8; 4] = [11, 31, 61, 91];
/// Days from the longest lead to the end of what is overdue.
const DAYS: usize = (LONGEST_LEAD + LATEST_RENEWAL + 1).cast_unsigned() as usize;

/// The leads of an account's renewals.
#[derive(Debug, Clone)]
pub(super) struct Leads<'a> {
    /// The class of all orders, then one of each product.
    pub(super) classes: Vec<Class>,
    products: BTreeMap<&'a str, usize>,
    sizes: BySize,
}

/// Leads that are as likely as each other, and one more that may be any.
#[derive(Debug, Clone)]
pub(super) struct Class {
    /// Shortest first.
    leads: Vec<i32>,
    /// Their number and the one more.
    all: f64,
    /// All of it, for an order that does not end soon.
    pub(super) whole: Possible,
}

/// Chances of the leads that an order can still have: what would have come about before today cannot be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Possible {
    /// Of the known ones.
    as_known: f64,
    /// Of those that were not possible for want of funds: such an order is renewed as soon as there are some.
    put_off: f64,
    /// The lead that it has then: the days that are left.
    days: i32,
    /// Of one of unknown length, by the longest that it can be.
    of_its_own: [f64; LONGEST_LEADS.len()],
}

impl Class {
    fn new(leads: Vec<i32>) -> Self {
        let all = count(leads.len() + 1);
        let as_known = count(leads.len()) / all;
        let whole = Possible { as_known, put_off: 0.0, days: 0, of_its_own: [1.0 / all; LONGEST_LEADS.len()] };
        Self { leads, all, whole }
    }

    /// For an order that ends in so many days; `short` tells if the funds were too low to pay for it so many days ago.
    pub(super) fn possible(&self, days: i32, short: impl Fn(i32) -> bool) -> Possible {
        let known = self.leads.partition_point(|lead| *lead <= days);
        let put_off = self.leads[known..].iter().filter(|lead| short(*lead - days)).count();
        let own = |longest: u8| f64::from((days + 1).clamp(0, longest.into())) / f64::from(longest) / self.all;
        let [as_known, put_off] = [known, put_off].map(|leads| count(leads) / self.all);
        Possible { as_known, put_off, days, of_its_own: LONGEST_LEADS.map(own) }
    }

    /// The lead of an order's renewal, chosen by a number from 0 to 1; `None` if it is not renewed. The closer its end without a
    /// renewal, the less likely one is, where the others came earlier; the fewer leads are known, the more likely it goes its own way.
    pub(super) fn lead(&self, possible: &Possible, longest: usize, renewed: Odds, chosen: f64) -> Option<i32> {
        let Possible { as_known, put_off, days, of_its_own } = *possible;
        // One number says whether it comes, and which lead it has.
        let mut left = chosen * (as_known + put_off + of_its_own[longest] + renewed.against);
        if left < as_known {
            return self.leads.get((left * self.all).to_usize().unwrap_or(0)).copied();
        }
        left -= as_known;
        if left < put_off {
            return Some(days);
        }
        left -= put_off;
        let own = left * self.all * f64::from(LONGEST_LEADS[longest]);
        (left < of_its_own[longest]).then(|| own.to_i32().unwrap_or(0))
    }

    /// Any of the known leads, chosen by a number from 0 to 1.
    pub(super) fn any(&self, chosen: f64) -> i32 {
        self.leads.get((chosen * count(self.leads.len())).to_usize().unwrap_or(0)).copied().unwrap_or(0)
    }
}

/// The share of orders that are renewed, as the odds against it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Odds {
    against: f64,
}

impl Odds {
    pub(super) fn of(share: f64) -> Self {
        /// Nothing is divided by less.
        const LEAST_SHARE: f64 = 1e-9;
        Self { against: (1.0 - share) / share.max(LEAST_SHARE) }
    }
}

/// The days on which an order could be renewed.
#[derive(Clone, Copy)]
struct Exposure<'a> {
    order: &'a Order,
    /// Days from today to its end.
    ends: i32,
    /// The longest lead that it can have: it was placed the day before.
    longest: i32,
    /// Its lead, if it was renewed.
    renewed: Option<i32>,
}

impl<'a> Leads<'a> {
    /// Reads them from these orders; `short` tells if the funds were too low to pay for an order so many days ago.
    pub(super) fn read(
        orders: &'a [Order],
        renewals: &[Renewal],
        today: NaiveDate,
        short: &impl Fn(&Order, i32) -> bool,
    ) -> Self {
        let mut leads: Vec<Option<i32>> = vec![None; orders.len()];
        for renewal in renewals.iter().filter(|renewal| renewal.on <= today) {
            leads[renewal.renewed] = Some(renewal.lead);
        }
        let sizes = BySize::read(orders, renewals, today);
        let first = days_before(today, 365);
        let mut by_product: BTreeMap<Option<&str>, Vec<Exposure<'_>>> = BTreeMap::new();
        for (order, renewed) in orders.iter().zip(leads) {
            let end = last_day(order);
            let is_known = renewed.is_some() || !order.renewed;
            let ends = days_between(today, end);
            if is_known && end >= first && ends <= LONGEST_LEAD {
                let longest = order.placed.map_or(LONGEST_LEAD, |placed| days_between(placed, end) - 1);
                let earlier = sizes.earlier(order);
                let [ends, longest] = [ends, longest].map(|days| days.saturating_sub(earlier));
                let renewed = renewed.map(|lead| lead.saturating_sub(earlier));
                by_product.entry(order.product.as_deref()).or_default().push(Exposure {
                    order,
                    ends,
                    longest,
                    renewed,
                });
            }
        }
        let all: Vec<Exposure<'_>> = by_product.values().flatten().copied().collect();
        let pooled = likely(&all, short);
        let mut classes = vec![Class::new(pooled.clone())];
        let mut products = BTreeMap::new();
        for (product, exposures) in by_product {
            let own = blended(likely(&exposures, short), &pooled);
            if let (Some(product), Some(own)) = (product, own) {
                products.insert(product, classes.len());
                classes.push(Class::new(own));
            }
        }
        Self { classes, products, sizes }
    }

    /// Days that an order of its size is renewed earlier than others.
    pub(super) fn earlier(&self, order: &Order) -> i32 {
        self.sizes.earlier(order)
    }

    /// The place of the leads of this order.
    pub(super) fn of(&self, order: &Order) -> usize {
        order.product.as_deref().and_then(|product| self.products.get(product)).copied().unwrap_or(0)
    }
}

/// As many leads as renewals were counted. On each day before its end, an order that is not renewed yet is renewed with the chance that
/// such orders had lately.
fn likely(exposures: &[Exposure<'_>], short: &impl Fn(&Order, i32) -> bool) -> Vec<i32> {
    let made = exposures.iter().filter_map(|its| Some(its.renewed? - its.ends));
    let mut made: Vec<i32> = made.filter(|ago| *ago <= 365).collect();
    made.sort_unstable();
    let Some(newest) = made.get(NEWEST.min(made.len()).saturating_sub(1)) else { return Vec::new() };
    // A few days alone would say that all orders are renewed as early as those of one day.
    let first = (*newest).max(LEAST_DAYS);
    let (mut waiting, mut renewed) = ([0.0; DAYS], [0.0; DAYS]);
    for its in exposures {
        let earliest = its.longest.min(its.ends + first).min(LONGEST_LEAD);
        // Today is not over: an order that is not renewed yet says nothing of it, nor of days on which it could not be paid.
        let latest = its.renewed.unwrap_or(its.ends + 1).max(-LATEST_RENEWAL);
        for lead in (latest..=earliest).filter(|lead| its.renewed == Some(*lead) || !short(its.order, lead - its.ends))
        {
            waiting[place(lead)] += 1.0;
        }
        if let Some(lead) = its.renewed.filter(|lead| (latest..=earliest).contains(lead)) {
            renewed[place(lead)] += 1.0;
        }
    }
    let mut left = 1.0;
    let chances = waiting.iter().zip(&renewed).map(|(waiting, renewed): (&f64, &f64)| {
        let chance = left * renewed / (waiting + DOUBT);
        left -= chance;
        chance
    });
    quantiles(&chances.collect::<Vec<f64>>(), made.partition_point(|ago| *ago <= first).min(MOST))
}

/// The leads of a product: its own, and beside few of them those of all orders; `None` where it has hardly any.
fn blended(own: Vec<i32>, pooled: &[i32]) -> Option<Vec<i32>> {
    if own.len() >= LEAST {
        return Some(own);
    }
    let others = LEAST.saturating_sub(OWN * own.len());
    let mut leads: Vec<i32> = own.iter().flat_map(|lead| [*lead; OWN]).collect();
    leads.extend((0..others).filter_map(|place| pooled.get((2 * place + 1) * pooled.len() / (2 * others))));
    leads.sort_unstable();
    (!own.is_empty()).then_some(leads)
}

/// Days by which dear orders are renewed earlier than cheap ones.
#[derive(Debug, Clone, Copy)]
struct BySize {
    /// Days for each doubling of the price.
    days: f64,
    /// Doublings of the price of the mean order.
    mean: f64,
    /// Doublings of the lowest and of the highest price: beyond them nothing is known.
    known: (f64, f64),
}

/// Sums of the sizes and leads of some renewals.
#[derive(Clone, Copy, Default)]
struct Sums {
    number: f64,
    sizes: f64,
    leads: f64,
}

impl BySize {
    /// The slope of the leads of the last year's renewals within their products, where it is hardly by chance.
    fn read(orders: &[Order], renewals: &[Renewal], today: NaiveDate) -> Self {
        /// Squares of the slope in those of its deviation.
        const HARDLY_BY_CHANCE: f64 = 12.0;
        let first = days_before(today, 365);
        let points = || {
            let recent = renewals.iter().filter(|renewal| renewal.on >= first && renewal.on <= today);
            recent.map(|renewal| {
                let order = &orders[renewal.renewed];
                (order.product.as_deref(), doublings(order), f64::from(renewal.lead))
            })
        };
        let mut products: BTreeMap<Option<&str>, Sums> = BTreeMap::new();
        let (mut all, mut known) = (Sums::default(), (f64::MAX, f64::MIN));
        for (product, size, lead) in points() {
            for sums in [&mut all, products.entry(product).or_default()] {
                *sums = Sums { number: sums.number + 1.0, sizes: sums.sizes + size, leads: sums.leads + lead };
            }
            known = (known.0.min(size), known.1.max(size));
        }
        let (mut of_sizes, mut of_both, mut of_leads) = (0.0, 0.0, 0.0);
        for (product, size, lead) in points() {
            let of = products.get(&product).copied().unwrap_or_default();
            let (size, lead) = (size - of.sizes / of.number, lead - of.leads / of.number);
            (of_sizes, of_both, of_leads) = (of_sizes + size * size, of_both + size * lead, of_leads + lead * lead);
        }
        let free = all.number - count(products.len()) - 1.0;
        let unexplained = (of_leads * of_sizes - of_both * of_both).max(0.0);
        if free >= count(LEAST) - 2.0 && of_both * of_both * free > HARDLY_BY_CHANCE * unexplained {
            Self { days: of_both / of_sizes, mean: all.sizes / all.number, known }
        } else {
            Self { days: 0.0, mean: 0.0, known: (0.0, 0.0) }
        }
    }

    fn earlier(self, order: &Order) -> i32 {
        let most = f64::from(LONGEST_LEAD);
        let size = doublings(order).clamp(self.known.0, self.known.1);
        (self.days * (size - self.mean)).clamp(-most, most).round().to_i32().unwrap_or(0)
    }
}

/// Doublings from a hundredth to the order's price: a measure of its size, no amount.
fn doublings(order: &Order) -> f64 {
    let price = minor(order.price).max(1).unsigned_abs();
    let shifted = (price << price.leading_zeros()) >> 32;
    f64::from(price.ilog2()) + f64::from(u32::try_from(shifted).unwrap_or(u32::MAX)) / 2_147_483_648.0 - 1.0
}

/// Spreads a number of leads as these chances, of which the first is that of the longest lead.
fn quantiles(chances: &[f64], wanted: usize) -> Vec<i32> {
    let all = chances.iter().sum::<f64>();
    if all <= 0.0 {
        return Vec::new();
    }
    let mut leads = Vec::with_capacity(wanted);
    let mut so_far = 0.0;
    for (days, chance) in (0..).zip(chances) {
        so_far += chance;
        let shown = (so_far / all * count(wanted) + 0.5).to_usize().unwrap_or(0).min(wanted);
        leads.resize(shown.max(leads.len()), LONGEST_LEAD - days);
    }
    leads.reverse();
    leads
}

fn place(lead: i32) -> usize {
    usize::try_from(LONGEST_LEAD - lead).unwrap_or(0).min(DAYS - 1)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static ORDER: LazyLock<Order> = LazyLock::new(|| order(100));

    fn order(price: i64) -> Order {
        crate::forecast::tests::order(1, price, (2026, 12, 1))
    }

    /// An order that was renewed so many days ago, with this lead.
    fn renewed(ago: i32, lead: i32) -> Exposure<'static> {
        Exposure { order: &ORDER, ends: lead - ago, longest: LONGEST_LEAD, renewed: Some(lead) }
    }

    fn waiting(ends: i32) -> Exposure<'static> {
        Exposure { order: &ORDER, ends, longest: LONGEST_LEAD, renewed: None }
    }

    fn likely_of(exposures: &[Exposure<'_>]) -> Vec<i32> {
        likely(exposures, &|_, _| false)
    }

    fn mean(leads: &[i32]) -> f64 {
        f64::from(leads.iter().sum::<i32>()) / count(leads.len())
    }

    #[test]
    fn leads_of_a_year_are_those_that_were_made() {
        let exposures: Vec<Exposure<'_>> = (0..30).map(|number| renewed(10 + 12 * number, 20 + number % 3)).collect();
        let leads = likely_of(&exposures);
        assert_eq!((leads.len(), leads[0], leads[29]), (30, 20, 22));
        assert!(leads.is_sorted() && (mean(&leads) - 21.0).abs() < 0.2, "{leads:?}");
    }

    #[test]
    fn where_nothing_was_renewed_there_are_no_leads() {
        assert_eq!(likely_of(&[]), [0; 0]);
        assert_eq!(likely_of(&[waiting(30), waiting(-20)]), [0; 0]);
        assert_eq!(quantiles(&[0.0; DAYS], 7), [0; 0]);
    }

    #[test]
    fn orders_that_wait_say_that_leads_are_short() {
        // Three were renewed 60 days before their ends; thirty have passed that day and wait.
        let early: Vec<Exposure<'_>> = (1..=3).map(|ago| renewed(ago, 60)).collect();
        let passed: Vec<Exposure<'_>> = (20..50).map(waiting).collect();
        let others: Vec<Exposure<'_>> = (1..=30).map(|ago| renewed(ago, 5)).collect();
        let leads = likely_of(&[early, passed, others].concat());
        let longest = leads.iter().filter(|lead| **lead == 60).count();
        assert!((1..=4).contains(&longest), "{leads:?}");
    }

    #[test]
    fn a_batch_of_one_day_does_not_say_that_all_are_renewed_as_early() {
        // Each month's batch is renewed on its last day, 35 to 64 days before the ends.
        let batch = |ago: i32| (0..60).map(move |number| renewed(ago, 35 + number / 2));
        let next = (0..60).map(|number| waiting(64 + number / 2));
        let leads = likely_of(&batch(1).chain(batch(31)).chain(batch(61)).chain(next).collect::<Vec<_>>());
        assert!((46.0..56.0).contains(&mean(&leads)), "{}", mean(&leads));
    }

    #[test]
    fn a_day_that_has_just_begun_says_nothing_of_orders_that_wait() {
        let past = || (1..=60).flat_map(|ago| (0..50).map(move |_| renewed(ago, 30)));
        let today = || (0..50).map(|_| waiting(30));
        let leads = likely_of(&past().chain(today()).collect::<Vec<_>>());
        assert!(leads.len() == MOST && leads.iter().all(|lead| *lead == 30), "{leads:?}");
    }

    #[test]
    fn late_renewals_have_leads_below_nothing() {
        let leads = likely_of(&(1..=40).map(|ago| renewed(ago, -15)).collect::<Vec<_>>());
        assert_eq!(leads, [-15; 40]);
        let half: Vec<Exposure<'_>> = (1..=40).map(|ago| renewed(ago, if ago % 2 == 0 { 10 } else { -15 })).collect();
        let late_ones_to_come = (0..25).step_by(2).map(|ago| waiting(ago - 15));
        let late = likely_of(&half.into_iter().chain(late_ones_to_come).collect::<Vec<_>>())
            .into_iter()
            .filter(|lead| *lead == -15)
            .count();
        assert!((17..=23).contains(&late), "{late}");
    }

    #[test]
    fn an_order_can_have_no_lead_longer_than_it_lasted() {
        let short: Vec<Exposure<'_>> = (1..=20).map(|ago| Exposure { longest: 25, ..renewed(ago, 20) }).collect();
        assert_eq!(likely_of(&short), [20; 20]);
    }

    #[test]
    fn an_order_has_a_lead_that_is_still_ahead_or_none() {
        let class = Class::new(vec![10; 11]);
        assert!(class.possible(9, |_| false).as_known < 1e-12 && class.possible(10, |_| false).as_known > 0.9);
        assert_eq!(class.lead(&class.whole, 0, Odds::of(1.0), 0.5), Some(10));
        assert_eq!(class.lead(&class.whole, 0, Odds::of(0.0), 0.5), None);
    }

    #[test]
    fn an_order_that_could_not_be_paid_is_renewed_as_soon_as_it_can() {
        let class = Class::new(vec![10; 11]);
        let funds_came_yesterday = |ago: i32| ago > 1;
        let possible = class.possible(4, funds_came_yesterday);
        assert!(possible.put_off > 0.9 && possible.as_known < 1e-12);
        assert_eq!(class.lead(&possible, 0, Odds::of(0.9), 0.5), Some(4));
        let passed: Vec<Exposure<'_>> = (1..=20).map(|ago| renewed(ago, 5)).chain((6..40).map(waiting)).collect();
        let early = [passed.clone(), vec![renewed(40, 50); 4]].concat();
        let long = |leads: Vec<i32>| leads.into_iter().filter(|lead| *lead == 50).count();
        assert!(long(likely(&early, &|_, ago| ago < 44)) > long(likely_of(&early)), "no funds while the others waited");
    }

    #[test]
    fn few_leads_of_a_product_stand_beside_those_of_all_orders() {
        let pooled: Vec<i32> = (0..40).collect();
        assert_eq!(blended(vec![], &pooled), None);
        assert_eq!(blended(vec![7; 12], &pooled), Some(vec![7; 12]));
        assert_eq!(blended(vec![90; 3], &pooled), Some(vec![3, 10, 16, 23, 30, 36, 90, 90, 90, 90, 90, 90]));
        assert_eq!(blended(vec![90; 7], &pooled), Some(vec![90; 14]));
        assert_eq!(blended(vec![90], &[]), Some(vec![90; 2]));
    }

    #[test]
    fn dear_orders_may_be_renewed_earlier() {
        let today = NaiveDate::from_ymd_opt(2026, 11, 24).unwrap();
        let orders: Vec<Order> = [100, 200, 400, 800].repeat(4).into_iter().map(order).collect();
        let renewals = |lead: &dyn Fn(usize) -> i32| -> Vec<Renewal> {
            let renewal = |place| Renewal { renewed: place, by: None, purchase: None, on: today, lead: lead(place) };
            (0..orders.len()).map(renewal).collect()
        };
        let sizes =
            BySize::read(&orders, &renewals(&|place| i32::try_from(10 * (place % 4) + place % 3).unwrap()), today);
        let earlier: Vec<i32> = [100, 200, 400, 800, 1600].map(|price| sizes.earlier(&order(price))).to_vec();
        assert_eq!(earlier, [-15, -5, 5, 15, 15], "beyond the highest price nothing is known");
        let by_chance = BySize::read(&orders, &renewals(&|place| i32::try_from(5 * (place * 7 % 5)).unwrap()), today);
        assert_eq!(by_chance.earlier(&order(80_000)), 0);
        assert_eq!(BySize::read(&orders, &[], today).earlier(&order(1)), 0);
        // Products of nearly one price that are renewed at other times say nothing of dear orders.
        let of = |product: &str, price| Order { product: Some(product.into()), ..order(price) };
        let orders: Vec<Order> = (0..24).map(|it| if it % 2 == 0 { of("dv", 399) } else { of("ov", 418) }).collect();
        let leads =
            |place: usize| i32::try_from(if place.is_multiple_of(2) { 8 + place / 6 } else { 28 + place / 6 }).unwrap();
        let renewal = |place| Renewal { renewed: place, by: None, purchase: None, on: today, lead: leads(place) };
        let sizes = BySize::read(&orders, &(0..24).map(renewal).collect::<Vec<_>>(), today);
        assert_eq!([100, 399, 1197].map(|price| sizes.earlier(&order(price))), [0; 3]);
        assert!((doublings(&order(2)) - doublings(&order(1)) - 1.0).abs() < 1e-6 && doublings(&order(0)) == 0.0);
    }
}
