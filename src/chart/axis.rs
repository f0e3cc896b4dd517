//! Positions of amounts and days on an axis, in whole steps, and the labels of an axis. Amounts never become floats.

use std::ops::Range;

use chrono::{Datelike, Days, Duration, NaiveDate};
use chrono_tz::Tz;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, RoundingStrategy};

use crate::domain::Time;
use crate::domain::forecast::FundChart;
use crate::domain::money::figure;
use crate::domain::{forecast, local};

/// Number of steps of the money axis.
const STEPS: i64 = 1_000_000;
/// Largest amount on the axis. A larger one is drawn at the edge.
const MAX_AMOUNT: i64 = 100_000_000_000_000_000;
/// Maximum number of days before and after the reading.
const MAX_PAST_DAYS: i64 = 92;
const MAX_FUTURE_DAYS: i64 = 62;
/// Maximum number of points of the past.
const MAX_POINTS: usize = 1_000;
/// Years 1 to 9999, in seconds since 1970.
const MIN_SECONDS: i64 = -62_135_000_000;
const MAX_SECONDS: i64 = 253_402_000_000;

/// An axis of whole numbers, with labels at some of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChartAxis {
    pub(super) range: Range<i64>,
    pub(super) ticks: Vec<i64>,
}

impl Ranged for ChartAxis {
    type FormatOption = DefaultFormatting;
    type ValueType = i64;

    fn map(&self, value: &i64, limit: (i32, i32)) -> i32 {
        let (start, end) = (i128::from(self.range.start), i128::from(self.range.end));
        let value = i128::from(*value).clamp(start, end.max(start));
        let pixels = i128::from(limit.1) - i128::from(limit.0);
        let at = i128::from(limit.0) + (value - start) * pixels / (end - start).max(1);
        i32::try_from(at).unwrap_or(limit.0)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<i64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<i64> {
        self.range.clone()
    }
}

/// Scale of the money axis: from zero to above everything that is drawn. It goes below zero only where funds did; a forecast
/// ends at zero.
#[derive(Debug, Clone)]
pub(super) struct MoneyScale {
    low: Decimal,
    high: Decimal,
    step: Decimal,
}

impl MoneyScale {
    pub(super) fn from_window(chart: &ChartWindow) -> Self {
        let funds = chart.past.iter().map(|(_, amount)| *amount);
        let ahead = chart.future.iter().flat_map(|band| [band.low, band.middle, band.high]);
        let lines = chart.thresholds.iter().map(|(_, amount)| *amount);
        let bars = chart.renewals.iter().map(|(_, amount)| *amount);
        let top = funds.chain(ahead).chain(lines).chain(bars).map(clamped).fold(Decimal::ZERO, Decimal::max);
        let read = chart.past.iter().map(|(_, amount)| clamped(*amount)).fold(Decimal::ZERO, Decimal::min);
        let step = round_step(top - read);
        let up = |amount: Decimal| (amount / step).ceil() * step;
        let low = -up(-read);
        Self { low, high: up(top).max(low + step), step }
    }

    /// Returns the position of an amount, at the edge if it lies beyond.
    pub(super) fn place(&self, amount: Decimal) -> i64 {
        let share = (clamped(amount) - self.low) / (self.high - self.low);
        (share * Decimal::from(STEPS)).round().to_i64().unwrap_or(0).clamp(0, STEPS)
    }

    /// Returns the labelled amounts, each with its position.
    pub(super) fn labels(&self) -> Vec<(i64, String)> {
        let mut labels = Vec::new();
        let mut at = self.low;
        while at <= self.high && labels.len() < 12 {
            labels.push((self.place(at), short_amount(at)));
            at += self.step;
        }
        labels
    }

    pub(super) fn axis(&self) -> ChartAxis {
        ChartAxis { range: 0..STEPS, ticks: self.labels().into_iter().map(|(at, _)| at).collect() }
    }
}

/// Limits an amount to what can be multiplied without an overflow.
fn clamped(amount: Decimal) -> Decimal {
    amount.clamp(-Decimal::from(MAX_AMOUNT), Decimal::from(MAX_AMOUNT))
}

/// Returns a round step (1, 2 or 5 with zeros) of which four or five fill the span.
fn round_step(span: Decimal) -> Decimal {
    let enough = |step: &Decimal| *step * Decimal::from(5) >= span;
    let decades = (0..20).map(|power| Decimal::from(10_i64.saturating_pow(power)));
    decades
        .flat_map(|ten| [1, 2, 5].map(|times| ten / Decimal::ONE_HUNDRED * Decimal::from(times)))
        .find(enough)
        .unwrap_or(Decimal::from(MAX_AMOUNT))
}

/// Returns an amount in few characters: `1,500`, `2.5M`.
pub(super) fn short_amount(amount: Decimal) -> String {
    let powers = [(1_000_000_000_000_i64, "T"), (1_000_000_000, "B"), (1_000_000, "M")];
    for (power, letter) in powers {
        if amount.abs() >= Decimal::from(power) {
            let few = (amount / Decimal::from(power)).round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero);
            return format!("{}{letter}", figure(few.normalize(), 0));
        }
    }
    figure(amount.normalize(), 0)
}

