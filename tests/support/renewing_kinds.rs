//! Tests that accounts that live by renewals are what their kind says.

use std::collections::BTreeSet;

use lowtide::sandbox::world::{Entry, Order, Records};

use crate::ledgers::{self, Case, Kind, RENEWING};
use crate::name;

#[test]
fn accounts_that_live_by_renewals_are_what_their_kind_says() {
    let now = ledgers::now();
    let year = chrono::Duration::days(365);
    for kind in RENEWING {
        let records: Vec<Records> = (0..16).map(|number| Case::new(kind, number).records(0)).collect();
        let orders: Vec<&Order> = records.iter().flat_map(|it| &it.orders).collect();
        let lines: Vec<&Entry> = records.iter().flat_map(|it| &it.entries).collect();
        let share = |of: &dyn Fn(&Order) -> bool, so: &dyn Fn(&Order) -> bool| {
            let chosen: Vec<&&Order> = orders.iter().filter(|order| of(order)).collect();
            chosen.iter().filter(|order| so(order)).count() as f64 / chosen.len() as f64
        };
        let ended = |order: &Order| order.expired(now) && order.ends > now - year;
        let renewed = share(&ended, &|order| order.renewed);
        match kind {
            Kind::YoungerThanAYear => assert!(renewed.is_nan(), "nothing has ended yet"),
            Kind::RenewalsDeclining => assert!((0.5..0.7).contains(&renewed), "{renewed}"),
            Kind::EverySecondNew => assert!((0.45..0.7).contains(&renewed), "{renewed}"),
            _ => assert!((0.82..0.95).contains(&renewed), "{}: {renewed}", name(kind)),
        }
        let unpaid = records.iter().map(without_a_line).sum::<f64>() / records.len() as f64;
        match kind {
            Kind::PartlyPaidByCard => assert!((0.25..0.55).contains(&unpaid), "{unpaid}"),
            Kind::LedgerWithoutOrderIds => assert!(unpaid > 0.999, "{unpaid}"),
            _ => assert!(unpaid < 0.001, "{}: {unpaid}", name(kind)),
        }
        let any = |so: &dyn Fn(&Order) -> bool| orders.iter().any(|order| so(order));
        let without = |order: &Order| !order.expired(now) && order.certificate_ends(now) < now;
        assert_eq!(any(&without), kind == Kind::ReissuesOf199Days, "a certificate that ended before its order");
        assert_eq!(any(&|order| order.reissuing(now)), kind == Kind::ReissuesOf199Days, "a reissue that takes long");
        assert_eq!(any(&|order| order.years > 1), kind == Kind::MultiYearMixed);
        let divisions: BTreeSet<u64> = lines.iter().map(|line| line.division).collect();
        assert_eq!(divisions.len() > 1, kind == Kind::SharedByDivisions);
        let refunds = lines.iter().filter(|line| line.kind == "Refund").count();
        assert_eq!(refunds > 0, kind == Kind::DomainsAndRefunds, "{}: {refunds}", name(kind));
        for its in &records {
            renewals_follow_their_orders(kind, its);
        }
    }
}

/// The share of the orders of the last year that no line of the ledger belongs to.
fn without_a_line(records: &Records) -> f64 {
    let paid: BTreeSet<u64> = records.entries.iter().filter_map(|line| line.order).collect();
    let recent = || records.orders.iter().filter(|it| it.placed > ledgers::now() - chrono::Duration::days(365));
    recent().filter(|order| !paid.contains(&order.id)).count() as f64 / recent().count() as f64
}

/// Each order that was renewed has a renewal for the same name and product, which ends whole years later, unless it was
/// taken back.
fn renewals_follow_their_orders(kind: Kind, records: &Records) {
    let is_renewal = |old: &Order, new: &Order| {
        let same = (&old.common_name, &old.product, old.division) == (&new.common_name, &new.product, new.division);
        same && new.ends == old.ends + chrono::Duration::days(365 * i64::from(new.years))
    };
    let renewed = records.orders.iter().filter(|order| order.renewed);
    let lost = renewed.filter(|old| !records.orders.iter().any(|new| is_renewal(old, new))).count();
    assert!(lost == 0 || kind == Kind::DomainsAndRefunds, "{}: {lost}", name(kind));
}
