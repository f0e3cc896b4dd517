//! Who else shares the funds of the divisions that are watched: their purchases empty the same fund, so that a forecast needs
//! their ledgers too.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use crate::certcentral::{HistorySource, ReadError, ReadErrorKind};
use crate::domain::Time;
use crate::domain::balance::Balance;

/// So many unwatched divisions are asked in one round of a search.
const DIVISIONS_PER_ROUND: usize = 200;
/// A round ends when so many divisions in a row cannot be read.
const MAX_CONSECUTIVE_FAILURES: usize = 3;

/// What is watched, where an account may have further divisions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchedFunds {
    /// The watched divisions of each fund whose books are wanted.
    pub funds: Vec<BTreeSet<u64>>,
    /// All watched divisions.
    pub divisions: BTreeSet<u64>,
}

/// One fund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SharedFund {
    pub(super) watched: BTreeSet<u64>,
    /// The divisions that report exactly the same figures and are not watched.
    pub(super) others: BTreeSet<u64>,
}

impl SharedFund {
    pub(super) fn has_any(&self, divisions: &BTreeSet<u64>) -> bool {
        !self.watched.is_disjoint(divisions)
    }
}

/// How far the search for those who share some funds has come. It goes on in rounds, over all divisions and then again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SharingSearch {
    /// Each fund, with those who were found to share it, or did when the search began.
    pub(super) funds: Vec<SharedFund>,
    /// The division that was asked last; `None`: the next round begins with the first.
    after: Option<u64>,
    /// Divisions that could not be read when they were asked last.
    pub(super) failed: BTreeSet<u64>,
    /// Every division was asked once.
    pub(super) complete: bool,
    /// Why the last round ended early: one division after the other could not be read.
    pub(super) interrupted: Option<ReadError>,
    /// When to go on with the divisions that come next; `None`: now.
    pub(super) due: Option<Time>,
}

impl SharingSearch {
    /// A search that begins with what was found before.
    pub(super) fn new(funds: &[BTreeSet<u64>], before: &[SharedFund]) -> Self {
        let mut search = Self::default();
        search.set_funds(funds, before);
        search
    }

    /// Goes on with these funds in the place of the others.
    pub(super) fn set_funds(&mut self, funds: &[BTreeSet<u64>], before: &[SharedFund]) {
        let known = |watched: &BTreeSet<u64>| {
            let others = before.iter().filter(|fund| fund.has_any(watched)).flat_map(|fund| &fund.others);
            others.copied().collect::<BTreeSet<u64>>()
        };
        self.funds =
            funds.iter().map(|watched| SharedFund { watched: watched.clone(), others: known(watched) }).collect();
    }

    pub(super) fn covers(&self, watched: &BTreeSet<u64>) -> bool {
        self.funds.iter().any(|fund| fund.has_any(watched))
    }

    /// Whether both look for the same funds.
    pub(super) fn is_the_same_as(&self, other: &Self) -> bool {
        self.funds.iter().map(|fund| &fund.watched).eq(other.funds.iter().map(|fund| &fund.watched))
    }

    /// The divisions that the next round asks.
    fn next(&self, others: &BTreeSet<u64>, only_failed: bool) -> Vec<u64> {
        if only_failed {
            return self.failed.iter().copied().take(DIVISIONS_PER_ROUND).collect();
        }
        let from = self.after.map_or(Bound::Unbounded, Bound::Excluded);
        others.range((from, Bound::Unbounded)).copied().take(DIVISIONS_PER_ROUND).collect()
    }

    fn fund_of(&self, other: u64) -> Option<usize> {
        self.funds.iter().position(|fund| fund.others.contains(&other))
    }

    /// Notes whose fund a division shares.
    fn found(&mut self, other: u64, fund: Option<usize>) {
        self.failed.remove(&other);
        for (place, its) in self.funds.iter_mut().enumerate() {
            if Some(place) == fund {
                its.others.insert(other);
            } else {
                its.others.remove(&other);
            }
        }
    }
}

