//! Owed events → entries: one an alert, divisions that share every figure together, most severe first.
//!
//! Decides what belongs together and in which order; the words are `phrase`'s.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::text::{Times, name, visible};
use super::{Entry, Link, Tone, phrase, picture};
use crate::domain::alert::{AlertKey, Kind};
use crate::domain::event::{Event, Subject, Value};
use crate::domain::rule::{Metric, Severity};
use crate::domain::{Division, Time};
use crate::notify::message::forecast_lines;
use crate::notify::{Item, Via, Words};

/// Divisions that a headline names before it counts the rest.
const NAMED: usize = 8;
/// Rules that stood firing, without their divisions: what two unreadable divisions are compared by.
type StandingStill = BTreeSet<(String, Severity)>;

/// The events of one alert, or one notice.
pub(super) struct Group<'a> {
    /// Told in full.
    pub(super) newest: &'a Item,
    /// Oldest first.
    earlier: Vec<&'a Item>,
    omitted: u32,
    /// The divisions that share it, each as the reader knows it.
    pub(super) divisions: Vec<String>,
    pub(super) since: Time,
    pub(super) next_reminder: Option<Time>,
}

/// What belongs together, in the order in which it is told.
pub(super) fn groups(items: &[Item]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group> = Vec::new();
    let mut places: HashMap<Figure, Vec<usize>> = HashMap::new();
    for group in by_alert(items) {
        let figure = Figure::of(&group.newest.event);
        let alike = figure.map(|figure| places.entry(figure).or_default());
        let same = |place: &&usize| share_a_fund(&groups[**place], &group);
        if let Some(place) = alike.as_ref().and_then(|alike| alike.iter().find(same)) {
            groups[*place].join(group);
        } else {
            if let Some(alike) = alike {
                alike.push(groups.len());
            }
            groups.push(group);
        }
    }
    groups.sort_by_cached_key(|group| (tone(&group.newest.event), place_in_order(&group.newest.event)));
    groups
}

fn by_alert(items: &[Item]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group> = Vec::new();
    let mut places: BTreeMap<&AlertKey, usize> = BTreeMap::new();
    for item in items {
        let key = item.event.alert();
        match key.and_then(|key| places.get(key)) {
            Some(place) => groups[*place].follow(item),
            None => {
                places.extend(key.map(|key| (key, groups.len())));
                groups.push(Group::new(item));
            }
        }
    }
    groups
}

impl<'a> Group<'a> {
    fn new(item: &'a Item) -> Self {
        Self {
            newest: item,
            earlier: Vec::new(),
            omitted: item.omitted,
            divisions: division(&item.event).into_iter().collect(),
            since: since(&item.event),
            next_reminder: item.event.next_reminder(),
        }
    }

    fn follow(&mut self, item: &'a Item) {
        let mut earlier = std::mem::take(&mut self.earlier);
        earlier.push(self.newest);
        let omitted = self.omitted.saturating_add(item.omitted);
        *self = Self { earlier, omitted, ..Self::new(item) };
    }

    fn join(&mut self, other: Group) {
        self.divisions.extend(other.divisions);
        self.since = self.since.min(other.since);
        self.next_reminder = [self.next_reminder, other.next_reminder].into_iter().flatten().min();
    }

    /// It told in full.
    pub(super) fn entry(&self, times: Times, words: &Words) -> Entry {
        let event = &self.newest.event;
        let mut details = phrase::details(event, self.since, times);
        details.extend(forecast_lines::lines(event, times));
        details.extend(phrase::silence(event, times));
        details.extend(self.newest.via.as_ref().map(in_place_of));
        let rule = event.alert().map(|key| &key.rule);
        let wording = rule.and_then(|rule| words.rules.get(rule));
        Entry {
            tone: self.tone(),
            headline: self.headline(),
            to_do: forecast_lines::to_do(event),
            details,
            picture: picture::of(event, times.zone),
            history: self.history(times),
            description: wording
                .and_then(|words| words.description.as_deref())
                .map(visible)
                .filter(|text| !text.is_empty()),
            links: links(event, wording.and_then(|words| words.link.as_deref()), words),
            footer: rule.map(|rule| self.footer(rule, times)),
        }
    }

