//! Drawing of Slack messages for a terminal. Pure.
//!
//! Control characters in outside text are made visible (`paint::lines`), so that a message cannot control the terminal. Without
//! colour, the output has no escape sequences at all.

mod mrkdwn;
mod paint;

use anstyle::Effects;
use serde_json::Value;

use self::paint::{Painter, StyledLine};
use super::slack_sink::SlackMessage;

/// Options of a drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrawStyle {
    /// Permission to use ANSI escape sequences.
    pub colour: bool,
    /// Width of the terminal, in columns.
    pub width: usize,
}

/// Draws a message as Slack shows it: its text, and below it the attachments, each with a bar in its colour.
pub fn slack(message: &SlackMessage, style: DrawStyle) -> String {
    let mut painter = Painter::new(style);
    let mut parts = Vec::new();
    if let Some(text) = message.body["text"].as_str() {
        parts.extend(mrkdwn::lines(text, Effects::BOLD));
    }
    parts.extend(blocks(&message.body["blocks"]));
    painter.put(&parts);
    for (at, attachment) in elements(&message.body["attachments"]).enumerate() {
        if at > 0 {
            painter.gap();
        }
        let mut inside = blocks(&attachment["blocks"]);
        if inside.is_empty() {
            // Legacy attachments have a text or a fallback instead of blocks.
            let legacy = ["text", "fallback"].iter().find_map(|key| attachment[key].as_str());
            inside = mrkdwn::lines(legacy.unwrap_or_default(), Effects::new());
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
            texts.flat_map(|object| text(object, Effects::new())).collect()
        }
        Some("header") => text(&block["text"], Effects::BOLD),
        Some("context") => {
            let texts: Vec<&str> =
                elements(&block["elements"]).filter_map(|element| element["text"].as_str()).collect();
            mrkdwn::lines(&texts.join("  "), Effects::DIMMED)
        }
        _ => Vec::new(),
    }
}

fn text(object: &Value, effects: Effects) -> Vec<StyledLine> {
    match (object["type"].as_str(), object["text"].as_str()) {
        (Some("mrkdwn"), Some(text)) => mrkdwn::lines(text, effects),
        (_, Some(text)) => paint::lines(&mrkdwn::unescaped(text), effects),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
