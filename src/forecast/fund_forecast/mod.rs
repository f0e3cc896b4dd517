//! What is known ahead of one fund at one reading: the readings of the metrics that look ahead, and what messages say.
//!
//! The futures are drawn once, for what the rules that watch the fund ask; then they are forgotten, and the answers stay.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use rust_decimal::Decimal;

use super::payments::PaymentShares;
use super::renewals::{must_be_renewed, renewed_since};
use super::{Confidence, PurchaseSums, Purchases, RenewalsSum, Simulation, Spending};
use super::{deposit, expiring, past_funds, renewals_due, shortfall, sparkline, spend};
use crate::alerting::evaluate::{Evaluation, NotEvaluated, evaluate};
use crate::alerting::transition::transition;
use crate::domain::Time;
use crate::domain::alert::Alert;
use crate::domain::balance::{Balance, Persistence, Reading, Unreadable};
use crate::domain::forecast::{ForecastBand, ForecastSummary, FundChart, RenewalsDue, Runway};
use crate::domain::history::{AccountHistory, HistoryGap};
use crate::domain::ledger::Ledger;
use crate::domain::money::{Currency, Money};
use crate::domain::order::Order;
use crate::domain::rule::{Level, Metric, Rule, Severity, ThresholdSide, ThresholdValue};

/// A message says what has to be paid, and what to deposit, for so many days.
const MESSAGE_HORIZON_DAYS: u32 = 30;
/// The picture shows so many days that were, and so many to come.
const CHART_PAST_DAYS: u32 = 56;
const CHART_FUTURE_DAYS: u32 = 45;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// A ledger older than this does not say what was bought until now; it is read hourly.
const MAX_LEDGER_AGE: TimeDelta = TimeDelta::hours(2);

/// Whether a deposit ends this rule's alert.
fn is_resolved_by_deposit(rule: &Rule) -> bool {
    let bad = match rule.metric {
        Metric::AvailableFunds | Metric::Balance | Metric::Runway => ThresholdSide::Below,
        Metric::Shortfall => ThresholdSide::Above,
        _ => return false,
    };
    rule.levels().any(|level| level.side() == bad)
}

/// What is known ahead of one fund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FundForecast {
    now: Time,
    currency: Result<Currency, Unreadable>,
    funds: Reading,
    balance: Reading,
    history: AccountHistory,
    spending: Spending,
    simulation: Result<SimulationResults, Reading>,
    /// `None` where the ledger or the orders are not known, or nothing was drawn.
    purchases: Option<PurchaseAnalysis>,
    /// Ends every alert of this reading: of the rules that are breached, and those that [`FundForecast::with_alerts`] added.
    deposit: Option<RequiredDeposit>,
    /// Readings that were made before.
    overrides: Vec<(ReadingKey, Reading)>,
}

/// What a reading depends on, beside the books.
type ReadingKey = (Metric, Option<Duration>, Confidence);

fn reading_key(rule: &Rule) -> ReadingKey {
    (rule.metric, rule.within(), rule.confidence)
}

/// The amount to deposit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RequiredDeposit {
    amount: Decimal,
    /// The renewals that it pays for at their whole price, where only they make it so large.
    paid_in_full: Option<RenewalsSum>,
}

impl RequiredDeposit {
    /// The larger one; of two that are equal, the one that does not depend on who pays for renewals.
    fn max(self, other: Self) -> Self {
        let key = |it: &Self| (it.amount, it.paid_in_full.is_none());
        if key(&other) > key(&self) { other } else { self }
    }
}

/// What the past tells of purchases, each known for what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PurchaseAnalysis {
    past_year: PurchaseSums,
    payments: PaymentShares,
}

/// What the futures say together, for each confidence that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct SimulationResults {
    /// The usual cost of a purchase.
    typical_order: Decimal,
    runways: BTreeMap<Confidence, (Runway, Option<Duration>)>,
    bands: BTreeMap<Confidence, Vec<ForecastBand>>,
    /// The most that is spent in so many days.
    max_spend: BTreeMap<(Confidence, u32), Decimal>,
}

