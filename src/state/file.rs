//! State in a file: loaded once, replaced atomically, and protected by a lock on another file beside it.
//!
//! A file that cannot be understood is moved aside and never overwritten. A file of a newer version is refused.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::document::{DecodedState, STATE_VERSION, StateDecodeError, decode};
use super::json::JsonPieces;
use super::{StateBackend, StateOwnership};
use crate::alerting::state::State;
use crate::domain::Time;
use crate::util::atomic_file;
use crate::util::atomic_file::{beside, folder_of};

/// Number of attempts to lock again after the lock was lost. A command may hold the lock for a moment.
const LOCK_TRIES: u32 = 10;
/// Pause after each attempt to lock again.
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// Number of attempts to lock a file that is being replaced.
const LOCK_PLACE_TRIES: u32 = 3;
/// Pause after each attempt to lock a file that is being replaced.
const LOCK_PLACE_RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// A state file that this process owns until the value is dropped.
#[derive(Debug)]
pub struct FileBackend {
    path: PathBuf,
    /// Lock on the file beside it; `None` if no lock file could be created yet.
    lock: Mutex<Option<StateLock>>,
    /// Destination for a file at `path` that is no state and could not be moved aside yet. It must not be overwritten.
    foreign: Mutex<Option<PathBuf>>,
}

/// An opened state file, and its problems.
#[derive(Debug)]
pub struct OpenedState {
    /// Backend that saves to the file.
    pub backend: FileBackend,
    /// State that the file contained.
    pub state: State,
    /// Problems that do not prevent the start, one sentence each, for the log.
    pub problems: Vec<String>,
}

/// Error for a state file that is refused.
#[derive(Debug, thiserror::Error)]
pub enum StateOpenError {
    /// Another process uses the file.
    #[error("state {path} is in use by another lowtide: stop that one, or give this one a `state` of its own")]
    InUse {
        /// Path of the state file.
        path: PathBuf,
    },
    /// A newer program wrote the file.
    #[error(
        "state {path} has version {found}, this lowtide writes version {STATE_VERSION}: it was written by a newer lowtide; upgrade, or move the file away"
    )]
    Newer {
        /// Path of the state file.
        path: PathBuf,
        /// Version in the file.
        found: String,
    },
}

impl FileBackend {
    /// Locks and loads the state file. A missing file is an empty state. `now` is part of the name of a file that is moved aside.
    pub fn open(path: &Path, now: Time) -> Result<OpenedState, StateOpenError> {
        let mut problems = Vec::new();
        let lock = match lock(path) {
            Ok(lock) => Some(lock),
            Err(LockError::Taken) => return Err(StateOpenError::InUse { path: path.to_owned() }),
            Err(LockError::Impossible(error)) => {
                problems.push(format!(
                    "no lock file beside state {}: {error}; a second lowtide would not be noticed",
                    path.display()
                ));
                None
            }
        };
        let (mut state, mut foreign) = (State::default(), None);
        match load(path) {
            Ok(DecodedState { state: loaded, altered }) => {
                state = loaded;
                if altered {
                    let path = path.display();
                    problems.push(format!("state {path} was edited or is damaged (its checksum does not match); every key is known, so it is used as it is: check that its figures are right"));
                }
            }
            Err(StateDecodeError::Newer(found)) => return Err(StateOpenError::Newer { path: path.to_owned(), found }),
            Err(StateDecodeError::Unusable(why)) => {
                let aside = aside_path(path, now);
                let moved = match move_aside(path, &aside) {
                    Ok(()) => format!("it is kept as {}", aside.display()),
                    Err(error) => {
                        foreign = Some(aside);
                        format!("it cannot be moved aside ({error})")
                    }
                };
                let path = path.display();
                problems.push(format!("state {path} cannot be read ({why}); {moved}; going on with an empty one, so alerts may be repeated"));
            }
        }
        let backend = FileBackend { path: path.to_owned(), lock: Mutex::new(lock), foreign: Mutex::new(foreign) };
        Ok(OpenedState { backend, state, problems })
    }

    /// Moves aside, before the first save, a file that could not be moved at the start.
    fn move_foreign_aside(&self) -> io::Result<()> {
        let mut foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(aside) = foreign.as_ref() {
            move_aside(&self.path, aside)?;
            *foreign = None;
        }
        Ok(())
    }
}

