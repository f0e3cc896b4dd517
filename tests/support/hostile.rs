//! Properties that hold for any input from outside. Each function takes bytes and panics if a property is violated.
//!
//! `fuzz/` calls them with the inputs of libFuzzer, `tests/it/fuzz_corpus.rs` with the inputs that were kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use lowtide::alerting::queue::{MAX_QUEUED_PER_ALERT, NewEvent};
use lowtide::alerting::state::State;
use lowtide::certcentral::bodies;
use lowtide::config::{self, Environment};
use lowtide::domain::alert::{AlertKey, TransitionKind};
use lowtide::domain::balance::{Breakdown, MetricValue, Persistence, Reading};
use lowtide::domain::event::{EvaluatedThreshold, Event, EventSubject, ThresholdEvent, UnreadableEvent};
use lowtide::domain::forecast::{ForecastSummary, RenewalsDue, Runway};
use lowtide::domain::money::{Currency, Money};
use lowtide::domain::rule::{Metric, Severity, ThresholdAmount, ThresholdSide};
use lowtide::domain::{Name, Time};
use lowtide::notify::channels::email::rendering::email;
use lowtide::notify::channels::email::{EmailNotifier, EmailOptions, SmtpTls};
use lowtide::notify::channels::slack::payload;
use lowtide::notify::{FallbackOrigin, Message, MessageContent, MessageContext, MessageEvent, RuleTexts};
use lowtide::state::{DecodedState, decode, encode};
use lowtide::util::secret::{Redactor, Secret};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde_json::Value as Json;

/// A key that a server might echo.
const KEY: &str = "hunter2-hunter2-key";
/// Mention that the configuration adds to critical messages: the only intended one.
const MENTION: &str = "<!here>";

pub fn at(seconds: i64) -> Time {
    DateTime::<Utc>::from_timestamp(1_795_500_000 + seconds, 0).unwrap()
}

// ---------------------------------------------------------------------------------------------------- configuration

/// Loads a configuration. After a NUL byte, if there is one, follows the value of variables that override the account's key
/// and a rule's list.
pub fn config(data: &[u8]) {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "from-a-file-0123\n").unwrap();
        folder
    });
    let (yaml, value) = data.iter().position(|b| *b == 0).map_or((data, &b""[..]), |i| (&data[..i], &data[i + 1..]));
    let path = folder.path().join("alerts.yaml");
    std::fs::write(&path, yaml).unwrap();
    let value = String::from_utf8_lossy(value).replace('\0', "");
    let mut variables = vec![("KEY", KEY), ("EMPTY", "")];
    if !value.is_empty() {
        variables.extend([
            ("LOWTIDE_ACCOUNTS__ACME__API_KEY", value.as_str()),
            ("LOWTIDE_RULES__FUNDS__NOTIFY", value.as_str()),
            ("LOWTIDE_NOTIFIERS__MAIL__TO", value.as_str()),
            ("LOWTIDE_SCHEDULE", value.as_str()),
            ("LOWTIDE_NO__SUCH", value.as_str()),
        ]);
    }
    let loaded = config::load(&path, &variables.into_iter().collect::<Environment>());
    let problems = loaded.config.as_ref().err().into_iter().flatten().chain(&loaded.warnings);
    for problem in problems {
        one_line(&problem.to_string(), 4000);
        for secret in loaded.secrets.iter().map(Secret::expose).filter(|it| it.len() >= 6 && !it.contains('*')) {
            let excerpt = problem.excerpt.as_ref().map_or("", |excerpt| &excerpt.text);
            let shown = [&problem.found, &problem.expected, &problem.message].map(String::as_str);
            assert!(!shown.iter().chain([&excerpt]).any(|text| text.contains(secret)), "a secret in {problem}");
        }
    }
    match loaded.config {
        Err(problems) => assert!(!problems.is_empty(), "refused without a reason"),
        Ok(config) => is_usable(&config),
    }
}

