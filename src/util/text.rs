//! Text from outside: hidden characters, and suggestions for misspelt words. Pure.

/// Returns `true` for characters that are invisible or change the order of visible ones: controls, direction marks, joiners,
/// fillers and tags.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Replaces hidden characters by U+FFFD, so that text from outside stays on one line and cannot control a terminal.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if is_hidden(c) { '\u{fffd}' } else { c }).collect()
}

/// Returns a number with its noun: `1 alert`, `3 alerts`. For nouns whose plural ends with `s`.
pub fn counted<N: std::fmt::Display + PartialEq + From<u8>>(n: N, noun: &str) -> String {
    let ending = if n == N::from(1) { "" } else { "s" };
    format!("{n} {noun}{ending}")
}

/// Escapes text for HTML: for use between tags and inside a quoted attribute.
pub fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Returns bytes in hexadecimal, in lower case.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Maximum length of a word to compare. Longer ones take long and are no typing mistakes.
const MAX_COMPARED_CHARS: usize = 64;

/// Returns the known word nearest to `text` if at most a third of its letters differ. A word of two letters must therefore match
/// except for its case.
pub fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let length = text.chars().count();
    if length > MAX_COMPARED_CHARS {
        return None;
    }
    let near = known.into_iter().map(|word| (distance(text, word), word)).min_by_key(|(distance, _)| *distance);
    near.filter(|(distance, _)| *distance <= length / 3).map(|(_, word)| word.to_owned())
}

/// Returns `true` if `text` could be a misspelt `word`. At least one letter may differ.
pub fn resembles(text: &str, word: &str) -> bool {
    let length = text.chars().count();
    length <= MAX_COMPARED_CHARS && distance(text, word) <= (length / 3).max(1)
}

/// Returns the number of letters that differ between two words, ignoring case.
fn distance(one: &str, other: &str) -> usize {
    let plain = |word: &str| word.to_lowercase().replace('-', "_");
    strsim::damerau_levenshtein(&plain(one), &plain(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_escaped_and_bytes_become_two_digits_each() {
        assert_eq!(escape_html("<a b=\"c\" d='e'>&\n"), "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;\n");
        assert_eq!(hex(&[0, 9, 0xa0, 0xff]), "0009a0ff");
        assert_eq!([counted(0, "day"), counted(1, "day"), counted(2_u64, "day")], ["0 days", "1 day", "2 days"]);
    }

    #[test]
    fn a_word_is_suggested_only_if_most_of_its_letters_match() {
        let near = |text| nearest(text, ["us", "eu", "low", "region"]);
        assert_eq!(near("US").as_deref(), Some("us"));
        assert_eq!(near("eur").as_deref(), Some("eu"));
        assert_eq!(near("lwo").as_deref(), Some("low"));
        assert_eq!(near("rigeon").as_deref(), Some("region"));
        assert_eq!(["uk", "u", "", "law school", "eastern"].map(near), [None, None, None, None, None]);
    }
}
