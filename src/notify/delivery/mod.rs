//! Delivery of pending events: one worker for each notifier, so that none delays another. Failed attempts are retried with
//! growing pauses, handed over to the fallback, and reported if the notifier keeps failing ([`fallback`]).
//!
//! A worker does not decide what is pending: it reads the queue in the state, sends, and marks the result there. What it
//! cannot send stays pending. [`backoff`] decides what is tried next after a failure.
//!
//! If a message has several recipients, those that are rejected temporarily are retried alone. They never receive an older
//! state after a newer one: as long as something is pending for such a recipient, it is left out of messages to all, and the
//! content of these is sent to it after what it has not received yet.

mod backoff;
mod batch;
mod fallback;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};

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

/// Shortest pause after a failure.
const MIN_RETRY_DELAY: Duration = Duration::from_secs(1);
/// Longest pause that we choose ourselves.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(300);
/// Longest pause that a server may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Longest wait before quiet hours are checked again, so that a change of the clock is noticed.
const MAX_HOLD_WAIT: Duration = Duration::from_secs(60);

/// A notifier with its fallback and its quiet hours.
#[derive(Clone)]
pub struct Route {
    /// Notifier that sends the messages.
    pub notifier: Arc<dyn Notifier>,
    /// Notifier that takes over if this one keeps failing.
    pub fallback: Option<Name>,
    /// Times when messages are held; `None` means never.
    pub quiet_hours: Option<QuietHours>,
}

/// Result of one attempt to send, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeliveryOutcome {
    /// The message was accepted.
    Delivered,
    /// The message was not accepted and is retried.
    Failed,
    /// The message was permanently rejected.
    Refused,
}

impl DeliveryOutcome {
    /// All outcomes, for metrics.
    pub const ALL: [DeliveryOutcome; 3] =
        [DeliveryOutcome::Delivered, DeliveryOutcome::Failed, DeliveryOutcome::Refused];

    /// Returns the value of the metric label.
    pub fn name(self) -> &'static str {
        match self {
            DeliveryOutcome::Delivered => "delivered",
            DeliveryOutcome::Failed => "failed",
            DeliveryOutcome::Refused => "refused",
        }
    }
}

/// Callback that is given the outcome of each attempt, with the name of the notifier.
pub type DeliveryCounter = Arc<dyn Fn(&Name, DeliveryOutcome) + Send + Sync>;

/// Delivery of one notifier's pending events, until it is stopped.
pub struct DeliveryWorker {
    name: Name,
    route: Route,
    all_notifiers: BTreeSet<Name>,
    store: Arc<StateStore>,
    clock: Arc<dyn Clock>,
    backoff: LaneBackoff,
    /// Send that is in progress.
    sending: Option<RunningSend>,
    counter: Option<DeliveryCounter>,
    /// True if messages were held by quiet hours in the last iteration.
    held: bool,
}

/// A send in progress.
pub struct RunningSend {
    batch: DeliveryBatch,
    began: Time,
    outcome: JoinHandle<SendResult>,
}

type SendResult = Result<Delivered, SendError>;

/// A stopped worker, with its send in progress if there is one.
pub struct StoppedWorker(DeliveryWorker);

impl StoppedWorker {
    /// Waits until the send in progress ends, and marks its result.
    pub async fn finish(self) {
        let Self(mut worker) = self;
        if let Some(sending) = &mut worker.sending {
            let outcome = (&mut sending.outcome).await;
            worker.mark(outcome).await;
        }
        worker.store.flush().await;
    }

    /// Returns the send in progress and the pauses, for the next worker of this notifier.
    pub fn into_parts(self) -> (Option<RunningSend>, RetryPauses) {
        (self.0.sending, RetryPauses(Mutex::new(self.0.backoff)))
    }
}

/// Pauses after a worker's failures, including those that its server asked for. The lock allows sharing the timers between
/// threads.
pub struct RetryPauses(Mutex<LaneBackoff>);

impl RunningSend {
    /// Returns true if the send has ended.
    pub fn has_ended(&self) -> bool {
        self.outcome.is_finished()
    }

    /// Waits until the send has ended, without marking the result: the notifier is no longer configured.
    pub async fn ended(&mut self) {
        let _ = (&mut self.outcome).await; // the result does not matter: nothing is pending for this notifier any more
    }
}

impl DeliveryWorker {
    /// Creates a worker for the notifier `name`. `all_notifiers` has the names of all notifiers.
    pub fn new(
        name: Name,
        route: Route,
        all_notifiers: BTreeSet<Name>,
        store: Arc<StateStore>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let backoff = LaneBackoff::new(Arc::clone(&clock));
        Self { name, route, all_notifiers, store, clock, backoff, sending: None, counter: None, held: false }
    }

    /// Calls `counter` after each attempt.
    #[must_use]
    pub fn with_counter(mut self, counter: DeliveryCounter) -> Self {
        self.counter = Some(counter);
        self
    }

    /// Waits for a send that an earlier worker of this notifier left in progress, before sending anything else.
    #[must_use]
    pub fn with_running_send(mut self, sending: Option<RunningSend>) -> Self {
        self.sending = sending;
        self
    }

    /// Continues the pauses of an earlier worker of this notifier.
    #[must_use]
    pub fn with_pauses(mut self, pauses: Option<RetryPauses>) -> Self {
        if let Some(RetryPauses(backoff)) = pauses {
            self.backoff = backoff.into_inner().unwrap_or_else(PoisonError::into_inner);
        }
        self
    }

