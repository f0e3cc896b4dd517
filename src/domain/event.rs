//! What happened, with every figure that a message about it needs. Free of any channel: the store saves it as it is, the
//! notifiers render it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::alert::{AlertKey, TransitionKind, identity};
use super::balance::{Breakdown, Persistence};
use super::money::Money;
use super::report::ReportPage;
use super::rule::{Metric, Severity, ThresholdSide, ThresholdValue};
use super::silence::SilenceSummary;
use super::{Division, Name, Time};
use crate::domain::forecast::{ForecastSummary, FundChart};

/// One event. Self-contained but for what the configuration says about its rule and account (description, links).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Unique among all events of this state, and stable across restarts.
    pub id: String,
    /// When it was queued: a cycle's events when everything was read.
    pub at: Time,
    /// The planned time of its cycle, which its alert was judged by, where that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluated_at: Option<Time>,
    /// What happened.
    #[serde(flatten)]
    pub subject: EventSubject,
    /// The silence about it, where there is one that this event breaks, ends under or follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silence: Option<SilenceSummary>,
    /// Notifiers that were ever asked to tell it, fallbacks among them, so that nobody is asked twice; and those that it is
    /// kept from.
    pub audience: BTreeSet<Name>,
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "snake_case")]
pub enum EventSubject {
    /// A rule's alert moved.
    Threshold(ThresholdEvent),
    /// An account or division can no longer, or again, be read.
    Unreadable(UnreadableEvent),
    /// A division is gone from a good listing: its alerts ended.
    Unwatched {
        /// The account's name.
        account: Name,
        /// The division that is gone.
        division: Division,
        /// Its name as last listed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        division_name: Option<String>,
        /// The rules whose alerts ended.
        rules: Vec<Name>,
    },
    /// An alert ended because its rule, account or division left the configuration, or its division the listing. Queued only
    /// for notifiers that keep incidents, which resolve theirs; people get no message.
    AlertEnded {
        /// Whose.
        #[serde(flatten)]
        key: AlertKey,
        /// The level that it fired at.
        level: Severity,
    },
    /// A failing notifier left the configuration. Queued only for notifiers that keep incidents, as [`EventSubject::AlertEnded`] is.
    NotifierRemoved {
        /// Its name.
        notifier: Name,
    },
    /// A notifier has failed for an hour.
    NotifierFailing {
        /// Its name.
        notifier: Name,
        /// Its first failure.
        since: Time,
        /// Its last failure, for people.
        error: String,
    },
    /// It works again.
    NotifierRecovered {
        /// Its name.
        notifier: Name,
        /// Its first failure.
        since: Time,
    },
    /// A report is due.
    Report(Box<ReportPage>),
}

/// A move of a threshold alert, with the reading that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThresholdEvent {
    /// Whose.
    #[serde(flatten)]
    pub key: AlertKey,
    /// The division's name as last listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub division_name: Option<String>,
    /// What happened.
    pub kind: TransitionKind,
    /// The level that it is about; for `resolved` the one that it fired at last.
    pub level: Severity,
    /// The first breached reading.
    pub since: Time,
    /// What the rule looks at.
    pub metric: Metric,
    /// The value of the reading.
    pub value: MetricValue,
    /// The window of a metric that has one.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "super::seconds::option")]
    pub within: Option<Duration>,
    /// The threshold of `level`; `None` if the rule has lost that level meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<EvaluatedThreshold>,
    /// How available funds were made up, where every part could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breakdown: Option<Breakdown>,
    /// When a reminder would come if nothing changes; `None`: never, or resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_reminder: Option<Time>,
    /// What lies ahead of the funds, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Box<ForecastSummary>>,
    /// The picture of the funds. In memory only: a message that is sent after a restart goes without it.
    #[serde(skip)]
    pub chart: Option<Arc<FundChart>>,
}

/// A value that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricValue {
    /// An amount.
    Amount(Money),
    /// A duration.
    #[serde(with = "super::seconds")]
    Time(Duration),
    /// More than every threshold.
    Unlimited,
}

/// A threshold as it was judged: an amount in the currency of the reading (in its own, or bare, beside unlimited funds).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvaluatedThreshold {
    /// The bad side.
    pub side: ThresholdSide,
    /// Where it is.
    #[serde(flatten)]
    pub bound: ThresholdValue,
}

