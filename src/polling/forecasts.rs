//! Looking ahead: whose books are wanted, and what they say beside a balance that was just read.
//!
//! Reads nothing itself: books come from the [`HistoryCache`], which is filled in the background. A cycle waits for it once, at its
//! first need and not for long; balances are read on time whatever becomes of the books.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use rust_decimal::Decimal;

use crate::alerting::evaluate::evaluate;
use crate::alerting::state::{AlertRecord, State};
use crate::certcentral::HistorySource;
use crate::domain::alert::{AlertKey, TransitionKind, transition};
use crate::domain::balance::{Balance, Reading};
use crate::domain::history::AccountHistory;
use crate::domain::money::plain;
use crate::domain::rule::{Metric, Rule, ThresholdSide};
use crate::domain::{Division, Time};
use crate::forecast::{FundForecast, PurchaseSums, Spending, shows_forecast};
use crate::history::{HistoryCache, Refresher, WatchedFunds};
use crate::polling::poller::{AccountPolicy, AccountReadings, DivisionReading, DivisionScope, PollerState};
use crate::state::StateStore;
use crate::util::clock::Clock;

/// How long a cycle waits for books that are just being read: the first one that wants them, and one that has something to
/// tell, so that the message says how long funds last.
const CYCLE_HISTORY_TIMEOUT: Duration = Duration::from_secs(3);
/// How long `check` waits for them.
const CHECK_HISTORY_TIMEOUT: Duration = Duration::from_secs(120);
/// How long `backtest` waits for them: every division's, and a ledger may be long.
const BACKTEST_HISTORY_TIMEOUT: Duration = Duration::from_secs(1800);
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// So many funds that only messages ask about are drawn anew in one cycle; the others keep what was drawn before.
const MAX_FORECASTS_PER_CYCLE: usize = 500;

/// An account's books, and how they are read.
pub struct HistoryAccess {
    /// Where they stand.
    pub cache: Arc<HistoryCache>,
    /// Where they come from.
    pub source: Arc<dyn HistorySource>,
    /// What counts as a purchase.
    pub spending: Spending,
}

/// What was drawn of a fund, and from what: it holds until one of them changes, or the hour.
pub(crate) struct CachedForecast {
    balance: Balance,
    /// Of each of its divisions.
    parts: Vec<AccountHistory>,
    rules: Arc<[Rule]>,
    spending: Spending,
    hour: i64,
    forecast: Arc<FundForecast>,
}

/// Whose prospects are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForecastPurpose {
    /// Rules that look ahead.
    Rules,
    /// Them, and the messages about low funds.
    Messages,
}

/// Looks ahead of everything that was read, for the service's cycles.
pub(crate) async fn add_forecasts(
    policy: &AccountPolicy,
    poller: &mut PollerState,
    readings: &mut AccountReadings,
    store: &StateStore,
    now: Time,
) {
    let Some(history) = &policy.history else { return };
    if readings.divisions.is_empty() {
        return; // nothing could be listed: what was wanted before is wanted still
    }
    let before = std::mem::take(&mut poller.history_needed);
    let needs = |reading: &DivisionReading| match &reading.balance {
        Ok(balance) => needs_forecast(policy, reading, balance, ForecastPurpose::Messages),
        Err(_) => before.contains(&reading.division),
    };
    let funds = funds(&readings.divisions, needs);
    let needed: BTreeSet<Division> = division_ids(&readings.divisions, &funds);
    history.cache.request_shared(&needed, &watched(policy, &readings.divisions, &funds));
    let notifying_funds: Vec<&FundIndices> = store.read(|state| {
        let may_notify_fund =
            |fund: &&FundIndices| fund.iter().any(|place| may_notify(state, policy, &readings.divisions[*place], now));
        funds.iter().filter(may_notify_fund).collect()
    });
    let notifying_divisions = division_ids(&readings.divisions, notifying_funds.iter().copied());
    let first = !needed.is_empty() && !std::mem::replace(&mut poller.history_awaited, true);
    history.cache.wait_until_settled(if first { &needed } else { &notifying_divisions }, CYCLE_HISTORY_TIMEOUT).await;
    poller.forecasts.retain(|division, _| needed.contains(division));
    let mut budget = MAX_FORECASTS_PER_CYCLE;
    for fund in &funds {
        let has_forecast_rule = fund
            .iter()
            .any(|place| rules_watching(policy, &readings.divisions[*place]).any(|it| it.metric.needs_history()));
        let is_notifying = fund.iter().any(|place| notifying_divisions.contains(&readings.divisions[*place].division));
        if has_forecast_rule || is_notifying {
            // A little old is better than nothing, in a message.
            let may_compute = has_forecast_rule || budget > 0;
            budget = budget.saturating_sub(usize::from(!has_forecast_rule));
            let forecast =
                forecast_fund(policy, history, &mut poller.forecasts, &readings.divisions, fund, now, may_compute)
                    .await;
            let forecast = forecast.map(|forecast| with_alerts(forecast, policy, store, &readings.divisions, fund));
            assign_forecast(&mut readings.divisions, fund, forecast.as_ref());
        }
    }
    poller.history_needed = needed;
}

