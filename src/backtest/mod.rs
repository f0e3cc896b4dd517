//! Backtesting: the notifications that today's rules would have sent over the period that an account's ledger covers.
//!
//! Pure: no I/O, no clock; the present is an argument. Each step calls [`crate::alerting::process::process`] on a state in
//! memory, with readings that are computed back from the present, so alerts behave as in the service. `docs/backtest.md` lists
//! the values that have no history and are taken as they are today.
//!
//! [`replay`] runs the steps, [`PastBalances`] computes the funds at any moment, [`depleted_periods`] finds when they were
//! depleted, and [`propose_thresholds`] proposes thresholds.

mod depleted_periods;
mod past_balances;
mod past_forecasts;
mod replay;
mod suggestion;

use std::collections::{BTreeMap, BTreeSet};

pub use depleted_periods::{DepletedPeriod, depleted_periods};
pub use past_balances::{PastBalances, unexplained_difference};
pub use replay::{replay, replay_every_step};
pub use suggestion::{
    COVERED_WINDOWS_PERCENT, CRITICAL_NOTICE_DAYS, NoticePeriod, ProposalError, ThresholdCrossing, ThresholdProposal,
    WARNING_NOTICE_DAYS, crossings, propose_thresholds,
};

use crate::domain::alert::TransitionKind;
use crate::domain::balance::{Balance, MetricValue};
use crate::domain::event::EvaluatedThreshold;
use crate::domain::history::AccountHistory;
use crate::domain::rule::{Rule, Severity};
use crate::domain::schedule::Schedule;
use crate::domain::{Division, Name, Time};
use crate::forecast::Spending;

/// One fund as it is now, with its ledger and orders.
#[derive(Debug, Clone)]
pub struct BacktestFund {
    /// The division; `None` is the account itself.
    pub division: Division,
    /// Name of the division, if a listing gave one.
    pub name: Option<String>,
    /// Present balance of the fund.
    pub balance: Balance,
    /// Ledger and orders of the fund.
    pub history: AccountHistory,
}

/// Input of a replay: one account's cycles from one moment to another.
#[derive(Debug, Clone, Copy)]
pub struct BacktestInput<'a> {
    /// Name of the account.
    pub account: &'a Name,
    /// Funds of the account: everything that one cycle reads.
    pub funds: &'a [BacktestFund],
    /// All rules. Those that do not watch a fund are skipped.
    pub rules: &'a [Rule],
    /// Schedule of the account's cycles.
    pub schedule: &'a Schedule,
    /// Ledger entries that count as purchases.
    pub spending: &'a Spending,
    /// Notifiers that keep an incident open for each alert.
    pub incident_notifiers: &'a BTreeSet<Name>,
    /// Time of the first step, which begins with an empty state.
    pub from: Time,
    /// The present, at which the balances were read. No step is later.
    pub to: Time,
}

/// Result of a replay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BacktestResult {
    /// One entry for each rule on each fund that it watches: by fund, then in the order of the configuration.
    pub rule_backtests: Vec<RuleBacktest>,
    /// Number of notifications by notifier.
    pub notified: BTreeMap<Name, NotificationCount>,
}

/// Result of one rule on one fund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleBacktest {
    /// Name of the rule.
    pub rule: Name,
    /// Division of the fund.
    pub division: Division,
    /// Alerts of the rule in order, or why it cannot be backtested.
    pub episodes: Result<Vec<Episode>, SkipReason>,
}

/// One alert from its first event to its last; never without an event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Episode {
    /// Events in order of time.
    pub events: Vec<EpisodeEvent>,
}

impl Episode {
    /// Returns the time of the first event.
    pub fn raised(&self) -> Option<Time> {
        self.events.first().map(|event| event.at)
    }

    /// Returns the time at which the alert resolved; `None` if it still fires at the end.
    pub fn resolved(&self) -> Option<Time> {
        self.events.last().filter(|event| event.kind == TransitionKind::Resolved).map(|event| event.at)
    }
}

/// One event of an episode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpisodeEvent {
    /// Time of the step.
    pub at: Time,
    /// Kind of the alert's transition.
    pub kind: TransitionKind,
    /// Level of the event.
    pub level: Severity,
    /// First breached reading of the level.
    pub since: Time,
    /// Value of the metric.
    pub value: MetricValue,
    /// Threshold that the value was compared with.
    pub threshold: Option<EvaluatedThreshold>,
    /// Notifiers that would have got the event.
    pub notified: BTreeSet<Name>,
}

/// Number of notifications that a notifier would have got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NotificationCount {
    /// Number of messages. All events of one cycle are one message.
    pub messages: u64,
    /// Number of events in these messages.
    pub events: u64,
}

/// Reason why a rule cannot be backtested.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// The metric has no history in `CertCentral`.
    #[error("CertCentral keeps no history of {0}: only its present value is known")]
    NoHistory(&'static str),
    /// The metric cannot be read at present.
    #[error("{0}")]
    Unreadable(String),
    /// There was too little history at every step, and still is.
    #[error("not yet known on any of these days: {0}")]
    NotYetKnown(String),
}
