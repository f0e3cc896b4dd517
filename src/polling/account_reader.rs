//! Reads each division of an account once, several at a time, at the pace that the rate limit allows.

use std::time::Duration;

use futures_util::StreamExt;

use crate::alerting::policy::DivisionScope;
use crate::alerting::readings::{AccountReadings, DivisionReading};
use crate::certcentral::pacing;
use crate::certcentral::pacing::RequestLoad;
use crate::certcentral::{ReadError, ReadErrorKind};
use crate::domain::balance::{Balance, Persistence, Unreadable};
use crate::domain::{Division, Time};
use crate::polling::cycle_log;
use crate::polling::listing::DivisionListing;
use crate::polling::poller::{Poller, PollerState};
use crate::util::clock::Clock;

/// Number of divisions of an account that are read at the same time, before the rate limit.
const MAX_CONCURRENT_READS: usize = 16;

/// A cycle ends early after this many timeouts in a row. If the API hangs, reading the other divisions would take hours and
/// delay the messages of the cycle.
const MAX_CONSECUTIVE_TIMEOUTS: usize = MAX_CONCURRENT_READS;

type BalanceResult = Result<Balance, ReadError>;

impl Poller {
    /// Reads each division once. If one is refused, the listing may be outdated. It is then asked for again, so that a removed
    /// division is no longer watched instead of unreadable.
    pub(super) async fn read_account(&self, state: &mut PollerState) -> AccountReadings {
        let now = self.clock.now();
        let listed_at = |state: &PollerState| state.listing.as_ref().map(|listing| listing.listed_at);
        let listed_before = listed_at(state);
        let listing_failure = self.refresh_listing(state, now).await;
        let mut readings = self.read_divisions(state).await;
        let all = matches!(self.policy.scope, DivisionScope::All(_));
        let is_refused = |reading: &DivisionReading| {
            reading.balance.as_ref().is_err_and(|why| why.persistence == Persistence::Permanent)
        };
        let is_listing_old = listed_before.is_some() && listed_before == listed_at(state);
        if all && is_listing_old && listing_failure.is_none() && readings.iter().any(is_refused) {
            self.relist(state, now).await;
        }
        let listing = state.listing.as_ref().filter(|_| all && listing_failure.is_none());
        let active = listing.map(DivisionListing::ids);
        if let Some(active) = &active {
            readings.retain(|reading| reading.division.is_none_or(|id| active.contains(&id)));
        }
        cycle_log::log_failures(&self.policy.account, &readings, listing_failure.as_ref());
        AccountReadings { divisions: readings, listing_failure, active }
    }

    async fn read_divisions(&self, state: &mut PollerState) -> Vec<DivisionReading> {
        let divisions = self.divisions_to_read(state);
        let balances = self.read_balances(state, &divisions).await;
        let names = state.listing.as_ref().map(DivisionListing::names).unwrap_or_default();
        let name_of = |division: Division| division.and_then(|id| names.get(&id).map(|name| (*name).to_owned()));
        let division_reading = |(division, balance): (Division, BalanceResult)| DivisionReading {
            division,
            name: name_of(division),
            balance: balance.map_err(Unreadable::from),
            forecast: None,
        };
        divisions.into_iter().zip(balances).map(division_reading).collect()
    }

    /// Reads these balances and returns them in the same order. If the API hangs, the divisions that were not asked for fail
    /// with the last timeout.
    async fn read_balances(&self, state: &mut PollerState, divisions: &[Division]) -> Vec<BalanceResult> {
        let (pause, began) = (self.pause_between_reads(state, divisions.len()), self.clock.now());
        let first = std::mem::take(&mut state.next_index) % divisions.len().max(1);
        let order: Vec<usize> = (first..divisions.len()).chain(0..first).collect();
        let read = |(turn, index): (u32, usize)| async move {
            wait_turn(self.clock.as_ref(), began, pause, turn).await;
            (index, self.source.balance(divisions[index]).await)
        };
        // Unordered, so that a slow division delays no other.
        let mut requests = futures_util::stream::iter((0..).zip(order.iter().copied()))
            .map(read)
            .buffer_unordered(MAX_CONCURRENT_READS);
        let mut answers: Vec<Option<BalanceResult>> = divisions.iter().map(|_| None).collect();
        let mut timeouts = 0;
        while let Some((index, balance)) = requests.next().await {
            state.progress.record_read(self.clock.now());
            let failure = balance.as_ref().err().cloned();
            state.errors.extend(failure.as_ref().map(|error| error.kind));
            answers[index] = Some(balance);
            let Some(timeout) = failure.filter(|error| error.kind == ReadErrorKind::Timeout) else {
                timeouts = 0;
                continue;
            };
            timeouts += 1;
            if timeouts >= MAX_CONSECUTIVE_TIMEOUTS {
                drop(requests);
                return self.end_early(state, &order, answers, &timeout);
            }
        }
        answers.into_iter().flatten().collect()
    }

    /// Fills the missing answers with the last timeout. The next cycle begins with the first division without an answer.
    fn end_early(
        &self,
        state: &mut PollerState,
        order: &[usize],
        answers: Vec<Option<BalanceResult>>,
        timeout: &ReadError,
    ) -> Vec<BalanceResult> {
        let mut unanswered = order.iter().copied().filter(|index| answers[*index].is_none());
        if let Some(next) = unanswered.next() {
            let left = 1 + unanswered.count();
            tracing::warn!(account = %self.policy.account, timeouts = MAX_CONSECUTIVE_TIMEOUTS, left, "CertCentral does not answer: the cycle ends without asking for the divisions that are left");
            state.next_index = next;
        }
        answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(timeout.clone()))).collect()
    }

    /// Returns the pause from one read to the next, with which all accounts of an API key keep to its rate limit. Warns once
    /// if they cannot. Every division is still read then, and the next cycle begins when this one is over.
    fn pause_between_reads(&self, state: &PollerState, divisions: usize) -> Duration {
        let account = &self.policy.account;
        let Some((limiter, period)) = self.source.limiter().zip(state.period) else { return Duration::ZERO };
        let limits = limiter.limits();
        let loads = limiter.record_load(account, RequestLoad { requests: divisions, period });
        let requests = pacing::total_requests(loads.values().copied(), period);
        state.progress.set_needed(pacing::required_duration(requests, limits.iter().copied()));
        if let Some(why) = pacing::explain_overload(&loads, period, &limits).filter(|_| limiter.should_warn_too_short())
        {
            tracing::warn!(%account, divisions, "schedule is too short: {why}");
        }
        pacing::pause(divisions, loads.values().copied(), limits.iter().copied(), period)
    }
}

/// Waits until the turn of a read. If the clock is set back meanwhile, the wait stays short: at most as long as
/// [`MAX_CONCURRENT_READS`] pauses.
async fn wait_turn(clock: &dyn Clock, began: Time, pause: Duration, turn: u32) {
    let left = (began + pause * turn - clock.now()).to_std().unwrap_or_default();
    if !pause.is_zero() && !left.is_zero() {
        clock.sleep(left.min(pause * u32::try_from(MAX_CONCURRENT_READS).unwrap_or(1))).await;
    }
}
