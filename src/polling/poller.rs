//! One cycle of one account, top to bottom: read → evaluate → transition → save. What it owes, the outbox delivers.
//!
//! [`run_cycle`] does the reading and saving; [`settle()`] is everything between, pure, and the one place where a reading
//! becomes an event. Nothing here knows a channel.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

pub use crate::polling::forecasts::{ForecastPurpose, HistoryAccess};

use crate::alerting::log_entry::AlertLogEntry;
use crate::alerting::process::process;
use crate::certcentral::{BalanceSource, ListedDivision, ReadError, ReadErrorKind};
use crate::domain::balance::{Balance, BalanceAnomaly, MetricValue, Persistence, Reading, Unreadable};
use crate::domain::history::AccountHistory;
use crate::domain::money::Money;
use crate::domain::report::{FundFigures, LatestFigures};
use crate::domain::rule::{Metric, Rule, UnreadablePolicy};
use crate::domain::silence::Silence;
use crate::domain::{Division, Name, Time};
use crate::forecast::FundForecast;
use crate::polling::pacing::RequestLoad;
use crate::polling::{forecasts, pacing};
use crate::state::StateStore;
use crate::util::clock::Clock;

/// How many divisions of an account are read side by side; the rate limit paces them further.
const MAX_CONCURRENT_READS: usize = 16;
/// A cycle ends when so many reads in a row have timed out: the API hangs, and to ask for the rest would take hours, with the
/// messages of the cycle behind it.
const MAX_CONSECUTIVE_TIMEOUTS: usize = MAX_CONCURRENT_READS;
/// How long a listing of divisions is good for.
const LISTING_MAX_AGE: Duration = Duration::from_secs(3600);

/// The longest wait for a listing that is wanted for its names only.
const NAMES_TIMEOUT: Duration = Duration::from_secs(3);

/// Which divisions a cycle reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DivisionScope {
    /// The account itself, without a container id.
    Undivided,
    /// Every active one that the account lists, but these.
    All(BTreeSet<u64>),
    /// These.
    Listed(Vec<u64>),
}

/// What one account's cycles need.
pub struct AccountPolicy {
    /// The account's name.
    pub account: Name,
    /// Where its balances come from.
    pub source: Arc<dyn BalanceSource>,
    /// Which of its divisions are read.
    pub scope: DivisionScope,
    /// Every rule; those that do not watch the account are passed over.
    pub rules: Arc<[Rule]>,
    /// The unreadable alert.
    pub unreadable: Arc<UnreadablePolicy>,
    /// Every silence of the configuration; those made by command are in the state.
    pub silences: Arc<[Silence]>,
    /// Notifiers that keep an incident open for each alert, until they are told of its end.
    pub incident_notifiers: Arc<BTreeSet<Name>>,
    /// Its books; `None`: nothing looks ahead.
    pub history: Option<Arc<HistoryAccess>>,
}

/// The two times of a cycle. They are minutes apart where a large account is read slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CycleTime {
    /// The time of the schedule that the cycle is for: what `for`, `remind_every` and silences are judged by, so that no
    /// reminder drifts.
    pub planned: Time,
    /// When everything was read: what events are stamped with, and what the outbox and the heartbeat count from.
    pub read_at: Time,
}

impl CycleTime {
    /// Of a cycle that was read by `now`. A clock that was set back meanwhile must not let an event come before its alert.
    pub fn new(planned: Time, now: Time) -> Self {
        Self { planned, read_at: now.max(planned) }
    }
}

/// A cycle that takes no time.
impl From<Time> for CycleTime {
    fn from(at: Time) -> Self {
        Self::new(at, at)
    }
}

/// What an account's cycles keep between them, in memory only.
#[derive(Default)]
pub struct PollerState {
    listing: Option<(Vec<ListedDivision>, Time)>,
    /// What is odd about a division, where anything is.
    logged_anomalies: BTreeMap<Division, &'static str>,
    shared_fund_logged: bool,
    /// Reads that failed in the running cycle.
    errors: Vec<ReadErrorKind>,
    /// The time from this cycle to the next; `None`: nothing comes next, so nothing is spread.
    period: Option<Duration>,
    progress: Arc<CycleProgress>,
    /// Where among the divisions the next cycle begins: one that ended early must not keep the others from being read for ever.
    next_index: usize,
    /// Whose books are wanted, whether they were waited for, and what was drawn from them.
    pub(crate) history_needed: BTreeSet<Division>,
    pub(crate) history_awaited: bool,
    pub(crate) forecasts: HashMap<Division, forecasts::CachedForecast>,
}

