//! Readers of single JSON values. The error of a malformed value names its field and shows the value.

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use rust_decimal::Decimal;
use serde_json::value::RawValue;

use super::{id, shown, string};
use crate::domain::Time;
use crate::domain::balance::{BalanceField, FieldProblem};
use crate::domain::money::{AmountError, Currency, parse_amount, parse_json_number};
use crate::util::secret::Redactor;

/// Longest id of an item.
const MAX_ID_CHARS: usize = 64;

/// Reads a field that must be present.
pub(super) fn required<T>(
    field: &'static str,
    raw: Option<&RawValue>,
    read: impl Fn(&'static str, &RawValue) -> BalanceField<T>,
) -> BalanceField<T> {
    raw.map_or_else(|| Err(FieldProblem { field, problem: "is missing".to_owned() }.into()), |raw| read(field, raw))
}

/// A reader of single fields, whose errors contain no secret.
pub(super) struct FieldReader<'a> {
    pub(super) redactor: &'a Redactor,
}

impl FieldReader<'_> {
    fn problem(&self, field: &'static str, what: &str, raw: &RawValue) -> FieldProblem {
        FieldProblem { field, problem: format!("is {what} (found {})", shown(raw, self.redactor)) }
    }

    pub(super) fn amount(&self, field: &'static str, raw: &RawValue) -> BalanceField<Decimal> {
        let amount = match (string(raw), raw.get().as_bytes().first()) {
            (Some(text), _) => parse_amount(&text),
            (None, Some(b'-' | b'0'..=b'9')) => parse_json_number(raw.get()),
            _ => Err(AmountError::NotANumber),
        };
        amount.map_err(|error| {
            let what = match error {
                AmountError::NotANumber => "not a plain decimal number",
                AmountError::TooLong => "too long a number to be an amount",
            };
            self.problem(field, what, raw).into()
        })
    }

    pub(super) fn amount_or_zero(&self, field: &'static str, raw: Option<&RawValue>) -> BalanceField<Decimal> {
        raw.map_or(Ok(Decimal::ZERO), |raw| self.amount(field, raw))
    }

    pub(super) fn amount_if_any(&self, field: &'static str, raw: Option<&RawValue>) -> BalanceField<Option<Decimal>> {
        raw.map(|raw| self.amount(field, raw)).transpose()
    }

    /// Reads an amount of at least 0.
    pub(super) fn price(&self, field: &'static str, raw: &RawValue) -> BalanceField<Decimal> {
        let price = self.amount(field, raw)?;
        if price < Decimal::ZERO { Err(self.problem(field, "below 0", raw).into()) } else { Ok(price) }
    }

    pub(super) fn currency(&self, field: &'static str, raw: &RawValue) -> BalanceField<Currency> {
        let code = string(raw).and_then(|text| Currency::parse(&text).ok());
        code.ok_or_else(|| self.problem(field, "not a currency code", raw).into())
    }

    /// Reads a boolean; an absent one is false.
    pub(super) fn flag(&self, field: &'static str, raw: Option<&RawValue>) -> BalanceField<bool> {
        let Some(raw) = raw else { return Ok(false) };
        match raw.get() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.problem(field, "neither true nor false", raw).into()),
        }
    }

    /// Reads a short text of visible ASCII characters, or a whole number as text.
    pub(super) fn text_id(&self, field: &'static str, raw: &RawValue) -> BalanceField<String> {
        let text = string(raw).or_else(|| id(raw).map(|number| number.to_string()));
        let fits =
            |text: &String| (1..=MAX_ID_CHARS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        text.filter(fits).ok_or_else(|| self.problem(field, "not a short word or number", raw).into())
    }

    pub(super) fn number(&self, field: &'static str, raw: &RawValue) -> BalanceField<u64> {
        id(raw).ok_or_else(|| self.problem(field, "not a whole number", raw).into())
    }

    pub(super) fn years(&self, field: &'static str, raw: &RawValue) -> BalanceField<u32> {
        let years = id(raw).and_then(|years| u32::try_from(years).ok());
        years.ok_or_else(|| self.problem(field, "not a number of years", raw).into())
    }

    /// Reads a time such as `2021-01-21 15:21:34`. It has no time zone, and is taken as UTC.
    pub(super) fn time(&self, field: &'static str, raw: &RawValue) -> BalanceField<Time> {
        let text = string(raw).unwrap_or_default();
        let time = NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S").ok().map(|at| at.and_utc());
        time.filter(is_sane_time)
            .ok_or_else(|| self.problem(field, "not a time such as 2021-01-21 15:21:34", raw).into())
    }

    /// Reads a day in one of the forms of [`day`].
    pub(super) fn date(&self, field: &'static str, raw: &RawValue) -> BalanceField<NaiveDate> {
        day(raw).ok_or_else(|| self.problem(field, "not a date such as 2021-01-21", raw).into())
    }
}

/// Reads a day such as `2021-01-21`, or the day of an RFC 3339 time.
pub(super) fn day(raw: &RawValue) -> Option<NaiveDate> {
    let text = string(raw)?;
    let day = NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok();
    let day = day.or_else(|| Some(DateTime::parse_from_rfc3339(&text).ok()?.date_naive()));
    day.filter(|day| is_sane_day(*day))
}

pub(super) fn is_sane_day(day: NaiveDate) -> bool {
    day.and_hms_opt(0, 0, 0).is_some_and(|at| is_sane_time(&at.and_utc()))
}

/// Returns whether a time lies in the years 1970 to 9999, so that computations with it cannot overflow.
fn is_sane_time(at: &Time) -> bool {
    (0..253_402_300_800).contains(&at.timestamp())
}