/// Reads a state file without locking or changing anything, for `status` while the service does not answer.
pub fn read_only(path: &Path) -> Result<State, String> {
    load(path).map(|decoded| decoded.state).map_err(|error| match error {
        StateDecodeError::Newer(found) => {
            format!("state {} has version {found}, newer than this lowtide understands", path.display())
        }
        StateDecodeError::Unusable(why) => format!("state {} cannot be read: {why}", path.display()),
    })
}

fn load(path: &Path) -> Result<DecodedState, StateDecodeError> {
    let bytes = atomic_file::open_file(path).and_then(|mut file| {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map(|_| bytes)
    });
    match bytes {
        Ok(bytes) => decode(&bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Ok(DecodedState { state: State::default(), altered: false })
        }
        Err(error) => Err(StateDecodeError::Unusable(error.to_string())),
    }
}

/// Returns an unused name for a file that is no state, so that no such file is lost.
fn aside_path(path: &Path, now: Time) -> PathBuf {
    let stem = beside(path, &format!("unreadable-{}", now.format("%Y%m%dT%H%M%SZ")));
    let places = (0..100).map(|n| if n == 0 { stem.clone() } else { beside(&stem, &n.to_string()) });
    places.into_iter().find(|place| !place.exists()).unwrap_or_else(|| stem.clone())
}

/// Moves a file aside. A folder stays where it is: its content is unrelated.
fn move_aside(path: &Path, aside: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Ok(there) if there.is_dir() => {
            Err(io::Error::other("a folder stands in its place: move it, or name another `state`"))
        }
        _ => fs::rename(path, aside),
    }
}

enum LockError {
    Taken,
    Impossible(io::Error),
}

/// Lock on a file.
#[derive(Debug)]
struct StateLock {
    /// Open for as long as the lock is held.
    _file: File,
    /// Identity of the file at the path when it was locked; `None` if it could not be determined.
    file_id: Option<FileId>,
}

/// Device and inode. Some file systems show different ones for an open file and for its name, or after a remount.
type FileId = (u64, u64);

impl StateLock {
    /// Returns `false` if the file at `place` is known to be another one or missing.
    fn is_at(&self, place: &Path) -> bool {
        match place.metadata() {
            Ok(there) => self.file_id.is_none_or(|id| id == file_id(&there)),
            Err(error) => error.kind() != ErrorKind::NotFound,
        }
    }
}

fn file_id(metadata: &Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

/// Locks the file beside the state. Creates it and its folder if they are missing: without them, a second process would not be
/// detected.
fn lock(path: &Path) -> Result<StateLock, LockError> {
    let place = beside(path, "lock");
    for left in (0..LOCK_PLACE_TRIES).rev() {
        atomic_file::make_folder(folder_of(path)).map_err(LockError::Impossible)?;
        let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&place);
        let file = open.map_err(LockError::Impossible)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Taken),
            Err(TryLockError::Error(error)) => return Err(LockError::Impossible(error)),
        }
        // The file may have been replaced between opening and locking. If that seems to happen every time, the file system shows
        // different identities for one file.
        let held = file.metadata().ok().as_ref().map(file_id);
        let lock = StateLock { file_id: place.metadata().ok().as_ref().map(file_id).or(held), _file: file };
        if lock.file_id == held && lock.is_at(&place) || left == 0 {
            return Ok(lock);
        }
        drop(lock);
        std::thread::sleep(LOCK_PLACE_RETRY_INTERVAL);
    }
    Err(LockError::Taken)
}

impl StateBackend for FileBackend {
    fn save(&self, json: &JsonPieces) -> io::Result<()> {
        let may_save = match self.ensure_ownership() {
            StateOwnership::Taken => Err(io::Error::other("another lowtide has it")),
            StateOwnership::Held | StateOwnership::Renewed => self.move_foreign_aside(),
        };
        may_save.map_err(|error| atomic_file::named(&self.path, &error))?;
        atomic_file::replace(&self.path, json.pieces())
    }

    fn ensure_ownership(&self) -> StateOwnership {
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // A lock on a file that was deleted, alone or with its folder, protects nothing.
        if held.as_ref().is_some_and(|lock| lock.is_at(&beside(&self.path, "lock"))) {
            return StateOwnership::Held;
        }
        let mut released = false;
        for _ in 0..LOCK_TRIES {
            match lock(&self.path) {
                Ok(lock) => {
                    *held = Some(lock);
                    // Only this process held the lock, so the file is the same, whatever its inode is now.
                    return if released { StateOwnership::Held } else { StateOwnership::Renewed };
                }
                // The save itself will fail if the folder cannot be used.
                Err(LockError::Impossible(_)) => return StateOwnership::Held,
                // The other process may be this one, by a lock that seems to be on another file.
                Err(LockError::Taken) => {
                    released = held.take().is_some();
                    if !released {
                        std::thread::sleep(LOCK_RETRY_INTERVAL);
                    }
                }
            }
        }
        StateOwnership::Taken
    }

