//! Lines of the demo about one division: its funds and level, and the events of its account. Pure.

use std::time::Duration;

use anstyle::Style;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use crate::cli::count;
use crate::cli::output::style::{GREEN, MAGENTA, RED, YELLOW, paint};
use crate::domain::money::{Money, parse_amount};
use crate::domain::rule::{Severity, UNREADABLE};
use crate::domain::{Name, Time};
use crate::notify::message::cut;
use crate::polling::figures::LastReading;
use crate::sandbox::draw::DrawStyle;
use crate::sandbox::world::{SimulatedEntry, SimulatedWorld};
use crate::status::control::AlertSummary;
use crate::util::text::clean;

/// Highest width of a bar, and of the name beside it, in columns.
const MAX_BAR_WIDTH: usize = 20;
/// Width of the other parts of a line: time, funds, level and the gaps between them.
const FIXED_WIDTH: usize = 16 + 2 + 2 + 14 + 2 + 2 + 10;

/// Level of a division, and the rules that fire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DemoStatus {
    pub(super) level: DemoLevel,
    /// Firing rules, except the one on available funds, which the line shows anyway.
    pub(super) rules: Vec<Name>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DemoLevel {
    Ok,
    Warning,
    Critical,
    Unreadable,
}

impl DemoLevel {
    fn label(self) -> &'static str {
        match self {
            DemoLevel::Ok => "ok",
            DemoLevel::Warning => "WARNING",
            DemoLevel::Critical => "CRITICAL",
            DemoLevel::Unreadable => "UNREADABLE",
        }
    }

    fn style(self) -> Style {
        match self {
            DemoLevel::Ok => GREEN,
            DemoLevel::Warning => YELLOW,
            DemoLevel::Critical => RED,
            DemoLevel::Unreadable => MAGENTA,
        }
    }
}

/// Describes a ledger entry.
pub(super) fn describe_entry(world: &SimulatedWorld, entry: &SimulatedEntry) -> String {
    let what = match entry.kind {
        "Expired Deposit" => "the unspent part of a deposit expires",
        "Invoice Payment" => "an overdue invoice is taken from the balance",
        _ => "a deposit arrives",
    };
    describe_change(world, entry.division, what, entry.change)
}

/// Describes a change of the unpaid invoices, or returns `None` if there is none.
pub(super) fn describe_invoices(world: &SimulatedWorld, division: u64, change: Decimal) -> Option<String> {
    let what = if change > Decimal::ZERO { "an invoice arrives" } else { "an invoice is settled" };
    (!change.is_zero()).then(|| describe_change(world, division, what, change))
}

fn describe_change(world: &SimulatedWorld, division: u64, what: &str, amount: Decimal) -> String {
    let currency = world.sheet(division).map(|sheet| sheet.currency);
    let amount = currency.map_or_else(String::new, |currency| Money::new(amount.abs(), currency).to_string());
    // With a single division, its name is left out.
    match world.divisions().find(|(id, _)| *id == division).filter(|_| world.divisions().len() > 1) {
        Some((_, name)) => format!("{}: {what}: {amount}", clean(name)),
        None => format!("{what}: {amount}"),
    }
}

/// Returns the worst level of the division's alerts, or that it cannot be read.
pub(super) fn demo_status(reading: &LastReading, alerts: &[AlertSummary]) -> DemoStatus {
    if reading.metrics.values().all(|text| text.starts_with(UNREADABLE)) {
        return DemoStatus { level: DemoLevel::Unreadable, rules: Vec::new() };
    }
    let is_of_division = |alert: &&AlertSummary| {
        alert.account == reading.account && alert.division == reading.division && alert.status == "firing"
    };
    let level = |alert: &AlertSummary| match alert.level {
        Severity::Warning => DemoLevel::Warning,
        Severity::Critical => DemoLevel::Critical,
    };
    let firing: Vec<&AlertSummary> =
        alerts.iter().filter(is_of_division).filter(|alert| alert.rule.as_ref() != UNREADABLE).collect();
    let worst = firing.iter().map(|alert| level(alert)).max().unwrap_or(DemoLevel::Ok);
    let rules = firing.iter().map(|alert| alert.rule.clone()).filter(|rule| rule.as_ref() != "available-funds");
    DemoStatus { level: worst, rules: rules.collect() }
}

