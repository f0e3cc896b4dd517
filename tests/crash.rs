//! Nothing lost, nothing twice: the process dies at every step of a scripted month, and people still hear what they would
//! have heard had it lived. What they should hear is what a month without a death told them.
//!
//! `LOWTIDE_LONG=1` dies at every single step, and more than ten thousand times at random.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // panicking is how a test ends

#[path = "support/bin.rs"]
mod bin;
#[path = "support/month.rs"]
mod month;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bin::{FUNDS, World, wait_until};
use month::{Month, Plan, Told, is_a_move, play};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use wiremock::ResponseTemplate;

fn long() -> bool {
    std::env::var_os("LOWTIDE_LONG").is_some_and(|value| value == "1")
}

fn heard(month: &Month) -> BTreeSet<Told> {
    month.told.keys().cloned().collect()
}

/// What is wrong with a month, measured by one without a death.
fn faults(calm: &Month, month: &Month) -> Vec<String> {
    let (expected, heard) = (heard(calm), heard(month));
    let lost = expected.difference(&heard).map(|it| format!("lost: {it:?}"));
    let invented = heard.difference(&expected).map(|it| format!("invented: {it:?}"));
    let mut faults: Vec<String> = lost.chain(invented).collect();
    faults.extend(repeated(month));
    faults
}

/// What was told more often than once and once for each death between its send and its mark, or under another id.
fn repeated(month: &Month) -> Vec<String> {
    let pardoned = |told: &Told| month.pardoned.get(told).copied().unwrap_or_default();
    let too_often = month.told.iter().filter(|(told, times)| **times > 1 + pardoned(told));
    let mut faults: Vec<String> = too_often.map(|(told, times)| format!("{times} times: {told:?}")).collect();
    let renamed = month.ids.iter().filter(|(_, ids)| ids.len() > 1);
    faults.extend(renamed.map(|(told, ids)| format!("under different ids {ids:?}: {told:?}")));
    if month.state != lowtide::domain::state::State::default() {
        faults.push(format!("not at rest at the end: {:?}", month.state));
    }
    faults
}

/// Plays many months on all cores, and tells where the process died how often.
fn play_all(plans: Vec<Plan>, check: impl Fn(usize, &Month) + Sync) -> BTreeMap<&'static str, usize> {
    let (plans, next, deaths) = (Mutex::new(plans), AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(4);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let Some(plan) = plans.lock().unwrap().pop() else { return };
                    let month = play(plan);
                    check(next.fetch_add(1, Ordering::SeqCst), &month);
                    for death in month.deaths {
                        *deaths.lock().unwrap().entry(death).or_default() += 1;
                    }
                }
            });
        }
    });
    deaths.into_inner().unwrap()
}

fn random_lives(seed: u64, longest: usize) -> impl Iterator<Item = usize> {
    let mut dice = StdRng::seed_from_u64(seed);
    std::iter::repeat_with(move || dice.random_range(1..=longest))
}

