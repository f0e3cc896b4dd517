//! Tests of the requests for the ends of orders.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_order_end_is_requested_once_and_only_where_it_matters() {
    let harness = harness();
    let renewed = Order { renewed: true, ..order(4, 5, 3, None) };
    let orders =
        vec![order(1, 20, 3, None), order(2, 60, 3, None), order(3, 20, 1, None), renewed, order(99, -5, 2, None)];
    *harness.fake_source.orders.lock().unwrap() = orders;
    harness.request(&[None]).wait_until_settled(&[None]).await;
    let ends =
        |requests: &[String]| requests.iter().filter(|request| request.starts_with("end")).cloned().collect::<Vec<_>>();
    // Order 3 was bought for a year, and may last 165 days longer than its certificate.
    assert_eq!(ends(&harness.fake_source.take_requests()), ["end 1", "end 3", "end 99"]);
    let order_ends: Vec<_> =
        harness.history.history(None).orders.unwrap().iter().map(|order| (order.id, order.order_ends)).collect();
    let later = Some(today() + Days::new(300));
    assert_eq!(order_ends, [(1, later), (2, None), (3, later), (4, None), (99, Some(today() - Days::new(5)))]);
    harness.pass(3 * 24 * 60).await;
    assert_eq!(ends(&harness.fake_source.take_requests()), [] as [String; 0]);
    harness.fake_source.orders.lock().unwrap()[0].certificate_ends = today() + Days::new(25);
    harness.pass(24 * 60).await;
    assert_eq!(ends(&harness.fake_source.take_requests()), ["end 1"], "another certificate");
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn ends_that_come_into_view_are_requested_before_they_matter() {
    let harness = harness();
    *harness.fake_source.orders.lock().unwrap() =
        vec![order(1, 34, 3, None), order(2, 35, 3, None), order(3, 36, 3, None), order(4, 60, 3, None)];
    harness.request(&[None]).wait_until_settled(&[None]).await;
    assert_eq!(harness.fake_source.take_requests()[2..], ["end 1"]);
    harness.pass(15 * 60).await;
    harness.fake_source.take_requests();
    harness.pass(2 * 60).await;
    let ends = |requests: Vec<String>| {
        requests.into_iter().filter(|request| !request.starts_with("ledger")).collect::<Vec<_>>()
    };
    assert_eq!(ends(harness.fake_source.take_requests()), ["end 2"], "a day later, with the same listing");
    let known = |harness: &RefresherHarness| {
        harness
            .history
            .history(None)
            .orders
            .unwrap()
            .iter()
            .filter(|order| order.order_ends.is_some())
            .map(|order| order.id)
            .collect()
    };
    let ids: Vec<u64> = known(&harness);
    assert_eq!(ids, [1, 2]);
    let read = harness.history.history(None).orders_read;
    let history = Arc::clone(&harness.history);
    let harness = harness_of(harness.end().await, history, None, 60);
    harness.pass(60).await;
    assert_eq!(ends(harness.fake_source.take_requests()), ["end 3", "end 4"], "after a reload with a longer window");
    let ids: Vec<u64> = known(&harness);
    assert_eq!((ids, harness.history.history(None).orders_read), (vec![1, 2, 3, 4], read));
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_end_that_failed_is_requested_again_without_the_listing() {
    let harness = harness();
    *harness.fake_source.orders.lock().unwrap() =
        vec![order(1, 10, 3, Some(5)), order(2, 10, 3, Some(6)), order(3, 10, 3, None), order(4, 10, 1, Some(7))];
    harness.fake_source.fail("end 1", ReadErrorKind::Server, 2);
    harness.fake_source.fail("end 2", ReadErrorKind::Refused, 1);
    harness.request(&[Some(5)]).wait_until_settled(&[Some(5)]).await;
    assert_eq!(harness.fake_source.take_requests()[2..], ["end 1", "end 2", "end 3", "end 4"]);
    let persistence = |division| harness.ends_failure(division);
    assert_eq!(
        (persistence(Some(5)), persistence(Some(6))),
        (Some(Persistence::Transient), Some(Persistence::Permanent))
    );
    assert_eq!((persistence(Some(7)), persistence(None)), (None, Some(Persistence::Permanent)));
    harness.pass(11).await;
    assert_eq!(harness.fake_source.take_requests(), ["end 1"]);
    assert_eq!(persistence(Some(5)), Some(Persistence::Transient));
    harness.pass(10).await;
    assert_eq!(harness.fake_source.take_requests(), ["end 1"]);
    assert_eq!((persistence(Some(5)), persistence(Some(6))), (None, Some(Persistence::Permanent)));
    harness.pass(23 * 60).await;
    assert!(harness.fake_source.take_requests().iter().all(|request| request.starts_with("ledger")));
    harness.pass(60).await;
    let requests: Vec<_> =
        harness.fake_source.take_requests().into_iter().filter(|request| !request.starts_with("ledger")).collect();
    assert_eq!(requests, ["orders 2026-09-24 2030-03-08", "end 2"], "with the next listing");
    assert_eq!(persistence(None), None);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn after_three_failed_ends_the_rest_fails_too() {
    let harness = harness();
    *harness.fake_source.orders.lock().unwrap() = (1..=5).map(|id| order(id, 10, 3, Some(id))).collect();
    harness.fake_source.fail("end", ReadErrorKind::Timeout, 3);
    harness.request(&[None]).wait_until_settled(&[None]).await;
    assert_eq!(harness.fake_source.take_requests()[2..], ["end 1", "end 2", "end 3"]);
    assert_eq!(harness.ends_failure(Some(5)), Some(Persistence::Transient));
    harness.pass(11).await;
    assert_eq!(harness.fake_source.take_requests(), ["end 1", "end 2", "end 3", "end 4", "end 5"]);
    assert_eq!(harness.ends_failure(None), None);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_order_that_ended_long_ago_is_not_requested() {
    let harness = harness();
    let bought = |id, certificate: i64, until: i64| Order {
        bought_until: Some(today() + TimeDelta::days(until)),
        ..order(id, certificate, 1, None)
    };
    *harness.fake_source.orders.lock().unwrap() = vec![bought(1, -150, -61), bought(2, -150, -60), bought(3, -150, 10)];
    harness.request(&[None]).wait_until_settled(&[None]).await;
    assert_eq!(without_ledgers(harness.fake_source.take_requests())[1..], ["end 2", "end 3"]);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn listed_ends_and_expired_orders_are_not_requested() {
    let folder = tempfile::tempdir().unwrap();
    let cache = || Some(DiskCache::new(folder.path().to_owned(), "acme", "https://here"));
    let fake_source = FakeHistorySource::default();
    let listed = Order { order_ends: Some(today() + Days::new(200)), ..order(1, 20, 3, None) };
    let over = Order { expired: true, ..order(2, -5, 3, None) };
    let plan = Order { bought_until: None, is_plan: true, ..order(3, 20, 1, None) };
    *fake_source.orders.lock().unwrap() = vec![listed.clone(), over.clone(), plan];
    let harness = harness_with(Arc::new(fake_source), cache());
    harness.request(&[None]).wait_until_settled(&[None]).await;
    let ends: Vec<String> =
        harness.fake_source.take_requests().into_iter().filter(|request| request.starts_with("end")).collect();
    assert_eq!(ends, ["end 3"]);
    let orders = harness.history.history(None).orders.unwrap();
    assert_eq!(orders[..2], [listed, over]);
    let harness = harness_with(harness.end().await, cache());
    harness.request(&[None]).wait_until_settled(&[None]).await;
    assert_eq!(harness.history.history(None).orders.unwrap(), orders, "restored from the cache");
    harness.end().await;
}
