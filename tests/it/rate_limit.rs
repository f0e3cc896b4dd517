//! Reading many divisions under a rate limit: spread over the schedule, none starved, none delayed by a slow one, with a warning
//! about a schedule that is too short. Scheduler, poller and limiter are the real ones, on a stepped clock.

use lowtide::util::shutdown::StagedShutdown;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::bin::{self, FUNDS, World};
use crate::support::service::{JumpingClock, RecordingBackend, balance, policy, poller, rule};
use async_trait::async_trait;
use lowtide::alerting::policy::{AccountPolicy, DivisionScope};
use lowtide::alerting::state::State;
use lowtide::certcentral::{
    BalanceSource, LimiterAccount, ListedDivision, RateLimitWindow, RateLimiter, ReadError, ReadErrorKind,
};
use lowtide::domain::balance::{Balance, Persistence};
use lowtide::domain::schedule::Schedule;
use lowtide::domain::{Division, Name, Time};
use lowtide::polling::poller::{CycleOutcome, PollerState};
use lowtide::polling::progress::CycleProgress;
use lowtide::polling::scheduler;
use lowtide::polling::scheduler::CycleTiming;
use lowtide::state::{StateBackend, StateStore};
use lowtide::status::registry::Registry;
use lowtide::util::clock::Clock;
use rust_decimal::Decimal;
use tokio::sync::Mutex as AsyncMutex;
use tokio_cron_scheduler::JobScheduler;

const MINUTE: Duration = Duration::from_secs(60);
const DEFAULT: [(usize, u64); 2] = [(100, 5), (1000, 180)];

/// Answers under a rate limit after `takes`, and records the times of each request and answer.
struct LimitedSource {
    clock: Arc<JumpingClock>,
    limiter: Arc<RateLimiter>,
    takes: fn(u64) -> Duration,
    requests: Mutex<Vec<(u64, Duration, Duration)>>,
}

#[async_trait]
impl BalanceSource for LimitedSource {
    async fn balance(&self, division: Division) -> Result<Balance, ReadError> {
        let permit = self.limiter.acquire().await;
        let requested_at = self.clock.elapsed();
        tokio::time::sleep((self.takes)(division.unwrap())).await;
        drop(permit);
        self.requests.lock().unwrap().push((division.unwrap(), requested_at, self.clock.elapsed()));
        Ok(balance(Decimal::from(5000)))
    }

    async fn divisions(&self) -> Result<Vec<ListedDivision>, ReadError> {
        Ok(Vec::new())
    }

    fn limiter(&self) -> Option<&RateLimiter> {
        Some(&self.limiter)
    }
}

/// Runs an account with this many divisions on a schedule. Returns the times of each request and answer, in order, and the end
/// of each cycle.
async fn run_schedule(
    divisions: u64,
    limits: &[(usize, u64)],
    takes: fn(u64) -> Duration,
    schedule: &str,
    length: Duration,
) -> (Vec<(u64, Duration, Duration)>, Vec<Duration>) {
    let clock = JumpingClock::new("2026-11-23T08:00:00Z".parse().unwrap());
    let windows =
        limits.iter().map(|(requests, s)| RateLimitWindow { requests: *requests, length: Duration::from_secs(*s) });
    let limiter = Arc::new(RateLimiter::new(windows));
    let source = Arc::new(LimitedSource { clock: Arc::clone(&clock), limiter, takes, requests: Mutex::default() });
    let scope = DivisionScope::Listed((1..=divisions).collect());
    let poller = poller(Arc::clone(&source) as _, &clock, policy(scope, rule(Duration::ZERO, MINUTE, &["chat"])));
    let store =
        Arc::new(StateStore::new(State::default(), Arc::new(RecordingBackend::default()) as Arc<dyn StateBackend>));
    let (schedule, poller_state) =
        (Schedule::parse(schedule, chrono_tz::UTC).unwrap(), Arc::new(AsyncMutex::new(PollerState::default())));
    let ends = Arc::new(Mutex::new(Vec::new()));
    let (its_clock, its_ends, times) = (Arc::clone(&clock), Arc::clone(&ends), schedule.clone());
    let cycle = move |planned: Time| {
        let (poller, poller_state, store) = (Arc::clone(&poller), Arc::clone(&poller_state), Arc::clone(&store));
        let (clock, ends) = (Arc::clone(&its_clock), Arc::clone(&its_ends));
        let period = times.next_after(planned).map(|next| (next - planned).to_std().unwrap());
        async move {
            let mut poller_state = poller_state.lock().await;
            poller_state.set_period(period);
            poller.run_cycle(&mut poller_state, &store, planned).await;
            ends.lock().unwrap().push(clock.elapsed());
        }
    };
    let shutdown = StagedShutdown::default();
    let jobs = JobScheduler::new().await.unwrap();
    let its_clock = Arc::clone(&clock) as Arc<dyn Clock>;
    let running =
        tokio::spawn(scheduler::run("acme".into(), schedule, jobs, its_clock, shutdown.clone(), cycle, |_| {}));
    tokio::time::sleep(length).await;
    shutdown.abandon();
    running.await.unwrap();
    let requests = std::mem::take(&mut *source.requests.lock().unwrap());
    let ends = std::mem::take(&mut *ends.lock().unwrap());
    (requests, ends)
}

