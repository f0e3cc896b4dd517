//! Parsers of `GET /order/certificate` and `GET /order/certificate/{id}`.
//!
//! A page is read completely or not at all: a running order without a readable id, price or end makes the page invalid,
//! since orders that lack one would be wrong without anyone noticing. Fields that only describe an order are read with
//! tolerance. Orders that were not paid are skipped. Orders of an undocumented status and expired ones of an
//! undocumented form are counted.

use std::sync::Arc;

use chrono::{Days, Months, NaiveDate};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::{FieldReader, day, is_sane_day, required};
use super::list::{ItemProblem, ListPage, ListedItem, missing_list, parse_items, parse_object, total};
use super::{BodyProblem, clean, id, object, present, string};
use crate::domain::balance::FieldProblem;
use crate::domain::order::Order;
use crate::util::secret::Redactor;

/// Longest product; longer ones are dropped.
const MAX_PRODUCT_CHARS: usize = 80;
/// Longest common name; longer ones are dropped.
const MAX_COMMON_NAME_CHARS: usize = 255;
/// Longest status in a message.
const MAX_STATUS_CHARS: usize = 40;
/// Length of the beginning of an order that identifies it if its id is unreadable.
const MAX_UNREADABLE_ID_CHARS: usize = 64;
/// Statuses of orders that were issued and paid.
const PAID: [&str; 3] = ["issued", EXPIRED, "reissue_pending"];
/// Status of paid orders that are over.
const EXPIRED: &str = "expired";
/// Other documented statuses, of orders that were not paid or that need no renewal.
const NOT_PAID: [&str; 8] =
    ["pending", "processing", "needs_csr", "needs_approval", "waiting_pickup", "rejected", "revoked", "canceled"];

#[derive(Deserialize)]
struct RawOrders<'a> {
    #[serde(borrow, default)]
    orders: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    page: Option<&'a RawValue>,
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

/// Parses one page of the orders. The set of statuses is open: an unknown status makes no page invalid, and is named.
pub(in super::super) fn orders(body: &[u8], redactor: &Redactor) -> Result<ListPage<Order>, BodyProblem> {
    let raw: RawOrders<'_> = object(body, redactor)?;
    let items = raw.orders.ok_or_else(|| missing_list("orders", body, redactor))?;
    let listed = parse_items(&items, "an order", redactor, |item| order(item, redactor))?;
    Ok(ListPage { listed, total: total(raw.page) })
}

/// Parses the details of one order, and returns its end if they say so.
pub(in super::super) fn order_end(body: &[u8], redactor: &Redactor) -> Result<Option<NaiveDate>, BodyProblem> {
    let raw: RawDetails<'_> = object(body, redactor)?;
    if raw.id.is_none() && raw.order_valid_till.is_none() {
        return Err(missing_list("id", body, redactor));
    }
    let end = raw.order_valid_till.map(|raw| FieldReader { redactor }.date("order_valid_till", raw)).transpose();
    end.map_err(|problem| format!("is not what is documented: `{}` {}", problem.field, problem.problem))
}

fn order(item: &RawValue, redactor: &Redactor) -> Result<(String, ListedItem<Order>), ItemProblem> {
    let raw: RawOrder<'_> = parse_object(item)?;
    // A skipped or undocumented order may have no readable id; the beginning of its JSON identifies it.
    let beginning = || item.get().chars().take(MAX_UNREADABLE_ID_CHARS).collect();
    let item_id = raw.id.and_then(id).map_or_else(beginning, |id| id.to_string());
    Ok((item_id, order_by_status(&raw, redactor)?))
}

fn order_by_status(raw: &RawOrder<'_>, redactor: &Redactor) -> Result<ListedItem<Order>, ItemProblem> {
    let Some(status) = raw.status.and_then(string) else { return Ok(ListedItem::Undocumented("no status".to_owned())) };
    if NOT_PAID.contains(&&*status) {
        return Ok(ListedItem::Skipped);
    }
    if !PAID.contains(&&*status) {
        return Ok(ListedItem::Undocumented(clean(redactor, &status, MAX_STATUS_CHARS)));
    }
    match paid_order(raw, status == EXPIRED, redactor) {
        // An expired order costs nothing any more; it only shows whether orders are renewed.
        Err(_) if status == EXPIRED => Ok(ListedItem::Undocumented("expired, in an undocumented form".to_owned())),
        order => order.map(ListedItem::Item),
    }
}

