//! Delivery workers on a stepped clock, with notifiers that really send: a simulated day takes only as long as its requests.
//!
//! Time is tokio's paused time, which advances as soon as nothing else can run. It stands still during a send, until the
//! send ends or its server falls silent; then it advances to the sender's own time limit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use async_trait::async_trait;
use lowtide::alerting::state::State;
use lowtide::domain::Name;
use lowtide::domain::alert::TransitionKind;
use lowtide::domain::event::EventSubject;
use lowtide::domain::quiet_hours::QuietHours;
use lowtide::notify::delivery::{DeliveryWorker, Route};
use lowtide::notify::{Delivered, Message, MessageContent, Notifier, SendError};
use lowtide::state::StateStore;
use lowtide::util::clock::Clock;
use tokio::task::JoinSet;

pub use super::stepped::epoch;
use super::stepped::{self, AcceptingBackend, VirtualClock};

/// One attempt: its time in seconds, its events, and its result.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub at: i64,
    pub events: Vec<String>,
    pub result: Result<Delivered, SendError>,
}

type AttemptLog = Arc<Mutex<Vec<Attempt>>>;

/// A notifier that records its attempts.
struct RecordingNotifier {
    inner: Arc<dyn Notifier>,
    /// Number of times that its server has fallen silent.
    hangs: Arc<AtomicUsize>,
    clock: Arc<dyn Clock>,
    attempts: AttemptLog,
}

#[async_trait]
impl Notifier for RecordingNotifier {
    async fn send(&self, message: &Message) -> Result<Delivered, SendError> {
        let at = (self.clock.now() - epoch()).num_seconds();
        let (done, waits) = mpsc::channel::<()>();
        let (hangs, before) = (Arc::clone(&self.hangs), self.hangs.load(Ordering::SeqCst));
        // Paused time does not advance while a blocking task runs.
        let holds = tokio::task::spawn_blocking(move || {
            let waiting = || waits.recv_timeout(Duration::from_millis(1)) == Err(mpsc::RecvTimeoutError::Timeout);
            while hangs.load(Ordering::SeqCst) == before && waiting() {}
        });
        let result = self.inner.send(message).await;
        drop(done);
        holds.await.unwrap();
        self.attempts.lock().unwrap().push(Attempt { at, events: events_of(message), result: result.clone() });
        result
    }

    fn one_event_per_request(&self) -> bool {
        self.inner.one_event_per_request()
    }

    fn recipients(&self) -> Vec<String> {
        self.inner.recipients()
    }
}

fn events_of(message: &Message) -> Vec<String> {
    let MessageContent::Events(items) = &message.content else { panic!("no events") };
    let events = items.iter().map(|item| {
        let what = match &item.event.subject {
            EventSubject::Threshold(event) => format!("{} {}", event.kind.name(), event.key.account),
            EventSubject::NotifierFailing { notifier, .. } => format!("{notifier} fails"),
            EventSubject::NotifierRecovered { notifier, .. } => format!("{notifier} recovered"),
            _ => "other".to_owned(),
        };
        what + &item.in_place_of.as_ref().map(|origin| format!(" via {}", origin.notifier)).unwrap_or_default()
    });
    events.collect()
}

/// A notifier that accepts everything.
pub struct AcceptingNotifier;

#[async_trait]
impl Notifier for AcceptingNotifier {
    async fn send(&self, _: &Message) -> Result<Delivered, SendError> {
        Ok(Delivered::default())
    }
}

/// A notifier of the bench.
pub struct TestNotifier {
    pub name: &'static str,
    pub fallback: Option<&'static str>,
    pub notifier: Arc<dyn Notifier>,
    pub hangs: Arc<AtomicUsize>,
}

impl TestNotifier {
    pub fn accepting(name: &'static str) -> Self {
        Self { name, fallback: None, notifier: Arc::new(AcceptingNotifier), hangs: Arc::default() }
    }
}

pub struct DeliveryBench {
    pub store: Arc<StateStore>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    attempts: BTreeMap<&'static str, AttemptLog>,
}

impl DeliveryBench {
    pub fn new(notifiers: Vec<TestNotifier>) -> Self {
        Self::with_quiet_hours(notifiers, None)
    }

    /// Creates a bench whose first notifier has quiet hours.
    pub fn with_quiet_hours(notifiers: Vec<TestNotifier>, mut quiet: Option<QuietHours>) -> Self {
        let clock = VirtualClock::begin();
        let store = Arc::new(StateStore::new(State::default(), Arc::new(AcceptingBackend)));
        let stop = CancellationToken::new();
        let names: BTreeSet<Name> = notifiers.iter().map(|notifier| Name::from(notifier.name)).collect();
        let (mut tasks, mut attempts) = (JoinSet::new(), BTreeMap::new());
        for notifier in notifiers {
            let record = AttemptLog::default();
            attempts.insert(notifier.name, Arc::clone(&record));
            let recording = RecordingNotifier {
                inner: notifier.notifier,
                hangs: notifier.hangs,
                clock: Arc::clone(&clock),
                attempts: record,
            };
            let route = Route {
                notifier: Arc::new(recording),
                fallback: notifier.fallback.map(Name::from),
                quiet_hours: quiet.take(),
            };
            let worker =
                DeliveryWorker::new(notifier.name.into(), route, names.clone(), Arc::clone(&store), Arc::clone(&clock));
            tasks.spawn(worker.run(stop.clone()));
        }
        Self { store, clock, stop, tasks, attempts }
    }

    pub async fn enqueue(&self, account: &str, kind: TransitionKind, to: &[&str]) {
        stepped::enqueue(&self.store, self.clock.now(), account, kind, to).await;
    }

    pub async fn pass(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    pub fn attempts(&self, name: &str) -> Vec<Attempt> {
        self.attempts[name].lock().unwrap().clone()
    }

    /// Returns the successful messages: their times and events.
    pub fn delivered(&self, name: &str) -> Vec<(i64, Vec<String>)> {
        self.attempts(name).into_iter().filter(|it| it.result.is_ok()).map(|it| (it.at, it.events)).collect()
    }

    pub fn pending(&self, name: &str) -> usize {
        self.store.read(|state| state.queue.pending_for(name).count())
    }

    pub async fn end(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}
