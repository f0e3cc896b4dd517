//! One cycle of one account: read → decide → add forecasts → commit → save. The delivery workers send what is queued.
//!
//! [`Poller::run_cycle`] runs the steps. Reading is in `account_reader`, forecasts are in [`super::forecasts`], and everything
//! that turns readings into events is in [`crate::alerting`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::alerting::commit::{ProcessedReadings, commit};
use crate::alerting::decide::BalanceDecisions;
use crate::alerting::log_entry::AlertLogEntry;
use crate::alerting::policy::AccountPolicy;
use crate::alerting::readings::{AccountReadings, CycleTime, DivisionReading};
use crate::certcentral::{BalanceSource, ReadErrorKind};
use crate::domain::history::AccountHistory;
use crate::domain::report::LatestFigures;
use crate::domain::{Division, Time};
use crate::history::{DiskCache, Refresher};
use crate::polling::cycle_log;
use crate::polling::figures::{TimedReading, report_figures};
use crate::polling::forecasts::{CachedForecast, ForecastPurpose};
use crate::polling::history_access::HistoryAccess;
use crate::polling::listing::DivisionListing;
use crate::polling::progress::CycleProgress;
use crate::state::StateStore;
use crate::util::clock::Clock;

/// An account's policy with everything that its cycles read from.
#[derive(Clone)]
pub struct Poller {
    /// Rules and scope of the account.
    pub policy: AccountPolicy,
    /// Source of its balances and divisions.
    pub source: Arc<dyn BalanceSource>,
    /// Access to its ledger and orders. `None`: no forecasts.
    pub history: Option<Arc<HistoryAccess>>,
    /// The clock that its cycles run by.
    pub clock: Arc<dyn Clock>,
}

/// State that an account's cycles share, in memory only.
#[derive(Default)]
pub struct PollerState {
    pub(super) listing: Option<DivisionListing>,
    /// Kind of the anomaly that was last logged for a division.
    pub(super) logged_anomalies: BTreeMap<Division, &'static str>,
    pub(super) shared_fund_logged: bool,
    /// Failed reads of the running cycle.
    pub(super) errors: Vec<ReadErrorKind>,
    /// Time from this cycle to the next. `None`: there is no next cycle, so reads are not spread.
    pub(super) period: Option<Duration>,
    pub(super) progress: Arc<CycleProgress>,
    /// Index of the division that the next cycle reads first. A cycle that ended early sets it to the first division that it
    /// did not read.
    pub(super) next_index: usize,
    /// Divisions whose ledger and orders the last cycle needed.
    pub(super) history_needed: BTreeSet<Division>,
    /// True once a cycle has waited for the history of all divisions that need it.
    pub(super) history_awaited: bool,
    /// Forecasts by the first division of each fund.
    pub(super) forecasts: HashMap<Division, CachedForecast>,
}

impl PollerState {
    /// Sets the time from the coming cycle to the next. Many reads are spread over a part of it.
    pub fn set_period(&mut self, period: Option<Duration>) {
        self.period = period;
    }

    /// Returns a handle to the progress of the account's cycles.
    pub fn progress(&self) -> Arc<CycleProgress> {
        Arc::clone(&self.progress)
    }
}

/// Result of one cycle.
#[derive(Debug, Clone, Default)]
pub struct CycleOutcome {
    /// Readings of all divisions.
    pub readings: Vec<TimedReading>,
    /// Number of divisions that could not be read.
    pub unreadable: usize,
    /// Names of the events. Those about unreadable balances begin with `unreadable_`.
    pub events: Vec<String>,
    /// Failed reads, by kind.
    pub errors: Vec<ReadErrorKind>,
    /// True if everything that the rules watch could be read and evaluated.
    pub complete: bool,
    /// Figures that reports show.
    pub latest: Vec<LatestFigures>,
    /// Reason why the divisions could not be listed, for reports.
    pub listing_failure: Option<String>,
    /// Time at which the last division was read.
    pub ended: Time,
}

impl Poller {
    /// Runs one cycle: reads each division once, evaluates the rules as of `planned`, and saves the state.
    pub async fn run_cycle(&self, state: &mut PollerState, store: &StateStore, planned: Time) -> CycleOutcome {
        let policy = &self.policy;
        let started = self.clock.now();
        state.errors.clear();
        let mut readings = self.read_account(state).await;
        let ended = self.clock.now();
        let decisions = store.read(|state| BalanceDecisions::new(state, policy, &readings, planned));
        self.add_forecasts(state, &mut readings, &decisions, store, planned).await;
        let read_at = CycleTime::new(planned, self.clock.now()).read_at;
        let processed = store
            .change(|state| {
                let decisions = decisions.with_forecasts(state, policy, &readings);
                let processed = commit(state, policy, &readings, decisions, read_at);
                let changed = processed.changed;
                (processed, changed)
            })
            .await;
        cycle_log::log_events(&policy.account, &processed.log_entries);
        cycle_log::log_anomalies(&policy.account, state, &readings);
        let outcome = self.outcome(state, readings, &processed, ended);
        tracing::info!(
            account = %policy.account,
            read = outcome.readings.len(),
            unreadable = outcome.unreadable,
            events = outcome.events.len(),
            pending = store.read(|state| state.queue.len()),
            duration_ms = (self.clock.now() - started).num_milliseconds(),
            "cycle done"
        );
        outcome
    }

    fn outcome(
        &self,
        state: &mut PollerState,
        readings: AccountReadings,
        processed: &ProcessedReadings,
        ended: Time,
    ) -> CycleOutcome {
        CycleOutcome {
            unreadable: readings.divisions.iter().filter(|reading| reading.balance.is_err()).count(),
            events: processed.log_entries.iter().map(AlertLogEntry::counted_as).collect(),
            errors: std::mem::take(&mut state.errors),
            complete: processed.complete,
            latest: report_figures(&self.policy.account, &readings.divisions, ended),
            listing_failure: readings.listing_failure.map(|why| why.reason),
            readings: readings.divisions.into_iter().map(|reading| TimedReading::new(reading, ended)).collect(),
            ended,
        }
    }

    /// Reads every division once, with the forecasts that `purpose` needs, for commands. Changes no state and sends nothing.
    pub async fn read_once(&self, purpose: ForecastPurpose) -> AccountReadings {
        let mut readings = self.read_account(&mut PollerState::default()).await;
        self.add_forecasts_once(&mut readings, purpose).await;
        readings
    }

    /// Reads every division once, or `only` one, with the ledger and orders of each fund that could be read, for `backtest`.
    /// `on_progress` is called with the number of ledgers read so far and the total number of their entries.
    pub async fn read_history(
        &self,
        only: Option<u64>,
        on_progress: &mut (dyn FnMut(usize, usize) + Send),
    ) -> (AccountReadings, BTreeMap<Division, AccountHistory>) {
        let mut readings = self.read_account(&mut PollerState::default()).await;
        let needs_history =
            |reading: &DivisionReading| reading.balance.is_ok() && (only.is_none() || reading.division == only);
        let histories = self.read_histories(&readings.divisions, needs_history, on_progress).await;
        readings.divisions.retain(|reading| only.is_none() || reading.division == only);
        (readings, histories)
    }

    /// Returns the background task that keeps the account's ledger and orders fresh, if it has access to them.
    pub fn refresher(&self, disk_cache: Option<DiskCache>) -> Option<Refresher> {
        self.history.as_ref().map(|history| history.refresher(&self.policy, &self.clock, disk_cache))
    }
}
