//! Two thousand divisions at once, while Slack will not listen: everybody's alert is told or counted, none is forgotten,
//! every payload fits, and what is owed, the state and the time that a cycle takes stay bounded.

#![allow(clippy::cast_precision_loss)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use crate::support::hostile;
use crate::support::service::{
    JumpingClock, RecordingBackend, RecordingNotifier, TestFunds, TestService, balance, fails, items, policy, poller,
    rule,
};
use async_trait::async_trait;
use lowtide::alerting::policy::DivisionScope;
use lowtide::alerting::process::process;
use lowtide::alerting::queue::MAX_QUEUED_PER_ALERT;
use lowtide::alerting::readings::{AccountReadings, DivisionReading};
use lowtide::alerting::state::State;
use lowtide::domain::Name;
use lowtide::domain::event::EventSubject;
use lowtide::domain::schedule::Schedule;
use lowtide::notify::channels::email::rendering::email;
use lowtide::notify::channels::slack::payload;
use lowtide::notify::delivery::{DeliveryWorker, Route};
use lowtide::notify::{Delivered, Message, MessageContent, MessageContext, MessageEvent, Notifier, SendError};
use lowtide::polling::poller::{Poller, PollerState};
use lowtide::state::{DecodedState, StateBackend, StateStore, decode, encode};
use lowtide::util::clock::Clock;

const DIVISIONS: u64 = 2000;
/// Flapping is measured with fewer, so that a debug build is done soon.
const FLAPPING: u64 = 500;
const FLAPPING_ALERTS: usize = 500;
const DAY: Duration = Duration::from_secs(24 * 3600);
const PERIOD: Duration = Duration::from_secs(15 * 60);

fn words() -> MessageContext {
    let console_urls = BTreeMap::from([(Name::from("acme"), "https://www.digicert.com/secure/".to_owned())]);
    MessageContext { timezone: chrono_tz::Europe::Amsterdam, rules: BTreeMap::new(), console_urls }
}

/// Divisions in a message: told in full or in a line, and counted in "and N more". Each has figures of its own.
fn shown_and_counted(message: &Message) -> (usize, usize) {
    let json = payload(message, &words(), &BTreeMap::new());
    hostile::fits_slack(&json.to_string());
    let attachments = json["attachments"].as_array().unwrap();
    let (full, rest) = attachments.split_at(attachments.len().min(10));
    let mut shown = full.len();
    let mut counted = 0;
    for line in rest.iter().flat_map(|it| it["blocks"][0]["text"]["text"].as_str().unwrap().lines()) {
        match line.strip_prefix("and ").and_then(|it| it.strip_suffix(" more")) {
            Some(more) => counted += more.parse::<usize>().unwrap(),
            None => shown += 1,
        }
    }
    (shown, counted)
}

fn divisions_of(message: &Message) -> BTreeSet<u64> {
    items(message).iter().filter_map(|item| item.event.alert()?.division).collect()
}

#[tokio::test(start_paused = true)]
async fn two_thousand_falls_at_once_are_all_shown_or_counted_in_slack() {
    let clock = JumpingClock::new("2026-11-23T08:00:00Z".parse().unwrap());
    let funds = TestFunds::new(&clock, (1..=DIVISIONS).map(Some), 5000);
    let channel = RecordingNotifier::new(&clock);
    let policy = policy(DivisionScope::All(BTreeSet::new()), rule(Duration::ZERO, DAY, &["chat"]));
    let poller = poller(Arc::clone(&funds) as _, &clock, policy);
    let schedule = Schedule::parse("every 15m", chrono_tz::UTC).unwrap();
    let service = TestService::start(&clock, poller, schedule, &[("chat", None, &channel)]).await;
    service.pass(Duration::from_secs(60)).await;
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    channel.answers(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        fails(Some(Duration::from_secs(120)))
    });
    // Every division has figures of its own, so that none share an entry.
    funds.set(|division| 100 + i64::try_from(division.unwrap() % 1900).unwrap());
    service.pass(PERIOD).await;
    assert_eq!(service.store.read(|state| state.queue.len()), 2000);
    service.pass(PERIOD * 3).await;
    let tries = requests.load(Ordering::SeqCst);
    assert!((10..=30).contains(&tries), "{tries} tries in an hour of Retry-After: 120");
    assert!(channel.sent.lock().unwrap().iter().all(|(_, taken, it)| !taken && divisions_of(it).len() == 2000));

    channel.answers(|_| Ok(Delivered::default()));
    service.pass(Duration::from_secs(300)).await;
    let received = channel.sent.lock().unwrap().clone();
    let taken: Vec<&Message> = received.iter().filter(|(_, taken, _)| *taken).map(|(_, _, message)| message).collect();
    assert_eq!(taken.len(), 1, "one message");
    assert_eq!(divisions_of(taken[0]), (1..=DIVISIONS).collect());
    let (shown, counted) = shown_and_counted(taken[0]);
    // Of 2,000 figures 100 come twice: those two divisions are one entry that names both.
    assert_eq!((shown >= 11, shown + counted), (true, 1900));
    assert!(service.store.read(|state| state.queue.is_empty() && state.alerts.len() == 2000));
    assert!(service.store.read(|state| state.alerts.values().all(|it| it.alert.notified.len() == 1)));
    service.stop().await;
}

