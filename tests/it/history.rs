//! Tests of reading an account's ledger and orders over HTTP: pages, failures and requests. No test leaves this
//! machine.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use async_trait::async_trait;
use chrono::{Days, NaiveDate, TimeDelta};
use lowtide::certcentral::{
    BalanceSource, CertCentralClient, HistorySource, RateLimitWindow, RateLimiter, ReadErrorKind,
};
use lowtide::config::scenario;
use lowtide::domain::Time;
use lowtide::domain::history::HistoryGap;
use lowtide::history::{DiskCache, HistoryCache, Refresher};
use lowtide::sandbox::scenario::SHIPPED;
use lowtide::sandbox::server::{API_KEY, SandboxServer};
use lowtide::util::clock::{Clock, SystemClock};
use lowtide::util::http_client;
use lowtide::util::http_client::HttpClientOptions;
use lowtide::util::secret::{Redactor, Secret};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::Url;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

fn client_with(base: &str, timeout: Duration, key: &str) -> Arc<CertCentralClient> {
    client_with_limiter(base, timeout, key, RateLimiter::new([]))
}

fn limited_client(base: &str, limiter: RateLimiter) -> Arc<CertCentralClient> {
    client_with_limiter(base, Duration::from_secs(5), "KEY-0123456789-SECRET", limiter)
}

fn client_with_limiter(base: &str, timeout: Duration, key: &str, limiter: RateLimiter) -> Arc<CertCentralClient> {
    let http = http_client::client(&HttpClientOptions { timeout, extra_ca_pem: None, loopback: true }).unwrap();
    let limiter = Arc::new(limiter);
    let clock = Arc::new(SystemClock);
    let base = Url::parse(base).unwrap();
    Arc::new(
        CertCentralClient::new("acme", base, &Secret::new(key), http, limiter, Redactor::default(), clock).unwrap(),
    )
}

fn client(base: &str) -> Arc<CertCentralClient> {
    limited_client(base, RateLimiter::new([]))
}

/// A ledger with entries in pages, newest first, as documented. `more` entries are added after each request.
struct PagedLedger {
    entries: Mutex<u64>,
    more: u64,
    total: Option<u64>,
    ignores_offset: bool,
    /// Number of pages after the first that come without entries.
    empty_pages: Mutex<usize>,
    /// Length of the note of each entry.
    note_chars: usize,
}

impl PagedLedger {
    fn new(entries: u64) -> Self {
        Self {
            entries: Mutex::new(entries),
            more: 0,
            total: None,
            ignores_offset: false,
            empty_pages: Mutex::new(0),
            note_chars: 0,
        }
    }
}

impl Respond for PagedLedger {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let parameter = |name: &str| {
            let found = request.url.query_pairs().find(|(key, _)| key == name);
            found.unwrap().1.parse::<usize>().unwrap()
        };
        let mut entries = self.entries.lock().unwrap();
        let offset = if self.ignores_offset { 0 } else { parameter("offset") };
        let numbers = (1..=*entries).rev().skip(offset).take(parameter("limit"));
        let entry = |n: u64| {
            let at = chrono::DateTime::from_timestamp(1_790_000_000 + i64::try_from(n).unwrap() * 60, 0).unwrap();
            json!({ "id": n.to_string(), "debit": format!("{n}.05"), "transaction_type": "Charge",
                "transaction_date": at.format("%Y-%m-%d %H:%M:%S").to_string(), "note": "x".repeat(self.note_chars) })
        };
        let mut list: Vec<Value> = numbers.map(entry).collect();
        let mut empty_pages = self.empty_pages.lock().unwrap();
        if offset > 0 && *empty_pages > 0 {
            *empty_pages -= 1;
            list.clear();
        }
        let total = self.total.unwrap_or(*entries);
        *entries += self.more;
        ResponseTemplate::new(200).set_body_json(json!({ "adjustments": list, "page": { "total": total } }))
    }
}

async fn always(answer: impl Respond + 'static) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("GET")).respond_with(answer).mount(&server).await;
    server
}

async fn queries(server: &MockServer) -> Vec<String> {
    let requests = server.received_requests().await.unwrap();
    let describe = |request: &Request| {
        let query = request.url.query_pairs().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
        format!("{} {}", request.url.path(), query.join(" "))
    };
    requests.iter().map(describe).collect()
}

#[tokio::test]
async fn all_pages_of_the_ledger_are_read_oldest_first() {
    let server = always(PagedLedger::new(1200)).await;
    let day = NaiveDate::from_ymd_opt(2026, 9, 1).unwrap();
    let entries = client(&server.uri()).ledger(Some(77), Some(day)).await.unwrap();
    let ids: Vec<u64> = entries.iter().map(|entry| entry.id.parse().unwrap()).collect();
    assert_eq!(ids, (1..=1200).collect::<Vec<_>>());
    assert_eq!(entries[4].change, "-5.05".parse::<Decimal>().unwrap());
    assert!(Arc::ptr_eq(&entries[0].kind, &entries[1199].kind), "all entries of a kind share its text");
    let requested = queries(&server).await;
    let tomorrow = SystemClock.now().date_naive().succ_opt().unwrap();
    let same = format!("sort=-transaction_date container_id=77 filters[transaction_date]=2026-09-01...{tomorrow}");
    let expected = [0, 500, 1000].map(|offset| format!("/finance/balance-history {same} offset={offset} limit=500"));
    assert_eq!(requested, expected);
    assert_eq!(client(&server.uri()).ledger(None, None).await.unwrap().len(), 1200);
    assert_eq!(queries(&server).await[3], "/finance/balance-history sort=-transaction_date offset=0 limit=500");
}

