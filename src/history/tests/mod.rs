//! Tests of the refresher on a stepped clock: its requests and their times, the published history, failures, and the
//! disk cache.

mod clock;
mod disk_cache;
mod listings;
mod order_ends;
mod schedule;
mod sharing;
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
use crate::domain::history::HistoryGap;
use crate::domain::ledger::LedgerEntry;
use crate::domain::money::Currency;
use crate::domain::order::Order;

fn start() -> Time {
    "2026-11-23T08:00:00Z".parse().unwrap()
}

fn today() -> NaiveDate {
    start().date_naive()
}

struct OffsetClock {
    began: tokio::time::Instant,
    /// Time by which the clock is ahead.
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

/// A source that records the requests as text, and answers from its fields.
#[derive(Default)]
struct FakeHistorySource {
    requests: Mutex<Vec<String>>,
    entries: Mutex<Vec<LedgerEntry>>,
    orders: Mutex<Vec<Order>>,
    undocumented: Mutex<BTreeMap<String, usize>>,
    /// Balances of each division for one request after the other; the last one is repeated.
    figures: Mutex<BTreeMap<u64, Vec<i64>>>,
    /// Failures of the next requests whose text begins like this.
    failures: Mutex<VecDeque<(&'static str, ReadErrorKind)>>,
    /// Time that each request takes.
    response_time: Mutex<Duration>,
}

impl FakeHistorySource {
    async fn record(&self, request: String) -> Result<(), ReadError> {
        self.requests.lock().unwrap().push(request.clone());
        let response_time = *self.response_time.lock().unwrap();
        tokio::time::sleep(response_time).await;
        let mut failures = self.failures.lock().unwrap();
        let Some(index) = failures.iter().position(|(prefix, _)| request.starts_with(prefix)) else { return Ok(()) };
        let (_, kind) = failures.remove(index).unwrap();
        Err(ReadError { kind, reason: format!("{} answered", request.split(' ').next().unwrap()) })
    }

    fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }

    fn fail(&self, prefix: &'static str, kind: ReadErrorKind, times: usize) {
        self.failures.lock().unwrap().extend(std::iter::repeat_n((prefix, kind), times));
    }
}

#[async_trait]
impl HistorySource for FakeHistorySource {
    async fn ledger(&self, division: Division, since: Option<NaiveDate>) -> Result<Vec<LedgerEntry>, ReadError> {
        let since = since.unwrap();
        self.record(format!("ledger {division:?} {since}")).await?;
        let entries = self.entries.lock().unwrap();
        Ok(entries.iter().filter(|entry| entry.at.date_naive() >= since).cloned().collect())
    }
    async fn orders(&self, from: NaiveDate, to: NaiveDate) -> Result<OrderList, ReadError> {
        self.record(format!("orders {from} {to}")).await?;
        let orders = self.orders.lock().unwrap();
        let orders = orders.iter().filter(|order| (from..=to).contains(&order.certificate_ends)).cloned().collect();
        Ok(OrderList { orders, undocumented: self.undocumented.lock().unwrap().clone() })
    }
    async fn division_ids(&self) -> Result<Vec<u64>, ReadError> {
        self.record("listing".to_owned()).await?;
        Ok(self.figures.lock().unwrap().keys().copied().collect())
    }
    async fn figures(&self, division: u64) -> Result<Balance, ReadError> {
        self.record(format!("figures {division}")).await?;
        let mut figures = self.figures.lock().unwrap();
        let amounts = figures.get_mut(&division).unwrap();
        let amount = if amounts.len() > 1 { amounts.remove(0) } else { amounts[0] };
        Ok(balance(amount))
    }
    async fn order_end(&self, id: u64) -> Result<Option<NaiveDate>, ReadError> {
        self.record(format!("end {id}")).await?;
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

fn entry(id: &str, at: Time) -> LedgerEntry {
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
    *fake_source.entries.lock().unwrap() =
        vec![entry("b", start() - TimeDelta::days(9)), entry("a", start() - TimeDelta::days(3))];
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

    /// Returns the number of ledger entries of a division.
    fn entries(&self, division: Division) -> Result<usize, HistoryGap> {
        self.history.history(division).ledger.map(|ledger| ledger.entries().len())
    }

    /// Returns the persistence of the failure of order ends.
    fn ends_failure(&self, division: Division) -> Option<Persistence> {
        self.history.history(division).order_ends_failure.map(|failure| {
            assert_eq!(failure.reason, "end answered");
            failure.persistence
        })
    }

    async fn end(self) -> Arc<FakeHistorySource> {
        self.stop.cancel();
        self.task.await.unwrap();
        self.fake_source
    }
}

/// Returns the requests other than those of ledgers.
fn without_ledgers(requests: Vec<String>) -> Vec<String> {
    requests.into_iter().filter(|request| !request.starts_with("ledger")).collect()
}

fn expired(id: u64, ended: i64) -> Order {
    Order { expired: true, ..order(id, -ended, 1, None) }
}

impl RefresherHarness {
    fn ids(&self) -> Vec<u64> {
        self.history.history(None).orders.unwrap().iter().map(|order| order.id).collect()
    }
}

/// Captures the log of this thread until the guard is dropped. The function returns the lines of one level.
fn logged() -> (tracing::subscriber::DefaultGuard, impl Fn(&str) -> Vec<String>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let writer = Mutex::new(file.reopen().unwrap());
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::DEBUG);
    let lines_at = move |level: &str| {
        let text = std::fs::read_to_string(file.path()).unwrap();
        text.lines().filter(|line| line.split_whitespace().nth(1) == Some(level)).map(str::to_owned).collect()
    };
    (tracing::subscriber::set_default(subscriber.with_writer(writer).finish()), lines_at)
}

fn cache(folder: &Path, base: &str) -> DiskCache {
    DiskCache::new(folder.join("state.json.history"), "../../a\u{1F4B6}", base)
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder.join("state.json.history"));
    let mut files: Vec<_> = entries.map(|all| all.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default();
    files.sort();
    files
}
