//! A scripted month of two accounts and three notifiers, played on a stepped clock by the real cycles, the real book and
//! the real outbox, on a disk and a network that outlive every death of the process.
//!
//! Whatever the service does to the world outside (a reading, a write, a send) is a *step*: once before it and once after
//! it. The process can be made to die at any of them; from then on it reaches nothing any more, as after a SIGKILL.

#![allow(clippy::unnecessary_wraps)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use async_trait::async_trait;
use lowtide::alerting::end_alerts::end_unconfigured_alerts;
use lowtide::alerting::policy::{AccountPolicy, DivisionScope};
use lowtide::alerting::state::State;
use lowtide::certcentral::{BalanceSource, ListedDivision, ReadError, ReadErrorKind};
use lowtide::domain::alert::TransitionKind;
use lowtide::domain::balance::Balance;
use lowtide::domain::event::{Event, EventSubject};
use lowtide::domain::money::{Currency, parse_amount};
use lowtide::domain::rule::{Level, Metric, Rule, Severity, ThresholdAmount, ThresholdSide, UnreadablePolicy};
use lowtide::domain::{Division, Name, Time};
use lowtide::notify::delivery::{DeliveryWorker, Route};
use lowtide::notify::{Delivered, Message, MessageContent, Notifier, RecipientRefusal, SendError};
use lowtide::polling::poller::{Poller, PollerState};
use lowtide::state;
use lowtide::state::{JsonPieces, StateBackend, StateStore};
use lowtide::util::clock::Clock;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::stepped::VirtualClock;
/// The month's first moment.
pub use crate::stepped::epoch;

/// Hours between two cycles.
const PERIOD: i64 = 6;
/// The month's last hour.
const END: i64 = 31 * 24;

fn hours(n: i64) -> Time {
    epoch() + chrono::Duration::hours(n)
}

/// Day and hour as hours.
const fn day(day: i64, hour: i64) -> i64 {
    day * 24 + hour
}

/// What an account answers from an hour on.
#[derive(Clone, Copy)]
enum AccountAnswer {
    /// So much money, so many unpaid invoices.
    Has(&'static str, &'static str),
    Unavailable,
    Refuses,
    /// Not listed any more.
    Gone,
}

use AccountAnswer::{Gone, Has, Refuses, Unavailable};

/// Balances by account and division: from which hour on, and what.
fn scripted_answers(account: &str, division: Division) -> Vec<(i64, AccountAnswer)> {
    match (account, division) {
        ("acme", Some(11)) => vec![
            (0, Has("9000", "0")),
            (day(2, 0), Has("1500", "0")),
            (day(3, 0), Has("400", "0")),
            (day(4, 12), Has("800", "0")),
            (day(5, 6), Has("300", "0")), // while slack fails
            (day(6, 6), Has("2500", "0")),
            (day(10, 6), Has("450", "0")), // while the pager refuses
            (day(11, 12), Has("900", "0")),
            (day(12, 0), Has("7000", "0")),
            (day(25, 6), Has("1000", "0")), // while slack fails again
            (day(26, 0), Has("300", "0")),
            (day(26, 12), Has("2500", "0")),
            (day(28, 0), Has("100", "0")),
            (day(29, 12), Has("3000", "0")),
        ],
        ("acme", Some(12)) => vec![
            (0, Has("5000", "0")),
            (day(6, 12), Has("1200", "0")),
            (day(7, 0), Unavailable), // its alert stands still
            (day(8, 18), Has("1200", "0")),
            (day(9, 0), Has("3000", "0")),
            (day(15, 6), Refuses), // while one recipient of the mail is put off
            (day(15, 18), Has("3000", "0")),
        ],
        ("acme", Some(13)) => vec![(0, Has("5000", "0")), (day(18, 0), Has("700", "0")), (day(20, 0), Gone)],
        ("beta", None) => vec![
            (0, Has("6000", "0")),
            (day(8, 0), Has("6000", "1500")), // for 12 h
            (day(14, 0), Has("6000", "0")),
            (day(21, 0), Has("1999.99", "0")),
            (day(21, 6), Has("2500", "0")),
            (day(21, 12), Has("499.99", "0")),
            (day(21, 18), Has("2500", "0")),
            (day(22, 0), Has("450", "0")),
            (day(22, 6), Has("1950", "0")),
            (day(22, 12), Has("2500", "0")),
        ],
        _ => vec![],
    }
}

