//! Silences mute notifications and nothing else: added by command, with and without a running service, and in the configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::account_policy::{self, at};
use crate::support::bin::{self, FUNDS, Ran, World, wait_until};
use lowtide::alerting::policy::{AccountPolicy, DivisionScope};
use lowtide::alerting::process::process;
use lowtide::alerting::readings::{AccountReadings, DivisionReading};
use lowtide::alerting::state::State;
use lowtide::domain::alert::{Alert, AlertKey, TransitionKind};
use lowtide::domain::balance::{Balance, Persistence, Unreadable};
use lowtide::domain::money::{Currency, parse_amount};
use lowtide::domain::rule::{Level, Metric, Rule, Severity, ThresholdAmount, ThresholdSide};
use lowtide::domain::silence::Silence;
use proptest::prelude::*;
use wiremock::ResponseTemplate;

fn add(world: &World, more: &[&str]) -> Ran {
    world.run(&[&["silence", "add", "--account", "acme"], more].concat())
}

fn ids(world: &World) -> Vec<u64> {
    let listed = world.run(&["silence", "list", "-o", "json"]).json();
    listed["silences"].as_array().unwrap().iter().filter_map(|it| it["id"].as_u64()).collect()
}

#[tokio::test]
async fn a_silence_survives_a_crash_and_ends_when_the_alert_gets_worse() {
    let world = World::new().await;
    world.funds("1500.00");
    let service = world.start();
    assert!(world.wait_told(1).contains("USD 1,500.00 left"));
    let added = add(&world, &["--for", "1h", "--reason", "PO 4711 raised"]);
    // The answer means that the silence is on disk, even if the service is killed right after it.
    service.kill();
    assert_eq!(added.code, Some(0), "{added:?}");
    assert!(added.stdout.starts_with("Silence 1 (in the running service): acme, every rule, warnings only, until "));
    assert!(added.stdout.contains("Silenced: funds/acme, which fires at warning."), "{added:?}");
    assert!(world.state().contains("PO 4711 raised"));

    let service = world.start();
    service.wait_cycles(1);
    world.funds("1400.00");
    world.let_a_cycle_pass();
    assert_eq!(world.told().len(), 1);
    let status = world.run(&["status"]).stdout;
    assert!(status.contains("Silences (1 row)") && status.contains("PO 4711 raised"), "{status}");
    let status = world.run(&["status", "-o", "json"]).json();
    assert_eq!(status["alerts"][0]["silenced"]["reason"], "PO 4711 raised", "{status}");

    world.funds("411.00");
    let broken = world.wait_told(2);
    assert!(broken.contains("Now critical: acme: USD 411.00 left"), "{broken}");
    assert!(
        broken.contains("Only its warnings are silenced, until ") && broken.contains("(PO 4711 raised)"),
        "{broken}"
    );
    world.funds("1600.00");
    assert!(world.wait_told(3).contains("Improved to warning"), "who heard critical hears that it is over");
    world.funds("1700.00");
    world.let_a_cycle_pass();
    world.funds("5000.00");
    let over = world.wait_told(4);
    assert!(
        over.contains("Resolved: acme: USD 5,000.00 left") && over.contains("you were notified when it began"),
        "{over}"
    );
    assert_eq!(service.stop(), Some(0));
}