#[tokio::test]
async fn entries_added_between_two_pages_hide_and_duplicate_no_others() {
    for more in [1, 7, 99] {
        let server = always(PagedLedger { more, ..PagedLedger::new(1600) }).await;
        let entries = client(&server.uri()).ledger(None, None).await.unwrap();
        let ids: Vec<u64> = entries.iter().map(|entry| entry.id.parse().unwrap()).collect();
        assert_eq!(ids, (1..=1600).collect::<Vec<_>>(), "{more} more entries with each page");
    }
}

#[tokio::test]
async fn a_wrong_total_or_an_ignored_offset_ends_no_ledger_early_or_never() {
    for total in [0, 1, u64::MAX] {
        let server = always(PagedLedger { total: Some(total), ..PagedLedger::new(1100) }).await;
        assert_eq!(client(&server.uri()).ledger(None, None).await.unwrap().len(), 1100, "{total}");
        assert!(queries(&server).await.len() <= 4);
    }
    let server = always(PagedLedger { ignores_offset: true, ..PagedLedger::new(1100) }).await;
    let error = client(&server.uri()).ledger(None, None).await.unwrap_err();
    assert_eq!(error.kind, ReadErrorKind::InvalidResponse);
    assert!(error.reason.contains("repeats earlier pages"), "{error}");
    assert_eq!(queries(&server).await.len(), 5);
}

#[tokio::test]
async fn an_empty_page_before_the_total_is_retried_once_and_then_an_error() {
    let server = always(PagedLedger { empty_pages: Mutex::new(1), ..PagedLedger::new(1100) }).await;
    assert_eq!(client(&server.uri()).ledger(None, None).await.unwrap().len(), 1100);
    let requested = queries(&server).await;
    let pages: Vec<&str> = requested.iter().map(|request| &request[request.find("offset").unwrap()..]).collect();
    assert_eq!(pages[..3], ["offset=0 limit=500", "offset=500 limit=500", "offset=500 limit=250"]);
    let truncated = PagedLedger { empty_pages: Mutex::new(99), ..PagedLedger::new(1100) };
    for (server, reason, requests) in [
        (truncated, "ends after 500 of 1100 items", 3),
        (PagedLedger { total: Some(1101), ..PagedLedger::new(1100) }, "ends after 1100 of 1101 items", 5),
        (PagedLedger { total: Some(2), ..PagedLedger::new(0) }, "ends after 0 of 2 items", 2),
    ] {
        let server = always(server).await;
        let error = client(&server.uri()).ledger(None, None).await.unwrap_err();
        assert_eq!(error.kind, ReadErrorKind::InvalidResponse);
        assert!(error.reason.contains(reason), "{error}");
        assert_eq!(queries(&server).await.len(), requests, "{reason}");
    }
}

#[tokio::test]
async fn a_page_over_the_size_limit_is_requested_in_smaller_ones() {
    let server = always(PagedLedger { note_chars: 5000, ..PagedLedger::new(600) }).await;
    assert_eq!(client(&server.uri()).ledger(None, None).await.unwrap().len(), 600);
    let requested = queries(&server).await;
    let limits: Vec<&str> = requested.iter().map(|request| request.rsplit('=').next().unwrap()).collect();
    assert_eq!(limits, ["500", "250", "125", "125", "125", "125", "125"]);
    let endless = always(ResponseTemplate::new(200).set_body_string(" ".repeat(2 * 1024 * 1024))).await;
    let error = client(&endless.uri()).ledger(None, None).await.unwrap_err();
    assert!(error.reason.contains("longer than 1048576 bytes"), "{error}");
    assert!(queries(&endless).await.len() < 10);
}

#[tokio::test]
async fn orders_are_requested_by_status_and_end_date() {
    let server = MockServer::start().await;
    let order = |id: u64, ends: &str, status: &str| json!({ "id": id, "status": status, "price": 399.5, "container": { "id": 5 }, "certificate": { "valid_till": ends } });
    let list = json!({ "orders": [order(1, "2026-12-01", "issued"), order(2, "2026-12-02", "revoked"), order(3, "2029-12-01", "issued")] });
    Mock::given(path("/order/certificate/1"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({ "id": 1, "order_valid_till": "2028-01-02" })))
        .mount(&server)
        .await;
    let once = ResponseTemplate::new(200).set_body_json(list);
    Mock::given(path("/order/certificate")).respond_with(once).up_to_n_times(1).mount(&server).await;
    let none = ResponseTemplate::new(200).set_body_json(json!({ "orders": [] }));
    Mock::given(path("/order/certificate")).respond_with(none).mount(&server).await;
    let (from, to) = (NaiveDate::from_ymd_opt(2026, 6, 1).unwrap(), NaiveDate::from_ymd_opt(2027, 12, 1).unwrap());
    let orders = client(&server.uri()).orders(from, to).await.unwrap();
    assert_eq!(orders.orders.iter().map(|order| (order.id, order.division)).collect::<Vec<_>>(), [(1, Some(5))]);
    let filters = "filters[status]=issued filters[valid_till]=2026-06-01...2027-12-01";
    let requested = queries(&server).await;
    assert_eq!(requested[2], format!("/order/certificate {filters} offset=0 limit=250"));
    assert_eq!(requested[0], requested[2].replace("issued", "reissue_pending"), "a filter takes only one status");
    assert_eq!(requested[3], requested[0], "an order whose status changes meanwhile is in one of the lists");
    assert_eq!(client(&server.uri()).order_end(1).await.unwrap(), NaiveDate::from_ymd_opt(2028, 1, 2));
    let error = client(&server.uri()).order_end(9).await.unwrap_err();
    assert_eq!(
        (error.kind, error.reason.as_str()),
        (ReadErrorKind::Refused, "GET /order/certificate/9 answered 404 Not Found")
    );
}

