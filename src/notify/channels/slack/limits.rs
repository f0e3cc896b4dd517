//! Tests that every kind of message, short and long, stays within Slack's documented limits.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::blocks::payload;
use crate::domain::Time;
use crate::domain::event::EventSubject;
use crate::domain::rule::Severity;
use crate::notify::message::sample;
use crate::notify::message::sample::DIVISION_NAME;
use crate::notify::{Message, MessageContent, MessageContext, RuleTexts};

fn now() -> Time {
    Time::from_timestamp(1_795_500_000, 0).unwrap()
}

/// Returns one message of every kind.
fn every_kind() -> Vec<Message> {
    let mut messages = sample::every_message(now());
    messages.push(sample::message(vec![sample::report("weekly".into(), now())], now()));
    let rule = sample::rule().unwrap();
    messages.push(sample::message(sample::several(&rule, &"acme".into(), now()), now()));
    messages
        .push(Message { content: MessageContent::Test { notifier: "finance-slack".into() }, ..messages[0].clone() });
    messages
}

/// Returns the message with very long text in place of everything that comes from outside.
fn stretched(message: &Message) -> Message {
    let mut message = message.clone();
    let long = "<!channel> & \u{1F4B6} ".repeat(400);
    if let MessageContent::Events(items) = &mut message.content {
        for item in items {
            let event = serde_json::to_string(&item.event.subject).unwrap();
            let text = |value: &str| serde_json::to_string(value).unwrap().trim_matches('"').to_owned();
            let mut longer = event.replace(DIVISION_NAME, &text(&long)).replace("answered", &text(&long));
            longer = longer.replace("PO 4711 raised", &text(&long));
            std::sync::Arc::make_mut(&mut item.event).subject = serde_json::from_str::<EventSubject>(&longer).unwrap();
        }
    }
    message
}

fn long_context() -> MessageContext {
    let text = "<!here> & ".repeat(2000);
    let mut context = sample::context();
    let link = Some(format!("https://wiki.example.com/?{}", "a&b|".repeat(2000)));
    context.rules.insert("available-funds".into(), RuleTexts { description: Some(text), link });
    context
}

fn length(text: &Json) -> usize {
    text.as_str().unwrap().encode_utf16().count()
}

/// Returns the limits that a message exceeds.
fn violations(body: &Json) -> Vec<String> {
    let attachments = body["attachments"].as_array().unwrap();
    let blocks: Vec<&Json> = attachments.iter().flat_map(|it| it["blocks"].as_array().unwrap()).collect();
    let mut wrong = Vec::new();
    let mut at_most = |what: &str, found: usize, most: usize| {
        if found > most {
            wrong.push(format!("{what}: {found} of {most}"));
        }
    };
    at_most("text", length(&body["text"]), 4000);
    at_most("attachments", attachments.len(), 20);
    at_most("blocks", blocks.len(), 50);
    at_most("message", body.to_string().encode_utf16().count(), 40_000);
    for attachment in attachments {
        at_most("empty attachment", usize::from(attachment["blocks"].as_array().unwrap().is_empty()), 0);
    }
    for block in blocks {
        match block["type"].as_str().unwrap() {
            "section" => {
                at_most("section", length(&block["text"]["text"]), 3000);
                at_most("empty section", usize::from(length(&block["text"]["text"]) == 0), 0);
                at_most("fields", usize::from(block.get("fields").is_some()), 0);
            }
            "context" => {
                let elements = block["elements"].as_array().unwrap();
                at_most("elements", elements.len(), 10);
                for element in elements {
                    at_most("element", length(&element["text"]), 3000);
                }
            }
            // A new kind of block, such as a header (150), fields or buttons (a URL of 3000), needs its limits here.
            other => at_most(&format!("unknown block {other}"), 1, 0),
        }
    }
    wrong
}

#[test]
fn every_kind_of_message_stays_within_slacks_limits() {
    let mention = BTreeMap::from([(Severity::Critical, "<!here>".to_owned())]);
    for message in every_kind() {
        for (message, context) in [(message.clone(), sample::context()), (stretched(&message), long_context())] {
            let body = payload(&message, &context, &mention);
            assert_eq!(violations(&body), Vec::<String>::new(), "{body:#}");
        }
    }
}
