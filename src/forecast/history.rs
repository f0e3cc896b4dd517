//! The past that a forecast draws from: purchases by day in whole weeks, without the renewals, whose turn is known.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;

use super::drought::starved;
use super::renewals::{days_before, days_until, is_open};
use super::spending::until;
use super::{HORIZON_DAYS, LEAST_HISTORY_DAYS, LEAST_PURCHASES, NotYet, Spending};
use crate::domain::Time;
use crate::domain::books::{Entry, Ledger, Order};

/// Hundredths of the account's unit: what the forecast counts in.
pub(super) type Minor = i64;
/// What was spent on each day of a week.
pub(super) type Week = [Minor; 7];

/// More than any account spends on a day; keeps every sum of a year's days far from the end of its type.
const MOST_A_DAY: Minor = 1_000_000_000_000_000;
/// How many weeks are looked at, at most.
const MOST_WEEKS: usize = 52;
/// A renewal is paid at most so many days before its order ends …
const EARLIEST_RENEWAL: u64 = 90;
/// … and at most so many after.
const LATEST_RENEWAL: i64 = 7;
/// A day that costs more than this many halves of a typical week is a lump.
const LUMP_HALVES: i64 = 3;

/// What happened, in whole weeks counted back from `now`, oldest first. Weeks in which funds were too low to buy with
/// are left out, as if time had stood still: what was not bought in them tells nothing.
pub(super) struct History {
    /// The last day.
    pub(super) today: NaiveDate,
    /// The day on which each of the weeks began.
    pub(super) begins: Vec<NaiveDate>,
    /// Days without lumps.
    pub(super) body: Vec<Week>,
    /// Days that cost more than a week does.
    pub(super) lumps: Vec<Week>,
    /// Renewals to come.
    pub(super) dues: Vec<Due>,
    /// How many days before its end each order was renewed, shortest first.
    pub(super) leads: Vec<u32>,
    /// Orders that ended in the last year and were renewed.
    pub(super) renewed: u32,
    /// Orders that ended in the last year and were not.
    pub(super) lapsed: u32,
}

/// One renewal to come.
pub(super) struct Due {
    pub(super) price: Minor,
    /// Until its order ends.
    pub(super) days: u32,
    /// How many of the past leads are no longer than that.
    pub(super) leads: usize,
}

impl History {
    pub(super) fn read(
        ledger: &Ledger,
        orders: Option<&[Order]>,
        spending: &Spending,
        (available, usual): (Decimal, Decimal),
        now: Time,
    ) -> Result<Self, NotYet> {
        let known = until(ledger, now);
        let days = known.first().map_or(0, |first| (now - first.at).num_days());
        let days = u32::try_from(days).unwrap_or(u32::MAX);
        if days < LEAST_HISTORY_DAYS {
            return Err(NotYet::TooShort { days });
        }
        let weeks = usize::try_from(days / 7).unwrap_or(MOST_WEEKS).min(MOST_WEEKS);
        let first = now - chrono::Duration::days(7 * i64::try_from(weeks).unwrap_or(0));
        let recent = &known[known.partition_point(|entry| entry.at <= first)..];
        let purchases: Vec<(&Entry, Decimal)> =
            recent.iter().filter_map(|entry| Some((entry, spending.spent(entry)?))).collect();
        let count = u32::try_from(purchases.len()).unwrap_or(u32::MAX);
        if count < LEAST_PURCHASES {
            return Err(NotYet::TooFewPurchases { count });
        }
        let today = now.date_naive();
        let orders = orders.unwrap_or_default();
        let paid = paid_renewals(&purchases, orders);
        let renewals = renewals_among(&purchases, &paid);
        let mut leads: Vec<u32> = paid.iter().map(|paid| paid.lead).collect();
        leads.sort_unstable();
        let mut body = vec![Week::default(); weeks];
        for ((entry, amount), _) in purchases.iter().zip(renewals).filter(|(_, renewal)| !renewal) {
            let ago = usize::try_from((now - entry.at).num_days()).unwrap_or(usize::MAX);
            let Some(week) = weeks.checked_sub(1 + ago / 7) else { continue };
            let day = &mut body[week][6 - ago % 7];
            *day = day.saturating_add(minor(*amount)).min(MOST_A_DAY);
        }
        let told = told(&starved(known, available, usual, now, weeks), &purchases, now);
        let mut body: Vec<Week> = told.iter().map(|week| body[*week]).collect();
        let begin = |week: &usize| days_before(today, 7 * u64::try_from(weeks - week).unwrap_or(0));
        let begins = told.iter().map(begin).collect();
        let lumps = take_lumps(&mut body);
        let (renewed, lapsed) = ended(orders, today);
        Ok(Self { today, begins, body, lumps, dues: dues(orders, &leads, today), leads, renewed, lapsed })
    }
}

/// The weeks that tell something: those in which there was enough to buy with, or all where too few are left of them.
fn told(starved: &[bool], purchases: &[(&Entry, Decimal)], now: Time) -> Vec<usize> {
    let told = |week: &usize| starved.get(*week) == Some(&false);
    let week = |at: Time| starved.len().checked_sub(1 + usize::try_from((now - at).num_days() / 7).ok()?);
    let count = purchases.iter().filter(|(entry, _)| week(entry.at).as_ref().is_some_and(told)).count();
    let (least_weeks, least) = (wide(LEAST_HISTORY_DAYS / 7), wide(LEAST_PURCHASES));
    let all = 0..starved.len();
    let left: Vec<usize> = all.clone().filter(told).collect();
    if left.len() < least_weeks || count < least { all.collect() } else { left }
}