/// Visible part of a chart, in order: no more days than can be told apart.
#[derive(Debug, Clone)]
pub(super) struct ChartWindow<'a> {
    pub(super) past: Vec<(Time, Decimal)>,
    pub(super) future: Vec<forecast::ForecastBand>,
    pub(super) renewals: Vec<(Time, Decimal)>,
    pub(super) thresholds: &'a [(crate::domain::rule::Severity, Decimal)],
    pub(super) now: Time,
    from: Time,
    until: Time,
}

/// Limits a time to the years that can be shown in every zone.
pub(super) fn displayable(at: Time) -> Time {
    let edge = |seconds| Time::from_timestamp(seconds, 0).unwrap_or_default();
    at.clamp(edge(MIN_SECONDS), edge(MAX_SECONDS))
}

impl<'a> ChartWindow<'a> {
    pub(super) fn from_chart(chart: &'a FundChart) -> Self {
        let now = displayable(chart.now);
        let earliest = now.checked_sub_signed(Duration::days(MAX_PAST_DAYS)).unwrap_or(Time::MIN_UTC);
        let latest = now.checked_add_signed(Duration::days(MAX_FUTURE_DAYS)).unwrap_or(Time::MAX_UTC);
        let mut past: Vec<(Time, Decimal)> =
            chart.past.iter().copied().filter(|(at, _)| (earliest..=now).contains(at)).collect();
        past.sort_by_key(|(at, _)| *at);
        let every = past.len().div_ceil(MAX_POINTS).max(1);
        // Points are dropped counting from the end, so that the reading stays.
        let mut past: Vec<(Time, Decimal)> = past.into_iter().rev().step_by(every).collect();
        past.reverse();
        let ahead = |at: Time| at >= now && at <= latest;
        let mut future: Vec<forecast::ForecastBand> =
            chart.future.iter().copied().filter(|band| ahead(band.at)).collect();
        future.sort_by_key(|band| band.at);
        future.truncate(MAX_POINTS);
        let mut renewals: Vec<(Time, Decimal)> =
            chart.renewals.iter().copied().filter(|(at, amount)| ahead(*at) && *amount > Decimal::ZERO).collect();
        renewals.sort_by_key(|(at, _)| *at);
        renewals.truncate(MAX_POINTS);
        let day = Duration::days(1);
        let before = now.checked_sub_signed(day).unwrap_or(Time::MIN_UTC);
        let after = now.checked_add_signed(day).unwrap_or(Time::MAX_UTC);
        let last = future.last().map(|band| band.at).max(renewals.last().map(|(at, _)| *at));
        let from = past.first().map_or(before, |(at, _)| (*at).min(before));
        let until = last.map_or(after, |at| at.max(after));
        Self {
            past,
            future,
            renewals,
            thresholds: &chart.thresholds,
            now,
            from: displayable(from),
            until: displayable(until),
        }
    }

    /// Returns the axis of days, and the labelled dates with their positions.
    pub(super) fn axis(&self, zone: Tz) -> (ChartAxis, Vec<(i64, String)>) {
        let range = self.from.timestamp()..self.until.timestamp();
        let labels = self.labels(zone);
        (ChartAxis { ticks: labels.iter().map(|(at, _)| *at).collect(), range }, labels)
    }

    /// Returns the labelled midnights, as many as fit: every day, every second day, or Mondays.
    fn labels(&self, zone: Tz) -> Vec<(i64, String)> {
        let days = (self.until - self.from).num_days().unsigned_abs();
        let step = [1, 2, 7, 14, 28, 56].into_iter().find(|step| days / step <= 5).unwrap_or(56);
        let first = self.from.with_timezone(&zone).date_naive();
        let monday = u64::from(first.weekday().num_days_from_monday());
        let start = if step < 7 { Some(first) } else { first.checked_sub_days(Days::new(monday)) };
        let dates = std::iter::successors(start, |date: &NaiveDate| date.checked_add_days(Days::new(step)));
        let inside = |at: &i64| (self.from.timestamp()..=self.until.timestamp()).contains(at);
        dates
            .take(16)
            .filter_map(|date| {
                let at = local::first(zone, date.and_hms_opt(0, 0, 0)?).timestamp();
                Some((at, date.format("%-d %b").to_string())).filter(|(at, _)| inside(at))
            })
            .collect()
    }
}