/// Orders listed by status as in the API, where `issued` includes expired orders.
struct OrdersByStatus(Value);

impl Respond for OrdersByStatus {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let filter = request.url.query_pairs().find(|(key, _)| key == "filters[status]").unwrap().1.into_owned();
        let status = |order: &&Value| order["status"].as_str().unwrap_or_default().to_owned();
        let has = |order: &&Value| match (filter.as_str(), status(order).as_str()) {
            ("issued", "expired" | "frozen") => true,
            (filter, status) => filter == status,
        };
        let orders: Vec<&Value> = self.0.as_array().unwrap().iter().filter(has).collect();
        ResponseTemplate::new(200).set_body_json(json!({ "orders": orders, "page": { "total": orders.len() } }))
    }
}

#[tokio::test]
async fn expired_and_reissued_orders_are_read_too() {
    let order = |id: u64, status: &str, renewed: bool| {
        json!({ "id": id, "status": status, "price": 1, "is_renewed": renewed,
        "order_valid_till": "2026-09-01", "certificate": { "valid_till": "2026-09-01" } })
    };
    let list = json!([
        order(1, "issued", false),
        order(2, "expired", true),
        order(3, "reissue_pending", false),
        order(4, "frozen", false),
        order(5, "revoked", false)
    ]);
    let server = always(OrdersByStatus(list)).await;
    let day = NaiveDate::from_ymd_opt(2026, 9, 1).unwrap();
    let read = client(&server.uri()).orders(day, day).await.unwrap();
    let found: Vec<_> =
        read.orders.iter().map(|order| (order.id, order.expired, order.renewed, order.order_ends)).collect();
    assert_eq!(found, [(1, false, false, Some(day)), (2, true, true, Some(day)), (3, false, false, Some(day))]);
    assert_eq!(read.undocumented, BTreeMap::from([("frozen".to_owned(), 1)]));
}

#[tokio::test]
async fn an_account_without_reissues_still_lists_its_orders() {
    let server = MockServer::start().await;
    let (_guard, logged) = logged();
    let refused = ResponseTemplate::new(403).set_body_json(json!({ "errors": [{ "code": "access_denied" }] }));
    Mock::given(wiremock::matchers::query_param("filters[status]", "reissue_pending"))
        .respond_with(refused)
        .mount(&server)
        .await;
    let order = json!({ "id": 1, "status": "issued", "price": 1, "certificate": { "valid_till": "2026-09-01" } });
    let list = ResponseTemplate::new(200).set_body_json(json!({ "orders": [order], "page": { "total": 1 } }));
    Mock::given(wiremock::matchers::query_param("filters[status]", "issued")).respond_with(list).mount(&server).await;
    let day = NaiveDate::from_ymd_opt(2026, 9, 1).unwrap();
    assert_eq!(client(&server.uri()).orders(day, day).await.unwrap().orders.len(), 1);
    assert_eq!(queries(&server).await.len(), 2);
    let log_text = logged();
    let warnings: Vec<&str> = log_text.lines().filter(|line| line.contains("cannot be listed")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("403 Forbidden: access_denied"), "{warnings:?}");
    assert!(warnings[0].contains(" INFO ") && !warnings[0].contains("role"), "no action needed: {warnings:?}");
}

/// Captures the log of this thread until the guard is dropped.
fn logged() -> (tracing::subscriber::DefaultGuard, impl Fn() -> String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let writer = Mutex::new(file.reopen().unwrap());
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
    (tracing::subscriber::set_default(subscriber), move || std::fs::read_to_string(file.path()).unwrap())
}

/// Orders of which some leave the list before each page, the oldest first.
struct ShrinkingOrders {
    orders: Mutex<Vec<u64>>,
    /// Numbers of issued orders that leave before each page.
    leave: Mutex<VecDeque<usize>>,
    says_total: bool,
    status: &'static str,
    pages: Arc<Mutex<usize>>,
}

impl ShrinkingOrders {
    fn new(leave: &[usize], says_total: bool) -> Self {
        let (orders, leave) = (Mutex::new((1..=800).collect()), Mutex::new(leave.iter().copied().collect()));
        Self { orders, leave, says_total, status: "issued", pages: Arc::default() }
    }
}

