//! Forecast rules, and the forecast in messages, tested on the running program.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use crate::support::bin::{FUNDS, TOKEN, World, wait_until};
use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc};
use lowtide::certcentral::{BalanceSource, CertCentralClient, RateLimiter};
use lowtide::config::scenario;
use lowtide::domain::balance::Reading;
use lowtide::domain::forecast::Runway;
use lowtide::domain::history::AccountHistory;
use lowtide::domain::rule::Metric;
use lowtide::forecast::{Confidence, Simulation, Spending};
use lowtide::history::{HistoryCache, Refresher};
use lowtide::sandbox::scenario::SHIPPED;
use lowtide::sandbox::server::{API_KEY, PATH, SandboxServer};
use lowtide::util::clock::{Clock, SystemClock};
use lowtide::util::http_client;
use lowtide::util::http_client::HttpClientOptions;
use lowtide::util::secret::{Redactor, Secret};
use serde_json::{Value, json};
use wiremock::{Request, Respond, ResponseTemplate};

const HISTORY: &str = "/finance/balance-history";
const ORDERS: &str = "/order/certificate";

fn now() -> DateTime<Utc> {
    SystemClock.now()
}

fn day(ahead: i64) -> NaiveDate {
    (now() + TimeDelta::days(ahead)).date_naive()
}

/// A complete list, served page by page.
struct PagedList {
    name: &'static str,
    items: Vec<Value>,
}

impl Respond for PagedList {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let parameter = |name: &str| {
            let found = request.url.query_pairs().find(|(key, _)| key == name);
            found.and_then(|(_, value)| value.parse::<usize>().ok())
        };
        let (offset, limit) = (parameter("offset").unwrap_or(0), parameter("limit").unwrap_or(1000));
        let page: Vec<&Value> = self.items.iter().skip(offset).take(limit).collect();
        let about = json!({ "total": self.items.len(), "offset": offset, "limit": limit });
        ResponseTemplate::new(200).set_body_json(json!({ self.name: page, "page": about }))
    }
}

fn history(items: Vec<Value>) -> PagedList {
    PagedList { name: "adjustments", items }
}

fn orders(items: Vec<Value>) -> PagedList {
    PagedList { name: "orders", items }
}

/// A ledger with a purchase of 40 on each of the last days, newest first, after a deposit that expires in ten days.
fn ledger(days: i64) -> PagedList {
    let stamp = |ago: i64| (now() - TimeDelta::days(ago)).format("%Y-%m-%d %H:%M:%S").to_string();
    let purchase = |ago: i64| {
        json!({ "id": format!("LINE-{ago}"), "debit": "40.00", "transaction_type": "Charge", "transaction_date": stamp(ago),
            "currency": "USD" })
    };
    let deposit = json!({ "id": "DEPOSIT", "credit": "9000.00", "transaction_type": "Credit Card Deposit",
        "transaction_date": stamp(days), "balance_after": "9000.00", "currency": "USD",
        "expiration_date": format!("{} 00:00:00", day(10)) });
    history((1..days).map(purchase).chain([deposit]).collect())
}

fn order(id: u64, price: u32, years: u32, placed: i64, certificate_ends: i64) -> Value {
    json!({ "id": id, "status": "issued", "is_renewed": false, "price": price, "validity_years": years,
        "date_created": format!("{}T10:00:00+00:00", day(placed)), "container": { "id": 1 },
        "certificate": { "valid_till": day(certificate_ends).to_string() } })
}

fn refusal() -> ResponseTemplate {
    let body = json!({ "errors": [{ "code": "access_denied|missing_permission", "message": "no finances for you" }] });
    ResponseTemplate::new(403).set_body_json(body)
}

fn rule(name: &str, body: &str) -> String {
    format!("  {name}: {{ {body} }}\n")
}

