//! Figures that the running service publishes about itself: timings, readings, counters, health and the active configuration.
//!
//! A watch channel carries all of them. Tasks publish changes; readers look at the latest figures or wait for the next change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;

use super::answers::{AccountSummary, CycleHealth, ReloadStatus, ServiceCounters, ServiceStatus, status_from_state};
use crate::alerting::state::State;
use crate::certcentral::ReadErrorKind;
use crate::domain::quiet_hours::QuietHours;
use crate::domain::report::LatestFigures;
use crate::domain::rule::Rule;
use crate::domain::{Division, Name, Time};
use crate::notify::delivery::DeliveryOutcome;
use crate::polling::figures::TimedReading;
use crate::polling::figures_by_account::FiguresByAccount;
use crate::polling::poller::CycleOutcome;
use crate::polling::progress::CycleProgress;
use crate::polling::scheduler::CycleTiming;

/// Figures that the running service publishes about itself. Shared by the tasks that produce and read them.
#[derive(Debug, Default)]
pub struct Registry(watch::Sender<PublishedFigures>);

/// Contents of the registry.
#[derive(Debug, Default)]
struct PublishedFigures {
    timings: BTreeMap<Name, CycleTiming>,
    /// Progress of running cycles.
    progress: BTreeMap<Name, Arc<CycleProgress>>,
    readings: BTreeMap<Name, Vec<TimedReading>>,
    accounts: BTreeMap<Name, AccountHealth>,
    counts: ServiceCounters,
    /// Last figures of every account, for reports.
    figures: FiguresByAccount,
    rules: Vec<Rule>,
    quiet_hours: BTreeMap<Name, QuietHours>,
    reload: Option<ReloadStatus>,
}

/// Health of one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AccountHealth {
    /// Number of finished cycles.
    pub cycles: u64,
    /// `true` if the latest cycle could read everything that the rules look at; `None` before the first cycle has ended.
    pub readable: Option<bool>,
}

/// Waits for changes of the registry.
pub(crate) struct RegistryChanges(watch::Receiver<PublishedFigures>);

impl RegistryChanges {
    /// Marks the present figures as seen.
    pub(crate) fn mark_seen(&mut self) {
        self.0.mark_unchanged();
    }

    /// Waits for a change since the figures were last marked as seen. Never completes after the registry is gone.
    pub(crate) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Registry {
    /// Sets the active configuration, drops accounts that left it, and starts missing counters at 0.
    pub fn apply_config(&self, accounts: &BTreeSet<Name>, rules: &[Rule], notifiers: &BTreeSet<Name>) {
        self.0.send_modify(|published| {
            published.timings.retain(|name, _| accounts.contains(name));
            published.readings.retain(|name, _| accounts.contains(name));
            published.accounts.retain(|name, _| accounts.contains(name));
            for name in accounts {
                published.accounts.entry(name.clone()).or_default();
            }
            published.rules = rules.to_vec();
            for kind in ReadErrorKind::ALL {
                published.counts.read_errors.entry(kind.name().to_owned()).or_default();
            }
            for name in notifiers {
                let by_outcome = published.counts.deliveries.entry(name.clone()).or_default();
                for outcome in DeliveryOutcome::ALL {
                    by_outcome.entry(outcome.name().to_owned()).or_default();
                }
            }
        });
    }

    /// Sets the quiet hours of notifiers.
    pub fn set_quiet_hours(&self, quiet_hours: BTreeMap<Name, QuietHours>) {
        self.0.send_modify(|published| published.quiet_hours = quiet_hours);
    }

    /// Sets the progress that an account's cycles update.
    pub fn set_progress(&self, account: &Name, progress: Arc<CycleProgress>) {
        self.0.send_modify(|published| drop(published.progress.insert(account.clone(), progress)));
    }

    /// Records the result of reading the configuration: notes about it, or its problems.
    pub fn record_reload(&self, at: Time, result: Result<Vec<String>, Vec<String>>) {
        let ok = result.is_ok();
        let problems = result.unwrap_or_else(|problems| problems);
        self.0.send_modify(|published| {
            let before = published.reload.as_ref().filter(|_| !ok);
            let in_use_since = before.map_or(at, |before| before.in_use_since);
            published.reload = Some(ReloadStatus { at, ok, in_use_since, problems });
        });
    }

    /// Records when an account's cycles run.
    pub fn record_timing(&self, account: &Name, timing: CycleTiming) {
        self.0.send_modify(|published| {
            // A reload starts the cycles anew, but the end of the last cycle still counts.
            let ended = timing.ended.or(published.timings.get(account).and_then(|known| known.ended));
            published.timings.insert(account.clone(), CycleTiming { ended, ..timing });
        });
    }

    /// Records the outcome of an account's cycle.
    pub fn record_cycle(&self, account: &Name, outcome: CycleOutcome) {
        self.0.send_modify(|published| published.record_cycle(account, outcome));
    }

    /// Counts a delivery attempt.
    pub fn count_delivery(&self, notifier: &Name, outcome: DeliveryOutcome) {
        self.0.send_modify(|published| {
            let by_outcome = published.counts.deliveries.entry(notifier.clone()).or_default();
            *by_outcome.entry(outcome.name().to_owned()).or_default() += 1;
        });
    }
}

impl Registry {
    /// Returns changes from now on.
    pub(crate) fn changes(&self) -> RegistryChanges {
        RegistryChanges(self.0.subscribe())
    }

