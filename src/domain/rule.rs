//! Rules: what is watched, from which amount on it is a warning or critical, and who is told.
//!
//! Only valid rules exist: the constructors refuse the rest with a typed error that the configuration turns into a place.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::Name;
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
}

impl Metric {
    /// Every metric, with its name in YAML.
    pub const ALL: [(Metric, &'static str); 4] = [
        (Metric::AvailableFunds, "available_funds"),
        (Metric::Balance, "balance"),
        (Metric::UnpaidInvoices, "unpaid_invoices"),
        (Metric::UsedCredit, "used_credit"),
    ];

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
pub enum Side {
    /// Bad when strictly below.
    Below,
    /// Bad when strictly above.
    Above,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Below => "below",
            Side::Above => "above",
        })
    }
}

/// An amount as the configuration writes it: with a currency, or in the account's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// The exact figure.
    pub value: Decimal,
    /// `None`: the account's own.
    pub currency: Option<Currency>,
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.currency {
            Some(currency) => Money::new(self.value, currency).fmt(f),
            None => f.write_str(&figure(self.value, 0)),
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
        side: Side,
        /// Where it fires.
        threshold: Amount,
        /// Where it should clear.
        clear_at: Amount,
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
        side: Side,
        /// Warning's threshold.
        warning: Amount,
        /// Critical's threshold.
        critical: Amount,
    },
    /// One level fires below, the other above.
    #[error("`warning` and `critical` look at opposite sides: make them two rules")]
    OppositeSides,
}

/// One level of a rule. Valid: it clears on the safe side of its threshold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    side: Side,
    threshold: Amount,
    clear_at: Amount,
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
    pub fn new(side: Side, threshold: Amount, clear_at: Option<Amount>) -> Result<Self, RuleError> {
        let clear_at = clear_at.unwrap_or(threshold);
        one_currency(threshold, clear_at)?;
        let unsafe_side = match side {
            Side::Below => clear_at.value < threshold.value,
            Side::Above => clear_at.value > threshold.value,
        };
        if unsafe_side {
            return Err(RuleError::ClearsWhereItFires { side, threshold, clear_at });
        }
        let remind_every = Some(Duration::from_secs(24 * 3600));
        Ok(Self { side, threshold, clear_at, hold: Duration::ZERO, remind_every, notify: Vec::new() })
    }

    /// The bad side.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Where it fires, strictly beyond.
    pub fn threshold(&self) -> Amount {
        self.threshold
    }

    /// Where it clears, at or beyond.
    pub fn clear_at(&self) -> Amount {
        self.clear_at
    }

    /// The currency that its amounts are in, where the configuration says so.
    pub fn currency(&self) -> Option<Currency> {
        self.threshold.currency.or(self.clear_at.currency)
    }
}

/// One threshold rule. Valid: at least one level, and critical is at or beyond warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its key under `rules`; the identity of its alerts.
    pub name: Name,
    /// What it looks at.
    pub metric: Metric,
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
            (Some(warning), Some(critical)) => in_order(warning, critical)?,
            _ => {}
        }
        Ok(Self { name, metric, warning, critical, accounts: None, divisions: None, description: None, link: None })
    }

    /// The level of that severity, if the rule has it.
    pub fn level(&self, severity: Severity) -> Option<&Level> {
        match severity {
            Severity::Warning => self.warning.as_ref(),
            Severity::Critical => self.critical.as_ref(),
        }
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

fn one_currency(a: Amount, b: Amount) -> Result<(), RuleError> {
    match (a.currency, b.currency) {
        (Some(one), Some(other)) if one != other => Err(RuleError::TwoCurrencies { one, other }),
        _ => Ok(()),
    }
}

fn in_order(warning: &Level, critical: &Level) -> Result<(), RuleError> {
    if warning.side != critical.side {
        return Err(RuleError::OppositeSides);
    }
    if let (Some(one), Some(other)) = (warning.currency(), critical.currency())
        && one != other
    {
        return Err(RuleError::TwoCurrencies { one, other });
    }
    let swapped = match warning.side {
        Side::Below => critical.threshold.value > warning.threshold.value,
        Side::Above => critical.threshold.value < warning.threshold.value,
    };
    if swapped {
        let (warning, side, critical) = (warning.threshold, warning.side, critical.threshold);
        return Err(RuleError::Swapped { side, warning, critical });
    }
    Ok(())
}
