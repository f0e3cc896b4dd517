//! Tests of the commands of the real binary: their output and exit codes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use crate::support::bin::{FUNDS, KEY, TOKEN, World, wait_until};
use serde_json::{Value, json};
use wiremock::ResponseTemplate;

#[tokio::test]
async fn bad_usage_exits_64_but_check_exits_unknown() {
    let world = World::new().await;
    for args in [["frobnicate"].as_slice(), &["run", "--frobnicate"], &[], &["completions", "klingon"]] {
        let ran = world.run(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(64), ""), "{args:?}: {ran:?}");
        assert!(!ran.stderr.is_empty());
    }
    assert_eq!(world.run(&["check", "--frobnicate"]).code, Some(3));
    assert_eq!(world.run(&["check", "-o", "frob"]).code, Some(3));
    for args in [["--help"].as_slice(), &["--version"], &["check", "--help"]] {
        assert_eq!(world.run(args).code, Some(0), "{args:?}");
    }
}

#[tokio::test]
async fn a_bad_configuration_exits_78_but_check_exits_unknown() {
    let world = World::new().await;
    world.config("rules:\n  funds: { metric: nonsense, warning: { below: 1 } }\n");
    std::fs::create_dir(world.path("folder")).unwrap();
    for file in ["alerts.yaml", "missing.yaml", "folder"] {
        for command in ["run", "validate", "status", "health", "test-notify"] {
            let ran = world.run(&["-c", file, command]);
            assert_eq!(ran.code, Some(78), "{command} {file}: {ran:?}");
            assert!((ran.stdout + &ran.stderr).contains(file));
        }
        let ran = world.run(&["check", "-c", file]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), ""), "{file}: {ran:?}");
        let line = world.run(&["check", "-o", "plugin", "-c", file]);
        assert_eq!(line.code, Some(3));
        assert!(line.stdout.starts_with("LOWTIDE UNKNOWN - ") && line.stdout.lines().count() == 1, "{line:?}");
    }
}

#[tokio::test]
async fn check_exits_with_the_worst_level_unknown_between_the_two() {
    let world = World::new().await;
    world.config_with("divisions: [1, 2, 3, 4]", FUNDS);
    let levels = |levels: [&str; 4]| {
        for (id, level) in (1..).zip(levels) {
            match level {
                "unknown" => world.answer(id, ResponseTemplate::new(403)),
                amount => world.division_funds(id, amount),
            }
        }
        world.run(&["check"]).code
    };
    assert_eq!(levels(["2000", "2000", "2000", "2000"]), Some(0));
    assert_eq!(levels(["2000", "2000", "1999.99", "2000"]), Some(1));
    assert_eq!(levels(["2000", "unknown", "1999.99", "2000"]), Some(3));
    assert_eq!(levels(["2000", "unknown", "1999.99", "499.99"]), Some(2));
    assert!(!world.path("state.json").exists(), "check stores nothing");
    assert!(world.told().is_empty(), "check sends nothing");
}

#[tokio::test]
async fn check_prints_a_table_json_or_the_plugin_line() {
    let world = World::new().await;
    world.funds("1431.25");
    let table = world.run(&["check"]);
    assert!(["warning", "acme", "funds", "1,431.25"].iter().all(|word| table.stdout.contains(word)), "{table:?}");
    assert!(!table.stdout.contains('\u{1b}'), "no colour where there is no terminal");
    let json = world.run(&["check", "-o", "json"]);
    assert_eq!(json.code, Some(1));
    let json = json.json();
    assert_eq!(json["level"], "warning");
    let row = &json["results"][0];
    for (key, value) in [
        ("account", json!("acme")),
        ("division", Value::Null),
        ("rule", json!("funds")),
        ("metric", json!("available_funds")),
        ("level", json!("warning")),
        ("amount", json!("1431.25")),
        ("currency", json!("USD")),
        ("unlimited", json!(false)),
        ("reason", Value::Null),
    ] {
        assert_eq!(row[key], value, "{key} of {row}");
    }
    let plugin = world.run(&["check", "--output", "plugin"]);
    assert_eq!(plugin.stdout, "LOWTIDE WARNING - acme funds: USD 1,431.25 | 'acme/funds'=1431.25;2000:;500:\n");
    world.answer(None, ResponseTemplate::new(401));
    let plugin = world.run(&["check", "-o", "plugin"]);
    assert_eq!(plugin.code, Some(3));
    assert!(plugin.stdout.starts_with("LOWTIDE UNKNOWN - acme: ") && plugin.stdout.lines().count() == 1, "{plugin:?}");
}

