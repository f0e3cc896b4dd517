//! Parts of the registry besides timings and readings: the active configuration, the result of reading it, and the health of each
//! account.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::certcentral::ReadErrorKind;
use crate::domain::rule::Rule;
use crate::domain::{Name, Time};
use crate::notify::delivery::DeliveryOutcome;
use crate::polling::poller::{CycleOutcome, CycleProgress};
use crate::polling::scheduler::CycleTiming;
use crate::status::control::{Registry, ReloadStatus};

/// The active configuration and the health of its accounts.
#[derive(Default)]
pub(crate) struct ActiveConfig {
    reload: Option<ReloadStatus>,
    accounts: BTreeMap<Name, AccountHealth>,
    rules: Vec<Rule>,
}

/// Health of one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AccountHealth {
    /// Number of finished cycles.
    pub cycles: u64,
    /// `true` if the latest cycle could read everything that the rules look at; `None` before the first cycle has ended.
    pub readable: Option<bool>,
}

/// Progress of running cycles by account.
#[derive(Default)]
pub(crate) struct ProgressByAccount(Mutex<BTreeMap<Name, Arc<CycleProgress>>>);

impl ProgressByAccount {
    /// Returns the timing with a later due time if the running cycle needs longer than its period.
    pub(crate) fn adjusted_timing(&self, account: &Name, timing: CycleTiming) -> CycleTiming {
        let needs = self.get(account).map(|progress| progress.needed_duration()).unwrap_or_default();
        let needs = chrono::TimeDelta::from_std(needs).ok();
        let end = needs.and_then(|needs| timing.began.checked_add_signed(needs));
        CycleTiming { due: timing.due.max(end.filter(|_| timing.due.is_some())), ..timing }
    }

    /// Returns `true` if an account's cycles are on time. A long cycle is on time while its reads make progress.
    pub(crate) fn on_time(&self, account: &Name, timing: CycleTiming, now: Time) -> bool {
        let is_progressing =
            || self.get(account).is_some_and(|progress| timing.is_progressing(progress.last_read(), now));
        self.adjusted_timing(account, timing).on_time(now) || is_progressing()
    }

    fn get(&self, account: &Name) -> Option<Arc<CycleProgress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(account).map(Arc::clone)
    }
}

impl Registry {
    /// Sets the progress that an account's cycles update.
    pub fn set_progress(&self, account: &Name, progress: Arc<CycleProgress>) {
        self.progress.0.lock().unwrap_or_else(PoisonError::into_inner).insert(account.clone(), progress);
    }

    /// Sets the active configuration, drops accounts that left it, and starts missing counters at 0.
    pub fn apply_config(&self, accounts: &BTreeSet<Name>, rules: &[Rule], notifiers: &BTreeSet<Name>) {
        let is_configured = |name: &Name| accounts.contains(name);
        self.timings.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| is_configured(name));
        self.readings.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| is_configured(name));
        let mut active = self.lock_active();
        active.accounts.retain(|name, _| is_configured(name));
        for name in accounts {
            active.accounts.entry(name.clone()).or_default();
        }
        active.rules = rules.to_vec();
        drop(active);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for kind in ReadErrorKind::ALL {
            counts.read_errors.entry(kind.name().to_owned()).or_default();
        }
        for name in notifiers {
            let by_outcome = counts.deliveries.entry(name.clone()).or_default();
            for outcome in DeliveryOutcome::ALL {
                by_outcome.entry(outcome.name().to_owned()).or_default();
            }
        }
    }

    /// Records the result of reading the configuration: notes about it, or its problems.
    pub fn record_reload(&self, at: Time, result: Result<Vec<String>, Vec<String>>) {
        let ok = result.is_ok();
        let problems = result.unwrap_or_else(|problems| problems);
        let mut active = self.lock_active();
        let in_use_since = active.reload.as_ref().filter(|_| !ok).map_or(at, |before| before.in_use_since);
        active.reload = Some(ReloadStatus { at, ok, in_use_since, problems });
    }

    /// Counts a delivery attempt.
    pub fn count_delivery(&self, notifier: &Name, outcome: DeliveryOutcome) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.deliveries.entry(notifier.clone()).or_default().entry(outcome.name().to_owned()).or_default() += 1;
    }

    /// Returns the result of the last read of the configuration.
    pub fn reload(&self) -> Option<ReloadStatus> {
        self.lock_active().reload.clone()
    }

    /// Returns the rules in use.
    pub fn rules(&self) -> Vec<Rule> {
        self.lock_active().rules.clone()
    }

    /// Returns the health of each configured account.
    pub fn accounts(&self) -> BTreeMap<Name, AccountHealth> {
        self.lock_active().accounts.clone()
    }

    pub(crate) fn note_cycle(&self, account: &Name, outcome: &CycleOutcome) {
        let mut active = self.lock_active();
        let health = active.accounts.entry(account.clone()).or_default();
        health.cycles += 1;
        health.readable = Some(outcome.complete);
        drop(active);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for kind in &outcome.errors {
            *counts.read_errors.entry(kind.name().to_owned()).or_default() += 1;
        }
    }

    fn lock_active(&self) -> MutexGuard<'_, ActiveConfig> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
