//! What becomes of what is owed, on a clock that the test steps: pace, fallback, reports, order, bounds. No real time passes.

#![allow(clippy::unwrap_used, clippy::unnecessary_wraps)] // panicking is how a test ends; answers have one shape

#[path = "support/stepped.rs"]
mod stepped;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lowtide::clock::Clock;
use lowtide::domain::Name;
use lowtide::domain::alert::{AlertKey, Kind};
use lowtide::domain::event::Subject;
use lowtide::domain::state::State;
use lowtide::notify::outbox::{Desk, Worker, pause_after};
use lowtide::notify::{Content, Delivered, Message, Notifier, Refusal, SendError};
use lowtide::store::Book;
use stepped::{Disk, Stepped, epoch};
use tokio::sync::watch;
use tokio::task::JoinSet;

type Answer = Result<Delivered, SendError>;
/// When a channel was asked, in seconds, and what it was to tell.
type Log = Arc<Mutex<Vec<(i64, Vec<String>)>>>;
type Answers = Arc<dyn Fn(&Message, u32) -> Answer + Send + Sync>;

/// A channel that answers as the test says, and remembers when it was asked and for what.
struct Fake {
    clock: Arc<dyn Clock>,
    answers: Answers,
    asked: Log,
    tries: Mutex<u32>,
}

#[async_trait]
impl Notifier for Fake {
    async fn send(&self, message: &Message) -> Answer {
        let Content::Events(items) = &message.content else { panic!("no events") };
        let told = items.iter().map(|item| {
            let what = match &item.event.subject {
                Subject::Threshold(event) => format!("{} {}", event.kind.name(), event.key.account),
                Subject::NotifierFailing { notifier, .. } => format!("{notifier} fails"),
                Subject::NotifierRecovered { notifier, .. } => format!("{notifier} recovered"),
                _ => "other".to_owned(),
            };
            let via = item.via.as_ref().map(|via| format!(" via {}", via.notifier)).unwrap_or_default();
            let omitted = if item.omitted > 0 { format!(" after {} more", item.omitted) } else { String::new() };
            what + &via + &omitted
        });
        let told = told.collect();
        self.asked.lock().unwrap().push(((self.clock.now() - epoch()).num_seconds(), told));
        let tries = {
            let mut tries = self.tries.lock().unwrap();
            *tries += 1;
            *tries
        };
        (self.answers)(message, tries)
    }
}

struct Bench {
    book: Arc<Book>,
    clock: Arc<dyn Clock>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    asked: BTreeMap<&'static str, Log>,
}

fn ok() -> Answer {
    Ok(Delivered::default())
}

fn fails(permanent: bool) -> Answer {
    Err(SendError { permanent, reason: "no_service".to_owned(), retry_after: None, refused: Vec::new() })
}

