//! Reloads of a running service: changes that apply, state that is kept, and configurations that are refused.

use std::time::{Duration, Instant};

use crate::support::bin::{self, FUNDS, KEY, Service, World, wait_until};
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

const RELOADED: &str = "configuration read again";
const REFUSED: &str = "configuration refused";

fn wait_log(service: &Service, text: &str, times: usize) {
    wait_until(&format!("{text:?} in the log, {times} times"), || service.log().matches(text).count() >= times);
    assert_eq!(service.log().matches(text).count(), times, "{text}");
}

/// Changes alerts.yaml as editors do: writes another file and renames it.
fn edit(world: &World, change: impl Fn(String) -> String) {
    let text = std::fs::read_to_string(world.path("alerts.yaml")).unwrap();
    std::fs::write(world.path("alerts.yaml.tmp"), change(text)).unwrap();
    std::fs::rename(world.path("alerts.yaml.tmp"), world.path("alerts.yaml")).unwrap();
}

fn reload(world: &World) -> serde_json::Value {
    let ran = world.run(&["status", "-o", "json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.json()["reload"].clone()
}

#[tokio::test]
async fn edited_thresholds_and_added_rules_apply_from_the_next_cycle() {
    let world = World::new().await;
    let service = world.start();
    service.wait_cycles(1);
    edit(&world, |text| text.replace("below: 2000", "below: 20000"));
    assert!(world.wait_told(1).contains("20,000.00"));
    edit(&world, |text| text + "  debt: { metric: balance, warning: { below: 10001 }, notify: [slack] }\n");
    assert!(world.wait_told(2).contains("debt"));
    edit(&world, |text| text.replace("below: 20000", "below: 2000"));
    assert!(world.wait_told(3).to_lowercase().contains("resolved"));
    service.expect_events(&["raised funds/acme", "raised debt/acme", "resolved funds/acme"]);
    wait_log(&service, RELOADED, 3);
    assert_eq!(service.stop(), Some(0));
}

#[tokio::test]
async fn a_reload_raises_nothing_and_forgets_nothing() {
    let world = World::new().await;
    world.config_with("divisions: all", FUNDS);
    world.list(&[(11, "History", true)]);
    world.division_funds(11, "1200.00");
    let service = world.start();
    world.wait_told(1);
    // Without the list of divisions from before the reload, the account would be unreadable at once.
    world.list(&[]);
    edit(&world, |text| text + "    description: Ask Finance.\n");
    wait_log(&service, RELOADED, 1);
    service.hangup();
    wait_log(&service, RELOADED, 2);
    world.let_a_cycle_pass();
    world.wait_told(1);
    world.division_funds(11, "5000.00");
    assert!(world.wait_told(2).contains("Ask Finance"));
    service.expect_events(&["raised funds/acme/11", "resolved funds/acme/11"]);
}

#[tokio::test]
async fn after_many_hangups_one_thread_watches_the_files() {
    let world = World::new().await;
    let service = world.start();
    service.wait_cycles(1);
    for times in 1..=5 {
        service.hangup();
        wait_log(&service, RELOADED, times);
    }
    let looking = || {
        let threads = std::fs::read_dir(format!("/proc/{}/task", service.id())).unwrap();
        let name = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        threads.map(|thread| name(thread.unwrap())).filter(|name| name.trim() == "files").count()
    };
    wait_until("the threads before to end", || looking() == 1);
    edit(&world, |text| text.replace("below: 2000", "below: 20000"));
    assert!(world.wait_told(1).contains("20,000.00"));
    assert_eq!(service.stop(), Some(0));
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_is_reported_once() {
    let world = World::new().await;
    let service = world.start();
    service.wait_cycles(1);
    edit(&world, |text| text.replace("below: 2000", "bellow: 2000"));
    wait_log(&service, REFUSED, 1);
    let validated = world.run(&["validate"]);
    assert_eq!(validated.code, Some(78));
    let found = reload(&world);
    assert_eq!(found["ok"], false);
    for problem in found["problems"].as_array().unwrap() {
        let problem = problem.as_str().unwrap();
        let message = problem.split("; ").next().unwrap().rsplit(": ").next().unwrap();
        assert!(validated.stdout.contains(message) && service.log().contains(problem), "{problem}");
    }
    let text = world.run(&["status"]);
    assert!(text.stdout.contains("REFUSED") && text.stdout.contains("did you mean `below`?"), "{text:?}");
    assert_eq!(world.run(&["health"]).code, Some(0));
    // The same bad content, saved again, is not reported again.
    edit(&world, |text| text);
    world.let_a_cycle_pass();
    std::thread::sleep(Duration::from_secs(6));
    wait_log(&service, REFUSED, 1);
    world.funds("1000.00");
    assert!(world.wait_told(1).contains("2,000.00"));
    edit(&world, |text| text.replace("bellow: 2000", "below: 2000"));
    wait_log(&service, "configuration is again the one in use", 1);
    assert_eq!(
        (reload(&world)["ok"].clone(), reload(&world)["problems"].clone()),
        (true.into(), serde_json::json!([]))
    );
    world.wait_told(1);
}

#[tokio::test]
async fn a_file_that_is_deleted_or_no_longer_yaml_is_refused() {
    let world = World::new().await;
    edit(&world, |text| text.replace("state: state.json", "state: lowtide-state.json"));
    let service = world.start();
    service.wait_cycles(1);
    let good = std::fs::read(world.path("alerts.yaml")).unwrap();
    std::fs::write(world.path("alerts.yaml"), "accounts: [").unwrap();
    wait_log(&service, REFUSED, 1);
    assert_eq!(reload(&world)["ok"], false);
    std::fs::remove_file(world.path("alerts.yaml")).unwrap();
    wait_log(&service, REFUSED, 2);
    assert_eq!(world.run(&["health"]).code, Some(0));
    std::fs::write(world.path("alerts.yaml"), good).unwrap();
    wait_log(&service, "configuration is again the one in use", 1);
    assert_eq!(service.stop(), Some(0));
    std::fs::write(world.path("alerts.yaml"), "accounts: [").unwrap();
    assert_eq!(world.run(&["status"]).code, Some(78));
    assert_eq!(world.run(&["health"]).code, Some(78));
}

#[tokio::test]
async fn a_rotated_secret_is_picked_up_from_its_file() {
    let world = World::new().await;
    let webhook = world.webhook();
    std::fs::write(world.path("hook"), format!("{webhook}-of-yesterday\n")).unwrap();
    edit(&world, |text| text.replace(&format!("webhook_url: {webhook}"), "webhook_url_file: hook"));
    let service = world.start();
    service.wait_cycles(1);
    std::fs::write(world.path("hook"), "").unwrap();
    wait_log(&service, REFUSED, 1);
    std::fs::write(world.path("hook"), format!("{webhook}\n")).unwrap();
    wait_log(&service, RELOADED, 1);
    world.funds("1000.00");
    world.wait_told(1);
    assert!(!service.log().contains(bin::TOKEN) && !service.log().contains("of-yesterday"));
}

#[tokio::test]
async fn an_account_that_leaves_ends_its_alerts_quietly() {
    let world = World::new().await;
    let one = std::fs::read_to_string(world.path("alerts.yaml")).unwrap();
    let base = one.lines().find(|line| line.contains("base_url")).unwrap();
    let two = one.replace("notifiers:", &format!("  beta:\n    api_key: {KEY}\n{base}\nnotifiers:"));
    std::fs::write(world.path("alerts.yaml"), two).unwrap();
    world.funds("1000.00");
    let service = world.start();
    service.wait_event("raised funds/acme");
    service.wait_event("raised funds/beta");
    wait_until("the delivery", || world.state().contains("\"notified\"") && !world.state().contains("\"queue\""));
    let sent = world.told().len();
    edit(&world, |_| one.clone());
    wait_log(&service, "alert ended quietly", 1);
    wait_until("a state without it", || !world.state().contains("beta"));
    world.let_a_cycle_pass();
    service.expect_events(&["raised funds/acme", "raised funds/beta"]);
    assert_eq!(world.told().len(), sent);
    assert!(!world.run(&["status"]).stdout.contains("beta"));
}

#[tokio::test]
async fn pending_events_of_a_removed_notifier_are_dropped_and_logged() {
    let world = World::new().await;
    world.slack_answers(ResponseTemplate::new(500));
    world.funds("1000.00");
    let service = world.start();
    wait_until("the failure", || world.state().contains("\"failing_notifiers\""));
    edit(&world, |text| text.replace("  slack:\n", "  chat:\n").replace("notify: [slack]", "notify: [chat]"));
    wait_log(&service, "pending notifications dropped", 1);
    world.slack_answers(ResponseTemplate::new(200).set_body_string("ok"));
    let sent = world.told().len();
    world.let_a_cycle_pass();
    assert_eq!(world.told().len(), sent, "the alert is not raised again for the new notifier");
    world.funds("100.00");
    service.expect_events(&["raised funds/acme", "escalated funds/acme"]);
    wait_until("the escalation", || world.told().len() == sent + 1);
}

#[tokio::test]
async fn a_send_in_progress_is_finished_and_not_repeated() {
    let world = World::new().await;
    world.slack_answers(ResponseTemplate::new(200).set_body_string("ok").set_delay(Duration::from_secs(2)));
    world.funds("1000.00");
    let service = world.start();
    world.wait_told(1);
    service.hangup();
    wait_log(&service, RELOADED, 1);
    wait_until("the delivery", || world.state().contains("\"notified\"") && !world.state().contains("\"queue\""));
    service.wait_cycles(4);
    world.wait_told(1);
}

#[tokio::test]
async fn a_pause_requested_by_a_server_outlives_a_reload() {
    let world = World::new().await;
    world.slack_answers(ResponseTemplate::new(429).insert_header("retry-after", "3600"));
    world.funds("1000.00");
    let service = world.start();
    world.wait_told(1);
    wait_log(&service, "notification could not be sent", 1);
    let described = FUNDS.to_owned()
        + "    description: Ask Finance.
";
    world.config(&described);
    service.hangup();
    wait_log(&service, RELOADED, 1);
    world.let_a_cycle_pass();
    world.wait_told(1);
    // A notifier that now sends in another way is tried at once.
    world.config(
        &("    timeout: 9s
"
        .to_owned()
            + &described),
    );
    service.hangup();
    wait_log(&service, RELOADED, 2);
    world.wait_told(2);
    assert_eq!(service.stop(), Some(0));
}

#[tokio::test]
async fn a_changed_state_path_needs_a_restart() {
    let world = World::new().await;
    let service = world.start();
    service.wait_cycles(1);
    edit(&world, |text| text.replace("state: state.json", "state: other.json"));
    wait_log(&service, "needs a restart", 1);
    world.funds("1000.00");
    world.wait_told(1);
    assert!(world.state().contains("funds") && !world.path("other.json").exists());
}

#[tokio::test]
async fn a_service_stopped_while_it_reloads_stops() {
    let world = World::new().await;
    world.slack_answers(ResponseTemplate::new(200).set_body_string("ok").set_delay(Duration::from_secs(3)));
    world.funds("1000.00");
    let service = world.start();
    world.wait_told(1);
    service.hangup();
    wait_log(&service, RELOADED, 1);
    assert_eq!(service.stop(), Some(0));
    assert!(!world.state().contains("\"queue\""), "the send in progress was finished: {}", world.state());
}

/// Adds a notifier `hook` whose server answers the first request after `seconds` and the others at once.
async fn slow_hook(world: &World, seconds: u64) -> MockServer {
    let server = MockServer::start().await;
    let slow = ResponseTemplate::new(200).set_delay(Duration::from_secs(seconds));
    Mock::given(method("POST")).respond_with(slow).up_to_n_times(1).mount(&server).await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    let hook = format!("  hook:\n    type: webhook\n    url: {}/x\n    timeout: 60s\nrules:", server.uri());
    edit(world, |text| text.replace("rules:", &hook).replace("notify: [slack]", "notify: [slack, hook]"));
    server
}

/// Number of requests to a server so far.
async fn request_count(server: &MockServer) -> usize {
    server.received_requests().await.unwrap().len()
}

/// Waits until a server has received `times` requests.
async fn wait_requests(server: &MockServer, times: usize) {
    for _ in 0..600 {
        if request_count(server).await >= times {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{} requests instead of {times}", request_count(server).await);
}

#[tokio::test]
async fn a_slow_send_delays_no_other_notifier_and_no_cycle_after_a_reload() {
    let world = World::new().await;
    let hook = slow_hook(&world, 12).await;
    world.funds("1000.00");
    let service = world.start();
    world.wait_told(1);
    wait_requests(&hook, 1).await;
    let began = Instant::now();
    for times in 1..=2 {
        service.hangup();
        wait_log(&service, "lowtide runs", times + 1);
    }
    world.funds("100.00");
    world.wait_told(2);
    let cycles = service.cycles();
    service.wait_cycles(cycles + 2);
    assert!(began.elapsed() < Duration::from_secs(11), "the reload waited for the send: {:?}", began.elapsed());
    assert_eq!(request_count(&hook).await, 1, "the notifier sends nothing before its send in progress has ended");
    wait_requests(&hook, 2).await;
    assert!(began.elapsed() > Duration::from_secs(11));
    wait_until("an empty queue", || !world.state().contains("\"queue\""));
    assert_eq!(request_count(&hook).await, 2, "nothing is sent twice");
    assert_eq!(service.stop(), Some(0));
}

#[tokio::test]
async fn a_removed_notifier_finishes_its_send_and_sends_no_more() {
    let world = World::new().await;
    let hook = slow_hook(&world, 12).await;
    let before = std::fs::read_to_string(world.path("alerts.yaml")).unwrap();
    world.funds("1000.00");
    let service = world.start();
    world.wait_told(1);
    wait_requests(&hook, 1).await;
    world.config(FUNDS);
    service.hangup();
    wait_log(&service, RELOADED, 1);
    wait_log(&service, "no longer configured still runs", 1);
    // The notifier returns before its send has ended: no second send starts meanwhile.
    std::fs::write(world.path("alerts.yaml"), &before).unwrap();
    service.hangup();
    wait_log(&service, RELOADED, 2);
    world.funds("100.00");
    world.wait_told(2);
    wait_requests(&hook, 2).await;
    wait_until("an empty queue", || !world.state().contains("\"queue\""));
    world.config(FUNDS);
    service.hangup();
    wait_log(&service, RELOADED, 3);
    world.funds("5000.00");
    assert!(world.wait_told(3).to_lowercase().contains("resolved"));
    wait_until("an empty queue", || !world.state().contains("\"queue\""));
    assert_eq!(request_count(&hook).await, 2);
    assert_eq!(service.stop(), Some(0));
}

#[tokio::test]
async fn a_fallback_that_replaces_one_that_is_down_is_used_at_the_reload() {
    let world = World::new().await;
    let (old, new) = (MockServer::start().await, MockServer::start().await);
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(503)).mount(&old).await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(200)).mount(&new).await;
    world.slack_answers(ResponseTemplate::new(404).set_body_string("no_service"));
    let original = std::fs::read_to_string(world.path("alerts.yaml")).unwrap();
    let with_fallback = |name: &str, at: &str| {
        let hook = format!("  {name}:\n    type: webhook\n    url: {at}/x\nrules:");
        original.replace("type: slack\n", &format!("type: slack\n    fallback: {name}\n")).replace("rules:", &hook)
    };
    edit(&world, |_| with_fallback("old", &old.uri()));
    world.funds("1000.00");
    let service = world.start();
    wait_requests(&old, 1).await;
    edit(&world, |_| with_fallback("new", &new.uri()));
    wait_log(&service, RELOADED, 1);
    wait_requests(&new, 1).await;
    let body = String::from_utf8(new.received_requests().await.unwrap()[0].body.clone()).unwrap();
    assert!(body.contains("\"raised\"") && body.contains("slack"), "{body}");
    wait_until("an empty queue", || !world.state().contains("\"queue\""));
    assert_eq!(service.stop(), Some(0));
}