fn is_usable(config: &config::Config) {
    assert!(!config.accounts.is_empty() && !config.notifiers.is_empty() && !config.rules.is_empty());
    for account in config.accounts.values() {
        assert!(matches!(account.base_url.scheme(), "http" | "https"));
        for now in [at(0), at(13_370_000), at(400_000_001)] {
            assert!(account.schedule.next_after(now).unwrap() > now, "{}", account.schedule.text());
        }
        assert!(account.connection.timeout > Duration::ZERO);
    }
    for notifier in config.notifiers.values() {
        assert!(notifier.fallback.as_ref().is_none_or(|name| config.notifiers.contains_key(name)));
        if let config::ChannelConfig::Email { to, .. } = &notifier.channel {
            assert!((1..=50).contains(&to.len()));
        }
    }
    for rule in &config.rules {
        let levels: Vec<_> =
            [Severity::Warning, Severity::Critical].into_iter().filter_map(|it| rule.level(it)).collect();
        assert!(!levels.is_empty() && &*rule.name != "unreadable");
        for level in levels {
            assert!(!level.notify.is_empty() && level.notify.iter().all(|name| config.notifiers.contains_key(name)));
        }
    }
    assert_eq!(lowtide::app::message_context(config).rules.len(), config.rules.len());
}

// ------------------------------------------------------------------------------------------------ CertCentral's bodies

/// Parses a body as ledger, orders, and order details.
fn history(data: &[u8], redactor: &Redactor) {
    let json = |data| {
        let text = std::str::from_utf8(data).unwrap().trim_start_matches('\u{feff}').trim();
        serde_json::from_str(text).unwrap_or(Json::Null)
    };
    match bodies::history(data, redactor) {
        Ok((lines, _)) => {
            let json: Json = json(data);
            for (at, line) in lines.iter().enumerate() {
                safe_line(&line.kind, 60);
                safe_line(&line.id, 64);
                // A single side is read as it is written.
                let item = &json["adjustments"][at];
                if item["debit"].is_null() {
                    same_amount(item, "credit", Some(line.change));
                } else if item["credit"].is_null() {
                    same_amount(item, "debit", Some(-line.change));
                }
                same_amount(item, "balance_after", line.balance_after);
            }
        }
        Err(error) => safe_line(&error, 400),
    }
    match bodies::orders(data, redactor) {
        Ok((orders, _)) => {
            for order in orders {
                let _ = (order.ends(), order.end_is_uncertain());
            }
        }
        Err(error) => safe_line(&error, 400),
    }
    if let Err(error) = bodies::order_end(data, redactor) {
        safe_line(&error, 400);
    }
}

pub fn body(data: &[u8]) {
    let redactor = Redactor::default();
    redactor.learn(&Secret::new(KEY));
    match bodies::balance(data, &redactor) {
        Ok(balance) => {
            let text = std::str::from_utf8(data).unwrap().trim_start_matches('\u{feff}').trim();
            let json: Json = serde_json::from_str(text).unwrap_or(Json::Null);
            // serde_json reads a number as a float, which is precise enough to notice another amount.
            for (field, found) in [
                ("balance", balance.balance.clone().ok()),
                ("unpaid_invoice_balance", balance.unpaid_invoices.clone().ok()),
                ("used_credit_from_other_containers", balance.used_credit.clone().ok()),
                ("negative_balance_limit", balance.credit_limit.clone().ok().flatten()),
                ("total_available_funds", balance.reported_total.clone().ok().flatten()),
            ] {
                same_amount(&json, field, found);
            }
            if balance.unlimited == Ok(true) && !json.is_null() {
                assert_eq!(json["unlimited_negative_balance"], Json::Bool(true));
            }
            for metric in Metric::FROM_BALANCE {
                match balance.reading(metric) {
                    Reading::Amount(money) => safe_line(&money.to_string(), 80),
                    Reading::Unlimited => {
                        assert_eq!((metric, &balance.unlimited), (Metric::AvailableFunds, &Ok(true)));
                    }
                    Reading::Unreadable(why) => safe_line(&why.reason, 400),
                    Reading::Time(_) | Reading::NotYetKnown(_) | Reading::NotYetRead(_) => {
                        panic!("a balance always tells {metric}")
                    }
                }
            }
            if let Some(note) = balance.anomaly() {
                safe_line(&note.to_string(), 400);
            }
            let _ = balance.breakdown();
        }
        Err(error) => safe_line(&error, 400),
    }
    history(data, &redactor);
    match bodies::divisions(data, &redactor) {
        Ok(divisions) => {
            let ids: BTreeSet<u64> = divisions.iter().map(|it| it.id).collect();
            assert_eq!(ids.len(), divisions.len(), "a division comes once");
            for division in divisions {
                assert!(!division.name.trim().is_empty() && !division.name.contains(KEY));
            }
        }
        Err(error) => safe_line(&error, 1000),
    }
    let _ = bodies::errors(data, &redactor);
}

