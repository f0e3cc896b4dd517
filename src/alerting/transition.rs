//! Transition of one alert: (alert, evaluation, now) → (alert, transition). The only place that changes the state of levels.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::alerting::evaluate::{Evaluation, LevelCondition, LevelEvaluation};
use crate::domain::Time;
use crate::domain::alert::{Alert, LevelState, Transition, TransitionKind};
use crate::domain::rule::Severity;

/// Applies an evaluation to an alert. Returns the alert afterwards, and at most one transition. `remind_every` returns the
/// pause between reminders of a level; `None` turns them off.
pub fn transition(
    before: &Alert,
    evaluation: &Evaluation,
    remind_every: impl Fn(Severity) -> Option<Duration>,
    now: Time,
) -> (Alert, Option<Transition>) {
    let mut alert = before.clone();
    clamp_times(&mut alert, now);
    let (level_before, since_any_level) = (alert.firing(), alert.since());
    alert.critical = next_level_state(alert.critical, evaluation.critical, now);
    alert.warning = next_level_state(alert.warning, evaluation.warning, now);
    fire_warning_with_critical(&mut alert, evaluation);

    let since = |level| alert.level_state(level).map_or(now, |level_state| level_state.since);
    let change = match (level_before, alert.firing()) {
        (None, None) => None,
        (None, Some(level)) => Some((TransitionKind::Raised, level, since(level))),
        (Some(level), None) => Some((TransitionKind::Resolved, level, since_any_level.unwrap_or(now))),
        (Some(before), Some(level)) if level > before => Some((TransitionKind::Escalated, level, since(level))),
        (Some(before), Some(level)) if level < before => Some((TransitionKind::Eased, level, since(level))),
        // A level that cannot be evaluated sends no reminders.
        (Some(_), Some(level)) => (evaluation.is_evaluated(level) && reminder_due(&alert, remind_every(level), now))
            .then(|| (TransitionKind::Reminder, level, since(level))),
    };
    let Some((kind, level, since)) = change else { return (alert, None) };
    if kind == TransitionKind::Resolved {
        // A level that is still within its `for` begins a new alert; those notified belong to the one that ended.
        alert.last_event = None;
        alert.notified = BTreeMap::new();
    } else {
        alert.last_event = Some(now);
    }
    (alert, Some(Transition { kind, level, since }))
}

/// Sets times in the future to `now`: the clock was set back since.
fn clamp_times(alert: &mut Alert, now: Time) {
    for level_state in [&mut alert.warning, &mut alert.critical].into_iter().flatten() {
        level_state.since = level_state.since.min(now);
    }
    alert.last_event = alert.last_event.map(|at| at.min(now));
}

/// Returns the next state of one level. A level that left the rule becomes clear; one that cannot be evaluated stays as it is.
fn next_level_state(
    level_state: Option<LevelState>,
    evaluation: Option<LevelEvaluation>,
    now: Time,
) -> Option<LevelState> {
    let evaluation = evaluation?;
    match (level_state, evaluation.condition) {
        (Some(level_state), LevelCondition::Breached) => Some(LevelState {
            firing: level_state.firing || has_held_for(level_state.since, evaluation.hold, now),
            ..level_state
        }),
        (None, LevelCondition::Breached) => Some(LevelState { since: now, firing: evaluation.hold.is_zero() }),
        (Some(level_state), LevelCondition::Between) if level_state.firing => Some(level_state),
        (level_state, LevelCondition::NotEvaluated) => level_state,
        _ => None,
    }
}

fn has_held_for(since: Time, hold: Duration, now: Time) -> bool {
    (now - since).to_std().is_ok_and(|age| age >= hold)
}

/// Makes warning fire while critical fires, unless warning has reached its `clear_at` or cannot be evaluated.
fn fire_warning_with_critical(alert: &mut Alert, evaluation: &Evaluation) {
    let (Some(critical), Some(warning)) = (alert.critical, evaluation.warning) else { return };
    if critical.firing && matches!(warning.condition, LevelCondition::Breached | LevelCondition::Between) {
        let since = alert.warning.map_or(critical.since, |level_state| level_state.since.min(critical.since));
        alert.warning = Some(LevelState { since, firing: true });
    }
}

