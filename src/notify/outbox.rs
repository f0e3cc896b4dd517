//! Delivering what is owed: one worker a notifier, so that none delays another. Retries with growing pauses, hands over
//! to the fallback, and reports a notifier that stays broken (`escalation`).
//!
//! A worker never decides what is owed: it takes it from the book, sends, and marks it there. What it cannot send stays.
//! What it tries next after a failure is decided by `lanes`. Of several recipients of one message, those that are refused
//! for the moment are retried alone. They never hear an older state after a newer one: until nothing is pending for such a
//! recipient, it is left out of messages to all, and what these say joins what it still lacks.

mod escalation;
mod lanes;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};

pub use escalation::{FALLBACK_AFTER, REPORT_AFTER};

use self::lanes::{Candidate, Divisions, Lane, Lanes};
use super::{Content, Delivered, Item, Message, Notifier, Refusal, SendError, Via, digest};
use crate::clock::Clock;
use crate::domain::event::{Event, Subject};
use crate::domain::quiet::QuietHours;
use crate::domain::state::{Owing, State, Trouble};
use crate::domain::{Name, Time};
use crate::store::{Book, Due};

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

/// What to send next.
struct Batch {
    /// Its lane; of recipients that are retried alone, theirs.
    lanes: Vec<Lane>,
    ids: BTreeSet<String>,
    message: Message,
    /// Recipients that are left out because something older is still to reach them: they get this with it.
    behind: Vec<String>,
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

    /// Its running send, for the next worker of this notifier.
    pub fn into_sending(self) -> Option<Sending> {
        self.0.sending
    }
}

impl Sending {
    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.outcome.is_finished()
    }

    /// Waits until it has ended, for a notifier that is no longer configured: nothing is marked.
    pub async fn ended(&mut self) {
        let _ = (&mut self.outcome).await; // it was told what there is to tell when the notifier left
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

    /// What is pending and may be sent now, from the lane whose turn it is; recipients that are retried alone come last.
    fn batch(&self) -> Option<Batch> {
        self.book.read(|state| self.batch_for_all(state).or_else(|| self.batch_for_some(state)))
    }

    fn lane_of(&self, event: &Event) -> Lane {
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

    /// The lanes of pending events, which come oldest first, each with what decides its turn.
    fn candidates<'a>(&self, events: impl Iterator<Item = &'a Arc<Event>>) -> Vec<Candidate> {
        let (mut lanes, mut divisions) = (HashMap::new(), Divisions::default());
        for (place, event) in events.enumerate() {
            divisions.note(event, place);
            let (critical, ..) = lanes.entry(self.lane_of(event)).or_insert((false, place, event));
            *critical |= event.is_about_critical();
        }
        let in_turn = lanes.into_iter().filter(|(lane, (_, place, event))| {
            *lane == Lane::Together || !divisions.something_is_before(event, *place)
        });
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
        self.lanes.succeeded(&batch.lanes);
        for recipient in &batch.behind {
            self.lanes.try_now(&Lane::Alone(recipient.clone()));
        }
        if let Some(refusal) = delivered.deferred.first() {
            let lanes: Vec<Lane> = deferred.into_iter().map(Lane::Alone).collect();
            self.lanes.failed(&lanes, &refusal.reason, None);
        }
    }

    /// A lone recipient that is refused for good says nothing about the notifier: its neighbours were reached.
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
                state.refused(&name, ids);
                (handed, if handed > 0 { Due::BeforeSending } else { Due::Soon })
            })
            .await;
        for lane in &batch.lanes {
            self.lanes.settled(lane);
        }
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

impl Batch {
    /// The recipients that are retried alone with it, if it is for such.
    fn alone(&self) -> Option<&[String]> {
        let alone = matches!(self.lanes.first(), Some(Lane::Alone(_)));
        self.message.only.as_deref().filter(|_| alone)
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

/// Stable for the same events to the same notifier. What they say counts beside their ids, which repeat where the clock
/// comes by the same time twice: a reader must not take a new message for one that it has.
fn message_id(notifier: &str, items: &[Item]) -> String {
    let events: BTreeMap<&str, &Subject> =
        items.iter().map(|item| (item.event.id.as_str(), &item.event.subject)).collect();
    // One text at a time: thousands may be owed.
    let said = |(id, subject): (&str, &Subject)| [id.to_owned(), serde_json::to_string(subject).unwrap_or_default()];
    digest(std::iter::once(notifier.to_owned()).chain(events.into_iter().flat_map(said)))
}
