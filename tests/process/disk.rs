//! The disk at its worst: full, read-only, hanging, damaged, gone. Readings and messages go on, nothing is believed that is
//! damaged, and the operator is told.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::bin::{NOBODY, Service, World, is_root, wait_until};
use crate::month::{CrashPlan, MonthResult, Notification, epoch, run_month};
use async_trait::async_trait;
use lowtide::alerting::state::State;
use lowtide::domain::Time;
use lowtide::state::{
    DecodedState, FileBackend, JsonPieces, StateBackend, StateDecodeError, StateOpenError, StateStore, decode, encode,
};
use lowtide::util::clock::Clock;

/// Bytes to save.
fn json(text: &str) -> JsonPieces {
    let mut json = JsonPieces::default();
    json.write_all(text.as_bytes()).unwrap();
    json
}

/// A state with everything in it: the fullest that a month of trouble has ever written.
fn full_file() -> Vec<u8> {
    let bytes = run_month(CrashPlan::without_crashes()).fullest;
    let state = decode(&bytes).unwrap().state;
    assert!(!state.alerts.is_empty() && !state.queue.is_empty() && !state.failing_notifiers.is_empty(), "{state:?}");
    bytes
}

/// The files kept aside in a folder.
fn aside(folder: &Path) -> Vec<Vec<u8>> {
    let places = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    places
        .filter(|place| place.to_string_lossy().contains(".unreadable-"))
        .map(|place| fs::read(place).unwrap())
        .collect()
}

