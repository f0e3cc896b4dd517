//! Tests of the times at which ledger and orders are read, and of failures.

use super::*;

#[tokio::test(start_paused = true)]
async fn each_part_is_read_once_requested_and_then_only_when_due() {
    let harness = harness();
    harness.pass(600).await;
    assert_eq!(harness.fake_source.take_requests(), [] as [String; 0]);
    assert_eq!(harness.history.history(None), AccountHistory::unread());
    harness.request(&[None]);
    assert!(harness.wait_until_settled(&[None]).await < Duration::from_secs(1));
    assert_eq!(harness.fake_source.take_requests(), ["ledger None 2025-10-19", "orders 2025-10-09 2030-03-07"]);
    assert_eq!(harness.entries(None), Ok(2));
    for _ in 0..30 {
        // Each cycle requests the history again.
        harness.request(&[None]).pass(2).await;
    }
    harness.pass(1).await;
    assert_eq!(harness.fake_source.take_requests(), ["ledger None 2026-11-19"], "only new entries, and once an hour");
    harness.fake_source.entries.lock().unwrap().push(entry("c", start()));
    harness.pass(24 * 60).await;
    let requests = harness.fake_source.take_requests();
    assert_eq!(requests.iter().filter(|request| request.starts_with("ledger")).count(), 24, "{requests:?}");
    assert_eq!(requests.iter().filter(|request| request.starts_with("orders")).count(), 1, "{requests:?}");
    assert_eq!(requests.last().unwrap(), "ledger None 2026-11-22");
    assert_eq!(harness.entries(None), Ok(3), "entries of the overlap are not duplicated");
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn divisions_no_longer_requested_are_dropped() {
    let harness = harness();
    *harness.fake_source.orders.lock().unwrap() =
        vec![order(1, 10, 1, Some(5)), order(2, 10, 1, Some(6)), order(3, 10, 1, None)];
    harness.request(&[Some(5), Some(6), Some(7)]).wait_until_settled(&[Some(5), Some(6), Some(7)]).await;
    let ids =
        |division| harness.history.history(division).orders.unwrap().iter().map(|order| order.id).collect::<Vec<_>>();
    assert_eq!((ids(Some(5)), ids(Some(7)), ids(None)), (vec![1, 3], vec![3], vec![1, 2, 3]));
    harness.request(&[Some(6)]);
    assert_eq!(harness.entries(Some(5)), Err(HistoryGap::NotYetRead));
    assert_eq!(harness.entries(Some(6)), Ok(2));
    harness.fake_source.take_requests();
    harness.pass(61).await;
    assert_eq!(harness.fake_source.take_requests(), ["ledger Some(6) 2026-11-19"]);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_fresh_history_stays_and_the_retry_waits() {
    let harness = harness();
    harness.request(&[None]).wait_until_settled(&[None]).await;
    harness.fake_source.take_requests();
    harness.fake_source.fail("ledger", ReadErrorKind::Refused, 99);
    harness.pass(12 * 60 + 5).await;
    let requests = harness.fake_source.take_requests();
    assert_eq!(requests.len(), 12, "an hourly pause, since someone has to act first: {requests:?}");
    assert_eq!(harness.entries(None), Ok(2));
    harness.pass(37 * 60).await;
    let gap = harness.entries(None).unwrap_err();
    let HistoryGap::Unreadable(why) = gap else { panic!("{gap:?}") };
    assert_eq!((why.persistence, why.reason.as_str()), (Persistence::Permanent, "ledger answered"));
    assert!(harness.history.history(None).orders.is_ok(), "the orders are still read");
    harness.fake_source.failures.lock().unwrap().clear();
    harness.pass(61).await;
    assert_eq!(harness.entries(None), Ok(2));
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_error_pauses_all_requests_and_is_shown_at_once() {
    let harness = harness();
    harness.fake_source.fail("ledger", ReadErrorKind::Server, 1);
    harness.request(&[Some(1), Some(2), Some(3)]);
    assert!(harness.wait_until_settled(&[Some(1), Some(2), Some(3)]).await < Duration::from_secs(1));
    assert_eq!(harness.fake_source.take_requests().len(), 1);
    assert!(matches!(harness.entries(Some(3)), Err(HistoryGap::Unreadable(_))));
    harness.pass(6).await;
    assert_eq!(harness.fake_source.take_requests().len(), 3, "the other two and the orders");
    assert_eq!(harness.entries(Some(3)), Ok(2));
    harness.pass(6).await;
    assert_eq!(harness.fake_source.take_requests(), ["ledger Some(1) 2025-10-19"]);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_at_the_timeout_and_the_task_stops_mid_request() {
    let harness = harness();
    *harness.fake_source.response_time.lock().unwrap() = Duration::from_secs(3600);
    harness.request(&[None]);
    assert_eq!(harness.wait_until_settled(&[None]).await, Duration::from_secs(30));
    assert_eq!(harness.wait_until_settled(&[Some(8)]).await, Duration::ZERO, "not requested");
    assert_eq!(harness.entries(None), Err(HistoryGap::NotYetRead));
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_discontinuous_ledger_is_read_completely() {
    let harness = harness();
    harness.request(&[None]).wait_until_settled(&[None]).await;
    *harness.fake_source.entries.lock().unwrap() = vec![entry("x", start())];
    harness.fake_source.take_requests();
    harness.pass(61).await;
    let all = ["ledger None 2026-11-19", "ledger None 2025-10-19", "orders 2025-10-09 2030-03-07"];
    assert_eq!(harness.fake_source.take_requests(), all, "the orders may belong to another account, too");
    assert_eq!(harness.entries(None), Ok(1));
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn read_times_are_known_even_if_the_history_is_too_old() {
    let harness = harness();
    harness.request(&[None]).wait_until_settled(&[None]).await;
    harness.pass(26 * 60).await;
    let (history, now) = (harness.history.history(None), harness.history.clock.now());
    assert!(now - history.ledger_read.unwrap() <= TimeDelta::hours(1));
    let read = history.orders_read.unwrap();
    assert!(now - read > TimeDelta::hours(1) && now - read < TimeDelta::hours(3));
    harness.fake_source.fail("ledger", ReadErrorKind::Refused, 99);
    harness.pass(50 * 60).await;
    let old = harness.history.history(None);
    assert!(old.ledger.is_err());
    assert_eq!(old.ledger_read, history.ledger_read);
    assert_eq!(harness.history.history(Some(5)).ledger_read, None, "not requested");
    harness.end().await;
}
