//! Email notifier: one message in one SMTP transaction to all recipients that have not been reached yet.
//!
//! This file composes the email and interprets the server's replies. [`rendering`] writes the text and HTML, [`smtp`] has
//! the conversation with the server.

pub(crate) mod address;
pub(crate) mod custom;
pub(crate) mod html;
pub mod oauth2;
pub mod rendering;
pub mod smtp;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use lettre::address::Envelope;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};
use lettre::{Address, Message as Mail};

use super::http::sanitize_reason;
use crate::domain::{Name, Time};
use crate::notify::channels::email::oauth2::TokenSource;
use crate::notify::channels::email::smtp::{
    AllowedContent, RecipientResults, SmtpLogin, SmtpSecurity, SmtpServer, TlsTrust,
};
use crate::notify::message::ChartPicture;
use crate::notify::message::template::Templates;
use crate::notify::{Delivered, Message, MessageContext, MessagePreview, Notifier, RecipientRefusal, SendError};
use crate::util::secret::{Redactor, Secret};

/// Maximum number of references in an email. Servers reject or cut emails with very large headers.
const MAX_REFERENCES: usize = 50;
/// Maximum length of a reference: longer than our own Message-IDs, and short enough for a line of a header.
const MAX_REFERENCE_BYTES: usize = 400;

/// Encryption of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// TLS from the first byte.
    Implicit,
    /// Plaintext, then STARTTLS, which the server must offer.
    Starttls,
    /// Plaintext without encryption.
    None,
}

/// Options of an email notifier.
#[derive(Debug, Clone)]
pub struct EmailOptions {
    /// Name of the server, which its certificate must contain.
    pub host: String,
    /// Port of the server.
    pub port: u16,
    /// Encryption of the connection.
    pub tls: SmtpTls,
    /// User name and password, if the server requires a login.
    pub credentials: Option<(String, Secret)>,
    /// Sender of the emails.
    pub from: Mailbox,
    /// Recipients of every email.
    pub to: Vec<Mailbox>,
    /// PEM certificates to trust in addition to the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// Timeout of one step of the conversation. The reply to the end of the message may take ten minutes.
    pub timeout: Duration,
}

/// TLS options that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot set up TLS to {host}: {problem}")]
pub struct TlsError {
    host: String,
    problem: String,
}

/// A recipient of emails.
#[derive(Debug)]
struct Recipient {
    /// Address as written in the configuration, for the log and the state.
    written: String,
    /// Mailbox with its domain in ASCII, for the server.
    mailbox: Mailbox,
}

/// Notifier that sends emails over SMTP.
pub struct EmailNotifier {
    server: SmtpServer,
    credentials: Option<(String, Secret)>,
    tokens: Option<TokenSource>,
    from: Mailbox,
    to: Vec<Recipient>,
    context: Arc<MessageContext>,
    redactor: Redactor,
    /// Name in the configuration, for the log, and custom templates.
    name_and_templates: (Name, Templates),
}

impl std::fmt::Debug for EmailNotifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The server's credentials must not be shown.
        f.debug_struct("Email").field("from", &self.from).field("to", &self.to).finish_non_exhaustive()
    }
}

impl EmailNotifier {
    /// Creates a notifier that sends through this server. Fails only if the certificates to trust cannot be read.
    pub fn new(options: EmailOptions, context: Arc<MessageContext>, redactor: Redactor) -> Result<Self, TlsError> {
        let channel = match options.tls {
            SmtpTls::Implicit => SmtpSecurity::Implicit(trust(&options)?),
            SmtpTls::Starttls => SmtpSecurity::Starttls(trust(&options)?),
            SmtpTls::None => SmtpSecurity::Plain,
        };
        let EmailOptions { host, port, credentials, from, to, timeout, .. } = options;
        let server = SmtpServer { host, port, security: channel, hello: None, timeout };
        let name_and_templates = (Name::from(""), Templates::default());
        let from = with_ascii_domain(from);
        let recipient = |it: Mailbox| Recipient { written: it.email.to_string(), mailbox: with_ascii_domain(it) };
        let to = to.into_iter().map(recipient).collect();
        Ok(Self { server, credentials, tokens: None, from, to, context, redactor, name_and_templates })
    }

