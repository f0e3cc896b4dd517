//! Rolling-window rate limit of one API key, shared by everything that uses the key.
//!
//! The quota holds where it is counted, at the server, independent of latency. A request arrives at some time between
//! [`RateLimiter::acquire`] and the drop of its [`RequestPermit`]. While the permit exists, the request counts as
//! "now"; afterwards it counts from the time of the drop. Of any N + 1 requests that arrive within one window, let R be
//! the one admitted last. When R was admitted, each of the others was in flight, or its permit had been dropped no
//! earlier than it arrived, and therefore within the window before R. So N others counted when R was admitted, and the
//! rule in `RequestLog::admit` forbids that.
//!
//! The limiter decides no retry. A waiting caller sleeps until the next request can be admitted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::certcentral::pacing::{RequestLoad, RequestRate};
use crate::domain::Name;

/// Resolution of the timer. The server's windows may include both of their ends, so that a request leaves a window one
/// tick after its length.
const TICK: Duration = Duration::from_millis(1);

/// A limit of `requests` within any span of time of this `length`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimitWindow {
    /// Number of requests; 0 counts as 1, since a limit of 0 would wait forever.
    pub requests: usize,
    /// Length of the rolling window.
    pub length: Duration,
}

/// An account whose requests a limiter counts.
#[derive(Debug, Clone)]
pub struct LimiterAccount {
    /// Name of the account.
    pub account: Name,
    /// Number of requests in each cycle; `None` if it is known only after the divisions are listed.
    pub requests: Option<usize>,
    /// Time from one cycle to the next.
    pub period: Duration,
}

/// A limiter that admits requests in the order in which they were asked for, and never exceeds a window.
#[derive(Debug)]
pub struct RateLimiter {
    windows: Vec<RateLimitWindow>,
    /// Held by the next caller to be admitted; tokio's mutex is fair, so callers get it in order.
    turn: tokio::sync::Mutex<()>,
    /// Held by the next background caller to be admitted.
    background_turn: tokio::sync::Mutex<()>,
    /// Windows with half the requests, rounded up, for background requests.
    background_windows: Vec<RateLimitWindow>,
    log: Mutex<RequestLog>,
    /// Notified when a permit is dropped, for the caller that holds `turn`.
    freed: Notify,
    /// Notified when a permit is dropped, for the caller that holds `background_turn`.
    freed_background: Notify,
    /// Loads of the accounts that share the limiter; each account paces its requests with the loads of the others in
    /// mind.
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
    /// Times at which requests ended, oldest first, as far back as the longest window.
    ended: VecDeque<Instant>,
}

/// Decision about the next caller.
#[derive(Debug, PartialEq, Eq)]
enum AdmissionDecision {
    Granted,
    /// Enough requests have left the windows at this time.
    At(Instant),
    /// Too many requests are in flight; one of them has to end first.
    AfterRelease,
}

/// Permission for one request. Hold it until the response is complete: the server counts the request before the drop.
#[derive(Debug)]
#[must_use = "dropping the permit ends the request that it stands for"]
pub struct RequestPermit(Option<Arc<RateLimiter>>);

impl RateLimiter {
    /// Returns a limiter that respects all of these windows. Without windows there is no limit.
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

    /// Returns the windows as rates, for [`crate::certcentral::pacing`].
    pub fn limits(&self) -> Vec<RequestRate> {
        self.windows.iter().map(|window| (window.requests, window.length)).collect()
    }

    /// Replaces the accounts that share the limiter. An account without a number of requests keeps its last recorded
    /// load.
    pub fn set_accounts(&self, accounts: impl IntoIterator<Item = LimiterAccount>) {
        let mut loads = self.loads();
        let before = std::mem::take(&mut loads.by_account);
        loads.by_account.extend(accounts.into_iter().map(|LimiterAccount { account, requests, period }| {
            let requests = requests.or(before.get(&account).map(|load| load.requests)).unwrap_or(0);
            (account, RequestLoad { requests, period })
        }));
    }

    /// Records the load of an account's cycles. Returns the loads of all accounts that share the limiter.
    pub fn record_load(&self, account: &Name, load: RequestLoad) -> BTreeMap<Name, RequestLoad> {
        let mut loads = self.loads();
        loads.by_account.insert(account.clone(), load);
        loads.by_account.clone()
    }

    /// Returns true on the first call, so that a schedule that is too short for the limiter is reported once.
    pub fn should_warn_too_short(&self) -> bool {
        !std::mem::replace(&mut self.loads().too_short_warned, true)
    }

    fn loads(&self) -> MutexGuard<'_, AccountLoads> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the windows of the limit.
    pub fn windows(&self) -> &[RateLimitWindow] {
        &self.windows
    }

    /// Waits until a request is admitted. Dropping the future gives up the place in the queue.
    pub async fn acquire(self: &Arc<Self>) -> RequestPermit {
        if self.windows.is_empty() {
            return RequestPermit(None);
        }
        let _turn = self.turn.lock().await;
        self.wait_for_permit(&self.windows, &self.freed).await
    }

    /// Waits until less than half of every window is used, and admits a background request.
    ///
    /// At least the other half of each window, rounded down, remains for [`RateLimiter::acquire`]: callers that need no
    /// more than that never wait because of background requests. Callers that need more may wait, since a background
    /// request counts like any other. A window of one request has no other half: a background request is admitted when
    /// the window is empty, and the next request waits until it has left the window.
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
                // Requests that end meanwhile leave their windows later, so that no notification can shorten this wait.
                AdmissionDecision::At(instant) => sleep_until(instant).await,
                AdmissionDecision::AfterRelease => freed.notified().await,
            }
        }
    }

    fn log(&self) -> MutexGuard<'_, RequestLog> {
        // No code that holds the lock can panic in the middle of a change.
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
        // The time is taken under the lock, so that the list stays sorted.
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

    /// A seeded linear congruential generator, so that every run has the same latencies.
    fn random(seed: &mut u64) -> u64 {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *seed >> 33
    }

    /// Sends `count` requests with a latency of up to `latency` ms each way. Returns their sorted times of arrival.
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
    async fn no_window_is_exceeded_at_the_server_at_any_latency() {
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
    async fn requests_are_admitted_at_about_the_rate_of_the_quota() {
        let started = Instant::now();
        arrivals(&limiter(&[(100, 5000)]), 1000, 200, 9).await;
        let took = started.elapsed();
        // Nine full windows have to pass, each at most one round trip longer, and the starts are spread over 2 s.
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
            "the first request is still in flight"
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
        // The other half is available at once, although a background request waits.
        for _ in 0..5 {
            tokio::task::yield_now().await;
            held.push(limiter.acquire().await);
        }
        assert_eq!(started.elapsed(), Duration::ZERO);
        assert!(!sixth.is_finished(), "half of the window is used");
        held.clear();
        // Ten of the sixteen requests count for a minute: until then the long window admits no background request.
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
        assert!(done > 20, "background requests make progress too: {done}");
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
