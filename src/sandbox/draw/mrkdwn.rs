//! Slack's mrkdwn → characters with a face: `*bold*`, `_italic_`, `<url|label>`, mentions, entities.
//!
//! Only what a message of lowtide can hold; the rest (lists, code, strike) stays as it is written. Never fails.

use super::paint::{BOLD, ITALIC, PLAIN, StyledChar, StyledLine, UNDERLINE, sanitized};

/// The lines of a text.
pub(super) fn lines(text: &str, attributes: u8) -> Vec<StyledLine> {
    sanitized(text).split('\n').map(|line| inline(line, attributes, PLAIN)).collect()
}

/// `&amp;`, `&lt;` and `&gt;`: the only entities that Slack knows.
pub(super) fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// `open` are the marks that this text stands between.
fn inline(line: &str, attributes: u8, open: u8) -> StyledLine {
    let mut out = StyledLine::new();
    let mut rest = line;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let marked = match c {
            '<' => after.split_once('>').map(|(inside, after)| (link_or_mention(inside, attributes), after)),
            '*' => marked(after, before, ('*', BOLD), attributes, open),
            '_' => marked(after, before, ('_', ITALIC), attributes, open),
            _ => None,
        };
        if let Some((cells, after)) = marked {
            out.extend(cells);
            rest = after;
            before = ' ';
            continue;
        }
        let (plain, after) = character(rest, c);
        out.push((plain, attributes));
        rest = after;
        before = plain;
    }
    out
}

/// The next character, an entity being one.
fn character(rest: &str, first: char) -> (char, &str) {
    for (entity, meaning) in [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>')] {
        if let Some(after) = rest.strip_prefix(entity) {
            return (meaning, after);
        }
    }
    (first, &rest[first.len_utf8()..])
}

/// What stands between two marks, if these are a pair that hugs words from outside.
fn marked(
    after: &str,
    before: char,
    (mark, attribute): (char, u8),
    attributes: u8,
    open: u8,
) -> Option<(StyledLine, &str)> {
    // Bold within bold is none; this bounds how deep it goes, too.
    if open & attribute != 0 || before.is_alphanumeric() || after.starts_with([' ', mark]) {
        return None;
    }
    let mut ends = after.match_indices(mark);
    let (inside, after) = ends.find_map(|(at, _)| {
        let (inside, after) = (&after[..at], &after[at + 1..]);
        let hugs = !inside.is_empty() && !inside.ends_with(' ') && !after.starts_with(char::is_alphanumeric);
        hugs.then_some((inside, after))
    })?;
    Some((inline(inside, attributes | attribute, open | attribute), after))
}

/// What `<…>` shows: a mention, a channel, or a link.
fn link_or_mention(inside: &str, attributes: u8) -> StyledLine {
    let (target, label) = inside.split_once('|').map_or((inside, None), |(target, label)| (target, Some(label)));
    let shown = match (target.chars().next(), label) {
        (Some('!' | '@'), Some(label)) => format!("@{}", label.trim_start_matches('@')),
        (Some('!' | '@'), None) => format!("@{}", &target[1..]),
        (Some('#'), Some(label)) => format!("#{}", label.trim_start_matches('#')),
        (_, Some(label)) => format!("[{label}]"),
        (_, None) => target.to_owned(),
    };
    let attributes =
        if matches!(target.chars().next(), Some('!' | '@' | '#')) { attributes | BOLD } else { attributes | UNDERLINE };
    unescaped(&shown).chars().map(|c| -> StyledChar { (c, attributes) }).collect()
}
