//! A long run of many divisions in this process, with everything that makes memory grow: flapping, outages of the account and of
//! a channel, refused divisions, and a reload every day. Poller, state, registry and delivery are the real ones, on tokio's
//! paused time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use async_trait::async_trait;
use lowtide::alerting::end_alerts::end_unconfigured_alerts;
use lowtide::alerting::policy::DivisionScope;
use lowtide::alerting::state::State;
use lowtide::certcentral::{BalanceSource, ListedDivision, ReadError, ReadErrorKind};
use lowtide::domain::balance::Balance;
use lowtide::domain::{Division, Name};
use lowtide::notify::delivery::{DeliveryWorker, Route};
use lowtide::notify::{Delivered, Message, Notifier, SendError};
use lowtide::polling::poller::{Poller, PollerState};
use lowtide::state::{JsonPieces, StateBackend, StateStore, encode};
use lowtide::status::registry::Registry;
use lowtide::util::clock::Clock;
use rust_decimal::Decimal;
use tokio::task::JoinSet;

use super::service::{JumpingClock, balance, policy, poller, rule};

/// Number of cycles a day.
pub const CYCLES_PER_DAY: u64 = 96;
const PERIOD: Duration = Duration::from_secs(15 * 60);

/// The account and its channel; what they answer depends on the cycle.
struct LongRunWorld {
    divisions: u64,
    cycle: AtomicU64,
}

impl LongRunWorld {
    fn hour(&self) -> u64 {
        self.cycle.load(Ordering::Relaxed) / 4 % 24
    }
}

#[async_trait]
impl BalanceSource for LongRunWorld {
    async fn balance(&self, division: Division) -> Result<Balance, ReadError> {
        let (id, cycle) = (division.unwrap(), self.cycle.load(Ordering::Relaxed));
        let fails = |kind, reason: &str| Err(ReadError { kind, reason: format!("GET /finance/balance {reason} {id}") });
        match (self.hour(), id % 100) {
            (4..=8, _) => fails(ReadErrorKind::Server, "answered 503 Service Unavailable for division"),
            (12..=14, 7) => fails(ReadErrorKind::Refused, "answered 403 Forbidden for division"),
            // One division in ten flaps through both levels.
            (_, 10..=19) => Ok(balance(Decimal::from([5000, 1500, 400][usize::try_from((cycle + id) % 3).unwrap()]))),
            _ => Ok(balance(Decimal::from(3000 + id + cycle % 50))),
        }
    }

    async fn divisions(&self) -> Result<Vec<ListedDivision>, ReadError> {
        // Some divisions leave the listing for an hour.
        let gone = |id: u64| self.hour() == 18 && id.is_multiple_of(50);
        let ids = (1..=self.divisions).filter(|id| !gone(*id));
        Ok(ids.map(|id| ListedDivision { id, name: format!("Division {id}"), active: true }).collect())
    }
}

/// Accepts every message, except for some hours a day.
#[async_trait]
impl Notifier for LongRunWorld {
    async fn send(&self, _: &Message) -> Result<Delivered, SendError> {
        if (20..23).contains(&self.hour()) {
            let reason = "Slack answered 503".to_owned();
            return Err(SendError { permanent: false, reason, retry_after: None, refused: Vec::new() });
        }
        Ok(Delivered::default())
    }
}

/// A backend that stores nothing, because the test measures the memory of the process.
struct DiscardingBackend;

impl StateBackend for DiscardingBackend {
    fn save(&self, _: &JsonPieces) -> std::io::Result<()> {
        Ok(())
    }
}

/// Returns the resident memory of this process, in MiB.
#[allow(clippy::cast_precision_loss)] // kibibytes of a process
pub fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() as f64 / 1024.0
}

/// Parts that outlive a reload.
struct LongRun {
    clock: Arc<JumpingClock>,
    store: Arc<StateStore>,
    registry: Arc<Registry>,
    world: Arc<LongRunWorld>,
}

impl LongRun {
    /// Starts the parts that a reload replaces: the poller and the delivery worker.
    fn start_generation(&self, day: u64) -> (Arc<Poller>, JoinSet<()>, CancellationToken) {
        let every = Duration::from_secs((6 + day % 2) * 3600);
        let source = Arc::clone(&self.world) as Arc<dyn BalanceSource>;
        let policy = policy(DivisionScope::All(BTreeSet::new()), rule(Duration::ZERO, every, &["chat"]));
        let poller = poller(source, &self.clock, policy);
        let names: BTreeSet<Name> = ["chat".into()].into();
        self.registry.apply_config(&["acme".into()].into(), &poller.policy.rules, &names);
        let notifier = Arc::clone(&self.world) as Arc<dyn Notifier>;
        let route = Route { notifier, fallback: None, quiet_hours: None };
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let worker = DeliveryWorker::new("chat".into(), route, names, Arc::clone(&self.store), clock);
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(worker.run(stop.clone()));
        (poller, tasks, stop)
    }
}

/// Runs this many days. Returns the memory after each cycle, in MiB.
pub async fn run_days(divisions: u64, days: u64) -> Vec<f64> {
    let clock = JumpingClock::new("2026-11-01T00:00:00Z".parse().unwrap());
    let store = Arc::new(StateStore::new(State::default(), Arc::new(DiscardingBackend) as Arc<dyn StateBackend>));
    let world = Arc::new(LongRunWorld { divisions, cycle: AtomicU64::new(0) });
    let run = LongRun { clock, store, registry: Arc::default(), world };
    let (mut poller_state, mut samples) = (PollerState::default(), Vec::new());
    let mut generation = run.start_generation(0);
    for n in 0..days * CYCLES_PER_DAY {
        if n > 0 && n % CYCLES_PER_DAY == 0 {
            let (_, mut tasks, stop) = generation;
            stop.cancel();
            while tasks.join_next().await.is_some() {}
            generation = run.start_generation(n / CYCLES_PER_DAY);
            let now = run.clock.now();
            run.store.change(|state| (end_unconfigured_alerts(state, &[&generation.0.policy], now).len(), false)).await;
        }
        run.world.cycle.store(n, Ordering::Relaxed);
        let outcome = generation.0.run_cycle(&mut poller_state, &run.store, run.clock.now()).await;
        run.registry.record_cycle(&"acme".into(), outcome);
        tokio::time::sleep(PERIOD).await;
        samples.push(resident_mib());
    }
    // The state is bounded too.
    let json = run.store.read(encode).unwrap().to_bytes();
    assert!(json.len() < usize::try_from(divisions).unwrap() * 3000, "a state of {} bytes", json.len());
    samples
}
