//! The state file and the socket beside it, as the real binary keeps them.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::support::bin::{World, wait_until};
use wiremock::ResponseTemplate;

fn mode(world: &World, name: &str) -> u32 {
    std::fs::metadata(world.path(name)).unwrap().permissions().mode() & 0o777
}

/// Names of the sockets in the folder; the control socket is the only one.
fn sockets(world: &World) -> Vec<String> {
    use std::os::unix::fs::FileTypeExt;
    let entries = std::fs::read_dir(world.folder.path()).unwrap().map(|entry| entry.unwrap());
    let sockets = entries.filter(|entry| entry.file_type().unwrap().is_socket());
    sockets.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn a_second_process_on_the_same_state_is_refused() {
    let world = World::new().await;
    let first = world.start();
    first.wait_cycles(1);
    let mut second = world.start();
    assert_eq!(second.wait(), Some(1));
    assert!(second.log().contains("in use by another lowtide"), "{}", second.log());
    let cycles = first.cycles();
    first.wait_cycles(cycles + 1);
    assert_eq!(world.run(&["health"]).code, Some(0), "the first process still answers");
    assert_eq!(first.stop(), Some(0));
    let third = world.start();
    third.wait_cycles(1);
    assert_eq!(third.interrupt(), Some(0));
}

#[tokio::test]
async fn a_state_of_a_newer_version_is_refused_and_not_changed() {
    let world = World::new().await;
    let newer = r#"{ "version": 99, "unknown_key": [1, 2, 3] }"#;
    std::fs::write(world.path("state.json"), newer).unwrap();
    let mut service = world.start();
    assert_eq!(service.wait(), Some(1));
    assert!(service.log().contains("version 99"), "{}", service.log());
    assert_eq!(world.state(), newer);
    assert_eq!(world.reads(None), 0, "nothing is read if the state is refused");
    assert_eq!(world.run(&["status"]).code, Some(1));
}

#[tokio::test]
async fn an_older_state_file_is_read_and_rewritten_with_the_next_change() {
    let world = World::new().await;
    world.funds("1000.00");
    // A file of version 0.1.0: no checksum, and none of the later keys.
    let older = r#"{ "version": 1, "alerts": [{ "account": "acme", "rule": "funds",
        "warning": { "since": "2026-11-20T09:15:00Z", "firing": true },
        "last_event": "2099-01-01T00:00:00Z", "told": { "slack": null } }] }"#;
    std::fs::write(world.path("state.json"), older).unwrap();
    let service = world.start();
    service.wait_cycles(3);
    assert!(world.told().is_empty(), "alerts from before the upgrade are not raised again: {:?}", world.told());
    world.funds("100.00");
    service.wait_event("escalated funds/acme");
    wait_until("the new file", || world.state().contains("\"checksum\""));
    assert!(!service.log().contains("is damaged") && !service.log().contains("ERROR"), "{}", service.log());
}

#[tokio::test]
async fn a_state_file_of_version_1_is_migrated_and_its_events_are_delivered() {
    let world = World::new().await;
    world.funds("10000.00");
    // Written by the real binary of version 0.1.0. One notifier is renamed to that of this configuration.
    let written = include_str!("../fixtures/state-version-1.json");
    let renamed = written.replace("\"dead\"", "\"slack\"");
    std::fs::write(world.path("state.json"), &renamed).unwrap();
    let service = world.start();
    wait_until("the pending events", || !world.told().is_empty());
    service.wait_event("resolved funds/acme");
    wait_until("the migrated file", || world.state().contains("\"version\": 2"));
    let log = service.log();
    assert!(!log.contains("it is kept as"), "{log}");
    assert_eq!(service.stop(), Some(0));
    assert!(world.state().contains("PO 4711"), "the silences are kept: {}", world.state());
}

