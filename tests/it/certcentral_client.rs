//! Tests of the `CertCentral` client: its requests, and its errors for every kind of response. No test leaves this
//! machine.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lowtide::certcentral::{BalanceSource, CertCentralClient, HistorySource, RateLimiter, ReadError, ReadErrorKind};
use lowtide::util::clock::SystemClock;
use lowtide::util::http_client;
use lowtide::util::http_client::HttpClientOptions;
use lowtide::util::secret::{Redactor, Secret};
use rust_decimal::Decimal;
use url::Url;
use wiremock::matchers::{method, path, query_param, query_param_is_missing};
use wiremock::{Mock, MockServer, Respond, ResponseTemplate};

const KEY: &str = "KEY-0123456789-SECRET";
const BALANCE: &str = r#"{"balance":"454.00","currency":"USD","negative_balance_limit":"2000.00"}"#;

fn client_with(base: &str, timeout: Duration) -> CertCentralClient {
    let http = http_client::client(&HttpClientOptions { timeout, extra_ca_pem: None, loopback: true }).unwrap();
    let limiter = Arc::new(RateLimiter::new([]));
    CertCentralClient::new(
        "acme",
        Url::parse(base).unwrap(),
        &Secret::new(KEY),
        http,
        limiter,
        Redactor::default(),
        Arc::new(SystemClock),
    )
    .unwrap()
}

fn client(base: &str) -> CertCentralClient {
    client_with(base, Duration::from_secs(5))
}

fn good() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_raw(BALANCE, "application/json")
}

/// Starts a server that answers every request in the same way.
async fn always(answer: impl Respond + 'static) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("GET")).respond_with(answer).mount(&server).await;
    server
}

/// Starts a server that answers the first request with `answer`, and later ones with a good balance.
async fn first(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("GET")).respond_with(answer).up_to_n_times(1).with_priority(1).mount(&server).await;
    Mock::given(method("GET")).respond_with(good()).mount(&server).await;
    server
}

async fn requests(server: &MockServer) -> usize {
    server.received_requests().await.unwrap().len()
}

async fn failure(client: &CertCentralClient) -> ReadError {
    let error = client.balance(None).await.unwrap_err();
    assert!(!format!("{error:?}").contains(KEY), "{error:?}");
    error
}

/// Starts a TCP server that calls `serve` for each connection after reading its request, and returns its base URL.
fn raw(serve: impl Fn(std::net::TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            serve(stream);
        }
    });
    base
}

