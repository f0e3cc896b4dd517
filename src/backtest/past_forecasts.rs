//! Forecasts of a fund at moments of its past, as far as today's ledger and orders allow.

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
/// The largest number of ledger entries that all forecasts for one rule may process together.
const MAX_LINES_READ: usize = 40_000_000;
/// Cost of one simulation, in ledger entries.
const SIMULATION_LINES: usize = 100_000;

/// Past forecasts of one fund, at the times at which each rule would have read its ledger and orders.
///
/// The read times of a rule depend only on the rule and the ledger, so its result does not change with the other rules.
pub(super) struct PastForecasts<'a> {
    fund: &'a BacktestFund,
    past: &'a PastBalances,
    input: &'a BacktestInput<'a>,
    rules: Vec<ForecastRule<'a>>,
    /// Orders with the time of their renewal. Orders that were renewed at an unknown time are left out.
    orders: Vec<(Order, Option<Time>)>,
    /// Forecast at the last step.
    forecast: Option<Arc<FundForecast>>,
}

/// A rule that evaluates a forecast.
struct ForecastRule<'a> {
    rule: &'a Rule,
    /// Times at which its history is read, in order.
    read_times: Vec<Time>,
    /// Last read time and the reading at that time.
    last_reading: Option<(Time, Reading)>,
}

impl ForecastRule<'_> {
    /// Returns the last read time at this step; `None` before the first one.
    fn last_read_time(&self, step: Time) -> Option<Time> {
        let last = self.read_times.partition_point(|time| *time <= step).checked_sub(1)?;
        Some(self.read_times[last])
    }
}

impl<'a> PastForecasts<'a> {
    /// Returns `None` if none of these rules evaluates a forecast.
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

    /// Returns the read times of all rules.
    pub(super) fn read_times(&self) -> impl Iterator<Item = &Time> {
        self.rules.iter().flat_map(|rule| &rule.read_times)
    }

    /// Returns the forecast at this step. Each rule's reading is that of its last read time; the first step is one for all rules.
    pub(super) fn at(&mut self, step: Time) -> Option<Arc<FundForecast>> {
        let mut due: BTreeMap<Time, Vec<usize>> = BTreeMap::new();
        for (index, rule) in self.rules.iter().enumerate() {
            let time = rule.last_read_time(step)?;
            if rule.last_reading.as_ref().is_none_or(|(read_at, _)| *read_at != time) {
                due.entry(time).or_default().push(index);
            }
        }
        for (time, indices) in due {
            let forecast = self.forecast_at(time, &indices);
            for index in indices {
                let rule = &mut self.rules[index];
                rule.last_reading = Some((time, forecast.reading(rule.rule)));
            }
            self.forecast = Some(Arc::new(forecast.with_readings(self.readings())));
        }
        self.forecast.clone()
    }

    /// Computes the forecast at a time for the rules at these indices.
    fn forecast_at(&self, time: Time, indices: &[usize]) -> FundForecast {
        // Only a runway needs a simulation.
        let rules = indices.iter().map(|index| self.rules[*index].rule);
        let simulated_rules = rules.filter(|rule| rule.metric == Metric::Runway);
        FundForecast::new(&self.past.balance(time), self.history_at(time), self.input.spending, simulated_rules, time)
    }

    fn readings(&self) -> impl Iterator<Item = (&'a Rule, Reading)> {
        self.rules.iter().filter_map(|rule| Some((rule.rule, rule.last_reading.as_ref()?.1.clone())))
    }

    /// Returns ledger and orders as they were at that time, as if they had been read then.
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

/// Returns the orders with the time of their renewal. An order that was renewed at an unknown time is left out. An order without
/// an end date ends at its probable end.
fn orders(fund: &BacktestFund, input: &BacktestInput<'_>) -> Vec<(Order, Option<Time>)> {
    let (Ok(ledger), Ok(orders)) = (&fund.history.ledger, &fund.history.orders) else { return Vec::new() };
    let renewals = Purchases::read(ledger, Some(orders), input.spending, input.to).renewed_at();
    let whole = |order: &Order| Order { order_ends: order.probably_ends(), ..order.clone() };
    let known = orders.iter().map(|order| (whole(order), renewals.get(&order.id).copied()));
    known.filter(|(order, renewed)| !order.renewed || renewed.is_some()).collect()
}

/// Returns the times at which a rule reads its history: the first step, each UTC midnight, and the next full hour after each
/// change of the ledger or of the rule's `spend` window. If all of these would take too long, the days alone.
fn read_times(past: &PastBalances, input: &BacktestInput<'_>, rule: &Rule) -> Vec<Time> {
    let (from, to) = (input.from, input.to);
    let round_up =
        |every: i64, at: Time| Time::from_timestamp((at.timestamp() + every - 1).div_euclid(every) * every, 0);
    let mut times = BTreeSet::from([from]);
    let mut day = round_up(DAY, from);
    while let Some(at) = day.filter(|at| *at <= to) {
        times.insert(at);
        day = Time::from_timestamp(at.timestamp() + DAY, 0);
    }
    let days = times.clone();
    let window = rule.within().filter(|_| rule.metric == Metric::Spend);
    let window = window.and_then(|within| chrono::Duration::from_std(within).ok());
    for delay in std::iter::once(chrono::Duration::zero()).chain(window) {
        let changes = past.changes(from - delay, to - delay).iter();
        times.extend(changes.filter_map(|at| round_up(HOUR, *at + delay)).filter(|at| *at > from && *at <= to));
    }
    let simulation = if rule.metric == Metric::Runway { SIMULATION_LINES } else { 0 };
    let cost_of_each = simulation + past.changes(Time::MIN_UTC, to).len();
    let affordable = times.len().saturating_mul(cost_of_each) <= MAX_LINES_READ;
    (if affordable { times } else { days }).into_iter().collect()
}