fn same_amount(json: &Json, field: &str, found: Option<Decimal>) {
    let Some(found) = found.and_then(|it| it.to_f64()) else { return };
    let written = match &json[field] {
        Json::String(text) => text.parse::<f64>().ok(),
        Json::Number(number) => number.as_f64(),
        Json::Null if json.get(field).is_none() => Some(0.0),
        other => panic!("{other} was read as the amount {found}"),
    };
    if json.is_object() {
        let written = written.unwrap_or_else(|| panic!("{field}: {} was read as {found}", json[field]));
        assert!((written - found).abs() <= 1e-9 * written.abs().max(1.0), "{field}: {written} was read as {found}");
    }
}

// ----------------------------------------------------------------------------------------------------- the state file

/// Decodes a state file, and continues from there with failures, fallbacks, deliveries and more events. Every state on the
/// way can be saved and read again, and all pending events can be rendered.
pub fn state(data: &[u8]) {
    let Ok(DecodedState { mut state, .. }) = decode(data) else { return };
    survives(&state);
    let names: BTreeSet<Name> = state
        .queue
        .iter()
        .flat_map(|queued| queued.pending.keys())
        .chain(state.failing_notifiers.keys())
        .take(4)
        .cloned()
        .collect();
    for name in &names {
        can_be_rendered(&state, name);
    }
    let now = at(0);
    for (name, other) in names.iter().zip(names.iter().skip(1).chain(names.iter().take(1))) {
        state.record_failure(name, "it failed", now);
        state.hand_over(name, other, "it failed", None);
        survives(&state);
    }
    let keys: Vec<AlertKey> = state.queue.iter().filter_map(|queued| queued.event.alert()).take(3).cloned().collect();
    for key in keys {
        for n in 0..12 {
            let mut event =
                threshold(key.clone(), if n % 2 == 0 { TransitionKind::Raised } else { TransitionKind::Resolved });
            event.since = now;
            state.queue.enqueue(NewEvent::notice(EventSubject::Threshold(event), at(n), names.clone()));
        }
        for name in &names {
            let queued = state.queue.pending_for(name).filter(|(event, _)| {
                let same = event.alert().map(|it| (&it.rule, &it.account, it.division));
                same == Some((&key.rule, &key.account, key.division))
            });
            assert!(queued.count() <= MAX_QUEUED_PER_ALERT, "events of one alert are bounded");
        }
        let _ = state.notified_or_pending(&key);
        survives(&state);
    }
    for name in &names {
        can_be_rendered(&state, name);
        let ids: BTreeSet<String> = state.queue.pending_for(name).map(|(event, _)| event.id.clone()).collect();
        let half: BTreeSet<String> = ids.iter().step_by(2).cloned().collect();
        state.mark_delivered(name, &half, Some("<first@example.com>"), &[]);
        state.mark_delivered(name, &ids, None, &["late@example.com".to_owned()]);
        survives(&state);
        state.mark_delivered(name, &ids, None, &[]);
        assert_eq!(state.queue.pending_for(name).count(), 0, "delivered events are no longer pending");
    }
    state.drop_unconfigured_notifiers(|_| false);
    assert!(state.queue.is_empty() && state.failing_notifiers.is_empty());
    survives(&state);
}

