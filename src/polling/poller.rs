//! One cycle of one account, top to bottom: read → evaluate → transition → save. What it owes, the outbox delivers.
//!
//! [`run`] does the reading and saving; [`settle()`] is everything between, pure, and the one place where a reading
//! becomes an event. Nothing here knows a channel.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

pub use crate::polling::forecasts::{For, Library};

use crate::alerting::process::{News, settle};
use crate::certcentral::{BalanceSource, ListedDivision, ReadError, ReadErrorKind};
use crate::domain::balance::{Balance, Note, Outlook, Reading, Unreadable};
use crate::domain::event::Value;
use crate::domain::history::Books;
use crate::domain::money::Money;
use crate::domain::report::{Figures, Latest};
use crate::domain::rule::{Metric, Rule, UnreadablePolicy};
use crate::domain::silence::Silence;
use crate::domain::{Division, Name, Time};
use crate::forecast::Prospect;
use crate::polling::pacing::Load;
use crate::polling::{forecasts, pacing};
use crate::state::Book;
use crate::util::clock::Clock;

/// How many divisions of an account are read side by side; the rate limit paces them further.
const SIDE_BY_SIDE: usize = 16;
/// A cycle ends when so many reads in a row have timed out: the API hangs, and to ask for the rest would take hours, with the
/// messages of the cycle behind it.
const MOST_TIMEOUTS: usize = SIDE_BY_SIDE;
/// How long a listing of divisions is good for.
const LISTING_AGE: Duration = Duration::from_secs(3600);

/// The longest wait for a listing that is wanted for its names only.
const NAMES_PATIENCE: Duration = Duration::from_secs(3);

/// Which divisions a cycle reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The account itself, without a container id.
    Undivided,
    /// Every active one that the account lists, but these.
    All(BTreeSet<u64>),
    /// These.
    Listed(Vec<u64>),
}

/// What one account's cycles need.
pub struct Watch {
    /// The account's name.
    pub account: Name,
    /// Where its balances come from.
    pub source: Arc<dyn BalanceSource>,
    /// Which of its divisions are read.
    pub scope: Scope,
    /// Every rule; those that do not watch the account are passed over.
    pub rules: Arc<[Rule]>,
    /// The unreadable alert.
    pub unreadable: Arc<UnreadablePolicy>,
    /// Every silence of the configuration; those made by command are in the state.
    pub silences: Arc<[Silence]>,
    /// Notifiers that keep an incident open for each alert, until they are told of its end.
    pub incident_notifiers: Arc<BTreeSet<Name>>,
    /// Its books; `None`: nothing looks ahead.
    pub library: Option<Arc<Library>>,
}

/// The two times of a cycle. They are minutes apart where a large account is read slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CycleTime {
    /// The time of the schedule that the cycle is for: what `for`, `remind_every` and silences are judged by, so that no
    /// reminder drifts.
    pub planned: Time,
    /// When everything was read: what events are stamped with, and what the outbox and the heartbeat count from.
    pub settled: Time,
}

