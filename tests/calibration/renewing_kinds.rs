//! Tests that the generated accounts that live on renewals match the descriptions of their kinds.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Datelike as _;
use lowtide::domain::Time;
use lowtide::sandbox::world::{AccountRecords, SimulatedEntry, SimulatedOrder};

use crate::accounts::{self, AccountKind, GeneratedAccount, RENEWING, RENEWING_HELD_OUT, RENEWING_ONCE_HELD_OUT, name};

mod held_out;

#[test]
fn accounts_that_live_on_renewals_match_their_kind() {
    let now = accounts::now();
    let year = chrono::Duration::days(365);
    for kind in all() {
        let records = records_of(kind);
        let orders: Vec<&SimulatedOrder> = records.iter().flat_map(|it| &it.orders).collect();
        let lines: Vec<&SimulatedEntry> = records.iter().flat_map(|it| &it.entries).collect();
        let share = |of: &dyn Fn(&SimulatedOrder) -> bool, so: &dyn Fn(&SimulatedOrder) -> bool| {
            let chosen: Vec<&&SimulatedOrder> = orders.iter().filter(|order| of(order)).collect();
            chosen.iter().filter(|order| so(order)).count() as f64 / chosen.len() as f64
        };
        let ended = |order: &SimulatedOrder| order.expired(now) && order.ends > now - year;
        let renewed = share(&ended, &|order| order.renewed);
        match kind {
            AccountKind::YoungerThanAYear => assert!(renewed.is_nan(), "no order has ended yet"),
            AccountKind::RenewalsDeclining => assert!((0.5..0.7).contains(&renewed), "{renewed}"),
            AccountKind::EverySecondNew | AccountKind::RenewalsAndBatches => {
                assert!((0.45..0.7).contains(&renewed), "{renewed}")
            }
            AccountKind::ChangingShare => assert!((0.65..0.9).contains(&renewed), "{renewed}"),
            AccountKind::RenewalsByAutomation | AccountKind::OrdersOf90To199Days => {
                assert!((0.9..0.99).contains(&renewed), "{}: {renewed}", name(kind));
            }
            AccountKind::RenewalsForClients | AccountKind::WildcardsReplaceOrders => {
                assert!((0.6..0.85).contains(&renewed), "{}: {renewed}", name(kind));
            }
            _ => assert!((0.82..0.95).contains(&renewed), "{}: {renewed}", name(kind)),
        }
        let unpaid = records.iter().map(share_without_entry).sum::<f64>() / records.len() as f64;
        match kind {
            AccountKind::PartlyPaidByCard => assert!((0.25..0.55).contains(&unpaid), "{unpaid}"),
            AccountKind::RenewalsForClients => assert!((0.1..0.4).contains(&unpaid), "{unpaid}"),
            AccountKind::LedgerWithoutOrderIds => assert!(unpaid > 0.999, "{unpaid}"),
            _ => assert!(unpaid < 0.001, "{}: {unpaid}", name(kind)),
        }
        let any = |so: &dyn Fn(&SimulatedOrder) -> bool| orders.iter().any(|order| so(order));
        assert_eq!(any(&|order| order.auto_renew), kind == AccountKind::RenewalsByAutomation);
        let without = |order: &SimulatedOrder| !order.expired(now) && order.certificate_ends(now) < now;
        assert_eq!(any(&without), kind == AccountKind::ReissuesOf199Days, "certificates that end before their orders");
        assert_eq!(
            any(&|order| order.reissuing(now)),
            kind == AccountKind::ReissuesOf199Days,
            "a reissue that takes long"
        );
        assert_eq!(any(&|order| order.years > 1), kind == AccountKind::MultiYearMixed);
        assert_eq!(any(&|order| order.years == 0), kind == AccountKind::OrdersOf90To199Days);
        let divisions: BTreeSet<u64> = lines.iter().map(|line| line.division).collect();
        assert_eq!(divisions.len() > 1, kind == AccountKind::SharedByDivisions);
        let refunds = lines.iter().filter(|line| line.kind == "Refund").count();
        assert_eq!(refunds > 0, kind == AccountKind::DomainsAndRefunds, "{}: {refunds}", name(kind));
        for its in &records {
            renewals_follow_their_orders(kind, its);
        }
    }
}

