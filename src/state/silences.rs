//! Silences by command: the one change that `lowtide silence` asks for, whoever owns the state.
//!
//! The same function serves the running service (asked through its control socket) and the command itself where no service
//! runs. It judges nothing: what a silence hushes is decided at each reading.

use serde::{Deserialize, Serialize};

use crate::alerting::state::State;
use crate::domain::Time;
use crate::domain::alert::AlertKey;
use crate::domain::rule::Severity;
use crate::domain::silence::Silence;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum SilenceChange {
    /// A new one.
    Add {
        /// The silence.
        silence: Silence,
    },
    /// An old one ends now.
    Remove {
        /// Its id.
        id: u32,
    },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "changed", rename_all = "snake_case")]
pub enum SilenceResult {
    /// It is there.
    Added {
        /// Its id.
        id: u32,
        /// The alerts about which it is that fire at this moment.
        firing: Vec<AlertUnderSilence>,
    },
    /// It is gone; what fires is told at the next reading.
    Removed {
        /// What it was.
        silence: Silence,
    },
    /// No silence has that id.
    Unknown,
    /// It had ended before it was made.
    AlreadyEnded,
}

/// An alert that fires while a silence about it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertUnderSilence {
    /// Whose.
    #[serde(flatten)]
    pub key: AlertKey,
    /// At which level.
    pub level: Severity,
    /// Whether the silence reaches that level.
    pub suppressed: bool,
}

/// Makes the change. Returns what came of it, and whether the state is another one now.
pub fn apply_change(state: &mut State, change: SilenceChange, now: Time) -> (SilenceResult, bool) {
    match change {
        SilenceChange::Add { silence } if silence.ended(now) => (SilenceResult::AlreadyEnded, false),
        SilenceChange::Add { silence } => {
            let about = state.alerts.iter().filter(|(key, _)| silence.matches(key));
            let firing = about.filter_map(|(key, record)| {
                let level = record.alert.firing()?;
                Some(AlertUnderSilence { key: key.clone(), level, suppressed: level <= silence.level })
            });
            let firing = firing.collect();
            (SilenceResult::Added { id: state.add_silence(silence), firing }, true)
        }
        SilenceChange::Remove { id } => match state.silences.remove(&id) {
            Some(silence) => (SilenceResult::Removed { silence }, true),
            None => (SilenceResult::Unknown, false),
        },
    }
}
