//! Quiet hours: held events are sent as one message at the end, none is lost, and holding is no failure.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::support::bin::{FUNDS, World, wait_until};
use crate::support::delivery::{AcceptingNotifier, Attempt, DeliveryBench, TestNotifier, epoch};
use async_trait::async_trait;
use chrono::{NaiveTime, Timelike, Utc, Weekday};
use lowtide::domain::alert::TransitionKind;
use lowtide::domain::quiet_hours::QuietHours;
use lowtide::notify::{Delivered, Message, Notifier, SendError};
use lowtide::util::clock::{Clock, SystemClock};
use proptest::prelude::*;

/// Quiet hours of the bench, which begins on Tue 24 Nov 2026, 06:00 UTC: from 10 minutes later, for 80 minutes.
const BEGINS: u64 = 600;
const ENDS: i64 = 5400;

fn quiet(except_critical: bool) -> QuietHours {
    let hours = (NaiveTime::from_hms_opt(6, 10, 0).unwrap(), NaiveTime::from_hms_opt(7, 30, 0).unwrap());
    QuietHours::new(chrono_tz::Tz::UTC, Some(hours), [], except_critical).unwrap()
}

fn bench(except_critical: bool) -> DeliveryBench {
    assert_eq!(epoch().time(), NaiveTime::from_hms_opt(6, 0, 0).unwrap());
    DeliveryBench::with_quiet_hours(
        vec![TestNotifier::accepting("it"), TestNotifier::accepting("other")],
        Some(quiet(except_critical)),
    )
}

/// Channel on which every send fails.
struct BrokenNotifier;

#[async_trait]
impl Notifier for BrokenNotifier {
    async fn send(&self, _: &Message) -> Result<Delivered, SendError> {
        Err(SendError { permanent: false, reason: "down".to_owned(), retry_after: None, refused: Vec::new() })
    }
}

