//! Text from outside is shown and never interpreted: Slack's markup, HTML, email headers, terminals.
//!
//! Every hostile text is sent for real in every place that text from outside can have. A message must have the same
//! structure as with a harmless text in that place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::support::bin::{World, wait_until};
use crate::support::faults::{Fault, FaultServer, ok, status};
use crate::support::sample::{message, message_context, now, warning};
use crate::support::smtp::{Conversation, Script, Server};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lowtide::domain::Name;
use lowtide::domain::alert::{AlertKey, TransitionKind};
use lowtide::domain::balance::Persistence;
use lowtide::domain::event::{Event, EventSubject, UnreadableEvent};
use lowtide::domain::rule::Severity;
use lowtide::notify::channels::email::{EmailNotifier, EmailOptions, SmtpTls};
use lowtide::notify::channels::slack::SlackNotifier;
use lowtide::notify::{FallbackOrigin, Message, MessageContent, MessageContext, MessageEvent, Notifier, RuleTexts};
use lowtide::util::http_client;
use lowtide::util::http_client::HttpClientOptions;
use lowtide::util::secret::{Redactor, Secret};
use serde_json::{Value, json};

fn hostile() -> Vec<String> {
    let texts = [
        "<!channel> <!here> <!everyone>",
        "<@U012345> <#C012345> <!subteam^S01|team>",
        "<https://evil.example.com|Deposit funds>",
        "<!date^1^{date}|now>",
        "*bold* ~struck~ `code` ```block```",
        "> quoted\n>>> all of it",
        "&lt;!channel&gt; &amp; &#60;b&#62;",
        "</div></td></table><script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onmouseover='alert(1)",
        "<!--",
        "]]>",
        "<style>*{display:none}</style>",
        "x\r\nBcc: evil@example.com\r\nSubject: other\r\n\r\nanother body",
        "x\nBcc: evil@example.com",
        "x\rBcc: evil@example.com",
        "\r\n.\r\nMAIL FROM:<evil@example.com>\r\nRCPT TO:<evil@example.com>\r\nDATA\r\n",
        "=?utf-8?q?=0D=0ABcc:_evil@example.com?=",
        "\r\n--boundary\r\nContent-Type: text/html\r\n\r\n<b>x</b>",
        "\u{202e}dnuf\u{202c} \u{2066}x\u{2069} \u{200f}y\u{61c}z",
        "nul\u{0}byte \u{1b}[31mred\u{1b}]0;title\u{7} \u{9b}31m\u{8}\u{7f}",
        "line\u{2028}separator\u{2029}paragraph\u{85}next",
        "zero\u{200b}width\u{feff}\u{2060}\u{ad}join",
        "tags\u{e0041}\u{e0042}\u{e007f} \u{fff9}note\u{fffb} \u{180e}",
        "{{7*7}} ${jndi:ldap://x} %s%n $(id) `id`",
        "e\u{301}\u{301}\u{301}\u{301} \u{1f468}\u{200d}\u{1f469}",
    ];
    let long = [
        "x".repeat(10_000),
        "<!channel>".repeat(1000),
        "\u{1f4b8}&".repeat(5000),
        "\r\n".repeat(5000),
        "a ".repeat(5000),
    ];
    texts.into_iter().map(str::to_owned).chain(long).collect()
}

/// Returns true for characters that are invisible or change the direction of text.
fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Places of text from outside in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextPlace {
    Division,
    Account,
    Rule,
    Description,
    Link,
    Reason,
    Via,
    Notifier,
}

const PLACES: [TextPlace; 8] = [
    TextPlace::Division,
    TextPlace::Account,
    TextPlace::Rule,
    TextPlace::Description,
    TextPlace::Link,
    TextPlace::Reason,
    TextPlace::Via,
    TextPlace::Notifier,
];