#[tokio::test]
async fn an_older_program_drops_unknown_keys_of_the_same_state_version() {
    let world = World::new().await;
    world.funds("1000.00");
    let newer = r#"{ "version": 1, "unknown_key": [1, 2, 3], "alerts": [{ "account": "acme", "rule": "funds",
        "unknown_field": "x", "warning": { "since": "2026-11-20T09:15:00Z", "firing": true },
        "last_event": "2026-11-20T09:15:00Z", "told": { "slack": null } }] }"#;
    std::fs::write(world.path("state.json"), newer).unwrap();
    let service = world.start();
    world.wait_told(1);
    assert!(world.told()[0].contains("Still warning"), "the alert is not raised again: {:?}", world.told());
    wait_until("the new file", || !world.state().contains("unknown_key"));
    assert!(world.state().contains("\"funds\"") && !world.state().contains("unknown_field"));
    assert_eq!(service.stop(), Some(0));
}

#[tokio::test]
async fn an_older_program_keeps_aside_a_state_with_an_unknown_message() {
    let world = World::new().await;
    world.funds("1000.00");
    let newer = r#"{ "version": 1, "owed": [{ "event": { "id": "1", "at": "2026-11-20T09:15:00Z",
        "about": "something_unknown" }, "to": { "slack": {} } }] }"#;
    std::fs::write(world.path("state.json"), newer).unwrap();
    let service = world.start();
    service.wait_event("raised funds/acme");
    assert!(service.log().contains("it is kept as "), "{}", service.log());
    assert_eq!(service.stop(), Some(0));
}