/// Goes on with a search for one round: asks those divisions, of all but these `watched` ones, that come next, or `only_failed`
/// once more those that could not be read.
///
/// A balance may change while one division after the other is asked. So whoever reports other figures than any fund is
/// compared with each fund's figures of a moment later, and one that shared a fund before is asked again together with it:
/// none is lost by a purchase that came in between. Of one that cannot be read, what was known before stays.
pub(super) async fn search_round(
    source: &dyn HistorySource,
    watched: &BTreeSet<u64>,
    mut search: SharingSearch,
    only_failed: bool,
) -> Result<SharingSearch, ReadError> {
    let Some(listed) = unless_refused(source.division_ids().await)? else {
        // Whoever may not list them can name them in the configuration.
        (search.interrupted, search.complete) = (None, true);
        search.failed.clear();
        return Ok(search);
    };
    let others: BTreeSet<u64> = listed.into_iter().filter(|id| !watched.contains(id)).collect();
    search.funds.iter_mut().for_each(|fund| fund.others.retain(|id| others.contains(id)));
    search.failed.retain(|id| others.contains(id));
    let divisions = search.next(&others, only_failed);
    let last = search_divisions(source, &mut search, &divisions).await?;
    if !only_failed {
        let at_end = last.is_none() || last == others.last().copied();
        search.after = last.filter(|_| !at_end);
        search.complete |= at_end;
    }
    Ok(search)
}

/// Asks these divisions whose funds they share. Returns the last that was asked.
async fn search_divisions(
    source: &dyn HistorySource,
    search: &mut SharingSearch,
    divisions: &[u64],
) -> Result<Option<u64>, ReadError> {
    search.interrupted = None;
    if divisions.is_empty() {
        return Ok(None);
    }
    let first = figures_of(source, &search.funds).await?;
    let (mut unmatched, mut failures, mut last) = (Vec::new(), 0, None);
    for other in divisions.iter().copied() {
        last = Some(other);
        let figures = unless_refused(source.figures(other).await);
        failures = if figures.is_ok() { 0 } else { failures + 1 };
        match figures {
            Ok(None) => search.found(other, None),
            Ok(Some(figures)) => match first.get(&figures) {
                Some(fund) => search.found(other, Some(*fund)),
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
    let later = if unmatched.is_empty() { HashMap::new() } else { figures_of(source, &search.funds).await? };
    for (other, figures) in unmatched {
        match (later.get(&figures), search.fund_of(other)) {
            (Some(fund), _) => search.found(other, Some(*fund)),
            (None, Some(fund)) => still_shares(source, search, fund, other).await?,
            (None, None) => search.found(other, None),
        }
    }
    Ok(last)
}

/// The present figures of each fund; one that must not be read has none.
async fn figures_of(source: &dyn HistorySource, funds: &[SharedFund]) -> Result<HashMap<Balance, usize>, ReadError> {
    let mut figures = HashMap::new();
    for (place, fund) in funds.iter().enumerate() {
        if let Some(its) = own_figures(source, fund).await? {
            figures.insert(its, place);
        }
    }
    Ok(figures)
}

async fn own_figures(source: &dyn HistorySource, fund: &SharedFund) -> Result<Option<Balance>, ReadError> {
    match fund.watched.first() {
        Some(division) => unless_refused(source.figures(*division).await),
        None => Ok(None),
    }
}

/// Asks a fund, and one that shared it before, together.
async fn still_shares(
    source: &dyn HistorySource,
    search: &mut SharingSearch,
    fund: usize,
    other: u64,
) -> Result<(), ReadError> {
    let own = own_figures(source, &search.funds[fund]).await?;
    match unless_refused(source.figures(other).await) {
        Ok(its) => search.found(other, (own.is_some() && own == its).then_some(fund)),
        Err(_) => drop(search.failed.insert(other)),
    }
    Ok(())
}

fn unless_refused<T>(read: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match read {
        Err(error) if error.kind == ReadErrorKind::Refused => Ok(None),
        read => read.map(Some),
    }
}
