//! Ledger and orders → what lies ahead. Pure, as the domain is: `now` is an argument, chance is seeded, and no floating
//! point touches an amount.
//!
//! Sums that the books say exactly: [`spend`], [`expiring`], [`renewals_due`], [`shortfall`]. What they only suggest:
//! [`Forecast`], many futures of the fund, drawn from its own past. `docs/forecast.md` tells both to people. Whatever
//! the books hold of the time after `now` is not looked at, so that a rehearsal of the past sees what it could.

mod calendar;
mod drought;
mod expiring;
mod funds;
mod future;
mod habits;
mod history;
mod leads;
mod list_prices;
mod lumps;
mod matching;
mod outlook;
mod pace;
mod payments;
mod prices;
mod prospect;
mod purchases;
mod ratio;
mod renewal_model;
mod renewals;
mod rhythm;
mod share;
mod spending;
mod standing;

pub use crate::domain::confidence::{Confidence, ConfidenceError};
pub use crate::domain::rule::HORIZON_DAYS;
pub use drought::{is_dry, usual_purchase};
pub use expiring::expiring;
pub use funds::{past, sparkline};
pub use outlook::{Forecast, NotYet, SpendRange, deposit};
pub use prospect::{Prospect, is_told};
pub use purchases::{PurchaseKind, PurchaseSum, PurchaseSums, Purchases};
pub use renewals::{RenewalsSum, renewals_due, shortfall};
pub use spending::{Spending, spend};

/// Histories shorter than this, in days, make no forecast.
pub const LEAST_HISTORY_DAYS: u32 = 28;
/// Fewer purchases than this make no forecast.
pub const LEAST_PURCHASES: u32 = 4;

#[cfg(test)]
mod tests;
