//! Access to an account's ledger and orders, and reading them once for commands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::alerting::policy::AccountPolicy;
use crate::alerting::readings::DivisionReading;
use crate::certcentral::HistorySource;
use crate::domain::Division;
use crate::domain::history::AccountHistory;
use crate::domain::rule::Rule;
use crate::forecast::Spending;
use crate::history::{DiskCache, HistoryCache, Refresher};
use crate::polling::funds::{FundIndices, division_ids, funds, watched_funds};
use crate::polling::poller::Poller;
use crate::util::clock::Clock;

/// The longest wait of `backtest`, which needs the ledgers of all divisions.
const BACKTEST_HISTORY_TIMEOUT: Duration = Duration::from_secs(1800);

/// Time between two reports of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// An account's ledger and orders, and how they are read.
pub struct HistoryAccess {
    /// The cache that forecasts read from.
    pub cache: Arc<HistoryCache>,
    /// The source that the refresher reads from.
    pub source: Arc<dyn HistorySource>,
    /// The ledger entries that count as purchases.
    pub spending: Spending,
}

impl HistoryAccess {
    /// Returns the background task that fills the cache for this account.
    pub(super) fn refresher(
        &self,
        policy: &AccountPolicy,
        clock: &Arc<dyn Clock>,
        disk_cache: Option<DiskCache>,
    ) -> Refresher {
        let windows = policy.rules.iter().filter_map(Rule::within);
        let longest_days = windows.map(|within| within.as_secs().div_ceil(24 * 3600)).max().unwrap_or_default();
        let (source, cache) = (Arc::clone(&self.source), Arc::clone(&self.cache));
        Refresher::new(policy.account.clone(), source, cache, Arc::clone(clock), disk_cache, longest_days)
    }

    /// Returns the divisions of a fund and the history of each, as far as it has been read.
    fn fund_histories(&self, readings: &[DivisionReading], fund: &FundIndices) -> (Vec<Division>, Vec<AccountHistory>) {
        let divisions: Vec<Division> = fund.iter().map(|index| readings[*index].division).collect();
        let histories = self.cache.fund_histories(&divisions);
        (divisions, histories)
    }

    /// Counts the ledgers that have been read for these funds, and the total number of their entries.
    fn count_ledgers(&self, readings: &[DivisionReading], funds: &[FundIndices]) -> (usize, usize) {
        let histories = funds.iter().flat_map(|fund| self.fund_histories(readings, fund).1);
        let entries = histories.filter_map(|history| Some(history.ledger.ok()?.entries().len()));
        entries.fold((0, 0), |(ledgers, total), entries| (ledgers + 1, total + entries))
    }
}

impl Poller {
    /// Reads the history of the funds for which `needs` holds, and returns it by division. `on_progress` is called several
    /// times a second with the number of ledgers read so far and the total number of their entries.
    pub(super) async fn read_histories(
        &self,
        readings: &[DivisionReading],
        needs: impl Fn(&DivisionReading) -> bool,
        on_progress: &mut (dyn FnMut(usize, usize) + Send),
    ) -> BTreeMap<Division, AccountHistory> {
        let Some(history) = &self.history else { return BTreeMap::new() };
        let funds = funds(readings, needs);
        let needed = division_ids(readings, &funds);
        history.cache.request_shared(&needed, &watched_funds(&self.policy, readings, &funds));
        let refresher = history.refresher(&self.policy, &self.clock, None).run(CancellationToken::new());
        tokio::pin!(refresher);
        for _ in 0..BACKTEST_HISTORY_TIMEOUT.as_millis() / PROGRESS_INTERVAL.as_millis() {
            let settled = history.cache.wait_until_settled(&needed, BACKTEST_HISTORY_TIMEOUT);
            let is_settled = tokio::select! {
                () = &mut refresher => true,
                settled = tokio::time::timeout(PROGRESS_INTERVAL, settled) => settled.is_ok(),
            };
            if is_settled {
                break;
            }
            let (ledgers, entries) = history.count_ledgers(readings, &funds);
            on_progress(ledgers, entries);
        }
        let merged = |fund: &FundIndices| {
            let (divisions, histories) = history.fund_histories(readings, fund);
            let merged = AccountHistory::merge(&histories);
            divisions.into_iter().map(move |division| (division, merged.clone()))
        };
        funds.iter().flat_map(merged).collect()
    }
}
