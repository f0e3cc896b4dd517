//! The pure middle: readings are evaluated, alerts change, events are queued for the notifiers.
//!
//! No I/O, no clock, no async: `now` is an argument. [`process`] runs the steps for the readings of one account.

pub mod evaluate;
pub mod process;
pub mod state;
