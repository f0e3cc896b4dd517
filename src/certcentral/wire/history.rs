//! The bodies of an account's books, parsed: pages of the ledger and of the orders, and one order.
//!
//! A list is read as a whole or not at all: what an amount, a moment or an id cannot be read from spoils it, since books
//! that lack a line would be wrong without anybody noticing. What only describes a line is read with tolerance, and so are
//! orders that were not paid or are over: they are passed over and counted.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Days, Months, NaiveDate, NaiveDateTime};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{BodyProblem, FieldReader, MAX_ERRORS_CHARS, clean, errors, id, object, present, required, shown, string};
use crate::domain::Time;
use crate::domain::balance::{BalanceField, FieldProblem};
use crate::domain::ledger::LedgerEntry;
use crate::domain::order::Order;
use crate::util::secret::Redactor;

/// The longest id and the longest kind that are kept.
const MAX_ID_CHARS: usize = 64;
const MAX_KIND_CHARS: usize = 60;
/// Products and common names that are longer say nothing.
const MAX_PRODUCT_CHARS: usize = 80;
const MAX_COMMON_NAME_CHARS: usize = 255;
/// Kinds that are kept apart; an open set, but no bottomless one.
const MAX_KINDS: usize = 1000;
/// What a line is called that does not say what it is.
const NO_KIND: &str = "unknown";
/// The longest name of a status that is shown.
const MAX_STATUS_CHARS: usize = 40;
/// Statuses of orders that were issued and paid.
const PAID: [&str; 3] = ["issued", EXPIRED, "reissue_pending"];
const EXPIRED: &str = "expired";
/// The other documented statuses: nothing was paid for these orders, or nothing has to be renewed of them.
const NOT_PAID: [&str; 8] =
    ["pending", "processing", "needs_csr", "needs_approval", "waiting_pickup", "rejected", "revoked", "canceled"];

/// One page of a list.
#[derive(Debug)]
pub(in super::super) struct ListPage<T> {
    /// Everything that the server lists, in its order, each with its id.
    pub(in super::super) listed: Vec<(String, ListedItem<T>)>,
    /// How many there are on all pages, if the page says so.
    pub(in super::super) total: Option<u64>,
}

impl<T> ListPage<T> {
    /// Returns what is not passed over.
    pub(in super::super) fn into_items(self) -> Vec<T> {
        let item = |(_, listed)| match listed {
            ListedItem::Item(item) => Some(item),
            ListedItem::Skipped | ListedItem::Undocumented(_) => None,
        };
        self.listed.into_iter().filter_map(item).collect()
    }
}

/// What a list shows in one place.
#[derive(Debug)]
pub(in super::super) enum ListedItem<T> {
    /// A line of the ledger; an order that was issued and paid, whether it is over or not.
    Item(T),
    /// An order that was not paid, or that needs no renewal.
    Skipped,
    /// An order of an undocumented status or form, and which one.
    Undocumented(String),
}

/// The kinds of lines that were met, each once in memory.
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
struct RawHistory<'a> {
    #[serde(borrow, default)]
    adjustments: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    page: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawOrders<'a> {
    #[serde(borrow, default)]
    orders: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    page: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawPage<'a> {
    #[serde(borrow, default)]
    total: Option<&'a RawValue>,
}

/// Optional keys that are `null` count as absent: none of them is an amount that is needed.
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

#[derive(Deserialize)]
struct RawOrder<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    status: Option<&'a RawValue>,
    #[serde(borrow, default)]
    is_renewed: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    price: Option<&'a RawValue>,
    #[serde(borrow, default)]
    date_created: Option<&'a RawValue>,
    #[serde(borrow, default)]
    validity_years: Option<&'a RawValue>,
    #[serde(borrow, default)]
    order_valid_till: Option<&'a RawValue>,
    #[serde(borrow, default)]
    order_validity: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cert_validity: Option<&'a RawValue>,
    #[serde(borrow, default)]
    is_multi_year_plan: Option<&'a RawValue>,
    #[serde(borrow, default)]
    container: Option<&'a RawValue>,
    #[serde(borrow, default)]
    product: Option<&'a RawValue>,
    #[serde(borrow, default)]
    certificate: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawProduct<'a> {
    #[serde(borrow, default)]
    name_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawNested<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    valid_till: Option<&'a RawValue>,
    #[serde(borrow, default)]
    common_name: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct RawValidity<'a> {
    #[serde(borrow, default)]
    years: Option<&'a RawValue>,
    #[serde(borrow, default)]
    days: Option<&'a RawValue>,
    #[serde(borrow, default)]
    custom_expiration_date: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawDetails<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    order_valid_till: Option<&'a RawValue>,
}

