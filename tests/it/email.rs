//! Email, through real SMTP conversations: who is reached, the meaning of a rejection, and time limits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::sample::{message, message_context, warning, warning_with_forecast};
use crate::support::smtp::{HANG, Script, Server};
use lowtide::notify::channels::email::{EmailNotifier, EmailOptions, SmtpTls};
use lowtide::notify::{Delivered, Notifier, SendError};
use lowtide::util::secret::{Redactor, Secret};
use mail_parser::{MessageParser, MimeHeaders};

const ALL: [&str; 3] = ["a@example.com", "b@example.com", "c@example.com"];

fn options(server: &Server) -> EmailOptions {
    EmailOptions {
        host: "localhost".to_owned(),
        port: server.address.port(),
        tls: SmtpTls::None,
        credentials: None,
        from: "Lowtide <lowtide@example.com>".parse().unwrap(),
        to: ALL.iter().map(|address| address.parse().unwrap()).collect(),
        ca_pem: None,
        timeout: Duration::from_secs(5),
    }
}

fn email(options: EmailOptions) -> EmailNotifier {
    EmailNotifier::new(options, Arc::new(message_context()), Redactor::default()).unwrap()
}

async fn send(script: Script) -> (Result<Delivered, SendError>, Server) {
    let server = Server::start(script).await;
    let sent = email(options(&server)).send(&message(vec![warning("History department")])).await;
    (sent, server)
}

fn recipients(replies: &[(&str, &str)]) -> BTreeMap<String, String> {
    replies.iter().map(|(address, reply)| ((*address).to_owned(), (*reply).to_owned())).collect()
}

/// Returns the headers, unfolded.
fn headers(data: &str) -> Vec<String> {
    let head = data.split("\r\n\r\n").next().unwrap().replace("\r\n ", " ").replace("\r\n\t", " ");
    head.split("\r\n").map(str::to_owned).collect()
}

#[tokio::test]
async fn all_recipients_get_one_message_in_one_transaction() {
    let (sent, server) = send(Script::default()).await;
    let id = "<abc123@example.com>";
    assert_eq!(sent.unwrap(), Delivered { message_id: Some(id.to_owned()), ..Delivered::default() });
    let all = server.conversations();
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].mail_from.len(), all[0].data.len()), (1, 1));
    assert_eq!(all[0].rcpt_to, ALL);
    let headers = headers(&all[0].data[0]);
    for header in
        ["Auto-Submitted: auto-generated", "Message-ID: <abc123@example.com>", "Date: Mon, 23 Nov 2026 08:15:00 +0000"]
    {
        assert!(headers.iter().any(|line| line == header), "{header} in {headers:#?}");
    }
    assert!(!headers.iter().any(|line| line.starts_with("References") || line.starts_with("In-Reply-To")));
    assert!(all[0].data[0].is_ascii());
}

#[tokio::test]
async fn a_refused_recipient_keeps_the_others_from_nothing_and_is_reported() {
    let refused = recipients(&[("b@example.com", "550 5.1.1 no such user")]);
    let (sent, server) = send(Script { recipients: refused, ..Script::default() }).await;
    let sent = sent.unwrap();
    assert_eq!(sent.refused.len(), 1);
    assert_eq!(sent.refused[0].recipient, "b@example.com");
    assert!(sent.refused[0].reason.contains("550") && sent.refused[0].reason.contains("no such user"), "{sent:?}");
    assert!(sent.deferred.is_empty() && sent.message_id.is_some());
    assert_eq!(server.conversations()[0].rcpt_to, ["a@example.com", "c@example.com"]);
}

#[tokio::test]
async fn a_deferred_recipient_is_reported_and_can_be_reached_alone() {
    let script = Script { recipients: recipients(&[("b@example.com", "451 greylisted")]), ..Script::default() };
    let (sent, _server) = send(script).await;
    let sent = sent.unwrap();
    assert_eq!((sent.deferred[0].recipient.as_str(), sent.refused.len()), ("b@example.com", 0));

    let server = Server::start(Script::default()).await;
    let only = Some(vec!["b@example.com".to_owned(), "gone@example.com".to_owned()]);
    let again = lowtide::notify::Message { remaining_recipients: only, ..message(vec![warning("x")]) };
    let sent = email(options(&server)).send(&again).await.unwrap();
    assert_eq!(server.conversations()[0].rcpt_to, ["b@example.com"]);
    assert_eq!(sent.refused[0].recipient, "gone@example.com");
}

