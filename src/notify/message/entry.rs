//! Groups pending events into entries, most severe first: one for each alert, except that divisions with identical figures
//! share one.
//!
//! This file decides grouping and order; [`phrase`] has the sentences.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::text::{TimeFormatter, name, visible};
use super::{MessageEntry, MessageLink, MessageStatus, phrase, picture};
use crate::domain::alert::{AlertKey, TransitionKind};
use crate::domain::balance::MetricValue;
use crate::domain::event::{Event, EventSubject};
use crate::domain::rule::{Metric, Severity};
use crate::domain::{Division, Time};
use crate::notify::message::forecast_lines;
use crate::notify::{FallbackOrigin, MessageContext, MessageEvent};

/// Maximum number of divisions that a headline names. The others are counted.
const MAX_NAMED_DIVISIONS: usize = 8;
/// Rules with firing alerts, without their divisions. Two unreadable divisions are compared by these.
type FiringRules = BTreeSet<(String, Severity)>;

/// Events of one alert, or one notice.
pub(super) struct AlertGroup<'a> {
    /// Newest event, which is shown in full.
    pub(super) newest: &'a MessageEvent,
    /// Earlier events, oldest first.
    earlier: Vec<&'a MessageEvent>,
    omitted: u32,
    /// Names of the divisions that share the entry; the number if there is no name.
    pub(super) divisions: Vec<String>,
    pub(super) since: Time,
    pub(super) next_reminder: Option<Time>,
}

/// Returns the events grouped into entries, in order of display.
pub(super) fn groups(items: &[MessageEvent]) -> Vec<AlertGroup<'_>> {
    let mut groups: Vec<AlertGroup> = Vec::new();
    let mut places: HashMap<GroupKey, Vec<usize>> = HashMap::new();
    for group in by_alert(items) {
        let figure = GroupKey::of(&group.newest.event);
        let alike = figure.map(|figure| places.entry(figure).or_default());
        let same = |place: &&usize| same_fund(&groups[**place], &group);
        if let Some(place) = alike.as_ref().and_then(|alike| alike.iter().find(same)) {
            groups[*place].join(group);
        } else {
            if let Some(alike) = alike {
                alike.push(groups.len());
            }
            groups.push(group);
        }
    }
    groups.sort_by_cached_key(|group| (status(&group.newest.event), sort_key(&group.newest.event)));
    groups
}

fn by_alert(items: &[MessageEvent]) -> Vec<AlertGroup<'_>> {
    let mut groups: Vec<AlertGroup> = Vec::new();
    let mut places: BTreeMap<&AlertKey, usize> = BTreeMap::new();
    for item in items {
        let key = item.event.alert();
        match key.and_then(|key| places.get(key)) {
            Some(place) => groups[*place].follow(item),
            None => {
                places.extend(key.map(|key| (key, groups.len())));
                groups.push(AlertGroup::new(item));
            }
        }
    }
    groups
}

impl<'a> AlertGroup<'a> {
    fn new(item: &'a MessageEvent) -> Self {
        Self {
            newest: item,
            earlier: Vec::new(),
            omitted: item.omitted,
            divisions: division(&item.event).into_iter().collect(),
            since: since(&item.event),
            next_reminder: item.event.next_reminder(),
        }
    }

    fn follow(&mut self, item: &'a MessageEvent) {
        let mut earlier = std::mem::take(&mut self.earlier);
        earlier.push(self.newest);
        let omitted = self.omitted.saturating_add(item.omitted);
        *self = Self { earlier, omitted, ..Self::new(item) };
    }

    fn join(&mut self, other: AlertGroup) {
        self.divisions.extend(other.divisions);
        self.since = self.since.min(other.since);
        self.next_reminder = [self.next_reminder, other.next_reminder].into_iter().flatten().min();
    }

    /// Returns the entry in full.
    pub(super) fn entry(&self, times: TimeFormatter, context: &MessageContext) -> MessageEntry {
        let event = &self.newest.event;
        let mut details = phrase::details(event, self.since, times);
        details.extend(forecast_lines::lines(event, times));
        details.extend(phrase::silence_line(event, times));
        details.extend(self.newest.in_place_of.as_ref().map(fallback_note));
        let rule = event.alert().map(|key| &key.rule);
        let texts = rule.and_then(|rule| context.rules.get(rule));
        MessageEntry {
            status: self.status(),
            headline: self.headline(),
            to_do: forecast_lines::to_do(event),
            details,
            picture: picture::of(event, times.zone),
            history: self.history(times),
            description: texts
                .and_then(|texts| texts.description.as_deref())
                .map(visible)
                .filter(|text| !text.is_empty()),
            links: links(event, texts.and_then(|texts| texts.link.as_deref()), context),
            footer: rule.map(|rule| self.footer(rule, times)),
        }
    }

