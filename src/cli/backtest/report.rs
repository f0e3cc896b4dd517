//! What a rehearsal found, as data: the JSON of `backtest` is exactly this, and text and page are drawn from it.
//!
//! Times are RFC 3339 in UTC, amounts exact decimals as strings in the fund's currency, durations whole seconds.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use rust_decimal::Decimal;
use serde::{Serialize, Serializer};

use super::{NotifierCounts, Options, orders_problem};
use crate::alerting::readings::DivisionReading;
use crate::backtest::{
    BacktestFund, BacktestInput, BacktestResult, CRITICAL_NOTICE_DAYS, DepletedPeriod, Episode, EpisodeEvent,
    PastBalances, RuleBacktest, WARNING_NOTICE_DAYS, crossings, depleted_periods, propose_thresholds,
    unexplained_difference,
};
use crate::cli::output::threshold::RuleThreshold;
use crate::config::{ChannelConfig, Config};
use crate::domain::alert::TransitionKind;
use crate::domain::balance::{MetricValue, Reading};
use crate::domain::ledger::Ledger;
use crate::domain::money::{Currency, Money, plain};
use crate::domain::rule::{Metric, Rule, Severity};
use crate::domain::{Division, Name, Time};
use crate::forecast::{PurchaseSum, Purchases, typical_order};
use crate::polling::figures;

/// An amount in the currency of its fund; in the JSON a string with the decimals of that currency.
#[derive(Clone, Copy)]
pub(super) struct FundAmount {
    pub(super) amount: Decimal,
    currency: Option<Currency>,
}

impl Serialize for FundAmount {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&plain(self.amount, self.currency))
    }
}

/// Everything that was found.
#[derive(Serialize)]
pub(super) struct BacktestReport {
    /// Days that were asked for.
    pub(super) days: u16,
    pub(super) accounts: Vec<BacktestAccountReport>,
    /// What each notifier would have been sent, of all accounts.
    pub(super) messages: Vec<NotifierTotals>,
    /// What the result takes for granted.
    pub(super) assumptions: Vec<&'static str>,
}

#[derive(Serialize)]
pub(super) struct NotifierTotals {
    pub(super) notifier: Name,
    /// Messages; for notifiers that send one request an alert, requests.
    pub(super) messages: u64,
    pub(super) events: u64,
}

#[derive(Serialize)]
pub(super) struct BacktestAccountReport {
    pub(super) account: Name,
    pub(super) schedule: String,
    /// The first step; `null` where there was nothing to rehearse.
    pub(super) from: Option<Time>,
    /// The present.
    pub(super) to: Option<Time>,
    /// The first line of the ledger.
    pub(super) ledger_from: Option<Time>,
    pub(super) notes: Vec<String>,
    /// What could not be read.
    pub(super) failures: Vec<String>,
    pub(super) funds: Vec<BacktestFundReport>,
    /// It has no such division as was asked for.
    #[serde(skip)]
    pub(super) lacks_division: bool,
    #[serde(skip)]
    notified: NotifierCounts,
}

#[derive(Serialize)]
pub(super) struct BacktestFundReport {
    pub(super) division: Division,
    pub(super) division_name: Option<String>,
    pub(super) currency: Option<String>,
    /// Available funds now; `null` where they are unlimited or unreadable.
    pub(super) available: Option<Money>,
    pub(super) unlimited: bool,
    /// What a purchase usually costs.
    pub(super) usual_purchase: FundAmount,
    pub(super) purchases: PurchaseSummary,
    pub(super) rules: Vec<BacktestRuleReport>,
    /// When there was nothing left to buy with.
    pub(super) ran_out: Vec<BacktestDepletion>,
    /// `null` unless it was asked for.
    pub(super) suggestion: Option<ThresholdSuggestion>,
    /// Available funds at the start and after each change, for the chart.
    #[serde(skip)]
    pub(super) path: Vec<(Time, Decimal)>,
}

/// The purchases of the past year by what they bought; every sum is `null` where they cannot be told apart.
#[derive(Serialize)]
pub(super) struct PurchaseSummary {
    pub(super) renewals: Option<PurchaseTotal>,
    pub(super) new_orders: Option<PurchaseTotal>,
    pub(super) other: Option<PurchaseTotal>,
    /// Purchases that were taken back.
    pub(super) refunded: Option<usize>,
    /// Orders that were paid by card or on an invoice.
    pub(super) paid_elsewhere: Option<PurchaseTotal>,
    /// Why they cannot be told apart.
    pub(super) reason: Option<String>,
}

