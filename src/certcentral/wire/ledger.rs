//! Parser of `GET /finance/balance-history`.
//!
//! A page is read completely or not at all: an entry without a readable amount, time or id makes the page invalid,
//! since a ledger that lacks an entry would be wrong without anyone noticing. Fields that only describe an entry are
//! read with tolerance.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::{FieldReader, required};
use super::list::{ItemProblem, ListPage, ListedItem, missing_list, parse_items, parse_object, total};
use super::{BodyProblem, clean, id, object, present, string};
use crate::domain::balance::{BalanceField, FieldProblem};
use crate::domain::ledger::LedgerEntry;
use crate::util::secret::Redactor;

/// Longest kind of an entry.
const MAX_KIND_CHARS: usize = 60;
/// Number of kinds that share memory. The set of kinds is open, but the memory is bounded.
const MAX_KINDS: usize = 1000;
/// Kind of an entry without a `transaction_type`.
const NO_KIND: &str = "unknown";

/// The kinds of the entries parsed so far, each of them once in memory.
#[derive(Debug, Default)]
pub(in super::super) struct EntryKinds(Mutex<BTreeSet<Arc<str>>>);

impl EntryKinds {
    fn intern(&self, kind: &str) -> Arc<str> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kind) = known.get(kind) {
            return Arc::clone(kind);
        }
        let kind: Arc<str> = kind.into();
        if known.len() < MAX_KINDS {
            known.insert(Arc::clone(&kind));
        }
        kind
    }
}

#[derive(Deserialize)]
struct RawLedger<'a> {
    #[serde(borrow, default)]
    adjustments: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    page: Option<&'a RawValue>,
}

/// An entry. Optional keys that are `null` count as absent, since none of them is a required amount.
#[derive(Deserialize)]
struct RawEntry<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    credit: Option<&'a RawValue>,
    #[serde(borrow, default)]
    debit: Option<&'a RawValue>,
    #[serde(borrow, default)]
    transaction_type: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    transaction_date: Option<&'a RawValue>,
    #[serde(borrow, default)]
    balance_after: Option<&'a RawValue>,
    #[serde(borrow, default)]
    currency: Option<&'a RawValue>,
    #[serde(borrow, default)]
    order_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    expiration_date: Option<&'a RawValue>,
}

/// Parses one page of a ledger, in the order of the page.
pub(in super::super) fn ledger(
    body: &[u8],
    redactor: &Redactor,
    kinds: &EntryKinds,
) -> Result<ListPage<LedgerEntry>, BodyProblem> {
    let raw: RawLedger<'_> = object(body, redactor)?;
    let items = raw.adjustments.ok_or_else(|| missing_list("adjustments", body, redactor))?;
    let entries = parse_items(&items, "a line", redactor, |item| entry(item, redactor, kinds))?;
    let listed = entries.into_iter().map(|entry| (entry.id.to_string(), ListedItem::Item(entry))).collect();
    Ok(ListPage { listed, total: total(raw.page) })
}

fn entry(item: &RawValue, redactor: &Redactor, kinds: &EntryKinds) -> Result<LedgerEntry, ItemProblem> {
    let raw: RawEntry<'_> = parse_object(item)?;
    let fields = FieldReader { redactor };
    let kind = raw.transaction_type.and_then(string).map(|kind| clean(redactor, &kind, MAX_KIND_CHARS));
    Ok(LedgerEntry {
        id: required("id", raw.id, |field, raw| fields.text_id(field, raw))?.into(),
        at: required("transaction_date", raw.transaction_date, |field, raw| fields.time(field, raw))?,
        change: change(&raw, &fields)?,
        kind: kinds.intern(kind.as_deref().filter(|kind| !kind.is_empty()).unwrap_or(NO_KIND)),
        balance_after: fields.amount_if_any("balance_after", raw.balance_after)?,
        currency: raw.currency.map(|raw| fields.currency("currency", raw)).transpose()?,
        // The order only links the two lists; the entry is valid without it.
        order: raw.order_id.and_then(id),
        expires: raw.expiration_date.map(|raw| fields.time("expiration_date", raw)).transpose()?,
    })
}

