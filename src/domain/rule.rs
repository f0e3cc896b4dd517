//! Rules: what is watched, from which amount on it is a warning or critical, and who is told.
//!
//! Only valid rules exist: the constructors refuse the rest with a typed error that the configuration turns into a place.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::Name;
use super::confidence::Confidence;
use super::money::{Currency, Money, figure};

/// The name that alerts about unreadable accounts go by; no rule may have it.
pub const UNREADABLE: &str = "unreadable";

/// What a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Computed: balance + credit limit − unpaid invoices − credit used by other divisions.
    AvailableFunds,
    /// The prepaid balance alone.
    Balance,
    /// Owed for unpaid invoices.
    UnpaidInvoices,
    /// Credit that other divisions use.
    UsedCredit,
    /// How long available funds last.
    Runway,
    /// What was debited for purchases in a window that ends now.
    Spend,
    /// What is left of deposits that expire in a window that begins now.
    ExpiringFunds,
    /// The price of the orders that end in a window that begins now and are not renewed yet.
    RenewalsDue,
    /// How far available funds fall short of the renewals due.
    Shortfall,
}

/// What a metric is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricUnit {
    /// An amount of the account's currency.
    Money,
    /// A duration.
    Time,
}

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How far the forecast looks, in days; what lies beyond is endless.
pub const HORIZON_DAYS: u32 = 365;
/// The same as a duration. No window and no runway threshold is longer.
pub const HORIZON: Duration = Duration::from_secs(HORIZON_DAYS as u64 * 24 * 3600);

impl Metric {
    /// Every metric, with its name in YAML.
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

    /// Those that a balance alone tells; the others take the account's books.
    pub const FROM_BALANCE: [Metric; 4] =
        [Metric::AvailableFunds, Metric::Balance, Metric::UnpaidInvoices, Metric::UsedCredit];

    /// Whether it takes the account's books.
    pub fn needs_history(self) -> bool {
        !Self::FROM_BALANCE.contains(&self)
    }

    /// What it is measured in.
    pub fn unit(self) -> MetricUnit {
        if self == Metric::Runway { MetricUnit::Time } else { MetricUnit::Money }
    }

    /// Whether no account can be below 0.
    pub fn is_never_negative(self) -> bool {
        !matches!(self, Metric::AvailableFunds | Metric::Balance)
    }

    /// The window of a metric that has one, where the rule does not say.
    pub fn default_within(self) -> Option<Duration> {
        match self {
            Metric::Spend => Some(DAY),
            Metric::ExpiringFunds | Metric::RenewalsDue | Metric::Shortfall => Some(30 * DAY),
            Metric::AvailableFunds | Metric::Balance | Metric::UnpaidInvoices | Metric::UsedCredit | Metric::Runway => {
                None
            }
        }
    }

    /// Its name in YAML.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(metric, _)| *metric == self).map_or("", |(_, name)| name)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How bad it is. Ordered: critical is more than warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody should plan for it.
    Warning,
    /// Somebody should act now.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        })
    }
}

/// Which side of the threshold is the bad one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThresholdSide {
    /// Bad when strictly below.
    Below,
    /// Bad when strictly above.
    Above,
}

impl fmt::Display for ThresholdSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ThresholdSide::Below => "below",
            ThresholdSide::Above => "above",
        })
    }
}

/// An amount as the configuration writes it: with a currency, or in the account's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThresholdAmount {
    /// The exact figure.
    pub value: Decimal,
    /// `None`: the account's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
}

impl fmt::Display for ThresholdAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.currency {
            Some(currency) => Money::new(self.value, currency).fmt(f),
            None => f.write_str(&figure(self.value, 0)),
        }
    }
}

/// Where a level fires or clears, in what its metric is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ThresholdValue {
    /// A duration.
    Time {
        /// So long.
        #[serde(with = "super::seconds")]
        lasts: Duration,
    },
    /// An amount.
    Money(ThresholdAmount),
}

impl ThresholdValue {
    /// The currency that it is in, where the configuration says so.
    pub fn currency(self) -> Option<Currency> {
        match self {
            ThresholdValue::Money(amount) => amount.currency,
            ThresholdValue::Time { .. } => None,
        }
    }

    /// The amount, where it is one.
    pub fn amount(self) -> Option<ThresholdAmount> {
        match self {
            ThresholdValue::Money(amount) => Some(amount),
            ThresholdValue::Time { .. } => None,
        }
    }

    /// The same amount in this currency, if it names none.
    #[must_use]
    pub fn with_default_currency(self, currency: Option<Currency>) -> Self {
        match self {
            ThresholdValue::Money(ThresholdAmount { value, currency: own }) => {
                ThresholdValue::Money(ThresholdAmount { value, currency: own.or(currency) })
            }
            ThresholdValue::Time { .. } => self,
        }
    }

