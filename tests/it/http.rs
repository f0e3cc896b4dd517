//! HTTP endpoints of the service: health, readiness, metrics, and who may read them.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::bin::{self, FUNDS, KEY, Service, World, wait_until};
use serde_json::{Value, json};
use wiremock::ResponseTemplate;

const HTTP: &str = "http: { listen: '127.0.0.1:0' }\n";

/// Returns the address from the latest log line that names it, once there are `times` such lines.
fn address(service: &Service, times: usize) -> String {
    wait_until("http", || service.log().matches("http listens").count() >= times);
    let log = service.log();
    let line = log.lines().rfind(|line| line.contains("http listens")).unwrap().to_owned();
    serde_json::from_str::<Value>(&line).unwrap()["listen"].as_str().unwrap().to_owned()
}

/// Sends one request and returns status, headers and body.
fn ask(address: &str, method: &str, path: &str, token: Option<&str>) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{authorization}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), head.to_lowercase(), body.to_owned())
}

fn get(address: &str, path: &str) -> (u16, String) {
    let (status, _, body) = ask(address, "GET", path, None);
    (status, body)
}

/// Waits until the metrics contain these lines, and returns the page.
fn wait_lines(address: &str, lines: &[&str]) -> String {
    let deadline = Instant::now() + Duration::from_secs(15);
    let mut page;
    loop {
        page = get(address, "/metrics").1;
        let missing: Vec<_> = lines.iter().filter(|line| page.lines().all(|it| it != **line)).collect();
        if missing.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "missing after 15 s: {missing:#?} in {page}");
        std::thread::sleep(Duration::from_millis(50));
    }
    page
}

#[tokio::test]
async fn metrics_are_exact_to_the_last_decimal() {
    let world = World::new().await;
    world.config_with(
        "divisions: all",
        &format!("{HTTP}{FUNDS}  slow: {{ metric: balance, warning: {{ below: 5000, for: 1h }}, notify: [slack] }}\n"),
    );
    world.list(&[(11, "History", true), (12, "\"quoted\" \\ back\nslash", true), (13, "Endless", true)]);
    let body = json!({ "balance": "-569.07", "currency": "USD", "unpaid_invoice_balance": "12.50", "negative_balance_limit": "2000.00", "used_credit_from_other_containers": "0.13" });
    world.answer(11, ResponseTemplate::new(200).set_body_json(body));
    world.division_funds(12, "123456789012345678.12345678");
    let body = json!({ "balance": "9000.00", "currency": "EUR", "unlimited_negative_balance": true });
    world.answer(13, ResponseTemplate::new(200).set_body_json(body));
    let service = world.start();
    let address = address(&service, 1);
    world.wait_told(1);
    let page = wait_lines(
        &address,
        &[
            "lowtide_balance{account=\"acme\",division=\"11\",currency=\"USD\"} -569.07",
            "lowtide_available_funds{account=\"acme\",division=\"11\",currency=\"USD\"} 1418.3",
            "lowtide_unpaid_invoices{account=\"acme\",division=\"11\",currency=\"USD\"} 12.5",
            "lowtide_used_credit{account=\"acme\",division=\"11\",currency=\"USD\"} 0.13",
            "lowtide_available_funds{account=\"acme\",division=\"12\",currency=\"USD\"} 123456789012345678.12345678",
            "lowtide_balance{account=\"acme\",division=\"13\",currency=\"EUR\"} 9000",
            "lowtide_unlimited{account=\"acme\",division=\"13\"} 1",
            "lowtide_unlimited{account=\"acme\",division=\"12\"} 0",
            "lowtide_division_info{account=\"acme\",division=\"12\",name=\"\\\"quoted\\\" \\\\ back\\nslash\"} 1",
            "lowtide_divisions_omitted 0",
            "lowtide_alert_level{account=\"acme\",division=\"11\",rule=\"funds\"} 1",
            "lowtide_alert_level{account=\"acme\",division=\"12\",rule=\"funds\"} 0",
            "lowtide_alert_level{account=\"acme\",division=\"11\",rule=\"slow\"} 0",
            "lowtide_alert_pending_level{account=\"acme\",division=\"11\",rule=\"slow\"} 1",
            "lowtide_alert_level{account=\"acme\",division=\"11\",rule=\"unreadable\"} 0",
            "lowtide_events_total{kind=\"raised\"} 1",
            "lowtide_events_total{kind=\"unreadable_raised\"} 0",
            "lowtide_read_errors_total{kind=\"refused\"} 0",
            "lowtide_deliveries_total{notifier=\"slack\",outcome=\"delivered\"} 1",
            "lowtide_pending_events{notifier=\"slack\"} 0",
            "lowtide_account_readable{account=\"acme\"} 1",
            "lowtide_cycles_on_time{account=\"acme\"} 1",
            "lowtide_config_last_reload_successful 1",
        ],
    );
    assert!(
        !page.contains("lowtide_available_funds{account=\"acme\",division=\"13\""),
        "an unlimited balance has no amount: {page}"
    );
    assert!(page.contains(&format!("lowtide_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"))));
    assert!(!page.contains(KEY) && !page.contains(bin::TOKEN));
    let (status, head, _) = ask(&address, "GET", "/metrics", None);
    assert!(status == 200 && head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    promtool(&page);
}

