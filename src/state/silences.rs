//! Changes of the silences in the state, as requested by `lowtide silence`.
//!
//! The running service applies them when asked through its control socket; without a service, the command itself does. They
//! evaluate nothing: what a silence suppresses is decided at each reading.

use serde::{Deserialize, Serialize};

use crate::alerting::state::State;
use crate::domain::Time;
use crate::domain::alert::AlertKey;
use crate::domain::rule::Severity;
use crate::domain::silence::Silence;

/// Change that a command requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum SilenceChange {
    /// Adds a silence to the state.
    Add {
        /// Silence to be added.
        silence: Silence,
    },
    /// Removes a silence by its id.
    Remove {
        /// Id of the silence.
        id: u32,
    },
}

/// Result of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "changed", rename_all = "snake_case")]
pub enum SilenceResult {
    /// The silence was added.
    Added {
        /// Id of the silence.
        id: u32,
        /// Firing alerts that it matches.
        firing: Vec<AlertUnderSilence>,
    },
    /// The silence was removed. Alerts that fire notify at the next reading.
    Removed {
        /// Silence that was removed.
        silence: Silence,
    },
    /// No silence has that id.
    Unknown,
    /// The end of the silence to add has passed.
    AlreadyEnded,
}

/// A firing alert that a new silence matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertUnderSilence {
    /// Key of the alert.
    #[serde(flatten)]
    pub key: AlertKey,
    /// Level that it fires at.
    pub level: Severity,
    /// `true` if the silence covers that level.
    pub suppressed: bool,
}

/// Applies a change. Returns the result, and `true` if the state changed.
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
