//! Groups the readings of an account into funds: one division, or several that report exactly the same figures.

use std::collections::{BTreeSet, HashMap};

use crate::alerting::policy::{AccountPolicy, DivisionScope};
use crate::alerting::readings::DivisionReading;
use crate::domain::Division;
use crate::domain::balance::Balance;
use crate::history::WatchedFunds;

/// Indices of the readings that belong to one fund; never empty.
pub(super) type FundIndices = Vec<usize>;

/// Returns the funds with at least one division for which `needs` holds. A forecast covers all divisions that share a fund,
/// because each of them spends from it.
pub(super) fn funds(readings: &[DivisionReading], needs: impl Fn(&DivisionReading) -> bool) -> Vec<FundIndices> {
    let mut funds: Vec<FundIndices> = Vec::new();
    let mut fund_by_balance: HashMap<&Balance, usize> = HashMap::new();
    for (index, reading) in readings.iter().enumerate() {
        let balance = reading.balance.as_ref().ok().filter(|_| reading.division.is_some());
        match balance.and_then(|balance| fund_by_balance.get(balance)) {
            Some(fund) => funds[*fund].push(index),
            None => {
                fund_by_balance.extend(balance.map(|balance| (balance, funds.len())));
                funds.push(vec![index]);
            }
        }
    }
    funds.retain(|fund| fund.iter().any(|index| needs(&readings[*index])));
    funds
}

/// Returns the divisions of these funds.
pub(super) fn division_ids<'f>(
    readings: &[DivisionReading],
    funds: impl IntoIterator<Item = &'f FundIndices>,
) -> BTreeSet<Division> {
    funds.into_iter().flatten().map(|index| readings[*index].division).collect()
}

/// Returns the watched divisions, from which the refresher finds out which other divisions share their funds. Empty if every
/// division is watched, because then there are no others.
pub(super) fn watched_funds(
    policy: &AccountPolicy,
    readings: &[DivisionReading],
    funds: &[FundIndices],
) -> WatchedFunds {
    let all_watched = match &policy.scope {
        DivisionScope::Undivided => true,
        DivisionScope::All(excluded) => excluded.is_empty(),
        DivisionScope::Listed(_) => false,
    };
    if all_watched {
        return WatchedFunds::default();
    }
    let ids = |fund: &FundIndices| fund.iter().filter_map(|index| readings[*index].division).collect();
    let readable = funds.iter().filter(|fund| fund.iter().any(|index| readings[*index].balance.is_ok()));
    WatchedFunds {
        funds: readable.map(ids).collect(),
        divisions: readings.iter().filter_map(|reading| reading.division).collect(),
    }
}
