//! `lowtide` warns people before their DigiCert CertCentral funds run out.
//!
//! The path of one reading, one function an arrow: it is **read** ([`certcentral`]: `Balance`), **judged** ([`domain`]:
//! `Reading → Verdict → Event`), **remembered** ([`store`]: alerts and what is owed, saved together), and **told**
//! ([`notify`]: `Notification → Delivery`). [`cycle`] walks it, top to bottom on one page.
//!
//! - [`domain`]: the pure core; no clock, no I/O.
//! - [`forecast`]: ledger and orders → how long funds last; pure too.
//! - [`chart`]: the picture of a fund, as PNG, as SVG and in words; pure too.
//! - [`rehearsal`]: what today's rules would have done over an account's past; pure, and by the cycle's own middle.
//! - [`config`]: `alerts.yaml` and the environment → domain types; every problem at once, with its place.
//! - [`certcentral`]: the HTTP client of the CertCentral Services API.
//! - [`books`]: what keeps an account's ledger and orders fresh, behind its balance readings, with a cache on disk.
//! - [`store`]: the state file, its lock, and the book that every change goes through.
//! - [`notify`]: Slack, e-mail and other ends, rendering, and the outbox that retries and falls back.
//! - [`signature`]: how a webhook's requests are signed.
//! - [`text`]: which characters of a text from outside are never shown, and which known word was meant.
//! - [`schedule`] and [`scheduler`]: when cycles run; [`pace`]: how fast they read.
//! - [`reports`]: when reports come, and the figures that they are made from.
//! - [`control`]: the Unix socket through which `status`, `health` and `silence` reach a running service.
//! - [`silences`]: adding and removing silences, whoever owns the state.
//! - [`http`]: liveness, readiness and metrics for whoever watches the service itself; read-only.
//! - [`heartbeat`] and [`supervisor`]: telling a monitor elsewhere, and systemd, that the service is awake.
//! - [`app`]: the only place that builds concrete things and spawns tasks.
//! - [`sandbox`]: a simulated `CertCentral` and the demo's sinks; nothing of the service depends on it.
//! - [`cli`]: one file a command.

pub mod app;
mod atomic;
pub mod books;
pub mod certcentral;
pub mod chart;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod cycle;
pub mod domain;
pub mod forecast;
pub mod heartbeat;
pub mod http;
pub mod logging;
pub mod notify;
pub mod pace;
pub mod rehearsal;
pub mod reports;
pub mod sandbox;
pub mod schedule;
pub mod scheduler;
pub mod secret;
pub mod signature;
pub mod silences;
pub mod store;
pub mod supervisor;
pub mod text;
pub mod web;
