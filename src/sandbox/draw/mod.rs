//! Pictures for a terminal: about what a reader sees in Slack.
//!
//! Pure. Text from outside is made harmless here (`paint::lines`), so nothing drawn can steer the terminal; without
//! colour there is no escape sequence at all.

mod mrkdwn;
mod paint;

use serde_json::Value;

use self::paint::{BOLD, DIM, PLAIN, Painter, StyledLine};
use super::slack_sink::SlackMessage;

/// How to draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrawStyle {
    /// Whether ANSI escape sequences may be used.
    pub colour: bool,
    /// Columns of the terminal.
    pub width: usize,
}

/// A message as Slack shows it: its text, and below it the attachments, each with a bar in its colour.
pub fn slack(message: &SlackMessage, style: DrawStyle) -> String {
    let mut painter = Painter::new(style);
    let mut parts = Vec::new();
    if let Some(text) = message.body["text"].as_str() {
        parts.extend(mrkdwn::lines(text, BOLD));
    }
    parts.extend(blocks(&message.body["blocks"]));
    painter.put("", PLAIN, &parts);
    for (at, attachment) in elements(&message.body["attachments"]).enumerate() {
        if at > 0 {
            painter.gap();
        }
        let mut inside = blocks(&attachment["blocks"]);
        if inside.is_empty() {
            // Attachments of the old kind, and what stands for one where nothing else can be shown.
            let old = ["text", "fallback"].iter().find_map(|key| attachment[key].as_str());
            inside = mrkdwn::lines(old.unwrap_or_default(), PLAIN);
        }
        painter.bar(attachment["color"].as_str().unwrap_or_default(), &inside);
    }
    painter.done()
}

fn elements(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn blocks(list: &Value) -> Vec<StyledLine> {
    elements(list).flat_map(block).collect()
}

fn block(block: &Value) -> Vec<StyledLine> {
    match block["type"].as_str() {
        Some("section") => {
            let texts = std::iter::once(&block["text"]).chain(elements(&block["fields"]));
            texts.flat_map(|it| text(it, PLAIN)).collect()
        }
        Some("header") => text(&block["text"], BOLD),
        Some("context") => {
            let texts: Vec<&str> = elements(&block["elements"]).filter_map(|it| it["text"].as_str()).collect();
            mrkdwn::lines(&texts.join("  "), DIM)
        }
        _ => Vec::new(),
    }
}

fn text(text: &Value, attributes: u8) -> Vec<StyledLine> {
    match (text["type"].as_str(), text["text"].as_str()) {
        (Some("mrkdwn"), Some(words)) => mrkdwn::lines(words, attributes),
        (_, Some(words)) => paint::lines(&mrkdwn::unescaped(words), attributes),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