/// The same once and for all, with the books read for it and kept nowhere: for `check` and `preview`.
pub(crate) async fn add_forecasts_once(
    policy: &AccountPolicy,
    readings: &mut AccountReadings,
    clock: &Arc<dyn Clock>,
    purpose: ForecastPurpose,
) {
    let Some(history) = &policy.history else { return };
    let needs = |reading: &DivisionReading| {
        reading.balance.as_ref().is_ok_and(|balance| needs_forecast(policy, reading, balance, purpose))
    };
    let funds = funds(&readings.divisions, needs);
    let needed = division_ids(&readings.divisions, &funds);
    if needed.is_empty() {
        return;
    }
    history.cache.request_shared(&needed, &watched(policy, &readings.divisions, &funds));
    tokio::select! {
        () = history.refresher(policy, clock, None).run(CancellationToken::new()) => {}
        () = history.cache.wait_until_settled(&needed, CHECK_HISTORY_TIMEOUT) => {}
    }
    for fund in &funds {
        let forecast =
            forecast_fund(policy, history, &mut HashMap::new(), &readings.divisions, fund, clock.now(), true).await;
        assign_forecast(&mut readings.divisions, fund, forecast.as_ref());
    }
}

/// The places of the reads that are one fund: one division, or several that report exactly the same figures.
type FundIndices = Vec<usize>;

/// The funds of which somebody wants any division's prospects. What one division of a shared fund spends, all of them have
/// spent: their books belong together.
fn funds(readings: &[DivisionReading], needs: impl Fn(&DivisionReading) -> bool) -> Vec<FundIndices> {
    let mut funds: Vec<FundIndices> = Vec::new();
    let mut fund_by_balance: HashMap<&Balance, usize> = HashMap::new();
    for (place, reading) in readings.iter().enumerate() {
        let shared = reading.balance.as_ref().ok().filter(|_| reading.division.is_some());
        match shared.and_then(|balance| fund_by_balance.get(balance)) {
            Some(fund) => funds[*fund].push(place),
            None => {
                fund_by_balance.extend(shared.map(|balance| (balance, funds.len())));
                funds.push(vec![place]);
            }
        }
    }
    funds.retain(|fund| fund.iter().any(|place| needs(&readings[*place])));
    funds
}

/// What is watched, for finding out who else shares these funds. Where every division is watched there is nobody else.
fn watched(policy: &AccountPolicy, readings: &[DivisionReading], funds: &[FundIndices]) -> WatchedFunds {
    let all = match &policy.scope {
        DivisionScope::Undivided => true,
        DivisionScope::All(excluded) => excluded.is_empty(),
        DivisionScope::Listed(_) => false,
    };
    if all {
        return WatchedFunds::default();
    }
    let ids = |fund: &FundIndices| fund.iter().filter_map(|place| readings[*place].division).collect();
    let readable = funds.iter().filter(|fund| fund.iter().any(|place| readings[*place].balance.is_ok()));
    WatchedFunds {
        funds: readable.map(ids).collect(),
        divisions: readings.iter().filter_map(|reading| reading.division).collect(),
    }
}

fn assign_forecast(readings: &mut [DivisionReading], fund: &FundIndices, forecast: Option<&Arc<FundForecast>>) {
    for place in fund {
        readings[*place].forecast = forecast.cloned();
    }
}

