//! The result of a backtest as data. `backtest -o json` prints exactly this; the text and the page are derived from it.
//!
//! Times are RFC 3339 in UTC, amounts are exact decimal strings in the fund's currency, durations are whole seconds.

mod fund;
mod rule;
mod suggestion;

use std::collections::BTreeMap;

use chrono::TimeDelta;
use rust_decimal::Decimal;
use serde::{Serialize, Serializer};

pub(crate) use self::fund::{BacktestDepletion, BacktestFundReport, PurchaseTotal};
pub(crate) use self::rule::{BacktestAlertReport, BacktestEventReport, BacktestRuleReport};
pub(crate) use self::suggestion::ThresholdSuggestion;
use super::NotifierCounts;
use crate::alerting::readings::DivisionReading;
use crate::backtest::{BacktestFund, BacktestInput, BacktestResult, RuleBacktest, unexplained_difference};
use crate::cli::args::BacktestArgs;
use crate::cli::count;
use crate::cli::status::division_label;
use crate::config::{ChannelConfig, Config};
use crate::domain::money::{Currency, Money, plain};
use crate::domain::rule::Rule;
use crate::domain::{Name, Time};
use crate::polling::figures;

/// An amount in the currency of its fund, serialized as a string with the decimals of that currency.
#[derive(Clone, Copy)]
pub(crate) struct FundAmount {
    pub(crate) amount: Decimal,
    currency: Option<Currency>,
}

impl Serialize for FundAmount {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&plain(self.amount, self.currency))
    }
}

/// Result of a backtest of all selected accounts.
#[derive(Serialize)]
pub(crate) struct BacktestReport {
    /// Number of days requested.
    pub(crate) days: u16,
    pub(crate) accounts: Vec<BacktestAccountReport>,
    /// Totals of each notifier over all accounts.
    pub(crate) messages: Vec<NotifierTotals>,
    /// Assumptions behind the result, as sentences.
    pub(crate) assumptions: Vec<&'static str>,
}

/// Number of messages and events that a notifier would have been sent.
#[derive(Serialize)]
pub(crate) struct NotifierTotals {
    pub(crate) notifier: Name,
    /// Number of messages, or of requests for notifiers that send one request per event.
    pub(crate) messages: u64,
    pub(crate) events: u64,
}

/// Result of one account.
#[derive(Serialize)]
pub(crate) struct BacktestAccountReport {
    pub(crate) account: Name,
    pub(crate) schedule: String,
    /// Time of the first step; `null` if there was nothing to replay.
    pub(crate) from: Option<Time>,
    /// Time of the backtest; `null` if there was nothing to replay.
    pub(crate) to: Option<Time>,
    /// Time of the first ledger line.
    pub(crate) ledger_from: Option<Time>,
    pub(crate) notes: Vec<String>,
    /// Reasons why something could not be read.
    pub(crate) failures: Vec<String>,
    pub(crate) funds: Vec<BacktestFundReport>,
    /// Set if the account does not have the selected division.
    #[serde(skip)]
    pub(crate) lacks_division: bool,
    #[serde(skip)]
    notified: NotifierCounts,
}

impl BacktestReport {
    pub(crate) fn new(config: &Config, args: &BacktestArgs) -> Self {
        let mut assumptions = vec![
            "Past funds are today's funds with each later ledger line reversed. The credit limit, unpaid invoices and credit \
             used by other divisions are assumed to be the same as today, because CertCentral keeps no history of them.",
            "The replay behaves as if the service had been started on the first day with an empty state and had read everything \
             on time since. Quiet hours, silences and failing notifiers are not replayed. The ledger's times are assumed to be \
             in UTC.",
            "Funds count as run out while nothing is left, or less than a typical order (the median of the last year): an order \
             that could not be paid leaves no ledger line.",
        ];
        let is_selected = |rule: &&Rule| super::is_selected_rule(args, rule);
        if config.rules.iter().filter(is_selected).any(|rule| rule.metric.needs_history()) {
            assumptions.push(
                "Forecast rules see the ledger and the orders as they were at the last full hour after a change, or at the \
                 start of the UTC day. An order counts as renewed from the time at which its renewal was bought; an order whose \
                 renewal is neither listed nor found in the ledger is left out.",
            );
        }
        Self { days: args.days, accounts: Vec::new(), messages: Vec::new(), assumptions }
    }

