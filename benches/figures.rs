//! Measures the figures of docs/performance.md, each with its goal, on the real binary or the real cycle, alternating
//! with the bare loop.
//!
//!     cargo bench --bench figures               everything, in about eight minutes
//!     cargo bench --bench figures -- cycle      only what has this word in its name: cycle, memory, rest, start, wire
//!
//! The service runs as a process of its own against a stand-in in this process. For the whole-cycle figures, the
//! cycle runs here and the stand-in is a process of its own. `LOWTIDE_BINARY` names the binary to measure: the one
//! built for benchmarks includes features that only tests need, and is a few hundred kilobytes larger than a release.

#![allow(clippy::unwrap_used, clippy::cast_precision_loss)] // a measurement that cannot be taken ends the run

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::sleep;
use std::time::{Duration, Instant};

use lowtide::alerting::policy::{AccountPolicy, DivisionScope};
use lowtide::alerting::state::State;
use lowtide::certcentral::{CertCentralClient, RateLimiter};
use lowtide::domain::rule::{Level, Metric, Rule, Severity, ThresholdAmount, ThresholdSide, UnreadablePolicy};
use lowtide::polling::poller::{Poller, PollerState};
use lowtide::state::{JsonPieces, StateBackend, StateStore};
use lowtide::util::clock::{Clock, SystemClock};
use lowtide::util::http_client;
use lowtide::util::secret::{Redactor, Secret};
use support::bare;
use support::process::{ChildProcess, own_cpu_nanos, until};
use support::stand_in::{self, StandInState};
use tempfile::TempDir;

/// Longer than any step takes on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(180);

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    match wanted.first().map(String::as_str) {
        Some("stand-in") => return serve(wanted[1].parse().unwrap()),
        Some("bare") => return bare_process(&wanted[1], wanted[2].parse().unwrap()),
        _ => {}
    }
    println!("{:<58} {:>12} {:>12} {:>12}", "figure", "goal", "measured", "bare loop");
    let figures: [(&str, fn()); 5] =
        [("start", start), ("wire", wire), ("cycle", cycle), ("memory", memory), ("rest", rest)];
    for (_, figure) in figures.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|it| it == name)) {
        figure();
    }
}

fn row(figure: &str, goal: &str, measured: &str, limit: &str) {
    println!("{figure:<58} {goal:>12} {measured:>12} {limit:>12}");
    let _ = std::io::stdout().flush();
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn binary() -> PathBuf {
    std::env::var_os("LOWTIDE_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_lowtide").into(), Into::into)
}

/// A stand-in, and the configuration of a service that reads it.
struct BenchService {
    folder: TempDir,
    scene: Arc<StandInState>,
    address: std::net::SocketAddr,
}

impl BenchService {
    fn new(divisions: u64, schedule: &str) -> Self {
        // The folder is beside the build, on a disk: fsync costs nothing in a folder in memory.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let scene = Arc::new(StandInState { divisions, ..StandInState::default() });
        let address = stand_in::start(Arc::clone(&scene));
        let scope = if divisions == 0 { "" } else { "divisions: all, " };
        let yaml = format!(
            "schedule: {schedule}\nstate: state.json\naccounts:\n  acme: {{ api_key: bench-api-key, {scope}base_url: \"http://{address}/services/v2\", rate_limit: off }}\n\
             notifiers:\n  slack: {{ type: slack, webhook_url: \"http://{address}/services/T0BENCH/B0BENCH/abcdefghijkl\" }}\n\
             rules:\n  funds: {{ metric: available_funds, warning: {{ below: 2000 }}, critical: {{ below: 500 }} }}\n\
             \x20 balance: {{ metric: balance, warning: {{ below: 50 }} }}\n  invoices: {{ metric: unpaid_invoices, warning: {{ above: 1000 }} }}\n"
        );
        fs::write(folder.path().join("alerts.yaml"), yaml).unwrap();
        Self { folder, scene, address }
    }

    fn run(&self) -> ChildProcess {
        let file = self.folder.path().join("alerts.yaml");
        ChildProcess::start(&binary(), &["run", "-c", file.to_str().unwrap()], &[])
    }

    fn reads(&self) -> u64 {
        self.scene.reads.load(Relaxed)
    }

    fn wait_for_reads(&self, count: u64) {
        until("readings", TIMEOUT, || self.reads() >= count);
    }
}

fn start() {
    let mut times: Vec<f64> = (0..11)
        .map(|_| {
            let bench = BenchService::new(0, "every 1h");
            let began = Instant::now();
            let _process = bench.run();
            bench.wait_for_reads(1);
            (bench.scene.first_read.lock().unwrap().unwrap() - began).as_secs_f64() * 1000.0
        })
        .collect();
    row("start to first reading at the server, ms, median", "≤ 50", &format!("{:.1}", median(&mut times)), "-");
}

