//! Tests of the mail sink over real SMTP, with the real notifier and with misbehaving clients.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::notify::Notifier;
use crate::notify::channels::email::{EmailNotifier, EmailOptions, SmtpTls};
use crate::sandbox::testing::{ActivityCount, message, message_context};
use crate::util::secret::Redactor;

async fn sink(activity: Arc<dyn Activity>) -> MailSink {
    MailSink::start(TcpListener::bind("127.0.0.1:0").await.unwrap(), activity).unwrap()
}

/// Sends all input at once, closes the sending side, and returns the codes of the replies.
async fn talk(sink: &MailSink, input: impl AsRef<[u8]>) -> Vec<String> {
    let mut stream = TcpStream::connect(sink.address()).await.unwrap();
    let (mut read, mut write) = stream.split();
    let mut output = String::new();
    let speak = async {
        // Fails if the sink closes the connection before it has read everything.
        let _ = write.write_all(input.as_ref()).await;
        let _ = write.shutdown().await;
    };
    let listen = read.read_to_string(&mut output);
    let both = async { tokio::join!(speak, listen).1 };
    tokio::time::timeout(Duration::from_secs(20), both).await.unwrap().unwrap();
    output.lines().map(|line| line[..4].trim_end().to_owned()).collect()
}

async fn until(happened: impl Fn() -> bool) {
    let wait = async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), wait).await.unwrap();
}

fn email(sink: &MailSink) -> EmailNotifier {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = EmailOptions {
        host: sink.address().ip().to_string(),
        port: sink.address().port(),
        tls: SmtpTls::None,
        credentials: None,
        from: "Lowtide <lowtide@example.com>".parse().unwrap(),
        to: vec!["Jürgen <finance@example.com>".parse().unwrap(), "käse@example.com".parse().unwrap()],
        ca_pem: None,
        timeout: Duration::from_secs(5),
    };
    EmailNotifier::new(options, Arc::new(message_context()), Redactor::default()).unwrap()
}

#[tokio::test]
async fn the_real_notifiers_mail_is_kept_and_decoded() {
    let count = Arc::new(ActivityCount::default());
    let sink = sink(count.clone()).await;
    email(&sink).send(&message(&["Škola & <b>umění</b>"])).await.unwrap();
    until(|| *count.0.lock().unwrap() == (1, 1)).await;
    let mails = sink.take();
    assert_eq!((mails.len(), sink.take().len()), (1, 0));
    let mail = &mails[0];
    assert_eq!(mail.envelope_from, "lowtide@example.com");
    assert_eq!(mail.envelope_to, ["finance@example.com", "käse@example.com"]);
    assert_eq!(mail.from, "Lowtide <lowtide@example.com>");
    assert_eq!(mail.to, ["Jürgen <finance@example.com>", "käse@example.com"]);
    let headline = "acme · Škola & <b>umění</b>: USD 1,431.00 left (warning below USD 2,000.00)";
    assert_eq!(mail.subject, format!("[warning] {headline}"));
    assert!(mail.text.starts_with(headline), "{}", mail.text);
    assert!(mail.html.as_ref().unwrap().contains("&lt;b&gt;umění"));
    assert!(String::from_utf8_lossy(&mail.raw).contains("Message-ID: <abc123@example.com>\r\n"));
}

