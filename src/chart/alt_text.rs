//! Description of a chart in words: the text alternative of its image.

use chrono::{DateTime, Datelike};
use chrono_tz::Tz;
use rust_decimal::Decimal;

use super::axis::displayable;
use crate::domain::Time;
use crate::domain::forecast::{FundChart, Runway};
use crate::domain::money::Money;

/// Returns the likelihood of a range in words: `90 % likely`.
pub(crate) fn likelihood_text(percent: u8) -> String {
    format!("{percent} % likely")
}

/// Returns one paragraph that describes the chart, without line breaks. The only data from outside are amounts.
pub fn alt_text(chart: &FundChart, zone: Tz) -> String {
    let money = |amount: Decimal| Money::new(amount, chart.currency).to_string();
    let local = |at: Time| displayable(at).with_timezone(&zone);
    let day = |at: Time| date_text(&local(at), local(chart.now).year());
    let mut parts = Vec::new();
    match (chart.past.first(), chart.past.last()) {
        (Some((from, first)), Some((_, last))) if chart.past.len() > 1 => {
            parts.push(format!("available funds from {} on {} to {} now", money(*first), day(*from), money(*last)));
        }
        (_, Some((_, last))) => parts.push(format!("available funds, {} now", money(*last))),
        _ => parts.push("available funds".to_owned()),
    }
    parts.extend(chart.thresholds.iter().map(|(level, amount)| format!("{level} line at {}", money(*amount))));
    if let Some((last, _)) = chart.renewals.split_last().filter(|_| !chart.renewals.is_empty()) {
        let sum = chart.renewals.iter().try_fold(Decimal::ZERO, |sum, (_, amount)| sum.checked_add(*amount));
        let sum = sum.map(|sum| format!(" for {}", money(sum))).unwrap_or_default();
        parts.push(format!("renewals due{sum} until {}", day(last.0)));
    }
    parts.push(forecast_text(chart, day));
    format!("Chart of {}.", parts.join("; "))
}

/// Returns the dates of the runway. Chart and message name the same days.
fn forecast_text(chart: &FundChart, day: impl Fn(Time) -> String) -> String {
    match &chart.runway {
        Runway::Exhausted if chart.past.last().is_some_and(|(_, left)| *left <= Decimal::ZERO) => {
            "no funds are left".to_owned()
        }
        Runway::Exhausted => "the funds do not cover a typical order".to_owned(),
        Runway::NotYetKnown(_) => "no forecast yet".to_owned(),
        Runway::BeyondHorizon | Runway::Until { about: None, early: None, .. } => {
            "not used up within a year".to_owned()
        }
        Runway::Until { about: None, early: Some(early), .. } => format!("perhaps used up from {} on", day(*early)),
        Runway::Until { about: Some(about), early, late, percent } => {
            let range = match (early, late) {
                (Some(early), Some(late)) if day(*early) == day(*late) => String::new(),
                (Some(early), Some(late)) => {
                    format!(" ({} between {} and {})", likelihood_text(*percent), day(*early), day(*late))
                }
                (Some(early), None) => format!(" ({} from {} on)", likelihood_text(*percent), day(*early)),
                (None, _) => String::new(),
            };
            format!("used up about {}{range}", day(*about))
        }
    }
}

/// Returns `4 Dec`, with the year if it is not the current one.
fn date_text(at: &DateTime<Tz>, this_year: i32) -> String {
    let year = if at.year() == this_year { "" } else { " %Y" };
    at.format(&format!("%-d %b{year}")).to_string()
}
