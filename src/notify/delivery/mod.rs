//! Delivering what is owed: one worker a notifier, so that none delays another. Retries with growing pauses, hands over
//! to the fallback, and reports a notifier that stays broken (`escalation`).
//!
//! A worker never decides what is owed: it takes it from the book, sends, and marks it there. What it cannot send stays.
//! What it tries next after a failure is decided by `lanes`. Of several recipients of one message, those that are refused
//! for the moment are retried alone. They never hear an older state after a newer one: until nothing is pending for such a
//! recipient, it is left out of messages to all, and what these say joins what it still lacks.

mod backoff;
mod batch;
mod fallback;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};

pub use fallback::{FALLBACK_AFTER, REPORT_AFTER};

use self::backoff::{Lane, Lanes};
use self::batch::Batch;
use super::{Delivered, Notifier, Refusal, SendError};
use crate::alerting::state::{Owing, State, Trouble};
use crate::domain::event::{Event, Subject};
use crate::domain::quiet_hours::QuietHours;
use crate::domain::{Name, Time};
use crate::state::{Book, Due};
use crate::util::clock::Clock;

/// The first pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause that we choose ourselves.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The longest pause that a server may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(24 * 3600);
/// How long held messages wait at a stretch, so that a clock that is set is noticed.
const LONGEST_HOLD: Duration = Duration::from_secs(60);

/// One notifier and whom to ask in its place.
#[derive(Clone)]
pub struct Desk {
    /// The channel.
    pub notifier: Arc<dyn Notifier>,
    /// Tried when it keeps failing.
    pub fallback: Option<Name>,
    /// When its messages are held; `None`: never.
    pub quiet_hours: Option<QuietHours>,
}

/// What became of one try to send, for whoever counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tried {
    /// Accepted.
    Delivered,
    /// Not accepted; it is tried again.
    Failed,
    /// Refused for good.
    Refused,
}

impl Tried {
    /// Everything that can become of a try.
    pub const ALL: [Tried; 3] = [Tried::Delivered, Tried::Failed, Tried::Refused];

    /// A word for labels.
    pub fn name(self) -> &'static str {
        match self {
            Tried::Delivered => "delivered",
            Tried::Failed => "failed",
            Tried::Refused => "refused",
        }
    }
}

/// Who counts tries, by notifier.
pub type Counter = Arc<dyn Fn(&Name, Tried) + Send + Sync>;

/// Delivers for one notifier until told to stop.
pub struct Worker {
    name: Name,
    desk: Desk,
    everyone: BTreeSet<Name>,
    book: Arc<Book>,
    clock: Arc<dyn Clock>,
    lanes: Lanes,
    /// The send that runs.
    sending: Option<Sending>,
    counter: Option<Counter>,
    /// Its messages were held when it was last looked.
    held: bool,
}

/// A send that runs.
pub struct Sending {
    batch: Batch,
    began: Time,
    outcome: JoinHandle<Outcome>,
}

type Outcome = Result<Delivered, SendError>;

/// A worker that was told to stop, and what it was doing.
pub struct Stopped(Worker);

impl Stopped {
    /// Waits for the end of its running send, if there is one, and marks what became of it.
    pub async fn finish(self) {
        let Self(mut worker) = self;
        if let Some(sending) = &mut worker.sending {
            let outcome = (&mut sending.outcome).await;
            worker.mark(outcome).await;
        }
        worker.book.flush().await;
    }

    /// Its running send and its pauses, for the next worker of this notifier.
    pub fn into_parts(self) -> (Option<Sending>, Pauses) {
        (self.0.sending, Pauses(Mutex::new(self.0.lanes)))
    }
}

/// The pauses after a worker's failures, those that its server asked for among them. The lock makes timers fit to be shared
/// between threads.
pub struct Pauses(Mutex<Lanes>);

impl Sending {
    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.outcome.is_finished()
    }

    /// Waits until it has ended, for a notifier that is no longer configured: nothing is marked.
    pub async fn ended(&mut self) {
        let _ = (&mut self.outcome).await; // whatever became of it, nobody waits for these events any more
    }
}