#[test]
fn a_month_without_a_death_tells_each_move_of_the_script_once() {
    let calm = play(Plan::calm());
    assert_eq!(calm.told.values().copied().collect::<BTreeSet<_>>(), BTreeSet::from([1]), "nothing is told twice");
    assert_eq!(faults(&calm, &calm), Vec::<String>::new());
    let moves = |who: &str, alert: &str| {
        let moves = calm.told.keys().filter(|it| it.who == who && it.alert == alert && is_a_move(it.kind));
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
    let notices = calm.told.keys().filter(|it| it.kind.starts_with("notifier")).count();
    assert_eq!(notices, 2 * 2 * 3 + 2 * 3, "slack failed twice, the pager once: failing and recovered, to all others");
    assert!(calm.deaths.is_empty() && calm.steps > 800, "{}", calm.steps);
}

#[test]
fn a_death_at_any_one_step_loses_nothing_and_repeats_only_what_it_interrupted() {
    let calm = play(Plan::calm());
    let stride = if long() { 1 } else { 17 };
    let steps: Vec<usize> = (1..=calm.steps).step_by(stride).collect();
    let deaths = play_all(steps.iter().map(|step| Plan::dying(std::iter::once(*step))).collect(), |_, month| {
        let problems = faults(&calm, month);
        assert!(problems.is_empty(), "{} of {:?}: {problems:#?}", month.steps, month.deaths);
        assert!(month.told.values().map(|times| times - 1).max() <= Some(1));
    });
    let total: usize = deaths.values().sum();
    println!("{total} deaths: {deaths:?}");
    assert!(total + 10 * steps.len() / 100 >= steps.len(), "a jittered month may be a few steps shorter, no more");
}

#[test]
fn a_thousand_deaths_lose_nothing_and_repeat_only_what_they_interrupted() {
    let calm = play(Plan::calm());
    let months = if long() { 100 } else { 12 };
    // From lives that end before their first cycle does to such that last for days.
    let longest = |seed: u64| [30, 60, 90, 120][usize::try_from(seed % 4).unwrap()];
    let plans = (0..months).map(|seed| Plan::dying(random_lives(seed, longest(seed)))).collect();
    let repeats = AtomicUsize::new(0);
    let deaths = play_all(plans, |_, month| {
        let problems = faults(&calm, month);
        assert!(problems.is_empty(), "after {} deaths: {problems:#?}", month.deaths.len());
        repeats.fetch_add(month.told.values().map(|times| times - 1).sum(), Ordering::SeqCst);
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
fn whatever_is_missed_while_dead_what_was_promised_is_told_and_who_heard_the_beginning_hears_the_end() {
    let months = if long() { 100 } else { 12 };
    let plan = |seed| Plan {
        missed: Box::new(random_lives(seed + 1, 9).map(|it| i64::try_from(it).unwrap() - 3)),
        ..Plan::dying(random_lives(seed, 300))
    };
    let deaths = play_all((0..months).map(plan).collect(), |_, month| {
        let problems = repeated(month);
        assert!(problems.is_empty(), "after {} deaths: {problems:#?}", month.deaths.len());
        for (notifier, event) in month.promised.iter().filter(|(_, event)| is_a_move(event.kind)) {
            let same = |it: &&Told| Told { who: String::new(), ..(*it).clone() } == *event;
            let heard_by: BTreeSet<&str> = month.told.keys().filter(same).map(|it| &*it.who).collect();
            let refused = notifier == "pager" && !heard_by.is_empty(); // then its fallback, or who was told anyway
            let heard = heard_by.iter().any(|who| who.split(':').next() == Some(notifier));
            assert!(heard || refused, "promised by {notifier}, and not told: {event:?}");
        }
        let mut last: BTreeMap<(&str, &str), &Told> = BTreeMap::new();
        for told in month.told.keys().filter(|it| !it.kind.starts_with("notifier")) {
            let known = last.entry((&told.who, &told.alert)).or_insert(told);
            if told.at > known.at {
                *known = told;
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
    let calm = play(Plan::calm());
    let month = play(Plan { forgetful_disk: true, ..Plan::dying(random_lives(7, 160)) });
    let problems = faults(&calm, &month);
    assert!(problems.iter().any(|it| it.starts_with("lost")), "{problems:#?}");
    assert!(problems.iter().any(|it| it.contains(" times: ")), "{problems:#?}");
}

/// What is on disk as owed, and was told: a kill that fell between the send and its mark.
fn told_and_owed(world: &World, amount: &str) -> usize {
    let bytes = std::fs::read(world.path("state.json")).ok();
    let state = bytes.map(|bytes| lowtide::store::decode(&bytes).unwrap().state).unwrap_or_default();
    let owed = serde_json::to_string(&state.owed).unwrap().contains(amount);
    usize::from(owed && times_told(world, &money(amount)) > 0)
}

fn times_told(world: &World, money: &str) -> usize {
    world.told().iter().filter(|message| message.contains(money)).count()
}

fn money(amount: &str) -> String {
    match amount.len() {
        7.. => format!("USD {},{} left", &amount[..1], &amount[1..]),
        _ => format!("USD {amount} left"),
    }
}

#[tokio::test]
async fn the_real_binary_killed_at_many_moments_loses_nothing_and_repeats_only_what_was_interrupted() {
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
                    times_told(&world, &money(amount)) > k / 2 || service.cycles() > 0
                });
            } else {
                std::thread::sleep(Duration::from_millis(slow * (k as u64) / 2 + 9 * n as u64));
            }
            service.kill();
            kills += 1;
            interrupted += told_and_owed(&world, amount);
        }
        let service = world.start();
        wait_until("the message", || times_told(&world, &money(amount)) > 0);
        wait_until("nothing owed", || service.cycles() > 0 && !world.state().contains("\"owed\""));
        // The ledger of this world cannot be read; the state can.
        let loud = |line: &str| line.contains("ERROR") && line.contains("cannot be read");
        assert!(!service.log().lines().any(loud), "{}", service.log());
        service.kill();
        let repeats = times_told(&world, &money(amount)) - 1;
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
