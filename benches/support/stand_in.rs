//! A CertCentral and a Slack on loopback that cost next to nothing: raw HTTP/1.1 with keep-alive, one thread for each
//! connection, prepared responses. So the measurement is of the client.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

/// State of the stand-in: its responses, and the requests that it received.
#[derive(Default)]
pub struct StandInState {
    /// Number of divisions that are listed, with ids from 1.
    pub divisions: u64,
    /// True if funds are below every threshold.
    pub low: AtomicBool,
    /// True if Slack answers with 503.
    pub slack_fails: AtomicBool,
    /// Number of balance requests.
    pub reads: AtomicU64,
    /// Time of the first balance request.
    pub first_read: Mutex<Option<Instant>>,
    /// Time of the last balance response.
    pub last_answer: Mutex<Option<Instant>>,
    /// Time of each request to Slack.
    pub slack_requests: Mutex<Vec<Instant>>,
}

/// Starts to answer in the background, until the process ends.
pub fn start(scene: Arc<StandInState>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let listing = Arc::new(listing(scene.divisions));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (scene, listing) = (Arc::clone(&scene), Arc::clone(&listing));
            // Small stacks keep thousands of connections from using gigabytes.
            let connection = thread::Builder::new().stack_size(64 * 1024);
            connection.spawn(move || answer(stream, &scene, &listing)).unwrap();
        }
    });
    address
}

fn listing(divisions: u64) -> Vec<u8> {
    let items: Vec<String> =
        (1..=divisions).map(|id| format!(r#"{{"id":{id},"name":"Division {id}","is_active":true}}"#)).collect();
    response("200 OK", &format!(r#"{{"containers":[{}]}}"#, items.join(",")))
}

fn response(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// Returns the balance of a division, with figures of its own, in CertCentral's format.
pub fn balance(division: u64, low: bool) -> String {
    let balance = if low { 100 + division % 300 } else { 5000 + division };
    let total = balance + 100;
    format!(
        r#"{{"balance":"{balance}.00","currency":"USD","unpaid_invoice_balance":"0.00","negative_balance_limit":"100.00","used_credit_from_other_containers":"0.00","total_available_funds":"{total}.00"}}"#
    )
}

fn answer(mut stream: TcpStream, scene: &StandInState, listing: &[u8]) {
    stream.set_nodelay(true).unwrap();
    let mut request = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        while let Some(length) = request_length(&request) {
            let now = Instant::now();
            let head = String::from_utf8_lossy(&request[..length.min(200)]).into_owned();
            request.drain(..length);
            let good = if head.starts_with("POST") {
                scene.slack_requests.lock().unwrap().push(now);
                let dead = scene.slack_fails.load(Ordering::Relaxed);
                let answer = if dead { response("503 Service Unavailable", "no") } else { response("200 OK", "ok") };
                stream.write_all(&answer)
            } else if head.contains("/container") {
                stream.write_all(listing)
            } else {
                read(&mut stream, scene, &head, now)
            };
            if good.is_err() {
                return;
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(n) => request.extend_from_slice(&chunk[..n]),
        }
    }
}

fn read(stream: &mut TcpStream, scene: &StandInState, head: &str, now: Instant) -> std::io::Result<()> {
    if scene.reads.fetch_add(1, Ordering::Relaxed) == 0 {
        *scene.first_read.lock().unwrap() = Some(now);
    }
    let id = head.split("container_id=").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    let answer = response("200 OK", &balance(id.unwrap_or(0), scene.low.load(Ordering::Relaxed)));
    let written = stream.write_all(&answer);
    *scene.last_answer.lock().unwrap() = Some(Instant::now());
    written
}

/// Returns the length of the first request, if it is complete.
fn request_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let body = text.split("content-length:").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok());
    let length = head + body.unwrap_or(0usize);
    (bytes.len() >= length).then_some(length)
}
