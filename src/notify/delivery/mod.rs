//! Delivering what is owed: one worker a notifier, so that none delays another. Retries with growing pauses, hands over
//! to the fallback, and reports a notifier that stays broken (`escalation`).
//!
//! A worker never decides what is owed: it takes it from the book, sends, and marks it there. What it cannot send stays.
//! What it tries next after a failure is decided by `backoff`. Of several recipients of one message, those that are refused
//! for the moment are retried alone. They never hear an older state after a newer one: until nothing is pending for such a
//! recipient, it is left out of messages to all, and what these say joins what it still lacks.

mod backoff;
mod batch;
mod fallback;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

pub use fallback::{FALLBACK_AFTER, REPORT_AFTER};

use self::backoff::{DeliveryLane, LaneBackoff};
use self::batch::DeliveryBatch;
use super::{Delivered, Notifier, RecipientRefusal, SendError};
use crate::alerting::state::{NotifierFailure, PendingDelivery, State};
use crate::domain::event::{Event, EventSubject};
use crate::domain::quiet_hours::QuietHours;
use crate::domain::{Name, Time};
use crate::state::{SaveDue, StateStore};
use crate::util::clock::Clock;

/// The first pause after a failure.
const MIN_RETRY_DELAY: Duration = Duration::from_secs(1);
/// The longest pause that we choose ourselves.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(300);
/// The longest pause that a server may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);
/// How long held messages wait at a stretch, so that a clock that is set is noticed.
const MAX_HOLD_WAIT: Duration = Duration::from_secs(60);

/// One notifier and whom to ask in its place.
#[derive(Clone)]
pub struct Route {
    /// The channel.
    pub notifier: Arc<dyn Notifier>,
    /// Tried when it keeps failing.
    pub fallback: Option<Name>,
    /// When its messages are held; `None`: never.
    pub quiet_hours: Option<QuietHours>,
}

/// What became of one try to send, for whoever counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeliveryOutcome {
    /// Accepted.
    Delivered,
    /// Not accepted; it is tried again.
    Failed,
    /// Refused for good.
    Refused,
}

impl DeliveryOutcome {
    /// Everything that can become of a try.
    pub const ALL: [DeliveryOutcome; 3] =
        [DeliveryOutcome::Delivered, DeliveryOutcome::Failed, DeliveryOutcome::Refused];

    /// A word for labels.
    pub fn name(self) -> &'static str {
        match self {
            DeliveryOutcome::Delivered => "delivered",
            DeliveryOutcome::Failed => "failed",
            DeliveryOutcome::Refused => "refused",
        }
    }
}

/// Who counts tries, by notifier.
pub type DeliveryCounter = Arc<dyn Fn(&Name, DeliveryOutcome) + Send + Sync>;

/// Delivers for one notifier until told to stop.
pub struct DeliveryWorker {
    name: Name,
    route: Route,
    all_notifiers: BTreeSet<Name>,
    store: Arc<StateStore>,
    clock: Arc<dyn Clock>,
    backoff: LaneBackoff,
    /// The send that runs.
    sending: Option<RunningSend>,
    counter: Option<DeliveryCounter>,
    /// Its messages were held when it was last looked.
    held: bool,
}

/// A send that runs.
pub struct RunningSend {
    batch: DeliveryBatch,
    began: Time,
    outcome: JoinHandle<SendResult>,
}

type SendResult = Result<Delivered, SendError>;

/// A worker that was told to stop, and what it was doing.
pub struct StoppedWorker(DeliveryWorker);

impl StoppedWorker {
    /// Waits for the end of its running send, if there is one, and marks what became of it.
    pub async fn finish(self) {
        let Self(mut worker) = self;
        if let Some(sending) = &mut worker.sending {
            let outcome = (&mut sending.outcome).await;
            worker.mark(outcome).await;
        }
        worker.store.flush().await;
    }

    /// Its running send and its pauses, for the next worker of this notifier.
    pub fn into_parts(self) -> (Option<RunningSend>, RetryPauses) {
        (self.0.sending, RetryPauses(Mutex::new(self.0.backoff)))
    }
}

/// The pauses after a worker's failures, those that its server asked for among them. The lock makes timers fit to be shared
/// between threads.
pub struct RetryPauses(Mutex<LaneBackoff>);