fn answer_at(account: &str, division: Division, at: Time) -> AccountAnswer {
    let answers = scripted_answers(account, division);
    answers.iter().rev().find(|(from, _)| hours(*from) <= at).unwrap().1
}

fn within(at: Time, from: i64, to: i64) -> bool {
    hours(from) <= at && at < hours(to)
}

/// What becomes of a send.
enum SendBehavior {
    Good,
    /// A failure of the moment.
    Fails,
    /// A refusal for good.
    Refused,
    /// This recipient is put off.
    PutsOff(&'static str),
}

fn send_behavior(notifier: &str, at: Time) -> SendBehavior {
    match notifier {
        "slack" if within(at, day(5, 2), day(5, 20)) || within(at, day(25, 2), day(27, 3)) => SendBehavior::Fails,
        "pager" if within(at, day(10, 0), day(11, 3)) => SendBehavior::Refused,
        "mail" if within(at, day(15, 0), day(16, 1)) => SendBehavior::PutsOff("b@example.com"),
        _ => SendBehavior::Good,
    }
}

/// How long a send takes that fails.
const TIMEOUT: Duration = Duration::from_secs(100);

/// A notifier that is down is tried every few minutes for days. Where it is to die for it, that is when the fallback is
/// asked (after five minutes) and when everybody hears of it (after an hour).
fn may_crash_here(at: Time) -> bool {
    let minutes = (at - epoch()).num_minutes() % (PERIOD * 60);
    minutes < 9 || (58..66).contains(&minutes)
}

/// What somebody was told, without what differs from run to run: the time of a retry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Notification {
    /// The notifier, and the recipient where it has several.
    pub who: String,
    /// `rule/account/division`, or what the notice is about.
    pub alert: String,
    /// The event.
    pub kind: &'static str,
    /// Its level, or `-`.
    pub level: String,
    /// When it happened, in seconds of the month; of a notifier's failure, the cycle after which that began.
    pub at: i64,
}

fn notification(who: &str, event: &Event) -> Notification {
    let seconds = |at: Time| (at - epoch()).num_seconds();
    let cycle_of = |at: Time| hours((at - epoch()).num_hours() / PERIOD * PERIOD);
    let level = event.level().map_or("-".to_owned(), |level| level.to_string());
    let (alert, kind, at) = match &event.subject {
        EventSubject::Threshold(it) => (it.key.label(), it.kind.name(), event.at),
        EventSubject::Unreadable(it) => (it.key.label(), it.kind.name(), event.at),
        EventSubject::AlertEnded { key, .. } => (key.label(), "ended", event.at),
        EventSubject::NotifierRemoved { notifier } => (notifier.to_string(), "notifier-removed", event.at),
        EventSubject::Unwatched { account, division, rules, .. } => {
            (format!("{}/{account}/{}", rules.join("+"), division.unwrap()), "unwatched", event.at)
        }
        EventSubject::NotifierFailing { notifier, since, .. } => {
            (notifier.to_string(), "notifier-failing", cycle_of(*since))
        }
        EventSubject::NotifierRecovered { notifier, since } => {
            (notifier.to_string(), "notifier-recovered", cycle_of(*since))
        }
        EventSubject::Report(page) => (page.name.to_string(), "report", event.at),
    };
    Notification { who: who.to_owned(), alert, kind, level, at: seconds(at) }
}

/// What is sent and not yet marked on disk: by notifier, event id and recipient.
type UnconfirmedSends = BTreeMap<(String, String, String), Notification>;

/// What outlives the process: the disk, the people, and the one who pulls the plug.
#[derive(Default)]
pub struct OutsideWorld {
    /// Held for each deed in the world and for each death: a deed is done before the death, or not at all.
    crash_lock: Mutex<()>,
    disk: Mutex<Option<Vec<u8>>>,
    notified: Mutex<BTreeMap<Notification, usize>>,
    unconfirmed: Mutex<UnconfirmedSends>,
    /// How many deaths fell between the send and its mark, by what was sent.
    excused: Mutex<BTreeMap<Notification, usize>>,
    ids: Mutex<BTreeMap<Notification, BTreeSet<String>>>,
    /// What was on disk as owed, by notifier.
    queued: Mutex<BTreeSet<(String, Notification)>>,
    steps: AtomicUsize,
    crash_at: AtomicUsize,
    crashes: Mutex<Vec<&'static str>>,
    /// The disk says that it saved, and did not.
    loses_writes: bool,
    /// Which writes, counted from 0, find the disk full.
    full: Option<fn(usize) -> bool>,
    /// Nobody tries again to save what could not be saved: half a million tries in a month would prove no more.
    one_try: bool,
    writes: AtomicUsize,
    /// The largest file that was ever saved with something of everything in it.
    fullest: Mutex<Vec<u8>>,
}

