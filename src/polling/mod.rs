//! Reading accounts on schedule: when a cycle runs, one account's cycle, the pace of its requests, and scheduled reports.

pub mod forecasts;
pub mod pacing;
pub mod poller;
pub mod reports;
pub mod schedule;
pub mod scheduler;
