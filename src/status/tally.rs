//! What the board knows beside beats and readings: what is configured, how reading it went, and how each account fares.
//!
//! It notes and counts; what is made of it is decided by who asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::certcentral::ReadErrorKind;
use crate::domain::rule::Rule;
use crate::domain::{Name, Time};
use crate::notify::delivery::Tried;
use crate::polling::poller::{Outcome, Progress};
use crate::polling::scheduler::Beat;
use crate::status::control::{Board, Reload};

/// See the module.
#[derive(Default)]
pub(crate) struct Tally {
    reload: Option<Reload>,
    accounts: BTreeMap<Name, Fares>,
    rules: Vec<Rule>,
}

/// How one account fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fares {
    /// Cycles that ended.
    pub cycles: u64,
    /// Whether its latest cycle could read everything that the rules look at; `None` before the first ended.
    pub good: Option<bool>,
}

/// How the cycles of each account go on.
#[derive(Default)]
pub(crate) struct Paces(Mutex<BTreeMap<Name, Arc<Progress>>>);

impl Paces {
    /// A cycle that cannot end before the next one is due makes that one come later; it is not late for it.
    pub(crate) fn stretched(&self, account: &Name, beat: Beat) -> Beat {
        let needs = self.of(account).map(|progress| progress.needed()).unwrap_or_default();
        let needs = chrono::TimeDelta::from_std(needs).ok();
        let end = needs.and_then(|needs| beat.began.checked_add_signed(needs));
        Beat { due: beat.due.max(end.filter(|_| beat.due.is_some())), ..beat }
    }

    /// Whether an account's cycles are on time: a long one is, while its reads go on.
    pub(crate) fn on_time(&self, account: &Name, beat: Beat, now: Time) -> bool {
        let goes_on = || self.of(account).is_some_and(|progress| beat.goes_on(progress.last(), now));
        self.stretched(account, beat).on_time(now) || goes_on()
    }

    fn of(&self, account: &Name) -> Option<Arc<Progress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(account).map(Arc::clone)
    }
}

impl Board {
    /// Notes where the account's cycles say how they go on.
    pub fn paced(&self, account: &Name, progress: Arc<Progress>) {
        self.paces.0.lock().unwrap_or_else(PoisonError::into_inner).insert(account.clone(), progress);
    }

    /// Notes what is configured from now on; what left is shown no more. Everything that can be counted begins at 0.
    pub fn configured(&self, accounts: &BTreeSet<Name>, rules: &[Rule], notifiers: &BTreeSet<Name>) {
        let stays = |name: &Name| accounts.contains(name);
        self.beats.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| stays(name));
        self.readings.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| stays(name));
        let mut tally = self.tally_lock();
        tally.accounts.retain(|name, _| stays(name));
        for name in accounts {
            tally.accounts.entry(name.clone()).or_default();
        }
        tally.rules = rules.to_vec();
        drop(tally);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for kind in ReadErrorKind::ALL {
            counts.read_errors.entry(kind.name().to_owned()).or_default();
        }
        for name in notifiers {
            let by_outcome = counts.deliveries.entry(name.clone()).or_default();
            for tried in Tried::ALL {
                by_outcome.entry(tried.name().to_owned()).or_default();
            }
        }
    }

    /// Notes how reading the configuration went: what there is to know about it, or what is wrong with it.
    pub fn loaded(&self, at: Time, result: Result<Vec<String>, Vec<String>>) {
        let ok = result.is_ok();
        let problems = result.unwrap_or_else(|problems| problems);
        let mut tally = self.tally_lock();
        let in_use_since = tally.reload.as_ref().filter(|_| !ok).map_or(at, |before| before.in_use_since);
        tally.reload = Some(Reload { at, ok, in_use_since, problems });
    }

    /// Counts a try to send.
    pub fn tried(&self, notifier: &Name, tried: Tried) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.deliveries.entry(notifier.clone()).or_default().entry(tried.name().to_owned()).or_default() += 1;
    }

    /// How the configuration was last read.
    pub fn reload(&self) -> Option<Reload> {
        self.tally_lock().reload.clone()
    }

    /// The rules in use.
    pub fn rules(&self) -> Vec<Rule> {
        self.tally_lock().rules.clone()
    }

    /// How each configured account fares.
    pub fn accounts(&self) -> BTreeMap<Name, Fares> {
        self.tally_lock().accounts.clone()
    }

    pub(crate) fn note_cycle(&self, account: &Name, outcome: &Outcome) {
        let mut tally = self.tally_lock();
        let fares = tally.accounts.entry(account.clone()).or_default();
        fares.cycles += 1;
        fares.good = Some(outcome.good);
        drop(tally);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for kind in &outcome.errors {
            *counts.read_errors.entry(kind.name().to_owned()).or_default() += 1;
        }
    }

    fn tally_lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
