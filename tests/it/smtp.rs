//! Behaviour of mail servers: greetings, logins, limits and rejections, through real conversations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::sample::{message, message_context, warning, warning_with_forecast};
use crate::support::smtp::{CLOSE, Conversation, HANG, Script, Server};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lowtide::notify::channels::email::{EmailNotifier, EmailOptions, SmtpTls};
use lowtide::notify::{Delivered, Message, Notifier, SendError};
use lowtide::util::secret::{Redactor, Secret};

const PASSWORD: &str = "hunter2hunter2";

/// Steps with unusual replies.
type Answers = &'static [(&'static str, &'static str)];

fn options(server: &Server) -> EmailOptions {
    EmailOptions {
        host: "127.0.0.1".to_owned(),
        port: server.address.port(),
        tls: SmtpTls::None,
        credentials: None,
        from: "Lowtide <lowtide@example.com>".parse().unwrap(),
        to: vec!["a@example.com".parse().unwrap()],
        ca_pem: None,
        timeout: Duration::from_secs(10),
    }
}

fn logging_in(server: &Server) -> EmailOptions {
    EmailOptions { credentials: Some(("lowtide".to_owned(), Secret::new(PASSWORD))), ..options(server) }
}

fn to_many(server: &Server, recipients: usize) -> EmailOptions {
    let to = (0..recipients).map(|n| format!("r{n}@example.com").parse().unwrap()).collect();
    EmailOptions { to, ..options(server) }
}

fn email(options: EmailOptions) -> EmailNotifier {
    EmailNotifier::new(options, Arc::new(message_context()), Redactor::default()).unwrap()
}