impl PollerState {
    /// The next cycle comes so long after this one: many readings are spread over a part of it.
    pub fn set_period(&mut self, period: Option<Duration>) {
        self.period = period;
    }

    /// How the account's cycles go on; it stays up to date.
    pub fn progress(&self) -> Arc<CycleProgress> {
        Arc::clone(&self.progress)
    }

    /// The active divisions of the last good listing.
    fn active_divisions(&self) -> Option<BTreeSet<u64>> {
        let (listed, _) = self.listing.as_ref()?;
        Some(listed.iter().map(|it| it.id).collect())
    }
}

/// How an account's cycles go on, for whoever has to tell a long one from one that hangs.
#[derive(Debug, Default)]
pub struct CycleProgress {
    needs_ms: AtomicU64,
    last_ms: AtomicI64,
}

impl CycleProgress {
    /// Notes how long a cycle needs under the rate limit, as far as is known.
    pub fn set_needed(&self, needs: Duration) {
        self.needs_ms.store(u64::try_from(needs.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long a cycle needs under the rate limit.
    pub fn needed_duration(&self) -> Duration {
        Duration::from_millis(self.needs_ms.load(Ordering::Relaxed))
    }

    /// Notes that a read has ended, well or not.
    pub fn record_read(&self, at: Time) {
        self.last_ms.store(at.timestamp_millis(), Ordering::Relaxed);
    }

    /// When a read last ended; long ago where none has.
    pub fn last_read(&self) -> Time {
        Time::from_timestamp_millis(self.last_ms.load(Ordering::Relaxed)).unwrap_or_default()
    }
}

/// One division as it was read.
#[derive(Debug, Clone)]
pub struct DivisionReading {
    /// Which.
    pub division: Division,
    /// Its name, where a listing told it.
    pub name: Option<String>,
    /// What came.
    pub balance: Result<Balance, Unreadable>,
    /// What lies ahead, where somebody wants to know.
    pub forecast: Option<Arc<FundForecast>>,
}

impl DivisionReading {
    /// What a rule sees of it.
    pub fn reading(&self, rule: &Rule) -> Reading {
        match (&self.balance, &self.forecast) {
            (Err(why), _) => Reading::Unreadable(why.clone()),
            (Ok(_), Some(forecast)) if rule.metric.needs_history() => forecast.reading(rule),
            (Ok(balance), _) => balance.reading(rule.metric),
        }
    }
}

/// Everything that one cycle read.
pub struct AccountReadings {
    /// The divisions that were read.
    pub divisions: Vec<DivisionReading>,
    /// Why the divisions could not be listed; `None`: they could, or need not be.
    pub listing_failure: Option<Unreadable>,
    /// Active divisions of a good listing, whether they are excluded or not; `None` where none is at hand.
    pub active: Option<BTreeSet<u64>>,
}

/// The figures of one division at its last reading, for `status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LastReading {
    /// The account's name.
    pub account: Name,
    /// The division.
    pub division: Division,
    /// Its name, where a listing told it.
    pub division_name: Option<String>,
    /// When it was read.
    pub at: Time,
    /// Each metric: an amount, `unlimited`, or `unreadable: …`.
    pub metrics: BTreeMap<String, String>,
    /// Each metric for machines; `None` where it is no amount.
    #[serde(default)]
    pub amounts: BTreeMap<String, Option<Money>>,
    /// When it could last be read.
    #[serde(default)]
    pub last_good: Option<Time>,
}

impl LastReading {
    /// Whether any of it could be read.
    pub fn is_readable(&self) -> bool {
        self.last_good == Some(self.at)
    }
}

/// One division at its last reading, as it is kept: what people and machines see of it is computed when they ask.
#[derive(Debug, Clone)]
pub struct TimedReading {
    /// What was read.
    pub reading: DivisionReading,
    /// When.
    pub at: Time,
    /// When it could last be read.
    pub last_good: Option<Time>,
}

impl TimedReading {
    /// Its figures.
    pub fn figures(&self, account: &Name) -> LastReading {
        LastReading { last_good: self.last_good, ..last_reading(account, &self.reading, self.at) }
    }
}

/// What one cycle did.
#[derive(Debug, Clone, Default)]
pub struct CycleOutcome {
    /// What it read.
    pub readings: Vec<TimedReading>,
    /// How many divisions could not be read.
    pub unreadable: usize,
    /// The names of the events that it made; those of the unreadable alert begin with `unreadable_`.
    pub events: Vec<String>,
    /// The reads that failed, by kind.
    pub errors: Vec<ReadErrorKind>,
    /// Whether everything that the rules look at could be read.
    pub complete: bool,
    /// What it read, for reports.
    pub latest: Vec<LatestFigures>,
    /// Why the divisions could not be listed, for reports.
    pub listing_failure: Option<String>,
    /// When everything was read.
    pub ended: Time,
}

/// Runs one cycle: reads everything once, judges it as of the `planned` time, and saves.
pub async fn run_cycle(
    policy: &AccountPolicy,
    poller: &mut PollerState,
    store: &StateStore,
    clock: &dyn Clock,
    planned: Time,
) -> CycleOutcome {
    let started = clock.now();
    poller.errors.clear();
    let mut readings = read_account(policy, poller, clock).await;
    let now = clock.now();
    forecasts::add_forecasts(policy, poller, &mut readings, store, planned).await;
    let time = CycleTime::new(planned, clock.now());
    let processed = store
        .change(|state| {
            let processed = process(state, policy, &readings, time);
            let changed = processed.changed;
            (processed, changed)
        })
        .await;
    let log_entries = processed.log_entries;
    for line in &log_entries {
        tracing::info!(account = %policy.account, event = line.kind, alert = %line.alert, severity = %line.level, "{}", line.text);
    }
    log_anomalies(policy, poller, &readings);
    let unreadable = readings.divisions.iter().filter(|reading| reading.balance.is_err()).count();
    let pending = store.read(|state| state.queue.len());
    let duration_ms = (clock.now() - started).num_milliseconds();
    tracing::info!(account = %policy.account, read = readings.divisions.len(), unreadable, events = log_entries.len(), pending, duration_ms, "cycle done");
    CycleOutcome {
        unreadable,
        events: log_entries.iter().map(AlertLogEntry::counted_as).collect(),
        errors: std::mem::take(&mut poller.errors),
        complete: processed.complete,
        latest: report_figures(&policy.account, &readings.divisions, now),
        listing_failure: readings.listing_failure.map(|why| why.reason),
        readings: readings.divisions.into_iter().map(|reading| timed_reading(reading, now)).collect(),
        ended: now,
    }
}

fn timed_reading(reading: DivisionReading, at: Time) -> TimedReading {
    let last_good = reading.balance.is_ok().then_some(at);
    TimedReading { reading, at, last_good }
}

/// The figures of a report, as they were read at `at`.
pub fn report_figures(account: &Name, readings: &[DivisionReading], at: Time) -> Vec<LatestFigures> {
    let figures = |reading: &DivisionReading| {
        let none = FundFigures::never_read(account.clone(), reading.division, reading.name.clone());
        let balance = match &reading.balance {
            Ok(balance) => balance,
            Err(why) => return LatestFigures { figures: none, failure: Some(why.reason.clone()) },
        };
        let value = match balance.reading(Metric::AvailableFunds) {
            Reading::Amount(money) => MetricValue::Amount(money),
            Reading::Time(lasts) => MetricValue::Time(lasts),
            Reading::Unlimited => MetricValue::Unlimited,
            Reading::NotYetKnown(why) | Reading::NotYetRead(why) => {
                return LatestFigures { figures: none, failure: Some(why) };
            }
            Reading::Unreadable(why) => return LatestFigures { figures: none, failure: Some(why.reason) },
        };
        let unpaid = match balance.reading(Metric::UnpaidInvoices) {
            Reading::Amount(money) => Some(money),
            _ => None,
        };
        LatestFigures { figures: FundFigures { at: Some(at), funds: Some(value), unpaid, ..none }, failure: None }
    };
    readings.iter().map(figures).collect()
}

/// Reads each division once, side by side. Where one is refused, the listing may be out of date: it is asked for again, so
/// that a division that is gone is no longer watched rather than unreadable.
async fn read_account(policy: &AccountPolicy, poller: &mut PollerState, clock: &dyn Clock) -> AccountReadings {
    let now = clock.now();
    let listed_before = poller.listing.as_ref().map(|(_, at)| *at);
    let listing_failure = refresh_listing(policy, poller, now).await;
    let mut readings = read_balances(policy, poller, clock).await;
    let all = matches!(policy.scope, DivisionScope::All(_));
    let refused = |reading: &DivisionReading| {
        reading.balance.as_ref().is_err_and(|why| why.persistence == Persistence::Permanent)
    };
    let cached = listed_before.is_some() && listed_before == poller.listing.as_ref().map(|(_, at)| *at);
    if all && cached && listing_failure.is_none() && readings.iter().any(refused) {
        // Should this fail too, the refused divisions have said enough: the known listing stands until its hour is over.
        if let Ok(listed) = policy.source.divisions().await
            && !listed.is_empty()
        {
            poller.listing = Some((listed, now));
        }
    }
    let active = poller.active_divisions().filter(|_| all && listing_failure.is_none());
    if let Some(active) = &active {
        readings.retain(|reading| reading.division.is_none_or(|id| active.contains(&id)));
    }
    log_failures(&policy.account, &readings, listing_failure.as_ref());
    AccountReadings { divisions: readings, listing_failure, active }
}

async fn read_balances(policy: &AccountPolicy, poller: &mut PollerState, clock: &dyn Clock) -> Vec<DivisionReading> {
    let targets: Vec<Division> = match &policy.scope {
        DivisionScope::Undivided => vec![None],
        DivisionScope::Listed(ids) => ids.iter().copied().map(Some).collect(),
        DivisionScope::All(exclude) => {
            poller.active_divisions().into_iter().flatten().filter(|id| !exclude.contains(id)).map(Some).collect()
        }
    };
    let balances = read_in_turn(policy, poller, clock, &targets).await;
    let listed = poller.listing.as_ref().map(|(listed, _)| listed.as_slice()).unwrap_or_default();
    let names: HashMap<u64, &str> = listed.iter().map(|it| (it.id, it.name.as_str())).collect();
    let named = |division: Division| division.and_then(|id| names.get(&id).map(|name| (*name).to_owned()));
    let division_reading = |(division, balance): (Division, Result<Balance, ReadError>)| DivisionReading {
        division,
        name: named(division),
        balance: balance.map_err(Unreadable::from),
        forecast: None,
    };
    targets.into_iter().zip(balances).map(division_reading).collect()
}

/// What each of these divisions answers, in their order. Where the API hangs, those that were not asked any more fail as the
/// others did.
async fn read_in_turn(
    policy: &AccountPolicy,
    poller: &mut PollerState,
    clock: &dyn Clock,
    targets: &[Division],
) -> Vec<Result<Balance, ReadError>> {
    let (pause, began) = (pause(policy, poller, targets.len()), clock.now());
    let first = std::mem::take(&mut poller.next_index) % targets.len().max(1);
    let order: Vec<usize> = (first..targets.len()).chain(0..first).collect();
    let one = |(turn, place): (u32, usize)| async move {
        wait_turn(clock, began, pause, turn).await;
        (place, policy.source.balance(targets[place]).await)
    };
    // As they come, so that a slow one keeps only its own place; what is made of them does not depend on who was first.
    let mut requests =
        futures_util::stream::iter((0..).zip(order.iter().copied())).map(one).buffer_unordered(MAX_CONCURRENT_READS);
    let mut answers: Vec<Option<Result<Balance, ReadError>>> = targets.iter().map(|_| None).collect();
    let (mut timeouts, mut last_timeout) = (0, None);
    while let Some((place, balance)) = requests.next().await {
        poller.progress.record_read(clock.now());
        let failed = balance.as_ref().err();
        poller.errors.extend(failed.map(|error| error.kind));
        let timeout = failed.filter(|error| error.kind == ReadErrorKind::Timeout).cloned();
        timeouts = if timeout.is_some() { timeouts + 1 } else { 0 };
        answers[place] = Some(balance);
        if timeouts >= MAX_CONSECUTIVE_TIMEOUTS {
            last_timeout = timeout;
            break;
        }
    }
    drop(requests);
    let unanswered = || order.iter().copied().filter(|place| answers[*place].is_none());
    if let (Some(next), Some(last_timeout)) = (unanswered().next(), last_timeout) {
        let left = unanswered().count();
        tracing::warn!(account = %policy.account, timeouts, left, "CertCentral does not answer: the cycle ends without asking for the divisions that are left");
        poller.next_index = next;
        return answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(last_timeout.clone()))).collect();
    }
    answers.into_iter().flatten().collect()
}

