//! What the board knows beside beats and readings: what is configured, how reading it went, and how each account fares.
//!
//! It notes and counts; what is made of it is decided by who asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::certcentral::ReadErrorKind;
use crate::domain::rule::Rule;
use crate::domain::{Name, Time};
use crate::notify::delivery::DeliveryOutcome;
use crate::polling::poller::CycleOutcome;
use crate::polling::progress::CycleProgress;
use crate::polling::scheduler::CycleTiming;
use crate::status::control::{Registry, ReloadStatus};

/// See the module.
#[derive(Default)]
pub(crate) struct ActiveConfig {
    reload: Option<ReloadStatus>,
    accounts: BTreeMap<Name, AccountHealth>,
    rules: Vec<Rule>,
}

/// How one account fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AccountHealth {
    /// Cycles that ended.
    pub cycles: u64,
    /// Whether its latest cycle could read everything that the rules look at; `None` before the first ended.
    pub readable: Option<bool>,
}

/// How the cycles of each account go on.
#[derive(Default)]
pub(crate) struct ProgressByAccount(Mutex<BTreeMap<Name, Arc<CycleProgress>>>);

impl ProgressByAccount {
    /// A cycle that cannot end before the next one is due makes that one come later; it is not late for it.
    pub(crate) fn adjusted_timing(&self, account: &Name, timing: CycleTiming) -> CycleTiming {
        let needs = self.get(account).map(|progress| progress.needed_duration()).unwrap_or_default();
        let needs = chrono::TimeDelta::from_std(needs).ok();
        let end = needs.and_then(|needs| timing.began.checked_add_signed(needs));
        CycleTiming { due: timing.due.max(end.filter(|_| timing.due.is_some())), ..timing }
    }

    /// Whether an account's cycles are on time: a long one is, while its reads go on.
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
    /// Notes where the account's cycles say how they go on.
    pub fn set_progress(&self, account: &Name, progress: Arc<CycleProgress>) {
        self.progress.0.lock().unwrap_or_else(PoisonError::into_inner).insert(account.clone(), progress);
    }

    /// Notes what is configured from now on; what left is shown no more. Everything that can be counted begins at 0.
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

    /// Notes how reading the configuration went: what there is to know about it, or what is wrong with it.
    pub fn record_reload(&self, at: Time, result: Result<Vec<String>, Vec<String>>) {
        let ok = result.is_ok();
        let problems = result.unwrap_or_else(|problems| problems);
        let mut active = self.lock_active();
        let in_use_since = active.reload.as_ref().filter(|_| !ok).map_or(at, |before| before.in_use_since);
        active.reload = Some(ReloadStatus { at, ok, in_use_since, problems });
    }

    /// Counts a try to send.
    pub fn count_delivery(&self, notifier: &Name, outcome: DeliveryOutcome) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.deliveries.entry(notifier.clone()).or_default().entry(outcome.name().to_owned()).or_default() += 1;
    }

    /// How the configuration was last read.
    pub fn reload(&self) -> Option<ReloadStatus> {
        self.lock_active().reload.clone()
    }

    /// The rules in use.
    pub fn rules(&self) -> Vec<Rule> {
        self.lock_active().rules.clone()
    }

    /// How each configured account fares.
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
