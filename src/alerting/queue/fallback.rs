//! Handover of pending events to fallbacks.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{DeliveryQueue, EventThread, PendingDelivery};
use crate::domain::Name;
use crate::domain::alert::AlertKey;

/// Events to queue for the fallback of a notifier that fails.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Handover<'a> {
    /// Notifier whose deliveries fail.
    pub(crate) notifier: &'a Name,
    /// Notifier that takes over.
    pub(crate) fallback: &'a Name,
    /// Description of the failure for people.
    pub(crate) error: &'a str,
    /// Ids of the events; `None` for everything that is pending for the notifier.
    pub(crate) ids: Option<&'a BTreeSet<String>>,
}

/// One event that a fallback is asked to deliver.
struct FallbackDelivery {
    /// Index of the event in the queue.
    index: usize,
    fallback: Name,
    in_place_of: (Name, String),
    omitted: u32,
}

impl DeliveryQueue {
    /// Queues for a fallback what a notifier could not deliver, except events that the fallback was asked to deliver before.
    /// `thread_of` returns the Message-ID of the first message about an alert. Returns the number of events.
    pub(crate) fn hand_over(
        &mut self,
        handover: Handover<'_>,
        thread_of: impl Fn(&AlertKey, &Name) -> Option<String>,
    ) -> usize {
        let Handover { notifier, fallback, error, ids } = handover;
        let mut deliveries = Vec::new();
        for (index, queued) in self.events.iter().enumerate() {
            let delivery =
                queued.pending.get(notifier).filter(|_| ids.is_none_or(|ids| ids.contains(&queued.event.id)));
            // If single recipients remain, the others were reached: no fallback is needed.
            if let Some(delivery) = delivery.filter(|delivery| delivery.remaining_recipients.is_none()) {
                let in_place_of = (notifier.clone(), error.to_owned());
                let (fallback, omitted) = (fallback.clone(), delivery.omitted);
                deliveries.push(FallbackDelivery { index, fallback, in_place_of, omitted });
            }
        }
        self.enqueue_fallback_deliveries(deliveries, thread_of)
    }

    /// Follows a configuration in which notifiers have other fallbacks: what is pending for a fallback is also queued for the
    /// present fallback of the notifier that it stands in for. Returns the number of events.
    pub(crate) fn hand_over_to_new_fallbacks(
        &mut self,
        fallback_of: impl Fn(&str) -> Option<Name>,
        thread_of: impl Fn(&AlertKey, &Name) -> Option<String>,
    ) -> usize {
        let mut deliveries = Vec::new();
        for (index, queued) in self.events.iter().enumerate() {
            for delivery in queued.pending.values().filter(|delivery| delivery.remaining_recipients.is_none()) {
                let Some(in_place_of) = delivery.in_place_of.clone() else { continue };
                let Some(fallback) = fallback_of(&in_place_of.0) else { continue };
                deliveries.push(FallbackDelivery { index, fallback, in_place_of, omitted: delivery.omitted });
            }
        }
        self.enqueue_fallback_deliveries(deliveries, thread_of)
    }

    /// Queues events for fallbacks. Each fallback is asked once for an event, whatever the outcome.
    fn enqueue_fallback_deliveries(
        &mut self,
        deliveries: Vec<FallbackDelivery>,
        thread_of: impl Fn(&AlertKey, &Name) -> Option<String>,
    ) -> usize {
        let (mut threads, mut count) = (BTreeSet::new(), 0);
        for FallbackDelivery { index, fallback, in_place_of, omitted } in deliveries {
            let queued = &mut self.events[index];
            if !queued.event.may_be_handed_to(&fallback) {
                continue;
            }
            Arc::make_mut(&mut queued.event).audience.insert(fallback.clone());
            let thread = queued.event.alert().and_then(|key| thread_of(key, &fallback));
            let delivery =
                PendingDelivery { in_place_of: Some(in_place_of), omitted, thread, ..PendingDelivery::default() };
            queued.pending.insert(fallback.clone(), Box::new(delivery));
            threads.insert((EventThread::of(&queued.event.subject), fallback));
            count += 1;
        }
        for (thread, fallback) in threads {
            self.limit_thread([&fallback], &thread);
        }
        count
    }
}
