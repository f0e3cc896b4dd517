//! (alert, verdict, now) → (alert, move): the life cycle of one alert. Pure, and the only place that decides what is news.
//!
//! An alert is one (rule, account, division). Each of its levels is a latch of its own; the alert is what its latches say.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rule::Severity;
use super::{Division, Name, Time};
use crate::alerting::evaluate::{Evaluation, LevelCondition, LevelEvaluation};

/// The identity of an alert: names only, so that edited rules keep their alerts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AlertKey {
    /// The account's name.
    pub account: Name,
    /// The division, where the account is read by division.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub division: Division,
    /// The rule's name, or `unreadable`.
    pub rule: Name,
}

impl AlertKey {
    /// Returns one text for the key, the same for all events of the alert. No two keys share one.
    pub fn id(&self) -> String {
        identity(&[&self.rule, &self.account], self.division)
    }
}

/// Joins names and a division to one text. Names are percent-encoded, so that a slash in one is no border between two.
pub fn identity(names: &[&str], division: Division) -> String {
    let escaped = |name: &&str| url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>();
    let parts = names.iter().map(escaped).chain(division.map(|id| id.to_string()));
    parts.collect::<Vec<_>>().join("/")
}

/// One level that is breached: since when, and whether that has held long enough to fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelState {
    /// The first breached reading.
    pub since: Time,
    /// `false`: still within its `for`.
    pub firing: bool,
}

/// What is remembered of an alert that is not ok. [`Alert::default`] is ok.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Alert {
    /// The warning level, unless it is clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<LevelState>,
    /// The critical level, unless it is clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critical: Option<LevelState>,
    /// When this alert's last event was; `None` while it is only pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_event: Option<Time>,
    /// Who was told of it, with the Message-ID of the first mail where the notifier sends mail.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub notified: BTreeMap<Name, Option<String>>,
}

/// What an alert is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertStatus {
    /// Nothing.
    Ok,
    /// Breached, but not yet for long enough. The level is the most severe one that is breached.
    Pending(Severity),
    /// Firing, at its most severe firing level.
    Firing(Severity),
}

/// How an alert moved. Each move is an event that somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransitionKind {
    /// Ok or pending → firing.
    Raised,
    /// Warning → critical.
    Escalated,
    /// Critical → warning.
    Eased,
    /// It still fires.
    Reminder,
    /// Firing → ok.
    Resolved,
}

impl TransitionKind {
    /// Its name, the same in logs, YAML and docs.
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

/// One move of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// What happened.
    pub kind: TransitionKind,
    /// The level that it is about; for `resolved` the level that it fired at last.
    pub level: Severity,
    /// The first breached reading of that level; for `resolved` of the whole alert.
    pub since: Time,
}

impl Alert {
    /// What the alert is.
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

    /// The level that it fires at.
    pub fn firing(&self) -> Option<Severity> {
        match self.status() {
            AlertStatus::Firing(severity) => Some(severity),
            AlertStatus::Ok | AlertStatus::Pending(_) => None,
        }
    }

    /// Returns the first breached reading of the level that it is at.
    pub fn level_since(&self) -> Option<Time> {
        match self.status() {
            AlertStatus::Ok => None,
            AlertStatus::Pending(level) | AlertStatus::Firing(level) => Some(self.level_state(level)?.since),
        }
    }

    /// The first breached reading of any of its levels.
    pub fn since(&self) -> Option<Time> {
        [self.warning, self.critical].into_iter().flatten().map(|level_state| level_state.since).min()
    }

    fn level_state(&self, severity: Severity) -> Option<LevelState> {
        match severity {
            Severity::Warning => self.warning,
            Severity::Critical => self.critical,
        }
    }

    /// The news that it fires at its level now, as a move of this kind; `None` if it does not fire.
    pub(super) fn transition_of(&self, kind: TransitionKind) -> Option<Transition> {
        Some(Transition { kind, level: self.firing()?, since: self.level_since()? })
    }

