//! Decodes `template` of a notifier. Each template is tried on sample messages.

use super::catalog::TEMPLATE;
use super::problem::ValueError;
use super::section::Section;
use super::values;
use crate::notify::message::template::{TemplatePart, Templates};

/// Reads the custom templates of a notifier. Returns `None` after reporting what is wrong with one of them.
pub(super) fn templates(notifier: &Section<'_>) -> Option<Templates> {
    let mut templates = Templates::default();
    let Some(cursor) = notifier.get("template") else { return Some(templates) };
    let section = cursor.section(TEMPLATE)?;
    let channel_type = notifier.at.peek("type").and_then(|cursor| cursor.quietly_expanded());
    // The key itself is refused for other types of notifiers.
    let for_slack = match channel_type.as_deref() {
        Some("slack") => Some(true),
        Some("email") => Some(false),
        _ => None,
    };
    let mut valid = true;
    for (part, name) in TemplatePart::ALL {
        let Some(text) = section.get(name) else { continue };
        if for_slack.is_some_and(|for_slack| for_slack != (part == TemplatePart::Slack)) {
            let (kind, expected) = match for_slack {
                Some(true) => ("a Slack template", "only `slack` for a notifier of this type"),
                _ => ("an email template", "only `subject`, `text` and `html` for a notifier of this type"),
            };
            section.refuse_keys(&[name], kind, expected);
            valid = false;
            continue;
        }
        let parse = |text: &str| {
            let text = values::lines(text)?;
            let added = Templates::default().add(part, &text);
            added.map(|()| text).map_err(|error| {
                let found = format!("a template that fails: {error}");
                let expected = "a template with the variables of docs/templates.md";
                ValueError::sentence(format!("the template fails: {error}"), expected).hiding(found)
            })
        };
        // The template was tried by `parse`, so adding it cannot fail.
        valid &= text.read(parse).is_some_and(|text| templates.add(part, &text).is_ok());
    }
    valid.then_some(templates)
}
