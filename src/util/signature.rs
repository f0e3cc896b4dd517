//! Signatures of the Standard Webhooks specification: HMAC-SHA256 with a `whsec_` key. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Prefix of a signing secret.
const PREFIX: &str = "whsec_";

/// Key for signing requests.
#[derive(Clone)]
pub struct SigningKey(Vec<u8>);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(***)")
    }
}

impl SigningKey {
    /// Parses `whsec_` followed by 24 to 64 bytes in base64.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64.decode(text.strip_prefix(PREFIX)?).ok()?;
        (24..=64).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// Returns the signature `v1,…` of the id, the time in seconds since 1970, and the body.
    pub fn sign(&self, id: &str, timestamp: i64, body: &str) -> Option<String> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        for part in [id, ".", &timestamp.to_string(), ".", body] {
            mac.update(part.as_bytes());
        }
        Some(format!("v1,{}", BASE64.encode(mac.finalize().into_bytes())))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn signature_matches_the_specification() {
        // Example from the Standard Webhooks reference libraries.
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn signing_secret_needs_its_prefix_and_length() {
        let secret = |bytes: usize| format!("whsec_{}", BASE64.encode(vec![7; bytes]));
        assert!(SigningKey::parse(&secret(24)).is_some() && SigningKey::parse(&secret(64)).is_some());
        for bad in [secret(23), secret(65), "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(), "whsec_!".to_owned()] {
            assert!(SigningKey::parse(&bad).is_none(), "{bad}");
        }
        assert_eq!(format!("{:?}", SigningKey::parse(&secret(24))), "Some(SigningKey(***))");
    }
}
