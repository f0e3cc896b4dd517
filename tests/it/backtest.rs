//! Tests of `lowtide backtest` with the real binary: against the sandbox, where a table computed from the same ledger by
//! subtraction alone gives the expected result, and against ledgers that a test writes itself.
//!
//! With `LOWTIDE_LONG=1`, a ledger of 100,000 lines is replayed as well, and the time and memory are printed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use lowtide::util::clock::{Clock as _, SystemClock};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

type Time = DateTime<Utc>;

const API: &str = "/services/v2";
/// Scenarios and their lengths; each has been played to its end.
const SCENARIOS: [(&str, &str); 8] = [
    ("steady", "28d"),
    ("drain", "16d"),
    ("renewal-wave", "28d"),
    ("unpaid-invoices", "35d"),
    ("unlimited", "21d"),
    ("divisions", "21d"),
    ("outage", "14d"),
    ("flapping", "14d"),
];

struct CommandOutput {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl CommandOutput {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lowtide"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).current_dir(folder).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(folder: &Path, args: &[&str]) -> CommandOutput {
    let ran = command(folder, args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    CommandOutput { code: ran.status.code(), stdout: text(ran.stdout), stderr: text(ran.stderr) }
}

/// A folder with an alerts.yaml whose one account asks this address.
fn folder(base: &str, account: &str, rules: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "state: state.json\naccounts:\n  acme:\n    api_key: sandbox-api-key\n    base_url: {base}\n    rate_limit: off\n{account}\
         notifiers:\n  slack: {{ type: slack, webhook_url: \"http://127.0.0.1:9/x\" }}\n  pager: {{ type: pagerduty, routing_key: \"{}\" }}\n{rules}",
        "0123456789abcdef".repeat(2)
    );
    std::fs::write(folder.path().join("alerts.yaml"), text).unwrap();
    folder
}

/// A running `lowtide sandbox`; killed when it is dropped.
struct SandboxProcess {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl SandboxProcess {
    fn start(scenario: &str, passed: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let args = ["sandbox", "--listen", "127.0.0.1:0", "--speed", "1x", "--scenario", scenario, "--passed", passed];
        let mut child = command(folder.path(), &args).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut lines = lines.filter_map(|line| Some(line.split_once("http://")?.1.split('/').next()?.to_owned()));
        let address = lines.next().expect("the sandbox says where it is");
        Self { child, address, _folder: folder }
    }

    fn base(&self) -> String {
        format!("http://{}{API}", self.address)
    }

