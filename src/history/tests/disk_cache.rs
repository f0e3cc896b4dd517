//! Tests of the disk cache: restarts, damaged files, and file systems that fail or hang.

use super::*;
use tokio_util::sync::CancellationToken;

/// Returns whether the cache files contain a ledger and orders that were read at `read` or later.
fn files_read_since(folder: &Path, read: Time) -> bool {
    let cached = cache(folder, "https://us");
    cached.ledger(None).is_some_and(|(_, at)| at >= read) && cached.orders().is_some_and(|(_, _, at)| at >= read)
}

#[tokio::test(start_paused = true)]
async fn unchanged_history_is_saved_again_after_a_failed_write() {
    let folder = tempfile::tempdir().unwrap();
    let blocking = folder.path().join("state.json.history");
    std::fs::write(&blocking, "a file in the way of the folder").unwrap();
    let fake_source = harness().end().await;
    *fake_source.orders.lock().unwrap() = vec![order(1, 20, 3, None)];
    let harness = harness_with(fake_source, Some(cache(folder.path(), "https://us")));
    harness.request(&[None]).pass(1).await;
    std::fs::remove_file(&blocking).unwrap();
    harness.pass(62).await;
    assert!(cache(folder.path(), "https://us").ledger(None).is_some(), "the ledger is read each hour");
    harness.pass(24 * 60).await;
    assert!(files_read_since(folder.path(), start() + TimeDelta::hours(23)));
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn history_is_saved_once_a_hanging_file_system_responds() {
    let folder = tempfile::tempdir().unwrap();
    let fake_source = harness().end().await;
    *fake_source.orders.lock().unwrap() = vec![order(1, 20, 3, None)];
    let history = Arc::new(HistoryCache::new(offset_clock()));
    let (source, clock) = (Arc::clone(&fake_source) as _, Arc::clone(&history.clock));
    let cached = cache(folder.path(), "https://us");
    let mut refresher = Refresher::new("acme".into(), source, Arc::clone(&history), clock, Some(cached), 30);
    let (release, hangs) = std::sync::mpsc::channel::<()>();
    let advance = tokio::time::advance(Duration::from_secs(30));
    assert!(tokio::join!(refresher.disk.run(move |_| hangs.recv()), advance).0.is_none(), "the file system hangs");
    let stop = CancellationToken::new();
    let task = tokio::spawn(refresher.run(stop.clone()));
    let harness = RefresherHarness { fake_source, history, stop, task };
    harness.request(&[None]).wait_until_settled(&[None]).await;
    assert_eq!((harness.entries(None), files(folder.path()).len()), (Ok(2), 0), "nothing waits for the file system");
    release.send(()).unwrap();
    harness.pass(62).await;
    assert!(cache(folder.path(), "https://us").ledger(None).is_some(), "the ledger is read each hour");
    harness.pass(24 * 60).await;
    assert!(files_read_since(folder.path(), start() + TimeDelta::hours(23)));
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn requested_ends_survive_a_restart_during_a_listing() {
    let folder = tempfile::tempdir().unwrap();
    let fake_source = Arc::new(FakeHistorySource::default());
    *fake_source.orders.lock().unwrap() = (1..=300).map(|id| order(id, 10, 3, None)).collect();
    *fake_source.response_time.lock().unwrap() = Duration::from_secs(1);
    let live = || harness_with(Arc::clone(&fake_source), Some(cache(folder.path(), "https://us")));
    let ends =
        || fake_source.take_requests().into_iter().filter(|request| request.starts_with("end")).collect::<Vec<_>>();
    let harness = live();
    harness.request(&[None]);
    tokio::time::sleep(Duration::from_secs(150)).await;
    harness.task.abort();
    let requests = ends();
    assert!(requests.len() > 140, "{requests:?}");
    assert!(requests.contains(&"end 140".to_owned()));
    // Killed: ends read since the last save of a hundred are lost.
    let harness = live();
    harness.request(&[None]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    harness.end().await;
    let requests = ends();
    assert_eq!(requests[0], "end 101");
    let stopped_at: u64 = requests.last().unwrap()[4..].parse().unwrap();
    assert!((140..200).contains(&stopped_at), "{stopped_at}");
    // Stopped: only the request in progress is lost.
    let harness = live();
    harness.request(&[None]).pass(5).await;
    let requests = ends();
    assert_eq!((&*requests[0], &**requests.last().unwrap()), (&*format!("end {stopped_at}"), "end 300"));
    assert_eq!(
        harness.history.history(None).orders.unwrap().iter().filter(|order| order.order_ends.is_none()).count(),
        0
    );
    wait_for_files(folder.path(), 2);
    harness.end().await;
    let harness = live();
    harness.request(&[None]).pass(1).await;
    assert_eq!(fake_source.take_requests(), [] as [String; 0], "the listing includes the ends");
    harness.end().await;
}

#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn a_pipe_or_device_in_place_of_a_cache_file_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (_guard, logged) = logged();
    let fake_source = harness().end().await;
    *fake_source.orders.lock().unwrap() = vec![order(1, 20, 3, Some(5))];
    let all = run_once(&fake_source, cache(folder.path(), "https://us")).await;
    let pipe = |path: &Path| rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RWXU).unwrap();
    let device = |path: &Path| std::os::unix::fs::symlink("/dev/zero", path).unwrap();
    for (what, create) in [("pipe", &pipe as &dyn Fn(&Path)), ("device", &device)] {
        let kept = files(folder.path());
        assert_eq!(kept.len(), 2);
        for file in &kept {
            std::fs::remove_file(file).unwrap();
            create(file);
            create(&file.with_extension("jsonl.new"));
        }
        let cached = cache(folder.path(), "https://us");
        assert!(cached.orders().is_none() && cached.ledger(Some(5)).is_none(), "{what}");
        assert_eq!(run_once(&fake_source, cached).await, all, "{what}");
        assert!(files(folder.path()).iter().all(|file| file.symlink_metadata().unwrap().is_file()), "{what}");
        assert_eq!(run_once(&fake_source, cache(folder.path(), "https://us")).await, [] as [String; 0], "{what}");
    }
    let messages: Vec<_> =
        logged("INFO").into_iter().filter(|line| line.contains("it is not a regular file")).collect();
    assert!(messages.len() == 4 && messages.iter().all(|line| line.contains(".jsonl")), "{messages:?}");
}

#[tokio::test(start_paused = true)]
async fn a_restart_lists_only_orders_that_may_have_changed() {
    let folder = tempfile::tempdir().unwrap();
    let fake_source = harness().end().await;
    *fake_source.orders.lock().unwrap() = vec![expired(1, 300), order(2, 10, 1, None)];
    let clock: Arc<dyn Clock> = offset_clock();
    let live = |fake_source: Arc<FakeHistorySource>| {
        let history = Arc::new(HistoryCache::new(Arc::clone(&clock)));
        harness_of(fake_source, history, Some(cache(folder.path(), "https://us")), 30)
    };
    let harness = live(fake_source);
    harness.request(&[None]).wait_until_settled(&[None]).await;
    wait_for_files(folder.path(), 2);
    let fake_source = harness.end().await;
    fake_source.take_requests();
    fake_source.orders.lock().unwrap().clear();
    tokio::time::sleep(Duration::from_secs(5 * 24 * 3600)).await;
    let harness = live(fake_source);
    harness.request(&[None]).pass(1).await;
    assert_eq!(without_ledgers(harness.fake_source.take_requests()), ["orders 2026-09-24 2030-03-12"]);
    assert_eq!(harness.ids(), [1]);
    harness.end().await;
}

#[test]
fn products_and_common_names_are_restored_from_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let named = |id, product: Option<&str>, name: Option<&str>| Order {
        product: product.map(Into::into),
        common_name: name.map(Into::into),
        ..order(id, 10, 1, None)
    };
    let orders = [
        named(1, Some("ssl_plus"), Some("*.shop.example.com")),
        named(2, None, Some("b\u{fc}cher \"quoted\" \\ example")),
        named(3, Some("\u{1F4B6}"), None),
        named(4, None, None),
    ];
    let cache = cache(folder.path(), "https://us");
    cache.save_orders(&orders, &BTreeMap::new(), start()).unwrap();
    assert_eq!(cache.orders().unwrap().0, orders);
}