    /// Returns the first line of the entry.
    pub(super) fn headline(&self) -> String {
        phrase::headline(&self.newest.event, &self.fund_name())
    }

    pub(super) fn status(&self) -> MessageStatus {
        status(&self.newest.event)
    }

    /// Returns the level that people are mentioned for: the alert fires and did not improve.
    pub(super) fn mentioned_level(&self) -> Option<Severity> {
        let event = &self.newest.event;
        let mentions_people =
            matches!(event.kind(), Some(TransitionKind::Raised | TransitionKind::Escalated | TransitionKind::Reminder));
        event.level().filter(|_| mentions_people)
    }

    /// Returns the account of the entry, unless it is about a notifier.
    pub(super) fn account(&self) -> Option<&'a str> {
        account(&self.newest.event)
    }

    /// Returns `acme · History department`.
    pub(super) fn fund_name(&self) -> String {
        let account = account(&self.newest.event).map(name).unwrap_or_default();
        let named: Vec<&str> = self.divisions.iter().take(MAX_NAMED_DIVISIONS).map(String::as_str).collect();
        match (named.as_slice(), self.divisions.len().saturating_sub(MAX_NAMED_DIVISIONS)) {
            ([], _) => account,
            (named, 0) => format!("{account} · {}", named.join(", ")),
            (named, more) => format!("{account} · {} and {more} more", named.join(", ")),
        }
    }

    fn history(&self, times: TimeFormatter) -> Vec<String> {
        let mut lines: Vec<String> = self.earlier.iter().map(|item| phrase::history_line(&item.event, times)).collect();
        match self.omitted {
            0 => {}
            1 => lines.push("1 more change in between".to_owned()),
            n => lines.push(format!("{n} more changes in between")),
        }
        lines
    }

    fn footer(&self, rule: &str, times: TimeFormatter) -> String {
        let next = self.next_reminder.filter(|next| *next >= times.now);
        let next = next.map(|next| format!(" · next reminder {}", times.short(next))).unwrap_or_default();
        format!("rule {}{next}", name(rule))
    }
}

/// Key by which candidates for one entry are found without comparing each alert with thousands of others. Alerts that [share
/// a fund](same_fund) have equal keys.
#[derive(PartialEq, Eq, Hash)]
struct GroupKey<'a> {
    account: &'a str,
    rule: &'a str,
    value: Option<MetricValue>,
    reason: Option<&'a str>,
}

impl<'a> GroupKey<'a> {
    /// Returns `None` for a notice, which shares an entry with nothing.
    fn of(event: &'a Event) -> Option<Self> {
        let (value, reason) = match &event.subject {
            EventSubject::Threshold(it) => (Some(it.value), None),
            EventSubject::Unreadable(it) => (None, it.reason.as_deref()),
            _ => return None,
        };
        event.alert().map(|key| Self { account: &key.account, rule: &key.rule, value, reason })
    }
}

/// Returns true if two alerts of different divisions have the same content: the same figures, because they share one fund,
/// or the same failure.
fn same_fund(one: &AlertGroup, other: &AlertGroup) -> bool {
    let (Some(a), Some(b)) = (one.newest.event.alert(), other.newest.event.alert()) else { return false };
    let divided = a.division.is_some() && b.division.is_some() && a.division != b.division;
    let past = |group: &AlertGroup| -> Vec<Option<TransitionKind>> {
        group.earlier.iter().map(|item| item.event.kind()).collect()
    };
    divided
        && a.account == b.account
        && a.rule == b.rule
        && one.omitted == other.omitted
        && same_figures(&one.newest.event, &other.newest.event)
        && one.newest.in_place_of == other.newest.in_place_of
        && one.newest.event.silence == other.newest.event.silence
        && past(one) == past(other)
        && one.earlier.iter().zip(&other.earlier).all(|(a, b)| same_figures(&a.event, &b.event))
}

fn same_figures(one: &Event, other: &Event) -> bool {
    match (&one.subject, &other.subject) {
        (EventSubject::Threshold(a), EventSubject::Threshold(b)) => {
            (a.kind, a.level, a.metric, a.value, a.threshold, &a.breakdown, &a.forecast)
                == (b.kind, b.level, b.metric, b.value, b.threshold, &b.breakdown, &b.forecast)
        }
        (EventSubject::Unreadable(a), EventSubject::Unreadable(b)) => {
            let firing = |list: &[(AlertKey, Severity)]| -> FiringRules {
                list.iter().map(|(key, level)| (key.rule.to_string(), *level)).collect()
            };
            (a.kind, a.level, &a.reason, a.persistence, &a.unevaluated_rules, firing(&a.firing_alerts))
                == (b.kind, b.level, &b.reason, b.persistence, &b.unevaluated_rules, firing(&b.firing_alerts))
        }
        _ => false,
    }
}