/// `GET /finance/balance-history`, one page in the order of the page.
pub(in super::super) fn history(
    body: &[u8],
    redactor: &Redactor,
    kinds: &EntryKinds,
) -> Result<ListPage<LedgerEntry>, BodyProblem> {
    let raw: RawHistory<'_> = object(body, redactor)?;
    let lines = raw.adjustments.ok_or_else(|| missing_list("adjustments", body, redactor))?;
    let read = |item: &&RawValue| entry(item, redactor, kinds);
    let entries = each(&lines, "a line", redactor, read)?;
    let listed = entries.into_iter().map(|entry| (entry.id.to_string(), ListedItem::Item(entry))).collect();
    Ok(ListPage { listed, total: total(raw.page) })
}

/// `GET /order/certificate`, one page. The set of statuses is open: one that is not known spoils nothing, and is named.
pub(in super::super) fn orders(body: &[u8], redactor: &Redactor) -> Result<ListPage<Order>, BodyProblem> {
    let raw: RawOrders<'_> = object(body, redactor)?;
    let listed = raw.orders.ok_or_else(|| missing_list("orders", body, redactor))?;
    let listed = each(&listed, "an order", redactor, |item: &&RawValue| order(item, redactor))?;
    Ok(ListPage { listed, total: total(raw.page) })
}

/// `GET /order/certificate/{id}`: when the order ends, where that is said.
pub(in super::super) fn order_end(body: &[u8], redactor: &Redactor) -> Result<Option<NaiveDate>, BodyProblem> {
    let raw: RawDetails<'_> = object(body, redactor)?;
    if raw.id.is_none() && raw.order_valid_till.is_none() {
        return Err(missing_list("id", body, redactor));
    }
    let end = raw.order_valid_till.map(|raw| FieldReader { redactor }.date("order_valid_till", raw)).transpose();
    end.map_err(|problem| format!("is not what is documented: `{}` {}", problem.field, problem.problem))
}

/// A body without its list says perhaps why.
fn missing_list(key: &str, body: &[u8], redactor: &Redactor) -> BodyProblem {
    let errors = errors(body, redactor).map(|errors| clean(redactor, &errors, MAX_ERRORS_CHARS));
    let errors = errors.map_or_else(String::new, |errors| format!(" (it reports {errors})"));
    format!("has no `{key}`{errors}")
}

/// Only a hint: what cannot be read is none.
fn total(page: Option<&RawValue>) -> Option<u64> {
    let page: RawPage<'_> = serde_json::from_str(page?.get()).ok()?;
    id(page.total?)
}

/// All items, or what is wrong with the first that cannot be read.
fn each<'a, T>(
    items: &[&'a RawValue],
    what: &str,
    redactor: &Redactor,
    read: impl Fn(&&'a RawValue) -> Result<T, ItemProblem>,
) -> Result<Vec<T>, BodyProblem> {
    let read = |(at, item): (usize, &&'a RawValue)| {
        read(item).map_err(|problem| match problem {
            ItemProblem::Form => {
                format!("lists {what} in a form that is not documented: {} (item {})", shown(item, redactor), at + 1)
            }
            ItemProblem::Field(problem) => format!("lists {what} whose {problem} (item {})", at + 1),
        })
    };
    items.iter().enumerate().map(read).collect()
}

/// What is wrong with one item.
enum ItemProblem {
    /// It is no object, or one with a key twice.
    Form,
    Field(ItemFieldProblem),
}

/// `` `debit` is … ``.
struct ItemFieldProblem(Box<FieldProblem>);

impl fmt::Display for ItemFieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.0.field, self.0.problem)
    }
}

impl From<Box<FieldProblem>> for ItemProblem {
    fn from(problem: Box<FieldProblem>) -> Self {
        ItemProblem::Field(ItemFieldProblem(problem))
    }
}

