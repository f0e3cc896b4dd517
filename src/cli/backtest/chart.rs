//! The chart of a backtest: available funds over time with thresholds and events, and below it one strip per rule that shows
//! when the rule fired.
//!
//! Coordinates are integers in tenths of an SVG unit, computed exactly from amounts and times. Colours come from the page's
//! style sheet.

use std::fmt::Write as _;

use chrono::TimeDelta;
use chrono_tz::Tz;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;

use super::report::{BacktestAlertReport, BacktestEventReport, BacktestFundReport, BacktestRuleReport};
use super::text::{self, escaped, money, rule_name, stamp};
use crate::domain::Time;
use crate::domain::alert::TransitionKind;
use crate::domain::money::figure;
use crate::domain::rule::Severity;

/// Width of the drawing, in SVG units.
const WIDTH: i64 = 960;
// Edges of the plot.
const LEFT: i64 = 84;
const RIGHT: i64 = 948;
const TOP: i64 = 14;
const BOTTOM: i64 = 264;
/// Top of the first strip below the plot.
const FIRST_STRIP: i64 = 306;
/// Distance between the tops of two strips.
const STRIP_HEIGHT: i64 = 34;
/// Highest number of horizontal grid lines.
const GRID_LINES: i64 = 5;
/// Highest number of dates that fit along the axis.
const MAX_DATES: i64 = 8;

/// Mapping from times and amounts to coordinates.
struct PlotScale {
    from: Time,
    to: Time,
    low: Decimal,
    high: Decimal,
}

/// Draws the chart as an SVG image.
pub(super) fn svg(fund: &BacktestFundReport, from: Time, to: Time, zone: Tz) -> String {
    let has_path = !fund.path.is_empty();
    let scale = PlotScale::new(fund, from, to);
    let rules: Vec<&BacktestRuleReport> = fund.rules.iter().filter(|rule| rule.skipped.is_none()).collect();
    let first = if has_path { FIRST_STRIP } else { 40 };
    let height = first + STRIP_HEIGHT * i64::try_from(rules.len()).unwrap_or(0);
    let mut drawing = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\" xmlns=\"http://www.w3.org/2000/svg\">\n",
        escaped(&description(fund, from, to, zone))
    );
    if has_path {
        grid(&mut drawing, &scale, fund);
        dates(&mut drawing, &scale, BOTTOM + 18, zone);
        depleted_periods(&mut drawing, &scale, fund);
        thresholds(&mut drawing, &scale, fund);
        drawing.push_str(&line(&scale, fund));
        markers(&mut drawing, &scale, fund, zone);
    } else {
        dates(&mut drawing, &scale, 18, zone);
    }
    for (index, rule) in (0..).zip(rules) {
        strip(&mut drawing, &scale, rule, first + STRIP_HEIGHT * index, zone);
    }
    drawing + "</svg>"
}

/// Describes the chart in words, for screen readers.
fn description(fund: &BacktestFundReport, from: Time, to: Time, zone: Tz) -> String {
    let alerts: usize = fund.rules.iter().map(|rule| rule.alerts.len()).sum();
    let lowest = fund.path.iter().map(|(_, funds)| *funds).min();
    let lowest = lowest.map_or_else(String::new, |lowest| format!(", lowest {}", money(lowest, fund)));
    format!("Funds from {} to {}{lowest}; {alerts} alerts", stamp(from, zone), stamp(to, zone))
}

impl PlotScale {
    fn new(fund: &BacktestFundReport, from: Time, to: Time) -> Self {
        let lines = fund.rules.iter().flat_map(|rule| rule.lines.iter().map(|(_, below)| *below));
        let amounts = || fund.path.iter().map(|(_, funds)| *funds);
        let low = amounts().min().unwrap_or_default().min(Decimal::ZERO);
        let high = amounts().chain(lines).max().unwrap_or(Decimal::ONE).max(low + Decimal::ONE);
        let room = (high - low) / Decimal::from(20);
        Self { from, to, low, high: high + room }
    }

    /// Returns the horizontal coordinate of a time, in tenths.
    fn x(&self, at: Time) -> i64 {
        let whole = (self.to - self.from).num_seconds().max(1);
        let passed = (at - self.from).num_seconds().clamp(0, whole);
        LEFT * 10 + passed * (RIGHT - LEFT) * 10 / whole
    }