#[tokio::test(start_paused = true)]
async fn held_messages_are_sent_as_one_when_quiet_hours_end() {
    let bench = bench(false);
    bench.enqueue("acme", TransitionKind::Raised, &["it", "other"]).await;
    bench.pass(BEGINS).await;
    bench.enqueue("acme", TransitionKind::Escalated, &["it", "other"]).await;
    bench.pass(60).await;
    bench.enqueue("beta", TransitionKind::Raised, &["it"]).await;
    bench.pass(60).await;
    bench.enqueue("beta", TransitionKind::Resolved, &["it"]).await;
    assert_eq!(bench.pending("it"), 3);
    bench.pass(7200).await;
    let sent = bench.delivered("it");
    let held = ["escalated acme", "raised beta", "resolved beta"].map(str::to_owned).to_vec();
    assert_eq!(sent, [(0, vec!["raised acme".to_owned()]), (ENDS, held)]);
    assert_eq!(bench.delivered("other").len(), 2, "a notifier that is quiet holds no other");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_excepted_critical_alert_is_sent_at_once_with_what_is_held() {
    let bench = bench(true);
    bench.pass(BEGINS).await;
    bench.enqueue("acme", TransitionKind::Raised, &["it"]).await;
    bench.pass(600).await;
    assert!(bench.delivered("it").is_empty());
    bench.enqueue("acme", TransitionKind::Escalated, &["it"]).await;
    bench.pass(600).await;
    bench.enqueue("acme", TransitionKind::Eased, &["it"]).await;
    bench.pass(600).await;
    bench.enqueue("acme", TransitionKind::Resolved, &["it"]).await;
    bench.pass(7200).await;
    let sent: Vec<_> = bench.delivered("it").into_iter().map(|(at, sent)| (at, sent.join(", "))).collect();
    let expected = [(1200, "raised acme, escalated acme"), (1800, "eased acme"), (ENDS, "resolved acme")];
    assert_eq!(sent, expected.map(|(at, sent)| (at, sent.to_owned())));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn held_is_not_failing_neither_for_the_fallback_nor_for_a_report() {
    let night = QuietHours::new(
        chrono_tz::Tz::UTC,
        Some((NaiveTime::from_hms_opt(6, 10, 0).unwrap(), NaiveTime::from_hms_opt(18, 0, 0).unwrap())),
        [],
        false,
    );
    let seat = TestNotifier {
        name: "it",
        fallback: Some("spare"),
        notifier: Arc::new(AcceptingNotifier),
        hangs: Arc::default(),
    };
    let bench = DeliveryBench::with_quiet_hours(vec![seat, TestNotifier::accepting("spare")], Some(night.unwrap()));
    bench.pass(BEGINS).await;
    bench.enqueue("acme", TransitionKind::Raised, &["it"]).await;
    bench.pass(24 * 3600).await;
    assert_eq!(bench.delivered("it"), [(12 * 3600, vec!["raised acme".to_owned()])]);
    assert!(bench.attempts("spare").is_empty());
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_notifier_is_retried_after_quiet_hours_before_fallback() {
    let seat =
        TestNotifier { name: "it", fallback: Some("spare"), notifier: Arc::new(BrokenNotifier), hangs: Arc::default() };
    let bench = DeliveryBench::with_quiet_hours(vec![seat, TestNotifier::accepting("spare")], Some(quiet(false)));
    bench.pass(BEGINS - 120).await;
    bench.enqueue("acme", TransitionKind::Raised, &["it"]).await;
    bench.pass(7200).await;
    let within = |it: &&Attempt| (600..ENDS).contains(&it.at);
    assert_eq!(bench.attempts("it").iter().filter(within).count(), 0, "no attempts in quiet hours");
    let tries = bench.attempts("spare");
    assert_eq!(tries[0].events, ["raised acme via it"]);
    assert!((ENDS + 300..ENDS + 330).contains(&tries[0].at), "{tries:?}");
    assert!(bench.attempts("it").iter().any(|it| it.at == ENDS));
    bench.pass(3600).await;
    assert!(bench.attempts("spare").iter().any(|it| it.events == ["it fails"] && it.at >= ENDS + 3600));
    bench.end().await;
}

fn play(steps: Vec<(u64, usize)>, except_critical: bool) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (bench, hours) = (bench(except_critical), quiet(except_critical));
        let (mut last_kinds, mut queued) = (BTreeMap::<usize, TransitionKind>::new(), Vec::new());
        for (gap, account) in steps {
            bench.pass(gap).await;
            let kind = match last_kinds.get(&account) {
                None | Some(TransitionKind::Resolved) => TransitionKind::Raised,
                Some(TransitionKind::Raised) => TransitionKind::Escalated,
                Some(_) => TransitionKind::Resolved,
            };
            last_kinds.insert(account, kind);
            queued.push(format!("{} {}", kind.name(), ["a", "b", "c", "d"][account]));
            bench.enqueue(["a", "b", "c", "d"][account], kind, &["it"]).await;
        }
        bench.pass(25 * 3600).await;
        let delivered = bench.delivered("it");
        for (at, sent) in &delivered {
            let at = epoch() + chrono::Duration::seconds(*at);
            let critical = sent.iter().any(|sent| sent.starts_with("escalated"));
            prop_assert!(hours.until(at).is_none() || except_critical && critical, "{at}: {sent:?}");
        }
        let sent: Vec<String> = delivered.into_iter().flat_map(|(_, sent)| sent).collect();
        prop_assert_eq!(sent, queued, "every event is sent once and in order");
        bench.end().await;
        Ok(())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_and_nothing_is_sent_in_quiet_hours(
        steps in proptest::collection::vec((1u64..9000, 0usize..4), 1..24), except_critical in any::<bool>()
    ) {
        play(steps, except_critical)?;
    }
}

/// Configures quiet hours from two hours ago to two hours from now, or all of today and tomorrow if that crosses midnight.
fn quiet_now(except: &str) -> String {
    let hour = |ahead: i64| (SystemClock.now() + chrono::Duration::hours(ahead)).hour();
    format!("quiet_hours: {{ from: \"{:02}:00\", to: \"{:02}:00\"{except} }}", hour(-2), hour(2))
}

fn config(world: &World, quiet: &str) {
    world.config(&format!("    {quiet}\n{FUNDS}"));
}

#[tokio::test]
async fn the_service_holds_warnings_and_sends_them_after_a_restart_as_one() {
    let world = World::new().await;
    config(&world, &quiet_now(""));
    world.funds("1500.00");
    let service = world.start();
    service.wait_event("raised funds/acme");
    world.funds("5000.00");
    service.wait_event("resolved funds/acme");
    world.let_a_cycle_pass();
    assert_eq!(world.told().len(), 0);
    let status = world.run(&["status", "-o", "json"]).json();
    assert_eq!((&status["pending"][0]["events"], &status["pending"][0]["notifier"]), (&2.into(), &"slack".into()));
    let until: chrono::DateTime<Utc> = status["pending"][0]["held_until"].as_str().unwrap().parse().unwrap();
    assert!(until > SystemClock.now() && until.minute() == 0, "{until}");
    assert!(world.run(&["status"]).stdout.contains(&until.format("%Y-%m-%d %H:%M:%S UTC").to_string()));
    service.kill();

    config(&world, "");
    let _service = world.start();
    let sent = world.wait_told(1);
    assert!(sent.contains("Resolved: acme: USD 5,000.00 left"), "{sent}");
    assert!(sent.contains("Raised ") && sent.contains(" at USD 1,500.00"), "the pair in one message: {sent}");
}

#[tokio::test]
async fn the_real_service_lets_critical_through() {
    let world = World::new().await;
    config(&world, &quiet_now(", except: critical"));
    world.funds("1500.00");
    let service = world.start();
    service.wait_event("raised funds/acme");
    world.let_a_cycle_pass();
    assert_eq!(world.told().len(), 0);
    world.funds("411.00");
    let sent = world.wait_told(1);
    assert!(sent.contains("Now critical: acme: USD 411.00 left") && sent.contains("Raised "), "{sent}");
    wait_until("nothing owed", || !world.state().contains("\"owed\""));
}

#[test]
fn days_are_quiet_all_day() {
    let weekend = QuietHours::new(chrono_tz::Tz::Europe__Amsterdam, None, [Weekday::Sat, Weekday::Sun], false).unwrap();
    let until = weekend.until("2026-11-28T12:00:00Z".parse().unwrap());
    assert_eq!(until, Some("2026-11-29T23:00:00Z".parse().unwrap()));
}
