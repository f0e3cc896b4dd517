//! Domain types: accounts, money, balances, rules, alerts, events, silences, ledger, orders and reports. Pure.
//!
//! Nothing here reads a clock, a file, the environment or the network, and nothing logs: `now` is an argument, results are
//! values. A test (`tests/it/purity.rs`) proves it from the imports.

pub mod alert;
pub mod balance;
pub mod confidence;
pub mod event;
pub mod forecast;
pub mod history;
pub mod ledger;
pub mod local;
pub mod metric;
pub mod money;
pub mod order;
pub mod quiet_hours;
pub mod report;
pub mod rule;
pub mod schedule;
pub(crate) mod seconds;
pub mod silence;
pub mod threshold;

use std::sync::Arc;

/// A name from the configuration (an account's, a rule's, a notifier's), cheap to share.
pub type Name = Arc<str>;

/// A point in time, always UTC in the core; zones matter only where a person reads it.
pub type Time = chrono::DateTime<chrono::Utc>;

/// A CertCentral container, which the web console calls a division. `None`: the account is read without one.
pub type Division = Option<u64>;
