//! The suite: one program with a module for each subject, so that helpers are compiled once and everything is linked once.
//!
//! Three others stay apart: `process` kills what it tests, `memory` measures its own process, and `calibration` takes every
//! processor it can get.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)] // panicking is how a test ends

#[path = "../support/mod.rs"]
mod support;

mod alerts;
mod backtest;
mod backtest_replay;
mod certcentral_client;
mod certcentral_faults;
mod clock_changes;
mod commands;
mod config_schema;
mod delivery;
mod delivery_faults;
mod demo;
mod email;
mod forecast;
mod fuzz_corpus;
mod heartbeat;
mod history;
mod hostile_text;
mod http;
mod man_page;
mod many_divisions;
mod notifier_answers;
mod notifiers;
mod preview;
mod purity;
mod quiet_hours;
mod rate_limit;
mod readings_to_events;
mod reliability_page;
mod reload;
mod reports;
mod secrets;
mod silences;
mod slack;
mod smtp;
mod state_file;
mod templates;