    /// Sends a request to the API without the code under test.
    fn get(&self, path: &str) -> Value {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = "Host: sandbox\r\nX-DC-DEVKEY: sandbox-api-key\r\nConnection: close\r\n\r\n";
        stream.write_all(format!("GET {API}{path} HTTP/1.1\r\n{head}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200") && head.to_lowercase().contains("content-length"), "{answer}");
        serde_json::from_str(body).unwrap()
    }
}

impl Drop for SandboxProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn amount(value: &Value) -> Decimal {
    value.as_str().unwrap_or_else(|| panic!("{value} is no amount")).parse().unwrap()
}

fn moment(value: &Value) -> Time {
    value.as_str().unwrap().parse().unwrap()
}

/// Returns the ledger of a division: time and change of each line.
fn lines(sandbox: &SandboxProcess, division: &str) -> Vec<(Time, Decimal)> {
    let page = sandbox.get(&format!("/finance/balance-history?limit=1000{division}"));
    let line = |line: &Value| {
        let at = NaiveDateTime::parse_from_str(line["transaction_date"].as_str().unwrap(), "%Y-%m-%d %H:%M:%S");
        let change = line.get("credit").map_or_else(|| -amount(&line["debit"]), amount);
        (at.unwrap().and_utc(), change)
    };
    let lines: Vec<_> = page["adjustments"].as_array().unwrap().iter().map(line).collect();
    assert_eq!(page["page"]["total"], lines.len());
    lines
}

/// Computes the expected events of two thresholds step by step: time, event, level and value.
fn table(
    lines: &[(Time, Decimal)],
    now: Decimal,
    (warning, critical): (i64, i64),
    from: Time,
    to: Time,
) -> Vec<(Time, String, String, Decimal)> {
    let (mut events, mut level, mut last, mut step) = (Vec::new(), 0, from, from);
    while step <= to {
        let left = now - lines.iter().filter(|(at, _)| *at > step).map(|(_, change)| *change).sum::<Decimal>();
        let next = i32::from(left < Decimal::from(warning)) + i32::from(left < Decimal::from(critical));
        let event = match (level, next) {
            (0, 1 | 2) => Some("raised"),
            (1, 2) => Some("escalated"),
            (2, 1) => Some("eased"),
            (1 | 2, 0) => Some("resolved"),
            (1 | 2, _) if step - last >= TimeDelta::days(1) => Some("reminder"),
            _ => None,
        };
        if let Some(event) = event {
            let about = if next == 0 { level } else { next };
            let about = if about == 2 { "critical" } else { "warning" };
            events.push((step, event.to_owned(), about.to_owned(), left));
            last = step;
        }
        level = next;
        step += TimeDelta::minutes(15);
    }
    events
}

const RULES: &str = "rules:
  funds: { metric: available_funds, warning: { below: 2000 }, critical: { below: 500 } }
  balance: { metric: balance, warning: { below: 0 }, critical: { below: -1000 }, notify: [slack] }
  invoices: { metric: unpaid_invoices, warning: { above: 1000 } }
";

/// Returns the events of a rule in the backtest, in the form of [`table`].
fn events(rule: &Value) -> Vec<(Time, String, String, Decimal)> {
    let alerts = rule["alerts"].as_array().unwrap().iter();
    let events = alerts.flat_map(|alert| alert["events"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    events.map(|it| (moment(&it["at"]), text(&it["event"]), text(&it["level"]), amount(&it["amount"]))).collect()
}

#[test]
fn the_backtest_of_every_scenario_matches_its_ledger() {
    let (mut all, mut messages) = (0, 0);
    for (scenario, length) in SCENARIOS {
        let sandbox = SandboxProcess::start(scenario, length);
        let account = if scenario == "divisions" { "    divisions: all\n" } else { "" };
        let folder = folder(&sandbox.base(), account, RULES);
        let ran = run(folder.path(), &["backtest", "--days", "60", "-o", "json"]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{scenario}");
        let found = ran.json();
        let account = &found["accounts"][0];
        let (from, to) = (moment(&account["from"]), moment(&account["to"]));
        assert_eq!(to - from, TimeDelta::days(60), "{scenario}");
        let funds = account["funds"].as_array().unwrap();
        assert_eq!(funds.len(), if scenario == "divisions" { 3 } else { 1 });
        let (mut steps_of, mut events_of) = (std::collections::BTreeMap::new(), std::collections::BTreeMap::new());
        for fund in funds {
            let division = fund["division"].as_u64().map_or_else(String::new, |id| format!("&container_id={id}"));
            let lines = lines(&sandbox, &division);
            let balance = sandbox.get(&format!("/finance/balance?{division}"));
            let rules = fund["rules"].as_array().unwrap();
            let unlimited = balance["unlimited_negative_balance"] == true;
            assert_eq!(fund["unlimited"], unlimited);
            let expected = if unlimited {
                Vec::new()
            } else {
                table(&lines, amount(&balance["total_available_funds"]), (2000, 500), from, to)
            };
            assert_eq!(events(&rules[0]), expected, "{scenario}");
            assert_eq!(rules[0]["warning"], json!({ "below": "2000", "currency": null }), "{scenario}");
            assert_eq!(rules[1]["critical"], json!({ "below": "-1000", "currency": null }), "{scenario}");
            assert_eq!(fund.get("suggestion"), Some(&Value::Null), "no key is left out");
            let of_balance = table(&lines, amount(&balance["balance"]), (0, -1000), from, to);
            assert_eq!(events(&rules[1]), of_balance, "{scenario}");
            assert!(rules[2]["skipped"].as_str().unwrap().contains("no history of unpaid invoices"));
            for (who, events) in [("pager", vec![&expected]), ("slack", vec![&expected, &of_balance])] {
                for (at, ..) in events.into_iter().flatten() {
                    steps_of.entry(who).or_insert_with(std::collections::BTreeSet::new).insert(*at);
                    *events_of.entry(who).or_insert(0) += 1;
                }
            }
            all += expected.len() + of_balance.len();
        }
        // The events of one step are one message, but PagerDuty gets one request per event.
        for mailed in found["messages"].as_array().unwrap() {
            let who = mailed["notifier"].as_str().unwrap();
            let event_count = events_of.get(who).copied().unwrap_or(0);
            let steps = steps_of.get(who).map_or(0, std::collections::BTreeSet::len);
            let expected_messages = if who == "slack" { steps } else { event_count };
            assert_eq!(
                (mailed["messages"].as_u64(), mailed["events"].as_u64()),
                (Some(expected_messages as u64), Some(event_count as u64)),
                "{scenario} {who}"
            );
            messages += expected_messages;
        }
    }
    assert!(all > 60 && messages > 60, "too few events: {all} events, {messages} messages");
}

#[test]
fn the_drained_account_shows_the_advance_warning_and_better_thresholds() {
    let sandbox = SandboxProcess::start("drain", "16d");
    let folder = folder(&sandbox.base(), "", RULES);
    let found = run(folder.path(), &["backtest", "--rule", "funds", "--suggest", "-o", "json"]).json();
    let fund = &found["accounts"][0]["funds"][0];
    assert_eq!(fund["rules"].as_array().unwrap().len(), 1);
    let lines = lines(&sandbox, "");
    let now = amount(&sandbox.get("/finance/balance")["total_available_funds"]);
    let mut prices: Vec<Decimal> = lines.iter().filter(|(_, it)| it.is_sign_negative()).map(|(_, it)| -*it).collect();
    prices.sort_unstable();
    let typical_order = prices[prices.len() / 2];
    assert_eq!(amount(&fund["typical_order"]), typical_order);
    let left = |at: Time| now - lines.iter().filter(|(line, _)| *line > at).map(|(_, it)| *it).sum::<Decimal>();
    let ran_out = &fund["ran_out"][0];
    let first = moment(&ran_out["from"]);
    assert!(left(first) < typical_order && left(first - TimeDelta::seconds(1)) >= typical_order);
    let raised = moment(&fund["rules"][0]["alerts"][0]["raised"]);
    let warning = &ran_out["warnings"][0];
    assert_eq!(warning["seconds_before"].as_i64(), Some((first - raised).num_seconds()));
    assert_eq!(moment(&warning["at"]), raised);
    let suggestion = &fund["suggestion"];
    assert!(amount(&suggestion["warning"]) > Decimal::from(2000), "{suggestion}");
    let comparisons = suggestion["comparisons"].as_array().unwrap();
    let of = |rule: &str| comparisons.iter().find(|it| it["rule"] == rule && it["level"] == "warning").unwrap();
    assert!(of("funds")["too_late"].as_u64() > Some(0), "{comparisons:#?}");
    let notice = |rule: &str| of(rule)["shortest_seconds"].as_i64().unwrap();
    assert!(notice("proposed") > 10 * notice("funds"), "{comparisons:#?}");
}

#[test]
fn with_the_forecast_the_drained_account_is_notified_much_earlier() {
    let sandbox = SandboxProcess::start("drain", "16d");
    let rules = "rules:
  funds: { metric: available_funds, warning: { below: 2000 } }
  runway: { metric: runway, warning: { below: 14d } }
  spend: { metric: spend, within: 24h, warning: { above: 1500 } }
  due: { metric: renewals_due, within: 30d, warning: { above: 900 } }
";
    let folder = folder(&sandbox.base(), "", rules);
    let found = run(folder.path(), &["backtest", "--days", "20", "-o", "json"]).json();
    let fund = &found["accounts"][0]["funds"][0];
    let raised = |rule: usize| moment(&fund["rules"][rule]["alerts"][0]["raised"]);
    assert!(raised(0) - raised(1) > TimeDelta::days(7), "{} {}", raised(0), raised(1));
    assert_eq!(fund["ran_out"][0]["warnings"][0]["rule"], "runway");
    assert!(fund["rules"].as_array().unwrap().iter().all(|rule| rule["skipped"].is_null()), "{fund:#}");
    assert!(found["assumptions"].as_array().unwrap().iter().any(|it| it.as_str().unwrap().contains("Forecast rules")));
    let text = run(folder.path(), &["backtest", "--days", "20", "--rule", "runway"]).stdout;
    let last = &fund["rules"][1]["alerts"][0]["events"].as_array().unwrap().last().unwrap();
    let days = last["seconds"].as_u64().unwrap() / (24 * 3600);
    assert!(text.contains(&format!("  {days}d  ")), "a runway reads as in check: {text}");
    assert!(!text.contains("less than a minute"), "{text}");
}

#[test]
fn renewals_that_are_paid_by_now_were_due_before() {
    let scenario = "length: 60d
history: 90d
divisions:
  Main:
    id: 5
    balance: 20000
    credit_limit: 0
    orders:
      - { product: DV, price: 20, per_week: 3 }
    renewals:
      - { product: EV, price: 995, count: 5, from: 20d, to: 25d, early: 2d }
";
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(file.path(), scenario).unwrap();
    let sandbox = SandboxProcess::start(file.path().to_str().unwrap(), "30d");
    let rules = "rules:
  due: { metric: renewals_due, warning: { above: 100 }, critical: { above: 4900 }, remind_every: never }
";
    let folder = folder(&sandbox.base(), "", rules);
    let ran = run(folder.path(), &["backtest", "--days", "60", "-o", "json"]);
    let events = events(&ran.json()["accounts"][0]["funds"][0]["rules"][0]);
    let found: Vec<(&str, u32)> =
        events.iter().map(|(_, what, _, due)| (what.as_str(), due.trunc().try_into().unwrap())).collect();
    assert_eq!(found.first().map(|(what, _)| *what), Some("raised"), "{events:?}");
    assert!(found.contains(&("escalated", 4975)), "all five were due at once: {events:?}");
    assert_eq!(found.last(), Some(&("resolved", 0)), "{events:?}");
    let paid = lines(&sandbox, "").into_iter().filter(|(_, change)| *change == Decimal::from(-995));
    let paid: Vec<Time> = paid.map(|(at, _)| at).collect();
    assert_eq!(paid.len(), 5);
    let over = events.last().unwrap().0 - *paid.iter().max().unwrap();
    assert!(over >= TimeDelta::zero() && over < TimeDelta::hours(2), "it was over once the last one was paid: {over}");
}

#[test]
fn the_first_step_of_a_backtest_says_what_check_said_then() {
    let rules = "rules:
  due: { metric: renewals_due, warning: { above: 100 } }
  shortfall: { metric: shortfall, warning: { above: 0 } }
  runway: { metric: runway, warning: { below: 21d } }
";
    let (then, now) = (SandboxProcess::start("renewal-wave", "10d"), SandboxProcess::start("renewal-wave", "24d"));
    let checked = run(folder(&then.base(), "", rules).path(), &["check", "-o", "json"]).json();
    let replayed = run(folder(&now.base(), "", rules).path(), &["backtest", "--days", "14", "-o", "json"]).json();
    for (place, rule) in replayed["accounts"][0]["funds"][0]["rules"].as_array().unwrap().iter().enumerate() {
        let (first, checked) = (&rule["alerts"][0]["events"][0], &checked["results"][place]);
        assert_eq!((&rule["rule"], &checked["level"] != "ok"), (&checked["rule"], true), "{checked:#}");
        assert_eq!(first["amount"], checked["amount"], "{rule:#}");
        let days = |it: &Value| it["seconds"].as_u64().map_or(0, |seconds| seconds / (24 * 3600));
        // The random futures of the forecast depend on the date.
        assert!(days(first).abs_diff(days(checked)) <= 1, "{first} {checked}");
    }
}

/// A ledger that a test writes: newest line first, as in the API.
struct LedgerResponder(Vec<Value>);

impl Respond for LedgerResponder {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let number = |name: &str| {
            let found = request.url.query_pairs().find(|(key, _)| key == name);
            found.map(|(_, value)| value.parse::<usize>().unwrap())
        };
        let (offset, limit) = (number("offset").unwrap_or(0), number("limit").unwrap_or(1000));
        let page: Vec<&Value> = self.0.iter().skip(offset).take(limit).collect();
        let about = json!({ "total": self.0.len(), "offset": offset, "limit": limit });
        ResponseTemplate::new(200).set_body_json(json!({ "adjustments": page, "page": about }))
    }
}

/// Serves an account in USD with a balance and ledger lines, oldest first: time and change.
async fn account(balance: &str, lines: &[(Time, Decimal)], currency: &str) -> MockServer {
    let line = |(number, (at, change)): (usize, &(Time, Decimal))| line(number, *at, *change, currency);
    account_of(balance, lines.iter().enumerate().map(line).collect(), &[]).await
}

fn line(number: usize, at: Time, change: Decimal, currency: &str) -> Value {
    let (side, kind) = if change.is_sign_negative() { ("debit", "Charge") } else { ("credit", "Credit") };
    let at = at.format("%Y-%m-%d %H:%M:%S").to_string();
    json!({ "id": number.to_string(), side: change.abs().to_string(), "transaction_type": kind, "transaction_date": at, "currency": currency })
}

/// Serves an account in USD with a balance, ledger lines, oldest first, and orders.
async fn account_of(balance: &str, lines: Vec<Value>, orders: &[Value]) -> MockServer {
    let server = MockServer::builder().start().await;
    let body = json!({ "balance": balance, "currency": "USD", "negative_balance_limit": "2000.00" });
    let serve = |at: &'static str| Mock::given(method("GET")).and(path(at));
    serve("/finance/balance").respond_with(ResponseTemplate::new(200).set_body_json(body)).mount(&server).await;
    let items: Vec<Value> = lines.into_iter().rev().collect();
    serve("/finance/balance-history").respond_with(LedgerResponder(items)).mount(&server).await;
    let listed = json!({ "orders": orders, "page": { "total": orders.len(), "offset": 0, "limit": 250 } });
    serve("/order/certificate").respond_with(ResponseTemplate::new(200).set_body_json(listed)).mount(&server).await;
    server
}

/// Returns two purchases a week and three deposits. The last line is far in the future, so the output is the same every year.
fn two_a_week() -> Vec<(Time, Decimal)> {
    let start: Time = "2098-09-20T09:00:00Z".parse().unwrap();
    let mut lines = vec![(start, Decimal::from(6000))];
    for day in 0..100 {
        let at = start + TimeDelta::days(day);
        if day % 7 == 1 || day % 7 == 3 {
            lines.push((at + TimeDelta::minutes(7), Decimal::from(-399)));
        }
        if day == 40 || day == 85 {
            lines.push((at + TimeDelta::hours(3), Decimal::from(5000)));
        }
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn the_text_and_the_page_read_well() {
    let lines = two_a_week();
    let balance: Decimal = lines.iter().map(|(_, change)| *change).sum::<Decimal>() - Decimal::from(2000);
    let server = account(&balance.to_string(), &lines, "USD").await;
    let folder = folder(&server.uri(), "", RULES);
    let ran = run(folder.path(), &["backtest", "--suggest"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    insta::assert_snapshot!("backtest_text", ran.stdout);
    let page = run(folder.path(), &["backtest", "--suggest", "-o", "html"]).stdout;
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    for needed in ["name=\"viewport\"", "prefers-color-scheme: dark", "<svg", "aria-label", "Proposed thresholds"] {
        assert!(page.contains(needed), "{needed}");
    }
    assert!(!page.contains('\u{fffd}'), "hidden characters");
    // The page loads nothing.
    for foreign in ["src=", "href=", "url(", "@import", "<script", "<link"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert_eq!(page.matches("<section>").count(), page.matches("</section>").count());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_bars_say_their_own_level_and_days() {
    let lines = two_a_week();
    let balance: Decimal = lines.iter().map(|(_, change)| *change).sum::<Decimal>() - Decimal::from(2000);
    let server = account(&balance.to_string(), &lines, "USD").await;
    let rule = "rules:\n  funds: { metric: available_funds, warning: { below: 3000 }, critical: { below: 2000 } }\n";
    let page = run(folder(&server.uri(), "", rule).path(), &["backtest", "-o", "html"]).stdout;
    let titles: Vec<&str> = page
        .split("<rect class=\"")
        .filter(|part| part.starts_with("warning") || part.starts_with("critical"))
        .map(|part| part.split_once("<title>").unwrap().1.split_once("</title>").unwrap().0)
        .collect();
    let [warning, critical, ..] = &titles[..] else { panic!("{titles:?}") };
    let (became_critical, whole) = critical.strip_prefix("critical from ").unwrap().split_once(" to ").unwrap();
    assert!(warning.starts_with("warning from ") && warning.contains(&format!(" to {became_critical}; ")), "{warning}");
    assert!(whole.split_once("; ").is_some_and(|(_, whole)| warning.ends_with(whole)), "{warning} | {critical}");
}

/// Collects every amount in the JSON, except thresholds.
fn amounts(json: &Value, found: &mut Vec<String>) {
    const KEYS: [&str; 8] =
        ["amount", "typical_order", "lowest", "warning", "critical", "spent_in_14_days", "spent_in_5_days", "below"];
    match json {
        Value::Object(fields) => {
            let own = fields.iter().filter(|(key, _)| KEYS.contains(&key.as_str()) && !fields.contains_key("metric"));
            found.extend(own.filter_map(|(_, value)| value.as_str()).map(str::to_owned));
            fields.iter().filter(|(key, _)| *key != "rules").for_each(|(_, value)| amounts(value, found));
            for rule in fields.get("rules").and_then(Value::as_array).into_iter().flatten() {
                amounts(&rule["alerts"], found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| amounts(item, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn amounts_have_the_decimals_of_their_currency() {
    let lines = two_a_week();
    let balance: Decimal = lines.iter().map(|(_, change)| *change).sum::<Decimal>() - Decimal::from(2000);
    let server = account(&balance.to_string(), &lines, "USD").await;
    let found = run(folder(&server.uri(), "", RULES).path(), &["backtest", "--suggest", "-o", "json"]).json();
    let mut all = Vec::new();
    amounts(&found, &mut all);
    let decimals = |amount: &String| amount.split_once('.').map(|(_, decimals)| decimals.len());
    assert!(all.len() > 20 && all.iter().all(|amount| decimals(amount) == Some(2)), "{all:?}");
}

fn ago(days: i64) -> Time {
    SystemClock.now() - TimeDelta::days(days)
}

/// Builds an order that was placed and ended these numbers of days ago.
fn order(id: u64, name: &str, price: u32, (placed, ended): (i64, i64)) -> Value {
    let (placed, ended) = (ago(placed).date_naive(), ago(ended).date_naive().to_string());
    json!({ "id": id, "status": "issued", "is_renewed": false, "price": price, "validity_years": 1,
        "date_created": format!("{placed}T10:00:00+00:00"), "order_valid_till": ended, "container": { "id": 1 },
        "product": { "name_id": "ssl_plus", "name": "Standard SSL" },
        "certificate": { "common_name": name, "valid_till": ended } })
}

/// Returns a ledger and orders: a renewal, a new order, an order paid by card, a refunded purchase, and two others.
fn of_every_kind() -> (Vec<Value>, Vec<Value>) {
    let lines = [
        (100, 6000, None),
        (60, -250, Some(3)),
        (50, -77, Some(5)),
        (49, 77, Some(5)),
        (25, -330, Some(2)),
        (8, -40, None),
        (7, -60, None),
    ];
    let entry = |(number, (days, change, order)): (usize, (i64, i64, Option<u64>))| {
        let mut line = line(number, ago(days), change.into(), "USD");
        line["order_id"] = json!(order);
        line
    };
    let mut renewed = order(1, "www.example.com", 300, (385, 20));
    (renewed["status"], renewed["is_renewed"]) = (json!("expired"), json!(true));
    let orders = vec![
        renewed,
        order(2, "www.example.com", 330, (25, -345)),
        order(3, "shop.example.com", 250, (60, -305)),
        order(4, "card.example.com", 500, (50, -315)),
    ];
    (lines.into_iter().enumerate().map(entry).collect(), orders)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backtest_says_how_much_of_the_past_year_was_what() {
    let (lines, orders) = of_every_kind();
    let server = account_of("5320.00", lines.clone(), &orders).await;
    let rules = "rules:\n  funds: { metric: available_funds, warning: { below: 2000 } }\n";
    let acme = folder(&server.uri(), "", rules);
    let text = run(acme.path(), &["backtest"]);
    let words = "Purchases of the past year: 1 renewal for USD 330.00, 1 new order for USD 250.00, 2 other purchases for \
                 USD 100.00; 1 refunded; 1 order paid by card or invoice (USD 500.00)";
    assert!(text.stdout.lines().any(|line| line == words), "{}{}", text.stdout, text.stderr);
    assert!(run(acme.path(), &["backtest", "-o", "html"]).stdout.contains(words));
    let sum = |count: u32, amount: &str| json!({ "count": count, "amount": amount, "currency": "USD" });
    let found = run(acme.path(), &["backtest", "-o", "json"]).json();
    let expected = json!({
        "renewals": sum(1, "330.00"), "new_orders": sum(1, "250.00"), "other": sum(2, "100.00"), "refunded": 1,
        "paid_elsewhere": sum(1, "500.00"), "reason": null,
    });
    assert_eq!(found["accounts"][0]["funds"][0]["purchases"], expected);

    // No rule needs the orders, so their refusal is no failure.
    let refused = account_of("5320.00", lines, &orders).await;
    let body = json!({ "errors": [{ "code": "access_denied|missing_permission", "message": "No." }] });
    let refusal = ResponseTemplate::new(403).set_body_json(body);
    let mock = Mock::given(method("GET")).and(path("/order/certificate")).respond_with(refusal);
    mock.with_priority(1).mount(&refused).await;
    let acme = folder(&refused.uri(), "", rules);
    let text = run(acme.path(), &["backtest"]);
    assert_eq!(text.code, Some(0), "{}", text.stderr);
    let words = "Purchases of the past year: cannot be classified, because the orders cannot be read: ";
    assert!(text.stdout.contains(words), "{}", text.stdout);
    let purchases = &run(acme.path(), &["backtest", "-o", "json"]).json()["accounts"][0]["funds"][0]["purchases"];
    assert!(purchases["reason"].as_str().unwrap().contains("403"), "{purchases}");
    let keys: Vec<&String> = expected.as_object().unwrap().keys().collect();
    assert_eq!(purchases.as_object().unwrap().keys().collect::<Vec<_>>(), keys, "no key is left out");
    assert!(purchases["renewals"].is_null() && purchases["refunded"].is_null(), "{purchases}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_reported_with_the_right_exit_code() {
    let lines = two_a_week();
    let server = account("100.00", &lines, "USD").await;
    let folder_of = |uri: &str| folder(uri, "", RULES);
    let good = folder_of(&server.uri());
    let said = |args: &[&str], code: i32, words: &[&str]| {
        let ran = run(good.path(), &[&["backtest"], args].concat());
        assert_eq!(ran.code, Some(code), "{args:?}: {}{}", ran.stdout, ran.stderr);
        for word in words {
            assert!(ran.stderr.contains(word), "{args:?} lacks {word}: {}", ran.stderr);
        }
    };
    said(&["--rule", "fund"], 64, &["no rule is called `fund`", "did you mean `funds`"]);
    said(&["--account", "acne"], 64, &["no account is called `acne`", "did you mean `acme`"]);
    said(&["--division", "7"], 64, &["no account reads division 7"]);
    said(&["--account", "acme", "--division", "7"], 64, &["this account does not read division 7"]);
    for wrong in ["0", "366", "-3", "x"] {
        said(&["--days", wrong], 64, &["a whole number from 1 to 365"]);
    }
    std::fs::write(good.path().join("bad.yaml"), "accounts: {}\n").unwrap();
    said(&["-c", "bad.yaml"], 78, &["bad.yaml"]);

    let empty = account("100.00", &[], "USD").await;
    let ran = run(folder_of(&empty.uri()).path(), &["backtest"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("account acme: there is nothing to replay"), "{}", ran.stderr);

    let other = account("100.00", &lines, "EUR").await;
    let ran = run(folder_of(&other.uri()).path(), &["backtest"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("the ledger has amounts in EUR, but the balance is in USD"), "{}", ran.stderr);

    // The account lists divisions, but not that one; the other account has no divisions at all.
    let listed = account("100.00", &lines, "USD").await;
    let one = json!({ "containers": [{ "id": 5, "name": "Five", "parent_id": 0, "is_active": true }] });
    let listing = Mock::given(method("GET")).and(path("/container"));
    listing.respond_with(ResponseTemplate::new(200).set_body_json(one)).mount(&listed).await;
    let beta = format!("    divisions: all\n  beta:\n    api_key: sandbox-api-key\n    base_url: {}\n", listed.uri());
    let ran = run(folder(&listed.uri(), &beta, RULES).path(), &["backtest", "--division", "9"]);
    assert_eq!((ran.code, &*ran.stdout), (Some(64), ""), "{}", ran.stderr);
    assert!(ran.stderr.contains("CertCentral lists no active division 9 of acme"), "{}", ran.stderr);

    let poor = MockServer::builder().start().await;
    let body = json!({ "balance": "5.00", "currency": "USD", "negative_balance_limit": "0.00" });
    let serve = |at: &'static str| Mock::given(method("GET")).and(path(at));
    serve("/finance/balance").respond_with(ResponseTemplate::new(200).set_body_json(body)).mount(&poor).await;
    let refusal = json!({ "errors": [{ "code": "access_denied|missing_permission", "message": "No." }] });
    let refused = ResponseTemplate::new(403).set_body_json(&refusal);
    // Only the orders cannot be read: rules that need them are skipped, the others are replayed.
    let half = account("100.00", &lines, "USD").await;
    let orders = Mock::given(method("GET")).and(path("/order/certificate")).respond_with(refused.clone());
    orders.with_priority(1).mount(&half).await;
    let both = folder(
        &half.uri(),
        "",
        "rules:\n  funds: { metric: available_funds, warning: { below: 2000 } }\n  due: { metric: renewals_due, warning: { above: 1 } }\n",
    );
    let ran = run(both.path(), &["backtest", "-o", "json"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("account acme: the orders cannot be read"), "{}", ran.stderr);
    let rules = &ran.json()["accounts"][0]["funds"][0]["rules"];
    assert!(rules[0]["skipped"].is_null() && rules[1]["skipped"].is_string(), "{rules}");

    serve("/finance/balance-history").respond_with(refused).mount(&poor).await;
    let ran = run(folder_of(&poor.uri()).path(), &["backtest"]);
    assert_eq!(ran.code, Some(1));
    let role = "a role that sees finances (Administrator, Manager, Finance manager)";
    assert!(ran.stderr.contains("the ledger cannot be read") && ran.stderr.contains(role), "{}", ran.stderr);
    for output in [&ran.stdout, &ran.stderr] {
        assert_eq!(output.matches("ledger cannot be read").count(), 1, "{}{}", ran.stdout, ran.stderr);
    }
    assert!(ran.stdout.starts_with("acme\nfailed: the ledger cannot be read"), "{}", ran.stdout);
}

/// Returns the peak memory of a process, in KiB.
fn peak(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_of_a_hundred_thousand_lines_is_replayed_within_bounds() {
    if std::env::var_os("LOWTIDE_LONG").is_none_or(|value| value != "1") {
        return;
    }
    let start: Time = "2098-01-01T00:00:00Z".parse().unwrap();
    let line = |number: i64| {
        let change = if number % 500 == 0 { 10_500 } else { -21 };
        (start + TimeDelta::seconds(number * 300), Decimal::from(change))
    };
    let lines: Vec<(Time, Decimal)> = (0..100_000).map(line).collect();
    let server = account("1500.00", &lines, "USD").await;
    let rules = "rules:
  funds: { metric: available_funds, warning: { below: 2000 }, critical: { below: 500 } }
  runway: { metric: runway, warning: { below: 14d } }
  spend: { metric: spend, warning: { above: 7000 } }
  expiring: { metric: expiring_funds, warning: { above: 100 } }
";
    let folder = folder(&server.uri(), "", rules);
    let began = Instant::now();
    let args = ["backtest", "--days", "90", "--suggest", "-o", "html"];
    let mut child = command(folder.path(), &args).stdout(Stdio::null()).spawn().unwrap();
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        most = peak(child.id()).unwrap_or(0).max(most);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let (took, mib) = (began.elapsed(), most / 1024);
    eprintln!("100,000 lines read and replayed in {took:?} with {mib} MiB");
    assert!(took < Duration::from_secs(if cfg!(debug_assertions) { 180 } else { 30 }), "{took:?}");
    assert!(mib < 200, "{mib} MiB");
}
