//! Alerting: readings are evaluated, alerts change, and events are queued for notifiers. Pure.
//!
//! `now` is an argument everywhere. [`process`] runs the steps for the readings of one account: [`decide`] evaluates them
//! ([`evaluate`]) and finds the [`transition`] of each alert; [`commit`] changes the [`state`], applies silences ([`suppress`]) and
//! queues events ([`queue`]).

pub mod commit;
pub mod decide;
pub mod end_alerts;
pub mod evaluate;
pub mod log_entry;
pub mod policy;
pub mod process;
pub mod queue;
pub mod readings;
pub mod report;
pub mod state;
pub mod suppress;
pub mod transition;
