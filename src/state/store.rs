//! Store of the state in memory, which saves every change before anything is sent.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::document::encode;
use super::{StateBackend, StateOwnership};
use crate::alerting::state::State;
use crate::util::clock::Clock;

/// Pause before saving is tried again.
const SAVE_RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// Longest wait for a write. Notifications continue if the disk hangs.
const SAVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of marks that wait for a shared save. A crash repeats at most this many messages.
const MAX_UNSAVED_MARKS: usize = 25;
/// Size up to which the state is saved at each mark, in bytes.
const SMALL_STATE_BYTES: usize = 64 * 1024;
/// Assumed write speed. Marks wait for the time that writing the state would take.
const MARK_BYTES_PER_SECOND: usize = 1024 * 1024;
/// Longest wait of a mark for a shared save.
const MAX_MARK_DELAY: Duration = Duration::from_secs(2);
/// Store of the state. Every change is applied in memory, then saved, before anything is sent.
pub struct StateStore {
    inner: Mutex<StoreContents>,
    saved: Arc<tokio::sync::Mutex<SavedRevision>>,
    health: Arc<SaveHealth>,
    backend: Arc<dyn StateBackend>,
    changed: Notify,
    unsaved: Arc<Notify>,
    /// Size of the document that was written last.
    size_bytes: AtomicUsize,
}

struct StoreContents {
    state: State,
    revision: u64,
    /// Revision that has to be on disk before anything is sent.
    revision_before_sending: u64,
    marks: Option<UnsavedMarks>,
}

/// Marks that no write includes yet.
#[derive(Clone, Copy)]
struct UnsavedMarks {
    since: Instant,
    count: usize,
}

/// Time by which a change has to be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveDue {
    /// Nothing changed, so nothing has to be saved.
    Never,
    /// Soon. If it is lost in a crash, a message is repeated.
    Soon,
    /// Soon, and before the next message is sent.
    BeforeSending,
}

struct SavedRevision {
    revision: u64,
    health: Arc<SaveHealth>,
}

/// Problems that keep the state from being saved. Each is logged when it begins and when it ends.
#[derive(Default)]
struct SaveHealth {
    /// The latest write failed.
    failing: AtomicBool,
    /// A write took longer than [`SAVE_TIMEOUT`].
    hanging: AtomicBool,
    /// Another process has taken the state.
    taken: CancellationToken,
}

impl SavedRevision {
    /// Records the result of a write, and logs when saving begins to fail or works again. Returns `true` if the write succeeded.
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
    /// Creates a store with the state as loaded.
    pub fn new(state: State, backend: Arc<dyn StateBackend>) -> Self {
        let health = Arc::<SaveHealth>::default();
        Self {
            inner: Mutex::new(StoreContents { state, revision: 0, revision_before_sending: 0, marks: None }),
            saved: Arc::new(tokio::sync::Mutex::new(SavedRevision { revision: 0, health: Arc::clone(&health) })),
            health,
            backend,
            changed: Notify::new(),
            unsaved: Arc::new(Notify::new()),
            size_bytes: AtomicUsize::new(0),
        }
    }

