//! A report: every account and division on one page, with what changed since the page before. Pure.
//!
//! A page is an event like others: owed and saved before it is sent. What it is compared with is kept in the state.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use super::alert::{AlertKey, AlertStatus};
use super::event::MetricValue;
use super::money::Money;
use super::rule::Severity;
use super::silence::Silence;
use super::{Division, Name, Time};
use crate::alerting::state::{AlertRecord, State};

/// The figures of one account or division, as they were last known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FundFigures {
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
    pub funds: Option<MetricValue>,
    /// Owed for unpaid invoices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpaid: Option<Money>,
}

impl FundFigures {
    /// Of a place that was never read.
    pub fn never_read(account: Name, division: Division, division_name: Option<String>) -> Self {
        Self { account, division, division_name, at: None, funds: None, unpaid: None }
    }

    fn is_of(&self, other: &FundFigures) -> bool {
        self.account == other.account && self.division == other.division
    }
}

/// What the last cycle knows of an account or division.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatestFigures {
    /// The last good figures.
    pub figures: FundFigures,
    /// Why they are not of the last cycle; `None`: they are.
    pub failure: Option<String>,
}

/// What is remembered of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastReport {
    /// The time of its schedule that was told last; at first, when the report was first seen.
    pub due: Time,
    /// Its figures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub figures: Vec<FundFigures>,
}

/// Which page is made, and when.
#[derive(Debug, Clone, Copy)]
pub struct ReportRequest<'a> {
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
pub struct ReportPage {
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
    pub rows: Vec<ReportRow>,
    /// What is silenced, whether or not anything fires there; what ends first comes first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silences: Vec<Silence>,
    /// Notifiers that fail, and since when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<(Name, Time)>,
}

/// One account or division on a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportRow {
    /// As last known.
    #[serde(flatten)]
    pub figures: FundFigures,
    /// Why they are old; `None`: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// Available funds on the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<MetricValue>,
    /// Its alerts that are not ok, the most severe first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<ReportAlert>,
}

/// An alert that is not ok.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportAlert {
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
    pub unevaluated_rules: Vec<Name>,
}

/// How bad a row is; ordered worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReportRowRank {
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

impl ReportRow {
    /// How bad it is.
    pub fn rank(&self) -> ReportRowRank {
        let firing = self.alerts.iter().filter(|alert| alert.firing).map(|alert| alert.level).max();
        match firing {
            Some(Severity::Critical) => ReportRowRank::Critical,
            _ if self.unreadable.is_some() => ReportRowRank::Unreadable,
            Some(Severity::Warning) => ReportRowRank::Warning,
            None if !self.alerts.is_empty() => ReportRowRank::Pending,
            None => ReportRowRank::Ok,
        }
    }
}

/// The page as of now, and what is to be remembered of it.
pub fn build_page(request: &ReportRequest, latest: &[LatestFigures], state: &State) -> (ReportPage, LastReport) {
    let before = state.reports.get(request.name);
    let previous = before.map(|before| before.figures.as_slice()).unwrap_or_default();
    let silences = silences(request, latest, state);
    let builder = RowBuilder { previous, state, silences: &silences };
    let mut rows: Vec<ReportRow> = latest.iter().map(|latest| builder.row(latest)).collect();
    for (at, latest) in latest.iter().enumerate() {
        // An account that cannot even be listed: what the page before knew of it is shown as old.
        let Some(why) = latest.failure.as_ref().filter(|_| latest.figures.at.is_none()) else { continue };
        let mut lost = previous.iter().filter(|it| it.account == latest.figures.account && it.division.is_some());
        if latest.figures.division.is_none() && !rows.iter().any(|row| lost.clone().any(|it| it.is_of(&row.figures))) {
            let old =
                |it: &FundFigures| builder.row(&LatestFigures { figures: it.clone(), failure: Some(why.clone()) });
            rows[at].unreadable = Some(why.clone());
            rows.extend(lost.by_ref().map(old));
        }
    }
    rows.sort_by_cached_key(|row| (row.rank(), row.figures.account.clone(), row.figures.division));
    let figures = rows.iter().filter(|row| row.figures.at.is_some()).map(|row| row.figures.clone()).collect();
    let compared_with = before.filter(|before| !before.figures.is_empty()).map(|before| before.due);
    let failing = state.failing_notifiers.iter().map(|(name, failure)| (name.clone(), failure.since)).collect();
    let ReportRequest { name, due, next, .. } = *request;
    (ReportPage { name: name.clone(), due, compared_with, next, rows, silences, failing }, LastReport { due, figures })
}

