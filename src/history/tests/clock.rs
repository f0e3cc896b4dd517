//! Tests of a clock that is set.

use super::*;

#[tokio::test(start_paused = true)]
async fn orders_read_while_the_clock_was_ahead_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let cache = || cache(folder.path(), "https://us");
    let fake_source = harness().end().await;
    let orders = vec![expired(1, 390), order(2, 150, 1, None)];
    cache().save_orders(&orders[1..], &BTreeMap::new(), start() + TimeDelta::days(30)).unwrap();
    *fake_source.orders.lock().unwrap() = orders;
    let harness = harness_with(fake_source, Some(cache()));
    harness.request(&[None]).wait_until_settled(&[None]).await;
    assert_eq!(without_ledgers(harness.fake_source.take_requests()), ["orders 2025-10-09 2030-03-07"]);
    assert_eq!(harness.ids(), [1, 2]);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_ahead_loses_no_entry_and_no_order() {
    for restarts in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (clock, fake_source) = (offset_clock(), Arc::new(FakeHistorySource::default()));
        *fake_source.entries.lock().unwrap() =
            vec![entry("old", start() - TimeDelta::days(390)), entry("new", start() - TimeDelta::days(3))];
        *fake_source.orders.lock().unwrap() = vec![expired(1, 390), order(2, 150, 1, None)];
        let live = || {
            let history = Arc::new(HistoryCache::new(Arc::clone(&clock) as Arc<dyn Clock>));
            harness_of(Arc::clone(&fake_source), history, Some(cache(folder.path(), "https://us")), 30)
        };
        let mut harness = live();
        harness.request(&[None]).pass(1).await;
        assert_eq!((harness.entries(None), harness.ids()), (Ok(2), vec![1, 2]));
        clock.set_days_ahead(60);
        harness.request(&[None]).pass(1).await;
        assert_eq!((harness.entries(None), harness.ids()), (Ok(1), vec![2]), "correct for a day in 60 days");
        clock.set_days_ahead(0);
        fake_source.take_requests();
        if restarts {
            harness.end().await;
            harness = live();
        }
        harness.request(&[None]).pass(1).await;
        assert_eq!((harness.entries(None), harness.ids()), (Ok(2), vec![1, 2]), "restarts: {restarts}");
        assert_eq!(fake_source.take_requests(), ["ledger None 2025-10-19", "orders 2025-10-09 2030-03-07"]);
        harness.pass(61).await;
        assert_eq!(fake_source.take_requests(), ["ledger None 2026-11-19"], "all of it only once");
        harness.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_during_a_ledger_read_loses_no_entry() {
    let (clock, fake_source) = (offset_clock(), Arc::new(FakeHistorySource::default()));
    *fake_source.entries.lock().unwrap() =
        vec![entry("old", start() - TimeDelta::days(390)), entry("new", start() - TimeDelta::days(3))];
    *fake_source.response_time.lock().unwrap() = Duration::from_secs(5);
    clock.set_days_ahead(60);
    let harness = harness_of(fake_source, Arc::new(HistoryCache::new(Arc::clone(&clock) as Arc<dyn Clock>)), None, 30);
    harness.request(&[None]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    clock.set_days_ahead(0);
    harness.request(&[None]).pass(1).await;
    assert_eq!(harness.entries(None), Ok(2));
    harness.end().await;
}
