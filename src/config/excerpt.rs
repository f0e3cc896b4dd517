//! The line of the file that contains a problem, for display. Secrets cannot appear in it by construction: only key names
//! and fixed values that lowtide itself defines, names from the problem's key path, and the reported text are shown. Every
//! other word is replaced by `…`.

use super::vocabulary::{is_known_word, is_secret_like};

/// Most characters of the line that are shown before and after the column of the problem.
const CHARS_BEFORE: usize = 70;
const CHARS_AFTER: usize = 60;
/// Replacement of hidden text.
const HIDDEN: &str = "…";

/// A masked line with the range that the problem is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// Masked text of the line.
    pub text: String,
    /// Byte range of `text` to mark.
    pub marked: std::ops::Range<usize>,
}

/// Returns the masked `line` with a mark at `column` (in characters, from 1). `source` is the text there that may be shown;
/// `path` is the key path. Returns `None` for a line without content, and for a problem of the whole file, of which `source`
/// is empty.
pub(super) fn excerpt(line: &str, column: usize, source: Option<&str>, path: &str) -> Option<Excerpt> {
    let at = column.saturating_sub(1);
    let first = at.saturating_sub(CHARS_BEFORE);
    let cut: Vec<char> = line.chars().skip(first).take(at - first + CHARS_AFTER).collect();
    if cut.iter().all(|c| c.is_whitespace()) {
        return None;
    }
    let mut mask = Mask { names: path.split(['.', '[']).collect(), text: String::new(), hiding: false };
    let (before, rest) = cut.split_at((at - first).min(cut.len()));
    let shown = source.map_or(0, |source| shown_length(rest, source));
    if shown == 0 && source == Some("") {
        return None; // the whole file
    }
    // The column may lie inside a word of which nothing may be shown.
    let inside = if shown == 0 && before.last().is_some_and(|c| !is_separator(*c)) {
        before.iter().rev().take_while(|c| !is_separator(**c)).count()
    } else {
        0
    };
    let (before, _) = before.split_at(before.len() - inside);
    if first > 0 {
        mask.text.push_str(HIDDEN);
    }
    mask.append(before);
    let start = mask.text.len();
    let (marked, rest) = if shown > 0 { rest.split_at(shown) } else { split_word(&cut[before.len()..]) };
    let end = if shown > 0 {
        mask.text.extend(marked);
        mask.text.len()
    } else {
        mask.append(marked);
        mask.text.len()
    };
    mask.hiding = shown == 0 && mask.text.ends_with(HIDDEN);
    mask.append(uncommented(rest));
    // A word that was merged into the `…` before it is marked there.
    let start = if start == end { start.saturating_sub(HIDDEN.len()) } else { start };
    let text = mask.text.trim_end().to_owned();
    let end = end.min(text.len());
    (start < end).then_some(Excerpt { text, marked: start..end })
}

/// Returns the number of characters of `rest` that spell `source`, quotation marks included; 0 if they spell something else.
fn shown_length(rest: &[char], source: &str) -> usize {
    let quote = rest.first().filter(|c| matches!(c, '"' | '\'') && !source.starts_with(**c));
    let text = if quote.is_some() { &rest[1..] } else { rest };
    let mut length = 0;
    for c in source.chars() {
        if length == text.len() && length > 0 {
            break; // cut with the line
        }
        if text.get(length) != Some(&c) || crate::util::text::is_hidden(c) {
            return 0;
        }
        length += 1;
    }
    let closed = quote.is_some() && text.get(length) == quote;
    if length == 0 && !closed { 0 } else { length + usize::from(quote.is_some()) + usize::from(closed) }
}

/// Returns the word at the beginning, or a single separator, and the rest.
fn split_word(text: &[char]) -> (&[char], &[char]) {
    let end = text.iter().position(|c| is_separator(*c)).unwrap_or(text.len());
    text.split_at(end.max(1).min(text.len()))
}