fn parsed<'a, T: Deserialize<'a>>(item: &'a RawValue) -> Result<T, ItemProblem> {
    if !item.get().starts_with('{') {
        return Err(ItemProblem::Form);
    }
    serde_json::from_str(item.get()).map_err(|_| ItemProblem::Form)
}

fn entry(item: &RawValue, redactor: &Redactor, kinds: &EntryKinds) -> Result<LedgerEntry, ItemProblem> {
    let raw: RawEntry<'_> = parsed(item)?;
    let fields = FieldReader { redactor };
    let kind = raw.transaction_type.and_then(string).map(|kind| clean(redactor, &kind, MAX_KIND_CHARS));
    Ok(LedgerEntry {
        id: required("id", raw.id, |field, raw| fields.name(field, raw))?.into(),
        at: required("transaction_date", raw.transaction_date, |field, raw| fields.moment(field, raw))?,
        change: change(&raw, &fields)?,
        kind: kinds.intern(kind.as_deref().filter(|kind| !kind.is_empty()).unwrap_or(NO_KIND)),
        balance_after: fields.amount_if_any("balance_after", raw.balance_after)?,
        currency: raw.currency.map(|raw| fields.currency("currency", raw)).transpose()?,
        // Only a link between the two lists: without it the line counts all the same.
        order: raw.order_id.and_then(id),
        expires: raw.expiration_date.map(|raw| fields.moment("expiration_date", raw)).transpose()?,
    })
}

/// A line without an amount is refused: it moved the balance, and nobody knows how far.
fn change(raw: &RawEntry<'_>, fields: &FieldReader<'_>) -> BalanceField<Decimal> {
    if raw.credit.is_none() && raw.debit.is_none() {
        return Err(FieldProblem { field: "credit", problem: "and `debit` are both missing".to_owned() }.into());
    }
    let credit = fields.amount_or_zero("credit", raw.credit)?;
    let debit = fields.amount_or_zero("debit", raw.debit)?;
    // Both have 26 digits at most: nothing is rounded.
    credit
        .checked_sub(debit)
        .ok_or_else(|| FieldProblem { field: "debit", problem: "is too large to compute with".to_owned() }.into())
}

fn order(item: &RawValue, redactor: &Redactor) -> Result<(String, ListedItem<Order>), ItemProblem> {
    let raw: RawOrder<'_> = parsed(item)?;
    // One that is passed over may have no id that can be read: it is known by how it begins.
    let beginning = || item.get().chars().take(MAX_ID_CHARS).collect();
    let name = raw.id.and_then(id).map_or_else(beginning, |id| id.to_string());
    Ok((name, by_status(&raw, redactor)?))
}

fn by_status(raw: &RawOrder<'_>, redactor: &Redactor) -> Result<ListedItem<Order>, ItemProblem> {
    let Some(status) = raw.status.and_then(string) else { return Ok(ListedItem::Undocumented("no status".to_owned())) };
    if NOT_PAID.contains(&&*status) {
        return Ok(ListedItem::Skipped);
    }
    if !PAID.contains(&&*status) {
        return Ok(ListedItem::Undocumented(clean(redactor, &status, MAX_STATUS_CHARS)));
    }
    match paid_order(raw, status == EXPIRED, redactor) {
        // Nothing will be paid for it: it only tells what was renewed.
        Err(_) if status == EXPIRED => {
            Ok(ListedItem::Undocumented("expired, in a form that is not documented".to_owned()))
        }
        order => order.map(ListedItem::Item),
    }
}

