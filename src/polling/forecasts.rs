//! Adds forecasts to the readings of a cycle, for rules on a forecast and for messages.
//!
//! Ledger and orders come from the [`HistoryCache`](crate::history::HistoryCache), which a background task fills. A cycle waits
//! for it briefly: once when history is first needed, and later if a message needs it. Balances are read on time in any case.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use rust_decimal::Decimal;

use crate::alerting::decide::BalanceDecisions;
use crate::alerting::policy::AccountPolicy;
use crate::alerting::readings::{AccountReadings, DivisionReading};
use crate::domain::alert::{Alert, AlertKey};
use crate::domain::balance::{Balance, Reading};
use crate::domain::history::AccountHistory;
use crate::domain::money::plain;
use crate::domain::rule::{Metric, Rule, ThresholdSide};
use crate::domain::{Division, Time};
use crate::forecast::{FundForecast, PurchaseSums, Spending};
use crate::polling::funds::{FundIndices, division_ids, funds, watched_funds};
use crate::polling::history_access::HistoryAccess;
use crate::polling::poller::{Poller, PollerState};
use crate::state::StateStore;

/// The longest wait of a cycle for history that is being read.
const CYCLE_HISTORY_TIMEOUT: Duration = Duration::from_secs(3);

/// The longest wait of commands such as `check`.
const COMMAND_HISTORY_TIMEOUT: Duration = Duration::from_secs(120);

/// Number of forecasts that one cycle computes for messages alone. The other funds keep their cached forecasts.
const MAX_FORECASTS_PER_CYCLE: usize = 500;

/// The forecasts that a caller needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForecastPurpose {
    /// Forecasts for rules that evaluate one.
    Rules,
    /// Forecasts for rules, and for messages about low funds.
    Messages,
}

/// A forecast with its input. It is valid until any of the input changes.
pub(super) struct CachedForecast {
    input: ForecastInput,
    forecast: Arc<FundForecast>,
}

/// Input of a fund's forecast.
struct ForecastInput {
    balance: Balance,
    /// Histories of the fund's divisions.
    histories: Vec<AccountHistory>,
    rules: Arc<[Rule]>,
    spending: Spending,
    /// Hours since the Unix epoch.
    hour: i64,
}

impl ForecastInput {
    fn is_same(&self, other: &Self) -> bool {
        let same_histories = self.histories.len() == other.histories.len()
            && self.histories.iter().zip(&other.histories).all(|(one, other)| is_same_history(one, other));
        same_histories
            && self.hour == other.hour
            && self.balance == other.balance
            && self.spending == other.spending
            && Arc::ptr_eq(&self.rules, &other.rules)
    }
}

/// Computes forecasts for the funds of one cycle.
struct FundForecaster<'a> {
    policy: &'a AccountPolicy,
    history: &'a HistoryAccess,
    readings: &'a [DivisionReading],
    now: Time,
}

impl Poller {
    /// Adds the forecasts that rules and the messages of these decisions need.
    pub(super) async fn add_forecasts(
        &self,
        state: &mut PollerState,
        readings: &mut AccountReadings,
        decisions: &BalanceDecisions,
        store: &StateStore,
        now: Time,
    ) {
        let Some(history) = &self.history else { return };
        if readings.divisions.is_empty() {
            return; // The listing failed: the history that was needed before is still needed.
        }
        let (policy, divisions) = (&self.policy, &readings.divisions);
        let needed_before = std::mem::take(&mut state.history_needed);
        let funds = funds(divisions, |reading| match &reading.balance {
            Ok(balance) => needs_forecast(policy, reading, balance, ForecastPurpose::Messages),
            Err(_) => needed_before.contains(&reading.division),
        });
        let needed: BTreeSet<Division> = division_ids(divisions, &funds);
        history.cache.request_shared(&needed, &watched_funds(policy, divisions, &funds));
        let may_notify = |fund: &FundIndices| fund.iter().any(|index| decisions.may_notify(policy, *index));
        let notifying = division_ids(divisions, funds.iter().filter(|fund| may_notify(fund)));
        let is_first = !needed.is_empty() && !std::mem::replace(&mut state.history_awaited, true);
        let awaited = if is_first { &needed } else { &notifying };
        history.cache.wait_until_settled(awaited, CYCLE_HISTORY_TIMEOUT).await;
        state.forecasts.retain(|division, _| needed.contains(division));
        let forecaster = FundForecaster { policy, history, readings: divisions, now };
        let mut forecasts = Vec::new();
        let mut budget = MAX_FORECASTS_PER_CYCLE;
        for fund in &funds {
            let has_forecast_rule = fund.iter().any(|index| has_forecast_rule(policy, &divisions[*index]));
            if !has_forecast_rule && !may_notify(fund) {
                continue;
            }
            // A slightly old forecast in a message is better than none.
            let may_compute = has_forecast_rule || budget > 0;
            budget = budget.saturating_sub(usize::from(!has_forecast_rule));
            let forecast = forecaster.forecast(&mut state.forecasts, fund, may_compute).await;
            forecasts.push((fund, forecast.map(|forecast| forecaster.with_alerts(forecast, store, fund))));
        }
        for (fund, forecast) in forecasts {
            assign_forecast(&mut readings.divisions, fund, forecast.as_ref());
        }
        state.history_needed = needed;
    }