#[tokio::test]
async fn a_low_funds_message_shows_runway_renewals_and_deposit() {
    let world = World::new().await;
    world.serve(HISTORY, ledger(90)).await;
    world.serve(ORDERS, orders(vec![order(7, 399, 1, -340, 12), order(8, 100, 1, -340, 400)])).await;
    world.funds("1000.00");
    let service = world.start();
    let sent = world.wait_told(1);
    for words in [
        "USD 1,000.00 left",
        "Funds last until about",
        "90 % likely between",
        "Renewals due in the next 30 days: 1 for USD 399.00.",
        "Last 4 weeks",
        "*Deposit USD ",
    ] {
        assert!(sent.contains(words), "{words:?} is not in {sent}");
    }
    // The ledger is not part of the state.
    assert!(!world.state().contains("LINE-"), "{}", world.state());
    std::fs::remove_dir_all(world.path("state.json.history")).unwrap();
    world.let_a_cycle_pass();
    service.expect_events(&["raised funds/acme"]);
    assert_eq!(world.asked(HISTORY).await, 1, "the ledger is read once, then hourly");
}

/// Returns the deposit that a text asks for.
fn deposit(text: &str) -> Option<&str> {
    Some(text.split_once("Deposit USD ")?.1.split_once(" to end all alerts")?.0)
}

#[tokio::test]
async fn previews_and_messages_of_a_fund_ask_for_the_same_deposit() {
    let world = World::new().await;
    world.serve(HISTORY, ledger(90)).await;
    world.serve(ORDERS, orders(vec![order(7, 399, 1, -340, 12)])).await;
    world.funds("1000.00");
    let rules = [
        rule("funds", "metric: available_funds, warning: { below: 2000 }"),
        rule("lasts", "metric: runway, warning: { below: 60d }"),
        rule("ok", "metric: available_funds, warning: { below: 900 }"),
        rule("due", "metric: renewals_due, warning: { above: 100 }"),
        rule("short", "metric: shortfall, warning: { above: 0 }"),
    ];
    world.config(&format!("rules:\n{}", rules.concat()));
    let shown = |rule| world.run(&["preview", "--rule", rule, "--notifier", "slack"]).stdout;
    let (funds, assumed) = (shown("funds"), "note: the deposit assumes that this rule fires, too");
    let deposit_amount = deposit(&funds).unwrap_or_else(|| panic!("{funds}"));
    assert!(!funds.contains("note: "), "{funds}");
    assert_eq!(deposit(&shown("lasts")), Some(deposit_amount), "both rules fire");
    let ok = shown("ok");
    assert!(deposit(&ok) == Some(deposit_amount) && ok.contains(assumed), "{ok}");
    assert_eq!(deposit(&shown("due")), None, "no deposit ends it");
    let short = shown("short");
    let sampled = "note: sample figures, since there is nothing to warn of at present (shortfall USD 0.00)";
    assert!(short.starts_with(sampled) && !short.contains("USD 0.00 short"), "{short}");
    let _service = world.start();
    assert_eq!(deposit(&world.wait_told(1)), Some(deposit_amount));
}

#[tokio::test]
async fn a_message_counts_alerts_that_fire_until_clear_at() {
    let world = World::new().await;
    world.serve(HISTORY, ledger(90)).await;
    world.serve(ORDERS, orders(Vec::new())).await;
    world.funds("1500.00");
    let rules = [
        rule("funds", "metric: available_funds, warning: { below: 2000, clear_at: 5000 }"),
        rule("later", "metric: available_funds, warning: { below: 4000, for: 4s }"),
    ];
    world.config(&format!("rules:\n{}", rules.concat()));
    let service = world.start();
    world.wait_told(1);
    world.funds("3000.00");
    let later = world.wait_told(2);
    assert!(later.contains("below USD 4,000.00") && later.contains("USD 3,000.00 left"), "{later}");
    service.expect_events(&["raised funds/acme", "raised later/acme"]);
    // `preview` does not read the state, so it knows that `funds` fires only if `funds` is previewed.
    let shown = |rule| world.run(&["preview", "--rule", rule, "--notifier", "slack"]).stdout;
    assert_eq!(deposit(&later), deposit(&shown("funds")));
    assert_ne!(deposit(&later), deposit(&shown("later")));
}

