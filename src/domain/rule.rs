//! Rules: a metric, its thresholds for warning and critical, and the notifiers to use.
//!
//! Only valid rules exist: constructors return a typed error, to which the configuration adds the line of the file.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Name;
use super::confidence::Confidence;
use super::metric::DAY;
use super::money::Currency;

pub use super::metric::{HORIZON, HORIZON_DAYS, Metric, MetricUnit};
pub use super::threshold::{ThresholdAmount, ThresholdSide, ThresholdValue};

/// Name of the alert about unreadable balances. No rule may have it.
pub const UNREADABLE: &str = "unreadable";

/// Level of a rule or alert. Critical is greater than warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody should plan for it soon.
    Warning,
    /// Somebody should act at once.
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

/// Error for levels that make no valid rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Neither `warning` nor `critical` was given.
    #[error("a rule needs at least one level, `warning` or `critical`")]
    NoLevel,
    /// `clear_at` is on the firing side of the threshold.
    #[error(
        "`clear_at` {clear_at} is on the firing side of `{side}` {threshold}: the level could never clear properly"
    )]
    ClearsWhereItFires {
        /// Firing side of the threshold.
        side: ThresholdSide,
        /// Value beyond which the level fires.
        threshold: ThresholdValue,
        /// Value at which it should clear.
        clear_at: ThresholdValue,
    },
    /// An amount was given for a duration, or a duration for an amount.
    #[error("{metric} is measured in {}", match metric.unit() { MetricUnit::Money => "money", MetricUnit::Time => "time" })]
    OtherUnit {
        /// Metric of the rule.
        metric: Metric,
    },
    /// One rule has amounts in two currencies.
    #[error("{one} and {other} are different currencies: one rule has one")]
    TwoCurrencies {
        /// First of the two currencies.
        one: Currency,
        /// Second of the two currencies.
        other: Currency,
    },
    /// The value reaches critical before warning.
    #[error("critical {side} {critical} is reached before warning {side} {warning}: are the two swapped?")]
    Swapped {
        /// Firing side of both levels.
        side: ThresholdSide,
        /// Threshold of the warning level.
        warning: ThresholdValue,
        /// Threshold of the critical level.
        critical: ThresholdValue,
    },
    /// One level fires below its threshold, the other above.
    #[error("`warning` and `critical` look at opposite sides: make them two rules")]
    OppositeSides,
}

/// One level of a rule. Valid: it clears on the safe side of its threshold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    side: ThresholdSide,
    threshold: ThresholdValue,
    clear_at: ThresholdValue,
    /// Time for which the condition must have held before the level fires (`for`); default 0.
    pub hold: Duration,
    /// Pause between reminders while it fires; `None` for no reminders.
    pub remind_every: Option<Duration>,
    /// Notifiers; never empty in a loaded configuration.
    pub notify: Vec<Name>,
}

impl Level {
    /// Creates a level that fires strictly beyond `threshold`, and clears at or beyond `clear_at` on the safe side (default: as soon
    /// as the condition no longer holds). It fires at once, reminds daily and has no notifiers until these fields are set.
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

    /// Returns the firing side.
    pub fn side(&self) -> ThresholdSide {
        self.side
    }

    /// Returns the value beyond which the level fires.
    pub fn threshold(&self) -> ThresholdValue {
        self.threshold
    }

    /// Returns the value at or beyond which the level clears.
    pub fn clear_at(&self) -> ThresholdValue {
        self.clear_at
    }

    /// Returns the currency of its amounts, if the configuration names one.
    pub fn currency(&self) -> Option<Currency> {
        self.threshold.currency().or(self.clear_at.currency())
    }

    /// Returns `true` if its amounts can be compared with amounts in `currency`: they have this currency or none.
    pub fn compares_with(&self, currency: Currency) -> bool {
        self.currency().is_none_or(|own| own == currency)
    }
}

/// One threshold rule. Valid: at least one level, and critical is at or beyond warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Key under `rules`, part of the identity of its alerts.
    pub name: Name,
    /// Metric of the rule.
    pub metric: Metric,
    within: Option<Duration>,
    /// Confidence of a runway.
    pub confidence: Confidence,
    warning: Option<Level>,
    critical: Option<Level>,
    /// Accounts that it watches; `None` for all.
    pub accounts: Option<BTreeSet<Name>>,
    /// Divisions that it watches; `None` for all.
    pub divisions: Option<BTreeSet<u64>>,
    /// Text shown in every message.
    pub description: Option<String>,
    /// HTTP or HTTPS address shown in every message.
    pub link: Option<String>,
}

impl Rule {
    /// Creates a rule that watches every account and division until its fields are set.
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

    /// Replaces the window by another, from one second to the forecast's horizon. A metric without a window keeps none.
    #[must_use]
    pub fn with_window(self, within: Duration) -> Self {
        let within = self.within.map(|_| within.clamp(Duration::from_secs(1), HORIZON));
        Self { within, ..self }
    }

    /// Returns the window, if the metric has one.
    pub fn within(&self) -> Option<Duration> {
        self.within
    }

    /// Returns the level of that severity, if the rule has it.
    pub fn level(&self, severity: Severity) -> Option<&Level> {
        match severity {
            Severity::Warning => self.warning.as_ref(),
            Severity::Critical => self.critical.as_ref(),
        }
    }

    /// Returns the levels that it has, warning first.
    pub fn levels(&self) -> impl Iterator<Item = &Level> {
        [&self.warning, &self.critical].into_iter().flatten()
    }

    /// Returns `true` if it watches this account and division.
    pub fn watches(&self, account: &str, division: super::Division) -> bool {
        let account_in = self.accounts.as_ref().is_none_or(|names| names.contains(account));
        let division_in = self.divisions.as_ref().is_none_or(|ids| division.is_some_and(|id| ids.contains(&id)));
        account_in && division_in
    }

    /// Returns the currency of its amounts, if the configuration names one.
    pub fn currency(&self) -> Option<Currency> {
        [&self.warning, &self.critical].into_iter().flatten().find_map(Level::currency)
    }
}

/// Settings of the alert about accounts and divisions that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadablePolicy {
    /// Time for which a transient failure must last before the alert is raised; default 3 h.
    pub after: Duration,
    /// Level of the alert; default warning.
    pub level: Severity,
    /// Pause between reminders; `None` for no reminders; default 24 h.
    pub remind_every: Option<Duration>,
    /// Notifiers of the alert; default all.
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
