//! One SMTP conversation: connect, greet, secure, log in, and one transaction that goes on after a refused recipient.
//!
//! Knows nothing of alerts: it is given addresses and bytes. Every step has a time limit of its own (the library's covers
//! only the TCP connect), and the whole conversation has one too: a server that accepts and never greets holds nobody up.

use std::fmt::Write as _;
use std::future::Future;
use std::time::Duration;

use futures_util::FutureExt as _;
use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Auth, Data, Mail, Noop, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::response::Severity;

use super::Refusal;

/// The whole conversation takes at most so many times the limit of one step.
const STEPS: u32 = 6;
/// How long a server may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// How the connection is secured.
#[derive(Clone)]
pub(super) enum Channel {
    /// TLS from the first byte.
    Implicit(TlsParameters),
    /// STARTTLS, which the server must offer.
    Starttls(TlsParameters),
    /// Plain.
    Plain,
}

/// How the server learns who is talking.
pub(super) enum Login {
    /// By a password.
    Password(Credentials),
    /// By a token in the password's place (XOAUTH2).
    Token(Credentials),
}

/// A server and how to talk to it.
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) channel: Channel,
    /// Longest wait for one step.
    pub(super) timeout: Duration,
}

/// What the server said to the recipients.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) accepted: usize,
    pub(super) deferred: Vec<Refusal>,
    pub(super) refused: Vec<Refusal>,
}

/// The conversation led nowhere.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) permanent: bool,
    pub(super) reason: String,
    /// The server did not take the login, for good.
    pub(super) login_refused: bool,
    /// The server has fallen silent: it will not say goodbye either.
    silent: bool,
}

impl Failure {
    fn transient(reason: impl Into<String>) -> Self {
        Self { permanent: false, reason: reason.into(), login_refused: false, silent: false }
    }

    fn permanent(reason: impl Into<String>) -> Self {
        Self { permanent: true, reason: reason.into(), login_refused: false, silent: false }
    }
}

impl Server {
    /// Logs in and sends one message to all of `to` in one transaction. `render` makes the message, and is told whether it may hold
    /// addresses beyond ASCII. What became of the recipients is in `outcome`, also when the conversation fails later.
    pub(super) async fn deliver(
        &self,
        login: Option<&Login>,
        from: &Address,
        to: &[Address],
        render: impl FnOnce(bool) -> Result<Vec<u8>, String> + Send,
        outcome: &mut Outcome,
    ) -> Result<(), Failure> {
        let whole = self.timeout.saturating_mul(STEPS);
        let conversation = async {
            let mut connection = self.open().await?;
            if let Some(login) = login {
                self.log_in(&mut connection, login).await?;
            }
            let sent = self.transaction(&mut connection, from, to, render, outcome).await;
            Ok((connection, sent))
        };
        let (mut connection, sent) = tokio::time::timeout(whole, conversation).await.map_err(|_| {
            Failure::transient(format!("the conversation with {}:{} took longer than {whole:?}", self.host, self.port))
        })??;
        // The server has answered for the message: whatever comes of the goodbye changes nothing.
        if !sent.as_ref().is_err_and(|failure| failure.silent) {
            let _ = tokio::time::timeout(GOODBYE, connection.quit()).await;
        }
        sent
    }

    async fn open(&self) -> Result<AsyncSmtpConnection, Failure> {
        let hello = ClientId::default();
        let implicit = match &self.channel {
            Channel::Implicit(tls) => Some(tls.clone()),
            Channel::Starttls(_) | Channel::Plain => None,
        };
        // Half the time for one address leaves the rest for another: a dead IPv6 route must not hide a live IPv4 one.
        let address = (self.host.as_str(), self.port);
        let connect = AsyncSmtpConnection::connect_tokio1(address, Some(self.timeout / 2), &hello, implicit, None);
        let mut connection = self.step("connecting", connect).await?;
        if let Channel::Starttls(tls) = &self.channel {
            if !connection.can_starttls() {
                return Err(Failure::transient(format!("{}:{} does not offer STARTTLS", self.host, self.port)));
            }
            // What is said in the clear is nobody's last word: somebody on the way may have said it.
            let secured = self.step("STARTTLS", connection.starttls(tls.clone(), &hello)).await;
            secured.map_err(|failure| Failure { permanent: false, ..failure })?;
            self.in_step(&mut connection).await?;
        }
        Ok(connection)
    }

    /// The library keeps what came in the clear behind the go-ahead: replies to commands that are yet to be sent, put there
    /// by somebody on the way. Several of them still wait; a lone one was taken for the reply to EHLO, so that the real one,
    /// of several lines, is now taken for what comes next.
    async fn in_step(&self, connection: &mut AsyncSmtpConnection) -> Result<(), Failure> {
        let waits = connection.read_response().now_or_never().is_some();
        let next = if waits { None } else { self.step("NOOP", connection.command(Noop)).await.ok() };
        if waits || next.is_some_and(|reply| reply.message().count() > 1) {
            let reason = format!("{}:{} answered before it was asked, at STARTTLS", self.host, self.port);
            return Err(Failure::transient(reason));
        }
        Ok(())
    }

    async fn log_in(&self, connection: &mut AsyncSmtpConnection, login: &Login) -> Result<(), Failure> {
        let done = match login {
            Login::Password(credentials) => {
                let mechanisms = [Mechanism::Plain, Mechanism::Login];
                self.step("logging in", connection.auth(&mechanisms, credentials)).await.map(|_| ())
            }
            Login::Token(credentials) => self.log_in_by_token(connection, credentials).await,
        };
        done.map_err(|failure| Failure { login_refused: failure.login_refused || failure.permanent, ..failure })
    }

