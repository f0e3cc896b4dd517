//! Metrics: the figures that rules look at.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Figure that a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Balance + credit limit − unpaid invoices − credit used by other divisions.
    AvailableFunds,
    /// The prepaid balance alone.
    Balance,
    /// Sum of unpaid invoices.
    UnpaidInvoices,
    /// Credit that other divisions use.
    UsedCredit,
    /// Time until available funds run out.
    Runway,
    /// Sum of the purchases in a window that ends now.
    Spend,
    /// Rest of the deposits that expire in a window that begins now.
    ExpiringFunds,
    /// Sum of the prices of orders that end in a window that begins now and are not renewed yet.
    RenewalsDue,
    /// Renewals due minus available funds, at least 0.
    Shortfall,
}

/// Unit of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricUnit {
    /// An amount of the account's currency.
    Money,
    /// A duration, for a runway.
    Time,
}

pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);
/// Horizon of the forecast, in days.
pub const HORIZON_DAYS: u32 = 365;
/// Horizon of the forecast. No window and no runway threshold is longer.
pub const HORIZON: Duration = Duration::from_secs(HORIZON_DAYS as u64 * 24 * 3600);

impl Metric {
    /// All metrics, with their names in YAML.
    pub const ALL: [(Metric, &'static str); 9] = [
        (Metric::AvailableFunds, "available_funds"),
        (Metric::Balance, "balance"),
        (Metric::UnpaidInvoices, "unpaid_invoices"),
        (Metric::UsedCredit, "used_credit"),
        (Metric::Runway, "runway"),
        (Metric::Spend, "spend"),
        (Metric::ExpiringFunds, "expiring_funds"),
        (Metric::RenewalsDue, "renewals_due"),
        (Metric::Shortfall, "shortfall"),
    ];

    /// Metrics that need a balance only. The others need the ledger or the orders as well.
    pub const FROM_BALANCE: [Metric; 4] =
        [Metric::AvailableFunds, Metric::Balance, Metric::UnpaidInvoices, Metric::UsedCredit];

    /// Returns `true` if the metric needs the ledger or the orders.
    pub fn needs_history(self) -> bool {
        !Self::FROM_BALANCE.contains(&self)
    }

    /// Returns the unit of the metric.
    pub fn unit(self) -> MetricUnit {
        if self == Metric::Runway { MetricUnit::Time } else { MetricUnit::Money }
    }

    /// Returns `true` if the metric is at least 0 in every account.
    pub fn is_never_negative(self) -> bool {
        !matches!(self, Metric::AvailableFunds | Metric::Balance)
    }

    /// Returns the default window, if the metric has a window.
    pub fn default_within(self) -> Option<Duration> {
        match self {
            Metric::Spend => Some(DAY),
            Metric::ExpiringFunds | Metric::RenewalsDue | Metric::Shortfall => Some(30 * DAY),
            Metric::AvailableFunds | Metric::Balance | Metric::UnpaidInvoices | Metric::UsedCredit | Metric::Runway => {
                None
            }
        }
    }

    /// Returns the name in YAML.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(metric, _)| *metric == self).map_or("", |(_, name)| name)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
