//! Days before their end on which orders are renewed, learnt from all that could have been renewed lately: also from those that
//! were renewed before their end came, and from those that still wait.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::prelude::ToPrimitive as _;

use super::purchases::{Renewal, order_end};
use super::ratio::count;
use super::renewals::{MAX_DAYS_AFTER_END, MAX_LEAD_DAYS, days_before, days_between};
use crate::domain::order::Order;
use crate::forecast::spend_history::minor;

/// Number of the newest renewals that tell the leads, as far as they were made within a year …
const MAX_NEWEST: usize = 40;
/// … or all of so many days.
const MIN_DAYS: i32 = 31;
/// Number of leads that are kept, at most.
const MAX_LEADS: usize = 200;
/// Number of renewals from which on a product has leads of its own alone. Of fewer each counts as so many, and leads of all orders as the
/// rest.
const MIN_OWN_LEADS: usize = 12;
const OWN_LEAD_WEIGHT: usize = 2;
/// Orders that are added to those of each day, so that a few orders cannot say that none is renewed later.
const PRIOR_EXPOSURE: f64 = 0.5;
/// Beside the known leads there is one of unknown length: any below one of these, chosen for each future.
pub(super) const UNKNOWN_LEAD_LIMITS: [u8; 4] = [11, 31, 61, 91];
/// Days from the longest lead to the end of what is overdue.
const LEAD_DAYS: usize = (MAX_LEAD_DAYS + MAX_DAYS_AFTER_END + 1).cast_unsigned() as usize;

/// The leads of an account's renewals.
#[derive(Debug, Clone)]
pub(super) struct RenewalLeads<'a> {
    /// The class of all orders, then one of each product.
    pub(super) distributions: Vec<LeadDistribution>,
    products: BTreeMap<&'a str, usize>,
    by_size: LeadBySize,
}

/// Leads that are as likely as each other, and one more that may be any.
#[derive(Debug, Clone)]
pub(super) struct LeadDistribution {
    /// Shortest first.
    leads: Vec<i32>,
    /// Their number and the one more.
    total: f64,
    /// All of it, for an order that does not end soon.
    pub(super) unrestricted: RemainingLeads,
}

/// Chances of the leads that an order can still have: what would have come about before today cannot be.
#[derive(Debug, Clone, Copy)]
pub(super) struct RemainingLeads {
    /// Of the known ones.
    known: f64,
    /// Of those that were not possible for want of funds: such an order is renewed as soon as there are some.
    delayed: f64,
    /// The lead that it has then: the days that are left.
    days_left: i32,
    /// Of one of unknown length, by the longest that it can be.
    unknown: [f64; UNKNOWN_LEAD_LIMITS.len()],
}

impl LeadDistribution {
    fn new(leads: Vec<i32>) -> Self {
        let total = count(leads.len() + 1);
        let known = count(leads.len()) / total;
        let unrestricted =
            RemainingLeads { known, delayed: 0.0, days_left: 0, unknown: [1.0 / total; UNKNOWN_LEAD_LIMITS.len()] };
        Self { leads, total: total, unrestricted: unrestricted }
    }

    /// For an order that ends in so many days; `short` tells if the funds were too low to pay for it so many days ago.
    pub(super) fn remaining(&self, days_left: i32, short: impl Fn(i32) -> bool) -> RemainingLeads {
        let known = self.leads.partition_point(|lead| *lead <= days_left);
        let delayed = self.leads[known..].iter().filter(|lead| short(*lead - days_left)).count();
        let own = |longest: u8| f64::from((days_left + 1).clamp(0, longest.into())) / f64::from(longest) / self.total;
        let [known, delayed] = [known, delayed].map(|leads| count(leads) / self.total);
        RemainingLeads { known, delayed, days_left, unknown: UNKNOWN_LEAD_LIMITS.map(own) }
    }

    /// The lead of an order's renewal, chosen by a number from 0 to 1; `None` if it is not renewed. The closer its end without a
    /// renewal, the less likely one is, where the others came earlier; the fewer leads are known, the more likely it goes its own way.
    pub(super) fn draw_lead(
        &self,
        remaining: &RemainingLeads,
        longest: usize,
        renewed: RenewalOdds,
        chosen: f64,
    ) -> Option<i32> {
        let RemainingLeads { known, delayed, days_left, unknown } = *remaining;
        // One number says whether it comes, and which lead it has.
        let mut left = chosen * (known + delayed + unknown[longest] + renewed.against);
        if left < known {
            return self.leads.get((left * self.total).to_usize().unwrap_or(0)).copied();
        }
        left -= known;
        if left < delayed {
            return Some(days_left);
        }
        left -= delayed;
        let own = left * self.total * f64::from(UNKNOWN_LEAD_LIMITS[longest]);
        (left < unknown[longest]).then(|| own.to_i32().unwrap_or(0))
    }