#[derive(Serialize)]
pub(super) struct PurchaseTotal {
    pub(super) count: usize,
    pub(super) amount: FundAmount,
    pub(super) currency: Option<Currency>,
}

#[derive(Serialize)]
pub(super) struct BacktestRuleReport {
    pub(super) rule: Name,
    pub(super) metric: &'static str,
    pub(super) warning: Option<RuleThreshold>,
    pub(super) critical: Option<RuleThreshold>,
    /// Why it cannot be rehearsed.
    pub(super) skipped: Option<String>,
    pub(super) alerts: Vec<BacktestAlertReport>,
    /// Its thresholds, where they are amounts of available funds.
    #[serde(skip)]
    pub(super) lines: Vec<(Severity, Decimal)>,
    #[serde(skip)]
    warns_of_funds: bool,
}

#[derive(Serialize)]
pub(super) struct BacktestAlertReport {
    pub(super) raised: Time,
    /// `null`: it still fires at the end.
    pub(super) resolved: Option<Time>,
    pub(super) lasted_seconds: i64,
    /// It fired at the first step already: it may have begun long before.
    pub(super) began_before: bool,
    pub(super) events: Vec<BacktestEventReport>,
}

#[derive(Serialize)]
pub(super) struct BacktestEventReport {
    pub(super) at: Time,
    pub(super) event: &'static str,
    pub(super) level: Severity,
    pub(super) amount: Option<FundAmount>,
    pub(super) currency: Option<Currency>,
    /// A runway.
    pub(super) seconds: Option<u64>,
    pub(super) unlimited: bool,
    pub(super) notified: Vec<Name>,
}

#[derive(Serialize)]
pub(super) struct BacktestDepletion {
    pub(super) from: Time,
    pub(super) until: Option<Time>,
    pub(super) lowest: FundAmount,
    /// The rules that told of it, the earliest first.
    pub(super) warnings: Vec<AdvanceWarning>,
}

#[derive(Serialize)]
pub(super) struct AdvanceWarning {
    pub(super) rule: Name,
    pub(super) at: Time,
    /// Below 0: so long after.
    pub(super) seconds_before: i64,
}

#[derive(Serialize)]
pub(super) struct ThresholdSuggestion {
    pub(super) warning: Option<FundAmount>,
    pub(super) critical: Option<FundAmount>,
    pub(super) spent_in_14_days: Option<FundAmount>,
    pub(super) spent_in_5_days: Option<FundAmount>,
    pub(super) days: Option<i64>,
    /// Why nothing is proposed.
    pub(super) reason: Option<String>,
    /// What each threshold was worth over the whole ledger.
    pub(super) comparisons: Vec<ThresholdComparison>,
}

#[derive(Serialize)]
pub(super) struct ThresholdComparison {
    /// `proposed`, or the rule's name.
    pub(super) rule: Name,
    pub(super) level: Severity,
    pub(super) below: FundAmount,
    /// The notice that this level is to give.
    pub(super) notice_days: i64,
    /// How often funds fell below it.
    pub(super) fell_below: usize,
    /// How often what was left would have lasted so long.
    pub(super) in_time: usize,
    pub(super) too_late: usize,
    /// The present is too near to tell.
    pub(super) not_yet_known: usize,
    /// The shortest notice that is known.
    pub(super) shortest_seconds: Option<i64>,
}

impl BacktestReport {
    pub(super) fn new(config: &Config, options: &Options) -> Self {
        let mut assumptions = vec![
            "Past funds are those of today with each later line of the ledger taken back. Credit limit, unpaid invoices and \
             credit used by other divisions are taken as they are today, because CertCentral keeps no history of them.",
            "As if the service had been started on the first day with nothing to remember, and had read everything on time \
             since. Quiet hours, silences and failures of notifiers are not replayed. The ledger's times are taken as UTC.",
            "Funds count as run out where nothing is left, or less than a usual purchase (the median of the last year): an \
             order that could not be paid leaves no line.",
        ];
        let is_selected = |rule: &&Rule| super::is_selected_rule(options, rule);
        if config.rules.iter().filter(is_selected).any(|rule| rule.metric.needs_history()) {
            assumptions.push(
                "Rules that look ahead see the ledger and the orders as they were at the last full hour after a change, or at \
                 the start of the UTC day. An order counts as renewed from the time at which its renewal was \
                 bought; an order whose renewal is neither listed nor found in the ledger is left out.",
            );
        }
        Self { days: options.days, accounts: Vec::new(), messages: Vec::new(), assumptions }
    }

