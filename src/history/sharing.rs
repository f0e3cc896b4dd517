//! Finds unwatched divisions that share a fund with watched ones. A forecast needs their ledgers, too, since their
//! purchases reduce the same fund.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use crate::certcentral::{HistorySource, ReadError, ReadErrorKind};
use crate::domain::Time;
use crate::domain::balance::Balance;

/// Number of unwatched divisions that are read in one round of a search.
const DIVISIONS_PER_ROUND: usize = 200;
/// Number of failures in a row that end a round.
const MAX_CONSECUTIVE_FAILURES: usize = 3;

/// The watched divisions of an account that may have unwatched ones as well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchedFunds {
    /// Watched divisions of each fund whose history is requested.
    pub funds: Vec<BTreeSet<u64>>,
    /// All watched divisions of the account.
    pub divisions: BTreeSet<u64>,
}

/// A fund, with the divisions that share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SharedFund {
    pub(super) watched: BTreeSet<u64>,
    /// Unwatched divisions that report exactly the same figures.
    pub(super) others: BTreeSet<u64>,
}

impl SharedFund {
    pub(super) fn has_any(&self, divisions: &BTreeSet<u64>) -> bool {
        !self.watched.is_disjoint(divisions)
    }
}

/// Progress of a search for the divisions that share funds. It goes through all divisions in rounds, again and again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SharingSearch {
    /// Funds, with the divisions that were found to share them, or did so before the search.
    pub(super) funds: Vec<SharedFund>,
    /// Division that was read last; `None` if the next round begins with the first one.
    after: Option<u64>,
    /// Divisions whose last read failed.
    pub(super) failed: BTreeSet<u64>,
    /// True after every division was read or tried once.
    pub(super) complete: bool,
    /// Failure that ended the last round early, after several divisions in a row could not be read.
    pub(super) interrupted: Option<ReadError>,
    /// Time of the next round; `None` if it is due now.
    pub(super) due: Option<Time>,
}

impl SharingSearch {
    /// Returns a search for the unwatched divisions of these funds. It starts with the divisions that were known
    /// `before`.
    pub(super) fn new(funds: &[BTreeSet<u64>], before: &[SharedFund]) -> Self {
        let mut search = Self::default();
        search.set_funds(funds, before);
        search
    }

    /// Replaces the funds of the search, and keeps its progress.
    pub(super) fn set_funds(&mut self, funds: &[BTreeSet<u64>], before: &[SharedFund]) {
        let known = |watched: &BTreeSet<u64>| {
            let others = before.iter().filter(|fund| fund.has_any(watched)).flat_map(|fund| &fund.others);
            others.copied().collect::<BTreeSet<u64>>()
        };
        self.funds =
            funds.iter().map(|watched| SharedFund { watched: watched.clone(), others: known(watched) }).collect();
    }

    /// Returns whether the search includes the fund of any of these divisions.
    pub(super) fn covers(&self, watched: &BTreeSet<u64>) -> bool {
        self.funds.iter().any(|fund| fund.has_any(watched))
    }

    /// Returns whether both searches have the same funds.
    pub(super) fn has_same_funds(&self, other: &Self) -> bool {
        self.funds.iter().map(|fund| &fund.watched).eq(other.funds.iter().map(|fund| &fund.watched))
    }

    /// Returns the divisions to read in the next round.
    fn next_divisions(&self, others: &BTreeSet<u64>, only_failed: bool) -> Vec<u64> {
        if only_failed {
            return self.failed.iter().copied().take(DIVISIONS_PER_ROUND).collect();
        }
        let from = self.after.map_or(Bound::Unbounded, Bound::Excluded);
        others.range((from, Bound::Unbounded)).copied().take(DIVISIONS_PER_ROUND).collect()
    }

    fn fund_of(&self, other: u64) -> Option<usize> {
        self.funds.iter().position(|fund| fund.others.contains(&other))
    }

    /// Records the index of the fund that a division shares; `None` if it shares none.
    fn record(&mut self, other: u64, fund: Option<usize>) {
        self.failed.remove(&other);
        for (index, shared) in self.funds.iter_mut().enumerate() {
            if Some(index) == fund {
                shared.others.insert(other);
            } else {
                shared.others.remove(&other);
            }
        }
    }
}

