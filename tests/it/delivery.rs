//! Delivery of pending events on a stepped clock: pauses, fallbacks, reports, order and bounds. No real time passes.

#![allow(clippy::unnecessary_wraps)] // answers have one shape

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::support::stepped::{self, AcceptingBackend, VirtualClock, epoch};
use async_trait::async_trait;
use lowtide::alerting::queue::NewEvent;
use lowtide::alerting::state::State;
use lowtide::domain::Name;
use lowtide::domain::alert::{AlertKey, TransitionKind};
use lowtide::domain::event::EventSubject;
use lowtide::domain::report::ReportPage;
use lowtide::notify::delivery::{DeliveryWorker, Route, retry_delay};
use lowtide::notify::{Delivered, Message, MessageContent, Notifier, RecipientRefusal, SendError};
use lowtide::state::StateStore;
use lowtide::util::clock::Clock;
use proptest::prelude::*;
use tokio::task::JoinSet;

type AttemptResult = Result<Delivered, SendError>;
/// Times of attempts in seconds, with the events of each.
type AttemptLog = Arc<Mutex<Vec<(i64, Vec<String>)>>>;
type Answers = Arc<dyn Fn(&Message, u32) -> AttemptResult + Send + Sync>;

/// A notifier that answers as the test decides, and records its attempts.
struct FakeNotifier {
    clock: Arc<dyn Clock>,
    answers: Answers,
    attempts: AttemptLog,
    attempt_count: Mutex<u32>,
    one_by_one: bool,
    recipients: &'static [&'static str],
}

#[async_trait]
impl Notifier for FakeNotifier {
    async fn send(&self, message: &Message) -> AttemptResult {
        let MessageContent::Events(items) = &message.content else { panic!("no events") };
        let events = items.iter().map(|item| {
            let what = match &item.event.subject {
                EventSubject::Threshold(event) => format!("{} {}", event.kind.name(), event.key.account),
                EventSubject::NotifierFailing { notifier, .. } => format!("{notifier} fails"),
                EventSubject::NotifierRecovered { notifier, .. } => format!("{notifier} recovered"),
                _ => "other".to_owned(),
            };
            let via = item.in_place_of.as_ref().map(|origin| format!(" via {}", origin.notifier)).unwrap_or_default();
            let omitted = if item.omitted > 0 { format!(" after {} more", item.omitted) } else { String::new() };
            what + &via + &omitted
        });
        let events = events.collect();
        self.attempts.lock().unwrap().push(((self.clock.now() - epoch()).num_seconds(), events));
        let attempt_count = {
            let mut attempt_count = self.attempt_count.lock().unwrap();
            *attempt_count += 1;
            *attempt_count
        };
        (self.answers)(message, attempt_count)
    }

    fn one_event_per_request(&self) -> bool {
        self.one_by_one
    }

    fn recipients(&self) -> Vec<String> {
        self.recipients.iter().map(|it| (*it).to_owned()).collect()
    }
}

/// A notifier of the bench.
struct TestNotifier {
    name: &'static str,
    fallback: Option<&'static str>,
    answers: Answers,
    one_by_one: bool,
    recipients: &'static [&'static str],
}

impl TestNotifier {
    fn new(name: &'static str, answers: Answers) -> Self {
        Self { name, fallback: None, answers, one_by_one: false, recipients: &[] }
    }

    /// Creates a notifier that sends one request for each event.
    fn one_by_one(answers: Answers) -> Self {
        Self { one_by_one: true, ..Self::new("hook", answers) }
    }

    /// Creates a notifier that sends email to several recipients.
    fn mail(recipients: &'static [&'static str], answers: Answers) -> Self {
        Self { recipients, ..Self::new("mail", answers) }
    }
}

struct DeliveryBench {
    store: Arc<StateStore>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    attempts: BTreeMap<&'static str, AttemptLog>,
}

fn ok() -> AttemptResult {
    Ok(Delivered::default())
}

fn fails(permanent: bool) -> AttemptResult {
    Err(SendError { permanent, reason: "no_service".to_owned(), retry_after: None, refused: Vec::new() })
}

impl DeliveryBench {
    fn new(notifiers: &[(&'static str, Option<&'static str>, Answers)]) -> Self {
        let notifier = |(name, fallback, answers): &(&'static str, Option<&'static str>, Answers)| TestNotifier {
            fallback: *fallback,
            ..TestNotifier::new(name, Arc::clone(answers))
        };
        Self::of(notifiers.iter().map(notifier).collect())
    }

    fn of(notifiers: Vec<TestNotifier>) -> Self {
        let clock: Arc<dyn Clock> = VirtualClock::begin();
        Self::with_store(notifiers, clock, Arc::new(StateStore::new(State::default(), Arc::new(AcceptingBackend))))
    }

    fn with_store(notifiers: Vec<TestNotifier>, clock: Arc<dyn Clock>, store: Arc<StateStore>) -> Self {
        let stop = CancellationToken::new();
        let everyone: BTreeSet<Name> = notifiers.iter().map(|notifier| Name::from(notifier.name)).collect();
        let (mut tasks, mut attempts) = (JoinSet::new(), BTreeMap::new());
        for TestNotifier { name, fallback, answers, one_by_one, recipients } in notifiers {
            let log = Arc::new(Mutex::new(Vec::new()));
            attempts.insert(name, Arc::clone(&log));
            let (clock, attempt_count) = (Arc::clone(&clock), Mutex::new(0));
            let fake = FakeNotifier {
                clock: Arc::clone(&clock),
                answers,
                attempts: log,
                attempt_count,
                one_by_one,
                recipients,
            };
            let route = Route { notifier: Arc::new(fake), fallback: fallback.map(Name::from), quiet_hours: None };
            let worker = DeliveryWorker::new(name.into(), route, everyone.clone(), Arc::clone(&store), clock);
            tasks.spawn(worker.run(stop.clone()));
        }
        Self { store, clock, stop, tasks, attempts }
    }

    /// Stops the workers and continues with others, as a reload does.
    async fn reload(self, notifiers: Vec<TestNotifier>) -> Self {
        let (store, clock) = (Arc::clone(&self.store), Arc::clone(&self.clock));
        self.end().await;
        let names: BTreeMap<&str, Option<&str>> =
            notifiers.iter().map(|notifier| (notifier.name, notifier.fallback)).collect();
        let follow = |state: &mut State| {
            state.hand_over_to_new_fallbacks(|name| names.get(name).copied().flatten().map(Name::from));
            (state.drop_unconfigured_notifiers(|name| names.contains_key(name)), true)
        };
        store.change(follow).await;
        Self::with_store(notifiers, clock, store)
    }

