//! What is remembered between cycles: alerts that are not ok, what is owed to whom, and which notifiers are in trouble.
//!
//! Pure operations on a value; saving it is the store's business, and so nothing here can be half done.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::alert::{Alert, AlertKey, Kind, Latch};
use crate::domain::event::{Event, Subject};
use crate::domain::money::Currency;
use crate::domain::report::Reported;
use crate::domain::silence::{Hushed, Note, Silence};
use crate::domain::{Division, Name, Time};

/// Of one alert's events, so many are kept for a notifier that cannot be reached; those between are counted.
pub const KEPT_PER_ALERT: usize = 10;

/// Everything that outlives the process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    /// Alerts that are not ok.
    #[serde(default, with = "as_list", skip_serializing_if = "BTreeMap::is_empty")]
    pub alerts: BTreeMap<AlertKey, Remembered>,
    /// Events that somebody is still to be told, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owed: Vec<Owed>,
    /// Silences that were made by command, by their ids; those in the configuration stay there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub silences: BTreeMap<u32, Silence>,
    /// Notifiers whose last attempt failed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notifiers: BTreeMap<Name, Trouble>,
    /// The last page of each report: what the next one is compared with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reports: BTreeMap<Name, Reported>,
}

/// An alert that is not ok, with what a message about it needs when it can no longer be read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Remembered {
    /// Its life so far.
    #[serde(flatten)]
    pub alert: Alert,
    /// The division's name as last listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub division_name: Option<String>,
    /// Why an account or division is unreadable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of what is unreadable: the rules that could not be judged when the balance itself was read last; empty: it was not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blind: Vec<Name>,
    /// The currency of its last reading: amounts in another one say nothing about thresholds that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// Set while it fires and a silence keeps people from hearing so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hushed: Option<Hushed>,
}

/// An event to queue.
#[derive(Debug)]
pub struct NewEvent<'a> {
    /// What happened.
    pub subject: Subject,
    /// When it is queued.
    pub at: Time,
    /// The time that its alert was judged by, if it has one.
    pub judged_at: Option<Time>,
    /// Whom it is for; if empty, nothing is queued.
    pub recipients: &'a BTreeSet<Name>,
    /// The alert's threads so far, by notifier.
    pub threads: &'a BTreeMap<Name, Option<String>>,
    /// The silence about it.
    pub silence: Option<Note>,
    /// Notifiers that must not get it, not even in place of another that fails.
    pub kept_from: BTreeSet<Name>,
}

/// One event and who is still to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// The event; shared with the messages that are made of it.
    pub event: Arc<Event>,
    /// The notifiers that have not delivered it yet; never empty. Boxed, because a map has room for eleven.
    pub to: BTreeMap<Name, Box<Owing>>,
}

/// What one notifier owes of one event.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Owing {
    /// Set when this notifier tells it in place of another: that one's name and failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<(Name, String)>,
    /// Message-ID of the first message about this alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// Recipients that are still to be reached; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Vec<String>>,
    /// Events of the same alert, right before this one, that were dropped to stay bounded.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: u32,
    /// Begin of the first of the tries that failed; `None`: none has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Time>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde wants
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// A notifier that fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Its first failure since it last worked.
    pub since: Time,
    /// Its last failure, for people.
    pub error: String,
    /// The other notifiers have been told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reported: bool,
}

impl State {
    /// Owes an event to `recipients`. `told` names the alert's threads so far. Owes nothing if there is nobody to tell.
    pub fn owe(
        &mut self,
        subject: Subject,
        at: Time,
        recipients: &BTreeSet<Name>,
        told: &BTreeMap<Name, Option<String>>,
    ) {
        if recipients.is_empty() {
            return;
        }
        let (threads, kept_from) = (told, BTreeSet::new());
        let new = NewEvent { subject, at, judged_at: None, recipients, threads, silence: None, kept_from };
        self.enqueue(new, &mut OwedIndex::of(self));
    }

    /// Queues an event that continues no message, for whoever queues many in a row.
    pub fn enqueue_notice(&mut self, subject: Subject, at: Time, recipients: &BTreeSet<Name>, index: &mut OwedIndex) {
        let (threads, kept_from) = (&BTreeMap::new(), BTreeSet::new());
        self.enqueue(NewEvent { subject, at, judged_at: None, recipients, threads, silence: None, kept_from }, index);
    }

