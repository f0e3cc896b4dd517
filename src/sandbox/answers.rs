//! Responses of the simulated API: from the simulated account and a query to the documented JSON or error. Pure.
//!
//! Fields, filters, sorting and pages follow the public documentation. Where it is silent, a comment says what was chosen.

use rust_decimal::Decimal;
use serde_json::{Map, Value, json};

use super::query::ApiQuery;
use super::refusal::ApiRefusal;
use super::scenario::CreditLimit;
use super::world::{SimulatedEntry, SimulatedOrder, SimulatedWorld};
use crate::domain::Time;

/// Id of the simulated account.
const ACCOUNT: u64 = 99_001;

/// Statuses that orders can be filtered by; the last three are documented only on older pages.
const STATUSES: [&str; 10] = [
    "pending",
    "issued",
    "rejected",
    "revoked",
    "waiting_pickup",
    "reissue_pending",
    "canceled",
    "processing",
    "needs_csr",
    "needs_approval",
];

/// Returns the division that a request is about. An account with several divisions requires `container_id`; the documentation
/// does not say what the API answers without it, so this answers 400.
fn container(world: &SimulatedWorld, query: &ApiQuery) -> Result<u64, ApiRefusal> {
    let mut divisions = world.divisions();
    match query.number("container_id")? {
        Some(id) if divisions.any(|(known, _)| known == id) => Ok(id),
        Some(id) => Err(ApiRefusal::NotFound(format!("Container {id} does not exist."))),
        None => match (divisions.next(), divisions.next()) {
            (Some((id, _)), None) => Ok(id),
            _ => Err(ApiRefusal::BadRequest("container_id is required.".to_owned())),
        },
    }
}

fn money(amount: Decimal) -> String {
    format!("{amount:.2}")
}

/// Answers `finance/balance` with the figures of one division.
pub(super) fn balance(world: &SimulatedWorld, query: &ApiQuery) -> Result<Value, ApiRefusal> {
    let id = container(world, query)?;
    let sheet = world.sheet(id).ok_or(ApiRefusal::Internal)?;
    let mut body = json!({
        "balance": money(sheet.balance),
        "currency": sheet.currency.code(),
        "unpaid_invoice_balance": money(sheet.unpaid_invoices),
        "used_credit_from_other_containers": money(sheet.used_by_others),
    });
    match (sheet.credit, sheet.available()) {
        (CreditLimit::Limit(limit), Some(available)) => {
            body["negative_balance_limit"] = json!(money(limit));
            body["total_available_funds"] = json!(money(available));
        }
        _ => body["unlimited_negative_balance"] = json!(true),
    }
    Ok(body)
}

/// Answers `container`, the list of divisions.
pub(super) fn containers(world: &SimulatedWorld) -> Value {
    let item = |(number, (id, name)): (usize, (u64, &str))| {
        json!({
            "id": id,
            "public_id": format!("{id:08x}"),
            "name": name,
            "description": "",
            "parent_id": if number == 0 { 0 } else { world.divisions().next().map_or(0, |(root, _)| root) },
            "template_id": if number == 0 { 5 } else { 6 },
            "ekey": Value::Null,
            "has_logo": false,
            "is_active": true,
        })
    };
    json!({ "containers": world.divisions().enumerate().map(item).collect::<Vec<_>>() })
}

/// Answers `user/me`, the owner of the API key.
pub(super) fn me(world: &SimulatedWorld) -> Value {
    let root = world.divisions().next();
    json!({
        "id": 1,
        "username": "lowtide",
        "account_id": ACCOUNT,
        "first_name": "Low",
        "last_name": "Tide",
        "email": "lowtide@example.com",
        "status": "active",
        "container": root.map(|(id, name)| json!({ "id": id, "name": name })),
        "access_roles": [{ "id": 4, "name": "Finance manager" }],
    })
}