#[tokio::test]
async fn the_message_says_that_an_account_is_paid_by_card_only() {
    let world = World::new().await;
    world.serve(HISTORY, history(Vec::new())).await;
    world.serve(ORDERS, orders(vec![order(7, 399, 1, -340, 12)])).await;
    world.config(&format!(
        "rules:\n{}{}",
        rule("lasts", "metric: runway, warning: { below: 14d }"),
        rule("due", "metric: renewals_due, warning: { above: 100 }")
    ));
    let why = "nothing was bought from the balance in the last 400 days";
    let check = world.run(&["check"]).stdout;
    assert!(check.contains(why), "{check}");
    let due = world.run(&["preview", "--rule", "due", "--notifier", "slack"]).stdout;
    let part = "1 for USD 399.00, none of which is usually paid from the balance.";
    assert!(due.contains(why) && due.contains(part), "{due}");
}

#[tokio::test]
async fn purchases_are_logged_once_and_shown_in_the_message_by_kind() {
    let world = World::new().await;
    let mut lines = ledger(90).items;
    lines[20]["order_id"] = json!(8);
    world.serve(HISTORY, history(lines)).await;
    // The first order was paid by card: it has no debit in the ledger.
    let due = |id, price, placed, ends| {
        let mut order = order(id, price, 1, placed, ends);
        order["order_valid_till"] = json!(day(ends).to_string());
        order
    };
    world.serve(ORDERS, orders(vec![due(7, 399, -60, 12), due(8, 40, -21, 20)])).await;
    world.funds("1000.00");
    world.config(&format!("{FUNDS}{}", rule("lasts", "metric: runway, warning: { below: 1d }")));
    let service = world.start_with(&["run", "--log-format", "json", "--log-level", "debug"]);
    let sent = world.wait_told(1);
    let words =
        "Renewals due in the next 30 days: 2 for USD 439.00, of which about USD 40 is usually paid from the balance.";
    assert!(sent.contains(words), "{sent}");
    let logged = || {
        let lines = service.log();
        let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["message"] == "purchases of the past year").collect::<Vec<_>>()
    };
    wait_until("the purchases in the log", || !logged().is_empty());
    // A new balance gives a new forecast.
    world.funds("999.00");
    service.wait_cycles(service.cycles() + 3);
    let lines = logged();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    let line = &lines[0];
    assert_eq!((&line["account"], &line["divisions"], &line["currency"]), (&json!("acme"), &json!(1), &json!("USD")));
    for (kind, count, amount) in
        [("renewals", 0, "0.00"), ("new_orders", 1, "40.00"), ("other", 88, "3520.00"), ("paid_elsewhere", 1, "399.00")]
    {
        assert_eq!((&line[kind], &line[format!("{kind}_amount")]), (&json!(count), &json!(amount)), "{line:#}");
    }
    assert_eq!(line["refunded"], 0);
}

