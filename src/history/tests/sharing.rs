//! Tests of the search for unwatched divisions that share a fund.

use super::*;

/// Returns a harness that watches division 1, with a source that reports these balances.
fn harness_sharing(figures: &[(u64, &[i64])]) -> RefresherHarness {
    let harness = harness();
    *harness.fake_source.figures.lock().unwrap() =
        figures.iter().map(|(id, amounts)| (*id, amounts.to_vec())).collect();
    harness.request_shared();
    harness
}

impl RefresherHarness {
    fn request_shared(&self) {
        let watched = WatchedFunds { funds: vec![[1].into()], divisions: [1].into() };
        self.history.request_shared(&[Some(1)].into(), &watched);
    }

    /// Returns the number of ledger entries of each division of the fund; `None` for a gap.
    fn fund(&self) -> Vec<Option<usize>> {
        let entries = |part: AccountHistory| part.ledger.ok().map(|ledger| ledger.entries().len());
        self.history.fund_histories(&[Some(1)]).into_iter().map(entries).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn ledgers_of_unwatched_divisions_that_share_a_fund_are_read() {
    let harness = harness_sharing(&[(1, &[1500]), (2, &[1500]), (3, &[40])]);
    assert_eq!(harness.fund(), [None, None], "nothing is known while the sharing divisions are unknown");
    harness.wait_until_settled(&[Some(1)]).await;
    assert_eq!(harness.fund(), [Some(2), Some(2)]);
    let requests = harness.fake_source.take_requests();
    assert!(requests[0].starts_with("ledger Some(1)"), "the requested ledger comes first: {requests:?}");
    assert_eq!(requests[1..5], ["listing", "figures 1", "figures 2", "figures 3"]);
    assert_eq!(requests[5], "figures 1", "once more, since division 3 differs");
    assert_eq!(requests.iter().filter(|request| request.starts_with("ledger")).count(), 2, "{requests:?}");
    for _ in 0..28 {
        harness.request_shared();
        harness.pass(2).await;
    }
    assert_eq!(harness.fake_source.take_requests(), [] as [String; 0], "no request because of a cycle");
    harness.pass(6).await;
    let requests = harness.fake_source.take_requests();
    assert_eq!(requests.iter().filter(|request| *request == "listing").count(), 1, "once an hour: {requests:?}");
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn no_sharing_search_if_every_division_is_watched() {
    let harness = harness();
    harness.request(&[Some(1)]).wait_until_settled(&[Some(1)]).await;
    assert!(
        harness
            .fake_source
            .take_requests()
            .iter()
            .all(|request| !request.starts_with("listing") && !request.starts_with("figures"))
    );
    assert_eq!(harness.fund(), [Some(2)]);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_purchase_between_two_reads_loses_no_division_of_a_fund() {
    // Division 1 is read before a purchase, and division 2 after it.
    let harness = harness_sharing(&[(1, &[1500, 1400]), (2, &[1400])]);
    harness.wait_until_settled(&[Some(1)]).await;
    assert_eq!(harness.fund(), [Some(2), Some(2)]);
    // An hour later that happens twice, until both are read directly after one another.
    *harness.fake_source.figures.lock().unwrap() = [(1, vec![1400, 1300, 1200]), (2, vec![1350, 1200])].into();
    harness.fake_source.take_requests();
    harness.pass(61).await;
    assert_eq!(harness.fake_source.take_requests().iter().filter(|request| request.starts_with("figures")).count(), 5);
    assert_eq!(harness.fund(), [Some(2), Some(2)]);
    // Division 1 has a fund of its own from now on.
    *harness.fake_source.figures.lock().unwrap() = [(1, vec![1200]), (2, vec![7])].into();
    harness.pass(61).await;
    assert_eq!(harness.fund(), [Some(2)]);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn sharing_stays_known_while_it_cannot_be_read() {
    let harness = harness_sharing(&[(1, &[1500]), (2, &[1500])]);
    harness.wait_until_settled(&[Some(1)]).await;
    harness.fake_source.fail("listing", ReadErrorKind::Server, 12);
    harness.pass(2 * 60).await;
    assert_eq!(harness.fund(), [Some(2), Some(2)]);
    harness.fake_source.failures.lock().unwrap().clear();
    harness.fake_source.fail("listing", ReadErrorKind::Refused, 99);
    harness.pass(2 * 60).await;
    assert_eq!(harness.fund(), [Some(2), Some(2)], "known divisions stay");
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_may_not_list_divisions_still_has_its_own_history() {
    let harness = harness();
    harness.fake_source.fail("listing", ReadErrorKind::Refused, 99);
    harness.request_shared();
    harness.wait_until_settled(&[Some(1)]).await;
    assert_eq!(harness.fund(), [Some(2)]);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn history_is_a_gap_while_sharing_is_unknown() {
    let harness = harness();
    *harness.fake_source.figures.lock().unwrap() = [(1, vec![1500]), (2, vec![1500])].into();
    harness.fake_source.fail("figures 1", ReadErrorKind::Timeout, 1);
    harness.request_shared();
    harness.wait_until_settled(&[Some(1)]).await;
    let parts = harness.history.fund_histories(&[Some(1)]);
    assert!(matches!(parts[1].ledger, Err(HistoryGap::Unreadable(_))), "{parts:?}");
    harness.pass(11).await;
    assert_eq!(harness.fund(), [Some(2), Some(2)]);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_division_is_left_out_and_retried() {
    let harness = harness_sharing(&[(1, &[1500]), (2, &[1500]), (3, &[1500]), (4, &[40])]);
    harness.fake_source.fail("figures 2", ReadErrorKind::Server, 1);
    harness.wait_until_settled(&[Some(1)]).await;
    assert_eq!(harness.fund(), [Some(2), Some(2)], "divisions 1 and 3");
    harness.fake_source.take_requests();
    harness.pass(9).await;
    assert_eq!(harness.fake_source.take_requests(), [] as [String; 0], "no request before the pause is over");
    harness.pass(2).await;
    assert_eq!(harness.fund(), [Some(2), Some(2), Some(2)]);
    assert_eq!(
        harness.fake_source.take_requests()[..3],
        ["listing", "figures 1", "figures 2"],
        "only the failed division is read again"
    );
    // A division that cannot be read keeps its known fund.
    harness.fake_source.fail("figures 2", ReadErrorKind::Server, 99);
    harness.pass(3 * 60).await;
    assert_eq!(harness.fund(), [Some(2), Some(2), Some(2)]);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_search_is_not_restarted_by_the_next_cycles() {
    let harness = harness_sharing(&[(1, &[1500]), (2, &[1500])]);
    harness.fake_source.fail("figures 1", ReadErrorKind::InvalidResponse, 1);
    for _ in 0..9 {
        harness.request_shared();
        harness.pass(1).await;
    }
    let searched = |requests: Vec<String>| requests.iter().filter(|request| *request == "listing").count();
    assert_eq!(searched(harness.fake_source.take_requests()), 1);
    harness.pass(2).await;
    assert_eq!((searched(harness.fake_source.take_requests()), harness.fund()), (1, vec![Some(2), Some(2)]));
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_search_among_many_divisions_continues_in_rounds() {
    let many: BTreeMap<u64, Vec<i64>> = (1..=451).map(|id| (id, vec![if id == 450 { 1500 } else { 40 }])).collect();
    let harness = harness();
    *harness.fake_source.figures.lock().unwrap() = many.into_iter().chain([(1, vec![1500])]).collect();
    *harness.fake_source.response_time.lock().unwrap() = Duration::from_secs(1);
    harness.request_shared();
    harness.pass(4).await;
    assert_eq!(harness.fund(), [Some(2), None], "unknown until all divisions were read");
    harness.pass(5).await;
    assert_eq!(harness.fund(), [Some(2), Some(2)]);
    let others = |requests: Vec<String>| {
        requests.iter().filter(|request| request.starts_with("figures") && *request != "figures 1").count()
    };
    assert_eq!(others(harness.fake_source.take_requests()), 450, "each division once");
    harness.pass(66).await;
    assert_eq!(others(harness.fake_source.take_requests()), 200, "at most 200 divisions an hour");
    harness.pass(130).await;
    assert_eq!(others(harness.fake_source.take_requests()), 250, "the other divisions in the next hours");
    assert_eq!(harness.fund(), [Some(2), Some(2)]);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_search_pauses_and_resumes_where_it_was() {
    let harness = harness_sharing(&[(1, &[1500]), (2, &[7]), (3, &[7]), (4, &[7]), (5, &[1500])]);
    for request in ["figures 2", "figures 3", "figures 4"] {
        harness.fake_source.fail(request, ReadErrorKind::Timeout, 1);
    }
    harness.wait_until_settled(&[Some(1)]).await;
    assert!(matches!(harness.history.fund_histories(&[Some(1)])[1].ledger, Err(HistoryGap::Unreadable(_))));
    assert!(!harness.fake_source.take_requests().contains(&"figures 5".to_owned()));
    harness.pass(11).await;
    assert_eq!(harness.fund(), [Some(2), Some(2)]);
    harness.end().await;
}
