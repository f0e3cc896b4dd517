//! Suppression by silences: which transition people are notified of.
//!
//! A silence mutes notifications and nothing else. Alerts are evaluated and saved as if there were none, so nothing here
//! changes the state of a level. The result follows from one comparison: the level that people were last notified of, and the
//! level that fires now.

use crate::domain::Time;
use crate::domain::alert::{Alert, Transition, TransitionKind};
use crate::domain::rule::Severity;
use crate::domain::silence::{Silence, SilenceSummary, Suppressed};

/// One reading of an alert, and the silences about it.
#[derive(Debug, Clone, Copy)]
pub struct SuppressionInput<'a> {
    /// Saved with the alert by the reading before.
    pub suppressed: Option<&'a Suppressed>,
    /// Alert before the reading.
    pub before: &'a Alert,
    /// Alert after the reading.
    pub after: &'a Alert,
    /// Transition that the reading made.
    pub transition: Option<Transition>,
    /// Silences in force that match the alert.
    pub silences: &'a [&'a Silence],
    /// Time of the reading.
    pub now: Time,
}

/// Result of [`suppress`] for one reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppression {
    /// To be saved with the alert; `Some` if a silence suppresses it.
    pub suppressed: Option<Suppressed>,
    /// Transition to notify people of. It may differ from the alert's own: an alert that was raised under a silence is
    /// `raised` for people when the silence ends.
    pub notified: Option<Transition>,
    /// Silence that the message shows.
    pub silence: Option<SilenceSummary>,
}

/// Decides which transition people are notified of after one reading of one alert.
///
/// Everyone who was notified of a level is notified of its end: no silence suppresses the easing of a critical alert that
/// people were notified of, and `resolved` is never suppressed (it goes to those who were notified only).
pub fn suppress(input: &SuppressionInput<'_>) -> Suppression {
    let SuppressionInput { suppressed, before, after, transition, silences, now } = *input;
    let in_force = silences.iter().max_by_key(|silence| (silence.level, silence.until));
    let ended = || {
        suppressed
            .map(|suppressed| SilenceSummary { until: suppressed.silence.until.min(now), ..suppressed.silence.clone() })
    };
    let silence = in_force.map(|silence| silence.summary()).or_else(ended);
    let Some(level) = after.firing() else {
        return Suppression { suppressed: None, notified: transition, silence };
    };

    let notified_level = suppressed.map_or(before.firing(), |suppressed| suppressed.notified_level);
    let worse_was_notified = notified_level.is_some_and(|notified| notified > level);
    if let Some(muting) = in_force.filter(|silence| silence.level >= level && !worse_was_notified) {
        let suppressed = Some(Suppressed { notified_level, silence: muting.summary() });
        return Suppression { suppressed, notified: None, silence };
    }
    let notified = match suppressed {
        None => transition,
        Some(_) => firing_transition(after, kind_since_notified(notified_level, level)),
    };
    Suppression { suppressed: None, notified, silence }
}

/// Returns the transition of this kind to the level that the alert fires at; `None` if it does not fire.
fn firing_transition(alert: &Alert, kind: TransitionKind) -> Option<Transition> {
    Some(Transition { kind, level: alert.firing()?, since: alert.level_since()? })
}

/// Returns the kind of change for people who were last notified of `notified_level`, if the alert fires at `level` now.
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
    use super::*;
    use crate::domain::alert::LevelState;
    use crate::domain::silence::tests::silence;

    fn at(seconds: i64) -> Time {
        Time::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
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

    /// Applies levels under silences of a level (or none), and returns the kinds of transition that people are notified of.
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
            let suppression = suppress(&SuppressionInput {
                suppressed: suppressed.as_ref(),
                before: &before,
                after: &after,
                transition,
                silences: &silences,
                now: at(50),
            });
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
                "raised under a silence, notified when it ends",
                vec![(W, W), (W, W), (W, UNSILENCED), (W, UNSILENCED)],
                vec!["-", "-", "raised", "-"],
            ),
            (
                "notified before, reminded when it ends",
                vec![(W, UNSILENCED), (W, W), (W, UNSILENCED)],
                vec!["raised", "-", "reminder"],
            ),
            (
                "an escalation to critical gets through",
                vec![(W, UNSILENCED), (W, W), (C, W), (C, W)],
                vec!["raised", "-", "escalated", "-"],
            ),
            ("an escalation nobody was notified of gets through as raised", vec![(W, W), (C, W)], vec!["-", "raised"]),
            ("raised at critical", vec![(C, W)], vec!["raised"]),
            (
                "a silence up to critical suppresses both levels",
                vec![(W, UNSILENCED), (W, C), (C, C), (C, UNSILENCED)],
                vec!["raised", "-", "-", "escalated"],
            ),
            (
                "the easing of a notified critical alert gets through a silence up to critical",
                vec![(C, UNSILENCED), (C, C), (W, C), (W, C), (C, C), (W, C), (W, UNSILENCED)],
                vec!["raised", "-", "eased", "-", "-", "-", "reminder"],
            ),
            (
                "eased in the reading after the silence",
                vec![(C, UNSILENCED), (C, C), (W, UNSILENCED)],
                vec!["raised", "-", "eased"],
            ),
            (
                "the easing of a notified critical alert gets through",
                vec![(C, UNSILENCED), (C, W), (W, W), (W, W), (W, UNSILENCED)],
                vec!["raised", "-", "eased", "-", "reminder"],
            ),
            (
                "critical began and ended under a silence",
                vec![(W, UNSILENCED), (C, C), (W, C), (W, UNSILENCED)],
                vec!["raised", "-", "-", "reminder"],
            ),
            ("resolved is never suppressed", vec![(W, UNSILENCED), (W, W), (OK, W)], vec!["raised", "-", "resolved"]),
            (
                "a new alert after a suppressed one",
                vec![(W, W), (OK, W), (OK, UNSILENCED), (W, UNSILENCED)],
                vec!["-", "resolved", "-", "raised"],
            ),
            (
                "the silence is replaced by one up to warning",
                vec![(C, C), (C, W), (W, W)],
                vec!["-", "raised", "eased"],
            ),
            (
                "the silence is replaced after critical ended",
                vec![(C, C), (W, C), (W, W), (W, UNSILENCED)],
                vec!["-", "-", "-", "raised"],
            ),
        ] {
            assert_eq!(play(&steps), expected, "{case}");
        }
    }

    #[test]
    fn a_message_shows_the_silence_in_force_or_the_one_that_ended() {
        let (none, alert) = (Alert::default(), fires(Some(Severity::Warning)));
        let (worse, silence) = (fires(Some(Severity::Critical)), silence(Severity::Warning));
        let silences = [&silence];
        let first = SuppressionInput {
            suppressed: None,
            before: &none,
            after: &alert,
            transition: None,
            silences: &silences,
            now: at(10),
        };
        let suppressed = suppress(&first).suppressed.unwrap();
        assert_eq!((suppressed.notified_level, suppressed.silence.until), (None, at(100)));
        let shown = |after, silences, now| {
            let suppressed = Some(&suppressed);
            suppress(&SuppressionInput { suppressed, before: &alert, after, silences, now, ..first }).silence.unwrap()
        };
        let ended = shown(&alert, &[], at(200));
        assert_eq!((ended.until, ended.reason.as_deref()), (at(100), Some("PO 4711")));
        assert_eq!(shown(&alert, &[], at(20)).until, at(20));
        assert_eq!(shown(&worse, &silences, at(20)).until, at(100));
    }
}
