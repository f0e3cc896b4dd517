//! A report: every account and division on one page, with what changed since the page before. Pure.
//!
//! A page is an event like others: owed and saved before it is sent. What it is compared with is kept in the state.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use super::alert::{AlertKey, Status};
use super::event::Value;
use super::money::Money;
use super::rule::Severity;
use super::silence::Silence;
use super::{Division, Name, Time};
use crate::alerting::state::{Remembered, State};

/// The figures of one account or division, as they were last known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// The account's name.
    pub account: Name,
    /// The division, where the account is read by division.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub division: Division,
    /// Its name as last listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub division_name: Option<String>,
    /// When they were read; `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// Available funds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub funds: Option<Value>,
    /// Owed for unpaid invoices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpaid: Option<Money>,
}

impl Figures {
    /// Of a place that was never read.
    pub fn none(account: Name, division: Division, division_name: Option<String>) -> Self {
        Self { account, division, division_name, at: None, funds: None, unpaid: None }
    }

    fn is_of(&self, other: &Figures) -> bool {
        self.account == other.account && self.division == other.division
    }
}

/// What the last cycle knows of an account or division.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latest {
    /// The last good figures.
    pub figures: Figures,
    /// Why they are not of the last cycle; `None`: they are.
    pub failure: Option<String>,
}

/// What is remembered of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// The time of its schedule that was told last; at first, when the report was first seen.
    pub due: Time,
    /// Its figures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub figures: Vec<Figures>,
}

/// Which page is made, and when.
#[derive(Debug, Clone, Copy)]
pub struct Occasion<'a> {
    /// The report's name in the configuration.
    pub name: &'a Name,
    /// The time of its schedule that it is for.
    pub due: Time,
    /// When the next one comes.
    pub next: Option<Time>,
    /// Now: a silence that has ended is on no page.
    pub now: Time,
    /// The silences of the configuration; those made by command are in the state.
    pub silences: &'a [Silence],
}

/// One page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The report's name in the configuration.
    pub name: Name,
    /// The time of its schedule that it is for.
    pub due: Time,
    /// What `before` in its rows is of; `None`: this is the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared_with: Option<Time>,
    /// When the next one comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Time>,
    /// The worst first.
    pub rows: Vec<Row>,
    /// What is silenced, whether or not anything fires there; what ends first comes first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silences: Vec<Silence>,
    /// Notifiers that fail, and since when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<(Name, Time)>,
}

/// One account or division on a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// As last known.
    #[serde(flatten)]
    pub figures: Figures,
    /// Why they are old; `None`: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// Available funds on the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// Its alerts that are not ok, the most severe first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<Standing>,
}

/// An alert that is not ok.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The rule's name, or `unreadable`.
    pub rule: Name,
    /// At which level.
    pub level: Severity,
    /// Whether it fires; else its `for` is not over.
    pub firing: bool,
    /// The first breached reading of that level.
    pub since: Option<Time>,
    /// Until when a silence keeps people from hearing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silenced_until: Option<Time>,
    /// Of `unreadable`: the rules that cannot be judged while the balance was read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blind: Vec<Name>,
}

/// How bad a row is; ordered worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// An alert fires at critical.
    Critical,
    /// Not known.
    Unreadable,
    /// An alert fires at warning.
    Warning,
    /// An alert is pending.
    Pending,
    /// Nothing.
    Ok,
}

impl Row {
    /// How bad it is.
    pub fn rank(&self) -> Rank {
        let firing = self.alerts.iter().filter(|alert| alert.firing).map(|alert| alert.level).max();
        match firing {
            Some(Severity::Critical) => Rank::Critical,
            _ if self.unreadable.is_some() => Rank::Unreadable,
            Some(Severity::Warning) => Rank::Warning,
            None if !self.alerts.is_empty() => Rank::Pending,
            None => Rank::Ok,
        }
    }
}

