//! A page of figures → what it says, row by row, free of any channel. `blocks` shows it in Slack, `html` in mail.

#[cfg(test)]
mod tests;

use super::text::{Times, name};
use super::{Tone, phrase};
use crate::domain::Division;
use crate::domain::event::Value;
use crate::domain::money::Money;
use crate::domain::report::{Figures, Page, Rank, Row, Standing};
use crate::domain::rule::{Severity, UNREADABLE};
use crate::domain::silence::Silence;

/// Silences that a mail shows; Slack has less room.
pub(crate) const MOST_SILENCES: usize = 100;

/// What a page says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportView {
    /// When it was made, and what its changes are counted from.
    pub summary: String,
    /// The worst first.
    pub rows: Vec<Line>,
    /// What is silenced, one sentence each, what ends first before what ends later.
    pub silences: Vec<String>,
    /// What else there is to know.
    pub notes: Vec<String>,
    /// When the next one comes.
    pub footer: Option<String>,
}

/// One account or division.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// How bad it is.
    pub rank: Rank,
    /// `acme · History department`.
    pub place: String,
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
pub(crate) fn word(rank: Rank) -> &'static str {
    match rank {
        Rank::Critical => "critical",
        Rank::Unreadable => "unreadable",
        Rank::Warning => "warning",
        Rank::Pending => "pending",
        Rank::Ok => "ok",
    }
}

/// A rank's colour.
pub(crate) fn colour(rank: Rank) -> &'static str {
    match rank {
        Rank::Critical => Tone::Critical.colour(),
        Rank::Warning => Tone::Warning.colour(),
        Rank::Unreadable | Rank::Pending => Tone::Notice.colour(),
        Rank::Ok => Tone::Resolved.colour(),
    }
}

/// `Report weekly · 12 divisions: 1 critical, 11 ok`.
pub(super) fn title(page: &Page) -> String {
    let divided = page.rows.iter().filter(|row| row.figures.division.is_some()).count();
    let noun = match (divided, page.rows.len()) {
        (0, 1) => "account",
        (0, _) => "accounts",
        (1, 1) => "division",
        (divided, all) if divided == all => "divisions",
        _ => "accounts and divisions",
    };
    format!("Report {} · {} {noun}: {}", name(&page.name), page.rows.len(), counted(page.rows.iter().map(Row::rank)))
}

/// `1 critical, 2 warnings, 9 ok`; `all ok` where there is nothing else.
pub(crate) fn counted(ranks: impl Iterator<Item = Rank>) -> String {
    let ranks: Vec<Rank> = ranks.collect();
    let all = [Rank::Critical, Rank::Unreadable, Rank::Warning, Rank::Pending, Rank::Ok];
    let parts = all.map(|rank| (rank, ranks.iter().filter(|it| **it == rank).count()));
    let parts: Vec<String> = parts.into_iter().filter(|(_, n)| *n > 0).map(|(rank, n)| part(rank, n)).collect();
    match parts.as_slice() {
        [] => "nothing is watched".to_owned(),
        [_] if ranks.iter().all(|rank| *rank == Rank::Ok) => "all ok".to_owned(),
        parts => parts.join(", "),
    }
}

fn part(rank: Rank, n: usize) -> String {
    match (rank, n) {
        (Rank::Warning, n) if n > 1 => format!("{n} warnings"),
        (rank, n) => format!("{n} {}", word(rank)),
    }
}

/// The worst of the page, as a message has it.
pub(super) fn tone(page: &Page) -> Tone {
    match page.rows.iter().map(Row::rank).min() {
        Some(Rank::Critical) => Tone::Critical,
        Some(Rank::Warning | Rank::Unreadable) => Tone::Warning,
        Some(Rank::Pending | Rank::Ok) | None => Tone::Notice,
    }
}

/// What the page says.
pub(super) fn view(page: &Page, via: Option<String>, times: Times) -> ReportView {
    let compared = page.compared_with.map(|at| format!(" Changes are since {}.", times.full(at)));
    let failing = page.failing.iter();
    let failing = failing.map(|(it, since)| format!("Notifier {} has failed since {}.", name(it), times.full(*since)));
    ReportView {
        summary: format!("As of {}.{}", times.full(times.now), compared.unwrap_or_default()),
        rows: page.rows.iter().map(|row| line(row, times)).collect(),
        silences: page.silences.iter().map(|silence| silenced(silence, page, times)).collect(),
        notes: via.into_iter().chain(failing).collect(),
        footer: page.next.map(|next| format!("report {} · next {}", name(&page.name), times.short(next))),
    }
}