    /// Queues an event, unless it has no recipients. `index` is of what is queued so far, for whoever queues many in a row.
    pub fn enqueue(&mut self, new: NewEvent<'_>, index: &mut OwedIndex) {
        let NewEvent { subject, at, judged_at, recipients, threads, silence, kept_from } = new;
        if recipients.is_empty() {
            return;
        }
        let audience = recipients | &kept_from;
        let judged_at = judged_at.filter(|judged| *judged != at);
        let event = Event { id: index.fresh_id(&subject, at), at, judged_at, subject, silence, audience };
        let thread = Thread::of(&event);
        let may_have_more = index.note(&event);
        let owing = |name: &Name| Box::new(Owing { thread: threads.get(name).cloned().flatten(), ..Owing::default() });
        let to = recipients.iter().map(|name| (name.clone(), owing(name))).collect();
        self.owed.push(Owed { event: Arc::new(event), to });
        if may_have_more {
            self.keep_bounded(recipients, &thread);
        }
    }

    /// Everyone who was told of the alert that lives now, or is about to be.
    pub fn told_or_owed(&self, key: &AlertKey) -> BTreeSet<Name> {
        let mut names = BTreeSet::new();
        let of_alert = |owed: &&Owed| owed.event.alert().is_some_and(|it| it.division == key.division && it == key);
        for owed in self.owed.iter().filter(of_alert) {
            if owed.event.kind() == Some(Kind::Resolved) {
                names.clear();
            } else {
                names.extend(owed.to.keys().cloned());
            }
        }
        names.extend(self.told(key));
        names
    }

    /// Everyone who was told of the alert that lives now.
    pub fn told(&self, key: &AlertKey) -> impl Iterator<Item = Name> {
        self.alerts.get(key).into_iter().flat_map(|it| it.alert.told.keys().cloned())
    }

