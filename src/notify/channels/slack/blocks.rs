//! Rendering for Slack: a plain `text` line, and an attachment with Block Kit for each entry.
//!
//! Text from outside is escaped here, exactly once, and shortened without cutting through an escape. Rendering never fails.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::domain::rule::Severity;
use crate::notify::message::{MessageEntry, MessageLink, MessageStatus, MessageView, view};
use crate::notify::{Message, MessageContext};
use crate::util::text::is_hidden;

/// Maximum length of a message, escapes included. Slack cuts or rejects messages of about 13,000.
const MAX_MESSAGE_UNITS: usize = 11_500;

/// Maximum lengths of the parts, in characters after escaping.
#[derive(Clone, Copy)]
struct SlackTextLimits {
    line: usize,
    section: usize,
    url: usize,
}

/// Limits from generous to tight. The first that fits the whole message is used; the last one always fits.
const LIMIT_STEPS: [SlackTextLimits; 5] = [
    SlackTextLimits { line: 700, section: 2900, url: 1000 },
    SlackTextLimits { line: 300, section: 1200, url: 700 },
    SlackTextLimits { line: 200, section: 600, url: 500 },
    SlackTextLimits { line: 150, section: 350, url: 200 },
    SlackTextLimits { line: 100, section: 200, url: 90 },
];

/// Returns the body of the webhook request.
pub fn payload(message: &Message, context: &MessageContext, mention: &BTreeMap<Severity, String>) -> Value {
    let view = view(message, context);
    let mut body = Value::Null;
    for limits in LIMIT_STEPS {
        body = build(&view, mention, limits);
        if text_length(&body) <= MAX_MESSAGE_UNITS {
            break;
        }
    }
    body
}

fn build(view: &MessageView, mention: &BTreeMap<Severity, String>, limits: SlackTextLimits) -> Value {
    let marker = if view.status == MessageStatus::Test { "TEST: " } else { "" };
    let mentions = mentions(view, mention);
    let text = format!("{mentions}{marker}{}", slack_text(&view.title, limits.line));
    // With one entry the headline is the text of the message, right above its attachment, and is not repeated.
    let with_headline = view.entries.len() > 1;
    let attachments = view.entries.iter().map(|entry| attachment(entry, with_headline, limits));
    let attachments: Vec<Value> = match &view.report {
        Some(report) => super::report::attachments(report),
        None => attachments.chain(brief(&view.brief, limits)).collect(),
    };
    json!({ "text": text, "unfurl_links": false, "unfurl_media": false, "attachments": attachments })
}

/// Returns the mentions as configured, most severe first, each once.
pub(crate) fn mentions(view: &MessageView, mention: &BTreeMap<Severity, String>) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for level in view.mentioned_levels.iter().rev() {
        match mention.get(level).map(|mention| mention.trim()) {
            Some(mention) if !mention.is_empty() && !parts.contains(&mention) => parts.push(mention),
            _ => {}
        }
    }
    parts.push(""); // adds a space after the last one
    parts.join(" ")
}

fn attachment(entry: &MessageEntry, with_headline: bool, limits: SlackTextLimits) -> Value {
    let mut blocks = Vec::new();
    if with_headline {
        blocks.push(section(&format!("*{}*", slack_text(&entry.headline, limits.line)), true));
    }
    let to_do = entry.to_do.as_ref().map(|to_do| format!("*{}*", slack_text(to_do, limits.line)));
    let mut details = to_do.unwrap_or_default();
    for line in entry.details.iter().chain(&entry.history) {
        let line = slack_text(line, limits.line);
        if details.len() + line.len() < limits.section {
            details.push_str(if details.is_empty() { "" } else { "\n" });
            details.push_str(&line);
        }
    }
    if !details.is_empty() {
        blocks.push(section(&details, true));
    }
    if let Some(description) = &entry.description {
        // The description is the operator's own text: addresses in it may become links.
        blocks.push(section(&escaped(description.trim(), limits.section.min(2 * limits.line), |c| c), false));
    }
    let links = entry.links.iter().filter_map(|it| link(it, limits));
    let footer: Vec<String> = links.chain(entry.footer.iter().map(|footer| slack_text(footer, limits.line))).collect();
    if !footer.is_empty() {
        let element = json!({ "type": "mrkdwn", "text": footer.join("   "), "verbatim": true });
        blocks.push(json!({ "type": "context", "elements": [element] }));
    }
    json!({ "color": entry.status.colour(), "fallback": slack_text(&entry.headline, limits.line.min(150)), "blocks": blocks })
}

