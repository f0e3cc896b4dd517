//! What goes out next: which pending events make one message, and to whom.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::Worker;
use crate::alerting::state::{Owing, State};
use crate::domain::event::{Event, Subject};
use crate::notify::delivery::backoff::{Candidate, Lane};
use crate::notify::{Content, Item, Message, Via, digest};

/// What to send next.
pub(super) struct Batch {
    /// Its lane; of recipients that are retried alone, theirs.
    pub(super) lanes: Vec<Lane>,
    pub(super) ids: BTreeSet<String>,
    pub(super) message: Message,
    /// Recipients that are left out because something older is still to reach them: they get this with it.
    pub(super) behind: Vec<String>,
}

impl Batch {
    /// The recipients that are retried alone with it, if it is for such.
    pub(super) fn alone(&self) -> Option<&[String]> {
        let alone = matches!(self.lanes.first(), Some(Lane::Alone(_)));
        self.message.only.as_deref().filter(|_| alone)
    }
}

impl Worker {
    /// What is pending and may be sent now, from the lane whose turn it is; recipients that are retried alone come last.
    pub(super) fn batch(&self) -> Option<Batch> {
        self.book.read(|state| self.batch_for_all(state).or_else(|| self.batch_for_some(state)))
    }

    /// The lane of an event that is to reach everyone.
    pub(super) fn lane_of(&self, event: &Event) -> Lane {
        Lane::of(event, self.desk.notifier.one_by_one())
    }

    /// A message to everyone, but for recipients that something older is still to reach: it joins that.
    fn batch_for_all(&self, state: &State) -> Option<Batch> {
        let pending = || state.owed_to(&self.name).filter(|(_, owing)| owing.only.is_none());
        let lane = self.lanes.choose(self.candidates(pending().map(|(event, _)| event)).into_iter())?;
        let chosen = pending().filter(|(event, _)| self.lane_of(event) == lane).take(lane.most_at_once());
        let waiting: BTreeSet<&String> =
            state.owed_to(&self.name).filter_map(|(_, owing)| owing.only.as_ref()).flatten().collect();
        let recipients = if waiting.is_empty() { Vec::new() } else { self.desk.notifier.recipients() };
        let (behind, free): (Vec<String>, Vec<String>) = recipients.into_iter().partition(|it| waiting.contains(it));
        let only = (!behind.is_empty()).then_some(free);
        Some(self.put_together(vec![lane.clone()], chosen, only, behind))
    }

    /// The lanes of pending events, which come oldest first, each with what decides its turn. Those whose oldest event waits
    /// for an event of the same alert in another lane are left out.
    fn candidates<'a>(&self, events: impl Iterator<Item = &'a Arc<Event>>) -> Vec<Candidate> {
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
        in_turn.map(|(lane, (critical, place, _))| Candidate { lane, critical, place }).collect()
    }

    /// A message to recipients that are retried alone: to one of them everything that it still lacks, in order, and to
    /// all others that lack the same.
    fn batch_for_some(&self, state: &State) -> Option<Batch> {
        let mut lacking: BTreeMap<&String, BTreeSet<usize>> = BTreeMap::new();
        for (place, (_, owing)) in state.owed_to(&self.name).enumerate() {
            for recipient in owing.only.iter().flatten() {
                lacking.entry(recipient).or_default().insert(place);
            }
        }
        lacking.retain(|recipient, _| self.lanes.may_try(&Lane::Alone((*recipient).clone())));
        let first = lacking.iter().min_by_key(|(_, places)| places.first())?.1.clone();
        let recipients: Vec<String> =
            lacking.iter().filter(|(_, places)| **places == first).map(|(recipient, _)| (*recipient).clone()).collect();
        let lanes = recipients.iter().cloned().map(Lane::Alone).collect();
        let events = || state.owed_to(&self.name).enumerate().filter(|(place, _)| first.contains(place));
        // A report is a page of its own here too.
        let lane = events().next().map(|(_, (event, _))| self.lane_of(event))?;
        let alike = events().map(|(_, it)| it).filter(|(event, _)| self.lane_of(event) == lane);
        let chosen = alike.take(lane.most_at_once());
        Some(self.put_together(lanes, chosen, Some(recipients), Vec::new()))
    }

    fn put_together<'a>(
        &self,
        lanes: Vec<Lane>,
        chosen: impl Iterator<Item = (&'a Arc<Event>, &'a Owing)>,
        only: Option<Vec<String>>,
        behind: Vec<String>,
    ) -> Batch {
        let (mut items, mut references) = (Vec::new(), Vec::new());
        for (event, owing) in chosen {
            let via = owing.via.clone().map(|(notifier, error)| Via { notifier, error });
            references.extend(owing.thread.clone().filter(|thread| !references.contains(thread)));
            items.push(Item { event: event.clone(), omitted: owing.omitted, via });
        }
        let ids: BTreeSet<String> = items.iter().map(|item| item.event.id.clone()).collect();
        let id = message_id(&self.name, &items);
        let message = Message { id, at: self.clock.now(), content: Content::Events(items), references, only };
        Batch { lanes, ids, message, behind }
    }
}

/// Stable for the same events to the same notifier. What they say counts beside their ids, which repeat where the clock
/// comes by the same time twice: a reader must not take a new message for one that it has.
fn message_id(notifier: &str, items: &[Item]) -> String {
    let events: BTreeMap<&str, &Subject> =
        items.iter().map(|item| (item.event.id.as_str(), &item.event.subject)).collect();
    // One text at a time: thousands may be owed.
    let said = |(id, subject): (&str, &Subject)| [id.to_owned(), serde_json::to_string(subject).unwrap_or_default()];
    digest(std::iter::once(notifier.to_owned()).chain(events.into_iter().flat_map(said)))
}