    /// Any of the known leads, chosen by a number from 0 to 1.
    pub(super) fn draw_known_lead(&self, chosen: f64) -> i32 {
        self.leads.get((chosen * count(self.leads.len())).to_usize().unwrap_or(0)).copied().unwrap_or(0)
    }
}

/// The share of orders that are renewed, as the odds against it.
#[derive(Debug, Clone, Copy)]
pub(super) struct RenewalOdds {
    against: f64,
}

impl RenewalOdds {
    pub(super) fn from_share(share: f64) -> Self {
        /// Nothing is divided by less.
        const LEAST_SHARE: f64 = 1e-9;
        Self { against: (1.0 - share) / share.max(LEAST_SHARE) }
    }
}

/// The days on which an order could be renewed.
#[derive(Clone, Copy)]
struct RenewalExposure<'a> {
    order: &'a Order,
    /// Days from today to its end.
    days_to_end: i32,
    /// The longest lead that it can have: it was placed the day before.
    longest_lead: i32,
    /// Its lead, if it was renewed.
    renewal_lead: Option<i32>,
}

impl<'a> RenewalLeads<'a> {
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
        let by_size = LeadBySize::read(orders, renewals, today);
        let first = days_before(today, 365);
        let mut by_product: BTreeMap<Option<&str>, Vec<RenewalExposure<'_>>> = BTreeMap::new();
        for (order, renewed) in orders.iter().zip(leads) {
            let end = order_end(order);
            let is_known = renewed.is_some() || !order.renewed;
            let ends = days_between(today, end);
            if is_known && end >= first && ends <= MAX_LEAD_DAYS {
                let longest = order.placed.map_or(MAX_LEAD_DAYS, |placed| days_between(placed, end) - 1);
                let earlier = by_size.days_earlier(order);
                let [ends, longest] = [ends, longest].map(|days| days.saturating_sub(earlier));
                let renewed = renewed.map(|lead| lead.saturating_sub(earlier));
                by_product.entry(order.product.as_deref()).or_default().push(RenewalExposure {
                    order,
                    days_to_end: ends,
                    longest_lead: longest,
                    renewal_lead: renewed,
                });
            }
        }
        let all: Vec<RenewalExposure<'_>> = by_product.values().flatten().copied().collect();
        let pooled = estimated_leads(&all, short);
        let mut distributions = vec![LeadDistribution::new(pooled.clone())];
        let mut products = BTreeMap::new();
        for (product, exposures) in by_product {
            let own = blended_leads(estimated_leads(&exposures, short), &pooled);
            if let (Some(product), Some(own)) = (product, own) {
                products.insert(product, distributions.len());
                distributions.push(LeadDistribution::new(own));
            }
        }
        Self { distributions, products, by_size }
    }

    /// Days that an order of its size is renewed earlier than others.
    pub(super) fn days_earlier(&self, order: &Order) -> i32 {
        self.by_size.days_earlier(order)
    }

    /// The place of the leads of this order.
    pub(super) fn distribution_of(&self, order: &Order) -> usize {
        order.product.as_deref().and_then(|product| self.products.get(product)).copied().unwrap_or(0)
    }
}