fn survives(state: &State) {
    let read = decode(&encode(state).unwrap().to_bytes()).unwrap();
    assert_eq!(read, DecodedState { state: state.clone(), altered: false }, "a state is saved and read as it is");
}

fn can_be_rendered(state: &State, name: &Name) {
    let items: Vec<MessageEvent> = state
        .queue
        .pending_for(name)
        .map(|(event, pending)| MessageEvent {
            event: event.clone(),
            omitted: pending.omitted,
            in_place_of: pending.in_place_of.clone().map(|(notifier, error)| FallbackOrigin { notifier, error }),
        })
        .collect();
    if items.is_empty() {
        return;
    }
    let references = state.queue.pending_for(name).filter_map(|(_, pending)| pending.thread.clone()).collect();
    let message = Message {
        id: "abc".to_owned(),
        at: at(60),
        content: MessageContent::Events(items),
        references,
        remaining_recipients: None,
    };
    let context = MessageContext {
        timezone: chrono_tz::Europe::Amsterdam,
        rules: BTreeMap::new(),
        console_urls: BTreeMap::new(),
    };
    renders_safely(&message, &context);
}

fn threshold(key: AlertKey, kind: TransitionKind) -> ThresholdEvent {
    let usd = Currency::parse("USD").unwrap();
    ThresholdEvent {
        key,
        division_name: None,
        kind,
        level: Severity::Warning,
        since: at(0),
        metric: Metric::Balance,
        within: None,
        value: MetricValue::Amount(Money::new(Decimal::from(100), usd)),
        threshold: None,
        breakdown: None,
        next_reminder: None,
        forecast: None,
        chart: None,
    }
}

// ---------------------------------------------------------------------------------------------------------- rendering

/// Renders events made from bytes, in one message, for Slack and as email.
pub fn render(data: &[u8]) {
    let mut bytes = Bytes(data);
    let timezone =
        [chrono_tz::UTC, chrono_tz::Europe::Amsterdam, chrono_tz::Asia::Kathmandu, chrono_tz::America::St_Johns]
            [usize::from(bytes.byte() % 4)];
    let rules: Vec<Name> = (0..3).map(|_| bytes.text().as_str().into()).collect();
    let account: Name = bytes.text().as_str().into();
    let context = MessageContext {
        timezone,
        rules: rules
            .iter()
            .map(|rule| {
                let (description, link) = (bytes.maybe(Bytes::lines), bytes.maybe(Bytes::address));
                (rule.clone(), RuleTexts { description, link })
            })
            .collect(),
        console_urls: BTreeMap::from([(account.clone(), bytes.address())]),
    };
    let mut items = Vec::new();
    for n in 0..=bytes.byte() % 64 {
        let copies = if n == 0 { u64::from(bytes.byte().saturating_sub(192)) * 8 } else { 0 };
        let item = bytes.item(&account, &rules);
        for division in 0..copies {
            let mut copy = item.clone();
            if let EventSubject::Threshold(event) = &mut std::sync::Arc::make_mut(&mut copy.event).subject {
                event.key.division = Some(division);
                if division.is_multiple_of(3) {
                    event.value =
                        MetricValue::Amount(Money::new(Decimal::from(division), Currency::parse("USD").unwrap()));
                }
            }
            items.push(copy);
        }
        items.push(item);
        if bytes.0.is_empty() {
            break;
        }
    }
    let references = (0..bytes.byte() % 8).map(|_| bytes.text()).collect();
    let test = bytes.byte() == 255;
    let content = if test { MessageContent::Test { notifier: account } } else { MessageContent::Events(items) };
    renders_safely(
        &Message { id: "abc".to_owned(), at: at(0), content, references, remaining_recipients: None },
        &context,
    );
}

