//! Alerts of the real service, from balances to Slack messages, and what is not sent.

use std::time::{Duration, Instant};

use crate::support::bin::{FUNDS, KEY, TOKEN, World, wait_until};
use serde_json::json;
use wiremock::ResponseTemplate;

fn refusal() -> ResponseTemplate {
    let body = json!({ "errors": [{ "code": "access_denied", "message": "no access to finances" }] });
    ResponseTemplate::new(403).set_body_json(body)
}

fn says(message: &str, words: &[&str]) {
    let lower = message.to_lowercase();
    for word in words {
        assert!(lower.contains(&word.to_lowercase()), "{word:?} is not in {message}");
    }
}

#[tokio::test]
async fn a_fall_below_the_warning_threshold_is_notified_once() {
    let world = World::new().await;
    let service = world.start();
    service.wait_cycles(1);
    assert!(world.told().is_empty());
    world.funds("1431.00");
    says(&world.wait_told(1), &["acme", "USD 1,431.00", "USD 2,000.00", "USD 569.00", "warning", "funds"]);
    world.let_a_cycle_pass();
    world.wait_told(1);
    service.expect_events(&["raised funds/acme"]);
}

#[tokio::test]
async fn a_fall_straight_to_critical_is_one_message_and_so_is_each_step_back() {
    let world = World::new().await;
    world.funds("100.00");
    let service = world.start();
    says(&world.wait_told(1), &["USD 100.00", "critical", "USD 500.00"]);
    world.funds("1000.00");
    says(&world.wait_told(2), &["Improved to warning", "USD 1,000.00"]);
    world.funds("2000.00");
    says(&world.wait_told(3), &["resolved", "USD 2,000.00"]);
    service.expect_events(&["raised funds/acme", "eased funds/acme", "resolved funds/acme"]);
}

#[tokio::test]
async fn a_further_fall_escalates() {
    let world = World::new().await;
    world.funds("1999.99");
    let service = world.start();
    says(&world.wait_told(1), &["USD 1,999.99"]);
    world.funds("499.99");
    says(&world.wait_told(2), &["critical", "USD 499.99"]);
    service.expect_events(&["raised funds/acme", "escalated funds/acme"]);
}

#[tokio::test]
async fn a_refused_read_is_notified_at_once_and_resolves_nothing() {
    let world = World::new().await;
    world.funds("1000.00");
    let service = world.start();
    world.wait_told(1);
    world.answer(None, refusal());
    says(&world.wait_told(2), &["acme", "403", "no access to finances", "funds"]);
    world.let_a_cycle_pass();
    world.wait_told(2);
    service.expect_events(&["raised funds/acme", "raised unreadable/acme"]);
    world.funds("1000.00");
    says(&world.wait_told(3), &["resolved"]);
    service.expect_events(&["raised funds/acme", "raised unreadable/acme", "resolved unreadable/acme"]);
}

#[tokio::test]
async fn maintenance_is_notified_only_if_it_lasts() {
    let world = World::new().await;
    world.config(&format!("unreadable: {{ after: 2s }}\n{FUNDS}"));
    world.answer(None, ResponseTemplate::new(503).set_body_string("Service is unavailable"));
    let service = world.start();
    wait_until("the failure in the state", || world.state().contains("unreadable"));
    assert!(world.told().is_empty() && service.events().is_empty(), "{:?}", world.told());
    says(&world.wait_told(1), &["acme", "503"]);
    service.expect_events(&["raised unreadable/acme"]);
}

#[tokio::test]
async fn unlimited_funds_resolve() {
    let world = World::new().await;
    world.funds("100.00");
    let _service = world.start();
    world.wait_told(1);
    let body = json!({ "balance": "-1000.70", "currency": "USD", "unpaid_invoice_balance": "0.00",
        "used_credit_from_other_containers": "0.00", "unlimited_negative_balance": true });
    world.answer(None, ResponseTemplate::new(200).set_body_json(body));
    says(&world.wait_told(2), &["resolved", "unlimited"]);
}

