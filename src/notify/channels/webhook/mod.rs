//! Webhook notifier: one POST for each event, with the JSON that docs/webhook.md describes, signed as in Standard Webhooks.
//!
//! The address, the headers and the signing secret are credentials. [`record`] makes the document.

pub mod record;

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::http::{HttpEndpoint, ServiceProfile, TRANSIENT_STATUSES, secret_header};
use crate::notify::{Delivered, Message, MessageContext, MessagePreview, Notifier, SendError};
use crate::util::secret::{Redactor, Secret};
use crate::util::signature::SigningKey;

pub use self::record::webhook_document;

/// Any 2xx response means that the event was accepted.
const WEBHOOK_SERVICE: ServiceProfile =
    ServiceProfile { service: "the webhook", transient_statuses: TRANSIENT_STATUSES, is_refusal: |_| false, hint };

/// Notifier that posts each event to a webhook.
#[derive(Debug)]
pub struct WebhookNotifier {
    endpoint: HttpEndpoint,
    headers: HeaderMap,
    key: Option<SigningKey>,
    context: Arc<MessageContext>,
}

impl WebhookNotifier {
    /// Creates a notifier that posts to `url`. The client has timeout and trust, and must not follow redirects. Invalid
    /// headers are left out; the configuration has rejected them before.
    pub fn new(
        url: Secret,
        headers: &[(String, Secret)],
        key: Option<SigningKey>,
        http: reqwest::Client,
        context: Arc<MessageContext>,
        redactor: Redactor,
    ) -> Self {
        let headers = headers.iter().filter_map(|(name, value)| secret_header(name, value.expose())).collect();
        Self { endpoint: HttpEndpoint { url, http, redactor, profile: WEBHOOK_SERVICE }, headers, key, context }
    }

    async fn post(&self, message: &Message) -> Result<(), SendError> {
        let body = record::webhook_document(message, &self.context).to_string();
        let timestamp = message.at.timestamp();
        let signature = self.key.as_ref().and_then(|key| key.sign(&message.id, timestamp, &body));
        let mut headers = self.headers.clone();
        let own = [
            ("webhook-id", Some(message.id.clone())),
            ("webhook-timestamp", Some(timestamp.to_string())),
            ("webhook-signature", signature),
        ];
        for (name, value) in own {
            let value = value.and_then(|value| HeaderValue::from_str(&value).ok());
            headers.extend(value.map(|value| (HeaderName::from_static(name), value)));
        }
        self.endpoint.post("application/json", headers, body, message.at).await.map(|_| ())
    }
}

#[async_trait]
impl Notifier for WebhookNotifier {
    async fn send(&self, message: &Message) -> Result<Delivered, SendError> {
        for one in message.split_by_event() {
            self.post(&one).await?;
        }
        Ok(Delivered::default())
    }

    fn one_event_per_request(&self) -> bool {
        true
    }

    fn preview(&self, message: &Message) -> MessagePreview {
        MessagePreview::of_requests(
            message.split_by_event().iter().map(|one| record::webhook_document(one, &self.context)).collect(),
        )
    }
}

fn hint(status: StatusCode, _: &str) -> &'static str {
    match status.as_u16() {
        300..=399 => " (redirects are not followed: set `url` to the final address)",
        401 | 403 => " (the credentials are rejected: check `headers` and `signing_secret`)",
        404 | 410 => " (not found: check `url`)",
        _ => "",
    }
}