#[test]
fn automatic_renewals_come_30_days_before_the_end() {
    let records = records_of(AccountKind::RenewalsByAutomation);
    let leads = || records.iter().flat_map(renewals).filter(|it| is_recent(it.new.placed)).map(|it| it.lead());
    assert!((0.8..0.99).contains(&share(leads(), |lead| lead == 30)), "some came later for lack of funds");
    assert!(leads().all(|lead| (15..=30).contains(&lead)), "{:?}", leads().min());
    let purchases = records.iter().flat_map(purchases);
    assert!(share(purchases, |it| it.renewal) > 0.93, "hardly any order is new");
}

#[test]
fn accounts_of_one_month_renew_on_tuesdays() {
    let records = records_of(AccountKind::RenewalsInOneMonth);
    let placed = || records.iter().flat_map(renewals).map(|it| it.new.placed).filter(|at| is_recent(*at));
    assert!(share(placed(), |at| at.weekday() == chrono::Weekday::Tue) > 0.9);
    for its in &records {
        let ends: Vec<i64> =
            its.orders.iter().map(|it| (it.ends - accounts::now()).num_days().rem_euclid(365)).collect();
        let in_month = |first: i64| share(ends.iter(), |end| (*end - first).rem_euclid(365) < 28);
        let most = (0..365).map(in_month).fold(0.0, f64::max);
        assert!((0.5..0.95).contains(&most), "{most}");
        let placed = renewals(its).iter().map(|it| it.new.placed).filter(|at| is_recent(*at)).collect::<Vec<_>>();
        let weeks: BTreeSet<_> = placed.iter().map(chrono::Datelike::iso_week).collect();
        assert!(weeks.len() > 4, "batches are spread over weeks");
    }
}

#[test]
fn growing_accounts_buy_more_new_orders_each_week() {
    let records = records_of(AccountKind::GrowingByRenewals);
    let weeks_ago = |at: Time| (accounts::now() - at).num_weeks();
    let new = || records.iter().flat_map(purchases).filter(|it| !it.renewal).map(|it| weeks_ago(it.at));
    let (late, early) =
        (new().filter(|weeks| *weeks < 24).count(), new().filter(|weeks| (24..48).contains(weeks)).count());
    let weekly = (late as f64 / early as f64).powf(1.0 / 24.0);
    assert!((1.02..1.04).contains(&weekly), "{weekly}");
}

#[test]
fn product_changes_affect_a_third_of_the_renewals() {
    let records = records_of(AccountKind::ProductChange);
    let renewals = || records.iter().flat_map(renewals);
    let changed = share(renewals(), |it| it.new.product != it.old.product);
    assert!((0.3..0.37).contains(&changed), "{changed}");
    let more_expensive = share(renewals().filter(|it| it.new.price != it.old.price), |it| it.new.price > it.old.price);
    assert!((0.3..0.7).contains(&more_expensive), "{more_expensive}");
}

#[test]
fn a_changed_share_applies_to_the_latest_renewals() {
    let now = accounts::now();
    let renewed = |its: &[AccountRecords], days: std::ops::Range<i64>| {
        let orders = its.iter().flat_map(|it| &it.orders).filter(|it| days.contains(&(now - it.ends).num_days()));
        // Some of the orders that have just ended will be renewed late.
        share(orders.filter(|it| it.expired(now)), |it| it.renewed)
    };
    let (before, after) = (365..730, 0..30);
    let is_high = |its: &AccountRecords| renewed(std::slice::from_ref(its), before.clone()) > 0.8;
    let (falling, rising): (Vec<_>, Vec<_>) = records_of(AccountKind::ChangingShare).into_iter().partition(is_high);
    let shares = [&falling, &rising].map(|its| (renewed(its, before.clone()), renewed(its, after.clone())));
    assert!((0.9..0.97).contains(&shares[0].0) && (0.5..0.7).contains(&shares[0].1), "{shares:?}");
    assert!((0.5..0.7).contains(&shares[1].0) && (0.85..0.97).contains(&shares[1].1), "{shares:?}");
}

#[test]
fn accounts_of_renewals_and_batches_buy_in_batches() {
    let records = records_of(AccountKind::RenewalsAndBatches);
    let new = share(records.iter().flat_map(purchases), |it| !it.renewal);
    assert!((0.4..0.6).contains(&new), "{new}");
    let mut days = BTreeMap::new();
    for (account, its) in records.iter().enumerate() {
        for purchase in purchases(its).into_iter().filter(|it| !it.renewal) {
            *days.entry((account, purchase.at.date_naive())).or_insert(0) += 1;
        }
    }
    let batches: Vec<usize> = days.values().copied().filter(|orders| *orders >= 4).collect();
    let in_batches = batches.iter().sum::<usize>() as f64 / days.values().sum::<usize>() as f64;
    assert!(in_batches > 0.9, "{in_batches}");
    let apart = records.len() * 365 / batches.len();
    assert!((14..42).contains(&apart), "{apart} days");
}