#[tokio::test]
async fn a_silence_added_offline_ends_and_firing_alerts_notify_once() {
    let world = World::new().await;
    world.funds("1500.00");
    let added = add(&world, &["--rule", "funds", "--for", "4s", "--reason", "known", "--level", "critical"]);
    assert_eq!(added.code, Some(0), "{added:?}");
    assert!(
        added
            .stdout
            .starts_with("Silence 1 (in the state file; no service runs): acme, rule funds, everything, until ")
    );
    let service = world.start();
    service.wait_event("raised funds/acme");
    world.let_a_cycle_pass();
    assert!(world.state().contains("\"suppressed\""), "{}", world.state());
    assert_eq!(world.told().len(), 0, "evaluated and saved, but not notified");
    assert!(service.log().contains("alert raised, but silenced: not notified"));
    let sent = world.wait_told(1);
    assert!(sent.contains("acme: USD 1,500.00 left (warning below USD 2,000.00)"), "{sent}");
    assert!(sent.contains("It was silenced until ") && sent.contains("(known)"), "{sent}");
    assert!(!world.state().contains("silences") && !world.state().contains("suppressed"), "{}", world.state());
    assert!(ids(&world).is_empty());
    world.let_a_cycle_pass();
    assert_eq!(world.told().len(), 1, "notified once");
    assert_eq!(world.run(&["silence", "list"]).stdout, "Nothing is silenced.\n");
}

#[tokio::test]
async fn an_alert_without_notifications_is_resolved_silently() {
    let world = World::new().await;
    world.funds("1500.00");
    add(&world, &["--for", "1h"]);
    let service = world.start();
    service.wait_event("raised funds/acme");
    world.funds("5000.00");
    service.wait_event("resolved funds/acme");
    world.let_a_cycle_pass();
    assert_eq!(world.told().len(), 0);
    assert!(!world.state().contains("queue"), "{}", world.state());
}

#[tokio::test]
async fn a_silence_that_is_removed_is_over_whether_the_service_runs_or_not() {
    let world = World::new().await;
    world.funds("1500.00");
    assert_eq!(add(&world, &["--for", "1h"]).code, Some(0));
    assert_eq!(add(&world, &["--for", "2h", "--rule", "unreadable"]).code, Some(0));
    assert_eq!(ids(&world), [1, 2]);
    assert_eq!(world.run(&["silence", "remove", "2"]).code, Some(0));
    let service = world.start();
    service.wait_event("raised funds/acme");
    world.let_a_cycle_pass();
    assert_eq!((world.told().len(), ids(&world)), (0, vec![1]));
    let removed = world.run(&["silence", "remove", "1"]);
    assert_eq!(removed.code, Some(0), "{removed:?}");
    assert!(removed.stdout.contains("in the running service"), "{removed:?}");
    assert!(world.wait_told(1).contains("It was silenced until "));
    for id in ["1", "x", "-1"] {
        assert_eq!(world.run(&["silence", "remove", id]).code, Some(64), "{id}");
    }
}

#[tokio::test]
async fn an_unreadable_balance_can_be_silenced_by_rule_or_account() {
    for more in [&["--rule", "unreadable"][..], &[]] {
        let world = World::new().await;
        add(&world, &[&["--for", "1h"], more].concat());
        world.answer(None, ResponseTemplate::new(403));
        let service = world.start();
        service.wait_event("raised unreadable/acme");
        world.let_a_cycle_pass();
        assert_eq!(world.told().len(), 0, "{more:?}");
    }
    let world = World::new().await;
    add(&world, &["--for", "1h", "--rule", "funds", "--level", "critical"]);
    world.answer(None, ResponseTemplate::new(403));
    let _service = world.start();
    assert!(world.wait_told(1).contains("cannot be read"));
}

