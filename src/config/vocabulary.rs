//! Words of the configuration: which keys hold secrets, and which words lowtide itself defines.

use super::catalog;
use super::keys::Key;
use crate::util::text::resembles;

/// Returns `true` if any key at this level or below matches.
fn any(keys: &[Key], matches: &impl Fn(&Key) -> bool) -> bool {
    keys.iter().any(|key| matches(key) || any(key.below(), matches))
}

/// Returns `true` if the value of this key is a secret.
pub(super) fn is_secret(key: &str) -> bool {
    any(catalog::ROOT, &|known| known.secret && known.name == key)
}

/// Returns `true` if this could be a misspelt key of a secret.
pub(super) fn is_secret_like(word: &str) -> bool {
    any(catalog::ROOT, &|known| known.secret && resembles(word, known.name))
}

/// Returns `true` for the name of a key, and for a fixed value that a key may have.
pub(super) fn is_known_word(word: &str) -> bool {
    any(catalog::ROOT, &|known| known.name == word || catalog::choices(known.value).contains(&word))
}

/// Returns a key as messages show it. Of `api_key=VALUE` or `password:VALUE`, where a colon or space is missing, the value is
/// cut off.
pub(super) fn shown_key(key: &str) -> &str {
    let end = key.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').unwrap_or(key.len());
    let (word, rest) = key.split_at(end);
    if !rest.is_empty() && is_secret_like(word) { word } else { key }
}
