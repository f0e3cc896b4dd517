//! Faults of `CertCentral`, or of a server in its place: the readings, the messages, and the alerts that must not
//! change.
//!
//! The first tests read a table of raw responses with the client; then a service meets them in stepped time; then the
//! real binary does. No test leaves this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::bin::{self, KEY, World, wait_until};
use crate::support::faults::{Fault, FaultServer, Identity, gzip_bomb, http, nobody, ok, status};
use crate::support::sample;
use async_trait::async_trait;
use lowtide::alerting::policy::{AccountPolicy, DivisionScope};
use lowtide::alerting::process::process;
use lowtide::alerting::readings::{AccountReadings, DivisionReading};
use lowtide::alerting::state::State;
use lowtide::certcentral::{BalanceSource, CertCentralClient, RateLimiter, ReadError, ReadErrorKind};
use lowtide::domain::alert::{AlertKey, TransitionKind};
use lowtide::domain::balance::{Balance, Persistence, Reading, Unreadable};
use lowtide::domain::event::{Event, EventSubject, UnreadableEvent};
use lowtide::domain::money::parse_amount;
use lowtide::domain::rule::{Level, Metric, Rule, Severity, ThresholdAmount, ThresholdSide, UnreadablePolicy};
use lowtide::domain::{Name, Time};
use lowtide::notify::channels::email::rendering::email;
use lowtide::polling::poller::{Poller, PollerState};
use lowtide::state::{JsonPieces, StateBackend, StateStore};
use lowtide::util::clock::Clock;
use lowtide::util::clock::SystemClock;
use lowtide::util::http_client;
use lowtide::util::http_client::HttpClientOptions;
use lowtide::util::secret::{Redactor, Secret};
use url::Url;

/// A balance with all fields of the API and available funds of USD 900.00.
const GOOD: &str = r#"{"balance":"-1000.00","currency":"USD","unpaid_invoice_balance":"90.00","negative_balance_limit":"2000.00","used_credit_from_other_containers":"10.00","total_available_funds":"900.00"}"#;
/// Readings of [`GOOD`]: available funds, balance, unpaid invoices, used credit.
const GOOD_READINGS: [&str; 4] = ["USD 900.00", "USD \u{2212}1,000.00", "USD 90.00", "USD 10.00"];
/// Timeout for responses that never come.
const SHORT_TIMEOUT: Duration = Duration::from_millis(1500);
/// Timeout for responses that do come, even on a busy machine.
const LONG_TIMEOUT: Duration = Duration::from_secs(30);

fn client(base: &str, ca_pem: &str, timeout: Duration) -> CertCentralClient {
    // Clients are shared, since building one takes so long that timeouts of other requests would expire meanwhile.
    static CLIENTS: Mutex<BTreeMap<(String, Duration), reqwest::Client>> = Mutex::new(BTreeMap::new());
    let build = || {
        let extra_ca_pem = (!ca_pem.is_empty()).then(|| ca_pem.as_bytes().to_vec());
        http_client::client(&HttpClientOptions { timeout, extra_ca_pem, loopback: true }).unwrap()
    };
    let http = CLIENTS.lock().unwrap().entry((ca_pem.to_owned(), timeout)).or_insert_with(build).clone();
    let (base, redactor) = (Url::parse(base).unwrap(), Redactor::default());
    CertCentralClient::new(
        "acme",
        base,
        &Secret::new(KEY),
        http,
        Arc::new(RateLimiter::new([])),
        redactor,
        Arc::new(SystemClock),
    )
    .unwrap()
}

fn readings(balance: &Balance) -> Vec<String> {
    let metrics = Metric::FROM_BALANCE.into_iter().map(|metric| match balance.reading(metric) {
        Reading::Amount(money) => money.to_string(),
        Reading::Unlimited => "unlimited".to_owned(),
        Reading::Time(_) | Reading::NotYetKnown(_) | Reading::NotYetRead(_) => {
            panic!("a balance always has a reading of {metric}")
        }
        Reading::Unreadable(why) => {
            assert_eq!(
                why.persistence,
                Persistence::Transient,
                "a malformed field is a transient failure: {}",
                why.reason
            );
            format!("unreadable: {}", why.reason)
        }
    });
    metrics.collect()
}

/// The expected result of a read.
enum ExpectedOutcome {
    /// A good reading of [`GOOD`].
    Good,
    /// A failure of this kind, after this number of requests, whose reason contains these texts.
    Failure(ReadErrorKind, usize, &'static [&'static str]),
}

use ExpectedOutcome::Failure;
use ReadErrorKind::{Connect, InvalidResponse, Refused, Server, Timeout};

fn chunked(chunks: &[u8], end: bool) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    bytes.extend_from_slice(format!("{:x}\r\n", chunks.len()).as_bytes());
    bytes.extend_from_slice(chunks);
    bytes.extend_from_slice(if end { b"\r\n0\r\n\r\n" } else { b"\r\n" });
    bytes
}

fn head(extra: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{extra}\r\n").into_bytes()
}

/// A response that declares its body as gzip.
fn gzipped(body: &[u8]) -> Fault {
    Fault::Bytes(http("200 OK", &["Content-Type: application/json", "Content-Encoding: gzip"], body))
}

/// Returns [`GOOD`] padded to this length.
fn padded(length: usize) -> String {
    format!("{GOOD}{}", " ".repeat(length - GOOD.len()))
}

/// Returns a gzip stream with one stored block, which a careless client would decompress into a good balance.
fn stored_gzip(body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap();
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&(!length).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(&[0; 8]);
    bytes
}

