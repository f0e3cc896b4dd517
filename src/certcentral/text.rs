//! Cleans text that comes from a server: removes secrets and control characters, and shortens it.
//!
//! The text is not escaped for any channel; renderers do that.

use crate::util::secret::Redactor;
use crate::util::text::is_hidden;

/// Number of characters of a text that are processed: more than is ever shown, far fewer than a body may have.
const MAX_INSPECTED_CHARS: usize = 16 * 1024;

/// Returns the text on one line, without secrets, at most `longest` characters.
pub(super) fn clean(redactor: &Redactor, text: &str, longest: usize) -> String {
    let text: String = text.chars().take(MAX_INSPECTED_CHARS).collect();
    let redacted = redactor.redact(&text);
    let visible: String = redacted.chars().map(|c| if is_hidden(c) { ' ' } else { c }).collect();
    let line = visible.split_whitespace().collect::<Vec<_>>().join(" ");
    // A secret that was broken over several lines is in one piece only now.
    shorten(&redactor.redact(&line), longest)
}

/// Returns the text with escaped control characters, without secrets, at most `longest` characters.
pub(super) fn found(redactor: &Redactor, text: &str, longest: usize) -> String {
    let mut escaped = String::new();
    for c in redactor.redact(text).chars() {
        if is_hidden(c) { escaped.extend(c.escape_default()) } else { escaped.push(c) }
    }
    shorten(&escaped, longest)
}

fn shorten(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    text.chars().take(longest.saturating_sub(1)).chain(['…']).collect()
}