impl Bench {
    fn new(notifiers: &[(&'static str, Option<&str>, Answers)]) -> Self {
        let clock: Arc<dyn Clock> = Stepped::begin();
        let book = Arc::new(Book::new(State::default(), Arc::new(Disk)));
        let (stop, stopped) = watch::channel(false);
        let everyone: BTreeSet<Name> = notifiers.iter().map(|(name, ..)| Name::from(*name)).collect();
        let (mut tasks, mut asked) = (JoinSet::new(), BTreeMap::new());
        for (name, fallback, answers) in notifiers {
            let log = Arc::new(Mutex::new(Vec::new()));
            asked.insert(*name, Arc::clone(&log));
            let fake =
                Fake { clock: Arc::clone(&clock), answers: Arc::clone(answers), asked: log, tries: Mutex::new(0) };
            let desk = Desk { notifier: Arc::new(fake), fallback: fallback.map(Name::from), quiet_hours: None };
            let worker = Worker::new((*name).into(), desk, everyone.clone(), Arc::clone(&book), Arc::clone(&clock));
            tasks.spawn(worker.run(stopped.clone()));
        }
        Self { book, clock, stop, tasks, asked }
    }

    async fn owe(&self, account: &str, kind: Kind, to: &[&str]) {
        stepped::owe(&self.book, self.clock.now(), account, kind, to).await;
    }

    async fn pass(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    fn asked(&self, name: &str) -> Vec<(i64, Vec<String>)> {
        self.asked[name].lock().unwrap().clone()
    }

    fn told(&self, name: &str) -> Vec<String> {
        self.asked(name).into_iter().flat_map(|(_, told)| told).collect()
    }

    fn owed(&self, name: &str) -> usize {
        self.book.read(|state| state.owed_to(name).count())
    }

    async fn end(mut self) {
        self.stop.send(true).unwrap();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

fn always(answer: fn() -> Answer) -> Answers {
    Arc::new(move |_, _| answer())
}

#[tokio::test(start_paused = true)]
async fn what_is_delivered_is_owed_no_more_and_never_sent_again() {
    let bench = Bench::new(&[("slack", None, always(ok))]);
    bench.owe("acme", Kind::Raised, &["slack"]).await;
    bench.pass(3600).await;
    assert_eq!(bench.asked("slack"), [(0, vec!["raised acme".to_owned()])]);
    assert_eq!(bench.owed("slack"), 0);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_notifier_is_tried_again_with_growing_pauses_and_what_it_owes_stays_owed() {
    let bench = Bench::new(&[("slack", None, always(|| fails(false)))]);
    bench.owe("acme", Kind::Raised, &["slack"]).await;
    bench.pass(4 * 3600).await;
    let times: Vec<i64> = bench.asked("slack").iter().map(|(at, _)| *at).collect();
    let pauses: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((1..=2).contains(&pauses[0]), "{pauses:?}");
    assert!(pauses.iter().all(|pause| (1..=301).contains(pause)), "{pauses:?}");
    assert!(pauses[10..].iter().all(|pause| *pause >= 220), "{pauses:?}");
    assert_eq!(bench.owed("slack"), 1);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn after_five_minutes_of_failure_the_fallback_is_told_and_says_so_and_only_once() {
    let bench = Bench::new(&[("slack", Some("mail"), always(|| fails(false))), ("mail", None, always(ok))]);
    bench.owe("acme", Kind::Raised, &["slack"]).await;
    bench.pass(299).await;
    assert!(bench.told("mail").is_empty());
    bench.pass(3).await;
    assert_eq!(bench.told("mail"), ["raised acme via slack"]);
    bench.pass(3000).await;
    assert_eq!(bench.told("mail"), ["raised acme via slack"]);
    assert_eq!(bench.owed("slack"), 1, "it is still owed to the notifier itself");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_permanent_refusal_goes_to_the_fallback_at_once_and_is_owed_no_more() {
    let bench = Bench::new(&[("slack", Some("mail"), always(|| fails(true))), ("mail", None, always(ok))]);
    bench.owe("acme", Kind::Raised, &["slack"]).await;
    bench.pass(1).await;
    assert_eq!(bench.told("mail"), ["raised acme via slack"]);
    assert_eq!((bench.owed("slack"), bench.asked("slack").len()), (0, 1));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_fallback_that_is_told_the_same_event_anyway_is_not_told_twice() {
    let bench = Bench::new(&[("slack", Some("mail"), always(|| fails(true))), ("mail", None, always(ok))]);
    bench.owe("acme", Kind::Raised, &["slack", "mail"]).await;
    bench.pass(600).await;
    assert_eq!(bench.told("mail"), ["raised acme"]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_heard_the_beginning_through_a_fallback_hears_the_end() {
    let bench = Bench::new(&[("slack", Some("mail"), always(|| fails(true))), ("mail", None, always(ok))]);
    bench.owe("acme", Kind::Raised, &["slack"]).await;
    bench.pass(1).await;
    let key = AlertKey { account: "acme".into(), division: None, rule: "funds".into() };
    let told = bench.book.read(|state| state.told_or_owed(&key));
    assert_eq!(told, BTreeSet::from([Name::from("mail")]));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_notifier_that_failed_for_an_hour_is_reported_through_the_others_and_so_is_its_recovery() {
    let until =
        |answer: fn() -> Answer| -> Answers { Arc::new(move |_, tries| if tries < 25 { answer() } else { ok() }) };
    let bench =
        Bench::new(&[("slack", None, until(|| fails(false))), ("mail", None, always(ok)), ("other", None, always(ok))]);
    bench.owe("acme", Kind::Raised, &["slack"]).await;
    bench.pass(3500).await;
    assert!(bench.told("mail").is_empty());
    bench.pass(200).await;
    assert_eq!(bench.told("mail"), ["slack fails"]);
    bench.pass(4 * 3600).await;
    assert_eq!(bench.told("mail"), ["slack fails", "slack recovered"]);
    assert_eq!(bench.told("other"), ["slack fails", "slack recovered"]);
    assert_eq!(bench.owed("slack"), 0);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_notifier_that_was_down_for_a_day_tells_everything_in_one_message_without_stale_reminders() {
    let gate = Arc::new(Mutex::new(false));
    let open = Arc::clone(&gate);
    let answers: Answers = Arc::new(move |_, _| if *open.lock().unwrap() { ok() } else { fails(false) });
    let bench = Bench::new(&[("slack", None, answers)]);
    bench.owe("acme", Kind::Raised, &["slack"]).await;
    for _ in 0..5 {
        bench.pass(4 * 3600).await;
        bench.owe("acme", Kind::Reminder, &["slack"]).await;
    }
    bench.owe("other", Kind::Raised, &["slack"]).await;
    bench.owe("acme", Kind::Resolved, &["slack"]).await;
    *gate.lock().unwrap() = true;
    bench.pass(400).await;
    let last = bench.asked("slack").pop().unwrap().1;
    assert_eq!(last, ["raised acme", "raised other", "resolved acme"]);
    assert_eq!(bench.owed("slack"), 0);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn of_an_alerts_events_ten_are_kept_the_oldest_and_the_newest_and_the_rest_is_counted() {
    let bench = Bench::new(&[("slack", None, always(|| fails(false)))]);
    bench.owe("acme", Kind::Raised, &["slack"]).await;
    for _ in 0..15 {
        bench.pass(10).await;
        bench.owe("acme", Kind::Escalated, &["slack"]).await;
        bench.pass(10).await;
        bench.owe("acme", Kind::Eased, &["slack"]).await;
    }
    bench.pass(600).await;
    let last = bench.asked("slack").pop().unwrap().1;
    assert_eq!(last.len(), 10);
    assert_eq!(last[0], "raised acme");
    assert_eq!(last[1], "eased acme after 21 more", "{last:?}");
    assert_eq!(last[9], "eased acme");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_notifier_that_hangs_delays_no_other() {
    struct Hangs;
    #[async_trait]
    impl Notifier for Hangs {
        async fn send(&self, _: &Message) -> Answer {
            std::future::pending().await
        }
    }
    let bench = Bench::new(&[("slack", None, always(ok))]);
    let (stop, stopped) = watch::channel(false);
    let desk = Desk { notifier: Arc::new(Hangs), fallback: None, quiet_hours: None };
    let worker = Worker::new("mail".into(), desk, BTreeSet::new(), Arc::clone(&bench.book), Arc::clone(&bench.clock));
    let hanging = tokio::spawn(worker.run(stopped));
    bench.owe("acme", Kind::Raised, &["mail", "slack"]).await;
    bench.pass(1).await;
    assert_eq!(bench.asked("slack"), [(0, vec!["raised acme".to_owned()])]);
    assert_eq!(bench.owed("mail"), 1);
    hanging.abort();
    drop(stop);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_recipient_refused_for_the_moment_is_retried_alone_and_holds_up_nobody() {
    let answers: Answers = Arc::new(|message, _| match &message.only {
        None => Ok(Delivered {
            deferred: vec![Refusal { recipient: "b@x".to_owned(), reason: "450".to_owned() }],
            ..Delivered::default()
        }),
        Some(only) => {
            assert_eq!(only, &["b@x".to_owned()]);
            ok()
        }
    });
    let bench = Bench::new(&[("mail", Some("slack"), answers), ("slack", None, always(ok))]);
    bench.owe("acme", Kind::Raised, &["mail"]).await;
    bench.pass(60).await;
    assert_eq!(bench.asked("mail").len(), 2);
    assert_eq!(bench.owed("mail"), 0);
    assert!(bench.told("slack").is_empty(), "the fallback is only asked where nobody was reached");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_recipient_refused_for_good_when_retried_alone_says_nothing_about_the_notifier() {
    let answers: Answers = Arc::new(|message, _| match &message.only {
        None => {
            let refusal = Refusal { recipient: "b@x".to_owned(), reason: "450".to_owned() };
            Ok(Delivered { deferred: vec![refusal], ..Delivered::default() })
        }
        Some(_) => fails(true),
    });
    let bench = Bench::new(&[("mail", Some("slack"), answers), ("slack", None, always(ok))]);
    bench.owe("acme", Kind::Raised, &["mail"]).await;
    bench.pass(2 * 3600).await;
    assert_eq!((bench.asked("mail").len(), bench.owed("mail")), (2, 0));
    assert!(bench.told("slack").is_empty(), "{:?}", bench.told("slack"));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_long_ago_does_not_hurry_a_new_event_to_the_fallback() {
    let answers: Answers = Arc::new(|_, tries| match tries {
        1 => fails(true),
        2 => fails(false),
        _ => ok(),
    });
    let bench = Bench::new(&[("slack", Some("mail"), answers), ("mail", None, always(ok))]);
    bench.owe("acme", Kind::Raised, &["slack"]).await;
    bench.pass(1800).await;
    assert_eq!(bench.told("mail"), ["raised acme via slack"]);
    bench.owe("other", Kind::Raised, &["slack"]).await;
    bench.pass(600).await;
    assert_eq!(bench.told("mail"), ["raised acme via slack"]);
    assert_eq!(bench.told("slack"), ["raised acme", "raised other", "raised other"]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_the_server_asks_for_is_obeyed() {
    let answers: Answers = Arc::new(|_, tries| match tries {
        1 => Err(SendError {
            permanent: false,
            reason: "429".to_owned(),
            retry_after: Some(Duration::from_secs(120)),
            refused: Vec::new(),
        }),
        _ => ok(),
    });
    let bench = Bench::new(&[("slack", None, answers)]);
    bench.owe("acme", Kind::Raised, &["slack"]).await;
    bench.pass(1).await;
    bench.owe("other", Kind::Raised, &["slack"]).await;
    bench.pass(600).await;
    assert_eq!(bench.asked("slack")[1], (120, vec!["raised acme".to_owned(), "raised other".to_owned()]));
    bench.end().await;
}

#[test]
fn pauses_double_from_a_second_to_five_minutes() {
    let seconds = |tries| pause_after(tries, None, 1.0).as_secs();
    assert_eq!((1..12).map(seconds).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    assert_eq!(pause_after(u32::MAX, None, 1.25).as_secs(), 300);
    assert_eq!(pause_after(1, Some(Duration::from_secs(90)), 1.0).as_secs(), 90);
}
