//! Sending one email over SMTP (RFC 5321): connect, greet, secure, log in, and one transaction that continues after a
//! rejected recipient.
//!
//! This module knows nothing of alerts: its input is addresses and bytes. Each step has a file: `dial` connects,
//! `greeting` says EHLO, `tls` secures the `connection`, `auth` logs in, `transaction` sends. The SMTP client of
//! the library that composes emails is not used: it rejects replies without text and old forms of AUTH, does not support
//! SIZE, tries addresses one after the other, and limits only the time to connect.
//!
//! Time limits: each step (a command and its whole reply) has one, and the number of steps is bounded by the number of
//! recipients and the length of the message, so that a slow server cannot hold up a worker forever. Only the reply to the
//! end of the message may take longer.

mod auth;
mod connection;
mod dial;
mod extensions;
mod greeting;
mod reply;
mod tls;
mod transaction;

use std::collections::HashSet;
use std::time::Duration;

use lettre::Address;

pub(crate) use auth::SmtpLogin;
use connection::SmtpConnection;
use extensions::SmtpExtensions;
use reply::SmtpReply;
pub(crate) use tls::TlsTrust;
pub(crate) use transaction::AllowedContent;

use crate::notify::RecipientRefusal;

/// Encryption of the connection.
#[derive(Clone)]
pub(crate) enum SmtpSecurity {
    /// TLS from the first byte.
    Implicit(TlsTrust),
    /// Plaintext, then STARTTLS, which the server must offer.
    Starttls(TlsTrust),
    /// Plaintext without encryption.
    Plain,
}

/// A mail server and the options of the conversation.
pub(crate) struct SmtpServer {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) security: SmtpSecurity,
    /// Name in EHLO; `None` means a name that is determined for each connection.
    pub(crate) hello: Option<String>,
    /// Timeout of one step.
    pub(crate) timeout: Duration,
}

/// An email and its envelope.
#[derive(Clone, Copy)]
pub(crate) struct SmtpMessage<'a> {
    pub(crate) from: &'a Address,
    pub(crate) to: &'a [Address],
    /// Renders the message with the content that the server allows.
    pub(crate) render: &'a (dyn Fn(AllowedContent) -> Result<Vec<u8>, String> + Send + Sync),
    /// True if the message has pictures. Without them it has the same content in fewer octets.
    pub(crate) pictures: bool,
}

/// Replies of the server for each recipient.
#[derive(Debug, Default)]
pub(crate) struct RecipientResults {
    pub(crate) accepted: usize,
    pub(crate) deferred: Vec<RecipientRefusal>,
    pub(crate) refused: Vec<RecipientRefusal>,
}

impl RecipientResults {
    /// Removes the accepted recipients of `all` from the results, and returns them.
    fn take_accepted(&mut self, all: &[Address]) -> Vec<Address> {
        self.accepted = 0;
        let others: HashSet<&str> =
            self.deferred.iter().chain(&self.refused).map(|refusal| refusal.recipient.as_str()).collect();
        all.iter().filter(|address| !others.contains(AsRef::<str>::as_ref(address))).cloned().collect()
    }
}

/// A failed attempt to send an email.
#[derive(Debug)]
pub(crate) struct SmtpFailure {
    pub(crate) permanent: bool,
    pub(crate) reason: String,
    /// True if the server rejected the login.
    pub(crate) login_refused: bool,
    cause: SmtpFailureCause,
}

/// Causes of a failure that need special handling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SmtpFailureCause {
    /// A smaller message may be accepted.
    TooLarge,
    /// The server may accept the message for fewer recipients.
    TooMany,
    /// The server did not reply in time.
    NoAnswer,
    /// The server answered a TLS handshake with something else.
    NoTls,
    Other,
}

impl SmtpFailure {
    fn transient(reason: impl Into<String>) -> Self {
        Self { permanent: false, reason: reason.into(), login_refused: false, cause: SmtpFailureCause::Other }
    }

    fn permanent(reason: impl Into<String>) -> Self {
        Self { permanent: true, ..Self::transient(reason) }
    }

    /// Returns the failure of a negative or unexpected reply. It is permanent exactly if the reply is 5xx.
    fn replied(reply: &SmtpReply, to: &str) -> Self {
        Self {
            permanent: reply.is_permanent(),
            cause: if reply.is_about_size() { SmtpFailureCause::TooLarge } else { SmtpFailureCause::Other },
            ..Self::transient(reply.refusal(to, ""))
        }
    }

