//! Every fault of Slack or a mail server, through the delivery worker on a stepped clock: retries and their pauses,
//! hand-over to the fallback, the order of the messages in the end, and that no other notifier is affected.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::support::delivery::{Attempt, DeliveryBench, TestNotifier};
use crate::support::faults::{Fault, FaultServer, Identity, nobody, status};
use crate::support::sample::message_context;
use crate::support::smtp::{CLOSE, HANG, Script, Server};
use lowtide::domain::alert::TransitionKind;
use lowtide::notify::channels::email::{EmailNotifier, EmailOptions, SmtpTls};
use lowtide::notify::channels::slack::SlackNotifier;
use lowtide::util::http_client;
use lowtide::util::http_client::HttpClientOptions;
use lowtide::util::secret::{Redactor, Secret};

/// Time limit of a request, and of each step of an SMTP conversation.
const LIMIT: Duration = Duration::from_secs(2);
const PATH: &str = "/services/T0000/B0000/abcdefghijklmnop";
const PASSWORD: &str = "hunter2hunter2";

/// Expected effect of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExpectedDelivery {
    /// The message is delivered.
    Delivered,
    /// Retried with growing pauses; the fallback takes over after five minutes.
    Retry,
    /// Retried no earlier than after this number of seconds.
    After(i64),
    /// Not retried; the fallback takes over at once.
    GiveUp,
}

use ExpectedDelivery::{After, Delivered, GiveUp, Retry};

/// Plays one alert: raised at 0, escalated at 60 s, resolved at 360 s, when the fault is over. Another notifier gets
/// everything too, and a fallback is configured.
async fn play_alert(
    name: &str,
    notifier: TestNotifier,
    class: ExpectedDelivery,
    words: &[&str],
    recover: impl FnOnce(),
) -> Vec<Attempt> {
    let bench = DeliveryBench::new(vec![notifier, TestNotifier::accepting("spare"), TestNotifier::accepting("other")]);
    bench.enqueue("acme", TransitionKind::Raised, &["it", "other"]).await;
    bench.pass(60).await;
    bench.enqueue("acme", TransitionKind::Escalated, &["it", "other"]).await;
    bench.pass(300).await;
    let attempts = bench.attempts("it");
    let spare = bench.delivered("spare");
    match class {
        Delivered => assert_eq!((attempts.len(), spare.len()), (2, 0), "{name}: {attempts:?}"),
        Retry | After(_) => {
            let via = ["raised acme via it", "escalated acme via it"];
            assert!(spare.len() == 1 && spare[0].1 == via, "{name}: the fallback gets both at once: {spare:?}");
            assert!((300..315).contains(&spare[0].0), "{name}: after five minutes: {spare:?}");
            assert_eq!(bench.pending("it"), 2, "{name}: still pending");
            expect_retry_pace(name, &attempts, class);
        }
        GiveUp => {
            let at_once = spare.iter().zip([0, 60]).all(|((at, _), begun)| (begun..begun + 3).contains(at));
            let sent: Vec<&[String]> = spare.iter().map(|(_, sent)| sent.as_slice()).collect();
            assert_eq!(sent, [["raised acme via it"], ["escalated acme via it"]], "{name}");
            assert!(at_once, "{name}: the fallback gets each at once: {spare:?}");
            assert_eq!(
                (attempts.len(), bench.pending("it")),
                (2, 0),
                "{name}: one attempt each, and nothing is pending: {attempts:?}"
            );
        }
    }
    for one in &attempts {
        let Err(error) = &one.result else { continue };
        assert_eq!(error.permanent, class == GiveUp, "{name}: {error:?}");
        assert!(
            error.reason.chars().count() <= 200 && !error.reason.chars().any(char::is_control),
            "{name}: {error:?}"
        );
        assert!(!error.reason.contains("abcdefghijklmnop") && !error.reason.contains(PASSWORD), "{name}: {error:?}");
        for word in words {
            assert!(error.reason.contains(word), "{name}: {word:?} is not in {error:?}");
        }
    }

    // With retries, one could happen between the two and send the pending events as a message of its own.
    if matches!(class, Retry | After(_)) {
        bench.enqueue("acme", TransitionKind::Resolved, &["it", "other"]).await;
        recover();
    } else {
        recover();
        bench.enqueue("acme", TransitionKind::Resolved, &["it", "other"]).await;
    }
    bench.pass(700).await;
    let last = bench.delivered("it").pop().unwrap_or_else(|| panic!("{name}: nothing was sent in the end"));
    let expected: &[&str] = match class {
        Retry | After(_) => &["raised acme", "escalated acme", "resolved acme"],
        Delivered | GiveUp => &["resolved acme"],
    };
    assert_eq!(last.1, expected, "{name}: pending events are sent as one message, in order");
    let delivered: usize = bench.delivered("it").iter().map(|(_, sent)| sent.len()).sum();
    assert_eq!(delivered, if class == GiveUp { 1 } else { 3 }, "{name}: and nothing twice");
    let after: Vec<String> =
        bench.delivered("spare").split_off(spare.len()).into_iter().flat_map(|(_, sent)| sent).collect();
    let expected: &[&str] = if matches!(class, Retry | After(_)) { &["resolved acme via it"] } else { &[] };
    assert_eq!(after, expected, "{name}: while it fails, its fallback gets new events");
    assert_eq!(bench.pending("it"), 0, "{name}: it is over");
    let other: Vec<i64> = bench.delivered("other").iter().map(|(at, _)| *at).collect();
    assert_eq!(other[..2], [0, 60], "{name}: the other notifier gets everything at once");
    assert!(other.len() == 3 && (360..362).contains(&other[2]), "{name}: {other:?}");
    bench.end().await;
    attempts
}

