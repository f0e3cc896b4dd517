//! What everything that shows or compares words from outside has to know: which characters are never shown, and which known
//! word was meant. Pure.

/// Characters that a reader does not see, or that turn around what is seen: controls, marks of direction, joiners, fillers
/// and tags.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Text from outside on one line of a terminal: hidden characters are shown to be there, so that none of them steers it.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if is_hidden(c) { '\u{fffd}' } else { c }).collect()
}

/// The known word that is nearest to `text`, if one is near enough to be meant.
pub fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let length = text.chars().count();
    if length > 64 {
        return None;
    }
    let text = text.to_lowercase().replace('-', "_");
    let distance = |word: &str| strsim::damerau_levenshtein(&text, &word.to_lowercase().replace('-', "_"));
    let near = known.into_iter().map(|word| (distance(word), word)).min_by_key(|(distance, _)| *distance);
    near.filter(|(distance, word)| *distance <= (length / 3).max(1) && *distance < word.chars().count())
        .map(|(_, word)| word.to_owned())
}