/// What a state file with these bytes is taken for; where it is kept aside and told, or refused: `None`.
fn accepted_state(bytes: &[u8]) -> Option<DecodedState> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    fs::write(&path, bytes).unwrap();
    match FileBackend::open(&path, epoch()) {
        Ok(opened) if opened.problems.is_empty() => Some(DecodedState { state: opened.state, altered: false }),
        Ok(opened) if opened.problems[0].contains("is used as it is") => {
            Some(DecodedState { state: opened.state, altered: true })
        }
        Ok(opened) => {
            assert!(opened.problems[0].contains("it is kept as"), "{:?}", opened.problems);
            assert_eq!(aside(folder.path()), [bytes], "nothing of the evidence is lost");
            assert_eq!(opened.state, State::default());
            None
        }
        Err(StateOpenError::Newer { .. }) => {
            assert_eq!(fs::read(&path).unwrap(), bytes, "what is refused is left as it is");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_truncated_state_file_is_read_whole_or_kept_aside_and_reported() {
    let whole = full_file();
    let state = decode(&whole).unwrap().state;
    let same = (0..=whole.len()).filter(|length| match accepted_state(&whole[..*length]) {
        Some(taken) => {
            assert_eq!(taken, DecodedState { state: state.clone(), altered: false }, "cut off at {length}");
            true
        }
        None => false,
    });
    assert_eq!(same.collect::<Vec<_>>(), [whole.len() - 1, whole.len()], "only the last line feed may be missing");
}

/// One bit of every byte, through a real file; with `LOWTIDE_LONG=1` every bit.
#[test]
fn a_state_file_with_any_byte_flipped_loses_nothing_without_a_word() {
    let whole = full_file();
    let state = decode(&whole).unwrap().state;
    let long = std::env::var_os("LOWTIDE_LONG").is_some_and(|value| value == "1");
    let (mut same, mut reported, mut refused) = (0, 0, 0);
    for place in 0..whole.len() {
        let through_the_file = place % 8;
        for bit in (0..8).filter(|bit| long || *bit == through_the_file) {
            let mut flipped = whole.clone();
            flipped[place] ^= 1 << bit;
            let taken = if bit == through_the_file { accepted_state(&flipped) } else { decode(&flipped).ok() };
            let text =
                String::from_utf8_lossy(&flipped[place.saturating_sub(20)..(place + 20).min(whole.len())]).into_owned();
            match taken {
                Some(DecodedState { state: taken, altered: false }) => {
                    assert_eq!(taken, state, "bit {bit} of byte {place} makes another state without a word: {text}");
                    same += 1;
                }
                Some(DecodedState { state: taken, altered: true }) => {
                    let counts = |state: &State| (state.alerts.len(), state.queue.len(), state.failing_notifiers.len());
                    assert_eq!(counts(&taken), counts(&state), "bit {bit} of byte {place} loses something: {text}");
                    reported += 1;
                }
                None => refused += 1,
            }
        }
    }
    println!(
        "{} bytes, {} flips: {same} read as the same state, {reported} used and told, {refused} kept aside or refused",
        whole.len(),
        same + reported + refused
    );
    assert!(refused > same && reported > 0, "{refused} {reported} {same}");
}

#[test]
fn a_hand_edited_state_file_is_used_or_kept_aside_where_unreadable() {
    let whole = String::from_utf8(full_file()).unwrap();
    let edited = whole.replace("Division 11", "Division eleven");
    assert_ne!(edited, whole);
    let taken = accepted_state(edited.as_bytes()).unwrap();
    assert!(taken.altered);
    assert_eq!(encode(&taken.state).unwrap().to_bytes().len(), edited.len(), "all that was edited is there");
    let without: String = edited.lines().filter(|line| !line.contains("\"checksum\"")).collect::<Vec<_>>().join("\n");
    assert_eq!(accepted_state(without.as_bytes()), Some(DecodedState { altered: false, ..taken.clone() }));
    let line = edited.lines().find(|line| line.contains("\"checksum\"")).unwrap();
    let nulled = edited.replace(line, "\"checksum\": null,");
    assert_eq!(accepted_state(nulled.as_bytes()), Some(taken), "no checksum is this one");
    // What is emptied, by whoever is tired of an owed message, is empty, and the rest stays.
    let mut emptied: serde_json::Value = serde_json::from_str(&whole).unwrap();
    emptied["queue"] = serde_json::json!([]);
    let alerts = emptied["alerts"].as_array().unwrap().len();
    emptied["alerts"][0].as_object_mut().unwrap().insert("reason".to_owned(), serde_json::Value::Null);
    let taken = accepted_state(emptied.to_string().as_bytes()).unwrap();
    assert_eq!((taken.altered, taken.state.queue.len(), taken.state.alerts.len()), (true, 0, alerts));
    // A key that is not known would be forgotten: here all the alerts.
    assert_eq!(accepted_state(whole.replace("\"alerts\"", "\"alertz\"").as_bytes()), None);
    let reformatted = serde_json::from_str::<serde_json::Value>(&whole).unwrap().to_string();
    assert_eq!(
        decode(reformatted.as_bytes()).unwrap(),
        decode(whole.as_bytes()).unwrap(),
        "spaces and order mean nothing"
    );
    let squeezed = whole.replace("Division 11", "Division11");
    assert_ne!(squeezed, whole);
    assert!(!decode(squeezed.as_bytes()).unwrap().altered, "not even spaces inside a text, where damage makes none");
}

#[test]
fn an_unknown_state_version_is_kept_aside_and_a_newer_one_refused() {
    for never in ["0", "0.5", "-1", "null", "\"1\"", "[1]", "1.5e-3"] {
        let file = format!("{{ \"version\": {never}, \"alerts\": [] }}");
        assert!(matches!(decode(file.as_bytes()), Err(StateDecodeError::Unusable(_))), "{never}");
        assert_eq!(accepted_state(file.as_bytes()), None, "{never}");
    }
    for newer in ["3", "2.5", "99999999999999999999999", "1e300"] {
        let file = format!("{{ \"version\": {newer}, \"alerts\": [] }}");
        assert!(matches!(decode(file.as_bytes()), Err(StateDecodeError::Newer(_))), "{newer}");
        assert_eq!(accepted_state(file.as_bytes()), None, "{newer}");
    }
}

#[test]
fn half_a_file_that_a_death_left_behind_is_no_hindrance() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let whole = full_file();
    fs::write(&path, &whole).unwrap();
    fs::write(folder.path().join("state.json.new"), &whole[..whole.len() / 2]).unwrap();
    let opened = FileBackend::open(&path, epoch()).unwrap();
    assert_eq!((opened.state, opened.problems), (decode(&whole).unwrap().state, Vec::new()));
    opened.backend.save(&json("{}")).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"{}");
    assert!(!folder.path().join("state.json.new").exists());
}

fn notified(month: &MonthResult) -> Vec<&Notification> {
    month.notified.keys().collect()
}

