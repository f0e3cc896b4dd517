//! A webhook of anybody's: one POST an event, its JSON as docs/webhook.md says, signed as Standard Webhooks says.
//!
//! The address, the headers and the signing secret are credentials. What is said is `render::record`'s.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;

use super::http::{Endpoint, MAY_PASS, Manners, secret_header};
use super::render::record;
use super::{Delivered, Message, Notifier, SendError, Words};
use crate::secret::{Redactor, Secret};

pub use super::render::record::record;

/// Whoever is at the other end: any 2xx is a yes.
const MANNERS: Manners = Manners { service: "the webhook", passing: MAY_PASS, refuses: |_| false, hint };

/// What a signing secret begins with.
const PREFIX: &str = "whsec_";

/// A key that requests are signed with.
#[derive(Clone)]
pub struct SigningKey(Vec<u8>);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(***)")
    }
}

impl SigningKey {
    /// From `whsec_` and 24 to 64 bytes in base64, as Standard Webhooks writes it.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64.decode(text.strip_prefix(PREFIX)?).ok()?;
        (24..=64).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// `v1,…` over the id, the time and the body.
    fn sign(&self, id: &str, timestamp: i64, body: &str) -> Option<String> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        for part in [id, ".", &timestamp.to_string(), ".", body] {
            mac.update(part.as_bytes());
        }
        Some(format!("v1,{}", BASE64.encode(mac.finalize().into_bytes())))
    }
}

/// Somebody's endpoint.
#[derive(Debug)]
pub struct Webhook {
    endpoint: Endpoint,
    headers: HeaderMap,
    key: Option<SigningKey>,
    words: Arc<Words>,
}

impl Webhook {
    /// A notifier that posts to `url`. The client brings timeout and trust, and must follow no redirect. A header that is
    /// none is left out: the configuration has refused it before.
    pub fn new(
        url: Secret,
        headers: &[(String, Secret)],
        key: Option<SigningKey>,
        http: reqwest::Client,
        words: Arc<Words>,
        redactor: Redactor,
    ) -> Self {
        let headers = headers.iter().filter_map(|(name, value)| secret_header(name, value.expose())).collect();
        Self { endpoint: Endpoint { url, http, redactor, manners: MANNERS }, headers, key, words }
    }

    async fn post(&self, message: &Message) -> Result<(), SendError> {
        let body = record::record(message, &self.words).to_string();
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
impl Notifier for Webhook {
    async fn send(&self, message: &Message) -> Result<Delivered, SendError> {
        for one in message.one_by_one() {
            self.post(&one).await?;
        }
        Ok(Delivered::default())
    }

    fn one_by_one(&self) -> bool {
        true
    }
}

fn hint(status: StatusCode, _: &str) -> &'static str {
    match status.as_u16() {
        300..=399 => " (it redirects, which is not followed: give `url` the address that it leads to)",
        401 | 403 => " (it wants other credentials: look at `headers` and `signing_secret`)",
        404 | 410 => " (nothing is there: look at `url`)",
        _ => "",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_specification() {
        // The example of the Standard Webhooks reference libraries.
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_signing_secret_has_its_prefix_and_its_length() {
        let of = |bytes: usize| format!("whsec_{}", BASE64.encode(vec![7; bytes]));
        assert!(SigningKey::parse(&of(24)).is_some() && SigningKey::parse(&of(64)).is_some());
        for bad in [of(23), of(65), "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(), "whsec_!".to_owned()] {
            assert!(SigningKey::parse(&bad).is_none(), "{bad}");
        }
        assert_eq!(format!("{:?}", SigningKey::parse(&of(24))), "Some(SigningKey(***))");
    }
}