#[tokio::test]
async fn every_forecast_metric_alerts_from_the_first_day() {
    let world = World::new().await;
    world.serve(HISTORY, ledger(90)).await;
    world.serve(ORDERS, orders(vec![order(7, 12_000, 1, -340, 12)])).await;
    // The window is ten and a half days, so that a slow start moves no line out of it.
    let rules = [
        rule("lasts", "metric: runway, warning: { below: 300d }"),
        rule("spent", "metric: spend, within: 252h, warning: { above: 350 USD }"),
        rule("expires", "metric: expiring_funds, within: 30d, warning: { above: 5000 }"),
        rule("due", "metric: renewals_due, warning: { above: 11999.99 }"),
        rule("short", "metric: shortfall, warning: { above: 1999 }"),
        rule("calm", "metric: spend, warning: { above: 5000 }"),
    ];
    world.config(&format!("rules:\n{}", rules.concat()));
    let service = world.start();
    service.wait_cycles(2);
    service.expect_events(&[
        "raised lasts/acme",
        "raised spent/acme",
        "raised expires/acme",
        "raised due/acme",
        "raised short/acme",
    ]);
    let sent = world.wait_told(1);
    for words in
        ["acme: funds may ", "USD 400.00 spent in 252 hours", "USD 12,000.00 of renewals due", "USD 2,000.00 short of"]
    {
        assert!(sent.contains(words), "{words:?} is not in {sent}");
    }
    let check = world.run(&["check"]);
    assert_eq!(check.code, Some(1), "{check:?}");
    assert!(check.stdout.contains("above 350.00") || check.stdout.contains("above USD 350.00"), "{}", check.stdout);
    let plugin = world.run(&["check", "-o", "plugin"]);
    assert!(plugin.stdout.contains("'acme/spent'=400.00;~:350;"), "{}", plugin.stdout);
}

#[tokio::test]
async fn a_refused_ledger_affects_only_the_rules_that_need_it() {
    let world = World::new().await;
    world.serve(HISTORY, refusal()).await;
    world.serve(ORDERS, orders(vec![order(7, 500, 1, -340, 12)])).await;
    world.funds("1000.00");
    let ahead = rule("lasts", "metric: runway, warning: { below: 300d }")
        + &rule("due", "metric: renewals_due, warning: { above: 1 }");
    world.config(&format!("{FUNDS}{ahead}"));
    let service = world.start();
    service.wait_cycles(2);
    service.expect_events(&["raised funds/acme", "raised due/acme", "raised unreadable/acme"]);
    let sent = world.told().concat();
    assert!(
        sent.contains("acme: rule lasts cannot be evaluated") && !sent.contains("balance cannot be read"),
        "{sent}"
    );
    assert!(sent.contains("balance-history") && sent.contains("403") && sent.contains("no finances for you"), "{sent}");
    let validated = world.run(&["validate", "--online"]);
    assert_eq!(validated.code, Some(1), "{validated:?}");
}

#[tokio::test]
async fn an_unreadable_ledger_without_forecast_rules_is_no_alert() {
    let world = World::new().await;
    world.funds("1000.00");
    let service = world.start();
    let sent = world.wait_told(1);
    assert!(sent.contains("USD 1,000.00 left"), "{sent}");
    service.wait_cycles(2);
    service.expect_events(&["raised funds/acme"]);
    assert_eq!(world.asked(HISTORY).await, 1, "a missing ledger is not requested in every cycle");
}

#[tokio::test]
async fn too_short_a_history_is_not_yet_known_and_alerts_nobody() {
    let world = World::new().await;
    world.serve(HISTORY, ledger(9)).await;
    world.serve(ORDERS, orders(Vec::new())).await;
    world.config(&format!("rules:\n{}", rule("lasts", "metric: runway, warning: { below: 300d }")));
    let check = world.run(&["check"]);
    assert_eq!(check.code, Some(0), "{check:?}");
    assert!(check.stdout.contains("not yet known: acme: ") && check.stdout.contains("28"), "{}", check.stdout);
    let service = world.start();
    service.wait_cycles(2);
    service.expect_events(&[]);
}

#[tokio::test]
async fn a_slow_ledger_delays_no_reading_and_no_alert() {
    let world = World::new().await;
    let slow = ResponseTemplate::new(200).set_delay(Duration::from_secs(60));
    world.serve(HISTORY, slow.clone()).await;
    world.serve(ORDERS, slow).await;
    world.config(&format!("{FUNDS}{}", rule("lasts", "metric: runway, warning: { below: 300d }")));
    world.funds("1000.00");
    let began = Instant::now();
    let service = world.start();
    world.wait_told(1);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let (began, before) = (Instant::now(), world.reads(None));
    wait_until("four more readings", || world.reads(None) >= before + 4);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    service.expect_events(&["raised funds/acme"]);
}

