//! `lowtide preview` shows what would be sent, and sends nothing.

use crate::support::bin::{FUNDS, KEY, TOKEN, World};
use serde_json::Value;
use wiremock::ResponseTemplate;

const MAIL: &str =
    "  mail: { type: email, host: mx.example.com, from: lowtide@example.com, to: [finance@example.com] }\n";

async fn world() -> World {
    let world = World::new().await;
    world.config(&format!("{MAIL}{}", FUNDS.replace("[slack]", "[slack, mail]")));
    world
}

fn text<'a>(preview: &'a Value, notifier: &str, part: &str) -> &'a str {
    preview["notifiers"][notifier][part].as_str().unwrap_or_else(|| panic!("no {part} of {notifier} in {preview:#}"))
}

#[tokio::test]
async fn what_is_shown_is_what_the_service_sends() {
    let world = world().await;
    world.config(FUNDS);
    world.funds("1431.00");
    let shown = world.run(&["preview", "--rule", "funds", "--event", "raised", "-o", "json"]).json();
    assert_eq!(shown["real"], true);
    let service = world.start();
    world.wait_told(1);
    assert_eq!(service.stop(), Some(0));
    // Both contain times to the minute, and the clock may have advanced between them.
    let timeless = |body: &Value| without_times(&body.to_string());
    assert_eq!(timeless(&shown["notifiers"]["slack"]["body"]), timeless(&world.slack_bodies()[0]));
}

/// Removes `since …, 09:15 UTC` and `next reminder …`.
fn without_times(text: &str) -> String {
    let cut = |text: &str, from: &str, to: &str| match text.split_once(from) {
        Some((head, tail)) => format!("{head}{}", tail.split_once(to).map_or("", |(_, rest)| rest)),
        None => text.to_owned(),
    };
    cut(&cut(text, "since ", "UTC"), "next reminder ", "\"")
}

#[tokio::test]
async fn a_real_reading_is_used_and_a_sample_says_that_it_is_one() {
    let world = world().await;
    world.funds("1431.25");
    let real = world.run(&["preview", "-o", "json"]).json();
    assert_eq!((&real["real"], real["notes"].as_array().unwrap().len()), (&Value::Bool(true), 0), "{real:#}");
    assert_eq!(text(&real, "mail", "subject"), "[warning] acme: USD 1,431.25 left (warning below USD 2,000.00)");
    assert!(text(&real, "mail", "html").starts_with("<!doctype html>"));
    assert!(text(&real, "slack", "text").contains("1,431.25"));

    world.funds("400");
    let critical = world.run(&["preview", "-o", "json"]).json();
    assert!(text(&critical, "mail", "subject").starts_with("[critical]"), "the level of the figures: {critical:#}");
    world.funds("90000");
    let high = world.run(&["preview"]);
    assert!(high.stdout.starts_with("note: present figures, at which the rule is ok"), "{high:?}");
    let fits = world.run(&["preview", "--event", "resolved", "-o", "json"]).json();
    assert_eq!(fits["notes"].as_array().unwrap().len(), 0, "{fits:#}");

    world.answer(None, ResponseTemplate::new(403));
    let sample = world.run(&["preview"]);
    assert_eq!(sample.code, Some(0));
    assert!(sample.stdout.starts_with("note: sample figures, since acme cannot be read ("), "{sample:?}");
    assert!(sample.stdout.contains("USD 1,000.00 left"), "{sample:?}");
    let reason = world.run(&["preview", "--event", "unreadable", "-o", "json"]).json();
    assert_eq!(reason["real"], true, "the failure is real: {reason:#}");
    let chosen = world.run(&["preview", "--sample", "--level", "critical"]);
    assert!(chosen.stdout.starts_with("note: sample figures\n") && chosen.stdout.contains("USD 250.00 left"));
}