/// One life of the process.
struct ProcessRun {
    world: Arc<OutsideWorld>,
    has_crashed: AtomicBool,
    crashed: Notify,
}

impl ProcessRun {
    /// Takes a step. `false`: the process died here, or before.
    fn step(&self, what: &'static str) -> bool {
        let _lock = self.world.crash_lock.lock().unwrap();
        if self.has_crashed.load(Ordering::SeqCst) {
            return false;
        }
        let step = self.world.steps.fetch_add(1, Ordering::SeqCst) + 1;
        if step != self.world.crash_at.load(Ordering::SeqCst) {
            return true;
        }
        self.has_crashed.store(true, Ordering::SeqCst);
        self.world.crashes.lock().unwrap().push(what);
        let unconfirmed = std::mem::take(&mut *self.world.unconfirmed.lock().unwrap());
        let mut excused = self.world.excused.lock().unwrap();
        for notification in unconfirmed.into_values() {
            *excused.entry(notification).or_default() += 1;
        }
        self.crashed.notify_one();
        false
    }

    async fn step_or_end(&self, what: &'static str) {
        if !self.step(what) {
            std::future::pending::<()>().await;
        }
    }
}

/// The disk of one life.
struct CrashingBackend(Arc<ProcessRun>);

impl StateBackend for CrashingBackend {
    fn save(&self, json: &JsonPieces) -> std::io::Result<()> {
        let json = json.to_bytes();
        let gone = || std::io::Error::other("this process is dead");
        if !self.0.step("before a save") {
            return Err(gone());
        }
        let world = &self.0.world;
        let write = world.writes.fetch_add(1, Ordering::SeqCst);
        if world.full.is_some_and(|full| full(write)) {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        let state = state::decode(&json).unwrap().state;
        let lock = world.crash_lock.lock().unwrap();
        if self.0.has_crashed.load(Ordering::SeqCst) {
            return Err(gone());
        }
        let mut fullest = world.fullest.lock().unwrap();
        let of_everything = !(state.alerts.is_empty() || state.queue.is_empty() || state.failing_notifiers.is_empty());
        if of_everything && json.len() > fullest.len() {
            fullest.clone_from(&json);
        }
        drop(fullest);
        if !world.loses_writes {
            *world.disk.lock().unwrap() = Some(json);
            let mut queued = world.queued.lock().unwrap();
            for event in &state.queue {
                queued.extend(event.pending.keys().map(|name| (name.to_string(), notification("", &event.event))));
            }
        }
        let mut unconfirmed = world.unconfirmed.lock().unwrap();
        if !unconfirmed.is_empty() {
            let still = |notifier: &str, id: &str, recipient: &String| {
                let owed = state.queue.pending_for(notifier).find(|(event, _)| event.id == id);
                owed.is_some_and(|(_, delivery)| {
                    delivery.remaining_recipients.as_ref().is_none_or(|only| only.contains(recipient))
                })
            };
            unconfirmed.retain(|(notifier, id, recipient), _| still(notifier, id, recipient));
        }
        drop((unconfirmed, lock));
        if self.0.step("after a save") { Ok(()) } else { Err(gone()) }
    }
}

/// One notifier in one life.
struct ScriptedNotifier {
    name: &'static str,
    recipients: &'static [&'static str],
    clock: Arc<dyn Clock>,
    run: Arc<ProcessRun>,
}

#[async_trait]
impl Notifier for ScriptedNotifier {
    async fn send(&self, message: &Message) -> Result<Delivered, SendError> {
        let answer_at = self.clock.now();
        let fails = matches!(send_behavior(self.name, answer_at), SendBehavior::Fails);
        let of_interest = !fails || may_crash_here(answer_at);
        if of_interest {
            self.run.step_or_end("before a send").await;
        }
        let answer = self.answer(message);
        if fails {
            self.clock.sleep(TIMEOUT).await;
        }
        if of_interest {
            self.run.step_or_end("after a send").await;
        }
        answer
    }

    fn one_event_per_request(&self) -> bool {
        self.name == "pager"
    }

    fn recipients(&self) -> Vec<String> {
        self.recipients.iter().filter(|it| !it.is_empty()).map(|it| (*it).to_owned()).collect()
    }
}

