//! Characters with a face → lines of a terminal: made harmless, wrapped by display width, coloured if wanted.
//!
//! Knows nothing of Slack or mail. The only place that writes an escape sequence.

use unicode_width::UnicodeWidthChar;

use super::DrawStyle;
use crate::util::text::clean;

pub(super) const PLAIN: u8 = 0;
pub(super) const BOLD: u8 = 1;
pub(super) const ITALIC: u8 = 2;
pub(super) const DIM: u8 = 4;
pub(super) const UNDERLINE: u8 = 8;

/// One character and how it looks: a sum of the constants above.
pub(super) type StyledChar = (char, u8);
/// One line before it is wrapped.
pub(super) type StyledLine = Vec<StyledChar>;

/// Narrower than this nothing can be read; the terminal may wrap then.
const MIN_WIDTH: usize = 20;

/// Text from outside as lines of one face: line breaks break, tabs are spaces, nothing else controls the terminal.
pub(super) fn lines(text: &str, attributes: u8) -> Vec<StyledLine> {
    sanitized(text).split('\n').map(|line| line.chars().map(|c| (c, attributes)).collect()).collect()
}

/// The same without a face, for whoever has to look at the text first.
pub(super) fn sanitized(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\t', " ");
    text.split('\n').map(clean).collect::<Vec<_>>().join("\n")
}

/// Puts a picture together from top to bottom.
pub(super) struct Painter {
    colour: bool,
    width: usize,
    out: String,
}

impl Painter {
    pub(super) fn new(style: DrawStyle) -> Self {
        Self { colour: style.colour, width: style.width.max(MIN_WIDTH), out: String::new() }
    }

    /// Lines, each with this text in front, also where it is wrapped.
    pub(super) fn put(&mut self, before: &str, attributes: u8, lines: &[StyledLine]) {
        let margin: StyledLine = before.chars().map(|c| (c, attributes)).collect();
        let margin = self.painted(&margin);
        self.put_behind(&margin, before.chars().count(), lines);
    }

    /// Lines behind a bar in a colour like `#c62828`.
    pub(super) fn bar(&mut self, colour: &str, lines: &[StyledLine]) {
        let bar = match rgb(colour) {
            Some((red, green, blue)) if self.colour => format!("\u{1b}[38;2;{red};{green};{blue}m▌\u{1b}[0m "),
            _ => "▌ ".to_owned(),
        };
        self.put_behind(&bar, 2, lines);
    }

    fn put_behind(&mut self, margin: &str, columns: usize, lines: &[StyledLine]) {
        for line in lines.iter().flat_map(|line| wrapped(line, self.width - columns)) {
            let text = self.painted(&line);
            self.out.push_str(format!("{margin}{text}").trim_end());
            self.out.push('\n');
        }
    }

    /// An empty line.
    pub(super) fn gap(&mut self) {
        self.out.push('\n');
    }

    /// The picture.
    pub(super) fn done(self) -> String {
        self.out
    }

    fn painted(&self, line: &[StyledChar]) -> String {
        let mut text = String::new();
        let mut now = PLAIN;
        for &(c, attributes) in line {
            if self.colour && attributes != now {
                text.push_str(&escape(now, attributes));
                now = attributes;
            }
            text.push(c);
        }
        if now != PLAIN {
            text.push_str(&escape(now, PLAIN));
        }
        text
    }
}

/// From one face to another: everything off, then what is wanted on.
fn escape(from: u8, to: u8) -> String {
    let mut text = if from == PLAIN { String::new() } else { "\u{1b}[0m".to_owned() };
    for (attribute, code) in [(BOLD, 1), (DIM, 2), (ITALIC, 3), (UNDERLINE, 4)] {
        if to & attribute != 0 {
            text.push_str(&format!("\u{1b}[{code}m"));
        }
    }
    text
}

/// `#c62828`, or one of the names that Slack knows.
fn rgb(colour: &str) -> Option<(u8, u8, u8)> {
    let digits = match colour {
        "good" => "2eb67d",
        "warning" => "ecb22e",
        "danger" => "e01e5a",
        colour => colour.trim_start_matches('#'),
    };
    if digits.len() != 6 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let part = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).ok();
    Some((part(0)?, part(2)?, part(4)?))
}

/// At most `width` columns a line, broken at spaces; a word that is longer is broken where it must be.
fn wrapped(line: &[StyledChar], width: usize) -> Vec<StyledLine> {
    let line = &line[..without_spaces(line)];
    let mut lines = vec![StyledLine::new()];
    let mut used = 0;
    for piece in line.chunk_by(|(a, _), (b, _)| (*a == ' ') == (*b == ' ')) {
        let columns: usize = piece.iter().copied().map(self::columns).sum();
        let space = piece.first().is_some_and(|(c, _)| *c == ' ');
        if used + columns > width && used > 0 {
            if let Some(last) = lines.last_mut() {
                last.truncate(without_spaces(last));
            }
            lines.push(StyledLine::new());
            used = 0;
            if space {
                continue; // the break stands for it
            }
        }
        for cell in piece {
            if used + self::columns(*cell) > width {
                lines.push(StyledLine::new());
                used = 0;
            }
            used += self::columns(*cell);
            if let Some(last) = lines.last_mut() {
                last.push(*cell);
            }
        }
    }
    lines
}

fn columns((c, _): StyledChar) -> usize {
    c.width().unwrap_or(0)
}

/// How long a line is without the spaces at its end.
fn without_spaces(line: &[StyledChar]) -> usize {
    line.iter().rposition(|(c, _)| *c != ' ').map_or(0, |last| last + 1)
}