#[tokio::test]
async fn a_running_service_accepts_silences_while_its_file_is_broken() {
    let world = World::new().await;
    world.funds("1500.00");
    let good = std::fs::read_to_string(world.path("alerts.yaml")).unwrap();
    let service = world.start();
    world.wait_told(1);
    std::fs::write(world.path("alerts.yaml"), good.replace("metric: available_funds", "metric: avalable_funds"))
        .unwrap();
    assert_eq!(world.run(&["validate"]).code, Some(78));
    let listed = world.run(&["silence", "list"]);
    assert_eq!(listed.code, Some(0), "{listed:?}");
    assert!(listed.stdout.contains("Nothing is silenced by command"), "{listed:?}");
    let added = add(&world, &["--for", "1h", "--rule", "funds", "--reason", "bad save"]);
    assert_eq!(added.code, Some(0), "{added:?}");
    assert!(added.stdout.contains("in the running service") && added.stderr.contains("has mistakes"), "{added:?}");
    for (more, reason) in [
        (["--account", "acne", "--rule", "funds"], "no account is called `acne`; the service reads acme"),
        (["--account", "acme", "--rule", "fund"], "no rule is called `fund`; the service has funds, unreadable"),
    ] {
        let refused = world.run(&[&["silence", "add", "--for", "1h"], &more[..]].concat());
        assert_eq!((refused.code, refused.stderr.contains(reason)), (Some(64), true), "{refused:?}");
    }
    assert_eq!(ids(&world), [1]);
    let removed = world.run(&["silence", "remove", "1"]);
    assert_eq!((removed.code, ids(&world)), (Some(0), vec![]), "{removed:?}");
    assert_eq!(service.stop(), Some(0));
    for args in [&["silence", "list"][..], &["silence", "remove", "1"]] {
        assert_eq!(world.run(args).code, Some(78), "no service goes on with the one before");
    }
    assert_eq!(add(&world, &["--for", "1h"]).code, Some(78));
}

#[tokio::test]
async fn a_division_that_nobody_reads_is_silenced_with_a_word_of_caution() {
    let world = World::new().await;
    world.config_with("divisions: all", bin::FUNDS);
    world.list(&[(7, "Physics", true)]);
    world.division_funds(7, "9000");
    let service = world.start();
    service.wait_cycles(1);
    let typo = add(&world, &["--for", "1h", "--division", "77"]);
    assert!(typo.stdout.contains("Careful: no division 77 of acme was read lately"), "{typo:?}");
    let right = add(&world, &["--for", "1h", "--division", "7"]);
    assert!((right.code, right.stdout.contains("Careful")) == (Some(0), false), "{right:?}");
}

#[tokio::test]
async fn invalid_silences_are_refused_with_the_reason() {
    let world = World::new().await;
    let refused = |more: &[&str], reason: &str| {
        let ran = world.run(&[&["silence", "add"], more].concat());
        assert_eq!(ran.code, Some(64), "{ran:?}");
        assert!(ran.stderr.contains(reason), "{reason}: {ran:?}");
    };
    refused(&["--account", "acme"], "a silence needs an end: --for 3d, or --until 2026-12-01T09:00");
    refused(&["--for", "1h"], "--account <NAME>");
    refused(&["--account", "acme", "--for", "1h", "--until", "2036-12-01T09:00"], "cannot be used with");
    refused(&["--account", "acme", "--for", "0"], "ends at once");
    refused(&["--account", "acme", "--for", "-3d"], "not a duration");
    refused(&["--account", "acne", "--for", "1h"], "no account is called `acne`; there are acme");
    refused(
        &["--account", "acme", "--for", "1h", "--rule", "fund"],
        "no rule is called `fund`; there are funds, unreadable",
    );
    refused(&["--account", "acme", "--for", "1h", "--division", "History"], "the number of a division");
    refused(&["--account", "acme", "--for", "1h", "--division", "7"], "account acme reads no division 7");
    refused(&["--account", "acme", "--until", "2020-12-01T09:00"], "in the past, at 2020-12-01 09:00:00 UTC");
    refused(&["--account", "acme", "--until", "tomorrow"], "not a time");
    refused(&["--account", "acme", "--for", "1h", "--reason", " "], "a text on one line");
    refused(&["--account", "acme", "--for", "1h", "--level", "info"], "warning");
    assert!(!world.path("state.json").exists(), "nothing was written");
    std::fs::write(world.path("alerts.yaml"), "accounts: 1").unwrap();
    assert_eq!(add(&world, &["--for", "1h"]).code, Some(78));
}