/// Answers `finance/balance-history` with ledger lines of one division.
pub(super) fn history(world: &SimulatedWorld, query: &ApiQuery) -> Result<Value, ApiRefusal> {
    // The filter is documented as well as the parameter of the same name.
    let id = match query.filter("container_id") {
        Some(id) => container(world, &ApiQuery::of("container_id", id))?,
        None => container(world, query)?,
    };
    let credits = match query.filter("adjust_type") {
        None => None,
        Some("credit") => Some(true),
        Some("debit") => Some(false),
        Some(_) => return Err(ApiRefusal::BadRequest("filters[adjust_type] must be credit or debit.".to_owned())),
    };
    let (made, expires) = (query.dates("transaction_date")?, query.dates("expiration_date")?);
    let matches = |entry: &&SimulatedEntry| {
        entry.division == id
            && credits.is_none_or(|credits| (entry.change > Decimal::ZERO) == credits)
            && made.as_ref().is_none_or(|dates| dates.contains(entry.at))
            && expires.as_ref().is_none_or(|dates| entry.expires.is_some_and(|at| dates.contains(at)))
    };
    let mut entries: Vec<&SimulatedEntry> = world.entries().iter().filter(matches).collect();
    query
        .sort(&mut entries, &[("-transaction_date", |entry| stamp(entry.at)), ("id", |entry| entry.id.to_string())])?;
    let (entries, page) = query.page(entries)?;
    let name = world.divisions().find(|(known, _)| *known == id).map_or("", |(_, name)| name);
    let currency = world.sheet(id).map(|sheet| sheet.currency.code().to_owned());
    let adjustments: Vec<Value> =
        entries.into_iter().map(|entry| adjustment(entry, name, currency.as_deref())).collect();
    Ok(json!({ "adjustments": adjustments, "page": page }))
}

fn adjustment(entry: &SimulatedEntry, container: &str, currency: Option<&str>) -> Value {
    let mut item = Map::new();
    let mut put = |key: &str, value: Value| drop(item.insert(key.to_owned(), value));
    put("id", json!(entry.id.to_string()));
    put("container", json!({ "id": entry.division, "name": container, "is_active": true }));
    let (side, amount) = if entry.change > Decimal::ZERO { ("credit", entry.change) } else { ("debit", -entry.change) };
    put(side, json!(money(amount)));
    put("transaction_type", json!(entry.kind));
    put("receipt_id", json!((entry.id % 1_000_000).to_string()));
    put("transaction_date", json!(stamp(entry.at)));
    put("balance_after", json!(money(entry.balance_after)));
    put("currency", json!(currency));
    if let Some(order) = entry.order {
        put("order_id", json!(order.to_string()));
    }
    if let Some(note) = &entry.note {
        put("note", json!(note));
    }
    if let Some(at) = entry.expires {
        put("expiration_date", json!(format!("{} 00:00:00", day(at))));
    }
    Value::Object(item)
}

/// Answers `order/certificate` with a list of orders.
pub(super) fn orders(world: &SimulatedWorld, query: &ApiQuery, now: Time) -> Result<Value, ApiRefusal> {
    let id = match query.filter("container_id") {
        Some(id) => Some(container(world, &ApiQuery::of("container_id", id))?),
        None => None,
    };
    let status_filter = query.filter("status");
    if status_filter.is_some_and(|status| !STATUSES.contains(&status)) {
        return Err(ApiRefusal::BadRequest("filters[status] is not a status of an order.".to_owned()));
    }
    let ends = query.dates("valid_till")?;
    let matches = |order: &&SimulatedOrder| {
        id.is_none_or(|id| order.division == id)
            && status_filter.is_none_or(|status| has_status(order, status, now))
            && ends.as_ref().is_none_or(|dates| order.issued(now) && dates.contains(order.certificate_ends(now)))
    };
    // The id breaks ties between orders with the same time.
    let mut found: Vec<(&SimulatedOrder, Time)> = all_orders(world).filter(matches).map(|order| (order, now)).collect();
    query.sort(
        &mut found,
        &[
            ("-date_created", |(order, _)| format!("{} {:020}", stamp(order.placed), order.id)),
            ("id", |(order, _)| format!("{:020}", order.id)),
            ("valid_till", |(order, now)| format!("{} {:020}", stamp(order.certificate_ends(*now)), order.id)),
        ],
    )?;
    let (found, page) = query.page(found)?;
    let list: Vec<Value> = found.into_iter().map(|(order, _)| Value::Object(order_json(world, order, now))).collect();
    Ok(json!({ "orders": list, "page": page }))
}

