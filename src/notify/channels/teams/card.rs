//! View → Teams: one Adaptive Card 1.5 in a message, as a Workflows webhook takes it.
//!
//! Every text is a text run, which Teams shows as it is: no Markdown, no mention. What does not fit is shortened by whole
//! characters. Never fails.

use serde_json::{Value, json};

use crate::notify::message::text::{cut_by, in_nested_json};
use crate::notify::message::{Entry, Link, Tone, View, flat, view};
use crate::notify::{Message, Words};

/// What Teams takes, in bytes of [`counted_size`]. It drops a larger card, after the workflow has accepted it.
pub const TEAMS_LIMIT: usize = 28 * 1024;
/// A tenth is kept spare.
const LONGEST_MESSAGE: usize = TEAMS_LIMIT / 10 * 9;
/// What a line costs beside its text, rounded up.
const FRAME: usize = 150;

/// How long the parts may get, in bytes as Teams counts them.
#[derive(Clone, Copy)]
struct Limits {
    line: usize,
    section: usize,
    url: usize,
}

/// From generous to tight: the first that fits the whole message is taken. The last one always fits.
const STEPS: [Limits; 5] = [
    Limits { line: 1500, section: 6000, url: 1000 },
    Limits { line: 700, section: 2500, url: 700 },
    Limits { line: 300, section: 1200, url: 500 },
    Limits { line: 200, section: 700, url: 200 },
    Limits { line: 110, section: 500, url: 90 },
];

/// The body of the webhook request.
pub fn payload(message: &Message, words: &Words) -> Value {
    let view = view(message, words);
    let mut body = Value::Null;
    for limits in STEPS {
        body = build(&view, limits);
        if counted_size(&body) <= LONGEST_MESSAGE {
            break;
        }
    }
    body
}

/// Size of a message as Teams counts it: the workflow hands it on as a string inside JSON of its own.
pub fn counted_size(body: &Value) -> usize {
    Value::String(body.to_string()).to_string().len()
}

fn build(view: &View, limits: Limits) -> Value {
    let marker = if view.tone == Tone::Test { "TEST: " } else { "" };
    let title = format!("{marker}{}", outside(&view.title, limits.line));
    // With one entry its headline is the title: it is not said twice.
    let titled = view.entries.len() != 1;
    let mut body: Vec<Value> = titled.then(|| line(&title, Look::Title)).into_iter().collect();
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

fn container(entry: &Entry, limits: Limits) -> Value {
    let mut items = vec![line(&outside(&entry.headline, limits.line), Look::Title)];
    items.extend(entry.to_do.iter().map(|to_do| line(&outside(to_do, limits.line), Look::Title)));
    items.extend(lines(entry.details.iter().chain(&entry.history).map(String::as_str), limits, Look::Plain));
    items.extend(lines(entry.description.iter().flat_map(|text| text.lines()), limits, Look::Plain));
    items.extend(lines(entry.footer.iter().map(String::as_str), limits, Look::Subtle));
    let actions: Vec<Value> = entry.links.iter().filter_map(|it| link(it, limits)).collect();
    if !actions.is_empty() {
        items.push(json!({ "type": "ActionSet", "actions": actions }));
    }
    json!({ "type": "Container", "style": style(entry.tone), "items": items })
}

fn style(tone: Tone) -> &'static str {
    match tone {
        Tone::Critical => "attention",
        Tone::Warning => "warning",
        Tone::Resolved => "good",
        Tone::Notice | Tone::Test => "emphasis",
    }
}

#[derive(Clone, Copy)]
enum Look {
    Title,
    Plain,
    Subtle,
}

fn line(text: &str, look: Look) -> Value {
    let mut run = json!({ "type": "TextRun", "text": text });
    match look {
        Look::Title => run["weight"] = json!("Bolder"),
        Look::Plain => {}
        Look::Subtle => run["isSubtle"] = json!(true),
    }
    json!({ "type": "RichTextBlock", "spacing": "Small", "inlines": [run] })
}

/// As many of these lines as the section has room for, and how many more there are.
fn lines<'a>(texts: impl Iterator<Item = &'a str>, limits: Limits, look: Look) -> Vec<Value> {
    let texts: Vec<String> = texts.map(|text| outside(text, limits.line)).filter(|text| !text.is_empty()).collect();
    let mut room = limits.section;
    let fits = |text: &&String| {
        let cost = text.chars().map(in_nested_json).sum::<usize>() + FRAME;
        let fits = cost <= room;
        room = room.saturating_sub(cost);
        fits
    };
    let shown = texts.iter().take_while(fits).count();
    let mut lines: Vec<Value> = texts[..shown].iter().map(|text| line(text, look)).collect();
    match texts.len() - shown {
        0 => {}
        1 => lines.push(line("and 1 more line", look)),
        more => lines.push(line(&format!("and {more} more lines"), look)),
    }
    lines
}

/// The headlines of what is not told in full, as many as fit, and how many more there are.
fn brief(headlines: &[String], limits: Limits) -> Option<Value> {
    let items = lines(headlines.iter().map(String::as_str), limits, Look::Plain);
    (!items.is_empty()).then(|| json!({ "type": "Container", "style": "emphasis", "items": items }))
}

/// Text from outside on one line. Two braces would begin a function of the card's, such as a date's.
fn outside(text: &str, longest: usize) -> String {
    let mut apart = String::new();
    for c in flat(text).chars() {
        if c == '{' && apart.ends_with('{') {
            apart.push(' ');
        }
        apart.push(c);
    }
    cut_by(&apart, longest, in_nested_json)
}

/// A shortened address leads nowhere: it is left out instead.
fn link(link: &Link, limits: Limits) -> Option<Value> {
    let url = url::Url::parse(&link.url).ok()?.to_string();
    let style = if link.primary { "positive" } else { "default" };
    (url.len() <= limits.url)
        .then(|| json!({ "type": "Action.OpenUrl", "title": link.label, "url": url, "style": style }))
}
