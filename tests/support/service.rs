//! The service without a process: the real scheduler, poller, state and delivery, with balances that the test sets, channels that
//! record, and a clock that the test steps and sets. No real time passes: run it on tokio's paused time.

use lowtide::util::shutdown::StagedShutdown;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use async_trait::async_trait;
use lowtide::alerting::policy::{AccountPolicy, DivisionScope};
use lowtide::alerting::state::State;
use lowtide::certcentral::{BalanceSource, ListedDivision, ReadError};
use lowtide::domain::balance::Balance;
use lowtide::domain::event::{Event, EventSubject};
use lowtide::domain::money::{Currency, parse_amount};
use lowtide::domain::rule::{Level, Metric, Rule, Severity, ThresholdAmount, ThresholdSide, UnreadablePolicy};
use lowtide::domain::schedule::Schedule;
use lowtide::domain::{Division, Name, Time};
use lowtide::notify::delivery::{DeliveryWorker, Route};
use lowtide::notify::{Delivered, Message, MessageContent, Notifier, SendError};
use lowtide::polling::poller::{Poller, PollerState};
use lowtide::polling::scheduler;
use lowtide::state::{JsonPieces, StateBackend, StateStore};
use lowtide::util::clock::Clock;
use rust_decimal::Decimal;
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_cron_scheduler::JobScheduler;

/// A clock that can be set. Waits follow elapsed time, as with a machine's monotonic clock.
pub struct JumpingClock {
    start: Time,
    began: Instant,
    offset_ms: AtomicI64,
}

impl JumpingClock {
    pub fn new(start: Time) -> Arc<Self> {
        Arc::new(Self { start, began: Instant::now(), offset_ms: AtomicI64::new(0) })
    }

    /// Sets the clock forward or back.
    pub fn jump(&self, by: chrono::Duration) {
        self.offset_ms.fetch_add(by.num_milliseconds(), Ordering::SeqCst);
    }

