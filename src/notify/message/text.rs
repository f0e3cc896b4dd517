//! Small words: times, durations, names on one line. Pure, and free of any channel's escaping.

use chrono::{Datelike, Duration};
use chrono_tz::Tz;

use crate::domain::Time;
use crate::util::text::is_hidden;

/// Longest name that is shown; real ones are shorter, but they come from outside.
const MAX_NAME_CHARS: usize = 80;

/// Text on one line: control characters and line breaks become spaces, other hidden characters go.
pub(crate) fn flat(text: &str) -> String {
    flat_start(text, usize::MAX)
}

/// [`flat`], but no more than the first so many characters: an endless name costs no more than a long one.
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

/// Text from outside on one line, at most so many characters: what `cut` makes of `flat`.
pub(super) fn short(text: &str, longest: usize) -> String {
    cut(&flat_start(text, longest.saturating_add(1)), longest)
}

/// Text as it was written, lines and all, but for hidden characters.
pub(super) fn visible(text: &str) -> String {
    let visible = text.chars().filter_map(|c| match c {
        '\n' => Some(c),
        '\t' => Some(' '),
        c => Some(c).filter(|c| !is_hidden(*c)),
    });
    visible.collect::<String>().trim().to_owned()
}

/// At most `longest` characters, the last one an ellipsis where something was cut.
pub(crate) fn cut(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(longest.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Bytes of a character in a string of JSON.
fn in_json(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\t' | '\r' => 2,
        c if (c as u32) < 0x20 => 6,
        c => c.len_utf8(),
    }
}

/// Bytes of a character in JSON that is itself a string of JSON.
pub(crate) fn in_nested_json(c: char) -> usize {
    match c {
        '"' | '\\' => 4,
        c if (c as u32) < 0x20 => in_json(c) + 1,
        c => c.len_utf8(),
    }
}

/// At most `longest` bytes as JSON writes them, an ellipsis at the end where something was cut.
pub(crate) fn cut_bytes(text: &str, longest: usize) -> String {
    cut_by(text, longest, in_json)
}

/// Cuts a text so that the costs of its characters are at most `longest`, with an ellipsis at the end where something was
/// cut.
pub(crate) fn cut_by(text: &str, longest: usize, cost: impl Fn(char) -> usize) -> String {
    let (mut length, mut fits) = (0, 0);
    for (at, c) in text.char_indices() {
        length += cost(c);
        if length > longest {
            return format!("{}…", &text[..fits]);
        }
        if length + '…'.len_utf8() <= longest {
            fits = at + c.len_utf8(); // an ellipsis still has room behind this
        }
    }
    text.to_owned()
}

/// A name from outside, on one line and not too long.
pub(super) fn name(text: &str) -> String {
    short(text, MAX_NAME_CHARS)
}

/// How the reader's clock shows times.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeFormatter {
    /// Where the reader is.
    pub(super) zone: Tz,
    /// When they read it.
    pub(super) now: Time,
}

impl TimeFormatter {
    /// `Mon 23 Nov, 09:15`, with the year if it is another one than now.
    pub(super) fn short(self, at: Time) -> String {
        let local = at.with_timezone(&self.zone);
        let year = if local.year() == self.now.with_timezone(&self.zone).year() { "" } else { " %Y" };
        local.format(&format!("%a %-d %b{year}, %H:%M")).to_string()
    }

    /// `23 Nov`, with the year if it is another one than now.
    pub(super) fn date(self, at: Time) -> String {
        let local = at.with_timezone(&self.zone);
        let year = if local.year() == self.now.with_timezone(&self.zone).year() { "" } else { " %Y" };
        local.format(&format!("%-d %b{year}")).to_string()
    }

    /// `Mon 23 Nov`, with the year if it is another one than now.
    pub(super) fn day(self, at: Time) -> String {
        format!("{} {}", at.with_timezone(&self.zone).format("%a"), self.date(at))
    }

    /// `Mon 23 Nov, 09:15 CET`.
    pub(super) fn full(self, at: Time) -> String {
        format!("{} {}", self.short(at), zone_name(&at.with_timezone(&self.zone).format("%Z").to_string()))
    }
}

/// Zones without letters of their own are called `+03`, which nobody reads as a zone: `UTC+3`.
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

/// `3 h 20 min`; `less than a minute` for what is shorter or negative.
pub(super) fn elapsed_text(duration: Duration) -> String {
    let minutes = duration.num_minutes();
    let (days, hours, rest) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    match (days, hours, rest) {
        (d, _, _) if d > 0 && hours > 0 => format!("{d} d {hours} h"),
        (d, _, _) if d > 0 => format!("{d} d"),
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
    fn times_name_their_zone_and_the_year_only_where_it_is_another() {
        let now = Utc.with_ymd_and_hms(2026, 11, 23, 8, 15, 0).unwrap();
        let times = |zone| TimeFormatter { zone, now };
        assert_eq!(times(Tz::Europe__Amsterdam).full(now), "Mon 23 Nov, 09:15 CET");
        assert_eq!(times(Tz::UTC).full(now - Duration::days(365)), "Sun 23 Nov 2025, 08:15 UTC");
        assert_eq!(times(Tz::Europe__Istanbul).full(now), "Mon 23 Nov, 11:15 UTC+3");
        assert_eq!(times(Tz::America__Sao_Paulo).full(now), "Mon 23 Nov, 05:15 UTC\u{2212}3");
        assert_eq!(times(Tz::Asia__Kathmandu).full(now), "Mon 23 Nov, 14:00 UTC+5:45");
    }

    #[test]
    fn durations_read_well() {
        let shown = |minutes| elapsed_text(Duration::minutes(minutes));
        assert_eq!(
            [-5, 0, 45, 60, 200, 1440, 1500, 5000].map(shown),
            ["less than a minute", "less than a minute", "45 min", "1 h", "3 h 20 min", "1 d", "1 d 1 h", "3 d 11 h"]
        );
    }

    #[test]
    fn a_short_text_is_the_beginning_of_the_flat_one_wherever_it_ends() {
        let text = " a\u{200b}b \t\u{2028} c\r\n\u{feff}  d e\u{0} ";
        assert_eq!(flat(text), "ab c d e");
        for longest in 1..12 {
            assert_eq!(short(text, longest), cut(&flat(text), longest), "{longest}");
        }
        assert_eq!(short(&format!("{}x", " ".repeat(9_000_000)), 3), "x");
    }

    #[test]
    fn what_is_cut_by_bytes_fits_and_is_whole_characters() {
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
