//! The past that a forecast draws from: purchases by day in whole weeks, without the renewals, whose turn is known.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::{Decimal, RoundingStrategy};

use super::list_prices::price_list_change;
use super::prices::PriceHistory;
use super::purchases::{Purchase, PurchaseKind, Purchases};
use super::ratio::{Ratio, UNCHANGED, scaled};
use super::renewal_model::{FundsHistory, RenewalModel};
use super::renewals::days_before;
use super::{ForecastUnavailable, MIN_HISTORY_DAYS, MIN_PURCHASES};
use crate::domain::Time;
use crate::domain::ledger::LedgerEntry;
use crate::forecast::depletion::{daily_highs, depleted_weeks};

/// Hundredths of the account's unit: what the forecast counts in.
pub(super) type Minor = i64;
/// What was spent on each day of a week.
pub(super) type WeekSpend = [Minor; 7];

/// More than any account spends on a day; keeps every sum of a year's days far from the end of its type.
const MAX_DAY_SPEND: Minor = 1_000_000_000_000_000;
/// How many weeks are looked at, at most.
const MAX_WEEKS: usize = 52;
/// A ledger begins with its account if its first line found nothing; where that line does not say so, if it is younger than this.
const MAX_YOUNG_AGE: chrono::TimeDelta = chrono::TimeDelta::days(390);
/// A migration takes so many weeks at most, which cost more than so many times as many later ones; its last week alone more
/// than so many times a later one.
const MAX_MIGRATION_WEEKS: usize = 10;
const MIGRATION_FACTOR: i128 = 4;
const LAST_WEEK_FACTOR: i128 = 2;
/// So many weeks must follow it.
const MIN_LATER_WEEKS: usize = 4;
/// A day that costs more than this many halves of a typical week, and of a busy day, is a lump.
const IRREGULAR_HALVES: i64 = 3;
/// A typical week is the median of all weeks, or of so many newest if these cost more.
const RECENT_WEEKS: usize = 12;

/// What happened, in whole weeks counted back from `now`, oldest first. Weeks in which funds were too low to buy with
/// are left out, as if time had stood still: what was not bought in them tells nothing.
pub(super) struct SpendHistory {
    /// The last day.
    pub(super) today: NaiveDate,
    /// The day on which each of the weeks began.
    pub(super) begins: Vec<NaiveDate>,
    /// Days without lumps.
    pub(super) base: Vec<WeekSpend>,
    /// Days that cost more than a week does.
    pub(super) irregular: Vec<WeekSpend>,
    /// Renewals to come.
    pub(super) renewals: RenewalModel,
}

