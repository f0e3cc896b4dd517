//! `lowtide` warns people before their DigiCert CertCentral funds run out.
//!
//! The path of one reading: `poll → evaluate → transition → suppress → enqueue → save → deliver`. [`polling::poller`] reads
//! an account, [`alerting::decide`] evaluates the readings and decides the transitions, [`alerting::commit`] suppresses and
//! enqueues the events in [`alerting::state`], [`state`] saves, and [`notify::delivery`] delivers.
//!
//! - [`domain`]: the types that everything else speaks in; pure.
//! - [`alerting`]: from readings to queued events; pure.
//! - [`forecast`]: ledger and orders → how long funds last; pure.
//! - [`backtest`]: replay of the rules over an account's past; pure.
//! - [`chart`]: the chart of a fund, as PNG, as SVG and in words; pure.
//! - [`config`]: `alerts.yaml` and the environment → domain types; every problem at once, with its place.
//! - [`certcentral`]: the HTTP client of the CertCentral Services API; nothing of the wire leaves it.
//! - [`history`]: each account's ledger and orders: refreshed in the background, with a cache on disk.
//! - [`polling`]: schedules, one account's cycle, the pace of requests, reports.
//! - [`state`]: the document that outlives the process, and the file that it is kept in.
//! - [`notify`]: what a message says, delivery with retries and fallbacks, and one folder for each channel.
//! - [`status`]: what the running service publishes about itself.
//! - [`app`]: builds everything from a configuration; the only place that spawns tasks.
//! - [`cli`]: one file for each command.
//! - [`sandbox`]: a simulated CertCentral, Slack and mail server; nothing of the service depends on it.
//! - [`util`]: the clock, secrets, text from outside, files, logging, the HTTP client.

pub mod alerting;
pub mod app;
pub mod backtest;
pub mod certcentral;
pub mod chart;
pub mod cli;
pub mod config;
pub mod domain;
pub mod forecast;
pub mod history;
pub mod notify;
pub mod polling;
pub mod sandbox;
pub mod state;
pub mod status;
pub mod util;
