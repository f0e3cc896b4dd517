//! The state document: JSON with a version and a checksum.

use std::io::{BufWriter, Write as _};
use std::iter;
use std::ops::Range;

use serde::Deserialize as _;
use sha2::{Digest, Sha256};

use super::json::{JsonPieces, PIECE_BYTES};
use super::version1;
use crate::alerting::state::State;

/// Version of the state document that this program writes. Bump when the format changes.
pub const STATE_VERSION: u32 = 2;
/// Number of bytes that are added to the checksum at once.
const CHECKSUM_CHUNK_BYTES: usize = 8192;

#[derive(serde::Serialize)]
struct StateDocument<'a> {
    version: u32,
    checksum: &'a str,
    #[serde(flatten)]
    state: &'a State,
}

/// Placeholder for a checksum that is computed later.
const CHECKSUM_PLACEHOLDER: &str = "0000000000000000";

/// Returns the first bytes of a file of this version as the program writes it, up to the checksum.
fn document_head(version: u32) -> String {
    format!("{{\n  \"version\": {version},\n  \"checksum\": \"")
}

/// Computes the checksum of all text around its own place, which is in the first piece, without white space. It reveals files that
/// were damaged or edited, but not reformatted. A file without a checksum is accepted.
fn checksum_around<'a>(place: &Range<usize>, first: &'a [u8], more: impl Iterator<Item = &'a [u8]>) -> String {
    let mut digest = Sha256::new();
    let mut dense = Vec::with_capacity(CHECKSUM_CHUNK_BYTES);
    for piece in [&first[..place.start], &first[place.end..]].into_iter().chain(more) {
        for chunk in piece.chunks(CHECKSUM_CHUNK_BYTES) {
            dense.clear();
            dense.extend(chunk.iter().copied().filter(|byte| !byte.is_ascii_whitespace()));
            digest.update(&dense);
        }
    }
    crate::util::text::hex(&digest.finalize()[..CHECKSUM_PLACEHOLDER.len() / 2])
}

/// Error for bytes that cannot be read as a state.
#[derive(Debug, thiserror::Error)]
pub enum StateDecodeError {
    /// A newer program wrote them. Contains its version.
    #[error("version {0} is newer than this lowtide understands")]
    Newer(String),
    /// The bytes cannot be understood or trusted. Contains the reason.
    #[error("{0}")]
    Unusable(String),
}

/// State decoded from the bytes of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedState {
    /// Content of the document.
    pub state: State,
    /// The checksum does not match, although every key is known: the file was edited, or a value is damaged.
    pub altered: bool,
}

/// Decodes the bytes of a state file of this version or of version 1, which is migrated. A file whose checksum does not
/// match is still used if it is a whole state with nothing but known keys: one wrong value does less harm than forgetting
/// every alert.
pub fn decode(bytes: &[u8]) -> Result<DecodedState, StateDecodeError> {
    #[derive(serde::Deserialize)]
    struct Version {
        version: serde_json::Number,
    }
    // A document that this program wrote needs no closer look.
    if has_matching_checksum(bytes, STATE_VERSION)
        && let Ok(state) = serde_json::from_slice(bytes)
    {
        return Ok(DecodedState { state, altered: false });
    }
    let Version { version } = serde_json::from_slice(bytes).map_err(unusable)?;
    // Whatever its size or form, a number beyond ours is a newer program's.
    if version.as_f64().is_some_and(|found| found > f64::from(STATE_VERSION)) {
        return Err(StateDecodeError::Newer(version.to_string()));
    }
    match version.as_u64() {
        Some(found) if found == u64::from(STATE_VERSION) => decode_current(bytes),
        Some(1) => decode_version1(bytes),
        _ => Err(StateDecodeError::Unusable(format!("version {version} was never written"))),
    }
}

fn decode_current(bytes: &[u8]) -> Result<DecodedState, StateDecodeError> {
    let mut document: serde_json::Value = serde_json::from_slice(bytes).map_err(unusable)?;
    let state: State = serde_json::from_slice(bytes).map_err(unusable)?;
    let Some(claimed) = take_checksum(&mut document) else { return Ok(DecodedState { state, altered: false }) };
    let (reencoded, checksum) = reencode(&state)?;
    // An editor that sorts or reformats leaves a document with the same content.
    if checksum == Some(claimed) && document == reencoded {
        return Ok(DecodedState { state, altered: false });
    }
    altered_state(state, &document, &reencoded)
}

fn decode_version1(bytes: &[u8]) -> Result<DecodedState, StateDecodeError> {
    let mut document: serde_json::Value = serde_json::from_slice(bytes).map_err(unusable)?;
    version1::migrate(&mut document);
    let claimed = take_checksum(&mut document);
    let state = State::deserialize(&document).map_err(unusable)?;
    if claimed.is_none() || has_matching_checksum(bytes, 1) {
        return Ok(DecodedState { state, altered: false });
    }
    let (reencoded, _) = reencode(&state)?;
    altered_state(state, &document, &reencoded)
}

/// Accepts a document whose checksum does not match if every part of it was understood.
fn altered_state(
    state: State,
    document: &serde_json::Value,
    reencoded: &serde_json::Value,
) -> Result<DecodedState, StateDecodeError> {
    if same_shape(document, reencoded) {
        return Ok(DecodedState { state, altered: true });
    }
    Err(StateDecodeError::Unusable("its checksum does not match, and parts of it are not understood".to_owned()))
}