impl Worker {
    /// A worker for `name`; `everyone` names all notifiers.
    pub fn new(name: Name, desk: Desk, everyone: BTreeSet<Name>, book: Arc<Book>, clock: Arc<dyn Clock>) -> Self {
        let lanes = Lanes::new(Arc::clone(&clock));
        Self { name, desk, everyone, book, clock, lanes, sending: None, counter: None, held: false }
    }

    /// Tells `counter` of every try.
    #[must_use]
    pub fn counted_by(mut self, counter: Counter) -> Self {
        self.counter = Some(counter);
        self
    }

    /// Begins with a send that an earlier worker of this notifier left running: nothing else is sent before it has ended.
    #[must_use]
    pub fn going_on_with(mut self, sending: Option<Sending>) -> Self {
        self.sending = sending;
        self
    }

    /// Keeps the pauses that an earlier worker of this notifier had not ended.
    #[must_use]
    pub fn keeping(mut self, pauses: Option<Pauses>) -> Self {
        if let Some(Pauses(lanes)) = pauses {
            self.lanes = lanes.into_inner().unwrap_or_else(PoisonError::into_inner);
        }
        self
    }

    /// Works until `stop` turns true; a send that runs then is finished first.
    pub async fn run(self, stop: watch::Receiver<bool>) {
        self.work(stop).await.finish().await;
    }

    /// Works until `stop` turns true, and waits for nothing then: a send that runs goes on by itself.
    pub async fn work(mut self, mut stop: watch::Receiver<bool>) -> Stopped {
        while !*stop.borrow() {
            let book = Arc::clone(&self.book);
            let changed = book.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            self.lanes.look().await;
            let hold = self.hold();
            if hold.is_none() {
                self.after_a_hold().await;
                self.escalate().await;
            }
            self.held = hold.is_some();
            if self.sending.is_none() {
                match if self.held { None } else { self.batch() } {
                    Some(batch) => self.send(batch).await,
                    None => self.rest().await,
                }
            }
            let clock = Arc::clone(&self.clock);
            let due = hold.or_else(|| self.escalation_due()).map(|due| async move { clock.sleep(due).await });
            let ended = tokio::select! {
                ended = async { Some((&mut self.sending.as_mut()?.outcome).await) }, if self.sending.is_some() => ended,
                () = self.book.marks_due() => {
                    self.book.flush().await;
                    None
                }
                () = &mut changed => None,
                () = self.lanes.pause_over() => None,
                () = async { match due { Some(due) => due.await, None => std::future::pending().await } } => None,
                () = stopped(&mut stop) => break,
            };
            if let Some(outcome) = ended {
                self.mark(outcome).await;
            }
        }
        Stopped(self)
    }

    /// Nothing can be sent now.
    async fn rest(&mut self) {
        self.book.flush_marks().await;
        self.forget_settled_lanes();
    }

    /// How long to hold what is owed, in quiet hours; `None`: it may be sent. What is let through takes the rest along, as
    /// one message.
    fn hold(&self) -> Option<Duration> {
        let (quiet, now) = (self.desk.quiet_hours.as_ref()?, self.clock.now());
        let critical = self.book.read(|state| state.owed_to(&self.name).any(|(event, _)| event.is_about_critical()));
        let until = quiet.held_until(now, critical)?;
        Some((until - now).to_std().unwrap_or_default().clamp(Duration::from_millis(1), LONGEST_HOLD))
    }

    /// Held is not failing: of a failure before the quiet hours nothing is counted that passed meanwhile, and the first
    /// thing afterwards is a try.
    async fn after_a_hold(&mut self) {
        if !std::mem::take(&mut self.held) {
            return;
        }
        self.lanes.count_anew();
        let (name, now) = (self.name.clone(), self.clock.now());
        self.book.change(|state| ((), state.count_failures_from(&name, now, |since| since < now))).await;
    }

