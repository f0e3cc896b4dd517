//! Reads accounts on schedule: when a cycle runs, one account's cycle, the pace of its requests, and scheduled reports.

mod account_reader;
mod cycle_log;
pub mod figures;
pub mod forecasts;
mod funds;
pub mod history_access;
mod listing;
pub mod pacing;
pub mod poller;
pub mod progress;
pub mod reports;
pub mod schedule;
pub mod scheduler;
