//! HTTP server of the simulated `CertCentral`: authentication, rate limits and faults. The module `answers` builds the responses.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::answers;
use super::query::ApiQuery;
use super::refusal::{ApiRefusal, refuse};
use super::scenario::{ApiFault, ApiFaultKind, Scenario};
use super::world::SimulatedWorld;
use super::{Activity, ActivityGuard};
use crate::domain::Time;
use crate::util::clock::Clock;

/// Path of the API.
pub const PATH: &str = "/services/v2";
/// API key of a user who can see everything.
pub const API_KEY: &str = "sandbox-api-key";
/// API key of a user who cannot see finances.
pub const KEY_WITHOUT_FINANCE_ROLE: &str = "sandbox-key-without-finance-role";
/// Pause in the middle of a response before its connection is closed.
const BROKEN_RESPONSE_DELAY: Duration = Duration::from_millis(20);
/// Longest time without a response, after which every client has given up.
const HANG_DURATION: Duration = Duration::from_secs(120);

/// A simulated account and its API.
pub struct SandboxServer {
    world: Mutex<SimulatedWorld>,
    faults: Vec<ApiFault>,
    /// Number of requests per window for each key.
    rate_limit: Vec<(usize, Duration)>,
    clock: Arc<dyn Clock>,
    activity: Arc<dyn Activity>,
    /// Times of each key's requests, oldest first. Real time, because the clients are real.
    request_times: Mutex<BTreeMap<String, VecDeque<Instant>>>,
}

impl SandboxServer {
    /// Creates the account of a scenario that starts now by `clock`.
    pub fn new(scenario: Scenario, seed: u64, clock: Arc<dyn Clock>, activity: Arc<dyn Activity>) -> Arc<Self> {
        let start = clock.now();
        Self::started(scenario, seed, start, clock, activity)
    }

    /// Creates the account of a scenario that started at `start`.
    pub fn started(
        scenario: Scenario,
        seed: u64,
        start: Time,
        clock: Arc<dyn Clock>,
        activity: Arc<dyn Activity>,
    ) -> Arc<Self> {
        let world = SimulatedWorld::new(&scenario, start, seed);
        let Scenario { faults, rate_limit, .. } = scenario;
        Arc::new(Self {
            world: Mutex::new(world),
            faults,
            rate_limit,
            clock,
            activity,
            request_times: Mutex::default(),
        })
    }

    /// Creates an account with given records, without faults and rate limits.
    pub fn recorded(world: SimulatedWorld, clock: Arc<dyn Clock>, activity: Arc<dyn Activity>) -> Arc<Self> {
        let (world, faults, rate_limit) = (Mutex::new(world), Vec::new(), Vec::new());
        Arc::new(Self { world, faults, rate_limit, clock, activity, request_times: Mutex::default() })
    }

    /// Replaces the simulated account.
    pub fn replace_world(&self, world: SimulatedWorld) {
        *self.world.lock().unwrap_or_else(PoisonError::into_inner) = world;
    }

    /// Serves requests until dropped.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) -> std::io::Result<()> {
        let api = Router::new()
            .route("/finance/balance", get(balance))
            .route("/finance/balance-history", get(history))
            .route("/container", get(containers))
            .route("/user/me", get(me))
            .route("/order/certificate", get(orders))
            .route("/order/certificate/{id}", get(order));
        let router = Router::new()
            .nest(PATH, api)
            .fallback(async || refuse(&ApiRefusal::NoRoute))
            .method_not_allowed_fallback(async || refuse(&ApiRefusal::ViewOnly))
            .layer(axum::middleware::from_fn_with_state(Arc::clone(&self), gate))
            .with_state(self);
        axum::serve(listener, router).await
    }

    /// Simulates until now and reads the account.
    pub fn read_world<R>(&self, read: impl FnOnce(&SimulatedWorld) -> R) -> R {
        read(&self.world())
    }

    /// Returns the fault that is active now.
    pub fn fault(&self) -> Option<ApiFaultKind> {
        let now = self.clock.now();
        let since_start = self.read_world(|world| (now - world.start()).to_std().unwrap_or_default());
        self.faults.iter().find(|fault| fault.is_active_at(since_start)).map(|fault| fault.kind)
    }

    fn world(&self) -> MutexGuard<'_, SimulatedWorld> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.advance(self.clock.now());
        world
    }

    /// Counts a request and returns `true`, or returns `false` if the key has reached a limit.
    fn admit(&self, key: &str) -> bool {
        let now = Instant::now();
        let mut request_times = self.request_times.lock().unwrap_or_else(PoisonError::into_inner);
        let times = request_times.entry(key.to_owned()).or_default();
        let within = |times: &VecDeque<Instant>, window: Duration| {
            times.iter().rev().take_while(|at| now.duration_since(**at) < window).count()
        };
        let full = self.rate_limit.iter().any(|(requests, window)| within(times, *window) >= *requests);
        if !full {
            let longest = self.rate_limit.iter().map(|(_, window)| *window).max().unwrap_or_default();
            while times.front().is_some_and(|at| now.duration_since(*at) >= longest) {
                times.pop_front();
            }
            times.push_back(now);
        }
        !full
    }
}

