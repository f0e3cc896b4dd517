//! Tests of early listings, for orders that debits name and the listing lacks.

use super::*;

const HOUR: u64 = 60;

impl RefresherHarness {
    /// Adds a debit of the present time that names this order.
    fn buy(&self, order: Option<u64>) {
        let mut entries = self.fake_source.entries.lock().unwrap();
        let id = format!("new-{}", entries.len());
        entries.push(LedgerEntry { order, ..entry(&id, self.history.clock.now()) });
    }

    /// Returns the number of listings since the last call, and drops all other requests.
    fn take_listings(&self) -> usize {
        self.fake_source.take_requests().iter().filter(|request| request.starts_with("orders")).count()
    }
}

/// Returns a harness shortly after noon, whose ledger and orders were read at 08:00, with order 1 listed as open.
async fn at_noon() -> RefresherHarness {
    let harness = harness();
    harness.fake_source.orders.lock().unwrap().push(order(1, 20, 1, None));
    harness.request(&[None]).pass(4 * HOUR + 5).await;
    assert_eq!(harness.take_listings(), 1);
    harness
}

#[tokio::test(start_paused = true)]
async fn a_paid_renewal_causes_a_listing_after_the_next_ledger_read() {
    let harness = at_noon().await;
    harness.buy(Some(77));
    *harness.fake_source.orders.lock().unwrap() =
        vec![Order { renewed: true, ..order(1, 20, 1, None) }, order(77, 370, 1, None)];
    harness.fake_source.take_requests();
    harness.pass(HOUR).await;
    assert_eq!(harness.fake_source.take_requests(), ["ledger None 2026-11-19", "orders 2026-09-24 2030-03-07"]);
    let shown: Vec<_> =
        harness.history.history(None).orders.unwrap().iter().map(|order| (order.id, order.renewed)).collect();
    assert_eq!(shown, [(1, true), (77, false)]);
    harness.pass(23 * HOUR).await;
    assert_eq!(harness.take_listings(), 0);
    harness.pass(HOUR).await;
    assert_eq!(harness.take_listings(), 1, "a day after the last listing");
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_never_listed_causes_one_listing_and_no_more() {
    let harness = at_noon().await;
    harness.buy(Some(77));
    harness.pass(2 * HOUR).await;
    assert_eq!(harness.take_listings(), 1);
    harness.buy(Some(77));
    harness.pass(20 * HOUR).await;
    assert_eq!(harness.take_listings(), 0, "an added domain names the same order again");
    harness.pass(3 * HOUR).await;
    assert_eq!(harness.take_listings(), 1, "the daily one");
    harness.pass(23 * HOUR).await;
    assert_eq!(harness.take_listings(), 0);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn debits_before_the_first_listing_cause_no_other() {
    let harness = harness();
    harness.buy(Some(77));
    harness.request(&[None]).pass(23 * HOUR).await;
    assert_eq!(harness.take_listings(), 1);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn only_debits_of_unlisted_orders_cause_a_listing() {
    let harness = at_noon().await;
    for named in [None, Some(1)] {
        harness.buy(named);
    }
    harness.buy(Some(77));
    harness.fake_source.entries.lock().unwrap().last_mut().unwrap().change = Decimal::TEN;
    harness.pass(19 * HOUR).await;
    assert_eq!(harness.take_listings(), 0, "no order, a listed order, and a refund");
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn orders_are_listed_again_after_an_hour_at_the_earliest() {
    let harness = harness();
    let both = [Some(5), Some(6)];
    harness.request(&both[..1]).pass(HOUR / 2).await;
    // From now on the two ledgers are read half an hour apart.
    harness.request(&both).pass(4 * HOUR + 10).await;
    harness.fake_source.take_requests();
    harness.buy(Some(77));
    harness.pass(HOUR / 2 - 5).await;
    assert_eq!(harness.take_listings(), 1, "at 13:00");
    harness.buy(Some(78));
    harness.pass(HOUR / 2 - 4).await;
    let requests = harness.fake_source.take_requests();
    assert!(requests.len() == 1 && requests[0].starts_with("ledger Some(6)"), "{requests:?}");
    harness.pass(HOUR / 2 - 6).await;
    assert_eq!(harness.take_listings(), 0, "13:55");
    harness.pass(10).await;
    assert_eq!(harness.take_listings(), 1, "14:00");
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn many_orders_are_listed_again_less_often() {
    let harness = harness();
    *harness.fake_source.orders.lock().unwrap() = (1..=50_000).map(|id| order(id, 20, 1, None)).collect();
    harness.request(&[None]).pass(HOUR / 2).await;
    assert_eq!(harness.take_listings(), 1);
    let mut listings = 0;
    for bought in 0..24 {
        harness.buy(Some(100_000 + bought));
        harness.pass(HOUR).await;
        listings += harness.take_listings();
    }
    assert!((3..=4).contains(&listings), "every six hours: {listings}");
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_debit_read_during_a_listing_causes_another_listing() {
    let harness = at_noon().await;
    *harness.fake_source.orders.lock().unwrap() = (1..=80).map(|id| order(id, 20, 3, None)).collect();
    *harness.fake_source.response_time.lock().unwrap() = Duration::from_secs(60);
    harness.buy(Some(77));
    harness.pass(HOUR + 30).await;
    assert_eq!(harness.take_listings(), 1, "reading its 80 ends takes until 14:30");
    harness.buy(Some(99));
    harness.pass(2 * HOUR).await;
    assert_eq!(harness.take_listings(), 1);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_early_listing_keeps_its_pause_and_is_retried_once() {
    let harness = at_noon().await;
    harness.fake_source.fail("orders", ReadErrorKind::Refused, 2);
    harness.buy(Some(77));
    harness.pass(HOUR + 5).await;
    assert_eq!(harness.take_listings(), 1);
    harness.buy(Some(78));
    harness.pass(2 * HOUR - 15).await;
    assert_eq!(harness.take_listings(), 1, "a pause, since someone has to act first");
    harness.pass(HOUR).await;
    assert_eq!(harness.take_listings(), 1);
    harness.pass(20 * HOUR).await;
    assert_eq!(harness.take_listings(), 0);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_remembers_which_orders_were_not_listed() {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = offset_clock();
    let live = |fake_source: Arc<FakeHistorySource>| {
        let history = Arc::new(HistoryCache::new(Arc::clone(&clock)));
        let harness = harness_of(fake_source, history, Some(cache(folder.path(), "https://us")), 30);
        harness.request(&[None]);
        harness
    };
    let harness = live(harness().end().await);
    harness.pass(1).await;
    harness.fake_source.take_requests();
    harness.buy(Some(77));
    harness.pass(HOUR).await;
    assert_eq!(harness.take_listings(), 1);
    harness.pass(1).await;
    let harness = live(harness.end().await);
    harness.pass(10 * HOUR).await;
    assert_eq!(harness.take_listings(), 0, "an earlier listing lacked the order, too");
    // Order 79 is read with the ledger after a restart.
    harness.buy(Some(78));
    harness.pass(HOUR).await;
    harness.buy(Some(79));
    assert_eq!(harness.take_listings(), 1);
    harness.pass(HOUR - 5).await;
    let harness = live(harness.end().await);
    harness.pass(10).await;
    assert_eq!(harness.take_listings(), 1);
    harness.end().await;
}
