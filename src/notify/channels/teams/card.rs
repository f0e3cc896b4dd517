//! Rendering for Teams: one Adaptive Card 1.5 in a message, as a Workflows webhook accepts it.
//!
//! Every text is a text run, which Teams shows unchanged, without Markdown or mentions. Long text is shortened by whole
//! characters. Rendering never fails.

use serde_json::{Value, json};

use crate::notify::message::text::{cut_by, in_nested_json};
use crate::notify::message::{MessageEntry, MessageLink, MessageStatus, MessageView, flat, view};
use crate::notify::{Message, MessageContext};

/// Maximum size of a message in Teams, in bytes of [`counted_size`]. Teams drops a larger card after the workflow has
/// accepted it.
pub const TEAMS_LIMIT_BYTES: usize = 28 * 1024;
/// Maximum size of our messages. A tenth of the limit stays unused.
const MAX_MESSAGE_BYTES: usize = TEAMS_LIMIT_BYTES / 10 * 9;
/// Size of a line without its text, rounded up.
const LINE_OVERHEAD_BYTES: usize = 150;

/// Maximum lengths of the parts, in bytes as Teams counts them.
#[derive(Clone, Copy)]
struct TeamsTextLimits {
    line: usize,
    section: usize,
    url: usize,
}

/// Limits from generous to tight. The first that fits the whole message is used; the last one always fits.
const LIMIT_STEPS: [TeamsTextLimits; 5] = [
    TeamsTextLimits { line: 1500, section: 6000, url: 1000 },
    TeamsTextLimits { line: 700, section: 2500, url: 700 },
    TeamsTextLimits { line: 300, section: 1200, url: 500 },
    TeamsTextLimits { line: 200, section: 700, url: 200 },
    TeamsTextLimits { line: 110, section: 500, url: 90 },
];

/// Returns the body of the webhook request.
pub fn payload(message: &Message, context: &MessageContext) -> Value {
    let view = view(message, context);
    let mut body = Value::Null;
    for limits in LIMIT_STEPS {
        body = build(&view, limits);
        if counted_size(&body) <= MAX_MESSAGE_BYTES {
            break;
        }
    }
    body
}

/// Returns the size of a message as Teams counts it: the workflow passes it on as a string inside JSON of its own.
pub fn counted_size(body: &Value) -> usize {
    Value::String(body.to_string()).to_string().len()
}

fn build(view: &MessageView, limits: TeamsTextLimits) -> Value {
    let marker = if view.status == MessageStatus::Test { "TEST: " } else { "" };
    let title = format!("{marker}{}", teams_text(&view.title, limits.line));
    // With one entry its headline is the title, and is not repeated.
    let titled = view.entries.len() != 1;
    let mut body: Vec<Value> = titled.then(|| line(&title, TextStyle::Title)).into_iter().collect();
    body.extend(view.entries.iter().map(|entry| container(entry, limits)));
    body.extend(brief(&view.brief, limits));
    let card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.5",
        "fallbackText": title,
        "msteams": { "width": "Full" },
        "body": body,
    });
    let attachment =
        json!({ "contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card });
    json!({ "type": "message", "attachments": [attachment] })
}

fn container(entry: &MessageEntry, limits: TeamsTextLimits) -> Value {
    let mut items = vec![line(&teams_text(&entry.headline, limits.line), TextStyle::Title)];
    items.extend(entry.to_do.iter().map(|to_do| line(&teams_text(to_do, limits.line), TextStyle::Title)));
    items.extend(lines(entry.details.iter().chain(&entry.history).map(String::as_str), limits, TextStyle::Plain));
    items.extend(lines(entry.description.iter().flat_map(|text| text.lines()), limits, TextStyle::Plain));
    items.extend(lines(entry.footer.iter().map(String::as_str), limits, TextStyle::Subtle));
    let actions: Vec<Value> = entry.links.iter().filter_map(|it| link(it, limits)).collect();
    if !actions.is_empty() {
        items.push(json!({ "type": "ActionSet", "actions": actions }));
    }
    json!({ "type": "Container", "style": container_style(entry.status), "items": items })
}

fn container_style(status: MessageStatus) -> &'static str {
    match status {
        MessageStatus::Critical => "attention",
        MessageStatus::Warning => "warning",
        MessageStatus::Resolved => "good",
        MessageStatus::Notice | MessageStatus::Test => "emphasis",
    }
}

#[derive(Clone, Copy)]
enum TextStyle {
    Title,
    Plain,
    Subtle,
}

fn line(text: &str, style: TextStyle) -> Value {
    let mut run = json!({ "type": "TextRun", "text": text });
    match style {
        TextStyle::Title => run["weight"] = json!("Bolder"),
        TextStyle::Plain => {}
        TextStyle::Subtle => run["isSubtle"] = json!(true),
    }
    json!({ "type": "RichTextBlock", "spacing": "Small", "inlines": [run] })
}

/// Returns the lines that the section has room for, and the number of the others.
fn lines<'a>(texts: impl Iterator<Item = &'a str>, limits: TeamsTextLimits, style: TextStyle) -> Vec<Value> {
    let texts: Vec<String> = texts.map(|text| teams_text(text, limits.line)).filter(|text| !text.is_empty()).collect();
    let mut room = limits.section;
    let fits = |text: &&String| {
        let cost = text.chars().map(in_nested_json).sum::<usize>() + LINE_OVERHEAD_BYTES;
        let fits = cost <= room;
        room = room.saturating_sub(cost);
        fits
    };
    let shown = texts.iter().take_while(fits).count();
    let mut lines: Vec<Value> = texts[..shown].iter().map(|text| line(text, style)).collect();
    match texts.len() - shown {
        0 => {}
        1 => lines.push(line("and 1 more line", style)),
        more => lines.push(line(&format!("and {more} more lines"), style)),
    }
    lines
}

/// Returns the headlines of the entries not shown in full, as many as fit, and the number of the others.
fn brief(headlines: &[String], limits: TeamsTextLimits) -> Option<Value> {
    let items = lines(headlines.iter().map(String::as_str), limits, TextStyle::Plain);
    (!items.is_empty()).then(|| json!({ "type": "Container", "style": "emphasis", "items": items }))
}

/// Returns text from outside on one line. Two braces would start a function of the card, such as one for dates, so they are
/// separated.
fn teams_text(text: &str, longest: usize) -> String {
    let mut apart = String::new();
    for c in flat(text).chars() {
        if c == '{' && apart.ends_with('{') {
            apart.push(' ');
        }
        apart.push(c);
    }
    cut_by(&apart, longest, in_nested_json)
}

/// Returns the button of a link. A shortened address would lead nowhere, so a long one is left out.
fn link(link: &MessageLink, limits: TeamsTextLimits) -> Option<Value> {
    let url = url::Url::parse(&link.url).ok()?.to_string();
    let style = if link.primary { "positive" } else { "default" };
    (url.len() <= limits.url)
        .then(|| json!({ "type": "Action.OpenUrl", "title": link.label, "url": url, "style": style }))
}
