//! History that a forecast needs.

use crate::util::text::counted;

/// Days of history that a forecast needs.
pub const MIN_HISTORY_DAYS: u32 = 28;
/// Number of purchases that a forecast needs.
pub const MIN_PURCHASES: u32 = 4;

/// Reason why there is no forecast yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForecastUnavailable {
    /// The ledger does not reach back far enough.
    #[error("the ledger reaches back {}; a forecast needs {MIN_HISTORY_DAYS}", counted(*days, "day"))]
    LedgerTooShort {
        /// Whole days since the first ledger line.
        days: u32,
    },
    /// The ledger, which is read 400 days back, has no purchases.
    #[error("nothing was bought from the balance in the last 400 days; a forecast needs {MIN_PURCHASES} purchases")]
    NoPurchases,
    /// There are too few purchases to forecast from.
    #[error("purchases in the last year: {count}; a forecast needs {MIN_PURCHASES}")]
    TooFewPurchases {
        /// Purchases in the weeks that are used.
        count: u32,
    },
}
