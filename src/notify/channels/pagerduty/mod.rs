//! PagerDuty notifier (Events API v2): an alert that fires triggers an incident, and its end resolves the incident.
//!
//! The deduplication key is the identity of the alert, so that a repeated request changes nothing. This file decides which
//! requests an event makes; `http` posts them.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::http::{HttpEndpoint, ServiceProfile, TRANSIENT_STATUSES, is_page_or_refusal};
use crate::domain::Name;
use crate::domain::alert::{AlertKey, TransitionKind};
use crate::domain::event::{Event, EventSubject, notice_identity};
use crate::domain::rule::Severity;
use crate::notify::channels::webhook::record;
use crate::notify::message::{MessageEntry, MessageStatus, cut, cut_bytes, view};
use crate::notify::{Delivered, Message, MessageContent, MessageContext, MessagePreview, Notifier, SendError, digest};
use crate::util::secret::{REDACTED, Redactor, Secret};

/// Address for events in the US service region.
pub const DEFAULT_URL: &str = "https://events.pagerduty.com/v2/enqueue";

const PAGERDUTY_SERVICE: ServiceProfile = ServiceProfile {
    service: "PagerDuty",
    transient_statuses: TRANSIENT_STATUSES,
    is_refusal: is_page_or_refusal,
    hint,
};

/// Maximum length of `summary`; PagerDuty allows 1024 characters.
const MAX_SUMMARY_CHARS: usize = 1000;
/// Maximum length of the details; PagerDuty allows 512 kB for an event.
const MAX_DETAILS_BYTES: usize = 8000;
/// Maximum length of `dedup_key`; PagerDuty allows 255 characters.
const MAX_DEDUP_KEY_BYTES: usize = 255;

/// Notifier that posts to an integration of a PagerDuty service.
#[derive(Debug)]
pub struct PagerDutyNotifier {
    name: Name,
    endpoint: HttpEndpoint,
    routing_key: Secret,
    context: Arc<MessageContext>,
}

impl PagerDutyNotifier {
    /// Creates a notifier that posts to `url` (see [`DEFAULT_URL`]). The client must not follow redirects.
    pub fn new(
        name: Name,
        routing_key: Secret,
        url: &str,
        http: reqwest::Client,
        context: Arc<MessageContext>,
        redactor: Redactor,
    ) -> Self {
        let endpoint = HttpEndpoint { url: Secret::new(url), http, redactor, profile: PAGERDUTY_SERVICE };
        Self { name, endpoint, routing_key, context }
    }

    /// Returns the requests of a message about one event, or of a test message, which leaves no incident behind.
    fn requests(&self, message: &Message) -> Vec<Value> {
        let event = match &message.content {
            MessageContent::Events(items) => items.last().map(|item| &item.event),
            MessageContent::Test { .. } => None,
        };
        let Some(event) = event else {
            let key = notice_identity("test", &self.name, None);
            return vec![self.trigger(&key, "info", message), self.resolve(&key)];
        };
        let key = event.subject.identity();
        match &event.subject {
            EventSubject::Threshold(it) => vec![self.transition_request(event, it.kind, &key, message)],
            EventSubject::Unreadable(it) => vec![self.transition_request(event, it.kind, &key, message)],
            EventSubject::AlertEnded { .. }
            | EventSubject::NotifierRecovered { .. }
            | EventSubject::NotifierRemoved { .. } => {
                vec![self.resolve(&key)]
            }
            EventSubject::Unwatched { account, division, rules, .. } => {
                let key = |rule: &Name| AlertKey { account: account.clone(), division: *division, rule: rule.clone() };
                rules.iter().map(|rule| self.resolve(&key(rule).id())).collect()
            }
            EventSubject::NotifierFailing { .. } => vec![self.trigger(&key, "warning", message)],
            // A report is no incident.
            EventSubject::Report(_) => Vec::new(),
        }
    }

    fn transition_request(&self, event: &Event, kind: TransitionKind, key: &str, message: &Message) -> Value {
        match (kind, event.level()) {
            (TransitionKind::Resolved, _) => self.resolve(key),
            (_, Some(Severity::Critical)) => self.trigger(key, "critical", message),
            _ => self.trigger(key, "warning", message),
        }
    }

