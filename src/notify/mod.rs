//! Notifications: the trait that every channel implements, the message that it is given, and the result that it returns.
//!
//! A notifier makes one attempt and reports the result. Retries and fallbacks are decided by [`delivery`].

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
use crate::util::text::hex;

/// A channel that messages are sent through.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Makes one attempt to send the message, within the notifier's timeout.
    async fn send(&self, message: &Message) -> Result<Delivered, SendError>;

    /// Returns true if each event is a request of its own. Such a notifier is given one event at a time, so that an accepted
    /// event is never repeated because another one failed.
    fn one_event_per_request(&self) -> bool {
        false
    }

    /// Returns the recipients of a message, if each of them is accepted or rejected on its own. Recipients that are rejected
    /// temporarily are retried alone, under these names. Empty if a message is accepted or rejected as a whole.
    fn recipients(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns what [`send`](Self::send) would send, without secrets and made by the same functions, and sends nothing.
    /// Empty if nothing would be sent.
    fn preview(&self, message: &Message) -> MessagePreview {
        let _ = message;
        MessagePreview::default()
    }
}

/// Appearance of a message on one channel. A part that the channel does not have is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct MessagePreview {
    /// Subject of the email.
    pub subject: Option<String>,
    /// Plain text of the email, or the line that a chat program shows in its notification.
    pub text: Option<String>,
    /// HTML part of the email.
    pub html: Option<String>,
    /// Pictures of the HTML part as `data:` addresses, by the id after `cid:`.
    pub pictures: BTreeMap<String, String>,
    /// Body of the request, or a list of bodies if there are several requests.
    pub body: Option<serde_json::Value>,
}

impl MessagePreview {
    /// Returns the preview of a channel that sends only requests with these bodies.
    fn of_requests(mut bodies: Vec<serde_json::Value>) -> Self {
        let body = if bodies.len() > 1 { Some(bodies.into()) } else { bodies.pop() };
        Self { body, ..Self::default() }
    }
}

/// A message to one notifier.
#[derive(Debug, Clone)]
pub struct Message {
    /// Id that is stable for the same notification: a hash of the notifier and the events' ids. The Message-ID of an email
    /// begins with it.
    pub id: String,
    /// Time of the attempt.
    pub at: Time,
    /// Content of the message.
    pub content: MessageContent,
    /// Message-IDs of the first messages of its alerts, for threading. Empty for first messages.
    pub references: Vec<String>,
    /// Recipients that have not been reached yet. `None` means all recipients of the notifier.
    pub remaining_recipients: Option<Vec<String>>,
}

impl Message {
    /// Returns one message for each event, with an id that depends on the event alone. A test message keeps its id.
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

/// Returns 16 bytes of the hash of these texts, in hexadecimal.
fn digest(texts: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut hash = Sha256::new();
    for (n, text) in texts.into_iter().enumerate() {
        if n > 0 {
            hash.update([0]);
        }
        hash.update(text.as_ref());
    }
    hex(&hash.finalize()[..16])
}

/// Content of a message.
#[derive(Debug, Clone)]
pub enum MessageContent {
    /// Pending events, oldest first.
    Events(Vec<MessageEvent>),
    /// Test message, marked as such.
    Test {
        /// Notifier that is tested.
        notifier: Name,
    },
}

/// A pending event of a message.
#[derive(Debug, Clone)]
pub struct MessageEvent {
    /// Event that is pending for the notifier.
    pub event: Arc<Event>,
    /// Number of earlier events of the same alert that were dropped while pending.
    pub omitted: u32,
    /// The failing notifier that this one replaces, if it receives the event as a fallback.
    pub in_place_of: Option<FallbackOrigin>,
}

/// The notifier that a fallback stands in for, and its error.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FallbackOrigin {
    /// Notifier that could not deliver.
    pub notifier: Name,
    /// Last error of that notifier, without secrets.
    pub error: String,
}

/// Result of an accepted message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delivered {
    /// Message-ID, if the channel has one.
    pub message_id: Option<String>,
    /// Recipients rejected temporarily, to be retried alone.
    pub deferred: Vec<RecipientRefusal>,
    /// Recipients rejected permanently. They are reported and not retried.
    pub refused: Vec<RecipientRefusal>,
}

/// A recipient that the server rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientRefusal {
    /// Address of the recipient.
    pub recipient: String,
    /// Reply of the server, without secrets.
    pub reason: String,
}

/// Longest pause that a server may ask for; a longer one is considered a mistake.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// An attempt that reached nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct SendError {
    /// True if a retry cannot help.
    pub permanent: bool,
    /// Reason for people to read, without secrets.
    pub reason: String,
    /// Pause that the server asked for.
    pub retry_after: Option<Duration>,
    /// Recipients rejected permanently while a retry may still reach others. Empty if `permanent` is true.
    pub refused: Vec<RecipientRefusal>,
}

/// Texts for messages that come from the configuration, not from the events.
#[derive(Debug, Clone)]
pub struct MessageContext {
    /// Time zone of all times in messages.
    pub timezone: Tz,
    /// Description and link of each rule.
    pub rules: BTreeMap<Name, RuleTexts>,
    /// Address of the deposit link for each account.
    pub console_urls: BTreeMap<Name, String>,
}

/// Texts that a rule adds to its messages.
#[derive(Debug, Clone, Default)]
pub struct RuleTexts {
    /// Description of the rule, shown in each of its messages.
    pub description: Option<String>,
    /// Link of the rule, shown in each of its messages.
    pub link: Option<String>,
}
