//! Text from outside on a terminal: what it may hold, so that nothing that is printed can steer the terminal.

/// Text from outside on one line of a terminal: no control characters, none that change the direction of writing.
pub(crate) fn clean(text: &str) -> String {
    let harmless = |c: char| {
        !c.is_control() && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if harmless(c) { c } else { '\u{fffd}' }).collect()
}