#[tokio::test]
async fn every_event_has_a_preview_on_every_notifier_and_sends_nothing() {
    let world = world().await;
    for event in [
        "raised",
        "escalated",
        "eased",
        "reminder",
        "resolved",
        "unreadable",
        "readable",
        "unwatched",
        "notifier-failing",
        "notifier-recovered",
        "report",
        "test",
        "several",
    ] {
        let ran = world.run(&["preview", "--event", event, "--sample", "-o", "json"]);
        assert_eq!(ran.code, Some(0), "{event}: {ran:?}");
        let shown = ran.json();
        assert_eq!(shown["event"], event);
        for (notifier, part) in [("slack", "text"), ("mail", "subject"), ("mail", "text"), ("mail", "html")] {
            assert!(!text(&shown, notifier, part).is_empty());
        }
        assert!(!ran.stdout.contains(TOKEN) && !ran.stdout.contains(KEY));
        let plain = world.run(&["preview", "--event", event, "--sample", "--notifier", "mail"]);
        assert!(plain.stdout.contains("==== mail ====") && !plain.stdout.contains("==== slack"), "{plain:?}");
    }
    let reminder = world.run(&["preview", "--rule", "unreadable", "--event", "reminder", "--sample"]);
    assert!(reminder.stdout.contains("Still warning: acme: the balance cannot be read"), "{reminder:?}");
    assert!(world.told().is_empty() && world.state().is_empty());
    assert!(!world.path("state.json.lock").exists());
}

#[tokio::test]
async fn many_alerts_and_silences_can_be_previewed() {
    let world = world().await;
    let many = world.run(&["preview", "--event", "several", "-o", "json"]).json();
    assert_eq!(text(&many, "slack", "text"), "acme: 13 alerts: 5 critical, 4 warnings, 4 resolved");
    assert_eq!(many["notifiers"]["slack"]["body"]["attachments"].as_array().unwrap().len(), 11, "ten, and the rest");
    for (args, said) in [
        (["--event", "raised"].as_slice(), "It was silenced until "),
        (&["--event", "raised", "--level", "critical"], "Only its warnings are silenced, until "),
        (&["--event", "escalated"], "Only its warnings are silenced, until "),
        (&["--event", "resolved"], "sent because you were notified when it began."),
    ] {
        let ran = world.run(&[["preview", "--sample", "--silenced"].as_slice(), args].concat());
        assert!(ran.stdout.contains(said) && ran.stdout.contains("(PO 4711 raised)"), "{args:?}: {ran:?}");
    }
    let none = world.run(&["preview", "--event", "report", "--silenced"]);
    assert_eq!((none.code, none.stderr.as_str()), (Some(64), "lowtide: messages of report show no silence\n"));
}

#[tokio::test]
async fn a_test_message_is_marked_in_every_part_that_is_seen_first() {
    let world = world().await;
    let shown = world.run(&["preview", "--event", "test", "-o", "json"]).json();
    assert!(text(&shown, "slack", "text").starts_with("TEST: This is a test from lowtide"));
    assert!(text(&shown, "mail", "subject").starts_with("[TEST] This is a test from lowtide"));
    assert!(text(&shown, "mail", "text").starts_with("This is a test from lowtide: notifier mail works."));
    assert!(text(&shown, "mail", "html").contains("<title>This is a test from lowtide"));
}