/// Returns a message with a text in this place, and its context.
fn with(place: TextPlace, text: &str) -> (Message, MessageContext) {
    let mut event = warning(if place == TextPlace::Division { text } else { "History" });
    let mut context = message_context();
    let mut via = None;
    let EventSubject::Threshold(threshold) = &mut event.subject else { panic!("a threshold") };
    match place {
        TextPlace::Division => {}
        TextPlace::Account => {
            threshold.key.account = Name::from(text);
            context.console_urls = BTreeMap::from([(Name::from(text), "https://www.digicert.com/secure/".to_owned())]);
        }
        TextPlace::Rule => {
            threshold.key.rule = Name::from(text);
            let rule = context.rules.values().next().unwrap().clone();
            context.rules = BTreeMap::from([(Name::from(text), rule)]);
        }
        TextPlace::Description | TextPlace::Link => {
            let rule = RuleTexts {
                description: Some(if place == TextPlace::Description { text } else { "Ask." }.to_owned()),
                link: (place == TextPlace::Link).then(|| format!("https://example.com/{text}")),
            };
            context.rules.insert("available-funds".into(), rule);
        }
        TextPlace::Reason => {
            event = Event { subject: EventSubject::Unreadable(unreadable(text)), ..event };
        }
        TextPlace::Via => via = Some(FallbackOrigin { notifier: "slack".into(), error: text.to_owned() }),
        TextPlace::Notifier => {
            let subject = EventSubject::NotifierFailing { notifier: text.into(), since: now(), error: text.to_owned() };
            event = Event { subject, ..event };
        }
    }
    let content = MessageContent::Events(vec![MessageEvent { event: event.into(), omitted: 0, in_place_of: via }]);
    (Message { content, ..message(Vec::new()) }, context)
}

fn unreadable(reason: &str) -> UnreadableEvent {
    UnreadableEvent {
        key: AlertKey { account: "acme".into(), division: Some(7), rule: "unreadable".into() },
        division_name: None,
        kind: TransitionKind::Raised,
        level: Severity::Warning,
        since: now(),
        reason: Some(reason.to_owned()),
        persistence: Some(Persistence::Transient),
        firing_alerts: Vec::new(),
        unevaluated_rules: Vec::new(),
        next_reminder: None,
    }
}

/// A Slack server and a mail server that record what they receive.
struct TestReceivers {
    http: reqwest::Client,
    slack: FaultServer,
    mail: Server,
}

impl TestReceivers {
    async fn open() -> Self {
        let options = HttpClientOptions { timeout: Duration::from_secs(5), extra_ca_pem: None, loopback: true };
        Self {
            http: http_client::client(&options).unwrap(),
            slack: FaultServer::plain(status("200 OK", &[], "ok")),
            mail: Server::start(Script::default()).await,
        }
    }

    async fn send(&self, message: &Message, context: MessageContext) -> (Value, Conversation) {
        let context = Arc::new(context);
        let http = self.http.clone();
        let url = Secret::new(format!("{}/services/T/B/x", self.slack.base()));
        let slack =
            SlackNotifier::new("slack".into(), url, BTreeMap::new(), http, Arc::clone(&context), Redactor::default());
        slack.send(message).await.unwrap();
        let options = EmailOptions {
            host: "127.0.0.1".to_owned(),
            port: self.mail.address.port(),
            tls: SmtpTls::None,
            credentials: None,
            from: "Lowtide <lowtide@example.com>".parse().unwrap(),
            to: vec!["a@example.com".parse().unwrap()],
            ca_pem: None,
            timeout: Duration::from_secs(5),
        };
        EmailNotifier::new(options, context, Redactor::default()).unwrap().send(message).await.unwrap();
        let request = self.slack.requests().pop().unwrap();
        let body = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
        (body, self.mail.conversations().pop().unwrap())
    }
}

/// Collects every string of a Slack message.
fn strings<'a>(value: &'a Value, out: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => out.push(text),
        Value::Array(values) => values.iter().for_each(|value| strings(value, out)),
        Value::Object(fields) => fields.values().for_each(|value| strings(value, out)),
        _ => {}
    }
}

/// Returns the structure of a Slack message: the shape of its JSON, and everything that Slack reads as markup. The
/// operator's own description may be formatted, and an address is compared by its label.
fn slack_structure(body: &Value) -> String {
    fn shape(value: &Value) -> String {
        match value {
            Value::Array(values) => format!("[{}]", values.iter().map(shape).collect::<Vec<_>>().join(",")),
            Value::Object(fields) => {
                let own_words = fields.get("verbatim") == Some(&Value::Bool(false));
                let fields = fields.iter().map(|(key, value)| match value {
                    Value::String(text) if !["color", "type"].contains(&key.as_str()) => {
                        format!("{key}:{}", markup(text, own_words))
                    }
                    value => format!("{key}:{}", shape(value)),
                });
                format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
            }
            value => value.to_string(),
        }
    }
    fn markup(text: &str, own_words: bool) -> String {
        let mut found = String::new();
        let mut inside = false; // of an address or a mention, where nothing is formatted
        for (at, c) in text.char_indices() {
            match c {
                '<' => {
                    inside = true;
                    found.push_str(
                        text[at..].split_once('|').map_or("<", |(_, label)| label.split('>').next().unwrap()),
                    );
                }
                '>' => {
                    inside = false;
                    found.push(c);
                }
                '*' | '~' | '`' if !own_words && !inside => found.push(c),
                '&' if !["&amp;", "&lt;", "&gt;"].iter().any(|it| text[at..].starts_with(it)) => found.push(c),
                _ => {}
            }
        }
        found
    }
    shape(body)
}