#[tokio::test]
async fn a_multi_year_order_is_due_when_the_order_ends() {
    let world = World::new().await;
    world.serve(HISTORY, ledger(60)).await;
    let listed = vec![order(7, 900, 3, -500, 12), order(8, 300, 3, -1080, 15), order(9, 50, 1, -350, 15)];
    world.serve(ORDERS, orders(listed)).await;
    let ends =
        |ahead: i64| ResponseTemplate::new(200).set_body_json(json!({ "order_valid_till": day(ahead).to_string() }));
    world.serve("/order/certificate/7", ends(595)).await;
    world.serve("/order/certificate/8", ends(15)).await;
    world.config(&format!("rules:\n{}", rule("due", "metric: renewals_due, warning: { above: 5000 }")));
    let check = world.run(&["check", "-o", "json"]);
    assert_eq!(check.json()["results"][0]["amount"], "350.00", "{check:?}");
    assert_eq!(world.asked("/order/certificate/7").await, 1);
    assert_eq!(world.asked("/order/certificate/9").await, 0, "its certificate ends with the order");
}

#[tokio::test]
async fn unlimited_funds_have_no_runway_end_and_no_shortfall() {
    let world = World::new().await;
    world.serve(HISTORY, ledger(60)).await;
    world.serve(ORDERS, orders(vec![order(7, 900, 1, -350, 12)])).await;
    let body = json!({ "balance": "-5000.00", "currency": "USD", "unlimited_negative_balance": true });
    world.answer(None, ResponseTemplate::new(200).set_body_json(body));
    let rules = [
        rule("lasts", "metric: runway, warning: { below: 300d }"),
        rule("short", "metric: shortfall, warning: { above: 0 }"),
    ];
    world.config(&format!("rules:\n{}", rules.concat()));
    let check = world.run(&["check", "-o", "json"]);
    assert_eq!(check.code, Some(0), "{check:?}");
    let results = &check.json()["results"];
    assert_eq!((&results[0]["unlimited"], &results[1]["amount"]), (&json!(true), &json!("0.00")), "{results}");
}

#[tokio::test]
async fn renewals_of_divisions_that_share_a_fund_are_added() {
    let world = World::new().await;
    world.serve(HISTORY, ledger(60)).await;
    let of = |division: u64, mut order: Value| {
        order["container"] = json!({ "id": division });
        order
    };
    let due =
        vec![of(1, order(7, 8000, 1, -350, 12)), of(2, order(8, 8000, 1, -350, 14)), of(3, order(9, 90, 1, -350, 9))];
    world.serve(ORDERS, orders(due)).await;
    world.list(&[(1, "History", true), (2, "Physics", true), (3, "Library", true)]);
    for (division, funds) in [(1, "10000.00"), (2, "10000.00"), (3, "40.00")] {
        world.division_funds(division, funds);
    }
    let rule = rule("short", "metric: shortfall, warning: { above: 0 }");
    world.config_with("divisions: all", &format!("rules:\n{rule}"));
    let check = world.run(&["check", "-o", "json"]).json();
    let amounts: Vec<&str> =
        check["results"].as_array().unwrap().iter().map(|row| row["amount"].as_str().unwrap()).collect();
    assert_eq!(amounts, ["6000.00", "6000.00", "50.00"], "{check:#}");
}

/// A list for each division.
struct ListsByDivision(Vec<(u64, PagedList)>);

impl Respond for ListsByDivision {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let requested =
            request.url.query_pairs().find(|(key, _)| key == "container_id").map(|(_, id)| id.parse().unwrap());
        let found = self.0.iter().find(|(id, _)| Some(*id) == requested);
        found.map_or_else(|| ResponseTemplate::new(404), |(_, list)| list.respond(request))
    }
}