    /// Adds up what each notifier would have been sent.
    pub(super) fn count_messages(&mut self, config: &Config) {
        let accounts: Vec<&NotifierCounts> = self.accounts.iter().map(|account| &account.notified).collect();
        for (name, notifier) in &config.notifiers {
            let per_alert = matches!(notifier.channel, ChannelConfig::Webhook { .. } | ChannelConfig::PagerDuty { .. });
            let counts = accounts.iter().filter_map(|mail| mail.get(name));
            let (messages, events) =
                counts.fold((0, 0), |(messages, events), count| (messages + count.messages, events + count.events));
            let messages = if per_alert { events } else { messages };
            self.messages.push(NotifierTotals { notifier: name.clone(), messages, events });
        }
    }

    /// What could not be read, with whose it is.
    pub(super) fn failures(&self) -> impl Iterator<Item = String> {
        self.accounts.iter().flat_map(|account| {
            account.failures.iter().map(|why| crate::util::text::clean(&format!("account {}: {why}", account.account)))
        })
    }
}

impl BacktestAccountReport {
    pub(super) fn new(account: Name, schedule: String) -> Self {
        Self {
            account,
            schedule,
            from: None,
            to: None,
            ledger_from: None,
            notes: Vec::new(),
            failures: Vec::new(),
            funds: Vec::new(),
            lacks_division: false,
            notified: BTreeMap::new(),
        }
    }

    pub(super) fn fail(&mut self, read: &DivisionReading, why: &str) {
        self.failures.push(match read.division {
            Some(id) => {
                format!("division {}: {why}", super::super::status::division_label(Some(id), read.name.as_deref()))
            }
            None => why.to_owned(),
        });
    }

    /// The ledger has no line.
    pub(super) fn fail_without_history(&mut self) {
        self.failures.push(
            "there is nothing to rehearse: CertCentral's balance history has no line of the last 400 days".to_owned(),
        );
    }

    /// Takes what the replay found.
    pub(super) fn add_result(
        &mut self,
        input: &BacktestInput<'_>,
        result: BacktestResult,
        first: Time,
        options: &Options,
        sharing: Option<Vec<u64>>,
    ) {
        (self.from, self.to, self.ledger_from) = (Some(input.from), Some(input.to), Some(first));
        self.notified = result.notified;
        if first > input.to - TimeDelta::days(i64::from(options.days)) {
            let days = (input.to - first).num_days();
            self.notes.push(format!("the ledger reaches back {}, so the rehearsal does, too", count_days(days)));
        }
        if let Some(sharing) = sharing {
            self.notes.push(format!(
                "{} {}; each is replayed with the ledgers of all of them",
                sharing.len(),
                figures::SHARED_FUND_NOTE
            ));
        }
        let mut parts = result.rule_backtests;
        for fund in input.funds {
            let (own, others): (Vec<RuleBacktest>, Vec<RuleBacktest>) =
                parts.into_iter().partition(|part| part.division == fund.division);
            parts = others;
            self.notes.extend(ledger_mismatch(fund));
            self.funds.push(BacktestFundReport::new(input, fund, own, options));
        }
    }
}

fn count_days(days: i64) -> String {
    crate::util::text::counted(days, "day")
}

/// A ledger that does not end where the balance is.
fn ledger_mismatch(fund: &BacktestFund) -> Option<String> {
    let ledger = fund.history.ledger.as_ref().ok()?;
    let off = unexplained_difference(&fund.balance, ledger.entries().last()?)?;
    let currency = fund.balance.currency.clone().ok()?;
    let whose = fund.division.map_or_else(String::new, |id| format!("division {id}: "));
    let off = Money::new(off, currency);
    Some(format!("{whose}the ledger's last line leaves {off} less than the balance: past funds may be off by so much"))
}