/// The silences in force about what is on the page.
fn silences(request: &ReportRequest, latest: &[LatestFigures], state: &State) -> Vec<Silence> {
    let all = request.silences.iter().chain(state.silences.values());
    let about = |silence: &&Silence| latest.iter().any(|it| it.figures.account == silence.account);
    let mut silences: Vec<Silence> = all.filter(|it| it.in_force(request.now)).filter(about).cloned().collect();
    silences.sort_by_key(|silence| silence.until);
    silences
}

/// What rows are made from, beside the figures.
struct RowBuilder<'a> {
    /// The page before.
    previous: &'a [FundFigures],
    state: &'a State,
    silences: &'a [Silence],
}

impl RowBuilder<'_> {
    fn row(&self, latest: &LatestFigures) -> ReportRow {
        let before = self.previous.iter().find(|it| it.is_of(&latest.figures));
        let mut figures = latest.figures.clone();
        if let Some(before) = before.filter(|_| figures.at.is_none()) {
            figures =
                FundFigures { division_name: figures.division_name.or(before.division_name.clone()), ..before.clone() };
        }
        let mine = |key: &AlertKey| key.account == latest.figures.account && key.division == latest.figures.division;
        let alerts = self.state.alerts.iter().filter(|(key, _)| mine(key));
        let mut alerts: Vec<ReportAlert> = alerts.filter_map(|(key, record)| self.report_alert(key, record)).collect();
        alerts.sort_by_key(|alert| Reverse((alert.firing, alert.level)));
        ReportRow { figures, unreadable: latest.failure.clone(), before: before.and_then(|it| it.funds), alerts }
    }

    fn report_alert(&self, key: &AlertKey, record: &AlertRecord) -> Option<ReportAlert> {
        let (level, firing) = match record.alert.status() {
            AlertStatus::Ok => return None,
            AlertStatus::Pending(level) => (level, false),
            AlertStatus::Firing(level) => (level, true),
        };
        let silencing = self.silences.iter().filter(|silence| silence.matches(key) && silence.level >= level);
        let silenced_until = silencing.map(|silence| silence.until).max();
        let (rule, since, unevaluated_rules) =
            (key.rule.clone(), record.alert.level_since(), record.unevaluated_rules.clone());
        Some(ReportAlert { rule, level, firing, since, silenced_until, unevaluated_rules })
    }
}