    async fn enqueue(&self, account: &str, kind: TransitionKind, to: &[&str]) {
        stepped::enqueue(&self.store, self.clock.now(), account, kind, to).await;
    }

    async fn pass(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    fn attempts(&self, name: &str) -> Vec<(i64, Vec<String>)> {
        self.attempts[name].lock().unwrap().clone()
    }

    fn sent(&self, name: &str) -> Vec<String> {
        self.attempts(name).into_iter().flat_map(|(_, events)| events).collect()
    }

    fn pending(&self, name: &str) -> usize {
        self.store.read(|state| state.queue.pending_for(name).count())
    }

    async fn end(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

fn always(answer: fn() -> AttemptResult) -> Answers {
    Arc::new(move |_, _| answer())
}

#[tokio::test(start_paused = true)]
async fn delivered_events_leave_the_queue_and_are_never_sent_again() {
    let bench = DeliveryBench::new(&[("slack", None, always(ok))]);
    bench.enqueue("acme", TransitionKind::Raised, &["slack"]).await;
    bench.pass(3600).await;
    assert_eq!(bench.attempts("slack"), [(0, vec!["raised acme".to_owned()])]);
    assert_eq!(bench.pending("slack"), 0);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_notifier_is_retried_with_backoff_and_stays_pending() {
    let bench = DeliveryBench::new(&[("slack", None, always(|| fails(false)))]);
    bench.enqueue("acme", TransitionKind::Raised, &["slack"]).await;
    bench.pass(4 * 3600).await;
    let times: Vec<i64> = bench.attempts("slack").iter().map(|(at, _)| *at).collect();
    let pauses: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((1..=2).contains(&pauses[0]), "{pauses:?}");
    assert!(pauses.iter().all(|pause| (1..=301).contains(pause)), "{pauses:?}");
    assert!(pauses[10..].iter().all(|pause| *pause >= 220), "{pauses:?}");
    assert_eq!(bench.pending("slack"), 1);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn after_five_minutes_of_failure_the_fallback_is_used_once() {
    let bench = DeliveryBench::new(&[("slack", Some("mail"), always(|| fails(false))), ("mail", None, always(ok))]);
    bench.enqueue("acme", TransitionKind::Raised, &["slack"]).await;
    bench.pass(299).await;
    assert!(bench.sent("mail").is_empty());
    bench.pass(3).await;
    assert_eq!(bench.sent("mail"), ["raised acme via slack"]);
    bench.pass(3000).await;
    assert_eq!(bench.sent("mail"), ["raised acme via slack"]);
    assert_eq!(bench.pending("slack"), 1, "still pending for the notifier itself");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_permanent_refusal_uses_the_fallback_and_leaves_the_queue() {
    let bench = DeliveryBench::new(&[("slack", Some("mail"), always(|| fails(true))), ("mail", None, always(ok))]);
    bench.enqueue("acme", TransitionKind::Raised, &["slack"]).await;
    bench.pass(1).await;
    assert_eq!(bench.sent("mail"), ["raised acme via slack"]);
    assert_eq!((bench.pending("slack"), bench.attempts("slack").len()), (0, 1));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_fallback_already_notified_of_an_event_gets_it_once() {
    let bench = DeliveryBench::new(&[("slack", Some("mail"), always(|| fails(true))), ("mail", None, always(ok))]);
    bench.enqueue("acme", TransitionKind::Raised, &["slack", "mail"]).await;
    bench.pass(600).await;
    assert_eq!(bench.sent("mail"), ["raised acme"]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_got_the_beginning_through_a_fallback_gets_the_end() {
    let bench = DeliveryBench::new(&[("slack", Some("mail"), always(|| fails(true))), ("mail", None, always(ok))]);
    bench.enqueue("acme", TransitionKind::Raised, &["slack"]).await;
    bench.pass(1).await;
    let key = AlertKey { account: "acme".into(), division: None, rule: "funds".into() };
    let notified = bench.store.read(|state| state.notified_or_pending(&key));
    assert_eq!(notified, BTreeSet::from([Name::from("mail")]));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_failure_and_its_recovery_are_reported_by_the_others() {
    let until = |answer: fn() -> AttemptResult| -> Answers {
        Arc::new(move |_, attempt| if attempt < 25 { answer() } else { ok() })
    };
    let bench = DeliveryBench::new(&[
        ("slack", None, until(|| fails(false))),
        ("mail", None, always(ok)),
        ("other", None, always(ok)),
    ]);
    bench.enqueue("acme", TransitionKind::Raised, &["slack"]).await;
    bench.pass(3500).await;
    assert!(bench.sent("mail").is_empty());
    bench.pass(200).await;
    assert_eq!(bench.sent("mail"), ["slack fails"]);
    bench.pass(4 * 3600).await;
    assert_eq!(bench.sent("mail"), ["slack fails", "slack recovered"]);
    assert_eq!(bench.sent("other"), ["slack fails", "slack recovered"]);
    assert_eq!(bench.pending("slack"), 0);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_day_down_one_message_has_everything_but_stale_reminders() {
    let gate = Arc::new(Mutex::new(false));
    let open = Arc::clone(&gate);
    let answers: Answers = Arc::new(move |_, _| if *open.lock().unwrap() { ok() } else { fails(false) });
    let bench = DeliveryBench::new(&[("slack", None, answers)]);
    bench.enqueue("acme", TransitionKind::Raised, &["slack"]).await;
    for _ in 0..5 {
        bench.pass(4 * 3600).await;
        bench.enqueue("acme", TransitionKind::Reminder, &["slack"]).await;
    }
    bench.enqueue("other", TransitionKind::Raised, &["slack"]).await;
    bench.enqueue("acme", TransitionKind::Resolved, &["slack"]).await;
    *gate.lock().unwrap() = true;
    bench.pass(400).await;
    let last = bench.attempts("slack").pop().unwrap().1;
    assert_eq!(last, ["raised acme", "raised other", "resolved acme"]);
    assert_eq!(bench.pending("slack"), 0);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn ten_events_of_an_alert_are_kept_and_those_between_counted() {
    let bench = DeliveryBench::new(&[("slack", None, always(|| fails(false)))]);
    bench.enqueue("acme", TransitionKind::Raised, &["slack"]).await;
    for _ in 0..15 {
        bench.pass(10).await;
        bench.enqueue("acme", TransitionKind::Escalated, &["slack"]).await;
        bench.pass(10).await;
        bench.enqueue("acme", TransitionKind::Eased, &["slack"]).await;
    }
    bench.pass(600).await;
    let last = bench.attempts("slack").pop().unwrap().1;
    assert_eq!(last.len(), 10);
    assert_eq!(last[0], "raised acme");
    assert_eq!(last[1], "eased acme after 21 more", "{last:?}");
    assert_eq!(last[9], "eased acme");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_notifier_that_hangs_delays_no_other() {
    struct HangingNotifier;
    #[async_trait]
    impl Notifier for HangingNotifier {
        async fn send(&self, _: &Message) -> AttemptResult {
            std::future::pending().await
        }
    }
    let bench = DeliveryBench::new(&[("slack", None, always(ok))]);
    let stop = CancellationToken::new();
    let route = Route { notifier: Arc::new(HangingNotifier), fallback: None, quiet_hours: None };
    let worker =
        DeliveryWorker::new("mail".into(), route, BTreeSet::new(), Arc::clone(&bench.store), Arc::clone(&bench.clock));
    let hanging = tokio::spawn(worker.run(stop.clone()));
    bench.enqueue("acme", TransitionKind::Raised, &["mail", "slack"]).await;
    bench.pass(1).await;
    assert_eq!(bench.attempts("slack"), [(0, vec!["raised acme".to_owned()])]);
    assert_eq!(bench.pending("mail"), 1);
    hanging.abort();
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_hanging_retry_does_not_delay_the_fallback() {
    /// Fails once, then takes ten minutes.
    struct SlowNotifier(Mutex<u32>);
    #[async_trait]
    impl Notifier for SlowNotifier {
        async fn send(&self, _: &Message) -> AttemptResult {
            if std::mem::replace(&mut *self.0.lock().unwrap(), 1) == 0 {
                return fails(false);
            }
            tokio::time::sleep(Duration::from_secs(600)).await;
            ok()
        }
    }
    let bench = DeliveryBench::new(&[("slack", None, always(ok))]);
    let stop = CancellationToken::new();
    let route =
        Route { notifier: Arc::new(SlowNotifier(Mutex::new(0))), fallback: Some("slack".into()), quiet_hours: None };
    let worker =
        DeliveryWorker::new("mail".into(), route, BTreeSet::new(), Arc::clone(&bench.store), Arc::clone(&bench.clock));
    let slow = tokio::spawn(worker.run(stop.clone()));
    bench.enqueue("acme", TransitionKind::Raised, &["mail"]).await;
    bench.pass(302).await;
    assert_eq!(bench.sent("slack"), ["raised acme via mail"]);
    bench.pass(600).await;
    assert_eq!((bench.pending("mail"), bench.sent("slack").len()), (0, 1));
    stop.cancel();
    slow.await.unwrap();
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_deferred_recipient_is_retried_alone_and_delays_nobody() {
    let answers: Answers = Arc::new(|message, _| match &message.remaining_recipients {
        None => Ok(Delivered {
            deferred: vec![RecipientRefusal { recipient: "b@x".to_owned(), reason: "450".to_owned() }],
            ..Delivered::default()
        }),
        Some(only) => {
            assert_eq!(only, &["b@x".to_owned()]);
            ok()
        }
    });
    let bench = DeliveryBench::new(&[("mail", Some("slack"), answers), ("slack", None, always(ok))]);
    bench.enqueue("acme", TransitionKind::Raised, &["mail"]).await;
    bench.pass(60).await;
    assert_eq!(bench.attempts("mail").len(), 2);
    assert_eq!(bench.pending("mail"), 0);
    assert!(bench.sent("slack").is_empty(), "the fallback is only asked where nobody was reached");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_recipient_refused_on_its_own_retry_does_not_fail_the_notifier() {
    let answers: Answers = Arc::new(|message, _| match &message.remaining_recipients {
        None => {
            let refusal = RecipientRefusal { recipient: "b@x".to_owned(), reason: "450".to_owned() };
            Ok(Delivered { deferred: vec![refusal], ..Delivered::default() })
        }
        Some(_) => fails(true),
    });
    let bench = DeliveryBench::new(&[("mail", Some("slack"), answers), ("slack", None, always(ok))]);
    bench.enqueue("acme", TransitionKind::Raised, &["mail"]).await;
    bench.pass(2 * 3600).await;
    assert_eq!((bench.attempts("mail").len(), bench.pending("mail")), (2, 0));
    assert!(bench.sent("slack").is_empty(), "{:?}", bench.sent("slack"));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_long_ago_does_not_hurry_a_new_event_to_the_fallback() {
    let answers: Answers = Arc::new(|_, attempt| match attempt {
        1 => fails(true),
        2 => fails(false),
        _ => ok(),
    });
    let bench = DeliveryBench::new(&[("slack", Some("mail"), answers), ("mail", None, always(ok))]);
    bench.enqueue("acme", TransitionKind::Raised, &["slack"]).await;
    bench.pass(1800).await;
    assert_eq!(bench.sent("mail"), ["raised acme via slack"]);
    bench.enqueue("other", TransitionKind::Raised, &["slack"]).await;
    bench.pass(600).await;
    assert_eq!(bench.sent("mail"), ["raised acme via slack"]);
    assert_eq!(bench.sent("slack"), ["raised acme", "raised other", "raised other"]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_the_server_asks_for_is_obeyed() {
    let answers: Answers = Arc::new(|_, attempt| match attempt {
        1 => Err(SendError {
            permanent: false,
            reason: "429".to_owned(),
            retry_after: Some(Duration::from_secs(120)),
            refused: Vec::new(),
        }),
        _ => ok(),
    });
    let bench = DeliveryBench::new(&[("slack", None, answers)]);
    bench.enqueue("acme", TransitionKind::Raised, &["slack"]).await;
    bench.pass(1).await;
    bench.enqueue("other", TransitionKind::Raised, &["slack"]).await;
    bench.pass(600).await;
    assert_eq!(bench.attempts("slack")[1], (120, vec!["raised acme".to_owned(), "raised other".to_owned()]));
    bench.end().await;
}

/// Returns the account of the first event.
fn account_of(message: &Message) -> String {
    let MessageContent::Events(items) = &message.content else { panic!("no events") };
    items[0].event.alert().map(|key| key.account.to_string()).unwrap_or_default()
}

/// Returns answers that fail for alerts of accounts with this in their names.
fn fails_for(part: &'static str) -> Answers {
    Arc::new(move |message, _| if account_of(message).contains(part) { fails(false) } else { ok() })
}

#[tokio::test(start_paused = true)]
async fn one_alert_that_fails_delays_no_other_and_keeps_its_order() {
    let bench = DeliveryBench::of(vec![TestNotifier::one_by_one(fails_for("bad"))]);
    bench.enqueue("bad", TransitionKind::Raised, &["hook"]).await;
    bench.enqueue("good", TransitionKind::Escalated, &["hook"]).await;
    bench.pass(1).await;
    assert_eq!((bench.pending("hook"), bench.sent("hook").last().unwrap().as_str()), (1, "escalated good"));
    for hour in 1..=4i64 {
        bench
            .enqueue("bad", if hour % 2 == 0 { TransitionKind::Eased } else { TransitionKind::Escalated }, &["hook"])
            .await;
        bench.pass(3600).await;
        bench.enqueue("good", TransitionKind::Eased, &["hook"]).await;
        bench.pass(1).await;
        let one = usize::try_from(1 + hour).unwrap();
        assert_eq!(bench.pending("hook"), one, "all of the one, nothing of the other");
        // The other alert may be retried in the same second.
        assert!(bench.attempts("hook").contains(&(hour * 3601, vec!["eased good".to_owned()])));
    }
    let bad: Vec<(i64, Vec<String>)> =
        bench.attempts("hook").into_iter().filter(|it| it.1[0].ends_with("bad")).collect();
    assert!(bad.iter().all(|it| it.1 == ["raised bad"]), "its later events wait behind it: {bad:?}");
    let pauses: Vec<i64> = bad.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(
        (40..70).contains(&bad.len()) && pauses[10..].iter().all(|pause| (220..=301).contains(pause)),
        "{pauses:?}"
    );
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_notice_that_a_division_is_gone_stays_in_order_with_its_alerts() {
    let gate = Arc::new(Mutex::new(false));
    let open = Arc::clone(&gate);
    let answers: Answers =
        Arc::new(
            move |message, _| {
                if account_of(message) == "acme" && !*open.lock().unwrap() { fails(false) } else { ok() }
            },
        );
    let bench = DeliveryBench::of(vec![TestNotifier::one_by_one(answers)]);
    bench.enqueue("acme", TransitionKind::Raised, &["hook"]).await;
    bench.pass(10).await;
    let gone = |state: &mut State| {
        for account in ["acme", "other"] {
            let rules = vec!["funds".into()];
            let subject =
                EventSubject::Unwatched { account: account.into(), division: None, division_name: None, rules };
            state.queue.enqueue(NewEvent::notice(subject, bench.clock.now(), ["hook".into()].into()));
        }
        ((), true)
    };
    bench.store.change(gone).await;
    bench.pass(10).await;
    bench.enqueue("acme", TransitionKind::Raised, &["hook"]).await;
    bench.pass(100).await;
    assert_eq!(bench.pending("hook"), 3, "of the one nothing overtakes; the other's notice is out");
    let before = bench.attempts("hook").len();
    *gate.lock().unwrap() = true;
    bench.pass(301).await;
    assert_eq!(bench.sent("hook").split_off(before), ["raised acme", "other", "raised acme"]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_fallback_gets_an_alert_that_fails_while_others_pass() {
    let hook = TestNotifier { fallback: Some("mail"), ..TestNotifier::one_by_one(fails_for("bad")) };
    let bench = DeliveryBench::of(vec![hook, TestNotifier::new("mail", always(ok))]);
    bench.enqueue("bad", TransitionKind::Raised, &["hook"]).await;
    for minute in 0..5 {
        assert!(bench.sent("mail").is_empty(), "after {minute} minutes");
        bench.enqueue(&format!("good{minute}"), TransitionKind::Raised, &["hook"]).await;
        bench.pass(60).await;
    }
    bench.pass(2).await;
    assert_eq!(bench.sent("mail"), ["raised bad via hook"]);
    bench.enqueue("bad", TransitionKind::Escalated, &["hook"]).await;
    bench.enqueue("good0", TransitionKind::Escalated, &["hook"]).await;
    bench.pass(2).await;
    assert_eq!(bench.sent("mail"), ["raised bad via hook", "escalated bad via hook"], "what is new of it, at once");
    bench.pass(3600).await;
    assert_eq!(bench.sent("mail").last().unwrap(), "hook fails", "an alert that fails for an hour is reported");
    assert_eq!((bench.sent("mail").len(), bench.pending("hook")), (3, 2));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_endpoint_gets_few_requests_even_with_five_hundred_alerts() {
    let gate = Arc::new(Mutex::new(false));
    let open = Arc::clone(&gate);
    let answers: Answers = Arc::new(move |_, _| if *open.lock().unwrap() { ok() } else { fails(false) });
    let hook = TestNotifier { fallback: Some("mail"), ..TestNotifier::one_by_one(answers) };
    let bench = DeliveryBench::of(vec![hook, TestNotifier::new("mail", always(ok))]);
    let fall = |state: &mut State| {
        for n in 0..500 {
            let kind = if n % 50 == 49 { TransitionKind::Escalated } else { TransitionKind::Raised };
            stepped::enqueue_in(state, epoch(), &format!("a{n}"), kind, &["hook"]);
        }
        ((), true)
    };
    bench.store.change(fall).await;
    bench.pass(330).await;
    assert_eq!(bench.sent("mail").len(), 500, "after five minutes all of it is the fallback's");
    bench.pass(3300).await;
    let attempts = bench.attempts("hook").len();
    assert!((15..=40).contains(&attempts), "{attempts} attempts in an hour");
    assert_eq!(bench.sent("mail").len(), 501, "{:?}", bench.sent("mail").last());
    *gate.lock().unwrap() = true;
    bench.pass(301).await;
    let after = bench.sent("hook").split_off(attempts);
    // The first success may concern any alert.
    let first_mild = after[1..].iter().position(|it| it.starts_with("raised")).unwrap();
    let severe_after = after[1 + first_mild..].iter().filter(|it| it.starts_with("escalated")).count();
    assert!(first_mild >= 9 && severe_after == 0, "the most severe first: {after:?}");
    assert_eq!((after.len(), bench.pending("hook")), (500, 0));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn many_alerts_that_fail_do_not_stop_those_that_pass() {
    for good in [TransitionKind::Raised, TransitionKind::Escalated] {
        let bench = DeliveryBench::of(vec![TestNotifier::one_by_one(fails_for("bad"))]);
        for n in 0..100 {
            bench.enqueue(&format!("bad{n}"), TransitionKind::Escalated, &["hook"]).await;
        }
        for n in 0..100 {
            bench.enqueue(&format!("good{n}"), good, &["hook"]).await;
        }
        bench.pass(240).await;
        assert_eq!(bench.pending("hook"), 100);
        let attempts = bench.attempts("hook").len();
        assert!(attempts < 1200, "{attempts} attempts");
        for n in 0..10 {
            bench.pass(1000).await;
            bench.enqueue(&format!("late{n}"), good, &["hook"]).await;
            bench.pass(3).await;
            assert_eq!(bench.pending("hook"), 100, "what is new does not wait");
        }
        bench.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_the_server_asks_for_holds_for_all_alerts_of_a_notifier() {
    let answers: Answers = Arc::new(|_, attempt| match attempt {
        1 => fails(false).map_err(|error| SendError { retry_after: Some(Duration::from_secs(120)), ..error }),
        _ => ok(),
    });
    let bench = DeliveryBench::of(vec![TestNotifier::one_by_one(answers)]);
    bench.enqueue("a", TransitionKind::Raised, &["hook"]).await;
    bench.enqueue("b", TransitionKind::Raised, &["hook"]).await;
    bench.pass(119).await;
    assert_eq!(bench.sent("hook"), ["raised a"]);
    bench.pass(10).await;
    assert_eq!((bench.attempts("hook")[1].0, bench.pending("hook")), (120, 0));
    bench.end().await;
}

/// Returns answers of a mail server that defers a recipient as long as `defers` returns true for it, at the time of the
/// attempt.
fn mail_server(
    all: &'static [&'static str],
    defers: impl Fn(&str, i64) -> bool + Send + Sync + 'static,
    received: &ReceivedEvents,
    clock: Now,
) -> Answers {
    let received = Arc::clone(received);
    Arc::new(move |message, _| {
        let wanted =
            |it: &&&str| message.remaining_recipients.as_ref().is_none_or(|only| only.iter().any(|one| one == **it));
        let now = clock();
        let (later, taken): (Vec<&str>, Vec<&str>) = all.iter().filter(wanted).copied().partition(|it| defers(it, now));
        if taken.is_empty() {
            return fails(false);
        }
        let MessageContent::Events(items) = &message.content else { panic!("no events") };
        for who in taken {
            let what = |item: &lowtide::notify::MessageEvent| {
                format!("{} {}", item.event.kind().unwrap().name(), item.event.alert().unwrap().account)
            };
            received.lock().unwrap().entry(who).or_default().extend(items.iter().map(what));
        }
        let refusal = |it: &&str| RecipientRefusal { recipient: (*it).to_owned(), reason: "451 later".to_owned() };
        Ok(Delivered { deferred: later.iter().map(refusal).collect(), ..Delivered::default() })
    })
}

type ReceivedEvents = Arc<Mutex<BTreeMap<&'static str, Vec<String>>>>;
type Now = Box<dyn Fn() -> i64 + Send + Sync>;

const ALL: &[&str] = &["r1", "r2", "r3"];
const OTHERS: &[&str] = &["r1", "r4"];

/// Returns a bench with one email notifier, and the events that each recipient has received.
fn mail_bench(defers: fn(&str, i64) -> bool) -> (DeliveryBench, ReceivedEvents) {
    let received = ReceivedEvents::default();
    let began = tokio::time::Instant::now();
    let now: Now = Box::new(move || i64::try_from(began.elapsed().as_secs()).unwrap());
    let mail =
        TestNotifier { fallback: Some("slack"), ..TestNotifier::mail(ALL, mail_server(ALL, defers, &received, now)) };
    (DeliveryBench::of(vec![mail, TestNotifier::new("slack", always(ok))]), received)
}

#[tokio::test(start_paused = true)]
async fn a_deferred_recipient_never_gets_an_older_state_after_a_newer() {
    let (bench, received) = mail_bench(|who, now| who == "r2" && now < 5);
    bench.enqueue("acme", TransitionKind::Raised, &["mail"]).await;
    bench.pass(5).await;
    bench.enqueue("acme", TransitionKind::Resolved, &["mail"]).await;
    bench.pass(1).await;
    assert_eq!(received.lock().unwrap()["r1"], ["raised acme", "resolved acme"], "the others get it at once");
    bench.pass(60).await;
    for who in ALL {
        assert_eq!(received.lock().unwrap()[who], ["raised acme", "resolved acme"], "{who}");
    }
    assert_eq!((bench.pending("mail"), bench.sent("slack").len()), (0, 0));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_new_is_tried_at_once_for_a_deferred_recipient() {
    let (bench, received) = mail_bench(|who, now| who == "r2" && now < 3000);
    bench.enqueue("acme", TransitionKind::Raised, &["mail"]).await;
    bench.pass(3001).await;
    bench.enqueue("beta", TransitionKind::Escalated, &["mail"]).await;
    bench.pass(1).await;
    assert_eq!(received.lock().unwrap()["r2"], ["raised acme", "escalated beta"]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_recipient_deferred_for_long_holds_up_no_other_deferred_one() {
    let (bench, received) = mail_bench(|who, now| who == "r2" || (who == "r3" && (5..20).contains(&now)));
    bench.enqueue("acme", TransitionKind::Raised, &["mail"]).await;
    bench.pass(10).await;
    bench.enqueue("beta", TransitionKind::Raised, &["mail"]).await;
    bench.pass(100).await;
    assert_eq!(received.lock().unwrap()["r3"], ["raised acme", "raised beta"]);
    assert!(!received.lock().unwrap().contains_key("r2") && bench.sent("slack").is_empty());
    bench.end().await;
}

/// Plays events to recipients that are deferred in the given spans of time.
fn play_with_deferred_recipients(events: &[(u64, usize)], spans: &[(usize, i64, i64)]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (received, began, spans) = (ReceivedEvents::default(), tokio::time::Instant::now(), spans.to_vec());
        let now: Now = Box::new(move || i64::try_from(began.elapsed().as_secs()).unwrap());
        let defers = move |who: &str, now: i64| {
            spans.iter().any(|(index, from, length)| ALL[*index] == who && (*from..from + length).contains(&now))
        };
        let bench = DeliveryBench::of(vec![TestNotifier::mail(ALL, mail_server(ALL, defers, &received, now))]);
        let mut expected = Vec::new();
        for (n, (pause, account)) in events.iter().enumerate() {
            let kind =
                [TransitionKind::Raised, TransitionKind::Escalated, TransitionKind::Eased, TransitionKind::Resolved]
                    [n % 4];
            let account = format!("a{account}");
            bench.enqueue(&account, kind, &["mail"]).await;
            expected.push(format!("{} {account}", kind.name()));
            bench.pass(*pause).await;
        }
        bench.pass(2000).await;
        assert_eq!(bench.pending("mail"), 0);
        for who in ALL {
            assert_eq!(received.lock().unwrap()[who], expected, "{who} gets all of it, once and in order");
        }
        bench.end().await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_recipients_get_all_events_once_and_in_order(
        events in proptest::collection::vec((0u64..40, 0usize..3), 1..9),
        spans in proptest::collection::vec((0usize..3, 0i64..200, 1i64..120), 0..8),
    ) {
        play_with_deferred_recipients(&events, &spans);
    }
}

#[tokio::test(start_paused = true)]
async fn the_fallback_is_used_when_all_recipients_wait_for_older_events() {
    // All but r1 are deferred, then only r1 is accepted, then all of them.
    let (bench, received) = mail_bench(|who, now| match now {
        0..10 => who != "r1",
        _ => now < 4000,
    });
    bench.enqueue("acme", TransitionKind::Raised, &["mail"]).await;
    bench.pass(20).await;
    bench.enqueue("beta", TransitionKind::Raised, &["mail"]).await;
    bench.pass(310).await;
    assert_eq!(bench.sent("slack"), ["raised beta via mail"], "nobody was reached");
    bench.pass(4000).await;
    for who in ALL {
        assert_eq!(received.lock().unwrap()[who], ["raised acme", "raised beta"], "{who}");
    }
    assert_eq!(bench.pending("mail"), 0);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_recipient_that_leaves_the_configuration_is_waited_for_no_longer() {
    let (bench, _) = mail_bench(|who, _| who == "r2");
    bench.enqueue("acme", TransitionKind::Raised, &["mail"]).await;
    bench.pass(10).await;
    let received = ReceivedEvents::default();
    let answers: Answers = {
        let server = mail_server(OTHERS, |_, _| false, &received, Box::new(|| 0));
        Arc::new(move |message, attempt| match &message.remaining_recipients {
            Some(only) if only == &["r2".to_owned()] => Ok(Delivered {
                refused: vec![RecipientRefusal {
                    recipient: "r2".to_owned(),
                    reason: "no longer a recipient".to_owned(),
                }],
                ..Delivered::default()
            }),
            _ => server(message, attempt),
        })
    };
    let bench = bench.reload(vec![TestNotifier::mail(OTHERS, answers)]).await;
    bench.enqueue("acme", TransitionKind::Resolved, &["mail"]).await;
    bench.pass(10).await;
    assert_eq!(received.lock().unwrap()["r4"], ["resolved acme"]);
    assert_eq!(bench.pending("mail"), 0);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_permanent_refusal_drops_nothing_for_other_recipients() {
    let taken: Arc<Mutex<Vec<String>>> = Arc::default();
    let (log, began) = (Arc::clone(&taken), tokio::time::Instant::now());
    // Of r1 and r2, r2 is deferred for a minute, and from the tenth second r1 no longer exists.
    let answers: Answers = Arc::new(move |message, _| {
        let now = began.elapsed().as_secs();
        let asks = |who: &str| message.remaining_recipients.as_ref().is_none_or(|only| only.iter().any(|it| it == who));
        let (gone, later) = (now >= 10, asks("r2") && now < 60);
        if (later || !asks("r2")) && (gone || !asks("r1")) {
            return fails(!later);
        }
        if asks("r2") && !later {
            log.lock().unwrap().push(account_of(message));
        }
        let deferred = RecipientRefusal { recipient: "r2".to_owned(), reason: "451 later".to_owned() };
        Ok(Delivered { deferred: later.then_some(deferred).into_iter().collect(), ..Delivered::default() })
    });
    let mail = TestNotifier { fallback: Some("slack"), ..TestNotifier::mail(&["r1", "r2"], answers) };
    let bench = DeliveryBench::of(vec![mail, TestNotifier::new("slack", always(ok))]);
    bench.enqueue("acme", TransitionKind::Raised, &["mail"]).await;
    bench.pass(11).await;
    bench.enqueue("beta", TransitionKind::Escalated, &["mail"]).await;
    bench.pass(1).await;
    assert_eq!(bench.sent("slack"), ["escalated beta via mail"], "nobody was reached");
    assert_eq!(bench.pending("mail"), 2, "r2 has refused nothing");
    bench.pass(400).await;
    assert_eq!((bench.pending("mail"), bench.attempts("mail").last().unwrap().1.len()), (0, 2));
    assert_eq!(taken.lock().unwrap().as_slice(), ["acme"], "one mail with both");
    let beta = AlertKey { account: "beta".into(), division: None, rule: "funds".into() };
    assert!(bench.store.read(|state| state.notified_of(&beta).any(|name| *name == *"mail")), "the end is for it too");
    bench.end().await;
}

/// Queues an event of an alert, or the notice that its division is gone.
fn queue_of(state: &mut State, at: lowtide::domain::Time, rule: &str, gone: bool) {
    let subject = if gone {
        let rules = vec![rule.into()];
        EventSubject::Unwatched { account: "acme".into(), division: None, division_name: None, rules }
    } else {
        let mut other = State::default();
        stepped::enqueue_in(&mut other, at, "acme", TransitionKind::Escalated, &["hook"]);
        let mut subject = other.queue.events()[0].event.subject.clone();
        let EventSubject::Threshold(event) = &mut subject else { panic!("no alert") };
        event.key.rule = rule.into();
        subject
    };
    state.queue.enqueue(NewEvent::notice(subject, at, ["hook".into()].into()));
}

/// Returns the rule of a message's alert, or `gone` and the rules of a notice.
fn about(message: &Message) -> String {
    let MessageContent::Events(items) = &message.content else { panic!("no events") };
    match &items[0].event.subject {
        EventSubject::Unwatched { rules, .. } => format!("gone {}", rules.join(" ")),
        subject => subject.alert().map(|key| key.rule.to_string()).unwrap_or_default(),
    }
}

#[tokio::test(start_paused = true)]
async fn an_alert_waits_for_no_notice_that_names_other_alerts() {
    let sent: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&sent);
    let answers: Answers = Arc::new(move |message, _| {
        if about(message) == "a" {
            return fails(false);
        }
        log.lock().unwrap().push(about(message));
        ok()
    });
    let bench = DeliveryBench::of(vec![TestNotifier::one_by_one(answers)]);
    let events = [("a", false), ("a", true), ("b", false), ("b", true), ("b", false), ("c", true)];
    for (rule, gone) in events {
        let at = bench.clock.now();
        bench.store.change(|state| (queue_of(state, at, rule, gone), true)).await;
    }
    bench.pass(60).await;
    assert_eq!(bench.pending("hook"), 2, "a, and the notice that ends it");
    let sent = sent.lock().unwrap().clone();
    let of_b: Vec<&String> = sent.iter().filter(|it| it.ends_with('b')).collect();
    assert_eq!(of_b, ["b", "gone b", "b"], "its own order is kept");
    assert!(sent.contains(&"gone c".to_owned()), "{sent:?}");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_fallback_gets_what_waits_behind_an_alert_that_fails() {
    let answers: Answers = Arc::new(|message, _| if about(message) == "a" { fails(false) } else { ok() });
    let fallback: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&fallback);
    let mail: Answers = Arc::new(move |message, _| {
        let MessageContent::Events(items) = &message.content else { panic!("no events") };
        log.lock().unwrap().extend(items.iter().map(|item| item.event.subject.identity()));
        ok()
    });
    let hook = TestNotifier { fallback: Some("mail"), ..TestNotifier::one_by_one(answers) };
    let bench = DeliveryBench::of(vec![hook, TestNotifier::new("mail", mail)]);
    let at = bench.clock.now();
    let both = |state: &mut State| {
        queue_of(state, at, "a", false);
        let rules = vec!["a".into(), "b".into()];
        let subject = EventSubject::Unwatched { account: "acme".into(), division: None, division_name: None, rules };
        state.queue.enqueue(NewEvent::notice(subject, at, ["hook".into()].into()));
        queue_of(state, at, "b", false);
        queue_of(state, at, "c", false);
        ((), true)
    };
    bench.store.change(both).await;
    bench.pass(330).await;
    assert_eq!(fallback.lock().unwrap().len(), 3, "{fallback:?}");
    let at = bench.clock.now();
    bench.store.change(|state| (queue_of(state, at, "b", false), true)).await;
    bench.pass(5).await;
    assert_eq!((fallback.lock().unwrap().len(), bench.pending("hook")), (4, 4), "what is new behind it, at once");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_report_that_is_refused_for_the_moment_holds_up_no_alert() {
    let answers: Answers = Arc::new(|message, _| if account_of(message).is_empty() { fails(false) } else { ok() });
    let bench = DeliveryBench::new(&[("slack", None, answers)]);
    let page = ReportPage {
        name: "weekly".into(),
        due: bench.clock.now(),
        compared_with: None,
        next: None,
        rows: Vec::new(),
        silences: Vec::new(),
        failing: Vec::new(),
    };
    let enqueue = |state: &mut State| {
        let to = BTreeSet::from([Name::from("slack")]);
        state.queue.enqueue(NewEvent::notice(EventSubject::Report(Box::new(page)), epoch(), to.clone()));
        ((), true)
    };
    bench.store.change(enqueue).await;
    bench.pass(1).await;
    bench.enqueue("acme", TransitionKind::Raised, &["slack"]).await;
    bench.pass(1).await;
    assert!(bench.sent("slack").contains(&"raised acme".to_owned()), "{:?}", bench.sent("slack"));
    assert_eq!(bench.pending("slack"), 1);
    bench.end().await;
}

fn notifier(name: &'static str, fallback: Option<&'static str>, answer: fn() -> AttemptResult) -> TestNotifier {
    TestNotifier { fallback, ..TestNotifier::new(name, always(answer)) }
}

#[tokio::test(start_paused = true)]
async fn a_fallback_replaced_while_both_are_down_is_used_too() {
    for (permanent, old_stays) in [(false, false), (false, true), (true, false), (true, true)] {
        let slack: fn() -> AttemptResult = if permanent { || fails(true) } else { || fails(false) };
        let bench =
            DeliveryBench::of(vec![notifier("slack", Some("old"), slack), notifier("old", None, || fails(false))]);
        bench.enqueue("acme", TransitionKind::Raised, &["slack"]).await;
        bench.pass(400).await;
        assert!(bench.sent("old").contains(&"raised acme via slack".to_owned()));
        let mut notifiers = vec![notifier("slack", Some("new"), slack), notifier("new", None, ok)];
        if old_stays {
            notifiers.push(notifier("old", None, || fails(false)));
        }
        let bench = bench.reload(notifiers).await;
        bench.pass(2).await;
        assert_eq!(bench.sent("new"), ["raised acme via slack"], "permanent: {permanent}, old stays: {old_stays}");
        bench.pass(1000).await;
        assert_eq!(bench.sent("new").len(), 1);
        assert_eq!((bench.pending("slack"), bench.pending("new")), (usize::from(!permanent), 0));
        bench.end().await;
    }
}

#[test]
fn what_a_removed_fallback_had_queued_goes_to_the_new_one() {
    // As an earlier version wrote it: Slack rejected permanently, or is still retried, and `old` has taken over.
    let older = r#"{ "version": 1, "owed": [
        { "event": { "id": "1", "at": "2026-11-20T09:15:00Z", "about": "notifier_recovered", "notifier": "x",
            "since": "2026-11-20T09:00:00Z", "audience": ["slack", "old"] },
          "to": { "old": { "via": ["slack", "refused"] } } },
        { "event": { "id": "2", "at": "2026-11-20T09:15:00Z", "about": "notifier_recovered", "notifier": "y",
            "since": "2026-11-20T09:00:00Z", "audience": ["slack", "old"] },
          "to": { "old": { "via": ["slack", "down"] }, "slack": { "handed_over": true } } },
        { "event": { "id": "3", "at": "2026-11-20T09:15:00Z", "about": "notifier_recovered", "notifier": "z",
            "since": "2026-11-20T09:00:00Z", "audience": ["old"] },
          "to": { "old": {} } } ] }"#;
    let mut state = lowtide::state::decode(older.as_bytes()).unwrap().state;
    assert_eq!(state.hand_over_to_new_fallbacks(|name| (name == "slack").then(|| "new".into())), 2);
    assert_eq!(state.hand_over_to_new_fallbacks(|name| (name == "slack").then(|| "new".into())), 0, "once");
    let dropped = state.drop_unconfigured_notifiers(|name| name != "old");
    assert_eq!(dropped, [(Name::from("old"), 3)].into());
    let queued = |name: &str| state.queue.pending_for(name).map(|(event, _)| event.id.clone()).collect::<Vec<_>>();
    assert_eq!((queued("new"), queued("slack")), (vec!["1".to_owned(), "2".to_owned()], vec!["2".to_owned()]));
}

/// Hangs until the time-out and fails, for alerts of accounts with this in their names.
struct HangingChannel(Arc<dyn Clock>, &'static str, AttemptLog);

#[async_trait]
impl Notifier for HangingChannel {
    async fn send(&self, message: &Message) -> AttemptResult {
        let account = account_of(message);
        let hangs = account.contains(self.1);
        self.2.lock().unwrap().push(((self.0.now() - epoch()).num_seconds(), vec![account]));
        if hangs {
            tokio::time::sleep(Duration::from_secs(10)).await;
            return fails(false);
        }
        ok()
    }

    fn one_event_per_request(&self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn alerts_that_run_into_time_outs_leave_every_other_alert_its_turn() {
    for hanging in [2usize, 5, 40] {
        let bench = DeliveryBench::of(Vec::new());
        let stop = CancellationToken::new();
        let log = AttemptLog::default();
        let hook = HangingChannel(Arc::clone(&bench.clock), "bad", Arc::clone(&log));
        let route = Route { notifier: Arc::new(hook), fallback: None, quiet_hours: None };
        let (store, clock) = (Arc::clone(&bench.store), Arc::clone(&bench.clock));
        let worker =
            tokio::spawn(DeliveryWorker::new("hook".into(), route, BTreeSet::new(), store, clock).run(stop.clone()));
        for n in 0..hanging {
            bench.enqueue(&format!("bad{n}"), TransitionKind::Escalated, &["hook"]).await;
        }
        for n in 0..20 {
            bench.enqueue(&format!("good{n}"), TransitionKind::Raised, &["hook"]).await;
        }
        let waited = |name: &str| log.lock().unwrap().iter().find(|it| it.1 == [name.to_owned()]).map(|it| it.0);
        // Critical events are tried once before.
        let most = 10 * (i64::try_from(hanging).unwrap() + 40);
        bench.pass(1000).await;
        for n in 0..20 {
            assert!(waited(&format!("good{n}")).is_some_and(|at| at <= most), "{hanging}: {:?}", log.lock().unwrap());
        }
        for n in 0..10 {
            bench.pass(1000).await;
            let name = format!("late{n}");
            let queued = (bench.clock.now() - epoch()).num_seconds();
            bench.enqueue(&name, TransitionKind::Raised, &["hook"]).await;
            bench.pass(60).await;
            assert!(waited(&name).is_some_and(|at| at <= queued + 21), "{hanging}: {:?}", waited(&name));
        }
        assert_eq!(bench.pending("hook"), hanging);
        stop.cancel();
        worker.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_refused_by_others_still_reaches_a_deferred_recipient() {
    let received = ReceivedEvents::default();
    let began = tokio::time::Instant::now();
    let server = {
        let now: Now = Box::new(move || i64::try_from(began.elapsed().as_secs()).unwrap());
        mail_server(ALL, |who, now| who == "r2" && now < 100, &received, now)
    };
    let answers: Answers = Arc::new(move |message, attempt| match &message.remaining_recipients {
        Some(only) if only.len() == 2 => fails(true),
        _ => server(message, attempt),
    });
    let mail = TestNotifier { fallback: Some("slack"), ..TestNotifier::mail(ALL, answers) };
    let bench = DeliveryBench::of(vec![mail, TestNotifier::new("slack", always(ok))]);
    bench.enqueue("acme", TransitionKind::Raised, &["mail"]).await;
    bench.pass(10).await;
    bench.enqueue("acme", TransitionKind::Escalated, &["mail"]).await;
    bench.pass(10).await;
    assert_eq!(bench.sent("slack"), ["escalated acme via mail"], "nobody was reached yet");
    bench.pass(600).await;
    assert_eq!(received.lock().unwrap()["r2"], ["raised acme", "escalated acme"]);
    assert_eq!(bench.pending("mail"), 0);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn reminders_that_replace_one_another_reach_the_fallback_all_the_same() {
    let bench = DeliveryBench::of(vec![notifier("slack", Some("mail"), || fails(false)), notifier("mail", None, ok)]);
    for _ in 0..5 {
        bench.enqueue("acme", TransitionKind::Reminder, &["slack"]).await;
        bench.pass(200).await;
    }
    assert!(!bench.sent("mail").is_empty());
    bench.end().await;
}

#[test]
fn pauses_double_from_a_second_to_five_minutes() {
    let seconds = |attempts| retry_delay(attempts, None, 1.0).as_secs();
    assert_eq!((1..12).map(seconds).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    assert_eq!(retry_delay(u32::MAX, None, 1.25).as_secs(), 300);
    assert_eq!(retry_delay(1, Some(Duration::from_secs(90)), 1.0).as_secs(), 90);
}