/// Checks that pauses double from one second, with jitter. A send may take its time limit in addition.
fn expect_retry_pace(name: &str, attempts: &[Attempt], class: ExpectedDelivery) {
    let times: Vec<i64> = attempts.iter().map(|it| it.at).collect();
    let pauses: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let least = if let After(seconds) = class { seconds } else { 0 };
    let most_own = 6 * i64::try_from(LIMIT.as_secs()).unwrap() + 1;
    let mut doubled = 1;
    for pause in &pauses {
        let (low, high) = ((doubled * 3 / 4).max(1).max(least), (doubled * 5 / 4).max(least));
        assert!((low..=high + most_own).contains(pause), "{name}: {pauses:?}");
        doubled *= 2;
    }
    match class {
        After(seconds) if seconds > 300 => assert_eq!(attempts.len(), 1, "{name}"),
        After(seconds) => assert!(
            (360 / (seconds * 3)..=360 / seconds + 1).contains(&i64::try_from(attempts.len()).unwrap()),
            "{name}: {times:?}"
        ),
        _ => assert!((7..=10).contains(&attempts.len()), "{name}: {times:?}"),
    }
}

fn slack(base: &str, ca_pem: &str) -> Arc<SlackNotifier> {
    let extra_ca_pem = (!ca_pem.is_empty()).then(|| ca_pem.as_bytes().to_vec());
    let http = http_client::client(&HttpClientOptions { timeout: LIMIT, extra_ca_pem, loopback: true }).unwrap();
    let (secret, redactor) = (Secret::new(format!("{base}{PATH}")), Redactor::default());
    redactor.learn(&secret);
    Arc::new(SlackNotifier::new("it".into(), secret, BTreeMap::new(), http, Arc::new(message_context()), redactor))
}

fn slack_notifier(server: &FaultServer) -> TestNotifier {
    let hangs = Arc::clone(&server.hangs);
    TestNotifier { name: "it", fallback: Some("spare"), notifier: slack(&server.base(), &server.ca_pem), hangs }
}

fn fine() -> Fault {
    status("200 OK", &[], "ok")
}