/// Whether a message about this rule's alert says what lies ahead.
pub fn shows_forecast(rule: &Rule) -> bool {
    rule.metric.needs_history() || matches!(rule.metric, Metric::AvailableFunds | Metric::Balance)
}

impl FundForecast {
    /// Draws what these books and this balance say at `now`, for these rules. Those that are breached count as alerts that the
    /// deposit has to end.
    pub fn new<'r>(
        balance: &Balance,
        history: AccountHistory,
        spending: &Spending,
        rules: impl IntoIterator<Item = &'r Rule>,
        now: Time,
    ) -> Self {
        let rules: Vec<&Rule> = rules.into_iter().collect();
        let (funds, of_balance) = (balance.reading(Metric::AvailableFunds), balance.reading(Metric::Balance));
        let currency = balance
            .currency
            .clone()
            .map_err(|problem| Unreadable { persistence: Persistence::Transient, reason: problem.to_string() });
        let history = mark_renewed(history, spending);
        let (spending, simulation) = (spending.clone(), Err(Reading::Unlimited));
        let mut forecast = Self {
            now,
            currency,
            funds,
            balance: of_balance,
            history,
            spending,
            simulation,
            purchases: None,
            deposit: None,
            overrides: Vec::new(),
        };
        (forecast.simulation, forecast.purchases) = forecast.simulate(&rules);
        let breached = rules.iter().filter(|rule| forecast.is_breached(rule));
        forecast.deposit = breached.filter_map(|rule| forecast.deposit(rule)).reduce(RequiredDeposit::max);
        forecast
    }

    /// The purchases of the past year by what they bought; `None` where they cannot be told apart, or nothing was drawn.
    pub fn past_year(&self) -> Option<&PurchaseSums> {
        self.purchases.as_ref().map(|learnt| &learnt.past_year)
    }

    fn is_breached(&self, rule: &Rule) -> bool {
        self.evaluated(rule).is_ok_and(|verdict| verdict.breached().is_some())
    }

    fn evaluated(&self, rule: &Rule) -> Result<Evaluation, NotEvaluated> {
        match rule.metric {
            Metric::AvailableFunds => evaluate(rule, &self.funds),
            Metric::Balance => evaluate(rule, &self.balance),
            _ => evaluate(rule, &self.reading(rule)),
        }
    }

    /// Adds alerts that fire, of the rules that this was drawn for, to those that the deposit ends: beyond its threshold, an
    /// alert goes on up to `clear_at`, and while it cannot be evaluated.
    #[must_use]
    pub fn with_alerts<'a>(self: Arc<Self>, alerts: impl IntoIterator<Item = (&'a Rule, Vec<&'a Alert>)>) -> Arc<Self> {
        let keeps_firing = |rule: &Rule, alerts: Vec<&Alert>| match self.evaluated(rule) {
            // Counted already.
            Ok(verdict) if verdict.breached().is_some() => false,
            Ok(verdict) => {
                alerts.iter().any(|alert| transition(alert, &verdict, |_| None, self.now).0.firing().is_some())
            }
            Err(_) => alerts.iter().any(|alert| alert.firing().is_some()),
        };
        let resolvable = alerts.into_iter().filter(|(rule, _)| is_resolved_by_deposit(rule));
        let going_on = resolvable.filter_map(|(rule, alerts)| keeps_firing(rule, alerts).then_some(rule));
        let deposits = going_on.filter_map(|rule| self.deposit(rule)).chain(self.deposit.clone());
        let deposit = deposits.reduce(RequiredDeposit::max);
        if deposit == self.deposit { self } else { Arc::new(Self { deposit, ..(*self).clone() }) }
    }

    /// Answers with these readings where one of these rules is asked about, whatever its own books say: for a replay, in
    /// which each rule has the reading of its own last look.
    #[must_use]
    pub fn with_readings<'r>(self, readings: impl IntoIterator<Item = (&'r Rule, Reading)>) -> Self {
        Self { overrides: readings.into_iter().map(|(rule, reading)| (reading_key(rule), reading)).collect(), ..self }
    }

    /// The reading of a metric that looks ahead; of the others, what the balance says of the funds is not asked here.
    pub fn reading(&self, rule: &Rule) -> Reading {
        if let Some((_, reading)) = self.overrides.iter().find(|(known, _)| *known == reading_key(rule)) {
            return reading.clone();
        }
        let found = match rule.metric {
            Metric::Runway => return self.runway(rule.confidence),
            Metric::Shortfall if self.funds == Reading::Unlimited => Ok(Decimal::ZERO),
            Metric::Shortfall => self.shortfall(rule),
            Metric::Spend => self.fresh_ledger().map(|it| spend(it, &self.spending, self.now, within(rule))),
            Metric::ExpiringFunds => self.ledger().map(|it| expiring(it, &self.spending, self.now, within(rule))),
            Metric::RenewalsDue => self.renewals(within(rule)).map(|sum| sum.amount),
            Metric::AvailableFunds | Metric::Balance | Metric::UnpaidInvoices | Metric::UsedCredit => {
                return Reading::NotYetKnown("this is read from the balance".to_owned());
            }
        };
        match (found, &self.currency) {
            (Ok(amount), Ok(currency)) => Reading::Amount(Money::new(amount, *currency)),
            (Err(reading), _) => reading,
            (Ok(_), Err(why)) => Reading::Unreadable(why.clone()),
        }
    }

    /// What a message about this rule's alert says of the days to come.
    pub fn summary(&self, rule: &Rule) -> Option<ForecastSummary> {
        if !shows_forecast(rule) {
            return None;
        }
        let runway = self.message_runway(rule.confidence)?;
        let money = |amount| Some(Money::new(amount, *self.currency.as_ref().ok()?));
        let due = |sum: RenewalsSum| {
            Some(RenewalsDue { count: sum.count, amount: money(sum.amount)?, from_balance: sum.from_balance })
        };
        // One number for all that is wrong with a fund: two would be added up, or the smaller one believed.
        let deposit = self.deposit(rule).into_iter().chain(self.deposit.clone()).reduce(RequiredDeposit::max);
        let deposit = deposit.filter(|_| is_resolved_by_deposit(rule));
        let spark = self.available().zip(self.ledger().ok()).map(|(funds, ledger)| sparkline(ledger, funds, self.now));
        let typical = self
            .simulation
            .as_ref()
            .ok()
            .map(|results| results.typical_order)
            .filter(|typical| *typical > Decimal::ZERO);
        Some(ForecastSummary {
            typical_order: typical.filter(|_| runway == Runway::Exhausted).and_then(money),
            runway,
            deposit: deposit.as_ref().and_then(|deposit| money(deposit.amount)),
            paid_in_full: deposit.and_then(|deposit| deposit.paid_in_full).and_then(due),
            renewals: self.renewals(DAY * MESSAGE_HORIZON_DAYS).ok().and_then(due),
            sparkline: spark.unwrap_or_default(),
        })
    }

    /// How long the funds last, as text and picture of a message tell it.
    fn message_runway(&self, confidence: Confidence) -> Option<Runway> {
        Some(match (&self.simulation, &self.funds) {
            (_, Reading::Unlimited) => Runway::BeyondHorizon,
            (_, Reading::Amount(money)) if money.amount <= Decimal::ZERO => Runway::Exhausted,
            (Ok(results), _) => results.runways.get(&confidence)?.0.clone(),
            (Err(Reading::NotYetKnown(why) | Reading::NotYetRead(why)), _) => Runway::NotYetKnown(why.clone()),
            (Err(Reading::Unreadable(_)), _) => {
                Runway::NotYetKnown("the account's ledger or orders cannot be read".to_owned())
            }
            (Err(_), _) => return None,
        })
    }

    /// The picture for a message about this rule's alert; `None` where the ledger or the funds are not known.
    pub fn chart(&self, rule: &Rule) -> Option<FundChart> {
        let (funds, ledger) = self.available().zip(self.ledger().ok())?;
        if !shows_forecast(rule) {
            return None;
        }
        let lines = [Severity::Warning, Severity::Critical].into_iter().filter_map(|severity| {
            let level = rule.level(severity).filter(|_| rule.metric == Metric::AvailableFunds)?;
            let level = Some(level).filter(|level| self.compares_with(level))?;
            Some((severity, level.threshold().amount()?.value))
        });
        let bands = self.simulation.as_ref().ok().and_then(|results| results.bands.get(&rule.confidence));
        Some(FundChart {
            currency: *self.currency.as_ref().ok()?,
            now: self.now,
            past: past_funds(ledger, funds, self.now, CHART_PAST_DAYS),
            thresholds: lines.collect(),
            renewals: self.orders().map(|orders| self.renewals_by_day(orders)).unwrap_or_default(),
            runway: self.message_runway(rule.confidence)?,
            future: bands.cloned().unwrap_or_default(),
            percent: rule.confidence.percent(),
        })
    }

    fn runway(&self, confidence: Confidence) -> Reading {
        match (&self.funds, &self.simulation) {
            (Reading::Unlimited, _) => Reading::Unlimited,
            (Reading::Unreadable(why), _) => Reading::Unreadable(why.clone()),
            (Reading::Amount(money), _) if money.amount <= Decimal::ZERO => Reading::Time(Duration::ZERO),
            (_, Err(reading)) => reading.clone(),
            (_, Ok(results)) => match results.runways.get(&confidence) {
                Some((_, Some(lasts))) => Reading::Time(*lasts),
                Some((_, None)) => Reading::Unlimited,
                None => Reading::NotYetKnown("the forecast was made for other rules".to_owned()),
            },
        }
    }

    fn shortfall(&self, rule: &Rule) -> Result<Decimal, Reading> {
        let Some(available) = self.available() else { return Err(self.funds.clone()) };
        Ok(shortfall(&self.renewals(within(rule))?, available))
    }

    fn available(&self) -> Option<Decimal> {
        match &self.funds {
            Reading::Amount(money) => Some(money.amount),
            _ => None,
        }
    }

    /// The ledger, if every amount in it is in the currency of the balance.
    fn ledger(&self) -> Result<&Ledger, Reading> {
        let ledger = self.history.ledger.as_deref().map_err(|gap| gap_reading(gap, "ledger"))?;
        let Ok(currency) = &self.currency else { return Ok(ledger) };
        let other = ledger.entries().iter().find_map(|entry| entry.currency.filter(|it| it != currency));
        match other {
            None => Ok(ledger),
            Some(other) => Err(Reading::Unreadable(Unreadable {
                persistence: Persistence::Permanent,
                reason: format!(
                    "the ledger has amounts in {other}, but the balance is in {currency}: no forecast can add them up; \
                     leave this account out of the rules that look ahead (`accounts` of the rule)"
                ),
            })),
        }
    }

    /// The ledger, if it is young enough to say what was bought until now: in an old one the newest purchases are missing,
    /// and an alert about them would seem over.
    fn fresh_ledger(&self) -> Result<&Ledger, Reading> {
        let stale = self.history.ledger_read.filter(|read| self.now - *read > MAX_LEDGER_AGE);
        match stale {
            None => self.ledger(),
            Some(read) => Err(Reading::Unreadable(Unreadable {
                persistence: Persistence::Transient,
                reason: format!(
                    "the ledger was last read {}: what was bought since is not known",
                    read.format("%Y-%m-%d %H:%M UTC")
                ),
            })),
        }
    }

    fn orders(&self) -> Result<&[Order], Reading> {
        self.history.orders.as_deref().map_err(|gap| gap_reading(gap, "list of orders"))
    }

    fn renewals(&self, within: Duration) -> Result<RenewalsSum, Reading> {
        let share = |place| self.purchases.as_ref()?.payments.share_from_balance(place);
        let sum = renewals_due(self.orders()?, self.now, within, share);
        if sum.unknown_ends.is_empty() {
            return Ok(sum);
        }
        // Whoever reads the orders has asked for these, too: it failed.
        let many = sum.unknown_ends.len();
        let what = format!("{many} orders may end in these days, but the details that say when could not be read");
        Err(Reading::Unreadable(match &self.history.order_ends_failure {
            Some(why) => Unreadable { persistence: why.persistence, reason: format!("{what}: {}", why.reason) },
            None => Unreadable { persistence: Persistence::Transient, reason: what },
        }))
    }

    fn renewals_by_day(&self, orders: &[Order]) -> Vec<(Time, Decimal)> {
        let mut days: BTreeMap<Time, Decimal> = BTreeMap::new();
        let (today, last) = (self.now.date_naive(), (self.now + DAY * CHART_FUTURE_DAYS).date_naive());
        for order in orders.iter().filter(|order| must_be_renewed(order, today)) {
            let day = order.ends().filter(|day| (today..=last).contains(day));
            if let Some(at) = day.and_then(|day| day.and_hms_opt(12, 0, 0)) {
                *days.entry(at.and_utc().max(self.now)).or_default() += order.price;
            }
        }
        days.into_iter().collect()
    }

    /// The one number that finance needs: what resolves the alert for good, and pays for the next 30 days. A rule that does
    /// not measure funds has none.
    fn deposit(&self, rule: &Rule) -> Option<RequiredDeposit> {
        let (available, results) = (self.available()?, self.simulation.as_ref().ok()?);
        let level = last_to_clear(rule, |level| self.compares_with(level))?;
        let safe =
            level.clear_at().amount().filter(|_| level.side() == ThresholdSide::Below).map(|amount| amount.value);
        let keep = match rule.metric {
            Metric::AvailableFunds => safe?,
            // The balance is that much less (or more) than what is available.
            Metric::Balance => match &self.balance {
                Reading::Amount(balance) => safe?.checked_add(available.checked_sub(balance.amount)?)?,
                _ => return None,
            },
            Metric::Runway | Metric::Shortfall => Decimal::ZERO,
            _ => return None,
        };
        let spent = *results.max_spend.get(&(rule.confidence, deposit_days(rule)))?;
        let regular = deposit(keep, available, spent).map(|amount| RequiredDeposit { amount, paid_in_full: None });
        let in_full = self.deposit_in_full(rule, available).filter(|_| rule.metric == Metric::Shortfall);
        regular.into_iter().chain(in_full).reduce(RequiredDeposit::max)
    }

    /// A shortfall counts renewals at their whole price, also what is usually paid from elsewhere.
    fn deposit_in_full(&self, rule: &Rule, available: Decimal) -> Option<RequiredDeposit> {
        let renewals = self.renewals(within(rule)).ok()?;
        let amount = shortfall(&renewals, available).ceil();
        (amount > Decimal::ZERO).then_some(RequiredDeposit { amount, paid_in_full: Some(renewals) })
    }

    /// Whether a level's amounts are in the currency of the funds.
    fn compares_with(&self, level: &Level) -> bool {
        self.currency.as_ref().is_ok_and(|currency| level.compares_with(*currency))
    }

    /// Everything that the rules, and the messages about their alerts, want to know of the futures, and what was learnt for
    /// it.
    fn simulate(&self, rules: &[&Rule]) -> (Result<SimulationResults, Reading>, Option<PurchaseAnalysis>) {
        let rules: Vec<&Rule> = rules.iter().copied().filter(|rule| shows_forecast(rule)).collect();
        if rules.is_empty() {
            return (Ok(SimulationResults::default()), None);
        }
        let orders = self.orders().ok();
        let purchases = self.ledger().map(|ledger| Purchases::read(ledger, orders, &self.spending, self.now));
        let known = purchases.as_ref().ok().filter(|_| orders.is_some());
        let purchase_analysis =
            known.map(|it| PurchaseAnalysis { past_year: it.past_year(), payments: PaymentShares::read(it) });
        (self.simulation_results(&rules, purchases), purchase_analysis)
    }

    fn simulation_results(
        &self,
        rules: &[&Rule],
        purchases: Result<Purchases<'_>, Reading>,
    ) -> Result<SimulationResults, Reading> {
        let Some(available) = self.available() else { return Err(self.funds.clone()) };
        // Without the known renewals funds would seem to last longer than they do. Only where somebody has to act before
        // the orders can be read is that better than nothing.
        match self.orders() {
            Ok(_) => {}
            Err(Reading::Unreadable(why)) if why.persistence == Persistence::Permanent => {}
            Err(reading) => return Err(reading),
        }
        let purchases = purchases?;
        let simulation =
            Simulation::from_purchases(&purchases, available).map_err(|why| Reading::NotYetKnown(why.to_string()))?;
        let mut results = SimulationResults { typical_order: purchases.typical_cost(), ..SimulationResults::default() };
        for rule in rules {
            let (confidence, days) = (rule.confidence, deposit_days(rule));
            let runway = || (simulation.runway(confidence), simulation.runway_early(confidence));
            results.runways.entry(confidence).or_insert_with(runway);
            results.bands.entry(confidence).or_insert_with(|| simulation.bands(CHART_FUTURE_DAYS, confidence));
            results.max_spend.entry((confidence, days)).or_insert_with(|| simulation.max_spend(days, confidence));
        }
        Ok(results)
    }
}

