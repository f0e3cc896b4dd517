//! The rolling-window limit on requests of one API key, shared by everything that uses the key.
//!
//! The quota holds where it is counted: at the server, however long requests travel. A request arrives somewhere between
//! [`RateLimiter::acquire`] and the drop of its [`RequestPermit`]. While the permit lives it counts as "now"; afterwards it counts
//! from its drop. Of any N + 1 requests arriving within one window, let R be the one admitted last: each of the others
//! was then still in flight, or had been dropped no earlier than it arrived, hence no longer than the window before R was
//! admitted. So N others counted when R was admitted, which the rule below forbids.
//!
//! It decides nothing about retries, and it never spins: a waiting caller sleeps until the moment that a place gets free.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::domain::Name;
use crate::polling::pacing::{RequestLoad, RequestRate};

/// The server's windows may include both of their ends: a place is free strictly after the window, by one tick of the timer.
const TICK: Duration = Duration::from_millis(1);

/// At most `requests` in any window of this length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimitWindow {
    /// How many; 0 counts as 1, since a limit that nothing passes would be a hang.
    pub requests: usize,
    /// In any span of this length.
    pub length: Duration,
}

/// An account that shares a limiter.
#[derive(Debug, Clone)]
pub struct LimiterAccount {
    /// Its name.
    pub account: Name,
    /// How many requests one of its cycles makes; `None`: only a listing tells.
    pub requests: Option<usize>,
    /// The time from one cycle to the next.
    pub period: Duration,
}

/// Admits requests so that no window is ever exceeded, first come, first served.
#[derive(Debug)]
pub struct RateLimiter {
    windows: Vec<RateLimitWindow>,
    /// Held by whoever is next; tokio's mutex hands it on in the order of asking.
    turn: tokio::sync::Mutex<()>,
    /// The same for spare places.
    background_turn: tokio::sync::Mutex<()>,
    /// Half of each window, rounded up: where one of two places is taken, no spare one is left.
    background_windows: Vec<RateLimitWindow>,
    log: Mutex<RequestLog>,
    /// A permit was dropped: for whoever is next in each line.
    freed: Notify,
    freed_background: Notify,
    /// What the accounts ask that share it, so that each paces itself with the others in view.
    loads: Mutex<AccountLoads>,
}

#[derive(Debug, Default)]
struct AccountLoads {
    by_account: BTreeMap<Name, RequestLoad>,
    too_short_warned: bool,
}

#[derive(Debug, Default)]
struct RequestLog {
    in_flight: usize,
    /// When requests ended, oldest first; only as far back as the longest window.
    ended: VecDeque<Instant>,
}

/// What the next in line has to do.
#[derive(Debug, PartialEq, Eq)]
enum AdmissionDecision {
    Granted,
    /// Enough requests leave the window then.
    At(Instant),
    /// Even with every ended request forgotten, too many are in flight.
    AfterRelease,
}

/// One admitted request. Hold it until the response is complete: its drop is the latest moment the server can have counted.
#[derive(Debug)]
#[must_use = "dropping the permit ends the request that it stands for"]
pub struct RequestPermit(Option<Arc<RateLimiter>>);

impl RateLimiter {
    /// A limiter that respects every window at once; without windows there is no limit.
    pub fn new(windows: impl IntoIterator<Item = RateLimitWindow>) -> Self {
        let windows: Vec<RateLimitWindow> = windows.into_iter().collect();
        let half = |window: &RateLimitWindow| RateLimitWindow { requests: window.requests.div_ceil(2), ..*window };
        Self {
            background_windows: windows.iter().map(half).collect(),
            windows,
            turn: tokio::sync::Mutex::new(()),
            background_turn: tokio::sync::Mutex::new(()),
            log: Mutex::new(RequestLog::default()),
            freed: Notify::new(),
            freed_background: Notify::new(),
            loads: Mutex::default(),
        }
    }

    /// The windows as plain limits.
    pub fn limits(&self) -> Vec<RequestRate> {
        self.windows.iter().map(|window| (window.requests, window.length)).collect()
    }

    /// Exactly these accounts share it from now on. Of one whose number of requests is not given, what it noted before counts.
    pub fn set_accounts(&self, accounts: impl IntoIterator<Item = LimiterAccount>) {
        let mut loads = self.loads();
        let before = std::mem::take(&mut loads.by_account);
        loads.by_account.extend(accounts.into_iter().map(|LimiterAccount { account, requests, period }| {
            let requests = requests.or(before.get(&account).map(|load| load.requests)).unwrap_or(0);
            (account, RequestLoad { requests, period })
        }));
    }

    /// Notes what an account asks in each of its cycles. Returns the loads of all accounts that share the limiter.
    pub fn record_load(&self, account: &Name, load: RequestLoad) -> BTreeMap<Name, RequestLoad> {
        let mut loads = self.loads();
        loads.by_account.insert(account.clone(), load);
        loads.by_account.clone()
    }