/// Waits for a reading's turn. A clock that is set back in between must not make the wait longer than all before it.
async fn wait_turn(clock: &dyn Clock, began: Time, pause: Duration, place: u32) {
    let left = (began + pause * place - clock.now()).to_std().unwrap_or_default();
    if !pause.is_zero() && !left.is_zero() {
        clock.sleep(left.min(pause * u32::try_from(MAX_CONCURRENT_READS).unwrap_or(1))).await;
    }
}

/// The pause from one reading to the next, so that all accounts of an API key keep to its rate limit together. Where they
/// cannot, that is told once: every division is still read, in turn, and the next cycle begins when this one is over.
fn pause(policy: &AccountPolicy, poller: &PollerState, divisions: usize) -> Duration {
    let Some((limiter, period)) = policy.source.limiter().zip(poller.period) else { return Duration::ZERO };
    let (limits, own) = (limiter.limits(), RequestLoad { requests: divisions, period });
    let loads = limiter.record_load(&policy.account, own);
    let all = pacing::total_requests(loads.values().copied(), period);
    poller.progress.set_needed(pacing::required_duration(all, limits.iter().copied()));
    if let Some(why) = pacing::explain_overload(&loads, period, &limits).filter(|_| limiter.should_warn_too_short()) {
        tracing::warn!(account = %policy.account, divisions, "schedule is too short: {why}");
    }
    pacing::pause(divisions, loads.values().copied(), limits.iter().copied(), period)
}

