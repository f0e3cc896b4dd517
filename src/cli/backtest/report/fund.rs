//! Result of one fund: its rules, its purchases, and the times when it ran out.

use rust_decimal::Decimal;
use serde::Serialize;

use super::{BacktestAlertReport, BacktestRuleReport, FundAmount, ThresholdSuggestion};
use crate::backtest::{BacktestFund, BacktestInput, DepletedPeriod, PastBalances, RuleBacktest, depleted_periods};
use crate::cli::args::BacktestArgs;
use crate::cli::backtest::orders_problem;
use crate::domain::balance::Reading;
use crate::domain::ledger::Ledger;
use crate::domain::money::{Currency, Money};
use crate::domain::rule::Metric;
use crate::domain::{Division, Name, Time};
use crate::forecast::{PurchaseSum, Purchases, typical_order};

/// Result of one fund.
#[derive(Serialize)]
pub(crate) struct BacktestFundReport {
    pub(crate) division: Division,
    pub(crate) division_name: Option<String>,
    pub(crate) currency: Option<String>,
    /// Available funds now; `null` if they are unlimited or cannot be computed.
    pub(crate) available: Option<Money>,
    pub(crate) unlimited: bool,
    /// Median price of a purchase in the past year; 0 without purchases.
    pub(crate) typical_order: FundAmount,
    pub(crate) purchases: PurchaseSummary,
    pub(crate) rules: Vec<BacktestRuleReport>,
    /// Periods in which less than a typical order was left.
    pub(crate) ran_out: Vec<BacktestDepletion>,
    /// Proposed thresholds; `null` without `--suggest`.
    pub(crate) suggestion: Option<ThresholdSuggestion>,
    /// Available funds at the first step and after each change, for the chart.
    #[serde(skip)]
    pub(crate) path: Vec<(Time, Decimal)>,
}

/// Purchases of the past year by kind; every sum is `null` if they cannot be classified.
#[derive(Serialize)]
pub(crate) struct PurchaseSummary {
    pub(crate) renewals: Option<PurchaseTotal>,
    pub(crate) new_orders: Option<PurchaseTotal>,
    pub(crate) other: Option<PurchaseTotal>,
    /// Number of purchases that were credited in full later.
    pub(crate) refunded: Option<usize>,
    /// Orders that were paid by card or on an invoice.
    pub(crate) paid_elsewhere: Option<PurchaseTotal>,
    /// Reason why purchases cannot be classified, otherwise `null`.
    pub(crate) reason: Option<String>,
}

/// Number and sum of the purchases of one kind.
#[derive(Serialize)]
pub(crate) struct PurchaseTotal {
    pub(crate) count: usize,
    pub(crate) amount: FundAmount,
    pub(crate) currency: Option<Currency>,
}

/// A period in which funds had run out.
#[derive(Serialize)]
pub(crate) struct BacktestDepletion {
    pub(crate) from: Time,
    /// End of the period; `null` if it still continues.
    pub(crate) until: Option<Time>,
    pub(crate) lowest: FundAmount,
    /// First alert of each rule on funds that was firing in this period, earliest first.
    pub(crate) warnings: Vec<AdvanceWarning>,
}

/// An alert that warned of a period without funds.
#[derive(Serialize)]
pub(crate) struct AdvanceWarning {
    pub(crate) rule: Name,
    pub(crate) at: Time,
    /// Time from the alert to the start of the period; negative if the alert came later.
    pub(crate) seconds_before: i64,
}

impl BacktestFundReport {
    pub(super) fn new(
        input: &BacktestInput<'_>,
        fund: &BacktestFund,
        own: Vec<RuleBacktest>,
        args: &BacktestArgs,
    ) -> Self {
        let none = Ledger::default();
        let ledger = fund.history.ledger.as_deref().unwrap_or(&none);
        let past = PastBalances::new(&fund.balance, ledger);
        let path = past.path(input.from, input.to);
        let typical_order = typical_order(ledger, input.spending, input.to);
        let reading = fund.balance.reading(Metric::AvailableFunds);
        let rule_report = |backtest: RuleBacktest| {
            let rule = input.rules.iter().find(|rule| rule.name == backtest.rule)?;
            Some(BacktestRuleReport::new(rule, backtest, input))
        };
        let rules: Vec<BacktestRuleReport> = own.into_iter().filter_map(rule_report).collect();
        let currency = fund.balance.currency.as_ref().ok().copied();
        let sum = |amount| FundAmount { amount, currency };
        let depleted = depleted_periods(&path, typical_order);
        let ran_out = depleted
            .iter()
            .map(|period| BacktestDepletion::new(period, &rules, input.to, sum(period.lowest)))
            .collect();
        let whole = ledger.entries().first().map(|first| past.path(first.at, input.to)).unwrap_or_default();
        let suggestion = (args.suggest && !whole.is_empty())
            .then(|| ThresholdSuggestion::new(input, (ledger, currency), &whole, typical_order, &rules));
        Self {
            division: fund.division,
            division_name: fund.name.clone(),
            currency: currency.map(|currency| currency.to_string()),
            available: if let Reading::Amount(money) = reading { Some(money) } else { None },
            unlimited: reading == Reading::Unlimited,
            typical_order: sum(typical_order),
            purchases: PurchaseSummary::new(fund, input),
            rules,
            ran_out,
            suggestion,
            path,
        }
    }
}

impl PurchaseSummary {
    fn new(fund: &BacktestFund, input: &BacktestInput<'_>) -> Self {
        let (Ok(ledger), Ok(orders)) = (&fund.history.ledger, &fund.history.orders) else {
            let reason = orders_problem(&fund.history);
            return Self {
                renewals: None,
                new_orders: None,
                other: None,
                refunded: None,
                paid_elsewhere: None,
                reason,
            };
        };
        let sums = Purchases::read(ledger, Some(orders), input.spending, input.to).past_year();
        let currency = fund.balance.currency.as_ref().ok().copied();
        let total = |sum: PurchaseSum| {
            let amount = FundAmount { amount: sum.amount, currency };
            Some(PurchaseTotal { count: sum.count, amount, currency })
        };
        Self {
            renewals: total(sums.renewals),
            new_orders: total(sums.new_orders),
            other: total(sums.other),
            refunded: Some(sums.refunded),
            paid_elsewhere: total(sums.paid_elsewhere),
            reason: None,
        }
    }
}

impl BacktestDepletion {
    fn new(period: &DepletedPeriod, rules: &[BacktestRuleReport], to: Time, lowest: FundAmount) -> Self {
        let is_during_period = |alert: &&BacktestAlertReport| {
            alert.raised < period.until.unwrap_or(to) && alert.resolved.is_none_or(|resolved| resolved > period.from)
        };
        let warning = |rule: &BacktestRuleReport| {
            let alert = rule.alerts.iter().find(is_during_period)?;
            let seconds_before = (period.from - alert.raised).num_seconds();
            Some(AdvanceWarning { rule: rule.rule.clone(), at: alert.raised, seconds_before })
        };
        let mut warnings: Vec<AdvanceWarning> =
            rules.iter().filter(|rule| rule.warns_of_funds).filter_map(warning).collect();
        warnings.sort_by_key(|warning| warning.at);
        Self { from: period.from, until: period.until, lowest, warnings }
    }
}