/// Runs a refresher with this cache once, and returns its requests.
async fn run_once(fake_source: &Arc<FakeHistorySource>, cache: DiskCache) -> Vec<String> {
    let harness = harness_with(Arc::clone(fake_source), Some(cache));
    harness.request(&[Some(5)]).wait_until_settled(&[Some(5)]).await;
    assert_eq!(harness.entries(Some(5)), Ok(2));
    assert_eq!(harness.history.history(Some(5)).orders.unwrap()[0].order_ends, Some(today() + Days::new(300)));
    harness.pass(1).await;
    harness.end().await.take_requests()
}

#[tokio::test(start_paused = true)]
async fn a_restart_uses_the_cache_unless_it_is_damaged_or_foreign() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let first = harness();
    let fake_source = first.end().await;
    *fake_source.orders.lock().unwrap() = vec![order(1, 20, 3, Some(5))];
    let all = ["ledger Some(5) 2025-10-19", "orders 2025-10-09 2030-03-07", "end 1"];
    assert_eq!(run_once(&fake_source, cache(folder.path(), "https://us")).await, all);
    let kept = files(folder.path());
    assert_eq!(kept.len(), 2);
    for file in &kept {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(
            file.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
        );
    }
    assert_eq!(run_once(&fake_source, cache(folder.path(), "https://us")).await, [] as [String; 0], "fresh cache");
    assert_eq!(run_once(&fake_source, cache(folder.path(), "https://eu")).await, all, "another address");
    for file in &kept {
        let good = std::fs::read(file).unwrap();
        for at in (0..good.len()).step_by(7) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(file, &bad).unwrap();
            let cache = cache(folder.path(), "https://us");
            let accepted = if file == &kept[0] { cache.ledger(Some(5)).is_some() } else { cache.orders().is_some() };
            // The checksum covers everything but the header.
            let header = good.iter().position(|byte| *byte == b'\n').unwrap();
            assert!(!accepted || at < header, "a bit of byte {at} of {}", file.display());
        }
        std::fs::write(file, &good[..good.len() / 2]).unwrap();
    }
    assert_eq!(run_once(&fake_source, cache(folder.path(), "https://us")).await, all, "damaged");
    std::fs::remove_dir_all(folder.path().join("state.json.history")).unwrap();
    assert_eq!(run_once(&fake_source, cache(folder.path(), "https://us")).await, all, "deleted");
    // A folder that cannot be created changes nothing else.
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    assert_eq!(run_once(&fake_source, DiskCache::new(file.join("history"), "a", "b")).await, all);
}