/// `acme · Law school is silenced until Wed 25 Nov, 08:00 UTC (PO 4711 raised); what becomes critical is told.`
fn silenced(silence: &Silence, page: &Page, times: Times) -> String {
    let same = |it: &&Figures| it.account == silence.account && it.division == silence.division;
    let of = page.rows.iter().map(|row| &row.figures).find(same).and_then(|it| it.division_name.as_deref());
    let what = match silence.rule.as_deref() {
        None => "is silenced".to_owned(),
        Some(UNREADABLE) => "an unreadable balance is silenced".to_owned(),
        Some(rule) => format!("rule {} is silenced", name(rule)),
    };
    let place = place(&silence.account, silence.division, of);
    let what = if silence.rule.is_some() { format!("{place}: {what}") } else { format!("{place} {what}") };
    let why = silence.reason.as_ref().map(|reason| format!(" ({})", phrase::quote(reason))).unwrap_or_default();
    let rest = if silence.level == Severity::Warning { "; what becomes critical is told" } else { "" };
    format!("{what} until {}{why}{rest}.", times.full(silence.until))
}

/// `acme · History department`.
fn place(account: &str, division: Division, known_as: Option<&str>) -> String {
    let division = division.map(|id| match known_as.map(name) {
        Some(name) if !name.is_empty() => name,
        _ => format!("division {id}"),
    });
    let account = name(account);
    division.map_or_else(|| account.clone(), |division| format!("{account} · {division}"))
}

fn line(row: &Row, times: Times) -> Line {
    let figures = &row.figures;
    let old = row.unreadable.is_some();
    let funds = match (figures.funds, figures.at) {
        (Some(Value::Amount(money)), _) => money.to_string(),
        (Some(Value::Time(lasts)), _) => crate::domain::seconds::in_words(lasts),
        (Some(Value::Unlimited), _) => "unlimited".to_owned(),
        (None, _) => "not known".to_owned(),
    };
    let funds = match figures.at.filter(|_| old && figures.funds.is_some()) {
        Some(at) => format!("{funds} (old: of {})", times.short(at)),
        None => funds,
    };
    let mut remarks: Vec<String> = row.alerts.iter().map(|alert| standing(alert, old, times)).collect();
    remarks.extend(row.unreadable.as_ref().map(|why| format!("Cannot be read: {}", phrase::sentence(why))));
    Line {
        rank: row.rank(),
        place: place(&figures.account, figures.division, figures.division_name.as_deref()),
        funds,
        change: change(row.before, figures.funds).filter(|_| !old),
        unpaid: figures.unpaid.filter(|money| !money.amount.is_zero()).map(|money| money.to_string()),
        remarks,
    }
}

/// `old`: the balance itself could not be read; else an unreadable alert is about rules alone.
fn standing(alert: &Standing, old: bool, times: Times) -> String {
    let what = match (&*alert.rule, alert.blind.as_slice()) {
        (UNREADABLE, blind @ [_, ..]) if !old => phrase::cannot_be_judged(blind),
        (rule, _) => name(rule),
    };
    let since = alert.since.map(|since| format!(" since {}", times.full(since))).unwrap_or_default();
    let pending = if alert.firing { "" } else { ", not long enough to alert yet" };
    let silenced = alert.silenced_until.map(|until| format!(", silenced until {}", times.short(until)));
    format!("{what}: {}{since}{pending}{}", alert.level, silenced.unwrap_or_default())
}

/// `+1,200.00`; nothing to compare is no change of 0.
fn change(before: Option<Value>, now: Option<Value>) -> Option<String> {
    let (Value::Amount(before), Value::Amount(now)) = (before?, now?) else { return None };
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
pub(super) fn plain(line: &Line) -> Vec<String> {
    let change = line.change.as_ref().map(|change| format!(" ({change})")).unwrap_or_default();
    let unpaid = line.unpaid.as_ref().map(|unpaid| format!(", {unpaid} of unpaid invoices")).unwrap_or_default();
    let first = format!("{:<10}  {}: {}{change}{unpaid}", word(line.rank), line.place, line.funds);
    std::iter::once(first).chain(line.remarks.iter().map(|remark| format!("            {remark}"))).collect()
}

/// As many silences as a page shows, and the number of the others.
pub(crate) fn few_silences(view: &ReportView, most: usize) -> Vec<String> {
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
    lines.extend(view.rows.iter().flat_map(plain));
    for part in [few_silences(view, MOST_SILENCES), view.notes.clone(), view.footer.iter().cloned().collect()] {
        if !part.is_empty() {
            lines.push(String::new());
            lines.extend(part);
        }
    }
    lines
}
