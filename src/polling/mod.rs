//! Reads accounts on schedule: when a cycle runs, one account's cycle, the pace of its requests, and scheduled reports.

mod account_reader;
mod cycle_log;
pub mod figures;
pub mod figures_by_account;
pub mod forecasts;
mod funds;
pub mod history_access;
mod listing;
pub mod poller;
pub mod progress;
pub mod reports;
pub mod scheduler;
