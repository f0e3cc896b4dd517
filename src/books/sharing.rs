//! Who else shares the funds of the divisions that are watched: their purchases empty the same fund, so that a forecast needs
//! their ledgers too.

use std::collections::{BTreeSet, HashMap};

use crate::certcentral::{BooksSource, ReadError, ReadErrorKind};
use crate::domain::balance::Balance;

/// What is watched, where an account may have further divisions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watched {
    /// The watched divisions of each fund whose books are wanted.
    pub funds: Vec<BTreeSet<u64>>,
    /// All watched divisions.
    pub divisions: BTreeSet<u64>,
}

/// One fund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fund {
    pub(super) watched: BTreeSet<u64>,
    /// The divisions that report exactly the same figures and are not watched.
    pub(super) others: BTreeSet<u64>,
}

impl Fund {
    pub(super) fn has_any(&self, divisions: &BTreeSet<u64>) -> bool {
        !self.watched.is_disjoint(divisions)
    }
}

/// The divisions that share these funds. `before` is what was found the time before.
///
/// A balance may change while one division after the other is asked. So whoever reports other figures than any fund is
/// compared with each fund's figures of a moment later, and one that shared a fund before is asked again together with it:
/// none is lost by a purchase that came in between.
pub(super) async fn find(source: &dyn BooksSource, wanted: &Watched, before: &[Fund]) -> Result<Vec<Fund>, ReadError> {
    let known = |watched: &BTreeSet<u64>| {
        let others = before.iter().filter(|fund| fund.has_any(watched)).flat_map(|fund| &fund.others);
        others.copied().filter(|id| !wanted.divisions.contains(id)).collect::<BTreeSet<u64>>()
    };
    let Some(listed) = unless_refused(source.listed().await)? else {
        // Whoever may not list them can name them in the configuration.
        let fund = |watched: &BTreeSet<u64>| Fund { watched: watched.clone(), others: known(watched) };
        return Ok(wanted.funds.iter().map(fund).collect());
    };
    let others: Vec<u64> = listed.into_iter().filter(|id| !wanted.divisions.contains(id)).collect();
    let mut funds: Vec<Fund> =
        wanted.funds.iter().map(|watched| Fund { watched: watched.clone(), others: BTreeSet::new() }).collect();
    if others.is_empty() {
        return Ok(funds);
    }
    let first = figures_of(source, &funds).await?;
    let mut strangers: Vec<(u64, Balance)> = Vec::new();
    for other in others {
        let Some(figures) = unless_refused(source.figures(other).await)? else { continue };
        match first.get(&figures) {
            Some(fund) => drop(funds[*fund].others.insert(other)),
            None => strangers.push((other, figures)),
        }
    }
    let later = if strangers.is_empty() { HashMap::new() } else { figures_of(source, &funds).await? };
    for (other, figures) in strangers {
        let shared_before = wanted.funds.iter().position(|watched| known(watched).contains(&other));
        let fund = match (later.get(&figures), shared_before) {
            (Some(fund), _) => Some(*fund),
            (None, Some(fund)) => still_shares(source, &funds[fund], other).await?.then_some(fund),
            (None, None) => None,
        };
        if let Some(fund) = fund {
            funds[fund].others.insert(other);
        }
    }
    Ok(funds)
}

/// The present figures of each fund; one that must not be read has none.
async fn figures_of(source: &dyn BooksSource, funds: &[Fund]) -> Result<HashMap<Balance, usize>, ReadError> {
    let mut figures = HashMap::new();
    for (place, fund) in funds.iter().enumerate() {
        if let Some(its) = own_figures(source, fund).await? {
            figures.insert(its, place);
        }
    }
    Ok(figures)
}

async fn own_figures(source: &dyn BooksSource, fund: &Fund) -> Result<Option<Balance>, ReadError> {
    match fund.watched.first() {
        Some(division) => unless_refused(source.figures(*division).await),
        None => Ok(None),
    }
}

async fn still_shares(source: &dyn BooksSource, fund: &Fund, other: u64) -> Result<bool, ReadError> {
    let own = own_figures(source, fund).await?;
    let its = unless_refused(source.figures(other).await)?;
    Ok(own.is_some() && own == its)
}

fn unless_refused<T>(read: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match read {
        Err(error) if error.kind == ReadErrorKind::Refused => Ok(None),
        read => read.map(Some),
    }
}