#[tokio::test(start_paused = true)]
async fn every_answer_of_slack_has_its_class_its_pace_and_its_order() {
    let codes = [
        ("400", "invalid_payload", GiveUp),
        ("400", "no_text", GiveUp),
        ("400", "too_many_attachments", GiveUp),
        ("400", "user_not_found", GiveUp),
        ("403", "action_prohibited", GiveUp),
        ("403", "invalid_token", GiveUp),
        ("403", "posting_to_general_channel_denied", GiveUp),
        ("404", "no_service", GiveUp),
        ("404", "channel_not_found", GiveUp),
        ("404", "no_team", GiveUp),
        ("404", "", GiveUp),
        ("404", "<html>Not Found</html>", GiveUp),
        ("410", "channel_is_archived", GiveUp),
        ("413", "", GiveUp),
        ("500", "rollup_error", Retry),
        ("502", "<html>Bad Gateway</html>", Retry),
        ("503", "", Retry),
        ("429", "", Retry),
        ("302", "", Retry),
        ("200", "<!DOCTYPE html><html>Sign in", Retry),
        ("200", r#"{"ok":false,"error":"channel_not_found"}"#, Retry),
    ];
    let codes = codes.map(|(code, body, class)| {
        let words = if body.starts_with(['<', '{']) { vec![code] } else { vec![code, body] };
        (format!("{code} {body}"), status(code, &["Location: http://localhost:1/"], body), class, words)
    });
    let waits = [
        ("429", "Retry-After: 30", After(30)),
        ("429", "Retry-After: 600", After(600)),
        ("503", "Retry-After: 120", After(120)),
        ("429", "Retry-After: soon", Retry),
        ("429", "Retry-After: -5", Retry),
        ("429", "Retry-After: 0", Retry),
        ("404", "Retry-After: 30", GiveUp),
    ];
    let waits =
        waits.map(|(code, header, class)| (format!("{code} {header}"), status(code, &[header], ""), class, vec![code]));
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n".to_vec();
    let lost = vec!["Slack could not be reached"];
    let rest = [
        ("silence", Fault::Hang(vec![]), Retry, lost.clone()),
        ("half a head", Fault::Hang(b"HTTP/1.1 20".to_vec()), Retry, lost.clone()),
        ("an end", Fault::Bytes(vec![]), Retry, lost.clone()),
        ("a reset", Fault::Reset, Retry, lost.clone()),
        ("another protocol", Fault::Bytes(b"220 mail.example.com\r\n".to_vec()), Retry, lost.clone()),
        ("an endless head", Fault::Flood(b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 65536]), Retry, lost),
        ("an endless error", Fault::Flood(b"HTTP/1.1 500 X\r\n\r\n".to_vec(), vec![b'x'; 65536]), Retry, vec!["500"]),
        (
            "an error that hangs",
            Fault::Hang(b"HTTP/1.1 403 X\r\nContent-Length: 99\r\n\r\ninva".to_vec()),
            GiveUp,
            vec!["403"],
        ),
        ("an end in the middle of ok", Fault::Bytes([&head[..], b"o"].concat()), Delivered, vec![]),
        ("ok, and then silence", Fault::Hang(head), Delivered, vec![]),
    ];
    let rest = rest.map(|(name, fault, class, words)| (name.to_owned(), fault, class, words));
    let rows = codes.into_iter().chain(waits).chain(rest).map(|(name, fault, class, words)| async move {
        let server = FaultServer::plain(fault);
        play_alert(&name, slack_notifier(&server), class, &words, || server.become_(fine())).await;
        let bodies = server.requests();
        let others = bodies.iter().filter(|request| !request.starts_with(&format!("POST {PATH} HTTP/1.1\r\n"))).count();
        assert_eq!(others, 0, "{name}: {bodies:?}");
    });
    futures_util::future::join_all(rows).await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_closed_by_slack_loses_no_message() {
    let kept = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok".to_vec();
    let server = FaultServer::plain(Fault::OnceThenClose(kept));
    let bench = DeliveryBench::new(vec![slack_notifier(&server), TestNotifier::accepting("spare")]);
    for (account, passes) in [("a", 20), ("b", 20), ("c", 20)] {
        bench.enqueue(account, TransitionKind::Raised, &["it"]).await;
        bench.pass(passes).await;
    }
    let delivered: Vec<Vec<String>> = bench.delivered("it").into_iter().map(|(_, sent)| sent).collect();
    assert_eq!(delivered, [["raised a"], ["raised b"], ["raised c"]]);
    assert!(bench.attempts("it").len() <= 5 && bench.delivered("spare").is_empty(), "{:?}", bench.attempts("it"));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn slack_behind_a_wrong_certificate_is_tried_again_and_is_sent_nothing() {
    let identities = [Identity::Expired, Identity::OtherName, Identity::SelfSigned, Identity::NoTls, Identity::Mute];
    let rows = identities.map(|identity| async move {
        let server = FaultServer::start(identity, fine());
        let bench = DeliveryBench::new(vec![slack_notifier(&server), TestNotifier::accepting("spare")]);
        bench.enqueue("acme", TransitionKind::Raised, &["it"]).await;
        bench.pass(330).await;
        assert_eq!(bench.delivered("spare")[0].1, ["raised acme via it"], "{identity:?}");
        assert!(bench.pending("it") == 1 && server.requests().is_empty(), "{identity:?}: {:?}", server.requests());
        expect_retry_pace(&format!("{identity:?}"), &bench.attempts("it"), Retry);
        bench.end().await;
    });
    futures_util::future::join_all(rows).await;
    let gone =
        TestNotifier { name: "it", fallback: Some("spare"), notifier: slack(&nobody(), ""), hangs: Arc::default() };
    let bench = DeliveryBench::new(vec![gone, TestNotifier::accepting("spare")]);
    bench.enqueue("acme", TransitionKind::Raised, &["it"]).await;
    bench.pass(330).await;
    assert_eq!((bench.pending("it"), bench.delivered("spare").len()), (1, 1), "nobody listens");
    expect_retry_pace("nobody listens", &bench.attempts("it"), Retry);
    bench.end().await;
}

const ALL: [&str; 3] = ["a@example.com", "b@example.com", "c@example.com"];

fn mail_notifier(server: &Server, tls: SmtpTls, login: bool) -> TestNotifier {
    let redactor = Redactor::default();
    redactor.learn(&Secret::new(PASSWORD));
    let options = EmailOptions {
        host: "localhost".to_owned(),
        port: server.address.port(),
        tls,
        credentials: login.then(|| ("lowtide".to_owned(), Secret::new(PASSWORD))),
        from: "Lowtide <lowtide@example.com>".parse().unwrap(),
        to: ALL.iter().map(|address| address.parse().unwrap()).collect(),
        ca_pem: Some(server.ca_pem.clone().into_bytes()),
        timeout: LIMIT,
    };
    let email = EmailNotifier::new(options, Arc::new(message_context()), redactor).unwrap();
    TestNotifier { name: "it", fallback: Some("spare"), notifier: Arc::new(email), hangs: Arc::clone(&server.hangs) }
}

/// Returns a server that offers all extensions.
fn accepting() -> Script {
    let extensions = ["8BITMIME", "STARTTLS", "AUTH PLAIN LOGIN", "SIZE 1000000"].map(str::to_owned).to_vec();
    Script { extensions, ..Script::default() }
}

fn answering(step: &'static str, reply: &str) -> Script {
    match step {
        "greeting" => Script { greeting: (reply != HANG).then(|| reply.to_owned()), ..accepting() },
        step => Script { replies: BTreeMap::from([(step, reply.to_owned())]), ..accepting() },
    }
}

#[tokio::test(start_paused = true)]
async fn every_mail_server_reply_has_its_class_and_its_retry_pace() {
    let steps = ["greeting", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "."];
    let usual = [
        ("421 later", Retry, "421"),
        ("554 never", GiveUp, "554"),
        (HANG, Retry, "no answer within"),
        (CLOSE, Retry, "failed"),
    ];
    let all = steps.into_iter().flat_map(|step| usual.map(|(reply, class, word)| (step, reply, class, word)));
    let more = [
        ("EHLO", "502 what?", Retry, "502"),
        ("STARTTLS", "454 TLS not available", Retry, "454"),
        ("AUTH", "454 temporary authentication failure", Retry, "454"),
        ("AUTH", "535 hunter2hunter2 is wrong", GiveUp, "535"),
        ("AUTH", "334 !!!", Retry, "logging in failed"),
        ("MAIL", "552 message too large", GiveUp, "552"),
        ("MAIL", "452 out of storage", Retry, "452"),
        ("RCPT", "450 greylisted", Retry, "450"),
        ("RCPT", "550 no such user", GiveUp, "550"),
        ("DATA", "250 what?", Retry, "250"),
        (".", "552 message too large", GiveUp, "552"),
        (".", "451 local error", Retry, "451"),
        (".", "354 what?", Retry, "354"),
        ("greeting", "HTTP/1.1 400 Bad Request", Retry, "connecting failed"),
        ("MAIL", "no number", Retry, "MAIL failed"),
        ("MAIL", "999 no such severity", Retry, "MAIL"),
    ];
    // The reply to the end of the message has a longer timeout, and a test of its own.
    let all = all.filter(|(step, reply, ..)| (*step, *reply) != (".", HANG));
    // A plaintext rejection before TLS may be forged, and one of our greeting is about us: both are transient.
    let may_pass = |step: &str, class| if ["STARTTLS", "EHLO"].contains(&step) { Retry } else { class };
    let all = all.map(|(step, reply, class, word)| (step, reply, may_pass(step, class), word));
    let rows = all.chain(more).map(|(step, reply, class, word)| async move {
        let server = Server::start(answering(step, reply)).await;
        let name = format!("{step}: {reply}");
        play_alert(&name, mail_notifier(&server, SmtpTls::Starttls, true), class, &[word], || {
            server.become_(accepting())
        })
        .await;
        let all = server.conversations();
        let in_the_clear =
            all.iter().filter(|it| !it.encrypted).any(|it| !it.auth.is_empty() || !it.mail_from.is_empty());
        assert!(!in_the_clear, "{name}: no login and no mail in plaintext");
        let ids = all
            .iter()
            .flat_map(|it| &it.data)
            .filter_map(|data| data.lines().find(|line| line.starts_with("Message-ID")));
        let ids: std::collections::BTreeSet<&str> = ids.collect();
        assert!(ids.len() <= 3, "{name}: a repeated attempt has the same Message-ID: {ids:?}");
    });
    futures_util::future::join_all(rows).await;
}

#[tokio::test(start_paused = true)]
async fn a_mail_whose_acceptance_takes_minutes_is_not_sent_again_meanwhile() {
    let server = Server::start(answering(".", HANG)).await;
    let bench =
        DeliveryBench::new(vec![mail_notifier(&server, SmtpTls::Starttls, true), TestNotifier::accepting("other")]);
    bench.enqueue("acme", TransitionKind::Raised, &["it", "other"]).await;
    bench.pass(595).await;
    assert_eq!((server.conversations().len(), bench.delivered("other").len()), (1, 1));
    assert_eq!(server.conversations()[0].data.len(), 1);
    server.become_(accepting());
    bench.pass(30).await;
    let attempts = bench.attempts("it");
    assert!(
        attempts[0].result.as_ref().is_err_and(|error| !error.permanent && error.reason.contains("600s")),
        "{attempts:?}"
    );
    assert_eq!((attempts.len(), bench.delivered("it").len(), bench.pending("it")), (2, 1, 0));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_untrusted_mail_server_gets_no_password_and_is_transient() {
    let no_starttls = Script { extensions: vec!["AUTH PLAIN".to_owned()], ..Script::default() };
    let no_auth = Script { extensions: vec!["STARTTLS".to_owned()], ..Script::default() };
    let rows: [(&str, Script, &str, &str); 3] = [
        ("STARTTLS is missing", no_starttls, "localhost", "does not offer STARTTLS"),
        ("no login is offered", no_auth, "localhost", "logging in failed"),
        ("another name", accepting(), "elsewhere.example.com", "certificate"),
    ];
    let rows = rows.map(|(name, script, host, word)| async move {
        let server = Server::start_as(script, host).await;
        let bench =
            DeliveryBench::new(vec![mail_notifier(&server, SmtpTls::Starttls, true), TestNotifier::accepting("spare")]);
        bench.enqueue("acme", TransitionKind::Raised, &["it"]).await;
        bench.pass(330).await;
        assert_eq!((bench.pending("it"), bench.delivered("spare").len()), (1, 1), "{name}");
        expect_retry_pace(name, &bench.attempts("it"), Retry);
        for one in bench.attempts("it") {
            assert!(one.result.as_ref().unwrap_err().reason.contains(word), "{name}: {one:?}");
        }
        let all = server.conversations();
        assert!(all.iter().all(|it| it.auth.is_empty() && it.mail_from.is_empty()), "{name}: {all:?}");
        bench.end().await;
    });
    futures_util::future::join_all(rows).await;
}

#[tokio::test(start_paused = true)]
async fn replies_injected_after_the_starttls_reply_are_discarded() {
    let all = ["250 hello", "250 from", "250 to", "250 to", "250 to", "354 go on", "250 queued", "221 bye"];
    let mut injected: Vec<String> = (1..9).map(|replies| all[..replies].join("\r\n")).collect();
    injected.extend(["550 nobody here".to_owned(), "250 hello\r\n550 no".to_owned(), "421 go away".to_owned()]);
    let refusals = ["", "MAIL", "RCPT"];
    let rows = injected.iter().flat_map(|injected| refusals.map(|refusal| (injected, refusal)));
    let rows = rows.map(|(injected, refusal)| async move {
        let replies = BTreeMap::from([("STARTTLS", format!("220 go on\r\n{injected}")), ("MAIL", "550 no".to_owned())]);
        let replies =
            replies.into_iter().filter(|(command, _)| *command == "STARTTLS" || *command == refusal).collect();
        let refused = ALL.iter().map(|to| ((*to).to_owned(), "550 no".to_owned())).filter(|_| refusal == "RCPT");
        let server = Server::start(Script { replies, recipients: refused.collect(), ..accepting() }).await;
        let bench = DeliveryBench::new(vec![
            mail_notifier(&server, SmtpTls::Starttls, false),
            TestNotifier::accepting("spare"),
        ]);
        bench.enqueue("acme", TransitionKind::Raised, &["it"]).await;
        bench.pass(330).await;
        let attempts = bench.attempts("it");
        assert!(
            attempts.iter().all(|it| it.result.as_ref().is_err_and(|error| !error.permanent)),
            "{injected}: {attempts:?}"
        );
        assert_eq!((bench.pending("it"), bench.delivered("spare").len()), (1, 1), "{injected}");
        bench.end().await;
    });
    futures_util::future::join_all(rows).await;
}

#[tokio::test(start_paused = true)]
async fn each_of_three_recipients_gets_the_mail_once() {
    let refuse = |replies: [&str; 3]| {
        let recipients = ALL.iter().zip(replies).filter(|(_, reply)| !reply.is_empty());
        Script {
            recipients: recipients.map(|(to, reply)| ((*to).to_owned(), reply.to_owned())).collect(),
            ..Script::default()
        }
    };
    let rows: [([&str; 3], [usize; 3], usize); 6] = [
        (["", "550 no", ""], [1, 0, 1], 0),
        (["", "450 later", ""], [1, 1, 1], 0),
        (["450 later", "", "550 no"], [1, 1, 0], 0),
        (["451 later", "452 too many", ""], [1, 1, 1], 0),
        (["550 no", "550 no", "550 no"], [0, 0, 0], 1),
        (["450 later", "450 later", "450 later"], [1, 1, 1], 0),
    ];
    let rows = rows.map(|(replies, reached, spare)| async move {
        let server = Server::start(refuse(replies)).await;
        let bench =
            DeliveryBench::new(vec![mail_notifier(&server, SmtpTls::None, false), TestNotifier::accepting("spare")]);
        bench.enqueue("acme", TransitionKind::Raised, &["it"]).await;
        bench.pass(100).await;
        server.become_(refuse(replies.map(|reply| if reply.starts_with('5') { reply } else { "" })));
        bench.pass(1000).await;
        let all = server.conversations();
        let sent =
            |to: &str| all.iter().filter(|it| !it.data.is_empty() && it.rcpt_to.iter().any(|it| it == to)).count();
        assert_eq!(ALL.map(sent), reached, "{replies:?}");
        assert_eq!((bench.pending("it"), bench.delivered("spare").len()), (0, spare), "{replies:?}");
        bench.end().await;
    });
    futures_util::future::join_all(rows).await;
}

/// Plays a day in which one alert is raised, escalates and resolves, another flaps, and a third keeps firing, with a
/// reminder every four hours.
async fn play_a_day(bench: &DeliveryBench) {
    for hour in 0..24 {
        match hour {
            0 => bench.enqueue("acme", TransitionKind::Raised, &["it", "other"]).await,
            1 => bench.enqueue("stays", TransitionKind::Raised, &["it", "other"]).await,
            3 => bench.enqueue("acme", TransitionKind::Escalated, &["it", "other"]).await,
            20 => bench.enqueue("acme", TransitionKind::Resolved, &["it", "other"]).await,
            hour if hour % 4 == 0 => bench.enqueue("stays", TransitionKind::Reminder, &["it", "other"]).await,
            _ => {
                bench.enqueue("flaps", TransitionKind::Raised, &["it", "other"]).await;
                bench.pass(60).await;
                bench.enqueue("flaps", TransitionKind::Resolved, &["it", "other"]).await;
                bench.pass(3540).await;
                continue;
            }
        }
        bench.pass(3600).await;
    }
}

/// Checks the effect of a day's outage for any channel: the number of attempts, and one message.
fn one_message(name: &str, bench: &DeliveryBench) -> Vec<String> {
    let attempts = bench.attempts("it").len();
    assert!((288..=400).contains(&attempts), "{name}: {attempts} attempts in a day");
    let delivered = bench.delivered("it");
    assert_eq!(delivered.len(), 1, "{name}: no flood: {delivered:?}");
    let sent = delivered[0].1.clone();
    let of = |account: &str| sent.iter().filter(|it| it.ends_with(account)).cloned().collect::<Vec<_>>();
    assert_eq!(of("acme"), ["raised acme", "escalated acme", "resolved acme"], "{name}");
    assert_eq!(of("stays"), ["raised stays", "reminder stays"], "{name}: the last reminder only");
    assert_eq!((of("flaps").len(), of("flaps").last().unwrap().as_str()), (10, "resolved flaps"), "{name}");
    assert_eq!(bench.pending("it"), 0, "{name}");
    sent
}

#[tokio::test(start_paused = true)]
async fn slack_down_for_a_day_gets_one_message_with_what_resolved() {
    let faults = [
        ("503", status("503 X", &[], "")),
        ("silence", Fault::Hang(vec![])),
        ("429", status("429 X", &["Retry-After: 5"], "")),
    ];
    let rows = faults.map(|(name, fault)| async move {
        let server = FaultServer::plain(fault);
        let bench = DeliveryBench::new(vec![
            TestNotifier { fallback: None, ..slack_notifier(&server) },
            TestNotifier::accepting("other"),
        ]);
        play_a_day(&bench).await;
        server.become_(fine());
        bench.pass(400).await;
        one_message(name, &bench);
        let body = server.requests().pop().unwrap();
        let body: serde_json::Value = serde_json::from_str(body.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body["text"], "3 alerts: 1 warning, 2 resolved", "{name}");
        let entries: Vec<String> = body["attachments"].as_array().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(entries.len(), 3, "{name}: an entry an alert: {entries:#?}");
        assert!(entries[0].contains("Still warning: stays"), "{name}: {}", entries[0]);
        assert!(entries[1].contains("Resolved: acme") && entries[1].contains("Escalated"), "{name}: {}", entries[1]);
        assert!(
            entries[2].contains("Resolved: flaps") && entries[2].contains("more changes in between"),
            "{name}: {}",
            entries[2]
        );
        let sent = bench.delivered("other");
        let notices: Vec<&String> = sent.iter().flat_map(|(_, sent)| sent).filter(|it| it.starts_with("it ")).collect();
        assert_eq!(notices, ["it fails", "it recovered"], "{name}: the other notifier reports the outage once");
        assert!(
            sent.iter().any(|(at, sent)| (3600..3700).contains(at) && sent.iter().any(|it| it == "it fails")),
            "{name}: {sent:?}"
        );
        bench.end().await;
    });
    futures_util::future::join_all(rows).await;
}

#[tokio::test(start_paused = true)]
async fn a_mail_server_down_for_a_day_gets_one_mail_with_what_resolved() {
    let faults = [
        answering("greeting", "421 busy"),
        answering("greeting", HANG),
        answering("DATA", "451 later"),
        answering("RCPT", "450 later"),
    ];
    let rows = faults.map(|script| async move {
        let name = format!("{:?} {:?}", script.greeting, script.replies);
        let server = Server::start(script).await;
        let bench = DeliveryBench::new(vec![
            TestNotifier { fallback: None, ..mail_notifier(&server, SmtpTls::None, false) },
            TestNotifier::accepting("other"),
        ]);
        play_a_day(&bench).await;
        server.become_(accepting());
        bench.pass(400).await;
        one_message(&name, &bench);
        let mail = server.conversations().pop().unwrap().data.pop().unwrap();
        assert!(mail.contains("Subject: [warning] 3 alerts: 1 warning, 2 resolved"), "{name}: {mail}");
        assert!(mail.contains("Resolved: acme") && mail.contains("Resolved: flaps"), "{name}: {mail}");
        bench.end().await;
    });
    futures_util::future::join_all(rows).await;
}