    /// Returns the vertical coordinate of an amount, in tenths.
    fn y(&self, funds: Decimal) -> i64 {
        let height = Decimal::from((BOTTOM - TOP) * 10);
        let down = ((self.high - funds) / (self.high - self.low) * height).round();
        TOP * 10 + down.to_i64().unwrap_or(0)
    }
}

/// Formats a coordinate for SVG.
fn at(tenths: i64) -> String {
    format!("{}.{}", tenths / 10, (tenths % 10).abs())
}

/// Returns the distance between two grid lines: 1, 2 or 5 times a power of ten.
fn grid_step(range: Decimal) -> Decimal {
    let mut unit = Decimal::ONE;
    loop {
        for step in [1, 2, 5] {
            let step_size = unit * Decimal::from(step);
            if range / step_size <= Decimal::from(GRID_LINES) {
                return step_size;
            }
        }
        unit *= Decimal::TEN;
    }
}

fn grid(out: &mut String, scale: &PlotScale, fund: &BacktestFundReport) {
    let step = grid_step(scale.high - scale.low);
    let mut funds = (scale.low / step).ceil() * step;
    while funds <= scale.high {
        let y = scale.y(funds);
        let _ = write!(out, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{0}\" y2=\"{0}\"/>", at(y));
        let (x, below) = (LEFT - 8, at(y + 40));
        let _ =
            writeln!(out, "<text x=\"{x}\" y=\"{below}\" text-anchor=\"end\">{}</text>", escaped(&figure(funds, 0)));
        funds += step;
    }
    if let Some(currency) = &fund.currency {
        let _ = writeln!(out, "<text x=\"4\" y=\"{}\">{}</text>", TOP + 4, escaped(currency));
    }
}

/// Labels days along the axis, each at its midnight.
fn dates(out: &mut String, scale: &PlotScale, y: i64, zone: Tz) {
    let days = (scale.to - scale.from).num_days().max(1);
    let every = (days + MAX_DATES - 1) / MAX_DATES;
    let mut day = scale.from.with_timezone(&zone).date_naive();
    loop {
        let midnight = crate::domain::local::first(zone, day.and_time(chrono::NaiveTime::MIN));
        if midnight > scale.to {
            break;
        }
        let (x, label) = (scale.x(midnight), day.format("%-d %b"));
        if midnight >= scale.from && x < (RIGHT - 10) * 10 {
            let _ = writeln!(out, "<text x=\"{}\" y=\"{y}\" text-anchor=\"middle\">{label}</text>", at(x));
        }
        match day.checked_add_signed(TimeDelta::days(every)) {
            Some(next) => day = next,
            None => break,
        }
    }
}

fn depleted_periods(out: &mut String, scale: &PlotScale, fund: &BacktestFundReport) {
    for period in &fund.ran_out {
        let (from, until) = (scale.x(period.from), scale.x(period.until.unwrap_or(scale.to)));
        let (width, height) = ((until - from).max(10), BOTTOM - TOP);
        let _ = writeln!(
            out,
            "<rect class=\"depleted\" x=\"{}\" y=\"{TOP}\" width=\"{}\" height=\"{height}\"><title>funds ran out</title></rect>",
            at(from),
            at(width)
        );
    }
}

fn thresholds(out: &mut String, scale: &PlotScale, fund: &BacktestFundReport) {
    for (level, below) in fund.rules.iter().flat_map(|rule| &rule.lines) {
        let (class, y) = (text::level_class(*level), scale.y(*below));
        let _ = write!(out, "<line class=\"{class}\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{0}\" y2=\"{0}\"/>", at(y));
        // The two lines may be close, so one label is above its line and the other below.
        let beside = if *level == Severity::Critical { y + 140 } else { y - 50 };
        let (beside, label) = (at(beside), escaped(&format!("{class} {}", figure(*below, 0))));
        let _ = writeln!(out, "<text class=\"{class}\" x=\"{}\" y=\"{beside}\">{label}</text>", LEFT + 6);
    }
}

