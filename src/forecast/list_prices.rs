//! A rise of the whole price list, as the ledger's amounts alone show it: since one day each of them is an earlier amount times one
//! ratio, and none of the earlier amounts comes any more.

use std::collections::{BTreeMap, BTreeSet};

use super::purchases::Purchase;
use super::ratio::{Ratio, UNCHANGED};
use crate::domain::Time;
use crate::forecast::spend_history::{Minor, minor};

/// Amounts tell of a price list where each came so many times on average …
const MIN_REPEATED: usize = 4;
/// … and so many purchases show the new one.
const MIN_NEW: usize = 3;
/// A list of more amounts is none.
const MAX_AMOUNTS: usize = 60;
/// Prices change by at most the half, and at least by so many 65 536ths: a hundredth.
const MAX_CHANGE: Ratio = UNCHANGED / 2;
const MIN_CHANGE: Ratio = UNCHANGED / 100;
/// Rounded prices have the same ratio up to so many 65 536ths: a two-hundredth.
const ROUNDING: Ratio = UNCHANGED / 200;

/// A change of all prices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PriceListChange {
    /// The first purchase at the new prices.
    pub(super) at: Time,
    /// New prices as a ratio to the old ones.
    pub(super) ratio: Ratio,
}

/// The last change of all prices among these purchases, oldest first.
pub(super) fn price_list_change(purchases: &[&Purchase<'_>]) -> Option<PriceListChange> {
    let amounts: Vec<Minor> = purchases.iter().map(|purchase| minor(purchase.cost)).collect();
    let mut last: BTreeMap<Minor, usize> = BTreeMap::new();
    for (place, amount) in amounts.iter().enumerate() {
        last.insert(*amount, place);
        if last.len() > MAX_AMOUNTS {
            return None;
        }
    }
    if last.len() * MIN_REPEATED > amounts.len() {
        return None;
    }
    // Behind a place at which every amount has come for the last time, others begin.
    let (mut ends, mut begins) = (0, None);
    for (place, amount) in amounts.iter().enumerate() {
        if place > 0 && ends < place && amounts.len() - place >= MIN_NEW {
            begins = Some(place);
        }
        ends = ends.max(last.get(amount).copied().unwrap_or(place));
    }
    let begins = begins?;
    let [old, new] = [&amounts[..begins], &amounts[begins..]].map(|its| its.iter().copied().collect::<BTreeSet<_>>());
    let ratio_of = |old: Minor, new: Minor| Ratio::try_from(i128::from(new) * 65_536 / i128::from(old.max(1))).ok();
    let newest = *new.first()?;
    let explains = |ratio: &Ratio| {
        let from_old =
            |new: &Minor| old.iter().any(|old| ratio_of(*old, *new).is_some_and(|its| (its - ratio).abs() <= ROUNDING));
        let change = (ratio - UNCHANGED).abs();
        (MIN_CHANGE..=MAX_CHANGE).contains(&change) && new.iter().all(from_old)
    };
    let ratio = old.iter().filter_map(|old| ratio_of(*old, newest)).find(explains)?;
    Some(PriceListChange { at: purchases.get(begins)?.entry.at, ratio })
}
