//! Conversations over a pipe with slow servers, on a clock that advances only when nothing else can run.

use std::net::Ipv4Addr;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};
use tokio::time::{Instant, sleep};

use super::*;

const LIMIT: Duration = Duration::from_secs(2);

fn server() -> SmtpServer {
    SmtpServer { host: "mx".to_owned(), port: 25, security: SmtpSecurity::Plain, hello: None, timeout: LIMIT }
}

/// Answers with a pause before each reply, chosen by the first word of the command; `.` is the end of the message.
async fn answer(stream: DuplexStream, pauses: impl Fn(&str) -> Duration) {
    let mut stream = BufReader::new(stream);
    let _ = stream.write_all(b"220 ready\r\n").await;
    let (mut line, mut data) = (String::new(), false);
    while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
        let verb = line.split_whitespace().next().unwrap_or_default().to_owned();
        line.clear();
        if data && verb != "." {
            continue;
        }
        data = verb == "DATA";
        sleep(pauses(&verb)).await;
        let reply = if data { "354\r\n" } else { "250 ok\r\n" };
        if stream.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Sends a message of this size to this number of recipients through `peer`. Returns the result, and the seconds it took.
async fn send<F>(
    recipients: usize,
    bytes: usize,
    peer: impl FnOnce(DuplexStream) -> F,
) -> (Result<RecipientResults, SmtpFailure>, u64)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (ours, theirs) = tokio::io::duplex(1024);
    let peer = tokio::spawn(peer(theirs));
    let mut connection = SmtpConnection::from_stream(ours, Ipv4Addr::LOCALHOST.into(), "mx:25".to_owned(), LIMIT);
    let to: Vec<Address> = (0..recipients).map(|n| format!("r{n}@example.com").parse().unwrap()).collect();
    let render = |_| Ok([&b"x".repeat(bytes)[..], b"\r\n"].concat());
    let from = "lowtide@example.com".parse().unwrap();
    let mail = SmtpMessage { from: &from, to: &to, render: &render, pictures: false };
    let (begun, mut outcome) = (Instant::now(), RecipientResults::default());
    let sent = server().run_session(&mut connection, None, mail, &mut outcome).await;
    let took = begun.elapsed().as_secs();
    connection.close().await;
    peer.abort();
    (sent.map(|()| outcome), took)
}

#[tokio::test(start_paused = true)]
async fn thirty_recipients_of_half_a_second_each_are_all_accepted() {
    let slow = |verb: &str| if verb == "RCPT" { Duration::from_millis(500) } else { Duration::ZERO };
    let (sent, took) = send(30, 100, |stream| answer(stream, slow)).await;
    assert_eq!((sent.unwrap().accepted, took), (30, 15));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_most_of_the_limit_at_every_step_is_sent_to() {
    let (sent, took) = send(50, 100, |stream| answer(stream, |_| Duration::from_millis(1900))).await;
    assert_eq!((sent.unwrap().accepted, took), (50, 102));
}

#[tokio::test(start_paused = true)]
async fn only_the_reply_to_the_end_of_data_may_take_ten_minutes() {
    let slow = |step: &'static str, seconds| {
        move |verb: &str| if verb == step { Duration::from_secs(seconds) } else { Duration::ZERO }
    };
    let (sent, took) = send(2, 100, |stream| answer(stream, slow(".", 590))).await;
    assert_eq!((sent.unwrap().accepted, took), (2, 590));
    let (sent, took) = send(2, 100, |stream| answer(stream, slow(".", 3600))).await;
    let failure = sent.unwrap_err();
    assert!(!failure.permanent && failure.reason.contains("no answer within 600s"), "{failure:?}");
    assert_eq!(took, 600);
    for step in ["EHLO", "MAIL", "RCPT", "DATA"] {
        let (sent, took) = send(2, 100, |stream| answer(stream, slow(step, 3))).await;
        let failure = sent.unwrap_err();
        assert!(!failure.permanent && failure.reason.contains(&format!("{step}: no answer within 2s")), "{failure:?}");
        assert_eq!(took, 2);
    }
}

/// Sends a byte each second, forever.
async fn drip(mut stream: DuplexStream, byte: &'static [u8]) {
    while stream.write_all(byte).await.is_ok() {
        sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_drips_costs_one_limit() {
    for byte in [&b"2"[..], b"220-\r\n"] {
        let (sent, took) = send(1, 100, |stream| drip(stream, byte)).await;
        assert!(sent.is_err_and(|failure| failure.reason.contains("no answer within 2s")));
        assert_eq!(took, 2);
    }
}

/// Accepts everything, but reads the message a few bytes at a time.
async fn sip(stream: DuplexStream, bytes: usize) {
    use tokio::io::AsyncReadExt as _;
    let (read, mut write) = tokio::io::split(stream);
    let mut read = BufReader::with_capacity(1, read);
    let _ = write.write_all(b"220\r\n").await;
    let mut line = String::new();
    while read.read_line(&mut line).await.is_ok_and(|read| read > 0) {
        let data = line.starts_with("DATA");
        line.clear();
        let _ = write.write_all(if data { b"354\r\n" } else { b"250\r\n" }).await;
        let mut sip = vec![0; bytes];
        while data && read.read_exact(&mut sip).await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_transfer_continues_and_a_dripping_one_ends() {
    let (sent, took) = send(1, 10_000_000, |stream| sip(stream, 10)).await;
    assert!(sent.is_err_and(|failure| failure.reason.contains("sending the message: no answer within 2s")));
    assert!(took < 10, "{took}");
    // Takes 200 seconds, a hundred times the limit of one step.
    let (sent, took) = send(1, 1_200_000, |stream| sip(stream, 6000)).await;
    assert!(sent.is_err_and(|failure| failure.reason.contains("600s")), "all of it was taken");
    assert!(took > 700, "{took}");
}
