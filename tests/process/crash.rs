//! Nothing lost, nothing twice: the process dies at every step of a scripted month, and people still hear what they would
//! have heard had it lived. What they should hear is what a month without a death told them.
//!
//! `LOWTIDE_LONG=1` dies at every single step, and more than ten thousand times at random.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::bin::{FUNDS, World, wait_until};
use crate::month::{CrashPlan, MonthResult, Notification, is_transition, run_month};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use wiremock::ResponseTemplate;

fn long() -> bool {
    std::env::var_os("LOWTIDE_LONG").is_some_and(|value| value == "1")
}

fn notified(month: &MonthResult) -> BTreeSet<Notification> {
    month.notified.keys().cloned().collect()
}

/// What is wrong with a month, measured by one without a death.
fn mistakes(calm: &MonthResult, month: &MonthResult) -> Vec<String> {
    let (expected, received) = (notified(calm), notified(month));
    let lost = expected.difference(&received).map(|it| format!("lost: {it:?}"));
    let invented = received.difference(&expected).map(|it| format!("invented: {it:?}"));
    let mut faults: Vec<String> = lost.chain(invented).collect();
    faults.extend(repeated(month));
    faults
}

/// What was told more often than once and once for each death between its send and its mark, or under another id.
fn repeated(month: &MonthResult) -> Vec<String> {
    let pardoned = |notice: &Notification| month.excused.get(notice).copied().unwrap_or_default();
    let too_often = month.notified.iter().filter(|(notice, times)| **times > 1 + pardoned(notice));
    let mut faults: Vec<String> = too_often.map(|(notice, times)| format!("{times} times: {notice:?}")).collect();
    let renamed = month.ids.iter().filter(|(_, ids)| ids.len() > 1);
    faults.extend(renamed.map(|(notice, ids)| format!("under different ids {ids:?}: {notice:?}")));
    if month.state != lowtide::alerting::state::State::default() {
        faults.push(format!("not at rest at the end: {:?}", month.state));
    }
    faults
}

/// Plays many months on all cores, and tells where the process died how often.
fn play_all(plans: Vec<CrashPlan>, check: impl Fn(usize, &MonthResult) + Sync) -> BTreeMap<&'static str, usize> {
    let (plans, next, deaths) = (Mutex::new(plans), AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(4);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let Some(plan) = plans.lock().unwrap().pop() else { return };
                    let month = run_month(plan);
                    check(next.fetch_add(1, Ordering::SeqCst), &month);
                    for death in month.crashes {
                        *deaths.lock().unwrap().entry(death).or_default() += 1;
                    }
                }
            });
        }
    });
    deaths.into_inner().unwrap()
}

fn random_lifetimes(seed: u64, longest: usize) -> impl Iterator<Item = usize> {
    let mut dice = StdRng::seed_from_u64(seed);
    std::iter::repeat_with(move || dice.random_range(1..=longest))
}

#[test]
fn a_month_without_a_crash_notifies_each_transition_once() {
    let calm = run_month(CrashPlan::without_crashes());
    assert_eq!(calm.notified.values().copied().collect::<BTreeSet<_>>(), BTreeSet::from([1]), "nothing is told twice");
    assert_eq!(mistakes(&calm, &calm), Vec::<String>::new());
    let moves = |who: &str, alert: &str| {
        let moves = calm.notified.keys().filter(|it| it.who == who && it.alert == alert && is_transition(it.kind));
        let mut moves: Vec<_> = moves.map(|it| (it.at, it.kind)).collect();
        moves.sort_unstable();
        moves.into_iter().map(|(at, kind)| format!("{}.{} {kind}", at / 86400, at / 3600 % 24)).collect::<Vec<_>>()
    };
    assert_eq!(
        moves("slack", "funds/acme/11"),
        [
            "2.0 raised",
            "3.0 escalated",
            "4.12 eased",
            "5.6 escalated",
            "6.6 resolved",
            "10.6 raised",
            "11.12 eased",
            "12.0 resolved",
            "25.6 raised",
            "26.0 escalated",
            "26.12 resolved",
            "28.0 raised",
            "29.12 resolved",
        ]
    );
    assert_eq!(
        moves("mail:b@example.com", "unreadable/acme/12"),
        ["7.12 raised", "8.18 resolved", "15.6 raised", "15.18 resolved"]
    );
    assert_eq!(moves("mail:a@example.com", "invoices/beta"), ["8.12 raised", "14.0 resolved"]);
    assert_eq!(moves("slack", "funds/acme/13"), ["18.0 raised", "20.0 unwatched"]);
    let pager = ["21.12 raised", "21.18 resolved", "22.0 raised", "22.6 eased", "22.12 resolved"];
    assert_eq!(moves("pager", "funds/beta"), pager);
    let notices = calm.notified.keys().filter(|it| it.kind.starts_with("notifier")).count();
    assert_eq!(notices, 2 * 2 * 3 + 2 * 3, "slack failed twice, the pager once: failing and recovered, to all others");
    assert!(calm.crashes.is_empty() && calm.steps > 800, "{}", calm.steps);
}