/// All kinds that live on renewals.
fn all() -> impl Iterator<Item = AccountKind> {
    RENEWING.into_iter().chain(RENEWING_ONCE_HELD_OUT).chain(RENEWING_HELD_OUT)
}

fn records_of(kind: AccountKind) -> Vec<AccountRecords> {
    (0..16).map(|number| GeneratedAccount::new(kind, number).records(0)).collect()
}

/// Returns the share of the items for which something is true.
fn share<T>(all: impl Iterator<Item = T>, is_so: impl Fn(T) -> bool) -> f64 {
    let (mut so, mut count) = (0, 0);
    for it in all {
        count += 1;
        so += u32::from(is_so(it));
    }
    f64::from(so) / f64::from(count)
}

/// Reports whether a time is within the last year.
fn is_recent(at: Time) -> bool {
    at > accounts::now() - chrono::Duration::days(365)
}

/// Returns the days from the date of one time to that of another.
fn days(from: Time, to: Time) -> i64 {
    (to.date_naive() - from.date_naive()).num_days()
}

/// An order and its renewal.
struct RenewalPair<'r> {
    old: &'r SimulatedOrder,
    new: &'r SimulatedOrder,
}

impl RenewalPair<'_> {
    /// Returns the days from the renewal to the end of the order.
    fn lead(&self) -> i64 {
        days(self.new.placed, self.old.ends)
    }
}

/// Returns the renewals: orders for the same name that end whole years after the renewed order, or as long after
/// their own date as they were bought for.
fn renewals(records: &AccountRecords) -> Vec<RenewalPair<'_>> {
    let mut by_name: BTreeMap<_, Vec<&SimulatedOrder>> = BTreeMap::new();
    for order in &records.orders {
        by_name.entry((&order.common_name, order.division)).or_default().push(order);
    }
    let follows = |old: &SimulatedOrder, new: &SimulatedOrder| {
        let adds = new.years > 0 && days(old.ends, new.ends) == 365 * i64::from(new.years);
        let begins_anew = match new.years {
            0 => days(new.placed, new.ends) == days(old.placed, old.ends),
            years => new.placed > old.ends && days(new.placed, new.ends) == 365 * i64::from(years),
        };
        adds || begins_anew && (-90..=30).contains(&days(old.ends, new.placed))
    };
    let renewed = records.orders.iter().filter(|old| old.renewed);
    let pairs = renewed.filter_map(|old| {
        let orders = &by_name[&(&old.common_name, old.division)];
        Some(RenewalPair { old, new: orders.iter().find(|new| follows(old, new))? })
    });
    pairs.collect()
}

struct RecordedPurchase {
    at: Time,
    renewal: bool,
}

/// Returns the orders of the last year, and whether each is a renewal.
fn purchases(records: &AccountRecords) -> Vec<RecordedPurchase> {
    let renewals: BTreeSet<u64> = renewals(records).iter().map(|it| it.new.id).collect();
    let recent = records.orders.iter().filter(|it| is_recent(it.placed));
    recent.map(|it| RecordedPurchase { at: it.placed, renewal: renewals.contains(&it.id) }).collect()
}

/// Returns the share of the orders of the last year that have no ledger line.
fn share_without_entry(records: &AccountRecords) -> f64 {
    let paid: BTreeSet<u64> = records.entries.iter().filter_map(|line| line.order).collect();
    let recent = || records.orders.iter().filter(|it| it.placed > accounts::now() - chrono::Duration::days(365));
    recent().filter(|order| !paid.contains(&order.id)).count() as f64 / recent().count() as f64
}

/// Checks that each renewed order has its renewal, unless it was refunded, for the same product unless products
/// change.
fn renewals_follow_their_orders(kind: AccountKind, records: &AccountRecords) {
    let renewals = renewals(records);
    let lost = records.orders.iter().filter(|order| order.renewed).count() - renewals.len();
    assert!(lost == 0 || kind == AccountKind::DomainsAndRefunds, "{}: {lost}", name(kind));
    let is_same = |it: &RenewalPair| it.new.product == it.old.product || kind == AccountKind::ProductChange;
    assert!(renewals.iter().all(is_same), "{}", name(kind));
}