/// Lists the divisions hourly. Where they are only wanted for their names, a failure is no failure.
async fn refresh_listing(policy: &AccountPolicy, poller: &mut PollerState, now: Time) -> Option<Unreadable> {
    if policy.scope == DivisionScope::Undivided {
        return None;
    }
    let fresh = |at: Time| (now - at).to_std().is_ok_and(|age| age < LISTING_MAX_AGE);
    if poller.listing.as_ref().is_some_and(|(_, at)| fresh(*at)) {
        return None;
    }
    let listed = list_divisions(policy).await.and_then(|listed| match policy.scope {
        DivisionScope::All(_) if listed.is_empty() => Err(empty_listing_error()),
        _ => Ok(listed),
    });
    match (listed, &policy.scope) {
        (Ok(listed), _) => {
            poller.listing = Some((listed, now));
            None
        }
        (Err(error), DivisionScope::All(_)) => {
            poller.errors.push(error.kind);
            Some(error.into())
        }
        (Err(error), _) => {
            tracing::info!(account = %policy.account, %error, "divisions cannot be listed: they are shown by their ids, and a forecast knows of no others that share their funds");
            let names = poller.listing.take().map(|(listed, _)| listed).unwrap_or_default();
            poller.listing = Some((names, now));
            None
        }
    }
}

