//! Reports: every account and division on one page, with the change since the page before.
//!
//! A page is an event: it is queued and saved before it is sent. The figures that the next page is compared with are part of the
//! state.

use serde::{Deserialize, Serialize};

use super::balance::MetricValue;
use super::money::Money;
use super::rule::Severity;
use super::silence::Silence;
use super::{Division, Name, Time};

/// Last known figures of one account or division.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FundFigures {
    /// Name of the account.
    pub account: Name,
    /// Division, if the account is read by division.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub division: Division,
    /// Name of the division as last listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub division_name: Option<String>,
    /// Time at which they were read; `None` if they never were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// Available funds, if they were ever read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub funds: Option<MetricValue>,
    /// Sum of unpaid invoices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpaid: Option<Money>,
}

impl FundFigures {
    /// Creates figures of an account or division that was never read.
    pub fn never_read(account: Name, division: Division, division_name: Option<String>) -> Self {
        Self { account, division, division_name, at: None, funds: None, unpaid: None }
    }

    /// Returns `true` if both are figures of the same account and division.
    pub(crate) fn is_same_division(&self, other: &FundFigures) -> bool {
        self.account == other.account && self.division == other.division
    }
}

/// Result of the last cycle for an account or division.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatestFigures {
    /// Last figures that could be read.
    pub figures: FundFigures,
    /// Reason why the last cycle could not read them; `None` if it could.
    pub failure: Option<String>,
}

/// Part of a report that is saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastReport {
    /// Time of the schedule that the last page was for; before the first page, the time at which the report was first configured.
    pub due: Time,
    /// Figures of the last page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub figures: Vec<FundFigures>,
}

/// One page of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportPage {
    /// Name of the report in the configuration.
    pub name: Name,
    /// Time of the schedule that the page is for.
    pub due: Time,
    /// Time of the page that `before` in its rows refers to; `None` on the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared_with: Option<Time>,
    /// Time of the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Time>,
    /// Rows, the worst first.
    pub rows: Vec<ReportRow>,
    /// Silences in force, whether or not an alert fires; those that end first come first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silences: Vec<Silence>,
    /// Failing notifiers, each with the time since which it has failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<(Name, Time)>,
}

/// An account or division on a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportRow {
    /// Last known figures of the row.
    #[serde(flatten)]
    pub figures: FundFigures,
    /// Reason why the figures are stale; `None` if they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// Available funds on the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<MetricValue>,
    /// Alerts that are not ok, the most severe first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<ReportAlert>,
}

/// An alert on a page that is not ok.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportAlert {
    /// Name of the rule, or `unreadable`.
    pub rule: Name,
    /// Level that is breached or fires.
    pub level: Severity,
    /// `false` while the time in the level's `for` has not passed.
    pub firing: bool,
    /// Time of the first breached reading of that level.
    pub since: Option<Time>,
    /// End of the silence that suppresses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silenced_until: Option<Time>,
    /// For `unreadable`: rules that cannot be evaluated although the balance was read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unevaluated_rules: Vec<Name>,
}

/// Rank of a row, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReportRowRank {
    /// An alert fires at level critical.
    Critical,
    /// The balance could not be read.
    Unreadable,
    /// An alert fires at level warning.
    Warning,
    /// An alert is pending, and none fires.
    Pending,
    /// No alert is pending or firing.
    Ok,
}

impl ReportRow {
    /// Returns the rank of the row.
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

/// Timing of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportTiming {
    /// The report is new. Its first page comes at the next time of its schedule.
    FirstSeen,
    /// A page is due for this time of the schedule.
    Now(Time),
    /// The next page is due at this time.
    At(Time),
    /// The schedule has no further times.
    Never,
}

/// Computes when a report is due. Of missed times, only the latest is made up for, if it is less than a day old. No time of the
/// schedule has two pages. `next(start, after)` is the schedule: in a series that begins at `start`, it returns the first time after
/// `after`. The series begins with the time of the last page, so that times stay the same across restarts.
pub fn report_timing(last: Option<&LastReport>, now: Time, next: impl Fn(Time, Time) -> Option<Time>) -> ReportTiming {
    let day = chrono::Duration::days(1);
    let Some(last) = last.map(|last| last.due).filter(|last| *last <= now + day) else {
        return ReportTiming::FirstSeen;
    };
    // If the clock was set back a little, no time is repeated. If it was set back far, the report starts anew, above.
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
    fn a_missed_time_is_made_up_for_once_within_a_day() {
        let last = |hours| Some(LastReport { due: at(hours), figures: Vec::new() });
        for (last, now, expected) in [
            (None, at(100), ReportTiming::FirstSeen),
            (last(9), at(10), ReportTiming::At(at(33))),
            (last(9), at(33), ReportTiming::Now(at(33))),
            (last(33), at(33), ReportTiming::At(at(57))),
            // Down for three days: only the latest time is made up for.
            (last(9), at(24 * 4), ReportTiming::Now(at(24 * 3 + 9))),
            // The clock was set back by an hour: 33 is not repeated.
            (last(33), at(32), ReportTiming::At(at(57))),
            // The clock had been wrong by a year.
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
        // Every 25 hours from the last page.
        let every = |start: Time, after: Time| {
            (0..2000).map(|n| start + chrono::Duration::hours(25 * n)).find(|time| *time > after)
        };
        assert_eq!(report_timing(last(0).as_ref(), at(24), every), ReportTiming::At(at(25)));
        assert_eq!(report_timing(last(0).as_ref(), at(26), every), ReportTiming::Now(at(25)), "missed by an hour");
        assert_eq!(report_timing(last(0).as_ref(), at(98), every), ReportTiming::Now(at(75)));
        assert_eq!(report_timing(last(0).as_ref(), at(48), every), ReportTiming::Now(at(25)));
    }
}
