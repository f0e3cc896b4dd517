//! Reports of the real binary: on time, once each, made up for after downtime, with old figures marked.

use crate::support::bin::{FUNDS, World, wait_until};
use crate::support::smtp;
use chrono::{DateTime, Datelike, Duration, Timelike, Utc};
use serde_json::{Value, json};
use wiremock::ResponseTemplate;

#[allow(clippy::disallowed_methods)] // the service under test lives by the system's clock
fn now() -> DateTime<Utc> {
    Utc::now()
}

fn reports(schedule: &str, notify: &str) -> String {
    format!("{FUNDS}reports:\n  weekly: {{ schedule: \"{schedule}\", notify: [{notify}] }}\n")
}

/// Returns a daily schedule whose last time was about two hours ago.
fn two_hours_ago() -> String {
    format!("0 {} * * *", (now() - Duration::hours(2)).hour())
}

/// Writes the state of a service that last sent the report this many days ago.
fn write_reported_state(world: &World, days: i64, figures: &Value) {
    let due = (now() - Duration::days(days)).to_rfc3339();
    let state = json!({ "version": 1, "reports": { "weekly": { "due": due, "figures": figures } } });
    std::fs::write(world.path("state.json"), state.to_string()).unwrap();
}

fn pages(world: &World) -> Vec<String> {
    world.told().into_iter().filter(|body| body.contains("Report weekly")).collect()
}

#[tokio::test]
async fn a_missed_report_comes_once_at_start_and_never_again() {
    let world = World::new().await;
    world.config(&reports(&two_hours_ago(), "slack"));
    let before = json!([{ "account": "acme", "at": now().to_rfc3339(), "funds": { "amount": { "amount": "9000", "currency": "USD" } } }]);
    write_reported_state(&world, 3, &before);
    let service = world.start();
    wait_until("the missed report", || !pages(&world).is_empty());
    let page = pages(&world).remove(0);
    assert!(page.contains("Report weekly · 1 account: all ok"), "{page}");
    assert!(page.contains("*acme*: USD 10,000.00 (+1,000.00)"), "{page}");
    service.wait_cycles(4);
    assert_eq!(service.stop(), Some(0));
    let again = world.start();
    again.wait_cycles(4);
    assert_eq!(again.stop(), Some(0));
    assert_eq!(pages(&world).len(), 1, "each time is reported once");
}

#[tokio::test]
async fn a_report_missed_by_over_a_day_is_skipped() {
    let world = World::new().await;
    let day = (now() - Duration::days(2)).weekday();
    world.config(&reports(&format!("0 12 * * {day}"), "slack"));
    write_reported_state(&world, 9, &json!([]));
    let service = world.start();
    service.wait_cycles(4);
    assert_eq!(service.stop(), Some(0));
    std::fs::remove_file(world.path("state.json")).unwrap();
    world.config(&reports(&two_hours_ago(), "slack"));
    let fresh = world.start();
    fresh.wait_cycles(4);
    assert_eq!(fresh.stop(), Some(0));
    assert_eq!(pages(&world).len(), 0);
    assert!(world.state().contains("\"weekly\""), "the report is registered: {}", world.state());
}

#[tokio::test]
async fn a_report_is_saved_before_it_is_sent_and_survives_a_restart() {
    let world = World::new().await;
    world.config(&reports(&two_hours_ago(), "slack"));
    world.slack_answers(ResponseTemplate::new(503));
    write_reported_state(&world, 3, &json!([]));
    let service = world.start();
    wait_until("a try", || !pages(&world).is_empty());
    let state: Value = serde_json::from_str(&world.state()).unwrap();
    assert_eq!(state["queue"][0]["event"]["about"], "report");
    assert_eq!(state["reports"]["weekly"]["figures"][0]["account"], "acme");
    service.kill();
    world.slack_answers(ResponseTemplate::new(200).set_body_string("ok"));
    let tries = pages(&world).len();
    let service = world.start();
    wait_until("the report", || pages(&world).len() > tries);
    wait_until("an empty queue", || !world.state().contains("\"queue\""));
    assert_eq!(service.stop(), Some(0));
    assert_eq!(pages(&world).len(), tries + 1);
}