#[tokio::test]
async fn if_nobody_is_taken_it_is_final_only_if_everybody_is_refused_for_good() {
    let all = |replies: [&str; 3]| recipients(&[(ALL[0], replies[0]), (ALL[1], replies[1]), (ALL[2], replies[2])]);
    let (sent, server) = send(Script { recipients: all(["550 no", "550 no", "550 no"]), ..Script::default() }).await;
    let error = sent.unwrap_err();
    assert!(error.permanent && error.refused.is_empty() && error.reason.contains("550"), "{error:?}");
    assert!(server.conversations()[0].data.is_empty());

    let (sent, _server) =
        send(Script { recipients: all(["550 no", "450 later", "550 no"]), ..Script::default() }).await;
    let error = sent.unwrap_err();
    assert!(!error.permanent, "{error:?}");
    assert_eq!(error.refused.len(), 2);
}

#[tokio::test]
async fn a_server_that_never_answers_costs_one_timeout() {
    let mute = Script { replies: BTreeMap::from([("DATA", HANG.to_owned())]), ..Script::default() };
    for script in [Script { greeting: None, ..Script::default() }, mute] {
        let server = Server::start(script).await;
        let begun = Instant::now();
        let options = EmailOptions { timeout: Duration::from_millis(300), ..options(&server) };
        let error = email(options).send(&message(vec![warning("x")])).await.unwrap_err();
        assert!(!error.permanent && error.reason.contains("no answer"), "{error:?}");
        assert!(begun.elapsed() < Duration::from_secs(3));
    }
}

#[tokio::test]
async fn a_negative_answer_is_final_exactly_if_it_is_5xx() {
    for (step, code, permanent) in [
        // A rejection of EHLO is about us, and not about the email.
        ("EHLO", "554", false),
        ("MAIL", "451", false),
        ("MAIL", "553", true),
        ("DATA", "451", false),
        ("DATA", "554", true),
        (".", "452", false),
        (".", "552", true),
    ] {
        let replies = BTreeMap::from([(step, format!("{code} because"))]);
        let (sent, _server) = send(Script { replies, ..Script::default() }).await;
        let error = sent.unwrap_err();
        assert_eq!(error.permanent, permanent, "{step} {code}: {error:?}");
        assert!(error.reason.contains(code) && error.reason.contains("because"), "{error:?}");
    }
    for (greeting, permanent) in [("421 busy", false), ("554 go away", true)] {
        let (sent, _server) = send(Script { greeting: Some(greeting.to_owned()), ..Script::default() }).await;
        assert_eq!(sent.unwrap_err().permanent, permanent, "{greeting}");
    }
}

#[tokio::test]
async fn starttls_and_a_login_work_with_the_cas_certificate_and_only_with_it() {
    let extensions = vec!["STARTTLS".to_owned(), "AUTH PLAIN LOGIN".to_owned()];
    let server = Server::start(Script { extensions, ..Script::default() }).await;
    let secured = |ca_pem| EmailOptions {
        tls: SmtpTls::Starttls,
        credentials: Some(("lowtide".to_owned(), Secret::new("hunter2hunter2"))),
        ca_pem,
        ..options(&server)
    };
    let trusting = email(secured(Some(server.ca_pem.clone().into_bytes())));
    trusting.send(&message(vec![warning("x")])).await.unwrap();
    let conversation = server.conversations().remove(0);
    assert!(conversation.encrypted && conversation.auth[0].starts_with("PLAIN "), "{conversation:?}");
    assert_eq!(conversation.data.len(), 1);

    let error = email(secured(None)).send(&message(vec![warning("x")])).await.unwrap_err();
    assert!(!error.permanent && error.reason.contains("certificate"), "{error:?}");
    assert!(server.conversations()[1].auth.is_empty() && server.conversations()[1].data.is_empty());
}

#[tokio::test]
async fn implicit_tls_is_on_from_the_first_byte() {
    let server = Server::start(Script { implicit_tls: true, ..Script::default() }).await;
    let ca_pem = Some(server.ca_pem.clone().into_bytes());
    let sent = email(EmailOptions { tls: SmtpTls::Implicit, ca_pem, ..options(&server) })
        .send(&message(vec![warning("x")]))
        .await;
    assert!(sent.is_ok(), "{sent:?}");
    assert!(server.conversations()[0].encrypted);
}

