//! Silences: whose messages are withheld until when, and what people are told when one breaks or ends.
//!
//! A silence withholds messages and nothing else: alerts are judged and remembered as if there were none, so nothing here
//! may touch a latch. Whether something is told follows from one comparison: what people have heard against what is.

use serde::{Deserialize, Serialize};

use super::alert::{Alert, AlertKey, Transition, TransitionKind};
use super::rule::Severity;
use super::{Division, Name, Time};

/// How far in the future a silence may have been made (the clock went back since) and still be believed.
const CLOCK_TOLERANCE: chrono::Duration = chrono::Duration::hours(1);

/// One silence, made by command or in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// The account whose alerts it hushes.
    pub account: Name,
    /// Only this division; `None`: the whole account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub division: Division,
    /// Only this rule, or `unreadable`; `None`: every rule, and that the balance cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Name>,
    /// When it ends by itself.
    pub until: Time,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is above this level is told all the same.
    pub level: Severity,
    /// When it was made; `None`: it stands in the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
}

/// A silence as a message about the silenced matter shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SilenceSummary {
    /// When it ends, or ended.
    pub until: Time,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The most severe level that it hushes.
    pub level: Severity,
}

/// Kept with an alert that fires unheard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppressed {
    /// The level that people heard of last; `None`: they never heard of this alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notified_level: Option<Severity>,
    /// The silence that withheld the latest news.
    #[serde(flatten)]
    pub silence: SilenceSummary,
}

impl Silence {
    /// Whether it is about this alert.
    pub fn matches(&self, key: &AlertKey) -> bool {
        self.account == key.account
            && (self.division.is_none() || self.division == key.division)
            && self.rule.as_ref().is_none_or(|rule| *rule == key.rule)
    }

    /// Whether it hushes at `now`. One that was made in the future is not believed: when the clock that made it was wrong,
    /// so is its end.
    pub fn in_force(&self, now: Time) -> bool {
        !self.ended(now) && self.created_at.is_none_or(|made| made <= now + CLOCK_TOLERANCE)
    }

    /// Whether its time has passed.
    pub fn ended(&self, now: Time) -> bool {
        self.until <= now
    }

    /// As a message shows it.
    pub fn summary(&self) -> SilenceSummary {
        SilenceSummary { until: self.until, reason: self.reason.clone(), level: self.level }
    }
}

/// What a reading means to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppression {
    /// Kept with the alert: it fires unheard.
    pub suppressed: Option<Suppressed>,
    /// What they are told.
    pub notified: Option<Transition>,
    /// What the message says of silences.
    pub silence: Option<SilenceSummary>,
}

/// What people hear of one reading of one alert. `silences` are those about it that are in force; `suppressed` is what the
/// last reading kept.
///
/// Whoever heard a level hears its end: no silence hushes the easing of a critical that was heard, and a resolve is never
/// hushed (it goes to those who were told, and so to nobody where nobody was).
pub fn suppress(
    suppressed: Option<&Suppressed>,
    before: &Alert,
    after: &Alert,
    transition: Option<Transition>,
    silences: &[&Silence],
    now: Time,
) -> Suppression {
    let in_force = silences.iter().max_by_key(|silence| (silence.level, silence.until));
    let over = || {
        suppressed
            .map(|suppressed| SilenceSummary { until: suppressed.silence.until.min(now), ..suppressed.silence.clone() })
    };
    let summary = in_force.map(|silence| silence.summary()).or_else(over);
    let Some(level) = after.firing() else {
        return Suppression { suppressed: None, notified: transition, silence: summary };
    };

    let notified_level = suppressed.map_or(before.firing(), |suppressed| suppressed.notified_level);
    let worse_was_notified = notified_level.is_some_and(|notified| notified > level);
    if let Some(silence) = in_force.filter(|silence| silence.level >= level && !worse_was_notified) {
        return Suppression {
            suppressed: Some(Suppressed { notified_level, silence: silence.summary() }),
            notified: None,
            silence: summary,
        };
    }
    let notified = match suppressed {
        None => transition,
        Some(_) => after.transition_of(kind_since_notified(notified_level, level)),
    };
    Suppression { suppressed: None, notified, silence: summary }
}

/// What is new to people who heard `notified` last, when the alert fires at `level` now.
fn kind_since_notified(notified_level: Option<Severity>, level: Severity) -> TransitionKind {
    match notified_level {
        None => TransitionKind::Raised,
        Some(notified) if notified < level => TransitionKind::Escalated,
        Some(notified) if notified > level => TransitionKind::Eased,
        Some(_) => TransitionKind::Reminder,
    }
}

#[cfg(test)]
mod tests {
    use super::super::alert::LevelState;
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn key(account: &str, division: Division, rule: &str) -> AlertKey {
        AlertKey { account: account.into(), division, rule: rule.into() }
    }