#[tokio::test]
async fn validate_prints_every_problem_at_once_with_its_place() {
    let world = World::new().await;
    let broken = format!(
        "schedule: whenever\naccounts:\n  acme:\n    api_key: {KEY}\n    regoin: us\nnotifiers:\n  slack: {{ type: slack, webhook_url: ftp://x/{TOKEN} }}\nrules:\n  funds:\n    metric: money\n    warning: {{ below: lots }}\n    notify: [nobody]\n"
    );
    std::fs::write(world.path("alerts.yaml"), broken).unwrap();
    let ran = world.run(&["validate"]);
    assert_eq!(ran.code, Some(78));
    let places = [
        "1:11  schedule",
        "5:5  accounts.acme.regoin",
        "7:",
        "10:13  rules.funds.metric",
        "11:23  rules.funds.warning.below",
        "12:14  rules.funds.notify",
    ];
    for place in places {
        assert!(ran.stdout.contains(&format!("alerts.yaml:{place}")), "{place} is not in {}", ran.stdout);
    }
    assert!(ran.stdout.contains("region"), "a known key is near: {}", ran.stdout);
    assert!(!ran.stdout.contains(KEY) && !ran.stdout.contains(TOKEN), "{}", ran.stdout);
    let json = world.run(&["validate", "-o", "json"]).json();
    assert_eq!(json["valid"], false);
    assert!(json["problems"].as_array().unwrap().len() >= places.len(), "{json}");
    assert_eq!(json["problems"][0]["line"], 1);
}

#[tokio::test]
async fn validate_online_reads_each_account_once() {
    let world = World::new().await;
    assert_eq!((world.run(&["validate"]).code, world.reads(None)), (Some(0), 0));
    assert_eq!((world.run(&["validate", "--online"]).code, world.reads(None)), (Some(0), 1));
    world.answer(None, ResponseTemplate::new(403));
    let ran = world.run(&["validate", "--online"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stdout.contains("403"), "{ran:?}");
    assert!(world.told().is_empty() && !world.path("state.json").exists());
}

#[tokio::test]
async fn validate_warns_when_others_can_read_a_secret() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new().await;
    let set = |mode| std::fs::set_permissions(world.path("alerts.yaml"), PermissionsExt::from_mode(mode)).unwrap();
    set(0o644);
    let ran = world.run(&["validate"]);
    assert!(ran.code == Some(0) && ran.stdout.contains("warning: "), "{ran:?}");
    set(0o600);
    let ran = world.run(&["validate"]);
    assert!(ran.code == Some(0) && !ran.stdout.contains("warning: "), "{ran:?}");
}

