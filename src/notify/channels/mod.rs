//! One folder for each type of notifier: its transport and its rendering.

pub mod email;
pub(crate) mod http;
pub mod pagerduty;
pub mod slack;
pub mod teams;
pub mod webhook;
