//! A report: every account and division on one page, with what changed since the page before. Pure.
//!
//! A page is an event like others: owed and saved before it is sent. What it is compared with is kept in the state.

use serde::{Deserialize, Serialize};

use super::balance::MetricValue;
use super::money::Money;
use super::rule::Severity;
use super::silence::Silence;
use super::{Division, Name, Time};

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

    /// Returns `true` if both are figures of the same account and division.
    pub(crate) fn is_same_division(&self, other: &FundFigures) -> bool {
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
}