impl RunningSend {
    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.outcome.is_finished()
    }

    /// Waits until it has ended, for a notifier that is no longer configured: nothing is marked.
    pub async fn ended(&mut self) {
        let _ = (&mut self.outcome).await; // whatever became of it, nobody waits for these events any more
    }
}

impl DeliveryWorker {
    /// A worker for `name`; `all_notifiers` names all notifiers.
    pub fn new(
        name: Name,
        route: Route,
        all_notifiers: BTreeSet<Name>,
        store: Arc<StateStore>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let backoff = LaneBackoff::new(Arc::clone(&clock));
        Self {
            name,
            route: route,
            all_notifiers: all_notifiers,
            store: store,
            clock,
            backoff: backoff,
            sending: None,
            counter: None,
            held: false,
        }
    }

    /// Tells `counter` of every try.
    #[must_use]
    pub fn with_counter(mut self, counter: DeliveryCounter) -> Self {
        self.counter = Some(counter);
        self
    }

    /// Begins with a send that an earlier worker of this notifier left running: nothing else is sent before it has ended.
    #[must_use]
    pub fn with_running_send(mut self, sending: Option<RunningSend>) -> Self {
        self.sending = sending;
        self
    }

    /// Keeps the pauses that an earlier worker of this notifier had not ended.
    #[must_use]
    pub fn with_pauses(mut self, pauses: Option<RetryPauses>) -> Self {
        if let Some(RetryPauses(backoff)) = pauses {
            self.backoff = backoff.into_inner().unwrap_or_else(PoisonError::into_inner);
        }
        self
    }

    /// Works until `shutdown` is cancelled; a send that runs then is finished first.
    pub async fn run(self, shutdown: CancellationToken) {
        self.run_until_stopped(shutdown).await.finish().await;
    }

    /// Works until `shutdown` is cancelled, and waits for nothing then: a send that runs goes on by itself.
    pub async fn run_until_stopped(mut self, shutdown: CancellationToken) -> StoppedWorker {
        while !shutdown.is_cancelled() {
            let store = Arc::clone(&self.store);
            let changed = store.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            self.backoff.end_expired_pauses().await;
            let hold = self.hold();
            if hold.is_none() {
                self.resume_after_hold().await;
                self.handle_failure().await;
            }
            self.held = hold.is_some();
            if self.sending.is_none() {
                match if self.held { None } else { self.next_batch() } {
                    Some(batch) => self.send(batch).await,
                    None => self.idle().await,
                }
            }
            let clock = Arc::clone(&self.clock);
            let due = hold.or_else(|| self.next_failure_step()).map(|due| async move { clock.sleep(due).await });
            let ended = tokio::select! {
                ended = async { Some((&mut self.sending.as_mut()?.outcome).await) }, if self.sending.is_some() => ended,
                () = self.store.marks_due() => {
                    self.store.flush().await;
                    None
                }
                () = &mut changed => None,
                () = self.backoff.pause_ended() => None,
                () = async { match due { Some(due) => due.await, None => std::future::pending().await } } => None,
                () = shutdown.cancelled() => break,
            };
            if let Some(outcome) = ended {
                self.mark(outcome).await;
            }
        }
        StoppedWorker(self)
    }

    /// Nothing can be sent now.
    async fn idle(&mut self) {
        self.store.flush_marks().await;
        self.forget_empty_lanes();
    }

    /// How long to hold what is owed, in quiet hours; `None`: it may be sent. What is let through takes the rest along, as
    /// one message.
    fn hold(&self) -> Option<Duration> {
        let (quiet, now) = (self.route.quiet_hours.as_ref()?, self.clock.now());
        let critical =
            self.store.read(|state| state.pending_for(&self.name).any(|(event, _)| event.is_about_critical()));
        let until = quiet.quiet_until(now, critical)?;
        Some((until - now).to_std().unwrap_or_default().clamp(Duration::from_millis(1), MAX_HOLD_WAIT))
    }

    /// Held is not failing: of a failure before the quiet hours nothing is counted that passed meanwhile, and the first
    /// thing afterwards is a try.
    async fn resume_after_hold(&mut self) {
        if !std::mem::take(&mut self.held) {
            return;
        }
        self.backoff.reset_failure_counts();
        let (name, now) = (self.name.clone(), self.clock.now());
        self.store.change(|state| ((), state.count_failures_from(&name, now, |since| since < now))).await;
    }