    /// Begins to send. Where everybody waits for something older, there is nobody to send to.
    async fn send(&mut self, batch: Batch) {
        // Another task's change may be in memory and not yet on disk: nothing is sent before it is, or has failed to be.
        self.book.flush_queued().await;
        let (notifier, counter, name) = (Arc::clone(&self.desk.notifier), self.counter.clone(), self.name.clone());
        let message = batch.message.clone();
        // A task of its own: whatever goes wrong inside a channel, even a panic, is a failed send and nothing more.
        let outcome = tokio::spawn(async move {
            if message.only.as_ref().is_some_and(Vec::is_empty) {
                let reason = "every recipient is still waiting for an earlier message".to_owned();
                return Err(SendError { permanent: false, reason, retry_after: None, refused: Vec::new() });
            }
            let sent = notifier.send(&message).await;
            if let Some(counter) = counter {
                counter(&name, tried(&sent));
            }
            sent
        });
        self.sending = Some(Sending { batch, began: self.clock.now(), outcome });
    }

    /// Marks what became of the running send, and sets the pauses before the next try, if one is needed.
    async fn mark(&mut self, outcome: Result<Outcome, JoinError>) {
        let Some(Sending { batch, began, .. }) = self.sending.take() else { return };
        let outcome = outcome.unwrap_or_else(|panic| {
            let failed = Err(SendError {
                permanent: false,
                reason: format!("sending ended unexpectedly: {panic}"),
                retry_after: None,
                refused: Vec::new(),
            });
            if let Some(counter) = &self.counter {
                counter(&self.name, tried(&failed));
            }
            failed
        });
        match outcome {
            Ok(delivered) => self.mark_delivered(&batch, delivered).await,
            Err(error) if error.permanent => self.mark_refused(&batch, &error).await,
            Err(error) => self.mark_failed(&batch, &error, began).await,
        }
    }

    async fn mark_delivered(&mut self, batch: &Batch, delivered: Delivered) {
        let deferred: Vec<String> = delivered.deferred.iter().map(|it| it.recipient.clone()).collect();
        let (name, now, ids) = (self.name.clone(), self.clock.now(), &batch.ids);
        let others = self.others();
        let recovered = self
            .book
            .mark(|state| {
                if let Some(asked) = batch.alone() {
                    let reached: Vec<String> = asked.iter().filter(|it| !deferred.contains(it)).cloned().collect();
                    state.notified(&name, ids, delivered.message_id.as_deref());
                    state.settled_alone(&name, ids, &reached);
                } else {
                    let left = [&batch.behind[..], &deferred].concat();
                    state.delivered(&name, ids, delivered.message_id.as_deref(), &left);
                }
                let trouble = no_more_trouble(state, &name);
                let reported = trouble.as_ref().filter(|trouble| trouble.reported);
                if let Some(trouble) = reported {
                    let subject = Subject::NotifierRecovered { notifier: name.clone(), since: trouble.since };
                    state.owe(subject, now, &others, &BTreeMap::new());
                }
                (trouble.is_some(), if reported.is_some() { Due::BeforeSending } else { Due::Soon })
            })
            .await;
        if recovered {
            tracing::info!(notifier = %self.name, "notifier works again");
        }
        tracing::info!(notifier = %self.name, events = ids.len(), "notification delivered");
        self.log_refused(&delivered.refused);
        for refusal in &delivered.deferred {
            tracing::warn!(notifier = %self.name, recipient = refusal.recipient, reason = refusal.reason, "recipient refused for the moment: tried again alone");
        }
        let reached = |lane: &&Lane| !matches!(lane, Lane::Alone(recipient) if deferred.contains(recipient));
        self.lanes.succeeded(&batch.lanes.iter().filter(reached).cloned().collect::<Vec<_>>());
        self.try_those_behind(batch);
        if let Some(refusal) = delivered.deferred.first() {
            let lanes: Vec<Lane> = deferred.into_iter().map(Lane::Alone).collect();
            self.lanes.failed(&lanes, &refusal.reason, None);
        }
    }

    /// Recipients that were left out of a message are offered it now, behind what they lack.
    fn try_those_behind(&mut self, batch: &Batch) {
        for recipient in &batch.behind {
            self.lanes.try_now(&Lane::Alone(recipient.clone()));
        }
    }

