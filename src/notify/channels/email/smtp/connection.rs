//! A connection to a mail server: sends lines and reads replies, each within a time limit.
//!
//! All failures here are transient: connection, certificate or reply may be different next time.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::reply::{PartialReply, SmtpReply, too_long};
use super::tls::{self, TlsTrust};
use super::{SmtpFailure, SmtpFailureCause, dial};

/// Maximum length of a line of a reply; RFC 5321 allows 512 octets.
const MAX_LINE_BYTES: usize = 2048;
/// Number of bytes of the message that have to be sent within the limit of one step.
const WRITE_BLOCK_BYTES: usize = 4096;
/// Timeout of the reply to the end of the message (RFC 5321, 4.5.3.2.6). A server that accepted the message and confirms it
/// slowly would otherwise get it again.
const END_OF_DATA_TIMEOUT: Duration = Duration::from_secs(600);
/// Timeout of the reply to QUIT, and of the end of TLS.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Byte stream that a conversation uses.
trait SmtpStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> SmtpStream for T {}

/// A connection, in plaintext or over TLS.
pub(super) struct SmtpConnection {
    stream: Box<dyn SmtpStream>,
    /// Received bytes that are not part of a reply yet.
    unread: Vec<u8>,
    local: IpAddr,
    /// Host and port, for error messages.
    server: String,
    /// Timeout of one step.
    step_timeout: Duration,
    /// True as long as the server can take commands.
    usable: bool,
}

impl SmtpConnection {
    /// Connects to the first address of the host that answers.
    pub(super) async fn open(host: &str, port: u16, limit: Duration) -> Result<Self, SmtpFailure> {
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut connection = Self::from_stream(tokio::io::empty(), local, format!("{host}:{port}"), limit);
        let dialed = timeout(limit, dial::connect(host, port)).await;
        let stream = connection.step_result("connecting", limit, dialed)?;
        // Commands are small, and each waits for its reply.
        let _ = stream.set_nodelay(true);
        connection.local = stream.local_addr().map_or(local, |address| address.ip().to_canonical());
        connection.stream = Box::new(stream);
        Ok(connection)
    }

    /// Creates a connection over any stream.
    pub(super) fn from_stream(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        local: IpAddr,
        server: String,
        step_timeout: Duration,
    ) -> Self {
        Self { stream: Box::new(stream), unread: Vec::new(), local, server, step_timeout, usable: true }
    }

    /// Returns our own address.
    pub(super) fn local(&self) -> IpAddr {
        self.local
    }

    /// Returns the host and port.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Waits for the server's first line.
    pub(super) async fn read_greeting(&mut self) -> Result<SmtpReply, SmtpFailure> {
        let read = timeout(self.step_timeout, self.read()).await;
        self.step_result("connecting", self.step_timeout, read)
    }

    /// Sends one line and waits for the reply. `what` names the step in failures, which never show the line.
    pub(super) async fn command(&mut self, what: &str, line: &str) -> Result<SmtpReply, SmtpFailure> {
        if line.contains(['\r', '\n']) {
            return Err(SmtpFailure::permanent(format!("{what}: the line contains a line break")));
        }
        let replied = timeout(self.step_timeout, self.exchange(line)).await;
        self.step_result(what, self.step_timeout, replied)
    }

    /// Sends the message and its end, and waits for the last reply.
    pub(super) async fn message(&mut self, message: &[u8]) -> Result<SmtpReply, SmtpFailure> {
        for block in dot_stuffed(message).chunks(WRITE_BLOCK_BYTES) {
            let written = timeout(self.step_timeout, self.write(block)).await;
            self.step_result("sending the message", self.step_timeout, written)?;
        }
        let limit = self.step_timeout.max(END_OF_DATA_TIMEOUT);
        let replied = timeout(limit, self.read()).await;
        self.step_result("the end of the message", limit, replied)
    }

    /// Starts TLS by command. Plaintext that follows the server's reply would be taken for replies to later commands, and
    /// may have been injected on the way: it is an error.
    pub(super) async fn starttls(&mut self, trust: &TlsTrust) -> Result<(), SmtpFailure> {
        let reply = self.command("STARTTLS", "STARTTLS").await?;
        if !reply.is_completed() {
            return Err(SmtpFailure::replied(&reply, "STARTTLS"));
        }
        if !self.unread.is_empty() {
            self.usable = false;
            return Err(SmtpFailure::transient(format!(
                "{} sent data before the TLS handshake, after STARTTLS",
                self.server
            )));
        }
        self.secure(trust, "STARTTLS").await
    }

    /// Runs the TLS handshake; everything after it is encrypted.
    pub(super) async fn secure(&mut self, trust: &TlsTrust, what: &str) -> Result<(), SmtpFailure> {
        let plain = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        let secured = timeout(self.step_timeout, trust.connect(plain)).await;
        self.stream = Box::new(self.step_result(what, self.step_timeout, secured)?);
        Ok(())
    }

    /// Sends QUIT if the server can take it, and closes the connection and TLS. Failures here do not change the result of
    /// the email.
    pub(super) async fn close(mut self) {
        if self.usable {
            let _ = timeout(QUIT_TIMEOUT, self.exchange("QUIT")).await;
        }
        let _ = timeout(QUIT_TIMEOUT, self.stream.shutdown()).await;
    }

    async fn exchange(&mut self, line: &str) -> io::Result<SmtpReply> {
        self.write(format!("{line}\r\n").as_bytes()).await?;
        self.read().await
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    async fn read(&mut self) -> io::Result<SmtpReply> {
        let mut partial = PartialReply::default();
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                let line = line.strip_suffix(b"\r\n").or(line.strip_suffix(b"\n")).unwrap_or(&line);
                if let Some(reply) = partial.add(line)? {
                    return Ok(reply);
                }
            } else if self.unread.len() > MAX_LINE_BYTES {
                return Err(too_long());
            } else if self.stream.read_buf(&mut self.unread).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
            }
        }
    }

    /// Returns the result of a step, with failures in words.
    fn step_result<T>(
        &mut self,
        what: &str,
        limit: Duration,
        done: Result<io::Result<T>, Elapsed>,
    ) -> Result<T, SmtpFailure> {
        let (cause, problem) = match done {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => {
                let cause = if tls::is_no_tls(&error) { SmtpFailureCause::NoTls } else { SmtpFailureCause::Other };
                (cause, format!("{what} failed: {error}"))
            }
            Err(_) => (SmtpFailureCause::NoAnswer, format!("{what}: no answer within {limit:?}")),
        };
        self.usable = false;
        Err(SmtpFailure { cause, ..SmtpFailure::transient(format!("{}: {problem}", self.server)) })
    }
}

/// Returns the message in the form for DATA: a further dot in front of lines that begin with one, and a line with a single
/// dot at the end.
fn dot_stuffed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 64);
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    if !out.is_empty() && !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_dots_are_doubled_and_the_message_ends_with_a_dot() {
        for (message, expected) in [
            ("a\r\n", "a\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            (".\r\n..\r\n.x y.\r\n", "..\r\n...\r\n..x y.\r\n.\r\n"),
            ("a\n.\nb\r\n", "a\n..\nb\r\n.\r\n"),
            ("", ".\r\n"),
        ] {
            assert_eq!(String::from_utf8_lossy(&dot_stuffed(message.as_bytes())), expected, "{message:?}");
        }
    }
}