fn paid_order(raw: &RawOrder<'_>, expired: bool, redactor: &Redactor) -> Result<Order, ItemProblem> {
    let fields = FieldReader { redactor };
    let certificate: Option<RawNested<'_>> = raw.certificate.map(parse_object).transpose()?;
    let container: Option<RawNested<'_>> = raw.container.map(parse_object).transpose()?;
    let id_of = |container: RawNested<'_>| container.id.and_then(id);
    let id_number = required("id", raw.id, |field, raw| fields.number(field, raw))?;
    let price = required("price", raw.price, |field, raw| fields.price(field, raw))?;
    let renewed = fields.flag("is_renewed", raw.is_renewed)?;
    let placed = raw.date_created.map(|raw| fields.date("date_created", raw)).transpose()?;
    let years = raw.validity_years.map(|raw| fields.years("validity_years", raw)).transpose()?;
    let validity: RawValidity<'_> = raw.order_validity.and_then(|raw| parse_object(raw).ok()).unwrap_or_default();
    let order_ends = raw.order_valid_till.and_then(day).or_else(|| validity.custom_expiration_date.and_then(day));
    let bought_until = placed.and_then(|placed| bought_until(placed, &validity, years));
    let product = raw.product.and_then(|raw| parse_object::<RawProduct<'_>>(raw).ok());
    let product =
        product.and_then(|product| product.name_id.and_then(string).or_else(|| product.name.and_then(string)));
    let common_name = certificate.as_ref().and_then(|certificate| certificate.common_name).and_then(string);
    let certificate_ends = match certificate.and_then(|certificate| certificate.valid_till) {
        Some(raw) => fields.date("certificate.valid_till", raw)?,
        // While a certificate is being reissued, the present one may be missing.
        None => requested_certificate_end(raw).or(order_ends).or(bought_until).ok_or_else(|| {
            let problem = "is missing".to_owned();
            ItemProblem::from(Box::new(FieldProblem { field: "certificate.valid_till", problem }))
        })?,
    };
    Ok(Order {
        id: id_number,
        division: container.and_then(id_of),
        product: product.and_then(|product| description(&product, MAX_PRODUCT_CHARS, redactor)),
        common_name: common_name.and_then(|name| description(&name.to_lowercase(), MAX_COMMON_NAME_CHARS, redactor)),
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

/// Returns a text that only describes an order, cleaned; `None` if it is empty or longer than `longest` bytes.
fn description(text: &str, longest: usize, redactor: &Redactor) -> Option<Arc<str>> {
    let text = text.trim();
    let cleaned = (text.len() <= longest).then(|| clean(redactor, text, longest))?;
    (!cleaned.is_empty()).then(|| cleaned.into())
}

/// Returns the end of a certificate that was ordered up to a certain day.
fn requested_certificate_end(raw: &RawOrder<'_>) -> Option<NaiveDate> {
    let validity: RawValidity<'_> = parse_object(raw.cert_validity?).ok()?;
    validity.custom_expiration_date.and_then(day)
}

/// Returns the last day of an order placed on this day, from `order_validity` or else from `validity_years`.
fn bought_until(placed: NaiveDate, validity: &RawValidity<'_>, years: Option<u32>) -> Option<NaiveDate> {
    let positive = |raw: Option<&RawValue>| raw.and_then(id).filter(|number| *number > 0);
    let years = positive(validity.years).and_then(|years| u32::try_from(years).ok()).or(years);
    let by_years = || placed.checked_add_months(Months::new(years?.checked_mul(12)?));
    let by_days = || placed.checked_add_days(Days::new(positive(validity.days)?));
    let until = by_years().or_else(by_days)?;
    Some(until).filter(|day| is_sane_day(*day))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

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
            ("[7]", "lists an order in an undocumented form: 7"),
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
    fn orders_are_read_by_status_and_unknown_statuses_are_named() {
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
        let expired = "expired, in an undocumented form";
        let expected =
            ["20 frozen", "21 frozen", "22 no status", "23 no status", "30 no status", &format!("31 {expired}")];
        assert_eq!(odd[..6], expected);
        assert_eq!(odd[6..], [format!("32 {expired}")], "a price below 0 is undocumented too");
        let read: Vec<_> = page.into_items().iter().map(|order| (order.id, order.expired)).collect();
        assert_eq!(read, [(1, false), (2, true), (3, false)]);
    }

    #[test]
    fn the_end_of_an_order_is_read_in_every_documented_form() {
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

    /// Returns the product and the common name of an order with these fields.
    fn product_and_common_name(
        fields: &str,
        certificate: &str,
        redactor: &Redactor,
    ) -> (Option<String>, Option<String>) {
        let certificate = format!(r#"{{"valid_till":"2026-11-26"{certificate}}}"#);
        let item = format!(r#"{{"id":1,"status":"issued","price":1,"certificate":{certificate}{fields}}}"#);
        let page = orders(format!(r#"{{"orders":[{item}]}}"#).as_bytes(), redactor).unwrap();
        let order = page.into_items().remove(0);
        (order.product.map(|text| text.to_string()), order.common_name.map(|text| text.to_string()))
    }

    #[test]
    fn the_product_is_the_name_id_or_else_the_name() {
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
    fn common_names_are_read_in_lower_case() {
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
    fn hostile_products_and_common_names_invalidate_no_order() {
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
    fn a_missing_certificate_ends_with_its_order() {
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
