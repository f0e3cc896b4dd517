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

use async_trait::async_trait;
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
use lowtide::polling::poller;
use lowtide::polling::poller::{AccountPolicy, DivisionScope, PollerState};
use lowtide::state;
use lowtide::state::{JsonPieces, StateBackend, StateStore};
use lowtide::util::clock::Clock;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::stepped::Stepped;
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
enum Says {
    /// So much money, so many unpaid invoices.
    Has(&'static str, &'static str),
    Maintenance,
    Refuses,
    /// Not listed any more.
    Gone,
}

use Says::{Gone, Has, Maintenance, Refuses};

/// Balances by account and division: from which hour on, and what.
fn script(account: &str, division: Division) -> Vec<(i64, Says)> {
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
            (day(7, 0), Maintenance), // its alert stands still
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

fn says(account: &str, division: Division, at: Time) -> Says {
    let script = script(account, division);
    script.iter().rev().find(|(from, _)| hours(*from) <= at).unwrap().1
}

fn within(at: Time, from: i64, to: i64) -> bool {
    hours(from) <= at && at < hours(to)
}

/// What becomes of a send.
enum Luck {
    Good,
    /// A failure of the moment.
    Fails,
    /// A refusal for good.
    Refused,
    /// This recipient is put off.
    PutsOff(&'static str),
}

fn luck(notifier: &str, at: Time) -> Luck {
    match notifier {
        "slack" if within(at, day(5, 2), day(5, 20)) || within(at, day(25, 2), day(27, 3)) => Luck::Fails,
        "pager" if within(at, day(10, 0), day(11, 3)) => Luck::Refused,
        "mail" if within(at, day(15, 0), day(16, 1)) => Luck::PutsOff("b@example.com"),
        _ => Luck::Good,
    }
}

/// How long a send takes that fails.
const TIMEOUT: Duration = Duration::from_secs(100);

/// A notifier that is down is tried every few minutes for days. Where it is to die for it, that is when the fallback is
/// asked (after five minutes) and when everybody hears of it (after an hour).
fn is_of_interest(at: Time) -> bool {
    let minutes = (at - epoch()).num_minutes() % (PERIOD * 60);
    minutes < 9 || (58..66).contains(&minutes)
}

/// What somebody was told, without what differs from run to run: the time of a retry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
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

fn told(who: &str, event: &Event) -> Told {
    let seconds = |at: Time| (at - epoch()).num_seconds();
    let cycle_of = |at: Time| hours((at - epoch()).num_hours() / PERIOD * PERIOD);
    let level = event.level().map_or("-".to_owned(), |level| level.to_string());
    let (alert, kind, at) = match &event.subject {
        EventSubject::Threshold(it) => (lowtide::alerting::process::alert_label(&it.key), it.kind.name(), event.at),
        EventSubject::Unreadable(it) => (lowtide::alerting::process::alert_label(&it.key), it.kind.name(), event.at),
        EventSubject::AlertEnded { key, .. } => (lowtide::alerting::process::alert_label(key), "ended", event.at),
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
    Told { who: who.to_owned(), alert, kind, level, at: seconds(at) }
}

/// What is sent and not yet marked on disk: by notifier, event id and recipient.
type InFlight = BTreeMap<(String, String, String), Told>;

/// What outlives the process: the disk, the people, and the one who pulls the plug.
#[derive(Default)]
pub struct Outside {
    /// Held for each deed in the world and for each death: a deed is done before the death, or not at all.
    plug: Mutex<()>,
    disk: Mutex<Option<Vec<u8>>>,
    told: Mutex<BTreeMap<Told, usize>>,
    in_flight: Mutex<InFlight>,
    /// How many deaths fell between the send and its mark, by what was sent.
    pardoned: Mutex<BTreeMap<Told, usize>>,
    ids: Mutex<BTreeMap<Told, BTreeSet<String>>>,
    /// What was on disk as owed, by notifier.
    promised: Mutex<BTreeSet<(String, Told)>>,
    steps: AtomicUsize,
    die_at: AtomicUsize,
    deaths: Mutex<Vec<&'static str>>,
    /// The disk says that it saved, and did not.
    forgets: bool,
    /// Which writes, counted from 0, find the disk full.
    full: Option<fn(usize) -> bool>,
    /// Nobody tries again to save what could not be saved: half a million tries in a month would prove no more.
    one_try: bool,
    writes: AtomicUsize,
    /// The largest file that was ever saved with something of everything in it.
    fullest: Mutex<Vec<u8>>,
}

/// One life of the process.
struct Life {
    outside: Arc<Outside>,
    over: AtomicBool,
    died: Notify,
}

impl Life {
    /// Takes a step. `false`: the process died here, or before.
    fn step(&self, what: &'static str) -> bool {
        let _plug = self.outside.plug.lock().unwrap();
        if self.over.load(Ordering::SeqCst) {
            return false;
        }
        let step = self.outside.steps.fetch_add(1, Ordering::SeqCst) + 1;
        if step != self.outside.die_at.load(Ordering::SeqCst) {
            return true;
        }
        self.over.store(true, Ordering::SeqCst);
        self.outside.deaths.lock().unwrap().push(what);
        let in_flight = std::mem::take(&mut *self.outside.in_flight.lock().unwrap());
        let mut pardoned = self.outside.pardoned.lock().unwrap();
        for told in in_flight.into_values() {
            *pardoned.entry(told).or_default() += 1;
        }
        self.died.notify_one();
        false
    }

    async fn step_or_end(&self, what: &'static str) {
        if !self.step(what) {
            std::future::pending::<()>().await;
        }
    }
}

/// The disk of one life.
struct Disk(Arc<Life>);

impl StateBackend for Disk {
    fn save(&self, json: &JsonPieces) -> std::io::Result<()> {
        let json = json.to_bytes();
        let gone = || std::io::Error::other("this process is dead");
        if !self.0.step("before a save") {
            return Err(gone());
        }
        let outside = &self.0.outside;
        let write = outside.writes.fetch_add(1, Ordering::SeqCst);
        if outside.full.is_some_and(|full| full(write)) {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        let state = state::decode(&json).unwrap().state;
        let plug = outside.plug.lock().unwrap();
        if self.0.over.load(Ordering::SeqCst) {
            return Err(gone());
        }
        let mut fullest = outside.fullest.lock().unwrap();
        let of_everything = !(state.alerts.is_empty() || state.queue.is_empty() || state.failing_notifiers.is_empty());
        if of_everything && json.len() > fullest.len() {
            fullest.clone_from(&json);
        }
        drop(fullest);
        if !outside.forgets {
            *outside.disk.lock().unwrap() = Some(json);
            let mut promised = outside.promised.lock().unwrap();
            for owed in &state.queue {
                promised.extend(owed.pending.keys().map(|name| (name.to_string(), told("", &owed.event))));
            }
        }
        let mut in_flight = outside.in_flight.lock().unwrap();
        if !in_flight.is_empty() {
            let still = |notifier: &str, id: &str, recipient: &String| {
                let owed = state.pending_for(notifier).find(|(event, _)| event.id == id);
                owed.is_some_and(|(_, owing)| {
                    owing.remaining_recipients.as_ref().is_none_or(|only| only.contains(recipient))
                })
            };
            in_flight.retain(|(notifier, id, recipient), _| still(notifier, id, recipient));
        }
        drop((in_flight, plug));
        if self.0.step("after a save") { Ok(()) } else { Err(gone()) }
    }
}

/// One notifier in one life.
struct Channel {
    name: &'static str,
    recipients: &'static [&'static str],
    clock: Arc<dyn Clock>,
    life: Arc<Life>,
}

#[async_trait]
impl Notifier for Channel {
    async fn send(&self, message: &Message) -> Result<Delivered, SendError> {
        let answer_at = self.clock.now();
        let fails = matches!(luck(self.name, answer_at), Luck::Fails);
        let of_interest = !fails || is_of_interest(answer_at);
        if of_interest {
            self.life.step_or_end("before a send").await;
        }
        let answer = self.answer(message);
        if fails {
            self.clock.sleep(TIMEOUT).await;
        }
        if of_interest {
            self.life.step_or_end("after a send").await;
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

impl Channel {
    fn answer(&self, message: &Message) -> Result<Delivered, SendError> {
        let fails = |permanent| {
            let reason = "no luck today".to_owned();
            Err(SendError { permanent, reason, retry_after: None, refused: Vec::new() })
        };
        let put_off = match luck(self.name, self.clock.now()) {
            Luck::Fails => return fails(false),
            Luck::Refused => return fails(true),
            Luck::PutsOff(recipient) => Some(recipient),
            Luck::Good => None,
        };
        let wanted =
            |it: &&&str| message.remaining_recipients.as_ref().is_none_or(|only| only.iter().any(|one| one == **it));
        let (later, now): (Vec<&str>, Vec<&str>) =
            self.recipients.iter().filter(wanted).copied().partition(|it| put_off == Some(*it));
        if now.is_empty() {
            return fails(false);
        }
        self.tell(message, &now);
        let refusal = |it: &&str| RecipientRefusal { recipient: (*it).to_owned(), reason: "450 later".to_owned() };
        Ok(Delivered {
            message_id: Some(format!("<{}@{}>", message.id, self.name)),
            deferred: later.iter().map(refusal).collect(),
            refused: Vec::new(),
        })
    }

    fn tell(&self, message: &Message, recipients: &[&str]) {
        let MessageContent::Events(items) = &message.content else { panic!("no events") };
        let outside = &self.life.outside;
        let _plug = outside.plug.lock().unwrap();
        if self.life.over.load(Ordering::SeqCst) {
            return;
        }
        for item in items {
            for recipient in recipients {
                let who =
                    if recipient.is_empty() { self.name.to_owned() } else { format!("{}:{recipient}", self.name) };
                let told = told(&who, &item.event);
                *outside.told.lock().unwrap().entry(told.clone()).or_default() += 1;
                outside.ids.lock().unwrap().entry(told.clone()).or_default().insert(item.event.id.clone());
                let key = (self.name.to_owned(), item.event.id.clone(), (*recipient).to_owned());
                outside.in_flight.lock().unwrap().insert(key, told);
            }
        }
    }
}

/// One account in one life.
struct Account {
    name: &'static str,
    clock: Arc<dyn Clock>,
    life: Arc<Life>,
}

fn unreadable(kind: ReadErrorKind) -> ReadError {
    ReadError { kind, reason: "it answered badly".to_owned() }
}

#[async_trait]
impl BalanceSource for Account {
    async fn balance(&self, division: Division) -> Result<Balance, ReadError> {
        self.life.step_or_end("before a reading").await;
        let amount = |text: &str| Ok(parse_amount(text).unwrap());
        match says(self.name, division, self.clock.now()) {
            Has(balance, unpaid) => Ok(Balance {
                currency: Ok(Currency::parse("USD").unwrap()),
                balance: amount(balance),
                unpaid_invoices: amount(unpaid),
                used_credit: amount("0"),
                credit_limit: Ok(Some(parse_amount(unpaid).unwrap())), // invoices do not move the funds
                unlimited: Ok(false),
                reported_total: Ok(None),
            }),
            Maintenance => Err(unreadable(ReadErrorKind::Server)),
            Refuses | Gone => Err(unreadable(ReadErrorKind::Refused)),
        }
    }

    async fn divisions(&self) -> Result<Vec<ListedDivision>, ReadError> {
        self.life.step_or_end("before a listing").await;
        let now = self.clock.now();
        if within(now, day(23, 6), day(23, 12)) {
            return Err(unreadable(ReadErrorKind::Refused));
        }
        let there = |id: &u64| !matches!(says(self.name, Some(*id), now), Gone);
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

fn watches(life: &Arc<Life>, clock: &Arc<dyn Clock>) -> Vec<AccountPolicy> {
    let rules = rules();
    let policy = Arc::new(UnreadablePolicy {
        after: Duration::from_secs(12 * 3600),
        level: Severity::Warning,
        remind_every: Some(Duration::from_secs(12 * 3600)),
        notify: vec!["mail".into()],
    });
    let watch = |(name, scope): (&'static str, DivisionScope)| AccountPolicy {
        account: name.into(),
        source: Arc::new(Account { name, clock: Arc::clone(clock), life: Arc::clone(life) }),
        scope,
        rules: Arc::clone(&rules),
        unreadable: Arc::clone(&policy),
        silences: [].into(),
        incident_notifiers: Arc::default(),
        history: None,
    };
    [("acme", DivisionScope::All(BTreeSet::new())), ("beta", DivisionScope::Undivided)].into_iter().map(watch).collect()
}

const NOTIFIERS: [(&str, Option<&str>, &[&str]); 3] = [
    ("slack", Some("mail"), &[""]),
    ("pager", Some("slack"), &[""]),
    ("mail", None, &["a@example.com", "b@example.com"]),
];

/// How and when the process dies, and how long it stays dead.
pub struct Plan {
    /// Steps from one birth to the next death; when it is exhausted, the process lives on.
    pub lives: Box<dyn Iterator<Item = usize> + Send>,
    /// Cycles that are missed after each death; none: it starts again at once.
    pub missed: Box<dyn Iterator<Item = i64> + Send>,
    /// The disk says that it saved, and did not.
    pub forgetful_disk: bool,
    /// Which writes, counted from 0, find the disk full.
    pub full_disk: Option<fn(usize) -> bool>,
    /// Nobody tries again to save what could not be saved.
    pub one_try: bool,
}

impl Plan {
    /// Nothing happens.
    pub fn calm() -> Self {
        Self::dying(std::iter::empty())
    }

    /// Dies after so many steps of each life, and starts again at once.
    pub fn dying(lives: impl Iterator<Item = usize> + Send + 'static) -> Self {
        Self {
            lives: Box::new(lives),
            missed: Box::new(std::iter::repeat(0)),
            forgetful_disk: false,
            full_disk: None,
            one_try: false,
        }
    }
}

/// What a month came to.
pub struct Month {
    /// Who was told what, and how often.
    pub told: BTreeMap<Told, usize>,
    /// The event ids under which it was told.
    pub ids: BTreeMap<Told, BTreeSet<String>>,
    /// How many deaths fell between the send and its mark, by what was sent.
    pub pardoned: BTreeMap<Told, usize>,
    /// Where the process died.
    pub deaths: Vec<&'static str>,
    /// Every step that was taken.
    pub steps: usize,
    /// What was on disk as owed, and by which notifier.
    pub promised: BTreeSet<(String, Told)>,
    /// What is remembered at the end.
    pub state: State,
    /// How many writes were tried.
    pub writes: usize,
    /// The largest file that was ever saved with something of everything in it.
    pub fullest: Vec<u8>,
}

/// Plays the month to its end.
pub fn play(plan: Plan) -> Month {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(live_through(plan))
}

async fn live_through(mut plan: Plan) -> Month {
    let outside = Arc::new(Outside {
        forgets: plan.forgetful_disk,
        full: plan.full_disk,
        one_try: plan.one_try,
        ..Outside::default()
    });
    let clock: Arc<dyn Clock> = Stepped::begin();
    loop {
        let life = Arc::new(Life { outside: Arc::clone(&outside), over: AtomicBool::new(false), died: Notify::new() });
        let steps = outside.steps.load(Ordering::SeqCst);
        outside.die_at.store(plan.lives.next().map_or(usize::MAX, |more| steps + more.max(1)), Ordering::SeqCst);
        tokio::select! {
            () = live(&life, &clock) => break,
            () = life.died.notified() => {}
        }
        let pause = plan.missed.next().unwrap_or(0);
        if pause > 0 {
            let last = (clock.now() - epoch()).num_hours() / PERIOD;
            let next = (last + pause).min(END / PERIOD - 8); // the month's last days are for coming to rest
            until(&clock, hours(next * PERIOD)).await;
        }
    }
    let bytes = outside.disk.lock().unwrap().clone();
    let taken = |it: &Mutex<BTreeMap<Told, usize>>| it.lock().unwrap().clone();
    Month {
        told: taken(&outside.told),
        ids: outside.ids.lock().unwrap().clone(),
        pardoned: taken(&outside.pardoned),
        deaths: outside.deaths.lock().unwrap().clone(),
        steps: outside.steps.load(Ordering::SeqCst),
        promised: outside.promised.lock().unwrap().clone(),
        writes: outside.writes.load(Ordering::SeqCst),
        fullest: outside.fullest.lock().unwrap().clone(),
        state: bytes.map(|bytes| state::decode(&bytes).unwrap().state).unwrap_or_default(),
    }
}

async fn until(clock: &Arc<dyn Clock>, time: Time) {
    clock.sleep((time - clock.now()).to_std().unwrap_or_default()).await;
}

/// One life, as `app::run` would live it: load, forget what is not configured, workers, a cycle at once and then by the
/// clock. Returns at the end of the month.
async fn live(life: &Arc<Life>, clock: &Arc<dyn Clock>) {
    let bytes = life.outside.disk.lock().unwrap().clone();
    // As the file store would: a missing file is an empty state, and what it wrote itself it never refuses.
    let state =
        bytes.map(|bytes| state::decode(&bytes).expect("a state that was saved is read").state).unwrap_or_default();
    let book = Arc::new(StateStore::new(state, Arc::new(Disk(Arc::clone(life)))));
    let watches = watches(life, clock);
    let everyone: BTreeSet<Name> = NOTIFIERS.iter().map(|(name, ..)| Name::from(*name)).collect();
    book.change(|state| {
        let gone = lowtide::alerting::process::end_unconfigured_alerts(
            state,
            &watches.iter().collect::<Vec<_>>(),
            clock.now(),
        );
        let dropped = state.drop_unconfigured_notifiers(|name| everyone.contains(name));
        assert!(gone.is_empty() && dropped.is_empty(), "all of it is configured");
        ((), false)
    })
    .await;
    let (_stop, stopped) = watch::channel(false);
    let mut workers = JoinSet::new();
    for (name, fallback, recipients) in NOTIFIERS {
        let (clock, life) = (Arc::clone(clock), Arc::clone(life));
        let channel = Channel { name, recipients, clock: Arc::clone(&clock), life };
        let desk = Route { notifier: Arc::new(channel), fallback: fallback.map(Name::from), quiet_hours: None };
        workers.spawn(
            DeliveryWorker::new(name.into(), desk, everyone.clone(), Arc::clone(&book), clock).run(stopped.clone()),
        );
    }
    let (again, its_clock) = (Arc::clone(&book), Arc::clone(clock));
    if !life.outside.one_try {
        workers.spawn(async move { again.retry_saves(its_clock.as_ref()).await });
    }

    let mut memories: Vec<PollerState> = watches.iter().map(|_| PollerState::default()).collect();
    let mut planned = clock.now();
    while planned < hours(END) {
        let number = (planned - epoch()).num_hours() / PERIOD;
        let cycles = watches.iter().zip(&mut memories);
        let cycles = cycles.map(|(watch, memory)| poller::run_cycle(watch, memory, &book, clock.as_ref(), planned));
        futures_util::future::join_all(cycles).await;
        planned = hours((number + 1) * PERIOD);
        until(clock, planned).await;
    }
}

/// The kinds that nothing may ever swallow.
pub fn is_a_move(kind: &str) -> bool {
    [TransitionKind::Raised, TransitionKind::Escalated, TransitionKind::Eased, TransitionKind::Resolved]
        .iter()
        .any(|it| it.name() == kind)
        || kind == "unwatched"
}