/// Measures the time from a reading to the message. Funds fall and recover every second, and Slack is notified each
/// time.
fn wire() {
    let bench = BenchService::new(0, "every 1s");
    let _process = bench.run();
    bench.wait_for_reads(2);
    let mut times = Vec::new();
    for n in 1..=20 {
        bench.scene.low.store(n % 2 == 1, Relaxed);
        until("a message", TIMEOUT, || bench.scene.slack_requests.lock().unwrap().len() >= n);
        let requested = bench.scene.slack_requests.lock().unwrap()[n - 1];
        // The stand-in may have answered once more since then, but only a second later.
        let answered = bench.scene.last_answer.lock().unwrap().unwrap();
        times.push((requested - answered).as_secs_f64() * 1000.0);
    }
    row("crossing read to Slack request, fsync, ms, median", "≤ 20", &format!("{:.1}", median(&mut times)), "-");
}

fn memory() {
    let held = |divisions: u64| {
        let bench = BenchService::new(divisions, "every 1h");
        let address = bench.address.to_string();
        let exe = std::env::current_exe().unwrap();
        let bare = ChildProcess::start(&exe, &["bare", &address, &divisions.max(1).to_string()], &[]);
        bench.wait_for_reads(divisions.max(1));
        sleep(Duration::from_secs(2));
        format!("{:.1}", bare.resident_mib())
    };
    for (divisions, goal, schedule, wait) in
        [(0, "≤ 12", "every 15s", 120), (200, "≤ 16", "every 15s", 60), (10_000, "≤ 40", "every 20s", 65)]
    {
        let bench = BenchService::new(divisions, schedule);
        let process = bench.run();
        sleep(Duration::from_secs(wait));
        bench.wait_for_reads(divisions.max(1));
        let state = bench.folder.path().join("state.json");
        let name = format!("resident, {} all ok, after {wait} s, MiB", counted(divisions));
        row(&name, goal, &format!("{:.1}", process.resident_mib()), &held(divisions));
        assert!(!state.exists(), "a state without alerts is not saved");
    }
    let bench = BenchService::new(10_000, "every 20s");
    bench.scene.low.store(true, Relaxed);
    bench.scene.slack_fails.store(true, Relaxed);
    let process = bench.run();
    sleep(Duration::from_secs(65));
    bench.wait_for_reads(10_000);
    let name = "resident, 10,000 divisions firing, pending for a failing Slack, MiB";
    row(name, "≤ 80", &format!("{:.1}", process.resident_mib()), "-");
    row("    its peak, MiB", "", &format!("{:.1}", process.peak_mib()), "-");
}

fn counted(divisions: u64) -> String {
    if divisions == 0 { "one account".to_owned() } else { format!("{divisions} divisions") }
}

/// Measures two minutes at rest after the start, extrapolated to ten, and checks that a quiet cycle writes nothing.
fn rest() {
    let bench = BenchService::new(0, "every 15s");
    let process = bench.run();
    sleep(Duration::from_secs(20));
    let files = || {
        let mut names: Vec<_> = fs::read_dir(bench.folder.path())
            .unwrap()
            .flatten()
            .map(|entry| (entry.file_name(), entry.metadata().unwrap().modified().unwrap()))
            .collect();
        names.sort();
        names
    };
    let (cpu, written, before, reads) = (process.cpu_nanos(), process.written_bytes(), files(), bench.reads());
    sleep(Duration::from_secs(120));
    let seconds = (process.cpu_nanos() - cpu) as f64 / 1e9 * 5.0;
    row("CPU at rest, every 15 s, s in 10 minutes", "≤ 0.05", &format!("{seconds:.3}"), "-");
    let cycles = bench.reads() - reads;
    let quiet = process.written_bytes() == written && files() == before;
    row(&format!("files written by {cycles} quiet cycles"), "none", if quiet { "none" } else { "SOME" }, "-");
}