#[tokio::test(flavor = "multi_thread")] // the mail server runs in this runtime, and the test blocks
async fn a_page_names_firing_alerts_and_old_figures_in_slack_and_email() {
    let world = World::new().await;
    let server = smtp::Server::start(smtp::Script::default()).await;
    let mail = format!(
        "  mail: {{ type: email, host: 127.0.0.1, port: {}, tls: none, from: lowtide@example.com, to: [cfo@example.com] }}\n",
        server.address.port()
    );
    world.config_with("divisions: all", &format!("{mail}{}", reports("*/2 * * * * *", "slack, mail")));
    world.list(&[(1, "History", true), (2, "Law", true), (3, "Physics", true)]);
    world.division_funds(1, "431");
    world.division_funds(2, "3120");
    world.division_funds(3, "8088");
    let service = world.start();
    wait_until("a first page", || !pages(&world).is_empty());
    world.answer(2, ResponseTemplate::new(503));
    world.division_funds(3, "9088");
    wait_until("a page with an old figure", || pages(&world).iter().any(|page| page.contains("(stale, last read ")));
    let page = pages(&world).into_iter().find(|page| page.contains("(stale, last read ")).unwrap();
    for expected in
        ["1 critical", "1 unreadable", "USD 431.00", "funds: critical since ", "USD 3,120.00 (stale, last read ", "503"]
    {
        assert!(page.contains(expected), "{expected} is not in {page}");
    }
    let places = ["*acme · History*", "*acme · Law*", "*acme · Physics*"].map(|place| page.find(place).unwrap());
    assert!(places.is_sorted(), "most severe first: {page}");
    let mails = || server.conversations().into_iter().flat_map(|it| it.data).collect::<Vec<_>>();
    wait_until("a mail", || !mails().is_empty());
    let data = mails().remove(0);
    let mail = mail_parser::MessageParser::default().parse(data.as_bytes()).unwrap();
    assert!(mail.subject().unwrap().starts_with("[report] weekly · 3 divisions: 1 critical"), "{:?}", mail.subject());
    let (html, text) = (mail.body_html(0).unwrap(), mail.body_text(0).unwrap());
    assert!(html.contains("acme · History") && html.matches("border-left:4px").count() == 3, "{html}");
    assert!(text.contains("critical    acme · History: USD 431.00"), "{text}");
    assert_eq!(service.stop(), Some(0));
}

#[tokio::test]
async fn a_report_shows_silences_by_command_and_configuration() {
    let world = World::new().await;
    world.funds("1431.00");
    let until = (now() + Duration::days(3)).format("%Y-%m-%dT%H:%M:%SZ");
    let silences =
        format!("silences:\n  known: {{ account: acme, rule: unreadable, until: '{until}', reason: maintenance }}\n");
    world.config(&format!("{silences}{}", reports("*/2 * * * * *", "slack")));
    let made = world.run(&["silence", "add", "--account", "acme", "--for", "2d", "--reason", "PO <4711> raised"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let service = world.start();
    wait_until("a page with the alert", || pages(&world).iter().any(|page| page.contains("funds: warning since")));
    let page = pages(&world).into_iter().find(|page| page.contains("funds: warning since")).unwrap();
    for expected in [
        ", silenced until ",
        "acme is silenced until ",
        "(PO &lt;4711&gt; raised); critical alerts still get through.",
        "acme: an unreadable balance is silenced until ",
        "(maintenance); critical alerts still get through.",
    ] {
        assert!(page.contains(expected), "{expected} is not in {page}");
    }
    let (sooner, later) = (page.find("acme is silenced"), page.find("acme: an unreadable"));
    assert!(sooner < later, "in the order in which they end: {page}");
    assert_eq!(world.run(&["silence", "remove", "1"]).code, Some(0));
    let before = pages(&world).len();
    wait_until("a page without it", || pages(&world)[before..].iter().any(|page| !page.contains("4711")));
    assert_eq!(service.stop(), Some(0));
}

#[tokio::test]
async fn a_cron_step_larger_than_its_field_is_refused_with_a_suggestion() {
    let world = World::new().await;
    world.config_with(
        "schedule: \"*/90 * * * *\"",
        &format!("{FUNDS}reports:\n  a: {{ schedule: \"0 */36 * * *\" }}\n  b: {{ schedule: \"0 9 * * */14\" }}\n"),
    );
    let ran = world.run(&["validate"]);
    assert_eq!(ran.code, Some(78));
    for expected in [
        "`*/90 * * * *` is not a schedule",
        "accounts.acme.schedule",
        "expected a crontab",
        "`*/90` is no minute: a step is from 1 to 60; write \"every 90m\")",
        "`*/36` is no hour: a step is from 1 to 24; write \"every 36h\")",
        "`*/14` is no day of the week: a step is from 1 to 7)",
    ] {
        let words: Vec<&str> = ran.stdout.split_whitespace().collect();
        assert!(words.join(" ").contains(expected), "{expected} is not in {}", ran.stdout);
    }
}

#[tokio::test]
async fn mistakes_in_reports_are_listed_with_the_others() {
    let world = World::new().await;
    world.config(&format!(
        "{FUNDS}reports:\n  a: {{ notify: [slak] }}\n  b: {{ schedule: weekly }}\n  c: {{ shedule: x }}\n"
    ));
    let ran = world.run(&["validate"]);
    assert_eq!(ran.code, Some(78));
    for expected in [
        "missing required key `schedule`",
        "  reports.a.schedule",
        "`slak` is not the name of a notifier",
        "  reports.a.notify[0]",
        "did you mean `slack`?",
        "`weekly` is not a schedule",
        "unknown key `shedule`",
        "expected schedule or notify",
        "did you mean `schedule`?",
    ] {
        assert!(ran.stdout.contains(expected), "{expected} is not in {}", ran.stdout);
    }
    world.config(FUNDS);
    let preview = world.run(&["preview", "--event", "report", "-o", "json"]).json();
    assert!(preview["notifiers"]["slack"]["text"].as_str().unwrap().starts_with("Report weekly · 1 account: all ok"));
}
