//! (alert, verdict, now) → (alert, move): the life cycle of one alert. Pure, and the only place that decides what is news.
//!
//! An alert is one (rule, account, division). Each of its levels is a latch of its own; the alert is what its latches say.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::evaluate::{LevelVerdict, Standing, Verdict};
use super::rule::Severity;
use super::{Division, Name, Time};

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

/// One level that is breached: since when, and whether that has held long enough to fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latch {
    /// The first breached reading.
    pub since: Time,
    /// `false`: still within its `for`.
    pub firing: bool,
}

/// What is remembered of an alert that is not ok. [`Alert::default`] is ok.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Alert {
    /// The warning level, unless it is clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<Latch>,
    /// The critical level, unless it is clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<Latch>,
    /// When this alert's last event was; `None` while it is only pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_event: Option<Time>,
    /// Who was told of it, with the Message-ID of the first mail where the notifier sends mail.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub told: BTreeMap<Name, Option<String>>,
}

/// What an alert is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
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
pub enum Kind {
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

impl Kind {
    /// Its name, the same in logs, YAML and docs.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Raised => "raised",
            Kind::Escalated => "escalated",
            Kind::Eased => "eased",
            Kind::Reminder => "reminder",
            Kind::Resolved => "resolved",
        }
    }
}

/// One move of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// What happened.
    pub kind: Kind,
    /// The level that it is about; for `resolved` the level that it fired at last.
    pub level: Severity,
    /// The first breached reading of that level; for `resolved` of the whole alert.
    pub since: Time,
}

impl Alert {
    /// What the alert is.
    pub fn status(&self) -> Status {
        let firing = |latch: Option<Latch>| latch.is_some_and(|latch| latch.firing);
        match (self.critical, self.warning) {
            (critical, _) if firing(critical) => Status::Firing(Severity::Critical),
            (_, warning) if firing(warning) => Status::Firing(Severity::Warning),
            (Some(_), _) => Status::Pending(Severity::Critical),
            (None, Some(_)) => Status::Pending(Severity::Warning),
            (None, None) => Status::Ok,
        }
    }

    /// The level that it fires at.
    pub fn firing(&self) -> Option<Severity> {
        match self.status() {
            Status::Firing(severity) => Some(severity),
            Status::Ok | Status::Pending(_) => None,
        }
    }

    /// The first breached reading of any of its levels.
    pub fn since(&self) -> Option<Time> {
        [self.warning, self.critical].into_iter().flatten().map(|latch| latch.since).min()
    }

    fn latch(&self, severity: Severity) -> Option<Latch> {
        match severity {
            Severity::Warning => self.warning,
            Severity::Critical => self.critical,
        }
    }

    /// A state time in the future (the clock went back) counts as now.
    fn not_in_the_future(&mut self, now: Time) {
        for latch in [&mut self.warning, &mut self.critical].into_iter().flatten() {
            latch.since = latch.since.min(now);
        }
        self.last_event = self.last_event.map(|at| at.min(now));
    }
}

/// Applies a verdict. `remind_every` tells the pause between reminders of a level (`None`: never). At most one move.
pub fn transition(
    before: &Alert,
    verdict: &Verdict,
    remind_every: impl Fn(Severity) -> Option<Duration>,
    now: Time,
) -> (Alert, Option<Move>) {
    let mut alert = before.clone();
    alert.not_in_the_future(now);
    let was = alert.firing();
    let since_all = alert.since();
    alert.critical = step(alert.critical, verdict.critical, now);
    alert.warning = step(alert.warning, verdict.warning, now);
    warning_fires_with_critical(&mut alert, verdict);

    let since = |alert: &Alert, level| alert.latch(level).map_or(now, |latch| latch.since);
    let moved = match (was, alert.firing()) {
        (None, None) => None,
        (None, Some(level)) => Some((Kind::Raised, level, since(&alert, level))),
        (Some(level), None) => Some((Kind::Resolved, level, since_all.unwrap_or(now))),
        (Some(was), Some(is)) if is > was => Some((Kind::Escalated, is, since(&alert, is))),
        (Some(was), Some(is)) if is < was => Some((Kind::Eased, is, since(&alert, is))),
        (Some(_), Some(level)) => {
            reminder_due(&alert, remind_every(level), now).then(|| (Kind::Reminder, level, since(&alert, level)))
        }
    };
    let Some((kind, level, since)) = moved else { return (alert, None) };
    if kind == Kind::Resolved {
        // A level that is breached within its `for` starts a new life; who was told belongs to the one that ended.
        alert.last_event = None;
        alert.told = BTreeMap::new();
    } else {
        alert.last_event = Some(now);
    }
    (alert, Some(Move { kind, level, since }))
}

/// One latch, one verdict. A level that the rule no longer has no longer fires.
fn step(latch: Option<Latch>, verdict: Option<LevelVerdict>, now: Time) -> Option<Latch> {
    let verdict = verdict?;
    match (latch, verdict.standing) {
        (Some(latch), Standing::Breached) => {
            Some(Latch { firing: latch.firing || held(latch.since, verdict.hold, now), ..latch })
        }
        (None, Standing::Breached) => Some(Latch { since: now, firing: verdict.hold.is_zero() }),
        (Some(latch), Standing::Between) if latch.firing => Some(latch),
        _ => None,
    }
}

fn held(since: Time, hold: Duration, now: Time) -> bool {
    (now - since).to_std().is_ok_and(|age| age >= hold)
}

/// While critical fires, warning fires too, unless its own `clear_at` has been reached.
fn warning_fires_with_critical(alert: &mut Alert, verdict: &Verdict) {
    let (Some(critical), Some(warning)) = (alert.critical, verdict.warning) else { return };
    if critical.firing && warning.standing != Standing::Clear {
        let since = alert.warning.map_or(critical.since, |latch| latch.since.min(critical.since));
        alert.warning = Some(Latch { since, firing: true });
    }
}

fn reminder_due(alert: &Alert, remind_every: Option<Duration>, now: Time) -> bool {
    let (Some(every), Some(last)) = (remind_every, alert.last_event) else { return false };
    held(last, every, now)
}
