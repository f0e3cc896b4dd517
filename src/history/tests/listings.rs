//! Tests of the listings of orders: their ranges, and orders of undocumented statuses.

use super::*;

#[tokio::test(start_paused = true)]
async fn orders_that_ended_long_ago_are_listed_once_and_kept() {
    let harness = harness();
    let orders = [expired(1, 411), expired(2, 410), expired(3, 409), expired(4, 70), expired(5, 61), expired(6, 60)];
    *harness.fake_source.orders.lock().unwrap() = orders.into_iter().chain([order(7, 150, 1, None)]).collect();
    harness.request(&[None]).wait_until_settled(&[None]).await;
    assert_eq!(without_ledgers(harness.fake_source.take_requests()), ["orders 2025-10-09 2030-03-07"]);
    assert_eq!(harness.ids(), [2, 3, 4, 5, 6, 7]);
    // The source now lists only another order.
    *harness.fake_source.orders.lock().unwrap() = vec![order(8, 150, 1, None)];
    harness.pass(24 * 60 + 5).await;
    assert_eq!(without_ledgers(harness.fake_source.take_requests()), ["orders 2026-09-24 2030-03-08"]);
    assert_eq!(
        harness.ids(),
        [3, 4, 5, 8],
        "old orders are kept, those outside of the window are dropped, the rest is as listed"
    );
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_listing_reaches_back_to_the_oldest_open_certificate() {
    let harness = harness();
    let plan = Order { order_ends: Some(today() + Days::new(200)), ..order(1, -150, 2, None) };
    *harness.fake_source.orders.lock().unwrap() = vec![plan.clone(), expired(2, 200)];
    harness.request(&[None]).wait_until_settled(&[None]).await;
    harness.fake_source.take_requests();
    let again = Order { certificate_ends: today() + Days::new(199), ..plan };
    harness.fake_source.orders.lock().unwrap()[0] = again.clone();
    harness.pass(24 * 60 + 5).await;
    assert_eq!(without_ledgers(harness.fake_source.take_requests()), ["orders 2026-06-26 2030-03-08"]);
    assert_eq!((harness.ids(), &harness.history.history(None).orders.unwrap()[0]), (vec![1, 2], &again));
    harness.pass(24 * 60).await;
    assert_eq!(
        without_ledgers(harness.fake_source.take_requests()),
        ["orders 2026-09-25 2030-03-09"],
        "the order has another certificate"
    );
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn undocumented_statuses_cause_one_warning() {
    let (_guard, logged) = logged();
    let harness = harness();
    let by_status =
        |counts: &[(&str, usize)]| counts.iter().map(|(status, count)| ((*status).to_owned(), *count)).collect();
    let day = 24 * 60 + 5;
    for (undocumented, warnings) in [
        (vec![], 0),
        (vec![("frozen", 2), ("zombie", 143)], 1),
        (vec![("frozen", 2), ("zombie", 144)], 1),
        (vec![("zombie", 1)], 1),
        (vec![("frozen", 2), ("lost", 1)], 2),
    ] {
        *harness.fake_source.undocumented.lock().unwrap() = by_status(&undocumented);
        harness.request(&[None]).pass(day).await;
        let logged_warnings = logged("WARN");
        assert_eq!(logged_warnings.len(), warnings, "{undocumented:?}: {logged_warnings:?}");
    }
    let logged_warnings = logged("WARN");
    assert!(logged_warnings[0].contains("orders with undocumented statuses are ignored"), "{logged_warnings:?}");
    assert!(logged_warnings[0].contains("orders=145 statuses=\"frozen: 2, zombie: 143\""), "{logged_warnings:?}");
    let again: Vec<_> = logged("DEBUG").into_iter().filter(|line| line.contains("are ignored")).collect();
    assert_eq!(again.len(), 2, "one line per listing: {again:?}");
    harness.end().await;
}

#[test]
fn warnings_about_new_statuses_are_bounded() {
    let mut state = refresh_state::HistoryState::default();
    let mut warns =
        |day: usize| state.has_new_status(&(0..20).map(|n| (format!("status {}", day * 20 + n), 1)).collect());
    let warned: Vec<bool> = (0..8).map(&mut warns).collect();
    assert_eq!(warned, [true, true, true, true, true, false, false, false]);
}