fn status(event: &Event) -> MessageStatus {
    if let Some(page) = event.report() {
        return super::report::status(page);
    }
    match (event.kind(), event.level()) {
        (Some(TransitionKind::Resolved), _) => MessageStatus::Resolved,
        (Some(_), Some(Severity::Critical)) => MessageStatus::Critical,
        (Some(_), Some(Severity::Warning)) => MessageStatus::Warning,
        _ => MessageStatus::Notice,
    }
}

fn sort_key(event: &Event) -> (String, Division, String) {
    let of = |account: Option<&str>, division, rule: &str| {
        (account.unwrap_or_default().to_owned(), division, rule.to_owned())
    };
    match &event.subject {
        EventSubject::Threshold(e) => of(Some(&e.key.account), e.key.division, &e.key.rule),
        EventSubject::Unreadable(e) => of(Some(&e.key.account), e.key.division, &e.key.rule),
        EventSubject::AlertEnded { key, .. } => of(Some(&key.account), key.division, &key.rule),
        EventSubject::Unwatched { account, division, .. } => of(Some(account), *division, ""),
        EventSubject::NotifierFailing { notifier, .. }
        | EventSubject::NotifierRecovered { notifier, .. }
        | EventSubject::NotifierRemoved { notifier } => of(None, None, notifier),
        EventSubject::Report(page) => of(None, None, &page.name),
    }
}

pub(super) fn account(event: &Event) -> Option<&str> {
    match &event.subject {
        EventSubject::Unwatched { account, .. } => Some(account),
        _ => event.alert().map(|key| &*key.account),
    }
}

/// Returns the name of the division, or its number if it has none.
fn division(event: &Event) -> Option<String> {
    let (id, division_name) = match &event.subject {
        EventSubject::Threshold(e) => (e.key.division, e.division_name.as_deref()),
        EventSubject::Unreadable(e) => (e.key.division, e.division_name.as_deref()),
        EventSubject::Unwatched { division, division_name, .. } => (*division, division_name.as_deref()),
        EventSubject::AlertEnded { key, .. } => (key.division, None),
        EventSubject::NotifierFailing { .. }
        | EventSubject::NotifierRecovered { .. }
        | EventSubject::NotifierRemoved { .. }
        | EventSubject::Report(_) => (None, None),
    };
    let division_name = division_name.map(name).filter(|name| !name.is_empty());
    id.map(|id| division_name.unwrap_or_else(|| format!("division {id}")))
}

fn since(event: &Event) -> Time {
    match &event.subject {
        EventSubject::Threshold(e) => e.since,
        EventSubject::Unreadable(e) => e.since,
        EventSubject::NotifierFailing { since, .. } | EventSubject::NotifierRecovered { since, .. } => *since,
        EventSubject::AlertEnded { .. }
        | EventSubject::Unwatched { .. }
        | EventSubject::NotifierRemoved { .. }
        | EventSubject::Report(_) => event.at,
    }
}

pub(super) fn fallback_note(in_place_of: &FallbackOrigin) -> String {
    format!(
        "Sent here because {} could not deliver: {}",
        name(&in_place_of.notifier),
        phrase::quote(&in_place_of.error)
    )
}

/// Returns the deposit link if a deposit helps, and the link of the rule.
fn links(event: &Event, rule_link: Option<&str>, context: &MessageContext) -> Vec<MessageLink> {
    let web = |url: &str| url.starts_with("https://") || url.starts_with("http://");
    let helps = match &event.subject {
        // A deposit neither reverses spending nor keeps older deposits from expiring.
        EventSubject::Threshold(e) => {
            e.kind != TransitionKind::Resolved && !matches!(e.metric, Metric::Spend | Metric::ExpiringFunds)
        }
        _ => false,
    };
    let deposit = account(event).filter(|_| helps).and_then(|account| context.console_urls.get(account));
    let deposit = deposit.map(|url| MessageLink { label: "Deposit funds", url: url.clone(), primary: true });
    let more = rule_link.map(|url| MessageLink { label: "Read more", url: url.to_owned(), primary: false });
    deposit.into_iter().chain(more).filter(|link| web(&link.url)).collect()
}