/// What is to be done about a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportTiming {
    /// It was never seen before: from now on it comes.
    FirstSeen,
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
pub fn report_timing(last: Option<&LastReport>, now: Time, next: impl Fn(Time, Time) -> Option<Time>) -> ReportTiming {
    let day = chrono::Duration::days(1);
    let Some(last) = last.map(|last| last.due).filter(|last| *last <= now + day) else {
        return ReportTiming::FirstSeen;
    };
    // A clock that went back a little must not tell a time again; one that went back far begins anew, above.
    let mut due = None;
    let mut at = last.max(now - day);
    loop {
        match next(last, at) {
            Some(later) if later <= now => (due, at) = (Some(later), later),
            Some(later) => return due.map_or(ReportTiming::At(later), ReportTiming::Now),
            None => return due.map_or(ReportTiming::Never, ReportTiming::Now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::alert::{Alert, LevelState};
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
        let last = |hours| Some(LastReport { due: at(hours), figures: Vec::new() });
        for (last, now, expected) in [
            (None, at(100), ReportTiming::FirstSeen),
            (last(9), at(10), ReportTiming::At(at(33))),
            (last(9), at(33), ReportTiming::Now(at(33))),
            (last(33), at(33), ReportTiming::At(at(57))),
            // Down for three days: only the latest is told.
            (last(9), at(24 * 4), ReportTiming::Now(at(24 * 3 + 9))),
            // The clock went back by an hour: 33 is not told again.
            (last(33), at(32), ReportTiming::At(at(57))),
            // It had been wrong by a year.
            (last(9000), at(32), ReportTiming::FirstSeen),
        ] {
            assert_eq!(report_timing(last.as_ref(), now, daily), expected, "{last:?} {now}");
        }
        let weekly = |_: Time, after: Time| (0..2000).map(|week| at(week * 168 + 9)).find(|time| *time > after);
        assert_eq!(report_timing(last(9).as_ref(), at(168 + 9 + 23), weekly), ReportTiming::Now(at(177)));
        assert_eq!(
            report_timing(last(9).as_ref(), at(168 + 9 + 25), weekly),
            ReportTiming::At(at(345)),
            "older than a day"
        );
        assert_eq!(report_timing(last(9).as_ref(), at(10), |_, _| None), ReportTiming::Never);
        // Every 25 hours from the last time that was told.
        let every = |start: Time, after: Time| {
            (0..2000).map(|n| start + chrono::Duration::hours(25 * n)).find(|time| *time > after)
        };
        assert_eq!(report_timing(last(0).as_ref(), at(24), every), ReportTiming::At(at(25)));
        assert_eq!(report_timing(last(0).as_ref(), at(26), every), ReportTiming::Now(at(25)), "missed by an hour");
        assert_eq!(report_timing(last(0).as_ref(), at(98), every), ReportTiming::Now(at(75)));
        assert_eq!(report_timing(last(0).as_ref(), at(48), every), ReportTiming::Now(at(25)));
    }

    #[test]
    fn unreadable_divisions_show_the_figures_of_the_previous_page() {
        let old =
            FundFigures { at: Some(at(1)), ..FundFigures::never_read("a".into(), Some(7), Some("Physics".to_owned())) };
        let mut state = State::default();
        state.reports.insert("weekly".into(), LastReport { due: at(2), figures: vec![old.clone()] });
        let unreadable = |division| LatestFigures {
            figures: FundFigures::never_read("a".into(), division, None),
            failure: Some("503".to_owned()),
        };
        let weekly = "weekly".into();
        let request = ReportRequest { name: &weekly, due: at(9), next: None, now: at(9), silences: &[] };
        let (page_of_one, reported) = build_page(&request, &[unreadable(Some(7))], &state);
        assert_eq!((page_of_one.rows.len(), page_of_one.compared_with), (1, Some(at(2))));
        assert_eq!((&page_of_one.rows[0].figures, page_of_one.rows[0].rank()), (&old, ReportRowRank::Unreadable));
        assert_eq!(reported, LastReport { due: at(9), figures: vec![old.clone()] });
        // After a restart, with an account that cannot be listed.
        let (whole, _) = build_page(&request, &[unreadable(None)], &state);
        assert_eq!(whole.rows.iter().map(|row| row.figures.division).collect::<Vec<_>>(), [None, Some(7)]);
        assert!(whole.rows.iter().all(|row| row.unreadable.is_some()));
    }

    #[test]
    fn a_page_lists_silences_in_force_and_marks_silenced_alerts() {
        let silence = |account: &str, level, until| Silence {
            account: account.into(),
            division: None,
            rule: None,
            until: at(until),
            reason: None,
            level,
            created_at: None,
        };
        let mut state = State::default();
        state.silences.insert(1, silence("a", Severity::Warning, 50));
        state.silences.insert(2, silence("a", Severity::Critical, 9));
        for (rule, critical) in [("funds", false), ("balance", true)] {
            let level_state = Some(LevelState { since: at(1), firing: true });
            let alert = Alert { warning: level_state, critical: level_state.filter(|_| critical), ..Alert::default() };
            let key = AlertKey { account: "a".into(), division: None, rule: rule.into() };
            state.alerts.insert(key, AlertRecord { alert, ..AlertRecord::default() });
        }
        let configured = [silence("a", Severity::Warning, 40), silence("elsewhere", Severity::Critical, 90)];
        let weekly = "weekly".into();
        let request = ReportRequest { name: &weekly, due: at(9), next: None, now: at(9), silences: &configured };
        let latest = LatestFigures { figures: FundFigures::never_read("a".into(), None, None), failure: None };
        let (page, _) = build_page(&request, &[latest], &state);
        assert_eq!(page.silences.iter().map(|it| it.until).collect::<Vec<_>>(), [at(40), at(50)]);
        let marks: Vec<_> = page.rows[0].alerts.iter().map(|it| (&*it.rule, it.silenced_until)).collect();
        assert_eq!(marks, [("balance", None), ("funds", Some(at(50)))], "a warning silence hushes no critical");
    }
}