/// Returns the parts of an email, decoded.
fn parts(data: &str) -> Vec<String> {
    let boundary = data.split_once("boundary=\"").unwrap().1.split_once('"').unwrap().0;
    let boundary = format!("--{boundary}");
    let parts = data.split(&boundary).skip(1).filter(|part| !part.starts_with("--"));
    parts
        .map(|part| {
            let (head, body) = part.split_once("\r\n\r\n").unwrap();
            let head = head.to_ascii_lowercase();
            if head.contains("base64") {
                return String::from_utf8(STANDARD.decode(body.replace("\r\n", "")).unwrap()).unwrap();
            }
            if !head.contains("quoted-printable") {
                return body.to_owned();
            }
            let (body, mut bytes) = (body.replace("=\r\n", ""), Vec::new());
            let mut rest = body.as_bytes();
            while let Some((first, more)) = rest.split_first() {
                if *first == b'=' {
                    bytes.push(u8::from_str_radix(std::str::from_utf8(&more[..2]).unwrap(), 16).unwrap());
                    rest = &more[2..];
                } else {
                    bytes.push(*first);
                    rest = more;
                }
            }
            String::from_utf8(bytes).unwrap()
        })
        .collect()
}

/// Returns all tags of a page, without the addresses of links and the line breaks of a description.
fn html_structure(page: &str) -> Vec<String> {
    let tags = page.match_indices('<').map(|(at, _)| page[at..].split_once('>').map_or(&page[at..], |(tag, _)| tag));
    let tags = tags.filter(|tag| !tag.starts_with("<br"));
    tags.map(|tag| match tag.split_once("href=\"") {
        Some((before, rest)) => format!("{before}href={}", rest.split_once('"').map_or("", |(_, after)| after)),
        None => tag.to_owned(),
    })
    .collect()
}