pub(crate) fn section(text: &str, verbatim: bool) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": text, "verbatim": verbatim } })
}

/// Returns the headlines of the entries not shown in full, as many as fit, and the number of the others.
fn brief(headlines: &[String], limits: SlackTextLimits) -> Option<Value> {
    if headlines.is_empty() {
        return None;
    }
    let mut lines: Vec<String> = Vec::new();
    let mut length = 0;
    for headline in headlines {
        let line = slack_text(headline, limits.line);
        length += units(&line) + 1;
        if length > limits.section - 20 {
            break;
        }
        lines.push(line);
    }
    let more = headlines.len() - lines.len();
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    let fallback = format!("and {} more alerts", headlines.len());
    Some(
        json!({ "color": MessageStatus::Notice.colour(), "fallback": fallback, "blocks": [section(&lines.join("\n"), true)] }),
    )
}

/// Returns text from outside on one line, escaped and without characters that format or mention.
pub(crate) fn slack_text(text: &str, longest: usize) -> String {
    escaped(&crate::notify::message::flat(text), longest, without_formatting)
}

/// Returns text from outside for a custom template, of any length, with its lines.
pub(in crate::notify) fn slack_template_value(text: &str) -> String {
    escaped(text, usize::MAX, without_formatting)
}

/// Replaces a character that Slack reads as formatting by a look-alike, so that names are shown and not interpreted.
fn without_formatting(c: char) -> char {
    match c {
        '*' => '\u{2217}',
        '~' => '\u{223c}',
        '`' => '\u{2018}',
        c => c,
    }
}

/// Escapes `&`, `<` and `>`. The result has at most `longest` units and ends with a whole escape or none.
fn escaped(text: &str, longest: usize, swap: impl Fn(char) -> char) -> String {
    let mut out = String::new();
    let mut length = 0;
    let mut fits = 0;
    for c in text.chars() {
        let mut one = [0; 4];
        let piece = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            c => swap(c).encode_utf8(&mut one),
        };
        length += units(piece);
        if length > longest {
            out.truncate(fits);
            out.push('…');
            return out;
        }
        out.push_str(piece);
        if length < longest {
            fits = out.len(); // there is room for an ellipsis after this
        }
    }
    out
}

/// Returns the length in UTF-16 units. Slack's documentation speaks of characters; units are the larger number.
pub(crate) fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

fn link(link: &MessageLink, limits: SlackTextLimits) -> Option<String> {
    let mut url = String::new();
    for c in link.url.chars() {
        match c {
            '&' => url.push_str("&amp;"),
            '|' => url.push_str("%7C"),
            '<' => url.push_str("%3C"),
            '>' => url.push_str("%3E"),
            c if is_hidden(c) || c.is_whitespace() => {}
            c => url.push(c),
        }
    }
    // A shortened address would lead nowhere, so a long one is left out.
    (units(&url) <= limits.url).then(|| format!("<{url}|{}>", link.label))
}

/// Returns the length of all strings of a message together.
fn text_length(value: &Value) -> usize {
    match value {
        Value::String(text) => units(text),
        Value::Array(values) => values.iter().map(text_length).sum(),
        Value::Object(fields) => fields.values().map(text_length).sum(),
        _ => 0,
    }
}
