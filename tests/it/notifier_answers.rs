//! Webhook, PagerDuty and Teams: the meaning of each response, the content for every kind of event, and its size.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::support::delivery::{DeliveryBench, TestNotifier};
use crate::support::faults::{Fault, FaultServer, nobody, status};
use crate::support::sample::{message, message_context, now, warning, warning_with_forecast};
use crate::support::webhook_schema::{documented, expect_documented};
use lowtide::domain::alert::{AlertKey, TransitionKind};
use lowtide::domain::balance::{MetricValue as Amount, Persistence};
use lowtide::domain::event::{EvaluatedThreshold, Event, EventSubject, UnreadableEvent};
use lowtide::domain::rule::{Metric, Severity, ThresholdSide};
use lowtide::notify::channels::pagerduty::PagerDutyNotifier;
use lowtide::notify::channels::teams::{TeamsNotifier, payload};
use lowtide::notify::channels::webhook::WebhookNotifier;
use lowtide::notify::{
    FallbackOrigin, Message, MessageContent, MessageContext, MessageEvent, Notifier, RuleTexts, SendError,
};
use lowtide::util::http_client;
use lowtide::util::http_client::HttpClientOptions;
use lowtide::util::secret::{Redactor, Secret};
use serde_json::{Value, json};

const TOKEN: &str = "abcdefghijklmnop1234";
const TYPES: [&str; 3] = ["webhook", "pagerduty", "teams"];

fn notifier(kind: &str, base: &str, context: MessageContext) -> Arc<dyn Notifier> {
    let options = HttpClientOptions { timeout: Duration::from_millis(800), extra_ca_pem: None, loopback: true };
    let (http, context, redactor) = (http_client::client(&options).unwrap(), Arc::new(context), Redactor::default());
    let secret = Secret::new(if kind == "pagerduty" { TOKEN.to_owned() } else { format!("{base}/in/{TOKEN}") });
    redactor.learn(&secret);
    let headers = [("x-api-key".to_owned(), Secret::new("of-the-header"))];
    redactor.learn(&headers[0].1);
    match kind {
        "webhook" => Arc::new(WebhookNotifier::new(secret, &headers, None, http, context, redactor)),
        "pagerduty" => Arc::new(PagerDutyNotifier::new(
            "on-call".into(),
            secret,
            &format!("{base}/v2/enqueue"),
            http,
            context,
            redactor,
        )),
        _ => Arc::new(TeamsNotifier::new(secret, http, context, redactor)),
    }
}

async fn refused(kind: &str, fault: Fault) -> Result<(), SendError> {
    let server = FaultServer::plain(fault);
    let sent = notifier(kind, &server.base(), message_context()).send(&message(vec![warning("History")])).await;
    assert!(server.requests().len() <= 1, "one attempt is one request");
    sent.map(|_| ())
}

/// Returns the bodies of the requests for a message.
async fn bodies(kind: &str, message: &Message, context: MessageContext) -> Vec<Value> {
    let server = FaultServer::plain(status("202 Accepted", &[], ""));
    notifier(kind, &server.base(), context).send(message).await.unwrap();
    server.requests().iter().map(|it| serde_json::from_str(it.split_once("\r\n\r\n").unwrap().1).unwrap()).collect()
}

#[tokio::test]
async fn every_answer_has_its_class() {
    for kind in TYPES {
        for (answer, fits) in [("200 OK", true), ("202 Accepted", true), ("204 No Content", true)] {
            assert_eq!(refused(kind, status(answer, &[], "")).await.is_ok(), fits, "{kind} {answer}");
        }
        let permanent = ["400", "401", "403", "404", "405", "410", "413", "422"].map(|code| (code, true));
        let passing = ["302", "408", "425", "429", "500", "502", "503", "504"].map(|code| (code, false));
        for (code, permanent) in permanent.into_iter().chain(passing) {
            let answer = status(&format!("{code} X"), &["Location: http://localhost:1/"], "no \u{1b}[31m reason");
            let error = refused(kind, answer).await.unwrap_err();
            assert_eq!(error.permanent, permanent, "{kind}: {error:?}");
            assert!(error.reason.contains(code) && error.reason.contains("reason"), "{kind}: {error:?}");
            assert!(!error.reason.contains('\u{1b}'), "{kind}: {error:?}");
        }
        let echo = format!("{TOKEN} of-the-header {}", "x".repeat(100_000));
        for code in ["400 X", "500 X"] {
            let error = refused(kind, status(code, &[], &echo)).await.unwrap_err();
            assert!(!error.reason.contains("of-the-header") || kind != "webhook", "{error:?}");
            assert!(!error.reason.contains(TOKEN) && error.reason.chars().count() <= 200, "{kind}: {error:?}");
        }
        let wait = refused(kind, status("429 X", &["Retry-After: 30"], "")).await.unwrap_err();
        assert_eq!(wait.retry_after, Some(Duration::from_secs(30)), "{kind}");
        for silent in [Fault::Hang(vec![]), Fault::Reset, Fault::Bytes(vec![])] {
            let error = refused(kind, silent).await.unwrap_err();
            assert!(!error.permanent && error.reason.contains("could not be reached"), "{kind}: {error:?}");
            assert!(!error.reason.contains("127.0.0.1") && !error.reason.contains(TOKEN), "{kind}: {error:?}");
        }
        let gone = notifier(kind, &nobody(), message_context()).send(&message(vec![warning("x")])).await.unwrap_err();
        assert!(!gone.permanent, "{kind}: {gone:?}");
    }
}