impl Respond for ShrinkingOrders {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let requested: BTreeMap<String, String> = request.url.query_pairs().into_owned().collect();
        let number = |name: &str| requested[name].parse::<usize>().unwrap();
        if requested["filters[status]"] != "issued" {
            return ResponseTemplate::new(200).set_body_json(json!({ "orders": [], "page": { "total": 0 } }));
        }
        *self.pages.lock().unwrap() += 1;
        let mut orders = self.orders.lock().unwrap();
        orders.drain(..self.leave.lock().unwrap().pop_front().unwrap_or(0));
        let order = |id: &u64| json!({ "id": id, "status": self.status, "price": 1, "certificate": { "valid_till": "2026-09-01" } });
        let page: Vec<Value> = orders.iter().skip(number("offset")).take(number("limit")).map(order).collect();
        let total = self.says_total.then_some(orders.len());
        ResponseTemplate::new(200).set_body_json(json!({ "orders": page, "page": { "total": total } }))
    }
}

#[tokio::test]
async fn orders_that_leave_between_two_pages_hide_no_other_orders() {
    let day = NaiveDate::from_ymd_opt(2026, 9, 1).unwrap();
    for (leave, says_total, left, pages) in [
        (&[][..], true, 800, 4),
        (&[], false, 800, 5),
        (&[0, 3], true, 797, 4),
        (&[0, 3], false, 797, 5),
        (&[0, 9, 9, 9], true, 773, 4),
        (&[0, 10], true, 790, 6),
        (&[0, 40], false, 760, 7),
        (&[0, 0, 0, 700], true, 100, 5),
        (&[0, 40, 0, 40], true, 720, 7),
    ] {
        let server = MockServer::start().await;
        let orders = ShrinkingOrders::new(leave, says_total);
        let page_count = Arc::clone(&orders.pages);
        Mock::given(path("/order/certificate")).respond_with(orders).mount(&server).await;
        let read = client(&server.uri()).orders(day, day).await.unwrap().orders;
        let read: BTreeSet<u64> = read.iter().map(|order| order.id).collect();
        let missed: Vec<u64> = (801 - left..=800).filter(|id| !read.contains(id)).collect();
        assert_eq!(missed, [] as [u64; 0], "{leave:?}");
        assert_eq!(*page_count.lock().unwrap(), pages, "{leave:?}");
    }
}

#[tokio::test]
async fn a_listing_that_changes_between_all_pages_is_an_error() {
    // The third attempt reads to the end. With a total, some orders were on no page; without one, nothing shows that
    // all were.
    for (leave, says_total, pages) in [(&[0, 40, 0, 40, 0, 40, 40][..], true, 7), (&[0, 40, 0, 40, 0, 40], false, 8)] {
        let server = MockServer::start().await;
        let orders = ShrinkingOrders::new(leave, says_total);
        let page_count = Arc::clone(&orders.pages);
        Mock::given(path("/order/certificate")).respond_with(orders).mount(&server).await;
        let day = NaiveDate::from_ymd_opt(2026, 9, 1).unwrap();
        let error = client(&server.uri()).orders(day, day).await.unwrap_err();
        assert_eq!(
            (error.kind, *page_count.lock().unwrap()),
            (ReadErrorKind::InvalidResponse, pages),
            "three attempts"
        );
        assert!(error.reason.contains("does not continue where the previous page ended"), "{error}");
    }
}

#[tokio::test]
async fn a_listing_with_a_different_gap_each_time_is_read_completely() {
    let server = MockServer::start().await;
    Mock::given(path("/order/certificate"))
        .respond_with(ShrinkingOrders::new(&[0, 40, 0, 40, 0, 40, 0], true))
        .mount(&server)
        .await;
    let day = NaiveDate::from_ymd_opt(2026, 9, 1).unwrap();
    let read = client(&server.uri()).orders(day, day).await.unwrap().orders;
    let read: BTreeSet<u64> = read.iter().map(|order| order.id).collect();
    assert!((121..=800).all(|id| read.contains(&id)), "all orders that stayed are read");
}

/// Orders that are shuffled for each request, as by a server that does not sort them.
struct ShuffledOrders {
    orders: u64,
    /// Orders of each requested page.
    pages: Arc<Mutex<Vec<Vec<u64>>>>,
}

impl ShuffledOrders {
    fn new(orders: u64) -> (Self, Arc<Mutex<Vec<Vec<u64>>>>) {
        let pages = Arc::default();
        (Self { orders, pages: Arc::clone(&pages) }, pages)
    }
}

impl Respond for ShuffledOrders {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let requested: BTreeMap<String, String> = request.url.query_pairs().into_owned().collect();
        let number = |name: &str| requested[name].parse::<usize>().unwrap();
        if requested["filters[status]"] != "issued" {
            return ResponseTemplate::new(200).set_body_json(json!({ "orders": [], "page": { "total": 0 } }));
        }
        let mut pages = self.pages.lock().unwrap();
        let mut ids: Vec<u64> = (1..=self.orders).collect();
        ids.shuffle(&mut StdRng::seed_from_u64(pages.len() as u64));
        let page: Vec<u64> = ids.into_iter().skip(number("offset")).take(number("limit")).collect();
        // The price of an order is the number of its page.
        let order = |id: &u64| json!({ "id": id, "status": "issued", "price": pages.len(), "certificate": { "valid_till": "2026-09-01" } });
        let orders: Vec<Value> = page.iter().map(order).collect();
        pages.push(page);
        ResponseTemplate::new(200).set_body_json(json!({ "orders": orders, "page": { "total": self.orders } }))
    }
}