/// The page as of now, and what is to be remembered of it.
pub fn page(of: &Occasion, latest: &[Latest], state: &State) -> (Page, Reported) {
    let before = state.reports.get(of.name);
    let known = before.map(|before| before.figures.as_slice()).unwrap_or_default();
    let silences = silences(of, latest, state);
    let desk = Desk { known, state, silences: &silences };
    let mut rows: Vec<Row> = latest.iter().map(|latest| desk.row(latest)).collect();
    for (at, latest) in latest.iter().enumerate() {
        // An account that cannot even be listed: what the page before knew of it is shown as old.
        let Some(why) = latest.failure.as_ref().filter(|_| latest.figures.at.is_none()) else { continue };
        let mut lost = known.iter().filter(|it| it.account == latest.figures.account && it.division.is_some());
        if latest.figures.division.is_none() && !rows.iter().any(|row| lost.clone().any(|it| it.is_of(&row.figures))) {
            let old = |it: &Figures| desk.row(&Latest { figures: it.clone(), failure: Some(why.clone()) });
            rows[at].unreadable = Some(why.clone());
            rows.extend(lost.by_ref().map(old));
        }
    }
    rows.sort_by_cached_key(|row| (row.rank(), row.figures.account.clone(), row.figures.division));
    let figures = rows.iter().filter(|row| row.figures.at.is_some()).map(|row| row.figures.clone()).collect();
    let compared_with = before.filter(|before| !before.figures.is_empty()).map(|before| before.due);
    let failing = state.notifiers.iter().map(|(name, trouble)| (name.clone(), trouble.since)).collect();
    let Occasion { name, due, next, .. } = *of;
    (Page { name: name.clone(), due, compared_with, next, rows, silences, failing }, Reported { due, figures })
}

/// The silences in force about what is on the page.
fn silences(of: &Occasion, latest: &[Latest], state: &State) -> Vec<Silence> {
    let all = of.silences.iter().chain(state.silences.values());
    let about = |silence: &&Silence| latest.iter().any(|it| it.figures.account == silence.account);
    let mut silences: Vec<Silence> = all.filter(|it| it.in_force(of.now)).filter(about).cloned().collect();
    silences.sort_by_key(|silence| silence.until);
    silences
}

/// What rows are made from, beside the figures.
struct Desk<'a> {
    /// The page before.
    known: &'a [Figures],
    state: &'a State,
    silences: &'a [Silence],
}

impl Desk<'_> {
    fn row(&self, latest: &Latest) -> Row {
        let before = self.known.iter().find(|it| it.is_of(&latest.figures));
        let mut figures = latest.figures.clone();
        if let Some(before) = before.filter(|_| figures.at.is_none()) {
            figures =
                Figures { division_name: figures.division_name.or(before.division_name.clone()), ..before.clone() };
        }
        let mine = |key: &AlertKey| key.account == latest.figures.account && key.division == latest.figures.division;
        let alerts = self.state.alerts.iter().filter(|(key, _)| mine(key));
        let mut alerts: Vec<Standing> = alerts.filter_map(|(key, known)| self.standing(key, known)).collect();
        alerts.sort_by_key(|alert| Reverse((alert.firing, alert.level)));
        Row { figures, unreadable: latest.failure.clone(), before: before.and_then(|it| it.funds), alerts }
    }

    fn standing(&self, key: &AlertKey, known: &Remembered) -> Option<Standing> {
        let (level, firing) = match known.alert.status() {
            Status::Ok => return None,
            Status::Pending(level) => (level, false),
            Status::Firing(level) => (level, true),
        };
        let hushes = self.silences.iter().filter(|silence| silence.matches(key) && silence.level >= level);
        let silenced_until = hushes.map(|silence| silence.until).max();
        let (rule, since, blind) = (key.rule.clone(), known.alert.level_since(), known.blind.clone());
        Some(Standing { rule, level, firing, since, silenced_until, blind })
    }
}

/// What is to be done about a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// It was never seen before: from now on it comes.
    Begin,
    /// It is due, for this time of its schedule.
    Now(Time),
    /// It comes at this time.
    At(Time),
    /// It never comes again.
    Never,
}

