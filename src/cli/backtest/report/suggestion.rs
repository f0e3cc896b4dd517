//! Proposed thresholds, compared with the current ones.

use chrono::TimeDelta;
use rust_decimal::Decimal;
use serde::Serialize;

use super::{BacktestRuleReport, FundAmount};
use crate::backtest::{
    BacktestInput, CRITICAL_NOTICE_DAYS, NoticePeriod, ThresholdCrossing, WARNING_NOTICE_DAYS, crossings,
    propose_thresholds,
};
use crate::domain::ledger::Ledger;
use crate::domain::money::Currency;
use crate::domain::rule::Severity;
use crate::domain::{Name, Time};

/// Proposed thresholds of a fund, with the spend that they follow from.
#[derive(Serialize)]
pub(crate) struct ThresholdSuggestion {
    pub(crate) warning: Option<FundAmount>,
    pub(crate) critical: Option<FundAmount>,
    pub(crate) spent_in_14_days: Option<FundAmount>,
    pub(crate) spent_in_5_days: Option<FundAmount>,
    /// Number of days of history.
    pub(crate) days: Option<i64>,
    /// Reason why nothing is proposed, otherwise `null`.
    pub(crate) reason: Option<String>,
    /// Performance of each threshold over the whole ledger.
    pub(crate) comparisons: Vec<ThresholdComparison>,
}

/// Performance of one threshold over the whole ledger.
#[derive(Serialize)]
pub(crate) struct ThresholdComparison {
    /// `proposed`, or the name of a rule.
    pub(crate) rule: Name,
    pub(crate) level: Severity,
    pub(crate) below: FundAmount,
    /// Notice that this level should give, in days.
    pub(crate) notice_days: i64,
    /// Number of times that funds fell below the threshold.
    pub(crate) fell_below: usize,
    /// Number of times that the remaining funds lasted for the notice.
    pub(crate) in_time: usize,
    /// Number of times that they did not.
    pub(crate) too_late: usize,
    /// Number of times after which less than the notice has passed.
    pub(crate) not_yet_known: usize,
    /// Shortest known notice, in seconds.
    pub(crate) shortest_seconds: Option<i64>,
}

impl ThresholdSuggestion {
    pub(super) fn new(
        input: &BacktestInput<'_>,
        (ledger, currency): (&Ledger, Option<Currency>),
        whole: &[(Time, Decimal)],
        typical_order: Decimal,
        rules: &[BacktestRuleReport],
    ) -> Self {
        let sum = |amount| FundAmount { amount, currency };
        let compare = |rule: Name, level: Severity, below: Decimal| {
            let found = crossings(whole, ledger, below, typical_order, input.to);
            ThresholdComparison::new(rule, level, sum(below), &found)
        };
        let current =
            rules.iter().flat_map(|rule| rule.lines.iter().map(|(level, below)| (rule.rule.clone(), *level, *below)));
        let mut comparisons: Vec<ThresholdComparison> =
            current.map(|(rule, level, below)| compare(rule, level, below)).collect();
        match propose_thresholds(ledger, input.spending, input.to) {
            Err(reason) => Self {
                warning: None,
                critical: None,
                spent_in_14_days: None,
                spent_in_5_days: None,
                days: None,
                reason: Some(reason.to_string()),
                comparisons,
            },
            Ok(proposal) => {
                comparisons.insert(0, compare("proposed".into(), Severity::Critical, proposal.critical));
                comparisons.insert(0, compare("proposed".into(), Severity::Warning, proposal.warning));
                Self {
                    warning: Some(sum(proposal.warning)),
                    critical: Some(sum(proposal.critical)),
                    spent_in_14_days: Some(sum(proposal.spent_in_14_days)),
                    spent_in_5_days: Some(sum(proposal.spent_in_5_days)),
                    days: Some(proposal.days),
                    reason: None,
                    comparisons,
                }
            }
        }
    }
}

impl ThresholdComparison {
    fn new(rule: Name, level: Severity, below: FundAmount, crossings: &[ThresholdCrossing]) -> Self {
        let notice_days = if level == Severity::Critical { CRITICAL_NOTICE_DAYS } else { WARNING_NOTICE_DAYS };
        let with_result = |enough: Option<bool>| {
            let notice = TimeDelta::days(notice_days);
            crossings.iter().filter(|crossing| crossing.notice.is_at_least(notice) == enough).count()
        };
        let lasted = |crossing: &ThresholdCrossing| match crossing.notice {
            NoticePeriod::Lasted(lasted) => Some(lasted.num_seconds()),
            NoticePeriod::AtLeast(_) => None,
        };
        Self {
            rule,
            level,
            below,
            notice_days,
            fell_below: crossings.len(),
            in_time: with_result(Some(true)),
            too_late: with_result(Some(false)),
            not_yet_known: with_result(None),
            shortest_seconds: crossings.iter().filter_map(lasted).min(),
        }
    }
}