/// Names are worth a short wait, and no reading's delay.
async fn list_divisions(policy: &AccountPolicy) -> Result<Vec<ListedDivision>, ReadError> {
    let listing = policy.source.divisions();
    if matches!(policy.scope, DivisionScope::All(_)) {
        return listing.await;
    }
    let too_long = || ReadError { kind: ReadErrorKind::Timeout, reason: "GET /container took too long".to_owned() };
    tokio::time::timeout(NAMES_TIMEOUT, listing).await.unwrap_or_else(|_| Err(too_long()))
}

fn empty_listing_error() -> ReadError {
    ReadError {
        kind: ReadErrorKind::InvalidResponse,
        reason: "GET /container lists no active division, so there is nothing to watch: check what the API key may see"
            .to_owned(),
    }
}

/// One warning a reason, however many divisions share it.
fn log_failures(account: &Name, readings: &[DivisionReading], listing: Option<&Unreadable>) {
    let mut reasons: BTreeMap<&str, Vec<Division>> = BTreeMap::new();
    for reading in readings {
        if let Err(why) = &reading.balance {
            reasons.entry(&why.reason).or_default().push(reading.division);
        }
    }
    for (reason, divisions) in reasons {
        tracing::warn!(%account, division = divisions[0], divisions = divisions.len(), reason, "balance cannot be read");
    }
    if let Some(why) = listing {
        tracing::warn!(%account, reason = why.reason, "divisions cannot be listed");
    }
}