    /// What a notifier owes, oldest first.
    pub fn owed_to<'a>(&'a self, notifier: &'a str) -> impl Iterator<Item = (&'a Arc<Event>, &'a Owing)> {
        self.owed.iter().filter_map(move |owed| owed.to.get(notifier).map(|owing| (&owed.event, &**owing)))
    }

    /// Marks events as delivered. `deferred` recipients, if any, stay owed alone.
    pub fn delivered(
        &mut self,
        notifier: &Name,
        ids: &BTreeSet<String>,
        message_id: Option<&str>,
        deferred: &[String],
    ) {
        self.notified(notifier, ids, message_id);
        let sent = self.owed.iter().filter(|owed| ids.contains(&owed.event.id));
        let lines: BTreeSet<String> = sent.map(|owed| owed.event.subject.identity()).collect();
        for owed in self.owed.iter_mut().filter(|owed| !ids.contains(&owed.event.id)) {
            let Some(owing) = owed.to.get_mut(notifier).filter(|owing| owing.thread.is_none()) else { continue };
            if lines.contains(&owed.event.subject.identity()) {
                owing.thread = message_id.map(str::to_owned);
            }
        }
        self.leave_to(notifier, ids, deferred);
    }

    /// Notes that somebody has received these events through a notifier.
    pub fn notified(&mut self, notifier: &Name, ids: &BTreeSet<String>, message_id: Option<&str>) {
        for owed in self.owed.iter().filter(|owed| ids.contains(&owed.event.id)) {
            let event = &owed.event;
            let Some(known) = event.alert().and_then(|key| self.alerts.get_mut(key)) else { continue };
            let of_this_life = known.alert.since().is_some_and(|since| event.at >= since);
            if of_this_life && known.alert.firing().is_some() && event.kind() != Some(Kind::Resolved) {
                known.alert.told.entry(notifier.clone()).or_insert_with(|| message_id.map(str::to_owned));
            }
        }
    }

    /// Leaves these events pending for some recipients only, or for nobody.
    fn leave_to(&mut self, notifier: &str, ids: &BTreeSet<String>, recipients: &[String]) {
        for owed in self.owed.iter_mut().filter(|owed| ids.contains(&owed.event.id)) {
            if recipients.is_empty() {
                owed.to.remove(notifier);
            } else if let Some(owing) = owed.to.get_mut(notifier) {
                owing.only = Some(recipients.to_vec());
                owing.failing_since = None;
            }
        }
        self.drop_settled();
    }

    /// Marks events as settled for recipients that were retried alone, whether these took them or refused them for good.
    pub fn settled_alone(&mut self, notifier: &str, ids: &BTreeSet<String>, recipients: &[String]) {
        for owed in self.owed.iter_mut().filter(|owed| ids.contains(&owed.event.id)) {
            let Some(only) = owed.to.get_mut(notifier).and_then(|owing| owing.only.as_mut()) else { continue };
            only.retain(|recipient| !recipients.contains(recipient));
            if only.is_empty() {
                owed.to.remove(notifier);
            }
        }
        self.drop_settled();
    }

    /// Marks events as refused for good by a notifier. They stay pending for recipients that they were not offered to.
    pub fn refused(&mut self, notifier: &str, ids: &BTreeSet<String>, not_asked: &[String]) {
        self.leave_to(notifier, ids, not_asked);
    }

    /// Queues for `fallback` what `notifier` could not deliver, but for what that one was asked to tell before. Returns how
    /// many events.
    pub fn hand_over(
        &mut self,
        notifier: &Name,
        fallback: &Name,
        error: &str,
        ids: Option<&BTreeSet<String>>,
    ) -> usize {
        let wanted = |event: &Event| ids.is_none_or(|ids| ids.contains(&event.id));
        let mut asked = Vec::new();
        for (i, owed) in self.owed.iter().enumerate().filter(|(_, owed)| wanted(&owed.event)) {
            // A lone recipient that is refused for the moment has neighbours who were reached: nobody needs telling instead.
            if let Some(owing) = owed.to.get(notifier).filter(|owing| owing.only.is_none()) {
                asked.push((i, fallback.clone(), (notifier.clone(), error.to_owned()), owing.omitted));
            }
        }
        self.ask(asked)
    }

    /// Follows a configuration in which notifiers have other fallbacks: what waits for one that is asked in place of a
    /// notifier is queued for the fallback that this notifier has now. Returns how many events.
    pub fn ask_new_fallbacks(&mut self, fallback_of: impl Fn(&str) -> Option<Name>) -> usize {
        let mut asked = Vec::new();
        for (i, owed) in self.owed.iter().enumerate() {
            for owing in owed.to.values().filter(|owing| owing.only.is_none()) {
                let Some(via) = &owing.via else { continue };
                asked.extend(fallback_of(&via.0).map(|fallback| (i, fallback, via.clone(), owing.omitted)));
            }
        }
        self.ask(asked)
    }

    /// Queues events, by their places, for fallbacks that were not asked to tell them before: each is asked once, whatever
    /// became of it.
    fn ask(&mut self, asked: Vec<(usize, Name, (Name, String), u32)>) -> usize {
        let mut threads = BTreeSet::new();
        let mut queued = 0;
        for (i, fallback, via, omitted) in asked {
            let owed = &mut self.owed[i];
            if !owed.event.may_be_handed_to(&fallback) {
                continue;
            }
            Arc::make_mut(&mut owed.event).audience.insert(fallback.clone());
            let alert = owed.event.alert().and_then(|key| self.alerts.get(key));
            let thread = alert.and_then(|known| known.alert.told.get(&fallback).cloned()?);
            let owing = Owing { via: Some(via), omitted, thread, ..Owing::default() };
            owed.to.insert(fallback.clone(), Box::new(owing));
            threads.insert((Thread::of(&owed.event), fallback));
            queued += 1;
        }
        for (thread, fallback) in threads {
            self.keep_bounded([&fallback], &thread);
        }
        queued
    }

    /// Notes that a try to deliver these events, begun at `since`, failed. Returns whether that is new of any.
    pub fn failing(&mut self, notifier: &str, ids: &BTreeSet<String>, since: Time) -> bool {
        let mut new = false;
        for owed in self.owed.iter_mut().filter(|owed| ids.contains(&owed.event.id)) {
            let Some(owing) = owed.to.get_mut(notifier) else { continue };
            let first = owing.failing_since.map_or(since, |before| before.min(since));
            new |= owing.failing_since.replace(first) != Some(first);
        }
        new
    }

    /// Counts failures of a notifier and of its events from `now`, those for which `stale` holds. Returns whether there
    /// were any.
    pub fn count_failures_from(&mut self, notifier: &str, now: Time, stale: impl Fn(Time) -> bool) -> bool {
        let trouble = self.notifiers.get_mut(notifier).filter(|trouble| !trouble.reported || trouble.since > now);
        let events = self.owed.iter_mut().filter_map(|owed| owed.to.get_mut(notifier)?.failing_since.as_mut());
        let mut any = false;
        for since in trouble.map(|trouble| &mut trouble.since).into_iter().chain(events).filter(|since| stale(**since))
        {
            *since = now;
            any = true;
        }
        any
    }

    /// Begin of the oldest failure among what is pending for a notifier.
    pub fn oldest_failure(&self, notifier: &str) -> Option<Time> {
        self.owed_to(notifier).filter_map(|(_, owing)| owing.failing_since).min()
    }

    /// Notes a failed attempt.
    pub fn failed(&mut self, notifier: &Name, error: &str, now: Time) -> &mut Trouble {
        let fresh = || Trouble { since: now, error: String::new(), reported: false };
        let trouble = self.notifiers.entry(notifier.clone()).or_insert_with(fresh);
        trouble.since = trouble.since.min(now);
        error.clone_into(&mut trouble.error);
        trouble
    }

    /// Drops what is owed to, and known of, notifiers that are no longer configured. Returns how much by notifier.
    pub fn forget_notifiers(&mut self, configured: impl Fn(&str) -> bool) -> BTreeMap<Name, usize> {
        let mut dropped = BTreeMap::new();
        for owed in &mut self.owed {
            owed.to.retain(|name, _| {
                let keep = configured(name);
                if !keep {
                    *dropped.entry(name.clone()).or_insert(0) += 1;
                }
                keep
            });
        }
        self.notifiers.retain(|name, _| configured(name));
        for known in self.alerts.values_mut() {
            known.alert.told.retain(|name, _| configured(name));
        }
        self.drop_settled();
        dropped
    }

    /// Tells notifiers that keep incidents of the failing ones that are no longer configured: nobody will say that they work
    /// again.
    pub fn end_removed_notifiers(
        &mut self,
        configured: impl Fn(&str) -> bool,
        incident_notifiers: &BTreeSet<Name>,
        now: Time,
    ) {
        let removed = self.notifiers.iter().filter(|(name, trouble)| trouble.reported && !configured(name));
        let removed: Vec<Name> = removed.map(|(name, _)| name.clone()).collect();
        for notifier in removed {
            self.owe(Subject::NotifierRemoved { notifier }, now, incident_notifiers, &BTreeMap::new());
        }
    }

    /// Adds a silence. Returns its id, which none of those that are kept has.
    pub fn add_silence(&mut self, silence: Silence) -> u32 {
        let id = self.silences.last_key_value().map_or(1, |(id, _)| id.saturating_add(1));
        self.silences.insert(id, silence);
        id
    }

    /// Drops silences whose time has passed. Returns whether there were any.
    pub fn drop_ended_silences(&mut self, now: Time) -> bool {
        let before = self.silences.len();
        self.silences.retain(|_, silence| !silence.ended(now));
        self.silences.len() != before
    }

    fn drop_settled(&mut self) {
        self.owed.retain(|owed| !owed.to.is_empty());
    }

    /// For each of these notifiers and one alert (or report): drops reminders and pages that something newer follows, and
    /// all but the oldest and the newest.
    fn keep_bounded<'a>(&mut self, notifiers: impl IntoIterator<Item = &'a Name>, thread: &Thread) {
        let of_thread: Vec<usize> = (0..self.owed.len()).filter(|i| thread.has(&self.owed[*i].event)).collect();
        let mut dropped = false;
        for notifier in notifiers {
            let mine = |i: &usize| self.owed[*i].to.contains_key(notifier);
            let mut places: Vec<usize> = of_thread.iter().copied().filter(mine).collect();
            let Some(newest) = places.last().copied() else { continue };
            let before = places.len();
            let mut failing_since = None;
            places.retain(|i| {
                let event = &self.owed[*i].event;
                let passing = event.kind() == Some(Kind::Reminder) || event.report().is_some();
                let stale = *i != newest && passing;
                if stale {
                    let gone = self.owed[*i].to.remove(notifier).and_then(|owing| owing.failing_since);
                    failing_since = failing_since.into_iter().chain(gone).min();
                }
                !stale
            });
            // What replaces an event that could not be sent has failed as long.
            if let Some(owing) = self.owed[newest].to.get_mut(notifier).filter(|_| failing_since.is_some()) {
                owing.failing_since = failing_since;
            }
            if places.len() > KEPT_PER_ALERT {
                let surplus = places.len() - KEPT_PER_ALERT;
                let mut omitted = u32::try_from(surplus).unwrap_or(u32::MAX);
                for i in places.drain(1..=surplus) {
                    let its_own = self.owed[i].to.remove(notifier).map_or(0, |owing| owing.omitted);
                    omitted = omitted.saturating_add(its_own);
                }
                if let Some(owing) = self.owed[places[1]].to.get_mut(notifier) {
                    owing.omitted = owing.omitted.saturating_add(omitted);
                }
            }
            dropped |= places.len() < before;
        }
        if dropped {
            self.drop_settled();
        }
    }
}

