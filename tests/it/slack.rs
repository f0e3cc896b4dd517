//! Slack: the meaning of each response, and that the webhook's address stays secret.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::support::sample::{message, message_context, warning};
use lowtide::notify::channels::slack::SlackNotifier;
use lowtide::notify::{Delivered, Notifier, SendError};
use lowtide::util::secret::{Redactor, Secret};
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

const PATH: &str = "/services/T0000/B0000/abcdefghijklmnop";

fn slack(url: &str) -> SlackNotifier {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_millis(800))
        .no_proxy()
        .build()
        .unwrap();
    let redactor = Redactor::default();
    let secret = Secret::new(url);
    redactor.learn(&secret);
    SlackNotifier::new("finance-slack".into(), secret, BTreeMap::new(), http, Arc::new(message_context()), redactor)
}

async fn answered(answer: ResponseTemplate) -> Result<Delivered, SendError> {
    let server = MockServer::start().await;
    let post = Mock::given(method("POST")).and(path(PATH)).and(header("content-type", "application/json"));
    post.respond_with(answer).expect(1).mount(&server).await;
    slack(&format!("{}{PATH}", server.uri())).send(&message(vec![warning("History department")])).await
}

#[tokio::test]
async fn ok_is_success_and_a_web_page_is_not() {
    assert_eq!(answered(ResponseTemplate::new(200).set_body_string("ok")).await, Ok(Delivered::default()));
    assert_eq!(answered(ResponseTemplate::new(200)).await, Ok(Delivered::default()));
    let page = ResponseTemplate::new(200).set_body_string("\n<!DOCTYPE html><html>Sign in to the Wi-Fi");
    assert!(!answered(page).await.unwrap_err().permanent);
}

#[tokio::test]
async fn a_4xx_is_final_with_a_hint_and_all_else_may_pass() {
    for (status, body, permanent) in [
        (404, "no_service", true),
        (403, "invalid_token", true),
        (410, "channel_is_archived", true),
        (403, "action_prohibited", true),
        (400, "invalid_payload", true),
        (302, "", false),
        (500, "oops", false),
        (503, "", false),
    ] {
        let error = answered(ResponseTemplate::new(status).set_body_string(body)).await.unwrap_err();
        assert_eq!(error.permanent, permanent, "{error:?}");
        assert!(error.reason.contains(&status.to_string()) && error.reason.contains(body), "{error:?}");
        assert_eq!(error.reason.contains('('), permanent, "{error:?}");
    }
}

#[tokio::test]
async fn too_many_requests_says_when_to_come_back() {
    let wait = |value: &str| {
        let date = "Mon, 23 Nov 2026 08:15:00 GMT";
        ResponseTemplate::new(429).insert_header("retry-after", value).insert_header("date", date)
    };
    for (value, expected) in [
        ("30", Some(Duration::from_secs(30))),
        ("Mon, 23 Nov 2026 08:16:00 GMT", Some(Duration::from_secs(60))),
        ("Mon, 23 Nov 2026 08:00:00 GMT", Some(Duration::ZERO)),
        ("soon", None),
        ("18446744073709551615", Some(Duration::from_secs(86400))),
    ] {
        let error = answered(wait(value)).await.unwrap_err();
        assert_eq!((error.permanent, error.retry_after), (false, expected), "{value}");
    }
}

#[tokio::test]
async fn no_connection_and_no_answer_may_pass_and_the_address_stays_secret() {
    let late = answered(ResponseTemplate::new(200).set_delay(Duration::from_secs(5))).await.unwrap_err();
    let nobody = slack(&format!("http://127.0.0.1:1{PATH}")).send(&message(vec![warning("x")])).await.unwrap_err();
    let echo = ResponseTemplate::new(404).set_body_string(format!("no route {PATH}\u{1b}[31m {}", "x".repeat(100_000)));
    let echo = answered(echo).await.unwrap_err();
    for error in [&late, &nobody, &echo] {
        assert!(!error.reason.contains("abcdefghijklmnop"), "{error:?}");
        assert!(error.reason.chars().count() <= 200 && !error.reason.contains('\u{1b}'), "{error:?}");
    }
    assert!(!late.permanent && !nobody.permanent && echo.permanent);
}
