//! Rendering for email: subject, plain text, and the same content as HTML.
//!
//! The email notifier adds addresses, Message-IDs and encodings.

use super::html;
use crate::notify::message::{ChartPicture, MAX_BRIEF_HEADLINES, MessageEntry, MessageView, cut, flat, report, view};
use crate::notify::{Message, MessageContext};

/// Maximum length of a subject, in characters.
pub(crate) const MAX_SUBJECT_CHARS: usize = 150;

/// Texts and charts of one email.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedEmail {
    /// Subject, on one line.
    pub subject: String,
    /// Plain-text part of the email.
    pub text: String,
    /// HTML part, with the same content.
    pub html: String,
    /// Charts that the HTML refers to by `cid:` and their ids.
    pub pictures: Vec<ChartPicture>,
}

/// Renders a message as an email.
pub fn email(message: &Message, context: &MessageContext) -> RenderedEmail {
    email_with_note(message, context, None)
}

/// Renders a message as an email, with a note at its end.
pub(crate) fn email_with_note(message: &Message, context: &MessageContext, note: Option<&str>) -> RenderedEmail {
    let view = view(message, context);
    // The bracket already says so.
    let title = view.title.strip_prefix("Resolved: ").unwrap_or(&view.title);
    let bracket = if view.report.is_some() { "report" } else { view.status.name() };
    let title = if view.report.is_some() { title.trim_start_matches("Report ") } else { title };
    let subject = cut(&flat(&format!("[{bracket}] {title}")), MAX_SUBJECT_CHARS);
    let note = note.map(|note| format!(" {note}")).unwrap_or_default();
    let signature = format!("Sent by lowtide. Times are in {}.{note}", context.timezone.name());
    let text = text(&view, &signature);
    // The templates are part of the program. Should one fail all the same, the reader gets the plain text.
    let html = html::page(&view, &signature).unwrap_or_else(|_| format!("<pre>{}</pre>\n", html::escaped(&text)));
    RenderedEmail {
        subject,
        text,
        html,
        pictures: view.entries.into_iter().filter_map(|entry| entry.picture).collect(),
    }
}

fn text(view: &MessageView, signature: &str) -> String {
    if let Some(page) = &view.report {
        return format!("{}\n\n-- \n{signature}\n", report::text(&view.title, page));
    }
    let mut parts = Vec::new();
    if view.entries.len() != 1 {
        parts.push(view.title.clone());
    }
    parts.extend(view.entries.iter().map(entry));
    if !view.brief.is_empty() {
        let more = view.brief.len().saturating_sub(MAX_BRIEF_HEADLINES);
        let mut lines: Vec<String> = view.brief.iter().take(MAX_BRIEF_HEADLINES).cloned().collect();
        lines.extend((more > 0).then(|| format!("and {more} more")));
        parts.push(lines.join("\n"));
    }
    format!("{}\n\n-- \n{signature}\n", parts.join("\n\n"))
}

fn entry(entry: &MessageEntry) -> String {
    let mut lines = vec![entry.headline.clone()];
    lines.extend(entry.to_do.iter().cloned());
    lines.extend(entry.details.iter().cloned());
    lines.extend(entry.history.iter().map(|line| format!("  {line}")));
    lines.extend(entry.description.as_deref().map(|text| text.trim().to_owned()));
    lines.extend(entry.links.iter().map(|link| format!("{}: {}", link.label, flat(&link.url))));
    lines.extend(entry.footer.iter().cloned());
    lines.join("\n")
}
