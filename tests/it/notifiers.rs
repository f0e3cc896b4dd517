//! Webhook, PagerDuty, Teams and email with `OAuth2`, with the real binary: the content of requests, signatures, retries,
//! and that no secret is shown.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::support::bin::{World, wait_until};
use crate::support::smtp::{Script, Server};
use crate::support::webhook_schema::expect_documented;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

const HEADER: &str = "hEaDeR-s3cr3t-0987654321";
const ADDRESS: &str = "aDdReSs-s3cr3t-1234567890";
const ROUTING: &str = "r0ut1ngKey0123456789abcdef012345";
const CLIENT: &str = "cL13nt/S3cr3t+of~oauth2=!";
const ACCESS: &str = "eyJ0eXAiOi.acc3ssT0k3n-number";

fn signing() -> String {
    format!("whsec_{}", STANDARD.encode((0..32).map(|n| n * 7).collect::<Vec<u8>>()))
}

#[derive(Clone, Debug)]
struct ReceivedRequest {
    path: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl ReceivedRequest {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

type Answers = Box<dyn Fn(usize, &Request) -> ResponseTemplate + Send + Sync>;

/// An endpoint that records requests, and answers by the number of the request.
struct TestEndpoint {
    server: MockServer,
    received: Arc<Mutex<Vec<ReceivedRequest>>>,
}

struct RecordingResponder(Arc<Mutex<Vec<ReceivedRequest>>>, Answers);

impl Respond for RecordingResponder {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let header = |(name, value): (&wiremock::http::HeaderName, &wiremock::http::HeaderValue)| {
            (name.to_string(), value.to_str().unwrap().to_owned())
        };
        let mut got = self.0.lock().unwrap();
        got.push(ReceivedRequest {
            path: request.url.path().to_owned(),
            headers: request.headers.iter().map(header).collect(),
            body: String::from_utf8(request.body.clone()).unwrap(),
        });
        (self.1)(got.len(), request)
    }
}

impl TestEndpoint {
    async fn answering(answers: impl Fn(usize, &Request) -> ResponseTemplate + Send + Sync + 'static) -> Self {
        let (server, got) = (MockServer::start().await, Arc::default());
        Mock::given(any()).respond_with(RecordingResponder(Arc::clone(&got), Box::new(answers))).mount(&server).await;
        Self { server, received: got }
    }

    async fn accepting() -> Self {
        Self::answering(|_, _| ResponseTemplate::new(202)).await
    }

    /// Issues tokens: ACCESS-1, ACCESS-2, …
    async fn tokens(expires_in: u64) -> Self {
        Self::answering(move |n, _| {
            let token = format!("{ACCESS}-{n}");
            let body = json!({ "access_token": token, "token_type": "Bearer", "expires_in": expires_in });
            ResponseTemplate::new(200).set_body_json(body)
        })
        .await
    }

    fn received(&self) -> Vec<ReceivedRequest> {
        self.received.lock().unwrap().clone()
    }

    fn wait(&self, requests: usize) -> Vec<ReceivedRequest> {
        wait_until(&format!("{requests} requests"), || self.received().len() >= requests);
        self.received()
    }

