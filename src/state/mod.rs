//! Remembering: the state file, and the book that every change of the state goes through.
//!
//! The promise kept here: what [`StateStore::change`] changed is on disk before it returns, or has loudly failed to be and is
//! tried again. What [`StateStore::mark`] notes may share a save with more of its kind. Nothing here decides what is remembered.

mod file;
mod json;
pub mod silences;

use std::io::{BufWriter, Write as _};
use std::iter;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

pub(crate) use crate::util::atomic_file::beside;
#[doc(hidden)]
pub use file::{FileBackend, OpenedState, StateOpenError, read_only};
pub use json::JsonPieces;

use crate::alerting::state::State;
use crate::util::clock::Clock;

/// The longest pause before saving is tried again.
const SAVE_RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// How long anybody waits for a write; a disk that hangs is no reason to stay silent.
const SAVE_TIMEOUT: Duration = Duration::from_secs(5);
/// So many marks of deliveries wait at most for a save that they share: as many messages a crash may repeat.
const MAX_UNSAVED_MARKS: usize = 25;
/// A state of up to so many bytes is saved at each mark.
const SMALL_STATE_BYTES: usize = 64 * 1024;
/// Marks wait as long as writing the state would take at so many bytes a second.
const MARK_BYTES_PER_SECOND: usize = 1024 * 1024;
/// And no longer than this.
const MAX_MARK_DELAY: Duration = Duration::from_secs(2);
/// The version of the state file that this program writes.
pub const STATE_VERSION: u32 = 1;
/// So many bytes of a file are put through the checksum at once.
const CHECKSUM_CHUNK_BYTES: usize = 8192;

/// Somewhere to keep the state.
pub trait StateBackend: Send + Sync {
    /// Replaces what is kept, atomically: afterwards either the old or the new bytes are there, whatever happens. An error
    /// names the place.
    fn save(&self, json: &JsonPieces) -> std::io::Result<()>;

    /// Makes sure that nobody else saves here.
    fn ensure_ownership(&self) -> StateOwnership {
        StateOwnership::Held
    }

    /// Names the place, for people.
    fn location(&self) -> String {
        "memory".to_owned()
    }
}

/// Who may save at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateOwnership {
    /// This process, as before.
    Held,
    /// This process, again: its lock had gone, and what was saved may have gone with it.
    Renewed,
    /// Another process.
    Taken,
}

/// The one owner of the state. Every change is applied in memory first, then saved, before anything is sent.
pub struct StateStore {
    inner: Mutex<StoreContents>,
    saved: Arc<tokio::sync::Mutex<SavedRevision>>,
    health: Arc<SaveHealth>,
    backend: Arc<dyn StateBackend>,
    changed: Notify,
    unsaved: Arc<Notify>,
    /// Size of the last state that was written.
    size_bytes: AtomicUsize,
}

struct StoreContents {
    state: State,
    revision: u64,
    /// The last edition that has to be on disk before anything is sent.
    revision_before_sending: u64,
    marks: Option<UnsavedMarks>,
}

/// Marks that no write has taken along yet.
#[derive(Clone, Copy)]
struct UnsavedMarks {
    since: Instant,
    count: usize,
}

/// When a change has to be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveDue {
    /// Nothing changed.
    Never,
    /// In a moment: if it is lost in a crash, something is done once more.
    Soon,
    /// In a moment, and before the next message is sent.
    BeforeSending,
}

struct SavedRevision {
    revision: u64,
    health: Arc<SaveHealth>,
}

/// What keeps the state from being saved; each is logged when it begins and when it ends.
#[derive(Default)]
struct SaveHealth {
    /// The latest write failed.
    failing: AtomicBool,
    /// A write took longer than anybody waits.
    hanging: AtomicBool,
    /// Another process has the state.
    taken: watch::Sender<bool>,
}

