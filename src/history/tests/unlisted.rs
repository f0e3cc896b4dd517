//! When orders that debits name, and that the listing lacks, make the orders due before their day is over.

use super::*;

const HOUR: u64 = 60;

impl House {
    /// A debit of now that names this order.
    fn buys(&self, order: Option<u64>) {
        let mut lines = self.script.lines.lock().unwrap();
        let id = format!("new-{}", lines.len());
        lines.push(Entry { order, ..line(&id, self.shelf.clock.now()) });
    }

    /// How often the orders were listed since the last question.
    fn listings(&self) -> usize {
        self.script.taken().iter().filter(|it| it.starts_with("orders")).count()
    }
}

/// A house whose ledger and orders were read at 08:00, with order 1 listed as open; it is now shortly after noon.
async fn at_noon() -> House {
    let house = house();
    house.script.orders.lock().unwrap().push(order(1, 20, 1, None));
    house.want(&[None]).pass(4 * HOUR + 5).await;
    assert_eq!(house.listings(), 1);
    house
}

#[tokio::test(start_paused = true)]
async fn a_renewal_paid_at_noon_has_the_orders_listed_with_the_next_ledger() {
    let house = at_noon().await;
    house.buys(Some(77));
    *house.script.orders.lock().unwrap() =
        vec![Order { renewed: true, ..order(1, 20, 1, None) }, order(77, 370, 1, None)];
    house.script.taken();
    house.pass(HOUR).await;
    assert_eq!(house.script.taken(), ["ledger None 2026-11-19", "orders 2026-09-24 2030-03-07"]);
    let shown: Vec<_> = house.shelf.books(None).orders.unwrap().iter().map(|it| (it.id, it.renewed)).collect();
    assert_eq!(shown, [(1, true), (77, false)]);
    house.pass(23 * HOUR).await;
    assert_eq!(house.listings(), 0);
    house.pass(HOUR).await;
    assert_eq!(house.listings(), 1, "a day after the last listing");
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_never_listed_causes_one_listing_and_no_more() {
    let house = at_noon().await;
    house.buys(Some(77));
    house.pass(2 * HOUR).await;
    assert_eq!(house.listings(), 1);
    house.buys(Some(77));
    house.pass(20 * HOUR).await;
    assert_eq!(house.listings(), 0, "a domain added to it is no other order");
    house.pass(3 * HOUR).await;
    assert_eq!(house.listings(), 1, "the daily one");
    house.pass(23 * HOUR).await;
    assert_eq!(house.listings(), 0);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_in_the_ledger_before_the_first_listing_causes_no_other() {
    let house = house();
    house.buys(Some(77));
    house.want(&[None]).pass(23 * HOUR).await;
    assert_eq!(house.listings(), 1);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn only_debits_that_name_unlisted_orders_cause_a_listing() {
    let house = at_noon().await;
    for named in [None, Some(1)] {
        house.buys(named);
    }
    house.buys(Some(77));
    house.script.lines.lock().unwrap().last_mut().unwrap().change = Decimal::TEN;
    house.pass(19 * HOUR).await;
    assert_eq!(house.listings(), 0, "no name, a listed order, a refund");
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn orders_are_listed_again_an_hour_after_the_last_listing_and_not_before() {
    let house = house();
    let both = [Some(5), Some(6)];
    house.want(&both[..1]).pass(HOUR / 2).await;
    // The ledgers are read half an hour apart from now on.
    house.want(&both).pass(4 * HOUR + 10).await;
    house.script.taken();
    house.buys(Some(77));
    house.pass(HOUR / 2 - 5).await;
    assert_eq!(house.listings(), 1, "at 13:00");
    house.buys(Some(78));
    house.pass(HOUR / 2 - 4).await;
    let asked = house.script.taken();
    assert!(asked.len() == 1 && asked[0].starts_with("ledger Some(6)"), "{asked:?}");
    house.pass(HOUR / 2 - 6).await;
    assert_eq!(house.listings(), 0, "13:55");
    house.pass(10).await;
    assert_eq!(house.listings(), 1, "14:00");
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_more_orders_there_are_the_seldomer_they_are_listed_again() {
    let house = house();
    *house.script.orders.lock().unwrap() = (1..=50_000).map(|id| order(id, 20, 1, None)).collect();
    house.want(&[None]).pass(HOUR / 2).await;
    assert_eq!(house.listings(), 1);
    let mut listings = 0;
    for bought in 0..24 {
        house.buys(Some(100_000 + bought));
        house.pass(HOUR).await;
        listings += house.listings();
    }
    assert!((3..=4).contains(&listings), "every six hours: {listings}");
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_debit_that_is_read_while_a_listing_still_lacks_ends_causes_another() {
    let house = at_noon().await;
    *house.script.orders.lock().unwrap() = (1..=80).map(|id| order(id, 20, 3, None)).collect();
    *house.script.hangs.lock().unwrap() = Duration::from_secs(60);
    house.buys(Some(77));
    house.pass(HOUR + 30).await;
    assert_eq!(house.listings(), 1, "its 80 ends take until half past two");
    house.buys(Some(99));
    house.pass(2 * HOUR).await;
    assert_eq!(house.listings(), 1);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_early_listing_that_fails_keeps_its_pause_and_is_made_once() {
    let house = at_noon().await;
    house.script.fail("orders", ReadErrorKind::Refused, 2);
    house.buys(Some(77));
    house.pass(HOUR + 5).await;
    assert_eq!(house.listings(), 1);
    house.buys(Some(78));
    house.pass(2 * HOUR - 15).await;
    assert_eq!(house.listings(), 1, "somebody has to act first");
    house.pass(HOUR).await;
    assert_eq!(house.listings(), 1);
    house.pass(20 * HOUR).await;
    assert_eq!(house.listings(), 0);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_knows_which_orders_have_been_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = stepped();
    let live = |script: Arc<Script>| {
        let shelf = Arc::new(Shelf::new(Arc::clone(&clock)));
        let house = house_of(script, shelf, Some(cache(folder.path(), "https://us")), 30);
        house.want(&[None]);
        house
    };
    let house = live(house().end().await);
    house.pass(1).await;
    house.script.taken();
    house.buys(Some(77));
    house.pass(HOUR).await;
    assert_eq!(house.listings(), 1);
    house.pass(1).await;
    let house = live(house.end().await);
    house.pass(10 * HOUR).await;
    assert_eq!(house.listings(), 0, "a listing has not shown it");
    // Another one is read together with the ledger of a restart, and a second restart comes at once.
    house.buys(Some(78));
    house.pass(HOUR).await;
    house.buys(Some(79));
    assert_eq!(house.listings(), 1);
    house.pass(HOUR - 5).await;
    let house = live(house.end().await);
    house.pass(10).await;
    assert_eq!(house.listings(), 1);
    house.end().await;
}
