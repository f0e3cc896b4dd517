//! The keeper on a stepped clock: what it asks and when, what it shows, and what it makes of failures and of its cache.

use std::collections::VecDeque;
use std::path::Path;

use async_trait::async_trait;
use chrono::{Days, NaiveDate, TimeDelta};
use rust_decimal::Decimal;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::certcentral::{BooksSource, ReadError, ReadErrorKind};
use crate::domain::Time;
use crate::domain::books::{Entry, Gap, Order};

fn start() -> Time {
    "2026-11-23T08:00:00Z".parse().unwrap()
}

fn today() -> NaiveDate {
    start().date_naive()
}

struct Stepped {
    began: tokio::time::Instant,
}

#[async_trait]
impl Clock for Stepped {
    fn now(&self) -> Time {
        start() + TimeDelta::from_std(self.began.elapsed()).unwrap()
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
    async fn orders(&self, from: NaiveDate, to: NaiveDate) -> Result<Vec<Order>, ReadError> {
        self.ask(format!("orders {from} {to}")).await?;
        Ok(self.orders.lock().unwrap().clone())
    }
    async fn order_end(&self, id: u64) -> Result<Option<NaiveDate>, ReadError> {
        self.ask(format!("end {id}")).await?;
        Ok(if id == 99 { None } else { Some(today() + Days::new(300)) })
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

fn order(id: u64, ends_in: i64, years: u32, division: Option<u64>) -> Order {
    Order {
        id,
        division,
        price: Decimal::new(3995, 1),
        issued: true,
        renewed: false,
        placed: Some(today() - Days::new(200)),
        years: Some(years),
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
    let clock: Arc<dyn Clock> = Arc::new(Stepped { began: tokio::time::Instant::now() });
    let shelf = Arc::new(Shelf::new(Arc::clone(&clock)));
    let keeper = Keeper::new("acme".into(), Arc::clone(&script) as _, Arc::clone(&shelf), clock, cache, 30);
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
    assert_eq!(house.script.taken(), ["ledger None 2025-10-19", "orders 2026-05-27 2027-12-28"]);
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
    house.script.fail("ledger", ReadErrorKind::Refused, 30);
    house.pass(12 * 60 + 5).await;
    let asked = house.script.taken();
    assert_eq!(asked.len(), 12, "somebody has to act first: {asked:?}");
    assert_eq!(house.lines(None), Ok(2));
    house.pass(13 * 60).await;
    let gap = house.lines(None).unwrap_err();
    let Gap::Unreadable(why) = gap else { panic!("{gap:?}") };
    assert_eq!((why.outlook, why.reason.as_str()), (crate::domain::balance::Outlook::NeedsAction, "ledger answered"));
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
    assert_eq!(house.script.taken(), ["ledger None 2026-11-19", "ledger None 2025-10-19"]);
    assert_eq!(house.lines(None), Ok(1));
    house.end().await;
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
    let all = ["ledger Some(5) 2025-10-19", "orders 2026-05-27 2027-12-28", "end 1"];
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
