//! Clock jumps, suspend and clock changes: no level is missed, nothing is repeated, and reminders keep their interval. Scheduler,
//! poller, state and delivery are the real ones. The test sets the clock and steps the elapsed time.

#![allow(clippy::unchecked_time_subtraction)]

use lowtide::util::shutdown::StagedShutdown;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::support::service::{
    JumpingClock, RecordingBackend, RecordingNotifier, TestFunds, TestService, balance, fails, policy, poller, rule,
};
use chrono::{Datelike, Timelike};
use chrono_tz::Tz;
use lowtide::alerting::policy::{AccountPolicy, DivisionScope};
use lowtide::alerting::process::process;
use lowtide::alerting::readings::{AccountReadings, DivisionReading};
use lowtide::alerting::state::State;
use lowtide::domain::Time;
use lowtide::domain::alert::TransitionKind;
use lowtide::domain::schedule::Schedule;
use lowtide::polling::reports;
use lowtide::polling::reports::ReportPlan;
use lowtide::polling::scheduler;
use lowtide::state::StateStore;
use lowtide::status::registry::Registry;
use lowtide::util::clock::Clock;
use proptest::prelude::*;
use tokio_cron_scheduler::JobScheduler;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const PERIOD: Duration = Duration::from_secs(15 * 60);

fn at(text: &str) -> Time {
    text.parse().unwrap()
}

/// Jumps by an hour, a day, a week (as after a suspend) and ten years, forward and back.
fn jumps() -> Vec<chrono::Duration> {
    let lengths = [1, 24, 7 * 24, 10 * 365 * 24].map(chrono::Duration::hours);
    lengths.into_iter().flat_map(|length| [length, -length]).collect()
}

struct ServiceFixture {
    service: TestService,
    funds: Arc<TestFunds>,
    channel: Arc<RecordingNotifier>,
}

async fn start_service(schedule: &str, start: &str, hold: Duration, remind_every: Duration) -> ServiceFixture {
    let clock = JumpingClock::new(at(start));
    let (funds, channel) = (TestFunds::new(&clock, [None], 5000), RecordingNotifier::new(&clock));
    let policy = policy(DivisionScope::Undivided, rule(hold, remind_every, &["chat"]));
    let poller = poller(Arc::clone(&funds) as _, &clock, policy);
    let schedule = Schedule::parse(schedule, chrono_tz::Europe::Berlin).unwrap();
    let service = TestService::start(&clock, poller, schedule, &[("chat", None, &channel)]).await;
    ServiceFixture { service, funds, channel }
}

impl ServiceFixture {
    async fn pass(&self, time: Duration) -> Duration {
        self.service.pass(time).await;
        self.service.clock.elapsed()
    }
}

/// Asserts that readings are at most a period apart and no more than scheduled, apart from one for each jump of the clock.
fn expect_steady_readings(fixture: &ServiceFixture, jumped: usize) {
    let after = fixture.funds.read_after();
    assert!(after.windows(2).all(|two| two[1] - two[0] <= PERIOD), "a pause in {after:?}");
    let most = fixture.service.clock.elapsed().as_secs() / PERIOD.as_secs() + 1;
    assert!(after.len() as u64 <= most + jumped as u64, "{} readings where {most} were due", after.len());
}