#[tokio::test]
async fn the_html_goes_into_a_file_and_a_division_is_shown_by_its_name() {
    let world = world().await;
    world.config_with("divisions: all", &format!("{MAIL}{}", FUNDS.replace("[slack]", "[slack, mail]")));
    world.list(&[(7, "Physics <b>", true), (9, "History", true)]);
    world.division_funds(7, "100");
    world.division_funds(9, "700");
    let ran = world.run(&["preview", "--html", "page.html"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("written to page.html") && !ran.stdout.contains("<!doctype"), "{ran:?}");
    let page = std::fs::read_to_string(world.path("page.html")).unwrap();
    assert!(page.contains("acme · Physics &lt;b&gt;: USD 100.00 left"), "{page}");
    // The account's own balance is read for the message, and both are read to compare them, because the divisions may share
    // a fund.
    assert_eq!((world.reads(7), world.reads(9)), (3, 1));
    let other = world.run(&["preview", "--division", "9"]);
    assert!(other.stdout.contains("acme · History: USD 700.00 left"), "{other:?}");
    let none = world.run(&["preview", "--html", "page.html", "--notifier", "slack"]);
    assert_eq!(none.code, Some(64));
    assert!(none.stderr.contains("none of these notifiers sends HTML"), "{none:?}");
}

#[tokio::test]
async fn undefined_names_are_bad_usage_with_a_suggestion() {
    let world = world().await;
    for (args, said) in [
        (["--rule", "finds"].as_slice(), "no rule is called `finds`; did you mean `funds`?"),
        (&["--notifier", "slak"], "no notifier is called `slak`; did you mean `slack`?"),
        (&["--account", "zzzzzzzz"], "no account is called `zzzzzzzz`; there are acme"),
        (&["--division", "5"], "account `acme` is read without divisions, so there is no 5"),
        (&["--event", "escalated", "--level", "warning"], "then it is at critical"),
        (&["--event", "rased"], "raised"),
    ] {
        let ran = world.run(&[["preview"].as_slice(), args].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(64), ""), "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(said), "{said} is not in {ran:?}");
    }
    world.config("rules: {}\n");
    assert_eq!(world.run(&["preview"]).code, Some(78));
}

#[tokio::test]
async fn a_report_preview_shows_levels_and_runways() {
    let world = world().await;
    world.funds("400");
    let report = world.run(&["preview", "--event", "report"]);
    assert!(report.stdout.contains("1 account: 1 critical"), "{report:?}");
    world.config(&format!("{MAIL}rules:\n  lasts: {{ metric: runway, warning: {{ below: 14d }} }}\n"));
    let runway = world.run(&["preview", "--rule", "lasts", "--sample", "--notifier", "mail"]).stdout;
    for said in ["funds may last only 7 days", "Deposit USD ", "Funds last until about ", "Renewals due ", "<img "] {
        assert!(runway.contains(said), "{said} is not in {runway}");
    }
    world.config(&format!(
        "{MAIL}rules:\n  lasts: {{ metric: runway, warning: {{ below: 21d, clear_at: 31d }}, critical: {{ below: 36h }} }}\n"
    ));
    let sample =
        |args: &[&str]| world.run(&[["preview", "--sample", "--notifier", "mail"].as_slice(), args].concat()).stdout;
    let warning = sample(&[]);
    assert!(warning.contains("funds may last only 10 days (warning below 21 days)"), "{warning}");
    assert!(warning.contains("11 days under the threshold"), "{warning}");
    let critical = sample(&["--level", "critical"]);
    assert!(critical.contains("funds may not last a day"), "{critical}");
    let resolved = sample(&["--event", "resolved"]);
    assert!(resolved.contains("funds last at least 47 days"), "{resolved}");
}

#[tokio::test]
async fn a_failing_notifier_is_shown_with_a_failure_of_its_own_kind() {
    let world = world().await;
    let shown = world.run(&["preview", "--event", "notifier-failing", "-o", "json"]).json();
    let mail = text(&shown, "slack", "text").to_owned() + &shown["notifiers"]["slack"]["body"].to_string();
    assert!(mail.contains("Notifier mail") && mail.contains("mail server"), "{shown:#}");
    assert!(!mail.contains("Slack answered"), "{shown:#}");
    world.config(FUNDS);
    let shown = world.run(&["preview", "--event", "notifier-failing", "-o", "json"]).json();
    assert!(shown["notifiers"]["slack"]["body"].to_string().contains("Slack answered"), "{shown:#}");
}

const ENDS: &str =
    "  hook: { type: webhook, url: 'http://127.0.0.1:9/hook', signing_secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw }
  pager: { type: pagerduty, routing_key: 0123456789abcdef0123456789abcdef }
  teams: { type: teams, webhook_url: 'http://127.0.0.1:9/teams' }
";

#[tokio::test]
async fn requests_to_other_systems_are_shown_without_their_secrets() {
    let world = world().await;
    world.config(&format!("{ENDS}{}", FUNDS.replace("[slack]", "[hook, pager, teams]")));
    world.funds("1431.00");
    let shown = world.run(&["preview", "-o", "json"]).json();
    let body = |notifier: &str| &shown["notifiers"][notifier]["body"];
    assert_eq!((&body("hook")["event"], &body("hook")["value"]["amount"]), (&"raised".into(), &"1431.00".into()));
    assert_eq!((&body("pager")["event_action"], &body("pager")["routing_key"]), (&"trigger".into(), &"***".into()));
    assert_eq!(body("teams")["type"], "message", "{shown:#}");
    let text = world.run(&["preview", "--notifier", "hook"]).stdout;
    assert!(text.contains("-- body\n{\n") && text.contains("\n  \"event\": \"raised\",\n"), "{text}");
    let several = world.run(&["preview", "--event", "several", "-o", "json"]).json();
    assert_eq!(several["notifiers"]["hook"]["body"].as_array().unwrap().len(), 13, "a request an alert");
    let report = world.run(&["preview", "--event", "report", "--sample", "--notifier", "pager"]).stdout;
    assert!(report.contains("(nothing is sent)"), "{report}");
    let all = format!("{shown}{text}{several}{report}");
    assert!(!all.contains("0123456789abcdef") && !all.contains("whsec"), "{all}");
}