/// A notifier that takes one event at a time, in so many milliseconds.
struct OneByOneNotifier(u64);

#[async_trait]
impl Notifier for OneByOneNotifier {
    async fn send(&self, _: &Message) -> Result<Delivered, SendError> {
        tokio::time::sleep(Duration::from_millis(self.0)).await;
        Ok(Delivered::default())
    }

    fn one_event_per_request(&self) -> bool {
        true
    }
}

/// Each save used to write everything that was still pending: 1,072 saves of 1,015 MB altogether.
#[tokio::test(start_paused = true)]
async fn a_thousand_deliveries_one_by_one_share_their_saves() {
    let clock = JumpingClock::new("2026-11-23T08:00:00Z".parse().unwrap());
    let funds = TestFunds::new(&clock, (1..=1072).map(Some), 100);
    let (disk, mut poller_state) = (Arc::new(RecordingBackend::default()), PollerState::default());
    let store = Arc::new(StateStore::new(State::default(), Arc::clone(&disk) as Arc<dyn StateBackend>));
    let policy = policy(DivisionScope::All(BTreeSet::new()), rule(Duration::ZERO, DAY, &["hook"]));
    cycle(&poller(Arc::clone(&funds) as _, &clock, policy), &mut poller_state, &store).await;
    assert_eq!(store.read(|state| state.queue.len()), 1072);
    let saved = || (disk.written.load(Ordering::SeqCst), disk.saves.load(Ordering::SeqCst));
    let before = saved();
    let route = Route { notifier: Arc::new(OneByOneNotifier(1)), fallback: None, quiet_hours: None };
    let worker = DeliveryWorker::new("hook".into(), route, BTreeSet::new(), Arc::clone(&store), clock);
    let stop = CancellationToken::new();
    let task = tokio::spawn(worker.run(stop.clone()));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(decode(&disk.last.lock().unwrap()).unwrap().state.queue.is_empty(), "all of it is marked on disk");
    stop.cancel();
    task.await.unwrap();
    let (bytes, saves) = (saved().0 - before.0, saved().1 - before.1);
    println!("{saves} saves, {:.1} MB", bytes as f64 / 1e6);
    assert!(saves <= 1072 / 25 + 40 && bytes < 60_000_000, "{bytes} bytes in {saves} saves");
}

/// Looks at the disk, now and then before it takes an event, as a crash at that moment would leave it.
struct DiskWitness {
    disk: Arc<RecordingBackend>,
    taken: Mutex<BTreeSet<String>>,
    repeats: Arc<AtomicUsize>,
}

#[async_trait]
impl Notifier for DiskWitness {
    async fn send(&self, message: &Message) -> Result<Delivered, SendError> {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let id = items(message)[0].event.id.clone();
        let taken = {
            let mut taken = self.taken.lock().unwrap();
            assert!(taken.insert(id), "nothing is sent twice while the service lives");
            taken.clone()
        };
        if taken.len() % 11 == 0 {
            let state = decode(&self.disk.last.lock().unwrap()).unwrap().state;
            let queued: BTreeSet<String> = state.queue.pending_for("hook").map(|(event, _)| event.id.clone()).collect();
            assert_eq!(queued.union(&taken).count(), 400, "nothing is lost");
            self.repeats.fetch_max(queued.intersection(&taken).count(), Ordering::SeqCst);
        }
        Ok(Delivered::default())
    }

