//! The bodies of the `CertCentral` Services API, parsed: what is exact is kept exact, what is malformed is named.
//!
//! It judges no amount and turns nothing it cannot read into 0. Text from the server leaves it without secrets.

mod history;

pub(super) use history::{EntryKinds, ListPage, ListedItem, history, order_end, orders};

use std::collections::BTreeSet;

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::ListedDivision;
use super::text::{clean, found};
use crate::domain::balance::{Balance, BalanceField, FieldProblem};
use crate::domain::money::{AmountError, Currency, parse_amount, parse_json_number};
use crate::util::secret::Redactor;

/// The longest piece of a malformed value that is shown.
const MAX_VALUE_CHARS: usize = 40;
/// The longest piece of a malformed body that is shown.
const MAX_BODY_CHARS: usize = 60;
/// The longest text of an answer's errors that is shown.
const MAX_ERRORS_CHARS: usize = 200;
/// The most errors of one answer that are shown.
const MAX_ERRORS: usize = 3;

/// How a gzip stream begins. It is never unpacked: a small one can hold gigabytes.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Why a body is not what is documented, as the rest of "… answered 200 OK, but its body ".
pub(super) type BodyProblem = String;

/// `GET /finance/balance`. Values stay raw: serde's own numbers would be binary floating point, its nesting recursive.
#[derive(Deserialize)]
struct RawBalance<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    currency: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    balance: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    unpaid_invoice_balance: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    used_credit_from_other_containers: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    negative_balance_limit: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    total_available_funds: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    unlimited_negative_balance: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawContainerList<'a> {
    #[serde(borrow)]
    containers: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawContainer<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    name: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    is_active: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawErrors<'a> {
    #[serde(borrow)]
    errors: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawError<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    code: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    message: Option<&'a RawValue>,
}

/// Keeps a `null` apart from an absent key: the first is a malformed value, the second may be documented.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads a balance, each field by itself.
pub(super) fn balance(body: &[u8], redactor: &Redactor) -> Result<Balance, BodyProblem> {
    let raw: RawBalance<'_> = object(body, redactor)?;
    let fields = FieldReader { redactor };
    if raw.currency.is_none() && raw.balance.is_none() {
        // A wholly different object would read as "nothing owed": absent amounts owed count as 0.
        let errors = errors(body, redactor).map(|errors| clean(redactor, &errors, MAX_ERRORS_CHARS));
        let errors = errors.map_or_else(String::new, |errors| format!(" (it reports {errors})"));
        return Err(format!("has neither `balance` nor `currency`{errors}"));
    }
    Ok(Balance {
        currency: required("currency", raw.currency, |name, raw| fields.currency(name, raw)),
        balance: required("balance", raw.balance, |name, raw| fields.amount(name, raw)),
        unpaid_invoices: fields.amount_or_zero("unpaid_invoice_balance", raw.unpaid_invoice_balance),
        used_credit: fields.amount_or_zero("used_credit_from_other_containers", raw.used_credit_from_other_containers),
        credit_limit: fields.amount_if_any("negative_balance_limit", raw.negative_balance_limit),
        unlimited: fields.flag("unlimited_negative_balance", raw.unlimited_negative_balance),
        reported_total: fields.amount_if_any("total_available_funds", raw.total_available_funds),
    })
}

/// Reads the divisions, inactive ones among them; one that is listed twice comes once.
pub(super) fn divisions(body: &[u8], redactor: &Redactor) -> Result<Vec<ListedDivision>, BodyProblem> {
    let raw: RawContainerList<'_> = object(body, redactor)?;
    let mut seen = BTreeSet::new();
    let mut divisions = Vec::with_capacity(raw.containers.len());
    for (index, item) in raw.containers.iter().enumerate() {
        let division =
            division(item, redactor).map_err(|what| format!("lists a division {what} (item {})", index + 1))?;
        if seen.insert(division.id) {
            divisions.push(division);
        }
    }
    Ok(divisions)
}

fn division(item: &RawValue, redactor: &Redactor) -> Result<ListedDivision, String> {
    let strange = || format!("in a form that is not documented: {}", shown(item, redactor));
    if !item.get().starts_with('{') {
        return Err(strange());
    }
    let raw: RawContainer<'_> = serde_json::from_str(item.get()).map_err(|_| strange())?;
    let name = raw.name.and_then(string).filter(|name| !name.trim().is_empty()).map(|name| redactor.redact(&name));
    let called =
        name.as_deref().map_or(String::new(), |name| format!(" called \"{}\"", found(redactor, name, MAX_VALUE_CHARS)));
    let id = match raw.id {
        None => return Err(format!("without an `id`{called}")),
        Some(raw) => id(raw).ok_or_else(|| {
            format!("{called} whose `id` is no number: {}", shown(raw, redactor)).trim_start().to_owned()
        })?,
    };
    Ok(ListedDivision {
        id,
        name: name.unwrap_or_else(|| format!("division {id}")),
        // Watching one too many is the smaller mistake: only a plain `false` takes a division out.
        active: raw.is_active.is_none_or(|raw| raw.get() != "false"),
    })
}