#[tokio::test]
async fn a_file_that_is_no_state_is_kept_aside_and_the_service_goes_on() {
    let world = World::new().await;
    let garbage = b"\x00\xffnot a state at all {";
    std::fs::write(world.path("state.json"), garbage).unwrap();
    world.funds("1000.00");
    let service = world.start();
    service.wait_event("raised funds/acme");
    let entries = std::fs::read_dir(world.folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let others = entries.filter(|path| path.is_file() && !path.ends_with("state.json"));
    assert!(others.into_iter().any(|path| std::fs::read(path).unwrap() == garbage), "the file is moved aside");
    let loud = service.log();
    assert!(loud.lines().any(|line| line.contains("ERROR") && line.contains("cannot be read")), "{loud}");
    assert!(world.state().contains("funds"));
}

#[tokio::test]
async fn quiet_cycles_leave_the_state_file_alone() {
    let world = World::new().await;
    world.funds("1000.00");
    let service = world.start();
    service.wait_event("raised funds/acme");
    wait_until("the delivery in the state", || {
        world.state().contains("\"notified\"") && !world.state().contains("\"queue\"")
    });
    let changed = || std::fs::metadata(world.path("state.json")).unwrap().modified().unwrap();
    let (before, cycles) = (changed(), service.cycles());
    service.wait_cycles(cycles + 2);
    assert_eq!(changed(), before);
}

#[tokio::test]
async fn an_account_that_is_well_takes_no_space() {
    let world = World::new().await;
    let service = world.start();
    service.wait_cycles(1);
    assert_eq!(service.stop(), Some(0));
    assert!(!world.state().contains("acme"), "{}", world.state());
}

#[tokio::test]
async fn a_shutdown_while_slack_hangs_ends_in_time_and_keeps_the_queue() {
    let world = World::new().await;
    let text = std::fs::read_to_string(world.path("alerts.yaml")).unwrap();
    let patient = text.replace("    type: slack\n", "    type: slack\n    timeout: 60s\n");
    std::fs::write(world.path("alerts.yaml"), patient).unwrap();
    world.slack_answers(ResponseTemplate::new(200).set_delay(Duration::from_secs(60)));
    world.funds("1000.00");
    let service = world.start();
    world.wait_told(1);
    let requested_at = Instant::now();
    assert_eq!(service.stop(), Some(0));
    assert!(requested_at.elapsed() < Duration::from_secs(13), "{:?}", requested_at.elapsed());
    assert!(world.state().contains("\"queue\""), "{}", world.state());
    let status = world.run(&["status", "-o", "json"]).json();
    assert_eq!((&status["pending"][0]["notifier"], &status["pending"][0]["events"]), (&"slack".into(), &1.into()));
}

#[tokio::test]
async fn events_rejected_by_slack_are_sent_when_it_works_again() {
    let world = World::new().await;
    world.slack_answers(ResponseTemplate::new(500));
    world.funds("1000.00");
    let service = world.start();
    wait_until("the failure in the state", || world.state().contains("\"failing_notifiers\""));
    assert_eq!(service.stop(), Some(0));
    assert!(world.state().contains("\"queue\""));
    world.slack_answers(ResponseTemplate::new(200));
    let _service = world.start();
    wait_until("an empty queue", || !world.state().contains("\"queue\""));
    assert!(world.told().last().unwrap().contains("USD 1,000.00"));
}

#[tokio::test]
async fn state_and_socket_are_private_and_the_socket_is_removed_at_exit() {
    let world = World::new().await;
    world.funds("1000.00");
    let service = world.start();
    service.wait_event("raised funds/acme");
    wait_until("the socket", || sockets(&world).len() == 1);
    wait_until("its mode", || mode(&world, &sockets(&world)[0]) == 0o600);
    assert_eq!(mode(&world, "state.json"), 0o600);
    assert_eq!(service.stop(), Some(0));
    assert_eq!(sockets(&world), Vec::<String>::new());
}

/// Configures the state in another folder.
fn state_in(world: &World, folder: &str) {
    let config = std::fs::read_to_string(world.path("alerts.yaml")).unwrap();
    let there = config.replace("state: state.json", &format!("state: {folder}/state.json"));
    std::fs::write(world.path("alerts.yaml"), there).unwrap();
}

#[tokio::test]
async fn a_folder_that_is_missing_is_made_and_used_by_one_process_only() {
    let world = World::new().await;
    state_in(&world, "data/deep");
    world.funds("100.00");
    let first = world.start();
    world.wait_told(1);
    assert_eq!((mode(&world, "data"), mode(&world, "data/deep")), (0o700, 0o700));
    let mut second = world.start();
    assert_eq!(second.wait(), Some(1));
    assert!(second.log().contains("in use by another lowtide"), "{}", second.log());
    wait_until("the socket", || world.run(&["health"]).code == Some(0));
    assert!(!first.log().contains("ERROR"), "{}", first.log());
    assert_eq!(first.stop(), Some(0));
    world.wait_told(1);
}

#[tokio::test]
async fn a_link_to_a_folder_that_is_missing_keeps_a_second_process_out_too() {
    let world = World::new().await;
    std::os::unix::fs::symlink("volume/deep", world.path("link")).unwrap();
    state_in(&world, "link");
    world.funds("100.00");
    let first = world.start();
    world.wait_told(1);
    let mut second = world.start();
    assert_eq!(second.wait(), Some(1));
    assert!(second.log().contains("in use by another lowtide"), "{}", second.log());
    assert_eq!(first.stop(), Some(0));
    assert!(world.path("volume/deep").join("state.json").is_file());
    world.wait_told(1);
}

#[tokio::test]
async fn a_folder_whose_name_is_too_long_for_a_socket_has_one_all_the_same() {
    let world = World::new().await;
    state_in(
        &world,
        "a-folder-whose-name-is-so-long-that-no-socket-of-the-usual-kind-could-ever-be-bound-in-it-as-it-stands",
    );
    let service = world.start();
    wait_until("the socket", || world.run(&["health"]).code == Some(0));
    assert_eq!(service.stop(), Some(0));
}

#[tokio::test]
async fn a_folder_is_created_as_soon_as_that_is_possible() {
    let world = World::new().await;
    state_in(&world, "data/deep");
    std::fs::write(world.path("data"), "in the way").unwrap();
    world.funds("1000.00");
    let service = world.start();
    world.wait_told(1);
    wait_until("the log line", || service.log().contains("no lock file"));
    assert_eq!(world.run(&["health"]).code, Some(1));
    std::fs::remove_file(world.path("data")).unwrap();
    wait_until("the socket", || world.run(&["health"]).code == Some(0));
    wait_until("the state", || world.path("data/deep/state.json").exists());
    assert_eq!(service.stop(), Some(0));
    world.wait_told(1);
}

#[tokio::test]
async fn a_silence_without_a_service_makes_the_missing_folder_and_is_kept() {
    let world = World::new().await;
    state_in(&world, "data/deep");
    let ran = world.run(&["silence", "add", "--account", "acme", "--for", "1h"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    assert!(world.run(&["silence", "list"]).stdout.contains("acme"));
}