/// Returns the amount of an entry. An entry without one is invalid: it changed the balance by an unknown amount.
fn change(raw: &RawEntry<'_>, fields: &FieldReader<'_>) -> BalanceField<Decimal> {
    if raw.credit.is_none() && raw.debit.is_none() {
        return Err(FieldProblem { field: "credit", problem: "and `debit` are both missing".to_owned() }.into());
    }
    let credit = fields.amount_or_zero("credit", raw.credit)?;
    let debit = fields.amount_or_zero("debit", raw.debit)?;
    // Both amounts have at most 26 digits, so that the difference is exact.
    credit
        .checked_sub(debit)
        .ok_or_else(|| FieldProblem { field: "debit", problem: "is too large to compute with".to_owned() }.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::domain::money::Currency;

    fn entries(items: &str) -> Result<ListPage<LedgerEntry>, BodyProblem> {
        let body = format!(r#"{{"adjustments":{items},"page":{{"total":"2","limit":1000,"offset":0}}}}"#);
        ledger(body.as_bytes(), &Redactor::default(), &EntryKinds::default())
    }

    #[test]
    fn documented_entries_are_read_exactly() {
        let page = entries(
            r#"[{"id":"5335328","container":{"id":123456,"name":"Example Company","is_active":true},"debit":"750.00",
                 "transaction_type":"Charge","transaction_date":"2021-01-21 15:21:34","balance_after":"8500.15"},
                {"id":5533001,"credit":1000.05,"debit":null,"transaction_type":"Credit Card Deposit","order_id":"77",
                 "transaction_date":"2021-01-21 15:20:18","currency":"usd","expiration_date":"2022-01-21 00:00:00"}]"#,
        )
        .unwrap();
        assert_eq!((page.listed.len(), page.total), (2, Some(2)));
        let items = page.into_items();
        let summary: Vec<_> = items.iter().map(|entry| (&*entry.id, entry.change.to_string(), &*entry.kind)).collect();
        assert_eq!(
            summary,
            [("5335328", "-750".to_owned(), "Charge"), ("5533001", "1000.05".to_owned(), "Credit Card Deposit")]
        );
        let deposit = &items[1];
        assert_eq!(deposit.at.to_rfc3339(), "2021-01-21T15:20:18+00:00");
        assert_eq!(deposit.expires.unwrap().to_rfc3339(), "2022-01-21T00:00:00+00:00");
        assert_eq!((deposit.order, deposit.currency), (Some(77), Currency::parse("USD").ok()));
    }

    #[test]
    fn an_unreadable_entry_makes_the_page_invalid_and_is_named() {
        let entry = |rest: &str| format!(r#"[{{"id":"1","transaction_date":"2021-01-21 15:21:34"{rest}}}]"#);
        for (items, expected) in [
            (entry(""), "lists a line whose `credit` and `debit` are both missing (item 1)"),
            (entry(r#","credit":null,"debit":null"#), "are both missing"),
            (entry(r#","credit":"1,500.00""#), "`credit` is not a plain decimal number (found \"1,500.00\")"),
            (entry(r#","debit":"NaN""#), "`debit` is not a plain decimal number"),
            (entry(r#","debit":true"#), "`debit` is not a plain decimal number (found true)"),
            (entry(r#","debit":"1","balance_after":"lots""#), "`balance_after` is not a plain"),
            (entry(r#","debit":"1","currency":"U$D""#), "`currency` is not a currency code"),
            (entry(r#","debit":"1","expiration_date":"soon""#), "`expiration_date` is not a time"),
            (entry(r#","debit":"1","debit":"2""#), "in an undocumented form: an object"),
            (r#"[{"id":"1","debit":"1"}]"#.to_owned(), "`transaction_date` is missing"),
            (r#"[{"id":"1","debit":"1","transaction_date":"0000-00-00 00:00:00"}]"#.to_owned(), "is not a time"),
            (r#"[{"debit":"1","transaction_date":"2021-01-21 15:21:34"}]"#.to_owned(), "`id` is missing"),
            (
                r#"[{"id":"a b","debit":"1","transaction_date":"2021-01-21 15:21:34"}]"#.to_owned(),
                "`id` is not a short",
            ),
            ("[7]".to_owned(), "in an undocumented form: 7"),
            ("{}".to_owned(), "is not the documented JSON"),
        ] {
            let problem = entries(&items).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
        let problem =
            ledger(br#"{"errors":[{"code":"denied"}]}"#, &Redactor::default(), &EntryKinds::default()).unwrap_err();
        assert_eq!(problem, "has no `adjustments` (it reports denied)");
    }
}