/// The books, with what the ledger knows already and the older listing of orders does not.
fn mark_renewed(mut history: AccountHistory, spending: &Spending) -> AccountHistory {
    if let (Ok(orders), Ok(ledger), Some(listed)) = (&history.orders, &history.ledger, history.orders_read) {
        let renewed = renewed_since(orders, ledger, spending, listed);
        if !renewed.is_empty() {
            let updated =
                |order: &Order| Order { renewed: order.renewed || renewed.contains(&order.id), ..order.clone() };
            history.orders = Ok(orders.iter().map(updated).collect());
        }
    }
    history
}

/// The level that clears last, of those that count.
fn last_to_clear(rule: &Rule, counts: impl Fn(&Level) -> bool) -> Option<&Level> {
    rule.levels().find(|level| counts(level))
}

/// How many days the deposit for an alert of this rule has to last.
fn deposit_days(rule: &Rule) -> u32 {
    let lasts = match (rule.metric, last_to_clear(rule, |_| true).map(Level::clear_at)) {
        (Metric::Runway, Some(ThresholdValue::Time { lasts })) => lasts,
        _ => rule.within().filter(|_| rule.metric == Metric::Shortfall).unwrap_or_default(),
    };
    u32::try_from(lasts.as_secs().div_ceil(DAY.as_secs())).unwrap_or(u32::MAX).max(MESSAGE_HORIZON_DAYS)
}

fn within(rule: &Rule) -> Duration {
    rule.within().unwrap_or_default()
}

fn gap_reading(gap: &HistoryGap, what: &str) -> Reading {
    match gap {
        HistoryGap::NotYetRead => Reading::NotYetRead(format!("the {what} is still being read")),
        HistoryGap::Unreadable(why) => Reading::Unreadable(why.clone()),
    }
}

#[cfg(test)]
mod tests;