/// Continues a search for one round. It reads the unwatched divisions that come next or, with `only_failed`, those that
/// could not be read before.
///
/// Balances may change between two reads. A division whose figures match no fund is therefore compared again with later
/// figures of each fund. If it shared a fund before, it is read again together with that fund. So a purchase between
/// two reads separates no division from its fund. A division that cannot be read keeps its known fund.
pub(super) async fn search_round(
    source: &dyn HistorySource,
    watched: &BTreeSet<u64>,
    mut search: SharingSearch,
    only_failed: bool,
) -> Result<SharingSearch, ReadError> {
    let Some(listed) = unless_refused(source.division_ids().await)? else {
        // A key that may not list divisions: the configuration can name all divisions that share a fund.
        (search.interrupted, search.complete) = (None, true);
        search.failed.clear();
        return Ok(search);
    };
    let others: BTreeSet<u64> = listed.into_iter().filter(|id| !watched.contains(id)).collect();
    search.funds.iter_mut().for_each(|fund| fund.others.retain(|id| others.contains(id)));
    search.failed.retain(|id| others.contains(id));
    let divisions = search.next_divisions(&others, only_failed);
    let last = search_divisions(source, &mut search, &divisions).await?;
    if !only_failed {
        let at_end = last.is_none() || last == others.last().copied();
        search.after = last.filter(|_| !at_end);
        search.complete |= at_end;
    }
    Ok(search)
}

/// Reads these divisions, and records which funds they share. Returns the last division that was read.
async fn search_divisions(
    source: &dyn HistorySource,
    search: &mut SharingSearch,
    divisions: &[u64],
) -> Result<Option<u64>, ReadError> {
    search.interrupted = None;
    if divisions.is_empty() {
        return Ok(None);
    }
    let before = fund_figures(source, &search.funds).await?;
    let (mut unmatched, mut failures, mut last) = (Vec::new(), 0, None);
    for other in divisions.iter().copied() {
        last = Some(other);
        let figures = unless_refused(source.figures(other).await);
        failures = if figures.is_ok() { 0 } else { failures + 1 };
        match figures {
            Ok(None) => search.record(other, None),
            Ok(Some(figures)) => match before.get(&figures) {
                Some(fund) => search.record(other, Some(*fund)),
                None => unmatched.push((other, figures)),
            },
            Err(error) => {
                search.failed.insert(other);
                search.interrupted = Some(error).filter(|_| failures == MAX_CONSECUTIVE_FAILURES);
            }
        }
        if search.interrupted.is_some() {
            break;
        }
    }
    let after = if unmatched.is_empty() { HashMap::new() } else { fund_figures(source, &search.funds).await? };
    for (other, figures) in unmatched {
        match (after.get(&figures), search.fund_of(other)) {
            (Some(fund), _) => search.record(other, Some(*fund)),
            (None, Some(fund)) => compare_again(source, search, fund, other).await?,
            (None, None) => search.record(other, None),
        }
    }
    Ok(last)
}

/// Reads the present figures of each fund, and returns the fund's index by its figures. Funds that may not be read are
/// left out.
async fn fund_figures(source: &dyn HistorySource, funds: &[SharedFund]) -> Result<HashMap<Balance, usize>, ReadError> {
    let mut figures = HashMap::new();
    for (index, fund) in funds.iter().enumerate() {
        if let Some(balance) = read_fund(source, fund).await? {
            figures.insert(balance, index);
        }
    }
    Ok(figures)
}

async fn read_fund(source: &dyn HistorySource, fund: &SharedFund) -> Result<Option<Balance>, ReadError> {
    match fund.watched.first() {
        Some(division) => unless_refused(source.figures(*division).await),
        None => Ok(None),
    }
}

/// Reads a fund and a division that shared it before one directly after the other, and records whether the division
/// still does.
async fn compare_again(
    source: &dyn HistorySource,
    search: &mut SharingSearch,
    fund: usize,
    other: u64,
) -> Result<(), ReadError> {
    let fund_balance = read_fund(source, &search.funds[fund]).await?;
    match unless_refused(source.figures(other).await) {
        Ok(balance) => search.record(other, (fund_balance.is_some() && fund_balance == balance).then_some(fund)),
        Err(_) => drop(search.failed.insert(other)),
    }
    Ok(())
}

/// Returns `None` for a refused read.
fn unless_refused<T>(read: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match read {
        Err(error) if error.kind == ReadErrorKind::Refused => Ok(None),
        read => read.map(Some),
    }
}
