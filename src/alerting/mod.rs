//! The pure middle: readings are evaluated, alerts change, events are queued for the notifiers.
//!
//! No I/O, no clock, no async: `now` is an argument. [`process`] runs the steps for the readings of one account: [`decide`]
//! evaluates them, [`commit`] changes the state.

pub mod commit;
pub mod decide;
pub mod end_alerts;
pub mod evaluate;
pub mod policy;
pub mod process;
pub mod readings;
pub mod state;
