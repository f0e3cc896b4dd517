//! Past spend that a forecast draws from: purchases by day in whole weeks, without renewals, which are modelled by
//! order.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::funds_history::FundsHistory;
use super::list_prices::price_list_change;
use super::minor::{MAX_DAY_SPEND, Minor, minor};
use super::prices::PriceHistory;
use super::purchase::{Purchase, PurchaseKind};
use super::purchases::Purchases;
use super::ratio::{Ratio, UNCHANGED, scaled};
use super::renewal_model::RenewalModel;
use super::renewal_window::days_before;
use super::requirements::{ForecastUnavailable, MIN_HISTORY_DAYS, MIN_PURCHASES};
use crate::domain::Time;
use crate::domain::ledger::LedgerEntry;

/// Spend on each day of a week.
pub(super) type WeekSpend = [Minor; 7];

/// Number of weeks that are used, at most.
const MAX_WEEKS: usize = 52;
/// Age below which an account is assumed to have begun with its ledger, if the first line does not say so.
const MAX_YOUNG_AGE: chrono::TimeDelta = chrono::TimeDelta::days(390);
/// Longest migration in weeks. Its weeks cost on average more than `MIGRATION_FACTOR` times the most expensive
/// average of later weeks, and its last week more than `LAST_WEEK_FACTOR` times.
const MAX_MIGRATION_WEEKS: usize = 10;
const MIGRATION_FACTOR: i128 = 4;
const LAST_WEEK_FACTOR: i128 = 2;
/// Number of weeks that must follow a migration.
const MIN_LATER_WEEKS: usize = 4;
/// A day is irregular if it costs more than this number of halves of a typical week and of a busy day.
const IRREGULAR_HALVES: i64 = 3;
/// A typical week is the median of all weeks, or of this number of the newest weeks if that is higher.
const RECENT_WEEKS: usize = 12;

/// Past spend in whole weeks counted back from `now`, oldest first. Depleted weeks are left out, as if time had
/// stopped, since the missing purchases in them say nothing about the account.
pub(super) struct SpendHistory {
    /// Day of the forecast.
    pub(super) today: NaiveDate,
    /// Day on which each week began.
    pub(super) begins: Vec<NaiveDate>,
    /// Regular spend of each week.
    pub(super) base: Vec<WeekSpend>,
    /// Spend on irregular days.
    pub(super) irregular: Vec<WeekSpend>,
    /// Model of the future renewals.
    pub(super) renewals: RenewalModel,
}

impl SpendHistory {
    /// Reads the past of a fund with these available funds, in which a typical order costs `typical`.
    pub(super) fn read(
        purchases: &Purchases<'_>,
        (available, typical): (Decimal, Decimal),
    ) -> Result<Self, ForecastUnavailable> {
        let (now, today) = (purchases.now, purchases.now.date_naive());
        let weeks = usable_weeks(purchases)?;
        let recent = recent_purchases(purchases, weeks)?;
        let prices = PriceHistory::read(purchases);
        let mut base = base_spend(&recent, purchases, &prices, weeks);
        let migration = migration_weeks(purchases, &base);
        base.drain(..migration);
        let weeks = weeks - migration;
        let recent = &recent[recent.partition_point(|purchase| purchase.entry.at <= weeks_before(now, weeks))..];
        if migration > 0 && u32::try_from(recent.len()).is_ok_and(|count| count < MIN_PURCHASES) {
            // Assumes one more purchase: none within a few weeks does not mean none ever.
            base[0][0] = base[0][0].saturating_add(minor(typical)).min(MAX_DAY_SPEND);
        }
        let funds = FundsHistory::read(purchases.known, recent, (available, typical), (now, weeks));
        let renewals = RenewalModel::read(purchases, &prices, &funds);
        let mut base: Vec<WeekSpend> = funds.informative_weeks.iter().map(|week| base[*week]).collect();
        let begin = |week: &usize| days_before(today, 7 * u64::try_from(weeks - week).unwrap_or(0));
        let begins = funds.informative_weeks.iter().map(begin).collect();
        let irregular = take_irregular(&mut base);
        Ok(Self { today, begins, base, irregular, renewals })
    }
}

/// Returns the number of whole weeks that the ledger covers, up to `MAX_WEEKS`.
fn usable_weeks(purchases: &Purchases<'_>) -> Result<usize, ForecastUnavailable> {
    let days = purchases.days_covered().unwrap_or(0);
    if days >= MIN_HISTORY_DAYS {
        return Ok(usize::try_from(days / 7).unwrap_or(MAX_WEEKS).min(MAX_WEEKS));
    }
    // Funds before the first line show that the account is older: it just bought nothing for a long time.
    let had_funds = |first: &LedgerEntry| first.balance_after.is_some_and(|after| after != first.change);
    if purchases.known.first().is_some_and(had_funds) {
        let count = u32::try_from(purchases.all.len()).unwrap_or(u32::MAX).min(MIN_PURCHASES - 1);
        return Err(ForecastUnavailable::TooFewPurchases { count });
    }
    Err(ForecastUnavailable::LedgerTooShort { days })
}

/// Returns the purchases of the last weeks that were not fully refunded.
fn recent_purchases<'p, 'l>(
    purchases: &'p Purchases<'l>,
    weeks: usize,
) -> Result<Vec<&'p Purchase<'l>>, ForecastUnavailable> {
    let first = weeks_before(purchases.now, weeks);
    let recent = &purchases.all[purchases.all.partition_point(|purchase| purchase.entry.at <= first)..];
    let recent: Vec<&Purchase<'_>> = recent.iter().filter(|purchase| !purchase.cost.is_zero()).collect();
    let count = u32::try_from(recent.len()).unwrap_or(u32::MAX);
    if count < MIN_PURCHASES { Err(ForecastUnavailable::TooFewPurchases { count }) } else { Ok(recent) }
}

fn weeks_before(now: Time, weeks: usize) -> Time {
    now - chrono::Duration::days(7 * i64::try_from(weeks).unwrap_or(0))
}

/// Returns the spend besides renewals on each day of these weeks, at today's prices.
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

/// Returns the number of weeks in which a new account migrated its certificates: a first run of weeks that cost much
/// more than later ones.
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

/// Returns the median, the lower one of two; 0 if there are no values.
fn median(mut values: Vec<Minor>) -> Minor {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

/// Moves the irregular days, which cost much more than a typical week and a busy day, into weeks of their own.
fn take_irregular(base: &mut [WeekSpend]) -> Vec<WeekSpend> {
    let totals: Vec<Minor> = base.iter().map(|week| week.iter().sum()).collect();
    let recent = &totals[totals.len().saturating_sub(RECENT_WEEKS)..];
    // If spend has grown, its usual days are not irregular.
    let typical = median(totals.clone()).max(median(recent.to_vec()));
    // Nor are those of an account that buys all of a week's orders on one day.
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