impl ScriptedNotifier {
    fn answer(&self, message: &Message) -> Result<Delivered, SendError> {
        let fails = |permanent| {
            let reason = "no luck today".to_owned();
            Err(SendError { permanent, reason, retry_after: None, refused: Vec::new() })
        };
        let put_off = match send_behavior(self.name, self.clock.now()) {
            SendBehavior::Fails => return fails(false),
            SendBehavior::Refused => return fails(true),
            SendBehavior::PutsOff(recipient) => Some(recipient),
            SendBehavior::Good => None,
        };
        let wanted =
            |it: &&&str| message.remaining_recipients.as_ref().is_none_or(|only| only.iter().any(|one| one == **it));
        let (later, now): (Vec<&str>, Vec<&str>) =
            self.recipients.iter().filter(wanted).copied().partition(|it| put_off == Some(*it));
        if now.is_empty() {
            return fails(false);
        }
        self.record_send(message, &now);
        let refusal = |it: &&str| RecipientRefusal { recipient: (*it).to_owned(), reason: "450 later".to_owned() };
        Ok(Delivered {
            message_id: Some(format!("<{}@{}>", message.id, self.name)),
            deferred: later.iter().map(refusal).collect(),
            refused: Vec::new(),
        })
    }

    fn record_send(&self, message: &Message, recipients: &[&str]) {
        let MessageContent::Events(items) = &message.content else { panic!("no events") };
        let world = &self.run.world;
        let _lock = world.crash_lock.lock().unwrap();
        if self.run.has_crashed.load(Ordering::SeqCst) {
            return;
        }
        for item in items {
            for recipient in recipients {
                let who =
                    if recipient.is_empty() { self.name.to_owned() } else { format!("{}:{recipient}", self.name) };
                let notification = notification(&who, &item.event);
                *world.notified.lock().unwrap().entry(notification.clone()).or_default() += 1;
                world.ids.lock().unwrap().entry(notification.clone()).or_default().insert(item.event.id.clone());
                let key = (self.name.to_owned(), item.event.id.clone(), (*recipient).to_owned());
                world.unconfirmed.lock().unwrap().insert(key, notification);
            }
        }
    }
}

/// One account in one life.
struct ScriptedAccount {
    name: &'static str,
    clock: Arc<dyn Clock>,
    run: Arc<ProcessRun>,
}

fn unreadable(kind: ReadErrorKind) -> ReadError {
    ReadError { kind, reason: "it answered badly".to_owned() }
}

#[async_trait]
impl BalanceSource for ScriptedAccount {
    async fn balance(&self, division: Division) -> Result<Balance, ReadError> {
        self.run.step_or_end("before a reading").await;
        let amount = |text: &str| Ok(parse_amount(text).unwrap());
        match answer_at(self.name, division, self.clock.now()) {
            Has(balance, unpaid) => Ok(Balance {
                currency: Ok(Currency::parse("USD").unwrap()),
                balance: amount(balance),
                unpaid_invoices: amount(unpaid),
                used_credit: amount("0"),
                credit_limit: Ok(Some(parse_amount(unpaid).unwrap())), // invoices do not move the funds
                unlimited: Ok(false),
                reported_total: Ok(None),
            }),
            Unavailable => Err(unreadable(ReadErrorKind::Server)),
            Refuses | Gone => Err(unreadable(ReadErrorKind::Refused)),
        }
    }

    async fn divisions(&self) -> Result<Vec<ListedDivision>, ReadError> {
        self.run.step_or_end("before a listing").await;
        let now = self.clock.now();
        if within(now, day(23, 6), day(23, 12)) {
            return Err(unreadable(ReadErrorKind::Refused));
        }
        let there = |id: &u64| !matches!(answer_at(self.name, Some(*id), now), Gone);
        let listed = |id| ListedDivision { id, name: format!("Division {id}"), active: true };
        Ok([11, 12, 13].into_iter().filter(there).map(listed).collect())
    }
}

fn level(side: ThresholdSide, at: &str, notify: &[&str]) -> Level {
    let threshold = ThresholdAmount { value: parse_amount(at).unwrap(), currency: None };
    let clear_at =
        (side == ThresholdSide::Above).then(|| ThresholdAmount { value: parse_amount("0").unwrap(), currency: None });
    let mut level = Level::new(side, threshold, clear_at).unwrap();
    level.notify = notify.iter().map(|name| Name::from(*name)).collect();
    level
}

