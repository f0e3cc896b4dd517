//! Changes of the whole price list, recognised from the amounts of the ledger alone, without orders: since one day,
//! every amount is an earlier amount times one ratio, and no earlier amount occurs any more.
//!
//! `prices.rs` learns the change of each price from orders and their renewals. It takes precedence in
//! `spend_history.rs`; a change found here applies only to purchases for which it shows no change.

use std::collections::{BTreeMap, BTreeSet};

use super::minor::{Minor, minor};
use super::purchase::Purchase;
use super::ratio::{Ratio, UNCHANGED};
use crate::domain::Time;

/// Amounts form a price list if each occurs this often on average.
const MIN_REPEATED: usize = 4;
/// Number of purchases needed at the new prices.
const MIN_NEW: usize = 3;
/// Different amounts in a price list, at most.
const MAX_AMOUNTS: usize = 60;
/// Largest and smallest change of prices: a half and a hundredth.
const MAX_CHANGE: Ratio = UNCHANGED / 2;
const MIN_CHANGE: Ratio = UNCHANGED / 100;
/// Tolerance of the ratios, since prices are rounded: a two-hundredth.
const ROUNDING: Ratio = UNCHANGED / 200;

/// A change of all prices at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PriceListChange {
    /// Time of the first purchase at the new prices.
    pub(super) at: Time,
    /// Ratio of the new prices to the old ones.
    pub(super) ratio: Ratio,
}

/// Returns the latest change of all prices among these purchases, oldest first.
pub(super) fn price_list_change(purchases: &[&Purchase<'_>]) -> Option<PriceListChange> {
    let amounts: Vec<Minor> = purchases.iter().map(|purchase| minor(purchase.cost)).collect();
    let mut last: BTreeMap<Minor, usize> = BTreeMap::new();
    for (index, amount) in amounts.iter().enumerate() {
        last.insert(*amount, index);
        if last.len() > MAX_AMOUNTS {
            return None;
        }
    }
    if last.len() * MIN_REPEATED > amounts.len() {
        return None;
    }
    // New prices begin at an index before which every earlier amount has occurred for the last time.
    let (mut ends, mut begins) = (0, None);
    for (index, amount) in amounts.iter().enumerate() {
        if index > 0 && ends < index && amounts.len() - index >= MIN_NEW {
            begins = Some(index);
        }
        ends = ends.max(last.get(amount).copied().unwrap_or(index));
    }
    let begins = begins?;
    let [old, new] =
        [&amounts[..begins], &amounts[begins..]].map(|amounts| amounts.iter().copied().collect::<BTreeSet<_>>());
    let ratio_of = |old: Minor, new: Minor| Ratio::try_from(i128::from(new) * 65_536 / i128::from(old.max(1))).ok();
    let newest = *new.first()?;
    let explains = |ratio: &Ratio| {
        let from_old = |new: &Minor| {
            old.iter().any(|old| ratio_of(*old, *new).is_some_and(|other| (other - ratio).abs() <= ROUNDING))
        };
        let change = (ratio - UNCHANGED).abs();
        (MIN_CHANGE..=MAX_CHANGE).contains(&change) && new.iter().all(from_old)
    };
    let ratio = old.iter().filter_map(|old| ratio_of(*old, newest)).find(explains)?;
    Some(PriceListChange { at: purchases.get(begins)?.entry.at, ratio })
}