#[tokio::test]
async fn a_state_that_cannot_be_used_is_left_alone() {
    let world = World::new().await;
    for (text, reason) in [("{ half", "cannot be read"), ("{\"version\": 9}", "newer")] {
        std::fs::write(world.path("state.json"), text).unwrap();
        let ran = add(&world, &["--for", "1h"]);
        assert_eq!((ran.code, ran.stderr.contains(reason)), (Some(1), true), "{ran:?}");
        assert_eq!(world.state(), text);
    }
}

#[tokio::test]
async fn a_state_changed_by_root_still_belongs_to_the_service_user() {
    use std::os::unix::fs::{MetadataExt, chown};
    let world = World::new().await;
    if !bin::is_root() {
        return println!("skipped: only root can give files away");
    }
    chown(world.folder.path(), Some(bin::NOBODY), Some(bin::NOBODY)).unwrap();
    chown(world.path("alerts.yaml"), Some(bin::NOBODY), Some(bin::NOBODY)).unwrap();
    world.funds("1500.00");
    for _ in 0..2 {
        assert_eq!(add(&world, &["--for", "1h"]).code, Some(0));
        for file in ["state.json", "state.json.lock"] {
            assert_eq!(std::fs::metadata(world.path(file)).unwrap().uid(), bin::NOBODY, "{file}");
        }
    }
    let service = world.start_unprivileged();
    service.wait_event("raised funds/acme");
    world.let_a_cycle_pass();
    assert_eq!((world.told().len(), ids(&world)), (0, vec![1, 2]));
}

#[tokio::test]
async fn root_gives_away_no_file_that_a_link_in_the_services_folder_points_to() {
    use std::os::unix::fs::{MetadataExt, chown, symlink};
    let world = World::new().await;
    if !bin::is_root() {
        return println!("skipped: only root can give files away");
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let others = elsewhere.path().join("shadow");
    std::fs::write(&others, "").unwrap();
    chown(world.folder.path(), Some(bin::NOBODY), Some(bin::NOBODY)).unwrap();
    symlink(&others, world.path("state.json.lock")).unwrap();
    add(&world, &["--for", "1h"]);
    assert_eq!(std::fs::metadata(&others).unwrap().uid(), 0);
}

#[test]
fn a_state_from_before_there_were_silences_is_still_a_state() {
    let old = br#"{ "version": 1, "alerts": [{ "account": "acme", "rule": "funds",
        "warning": { "since": "2026-11-23T08:15:00Z", "firing": true }, "last_event": "2026-11-23T08:15:00Z",
        "told": { "slack": null } }] }"#;
    let state = lowtide::state::decode(old).unwrap().state;
    assert!(state.silences.is_empty() && state.alerts.values().all(|known| known.suppressed.is_none()));
}

#[tokio::test]
async fn an_end_is_read_alike_in_the_file_and_on_the_command_line() {
    let world = World::new().await;
    for (until, moment) in [
        ("2126-12-01T09:00", "2126-12-01T14:00:00Z"),
        ("2126-12-01T09:00:30", "2126-12-01T14:00:30Z"),
        ("2126-12-01T09:00+01:00", "2126-12-01T08:00:00Z"),
        ("2126-12-01T09:00:00+01:00", "2126-12-01T08:00:00Z"),
        ("2126-12-01T09:00Z", "2126-12-01T09:00:00Z"),
        ("2126-12-01T09:00:00Z", "2126-12-01T09:00:00Z"),
    ] {
        let silence = format!("timezone: America/New_York\nsilences:\n  po: {{ account: acme, until: {until} }}\n");
        world.config(&format!("{FUNDS}{silence}"));
        let added = world.run(&["silence", "add", "--account", "acme", "--until", until]);
        assert_eq!(added.code, Some(0), "{until}: {added:?}");
        let listed = world.run(&["silence", "list", "-o", "json"]).json();
        let ends: Vec<&str> =
            listed["silences"].as_array().unwrap().iter().map(|it| it["until"].as_str().unwrap()).collect();
        assert_eq!(ends, [moment, moment], "{until}");
        assert_eq!(world.run(&["silence", "remove", "1"]).code, Some(0));
        std::fs::remove_file(world.path("state.json")).unwrap();
    }
}