/// Checks the properties of every message, in every channel.
pub fn renders_safely(message: &Message, context: &MessageContext) {
    let mention = BTreeMap::from([(Severity::Critical, MENTION.to_owned())]);
    fits_slack(&payload(message, context, &mention).to_string());
    let mail = email(message, context);
    one_line(&mail.subject, 150);
    assert!(!mail.subject.is_empty());
    assert!(
        !mail.text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'),
        "control characters in {:?}",
        mail.text
    );
    is_harmless(&mail.html);
    has_sound_headers(&emailer().compose(message, true).unwrap());
}

/// Checks Slack's limits, and that the text contains no markup from outside.
pub fn fits_slack(json: &str) {
    let body: Json = serde_json::from_str(json).expect("the payload is JSON");
    let text = body["text"].as_str().unwrap();
    assert!((1..=3000).contains(&units(text)), "text of {}", units(text));
    let attachments = body["attachments"].as_array().unwrap();
    assert!(attachments.len() <= 20, "{} attachments", attachments.len());
    let mut count = 0;
    for attachment in attachments {
        let blocks = attachment["blocks"].as_array().unwrap();
        assert!(!blocks.is_empty(), "an attachment shows something");
        assert!(units(attachment["fallback"].as_str().unwrap()) > 0);
        count += blocks.len();
        for block in blocks {
            let texts = match block["type"].as_str().unwrap() {
                "section" => vec![&block["text"]],
                "context" => block["elements"].as_array().unwrap().iter().collect(),
                other => panic!("an unknown block {other}"),
            };
            assert!((1..=10).contains(&texts.len()));
            for text in texts {
                let length = units(text["text"].as_str().unwrap());
                assert!((1..=3000).contains(&length), "a block of {length} characters");
            }
        }
    }
    assert!(count <= 50, "{count} blocks");
    let mut total = 0;
    every_text(&body, &mut |text| {
        total += units(text);
        is_escaped(text);
    });
    assert!(total <= 13_000, "{total} characters");
}

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

fn every_text(value: &Json, see: &mut impl FnMut(&str)) {
    match value {
        Json::String(text) => see(text),
        Json::Array(values) => values.iter().for_each(|value| every_text(value, see)),
        Json::Object(fields) => fields.values().for_each(|value| every_text(value, see)),
        _ => {}
    }
}

/// Checks that each `<` begins one of our links or the configured mention, and each `&` one of three escapes.
fn is_escaped(text: &str) {
    for (i, _) in text.match_indices('<') {
        let rest = &text[i..];
        let link = rest.starts_with("<http://") || rest.starts_with("<https://");
        let ours = link
            && rest[1..].split(['>', '<']).next().is_some_and(|inner| {
                inner.split_once('|').is_some_and(|(_, label)| matches!(label, "Deposit funds" | "Read more"))
            });
        assert!(ours || (i == 0 && rest.starts_with(MENTION)), "an unescaped < in {text:?}");
    }
    for (i, _) in text.match_indices('&') {
        let known = ["&amp;", "&lt;", "&gt;"].iter().any(|escape| text[i..].starts_with(escape));
        assert!(known, "an unescaped & in {text:?}");
    }
}

