//! No secret is shown in any log level, command, message or file, whatever a server echoes.
//!
//! One service with log level `trace` runs against servers that echo its secrets in every place and encoding.

use crate::support::bin::{KEY, World, wait_until};
use crate::support::faults::{Fault, FaultServer, ok, status};
use crate::support::smtp::{Script, Server};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use lowtide::config::{self, Environment};
use lowtide::util::secret::{Redactor, Secret};

/// API key that differs in JSON, in an address and in lower case.
const NASTY: &str = r#"Sk"Nasty\Key/42+Qz=Wx&v"#;
const TOKEN: &str = "AbCdEfGhIjKlMnOp42";
const QUERY: &str = "QuErY77SeCrEt88tOkEn";
const PASSWORD: &str = "pA55w0rd\"with'odd<chars>";

/// Strings that must not be found: every ten characters of a secret, in any case (`true`), and of its base64 forms (`false`).
fn pieces() -> Vec<(String, bool)> {
    let plain = |user: &str| format!("\0{user}\0{PASSWORD}");
    let encoded = [KEY, NASTY, TOKEN, QUERY, PASSWORD].map(|it| STANDARD.encode(it));
    let encoded = encoded.into_iter().chain([STANDARD.encode(plain("lowtide")), URL_SAFE.encode(plain("lowtide"))]);
    let windows = |text: &str| -> Vec<String> {
        let chars: Vec<char> = text.trim_end_matches('=').chars().collect();
        chars.windows(10).map(|piece| piece.iter().collect()).collect()
    };
    let secrets = [KEY, NASTY, TOKEN, QUERY, PASSWORD].map(|it| windows(&it.to_lowercase())).concat();
    let encoded = encoded.flat_map(|it| windows(&it));
    secrets.into_iter().map(|it| (it, true)).chain(encoded.map(|it| (it, false))).collect()
}

fn assert_shows_nothing(place: &str, text: &str, pieces: &[(String, bool)]) {
    let lower = text.to_lowercase();
    for (piece, any_case) in pieces {
        let place_of = if *any_case { lower.find(piece) } else { text.find(piece) };
        if let Some(at) = place_of {
            let around = String::from_utf8_lossy(&text.as_bytes()[at.saturating_sub(200)..text.len().min(at + 200)]);
            panic!("{piece:?} is shown in {place}: …{around}…");
        }
    }
}

/// Encodings in which a server may echo a secret.
fn forms(secret: &str) -> Vec<String> {
    let json = serde_json::to_string(secret).unwrap();
    let json = json.trim_start_matches('"').strip_suffix('"').unwrap_or(&json).to_owned();
    let percent: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    vec![
        secret.to_owned(),
        secret.to_lowercase(),
        secret.to_uppercase(),
        json.replace('/', "\\/"),
        json,
        percent.to_lowercase(),
        percent,
        format!("{secret:?}"),
        STANDARD.encode(secret),
        STANDARD.encode(secret).trim_end_matches('=').to_owned(),
        URL_SAFE.encode(secret),
    ]
}

fn all(secret: &str) -> String {
    forms(secret).join(" ; ")
}