impl CycleTime {
    /// Of a cycle that was read by `now`. A clock that was set back meanwhile must not let an event come before its alert.
    pub fn new(planned: Time, now: Time) -> Self {
        Self { planned, settled: now.max(planned) }
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
pub struct Memory {
    listing: Option<(Vec<ListedDivision>, Time)>,
    /// What is odd about a division, where anything is.
    noted: BTreeMap<Division, &'static str>,
    shared_fund_told: bool,
    /// Reads that failed in the running cycle.
    errors: Vec<ReadErrorKind>,
    /// The time from this cycle to the next; `None`: nothing comes next, so nothing is spread.
    period: Option<Duration>,
    progress: Arc<Progress>,
    /// Where among the divisions the next cycle begins: one that ended early must not keep the others from being read for ever.
    first: usize,
    /// Whose books are wanted, whether they were waited for, and what was drawn from them.
    pub(crate) wanted: BTreeSet<Division>,
    pub(crate) waited: bool,
    pub(crate) drawn: HashMap<Division, forecasts::Drawn>,
}

impl Memory {
    /// The next cycle comes so long after this one: many readings are spread over a part of it.
    pub fn next_after(&mut self, period: Option<Duration>) {
        self.period = period;
    }

    /// How the account's cycles go on; it stays up to date.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// The active divisions of the last good listing.
    fn active(&self) -> Option<BTreeSet<u64>> {
        let (listed, _) = self.listing.as_ref()?;
        Some(listed.iter().map(|it| it.id).collect())
    }
}

/// How an account's cycles go on, for whoever has to tell a long one from one that hangs.
#[derive(Debug, Default)]
pub struct Progress {
    needs_ms: AtomicU64,
    last_ms: AtomicI64,
}

impl Progress {
    /// Notes how long a cycle needs under the rate limit, as far as is known.
    pub fn needs(&self, needs: Duration) {
        self.needs_ms.store(u64::try_from(needs.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long a cycle needs under the rate limit.
    pub fn needed(&self) -> Duration {
        Duration::from_millis(self.needs_ms.load(Ordering::Relaxed))
    }

    /// Notes that a read has ended, well or not.
    pub fn made(&self, at: Time) {
        self.last_ms.store(at.timestamp_millis(), Ordering::Relaxed);
    }

    /// When a read last ended; long ago where none has.
    pub fn last(&self) -> Time {
        Time::from_timestamp_millis(self.last_ms.load(Ordering::Relaxed)).unwrap_or_default()
    }
}

/// One division as it was read.
#[derive(Debug, Clone)]
pub struct Read {
    /// Which.
    pub division: Division,
    /// Its name, where a listing told it.
    pub name: Option<String>,
    /// What came.
    pub balance: Result<Balance, Unreadable>,
    /// What lies ahead, where somebody wants to know.
    pub prospect: Option<Arc<Prospect>>,
}

impl Read {
    /// What a rule sees of it.
    pub fn reading(&self, rule: &Rule) -> Reading {
        match (&self.balance, &self.prospect) {
            (Err(why), _) => Reading::Unreadable(why.clone()),
            (Ok(_), Some(prospect)) if rule.metric.looks_ahead() => prospect.reading(rule),
            (Ok(balance), _) => balance.reading(rule.metric),
        }
    }
}

/// Everything that one cycle read.
pub struct Harvest {
    /// The divisions that were read.
    pub reads: Vec<Read>,
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
pub struct Seen {
    /// What was read.
    pub read: Read,
    /// When.
    pub at: Time,
    /// When it could last be read.
    pub last_good: Option<Time>,
}

impl Seen {
    /// Its figures.
    pub fn figures(&self, account: &Name) -> LastReading {
        LastReading { last_good: self.last_good, ..last_reading(account, &self.read, self.at) }
    }
}

/// What one cycle did.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What it read.
    pub readings: Vec<Seen>,
    /// How many divisions could not be read.
    pub unreadable: usize,
    /// The names of the events that it made; those of the unreadable alert begin with `unreadable_`.
    pub events: Vec<String>,
    /// The reads that failed, by kind.
    pub errors: Vec<ReadErrorKind>,
    /// Whether everything that the rules look at could be read.
    pub good: bool,
    /// What it read, for reports.
    pub latest: Vec<Latest>,
    /// Why the divisions could not be listed, for reports.
    pub listing_failure: Option<String>,
    /// When everything was read.
    pub ended: Time,
}

/// Runs one cycle: reads everything once, judges it as of the `planned` time, and saves.
pub async fn run(watch: &Watch, memory: &mut Memory, book: &Book, clock: &dyn Clock, planned: Time) -> Outcome {
    let started = clock.now();
    memory.errors.clear();
    let mut harvest = read(watch, memory, clock).await;
    let now = clock.now();
    forecasts::look_ahead(watch, memory, &mut harvest, book, planned).await;
    let time = CycleTime::new(planned, clock.now());
    let settled = book
        .change(|state| {
            let settled = settle(state, watch, &harvest, time);
            let changed = settled.changed;
            (settled, changed)
        })
        .await;
    let news = settled.news;
    for line in &news {
        tracing::info!(account = %watch.account, event = line.kind, alert = %line.alert, severity = %line.level, "{}", line.text);
    }
    note_oddities(watch, memory, &harvest);
    let unreadable = harvest.reads.iter().filter(|read| read.balance.is_err()).count();
    let owed = book.read(|state| state.owed.len());
    let duration_ms = (clock.now() - started).num_milliseconds();
    tracing::info!(account = %watch.account, read = harvest.reads.len(), unreadable, events = news.len(), owed, duration_ms, "cycle done");
    Outcome {
        unreadable,
        events: news.iter().map(News::counted_as).collect(),
        errors: std::mem::take(&mut memory.errors),
        good: settled.good,
        latest: latest(&watch.account, &harvest.reads, now),
        listing_failure: harvest.listing_failure.map(|why| why.reason),
        readings: harvest.reads.into_iter().map(|read| seen(read, now)).collect(),
        ended: now,
    }
}

fn seen(read: Read, at: Time) -> Seen {
    let last_good = read.balance.is_ok().then_some(at);
    Seen { read, at, last_good }
}

/// The figures of a report, as they were read at `at`.
pub fn latest(account: &Name, reads: &[Read], at: Time) -> Vec<Latest> {
    let figures = |read: &Read| {
        let none = Figures::none(account.clone(), read.division, read.name.clone());
        let balance = match &read.balance {
            Ok(balance) => balance,
            Err(why) => return Latest { figures: none, failure: Some(why.reason.clone()) },
        };
        let value = match balance.reading(Metric::AvailableFunds) {
            Reading::Amount(money) => Value::Amount(money),
            Reading::Time(lasts) => Value::Time(lasts),
            Reading::Unlimited => Value::Unlimited,
            Reading::NotYetKnown(why) | Reading::NotYetRead(why) => {
                return Latest { figures: none, failure: Some(why) };
            }
            Reading::Unreadable(why) => return Latest { figures: none, failure: Some(why.reason) },
        };
        let unpaid = match balance.reading(Metric::UnpaidInvoices) {
            Reading::Amount(money) => Some(money),
            _ => None,
        };
        Latest { figures: Figures { at: Some(at), funds: Some(value), unpaid, ..none }, failure: None }
    };
    reads.iter().map(figures).collect()
}

/// Reads each division once, side by side. Where one is refused, the listing may be out of date: it is asked for again, so
/// that a division that is gone is no longer watched rather than unreadable.
async fn read(watch: &Watch, memory: &mut Memory, clock: &dyn Clock) -> Harvest {
    let now = clock.now();
    let listed_before = memory.listing.as_ref().map(|(_, at)| *at);
    let listing_failure = refresh_listing(watch, memory, now).await;
    let mut reads = read_balances(watch, memory, clock).await;
    let all = matches!(watch.scope, Scope::All(_));
    let refused = |read: &Read| read.balance.as_ref().is_err_and(|why| why.outlook == Outlook::NeedsAction);
    let cached = listed_before.is_some() && listed_before == memory.listing.as_ref().map(|(_, at)| *at);
    if all && cached && listing_failure.is_none() && reads.iter().any(refused) {
        // Should this fail too, the refused divisions have said enough: the known listing stands until its hour is over.
        if let Ok(listed) = watch.source.divisions().await
            && !listed.is_empty()
        {
            memory.listing = Some((listed, now));
        }
    }
    let active = memory.active().filter(|_| all && listing_failure.is_none());
    if let Some(active) = &active {
        reads.retain(|read| read.division.is_none_or(|id| active.contains(&id)));
    }
    log_failures(&watch.account, &reads, listing_failure.as_ref());
    Harvest { reads, listing_failure, active }
}

async fn read_balances(watch: &Watch, memory: &mut Memory, clock: &dyn Clock) -> Vec<Read> {
    let targets: Vec<Division> = match &watch.scope {
        Scope::Undivided => vec![None],
        Scope::Listed(ids) => ids.iter().copied().map(Some).collect(),
        Scope::All(exclude) => {
            memory.active().into_iter().flatten().filter(|id| !exclude.contains(id)).map(Some).collect()
        }
    };
    let balances = ask_in_turn(watch, memory, clock, &targets).await;
    let listed = memory.listing.as_ref().map(|(listed, _)| listed.as_slice()).unwrap_or_default();
    let names: HashMap<u64, &str> = listed.iter().map(|it| (it.id, it.name.as_str())).collect();
    let named = |division: Division| division.and_then(|id| names.get(&id).map(|name| (*name).to_owned()));
    let read = |(division, balance): (Division, Result<Balance, ReadError>)| Read {
        division,
        name: named(division),
        balance: balance.map_err(Unreadable::from),
        prospect: None,
    };
    targets.into_iter().zip(balances).map(read).collect()
}

/// What each of these divisions answers, in their order. Where the API hangs, those that were not asked any more fail as the
/// others did.
async fn ask_in_turn(
    watch: &Watch,
    memory: &mut Memory,
    clock: &dyn Clock,
    targets: &[Division],
) -> Vec<Result<Balance, ReadError>> {
    let (pause, began) = (pause(watch, memory, targets.len()), clock.now());
    let first = std::mem::take(&mut memory.first) % targets.len().max(1);
    let order: Vec<usize> = (first..targets.len()).chain(0..first).collect();
    let one = |(turn, place): (u32, usize)| async move {
        in_turn(clock, began, pause, turn).await;
        (place, watch.source.balance(targets[place]).await)
    };
    // As they come, so that a slow one keeps only its own place; what is made of them does not depend on who was first.
    let mut asked =
        futures_util::stream::iter((0..).zip(order.iter().copied())).map(one).buffer_unordered(SIDE_BY_SIDE);
    let mut answers: Vec<Option<Result<Balance, ReadError>>> = targets.iter().map(|_| None).collect();
    let (mut timeouts, mut hangs) = (0, None);
    while let Some((place, balance)) = asked.next().await {
        memory.progress.made(clock.now());
        let failed = balance.as_ref().err();
        memory.errors.extend(failed.map(|error| error.kind));
        let timeout = failed.filter(|error| error.kind == ReadErrorKind::Timeout).cloned();
        timeouts = if timeout.is_some() { timeouts + 1 } else { 0 };
        answers[place] = Some(balance);
        if timeouts >= MOST_TIMEOUTS {
            hangs = timeout;
            break;
        }
    }
    drop(asked);
    let unanswered = || order.iter().copied().filter(|place| answers[*place].is_none());
    if let (Some(next), Some(hangs)) = (unanswered().next(), hangs) {
        let left = unanswered().count();
        tracing::warn!(account = %watch.account, timeouts, left, "CertCentral does not answer: the cycle ends without asking for the divisions that are left");
        memory.first = next;
        return answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(hangs.clone()))).collect();
    }
    answers.into_iter().flatten().collect()
}

/// Waits for a reading's turn. A clock that is set back in between must not make the wait longer than all before it.
async fn in_turn(clock: &dyn Clock, began: Time, pause: Duration, place: u32) {
    let left = (began + pause * place - clock.now()).to_std().unwrap_or_default();
    if !pause.is_zero() && !left.is_zero() {
        clock.sleep(left.min(pause * u32::try_from(SIDE_BY_SIDE).unwrap_or(1))).await;
    }
}

/// The pause from one reading to the next, so that all accounts of an API key keep to its rate limit together. Where they
/// cannot, that is told once: every division is still read, in turn, and the next cycle begins when this one is over.
fn pause(watch: &Watch, memory: &Memory, divisions: usize) -> Duration {
    let Some((limiter, period)) = watch.source.limiter().zip(memory.period) else { return Duration::ZERO };
    let (limits, own) = (limiter.limits(), Load { requests: divisions, period });
    let loads = limiter.note(&watch.account, own);
    let all = pacing::together(loads.values().copied(), period);
    memory.progress.needs(pacing::needed(all, limits.iter().copied()));
    if let Some(why) = pacing::too_short(&loads, period, &limits).filter(|_| limiter.tell_too_short()) {
        tracing::warn!(account = %watch.account, divisions, "schedule is too short: {why}");
    }
    pacing::pause(divisions, loads.values().copied(), limits.iter().copied(), period)
}

/// Lists the divisions hourly. Where they are only wanted for their names, a failure is no failure.
async fn refresh_listing(watch: &Watch, memory: &mut Memory, now: Time) -> Option<Unreadable> {
    if watch.scope == Scope::Undivided {
        return None;
    }
    let fresh = |at: Time| (now - at).to_std().is_ok_and(|age| age < LISTING_AGE);
    if memory.listing.as_ref().is_some_and(|(_, at)| fresh(*at)) {
        return None;
    }
    let listed = list(watch).await.and_then(|listed| match watch.scope {
        Scope::All(_) if listed.is_empty() => Err(nothing_listed()),
        _ => Ok(listed),
    });
    match (listed, &watch.scope) {
        (Ok(listed), _) => {
            memory.listing = Some((listed, now));
            None
        }
        (Err(error), Scope::All(_)) => {
            memory.errors.push(error.kind);
            Some(error.into())
        }
        (Err(error), _) => {
            tracing::info!(account = %watch.account, %error, "divisions cannot be listed: they are shown by their ids, and a forecast knows of no others that share their funds");
            let known = memory.listing.take().map(|(listed, _)| listed).unwrap_or_default();
            memory.listing = Some((known, now));
            None
        }
    }
}

/// Names are worth a short wait, and no reading's delay.
async fn list(watch: &Watch) -> Result<Vec<ListedDivision>, ReadError> {
    let listing = watch.source.divisions();
    if matches!(watch.scope, Scope::All(_)) {
        return listing.await;
    }
    let too_long = || ReadError { kind: ReadErrorKind::Timeout, reason: "GET /container took too long".to_owned() };
    tokio::time::timeout(NAMES_PATIENCE, listing).await.unwrap_or_else(|_| Err(too_long()))
}

fn nothing_listed() -> ReadError {
    ReadError {
        kind: ReadErrorKind::Nonsense,
        reason: "GET /container lists no active division, so there is nothing to watch: check what the API key may see"
            .to_owned(),
    }
}

/// One warning a reason, however many divisions share it.
fn log_failures(account: &Name, reads: &[Read], listing: Option<&Unreadable>) {
    let mut reasons: BTreeMap<&str, Vec<Division>> = BTreeMap::new();
    for read in reads {
        if let Err(why) = &read.balance {
            reasons.entry(&why.reason).or_default().push(read.division);
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
fn note_oddities(watch: &Watch, memory: &mut Memory, harvest: &Harvest) {
    for read in &harvest.reads {
        let Ok(balance) = &read.balance else { continue };
        let Some(note) = balance.note() else {
            memory.noted.remove(&read.division);
            continue;
        };
        let kind = match note {
            Note::TotalDiffers { .. } => "differs",
            Note::TotalUsed { .. } => "used",
        };
        if memory.noted.insert(read.division, kind) != Some(kind) {
            tracing::warn!(account = %watch.account, division = read.division, "{note}");
        }
    }
    if !memory.shared_fund_told
        && let Some(twins) = shared_fund(&harvest.reads)
    {
        memory.shared_fund_told = true;
        tracing::info!(account = %watch.account, divisions = twins.len(), first = twins[0], "{SHARED_FUND}");
    }
}

/// What to say where divisions share one fund.
pub const SHARED_FUND: &str = "divisions report exactly the same figures, so they seem to share one fund";

/// The divisions that report exactly the same figures, if any two do.
pub fn shared_fund(reads: &[Read]) -> Option<Vec<u64>> {
    let known = || reads.iter().filter_map(|read| Some((read.balance.as_ref().ok()?, read.division?)));
    let mut counts: HashMap<&Balance, usize> = HashMap::with_capacity(reads.len());
    for (balance, _) in known() {
        *counts.entry(balance).or_default() += 1;
    }
    let most = counts.values().copied().max().filter(|most| *most > 1)?;
    let (first, _) = known().find(|(balance, _)| counts.get(balance) == Some(&most))?;
    Some(known().filter(|(balance, _)| *balance == first).map(|(_, id)| id).collect())
}

fn last_reading(account: &Name, read: &Read, at: Time) -> LastReading {
    let metric = |metric: Metric| match &read.balance {
        Err(why) => format!("unreadable: {}", why.reason),
        Ok(balance) => match balance.reading(metric) {
            Reading::Amount(money) => money.to_string(),
            Reading::Time(lasts) => crate::domain::seconds::in_words(lasts),
            Reading::Unlimited => "unlimited".to_owned(),
            Reading::NotYetKnown(why) | Reading::NotYetRead(why) => format!("not yet known: {why}"),
            Reading::Unreadable(why) => format!("unreadable: {}", why.reason),
        },
    };
    let amount = |metric: Metric| match read.balance.as_ref().ok()?.reading(metric) {
        Reading::Amount(money) => Some(money),
        _ => None,
    };
    let all = Metric::OF_BALANCE;
    let metrics = all.into_iter().map(|it| (it.name().to_owned(), metric(it))).collect();
    let amounts = all.into_iter().map(|it| (it.name().to_owned(), amount(it))).collect();
    let (account, division, division_name) = (account.clone(), read.division, read.name.clone());
    let last_good = read.balance.is_ok().then_some(at);
    LastReading { account, division, division_name, at, metrics, amounts, last_good }
}

/// Reads every division of an account once, and its books for whoever wants to know what lies ahead: for `check`, `preview`
/// and `validate --online`. No state, nothing sent, nothing kept.
pub async fn read_once(watch: &Watch, clock: &Arc<dyn Clock>, purpose: For) -> Harvest {
    let mut harvest = read(watch, &mut Memory::default(), clock.as_ref()).await;
    forecasts::look_once(watch, &mut harvest, clock, purpose).await;
    harvest
}

/// Reads every division of an account once, or `only` this one, with the books of the fund of each that could be read: for
/// `backtest`. Nothing is kept. `told` hears how many ledgers were read and how many lines they have together.
pub async fn read_books(
    watch: &Watch,
    only: Option<u64>,
    clock: &Arc<dyn Clock>,
    told: &mut (dyn FnMut(usize, usize) + Send),
) -> (Harvest, BTreeMap<Division, Books>) {
    let mut harvest = read(watch, &mut Memory::default(), clock.as_ref()).await;
    let wants = |read: &Read| read.balance.is_ok() && (only.is_none() || read.division == only);
    let books = forecasts::books_once(watch, &harvest.reads, wants, clock, told).await;
    harvest.reads.retain(|read| only.is_none() || read.division == only);
    (harvest, books)
}