    /// Delivers until `stop` becomes true, and finishes a send in progress first.
    pub async fn run(self, stop: watch::Receiver<bool>) {
        self.run_until_stopped(stop).await.finish().await;
    }

    /// Delivers until `stop` becomes true, and returns at once. A send in progress continues.
    pub async fn run_until_stopped(mut self, mut stop: watch::Receiver<bool>) -> StoppedWorker {
        while !*stop.borrow() {
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
                () = stopped(&mut stop) => break,
            };
            if let Some(outcome) = ended {
                self.mark(outcome).await;
            }
        }
        StoppedWorker(self)
    }

    /// Saves marks and forgets empty lanes while nothing can be sent.
    async fn idle(&mut self) {
        self.store.flush_marks().await;
        self.forget_empty_lanes();
    }

    /// Returns how long pending events are held by quiet hours; `None` if they may be sent. An event that may be sent takes
    /// the others along, in one message.
    fn hold(&self) -> Option<Duration> {
        let (quiet, now) = (self.route.quiet_hours.as_ref()?, self.clock.now());
        let critical =
            self.store.read(|state| state.pending_for(&self.name).any(|(event, _)| event.is_about_critical()));
        let until = quiet.quiet_until(now, critical)?;
        Some((until - now).to_std().unwrap_or_default().clamp(Duration::from_millis(1), MAX_HOLD_WAIT))
    }

    /// Restarts the count of failures after quiet hours: held events have not failed, and the first step afterwards is an
    /// attempt.
    async fn resume_after_hold(&mut self) {
        if !std::mem::take(&mut self.held) {
            return;
        }
        self.backoff.reset_failure_counts();
        let (name, now) = (self.name.clone(), self.clock.now());
        self.store.change(|state| ((), state.count_failures_from(&name, now, |since| since < now))).await;
    }

    /// Starts a send. It fails if all recipients still wait for something older.
    async fn send(&mut self, batch: DeliveryBatch) {
        // A change by another task may be in memory only. Sending starts after an attempt to save it.
        self.store.flush_queued().await;
        let (notifier, counter, name) = (Arc::clone(&self.route.notifier), self.counter.clone(), self.name.clone());
        let message = batch.message.clone();
        // A task of its own, so that a panic inside a channel is a failed attempt and nothing more.
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

    /// Marks the result of the finished send, and sets the pauses before the next attempt.
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
            tracing::warn!(notifier = %self.name, recipient = refusal.recipient, reason = refusal.reason, "recipient temporarily rejected, retrying this recipient");
        }
        let reached = |lane: &&DeliveryLane| !matches!(lane, DeliveryLane::RetriedRecipient(recipient) if deferred.contains(recipient));
        self.backoff.succeeded(&batch.lanes.iter().filter(reached).cloned().collect::<Vec<_>>());
        self.retry_left_out(batch);
        if let Some(refusal) = delivered.deferred.first() {
            let lanes: Vec<DeliveryLane> = deferred.into_iter().map(DeliveryLane::RetriedRecipient).collect();
            self.backoff.failed(&lanes, &refusal.reason, None);
        }
    }

    /// Retries recipients that were left out of a message: they are sent it now, after what they have not received yet.
    fn retry_left_out(&mut self, batch: &DeliveryBatch) {
        for recipient in &batch.left_out {
            self.backoff.end_pause(&DeliveryLane::RetriedRecipient(recipient.clone()));
        }
    }

    /// Marks a permanent rejection. If a recipient was retried alone, its rejection is no failure of the notifier, because
    /// others were reached. Recipients that were left out of the message have not rejected anything.
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
        tracing::error!(notifier = %self.name, reason = error.reason, events = ids.len(), handed_to_fallback = handed, "notification permanently rejected, not retrying");
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
        tracing::warn!(notifier = %self.name, reason = error.reason, events = ids.len(), attempts, "notification could not be sent, still pending");
        self.log_refused(&error.refused);
    }

    fn log_refused(&self, refused: &[RecipientRefusal]) {
        for refusal in refused {
            tracing::error!(notifier = %self.name, recipient = refusal.recipient, reason = refusal.reason, "recipient permanently rejected: correct or remove the address");
        }
    }

    /// Forgets the failures of lanes with nothing pending.
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

/// Clears the failure of a notifier that delivered something. If another lane still fails, the notifier has failed since
/// that began. Returns the failure that is over.
fn clear_failure(state: &mut State, name: &Name) -> Option<NotifierFailure> {
    let Some(since) = state.oldest_failure(name) else { return state.failing_notifiers.remove(name) };
    if let Some(failure) = state.failing_notifiers.get_mut(name).filter(|failure| !failure.reported) {
        failure.since = since;
    }
    None
}

/// Waits until `stop` becomes true or its sender is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn delivery_outcome(sent: &Result<Delivered, SendError>) -> DeliveryOutcome {
    match sent {
        Ok(_) => DeliveryOutcome::Delivered,
        Err(error) if error.permanent => DeliveryOutcome::Refused,
        Err(_) => DeliveryOutcome::Failed,
    }
}

/// Returns the pause after this number of failed attempts: doubled from 1 s to 5 min, times `jitter`, and never shorter than
/// `retry_after`.
pub fn retry_delay(attempts: u32, retry_after: Option<Duration>, jitter: f64) -> Duration {
    let doubled = MIN_RETRY_DELAY.saturating_mul(1 << attempts.saturating_sub(1).min(9));
    let own = doubled.min(MAX_RETRY_DELAY).mul_f64(jitter).clamp(MIN_RETRY_DELAY, MAX_RETRY_DELAY);
    own.max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER))
}
