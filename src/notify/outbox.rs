//! Delivering what is owed: one worker a notifier, so that none delays another. Retries with growing pauses, hands over
//! to the fallback, and reports a notifier that stays broken (`escalation`).
//!
//! A worker never decides what is owed: it takes it from the book, sends, and marks it there. What it cannot send stays.

mod escalation;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use escalation::{FALLBACK_AFTER, REPORT_AFTER};

use super::{Content, Delivered, Item, Message, Notifier, SendError, Via, digest};
use crate::clock::Clock;
use crate::domain::Name;
use crate::domain::event::{Event, Subject};
use crate::domain::quiet::QuietHours;
use crate::store::Book;

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
    failures: u32,
    lone_failures: u32,
    /// Nothing is sent before it is over.
    pause: Pause,
    /// Nothing is sent to recipients that are retried alone before it is over.
    lone_pause: Pause,
    counter: Option<Counter>,
    /// Its messages were held when it was last looked.
    held: bool,
}

type Pause = Option<Pin<Box<dyn Future<Output = ()> + Send>>>;

/// What to send next: the events' ids, and the message.
struct Batch {
    ids: BTreeSet<String>,
    message: Message,
}

impl Worker {
    /// A worker for `name`; `everyone` names all notifiers.
    pub fn new(name: Name, desk: Desk, everyone: BTreeSet<Name>, book: Arc<Book>, clock: Arc<dyn Clock>) -> Self {
        let (pause, lone_pause, counter) = (None, None, None);
        Self {
            name,
            desk,
            everyone,
            book,
            clock,
            failures: 0,
            lone_failures: 0,
            pause,
            lone_pause,
            counter,
            held: false,
        }
    }

    /// Tells `counter` of every try.
    #[must_use]
    pub fn counted_by(mut self, counter: Counter) -> Self {
        self.counter = Some(counter);
        self
    }

