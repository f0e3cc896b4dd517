//! Results that a fund's forecast keeps from the simulation.

use std::collections::BTreeMap;
use std::time::Duration;

use rust_decimal::Decimal;

use crate::domain::confidence::Confidence;
use crate::domain::forecast::{ForecastBand, Runway};
use crate::forecast::payments::PaymentShares;
use crate::forecast::purchases::PurchaseSums;
use crate::forecast::renewals::RenewalsSum;

/// Days that the renewals and the deposit in a message cover.
pub(super) const MESSAGE_HORIZON_DAYS: u32 = 30;
/// Days of the future that the chart shows.
pub(super) const CHART_FUTURE_DAYS: u32 = 45;
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// Amount that must be deposited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequiredDeposit {
    pub(super) amount: Decimal,
    /// Renewals that the deposit pays for at their full price, if only they make it this large.
    pub(super) paid_in_full: Option<RenewalsSum>,
}

impl RequiredDeposit {
    /// Returns the larger deposit; of two equal ones, the one that does not depend on how renewals are paid.
    pub(super) fn max(self, other: Self) -> Self {
        let key = |deposit: &Self| (deposit.amount, deposit.paid_in_full.is_none());
        if key(&other) > key(&self) { other } else { self }
    }
}

/// Classified purchases of the past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PurchaseAnalysis {
    pub(super) past_year: PurchaseSums,
    pub(super) payments: PaymentShares,
}

/// Figures of the simulation, for each confidence that the rules use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct SimulationResults {
    /// Cost of a typical order.
    pub(super) typical_order: Decimal,
    pub(super) runways: BTreeMap<Confidence, (Runway, Option<Duration>)>,
    pub(super) bands: BTreeMap<Confidence, Vec<ForecastBand>>,
    /// High end of the spend in a number of days.
    pub(super) max_spend: BTreeMap<(Confidence, u32), Decimal>,
}
