//! From the readings of one account to changed alerts and queued events: decide, then commit.
//!
//! [`process`] does both at once, for readings that have their forecasts. A cycle of the service adds the forecasts in
//! between: [`BalanceDecisions`] tells which divisions need one for a message.

use super::commit::{ProcessedReadings, commit};
use super::decide::BalanceDecisions;
use super::policy::AccountPolicy;
use super::readings::{AccountReadings, CycleTime};
use super::state::State;

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
