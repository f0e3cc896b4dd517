//! Bounds of the queue: how many events of one thread are kept for a notifier.

use super::{DeliveryQueue, EventThread};
use crate::domain::Name;
use crate::domain::alert::TransitionKind;

/// Maximum number of events of one alert that are kept for a notifier. Those between the oldest and the newest are dropped and
/// counted.
pub const MAX_QUEUED_PER_ALERT: usize = 10;

impl DeliveryQueue {
    /// Limits the events of one thread that are pending for these notifiers: drops reminders and reports that a newer event
    /// follows, and all but the oldest and the newest events.
    pub(super) fn limit_thread<'a>(&mut self, notifiers: impl IntoIterator<Item = &'a Name>, thread: &EventThread) {
        let of_thread: Vec<usize> =
            (0..self.events.len()).filter(|index| thread.contains(&self.events[*index].event)).collect();
        let mut dropped = false;
        for notifier in notifiers {
            let is_pending = |index: &usize| self.events[*index].pending.contains_key(notifier);
            let mut pending: Vec<usize> = of_thread.iter().copied().filter(is_pending).collect();
            let before = pending.len();
            self.drop_superseded(notifier, &mut pending);
            self.drop_surplus(notifier, &mut pending);
            dropped |= pending.len() < before;
        }
        if dropped {
            self.drop_delivered();
        }
    }

    /// Drops reminders and reports that are not the newest event. `pending` contains the indices of a thread's events.
    fn drop_superseded(&mut self, notifier: &Name, pending: &mut Vec<usize>) {
        let Some(newest) = pending.last().copied() else { return };
        let mut failing_since = None;
        pending.retain(|index| {
            let event = &self.events[*index].event;
            let is_repetition = event.kind() == Some(TransitionKind::Reminder) || event.report().is_some();
            let drop = *index != newest && is_repetition;
            if drop {
                let removed = self.events[*index].pending.remove(notifier);
                failing_since = failing_since.into_iter().chain(removed.and_then(|it| it.failing_since)).min();
            }
            !drop
        });
        // The newest event has failed for as long as those that it replaces.
        if failing_since.is_some()
            && let Some(delivery) = self.events[newest].pending.get_mut(notifier)
        {
            delivery.failing_since = failing_since;
        }
    }

    /// Drops events between the oldest and the newest ones beyond [`MAX_QUEUED_PER_ALERT`], and counts them.
    fn drop_surplus(&mut self, notifier: &Name, pending: &mut Vec<usize>) {
        let surplus = pending.len().saturating_sub(MAX_QUEUED_PER_ALERT);
        if surplus == 0 {
            return;
        }
        let mut omitted = u32::try_from(surplus).unwrap_or(u32::MAX);
        for index in pending.drain(1..=surplus) {
            let counted_before = self.events[index].pending.remove(notifier).map_or(0, |delivery| delivery.omitted);
            omitted = omitted.saturating_add(counted_before);
        }
        if let Some(delivery) = self.events[pending[1]].pending.get_mut(notifier) {
            delivery.omitted = delivery.omitted.saturating_add(omitted);
        }
    }
}
