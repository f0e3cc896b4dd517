//! From the readings of one account to changed alerts and queued events: decide, then commit.
//!
//! [`process`] does both at once, for readings that have their forecasts. A cycle of the service adds the forecasts in
//! between: [`BalanceDecisions`] tells which divisions need one for a message.

use super::commit::commit;
use super::decide::BalanceDecisions;
use super::policy::AccountPolicy;
use super::readings::{AccountReadings, CycleTime};
use super::state::State;
use crate::domain::alert::AlertKey;

/// A log line about an alert.
pub struct AlertLogEntry {
    /// Name of the event.
    pub kind: &'static str,
    /// Label of the alert, see [`alert_label`].
    pub alert: String,
    /// True for an alert about an unreadable balance.
    pub of_unreadable: bool,
    /// Level of the event, or `-`.
    pub level: String,
    /// Message of the log line.
    pub text: &'static str,
}

impl AlertLogEntry {
    /// Returns the name under which metrics count the event. Events about unreadable balances are counted apart.
    pub fn counted_as(&self) -> String {
        if self.of_unreadable { format!("unreadable_{}", self.kind) } else { self.kind.to_owned() }
    }
}

/// Result of processing the readings of one account.
pub struct ProcessedReadings {
    /// Events that happened, suppressed ones included.
    pub log_entries: Vec<AlertLogEntry>,
    /// True if the state changed and must be saved.
    pub changed: bool,
    /// True if everything that the rules watch could be read and evaluated.
    pub complete: bool,
}

/// Evaluates all rules on these readings, changes the alerts and enqueues their events.
pub fn process(
    state: &mut State,
    policy: &AccountPolicy,
    readings: &AccountReadings,
    time: impl Into<CycleTime>,
) -> ProcessedReadings {
    let CycleTime { planned, read_at } = time.into();
    let decisions = BalanceDecisions::new(state, policy, readings, planned).with_forecasts(state, policy, readings);
    commit(state, policy, readings, decisions, read_at)
}

/// Returns `rule/account/division`, for logs.
pub fn alert_label(key: &AlertKey) -> String {
    match key.division {
        Some(id) => format!("{}/{}/{id}", key.rule, key.account),
        None => format!("{}/{}", key.rule, key.account),
    }
}
