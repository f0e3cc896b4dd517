//! Log entries about alerts. Pure code returns them; the caller writes them to the log.

use crate::domain::alert::{AlertKey, Transition, TransitionKind};
use crate::domain::rule::UNREADABLE;

/// One line for the log about one alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertLogEntry {
    /// Name of the event.
    pub kind: &'static str,
    /// Alert as `rule/account/division`.
    pub alert: String,
    /// Set if the alert is about an unreadable balance.
    pub of_unreadable: bool,
    /// Level, or `-` if the line is about several alerts.
    pub level: String,
    /// Text of the line.
    pub text: &'static str,
}

impl AlertLogEntry {
    /// Creates the line about what happened to an alert. `transition` is the alert's own, `notified` the one that people are
    /// notified of. Returns `None` if nothing happened.
    pub(crate) fn of_alert(
        key: &AlertKey,
        transition: Option<Transition>,
        notified: Option<Transition>,
    ) -> Option<Self> {
        let shown = transition.or(notified)?;
        let text = match (transition.map(|transition| transition.kind), notified.is_some()) {
            (None, _) => "silence is over: alert still fires",
            (Some(TransitionKind::Raised), true) => "alert raised",
            (Some(TransitionKind::Escalated), true) => "alert escalated",
            (Some(TransitionKind::Eased), true) => "alert eased",
            (Some(TransitionKind::Reminder), true) => "alert still fires",
            (Some(TransitionKind::Resolved), _) => "alert resolved",
            (Some(TransitionKind::Raised), false) => "alert raised, but silenced: not notified",
            (Some(TransitionKind::Escalated), false) => "alert escalated, but silenced: not notified",
            (Some(TransitionKind::Eased), false) => "alert eased, but silenced: not notified",
            (Some(TransitionKind::Reminder), false) => "alert still fires, but silenced: not notified",
        };
        Some(Self {
            kind: shown.kind.name(),
            alert: key.label(),
            of_unreadable: *key.rule == *UNREADABLE,
            level: shown.level.to_string(),
            text,
        })
    }

    /// Creates the line about a division that is gone from a good listing. `key` is of any rule of that division.
    pub(crate) fn of_removed_division(key: &AlertKey) -> Self {
        Self {
            kind: "unwatched",
            alert: AlertKey { rule: "*".into(), ..key.clone() }.label(),
            of_unreadable: false,
            level: "-".to_owned(),
            text: "division is gone from CertCentral's list: no longer watched",
        }
    }

    /// Returns the name that metrics count the event under. Events of the alert `unreadable` are counted apart from those about
    /// low funds.
    pub fn counted_as(&self) -> String {
        if self.of_unreadable { format!("unreadable_{}", self.kind) } else { self.kind.to_owned() }
    }
}
