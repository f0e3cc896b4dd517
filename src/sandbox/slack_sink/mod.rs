//! Slack sink: an HTTP server on loopback that accepts and rejects messages like Slack's incoming webhooks, and keeps them.
//!
//! It applies Slack's limits, so that a message that is too long for Slack fails here as well.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Activity, ActivityGuard};

/// Path of the webhooks; each path below it is one.
const WEBHOOKS: &str = "/services/DEMO/SINK/";
/// Longest request body that is read.
const MAX_BODY_BYTES: usize = 1024 * 1024;

// Slack's limits; lengths are in characters.
const MAX_MESSAGE_CHARS: usize = 13_000;
const MAX_TEXT_CHARS: usize = 3000;
const MAX_HEADER_CHARS: usize = 150;
const MAX_FIELD_CHARS: usize = 2000;
const MAX_BLOCKS: usize = 50;
const MAX_ATTACHMENTS: usize = 100;
const MAX_PARTS: usize = 10;

/// A message that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct SlackMessage {
    /// Last part of the webhook's address, which distinguishes several webhooks.
    pub webhook: String,
    /// Body of the request, with `text`, `attachments` or `blocks`.
    pub body: Value,
}

/// A running sink; it stops when dropped.
#[derive(Debug)]
pub struct SlackSink {
    address: SocketAddr,
    messages: Arc<Mutex<Vec<SlackMessage>>>,
    /// Stops the server when dropped.
    _shutdown: DropGuard,
}

#[derive(Clone)]
struct SlackSinkState {
    messages: Arc<Mutex<Vec<SlackMessage>>>,
    activity: Arc<dyn Activity>,
}

impl SlackSink {
    /// Starts to serve on a listener, in the current runtime. Fails only if the listener has no address.
    pub fn start(listener: TcpListener, activity: Arc<dyn Activity>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let messages: Arc<Mutex<Vec<SlackMessage>>> = Arc::default();
        let shared = SlackSinkState { messages: Arc::clone(&messages), activity };
        let app = Router::new().fallback(answer).with_state(shared);
        let shutdown = CancellationToken::new();
        let server = axum::serve(listener, app).with_graceful_shutdown(shutdown.clone().cancelled_owned());
        tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the Slack sink stopped");
            }
        });
        Ok(Self { address, messages, _shutdown: shutdown.drop_guard() })
    }

    /// Removes and returns the messages since the last call, oldest first.
    pub fn take(&self) -> Vec<SlackMessage> {
        std::mem::take(&mut *self.messages.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the address to configure as `webhook_url`.
    pub fn url(&self) -> String {
        format!("http://{}{WEBHOOKS}everyone", self.address)
    }
}

/// Handles every request, so that each of them counts as activity.
async fn answer(State(shared): State<SlackSinkState>, request: Request) -> (StatusCode, &'static str) {
    let _busy = ActivityGuard::begin(&shared.activity);
    let webhook = request.uri().path().strip_prefix(WEBHOOKS).unwrap_or_default().to_owned();
    if request.method() != Method::POST || webhook.is_empty() || webhook.contains('/') {
        return (StatusCode::NOT_FOUND, "no_service");
    }
    let body = to_bytes(request.into_body(), MAX_BODY_BYTES).await.unwrap_or_default();
    match accept(&body) {
        Ok(body) => {
            let message = SlackMessage { webhook, body };
            shared.messages.lock().unwrap_or_else(PoisonError::into_inner).push(message);
            (StatusCode::OK, "ok")
        }
        Err(reason) => {
            // Slack's response gives no reason, so the log does.
            tracing::warn!(reason, "the Slack sink refused a message");
            (StatusCode::BAD_REQUEST, "invalid_payload")
        }
    }
}

fn accept(body: &[u8]) -> Result<Value, &'static str> {
    let body: Value = serde_json::from_slice(body).map_err(|_| "not JSON")?;
    check(&body)?;
    Ok(body)
}

/// Checks a message against Slack's rules, and returns the reason if Slack would reject it.
fn check(body: &Value) -> Result<(), &'static str> {
    let fields = body.as_object().ok_or("not an object")?;
    let blocks = list(body, "blocks", MAX_BLOCKS)?;
    let attachments = list(body, "attachments", MAX_ATTACHMENTS)?;
    match fields.get("text") {
        None if blocks.is_empty() && attachments.is_empty() => return Err("neither text nor blocks nor attachments"),
        None | Some(Value::String(_)) => {}
        Some(_) => return Err("a text that is no text"),
    }
    if characters(body) > MAX_MESSAGE_CHARS {
        return Err("longer than 13,000 characters");
    }
    blocks.iter().try_for_each(check_block)?;
    for attachment in attachments {
        if !attachment.is_object() {
            return Err("an attachment that is no object");
        }
        list(attachment, "blocks", MAX_BLOCKS)?.iter().try_for_each(check_block)?;
    }
    Ok(())
}

/// Checks a block. Kinds of blocks that lowtide does not use are accepted unchecked.
fn check_block(block: &Value) -> Result<(), &'static str> {
    match block["type"].as_str() {
        Some("section") => {
            let fields = list(block, "fields", MAX_PARTS)?;
            fields.iter().try_for_each(|field| check_text(field, MAX_FIELD_CHARS))?;
            // A section with fields needs no text.
            if fields.is_empty() || !block["text"].is_null() {
                check_text(&block["text"], MAX_TEXT_CHARS)
            } else {
                Ok(())
            }
        }
        Some("header") if block["text"]["type"] == "plain_text" => check_text(&block["text"], MAX_HEADER_CHARS),
        Some("header") => Err("a header that is no plain text"),
        Some("context") => {
            let elements = list(block, "elements", MAX_PARTS)?;
            if elements.is_empty() {
                return Err("a context without elements");
            }
            let texts = elements.iter().filter(|element| element["type"] != "image");
            texts.into_iter().try_for_each(|text| check_text(text, MAX_TEXT_CHARS))
        }
        Some("divider" | "actions" | "image" | "rich_text" | "markdown" | "table" | "video" | "input" | "file") => {
            Ok(())
        }
        _ => Err("a block of no known type"),
    }
}

fn check_text(text: &Value, longest: usize) -> Result<(), &'static str> {
    let known = text["type"] == "mrkdwn" || text["type"] == "plain_text";
    match text["text"].as_str() {
        Some(text) if known && text.chars().count() > longest => Err("a text that is too long"),
        Some(text) if known && !text.is_empty() => Ok(()),
        _ => Err("a text that is none or empty"),
    }
}

/// Returns a list that may be missing.
fn list<'a>(value: &'a Value, key: &str, most: usize) -> Result<&'a [Value], &'static str> {
    match value.get(key) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(values)) if values.len() <= most => Ok(values),
        Some(Value::Array(_)) => Err("a list that is too long"),
        Some(_) => Err("a list that is none"),
    }
}

/// Counts the characters in all strings of a message.
fn characters(value: &Value) -> usize {
    match value {
        Value::String(text) => text.chars().count(),
        Value::Array(values) => values.iter().map(characters).sum(),
        Value::Object(fields) => fields.values().map(characters).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