#[tokio::test]
async fn a_threshold_in_another_currency_alerts_beside_a_working_rule() {
    let world = World::new().await;
    world.config(&format!("{FUNDS}  foreign:\n    metric: available_funds\n    warning: {{ below: 2000 EUR }}\n"));
    world.funds("1000.00");
    let service = world.start();
    says(&world.wait_told(1), &["USD 1,000.00", "EUR"]);
    service.expect_events(&["raised funds/acme", "raised unreadable/acme"]);
    world.funds("5000.00");
    says(&world.wait_told(2), &["resolved"]);
    service.expect_events(&["raised funds/acme", "raised unreadable/acme", "resolved funds/acme"]);
}

#[tokio::test]
async fn a_level_in_another_currency_leaves_the_other_level_working() {
    let world = World::new().await;
    world.config(
        "rules:\n  funds: { metric: available_funds, warning: { below: 2000 EUR }, critical: { below: 500 } }\n",
    );
    world.funds("88.00");
    let service = world.start();
    says(&world.wait_told(1), &["critical", "USD 88.00", "USD 500.00", "warning threshold in EUR"]);
    service.expect_events(&["raised funds/acme", "raised unreadable/acme"]);
    let checked = world.run(&["check", "-o", "json"]);
    assert_eq!((checked.code, &checked.json()["level"]), (Some(2), &json!("critical")));
    says(checked.json()["results"][0]["reason"].as_str().unwrap(), &["warning threshold in EUR"]);
    says(
        &world.run(&["check"]).stdout,
        &["one level cannot be compared: acme: rule funds has its warning threshold in EUR"],
    );
    let plugin = world.run(&["check", "-o", "plugin"]).stdout;
    says(
        &plugin,
        &["LOWTIDE CRITICAL - acme funds: USD 88.00 (rule funds has its warning threshold in EUR", "=88.00;;500:"],
    );
    let validated = world.run(&["validate", "--online"]);
    assert_eq!(validated.code, Some(1), "{validated:?}");
    says(&(validated.stdout + &validated.stderr), &["warning threshold in EUR"]);
    world.funds("9000.00");
    says(&world.wait_told(2), &["resolved", "USD 9,000.00"]);
    service.expect_events(&["raised funds/acme", "raised unreadable/acme", "resolved funds/acme"]);
    assert_eq!(world.run(&["check"]).code, Some(3), "an unknown level is not ok");
}

#[tokio::test]
async fn an_alert_fires_until_its_clear_at_is_reached() {
    let world = World::new().await;
    world.config("rules:\n  funds: { metric: available_funds, warning: { below: 2000, clear_at: 2500 } }\n");
    world.funds("1000.00");
    let service = world.start();
    world.wait_told(1);
    world.funds("2499.99");
    world.let_a_cycle_pass();
    service.expect_events(&["raised funds/acme"]);
    world.funds("2500.00");
    says(&world.wait_told(2), &["resolved", "USD 2,500.00"]);
}