    /// Adds the forecasts that `purpose` needs, with history that is read now and not kept.
    pub(super) async fn add_forecasts_once(&self, readings: &mut AccountReadings, purpose: ForecastPurpose) {
        let Some(history) = &self.history else { return };
        let (policy, divisions) = (&self.policy, &readings.divisions);
        let funds = funds(divisions, |reading| {
            reading.balance.as_ref().is_ok_and(|balance| needs_forecast(policy, reading, balance, purpose))
        });
        let needed = division_ids(divisions, &funds);
        if needed.is_empty() {
            return;
        }
        history.cache.request_shared(&needed, &watched_funds(policy, divisions, &funds));
        tokio::select! {
            () = history.refresher(policy, &self.clock, None).run(CancellationToken::new()) => {}
            () = history.cache.wait_until_settled(&needed, COMMAND_HISTORY_TIMEOUT) => {}
        }
        let forecaster = FundForecaster { policy, history, readings: divisions, now: self.clock.now() };
        let mut forecasts = Vec::new();
        for fund in &funds {
            forecasts.push((fund, forecaster.forecast(&mut HashMap::new(), fund, true).await));
        }
        for (fund, forecast) in forecasts {
            assign_forecast(&mut readings.divisions, fund, forecast.as_ref());
        }
    }
}

impl FundForecaster<'_> {
    /// Returns the forecast of a fund: the cached one if its input is unchanged, else a new one. If `may_compute` is false,
    /// returns the cached one or nothing.
    async fn forecast(
        &self,
        cache: &mut HashMap<Division, CachedForecast>,
        fund: &FundIndices,
        may_compute: bool,
    ) -> Option<Arc<FundForecast>> {
        let first = self.readings.get(*fund.first()?)?;
        let balance = first.balance.as_ref().ok()?;
        let cached = cache.get(&first.division);
        if !may_compute {
            return cached.map(|cached| Arc::clone(&cached.forecast));
        }
        let divisions: Vec<Division> = fund.iter().map(|index| self.readings[*index].division).collect();
        let input = ForecastInput {
            balance: balance.clone(),
            histories: self.history.cache.fund_histories(&divisions),
            rules: Arc::clone(&self.policy.rules),
            spending: self.history.spending.clone(),
            hour: self.now.timestamp().div_euclid(3600),
        };
        if let Some(cached) = cached.filter(|cached| cached.input.is_same(&input)) {
            return Some(Arc::clone(&cached.forecast));
        }
        let forecast = Arc::new(self.compute(&input, &divisions).await?);
        let sums_before = cached.and_then(|cached| cached.forecast.past_year());
        if let Some(sums) = forecast.past_year().filter(|sums| sums_before != Some(sums)) {
            log_purchases(self.policy, &divisions, balance, sums);
        }
        cache.insert(first.division, CachedForecast { input, forecast: Arc::clone(&forecast) });
        Some(forecast)
    }

    /// Computes a forecast on a thread for blocking work. It takes milliseconds, sometimes much longer, and must not block the
    /// threads that read and send.
    async fn compute(&self, input: &ForecastInput, divisions: &[Division]) -> Option<FundForecast> {
        let is_watching = |rule: &&Rule| divisions.iter().any(|division| rule.watches(&self.policy.account, *division));
        let rules: Vec<Rule> = self.policy.rules.iter().filter(is_watching).cloned().collect();
        let (balance, spending, histories) = (input.balance.clone(), input.spending.clone(), input.histories.clone());
        let now = self.now;
        let computing = tokio::task::spawn_blocking(move || {
            FundForecast::new(&balance, AccountHistory::merge(&histories), &spending, &rules, now)
        });
        computing.await.ok()
    }

    /// Raises the deposit so that it also resolves alerts that keep firing beyond their thresholds.
    fn with_alerts(&self, forecast: Arc<FundForecast>, store: &StateStore, fund: &FundIndices) -> Arc<FundForecast> {
        store.read(|state| {
            let firing_alerts = |rule: &Rule| -> Vec<&Alert> {
                let watched = fund
                    .iter()
                    .map(|index| self.readings[*index].division)
                    .filter(|division| rule.watches(&self.policy.account, *division));
                let keys = watched.map(|division| AlertKey {
                    account: self.policy.account.clone(),
                    division,
                    rule: rule.name.clone(),
                });
                let alerts = keys.filter_map(|key| Some(&state.alerts.get(&key)?.alert));
                alerts.filter(|alert| alert.firing().is_some()).collect()
            };
            let alerts = self.policy.rules.iter().map(|rule| (rule, firing_alerts(rule)));
            forecast.with_alerts(alerts.filter(|(_, alerts)| !alerts.is_empty()))
        })
    }
}

