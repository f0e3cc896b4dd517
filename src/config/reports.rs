//! Decodes `reports`.

use std::collections::BTreeMap;

use chrono_tz::Tz;

use super::catalog::REPORT;
use super::cursor::Cursor;
use super::model::ReportConfig;
use super::{accounts, rules};
use crate::domain::Name;

/// Reads all reports and leaves out those with problems.
pub(super) fn reports(cursor: &Cursor<'_>, notifiers: &[Name], timezone: Tz) -> BTreeMap<Name, ReportConfig> {
    let reports = cursor.named("report").into_iter();
    reports.filter_map(|(name, cursor)| Some((name, report(&cursor, notifiers, timezone)?))).collect()
}

fn report(cursor: &Cursor<'_>, notifiers: &[Name], timezone: Tz) -> Option<ReportConfig> {
    let section = cursor.section(REPORT)?;
    let schedule = section.required("schedule", "when the report is sent, such as \"0 9 * * Mon\"");
    let schedule = schedule.and_then(|cursor| accounts::schedule(&cursor, timezone));
    let notify = match section.get("notify") {
        Some(cursor) => rules::notify(&cursor, notifiers),
        None => Some(notifiers.to_vec()),
    };
    Some(ReportConfig { schedule: schedule?, notify: notify?.into_iter().collect() })
}
