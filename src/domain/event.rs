//! Events, with every figure that a message about them needs. They depend on no channel: the state saves them as they are, and
//! notifiers render them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::alert::{AlertKey, TransitionKind, identity};
use super::balance::{Breakdown, MetricValue, Persistence};
use super::report::ReportPage;
use super::rule::{Metric, Severity, ThresholdSide, ThresholdValue};
use super::silence::SilenceSummary;
use super::{Division, Name, Time};
use crate::domain::forecast::{ForecastSummary, FundChart};

/// An event. It contains everything but the texts of the configuration about its rule and account (description, links).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Id, unique among the events of the state, and stable across restarts.
    pub id: String,
    /// Time at which it was queued. Events of a cycle are queued after everything was read.
    pub at: Time,
    /// Planned time of the cycle that evaluated its alert, if it differs from `at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluated_at: Option<Time>,
    /// Content of the event.
    #[serde(flatten)]
    pub subject: EventSubject,
    /// Silence that is in force and does not cover this event, or that has just ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silence: Option<SilenceSummary>,
    /// Notifiers that were ever asked to deliver it, including fallbacks, and those that must not deliver it. None of them is
    /// asked again.
    pub audience: BTreeSet<Name>,
}

/// Content of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "snake_case")]
pub enum EventSubject {
    /// Transition of a rule's alert.
    Threshold(ThresholdEvent),
    /// Transition of the alert `unreadable`.
    Unreadable(UnreadableEvent),
    /// Removal of a division from CertCentral's list. Its alerts ended.
    Unwatched {
        /// Name of the account.
        account: Name,
        /// Division that is gone.
        division: Division,
        /// Name of the division as last listed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        division_name: Option<String>,
        /// Rules whose alerts ended.
        rules: Vec<Name>,
    },
    /// End of an alert whose rule, account or division left the configuration, or whose division left the listing. Queued only
    /// for notifiers that keep incidents, which resolve theirs. People get no message.
    AlertEnded {
        /// Key of the alert that ended.
        #[serde(flatten)]
        key: AlertKey,
        /// Level that it fired at.
        level: Severity,
    },
    /// Removal of a failing notifier from the configuration. Queued for the same notifiers as [`EventSubject::AlertEnded`].
    NotifierRemoved {
        /// Name of the notifier.
        notifier: Name,
    },
    /// Failure of a notifier for an hour.
    NotifierFailing {
        /// Name of the notifier.
        notifier: Name,
        /// Time of its first failure.
        since: Time,
        /// Last failure, as a sentence for people.
        error: String,
    },
    /// Recovery of a notifier whose failure was reported.
    NotifierRecovered {
        /// Name of the notifier.
        notifier: Name,
        /// Time of its first failure.
        since: Time,
    },
    /// Page of a report.
    Report(Box<ReportPage>),
}

/// Transition of a rule's alert, with the reading that caused it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThresholdEvent {
    /// Key of the alert that changed.
    #[serde(flatten)]
    pub key: AlertKey,
    /// Name of the division as last listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub division_name: Option<String>,
    /// Kind of the transition.
    pub kind: TransitionKind,
    /// Level that the event is about; for `resolved`, the level that fired last.
    pub level: Severity,
    /// Time of the first breached reading of that level; for `resolved`, of any level.
    pub since: Time,
    /// Metric of the rule.
    pub metric: Metric,
    /// Value of the reading.
    pub value: MetricValue,
    /// Window of the metric, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "super::seconds::option")]
    pub within: Option<Duration>,
    /// Threshold of `level`; `None` if that level has left the rule or could not be evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<EvaluatedThreshold>,
    /// Parts of the available funds, if every part could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breakdown: Option<Breakdown>,
    /// Time of the next reminder if nothing changes; `None` for `resolved` or if reminders are off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_reminder: Option<Time>,
    /// Forecast of the fund, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Box<ForecastSummary>>,
    /// Chart of the fund. It is kept in memory only; a message that is sent after a restart has none.
    #[serde(skip)]
    pub chart: Option<Arc<FundChart>>,
}

/// Threshold as it was evaluated. An amount has the currency of the reading. For unlimited funds, it has its own or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvaluatedThreshold {
    /// Side on which the level fires.
    pub side: ThresholdSide,
    /// Value beyond which the level fires.
    #[serde(flatten)]
    pub bound: ThresholdValue,
}

/// Transition of the alert `unreadable`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableEvent {
    /// Alert that changed; its rule is `unreadable`.
    #[serde(flatten)]
    pub key: AlertKey,
    /// Name of the division as last listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub division_name: Option<String>,
    /// Kind of the transition.
    pub kind: TransitionKind,
    /// Level, as `unreadable.level` sets it.
    pub level: Severity,
    /// Time of the first failed reading.
    pub since: Time,
    /// Reason, as a sentence for people; `None` for `resolved`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Persistence of the failure; `None` for `resolved`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence: Option<Persistence>,
    /// Alerts of this account or division that fired at the last reading, and do not change meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firing_alerts: Vec<(AlertKey, Severity)>,
    /// Rules that could not be evaluated although the balance was read; empty if nothing could be read. For `resolved`, rules that
    /// could not be evaluated at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unevaluated_rules: Vec<Name>,
    /// Time of the next reminder if nothing changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_reminder: Option<Time>,
}

impl EventSubject {
    /// Returns the alert that it belongs to. Notices belong to none.
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

    /// Returns the identity of its thread: its alert, or the notices of one kind about one thing. Only the identity of a notice
    /// begins with a tilde.
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
    /// Returns the time from `since` to this event, both as planned times of cycles.
    pub fn lasted(&self, since: Time) -> TimeDelta {
        self.evaluated_at.unwrap_or(self.at) - since
    }

    /// Returns the alert that it belongs to. Notices belong to none.
    pub fn alert(&self) -> Option<&AlertKey> {
        self.subject.alert()
    }

    /// Returns `true` if it may be delivered by `notifier` as a fallback.
    pub fn may_be_handed_to(&self, notifier: &str) -> bool {
        let for_incidents =
            matches!(self.subject, EventSubject::AlertEnded { .. } | EventSubject::NotifierRemoved { .. });
        !for_incidents && !self.audience.contains(notifier)
    }

    /// Returns the kind of transition, if it belongs to an alert.
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

    /// Returns `true` if critical begins, continues or ends with it.
    pub fn is_about_critical(&self) -> bool {
        self.level() == Some(Severity::Critical) || self.kind() == Some(TransitionKind::Eased)
    }

    /// Returns the level that it is about, if it belongs to an alert.
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

    /// Returns the time of the next reminder if nothing changes.
    pub fn next_reminder(&self) -> Option<Time> {
        match &self.subject {
            EventSubject::Threshold(event) => event.next_reminder,
            EventSubject::Unreadable(event) => event.next_reminder,
            _ => None,
        }
    }

    /// Returns the page, if it is a report.
    pub fn report(&self) -> Option<&ReportPage> {
        match &self.subject {
            EventSubject::Report(page) => Some(page),
            _ => None,
        }
    }
}
