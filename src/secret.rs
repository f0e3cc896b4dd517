//! Secrets: values that are used but never shown, and the striking out of those that a server echoes back.

use std::fmt;
use std::sync::{Arc, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Shorter secrets are not searched for: they would strike out ordinary words.
const SHORTEST_STRUCK: usize = 6;
/// What stands where a secret was.
const STRUCK: &str = "***";

/// A secret value. It has no `Display`, and its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for the one request that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STRUCK)
    }
}

/// Whether the end of a secret address is a token, and not a word that would be struck out of every message.
fn looks_random(last: &str) -> bool {
    last.len() >= 2 * SHORTEST_STRUCK || last.bytes().any(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
}

/// Knows every secret of the running configuration and strikes it out of text that comes from outside.
/// Clones share what they know.
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
    /// Remembers a secret, also as it looks inside JSON, and the path of a secret address by itself.
    pub fn learn(&self, secret: &Secret) {
        let value = secret.expose();
        let mut forms = vec![value.to_owned(), value.escape_default().to_string()];
        let encoded = BASE64.encode(value);
        forms.push(encoded.trim_end_matches('=').to_owned());
        forms.push(encoded);
        if let Ok(json) = serde_json::to_string(value) {
            forms.push(json.trim_matches('"').to_owned());
        }
        if let Some((_, rest)) = value.split_once("://")
            && let Some(at) = rest.find('/')
        {
            let path = rest[at..].split(['?', '#']).next().unwrap_or_default();
            forms.extend([rest[at..].to_owned(), path.to_owned()]);
            forms.extend(path.rsplit('/').next().filter(|last| looks_random(last)).map(str::to_owned));
        }
        // A poisoned lock only means that some thread panicked while holding it; the list itself is sound.
        let mut known = self.known.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.extend(forms.into_iter().filter(|form| form.len() >= SHORTEST_STRUCK));
        known.sort_by_key(|form| std::cmp::Reverse(form.len()));
        known.dedup();
    }

    /// The text with every known secret struck out.
    pub fn strike(&self, text: &str) -> String {
        let known = self.known.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.iter().fold(text.to_owned(), |text, secret| {
            if text.contains(secret.as_str()) { text.replace(secret.as_str(), STRUCK) } else { text }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_nothing_of_itself_and_is_struck_out_where_it_is_echoed() {
        let secret = Secret::new("hunter2\"hunter2");
        assert_eq!(format!("{secret:?}"), "***");
        let redactor = Redactor::default();
        redactor.learn(&secret);
        redactor.learn(&Secret::new("https://hooks.example.com/services/T000/B000/abcdefghijkl"));
        redactor.learn(&Secret::new("abc"));
        redactor.learn(&Secret::new("https://chat.example.com/hooks/XyZtokenABC?x=1"));
        redactor.learn(&Secret::new("https://chat.example.com/a/webhook"));
        assert_eq!(redactor.strike("key hunter2\"hunter2 is bad"), "key *** is bad");
        assert_eq!(redactor.strike(r#"{"key":"hunter2\"hunter2"}"#), r#"{"key":"***"}"#);
        assert_eq!(redactor.strike("no route /services/T000/B000/abcdefghijkl"), "no route ***");
        assert_eq!(redactor.strike("abc stays, and so does webhook"), "abc stays, and so does webhook");
        assert_eq!(redactor.strike("no token XyZtokenABC at /hooks/XyZtokenABC"), "no token *** at ***");
        assert_eq!(redactor.strike("535 bad aHVudGVyMiJodW50ZXIy"), "535 bad ***");
    }
}