    /// Begins to send. Where everybody waits for something older, there is nobody to send to.
    async fn send(&mut self, batch: DeliveryBatch) {
        // Another task's change may be in memory and not yet on disk: nothing is sent before it is, or has failed to be.
        self.store.flush_queued().await;
        let (notifier, counter, name) = (Arc::clone(&self.route.notifier), self.counter.clone(), self.name.clone());
        let message = batch.message.clone();
        // A task of its own: whatever goes wrong inside a channel, even a panic, is a failed send and nothing more.
        let outcome = tokio::spawn(async move {
            if message.remaining_recipients.as_ref().is_some_and(Vec::is_empty) {
                let reason = "every recipient is still waiting for an earlier message".to_owned();
                return Err(SendError { permanent: false, reason, retry_after: None, refused: Vec::new() });
            }
            let sent = notifier.send(&message).await;
            if let Some(counter) = counter {
                counter(&name, delivery_outcome(&sent));
            }
            sent
        });
        self.sending = Some(RunningSend { batch, began: self.clock.now(), outcome });
    }

    /// Marks what became of the running send, and sets the pauses before the next try, if one is needed.
    async fn mark(&mut self, outcome: Result<SendResult, JoinError>) {
        let Some(RunningSend { batch, began, .. }) = self.sending.take() else { return };
        let outcome = outcome.unwrap_or_else(|panic| {
            let failed = Err(SendError {
                permanent: false,
                reason: format!("sending ended unexpectedly: {panic}"),
                retry_after: None,
                refused: Vec::new(),
            });
            if let Some(counter) = &self.counter {
                counter(&self.name, delivery_outcome(&failed));
            }
            failed
        });
        match outcome {
            Ok(delivered) => self.mark_delivered(&batch, delivered).await,
            Err(error) if error.permanent => self.mark_refused(&batch, &error).await,
            Err(error) => self.mark_failed(&batch, &error, began).await,
        }
    }

