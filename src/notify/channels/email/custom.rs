//! Emails with the notifier's own templates. If one fails, the built-in text is used, with a note about the failure.

use super::html;
use super::rendering::{self, MAX_SUBJECT_CHARS, RenderedEmail};
use crate::notify::message::template::{TemplatePart, Templates, failure_note, without_controls};
use crate::notify::message::{cut, flat, view};
use crate::notify::{Message, MessageContext};

/// Renders an email. Also returns the templates that failed, each with its error.
pub(crate) fn email(
    message: &Message,
    context: &MessageContext,
    templates: &Templates,
) -> (RenderedEmail, Vec<String>) {
    if !templates.apply_to(message) {
        return (rendering::email(message, context), Vec::new());
    }
    let mut failures = Vec::new();
    let mut custom = |part: TemplatePart| match templates.render(part, message, context)? {
        Ok(text) => Some(text),
        Err(error) => {
            failures.push(format!("{}: {error}", part.name()));
            None
        }
    };
    let (subject, text, page) = (custom(TemplatePart::Subject), custom(TemplatePart::Text), custom(TemplatePart::Html));
    let note = failure_note(&failures);
    let built_in = rendering::email_with_note(message, context, note.as_deref());
    let mut mail = RenderedEmail {
        pictures: built_in.pictures,
        subject: subject.map_or(built_in.subject, |subject| cut(&flat(&subject), MAX_SUBJECT_CHARS)),
        text: text.map_or(built_in.text, |text| text_part(&text, note.as_deref())),
        html: page.map_or(built_in.html, |page| html_part(&page, &view(message, context).title, note.as_deref())),
    };
    // The email carries only the charts that a custom page refers to.
    mail.pictures.retain(|picture| mail.html.contains(&picture.source()));
    (mail, failures)
}

fn text_part(text: &str, note: Option<&str>) -> String {
    let note = note.map(|note| format!("\n{note}\n")).unwrap_or_default();
    format!("{}\n{note}", without_controls(text))
}

/// Returns a rendered page, or places rendered HTML that is no whole page inside the built-in layout.
fn html_part(html: &str, title: &str, note: Option<&str>) -> String {
    let html = without_controls(html);
    let is_page = html.to_ascii_lowercase().contains("<html");
    let page = if is_page { html } else { html::frame(title, &html).unwrap_or(html) };
    let note = note.map(|note| format!("<p>{}</p>\n", html::escaped(note))).unwrap_or_default();
    page + &note
}