fn header_names(data: &str) -> Vec<String> {
    let head = data.split("\r\n\r\n").next().unwrap().replace("\r\n ", " ").replace("\r\n\t", " ");
    head.split("\r\n").map(|line| line.split(':').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn no_text_from_outside_changes_the_structure_of_a_message() {
    let mut wrong: Vec<String> = Vec::new();
    let rows = PLACES.map(|place| async move {
        let post = TestReceivers::open().await;
        let mut wrong = Vec::new();
        let harmless = if place == TextPlace::Link { "x" } else { "harmless" };
        let (message, its_words) = with(place, harmless);
        let (slack, mail) = post.send(&message, its_words).await;
        let expected = (slack_structure(&slack), html_structure(&parts(&mail.data[0])[1]), header_names(&mail.data[0]));
        // A description without visible characters is left out.
        for text in hostile().into_iter().filter(|it| place != TextPlace::Description || !it.trim().is_empty()) {
            let (message, its_words) = with(place, &text);
            let (slack, mail) = post.send(&message, its_words).await;
            let mut complain = |what: &str, shown: &str| {
                wrong.push(format!(
                    "{place:?} {:?}: {what}: {:.400}",
                    text.chars().take(60).collect::<String>(),
                    shown
                ));
            };
            // A long address is left out instead of shortened.
            let slack_shape = slack_structure(&slack);
            if slack_shape != expected.0 && !(place == TextPlace::Link && text.len() > 900) {
                complain("Slack's structure", &slack_shape);
            }
            let mut all = Vec::new();
            strings(&slack, &mut all);
            if all.iter().map(|text| text.encode_utf16().count()).sum::<usize>() > 13_000 {
                complain("Slack's length", "");
            }
            for line in &all {
                if line.chars().any(|c| hidden(c) && c != '\n') {
                    complain("a hidden character in Slack", &format!("{line:?}"));
                }
            }
            if (mail.mail_from.len(), mail.data.len(), mail.rcpt_to.as_slice()) != (1, 1, &["a@example.com".to_owned()])
            {
                complain("the SMTP conversation", &format!("{:?}", mail.commands));
            }
            if header_names(&mail.data[0]) != expected.2 {
                complain("the headers", &format!("{:?}", header_names(&mail.data[0])));
            }
            let parts = parts(&mail.data[0]);
            if parts.len() != 2 || html_structure(&parts[1]) != expected.1 {
                complain("the HTML", &format!("{:?}", html_structure(&parts[1])));
            }
            for part in &parts {
                let bad = part.chars().find(|c| hidden(*c) && !matches!(c, '\n' | '\r'));
                if let Some(bad) = bad {
                    complain(&format!("a hidden character {bad:?} in a mail"), part);
                }
            }
            if mail.data[0].lines().any(|line| line.len() > 998) {
                complain("a line too long for SMTP", "");
            }
        }
        wrong
    });
    wrong.extend(futures_util::future::join_all(rows).await.into_iter().flatten());
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_names_are_cleaned_in_terminal_log_and_plugin_output() {
    let world = World::new().await;
    let names = hostile();
    let divisions = names.iter().enumerate().map(|(id, name)| json!({ "id": id, "name": name, "description": name }));
    let listing = json!({ "containers": divisions.collect::<Vec<_>>() }).to_string();
    let answers = names.iter().enumerate().map(|(id, text)| {
        let line = format!("container_id={id} ");
        let answer = match id % 4 {
            0 => ok(r#"{"balance":"5","currency":"USD","negative_balance_limit":"0"}"#),
            1 => status("403 X", &[], &json!({ "errors": [{ "code": text, "message": text }] }).to_string()),
            2 => status("404 X", &[], text),
            _ => ok(json!({ "balance": text, "currency": text, "unlimited_negative_balance": text }).to_string()),
        };
        (line, answer)
    });
    let routes = std::iter::once(("/container".to_owned(), ok(listing))).chain(answers);
    let server = FaultServer::plain(Fault::ByPath(routes.collect()));
    let inbox = Server::start(Script::default()).await;
    let text = format!(
        "schedule: every 2s\nstate: state.json\nunreadable: {{ after: 1s }}\naccounts:\n  \"<!channel> *x* | 'y' \\u202e \":\n    {{ api_key: KEY-0123456789, base_url: '{}', divisions: all, rate_limit: off }}\nnotifiers:\n  slack: {{ type: slack, webhook_url: '{}' }}\n  mail: {{ type: email, host: 127.0.0.1, port: {}, tls: none, from: a@example.com, to: [b@example.com] }}\nrules:\n  \"</div><script>\": {{ metric: available_funds, warning: {{ below: 1000 }} }}\n",
        server.base(),
        world.webhook(),
        inbox.address.port(),
    );
    std::fs::write(world.path("alerts.yaml"), text).unwrap();
    let valid = world.run(&["validate"]);
    assert_eq!(valid.code, Some(0), "{valid:?}");
    for format in ["text", "json"] {
        let service = world.start_with(&["run", "--log-level", "trace", "--log-format", format]);
        wait_until("two cycles", || service.log().matches("cycle done").count() >= 2);
        wait_until("messages of both notifiers", || !world.told().is_empty() && !inbox.conversations().is_empty());
        let log = service.log();
        let bad = log.lines().find(|line| line.chars().any(hidden));
        assert!(bad.is_none(), "a {format} line of the log: {bad:?}");
        for args in [
            ["status"].as_slice(),
            &["status", "-o", "json"],
            &["check"],
            &["check", "-o", "plugin"],
            &["check", "-o", "json"],
            &["validate", "--online"],
        ] {
            let ran = world.run(args);
            assert!(ran.stdout.len() > 100, "{args:?}: {ran:?}");
            let bad = ran.stdout.lines().find(|line| line.chars().any(hidden));
            assert!(bad.is_none() || args.contains(&"json"), "{args:?}: {bad:?}");
            if args.contains(&"json") {
                assert!(
                    !ran.stdout.contains('\u{1b}') && serde_json::from_str::<Value>(&ran.stdout).is_ok(),
                    "{args:?}"
                );
            }
            if args.contains(&"plugin") {
                assert_eq!((ran.stdout.lines().count(), ran.stdout.matches(" | ").count()), (1, 1), "{}", ran.stdout);
            }
        }
        assert_eq!(service.stop(), Some(0));
    }
    for body in world.slack_bodies() {
        let text = body.to_string();
        assert!(!text.contains("<!") && !text.contains("<@") && !text.contains("<#"), "{text}");
    }
}