#[tokio::test]
async fn a_test_message_says_that_it_is_one() {
    let world = World::new().await;
    let ran = world.run(&["test-notify"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.starts_with("slack: "), "{ran:?}");
    assert!(world.wait_told(1).to_lowercase().contains("test"));
    assert_eq!(world.run(&["test-notify", "slack"]).code, Some(0));
    world.wait_told(2);
}

#[tokio::test]
async fn a_failed_test_message_exits_1_and_is_not_retried() {
    let world = World::new().await;
    for status in [403, 500] {
        world.slack_answers(ResponseTemplate::new(status));
        let before = world.told().len();
        let ran = world.run(&["test-notify"]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stdout.contains("FAILED") && ran.stdout.contains(&status.to_string()), "{ran:?}");
        assert_eq!(world.told().len(), before + 1);
    }
}

#[tokio::test]
async fn an_undefined_notifier_is_bad_usage_and_nothing_is_sent() {
    let world = World::new().await;
    let ran = world.run(&["test-notify", "slack", "nobody"]);
    assert_eq!(ran.code, Some(64));
    assert!(ran.stderr.contains("nobody") && ran.stderr.contains("slack"), "{ran:?}");
    assert!(world.told().is_empty());
}

#[tokio::test]
async fn init_writes_a_file_that_validates_and_never_overwrites() {
    let world = World::new().await;
    let before = std::fs::read(world.path("alerts.yaml")).unwrap();
    let ran = world.run(&["init"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(std::fs::read(world.path("alerts.yaml")).unwrap(), before);
    assert_eq!(world.run(&["init", "-c", "fresh.yaml"]).code, Some(0));
    let text = std::fs::read_to_string(world.path("fresh.yaml")).unwrap();
    assert!(text.contains("accounts:") && text.contains("rules:"), "a starter: {text:?}");
    // Every variable in the starter, also in comments: unused variables do no harm.
    let names = text.split("${").skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name);
    let environment: Vec<(&str, &str)> = names
        .map(|name| {
            (name, if name.contains("URL") { "https://hooks.slack.com/services/T0/B0/abcdefghijkl" } else { KEY })
        })
        .collect();
    assert!(!environment.is_empty(), "the starter keeps its secrets in the environment: {text}");
    let ran = world.run_with(&["validate", "-c", "fresh.yaml"], &environment);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[tokio::test]
async fn completions_are_printed_for_a_shell() {
    let world = World::new().await;
    let ran = world.run(&["completions", "bash"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert!(ran.stdout.contains("test-notify") && ran.stdout.contains("complete "), "{}", ran.stdout);
}

#[tokio::test]
async fn health_and_status_know_whether_the_service_runs() {
    let world = World::new().await;
    world.funds("1000.00");
    assert_eq!(world.run(&["health"]).code, Some(1));
    let service = world.start();
    service.wait_event("raised funds/acme");
    wait_until("a healthy service", || world.run(&["health"]).code == Some(0));
    wait_until("the delivery", || world.state().contains("\"notified\"") && !world.state().contains("\"queue\""));
    let live = world.run(&["status", "-o", "json"]).json();
    assert_eq!(live["running"], true);
    assert_eq!(live["accounts"][0]["account"], "acme");
    assert_eq!(live["readings"][0]["metrics"]["available_funds"], "USD 1,000.00");
    assert!(world.run(&["status"]).stdout.contains("funds"));
    assert_eq!(service.stop(), Some(0));
    assert_eq!(world.run(&["health"]).code, Some(1));
    let file = world.run(&["status", "-o", "json"]);
    assert_eq!(file.code, Some(0));
    let file = file.json();
    assert_eq!(file["running"], false);
    for report in [&live, &file] {
        let alert = &report["alerts"][0];
        let shown = [&alert["rule"], &alert["account"], &alert["level"], &alert["notified"][0]];
        assert_eq!(shown, ["funds", "acme", "warning", "slack"], "{alert}");
        assert!(alert["status"].as_str().unwrap().starts_with("firing") && report["pending"] == json!([]), "{report}");
    }
}

#[tokio::test]
async fn an_output_that_is_full_is_a_failure_and_never_a_panic() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let Ok(full) = full else { return println!("skipped: this system has no /dev/full") };
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lowtide"));
    let ended = command.args(["completions", "bash"]).stdout(full).output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(said, "lowtide: standard output cannot be written: No space left on device (os error 28)\n");
}

#[tokio::test]
async fn a_log_level_that_does_not_exist_is_bad_usage_rather_than_silence() {
    let world = World::new().await;
    let ran = world.run(&["--log-level", "verbose", "status"]);
    assert_eq!(ran.code, Some(64));
    assert!(ran.stderr.contains("use error, warn, info, debug or trace"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_clean_shutdown_logs_no_error_at_any_log_level() {
    let world = World::new().await;
    let text = std::fs::read_to_string(world.path("alerts.yaml")).unwrap();
    // Waits of over a minute use the cron scheduler, whose shutdown must not be logged.
    std::fs::write(world.path("alerts.yaml"), text.replace("every 1s", "every 10m")).unwrap();
    for start in [&["run"][..], &["run", "--log-level", "debug"], &["run", "--log-level", "info,lowtide=debug"]] {
        let service = world.start_with(&[start, &["--log-format", "json"]].concat());
        service.wait_cycles(1);
        std::thread::sleep(std::time::Duration::from_millis(300));
        let log = service.stop_with_log();
        assert!(log.contains("\"message\":\"stopped\"") && !log.contains("ERROR"), "{start:?}: {log}");
    }
}

#[tokio::test]
async fn a_notifier_that_refused_permanently_is_failing_with_nothing_pending() {
    let world = World::new().await;
    world.slack_answers(ResponseTemplate::new(404).set_body_string("no_service"));
    world.funds("1500.00");
    let service = world.start();
    wait_until("the refusal", || service.log().contains("notification permanently rejected"));
    wait_until("the status", || world.run(&["status"]).stdout.contains("Failing notifiers (1 row)"));
    let status = world.run(&["status"]).stdout;
    assert!(
        status.contains("No undelivered notifications.") && !status.contains("Pending notifications ("),
        "{status}"
    );
    assert!(status.contains("404"), "{status}");
}

#[tokio::test]
async fn an_unknown_forecast_keeps_its_thresholds_in_the_plugin_line() {
    let world = World::new().await;
    world.config("rules:\n  soon: { metric: runway, warning: { below: 14d }, critical: { below: 5d } }\n");
    let empty = json!({ "adjustments": [], "page": { "total": 0, "limit": 500, "offset": 0 } });
    world.serve("/finance/balance-history", ResponseTemplate::new(200).set_body_json(empty)).await;
    let none = json!({ "orders": [], "page": { "total": 0, "limit": 250, "offset": 0 } });
    world.serve("/order/certificate", ResponseTemplate::new(200).set_body_json(none)).await;
    let plugin = world.run(&["check", "-o", "plugin"]);
    assert!(plugin.stdout.ends_with("| 'acme/soon'=U;1209600:;432000:\n"), "{plugin:?}");
}

#[tokio::test]
async fn one_off_commands_do_not_refer_to_earlier_reads() {
    let world = World::new().await;
    world.config("rules:\n  soon: { metric: runway, warning: { below: 14d } }\n");
    for at in ["/finance/balance-history", "/order/certificate"] {
        world.serve(at, ResponseTemplate::new(403)).await;
    }
    for args in [&["check"][..], &["validate", "--online"]] {
        let ran = world.run(args);
        assert!(!format!("{}{}", ran.stdout, ran.stderr).contains("read before"), "{ran:?}");
        assert!(format!("{}{}", ran.stdout, ran.stderr).contains("403"), "{ran:?}");
    }
}

/// Returns the keys of an object, or of the items of a list, which must all have the same keys.
fn keys(value: &Value) -> Vec<String> {
    let object = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let Some(items) = value.as_array() else { return object(value) };
    assert!(!items.is_empty(), "an empty list shows nothing");
    let first = object(&items[0]);
    for item in items {
        assert_eq!(object(item), first, "{item}");
    }
    first
}

const RESULT_KEYS: &str =
    "account amount critical currency division division_name level metric reason rule seconds unlimited warning";
const SILENCE_KEYS: &str = "account division id level made name reason rule until";

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[tokio::test]
async fn check_gives_scripts_every_key_and_thresholds_as_objects() {
    let world = World::new().await;
    world.config_with(
        "divisions: [1, 2, 3]",
        "rules:\n  funds: { metric: available_funds, warning: { below: 2000 }, critical: { below: 500.50 } }\n  owed: { metric: unpaid_invoices, warning: { above: 1000.50 USD } }\n  soon: { metric: runway, critical: { below: 7d } }\n",
    );
    world.division_funds(1, "1431.5");
    let unlimited = json!({ "balance": "5.00", "currency": "USD", "unlimited_negative_balance": true });
    world.answer(2, ResponseTemplate::new(200).set_body_json(unlimited));
    world.answer(3, ResponseTemplate::new(403));
    let empty = json!({ "adjustments": [], "page": { "total": 0, "limit": 500, "offset": 0 } });
    world.serve("/finance/balance-history", ResponseTemplate::new(200).set_body_json(empty)).await;
    let none = json!({ "orders": [], "page": { "total": 0, "limit": 250, "offset": 0 } });
    world.serve("/order/certificate", ResponseTemplate::new(200).set_body_json(none)).await;
    let found = world.run(&["check", "-o", "json"]).json();
    assert_eq!(keys(&found), words("level notes results"));
    assert_eq!(keys(&found["results"]), words(RESULT_KEYS));
    let of = |division: u64, rule: Value| {
        let results = found["results"].as_array().unwrap();
        results
            .iter()
            .find(|it| it["division"] == division && it["rule"] == rule)
            .unwrap_or_else(|| panic!("{found}"))
            .clone()
    };
    let funds = of(1, json!("funds"));
    assert_eq!(
        (&funds["amount"], &funds["currency"], &funds["seconds"]),
        (&json!("1431.50"), &json!("USD"), &Value::Null)
    );
    assert_eq!(funds["warning"], json!({ "below": "2000", "currency": null }));
    assert_eq!(funds["critical"], json!({ "below": "500.50", "currency": null }));
    let pending = of(1, json!("owed"));
    assert_eq!(
        (&pending["warning"], &pending["critical"]),
        (&json!({ "above": "1000.50", "currency": "USD" }), &Value::Null)
    );
    let soon = of(1, json!("soon"));
    assert_eq!((&soon["critical"], &soon["amount"]), (&json!({ "below_seconds": 604_800 }), &Value::Null));
    assert_eq!((&of(2, json!("funds"))["unlimited"], &of(3, Value::Null)["level"]), (&json!(true), &json!("unknown")));
    let table = world.run(&["check"]).stdout;
    assert!(
        table.contains("below 2,000") && table.contains("above USD 1,000.50") && table.contains("below 7d"),
        "{table}"
    );
    world.config("rules: {}\n");
    assert_eq!(keys(&world.run(&["check", "-o", "json"]).json()), words("level notes results"));
}

#[tokio::test]
async fn validate_and_test_notify_give_scripts_every_key() {
    let world = World::new().await;
    let problem = "column expected file found line path severity suggestion";
    let offline = world.run(&["validate", "-o", "json"]).json();
    assert_eq!((keys(&offline), &offline["online"]), (words("online problems valid warnings"), &Value::Null));
    let online = world.run(&["validate", "--online", "-o", "json"]).json();
    assert_eq!(keys(&online["online"]), words("account failures good_readings suggestions"));
    let delivered = world.run(&["test-notify", "-o", "json"]).json();
    assert_eq!(delivered, json!([{ "notifier": "slack", "delivered": true, "detail": null }]));
    world.slack_answers(ResponseTemplate::new(403));
    let failed = world.run(&["test-notify", "-o", "json"]).json();
    assert_eq!(keys(&failed), keys(&delivered));
    assert!(failed[0]["detail"].as_str().unwrap().contains("403"), "{failed}");
    world.config("rules:\n  funds: { metric: nonsense, warnin: { below: 1 } }\nschedule: never\n");
    let broken = world.run(&["validate", "-o", "json"]).json();
    assert_eq!((keys(&broken), keys(&broken["problems"])), (keys(&offline), words(problem)));
}

#[tokio::test]
async fn json_of_status_and_silences_has_every_key_without_a_service_too() {
    let world = World::new().await;
    world.config_with(
        "divisions: [1, 2]",
        &format!("{FUNDS}silences:\n  po: {{ account: acme, division: 2, rule: funds, until: '2126-12-01T09:00:00Z', reason: PO 4711 }}\n"),
    );
    world.division_funds(1, "1500.00");
    world.answer(2, ResponseTemplate::new(403));
    let status = "accounts alerts counts pending readings reload rules running silences";
    let empty = world.run(&["status", "-o", "json"]).json();
    assert_eq!((keys(&empty), &empty["reload"]), (words(status), &Value::Null));
    let service = world.start();
    service.wait_event("raised funds/acme/1");
    service.wait_cycles(2);
    let added = world.run(&["silence", "add", "--account", "acme", "--for", "1h", "-o", "json"]).json();
    assert_eq!((keys(&added), &added["reason"], &added["division"]), (words(SILENCE_KEYS), &Value::Null, &Value::Null));
    let listed = world.run(&["silence", "list", "-o", "json"]).json();
    assert_eq!((keys(&listed["silences"]), listed["silences"].as_array().unwrap().len()), (words(SILENCE_KEYS), 2));
    let live = world.run(&["status", "-o", "json"]).json();
    assert_eq!(keys(&live), words(status));
    assert_eq!(keys(&live["silences"]), words(SILENCE_KEYS));
    assert_eq!(keys(&live["readings"]), words("account amounts at division division_name last_good metrics"));
    let metrics = words("available_funds balance unpaid_invoices used_credit");
    for reading in live["readings"].as_array().unwrap() {
        assert_eq!((keys(&reading["amounts"]), keys(&reading["metrics"])), (metrics.clone(), metrics.clone()));
    }
    let alert = "account division division_name last_event level notified reason rule silenced since status";
    assert_eq!(keys(&live["alerts"]), words(alert));
    assert_eq!(keys(&live["alerts"][0]["silenced"]), words("level reason until"));
    assert_eq!(service.stop(), Some(0));
    let stored = world.run(&["status", "-o", "json"]).json();
    assert_eq!((keys(&stored), keys(&stored["alerts"])), (words(status), words(alert)));
}

#[tokio::test]
async fn preview_gives_scripts_every_key_of_every_kind_of_notifier() {
    let world = World::new().await;
    let others = "  hook: { type: webhook, url: 'http://127.0.0.1:9/x' }\n  mail: { type: email, host: 127.0.0.1, tls: none, from: a@example.com, to: [b@example.com] }\n";
    world.config(&format!("{others}rules:\n  funds: {{ metric: available_funds, warning: {{ below: 2000 }} }}\n"));
    let shown = world.run(&["preview", "--sample", "-o", "json"]).json();
    assert_eq!(keys(&shown), words("event notes notifiers real"));
    for notifier in ["hook", "mail", "slack"] {
        assert_eq!(keys(&shown["notifiers"][notifier]), words("body html pictures subject text"), "{notifier}");
    }
}

#[tokio::test]
async fn a_bad_ca_file_is_a_bad_configuration_for_validate_and_run_alike() {
    let world = World::new().await;
    let good = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap().cert.pem();
    let broken = format!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{good}");
    let mail =
        "  mail: { type: email, host: 127.0.0.1, from: a@example.com, to: [b@example.com], ca_file: mail.pem }\n";
    world.config_with("ca_file: ca.pem", &format!("{mail}{FUNDS}"));
    for (ca, mail) in [(&good, &broken), (&broken, &good)] {
        std::fs::write(world.path("ca.pem"), ca).unwrap();
        std::fs::write(world.path("mail.pem"), mail).unwrap();
        for command in ["validate", "run", "test-notify"] {
            let ran = world.run(&[command]);
            assert_eq!(ran.code, Some(78), "{command}: {ran:?}");
            let said = ran.stdout + &ran.stderr;
            assert!(said.contains("certificate 1 (line 1) is broken") && said.contains(".pem"), "{said}");
        }
    }
    for file in ["ca.pem", "mail.pem"] {
        std::fs::write(world.path(file), format!("\u{feff}    {}", good.replace('\n', "\r\n    "))).unwrap();
    }
    assert_eq!(world.run(&["validate"]).code, Some(0));
    let service = world.start();
    service.wait_cycles(1);
    // A file that becomes invalid while the service runs changes nothing.
    std::fs::write(world.path("ca.pem"), &broken).unwrap();
    service.hangup();
    wait_until("the refusal", || service.log().contains("certificate 1 (line 1) is broken"));
    let cycles = service.cycles();
    service.wait_cycles(cycles + 1);
    assert_eq!(service.stop(), Some(0));
}

#[tokio::test]
async fn a_currency_that_does_not_exist_is_a_bad_configuration() {
    let world = World::new().await;
    for (threshold, shown_as) in
        [("2000 USDD", "did you mean `USD`?"), ("2000 XXX", "XXX is not money"), ("2000 ERU", "`EUR`")]
    {
        world.config(&format!("rules:\n  funds: {{ metric: balance, warning: {{ below: {threshold} }} }}\n"));
        let ran = world.run(&["validate"]);
        assert!(ran.code == Some(78) && ran.stdout.contains(shown_as), "{threshold}: {ran:?}");
    }
}

#[tokio::test]
async fn an_override_replaces_the_keys_that_exclude_it() {
    let world = World::new().await;
    let text = std::fs::read_to_string(world.path("alerts.yaml")).unwrap();
    std::fs::write(world.path("alerts.yaml"), text.replace(&format!("api_key: {KEY}"), "api_key_file: nowhere"))
        .unwrap();
    assert_eq!(world.run(&["validate"]).code, Some(78));
    let key = ("LOWTIDE_ACCOUNTS__ACME__API_KEY", KEY);
    let ran = world.run_with(&["validate", "--online"], &[key]);
    assert_eq!((ran.code, world.reads(None)), (Some(0), 1), "{ran:?}");
    let above = [key, ("LOWTIDE_RULES__FUNDS__WARNING__ABOVE", "1"), ("LOWTIDE_RULES__FUNDS__CRITICAL__ABOVE", "2.50")];
    let found = world.run_with(&["check", "-o", "json"], &above).json();
    assert_eq!(found["results"][0]["critical"], json!({ "above": "2.50", "currency": null }), "{found}");
    let both = world.run_with(&["validate"], &[key, ("LOWTIDE_ACCOUNTS__ACME__API_KEY_FILE", "alerts.yaml")]);
    assert!(both.code == Some(78) && both.stdout.contains("LOWTIDE_ACCOUNTS__ACME__API_KEY_FILE  "), "{both:?}");
    assert!(both.stdout.contains("(LOWTIDE_ACCOUNTS__ACME__API_KEY)"), "both are named: {both:?}");
}

/// Returns a full pipe without a reader.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut filler = writer.try_clone().unwrap();
    std::thread::spawn(move || while filler.write_all(&[b'x'; 4096]).is_ok() {});
    (reader, writer)
}

#[tokio::test]
async fn an_unread_log_delays_no_reading_no_message_and_no_shutdown() {
    let world = World::new().await;
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    world.config(&format!("http: {{ listen: '{port}' }}\n{FUNDS}"));
    let (reader, writer) = full_pipe();
    let service = world.start_with_stderr(writer);
    world.let_a_cycle_pass();
    world.funds("1000.00");
    world.wait_told(1);
    world.funds("100.00");
    world.wait_told(2);
    world.let_a_cycle_pass();
    let mut asking = TcpStream::connect(port).unwrap();
    asking.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut metrics = String::new();
    asking.read_to_string(&mut metrics).unwrap();
    assert!(metrics.contains("\nlowtide_log_lines_dropped_total 0\n"), "what is waiting is not lost yet: {metrics}");
    assert_eq!(service.stop(), Some(0));
    drop(reader);
}

#[tokio::test]
async fn a_configuration_mistake_ends_a_service_with_an_unread_log() {
    let world = World::new().await;
    world.config("rules: {}\n");
    let (reader, writer) = full_pipe();
    assert_eq!(world.start_with_stderr(writer).wait(), Some(78));
    drop(reader);
}

#[tokio::test]
async fn the_last_lines_of_a_service_and_of_a_command_are_not_lost() {
    let world = World::new().await;
    let service = world.start();
    service.wait_cycles(1);
    assert!(service.stop_with_log().contains("\"message\":\"stopped\""));
    world.config("rules: {}\n");
    for command in ["run", "check"] {
        let ran = world.run(&[command]);
        assert!(ran.stderr.ends_with("alerts.yaml: 1 error\n"), "{command}: {ran:?}");
    }
}

#[tokio::test]
async fn a_command_that_waits_for_a_server_ends_at_a_signal() {
    let world = World::new().await;
    let hanging = || ResponseTemplate::new(200).set_delay(Duration::from_secs(60));
    let text = std::fs::read_to_string(world.path("alerts.yaml")).unwrap();
    let patient = text.replace("    type: slack\n", "    type: slack\n    timeout: 60s\n");
    std::fs::write(world.path("alerts.yaml"), patient.replace("    api_key", "    timeout: 60s\n    api_key")).unwrap();
    world.answer(None, hanging());
    world.slack_answers(hanging());
    let _silent = UnixListener::bind(world.path("state.json.sock")).unwrap();
    let commands: [&[&str]; 8] = [
        &["check"],
        &["validate", "--online"],
        &["preview"],
        &["backtest"],
        &["test-notify"],
        &["status"],
        &["health"],
        &["silence", "list"],
    ];
    for args in commands {
        for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
            let command = world.start_command(args);
            command.wait_until_signals_are_caught();
            assert_eq!(command.end(signal), Some(code), "{args:?} at {signal}");
        }
    }
}

#[tokio::test]
async fn a_command_with_an_unread_output_ends_at_a_signal() {
    let world = World::new().await;
    world.answer(None, ResponseTemplate::new(403));
    let (reader, writer) = full_pipe();
    let command = world.start_command_to(&["check", "--log-level", "trace"], writer);
    command.wait_until_signals_are_caught();
    std::thread::sleep(Duration::from_secs(1)); // by then the command waits for a reader
    assert_eq!(command.end("-TERM"), Some(143));
    drop(reader);
}