fn answers() -> Vec<(&'static str, Fault, ExpectedOutcome)> {
    let interval = Duration::from_millis(100);
    let mebibyte = 1024 * 1024;
    let half = &GOOD.as_bytes()[..60];
    let utf16: Vec<u8> = GOOD.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut latin1 = GOOD.as_bytes().to_vec();
    latin1.insert(2, 0xe4);
    let html = "<!doctype html><html><title>Sign in</title>";
    let duplicate = |key: &str, value: &str| ok(GOOD.replacen('{', &format!("{{\"{key}\":{value},"), 1));
    let trickled = |extra: &str| Fault::Drip(head(extra), interval);
    vec![
        ("a good answer", ok(GOOD), ExpectedOutcome::Good),
        ("no answer at all", Fault::Hang(vec![]), Failure(Timeout, 2, &["no complete answer in time"])),
        (
            "half a head",
            Fault::Hang(b"HTTP/1.1 200 OK\r\nConte".to_vec()),
            Failure(Timeout, 2, &["no complete answer"]),
        ),
        (
            "a head that trickles",
            Fault::Drip(b"HTTP/1.1 200 OK\r\nX: ".to_vec(), interval),
            Failure(Timeout, 2, &["in time"]),
        ),
        (
            "a body that trickles",
            trickled("Content-Length: 999\r\n"),
            Failure(Timeout, 2, &["no complete answer in time"]),
        ),
        ("an endless body that trickles", trickled(""), Failure(Timeout, 2, &["no complete answer in time"])),
        (
            "half a body, then silence",
            Fault::Hang(http("200 OK", &[], GOOD)[..150].to_vec()),
            Failure(Timeout, 2, &["in time"]),
        ),
        ("a body of a mebibyte", ok(padded(mebibyte)), ExpectedOutcome::Good),
        (
            "one byte more",
            ok(padded(mebibyte + 1)),
            Failure(InvalidResponse, 1, &["the body is longer than 1048576 bytes"]),
        ),
        (
            "an endless body",
            Fault::Flood(head(""), vec![b' '; 65536]),
            Failure(InvalidResponse, 1, &["longer than 1048576 bytes"]),
        ),
        (
            "endless chunks",
            Fault::Flood(
                chunked(half, false),
                b"400\r\n".iter().copied().chain([b' '; 1024]).chain(*b"\r\n").collect(),
            ),
            Failure(InvalidResponse, 1, &["longer than 1048576 bytes"]),
        ),
        (
            "an error with an endless body",
            Fault::Flood(b"HTTP/1.1 503 Service Unavailable\r\n\r\n".to_vec(), vec![b'x'; 65536]),
            Failure(Server, 3, &["503", "maintenance"]),
        ),
        (
            "a refusal with an endless body",
            Fault::Flood(b"HTTP/1.1 403 Forbidden\r\n\r\n".to_vec(), vec![b'x'; 65536]),
            Failure(Refused, 1, &["403", "a role that sees finances"]),
        ),
        (
            "an endless head",
            Fault::Flood(b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 65536]),
            Failure(Connect, 3, &["the connection broke"]),
        ),
        (
            "too many headers",
            Fault::Bytes(http("200 OK", &["X: y"; 500], GOOD)),
            Failure(Connect, 3, &["the connection broke"]),
        ),
        ("an end at once", Fault::Bytes(vec![]), Failure(Connect, 3, &["the connection broke"])),
        ("a reset", Fault::Reset, Failure(Connect, 3, &["the connection broke"])),
        (
            "an end in the middle of the body",
            Fault::Bytes([head("Content-Length: 300\r\n"), half.to_vec()].concat()),
            Failure(Connect, 3, &["the connection broke"]),
        ),
        (
            "an end in the middle of the chunks",
            Fault::Bytes(chunked(GOOD.as_bytes(), false)),
            Failure(Connect, 3, &["the connection broke"]),
        ),
        (
            "an end that hides that it is early",
            Fault::Bytes([head(""), half.to_vec()].concat()),
            Failure(InvalidResponse, 1, &["is not the documented JSON", "EOF"]),
        ),
        (
            "a length that is too short",
            Fault::Bytes([head("Content-Length: 60\r\n"), GOOD.into()].concat()),
            Failure(InvalidResponse, 1, &["EOF"]),
        ),
        (
            "two lengths",
            Fault::Bytes([head("Content-Length: 60\r\nContent-Length: 61\r\n"), GOOD.into()].concat()),
            Failure(Connect, 3, &["the connection broke"]),
        ),
        ("chunks", Fault::Bytes(chunked(GOOD.as_bytes(), true)), ExpectedOutcome::Good),
        (
            "chunks of no length",
            Fault::Bytes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec()),
            Failure(Connect, 3, &["the connection broke"]),
        ),
        (
            "another protocol",
            Fault::Bytes(b"220 mail.example.com ESMTP\r\n".to_vec()),
            Failure(Connect, 3, &["the connection broke"]),
        ),
        (
            "an early hint, then the answer",
            Fault::Bytes([b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec(), http("200 OK", &[], GOOD)].concat()),
            ExpectedOutcome::Good,
        ),
        (
            "another protocol, by agreement",
            status("101 Switching Protocols", &["Upgrade: h2c", "Connection: upgrade"], ""),
            Failure(InvalidResponse, 1, &["101 Switching Protocols"]),
        ),
        (
            "a good balance in gzip",
            gzipped(&stored_gzip(GOOD.as_bytes())),
            Failure(InvalidResponse, 1, &["is compressed", "not requested"]),
        ),
        ("a gzip bomb of 64 MiB", gzipped(&gzip_bomb(64)), Failure(InvalidResponse, 1, &["is compressed"])),
        (
            "a gzip bomb of 1 GiB",
            gzipped(&gzip_bomb(1024)),
            Failure(InvalidResponse, 1, &["longer than 1048576 bytes"]),
        ),
        ("gzip by name only", gzipped(GOOD.as_bytes()), ExpectedOutcome::Good),
        (
            "an HTML page",
            Fault::Bytes(http("200 OK", &["Content-Type: text/html; charset=utf-8"], html)),
            Failure(InvalidResponse, 1, &["(text/html)", "is not a JSON object", "<!doctype html>"]),
        ),
        ("an HTML page that says it is JSON", ok(html), Failure(InvalidResponse, 1, &["is not a JSON object"])),
        (
            "JSON that says it is HTML",
            Fault::Bytes(http("200 OK", &["Content-Type: text/html"], GOOD)),
            ExpectedOutcome::Good,
        ),
        ("no content", status("204 No Content", &[], ""), Failure(InvalidResponse, 1, &["204 No Content", "is empty"])),
        ("white space", ok(" \r\n "), Failure(InvalidResponse, 1, &["is empty"])),
        ("UTF-16", ok(utf16), Failure(InvalidResponse, 1, &["is not the documented JSON"])),
        ("Latin-1", ok(latin1), Failure(InvalidResponse, 1, &["is not UTF-8"])),
        ("a list", ok(format!("[{GOOD}]")), Failure(InvalidResponse, 1, &["is not a JSON object"])),
        ("two objects", ok([GOOD, GOOD].concat()), Failure(InvalidResponse, 1, &["trailing characters"])),
        (
            "another object",
            ok(r#"{"containers":[]}"#),
            Failure(InvalidResponse, 1, &["has neither `balance` nor `currency`"]),
        ),
        (
            "an error with 200",
            ok(r#"{"errors":[{"code":"access_denied","message":"No"}]}"#),
            Failure(InvalidResponse, 1, &["access_denied (No)"]),
        ),
        (
            "a balance twice",
            duplicate("balance", "\"9999.00\""),
            Failure(InvalidResponse, 1, &["duplicate field `balance`"]),
        ),
        (
            "a flag twice",
            ok(GOOD.replacen('{', r#"{"unlimited_negative_balance":true,"unlimited_negative_balance":false,"#, 1)),
            Failure(InvalidResponse, 1, &["duplicate field `unlimited_negative_balance`"]),
        ),
        (
            "a balance twice, once in disguise",
            duplicate("bal\\u0061nce", "\"9999.00\""),
            Failure(InvalidResponse, 1, &["duplicate field `balance`"]),
        ),
        (
            "a currency twice",
            duplicate("currency", "\"USD\""),
            Failure(InvalidResponse, 1, &["duplicate field `currency`"]),
        ),
        ("an unknown key twice", ok(GOOD.replacen('{', r#"{"new":1,"new":2,"#, 1)), ExpectedOutcome::Good),
    ]
}

/// Reads once, and returns the differences from the expected result.
async fn differences(
    name: &str,
    client: &CertCentralClient,
    server: Option<&FaultServer>,
    expected: &ExpectedOutcome,
) -> Vec<String> {
    let read = client.balance(None).await;
    let mut wrong = Vec::new();
    match (&read, expected) {
        (Ok(balance), ExpectedOutcome::Good) if readings(balance) == GOOD_READINGS => {}
        (Err(error), Failure(kind, attempts, texts)) => {
            if error.kind != *kind {
                wrong.push(format!("the kind is {:?}", error.kind));
            }
            let missing = texts.iter().filter(|text| !error.reason.contains(**text));
            wrong.extend(missing.map(|text| format!("{text:?} is missing")));
            let sent = server.map_or(*attempts, |server| server.requests().len());
            if sent != *attempts {
                wrong.push(format!("{sent} requests"));
            }
            wrong.extend(reason_problems(error).into_iter().map(str::to_owned));
        }
        _ => wrong.push("another result".to_owned()),
    }
    wrong.into_iter().map(|what| format!("{name}: {what}: {read:?}")).collect()
}

/// Returns the problems of a reason. It must be one short printable line that names the request and contains no secret.
fn reason_problems(error: &ReadError) -> Vec<&'static str> {
    let reason = &error.reason;
    let persistence = Unreadable::from(error.clone()).persistence;
    let checks = [
        (reason.starts_with("GET /"), "it does not name the request"),
        (reason.chars().count() < 500, "it is too long"),
        (!reason.chars().any(char::is_control) && !reason.contains("\u{fffd}\u{fffd}"), "it is not printable"),
        (!reason.contains(KEY) && !reason.contains("://"), "it contains a secret or an address"),
        ((persistence == Persistence::Transient) == (error.kind != Refused), "its persistence is wrong"),
    ];
    checks.into_iter().filter(|(holds, _)| !holds).map(|(_, what)| what).collect()
}

fn expect_no_differences(wrong: Vec<Vec<String>>) {
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn every_response_has_its_reading_or_failure() {
    let rows = answers().into_iter().map(|(name, fault, expected)| async move {
        let server = FaultServer::plain(fault);
        let limit = if matches!(expected, Failure(Timeout, ..)) { SHORT_TIMEOUT } else { LONG_TIMEOUT };
        differences(name, &client(&server.base(), "", limit), Some(&server), &expected).await
    });
    expect_no_differences(futures_util::future::join_all(rows).await);
}

#[tokio::test]
async fn invalid_certificates_are_refused_before_the_key_is_sent() {
    let rows: [(Identity, ExpectedOutcome); 8] = [
        (Identity::Good, ExpectedOutcome::Good),
        (Identity::Expired, Failure(Connect, 0, &["no trustworthy TLS connection", "expired"])),
        (Identity::Early, Failure(Connect, 0, &["no trustworthy TLS connection", "not valid yet"])),
        (
            Identity::OtherName,
            Failure(Connect, 0, &["no trustworthy TLS connection", "not valid for name \"localhost\""]),
        ),
        (Identity::SelfSigned, Failure(Connect, 0, &["no trustworthy TLS connection", "ca_file"])),
        (Identity::NoTls, Failure(Connect, 0, &["no trustworthy TLS connection"])),
        (Identity::Broken, Failure(Connect, 0, &["no connection"])),
        (Identity::Mute, Failure(Timeout, 0, &["no connection in time"])),
    ];
    let rows = rows.map(|(identity, expected)| {
        let (name, server) = (format!("{identity:?}"), FaultServer::start(identity, ok(GOOD)));
        let limit = if identity == Identity::Mute { SHORT_TIMEOUT } else { LONG_TIMEOUT };
        let client = client(&server.base(), &server.ca_pem, limit);
        async move {
            let wrong = differences(&name, &client, Some(&server), &expected).await;
            let arrived = server.requests().iter().any(|request| request.contains(KEY));
            assert_eq!(arrived, identity == Identity::Good, "{name}: the key");
            wrong
        }
    });
    expect_no_differences(futures_util::future::join_all(rows).await);
}

#[tokio::test]
async fn connection_failures_are_transient() {
    let full = tokio::net::TcpSocket::new_v4().unwrap();
    full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = full.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let fill = (0..16).map(|_| {
        let connect = tokio::net::TcpStream::connect(address);
        tokio::spawn(tokio::time::timeout(SHORT_TIMEOUT * 5, connect))
    });
    let _queue: Vec<_> = fill.collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let rows = [
        ("refused", nobody(), Failure(Connect, 0, &["no connection", "refused"])),
        ("unknown", "http://no-such-host.invalid".to_owned(), Failure(Connect, 0, &["cannot be resolved", "base_url"])),
        ("a queue that is full", format!("http://{address}"), Failure(Timeout, 0, &["no connection in time"])),
    ];
    let rows = rows.map(|(name, base, expected)| async move {
        differences(name, &client(&base, "", SHORT_TIMEOUT), None, &expected).await
    });
    expect_no_differences(futures_util::future::join_all(rows).await);
}

/// Starts a proxy that answers every CONNECT request with this status line. Returns its address and the requests it
/// receives.
fn proxy(status: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let proxied: Arc<Mutex<Vec<String>>> = Arc::default();
    let requests = Arc::clone(&proxied);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            use std::io::{Read, Write};
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or_default();
            requests.lock().unwrap().push(String::from_utf8_lossy(&request[..length]).into_owned());
            let _ = stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes());
        }
    });
    (address, proxied)
}

/// Returns a world whose account and webhook have host names that do not resolve.
async fn unresolvable_world() -> World {
    let world = World::new().await;
    let text = format!(
        "accounts: {{ acme: {{ api_key: {KEY}, base_url: 'https://api.lowtide.invalid:8443/v2' }} }}\nnotifiers: {{ hook: {{ type: webhook, url: 'https://hooks.lowtide.invalid/x' }} }}\nrules:\n  funds: {{ metric: available_funds, warning: {{ below: 1000 }} }}\n"
    );
    std::fs::write(world.path("alerts.yaml"), text).unwrap();
    world
}

#[tokio::test]
async fn a_proxy_failure_names_the_proxy_its_status_and_a_hint() {
    let world = unresolvable_world().await;
    let rows = [
        (Some("407 Proxy Authentication Required"), "answered 407", "credentials in HTTPS_PROXY"),
        (Some("403 Forbidden"), "answered 403", "NO_PROXY"),
        (Some("502 Bad Gateway"), "answered 502", "cannot reach"),
        (None, "no connection to the proxy", "HTTPS_PROXY"),
    ];
    for (status, what, hint) in rows {
        let closed = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let (address, proxied) = status.map_or_else(|| (closed(), Arc::default()), proxy);
        let with_credentials = format!("http://somebody:pa55word@{address}");
        for args in [&["validate", "--online"][..], &["test-notify"]] {
            let ran = world.run_with(args, &[("HTTPS_PROXY", &with_credentials)]);
            let output = ran.output();
            assert_eq!(ran.code, Some(1), "{output}");
            for word in [what, hint, &address] {
                assert!(output.contains(word), "{status:?}, {args:?}: {word:?} is not in {output}");
            }
            for word in ["base_url", "DNS", "somebody", "pa55word"] {
                assert!(!output.contains(word), "{status:?}, {args:?}: {word:?} is in {output}");
            }
        }
        let requests = proxied.lock().unwrap().clone();
        assert_eq!(requests.is_empty(), status.is_none());
        for request in requests {
            let shown = request.to_lowercase().contains("\r\nproxy-authorization: basic c29tzwjvzhk6cge1nxdvcmq=\r\n");
            assert!(shown && !request.contains(KEY), "{request}");
        }
    }
    let ran = world.run_with(&["validate", "--online"], &[("https_proxy", "no-such-proxy.invalid:3128")]);
    let output = ran.output();
    assert!(output.contains("no-such-proxy.invalid:3128") && output.contains("https_proxy"), "{output}");
    assert!(!output.contains("base_url"), "{output}");
}

#[tokio::test]
async fn a_working_proxy_is_used() {
    let world = World::new().await;
    let config = std::fs::read_to_string(world.path("alerts.yaml")).unwrap();
    let base = config.lines().find_map(|line| line.trim().strip_prefix("base_url: ")).unwrap();
    let far = config.replace(base, "http://api.lowtide.invalid\n    allow_insecure: true");
    std::fs::write(world.path("alerts.yaml"), far).unwrap();
    assert_eq!(world.run(&["validate", "--online"]).code, Some(1), "the host name does not resolve");
    let ran = world.run_with(&["validate", "--online"], &[("HTTP_PROXY", base)]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[tokio::test]
async fn hosts_in_no_proxy_by_wildcard_or_port_are_reached_directly() {
    let world = unresolvable_world().await;
    let (address, proxied) = proxy("502 Bad Gateway");
    for (exceptions, to_account, to_hook) in [
        ("*.lowtide.invalid", false, false),
        ("other.invalid, API.lowtide.invalid:8443", false, true),
        ("api.lowtide.invalid:443 hooks.lowtide.invalid:443", true, false),
        ("10.0.0.0/8", true, true),
    ] {
        for (args, through) in [(&["validate", "--online"][..], to_account), (&["test-notify"], to_hook)] {
            proxied.lock().unwrap().clear();
            let ran = world.run_with(args, &[("HTTPS_PROXY", &address), ("NO_PROXY", exceptions)]);
            assert_eq!(!proxied.lock().unwrap().is_empty(), through, "{exceptions}, {args:?}: {ran:?}");
            let output = ran.output();
            assert_eq!(output.contains("answered 502"), through, "{exceptions}: {output}");
            assert_eq!(output.contains("cannot be resolved"), !through, "{exceptions}: {output}");
        }
    }
}

#[tokio::test]
async fn every_http_status_has_its_persistence_and_no_redirect_gets_the_key() {
    let redirect_target = FaultServer::plain(ok(GOOD));
    let refused: Vec<u16> =
        (300..=308).chain(400..=451).chain([498, 499]).filter(|code| ![408, 425, 429].contains(code)).collect();
    let transient: Vec<u16> = [408, 425, 429]
        .into_iter()
        .chain(500..=511)
        .chain([520, 521, 522, 523, 524, 525, 526, 527, 530, 598, 599])
        .collect();
    let codes = refused.iter().map(|code| (*code, false)).chain(transient.iter().map(|code| (*code, true)));
    let rows = codes.map(|(code, transient)| {
        let location = format!("Location: http://localhost:{}/services/v2/finance/balance", redirect_target.port);
        async move {
            let server =
                FaultServer::plain(status(&format!("{code} X"), &[&location], "{\"errors\":[{\"code\":\"c\"}]}"));
            let error = client(&server.base(), "", LONG_TIMEOUT).balance(None).await.unwrap_err();
            assert_eq!(
                Unreadable::from(error.clone()).persistence == Persistence::Transient,
                transient,
                "{code}: {error}"
            );
            assert_eq!(server.requests().len(), if transient { 3 } else { 1 }, "{code}: {error}");
            assert!(error.reason.contains(&format!("answered {code}")), "{error}");
            assert_eq!(reason_problems(&error), [""; 0], "{error}");
        }
    });
    futures_util::future::join_all(rows).await;
    assert!(redirect_target.requests().is_empty(), "{:?}", redirect_target.requests());
}

/// Fields of a balance, with the metrics of [`GOOD_READINGS`] that are unreadable if the field is malformed.
const FIELDS: [(&str, [bool; 4]); 7] = [
    ("currency", [true, true, true, true]),
    ("balance", [true, true, false, false]),
    ("unpaid_invoice_balance", [true, false, true, false]),
    ("used_credit_from_other_containers", [true, false, false, true]),
    ("negative_balance_limit", [true, false, false, false]),
    ("total_available_funds", [false; 4]),
    ("unlimited_negative_balance", [true, false, false, false]),
];

/// Returns values that are no amount, no currency and no flag.
fn malformed_values() -> Vec<String> {
    let words = [
        "null",
        "[]",
        "{}",
        "[1]",
        "\"\"",
        "\" \"",
        "\"NaN\"",
        "\"1,500.00\"",
        "\"1.500,00\"",
        "\"1 500\"",
        "\"1_500\"",
    ];
    let numbers = [
        "1e400",
        "-1e400",
        "1e-400",
        "\"1e3\"",
        "\"+5\"",
        "\".5\"",
        "\"5.\"",
        "\"--5\"",
        "\"0x10\"",
        "\"USD 5\"",
        "\"5 USD\"",
        "\"$5\"",
    ];
    let digits = [
        "\"\u{ff11}\u{ff15}\u{ff10}\u{ff10}\"",
        "\"\u{661}\u{662}\"",
        "\"\u{2212}5\"",
        "\"5\\u0000\"",
        "\"\\ud800\"",
        "\"Infinity\"",
        "\"-\"",
    ];
    let long = [
        format!("\"{}\"", "9".repeat(40)),
        "9".repeat(40),
        format!("\"0.{}1\"", "0".repeat(30)),
        format!("\"{}\"", "x".repeat(9000)),
    ];
    words.iter().chain(&numbers).chain(&digits).map(|value| (*value).to_owned()).chain(long).collect()
}

/// Returns [`GOOD`] with one field replaced, or removed for `None`.
fn with(field: &str, value: Option<&str>) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in GOOD.trim_matches(['{', '}']).split(',').filter(|part| !part.starts_with(&format!("\"{field}\""))) {
        parts.push(part.to_owned());
    }
    parts.extend(value.map(|value| format!("\"{field}\":{value}")));
    format!("{{{}}}", parts.join(","))
}

fn rule(name: &str, metric: Metric, side: ThresholdSide, threshold: &str) -> Rule {
    let threshold = ThresholdAmount { value: parse_amount(threshold).unwrap(), currency: None };
    let mut level = Level::new(side, threshold, None).unwrap();
    (level.notify, level.remind_every) = (vec![Name::from("slack")], None);
    Rule::new(name.into(), metric, Some(level), None).unwrap()
}

/// Returns one rule for each metric; all four fire at [`GOOD`].
fn rules() -> Vec<Rule> {
    vec![
        rule("funds", Metric::AvailableFunds, ThresholdSide::Below, "1000"),
        rule("balance", Metric::Balance, ThresholdSide::Below, "0"),
        rule("unpaid", Metric::UnpaidInvoices, ThresholdSide::Above, "50"),
        rule("used", Metric::UsedCredit, ThresholdSide::Above, "5"),
    ]
}

fn policy(scope: DivisionScope, rules: Vec<Rule>) -> AccountPolicy {
    let after = Duration::from_secs(3 * 3600);
    let unreadable =
        UnreadablePolicy { after, level: Severity::Warning, remind_every: None, notify: vec!["slack".into()] };
    AccountPolicy {
        account: "acme".into(),
        scope,
        rules: rules.into(),
        unreadable: Arc::new(unreadable),
        silences: [].into(),
        incident_notifiers: Arc::default(),
    }
}

fn at(seconds: i64) -> Time {
    Time::from_timestamp(1_795_500_000 + seconds, 0).unwrap()
}

/// Removes all queued events, and returns them as text such as `raised funds/acme/7`.
fn take_events(state: &mut State) -> Vec<String> {
    let texts = state.queue.iter().map(|queued| match &queued.event.subject {
        EventSubject::Threshold(event) => {
            format!("{} {}", event.kind.name(), event.key.label())
        }
        EventSubject::Unreadable(event) => {
            format!("{} {}", event.kind.name(), event.key.label())
        }
        EventSubject::Unwatched { division, .. } => format!("unwatched {}", division.unwrap()),
        EventSubject::AlertEnded { .. }
        | EventSubject::NotifierFailing { .. }
        | EventSubject::NotifierRecovered { .. }
        | EventSubject::NotifierRemoved { .. }
        | EventSubject::Report(_) => "notice".to_owned(),
    });
    let mut events: Vec<String> = texts.collect();
    events.sort();
    let ids: BTreeSet<String> = state.queue.iter().map(|queued| queued.event.id.clone()).collect();
    state.mark_delivered(&"slack".into(), &ids, None, &[]);
    events
}

#[tokio::test]
async fn a_malformed_field_affects_only_its_metrics_and_no_alert() {
    let mut bodies: Vec<(String, String, [bool; 4])> = Vec::new();
    for (field, affected) in FIELDS {
        let none = [false; 4];
        let amount = !["currency", "unlimited_negative_balance"].contains(&field);
        for value in malformed_values().into_iter().chain(amount.then(|| "true".to_owned())) {
            if field == "currency" && ["\"NaN\"", "\"1e3\"", "\"0x10\"", "\"Infinity\""].contains(&value.as_str()) {
                continue; // not an amount, but possibly a currency code
            }
            bodies.push((format!("{field}: {value:.60}"), with(field, Some(&value)), affected));
        }
        if field == "unlimited_negative_balance" {
            for value in ["\"true\"", "1", "0", "\"false\""] {
                bodies.push((format!("{field}: {value}"), with(field, Some(value)), affected));
            }
        }
        let absent = match field {
            "currency" | "balance" => affected,
            // These two count as 0 if they are absent, so that their readings change.
            "unpaid_invoice_balance" | "used_credit_from_other_containers" => continue,
            _ => none,
        };
        bodies.push((format!("no {field}"), with(field, None), absent));
    }
    assert!(bodies.len() > 240, "{}", bodies.len());
    let server = FaultServer::plain(ok(GOOD));
    let source: Arc<dyn BalanceSource> = Arc::new(client(&server.base(), "", LONG_TIMEOUT));
    let policy = policy(DivisionScope::Undivided, rules());
    let good = source.balance(None).await.unwrap();
    for (name, body, affected) in bodies {
        server.become_(ok(&body));
        let read = source.balance(None).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        for (index, shown) in readings(&read).iter().enumerate() {
            if affected[index] {
                assert!(shown.starts_with("unreadable: the response's `"), "{name}: {shown}");
            } else {
                assert_eq!(shown, GOOD_READINGS[index], "{name}");
            }
        }
        let one = |balance: Balance| AccountReadings {
            divisions: vec![DivisionReading { division: None, name: None, balance: Ok(balance), forecast: None }],
            listing_failure: None,
            active: None,
        };
        let mut state = State::default();
        process(&mut state, &policy, &one(good.clone()), at(0));
        assert_eq!(take_events(&mut state).len(), 4, "all four fire");
        let before: Vec<_> = state.alerts.values().cloned().collect();
        process(&mut state, &policy, &one(read.clone()), at(900));
        assert_eq!(take_events(&mut state), [""; 0], "{name}: no event at once");
        let after: Vec<_> =
            state.alerts.iter().filter(|(key, _)| &*key.rule != "unreadable").map(|(_, alert)| alert.clone()).collect();
        assert_eq!(before, after, "{name}: no alert changes");
        process(&mut state, &policy, &one(read.clone()), at(900 + 3 * 3600));
        let expected: &[&str] = if affected.contains(&true) { &["raised unreadable/acme"] } else { &[] };
        assert_eq!(take_events(&mut state), expected, "{name}: after three hours");
        process(&mut state, &policy, &one(good.clone()), at(900 + 4 * 3600));
        let expected: &[&str] = if affected.contains(&true) { &["resolved unreadable/acme"] } else { &[] };
        assert_eq!(take_events(&mut state), expected, "{name}: after the first good reading");
    }
}

#[tokio::test]
async fn unusual_but_valid_amounts_are_read_exactly() {
    let zero = "{\"balance\":-0.00,\"currency\":\"USD\",\"negative_balance_limit\":\"-0.00\"}";
    let rows: [(&str, String, [&str; 4]); 9] = [
        ("minus zero", zero.to_owned(), ["USD 0.00", "USD 0.00", "USD 0.00", "USD 0.00"]),
        (
            "optional amounts absent",
            r#"{"balance":"5","currency":"USD","negative_balance_limit":1}"#.to_owned(),
            ["USD 6.00", "USD 5.00", "USD 0.00", "USD 0.00"],
        ),
        ("a number with an exponent", with("balance", Some("-1e3")), GOOD_READINGS),
        ("leading and trailing zeros", with("balance", Some("\"-0001000.000000000000000000000\"")), GOOD_READINGS),
        ("a total that differs", with("total_available_funds", Some("\"1e9\"")), GOOD_READINGS),
        ("no limit, but a total", with("negative_balance_limit", None), GOOD_READINGS),
        (
            "an amount that is inexact in binary",
            with("balance", Some("-1000.10")),
            ["USD 899.90", "USD \u{2212}1,000.10", GOOD_READINGS[2], GOOD_READINGS[3]],
        ),
        (
            "the largest amount that is accepted",
            with("balance", Some("999999999999999999.99999999")),
            [
                "USD 1,000,000,000,000,001,899.99999999",
                "USD 999,999,999,999,999,999.99999999",
                GOOD_READINGS[2],
                GOOD_READINGS[3],
            ],
        ),
        (
            "another currency without decimals",
            with("currency", Some("\"jpy\"")),
            ["JPY 900", "JPY \u{2212}1,000", "JPY 90", "JPY 10"],
        ),
    ];
    let server = FaultServer::plain(ok(GOOD));
    let client = client(&server.base(), "", LONG_TIMEOUT);
    for (name, body, expected) in rows {
        server.become_(ok(body));
        assert_eq!(readings(&client.balance(None).await.unwrap()), expected, "{name}");
    }
}

/// A service with one account whose clock the test sets. Its cycles read from a real server.
struct SteppedService {
    server: FaultServer,
    poller: Poller,
    poller_state: PollerState,
    store: StateStore,
    clock: ManualClock,
}

/// A clock that stands still until it is set.
#[derive(Clone)]
struct ManualClock(Arc<Mutex<Time>>);

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Time {
        *self.0.lock().unwrap()
    }
    async fn sleep(&self, _: Duration) {
        std::future::pending::<()>().await;
    }
}

struct AcceptingBackend;

impl StateBackend for AcceptingBackend {
    fn save(&self, _: &JsonPieces) -> std::io::Result<()> {
        Ok(())
    }
}

impl SteppedService {
    fn new(scope: DivisionScope) -> Self {
        let server = FaultServer::plain(ok(GOOD));
        let source = Arc::new(client(&server.base(), "", SHORT_TIMEOUT));
        let store = StateStore::new(State::default(), Arc::new(AcceptingBackend));
        let policy = policy(scope, rules().into_iter().take(1).collect());
        let clock = ManualClock(Arc::new(Mutex::new(at(0))));
        let poller = Poller { policy, source, history: None, clock: Arc::new(clock.clone()) };
        Self { server, poller, poller_state: PollerState::default(), store, clock }
    }

    /// Sets the responses for the list of divisions and for all balances.
    fn serve(&self, listing: Fault, balance: Fault) {
        let routes = vec![("/container".to_owned(), listing), (String::new(), balance)];
        self.server.become_(Fault::ByPath(routes));
    }

    /// Runs a cycle after these minutes, and returns its events.
    async fn cycle(&mut self, minutes: i64) -> Vec<String> {
        let now = self.clock.now() + chrono::Duration::minutes(minutes);
        *self.clock.0.lock().unwrap() = now;
        self.poller.run_cycle(&mut self.poller_state, &self.store, now).await;
        self.store.change(|state| (take_events(state), true)).await
    }

    fn firing(&self) -> Vec<String> {
        self.store.read(|state| {
            let firing = state.alerts.iter().filter(|(_, known)| known.alert.firing().is_some());
            let mut firing: Vec<String> = firing.map(|(key, _)| key.label()).collect();
            firing.sort();
            firing
        })
    }
}

fn listing(items: &str) -> Fault {
    ok(format!("{{\"containers\":[{items}]}}"))
}

const SEVEN_AND_EIGHT: &str = r#"{"id":7,"name":"History","is_active":true},{"id":8,"name":"Arts","is_active":true}"#;

#[tokio::test]
async fn no_fault_of_the_listing_ends_an_alert_of_a_division() {
    let refusals = ["401 X", "403 X", "404 X", "302 Found"]
        .map(|line| (line, status(line, &["Location: http://localhost:1/"], ""), true));
    let both = listing(SEVEN_AND_EIGHT);
    let transient = [
        ("503", status("503 X", &[], "Service is unavailable"), false),
        ("429", status("429 X", &[], r#"{"errors":[{"code":"request_limit_exceeded"}]}"#), false),
        ("an end", Fault::Bytes(vec![]), false),
        ("silence", Fault::Hang(vec![]), false),
        ("HTML", ok("<html>"), false),
        ("no division", listing(""), false),
        ("only inactive ones", listing(r#"{"id":7,"is_active":false},{"id":8,"is_active":false}"#), false),
        ("no list", ok(r#"{"containers":null}"#), false),
        ("another object", ok("{}"), false),
        ("the list twice", ok(r#"{"containers":[],"containers":[]}"#), false),
        ("a division without an id", listing(r#"{"id":7},{"name":"Arts"}"#), false),
        ("a division with an id in exponent form", listing(r#"{"id":7},{"id":1e400}"#), false),
        ("a division with too large an id", listing(r#"{"id":7},{"id":99999999999999999999999}"#), false),
        ("half a list", ok(format!("{{\"containers\":[{SEVEN_AND_EIGHT}")), false),
        ("a bomb", gzipped(&gzip_bomb(1)), false),
        ("a list of more than a mebibyte", listing(&vec![SEVEN_AND_EIGHT; 20_000].join(",")), false),
    ];
    let rows = refusals.into_iter().chain(transient).map(|(name, fault, at_once)| {
        let good = both.clone();
        async move {
            let mut service = SteppedService::new(DivisionScope::All(BTreeSet::new()));
            service.serve(good.clone(), ok(GOOD));
            assert_eq!(service.cycle(0).await, ["raised funds/acme/7", "raised funds/acme/8"], "{name}");
            service.serve(fault, ok(GOOD));
            let expected: &[&str] = if at_once { &["raised unreadable/acme"] } else { &[] };
            assert_eq!(service.cycle(61).await, expected, "{name}: at once");
            let expected: &[&str] = if at_once { &[] } else { &["raised unreadable/acme"] };
            assert_eq!(service.cycle(180).await, expected, "{name}: three hours later");
            assert_eq!(service.firing(), ["funds/acme/7", "funds/acme/8", "unreadable/acme"], "{name}");
            service.serve(good.clone(), ok(GOOD));
            assert_eq!(service.cycle(15).await, ["resolved unreadable/acme"], "{name}: the listing is good again");
            service.serve(good, ok(with("balance", Some("5000"))));
            assert_eq!(
                service.cycle(15).await,
                ["resolved funds/acme/7", "resolved funds/acme/8"],
                "{name}: the alerts still resolve"
            );
        }
    });
    futures_util::future::join_all(rows).await;
}

#[tokio::test]
async fn new_divisions_are_watched_and_removed_ones_are_not() {
    let mut service = SteppedService::new(DivisionScope::All(BTreeSet::new()));
    service.serve(Fault::Bytes(vec![]), ok(GOOD));
    assert_eq!(service.cycle(0).await, [""; 0], "a transient failure before the first listing");
    let steps: [(&str, &[&str]); 7] = [
        (r#"{"id":7}"#, &["raised funds/acme/7"]),
        (r#"{"id":7},{"id":8}"#, &["raised funds/acme/8"]),
        (r#"{"id":8,"name":"renamed"},{"id":7}"#, &[]),
        (r#"{"id":7},{"id":7,"is_active":false},{"id":8}"#, &[]),
        (r#"{"id":8}"#, &["unwatched 7"]),
        (r#"{"id":7},{"id":8,"is_active":false}"#, &["raised funds/acme/7", "unwatched 8"]),
        (r#"{"id":"7"},{"id":"8"}"#, &["raised funds/acme/8"]),
    ];
    for (items, expected) in steps {
        service.serve(listing(items), ok(GOOD));
        assert_eq!(service.cycle(61).await, expected, "{items}");
    }
}

#[tokio::test]
async fn a_changed_currency_neither_resolves_nor_escalates_an_alert() {
    let mut service = SteppedService::new(DivisionScope::Undivided);
    assert_eq!(service.cycle(0).await, ["raised funds/acme"]);
    for (currency, balance) in [("JPY", "500000"), ("EUR", "-1999"), ("usdollar", "5000")] {
        service.server.become_(ok(with("currency", Some(&format!("\"{currency}\""))).replace("-1000.00", balance)));
        let events = service.cycle(15).await;
        assert!(events.is_empty() || events == ["raised unreadable/acme"], "{currency}: {events:?}");
        assert_eq!(service.firing(), ["funds/acme", "unreadable/acme"], "{currency}");
    }
    let reason = service.store.read(|state| state.alerts.values().find_map(|known| known.reason.clone()).unwrap());
    assert!(reason.contains("an amount in USD") && reason.contains("in usdollar now"), "{reason}");
    service.server.become_(ok(with("currency", Some("\"usd\""))));
    assert_eq!(service.cycle(15).await, ["resolved unreadable/acme"]);
    service.server.become_(ok(with("balance", Some("5000"))));
    assert_eq!(service.cycle(15).await, ["resolved funds/acme"]);
    service.server.become_(ok(with("currency", Some("\"EUR\""))));
    assert_eq!(service.cycle(15).await, ["raised funds/acme"], "a rule that does not fire uses the present currency");
}

/// Returns the text of an email about an account that cannot be read for this reason.
fn message(reason: &str) -> String {
    let unreadable = UnreadableEvent {
        key: AlertKey { account: "acme".into(), division: None, rule: "unreadable".into() },
        division_name: None,
        kind: TransitionKind::Raised,
        level: Severity::Warning,
        since: at(0),
        reason: Some(reason.to_owned()),
        persistence: Some(Persistence::Transient),
        firing_alerts: Vec::new(),
        unevaluated_rules: Vec::new(),
        next_reminder: None,
    };
    let event = Event { subject: EventSubject::Unreadable(unreadable), ..sample::warning("") };
    email(&sample::message(vec![event]), &sample::message_context()).text
}

#[tokio::test]
async fn no_bad_response_resolves_an_alert_and_its_reason_is_shown() {
    let good = || ok(GOOD);
    let statuses = [
        ("401 Unauthorized", &["401", "check the account's API key"][..]),
        ("403 Forbidden", &["403", "a role that sees finances"]),
        ("404 Not Found", &["404", "check base_url"]),
        ("429 Too Many Requests", &["429", "does another program use it too?"]),
        ("500 Internal Server Error", &["500"]),
        ("503 Service Unavailable", &["503", "maintenance"]),
        ("302 Found", &["redirected to host localhost, not followed"]),
    ];
    let statuses = statuses.map(|(line, words)| (line, status(line, &["Location: http://localhost:1/"], ""), words));
    let answers = answers().into_iter().filter_map(|(name, fault, expected)| match expected {
        Failure(_, _, words) => Some((name, fault, words)),
        ExpectedOutcome::Good => None,
    });
    let rows: Vec<_> = answers.chain(statuses).collect();
    let servers: Vec<FaultServer> = rows.iter().map(|_| FaultServer::plain(good())).collect();
    let world = World::new().await;
    let accounts = servers.iter().enumerate().map(|(at, server)| {
        format!("  f{at}: {{ api_key: {KEY}, base_url: \"{}\", timeout: 1s, rate_limit: off }}\n", server.base())
    });
    let text = format!(
        "schedule: every 2s\nstate: state.json\nunreadable: {{ after: 2s }}\naccounts:\n{}notifiers:\n  slack: {{ type: slack, webhook_url: \"{}\" }}\nrules:\n  funds: {{ metric: available_funds, warning: {{ below: 1000 }} }}\n",
        accounts.collect::<String>(),
        world.webhook(),
    );
    std::fs::write(world.path("alerts.yaml"), text).unwrap();
    let service = world.start();
    let all = |event: &str| (0..rows.len()).map(|at| format!("{event}/f{at}")).collect::<Vec<_>>();
    let wait_for = |events: Vec<String>| {
        wait_until("an event of every account", || {
            std::thread::sleep(Duration::from_millis(200)); // reading the log takes time that the service needs
            let seen = service.events();
            events.iter().all(|event| seen.contains(event))
        });
    };
    wait_for(all("raised funds"));

    for (server, (_, fault, _)) in servers.iter().zip(&rows) {
        server.become_(fault.clone());
    }
    wait_for(all("raised unreadable"));
    assert_eq!(service.events().len(), 2 * rows.len(), "nothing but `raised`: {:#?}", service.events());
    let status = world.run(&["status", "-o", "json"]).json();
    let log: Vec<serde_json::Value> = service.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (index, (name, _, words)) in rows.iter().enumerate() {
        let account = format!("f{index}");
        let alert = |rule: &str| {
            let mut alerts = status["alerts"].as_array().unwrap().iter();
            alerts
                .find(|alert| alert["account"] == account && alert["rule"] == rule)
                .unwrap_or_else(|| panic!("{name}: {rule}"))
        };
        assert!(alert("funds")["status"].as_str().unwrap().starts_with("firing"), "{name}");
        let shown_reason = alert("unreadable")["reason"].as_str().unwrap();
        let logged = log.iter().filter(|line| line["account"] == account && line["level"] == "WARN");
        let logged: Vec<&str> = logged.filter_map(|line| line["reason"].as_str()).collect();
        for word in *words {
            assert!(shown_reason.contains(word), "{name}: {word:?} is not in the status: {shown_reason}");
            let shown = &message(shown_reason);
            assert!(shown.contains(word), "{name}: {word:?} is not in the message: {shown}");
            assert!(
                logged.iter().any(|reason| reason.contains(word)),
                "{name}: {word:?} is not in the log: {logged:?}"
            );
        }
    }
    for server in &servers {
        server.become_(good());
    }
    wait_for(all("resolved unreadable"));
    assert_eq!(service.events().len(), 3 * rows.len(), "no alert about funds has changed");
    for server in &servers {
        server.become_(ok(with("balance", Some("5000"))));
    }
    wait_for(all("resolved funds"));
    assert_eq!(service.events().len(), 4 * rows.len(), "all alerts still resolve");
    assert_eq!(service.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_api_ends_a_cycle_early_and_resolves_nothing() {
    let world = World::new().await;
    let ids: Vec<String> = (1..=200).map(|id| id.to_string()).collect();
    let account = format!("timeout: 1s\n    rate_limit: off\n    divisions: [{}]", ids.join(", "));
    world.config_with(&account, bin::FUNDS);
    (1..=200).for_each(|id| world.division_funds(id, if id == 200 { "100.00" } else { "9000.00" }));
    let service = world.start();
    service.wait_event("raised funds/acme/200");
    let slow = wiremock::ResponseTemplate::new(200).set_delay(Duration::from_secs(60));
    (1..=200).for_each(|id| world.answer(id, slow.clone()));
    wait_until("a cycle that reads nothing", || service.log().contains("\"unreadable\":200"));
    let log = service.log();
    assert!(log.contains("CertCentral does not answer"), "{log}");
    // All divisions are unreadable for the same reason, which is logged once.
    let failed = log.lines().find(|line| line.contains("balance cannot be read") && line.contains("\"divisions\":200"));
    assert!(failed.is_some_and(|line| line.contains("no complete answer in time")), "{log}");
    assert_eq!(world.run(&["health"]).code, Some(0));
    service.expect_events(&["raised funds/acme/200"]);
    assert_eq!(service.stop(), Some(0));
}
