//! What a notifier is by its `type`: which keys it has, and how they are read. The next type is a row and a function.

use std::collections::BTreeMap;

use reqwest::header::{HeaderName, HeaderValue};

use super::cursor::{Cursor, Section, ValueError};
use super::keys::{MENTION, NOTIFIER, names};
use super::problem::one_of;
use super::{ChannelConfig, email, mention, secrets, values};
use crate::domain::rule::Severity;
use crate::util::secret::Secret;
use crate::util::signature::SigningKey;

/// A type of notifier.
struct ChannelType {
    /// As `type` names it.
    name: &'static str,
    /// Its own keys, beside those that every notifier has.
    keys: &'static [&'static str],
    /// Reads them; the flag is `allow_insecure`.
    read: fn(&Section<'_>, bool) -> Option<ChannelConfig>,
}

const CHANNEL_TYPES: &[ChannelType] = &[
    ChannelType { name: "slack", keys: &["webhook_url", "webhook_url_file", "mention", "template"], read: slack },
    ChannelType {
        name: "email",
        keys: &[
            "host",
            "port",
            "tls",
            "username",
            "password",
            "password_file",
            "oauth2",
            "hello",
            "from",
            "to",
            "template",
        ],
        read: email::email,
    },
    ChannelType {
        name: "webhook",
        keys: &["url", "url_file", "headers", "signing_secret", "signing_secret_file"],
        read: webhook,
    },
    ChannelType { name: "pagerduty", keys: &["routing_key", "routing_key_file", "url"], read: pagerduty },
    ChannelType { name: "teams", keys: &["webhook_url", "webhook_url_file"], read: teams },
];

/// The types, each with its own keys.
pub(super) fn types() -> impl Iterator<Item = (&'static str, &'static [&'static str])> + Clone {
    CHANNEL_TYPES.iter().map(|known| (known.name, known.keys))
}

/// Headers that lowtide, or its HTTP library, sets itself.
const OWN_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];

/// Reads a notifier by its type; keys of other types are mistakes.
pub(super) fn channel(section: &Section<'_>, insecure: bool) -> Option<ChannelConfig> {
    let words = || CHANNEL_TYPES.iter().map(|known| known.name);
    let choices: Vec<(&str, &ChannelType)> = CHANNEL_TYPES.iter().map(|known| (known.name, known)).collect();
    let chosen = section.required("type", &one_of(words()))?.read(values::choice(&choices))?;
    let of_others =
        |key: &&str| CHANNEL_TYPES.iter().any(|other| other.keys.contains(key)) && !chosen.keys.contains(key);
    let foreign: Vec<&str> = names(NOTIFIER).filter(of_others).collect();
    let fitting = chosen.keys.join(", ");
    section.refuse_keys(&foreign, &format!("only keys of a `type: {}` notifier: {fitting}, fallback, …", chosen.name));
    (chosen.read)(section, insecure)
}

fn slack(section: &Section<'_>, insecure: bool) -> Option<ChannelConfig> {
    let address = |text: &str| values::secure_web(text, insecure).map(|_| ());
    let webhook_url = secrets::secret(section, "webhook_url", "webhook_url_file", true, address);
    let mut mentions = BTreeMap::new();
    if let Some(levels) = section.get("mention").and_then(|cursor| cursor.section(MENTION)) {
        for severity in [Severity::Warning, Severity::Critical] {
            let Some(cursor) = levels.get(&severity.to_string()) else { continue };
            let Some(text) = cursor.read(values::line) else { continue };
            if let Some(correction) = mention::correction(&text) {
                cursor.warn(correction);
            }
            mentions.insert(severity, text);
        }
    }
    Some(ChannelConfig::Slack { webhook_url: webhook_url?, mention: mentions })
}

fn webhook(section: &Section<'_>, insecure: bool) -> Option<ChannelConfig> {
    let address = |text: &str| values::secure_web(text, insecure).map(|_| ());
    let url = secrets::secret(section, "url", "url_file", true, address);
    let headers = section.get("headers").map_or(Some(Vec::new()), |cursor| headers(&cursor));
    let key = |text: &str| SigningKey::parse(text).map(|_| ()).ok_or_else(|| ValueError::from(SIGNING_SECRET));
    let signing_secret = secrets::secret(section, "signing_secret", "signing_secret_file", false, key);
    if let Some(bare) = signing_secret.as_ref().and_then(|secret| secret.expose().strip_prefix("whsec_")) {
        section.at.ctx.secrets.borrow_mut().push(Secret::new(bare));
    }
    Some(ChannelConfig::Webhook { url: url?, headers: headers?, signing_secret })
}

/// What a signing secret is.
const SIGNING_SECRET: &str =
    "whsec_ and 24 to 64 random bytes in base64, such as `echo whsec_$(openssl rand -base64 32)` makes";

/// Headers by name; all their values are secrets.
fn headers(at: &Cursor<'_>) -> Option<Vec<(String, Secret)>> {
    let found = at.texts("a map of headers and their values, such as { X-Api-Key: ... }")?;
    let all = found.len();
    let mut headers: Vec<(String, Secret)> = Vec::new();
    for (name, cursor) in found {
        let Ok(known) = HeaderName::from_bytes(name.as_bytes()) else {
            // The name itself is not told: it may be a whole line with its value.
            at.refuse("a name that no header can have", "names of headers, such as X-Api-Key");
            continue;
        };
        if OWN_HEADERS.contains(&known.as_str()) {
            cursor.refuse(format!("the header {known}"), "a header that lowtide does not set itself");
        } else if headers.iter().any(|(other, _)| other == known.as_str()) {
            cursor.refuse(format!("the header {known} again"), "each only once, in upper case or lower");
        } else if let Some(value) = secrets::value(&cursor, header_value) {
            headers.push((known.as_str().to_owned(), value));
        }
    }
    (headers.len() == all).then_some(headers)
}

fn header_value(text: &str) -> Result<(), ValueError> {
    let sound = HeaderValue::from_str(text).is_ok() && text.trim() == text && text.is_ascii();
    if sound { Ok(()) } else { Err("the value of a header: printable ASCII characters, no spaces around it".into()) }
}

fn pagerduty(section: &Section<'_>, insecure: bool) -> Option<ChannelConfig> {
    let key = |text: &str| {
        let sound = text.bytes().all(|b| b.is_ascii_graphic());
        if sound { Ok(()) } else { Err(ValueError::from("the integration key of an Events API v2 integration")) }
    };
    let routing_key = secrets::secret(section, "routing_key", "routing_key_file", true, key);
    let url = section.get("url").map(|cursor| {
        let mut url = cursor.read(|text| values::secure_web(text, insecure))?;
        // The region's host alone is enough.
        if url.path() == "/" {
            url.set_path("/v2/enqueue");
        }
        Some(url)
    });
    let url = match url {
        Some(read) => Some(read?),
        None => None,
    };
    Some(ChannelConfig::PagerDuty { routing_key: routing_key?, url })
}

fn teams(section: &Section<'_>, insecure: bool) -> Option<ChannelConfig> {
    let address = |text: &str| values::secure_web(text, insecure).map(|_| ());
    let webhook_url = secrets::secret(section, "webhook_url", "webhook_url_file", true, address);
    Some(ChannelConfig::Teams { webhook_url: webhook_url? })
}
