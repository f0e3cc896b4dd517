//! Slack notifier: one POST to an incoming webhook.
//!
//! The address is the credential. [`blocks`] renders the message, `http` posts it.

pub mod blocks;
pub(crate) mod custom;
#[cfg(test)]
pub(crate) mod limits;
pub(crate) mod report;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use super::http::{HttpEndpoint, ServiceProfile, is_page_or_refusal};
use crate::domain::Name;
use crate::domain::rule::Severity;
use crate::notify::message::template::Templates;
use crate::notify::{Delivered, Message, MessageContext, MessagePreview, Notifier, SendError};
use crate::util::secret::{Redactor, Secret};

pub use self::blocks::payload;

const SLACK_SERVICE: ServiceProfile =
    ServiceProfile { service: "Slack", transient_statuses: &[429], is_refusal: is_page_or_refusal, hint };

/// Notifier that posts to an incoming webhook of Slack.
#[derive(Debug)]
pub struct SlackNotifier {
    name: Name,
    endpoint: HttpEndpoint,
    mention: BTreeMap<Severity, String>,
    context: Arc<MessageContext>,
    templates: Templates,
}

impl SlackNotifier {
    /// Creates a notifier that posts to `webhook_url`. The client has timeout and trust, and must not follow redirects.
    pub fn new(
        name: Name,
        webhook_url: Secret,
        mention: BTreeMap<Severity, String>,
        http: reqwest::Client,
        context: Arc<MessageContext>,
        redactor: Redactor,
    ) -> Self {
        let endpoint = HttpEndpoint { url: webhook_url, http, redactor, profile: SLACK_SERVICE };
        Self { name, endpoint, mention, context, templates: Templates::default() }
    }

    /// Uses these custom templates.
    #[must_use]
    pub fn with_templates(self, templates: Templates) -> Self {
        Self { templates, ..self }
    }

    fn body(&self, message: &Message) -> serde_json::Value {
        let (body, failure) = custom::payload(message, &self.context, &self.mention, &self.templates);
        if let Some(failure) = failure {
            tracing::warn!(notifier = %self.name, %failure, "template failed, using the built-in text");
        }
        body
    }

    /// Returns the notifier's name in the configuration.
    pub fn name(&self) -> &Name {
        &self.name
    }
}

#[async_trait]
impl Notifier for SlackNotifier {
    async fn send(&self, message: &Message) -> Result<Delivered, SendError> {
        let body = self.body(message).to_string();
        self.endpoint.post("application/json", HeaderMap::new(), body, message.at).await?;
        Ok(Delivered::default())
    }

    fn preview(&self, message: &Message) -> MessagePreview {
        let body = self.body(message);
        let text = body["text"].as_str().map(str::to_owned);
        MessagePreview { text, body: Some(body), ..MessagePreview::default() }
    }
}

fn hint(_: StatusCode, answer: &str) -> &'static str {
    match answer {
        "no_service" => " (the webhook was removed or disabled: make a new one)",
        "invalid_token" => " (the webhook's address is wrong or was revoked)",
        "channel_is_archived" => " (the webhook's channel is archived)",
        "action_prohibited" => " (a workspace administrator does not allow this webhook to post)",
        "invalid_payload" => " (Slack does not understand the message: please report this as a bug)",
        _ => "",
    }
}