    /// Works until `stop` turns true; a send that runs then is finished first.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let book = Arc::clone(&self.book);
            let changed = book.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let hold = self.hold();
            if hold.is_none() {
                self.after_a_hold().await;
                self.escalate().await;
            }
            self.held = hold.is_some();
            let batch = if self.held { None } else { self.batch(self.pause.is_none(), self.lone_pause.is_none()) };
            match batch {
                Some(batch) => self.deliver(batch).await,
                None => {
                    let clock = Arc::clone(&self.clock);
                    let due = hold.or_else(|| self.report_due());
                    let report = due.map(|due| async move { clock.sleep(due).await });
                    tokio::select! {
                        () = &mut changed => {}
                        () = or_never(self.pause.as_mut()) => self.pause = None,
                        () = or_never(self.lone_pause.as_mut()) => self.lone_pause = None,
                        () = async { match report { Some(due) => due.await, None => std::future::pending().await } } => {}
                        _ = stop.changed() => {}
                    }
                }
            }
        }
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
        self.failures = 0; // the pause stays: a server may have asked for it
        let (name, now) = (self.name.clone(), self.clock.now());
        self.book
            .change(|state| {
                let trouble = state.notifiers.get_mut(&name).filter(|trouble| !trouble.reported && trouble.since < now);
                ((), trouble.map(|trouble| trouble.since = now).is_some())
            })
            .await;
    }

    /// What is owed and may be sent now: everything, or the oldest event alone where the notifier wants them one by one.
    /// Recipients that are retried alone get a message of their own.
    fn batch(&self, may_send: bool, may_send_alone: bool) -> Option<Batch> {
        self.book.read(|state| {
            let only = state
                .owed_to(&self.name)
                .map(|(_, owing)| &owing.only)
                .find(|only| if only.is_none() { may_send } else { may_send_alone })?
                .clone();
            let alike = |event: &Event| event.report().map(|page| (page.name.clone(), page.due));
            let first = state.owed_to(&self.name).find(|(_, owing)| owing.only == only).and_then(|(it, _)| alike(it));
            // A report is a page of its own: it shares a message with nothing.
            let most = if self.desk.notifier.one_by_one() { 1 } else { usize::MAX };
            let owed =
                state.owed_to(&self.name).filter(|(it, owing)| owing.only == only && alike(it) == first).take(most);
            let (mut items, mut references) = (Vec::new(), Vec::new());
            for (event, owing) in owed {
                let via = owing.via.clone().map(|(notifier, error)| Via { notifier, error });
                references.extend(owing.thread.clone().filter(|thread| !references.contains(thread)));
                items.push(Item { event: event.clone(), omitted: owing.omitted, via });
            }
            let ids: BTreeSet<String> = items.iter().map(|item| item.event.id.clone()).collect();
            let id = message_id(&self.name, &items);
            let message = Message { id, at: self.clock.now(), content: Content::Events(items), references, only };
            Some(Batch { ids, message })
        })
    }

    /// Sends once, marks what became of it, and sets the pause before the next try, if one is needed.
    async fn deliver(&mut self, batch: Batch) {
        let Batch { ids, message } = batch;
        let alone = message.only.is_some();
        // Another task's change may be in memory and not yet on disk: nothing is sent before it is, or has failed to be.
        self.book.flush().await;
        let notifier = Arc::clone(&self.desk.notifier);
        // A task of its own: whatever goes wrong inside a channel, even a panic, is a failed send and nothing more.
        let sent = tokio::spawn(async move { notifier.send(&message).await }).await;
        let sent = sent.unwrap_or_else(|panic| {
            let reason = format!("sending ended unexpectedly: {panic}");
            Err(SendError { permanent: false, reason, retry_after: None, refused: Vec::new() })
        });
        if let Some(counter) = &self.counter {
            counter(&self.name, tried(&sent));
        }
        match sent {
            Ok(delivered) => self.mark_delivered(&ids, delivered).await,
            Err(error) if error.permanent => self.mark_refused(&ids, &error, alone).await,
            Err(error) => self.mark_failed(&ids, &error, alone).await,
        }
    }

    async fn mark_delivered(&mut self, ids: &BTreeSet<String>, delivered: Delivered) {
        let deferred: Vec<String> = delivered.deferred.iter().map(|it| it.recipient.clone()).collect();
        let (name, now) = (self.name.clone(), self.clock.now());
        let others = self.others();
        let recovered = self
            .book
            .change(|state| {
                state.delivered(&name, ids, delivered.message_id.as_deref(), &deferred);
                let trouble = state.notifiers.remove(&name);
                if let Some(trouble) = trouble.as_ref().filter(|trouble| trouble.reported) {
                    let subject = Subject::NotifierRecovered { notifier: name.clone(), since: trouble.since };
                    state.owe(subject, now, &others, &BTreeMap::new());
                }
                (trouble.is_some(), true)
            })
            .await;
        if recovered {
            tracing::info!(notifier = %self.name, "notifier works again");
        }
        tracing::info!(notifier = %self.name, events = ids.len(), "notification delivered");
        for refusal in &delivered.refused {
            tracing::error!(notifier = %self.name, recipient = refusal.recipient, reason = refusal.reason, "recipient refused for good: correct or remove the address");
        }
        for refusal in &delivered.deferred {
            tracing::warn!(notifier = %self.name, recipient = refusal.recipient, reason = refusal.reason, "recipient refused for the moment: tried again alone");
        }
        self.failures = 0;
        if deferred.is_empty() {
            self.lone_failures = 0;
        } else {
            self.lone_failures += 1;
            self.lone_pause = Some(self.pause_after(self.lone_failures, None));
        }
    }

    /// A lone recipient that is refused for good says nothing about the notifier: its neighbours were reached.
    async fn mark_refused(&mut self, ids: &BTreeSet<String>, error: &SendError, alone: bool) {
        let (name, now, fallback) = (self.name.clone(), self.clock.now(), self.desk.fallback.clone());
        let handed = self
            .book
            .change(|state| {
                if !alone {
                    state.failed(&name, &error.reason, now);
                }
                let handed = fallback.map_or(0, |fallback| state.hand_over(&name, &fallback, &error.reason, Some(ids)));
                state.refused(&name, ids);
                (handed, true)
            })
            .await;
        if !alone {
            self.failures = 0;
        }
        tracing::error!(notifier = %self.name, reason = error.reason, events = ids.len(), handed_to_fallback = handed, "notification refused for good: not tried again");
    }

    async fn mark_failed(&mut self, ids: &BTreeSet<String>, error: &SendError, alone: bool) {
        let (name, now) = (self.name.clone(), self.clock.now());
        if alone {
            self.lone_failures += 1;
        } else {
            self.failures += 1;
            self.book
                .change(|state| {
                    let before = state.notifiers.get(&name).cloned();
                    let changed = Some(&*state.failed(&name, &error.reason, now)) != before.as_ref();
                    ((), changed)
                })
                .await;
        }
        let tries = if alone { self.lone_failures } else { self.failures };
        tracing::warn!(notifier = %self.name, reason = error.reason, events = ids.len(), tries, "notification could not be sent: still owed");
        for refusal in &error.refused {
            tracing::error!(notifier = %self.name, recipient = refusal.recipient, reason = refusal.reason, "recipient refused for good: correct or remove the address");
        }
        let pause = Some(self.pause_after(tries, error.retry_after));
        if alone {
            self.lone_pause = pause;
        } else {
            self.pause = pause;
        }
    }

    fn others(&self) -> BTreeSet<Name> {
        self.everyone.iter().filter(|name| **name != self.name).cloned().collect()
    }

    fn pause_after(&self, tries: u32, asked: Option<Duration>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let clock = Arc::clone(&self.clock);
        let pause = pause_after(tries, asked, rand::random_range(0.75..1.25));
        Box::pin(async move { clock.sleep(pause).await })
    }
}

fn tried(sent: &Result<Delivered, SendError>) -> Tried {
    match sent {
        Ok(_) => Tried::Delivered,
        Err(error) if error.permanent => Tried::Refused,
        Err(_) => Tried::Failed,
    }
}

async fn or_never(pause: Option<&mut Pin<Box<dyn Future<Output = ()> + Send>>>) {
    match pause {
        Some(pause) => pause.await,
        None => std::future::pending().await,
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