/// Checks the page with Prometheus' own tool, if it is installed.
fn promtool(page: &str) {
    let tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut tool) = tool else {
        println!("skipped: promtool (Debian package prometheus) is not installed");
        return;
    };
    tool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    let output_text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && output_text.is_empty(), "{output_text}\n{page}");
}

#[tokio::test]
async fn metrics_of_an_unreadable_balance_have_its_last_good_time_only() {
    let world = World::new().await;
    world.config(&format!("{HTTP}{FUNDS}"));
    let service = world.start();
    let address = address(&service, 1);
    wait_lines(&address, &["lowtide_balance{account=\"acme\",division=\"\",currency=\"USD\"} 10000"]);
    world.answer(None, ResponseTemplate::new(403));
    let page = wait_lines(
        &address,
        &[
            "lowtide_readable{account=\"acme\",division=\"\"} 0",
            "lowtide_account_readable{account=\"acme\"} 0",
            "lowtide_alert_level{account=\"acme\",division=\"\",rule=\"unreadable\"} 1",
            "lowtide_events_total{kind=\"unreadable_raised\"} 1",
        ],
    );
    assert!(!page.contains("lowtide_balance{") && !page.contains("lowtide_unlimited{"), "{page}");
    let line = |page: &str| {
        page.lines().find(|it| it.starts_with("lowtide_last_good_reading_timestamp_seconds{")).unwrap().to_owned()
    };
    let before = line(&page);
    world.let_a_cycle_pass();
    let page = get(&address, "/metrics").1;
    assert_eq!(line(&page), before);
    let errors = page.lines().find_map(|it| it.strip_prefix("lowtide_read_errors_total{kind=\"refused\"} ")).unwrap();
    assert!(errors.parse::<u32>().unwrap() >= 2, "{page}");
}

#[tokio::test]
async fn service_is_alive_at_start_and_ready_after_the_first_cycles() {
    let world = World::new().await;
    world.config(&format!("{HTTP}{FUNDS}"));
    let body = json!({ "balance": "10000.00", "currency": "USD", "negative_balance_limit": "0.00" });
    world.answer(None, ResponseTemplate::new(200).set_body_json(body).set_delay(Duration::from_secs(2)));
    let service = world.start();
    let address = address(&service, 1);
    assert_eq!(get(&address, "/healthz"), (200, "ok\n".to_owned()));
    let (status, body) = get(&address, "/readyz");
    assert!(status == 503 && body.contains("acme"), "{status} {body}");
    wait_until("readiness", || get(&address, "/readyz") == (200, "ready\n".to_owned()));
    assert_eq!(get(&address, "/").0, 404);
    for (method, path) in [("POST", "/metrics"), ("DELETE", "/healthz"), ("PUT", "/readyz")] {
        assert_eq!(ask(&address, method, path, None).0, 405, "{method} {path}");
    }
    assert_eq!(service.stop(), Some(0));
}

#[tokio::test]
async fn without_the_token_http_shows_only_that_the_service_is_alive() {
    let world = World::new().await;
    std::fs::write(world.path("token"), "open-sesame-1\n").unwrap();
    world.config(&format!("http: {{ listen: '127.0.0.1:0', token_file: token }}\n{FUNDS}"));
    let service = world.start();
    let address = address(&service, 1);
    assert_eq!(get(&address, "/healthz").0, 200);
    for path in ["/metrics", "/readyz", "/nowhere"] {
        let (status, head, body) = ask(&address, "GET", path, None);
        assert!(status == 401 && head.contains("www-authenticate: bearer"), "{path}: {status} {head}");
        assert!(!body.contains("lowtide_"));
        assert_eq!(ask(&address, "GET", path, Some("open-sesame-2")).0, 401);
    }
    assert_eq!(ask(&address, "GET", "/metrics", Some("open-sesame-1")).0, 200);
    std::fs::write(world.path("token"), "open-sesame-2\n").unwrap();
    wait_until("the rotated token", || ask(&address, "GET", "/metrics", Some("open-sesame-2")).0 == 200);
    assert_eq!(ask(&address, "GET", "/metrics", Some("open-sesame-1")).0, 401);
    assert!(!service.log().contains("open-sesame"), "{}", service.log());
}

