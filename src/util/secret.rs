//! Secret values, and their redaction from text that a server sends back.

use std::fmt;
use std::sync::{Arc, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE as BASE64_IN_ADDRESSES};

/// Minimum length of a secret to redact. Shorter ones would redact ordinary words.
const MIN_REDACTED_BYTES: usize = 6;
/// Replacement for a redacted secret.
pub(crate) const REDACTED: &str = "***";

/// A secret value. It has no `Display`, and its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Returns the value, for the request that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// Returns `true` if a part of a secret address looks like a token rather than an ordinary word, which must not be redacted.
pub(crate) fn looks_random(part: &str) -> bool {
    part.len() >= 2 * MIN_REDACTED_BYTES || part.bytes().any(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
}

/// Redacts the secrets of the running configuration from text. Clones share their secrets.
#[derive(Clone, Default)]
pub struct Redactor {
    known: Arc<RwLock<Vec<String>>>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

impl Redactor {
    /// Adds a secret, in every form in which a server may echo it. Of a secret address, the secret parts are added as well.
    pub fn learn(&self, secret: &Secret) {
        // A poisoned lock means only that a thread panicked while holding it; the list itself is sound.
        let mut known = self.known.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.extend(searched_forms(secret));
        // Longest first, so that no part is redacted before the whole.
        known.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        known.dedup();
    }

    /// Removes a secret that has lost its value, such as an expired token.
    pub fn forget(&self, secret: &Secret) {
        let removed = searched_forms(secret);
        let mut known = self.known.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.retain(|form| !removed.contains(form));
    }

    /// Returns the text with every known secret replaced, regardless of case.
    pub fn redact(&self, text: &str) -> String {
        let known = self.known.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (mut text, mut lower) = (text.to_owned(), text.to_ascii_lowercase());
        for secret in known.iter() {
            if lower.contains(secret.as_str()) {
                text = replace_secret(&text, &lower, secret);
                lower = text.to_ascii_lowercase();
            }
        }
        text
    }
}

/// Returns the lower-case strings to search for because of a secret.
fn searched_forms(secret: &Secret) -> Vec<String> {
    let value = secret.expose();
    let mut all = forms(value);
    if let Some((_, rest)) = value.split_once("://") {
        all.extend(secret_parts(rest).into_iter().flat_map(forms));
    }
    all.into_iter().filter(|form| form.len() >= MIN_REDACTED_BYTES).map(|form| form.to_ascii_lowercase()).collect()
}

/// Returns a value as it is and as encoded in JSON, addresses, logs and logins.
fn forms(value: &str) -> Vec<String> {
    let mut forms = vec![value.to_owned(), value.escape_default().to_string(), value.escape_debug().to_string()];
    if let Ok(json) = serde_json::to_string(value) {
        let inner = json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or(&json);
        forms.extend([inner.to_owned(), inner.replace('/', "\\/")]);
    }
    let percent: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
    forms.extend([percent.replace('+', "%20"), percent]);
    for encoded in [BASE64.encode(value), BASE64_IN_ADDRESSES.encode(value)] {
        forms.extend([encoded.trim_end_matches('=').to_owned(), encoded]);
    }
    forms
}

/// Returns the secret parts of an address without its scheme: path with query, path, last path segment, query values, password.
fn secret_parts(rest: &str) -> Vec<&str> {
    let (host, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let path = tail.split(['?', '#']).next().unwrap_or_default();
    // A path of ordinary words, such as `/alerts`, is not secret and occurs in file names.
    let secret_path = path.len() >= 2 * MIN_REDACTED_BYTES || path.split('/').any(looks_random);
    let mut parts = if secret_path { vec![tail, path] } else { Vec::new() };
    parts.extend(path.rsplit('/').find(|piece| !piece.is_empty()).filter(|last| looks_random(last)));
    let query = tail.get(path.len()..).unwrap_or_default().split(['?', '&', '#', ';']);
    parts.extend(query.map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value)).filter(|it| looks_random(it)));
    parts.extend(host.rsplit_once('@').and_then(|(login, _)| login.split_once(':')).map(|(_, password)| password));
    parts
}

/// Replaces a secret. `lower` is the text in ASCII lower case, with the same byte positions.
fn replace_secret(text: &str, lower: &str, secret: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (at, _) in lower.match_indices(secret) {
        out.push_str(&text[from..at]);
        out.push_str(REDACTED);
        from = at + secret.len();
    }
    out.push_str(&text[from..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_in_debug_and_redacted_in_text() {
        let secret = Secret::new("hunter2\"hunter2");
        assert_eq!(format!("{secret:?}"), "***");
        let redactor = Redactor::default();
        redactor.learn(&secret);
        redactor.learn(&Secret::new("https://hooks.example.com/services/T000/B000/abcdefghijkl"));
        redactor.learn(&Secret::new("abc"));
        redactor.learn(&Secret::new("https://chat.example.com/hooks/XyZtokenABC?x=1"));
        redactor.learn(&Secret::new("https://chat.example.com/a/webhook"));
        assert_eq!(redactor.redact("key hunter2\"hunter2 is bad"), "key *** is bad");
        assert_eq!(redactor.redact(r#"{"key":"hunter2\"hunter2"}"#), r#"{"key":"***"}"#);
        assert_eq!(redactor.redact("no route /services/T000/B000/abcdefghijkl"), "no route ***");
        assert_eq!(redactor.redact("abc stays, and so does webhook"), "abc stays, and so does webhook");
        assert_eq!(redactor.redact("no token XyZtokenABC at /hooks/XyZtokenABC"), "no token *** at ***");
        assert_eq!(redactor.redact("535 bad aHVudGVyMiJodW50ZXIy"), "535 bad ***");
        assert_eq!(redactor.redact("ÄÖ HUNTER2\"hunter2 is bad, hunter2%22hunter2 too"), "ÄÖ *** is bad, *** too");
    }

    #[test]
    fn forgotten_secrets_are_no_longer_redacted_but_others_are() {
        let redactor = Redactor::default();
        redactor.learn(&Secret::new("token-of-today"));
        redactor.learn(&Secret::new("token-of-tomorrow"));
        redactor.forget(&Secret::new("token-of-today"));
        assert_eq!(redactor.redact("token-of-today token-of-tomorrow"), "token-of-today ***");
    }

    #[test]
    fn secret_parts_of_an_address_are_redacted_and_ordinary_words_are_not() {
        let redactor = Redactor::default();
        redactor.learn(&Secret::new(
            "https://user:pass99word@chat.example.com/hooks/incoming/?room=alerts&token=Tok3nOfTheRoom#x",
        ));
        assert_eq!(redactor.redact("no token tok3nOFTHEroom, pass99word"), "no token ***, ***");
        assert_eq!(redactor.redact("user room alerts hooks incoming"), "user room alerts hooks incoming");
        redactor.learn(&Secret::new("https://chat.example.com/alerts"));
        assert_eq!(redactor.redact("/etc/lowtide/alerts.yaml"), "/etc/lowtide/alerts.yaml");
    }
}