    /// What it is measured in.
    pub fn unit(self) -> MetricUnit {
        match self {
            ThresholdValue::Money(_) => MetricUnit::Money,
            ThresholdValue::Time { .. } => MetricUnit::Time,
        }
    }

    /// Which of two is less; `None` where they measure different things.
    pub(crate) fn compare(self, other: ThresholdValue) -> Option<Ordering> {
        match (self, other) {
            (ThresholdValue::Money(one), ThresholdValue::Money(other)) => Some(one.value.cmp(&other.value)),
            (ThresholdValue::Time { lasts: one }, ThresholdValue::Time { lasts: other }) => Some(one.cmp(&other)),
            (ThresholdValue::Money(_), ThresholdValue::Time { .. })
            | (ThresholdValue::Time { .. }, ThresholdValue::Money(_)) => None,
        }
    }
}

impl From<ThresholdAmount> for ThresholdValue {
    fn from(amount: ThresholdAmount) -> Self {
        ThresholdValue::Money(amount)
    }
}

impl From<Duration> for ThresholdValue {
    fn from(lasts: Duration) -> Self {
        ThresholdValue::Time { lasts }
    }
}

impl fmt::Display for ThresholdValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ThresholdValue::Money(amount) => amount.fmt(f),
            ThresholdValue::Time { lasts } => f.write_str(&super::seconds::format_compact(*lasts)),
        }
    }
}

/// Why a level, or a pair of them, is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Neither `warning` nor `critical`.
    #[error("a rule needs at least one level, `warning` or `critical`")]
    NoLevel,
    /// `clear_at` lies where the level fires.
    #[error(
        "`clear_at` {clear_at} is on the firing side of `{side}` {threshold}: the level could never clear properly"
    )]
    ClearsWhereItFires {
        /// The bad side.
        side: ThresholdSide,
        /// Where it fires.
        threshold: ThresholdValue,
        /// Where it should clear.
        clear_at: ThresholdValue,
    },
    /// An amount where a duration belongs, or the other way round.
    #[error("{metric} is measured in {}", match metric.unit() { MetricUnit::Money => "money", MetricUnit::Time => "time" })]
    OtherUnit {
        /// What the rule looks at.
        metric: Metric,
    },
    /// Two currencies in one level or rule.
    #[error("{one} and {other} are different currencies: one rule has one")]
    TwoCurrencies {
        /// One of them.
        one: Currency,
        /// The other.
        other: Currency,
    },
    /// Critical is reached before warning.
    #[error("critical {side} {critical} is reached before warning {side} {warning}: are the two swapped?")]
    Swapped {
        /// The bad side of both.
        side: ThresholdSide,
        /// Warning's threshold.
        warning: ThresholdValue,
        /// Critical's threshold.
        critical: ThresholdValue,
    },
    /// One level fires below, the other above.
    #[error("`warning` and `critical` look at opposite sides: make them two rules")]
    OppositeSides,
}

/// One level of a rule. Valid: it clears on the safe side of its threshold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    side: ThresholdSide,
    threshold: ThresholdValue,
    clear_at: ThresholdValue,
    /// How long the condition must have held before the level fires; default 0.
    pub hold: Duration,
    /// Pause between reminders while it fires; `None`: never.
    pub remind_every: Option<Duration>,
    /// Who is told; never empty in a loaded configuration.
    pub notify: Vec<Name>,
}

impl Level {
    /// A level that fires strictly beyond `threshold` and clears at or beyond `clear_at` on the safe side (default: as
    /// soon as the condition no longer holds). It holds for 0, reminds daily and tells nobody until the fields are set.
    pub fn new<B: Into<ThresholdValue>>(
        side: ThresholdSide,
        threshold: B,
        clear_at: Option<B>,
    ) -> Result<Self, RuleError> {
        let threshold = threshold.into();
        let clear_at = clear_at.map_or(threshold, Into::into);
        check_same_currency(threshold, clear_at)?;
        let unsafe_side = match side {
            ThresholdSide::Below => Ordering::Less,
            ThresholdSide::Above => Ordering::Greater,
        };
        if clear_at.compare(threshold) == Some(unsafe_side) {
            return Err(RuleError::ClearsWhereItFires { side, threshold, clear_at });
        }
        Ok(Self { side, threshold, clear_at, hold: Duration::ZERO, remind_every: Some(DAY), notify: Vec::new() })
    }

    /// The bad side.
    pub fn side(&self) -> ThresholdSide {
        self.side
    }

    /// Where it fires, strictly beyond.
    pub fn threshold(&self) -> ThresholdValue {
        self.threshold
    }

    /// Where it clears, at or beyond.
    pub fn clear_at(&self) -> ThresholdValue {
        self.clear_at
    }