fn wide(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Rounded to hundredths, away from 0; never more than a day may cost.
pub(super) fn minor(amount: Decimal) -> Minor {
    let most = Decimal::from(MOST_A_DAY);
    amount.checked_mul(Decimal::ONE_HUNDRED).map_or(most, |it| it.min(most).max(-most)).round().to_i64().unwrap_or(0)
}

/// When each renewed order was renewed, as far as the ledger tells: when the purchase was made that took its place.
pub fn renewed_at(ledger: &Ledger, orders: &[Order], spending: &Spending) -> BTreeMap<u64, Time> {
    let entries = ledger.entries().iter();
    let purchases: Vec<(&Entry, Decimal)> = entries.filter_map(|it| Some((it, spending.spent(it)?))).collect();
    paid_renewals(&purchases, orders).into_iter().map(|paid| (paid.order, purchases[paid.place].0.at)).collect()
}

/// A purchase that renewed an order.
struct Paid {
    /// Its place among the purchases.
    place: usize,
    /// The order that it renewed.
    order: u64,
    /// How many days before its end.
    lead: u32,
}

/// For each purchase, whether it renewed an order.
fn renewals_among(purchases: &[(&Entry, Decimal)], paid: &[Paid]) -> Vec<bool> {
    let mut renewals = vec![false; purchases.len()];
    for paid in paid {
        renewals[paid.place] = true;
    }
    renewals
}

/// Which purchases renewed an order, and how many days before its end each did.
///
/// Of the debits of exactly its price, from 90 days before its end to 7 days after, that do not pay for the order itself:
/// the one whose own order ends whole years later, else the one nearest to the end. Each debit renews one order at most.
fn paid_renewals(purchases: &[(&Entry, Decimal)], orders: &[Order]) -> Vec<Paid> {
    if !orders.iter().any(|order| order.renewed) {
        return Vec::new();
    }
    let mut by_price: BTreeMap<Decimal, Vec<usize>> = BTreeMap::new();
    for (place, (_, amount)) in purchases.iter().enumerate() {
        by_price.entry(*amount).or_default().push(place);
    }
    let ends: BTreeMap<u64, NaiveDate> = orders.iter().map(|order| (order.id, last_day(order))).collect();
    let mut taken = vec![false; purchases.len()];
    let mut paid = Vec::new();
    let mut renewed: Vec<(NaiveDate, &Order)> =
        orders.iter().filter(|order| order.renewed).map(|order| (last_day(order), order)).collect();
    renewed.sort_by_key(|(end, order)| (*end, order.id));
    for (end, order) in renewed {
        let Some(same) = by_price.get(&order.price) else { continue };
        let from = days_before(end, EARLIEST_RENEWAL);
        let first = same.partition_point(|place| purchases[*place].0.at.date_naive() < from);
        let lead = |place: usize| (end - purchases[place].0.at.date_naive()).num_days();
        let follows = |place: usize| {
            let own = purchases[place].0.order.and_then(|id| ends.get(&id));
            own.is_some_and(|own| (*own - end).num_days().rem_euclid(365) <= 1 && *own > end)
        };
        let best = same[first..]
            .iter()
            .copied()
            .take_while(|place| lead(*place) >= -LATEST_RENEWAL)
            .filter(|place| !taken[*place] && purchases[*place].0.order != Some(order.id))
            .min_by_key(|place| (!follows(*place), lead(*place) <= 0, lead(*place).abs()));
        if let Some(place) = best {
            taken[place] = true;
            paid.push(Paid { place, order: order.id, lead: u32::try_from(lead(place)).unwrap_or(0) });
        }
    }
    paid
}

/// The day on which an order ends, as near as is known.
fn last_day(order: &Order) -> NaiveDate {
    order.probably_ends().unwrap_or(order.certificate_ends)
}

/// How many orders of the last year were renewed, and how many were not.
fn ended(orders: &[Order], today: NaiveDate) -> (u32, u32) {
    let (from, to) = (days_before(today, 365), days_before(today, 7));
    let over = |order: &&Order| order.ends().is_some_and(|end| end >= from && end < to);
    let count = |renewed: bool| orders.iter().filter(over).filter(|order| order.renewed == renewed).count();
    (u32::try_from(count(true)).unwrap_or(u32::MAX), u32::try_from(count(false)).unwrap_or(u32::MAX))
}

/// What has to be renewed within the horizon. An order whose end is in doubt ends when what it was bought for is over.
fn dues(orders: &[Order], leads: &[u32], today: NaiveDate) -> Vec<Due> {
    let due = |order: &Order| {
        let days = days_until(today, order.probably_ends()?)
            .filter(|days| u64::from(*days) < u64::from(HORIZON_DAYS) + EARLIEST_RENEWAL)?;
        Some(Due { price: minor(order.price), days, leads: leads.partition_point(|lead| *lead <= days) })
    };
    orders.iter().filter(|order| is_open(order, today)).filter_map(due).collect()
}

/// Moves the days that cost more than one and a half typical weeks into weeks of their own.
fn take_lumps(body: &mut [Week]) -> Vec<Week> {
    let mut totals: Vec<Minor> = body.iter().map(|week| week.iter().sum()).collect();
    totals.sort_unstable();
    let typical = totals.get(totals.len() / 2).copied().unwrap_or(0);
    let mut lumps = vec![Week::default(); body.len()];
    for (week, lumps) in body.iter_mut().zip(&mut lumps) {
        for (day, lump) in week.iter_mut().zip(lumps) {
            if *day > typical / 2 * LUMP_HALVES {
                *lump = std::mem::take(day);
            }
        }
    }
    lumps
}
