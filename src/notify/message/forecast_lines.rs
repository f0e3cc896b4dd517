//! Sentences about the forecast: how long funds last, which renewals are due, what to deposit.
//!
//! Plain text without any escaping, as in [`phrase`].

use rust_decimal::Decimal;

use super::phrase;
use super::text::TimeFormatter;
use crate::chart::likelihood_text;
use crate::domain::alert::TransitionKind;
use crate::domain::balance::{Breakdown, MetricValue};
use crate::domain::event::{Event, EventSubject, ThresholdEvent};
use crate::domain::forecast::{ForecastSummary, RenewalsDue, Runway};
use crate::domain::money::{Currency, Money, figure};
use crate::domain::rule::Metric;

/// Maximum number of days in a sparkline: four weeks.
const MAX_SPARKLINE_DAYS: usize = 28;
/// Characters of a sparkline, from no funds to the maximum. The first one stands on the line too, so that a day without
/// funds is visible.
const BARS: [char; 9] =
    ['.', '\u{2581}', '\u{2582}', '\u{2583}', '\u{2584}', '\u{2585}', '\u{2586}', '\u{2587}', '\u{2588}'];

/// Returns the forecast of an event about low funds. `None` for events about debts and for resolved alerts.
pub(crate) fn forecast_of(event: &Event) -> Option<&ForecastSummary> {
    let EventSubject::Threshold(it) = &event.subject else { return None };
    let debts = matches!(it.metric, Metric::UnpaidInvoices | Metric::UsedCredit);
    it.forecast.as_deref().filter(|_| !debts && it.kind != TransitionKind::Resolved)
}

/// Returns the recommended deposit as a sentence.
pub(super) fn to_do(event: &Event) -> Option<String> {
    let forecast = forecast_of(event)?;
    let deposit = forecast.deposit?;
    let in_full = forecast.paid_in_full.as_ref().and_then(paid_in_full_note).unwrap_or_default();
    Some(format!("Deposit {deposit} to end all alerts for these funds and cover the next 30 days.{in_full}"))
}

/// Returns ` It counts USD 14,837.00 of renewals in full, of which about USD 872 is usually paid from the balance.` `None`
/// if nearly all of it is.
fn paid_in_full_note(due: &RenewalsDue) -> Option<String> {
    let part = part_from_balance(due.part_from_balance()?, due.amount.currency);
    Some(format!(" It counts {} of renewals in full{part}.", due.amount))
}

/// Returns the lines of the forecast, the sparkline last.
pub(super) fn lines(event: &Event, times: TimeFormatter) -> Vec<String> {
    let Some(forecast) = forecast_of(event) else { return Vec::new() };
    let renewals = forecast.renewals.as_ref().map(renewals);
    [runway(event, times), renewals, sparkline(&forecast.sparkline)].into_iter().flatten().collect()
}

/// Returns true if no funds are left. Less than a typical order may still pay for a cheaper one.
pub(super) fn no_funds_left(event: &ThresholdEvent) -> bool {
    let available = match event.value {
        MetricValue::Amount(money) if event.metric == Metric::AvailableFunds => Some(money.amount),
        _ => event.breakdown.as_ref().and_then(Breakdown::available),
    };
    available.is_some_and(|available| available <= Decimal::ZERO)
}

/// Returns how long the funds last, in one sentence.
pub(super) fn runway(event: &Event, times: TimeFormatter) -> Option<String> {
    let no_funds_left = matches!(&event.subject, EventSubject::Threshold(it) if no_funds_left(it));
    let forecast = forecast_of(event)?;
    Some(match &forecast.runway {
        Runway::Exhausted if no_funds_left => {
            "No funds are left: certificates can no longer be ordered or renewed from this account.".to_owned()
        }
        Runway::Exhausted => {
            let costs = forecast.typical_order.map(|costs| format!(" ({costs})")).unwrap_or_default();
            format!(
                "The funds do not cover a typical order{costs}: certificates can no longer be ordered or renewed from this account, except for cheaper ones."
            )
        }
        Runway::BeyondHorizon | Runway::Until { about: None, early: None, .. } => {
            "At the recent pace the funds last for more than a year.".to_owned()
        }
        Runway::NotYetKnown(why) => {
            format!("How long the funds last is not known yet: {}", phrase::sentence(why))
        }
        Runway::Until { about: None, early: Some(early), .. } => {
            format!("Funds probably last for more than a year, but may end as early as {}.", times.day(*early))
        }
        Runway::Until { about: Some(about), early, late, percent } => {
            let range = match (early.map(|it| times.date(it)), late.map(|it| times.date(it))) {
                (Some(early), Some(late)) if early == late => String::new(),
                (Some(early), Some(late)) => format!(" ({} between {early} and {late})", likelihood_text(*percent)),
                (Some(early), None) => {
                    format!(" ({} between {early} and more than a year from now)", likelihood_text(*percent))
                }
                (None, _) => String::new(),
            };
            format!("Funds last until about {}{range}.", times.day(*about))
        }
    })
}

/// Returns `Renewals due in the next 30 days: 12 for USD 4,788.00.`
pub(super) fn renewals(due: &RenewalsDue) -> String {
    match due.count {
        0 => "No renewals are due in the next 30 days.".to_owned(),
        count => {
            let part = due.part_from_balance().map(|part| part_from_balance(part, due.amount.currency));
            format!("Renewals due in the next 30 days: {count} for {}{}.", due.amount, part.unwrap_or_default())
        }
    }
}

/// Returns `, of which about USD 3,900 is usually paid from the balance`. The part is estimated from the past, so it is
/// shown with three digits and no decimals.
fn part_from_balance(part: Decimal, currency: Currency) -> String {
    let about = part.round_sf(3).unwrap_or(part).round();
    if about.is_zero() {
        return ", none of which is usually paid from the balance".to_owned();
    }
    format!(", of which about {currency} {} is usually paid from the balance", figure(about, 0))
}

/// Returns the characters of the sparkline, one for each day, oldest first.
pub(super) fn bars(spark: &[u8]) -> String {
    let last = &spark[spark.len().saturating_sub(MAX_SPARKLINE_DAYS)..];
    last.iter().map(|level| BARS[usize::from(*level).min(BARS.len() - 1)]).collect()
}

/// Returns the sparkline with the number of days that it shows.
fn sparkline(spark: &[u8]) -> Option<String> {
    let span = match spark.len() {
        0 => return None,
        1 => "Last 1 day".to_owned(),
        days if days < MAX_SPARKLINE_DAYS => format!("Last {days} days"),
        _ => "Last 4 weeks".to_owned(),
    };
    Some(format!("{span} {}", bars(spark)))
}

/// Returns the recommended deposit.
pub(super) fn deposit(event: &Event) -> Option<Money> {
    forecast_of(event)?.deposit
}
