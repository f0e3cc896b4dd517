//! Decodes a notifier's channel by its `type`. A new type is a row of [`CHANNEL_TYPES`], a function, and its keys in
//! `catalog`.

use std::collections::BTreeMap;

use reqwest::header::{HeaderName, HeaderValue};

use super::catalog::MENTION;
use super::cursor::Cursor;
use super::keys::ValueKind;
use super::model::ChannelConfig;
use super::problem::ValueError;
use super::section::Section;
use super::{email, mention, secrets, values};
use crate::domain::rule::Severity;
use crate::util::secret::Secret;
use crate::util::signature::SigningKey;

/// A type of notifier.
pub(super) struct ChannelType {
    /// Name, as `type` has it.
    pub(super) name: &'static str,
    /// Name of such a notifier in messages.
    pub(super) kind: &'static str,
    /// Decodes the keys of the type; the flag is `allow_insecure`.
    read: fn(&Section<'_>, bool) -> Option<ChannelConfig>,
}

const CHANNEL_TYPES: [ChannelType; 5] = [
    ChannelType { name: "slack", kind: "a Slack notifier", read: slack },
    ChannelType { name: "email", kind: "an email notifier", read: email::email },
    ChannelType { name: "webhook", kind: "a webhook notifier", read: webhook },
    ChannelType { name: "pagerduty", kind: "a PagerDuty notifier", read: pagerduty },
    ChannelType { name: "teams", kind: "a Teams notifier", read: teams },
];

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

/// Returns the type of the notifier at `cursor`, without reporting anything.
pub(super) fn type_of(cursor: &Cursor<'_>) -> Option<&'static ChannelType> {
    let cursor = cursor.peek("type")?;
    let text = cursor.quietly_expanded()?;
    static TYPES: [ChannelType; 5] = CHANNEL_TYPES;
    TYPES.iter().find(|known| known.name == text)
}

/// Decodes a notifier's channel by its type.
pub(super) fn channel(section: &Section<'_>, insecure: bool) -> Option<ChannelConfig> {
    let choices = CHANNEL_TYPES.map(|known| (known.name, known.read));
    let cursor = section.required("type", &values::choices(ValueKind::NotifierType))?;
    let read = cursor.read(values::choice("is not a type of notifier", &choices))?;
    read(section, insecure)
}

fn slack(section: &Section<'_>, insecure: bool) -> Option<ChannelConfig> {
    let webhook_url = webhook_url(section, insecure);
    let mut mentions = BTreeMap::new();
    if let Some(levels) = section.get("mention").and_then(|cursor| cursor.section(MENTION)) {
        for severity in [Severity::Warning, Severity::Critical] {
            let Some(cursor) = levels.get(&severity.to_string()) else { continue };
            let Some(text) = cursor.read(values::line) else { continue };
            if let Some(correction) = mention::correction(&text) {
                cursor.warn("the mention notifies nobody", correction);
            }
            mentions.insert(severity, text);
        }
    }
    Some(ChannelConfig::Slack { webhook_url: webhook_url?, mention: mentions })
}

fn teams(section: &Section<'_>, insecure: bool) -> Option<ChannelConfig> {
    Some(ChannelConfig::Teams { webhook_url: webhook_url(section, insecure)? })
}

fn webhook_url(section: &Section<'_>, insecure: bool) -> Option<Secret> {
    let address = |text: &str| values::secure_web(text, insecure).map(|_| ());
    secrets::secret(section, "webhook_url", "webhook_url_file", true, address)
}

fn webhook(section: &Section<'_>, insecure: bool) -> Option<ChannelConfig> {
    let address = |text: &str| values::secure_web(text, insecure).map(|_| ());
    let url = secrets::secret(section, "url", "url_file", true, address);
    let headers = section.get("headers").map_or(Some(Vec::new()), |cursor| headers(&cursor));
    let signing_secret = secrets::secret(section, "signing_secret", "signing_secret_file", false, signing_key);
    if let Some(bare) = signing_secret.as_ref().and_then(|secret| secret.expose().strip_prefix("whsec_")) {
        section.at.ctx.secrets.borrow_mut().push(Secret::new(bare));
    }
    Some(ChannelConfig::Webhook { url: url?, headers: headers?, signing_secret })
}

fn signing_key(text: &str) -> Result<(), ValueError> {
    let expected = "whsec_ and 24 to 64 random bytes in base64 (`echo whsec_$(openssl rand -base64 32)` creates one)";
    SigningKey::parse(text).map(|_| ()).ok_or_else(|| ValueError::new("is not a signing secret", expected))
}

/// Reads headers by name. All their values are secrets.
fn headers(cursor: &Cursor<'_>) -> Option<Vec<(String, Secret)>> {
    let found = cursor.texts("a map of headers and their values, such as { X-Api-Key: ... }")?;
    let all = found.len();
    let mut headers: Vec<(String, Secret)> = Vec::new();
    for (name, value) in found {
        let Ok(known) = HeaderName::from_bytes(name.as_bytes()) else {
            // The name itself is not shown: it may be a whole line with its value.
            let found = "a name that no header can have";
            cursor.refuse("invalid header name", found, "names of headers, such as X-Api-Key");
            continue;
        };
        if OWN_HEADERS.contains(&known.as_str()) {
            let message = format!("the header `{known}` is set by lowtide");
            value.refuse(message, format!("the header {known}"), "a header that lowtide does not set itself");
        } else if headers.iter().any(|(other, _)| other == known.as_str()) {
            let message = format!("duplicate header `{known}`");
            value.refuse(message, format!("the header {known} again"), "each only once, in upper case or lower");
        } else if let Some(value) = secrets::value(&value, header_value) {
            headers.push((known.as_str().to_owned(), value));
        }
    }
    (headers.len() == all).then_some(headers)
}

fn header_value(text: &str) -> Result<(), ValueError> {
    let valid = HeaderValue::from_str(text).is_ok() && text.trim() == text && text.is_ascii();
    let expected = "the value of a header: printable ASCII characters, no spaces around it";
    if valid { Ok(()) } else { Err(ValueError::new("is not a header value", expected)) }
}

fn pagerduty(section: &Section<'_>, insecure: bool) -> Option<ChannelConfig> {
    let routing_key = secrets::secret(section, "routing_key", "routing_key_file", true, routing_key);
    let url = section.read_optional("url", |text| {
        let mut url = values::secure_web(text, insecure)?;
        // The host of a service region is sufficient.
        if url.path() == "/" {
            url.set_path("/v2/enqueue");
        }
        Ok(url)
    });
    Some(ChannelConfig::PagerDuty { routing_key: routing_key?, url: url? })
}

fn routing_key(text: &str) -> Result<(), ValueError> {
    let valid = text.bytes().all(|b| b.is_ascii_graphic());
    let expected = "the integration key of an Events API v2 integration";
    if valid { Ok(()) } else { Err(ValueError::new("is not an integration key", expected)) }
}

#[cfg(test)]
mod tests {
    use super::super::catalog::NOTIFIER_TYPES;
    use super::CHANNEL_TYPES;

    #[test]
    fn every_type_of_notifier_has_a_decoder() {
        assert_eq!(CHANNEL_TYPES.map(|known| known.name), NOTIFIER_TYPES);
    }
}
