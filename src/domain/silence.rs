//! Silences: which alerts one mutes, and until when. [`crate::alerting::suppress`] applies them.

use serde::{Deserialize, Serialize};

use super::alert::AlertKey;
use super::rule::Severity;
use super::{Division, Name, Time};

/// Largest accepted difference between a silence's creation time and an earlier present: the clock was set back since.
const CLOCK_TOLERANCE: chrono::Duration = chrono::Duration::hours(1);

/// A silence, added by command or in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Account whose alerts are muted.
    pub account: Name,
    /// Only this division; `None` for the whole account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub division: Division,
    /// Only this rule, or `unreadable`; `None` for every rule and for unreadable balances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Name>,
    /// Time at which it ends.
    pub until: Time,
    /// Reason, as its author wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Most severe level that is muted.
    pub level: Severity,
    /// Creation time; `None` for a silence from the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
}

/// Part of a silence that a message about the silenced alert shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SilenceSummary {
    /// Time at which it ends or ended.
    pub until: Time,
    /// Reason, as its author wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Most severe level that is muted.
    pub level: Severity,
}

/// Saved with a firing alert whose latest change was not sent because of a silence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppressed {
    /// Level that people were last notified of; `None` if they were never notified of this alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notified_level: Option<Severity>,
    /// Silence that suppressed the latest change.
    #[serde(flatten)]
    pub silence: SilenceSummary,
}

impl Silence {
    /// Returns `true` if the silence covers this alert.
    pub fn matches(&self, key: &AlertKey) -> bool {
        self.account == key.account
            && (self.division.is_none() || self.division == key.division)
            && self.rule.as_ref().is_none_or(|rule| *rule == key.rule)
    }

    /// Returns `true` if the silence mutes at `now`. One that was created in the future does not: the clock was wrong when it
    /// was created, and so is its end.
    pub fn in_force(&self, now: Time) -> bool {
        !self.ended(now) && self.created_at.is_none_or(|created_at| created_at <= now + CLOCK_TOLERANCE)
    }

    /// Returns `true` if its end has been reached.
    pub fn ended(&self, now: Time) -> bool {
        self.until <= now
    }

    /// Returns the part that a message shows.
    pub fn summary(&self) -> SilenceSummary {
        SilenceSummary { until: self.until, reason: self.reason.clone(), level: self.level }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn key(account: &str, division: Division, rule: &str) -> AlertKey {
        AlertKey { account: account.into(), division, rule: rule.into() }
    }

    pub(crate) fn silence(level: Severity) -> Silence {
        Silence {
            account: "acme".into(),
            division: None,
            rule: None,
            until: at(100),
            reason: Some("PO 4711".to_owned()),
            level,
            created_at: Some(at(0)),
        }
    }

    #[test]
    fn a_silence_matches_its_account_division_and_rule() {
        let all = silence(Severity::Warning);
        let division = Silence { division: Some(7), ..all.clone() };
        let rule = Silence { rule: Some("funds".into()), ..all.clone() };
        let unreadable = Silence { rule: Some("unreadable".into()), division: Some(7), ..all.clone() };
        for (silence, matched) in [
            (&all, [true, true, true, true, false]),
            (&division, [false, true, false, true, false]),
            (&rule, [true, true, true, false, false]),
            (&unreadable, [false, false, false, true, false]),
        ] {
            let keys = [
                key("acme", None, "funds"),
                key("acme", Some(7), "funds"),
                key("acme", Some(8), "funds"),
                key("acme", Some(7), "unreadable"),
                key("beta", Some(7), "funds"),
            ];
            assert_eq!(keys.map(|key| silence.matches(&key)), matched, "{silence:?}");
        }
    }

    #[test]
    fn a_silence_ends_by_itself_and_one_made_in_the_future_is_ignored() {
        let silence = silence(Severity::Warning);
        assert_eq!([0, 99, 100].map(|seconds| silence.in_force(at(seconds))), [true, true, false]);
        let wrong = Silence { created_at: Some(at(5000)), until: at(9000), ..silence };
        assert_eq!([0, 1400, 8999, 9000].map(|seconds| wrong.in_force(at(seconds))), [false, true, true, false]);
    }
}
