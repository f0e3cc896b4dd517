//! Silences: whose messages are withheld until when, and what people are told when one breaks or ends.
//!
//! A silence withholds messages and nothing else: alerts are judged and remembered as if there were none, so nothing here
//! may touch a latch. Whether something is told follows from one comparison: what people have heard against what is.

use serde::{Deserialize, Serialize};

use super::alert::{Alert, AlertKey, Kind, Move};
use super::rule::Severity;
use super::{Division, Name, Time};

/// How far in the future a silence may have been made (the clock went back since) and still be believed.
const CLOCK_GRACE: chrono::Duration = chrono::Duration::hours(1);

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
    pub made: Option<Time>,
}

/// A silence as a message about the silenced matter shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
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
pub struct Hushed {
    /// The level that people heard of last; `None`: they never heard of this alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<Severity>,
    /// The silence that withheld the latest news.
    #[serde(flatten)]
    pub by: Note,
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
        !self.ended(now) && self.made.is_none_or(|made| made <= now + CLOCK_GRACE)
    }

    /// Whether its time has passed.
    pub fn ended(&self, now: Time) -> bool {
        self.until <= now
    }

    /// As a message shows it.
    pub fn note(&self) -> Note {
        Note { until: self.until, reason: self.reason.clone(), level: self.level }
    }
}

/// What a reading means to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hearing {
    /// Kept with the alert: it fires unheard.
    pub hushed: Option<Hushed>,
    /// What they are told.
    pub told: Option<Move>,
    /// What the message says of silences.
    pub note: Option<Note>,
}

/// What people hear of one reading of one alert. `silences` are those about it that are in force; `hushed` is what the
/// last reading kept.
///
/// Whoever heard a level hears its end: no silence hushes the easing of a critical that was heard, and a resolve is never
/// hushed (it goes to those who were told, and so to nobody where nobody was).
pub fn hear(
    hushed: Option<&Hushed>,
    before: &Alert,
    after: &Alert,
    moved: Option<Move>,
    silences: &[&Silence],
    now: Time,
) -> Hearing {
    let in_force = silences.iter().max_by_key(|silence| (silence.level, silence.until));
    let over = || hushed.map(|hushed| Note { until: hushed.by.until.min(now), ..hushed.by.clone() });
    let note = in_force.map(|silence| silence.note()).or_else(over);
    let Some(level) = after.firing() else { return Hearing { hushed: None, told: moved, note } };

    let heard = hushed.map_or(before.firing(), |hushed| hushed.heard);
    let worse_was_heard = heard.is_some_and(|heard| heard > level);
    if let Some(silence) = in_force.filter(|silence| silence.level >= level && !worse_was_heard) {
        return Hearing { hushed: Some(Hushed { heard, by: silence.note() }), told: None, note };
    }
    let told = match hushed {
        None => moved,
        Some(_) => after.news(unheard(heard, level)),
    };
    Hearing { hushed: None, told, note }
}

/// What is new to people who heard `heard` last, when the alert fires at `level` now.
fn unheard(heard: Option<Severity>, level: Severity) -> Kind {
    match heard {
        None => Kind::Raised,
        Some(heard) if heard < level => Kind::Escalated,
        Some(heard) if heard > level => Kind::Eased,
        Some(_) => Kind::Reminder,
    }
}