fn paid_order(raw: &RawOrder<'_>, expired: bool, redactor: &Redactor) -> Result<Order, ItemProblem> {
    let fields = FieldReader { redactor };
    let certificate: Option<RawNested<'_>> = raw.certificate.map(parsed).transpose()?;
    let container: Option<RawNested<'_>> = raw.container.map(parsed).transpose()?;
    let id_of = |container: RawNested<'_>| container.id.and_then(id);
    let number = required("id", raw.id, |field, raw| fields.number(field, raw))?;
    let price = required("price", raw.price, |field, raw| fields.price(field, raw))?;
    let renewed = fields.flag("is_renewed", raw.is_renewed)?;
    let placed = raw.date_created.map(|raw| fields.date("date_created", raw)).transpose()?;
    let years = raw.validity_years.map(|raw| fields.years("validity_years", raw)).transpose()?;
    let validity: RawValidity<'_> = raw.order_validity.and_then(|raw| parsed(raw).ok()).unwrap_or_default();
    let order_ends = raw.order_valid_till.and_then(day).or_else(|| validity.custom_expiration_date.and_then(day));
    let bought_until = placed.and_then(|placed| bought_until(placed, &validity, years));
    let product = raw.product.and_then(|raw| parsed::<RawProduct<'_>>(raw).ok());
    let product = product.and_then(|it| it.name_id.and_then(string).or_else(|| it.name.and_then(string)));
    let common_name = certificate.as_ref().and_then(|certificate| certificate.common_name).and_then(string);
    let certificate_ends = match certificate.and_then(|certificate| certificate.valid_till) {
        Some(raw) => fields.date("certificate.valid_till", raw)?,
        // While a certificate is issued anew, the present one may be missing.
        None => chosen_end(raw).or(order_ends).or(bought_until).ok_or_else(|| {
            let problem = "is missing".to_owned();
            ItemProblem::from(Box::new(FieldProblem { field: "certificate.valid_till", problem }))
        })?,
    };
    Ok(Order {
        id: number,
        division: container.and_then(id_of),
        product: product.and_then(|product| word(&product, MAX_PRODUCT_CHARS, redactor)),
        common_name: common_name.and_then(|name| word(&name.to_lowercase(), MAX_COMMON_NAME_CHARS, redactor)),
        price,
        expired,
        renewed,
        placed,
        bought_until,
        is_plan: raw.is_multi_year_plan.is_some_and(|raw| matches!(raw.get(), "\"1\"" | "1" | "true")),
        certificate_ends,
        order_ends,
    })
}

/// A text that only describes an order: without it the order counts all the same.
fn word(text: &str, longest: usize, redactor: &Redactor) -> Option<Arc<str>> {
    let text = text.trim();
    let cleaned = (text.len() <= longest).then(|| clean(redactor, text, longest))?;
    (!cleaned.is_empty()).then(|| cleaned.into())
}

/// The end of a certificate for which a day was chosen.
fn chosen_end(raw: &RawOrder<'_>) -> Option<NaiveDate> {
    let validity: RawValidity<'_> = parsed(raw.cert_validity?).ok()?;
    validity.custom_expiration_date.and_then(day)
}

/// The end of an order that was placed on this day: `order_validity`, else `validity_years`.
fn bought_until(placed: NaiveDate, validity: &RawValidity<'_>, years: Option<u32>) -> Option<NaiveDate> {
    let number = |raw: Option<&RawValue>| raw.and_then(id).filter(|number| *number > 0);
    let years = number(validity.years).and_then(|years| u32::try_from(years).ok()).or(years);
    let of_years = || placed.checked_add_months(Months::new(years?.checked_mul(12)?));
    let of_days = || placed.checked_add_days(Days::new(number(validity.days)?));
    let until = of_years().or_else(of_days)?;
    Some(until).filter(|day| is_sane_day(*day))
}

impl FieldReader<'_> {
    /// A short text of visible characters, or a number's digits.
    fn name(&self, field: &'static str, raw: &RawValue) -> BalanceField<String> {
        let text = string(raw).or_else(|| id(raw).map(|number| number.to_string()));
        let fits =
            |text: &String| (1..=MAX_ID_CHARS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        text.filter(fits).ok_or_else(|| self.problem(field, "not a short word or number", raw).into())
    }

    /// An amount that something costs: 0 at least.
    fn price(&self, field: &'static str, raw: &RawValue) -> BalanceField<Decimal> {
        let price = self.amount(field, raw)?;
        if price < Decimal::ZERO { Err(self.problem(field, "below 0", raw).into()) } else { Ok(price) }
    }

    fn number(&self, field: &'static str, raw: &RawValue) -> BalanceField<u64> {
        id(raw).ok_or_else(|| self.problem(field, "not a whole number", raw).into())
    }

    fn years(&self, field: &'static str, raw: &RawValue) -> BalanceField<u32> {
        let years = id(raw).and_then(|years| u32::try_from(years).ok());
        years.ok_or_else(|| self.problem(field, "not a number of years", raw).into())
    }

    /// `2021-01-21 15:21:34`. No zone is given: it is taken as UTC.
    fn moment(&self, field: &'static str, raw: &RawValue) -> BalanceField<Time> {
        let text = string(raw).unwrap_or_default();
        let moment = NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S").ok().map(|at| at.and_utc());
        moment
            .filter(is_sane_time)
            .ok_or_else(|| self.problem(field, "not a moment such as 2021-01-21 15:21:34", raw).into())
    }

    /// `2021-01-21`, or a moment in the form of RFC 3339.
    fn date(&self, field: &'static str, raw: &RawValue) -> BalanceField<NaiveDate> {
        day(raw).ok_or_else(|| self.problem(field, "not a date such as 2021-01-21", raw).into())
    }
}

fn day(raw: &RawValue) -> Option<NaiveDate> {
    let text = string(raw)?;
    let day = NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok();
    let day = day.or_else(|| Some(DateTime::parse_from_rfc3339(&text).ok()?.date_naive()));
    day.filter(|day| is_sane_day(*day))
}

fn is_sane_day(day: NaiveDate) -> bool {
    day.and_hms_opt(0, 0, 0).is_some_and(|at| is_sane_time(&at.and_utc()))
}

/// Within four digits of years, so that whatever is computed from it is within bounds.
fn is_sane_time(at: &Time) -> bool {
    (0..253_402_300_800).contains(&at.timestamp())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::domain::money::Currency;

    fn lines(items: &str) -> Result<ListPage<LedgerEntry>, BodyProblem> {
        let body = format!(r#"{{"adjustments":{items},"page":{{"total":"2","limit":1000,"offset":0}}}}"#);
        history(body.as_bytes(), &Redactor::default(), &EntryKinds::default())
    }

    #[test]
    fn the_documented_lines_are_read_exactly() {
        let page = lines(
            r#"[{"id":"5335328","container":{"id":123456,"name":"Example Company","is_active":true},"debit":"750.00",
                 "transaction_type":"Charge","transaction_date":"2021-01-21 15:21:34","balance_after":"8500.15"},
                {"id":5533001,"credit":1000.05,"debit":null,"transaction_type":"Credit Card Deposit","order_id":"77",
                 "transaction_date":"2021-01-21 15:20:18","currency":"usd","expiration_date":"2022-01-21 00:00:00"}]"#,
        )
        .unwrap();
        assert_eq!((page.listed.len(), page.total), (2, Some(2)));
        let items = page.into_items();
        let summary: Vec<_> = items.iter().map(|it| (&*it.id, it.change.to_string(), &*it.kind)).collect();
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
    fn a_line_that_cannot_be_read_spoils_the_ledger_and_is_named() {
        let line = |rest: &str| format!(r#"[{{"id":"1","transaction_date":"2021-01-21 15:21:34"{rest}}}]"#);
        for (items, expected) in [
            (line(""), "lists a line whose `credit` and `debit` are both missing (item 1)"),
            (line(r#","credit":null,"debit":null"#), "are both missing"),
            (line(r#","credit":"1,500.00""#), "`credit` is not a plain decimal number (found \"1,500.00\")"),
            (line(r#","debit":"NaN""#), "`debit` is not a plain decimal number"),
            (line(r#","debit":true"#), "`debit` is not a plain decimal number (found true)"),
            (line(r#","debit":"1","balance_after":"lots""#), "`balance_after` is not a plain"),
            (line(r#","debit":"1","currency":"U$D""#), "`currency` is not a currency code"),
            (line(r#","debit":"1","expiration_date":"soon""#), "`expiration_date` is not a moment"),
            (line(r#","debit":"1","debit":"2""#), "in a form that is not documented: an object"),
            (r#"[{"id":"1","debit":"1"}]"#.to_owned(), "`transaction_date` is missing"),
            (r#"[{"id":"1","debit":"1","transaction_date":"0000-00-00 00:00:00"}]"#.to_owned(), "is not a moment"),
            (r#"[{"debit":"1","transaction_date":"2021-01-21 15:21:34"}]"#.to_owned(), "`id` is missing"),
            (
                r#"[{"id":"a b","debit":"1","transaction_date":"2021-01-21 15:21:34"}]"#.to_owned(),
                "`id` is not a short",
            ),
            ("[7]".to_owned(), "in a form that is not documented: 7"),
            ("{}".to_owned(), "is not the JSON that is documented"),
        ] {
            let problem = lines(&items).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
        let problem =
            history(br#"{"errors":[{"code":"denied"}]}"#, &Redactor::default(), &EntryKinds::default()).unwrap_err();
        assert_eq!(problem, "has no `adjustments` (it reports denied)");
    }

    #[test]
    fn issued_orders_are_read_and_pending_ones_skipped() {
        let read = |items: &str| orders(format!(r#"{{"orders":{items}}}"#).as_bytes(), &Redactor::default());
        let page = read(
            r#"[{"id":107000001,"status":"issued","is_renewed":true,"price":399.5,"validity_years":2,
                 "date_created":"2025-11-26T09:41:25+00:00","container":{"id":11224,"name":"Main"},
                 "certificate":{"id":1,"valid_till":"2026-11-26","dns_names":["a"]}},
                {"id":2,"status":"pending","price":1}]"#,
        )
        .unwrap();
        assert_eq!((page.listed.len(), page.total), (2, None));
        let items = page.into_items();
        let order = &items[0];
        assert_eq!(items.len(), 1);
        assert_eq!((order.division, order.price.to_string(), order.renewed), (Some(11224), "399.5".to_owned(), true));
        assert_eq!(order.placed.unwrap().to_string(), "2025-11-26");
        assert_eq!(order.bought_until.unwrap().to_string(), "2027-11-26");
        for (item, expected) in [
            (
                r#"[{"id":1,"status":"issued","price":null,"certificate":{"valid_till":"2026-11-26"}}]"#,
                "`price` is not a plain",
            ),
            (r#"[{"id":1,"status":"issued","certificate":{"valid_till":"2026-11-26"}}]"#, "`price` is missing"),
            (
                r#"[{"id":1,"status":"issued","price":-5,"certificate":{"valid_till":"2026-11-26"}}]"#,
                "lists an order whose `price` is below 0 (found -5) (item 1)",
            ),
            (r#"[{"id":1,"status":"issued","price":"-0.01"}]"#, "`price` is below 0 (found \"-0.01\")"),
            ("[7]", "lists an order in a form that is not documented: 7"),
            (r#"[{"id":1,"status":"issued","price":1}]"#, "`certificate.valid_till` is missing"),
            (r#"[{"id":1,"status":"issued","price":1,"certificate":{"valid_till":"soon"}}]"#, "is not a date"),
            (r#"[{"id":1,"status":"issued","price":1,"is_renewed":"no"}]"#, "`is_renewed` is neither true nor false"),
            (r#"[{"status":"issued","price":1,"certificate":{"valid_till":"2026-11-26"}}]"#, "`id` is missing"),
        ] {
            let problem = read(item).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
        let end = |body: &str| order_end(body.as_bytes(), &Redactor::default());
        assert_eq!(end(r#"{"id":7,"order_valid_till":"2029-01-10"}"#).unwrap().unwrap().to_string(), "2029-01-10");
        assert_eq!((end(r#"{"id":7}"#), end(r#"{"id":7,"order_valid_till":null}"#)), (Ok(None), Ok(None)));
        assert!(end("{}").unwrap_err().contains("has no `id`"));
        assert!(
            end(r#"{"id":7,"order_valid_till":"never"}"#).unwrap_err().contains("`order_valid_till` is not a date")
        );
    }

    #[test]
    fn orders_are_read_by_status_and_an_unknown_one_is_named() {
        let order = |id: u64, status: &str| {
            format!(r#"{{"id":{id},"status":{status},"price":1,"certificate":{{"valid_till":"2026-11-26"}}}}"#)
        };
        let known = ["issued", "expired", "reissue_pending", "pending", "rejected", "revoked", "waiting_pickup"];
        let known = known.into_iter().chain(["canceled", "processing", "needs_csr", "needs_approval"]);
        let mut items: Vec<String> = (1..).zip(known).map(|(id, it)| order(id, &format!("\"{it}\""))).collect();
        items.extend((20..).zip(["\"frozen\"", "\"frozen\"", "null", "7"]).map(|(id, it)| order(id, it)));
        items.push(r#"{"id":30}"#.to_owned());
        items.push(r#"{"id":31,"status":"expired","price":null}"#.to_owned());
        items.push(r#"{"id":32,"status":"expired","price":-1,"certificate":{"valid_till":"2026-11-26"}}"#.to_owned());
        let body = format!(r#"{{"orders":[{}]}}"#, items.join(","));
        let page = orders(body.as_bytes(), &Redactor::default()).unwrap();
        assert_eq!(page.listed.len(), items.len());
        let undocumented = |(id, listed): &(String, ListedItem<Order>)| match listed {
            ListedItem::Undocumented(what) => Some(format!("{id} {what}")),
            ListedItem::Item(_) | ListedItem::Skipped => None,
        };
        let odd: Vec<_> = page.listed.iter().filter_map(undocumented).collect();
        let expired = "expired, in a form that is not documented";
        let expected =
            ["20 frozen", "21 frozen", "22 no status", "23 no status", "30 no status", &format!("31 {expired}")];
        assert_eq!(odd[..6], expected);
        assert_eq!(odd[6..], [format!("32 {expired}")], "nor is a price below 0 documented");
        let read: Vec<_> = page.into_items().iter().map(|order| (order.id, order.expired)).collect();
        assert_eq!(read, [(1, false), (2, true), (3, false)]);
    }

    #[test]
    fn an_orders_end_is_read_in_every_documented_form() {
        let read = |fields: &str| {
            let certificate = r#""certificate":{"valid_till":"2026-07-28"}"#;
            let placed = r#""date_created":"2026-01-10T09:41:25+00:00""#;
            let item = format!(r#"{{"id":1,"status":"issued","price":1,{placed},{certificate}{fields}}}"#);
            let page = orders(format!(r#"{{"orders":[{item}]}}"#).as_bytes(), &Redactor::default()).unwrap();
            let order = &page.into_items()[0];
            let show = |day: Option<NaiveDate>| day.map_or("-".to_owned(), |day| day.to_string());
            format!("{} {}", show(order.order_ends), show(order.bought_until))
        };
        for (fields, expected) in [
            (r#","order_valid_till":"2027-01-12","order_validity":{"years":1}"#, "2027-01-12 2027-01-10"),
            (r#","order_valid_till":"2027-01-12T00:00:00+00:00""#, "2027-01-12 -"),
            (r#","order_validity":{"years":3},"validity_years":1,"is_multi_year_plan":"1""#, "- 2029-01-10"),
            (r#","order_validity":{"days":397}"#, "- 2027-02-11"),
            (r#","order_validity":{"custom_expiration_date":"2026-12-24"}"#, "2026-12-24 -"),
            (r#","validity_years":"2""#, "- 2028-01-10"),
            (r#","order_valid_till":null,"order_validity":null,"validity_years":1"#, "- 2027-01-10"),
            (r#","order_valid_till":"","order_validity":"long","validity_years":1"#, "- 2027-01-10"),
            ("", "- -"),
        ] {
            assert_eq!(read(fields), expected, "{fields}");
        }
        let plan = |value: &str| {
            let item = format!(
                r#"{{"id":1,"status":"issued","price":1,"is_multi_year_plan":{value},"certificate":{{"valid_till":"2026-07-28"}}}}"#
            );
            let page = orders(format!(r#"{{"orders":[{item}]}}"#).as_bytes(), &Redactor::default()).unwrap();
            let order = &page.into_items()[0];
            (order.is_plan, order.ends().is_none())
        };
        assert_eq!([plan("\"1\""), plan("\"0\""), plan("null")], [(true, true), (false, false), (false, false)]);
    }

    /// The product and the common name of an order of these fields.
    fn product_and_common_name(
        fields: &str,
        certificate: &str,
        redactor: &Redactor,
    ) -> (Option<String>, Option<String>) {
        let certificate = format!(r#"{{"valid_till":"2026-11-26"{certificate}}}"#);
        let item = format!(r#"{{"id":1,"status":"issued","price":1,"certificate":{certificate}{fields}}}"#);
        let page = orders(format!(r#"{{"orders":[{item}]}}"#).as_bytes(), redactor).unwrap();
        let order = page.into_items().remove(0);
        (order.product.map(|it| it.to_string()), order.common_name.map(|it| it.to_string()))
    }

    #[test]
    fn an_orders_product_is_its_name_id_else_its_name() {
        for (product, expected) in [
            (r#"{"name_id":"ssl_plus","name":"Standard SSL","type":"ssl_certificate"}"#, Some("ssl_plus")),
            (r#"{"name":"Standard SSL"}"#, Some("Standard SSL")),
            (r#"{"name_id":null,"name":"Standard SSL"}"#, Some("Standard SSL")),
            (r#"{"name_id":7,"name":"Standard SSL"}"#, Some("Standard SSL")),
            (r#"{"name_id":"  ssl_plus "}"#, Some("ssl_plus")),
            (r#"{"name_id":"","name":7}"#, None),
            (r#"{"name_id":["ssl_plus"]}"#, None),
            (r#"{"name_id":"a","name_id":"b"}"#, None),
            ("{}", None),
            ("null", None),
            ("\"ssl_plus\"", None),
            ("[]", None),
        ] {
            let read = product_and_common_name(&format!(r#","product":{product}"#), "", &Redactor::default());
            assert_eq!(read, (expected.map(str::to_owned), None), "{product}");
        }
        assert_eq!(product_and_common_name("", "", &Redactor::default()), (None, None));
    }

    #[test]
    fn common_names_are_compared_in_lower_case() {
        for (name, expected) in [
            (r#""shop.example.com""#, Some("shop.example.com")),
            (r#"" *.Shop.EXAMPLE.com ""#, Some("*.shop.example.com")),
            (r#""Bücher.example""#, Some("bücher.example")),
            (r#""Example Ltd""#, Some("example ltd")),
            (r#""""#, None),
            ("null", None),
            ("7", None),
            (r#"{"value":"a"}"#, None),
            (r#"["a"]"#, None),
        ] {
            let read = product_and_common_name("", &format!(r#","common_name":{name}"#), &Redactor::default());
            assert_eq!(read, (None, expected.map(str::to_owned)), "{name}");
        }
    }

    #[test]
    fn hostile_products_and_common_names_spoil_no_order() {
        let read = |text: &str, redactor: &Redactor| {
            let product = format!(r#","product":{{"name_id":{text}}}"#);
            product_and_common_name(&product, &format!(r#","common_name":{text}"#), redactor)
        };
        let same = |text: &str| (Some(text.to_owned()), Some(text.to_owned()));
        let none = Redactor::default();
        assert_eq!(read(r#""a\u0000b\n\u001b[31mc\u202ed""#, &none), same("a b [31mc d"));
        assert_eq!(read(r#""\u0007\u200b\n""#, &none), (None, None), "nothing visible");
        let long = |length: usize| format!("\"{}\"", "x".repeat(length));
        assert_eq!(read(&long(MAX_PRODUCT_CHARS), &none), same(&"x".repeat(MAX_PRODUCT_CHARS)));
        assert_eq!(read(&long(MAX_PRODUCT_CHARS + 1), &none), (None, Some("x".repeat(MAX_PRODUCT_CHARS + 1))));
        assert_eq!(read(&long(MAX_COMMON_NAME_CHARS), &none).1.unwrap().len(), MAX_COMMON_NAME_CHARS);
        assert_eq!(read(&long(MAX_COMMON_NAME_CHARS + 1), &none), (None, None));
        assert_eq!(read(&long(900_000), &none), (None, None));
        let redactor = Redactor::default();
        redactor.learn(&crate::util::secret::Secret::new("key-0123456789"));
        let (product, common_name) = read(r#""key-0123456789.example""#, &redactor);
        for text in [product.unwrap(), common_name.unwrap()] {
            assert!(!text.contains("0123456789") && text.ends_with(".example"), "{text}");
        }
    }

    #[test]
    fn the_end_of_an_order_being_reissued_is_taken_from_the_order() {
        let read = |fields: &str| {
            let item = format!(r#"{{"id":1,"status":"reissue_pending","price":1,"certificate":{{"id":5}}{fields}}}"#);
            let page = orders(format!(r#"{{"orders":[{item}]}}"#).as_bytes(), &Redactor::default())?;
            Ok::<_, BodyProblem>(page.into_items()[0].certificate_ends.to_string())
        };
        assert_eq!(read(r#","order_valid_till":"2027-01-12""#).unwrap(), "2027-01-12");
        assert_eq!(read(r#","cert_validity":{"custom_expiration_date":"2026-08-01"}"#).unwrap(), "2026-08-01");
        assert!(read("").unwrap_err().contains("`certificate.valid_till` is missing"));
    }
}
