//! Telling people: the trait that every channel implements, and what it is given and gives back.
//!
//! A notifier sends once and reports; when to try again, and who else to try, is the outbox's business.

pub mod channels;
pub mod delivery;
pub mod message;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono_tz::Tz;
use sha2::{Digest, Sha256};

use crate::domain::event::Event;
use crate::domain::{Name, Time};

/// One channel to people.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Sends one message, once, within the notifier's timeout.
    async fn send(&self, message: &Message) -> Result<Delivered, SendError>;

    /// Whether every event is a request of its own. Such a notifier is given one event at a time, so that what was
    /// taken is never repeated because of what was not.
    fn one_event_per_request(&self) -> bool {
        false
    }

    /// The recipients of one message, where each is accepted or refused on its own: those that are refused for the
    /// moment are retried alone, by these names. Empty where a message is accepted as a whole.
    fn recipients(&self) -> Vec<String> {
        Vec::new()
    }

    /// What [`send`](Self::send) would send, made by the same functions, without secrets; nothing is sent. Empty where
    /// it would send nothing.
    fn preview(&self, message: &Message) -> MessagePreview {
        let _ = message;
        MessagePreview::default()
    }
}

/// What a message looks like on one channel; each part where the channel has such a thing.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct MessagePreview {
    /// A mail's subject.
    pub subject: Option<String>,
    /// Plain text: of a mail, or the line that a chat's notification shows.
    pub text: Option<String>,
    /// A mail's HTML.
    pub html: Option<String>,
    /// What the HTML shows by `cid:` and a key of this: the picture as a `data:` address.
    pub pictures: BTreeMap<String, String>,
    /// The body of the request; a list of them where there are several.
    pub body: Option<serde_json::Value>,
}

impl MessagePreview {
    /// Nothing but requests with these bodies.
    fn of_requests(mut bodies: Vec<serde_json::Value>) -> Self {
        let body = if bodies.len() > 1 { Some(bodies.into()) } else { bodies.pop() };
        Self { body, ..Self::default() }
    }
}

/// One message to one notifier.
#[derive(Debug, Clone)]
pub struct Message {
    /// Stable for the same notification: a hash of the notifier and the events' ids; the stem of an e-mail's
    /// Message-ID.
    pub id: String,
    /// When it is sent.
    pub at: Time,
    /// What it says.
    pub content: MessageContent,
    /// Message-IDs of the first messages of the alerts in it, for threading; empty for first messages.
    pub references: Vec<String>,
    /// Recipients that are still to be reached; `None`: all of the notifier's.
    pub remaining_recipients: Option<Vec<String>>,
}

impl Message {
    /// A message an event, each with an id that only its event decides: a test keeps its own.
    pub(crate) fn split_by_event(&self) -> Vec<Message> {
        match &self.content {
            MessageContent::Test { .. } => vec![self.clone()],
            MessageContent::Events(items) => items
                .iter()
                .map(|item| Message {
                    id: format!("evt_{}", digest([&item.event.id])),
                    content: MessageContent::Events(vec![item.clone()]),
                    ..self.clone()
                })
                .collect(),
        }
    }
}

/// Short, and the same for the same texts.
fn digest(texts: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut hash = Sha256::new();
    for (n, text) in texts.into_iter().enumerate() {
        if n > 0 {
            hash.update([0]);
        }
        hash.update(text.as_ref());
    }
    hash.finalize().iter().take(16).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// What a message says.
#[derive(Debug, Clone)]
pub enum MessageContent {
    /// Everything that is owed, oldest first.
    Events(Vec<MessageEvent>),
    /// A test, unmistakably.
    Test {
        /// The notifier that is tested.
        notifier: Name,
    },
}

/// One owed event.
#[derive(Debug, Clone)]
pub struct MessageEvent {
    /// The event.
    pub event: Arc<Event>,
    /// Events of the same alert between the one before and this one that were dropped to keep what is owed bounded.
    pub omitted: u32,
    /// Set when this notifier is told in place of another that fails.
    pub in_place_of: Option<FallbackOrigin>,
}

/// In place of whom a fallback is told.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FallbackOrigin {
    /// The notifier that could not deliver.
    pub notifier: Name,
    /// Its last failure, for people.
    pub error: String,
}

/// What became of a message that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delivered {
    /// The Message-ID, where the channel has such a thing.
    pub message_id: Option<String>,
    /// Recipients refused for the moment: to be retried alone.
    pub deferred: Vec<RecipientRefusal>,
    /// Recipients refused for good: reported, not retried.
    pub refused: Vec<RecipientRefusal>,
}

/// One recipient that the server did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientRefusal {
    /// The address.
    pub recipient: String,
    /// The server's words, free of secrets.
    pub reason: String,
}

/// Longest pause that a server may ask for; a longer one is considered a mistake.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Nobody was reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct SendError {
    /// Whether trying again can help.
    pub permanent: bool,
    /// For people, free of secrets.
    pub reason: String,
    /// How long the server asked to wait.
    pub retry_after: Option<Duration>,
    /// Recipients refused for good while others may still be reached by a retry (only where `permanent` is false).
    pub refused: Vec<RecipientRefusal>,
}

/// What messages say beside the events' own figures; from the configuration.
#[derive(Debug, Clone)]
pub struct MessageContext {
    /// The zone of every time in a message.
    pub timezone: Tz,
    /// Description and link, by rule.
    pub rules: BTreeMap<Name, RuleTexts>,
    /// What the deposit link opens, by account.
    pub console_urls: BTreeMap<Name, String>,
}

/// What a rule adds to its messages.
#[derive(Debug, Clone, Default)]
pub struct RuleTexts {
    /// Shown in every message.
    pub description: Option<String>,
    /// Shown in every message.
    pub link: Option<String>,
}