#[tokio::test]
async fn two_mails_in_one_connection_are_two_and_dots_are_unstuffed() {
    let sink = sink(Arc::new(())).await;
    let codes = talk(
        &sink,
        "EHLO me\r\nMAIL FROM:<a@x> BODY=8BITMIME\r\nRCPT TO:<b@x>\r\nDATA\r\n\
         Subject: one\r\n\r\n..dot\r\n...\r\na.b\r\n.\r\n\
         mail from: <>\r\nrcpt to: <c@x>\r\nRCPT TO:<d@x>\r\ndata\r\nSubject: two\r\n\r\n.\r\nQUIT\r\n",
    )
    .await;
    let expected = ["220", "250-", "250-", "250", "250", "250", "354", "250", "250", "250", "250", "354", "250", "221"];
    assert_eq!(codes, expected);
    let mails = sink.take();
    assert_eq!(mails.iter().map(|mail| mail.subject.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(mails[0].raw, b"Subject: one\r\n\r\n.dot\r\n..\r\na.b\r\n");
    assert_eq!((mails[0].envelope_from.as_str(), mails[1].envelope_from.as_str()), ("a@x", ""));
    assert_eq!(mails[1].envelope_to, ["c@x", "d@x"]);
}

#[tokio::test]
async fn only_the_true_end_ends_a_mail() {
    let sink = sink(Arc::new(())).await;
    let body = "\n.\r\nMAIL FROM:<evil@x>\r\n.\nstill\n..\nin it\r\n";
    let codes = talk(&sink, format!("MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\nx: y{body}.\r\nNOOP\r\n")).await;
    assert_eq!(codes, ["220", "250", "250", "354", "250", "250"]);
    let raw = String::from_utf8(sink.take().remove(0).raw).unwrap();
    assert_eq!(raw, "x: y\n.\r\nMAIL FROM:<evil@x>\r\n\nstill\n..\nin it\r\n");
}

#[tokio::test]
async fn out_of_order_and_unknown_commands_are_refused() {
    let sink = sink(Arc::new(())).await;
    for (said, code) in [
        ("DATA", "503"),
        ("RCPT TO:<a@x>", "503"),
        ("MAIL", "501"),
        ("MAIL FROM:a@x", "501"),
        ("MAIL FROM:<a@x", "501"),
        ("MAIL FRÖM:<a@x>", "501"),
        ("MAIL FROM:<a@x>\r\nMAIL FROM:<a@x>", "503"),
        ("MAIL FROM:<a@x>\r\nRCPT TO:<>", "501"),
        ("MAIL FROM:<a@x>\r\nDATA", "503"),
        ("MAIL FROM:<a@x>\r\nRSET\r\nRCPT TO:<b@x>", "503"),
        ("STARTTLS", "502"),
        ("AUTH PLAIN AAAA", "502"),
        ("", "502"),
        ("NOOP\u{1b}[31m", "500"),
        (&"x".repeat(5000), "500"),
        ("HELO me", "250"),
    ] {
        let codes = talk(&sink, format!("{said}\r\n")).await;
        assert_eq!(codes.last().unwrap(), code, "{said:.60}");
    }
    assert_eq!(talk(&sink, b"\xff\xfe\x00\r\nQUIT\r\nNOOP\r\n").await, ["220", "500", "221"]);
    assert!(sink.take().is_empty());
}

#[tokio::test]
async fn too_much_is_refused_and_the_conversation_goes_on() {
    let sink = sink(Arc::new(())).await;
    let mail = |body: &str| format!("MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\n{body}\r\n.\r\n");
    let (line, many) = ("x".repeat(100_000), "x\r\n".repeat(500_000));
    let codes = talk(&sink, mail(&line) + &mail(&many) + &mail("fits") + "QUIT\r\n").await;
    let taken = |last: &'static str| ["250", "250", "354", last];
    let expected = [&["220"][..], &taken("552"), &taken("552"), &taken("250"), &["221"]].concat();
    assert_eq!(codes, expected);
    assert_eq!(sink.take().len(), 1);
    let codes = talk(&sink, format!("MAIL FROM:<a@x>\r\n{}", "RCPT TO:<b@x>\r\n".repeat(101))).await;
    assert_eq!(codes.last().unwrap(), "452");
}

#[tokio::test]
async fn a_disconnect_or_a_dropped_sink_ends_the_activity() {
    let count = Arc::new(ActivityCount::default());
    let sink = sink(count.clone()).await;
    talk(&sink, "MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\nhalf a ma").await;
    until(|| *count.0.lock().unwrap() == (1, 1)).await;
    assert!(sink.take().is_empty());
    let address = sink.address();
    let _silent = TcpStream::connect(address).await.unwrap();
    until(|| count.0.lock().unwrap().0 == 2).await;
    drop(sink);
    until(|| *count.0.lock().unwrap() == (2, 2)).await;
    assert!(TcpStream::connect(address).await.is_err());
}
