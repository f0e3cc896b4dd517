//! Workers of the outbox on a stepped clock, around notifiers that really send: a virtual day costs what its requests cost.
//!
//! Time is tokio's paused time, which jumps as soon as nothing else can go on. It stands while a send is under way, until
//! the send ends or its server falls silent: then it jumps to the sender's own time limit.

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

/// One try: when it began, in seconds, what it was to tell, and what came of it.
#[derive(Debug, Clone)]
pub struct Try {
    pub at: i64,
    pub told: Vec<String>,
    pub came: Result<Delivered, SendError>,
}

type Tries = Arc<Mutex<Vec<Try>>>;

/// A notifier that is watched.
struct Watched {
    inner: Arc<dyn Notifier>,
    /// How often its server has fallen silent.
    hangs: Arc<AtomicUsize>,
    clock: Arc<dyn Clock>,
    tries: Tries,
}

#[async_trait]
impl Notifier for Watched {
    async fn send(&self, message: &Message) -> Result<Delivered, SendError> {
        let at = (self.clock.now() - epoch()).num_seconds();
        let (done, waits) = mpsc::channel::<()>();
        let (hangs, before) = (Arc::clone(&self.hangs), self.hangs.load(Ordering::SeqCst));
        // While a blocking task runs, paused time does not jump.
        let holds = tokio::task::spawn_blocking(move || {
            let waiting = || waits.recv_timeout(Duration::from_millis(1)) == Err(mpsc::RecvTimeoutError::Timeout);
            while hangs.load(Ordering::SeqCst) == before && waiting() {}
        });
        let came = self.inner.send(message).await;
        drop(done);
        holds.await.unwrap();
        self.tries.lock().unwrap().push(Try { at, told: told(message), came: came.clone() });
        came
    }

    fn one_event_per_request(&self) -> bool {
        self.inner.one_event_per_request()
    }

    fn recipients(&self) -> Vec<String> {
        self.inner.recipients()
    }
}

fn told(message: &Message) -> Vec<String> {
    let MessageContent::Events(items) = &message.content else { panic!("no events") };
    let told = items.iter().map(|item| {
        let what = match &item.event.subject {
            EventSubject::Threshold(event) => format!("{} {}", event.kind.name(), event.key.account),
            EventSubject::NotifierFailing { notifier, .. } => format!("{notifier} fails"),
            EventSubject::NotifierRecovered { notifier, .. } => format!("{notifier} recovered"),
            _ => "other".to_owned(),
        };
        what + &item.in_place_of.as_ref().map(|via| format!(" via {}", via.notifier)).unwrap_or_default()
    });
    told.collect()
}

/// A notifier to whom all sends succeed.
pub struct Willing;

#[async_trait]
impl Notifier for Willing {
    async fn send(&self, _: &Message) -> Result<Delivered, SendError> {
        Ok(Delivered::default())
    }
}

/// One notifier on the bench.
pub struct Seat {
    pub name: &'static str,
    pub fallback: Option<&'static str>,
    pub notifier: Arc<dyn Notifier>,
    pub hangs: Arc<AtomicUsize>,
}

impl Seat {
    pub fn willing(name: &'static str) -> Self {
        Self { name, fallback: None, notifier: Arc::new(Willing), hangs: Arc::default() }
    }
}

pub struct Bench {
    pub book: Arc<StateStore>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    tries: BTreeMap<&'static str, Tries>,
}

impl Bench {
    pub fn new(seats: Vec<Seat>) -> Self {
        Self::with_quiet_hours(seats, None)
    }

    /// The first seat has quiet hours.
    pub fn with_quiet_hours(seats: Vec<Seat>, mut quiet: Option<QuietHours>) -> Self {
        let clock = VirtualClock::begin();
        let book = Arc::new(StateStore::new(State::default(), Arc::new(AcceptingBackend)));
        let stop = CancellationToken::new();
        let everyone: BTreeSet<Name> = seats.iter().map(|seat| Name::from(seat.name)).collect();
        let (mut tasks, mut tries) = (JoinSet::new(), BTreeMap::new());
        for seat in seats {
            let record = Tries::default();
            tries.insert(seat.name, Arc::clone(&record));
            let watched = Watched { inner: seat.notifier, hangs: seat.hangs, clock: Arc::clone(&clock), tries: record };
            let desk = Route {
                notifier: Arc::new(watched),
                fallback: seat.fallback.map(Name::from),
                quiet_hours: quiet.take(),
            };
            let worker =
                DeliveryWorker::new(seat.name.into(), desk, everyone.clone(), Arc::clone(&book), Arc::clone(&clock));
            tasks.spawn(worker.run(stop.clone()));
        }
        Self { book, clock, stop, tasks, tries }
    }

    pub async fn owe(&self, account: &str, kind: TransitionKind, to: &[&str]) {
        stepped::enqueue(&self.book, self.clock.now(), account, kind, to).await;
    }

    pub async fn pass(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    pub fn tries(&self, name: &str) -> Vec<Try> {
        self.tries[name].lock().unwrap().clone()
    }

    /// What was told with success, by message: when, and what.
    pub fn delivered(&self, name: &str) -> Vec<(i64, Vec<String>)> {
        self.tries(name).into_iter().filter(|it| it.came.is_ok()).map(|it| (it.at, it.told)).collect()
    }

    pub fn owed(&self, name: &str) -> usize {
        self.book.read(|state| state.pending_for(name).count())
    }

    pub async fn end(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}