/// Returns the document that this program would write, and its checksum.
fn reencode(state: &State) -> Result<(serde_json::Value, Option<serde_json::Value>), StateDecodeError> {
    let json = encode(state).map_err(|error| StateDecodeError::Unusable(error.to_string()))?;
    let mut document: serde_json::Value = serde_json::from_slice(&json.to_bytes()).map_err(unusable)?;
    let checksum = take_checksum(&mut document);
    Ok((document, checksum))
}

fn unusable(error: serde_json::Error) -> StateDecodeError {
    StateDecodeError::Unusable(error.to_string())
}

fn take_checksum(document: &mut serde_json::Value) -> Option<serde_json::Value> {
    document.as_object_mut().and_then(|keys| keys.remove("checksum"))
}

/// Finds the checksum in a file that begins as a program of this version writes it.
fn checksum_range(bytes: &[u8], version: u32) -> Option<Range<usize>> {
    let head = document_head(version);
    let place = head.len()..head.len() + CHECKSUM_PLACEHOLDER.len();
    (bytes.starts_with(head.as_bytes()) && bytes.get(place.end) == Some(&b'"')).then_some(place)
}

fn has_matching_checksum(bytes: &[u8], version: u32) -> bool {
    checksum_range(bytes, version)
        .is_some_and(|place| checksum_around(&place, bytes, iter::empty()).as_bytes() == &bytes[place])
}

/// Returns `true` if two values have the same keys and numbers of items, whatever their values. A key with an empty value equals a
/// missing key, because empty values are not written.
fn same_shape(one: &serde_json::Value, other: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Null, Object};
    match (one, other) {
        (Object(one), Object(other)) => one
            .keys()
            .chain(other.keys())
            .all(|key| same_shape(one.get(key).unwrap_or(&Null), other.get(key).unwrap_or(&Null))),
        (Array(one), Array(other)) => one.len() == other.len() && one.iter().zip(other).all(|(a, b)| same_shape(a, b)),
        (Null, some) | (some, Null) => is_default_value(some),
        (Object(_) | Array(_), _) | (_, Object(_) | Array(_)) => false,
        _ => true,
    }
}

/// Returns `true` for values that are written by leaving out their key.
fn is_default_value(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null | serde_json::Value::Bool(false) => true,
        serde_json::Value::Number(number) => number.as_u64() == Some(0),
        serde_json::Value::Array(items) => items.is_empty(),
        serde_json::Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// Encodes a state document.
pub fn encode(state: &State) -> std::io::Result<JsonPieces> {
    let mut to = BufWriter::with_capacity(PIECE_BYTES, JsonPieces::default());
    serde_json::to_writer_pretty(
        &mut to,
        &StateDocument { version: STATE_VERSION, checksum: CHECKSUM_PLACEHOLDER, state },
    )?;
    to.write_all(b"\n")?;
    let mut json = to.into_inner()?;
    // The checksum is in the first piece: the text before it is far shorter than a piece, and written in small parts.
    let place = json.pieces().next().and_then(|first| checksum_range(first, STATE_VERSION));
    debug_assert!(place.is_some(), "a file begins with its checksum");
    if let Some(place) = place {
        let mut pieces = json.pieces();
        let checksum = checksum_around(&place, pieces.next().unwrap_or_default(), pieces);
        json.first_piece()[place].copy_from_slice(checksum.as_bytes());
    }
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerting::queue::NewEvent;
    use crate::alerting::state::AlertRecord;
    use crate::domain::alert::{AlertKey, LevelState};

    #[test]
    fn a_saved_state_has_a_checksum_that_ignores_white_space() {
        let now = crate::domain::Time::from_timestamp(1_795_500_000, 0).unwrap();
        let mut state = State::default();
        for alerts in 0..4u64 {
            let json = encode(&state).unwrap().to_bytes();
            assert!(
                checksum_range(&json, STATE_VERSION)
                    .is_some_and(|place| json[place] != *CHECKSUM_PLACEHOLDER.as_bytes()),
                "{alerts} alerts"
            );
            assert_eq!(decode(&json).unwrap(), DecodedState { state: state.clone(), altered: false });
            let text = String::from_utf8(json).unwrap();
            let dense: String = text.split_ascii_whitespace().collect();
            let wide = text.replace('\n', "\r\n\t");
            for text in [dense, wide] {
                assert_eq!(
                    decode(text.as_bytes()).unwrap(),
                    DecodedState { state: state.clone(), altered: false },
                    "{text}"
                );
            }
            let key = AlertKey { account: "acme".into(), division: Some(alerts), rule: "funds\\\"\u{1F4B6}\"".into() };
            let mut record = AlertRecord::default();
            record.alert.warning = Some(LevelState { since: now, firing: true });
            state.alerts.insert(key.clone(), record);
            let subject = crate::domain::event::EventSubject::NotifierRecovered { notifier: "mail".into(), since: now };
            state.queue.enqueue(NewEvent::notice(subject, now, ["slack".into()].into()));
            state.record_failure(&"slack".into(), "no", now);
        }
        assert_eq!((state.alerts.len(), state.queue.is_empty()), (4, false));
    }
}
