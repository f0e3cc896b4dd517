//! Alerting: readings are evaluated, alerts change, and events are queued for notifiers. Pure.
//!
//! `now` is an argument everywhere. [`process`] runs the steps for the readings of one account: [`evaluate`], [`transition`],
//! [`suppress`], and [`queue`], all on the [`state`].

pub mod ended;
pub mod evaluate;
pub mod log_entry;
pub mod process;
pub mod queue;
pub mod report;
pub mod state;
pub mod suppress;
pub mod transition;