    /// Adds advice to the reason, if the failure has this cause.
    fn with_hint(self, cause: SmtpFailureCause, hint: &str) -> Self {
        let reason = if self.cause == cause { format!("{} ({hint})", self.reason) } else { self.reason };
        Self { reason, ..self }
    }
}

impl SmtpServer {
    /// Logs in and sends one email to all its recipients in one transaction. The replies for the recipients are in
    /// `outcome`, also if the conversation fails later.
    pub(crate) async fn deliver(
        &self,
        login: Option<&SmtpLogin>,
        mail: SmtpMessage<'_>,
        outcome: &mut RecipientResults,
    ) -> Result<(), SmtpFailure> {
        match self.attempt(login, mail, outcome).await {
            Err(failure) if failure.cause == SmtpFailureCause::TooLarge && mail.pictures => {
                *outcome = RecipientResults::default();
                self.attempt(login, SmtpMessage { pictures: false, ..mail }, outcome).await
            }
            Err(failure) if failure.cause == SmtpFailureCause::TooMany => {
                let to = outcome.take_accepted(mail.to);
                self.attempt(login, SmtpMessage { to: &to, ..mail }, outcome).await
            }
            sent => sent,
        }
    }

    async fn attempt(
        &self,
        login: Option<&SmtpLogin>,
        mail: SmtpMessage<'_>,
        outcome: &mut RecipientResults,
    ) -> Result<(), SmtpFailure> {
        let mut connection = SmtpConnection::open(&self.host, self.port, self.timeout).await?;
        let sent = self.run_session(&mut connection, login, mail, outcome).await;
        let mut closing = Box::pin(connection.close());
        if sent.is_err() {
            closing.await;
        } else if futures_util::poll!(&mut closing).is_pending() {
            // QUIT has been sent and the email is accepted. A slow reply to QUIT must not cause a repeat.
            tokio::spawn(closing);
        }
        sent
    }

    async fn run_session(
        &self,
        connection: &mut SmtpConnection,
        login: Option<&SmtpLogin>,
        mail: SmtpMessage<'_>,
        outcome: &mut RecipientResults,
    ) -> Result<(), SmtpFailure> {
        let name = self.hello.clone().unwrap_or_else(|| greeting::default_name(connection.local()));
        let extensions = self.negotiate(connection, &name).await?;
        if let Some(login) = login {
            auth::log_in(connection, &extensions, login).await?;
        }
        transaction::send(connection, &extensions, &name, mail, outcome).await
    }

    /// Greets the server and returns its extensions, over TLS if required.
    async fn negotiate(&self, connection: &mut SmtpConnection, name: &str) -> Result<SmtpExtensions, SmtpFailure> {
        if let SmtpSecurity::Implicit(trust) = &self.security {
            let hint = "set `tls: starttls` if this port begins in the clear, as 587 does";
            connection
                .secure(trust, "TLS")
                .await
                .map_err(|failure| failure.with_hint(SmtpFailureCause::NoTls, hint))?;
        }
        let hint = match &self.security {
            SmtpSecurity::Implicit(_) => None,
            SmtpSecurity::Starttls(_) | SmtpSecurity::Plain => {
                Some("set `tls: implicit` if this port expects TLS from the start, as 465 does")
            }
        };
        let first_reply = connection.read_greeting().await;
        let first_reply = first_reply.map_err(|failure| match hint {
            Some(hint) => failure.with_hint(SmtpFailureCause::NoAnswer, hint),
            None => failure,
        })?;
        if !first_reply.is_completed() {
            return Err(SmtpFailure::replied(&first_reply, "the connection"));
        }
        let extensions = greeting::greet(connection, name).await?;
        let SmtpSecurity::Starttls(trust) = &self.security else { return Ok(extensions) };
        if !extensions.starttls {
            let reason = format!("{} does not offer STARTTLS{}", connection.server(), extensions.ehlo_refusal_note());
            return Err(SmtpFailure::transient(reason));
        }
        // Plaintext replies before STARTTLS may be forged, so they are treated as transient.
        connection.starttls(trust).await.map_err(|failure| SmtpFailure { permanent: false, ..failure })?;
        greeting::greet(connection, name).await
    }
}

#[cfg(test)]
mod tests;
