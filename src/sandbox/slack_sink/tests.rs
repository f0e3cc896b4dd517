//! Tests of the Slack sink over real HTTP: accepted and rejected messages, and the end of activities.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::*;
use crate::notify::Notifier;
use crate::notify::channels::slack::{SlackNotifier, payload};
use crate::sandbox::testing::{ActivityCount, mention, message, message_context};
use crate::util::secret::{Redactor, Secret};

async fn sink(activity: Arc<dyn Activity>) -> SlackSink {
    SlackSink::start(TcpListener::bind("127.0.0.1:0").await.unwrap(), activity).unwrap()
}

fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().unwrap()
}

async fn post(url: &str, body: &str) -> (u16, String) {
    let response = client().post(url).body(body.to_owned()).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } })
}

#[tokio::test]
async fn the_real_notifier_is_served_and_its_message_is_kept_once() {
    let count = Arc::new(ActivityCount::default());
    let sink = sink(count.clone()).await;
    let url = Secret::new(sink.url());
    let slack = SlackNotifier::new(
        "slack".into(),
        url,
        BTreeMap::new(),
        client(),
        Arc::new(message_context()),
        Redactor::default(),
    );
    slack.send(&message(&["History department"])).await.unwrap();
    slack.send(&message(&["Law"])).await.unwrap();
    let taken = sink.take();
    assert_eq!(taken.len(), 2);
    assert_eq!(taken[0].webhook, "everyone");
    assert_eq!(taken[0].body, payload(&message(&["History department"]), &message_context(), &BTreeMap::new()));
    assert!(taken[1].body["text"].as_str().unwrap().contains("Law"));
    assert!(sink.take().is_empty());
    assert_eq!(*count.0.lock().unwrap(), (2, 2));
}

#[tokio::test]
async fn what_is_no_webhook_or_no_message_is_refused_as_slack_does() {
    let sink = sink(Arc::new(())).await;
    let url = sink.url();
    let base = url.split("/services").next().unwrap();
    let none = (404, "no_service".to_owned());
    for path in ["/", "/services/DEMO/SINK/", "/services/DEMO/SINK/a/b", "/services/T0/B0/x"] {
        assert_eq!(post(&format!("{base}{path}"), r#"{"text":"hello"}"#).await, none, "{path}");
    }
    assert_eq!(client().get(&url).send().await.unwrap().status(), 404);
    let invalid = (400, "invalid_payload".to_owned());
    let huge = json!({ "text": "x", "padding": vec![0; MAX_BODY_BYTES] }).to_string();
    for body in ["", "hello", "[]", "7", "{}", r#"{"text":7}"#, r#"{"text":"x","blocks":{}}"#, &"[".repeat(9999), &huge]
    {
        assert_eq!(post(&url, body).await, invalid, "{body:.40}");
    }
    assert!(sink.take().is_empty());
    assert_eq!(post(&url, r#"{"text":"hello"}"#).await, (200, "ok".to_owned()));
    assert_eq!(sink.take().len(), 1);
}

#[test]
fn slacks_limits_are_kept_to_the_character() {
    let long = |n| "ü".repeat(n);
    let header = |n| json!({ "type": "header", "text": { "type": "plain_text", "text": long(n) } });
    let context = |n| json!({ "type": "context", "elements": vec![json!({ "type": "mrkdwn", "text": "x" }); n] });
    let blocks = |blocks: Vec<Value>| json!({ "blocks": blocks });
    let inside = |block: Value| json!({ "text": "x", "attachments": [{ "blocks": [block] }] });
    for (body, right) in [
        (blocks(vec![section(&long(3000))]), true),
        (blocks(vec![section(&long(3001))]), false),
        (inside(section(&long(3000))), true),
        (inside(section(&long(3001))), false),
        (blocks(vec![header(150)]), true),
        (blocks(vec![header(151)]), false),
        (blocks(vec![section("x"); 50]), true),
        (blocks(vec![section("x"); 51]), false),
        (inside(context(10)), true),
        (inside(context(11)), false),
        (inside(context(0)), false),
        (json!({ "text": long(13_000) }), true),
        (json!({ "text": long(13_001) }), false),
        (blocks(vec![section("")]), false),
        (blocks(vec![json!({ "type": "section" })]), false),
        (blocks(vec![json!({ "type": "section", "fields": [{ "type": "mrkdwn", "text": "x" }] })]), true),
        (blocks(vec![json!({ "type": "poem" })]), false),
        (blocks(vec![json!("x")]), false),
        (json!({ "attachments": ["x"] }), false),
        (json!({ "attachments": vec![json!({ "text": "x" }); 101] }), false),
    ] {
        assert_eq!(check(&body).is_ok(), right, "{:?} {:.120}", check(&body), body.to_string());
    }
}

#[test]
fn the_longest_message_that_lowtide_makes_is_taken() {
    let hostile = "<!channel>&&&\u{1f600}".repeat(99);
    let divisions = [hostile.as_str(); 40];
    assert_eq!(check(&payload(&message(&divisions), &message_context(), &mention())), Ok(()));
}

#[tokio::test]
async fn an_aborted_request_ends_its_activity_and_drop_stops_the_sink() {
    let count = Arc::new(ActivityCount::default());
    let sink = sink(count.clone()).await;
    let address = sink.address;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let half = "POST /services/DEMO/SINK/x HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{";
    stream.write_all(half.as_bytes()).await.unwrap();
    until(|| count.0.lock().unwrap().0 == 1).await;
    drop(stream);
    until(|| count.0.lock().unwrap().1 == 1).await;
    drop(sink);
    while TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn until(happened: impl Fn() -> bool) {
    let wait = async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), wait).await.unwrap();
}
