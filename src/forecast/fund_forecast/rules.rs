//! Questions about a rule that its forecast depends on.

use super::results::{DAY, MESSAGE_HORIZON_DAYS};
use crate::domain::rule::{Level, Metric, Rule, ThresholdSide, ThresholdValue};

/// Reports whether messages about this rule's alert show a forecast.
pub fn shows_forecast(rule: &Rule) -> bool {
    rule.metric.needs_history() || matches!(rule.metric, Metric::AvailableFunds | Metric::Balance)
}

/// Reports whether a deposit can end this rule's alert.
pub(super) fn is_resolved_by_deposit(rule: &Rule) -> bool {
    let bad = match rule.metric {
        Metric::AvailableFunds | Metric::Balance | Metric::Runway => ThresholdSide::Below,
        Metric::Shortfall => ThresholdSide::Above,
        _ => return false,
    };
    rule.levels().any(|level| level.side() == bad)
}

/// Returns the level that clears last, among those that count.
pub(super) fn last_to_clear(rule: &Rule, counts: impl Fn(&Level) -> bool) -> Option<&Level> {
    rule.levels().find(|level| counts(level))
}

/// Returns the number of days that a deposit for this rule's alert must last.
pub(super) fn deposit_days(rule: &Rule) -> u32 {
    let lasts = match (rule.metric, last_to_clear(rule, |_| true).map(Level::clear_at)) {
        (Metric::Runway, Some(ThresholdValue::Time { lasts })) => lasts,
        _ => rule.within().filter(|_| rule.metric == Metric::Shortfall).unwrap_or_default(),
    };
    u32::try_from(lasts.as_secs().div_ceil(DAY.as_secs())).unwrap_or(u32::MAX).max(MESSAGE_HORIZON_DAYS)
}