#[cfg(test)]
mod tests {
    use super::super::alert::Latch;
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
            made: Some(at(0)),
        }
    }

    #[test]
    fn a_silence_is_about_its_account_and_where_it_names_them_its_division_and_rule() {
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
    fn it_ends_by_itself_and_one_made_by_a_clock_that_was_wrong_is_not_believed() {
        let silence = silence(Severity::Warning);
        assert_eq!([0, 99, 100].map(|seconds| silence.in_force(at(seconds))), [true, true, false]);
        let wrong = Silence { made: Some(at(5000)), until: at(9000), ..silence };
        assert_eq!([0, 1400, 8999, 9000].map(|seconds| wrong.in_force(at(seconds))), [false, true, true, false]);
    }

    fn fires(level: Option<Severity>) -> Alert {
        let latch = |firing| Some(Latch { since: at(0), firing });
        match level {
            None => Alert::default(),
            Some(Severity::Warning) => Alert { warning: latch(true), ..Alert::default() },
            Some(Severity::Critical) => Alert { warning: latch(true), critical: latch(true), ..Alert::default() },
        }
    }

    /// Plays levels under silences of a level (or none), one a second, and tells what people hear.
    fn play(steps: &[(Option<Severity>, Option<Severity>)]) -> Vec<&'static str> {
        let (mut before, mut hushed, mut heard) = (Alert::default(), None, Vec::new());
        for (level, hush) in steps {
            let after = fires(*level);
            let (was, is) = (before.firing(), after.firing());
            let kind = match (was, is) {
                (None, Some(_)) => Some(Kind::Raised),
                (Some(_), None) => Some(Kind::Resolved),
                (Some(was), Some(is)) if was < is => Some(Kind::Escalated),
                (Some(was), Some(is)) if was > is => Some(Kind::Eased),
                _ => None,
            };
            let moved = kind.map(|kind| Move { kind, level: is.or(was).unwrap(), since: at(0) });
            let silence = hush.map(silence);
            let silences: Vec<&Silence> = silence.iter().collect();
            let hearing = hear(hushed.as_ref(), &before, &after, moved, &silences, at(50));
            heard.push(hearing.told.map_or("-", |told| told.kind.name()));
            (before, hushed) = (after, hearing.hushed);
        }
        heard
    }

    #[test]
    fn what_is_told_is_what_is_new_to_people() {
        const OK: Option<Severity> = None;
        const LOUD: Option<Severity> = None;
        const W: Option<Severity> = Some(Severity::Warning);
        const C: Option<Severity> = Some(Severity::Critical);
        for (story, steps, heard) in [
            (
                "raised within a silence, told when it ends",
                vec![(W, W), (W, W), (W, LOUD), (W, LOUD)],
                vec!["-", "-", "raised", "-"],
            ),
            (
                "known before, told again when it ends",
                vec![(W, LOUD), (W, W), (W, LOUD)],
                vec!["raised", "-", "reminder"],
            ),
            (
                "a warning that worsens breaks it",
                vec![(W, LOUD), (W, W), (C, W), (C, W)],
                vec!["raised", "-", "escalated", "-"],
            ),
            ("one that nobody knew breaks it too", vec![(W, W), (C, W)], vec!["-", "raised"]),
            ("straight to critical", vec![(C, W)], vec!["raised"]),
            (
                "a critical one hushes everything",
                vec![(W, LOUD), (W, C), (C, C), (C, LOUD)],
                vec!["raised", "-", "-", "escalated"],
            ),
            (
                "who heard critical hears that it is over, however far the silence reaches",
                vec![(C, LOUD), (C, C), (W, C), (W, C), (C, C), (W, C), (W, LOUD)],
                vec!["raised", "-", "eased", "-", "-", "-", "reminder"],
            ),
            (
                "eased in the reading that follows the silence",
                vec![(C, LOUD), (C, C), (W, LOUD)],
                vec!["raised", "-", "eased"],
            ),
            (
                "who heard critical hears that it is over",
                vec![(C, LOUD), (C, W), (W, W), (W, W), (W, LOUD)],
                vec!["raised", "-", "eased", "-", "reminder"],
            ),
            (
                "critical came and went unheard",
                vec![(W, LOUD), (C, C), (W, C), (W, LOUD)],
                vec!["raised", "-", "-", "reminder"],
            ),
            ("resolved goes to who was told", vec![(W, LOUD), (W, W), (OK, W)], vec!["raised", "-", "resolved"]),
            (
                "a new life after a silenced one",
                vec![(W, W), (OK, W), (OK, LOUD), (W, LOUD)],
                vec!["-", "resolved", "-", "raised"],
            ),
            ("lifted to one that reaches less far", vec![(C, C), (C, W), (W, W)], vec!["-", "raised", "eased"]),
            (
                "lifted when it was no longer critical",
                vec![(C, C), (W, C), (W, W), (W, LOUD)],
                vec!["-", "-", "-", "raised"],
            ),
        ] {
            assert_eq!(play(&steps), heard, "{story}");
        }
    }

    #[test]
    fn a_message_shows_the_silence_that_is_or_was_and_when_it_was_lifted_early() {
        let (alert, hush) = (fires(Some(Severity::Warning)), silence(Severity::Warning));
        let kept = hear(None, &Alert::default(), &alert, None, &[&hush], at(10)).hushed.unwrap();
        assert_eq!((kept.heard, kept.by.until), (None, at(100)));
        let ended = hear(Some(&kept), &alert, &alert, None, &[], at(200)).note.unwrap();
        assert_eq!((ended.until, ended.reason.as_deref()), (at(100), Some("PO 4711")));
        assert_eq!(hear(Some(&kept), &alert, &alert, None, &[], at(20)).note.unwrap().until, at(20));
        let worse = fires(Some(Severity::Critical));
        assert_eq!(hear(Some(&kept), &alert, &worse, None, &[&hush], at(20)).note.unwrap().until, at(100));
    }
}