/// Makes the deposit of a fund end the alerts, too, that go on beyond their thresholds.
fn with_alerts(
    forecast: Arc<FundForecast>,
    policy: &AccountPolicy,
    store: &StateStore,
    readings: &[DivisionReading],
    fund: &FundIndices,
) -> Arc<FundForecast> {
    store.read(|state| {
        let firing = |rule: &Rule| -> Vec<_> {
            let watched =
                fund.iter().map(|place| &readings[*place]).filter(|it| rule.watches(&policy.account, it.division));
            let records = watched.filter_map(|reading| alert_record(state, policy, reading, rule));
            records.map(|record| &record.alert).filter(|alert| alert.firing().is_some()).collect()
        };
        let alerts = policy.rules.iter().map(|rule| (rule, firing(rule)));
        forecast.with_alerts(alerts.filter(|(_, alerts)| !alerts.is_empty()))
    })
}

fn alert_record<'s>(
    state: &'s State,
    policy: &AccountPolicy,
    reading: &DivisionReading,
    rule: &Rule,
) -> Option<&'s AlertRecord> {
    state.alerts.get(&AlertKey { account: policy.account.clone(), division: reading.division, rule: rule.name.clone() })
}

fn division_ids<'f>(
    readings: &[DivisionReading],
    funds: impl IntoIterator<Item = &'f FundIndices>,
) -> BTreeSet<Division> {
    funds.into_iter().flatten().map(|place| readings[*place].division).collect()
}

/// Reads the books of the funds of these reads, once and for `backtest`; kept nowhere. `may_notify_fund` hears, several times a second,
/// how many ledgers were read and how many lines they have together.
pub(crate) async fn read_history_once(
    policy: &AccountPolicy,
    readings: &[DivisionReading],
    needs: impl Fn(&DivisionReading) -> bool,
    clock: &Arc<dyn Clock>,
    on_progress: &mut (dyn FnMut(usize, usize) + Send),
) -> BTreeMap<Division, AccountHistory> {
    let Some(history) = &policy.history else { return BTreeMap::new() };
    let funds: Vec<FundIndices> = funds(readings, needs);
    let needed = division_ids(readings, &funds);
    history.cache.request_shared(&needed, &watched(policy, readings, &funds));
    let refresher = history.refresher(policy, clock, None).run(CancellationToken::new());
    tokio::pin!(refresher);
    let parts = |fund: &FundIndices| {
        let divisions: Vec<Division> = fund.iter().map(|place| readings[*place].division).collect();
        let parts = history.cache.fund_histories(&divisions);
        (divisions, parts)
    };
    for _ in 0..BACKTEST_HISTORY_TIMEOUT.as_millis() / PROGRESS_INTERVAL.as_millis() {
        let settled = tokio::select! {
            () = &mut refresher => true,
            settled = tokio::time::timeout(PROGRESS_INTERVAL, history.cache.wait_until_settled(&needed, BACKTEST_HISTORY_TIMEOUT)) => settled.is_ok(),
        };
        if settled {
            break;
        }
        let ledgers: Vec<_> = funds.iter().flat_map(|fund| parts(fund).1).map(|history| history.ledger).collect();
        let lines: Vec<usize> = ledgers.iter().flatten().map(|ledger| ledger.entries().len()).collect();
        on_progress(lines.len(), lines.iter().sum());
    }
    let together = |fund: &FundIndices| {
        let (divisions, parts) = parts(fund);
        let merged = AccountHistory::merge(&parts);
        divisions.into_iter().map(move |division| (division, merged.clone()))
    };
    funds.iter().flat_map(together).collect()
}

impl HistoryAccess {
    /// The task that fills the shelf for this watch.
    pub fn refresher(
        &self,
        policy: &AccountPolicy,
        clock: &Arc<dyn Clock>,
        cache: Option<crate::history::DiskCache>,
    ) -> Refresher {
        let windows = policy.rules.iter().filter_map(Rule::within).map(|within| within.as_secs().div_ceil(24 * 3600));
        let (source, history_cache) = (Arc::clone(&self.source), Arc::clone(&self.cache));
        let longest = windows.max().unwrap_or_default();
        Refresher::new(policy.account.clone(), source, history_cache, Arc::clone(clock), cache, longest)
    }
}

