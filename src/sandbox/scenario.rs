//! A scenario: what happens to a simulated `CertCentral` account, as data. Only valid ones exist.
//!
//! Nothing here happens by itself: [`super::world::SimulatedWorld`] lives it. All times count from the scenario's start. It is read
//! from YAML by [`crate::config::scenario`], with the same diagnostics as a configuration.

use std::fmt;
use std::time::Duration;

use rust_decimal::Decimal;

use crate::domain::money::Currency;

/// A whole scenario.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// What it is called.
    pub name: String,
    /// What happens in it, for people.
    pub about: String,
    /// How much of it the demo tells; default three weeks.
    pub length: Duration,
    /// How much life lies before its start; default 90 days.
    pub history: Duration,
    /// Requests per window that the API answers, per key; the first is the number. Default: the documented limits.
    pub rate_limit: Vec<(usize, Duration)>,
    /// All divisions hold the same funds; then they have the same currency, balance and credit.
    pub shared_funds: bool,
    /// At least one, with distinct ids.
    pub divisions: Vec<DivisionPlan>,
    /// When and how the API fails; where several overlap, the first counts.
    pub faults: Vec<ApiFault>,
}

/// One division (container) and what happens to its funds.
#[derive(Debug, Clone)]
pub struct DivisionPlan {
    /// Its container id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Of all its amounts.
    pub currency: Currency,
    /// Its balance at the start.
    pub balance: Decimal,
    /// How far the balance may go below zero.
    pub credit: CreditLimit,
    /// What is bought week by week, before the start too.
    pub orders: Vec<OrderPlan>,
    /// Sites whose orders are renewed again and again.
    pub renewals: Vec<RenewalPlan>,
    /// Domains that are added to orders week by week, before the start too.
    pub added_domains: Vec<DomainPlan>,
    /// Deposits.
    pub deposits: Vec<DepositPlan>,
    /// Invoices.
    pub invoices: Vec<InvoicePlan>,
}

/// How far a balance may go below zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreditLimit {
    /// So far.
    Limit(Decimal),
    /// Without limit.
    Unlimited,
}

/// What is bought, and how it is paid.
#[derive(Debug, Clone)]
pub struct ProductPlan {
    /// Its name, such as `Secure Site OV`.
    pub name: String,
    /// Its price; above 0.
    pub price: Decimal,
    /// How long an order of it lasts; 1 to 3.
    pub years: u32,
    /// Whether its orders are renewed automatically, 30 days before they end.
    pub auto_renew: bool,
}

impl ProductPlan {
    /// How long an order of it lasts.
    pub fn duration(&self) -> Duration {
        Duration::from_secs(365 * 24 * 3600) * self.years
    }
}

/// Orders that are placed every week, on working days.
#[derive(Debug, Clone)]
pub struct OrderPlan {
    /// What.
    pub product: ProductPlan,
    /// How many a week; above 0, with at most two decimals. A fraction is the chance of one more.
    pub per_week: Decimal,
}

/// Domains that are added to running orders, on working days. Each is charged for what is left of its order.
#[derive(Debug, Clone)]
pub struct DomainPlan {
    /// What one costs for a year; above 0.
    pub price: Decimal,
    /// How many a week; above 0, with at most two decimals. A fraction is the chance of one more.
    pub per_week: Decimal,
}

/// Sites whose orders end between `from` and `to`, and `years` earlier and later. Each is renewed `early`, before the start too.
#[derive(Debug, Clone)]
pub struct RenewalPlan {
    /// What.
    pub product: ProductPlan,
    /// How many sites.
    pub count: u32,
    /// The earliest end.
    pub from: Duration,
    /// The latest end; not before `from`.
    pub to: Duration,
    /// How long before its end an order is renewed; less than it lasts.
    pub early: Duration,
}

/// Money that comes in.
#[derive(Debug, Clone)]
pub struct DepositPlan {
    /// When.
    pub on: DepositTime,
    /// How much; above 0.
    pub amount: Decimal,
    /// Again and again after so long; above 0.
    pub every: Option<Duration>,
    /// What is left of it expires after so long; above 0.
    pub expires_after: Option<Duration>,
}

/// Before or after the scenario's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DepositTime {
    /// So long before.
    Ago(Duration),
    /// So long after.
    After(Duration),
}

/// Something that DigiCert wants to have paid beside the orders.
#[derive(Debug, Clone)]
pub struct InvoicePlan {
    /// When it is written.
    pub on: Duration,
    /// How much; above 0.
    pub amount: Decimal,
    /// When it is due; an invoice that is not paid until then is taken from the balance.
    pub due_after: Duration,
    /// When it is paid from elsewhere.
    pub paid_after: Option<Duration>,
}

/// A time in which the API does not work.
#[derive(Debug, Clone)]
pub struct ApiFault {
    /// When it begins.
    pub from: Duration,
    /// How long it lasts; above 0.
    pub length: Duration,
    /// What happens instead of an answer.
    pub kind: ApiFaultKind,
}

impl ApiFault {
    /// Whether the API does not work so long after the scenario's start.
    pub fn is_active_at(&self, since_start: Duration) -> bool {
        (self.from..self.from + self.length).contains(&since_start)
    }
}

/// What happens instead of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiFaultKind {
    /// 503 `Service is unavailable`.
    Maintenance,
    /// 429 `request_limit_exceeded`.
    RateLimited,
    /// 500.
    ServerError,
    /// No answer.
    Hang,
    /// 200 with a web page.
    Html,
    /// 403 `access_denied_invalid_key`, as for a key that was revoked.
    RevokedKey,
    /// 403 `access_denied`.
    Forbidden,
    /// 403 `access_denied` for the history and the orders; the balance works.
    HistoryForbidden,
    /// The connection is closed in the middle of the answer.
    Broken,
}

impl ApiFaultKind {
    /// Every kind with the word for it in YAML.
    pub const ALL: [(&'static str, ApiFaultKind); 9] = [
        ("maintenance", ApiFaultKind::Maintenance),
        ("rate_limited", ApiFaultKind::RateLimited),
        ("server_error", ApiFaultKind::ServerError),
        ("hang", ApiFaultKind::Hang),
        ("html", ApiFaultKind::Html),
        ("revoked_key", ApiFaultKind::RevokedKey),
        ("forbidden", ApiFaultKind::Forbidden),
        ("books_forbidden", ApiFaultKind::HistoryForbidden),
        ("broken", ApiFaultKind::Broken),
    ];
}

impl fmt::Display for ApiFaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ApiFaultKind::Maintenance => "under maintenance, it answers 503",
            ApiFaultKind::RateLimited => "too many requests, it answers 429",
            ApiFaultKind::ServerError => "broken, it answers 500",
            ApiFaultKind::Hang => "it does not answer at all",
            ApiFaultKind::Html => "it answers with a web page",
            ApiFaultKind::RevokedKey => "the API key was revoked, it answers 403",
            ApiFaultKind::Forbidden => "the key's user lost its role, it answers 403",
            ApiFaultKind::HistoryForbidden => "the key's user may not see history and orders, for them it answers 403",
            ApiFaultKind::Broken => "it closes connections in the middle of the answer",
        })
    }
}

impl Scenario {
    /// How many funds there are.
    pub(super) fn funds(&self) -> usize {
        if self.shared_funds { self.divisions.len().min(1) } else { self.divisions.len() }
    }
}

/// The scenarios that come with the program: name and YAML.
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
