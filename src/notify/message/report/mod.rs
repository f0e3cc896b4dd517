//! From a report to its content ([`ReportView`]), row by row, the same for every channel.

#[cfg(test)]
mod tests;

use super::text::{TimeFormatter, name};
use super::{MessageStatus, phrase};
use crate::domain::Division;
use crate::domain::balance::MetricValue;
use crate::domain::money::Money;
use crate::domain::report::{FundFigures, ReportAlert, ReportPage, ReportRow, ReportRowRank};
use crate::domain::rule::{Severity, UNREADABLE};
use crate::domain::silence::Silence;

/// Maximum number of silences in an email. Slack has less room.
pub(crate) const MAX_SILENCES: usize = 100;

/// Content of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportView {
    /// Time of the report, and the time that changes are relative to.
    pub summary: String,
    /// Rows, the most severe first.
    pub rows: Vec<ReportLine>,
    /// Silences, one sentence each, ordered by their end.
    pub silences: Vec<String>,
    /// Notes about a fallback and about failing notifiers.
    pub notes: Vec<String>,
    /// Time of the next report.
    pub footer: Option<String>,
}

/// Row of one account or division.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportLine {
    /// Rank of the row.
    pub rank: ReportRowRank,
    /// Account and division: `acme · History department`.
    pub fund: String,
    /// Available funds with their currency, or `unlimited` or `not known`.
    pub funds: String,
    /// Time of the last reading, if the balance could not be read since.
    pub last_read: Option<String>,
    /// Change since the previous report.
    pub change: Option<String>,
    /// Unpaid invoices, if there are any.
    pub unpaid: Option<String>,
    /// Alerts of the fund, and why its balance cannot be read.
    pub remarks: Vec<String>,
}

/// Returns the name of a rank, as shown in reports.
pub(crate) fn rank_name(rank: ReportRowRank) -> &'static str {
    match rank {
        ReportRowRank::Critical => "critical",
        ReportRowRank::Unreadable => "unreadable",
        ReportRowRank::Warning => "warning",
        ReportRowRank::Pending => "pending",
        ReportRowRank::Ok => "ok",
    }
}

/// Returns the colour of a rank as `#rrggbb`.
pub(crate) fn colour(rank: ReportRowRank) -> &'static str {
    match rank {
        ReportRowRank::Critical => MessageStatus::Critical.colour(),
        ReportRowRank::Warning => MessageStatus::Warning.colour(),
        ReportRowRank::Unreadable | ReportRowRank::Pending => MessageStatus::Notice.colour(),
        ReportRowRank::Ok => MessageStatus::Resolved.colour(),
    }
}

/// Returns `Report weekly · 12 divisions: 1 critical, 11 ok`.
pub(super) fn title(page: &ReportPage) -> String {
    let divided = page.rows.iter().filter(|row| row.figures.division.is_some()).count();
    let noun = match (divided, page.rows.len()) {
        (0, 1) => "account",
        (0, _) => "accounts",
        (1, 1) => "division",
        (divided, all) if divided == all => "divisions",
        _ => "accounts and divisions",
    };
    format!(
        "Report {} · {} {noun}: {}",
        name(&page.name),
        page.rows.len(),
        rank_counts(page.rows.iter().map(ReportRow::rank))
    )
}

/// Returns `1 critical, 2 warnings, 9 ok`, or `all ok` if there is nothing else.
pub(crate) fn rank_counts(ranks: impl Iterator<Item = ReportRowRank>) -> String {
    let ranks: Vec<ReportRowRank> = ranks.collect();
    let all = [
        ReportRowRank::Critical,
        ReportRowRank::Unreadable,
        ReportRowRank::Warning,
        ReportRowRank::Pending,
        ReportRowRank::Ok,
    ];
    let parts = all.map(|rank| (rank, ranks.iter().filter(|it| **it == rank).count()));
    let parts: Vec<String> = parts.into_iter().filter(|(_, n)| *n > 0).map(|(rank, n)| part(rank, n)).collect();
    match parts.as_slice() {
        [] => "nothing is watched".to_owned(),
        [_] if ranks.iter().all(|rank| *rank == ReportRowRank::Ok) => "all ok".to_owned(),
        parts => parts.join(", "),
    }
}