    /// Logs in with a token instead of a password.
    #[must_use]
    pub fn with_oauth2(self, tokens: TokenSource) -> Self {
        Self { tokens: Some(tokens), ..self }
    }

    /// Uses this name in EHLO. `None` means the host name if it has a dot, and otherwise the address.
    #[must_use]
    pub fn with_hello(mut self, hello: Option<String>) -> Self {
        self.server.hello = hello;
        self
    }

    /// Returns the login, and true if a rejection of it is conclusive: a cached token may have been revoked.
    async fn login(&self, now: Time) -> Result<(Option<SmtpLogin>, bool), SendError> {
        let Some(tokens) = &self.tokens else {
            let login = self.credentials.clone().map(|(user, password)| SmtpLogin::Password(user, password));
            return Ok((login, true));
        };
        let token = tokens.token(now).await?;
        Ok((Some(SmtpLogin::Token(tokens.user().to_owned(), token.secret)), token.fresh))
    }

    /// Uses these custom templates. The name is for the log.
    #[must_use]
    pub fn with_templates(self, name: &Name, templates: Templates) -> Self {
        Self { name_and_templates: (name.clone(), templates), ..self }
    }

    fn parts(&self, message: &Message) -> rendering::RenderedEmail {
        let (parts, failures) = custom::email(message, &self.context, &self.name_and_templates.1);
        for failure in failures {
            tracing::warn!(notifier = %self.name_and_templates.0, %failure, "template failed, using the built-in text");
        }
        parts
    }

    /// Returns the Message-ID, which is stable for the same notification.
    fn message_id(&self, message: &Message) -> String {
        format!("<{}@{}>", message.id, self.from.email.domain())
    }

    /// Composes the whole email as it is sent. Public only for `fuzz/` and `tests/it/fuzz_corpus.rs`.
    #[doc(hidden)]
    pub fn compose(&self, message: &Message, utf8: bool) -> Result<Vec<u8>, String> {
        let parts = self.parts(message);
        let images = rendered_images(&parts.pictures);
        self.build(message, parts, images, utf8)
    }

    fn build(
        &self,
        message: &Message,
        parts: rendering::RenderedEmail,
        images: Vec<(String, Vec<u8>)>,
        utf8: bool,
    ) -> Result<Vec<u8>, String> {
        let to = self.to.iter().map(|it| &it.mailbox).filter(|mailbox| utf8 || is_ascii(&mailbox.email));
        let failed = |error: &dyn std::error::Error| format!("cannot compose the email: {error}");
        // The library requires an envelope; the SMTP conversation uses its own.
        let envelope = Envelope::new(Some(self.from.email.clone()), vec![self.from.email.clone()]);
        let mut builder = Mail::builder()
            .envelope(envelope.map_err(|error| failed(&error))?)
            .raw_header(address::mailbox_header("From", std::iter::once(&self.from)))
            .date(SystemTime::from(message.at))
            .raw_header(address::text_header("Subject", &parts.subject))
            .message_id(Some(self.message_id(message)))
            .header(AutoSubmitted)
            .raw_header(address::mailbox_header("To", to));
        let mut references: Vec<String> = message.references.iter().filter_map(|id| reference(id)).collect();
        references.drain(..references.len().saturating_sub(MAX_REFERENCES));
        if let Some(last) = references.last() {
            builder = builder.in_reply_to(last.clone()).references(references.join(" "));
        }
        let missing = |picture: &&ChartPicture| !images.iter().any(|(id, _)| *id == picture.id);
        let html = parts
            .pictures
            .iter()
            .filter(missing)
            .fold(parts.html, |html, picture| picture.replaced_by_alternative(&html));
        let mail = builder.multipart(body(parts.text, html, images)).map_err(|error| failed(&error))?;
        Ok(mail.formatted())
    }

