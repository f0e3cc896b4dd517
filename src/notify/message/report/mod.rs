//! A page of figures → what it says, row by row, free of any channel. `blocks` shows it in Slack, `html` in mail.

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

/// Silences that a mail shows; Slack has less room.
pub(crate) const MAX_SILENCES: usize = 100;

/// What a page says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportView {
    /// When it was made, and what its changes are counted from.
    pub summary: String,
    /// The worst first.
    pub rows: Vec<ReportLine>,
    /// What is silenced, one sentence each, what ends first before what ends later.
    pub silences: Vec<String>,
    /// What else there is to know.
    pub notes: Vec<String>,
    /// When the next one comes.
    pub footer: Option<String>,
}

/// One account or division.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportLine {
    /// How bad it is.
    pub rank: ReportRowRank,
    /// `acme · SpendHistory department`.
    pub fund: String,
    /// Available funds, and of when where that is not now.
    pub funds: String,
    /// How they changed since the page before.
    pub change: Option<String>,
    /// Unpaid invoices, where there are any.
    pub unpaid: Option<String>,
    /// What fires, and why its figures are old.
    pub remarks: Vec<String>,
}

/// A rank in one word.
pub(crate) fn rank_name(rank: ReportRowRank) -> &'static str {
    match rank {
        ReportRowRank::Critical => "critical",
        ReportRowRank::Unreadable => "unreadable",
        ReportRowRank::Warning => "warning",
        ReportRowRank::Pending => "pending",
        ReportRowRank::Ok => "ok",
    }
}

/// A rank's colour.
pub(crate) fn colour(rank: ReportRowRank) -> &'static str {
    match rank {
        ReportRowRank::Critical => MessageStatus::Critical.colour(),
        ReportRowRank::Warning => MessageStatus::Warning.colour(),
        ReportRowRank::Unreadable | ReportRowRank::Pending => MessageStatus::Notice.colour(),
        ReportRowRank::Ok => MessageStatus::Resolved.colour(),
    }
}

/// `Report weekly · 12 divisions: 1 critical, 11 ok`.
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

/// `1 critical, 2 warnings, 9 ok`; `all ok` where there is nothing else.
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

/// The worst of the page, as a message has it.
pub(super) fn status(page: &ReportPage) -> MessageStatus {
    match page.rows.iter().map(ReportRow::rank).min() {
        Some(ReportRowRank::Critical) => MessageStatus::Critical,
        Some(ReportRowRank::Warning | ReportRowRank::Unreadable) => MessageStatus::Warning,
        Some(ReportRowRank::Pending | ReportRowRank::Ok) | None => MessageStatus::Notice,
    }
}

/// What the page says.
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

/// `acme · Law school is silenced until Wed 25 Nov, 08:00 UTC (PO 4711 raised); what becomes critical is told.`
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
    let rest = if silence.level == Severity::Warning { "; what becomes critical is told" } else { "" };
    format!("{what} until {}{why}{rest}.", times.full(silence.until))
}

/// `acme · SpendHistory department`.
fn fund_name(account: &str, division: Division, known_as: Option<&str>) -> String {
    let division = division.map(|id| match known_as.map(name) {
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
    let funds = match figures.at.filter(|_| stale && figures.funds.is_some()) {
        Some(at) => format!("{funds} (old: of {})", times.short(at)),
        None => funds,
    };
    let mut remarks: Vec<String> = row.alerts.iter().map(|alert| alert_line(alert, stale, times)).collect();
    remarks.extend(row.unreadable.as_ref().map(|why| format!("Cannot be read: {}", phrase::sentence(why))));
    ReportLine {
        rank: row.rank(),
        fund: fund_name(&figures.account, figures.division, figures.division_name.as_deref()),
        funds,
        change: change_text(row.before, figures.funds).filter(|_| !stale),
        unpaid: figures.unpaid.filter(|money| !money.amount.is_zero()).map(|money| money.to_string()),
        remarks,
    }
}

/// `stale`: the balance itself could not be read; else an unreadable alert is about rules alone.
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

/// `+1,200.00`; nothing to compare is no change of 0.
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

/// A row in plain text, its remarks below it.
pub(super) fn plain_lines(line: &ReportLine) -> Vec<String> {
    let change = line.change.as_ref().map(|change| format!(" ({change})")).unwrap_or_default();
    let unpaid = line.unpaid.as_ref().map(|unpaid| format!(", {unpaid} of unpaid invoices")).unwrap_or_default();
    let first = format!("{:<10}  {}: {}{change}{unpaid}", rank_name(line.rank), line.fund, line.funds);
    std::iter::once(first).chain(line.remarks.iter().map(|remark| format!("            {remark}"))).collect()
}

/// As many silences as a page shows, and the number of the others.
pub(crate) fn limited_silences(view: &ReportView, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = view.silences.iter().take(most).cloned().collect();
    if let more @ 1.. = view.silences.len().saturating_sub(most) {
        lines.push(format!("and {more} more silences: lowtide silence list shows them"));
    }
    lines
}

/// The page in plain text.
pub(crate) fn text(title: &str, view: &ReportView) -> String {
    std::iter::once(title.to_owned()).chain(lines(view)).collect::<Vec<_>>().join("\n")
}

/// The page below its title, line by line; its parts are set apart by empty ones.
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
