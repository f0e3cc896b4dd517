//! Delivery of pending events: one worker for each notifier, so that none delays another. Failed attempts are retried with
//! growing pauses, handed over to the fallback, and reported if the notifier keeps failing (`fallback`).
//!
//! A worker does not decide what is pending: it reads the queue in the state, sends, and marks the result there. What it
//! cannot send stays pending. `backoff` decides what is tried next after a failure.
//!
//! If a message has several recipients, those that are rejected temporarily are retried alone. They never receive an older
//! state after a newer one: as long as something is pending for such a recipient, it is left out of messages to all, and the
//! content of these is sent to it after what it has not received yet.

mod backoff;
mod batch;
mod fallback;
mod results;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use fallback::{FALLBACK_AFTER, REPORT_AFTER};

use self::backoff::{DeliveryLane, LaneBackoff};
use self::batch::DeliveryBatch;
use super::{Delivered, MAX_RETRY_AFTER, Notifier, SendError};
use crate::alerting::queue::PendingDelivery;
use crate::domain::event::Event;
use crate::domain::quiet_hours::QuietHours;
use crate::domain::{Name, Time};
use crate::state::StateStore;
use crate::util::clock::Clock;

/// Shortest pause after a failure.
const MIN_RETRY_DELAY: Duration = Duration::from_secs(1);
/// Longest pause that we choose ourselves.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(300);
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

    /// Delivers until `shutdown` is cancelled, and finishes a send in progress first.
    pub async fn run(self, shutdown: CancellationToken) {
        self.run_until_stopped(shutdown).await.finish().await;
    }

    /// Delivers until `shutdown` is cancelled, and returns at once. A send in progress continues.
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
            self.store.read(|state| state.queue.pending_for(&self.name).any(|(event, _)| event.is_about_critical()));
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
            state.queue.pending_for(&self.name).flat_map(of).collect()
        });
        self.backoff.retain(|lane| lanes.contains(lane));
    }

    fn other_notifiers(&self) -> BTreeSet<Name> {
        self.all_notifiers.iter().filter(|name| **name != self.name).cloned().collect()
    }
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
