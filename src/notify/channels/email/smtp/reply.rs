//! Replies of an SMTP server, and their meaning for the sender.

use std::io;

/// Maximum number of lines of one reply.
const MAX_LINES: usize = 128;
/// Maximum length of the quote of an invalid reply.
const MAX_QUOTE_CHARS: usize = 60;

/// A complete reply of one or more lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SmtpReply {
    code: u16,
    /// Texts of the lines, which may be empty.
    lines: Vec<String>,
}

impl SmtpReply {
    pub(super) fn code(&self) -> u16 {
        self.code
    }

    pub(super) fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Returns the text of all lines on one line.
    pub(super) fn text(&self) -> String {
        self.lines.join(" ").trim().to_owned()
    }

    /// Returns true for 2xx: the command is completed.
    pub(super) fn is_completed(&self) -> bool {
        self.code / 100 == 2
    }

    /// Returns true for 3xx: the server waits for more input.
    pub(super) fn is_intermediate(&self) -> bool {
        self.code / 100 == 3
    }

    /// Returns true for 5xx: a retry cannot help.
    pub(super) fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// Returns the enhanced status code (RFC 3463) at the beginning of the text.
    pub(super) fn enhanced(&self) -> Option<(u16, u16, u16)> {
        let mut parts = self.lines.first()?.split_whitespace().next()?.split('.').map(str::parse);
        match (parts.next()?, parts.next()?, parts.next()?, parts.next()) {
            (Ok(class), Ok(subject), Ok(detail), None) => Some((class, subject, detail)),
            _ => None,
        }
    }

    /// Returns true if a smaller message may be accepted. 552 alone says only that the storage is exceeded.
    pub(super) fn is_about_size(&self) -> bool {
        let enhanced = self.enhanced().is_some_and(|code| matches!(code, (5, 3, 4) | (5, 2, 3)));
        self.code == 552 || (self.is_permanent() && enhanced)
    }

    /// Returns true if the server does not accept more recipients at once. After others were accepted, 552 may mean this
    /// (RFC 5321, 4.5.3.1.10).
    pub(super) fn is_about_recipient_count(&self) -> bool {
        self.code == 552 || self.enhanced() == Some((5, 5, 3))
    }

    /// Describes a rejection in the server's words. The hint precedes them, because they may be long and are cut.
    pub(super) fn refusal(&self, to: &str, hint: &str) -> String {
        let (code, text) = (self.code, self.text());
        let colon = if text.is_empty() { "" } else { ": " };
        format!("the mail server answered {code} to {to}{hint}{colon}{text}")
    }
}

/// A reply that is being read.
#[derive(Debug, Default)]
pub(super) struct PartialReply {
    code: Option<u16>,
    lines: Vec<String>,
}

impl PartialReply {
    /// Adds a line without its end. Returns the reply if this was its last line.
    pub(super) fn add(&mut self, line: &[u8]) -> io::Result<Option<SmtpReply>> {
        let line = String::from_utf8_lossy(line);
        let (code, rest) = code(&line).ok_or_else(|| invalid_reply(&line))?;
        if self.code.replace(code).is_some_and(|before| before != code) {
            return Err(invalid_reply(&line));
        }
        if self.lines.len() >= MAX_LINES {
            return Err(too_long());
        }
        let (last, text) = match rest.strip_prefix('-') {
            Some(text) => (false, text),
            None => (true, rest.trim_start_matches(' ')),
        };
        self.lines.push(text.to_owned());
        Ok(last.then(|| SmtpReply { code, lines: std::mem::take(&mut self.lines) }))
    }
}

/// Returns the code of a line and the rest of it, which is empty or begins with a hyphen or a space.
fn code(line: &str) -> Option<(u16, &str)> {
    let (digits, rest) = line.split_at_checked(3)?;
    let is_valid = digits.bytes().all(|b| b.is_ascii_digit()) && (rest.is_empty() || rest.starts_with([' ', '-']));
    let code = digits.parse().ok().filter(|code| is_valid && (200..600).contains(code))?;
    Some((code, rest))
}

fn invalid_reply(line: &str) -> io::Error {
    let quote: String = line.chars().take(MAX_QUOTE_CHARS).collect();
    io::Error::new(io::ErrorKind::InvalidData, format!("not a valid SMTP reply: `{quote}`"))
}

/// Returns the error for a reply that is too long.
pub(super) fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the server's reply is too long")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> io::Result<Option<SmtpReply>> {
        let mut partial = PartialReply::default();
        lines.iter().try_fold(None, |_, line| partial.add(line.as_bytes()))
    }

    #[test]
    fn a_reply_has_a_code_and_perhaps_text_and_more_lines() {
        for (lines, code, text) in [
            (&["250 ok"][..], 250, "ok"),
            (&["250"], 250, ""),
            (&["250 "], 250, ""),
            (&["250-one", "250-", "250 two"], 250, "one  two"),
            (&["334 VXNlcm5hbWU6"], 334, "VXNlcm5hbWU6"),
            (&["550 5.1.1 niet gevonden: caf\u{e9}"], 550, "5.1.1 niet gevonden: caf\u{e9}"),
        ] {
            let reply = read(lines).unwrap().unwrap();
            assert_eq!((reply.code(), reply.text().as_str()), (code, text), "{lines:?}");
        }
        assert_eq!(read(&["250-one"]).unwrap(), None);
        let mut partial = PartialReply::default();
        assert_eq!(partial.add(b"554 \xff\xfe").unwrap().unwrap().text(), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn an_invalid_reply_is_quoted() {
        for lines in [
            &["HTTP/1.1 400 Bad Request"][..],
            &["25"],
            &["2500 ok"],
            &["250ok"],
            &["999 x"],
            &["150 x"],
            &["\u{e9}50 x"],
            &[""],
            &["250-one", "550 two"],
        ] {
            let error = read(lines).unwrap_err().to_string();
            assert!(error.contains(lines.last().unwrap()), "{lines:?}: {error}");
        }
        assert!(read(&["250-x"; MAX_LINES + 1]).is_err());
    }

    #[test]
    fn an_enhanced_code_is_three_numbers_at_the_beginning() {
        let enhanced = |line: &str| read(&[line]).unwrap().unwrap().enhanced();
        assert_eq!(enhanced("552 5.3.4 too big"), Some((5, 3, 4)));
        for none in ["552", "552 too big", "552 5.3 x", "552 5.3.4.1 x", "552 a.b.c"] {
            assert_eq!(enhanced(none), None, "{none}");
        }
    }
}