fn rules() -> Arc<[Rule]> {
    let mut critical = level(ThresholdSide::Below, "500", &["slack", "pager"]);
    critical.remind_every = Some(Duration::from_secs(12 * 3600));
    let warning = level(ThresholdSide::Below, "2000", &["slack"]);
    let funds = Rule::new("funds".into(), Metric::AvailableFunds, Some(warning), Some(critical)).unwrap();
    let mut unpaid = level(ThresholdSide::Above, "1000", &["mail"]);
    unpaid.hold = Duration::from_secs(12 * 3600);
    vec![funds, Rule::new("invoices".into(), Metric::UnpaidInvoices, Some(unpaid), None).unwrap()].into()
}

fn pollers(run: &Arc<ProcessRun>, clock: &Arc<dyn Clock>) -> Vec<Poller> {
    let rules = rules();
    let unreadable = Arc::new(UnreadablePolicy {
        after: Duration::from_secs(12 * 3600),
        level: Severity::Warning,
        remind_every: Some(Duration::from_secs(12 * 3600)),
        notify: vec!["mail".into()],
    });
    let poller = |(name, scope): (&'static str, DivisionScope)| Poller {
        policy: AccountPolicy {
            account: name.into(),
            scope,
            rules: Arc::clone(&rules),
            unreadable: Arc::clone(&unreadable),
            silences: [].into(),
            incident_notifiers: Arc::default(),
        },
        source: Arc::new(ScriptedAccount { name, clock: Arc::clone(clock), run: Arc::clone(run) }),
        history: None,
        clock: Arc::clone(clock),
    };
    [("acme", DivisionScope::All(BTreeSet::new())), ("beta", DivisionScope::Undivided)]
        .into_iter()
        .map(poller)
        .collect()
}

const NOTIFIERS: [(&str, Option<&str>, &[&str]); 3] = [
    ("slack", Some("mail"), &[""]),
    ("pager", Some("slack"), &[""]),
    ("mail", None, &["a@example.com", "b@example.com"]),
];

/// How and when the process dies, and how long it stays dead.
pub struct CrashPlan {
    /// Steps from one birth to the next death; when it is exhausted, the process lives on.
    pub steps_to_crash: Box<dyn Iterator<Item = usize> + Send>,
    /// Cycles that are missed after each death; none: it starts again at once.
    pub missed: Box<dyn Iterator<Item = i64> + Send>,
    /// The disk says that it saved, and did not.
    pub disk_loses_writes: bool,
    /// Which writes, counted from 0, find the disk full.
    pub full_disk: Option<fn(usize) -> bool>,
    /// Nobody tries again to save what could not be saved.
    pub one_try: bool,
}

impl CrashPlan {
    /// Nothing happens.
    pub fn without_crashes() -> Self {
        Self::crashing_after(std::iter::empty())
    }

    /// Dies after so many steps of each life, and starts again at once.
    pub fn crashing_after(lives: impl Iterator<Item = usize> + Send + 'static) -> Self {
        Self {
            steps_to_crash: Box::new(lives),
            missed: Box::new(std::iter::repeat(0)),
            disk_loses_writes: false,
            full_disk: None,
            one_try: false,
        }
    }
}

/// What a month came to.
pub struct MonthResult {
    /// Who was told what, and how often.
    pub notified: BTreeMap<Notification, usize>,
    /// The event ids under which it was told.
    pub ids: BTreeMap<Notification, BTreeSet<String>>,
    /// How many deaths fell between the send and its mark, by what was sent.
    pub excused: BTreeMap<Notification, usize>,
    /// Where the process died.
    pub crashes: Vec<&'static str>,
    /// Every step that was taken.
    pub steps: usize,
    /// What was on disk as owed, and by which notifier.
    pub queued: BTreeSet<(String, Notification)>,
    /// What is remembered at the end.
    pub state: State,
    /// How many writes were tried.
    pub writes: usize,
    /// The largest file that was ever saved with something of everything in it.
    pub fullest: Vec<u8>,
}

/// Plays the month to its end.
pub fn run_month(plan: CrashPlan) -> MonthResult {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(run_processes(plan))
}

