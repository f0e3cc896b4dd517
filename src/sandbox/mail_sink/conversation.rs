//! One SMTP connection (RFC 5321), from the greeting to QUIT.
//!
//! It keeps at most one email and one line in memory. Only `<CRLF>.<CRLF>` ends an email, and no similar sequence.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};

use super::ReceivedMail;

/// Longest command line (RFC 5321 requires 512 plus the additions of extensions).
const MAX_COMMAND_BYTES: usize = 2048;
/// Longest line of an email; a longer line makes the email too big.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// Size above which an email is rejected.
const MAX_MAIL_BYTES: usize = 1024 * 1024;
/// Highest number of recipients of one email.
const MAX_RECIPIENTS: usize = 100;

const OK: &str = "250 OK";

/// One line without its line break.
struct SmtpLine {
    text: Vec<u8>,
    /// Set if the line was longer than the kept text.
    cut: bool,
    /// Set if the line ended with CRLF, and not with a bare line feed.
    crlf: bool,
}

/// Sender and recipients of the current email.
#[derive(Default)]
struct SmtpEnvelope {
    from: Option<String>,
    to: Vec<String>,
}

/// Serves a client until it sends QUIT or disconnects. Keeps each email before it confirms it.
pub(super) async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    keep: impl Fn(ReceivedMail),
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut envelope = SmtpEnvelope::default();
    write_line(&mut stream, "220 localhost lowtide mail sink").await?;
    while let Some(received) = read_line(&mut stream, MAX_COMMAND_BYTES).await? {
        let line = match String::from_utf8(received.text) {
            Ok(line) if !received.cut && !line.contains(char::is_control) => line,
            _ => {
                write_line(&mut stream, "500 that is no command").await?;
                continue;
            }
        };
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let reply = match verb.to_ascii_uppercase().as_str() {
            "QUIT" => return write_line(&mut stream, "221 goodbye").await,
            "DATA" if envelope.from.is_none() || envelope.to.is_empty() => "503 no sender or no recipient yet",
            "DATA" => {
                write_line(&mut stream, "354 go on, end with a dot on a line of its own").await?;
                let data = data(&mut stream).await?;
                let SmtpEnvelope { from, to } = std::mem::take(&mut envelope);
                match data {
                    Some(raw) => {
                        keep(ReceivedMail::new(from.unwrap_or_default(), to, raw));
                        "250 kept"
                    }
                    None => "552 too big",
                }
            }
            verb => envelope.answer(verb, rest),
        };
        write_line(&mut stream, reply).await?;
    }
    Ok(())
}

impl SmtpEnvelope {
    /// Returns the reply to every command except DATA and QUIT.
    fn answer(&mut self, verb: &str, rest: &str) -> &'static str {
        match verb {
            "EHLO" | "HELO" => {
                *self = Self::default();
                if verb == "HELO" { "250 localhost" } else { "250-localhost\r\n250-8BITMIME\r\n250 SMTPUTF8" }
            }
            "RSET" => {
                *self = Self::default();
                OK
            }
            "NOOP" => OK,
            "MAIL" if self.from.is_some() => "503 there is a sender already",
            "MAIL" => match path(rest, "FROM:") {
                // Bounces have an empty sender.
                Some(address) => {
                    self.from = Some(address);
                    OK
                }
                None => "501 MAIL FROM:<address>",
            },
            "RCPT" if self.from.is_none() => "503 no sender yet",
            "RCPT" if self.to.len() >= MAX_RECIPIENTS => "452 too many recipients",
            "RCPT" => match path(rest, "TO:") {
                Some(address) if !address.is_empty() => {
                    self.to.push(address);
                    OK
                }
                _ => "501 RCPT TO:<address>",
            },
            _ => "502 not implemented",
        }
    }
}

/// Parses the address in `FROM:<address> PARAMETERS`.
fn path(rest: &str, keyword: &str) -> Option<String> {
    let (word, rest) = rest.trim_start().split_at_checked(keyword.len())?;
    let (address, _) = rest.trim_start().strip_prefix('<')?.split_once('>')?;
    word.eq_ignore_ascii_case(keyword).then(|| address.to_owned())
}

/// Reads an email and removes its dot-stuffing. Returns `None` for an email that is too big, after reading it to its end.
async fn data<S: AsyncBufRead + Unpin>(stream: &mut S) -> io::Result<Option<Vec<u8>>> {
    let mut mail = Vec::new();
    let mut too_big = false;
    let mut line_starts = true;
    loop {
        let Some(received) = read_line(stream, MAX_LINE_BYTES).await? else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        if line_starts && received.crlf && received.text == b"." {
            return Ok((!too_big).then_some(mail));
        }
        let line = match received.text.strip_prefix(b".") {
            Some(line) if line_starts => line,
            _ => &received.text,
        };
        line_starts = received.crlf;
        too_big |= received.cut || mail.len() + line.len() > MAX_MAIL_BYTES;
        if too_big {
            mail = Vec::new();
        } else {
            mail.extend_from_slice(line);
            mail.extend_from_slice(if received.crlf { b"\r\n" } else { b"\n" });
        }
    }
}

/// Reads the next line and keeps at most `longest` bytes of it. Returns `None` if the client has disconnected, also in the middle
/// of a line.
async fn read_line<S: AsyncBufRead + Unpin>(stream: &mut S, longest: usize) -> io::Result<Option<SmtpLine>> {
    let mut received = SmtpLine { text: Vec::new(), cut: false, crlf: false };
    let mut last = 0;
    loop {
        let buffer = stream.fill_buf().await?;
        if buffer.is_empty() {
            return Ok(None);
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let piece = &buffer[..end.unwrap_or(buffer.len())];
        // One byte more than is kept, for the carriage return.
        let room = (longest + 1).saturating_sub(received.text.len()).min(piece.len());
        received.text.extend_from_slice(&piece[..room]);
        received.cut |= room < piece.len();
        last = piece.last().copied().unwrap_or(last);
        let used = piece.len() + usize::from(end.is_some());
        stream.consume(used);
        if end.is_some() {
            received.crlf = last == b'\r';
            if received.crlf && !received.cut {
                received.text.pop();
            }
            received.cut |= received.text.len() > longest;
            return Ok(Some(received));
        }
    }
}

async fn write_line<S: AsyncWrite + Unpin>(stream: &mut S, line: &str) -> io::Result<()> {
    stream.write_all(format!("{line}\r\n").as_bytes()).await?;
    stream.flush().await
}