    /// A lone recipient that is refused for good says nothing about the notifier: its neighbours were reached. Recipients
    /// that were left out of the message have refused nothing.
    async fn mark_refused(&mut self, batch: &Batch, error: &SendError) {
        let (name, now, fallback, ids) = (self.name.clone(), self.clock.now(), self.desk.fallback.clone(), &batch.ids);
        let handed = self
            .book
            .mark(|state| {
                if let Some(asked) = batch.alone() {
                    state.settled_alone(&name, ids, asked);
                    return (0, Due::Soon);
                }
                state.failed(&name, &error.reason, now);
                let handed = fallback.map_or(0, |fallback| state.hand_over(&name, &fallback, &error.reason, Some(ids)));
                state.refused(&name, ids, &batch.behind);
                (handed, if handed > 0 { Due::BeforeSending } else { Due::Soon })
            })
            .await;
        for lane in &batch.lanes {
            self.lanes.settled(lane);
        }
        self.try_those_behind(batch);
        tracing::error!(notifier = %self.name, reason = error.reason, events = ids.len(), handed_to_fallback = handed, "notification refused for good: not tried again");
    }

    async fn mark_failed(&mut self, batch: &Batch, error: &SendError, began: Time) {
        let (name, ids) = (self.name.clone(), &batch.ids);
        let since = began.min(self.clock.now());
        if batch.alone().is_none() {
            self.book
                .mark(|state| {
                    let before = state.notifiers.get(&name).cloned();
                    let changed = Some(&*state.failed(&name, &error.reason, since)) != before.as_ref();
                    let changed = state.failing(&name, ids, since) || changed;
                    ((), if changed { Due::Soon } else { Due::Never })
                })
                .await;
        }
        let tries = self.lanes.failed(&batch.lanes, &error.reason, error.retry_after);
        tracing::warn!(notifier = %self.name, reason = error.reason, events = ids.len(), tries, "notification could not be sent: still owed");
        self.log_refused(&error.refused);
    }

    fn log_refused(&self, refused: &[Refusal]) {
        for refusal in refused {
            tracing::error!(notifier = %self.name, recipient = refusal.recipient, reason = refusal.reason, "recipient refused for good: correct or remove the address");
        }
    }

    /// Of what is no longer pending, whatever became of it, nothing need be known.
    fn forget_settled_lanes(&mut self) {
        if self.lanes.none_failed() {
            return;
        }
        let lanes: BTreeSet<Lane> = self.book.read(|state| {
            let of = |(event, owing): (&Arc<Event>, &Owing)| match &owing.only {
                None => vec![self.lane_of(event)],
                Some(only) => only.iter().cloned().map(Lane::Alone).collect(),
            };
            state.owed_to(&self.name).flat_map(of).collect()
        });
        self.lanes.retain(|lane| lanes.contains(lane));
    }

    fn others(&self) -> BTreeSet<Name> {
        self.everyone.iter().filter(|name| **name != self.name).cloned().collect()
    }
}

/// A notifier that delivered something works, unless something else still fails: then it has failed since that began.
/// Returns what is over.
fn no_more_trouble(state: &mut State, name: &Name) -> Option<Trouble> {
    let Some(since) = state.oldest_failure(name) else { return state.notifiers.remove(name) };
    if let Some(trouble) = state.notifiers.get_mut(name).filter(|trouble| !trouble.reported) {
        trouble.since = since;
    }
    None
}

/// Waits until `stop` turns true, or nobody is left to turn it.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn tried(sent: &Result<Delivered, SendError>) -> Tried {
    match sent {
        Ok(_) => Tried::Delivered,
        Err(error) if error.permanent => Tried::Refused,
        Err(_) => Tried::Failed,
    }
}

/// The pause after so many failed tries: doubling from 1 s to 5 min, times `jitter`; never shorter than what was asked.
pub fn pause_after(tries: u32, asked: Option<Duration>, jitter: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << tries.saturating_sub(1).min(9));
    let own = doubled.min(LONGEST_PAUSE).mul_f64(jitter).clamp(FIRST_PAUSE, LONGEST_PAUSE);
    own.max(asked.unwrap_or_default().min(LONGEST_ASKED))
}