#[tokio::test]
async fn an_unstably_ordered_listing_is_merged_from_all_attempts() {
    let day = NaiveDate::from_ymd_opt(2026, 9, 1).unwrap();
    let (_guard, logged) = logged();
    let (orders, pages) = ShuffledOrders::new(270);
    let server = always(orders).await;
    let read = client(&server.uri()).orders(day, day).await.unwrap().orders;
    assert_eq!(read.iter().map(|order| order.id).collect::<Vec<_>>(), (1..=270).collect::<Vec<_>>());
    let pages = pages.lock().unwrap();
    assert_eq!(pages.len(), 6, "three attempts of two pages");
    for order in read {
        let newest = pages.chunks(2).rposition(|pages| pages.iter().flatten().any(|id| *id == order.id));
        let page: usize = order.price.try_into().unwrap();
        assert_eq!(newest, Some(page / 2), "the latest page counts");
    }
    let log_text = logged();
    let warnings: Vec<&str> = log_text.lines().filter(|line| line.contains(" WARN ")).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("using all that was read") && warnings[0].contains("items=270"), "{warnings:?}");
}

#[tokio::test]
async fn an_unstably_ordered_listing_with_missing_items_is_an_error() {
    let day = NaiveDate::from_ymd_opt(2026, 9, 1).unwrap();
    let (orders, pages) = ShuffledOrders::new(1000);
    let server = always(orders).await;
    let error = client(&server.uri()).orders(day, day).await.unwrap_err();
    let seen: BTreeSet<u64> = pages.lock().unwrap().iter().flatten().copied().collect();
    assert!(seen.len() < 1000, "some orders must be missing");
    assert!(
        error.kind == ReadErrorKind::InvalidResponse && error.reason.contains("of 1000 items and duplicates"),
        "{error}"
    );
}

#[tokio::test]
async fn an_undocumented_order_on_two_pages_counts_once() {
    let orders = ShrinkingOrders { status: "frozen", ..ShrinkingOrders::new(&[], true) };
    let server = MockServer::start().await;
    Mock::given(path("/order/certificate")).respond_with(orders).mount(&server).await;
    let day = NaiveDate::from_ymd_opt(2026, 9, 1).unwrap();
    let read = client(&server.uri()).orders(day, day).await.unwrap();
    assert_eq!((read.orders.len(), read.undocumented), (0, BTreeMap::from([("frozen".to_owned(), 800)])));
}

#[tokio::test]
async fn endlessly_repeated_skipped_orders_end_the_listing() {
    let day = NaiveDate::from_ymd_opt(2026, 9, 1).unwrap();
    for count in [1, 10, 11, 300] {
        let orders: Vec<Value> = (1..=count).map(|id| json!({ "id": id, "status": "revoked" })).collect();
        let server = always(ResponseTemplate::new(200).set_body_json(json!({ "orders": orders }))).await;
        let error = client(&server.uri()).orders(day, day).await.unwrap_err();
        assert_eq!(error.kind, ReadErrorKind::InvalidResponse);
        assert!(error.reason.contains("repeats earlier pages, whatever offset is requested"), "{error}");
        assert_eq!(queries(&server).await.len(), 5, "{count}");
    }
}

/// An order whose status changes once, after this number of requests.
struct ChangingOrder {
    statuses: [&'static str; 2],
    after: usize,
    requests: Mutex<usize>,
}

impl Respond for ChangingOrder {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut requests = self.requests.lock().unwrap();
        let status = self.statuses[usize::from(*requests >= self.after)];
        *requests += 1;
        let filter = request.url.query_pairs().find(|(key, _)| key == "filters[status]").unwrap().1;
        let order = json!({ "id": 7, "status": status, "price": 1, "certificate": { "valid_till": "2026-09-01" } });
        let orders = if filter == status { vec![order] } else { vec![] };
        ResponseTemplate::new(200).set_body_json(json!({ "orders": orders, "page": { "total": orders.len() } }))
    }
}

#[tokio::test]
async fn an_order_that_changes_status_between_two_listings_is_found() {
    let day = NaiveDate::from_ymd_opt(2026, 9, 1).unwrap();
    for statuses in [["issued", "reissue_pending"], ["reissue_pending", "issued"]] {
        for after in 0..=3 {
            let server = always(ChangingOrder { statuses, after, requests: Mutex::new(0) }).await;
            let read = client(&server.uri()).orders(day, day).await.unwrap().orders;
            assert_eq!(
                read.iter().map(|order| order.id).collect::<Vec<_>>(),
                [7],
                "{statuses:?}, after {after} requests"
            );
        }
    }
}