/// Checks that HTML has only our own tags, and only links to the web.
fn is_harmless(html: &str) {
    const TAGS: [&str; 13] =
        ["!doctype", "html", "head", "meta", "style", "title", "body", "table", "tr", "td", "p", "a", "br"];
    assert!(!html.to_ascii_lowercase().contains("<script"));
    for (i, _) in html.match_indices('<') {
        let name: String = html[i + 1..]
            .chars()
            .skip_while(|c| *c == '/')
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '!')
            .collect();
        assert!(TAGS.contains(&name.as_str()), "a tag of somebody else's: <{name}");
    }
    for (i, _) in html.match_indices("href=") {
        let value = &html[i + 5..];
        assert!(
            value.starts_with("\"http://") || value.starts_with("\"https://"),
            "{}",
            value.chars().take(30).collect::<String>()
        );
    }
    for tag in html.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
        assert_eq!(tag.matches('"').count() % 2, 0, "a quote broke out: <{tag}>");
        let outside_quotes = tag.split('"').step_by(2);
        assert!(outside_quotes.into_iter().all(|part| !part.contains(" on")), "a handler: <{tag}>");
    }
}

/// Checks that the headers are our own, each once.
pub fn has_sound_headers(mail: &[u8]) {
    const OURS: [&str; 10] = [
        "From",
        "To",
        "Date",
        "Subject",
        "Message-ID",
        "Auto-Submitted",
        "In-Reply-To",
        "References",
        "MIME-Version",
        "Content-Type",
    ];
    let end = mail.windows(4).position(|it| it == b"\r\n\r\n").expect("headers end");
    let head = std::str::from_utf8(&mail[..end]).expect("headers are text");
    assert!(head.is_ascii(), "headers are encoded");
    assert!(head.len() <= 32 * 1024, "{} bytes of headers", head.len());
    let mut seen = BTreeSet::new();
    for line in head.split("\r\n") {
        assert!(!line.contains(['\r', '\n']), "a bare line break in {line:?}");
        assert!(line.len() <= 998, "a header line of {} bytes", line.len());
        if !line.starts_with([' ', '\t']) {
            let (name, _) = line.split_once(':').expect("a header has a name");
            assert!(OURS.contains(&name) && seen.insert(name.to_owned()), "a header of somebody else's: {line:?}");
        }
    }
    assert!(["From", "To", "Date", "Subject", "Message-ID", "Auto-Submitted"].iter().all(|name| seen.contains(*name)));
}

fn emailer() -> &'static EmailNotifier {
    static EMAIL: OnceLock<EmailNotifier> = OnceLock::new();
    EMAIL.get_or_init(|| {
        let options = EmailOptions {
            host: "localhost".to_owned(),
            port: 25,
            tls: SmtpTls::None,
            credentials: None,
            from: "Lowtide <lowtide@example.com>".parse().unwrap(),
            to: vec!["finance@example.com".parse().unwrap()],
            timeout: Duration::from_secs(1),
            ca_pem: None,
        };
        let context =
            MessageContext { timezone: chrono_tz::UTC, rules: BTreeMap::new(), console_urls: BTreeMap::new() };
        EmailNotifier::new(options, Arc::new(context), Redactor::default()).unwrap()
    })
}

/// Checks that the text is one line of printable characters.
fn one_line(text: &str, longest: usize) {
    assert!(text.chars().count() <= longest, "{} characters: {text}", text.chars().count());
    assert!(!text.chars().any(char::is_control), "control characters in {text:?}");
}

/// Checks a line that may contain text of a server: printable, without the key.
fn safe_line(text: &str, longest: usize) {
    one_line(text, longest);
    assert!(!text.contains(KEY), "the key in {text:?}");
}