#[tokio::test(start_paused = true)]
async fn a_jump_while_an_alert_fires_adds_at_most_one_reminder() {
    for schedule in ["*/15 * * * *", "every 15m"] {
        for jump in jumps() {
            let fixture = start_service(schedule, "2026-11-23T08:00:00Z", Duration::ZERO, DAY).await;
            fixture.pass(HOUR).await;
            fixture.funds.set(|_| 1000);
            let jumped = fixture.pass(HOUR + 7 * MINUTE).await;
            assert_eq!(fixture.channel.words_since(Duration::ZERO), ["raised"]);

            fixture.service.clock.jump(jump);
            let fell = fixture.pass(3 * HOUR).await;
            let reminded: &[&str] = if jump >= chrono::Duration::hours(24) { &["reminder"] } else { &[] };
            assert_eq!(fixture.channel.words_since(jumped), reminded, "{schedule}, {jump}");

            fixture.funds.set(|_| 100);
            fixture.pass(PERIOD).await;
            assert_eq!(fixture.channel.words_since(fell), ["escalated"], "{schedule}, {jump}");
            let escalated = fixture.channel.first("escalated", fell).unwrap();
            let rose = fixture.pass(DAY).await;
            assert_eq!(fixture.channel.words_since(fell), ["escalated", "reminder"], "{schedule}, {jump}");
            let reminder = fixture.channel.first("reminder", fell).unwrap();
            assert!(reminder - escalated >= DAY && reminder - escalated <= DAY + PERIOD);

            fixture.funds.set(|_| 5000);
            fixture.pass(HOUR).await;
            assert_eq!(fixture.channel.words_since(rose), ["resolved"], "{schedule}, {jump}");
            expect_steady_readings(&fixture, 1);
            assert_eq!(fixture.service.store.read(Clone::clone), State::default());
            fixture.service.stop().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_jump_back_delays_a_reminder_by_one_interval_at_most() {
    for jump in jumps() {
        let fixture = start_service("*/15 * * * *", "2026-11-23T08:00:00Z", Duration::ZERO, DAY).await;
        fixture.funds.set(|_| 1000);
        let jumped = fixture.pass(20 * HOUR).await;
        fixture.service.clock.jump(jump);
        fixture.pass(DAY + 2 * PERIOD).await;
        let words = fixture.channel.words_since(jumped);
        assert!((1..=2).contains(&words.len()) && words.iter().all(|it| it == "reminder"), "{jump}: {words:?}");
        let first = fixture.channel.first("reminder", jumped).unwrap();
        assert!(first - jumped <= DAY + PERIOD, "{jump}: the reminder came after {first:?}");
        fixture.service.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_level_with_for_fires_once_within_that_time_of_a_clock_jump() {
    for jump in jumps() {
        let fixture = start_service("*/15 * * * *", "2026-11-23T08:00:00Z", 2 * HOUR, DAY).await;
        fixture.pass(HOUR).await;
        fixture.funds.set(|_| 1000);
        let jumped = fixture.pass(HOUR).await;
        assert!(fixture.channel.words_since(Duration::ZERO).is_empty());
        fixture.service.clock.jump(jump);
        fixture.pass(6 * HOUR).await;
        assert_eq!(fixture.channel.words_since(Duration::ZERO), ["raised"], "{jump}");
        let raised = fixture.channel.first("raised", Duration::ZERO).unwrap();
        assert!(raised - jumped <= 2 * HOUR + PERIOD, "{jump}: it fired after {raised:?}");
        expect_steady_readings(&fixture, 1);
        fixture.service.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn many_jumps_in_a_row_make_no_storm() {
    let fixture = start_service("*/15 * * * *", "2026-11-23T08:00:00Z", Duration::ZERO, DAY).await;
    fixture.funds.set(|_| 1000);
    let start = fixture.pass(HOUR).await;
    for round in 0..50 {
        let by = chrono::Duration::hours([1, -1, 5, -5, 30, -30][round % 6]);
        fixture.service.clock.jump(by);
        fixture.pass(7 * MINUTE).await;
    }
    let words = fixture.channel.words_since(start);
    // Each of the nine jumps of thirty hours forward may be a downtime that a reminder is due after.
    assert!(words.len() <= 9 && words.iter().all(|it| it == "reminder"), "{words:?}");
    expect_steady_readings(&fixture, 50);
    fixture.service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_fall_during_a_week_of_suspend_is_notified_once() {
    let fixture = start_service("*/15 * * * *", "2026-11-23T08:00:00Z", 2 * HOUR, DAY).await;
    fixture.funds.set(|_| 1000);
    let slept = fixture.pass(3 * HOUR).await;
    assert_eq!(fixture.channel.words_since(Duration::ZERO), ["raised"]);
    fixture.service.clock.jump(chrono::Duration::days(7));
    fixture.funds.set(|_| 100);
    fixture.pass(PERIOD).await;
    assert_eq!(fixture.channel.words_since(slept), ["reminder"], "the first critical reading only begins its `for`");
    fixture.pass(2 * HOUR).await;
    assert_eq!(fixture.channel.words_since(slept), ["reminder", "escalated"]);
    fixture.service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn readings_have_no_gap_or_double_at_daylight_saving_changes() {
    for start in ["2026-03-27T22:00:00Z", "2026-10-23T22:00:00Z"] {
        let quarter = start_service("*/15 * * * *", start, Duration::ZERO, DAY).await;
        quarter.pass(3 * DAY).await;
        let reads = quarter.funds.read_at();
        assert!(reads.windows(2).all(|two| (two[1] - two[0]).to_std().unwrap() == PERIOD), "{reads:?}");
        quarter.service.stop().await;

        for (schedule, hour, minute) in [("0 9 * * *", 9, 0), ("30 2 * * *", 2, 30)] {
            let daily = start_service(schedule, start, Duration::ZERO, 20 * HOUR).await;
            daily.funds.set(|_| 1000);
            daily.pass(5 * DAY).await;
            let reads = daily.funds.read_at();
            let local: Vec<_> = reads.iter().skip(1).map(|it| it.with_timezone(&chrono_tz::Europe::Berlin)).collect();
            let days: BTreeSet<u32> = local.iter().map(Datelike::day).collect();
            assert_eq!((local.len(), days.len()), (5, 5), "once a day: {local:?}");
            let off = local.iter().filter(|it| (it.hour(), it.minute()) != (hour, minute)).count();
            assert!(off <= usize::from(schedule.starts_with("30 2")), "at its own time, where there is one: {local:?}");
            let sent = daily.channel.words_since(Duration::ZERO);
            assert_eq!(sent.iter().filter(|it| *it == "raised").count(), 1);
            assert!((4..=5).contains(&(sent.len() - 1)), "a reminder a day: {sent:?}");
            daily.service.stop().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn hours_of_a_crontab_are_read_once_each_across_clock_changes() {
    for (start, skipped) in [("2026-03-27T22:00:00Z", Some((29, "03:00"))), ("2026-10-23T21:00:00Z", None)] {
        let fixture = start_service("0 2,14 * * *", start, Duration::ZERO, DAY).await;
        fixture.pass(3 * DAY).await;
        let reads = fixture.funds.read_at();
        let local = reads.iter().skip(1).map(|it| it.with_timezone(&chrono_tz::Europe::Berlin));
        let local: Vec<(u32, String)> = local.map(|it| (it.day(), it.format("%H:%M").to_string())).collect();
        let first = at(start).with_timezone(&chrono_tz::Europe::Berlin).day() + 1;
        let early = |day: u32| skipped.filter(|(on, _)| *on == day).map_or("02:00", |(_, at)| at);
        let expected = (first..first + 3).flat_map(|day| [(day, early(day).to_owned()), (day, "14:00".to_owned())]);
        assert_eq!(local, expected.collect::<Vec<_>>());
        fixture.service.stop().await;
    }
}

/// Returns the begin of each cycle, in milliseconds from the start. `takes` holds their durations; the last one repeats.
async fn cycle_starts(schedule: &str, takes: &[u64], length: Duration) -> Vec<u128> {
    let clock = JumpingClock::new(at("2026-11-23T08:00:00Z"));
    let begun = Mutex::new(Vec::new());
    let cycle = |_| async {
        let place = {
            let mut begun = begun.lock().unwrap();
            begun.push(clock.elapsed().as_millis());
            (begun.len() - 1).min(takes.len() - 1)
        };
        tokio::time::sleep(Duration::from_millis(takes[place])).await;
    };
    let shutdown = StagedShutdown::default();
    let (schedule, jobs) = (Schedule::parse(schedule, Tz::UTC).unwrap(), JobScheduler::new().await.unwrap());
    let clock_handle = Arc::clone(&clock) as Arc<dyn Clock>;
    let running = scheduler::run("acme".into(), schedule, jobs, clock_handle, shutdown.clone(), cycle, |_| {});
    assert!(tokio::time::timeout(length, running).await.is_err(), "cycles continue");
    begun.into_inner().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_cycle_that_took_too_long_is_followed_at_once_by_one_cycle() {
    let seconds = Duration::from_secs;
    for (schedule, takes, expected) in [
        ("every 6s", &[8000][..], &[0, 8000, 16_000, 24_000][..]),
        ("*/6 * * * * *", &[8000], &[0, 8000, 16_000, 24_000]),
        // Several times were missed: one cycle, then on schedule.
        ("every 6s", &[20_000, 100], &[0, 20_000, 26_000]),
        ("*/6 * * * * *", &[20_000, 100], &[0, 20_000, 24_000, 30_000]),
        // Cycles as long as the period and shorter: no drift.
        ("every 6s", &[6000], &[0, 6000, 12_000, 18_000, 24_000, 30_000]),
        ("every 6s", &[1300], &[0, 6000, 12_000, 18_000, 24_000, 30_000]),
    ] {
        assert_eq!(cycle_starts(schedule, takes, seconds(31)).await, expected, "{schedule}, cycles of {takes:?} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopping_service_begins_no_overdue_cycle() {
    for _ in 0..20 {
        let clock = JumpingClock::new(at("2026-11-23T08:00:00Z"));
        let shutdown = StagedShutdown::default();
        let begun = std::sync::atomic::AtomicUsize::new(0);
        let cycle = |_| async {
            begun.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(20)).await;
            shutdown.begin();
        };
        let (schedule, jobs) = (Schedule::parse("every 6s", Tz::UTC).unwrap(), JobScheduler::new().await.unwrap());
        scheduler::run("acme".into(), schedule, jobs, clock as Arc<dyn Clock>, shutdown.clone(), cycle, |_| {}).await;
        assert_eq!(begun.into_inner(), 1);
    }
}

/// Returns the queued pages of a report: the time of each, the next time, and the delay.
fn pages(state: &State) -> Vec<(Time, Option<Time>, chrono::Duration)> {
    let page = |queued: &lowtide::alerting::queue::QueuedEvent| match &queued.event.subject {
        lowtide::domain::event::EventSubject::Report(page) => Some((page.due, page.next, queued.event.at - page.due)),
        _ => None,
    };
    state.queue.iter().filter_map(page).collect()
}

#[tokio::test(start_paused = true)]
async fn reports_keep_their_times_over_restarts_and_make_up_for_one_missed() {
    for (schedule, hours) in [("every 25h", 25), ("every 1w", 7 * 24), ("every 24h", 24), ("every 11h", 11)] {
        let clock = JumpingClock::new(at("2026-11-02T09:00:00Z"));
        let mut state = State::default();
        let mut made = Vec::new();
        // Hours of running, then hours of downtime.
        for (up, down) in [(7, 1), (23, 3), (2, 1)].into_iter().cycle() {
            let store = Arc::new(StateStore::new(
                state,
                Arc::new(RecordingBackend::default()) as Arc<dyn lowtide::state::StateBackend>,
            ));
            let plan = ReportPlan {
                name: "weekly".into(),
                schedule: Schedule::parse(schedule, Tz::UTC).unwrap(),
                notify: ["chat".into()].into(),
                silences: [].into(),
            };
            let stop = CancellationToken::new();
            let clock_handle = Arc::clone(&clock) as Arc<dyn Clock>;
            let registry = Arc::new(Registry::default());
            let running =
                tokio::spawn(reports::run(plan, [].into(), registry, Arc::clone(&store), clock_handle, stop.clone()));
            // Pages are taken before a second page of the same report replaces the first.
            for _ in 0..up {
                tokio::time::sleep(HOUR).await;
                made.extend(store.read(pages));
                store
                    .change(|state| {
                        state.queue.clear();
                        ((), true)
                    })
                    .await;
            }
            stop.cancel();
            running.await.unwrap();
            state = store.read(Clone::clone);
            tokio::time::sleep(down * HOUR).await;
            if clock.elapsed() > 15 * DAY {
                break;
            }
        }
        let start = at("2026-11-02T09:00:00Z");
        let whole = |n: i64| start + chrono::Duration::hours(n * hours);
        let least = usize::try_from(14 * 24 / hours).unwrap();
        assert!(made.len() >= least, "{schedule}: {made:?}");
        for (n, (due, next, late)) in (1..).zip(&made) {
            assert_eq!((*due, *next), (whole(n), Some(whole(n + 1))), "{schedule}: {made:?}");
            assert!(*late <= chrono::Duration::hours(3) + chrono::Duration::minutes(2), "{schedule}: {late} late");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_repeated_by_a_leap_second_is_read_once() {
    for schedule in ["*/10 * * * * *", "0 * * * * *", "every 10s"] {
        // The last second of June occurs twice. The clock is set back before, at and after midnight.
        for lead in [58_900, 59_500, 60_000, 60_400, 60_900] {
            let fixture = start_service(schedule, "2026-06-30T23:59:00Z", Duration::ZERO, DAY).await;
            fixture.funds.set(|_| 1000);
            fixture.pass(Duration::from_millis(lead)).await;
            fixture.service.clock.jump(chrono::Duration::seconds(-1));
            fixture.pass(3 * MINUTE).await;
            let after = fixture.funds.read_after();
            let period = if schedule.starts_with('0') { MINUTE } else { Duration::from_secs(10) };
            let slack = Duration::from_secs(1);
            let apart = after.windows(2).map(|two| two[1] - two[0]).collect::<Vec<_>>();
            assert!(
                apart.iter().all(|it| *it + slack >= period && *it <= period + slack),
                "{schedule} {lead}: {apart:?}"
            );
            assert_eq!(fixture.channel.words_since(Duration::ZERO), ["raised"]);
            fixture.service.stop().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fallback_and_failure_report_come_in_time_despite_clock_jumps() {
    for jump in jumps() {
        let clock = JumpingClock::new(at("2026-11-23T08:00:00Z"));
        let (funds, chat, mail) =
            (TestFunds::new(&clock, [None], 1000), RecordingNotifier::new(&clock), RecordingNotifier::new(&clock));
        chat.answers(|_| fails(None));
        let policy = policy(DivisionScope::Undivided, rule(Duration::ZERO, DAY, &["chat"]));
        let poller = poller(Arc::clone(&funds) as _, &clock, policy);
        let schedule = Schedule::parse("*/15 * * * *", Tz::UTC).unwrap();
        let channels = [("chat", Some("mail"), &chat), ("mail", None, &mail)];
        let service = TestService::start(&clock, poller, schedule, &channels).await;
        service.pass(2 * MINUTE).await;
        assert!(mail.words_since(Duration::ZERO).is_empty());
        let jumped = clock.elapsed();
        clock.jump(jump);
        service.pass(12 * MINUTE).await;
        let handed_over = mail.first("raised", jumped).unwrap_or_else(|| panic!("{jump}: the fallback was never used"));
        assert!(handed_over - jumped <= 11 * MINUTE, "{jump}: used after {handed_over:?}");
        service.pass(2 * HOUR).await;
        let words = mail.words_since(Duration::ZERO);
        let count = |word: &str| words.iter().filter(|it| *it == word).count();
        assert_eq!((count("raised"), count("chat fails")), (1, 1), "{jump}: {words:?}");
        assert!(count("reminder") <= 1 && words.len() <= 3, "{jump}: {words:?}");
        chat.answers(|_| Ok(lowtide::notify::Delivered::default()));
        service.pass(10 * MINUTE).await;
        let words = chat.words_since(Duration::ZERO);
        assert_eq!(words.iter().filter(|it| *it == "raised").count(), 1, "{jump}: {words:?}");
        assert_eq!(mail.words_since(Duration::ZERO).last().unwrap(), "chat works", "{jump}");
        assert!(service.store.read(|state| state.queue.is_empty()));
        service.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn messages_at_a_repeated_clock_time_have_distinct_ids() {
    let fixture = start_service("*/15 * * * *", "2026-11-23T08:00:00Z", Duration::ZERO, DAY).await;
    fixture.pass(10 * MINUTE).await;
    fixture.funds.set(|_| 1000);
    fixture.pass(PERIOD).await;
    fixture.funds.set(|_| 5000);
    fixture.pass(PERIOD).await;
    // Resolved at half past eight, which occurs again.
    fixture.service.clock.jump(chrono::Duration::minutes(-30));
    fixture.pass(PERIOD).await;
    fixture.funds.set(|_| 900);
    fixture.pass(HOUR).await;
    assert_eq!(fixture.channel.words_since(Duration::ZERO), ["raised", "resolved", "raised"]);
    let received = fixture.channel.sent.lock().unwrap().clone();
    assert_eq!(received[1].2.at, received[2].2.at, "both at half past eight");
    let ids: BTreeSet<&str> = received.iter().map(|(_, _, message)| message.id.as_str()).collect();
    assert_eq!(ids.len(), 3, "{received:?}");
    fixture.service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_permanent_refusal_is_reported_within_two_hours_of_a_clock_jump() {
    for jump in jumps() {
        let clock = JumpingClock::new(at("2026-11-23T08:00:00Z"));
        let (funds, chat, mail) =
            (TestFunds::new(&clock, [None], 1000), RecordingNotifier::new(&clock), RecordingNotifier::new(&clock));
        chat.answers(|_| fails(None).map_err(|error| lowtide::notify::SendError { permanent: true, ..error }));
        let policy = policy(DivisionScope::Undivided, rule(Duration::ZERO, 8 * DAY * 1000, &["chat"]));
        let poller = poller(Arc::clone(&funds) as _, &clock, policy);
        let schedule = Schedule::parse("*/15 * * * *", Tz::UTC).unwrap();
        let channels = [("chat", None, &chat), ("mail", None, &mail)];
        let service = TestService::start(&clock, poller, schedule, &channels).await;
        service.pass(10 * MINUTE).await;
        clock.jump(jump);
        service.pass(2 * HOUR + MINUTE).await;
        assert_eq!(mail.words_since(Duration::ZERO), ["chat fails"], "{jump}");
        service.stop().await;
    }
}

fn account_of_three_divisions(hold: Duration) -> AccountPolicy {
    policy(DivisionScope::Listed(vec![1, 2, 3]), rule(hold, DAY, &["chat", "mail"]))
}

/// The time between two readings: elapsed seconds, and the seconds by which the clock is set.
#[derive(Debug, Clone)]
struct ClockStep {
    passes: u64,
    jump: i64,
    amounts: [i64; 3],
    delivered: bool,
}

fn step() -> impl Strategy<Value = ClockStep> {
    let hour = 3600i64;
    let lengths = [1, hour, 24 * hour, 7 * 24 * hour, 10 * 365 * 24 * hour];
    let jump = prop_oneof![
        5 => Just(0i64),
        1 => (0usize..5).prop_map(move |i| lengths[i]),
        1 => (0usize..5).prop_map(move |i| -lengths[i]),
        1 => -100_000i64..100_000,
    ];
    let amount = || prop_oneof![2 => Just(100i64), 3 => Just(1000i64), 2 => Just(5000i64)];
    (60u64..40_000, jump, [amount(), amount(), amount()], any::<bool>())
        .prop_map(|(passes, jump, amounts, delivered)| ClockStep { passes, jump, amounts, delivered })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_clock_jump_doubles_an_event_or_keeps_a_breach_from_firing(
        steps in proptest::collection::vec(step(), 1..60),
        hold in prop_oneof![Just(0u64), Just(1800), Just(7200), Just(86_400)],
    ) {
        let hold_for = Duration::from_secs(hold);
        let policy = account_of_three_divisions(hold_for);
        let mut state = State::default();
        let mut now = at("2026-11-23T08:00:00Z");
        // Elapsed seconds of each division's breach, counted from the first reading after the last jump back.
        let mut breached = [None::<u64>; 3];
        let mut last_event: BTreeMap<u64, Time> = BTreeMap::new();
        for step in steps {
            now = now + Duration::from_secs(step.passes) + chrono::Duration::seconds(step.jump);
            let back = step.jump < 0;
            for it in last_event.values_mut() {
                *it = (*it).min(now);
            }
            let known: BTreeSet<String> = state.queue.iter().map(|it| it.event.id.clone()).collect();
            let reads = (1..=3).zip(step.amounts).map(|(id, amount)| DivisionReading {
                division: Some(id),
                name: None,
                balance: Ok(balance(amount.into())),
                forecast: None,
            });
            let readings = AccountReadings { divisions: reads.collect(), listing_failure: None, active: None };
            let was: Vec<_> = (1..=3).map(|id| firing(&state, id)).collect();
            process(&mut state, &policy, &readings, now);

            let mut events: BTreeMap<u64, Vec<TransitionKind>> = BTreeMap::new();
            for queued in state.queue.iter().filter(|it| !known.contains(&it.event.id)) {
                let id = queued.event.alert().unwrap().division.unwrap();
                events.entry(id).or_default().push(queued.event.kind().unwrap());
                prop_assert_eq!(queued.event.at, now);
            }
            for id in 1..=3u64 {
                let i = usize::try_from(id).unwrap() - 1;
                let made = events.get(&id).map(Vec::as_slice).unwrap_or_default();
                prop_assert!(made.len() <= 1, "{:?} at one reading", made);
                if made == [TransitionKind::Reminder] {
                    prop_assert!(now - last_event[&id] >= chrono::Duration::hours(24), "a reminder came early");
                }
                if !made.is_empty() {
                    last_event.insert(id, now);
                }
                prop_assert_eq!(made.is_empty() || made == [TransitionKind::Reminder], was[i] == firing(&state, id));
                // A jump back may discard the time that had passed, no more.
                breached[i] = match breached[i] {
                    _ if step.amounts[i] >= 2000 => None,
                    Some(before) if !back => Some(before + step.passes),
                    _ => Some(0),
                };
                if breached[i].is_some_and(|held| held >= hold) {
                    prop_assert!(firing(&state, id).is_some(), "breached for {:?} s without firing", breached[i]);
                }
                if step.amounts[i] >= 2000 {
                    prop_assert!(firing(&state, id).is_none(), "fires without a breach");
                }
            }
            if step.delivered {
                for name in ["chat", "mail"] {
                    let all = state.queue.pending_for(name).map(|(event, _)| event.id.clone()).collect();
                    state.mark_delivered(&name.into(), &all, None, &[]);
                }
                prop_assert!(state.queue.is_empty());
            }
            prop_assert!(state.queue.len() <= 3 * 2 * 10, "the queue is bounded");
        }
    }

    #[test]
    fn the_next_time_of_a_crontab_is_never_too_late(
        seconds in 1_767_225_600i64..1_956_528_000,
        zone in proptest::sample::select(vec![
            chrono_tz::Europe::Berlin, chrono_tz::America::New_York, chrono_tz::Australia::Lord_Howe,
            chrono_tz::America::St_Johns, chrono_tz::Africa::Casablanca, chrono_tz::America::Santiago, Tz::UTC,
        ]),
        near_a_change in any::<bool>(),
    ) {
        let now = Time::from_timestamp(seconds, 0).unwrap();
        // Half of the cases are within two hours of a change of the zone's offset.
        let now = if near_a_change { change_near(now, zone) + chrono::Duration::seconds(seconds % 14_400 - 7_200) } else { now };
        // Lord Howe's clock changes by half an hour, so two of its full hours are an hour and a half apart.
        for (text, longest) in [
            ("*/15 * * * *", 15 * 60), ("0 * * * *", 3600 + 1800), ("*/10 * * * * *", 10), ("30 2 * * *", 25 * 3600 + 1800),
            ("0 9 * * *", 25 * 3600), ("0 0 * * *", 25 * 3600 + 1800), ("59 23 * * *", 25 * 3600),
            ("0 2,14 * * *", 13 * 3600), ("0,30 1-3 * * *", 23 * 3600), ("*/15 2 * * *", 24 * 3600 + 15 * 60),
        ] {
            let schedule = Schedule::parse(text, zone).unwrap();
            let next = schedule.next_after(now);
            prop_assert!(next.is_some_and(|next| next > now), "{text} in {zone} after {now}: {next:?}");
            let wait = (next.unwrap() - now).num_seconds();
            prop_assert!(wait <= longest, "{text} in {zone} after {now}: {wait} s");
        }
    }
}

/// Returns the next change of the zone's offset within a year, to the second, or `now` if there is none.
fn change_near(now: Time, zone: Tz) -> Time {
    use chrono::Offset;
    let offset = |at: Time| at.with_timezone(&zone).offset().fix().local_minus_utc();
    let Some(day) = (0..370)
        .map(|n| now + chrono::Duration::days(n))
        .find(|it| offset(*it + chrono::Duration::days(1)) != offset(*it))
    else {
        return now;
    };
    let (mut before, mut after) = (day, day + chrono::Duration::days(1));
    while after - before > chrono::Duration::seconds(1) {
        let middle = before + (after - before) / 2;
        if offset(middle) == offset(day) { before = middle } else { after = middle }
    }
    after
}

fn firing(state: &State, division: u64) -> Option<lowtide::domain::rule::Severity> {
    state.alerts.iter().find(|(key, _)| key.division == Some(division)).and_then(|(_, known)| known.alert.firing())
}
