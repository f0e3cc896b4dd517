//! Text that came from a server, made fit for a sentence: secrets struck out, control characters gone, short.
//!
//! It does not escape for any channel; that is the renderers' work.

use crate::util::secret::Redactor;
use crate::util::text::is_hidden;

/// So many characters of a text are looked at: far more than is ever shown, far less than a body may hold.
const MAX_INSPECTED_CHARS: usize = 16 * 1024;

/// The text on one line, without secrets, at most `longest` characters.
pub(super) fn clean(redactor: &Redactor, text: &str, longest: usize) -> String {
    let text: String = text.chars().take(MAX_INSPECTED_CHARS).collect();
    let struck = redactor.redact(&text);
    let spaced: String = struck.chars().map(|c| if is_hidden(c) { ' ' } else { c }).collect();
    let line = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    // Once more: a secret may have been broken over lines.
    shorten(&redactor.redact(&line), longest)
}

/// The text as it was found, with control characters escaped, without secrets, at most `longest` characters.
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
