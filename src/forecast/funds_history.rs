//! Past funds of an account, and the weeks that can be learnt from.

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::depletion::{daily_highs, depleted_weeks};
use super::minor::{Minor, minor};
use super::purchase::Purchase;
use super::requirements::{MIN_HISTORY_DAYS, MIN_PURCHASES};
use crate::domain::Time;
use crate::domain::ledger::LedgerEntry;
use crate::domain::order::Order;

/// Past funds of an account, as far as they explain what was bought.
pub(super) struct FundsHistory {
    today: NaiveDate,
    /// Number of weeks looked at.
    weeks: usize,
    /// Indexes of the weeks that can be learnt from, oldest first.
    pub(super) informative_weeks: Vec<usize>,
    /// Highest funds since each of the last days, newest day first; empty if they do not explain what was bought.
    highest_since: Vec<Minor>,
}

impl FundsHistory {
    /// Computes the funds of these weeks up to `now` from the available funds and the ledger lines up to `now`.
    /// `recent` are the purchases in these weeks.
    pub(super) fn read(
        known: &[LedgerEntry],
        recent: &[&Purchase<'_>],
        (available, typical): (Decimal, Decimal),
        (now, weeks): (Time, usize),
    ) -> Self {
        let daily_highs = daily_highs(known, available, now, 7 * weeks);
        let depleted = depleted_weeks(&daily_highs, typical);
        let informative_weeks = informative_weeks(&depleted, recent, now);
        // If depleted weeks count after all, purchases were made in spite of low funds, so the funds explain nothing.
        let explain_purchases = informative_weeks.len() < weeks || !depleted.contains(&true);
        let highest_since = if explain_purchases { running_maximum(daily_highs) } else { Vec::new() };
        Self { today: now.date_naive(), weeks, informative_weeks, highest_since }
    }

    /// Reports whether a day lies in a week that is left out of everything that is learnt.
    pub(super) fn is_uninformative(&self, day: NaiveDate) -> bool {
        let ago = usize::try_from((self.today - day).num_days()).unwrap_or(usize::MAX);
        let week = self.weeks.checked_sub(1 + ago / 7);
        week.is_some_and(|week| self.informative_weeks.binary_search(&week).is_err())
    }

    /// Reports whether this order could not have been paid at any time in the last `ago` days. If it could have been
    /// paid since, somebody decided against it: whoever pays in just before each order may also have had too little
    /// at `ago`.
    pub(super) fn could_not_pay(&self, order: &Order, ago: i32) -> bool {
        let highest = usize::try_from(ago).ok().and_then(|ago| self.highest_since.get(ago));
        highest.is_some_and(|highest| *highest < minor(order.price))
    }
}

fn running_maximum(values: Vec<Decimal>) -> Vec<Minor> {
    let mut highest = Minor::MIN;
    let running = values.into_iter().map(|value| {
        highest = highest.max(minor(value));
        highest
    });
    running.collect()
}

/// Returns the weeks that are not depleted, or all weeks if too few would be left.
fn informative_weeks(depleted: &[bool], purchases: &[&Purchase<'_>], now: Time) -> Vec<usize> {
    let is_informative = |week: &usize| depleted.get(*week) == Some(&false);
    let week = |at: Time| depleted.len().checked_sub(1 + usize::try_from((now - at).num_days() / 7).ok()?);
    let count =
        purchases.iter().filter(|purchase| week(purchase.entry.at).as_ref().is_some_and(is_informative)).count();
    let (least_weeks, least) = (as_usize(MIN_HISTORY_DAYS / 7), as_usize(MIN_PURCHASES));
    let all = 0..depleted.len();
    let left: Vec<usize> = all.clone().filter(is_informative).collect();
    if left.len() < least_weeks || count < least { all.collect() } else { left }
}

fn as_usize(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
