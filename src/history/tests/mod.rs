//! The keeper on a stepped clock: what it asks and when, what it shows, and what it makes of failures and of its cache.

mod unlisted;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use async_trait::async_trait;
use chrono::{Days, NaiveDate, TimeDelta};
use rust_decimal::Decimal;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::certcentral::{BooksSource, OrderList, ReadError, ReadErrorKind};
use crate::domain::Time;
use crate::domain::balance::{Balance, Outlook};
use crate::domain::history::{Entry, Gap, Order};
use crate::domain::money::Currency;

fn start() -> Time {
    "2026-11-23T08:00:00Z".parse().unwrap()
}

fn today() -> NaiveDate {
    start().date_naive()
}

struct Stepped {
    began: tokio::time::Instant,
    /// It is ahead by so much.
    ahead: Mutex<TimeDelta>,
}

fn stepped() -> Arc<Stepped> {
    Arc::new(Stepped { began: tokio::time::Instant::now(), ahead: Mutex::default() })
}

impl Stepped {
    fn is_ahead_by(&self, days: i64) {
        *self.ahead.lock().unwrap() = TimeDelta::days(days);
    }
}

#[async_trait]
impl Clock for Stepped {
    fn now(&self) -> Time {
        start() + TimeDelta::from_std(self.began.elapsed()).unwrap() + *self.ahead.lock().unwrap()
    }
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// What is asked, in words, and what is answered.
#[derive(Default)]
struct Script {
    asked: Mutex<Vec<String>>,
    lines: Mutex<Vec<Entry>>,
    orders: Mutex<Vec<Order>>,
    undocumented: Mutex<BTreeMap<String, usize>>,
    /// What each division has, at one request after the other; the last for ever.
    figures: Mutex<BTreeMap<u64, Vec<i64>>>,
    /// Failures of the next requests whose words begin like this.
    failures: Mutex<VecDeque<(&'static str, ReadErrorKind)>>,
    /// A request hangs for so long.
    hangs: Mutex<Duration>,
}

impl Script {
    async fn ask(&self, what: String) -> Result<(), ReadError> {
        self.asked.lock().unwrap().push(what.clone());
        let pause = *self.hangs.lock().unwrap();
        tokio::time::sleep(pause).await;
        let mut failures = self.failures.lock().unwrap();
        let Some(at) = failures.iter().position(|(words, _)| what.starts_with(words)) else { return Ok(()) };
        let (_, kind) = failures.remove(at).unwrap();
        Err(ReadError { kind, reason: format!("{} answered", what.split(' ').next().unwrap()) })
    }

    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn fail(&self, words: &'static str, kind: ReadErrorKind, times: usize) {
        self.failures.lock().unwrap().extend(std::iter::repeat_n((words, kind), times));
    }
}

#[async_trait]
impl BooksSource for Script {
    async fn ledger(&self, division: Division, since: Option<NaiveDate>) -> Result<Vec<Entry>, ReadError> {
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
    async fn listed(&self) -> Result<Vec<u64>, ReadError> {
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

fn line(id: &str, at: Time) -> Entry {
    Entry {
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

struct House {
    script: Arc<Script>,
    shelf: Arc<Shelf>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

fn house_with(script: Arc<Script>, cache: Option<Cache>) -> House {
    house_of(script, Arc::new(Shelf::new(stepped())), cache, 30)
}

fn house_of(script: Arc<Script>, shelf: Arc<Shelf>, cache: Option<Cache>, watched_days: u64) -> House {
    let (source, clock) = (Arc::clone(&script) as _, Arc::clone(&shelf.clock));
    let keeper = Keeper::new("acme".into(), source, Arc::clone(&shelf), clock, cache, watched_days);
    let (stop, stopped) = watch::channel(false);
    House { script, shelf, stop, task: tokio::spawn(keeper.run(stopped)) }
}

fn house() -> House {
    let script = Script::default();
    *script.lines.lock().unwrap() =
        vec![line("b", start() - TimeDelta::days(9)), line("a", start() - TimeDelta::days(3))];
    house_with(Arc::new(script), None)
}

impl House {
    fn want(&self, divisions: &[Division]) -> &Self {
        self.shelf.want(&divisions.iter().copied().collect());
        self
    }

    async fn settled(&self, divisions: &[Division]) -> Duration {
        let began = tokio::time::Instant::now();
        self.shelf.settled(&divisions.iter().copied().collect(), Duration::from_secs(30)).await;
        began.elapsed()
    }

    async fn pass(&self, minutes: u64) {
        tokio::time::sleep(Duration::from_secs(60 * minutes)).await;
    }

    fn lines(&self, division: Division) -> Result<usize, Gap> {
        self.shelf.books(division).ledger.map(|ledger| ledger.entries().len())
    }

    /// Why ends of this division's orders are unknown, in short.
    fn ends(&self, division: Division) -> Option<Outlook> {
        self.shelf.books(division).ends.map(|why| {
            assert_eq!(why.reason, "end answered");
            why.outlook
        })
    }

    async fn end(self) -> Arc<Script> {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
        self.script
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_until_it_is_wanted_and_then_each_part_only_when_it_is_due() {
    let house = house();
    house.pass(600).await;
    assert_eq!(house.script.taken(), [] as [String; 0]);
    assert_eq!(house.shelf.books(None), Books::unread());
    house.want(&[None]);
    assert!(house.settled(&[None]).await < Duration::from_secs(1));
    assert_eq!(house.script.taken(), ["ledger None 2025-10-19", "orders 2025-10-09 2030-03-07"]);
    assert_eq!(house.lines(None), Ok(2));
    for _ in 0..30 {
        // Each cycle says again what it wants.
        house.want(&[None]).pass(2).await;
    }
    house.pass(1).await;
    assert_eq!(house.script.taken(), ["ledger None 2026-11-19"], "only what is new, and once an hour");
    house.script.lines.lock().unwrap().push(line("c", start()));
    house.pass(24 * 60).await;
    let asked = house.script.taken();
    assert_eq!(asked.iter().filter(|it| it.starts_with("ledger")).count(), 24, "{asked:?}");
    assert_eq!(asked.iter().filter(|it| it.starts_with("orders")).count(), 1, "{asked:?}");
    assert_eq!(asked.last().unwrap(), "ledger None 2026-11-22");
    assert_eq!(house.lines(None), Ok(3), "lines of the overlap come once");
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_division_that_is_wanted_no_more_is_forgotten_and_of_orders_each_has_its_own() {
    let house = house();
    *house.script.orders.lock().unwrap() =
        vec![order(1, 10, 1, Some(5)), order(2, 10, 1, Some(6)), order(3, 10, 1, None)];
    house.want(&[Some(5), Some(6), Some(7)]).settled(&[Some(5), Some(6), Some(7)]).await;
    let ids = |division| house.shelf.books(division).orders.unwrap().iter().map(|it| it.id).collect::<Vec<_>>();
    assert_eq!((ids(Some(5)), ids(Some(7)), ids(None)), (vec![1, 3], vec![3], vec![1, 2, 3]));
    house.want(&[Some(6)]);
    assert_eq!(house.lines(Some(5)), Err(Gap::NotYetRead));
    assert_eq!(house.lines(Some(6)), Ok(2));
    house.script.taken();
    house.pass(61).await;
    assert_eq!(house.script.taken(), ["ledger Some(6) 2026-11-19"]);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_order_is_asked_only_where_it_matters_and_once() {
    let house = house();
    let renewed = Order { renewed: true, ..order(4, 5, 3, None) };
    let orders =
        vec![order(1, 20, 3, None), order(2, 60, 3, None), order(3, 20, 1, None), renewed, order(99, -5, 2, None)];
    *house.script.orders.lock().unwrap() = orders;
    house.want(&[None]).settled(&[None]).await;
    let ends = |asked: &[String]| asked.iter().filter(|it| it.starts_with("end")).cloned().collect::<Vec<_>>();
    // The third was bought for a year and may last 165 days longer than its certificate.
    assert_eq!(ends(&house.script.taken()), ["end 1", "end 3", "end 99"]);
    let told: Vec<_> = house.shelf.books(None).orders.unwrap().iter().map(|it| (it.id, it.order_ends)).collect();
    let later = Some(today() + Days::new(300));
    assert_eq!(told, [(1, later), (2, None), (3, later), (4, None), (99, Some(today() - Days::new(5)))]);
    house.pass(3 * 24 * 60).await;
    assert_eq!(ends(&house.script.taken()), [] as [String; 0]);
    house.script.orders.lock().unwrap()[0].certificate_ends = today() + Days::new(25);
    house.pass(24 * 60).await;
    assert_eq!(ends(&house.script.taken()), ["end 1"], "another certificate");
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_keeps_what_is_known_while_it_is_fresh_and_is_not_repeated_at_once() {
    let house = house();
    house.want(&[None]).settled(&[None]).await;
    house.script.taken();
    house.script.fail("ledger", ReadErrorKind::Refused, 99);
    house.pass(12 * 60 + 5).await;
    let asked = house.script.taken();
    assert_eq!(asked.len(), 12, "somebody has to act first: {asked:?}");
    assert_eq!(house.lines(None), Ok(2));
    house.pass(37 * 60).await;
    let gap = house.lines(None).unwrap_err();
    let Gap::Unreadable(why) = gap else { panic!("{gap:?}") };
    assert_eq!((why.outlook, why.reason.as_str()), (Outlook::NeedsAction, "ledger answered"));
    assert!(house.shelf.books(None).orders.is_ok(), "the other part goes on");
    house.script.failures.lock().unwrap().clear();
    house.pass(61).await;
    assert_eq!(house.lines(None), Ok(2));
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_not_well_is_left_alone_and_everybody_knows_at_once() {
    let house = house();
    house.script.fail("ledger", ReadErrorKind::Server, 1);
    house.want(&[Some(1), Some(2), Some(3)]);
    assert!(house.settled(&[Some(1), Some(2), Some(3)]).await < Duration::from_secs(1));
    assert_eq!(house.script.taken().len(), 1);
    assert!(matches!(house.lines(Some(3)), Err(Gap::Unreadable(_))));
    house.pass(6).await;
    assert_eq!(house.script.taken().len(), 3, "the other two and the orders");
    assert_eq!(house.lines(Some(3)), Ok(2));
    house.pass(6).await;
    assert_eq!(house.script.taken(), ["ledger Some(1) 2025-10-19"]);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_their_patience_and_the_task_stops_in_the_middle() {
    let house = house();
    *house.script.hangs.lock().unwrap() = Duration::from_secs(3600);
    house.want(&[None]);
    assert_eq!(house.settled(&[None]).await, Duration::from_secs(30));
    assert_eq!(house.settled(&[Some(8)]).await, Duration::ZERO, "not wanted");
    assert_eq!(house.lines(None), Err(Gap::NotYetRead));
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_does_not_go_on_where_it_ended_is_read_as_a_whole() {
    let house = house();
    house.want(&[None]).settled(&[None]).await;
    *house.script.lines.lock().unwrap() = vec![line("x", start())];
    house.script.taken();
    house.pass(61).await;
    let all = ["ledger None 2026-11-19", "ledger None 2025-10-19", "orders 2025-10-09 2030-03-07"];
    assert_eq!(house.script.taken(), all, "the orders may be another account's too");
    assert_eq!(house.lines(None), Ok(1));
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_ends_that_a_new_day_or_a_longer_window_brings_into_view_are_asked_for_before_they_matter() {
    let house = house();
    *house.script.orders.lock().unwrap() =
        vec![order(1, 34, 3, None), order(2, 35, 3, None), order(3, 36, 3, None), order(4, 60, 3, None)];
    house.want(&[None]).settled(&[None]).await;
    assert_eq!(house.script.taken()[2..], ["end 1"]);
    house.pass(15 * 60).await;
    house.script.taken();
    house.pass(2 * 60).await;
    let ends = |asked: Vec<String>| asked.into_iter().filter(|it| !it.starts_with("ledger")).collect::<Vec<_>>();
    assert_eq!(ends(house.script.taken()), ["end 2"], "a day further, of the same listing");
    let known = |house: &House| {
        house.shelf.books(None).orders.unwrap().iter().filter(|it| it.order_ends.is_some()).map(|it| it.id).collect()
    };
    let ids: Vec<u64> = known(&house);
    assert_eq!(ids, [1, 2]);
    let read = house.shelf.books(None).orders_read;
    let shelf = Arc::clone(&house.shelf);
    let house = house_of(house.end().await, shelf, None, 60);
    house.pass(60).await;
    assert_eq!(ends(house.script.taken()), ["end 3", "end 4"], "a reload made the window longer");
    let ids: Vec<u64> = known(&house);
    assert_eq!((ids, house.shelf.books(None).orders_read), (vec![1, 2, 3, 4], read));
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_end_that_cannot_be_read_is_asked_for_again_without_the_listing_and_the_reason_is_told() {
    let house = house();
    *house.script.orders.lock().unwrap() =
        vec![order(1, 10, 3, Some(5)), order(2, 10, 3, Some(6)), order(3, 10, 3, None), order(4, 10, 1, Some(7))];
    house.script.fail("end 1", ReadErrorKind::Server, 2);
    house.script.fail("end 2", ReadErrorKind::Refused, 1);
    house.want(&[Some(5)]).settled(&[Some(5)]).await;
    assert_eq!(house.script.taken()[2..], ["end 1", "end 2", "end 3", "end 4"]);
    let told = |division| house.ends(division);
    assert_eq!((told(Some(5)), told(Some(6))), (Some(Outlook::MayHeal), Some(Outlook::NeedsAction)));
    assert_eq!((told(Some(7)), told(None)), (None, Some(Outlook::NeedsAction)));
    house.pass(11).await;
    assert_eq!(house.script.taken(), ["end 1"]);
    assert_eq!(told(Some(5)), Some(Outlook::MayHeal));
    house.pass(10).await;
    assert_eq!(house.script.taken(), ["end 1"]);
    assert_eq!((told(Some(5)), told(Some(6))), (None, Some(Outlook::NeedsAction)));
    house.pass(23 * 60).await;
    assert!(house.script.taken().iter().all(|it| it.starts_with("ledger")));
    house.pass(60).await;
    let asked: Vec<_> = house.script.taken().into_iter().filter(|it| !it.starts_with("ledger")).collect();
    assert_eq!(asked, ["orders 2026-09-24 2030-03-08", "end 2"], "with the next listing");
    assert_eq!(told(None), None);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn after_three_ends_that_fail_the_rest_is_left_for_later_and_told_too() {
    let house = house();
    *house.script.orders.lock().unwrap() = (1..=5).map(|id| order(id, 10, 3, Some(id))).collect();
    house.script.fail("end", ReadErrorKind::Timeout, 3);
    house.want(&[None]).settled(&[None]).await;
    assert_eq!(house.script.taken()[2..], ["end 1", "end 2", "end 3"]);
    assert_eq!(house.ends(Some(5)), Some(Outlook::MayHeal));
    house.pass(11).await;
    assert_eq!(house.script.taken(), ["end 1", "end 2", "end 3", "end 4", "end 5"]);
    assert_eq!(house.ends(None), None);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn books_say_when_they_were_read_even_where_they_are_too_old_to_be_shown() {
    let house = house();
    house.want(&[None]).settled(&[None]).await;
    house.pass(26 * 60).await;
    let (books, now) = (house.shelf.books(None), house.shelf.clock.now());
    assert!(now - books.ledger_read.unwrap() <= TimeDelta::hours(1));
    let read = books.orders_read.unwrap();
    assert!(now - read > TimeDelta::hours(1) && now - read < TimeDelta::hours(3));
    house.script.fail("ledger", ReadErrorKind::Refused, 99);
    house.pass(50 * 60).await;
    let old = house.shelf.books(None);
    assert!(old.ledger.is_err());
    assert_eq!(old.ledger_read, books.ledger_read);
    assert_eq!(house.shelf.books(Some(5)).ledger_read, None, "not wanted");
    house.end().await;
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
async fn what_is_wanted_now_and_then_is_read_on_from_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let script = house().end().await;
    let house = house_with(script, Some(cache(folder.path(), "https://us")));
    house.want(&[None, Some(5)]).settled(&[None, Some(5)]).await;
    let of_five = |asked: Vec<String>| asked.into_iter().filter(|it| it.contains("Some(5)")).collect::<Vec<_>>();
    assert_eq!(of_five(house.script.taken()), ["ledger Some(5) 2025-10-19"]);
    for minutes in [5, 70, 20 * 60, 29 * 60] {
        house.want(&[None]).pass(minutes).await;
        assert_eq!(house.lines(Some(5)), Err(Gap::NotYetRead), "nobody wants it");
        assert_eq!(of_five(house.script.taken()), [] as [String; 0]);
        house.want(&[None, Some(5)]).settled(&[None, Some(5)]).await;
        assert_eq!(house.lines(Some(5)), Ok(2));
        let expected = if minutes < 60 { vec![] } else { vec!["ledger Some(5) 2026-11-19"] };
        assert_eq!(of_five(house.script.taken()), expected, "after {minutes} minutes");
    }
    wait_for_files(folder.path(), 3);
    house.want(&[None]).pass(31 * 24 * 60).await;
    // Its file takes no space for ever.
    wait_for_files(folder.path(), 2);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn with_another_key_nothing_from_the_cache_is_shown_before_it_was_read_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let script = house().end().await;
    *script.orders.lock().unwrap() = vec![order(1, 20, 3, Some(5))];
    life(&script, cache(folder.path(), "https://us")).await;
    let clock: Arc<dyn Clock> = stepped();
    let doubting = || Arc::new(Shelf::doubting(Arc::clone(&clock)));
    *script.hangs.lock().unwrap() = Duration::from_secs(5);
    let house = house_of(Arc::clone(&script), doubting(), Some(cache(folder.path(), "https://us")), 30);
    house.want(&[Some(5)]);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(house.shelf.books(Some(5)), Books::unread());
    house.settled(&[Some(5)]).await;
    assert_eq!(house.lines(Some(5)), Ok(2));
    let script = house.end().await;
    assert_eq!(script.taken(), ["ledger Some(5) 2026-11-19", "orders 2025-10-09 2030-03-07"], "the same account's");
    *script.lines.lock().unwrap() = vec![line("x", start())];
    let house = house_of(Arc::clone(&script), doubting(), Some(cache(folder.path(), "https://us")), 30);
    house.want(&[Some(5)]).settled(&[Some(5)]).await;
    assert_eq!(house.lines(Some(5)), Ok(1));
    house.end().await;
}

/// What was asked of the orders alone.
fn of_orders(asked: Vec<String>) -> Vec<String> {
    asked.into_iter().filter(|it| !it.starts_with("ledger")).collect()
}

fn expired(id: u64, ended: i64) -> Order {
    Order { expired: true, ..order(id, -ended, 1, None) }
}

impl House {
    fn ids(&self) -> Vec<u64> {
        self.shelf.books(None).orders.unwrap().iter().map(|it| it.id).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn orders_that_ended_long_ago_are_listed_once_and_kept() {
    let house = house();
    let orders = [expired(1, 411), expired(2, 410), expired(3, 409), expired(4, 70), expired(5, 61), expired(6, 60)];
    *house.script.orders.lock().unwrap() = orders.into_iter().chain([order(7, 150, 1, None)]).collect();
    house.want(&[None]).settled(&[None]).await;
    assert_eq!(of_orders(house.script.taken()), ["orders 2025-10-09 2030-03-07"]);
    assert_eq!(house.ids(), [2, 3, 4, 5, 6, 7]);
    // None of them is listed any more, and another one is.
    *house.script.orders.lock().unwrap() = vec![order(8, 150, 1, None)];
    house.pass(24 * 60 + 5).await;
    assert_eq!(of_orders(house.script.taken()), ["orders 2026-09-24 2030-03-08"]);
    assert_eq!(house.ids(), [3, 4, 5, 8], "what is old is kept, the oldest is dropped, the rest is as listed");
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_list_read_by_a_clock_that_was_ahead_is_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let cache = || cache(folder.path(), "https://us");
    let script = house().end().await;
    let orders = vec![expired(1, 390), order(2, 150, 1, None)];
    cache().save_orders(&orders[1..], &BTreeMap::new(), start() + TimeDelta::days(30)).unwrap();
    *script.orders.lock().unwrap() = orders;
    let house = house_with(script, Some(cache()));
    house.want(&[None]).settled(&[None]).await;
    assert_eq!(of_orders(house.script.taken()), ["orders 2025-10-09 2030-03-07"]);
    assert_eq!(house.ids(), [1, 2]);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_ahead_and_went_back_loses_no_line_and_no_order() {
    for restarts in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (clock, script) = (stepped(), Arc::new(Script::default()));
        *script.lines.lock().unwrap() =
            vec![line("old", start() - TimeDelta::days(390)), line("new", start() - TimeDelta::days(3))];
        *script.orders.lock().unwrap() = vec![expired(1, 390), order(2, 150, 1, None)];
        let live = || {
            let shelf = Arc::new(Shelf::new(Arc::clone(&clock) as Arc<dyn Clock>));
            house_of(Arc::clone(&script), shelf, Some(cache(folder.path(), "https://us")), 30)
        };
        let mut house = live();
        house.want(&[None]).pass(1).await;
        assert_eq!((house.lines(None), house.ids()), (Ok(2), vec![1, 2]));
        clock.is_ahead_by(60);
        house.want(&[None]).pass(1).await;
        assert_eq!((house.lines(None), house.ids()), (Ok(1), vec![2]), "right, if it were that day");
        clock.is_ahead_by(0);
        script.taken();
        if restarts {
            house.end().await;
            house = live();
        }
        house.want(&[None]).pass(1).await;
        assert_eq!((house.lines(None), house.ids()), (Ok(2), vec![1, 2]), "restarts: {restarts}");
        assert_eq!(script.taken(), ["ledger None 2025-10-19", "orders 2025-10-09 2030-03-07"]);
        house.pass(61).await;
        assert_eq!(script.taken(), ["ledger None 2026-11-19"], "as a whole only once");
        house.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_goes_back_while_a_ledger_is_asked_for_loses_no_line() {
    let (clock, script) = (stepped(), Arc::new(Script::default()));
    *script.lines.lock().unwrap() =
        vec![line("old", start() - TimeDelta::days(390)), line("new", start() - TimeDelta::days(3))];
    *script.hangs.lock().unwrap() = Duration::from_secs(5);
    clock.is_ahead_by(60);
    let house = house_of(script, Arc::new(Shelf::new(Arc::clone(&clock) as Arc<dyn Clock>)), None, 30);
    house.want(&[None]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    clock.is_ahead_by(0);
    house.want(&[None]).pass(1).await;
    assert_eq!(house.lines(None), Ok(2));
    house.end().await;
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
async fn orders_of_a_status_that_is_not_documented_are_told_once() {
    let (_guard, logged) = logged();
    let house = house();
    let of = |counts: &[(&str, usize)]| counts.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect();
    let day = 24 * 60 + 5;
    for (undocumented, warnings) in [
        (vec![], 0),
        (vec![("frozen", 2), ("zombie", 143)], 1),
        (vec![("frozen", 2), ("zombie", 144)], 1),
        (vec![("zombie", 1)], 1),
        (vec![("frozen", 2), ("lost", 1)], 2),
    ] {
        *house.script.undocumented.lock().unwrap() = of(&undocumented);
        house.want(&[None]).pass(day).await;
        let told = logged("WARN");
        assert_eq!(told.len(), warnings, "{undocumented:?}: {told:?}");
    }
    let told = logged("WARN");
    assert!(told[0].contains("they are left out"), "{told:?}");
    assert!(told[0].contains("orders=145 statuses=\"frozen: 2, zombie: 143\""), "{told:?}");
    let again: Vec<_> = logged("DEBUG").into_iter().filter(|it| it.contains("left out")).collect();
    assert_eq!(again.len(), 2, "one line a listing: {again:?}");
    house.end().await;
}

#[test]
fn a_server_that_makes_up_new_statuses_is_not_warned_of_for_ever() {
    let mut memory = refresh_state::Memory::default();
    let mut warns = |day: usize| memory.meets(&(0..20).map(|n| (format!("status {}", day * 20 + n), 1)).collect());
    let warned: Vec<bool> = (0..8).map(&mut warns).collect();
    assert_eq!(warned, [true, true, true, true, true, false, false, false]);
}

/// Reports whether files hold ledger and orders that were read then or later.
fn kept_since(folder: &Path, read: Time) -> bool {
    let cached = cache(folder, "https://us");
    cached.ledger(None).is_some_and(|(_, of)| of >= read) && cached.orders().is_some_and(|(_, _, of)| of >= read)
}

#[tokio::test(start_paused = true)]
async fn books_that_could_not_be_written_are_written_at_the_next_reading_though_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("state.json.books");
    std::fs::write(&place, "a file in the way of the folder").unwrap();
    let script = house().end().await;
    *script.orders.lock().unwrap() = vec![order(1, 20, 3, None)];
    let house = house_with(script, Some(cache(folder.path(), "https://us")));
    house.want(&[None]).pass(1).await;
    std::fs::remove_file(&place).unwrap();
    house.pass(62).await;
    assert!(cache(folder.path(), "https://us").ledger(None).is_some(), "the ledger is read each hour");
    house.pass(24 * 60).await;
    assert!(kept_since(folder.path(), start() + TimeDelta::hours(23)));
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn books_that_were_not_written_because_the_file_system_hung_are_written_once_it_answers() {
    let folder = tempfile::tempdir().unwrap();
    let script = house().end().await;
    *script.orders.lock().unwrap() = vec![order(1, 20, 3, None)];
    let shelf = Arc::new(Shelf::new(stepped()));
    let (source, clock) = (Arc::clone(&script) as _, Arc::clone(&shelf.clock));
    let cached = cache(folder.path(), "https://us");
    let mut keeper = Keeper::new("acme".into(), source, Arc::clone(&shelf), clock, Some(cached), 30);
    let (answer, hangs) = std::sync::mpsc::channel::<()>();
    let advance = tokio::time::advance(Duration::from_secs(30));
    assert!(tokio::join!(keeper.disk.run(move |_| hangs.recv()), advance).0.is_none(), "it hangs");
    let (stop, stopped) = watch::channel(false);
    let house = House { script, shelf, stop, task: tokio::spawn(keeper.run(stopped)) };
    house.want(&[None]).settled(&[None]).await;
    assert_eq!((house.lines(None), files(folder.path()).len()), (Ok(2), 0), "nothing waits for it");
    answer.send(()).unwrap();
    house.pass(62).await;
    assert!(cache(folder.path(), "https://us").ledger(None).is_some(), "the ledger is read each hour");
    house.pass(24 * 60).await;
    assert!(kept_since(folder.path(), start() + TimeDelta::hours(23)));
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn ends_that_were_asked_for_survive_a_restart_before_the_listing_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let script = Arc::new(Script::default());
    *script.orders.lock().unwrap() = (1..=300).map(|id| order(id, 10, 3, None)).collect();
    *script.hangs.lock().unwrap() = Duration::from_secs(1);
    let live = || house_with(Arc::clone(&script), Some(cache(folder.path(), "https://us")));
    let ends = || script.taken().into_iter().filter(|it| it.starts_with("end")).collect::<Vec<_>>();
    let house = live();
    house.want(&[None]);
    tokio::time::sleep(Duration::from_secs(150)).await;
    house.task.abort();
    let asked = ends();
    assert!(asked.len() > 140, "{asked:?}");
    assert!(asked.contains(&"end 140".to_owned()));
    // Killed: what was asked for since the last hundred is lost.
    let house = live();
    house.want(&[None]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    house.end().await;
    let asked = ends();
    assert_eq!(asked[0], "end 101");
    let stopped_at: u64 = asked.last().unwrap()[4..].parse().unwrap();
    assert!((140..200).contains(&stopped_at), "{stopped_at}");
    // Stopped: only the request under way is lost.
    let house = live();
    house.want(&[None]).pass(5).await;
    let asked = ends();
    assert_eq!((&*asked[0], &**asked.last().unwrap()), (&*format!("end {stopped_at}"), "end 300"));
    assert_eq!(house.shelf.books(None).orders.unwrap().iter().filter(|it| it.order_ends.is_none()).count(), 0);
    wait_for_files(folder.path(), 2);
    house.end().await;
    let house = live();
    house.want(&[None]).pass(1).await;
    assert_eq!(script.taken(), [] as [String; 0], "they are in the listing now");
    house.end().await;
}

#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn a_named_pipe_or_a_device_in_place_of_a_cache_file_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (_guard, logged) = logged();
    let script = house().end().await;
    *script.orders.lock().unwrap() = vec![order(1, 20, 3, Some(5))];
    let all = life(&script, cache(folder.path(), "https://us")).await;
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
        assert_eq!(life(&script, cached).await, all, "{what}");
        assert!(files(folder.path()).iter().all(|file| file.symlink_metadata().unwrap().is_file()), "{what}");
        assert_eq!(life(&script, cache(folder.path(), "https://us")).await, [] as [String; 0], "{what}");
    }
    let told: Vec<_> = logged("INFO").into_iter().filter(|it| it.contains("it is not a regular file")).collect();
    assert!(told.len() == 4 && told.iter().all(|it| it.contains(".jsonl")), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_restart_lists_only_what_may_have_changed_since_the_orders_were_read() {
    let folder = tempfile::tempdir().unwrap();
    let script = house().end().await;
    *script.orders.lock().unwrap() = vec![expired(1, 300), order(2, 10, 1, None)];
    let clock: Arc<dyn Clock> = stepped();
    let live = |script: Arc<Script>| {
        let shelf = Arc::new(Shelf::new(Arc::clone(&clock)));
        house_of(script, shelf, Some(cache(folder.path(), "https://us")), 30)
    };
    let house = live(script);
    house.want(&[None]).settled(&[None]).await;
    wait_for_files(folder.path(), 2);
    let script = house.end().await;
    script.taken();
    script.orders.lock().unwrap().clear();
    tokio::time::sleep(Duration::from_secs(5 * 24 * 3600)).await;
    let house = live(script);
    house.want(&[None]).pass(1).await;
    assert_eq!(of_orders(house.script.taken()), ["orders 2026-09-24 2030-03-12"]);
    assert_eq!(house.ids(), [1]);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_listing_begins_earlier_where_an_open_order_has_an_older_certificate() {
    let house = house();
    let plan = Order { order_ends: Some(today() + Days::new(200)), ..order(1, -150, 2, None) };
    *house.script.orders.lock().unwrap() = vec![plan.clone(), expired(2, 200)];
    house.want(&[None]).settled(&[None]).await;
    house.script.taken();
    let again = Order { certificate_ends: today() + Days::new(199), ..plan };
    house.script.orders.lock().unwrap()[0] = again.clone();
    house.pass(24 * 60 + 5).await;
    assert_eq!(of_orders(house.script.taken()), ["orders 2026-06-26 2030-03-08"]);
    assert_eq!((house.ids(), &house.shelf.books(None).orders.unwrap()[0]), (vec![1, 2], &again));
    house.pass(24 * 60).await;
    assert_eq!(of_orders(house.script.taken()), ["orders 2026-09-25 2030-03-09"], "it has another certificate");
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_order_that_was_over_long_ago_is_not_asked_for() {
    let house = house();
    let bought = |id, certificate: i64, until: i64| Order {
        bought_until: Some(today() + TimeDelta::days(until)),
        ..order(id, certificate, 1, None)
    };
    *house.script.orders.lock().unwrap() = vec![bought(1, -150, -61), bought(2, -150, -60), bought(3, -150, 10)];
    house.want(&[None]).settled(&[None]).await;
    assert_eq!(of_orders(house.script.taken())[1..], ["end 2", "end 3"]);
    house.end().await;
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

fn cache(folder: &Path, base: &str) -> Cache {
    Cache::new(folder.join("state.json.books"), "../../a\u{1F4B6}", base)
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder.join("state.json.books"));
    let mut files: Vec<_> = entries.map(|all| all.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default();
    files.sort();
    files
}

/// One life of a keeper with a cache; what it asked.
async fn life(script: &Arc<Script>, cache: Cache) -> Vec<String> {
    let house = house_with(Arc::clone(script), Some(cache));
    house.want(&[Some(5)]).settled(&[Some(5)]).await;
    assert_eq!(house.lines(Some(5)), Ok(2));
    assert_eq!(house.shelf.books(Some(5)).orders.unwrap()[0].order_ends, Some(today() + Days::new(300)));
    house.pass(1).await;
    house.end().await.taken()
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_the_cache_is_used_and_a_damaged_or_foreign_one_is_not() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let first = house();
    let script = first.end().await;
    *script.orders.lock().unwrap() = vec![order(1, 20, 3, Some(5))];
    let all = ["ledger Some(5) 2025-10-19", "orders 2025-10-09 2030-03-07", "end 1"];
    assert_eq!(life(&script, cache(folder.path(), "https://us")).await, all);
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
    assert_eq!(life(&script, cache(folder.path(), "https://us")).await, [] as [String; 0], "fresh");
    assert_eq!(life(&script, cache(folder.path(), "https://eu")).await, all, "another place");
    for file in &kept {
        let good = std::fs::read(file).unwrap();
        for at in (0..good.len()).step_by(7) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(file, &bad).unwrap();
            let cache = cache(folder.path(), "https://us");
            let believed = if file == &kept[0] { cache.ledger(Some(5)).is_some() } else { cache.orders().is_some() };
            // What stands in the header beside the checksum is of no weight but the time.
            let header = good.iter().position(|byte| *byte == b'\n').unwrap();
            assert!(!believed || at < header, "a bit of byte {at} of {}", file.display());
        }
        std::fs::write(file, &good[..good.len() / 2]).unwrap();
    }
    assert_eq!(life(&script, cache(folder.path(), "https://us")).await, all, "damaged");
    std::fs::remove_dir_all(folder.path().join("state.json.books")).unwrap();
    assert_eq!(life(&script, cache(folder.path(), "https://us")).await, all, "deleted");
    // A folder that cannot be made hurts nobody.
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    assert_eq!(life(&script, Cache::new(file.join("books"), "a", "b")).await, all);
}

/// A shelf for which division 1 is watched, and these figures are reported.
fn shared(figures: &[(u64, &[i64])]) -> House {
    let house = house();
    *house.script.figures.lock().unwrap() = figures.iter().map(|(id, amounts)| (*id, amounts.to_vec())).collect();
    house.want_shared();
    house
}

impl House {
    fn want_shared(&self) {
        let watched = Watched { funds: vec![[1].into()], divisions: [1].into() };
        self.shelf.want_shared(&[Some(1)].into(), &watched);
    }

    /// How many lines each part of the fund has, or that it is not known.
    fn fund(&self) -> Vec<Option<usize>> {
        let lines = |part: Books| part.ledger.ok().map(|ledger| ledger.entries().len());
        self.shelf.parts(&[Some(1)]).into_iter().map(lines).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn the_ledgers_of_divisions_that_share_a_fund_unwatched_are_read_too() {
    let house = shared(&[(1, &[1500]), (2, &[1500]), (3, &[40])]);
    assert_eq!(house.fund(), [None, None], "until it is known who shares it, nothing is");
    house.settled(&[Some(1)]).await;
    assert_eq!(house.fund(), [Some(2), Some(2)]);
    let asked = house.script.taken();
    assert!(asked[0].starts_with("ledger Some(1)"), "what is known to be wanted comes first: {asked:?}");
    assert_eq!(asked[1..5], ["listing", "figures 1", "figures 2", "figures 3"]);
    assert_eq!(asked[5], "figures 1", "once more, for the third that differs");
    assert_eq!(asked.iter().filter(|it| it.starts_with("ledger")).count(), 2, "{asked:?}");
    for _ in 0..28 {
        house.want_shared();
        house.pass(2).await;
    }
    assert_eq!(house.script.taken(), [] as [String; 0], "no cycle asks for it");
    house.pass(6).await;
    let asked = house.script.taken();
    assert_eq!(asked.iter().filter(|it| *it == "listing").count(), 1, "once an hour: {asked:?}");
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn where_every_division_is_watched_nobody_else_is_looked_for() {
    let house = house();
    house.want(&[Some(1)]).settled(&[Some(1)]).await;
    assert!(house.script.taken().iter().all(|it| !it.starts_with("listing") && !it.starts_with("figures")));
    assert_eq!(house.fund(), [Some(2)]);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_purchase_between_two_looks_loses_no_division_of_a_fund() {
    // The first look at 1 is before a purchase, the one at 2 behind it.
    let house = shared(&[(1, &[1500, 1400]), (2, &[1400])]);
    house.settled(&[Some(1)]).await;
    assert_eq!(house.fund(), [Some(2), Some(2)]);
    // An hour later it happens twice; the last look is at both together.
    *house.script.figures.lock().unwrap() = [(1, vec![1400, 1300, 1200]), (2, vec![1350, 1200])].into();
    house.script.taken();
    house.pass(61).await;
    assert_eq!(house.script.taken().iter().filter(|it| it.starts_with("figures")).count(), 5);
    assert_eq!(house.fund(), [Some(2), Some(2)]);
    // Its fund is its own from now on.
    *house.script.figures.lock().unwrap() = [(1, vec![1200]), (2, vec![7])].into();
    house.pass(61).await;
    assert_eq!(house.fund(), [Some(2)]);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_shares_a_fund_stays_known_while_it_cannot_be_asked() {
    let house = shared(&[(1, &[1500]), (2, &[1500])]);
    house.settled(&[Some(1)]).await;
    house.script.fail("listing", ReadErrorKind::Server, 12);
    house.pass(2 * 60).await;
    assert_eq!(house.fund(), [Some(2), Some(2)]);
    house.script.failures.lock().unwrap().clear();
    house.script.fail("listing", ReadErrorKind::Refused, 99);
    house.pass(2 * 60).await;
    assert_eq!(house.fund(), [Some(2), Some(2)], "what was found out once");
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_may_not_list_divisions_still_has_the_books_of_its_own() {
    let house = house();
    house.script.fail("listing", ReadErrorKind::Refused, 99);
    house.want_shared();
    house.settled(&[Some(1)]).await;
    assert_eq!(house.fund(), [Some(2)]);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn while_it_cannot_be_found_out_who_shares_a_fund_its_books_are_a_gap() {
    let house = house();
    *house.script.figures.lock().unwrap() = [(1, vec![1500]), (2, vec![1500])].into();
    house.script.fail("figures 1", ReadErrorKind::Timeout, 1);
    house.want_shared();
    house.settled(&[Some(1)]).await;
    let parts = house.shelf.parts(&[Some(1)]);
    assert!(matches!(parts[1].ledger, Err(Gap::Unreadable(_))), "{parts:?}");
    house.pass(11).await;
    assert_eq!(house.fund(), [Some(2), Some(2)]);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_division_that_cannot_be_read_blinds_no_forecast_and_is_asked_again() {
    let house = shared(&[(1, &[1500]), (2, &[1500]), (3, &[1500]), (4, &[40])]);
    house.script.fail("figures 2", ReadErrorKind::Server, 1);
    house.settled(&[Some(1)]).await;
    assert_eq!(house.fund(), [Some(2), Some(2)], "1 and 3");
    house.script.taken();
    house.pass(9).await;
    assert_eq!(house.script.taken(), [] as [String; 0], "not before its pause is over");
    house.pass(2).await;
    assert_eq!(house.fund(), [Some(2), Some(2), Some(2)]);
    assert_eq!(house.script.taken()[..3], ["listing", "figures 1", "figures 2"], "the others are not asked with it");
    // What was known of it stays while it cannot be read.
    house.script.fail("figures 2", ReadErrorKind::Server, 99);
    house.pass(3 * 60).await;
    assert_eq!(house.fund(), [Some(2), Some(2), Some(2)]);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_search_that_failed_is_not_begun_again_by_the_next_cycles() {
    let house = shared(&[(1, &[1500]), (2, &[1500])]);
    house.script.fail("figures 1", ReadErrorKind::Nonsense, 1);
    for _ in 0..9 {
        house.want_shared();
        house.pass(1).await;
    }
    let searched = |asked: Vec<String>| asked.iter().filter(|it| *it == "listing").count();
    assert_eq!(searched(house.script.taken()), 1);
    house.pass(2).await;
    assert_eq!((searched(house.script.taken()), house.fund()), (1, vec![Some(2), Some(2)]));
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_search_among_many_divisions_goes_on_in_rounds() {
    let many: BTreeMap<u64, Vec<i64>> = (1..=451).map(|id| (id, vec![if id == 450 { 1500 } else { 40 }])).collect();
    let house = house();
    *house.script.figures.lock().unwrap() = many.into_iter().chain([(1, vec![1500])]).collect();
    *house.script.hangs.lock().unwrap() = Duration::from_secs(1);
    house.want_shared();
    house.pass(4).await;
    assert_eq!(house.fund(), [Some(2), None], "as long as not all were asked");
    house.pass(5).await;
    assert_eq!(house.fund(), [Some(2), Some(2)]);
    let others = |asked: Vec<String>| asked.iter().filter(|it| it.starts_with("figures") && *it != "figures 1").count();
    assert_eq!(others(house.script.taken()), 450, "each once");
    house.pass(66).await;
    assert_eq!(others(house.script.taken()), 200, "no more than that in an hour");
    house.pass(130).await;
    assert_eq!(others(house.script.taken()), 250, "the others in the next ones");
    assert_eq!(house.fund(), [Some(2), Some(2)]);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_search_in_which_nothing_can_be_read_pauses_and_goes_on_where_it_was() {
    let house = shared(&[(1, &[1500]), (2, &[7]), (3, &[7]), (4, &[7]), (5, &[1500])]);
    for words in ["figures 2", "figures 3", "figures 4"] {
        house.script.fail(words, ReadErrorKind::Timeout, 1);
    }
    house.settled(&[Some(1)]).await;
    assert!(matches!(house.shelf.parts(&[Some(1)])[1].ledger, Err(Gap::Unreadable(_))));
    assert!(!house.script.taken().contains(&"figures 5".to_owned()));
    house.pass(11).await;
    assert_eq!(house.fund(), [Some(2), Some(2)]);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_order_whose_end_the_list_tells_is_not_asked_for_nor_one_that_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let cache = || Some(Cache::new(folder.path().to_owned(), "acme", "https://here"));
    let script = Script::default();
    let told = Order { order_ends: Some(today() + Days::new(200)), ..order(1, 20, 3, None) };
    let over = Order { expired: true, ..order(2, -5, 3, None) };
    let plan = Order { bought_until: None, is_plan: true, ..order(3, 20, 1, None) };
    *script.orders.lock().unwrap() = vec![told.clone(), over.clone(), plan];
    let house = house_with(Arc::new(script), cache());
    house.want(&[None]).settled(&[None]).await;
    let ends: Vec<String> = house.script.taken().into_iter().filter(|it| it.starts_with("end")).collect();
    assert_eq!(ends, ["end 3"]);
    let orders = house.shelf.books(None).orders.unwrap();
    assert_eq!(orders[..2], [told, over]);
    let house = house_with(house.end().await, cache());
    house.want(&[None]).settled(&[None]).await;
    assert_eq!(house.shelf.books(None).orders.unwrap(), orders, "from the cache");
    house.end().await;
}