    /// Whether nobody has said yet that a schedule is too short for it; from now on somebody has.
    pub fn should_warn_too_short(&self) -> bool {
        !std::mem::replace(&mut self.loads().too_short_warned, true)
    }

    fn loads(&self) -> MutexGuard<'_, AccountLoads> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The windows that it respects.
    pub fn windows(&self) -> &[RateLimitWindow] {
        &self.windows
    }

    /// Waits for this request's turn. Dropping the future gives up the place in line.
    pub async fn acquire(self: &Arc<Self>) -> RequestPermit {
        if self.windows.is_empty() {
            return RequestPermit(None);
        }
        let _turn = self.turn.lock().await;
        self.wait_for_permit(&self.windows, &self.freed).await
    }

    /// Waits until less than half of every window is used. So at least the other half, rounded down, is left to
    /// [`RateLimiter::acquire`]: whoever asks there for no more than that within a window never waits because of spare requests.
    /// Whoever asks for more does: a spare request counts in its windows like any other. Of a window of one request there
    /// is no other half: it is given where nothing uses it, and whoever comes then waits until it has left the window.
    pub async fn acquire_background(self: &Arc<Self>) -> RequestPermit {
        if self.windows.is_empty() {
            return RequestPermit(None);
        }
        let _turn = self.background_turn.lock().await;
        self.wait_for_permit(&self.background_windows, &self.freed_background).await
    }

    async fn wait_for_permit(self: &Arc<Self>, windows: &[RateLimitWindow], freed: &Notify) -> RequestPermit {
        loop {
            let admission = self.log().admit(windows, Instant::now());
            match admission {
                AdmissionDecision::Granted => return RequestPermit(Some(Arc::clone(self))),
                // What ends meanwhile leaves its windows later than this, so there is nothing else to listen for.
                AdmissionDecision::At(instant) => sleep_until(instant).await,
                AdmissionDecision::AfterRelease => freed.notified().await,
            }
        }
    }

    fn log(&self) -> MutexGuard<'_, RequestLog> {
        // No code that holds the lock can panic half-way through a change.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RequestLog {
    fn admit(&mut self, windows: &[RateLimitWindow], now: Instant) -> AdmissionDecision {
        let mut at = None;
        for window in windows {
            let first_live = self.ended.partition_point(|end| now.duration_since(*end) > window.length);
            let live = self.ended.len() - first_live;
            let too_many = (self.in_flight + live + 1).saturating_sub(window.requests.max(1));
            if too_many > live {
                return AdmissionDecision::AfterRelease;
            }
            if too_many > 0 {
                at = at.max(Some(self.ended[first_live + too_many - 1] + window.length + TICK));
            }
        }
        if let Some(instant) = at {
            return AdmissionDecision::At(instant);
        }
        let longest = windows.iter().map(|window| window.length).max().unwrap_or_default();
        while self.ended.front().is_some_and(|end| now.duration_since(*end) > longest) {
            self.ended.pop_front();
        }
        self.in_flight += 1;
        AdmissionDecision::Granted
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        let Some(limiter) = self.0.take() else { return };
        let mut log = limiter.log();
        log.in_flight = log.in_flight.saturating_sub(1);
        // Read under the lock, so that the list stays in order.
        log.ended.push_back(Instant::now());
        drop(log);
        limiter.freed.notify_one();
        limiter.freed_background.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;
    use tokio::time::sleep;

    fn limiter(windows: &[(usize, u64)]) -> Arc<RateLimiter> {
        let window = |&(requests, ms): &(usize, u64)| RateLimitWindow { requests, length: Duration::from_millis(ms) };
        Arc::new(RateLimiter::new(windows.iter().map(window)))
    }

    /// Small, seeded and good enough: the same latencies at every run.
    fn random(seed: &mut u64) -> u64 {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *seed >> 33
    }

    /// Sends `count` requests that travel up to `latency` ms each way; when they arrived at the server, in order.
    async fn arrivals(limiter: &Arc<RateLimiter>, count: usize, latency: u64, seed: u64) -> Vec<Instant> {
        let mut seed = seed;
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let (out, back) = (random(&mut seed) % (latency + 1), random(&mut seed) % (latency + 1));
            let start = random(&mut seed) % 2000;
            let limiter = Arc::clone(limiter);
            tasks.spawn(async move {
                sleep(Duration::from_millis(start)).await;
                let permit = limiter.acquire().await;
                sleep(Duration::from_millis(out)).await;
                let arrived = Instant::now();
                sleep(Duration::from_millis(back)).await;
                drop(permit);
                arrived
            });
        }
        let mut arrived = tasks.join_all().await;
        arrived.sort();
        arrived
    }

