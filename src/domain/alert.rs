//! Alerts: the identity of one, the state of its levels, and the transitions between them.
//!
//! An alert is one (rule, account, division). Each of its levels has a state of its own, from which the status of the alert
//! follows. [`crate::alerting::transition`] changes alerts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::rule::Severity;
use super::{Division, Name, Time};

/// Identity of an alert. It consists of names only, so that an edited rule keeps its alerts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AlertKey {
    /// Name of the account.
    pub account: Name,
    /// Division, if the account is read by division.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub division: Division,
    /// Name of the rule, or `unreadable`.
    pub rule: Name,
}

impl AlertKey {
    /// Returns the key as one text, the same for all events of the alert. No two keys have the same text.
    pub fn id(&self) -> String {
        identity(&[&self.rule, &self.account], self.division)
    }

    /// Returns `rule/account/division` for people. Unlike [`AlertKey::id`], names are as in the configuration.
    pub fn label(&self) -> String {
        match self.division {
            Some(id) => format!("{}/{}/{id}", self.rule, self.account),
            None => format!("{}/{}", self.rule, self.account),
        }
    }
}

/// Joins names and a division with slashes. Names are percent-encoded, so that a slash inside a name is not a separator.
pub(crate) fn identity(names: &[&str], division: Division) -> String {
    let escaped = |name: &&str| url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>();
    let parts = names.iter().map(escaped).chain(division.map(|id| id.to_string()));
    parts.collect::<Vec<_>>().join("/")
}

/// State of a level that is not clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelState {
    /// Time of the first breached reading.
    pub since: Time,
    /// `false` while the time in the level's `for` has not passed.
    pub firing: bool,
}

/// Saved part of an alert. [`Alert::default`] is ok.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Alert {
    /// State of the warning level; `None` if it is clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<LevelState>,
    /// State of the critical level; `None` if it is clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critical: Option<LevelState>,
    /// Time of the alert's last event; `None` while the alert is only pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_event: Option<Time>,
    /// Notifiers that were notified of the alert, each with the Message-ID of its first email if it sends email.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub notified: BTreeMap<Name, Option<String>>,
}

/// Status of an alert as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertStatus {
    /// No level is breached or firing.
    Ok,
    /// A level is breached, but not yet for the time in its `for`. Contains the most severe level that is breached.
    Pending(Severity),
    /// A level fires. Contains the most severe one.
    Firing(Severity),
}

/// Kinds of transitions. Each transition is an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransitionKind {
    /// From ok or pending to firing.
    Raised,
    /// From warning to critical.
    Escalated,
    /// From critical to warning.
    Eased,
    /// Still firing after `remind_every`.
    Reminder,
    /// From firing to ok.
    Resolved,
}

impl TransitionKind {
    /// Returns the event name, the same in logs, messages, YAML and documentation.
    pub fn name(self) -> &'static str {
        match self {
            TransitionKind::Raised => "raised",
            TransitionKind::Escalated => "escalated",
            TransitionKind::Eased => "eased",
            TransitionKind::Reminder => "reminder",
            TransitionKind::Resolved => "resolved",
        }
    }
}

/// One change of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// Kind of the change.
    pub kind: TransitionKind,
    /// Level that the event is about; for `resolved`, the level that fired last.
    pub level: Severity,
    /// Time of the first breached reading of that level; for `resolved`, of any level.
    pub since: Time,
}

impl Alert {
    /// Returns the status that follows from the state of both levels.
    pub fn status(&self) -> AlertStatus {
        let firing = |level_state: Option<LevelState>| level_state.is_some_and(|level_state| level_state.firing);
        match (self.critical, self.warning) {
            (critical, _) if firing(critical) => AlertStatus::Firing(Severity::Critical),
            (_, warning) if firing(warning) => AlertStatus::Firing(Severity::Warning),
            (Some(_), _) => AlertStatus::Pending(Severity::Critical),
            (None, Some(_)) => AlertStatus::Pending(Severity::Warning),
            (None, None) => AlertStatus::Ok,
        }
    }

    /// Returns the most severe level that fires.
    pub fn firing(&self) -> Option<Severity> {
        match self.status() {
            AlertStatus::Firing(severity) => Some(severity),
            AlertStatus::Ok | AlertStatus::Pending(_) => None,
        }
    }

    /// Returns the time of the first breached reading of the level that the status names.
    pub fn level_since(&self) -> Option<Time> {
        match self.status() {
            AlertStatus::Ok => None,
            AlertStatus::Pending(level) | AlertStatus::Firing(level) => Some(self.level_state(level)?.since),
        }
    }

    /// Returns the time of the first breached reading of either level.
    pub fn since(&self) -> Option<Time> {
        [self.warning, self.critical].into_iter().flatten().map(|level_state| level_state.since).min()
    }

    pub(crate) fn level_state(&self, severity: Severity) -> Option<LevelState> {
        match severity {
            Severity::Warning => self.warning,
            Severity::Critical => self.critical,
        }
    }
}
