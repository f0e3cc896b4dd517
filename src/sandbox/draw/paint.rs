//! Output of styled characters as lines of a terminal, wrapped by display width.

use anstyle::{Effects, RgbColor, Style};
use unicode_width::UnicodeWidthChar;

use super::DrawStyle;
use crate::util::text::clean;

/// One character with its effects.
pub(super) type StyledChar = (char, Effects);
/// One line before wrapping.
pub(super) type StyledLine = Vec<StyledChar>;

/// Lowest width of lines, in columns; a narrower terminal has to wrap them itself.
const MIN_WIDTH: usize = 20;

/// Splits outside text into lines with the same effects.
pub(super) fn lines(text: &str, effects: Effects) -> Vec<StyledLine> {
    sanitized(text).split('\n').map(|line| line.chars().map(|c| (c, effects)).collect()).collect()
}

/// Keeps line breaks, turns tabs into spaces, and makes all other control characters visible.
pub(super) fn sanitized(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\t', " ");
    text.split('\n').map(clean).collect::<Vec<_>>().join("\n")
}

/// Builder of a drawing, from top to bottom.
pub(super) struct Painter {
    colour: bool,
    width: usize,
    out: String,
}

impl Painter {
    pub(super) fn new(style: DrawStyle) -> Self {
        Self { colour: style.colour, width: style.width.max(MIN_WIDTH), out: String::new() }
    }

    /// Adds lines without a margin.
    pub(super) fn put(&mut self, lines: &[StyledLine]) {
        self.put_after("", 0, lines);
    }

    /// Adds lines after a bar in a colour such as `#c62828`.
    pub(super) fn bar(&mut self, colour: &str, lines: &[StyledLine]) {
        let style = rgb(colour).filter(|_| self.colour).map_or_else(Style::new, RgbColor::on_default);
        self.put_after(&format!("{style}▌{style:#} "), 2, lines);
    }

    /// Adds lines, each after a margin of this many columns, also where they wrap.
    fn put_after(&mut self, margin: &str, columns: usize, lines: &[StyledLine]) {
        for line in lines.iter().flat_map(|line| wrapped(line, self.width - columns)) {
            let text = self.painted(&line);
            self.out.push_str(format!("{margin}{text}").trim_end());
            self.out.push('\n');
        }
    }

    /// Adds an empty line.
    pub(super) fn gap(&mut self) {
        self.out.push('\n');
    }

    /// Returns the finished drawing.
    pub(super) fn done(self) -> String {
        self.out
    }

    fn painted(&self, line: &[StyledChar]) -> String {
        let runs = line.chunk_by(|(_, left), (_, right)| left == right);
        let painted = runs.map(|run| {
            let effects = run.first().map(|(_, effects)| *effects).filter(|_| self.colour);
            let style = Style::new().effects(effects.unwrap_or_default());
            let text: String = run.iter().map(|(c, _)| *c).collect();
            format!("{style}{text}{style:#}")
        });
        painted.collect()
    }
}

/// Parses `#c62828`, or one of the names that Slack knows.
fn rgb(colour: &str) -> Option<RgbColor> {
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
    Some(RgbColor(part(0)?, part(2)?, part(4)?))
}

/// Wraps a line at spaces to at most `width` columns; a longer word is broken within.
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
                continue; // the line break replaces the spaces
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

/// Returns the length of a line without the spaces at its end.
fn without_spaces(line: &[StyledChar]) -> usize {
    line.iter().rposition(|(c, _)| *c != ' ').map_or(0, |last| last + 1)
}