fn assign_forecast(readings: &mut [DivisionReading], fund: &FundIndices, forecast: Option<&Arc<FundForecast>>) {
    for index in fund {
        readings[*index].forecast = forecast.cloned();
    }
}

/// Logs how the past year's purchases of a fund were classified.
fn log_purchases(policy: &AccountPolicy, divisions: &[Division], balance: &Balance, sums: &PurchaseSums) {
    let currency = balance.currency.as_ref().ok().copied();
    tracing::debug!(
        account = %policy.account,
        division = divisions.first().copied().flatten(),
        divisions = divisions.len(),
        currency = currency.map(tracing::field::display),
        renewals = sums.renewals.count,
        renewals_amount = plain(sums.renewals.amount, currency),
        new_orders = sums.new_orders.count,
        new_orders_amount = plain(sums.new_orders.amount, currency),
        other = sums.other.count,
        other_amount = plain(sums.other.amount, currency),
        refunded = sums.refunded,
        paid_elsewhere = sums.paid_elsewhere.count,
        paid_elsewhere_amount = plain(sums.paid_elsewhere.amount, currency),
        "purchases of the past year"
    );
}

/// Returns true if both come from the same reads. Compares pointers, not entries.
fn is_same_history(one: &AccountHistory, other: &AccountHistory) -> bool {
    let same_ledger = match (&one.ledger, &other.ledger) {
        (Ok(one), Ok(other)) => Arc::ptr_eq(one, other),
        (one, other) => one == other,
    };
    let same_orders = match (&one.orders, &other.orders) {
        (Ok(one), Ok(other)) => Arc::ptr_eq(one, other),
        (one, other) => one == other,
    };
    let read_times = |history: &AccountHistory| (history.ledger_read, history.orders_read);
    same_ledger
        && same_orders
        && read_times(one) == read_times(other)
        && one.order_ends_failure == other.order_ends_failure
}

fn has_forecast_rule(policy: &AccountPolicy, reading: &DivisionReading) -> bool {
    policy.rules_watching(reading.division).any(|rule| rule.metric.needs_history())
}

/// Returns true if a rule evaluates a forecast or, with [`ForecastPurpose::Messages`], if a message may soon need one.
fn needs_forecast(
    policy: &AccountPolicy,
    reading: &DivisionReading,
    balance: &Balance,
    purpose: ForecastPurpose,
) -> bool {
    policy.rules_watching(reading.division).any(|rule| {
        rule.metric.needs_history() || (purpose == ForecastPurpose::Messages && is_near_threshold(rule, balance))
    })
}

/// Returns true if funds are at most twice `clear_at`, so that their history has been read by the time they cross a threshold.
fn is_near_threshold(rule: &Rule, balance: &Balance) -> bool {
    if !matches!(rule.metric, Metric::AvailableFunds | Metric::Balance) {
        return false;
    }
    let Reading::Amount(money) = balance.reading(rule.metric) else { return false };
    rule.levels().filter(|level| level.side() == ThresholdSide::Below).any(|level| {
        let bound = level.clear_at().amount().map_or(Decimal::ZERO, |amount| amount.value);
        money.amount <= bound.max(Decimal::ZERO).checked_add(bound).unwrap_or(Decimal::MAX)
    })
}
