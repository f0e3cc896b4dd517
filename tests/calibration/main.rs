//! The forecast, measured on accounts whose future is known. Takes every processor it can get.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::cast_precision_loss)] // panicking is how a test ends; shares are no money

mod deposits;
mod ledgers;
mod over_http;
mod ranges;
mod renewing_kinds;