    /// It told in a line.
    pub(super) fn headline(&self) -> String {
        phrase::headline(&self.newest.event, &self.place())
    }

    pub(super) fn tone(&self) -> Tone {
        tone(&self.newest.event)
    }

    /// The level that somebody is called for.
    pub(super) fn calls(&self) -> Option<Severity> {
        let event = &self.newest.event;
        let calls = matches!(event.kind(), Some(Kind::Raised | Kind::Escalated | Kind::Reminder));
        event.level().filter(|_| calls)
    }

    /// Whose it is.
    pub(super) fn account(&self) -> Option<&'a str> {
        account(&self.newest.event)
    }

    /// `acme · History department`.
    pub(super) fn place(&self) -> String {
        let account = account(&self.newest.event).map(name).unwrap_or_default();
        let named: Vec<&str> = self.divisions.iter().take(NAMED).map(String::as_str).collect();
        match (named.as_slice(), self.divisions.len().saturating_sub(NAMED)) {
            ([], _) => account,
            (named, 0) => format!("{account} · {}", named.join(", ")),
            (named, more) => format!("{account} · {} and {more} more", named.join(", ")),
        }
    }

    fn history(&self, times: Times) -> Vec<String> {
        let mut lines: Vec<String> = self.earlier.iter().map(|item| phrase::history(&item.event, times)).collect();
        match self.omitted {
            0 => {}
            1 => lines.push("1 more change in between".to_owned()),
            n => lines.push(format!("{n} more changes in between")),
        }
        lines
    }

    fn footer(&self, rule: &str, times: Times) -> String {
        let next = self.next_reminder.filter(|next| *next >= times.now);
        let next = next.map(|next| format!(" · next reminder {}", times.short(next))).unwrap_or_default();
        format!("rule {}{next}", name(rule))
    }
}

/// So that each alert is compared with few of thousands: two that [share a fund](share_a_fund) have the same.
#[derive(PartialEq, Eq, Hash)]
struct Figure<'a> {
    account: &'a str,
    rule: &'a str,
    value: Option<Value>,
    reason: Option<&'a str>,
}

impl<'a> Figure<'a> {
    /// `None`: a notice, which shares nothing.
    fn of(event: &'a Event) -> Option<Self> {
        let (value, reason) = match &event.subject {
            Subject::Threshold(it) => (Some(it.value), None),
            Subject::Unreadable(it) => (None, it.reason.as_deref()),
            _ => return None,
        };
        event.alert().map(|key| Self { account: &key.account, rule: &key.rule, value, reason })
    }
}

/// Whether two alerts say the same of two divisions: the same figures (they share one fund), or the same failure.
fn share_a_fund(one: &Group, other: &Group) -> bool {
    let (Some(a), Some(b)) = (one.newest.event.alert(), other.newest.event.alert()) else { return false };
    let divided = a.division.is_some() && b.division.is_some() && a.division != b.division;
    let past = |group: &Group| -> Vec<Option<Kind>> { group.earlier.iter().map(|item| item.event.kind()).collect() };
    divided
        && a.account == b.account
        && a.rule == b.rule
        && one.omitted == other.omitted
        && same_figures(&one.newest.event, &other.newest.event)
        && one.newest.via == other.newest.via
        && one.newest.event.silence == other.newest.event.silence
        && past(one) == past(other)
        && one.earlier.iter().zip(&other.earlier).all(|(a, b)| same_figures(&a.event, &b.event))
}

fn same_figures(one: &Event, other: &Event) -> bool {
    match (&one.subject, &other.subject) {
        (Subject::Threshold(a), Subject::Threshold(b)) => {
            (a.kind, a.level, a.metric, a.value, a.threshold, &a.breakdown, &a.ahead)
                == (b.kind, b.level, b.metric, b.value, b.threshold, &b.breakdown, &b.ahead)
        }
        (Subject::Unreadable(a), Subject::Unreadable(b)) => {
            let still = |list: &[(AlertKey, Severity)]| -> StandingStill {
                list.iter().map(|(key, level)| (key.rule.to_string(), *level)).collect()
            };
            (a.kind, a.level, &a.reason, a.outlook, &a.blind, still(&a.standing_still))
                == (b.kind, b.level, &b.reason, b.outlook, &b.blind, still(&b.standing_still))
        }
        _ => false,
    }
}

