//! Texts for messages: times, durations, and names on one line. Pure, without any escaping.

use chrono::{Datelike, Duration};
use chrono_tz::Tz;

use crate::domain::Time;
use crate::util::text::{counted, is_hidden};

/// Maximum length of a name. Real ones are shorter, but names come from outside.
const MAX_NAME_CHARS: usize = 80;

/// Returns the text on one line. Control characters and line breaks become spaces; other hidden characters are removed.
pub(crate) fn flat(text: &str) -> String {
    flat_start(text, usize::MAX)
}

/// Returns the first `most` characters of the [`flat`] text, without reading the rest of an endless one.
fn flat_start(text: &str, most: usize) -> String {
    let (mut line, mut length, mut gap) = (String::new(), 0, false);
    for c in text.chars().filter_map(on_one_line) {
        if length >= most {
            break;
        }
        if c.is_whitespace() {
            gap = true;
            continue;
        }
        if std::mem::take(&mut gap) && length > 0 {
            line.push(' ');
            length += 1;
        }
        line.push(c);
        length += 1;
    }
    line
}

fn on_one_line(c: char) -> Option<char> {
    match c {
        '\u{2028}' | '\u{2029}' => Some(' '),
        c if c.is_control() => Some(' '),
        c if is_hidden(c) => None,
        c => Some(c),
    }
}

/// Returns text from outside on one line, with at most `longest` characters: `cut(&flat(text), longest)`.
pub(super) fn short(text: &str, longest: usize) -> String {
    cut(&flat_start(text, longest.saturating_add(1)), longest)
}

/// Returns the text with its lines, without hidden characters.
pub(super) fn visible(text: &str) -> String {
    let visible = text.chars().filter_map(|c| match c {
        '\n' => Some(c),
        '\t' => Some(' '),
        c => Some(c).filter(|c| !is_hidden(*c)),
    });
    visible.collect::<String>().trim().to_owned()
}

/// Returns at most `longest` characters. The last one is an ellipsis if the text was cut.
pub(crate) fn cut(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(longest.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Returns the number of bytes of a character in a JSON string.
fn in_json(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\t' | '\r' => 2,
        c if (c as u32) < 0x20 => 6,
        c => c.len_utf8(),
    }
}

/// Returns the number of bytes of a character in JSON that is itself a JSON string.
pub(crate) fn in_nested_json(c: char) -> usize {
    match c {
        '"' | '\\' => 4,
        c if (c as u32) < 0x20 => in_json(c) + 1,
        c => c.len_utf8(),
    }
}

/// Returns at most `longest` bytes, counted as in a JSON string, with an ellipsis at the end if the text was cut.
pub(crate) fn cut_bytes(text: &str, longest: usize) -> String {
    cut_by(text, longest, in_json)
}

/// Cuts a text so that the costs of its characters add up to at most `longest`, with an ellipsis at the end if something was
/// cut.
pub(crate) fn cut_by(text: &str, longest: usize, cost: impl Fn(char) -> usize) -> String {
    let (mut length, mut fits) = (0, 0);
    for (at, c) in text.char_indices() {
        length += cost(c);
        if length > longest {
            return format!("{}…", &text[..fits]);
        }
        if length + '…'.len_utf8() <= longest {
            fits = at + c.len_utf8(); // there is room for an ellipsis after this
        }
    }
    text.to_owned()
}

/// Returns a name from outside on one line, shortened if necessary.
pub(super) fn name(text: &str) -> String {
    short(text, MAX_NAME_CHARS)
}

/// Format of times in the time zone of the reader.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeFormatter {
    /// Time zone of the reader.
    pub(super) zone: Tz,
    /// Time of the message.
    pub(super) now: Time,
}

impl TimeFormatter {
    /// Returns `Mon 23 Nov, 09:15`, with the year if it is not the current one.
    pub(super) fn short(self, at: Time) -> String {
        let local = at.with_timezone(&self.zone);
        let year = if local.year() == self.now.with_timezone(&self.zone).year() { "" } else { " %Y" };
        local.format(&format!("%a %-d %b{year}, %H:%M")).to_string()
    }

    /// Returns `23 Nov`, with the year if it is not the current one.
    pub(super) fn date(self, at: Time) -> String {
        let local = at.with_timezone(&self.zone);
        let year = if local.year() == self.now.with_timezone(&self.zone).year() { "" } else { " %Y" };
        local.format(&format!("%-d %b{year}")).to_string()
    }

    /// Returns `Mon 23 Nov`, with the year if it is not the current one.
    pub(super) fn day(self, at: Time) -> String {
        format!("{} {}", at.with_timezone(&self.zone).format("%a"), self.date(at))
    }