impl SavedRevision {
    /// Notes how a write ended, and tells when that changes.
    fn record_write(&mut self, revision: u64, written: std::io::Result<()>) -> bool {
        let health = &self.health;
        match written {
            Ok(()) => {
                self.revision = revision;
                let failed = health.failing.swap(false, Ordering::Relaxed);
                if health.hanging.swap(false, Ordering::Relaxed) || failed {
                    tracing::info!("state is saved again");
                }
                true
            }
            Err(error) => {
                if !health.failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "state cannot be saved: reading and notifying go on, saving is tried again every few seconds; a restart now could repeat messages");
                }
                false
            }
        }
    }
}

impl StateStore {
    /// A book that begins with `state`, as it was loaded.
    pub fn new(state: State, backend: Arc<dyn StateBackend>) -> Self {
        let health = Arc::<SaveHealth>::default();
        Self {
            inner: Mutex::new(StoreContents { state, revision: 0, revision_before_sending: 0, marks: None }),
            saved: Arc::new(tokio::sync::Mutex::new(SavedRevision { revision: 0, health: Arc::clone(&health) })),
            health: health,
            backend: backend,
            changed: Notify::new(),
            unsaved: Arc::new(Notify::new()),
            size_bytes: AtomicUsize::new(0),
        }
    }