#[tokio::test]
async fn a_refusal_with_status_200_is_no_delivery_for_known_services() {
    let page = "<!DOCTYPE html><html>Sign in to the Wi-Fi";
    let no = r#"{"ok":false}"#;
    let behind = "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429";
    for (kind, answer, fits) in [
        ("webhook", page, true),
        ("webhook", no, true),
        ("pagerduty", page, false),
        ("pagerduty", r#"{"status":"success","message":"Event processed"}"#, true),
        ("teams", page, false),
        ("teams", behind, false),
        ("teams", "1", true),
    ] {
        let sent = refused(kind, status("200 OK", &[], answer)).await;
        assert_eq!(sent.is_ok(), fits, "{kind} {answer}: {sent:?}");
        assert!(sent.is_ok() || !sent.unwrap_err().permanent);
    }
}

#[tokio::test(start_paused = true)]
async fn delivered_requests_are_not_repeated_when_a_later_one_fails() {
    for kind in ["webhook", "pagerduty"] {
        let fine = status("202 Accepted", &[], "");
        let server = FaultServer::plain(fine.clone());
        let it = notifier(kind, &server.base(), message_context());
        let notifier = TestNotifier { name: "it", fallback: None, notifier: it, hangs: Arc::clone(&server.hangs) };
        let bench = DeliveryBench::new(vec![notifier]);
        server.become_(status("503 X", &[], ""));
        bench.enqueue("a", TransitionKind::Raised, &["it"]).await;
        bench.enqueue("b", TransitionKind::Raised, &["it"]).await;
        bench.enqueue("a", TransitionKind::Escalated, &["it"]).await;
        bench.pass(10).await;
        server.become_(fine.clone());
        bench.pass(60).await;
        server.become_(status("503 X", &[], ""));
        bench.enqueue("a", TransitionKind::Resolved, &["it"]).await;
        bench.pass(3).await;
        bench.enqueue("b", TransitionKind::Resolved, &["it"]).await;
        bench.pass(10).await;
        server.become_(fine);
        bench.pass(60).await;
        let sent: Vec<Vec<String>> = bench.delivered("it").into_iter().map(|(_, sent)| sent).collect();
        assert!(sent.iter().all(|it| it.len() == 1), "{kind}: each alone: {sent:?}");
        let of = |alert: &str| sent.iter().flatten().filter(|it| it.ends_with(alert)).cloned().collect::<Vec<_>>();
        assert_eq!(of(" a"), ["raised a", "escalated a", "resolved a"], "{kind}: once, and an alert's events in order");
        assert_eq!(of(" b"), ["raised b", "resolved b"], "{kind}");
        assert_eq!(bench.pending("it"), 0);
        bench.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_event_that_is_refused_for_good_takes_no_other_with_it() {
    let server = FaultServer::plain(status("422 X", &[], ""));
    let it = notifier("webhook", &server.base(), message_context());
    let notifier = TestNotifier { name: "it", fallback: Some("spare"), notifier: it, hangs: Arc::clone(&server.hangs) };
    let bench = DeliveryBench::new(vec![notifier, TestNotifier::accepting("spare")]);
    bench.enqueue("a", TransitionKind::Raised, &["it"]).await;
    bench.pass(2).await;
    server.become_(status("202 Accepted", &[], ""));
    bench.enqueue("b", TransitionKind::Raised, &["it"]).await;
    bench.pass(2).await;
    assert_eq!(bench.delivered("it").into_iter().map(|(_, sent)| sent).collect::<Vec<_>>(), [["raised b"]]);
    assert_eq!(bench.delivered("spare")[0].1, ["raised a via it"]);
    bench.end().await;
}

fn threshold(event: Event, change: impl FnOnce(&mut lowtide::domain::event::ThresholdEvent)) -> Event {
    let mut event = event;
    let EventSubject::Threshold(threshold) = &mut event.subject else { panic!() };
    change(threshold);
    event
}

fn subject(subject: EventSubject) -> Event {
    Event { subject, ..warning("x") }
}

fn unreadable(kind: TransitionKind) -> Event {
    let key = |rule: &str| AlertKey { account: "acme".into(), division: Some(7), rule: rule.into() };
    subject(EventSubject::Unreadable(UnreadableEvent {
        key: key("unreadable"),
        division_name: None,
        kind,
        level: Severity::Warning,
        since: now(),
        reason: (kind != TransitionKind::Resolved).then(|| "503 Service Unavailable".to_owned()),
        persistence: (kind != TransitionKind::Resolved).then_some(Persistence::Transient),
        firing_alerts: vec![(key("available-funds"), Severity::Critical)],
        unevaluated_rules: Vec::new(),
        next_reminder: None,
    }))
}

/// Returns one event of every kind.
fn every_kind() -> Vec<Event> {
    let kinds = [
        TransitionKind::Raised,
        TransitionKind::Escalated,
        TransitionKind::Eased,
        TransitionKind::Reminder,
        TransitionKind::Resolved,
    ];
    let mut events: Vec<Event> =
        kinds.iter().map(|kind| threshold(warning("History department"), |event| event.kind = *kind)).collect();
    events.push(threshold(warning("x"), |event| {
        event.value = Amount::Unlimited;
        event.breakdown = None;
        event.threshold = None;
        event.key.division = None;
    }));
    events.extend([unreadable(TransitionKind::Raised), unreadable(TransitionKind::Resolved)]);
    let rules = vec!["available-funds".into(), "unreadable".into()];
    let unwatched = EventSubject::Unwatched { account: "acme".into(), division: Some(7), division_name: None, rules };
    events.push(subject(unwatched));
    let failing = EventSubject::NotifierFailing { notifier: "mail".into(), since: now(), error: "no".to_owned() };
    events.push(subject(failing));
    events.push(subject(EventSubject::NotifierRecovered { notifier: "mail".into(), since: now() }));
    for (n, event) in events.iter_mut().enumerate() {
        event.id = format!("event-{n}");
    }
    events
}

fn test_message() -> Message {
    Message { id: "test-1".to_owned(), content: MessageContent::Test { notifier: "it".into() }, ..message(Vec::new()) }
}

#[tokio::test]
async fn every_webhook_event_fits_the_documented_schema_and_example() {
    let example = bodies("webhook", &message(vec![warning_with_forecast()]), message_context()).await.remove(0);
    assert_eq!(documented("Example"), example, "put this into docs/webhook.md: {example:#}");
    let all = bodies("webhook", &message(every_kind()), message_context()).await;
    all.iter().chain([&example]).for_each(expect_documented);
    let events: Vec<&str> = all.iter().map(|body| body["event"].as_str().unwrap()).collect();
    let expected = [
        "raised",
        "escalated",
        "eased",
        "reminder",
        "resolved",
        "raised",
        "raised",
        "resolved",
        "unwatched",
        "notifier_failing",
        "notifier_recovered",
    ];
    assert_eq!(events, expected);
    let ids: BTreeSet<&str> = all.iter().map(|body| body["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), all.len(), "each has an id of its own");
    let again = bodies("webhook", &message(every_kind()), message_context()).await;
    assert_eq!(again, all, "the same whenever it is sent");
    assert_eq!((&all[4]["missing"], &all[5]["value"]), (&Value::Null, &json!("unlimited")));
    assert_eq!(all[6]["firing_alerts"][0]["level"], "critical");
    assert_eq!((&all[6]["transient"], &all[8]["rules"]), (&json!(true), &json!(["available-funds", "unreadable"])));

    let days = |days: u64| Duration::from_secs(days * 86_400);
    let runway = threshold(warning("x"), |event| {
        event.metric = Metric::Runway;
        event.value = Amount::Time(days(7));
        event.threshold = Some(EvaluatedThreshold { side: ThresholdSide::Below, bound: days(14).into() });
    });
    let body = bodies("webhook", &message(vec![runway]), message_context()).await.remove(0);
    expect_documented(&body);
    let expected = (json!({ "seconds": 604_800 }), json!({ "side": "below", "seconds": 1_209_600 }));
    assert_eq!((&body["value"], &body["threshold"]), (&expected.0, &expected.1));
    assert_eq!(body["missing"], json!({ "seconds": 604_800 }));
    let mut unevaluated = unreadable(TransitionKind::Raised);
    let EventSubject::Unreadable(it) = &mut unevaluated.subject else { panic!() };
    it.unevaluated_rules = vec!["runway".into(), "spend".into()];
    let body = bodies("webhook", &message(vec![unevaluated]), message_context()).await.remove(0);
    expect_documented(&body);
    assert_eq!((&body["unevaluated_rules"], &all[6]["unevaluated_rules"]), (&json!(["runway", "spend"]), &json!([])));
    assert_eq!(body["summary"], "acme · division 7: rules runway and spend cannot be evaluated");

    let test = bodies("webhook", &test_message(), message_context()).await.remove(0);
    expect_documented(&test);
    assert_eq!((&test["event"], &test["id"], &test["notifier"]), (&json!("test"), &json!("test-1"), &json!("it")));
    let origin = Some(FallbackOrigin { notifier: "team".into(), error: "Teams answered 404".to_owned() });
    let item = MessageEvent { event: warning("x").into(), omitted: 3, in_place_of: origin };
    let handed = bodies(
        "webhook",
        &Message { content: MessageContent::Events(vec![item]), ..message(vec![]) },
        message_context(),
    )
    .await;
    expect_documented(&handed[0]);
    assert_eq!((&handed[0]["omitted"], &handed[0]["in_place_of"]["notifier"]), (&json!(3), &json!("team")));
    assert_eq!(handed[0]["id"], example["id"], "the same through any notifier");
}

#[tokio::test]
async fn amounts_are_exact_and_hostile_names_are_names() {
    let hostile = "\",\"level\":\"ok\"}\r\nX: y\u{202e}\u{0}\u{1f4b8}</script>{{7}}";
    let event = threshold(warning(hostile), |event| {
        let usd = lowtide::domain::money::Currency::parse("USD").unwrap();
        let amount = lowtide::domain::money::parse_amount("-123456789012345678.00000001").unwrap();
        event.value = Amount::Amount(lowtide::domain::money::Money::new(amount, usd));
        event.key.rule = "a/b\"".into();
    });
    let body = bodies("webhook", &message(vec![event]), message_context()).await.remove(0);
    expect_documented(&body);
    assert_eq!(body["division"], json!({ "id": 11224, "name": hostile }));
    assert_eq!(body["value"], json!({ "amount": "-123456789012345678.00000001", "currency": "USD" }));
    assert_eq!(body["missing"]["amount"], "123456789012347678.00000001");
    assert_eq!((&body["level"], &body["alert_id"]), (&json!("warning"), &json!("a%2Fb%22/acme/11224")));
    assert!(!body["summary"].as_str().unwrap().chars().any(lowtide::util::text::is_hidden));
}

#[tokio::test]
async fn pagerduty_triggers_and_resolves_by_the_identity_of_the_alert() {
    let mut sent = Vec::new();
    for event in every_kind() {
        for body in bodies("pagerduty", &message(vec![event]), message_context()).await {
            assert_eq!(body["routing_key"], TOKEN);
            let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
            let (action, key) = (text(&body["event_action"]), text(&body["dedup_key"]));
            sent.push(format!("{action} {key} {}", text(&body["payload"]["severity"])));
        }
    }
    let alert = "lowtide/available-funds/acme/11224";
    let expected = [
        format!("trigger {alert} warning"),
        format!("trigger {alert} warning"),
        format!("trigger {alert} warning"),
        format!("trigger {alert} warning"),
        format!("resolve {alert} -"),
        "trigger lowtide/available-funds/acme warning".to_owned(),
        "trigger lowtide/unreadable/acme/7 warning".to_owned(),
        "resolve lowtide/unreadable/acme/7 -".to_owned(),
        "resolve lowtide/available-funds/acme/7 -".to_owned(),
        "resolve lowtide/unreadable/acme/7 -".to_owned(),
        "trigger lowtide/~notifier/mail warning".to_owned(),
        "resolve lowtide/~notifier/mail -".to_owned(),
    ];
    assert_eq!(sent, expected);
    // The key of an alert that ends without a message is the one that triggered it.
    let key = AlertKey { account: "b/c".into(), division: None, rule: "a".into() };
    let ended = [
        EventSubject::AlertEnded { key, level: Severity::Critical },
        EventSubject::NotifierRemoved { notifier: "mail".into() },
    ];
    for (ended, key) in ended.into_iter().zip(["lowtide/a/b%2Fc", "lowtide/~notifier/mail"]) {
        let body = bodies("pagerduty", &message(vec![subject(ended)]), message_context()).await.remove(0);
        assert_eq!((&body["event_action"], &body["dedup_key"]), (&json!("resolve"), &json!(key)));
    }

    let reminded = threshold(warning("History department"), |event| event.next_reminder = Some(now()));
    let body = bodies("pagerduty", &message(vec![reminded]), message_context()).await.remove(0);
    let details = &body["payload"]["custom_details"];
    assert_eq!(details["rule"], "available-funds", "a name, to route and to search by");
    assert_eq!(details["metric"], "available_funds");
    assert_eq!(details["threshold"], json!({ "side": "below", "amount": "2000.00", "currency": "USD" }));
    assert_eq!(details["next_reminder"], json!(now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)));

    let long = threshold(warning(&"é\"".repeat(4000)), |event| {
        event.key.rule = "r".repeat(300).into();
        event.level = Severity::Critical;
    });
    let body = bodies("pagerduty", &message(vec![long]), message_context()).await.remove(0);
    assert!(body["dedup_key"].as_str().unwrap().len() <= 255, "{body}");
    assert!(body["payload"]["summary"].as_str().unwrap().chars().count() <= 1024, "{body}");
    assert_eq!(body["payload"]["severity"], "critical");

    let body = bodies("pagerduty", &message(vec![warning("History department")]), message_context()).await.remove(0);
    let payload = &body["payload"];
    assert_eq!(payload["summary"], "acme · History department: USD 1,431.00 left (warning below USD 2,000.00)");
    assert_eq!(
        (&payload["source"], &payload["component"], &payload["group"]),
        (&json!("acme"), &json!("available-funds"), &json!("acme"))
    );
    assert!(payload["custom_details"]["details"].as_str().unwrap().starts_with("USD 569.00 under the threshold"));
    assert_eq!(body["links"][0], json!({ "href": "https://www.digicert.com/secure/", "text": "Deposit funds" }));

    let test = bodies("pagerduty", &test_message(), message_context()).await;
    assert_eq!(test.len(), 2, "a test leaves no incident behind");
    assert!(test[0]["payload"]["summary"].as_str().unwrap().starts_with("TEST: This is a test"));
    assert_eq!((&test[0]["payload"]["severity"], &test[1]["event_action"]), (&json!("info"), &json!("resolve")));
    assert_eq!(test[0]["dedup_key"], test[1]["dedup_key"]);
}

/// Collects every string of a card, and the types of its elements.
fn walk(value: &Value, strings: &mut Vec<String>, types: &mut Vec<String>) {
    match value {
        Value::String(text) => strings.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| walk(value, strings, types)),
        Value::Object(fields) => {
            types.extend(fields.get("type").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| walk(value, strings, types));
        }
        _ => {}
    }
}

fn walked(value: &Value) -> (Vec<String>, Vec<String>) {
    let (mut strings, mut types) = (Vec::new(), Vec::new());
    walk(value, &mut strings, &mut types);
    (strings, types)
}

#[test]
fn a_card_says_what_a_message_says() {
    let card = payload(&message(vec![warning("History department")]), &message_context());
    assert_eq!((&card["type"], card["attachments"].as_array().unwrap().len()), (&json!("message"), 1));
    let content = &card["attachments"][0]["content"];
    assert_eq!((&content["type"], &content["version"]), (&json!("AdaptiveCard"), &json!("1.5")));
    assert_eq!(content["body"][0]["style"], "warning");
    let (strings, types) = walked(content);
    for expected in [
        "acme · History department: USD 1,431.00 left (warning below USD 2,000.00)",
        "USD 569.00 under the threshold since Mon 23 Nov, 09:15 CET.",
        "Balance \u{2212}569.00 + credit limit 2,000.00 \u{2212} unpaid invoices 0.00 \u{2212} used by other divisions 0.00",
        "Ask Finance for a purchase order; a PO takes five working days.",
        "rule available-funds · next reminder Tue 24 Nov, 09:15",
        "Deposit funds",
    ] {
        assert!(strings.iter().any(|text| text == expected), "{expected}: {strings:#?}");
    }
    assert!(!types.contains(&"TextBlock".to_owned()), "a text block would read Markdown");
    let test = payload(&test_message(), &message_context()).to_string();
    assert!(test.contains("TEST: This is a test from lowtide: notifier it works."), "{test}");
    let several = payload(&message(every_kind()), &message_context()).to_string();
    assert!(several.contains("no longer watched") && several.contains("Notifier mail works again"), "{several}");
}

#[test]
fn a_card_of_any_content_stays_below_the_limit_and_loses_no_alert() {
    let texts = ["x", "é", "\"", "\\", "\u{1f4b8}", "{", "a\n", "\"\\é\n", "\u{1}"];
    for text in texts {
        for count in [1, 2, 10, 11, 60, 300] {
            let long = text.repeat(5000);
            let events = (0..count).map(|n| {
                threshold(warning(&format!("{n}{long}")), |event| {
                    event.key.division = Some(n);
                    event.key.account = format!("{n}{}", text.repeat(64)).into();
                    event.since = now() - chrono::Duration::minutes(i64::try_from(n).unwrap());
                })
            });
            let mut context = message_context();
            let link = Some(format!("https://example.com/{}", "l".repeat(3000)));
            context.rules.insert("available-funds".into(), RuleTexts { description: Some(long.clone()), link });
            let mut events: Vec<Event> = events.collect();
            // Earlier events of an alert that could not be delivered.
            let first = events[0].clone();
            events.extend((0..9).map(|_| threshold(first.clone(), |event| event.kind = TransitionKind::Eased)));
            let mut pending_message = message(events);
            if let MessageContent::Events(items) = &mut pending_message.content {
                for item in items {
                    item.in_place_of = Some(FallbackOrigin { notifier: long.as_str().into(), error: long.clone() });
                }
            }
            let card = payload(&pending_message, &context);
            // The size as the workflow passes it on: a string inside its own JSON. A tenth of Teams' limit stays unused.
            let size = serde_json::to_string(&card.to_string()).unwrap().len();
            assert!(size <= 28_672 / 10 * 9, "{text:?} {count}: {size}");
            let shown = card["attachments"][0]["content"]["body"].as_array().unwrap();
            let containers = shown.iter().filter(|it| it["type"] == "Container").count();
            let full = usize::try_from(count.min(10)).unwrap();
            assert_eq!(containers, full + usize::from(count > 10), "{text:?} {count}");
            assert!(count <= 60 || card.to_string().contains(" more"), "{text:?} {count}");
        }
    }
}

#[test]
fn hostile_names_change_nothing_about_a_card() {
    let hostile = [
        "<at>everyone</at>",
        "[Deposit funds](https://evil.example.com)",
        "**bold** _it_ # heading\n- list\r1. one",
        "{{DATE(2026-11-23T08:15:00Z, SHORT)}} {{{TIME(x)}}} ${expression} @{triggerBody()}",
        "\"}],\"actions\":[{\"type\":\"Action.Submit\"}]",
        "\u{202e}dnuf\u{2066}x\u{2069}\u{0}\u{1b}[31m\u{200b}\u{e0041}",
        "line\u{2028}separator\u{2029}paragraph\u{85}next",
        "</div><script>alert(1)</script>",
    ];
    let of = |text: &str| {
        let mut context = message_context();
        let mut event = warning(text);
        event = threshold(event, |event| event.key.rule = text.into());
        let description = Some(text.replace(['\n', '\r'], " "));
        context.rules.insert(text.into(), RuleTexts { description, link: None });
        let failing = EventSubject::NotifierFailing { notifier: text.into(), since: now(), error: text.to_owned() };
        payload(&message(vec![event, subject(failing)]), &context)
    };
    let (_, expected) = walked(&of("harmless"));
    for text in hostile {
        let card = of(text);
        let (strings, types) = walked(&card);
        assert_eq!(types, expected, "{text:?}");
        for shown in strings {
            assert!(!shown.contains("{{") && !shown.chars().any(lowtide::util::text::is_hidden), "{shown:?}");
        }
    }
}