/// Returns the text before a comment.
fn uncommented(text: &[char]) -> &[char] {
    let comment = text.windows(2).position(|pair| pair[0].is_whitespace() && pair[1] == '#');
    &text[..comment.unwrap_or(text.len())]
}

fn is_separator(c: char) -> bool {
    matches!(c, ' ' | '\t' | ',' | '{' | '}' | '[' | ']')
}

/// A line that is being masked.
struct Mask<'a> {
    /// Names of the key path, which may be shown.
    names: Vec<&'a str>,
    text: String,
    /// Set after a hidden word and after the key of a secret, until the value ends.
    hiding: bool,
}

impl Mask<'_> {
    fn append(&mut self, mut rest: &[char]) {
        while !rest.is_empty() {
            let (word, after) = split_word(rest);
            rest = after;
            match word {
                [c] if is_separator(*c) => {
                    self.hiding &= c.is_whitespace();
                    self.text.push(*c);
                }
                word => self.append_word(&word.iter().collect::<String>()),
            }
        }
    }

    fn append_word(&mut self, word: &str) {
        let bare = word.trim_matches(['"', '\'', ':']);
        let known = matches!(bare, "" | "-") || is_known_word(bare) || self.names.contains(&bare);
        if known && !self.hiding {
            self.text.push_str(word);
            self.hiding = word.ends_with(':') && is_secret_like(bare);
        } else {
            // Several hidden words in a row are shown as one.
            let length = self.text.trim_end().len();
            if self.text[..length].ends_with(HIDDEN) {
                self.text.truncate(length);
            } else {
                self.text.push_str(HIDDEN);
            }
            self.hiding = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the excerpt with its mark below it.
    fn shown(line: &str, column: usize, source: Option<&str>, path: &str) -> String {
        let Some(Excerpt { text, marked }) = excerpt(line, column, source, path) else { return "none".to_owned() };
        let width = |text: &str| text.chars().count();
        format!("{text}\n{}{}", " ".repeat(width(&text[..marked.start])), "^".repeat(width(&text[marked])))
    }

    #[test]
    fn the_reported_text_is_marked_with_its_quotation_marks() {
        insta::assert_snapshot!(shown("    region: 'uk' # for now", 13, Some("uk"), "accounts.acme.region"), @"
            region: 'uk'
                    ^^^^
        ");
        insta::assert_snapshot!(shown("    crit: { below: 5 }", 5, Some("crit"), "rules.low.crit"), @"
    crit: { below: … }
    ^^^^
    ");
        insta::assert_snapshot!(shown("  low: { metric: balance, for: 2 hours }", 32, Some("2 hours"), "rules.low.for"), @"
          low: { metric: balance, for: 2 hours }
                                       ^^^^^^^
        ");
    }

    #[test]
    fn other_text_is_hidden() {
        insta::assert_snapshot!(shown("  a: { api_key: one two, region: uk }", 34, Some("uk"), "accounts.b.region"), @"
    … { api_key: …, region: uk }
                            ^^
    ");
        insta::assert_snapshot!(shown("    api_key: 'critical, region' ", 14, None, "accounts.a.api_key"), @"
    api_key: …, region'
             ^
    ");
        insta::assert_snapshot!(shown("    api_key hunter2", 5, None, ""), @"
            api_key …
            ^^^^^^^
        ");
        insta::assert_snapshot!(shown("    api_key: hunter2 hunter3", 18, None, ""), @"
            api_key: …
                     ^
        ");
        assert_eq!(shown("   ", 3, None, ""), "none");
        assert_eq!(shown("", 9, None, ""), "none");
    }

    #[test]
    fn a_long_line_is_cut_around_the_mark() {
        let line = format!("{}region: uk{}", "metric: x, ".repeat(1000), ", metric: x".repeat(1000));
        let excerpt = excerpt(&line, 11_009, Some("uk"), "").unwrap_or_else(|| panic!("no excerpt"));
        assert_eq!(&excerpt.text[excerpt.marked.clone()], "uk");
        assert!(excerpt.text.chars().count() < 140, "{}", excerpt.text);
    }
}