/// Draws funds as steps. Of several amounts at the same horizontal coordinate, the highest, the lowest and the last are drawn.
fn line(scale: &PlotScale, fund: &BacktestFundReport) -> String {
    let mut path = String::new();
    let mut points = fund.path.iter().map(|(when, funds)| (scale.x(*when), scale.y(*funds))).peekable();
    while let Some((x, first)) = points.next() {
        let (mut top, mut bottom, mut last) = (first, first, first);
        while let Some((_, y)) = points.next_if(|(next, _)| *next == x) {
            (top, bottom, last) = (top.min(y), bottom.max(y), y);
        }
        let begin = if path.is_empty() { format!("M{}", at(x)) + " " } else { format!("H{}V", at(x)) };
        let _ = write!(path, "{begin}{}", at(first));
        if top != bottom {
            let _ = write!(path, "V{}V{}V{}", at(top), at(bottom), at(last));
        }
    }
    format!("<path class=\"funds\" d=\"{path}H{}\"/>\n", at(RIGHT * 10))
}

/// Draws a dot for each event of a rule on funds, except reminders.
fn markers(out: &mut String, scale: &PlotScale, fund: &BacktestFundReport, zone: Tz) {
    let on_funds = fund.rules.iter().filter(|rule| !rule.lines.is_empty());
    for (rule, event) in on_funds
        .flat_map(|rule| rule.alerts.iter().flat_map(move |alert| alert.events.iter().map(move |event| (rule, event))))
    {
        let Some(funds) = event.amount.map(|sum| sum.amount).filter(|_| !event.is(TransitionKind::Reminder)) else {
            continue;
        };
        let class = if event.is(TransitionKind::Resolved) { "good" } else { text::level_class(event.level) };
        let when = stamp(event.at, zone);
        let title = format!("{} {} ({}): {when}, {}", rule.rule, event.event, event.level, money(funds, fund));
        let _ = writeln!(
            out,
            "<circle class=\"{class}\" cx=\"{}\" cy=\"{}\" r=\"5\"><title>{}</title></circle>",
            at(scale.x(event.at)),
            at(scale.y(funds)),
            escaped(&title)
        );
    }
}

/// Draws the strip of one rule, which shows when it fired and at which level.
fn strip(out: &mut String, scale: &PlotScale, rule: &BacktestRuleReport, top: i64, zone: Tz) {
    let (width, bar) = (RIGHT - LEFT, top + 16);
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"{}\">{}</text>", top + 11, escaped(&rule_name(rule)));
    let _ = writeln!(out, "<rect class=\"idle\" x=\"{LEFT}\" y=\"{bar}\" width=\"{width}\" height=\"8\" rx=\"2\"/>");
    for (alert, index) in rule.alerts.iter().flat_map(|alert| (0..alert.events.len()).map(move |index| (alert, index)))
    {
        let event = &alert.events[index];
        if event.is(TransitionKind::Resolved) || event.is(TransitionKind::Reminder) {
            continue;
        }
        let next = alert.events[index + 1..].iter().find(|next| !next.is(TransitionKind::Reminder));
        let until = next.map_or(scale.to, |next| next.at);
        let (x, width) = (scale.x(event.at), (scale.x(until) - scale.x(event.at)).max(10));
        let (class, title) = (text::level_class(event.level), title(alert, event, next, zone));
        let _ = writeln!(
            out,
            "<rect class=\"{class}\" x=\"{}\" y=\"{bar}\" width=\"{}\" height=\"8\"><title>{}</title></rect>",
            at(x),
            at(width),
            escaped(&title)
        );
    }
}

/// Describes the part of an alert from one event to the next, and the whole alert.
fn title(
    alert: &BacktestAlertReport,
    event: &BacktestEventReport,
    next: Option<&BacktestEventReport>,
    zone: Tz,
) -> String {
    let until = next.map_or_else(|| "now".to_owned(), |next| stamp(next.at, zone));
    let end = alert.resolved.map_or_else(|| "it still fires".to_owned(), |at| format!("resolved {}", stamp(at, zone)));
    let whole = format!("raised {}, {end}, {}", stamp(alert.raised, zone), text::duration_text(alert.lasted_seconds));
    format!("{} from {} to {until}; {whole}", event.level, stamp(event.at, zone))
}