/// Runs the stand-in as a process: prints its address, and answers until its input ends.
fn serve(divisions: u64) {
    println!("{}", stand_in::start(Arc::new(StandInState { divisions, ..StandInState::default() })));
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// Runs the bare loop as a process: reads once and stays.
fn bare_process(address: &str, divisions: u64) {
    runtime().block_on(bare::cycle(&bare::client(), &format!("http://{address}/services/v2"), divisions));
    sleep(TIMEOUT);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A state backend that stores nothing.
struct NullBackend;

impl StateBackend for NullBackend {
    fn save(&self, _: &JsonPieces) -> std::io::Result<()> {
        Ok(())
    }
}

fn rule(n: usize) -> Rule {
    let level = |amount: i64| {
        let threshold = ThresholdAmount { value: amount.into(), currency: None };
        Level::new(
            ThresholdSide::Below,
            threshold,
            Some(ThresholdAmount { value: (amount + 100).into(), currency: None }),
        )
        .unwrap()
    };
    let metric = [Metric::AvailableFunds, Metric::Balance][n % 2];
    Rule::new(format!("rule-{n}").into(), metric, Some(level(2000)), Some(level(500))).unwrap()
}

fn poller(address: &str, rules: usize) -> Poller {
    let options =
        http_client::HttpClientOptions { timeout: Duration::from_secs(10), extra_ca_pem: None, loopback: true };
    let client = CertCentralClient::new(
        "acme",
        format!("http://{address}/services/v2").parse().unwrap(),
        &Secret::new("bench-api-key"),
        http_client::client(&options).unwrap(),
        Arc::new(RateLimiter::new([])),
        Redactor::default(),
        Arc::new(SystemClock),
    );
    let policy = AccountPolicy {
        account: "acme".into(),
        scope: DivisionScope::All(BTreeSet::new()),
        rules: (0..rules).map(rule).collect(),
        unreadable: Arc::new(UnreadablePolicy {
            after: Duration::from_secs(3 * 3600),
            level: Severity::Warning,
            remind_every: None,
            notify: Vec::new(),
        }),
        silences: [].into(),
        incident_notifiers: Arc::default(),
    };
    Poller { policy, source: Arc::new(client.unwrap()), history: None, clock: Arc::new(SystemClock) }
}

/// Time that one pass took, in seconds.
#[derive(Clone, Copy)]
struct PassCost {
    wall: f64,
    cpu: f64,
}

fn cost(pass: impl FnOnce()) -> PassCost {
    let (began, cpu) = (Instant::now(), own_cpu_nanos());
    pass();
    PassCost { wall: began.elapsed().as_secs_f64(), cpu: (own_cpu_nanos() - cpu) as f64 / 1e9 }
}

/// Measures passes of the whole cycle and of the bare loop in turn.
fn cycle() {
    const DIVISIONS: u64 = 10_000;
    const PASSES: usize = 9;
    let exe: &Path = &std::env::current_exe().unwrap();
    let mut server = Command::new(exe);
    server.args(["stand-in", &DIVISIONS.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut server = ChildProcess(server.spawn().unwrap());
    let mut address = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut address).unwrap();
    let address = address.trim();
    let (runtime, http, base) = (runtime(), bare::client(), format!("http://{address}/services/v2"));
    let bare = || cost(|| runtime.block_on(bare::cycle(&http, &base, DIVISIONS)));
    for (rules, name) in [(3, "3 rules"), (10, "10 rules")] {
        let poller = poller(address, rules);
        let store = StateStore::new(State::default(), Arc::new(NullBackend));
        let mut poller_state = PollerState::default();
        let mut ours = || {
            cost(|| {
                let planned = SystemClock.now();
                let outcome = runtime.block_on(poller.run_cycle(&mut poller_state, &store, planned));
                assert!(outcome.complete && outcome.readings.len() == 10_000);
            })
        };
        // The first pass opens connections, lists divisions and fills caches.
        ours();
        bare();
        let both: Vec<(PassCost, PassCost)> = (0..PASSES).map(|_| (ours(), bare())).collect();
        let of = |value: fn(&(PassCost, PassCost)) -> f64| median(&mut both.iter().map(value).collect::<Vec<_>>());
        let micros = |seconds: f64| format!("{:.1}", seconds * 1e6 / DIVISIONS as f64);
        let (cpu, wall) = (of(|(ours, bare)| ours.cpu / bare.cpu), of(|(ours, bare)| ours.wall / bare.wall));
        let goals = if rules == 3 { ("≤ 1.15 ×", "") } else { ("", "≤ 1.15 ×") };
        let (mine, limit) = (micros(of(|it| it.0.cpu)), micros(of(|it| it.1.cpu)));
        row(&format!("CPU per reading, evaluated by {name}, µs"), "", &mine, &limit);
        row("    ratio, median of pairs", goals.0, &format!("{cpu:.2} ×"), "1");
        let seconds = |value: f64| format!("{value:.3}");
        let (mine, limit) = (seconds(of(|it| it.0.wall)), seconds(of(|it| it.1.wall)));
        row(&format!("10,000 divisions × {name}, one cycle, s"), "", &mine, &limit);
        row("    ratio, median of pairs", goals.1, &format!("{wall:.2} ×"), "1");
    }
}
