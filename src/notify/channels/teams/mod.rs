//! Microsoft Teams: one POST to the webhook of a workflow.
//!
//! The address is the credential. What a message looks like is `render::card`'s, how it is posted `http`'s.

pub mod card;

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use super::http::{Endpoint, MAY_PASS, Manners, page_or_no};
use crate::notify::{Delivered, Message, Notifier, Preview, SendError, Words};
use crate::util::secret::{Redactor, Secret};

pub use crate::notify::channels::teams::card::{TEAMS_LIMIT, counted_size, payload};

const MANNERS: Manners = Manners { service: "Teams", passing: MAY_PASS, refuses, hint };

/// The webhook of a workflow.
#[derive(Debug)]
pub struct Teams {
    endpoint: Endpoint,
    words: Arc<Words>,
}

impl Teams {
    /// A notifier that posts to `webhook_url`. The client brings timeout and trust, and must follow no redirect.
    pub fn new(webhook_url: Secret, http: reqwest::Client, words: Arc<Words>, redactor: Redactor) -> Self {
        Self { endpoint: Endpoint { url: webhook_url, http, redactor, manners: MANNERS }, words }
    }
}

#[async_trait]
impl Notifier for Teams {
    async fn send(&self, message: &Message) -> Result<Delivered, SendError> {
        let body = card::payload(message, &self.words).to_string();
        self.endpoint.post("application/json", HeaderMap::new(), body, message.at).await?;
        Ok(Delivered::default())
    }

    fn preview(&self, message: &Message) -> Preview {
        Preview { body: Some(card::payload(message, &self.words)), ..Preview::default() }
    }
}

/// Webhooks of Teams have answered 200 and told of a failure behind them in the text.
fn refuses(answer: &str) -> bool {
    page_or_no(answer) || answer.trim_start().starts_with("Webhook message delivery failed")
}

fn hint(status: StatusCode, _: &str) -> &'static str {
    match status.as_u16() {
        400 => " (the workflow does not take it: it has to begin with \"When a Teams webhook request is received\")",
        401 | 403 => " (the workflow's address is wrong, or it does not let anyone trigger it)",
        404 | 410 => " (the workflow was removed or turned off: make a new one)",
        413 => " (the message is too large: please report this as a bug)",
        _ => "",
    }
}