impl SpendHistory {
    pub(super) fn read(
        purchases: &Purchases<'_>,
        (available, typical): (Decimal, Decimal),
    ) -> Result<Self, ForecastUnavailable> {
        let (known, now) = (purchases.known, purchases.now);
        let days = purchases.days_covered().unwrap_or(0);
        if days < MIN_HISTORY_DAYS {
            // Where its first line found something, the account is older than that: it bought nothing for long.
            let is_older =
                known.first().is_some_and(|first| first.balance_after.is_some_and(|after| after != first.change));
            let count = u32::try_from(purchases.all.len()).unwrap_or(u32::MAX).min(MIN_PURCHASES - 1);
            return Err(if is_older {
                ForecastUnavailable::TooFewPurchases { count }
            } else {
                ForecastUnavailable::LedgerTooShort { days }
            });
        }
        let weeks = usize::try_from(days / 7).unwrap_or(MAX_WEEKS).min(MAX_WEEKS);
        let first = now - chrono::Duration::days(7 * i64::try_from(weeks).unwrap_or(0));
        let recent = &purchases.all[purchases.all.partition_point(|purchase| purchase.entry.at <= first)..];
        let recent: Vec<&Purchase<'_>> = recent.iter().filter(|purchase| !purchase.cost.is_zero()).collect();
        let count = u32::try_from(recent.len()).unwrap_or(u32::MAX);
        if count < MIN_PURCHASES {
            return Err(ForecastUnavailable::TooFewPurchases { count });
        }
        let today = now.date_naive();
        let prices = PriceHistory::read(purchases);
        let mut base = base_spend(&recent, purchases, &prices, weeks);
        let moved = migration_weeks(purchases, &base);
        base.drain(..moved);
        let weeks = weeks - moved;
        let begin = now - chrono::Duration::days(7 * i64::try_from(weeks).unwrap_or(0));
        let recent = &recent[recent.partition_point(|purchase| purchase.entry.at <= begin)..];
        if moved > 0 && recent.len() < as_usize(MIN_PURCHASES) {
            // As if one more had been bought: that none was in a few weeks does not mean that none will be.
            base[0][0] = base[0][0].saturating_add(minor(typical)).min(MAX_DAY_SPEND);
        }
        let daily_highs = daily_highs(known, available, now, 7 * weeks);
        let depleted = depleted_weeks(&daily_highs, typical);
        let informative = informative_weeks(&depleted, recent, now);
        let is_uninformative = |day: NaiveDate| {
            let ago = usize::try_from((today - day).num_days()).unwrap_or(usize::MAX);
            weeks.checked_sub(1 + ago / 7).is_some_and(|week| informative.binary_search(&week).is_err())
        };
        let mut most = Minor::MIN;
        let since = daily_highs.into_iter().map(|held| {
            most = most.max(minor(held));
            most
        });
        // Where all weeks count although there was too little in some, purchases were made all the same: nothing could be told from it.
        let are_known = informative.len() < weeks || !depleted.contains(&true);
        let funds = FundsHistory { highest_since: since.filter(|_| are_known).collect(), is_uninformative };
        let renewals = RenewalModel::read(purchases, &prices, &funds);
        let mut base: Vec<WeekSpend> = informative.iter().map(|week| base[*week]).collect();
        let begin = |week: &usize| days_before(today, 7 * u64::try_from(weeks - week).unwrap_or(0));
        let begins = informative.iter().map(begin).collect();
        let irregular = take_irregular(&mut base);
        Ok(Self { today, begins, base, irregular, renewals })
    }
}

