//! Building of a report page from the latest figures and the state.

use std::cmp::Reverse;

use crate::alerting::state::{AlertRecord, State};
use crate::domain::alert::{AlertKey, AlertStatus};
use crate::domain::report::{FundFigures, LastReport, LatestFigures, ReportAlert, ReportPage, ReportRow};
use crate::domain::silence::Silence;
use crate::domain::{Name, Time};

/// Argument of [`build_page`]: the page to build.
#[derive(Debug, Clone, Copy)]
pub struct ReportRequest<'a> {
    /// Name of the report in the configuration.
    pub name: &'a Name,
    /// Time of the schedule that the page is for.
    pub due: Time,
    /// Time of the next page.
    pub next: Option<Time>,
    /// Present time. Silences that have ended are not shown.
    pub now: Time,
    /// Silences of the configuration. Those added by command are in the state.
    pub silences: &'a [Silence],
}

/// Builds a page, and the part of it to be saved.
pub fn build_page(request: &ReportRequest, latest: &[LatestFigures], state: &State) -> (ReportPage, LastReport) {
    let before = state.reports.get(request.name);
    let previous = before.map(|before| before.figures.as_slice()).unwrap_or_default();
    let silences = silences(request, latest, state);
    let builder = RowBuilder { previous, state, silences: &silences };
    let mut rows: Vec<ReportRow> = latest.iter().map(|latest| builder.row(latest)).collect();
    for (at, latest) in latest.iter().enumerate() {
        // If an account cannot be listed, the divisions of the page before are shown with stale figures.
        let Some(why) = latest.failure.as_ref().filter(|_| latest.figures.at.is_none()) else { continue };
        let mut unlisted = previous.iter().filter(|it| it.account == latest.figures.account && it.division.is_some());
        if latest.figures.division.is_none()
            && !rows.iter().any(|row| unlisted.clone().any(|it| it.is_same_division(&row.figures)))
        {
            let stale =
                |it: &FundFigures| builder.row(&LatestFigures { figures: it.clone(), failure: Some(why.clone()) });
            rows[at].unreadable = Some(why.clone());
            rows.extend(unlisted.by_ref().map(stale));
        }
    }
    rows.sort_by_cached_key(|row| (row.rank(), row.figures.account.clone(), row.figures.division));
    let figures = rows.iter().filter(|row| row.figures.at.is_some()).map(|row| row.figures.clone()).collect();
    let compared_with = before.filter(|before| !before.figures.is_empty()).map(|before| before.due);
    let failing = state.failing_notifiers.iter().map(|(name, failure)| (name.clone(), failure.since)).collect();
    let ReportRequest { name, due, next, .. } = *request;
    (ReportPage { name: name.clone(), due, compared_with, next, rows, silences, failing }, LastReport { due, figures })
}

/// Returns the silences in force about accounts on the page, those that end first at the beginning.
fn silences(request: &ReportRequest, latest: &[LatestFigures], state: &State) -> Vec<Silence> {
    let all = request.silences.iter().chain(state.silences.values());
    let about = |silence: &&Silence| latest.iter().any(|it| it.figures.account == silence.account);
    let mut silences: Vec<Silence> = all.filter(|it| it.in_force(request.now)).filter(about).cloned().collect();
    silences.sort_by_key(|silence| silence.until);
    silences
}

/// Context from which rows are built.
struct RowBuilder<'a> {
    /// Figures of the page before.
    previous: &'a [FundFigures],
    state: &'a State,
    silences: &'a [Silence],
}

impl RowBuilder<'_> {
    fn row(&self, latest: &LatestFigures) -> ReportRow {
        let before = self.previous.iter().find(|it| it.is_same_division(&latest.figures));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alert::{Alert, LevelState};
    use crate::domain::report::ReportRowRank;
    use crate::domain::rule::Severity;

    fn at(hours: i64) -> Time {
        Time::UNIX_EPOCH + chrono::Duration::hours(hours)
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
        assert_eq!(
            marks,
            [("balance", None), ("funds", Some(at(50)))],
            "a silence up to warning does not suppress critical"
        );
    }
}
