//! Tests of the simulated API over real HTTP: documented fields, filters, pages, errors and limits.

#![allow(clippy::unwrap_used)]

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde_json::Value;

use super::*;
use crate::certcentral::{BalanceSource, CertCentralClient, RateLimiter};
use crate::config::scenario::parse;
use crate::domain::money::parse_amount;
use crate::sandbox::clock::{FastClock, SteppedClock};
use crate::sandbox::scenario::SHIPPED;
use crate::sandbox::world::{AccountRecords, SimulatedOrder};
use crate::util::http_client;
use crate::util::http_client::HttpClientOptions;
use crate::util::secret::{Redactor, Secret};

struct SandboxApi {
    address: String,
    clock: Arc<SteppedClock>,
    http: reqwest::Client,
}

impl SandboxApi {
    async fn of(scenario: &str, text: &str) -> Self {
        let clock = SteppedClock::new("2026-11-02T08:00:00Z".parse().unwrap());
        let sandbox = SandboxServer::new(parse(scenario, text).unwrap(), 1, clock.clone(), Arc::new(()));
        Self::serving(sandbox, clock).await
    }

    async fn serving(sandbox: Arc<SandboxServer>, clock: Arc<SteppedClock>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}{PATH}", listener.local_addr().unwrap());
        tokio::spawn(sandbox.serve(listener));
        let options = HttpClientOptions { timeout: Duration::from_secs(1), extra_ca_pem: None, loopback: true };
        Self { address, clock, http: http_client::client(&options).unwrap() }
    }

    async fn shipped(name: &str) -> Self {
        Self::of(name, SHIPPED.iter().find(|(it, _)| *it == name).unwrap().1).await
    }

    /// Moves the clock to this number of hours after the start.
    fn at(&self, hours: u64) -> &Self {
        self.clock.advance("2026-11-02T08:00:00Z".parse::<Time>().unwrap() + Duration::from_secs(3600 * hours));
        self
    }

    async fn ask(&self, key: &str, path: &str) -> (u16, String) {
        let response =
            self.http.get(format!("{}{path}", self.address)).header("X-DC-DEVKEY", key).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap_or_default())
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(API_KEY, path).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn refused(&self, path: &str) -> String {
        let (status, body) = self.ask(API_KEY, path).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        format!("{status} {}", body["errors"][0]["code"].as_str().unwrap())
    }
}

fn ids(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|item| item["id"].to_string()).collect()
}