    /// Returns the addresses that have not been reached yet, and those that are no longer recipients.
    fn remaining_addresses(&self, only: Option<&[String]>) -> (Vec<Address>, Vec<RecipientRefusal>) {
        let all = || self.to.iter().map(|it| it.mailbox.email.clone());
        let Some(only) = only else { return (all().collect(), Vec::new()) };
        // The domain may have been written differently when the message was first sent.
        let address_of =
            |recipient: &String| recipient.parse().ok().and_then(|address| address::ascii_domain(&address));
        let requested: Vec<(&String, Option<Address>)> =
            only.iter().map(|recipient| (recipient, address_of(recipient))).collect();
        let gone = requested.iter().filter(|(_, address)| !all().any(|it| Some(it) == *address));
        let gone = gone.map(|(gone, _)| RecipientRefusal {
            recipient: (*gone).clone(),
            reason: "no longer among this notifier's recipients".to_owned(),
        });
        let left = all().filter(|it| requested.iter().any(|(_, address)| address.as_ref() == Some(it)));
        (left.collect(), gone.collect())
    }

    /// Returns an address as written in the configuration.
    fn written(&self, address: String) -> String {
        let known = self.to.iter().find(|it| AsRef::<str>::as_ref(&it.mailbox.email) == address);
        known.map_or(address, |it| it.written.clone())
    }

    fn sanitize(&self, text: &str) -> String {
        sanitize_reason(&self.redactor, text)
    }

    fn sanitize_all(&self, refusals: Vec<RecipientRefusal>) -> Vec<RecipientRefusal> {
        let sanitize = |it: RecipientRefusal| RecipientRefusal {
            recipient: self.written(it.recipient),
            reason: self.sanitize(&it.reason),
        };
        refusals.into_iter().map(sanitize).collect()
    }

    /// Returns the error if no recipient was accepted. It is permanent unless a recipient was deferred.
    fn no_recipient_error(outcome: RecipientResults) -> SendError {
        let permanent = outcome.deferred.is_empty();
        let first = outcome.deferred.iter().chain(&outcome.refused).next();
        let reason = first.map_or_else(String::new, |refusal| format!("{}: {}", refusal.recipient, refusal.reason));
        let refused = if permanent { Vec::new() } else { outcome.refused };
        SendError { permanent, reason, retry_after: None, refused }
    }
}

#[async_trait]
impl Notifier for EmailNotifier {
    async fn send(&self, message: &Message) -> Result<Delivered, SendError> {
        let (to, gone) = self.remaining_addresses(message.remaining_recipients.as_deref());
        if to.is_empty() && !gone.is_empty() {
            // Others received this message; the remaining recipients have left the configuration.
            return Ok(Delivered { refused: gone, ..Delivered::default() });
        }
        let mut outcome = RecipientResults::default();
        let parts = self.parts(message);
        let pictures = parts.pictures.clone();
        // An email without charts still has their content in words.
        let images = tokio::task::spawn_blocking(move || rendered_images(&pictures)).await.unwrap_or_default();
        let pictures = !images.is_empty();
        let render = |allowed: AllowedContent| {
            let images = if allowed.pictures { images.clone() } else { Vec::new() };
            self.build(message, parts.clone(), images, allowed.utf8)
        };
        let (login, conclusive) = self.login(message.at).await?;
        let mail = smtp::SmtpMessage { from: &self.from.email, to: &to, render: &render, pictures };
        let mut sent = self.server.deliver(login.as_ref(), mail, &mut outcome).await;
        if let (Err(failure), Some(tokens)) = (&mut sent, &self.tokens)
            && failure.login_refused
        {
            failure.permanent &= conclusive;
            tokens.discard_token().await;
        }
        outcome.refused = self.sanitize_all(outcome.refused);
        outcome.deferred = self.sanitize_all(outcome.deferred);
        outcome.refused.extend(gone);
        match sent {
            Err(failure) => {
                let refused = if failure.permanent { Vec::new() } else { outcome.refused };
                let reason = self.sanitize(&failure.reason);
                Err(SendError { permanent: failure.permanent, reason, retry_after: None, refused })
            }
            Ok(()) if outcome.accepted == 0 => Err(Self::no_recipient_error(outcome)),
            Ok(()) => Ok(Delivered {
                message_id: Some(self.message_id(message)),
                deferred: outcome.deferred,
                refused: outcome.refused,
            }),
        }
    }