#[tokio::test]
async fn nothing_is_sent_in_the_clear_where_starttls_is_missing() {
    let server = Server::start(Script::default()).await;
    let options = EmailOptions { tls: SmtpTls::Starttls, ..options(&server) };
    let error = email(options).send(&message(vec![warning("x")])).await.unwrap_err();
    assert!(!error.permanent && error.reason.contains("STARTTLS"), "{error:?}");
    assert!(server.conversations()[0].mail_from.is_empty());
}

#[tokio::test]
async fn a_refused_login_is_final_and_shows_no_password() {
    let replies = BTreeMap::from([("AUTH", "535 hunter2hunter2 is wrong".to_owned())]);
    let script = Script { extensions: vec!["AUTH PLAIN".to_owned()], replies, ..Script::default() };
    let server = Server::start(script).await;
    let password = Secret::new("hunter2hunter2");
    let redactor = Redactor::default();
    redactor.learn(&password);
    let options = EmailOptions { credentials: Some(("lowtide".to_owned(), password)), ..options(&server) };
    let email = EmailNotifier::new(options, Arc::new(message_context()), redactor).unwrap();
    let error = email.send(&message(vec![warning("x")])).await.unwrap_err();
    assert!(error.permanent && error.reason.contains("535") && !error.reason.contains("hunter2"), "{error:?}");
}

#[tokio::test]
async fn a_divisions_name_can_add_no_header_and_no_command() {
    let server = Server::start(Script::default()).await;
    let name = "x\r\nBcc: evil@example.com\r\n\r\n.\r\nMAIL FROM:<evil@example.com>\r\n";
    email(options(&server)).send(&message(vec![warning(name)])).await.unwrap();
    let conversation = server.conversations().remove(0);
    assert_eq!((conversation.mail_from.len(), conversation.data.len()), (1, 1));
    let headers = headers(&conversation.data[0]);
    assert!(!headers.iter().any(|line| line.to_lowercase().starts_with("bcc")), "{headers:#?}");
}

#[tokio::test]
async fn a_reminder_threads_below_the_first_message() {
    let server = Server::start(Script::default()).await;
    let references = vec!["<first@example.com>".to_owned(), "second@example.com".to_owned(), "x>\r\nBcc: y".to_owned()];
    let reminder = lowtide::notify::Message { references, ..message(vec![warning("x")]) };
    email(options(&server)).send(&reminder).await.unwrap();
    let headers = headers(&server.conversations()[0].data[0]);
    assert!(headers.contains(&"References: <first@example.com> <second@example.com>".to_owned()), "{headers:#?}");
    assert!(headers.contains(&"In-Reply-To: <second@example.com>".to_owned()), "{headers:#?}");
}

#[tokio::test]
async fn an_address_beyond_ascii_needs_a_server_that_takes_it() {
    for (extensions, taken) in
        [(vec!["8BITMIME".to_owned()], 1), (vec!["8BITMIME".to_owned(), "SMTPUTF8".to_owned()], 2)]
    {
        let server = Server::start(Script { extensions, ..Script::default() }).await;
        let to = ["a@example.com", "jürgen@example.com"].map(|address| address.parse().unwrap()).to_vec();
        let sent = email(EmailOptions { to, ..options(&server) }).send(&message(vec![warning("x")])).await.unwrap();
        let conversation = server.conversations().remove(0);
        assert_eq!((conversation.rcpt_to.len(), sent.refused.len()), (taken, 2 - taken));
        assert_eq!(conversation.mail_from[0].contains("SMTPUTF8"), taken == 2);
    }
}

#[tokio::test]
async fn the_picture_is_inline_in_the_html_and_what_it_shows_is_in_words_too() {
    let server = Server::start(Script::default()).await;
    email(options(&server)).send(&message(vec![warning_with_forecast()])).await.unwrap();
    let data = server.conversations().remove(0).data.remove(0);
    assert!(data.is_ascii());
    let mail = MessageParser::default().parse(data.as_bytes()).unwrap();
    let kinds: Vec<String> = mail
        .parts
        .iter()
        .map(|part| {
            part.content_type().map(|it| format!("{}/{}", it.ctype(), it.subtype().unwrap_or_default())).unwrap()
        })
        .collect();
    assert_eq!(kinds, ["multipart/alternative", "text/plain", "multipart/related", "text/html", "image/png"]);
    let text = mail.body_text(0).unwrap();
    assert!(text.contains("Deposit USD 3,200.00 to end all alerts for these funds"), "{text}");
    assert!(text.contains("(90 % likely between 27 Nov and 12 Dec)."), "{text}");
    let html = mail.body_html(0).unwrap();
    assert!(html.contains("<img src=\"cid:chart-1.abc123@lowtide\" alt=\"Chart of available funds"), "{html}");
    let picture = &mail.parts[4];
    assert_eq!(picture.content_id(), Some("chart-1.abc123@lowtide"));
    assert_eq!(picture.content_disposition().map(mail_parser::ContentType::ctype), Some("inline"));

    let bytes = picture.contents();
    assert!((5_000..40_000).contains(&bytes.len()), "{}", bytes.len());
    let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((frame.width, frame.height), (lowtide::chart::WIDTH, lowtide::chart::HEIGHT));
    let funds = pixels.chunks(3).filter(|pixel| *pixel == [0x1a, 0x56, 0xc4]).count();
    assert!(funds > 1_000, "the line of the funds is drawn: {funds}");
    // The background is opaque, so that the chart looks the same on a light and on a dark page.
    assert_eq!(pixels[3..6], [0xda, 0xdc, 0xe0]);
}