#[tokio::test]
async fn a_level_waits_for_its_for() {
    let world = World::new().await;
    world.config("rules:\n  funds: { metric: available_funds, warning: { below: 2000 }, for: 3s }\n");
    world.funds("1000.00");
    let started = Instant::now();
    let service = world.start();
    wait_until("the pending alert", || world.state().contains("funds"));
    assert!(service.events().is_empty() && world.told().is_empty());
    world.wait_told(1);
    assert!(started.elapsed() >= Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_firing_alert_reminds() {
    let world = World::new().await;
    world.config("rules:\n  funds: { metric: available_funds, warning: { below: 2000 }, remind_every: 2s }\n");
    world.funds("1000.00");
    let service = world.start();
    world.wait_told(1);
    says(&world.wait_told(2), &["USD 1,000.00"]);
    service.expect_events(&["raised funds/acme", "reminder funds/acme"]);
}

#[tokio::test]
async fn every_active_division_is_read_once_a_cycle_and_called_by_its_name() {
    let world = World::new().await;
    world.config_with("divisions: all", &format!("{FUNDS}  owed: {{ metric: balance, warning: {{ below: 100 }} }}\n"));
    world.list(&[(11, "History department", true), (12, "<!channel>", true), (13, "Closed", false)]);
    for (id, amount) in [(11, "1100.00"), (12, "1200.00"), (13, "0.00")] {
        world.division_funds(id, amount);
    }
    let service = world.start();
    let sent = world.wait_told(1);
    says(&sent, &["History department", "&lt;!channel&gt;", "USD 1,100.00", "USD 1,200.00"]);
    assert!(!sent.contains("<!channel>") && !sent.contains("Closed"), "{sent}");
    service.expect_events(&["raised funds/acme/11", "raised funds/acme/12"]);
    service.wait_cycles(2);
    let cycles = service.cycles();
    for reads in [world.reads(11), world.reads(12)] {
        assert!((cycles..=cycles + 1).contains(&reads), "{reads} readings in {cycles} cycles");
    }
    assert_eq!((world.reads(13), world.reads(None)), (0, 0));
}

#[tokio::test]
async fn a_division_that_is_gone_from_the_listing_ends_with_one_notice() {
    let world = World::new().await;
    world.config_with("divisions: all", FUNDS);
    world.list(&[(11, "History", true), (12, "Physics", true)]);
    world.division_funds(11, "1100.00");
    world.division_funds(12, "1200.00");
    let service = world.start();
    world.wait_told(1);
    wait_until("the delivery in the state", || {
        world.state().contains("notified") && !world.state().contains("\"queue\"")
    });
    assert_eq!(service.stop(), Some(0));
    world.list(&[(11, "History", true)]);
    let service = world.start();
    says(&world.wait_told(2), &["no longer watched", "Physics"]);
    service.wait_cycles(3);
    world.wait_told(2);
    service.expect_events(&["unwatched */acme/12"]);
    assert!(!world.state().contains("Physics") && world.state().contains("History"), "{}", world.state());
}

#[tokio::test]
async fn a_division_removed_at_runtime_is_unwatched_and_not_unreadable() {
    let world = World::new().await;
    world.config_with("divisions: all", FUNDS);
    world.list(&[(11, "History", true), (12, "Physics", true)]);
    world.division_funds(11, "9000.00");
    world.division_funds(12, "1200.00");
    let service = world.start();
    world.wait_told(1);
    wait_until("the delivery in the state", || {
        world.state().contains("notified") && !world.state().contains("\"queue\"")
    });
    world.list(&[(11, "History", true)]);
    world.answer(12, ResponseTemplate::new(404));
    says(&world.wait_told(2), &["no longer watched", "Physics"]);
    service.wait_cycles(3);
    world.wait_told(2);
    service.expect_events(&["raised funds/acme/12", "unwatched */acme/12"]);
}

#[tokio::test]
async fn a_restart_repeats_nothing_and_later_resolutions_are_notified() {
    let world = World::new().await;
    world.funds("1000.00");
    let service = world.start();
    world.wait_told(1);
    assert_eq!(service.stop(), Some(0));
    let service = world.start();
    service.wait_cycles(2);
    assert!(service.events().is_empty());
    world.wait_told(1);
    world.funds("5000.00");
    says(&world.wait_told(2), &["resolved"]);
    wait_until("an empty state", || !world.state().contains("funds"));
}

#[tokio::test]
async fn a_kill_during_a_send_repeats_the_message_at_most_once() {
    let world = World::new().await;
    world.funds("1000.00");
    world.slack_answers(ResponseTemplate::new(200).set_delay(Duration::from_secs(1)));
    let service = world.start();
    world.wait_told(1);
    service.kill();
    world.slack_answers(ResponseTemplate::new(200));
    let service = world.start();
    world.wait_told(2);
    wait_until("an empty queue", || !world.state().contains("\"queue\""));
    service.kill();
    let service = world.start();
    service.wait_cycles(2);
    world.wait_told(2);
    assert!(service.events().is_empty());
}

#[tokio::test]
async fn the_documented_example_responses_are_understood() {
    let world = World::new().await;
    world.config("rules:\n  funds: { metric: available_funds, warning: { below: 2454.01 } }\n  debt: { metric: balance, warning: { below: 0 } }\n");
    let body = json!({ "balance": "454.00", "currency": "USD", "unpaid_invoice_balance": "0.00",
        "negative_balance_limit": "2000.00", "used_credit_from_other_containers": "0.00", "total_available_funds": "2454.00" });
    world.answer(None, ResponseTemplate::new(200).set_body_json(body));
    let service = world.start();
    says(&world.wait_told(1), &["USD 2,454.00", "454.00", "2,000.00", "USD 2,454.01"]);
    let body = json!({ "balance": "-1000.70", "currency": "USD", "unpaid_invoice_balance": "0.00",
        "used_credit_from_other_containers": "0.00", "unlimited_negative_balance": true });
    world.answer(None, ResponseTemplate::new(200).set_body_json(body));
    says(&world.wait_told(2), &["1,000.70", "unlimited", "resolved"]);
    service.expect_events(&["raised debt/acme", "raised funds/acme", "resolved funds/acme"]);
}

#[tokio::test]
async fn no_secret_is_shown_anywhere_even_where_a_server_echoes_it() {
    let world = World::new().await;
    let echo = json!({ "errors": [{ "code": "access_denied", "message": format!("the key {KEY} is not valid") }] });
    world.answer(None, ResponseTemplate::new(401).set_body_json(echo));
    let service = world.start_with(&["run", "--log-level", "trace"]);
    service.wait_cycles(1);
    says(&world.wait_told(1), &["401", "is not valid"]);
    let page = format!("no such hook: {} ({TOKEN})", world.webhook());
    world.slack_answers(ResponseTemplate::new(500).set_body_string(page));
    world.funds("100.00");
    wait_until("the failure of Slack in the state", || world.state().contains("\"failing_notifiers\""));
    let mut shown = vec![("log", service.log()), ("state", world.state()), ("Slack", world.told().join("\n"))];
    assert!(shown[0].1.contains("TRACE"), "the log is as talkative as it can be");
    for args in [["status"].as_slice(), &["status", "-o", "json"]] {
        let ran = world.run(args);
        shown.push(("status", ran.stdout + &ran.stderr));
    }
    let echo = json!({ "errors": [{ "code": KEY, "message": KEY }] });
    world.answer(None, ResponseTemplate::new(401).set_body_json(echo));
    for args in [["check"].as_slice(), &["check", "-o", "plugin"], &["validate", "--online"], &["test-notify"]] {
        let args: Vec<&str> = args.iter().copied().chain(["--log-level", "trace"]).collect();
        let ran = world.run(&args);
        assert_ne!(ran.code, Some(0), "{ran:?}");
        shown.push(("a command", ran.stdout + &ran.stderr));
    }
    for (place, text) in shown {
        for secret in [KEY, TOKEN] {
            assert!(!text.contains(secret), "a secret is shown in {place}: {text}");
        }
    }
}

#[tokio::test]
async fn a_log_line_in_json_says_each_thing_once() {
    let world = World::new().await;
    world.funds("1000.00");
    let service = world.start();
    service.wait_event("raised funds/acme");
    service.wait_cycles(1);
    for line in service.log().lines() {
        assert_eq!(line.matches("\"level\":").count(), 1, "{line}");
        let level = serde_json::from_str::<serde_json::Value>(line).unwrap()["level"].clone();
        assert!(["INFO", "WARN", "ERROR"].iter().any(|it| level == **it), "{line}");
    }
}
