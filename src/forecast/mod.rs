//! Ledger and orders → what lies ahead. Pure, as the domain is: `now` is an argument, chance is seeded, and no floating
//! point touches an amount.
//!
//! Sums that the books say exactly: [`spend`], [`expiring`], [`renewals_due`], [`shortfall`]. What they only suggest:
//! [`Simulation`], many futures of the fund, drawn from its own past. `docs/forecast.md` tells both to people. Whatever
//! the books hold of the time after `now` is not looked at, so that a rehearsal of the past sees what it could.

mod calendar;
mod depletion;
mod expiring;
mod fund_forecast;
mod funds;
mod irregular_purchases;
mod leads;
mod list_prices;
mod matching;
mod order_class;
mod payments;
mod prices;
mod purchases;
mod ratio;
mod regimes;
mod renewal_model;
mod renewals;
mod sampling;
mod seasonality;
mod share;
mod simulation;
mod spend_history;
mod spending;
mod trend;

pub use crate::domain::confidence::{Confidence, ConfidenceError};
pub use crate::domain::rule::HORIZON_DAYS;
pub use depletion::{is_depleted, typical_order};
pub use expiring::expiring;
pub use fund_forecast::{FundForecast, shows_forecast};
pub use funds::{past_funds, sparkline};
pub use purchases::{PurchaseKind, PurchaseSum, PurchaseSums, Purchases};
pub use renewals::{RenewalsSum, renewals_due, shortfall};
pub use simulation::{ForecastUnavailable, Simulation, SpendRange, deposit};
pub use spending::{Spending, spend};

/// Histories shorter than this, in days, make no forecast.
pub const MIN_HISTORY_DAYS: u32 = 28;
/// Fewer purchases than this make no forecast.
pub const MIN_PURCHASES: u32 = 4;

#[cfg(test)]
mod tests;
