//! Scenarios: descriptions of what happens to a simulated `CertCentral` account.
//!
//! [`super::world::SimulatedWorld`] simulates a scenario. All its times count from the scenario's start. It is loaded from YAML
//! by [`crate::config::scenario`], which accepts only valid ones and reports mistakes like those of a configuration.

use std::fmt;
use std::time::Duration;

use rust_decimal::Decimal;

use crate::domain::money::Currency;

/// A valid scenario of one account.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Name of a shipped scenario, or path of a custom one.
    pub name: String,
    /// Description for people; may be empty.
    pub about: String,
    /// Simulated time that the demo plays; default three weeks.
    pub length: Duration,
    /// Length of the history before the start; default 90 days.
    pub history: Duration,
    /// Number of requests per window that the API answers for each key. Default: the documented limits.
    pub rate_limit: Vec<(usize, Duration)>,
    /// Set if all divisions buy from one fund; their currency, balance and credit are then the same.
    pub shared_funds: bool,
    /// Divisions of the account: at least one, with distinct ids.
    pub divisions: Vec<DivisionPlan>,
    /// Periods in which the API fails; if several overlap, the first one applies.
    pub faults: Vec<ApiFault>,
}

/// One division (container) and the events of its funds.
#[derive(Debug, Clone)]
pub struct DivisionPlan {
    /// Container id of the division.
    pub id: u64,
    /// Name of the division.
    pub name: String,
    /// Currency of all amounts.
    pub currency: Currency,
    /// Balance at the start.
    pub balance: Decimal,
    /// Lower limit of the balance.
    pub credit: CreditLimit,
    /// Orders placed every week, also before the start.
    pub orders: Vec<OrderPlan>,
    /// Sites whose orders are renewed every time.
    pub renewals: Vec<RenewalPlan>,
    /// Domains added to orders every week, also before the start.
    pub added_domains: Vec<DomainPlan>,
    /// Deposits before and after the start.
    pub deposits: Vec<DepositPlan>,
    /// Invoices after the start.
    pub invoices: Vec<InvoicePlan>,
}

/// The amount by which a balance may be below zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreditLimit {
    /// At most this amount.
    Limit(Decimal),
    /// Any amount below zero.
    Unlimited,
}

/// A product with its price.
#[derive(Debug, Clone)]
pub struct ProductPlan {
    /// Product name, such as `Secure Site OV`.
    pub name: String,
    /// Price of an order; above 0.
    pub price: Decimal,
    /// Number of years that an order lasts; 1 to 3.
    pub years: u32,
    /// Set if orders are renewed automatically, 30 days before they end.
    pub auto_renew: bool,
}

impl ProductPlan {
    /// Returns how long an order lasts; a year has 365 days.
    pub fn duration(&self) -> Duration {
        Duration::from_secs(365 * 24 * 3600) * self.years
    }
}

/// Orders that are placed every week, on working days.
#[derive(Debug, Clone)]
pub struct OrderPlan {
    /// Product that is ordered.
    pub product: ProductPlan,
    /// Number of orders per week; above 0, with at most two decimals. A fraction is the probability of one more.
    pub per_week: Decimal,
}

/// Domains that are added to running orders, on working days. Each is charged for the remaining time of its order.
#[derive(Debug, Clone)]
pub struct DomainPlan {
    /// Price of one domain per year; above 0.
    pub price: Decimal,
    /// Number of domains per week; above 0, with at most two decimals. A fraction is the probability of one more.
    pub per_week: Decimal,
}

/// Sites with orders that end between `from` and `to`, and every `years` before and after that. Each order is renewed `early`,
/// also before the start.
#[derive(Debug, Clone)]
pub struct RenewalPlan {
    /// Product that is renewed.
    pub product: ProductPlan,
    /// Number of sites with orders.
    pub count: u32,
    /// Earliest end of an order.
    pub from: Duration,
    /// Latest end of an order; not before `from`.
    pub to: Duration,
    /// Time between a renewal and the end of the order; shorter than an order lasts.
    pub early: Duration,
}

/// A deposit, once or repeated.
#[derive(Debug, Clone)]
pub struct DepositPlan {
    /// Time of the first deposit.
    pub on: DepositTime,
    /// Amount of each deposit; above 0.
    pub amount: Decimal,
    /// Time between two deposits; above 0.
    pub every: Option<Duration>,
    /// Time after which the unspent part expires; above 0.
    pub expires_after: Option<Duration>,
}

