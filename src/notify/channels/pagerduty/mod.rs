//! PagerDuty, Events API v2: an alert that fires triggers an incident, its end resolves that one.
//!
//! The key that joins them is the alert's identity, so that a request which is repeated changes nothing. Which requests an
//! event makes is decided here; how they are posted is `http`'s.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::http::{Endpoint, MAY_PASS, Manners, page_or_no};
use crate::domain::Name;
use crate::domain::alert::{AlertKey, Kind};
use crate::domain::event::{Event, Subject, notice};
use crate::domain::rule::Severity;
use crate::notify::channels::webhook::record;
use crate::notify::message::{Entry, Tone, cut, cut_bytes, view};
use crate::notify::{Content, Delivered, Message, Notifier, Preview, SendError, Words, digest};
use crate::util::secret::{Redactor, STRUCK, Secret};

/// Where the service region of the United States takes events.
pub const DEFAULT_URL: &str = "https://events.pagerduty.com/v2/enqueue";

const MANNERS: Manners = Manners { service: "PagerDuty", passing: MAY_PASS, refuses: page_or_no, hint };

/// `summary` may have 1024 characters.
const LONGEST_SUMMARY: usize = 1000;
/// All details together; an event may have 512 kB.
const LONGEST_DETAILS: usize = 8000;
/// `dedup_key` may have 255 characters.
const LONGEST_KEY: usize = 255;

/// An integration of a PagerDuty service.
#[derive(Debug)]
pub struct PagerDuty {
    name: Name,
    endpoint: Endpoint,
    routing_key: Secret,
    words: Arc<Words>,
}

impl PagerDuty {
    /// A notifier that posts to `url` (see [`DEFAULT_URL`]). The client must follow no redirect.
    pub fn new(
        name: Name,
        routing_key: Secret,
        url: &str,
        http: reqwest::Client,
        words: Arc<Words>,
        redactor: Redactor,
    ) -> Self {
        let endpoint = Endpoint { url: Secret::new(url), http, redactor, manners: MANNERS };
        Self { name, endpoint, routing_key, words }
    }

    /// The requests of a message about one event, or of a test, which leaves no incident behind.
    fn requests(&self, message: &Message) -> Vec<Value> {
        let event = match &message.content {
            Content::Events(items) => items.last().map(|item| &item.event),
            Content::Test { .. } => None,
        };
        let Some(event) = event else {
            let key = notice("test", &self.name, None);
            return vec![self.trigger(&key, "info", message), self.resolve(&key)];
        };
        let key = event.subject.identity();
        match &event.subject {
            Subject::Threshold(it) => vec![self.moved(event, it.kind, &key, message)],
            Subject::Unreadable(it) => vec![self.moved(event, it.kind, &key, message)],
            Subject::AlertEnded { .. } | Subject::NotifierRecovered { .. } | Subject::NotifierRemoved { .. } => {
                vec![self.resolve(&key)]
            }
            Subject::Unwatched { account, division, rules, .. } => {
                let key = |rule: &Name| AlertKey { account: account.clone(), division: *division, rule: rule.clone() };
                rules.iter().map(|rule| self.resolve(&key(rule).id())).collect()
            }
            Subject::NotifierFailing { .. } => vec![self.trigger(&key, "warning", message)],
            // A page to read is no incident.
            Subject::Report(_) => Vec::new(),
        }
    }

    fn moved(&self, event: &Event, kind: Kind, key: &str, message: &Message) -> Value {
        match (kind, event.level()) {
            (Kind::Resolved, _) => self.resolve(key),
            (_, Some(Severity::Critical)) => self.trigger(key, "critical", message),
            _ => self.trigger(key, "warning", message),
        }
    }

    fn resolve(&self, key: &str) -> Value {
        json!({ "routing_key": self.routing_key.expose(), "event_action": "resolve", "dedup_key": dedup(key) })
    }

    fn trigger(&self, key: &str, severity: &str, message: &Message) -> Value {
        let view = view(message, &self.words);
        let marker = if view.tone == Tone::Test { "TEST: " } else { "" };
        let entry = view.entries.first();
        let item = match &message.content {
            Content::Events(items) => items.last(),
            Content::Test { .. } => None,
        };
        let alert = item.and_then(|item| item.event.alert());
        let links = entry.map_or_else(Vec::new, |entry| {
            entry.links.iter().map(|link| json!({ "href": link.url, "text": link.label })).collect()
        });
        let mut payload = json!({
            "summary": cut(&format!("{marker}{}", view.title), LONGEST_SUMMARY),
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
            "routing_key": self.routing_key.expose(), "event_action": "trigger", "dedup_key": dedup(key),
            "client": "lowtide", "links": links, "payload": payload,
        })
    }
}

/// What the responder reads below the summary, and what event rules may go by: names, figures and times as a webhook has them.
fn details(entry: &Entry, event: Option<&Event>) -> Value {
    let lines: Vec<&str> = entry.to_do.iter().chain(&entry.details).chain(&entry.history).map(String::as_str).collect();
    let mut details = json!({ "details": cut_bytes(&lines.join("\n"), LONGEST_DETAILS) });
    if let Some(description) = &entry.description {
        details["what to do"] = json!(cut_bytes(description, LONGEST_DETAILS));
    }
    if let Some(key) = event.and_then(Event::alert) {
        details["rule"] = json!(key.rule);
    }
    if let Some(next) = event.and_then(Event::next_reminder) {
        details["next_reminder"] = json!(record::time(next));
    }
    if let Some(Subject::Threshold(it)) = event.map(|event| &event.subject) {
        details["metric"] = json!(it.metric.name());
        details["threshold"] = json!(it.threshold.as_ref().map(record::threshold));
    }
    details
}

/// A key that is too long is told by its hash.
fn dedup(key: &str) -> String {
    let key = format!("lowtide/{key}");
    if key.len() <= LONGEST_KEY { key } else { format!("lowtide/{}", digest([key.as_str()])) }
}

#[async_trait]
impl Notifier for PagerDuty {
    async fn send(&self, message: &Message) -> Result<Delivered, SendError> {
        for one in message.one_by_one() {
            // A request that is repeated because a later one failed finds its incident as it should be.
            for request in self.requests(&one) {
                self.endpoint.post("application/json", HeaderMap::new(), request.to_string(), message.at).await?;
            }
        }
        Ok(Delivered::default())
    }

    fn one_by_one(&self) -> bool {
        true
    }

    fn preview(&self, message: &Message) -> Preview {
        let mut requests: Vec<Value> = message.one_by_one().iter().flat_map(|one| self.requests(one)).collect();
        for request in &mut requests {
            request["routing_key"] = json!(STRUCK);
        }
        Preview::of_requests(requests)
    }
}

fn hint(status: StatusCode, _: &str) -> &'static str {
    match status.as_u16() {
        400 => " (PagerDuty takes no such event: look at `routing_key`)",
        403 | 404 => " (look at `routing_key` and `url`)",
        _ => "",
    }
}
