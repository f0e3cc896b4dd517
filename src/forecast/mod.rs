//! Forecasts of how long a fund lasts, from its ledger and orders. Pure: `now` is an argument, random numbers are
//! seeded, and amounts are never floating point.
//!
//! [`spend`], [`expiring`], [`renewals_due`] and [`shortfall`] are facts: sums over the ledger and the orders.
//! [`Simulation`] is an estimate: many futures of the fund, drawn from its own past. `docs/forecast.md` explains
//! both. Ledger lines after `now` are ignored, so that a backtest sees only what was known at that time.

mod calendar;
mod depletion;
mod expiring;
mod fund_forecast;
mod funds;
mod funds_history;
mod horizon;
mod irregular_purchases;
mod lead_by_size;
mod leads;
mod list_prices;
mod matching;
mod minor;
mod order_class;
mod payments;
mod prices;
mod purchase;
mod purchases;
mod random;
mod ratio;
mod refunds;
mod regimes;
mod renewal_model;
mod renewal_window;
mod renewals;
mod requirements;
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
pub use purchase::PurchaseKind;
pub use purchases::{PurchaseSum, PurchaseSums, Purchases};
pub use refunds::spend;
pub use renewals::{RenewalsSum, renewals_due, shortfall};
pub use requirements::{ForecastUnavailable, MIN_HISTORY_DAYS, MIN_PURCHASES};
pub use simulation::{Simulation, SpendRange, deposit};
pub use spending::Spending;

#[cfg(test)]
mod tests;