/// When a report is due. A time that was missed is made up for, the latest only, while it is younger than a day; no time is
/// told twice. `next` is the schedule: of a run whose first time was one moment, the first time after another. The run
/// begins with the time that was told last, so that times stay the same over restarts.
pub fn when(last: Option<&Reported>, now: Time, next: impl Fn(Time, Time) -> Option<Time>) -> When {
    let day = chrono::Duration::days(1);
    let Some(last) = last.map(|last| last.due).filter(|last| *last <= now + day) else { return When::Begin };
    // A clock that went back a little must not tell a time again; one that went back far begins anew, above.
    let mut due = None;
    let mut at = last.max(now - day);
    loop {
        match next(last, at) {
            Some(later) if later <= now => (due, at) = (Some(later), later),
            Some(later) => return due.map_or(When::At(later), When::Now),
            None => return due.map_or(When::Never, When::Now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::alert::{Alert, Latch};
    use super::*;

    fn at(hours: i64) -> Time {
        Time::UNIX_EPOCH + chrono::Duration::hours(hours)
    }

    /// Every day at 09:00.
    fn daily(_: Time, after: Time) -> Option<Time> {
        (0..2000).map(|day| at(day * 24 + 9)).find(|time| *time > after)
    }

    #[test]
    fn a_missed_time_is_made_up_for_once_and_only_while_it_is_young() {
        let last = |hours| Some(Reported { due: at(hours), figures: Vec::new() });
        for (last, now, expected) in [
            (None, at(100), When::Begin),
            (last(9), at(10), When::At(at(33))),
            (last(9), at(33), When::Now(at(33))),
            (last(33), at(33), When::At(at(57))),
            // Down for three days: only the latest is told.
            (last(9), at(24 * 4), When::Now(at(24 * 3 + 9))),
            // The clock went back by an hour: 33 is not told again.
            (last(33), at(32), When::At(at(57))),
            // It had been wrong by a year.
            (last(9000), at(32), When::Begin),
        ] {
            assert_eq!(when(last.as_ref(), now, daily), expected, "{last:?} {now}");
        }
        let weekly = |_: Time, after: Time| (0..2000).map(|week| at(week * 168 + 9)).find(|time| *time > after);
        assert_eq!(when(last(9).as_ref(), at(168 + 9 + 23), weekly), When::Now(at(177)));
        assert_eq!(when(last(9).as_ref(), at(168 + 9 + 25), weekly), When::At(at(345)), "older than a day");
        assert_eq!(when(last(9).as_ref(), at(10), |_, _| None), When::Never);
        // Every 25 hours from the last time that was told.
        let every = |start: Time, after: Time| {
            (0..2000).map(|n| start + chrono::Duration::hours(25 * n)).find(|time| *time > after)
        };
        assert_eq!(when(last(0).as_ref(), at(24), every), When::At(at(25)));
        assert_eq!(when(last(0).as_ref(), at(26), every), When::Now(at(25)), "missed by an hour");
        assert_eq!(when(last(0).as_ref(), at(98), every), When::Now(at(75)));
        assert_eq!(when(last(0).as_ref(), at(48), every), When::Now(at(25)));
    }

    #[test]
    fn what_cannot_be_read_is_shown_with_what_the_page_before_knew() {
        let old = Figures { at: Some(at(1)), ..Figures::none("a".into(), Some(7), Some("Physics".to_owned())) };
        let mut state = State::default();
        state.reports.insert("weekly".into(), Reported { due: at(2), figures: vec![old.clone()] });
        let blind =
            |division| Latest { figures: Figures::none("a".into(), division, None), failure: Some("503".to_owned()) };
        let weekly = "weekly".into();
        let of = Occasion { name: &weekly, due: at(9), next: None, now: at(9), silences: &[] };
        let (page_of_one, reported) = page(&of, &[blind(Some(7))], &state);
        assert_eq!((page_of_one.rows.len(), page_of_one.compared_with), (1, Some(at(2))));
        assert_eq!((&page_of_one.rows[0].figures, page_of_one.rows[0].rank()), (&old, Rank::Unreadable));
        assert_eq!(reported, Reported { due: at(9), figures: vec![old.clone()] });
        // After a restart, with an account that cannot be listed.
        let (whole, _) = page(&of, &[blind(None)], &state);
        assert_eq!(whole.rows.iter().map(|row| row.figures.division).collect::<Vec<_>>(), [None, Some(7)]);
        assert!(whole.rows.iter().all(|row| row.unreadable.is_some()));
    }

    #[test]
    fn a_page_has_the_silences_in_force_and_marks_what_they_hush() {
        let silence = |account: &str, level, until| Silence {
            account: account.into(),
            division: None,
            rule: None,
            until: at(until),
            reason: None,
            level,
            made: None,
        };
        let mut state = State::default();
        state.silences.insert(1, silence("a", Severity::Warning, 50));
        state.silences.insert(2, silence("a", Severity::Critical, 9));
        for (rule, critical) in [("funds", false), ("balance", true)] {
            let latch = Some(Latch { since: at(1), firing: true });
            let alert = Alert { warning: latch, critical: latch.filter(|_| critical), ..Alert::default() };
            let key = AlertKey { account: "a".into(), division: None, rule: rule.into() };
            state.alerts.insert(key, Remembered { alert, ..Remembered::default() });
        }
        let configured = [silence("a", Severity::Warning, 40), silence("elsewhere", Severity::Critical, 90)];
        let weekly = "weekly".into();
        let of = Occasion { name: &weekly, due: at(9), next: None, now: at(9), silences: &configured };
        let latest = Latest { figures: Figures::none("a".into(), None, None), failure: None };
        let (page, _) = page(&of, &[latest], &state);
        assert_eq!(page.silences.iter().map(|it| it.until).collect::<Vec<_>>(), [at(40), at(50)]);
        let marks: Vec<_> = page.rows[0].alerts.iter().map(|it| (&*it.rule, it.silenced_until)).collect();
        assert_eq!(marks, [("balance", None), ("funds", Some(at(50)))], "a warning silence hushes no critical");
    }
}
