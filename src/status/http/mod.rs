//! Answering over HTTP whether the service is alive and ready, and its metrics.
//!
//! It only reads, and only what the board and the book hold. Off unless the configuration names an address. The amounts
//! are no public matter: where there is a token, everything but `/healthz` wants it.

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
use tokio::sync::oneshot;

use self::metrics::ProcessStatus;
use self::serve::ConnectionLimits;
use crate::domain::Time;
use crate::state::StateStore;
use crate::status::control::Registry;
use crate::util::clock::Clock;
use crate::util::secret::Secret;

/// What answers are made of.
pub struct HttpContext {
    /// What the service tells about itself.
    pub registry: Arc<Registry>,
    /// Alerts, and what is owed.
    pub store: Arc<StateStore>,
    /// The service's time.
    pub clock: Arc<dyn Clock>,
}

/// The token that is wanted; another one after a reload.
type SharedToken = Arc<RwLock<Option<Secret>>>;

struct HttpState {
    context: HttpContext,
    token: SharedToken,
}

/// A running server. It ends when it is dropped; requests that run then are finished.
pub struct HttpServer {
    /// The address that was asked for.
    pub listen: SocketAddr,
    token: SharedToken,
    _end: oneshot::Sender<()>,
}

/// Takes the address, without answering yet.
pub fn bind(listen: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl HttpServer {
    /// Answers on an address that was taken.
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
        let (end, ended) = oneshot::channel::<()>();
        tokio::spawn(serve::serve(listener, router, ConnectionLimits::default(), async { drop(ended.await) }));
        Ok(Self { listen, token, _end: end })
    }

    /// From now on this token is wanted.
    pub fn set_token(&self, token: Option<Secret>) {
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = token;
    }
}

fn router(shared: Arc<HttpState>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(async || (StatusCode::NOT_FOUND, "not here: /healthz, /readyz and /metrics are\n"))
        .method_not_allowed_fallback(async || (StatusCode::METHOD_NOT_ALLOWED, "this only reads: GET\n"))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&shared), require_token))
        .with_state(shared)
}

async fn require_token(State(shared): State<Arc<HttpState>>, request: Request, next: Next) -> Response {
    let expected = shared.token.read().unwrap_or_else(PoisonError::into_inner).clone();
    match expected {
        Some(token) if request.uri().path() != "/healthz" && !presents_token(request.headers(), &token) => {
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
            (StatusCode::UNAUTHORIZED, challenge, "Authorization: Bearer and the token are wanted\n").into_response()
        }
        _ => next.run(request).await,
    }
}

/// Whether the right token is shown. It takes as long whatever the token: what is compared are digests, to their ends.
fn presents_token(headers: &HeaderMap, token: &Secret) -> bool {
    let shown = headers.get(header::AUTHORIZATION).map_or(&[][..], |value| value.as_bytes());
    let (scheme, shown) = shown.split_at_checked(7).unwrap_or_default();
    let (shown, expected) = (Sha256::digest(shown), Sha256::digest(token.expose()));
    let differences = shown.iter().zip(&expected).fold(0, |sum, (one, other)| sum | (one ^ other));
    scheme.eq_ignore_ascii_case(b"bearer ") && differences == 0
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
    fn only_the_whole_token_after_its_scheme_opens() {
        let token = Secret::new("correct-horse");
        let opens = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            presents_token(&headers, &token)
        };
        assert!(opens("Bearer correct-horse") && opens("bearer correct-horse"));
        for wrong in ["", "Bearer", "Bearer ", "Bearer correct-hors", "Bearer correct-horsee", "Basic  correct-horse"] {
            assert!(!opens(wrong), "{wrong:?}");
        }
        assert!(!presents_token(&HeaderMap::new(), &token));
    }
}
