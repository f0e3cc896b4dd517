//! Microsoft Teams notifier: one POST to the webhook of a workflow.
//!
//! The address is the credential. [`card`] renders the message, `http` posts it.

pub mod card;

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use super::http::{HttpEndpoint, ServiceProfile, TRANSIENT_STATUSES, is_page_or_refusal};
use crate::notify::{Delivered, Message, MessageContext, MessagePreview, Notifier, SendError};
use crate::util::secret::{Redactor, Secret};

pub use self::card::{TEAMS_LIMIT_BYTES, counted_size, payload};

const TEAMS_SERVICE: ServiceProfile =
    ServiceProfile { service: "Teams", transient_statuses: TRANSIENT_STATUSES, is_refusal, hint };

/// Notifier that posts to the webhook of a workflow.
#[derive(Debug)]
pub struct TeamsNotifier {
    endpoint: HttpEndpoint,
    context: Arc<MessageContext>,
}

impl TeamsNotifier {
    /// Creates a notifier that posts to `webhook_url`. The client has timeout and trust, and must not follow redirects.
    pub fn new(webhook_url: Secret, http: reqwest::Client, context: Arc<MessageContext>, redactor: Redactor) -> Self {
        Self { endpoint: HttpEndpoint { url: webhook_url, http, redactor, profile: TEAMS_SERVICE }, context }
    }
}

#[async_trait]
impl Notifier for TeamsNotifier {
    async fn send(&self, message: &Message) -> Result<Delivered, SendError> {
        let body = card::payload(message, &self.context).to_string();
        self.endpoint.post("application/json", HeaderMap::new(), body, message.at).await?;
        Ok(Delivered::default())
    }

    fn preview(&self, message: &Message) -> MessagePreview {
        MessagePreview { body: Some(card::payload(message, &self.context)), ..MessagePreview::default() }
    }
}

/// Returns true for a refusal. Teams webhooks have answered 200 with the text of a failure behind them.
fn is_refusal(answer: &str) -> bool {
    is_page_or_refusal(answer) || answer.trim_start().starts_with("Webhook message delivery failed")
}

fn hint(status: StatusCode, _: &str) -> &'static str {
    match status.as_u16() {
        400 => " (the workflow rejects it: its trigger has to be \"When a Teams webhook request is received\")",
        401 | 403 => " (the workflow's address is wrong, or the workflow does not allow anyone to trigger it)",
        404 | 410 => " (the workflow was removed or turned off: make a new one)",
        413 => " (the message is too large: please report this as a bug)",
        _ => "",
    }
}