fn quick(_: u64) -> Duration {
    Duration::from_millis(300)
}

#[tokio::test(start_paused = true)]
async fn a_thousand_divisions_are_spread_evenly_over_the_cycle() {
    let (requests, ends) = run_schedule(1000, &DEFAULT, quick, "every 15m", MINUTE * 29).await;
    assert_eq!((requests.len(), ends.len()), (2000, 2));
    assert!(ends[0] > MINUTE * 5 && ends[0] < MINUTE * 8, "{:?}", ends[0]);
    assert!(ends[1] > MINUTE * 20 && ends[1] < MINUTE * 23, "{:?}", ends[1]);
    let mut times: Vec<Duration> = requests.iter().map(|(_, at, _)| *at).collect();
    times.sort();
    assert!(times[0] < Duration::from_secs(1), "the first division is read at once");
    let most = times
        .iter()
        .map(|from| times.iter().filter(|at| **at >= *from && **at < *from + Duration::from_secs(5)).count());
    assert!(most.max().unwrap() <= 20, "no burst");
    let per_minute =
        |minute: u32| times.iter().filter(|at| **at >= MINUTE * minute && **at < MINUTE * (minute + 1)).count();
    assert!(
        (0..5).all(|minute| (150..=180).contains(&per_minute(minute))),
        "{:?}",
        (0..8).map(per_minute).collect::<Vec<_>>()
    );
}

