//! The keeper on a stepped clock: what it asks and when, what it shows, and what it makes of failures and of its cache.

mod unlisted;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use tokio_util::sync::CancellationToken;

use async_trait::async_trait;
use chrono::{Days, NaiveDate, TimeDelta};
use rust_decimal::Decimal;
use tokio::task::JoinHandle;

use super::*;
use crate::certcentral::{HistorySource, OrderList, ReadError, ReadErrorKind};
use crate::domain::Time;
use crate::domain::balance::{Balance, Persistence};
use crate::domain::history::{HistoryGap, LedgerEntry, Order};
use crate::domain::money::Currency;

fn start() -> Time {
    "2026-11-23T08:00:00Z".parse().unwrap()
}

fn today() -> NaiveDate {
    start().date_naive()
}

struct OffsetClock {
    began: tokio::time::Instant,
    /// It is ahead by so much.
    offset: Mutex<TimeDelta>,
}

fn offset_clock() -> Arc<OffsetClock> {
    Arc::new(OffsetClock { began: tokio::time::Instant::now(), offset: Mutex::default() })
}

impl OffsetClock {
    fn set_days_ahead(&self, days: i64) {
        *self.offset.lock().unwrap() = TimeDelta::days(days);
    }
}

#[async_trait]
impl Clock for OffsetClock {
    fn now(&self) -> Time {
        start() + TimeDelta::from_std(self.began.elapsed()).unwrap() + *self.offset.lock().unwrap()
    }
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// What is asked, in words, and what is answered.
#[derive(Default)]
struct FakeHistorySource {
    requests: Mutex<Vec<String>>,
    lines: Mutex<Vec<LedgerEntry>>,
    orders: Mutex<Vec<Order>>,
    undocumented: Mutex<BTreeMap<String, usize>>,
    /// What each division has, at one request after the other; the last for ever.
    figures: Mutex<BTreeMap<u64, Vec<i64>>>,
    /// Failures of the next requests whose words begin like this.
    failures: Mutex<VecDeque<(&'static str, ReadErrorKind)>>,
    /// A request hangs for so long.
    response_time: Mutex<Duration>,
}

impl FakeHistorySource {
    async fn ask(&self, what: String) -> Result<(), ReadError> {
        self.requests.lock().unwrap().push(what.clone());
        let pause = *self.response_time.lock().unwrap();
        tokio::time::sleep(pause).await;
        let mut failures = self.failures.lock().unwrap();
        let Some(at) = failures.iter().position(|(words, _)| what.starts_with(words)) else { return Ok(()) };
        let (_, kind) = failures.remove(at).unwrap();
        Err(ReadError { kind, reason: format!("{} answered", what.split(' ').next().unwrap()) })
    }

    fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }

    fn fail(&self, words: &'static str, kind: ReadErrorKind, times: usize) {
        self.failures.lock().unwrap().extend(std::iter::repeat_n((words, kind), times));
    }
}

#[async_trait]
impl HistorySource for FakeHistorySource {
    async fn ledger(&self, division: Division, since: Option<NaiveDate>) -> Result<Vec<LedgerEntry>, ReadError> {
        let since = since.unwrap();
        self.ask(format!("ledger {division:?} {since}")).await?;
        let lines = self.lines.lock().unwrap();
        Ok(lines.iter().filter(|line| line.at.date_naive() >= since).cloned().collect())
    }
    async fn orders(&self, from: NaiveDate, to: NaiveDate) -> Result<OrderList, ReadError> {
        self.ask(format!("orders {from} {to}")).await?;
        let orders = self.orders.lock().unwrap();
        let orders = orders.iter().filter(|order| (from..=to).contains(&order.certificate_ends)).cloned().collect();
        Ok(OrderList { orders, undocumented: self.undocumented.lock().unwrap().clone() })
    }
    async fn division_ids(&self) -> Result<Vec<u64>, ReadError> {
        self.ask("listing".to_owned()).await?;
        Ok(self.figures.lock().unwrap().keys().copied().collect())
    }
    async fn figures(&self, division: u64) -> Result<Balance, ReadError> {
        self.ask(format!("figures {division}")).await?;
        let mut figures = self.figures.lock().unwrap();
        let amounts = figures.get_mut(&division).unwrap();
        let amount = if amounts.len() > 1 { amounts.remove(0) } else { amounts[0] };
        Ok(balance(amount))
    }
    async fn order_end(&self, id: u64) -> Result<Option<NaiveDate>, ReadError> {
        self.ask(format!("end {id}")).await?;
        Ok(if id == 99 { None } else { Some(today() + Days::new(300)) })
    }
}

fn balance(amount: i64) -> Balance {
    Balance {
        currency: Ok(Currency::parse("USD").unwrap()),
        balance: Ok(amount.into()),
        unpaid_invoices: Ok(Decimal::ZERO),
        used_credit: Ok(Decimal::ZERO),
        credit_limit: Ok(Some(Decimal::ZERO)),
        unlimited: Ok(false),
        reported_total: Ok(None),
    }
}

fn line(id: &str, at: Time) -> LedgerEntry {
    LedgerEntry {
        id: id.into(),
        at,
        change: Decimal::new(-21_850, 2),
        kind: "Charge \u{1F4B6}".into(),
        balance_after: Some(Decimal::ONE),
        currency: None,
        order: Some(7),
        expires: Some(start()),
    }
}

fn order(id: u64, ends_in: i64, years: u64, division: Option<u64>) -> Order {
    Order {
        id,
        division,
        product: None,
        common_name: None,
        price: Decimal::new(3995, 1),
        expired: false,
        renewed: false,
        placed: Some(today() - Days::new(200)),
        bought_until: Some(today() - Days::new(200) + Days::new(365 * years)),
        is_plan: false,
        certificate_ends: today() + TimeDelta::days(ends_in),
        order_ends: None,
    }
}

struct RefresherHarness {
    fake_source: Arc<FakeHistorySource>,
    history: Arc<HistoryCache>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn harness_with(fake_source: Arc<FakeHistorySource>, cache: Option<DiskCache>) -> RefresherHarness {
    harness_of(fake_source, Arc::new(HistoryCache::new(offset_clock())), cache, 30)
}

fn harness_of(
    fake_source: Arc<FakeHistorySource>,
    history: Arc<HistoryCache>,
    cache: Option<DiskCache>,
    watched_days: u64,
) -> RefresherHarness {
    let (source, clock) = (Arc::clone(&fake_source) as _, Arc::clone(&history.clock));
    let refresher = Refresher::new("acme".into(), source, Arc::clone(&history), clock, cache, watched_days);
    let stop = CancellationToken::new();
    let task = tokio::spawn(refresher.run(stop.clone()));
    RefresherHarness { fake_source, history, stop, task }
}

fn harness() -> RefresherHarness {
    let fake_source = FakeHistorySource::default();
    *fake_source.lines.lock().unwrap() =
        vec![line("b", start() - TimeDelta::days(9)), line("a", start() - TimeDelta::days(3))];
    harness_with(Arc::new(fake_source), None)
}

impl RefresherHarness {
    fn request(&self, divisions: &[Division]) -> &Self {
        self.history.request(&divisions.iter().copied().collect());
        self
    }