#[test]
fn a_month_on_a_full_disk_notifies_everything_once() {
    let (calm, full) = (
        run_month(CrashPlan::without_crashes()),
        run_month(CrashPlan { full_disk: Some(|_| true), one_try: true, ..CrashPlan::without_crashes() }),
    );
    assert_eq!(notified(&full), notified(&calm));
    assert_eq!(full.notified.values().max(), Some(&1));
    assert!(full.fullest.is_empty() && full.writes > calm.writes);
}

#[test]
fn the_state_catches_up_with_a_disk_that_was_often_full() {
    let calm = run_month(CrashPlan::without_crashes());
    for full in [(|write| write % 2 == 0) as fn(usize) -> bool, |write| write % 2 == 1, |write| write < 100] {
        let month = run_month(CrashPlan { full_disk: Some(full), ..CrashPlan::without_crashes() });
        assert_eq!(notified(&month), notified(&calm));
        assert_eq!(month.notified.values().max(), Some(&1));
        assert_eq!(month.state, State::default(), "what is on disk at the end is what is remembered");
        assert!(!month.fullest.is_empty());
    }
}

/// Tokio's paused time.
struct PausedClock(tokio::time::Instant);

#[async_trait]
impl Clock for PausedClock {
    fn now(&self) -> Time {
        epoch() + chrono::Duration::from_std(self.0.elapsed()).unwrap()
    }
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

#[tokio::test(start_paused = true)]
async fn saving_is_retried_every_ten_seconds_until_it_works() {
    struct FullDisk(Mutex<Vec<Duration>>, tokio::time::Instant);
    impl StateBackend for FullDisk {
        fn save(&self, _: &JsonPieces) -> std::io::Result<()> {
            let at = self.1.elapsed();
            self.0.lock().unwrap().push(at);
            if at < Duration::from_secs(3600) { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }
    let start = tokio::time::Instant::now();
    let disk = Arc::new(FullDisk(Mutex::default(), start));
    let store = Arc::new(StateStore::new(State::default(), Arc::clone(&disk) as Arc<dyn StateBackend>));
    let again = Arc::clone(&store);
    let task = tokio::spawn(async move { again.retry_saves(&PausedClock(start)).await });
    store.change(|_| ((), true)).await;
    tokio::time::sleep(Duration::from_secs(7200)).await;
    task.abort();
    let tries = disk.0.lock().unwrap().clone();
    assert!(tries.windows(2).all(|pair| pair[1].saturating_sub(pair[0]) <= Duration::from_secs(10)), "{tries:?}");
    assert!((3600..3610).contains(&tries.last().unwrap().as_secs()), "{tries:?}");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_keeps_nobody_waiting_for_long() {
    struct HangingDisk(Mutex<mpsc::Receiver<()>>, Mutex<Vec<Vec<u8>>>);
    impl StateBackend for HangingDisk {
        fn save(&self, json: &JsonPieces) -> std::io::Result<()> {
            let _ = self.0.lock().unwrap().recv();
            self.1.lock().unwrap().push(json.to_bytes());
            Ok(())
        }
    }
    let (release, held) = mpsc::channel();
    let disk = Arc::new(HangingDisk(Mutex::new(held), Mutex::default()));
    let store = Arc::new(StateStore::new(State::default(), Arc::clone(&disk) as Arc<dyn StateBackend>));
    let start = tokio::time::Instant::now();
    let (again, its_start) = (Arc::clone(&store), start);
    let saving = tokio::spawn(async move { again.retry_saves(&PausedClock(its_start)).await });
    for name in ["slack", "pager"] {
        let store = Arc::clone(&store);
        let change = tokio::spawn(async move {
            store
                .change(|state| {
                    state.record_failure(&name.into(), "down", epoch());
                    ((), true)
                })
                .await;
            assert!(!store.flush().await, "what is not on disk is not said to be");
        });
        // Time does not go on by itself while a thread is busy.
        for _ in 0..120 {
            tokio::task::yield_now().await;
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!(change.is_finished(), "whoever changes something goes on while the disk hangs");
    }
    drop(release);
    let clock = Instant::now();
    while disk.1.lock().unwrap().last().is_none_or(|json| decode(json).unwrap().state.failing_notifiers.len() < 2) {
        assert!(clock.elapsed() < Duration::from_secs(10), "the last change reaches the disk once it moves again");
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
    }
    saving.abort();
}

#[tokio::test]
async fn without_disk_space_it_notifies_and_saves_once_there_is_space() {
    let world = World::new().await;
    world.funds("1000.00");
    let service = world.start_after("trap '' XFSZ; ulimit -S -f 0");
    world.wait_told(1);
    wait_until("the operator is told", || service.log().contains("state cannot be saved"));
    let log = service.log();
    let line = log.lines().find(|line| line.contains("state cannot be saved")).unwrap();
    assert!(line.contains("state.json: ") && line.contains("File too large"), "the line names the file: {line}");
    world.funds("100.00");
    world.wait_told(2);
    let cycles = service.cycles();
    service.wait_cycles(cycles + 1);
    assert_eq!(world.run(&["health"]).code, Some(0));
    assert_eq!(world.state(), "");
    let lifted = Command::new("prlimit").args([&format!("--pid={}", service.id()), "--fsize=unlimited:"]).status();
    if !lifted.is_ok_and(|status| status.success()) {
        println!("skipped: prlimit cannot lift the limit here");
        return;
    }
    wait_until("the state", || world.state().contains("critical"));
    wait_until("that is told too", || service.log().contains("state is saved again"));
    assert_eq!(service.log().matches("state cannot be saved").count(), 1, "told once, not at every try");
    world.wait_told(2);
}

#[tokio::test]
async fn in_a_read_only_folder_it_goes_on_from_memory_and_saves_later() {
    let world = World::new().await;
    let set = |mode| fs::set_permissions(world.folder.path(), fs::Permissions::from_mode(mode)).unwrap();
    set(0o755);
    world.funds("1000.00");
    let service = world.start_unprivileged();
    world.wait_told(1);
    wait_until("the delivery in the state", || {
        world.state().contains("notified") && !world.state().contains("\"queue\"")
    });
    service.kill();
    fs::remove_file(world.path("state.json.lock")).unwrap();
    set(0o555);
    let service = world.start_unprivileged();
    service.wait_cycles(2);
    assert!(service.log().contains("no lock file"), "{}", service.log());
    world.wait_told(1);
    world.funds("100.00");
    world.wait_told(2);
    wait_until("the operator is told", || service.log().contains("state cannot be saved"));
    assert!(!world.state().contains("critical"));
    set(0o755);
    wait_until("the state", || world.state().contains("critical"));
    world.wait_told(2);
}

#[tokio::test]
async fn a_state_file_without_read_permission_is_kept_aside_and_reported() {
    let world = World::new().await;
    fs::set_permissions(world.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let bytes = std::thread::spawn(full_file).join().unwrap();
    fs::write(world.path("state.json"), &bytes).unwrap();
    if is_root() {
        fs::set_permissions(world.path("state.json"), fs::Permissions::from_mode(0o600)).unwrap();
        chown(world.path("state.json"), Some(NOBODY - 1), Some(NOBODY - 1)).unwrap();
    } else {
        println!("only its permissions are taken away: to give it to somebody else, a test has to be root");
        fs::set_permissions(world.path("state.json"), fs::Permissions::from_mode(0o000)).unwrap();
    }
    world.funds("1000.00");
    let service = world.start_unprivileged();
    world.wait_told(1);
    wait_until("a new state", || world.state().contains("funds"));
    let log_text = service.log();
    assert!(log_text.lines().any(|line| line.contains("ERROR") && line.contains("it is kept as")), "{log_text}");
    if is_root() {
        assert_eq!(aside(world.folder.path()), [bytes]);
    }
}

#[tokio::test]
async fn the_next_process_takes_over_at_once_when_the_first_was_killed() {
    let world = World::new().await;
    world.funds("1000.00");
    let first = world.start();
    world.wait_told(1);
    wait_until("the delivery in the state", || {
        world.state().contains("notified") && !world.state().contains("\"queue\"")
    });
    let mut second = world.start();
    assert_eq!(second.wait(), Some(1));
    first.kill();
    let third = world.start();
    third.wait_cycles(2);
    assert!(third.events().is_empty() && !third.log().contains("ERROR"), "{}", third.log());
    world.wait_told(1);
    assert_eq!(third.stop(), Some(0));
}

/// A service whose state is in a folder of its own, which has told of a warning.
async fn notified_from_state_folder() -> (World, Service) {
    let world = World::new().await;
    let config = fs::read_to_string(world.path("alerts.yaml")).unwrap();
    fs::write(world.path("alerts.yaml"), config.replace("state: state.json", "state: var/state.json")).unwrap();
    world.funds("1000.00");
    let service = world.start();
    world.wait_told(1);
    let state = || fs::read_to_string(world.path("var/state.json")).unwrap_or_default();
    wait_until("the delivery in the state", || state().contains("notified") && !state().contains("\"queue\""));
    (world, service)
}

#[tokio::test]
async fn a_folder_that_goes_is_made_again_with_lock_state_and_socket() {
    let (world, service) = notified_from_state_folder().await;
    fs::rename(world.path("var"), world.path("gone")).unwrap();
    // Nothing has changed, and yet all of it is back: what is remembered, and what keeps a second process out.
    wait_until("the state", || {
        fs::read_to_string(world.path("var/state.json")).is_ok_and(|state| state.contains("warning"))
    });
    wait_until("the socket", || world.run(&["health"]).code == Some(0));
    let mut second = world.start();
    assert_eq!(second.wait(), Some(1), "{}", second.log());
    assert!(second.log().contains("in use by another lowtide"), "{}", second.log());
    world.funds("100.00");
    world.wait_told(2);
    assert_eq!(service.stop(), Some(0));
}

#[tokio::test]
async fn a_service_whose_state_another_process_took_sends_nothing_more() {
    let (world, mut service) = notified_from_state_folder().await;
    let lock = loop {
        fs::rename(world.path("var"), world.path("gone")).unwrap();
        fs::create_dir(world.path("var")).unwrap();
        let lock = fs::File::create(world.path("var/state.json.lock")).unwrap();
        if lock.try_lock().is_ok() {
            break lock;
        }
        fs::remove_dir_all(world.path("gone")).unwrap(); // the service was faster
    };
    world.funds("100.00");
    assert_eq!(service.wait(), Some(1));
    assert!(service.log().contains("another lowtide"), "{}", service.log());
    world.wait_told(1);
    drop(lock);
}

#[tokio::test]
async fn a_folder_in_place_of_the_state_file_is_reported_and_left_alone() {
    let world = World::new().await;
    world.funds("1000.00");
    let service = world.start();
    world.wait_told(1);
    wait_until("the delivery in the state", || {
        world.state().contains("notified") && !world.state().contains("\"queue\"")
    });
    fs::remove_file(world.path("state.json")).unwrap();
    fs::create_dir(world.path("state.json")).unwrap();
    fs::write(world.path("state.json/mine"), "of nobody's business").unwrap();
    world.funds("100.00");
    world.wait_told(2);
    wait_until("the operator is told", || service.log().contains("state cannot be saved"));
    assert_eq!(fs::read_to_string(world.path("state.json/mine")).unwrap(), "of nobody's business");
    fs::rename(world.path("state.json"), world.path("elsewhere")).unwrap();
    wait_until("the state", || world.state().contains("critical"));
}

#[test]
fn a_deleted_lock_file_is_made_again_unless_another_has_the_state() {
    let folder = tempfile::tempdir().unwrap();
    let (path, lock) = (folder.path().join("state.json"), folder.path().join("state.json.lock"));
    let first = FileBackend::open(&path, epoch()).unwrap().backend;
    fs::remove_file(&lock).unwrap();
    first.save(&json("{}")).unwrap();
    assert!(matches!(FileBackend::open(&path, epoch()), Err(StateOpenError::InUse { .. })), "the first has it again");
    let inode = fs::metadata(&lock).unwrap().ino();
    first.save(&json("{}")).unwrap();
    assert_eq!(fs::metadata(&lock).unwrap().ino(), inode, "and once is enough");
    fs::remove_file(&lock).unwrap();
    fs::write(&path, encode(&State::default()).unwrap().to_bytes()).unwrap();
    let second = FileBackend::open(&path, epoch()).unwrap();
    let names: BTreeSet<_> = second.problems.iter().collect();
    assert!(names.is_empty(), "{names:?}");
    second.backend.save(&json("[2]")).unwrap();
    assert!(first.save(&json("[1]")).unwrap_err().to_string().contains("another lowtide has it"));
    assert_eq!(fs::read(&path).unwrap(), b"[2]");
}