    #[tokio::test(start_paused = true)]
    async fn no_window_is_exceeded_at_the_server_whatever_the_latencies() {
        let cases: [&[(usize, u64)]; 4] =
            [&[(10, 1000)], &[(100, 5000), (300, 30_000)], &[(1, 50)], &[(7, 300), (20, 1500), (50, 9000)]];
        for (seed, windows) in (1u64..).zip(cases) {
            for latency in [0, 3, 400, 6000] {
                let arrived = arrivals(&limiter(windows), 400, latency, seed).await;
                for &(requests, ms) in windows {
                    for pair in arrived.windows(requests + 1) {
                        let span = pair[requests] - pair[0];
                        assert!(
                            span > Duration::from_millis(ms),
                            "{} in {span:?}, {windows:?}, {latency}",
                            requests + 1
                        );
                    }
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_makes_progress_at_about_the_quotas_pace() {
        let started = Instant::now();
        arrivals(&limiter(&[(100, 5000)]), 1000, 200, 9).await;
        let took = started.elapsed();
        // Nine full windows have to pass; each costs at most one round trip more, and the start is spread over 2 s.
        assert!(took >= Duration::from_secs(45) && took < Duration::from_secs(52), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_admitted_in_order_and_a_dropped_one_blocks_none() {
        let limiter = limiter(&[(1, 1000)]);
        let first = limiter.acquire().await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let mut handles = Vec::new();
        for number in 0..6 {
            let (limiter, order) = (Arc::clone(&limiter), Arc::clone(&order));
            handles.push(tasks.spawn(async move {
                let _permit = limiter.acquire().await;
                order.lock().unwrap_or_else(PoisonError::into_inner).push(number);
            }));
            tokio::task::yield_now().await;
        }
        handles[0].abort();
        handles[3].abort();
        sleep(Duration::from_secs(10)).await;
        assert_eq!(
            *order.lock().unwrap_or_else(PoisonError::into_inner),
            [] as [i32; 0],
            "the first is still in flight"
        );
        drop(first);
        while tasks.join_next().await.is_some() {}
        assert_eq!(*order.lock().unwrap_or_else(PoisonError::into_inner), [1, 2, 4, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn background_requests_use_at_most_half_of_every_window() {
        let limiter = limiter(&[(10, 1000), (16, 60_000)]);
        let started = Instant::now();
        let mut held = Vec::new();
        for _ in 0..5 {
            held.push(limiter.acquire_background().await);
        }
        assert_eq!(started.elapsed(), Duration::ZERO);
        let sixth = tokio::spawn({
            let limiter = Arc::clone(&limiter);
            async move {
                drop(limiter.acquire_background().await);
                Instant::now()
            }
        });
        // Whoever is urgent has the other half at once, though somebody stands in the other line.
        for _ in 0..5 {
            tokio::task::yield_now().await;
            held.push(limiter.acquire().await);
        }
        assert_eq!(started.elapsed(), Duration::ZERO);
        assert!(!sixth.is_finished(), "half is used");
        held.clear();
        // Ten of sixteen places are used for a minute: the long window has no spare one before.
        let got = sixth.await.unwrap();
        assert_eq!(got - started, Duration::from_secs(60) + TICK);
    }

    #[tokio::test(start_paused = true)]
    async fn background_requests_delay_no_reading() {
        let limiter = limiter(&[(10, 1000)]);
        let mut tasks = JoinSet::new();
        for _ in 0..500 {
            let limiter = Arc::clone(&limiter);
            tasks.spawn(async move {
                let permit = limiter.acquire_background().await;
                sleep(Duration::from_millis(300)).await;
                drop(permit);
            });
        }
        for _ in 0..60 {
            sleep(Duration::from_millis(1200)).await;
            let began = Instant::now();
            for _ in 0..4 {
                let permit = limiter.acquire().await;
                sleep(Duration::from_millis(1)).await;
                drop(permit);
            }
            assert_eq!(began.elapsed(), Duration::from_millis(4));
        }
        let done = std::iter::from_fn(|| tasks.try_join_next()).count();
        assert!(done > 20, "the others make progress too: {done}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_of_one_request_admits_background_requests() {
        let limiter = limiter(&[(1, 1000)]);
        let started = Instant::now();
        drop(limiter.acquire_background().await);
        drop(limiter.acquire_background().await);
        assert_eq!(started.elapsed(), Duration::from_secs(1) + TICK);
    }

    #[tokio::test(start_paused = true)]
    async fn without_windows_there_is_no_limit() {
        let limiter = limiter(&[]);
        let started = Instant::now();
        let mut permits = Vec::new();
        for _ in 0..5000 {
            permits.push(limiter.acquire().await);
        }
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
}