#[tokio::test]
async fn a_request_carries_the_key_and_the_user_agent() {
    let server = MockServer::start().await;
    Mock::given(path("/services/v2/finance/balance"))
        .and(query_param_is_missing("container_id"))
        .respond_with(good())
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(path("/services/v2/finance/balance"))
        .and(query_param("container_id", "77"))
        .respond_with(ResponseTemplate::new(200).set_body_string(r#"{"balance":-5.5,"currency":"EUR"}"#))
        .expect(1)
        .mount(&server)
        .await;
    for slash in ["", "/"] {
        let client = client(&format!("{}/services/v2{slash}", server.uri()));
        assert!(!format!("{client:?}").contains(KEY));
        let division = if slash.is_empty() { None } else { Some(77) };
        let expected = if slash.is_empty() { Decimal::new(454, 0) } else { Decimal::new(-55, 1) };
        assert_eq!(client.balance(division).await.unwrap().balance, Ok(expected));
    }
    for request in server.received_requests().await.unwrap() {
        let header = |name: &str| request.headers.get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!(header("x-dc-devkey"), KEY);
        assert_eq!(header("accept"), "application/json");
        assert_eq!(header("content-type"), "application/json");
        assert_eq!(header("user-agent"), concat!("lowtide/", env!("CARGO_PKG_VERSION")));
        assert!(!request.headers.contains_key("accept-encoding"));
    }
}

#[tokio::test]
async fn active_divisions_are_listed() {
    let server = MockServer::start().await;
    let body = r#"{"containers":[{"id":5,"name":"History"},{"id":6,"name":"Arts","is_active":false},{"id":7,"is_active":true}]}"#;
    Mock::given(path("/container")).respond_with(ResponseTemplate::new(200).set_body_string(body)).mount(&server).await;
    let listed = client(&server.uri()).divisions().await.unwrap();
    let found: Vec<(u64, &str)> = listed.iter().map(|division| (division.id, division.name.as_str())).collect();
    assert_eq!(found, [(5, "History"), (7, "division 7")]);
}

#[tokio::test]
async fn every_status_has_its_kind_its_retries_and_a_hint() {
    use ReadErrorKind::{RateLimited, Refused, Server};
    let cases = [
        (400, Refused, 1, "`divisions:`"),
        (401, Refused, 1, "API key"),
        (403, Refused, 1, "a role that sees finances (Administrator, Manager, Finance manager)"),
        (404, Refused, 1, "base_url"),
        (410, Refused, 1, "410 Gone"),
        (304, Refused, 1, "304 Not Modified"),
        (408, Server, 3, "408 Request Timeout"),
        (425, Server, 3, "425 Too Early"),
        (429, RateLimited, 3, "too many requests"),
        (500, Server, 3, "500 Internal Server Error"),
        (503, Server, 3, "maintenance"),
        (599, Server, 3, "599"),
    ];
    let run = cases.map(|(status, kind, count, hint)| async move {
        let body = r#"{"errors":[{"code":"some_code","message":"Some\nmessage"}]}"#;
        let server = always(ResponseTemplate::new(status).set_body_string(body)).await;
        let error = failure(&client(&server.uri())).await;
        assert_eq!((error.kind, requests(&server).await), (kind, count), "{error}");
        assert!(error.reason.starts_with(&format!("GET /finance/balance answered {status}")), "{error}");
        assert!(error.reason.contains(hint), "{error}");
        assert_eq!(error.reason.contains("some_code (Some message)"), status != 304, "{error}");
    });
    futures_util::future::join_all(run).await;
}

#[tokio::test]
async fn a_wrong_key_and_an_insufficient_role_are_distinguished() {
    let (wrong, role) = ("the API key is wrong or was revoked", "a role that sees finances");
    for (code, is_key) in [
        ("access_denied|access_denied_invalid_key", true),
        ("access_denied|missing_permission", false),
        ("access_denied", false),
        ("access_denied|access_denied_invalid_keys", false),
    ] {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"No."}}]}}"#);
        let server = always(ResponseTemplate::new(403).set_body_string(body)).await;
        let client = client(&server.uri());
        let day = chrono::NaiveDate::from_ymd_opt(2026, 1, 1).unwrap();
        let errors = [
            client.balance(None).await.unwrap_err(),
            client.divisions().await.unwrap_err(),
            client.ledger(None, None).await.unwrap_err(),
            client.orders(day, day).await.unwrap_err(),
            client.order_end(7).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind, ReadErrorKind::Refused);
            assert_eq!((error.reason.contains(wrong), error.reason.contains(role)), (is_key, !is_key), "{error}");
        }
    }
}

#[tokio::test]
async fn a_transient_failure_is_retried_to_success() {
    let server = first(ResponseTemplate::new(502)).await;
    assert!(client(&server.uri()).balance(None).await.is_ok());
    assert_eq!(requests(&server).await, 2);
}

#[tokio::test]
async fn a_redirect_is_reported_by_host_and_not_followed() {
    let other = always(good()).await;
    let target = format!("http://localhost:{}/secret/path", other.address().port());
    let server = always(ResponseTemplate::new(302).insert_header("Location", target.as_str())).await;
    let error = failure(&client(&server.uri())).await;
    assert_eq!(error.kind, ReadErrorKind::Refused);
    assert!(error.reason.contains("redirected to host localhost, not followed"), "{error}");
    assert!(!error.reason.contains("secret"), "{error}");
    assert_eq!(requests(&other).await, 0);
}

#[tokio::test]
async fn a_late_response_is_a_timeout_and_retried_once() {
    let server = always(good().set_delay(Duration::from_secs(30))).await;
    let error = failure(&client_with(&server.uri(), Duration::from_millis(200))).await;
    assert_eq!((error.kind, requests(&server).await), (ReadErrorKind::Timeout, 2), "{error}");
    assert_eq!(error.reason, "GET /finance/balance failed: no complete answer in time");
}