    async fn mark_delivered(&mut self, batch: &DeliveryBatch, delivered: Delivered) {
        let deferred: Vec<String> = delivered.deferred.iter().map(|it| it.recipient.clone()).collect();
        let (name, now, ids) = (self.name.clone(), self.clock.now(), &batch.ids);
        let other_notifiers = self.other_notifiers();
        let recovered = self
            .store
            .mark(|state| {
                if let Some(retried) = batch.retried_recipients() {
                    let reached: Vec<String> = retried.iter().filter(|it| !deferred.contains(it)).cloned().collect();
                    state.record_notified(&name, ids, delivered.message_id.as_deref());
                    state.mark_recipients_done(&name, ids, &reached);
                } else {
                    let left = [&batch.left_out[..], &deferred].concat();
                    state.mark_delivered(&name, ids, delivered.message_id.as_deref(), &left);
                }
                let failure = clear_failure(state, &name);
                let reported = failure.as_ref().filter(|failure| failure.reported);
                if let Some(failure) = reported {
                    let subject = EventSubject::NotifierRecovered { notifier: name.clone(), since: failure.since };
                    state.enqueue_one(subject, now, &other_notifiers, &BTreeMap::new());
                }
                (failure.is_some(), if reported.is_some() { SaveDue::BeforeSending } else { SaveDue::Soon })
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
        let reached = |lane: &&DeliveryLane| !matches!(lane, DeliveryLane::RetriedRecipient(recipient) if deferred.contains(recipient));
        self.backoff.succeeded(&batch.lanes.iter().filter(reached).cloned().collect::<Vec<_>>());
        self.retry_left_out(batch);
        if let Some(refusal) = delivered.deferred.first() {
            let lanes: Vec<DeliveryLane> = deferred.into_iter().map(DeliveryLane::RetriedRecipient).collect();
            self.backoff.failed(&lanes, &refusal.reason, None);
        }
    }

    /// Recipients that were left out of a message are offered it now, behind what they lack.
    fn retry_left_out(&mut self, batch: &DeliveryBatch) {
        for recipient in &batch.left_out {
            self.backoff.end_pause(&DeliveryLane::RetriedRecipient(recipient.clone()));
        }
    }

    /// A lone recipient that is refused for good says nothing about the notifier: its neighbours were reached. Recipients
    /// that were left out of the message have refused nothing.
    async fn mark_refused(&mut self, batch: &DeliveryBatch, error: &SendError) {
        let (name, now, fallback, ids) = (self.name.clone(), self.clock.now(), self.route.fallback.clone(), &batch.ids);
        let handed = self
            .store
            .mark(|state| {
                if let Some(retried) = batch.retried_recipients() {
                    state.mark_recipients_done(&name, ids, retried);
                    return (0, SaveDue::Soon);
                }
                state.record_failure(&name, &error.reason, now);
                let handed = fallback.map_or(0, |fallback| state.hand_over(&name, &fallback, &error.reason, Some(ids)));
                state.mark_refused(&name, ids, &batch.left_out);
                (handed, if handed > 0 { SaveDue::BeforeSending } else { SaveDue::Soon })
            })
            .await;
        for lane in &batch.lanes {
            self.backoff.forget(lane);
        }
        self.retry_left_out(batch);
        tracing::error!(notifier = %self.name, reason = error.reason, events = ids.len(), handed_to_fallback = handed, "notification refused for good: not tried again");
    }

    async fn mark_failed(&mut self, batch: &DeliveryBatch, error: &SendError, began: Time) {
        let (name, ids) = (self.name.clone(), &batch.ids);
        let since = began.min(self.clock.now());
        if batch.retried_recipients().is_none() {
            self.store
                .mark(|state| {
                    let before = state.failing_notifiers.get(&name).cloned();
                    let changed = Some(&*state.record_failure(&name, &error.reason, since)) != before.as_ref();
                    let changed = state.mark_failing(&name, ids, since) || changed;
                    ((), if changed { SaveDue::Soon } else { SaveDue::Never })
                })
                .await;
        }
        let attempts = self.backoff.failed(&batch.lanes, &error.reason, error.retry_after);
        tracing::warn!(notifier = %self.name, reason = error.reason, events = ids.len(), attempts, "notification could not be sent: still owed");
        self.log_refused(&error.refused);
    }

    fn log_refused(&self, refused: &[RecipientRefusal]) {
        for refusal in refused {
            tracing::error!(notifier = %self.name, recipient = refusal.recipient, reason = refusal.reason, "recipient refused for good: correct or remove the address");
        }
    }

    /// Of what is no longer pending, whatever became of it, nothing need be known.
    fn forget_empty_lanes(&mut self) {
        if self.backoff.has_no_failures() {
            return;
        }
        let lanes: BTreeSet<DeliveryLane> = self.store.read(|state| {
            let of = |(event, delivery): (&Arc<Event>, &PendingDelivery)| match &delivery.remaining_recipients {
                None => vec![self.lane_of(event)],
                Some(only) => only.iter().cloned().map(DeliveryLane::RetriedRecipient).collect(),
            };
            state.pending_for(&self.name).flat_map(of).collect()
        });
        self.backoff.retain(|lane| lanes.contains(lane));
    }

    fn other_notifiers(&self) -> BTreeSet<Name> {
        self.all_notifiers.iter().filter(|name| **name != self.name).cloned().collect()
    }
}

/// A notifier that delivered something works, unless something else still fails: then it has failed since that began.
/// Returns what is over.
fn clear_failure(state: &mut State, name: &Name) -> Option<NotifierFailure> {
    let Some(since) = state.oldest_failure(name) else { return state.failing_notifiers.remove(name) };
    if let Some(failure) = state.failing_notifiers.get_mut(name).filter(|failure| !failure.reported) {
        failure.since = since;
    }
    None
}

fn delivery_outcome(sent: &Result<Delivered, SendError>) -> DeliveryOutcome {
    match sent {
        Ok(_) => DeliveryOutcome::Delivered,
        Err(error) if error.permanent => DeliveryOutcome::Refused,
        Err(_) => DeliveryOutcome::Failed,
    }
}

/// The pause after so many failed tries: doubling from 1 s to 5 min, times `jitter`; never shorter than what was asked.
pub fn retry_delay(attempts: u32, retry_after: Option<Duration>, jitter: f64) -> Duration {
    let doubled = MIN_RETRY_DELAY.saturating_mul(1 << attempts.saturating_sub(1).min(9));
    let own = doubled.min(MAX_RETRY_DELAY).mul_f64(jitter).clamp(MIN_RETRY_DELAY, MAX_RETRY_DELAY);
    own.max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER))
}