    /// The library takes no challenge here, but a server that refuses a token may say why in one, and waits for an empty
    /// line before it refuses.
    async fn log_in_by_token(
        &self,
        connection: &mut AsyncSmtpConnection,
        credentials: &Credentials,
    ) -> Result<(), Failure> {
        if !connection.server_info().supports_auth_mechanism(Mechanism::Xoauth2) {
            return Err(Failure::transient(format!("{}:{} does not offer XOAUTH2", self.host, self.port)));
        }
        let auth = Auth::new(Mechanism::Xoauth2, credentials.clone(), None);
        let auth = auth.map_err(|error| self.failure(&error, "logging in"))?;
        let answer = self.step("logging in", connection.command(auth)).await?;
        if answer.code().severity != Severity::PositiveIntermediate {
            return Ok(());
        }
        let said = self.step("logging in", connection.command("\r\n")).await;
        let strange = |code| Failure::transient(format!("the server answered the login with {code}"));
        let failure = said.map_or_else(|failure| failure, |answer| strange(answer.code()));
        Err(Failure { login_refused: true, ..failure })
    }

    async fn transaction(
        &self,
        connection: &mut AsyncSmtpConnection,
        from: &Address,
        to: &[Address],
        render: impl FnOnce(bool) -> Result<Vec<u8>, String> + Send,
        outcome: &mut Outcome,
    ) -> Result<(), Failure> {
        let utf8 = connection.server_info().supports_feature(Extension::SmtpUtfEight);
        if !utf8 && !is_ascii(from) {
            return Err(Failure::permanent(format!("the server takes no address like {from}: it lacks SMTPUTF8")));
        }
        let message = render(utf8).map_err(Failure::permanent)?;
        let mut parameters = Vec::new();
        if utf8 && !(is_ascii(from) && to.iter().all(is_ascii)) {
            parameters.push(MailParameter::SmtpUtfEight);
        }
        if !message.is_ascii() {
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        self.step("MAIL", connection.command(Mail::new(Some(from.clone()), parameters))).await?;
        for recipient in to {
            self.recipient(connection, recipient, utf8, outcome).await?;
        }
        if outcome.accepted == 0 {
            return Ok(());
        }
        let ready = self.step("DATA", connection.command(Data)).await?;
        if ready.code().severity != Severity::PositiveIntermediate {
            return Err(Failure::transient(format!("the server answered DATA with {}", ready.code())));
        }
        let taken = self.step("sending the message", connection.message(&message)).await?;
        if taken.code().severity != Severity::PositiveCompletion {
            return Err(Failure::transient(format!("the server answered the message with {}", taken.code())));
        }
        Ok(())
    }

    /// Offers one recipient. A refusal is noted and the transaction goes on; only a broken connection ends it.
    async fn recipient(
        &self,
        connection: &mut AsyncSmtpConnection,
        recipient: &Address,
        utf8: bool,
        outcome: &mut Outcome,
    ) -> Result<(), Failure> {
        let refusal = |reason| Refusal { recipient: recipient.to_string(), reason };
        if !utf8 && !is_ascii(recipient) {
            outcome.refused.push(refusal("the server takes no such address: it lacks SMTPUTF8".to_owned()));
            return Ok(());
        }
        let command = connection.command(Rcpt::new(recipient.clone(), Vec::new()));
        match tokio::time::timeout(self.timeout, command).await {
            Err(_) => return Err(self.timed_out("RCPT")),
            Ok(Ok(_)) => outcome.accepted += 1,
            Ok(Err(error)) if error.is_permanent() => outcome.refused.push(refusal(self.words(&error, "RCPT"))),
            Ok(Err(error)) if error.is_transient() => outcome.deferred.push(refusal(self.words(&error, "RCPT"))),
            Ok(Err(error)) => return Err(self.failure(&error, "RCPT")),
        }
        Ok(())
    }

    async fn step<T>(&self, what: &str, step: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
        match tokio::time::timeout(self.timeout, step).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(self.failure(&error, what)),
            Err(_) => Err(self.timed_out(what)),
        }
    }

    fn timed_out(&self, what: &str) -> Failure {
        let reason = format!("{}:{}: {what}: no answer within {:?}", self.host, self.port, self.timeout);
        Failure { silent: true, ..Failure::transient(reason) }
    }

    /// Only the server's own 5xx is final: a broken connection, certificate or reply may be another one next time.
    fn failure(&self, error: &Error, what: &str) -> Failure {
        Failure { permanent: error.is_permanent(), ..Failure::transient(self.words(error, what)) }
    }

    /// The server's words, or what broke.
    fn words(&self, error: &Error, what: &str) -> String {
        let source = std::error::Error::source(error);
        if let Some(code) = error.status() {
            let said = source.map(ToString::to_string).unwrap_or_default();
            return format!("the mail server answered {code} to {what}: {said}");
        }
        let mut reason = format!("{}:{}: {what} failed", self.host, self.port);
        let mut cause = source.or(Some(error));
        while let Some(error) = cause {
            // Writing to a string cannot fail.
            let _ = write!(reason, ": {error}");
            cause = error.source();
        }
        reason
    }
}

fn is_ascii(address: &Address) -> bool {
    AsRef::<str>::as_ref(address).is_ascii()
}
