//! Serves HTTP connections within limits: a maximum number of connections, one request on each, a deadline for its headers and
//! one for the whole. A client that holds connections open must neither use up the file descriptors that readings and messages
//! need nor lock out other clients.

use std::collections::VecDeque;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Limits on the number and duration of connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionLimits {
    /// Maximum number of open connections. One more closes the oldest.
    pub(super) connections: usize,
    /// Time for the headers of a request, from the start of the connection.
    pub(super) headers: Duration,
    /// Time for a whole request, from the start of the connection to the last byte of the response.
    pub(super) request: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { connections: 64, headers: Duration::from_secs(10), request: Duration::from_secs(30) }
    }
}

/// Serves connections until `shutdown` is cancelled. Requests in progress are finished.
pub(super) async fn serve(
    mut listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    shutdown: CancellationToken,
) {
    let mut connections: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        let (stream, _) = tokio::select! {
            accepted = Listener::accept(&mut listener) => accepted,
            () = shutdown.cancelled() => return,
        };
        connections.retain(|connection| !connection.is_finished());
        if connections.len() >= limits.connections
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort();
            let _ = oldest.await; // its file descriptor is free then
        }
        connections.push_back(tokio::spawn(answer(stream, router.clone(), limits)));
    }
}

async fn answer(stream: TcpStream, router: Router, limits: ConnectionLimits) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.headers)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Ok(Err(error)) = tokio::time::timeout(limits.request, connection).await {
        tracing::debug!(%error, "http connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Longer than anything in these tests takes on a busy machine.
    const LONG: Duration = Duration::from_secs(60);

    /// Starts a server with these limits and returns its address. `/` answers at once, `/endless` never ends its response.
    async fn server(limits: ConnectionLimits) -> std::net::SocketAddr {
        let endless = async || {
            let piece = || Ok::<_, std::io::Error>(vec![b'x'; 65536]);
            Body::from_stream(futures_util::stream::repeat_with(piece))
        };
        let router = Router::new().route("/", get(async || "ok")).route("/endless", get(endless));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, router, limits, CancellationToken::new()));
        address
    }

    /// Sends `request` and returns everything until the server closes the connection, which it must.
    async fn ask(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "the connection is not closed");
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn headers_sent_slowly_have_a_deadline() {
        let limits = ConnectionLimits { headers: Duration::from_millis(500), request: LONG, connections: 8 };
        let address = server(limits).await;
        assert!(!ask(address, "GET / HTTP/1.1\r\nHost: x\r\nX: ").await.contains("200"));
        let (mut reading, mut writing) = TcpStream::connect(address).await.unwrap().into_split();
        let slow_sender = tokio::spawn(async move {
            while writing.write_all(b"G").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let ended = tokio::time::timeout(LONG, reading.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "the connection is not closed");
        slow_sender.abort();
    }

    #[tokio::test]
    async fn unread_responses_and_missing_bodies_have_a_deadline() {
        let limits = ConnectionLimits { request: Duration::from_millis(500), headers: LONG, connections: 8 };
        let address = server(limits).await;
        assert!(ask(address, "GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await.starts_with("HTTP/1.1 200"));
        let body = ask(address, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n").await;
        assert!(body.is_empty() || body.starts_with("HTTP/1.1 405"), "{body}");
    }

    #[tokio::test]
    async fn one_connection_too_many_closes_the_oldest() {
        let address = server(ConnectionLimits { connections: 2, headers: LONG, request: LONG }).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        assert!(ask(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.ends_with("ok"));
        assert_eq!(tokio::time::timeout(LONG, first.read(&mut [0; 1])).await.unwrap().unwrap_or(0), 0);
        second.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(LONG, second.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.ends_with("ok"), "the second connection stays open: {answer}");
    }
}