    /// Returns `true` if the quiet hours of a notifier hold its pending events at the given time.
    pub fn is_held(&self, notifier: &Name, at: Time, about_critical: bool) -> bool {
        let published = self.0.borrow();
        published.quiet_hours.get(notifier).is_some_and(|quiet| quiet.quiet_until(at, about_critical).is_some())
    }

    /// Returns the rules in use.
    pub fn rules(&self) -> Vec<Rule> {
        self.0.borrow().rules.clone()
    }

    /// Returns the health of each configured account.
    pub fn accounts(&self) -> BTreeMap<Name, AccountHealth> {
        self.0.borrow().accounts.clone()
    }

    /// Returns which accounts have late cycles.
    pub fn health(&self, now: Time) -> CycleHealth {
        let published = self.0.borrow();
        let late =
            |(name, timing): (&Name, &CycleTiming)| (!published.on_time(name, *timing, now)).then(|| name.clone());
        let late: Vec<Name> = published.timings.iter().filter_map(late).collect();
        CycleHealth { on_time: late.is_empty(), late }
    }

    /// Returns the accounts without a cycle that ended within twice its period.
    pub fn not_ready(&self, now: Time) -> Vec<Name> {
        let published = self.0.borrow();
        let ready = |name: &Name| {
            let timing = published.timings.get(name);
            timing.is_some_and(|timing| published.adjusted_timing(name, *timing).ready(now))
        };
        published.accounts.keys().filter(|name| !ready(name)).cloned().collect()
    }

    /// Returns the last figures of these accounts, for a report.
    pub(crate) fn latest_figures(&self, accounts: &[Name]) -> Vec<LatestFigures> {
        self.0.borrow().figures.latest(accounts)
    }

    /// Waits until each of these accounts has been read at or after `since`.
    pub(crate) async fn wait_until_read(&self, accounts: &[Name], since: Time) {
        // Never fails: the sender lives as long as the registry.
        let _ = self.0.subscribe().wait_for(|published| published.figures.covers(accounts, since)).await;
    }

    /// Builds the status from the state and this registry.
    pub fn status(&self, state: &State, now: Time) -> ServiceStatus {
        let published = self.0.borrow();
        let account = |(name, timing): (&Name, &CycleTiming)| {
            let adjusted = published.adjusted_timing(name, *timing);
            AccountSummary {
                account: name.clone(),
                last_cycle: adjusted.ended,
                next_cycle: adjusted.due,
                on_time: published.on_time(name, *timing, now),
                reading: adjusted.ended.is_none_or(|ended| ended < adjusted.began),
            }
        };
        let readings = published.readings.iter();
        ServiceStatus {
            running: true,
            accounts: published.timings.iter().map(account).collect(),
            rules: published.rules.iter().map(|rule| rule.name.clone()).collect(),
            readings: readings.flat_map(|(name, all)| all.iter().map(|reading| reading.figures(name))).collect(),
            counts: published.counts.clone(),
            reload: published.reload.clone(),
            ..status_from_state(state)
        }
    }
}

impl PublishedFigures {
    fn record_cycle(&mut self, account: &Name, mut outcome: CycleOutcome) {
        let latest = std::mem::take(&mut outcome.latest);
        self.figures.note(account, latest, outcome.listing_failure.as_deref(), outcome.ended);
        let health = self.accounts.entry(account.clone()).or_default();
        health.cycles += 1;
        health.readable = Some(outcome.complete);
        let unreadable = outcome.unreadable.min(outcome.readings.len());
        self.counts.cycles += 1;
        self.counts.readings += (outcome.readings.len() - unreadable) as u64;
        self.counts.unreadable += outcome.unreadable as u64;
        for kind in &outcome.errors {
            *self.counts.read_errors.entry(kind.name().to_owned()).or_default() += 1;
        }
        for event in outcome.events {
            *self.counts.events.entry(event).or_default() += 1;
        }
        self.keep_last_good_times(account, &mut outcome.readings);
        self.readings.insert(account.clone(), outcome.readings);
    }

    /// Gives failed readings the time of the last good one.
    fn keep_last_good_times(&mut self, account: &Name, readings: &mut [TimedReading]) {
        let some_failed = readings.iter().any(|reading| reading.last_good.is_none());
        let before = self.readings.remove(account).filter(|_| some_failed);
        let mut last_good: BTreeMap<Division, Option<Time>> =
            before.into_iter().flatten().map(|before| (before.reading.division, before.last_good)).collect();
        for reading in readings.iter_mut().filter(|reading| reading.last_good.is_none()) {
            reading.last_good = last_good.remove(&reading.reading.division).flatten();
        }
    }

    /// Returns the timing with a later due time if the running cycle needs longer than its period.
    fn adjusted_timing(&self, account: &Name, timing: CycleTiming) -> CycleTiming {
        let needs = self.progress.get(account).map(|progress| progress.needed_duration()).unwrap_or_default();
        let needs = chrono::TimeDelta::from_std(needs).ok();
        let end = needs.and_then(|needs| timing.began.checked_add_signed(needs));
        CycleTiming { due: timing.due.max(end.filter(|_| timing.due.is_some())), ..timing }
    }

    /// Returns `true` if an account's cycles are on time. A long cycle is on time while its reads make progress.
    fn on_time(&self, account: &Name, timing: CycleTiming, now: Time) -> bool {
        let progress = self.progress.get(account);
        let is_progressing = || progress.is_some_and(|progress| timing.is_progressing(progress.last_read(), now));
        self.adjusted_timing(account, timing).on_time(now) || is_progressing()
    }
}