    /// Adds up the messages of each notifier.
    pub(crate) fn count_messages(&mut self, config: &Config) {
        let accounts: Vec<&NotifierCounts> = self.accounts.iter().map(|account| &account.notified).collect();
        for (name, notifier) in &config.notifiers {
            let per_event = matches!(notifier.channel, ChannelConfig::Webhook { .. } | ChannelConfig::PagerDuty { .. });
            let counts = accounts.iter().filter_map(|notified| notified.get(name));
            let (messages, events) =
                counts.fold((0, 0), |(messages, events), count| (messages + count.messages, events + count.events));
            let messages = if per_event { events } else { messages };
            self.messages.push(NotifierTotals { notifier: name.clone(), messages, events });
        }
    }

    /// Iterates over all failures, each with the name of its account.
    pub(crate) fn failures(&self) -> impl Iterator<Item = String> {
        self.accounts.iter().flat_map(|account| {
            let reasons = account.failures.iter();
            reasons.map(|reason| crate::util::text::clean(&format!("account {}: {reason}", account.account)))
        })
    }
}

impl BacktestAccountReport {
    pub(crate) fn new(account: Name, schedule: String) -> Self {
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

    /// Adds a failure of one division.
    pub(crate) fn fail(&mut self, read: &DivisionReading, reason: &str) {
        self.failures.push(match read.division {
            Some(id) => format!("division {}: {reason}", division_label(Some(id), read.name.as_deref())),
            None => reason.to_owned(),
        });
    }

    /// Adds the failure of an account whose ledger is empty.
    pub(crate) fn fail_without_history(&mut self) {
        self.failures.push(
            "there is nothing to replay: CertCentral's balance history has no line of the last 400 days".to_owned(),
        );
    }

    /// Adds the result of the replay.
    pub(crate) fn add_result(
        &mut self,
        input: &BacktestInput<'_>,
        result: BacktestResult,
        first: Time,
        args: &BacktestArgs,
        sharing: Option<Vec<u64>>,
    ) {
        (self.from, self.to, self.ledger_from) = (Some(input.from), Some(input.to), Some(first));
        self.notified = result.notified;
        if first > input.to - TimeDelta::days(i64::from(args.days)) {
            let days = count(usize::try_from((input.to - first).num_days()).unwrap_or_default(), "day");
            self.notes.push(format!("the ledger reaches back {days}, so the backtest covers no more"));
        }
        if let Some(sharing) = sharing {
            self.notes.push(format!(
                "{} {}; each is replayed with the ledgers of all of them",
                sharing.len(),
                figures::SHARED_FUND_NOTE
            ));
        }
        let mut rule_backtests = result.rule_backtests;
        for fund in input.funds {
            let (own, others): (Vec<RuleBacktest>, Vec<RuleBacktest>) =
                rule_backtests.into_iter().partition(|rule| rule.division == fund.division);
            rule_backtests = others;
            self.notes.extend(ledger_mismatch(fund));
            self.funds.push(BacktestFundReport::new(input, fund, own, args));
        }
    }
}

/// Returns a note if the balance after the last ledger line differs from the current balance.
fn ledger_mismatch(fund: &BacktestFund) -> Option<String> {
    let ledger = fund.history.ledger.as_ref().ok()?;
    let difference = unexplained_difference(&fund.balance, ledger.entries().last()?)?;
    let difference = Money::new(difference, fund.balance.currency.clone().ok()?);
    let division = fund.division.map_or_else(String::new, |id| format!("division {id}: "));
    Some(format!(
        "{division}the balance after the last ledger line is {difference} less than the current balance; past funds may be \
         off by that amount"
    ))
}