impl BacktestFundReport {
    fn new(input: &BacktestInput<'_>, fund: &BacktestFund, parts: Vec<RuleBacktest>, options: &Options) -> Self {
        let none = Ledger::default();
        let ledger = fund.history.ledger.as_deref().unwrap_or(&none);
        let past = PastBalances::new(&fund.balance, ledger);
        let path = past.path(input.from, input.to);
        let usual = typical_order(ledger, input.spending, input.to);
        let reading = fund.balance.reading(Metric::AvailableFunds);
        let rule = |part: RuleBacktest| {
            let rule = input.rules.iter().find(|rule| rule.name == part.rule)?;
            Some(BacktestRuleReport::new(rule, part, input))
        };
        let rules: Vec<BacktestRuleReport> = parts.into_iter().filter_map(rule).collect();
        let currency = fund.balance.currency.as_ref().ok().copied();
        let sum = |amount| FundAmount { amount, currency };
        let depleted = depleted_periods(&path, usual);
        let ran_out = depleted.iter().map(|it| BacktestDepletion::new(it, &rules, input.to, sum(it.lowest))).collect();
        let whole = ledger.entries().first().map(|first| past.path(first.at, input.to)).unwrap_or_default();
        let suggestion = (options.suggest && !whole.is_empty())
            .then(|| ThresholdSuggestion::new(input, (ledger, currency), &whole, usual, &rules));
        Self {
            division: fund.division,
            division_name: fund.name.clone(),
            currency: currency.map(|currency| currency.to_string()),
            available: if let Reading::Amount(money) = reading { Some(money) } else { None },
            unlimited: reading == Reading::Unlimited,
            usual_purchase: sum(usual),
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
        let sum = |sum: PurchaseSum| {
            let amount = FundAmount { amount: sum.amount, currency };
            Some(PurchaseTotal { count: sum.count, amount, currency })
        };
        Self {
            renewals: sum(sums.renewals),
            new_orders: sum(sums.new_orders),
            other: sum(sums.other),
            refunded: Some(sums.refunded),
            paid_elsewhere: sum(sums.paid_elsewhere),
            reason: None,
        }
    }
}

impl BacktestRuleReport {
    fn new(rule: &Rule, part: RuleBacktest, input: &BacktestInput<'_>) -> Self {
        let line = |severity| {
            let level = rule.level(severity).filter(|_| rule.metric == Metric::AvailableFunds)?;
            Some((severity, level.threshold().amount()?.value))
        };
        let (episodes, skipped) = match part.episodes {
            Ok(episodes) => (episodes, None),
            Err(why) => (Vec::new(), Some(why.to_string())),
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

    pub(super) fn is(&self, kind: TransitionKind) -> bool {
        self.event == kind.name()
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
        warnings.sort_by_key(|it| it.at);
        Self { from: period.from, until: period.until, lowest, warnings: warnings }
    }
}

impl ThresholdSuggestion {
    fn new(
        input: &BacktestInput<'_>,
        (ledger, currency): (&Ledger, Option<Currency>),
        whole: &[(Time, Decimal)],
        usual: Decimal,
        rules: &[BacktestRuleReport],
    ) -> Self {
        let sum = |amount| FundAmount { amount, currency };
        let compare = |rule: Name, level: Severity, below: Decimal| {
            let found = crossings(whole, ledger, below, usual, input.to);
            ThresholdComparison::new(rule, level, sum(below), &found)
        };
        let present =
            rules.iter().flat_map(|rule| rule.lines.iter().map(|(level, below)| (rule.rule.clone(), *level, *below)));
        let mut comparisons: Vec<ThresholdComparison> =
            present.map(|(rule, level, below)| compare(rule, level, below)).collect();
        match propose_thresholds(ledger, input.spending, input.to) {
            Err(why) => Self {
                warning: None,
                critical: None,
                spent_in_14_days: None,
                spent_in_5_days: None,
                days: None,
                reason: Some(why.to_string()),
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
    fn new(rule: Name, level: Severity, below: FundAmount, crossings: &[crate::backtest::ThresholdCrossing]) -> Self {
        let notice_days = if level == Severity::Critical { CRITICAL_NOTICE_DAYS } else { WARNING_NOTICE_DAYS };
        let enough = |expected: Option<bool>| {
            crossings.iter().filter(|it| it.notice.is_at_least(TimeDelta::days(notice_days)) == expected).count()
        };
        let lasted = |it: &crate::backtest::ThresholdCrossing| match it.notice {
            crate::backtest::NoticePeriod::Lasted(lasted) => Some(lasted.num_seconds()),
            crate::backtest::NoticePeriod::AtLeast(_) => None,
        };
        Self {
            rule,
            level,
            below,
            notice_days: notice_days,
            fell_below: crossings.len(),
            in_time: enough(Some(true)),
            too_late: enough(Some(false)),
            not_yet_known: enough(None),
            shortest_seconds: crossings.iter().filter_map(lasted).min(),
        }
    }
}