/// Parses the amount in `USD 1,431.00`.
pub(super) fn amount(shown: &str) -> Option<Decimal> {
    let (_, figure) = shown.split_once(' ')?;
    parse_amount(&figure.replace(',', "").replace('\u{2212}', "-")).ok()
}

/// Formats the line of one division. `share` is the filled part of the bar, `None` if funds are unlimited.
pub(super) fn draw_line(
    now: Time,
    reading: &LastReading,
    funds: &str,
    share: Option<Decimal>,
    status: &DemoStatus,
    style: DrawStyle,
) -> String {
    let level = status.level;
    let room = style.width.saturating_sub(FIXED_WIDTH + 1);
    let bar = (room / 2).min(MAX_BAR_WIDTH);
    let longest = (room - bar).min(MAX_BAR_WIDTH);
    let name = reading.division_name.as_deref().map_or_else(|| reading.account.to_string(), clean);
    let name = cut(&name, longest);
    let full = share.and_then(|share| (share * Decimal::from(bar)).ceil().to_usize()).map(|cells| cells.min(bar));
    let bar = match (level, full) {
        (DemoLevel::Unreadable, _) => "?".repeat(bar),
        (_, None) => "∞".repeat(bar),
        (_, Some(cells)) => "█".repeat(cells) + &"░".repeat(bar - cells),
    };
    let funds = if level == DemoLevel::Unreadable { "not readable" } else { funds };
    let taken = 16 + 2 + longest + 2 + 14 + 2 + bar.chars().count() + 2 + level.label().len() + 1;
    // The names of the rules, as far as they fit.
    let rules: Vec<&str> = status.rules.iter().map(AsRef::as_ref).collect();
    let rules = match style.width.saturating_sub(taken + 1) {
        room if room > 3 && !rules.is_empty() => format!(" {}", cut(&clean(&rules.join(", ")), room)),
        _ => String::new(),
    };
    let end = format!("{bar}  {}{rules}", level.label());
    let end = paint(&end, level.style(), style.colour);
    format!("{}  {name:<longest$}  {funds:>14}  {end}", stamp(now))
}

pub(super) fn stamp(now: Time) -> String {
    now.format("%a %d %b %H:%M").to_string()
}

/// Formats a duration such as `16 days`, `2 days and 14 hours` or `20 hours`.
pub(super) fn duration_text(time: Duration) -> String {
    let hours = usize::try_from(time.as_secs() / 3600).unwrap_or_default();
    match (count(hours / 24, "day"), count(hours % 24, "hour")) {
        (_, hour) if hours < 24 => hour,
        (days, _) if hours.is_multiple_of(24) => days,
        (days, hours) => format!("{days} and {hours}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cli::demo::screen::{NARROWEST, WIDEST};
    use unicode_width::UnicodeWidthStr;

    #[test]
    fn a_live_line_fits_every_supported_terminal_width() {
        let now = "2026-11-25T22:00:00Z".parse().unwrap();
        let reading = LastReading {
            account: "acme".into(),
            division: Some(1),
            division_name: Some("A department with a very long \u{1b}[2Jname".to_owned()),
            at: now,
            metrics: BTreeMap::new(),
            amounts: BTreeMap::new(),
            last_good: Some(now),
        };
        for width in NARROWEST..=WIDEST {
            for (share, level) in [
                (Some(Decimal::ONE), DemoLevel::Critical),
                (None, DemoLevel::Ok),
                (Some(Decimal::TWO), DemoLevel::Unreadable),
            ] {
                let style = DrawStyle { colour: false, width };
                let status = DemoStatus { level, rules: vec!["unpaid-invoices".into(), "a-third".into()] };
                let line = draw_line(now, &reading, "USD 123,456.00", share, &status, style);
                assert!(line.width() < width && !line.contains('\u{1b}'), "{width}: {line}");
            }
        }
    }

    #[test]
    fn amounts_are_parsed_and_durations_are_written_for_people() {
        assert_eq!(amount("USD −1,569.00"), Some(Decimal::from(-1569)));
        assert_eq!(amount("unlimited"), None);
        let duration_text = |hours: u64| duration_text(Duration::from_secs(3600 * hours));
        assert_eq!(duration_text(49), "2 days and 1 hour");
        assert_eq!(
            (duration_text(24), duration_text(20), duration_text(0)),
            ("1 day".to_owned(), "20 hours".to_owned(), "0 hours".to_owned())
        );
    }
}