/// A ledger with a purchase of this amount on each of the last ninety days.
fn purchases(division: u64, amount: u32) -> PagedList {
    let stamp = |ago: i64| (now() - TimeDelta::days(ago)).format("%Y-%m-%d %H:%M:%S").to_string();
    let purchase = |ago: i64| {
        json!({ "id": format!("{division}-{ago}"), "debit": amount.to_string(), "transaction_type": "Charge",
            "transaction_date": stamp(ago), "currency": "USD" })
    };
    history((1..90).map(purchase).collect())
}

/// Divisions 1 and 2 share USD 1,500.00, nearly all of which division 2 spends. Division 3 has a fund of its own.
async fn shared_fund(account: &str) -> World {
    let world = World::new().await;
    world
        .serve(HISTORY, ListsByDivision(vec![(1, purchases(1, 5)), (2, purchases(2, 200)), (3, purchases(3, 900))]))
        .await;
    world.serve(ORDERS, orders(Vec::new())).await;
    for (division, funds) in [(1, "1500.00"), (2, "1500.00"), (3, "9000.00")] {
        world.division_funds(division, funds);
    }
    world.config_with(account, &format!("rules:\n{}", rule("lasts", "metric: runway, warning: { below: 14d }")));
    world
}

const THREE: [(u64, &str, bool); 3] = [(1, "History", true), (2, "Physics", true), (3, "Library", true)];

fn days_left(check: &Value) -> u64 {
    check["results"][0]["seconds"].as_u64().unwrap_or_else(|| panic!("{check:#}")) / (24 * 3600)
}

#[tokio::test]
async fn the_runway_of_a_shared_fund_counts_unwatched_divisions_too() {
    for account in ["divisions: [1]", "{ divisions: all, exclude_divisions: [2, 3] }"] {
        let account = account.trim_matches(['{', '}', ' ']).replace(", exclude", "\n    exclude");
        let world = shared_fund(&account).await;
        world.list(&THREE);
        let check = world.run(&["check", "-o", "json"]).json();
        assert!((6..=8).contains(&days_left(&check)), "{account}: {check:#}");
        let service = world.start();
        service.wait_event("raised lasts/acme/1");
        world.wait_told(1);
        let before = world.reads(1);
        wait_until("three more readings", || world.reads(1) >= before + 3);
        let others = (world.reads(2), world.reads(3));
        assert!(others.0 <= 3 && others.1 <= 3, "no cycle reads a division that is not watched: {others:?}");
        service.expect_events(&["raised lasts/acme/1"]);
    }
}

#[tokio::test]
async fn if_divisions_cannot_be_listed_a_forecast_uses_the_named_ones() {
    let world = shared_fund("divisions: [1, 2]").await;
    let check = world.run(&["check", "-o", "json"]).json();
    assert!((6..=8).contains(&days_left(&check)), "{check:#}");
    let validated = world.run(&["validate", "--online"]);
    assert_eq!(validated.code, Some(0), "{validated:?}");
    assert!(!validated.stdout.contains("enough") && !validated.stdout.contains("suggestion"), "{}", validated.stdout);
}