    /// Looks at the state.
    pub fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.lock().state)
    }

    /// Changes the state and saves it. `edit` returns its result and whether it changed anything: if not, nothing is
    /// written. A save that fails is logged, stays due and stops nobody.
    pub async fn change<R>(&self, edit: impl FnOnce(&mut State) -> (R, bool)) -> R {
        let (result, revision) = {
            let mut inner = self.lock();
            let (result, changed) = edit(&mut inner.state);
            if !changed {
                return result;
            }
            inner.revision += 1;
            inner.revision_before_sending = inner.revision;
            (result, inner.revision)
        };
        self.save(revision).await;
        self.changed.notify_waiters();
        result
    }

    /// Changes the state by what became of a message. A small state is saved at once; of a large one, several such marks
    /// share a save, so that thousands of messages do not each write thousands of others. Whoever marks also saves what is
    /// left ([`StateStore::marks_due`], [`StateStore::flush_marks`]).
    pub async fn mark<R>(&self, edit: impl FnOnce(&mut State) -> (R, SaveDue)) -> R {
        let (result, full) = {
            let mut inner = self.lock();
            let (result, due) = edit(&mut inner.state);
            if due == SaveDue::Never {
                return result;
            }
            inner.revision += 1;
            if due == SaveDue::BeforeSending {
                inner.revision_before_sending = inner.revision;
            }
            let marks = inner.marks.get_or_insert_with(|| UnsavedMarks { since: Instant::now(), count: 0 });
            marks.count += 1;
            (result, marks.count >= MAX_UNSAVED_MARKS || self.marking_pause().is_zero())
        };
        if full {
            self.flush().await;
        }
        self.changed.notify_waiters();
        result
    }

    /// Waits until marks have to be saved; for ever while there are none.
    pub async fn marks_due(&self) {
        let marks = self.lock().marks;
        match marks {
            Some(marks) => tokio::time::sleep_until(marks.since + self.marking_pause()).await,
            None => std::future::pending().await,
        }
    }

    /// Saves marks that wait, if there are any.
    pub async fn flush_marks(&self) {
        if self.lock().marks.is_some() {
            self.flush().await;
        }
    }

    /// How long marks wait for one another.
    fn marking_pause(&self) -> Duration {
        let size = self.size_bytes.load(Ordering::Relaxed);
        let pause = Duration::from_micros((size.saturating_mul(1_000_000) / MARK_BYTES_PER_SECOND) as u64);
        if size <= SMALL_STATE_BYTES { Duration::ZERO } else { pause.min(MAX_MARK_DELAY) }
    }

    /// Waits for the next change. Ask before looking at the state, so that none is missed.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// Tries saving again, at least every ten seconds, for as long as something is not on disk. Never returns.
    pub async fn retry_saves(&self, clock: &dyn Clock) {
        loop {
            self.unsaved.notified().await;
            loop {
                clock.sleep(SAVE_RETRY_INTERVAL).await;
                if self.flush().await {
                    break;
                }
            }
        }
    }

    /// Saves what is not saved yet. `true` if everything is on disk afterwards.
    pub async fn flush(&self) -> bool {
        let revision = self.lock().revision;
        self.save(revision).await
    }

    /// Saves what has to be on disk before anything is sent: everything but marks. `true` if it is there afterwards.
    pub async fn flush_queued(&self) -> bool {
        let revision = self.lock().revision_before_sending;
        self.save(revision).await
    }

    /// Returns `false` while saving fails or hangs.
    pub fn is_saved(&self) -> bool {
        let SaveHealth { failing, hanging, .. } = &*self.health;
        !failing.load(Ordering::Relaxed) && !hanging.load(Ordering::Relaxed)
    }

    /// Makes sure that no other process has the state, and saves it again where it may be gone. Returns `false` if another
    /// process has it.
    pub async fn ensure_ownership(&self) -> bool {
        let backend = Arc::clone(&self.backend);
        match tokio::task::spawn_blocking(move || backend.ensure_ownership()).await {
            Ok(StateOwnership::Renewed) => {
                tracing::warn!(
                    state = self.backend.location(),
                    "lock file of the state was missing: created again, and the state saved"
                );
                self.lock().revision += 1;
                self.flush().await;
            }
            Ok(StateOwnership::Taken) => drop(self.health.taken.send_replace(true)),
            Ok(StateOwnership::Held) | Err(_) => {}
        }
        !*self.health.taken.borrow()
    }

    /// Completes when another process has taken the state. Nothing may be sent from then on.
    pub async fn wait_until_taken(&self) {
        // The sender lives as long as this does.
        let _ = self.health.taken.subscribe().wait_for(|taken| *taken).await;
    }

    /// Makes sure that `revision` is on disk, and waits so long and no longer: on a disk that hangs, readings and messages
    /// go on as they do on one that fails.
    async fn save(&self, revision: u64) -> bool {
        let saved = tokio::time::timeout(SAVE_TIMEOUT, self.write(revision)).await;
        if *self.health.taken.borrow() {
            // Whoever has changed something would send it next.
            std::future::pending::<()>().await;
        }
        if let Ok(saved) = saved {
            return saved;
        }
        if !self.health.hanging.swap(true, Ordering::Relaxed) {
            tracing::error!(
                state = self.backend.location(),
                "state is not saved in time, the disk hangs: reading and notifying go on; a restart now could repeat messages"
            );
        }
        self.unsaved.notify_one();
        false
    }

    /// Whoever waits meanwhile is served by the same write. A write that has begun
    /// is finished and noted even if nobody waits for it any more, so that no older one can ever follow a newer.
    async fn write(&self, revision: u64) -> bool {
        let mut saved = Arc::clone(&self.saved).lock_owned().await;
        if saved.revision >= revision {
            return true;
        }
        let (json, revision) = {
            let mut inner = self.lock();
            inner.marks = None;
            (encode(&inner.state), inner.revision)
        };
        let size = json.as_ref().map_or(0, |json| json.pieces().map(<[u8]>::len).sum());
        self.size_bytes.store(size, Ordering::Relaxed);
        let (backend, unsaved) = (Arc::clone(&self.backend), Arc::clone(&self.unsaved));
        let write = move || {
            let good = saved.record_write(revision, json.and_then(|json| backend.save(&json)));
            if !good {
                if backend.ensure_ownership() == StateOwnership::Taken {
                    saved.health.taken.send_replace(true);
                }
                unsaved.notify_one();
            }
            good
        };
        tokio::task::spawn_blocking(write).await.unwrap_or(false)
    }

    fn lock(&self) -> MutexGuard<'_, StoreContents> {
        // A panic while holding the lock leaves a state that is whole: edits are plain assignments on owned values.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(serde::Serialize)]
struct StateDocument<'a> {
    version: u32,
    checksum: &'a str,
    #[serde(flatten)]
    state: &'a State,
}

/// What stands in the place of a checksum that is still to be made.
const CHECKSUM_PLACEHOLDER: &str = "0000000000000000";

/// How a file begins that this program wrote, up to its checksum.
fn document_head() -> String {
    format!("{{\n  \"version\": {STATE_VERSION},\n  \"checksum\": \"")
}

