//! Leads: the days before its end on which an order is renewed. They are learnt from every order that could have been
//! renewed lately, including those that still wait.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::prelude::ToPrimitive as _;

use super::lead_by_size::LeadBySize;
use super::purchase::{Renewal, order_end};
use super::ratio::count;
use super::renewal_window::{MAX_DAYS_LATE, MAX_LEAD_DAYS, days_before, days_between};
use crate::domain::order::Order;

/// Leads are learnt from this number of the newest renewals, not older than a year …
const MAX_NEWEST: usize = 40;
/// … or, if longer, from the renewals of this number of days.
const MIN_DAYS: i32 = 31;
/// Number of leads in a distribution, at most.
const MAX_LEADS: usize = 200;
/// Number of renewals from which on a product has a distribution of its own. With fewer, each own lead counts
/// `OWN_LEAD_WEIGHT` times, and leads of all orders fill up the rest.
const MIN_OWN_LEADS: usize = 12;
const OWN_LEAD_WEIGHT: usize = 2;
/// Orders added to those that wait on each day, so that a few orders cannot rule out longer leads.
const PRIOR_EXPOSURE: f64 = 0.5;
/// Limits of the unknown lead, which every distribution has besides the known ones: it is any number of days below
/// the limit. Each future draws one of these limits.
pub(super) const UNKNOWN_LEAD_LIMITS: [u8; 4] = [11, 31, 61, 91];
/// Number of possible leads, from the longest down to the last day on which an overdue order can be renewed.
const LEAD_DAYS: usize = (MAX_LEAD_DAYS + MAX_DAYS_LATE + 1).cast_unsigned() as usize;

/// Lead distributions of an account's renewals.
#[derive(Debug, Clone)]
pub(super) struct RenewalLeads<'a> {
    /// Distribution of all orders, then one for each product.
    pub(super) distributions: Vec<LeadDistribution>,
    products: BTreeMap<&'a str, usize>,
    by_size: LeadBySize,
}

/// Known leads, each equally likely, and one unknown lead.
#[derive(Debug, Clone)]
pub(super) struct LeadDistribution {
    /// Known leads in days, shortest first.
    leads: Vec<i32>,
    /// Number of known leads plus one.
    total: f64,
    /// Probabilities for an order that does not end soon.
    pub(super) unrestricted: RemainingLeads,
}

/// Probabilities of the leads that an order can still have. Leads whose day has passed are excluded.
#[derive(Debug, Clone, Copy)]
pub(super) struct RemainingLeads {
    /// Probability of the known leads.
    known: f64,
    /// Probability of the leads that were impossible for lack of funds. Such an order is renewed as soon as funds
    /// allow.
    delayed: f64,
    /// Days to the end of the order: the lead of a delayed renewal.
    days_left: i32,
    /// Probability of the unknown lead, for each of its limits.
    unknown: [f64; UNKNOWN_LEAD_LIMITS.len()],
}

impl LeadDistribution {
    fn new(leads: Vec<i32>) -> Self {
        let total = count(leads.len() + 1);
        let known = count(leads.len()) / total;
        let unrestricted =
            RemainingLeads { known, delayed: 0.0, days_left: 0, unknown: [1.0 / total; UNKNOWN_LEAD_LIMITS.len()] };
        Self { leads, total, unrestricted }
    }

    /// Returns the leads that are left for an order that ends in `days_left` days. `short` reports whether the funds
    /// were too low to pay for it that many days ago.
    pub(super) fn remaining(&self, days_left: i32, short: impl Fn(i32) -> bool) -> RemainingLeads {
        let known = self.leads.partition_point(|lead| *lead <= days_left);
        let delayed = self.leads[known..].iter().filter(|lead| short(*lead - days_left)).count();
        let own = |longest: u8| f64::from((days_left + 1).clamp(0, longest.into())) / f64::from(longest) / self.total;
        let [known, delayed] = [known, delayed].map(|leads| count(leads) / self.total);
        RemainingLeads { known, delayed, days_left, unknown: UNKNOWN_LEAD_LIMITS.map(own) }
    }

    /// Returns the lead of an order's renewal at this quantile; `None` if the order is not renewed. If most orders
    /// are renewed earlier, an order close to its end is unlikely to be renewed. The fewer leads are known, the more
    /// weight the unknown lead has.
    pub(super) fn draw_lead(
        &self,
        remaining: &RemainingLeads,
        longest: usize,
        renewed: RenewalOdds,
        chosen: f64,
    ) -> Option<i32> {
        let RemainingLeads { known, delayed, days_left, unknown } = *remaining;
        // One random number decides whether the order is renewed, and with which lead.
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

    /// Returns the known lead at this quantile.
    pub(super) fn draw_known_lead(&self, chosen: f64) -> i32 {
        self.leads.get((chosen * count(self.leads.len())).to_usize().unwrap_or(0)).copied().unwrap_or(0)
    }
}

/// Odds against the renewal of an order.
#[derive(Debug, Clone, Copy)]
pub(super) struct RenewalOdds {
    against: f64,
}

impl RenewalOdds {
    pub(super) fn from_share(share: f64) -> Self {
        /// Smallest share, to avoid a division by 0.
        const LEAST_SHARE: f64 = 1e-9;
        Self { against: (1.0 - share) / share.max(LEAST_SHARE) }
    }
}

/// Days on which an order could be renewed.
#[derive(Clone, Copy)]
struct RenewalExposure<'a> {
    order: &'a Order,
    /// Days from today to the end of the order.
    days_to_end: i32,
    /// Longest possible lead: the order was placed one day earlier.
    longest_lead: i32,
    /// Lead of the renewal, if the order was renewed.
    renewal_lead: Option<i32>,
}

