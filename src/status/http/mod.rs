//! HTTP endpoints: liveness, readiness and metrics.
//!
//! Read-only, and off unless the configuration names an address. Amounts are private: if a token is configured, everything but
//! `/healthz` requires it.

mod metrics;
mod serve;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::metrics::ProcessStatus;
use self::serve::ConnectionLimits;
use crate::domain::Time;
use crate::state::StateStore;
use crate::status::registry::Registry;
use crate::util::clock::Clock;
use crate::util::secret::Secret;

/// Sources of the responses.
pub struct HttpContext {
    /// Published figures of the service.
    pub registry: Arc<Registry>,
    /// Alerts and pending events.
    pub store: Arc<StateStore>,
    /// Clock of the service.
    pub clock: Arc<dyn Clock>,
}

/// Required token, which a reload can replace. `None`: no token is required.
type SharedToken = Arc<RwLock<Option<Secret>>>;

struct HttpState {
    context: HttpContext,
    token: SharedToken,
}

/// A running server. Dropping it stops the server; requests in progress are finished.
pub struct HttpServer {
    /// Address in the configuration.
    pub listen: SocketAddr,
    token: SharedToken,
    _shutdown: DropGuard,
}

/// Binds an address without serving it yet.
pub fn bind(listen: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl HttpServer {
    /// Starts to serve a bound listener.
    pub fn start(
        listen: SocketAddr,
        listener: std::net::TcpListener,
        token: Option<Secret>,
        context: HttpContext,
    ) -> io::Result<Self> {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tracing::info!(listen = %listener.local_addr()?, token = token.is_some(), "http listens");
        let token: SharedToken = Arc::new(RwLock::new(token));
        let router = router(Arc::new(HttpState { context, token: Arc::clone(&token) }));
        let shutdown = CancellationToken::new();
        tokio::spawn(serve::serve(listener, router, ConnectionLimits::default(), shutdown.clone()));
        Ok(Self { listen, token, _shutdown: shutdown.drop_guard() })
    }

    /// Replaces the required token.
    pub fn set_token(&self, token: Option<Secret>) {
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = token;
    }
}

fn router(shared: Arc<HttpState>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(async || (StatusCode::NOT_FOUND, "404: try /healthz, /readyz or /metrics\n"))
        .method_not_allowed_fallback(async || (StatusCode::METHOD_NOT_ALLOWED, "only GET is supported\n"))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&shared), require_token))
        .with_state(shared)
}

async fn require_token(State(shared): State<Arc<HttpState>>, request: Request, next: Next) -> Response {
    let expected = shared.token.read().unwrap_or_else(PoisonError::into_inner).clone();
    match expected {
        Some(token) if request.uri().path() != "/healthz" && !presents_token(request.headers(), &token) => {
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
            (StatusCode::UNAUTHORIZED, challenge, "missing or wrong bearer token\n").into_response()
        }
        _ => next.run(request).await,
    }
}

/// Returns `true` if the request carries the token. Digests are compared in constant time.
fn presents_token(headers: &HeaderMap, token: &Secret) -> bool {
    let presented = headers.get(header::AUTHORIZATION).map_or(&[][..], |value| value.as_bytes());
    let (scheme, presented) = presented.split_at_checked(7).unwrap_or_default();
    let (presented, expected) = (Sha256::digest(presented), Sha256::digest(token.expose()));
    scheme.eq_ignore_ascii_case(b"bearer ") && presented[..].ct_eq(&expected[..]).into()
}

async fn ready(State(shared): State<Arc<HttpState>>) -> Response {
    let mut reasons = Vec::new();
    let late = shared.context.registry.not_ready(shared.context.clock.now());
    if !late.is_empty() {
        let names: Vec<String> = late.iter().map(|name| crate::util::text::clean(name)).collect();
        reasons.push(format!("no cycle finished within twice its period: {}\n", names.join(", ")));
    }
    if !shared.context.store.is_saved() {
        reasons.push("the state cannot be saved: see the log\n".to_owned());
    }
    if reasons.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, reasons.concat()).into_response()
}

async fn metrics(State(shared): State<Arc<HttpState>>) -> Response {
    let now: Time = shared.context.clock.now();
    let report = shared.context.store.read(|state| shared.context.registry.status(state, now));
    let process = ProcessStatus {
        is_saved: shared.context.store.is_saved(),
        dropped_lines: crate::util::logging::dropped_lines(),
    };
    let page =
        metrics::page(&report, &process, &shared.context.registry.rules(), &shared.context.registry.accounts(), now);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_after_its_scheme_is_accepted() {
        let token = Secret::new("correct-horse");
        let accepts = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            presents_token(&headers, &token)
        };
        assert!(accepts("Bearer correct-horse") && accepts("bearer correct-horse"));
        for wrong in ["", "Bearer", "Bearer ", "Bearer correct-hors", "Bearer correct-horsee", "Basic  correct-horse"] {
            assert!(!accepts(wrong), "{wrong:?}");
        }
        assert!(!presents_token(&HeaderMap::new(), &token));
    }
}