fn part(rank: ReportRowRank, n: usize) -> String {
    match (rank, n) {
        (ReportRowRank::Warning, n) if n > 1 => format!("{n} warnings"),
        (rank, n) => format!("{n} {}", rank_name(rank)),
    }
}

/// Returns the status of the most severe row.
pub(super) fn status(page: &ReportPage) -> MessageStatus {
    match page.rows.iter().map(ReportRow::rank).min() {
        Some(ReportRowRank::Critical) => MessageStatus::Critical,
        Some(ReportRowRank::Warning | ReportRowRank::Unreadable) => MessageStatus::Warning,
        Some(ReportRowRank::Pending | ReportRowRank::Ok) | None => MessageStatus::Notice,
    }
}

/// Returns the content of a report.
pub(super) fn view(page: &ReportPage, fallback_note: Option<String>, times: TimeFormatter) -> ReportView {
    let compared = page.compared_with.map(|at| format!(" Changes are since {}.", times.full(at)));
    let failing = page.failing.iter();
    let failing = failing.map(|(it, since)| format!("Notifier {} has failed since {}.", name(it), times.full(*since)));
    ReportView {
        summary: format!("As of {}.{}", times.full(times.now), compared.unwrap_or_default()),
        rows: page.rows.iter().map(|row| report_line(row, times)).collect(),
        silences: page.silences.iter().map(|silence| silence_line(silence, page, times)).collect(),
        notes: fallback_note.into_iter().chain(failing).collect(),
        footer: page.next.map(|next| format!("report {} · next {}", name(&page.name), times.short(next))),
    }
}

/// Returns `acme · Law school is silenced until Wed 25 Nov, 08:00 UTC (PO 4711 raised); critical alerts still get through.`
fn silence_line(silence: &Silence, page: &ReportPage, times: TimeFormatter) -> String {
    let same = |it: &&FundFigures| it.account == silence.account && it.division == silence.division;
    let of = page.rows.iter().map(|row| &row.figures).find(same).and_then(|it| it.division_name.as_deref());
    let what = match silence.rule.as_deref() {
        None => "is silenced".to_owned(),
        Some(UNREADABLE) => "an unreadable balance is silenced".to_owned(),
        Some(rule) => format!("rule {} is silenced", name(rule)),
    };
    let fund = fund_name(&silence.account, silence.division, of);
    let what = if silence.rule.is_some() { format!("{fund}: {what}") } else { format!("{fund} {what}") };
    let why = silence.reason.as_ref().map(|reason| format!(" ({})", phrase::quote(reason))).unwrap_or_default();
    let rest = if silence.level == Severity::Warning { "; critical alerts still get through" } else { "" };
    format!("{what} until {}{why}{rest}.", times.full(silence.until))
}

/// Returns `acme · History department`.
fn fund_name(account: &str, division: Division, division_name: Option<&str>) -> String {
    let division = division.map(|id| match division_name.map(name) {
        Some(name) if !name.is_empty() => name,
        _ => format!("division {id}"),
    });
    let account = name(account);
    division.map_or_else(|| account.clone(), |division| format!("{account} · {division}"))
}

fn report_line(row: &ReportRow, times: TimeFormatter) -> ReportLine {
    let figures = &row.figures;
    let stale = row.unreadable.is_some();
    let funds = match (figures.funds, figures.at) {
        (Some(MetricValue::Amount(money)), _) => money.to_string(),
        (Some(MetricValue::Time(lasts)), _) => crate::domain::seconds::format_compact(lasts),
        (Some(MetricValue::Unlimited), _) => "unlimited".to_owned(),
        (None, _) => "not known".to_owned(),
    };
    let mut remarks: Vec<String> = row.alerts.iter().map(|alert| alert_line(alert, stale, times)).collect();
    remarks.extend(row.unreadable.as_ref().map(|why| format!("Cannot be read: {}", phrase::sentence(why))));
    ReportLine {
        rank: row.rank(),
        fund: fund_name(&figures.account, figures.division, figures.division_name.as_deref()),
        funds,
        last_read: figures.at.filter(|_| stale && figures.funds.is_some()).map(|at| times.short(at)),
        change: change_text(row.before, figures.funds).filter(|_| !stale),
        unpaid: figures.unpaid.filter(|money| !money.amount.is_zero()).map(|money| money.to_string()),
        remarks,
    }
}