impl<'a> RenewalLeads<'a> {
    /// Learns the leads from these orders. `short` reports whether the funds were too low to pay for an order that
    /// many days ago.
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

    /// Returns the days by which an order of this size is renewed earlier than others.
    pub(super) fn days_earlier(&self, order: &Order) -> i32 {
        self.by_size.days_earlier(order)
    }

    /// Returns the index of this order's lead distribution.
    pub(super) fn distribution_of(&self, order: &Order) -> usize {
        order.product.as_deref().and_then(|product| self.products.get(product)).copied().unwrap_or(0)
    }
}

/// Returns as many leads as renewals were counted. They follow the hazard of a renewal: the probability that an order
/// which is not renewed yet is renewed on a given day before its end.
fn estimated_leads(exposures: &[RenewalExposure<'_>], short: &impl Fn(&Order, i32) -> bool) -> Vec<i32> {
    let made = exposures.iter().filter_map(|exposure| Some(exposure.renewal_lead? - exposure.days_to_end));
    let mut made: Vec<i32> = made.filter(|ago| *ago <= 365).collect();
    made.sort_unstable();
    let Some(newest) = made.get(MAX_NEWEST.min(made.len()).saturating_sub(1)) else { return Vec::new() };
    // A few days alone would suggest that all orders are renewed as early as those of one day.
    let first = (*newest).max(MIN_DAYS);
    let (mut waiting, mut renewed) = ([0.0; LEAD_DAYS], [0.0; LEAD_DAYS]);
    for exposure in exposures {
        let earliest = exposure.longest_lead.min(exposure.days_to_end + first).min(MAX_LEAD_DAYS);
        // Today is not over, so an order that still waits says nothing about it. Nor does it about days on which it
        // could not be paid.
        let latest = exposure.renewal_lead.unwrap_or(exposure.days_to_end + 1).max(-MAX_DAYS_LATE);
        for lead in (latest..=earliest)
            .filter(|lead| exposure.renewal_lead == Some(*lead) || !short(exposure.order, lead - exposure.days_to_end))
        {
            waiting[lead_index(lead)] += 1.0;
        }
        if let Some(lead) = exposure.renewal_lead.filter(|lead| (latest..=earliest).contains(lead)) {
            renewed[lead_index(lead)] += 1.0;
        }
    }
    let mut left = 1.0;
    let probabilities = waiting.iter().zip(&renewed).map(|(waiting, renewed): (&f64, &f64)| {
        let probability = left * renewed / (waiting + PRIOR_EXPOSURE);
        left -= probability;
        probability
    });
    quantiles(&probabilities.collect::<Vec<f64>>(), made.partition_point(|ago| *ago <= first).min(MAX_LEADS))
}

/// Returns the leads of a product: its own, filled up with those of all orders if they are few; `None` if it has
/// none.
fn blended_leads(own: Vec<i32>, pooled: &[i32]) -> Option<Vec<i32>> {
    if own.len() >= MIN_OWN_LEADS {
        return Some(own);
    }
    let others = MIN_OWN_LEADS.saturating_sub(OWN_LEAD_WEIGHT * own.len());
    let mut leads: Vec<i32> = own.iter().flat_map(|lead| [*lead; OWN_LEAD_WEIGHT]).collect();
    leads.extend((0..others).filter_map(|index| pooled.get((2 * index + 1) * pooled.len() / (2 * others))));
    leads.sort_unstable();
    (!own.is_empty()).then_some(leads)
}

/// Returns up to `wanted` leads that are distributed by these probabilities, of which the first is that of the
/// longest lead.
fn quantiles(probabilities: &[f64], wanted: usize) -> Vec<i32> {
    let all = probabilities.iter().sum::<f64>();
    if all <= 0.0 {
        return Vec::new();
    }
    let mut leads = Vec::with_capacity(wanted);
    let mut so_far = 0.0;
    for (days, probability) in (0..).zip(probabilities) {
        so_far += probability;
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

    /// An order that was renewed `ago` days ago with this lead.
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
        // Three orders were renewed 60 days before their ends; thirty that are closer to their ends still wait.
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
    fn an_order_gets_a_lead_that_is_still_possible_or_none() {
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
            "there were no funds while the others waited"
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
}