#[tokio::test]
async fn http_on_a_public_address_needs_a_token_or_permission() {
    let world = World::new().await;
    for (http, code) in [
        ("listen: '0.0.0.0:9095'", 78),
        ("listen: '[::]:9095'", 78),
        ("listen: '0.0.0.0:9095', allow_public: false", 78),
        ("listen: '0.0.0.0:9095', token: 'two words'", 78),
        ("listen: 'localhost'", 78),
        ("allow_public: true", 78),
        ("listen: '0.0.0.0:9095', allow_public: true", 0),
        ("listen: '0.0.0.0:9095', token: open-sesame", 0),
        ("listen: '[::1]:9095'", 0),
    ] {
        world.config(&format!("http: {{ {http} }}\n{FUNDS}"));
        let ran = world.run(&["validate"]);
        assert_eq!(ran.code, Some(code), "{http}: {ran:?}");
        assert!(code == 0 || ran.stdout.contains("  http"), "{ran:?}");
        assert!(!ran.stdout.contains("two words"), "{ran:?}");
    }
}

#[tokio::test]
async fn idle_open_connections_delay_no_notification() {
    let world = World::new().await;
    world.config(&format!("{HTTP}{FUNDS}"));
    let service = world.start_after("ulimit -n 100");
    let address = address(&service, 1);
    let held: Vec<TcpStream> = (0..150).filter_map(|_| TcpStream::connect(&address).ok()).collect();
    assert!(held.len() > 120);
    world.let_a_cycle_pass();
    world.funds("1000.00");
    world.wait_told(1);
    drop(held);
    wait_until("an answer", || get(&address, "/healthz").0 == 200);
    assert!(!service.log().contains("Too many open files"), "{}", service.log());
}

#[tokio::test]
async fn a_reload_moves_the_http_address_unless_the_new_one_is_taken() {
    let world = World::new().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = held.local_addr().unwrap();
    assert_ne!(taken, busy);
    world.config(&format!("http: {{ listen: '{busy}' }}\n{FUNDS}"));
    let ran = world.run(&["run"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("http.listen"), "{ran:?}");
    world.config(&format!("{HTTP}{FUNDS}"));
    let service = world.start();
    let first = address(&service, 1);
    world.config(&format!("http: {{ listen: '127.0.0.2:0' }}\n{FUNDS}"));
    let second = address(&service, 2);
    assert_eq!(get(&second, "/healthz").0, 200);
    wait_until("the end of the first", || TcpStream::connect(&first).is_err());
    world.config(&format!("http: {{ listen: '{busy}' }}\n{FUNDS}"));
    wait_until("the refusal", || service.log().contains("configuration refused"));
    assert_eq!(get(&second, "/healthz").0, 200);
    assert!(get(&second, "/metrics").1.contains("lowtide_config_last_reload_successful 0"));
    world.config(FUNDS);
    wait_until("the end of http", || TcpStream::connect(&second).is_err());
}

#[tokio::test]
async fn unfinished_requests_block_no_other_client() {
    let world = World::new().await;
    world.config(&format!("{HTTP}{FUNDS}"));
    let service = world.start();
    let address = address(&service, 1);
    let mut held = Vec::new();
    for n in 0..80 {
        let mut stream = TcpStream::connect(&address).unwrap();
        let begun: &[u8] = if n % 2 == 0 { b"" } else { b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: " };
        stream.write_all(begun).unwrap();
        held.push(stream);
    }
    let requested_at = Instant::now();
    assert_eq!(get(&address, "/healthz").0, 200);
    assert!(requested_at.elapsed() < Duration::from_secs(5), "{:?}", requested_at.elapsed());
    // Connections that newer ones did not displace are closed after ten seconds.
    for mut stream in held {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let ended = stream.read_to_end(&mut Vec::new());
        assert!(ended.as_ref().map_or_else(|error| error.kind() != ErrorKind::WouldBlock, |_| true), "{ended:?}");
    }
}

#[tokio::test]
async fn failed_save_shows_in_readiness_and_metrics() {
    let world = World::new().await;
    world.config(&format!("{HTTP}{FUNDS}"));
    std::fs::create_dir(world.path("state.json")).unwrap();
    world.funds("1000.00");
    let service = world.start();
    let address = address(&service, 1);
    world.wait_told(1);
    wait_until("the failure", || get(&address, "/readyz").0 == 503 && get(&address, "/readyz").1.contains("state"));
    wait_lines(&address, &["lowtide_state_saved 0"]);
    let log = service.log();
    let line = log.lines().find(|line| line.contains("state cannot be saved")).unwrap();
    assert!(line.contains("\"error\":\"state.json: "), "the line names the file: {line}");
    std::fs::remove_dir(world.path("state.json")).unwrap();
    wait_until("readiness", || get(&address, "/readyz") == (200, "ready\n".to_owned()));
    wait_lines(&address, &["lowtide_state_saved 1", "lowtide_log_lines_dropped_total 0"]);
}