#[test]
fn a_crash_at_any_step_loses_nothing_and_repeats_only_its_send() {
    let calm = run_month(CrashPlan::without_crashes());
    let stride = if long() { 1 } else { 17 };
    let steps: Vec<usize> = (1..=calm.steps).step_by(stride).collect();
    let deaths =
        play_all(steps.iter().map(|step| CrashPlan::crashing_after(std::iter::once(*step))).collect(), |_, month| {
            let problems = mistakes(&calm, month);
            assert!(problems.is_empty(), "{} of {:?}: {problems:#?}", month.steps, month.crashes);
            assert!(month.notified.values().map(|times| times - 1).max() <= Some(1));
        });
    let total: usize = deaths.values().sum();
    println!("{total} deaths: {deaths:?}");
    assert!(total + 10 * steps.len() / 100 >= steps.len(), "a jittered month may be a few steps shorter, no more");
}

#[test]
fn a_thousand_deaths_lose_nothing_and_repeat_only_what_they_interrupted() {
    let calm = run_month(CrashPlan::without_crashes());
    let months = if long() { 100 } else { 12 };
    // From lives that end before their first cycle does to such that last for days.
    let longest = |seed: u64| [30, 60, 90, 120][usize::try_from(seed % 4).unwrap()];
    let plans = (0..months).map(|seed| CrashPlan::crashing_after(random_lifetimes(seed, longest(seed)))).collect();
    let repeats = AtomicUsize::new(0);
    let deaths = play_all(plans, |_, month| {
        let problems = mistakes(&calm, month);
        assert!(problems.is_empty(), "after {} deaths: {problems:#?}", month.crashes.len());
        repeats.fetch_add(month.notified.values().map(|times| times - 1).sum(), Ordering::SeqCst);
    });
    let total: usize = deaths.values().sum();
    println!("{total} deaths: {deaths:?}; {} repeats", repeats.load(Ordering::SeqCst));
    assert!(total >= if long() { 10_000 } else { 1_000 }, "{total}");
    let everywhere =
        ["after a save", "after a send", "before a listing", "before a reading", "before a save", "before a send"];
    assert_eq!(deaths.into_keys().collect::<Vec<_>>(), everywhere);
    assert!(repeats.into_inner() > 0, "some deaths fell between a send and its mark");
}

#[test]
fn after_downtime_pending_events_are_sent_and_ends_follow_beginnings() {
    let months = if long() { 100 } else { 12 };
    let plan = |seed| CrashPlan {
        missed: Box::new(random_lifetimes(seed + 1, 9).map(|it| i64::try_from(it).unwrap() - 3)),
        ..CrashPlan::crashing_after(random_lifetimes(seed, 300))
    };
    let deaths = play_all((0..months).map(plan).collect(), |_, month| {
        let problems = repeated(month);
        assert!(problems.is_empty(), "after {} deaths: {problems:#?}", month.crashes.len());
        for (notifier, event) in month.queued.iter().filter(|(_, event)| is_transition(event.kind)) {
            let same = |it: &&Notification| Notification { who: String::new(), ..(*it).clone() } == *event;
            let heard_by: BTreeSet<&str> = month.notified.keys().filter(same).map(|it| &*it.who).collect();
            let refused = notifier == "pager" && !heard_by.is_empty(); // then its fallback, or who was told anyway
            let was_notified = heard_by.iter().any(|who| who.split(':').next() == Some(notifier));
            assert!(was_notified || refused, "promised by {notifier}, and not told: {event:?}");
        }
        let mut last: BTreeMap<(&str, &str), &Notification> = BTreeMap::new();
        for notice in month.notified.keys().filter(|it| !it.kind.starts_with("notifier")) {
            let known = last.entry((&notice.who, &notice.alert)).or_insert(notice);
            if notice.at > known.at {
                *known = notice;
            }
        }
        let open: Vec<_> = last.values().filter(|it| !["resolved", "unwatched"].contains(&it.kind)).collect();
        assert!(open.is_empty(), "who heard the beginning hears the end: {open:#?}");
    });
    let total: usize = deaths.values().sum();
    println!("{total} deaths with pauses: {deaths:?}");
    assert!(total >= usize::try_from(months).unwrap() * 3, "{total}");
}