    fn one_event_per_request(&self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_repeats_no_more_than_the_few_deliveries_that_share_a_save() {
    let clock = JumpingClock::new("2026-11-23T08:00:00Z".parse().unwrap());
    let funds = TestFunds::new(&clock, (1..=400).map(Some), 100);
    let (disk, mut poller_state) = (Arc::new(RecordingBackend::default()), PollerState::default());
    let store = Arc::new(StateStore::new(State::default(), Arc::clone(&disk) as Arc<dyn StateBackend>));
    let policy = policy(DivisionScope::All(BTreeSet::new()), rule(Duration::ZERO, DAY, &["hook"]));
    cycle(&poller(Arc::clone(&funds) as _, &clock, policy), &mut poller_state, &store).await;
    let repeats = Arc::new(AtomicUsize::new(0));
    let witness = DiskWitness { disk, taken: Mutex::default(), repeats: Arc::clone(&repeats) };
    let route = Route { notifier: Arc::new(witness), fallback: None, quiet_hours: None };
    let stop = CancellationToken::new();
    let worker = DeliveryWorker::new("hook".into(), route, BTreeSet::new(), Arc::clone(&store), clock);
    let task = tokio::spawn(worker.run(stop.clone()));
    tokio::time::sleep(Duration::from_secs(10)).await;
    stop.cancel();
    task.await.unwrap();
    assert!(store.read(|state| state.queue.is_empty()));
    // The one that is under way is the twenty-sixth.
    let most = repeats.load(Ordering::SeqCst);
    assert!((2..=26).contains(&most), "{most} would be repeated");
}

/// One cycle of all divisions, as the service runs it. Returns how long it took.
async fn cycle(poller: &Poller, poller_state: &mut PollerState, store: &StateStore) -> Duration {
    let began = Instant::now();
    poller.run_cycle(poller_state, store, poller.clock.now()).await;
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn the_queue_stays_bounded_with_five_hundred_flapping_divisions() {
    let clock = JumpingClock::new("2026-11-23T08:00:00Z".parse().unwrap());
    let funds = TestFunds::new(&clock, (1..=FLAPPING).map(Some), 5000);
    let (disk, mut poller_state) = (Arc::new(RecordingBackend::default()), PollerState::default());
    let store = StateStore::new(State::default(), Arc::clone(&disk) as Arc<dyn StateBackend>);
    let policy = policy(DivisionScope::All(BTreeSet::new()), rule(Duration::ZERO, DAY, &["chat", "mail"]));
    let poller = poller(Arc::clone(&funds) as _, &clock, policy);
    let mut slowest = Duration::ZERO;
    let mut sizes = Vec::new();
    for round in 0..24u32 {
        funds.set(|division| {
            let id = i64::try_from(division.unwrap()).unwrap();
            if round % 2 == 0 { 100 + id % 1900 } else { 5000 + id }
        });
        tokio::time::advance(PERIOD).await;
        slowest = slowest.max(cycle(&poller, &mut poller_state, &store).await);
        sizes.push(disk.last.lock().unwrap().len());
        let queued = store.read(|state| state.queue.len());
        assert!(queued <= FLAPPING_ALERTS * MAX_QUEUED_PER_ALERT, "{queued} events are owed in round {round}");
    }
    // Ten events an alert are kept from the eleventh round on; nothing grows after that.
    assert_eq!(store.read(|state| state.queue.len()), FLAPPING_ALERTS * MAX_QUEUED_PER_ALERT);
    let (full, last) = (sizes[12], sizes[23]);
    assert!(last < full + full / 20, "the state grows from {full} to {last} bytes");
    assert!(last < 6 * 1024 * 1024, "a state of {last} bytes");
    // On a busy machine, in a debug build.
    assert!(slowest < Duration::from_secs(5), "a cycle took {slowest:?}");
    println!("slowest cycle {slowest:?}, state {last} bytes");

    // Everything that is owed is one message, with every event of every alert in it or counted.
    let items: Vec<MessageEvent> = store.read(|state| {
        let owed = state.queue.pending_for("chat");
        owed.map(|(event, delivery)| MessageEvent {
            event: event.clone(),
            omitted: delivery.omitted,
            in_place_of: None,
        })
        .collect()
    });
    let events: u64 = items.iter().map(|item| 1 + u64::from(item.omitted)).sum();
    assert_eq!(events, 24 * FLAPPING, "every event is kept or counted");
    let message = Message {
        id: "abc".to_owned(),
        at: clock.now(),
        content: MessageContent::Events(items),
        references: Vec::new(),
        remaining_recipients: None,
    };
    let began = Instant::now();
    let (shown, counted) = shown_and_counted(&message);
    let length = email(&message, &words()).html.len();
    let took = began.elapsed();
    assert_eq!(shown + counted, FLAPPING_ALERTS);
    assert!(length < 200_000, "a mail of {length} bytes");
    assert!(took < Duration::from_secs(10), "rendering took {took:?}");
    println!("rendering {took:?}");
}

#[test]
fn any_number_of_alerts_fits_slack_with_each_shown_or_counted() {
    let policy = policy(DivisionScope::Listed((1..=DIVISIONS).collect()), rule(Duration::ZERO, DAY, &["chat"]));
    for name in [
        "Division",
        "<!channel> & \"friends\" of a very long name that goes on and on and on, and on",
        "\u{1F4B6}\u{1F4B6}&&<<",
    ] {
        for count in [1u64, 2, 9, 10, 11, 12, 25, 49, 50, 51, 100, 111, 500] {
            let reads = (1..=count).map(|id| DivisionReading {
                division: Some(id),
                name: Some(format!("{name} {id}")),
                balance: Ok(balance(id.into())),
                forecast: None,
            });
            let readings = AccountReadings { divisions: reads.collect(), listing_failure: None, active: None };
            let mut state = State::default();
            process(&mut state, &policy, &readings, hostile::at(0));
            let owed = state.queue.pending_for("chat").map(|(event, _)| MessageEvent {
                event: event.clone(),
                omitted: 0,
                in_place_of: None,
            });
            let content = MessageContent::Events(owed.collect());
            let message = Message {
                id: "abc".to_owned(),
                at: hostile::at(1),
                content,
                references: Vec::new(),
                remaining_recipients: None,
            };
            hostile::renders_safely(&message, &words());
            let (shown, counted) = shown_and_counted(&message);
            assert_eq!(shown + counted, usize::try_from(count).unwrap(), "{count} of {name}");
            let text = email(&message, &words()).text;
            let named = (1..=count).filter(|id| text.contains(&format!("USD {id}.00 left"))).count();
            let counted = text.lines().find_map(|it| it.strip_prefix("and ")?.strip_suffix(" more")?.parse().ok());
            assert_eq!(named + counted.unwrap_or(0), usize::try_from(count).unwrap(), "the mail, {count} of {name}");
        }
    }
}

#[test]
fn a_mail_about_two_thousand_threads_has_headers_that_servers_take() {
    let mut message = crate::support::sample::message(vec![crate::support::sample::warning("History department")]);
    message.references = (0..2000).map(|n| format!("<{n:032x}@example.com>")).collect();
    hostile::renders_safely(&message, &words());
}

#[test]
fn a_state_of_two_thousand_alerts_is_saved_and_read_again_as_it_is() {
    let policy = policy(DivisionScope::Listed((1..=DIVISIONS).collect()), rule(Duration::ZERO, DAY, &["chat", "mail"]));
    let reads = (1..=DIVISIONS).map(|id| DivisionReading {
        division: Some(id),
        name: Some(format!("D{id}")),
        balance: Ok(balance(id.into())),
        forecast: None,
    });
    let readings = AccountReadings { divisions: reads.collect(), listing_failure: None, active: None };
    let mut state = State::default();
    process(&mut state, &policy, &readings, hostile::at(0));
    assert_eq!(state.queue.len(), 1999, "all but the one with exactly 2000");
    let pieces = encode(&state).unwrap();
    assert!(pieces.pieces().count() > 10);
    let json = pieces.to_bytes();
    assert_eq!(decode(&json).unwrap(), DecodedState { state: state.clone(), altered: false });
    assert!(json.len() < 4 * 1024 * 1024, "{} bytes", json.len());
    let thresholds =
        state.queue.iter().filter(|queued| matches!(queued.event.subject, EventSubject::Threshold(_))).count();
    assert_eq!(thresholds, 1999);
    // The channel fails: everything goes to its fallback at once, and is still bounded and whole.
    let began = Instant::now();
    assert_eq!(state.hand_over(&"chat".into(), &"pager".into(), "Slack answered 410", None), 1999);
    assert_eq!(state.queue.pending_for("pager").count(), 1999);
    assert!(began.elapsed() < Duration::from_secs(5), "handing over took {:?}", began.elapsed());
    println!("handing over {:?}", began.elapsed());
}
