//! Persistence of the state: the document, the store that every change goes through, and the backend that keeps it.
//!
//! When [`StateStore::change`] returns, its change is on disk, or saving has failed, which is logged and tried again. Changes by
//! [`StateStore::mark`] may share a save. The content of the state is defined in [`crate::alerting::state`].

mod document;
mod file;
mod json;
pub mod silences;
mod store;
mod version1;

pub(crate) use crate::util::atomic_file::beside;
pub use document::{DecodedState, STATE_VERSION, StateDecodeError, decode, encode};
#[doc(hidden)]
pub use file::{FileBackend, OpenedState, StateOpenError, read_only};
pub use json::JsonPieces;
pub use store::{SaveDue, StateStore};

/// A place where the state document is kept.
pub trait StateBackend: Send + Sync {
    /// Replaces the document atomically: in any case, either the old or the new one is kept. An error names the place.
    fn save(&self, json: &JsonPieces) -> std::io::Result<()>;

    /// Ensures that no other process saves here.
    fn ensure_ownership(&self) -> StateOwnership {
        StateOwnership::Held
    }

    /// Returns the place, for people.
    fn location(&self) -> String {
        "memory".to_owned()
    }
}

/// Owner of the place where the state is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateOwnership {
    /// This process, as before the call.
    Held,
    /// This process again. Its lock was missing, and the saved document may be missing as well.
    Renewed,
    /// Another process saves there.
    Taken,
}