#[tokio::test]
async fn a_body_that_trickles_does_not_outlast_the_timeout() {
    let base = raw(|mut stream| {
        std::thread::spawn(move || {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n");
            while stream.write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_millis(100));
            }
        });
    });
    let started = Instant::now();
    let error = failure(&client_with(&base, Duration::from_millis(400))).await;
    assert_eq!(error.kind, ReadErrorKind::Timeout, "{error}");
    assert!(started.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn undocumented_bodies_are_invalid_and_not_retried() {
    let html = "<html><body>We are\nsorry</body></html>".to_owned();
    let cases = [
        (html, "text/html", "its body (text/html) is not a JSON object; it begins with: <html><body>We are sorry"),
        (String::new(), "application/json", "is empty"),
        (format!("{BALANCE}{}", " ".repeat(1024 * 1024)), "application/json", "the body is longer than 1048576 bytes"),
    ];
    for (body, media_type, expected) in cases {
        let server = always(ResponseTemplate::new(200).set_body_raw(body, media_type)).await;
        let error = failure(&client(&server.uri())).await;
        assert_eq!((error.kind, requests(&server).await), (ReadErrorKind::InvalidResponse, 1), "{error}");
        assert!(error.reason.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_connection_closed_within_a_body_is_a_connection_failure() {
    let base = raw(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"balance\":\"1\"");
    });
    let error = failure(&client(&base)).await;
    assert_eq!(error.kind, ReadErrorKind::Connect, "{error}");
    assert!(error.reason.contains("the connection broke"), "{error}");
}

#[tokio::test]
async fn a_key_that_the_server_echoes_is_redacted() {
    let error_body = format!(r#"{{"errors":[{{"code":"bad","message":"key {KEY} unknown"}}]}}"#);
    let balance_body = format!(r#"{{"balance":"{KEY}","currency":"USD"}}"#);
    for (status, body) in
        [(401, error_body), (403, format!("no {KEY}")), (200, KEY.to_owned()), (200, format!("{{\"{KEY}"))]
    {
        let server = always(ResponseTemplate::new(status).set_body_string(body)).await;
        let error = failure(&client(&server.uri())).await;
        assert!(error.reason.contains("***"), "{error}");
    }
    let server = always(ResponseTemplate::new(200).set_body_string(balance_body)).await;
    let problem = client(&server.uri()).balance(None).await.unwrap().balance.unwrap_err();
    assert!(problem.to_string().contains("(found \"***\")"), "{problem}");
}

#[tokio::test]
async fn a_short_pause_is_waited_out() {
    let server = first(ResponseTemplate::new(429).insert_header("Retry-After", "2")).await;
    let started = Instant::now();
    assert!(client(&server.uri()).balance(None).await.is_ok());
    assert!(started.elapsed() >= Duration::from_secs(2) && started.elapsed() < Duration::from_secs(4));
    assert_eq!(requests(&server).await, 2);
}

#[tokio::test]
async fn no_request_is_sent_during_a_long_pause() {
    for (status, kind) in [(429, ReadErrorKind::RateLimited), (503, ReadErrorKind::Server)] {
        let server = first(ResponseTemplate::new(status).insert_header("Retry-After", "120")).await;
        let client = client(&server.uri());
        let error = failure(&client).await;
        assert!(error.reason.contains("nothing is sent before 2"), "{error}");
        let again = failure(&client).await;
        assert!(
            again.reason.starts_with("no request was sent, because the server asked for a pause until 2"),
            "{again}"
        );
        assert_eq!((error.kind, again.kind, requests(&server).await), (kind, kind, 1));
    }
}

#[tokio::test]
async fn an_outage_does_not_multiply_requests() {
    let server = always(ResponseTemplate::new(500)).await;
    let client = client(&server.uri());
    let reads = (0..100).map(|id| client.balance(Some(id)));
    assert!(futures_util::future::join_all(reads).await.iter().all(Result::is_err));
    assert_eq!(requests(&server).await, 110);
}

#[tokio::test]
async fn an_unreachable_server_is_a_failed_connection() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (refused, unknown) =
        (client(&format!("http://127.0.0.1:{port}")), client("http://no-such-host.invalid/services/v2"));
    let (refused, unknown) = tokio::join!(failure(&refused), failure(&unknown));
    assert_eq!((refused.kind, unknown.kind), (ReadErrorKind::Connect, ReadErrorKind::Connect));
    assert!(refused.reason.contains("refused"), "{refused}");
    assert!(unknown.reason.contains("cannot be resolved"), "{unknown}");
}

#[tokio::test]
async fn a_key_that_fits_no_header_is_refused() {
    let http =
        http_client::client(&HttpClientOptions { timeout: Duration::from_secs(1), extra_ca_pem: None, loopback: true })
            .unwrap();
    let base = Url::parse("http://localhost").unwrap();
    let result = CertCentralClient::new(
        "acme",
        base,
        &Secret::new("line\nbreak"),
        http,
        Arc::new(RateLimiter::new([])),
        Redactor::default(),
        Arc::new(SystemClock),
    );
    assert!(!result.unwrap_err().to_string().contains("break\n"));
}