/// Applies faults, the key and the rate limit before a request is answered.
async fn gate(
    State(sandbox): State<Arc<SandboxServer>>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    let busy = ActivityGuard::begin(&sandbox.activity);
    let below = request.uri().path().strip_prefix(PATH).unwrap_or_default();
    let finance = below.starts_with("/finance/balance");
    let is_history = below.starts_with("/finance/balance-history") || below.starts_with("/order/");
    let uri = request.uri().to_string();
    let response = match refusal(&sandbox, request.headers(), request.method(), finance, is_history).await {
        Some(response) => response,
        None => next.run(request).await,
    };
    tracing::info!(request = uri, status = response.status().as_u16(), "answered");
    drop(busy);
    response
}

async fn refusal(
    sandbox: &SandboxServer,
    headers: &HeaderMap,
    method: &Method,
    finance: bool,
    is_history: bool,
) -> Option<Response> {
    let key = headers.get("x-dc-devkey").and_then(|key| key.to_str().ok()).unwrap_or_default();
    if let Some(fault) = sandbox.fault().filter(|fault| is_history || *fault != ApiFaultKind::HistoryForbidden) {
        return Some(fault_response(fault, &sandbox.activity).await);
    }
    if key != API_KEY && key != KEY_WITHOUT_FINANCE_ROLE {
        return Some(refuse(&ApiRefusal::InvalidKey));
    }
    if !sandbox.admit(key) {
        return Some(refuse(&ApiRefusal::TooMany));
    }
    if method != Method::GET {
        return Some(refuse(&ApiRefusal::ViewOnly));
    }
    (key == KEY_WITHOUT_FINANCE_ROLE && finance).then(|| refuse(&ApiRefusal::NoFinanceRole))
}

async fn fault_response(fault: ApiFaultKind, activity: &Arc<dyn Activity>) -> Response {
    match fault {
        ApiFaultKind::Maintenance => refuse(&ApiRefusal::Maintenance),
        ApiFaultKind::RateLimited => refuse(&ApiRefusal::TooMany),
        ApiFaultKind::ServerError => refuse(&ApiRefusal::Internal),
        ApiFaultKind::RevokedKey => refuse(&ApiRefusal::InvalidKey),
        ApiFaultKind::Forbidden | ApiFaultKind::HistoryForbidden => refuse(&ApiRefusal::NoFinanceRole),
        ApiFaultKind::Html => {
            let page = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>";
            ([(header::CONTENT_TYPE, "text/html")], page).into_response()
        }
        ApiFaultKind::Hang => {
            tokio::time::sleep(HANG_DURATION).await;
            refuse(&ApiRefusal::Internal)
        }
        ApiFaultKind::Broken => {
            // The beginning is sent before the end fails.
            let beginning = futures_util::stream::iter([Ok("{\"balance\":\"1")]);
            let busy = ActivityGuard::begin(activity);
            let end = futures_util::stream::once(async move {
                tokio::time::sleep(BROKEN_RESPONSE_DELAY).await;
                drop(busy);
                Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
            });
            let body = Body::from_stream(futures_util::StreamExt::chain(beginning, end));
            ([(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
    }
}

/// Answers a request from the current state of the account.
fn respond(
    sandbox: &SandboxServer,
    query: Option<&str>,
    answer: impl FnOnce(&SimulatedWorld, &ApiQuery, Time) -> Result<serde_json::Value, ApiRefusal>,
) -> Response {
    let query = ApiQuery::parse(query.unwrap_or_default());
    let now = sandbox.clock.now();
    match sandbox.read_world(|world| answer(world, &query, now)) {
        Ok(json) => (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], json.to_string()).into_response(),
        Err(refusal) => refuse(&refusal),
    }
}

type SandboxState = State<Arc<SandboxServer>>;

async fn balance(State(sandbox): SandboxState, RawQuery(query): RawQuery) -> Response {
    respond(&sandbox, query.as_deref(), |world, query, _| answers::balance(world, query))
}

async fn history(State(sandbox): SandboxState, RawQuery(query): RawQuery) -> Response {
    respond(&sandbox, query.as_deref(), |world, query, _| answers::history(world, query))
}

async fn containers(State(sandbox): SandboxState) -> Response {
    respond(&sandbox, None, |world, _, _| Ok(answers::containers(world)))
}

async fn me(State(sandbox): SandboxState) -> Response {
    respond(&sandbox, None, |world, _, _| Ok(answers::me(world)))
}

async fn orders(State(sandbox): SandboxState, RawQuery(query): RawQuery) -> Response {
    respond(&sandbox, query.as_deref(), answers::orders)
}

async fn order(State(sandbox): SandboxState, Path(id): Path<String>) -> Response {
    respond(&sandbox, None, |world, _, now| answers::order(world, &id, now))
}

#[cfg(test)]
mod tests;