/// Logs what is odd, once and not at every poll.
fn log_anomalies(policy: &AccountPolicy, poller: &mut PollerState, readings: &AccountReadings) {
    for reading in &readings.divisions {
        let Ok(balance) = &reading.balance else { continue };
        let Some(anomaly) = balance.anomaly() else {
            poller.logged_anomalies.remove(&reading.division);
            continue;
        };
        let kind = match anomaly {
            BalanceAnomaly::ReportedTotalDiffers { .. } => "differs",
            BalanceAnomaly::ReportedTotalUsed { .. } => "used",
        };
        if poller.logged_anomalies.insert(reading.division, kind) != Some(kind) {
            tracing::warn!(account = %policy.account, division = reading.division, "{anomaly}");
        }
    }
    if !poller.shared_fund_logged
        && let Some(twins) = shared_fund(&readings.divisions)
    {
        poller.shared_fund_logged = true;
        tracing::info!(account = %policy.account, divisions = twins.len(), first = twins[0], "{SHARED_FUND_NOTE}");
    }
}

/// What to say where divisions share one fund.
pub const SHARED_FUND_NOTE: &str = "divisions report exactly the same figures, so they seem to share one fund";

/// The divisions that report exactly the same figures, if any two do.
pub fn shared_fund(readings: &[DivisionReading]) -> Option<Vec<u64>> {
    let known = || readings.iter().filter_map(|reading| Some((reading.balance.as_ref().ok()?, reading.division?)));
    let mut counts: HashMap<&Balance, usize> = HashMap::with_capacity(readings.len());
    for (balance, _) in known() {
        *counts.entry(balance).or_default() += 1;
    }
    let most = counts.values().copied().max().filter(|most| *most > 1)?;
    let (first, _) = known().find(|(balance, _)| counts.get(balance) == Some(&most))?;
    Some(known().filter(|(balance, _)| *balance == first).map(|(_, id)| id).collect())
}

fn last_reading(account: &Name, reading: &DivisionReading, at: Time) -> LastReading {
    let metric = |metric: Metric| match &reading.balance {
        Err(why) => format!("unreadable: {}", why.reason),
        Ok(balance) => match balance.reading(metric) {
            Reading::Amount(money) => money.to_string(),
            Reading::Time(lasts) => crate::domain::seconds::format_compact(lasts),
            Reading::Unlimited => "unlimited".to_owned(),
            Reading::NotYetKnown(why) | Reading::NotYetRead(why) => format!("not yet known: {why}"),
            Reading::Unreadable(why) => format!("unreadable: {}", why.reason),
        },
    };
    let amount = |metric: Metric| match reading.balance.as_ref().ok()?.reading(metric) {
        Reading::Amount(money) => Some(money),
        _ => None,
    };
    let all = Metric::FROM_BALANCE;
    let metrics = all.into_iter().map(|it| (it.name().to_owned(), metric(it))).collect();
    let amounts = all.into_iter().map(|it| (it.name().to_owned(), amount(it))).collect();
    let (account, division, division_name) = (account.clone(), reading.division, reading.name.clone());
    let last_good = reading.balance.is_ok().then_some(at);
    LastReading { account, division, division_name, at, metrics, amounts, last_good }
}

/// Reads every division of an account once, and its books for whoever wants to know what lies ahead: for `check`, `preview`
/// and `validate --online`. No state, nothing sent, nothing kept.
pub async fn read_once(policy: &AccountPolicy, clock: &Arc<dyn Clock>, purpose: ForecastPurpose) -> AccountReadings {
    let mut readings = read_account(policy, &mut PollerState::default(), clock.as_ref()).await;
    forecasts::add_forecasts_once(policy, &mut readings, clock, purpose).await;
    readings
}

/// Reads every division of an account once, or `only` this one, with the books of the fund of each that could be read: for
/// `backtest`. Nothing is kept. `on_progress` hears how many ledgers were read and how many lines they have together.
pub async fn read_history(
    policy: &AccountPolicy,
    only: Option<u64>,
    clock: &Arc<dyn Clock>,
    on_progress: &mut (dyn FnMut(usize, usize) + Send),
) -> (AccountReadings, BTreeMap<Division, AccountHistory>) {
    let mut readings = read_account(policy, &mut PollerState::default(), clock.as_ref()).await;
    let needs_history =
        |reading: &DivisionReading| reading.balance.is_ok() && (only.is_none() || reading.division == only);
    let histories = forecasts::read_history_once(policy, &readings.divisions, needs_history, clock, on_progress).await;
    readings.divisions.retain(|reading| only.is_none() || reading.division == only);
    (readings, histories)
}
