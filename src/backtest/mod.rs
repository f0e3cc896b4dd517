//! The rehearsal: what today's rules would have done over the days that an account's ledger tells of.
//!
//! Pure: no I/O, no clock; the present is an argument. Nothing of an alert's life is written twice: each step is a
//! [`crate::alerting::process()`] of a state in memory, with readings that are computed back from the present. `docs/backtest.md`
//! says what is taken as it is today because no history of it exists.
//!
//! [`replay`] walks; [`PastBalances`] knows the funds of any moment; [`droughts`] tells when they ran out, whatever the rules;
//! [`suggest`] proposes thresholds.

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
use crate::domain::{Division, Name, Time};
use crate::forecast::Spending;
use crate::polling::schedule::Schedule;

/// One fund as it is now, with its books.
#[derive(Debug, Clone)]
pub struct BacktestFund {
    /// The division; `None`: the account itself.
    pub division: Division,
    /// Its name, where a listing told it.
    pub name: Option<String>,
    /// What it holds now.
    pub balance: Balance,
    /// Its ledger and orders.
    pub history: AccountHistory,
}

/// What is rehearsed: one account's cycles from one moment to another.
#[derive(Debug, Clone, Copy)]
pub struct BacktestInput<'a> {
    /// The account's name.
    pub account: &'a Name,
    /// Its funds: what one cycle reads.
    pub funds: &'a [BacktestFund],
    /// The rules; those that do not watch a fund are passed over.
    pub rules: &'a [Rule],
    /// When its cycles run.
    pub schedule: &'a Schedule,
    /// What counts as a purchase.
    pub spending: &'a Spending,
    /// Notifiers that keep an incident open for each alert.
    pub incident_notifiers: &'a BTreeSet<Name>,
    /// The first step, as if the service had been started then with nothing to remember.
    pub from: Time,
    /// The present, which the balances are of; the last step is not after it.
    pub to: Time,
}

/// What would have happened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BacktestResult {
    /// Each rule on each fund that it watches: funds in order, and the rules of each in the order of the file.
    pub rule_backtests: Vec<RuleBacktest>,
    /// What each notifier would have been sent.
    pub notified: BTreeMap<Name, NotificationCount>,
}

/// One rule on one fund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleBacktest {
    /// The rule's name.
    pub rule: Name,
    /// The fund's division.
    pub division: Division,
    /// Its alerts one after the other, or why it cannot be rehearsed.
    pub episodes: Result<Vec<Episode>, SkipReason>,
}

/// One alert from its first event to its last; never without an event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Episode {
    /// What happened, in order.
    pub events: Vec<EpisodeEvent>,
}

impl Episode {
    /// When it was raised.
    pub fn raised(&self) -> Option<Time> {
        self.events.first().map(|event| event.at)
    }

    /// When it resolved; `None`: it still fires at the end.
    pub fn resolved(&self) -> Option<Time> {
        self.events.last().filter(|event| event.kind == TransitionKind::Resolved).map(|event| event.at)
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpisodeEvent {
    /// The step.
    pub at: Time,
    /// What happened.
    pub kind: TransitionKind,
    /// The level that it is about.
    pub level: Severity,
    /// The first breached reading.
    pub since: Time,
    /// What was read.
    pub value: MetricValue,
    /// What it was judged by.
    pub threshold: Option<EvaluatedThreshold>,
    /// Who would have been told.
    pub notified: BTreeSet<Name>,
}

/// What a notifier would have been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NotificationCount {
    /// The events of one cycle are one message.
    pub messages: u64,
    /// Events in them.
    pub events: u64,
}

/// Why a rule cannot be rehearsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// Of this, `CertCentral` tells only the present.
    #[error("CertCentral keeps no history of {0}: only its present value is known")]
    NoHistory(&'static str),
    /// It cannot even be read now.
    #[error("{0}")]
    Unreadable(String),
    /// At no step was enough known of it, nor is now.
    #[error("not yet known on any of these days: {0}")]
    NotYetKnown(String),
}