async fn run_processes(mut plan: CrashPlan) -> MonthResult {
    let world = Arc::new(OutsideWorld {
        loses_writes: plan.disk_loses_writes,
        full: plan.full_disk,
        one_try: plan.one_try,
        ..OutsideWorld::default()
    });
    let clock: Arc<dyn Clock> = VirtualClock::begin();
    loop {
        let run = Arc::new(ProcessRun {
            world: Arc::clone(&world),
            has_crashed: AtomicBool::new(false),
            crashed: Notify::new(),
        });
        let steps = world.steps.load(Ordering::SeqCst);
        world
            .crash_at
            .store(plan.steps_to_crash.next().map_or(usize::MAX, |more| steps + more.max(1)), Ordering::SeqCst);
        tokio::select! {
            () = run_process(&run, &clock) => break,
            () = run.crashed.notified() => {}
        }
        let pause = plan.missed.next().unwrap_or(0);
        if pause > 0 {
            let last = (clock.now() - epoch()).num_hours() / PERIOD;
            let next = (last + pause).min(END / PERIOD - 8); // the month's last days are for coming to rest
            until(&clock, hours(next * PERIOD)).await;
        }
    }
    let bytes = world.disk.lock().unwrap().clone();
    let taken = |it: &Mutex<BTreeMap<Notification, usize>>| it.lock().unwrap().clone();
    MonthResult {
        notified: taken(&world.notified),
        ids: world.ids.lock().unwrap().clone(),
        excused: taken(&world.excused),
        crashes: world.crashes.lock().unwrap().clone(),
        steps: world.steps.load(Ordering::SeqCst),
        queued: world.queued.lock().unwrap().clone(),
        writes: world.writes.load(Ordering::SeqCst),
        fullest: world.fullest.lock().unwrap().clone(),
        state: bytes.map(|bytes| state::decode(&bytes).unwrap().state).unwrap_or_default(),
    }
}

async fn until(clock: &Arc<dyn Clock>, time: Time) {
    clock.sleep((time - clock.now()).to_std().unwrap_or_default()).await;
}

/// One life, as `app::run` would live it: load, forget what is not configured, workers, a cycle at once and then by the
/// clock. Returns at the end of the month.
async fn run_process(run: &Arc<ProcessRun>, clock: &Arc<dyn Clock>) {
    let bytes = run.world.disk.lock().unwrap().clone();
    // As the file store would: a missing file is an empty state, and what it wrote itself it never refuses.
    let state =
        bytes.map(|bytes| state::decode(&bytes).expect("a state that was saved is read").state).unwrap_or_default();
    let store = Arc::new(StateStore::new(state, Arc::new(CrashingBackend(Arc::clone(run)))));
    let pollers = pollers(run, clock);
    let everyone: BTreeSet<Name> = NOTIFIERS.iter().map(|(name, ..)| Name::from(*name)).collect();
    store
        .change(|state| {
            let policies: Vec<&AccountPolicy> = pollers.iter().map(|poller| &poller.policy).collect();
            let gone = end_unconfigured_alerts(state, &policies, clock.now());
            let dropped = state.drop_unconfigured_notifiers(|name| everyone.contains(name));
            assert!(gone.is_empty() && dropped.is_empty(), "all of it is configured");
            ((), false)
        })
        .await;
    let stop = CancellationToken::new();
    let mut workers = JoinSet::new();
    for (name, fallback, recipients) in NOTIFIERS {
        let (clock, run) = (Arc::clone(clock), Arc::clone(run));
        let channel = ScriptedNotifier { name, recipients, clock: Arc::clone(&clock), run };
        let desk = Route { notifier: Arc::new(channel), fallback: fallback.map(Name::from), quiet_hours: None };
        workers.spawn(
            DeliveryWorker::new(name.into(), desk, everyone.clone(), Arc::clone(&store), clock).run(stop.clone()),
        );
    }
    let (store_to_retry, its_clock) = (Arc::clone(&store), Arc::clone(clock));
    if !run.world.one_try {
        workers.spawn(async move { store_to_retry.retry_saves(its_clock.as_ref()).await });
    }

    let mut states: Vec<PollerState> = pollers.iter().map(|_| PollerState::default()).collect();
    let mut planned = clock.now();
    while planned < hours(END) {
        let number = (planned - epoch()).num_hours() / PERIOD;
        let cycles = pollers.iter().zip(&mut states);
        let cycles = cycles.map(|(poller, state)| poller.run_cycle(state, &store, planned));
        futures_util::future::join_all(cycles).await;
        planned = hours((number + 1) * PERIOD);
        until(clock, planned).await;
    }
}

/// The kinds that nothing may ever swallow.
pub fn is_transition(kind: &str) -> bool {
    [TransitionKind::Raised, TransitionKind::Escalated, TransitionKind::Eased, TransitionKind::Resolved]
        .iter()
        .any(|it| it.name() == kind)
        || kind == "unwatched"
}