    /// A state time in the future (the clock went back) counts as now.
    fn clamp_times_to(&mut self, now: Time) {
        for level_state in [&mut self.warning, &mut self.critical].into_iter().flatten() {
            level_state.since = level_state.since.min(now);
        }
        self.last_event = self.last_event.map(|at| at.min(now));
    }
}

/// Applies a verdict. `remind_every` tells the pause between reminders of a level (`None`: never). At most one move.
pub fn transition(
    before: &Alert,
    evaluation: &Evaluation,
    remind_every: impl Fn(Severity) -> Option<Duration>,
    now: Time,
) -> (Alert, Option<Transition>) {
    let mut alert = before.clone();
    alert.clamp_times_to(now);
    let was = alert.firing();
    let since_all = alert.since();
    alert.critical = next_level_state(alert.critical, evaluation.critical, now);
    alert.warning = next_level_state(alert.warning, evaluation.warning, now);
    warning_fires_with_critical(&mut alert, evaluation);

    let since = |alert: &Alert, level| alert.level_state(level).map_or(now, |level_state| level_state.since);
    let change = match (was, alert.firing()) {
        (None, None) => None,
        (None, Some(level)) => Some((TransitionKind::Raised, level, since(&alert, level))),
        (Some(level), None) => Some((TransitionKind::Resolved, level, since_all.unwrap_or(now))),
        (Some(was), Some(is)) if is > was => Some((TransitionKind::Escalated, is, since(&alert, is))),
        (Some(was), Some(is)) if is < was => Some((TransitionKind::Eased, is, since(&alert, is))),
        // A level that cannot be evaluated stands still.
        (Some(_), Some(level)) => (evaluation.is_evaluated(level) && reminder_due(&alert, remind_every(level), now))
            .then(|| (TransitionKind::Reminder, level, since(&alert, level))),
    };
    let Some((kind, level, since)) = change else { return (alert, None) };
    if kind == TransitionKind::Resolved {
        // A level that is breached within its `for` starts a new life; who was told belongs to the one that ended.
        alert.last_event = None;
        alert.notified = BTreeMap::new();
    } else {
        alert.last_event = Some(now);
    }
    (alert, Some(Transition { kind, level, since }))
}

/// One latch, one verdict. A level that the rule no longer has no longer fires; one that cannot be evaluated stands still.
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

/// While critical fires, warning fires too, unless its own `clear_at` has been reached or it cannot be evaluated.
fn warning_fires_with_critical(alert: &mut Alert, evaluation: &Evaluation) {
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
    use proptest::prelude::*;

    const HOUR: i64 = 3600;

    fn at(seconds: i64) -> Time {
        Time::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[allow(clippy::unnecessary_wraps)] // the shape that a verdict wants
    fn level(condition: LevelCondition, hold: i64) -> Option<LevelEvaluation> {
        Some(LevelEvaluation { condition, hold: Duration::from_secs(hold.unsigned_abs()) })
    }

    #[allow(clippy::unnecessary_wraps)] // the shape that `transition` wants
    fn daily(_: Severity) -> Option<Duration> {
        Some(Duration::from_secs(24 * 3600))
    }

    /// Plays verdicts at times and tells the moves as words.
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

    /// Through the list in which alerts are saved.
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
                    prop_assert_eq!(was, alert.firing(), "a change of level is always told");
                    continue;
                };
                prop_assert!(transition.since <= at(now));
                match transition.kind {
                    TransitionKind::Raised => prop_assert!(last.is_none(), "two raises without a resolve between"),
                    TransitionKind::Escalated => prop_assert_eq!(last.map(|it| it.1), Some(Severity::Warning)),
                    TransitionKind::Eased => prop_assert_eq!(last.map(|it| it.1), Some(Severity::Critical)),
                    TransitionKind::Reminder => prop_assert!(last.is_some_and(|(when, _)| now - when >= 24 * HOUR), "a reminder came early"),
                    TransitionKind::Resolved => prop_assert!(last.is_some(), "a resolve without a raise"),
                }
                last = (transition.kind != TransitionKind::Resolved).then_some((now, transition.level));
            }
        }
    }
}