/// A time relative to the scenario's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DepositTime {
    /// Time before the start.
    Ago(Duration),
    /// Time after the start.
    After(Duration),
}

/// An invoice beside the orders.
#[derive(Debug, Clone)]
pub struct InvoicePlan {
    /// Time of the invoice.
    pub on: Duration,
    /// Amount of the invoice; above 0.
    pub amount: Decimal,
    /// Time from the invoice to its due date. An invoice that is not paid by then is taken from the balance.
    pub due_after: Duration,
    /// Time from the invoice to its payment, which does not come from the balance; `None` if nobody pays it.
    pub paid_after: Option<Duration>,
}

/// A period in which the API fails.
#[derive(Debug, Clone)]
pub struct ApiFault {
    /// Start of the period.
    pub from: Duration,
    /// Length of the period; above 0.
    pub length: Duration,
    /// Kind of failure in the period.
    pub kind: ApiFaultKind,
}

impl ApiFault {
    /// Returns `true` if the API fails at this time after the scenario's start.
    pub fn is_active_at(&self, since_start: Duration) -> bool {
        (self.from..self.from + self.length).contains(&since_start)
    }
}

/// Kind of failure of the simulated API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiFaultKind {
    /// Status 503 with `Service is unavailable`.
    Maintenance,
    /// Status 429 with `request_limit_exceeded`.
    RateLimited,
    /// Status 500 with `internal_error`.
    ServerError,
    /// No response at all.
    Hang,
    /// Status 200 with a web page.
    Html,
    /// Status 403 with `access_denied_invalid_key`, as for a revoked key.
    RevokedKey,
    /// Status 403 with `access_denied`.
    Forbidden,
    /// Status 403 with `access_denied` for history and orders; the balance still works.
    HistoryForbidden,
    /// A connection that is closed in the middle of the response.
    Broken,
}

impl ApiFaultKind {
    /// All kinds with their values in YAML.
    pub const ALL: [(&'static str, ApiFaultKind); 9] = [
        ("maintenance", ApiFaultKind::Maintenance),
        ("rate_limited", ApiFaultKind::RateLimited),
        ("server_error", ApiFaultKind::ServerError),
        ("hang", ApiFaultKind::Hang),
        ("html", ApiFaultKind::Html),
        ("revoked_key", ApiFaultKind::RevokedKey),
        ("forbidden", ApiFaultKind::Forbidden),
        ("history_forbidden", ApiFaultKind::HistoryForbidden),
        ("broken", ApiFaultKind::Broken),
    ];
}

impl fmt::Display for ApiFaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ApiFaultKind::Maintenance => "under maintenance (503)",
            ApiFaultKind::RateLimited => "too many requests (429)",
            ApiFaultKind::ServerError => "internal server error (500)",
            ApiFaultKind::Hang => "no response",
            ApiFaultKind::Html => "responds with a web page",
            ApiFaultKind::RevokedKey => "the API key was revoked (403)",
            ApiFaultKind::Forbidden => "the key's user lost its role (403)",
            ApiFaultKind::HistoryForbidden => "the key's user cannot see history and orders (403)",
            ApiFaultKind::Broken => "closes connections in the middle of the response",
        })
    }
}

impl Scenario {
    /// Returns the number of separate funds.
    pub(super) fn funds(&self) -> usize {
        if self.shared_funds { self.divisions.len().min(1) } else { self.divisions.len() }
    }
}

/// Scenarios in the binary: name and YAML.
pub const SHIPPED: [(&str, &str); 10] = [
    ("steady", include_str!("scenarios/steady.yaml")),
    ("drain", include_str!("scenarios/drain.yaml")),
    ("renewal-wave", include_str!("scenarios/renewal-wave.yaml")),
    ("unpaid-invoices", include_str!("scenarios/unpaid-invoices.yaml")),
    ("unlimited", include_str!("scenarios/unlimited.yaml")),
    ("divisions", include_str!("scenarios/divisions.yaml")),
    ("shared-funds", include_str!("scenarios/shared-funds.yaml")),
    ("outage", include_str!("scenarios/outage.yaml")),
    ("flapping", include_str!("scenarios/flapping.yaml")),
    ("plans", include_str!("scenarios/plans.yaml")),
];