fn replies(all: &[(&'static str, &str)]) -> BTreeMap<&'static str, String> {
    all.iter().map(|(step, reply)| (*step, (*reply).to_owned())).collect()
}

fn extensions(all: &[&str]) -> Vec<String> {
    all.iter().map(|extension| (*extension).to_owned()).collect()
}

/// Sends a plain alert, and returns the result and the last conversation.
async fn send(server: &Server, options: EmailOptions) -> (Result<Delivered, SendError>, Conversation) {
    let sent = email(options).send(&message(vec![warning("x")])).await;
    (sent, server.conversations().pop().unwrap())
}

/// Sends until no recipient is deferred any more, each time to those who were.
async fn send_to_everybody(server: &Server, options: &EmailOptions) -> Vec<Result<Delivered, SendError>> {
    let email = email(options.clone());
    let (mut all, mut only) = (Vec::new(), None);
    loop {
        let sent = email.send(&Message { remaining_recipients: only, ..message(vec![warning("x")]) }).await;
        let deferred: Vec<String> = sent.iter().flat_map(|it| &it.deferred).map(|it| it.recipient.clone()).collect();
        all.push(sent);
        assert!(server.conversations().len() < 10, "{all:?}");
        if deferred.is_empty() {
            return all;
        }
        only = Some(deferred);
    }
}

#[tokio::test]
async fn recipients_beyond_a_servers_limit_are_reached_by_the_next_mails() {
    for reply in ["552", "550 5.5.3 too many recipients", "452 4.5.3 too many recipients"] {
        let script = Script { most_recipients: Some((20, reply.to_owned())), ..Script::default() };
        let server = Server::start(script).await;
        let sent = send_to_everybody(&server, &to_many(&server, 30)).await;
        let reached: Vec<usize> = server.conversations().iter().map(|it| it.rcpt_to.len()).collect();
        assert_eq!(reached, [20, 10], "{reply}: {sent:?}");
        assert!(sent.iter().flatten().all(|it| it.refused.is_empty()), "{reply}: {sent:?}");
    }
}

#[tokio::test]
async fn a_server_that_refuses_a_mail_to_too_many_takes_it_in_parts() {
    let most_recipients = Some((20, "552 too many recipients".to_owned()));
    let server = Server::start(Script { most_recipients, all_or_nothing: true, ..Script::default() }).await;
    let sent = send_to_everybody(&server, &to_many(&server, 30)).await;
    assert!(sent.iter().flatten().all(|it| it.refused.is_empty()), "{sent:?}");
    let taken = server.conversations().into_iter().filter(|it| !it.data.is_empty()).map(|it| it.rcpt_to.len());
    assert_eq!(taken.collect::<Vec<_>>(), [20, 10], "{sent:?}");

    // A rejection of the email itself stays permanent.
    let script = Script { replies: replies(&[("DATA", "554 no")]), ..Script::default() };
    let deferred = std::iter::once(("r1@example.com".to_owned(), "451 later".to_owned())).collect();
    let server = Server::start(Script { recipients: deferred, ..script }).await;
    let error = email(to_many(&server, 3)).send(&message(vec![warning("x")])).await.unwrap_err();
    assert!(error.permanent && error.reason.contains("554"), "{error:?}");
    assert_eq!(server.conversations().len(), 2);
}

#[tokio::test]
async fn a_full_mailbox_is_refused_for_good_and_only_that_one() {
    let full = |address: &str| (address.to_owned(), "552 5.2.2 mailbox full".to_owned());
    for recipients in [vec![full("r0@example.com")], vec![full("r2@example.com")]] {
        let server = Server::start(Script { recipients: recipients.into_iter().collect(), ..Script::default() }).await;
        let sent = send_to_everybody(&server, &to_many(&server, 3)).await;
        assert_eq!(server.conversations()[0].rcpt_to.len(), 2, "{sent:?}");
        let refused = sent.iter().flatten().map(|it| it.refused.len()).sum::<usize>();
        let alone = sent.iter().filter(|it| it.as_ref().is_err_and(|error| error.permanent)).count();
        assert_eq!(refused + alone, 1, "{sent:?}");
    }
    let server = Server::start(Script { replies: replies(&[("RCPT", "552 full")]), ..Script::default() }).await;
    let error = email(to_many(&server, 3)).send(&message(vec![warning("x")])).await.unwrap_err();
    assert!(error.permanent && error.reason.contains("552"), "{error:?}");
}

/// Returns the name in the first EHLO.
fn name(conversation: &Conversation) -> &str {
    conversation.commands[0].strip_prefix("EHLO ").unwrap()
}

#[tokio::test]
async fn the_name_in_ehlo_has_a_dot_or_is_an_address_literal() {
    let server = Server::start(Script::default()).await;
    let (sent, conversation) = send(&server, options(&server)).await;
    assert!(sent.is_ok(), "{sent:?}");
    let name = name(&conversation);
    assert!(name.contains('.') && !name.starts_with("localhost."), "{name}");
    assert!(name == "[127.0.0.1]" || !name.contains('['), "{name}");
    let named = email(options(&server)).with_hello(Some("alerts.example.com".to_owned()));
    named.send(&message(vec![warning("x")])).await.unwrap();
    assert_eq!(server.conversations()[1].commands[0], "EHLO alerts.example.com");
}

#[tokio::test]
async fn a_refusal_of_our_name_is_about_us_and_names_the_key() {
    let rows: [(Answers, &str); 6] = [
        (&[("EHLO", "550 5.7.1 no such host"), ("HELO", "550 5.7.1 no such host")], "550"),
        (&[("EHLO", "501 syntax error"), ("HELO", "501 syntax error")], "501"),
        (&[("RCPT", "504 5.5.2 <vm>: Helo command rejected: need fully-qualified hostname")], "504"),
        (&[("RCPT", "550 5.7.1 <vm>: Helo command rejected: Host not found")], "550"),
        (&[("MAIL", "550 Access denied - Invalid HELO name (See RFC2821 4.1.1.1)")], "550"),
        (&[("RCPT", "450 4.7.1 <vm>: Helo command rejected: Host not found")], "450"),
    ];
    for (answers, code) in rows {
        let server = Server::start(Script { replies: replies(answers), ..Script::default() }).await;
        let error = email(to_many(&server, 2)).send(&message(vec![warning("x")])).await.unwrap_err();
        assert!(!error.permanent && error.refused.is_empty(), "{answers:?}: {error:?}");
        assert!(error.reason.contains("`hello`") && error.reason.contains(code), "{answers:?}: {error:?}");
    }
    // An address that contains such a word is no rejection of our name.
    let server =
        Server::start(Script { replies: replies(&[("RCPT", "550 <helo@example.com> unknown")]), ..Script::default() });
    let server = server.await;
    let to = vec!["helo@example.com".parse().unwrap()];
    let error = email(EmailOptions { to, ..options(&server) }).send(&message(vec![warning("x")])).await.unwrap_err();
    assert!(error.permanent && !error.reason.contains("`hello`"), "{error:?}");
}

#[tokio::test]
async fn a_server_that_knows_no_ehlo_is_greeted_by_helo() {
    for refusal in ["500 unknown command", "502 not implemented", "550 no"] {
        let answers = replies(&[("EHLO", refusal), ("HELO", "250 hello")]);
        let server = Server::start(Script { replies: answers, ..Script::default() }).await;
        let (sent, conversation) = send(&server, options(&server)).await;
        assert!(sent.is_ok(), "{refusal}: {sent:?}");
        assert_eq!((conversation.data.len(), conversation.mail_from[0].as_str()), (1, "FROM:<lowtide@example.com>"));
        let error = email(logging_in(&server)).send(&message(vec![warning("x")])).await.unwrap_err();
        assert!(!error.permanent && error.reason.contains(&refusal[..3]), "{refusal}: {error:?}");
    }
}

#[tokio::test]
async fn every_form_of_login_that_servers_offer_is_used() {
    let (user, password) = (STANDARD.encode("lowtide"), STANDARD.encode(PASSWORD));
    let plain = STANDARD.encode(format!("\0lowtide\0{PASSWORD}"));
    let login = ["LOGIN".to_owned(), user, password];
    let initial = vec![format!("PLAIN {plain}")];
    let after_plain = [initial.clone(), login.to_vec()].concat();
    let rows: [(&str, Answers, Vec<String>); 10] = [
        ("AUTH PLAIN LOGIN", &[], initial.clone()),
        ("AUTH=LOGIN PLAIN", &[], initial.clone()),
        ("auth plain", &[], initial),
        ("AUTH=LOGIN", &[("AUTH", "334 VXNlcm5hbWU6 | 334 UGFzc3dvcmQ6 | 235 in")], login.to_vec()),
        ("AUTH LOGIN", &[("AUTH", "334 VXNlciBuYW1lOg== | 334 eW91ciBzZWNyZXQ= | 235 in")], login.to_vec()),
        ("AUTH LOGIN", &[("AUTH", "334  | 334  | 235 in")], login.to_vec()),
        ("AUTH LOGIN", &[("AUTH", "334 | 334 not base64! | 235")], login.to_vec()),
        ("AUTH PLAIN", &[("AUTH", "334  | 235 in")], vec![format!("PLAIN {plain}"), plain.clone()]),
        (
            "AUTH PLAIN LOGIN",
            &[("AUTH PLAIN", "504 5.5.4 unrecognized"), ("AUTH LOGIN", "334 | 334 | 235")],
            after_plain.clone(),
        ),
        (
            "AUTH PLAIN LOGIN",
            &[("AUTH PLAIN", "535 5.7.4 no such mechanism"), ("AUTH LOGIN", "334 | 334 | 235")],
            vec![format!("PLAIN {plain}")],
        ),
    ];
    for (offer, answers, expected) in rows {
        let script = Script { extensions: extensions(&[offer]), replies: replies(answers), ..Script::default() };
        let server = Server::start(script).await;
        let (sent, conversation) = send(&server, logging_in(&server)).await;
        let refused = answers.iter().any(|(_, reply)| reply.starts_with("535"));
        assert_eq!(
            sent.as_ref().err().map(|error| error.permanent),
            refused.then_some(true),
            "{offer} {answers:?}: {sent:?}"
        );
        assert_eq!(conversation.auth, expected, "{offer} {answers:?}");
    }
}

#[tokio::test]
async fn a_login_that_is_not_possible_says_what_is_offered() {
    for (offer, word) in [("AUTH CRAM-MD5 NTLM", "CRAM-MD5"), ("8BITMIME", "no login")] {
        let server = Server::start(Script { extensions: extensions(&[offer]), ..Script::default() }).await;
        let (sent, conversation) = send(&server, logging_in(&server)).await;
        let error = sent.unwrap_err();
        assert!(!error.permanent && error.reason.contains(word), "{error:?}");
        assert!(conversation.auth.is_empty() && conversation.mail_from.is_empty());
    }
}

#[tokio::test]
async fn a_mail_larger_than_the_advertised_size_goes_without_its_pictures() {
    let server = Server::start(Script::default()).await;
    let illustrated = message(vec![warning_with_forecast()]);
    email(options(&server)).send(&illustrated).await.unwrap();
    let full = server.conversations()[0].data[0].clone();
    assert!(full.contains("image/png"));
    for (size, pictures) in [("SIZE 0", true), ("SIZE 20000", false)] {
        let server = Server::start(Script { extensions: extensions(&[size]), ..Script::default() }).await;
        email(options(&server)).send(&illustrated).await.unwrap();
        let all = server.conversations();
        assert_eq!((all.len(), all[0].data[0].contains("image/png")), (1, pictures), "{size}");
        assert_eq!(all[0].mail_from[0], format!("FROM:<lowtide@example.com> SIZE={}", all[0].data[0].len()), "{size}");
        assert!(all[0].data[0].contains("Deposit USD 3,200.00 to end all alerts"), "{size}: the text says it all");
    }
    let server = Server::start(Script { extensions: extensions(&["SIZE 500"]), ..Script::default() }).await;
    let error = email(options(&server)).send(&illustrated).await.unwrap_err();
    assert!(error.permanent && error.reason.contains("at most 500"), "{error:?}");
    assert!(server.conversations().iter().all(|it| it.mail_from.is_empty()));
}

#[tokio::test]
async fn a_mail_refused_for_its_size_is_sent_once_more_without_pictures() {
    let illustrated = message(vec![warning_with_forecast()]);
    for reply in ["552 too big", "554 5.3.4 too big"] {
        let script = Script { most_octets: Some((20_000, reply.to_owned())), ..Script::default() };
        let server = Server::start(script).await;
        let sent = email(options(&server)).send(&illustrated).await;
        assert!(sent.is_ok(), "{reply}: {sent:?}");
        let taken: Vec<String> = server.conversations().into_iter().flat_map(|it| it.data).collect();
        assert!(taken.len() == 1 && !taken[0].contains("image/png"), "{reply}");
    }
    for (step, reply) in [("MAIL", "552 too big"), ("RCPT", "552 over quota")] {
        let server = Server::start(Script { replies: replies(&[(step, reply)]), ..Script::default() }).await;
        let error = email(options(&server)).send(&illustrated).await.unwrap_err();
        assert!(error.permanent && error.reason.contains("552"), "{error:?}");
        assert_eq!(server.conversations().iter().map(|it| it.mail_from.len()).sum::<usize>(), 2, "{step}: once more");
        // Without pictures there is no second attempt.
        let (sent, _) = send(&server, options(&server)).await;
        assert!(sent.unwrap_err().permanent);
        assert_eq!(server.conversations().iter().map(|it| it.mail_from.len()).sum::<usize>(), 3, "{step}");
    }
}

#[tokio::test]
async fn every_conversation_ends_by_quit_and_by_the_end_of_tls() {
    let rows: [(&str, Answers); 6] = [
        ("delivered", &[]),
        ("login refused", &[("AUTH", "535 wrong")]),
        ("login fails", &[("AUTH", "454 later")]),
        ("MAIL refused", &[("MAIL", "550 no")]),
        ("RCPT refused", &[("RCPT", "550 no")]),
        ("DATA refused", &[("DATA", "451 later")]),
    ];
    for tls in [SmtpTls::Starttls, SmtpTls::Implicit, SmtpTls::None] {
        for (name, answers) in rows.into_iter().take(if tls == SmtpTls::Starttls { 6 } else { 2 }) {
            let script = Script {
                extensions: extensions(&["STARTTLS", "AUTH PLAIN"]),
                replies: replies(answers),
                implicit_tls: tls == SmtpTls::Implicit,
                ..Script::default()
            };
            let server = Server::start(script).await;
            let ca_pem = Some(server.ca_pem.clone().into_bytes());
            let options = EmailOptions { tls, ca_pem, host: "localhost".to_owned(), ..logging_in(&server) };
            let _ = send(&server, options).await;
            let ended = || server.conversations()[0].ended_properly;
            for _ in 0..500 {
                if ended() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(ended(), "{name} {tls:?}: {:?}", server.conversations());
        }
    }
}

#[tokio::test]
async fn a_mail_is_delivered_once_it_is_accepted_however_slow_the_goodbye() {
    let server = Server::start(Script { replies: replies(&[("QUIT", HANG)]), ..Script::default() }).await;
    let mut shortest = Duration::MAX;
    // On a busy machine one of them may be slow for other reasons, but not all.
    for _ in 0..5 {
        let began = Instant::now();
        let (sent, _) = send(&server, options(&server)).await;
        assert!(sent.is_ok(), "{sent:?}");
        shortest = shortest.min(began.elapsed());
    }
    assert!(shortest < Duration::from_millis(900), "{shortest:?}");
    let quits = || server.conversations().iter().filter(|it| it.commands.last().is_some_and(|it| it == "QUIT")).count();
    for _ in 0..500 {
        if quits() == 5 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(quits(), 5);
}

#[tokio::test]
async fn replies_without_text_are_taken() {
    let empty = |code: &str| code.to_owned();
    let steps = [
        ("AUTH", "235"),
        ("MAIL", "250"),
        ("RCPT", "250"),
        ("DATA", "354"),
        (".", "250"),
        ("EHLO", "250-\r\n250-AUTH PLAIN\r\n250"),
    ];
    let script = Script {
        greeting: Some(empty("220")),
        replies: steps.map(|(step, code)| (step, empty(code))).into(),
        ..Script::default()
    };
    let server = Server::start(script).await;
    let (sent, conversation) = send(&server, logging_in(&server)).await;
    assert!(sent.is_ok() && conversation.data.len() == 1, "{sent:?}");
    let server = Server::start(Script { replies: replies(&[("RCPT", "550")]), ..Script::default() }).await;
    let error = send(&server, options(&server)).await.0.unwrap_err();
    assert!(error.permanent && error.reason.contains("550"), "{error:?}");
}

#[tokio::test]
async fn a_reply_that_is_none_is_quoted_and_tried_again() {
    for (greeting, word) in [("SSH-2.0-OpenSSH_9.6", "SSH-2.0"), ("220-one\r\n250 two", "250 two"), ("22", "22")] {
        let script = Script { greeting: Some(greeting.to_owned()), ..Script::default() };
        let server = Server::start(script).await;
        let error = send(&server, options(&server)).await.0.unwrap_err();
        assert!(!error.permanent && error.reason.contains(word), "{error:?}");
    }
    for greeting in ["x".repeat(1 << 20), "220-x\r\n".repeat(10_000)] {
        let server = Server::start(Script { greeting: Some(greeting), ..Script::default() }).await;
        let error = send(&server, options(&server)).await.0.unwrap_err();
        assert!(!error.permanent && error.reason.contains("too long"), "{error:?}");
    }
    let server = Server::start(Script { replies: replies(&[("MAIL", CLOSE)]), ..Script::default() }).await;
    let error = send(&server, options(&server)).await.0.unwrap_err();
    assert!(!error.permanent && error.reason.contains("MAIL failed"), "{error:?}");
}

#[tokio::test]
async fn a_port_that_expects_the_other_kind_of_tls_says_so() {
    let server = Server::start(Script::default()).await;
    let implicit = EmailOptions { tls: SmtpTls::Implicit, ..options(&server) };
    let error = send(&server, implicit).await.0.unwrap_err();
    assert!(!error.permanent && error.reason.contains("`tls: starttls`"), "{error:?}");
    let server = Server::start(Script { implicit_tls: true, ..Script::default() }).await;
    let starttls = EmailOptions { tls: SmtpTls::Starttls, timeout: Duration::from_secs(1), ..options(&server) };
    let error = send(&server, starttls).await.0.unwrap_err();
    assert!(!error.permanent && error.reason.contains("`tls: implicit`"), "{error:?}");
}

#[tokio::test]
async fn lines_that_begin_with_a_dot_arrive_as_they_are() {
    let server = Server::start(Script::default()).await;
    let dots = "\n.\n..\n.x";
    let words = {
        let mut words = message_context();
        words.rules.values_mut().for_each(|rule| rule.description = Some(format!("dots{dots}")));
        words
    };
    let email = EmailNotifier::new(options(&server), Arc::new(words), Redactor::default()).unwrap();
    let mail = message(vec![warning("x")]);
    email.send(&mail).await.unwrap();
    let sent = server.conversations().remove(0).data.remove(0);
    assert_eq!(String::from_utf8(email.compose(&mail, false).unwrap()).unwrap().len(), sent.len());
    assert!(sent.contains("\r\n.\r\n..\r\n.x"), "{sent}");
}