/// The checksum of all the text around its own place, which lies in the first piece, but for white space: that of a layout
/// means nothing, and that inside a text cannot become another character unnoticed. It tells a file that was damaged, or
/// edited by hand, from one that was written. A file without one is believed.
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

/// Why bytes are no state of ours.
#[derive(Debug, thiserror::Error)]
pub enum StateDecodeError {
    /// A newer program wrote them; its version.
    #[error("version {0} is newer than this lowtide understands")]
    Newer(String),
    /// They cannot be understood, or not be trusted; why.
    #[error("{0}")]
    Unusable(String),
}

/// The state in a state file's bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedState {
    /// What was remembered.
    pub state: State,
    /// The checksum does not fit, though nothing is missing: somebody has edited the file, or a value is damaged.
    pub altered: bool,
}

/// Reads a state file's bytes. A file whose checksum does not fit is still used where it is a whole state, every key known
/// and in its place: a wrong value is told, but to forget every alert for it would be worse.
pub fn decode(bytes: &[u8]) -> Result<DecodedState, StateDecodeError> {
    #[derive(serde::Deserialize)]
    struct Version {
        version: serde_json::Number,
    }
    // What this very program wrote needs no closer look.
    if let Some(place) = checksum_range(bytes)
        && checksum_around(&place, bytes, iter::empty()).as_bytes() == &bytes[place]
        && let Ok(state) = serde_json::from_slice(bytes)
    {
        return Ok(DecodedState { state, altered: false });
    }
    let unusable = |error: serde_json::Error| StateDecodeError::Unusable(error.to_string());
    let Version { version } = serde_json::from_slice(bytes).map_err(unusable)?;
    // Whatever its size or form, a number beyond ours is a newer program's.
    if version.as_f64().is_some_and(|found| found > f64::from(STATE_VERSION)) {
        return Err(StateDecodeError::Newer(version.to_string()));
    }
    if version.as_u64() != Some(u64::from(STATE_VERSION)) {
        return Err(StateDecodeError::Unusable(format!("version {version} was never written")));
    }
    let mut file: serde_json::Value = serde_json::from_slice(bytes).map_err(unusable)?;
    let state: State = serde_json::from_slice(bytes).map_err(unusable)?;
    let Some(claimed) = take_checksum(&mut file) else { return Ok(DecodedState { state, altered: false }) };
    // An editor that sorts or reformats leaves what this program would write, in other words.
    let reencoded = encode(&state).map_err(|error| StateDecodeError::Unusable(error.to_string()))?;
    let mut reencoded: serde_json::Value = serde_json::from_slice(&reencoded.to_bytes()).map_err(unusable)?;
    let altered = take_checksum(&mut reencoded) != Some(claimed) || file != reencoded;
    if altered && !same_shape(&file, &reencoded) {
        return Err(StateDecodeError::Unusable(
            "its checksum does not fit, and parts of it are not understood".to_owned(),
        ));
    }
    Ok(DecodedState { state, altered })
}

fn take_checksum(file: &mut serde_json::Value) -> Option<serde_json::Value> {
    file.as_object_mut().and_then(|keys| keys.remove("checksum"))
}

/// Where the checksum stands in a file that begins as this program writes it.
fn checksum_range(bytes: &[u8]) -> Option<Range<usize>> {
    let document_head = document_head();
    let place = document_head.len()..document_head.len() + CHECKSUM_PLACEHOLDER.len();
    (bytes.starts_with(document_head.as_bytes()) && bytes.get(place.end) == Some(&b'"')).then_some(place)
}

/// Whether two values have the same keys and as many items in the same places, whatever stands there. A key with nothing
/// below it is as good as none: so it is written, or left out.
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

