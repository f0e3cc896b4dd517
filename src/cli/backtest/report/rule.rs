//! Result of one rule on one fund: its alerts and their events.

use rust_decimal::Decimal;
use serde::Serialize;

use super::FundAmount;
use crate::backtest::{BacktestInput, Episode, EpisodeEvent, RuleBacktest};
use crate::cli::output::threshold::RuleThreshold;
use crate::domain::alert::TransitionKind;
use crate::domain::balance::MetricValue;
use crate::domain::money::Currency;
use crate::domain::rule::{Metric, Rule, Severity};
use crate::domain::{Name, Time};

/// Result of one rule on one fund.
#[derive(Serialize)]
pub(crate) struct BacktestRuleReport {
    pub(crate) rule: Name,
    pub(crate) metric: &'static str,
    pub(crate) warning: Option<RuleThreshold>,
    pub(crate) critical: Option<RuleThreshold>,
    /// Reason why the rule is not replayed, otherwise `null`.
    pub(crate) skipped: Option<String>,
    pub(crate) alerts: Vec<BacktestAlertReport>,
    /// Thresholds of a rule on available funds, for the chart and the comparison.
    #[serde(skip)]
    pub(crate) lines: Vec<(Severity, Decimal)>,
    #[serde(skip)]
    pub(super) warns_of_funds: bool,
}

/// One alert from its start to its end.
#[derive(Serialize)]
pub(crate) struct BacktestAlertReport {
    pub(crate) raised: Time,
    /// End of the alert; `null` if it still fires.
    pub(crate) resolved: Option<Time>,
    pub(crate) lasted_seconds: i64,
    /// Set if the alert fired at the first step, so that it may have begun long before.
    pub(crate) began_before: bool,
    pub(crate) events: Vec<BacktestEventReport>,
}

/// One event of an alert.
#[derive(Serialize)]
pub(crate) struct BacktestEventReport {
    pub(crate) at: Time,
    pub(crate) event: &'static str,
    pub(crate) level: Severity,
    pub(crate) amount: Option<FundAmount>,
    pub(crate) currency: Option<Currency>,
    /// Value of a rule on the runway.
    pub(crate) seconds: Option<u64>,
    pub(crate) unlimited: bool,
    pub(crate) notified: Vec<Name>,
}

impl BacktestRuleReport {
    pub(super) fn new(rule: &Rule, backtest: RuleBacktest, input: &BacktestInput<'_>) -> Self {
        let line = |severity| {
            let level = rule.level(severity).filter(|_| rule.metric == Metric::AvailableFunds)?;
            Some((severity, level.threshold().amount()?.value))
        };
        let (episodes, skipped) = match backtest.episodes {
            Ok(episodes) => (episodes, None),
            Err(reason) => (Vec::new(), Some(reason.to_string())),
        };
        Self {
            rule: rule.name.clone(),
            metric: rule.metric.name(),
            warning: RuleThreshold::of(rule, Severity::Warning),
            critical: RuleThreshold::of(rule, Severity::Critical),
            skipped,
            alerts: episodes.iter().filter_map(|episode| BacktestAlertReport::new(episode, input)).collect(),
            lines: [Severity::Warning, Severity::Critical].into_iter().filter_map(line).collect(),
            warns_of_funds: matches!(
                rule.metric,
                Metric::AvailableFunds | Metric::Balance | Metric::Runway | Metric::Shortfall
            ),
        }
    }
}

impl BacktestAlertReport {
    fn new(episode: &Episode, input: &BacktestInput<'_>) -> Option<Self> {
        let (raised, resolved) = (episode.raised()?, episode.resolved());
        Some(Self {
            raised,
            resolved,
            lasted_seconds: (resolved.unwrap_or(input.to) - raised).num_seconds(),
            began_before: raised == input.from,
            events: episode.events.iter().map(BacktestEventReport::new).collect(),
        })
    }
}

impl BacktestEventReport {
    fn new(event: &EpisodeEvent) -> Self {
        let (money, seconds, unlimited) = match event.value {
            MetricValue::Amount(money) => (Some(money), None, false),
            MetricValue::Time(lasts) => (None, Some(lasts.as_secs()), false),
            MetricValue::Unlimited => (None, None, true),
        };
        Self {
            at: event.at,
            event: event.kind.name(),
            level: event.level,
            amount: money.map(|money| FundAmount { amount: money.amount, currency: Some(money.currency) }),
            currency: money.map(|money| money.currency),
            seconds,
            unlimited,
            notified: event.notified.iter().cloned().collect(),
        }
    }

    pub(crate) fn is(&self, kind: TransitionKind) -> bool {
        self.event == kind.name()
    }
}