/// Values taken from bytes, one after the other; zeros at the end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> u64 {
        (0..8).fold(0, |number, _| (number << 8) | u64::from(self.byte()))
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (!self.byte().is_multiple_of(4)).then(|| make(self))
    }

    /// Returns the bytes as text, or a hostile text, once or repeated.
    fn text(&mut self) -> String {
        const TRICKS: [&str; 16] = [
            "<!channel>",
            "<script>alert(1)</script>",
            "a\r\nBcc: x@example.com",
            "&",
            "<",
            "\u{202e}",
            "\"><b onload=x>",
            "|",
            "</td>",
            "*`_~",
            "\u{1F4B6}",
            "\u{2028}\u{85}\u{0}",
            "<@U1|x>",
            "https://x.example/?a=1&b=<2>",
            "Müller GmbH",
            "\u{feff}\u{200b}",
        ];
        let choice = self.byte();
        if choice < 128 {
            let (taken, rest) = self.0.split_at(usize::from(choice % 48).min(self.0.len()));
            self.0 = rest;
            return String::from_utf8_lossy(taken).into_owned();
        }
        let times = [1, 1, 3, 10, 40, 150, 1, 1][usize::from(self.byte() % 8)];
        TRICKS[usize::from(choice % 16)].repeat(times)
    }

    /// Returns text as the configuration accepts it: several lines, but no other control characters.
    fn lines(&mut self) -> String {
        self.text().chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
    }

    fn address(&mut self) -> String {
        let scheme = ["https://", "http://", "javascript:", ""][usize::from(self.byte() % 4)];
        scheme.to_owned() + &self.text()
    }

    fn time(&mut self) -> Time {
        match self.byte() {
            0 => DateTime::<Utc>::MAX_UTC,
            1 => DateTime::<Utc>::MIN_UTC,
            2..=9 => DateTime::<Utc>::from_timestamp(i64::from_be_bytes(self.number().to_be_bytes()) >> 24, 0)
                .unwrap_or_default(),
            _ => at(i64::from(self.byte()) * 1000 - 100_000),
        }
    }

    fn decimal(&mut self) -> Decimal {
        let kind = self.byte();
        let number = self.number();
        let (low, middle) = ((number & 0xffff_ffff) as u32, (number >> 32) as u32);
        match kind {
            0..=127 => Decimal::new(i64::from(low) - i64::from(u32::MAX / 2), u32::from(kind % 9)),
            _ => Decimal::from_parts(low, middle, low ^ middle, kind.is_multiple_of(2), u32::from(kind % 29)),
        }
    }

    fn currency(&mut self) -> Currency {
        let code = ["USD", "EUR", "JPY", "KWD", "credits", "x"][usize::from(self.byte() % 6)];
        Currency::parse(code).unwrap()
    }

    fn key(&mut self, account: &Name, rules: &[Name]) -> AlertKey {
        let account = if self.byte().is_multiple_of(8) { self.text().as_str().into() } else { account.clone() };
        let division = self.maybe(|it| u64::from(it.byte() % 16));
        AlertKey { account, division, rule: rules[usize::from(self.byte() % 3)].clone() }
    }

    fn kind(&mut self) -> TransitionKind {
        [
            TransitionKind::Raised,
            TransitionKind::Escalated,
            TransitionKind::Eased,
            TransitionKind::Reminder,
            TransitionKind::Resolved,
        ][usize::from(self.byte() % 5)]
    }

    fn level(&mut self) -> Severity {
        [Severity::Warning, Severity::Critical][usize::from(self.byte() % 2)]
    }

    fn subject(&mut self, account: &Name, rules: &[Name]) -> EventSubject {
        match self.byte() % 16 {
            0 => EventSubject::NotifierFailing {
                notifier: self.text().as_str().into(),
                since: self.time(),
                error: self.text(),
            },
            1 => EventSubject::NotifierRecovered { notifier: self.text().as_str().into(), since: self.time() },
            2 => EventSubject::Unwatched {
                account: account.clone(),
                division: self.maybe(Self::number),
                division_name: self.maybe(Self::text),
                rules: (0..self.byte() % 32).map(|_| self.text().as_str().into()).collect(),
            },
            6 => EventSubject::AlertEnded { key: self.key(account, rules), level: self.level() },
            7 => EventSubject::NotifierRemoved { notifier: self.text().as_str().into() },
            3..=5 => EventSubject::Unreadable(UnreadableEvent {
                key: self.key(account, rules),
                division_name: self.maybe(Self::text),
                kind: self.kind(),
                level: self.level(),
                since: self.time(),
                reason: self.maybe(Self::text),
                persistence: self
                    .maybe(|it| [Persistence::Transient, Persistence::Permanent][usize::from(it.byte() % 2)]),
                firing_alerts: (0..self.byte() % 32).map(|_| (self.key(account, rules), self.level())).collect(),
                unevaluated_rules: (0..self.byte() % 8).map(|_| self.text().as_str().into()).collect(),
                next_reminder: self.maybe(Self::time),
            }),
            _ => {
                let currency = self.currency();
                EventSubject::Threshold(ThresholdEvent {
                    key: self.key(account, rules),
                    division_name: self.maybe(Self::text),
                    kind: self.kind(),
                    level: self.level(),
                    since: self.time(),
                    metric: Metric::ALL[usize::from(self.byte() % 9)].0,
                    within: self.maybe(|it| Duration::from_secs(u64::from(it.byte()) * 7200)),
                    value: match self.byte() % 8 {
                        0 => MetricValue::Unlimited,
                        1 => MetricValue::Time(Duration::from_secs(u64::from(self.byte()) * 7200)),
                        _ => MetricValue::Amount(Money::new(self.decimal(), currency)),
                    },
                    threshold: self.maybe(|it| EvaluatedThreshold {
                        side: [ThresholdSide::Below, ThresholdSide::Above][usize::from(it.byte() % 2)],
                        bound: match it.byte() % 8 {
                            0 => Duration::from_secs(u64::from(it.byte()) * 7200).into(),
                            _ => ThresholdAmount { value: it.decimal(), currency: it.maybe(Self::currency) }.into(),
                        },
                    }),
                    breakdown: self.maybe(|it| Breakdown {
                        currency,
                        balance: it.decimal(),
                        credit_limit: it.maybe(Self::decimal),
                        unpaid_invoices: it.decimal(),
                        used_credit: it.decimal(),
                    }),
                    next_reminder: self.maybe(Self::time),
                    forecast: self.maybe(|it| Box::new(it.forecast(currency))),
                    chart: None,
                })
            }
        }
    }

    fn forecast(&mut self, currency: Currency) -> ForecastSummary {
        let runway = match self.byte() % 8 {
            0 => Runway::Exhausted,
            1 => Runway::BeyondHorizon,
            2 => Runway::NotYetKnown(self.text()),
            _ => Runway::Until {
                about: self.maybe(Self::time),
                early: self.maybe(Self::time),
                late: self.maybe(Self::time),
                percent: self.byte(),
            },
        };
        let renewals = |it: &mut Self| RenewalsDue {
            count: u32::from(it.byte()) << 24,
            amount: Money::new(it.decimal(), currency),
            from_balance: it.maybe(Self::decimal),
        };
        ForecastSummary {
            runway,
            typical_order: self.maybe(|it| Money::new(it.decimal(), currency)),
            deposit: self.maybe(|it| Money::new(it.decimal(), currency)),
            paid_in_full: self.maybe(renewals),
            renewals: self.maybe(renewals),
            sparkline: (0..self.byte()).map(|_| self.byte()).collect(),
        }
    }

    fn item(&mut self, account: &Name, rules: &[Name]) -> MessageEvent {
        let subject = self.subject(account, rules);
        let event = Event {
            id: "1".to_owned(),
            at: self.time(),
            evaluated_at: None,
            subject,
            silence: None,
            audience: BTreeSet::new(),
        };
        let omitted = if self.byte().is_multiple_of(4) { u32::try_from(self.number() >> 32).unwrap() } else { 0 };
        let origin = (self.byte().is_multiple_of(4))
            .then(|| FallbackOrigin { notifier: self.text().as_str().into(), error: self.text() });
        MessageEvent { event: event.into(), omitted, in_place_of: origin }
    }
}
