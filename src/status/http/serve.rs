//! Serving HTTP to whoever connects, within bounds: so many connections, one request each, and a deadline for its headers
//! and for the whole. Whoever holds connections open must not use up the files that readings and messages need, nor keep
//! others from asking.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What connections may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionLimits {
    /// Connections at one time; the next one ends the oldest.
    pub(super) connections: usize,
    /// Time for a request's headers, from the connection on.
    pub(super) headers: Duration,
    /// Time for a whole request, from the connection to the last byte of the answer.
    pub(super) request: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { connections: 64, headers: Duration::from_secs(10), request: Duration::from_secs(30) }
    }
}

/// Answers until `ended` completes. Requests that run then are finished.
pub(super) async fn serve(
    mut listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    ended: impl Future<Output = ()>,
) {
    let mut connections: VecDeque<JoinHandle<()>> = VecDeque::new();
    tokio::pin!(ended);
    loop {
        let (stream, _) = tokio::select! {
            accepted = Listener::accept(&mut listener) => accepted,
            () = &mut ended => return,
        };
        connections.retain(|connection| !connection.is_finished());
        if connections.len() >= limits.connections
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort();
            let _ = oldest.await; // its file is free then
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

    /// Longer than anything here takes on a busy machine.
    const LONG: Duration = Duration::from_secs(60);

    /// The address of a server with these limits: `/` answers at once, `/endless` never ends its answer.
    async fn server(limits: ConnectionLimits) -> std::net::SocketAddr {
        let endless = async || {
            let piece = || Ok::<_, std::io::Error>(vec![b'x'; 65536]);
            Body::from_stream(futures_util::stream::repeat_with(piece))
        };
        let router = Router::new().route("/", get(async || "ok")).route("/endless", get(endless));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, router, limits, std::future::pending()));
        address
    }

    /// Sends `request` and reads to the end of the connection, which must come.
    async fn ask(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "the connection has no end");
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn headers_that_never_end_have_a_deadline_however_steadily_they_come() {
        let limits = ConnectionLimits { headers: Duration::from_millis(500), request: LONG, connections: 8 };
        let address = server(limits).await;
        assert!(!ask(address, "GET / HTTP/1.1\r\nHost: x\r\nX: ").await.contains("200"));
        let (mut reading, mut writing) = TcpStream::connect(address).await.unwrap().into_split();
        let dripping = tokio::spawn(async move {
            while writing.write_all(b"G").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let ended = tokio::time::timeout(LONG, reading.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "the connection has no end");
        dripping.abort();
    }

    #[tokio::test]
    async fn an_answer_nobody_takes_and_a_body_that_never_comes_have_a_deadline() {
        let limits = ConnectionLimits { request: Duration::from_millis(500), headers: LONG, connections: 8 };
        let address = server(limits).await;
        assert!(ask(address, "GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await.starts_with("HTTP/1.1 200"));
        let body = ask(address, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n").await;
        assert!(body.is_empty() || body.starts_with("HTTP/1.1 405"), "{body}");
    }

    #[tokio::test]
    async fn one_connection_too_many_ends_the_oldest_and_a_request_ends_its_own() {
        let address = server(ConnectionLimits { connections: 2, headers: LONG, request: LONG }).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        assert!(ask(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.ends_with("ok"));
        assert_eq!(tokio::time::timeout(LONG, first.read(&mut [0; 1])).await.unwrap().unwrap_or(0), 0);
        second.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(LONG, second.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.ends_with("ok"), "the second was left alone: {answer}");
    }
}