    /// Calls `look` with the state, and returns its result.
    pub fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.lock().state)
    }

    /// Changes the state and saves it. `edit` returns its result, and `true` if it changed anything; else nothing is written. A save
    /// that fails is logged and tried again later.
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

    /// Changes the state after the delivery of a message. A small state is saved at once. For a large one, several marks share a
    /// save, so that thousands of messages do not each write thousands of others. The caller also saves the remaining marks
    /// ([`StateStore::marks_due`], [`StateStore::flush_marks`]).
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
            (result, marks.count >= MAX_UNSAVED_MARKS || self.mark_delay().is_zero())
        };
        if full {
            self.flush().await;
        }
        self.changed.notify_waiters();
        result
    }

    /// Waits until marks have to be saved; forever if there are none.
    pub async fn marks_due(&self) {
        let marks = self.lock().marks;
        match marks {
            Some(marks) => tokio::time::sleep_until(marks.since + self.mark_delay()).await,
            None => std::future::pending().await,
        }
    }

    /// Saves waiting marks, if there are any.
    pub async fn flush_marks(&self) {
        if self.lock().marks.is_some() {
            self.flush().await;
        }
    }

    /// Returns the time for which marks wait for a shared save.
    fn mark_delay(&self) -> Duration {
        let size = self.size_bytes.load(Ordering::Relaxed);
        let write_time = Duration::from_micros((size.saturating_mul(1_000_000) / MARK_BYTES_PER_SECOND) as u64);
        if size <= SMALL_STATE_BYTES { Duration::ZERO } else { write_time.min(MAX_MARK_DELAY) }
    }

    /// Waits for the next change. Call it before reading the state, so that no change is missed.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// Tries to save again, at least every ten seconds, while a change is not on disk. Never returns.
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

    /// Saves every change. Returns `true` if everything is on disk afterwards.
    pub async fn flush(&self) -> bool {
        let revision = self.lock().revision;
        self.save(revision).await
    }

    /// Saves every change that has to be on disk before anything is sent, which excludes marks. Returns `true` if they are on disk
    /// afterwards.
    pub async fn flush_queued(&self) -> bool {
        let revision = self.lock().revision_before_sending;
        self.save(revision).await
    }

    /// Returns `false` while saving fails or hangs.
    pub fn is_saved(&self) -> bool {
        let SaveHealth { failing, hanging, .. } = &*self.health;
        !failing.load(Ordering::Relaxed) && !hanging.load(Ordering::Relaxed)
    }

    /// Ensures that no other process has the state, and saves it again if the document may be missing. Returns `false` if another
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
            Ok(StateOwnership::Taken) => self.health.taken.cancel(),
            Ok(StateOwnership::Held) | Err(_) => {}
        }
        !self.health.taken.is_cancelled()
    }

    /// Completes when another process has taken the state. Nothing may be sent from then on.
    pub async fn wait_until_taken(&self) {
        self.health.taken.cancelled().await;
    }

    /// Ensures that `revision` is on disk, and waits up to [`SAVE_TIMEOUT`]: readings and messages continue on a disk that hangs, as
    /// they do on one that fails.
    async fn save(&self, revision: u64) -> bool {
        let saved = tokio::time::timeout(SAVE_TIMEOUT, self.write(revision)).await;
        if self.health.taken.is_cancelled() {
            // The caller would send its change next.
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

    /// Writes the state unless `revision` is on disk. Callers that wait meanwhile share the next write. A write that has begun is
    /// completed and recorded even if its caller has stopped waiting, so that an older state never replaces a newer one.
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
                    saved.health.taken.cancel();
                }
                unsaved.notify_one();
            }
            good
        };
        tokio::task::spawn_blocking(write).await.unwrap_or(false)
    }

    fn lock(&self) -> MutexGuard<'_, StoreContents> {
        // After a panic the state is still consistent: edits are plain assignments on owned values.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerting::state::AlertRecord;
    use crate::domain::alert::AlertKey;
    use crate::state::JsonPieces;

    /// Backend that counts saves.
    #[derive(Default)]
    struct CountingBackend(AtomicUsize);

    impl StateBackend for CountingBackend {
        fn save(&self, _: &JsonPieces) -> std::io::Result<()> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }

    /// Creates a store that has saved a state with this many alerts.
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
        assert_eq!(saves(), 1, "sending does not wait for marks");
        store.mark(|_| ((), SaveDue::Soon)).await;
        assert_eq!(saves(), 2, "no more than {MAX_UNSAVED_MARKS} marks wait");
        store.mark(|_| ((), SaveDue::BeforeSending)).await;
        assert_eq!(saves(), 2);
        store.flush_queued().await;
        assert_eq!(saves(), 3, "an event is on disk before it is sent");
        store.mark(|_| ((), SaveDue::Soon)).await;
        let began = Instant::now();
        store.marks_due().await;
        assert!(began.elapsed() > Duration::ZERO && began.elapsed() <= MAX_MARK_DELAY, "{:?}", began.elapsed());
        store.flush_marks().await;
        store.flush_marks().await;
        assert_eq!(saves(), 4);
        store.mark(|_| ((), SaveDue::Soon)).await;
        store.change(|_| ((), true)).await;
        assert_eq!(saves(), 5, "another change includes marks");
        let none = tokio::time::timeout(Duration::from_secs(60), store.marks_due()).await;
        assert!(none.is_err(), "no marks wait");
    }
}