#[tokio::test(start_paused = true)]
async fn few_divisions_are_read_at_once() {
    let (requests, ends) = run_schedule(25, &DEFAULT, quick, "every 15m", MINUTE).await;
    assert_eq!((requests.len(), ends.len()), (25, 1));
    assert!(ends[0] <= Duration::from_secs(1), "{:?}", ends[0]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_division_delays_no_other() {
    let takes = |id| if id == 3 { Duration::from_secs(60) } else { quick(id) };
    let (mut requests, _) = run_schedule(100, &[], takes, "every 15m", MINUTE * 2).await;
    requests.sort_by_key(|(_, _, answered)| *answered);
    let (slowest, others) = requests.split_last().unwrap();
    assert_eq!(slowest.0, 3);
    // Fifteen of sixteen concurrent reads are free: seven rounds for the others.
    assert!(others.iter().all(|(_, _, answered)| *answered <= Duration::from_millis(2100)), "{:?}", others.last());
}

#[tokio::test(start_paused = true)]
async fn with_too_short_a_schedule_divisions_are_still_read_in_turn() {
    let (requests, ends) = run_schedule(1000, &[(100, 60)], quick, "every 1m", MINUTE * 65).await;
    assert!(ends.len() >= 5, "{ends:?}");
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for (id, ..) in &requests {
        *counts.entry(*id).or_default() += 1;
    }
    assert_eq!(counts.len(), 1000);
    let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
    assert!(most - least <= 1, "from {least} to {most} times");
    // The limit allows 6,500 in that time.
    assert!(requests.len() > 5800, "{} readings", requests.len());
}

#[test]
fn a_cycle_that_has_to_take_long_is_not_late_for_it() {
    let (registry, name) = (Registry::default(), Name::from("acme"));
    let at = |minutes: i64| "2026-11-23T08:00:00Z".parse::<Time>().unwrap() + chrono::Duration::minutes(minutes);
    let progress = Arc::new(CycleProgress::default());
    registry.set_progress(&name, Arc::clone(&progress));
    registry.record_timing(&name, CycleTiming { began: at(0), ended: None, due: Some(at(1)) });
    assert!(registry.health(at(2)).on_time && !registry.health(at(3)).on_time);
    progress.set_needed(MINUTE * 20);
    assert!(registry.health(at(40)).on_time && !registry.health(at(41)).on_time);
    assert_eq!(registry.status(&State::default(), at(3)).accounts[0].next_cycle, Some(at(20)));
}

/// Returns a text without the line breaks of long notes.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn validate_reports_too_short_a_schedule_with_its_arithmetic() {
    let world = World::new().await;
    let ids: Vec<String> = (1..=12).map(|id| id.to_string()).collect();
    let limit = "rate_limit: [10/5s, 240/20m]";
    world.config_with(&format!("divisions: [{}]\n    schedule: every 30s\n    {limit}", ids.join(", ")), FUNDS);
    let ran = world.run(&["validate"]);
    let warning = "12 readings at 240 requests in 20m need 1m, but the schedule comes every 30s";
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let shown = unwrapped(&ran.stdout);
    assert!(shown.contains(warning) && shown.contains("accounts.acme.divisions"), "{shown}");
    // The number of divisions is known only from the listing.
    world.config_with(&format!("divisions: all\n    schedule: every 10s\n    {limit}"), FUNDS);
    let listed: Vec<(u64, &str, bool)> = (1..=3).map(|id| (id, "D", true)).collect();
    world.list(&listed);
    for (id, ..) in &listed {
        world.division_funds(*id, "9000.00");
    }
    assert!(!world.run(&["validate"]).stdout.contains("readings at"));
    let ran = world.run(&["validate", "--online"]);
    let warning = "3 readings at 240 requests in 20m need 15s, but the schedule comes every 10s";
    assert!(ran.code == Some(0) && unwrapped(&ran.stdout).contains(warning), "{ran:?}");
    let service = world.start();
    service.wait_cycles(1);
    assert_eq!(service.log().matches("schedule is too short").count(), 1, "{}", service.log());
    assert_eq!(service.stop(), Some(0));
}

/// Answers for some divisions after a second. The others hang until the client times out.
struct HangingSource {
    answers: fn(u64) -> bool,
    requests: Mutex<Vec<u64>>,
}

#[async_trait]
impl BalanceSource for HangingSource {
    async fn balance(&self, division: Division) -> Result<Balance, ReadError> {
        self.requests.lock().unwrap().push(division.unwrap());
        if (self.answers)(division.unwrap()) {
            tokio::time::sleep(Duration::from_secs(1)).await;
            return Ok(balance(Decimal::from(5000)));
        }
        tokio::time::sleep(Duration::from_secs(20)).await;
        let reason = "GET /finance/balance failed: no complete answer in time".to_owned();
        Err(ReadError { kind: ReadErrorKind::Timeout, reason })
    }

    async fn divisions(&self) -> Result<Vec<ListedDivision>, ReadError> {
        Ok(Vec::new())
    }
}

/// Runs cycles of 2,000 divisions. Returns the outcome of each, the divisions that it asked for, and its duration.
async fn cycles(answers: fn(u64) -> bool, cycles: usize) -> Vec<(CycleOutcome, Vec<u64>, Duration)> {
    let clock = JumpingClock::new("2026-11-23T08:00:00Z".parse().unwrap());
    let source = Arc::new(HangingSource { answers, requests: Mutex::default() });
    let scope = DivisionScope::Listed((1..=2000).collect());
    let poller = poller(Arc::clone(&source) as _, &clock, policy(scope, rule(Duration::ZERO, MINUTE, &["chat"])));
    let store =
        Arc::new(StateStore::new(State::default(), Arc::new(RecordingBackend::default()) as Arc<dyn StateBackend>));
    let (mut poller_state, mut ran) = (PollerState::default(), Vec::new());
    for _ in 0..cycles {
        let began = clock.elapsed();
        let outcome = poller.run_cycle(&mut poller_state, &store, clock.now()).await;
        let requests = std::mem::take(&mut *source.requests.lock().unwrap());
        ran.push((outcome, requests, clock.elapsed().checked_sub(began).unwrap()));
    }
    ran
}

#[tokio::test(start_paused = true)]
async fn a_cycle_ends_early_when_every_request_times_out() {
    for (outcome, requests, took) in cycles(|_| false, 2).await {
        assert!(took <= Duration::from_secs(25), "{took:?}");
        assert!(requests.len() < 2 * 16, "{}", requests.len());
        assert_eq!((outcome.readings.len(), outcome.unreadable), (2000, 2000), "all of them are unreadable");
        assert!(
            outcome.errors.len() <= requests.len(),
            "divisions that were not asked for count as no failed requests"
        );
        let mut failures = outcome.readings.iter().map(|it| it.reading.balance.clone().unwrap_err());
        assert!(
            failures
                .all(|why| why.persistence == Persistence::Transient
                    && why.reason.contains("no complete answer in time"))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_cycle_ends_early_when_the_api_begins_to_hang_in_the_middle() {
    let ran = cycles(|id| id <= 500, 2).await;
    let (outcome, requests, took) = &ran[0];
    assert!(*took < Duration::from_secs(60), "{took:?}");
    assert!(requests.len() < 500 + 2 * 16, "{}", requests.len());
    assert_eq!((outcome.readings.len(), outcome.unreadable), (2000, 1500));
    let mut failures = outcome.readings.iter().filter_map(|it| it.reading.balance.as_ref().err());
    assert!(
        failures
            .all(|why| why.persistence == Persistence::Transient && why.reason.contains("no complete answer in time"))
    );
    assert_eq!(ran[1].1[0], 517, "the next cycle begins with the divisions that are left");
}

#[tokio::test(start_paused = true)]
async fn an_answer_between_timeouts_keeps_all_divisions_being_read() {
    let ran = cycles(|id| id > 15 && id <= 1985, 1).await;
    assert_eq!((ran[0].1.len(), ran[0].0.unreadable), (2000, 30));
}

#[tokio::test(start_paused = true)]
async fn hanging_divisions_delay_others_by_a_cycle_at_most() {
    let ran = cycles(|id| id > 31, 2).await;
    assert_eq!(ran[0].0.unreadable, 2000, "the first divisions hang");
    assert_eq!(ran[1].0.unreadable, 31, "the next cycle begins after them");
    assert_eq!(
        ran[1].0.readings.iter().map(|it| it.reading.division.unwrap()).collect::<Vec<_>>(),
        (1..=2000).collect::<Vec<_>>()
    );
}

#[test]
fn a_long_cycle_is_on_time_only_while_its_reads_go_on() {
    let (registry, name) = (Registry::default(), Name::from("acme"));
    let at = |minutes: i64| "2026-11-23T08:00:00Z".parse::<Time>().unwrap() + chrono::Duration::minutes(minutes);
    let progress = Arc::new(CycleProgress::default());
    registry.set_progress(&name, Arc::clone(&progress));
    registry.record_timing(&name, CycleTiming { began: at(0), ended: None, due: Some(at(1)) });
    assert!(!registry.health(at(10)).on_time);
    progress.record_read(at(10));
    assert!(registry.health(at(11)).on_time && !registry.health(at(12)).on_time);
    assert!(registry.status(&State::default(), at(11)).accounts[0].on_time);
    // Reads of a cycle that has ended do not count for the next one.
    registry.record_timing(&name, CycleTiming { began: at(0), ended: Some(at(10)), due: Some(at(1)) });
    assert!(!registry.health(at(11)).on_time);
}

#[tokio::test(start_paused = true)]
async fn accounts_that_share_a_key_are_paced_together() {
    let clock = JumpingClock::new("2026-11-23T08:00:00Z".parse().unwrap());
    let windows = DEFAULT.map(|(requests, s)| RateLimitWindow { requests, length: Duration::from_secs(s) });
    let limiter = Arc::new(RateLimiter::new(windows));
    let names = [Name::from("acme"), Name::from("beta"), Name::from("coal")];
    limiter.set_accounts(names.iter().map(|name| LimiterAccount {
        account: name.clone(),
        requests: Some(600),
        period: MINUTE * 15,
    }));
    let accounts = names.map(|name| {
        let (clock, limiter) = (Arc::clone(&clock), Arc::clone(&limiter));
        async move {
            let source = Arc::new(LimitedSource {
                clock: Arc::clone(&clock),
                limiter,
                takes: quick,
                requests: Mutex::default(),
            });
            let scope = DivisionScope::Listed((1..=600).collect());
            let policy = policy(scope, rule(Duration::ZERO, MINUTE, &["chat"]));
            let poller = poller(Arc::clone(&source) as _, &clock, AccountPolicy { account: name, ..policy });
            let store =
                StateStore::new(State::default(), Arc::new(RecordingBackend::default()) as Arc<dyn StateBackend>);
            let mut poller_state = PollerState::default();
            poller_state.set_period(Some(MINUTE * 15));
            poller.run_cycle(&mut poller_state, &store, clock.now()).await;
            assert_eq!(poller_state.progress().needed_duration(), Duration::from_secs(324), "1,800 readings together");
            std::mem::take(&mut *source.requests.lock().unwrap())
        }
    });
    let requests = futures_util::future::join_all(accounts).await.concat();
    let mut times: Vec<Duration> = requests.iter().map(|(_, at, _)| *at).collect();
    times.sort();
    let within = |from: &Duration| times.iter().filter(|at| *at >= from && **at < *from + MINUTE * 3).count();
    let most = times.iter().map(within).max().unwrap();
    assert!((600..=800).contains(&most), "{most} in three minutes: a part of the quota is left to others");
    assert!(times[1799] > Duration::from_secs(400) && times[1799] < Duration::from_secs(470), "{:?}", times[1799]);
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_share_a_key_are_warned_about_together() {
    let world = World::new().await;
    world.config_with("schedule: every 10s\n    rate_limit: [30/60s]\n    divisions: [1, 2, 3]", FUNDS);
    let text = std::fs::read_to_string(world.path("alerts.yaml")).unwrap();
    let more = |name: &str, key: &str| {
        let acme = text.split_once("accounts:\n").unwrap().1.split_once("notifiers:").unwrap().0;
        acme.replace("acme:", &format!("{name}:")).replace(bin::KEY, key)
    };
    let write = |others: &str| {
        std::fs::write(world.path("alerts.yaml"), text.replace("notifiers:", &format!("{others}notifiers:"))).unwrap();
        world.run(&["validate"])
    };
    let warning = "6 readings of acme, beta with the same API key at 30 requests in 1m need 12s, but the schedule comes every 10s";
    assert!(!write("").stdout.contains("readings"), "one account alone keeps the schedule");
    assert!(
        !write(&more("beta", "KEY-of-another-9876543210")).stdout.contains("readings"),
        "an account with another key does not count"
    );
    let ran = unwrapped(&write(&more("beta", bin::KEY)).stdout);
    assert_eq!(ran.matches("readings").count(), 1, "{ran}");
    assert!(ran.contains(warning), "{ran}");
    (1..=3).for_each(|id| world.division_funds(id, "9000.00"));
    let service = world.start();
    service.wait_cycles(2);
    let log = service.log();
    assert_eq!(log.matches("schedule is too short: 6 readings of acme, beta").count(), 1, "{log}");
    assert_eq!(service.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn listed_divisions_of_accounts_with_one_key_count_together() {
    let world = World::new().await;
    world.config_with("schedule: every 10s\n    rate_limit: [30/60s]\n    divisions: all", FUNDS);
    let text = std::fs::read_to_string(world.path("alerts.yaml")).unwrap();
    let acme = text.split_once("accounts:\n").unwrap().1.split_once("notifiers:").unwrap().0.to_owned();
    let both = text.replace("notifiers:", &format!("{}notifiers:", acme.replace("acme:", "beta:")));
    std::fs::write(world.path("alerts.yaml"), both).unwrap();
    world.list(&[(1, "A", true), (2, "B", true), (3, "C", true)]);
    (1..=3).for_each(|id| world.division_funds(id, &format!("{id}000.00")));
    let ran = world.run(&["validate", "--online"]);
    assert_eq!(ran.stdout.matches("6 readings of acme, beta with the same API key").count(), 1, "{ran:?}");
}