    fn silence(level: Severity) -> Silence {
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

    fn fires(level: Option<Severity>) -> Alert {
        let level_state = |firing| Some(LevelState { since: at(0), firing });
        match level {
            None => Alert::default(),
            Some(Severity::Warning) => Alert { warning: level_state(true), ..Alert::default() },
            Some(Severity::Critical) => {
                Alert { warning: level_state(true), critical: level_state(true), ..Alert::default() }
            }
        }
    }

    /// Plays levels under silences of a level (or none), one a second, and tells what people hear.
    fn play(steps: &[(Option<Severity>, Option<Severity>)]) -> Vec<&'static str> {
        let (mut before, mut suppressed, mut notified) = (Alert::default(), None, Vec::new());
        for (level, silence_level) in steps {
            let after = fires(*level);
            let (was, is) = (before.firing(), after.firing());
            let kind = match (was, is) {
                (None, Some(_)) => Some(TransitionKind::Raised),
                (Some(_), None) => Some(TransitionKind::Resolved),
                (Some(was), Some(is)) if was < is => Some(TransitionKind::Escalated),
                (Some(was), Some(is)) if was > is => Some(TransitionKind::Eased),
                _ => None,
            };
            let transition = kind.map(|kind| Transition { kind, level: is.or(was).unwrap(), since: at(0) });
            let silence = silence_level.map(silence);
            let silences: Vec<&Silence> = silence.iter().collect();
            let suppression = suppress(suppressed.as_ref(), &before, &after, transition, &silences, at(50));
            notified.push(suppression.notified.map_or("-", |transition| transition.kind.name()));
            (before, suppressed) = (after, suppression.suppressed);
        }
        notified
    }

    #[test]
    fn people_are_notified_of_what_is_new_to_them() {
        const OK: Option<Severity> = None;
        const UNSILENCED: Option<Severity> = None;
        const W: Option<Severity> = Some(Severity::Warning);
        const C: Option<Severity> = Some(Severity::Critical);
        for (case, steps, expected) in [
            (
                "raised within a silence, told when it ends",
                vec![(W, W), (W, W), (W, UNSILENCED), (W, UNSILENCED)],
                vec!["-", "-", "raised", "-"],
            ),
            (
                "known before, told again when it ends",
                vec![(W, UNSILENCED), (W, W), (W, UNSILENCED)],
                vec!["raised", "-", "reminder"],
            ),
            (
                "a warning that worsens breaks it",
                vec![(W, UNSILENCED), (W, W), (C, W), (C, W)],
                vec!["raised", "-", "escalated", "-"],
            ),
            ("one that nobody knew breaks it too", vec![(W, W), (C, W)], vec!["-", "raised"]),
            ("straight to critical", vec![(C, W)], vec!["raised"]),
            (
                "a critical one hushes everything",
                vec![(W, UNSILENCED), (W, C), (C, C), (C, UNSILENCED)],
                vec!["raised", "-", "-", "escalated"],
            ),
            (
                "who heard critical hears that it is over, however far the silence reaches",
                vec![(C, UNSILENCED), (C, C), (W, C), (W, C), (C, C), (W, C), (W, UNSILENCED)],
                vec!["raised", "-", "eased", "-", "-", "-", "reminder"],
            ),
            (
                "eased in the reading that follows the silence",
                vec![(C, UNSILENCED), (C, C), (W, UNSILENCED)],
                vec!["raised", "-", "eased"],
            ),
            (
                "who heard critical hears that it is over",
                vec![(C, UNSILENCED), (C, W), (W, W), (W, W), (W, UNSILENCED)],
                vec!["raised", "-", "eased", "-", "reminder"],
            ),
            (
                "critical came and went unheard",
                vec![(W, UNSILENCED), (C, C), (W, C), (W, UNSILENCED)],
                vec!["raised", "-", "-", "reminder"],
            ),
            ("resolved goes to who was told", vec![(W, UNSILENCED), (W, W), (OK, W)], vec!["raised", "-", "resolved"]),
            (
                "a new life after a silenced one",
                vec![(W, W), (OK, W), (OK, UNSILENCED), (W, UNSILENCED)],
                vec!["-", "resolved", "-", "raised"],
            ),
            ("lifted to one that reaches less far", vec![(C, C), (C, W), (W, W)], vec!["-", "raised", "eased"]),
            (
                "lifted when it was no longer critical",
                vec![(C, C), (W, C), (W, W), (W, UNSILENCED)],
                vec!["-", "-", "-", "raised"],
            ),
        ] {
            assert_eq!(play(&steps), expected, "{case}");
        }
    }

    #[test]
    fn a_message_shows_the_silence_in_force_or_the_one_that_ended() {
        let (alert, silence) = (fires(Some(Severity::Warning)), silence(Severity::Warning));
        let suppressed = suppress(None, &Alert::default(), &alert, None, &[&silence], at(10)).suppressed.unwrap();
        assert_eq!((suppressed.notified_level, suppressed.silence.until), (None, at(100)));
        let ended = suppress(Some(&suppressed), &alert, &alert, None, &[], at(200)).silence.unwrap();
        assert_eq!((ended.until, ended.reason.as_deref()), (at(100), Some("PO 4711")));
        assert_eq!(suppress(Some(&suppressed), &alert, &alert, None, &[], at(20)).silence.unwrap().until, at(20));
        let worse = fires(Some(Severity::Critical));
        assert_eq!(
            suppress(Some(&suppressed), &alert, &worse, None, &[&silence], at(20)).silence.unwrap().until,
            at(100)
        );
    }
}