/// What is owed, for whoever owes many events in a row: to look through all of it for each would take quadratic time. It may
/// know of more than is still owed, and never of less, as long as everything is owed through it.
#[derive(Debug)]
pub struct OwedIndex {
    ids: HashSet<String>,
    alerts: HashSet<AlertKey>,
}

impl OwedIndex {
    /// Of what is owed now.
    pub fn of(state: &State) -> Self {
        let events = || state.owed.iter().map(|owed| &*owed.event);
        Self {
            ids: events().map(|event| event.id.clone()).collect(),
            alerts: events().filter_map(Event::alert).cloned().collect(),
        }
    }

    /// Whether something of this alert may be owed.
    pub fn may_owe(&self, key: &AlertKey) -> bool {
        self.alerts.contains(key)
    }

    /// Adds an event. Returns whether something that it continues may be owed.
    fn note(&mut self, event: &Event) -> bool {
        self.ids.insert(event.id.clone());
        event.alert().is_none_or(|key| !self.alerts.insert(key.clone()))
    }

    fn fresh_id(&self, subject: &Subject, at: Time) -> String {
        let stem = format!("{}@{}", subject.identity(), at.timestamp_micros());
        let mut id = stem.clone();
        for n in 2.. {
            if !self.ids.contains(&id) {
                break;
            }
            id = format!("{stem}.{n}");
        }
        id
    }
}

