//! `template` of a notifier: its own texts, each tried before it is ever needed.

use super::cursor::{Section, ValueError};
use super::keys::TEMPLATE;
use super::values;
use crate::notify::message::template::{TemplatePart, Templates};

/// Reads a notifier's own texts. `None` after reporting what is wrong with one of them.
pub(super) fn templates(notifier: &Section<'_>) -> Option<Templates> {
    let mut templates = Templates::default();
    let Some(cursor) = notifier.get("template") else { return Some(templates) };
    let section = cursor.section(TEMPLATE)?;
    let slack = |text: &str| text == "slack";
    let of_slack = notifier.at.peek("type").and_then(|cursor| Some(slack(&cursor.expanded("a type")?.0)));
    let mut good = true;
    for (part, name) in TemplatePart::ALL {
        let Some(text) = section.get(name) else { continue };
        if of_slack.is_some_and(|of_slack| of_slack != (part == TemplatePart::Slack)) {
            let expected = if of_slack == Some(true) { "only `slack`" } else { "only `subject`, `text` and `html`" };
            section.refuse_keys(&[name], &format!("{expected} for a notifier of this type"));
            good = false;
            continue;
        }
        let add = |text: &str| {
            let text = values::lines(text)?;
            let added = Templates::default().add(part, &text);
            added.map(|()| text).map_err(|error| {
                let found = Some(format!("a template that fails: {error}"));
                ValueError { found, ..ValueError::from("a text over the variables of docs/templates.md") }
            })
        };
        // It was tried above, so adding it cannot fail.
        good &= text.read(add).is_some_and(|text| templates.add(part, &text).is_ok());
    }
    good.then_some(templates)
}