    /// Returns the elapsed time, independent of jumps.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

#[async_trait]
impl Clock for JumpingClock {
    fn now(&self) -> Time {
        let offset = chrono::Duration::milliseconds(self.offset_ms.load(Ordering::SeqCst));
        self.start + chrono::Duration::from_std(self.began.elapsed()).unwrap() + offset
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// A source with balances that the test sets. Records the time of each read, by the clock and in elapsed time.
pub struct TestFunds {
    clock: Arc<JumpingClock>,
    amounts: Mutex<BTreeMap<Division, Decimal>>,
    reads: Mutex<Vec<(Time, Duration)>>,
}

impl TestFunds {
    pub fn new(clock: &Arc<JumpingClock>, divisions: impl IntoIterator<Item = Division>, amount: i64) -> Arc<Self> {
        let amounts = divisions.into_iter().map(|division| (division, Decimal::from(amount))).collect();
        Arc::new(Self { clock: Arc::clone(clock), amounts: Mutex::new(amounts), reads: Mutex::default() })
    }

    /// Sets the balance of each division.
    pub fn set(&self, amount: impl Fn(Division) -> i64) {
        self.amounts.lock().unwrap().iter_mut().for_each(|(division, it)| *it = Decimal::from(amount(*division)));
    }

    /// Returns the times of the reads by the clock.
    pub fn read_at(&self) -> Vec<Time> {
        self.reads.lock().unwrap().iter().map(|(at, _)| *at).collect()
    }

    /// Returns the times of the reads in elapsed time.
    pub fn read_after(&self) -> Vec<Duration> {
        self.reads.lock().unwrap().iter().map(|(_, after)| *after).collect()
    }
}

pub fn balance(amount: Decimal) -> Balance {
    Balance {
        currency: Ok(Currency::parse("USD").unwrap()),
        balance: Ok(amount),
        unpaid_invoices: Ok(Decimal::ZERO),
        used_credit: Ok(Decimal::ZERO),
        credit_limit: Ok(Some(Decimal::ZERO)),
        unlimited: Ok(false),
        reported_total: Ok(None),
    }
}

#[async_trait]
impl BalanceSource for TestFunds {
    async fn balance(&self, division: Division) -> Result<Balance, ReadError> {
        self.reads.lock().unwrap().push((self.clock.now(), self.clock.elapsed()));
        Ok(balance(self.amounts.lock().unwrap()[&division]))
    }

    async fn divisions(&self) -> Result<Vec<ListedDivision>, ReadError> {
        let ids: Vec<u64> = self.amounts.lock().unwrap().keys().copied().flatten().collect();
        Ok(ids.into_iter().map(|id| ListedDivision { id, name: format!("Division {id}"), active: true }).collect())
    }
}

/// Returns a short description of an event.
pub fn event_word(event: &Event) -> String {
    match &event.subject {
        EventSubject::Threshold(it) => it.kind.name().to_owned(),
        EventSubject::Unreadable(it) => format!("unreadable {}", it.kind.name()),
        EventSubject::AlertEnded { key, .. } => format!("{} ended", key.rule),
        EventSubject::NotifierRemoved { notifier } => format!("{notifier} removed"),
        EventSubject::Unwatched { .. } => "unwatched".to_owned(),
        EventSubject::NotifierFailing { notifier, .. } => format!("{notifier} fails"),
        EventSubject::NotifierRecovered { notifier, .. } => format!("{notifier} works"),
        EventSubject::Report(page) => format!("report {}", page.name),
    }
}

type NotifierAnswer = Box<dyn Fn(&Message) -> Result<Delivered, SendError> + Send + Sync>;

/// A channel that answers as the test sets it. Records each message with its elapsed time and whether it was accepted.
pub struct RecordingNotifier {
    clock: Arc<JumpingClock>,
    answer: Mutex<NotifierAnswer>,
    pub sent: Mutex<Vec<(Duration, bool, Message)>>,
}

impl RecordingNotifier {
    pub fn new(clock: &Arc<JumpingClock>) -> Arc<Self> {
        let answer: NotifierAnswer = Box::new(|_| Ok(Delivered::default()));
        Arc::new(Self { clock: Arc::clone(clock), answer: Mutex::new(answer), sent: Mutex::default() })
    }

    pub fn answers(&self, answer: impl Fn(&Message) -> Result<Delivered, SendError> + Send + Sync + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    /// Returns the descriptions of the events that were delivered since this elapsed time.
    pub fn words_since(&self, since: Duration) -> Vec<String> {
        let sent = self.sent.lock().unwrap();
        let taken = sent.iter().filter(|(at, taken, _)| *taken && *at >= since);
        taken.flat_map(|(_, _, message)| items(message).iter().map(|item| event_word(&item.event))).collect()
    }

    /// Returns the elapsed time at which the first event with this description was delivered after `since`.
    pub fn first(&self, word: &str, since: Duration) -> Option<Duration> {
        let sent = self.sent.lock().unwrap();
        let mut taken = sent.iter().filter(|(at, taken, _)| *taken && *at >= since);
        taken.find(|(_, _, it)| items(it).iter().any(|item| event_word(&item.event) == word)).map(|(at, ..)| *at)
    }
}

pub fn items(message: &Message) -> &[lowtide::notify::MessageEvent] {
    match &message.content {
        MessageContent::Events(items) => items,
        MessageContent::Test { .. } => panic!("unexpected test message"),
    }
}

pub fn fails(retry_after: Option<Duration>) -> Result<Delivered, SendError> {
    Err(SendError { permanent: false, reason: "Slack answered 429".to_owned(), retry_after, refused: Vec::new() })
}

#[async_trait]
impl Notifier for RecordingNotifier {
    async fn send(&self, message: &Message) -> Result<Delivered, SendError> {
        let answer = (self.answer.lock().unwrap())(message);
        self.sent.lock().unwrap().push((self.clock.elapsed(), answer.is_ok(), message.clone()));
        answer
    }
}

/// A backend that accepts every save. Records the last state, the size of the largest, and the bytes written in total.
#[derive(Default)]
pub struct RecordingBackend {
    pub largest: Mutex<usize>,
    pub last: Mutex<Vec<u8>>,
    pub saves: AtomicUsize,
    pub written: AtomicUsize,
}

impl StateBackend for RecordingBackend {
    fn save(&self, json: &JsonPieces) -> std::io::Result<()> {
        let json = json.to_bytes();
        self.saves.fetch_add(1, Ordering::SeqCst);
        self.written.fetch_add(json.len(), Ordering::SeqCst);
        let mut largest = self.largest.lock().unwrap();
        *largest = (*largest).max(json.len());
        *self.last.lock().unwrap() = json;
        Ok(())
    }
}

/// Returns a rule with warning below 2000 and critical below 500.
pub fn rule(hold: Duration, remind_every: Duration, notify: &[&str]) -> Rule {
    let level = |below: &str| {
        let threshold = ThresholdAmount { value: parse_amount(below).unwrap(), currency: None };
        let mut level = Level::new(ThresholdSide::Below, threshold, None).unwrap();
        level.hold = hold;
        level.remind_every = Some(remind_every);
        level.notify = notify.iter().map(|name| Name::from(*name)).collect();
        level
    };
    Rule::new("funds".into(), Metric::AvailableFunds, Some(level("2000")), Some(level("500"))).unwrap()
}

pub fn policy(scope: DivisionScope, rule: Rule) -> AccountPolicy {
    let notify = rule.level(Severity::Warning).unwrap().notify.clone();
    AccountPolicy {
        account: "acme".into(),
        scope,
        rules: vec![rule].into(),
        unreadable: Arc::new(UnreadablePolicy {
            after: Duration::from_secs(3 * 3600),
            level: Severity::Warning,
            remind_every: Some(Duration::from_secs(24 * 3600)),
            notify,
        }),
        silences: [].into(),
        incident_notifiers: Arc::default(),
    }
}

/// Returns a poller without ledger and orders.
pub fn poller(source: Arc<dyn BalanceSource>, clock: &Arc<JumpingClock>, policy: AccountPolicy) -> Arc<Poller> {
    Arc::new(Poller { policy, source, history: None, clock: Arc::clone(clock) as Arc<dyn Clock> })
}

/// A running service.
pub struct TestService {
    pub clock: Arc<JumpingClock>,
    pub store: Arc<StateStore>,
    stop: CancellationToken,
    shutdown: StagedShutdown,
    tasks: JoinSet<()>,
}

impl TestService {
    /// Starts the service with these notifiers: name, fallback, channel.
    pub async fn start(
        clock: &Arc<JumpingClock>,
        poller: Arc<Poller>,
        schedule: Schedule,
        notifiers: &[(&str, Option<&str>, &Arc<RecordingNotifier>)],
    ) -> Self {
        let store =
            Arc::new(StateStore::new(State::default(), Arc::new(RecordingBackend::default()) as Arc<dyn StateBackend>));
        let stop = CancellationToken::new();
        let everyone: BTreeSet<Name> = notifiers.iter().map(|(name, ..)| Name::from(*name)).collect();
        let mut tasks = JoinSet::new();
        for (name, fallback, notifier) in notifiers {
            let route = Route {
                notifier: Arc::clone(notifier) as Arc<dyn Notifier>,
                fallback: fallback.map(Name::from),
                quiet_hours: None,
            };
            let clock = Arc::clone(clock) as Arc<dyn Clock>;
            let worker = DeliveryWorker::new((*name).into(), route, everyone.clone(), Arc::clone(&store), clock);
            tasks.spawn(worker.run(stop.clone()));
        }
        // The cron scheduler follows the system's clock, which tests cannot set. It is never started, so waits follow elapsed
        // time alone.
        let jobs = JobScheduler::new().await.unwrap();
        let poller_state = Arc::new(AsyncMutex::new(PollerState::default()));
        let (name, its_store) = (poller.policy.account.clone(), Arc::clone(&store));
        let cycle = move |planned| {
            let (poller, poller_state) = (Arc::clone(&poller), Arc::clone(&poller_state));
            let store = Arc::clone(&its_store);
            async move {
                poller.run_cycle(&mut *poller_state.lock().await, &store, planned).await;
            }
        };
        let its_clock = Arc::clone(clock) as Arc<dyn Clock>;
        let shutdown = StagedShutdown::default();
        tasks.spawn(scheduler::run(name, schedule, jobs, its_clock, shutdown.clone(), cycle, |_| {}));
        Self { clock: Arc::clone(clock), store, stop, shutdown, tasks }
    }

    /// Lets this much time pass.
    pub async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    pub async fn stop(mut self) {
        self.stop.cancel();
        self.shutdown.abandon();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}