/// CertCentral servers that echo the key.
fn certcentrals() -> Vec<(&'static str, Fault)> {
    let mut faults = Vec::new();
    for key in [KEY, NASTY] {
        let echoed = all(key);
        let json = serde_json::to_string(&echoed).unwrap();
        let error = format!(r#"{{"errors":[{{"code":{json},"message":{json}}}]}}"#);
        let short = forms(key).into_iter().map(|it| serde_json::to_string(&it).unwrap());
        let header = |name: &str, value: &str| [format!("{name}: {value}")];
        let with = |line: &str, header: &[String; 1], body: &str| status(line, &[&header[0]], body);
        faults.extend([
            (key, status("401 X", &[], &error)),
            (key, status("403 X", &[], &echoed)),
            (key, status("500 X", &[], &echoed)),
            (key, status(&format!("418 {KEY}"), &[], &echoed)),
            (key, with("503 X", &header("Retry-After", key), &error)),
            (key, ok(&echoed)),
            (key, ok(format!("{{{}", serde_json::to_string(key).unwrap()))),
            (key, ok(format!(r#"{{"balance":{json},"currency":{json},"{TOKEN}":1}}"#))),
            (key, with("200 OK", &header("Content-Type", key), "")),
            (key, with("302 X", &header("Location", &format!("https://{KEY}.example.com/{KEY}?{KEY}")), &echoed)),
            (key, with("302 X", &header("Location", &format!("https://u:{KEY}@example.com/{KEY}")), &echoed)),
            (key, with("302 X", &header("Location", &format!("/{KEY}")), &echoed)),
            (key, Fault::Bytes(format!("{KEY} is no HTTP\r\n\r\n").into_bytes())),
            (
                key,
                Fault::Bytes(
                    format!("HTTP/1.1 200 OK\r\nX-{KEY}: {KEY}\r\nContent-Length: 900\r\n\r\n{KEY}").into_bytes(),
                ),
            ),
        ]);
        let found = short.enumerate().map(|(id, found)| {
            (format!("container_id={} ", id + 1), ok(format!(r#"{{"balance":{found},"currency":"USD"}}"#)))
        });
        faults.push((key, Fault::ByPath(found.collect())));
    }
    faults
}

/// Slack servers that echo the address.
fn slacks() -> Vec<Fault> {
    let echoed = format!("{} {} /services/T0/B0/{TOKEN} ?token={QUERY}", all(TOKEN), all(QUERY));
    let location = [format!("Location: https://{TOKEN}.example.com/services/T0/B0/{TOKEN}?token={QUERY}")];
    let refused = format!(r#"{{"ok":false,"error":"{TOKEN} {QUERY}"}}"#);
    let zero_width = format!("{}\u{200b}{} {}\u{200b}{}", &TOKEN[..9], &TOKEN[9..], &QUERY[..9], &QUERY[9..]);
    let mut faults = vec![
        status("302 X", &[&location[0]], &echoed),
        status("429 X", &[&format!("Retry-After: {TOKEN}")], &echoed),
        status("200 OK", &[], &refused),
        status("403 X", &[], &zero_width),
        Fault::Bytes(format!("{TOKEN} is no HTTP {QUERY}\r\n\r\n").into_bytes()),
        Fault::Hang(vec![]),
    ];
    let codes = ["400 X", "404 X", "500 X"].into_iter().cycle();
    faults.extend(forms(TOKEN).into_iter().chain(forms(QUERY)).zip(codes).map(|(form, code)| status(code, &[], &form)));
    faults
}

/// Mail servers that echo the password at every step.
async fn mails() -> Vec<Server> {
    let plain = format!("\0lowtide\0{PASSWORD}");
    let mut scripts = Vec::new();
    for form in forms(PASSWORD).into_iter().chain([STANDARD.encode(&plain), URL_SAFE.encode(&plain)]) {
        let extensions = vec!["AUTH PLAIN LOGIN".to_owned()];
        let fine = Script { extensions, ..Script::default() };
        scripts.push(Script { greeting: Some(format!("421 {form}")), ..fine.clone() });
        let steps = [("AUTH", "535"), (".", "552"), ("EHLO", "554"), ("MAIL", "451"), ("RCPT", "550"), ("DATA", "554")];
        for (step, code) in steps.into_iter().take(if form == PASSWORD { 6 } else { 2 }) {
            let reply = format!("{code}-first {form}\r\n{code} then {form}");
            scripts.push(Script { replies: [(step, reply)].into(), ..fine.clone() });
        }
        let one = [("b@example.com".to_owned(), format!("550 {form}"))].into();
        scripts.push(Script { recipients: one, ..fine });
    }
    let servers = scripts.into_iter().map(Server::start);
    futures_util::future::join_all(servers).await
}

fn yaml(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_echo_secrets_make_the_service_show_none() {
    let world = World::new().await;
    let faults = certcentrals();
    let keys: Vec<&str> = faults.iter().map(|(key, _)| *key).collect();
    let accounts: Vec<FaultServer> = faults.into_iter().map(|(_, fault)| FaultServer::plain(fault)).collect();
    let names = forms(KEY).into_iter().enumerate().map(|(id, name)| serde_json::json!({ "id": id + 1, "name": name }));
    let listing = serde_json::json!({ "containers": names.collect::<Vec<_>>() }).to_string();
    let low = r#"{"balance":"5","currency":"USD","negative_balance_limit":"0"}"#;
    let divided =
        FaultServer::plain(Fault::ByPath(vec![("/container".to_owned(), ok(listing)), (String::new(), ok(low))]));
    let slacks: Vec<FaultServer> = slacks().into_iter().map(FaultServer::plain).collect();
    let mails = mails().await;
    let inbox = Server::start(Script::default()).await;

    let notifier_name = |n: usize, what: &str| format!("{what}{n}");
    let mut text =
        "schedule: every 2s\nstate: state.json\nunreadable: { after: 1s, notify: [slack, inbox, s0] }\naccounts:\n"
            .to_owned();
    for (at, (server, key)) in accounts.iter().zip(&keys).enumerate() {
        text += &format!(
            "  a{at}: {{ api_key: {}, base_url: '{}', timeout: 1s, rate_limit: off{} }}\n",
            yaml(key),
            server.base(),
            if (at + 1) % (keys.len() / 2) == 0 { ", divisions: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]" } else { "" }
        );
    }
    text += &format!("  divided: {{ api_key: {KEY}, base_url: '{}', divisions: all }}\nnotifiers:\n", divided.base());
    for (at, server) in slacks.iter().enumerate() {
        let url = format!("{}/services/T0/B0/{TOKEN}?token={QUERY}", server.base());
        text += &format!("  s{at}: {{ type: slack, webhook_url: '{url}', timeout: 1s, fallback: slack }}\n");
    }
    let mail = |name: &str, server: &Server, more: &str| {
        let port = server.address.port();
        format!(
            "  {name}: {{ type: email, host: 127.0.0.1, port: {port}, tls: none, from: a@example.com, to: [b@example.com, c@example.com], timeout: 1s{more} }}\n"
        )
    };
    for (at, server) in mails.iter().enumerate() {
        text += &mail(
            &format!("m{at}"),
            server,
            &format!(", username: lowtide, password: {}, fallback: inbox", yaml(PASSWORD)),
        );
    }
    text += &mail("inbox", &inbox, "");
    text += &format!("  slack: {{ type: slack, webhook_url: '{}' }}\n", world.webhook());
    text += "rules:\n";
    for name in
        (0..slacks.len()).map(|at| notifier_name(at, "s")).chain((0..mails.len()).map(|at| notifier_name(at, "m")))
    {
        text += &format!(
            "  r{name}: {{ metric: balance, warning: {{ below: 1000 }}, accounts: [divided], divisions: [1], notify: [{name}] }}\n"
        );
    }
    text += "  funds: { metric: available_funds, warning: { below: 1000 }, notify: [slack, inbox] }\n";
    std::fs::write(world.path("alerts.yaml"), text).unwrap();

    let mut shown: Vec<(String, String)> = Vec::new();
    let service = world.start_with(&["run", "--log-level", "trace"]);
    wait_until("every account to be unreadable", || {
        let state = world.state();
        (0..accounts.len()).all(|at| state.contains(&format!("\"account\": \"{}\"", notifier_name(at, "a"))))
    });
    wait_until("every notifier to have tried", || {
        slacks.iter().all(|server| !server.requests().is_empty())
            && mails.iter().all(|server| !server.conversations().is_empty())
    });
    wait_until("the fallbacks to be notified", || {
        let sent = world.told().join("\n");
        sent.contains("Sent here because")
            && inbox.conversations().iter().any(|it| it.data.iter().any(|data| data.contains("Sent here")))
    });
    service.wait_cycles(accounts.len() * 2);
    for args in [["status"].as_slice(), &["status", "-o", "json"], &["health"]] {
        let ran = world.run(&[args, &["--log-level", "trace"]].concat());
        shown.push((format!("{args:?}"), ran.stdout + &ran.stderr));
    }
    shown.push(("the state file".to_owned(), world.state()));
    shown.push(("the log".to_owned(), service.log()));
    assert!(service.log().contains("TRACE"), "the log has lines at trace level");
    service.interrupt();
    let commands: [&[&str]; 7] = [
        &["check"],
        &["check", "-o", "json"],
        &["check", "-o", "plugin"],
        &["validate"],
        &["validate", "--online", "-o", "json"],
        &["test-notify"],
        &["test-notify", "-o", "json"],
    ];
    std::thread::scope(|scope| {
        let world = &world;
        let running = commands.map(|args| {
            scope.spawn(move || {
                let ran = world.run(&[args, &["--log-level", "trace", "--log-format", "json"]].concat());
                assert!(ran.stdout.len() > 20, "{args:?}: {ran:?}");
                (format!("{args:?}"), ran.stdout + &ran.stderr)
            })
        });
        shown.extend(running.map(|command| command.join().unwrap()));
    });
    shown.push(("Slack".to_owned(), world.told().join("\n")));
    let mails = inbox.conversations().into_iter().flat_map(|it| it.data);
    shown.push(("the mails".to_owned(), mails.collect::<Vec<_>>().join("\n").replace("=\r\n", "")));
    let pieces = pieces();
    for (place, text) in &shown {
        assert!(!text.is_empty(), "{place} is empty");
        assert_shows_nothing(place, text, &pieces);
    }
    let everything: String = shown.into_iter().map(|(_, text)| text).collect();
    assert!(everything.matches("***").count() > 100, "the servers echoed secrets, and they were redacted");
}

#[test]
fn debug_output_shows_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("alerts.yaml");
    let text = format!(
        "accounts:\n  acme: {{ api_key: {} }}\nnotifiers:\n  slack: {{ type: slack, webhook_url: 'https://hooks.slack.com/services/T0/B0/{TOKEN}?token={QUERY}' }}\n  mail: {{ type: email, host: mail.example.com, tls: implicit, username: lowtide, password: {}, from: a@example.com, to: [b@example.com] }}\n  hook: {{ type: webhook, url: 'https://example.com/{TOKEN}', headers: {{ X-Key: {KEY} }}, signing_secret: whsec_{} }}\n  duty: {{ type: pagerduty, routing_key: {TOKEN} }}\n  team: {{ type: teams, webhook_url: 'https://example.com/{TOKEN}' }}\n  box: {{ type: email, host: mail.example.com, username: lowtide, from: a@example.com, to: [b@example.com], oauth2: {{ token_url: 'https://example.com', client_id: lowtide, client_secret: {} }} }}\nrules:\n  funds: {{ metric: balance, warning: {{ below: 1 }} }}\n",
        yaml(NASTY),
        yaml(PASSWORD),
        STANDARD.encode(KEY.repeat(2)),
        yaml(PASSWORD)
    );
    std::fs::write(&file, text).unwrap();
    let loaded = config::load(&file, &Environment::new([]));
    let config = loaded.config.unwrap();
    let redactor = Redactor::default();
    loaded.secrets.iter().for_each(|secret| redactor.learn(secret));
    let pollers =
        lowtide::app::build_pollers(&config, &redactor, &(std::sync::Arc::new(lowtide::util::clock::SystemClock) as _))
            .unwrap();
    assert_eq!((pollers.len(), lowtide::app::build_routes(&config, &redactor).unwrap().len()), (1, 6));
    let shown = format!("{config:?} {config:#?} {redactor:?} {:?}", loaded.secrets);
    assert!(shown.contains("***") && shown.contains("mail.example.com"), "{shown}");
    assert_shows_nothing("Debug", &shown, &pieces());
}

/// Runs in a separate process for [`a_panic_shows_no_secret`].
#[test]
#[ignore = "ends in a panic; run by a_panic_shows_no_secret"]
fn a_panic() {
    let redactor = Redactor::default();
    redactor.learn(&Secret::new(KEY));
    let format = if std::env::var_os("AS_JSON").is_some() {
        lowtide::util::logging::LogFormat::Json
    } else {
        lowtide::util::logging::LogFormat::Text
    };
    lowtide::util::logging::start(format, None, "info", &redactor, false).unwrap();
    panic!("something about {KEY}");
}

#[test]
fn a_panic_shows_no_secret() {
    for as_json in [false, true] {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "secrets::a_panic", "--ignored", "--nocapture", "--test-threads=1"]);
        if as_json {
            command.env("AS_JSON", "1");
        }
        let ended = command.output().unwrap();
        let shown = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
        assert!(!ended.status.success() && shown.contains("something about ***"), "{shown}");
        assert!(!shown.contains(KEY), "{shown}");
    }
}
