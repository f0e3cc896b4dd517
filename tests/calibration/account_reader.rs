//! Generated accounts as the program sees them: served by the sandbox over HTTP, read by the real client and
//! refresher.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lowtide::certcentral::{BalanceSource as _, CertCentralClient, RateLimiter};
use lowtide::domain::balance::Reading;
use lowtide::domain::history::AccountHistory;
use lowtide::domain::rule::Metric;
use lowtide::domain::{Division, Time};
use lowtide::history::{HistoryCache, Refresher};
use lowtide::sandbox::server::{API_KEY, PATH, SandboxServer};
use lowtide::sandbox::world::{AccountRecords, SimulatedWorld};
use lowtide::util::clock::Clock;
use lowtide::util::http_client;
use lowtide::util::http_client::HttpClientOptions;
use lowtide::util::secret::{Redactor, Secret};
use rust_decimal::Decimal;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use url::Url;

/// Longer than reading any account takes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A clock that stands still. Waits take real time.
struct FrozenClock(Time);

#[async_trait]
impl Clock for FrozenClock {
    fn now(&self) -> Time {
        self.0
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Reads accounts one after the other from one server.
pub struct AccountReader {
    runtime: Runtime,
    clock: Arc<dyn Clock>,
    sandbox: Arc<SandboxServer>,
    base: Url,
    http: reqwest::Client,
}

impl AccountReader {
    /// Creates a reader that reads all accounts at `now`.
    pub fn new(now: Time) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(FrozenClock(now));
        let no_account = SimulatedWorld::recorded(AccountRecords::default(), now);
        let sandbox = SandboxServer::recorded(no_account, Arc::clone(&clock), Arc::new(()));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let base = Url::parse(&format!("http://{}{PATH}", listener.local_addr().unwrap())).unwrap();
        runtime.spawn(Arc::clone(&sandbox).serve(listener));
        let http =
            http_client::client(&HttpClientOptions { timeout: TIMEOUT, extra_ca_pem: None, loopback: true }).unwrap();
        Self { runtime, clock, sandbox, base, http }
    }

    /// Reads the funds and the history of an account with these records, for all divisions together.
    pub fn read(&self, records: AccountRecords) -> (Decimal, AccountHistory) {
        self.sandbox.replace_world(SimulatedWorld::recorded(records, self.clock.now()));
        self.runtime.block_on(self.read_history())
    }

    async fn read_history(&self) -> (Decimal, AccountHistory) {
        let (base, http, key) = (self.base.clone(), self.http.clone(), Secret::new(API_KEY));
        let (limiter, clock) = (Arc::new(RateLimiter::new([])), Arc::clone(&self.clock));
        let client =
            CertCentralClient::new("generated", base, &key, http, limiter, Redactor::default(), clock).unwrap();
        let listed = client.divisions().await.unwrap();
        let ids = listed.iter().map(|division| Some(division.id));
        let divisions: Vec<Division> = if listed.len() == 1 { vec![None] } else { ids.collect() };
        let mut figures = Vec::new();
        for division in &divisions {
            figures.push(client.balance(*division).await.unwrap());
        }
        assert!(figures.iter().all(|its| *its == figures[0]), "divisions that report the same figures share one fund");
        let Reading::Amount(funds) = figures[0].reading(Metric::AvailableFunds) else { panic!("no amount") };
        let cache = Arc::new(HistoryCache::new(Arc::clone(&self.clock)));
        let watched: BTreeSet<Division> = divisions.iter().copied().collect();
        cache.request(&watched);
        let (source, clock) = (Arc::new(client), Arc::clone(&self.clock));
        let refresher = Refresher::new("generated".into(), source, Arc::clone(&cache), clock, None, 30);
        tokio::select! {
            () = refresher.run(CancellationToken::new()) => {}
            () = cache.wait_until_settled(&watched, TIMEOUT) => {}
        }
        (funds.amount, AccountHistory::merge(&cache.fund_histories(&divisions)))
    }
}
