//! One SMTP conversation (RFC 5321), from the greeting to the goodbye.
//!
//! Keeps at most one mail and one line in memory. The end of a mail is `<CRLF>.<CRLF>` and nothing that looks like it.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};

use super::Mail;

/// Longer command lines are refused (RFC 5321 asks for 512 and what extensions add).
const LONGEST_COMMAND: usize = 2048;
/// As much of a line of a mail is looked at; what is longer makes the mail too big.
const LONGEST_LINE: usize = 64 * 1024;
/// Bigger mails are refused.
const LARGEST_MAIL: usize = 1024 * 1024;
/// As many recipients as one mail may have.
const MOST_RECIPIENTS: usize = 100;

const OK: &str = "250 OK";

/// One line, without its end.
struct Heard {
    text: Vec<u8>,
    /// It was longer than what is kept of it.
    cut: bool,
    /// It ended as lines do in SMTP, and not with a bare line feed.
    crlf: bool,
}

/// The mail that is being put together.
#[derive(Default)]
struct Envelope {
    from: Option<String>,
    to: Vec<String>,
}

/// Talks until the client says goodbye or goes. A mail is kept before the client hears that it was taken.
pub(super) async fn hold<S: AsyncRead + AsyncWrite + Unpin>(stream: S, keep: impl Fn(Mail)) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut envelope = Envelope::default();
    say(&mut stream, "220 localhost lowtide mail sink").await?;
    while let Some(heard) = hear(&mut stream, LONGEST_COMMAND).await? {
        let line = match String::from_utf8(heard.text) {
            Ok(line) if !heard.cut && !line.contains(char::is_control) => line,
            _ => {
                say(&mut stream, "500 that is no command").await?;
                continue;
            }
        };
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let reply = match verb.to_ascii_uppercase().as_str() {
            "QUIT" => return say(&mut stream, "221 goodbye").await,
            "DATA" if envelope.from.is_none() || envelope.to.is_empty() => "503 no sender or no recipient yet",
            "DATA" => {
                say(&mut stream, "354 go on, end with a dot on a line of its own").await?;
                let data = data(&mut stream).await?;
                let Envelope { from, to } = std::mem::take(&mut envelope);
                match data {
                    Some(raw) => {
                        keep(Mail::new(from.unwrap_or_default(), to, raw));
                        "250 kept"
                    }
                    None => "552 too big",
                }
            }
            verb => envelope.answer(verb, rest),
        };
        say(&mut stream, reply).await?;
    }
    Ok(())
}

impl Envelope {
    /// The answer to everything but DATA and QUIT.
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
                // The empty one is the sender of bounces.
                Some(address) => {
                    self.from = Some(address);
                    OK
                }
                None => "501 MAIL FROM:<address>",
            },
            "RCPT" if self.from.is_none() => "503 no sender yet",
            "RCPT" if self.to.len() >= MOST_RECIPIENTS => "452 too many recipients",
            "RCPT" => match path(rest, "TO:") {
                Some(address) if !address.is_empty() => {
                    self.to.push(address);
                    OK
                }
                _ => "501 RCPT TO:<address>",
            },
            _ => "502 not here",
        }
    }
}

/// The address in `FROM:<address> PARAMETERS`.
fn path(rest: &str, keyword: &str) -> Option<String> {
    let (word, rest) = rest.trim_start().split_at_checked(keyword.len())?;
    let (address, _) = rest.trim_start().strip_prefix('<')?.split_once('>')?;
    word.eq_ignore_ascii_case(keyword).then(|| address.to_owned())
}

/// The mail, its dots unstuffed; `None` if it was too big, which is known only at its end.
async fn data<S: AsyncBufRead + Unpin>(stream: &mut S) -> io::Result<Option<Vec<u8>>> {
    let mut mail = Vec::new();
    let mut too_big = false;
    let mut line_starts = true;
    loop {
        let Some(heard) = hear(stream, LONGEST_LINE).await? else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        if line_starts && heard.crlf && heard.text == b"." {
            return Ok((!too_big).then_some(mail));
        }
        let line = match heard.text.strip_prefix(b".") {
            Some(line) if line_starts => line,
            _ => &heard.text,
        };
        line_starts = heard.crlf;
        too_big |= heard.cut || mail.len() + line.len() > LARGEST_MAIL;
        if too_big {
            mail = Vec::new();
        } else {
            mail.extend_from_slice(line);
            mail.extend_from_slice(if heard.crlf { b"\r\n" } else { b"\n" });
        }
    }
}

/// The next line, at most `longest` bytes of it; `None` when the client has gone, also in the middle of a line.
async fn hear<S: AsyncBufRead + Unpin>(stream: &mut S, longest: usize) -> io::Result<Option<Heard>> {
    let mut heard = Heard { text: Vec::new(), cut: false, crlf: false };
    let mut last = 0;
    loop {
        let buffer = stream.fill_buf().await?;
        if buffer.is_empty() {
            return Ok(None);
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let piece = &buffer[..end.unwrap_or(buffer.len())];
        // One more than is kept, for the carriage return.
        let room = (longest + 1).saturating_sub(heard.text.len()).min(piece.len());
        heard.text.extend_from_slice(&piece[..room]);
        heard.cut |= room < piece.len();
        last = piece.last().copied().unwrap_or(last);
        let used = piece.len() + usize::from(end.is_some());
        stream.consume(used);
        if end.is_some() {
            heard.crlf = last == b'\r';
            if heard.crlf && !heard.cut {
                heard.text.pop();
            }
            heard.cut |= heard.text.len() > longest;
            return Ok(Some(heard));
        }
    }
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, line: &str) -> io::Result<()> {
    stream.write_all(format!("{line}\r\n").as_bytes()).await?;
    stream.flush().await
}