    /// Returns `Mon 23 Nov, 09:15 CET`.
    pub(super) fn full(self, at: Time) -> String {
        format!("{} {}", self.short(at), zone_name(&at.with_timezone(&self.zone).format("%Z").to_string()))
    }
}

/// Returns the abbreviation of a zone. Zones without one have an offset such as `+03`, which becomes `UTC+3`.
fn zone_name(short: &str) -> String {
    let (sign, digits) = match (short.strip_prefix('+'), short.strip_prefix('-')) {
        (Some(digits), _) => ('+', digits),
        (_, Some(digits)) => ('\u{2212}', digits),
        (None, None) => return short.to_owned(),
    };
    let (hours, minutes) = digits.split_at_checked(2).unwrap_or((digits, ""));
    let hours = hours.trim_start_matches('0');
    let hours = if hours.is_empty() { "0" } else { hours };
    match minutes {
        "" | "00" => format!("UTC{sign}{hours}"),
        minutes => format!("UTC{sign}{hours}:{minutes}"),
    }
}

/// Returns a duration such as `3 h 20 min`, or `less than a minute` if it is shorter or negative.
pub(super) fn elapsed_text(duration: Duration) -> String {
    let minutes = duration.num_minutes();
    let (days, hours, rest) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    match (days, hours, rest) {
        (d, h, _) if d > 0 && h > 0 => format!("{} {h} h", counted(d, "day")),
        (d, _, _) if d > 0 => counted(d, "day"),
        (_, h, 0) if h > 0 => format!("{h} h"),
        (_, h, m) if h > 0 => format!("{h} h {m} min"),
        (_, _, m) if m > 0 => format!("{m} min"),
        _ => "less than a minute".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{TimeZone, Utc};

    #[test]
    fn times_have_a_zone_and_a_year_only_if_it_is_another() {
        let now = Utc.with_ymd_and_hms(2026, 11, 23, 8, 15, 0).unwrap();
        let times = |zone| TimeFormatter { zone, now };
        assert_eq!(times(Tz::Europe__Amsterdam).full(now), "Mon 23 Nov, 09:15 CET");
        assert_eq!(times(Tz::UTC).full(now - Duration::days(365)), "Sun 23 Nov 2025, 08:15 UTC");
        assert_eq!(times(Tz::Europe__Istanbul).full(now), "Mon 23 Nov, 11:15 UTC+3");
        assert_eq!(times(Tz::America__Sao_Paulo).full(now), "Mon 23 Nov, 05:15 UTC\u{2212}3");
        assert_eq!(times(Tz::Asia__Kathmandu).full(now), "Mon 23 Nov, 14:00 UTC+5:45");
    }

    #[test]
    fn durations_have_at_most_two_units() {
        let shown = |minutes| elapsed_text(Duration::minutes(minutes));
        assert_eq!(
            [-5, 0, 45, 60, 200, 1440, 1500, 5000].map(shown),
            [
                "less than a minute",
                "less than a minute",
                "45 min",
                "1 h",
                "3 h 20 min",
                "1 day",
                "1 day 1 h",
                "3 days 11 h"
            ]
        );
    }

    #[test]
    fn a_short_text_is_the_beginning_of_the_flat_text() {
        let text = " a\u{200b}b \t\u{2028} c\r\n\u{feff}  d e\u{0} ";
        assert_eq!(flat(text), "ab c d e");
        for longest in 1..12 {
            assert_eq!(short(text, longest), cut(&flat(text), longest), "{longest}");
        }
        assert_eq!(short(&format!("{}x", " ".repeat(9_000_000)), 3), "x");
    }

    #[test]
    fn text_cut_by_bytes_fits_and_keeps_whole_characters() {
        assert_eq!(cut_bytes("abc", 3), "abc");
        assert_eq!(cut_bytes("abcd", 3), "…");
        assert_eq!(cut_bytes("ééééé", 7), "éé…");
        for text in ["\"\"\"\"\"\"\"\"", "\u{1f4b8}\u{1f4b8}\u{1f4b8}", "a\nb\nc\nd\ne\nf\ng"] {
            for longest in 3..20 {
                let json = serde_json::to_string(&cut_bytes(text, longest)).unwrap();
                assert!(json.len() - 2 <= longest, "{json} {longest}");
            }
        }
    }

    #[test]
    fn names_stay_on_one_line() {
        assert_eq!(name("a\r\nBcc: x\u{202e}y\u{2028}z"), "a Bcc: xy z");
        assert_eq!(name(&"x".repeat(200)).chars().count(), MAX_NAME_CHARS);
    }
}