fn tone(event: &Event) -> Tone {
    if let Some(page) = event.report() {
        return super::report::tone(page);
    }
    match (event.kind(), event.level()) {
        (Some(Kind::Resolved), _) => Tone::Resolved,
        (Some(_), Some(Severity::Critical)) => Tone::Critical,
        (Some(_), Some(Severity::Warning)) => Tone::Warning,
        _ => Tone::Notice,
    }
}

fn place_in_order(event: &Event) -> (String, Division, String) {
    let of = |account: Option<&str>, division, rule: &str| {
        (account.unwrap_or_default().to_owned(), division, rule.to_owned())
    };
    match &event.subject {
        Subject::Threshold(e) => of(Some(&e.key.account), e.key.division, &e.key.rule),
        Subject::Unreadable(e) => of(Some(&e.key.account), e.key.division, &e.key.rule),
        Subject::AlertEnded { key, .. } => of(Some(&key.account), key.division, &key.rule),
        Subject::Unwatched { account, division, .. } => of(Some(account), *division, ""),
        Subject::NotifierFailing { notifier, .. }
        | Subject::NotifierRecovered { notifier, .. }
        | Subject::NotifierRemoved { notifier } => of(None, None, notifier),
        Subject::Report(page) => of(None, None, &page.name),
    }
}

pub(super) fn account(event: &Event) -> Option<&str> {
    match &event.subject {
        Subject::Unwatched { account, .. } => Some(account),
        _ => event.alert().map(|key| &*key.account),
    }
}

/// The division as the reader knows it: by name, else by number.
fn division(event: &Event) -> Option<String> {
    let (id, known_as) = match &event.subject {
        Subject::Threshold(e) => (e.key.division, e.division_name.as_deref()),
        Subject::Unreadable(e) => (e.key.division, e.division_name.as_deref()),
        Subject::Unwatched { division, division_name, .. } => (*division, division_name.as_deref()),
        Subject::AlertEnded { key, .. } => (key.division, None),
        Subject::NotifierFailing { .. }
        | Subject::NotifierRecovered { .. }
        | Subject::NotifierRemoved { .. }
        | Subject::Report(_) => (None, None),
    };
    let known_as = known_as.map(name).filter(|name| !name.is_empty());
    id.map(|id| known_as.unwrap_or_else(|| format!("division {id}")))
}

fn since(event: &Event) -> Time {
    match &event.subject {
        Subject::Threshold(e) => e.since,
        Subject::Unreadable(e) => e.since,
        Subject::NotifierFailing { since, .. } | Subject::NotifierRecovered { since, .. } => *since,
        Subject::AlertEnded { .. }
        | Subject::Unwatched { .. }
        | Subject::NotifierRemoved { .. }
        | Subject::Report(_) => event.at,
    }
}

pub(super) fn in_place_of(via: &Via) -> String {
    format!("Sent here because {} could not deliver: {}", name(&via.notifier), phrase::quote(&via.error))
}

/// The deposit link where a deposit helps, and the rule's own.
fn links(event: &Event, rule_link: Option<&str>, words: &Words) -> Vec<Link> {
    let web = |url: &str| url.starts_with("https://") || url.starts_with("http://");
    let helps = match &event.subject {
        // Neither does a deposit take back what was spent, nor does it save older ones from expiring.
        Subject::Threshold(e) => e.kind != Kind::Resolved && !matches!(e.metric, Metric::Spend | Metric::ExpiringFunds),
        _ => false,
    };
    let deposit = account(event).filter(|_| helps).and_then(|account| words.console_urls.get(account));
    let deposit = deposit.map(|url| Link { label: "Deposit funds", url: url.clone(), primary: true });
    let more = rule_link.map(|url| Link { label: "Read more", url: url.to_owned(), primary: false });
    deposit.into_iter().chain(more).filter(|link| web(&link.url)).collect()
}
