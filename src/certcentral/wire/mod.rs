//! Parsers of the response bodies of the `CertCentral` Services API.
//!
//! Amounts stay exact. A malformed field becomes an error that names it, never 0. Text from the server leaves this
//! module without secrets.

mod fields;
mod ledger;
mod list;
mod orders;

pub(super) use ledger::{EntryKinds, ledger};
pub(super) use list::{ListPage, ListedItem};
pub(super) use orders::{order_end, orders};

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use self::fields::{FieldReader, required};
use super::ListedDivision;
use super::text::{clean, found};
use crate::domain::balance::Balance;
use crate::util::secret::Redactor;

/// Longest part of a malformed value in an error message.
const MAX_VALUE_CHARS: usize = 40;
/// Longest part of a malformed body in an error message.
const MAX_BODY_CHARS: usize = 60;
/// Longest text of a body's errors in an error message.
const MAX_ERRORS_CHARS: usize = 200;
/// Number of errors of one body in an error message.
const MAX_ERRORS: usize = 3;

/// First bytes of a gzip stream. Bodies are never decompressed: a small one can expand to gigabytes.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A difference between a body and the documentation, which completes the sentence "… answered 200 OK, but its body ".
pub(super) type BodyProblem = String;

/// Body of `GET /finance/balance`. Values stay raw JSON: numbers of serde would be binary floating point, and its
/// nesting is recursive.
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

/// Distinguishes `null`, which is a malformed value, from an absent key, which may be documented.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Parses a balance. Each field is read on its own: a malformed one spoils no other.
pub(super) fn balance(body: &[u8], redactor: &Redactor) -> Result<Balance, BodyProblem> {
    let raw: RawBalance<'_> = object(body, redactor)?;
    let fields = FieldReader { redactor };
    if raw.currency.is_none() && raw.balance.is_none() {
        // Absent unpaid invoices and used credit count as 0, so that any other object would be a balance without debts.
        return Err(format!("has neither `balance` nor `currency`{}", reported_errors(body, redactor)));
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

/// Parses the list of divisions, including inactive ones. Of a division that is listed twice, the first one counts.
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
    let strange = || format!("in an undocumented form: {}", shown(item, redactor));
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
            format!("{called} whose `id` is not a number: {}", shown(raw, redactor)).trim_start().to_owned()
        })?,
    };
    Ok(ListedDivision {
        id,
        name: name.unwrap_or_else(|| format!("division {id}")),
        // Only a plain `false` excludes a division: watching one too many is the smaller mistake.
        active: raw.is_active.is_none_or(|raw| raw.get() != "false"),
    })
}

fn id(raw: &RawValue) -> Option<u64> {
    let text = string(raw).unwrap_or_else(|| raw.get().to_owned());
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Returns the errors of an error body as `code (message)`; `None` for other bodies.
pub(super) fn errors(body: &[u8], redactor: &Redactor) -> Option<String> {
    let raw: RawErrors<'_> = object(body, redactor).ok()?;
    let messages: Vec<String> = raw.errors.iter().filter_map(|item| error(item)).take(MAX_ERRORS).collect();
    if messages.is_empty() { None } else { Some(messages.join("; ")) }
}

/// Returns whether an error body has this code, alone or as a part of a code such as
/// `access_denied|missing_permission`.
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
    // Some codes are numbers.
    let code = raw.code.map(|raw| string(raw).unwrap_or_else(|| raw.get().to_owned()));
    match (code, raw.message.and_then(string)) {
        (Some(code), Some(message)) => Some(format!("{code} ({message})")),
        (one, other) => one.or(other),
    }
}

/// Parses a JSON object. The error describes any other body.
fn object<'a, T: Deserialize<'a>>(body: &'a [u8], redactor: &Redactor) -> Result<T, BodyProblem> {
    if body.starts_with(&GZIP) {
        return Err("is compressed, which was not requested".to_owned());
    }
    let Ok(text) = std::str::from_utf8(body) else {
        return Err(format!("is not UTF-8 text{}", beginning(body, redactor)));
    };
    // Some servers send a byte order mark, which JSON parsers may ignore.
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if !text.starts_with('{') {
        return Err(format!("is not a JSON object{}", beginning(body, redactor)));
    }
    serde_json::from_str(text).map_err(|error| {
        let why = clean(redactor, &error.to_string(), MAX_BODY_CHARS);
        format!("is not the documented JSON: {why}{}", beginning(body, redactor))
    })
}

/// Returns the errors that a body reports, in parentheses; empty if it reports none.
fn reported_errors(body: &[u8], redactor: &Redactor) -> String {
    let errors = errors(body, redactor).map(|errors| clean(redactor, &errors, MAX_ERRORS_CHARS));
    errors.map_or_else(String::new, |errors| format!(" (it reports {errors})"))
}

fn beginning(body: &[u8], redactor: &Redactor) -> String {
    format!("; it begins with: {}", clean(redactor, &String::from_utf8_lossy(body), MAX_BODY_CHARS))
}

/// Returns the value of a JSON string; `None` for other values, and for invalid text such as a lone surrogate.
fn string(raw: &RawValue) -> Option<String> {
    if raw.get().starts_with('"') { serde_json::from_str(raw.get()).ok() } else { None }
}

/// Returns a malformed value for an error message.
fn shown(raw: &RawValue, redactor: &Redactor) -> String {
    match string(raw) {
        Some(text) => format!("\"{}\"", found(redactor, &text, MAX_VALUE_CHARS)),
        None if raw.get().starts_with('{') => "an object".to_owned(),
        None if raw.get().starts_with('[') => "a list".to_owned(),
        None => found(redactor, raw.get(), MAX_VALUE_CHARS),
    }
}

#[cfg(test)]
mod tests;