#[tokio::test]
async fn a_ledger_failure_has_its_kind_and_does_not_pause_the_balance() {
    let template = |status: u16| ResponseTemplate::new(status);
    for (answer, kind, requests) in [
        (template(403), ReadErrorKind::Refused, 1),
        (template(503), ReadErrorKind::Server, 3),
        (template(429).insert_header("retry-after", "600"), ReadErrorKind::RateLimited, 1),
        (template(200).set_body_string("<html>"), ReadErrorKind::InvalidResponse, 1),
        (
            template(200).set_body_string(r#"{"adjustments":[{"id":"1","debit":"NaN"}]}"#),
            ReadErrorKind::InvalidResponse,
            1,
        ),
        (template(200).set_delay(Duration::from_secs(60)), ReadErrorKind::Timeout, 2),
    ] {
        let server = MockServer::start().await;
        Mock::given(path("/finance/balance-history")).respond_with(answer).mount(&server).await;
        let balance = template(200).set_body_string(r#"{"balance":"454.00","currency":"USD"}"#);
        Mock::given(path("/finance/balance")).respond_with(balance).mount(&server).await;
        let client = client_with(&server.uri(), Duration::from_millis(800), "KEY-0123456789-SECRET");
        let error = client.ledger(None, None).await.unwrap_err();
        assert_eq!((error.kind, queries(&server).await.len()), (kind, requests), "{error}");
        if kind == ReadErrorKind::RateLimited {
            assert!(client.ledger(None, None).await.unwrap_err().reason.contains("no request was sent"));
        }
        assert!(client.balance(None).await.is_ok(), "{kind:?}");
    }
}

/// Starts a refresher that reads from `source`.
fn start_refresher(source: Arc<CertCentralClient>, cache: Option<DiskCache>) -> (Arc<HistoryCache>, CancellationToken) {
    start_refresher_with_clock(&Arc::new(SystemClock), source, cache)
}

fn start_refresher_with_clock<C: Clock + 'static>(
    clock: &Arc<C>,
    source: Arc<CertCentralClient>,
    cache: Option<DiskCache>,
) -> (Arc<HistoryCache>, CancellationToken) {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    let history_cache = Arc::new(HistoryCache::new(Arc::clone(&clock)));
    let refresher = Refresher::new("acme".into(), source, Arc::clone(&history_cache), clock, cache, 30);
    let stop = CancellationToken::new();
    tokio::spawn(refresher.run(stop.clone()));
    (history_cache, stop)
}

async fn sandbox(name: &str, text: &str) -> (Arc<SandboxServer>, Arc<CertCentralClient>) {
    let sandbox = SandboxServer::new(scenario::parse(name, text).unwrap(), 1, Arc::new(SystemClock), Arc::new(()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/services/v2", listener.local_addr().unwrap());
    tokio::spawn(Arc::clone(&sandbox).serve(listener));
    (sandbox, client_with(&base, Duration::from_secs(10), API_KEY))
}

#[tokio::test]
async fn ledger_and_orders_of_every_scenario_match_its_world() {
    for (name, text) in SHIPPED {
        let text = format!(
            "{}\nrate_limit: off\n",
            text.lines().filter(|line| !line.starts_with("rate_limit")).collect::<Vec<_>>().join("\n")
        );
        let (sandbox, client) = sandbox(name, &text).await;
        let divisions: Vec<u64> = sandbox.read_world(|world| world.divisions().map(|(id, _)| id).collect());
        let selected: BTreeSet<_> = divisions.iter().map(|id| Some(*id)).collect();
        let (history_cache, stop) = start_refresher(client, None);
        history_cache.request(&selected);
        history_cache.wait_until_settled(&selected, Duration::from_secs(20)).await;
        let mut sums = BTreeMap::new();
        for id in divisions {
            let history = history_cache.history(Some(id));
            let ledger = history.ledger.unwrap();
            let sum: Decimal = ledger.entries().iter().map(|entry| entry.change).sum();
            // The ledgers of divisions that share a fund add up to its balance.
            let figures = sandbox.read_world(|world| world.sheet(id).unwrap());
            let fund = if name == "shared-funds" { 0 } else { id };
            let (total, balance) = sums.entry(fund).or_insert((Decimal::ZERO, figures.balance));
            *total += sum;
            assert_eq!(*balance, figures.balance, "{name} {id}");
            assert!(ledger.entries().is_sorted_by_key(|entry| entry.at));
            let orders = history.orders.unwrap();
            assert!(orders.iter().all(|order| order.division == Some(id)), "{name}");
        }
        assert!(sums.values().all(|(sum, balance)| sum == balance), "{name}: {sums:?}");
        stop.cancel();
    }
}

#[tokio::test]
async fn a_key_without_access_to_the_ledger_still_reads_the_balance() {
    let text =
        "divisions:\n  Main: { id: 5, balance: 100 }\nfaults:\n  - { from: 0s, for: 1d, kind: history_forbidden }\n";
    let (_sandbox, client) = sandbox("poor", text).await;
    assert!(client.balance(Some(5)).await.is_ok());
    let (history_cache, _stop) = start_refresher(client, None);
    let selected = BTreeSet::from([Some(5)]);
    history_cache.request(&selected);
    history_cache.wait_until_settled(&selected, Duration::from_secs(20)).await;
    let history = history_cache.history(Some(5));
    for gap in [history.ledger.unwrap_err(), history.orders.unwrap_err()] {
        let HistoryGap::Unreadable(why) = gap else { panic!("{gap:?}") };
        assert!(why.reason.contains("403 Forbidden: access_denied"), "{}", why.reason);
    }
}

/// A clock that the test sets. It sleeps in real time.
struct SettableClock(Mutex<Time>);

impl SettableClock {
    fn start() -> Arc<Self> {
        Arc::new(Self(Mutex::new("2026-11-23T08:00:00Z".parse().unwrap())))
    }

    fn pass(&self, length: TimeDelta) {
        *self.0.lock().unwrap() += length;
    }
}

#[async_trait]
impl Clock for SettableClock {
    fn now(&self) -> Time {
        *self.0.lock().unwrap()
    }
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Orders listed as in the API, by id and the end of their certificates.
struct ExpiringOrders {
    clock: Arc<SettableClock>,
    ends: BTreeMap<u64, NaiveDate>,
    /// Time and first day of each requested page.
    pages: Arc<Mutex<Vec<(Instant, NaiveDate)>>>,
    /// Offset of a page that is invalid once.
    broken: Arc<Mutex<Option<usize>>>,
}

impl ExpiringOrders {
    /// Returns orders of which some `ended` within the last 410 days, and the `open` ones end within the next 400.
    fn new(clock: &Arc<SettableClock>, ended: u64, open: u64) -> Self {
        let today = clock.now().date_naive();
        let ended_on = |n: u64| (n, today - Days::new(1 + n * 410 / ended));
        let ends_on = |n: u64| (ended + n, today + Days::new(n * 400 / open));
        let ends = (0..ended).map(ended_on).chain((0..open).map(ends_on)).collect();
        Self { clock: Arc::clone(clock), ends, pages: Arc::default(), broken: Arc::default() }
    }

    /// Returns the orders whose certificates end within these days.
    fn within(&self, from: NaiveDate, to: NaiveDate) -> Vec<u64> {
        self.ends.iter().filter(|(_, end)| (from..=to).contains(*end)).map(|(id, _)| *id).collect()
    }
}

impl Respond for ExpiringOrders {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let requested: BTreeMap<String, String> = request.url.query_pairs().into_owned().collect();
        let number = |name: &str| requested[name].parse::<usize>().unwrap();
        let (from, to) = requested["filters[valid_till]"].split_once("...").unwrap();
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        self.pages.lock().unwrap().push((Instant::now(), from));
        if self.broken.lock().unwrap().take_if(|offset| *offset == number("offset")).is_some() {
            return ResponseTemplate::new(200).set_body_string("<html>");
        }
        let found = if requested["filters[status]"] == "issued" { self.within(from, to) } else { vec![] };
        let today = self.clock.now().date_naive();
        let order = |id: &u64| {
            let end = self.ends[id];
            json!({ "id": id, "status": if end < today { "expired" } else { "issued" }, "price": 399, "is_renewed": false,
                "order_valid_till": end.to_string(), "product": { "name_id": "ssl_plus" },
                "certificate": { "valid_till": end.to_string(), "common_name": format!("host-{id}.example.com") } })
        };
        let page: Vec<Value> = found.iter().skip(number("offset")).take(number("limit")).map(order).collect();
        ResponseTemplate::new(200).set_body_json(json!({ "orders": page, "page": { "total": found.len() } }))
    }
}

/// Returns a server for an account with an empty ledger and these orders.
async fn account_with(orders: ExpiringOrders) -> MockServer {
    let server = MockServer::builder().disable_request_recording().start().await;
    let answer = |body: Value| ResponseTemplate::new(200).set_body_json(body);
    let balance = answer(json!({ "balance": "454.00", "currency": "USD" }));
    Mock::given(path("/finance/balance")).respond_with(balance).mount(&server).await;
    let history = answer(json!({ "adjustments": [] }));
    Mock::given(path("/finance/balance-history")).respond_with(history).mount(&server).await;
    Mock::given(path("/order/certificate")).respond_with(orders).mount(&server).await;
    server
}

/// Waits until orders requested at the clock's present time are published, and returns their number.
async fn wait_published_orders(history_cache: &HistoryCache, clock: &SettableClock) -> usize {
    history_cache.request(&BTreeSet::from([None]));
    for _ in 0..3000 {
        let history = history_cache.history(None);
        if history.orders_read == Some(clock.now()) {
            return history.orders.unwrap().len();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the orders were not read within a minute");
}

/// Waits until the orders read at this time are on disk.
async fn wait_saved_orders(folder: &Path, read: Time) {
    let read = format!("\"read\":{}", serde_json::to_string(&read).unwrap());
    for _ in 0..3000 {
        let mut files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let file = files.find(|path| path.to_str().unwrap().ends_with("orders.jsonl")).unwrap();
        if std::fs::read_to_string(file).unwrap().lines().next().unwrap().contains(&read) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the orders were not saved within a minute");
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_orders_are_listed_once_and_balances_take_precedence() {
    const WINDOW: RateLimitWindow = RateLimitWindow { requests: 16, length: Duration::from_secs(1) };
    let clock = SettableClock::start();
    let orders = ExpiringOrders::new(&clock, 4000, 1000);
    let pages = Arc::clone(&orders.pages);
    let within = |from: i64, to: i64| {
        let today = clock.now().date_naive();
        orders.within(today + TimeDelta::days(from), today + TimeDelta::days(to)).len()
    };
    let (all, listed_second_day) = (within(-410, 400), within(-60, 401));
    let after_a_day = within(-409, 401);
    let server = account_with(orders).await;
    let limited = || limited_client(&server.uri(), RateLimiter::new([WINDOW]));
    let folder = tempfile::tempdir().unwrap();
    let cache = || Some(DiskCache::new(folder.path().join("history"), "acme", "http://here"));

    let source = limited();
    let (history_cache, stop) = start_refresher_with_clock(&clock, Arc::clone(&source), cache());
    history_cache.request(&BTreeSet::from([None]));
    while pages.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..3 {
        source.balance(None).await.unwrap();
    }
    let balances_read = Instant::now();
    assert_eq!(wait_published_orders(&history_cache, &clock).await, all);
    let first = std::mem::take(&mut *pages.lock().unwrap());
    // The last page of the list is not full, and the two listings of reissues have one page each.
    assert_eq!(first.len(), all / 250 + 3);
    assert!(balances_read < first.last().unwrap().0, "balances are read while the orders are listed");
    let half = |pages: &[(Instant, NaiveDate)]| pages.windows(9).all(|pages| pages[8].0 - pages[0].0 > WINDOW.length);
    assert!(half(&first), "at most half of the window is used");

    clock.pass(TimeDelta::hours(24));
    assert_eq!(wait_published_orders(&history_cache, &clock).await, after_a_day);
    let second = std::mem::take(&mut *pages.lock().unwrap());
    assert_eq!(second.len(), listed_second_day / 250 + 3);
    println!("{all} orders: {} pages on the first day, {} on the next", first.len(), second.len());
    assert!(second.len() * 2 < first.len() && half(&second));
    let shown = history_cache.history(None).orders.unwrap();
    wait_saved_orders(&folder.path().join("history"), clock.now()).await;
    stop.cancel();

    // After a restart, nothing is listed until a day has passed.
    let (history_cache, _stop) = start_refresher_with_clock(&clock, limited(), cache());
    history_cache.request(&BTreeSet::from([None]));
    history_cache.wait_until_settled(&BTreeSet::from([None]), Duration::from_secs(20)).await;
    assert_eq!(history_cache.history(None).orders.unwrap(), shown);
    assert!(pages.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_listing_that_fails_half_way_starts_from_the_beginning() {
    let clock = SettableClock::start();
    let orders = ExpiringOrders::new(&clock, 1400, 100);
    let (pages, broken) = (Arc::clone(&orders.pages), Arc::clone(&orders.broken));
    *broken.lock().unwrap() = Some(990);
    let server = account_with(orders).await;
    let folder = tempfile::tempdir().unwrap();
    let cache = Some(DiskCache::new(folder.path().join("history"), "acme", "http://here"));
    let (history_cache, _stop) = start_refresher_with_clock(&clock, client(&server.uri()), cache);
    let selected = BTreeSet::from([None]);
    history_cache.request(&selected);
    history_cache.wait_until_settled(&selected, Duration::from_secs(20)).await;
    let gap = history_cache.history(None).orders.unwrap_err();
    assert!(matches!(&gap, HistoryGap::Unreadable(_)), "{gap:?}");
    let first = std::mem::take(&mut *pages.lock().unwrap());
    assert_eq!(first.len(), 6);
    let names = std::fs::read_dir(folder.path().join("history")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(
        names.into_iter().all(|name| !name.to_str().unwrap().contains("orders")),
        "no incomplete listing is on disk"
    );
    clock.pass(TimeDelta::minutes(11));
    assert_eq!(wait_published_orders(&history_cache, &clock).await, 1500);
    let second = std::mem::take(&mut *pages.lock().unwrap());
    assert_eq!(second.len(), 9);
    assert!(second.iter().all(|(_, from)| *from == first[0].1), "all requests cover the whole window");
}

/// Returns the resident memory of this process in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_ledger_is_read_and_cached_within_time_and_memory() {
    let long = std::env::var_os("LOWTIDE_LONG").is_some_and(|value| value == "1");
    let entries = if long { 100_000 } else { 5000 };
    let server = MockServer::builder().disable_request_recording().start().await;
    Mock::given(method("GET"))
        .and(path("/finance/balance-history"))
        .respond_with(PagedLedger::new(entries))
        .mount(&server)
        .await;
    let none = ResponseTemplate::new(200).set_body_json(json!({ "orders": [] }));
    Mock::given(path("/order/certificate")).respond_with(none).mount(&server).await;
    let folder = tempfile::tempdir().unwrap();
    let cache = || Some(DiskCache::new(folder.path().join("history"), "acme", "http://here"));
    let (before, began) = (resident_kib(), Instant::now());
    let (history_cache, stop) = start_refresher(client(&server.uri()), cache());
    let selected = BTreeSet::from([None]);
    history_cache.request(&selected);
    history_cache.wait_until_settled(&selected, Duration::from_secs(300)).await;
    let (took, grown) = (began.elapsed(), resident_kib().saturating_sub(before));
    let ledger = history_cache.history(None).ledger.unwrap();
    assert_eq!(ledger.entries().len() as u64, entries);
    stop.cancel();
    println!("{entries} entries in {took:?}, {} bytes each with everything else", grown * 1024 / entries);
    assert!(took < Duration::from_secs(120), "{took:?}");
    // This includes the bodies of the test server.
    assert!(grown < 200 * 1024, "{grown} KiB");
    let began = Instant::now();
    let (history_cache, _stop) = start_refresher(client("http://127.0.0.1:9"), cache());
    history_cache.request(&selected);
    history_cache.wait_until_settled(&selected, Duration::from_secs(60)).await;
    assert_eq!(history_cache.history(None).ledger.unwrap(), ledger, "restored from the cache");
    println!("from the cache in {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(30));
}