/// What lies ahead of a fund: as it was drawn before, if nothing has changed, else drawn anew where that may be.
async fn forecast_fund(
    policy: &AccountPolicy,
    history: &HistoryAccess,
    cached_forecasts: &mut HashMap<Division, CachedForecast>,
    readings: &[DivisionReading],
    fund: &FundIndices,
    now: Time,
    may_compute: bool,
) -> Option<Arc<FundForecast>> {
    let first = readings.get(*fund.first()?)?;
    let balance = first.balance.as_ref().ok()?.clone();
    let ids: Vec<Division> = fund.iter().map(|place| readings[*place].division).collect();
    let parts = history.cache.fund_histories(&ids);
    let hour = now.timestamp().div_euclid(3600);
    let cached = cached_forecasts.get(&first.division);
    let fits = |it: &&CachedForecast| {
        let same_histories =
            it.parts.len() == parts.len() && it.parts.iter().zip(&parts).all(|(one, other)| same_history(one, other));
        same_histories && it.hour == hour && it.balance == balance && Arc::ptr_eq(&it.rules, &policy.rules)
    };
    if let Some(cached) = cached.filter(|it| !may_compute || (fits(it) && it.spending == history.spending)) {
        return Some(Arc::clone(&cached.forecast));
    }
    if !may_compute {
        return None;
    }
    let watched = |rule: &&Rule| fund.iter().any(|place| rule.watches(&policy.account, readings[*place].division));
    let rules: Vec<Rule> = policy.rules.iter().filter(watched).cloned().collect();
    let (of, spending, histories) = (balance.clone(), history.spending.clone(), parts.clone());
    // Milliseconds, and now and then much more: not for the threads that read and send.
    let computing = tokio::task::spawn_blocking(move || {
        FundForecast::new(&of, AccountHistory::merge(&histories), &spending, &rules, now)
    });
    let forecast = Arc::new(computing.await.ok()?);
    let before = cached_forecasts.get(&first.division).and_then(|it| it.forecast.past_year());
    if let Some(sums) = forecast.past_year().filter(|sums| before != Some(sums)) {
        log_purchases(policy, &ids, &balance, sums);
    }
    let (rules, spending, cached_forecast) =
        (Arc::clone(&policy.rules), history.spending.clone(), Arc::clone(&forecast));
    cached_forecasts
        .insert(first.division, CachedForecast { balance, parts, rules, spending, hour, forecast: cached_forecast });
    Some(forecast)
}

/// How much of the past year's purchases was what, of the divisions that share a fund.
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

/// Whether two looks at the shelf found the very same reads.
fn same_history(one: &AccountHistory, other: &AccountHistory) -> bool {
    let ledgers = match (&one.ledger, &other.ledger) {
        (Ok(one), Ok(other)) => Arc::ptr_eq(one, other),
        (one, other) => one == other,
    };
    let orders = match (&one.orders, &other.orders) {
        (Ok(one), Ok(other)) => Arc::ptr_eq(one, other),
        (one, other) => one == other,
    };
    let when = |history: &AccountHistory| (history.ledger_read, history.orders_read);
    ledgers && orders && when(one) == when(other) && one.order_ends_failure == other.order_ends_failure
}

fn rules_watching<'w>(policy: &'w AccountPolicy, reading: &DivisionReading) -> impl Iterator<Item = &'w Rule> {
    let (account, division) = (&policy.account, reading.division);
    policy.rules.iter().filter(move |rule| rule.watches(account, division))
}

/// Whether a message about funds may come of this reading, so that what lies ahead is worth the drawing.
fn may_notify(state: &State, policy: &AccountPolicy, reading: &DivisionReading, now: Time) -> bool {
    rules_watching(policy, reading).filter(|rule| shows_forecast(rule) && !rule.metric.needs_history()).any(|rule| {
        let record = alert_record(state, policy, reading, rule);
        let before = record.map(|record| record.alert.clone()).unwrap_or_default();
        let Ok(evaluation) = evaluate(rule, &reading.reading(rule)) else { return false };
        let remind = |severity| rule.level(severity).and_then(|level| level.remind_every);
        let (_, transition) = transition(&before, &evaluation, remind, now);
        transition.is_some_and(|transition| transition.kind != TransitionKind::Resolved)
            || record.is_some_and(|record| record.suppressed.is_some())
    })
}

/// Whether somebody wants to know what lies ahead: a rule, or a message that is due or may soon be.
fn needs_forecast(
    policy: &AccountPolicy,
    reading: &DivisionReading,
    balance: &Balance,
    purpose: ForecastPurpose,
) -> bool {
    rules_watching(policy, reading).any(|rule| {
        rule.metric.needs_history() || (purpose == ForecastPurpose::Messages && is_near_threshold(rule, balance))
    })
}

/// Whether funds are within reach of a threshold: at most twice as much, so that the books are at hand when it is crossed.
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