/// Answers `order/certificate/{id}` with one order.
pub(super) fn order(world: &SimulatedWorld, id: &str, now: Time) -> Result<Value, ApiRefusal> {
    let found = id.parse().ok().and_then(|id: u64| all_orders(world).find(|order| order.id == id));
    let order = found.ok_or_else(|| ApiRefusal::NotFound(format!("Order {id} does not exist.")))?;
    Ok(Value::Object(order_json(world, order, now)))
}

fn order_json(world: &SimulatedWorld, order: &SimulatedOrder, now: Time) -> Map<String, Value> {
    let name = world.divisions().find(|(known, _)| *known == order.division).map_or("", |(_, name)| name);
    let name_id: String =
        order.product.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let issued = order.certificate(now);
    let bought = order.ends.date_naive() - order.placed.date_naive();
    let validity =
        if order.years == 0 { json!({ "days": bought.num_days() }) } else { json!({ "years": order.years }) };
    let mut certificate = json!({
        "id": order.id + 1_000_000 * (issued.number + 1),
        "common_name": order.common_name,
        "dns_names": [order.common_name],
    });
    if order.issued(now) {
        certificate["valid_from"] = json!(day(issued.from));
        certificate["valid_till"] = json!(day(issued.ends));
        certificate["days_remaining"] = json!((issued.ends - now).num_days());
    }
    let price: serde_json::Number = order.price.normalize().to_string().parse().unwrap_or_else(|_| 0.into());
    let item = json!({
        "id": order.id,
        "status": status(order, now),
        "is_renewed": order.renewed,
        "price": price,
        "date_created": order.placed.format("%Y-%m-%dT%H:%M:%S+00:00").to_string(),
        "order_validity": validity,
        "cert_validity": { "days": order.issuance.certificate_days },
        "is_multi_year_plan": if order.is_plan() { "1" } else { "0" },
        "has_reissues": issued.number > 0,
        "reissues_count": issued.number,
        "product": { "name_id": name_id, "name": order.product, "type": "ssl_certificate" },
        "container": { "id": order.division, "name": name },
        "certificate": certificate,
    });
    let Value::Object(mut fields) = item else { return Map::new() };
    if order.years > 0 {
        fields.insert("validity_years".to_owned(), json!(order.years));
    }
    if order.issued(now) {
        fields.insert("order_valid_till".to_owned(), json!(day(order.ends)));
    }
    fields
}

fn all_orders(world: &SimulatedWorld) -> impl Iterator<Item = &SimulatedOrder> {
    world.past_orders().iter().chain(world.orders())
}

fn status(order: &SimulatedOrder, now: Time) -> &'static str {
    match (order.issued(now), order.expired(now), order.reissuing(now)) {
        (false, ..) => "pending",
        (_, true, _) => "expired",
        (_, _, true) => "reissue_pending",
        _ => "issued",
    }
}

/// Returns `true` if an order matches a filter. The filter `issued` includes expired orders, which have no filter of their own.
fn has_status(order: &SimulatedOrder, filter: &str, now: Time) -> bool {
    match status(order, now) {
        "expired" => filter == "issued",
        status => status == filter,
    }
}

fn stamp(at: Time) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

fn day(at: Time) -> String {
    at.format("%Y-%m-%d").to_string()
}
