//! Signs of life of the service: the heartbeat and systemd.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::support::bin::{FUNDS, Service, World, wait_until};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

/// Secret part of the heartbeat's address.
const UUID: &str = "5ecret00-1111-2222-3333-444455556666";

async fn monitor(status: u16) -> MockServer {
    let server = MockServer::builder().start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(status)).mount(&server).await;
    server
}

fn configure(world: &World, url: &str, every: &str) {
    world.config(&format!("heartbeat: {{ url: {url}/{UUID}, every: {every} }}\n{FUNDS}"));
}

/// Returns the paths that were pinged, without the secret part.
async fn pings(server: &MockServer) -> Vec<String> {
    let requests = server.received_requests().await.unwrap();
    requests.iter().map(|it| it.url.path().trim_start_matches(&format!("/{UUID}")).to_owned()).collect()
}

/// Waits until the pings are these, counting repeated ones once. Returns all pings.
async fn wait_pings(server: &MockServer, expected: &[&str]) -> Vec<String> {
    for _ in 0..750 {
        let all = pings(server).await;
        let mut changes = all.clone();
        changes.dedup();
        if changes == expected {
            return all;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("expected {expected:?}, found {:?}", pings(server).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeat_is_sent_while_healthy_and_fails_once() {
    let world = World::new().await;
    let server = monitor(200).await;
    configure(&world, &server.uri(), "1s");
    let service = world.start();
    wait_pings(&server, &["/start", ""]).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let beats = wait_pings(&server, &["/start", ""]).await.len();
    assert!((3..=6).contains(&beats), "every second: {beats}");
    world.answer(None, ResponseTemplate::new(503));
    wait_pings(&server, &["/start", "", "/fail"]).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let all = wait_pings(&server, &["/start", "", "/fail"]).await;
    assert_eq!(all.iter().filter(|it| *it == "/fail").count(), 1);
    let log = service.log();
    assert!(log.contains("heartbeat reports unhealthy"), "{log}");
    assert!(log.contains("\"reason\":\"cannot be read completely: acme\""), "{log}");
    // A reload sends no `/start`.
    service.hangup();
    world.funds("10000.00");
    wait_pings(&server, &["/start", "", "/fail", ""]).await;
    // Low funds do not make the service unhealthy.
    world.funds("100.00");
    world.wait_told(1);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    wait_pings(&server, &["/start", "", "/fail", ""]).await;
    let log = service.log();
    assert!(!log.contains(UUID));
    let lines = ["heartbeat reports healthy", "heartbeat reports unhealthy"];
    assert_eq!(lines.map(|line| log.matches(line).count()), [2, 1], "one log line for each change: {log}");
    assert_eq!(service.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_first_cycle_does_not_delay_the_heartbeat() {
    let world = World::new().await;
    let server = monitor(200).await;
    configure(&world, &server.uri(), "1s");
    let body = serde_json::json!({ "balance": "9000", "currency": "USD", "negative_balance_limit": "0.00" });
    world.answer(None, ResponseTemplate::new(200).set_body_json(body).set_delay(Duration::from_secs(9)));
    let service = world.start();
    wait_pings(&server, &["/start", ""]).await;
    assert_eq!(service.cycles(), 0);
    assert_eq!(service.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_pending_for_ten_minutes_fail_the_heartbeat() {
    let world = World::new().await;
    let server = monitor(200).await;
    configure(&world, &server.uri(), "1s");
    world.slack_answers(ResponseTemplate::new(500));
    world.funds("1000.00");
    let service = world.start();
    wait_pings(&server, &["/start", ""]).await;
    wait_until("a pending event", || world.state().contains("\"queue\""));
    assert_eq!(service.stop(), Some(0));
    let mut state: serde_json::Value = serde_json::from_str(&world.state()).unwrap();
    let old =
        chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::UNIX_EPOCH) + Duration::from_secs(1_700_000_000);
    state["queue"][0]["event"]["at"] = serde_json::json!(old);
    state.as_object_mut().unwrap().remove("checksum");
    std::fs::write(world.path("state.json"), state.to_string()).unwrap();
    let service = world.start();
    wait_pings(&server, &["/start", "", "/start", "/fail"]).await;
    world.slack_answers(ResponseTemplate::new(200).set_body_string("ok"));
    wait_pings(&server, &["/start", "", "/start", "/fail", ""]).await;
    assert_eq!(service.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_heartbeat_monitor_is_logged_once_and_delays_nothing() {
    let world = World::new().await;
    let server = monitor(500).await;
    configure(&world, &server.uri(), "1s");
    let service = world.start();
    service.wait_cycles(4);
    wait_until("the warning", || service.log().contains("heartbeat could not be sent"));
    for _ in 0..2 {
        let n = pings(&server).await.len();
        wait_until("another try", || {
            futures_util::FutureExt::now_or_never(pings(&server)).is_none_or(|it| it.len() > n)
        });
    }
    assert_eq!(service.log().matches("heartbeat could not be sent").count(), 1, "{}", service.log());
    server.reset().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    wait_until("recovery", || service.log().contains("heartbeat works again"));
    configure(&world, "http://127.0.0.1:1", "1s");
    wait_until("the warning", || service.log().matches("heartbeat could not be sent").count() == 2);
    world.let_a_cycle_pass();
    world.funds("1000.00");
    world.wait_told(1);
    assert!(!service.log().contains(UUID), "{}", service.log());
}

#[tokio::test]
async fn a_heartbeat_goes_over_tls_or_nowhere() {
    let world = World::new().await;
    for (heartbeat, code) in [
        ("url: 'http://hc.example.com/x'", 78),
        ("url: 'http://hc.example.com/x', allow_insecure: true", 0),
        ("url: 'https://hc.example.com/x', url_file: x", 78),
        ("every: 5m", 78),
        ("url: 'https://hc.example.com/x', every: 0", 78),
        ("url: 'https://hc.example.com/x'", 0),
    ] {
        world.config(&format!("heartbeat: {{ {heartbeat} }}\n{FUNDS}"));
        let ran = world.run(&["validate"]);
        assert_eq!(ran.code, Some(code), "{heartbeat}: {ran:?}");
        assert!(!ran.stdout.contains("hc.example.com"), "{ran:?}");
    }
}

/// Appends the messages received so far, without waiting for more.
fn receive_messages(socket: &UnixDatagram, seen: &mut Vec<String>) {
    let mut buffer = [0; 256];
    while let Ok(n) = socket.recv(&mut buffer) {
        seen.extend(String::from_utf8_lossy(&buffer[..n]).lines().map(str::to_owned));
    }
}

fn wait_message(socket: &UnixDatagram, seen: &mut Vec<String>, message: &str, times: usize) {
    wait_until(message, || {
        receive_messages(socket, seen);
        seen.iter().filter(|it| *it == message).count() >= times
    });
}

fn supervised(world: &World) -> (UnixDatagram, Service) {
    let socket = UnixDatagram::bind(world.path("notify")).unwrap();
    socket.set_nonblocking(true).unwrap();
    let path = world.path("notify");
    let environment = format!("export NOTIFY_SOCKET={} WATCHDOG_USEC=400000 WATCHDOG_PID=$$", path.display());
    let service = world.start_after(&environment);
    (socket, service)
}

#[tokio::test]
async fn systemd_is_notified_of_start_reload_stop_and_timely_cycles() {
    let world = World::new().await;
    let (socket, service) = supervised(&world);
    let mut seen = Vec::new();
    wait_message(&socket, &mut seen, "READY=1", 1);
    assert!(!seen.contains(&"RELOADING=1".to_owned()));
    wait_message(&socket, &mut seen, "WATCHDOG=1", 5);
    service.hangup();
    wait_message(&socket, &mut seen, "RELOADING=1", 1);
    wait_message(&socket, &mut seen, "READY=1", 2);
    assert_eq!(service.stop(), Some(0));
    wait_message(&socket, &mut seen, "STOPPING=1", 1);
    let others: Vec<&str> = seen.iter().map(String::as_str).filter(|it| *it != "WATCHDOG=1").collect();
    assert_eq!(others, ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]);
}

#[tokio::test]
async fn a_bad_configuration_is_never_ready() {
    let world = World::new().await;
    world.config("");
    let (socket, mut service) = supervised(&world);
    assert_eq!(service.wait(), Some(78));
    let mut seen = Vec::new();
    receive_messages(&socket, &mut seen);
    assert_eq!(seen, [] as [&str; 0]);
}