/// What an event continues: an alert, or the notices of one kind about the same thing. Within it, order matters.
// The same as `Subject::identity`, but without a text to be made of every event that is compared: thousands may be owed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Thread {
    /// The alert that it belongs to.
    Alert(AlertKey),
    /// What a notice is about.
    Notice(String),
}

impl Thread {
    /// What `event` continues.
    pub fn of(event: &Event) -> Self {
        event.alert().map_or_else(|| Self::Notice(event.subject.identity()), |key| Self::Alert(key.clone()))
    }

    fn has(&self, event: &Event) -> bool {
        match (self, event.alert()) {
            (Self::Alert(mine), Some(key)) => mine.division == key.division && mine == key,
            (Self::Notice(mine), None) => *mine == event.subject.identity(),
            _ => false,
        }
    }
}

/// JSON has no keys that are records: alerts are saved as a list.
mod as_list {
    use super::{Alert, AlertKey, BTreeMap, Currency, Division, Hushed, Latch, Name, Remembered, Time};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize)]
    struct Out<'a> {
        #[serde(flatten)]
        key: &'a AlertKey,
        #[serde(flatten)]
        known: &'a Remembered,
    }

    /// The same as it is read, field by field: what is flattened is read by way of a copy of every value, which takes thrice
    /// the time.
    #[derive(Deserialize)]
    struct In {
        account: Name,
        #[serde(default)]
        division: Division,
        rule: Name,
        #[serde(default)]
        warning: Option<Latch>,
        #[serde(default)]
        critical: Option<Latch>,
        #[serde(default)]
        last_event: Option<Time>,
        #[serde(default)]
        told: BTreeMap<Name, Option<String>>,
        #[serde(default)]
        division_name: Option<String>,
        #[serde(default)]
        reason: Option<String>,
        #[serde(default)]
        blind: Vec<Name>,
        #[serde(default)]
        currency: Option<Currency>,
        #[serde(default)]
        hushed: Option<Hushed>,
    }

    impl From<In> for (AlertKey, Remembered) {
        fn from(it: In) -> Self {
            let key = AlertKey { account: it.account, division: it.division, rule: it.rule };
            let alert = Alert { warning: it.warning, critical: it.critical, last_event: it.last_event, told: it.told };
            let In { division_name, reason, blind, currency, hushed, .. } = it;
            (key, Remembered { alert, division_name, reason, blind, currency, hushed })
        }
    }

    pub(crate) fn serialize<S: Serializer>(alerts: &BTreeMap<AlertKey, Remembered>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(alerts.iter().map(|(key, known)| Out { key, known }))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<AlertKey, Remembered>, D::Error> {
        Ok(Vec::<In>::deserialize(from)?.into_iter().map(Into::into).collect())
    }
}