/// Returns a line about an alert. `stale` means that the balance could not be read; otherwise an unreadable alert is only
/// about rules.
fn alert_line(alert: &ReportAlert, stale: bool, times: TimeFormatter) -> String {
    let what = match (&*alert.rule, alert.unevaluated_rules.as_slice()) {
        (UNREADABLE, rules @ [_, ..]) if !stale => phrase::cannot_be_evaluated(rules),
        (rule, _) => name(rule),
    };
    let since = alert.since.map(|since| format!(" since {}", times.full(since))).unwrap_or_default();
    let pending = if alert.firing { "" } else { ", not long enough to alert yet" };
    let silenced = alert.silenced_until.map(|until| format!(", silenced until {}", times.short(until)));
    format!("{what}: {}{since}{pending}{}", alert.level, silenced.unwrap_or_default())
}

/// Returns `+1,200.00`, or `unchanged`. `None` if there is nothing to compare with.
fn change_text(before: Option<MetricValue>, now: Option<MetricValue>) -> Option<String> {
    let (MetricValue::Amount(before), MetricValue::Amount(now)) = (before?, now?) else { return None };
    if before.currency != now.currency {
        return None;
    }
    let by = Money::new(now.amount.checked_sub(before.amount)?, now.currency);
    Some(match by.amount {
        amount if amount.is_zero() => "unchanged".to_owned(),
        amount if amount.is_sign_negative() => by.figure(),
        _ => format!("+{}", by.figure()),
    })
}

impl ReportLine {
    /// Returns the available funds as text: `USD 3,120.00 (stale, last read Mon 23 Nov, 04:00)`.
    pub(crate) fn funds_text(&self) -> String {
        let stale = self.last_read.as_ref().map(|at| format!(" (stale, last read {at})")).unwrap_or_default();
        format!("{}{stale}", self.funds)
    }
}

/// Returns a row in plain text, with its remarks below it.
pub(super) fn plain_lines(line: &ReportLine) -> Vec<String> {
    let change = line.change.as_ref().map(|change| format!(" ({change})")).unwrap_or_default();
    let unpaid = line.unpaid.as_ref().map(|unpaid| format!(", {unpaid} of unpaid invoices")).unwrap_or_default();
    let first = format!("{:<10}  {}: {}{change}{unpaid}", rank_name(line.rank), line.fund, line.funds_text());
    std::iter::once(first).chain(line.remarks.iter().map(|remark| format!("            {remark}"))).collect()
}

/// Returns the first `most` silences, and a line with the number of the others.
pub(crate) fn limited_silences(view: &ReportView, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = view.silences.iter().take(most).cloned().collect();
    if let more @ 1.. = view.silences.len().saturating_sub(most) {
        lines.push(format!("and {more} more silences (all: lowtide silence list)"));
    }
    lines
}

/// Returns the report in plain text.
pub(crate) fn text(title: &str, view: &ReportView) -> String {
    std::iter::once(title.to_owned()).chain(lines(view)).collect::<Vec<_>>().join("\n")
}

/// Returns the lines below the title. An empty line separates the parts.
pub(super) fn lines(view: &ReportView) -> Vec<String> {
    let mut lines = vec![view.summary.clone(), String::new()];
    lines.extend(view.rows.iter().flat_map(plain_lines));
    for part in [limited_silences(view, MAX_SILENCES), view.notes.clone(), view.footer.iter().cloned().collect()] {
        if !part.is_empty() {
            lines.push(String::new());
            lines.extend(part);
        }
    }
    lines
}
