//! What lay ahead of a fund at moments of its past, as far as the books of today can tell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{BacktestFund, BacktestInput, PastBalances};
use crate::domain::Time;
use crate::domain::balance::Reading;
use crate::domain::history::AccountHistory;
use crate::domain::order::Order;
use crate::domain::rule::{Metric, Rule};
use crate::forecast::{FundForecast, Purchases};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// Looks ahead for one rule go through at most so many lines of the ledger together.
const MAX_LINES_READ: usize = 40_000_000;
/// Drawing the futures costs as much as so many lines.
const SIMULATION_LINES: usize = 100_000;

/// The looks ahead of one fund: at which moments each rule's books would have been looked at, and what they said then.
///
/// A rule's looks depend on nothing but the rule and the ledger: what is told of it does not change with the rules beside it.
pub(super) struct PastForecasts<'a> {
    fund: &'a BacktestFund,
    past: &'a PastBalances,
    input: &'a BacktestInput<'a>,
    rules: Vec<ForecastRule<'a>>,
    /// When each order was renewed; orders of which that is not known are not in the books.
    orders: Vec<(Order, Option<Time>)>,
    /// The prospect of the last step.
    forecast: Option<Arc<FundForecast>>,
}

/// One rule that looks ahead.
struct ForecastRule<'a> {
    rule: &'a Rule,
    /// The moments at which its books are looked at, in order.
    read_times: Vec<Time>,
    /// The last look, and the reading that it gave.
    last_reading: Option<(Time, Reading)>,
}

impl ForecastRule<'_> {
    /// The last look at this step; `None` before the first one.
    fn last_read_time(&self, step: Time) -> Option<Time> {
        let place = self.read_times.partition_point(|time| *time <= step).checked_sub(1)?;
        Some(self.read_times[place])
    }
}

impl<'a> PastForecasts<'a> {
    /// `None` where none of these rules looks ahead.
    pub(super) fn new(
        fund: &'a BacktestFund,
        past: &'a PastBalances,
        input: &'a BacktestInput<'a>,
        rules: Vec<&'a Rule>,
    ) -> Option<Self> {
        let forecast_rule =
            |rule: &'a Rule| ForecastRule { rule, read_times: read_times(past, input, rule), last_reading: None };
        let rules: Vec<ForecastRule> =
            rules.into_iter().filter(|rule| rule.metric.needs_history()).map(forecast_rule).collect();
        if rules.is_empty() {
            return None;
        }
        Some(Self { fund, past, input, rules, orders: orders(fund, input), forecast: None })
    }

    /// The moments at which the books are looked at.
    pub(super) fn read_times(&self) -> impl Iterator<Item = &Time> {
        self.rules.iter().flat_map(|rule| &rule.read_times)
    }

    /// What was known at this step: each rule's reading is of its last look before it, which the first step always has.
    pub(super) fn at(&mut self, step: Time) -> Option<Arc<FundForecast>> {
        let mut due: BTreeMap<Time, Vec<usize>> = BTreeMap::new();
        for (place, rule) in self.rules.iter().enumerate() {
            let time = rule.last_read_time(step)?;
            if rule.last_reading.as_ref().is_none_or(|(read_at, _)| *read_at != time) {
                due.entry(time).or_default().push(place);
            }
        }
        for (time, places) in due {
            let forecast = self.forecast_at(time, &places);
            for place in places {
                let rule = &mut self.rules[place];
                rule.last_reading = Some((time, forecast.reading(rule.rule)));
            }
            self.forecast = Some(Arc::new(forecast.with_readings(self.readings())));
        }
        self.forecast.clone()
    }

    /// What the books said at a moment, to the rules at these places.
    fn forecast_at(&self, time: Time, places: &[usize]) -> FundForecast {
        // Only a runway takes the futures.
        let rules = places.iter().map(|place| self.rules[*place].rule);
        let simulated_rules = rules.filter(|rule| rule.metric == Metric::Runway);
        FundForecast::new(&self.past.balance(time), self.history_at(time), self.input.spending, simulated_rules, time)
    }

    fn readings(&self) -> impl Iterator<Item = (&'a Rule, Reading)> {
        self.rules.iter().filter_map(|rule| Some((rule.rule, rule.last_reading.as_ref()?.1.clone())))
    }

    /// The books as they were at the look, and as if they had been read then.
    fn history_at(&self, time: Time) -> AccountHistory {
        let today = time.date_naive();
        let then = |(order, renewed): &(Order, Option<Time>)| Order {
            renewed: renewed.is_some_and(|renewed| renewed <= time),
            expired: order.expired && order.ends().is_some_and(|end| end < today),
            ..order.clone()
        };
        let placed = |(order, _): &&(Order, Option<Time>)| order.placed.is_none_or(|placed| placed <= today);
        let orders = || self.orders.iter().filter(placed).map(then).collect();
        AccountHistory {
            ledger: self.fund.history.ledger.as_ref().map(|ledger| Arc::new(ledger.as_of(time))).map_err(Clone::clone),
            ledger_read: Some(time),
            orders: self.fund.history.orders.as_ref().map(|_| orders()).map_err(Clone::clone),
            orders_read: Some(time),
            order_ends_failure: self.fund.history.order_ends_failure.clone(),
        }
    }
}

/// The orders with the moment of their renewal. An order that was renewed at an unknown time is left out. One of which only
/// its details could tell when it ends, ends when what it was bought for is over.
fn orders(fund: &BacktestFund, input: &BacktestInput<'_>) -> Vec<(Order, Option<Time>)> {
    let (Ok(ledger), Ok(orders)) = (&fund.history.ledger, &fund.history.orders) else { return Vec::new() };
    let renewals = Purchases::read(ledger, Some(orders), input.spending, input.to).renewed_at();
    let whole = |order: &Order| Order { order_ends: order.probably_ends(), ..order.clone() };
    let known = orders.iter().map(|order| (whole(order), renewals.get(&order.id).copied()));
    known.filter(|(order, renewed)| !order.renewed || renewed.is_some()).collect()
}

/// The first step; each UTC day; and each full hour after a change of the ledger, or of the rule's window of `spend`. Where
/// these are too many to be looked at in seconds, the days alone.
fn read_times(past: &PastBalances, input: &BacktestInput<'_>, rule: &Rule) -> Vec<Time> {
    let (from, to) = (input.from, input.to);
    let grid = |every: i64, at: Time| Time::from_timestamp((at.timestamp() + every - 1).div_euclid(every) * every, 0);
    let mut times = BTreeSet::from([from]);
    let mut day = grid(DAY, from);
    while let Some(at) = day.filter(|at| *at <= to) {
        times.insert(at);
        day = Time::from_timestamp(at.timestamp() + DAY, 0);
    }
    let days = times.clone();
    let window = rule.within().filter(|_| rule.metric == Metric::Spend);
    let window = window.and_then(|within| chrono::Duration::from_std(within).ok());
    for delay in std::iter::once(chrono::Duration::zero()).chain(window) {
        let changes = past.changes(from - delay, to - delay).iter();
        times.extend(changes.filter_map(|at| grid(HOUR, *at + delay)).filter(|at| *at > from && *at <= to));
    }
    let simulation = if rule.metric == Metric::Runway { SIMULATION_LINES } else { 0 };
    let each = simulation + past.changes(Time::MIN_UTC, to).len();
    let affordable = times.len().saturating_mul(each) <= MAX_LINES_READ;
    (if affordable { times } else { days }).into_iter().collect()
}