    async fn wait_until_settled(&self, divisions: &[Division]) -> Duration {
        let began = tokio::time::Instant::now();
        self.history.wait_until_settled(&divisions.iter().copied().collect(), Duration::from_secs(30)).await;
        began.elapsed()
    }

    async fn pass(&self, minutes: u64) {
        tokio::time::sleep(Duration::from_secs(60 * minutes)).await;
    }

    fn lines(&self, division: Division) -> Result<usize, HistoryGap> {
        self.history.history(division).ledger.map(|ledger| ledger.entries().len())
    }

    /// Why ends of this division's orders are unknown, in short.
    fn ends(&self, division: Division) -> Option<Persistence> {
        self.history.history(division).order_ends_failure.map(|why| {
            assert_eq!(why.reason, "end answered");
            why.persistence
        })
    }

    async fn end(self) -> Arc<FakeHistorySource> {
        self.stop.cancel();
        self.task.await.unwrap();
        self.fake_source
    }
}

#[tokio::test(start_paused = true)]
async fn each_part_is_read_once_requested_and_then_only_when_due() {
    let harness = harness();
    harness.pass(600).await;
    assert_eq!(harness.fake_source.take_requests(), [] as [String; 0]);
    assert_eq!(harness.history.history(None), AccountHistory::unread());
    harness.request(&[None]);
    assert!(harness.wait_until_settled(&[None]).await < Duration::from_secs(1));
    assert_eq!(harness.fake_source.take_requests(), ["ledger None 2025-10-19", "orders 2025-10-09 2030-03-07"]);
    assert_eq!(harness.lines(None), Ok(2));
    for _ in 0..30 {
        // Each cycle says again what it wants.
        harness.request(&[None]).pass(2).await;
    }
    harness.pass(1).await;
    assert_eq!(harness.fake_source.take_requests(), ["ledger None 2026-11-19"], "only what is new, and once an hour");
    harness.fake_source.lines.lock().unwrap().push(line("c", start()));
    harness.pass(24 * 60).await;
    let requests = harness.fake_source.take_requests();
    assert_eq!(requests.iter().filter(|it| it.starts_with("ledger")).count(), 24, "{requests:?}");
    assert_eq!(requests.iter().filter(|it| it.starts_with("orders")).count(), 1, "{requests:?}");
    assert_eq!(requests.last().unwrap(), "ledger None 2026-11-22");
    assert_eq!(harness.lines(None), Ok(3), "lines of the overlap come once");
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn divisions_no_longer_requested_are_dropped() {
    let harness = harness();
    *harness.fake_source.orders.lock().unwrap() =
        vec![order(1, 10, 1, Some(5)), order(2, 10, 1, Some(6)), order(3, 10, 1, None)];
    harness.request(&[Some(5), Some(6), Some(7)]).wait_until_settled(&[Some(5), Some(6), Some(7)]).await;
    let ids = |division| harness.history.history(division).orders.unwrap().iter().map(|it| it.id).collect::<Vec<_>>();
    assert_eq!((ids(Some(5)), ids(Some(7)), ids(None)), (vec![1, 3], vec![3], vec![1, 2, 3]));
    harness.request(&[Some(6)]);
    assert_eq!(harness.lines(Some(5)), Err(HistoryGap::NotYetRead));
    assert_eq!(harness.lines(Some(6)), Ok(2));
    harness.fake_source.take_requests();
    harness.pass(61).await;
    assert_eq!(harness.fake_source.take_requests(), ["ledger Some(6) 2026-11-19"]);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_order_end_is_requested_once_and_only_where_it_matters() {
    let harness = harness();
    let renewed = Order { renewed: true, ..order(4, 5, 3, None) };
    let orders =
        vec![order(1, 20, 3, None), order(2, 60, 3, None), order(3, 20, 1, None), renewed, order(99, -5, 2, None)];
    *harness.fake_source.orders.lock().unwrap() = orders;
    harness.request(&[None]).wait_until_settled(&[None]).await;
    let ends = |requests: &[String]| requests.iter().filter(|it| it.starts_with("end")).cloned().collect::<Vec<_>>();
    // The third was bought for a year and may last 165 days longer than its certificate.
    assert_eq!(ends(&harness.fake_source.take_requests()), ["end 1", "end 3", "end 99"]);
    let order_ends: Vec<_> =
        harness.history.history(None).orders.unwrap().iter().map(|it| (it.id, it.order_ends)).collect();
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
async fn after_a_failure_fresh_history_stays_and_the_retry_waits() {
    let harness = harness();
    harness.request(&[None]).wait_until_settled(&[None]).await;
    harness.fake_source.take_requests();
    harness.fake_source.fail("ledger", ReadErrorKind::Refused, 99);
    harness.pass(12 * 60 + 5).await;
    let requests = harness.fake_source.take_requests();
    assert_eq!(requests.len(), 12, "somebody has to act first: {requests:?}");
    assert_eq!(harness.lines(None), Ok(2));
    harness.pass(37 * 60).await;
    let gap = harness.lines(None).unwrap_err();
    let HistoryGap::Unreadable(why) = gap else { panic!("{gap:?}") };
    assert_eq!((why.persistence, why.reason.as_str()), (Persistence::Permanent, "ledger answered"));
    assert!(harness.history.history(None).orders.is_ok(), "the other part goes on");
    harness.fake_source.failures.lock().unwrap().clear();
    harness.pass(61).await;
    assert_eq!(harness.lines(None), Ok(2));
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_error_pauses_all_requests_and_is_shown_at_once() {
    let harness = harness();
    harness.fake_source.fail("ledger", ReadErrorKind::Server, 1);
    harness.request(&[Some(1), Some(2), Some(3)]);
    assert!(harness.wait_until_settled(&[Some(1), Some(2), Some(3)]).await < Duration::from_secs(1));
    assert_eq!(harness.fake_source.take_requests().len(), 1);
    assert!(matches!(harness.lines(Some(3)), Err(HistoryGap::Unreadable(_))));
    harness.pass(6).await;
    assert_eq!(harness.fake_source.take_requests().len(), 3, "the other two and the orders");
    assert_eq!(harness.lines(Some(3)), Ok(2));
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
    assert_eq!(harness.wait_until_settled(&[Some(8)]).await, Duration::ZERO, "not wanted");
    assert_eq!(harness.lines(None), Err(HistoryGap::NotYetRead));
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_discontinuous_ledger_is_read_as_a_whole() {
    let harness = harness();
    harness.request(&[None]).wait_until_settled(&[None]).await;
    *harness.fake_source.lines.lock().unwrap() = vec![line("x", start())];
    harness.fake_source.take_requests();
    harness.pass(61).await;
    let all = ["ledger None 2026-11-19", "ledger None 2025-10-19", "orders 2025-10-09 2030-03-07"];
    assert_eq!(harness.fake_source.take_requests(), all, "the orders may be another account's too");
    assert_eq!(harness.lines(None), Ok(1));
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
    let ends = |requests: Vec<String>| requests.into_iter().filter(|it| !it.starts_with("ledger")).collect::<Vec<_>>();
    assert_eq!(ends(harness.fake_source.take_requests()), ["end 2"], "a day further, of the same listing");
    let known = |harness: &RefresherHarness| {
        harness
            .history
            .history(None)
            .orders
            .unwrap()
            .iter()
            .filter(|it| it.order_ends.is_some())
            .map(|it| it.id)
            .collect()
    };
    let ids: Vec<u64> = known(&harness);
    assert_eq!(ids, [1, 2]);
    let read = harness.history.history(None).orders_read;
    let history = Arc::clone(&harness.history);
    let harness = harness_of(harness.end().await, history, None, 60);
    harness.pass(60).await;
    assert_eq!(ends(harness.fake_source.take_requests()), ["end 3", "end 4"], "a reload made the window longer");
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
    let persistence = |division| harness.ends(division);
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
    assert!(harness.fake_source.take_requests().iter().all(|it| it.starts_with("ledger")));
    harness.pass(60).await;
    let requests: Vec<_> =
        harness.fake_source.take_requests().into_iter().filter(|it| !it.starts_with("ledger")).collect();
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
    assert_eq!(harness.ends(Some(5)), Some(Persistence::Transient));
    harness.pass(11).await;
    assert_eq!(harness.fake_source.take_requests(), ["end 1", "end 2", "end 3", "end 4", "end 5"]);
    assert_eq!(harness.ends(None), None);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn read_times_are_known_even_where_the_history_is_too_old() {
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
    assert_eq!(harness.history.history(Some(5)).ledger_read, None, "not wanted");
    harness.end().await;
}

/// Files are written by a thread of their own, in real time, and beside the old one first.
fn wait_for_files(folder: &std::path::Path, count: usize) {
    for _ in 0..500 {
        if files(folder).len() == count {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not {count}: {:?}", files(folder));
}

#[tokio::test(start_paused = true)]
async fn a_division_requested_now_and_then_is_read_incrementally() {
    let folder = tempfile::tempdir().unwrap();
    let fake_source = harness().end().await;
    let harness = harness_with(fake_source, Some(cache(folder.path(), "https://us")));
    harness.request(&[None, Some(5)]).wait_until_settled(&[None, Some(5)]).await;
    let of_five = |requests: Vec<String>| requests.into_iter().filter(|it| it.contains("Some(5)")).collect::<Vec<_>>();
    assert_eq!(of_five(harness.fake_source.take_requests()), ["ledger Some(5) 2025-10-19"]);
    for minutes in [5, 70, 20 * 60, 29 * 60] {
        harness.request(&[None]).pass(minutes).await;
        assert_eq!(harness.lines(Some(5)), Err(HistoryGap::NotYetRead), "nobody wants it");
        assert_eq!(of_five(harness.fake_source.take_requests()), [] as [String; 0]);
        harness.request(&[None, Some(5)]).wait_until_settled(&[None, Some(5)]).await;
        assert_eq!(harness.lines(Some(5)), Ok(2));
        let expected = if minutes < 60 { vec![] } else { vec!["ledger Some(5) 2026-11-19"] };
        assert_eq!(of_five(harness.fake_source.take_requests()), expected, "after {minutes} minutes");
    }
    wait_for_files(folder.path(), 3);
    harness.request(&[None]).pass(31 * 24 * 60).await;
    // Its file takes no space for ever.
    wait_for_files(folder.path(), 2);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn with_another_key_cached_history_is_hidden_until_verified() {
    let folder = tempfile::tempdir().unwrap();
    let fake_source = harness().end().await;
    *fake_source.orders.lock().unwrap() = vec![order(1, 20, 3, Some(5))];
    run_once(&fake_source, cache(folder.path(), "https://us")).await;
    let clock: Arc<dyn Clock> = offset_clock();
    let unverified = || Arc::new(HistoryCache::unverified(Arc::clone(&clock)));
    *fake_source.response_time.lock().unwrap() = Duration::from_secs(5);
    let harness = harness_of(Arc::clone(&fake_source), unverified(), Some(cache(folder.path(), "https://us")), 30);
    harness.request(&[Some(5)]);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(harness.history.history(Some(5)), AccountHistory::unread());
    harness.wait_until_settled(&[Some(5)]).await;
    assert_eq!(harness.lines(Some(5)), Ok(2));
    let fake_source = harness.end().await;
    assert_eq!(
        fake_source.take_requests(),
        ["ledger Some(5) 2026-11-19", "orders 2025-10-09 2030-03-07"],
        "the same account's"
    );
    *fake_source.lines.lock().unwrap() = vec![line("x", start())];
    let harness = harness_of(Arc::clone(&fake_source), unverified(), Some(cache(folder.path(), "https://us")), 30);
    harness.request(&[Some(5)]).wait_until_settled(&[Some(5)]).await;
    assert_eq!(harness.lines(Some(5)), Ok(1));
    harness.end().await;
}

/// What was asked of the orders alone.
fn without_ledgers(requests: Vec<String>) -> Vec<String> {
    requests.into_iter().filter(|it| !it.starts_with("ledger")).collect()
}

fn expired(id: u64, ended: i64) -> Order {
    Order { expired: true, ..order(id, -ended, 1, None) }
}

impl RefresherHarness {
    fn ids(&self) -> Vec<u64> {
        self.history.history(None).orders.unwrap().iter().map(|it| it.id).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn orders_that_ended_long_ago_are_listed_once_and_kept() {
    let harness = harness();
    let orders = [expired(1, 411), expired(2, 410), expired(3, 409), expired(4, 70), expired(5, 61), expired(6, 60)];
    *harness.fake_source.orders.lock().unwrap() = orders.into_iter().chain([order(7, 150, 1, None)]).collect();
    harness.request(&[None]).wait_until_settled(&[None]).await;
    assert_eq!(without_ledgers(harness.fake_source.take_requests()), ["orders 2025-10-09 2030-03-07"]);
    assert_eq!(harness.ids(), [2, 3, 4, 5, 6, 7]);
    // None of them is listed any more, and another one is.
    *harness.fake_source.orders.lock().unwrap() = vec![order(8, 150, 1, None)];
    harness.pass(24 * 60 + 5).await;
    assert_eq!(without_ledgers(harness.fake_source.take_requests()), ["orders 2026-09-24 2030-03-08"]);
    assert_eq!(harness.ids(), [3, 4, 5, 8], "what is old is kept, the oldest is dropped, the rest is as listed");
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn orders_read_by_a_clock_that_was_ahead_are_read_anew() {
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
async fn a_clock_that_was_ahead_and_went_back_loses_no_line_and_no_order() {
    for restarts in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (clock, fake_source) = (offset_clock(), Arc::new(FakeHistorySource::default()));
        *fake_source.lines.lock().unwrap() =
            vec![line("old", start() - TimeDelta::days(390)), line("new", start() - TimeDelta::days(3))];
        *fake_source.orders.lock().unwrap() = vec![expired(1, 390), order(2, 150, 1, None)];
        let live = || {
            let history = Arc::new(HistoryCache::new(Arc::clone(&clock) as Arc<dyn Clock>));
            harness_of(Arc::clone(&fake_source), history, Some(cache(folder.path(), "https://us")), 30)
        };
        let mut harness = live();
        harness.request(&[None]).pass(1).await;
        assert_eq!((harness.lines(None), harness.ids()), (Ok(2), vec![1, 2]));
        clock.set_days_ahead(60);
        harness.request(&[None]).pass(1).await;
        assert_eq!((harness.lines(None), harness.ids()), (Ok(1), vec![2]), "right, if it were that day");
        clock.set_days_ahead(0);
        fake_source.take_requests();
        if restarts {
            harness.end().await;
            harness = live();
        }
        harness.request(&[None]).pass(1).await;
        assert_eq!((harness.lines(None), harness.ids()), (Ok(2), vec![1, 2]), "restarts: {restarts}");
        assert_eq!(fake_source.take_requests(), ["ledger None 2025-10-19", "orders 2025-10-09 2030-03-07"]);
        harness.pass(61).await;
        assert_eq!(fake_source.take_requests(), ["ledger None 2026-11-19"], "as a whole only once");
        harness.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_during_a_ledger_read_loses_no_line() {
    let (clock, fake_source) = (offset_clock(), Arc::new(FakeHistorySource::default()));
    *fake_source.lines.lock().unwrap() =
        vec![line("old", start() - TimeDelta::days(390)), line("new", start() - TimeDelta::days(3))];
    *fake_source.response_time.lock().unwrap() = Duration::from_secs(5);
    clock.set_days_ahead(60);
    let harness = harness_of(fake_source, Arc::new(HistoryCache::new(Arc::clone(&clock) as Arc<dyn Clock>)), None, 30);
    harness.request(&[None]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    clock.set_days_ahead(0);
    harness.request(&[None]).pass(1).await;
    assert_eq!(harness.lines(None), Ok(2));
    harness.end().await;
}

/// The lines that this thread logs at a level from here on, until the guard is dropped.
fn logged() -> (tracing::subscriber::DefaultGuard, impl Fn(&str) -> Vec<String>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let writer = Mutex::new(file.reopen().unwrap());
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::DEBUG);
    let of = move |level: &str| {
        let text = std::fs::read_to_string(file.path()).unwrap();
        text.lines().filter(|line| line.split_whitespace().nth(1) == Some(level)).map(str::to_owned).collect()
    };
    (tracing::subscriber::set_default(subscriber.with_writer(writer).finish()), of)
}

#[tokio::test(start_paused = true)]
async fn undocumented_statuses_are_warned_of_once() {
    let (_guard, logged) = logged();
    let harness = harness();
    let of = |counts: &[(&str, usize)]| counts.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect();
    let day = 24 * 60 + 5;
    for (undocumented, warnings) in [
        (vec![], 0),
        (vec![("frozen", 2), ("zombie", 143)], 1),
        (vec![("frozen", 2), ("zombie", 144)], 1),
        (vec![("zombie", 1)], 1),
        (vec![("frozen", 2), ("lost", 1)], 2),
    ] {
        *harness.fake_source.undocumented.lock().unwrap() = of(&undocumented);
        harness.request(&[None]).pass(day).await;
        let logged_warnings = logged("WARN");
        assert_eq!(logged_warnings.len(), warnings, "{undocumented:?}: {logged_warnings:?}");
    }
    let logged_warnings = logged("WARN");
    assert!(logged_warnings[0].contains("they are left out"), "{logged_warnings:?}");
    assert!(logged_warnings[0].contains("orders=145 statuses=\"frozen: 2, zombie: 143\""), "{logged_warnings:?}");
    let again: Vec<_> = logged("DEBUG").into_iter().filter(|it| it.contains("left out")).collect();
    assert_eq!(again.len(), 2, "one line a listing: {again:?}");
    harness.end().await;
}

#[test]
fn warnings_of_new_statuses_are_bounded() {
    let mut state = refresh_state::HistoryState::default();
    let mut warns =
        |day: usize| state.has_new_status(&(0..20).map(|n| (format!("status {}", day * 20 + n), 1)).collect());
    let warned: Vec<bool> = (0..8).map(&mut warns).collect();
    assert_eq!(warned, [true, true, true, true, true, false, false, false]);
}

/// Reports whether files hold ledger and orders that were read then or later.
fn files_read_since(folder: &Path, read: Time) -> bool {
    let cached = cache(folder, "https://us");
    cached.ledger(None).is_some_and(|(_, of)| of >= read) && cached.orders().is_some_and(|(_, _, of)| of >= read)
}

#[tokio::test(start_paused = true)]
async fn unchanged_history_is_saved_again_after_a_failed_write() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("state.json.books");
    std::fs::write(&place, "a file in the way of the folder").unwrap();
    let fake_source = harness().end().await;
    *fake_source.orders.lock().unwrap() = vec![order(1, 20, 3, None)];
    let harness = harness_with(fake_source, Some(cache(folder.path(), "https://us")));
    harness.request(&[None]).pass(1).await;
    std::fs::remove_file(&place).unwrap();
    harness.pass(62).await;
    assert!(cache(folder.path(), "https://us").ledger(None).is_some(), "the ledger is read each hour");
    harness.pass(24 * 60).await;
    assert!(files_read_since(folder.path(), start() + TimeDelta::hours(23)));
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn history_is_saved_once_a_hanging_file_system_answers() {
    let folder = tempfile::tempdir().unwrap();
    let fake_source = harness().end().await;
    *fake_source.orders.lock().unwrap() = vec![order(1, 20, 3, None)];
    let history = Arc::new(HistoryCache::new(offset_clock()));
    let (source, clock) = (Arc::clone(&fake_source) as _, Arc::clone(&history.clock));
    let cached = cache(folder.path(), "https://us");
    let mut refresher = Refresher::new("acme".into(), source, Arc::clone(&history), clock, Some(cached), 30);
    let (answer, hangs) = std::sync::mpsc::channel::<()>();
    let advance = tokio::time::advance(Duration::from_secs(30));
    assert!(tokio::join!(refresher.disk.run(move |_| hangs.recv()), advance).0.is_none(), "it hangs");
    let stop = CancellationToken::new();
    let task = tokio::spawn(refresher.run(stop.clone()));
    let harness = RefresherHarness { fake_source, history, stop, task };
    harness.request(&[None]).wait_until_settled(&[None]).await;
    assert_eq!((harness.lines(None), files(folder.path()).len()), (Ok(2), 0), "nothing waits for it");
    answer.send(()).unwrap();
    harness.pass(62).await;
    assert!(cache(folder.path(), "https://us").ledger(None).is_some(), "the ledger is read each hour");
    harness.pass(24 * 60).await;
    assert!(files_read_since(folder.path(), start() + TimeDelta::hours(23)));
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn requested_ends_survive_a_restart_in_mid_listing() {
    let folder = tempfile::tempdir().unwrap();
    let fake_source = Arc::new(FakeHistorySource::default());
    *fake_source.orders.lock().unwrap() = (1..=300).map(|id| order(id, 10, 3, None)).collect();
    *fake_source.response_time.lock().unwrap() = Duration::from_secs(1);
    let live = || harness_with(Arc::clone(&fake_source), Some(cache(folder.path(), "https://us")));
    let ends = || fake_source.take_requests().into_iter().filter(|it| it.starts_with("end")).collect::<Vec<_>>();
    let harness = live();
    harness.request(&[None]);
    tokio::time::sleep(Duration::from_secs(150)).await;
    harness.task.abort();
    let requests = ends();
    assert!(requests.len() > 140, "{requests:?}");
    assert!(requests.contains(&"end 140".to_owned()));
    // Killed: what was asked for since the last hundred is lost.
    let harness = live();
    harness.request(&[None]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    harness.end().await;
    let requests = ends();
    assert_eq!(requests[0], "end 101");
    let stopped_at: u64 = requests.last().unwrap()[4..].parse().unwrap();
    assert!((140..200).contains(&stopped_at), "{stopped_at}");
    // Stopped: only the request under way is lost.
    let harness = live();
    harness.request(&[None]).pass(5).await;
    let requests = ends();
    assert_eq!((&*requests[0], &**requests.last().unwrap()), (&*format!("end {stopped_at}"), "end 300"));
    assert_eq!(harness.history.history(None).orders.unwrap().iter().filter(|it| it.order_ends.is_none()).count(), 0);
    wait_for_files(folder.path(), 2);
    harness.end().await;
    let harness = live();
    harness.request(&[None]).pass(1).await;
    assert_eq!(fake_source.take_requests(), [] as [String; 0], "they are in the listing now");
    harness.end().await;
}

#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn a_pipe_or_device_in_place_of_a_cache_file_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (_guard, logged) = logged();
    let fake_source = harness().end().await;
    *fake_source.orders.lock().unwrap() = vec![order(1, 20, 3, Some(5))];
    let all = run_once(&fake_source, cache(folder.path(), "https://us")).await;
    let pipe = |path: &Path| rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RWXU).unwrap();
    let device = |path: &Path| std::os::unix::fs::symlink("/dev/zero", path).unwrap();
    for (what, place) in [("pipe", &pipe as &dyn Fn(&Path)), ("device", &device)] {
        let kept = files(folder.path());
        assert_eq!(kept.len(), 2);
        for file in &kept {
            std::fs::remove_file(file).unwrap();
            place(file);
            place(&file.with_extension("jsonl.new"));
        }
        let cached = cache(folder.path(), "https://us");
        assert!(cached.orders().is_none() && cached.ledger(Some(5)).is_none(), "{what}");
        assert_eq!(run_once(&fake_source, cached).await, all, "{what}");
        assert!(files(folder.path()).iter().all(|file| file.symlink_metadata().unwrap().is_file()), "{what}");
        assert_eq!(run_once(&fake_source, cache(folder.path(), "https://us")).await, [] as [String; 0], "{what}");
    }
    let messages: Vec<_> = logged("INFO").into_iter().filter(|it| it.contains("it is not a regular file")).collect();
    assert!(messages.len() == 4 && messages.iter().all(|it| it.contains(".jsonl")), "{messages:?}");
}

#[tokio::test(start_paused = true)]
async fn a_restart_lists_only_orders_that_may_have_changed() {
    let folder = tempfile::tempdir().unwrap();
    let fake_source = harness().end().await;
    *fake_source.orders.lock().unwrap() = vec![expired(1, 300), order(2, 10, 1, None)];
    let clock: Arc<dyn Clock> = offset_clock();
    let live = |fake_source: Arc<FakeHistorySource>| {
        let history = Arc::new(HistoryCache::new(Arc::clone(&clock)));
        harness_of(fake_source, history, Some(cache(folder.path(), "https://us")), 30)
    };
    let harness = live(fake_source);
    harness.request(&[None]).wait_until_settled(&[None]).await;
    wait_for_files(folder.path(), 2);
    let fake_source = harness.end().await;
    fake_source.take_requests();
    fake_source.orders.lock().unwrap().clear();
    tokio::time::sleep(Duration::from_secs(5 * 24 * 3600)).await;
    let harness = live(fake_source);
    harness.request(&[None]).pass(1).await;
    assert_eq!(without_ledgers(harness.fake_source.take_requests()), ["orders 2026-09-24 2030-03-12"]);
    assert_eq!(harness.ids(), [1]);
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
        "it has another certificate"
    );
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_order_that_was_over_long_ago_is_not_asked_for() {
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

#[test]
fn products_and_common_names_come_back_from_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let named = |id, product: Option<&str>, name: Option<&str>| Order {
        product: product.map(Into::into),
        common_name: name.map(Into::into),
        ..order(id, 10, 1, None)
    };
    let orders = [
        named(1, Some("ssl_plus"), Some("*.shop.example.com")),
        named(2, None, Some("b\u{fc}cher \"quoted\" \\ example")),
        named(3, Some("\u{1F4B6}"), None),
        named(4, None, None),
    ];
    let cache = cache(folder.path(), "https://us");
    cache.save_orders(&orders, &BTreeMap::new(), start()).unwrap();
    assert_eq!(cache.orders().unwrap().0, orders);
}

fn cache(folder: &Path, base: &str) -> DiskCache {
    DiskCache::new(folder.join("state.json.books"), "../../a\u{1F4B6}", base)
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder.join("state.json.books"));
    let mut files: Vec<_> = entries.map(|all| all.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default();
    files.sort();
    files
}

/// One life of a keeper with a cache; what it asked.
async fn run_once(fake_source: &Arc<FakeHistorySource>, cache: DiskCache) -> Vec<String> {
    let harness = harness_with(Arc::clone(fake_source), Some(cache));
    harness.request(&[Some(5)]).wait_until_settled(&[Some(5)]).await;
    assert_eq!(harness.lines(Some(5)), Ok(2));
    assert_eq!(harness.history.history(Some(5)).orders.unwrap()[0].order_ends, Some(today() + Days::new(300)));
    harness.pass(1).await;
    harness.end().await.take_requests()
}

#[tokio::test(start_paused = true)]
async fn a_restart_uses_the_cache_unless_it_is_damaged_or_foreign() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let first = harness();
    let fake_source = first.end().await;
    *fake_source.orders.lock().unwrap() = vec![order(1, 20, 3, Some(5))];
    let all = ["ledger Some(5) 2025-10-19", "orders 2025-10-09 2030-03-07", "end 1"];
    assert_eq!(run_once(&fake_source, cache(folder.path(), "https://us")).await, all);
    let kept = files(folder.path());
    assert_eq!(kept.len(), 2);
    for file in &kept {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(
            file.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
        );
    }
    assert_eq!(run_once(&fake_source, cache(folder.path(), "https://us")).await, [] as [String; 0], "fresh");
    assert_eq!(run_once(&fake_source, cache(folder.path(), "https://eu")).await, all, "another place");
    for file in &kept {
        let good = std::fs::read(file).unwrap();
        for at in (0..good.len()).step_by(7) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(file, &bad).unwrap();
            let cache = cache(folder.path(), "https://us");
            let accepted = if file == &kept[0] { cache.ledger(Some(5)).is_some() } else { cache.orders().is_some() };
            // What stands in the header beside the checksum is of no weight but the time.
            let header = good.iter().position(|byte| *byte == b'\n').unwrap();
            assert!(!accepted || at < header, "a bit of byte {at} of {}", file.display());
        }
        std::fs::write(file, &good[..good.len() / 2]).unwrap();
    }
    assert_eq!(run_once(&fake_source, cache(folder.path(), "https://us")).await, all, "damaged");
    std::fs::remove_dir_all(folder.path().join("state.json.books")).unwrap();
    assert_eq!(run_once(&fake_source, cache(folder.path(), "https://us")).await, all, "deleted");
    // A folder that cannot be made hurts nobody.
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    assert_eq!(run_once(&fake_source, DiskCache::new(file.join("books"), "a", "b")).await, all);
}

/// A shelf for which division 1 is watched, and these figures are reported.
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

    /// How many lines each part of the fund has, or that it is not known.
    fn fund(&self) -> Vec<Option<usize>> {
        let lines = |part: AccountHistory| part.ledger.ok().map(|ledger| ledger.entries().len());
        self.history.fund_histories(&[Some(1)]).into_iter().map(lines).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn ledgers_of_unwatched_divisions_that_share_a_fund_are_read() {
    let harness = harness_sharing(&[(1, &[1500]), (2, &[1500]), (3, &[40])]);
    assert_eq!(harness.fund(), [None, None], "until it is known who shares it, nothing is");
    harness.wait_until_settled(&[Some(1)]).await;
    assert_eq!(harness.fund(), [Some(2), Some(2)]);
    let requests = harness.fake_source.take_requests();
    assert!(requests[0].starts_with("ledger Some(1)"), "what is known to be wanted comes first: {requests:?}");
    assert_eq!(requests[1..5], ["listing", "figures 1", "figures 2", "figures 3"]);
    assert_eq!(requests[5], "figures 1", "once more, for the third that differs");
    assert_eq!(requests.iter().filter(|it| it.starts_with("ledger")).count(), 2, "{requests:?}");
    for _ in 0..28 {
        harness.request_shared();
        harness.pass(2).await;
    }
    assert_eq!(harness.fake_source.take_requests(), [] as [String; 0], "no cycle asks for it");
    harness.pass(6).await;
    let requests = harness.fake_source.take_requests();
    assert_eq!(requests.iter().filter(|it| *it == "listing").count(), 1, "once an hour: {requests:?}");
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn no_sharing_search_where_every_division_is_watched() {
    let harness = harness();
    harness.request(&[Some(1)]).wait_until_settled(&[Some(1)]).await;
    assert!(
        harness.fake_source.take_requests().iter().all(|it| !it.starts_with("listing") && !it.starts_with("figures"))
    );
    assert_eq!(harness.fund(), [Some(2)]);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_purchase_between_two_reads_loses_no_division_of_a_fund() {
    // The first look at 1 is before a purchase, the one at 2 behind it.
    let harness = harness_sharing(&[(1, &[1500, 1400]), (2, &[1400])]);
    harness.wait_until_settled(&[Some(1)]).await;
    assert_eq!(harness.fund(), [Some(2), Some(2)]);
    // An hour later it happens twice; the last look is at both together.
    *harness.fake_source.figures.lock().unwrap() = [(1, vec![1400, 1300, 1200]), (2, vec![1350, 1200])].into();
    harness.fake_source.take_requests();
    harness.pass(61).await;
    assert_eq!(harness.fake_source.take_requests().iter().filter(|it| it.starts_with("figures")).count(), 5);
    assert_eq!(harness.fund(), [Some(2), Some(2)]);
    // Its fund is its own from now on.
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
    assert_eq!(harness.fund(), [Some(2), Some(2)], "what was found out once");
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
    assert_eq!(harness.fund(), [Some(2), Some(2)], "1 and 3");
    harness.fake_source.take_requests();
    harness.pass(9).await;
    assert_eq!(harness.fake_source.take_requests(), [] as [String; 0], "not before its pause is over");
    harness.pass(2).await;
    assert_eq!(harness.fund(), [Some(2), Some(2), Some(2)]);
    assert_eq!(
        harness.fake_source.take_requests()[..3],
        ["listing", "figures 1", "figures 2"],
        "the others are not asked with it"
    );
    // What was known of it stays while it cannot be read.
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
    let searched = |requests: Vec<String>| requests.iter().filter(|it| *it == "listing").count();
    assert_eq!(searched(harness.fake_source.take_requests()), 1);
    harness.pass(2).await;
    assert_eq!((searched(harness.fake_source.take_requests()), harness.fund()), (1, vec![Some(2), Some(2)]));
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_search_among_many_divisions_goes_on_in_rounds() {
    let many: BTreeMap<u64, Vec<i64>> = (1..=451).map(|id| (id, vec![if id == 450 { 1500 } else { 40 }])).collect();
    let harness = harness();
    *harness.fake_source.figures.lock().unwrap() = many.into_iter().chain([(1, vec![1500])]).collect();
    *harness.fake_source.response_time.lock().unwrap() = Duration::from_secs(1);
    harness.request_shared();
    harness.pass(4).await;
    assert_eq!(harness.fund(), [Some(2), None], "as long as not all were asked");
    harness.pass(5).await;
    assert_eq!(harness.fund(), [Some(2), Some(2)]);
    let others =
        |requests: Vec<String>| requests.iter().filter(|it| it.starts_with("figures") && *it != "figures 1").count();
    assert_eq!(others(harness.fake_source.take_requests()), 450, "each once");
    harness.pass(66).await;
    assert_eq!(others(harness.fake_source.take_requests()), 200, "no more than that in an hour");
    harness.pass(130).await;
    assert_eq!(others(harness.fake_source.take_requests()), 250, "the others in the next ones");
    assert_eq!(harness.fund(), [Some(2), Some(2)]);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_search_pauses_and_resumes_where_it_was() {
    let harness = harness_sharing(&[(1, &[1500]), (2, &[7]), (3, &[7]), (4, &[7]), (5, &[1500])]);
    for words in ["figures 2", "figures 3", "figures 4"] {
        harness.fake_source.fail(words, ReadErrorKind::Timeout, 1);
    }
    harness.wait_until_settled(&[Some(1)]).await;
    assert!(matches!(harness.history.fund_histories(&[Some(1)])[1].ledger, Err(HistoryGap::Unreadable(_))));
    assert!(!harness.fake_source.take_requests().contains(&"figures 5".to_owned()));
    harness.pass(11).await;
    assert_eq!(harness.fund(), [Some(2), Some(2)]);
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
        harness.fake_source.take_requests().into_iter().filter(|it| it.starts_with("end")).collect();
    assert_eq!(ends, ["end 3"]);
    let orders = harness.history.history(None).orders.unwrap();
    assert_eq!(orders[..2], [listed, over]);
    let harness = harness_with(harness.end().await, cache());
    harness.request(&[None]).wait_until_settled(&[None]).await;
    assert_eq!(harness.history.history(None).orders.unwrap(), orders, "from the cache");
    harness.end().await;
}