    fn location(&self) -> String {
        self.path.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerting::state::AlertRecord;
    use crate::domain::alert::{AlertKey, LevelState};
    use crate::state::encode;

    fn now() -> Time {
        Time::from_timestamp(1_795_500_000, 0).unwrap()
    }

    fn some_state() -> State {
        let mut state = State::default();
        let key = AlertKey { account: "acme".into(), division: Some(11224), rule: "funds".into() };
        let mut record =
            AlertRecord { division_name: Some("History \"dept\" \u{1F4B6}".to_owned()), ..AlertRecord::default() };
        record.alert.warning = Some(LevelState { since: now(), firing: true });
        record.alert.notified.insert("mail".into(), Some("<a@b>".to_owned()));
        state.alerts.insert(key, record);
        state
    }

    #[test]
    fn a_saved_state_is_loaded_again_and_leaves_no_other_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let opened = FileBackend::open(&path, now()).unwrap();
        assert_eq!((opened.state, opened.problems.len()), (State::default(), 0));
        opened.backend.save(&encode(&some_state()).unwrap()).unwrap();
        drop(opened.backend);
        assert_eq!(FileBackend::open(&path, now()).unwrap().state, some_state());
        let names: std::collections::BTreeSet<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names, ["state.json".to_owned(), "state.json.lock".to_owned()].into());
    }

    #[test]
    fn a_second_process_is_refused_until_the_first_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let first = FileBackend::open(&path, now()).unwrap();
        assert!(matches!(FileBackend::open(&path, now()), Err(StateOpenError::InUse { .. })));
        drop(first);
        assert!(FileBackend::open(&path, now()).is_ok());
    }

    #[test]
    fn a_lock_file_with_a_new_inode_is_still_held() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let backend = FileBackend::open(&path, now()).unwrap().backend;
        for _ in 0..2 {
            backend.lock.lock().unwrap().as_mut().unwrap().file_id = Some((0, 0));
            assert_eq!(backend.ensure_ownership(), StateOwnership::Held);
            assert!(
                matches!(FileBackend::open(&path, now()), Err(StateOpenError::InUse { .. })),
                "it still has the lock"
            );
        }
    }

    #[test]
    fn truncated_files_are_kept_aside_and_newer_ones_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let whole = encode(&some_state()).unwrap().to_bytes();
        for length in 0..whole.len() - 2 {
            fs::write(&path, &whole[..length]).unwrap();
            let opened = FileBackend::open(&path, now()).unwrap();
            assert_eq!(opened.state, State::default(), "{length}");
            assert!(opened.problems[0].contains("kept as"), "{:?}", opened.problems);
            let aside = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
            let aside = aside.filter(|place| place.to_string_lossy().contains("unreadable-")).collect::<Vec<_>>();
            assert_eq!(aside.len(), 1);
            assert_eq!(fs::read(&aside[0]).unwrap(), &whole[..length]);
            fs::remove_file(&aside[0]).unwrap();
        }
        fs::write(&path, br#"{"version": 3, "unknown": []}"#).unwrap();
        let refused = FileBackend::open(&path, now()).unwrap_err();
        assert!(matches!(&refused, StateOpenError::Newer { found, .. } if found == "3"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), br#"{"version": 3, "unknown": []}"#);
        fs::write(&path, br#"{"version": 99999999999999999999999}"#).unwrap();
        assert!(matches!(FileBackend::open(&path, now()), Err(StateOpenError::Newer { .. })));
    }

    #[test]
    fn a_folder_in_its_place_is_left_alone_until_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        fs::create_dir(&path).unwrap();
        let opened = FileBackend::open(&path, now()).unwrap();
        assert!(opened.problems[0].contains("a folder stands in its place"), "{:?}", opened.problems);
        assert!(opened.backend.save(&encode(&some_state()).unwrap()).is_err());
        assert!(path.is_dir());
        fs::remove_dir(&path).unwrap();
        opened.backend.save(&encode(&some_state()).unwrap()).unwrap();
        assert_eq!(load(&path).unwrap().state, some_state());
    }
}