#[test]
fn a_disk_that_only_pretends_to_save_would_be_noticed_here() {
    let calm = run_month(CrashPlan::without_crashes());
    let month = run_month(CrashPlan { disk_loses_writes: true, ..CrashPlan::crashing_after(random_lifetimes(7, 160)) });
    let problems = mistakes(&calm, &month);
    assert!(problems.iter().any(|it| it.starts_with("lost")), "{problems:#?}");
    assert!(problems.iter().any(|it| it.contains(" times: ")), "{problems:#?}");
}

/// What is on disk as owed, and was told: a kill that fell between the send and its mark.
fn sent_but_pending(world: &World, amount: &str) -> usize {
    let bytes = std::fs::read(world.path("state.json")).ok();
    let state = bytes.map(|bytes| lowtide::state::decode(&bytes).unwrap().state).unwrap_or_default();
    let pending = serde_json::to_string(&state.queue).unwrap().contains(amount);
    usize::from(pending && times_sent(world, &money(amount)) > 0)
}

fn times_sent(world: &World, money: &str) -> usize {
    world.told().iter().filter(|message| message.contains(money)).count()
}

fn money(amount: &str) -> String {
    match amount.len() {
        7.. => format!("USD {},{} left", &amount[..1], &amount[1..]),
        _ => format!("USD {amount} left"),
    }
}

#[tokio::test]
async fn the_binary_killed_often_loses_nothing_and_repeats_only_its_sends() {
    let world = World::new().await;
    world.config(FUNDS);
    // Each amount is one move of the one alert, and so one message, whenever and however often the process dies.
    let script = ["1431.01", "411.02", "1522.03", "422.04", "1633.05", "433.06", "1744.07", "444.08"];
    let (kills_each, slow) = if long() { (24, 25) } else { (4, 100) };
    let (mut kills, mut interrupted_total, mut repeats_total) = (0, 0, 0);
    for (n, amount) in script.into_iter().enumerate() {
        world.funds(amount);
        // Slack takes a while: long enough to die in the middle of it.
        world.slack_answers(ResponseTemplate::new(200).set_delay(Duration::from_millis(40)).set_body_string("ok"));
        let mut interrupted = 0;
        for k in 0..kills_each {
            let service = world.start();
            if k % 2 == 0 {
                // As soon as it is told, or, where it was told already, after the first cycle.
                wait_until("the message or a cycle", || {
                    times_sent(&world, &money(amount)) > k / 2 || service.cycles() > 0
                });
            } else {
                std::thread::sleep(Duration::from_millis(slow * (k as u64) / 2 + 9 * n as u64));
            }
            service.kill();
            kills += 1;
            interrupted += sent_but_pending(&world, amount);
        }
        let service = world.start();
        wait_until("the message", || times_sent(&world, &money(amount)) > 0);
        wait_until("an empty queue", || service.cycles() > 0 && !world.state().contains("\"queue\""));
        // The ledger of this world cannot be read; the state can.
        let loud = |line: &str| line.contains("ERROR") && line.contains("cannot be read");
        assert!(!service.log().lines().any(loud), "{}", service.log());
        service.kill();
        let repeats = times_sent(&world, &money(amount)) - 1;
        assert!(
            repeats <= interrupted,
            "{amount}: {repeats} repeats, {interrupted} deaths between the send and its mark"
        );
        interrupted_total += interrupted;
        repeats_total += repeats;
    }
    println!("{kills} kills, {interrupted_total} between a send and its mark, {repeats_total} repeats");
    assert_eq!(kills, script.len() * kills_each);
    assert!(interrupted_total > 0, "some fell between a send and its mark");
}
