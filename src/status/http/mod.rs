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

use self::metrics::Process;
use self::serve::Limits;
use crate::domain::Time;
use crate::state::Book;
use crate::status::control::Board;
use crate::util::clock::Clock;
use crate::util::secret::Secret;

/// What answers are made of.
pub struct Desk {
    /// What the service tells about itself.
    pub board: Arc<Board>,
    /// Alerts, and what is owed.
    pub book: Arc<Book>,
    /// The service's time.
    pub clock: Arc<dyn Clock>,
}

/// The token that is wanted; another one after a reload.
type Token = Arc<RwLock<Option<Secret>>>;

struct Shared {
    desk: Desk,
    token: Token,
}

/// A running server. It ends when it is dropped; requests that run then are finished.
pub struct Server {
    /// The address that was asked for.
    pub listen: SocketAddr,
    token: Token,
    _end: oneshot::Sender<()>,
}

/// Takes the address, without answering yet.
pub fn bind(listen: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Server {
    /// Answers on an address that was taken.
    pub fn start(
        listen: SocketAddr,
        listener: std::net::TcpListener,
        token: Option<Secret>,
        desk: Desk,
    ) -> io::Result<Self> {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tracing::info!(listen = %listener.local_addr()?, token = token.is_some(), "http listens");
        let token: Token = Arc::new(RwLock::new(token));
        let router = router(Arc::new(Shared { desk, token: Arc::clone(&token) }));
        let (end, ended) = oneshot::channel::<()>();
        tokio::spawn(serve::serve(listener, router, Limits::default(), async { drop(ended.await) }));
        Ok(Self { listen, token, _end: end })
    }

    /// From now on this token is wanted.
    pub fn want(&self, token: Option<Secret>) {
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = token;
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(async || (StatusCode::NOT_FOUND, "not here: /healthz, /readyz and /metrics are\n"))
        .method_not_allowed_fallback(async || (StatusCode::METHOD_NOT_ALLOWED, "this only reads: GET\n"))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&shared), gate))
        .with_state(shared)
}

async fn gate(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let wanted = shared.token.read().unwrap_or_else(PoisonError::into_inner).clone();
    match wanted {
        Some(token) if request.uri().path() != "/healthz" && !shows(request.headers(), &token) => {
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
            (StatusCode::UNAUTHORIZED, challenge, "Authorization: Bearer and the token are wanted\n").into_response()
        }
        _ => next.run(request).await,
    }
}

/// Whether the right token is shown. It takes as long whatever the token: what is compared are digests, to their ends.
fn shows(headers: &HeaderMap, token: &Secret) -> bool {
    let shown = headers.get(header::AUTHORIZATION).map_or(&[][..], |value| value.as_bytes());
    let (scheme, shown) = shown.split_at_checked(7).unwrap_or_default();
    let (shown, wanted) = (Sha256::digest(shown), Sha256::digest(token.expose()));
    let differences = shown.iter().zip(&wanted).fold(0, |sum, (one, other)| sum | (one ^ other));
    scheme.eq_ignore_ascii_case(b"bearer ") && differences == 0
}

async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let mut reasons = Vec::new();
    let late = shared.desk.board.not_ready(shared.desk.clock.now());
    if !late.is_empty() {
        let names: Vec<String> = late.iter().map(|name| crate::util::text::clean(name)).collect();
        reasons.push(format!("no cycle finished within twice its period: {}\n", names.join(", ")));
    }
    if !shared.desk.book.is_saved() {
        reasons.push("the state cannot be saved: see the log\n".to_owned());
    }
    if reasons.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, reasons.concat()).into_response()
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let now: Time = shared.desk.clock.now();
    let report = shared.desk.book.read(|state| shared.desk.board.report(state, now));
    let process =
        Process { is_saved: shared.desk.book.is_saved(), dropped_lines: crate::util::logging::dropped_lines() };
    let page = metrics::page(&report, &process, &shared.desk.board.rules(), &shared.desk.board.accounts(), now);
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
            shows(&headers, &token)
        };
        assert!(opens("Bearer correct-horse") && opens("bearer correct-horse"));
        for wrong in ["", "Bearer", "Bearer ", "Bearer correct-hors", "Bearer correct-horsee", "Basic  correct-horse"] {
            assert!(!opens(wrong), "{wrong:?}");
        }
        assert!(!shows(&HeaderMap::new(), &token));
    }
}