#[tokio::test(start_paused = true)]
async fn with_another_key_cached_history_is_hidden_until_verified() {
    let folder = tempfile::tempdir().unwrap();
    let fake_source = harness().end().await;
    *fake_source.orders.lock().unwrap() = vec![order(1, 20, 3, Some(5))];
    run_once(&fake_source, cache(folder.path(), "https://us")).await;
    let clock: Arc<dyn Clock> = offset_clock();
    let unverified = || Arc::new(HistoryCache::unverified(Arc::clone(&clock)));
    *fake_source.response_time.lock().unwrap() = Duration::from_secs(5);
    let harness = harness_of(Arc::clone(&fake_source), unverified(), Some(cache(folder.path(), "https://us")), 30);
    harness.request(&[Some(5)]);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(harness.history.history(Some(5)), AccountHistory::unread());
    harness.wait_until_settled(&[Some(5)]).await;
    assert_eq!(harness.entries(Some(5)), Ok(2));
    let fake_source = harness.end().await;
    assert_eq!(
        fake_source.take_requests(),
        ["ledger Some(5) 2026-11-19", "orders 2025-10-09 2030-03-07"],
        "the same account"
    );
    *fake_source.entries.lock().unwrap() = vec![entry("x", start())];
    let harness = harness_of(Arc::clone(&fake_source), unverified(), Some(cache(folder.path(), "https://us")), 30);
    harness.request(&[Some(5)]).wait_until_settled(&[Some(5)]).await;
    assert_eq!(harness.entries(Some(5)), Ok(1));
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_division_requested_now_and_then_is_read_incrementally() {
    let folder = tempfile::tempdir().unwrap();
    let fake_source = harness().end().await;
    let harness = harness_with(fake_source, Some(cache(folder.path(), "https://us")));
    harness.request(&[None, Some(5)]).wait_until_settled(&[None, Some(5)]).await;
    let about_five =
        |requests: Vec<String>| requests.into_iter().filter(|request| request.contains("Some(5)")).collect::<Vec<_>>();
    assert_eq!(about_five(harness.fake_source.take_requests()), ["ledger Some(5) 2025-10-19"]);
    for minutes in [5, 70, 20 * 60, 29 * 60] {
        harness.request(&[None]).pass(minutes).await;
        assert_eq!(harness.entries(Some(5)), Err(HistoryGap::NotYetRead), "no longer requested");
        assert_eq!(about_five(harness.fake_source.take_requests()), [] as [String; 0]);
        harness.request(&[None, Some(5)]).wait_until_settled(&[None, Some(5)]).await;
        assert_eq!(harness.entries(Some(5)), Ok(2));
        let expected = if minutes < 60 { vec![] } else { vec!["ledger Some(5) 2026-11-19"] };
        assert_eq!(about_five(harness.fake_source.take_requests()), expected, "after {minutes} minutes");
    }
    wait_for_files(folder.path(), 3);
    harness.request(&[None]).pass(31 * 24 * 60).await;
    // The file is deleted in the end.
    wait_for_files(folder.path(), 2);
    harness.end().await;
}

/// Waits until the cache has this number of files. They are written by another thread, in real time.
fn wait_for_files(folder: &std::path::Path, count: usize) {
    for _ in 0..500 {
        if files(folder).len() == count {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not {count} files: {:?}", files(folder));
}