    fn recipients(&self) -> Vec<String> {
        self.to.iter().map(|it| it.written.clone()).collect()
    }

    fn preview(&self, message: &Message) -> MessagePreview {
        let rendering::RenderedEmail { subject, text, html, pictures } = self.parts(message);
        let address = |picture: &ChartPicture| Some((picture.id.clone(), picture.data_url().ok()?));
        let pictures = pictures.iter().filter_map(address).collect();
        MessagePreview { subject: Some(subject), text: Some(text), html: Some(html), pictures, body: None }
    }
}

/// Draws the charts as PNG, by Content-ID. A chart that cannot be drawn is left out, and its description is shown instead.
fn rendered_images(pictures: &[ChartPicture]) -> Vec<(String, Vec<u8>)> {
    let draw = |picture: &ChartPicture| match picture.png() {
        Ok(png) => Some((picture.id.clone(), png)),
        Err(error) => {
            tracing::warn!(%error, "cannot draw the chart, sending the email without it");
            None
        }
    };
    pictures.iter().filter_map(draw).collect()
}

/// Returns the body: text and HTML as alternatives, with the charts that the HTML shows inline.
fn body(text: String, html: String, pictures: Vec<(String, Vec<u8>)>) -> MultiPart {
    // The content type is valid; if it were not, the charts would be left out.
    let (Ok(kind), false) = (ContentType::parse("image/png"), pictures.is_empty()) else {
        return MultiPart::alternative_plain_html(text, html);
    };
    let page = MultiPart::related().singlepart(SinglePart::html(html));
    let attach = |page: MultiPart, (id, png)| page.singlepart(Attachment::new_inline(id).body(png, kind.clone()));
    let page = pictures.into_iter().fold(page, attach);
    MultiPart::alternative().singlepart(SinglePart::plain(text)).multipart(page)
}

fn trust(options: &EmailOptions) -> Result<TlsTrust, TlsError> {
    let host = options.host.clone();
    TlsTrust::new(host.clone(), options.ca_pem.as_deref()).map_err(|problem| TlsError { host, problem })
}

/// Returns the mailbox with its domain in ASCII. The configuration rejects domains that IDNA cannot encode.
fn with_ascii_domain(mailbox: Mailbox) -> Mailbox {
    let email = address::ascii_domain(&mailbox.email).unwrap_or(mailbox.email);
    Mailbox { email, ..mailbox }
}

fn is_ascii(address: &Address) -> bool {
    AsRef::<str>::as_ref(address).is_ascii()
}

/// Returns a Message-ID in angle brackets. `None` if it is not exactly one id.
fn reference(id: &str) -> Option<String> {
    let bare = id.trim().trim_start_matches('<').trim_end_matches('>');
    let is_valid = (1..=MAX_REFERENCE_BYTES).contains(&bare.len())
        && bare.chars().all(|c| c.is_ascii_graphic() && c != '<' && c != '>');
    is_valid.then(|| format!("<{bare}>"))
}

/// Header `Auto-Submitted: auto-generated`, so that no vacation notice answers an alert.
#[derive(Debug, Clone, Copy)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}
