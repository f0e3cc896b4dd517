//! Generated accounts as the program sees them: shown by the sandbox over HTTP, read by the real client and the real keeper.

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
use tokio::sync::watch;
use url::Url;

/// Longer than any account takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Stands still at one moment; who waits by it waits by real time.
struct Still(Time);

#[async_trait]
impl Clock for Still {
    fn now(&self) -> Time {
        self.0
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Reads one account after the other, all of them from one server.
pub struct Reader {
    runtime: Runtime,
    clock: Arc<dyn Clock>,
    sandbox: Arc<SandboxServer>,
    base: Url,
    http: reqwest::Client,
}

impl Reader {
    /// All accounts are read at `now`.
    pub fn new(now: Time) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(Still(now));
        let nobody = SimulatedWorld::recorded(AccountRecords::default(), now);
        let sandbox = SandboxServer::recorded(nobody, Arc::clone(&clock), Arc::new(()));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let base = Url::parse(&format!("http://{}{PATH}", listener.local_addr().unwrap())).unwrap();
        runtime.spawn(Arc::clone(&sandbox).serve(listener));
        let http =
            http_client::client(&HttpClientOptions { timeout: PATIENCE, extra_ca_pem: None, loopback: true }).unwrap();
        Self { runtime, clock, sandbox, base, http }
    }

    /// The funds of an account that holds these records, and its books, those of all divisions together.
    pub fn read(&self, records: AccountRecords) -> (Decimal, AccountHistory) {
        self.sandbox.replace_world(SimulatedWorld::recorded(records, self.clock.now()));
        self.runtime.block_on(self.books())
    }

    async fn books(&self) -> (Decimal, AccountHistory) {
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
        let shelf = Arc::new(HistoryCache::new(Arc::clone(&self.clock)));
        let wanted: BTreeSet<Division> = divisions.iter().copied().collect();
        shelf.request(&wanted);
        let (source, clock) = (Arc::new(client), Arc::clone(&self.clock));
        let keeper = Refresher::new("generated".into(), source, Arc::clone(&shelf), clock, None, 30);
        let (_go_on, stopped) = watch::channel(false);
        tokio::select! {
            () = keeper.run(stopped) => {}
            () = shelf.wait_until_settled(&wanted, PATIENCE) => {}
        }
        (funds.amount, AccountHistory::merge(&shelf.fund_histories(&divisions)))
    }
}
