//! Slack: one POST to an incoming webhook, and what its answer means.
//!
//! The address is the credential: it appears in no error, and no redirect carries it elsewhere (the client it is given
//! must follow none). What a message looks like is `render::blocks`'s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};

use super::render::{cut, flat, own};
use super::template::Templates;
use super::{Delivered, Message, Notifier, Preview, SendError, Words};
use crate::domain::rule::Severity;
use crate::domain::{Name, Time};
use crate::secret::{Redactor, Secret};

pub use super::render::blocks::payload;

/// As much of an answer as is read.
const LONGEST_ANSWER: usize = 64 * 1024;
/// As much of a reason as is told.
const LONGEST_REASON: usize = 200;
/// A longer pause than this is no pause but a mistake.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// A Slack incoming webhook.
#[derive(Debug)]
pub struct Slack {
    name: Name,
    webhook_url: Secret,
    mention: BTreeMap<Severity, String>,
    http: reqwest::Client,
    words: Arc<Words>,
    redactor: Redactor,
    templates: Templates,
}

impl Slack {
    /// A notifier that posts to `webhook_url`. The client brings timeout and trust, and must follow no redirect.
    pub fn new(
        name: Name,
        webhook_url: Secret,
        mention: BTreeMap<Severity, String>,
        http: reqwest::Client,
        words: Arc<Words>,
        redactor: Redactor,
    ) -> Self {
        Self { name, webhook_url, mention, http, words, redactor, templates: Templates::default() }
    }

    /// With texts of its own.
    #[must_use]
    pub fn with_templates(self, templates: Templates) -> Self {
        Self { templates, ..self }
    }

    fn body(&self, message: &Message) -> serde_json::Value {
        let (body, failure) = own::payload(message, &self.words, &self.mention, &self.templates);
        if let Some(failure) = failure {
            tracing::warn!(notifier = %self.name, %failure, "template failed: the built-in text is used");
        }
        body
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Struck once more when it is flat: characters that go may have stood inside a secret.
    fn failed(&self, permanent: bool, reason: &str, retry_after: Option<Duration>) -> SendError {
        let reason = cut(&self.redactor.strike(&flat(&self.redactor.strike(reason))), LONGEST_REASON);
        SendError { permanent, reason, retry_after, refused: Vec::new() }
    }

    fn unreachable(&self, error: reqwest::Error) -> SendError {
        let mut reason = "Slack could not be reached".to_owned();
        let error = error.without_url();
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = cause {
            reason = format!("{reason}: {error}");
            cause = error.source();
        }
        self.failed(false, &reason, None)
    }
}

#[async_trait]
impl Notifier for Slack {
    async fn send(&self, message: &Message) -> Result<Delivered, SendError> {
        let body = self.body(message).to_string();
        let request = self.http.post(self.webhook_url.expose()).header(CONTENT_TYPE, "application/json").body(body);
        let mut response = request.send().await.map_err(|error| self.unreachable(error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let answer = read(&mut response).await.map_err(|error| self.unreachable(error));
        if status.is_success() {
            // Slack has the message, even if its `ok` is cut off; a proxy's page says the opposite.
            return match answer {
                Ok(page) if looks_like_a_page(&page) => {
                    Err(self.failed(false, &format!("not Slack but a web page answered ({})", status.as_u16()), None))
                }
                Ok(refusal) if says_no(&refusal) => Err(self.failed(false, &reason(status, &refusal), None)),
                _ => Ok(Delivered::default()),
            };
        }
        let answer = answer.unwrap_or_default();
        let permanent = status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS;
        let pause = (!permanent).then(|| retry_after(&headers, message.at)).flatten();
        Err(self.failed(permanent, &reason(status, &answer), pause))
    }

    fn preview(&self, message: &Message) -> Preview {
        let body = self.body(message);
        let text = body["text"].as_str().map(str::to_owned);
        Preview { text, body: Some(body), ..Preview::default() }
    }
}

async fn read(response: &mut reqwest::Response) -> Result<String, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk[..chunk.len().min(LONGEST_ANSWER - body.len())]);
        if body.len() >= LONGEST_ANSWER {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// A method of Slack's own API in the webhook's place, and others that speak JSON, refuse with 200.
fn says_no(answer: &str) -> bool {
    let said = serde_json::from_str::<serde_json::Value>(answer);
    said.is_ok_and(|said| ["ok", "success"].iter().any(|key| said.get(key) == Some(&serde_json::Value::Bool(false))))
}

fn looks_like_a_page(answer: &str) -> bool {
    let start = answer.trim_start_matches('\u{feff}').trim_start();
    let start: String = start.chars().take(15).collect::<String>().to_ascii_lowercase();
    ["<!doctype", "<html", "<head", "<body", "<?xml"].iter().any(|tag| start.starts_with(tag))
}

fn reason(status: StatusCode, answer: &str) -> String {
    let answer = answer.trim();
    let hint = match answer {
        "no_service" => " (the webhook was removed or disabled: make a new one)",
        "invalid_token" => " (the webhook's address is wrong or was revoked)",
        "channel_is_archived" => " (the webhook's channel is archived)",
        "action_prohibited" => " (an administrator of the workspace forbids this webhook to post)",
        "invalid_payload" => " (Slack does not understand the message: please report this as a bug)",
        _ => "",
    };
    match answer {
        "" => format!("Slack answered {}", status.as_u16()),
        page if looks_like_a_page(page) => format!("Slack answered {} with a web page", status.as_u16()),
        answer => format!("Slack answered {}: {answer}{hint}", status.as_u16()),
    }
}

/// Seconds, or a date, which counts from the answer's own date where it has one.
fn retry_after(headers: &HeaderMap, sent: Time) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds).min(LONGEST_PAUSE));
    }
    let date = |text: &str| chrono::DateTime::parse_from_rfc2822(text).ok().map(|at| at.to_utc());
    let answered = headers.get(reqwest::header::DATE).and_then(|value| date(value.to_str().ok()?)).unwrap_or(sent);
    Some((date(value)? - answered).to_std().unwrap_or_default().min(LONGEST_PAUSE))
}