/// A move of the unreadable alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableEvent {
    /// Whose; its rule is `unreadable`.
    #[serde(flatten)]
    pub key: AlertKey,
    /// The division's name as last listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub division_name: Option<String>,
    /// What happened.
    pub kind: TransitionKind,
    /// The level that `unreadable.level` sets.
    pub level: Severity,
    /// The first failed reading.
    pub since: Time,
    /// Why it cannot be read, for people; `None` when resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether it can heal by itself; `None` when resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence: Option<Persistence>,
    /// The alerts of this account or division that fired at the last reading, and stand still meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firing_alerts: Vec<(AlertKey, Severity)>,
    /// The rules that cannot be judged while the balance itself was read; empty: nothing could be read. When resolved, those
    /// that could not at some time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unevaluated_rules: Vec<Name>,
    /// When a reminder would come if nothing changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_reminder: Option<Time>,
}

impl EventSubject {
    /// The alert that it belongs to; notices belong to none.
    pub fn alert(&self) -> Option<&AlertKey> {
        match self {
            EventSubject::Threshold(event) => Some(&event.key),
            EventSubject::Unreadable(event) => Some(&event.key),
            EventSubject::AlertEnded { key, .. } => Some(key),
            EventSubject::Unwatched { .. }
            | EventSubject::NotifierFailing { .. }
            | EventSubject::NotifierRecovered { .. }
            | EventSubject::NotifierRemoved { .. }
            | EventSubject::Report(_) => None,
        }
    }

    /// Returns the identity of what it continues: its alert, or the notices of one kind about one thing. A notice's begins
    /// with a tilde, which no alert's does.
    pub fn identity(&self) -> String {
        match self {
            EventSubject::Threshold(ThresholdEvent { key, .. })
            | EventSubject::Unreadable(UnreadableEvent { key, .. })
            | EventSubject::AlertEnded { key, .. } => key.id(),
            EventSubject::Unwatched { account, division, .. } => notice_identity("unwatched", account, *division),
            EventSubject::NotifierFailing { notifier, .. }
            | EventSubject::NotifierRecovered { notifier, .. }
            | EventSubject::NotifierRemoved { notifier } => notice_identity("notifier", notifier, None),
            EventSubject::Report(page) => notice_identity("report", &page.name, None),
        }
    }
}

/// Returns the identity of notices of one kind about one thing.
pub fn notice_identity(kind: &str, name: &str, division: Division) -> String {
    format!("~{kind}/{}", identity(&[name], division))
}

impl Event {
    /// Returns how long what began at `since` lasted until this event, both on the scale that it was judged by.
    pub fn lasted(&self, since: Time) -> TimeDelta {
        self.evaluated_at.unwrap_or(self.at) - since
    }

    /// The alert that it belongs to; notices belong to none.
    pub fn alert(&self) -> Option<&AlertKey> {
        self.subject.alert()
    }

    /// Whether it may go to `notifier` in place of another that fails.
    pub fn may_be_handed_to(&self, notifier: &str) -> bool {
        let for_incidents =
            matches!(self.subject, EventSubject::AlertEnded { .. } | EventSubject::NotifierRemoved { .. });
        !for_incidents && !self.audience.contains(notifier)
    }

    /// How the alert moved, where it belongs to one.
    pub fn kind(&self) -> Option<TransitionKind> {
        match &self.subject {
            EventSubject::Threshold(event) => Some(event.kind),
            EventSubject::Unreadable(event) => Some(event.kind),
            EventSubject::AlertEnded { .. } => Some(TransitionKind::Resolved),
            EventSubject::Unwatched { .. }
            | EventSubject::NotifierFailing { .. }
            | EventSubject::NotifierRecovered { .. }
            | EventSubject::NotifierRemoved { .. }
            | EventSubject::Report(_) => None,
        }
    }

    /// Whether critical begins, goes on or ends with it.
    pub fn is_about_critical(&self) -> bool {
        self.level() == Some(Severity::Critical) || self.kind() == Some(TransitionKind::Eased)
    }

    /// The level that it is about, where it belongs to an alert.
    pub fn level(&self) -> Option<Severity> {
        match &self.subject {
            EventSubject::Threshold(event) => Some(event.level),
            EventSubject::Unreadable(event) => Some(event.level),
            EventSubject::AlertEnded { level, .. } => Some(*level),
            EventSubject::Unwatched { .. }
            | EventSubject::NotifierFailing { .. }
            | EventSubject::NotifierRecovered { .. }
            | EventSubject::NotifierRemoved { .. }
            | EventSubject::Report(_) => None,
        }
    }

    /// When a reminder would come if nothing changes.
    pub fn next_reminder(&self) -> Option<Time> {
        match &self.subject {
            EventSubject::Threshold(event) => event.next_reminder,
            EventSubject::Unreadable(event) => event.next_reminder,
            _ => None,
        }
    }

    /// The report that it is.
    pub fn report(&self) -> Option<&ReportPage> {
        match &self.subject {
            EventSubject::Report(page) => Some(page),
            _ => None,
        }
    }
}