/// What was bought beside renewals on each day of these weeks, at the prices of today.
fn base_spend(
    recent: &[&Purchase<'_>],
    purchases: &Purchases<'_>,
    prices: &PriceHistory<'_>,
    weeks: usize,
) -> Vec<WeekSpend> {
    let (now, today) = (purchases.now, purchases.now.date_naive());
    let mut ratios: BTreeMap<usize, Ratio> = BTreeMap::new();
    let change = price_list_change(recent);
    let mut base = vec![WeekSpend::default(); weeks];
    for purchase in recent.iter().filter(|purchase| purchase.kind != PurchaseKind::Renewal) {
        let ago = usize::try_from((now - purchase.entry.at).num_days()).unwrap_or(usize::MAX);
        let Some(week) = weeks.checked_sub(1 + ago / 7) else { continue };
        let own = purchase.order.map_or(UNCHANGED, |order| {
            *ratios.entry(order).or_insert_with(|| median(prices.same_product_ratios(&purchases.orders[order], today)))
        });
        let ratio = match change {
            Some(change) if own == UNCHANGED && purchase.entry.at < change.at => change.ratio,
            _ => own,
        };
        let cost = scaled(minor(purchase.cost), ratio);
        let day = &mut base[week][6 - ago % 7];
        *day = day.saturating_add(cost).min(MAX_DAY_SPEND);
    }
    base
}

/// How many weeks an account that began within its ledger took to move its certificates here: a first run of weeks that cost
/// much more than the later ones do. It moves them once.
fn migration_weeks(purchases: &Purchases<'_>, base: &[WeekSpend]) -> usize {
    let begins = |line: &LedgerEntry| match line.balance_after {
        Some(after) => after == line.change,
        None => purchases.now - line.at < MAX_YOUNG_AGE,
    };
    if purchases.orders.is_empty() || !purchases.known.first().is_some_and(begins) {
        return 0;
    }
    let totals: Vec<i128> = base.iter().map(|week| week.iter().map(|day| i128::from(*day)).sum()).collect();
    let is_migration = |weeks: &usize| {
        let (moved, later) = totals.split_at(*weeks);
        let many = |weeks: &[i128], times: i128| {
            let (sum, count) = (weeks.iter().sum::<i128>(), i128::try_from(weeks.len()).unwrap_or(1));
            let (most, later_count) = (later.iter().sum::<i128>(), i128::try_from(later.len()).unwrap_or(1));
            sum * later_count > most * count * times
        };
        many(moved, MIGRATION_FACTOR) && moved.last().is_some_and(|last| many(&[*last], LAST_WEEK_FACTOR))
    };
    let longest = MAX_MIGRATION_WEEKS.min(totals.len().saturating_sub(MIN_LATER_WEEKS));
    (1..=longest).rev().find(is_migration).unwrap_or(0)
}

/// The middle of these, the lower one of two; 0 where there are none.
fn median(mut values: Vec<Minor>) -> Minor {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

/// The weeks that tell something: those in which there was enough to buy with, or all where too few are left of them.
fn informative_weeks(depleted: &[bool], purchases: &[&Purchase<'_>], now: Time) -> Vec<usize> {
    let is_informative = |week: &usize| depleted.get(*week) == Some(&false);
    let week = |at: Time| depleted.len().checked_sub(1 + usize::try_from((now - at).num_days() / 7).ok()?);
    let count = purchases.iter().filter(|it| week(it.entry.at).as_ref().is_some_and(is_informative)).count();
    let (least_weeks, least) = (as_usize(MIN_HISTORY_DAYS / 7), as_usize(MIN_PURCHASES));
    let all = 0..depleted.len();
    let left: Vec<usize> = all.clone().filter(is_informative).collect();
    if left.len() < least_weeks || count < least { all.collect() } else { left }
}

fn as_usize(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Rounded to hundredths, away from 0; never more than a day may cost.
pub(super) fn minor(amount: Decimal) -> Minor {
    let whole = match amount.scale() {
        0 => amount.mantissa() * 100,
        1 => amount.mantissa() * 10,
        2 => amount.mantissa(),
        _ => amount.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero).mantissa(),
    };
    let most = i128::from(MAX_DAY_SPEND);
    Minor::try_from(whole.clamp(-most, most)).unwrap_or(MAX_DAY_SPEND)
}

/// Moves the days that cost much more than a typical week and a busy day into weeks of their own.
fn take_irregular(base: &mut [WeekSpend]) -> Vec<WeekSpend> {
    let totals: Vec<Minor> = base.iter().map(|week| week.iter().sum()).collect();
    let recent = &totals[totals.len().saturating_sub(RECENT_WEEKS)..];
    // Where the pace has grown, its usual days are no lumps.
    let typical = median(totals.clone()).max(median(recent.to_vec()));
    // Nor are those of somebody who buys all of a week's orders on one day.
    let mut days: Vec<Minor> = base.iter().flatten().copied().filter(|day| *day > 0).collect();
    days.sort_unstable();
    let busy = days.get(days.len() * 9 / 10).copied().unwrap_or(0);
    let usual = typical.max(busy);
    let mut irregular = vec![WeekSpend::default(); base.len()];
    for (week, irregular_week) in base.iter_mut().zip(&mut irregular) {
        for (day, irregular_day) in week.iter_mut().zip(irregular_week) {
            if *day > usual / 2 * IRREGULAR_HALVES {
                *irregular_day = std::mem::take(day);
            }
        }
    }
    irregular
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_hundredths_and_bounded() {
        let of = |amount: &str| minor(amount.parse().unwrap());
        assert_eq!(["1", "1.5", "1.25", "-3.0"].map(of), [100, 150, 125, -300]);
        assert_eq!(["1.255", "-1.255", "0.00000001", "2.000000"].map(of), [126, -126, 0, 200]);
        assert_eq!(["99999999999999999999", "-99999999999999999999.5"].map(of), [MAX_DAY_SPEND, -MAX_DAY_SPEND]);
    }
}
