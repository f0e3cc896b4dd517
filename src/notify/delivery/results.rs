//! Results of attempts: what is marked in the state, the pauses before the next attempt, and the log.

use tokio::task::JoinError;

use super::backoff::DeliveryLane;
use super::batch::DeliveryBatch;
use super::{DeliveryWorker, RunningSend, SendResult, delivery_outcome};
use crate::alerting::queue::NewEvent;
use crate::alerting::state::{NotifierFailure, State};
use crate::domain::event::EventSubject;
use crate::domain::{Name, Time};
use crate::notify::{Delivered, RecipientRefusal, SendError};
use crate::state::SaveDue;

impl DeliveryWorker {
    /// Marks the result of the finished send, and sets the pauses before the next attempt.
    pub(super) async fn mark(&mut self, outcome: Result<SendResult, JoinError>) {
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
                    state.queue.mark_recipients_done(&name, ids, &reached);
                } else {
                    let left = [&batch.left_out[..], &deferred].concat();
                    state.mark_delivered(&name, ids, delivered.message_id.as_deref(), &left);
                }
                let failure = clear_failure(state, &name);
                let reported = failure.as_ref().filter(|failure| failure.reported);
                if let Some(failure) = reported {
                    let subject = EventSubject::NotifierRecovered { notifier: name.clone(), since: failure.since };
                    state.queue.enqueue(NewEvent::notice(subject, now, other_notifiers));
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
                    state.queue.mark_recipients_done(&name, ids, retried);
                    return (0, SaveDue::Soon);
                }
                state.record_failure(&name, &error.reason, now);
                let handed = fallback.map_or(0, |fallback| state.hand_over(&name, &fallback, &error.reason, Some(ids)));
                state.queue.mark_refused(&name, ids, &batch.left_out);
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
                    let changed = state.queue.mark_failing(&name, ids, since) || changed;
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
}

/// Clears the failure of a notifier that delivered something. If another lane still fails, the notifier has failed since
/// that began. Returns the failure that is over.
fn clear_failure(state: &mut State, name: &Name) -> Option<NotifierFailure> {
    let Some(since) = state.queue.oldest_failure(name) else { return state.failing_notifiers.remove(name) };
    if let Some(failure) = state.failing_notifiers.get_mut(name).filter(|failure| !failure.reported) {
        failure.since = since;
    }
    None
}