#[tokio::test]
async fn a_domain_beyond_ascii_is_sent_as_an_a_label_to_every_server() {
    let written = ["Einkauf <einkauf@müller-söhne.de>", "jürgen@müller-söhne.de"];
    for (extensions, taken) in
        [(vec!["8BITMIME".to_owned()], 1), (vec!["8BITMIME".to_owned(), "SMTPUTF8".to_owned()], 2)]
    {
        let server = Server::start(Script { extensions, ..Script::default() }).await;
        let from = "Lowtide <lowtide@müller-söhne.de>".parse().unwrap();
        let to = written.map(|address| address.parse().unwrap()).to_vec();
        let email = email(EmailOptions { from, to, ..options(&server) });
        let sent = email.send(&message(vec![warning_with_forecast()])).await.unwrap();
        let conversation = server.conversations().remove(0);
        assert!(conversation.mail_from[0].starts_with("FROM:<lowtide@xn--mller-shne-kcb9d.de>"), "{conversation:?}");
        assert_eq!(
            conversation.rcpt_to,
            ["einkauf@xn--mller-shne-kcb9d.de", "jürgen@xn--mller-shne-kcb9d.de"][..taken]
        );
        // Reports show the address as it is written in the configuration.
        let refused: Vec<&str> = sent.refused.iter().map(|it| it.recipient.as_str()).collect();
        assert_eq!(refused, ["jürgen@müller-söhne.de"][..2 - taken]);
        let headers = headers(&conversation.data[0]);
        for expected in [
            "From: Lowtide <lowtide@xn--mller-shne-kcb9d.de>",
            "Message-ID: <abc123@xn--mller-shne-kcb9d.de>",
            "To: Einkauf <einkauf@xn--mller-shne-kcb9d.de>",
        ] {
            assert!(headers.iter().any(|line| line.starts_with(expected)), "{expected} in {headers:#?}");
        }
    }
}

#[tokio::test]
async fn a_deferred_address_is_reached_however_its_domain_is_written() {
    let (written, ascii) = ("einkauf@müller-söhne.de", "einkauf@xn--mller-shne-kcb9d.de");
    let server = Server::start(Script { recipients: recipients(&[(ascii, "451 later")]), ..Script::default() }).await;
    let with = |to: &str| {
        let to = ["a@example.com", to].map(|address| address.parse().unwrap()).to_vec();
        email(EmailOptions { to, ..options(&server) })
    };
    let sent = with(written).send(&message(vec![warning("x")])).await.unwrap();
    assert_eq!(sent.deferred[0].recipient, written);
    server.become_(Script::default());
    for (kept, configured) in [(written, written), (written, ascii), (ascii, written)] {
        let again = lowtide::notify::Message {
            remaining_recipients: Some(vec![kept.to_owned()]),
            ..message(vec![warning("x")])
        };
        let sent = with(configured).send(&again).await.unwrap();
        assert!(sent.refused.is_empty(), "{sent:?}");
        assert_eq!(server.conversations().pop().unwrap().rcpt_to, [ascii]);
    }
}

#[tokio::test]
async fn a_mail_only_to_addresses_beyond_ascii_is_refused_by_name() {
    let server = Server::start(Script::default()).await;
    let to = vec!["jürgen@example.com".parse().unwrap()];
    let error = email(EmailOptions { to, ..options(&server) }).send(&message(vec![warning("x")])).await.unwrap_err();
    assert!(error.permanent && error.reason.contains("jürgen@example.com") && error.reason.contains("SMTPUTF8"));
}