#[tokio::test]
async fn a_configured_silence_applies_until_its_end_and_then_only_warns() {
    let world = World::new().await;
    world.funds("1500.00");
    let silence = |until: &str| {
        format!(
            "{FUNDS}silences:\n  purchase-order: {{ account: acme, rule: funds, until: \"{until}\", reason: PO 4711 }}\n"
        )
    };
    world.config(&silence("2126-12-01T09:00"));
    let service = world.start();
    service.wait_event("raised funds/acme");
    world.let_a_cycle_pass();
    assert_eq!(world.told().len(), 0);
    let listed = world.run(&["silence", "list"]).stdout;
    assert!(
        listed.contains("purchase-order (configuration)") && listed.contains("2126-12-01 09:00:00 UTC"),
        "{listed}"
    );
    assert_eq!(world.run(&["silence", "remove", "purchase-order"]).code, Some(64));
    assert_eq!(service.stop(), Some(0));

    world.config(&silence("2020-12-01T09:00"));
    let valid = world.run(&["validate"]);
    assert_eq!(valid.code, Some(0), "{valid:?}");
    assert!(
        valid.stdout.contains("the silence has ended") && valid.stdout.contains("silences.purchase-order.until"),
        "{valid:?}"
    );
    let _service = world.start();
    assert!(world.wait_told(1).contains("acme: USD 1,500.00 left"), "its end came while nobody was there");
}

#[tokio::test]
async fn silences_made_during_start_and_stop_are_applied_exactly_once() {
    let world = World::new().await;
    for round in 0..3 {
        let service = world.start();
        let adding: Vec<_> = (0..3).map(|_| add(&world, &["--for", "1h"])).collect();
        assert!(adding.iter().all(|ran| ran.code == Some(0)), "{adding:?}");
        service.wait_cycles(1);
        drop(service);
        // The socket still exists, but no process listens.
        assert!(world.path("state.json.sock").exists());
        let added = add(&world, &["--for", "1h"]);
        assert!(added.stdout.contains("no service runs"), "{added:?}");
        wait_until("the silences", || ids(&world).len() == 4 * (round + 1));
    }
}

fn policy() -> AccountPolicy {
    let level = |below: &str, to: &str| {
        let threshold = ThresholdAmount { value: parse_amount(below).unwrap(), currency: None };
        let mut level = Level::new(ThresholdSide::Below, threshold, None).unwrap();
        level.notify = vec![to.into()];
        level
    };
    let funds =
        Rule::new("funds".into(), Metric::AvailableFunds, Some(level("2000", "slack")), Some(level("500", "pager")));
    account_policy::policy(DivisionScope::Undivided, vec![funds.unwrap()], Some(Duration::from_secs(24 * 3600)))
}

fn account_readings(funds: Option<i64>) -> AccountReadings {
    let amount = |text: &str| parse_amount(text).unwrap();
    let good = |funds: i64| Balance {
        currency: Ok(Currency::parse("USD").unwrap()),
        balance: Ok(amount(&funds.to_string())),
        unpaid_invoices: Ok(amount("0")),
        used_credit: Ok(amount("0")),
        credit_limit: Ok(Some(amount("0"))),
        unlimited: Ok(false),
        reported_total: Ok(None),
    };
    let fails = || Unreadable { persistence: Persistence::Permanent, reason: "403".to_owned() };
    let balance = funds.map(good).ok_or_else(fails);
    AccountReadings {
        divisions: vec![DivisionReading { division: None, name: None, balance, forecast: None }],
        listing_failure: None,
        active: None,
    }
}

/// Level of each alert as people know it from their notifications.
#[derive(Default)]
struct NotifiedLevels(BTreeMap<AlertKey, Severity>);