/// What a key that is left out stands for.
fn is_default_value(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null | serde_json::Value::Bool(false) => true,
        serde_json::Value::Number(number) => number.as_u64() == Some(0),
        serde_json::Value::Array(items) => items.is_empty(),
        serde_json::Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// The state file's bytes.
pub fn encode(state: &State) -> std::io::Result<JsonPieces> {
    let mut to = BufWriter::with_capacity(json::PIECE_BYTES, JsonPieces::default());
    serde_json::to_writer_pretty(
        &mut to,
        &StateDocument { version: STATE_VERSION, checksum: CHECKSUM_PLACEHOLDER, state },
    )?;
    to.write_all(b"\n")?;
    let mut json = to.into_inner()?;
    // It stands in the first piece: what is before it is far shorter than a piece, and written in small parts.
    let place = json.pieces().next().and_then(checksum_range);
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
    use crate::alerting::state::AlertRecord;
    use crate::domain::alert::{AlertKey, LevelState};

    #[test]
    fn a_saved_state_has_a_checksum_that_ignores_white_space() {
        let now = crate::domain::Time::from_timestamp(1_795_500_000, 0).unwrap();
        let mut state = State::default();
        for alerts in 0..4u64 {
            let json = encode(&state).unwrap().to_bytes();
            assert!(
                checksum_range(&json).is_some_and(|place| json[place] != *CHECKSUM_PLACEHOLDER.as_bytes()),
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
            state.enqueue_one(subject, now, &["slack".into()].into(), &std::collections::BTreeMap::new());
            state.record_failure(&"slack".into(), "no", now);
        }
        assert_eq!((state.alerts.len(), state.queue.is_empty()), (4, false));
    }

    /// Counts saves.
    #[derive(Default)]
    struct CountingBackend(AtomicUsize);

    impl StateBackend for CountingBackend {
        fn save(&self, _: &JsonPieces) -> std::io::Result<()> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }

    /// A book whose last save had so many alerts.
    async fn saved_with(alerts: u64) -> (StateStore, Arc<CountingBackend>) {
        let backend = Arc::new(CountingBackend::default());
        let store = StateStore::new(State::default(), Arc::clone(&backend) as Arc<dyn StateBackend>);
        let fill = |state: &mut State| {
            for division in 0..alerts {
                let key = AlertKey { account: "acme".into(), division: Some(division), rule: "funds".into() };
                state.alerts.insert(key, AlertRecord::default());
            }
            ((), true)
        };
        store.change(fill).await;
        (store, backend)
    }

    #[tokio::test(start_paused = true)]
    async fn each_mark_of_a_small_state_is_saved_at_once() {
        let (store, backend) = saved_with(10).await;
        for marks in 1..=3 {
            store.mark(|_| ((), SaveDue::Soon)).await;
            assert_eq!(backend.0.load(Ordering::SeqCst), 1 + marks);
        }
        store.mark(|_| ((), SaveDue::Never)).await;
        assert_eq!(backend.0.load(Ordering::SeqCst), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn marks_of_a_large_state_share_a_save_within_limits() {
        let (store, backend) = saved_with(5000).await;
        let saves = || backend.0.load(Ordering::SeqCst);
        for _ in 1..MAX_UNSAVED_MARKS {
            store.mark(|_| ((), SaveDue::Soon)).await;
        }
        store.flush_queued().await;
        assert_eq!(saves(), 1, "sending need not wait for marks");
        store.mark(|_| ((), SaveDue::Soon)).await;
        assert_eq!(saves(), 2, "no more than {MAX_UNSAVED_MARKS} marks wait");
        store.mark(|_| ((), SaveDue::BeforeSending)).await;
        assert_eq!(saves(), 2);
        store.flush_queued().await;
        assert_eq!(saves(), 3, "what is to be sent is on disk first");
        store.mark(|_| ((), SaveDue::Soon)).await;
        let began = Instant::now();
        store.marks_due().await;
        assert!(began.elapsed() > Duration::ZERO && began.elapsed() <= MAX_MARK_DELAY, "{:?}", began.elapsed());
        store.flush_marks().await;
        store.flush_marks().await;
        assert_eq!(saves(), 4);
        store.mark(|_| ((), SaveDue::Soon)).await;
        store.change(|_| ((), true)).await;
        assert_eq!(saves(), 5, "another change takes marks along");
        let none = tokio::time::timeout(Duration::from_secs(60), store.marks_due()).await;
        assert!(none.is_err(), "nothing waits");
    }
}