/// As many leads as renewals were counted. On each day before its end, an order that is not renewed yet is renewed with the chance that
/// such orders had lately.
fn estimated_leads(exposures: &[RenewalExposure<'_>], short: &impl Fn(&Order, i32) -> bool) -> Vec<i32> {
    let made = exposures.iter().filter_map(|its| Some(its.renewal_lead? - its.days_to_end));
    let mut made: Vec<i32> = made.filter(|ago| *ago <= 365).collect();
    made.sort_unstable();
    let Some(newest) = made.get(MAX_NEWEST.min(made.len()).saturating_sub(1)) else { return Vec::new() };
    // A few days alone would say that all orders are renewed as early as those of one day.
    let first = (*newest).max(MIN_DAYS);
    let (mut waiting, mut renewed) = ([0.0; LEAD_DAYS], [0.0; LEAD_DAYS]);
    for its in exposures {
        let earliest = its.longest_lead.min(its.days_to_end + first).min(MAX_LEAD_DAYS);
        // Today is not over: an order that is not renewed yet says nothing of it, nor of days on which it could not be paid.
        let latest = its.renewal_lead.unwrap_or(its.days_to_end + 1).max(-MAX_DAYS_AFTER_END);
        for lead in (latest..=earliest)
            .filter(|lead| its.renewal_lead == Some(*lead) || !short(its.order, lead - its.days_to_end))
        {
            waiting[lead_index(lead)] += 1.0;
        }
        if let Some(lead) = its.renewal_lead.filter(|lead| (latest..=earliest).contains(lead)) {
            renewed[lead_index(lead)] += 1.0;
        }
    }
    let mut left = 1.0;
    let chances = waiting.iter().zip(&renewed).map(|(waiting, renewed): (&f64, &f64)| {
        let chance = left * renewed / (waiting + PRIOR_EXPOSURE);
        left -= chance;
        chance
    });
    quantiles(&chances.collect::<Vec<f64>>(), made.partition_point(|ago| *ago <= first).min(MAX_LEADS))
}

/// The leads of a product: its own, and beside few of them those of all orders; `None` where it has hardly any.
fn blended_leads(own: Vec<i32>, pooled: &[i32]) -> Option<Vec<i32>> {
    if own.len() >= MIN_OWN_LEADS {
        return Some(own);
    }
    let others = MIN_OWN_LEADS.saturating_sub(OWN_LEAD_WEIGHT * own.len());
    let mut leads: Vec<i32> = own.iter().flat_map(|lead| [*lead; OWN_LEAD_WEIGHT]).collect();
    leads.extend((0..others).filter_map(|place| pooled.get((2 * place + 1) * pooled.len() / (2 * others))));
    leads.sort_unstable();
    (!own.is_empty()).then_some(leads)
}

/// Days by which dear orders are renewed earlier than cheap ones.
#[derive(Debug, Clone, Copy)]
struct LeadBySize {
    /// Days for each doubling of the price.
    days: f64,
    /// Doublings of the price of the mean order.
    mean: f64,
    /// Doublings of the lowest and of the highest price: beyond them nothing is known.
    known: (f64, f64),
}

/// Sums of the sizes and leads of some renewals.
#[derive(Clone, Copy, Default)]
struct LeadSums {
    number: f64,
    sizes: f64,
    leads: f64,
}

impl LeadBySize {
    /// The slope of the leads of the last year's renewals within their products, where it is hardly by chance.
    fn read(orders: &[Order], renewals: &[Renewal], today: NaiveDate) -> Self {
        /// Squares of the slope in those of its deviation.
        const MIN_SQUARED_T: f64 = 12.0;
        let first = days_before(today, 365);
        let points = || {
            let recent = renewals.iter().filter(|renewal| renewal.on >= first && renewal.on <= today);
            recent.map(|renewal| {
                let order = &orders[renewal.renewed];
                (order.product.as_deref(), doublings(order), f64::from(renewal.lead))
            })
        };
        let mut products: BTreeMap<Option<&str>, LeadSums> = BTreeMap::new();
        let (mut all, mut known) = (LeadSums::default(), (f64::MAX, f64::MIN));
        for (product, size, lead) in points() {
            for sums in [&mut all, products.entry(product).or_default()] {
                *sums = LeadSums { number: sums.number + 1.0, sizes: sums.sizes + size, leads: sums.leads + lead };
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
        if free >= count(MIN_OWN_LEADS) - 2.0 && of_both * of_both * free > MIN_SQUARED_T * unexplained {
            Self { days: of_both / of_sizes, mean: all.sizes / all.number, known }
        } else {
            Self { days: 0.0, mean: 0.0, known: (0.0, 0.0) }
        }
    }

    fn days_earlier(self, order: &Order) -> i32 {
        let most = f64::from(MAX_LEAD_DAYS);
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
        leads.resize(shown.max(leads.len()), MAX_LEAD_DAYS - days);
    }
    leads.reverse();
    leads
}

fn lead_index(lead: i32) -> usize {
    usize::try_from(MAX_LEAD_DAYS - lead).unwrap_or(0).min(LEAD_DAYS - 1)
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
    fn renewed(ago: i32, lead: i32) -> RenewalExposure<'static> {
        RenewalExposure {
            order: &ORDER,
            days_to_end: lead - ago,
            longest_lead: MAX_LEAD_DAYS,
            renewal_lead: Some(lead),
        }
    }

    fn waiting(ends: i32) -> RenewalExposure<'static> {
        RenewalExposure { order: &ORDER, days_to_end: ends, longest_lead: MAX_LEAD_DAYS, renewal_lead: None }
    }

    fn estimated_leads_of(exposures: &[RenewalExposure<'_>]) -> Vec<i32> {
        estimated_leads(exposures, &|_, _| false)
    }

    fn mean(leads: &[i32]) -> f64 {
        f64::from(leads.iter().sum::<i32>()) / count(leads.len())
    }

    #[test]
    fn leads_of_a_year_are_those_that_were_made() {
        let exposures: Vec<RenewalExposure<'_>> =
            (0..30).map(|number| renewed(10 + 12 * number, 20 + number % 3)).collect();
        let leads = estimated_leads_of(&exposures);
        assert_eq!((leads.len(), leads[0], leads[29]), (30, 20, 22));
        assert!(leads.is_sorted() && (mean(&leads) - 21.0).abs() < 0.2, "{leads:?}");
    }

    #[test]
    fn where_nothing_was_renewed_there_are_no_leads() {
        assert_eq!(estimated_leads_of(&[]), [0; 0]);
        assert_eq!(estimated_leads_of(&[waiting(30), waiting(-20)]), [0; 0]);
        assert_eq!(quantiles(&[0.0; LEAD_DAYS], 7), [0; 0]);
    }

    #[test]
    fn waiting_orders_shorten_leads() {
        // Three were renewed 60 days before their ends; thirty have passed that day and wait.
        let early: Vec<RenewalExposure<'_>> = (1..=3).map(|ago| renewed(ago, 60)).collect();
        let passed: Vec<RenewalExposure<'_>> = (20..50).map(waiting).collect();
        let others: Vec<RenewalExposure<'_>> = (1..=30).map(|ago| renewed(ago, 5)).collect();
        let leads = estimated_leads_of(&[early, passed, others].concat());
        let longest = leads.iter().filter(|lead| **lead == 60).count();
        assert!((1..=4).contains(&longest), "{leads:?}");
    }

    #[test]
    fn one_early_batch_does_not_set_all_leads() {
        // Each month's batch is renewed on its last day, 35 to 64 days before the ends.
        let batch = |ago: i32| (0..60).map(move |number| renewed(ago, 35 + number / 2));
        let next = (0..60).map(|number| waiting(64 + number / 2));
        let leads = estimated_leads_of(&batch(1).chain(batch(31)).chain(batch(61)).chain(next).collect::<Vec<_>>());
        assert!((46.0..56.0).contains(&mean(&leads)), "{}", mean(&leads));
    }

    #[test]
    fn today_does_not_count_against_waiting_orders() {
        let past = || (1..=60).flat_map(|ago| (0..50).map(move |_| renewed(ago, 30)));
        let today = || (0..50).map(|_| waiting(30));
        let leads = estimated_leads_of(&past().chain(today()).collect::<Vec<_>>());
        assert!(leads.len() == MAX_LEADS && leads.iter().all(|lead| *lead == 30), "{leads:?}");
    }

    #[test]
    fn late_renewals_have_negative_leads() {
        let leads = estimated_leads_of(&(1..=40).map(|ago| renewed(ago, -15)).collect::<Vec<_>>());
        assert_eq!(leads, [-15; 40]);
        let half: Vec<RenewalExposure<'_>> =
            (1..=40).map(|ago| renewed(ago, if ago % 2 == 0 { 10 } else { -15 })).collect();
        let late_ones_to_come = (0..25).step_by(2).map(|ago| waiting(ago - 15));
        let late = estimated_leads_of(&half.into_iter().chain(late_ones_to_come).collect::<Vec<_>>())
            .into_iter()
            .filter(|lead| *lead == -15)
            .count();
        assert!((17..=23).contains(&late), "{late}");
    }

    #[test]
    fn an_order_can_have_no_lead_longer_than_it_lasted() {
        let short: Vec<RenewalExposure<'_>> =
            (1..=20).map(|ago| RenewalExposure { longest_lead: 25, ..renewed(ago, 20) }).collect();
        assert_eq!(estimated_leads_of(&short), [20; 20]);
    }

    #[test]
    fn an_order_has_a_lead_still_to_come_or_none() {
        let class = LeadDistribution::new(vec![10; 11]);
        assert!(class.remaining(9, |_| false).known < 1e-12 && class.remaining(10, |_| false).known > 0.9);
        assert_eq!(class.draw_lead(&class.unrestricted, 0, RenewalOdds::from_share(1.0), 0.5), Some(10));
        assert_eq!(class.draw_lead(&class.unrestricted, 0, RenewalOdds::from_share(0.0), 0.5), None);
    }

    #[test]
    fn an_order_that_could_not_be_paid_is_renewed_as_soon_as_it_can() {
        let class = LeadDistribution::new(vec![10; 11]);
        let funds_came_yesterday = |ago: i32| ago > 1;
        let possible = class.remaining(4, funds_came_yesterday);
        assert!(possible.delayed > 0.9 && possible.known < 1e-12);
        assert_eq!(class.draw_lead(&possible, 0, RenewalOdds::from_share(0.9), 0.5), Some(4));
        let passed: Vec<RenewalExposure<'_>> =
            (1..=20).map(|ago| renewed(ago, 5)).chain((6..40).map(waiting)).collect();
        let early = [passed.clone(), vec![renewed(40, 50); 4]].concat();
        let long = |leads: Vec<i32>| leads.into_iter().filter(|lead| *lead == 50).count();
        assert!(
            long(estimated_leads(&early, &|_, ago| ago < 44)) > long(estimated_leads_of(&early)),
            "no funds while the others waited"
        );
    }

    #[test]
    fn few_leads_of_a_product_are_blended_with_all_orders() {
        let pooled: Vec<i32> = (0..40).collect();
        assert_eq!(blended_leads(vec![], &pooled), None);
        assert_eq!(blended_leads(vec![7; 12], &pooled), Some(vec![7; 12]));
        assert_eq!(blended_leads(vec![90; 3], &pooled), Some(vec![3, 10, 16, 23, 30, 36, 90, 90, 90, 90, 90, 90]));
        assert_eq!(blended_leads(vec![90; 7], &pooled), Some(vec![90; 14]));
        assert_eq!(blended_leads(vec![90], &[]), Some(vec![90; 2]));
    }

    #[test]
    fn expensive_orders_may_be_renewed_earlier() {
        let today = NaiveDate::from_ymd_opt(2026, 11, 24).unwrap();
        let orders: Vec<Order> = [100, 200, 400, 800].repeat(4).into_iter().map(order).collect();
        let renewals = |lead: &dyn Fn(usize) -> i32| -> Vec<Renewal> {
            let renewal = |place| Renewal { renewed: place, by: None, purchase: None, on: today, lead: lead(place) };
            (0..orders.len()).map(renewal).collect()
        };
        let sizes =
            LeadBySize::read(&orders, &renewals(&|place| i32::try_from(10 * (place % 4) + place % 3).unwrap()), today);
        let earlier: Vec<i32> = [100, 200, 400, 800, 1600].map(|price| sizes.days_earlier(&order(price))).to_vec();
        assert_eq!(earlier, [-15, -5, 5, 15, 15], "beyond the highest price nothing is known");
        let by_chance =
            LeadBySize::read(&orders, &renewals(&|place| i32::try_from(5 * (place * 7 % 5)).unwrap()), today);
        assert_eq!(by_chance.days_earlier(&order(80_000)), 0);
        assert_eq!(LeadBySize::read(&orders, &[], today).days_earlier(&order(1)), 0);
        // Products of nearly one price that are renewed at other times say nothing of dear orders.
        let of = |product: &str, price| Order { product: Some(product.into()), ..order(price) };
        let orders: Vec<Order> = (0..24).map(|it| if it % 2 == 0 { of("dv", 399) } else { of("ov", 418) }).collect();
        let leads =
            |place: usize| i32::try_from(if place.is_multiple_of(2) { 8 + place / 6 } else { 28 + place / 6 }).unwrap();
        let renewal = |place| Renewal { renewed: place, by: None, purchase: None, on: today, lead: leads(place) };
        let sizes = LeadBySize::read(&orders, &(0..24).map(renewal).collect::<Vec<_>>(), today);
        assert_eq!([100, 399, 1197].map(|price| sizes.days_earlier(&order(price))), [0; 3]);
        assert!((doublings(&order(2)) - doublings(&order(1)) - 1.0).abs() < 1e-6 && doublings(&order(0)) == 0.0);
    }
}