#[tokio::test]
async fn the_balance_has_the_documented_fields_and_no_others() {
    let limited = SandboxApi::shipped("drain").await.get("/finance/balance").await;
    insta::assert_snapshot!(limited, @r#"{"balance":"4200.00","currency":"USD","negative_balance_limit":"2000.00","total_available_funds":"6200.00","unpaid_invoice_balance":"0.00","used_credit_from_other_containers":"0.00"}"#);
    let unlimited = SandboxApi::shipped("unlimited").await.get("/finance/balance?container_id=11224").await;
    insta::assert_snapshot!(unlimited, @r#"{"balance":"1000.00","currency":"USD","unlimited_negative_balance":true,"unpaid_invoice_balance":"0.00","used_credit_from_other_containers":"0.00"}"#);
}

#[tokio::test]
async fn an_account_with_several_divisions_requires_a_container_id() {
    let api = SandboxApi::shipped("divisions").await;
    assert_eq!(api.refused("/finance/balance").await, "400 bad_request_format");
    assert_eq!(api.refused("/finance/balance-history").await, "400 bad_request_format");
    assert_eq!(api.refused("/finance/balance?container_id=abc").await, "400 bad_request_format");
    assert_eq!(api.refused("/finance/balance?container_id=7").await, "404 not_found");
    assert_eq!(api.get("/finance/balance?container_id=11225").await["currency"], "EUR");
    let containers = api.get("/container").await;
    let names: Vec<&str> =
        containers["containers"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["History department", "Physics department", "Library"]);
    assert_eq!(api.get("/user/me").await["container"]["id"], 11224);
}

#[tokio::test]
async fn the_history_adds_up_to_the_balance_and_can_be_filtered() {
    let api = SandboxApi::shipped("drain").await;
    api.at(20 * 24);
    let all = api.get("/finance/balance-history").await;
    let list = all["adjustments"].as_array().unwrap();
    let amount = |item: &Value, side: &str| item[side].as_str().map_or(Decimal::ZERO, |it| parse_amount(it).unwrap());
    let sum: Decimal = list.iter().map(|item| amount(item, "credit") - amount(item, "debit")).sum();
    let balance = api.get("/finance/balance").await;
    assert_eq!(sum, parse_amount(balance["balance"].as_str().unwrap()).unwrap());
    assert_eq!(list[0]["balance_after"], balance["balance"], "newest first");
    assert_eq!(all["page"]["total"], list.len());

    let oldest_first = api.get("/finance/balance-history?sort=transaction_date").await;
    assert_eq!(oldest_first["adjustments"][0]["note"], "Opening balance");
    let page = api.get("/finance/balance-history?sort=transaction_date&offset=1&limit=2").await;
    assert_eq!(ids(&page["adjustments"]), ids(&oldest_first["adjustments"])[1..3]);
    assert_eq!(page["page"].to_string(), format!(r#"{{"limit":2,"offset":1,"total":{}}}"#, list.len()));

    let credits =
        api.get("/finance/balance-history?filters[adjust_type]=credit&filters[transaction_date]=%3E2026-11-01").await;
    assert_eq!(credits["adjustments"].as_array().unwrap().len(), 1);
    assert_eq!(credits["adjustments"][0]["credit"], "8000.00");
    assert_eq!(credits["adjustments"][0]["expiration_date"], "2027-11-16 00:00:00");
    let days = "/finance/balance-history?filters[transaction_date]=2026-11-03...2026-11-04";
    let dates: Vec<String> = api.get(days).await["adjustments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["transaction_date"].to_string())
        .collect();
    assert!(
        !dates.is_empty() && dates.iter().all(|it| it.starts_with("\"2026-11-03") || it.starts_with("\"2026-11-04"))
    );
    for wrong in [
        "limit=0",
        "limit=1001",
        "offset=-1",
        "sort=colour",
        "filters[adjust_type]=both",
        "filters[transaction_date]=2026",
    ] {
        assert_eq!(
            api.refused(&format!("/finance/balance-history?{wrong}")).await,
            "400 bad_request_format",
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn orders_can_be_filtered_by_status_and_end() {
    let api = SandboxApi::shipped("renewal-wave").await;
    let due = api.get("/order/certificate?filters[status]=issued&filters[valid_till]=2026-11-26...2026-12-03&sort=valid_till&limit=1000").await;
    let orders = due["orders"].as_array().unwrap();
    assert_eq!(orders.len(), 40);
    assert!(
        orders
            .windows(2)
            .all(|pair| pair[0]["certificate"]["valid_till"].as_str() <= pair[1]["certificate"]["valid_till"].as_str())
    );
    insta::assert_snapshot!(orders[0], @r#"{"cert_validity":{"days":199},"certificate":{"common_name":"www-0.example.com","days_remaining":24,"dns_names":["www-0.example.com"],"id":109000001,"valid_from":"2026-05-16","valid_till":"2026-11-26"},"container":{"id":11224,"name":"Main"},"date_created":"2025-11-12T09:41:25+00:00","has_reissues":true,"id":107000001,"is_multi_year_plan":"1","is_renewed":false,"order_valid_till":"2026-11-26","order_validity":{"years":1},"price":399,"product":{"name":"Secure Site OV","name_id":"secure_site_ov","type":"ssl_certificate"},"reissues_count":1,"status":"issued","validity_years":1}"#);
    let one = api.get(&format!("/order/certificate/{}", orders[0]["id"])).await;
    assert_eq!(one["order_valid_till"], orders[0]["certificate"]["valid_till"]);
    assert_eq!(api.refused("/order/certificate/1").await, "404 not_found");
    assert_eq!(api.refused("/order/certificate?filters[status]=lost").await, "400 bad_request_format");
    assert_eq!(api.refused("/order/certificate?limit=1001").await, "400 bad_request_format");
    api.at(13 * 24);
    let later = api.get("/order/certificate?filters[valid_till]=2026-11-26...2026-12-03").await;
    assert!(later["orders"].as_array().unwrap().iter().any(|order| order["is_renewed"] == true));
}

/// Check of a value's documented form.
type FieldCheck = fn(&Value) -> bool;

/// Asserts that an object has the documented fields in their documented form.
fn has(what: &str, object: &Value, fields: &[(&str, FieldCheck)]) {
    for (field, fits) in fields {
        let value = object.pointer(&format!("/{}", field.replace('.', "/")));
        let value = value.unwrap_or_else(|| panic!("{what} has no {field}: {object}"));
        assert!(fits(value), "{what}: {field} is {value}");
    }
}

fn text(value: &Value) -> bool {
    value.is_string()
}

fn number(value: &Value) -> bool {
    value.is_u64()
}

fn decimal_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| parse_amount(text).is_ok())
}

fn date(value: &Value) -> bool {
    value.as_str().is_some_and(|text| NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok())
}

fn stamp(value: &Value) -> bool {
    value.as_str().is_some_and(|text| chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").is_ok())
}

#[tokio::test]
async fn every_documented_field_is_answered_in_its_documented_form() {
    let api = SandboxApi::shipped("plans").await;
    let balance = ["balance", "currency", "unpaid_invoice_balance", "used_credit_from_other_containers"];
    let more = ["negative_balance_limit", "total_available_funds"];
    let fields: Vec<(&str, FieldCheck)> = balance
        .into_iter()
        .chain(more)
        .map(|it| (it, if it == "currency" { text } else { decimal_text } as FieldCheck))
        .collect();
    has("the balance", &api.get("/finance/balance").await, &fields);
    let containers = api.get("/container").await;
    has(
        "a container",
        &containers["containers"][0],
        &[
            ("id", number),
            ("name", text),
            ("description", text),
            ("parent_id", number),
            ("is_active", Value::is_boolean),
        ],
    );
    let me: [(&str, FieldCheck); 3] = [("account_id", number), ("container.id", number), ("access_roles.0.name", text)];
    has("the user", &api.get("/user/me").await, &me);
    let history = api.get("/finance/balance-history").await;
    has("a page", &history, &[("page.total", number), ("page.limit", number), ("page.offset", number)]);
    for (side, deposit) in [("credit", true), ("debit", false)] {
        let filter = format!("/finance/balance-history?filters[adjust_type]={side}&limit=1");
        let line = &api.get(&filter).await["adjustments"][0];
        has(
            "a line of the ledger",
            line,
            &[
                ("id", text),
                ("container.id", number),
                ("container.name", text),
                ("container.is_active", Value::is_boolean),
                (side, decimal_text),
                ("transaction_type", text),
                ("receipt_id", text),
                ("transaction_date", stamp),
                ("balance_after", decimal_text),
            ],
        );
        assert!(line.get(if deposit { "debit" } else { "credit" }).is_none(), "one of them: {line}");
    }
    let orders = api.get("/order/certificate?filters[status]=issued&limit=1000").await;
    has("a page", &orders, &[("page.total", number), ("page.limit", number), ("page.offset", number)]);
    for order in orders["orders"].as_array().unwrap() {
        let fields: [(&str, FieldCheck); 23] = [
            ("id", number),
            ("status", |it| it == "issued" || it == "expired"),
            ("is_renewed", Value::is_boolean),
            ("price", Value::is_number),
            ("date_created", |it| it.as_str().is_some_and(|it| chrono::DateTime::parse_from_rfc3339(it).is_ok())),
            ("validity_years", number),
            ("product.name_id", text),
            ("product.name", text),
            ("product.type", text),
            ("container.id", number),
            ("container.name", text),
            ("certificate.id", number),
            ("certificate.common_name", text),
            ("certificate.dns_names", Value::is_array),
            ("certificate.valid_from", date),
            ("certificate.valid_till", date),
            ("certificate.days_remaining", Value::is_i64),
            ("order_valid_till", date),
            ("order_validity.years", number),
            ("cert_validity.days", |it| it == 199),
            ("is_multi_year_plan", |it| it == "1"),
            ("has_reissues", Value::is_boolean),
            ("reissues_count", number),
        ];
        has("an order", order, &fields);
    }
    let order = &orders["orders"][0];
    let details = api.get(&format!("/order/certificate/{}", order["id"])).await;
    assert_eq!(details["order_valid_till"], order["order_valid_till"]);
    let error = api.ask("wrong", "/finance/balance").await.1;
    has("an error", &serde_json::from_str(&error).unwrap(), &[("errors.0.code", text), ("errors.0.message", text)]);
}

#[tokio::test]
async fn an_order_bought_by_days_is_listed_with_its_days() {
    let clock = SteppedClock::new("2026-11-02T08:00:00Z".parse().unwrap());
    let simulated = SimulatedWorld::new(&parse("x", "divisions: { Main: { id: 1, balance: 900, renewals: [{ product: X, price: 150, count: 1, from: 40d, to: 40d }] } }").unwrap(), clock.now(), 1);
    let order = SimulatedOrder {
        years: 0,
        placed: clock.now() - Duration::from_secs(50 * 86_400),
        ..simulated.orders()[0].clone()
    };
    let world =
        SimulatedWorld::recorded(AccountRecords { orders: vec![order], ..AccountRecords::default() }, clock.now());
    let api = SandboxApi::serving(SandboxServer::recorded(world, clock.clone(), Arc::new(())), clock).await;
    let listed = &api.get("/order/certificate").await["orders"][0];
    assert_eq!(listed["order_validity"], serde_json::json!({ "days": 90 }));
    assert!(listed.get("validity_years").is_none(), "{listed}");
}

#[tokio::test]
async fn orders_have_the_statuses_of_a_real_account() {
    let api = SandboxApi::shipped("plans").await;
    let all = api.get("/order/certificate?limit=1000").await["orders"].as_array().unwrap().clone();
    let with = |status: &str| all.iter().filter(|it| it["status"] == status).collect::<Vec<_>>();
    let expired = with("expired");
    assert!(expired.len() > 3, "{}", expired.len());
    assert!(
        expired.iter().all(|it| it["is_renewed"] == true && it["order_valid_till"].as_str().unwrap() < "2026-11-02")
    );
    let inside =
        with("issued").into_iter().filter(|it| it["certificate"]["valid_till"] != it["order_valid_till"]).count();
    assert!(inside > 20, "certificates of 199 days inside plans of a year: {inside}");
    let filtered =
        api.get("/order/certificate?filters[status]=issued&limit=1000").await["orders"].as_array().unwrap().clone();
    assert_eq!(filtered.len(), expired.len() + with("issued").len(), "the filter includes orders that have expired");
    assert_eq!(api.refused("/order/certificate?filters[status]=expired").await, "400 bad_request_format");
    for status in ["reissue_pending", "waiting_pickup", "pending"] {
        api.get(&format!("/order/certificate?filters[status]={status}")).await;
    }
    let drain = SandboxApi::shipped("drain").await.get("/order/certificate?filters[status]=issued&limit=1000").await;
    let past = drain["orders"].as_array().unwrap().iter().filter(|it| it["status"] == "expired").count();
    assert_eq!(past, 1, "the order that its old order renewed");
}

#[tokio::test]
async fn keys_routes_and_methods_are_refused_as_documented() {
    let api = SandboxApi::shipped("drain").await;
    let (status, body) = api.ask("wrong", "/finance/balance").await;
    assert_eq!(status, 403);
    assert!(body.contains("access_denied|access_denied_invalid_key"), "{body}");
    let (status, body) = api.ask(KEY_WITHOUT_FINANCE_ROLE, "/finance/balance").await;
    assert_eq!(status, 403);
    assert!(body.contains("access_denied|missing_permission"), "{body}");
    assert_eq!(api.ask(KEY_WITHOUT_FINANCE_ROLE, "/user/me").await.0, 200);
    assert_eq!(api.refused("/finance/nothing").await, "404 not_found|route");
    let posted =
        api.http.post(format!("{}/finance/balance", api.address)).header("X-DC-DEVKEY", API_KEY).send().await.unwrap();
    assert_eq!(posted.status().as_u16(), 403);
}

#[tokio::test]
async fn the_documented_limits_hold_for_each_key() {
    let api = SandboxApi::shipped("drain").await;
    for _ in 0..100 {
        assert_eq!(api.ask(API_KEY, "/user/me").await.0, 200);
    }
    assert_eq!(api.refused("/user/me").await, "429 request_limit_exceeded");
    assert_eq!(api.ask(KEY_WITHOUT_FINANCE_ROLE, "/user/me").await.0, 200);
}

#[tokio::test]
async fn each_fault_fails_in_its_own_way_while_it_lasts() {
    let api = SandboxApi::shipped("outage").await;
    let http = api.http.clone();
    let source = CertCentralClient::new(
        "acme",
        api.address.parse().unwrap(),
        &Secret::new(API_KEY),
        http,
        Arc::new(RateLimiter::new([])),
        Redactor::default(),
        Arc::new(FastClock::new(Time::UNIX_EPOCH, 10_000)),
    )
    .unwrap();
    let mut reasons = Vec::new();
    for day in [2, 3, 4, 5, 6, 7, 8, 10] {
        api.at(day * 24);
        reasons.push(source.balance(None).await.unwrap_err().reason);
    }
    insta::assert_snapshot!(reasons.join("\n"), @r#"
    GET /finance/balance answered 429 Too Many Requests: request_limit_exceeded (Service call rate limit exceeded. Please try again later.): too many requests with this API key; does another program use it too?
    GET /finance/balance answered 503 Service Unavailable: Service is unavailable: CertCentral may be under maintenance (usually two hours, on the first weekend of a month)
    GET /finance/balance failed: no complete answer in time
    GET /finance/balance answered 200 OK, but its body (text/html) is not a JSON object; it begins with: <!DOCTYPE html><html><head><title>Sign in</title></head><bo…
    GET /finance/balance answered 500 Internal Server Error: internal_error (An unexpected error occurred.)
    GET /finance/balance failed: the connection broke (unexpected EOF during chunk size line)
    GET /finance/balance answered 403 Forbidden: access_denied|access_denied_invalid_key (Access denied. The API key is not valid.): the API key is wrong or was revoked: check the account's API key
    GET /finance/balance answered 403 Forbidden: access_denied|missing_permission (Access denied. Your role may not see finances.): give the API key's user a role that sees finances (Administrator, Manager, Finance manager), and check whether the account restricts API access by source address
    "#);
    api.at(11 * 24);
    assert!(source.balance(None).await.is_ok());
}