    fn resolve(&self, key: &str) -> Value {
        json!({ "routing_key": self.routing_key.expose(), "event_action": "resolve", "dedup_key": dedup_key(key) })
    }

    fn trigger(&self, key: &str, severity: &str, message: &Message) -> Value {
        let view = view(message, &self.context);
        let marker = if view.status == MessageStatus::Test { "TEST: " } else { "" };
        let entry = view.entries.first();
        let item = match &message.content {
            MessageContent::Events(items) => items.last(),
            MessageContent::Test { .. } => None,
        };
        let alert = item.and_then(|item| item.event.alert());
        let links = entry.map_or_else(Vec::new, |entry| {
            entry.links.iter().map(|link| json!({ "href": link.url, "text": link.label })).collect()
        });
        let mut payload = json!({
            "summary": cut(&format!("{marker}{}", view.title), MAX_SUMMARY_CHARS),
            "source": alert.map_or("lowtide", |key| &*key.account),
            "severity": severity,
            "timestamp": item.map_or(message.at, |item| item.event.at).to_rfc3339(),
        });
        if let Some(key) = alert {
            payload["component"] = json!(key.rule);
            payload["group"] = json!(key.account);
        }
        if let Some(entry) = entry {
            payload["custom_details"] = details(entry, item.map(|item| &*item.event));
        }
        json!({
            "routing_key": self.routing_key.expose(), "event_action": "trigger", "dedup_key": dedup_key(key),
            "client": "lowtide", "links": links, "payload": payload,
        })
    }
}

/// Returns the details of an incident, for responders and for event rules: names, figures and times in the same form as in a
/// webhook.
fn details(entry: &MessageEntry, event: Option<&Event>) -> Value {
    let lines: Vec<&str> = entry.to_do.iter().chain(&entry.details).chain(&entry.history).map(String::as_str).collect();
    let mut details = json!({ "details": cut_bytes(&lines.join("\n"), MAX_DETAILS_BYTES) });
    if let Some(description) = &entry.description {
        details["description"] = json!(cut_bytes(description, MAX_DETAILS_BYTES));
    }
    if let Some(key) = event.and_then(Event::alert) {
        details["rule"] = json!(key.rule);
    }
    if let Some(next) = event.and_then(Event::next_reminder) {
        details["next_reminder"] = json!(record::time(next));
    }
    if let Some(EventSubject::Threshold(it)) = event.map(|event| &event.subject) {
        details["metric"] = json!(it.metric.name());
        details["threshold"] = json!(it.threshold.as_ref().map(record::threshold));
    }
    details
}

/// Returns the deduplication key; a key that is too long is replaced by its hash.
fn dedup_key(key: &str) -> String {
    let key = format!("lowtide/{key}");
    if key.len() <= MAX_DEDUP_KEY_BYTES { key } else { format!("lowtide/{}", digest([key.as_str()])) }
}

#[async_trait]
impl Notifier for PagerDutyNotifier {
    async fn send(&self, message: &Message) -> Result<Delivered, SendError> {
        for one in message.split_by_event() {
            // Repeating a request because a later one failed does not change its incident.
            for request in self.requests(&one) {
                self.endpoint.post("application/json", HeaderMap::new(), request.to_string(), message.at).await?;
            }
        }
        Ok(Delivered::default())
    }

    fn one_event_per_request(&self) -> bool {
        true
    }

    fn preview(&self, message: &Message) -> MessagePreview {
        let mut requests: Vec<Value> = message.split_by_event().iter().flat_map(|one| self.requests(one)).collect();
        for request in &mut requests {
            request["routing_key"] = json!(REDACTED);
        }
        MessagePreview::of_requests(requests)
    }
}

fn hint(status: StatusCode, _: &str) -> &'static str {
    match status.as_u16() {
        400 => " (PagerDuty rejects the event: check `routing_key`)",
        403 | 404 => " (check `routing_key` and `url`)",
        _ => "",
    }
}