impl NotifiedLevels {
    /// Receives all pending events, which are delivered with that.
    fn deliver_pending(&mut self, state: &mut State) {
        for queued in &state.queue {
            let (key, kind) = (queued.event.alert().unwrap(), queued.event.kind().unwrap());
            let before = self.0.get(key).copied();
            let level = queued.event.level().unwrap();
            match kind {
                TransitionKind::Resolved => {
                    assert!(self.0.remove(key).is_some(), "resolved without a notification before");
                }
                TransitionKind::Raised => assert!(before.is_none(), "raised twice"),
                TransitionKind::Reminder => assert_eq!(before, Some(level), "still what nobody knew"),
                TransitionKind::Escalated => assert!(before.is_none_or(|before| before < level)),
                TransitionKind::Eased => assert!(before.is_some_and(|before| before > level)),
            }
            if kind != TransitionKind::Resolved {
                self.0.insert(key.clone(), level);
            }
        }
        for name in ["slack", "pager"] {
            let ids = state.queue.pending_for(name).map(|(event, _)| event.id.clone()).collect();
            state.mark_delivered(&name.into(), &ids, None, &[]);
        }
        assert!(state.queue.is_empty());
    }
}

fn firing(state: &State) -> BTreeMap<AlertKey, Severity> {
    state.alerts.iter().filter_map(|(key, known)| Some((key.clone(), known.alert.firing()?))).collect()
}

fn level_states(state: &State) -> Vec<(AlertKey, Alert)> {
    let bare = |alert: &Alert| Alert { last_event: None, notified: BTreeMap::new(), ..alert.clone() };
    state.alerts.iter().map(|(key, known)| (key.clone(), bare(&known.alert))).collect()
}

prop_compose! {
    fn any_silence()(rule in 0usize..3, critical in any::<bool>(), length in 1i64..200_000) -> (Option<&'static str>, Severity, i64) {
        let level = if critical { Severity::Critical } else { Severity::Warning };
        ([None, Some("funds"), Some("unreadable")][rule], level, length)
    }
}

proptest! {
    #[test]
    fn silences_never_affect_level_states_and_the_end_state_is_notified(
        steps in proptest::collection::vec(
            (1i64..40_000, proptest::option::weighted(0.85, 0i64..3000), proptest::option::weighted(0.3, any_silence()), 0u32..8),
            1..60,
        )
    ) {
        let (policy, mut state, mut plain) = (policy(), State::default(), State::default());
        let (mut people, mut now, mut last) = (NotifiedLevels::default(), 0, None);
        for (gap, funds, silence, removed) in steps {
            now += gap;
            if let Some((rule, level, length)) = silence {
                let silence = Silence {
                    account: "acme".into(), division: None, rule: rule.map(Into::into),
                    until: at(now + length), reason: None, level, created_at: Some(at(now)),
                };
                state.add_silence(silence);
            }
            state.silences.remove(&removed);
            let before = state.clone();
            let settled = process(&mut state, &policy, &account_readings(funds), at(now));
            prop_assert_eq!(settled.changed, state != before, "what changed is saved, and nothing else");
            process(&mut plain, &policy, &account_readings(funds), at(now));
            prop_assert_eq!(level_states(&state), level_states(&plain));
            let json = lowtide::state::encode(&state).unwrap().to_bytes();
            prop_assert_eq!(&lowtide::state::decode(&json).unwrap().state, &state);
            people.deliver_pending(&mut state);
            // An alert that people do not know at its level is marked as suppressed.
            for (key, level) in firing(&state) {
                let suppressed = state.alerts[&key].suppressed.as_ref();
                prop_assert_eq!(suppressed.map_or(Some(level), |suppressed| suppressed.notified_level), people.0.get(&key).copied());
            }
            last = funds;
        }
        // Every silence ends. One more reading like the last one notifies of the rest.
        process(&mut state, &policy, &account_readings(last), at(now + 400_000));
        prop_assert!(state.silences.is_empty());
        people.deliver_pending(&mut state);
        if last.is_some() {
            prop_assert_eq!(&people.0, &firing(&state), "people know exactly the alerts that fire in the end");
        }
    }
}