    /// The currency that its amounts are in, where the configuration says so.
    pub fn currency(&self) -> Option<Currency> {
        self.threshold.currency().or(self.clear_at.currency())
    }

    /// Whether its amounts compare with amounts in `currency`: they are in it, or in whatever the account reports.
    pub fn compares_with(&self, currency: Currency) -> bool {
        self.currency().is_none_or(|own| own == currency)
    }
}

/// One threshold rule. Valid: at least one level, and critical is at or beyond warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its key under `rules`; the identity of its alerts.
    pub name: Name,
    /// What it looks at.
    pub metric: Metric,
    within: Option<Duration>,
    /// How cautious a runway is.
    pub confidence: Confidence,
    warning: Option<Level>,
    critical: Option<Level>,
    /// Accounts that it watches; `None`: all.
    pub accounts: Option<BTreeSet<Name>>,
    /// Divisions that it watches; `None`: all.
    pub divisions: Option<BTreeSet<u64>>,
    /// Shown in every message.
    pub description: Option<String>,
    /// Shown in every message; an http(s) address.
    pub link: Option<String>,
}

impl Rule {
    /// A rule that watches everything; narrow it through its fields.
    pub fn new(name: Name, metric: Metric, warning: Option<Level>, critical: Option<Level>) -> Result<Self, RuleError> {
        match (&warning, &critical) {
            (None, None) => return Err(RuleError::NoLevel),
            (Some(warning), Some(critical)) => check_level_order(warning, critical)?,
            _ => {}
        }
        let bounds = [&warning, &critical].into_iter().flatten().flat_map(|level| [level.threshold, level.clear_at]);
        if bounds.into_iter().any(|bound| bound.unit() != metric.unit()) {
            return Err(RuleError::OtherUnit { metric });
        }
        let within = metric.default_within();
        let confidence = Confidence::default();
        let (accounts, divisions, description, link) = (None, None, None, None);
        Ok(Self { name, metric, within, confidence, warning, critical, accounts, divisions, description, link })
    }

    /// The same with another window, of more than nothing and up to a year; a metric without one keeps none.
    #[must_use]
    pub fn with_window(self, within: Duration) -> Self {
        let within = self.within.map(|_| within.clamp(Duration::from_secs(1), HORIZON));
        Self { within, ..self }
    }

    /// The window of a metric that has one.
    pub fn within(&self) -> Option<Duration> {
        self.within
    }

    /// The level of that severity, if the rule has it.
    pub fn level(&self, severity: Severity) -> Option<&Level> {
        match severity {
            Severity::Warning => self.warning.as_ref(),
            Severity::Critical => self.critical.as_ref(),
        }
    }

    /// The levels that it has, the milder one first.
    pub fn levels(&self) -> impl Iterator<Item = &Level> {
        [&self.warning, &self.critical].into_iter().flatten()
    }

    /// Whether it watches this account and division.
    pub fn watches(&self, account: &str, division: super::Division) -> bool {
        let account_in = self.accounts.as_ref().is_none_or(|names| names.contains(account));
        let division_in = self.divisions.as_ref().is_none_or(|ids| division.is_some_and(|id| ids.contains(&id)));
        account_in && division_in
    }

    /// The currency that its amounts are in, where the configuration says so.
    pub fn currency(&self) -> Option<Currency> {
        [&self.warning, &self.critical].into_iter().flatten().find_map(Level::currency)
    }
}

/// The alert about accounts and divisions that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadablePolicy {
    /// How long a failure that may heal is waited out; default 3 h.
    pub after: Duration,
    /// How bad it is; default warning.
    pub level: Severity,
    /// Pause between reminders; `None`: never; default 24 h.
    pub remind_every: Option<Duration>,
    /// Who is told; default all.
    pub notify: Vec<Name>,
}

fn check_same_currency(a: ThresholdValue, b: ThresholdValue) -> Result<(), RuleError> {
    match (a.currency(), b.currency()) {
        (Some(one), Some(other)) if one != other => Err(RuleError::TwoCurrencies { one, other }),
        _ => Ok(()),
    }
}

fn check_level_order(warning: &Level, critical: &Level) -> Result<(), RuleError> {
    if warning.side != critical.side {
        return Err(RuleError::OppositeSides);
    }
    if let (Some(one), Some(other)) = (warning.currency(), critical.currency())
        && one != other
    {
        return Err(RuleError::TwoCurrencies { one, other });
    }
    let beyond = match warning.side {
        ThresholdSide::Below => Ordering::Greater,
        ThresholdSide::Above => Ordering::Less,
    };
    let swapped = critical.threshold.compare(warning.threshold) == Some(beyond);
    if swapped {
        let (warning, side, critical) = (warning.threshold, warning.side, critical.threshold);
        return Err(RuleError::Swapped { side, warning, critical });
    }
    Ok(())
}