fn reminder_due(alert: &Alert, remind_every: Option<Duration>, now: Time) -> bool {
    let (Some(every), Some(last)) = (remind_every, alert.last_event) else { return false };
    has_held_for(last, every, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerting::state::{AlertRecord, State};
    use crate::domain::alert::AlertKey;
    use proptest::prelude::*;

    const HOUR: i64 = 3600;

    fn at(seconds: i64) -> Time {
        Time::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[allow(clippy::unnecessary_wraps)] // the shape that an evaluation wants
    fn level(condition: LevelCondition, hold: i64) -> Option<LevelEvaluation> {
        Some(LevelEvaluation { condition, hold: Duration::from_secs(hold.unsigned_abs()) })
    }

    #[allow(clippy::unnecessary_wraps)] // the shape that `transition` wants
    fn daily(_: Severity) -> Option<Duration> {
        Some(Duration::from_secs(24 * 3600))
    }

    /// Applies evaluations at their times and returns the transitions as text.
    fn play(steps: &[(i64, Evaluation)]) -> Vec<String> {
        let mut alert = Alert::default();
        let mut events = Vec::new();
        for (seconds, evaluation) in steps {
            let (next, transition) = transition(&alert, evaluation, daily, at(*seconds));
            alert = next;
            events.push(transition.map_or("-".to_owned(), |it| {
                format!("{} {} since {}", it.kind.name(), it.level, (it.since - at(0)).num_seconds())
            }));
        }
        events
    }

    fn both(warning: LevelCondition, critical: LevelCondition) -> Evaluation {
        Evaluation { warning: level(warning, 0), critical: level(critical, 0), problem: None }
    }

    #[test]
    fn both_levels_are_raised_escalated_eased_and_resolved_in_turn() {
        use LevelCondition::{Breached, Clear};
        let events = play(&[
            (0, both(Clear, Clear)),
            (10, both(Breached, Clear)),
            (20, both(Breached, Breached)),
            (30, both(Breached, Breached)),
            (40, both(Breached, Clear)),
            (50, both(Clear, Clear)),
        ]);
        assert_eq!(
            events,
            [
                "-",
                "raised warning since 10",
                "escalated critical since 20",
                "-",
                "eased warning since 10",
                "resolved warning since 10"
            ]
        );
    }

    #[test]
    fn a_fall_straight_to_critical_is_one_event_and_eases_to_warning() {
        use LevelCondition::{Breached, Clear};
        let slow_warning = |critical| Evaluation { warning: level(Breached, 2 * HOUR), ..both(Clear, critical) };
        let events = play(&[(0, slow_warning(Breached)), (10, slow_warning(Clear))]);
        assert_eq!(events, ["raised critical since 0", "eased warning since 0"]);
    }

    #[test]
    fn a_level_fires_after_its_for_unless_a_reading_is_not_breached() {
        use LevelCondition::{Between, Breached, Clear};
        let held = |condition| Evaluation::single(Severity::Warning, level(condition, HOUR).unwrap());
        let events = play(&[(0, held(Breached)), (HOUR - 1, held(Breached)), (HOUR, held(Breached))]);
        assert_eq!(events, ["-", "-", "raised warning since 0"]);
        let events =
            play(&[(0, held(Breached)), (10, held(Between)), (HOUR, held(Breached)), (2 * HOUR, held(Breached))]);
        assert_eq!(events, ["-", "-", "-", "raised warning since 3600"]);
        let events = play(&[(0, held(Breached)), (10, held(Clear)), (HOUR, held(Breached))]);
        assert_eq!(events, ["-", "-", "-"]);
    }

    #[test]
    fn a_level_that_fires_goes_on_until_its_clear_at() {
        use LevelCondition::{Between, Breached, Clear};
        let one = |condition| Evaluation::single(Severity::Warning, level(condition, 0).unwrap());
        let events = play(&[(0, one(Between)), (1, one(Breached)), (2, one(Between)), (3, one(Clear))]);
        assert_eq!(events, ["-", "raised warning since 1", "-", "resolved warning since 1"]);
    }

    #[test]
    fn at_most_one_reminder_is_sent_after_any_downtime() {
        let breached = both(LevelCondition::Breached, LevelCondition::Clear);
        let day = 24 * HOUR;
        let events = play(&[
            (0, breached.clone()),
            (day - 1, breached.clone()),
            (day, breached.clone()),
            (day + 1, breached.clone()),
            (900 * day, breached.clone()),
            (900 * day + 1, breached),
        ]);
        let reminder = "reminder warning since 0";
        assert_eq!(events, ["raised warning since 0", "-", reminder, "-", reminder, "-"]);
    }

    #[test]
    fn a_clock_set_back_neither_floods_nor_stops_reminders() {
        let breached = both(LevelCondition::Breached, LevelCondition::Clear);
        let ten_years = 10 * 365 * 24 * HOUR;
        let events = play(&[ten_years, 0, 1, 24 * HOUR].map(|seconds| (seconds, breached.clone())));
        assert_eq!(events[1..], ["-", "-", "reminder warning since 0"]);
    }

    #[test]
    fn a_level_that_left_the_rule_no_longer_fires() {
        let both_fire = both(LevelCondition::Breached, LevelCondition::Breached);
        let warning_only = Evaluation { critical: None, ..both_fire.clone() };
        let critical_only = Evaluation::single(Severity::Critical, level(LevelCondition::Clear, 0).unwrap());
        assert_eq!(play(&[(0, both_fire), (1, warning_only.clone())])[1], "eased warning since 0");
        assert_eq!(play(&[(0, warning_only), (1, critical_only)])[1], "resolved warning since 0");
    }

    #[test]
    fn a_level_that_cannot_be_evaluated_keeps_its_state() {
        use LevelCondition::{Breached, Clear, NotEvaluated};
        let events = play(&[
            (0, both(Breached, Clear)),
            (1, both(NotEvaluated, Clear)),
            (2, both(NotEvaluated, Breached)),
            (3, both(NotEvaluated, Clear)),
            (4, both(Clear, NotEvaluated)),
        ]);
        let expected = [
            "raised warning since 0",
            "-",
            "escalated critical since 2",
            "eased warning since 0",
            "resolved warning since 0",
        ];
        assert_eq!(events, expected);
        let events = play(&[(0, both(NotEvaluated, Breached)), (1, both(NotEvaluated, Clear))]);
        assert_eq!(events, ["raised critical since 0", "resolved critical since 0"]);
    }

    /// Saves an alert in a state, and reads it again.
    fn saved_and_read(alert: &Alert) -> Alert {
        let key = AlertKey { account: "acme".into(), division: None, rule: "funds".into() };
        let record = AlertRecord { alert: alert.clone(), ..AlertRecord::default() };
        let state = State { alerts: [(key.clone(), record)].into(), ..State::default() };
        let json = serde_json::to_string(&state).unwrap();
        serde_json::from_str::<State>(&json).unwrap().alerts.remove(&key).unwrap().alert
    }

    prop_compose! {
        fn any_step()(gap in 0i64..200_000, warning in 0usize..4, critical in 0usize..4, levels in 1u8..4, hold in 0i64..4) -> (i64, Evaluation) {
            let conditions = [LevelCondition::Clear, LevelCondition::Between, LevelCondition::Breached, LevelCondition::NotEvaluated];
            let warning = level(conditions[warning], hold * HOUR).filter(|_| levels & 1 > 0);
            let critical = level(conditions[critical], hold * HOUR).filter(|_| levels & 2 > 0);
            (gap, Evaluation { warning, critical, problem: None })
        }
    }

    proptest! {
        #[test]
        fn transitions_alternate_between_raised_and_resolved(steps in proptest::collection::vec(any_step(), 1..60)) {
            let (mut alert, mut now, mut last) = (Alert::default(), 0, None::<(i64, Severity)>);
            for (gap, evaluation) in steps {
                now += gap;
                let was = alert.firing();
                let (next, transition) = transition(&alert, &evaluation, daily, at(now));
                prop_assert_eq!(&saved_and_read(&next), &next);
                alert = next;
                prop_assert_eq!(alert.firing().is_some(), match transition.map(|it| it.kind) {
                    None => was.is_some(),
                    Some(kind) => kind != TransitionKind::Resolved,
                });
                let Some(transition) = transition else {
                    prop_assert_eq!(was, alert.firing(), "a change of level is always an event");
                    continue;
                };
                prop_assert!(transition.since <= at(now));
                match transition.kind {
                    TransitionKind::Raised => prop_assert!(last.is_none(), "raised twice without resolved in between"),
                    TransitionKind::Escalated => prop_assert_eq!(last.map(|it| it.1), Some(Severity::Warning)),
                    TransitionKind::Eased => prop_assert_eq!(last.map(|it| it.1), Some(Severity::Critical)),
                    TransitionKind::Reminder => prop_assert!(last.is_some_and(|(when, _)| now - when >= 24 * HOUR), "a reminder came early"),
                    TransitionKind::Resolved => prop_assert!(last.is_some(), "resolved without raised"),
                }
                last = (transition.kind != TransitionKind::Resolved).then_some((now, transition.level));
            }
        }
    }
}