/// Returns fifty recipients of one kind: their names and addresses.
fn fifty(kind: impl Fn(usize) -> (Option<String>, String)) -> Vec<(Option<String>, String)> {
    (0..50).map(kind).collect()
}

#[tokio::test]
async fn no_header_line_is_too_long_whoever_gets_the_mail() {
    let named = |name: &str| {
        let name = name.to_owned();
        fifty(move |n| (Some(format!("{name} {n}")), format!("person{n:02}@finance.example.com")))
    };
    let lists = [
        fifty(|n| (None, format!("a-rather-long-name-{n:02}@division.example.com"))),
        fifty(|n| (None, format!("{}{n:02}@{}.example.com", "x".repeat(60), "y".repeat(60)))),
        fifty(|n| (None, format!("einkauf{n:02}@müller-söhne.de"))),
        named("PKI team"),
        named("Doe, Jane (Finance) \"JD\""),
        named("Jürgen Größe"),
        named("財務部の担当者"),
        named(&"long words without an end ".repeat(40)),
        named(&"x".repeat(1500)),
        named(&"é".repeat(700)),
        named("=?utf-8?b?Y3JpdGljYWw=?="),
    ];
    for list in lists {
        let mailbox = |(name, address): &(Option<String>, String)| {
            lettre::message::Mailbox::new(name.clone(), address.parse().unwrap())
        };
        let to: Vec<_> = list.iter().map(mailbox).collect();
        let server = Server::start(Script::default()).await;
        let options = EmailOptions { from: to[0].clone(), to, ..options(&server) };
        let references = (0..50).map(|n| format!("<{n:032}@finance.example.com>")).collect();
        let division = format!("{} {}", "w".repeat(200), "ü".repeat(200));
        let mail = lowtide::notify::Message { references, ..message(vec![warning(&division)]) };
        email(options).send(&mail).await.unwrap();
        let data = server.conversations().remove(0).data.remove(0);
        for line in data.lines() {
            // One address or one Message-ID cannot be folded.
            let value = line.split_once(": ").map_or(line.trim_start(), |(_, value)| value);
            let whole = !value.contains(' ') && line.len() <= 200;
            assert!(line.len() <= 78 || whole, "{} octets: {line}", line.len());
        }
        let mail = MessageParser::default().parse(data.as_bytes()).unwrap();
        let read = |address: &mail_parser::Addr| {
            (address.name.as_ref().map(ToString::to_string), address.address.as_ref().unwrap().to_string())
        };
        let expected: Vec<_> = list
            .iter()
            .map(|(name, address)| (name.clone(), address.replace("müller-söhne", "xn--mller-shne-kcb9d")))
            .collect();
        assert_eq!(mail.to().unwrap().iter().map(read).collect::<Vec<_>>(), expected);
        assert_eq!(read(mail.from().unwrap().first().unwrap()), expected[0]);
        assert!(mail.subject().unwrap().contains(&"w".repeat(50)));
        assert_eq!(mail.references().as_text_list().unwrap().len(), 50);
    }
}

#[tokio::test]
async fn pictures_of_two_messages_never_share_a_content_id() {
    let server = Server::start(Script::default()).await;
    let other = lowtide::notify::Message { id: "def456".to_owned(), ..message(vec![warning_with_forecast()]) };
    let mut seen = std::collections::BTreeSet::new();
    for message in [message(vec![warning_with_forecast()]), other] {
        email(options(&server)).send(&message).await.unwrap();
        let data = server.conversations().pop().unwrap().data.remove(0);
        let mail = MessageParser::default().parse(data.as_bytes()).unwrap();
        let id = mail.parts[4].content_id().unwrap().to_owned();
        assert!(id.contains(&message.id) && mail.body_html(0).unwrap().contains(&format!("\"cid:{id}\"")), "{id}");
        assert!(seen.insert(id));
    }
}

#[tokio::test]
async fn a_mail_without_its_picture_says_in_words_what_it_shows() {
    let extensions = vec!["8BITMIME".to_owned(), "SIZE 15000".to_owned()];
    let server = Server::start(Script { extensions, ..Script::default() }).await;
    email(options(&server)).send(&message(vec![warning_with_forecast()])).await.unwrap();
    let data = server.conversations().remove(0).data.remove(0);
    let mail = MessageParser::default().parse(data.as_bytes()).unwrap();
    let html = mail.body_html(0).unwrap();
    assert!(!html.contains("cid:") && !html.contains("<img"), "{html}");
    assert!(html.contains(">Chart of available funds from USD 5,431.00") && html.contains("</p>"), "{html}");
}
