//! E-mail: one message in one transaction to everybody who is still to be reached.
//!
//! Puts the mail together and judges what the server said; the words are `render::mail`'s, the conversation `smtp`'s.

pub(crate) mod address;
pub(crate) mod html;
pub mod oauth2;
pub mod rendering;
pub(crate) mod report;
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
use crate::notify::message::template::Templates;
use crate::notify::message::{ChartPicture, custom_templates};
use crate::notify::{Delivered, Message, MessageContext, MessagePreview, Notifier, RecipientRefusal, SendError};
use crate::util::secret::{Redactor, Secret};

/// As many threads as a mail names: servers refuse or cut mails whose headers are too large.
const MAX_REFERENCES: usize = 50;
/// Longer than any Message-ID of ours, and short enough for a header's line.
const MAX_REFERENCE_BYTES: usize = 400;

/// How the connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// TLS from the first byte.
    Implicit,
    /// Plain, then STARTTLS, which the server must offer.
    Starttls,
    /// Plain.
    None,
}

/// Where and how mail is sent.
#[derive(Debug, Clone)]
pub struct EmailOptions {
    /// The server's name, which its certificate must bear.
    pub host: String,
    /// The server's port.
    pub port: u16,
    /// How the connection is secured.
    pub tls: SmtpTls,
    /// User name and password, if the server wants them.
    pub credentials: Option<(String, Secret)>,
    /// The sender.
    pub from: Mailbox,
    /// The recipients.
    pub to: Vec<Mailbox>,
    /// PEM certificates to trust beside the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// Longest wait for one step of the conversation; the reply to the end of the message may take ten minutes.
    pub timeout: Duration,
}

/// The options make no notifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("TLS towards {host} cannot be set up: {problem}")]
pub struct TlsError {
    host: String,
    problem: String,
}

/// Somebody who gets the mail.
#[derive(Debug)]
struct Recipient {
    /// The address as the configuration writes it, for the log and the state.
    written: String,
    /// The same with its domain in ASCII, for the server.
    mailbox: Mailbox,
}

/// Mail over SMTP.
pub struct EmailNotifier {
    server: SmtpServer,
    credentials: Option<(String, Secret)>,
    tokens: Option<TokenSource>,
    from: Mailbox,
    to: Vec<Recipient>,
    context: Arc<MessageContext>,
    redactor: Redactor,
    /// Its name in the configuration, for the log, and its own texts.
    name_and_templates: (Name, Templates),
}

impl std::fmt::Debug for EmailNotifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The server's credentials are nobody's to see.
        f.debug_struct("Email").field("from", &self.from).field("to", &self.to).finish_non_exhaustive()
    }
}

impl EmailNotifier {
    /// A notifier that sends through this server. Fails only where the certificates to trust cannot be read.
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

    /// The same, but it logs in by a token instead of a password.
    #[must_use]
    pub fn with_oauth2(self, tokens: TokenSource) -> Self {
        Self { tokens: Some(tokens), ..self }
    }

    /// The same, but it gives this name in EHLO; `None`: the host's name if it has a dot, else its address.
    #[must_use]
    pub fn with_hello(mut self, hello: Option<String>) -> Self {
        self.server.hello = hello;
        self
    }

    /// How to log in now, and whether a refusal of it says anything: a token that was kept may have been revoked.
    async fn login(&self, now: Time) -> Result<(Option<SmtpLogin>, bool), SendError> {
        let Some(tokens) = &self.tokens else {
            let login = self.credentials.clone().map(|(user, password)| SmtpLogin::Password(user, password));
            return Ok((login, true));
        };
        let token = tokens.token(now).await?;
        Ok((Some(SmtpLogin::Token(tokens.user().to_owned(), token.secret)), token.fresh))
    }

    /// With texts of its own. The name is for the log.
    #[must_use]
    pub fn with_templates(self, name: &Name, templates: Templates) -> Self {
        Self { name_and_templates: (name.clone(), templates), ..self }
    }

    fn parts(&self, message: &Message) -> rendering::RenderedEmail {
        let (parts, failures) = custom_templates::email(message, &self.context, &self.name_and_templates.1);
        for failure in failures {
            tracing::warn!(notifier = %self.name_and_templates.0, %failure, "template failed: the built-in text is used");
        }
        parts
    }

    /// Stable for the same notification, and shaped as headers have it.
    fn message_id(&self, message: &Message) -> String {
        format!("<{}@{}>", message.id, self.from.email.domain())
    }

    /// The whole mail as it is sent. Public for `fuzz/` and `tests/it/fuzz_corpus.rs` alone.
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
        let failed = |error: &dyn std::error::Error| format!("the mail cannot be put together: {error}");
        // The library wants an envelope; the conversation has its own.
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

    /// Who is still to be reached, and who is no longer anybody's to reach.
    fn remaining_addresses(&self, only: Option<&[String]>) -> (Vec<Address>, Vec<RecipientRefusal>) {
        let all = || self.to.iter().map(|it| it.mailbox.email.clone());
        let Some(only) = only else { return (all().collect(), Vec::new()) };
        // The configuration may write a domain in another way than when the mail was first sent.
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

    /// Returns an address that the server was given as the configuration writes it.
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

    /// Nobody was accepted: again later if anybody was only deferred.
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
            // Others had this message; those it was still owed to have left the configuration.
            return Ok(Delivered { refused: gone, ..Delivered::default() });
        }
        let mut outcome = RecipientResults::default();
        let parts = self.parts(message);
        let pictures = parts.pictures.clone();
        // A mail without its pictures still says it all in words.
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

/// The PNG of each picture, by its Content-ID. One that cannot be drawn is left out: its words stand in its place.
fn rendered_images(pictures: &[ChartPicture]) -> Vec<(String, Vec<u8>)> {
    let draw = |picture: &ChartPicture| match picture.png() {
        Ok(png) => Some((picture.id.clone(), png)),
        Err(error) => {
            tracing::warn!(%error, "a mail goes without its picture");
            None
        }
    };
    pictures.iter().filter_map(draw).collect()
}

/// Text or HTML, whichever the reader's program shows, and what the HTML shows inline.
fn body(text: String, html: String, pictures: Vec<(String, Vec<u8>)>) -> MultiPart {
    // A type that is none would be a mistake of this file: such a picture is left out.
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

/// The mailbox with its domain in ASCII; the configuration refuses a domain that IDNA cannot encode.
fn with_ascii_domain(mailbox: Mailbox) -> Mailbox {
    let email = address::ascii_domain(&mailbox.email).unwrap_or(mailbox.email);
    Mailbox { email, ..mailbox }
}

fn is_ascii(address: &Address) -> bool {
    AsRef::<str>::as_ref(address).is_ascii()
}

/// A Message-ID with its angle brackets; nothing that could be more than one.
fn reference(id: &str) -> Option<String> {
    let bare = id.trim().trim_start_matches('<').trim_end_matches('>');
    let is_valid = (1..=MAX_REFERENCE_BYTES).contains(&bare.len())
        && bare.chars().all(|c| c.is_ascii_graphic() && c != '<' && c != '>');
    is_valid.then(|| format!("<{bare}>"))
}

/// `Auto-Submitted: auto-generated`: no vacation notice answers an alert.
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
