//! Parser of Slack's mrkdwn into styled characters: `*bold*`, `_italic_`, `<url|label>`, mentions, entities.
//!
//! It covers what messages of lowtide can contain. Anything else (lists, code, strike) is shown as written. Never fails.

use anstyle::Effects;

use super::paint::{StyledChar, StyledLine, sanitized};

/// Parses the lines of a text.
pub(super) fn lines(text: &str, effects: Effects) -> Vec<StyledLine> {
    sanitized(text).split('\n').map(|line| inline(line, effects, Effects::new())).collect()
}

/// Replaces `&amp;`, `&lt;` and `&gt;`, the only entities that Slack knows.
pub(super) fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// Parses text within a line. `open` has the effects whose marks enclose this text.
fn inline(line: &str, effects: Effects, open: Effects) -> StyledLine {
    let mut out = StyledLine::new();
    let mut rest = line;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let marked = match c {
            '<' => after.split_once('>').map(|(inside, after)| (link_or_mention(inside, effects), after)),
            '*' => marked(after, before, ('*', Effects::BOLD), effects, open),
            '_' => marked(after, before, ('_', Effects::ITALIC), effects, open),
            _ => None,
        };
        if let Some((cells, after)) = marked {
            out.extend(cells);
            rest = after;
            before = ' ';
            continue;
        }
        let (plain, after) = character(rest, c);
        out.push((plain, effects));
        rest = after;
        before = plain;
    }
    out
}

/// Returns the next character, which may be written as an entity, and the rest.
fn character(rest: &str, first: char) -> (char, &str) {
    for (entity, meaning) in [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>')] {
        if let Some(after) = rest.strip_prefix(entity) {
            return (meaning, after);
        }
    }
    (first, &rest[first.len_utf8()..])
}

/// Returns the text between two marks and the rest of the line, if the marks enclose whole words.
fn marked(
    after: &str,
    before: char,
    (mark, effect): (char, Effects),
    effects: Effects,
    open: Effects,
) -> Option<(StyledLine, &str)> {
    // Bold text cannot contain bold text, which also bounds the recursion.
    if open.contains(effect) || before.is_alphanumeric() || after.starts_with([' ', mark]) {
        return None;
    }
    let mut ends = after.match_indices(mark);
    let (inside, after) = ends.find_map(|(at, _)| {
        let (inside, after) = (&after[..at], &after[at + 1..]);
        let encloses = !inside.is_empty() && !inside.ends_with(' ') && !after.starts_with(char::is_alphanumeric);
        encloses.then_some((inside, after))
    })?;
    Some((inline(inside, effects | effect, open | effect), after))
}

/// Parses the inside of `<…>`: a mention, a channel or a link.
fn link_or_mention(inside: &str, effects: Effects) -> StyledLine {
    let (target, label) = inside.split_once('|').map_or((inside, None), |(target, label)| (target, Some(label)));
    let shown = match (target.chars().next(), label) {
        (Some('!' | '@'), Some(label)) => format!("@{}", label.trim_start_matches('@')),
        (Some('!' | '@'), None) => format!("@{}", &target[1..]),
        (Some('#'), Some(label)) => format!("#{}", label.trim_start_matches('#')),
        (_, Some(label)) => format!("[{label}]"),
        (_, None) => target.to_owned(),
    };
    let is_mention = matches!(target.chars().next(), Some('!' | '@' | '#'));
    let effects = effects | if is_mention { Effects::BOLD } else { Effects::UNDERLINE };
    unescaped(&shown).chars().map(|c| -> StyledChar { (c, effects) }).collect()
}