    fn url(&self) -> String {
        self.server.uri()
    }
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = key.to_vec();
    block.resize(64, 0);
    let keyed = |pad: u8, text: &[u8]| {
        let mut hash = Sha256::new();
        hash.update(block.iter().map(|byte| byte ^ pad).collect::<Vec<u8>>());
        hash.update(text);
        hash.finalize().to_vec()
    };
    keyed(0x5c, &keyed(0x36, text))
}

/// Checks a signature as a receiver does, following the text of the specification.
fn expect_signed(got: &ReceivedRequest) {
    let (id, time) = (&got.headers["webhook-id"], &got.headers["webhook-timestamp"]);
    let key = STANDARD.decode(signing().strip_prefix("whsec_").unwrap()).unwrap();
    let signature = STANDARD.encode(hmac(&key, format!("{id}.{time}.{}", got.body).as_bytes()));
    assert_eq!(got.headers["webhook-signature"], format!("v1,{signature}"));
    assert_eq!(got.json()["id"], id.as_str());
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(now.abs_diff(time.parse().unwrap()) < 120, "{time}");
}

fn webhook(end: &TestEndpoint) -> String {
    format!(
        "  hook: {{ type: webhook, url: '{}/in?key={ADDRESS}', headers: {{ X-Api-Key: {HEADER}, Authorization: 'Bearer {HEADER}2' }}, signing_secret: {} }}\n",
        end.url(),
        signing()
    )
}

/// Returns rules that notify these notifiers.
fn rules(notifier: &str) -> String {
    format!(
        "rules:\n  funds: {{ metric: available_funds, warning: {{ below: 2000 }}, critical: {{ below: 500 }}, notify: [{notifier}] }}\n  prepaid: {{ metric: balance, warning: {{ below: 2000 }}, notify: [{notifier}] }}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_refuses_one_divisions_alerts_gets_all_others() {
    let world = World::new().await;
    let refuses = |request: &Request| String::from_utf8_lossy(&request.body).contains("History");
    let end = TestEndpoint::answering(move |_, it| ResponseTemplate::new(if refuses(it) { 500 } else { 200 })).await;
    world.config_with("divisions: all", &(webhook(&end) + &rules("hook")));
    world.list(&[(11, "History", true), (12, "Physics", true)]);
    world.division_funds(11, "1500");
    world.division_funds(12, "100");
    let service = world.start();
    let of = |division: &str| {
        let bodies = end.received().into_iter().map(|got| got.body).filter(|body| body.contains(division));
        let said = |body: String| {
            let body: Value = serde_json::from_str(&body).unwrap();
            format!("{} {}", body["event"].as_str().unwrap(), body["rule"].as_str().unwrap())
        };
        bodies.map(said).collect::<Vec<_>>()
    };
    wait_until("the other division's alerts", || of("Physics").len() == 2);
    world.division_funds(12, "5000");
    world.division_funds(11, "100");
    wait_until("their ends", || of("Physics").len() == 4);
    wait_until("further attempts", || of("History").len() >= 6);
    let tried = of("History");
    assert!(tried.iter().all(|it| ["raised funds", "raised prepaid"].contains(&it.as_str())), "in order: {tried:?}");
    assert_eq!(service.stop(), Some(0));
    assert!(world.state().contains("escalated"), "what follows waits behind it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_gets_each_event_once_signed_in_order_and_as_documented() {
    let world = World::new().await;
    // The second and the third request fail: the first is not repeated, and the order is kept.
    let end = TestEndpoint::answering(|n, _| ResponseTemplate::new(if n == 2 || n == 3 { 503 } else { 200 })).await;
    world.config(&(webhook(&end) + &rules("hook")));
    world.funds("1431.50");
    let service = world.start();
    end.wait(4);
    world.funds("400");
    service.wait_event("escalated funds/acme");
    end.wait(5);
    world.funds("9000");
    end.wait(7);
    world.let_a_cycle_pass();
    assert_eq!(service.stop(), Some(0));
    let got = end.received();
    let said: Vec<String> = got
        .iter()
        .map(|got| {
            let body = got.json();
            expect_signed(got);
            expect_documented(&body);
            assert_eq!((got.path.as_str(), got.headers["x-api-key"].as_str()), ("/in", HEADER));
            assert_eq!(got.headers["authorization"], format!("Bearer {HEADER}2"));
            assert_eq!(got.headers["content-type"], "application/json");
            format!("{} {}", body["event"].as_str().unwrap(), body["alert_id"].as_str().unwrap())
        })
        .collect();
    let expected = [
        "raised funds/acme",
        "raised prepaid/acme",
        "raised prepaid/acme",
        "raised prepaid/acme",
        "escalated funds/acme",
        "resolved funds/acme",
        "resolved prepaid/acme",
    ];
    assert_eq!(said, expected);
    assert!(got[1].body == got[2].body && got[2].body == got[3].body, "a repeat is the same, id and all");
    assert_eq!(got[0].json()["value"], json!({ "amount": "1431.50", "currency": "USD" }));
    assert_eq!(got[0].json()["missing"], json!({ "amount": "568.50", "currency": "USD" }));
    let ids: std::collections::BTreeSet<String> = got.iter().map(|it| it.headers["webhook-id"].clone()).collect();
    assert_eq!(ids.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pagerduty_and_teams_get_the_beginning_and_the_end() {
    let world = World::new().await;
    let (duty, teams) = (TestEndpoint::accepting().await, TestEndpoint::accepting().await);
    world.config(&format!(
        "  duty: {{ type: pagerduty, routing_key: {ROUTING}, url: '{}' }}\n  team: {{ type: teams, webhook_url: '{}/workflows/{ADDRESS}?sig=x' }}\n{}",
        duty.url(),
        teams.url(),
        rules("duty, team")
    ));
    world.funds("100");
    let service = world.start();
    duty.wait(2);
    teams.wait(1);
    world.funds("9000");
    duty.wait(4);
    teams.wait(2);
    assert_eq!(service.stop(), Some(0));
    let found: Vec<String> = duty
        .received()
        .iter()
        .map(|got| {
            let body = got.json();
            assert_eq!((got.path.as_str(), &body["routing_key"]), ("/v2/enqueue", &json!(ROUTING)));
            let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
            format!(
                "{} {} {}",
                text(&body["event_action"]),
                text(&body["dedup_key"]),
                text(&body["payload"]["severity"])
            )
        })
        .collect();
    let expected = [
        "trigger lowtide/funds/acme critical",
        "trigger lowtide/prepaid/acme warning",
        "resolve lowtide/funds/acme -",
        "resolve lowtide/prepaid/acme -",
    ];
    assert_eq!(found, expected);
    let cards = teams.received();
    assert_eq!(cards.len(), 2, "one message for all events");
    let body = cards[0].json();
    assert_eq!(body["attachments"][0]["contentType"], "application/vnd.microsoft.card.adaptive");
    assert!(cards[0].body.contains("2 alerts: 1 critical, 1 warning"), "{}", cards[0].body);
    assert!(cards[1].body.contains("Resolved: acme: USD 9,000.00 left"), "{}", cards[1].body);
}

/// Returns the requests to PagerDuty, as `trigger prepaid/acme warning`.
fn incidents(duty: &TestEndpoint) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let one = |got: &ReceivedRequest| {
        let body = got.json();
        let key = text(&body["dedup_key"]);
        let key = key.strip_prefix("lowtide/").unwrap();
        format!("{} {key} {}", text(&body["event_action"]), text(&body["payload"]["severity"]))
    };
    duty.received().iter().map(one).collect()
}

fn pagerduty(duty: &TestEndpoint) -> String {
    format!("  duty: {{ type: pagerduty, routing_key: {ROUTING}, url: '{}' }}\n", duty.url())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pagerduty_is_sent_an_easing_only_where_it_gets_warnings_too() {
    let world = World::new().await;
    let duty = TestEndpoint::accepting().await;
    let rule = |name: &str, metric: &str, warning: &str| {
        format!(
            "  {name}: {{ metric: {metric}, warning: {{ below: 2000, notify: [{warning}] }}, critical: {{ below: 500, notify: [duty] }} }}\n"
        )
    };
    let rules = rule("funds", "available_funds", "slack") + &rule("prepaid", "balance", "duty");
    world.config(&format!("{}rules:\n{rules}", pagerduty(&duty)));
    world.funds("100");
    let service = world.start();
    duty.wait(2);
    world.funds("1000");
    duty.wait(3);
    assert!(world.wait_told(1).contains("1,000.00"), "recipients of warnings are notified of the easing");
    world.funds("100");
    duty.wait(5);
    world.funds("9000");
    duty.wait(7);
    world.wait_told(2);
    assert_eq!(service.stop(), Some(0));
    let expected = [
        "trigger funds/acme critical",
        "trigger prepaid/acme critical",
        "trigger prepaid/acme warning",
        "trigger funds/acme critical",
        "trigger prepaid/acme critical",
        "resolve funds/acme -",
        "resolve prepaid/acme -",
    ];
    assert_eq!(incidents(&duty), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_leaves_the_configuration_resolves_its_incident_quietly() {
    let world = World::new().await;
    let duty = TestEndpoint::accepting().await;
    let rule = |name: &str, metric: &str| {
        format!("  {name}: {{ metric: {metric}, warning: {{ below: 2000 }}, notify: [duty, slack] }}\n")
    };
    let (funds, prepaid) = (rule("funds", "available_funds"), rule("prepaid", "balance"));
    world.config(&format!("{}rules:\n{funds}{prepaid}", pagerduty(&duty)));
    world.funds("100");
    let service = world.start();
    duty.wait(2);
    world.wait_told(1);
    wait_until("both deliveries in the state", || !world.state().contains("\"queue\""));
    world.config(&format!("{}rules:\n{funds}", pagerduty(&duty)));
    service.hangup();
    assert_eq!(incidents(&duty).len().max(duty.wait(3).len()), 3);
    assert_eq!(incidents(&duty)[2], "resolve prepaid/acme -");
    assert_eq!(service.stop(), Some(0));
    // Then a rule that leaves the configuration while no service runs.
    let other = "  other: { metric: balance, warning: { below: 1 }, notify: [duty, slack] }\n";
    world.config(&format!("{}rules:\n{other}", pagerduty(&duty)));
    let service = world.start();
    duty.wait(4);
    world.let_a_cycle_pass();
    assert_eq!(service.stop(), Some(0));
    assert_eq!(incidents(&duty)[3..], ["resolve funds/acme -"]);
    assert_eq!(world.told().len(), 1, "{:#?}", world.told());
}

fn mail(server: &Server, tokens: &TestEndpoint, more: &str) -> String {
    format!(
        "  mail: {{ type: email, host: 127.0.0.1, port: {}, tls: none, username: box@example.com, from: a@example.com, to: [b@example.com], timeout: 2s, oauth2: {{ token_url: '{}/token', client_id: the-client, client_secret: '{CLIENT}', scope: mail.send }}{more} }}\n",
        server.address.port(),
        tokens.url()
    )
}

fn xoauth2() -> Script {
    Script { extensions: vec!["AUTH XOAUTH2".to_owned()], ..Script::default() }
}

/// Returns the token of an `AUTH` command.
fn token_of(auth: &str) -> String {
    let login = STANDARD.decode(auth.strip_prefix("XOAUTH2 ").unwrap()).unwrap();
    let login = String::from_utf8(login).unwrap();
    let token = login.strip_prefix("user=box@example.com\u{1}auth=Bearer ").unwrap();
    token.strip_suffix("\u{1}\u{1}").unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oauth2_mail_reuses_a_valid_token_and_replaces_a_refused_one() {
    let world = World::new().await;
    let (server, tokens) = (Server::start(xoauth2()).await, TestEndpoint::tokens(3600).await);
    world.config(&(mail(&server, &tokens, ", hello: alerts.example.com") + &rules("mail")));
    let mails = |n: usize| {
        let taken = || server.conversations().iter().map(|it| it.data.len()).sum::<usize>();
        wait_until(&format!("{n} mails"), || taken() >= n);
        taken()
    };
    world.funds("1000");
    let service = world.start();
    mails(1);
    world.funds("100");
    assert_eq!(mails(2), 2);
    assert_eq!(tokens.received().len(), 1, "the token is kept");
    assert_eq!(server.conversations()[0].commands[0], "EHLO alerts.example.com");
    // The token is revoked; the server gives the reason in a challenge first.
    let challenge = STANDARD.encode(r#"{"status":"400"}"#);
    server.become_(Script { replies: [("AUTH", format!("334 {challenge}"))].into(), ..xoauth2() });
    world.funds("9000");
    tokens.wait(2);
    server.become_(xoauth2());
    assert_eq!(mails(3), 3);
    assert_eq!(service.stop(), Some(0));
    let form: BTreeMap<String, String> =
        url::form_urlencoded::parse(tokens.received()[0].body.as_bytes()).into_owned().collect();
    let expected = [
        ("client_id", "the-client"),
        ("client_secret", CLIENT),
        ("grant_type", "client_credentials"),
        ("scope", "mail.send"),
    ];
    assert_eq!(form, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    assert_eq!(tokens.received()[0].headers["content-type"], "application/x-www-form-urlencoded");
    let used: Vec<String> = server.conversations().iter().flat_map(|it| &it.auth).map(|it| token_of(it)).collect();
    assert_eq!(used[..2], [format!("{ACCESS}-1"), format!("{ACCESS}-1")]);
    assert!(*used.last().unwrap() != format!("{ACCESS}-1"), "{used:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_refused_permanently_uses_the_fallback_others_are_retried() {
    let refusal = |error: &str| json!({ "error": error, "error_description": format!("no {CLIENT} here") });
    let rows: [(u16, Value, &str, bool); 7] = [
        (401, refusal("invalid_client"), "which may have expired", true),
        (400, refusal("invalid_scope"), "(invalid_scope: check", true),
        (400, json!("nonsense"), "400", true),
        (429, json!({}), "429", false),
        (503, json!({}), "503", false),
        (200, json!({ "token_type": "Bearer" }), "without a bearer token", false),
        (200, json!({ "token_type": "mac", "access_token": "x" }), "without a bearer token", false),
    ];
    for (code, body, words, permanent) in rows {
        let world = World::new().await;
        let server = Server::start(xoauth2()).await;
        let answer = ResponseTemplate::new(code).set_body_json(&body);
        let tokens = TestEndpoint::answering(move |_, _| answer.clone()).await;
        world.config(&(mail(&server, &tokens, ", fallback: slack") + &rules("mail")));
        world.funds("1000");
        let service = world.start();
        if permanent {
            let sent = world.wait_told(1);
            assert!(sent.contains("could not deliver") && sent.contains(words), "{sent}");
            assert!(!sent.contains(CLIENT), "{sent}");
        } else {
            tokens.wait(2);
            assert!(service.log().contains("still pending") && service.log().contains(words), "{}", service.log());
            assert!(world.told().is_empty());
        }
        assert!(server.conversations().is_empty(), "the mail server is not asked without a token");
        assert_eq!(service.stop(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_test_mail_has_a_message_id_of_its_own() {
    let (world, server) = (World::new().await, Server::start(Script::default()).await);
    let names = ["one", "two", "three"];
    let port = server.address.port();
    let mail = |name| {
        format!(
            "  {name}: {{ type: email, host: 127.0.0.1, port: {port}, tls: none, from: l@example.com, to: [a@example.com] }}\n"
        )
    };
    world.config(&format!("{}{}", names.map(mail).concat(), rules("one")));
    for _ in 0..2 {
        let ran = world.run(&[["test-notify"].as_slice(), &names].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    let mails: Vec<String> = server.conversations().into_iter().flat_map(|it| it.data).collect();
    let id = |mail: &String| mail.lines().find(|line| line.starts_with("Message-ID: ")).unwrap().to_owned();
    let ids: std::collections::BTreeSet<String> = mails.iter().map(id).collect();
    assert_eq!((mails.len(), ids.len()), (6, 6), "{ids:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_notify_tries_every_end_and_marks_what_it_sends() {
    let world = World::new().await;
    let (hook, duty, team) =
        (TestEndpoint::accepting().await, TestEndpoint::accepting().await, TestEndpoint::accepting().await);
    let (server, tokens) = (Server::start(xoauth2()).await, TestEndpoint::tokens(3600).await);
    let gone = TestEndpoint::answering(|_, _| ResponseTemplate::new(404)).await;
    let broken = format!("  broken: {{ type: webhook, url: '{}' }}\n", gone.url());
    world.config(&format!(
        "{}  duty: {{ type: pagerduty, routing_key: {ROUTING}, url: '{}' }}\n  team: {{ type: teams, webhook_url: '{}' }}\n{}{broken}{}",
        webhook(&hook),
        duty.url(),
        team.url(),
        mail(&server, &tokens, ""),
        rules("hook")
    ));
    let ran = world.run(&["test-notify", "-o", "json"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let outcomes = ran.json();
    let of = |name: &str| outcomes.as_array().unwrap().iter().find(|it| it["notifier"] == name).unwrap().clone();
    for name in ["hook", "duty", "team", "mail", "slack"] {
        assert_eq!(of(name)["delivered"], true, "{outcomes:#}");
    }
    assert!(of("broken")["detail"].as_str().unwrap().contains("404 (not found: check `url`)"), "{outcomes:#}");
    let test = hook.received().remove(0);
    expect_signed(&test);
    expect_documented(&test.json());
    assert_eq!((&test.json()["event"], &test.json()["notifier"]), (&json!("test"), &json!("hook")));
    let actions: Vec<Value> = duty.received().iter().map(|it| it.json()["event_action"].clone()).collect();
    assert_eq!(actions, ["trigger", "resolve"]);
    assert!(duty.received()[0].body.contains("TEST: ") && team.received()[0].body.contains("TEST: "));
    assert!(server.conversations()[0].data[0].contains("TEST"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_that_echo_every_secret_find_none_of_them_shown() {
    let world = World::new().await;
    let token = format!("{ACCESS}-1");
    let bare = signing().strip_prefix("whsec_").unwrap().to_owned();
    let echo = |n: usize, request: &Request| {
        let headers: Vec<String> =
            request.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        let all = [HEADER, ADDRESS, ROUTING, CLIENT, &signing()].map(|it| format!("{it} {}", STANDARD.encode(it)));
        let body = match n % 3 {
            0 => format!("{} {}", request.url, String::from_utf8_lossy(&request.body)),
            1 => all.join(" "),
            _ => headers.join(" "),
        };
        ResponseTemplate::new(500).set_body_string(body).insert_header("retry-after", "1")
    };
    let (hook, duty, team, no) = (
        TestEndpoint::answering(echo).await,
        TestEndpoint::answering(echo).await,
        TestEndpoint::answering(echo).await,
        TestEndpoint::answering(echo).await,
    );
    // Every process gets the same token, which the mail server echoes.
    let granted = json!({ "access_token": token, "token_type": "Bearer", "expires_in": 3600 });
    let tokens = TestEndpoint::answering(move |_, _| ResponseTemplate::new(200).set_body_json(&granted)).await;
    let login = STANDARD.encode(format!("user=box@example.com\u{1}auth=Bearer {token}\u{1}\u{1}"));
    let reply = format!("454 {token} {login} {}", STANDARD.encode(&token));
    let server = Server::start(Script { replies: [("AUTH", reply)].into(), ..xoauth2() }).await;
    let mute = mail(&server, &no, "").replace("  mail:", "  mute:");
    world.config(&format!(
        "{}  duty: {{ type: pagerduty, routing_key: {ROUTING}, url: '{}' }}\n  team: {{ type: teams, webhook_url: '{}/{ADDRESS}' }}\n{}{mute}{}",
        webhook(&hook),
        duty.url(),
        team.url(),
        mail(&server, &tokens, ""),
        rules("hook, duty, team, mail, mute")
    ));
    world.funds("100");
    let service = world.start_with(&["run", "--log-level", "trace"]);
    for end in [&hook, &duty, &team, &no] {
        end.wait(4);
    }
    wait_until("two logins", || server.conversations().len() >= 2);
    let mut shown = vec![("state".to_owned(), world.state()), ("log".to_owned(), service.log())];
    for args in [&["status"][..], &["test-notify"], &["test-notify", "-o", "json"], &["validate"]] {
        let ran = world.run(&[args, &["--log-level", "trace"]].concat());
        shown.push((format!("{args:?}"), ran.stdout + &ran.stderr));
    }
    assert_eq!(service.stop(), Some(0));
    let secrets = [HEADER, ADDRESS, ROUTING, CLIENT, &bare, &token, &login];
    for (place, text) in &shown {
        let lower = text.to_lowercase();
        for secret in secrets {
            let encoded = STANDARD.encode(secret);
            for form in [secret.to_lowercase(), url::form_urlencoded::byte_serialize(secret.as_bytes()).collect()] {
                assert!(!lower.contains(&form.to_lowercase()), "{secret} is shown in {place}: {text}");
            }
            assert!(!text.contains(encoded.trim_end_matches('=')), "{secret} is shown in {place} in base64");
        }
    }
    assert!(shown.iter().map(|(_, text)| text.matches("***").count()).sum::<usize>() > 20, "{shown:?}");
}