fn id(raw: &RawValue) -> Option<u64> {
    let text = string(raw).unwrap_or_else(|| raw.get().to_owned());
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// What an error body says, for people: `code (message)`; `None` if it is no such body.
pub(super) fn errors(body: &[u8], redactor: &Redactor) -> Option<String> {
    let raw: RawErrors<'_> = object(body, redactor).ok()?;
    let messages: Vec<String> = raw.errors.iter().filter_map(|item| error(item)).take(MAX_ERRORS).collect();
    if messages.is_empty() { None } else { Some(messages.join("; ")) }
}

/// Whether an error body has this code; codes come with what they belong to: `access_denied|missing_permission`.
pub(super) fn has_code(body: &[u8], expected: &str) -> bool {
    let Ok(raw) = object::<RawErrors<'_>>(body, &Redactor::default()) else { return false };
    let errors = raw.errors.iter().filter_map(|item| serde_json::from_str::<RawError<'_>>(item.get()).ok());
    let mut codes = errors.filter_map(|error| string(error.code?));
    codes.any(|code| code.split('|').any(|part| part.trim() == expected))
}

fn error(item: &RawValue) -> Option<String> {
    if !item.get().starts_with('{') {
        return string(item);
    }
    let raw: RawError<'_> = serde_json::from_str(item.get()).ok()?;
    // A code that is a number is shown as it is.
    let code = raw.code.map(|raw| string(raw).unwrap_or_else(|| raw.get().to_owned()));
    match (code, raw.message.and_then(string)) {
        (Some(code), Some(message)) => Some(format!("{code} ({message})")),
        (one, other) => one.or(other),
    }
}

/// Parses a JSON object; anything else is described.
fn object<'a, T: Deserialize<'a>>(body: &'a [u8], redactor: &Redactor) -> Result<T, BodyProblem> {
    if body.starts_with(&GZIP) {
        return Err("is compressed, which was not asked for".to_owned());
    }
    let Ok(text) = std::str::from_utf8(body) else {
        return Err(format!("is not UTF-8 text{}", beginning(body, redactor)));
    };
    // Some servers send a byte order mark; JSON readers may ignore it.
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if !text.starts_with('{') {
        return Err(format!("is not a JSON object{}", beginning(body, redactor)));
    }
    serde_json::from_str(text).map_err(|error| {
        let why = clean(redactor, &error.to_string(), MAX_BODY_CHARS);
        format!("is not the JSON that is documented: {why}{}", beginning(body, redactor))
    })
}

fn beginning(body: &[u8], redactor: &Redactor) -> String {
    format!("; it begins with: {}", clean(redactor, &String::from_utf8_lossy(body), MAX_BODY_CHARS))
}

/// A raw JSON string's value; `None` if it is none, or no valid text (a lone surrogate).
fn string(raw: &RawValue) -> Option<String> {
    if raw.get().starts_with('"') { serde_json::from_str(raw.get()).ok() } else { None }
}

fn shown(raw: &RawValue, redactor: &Redactor) -> String {
    match string(raw) {
        Some(text) => format!("\"{}\"", found(redactor, &text, MAX_VALUE_CHARS)),
        None if raw.get().starts_with('{') => "an object".to_owned(),
        None if raw.get().starts_with('[') => "a list".to_owned(),
        None => found(redactor, raw.get(), MAX_VALUE_CHARS),
    }
}

fn required<T>(
    field: &'static str,
    raw: Option<&RawValue>,
    read: impl Fn(&'static str, &RawValue) -> BalanceField<T>,
) -> BalanceField<T> {
    raw.map_or_else(|| Err(FieldProblem { field, problem: "is missing".to_owned() }.into()), |raw| read(field, raw))
}

/// Reads single fields; what is wrong with one is said with what was found.
struct FieldReader<'a> {
    redactor: &'a Redactor,
}

impl FieldReader<'_> {
    fn problem(&self, field: &'static str, what: &str, raw: &RawValue) -> FieldProblem {
        FieldProblem { field, problem: format!("is {what} (found {})", shown(raw, self.redactor)) }
    }

    fn amount(&self, field: &'static str, raw: &RawValue) -> BalanceField<Decimal> {
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

    fn amount_or_zero(&self, field: &'static str, raw: Option<&RawValue>) -> BalanceField<Decimal> {
        raw.map_or(Ok(Decimal::ZERO), |raw| self.amount(field, raw))
    }

    fn amount_if_any(&self, field: &'static str, raw: Option<&RawValue>) -> BalanceField<Option<Decimal>> {
        raw.map(|raw| self.amount(field, raw)).transpose()
    }

    fn currency(&self, field: &'static str, raw: &RawValue) -> BalanceField<Currency> {
        let code = string(raw).and_then(|text| Currency::parse(&text).ok());
        code.ok_or_else(|| self.problem(field, "not a currency code", raw).into())
    }

    fn flag(&self, field: &'static str, raw: Option<&RawValue>) -> BalanceField<bool> {
        let Some(raw) = raw else { return Ok(false) };
        match raw.get() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.problem(field, "neither true nor false", raw).into()),
        }
    }
}

#[cfg(test)]
mod tests;