/// Serves an account in the middle of its wave of renewals over HTTP. Its purchases, in working hours, are twelve
/// hours away from the present time of day.
async fn half_renewed_account() -> String {
    let (name, text) = SHIPPED.iter().find(|(name, _)| *name == "renewal-wave").unwrap();
    let scenario = scenario::parse(name, text).unwrap();
    let start = now() - TimeDelta::days(12) - TimeDelta::hours(12);
    let sandbox = SandboxServer::started(scenario, 1, start, Arc::new(SystemClock), Arc::new(()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}{PATH}", listener.local_addr().unwrap());
    tokio::spawn(sandbox.serve(listener));
    base_url
}

/// Reads and forecasts an account as the calibration does. Returns the early end in seconds, and the days of the
/// early end, the median and the late end.
async fn forecast_of(base_url: &str) -> (u64, [NaiveDate; 3]) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let http = http_client::client(&HttpClientOptions {
        timeout: Duration::from_secs(10),
        extra_ca_pem: None,
        loopback: true,
    })
    .unwrap();
    let (base, limiter) = (base_url.parse().unwrap(), Arc::new(RateLimiter::new([])));
    let (key, redactor) = (Secret::new(API_KEY), Redactor::default());
    let client =
        Arc::new(CertCentralClient::new("acme", base, &key, http, limiter, redactor, Arc::clone(&clock)).unwrap());
    let Reading::Amount(funds) = client.balance(None).await.unwrap().reading(Metric::AvailableFunds) else { panic!() };
    let history_cache = Arc::new(HistoryCache::new(Arc::clone(&clock)));
    let refresher = Refresher::new("acme".into(), client, Arc::clone(&history_cache), Arc::clone(&clock), None, 30);
    let stop = CancellationToken::new();
    let selected = BTreeSet::from([None]);
    history_cache.request(&selected);
    tokio::select! {
        () = refresher.run(stop.clone()) => {}
        () = history_cache.wait_until_settled(&selected, Duration::from_secs(30)) => {}
    }
    let history = AccountHistory::merge(&history_cache.fund_histories(&[None]));
    let (ledger, orders) = (history.ledger.unwrap(), history.orders.unwrap());
    let forecast = Simulation::new(&ledger, Some(&orders), &Spending::default(), funds.amount, now()).unwrap();
    let runway = forecast.runway(Confidence::default());
    let Runway::Until { about: Some(about), early: Some(early), late: Some(late), .. } = runway else {
        panic!("{runway:?}")
    };
    let seconds = forecast.runway_early(Confidence::default()).unwrap().as_secs();
    (seconds, [early, about, late].map(|at| at.date_naive()))
}

#[tokio::test(flavor = "multi_thread")]
async fn check_preview_and_calibration_agree_about_the_same_ledger() {
    let (world, base_url) = (World::new().await, half_renewed_account().await);
    let config = format!(
        "accounts:\n  acme: {{ api_key: {API_KEY}, base_url: '{base_url}' }}\nnotifiers:\n  slack: {{ type: slack, \
         webhook_url: 'http://127.0.0.1:9/services/T/B/{TOKEN}' }}\nrules:\n{}{}",
        rule("funds", "metric: available_funds, warning: { below: 20000 }"),
        rule("lasts", "metric: runway, warning: { below: 14d }"),
    );
    std::fs::write(world.path("alerts.yaml"), config).unwrap();
    // The results may differ at midnight, and at the moment when a purchase becomes a day older.
    for _ in 0..3 {
        let before = forecast_of(&base_url).await;
        let checked = world.run(&["check", "-o", "json"]).json();
        let shown: Vec<String> =
            ["funds", "lasts"].map(|rule| world.run(&["preview", "--rule", rule]).stdout).into_iter().collect();
        if before != forecast_of(&base_url).await {
            continue;
        }
        let (seconds, days) = before;
        let lasts = checked["results"].as_array().unwrap().iter().find(|it| it["rule"] == "lasts").unwrap();
        assert_eq!(lasts["seconds"], seconds, "{lasts}");
        let seconds = TimeDelta::seconds(i64::try_from(seconds).unwrap());
        assert_eq!((now() + seconds).date_naive(), days[0]);
        let short =
            |day: NaiveDate| day.format(if day.year() == now().year() { "%-d %b" } else { "%-d %b %Y" }).to_string();
        let [early, about, late] = days.map(short);
        // A range of one day is not shown.
        let range = if early == late { String::new() } else { format!(" (90 % likely between {early} and {late})") };
        let about = format!("Funds last until about {} {about}{range}.", days[1].format("%a"));
        for shown in shown {
            assert!(shown.contains(&about), "{about:?} is not in {shown}");
        }
        return;
    }
    panic!("the forecast changed while it was compared, three times");
}
