//! Choice of the pending events that make the next message, and of its recipients.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::DeliveryWorker;
use crate::alerting::queue::PendingDelivery;
use crate::alerting::state::State;
use crate::domain::event::{Event, EventSubject};
use crate::notify::delivery::backoff::{DeliveryLane, LaneCandidate};
use crate::notify::{FallbackOrigin, Message, MessageContent, MessageEvent, digest};

/// Next message to send.
pub(super) struct DeliveryBatch {
    /// Lane of the events, or the lanes of recipients that are retried alone.
    pub(super) lanes: Vec<DeliveryLane>,
    pub(super) ids: BTreeSet<String>,
    pub(super) message: Message,
    /// Recipients that are left out because something older is pending for them. They receive this message together with it.
    pub(super) left_out: Vec<String>,
}

impl DeliveryBatch {
    /// Returns the recipients that are retried alone with this message, if it is for such.
    pub(super) fn retried_recipients(&self) -> Option<&[String]> {
        let retrying = matches!(self.lanes.first(), Some(DeliveryLane::RetriedRecipient(_)));
        self.message.remaining_recipients.as_deref().filter(|_| retrying)
    }
}

impl DeliveryWorker {
    /// Returns the next message that may be sent now, from the lane whose turn it is. Recipients that are retried alone come
    /// last.
    pub(super) fn next_batch(&self) -> Option<DeliveryBatch> {
        self.store.read(|state| self.batch_for_everyone(state).or_else(|| self.batch_for_retried(state)))
    }

    /// Returns the lane of an event that is pending for all recipients.
    pub(super) fn lane_of(&self, event: &Event) -> DeliveryLane {
        DeliveryLane::of(event, self.route.notifier.one_event_per_request())
    }

    /// Returns a message to all recipients, except those that something older is pending for.
    fn batch_for_everyone(&self, state: &State) -> Option<DeliveryBatch> {
        let pending =
            || state.queue.pending_for(&self.name).filter(|(_, delivery)| delivery.remaining_recipients.is_none());
        let lane = self.backoff.next_lane(self.candidates(pending().map(|(event, _)| event)).into_iter())?;
        let chosen = pending().filter(|(event, _)| self.lane_of(event) == lane).take(lane.max_events_per_message());
        let waiting: BTreeSet<&String> = state
            .queue
            .pending_for(&self.name)
            .filter_map(|(_, delivery)| delivery.remaining_recipients.as_ref())
            .flatten()
            .collect();
        let recipients = if waiting.is_empty() { Vec::new() } else { self.route.notifier.recipients() };
        let (left_out, free): (Vec<String>, Vec<String>) = recipients.into_iter().partition(|it| waiting.contains(it));
        let only = (!left_out.is_empty()).then_some(free);
        Some(self.build_batch(vec![lane.clone()], chosen, only, left_out))
    }

    /// Returns the lanes of pending events, which are given oldest first, with the facts that decide whose turn it is. Lanes
    /// whose oldest event waits for an event of the same alert in another lane are left out.
    fn candidates<'a>(&self, events: impl Iterator<Item = &'a Arc<Event>>) -> Vec<LaneCandidate> {
        let (mut lanes, mut older) = (HashMap::new(), HashSet::new());
        for (place, event) in events.enumerate() {
            let lane = self.lane_of(event);
            let alerts = lane.alerts(event);
            let waits = alerts.iter().any(|alert| older.contains(alert));
            let (critical, ..) = lanes.entry(lane).or_insert((false, place, waits));
            *critical |= event.is_about_critical();
            older.extend(alerts);
        }
        let in_turn = lanes.into_iter().filter(|(_, (_, _, waits))| !waits);
        in_turn.map(|(lane, (critical, place, _))| LaneCandidate { lane, critical, place }).collect()
    }

    /// Returns a message to recipients that are retried alone: everything that one of them has not received, in order, for
    /// all recipients that have not received the same.
    fn batch_for_retried(&self, state: &State) -> Option<DeliveryBatch> {
        let mut missing_events: BTreeMap<&String, BTreeSet<usize>> = BTreeMap::new();
        for (place, (_, delivery)) in state.queue.pending_for(&self.name).enumerate() {
            for recipient in delivery.remaining_recipients.iter().flatten() {
                missing_events.entry(recipient).or_default().insert(place);
            }
        }
        missing_events
            .retain(|recipient, _| self.backoff.is_ready(&DeliveryLane::RetriedRecipient((*recipient).clone())));
        let first = missing_events.iter().min_by_key(|(_, places)| places.first())?.1.clone();
        let recipients: Vec<String> = missing_events
            .iter()
            .filter(|(_, places)| **places == first)
            .map(|(recipient, _)| (*recipient).clone())
            .collect();
        let lanes = recipients.iter().cloned().map(DeliveryLane::RetriedRecipient).collect();
        let events = || state.queue.pending_for(&self.name).enumerate().filter(|(place, _)| first.contains(place));
        // A report never shares a message.
        let lane = events().next().map(|(_, (event, _))| self.lane_of(event))?;
        let alike = events().map(|(_, it)| it).filter(|(event, _)| self.lane_of(event) == lane);
        let chosen = alike.take(lane.max_events_per_message());
        Some(self.build_batch(lanes, chosen, Some(recipients), Vec::new()))
    }

    fn build_batch<'a>(
        &self,
        lanes: Vec<DeliveryLane>,
        chosen: impl Iterator<Item = (&'a Arc<Event>, &'a PendingDelivery)>,
        only: Option<Vec<String>>,
        left_out: Vec<String>,
    ) -> DeliveryBatch {
        let (mut items, mut references) = (Vec::new(), Vec::new());
        for (event, delivery) in chosen {
            let in_place_of = delivery.in_place_of.clone().map(|(notifier, error)| FallbackOrigin { notifier, error });
            references.extend(delivery.thread.clone().filter(|thread| !references.contains(thread)));
            items.push(MessageEvent { event: event.clone(), omitted: delivery.omitted, in_place_of });
        }
        let ids: BTreeSet<String> = items.iter().map(|item| item.event.id.clone()).collect();
        let id = message_id(&self.name, &items);
        let message = Message {
            id,
            at: self.clock.now(),
            content: MessageContent::Events(items),
            references,
            remaining_recipients: only,
        };
        DeliveryBatch { lanes, ids, message, left_out }
    }
}

/// Returns an id that is stable for the same events to the same notifier. It covers their content besides their ids, which
/// repeat if the clock passes the same time twice: a reader must not take a new message for an old one.
fn message_id(notifier: &str, items: &[MessageEvent]) -> String {
    let events: BTreeMap<&str, &EventSubject> =
        items.iter().map(|item| (item.event.id.as_str(), &item.event.subject)).collect();
    // One text at a time: thousands may be pending.
    let said =
        |(id, subject): (&str, &EventSubject)| [id.to_owned(), serde_json::to_string(subject).unwrap_or_default()];
    digest(std::iter::once(notifier.to_owned()).chain(events.into_iter().flat_map(said)))
}
