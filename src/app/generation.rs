//! What runs by one configuration: built as a whole, started as a whole, ended between two cycles.
//!
//! What outlives a reload is not its own: the book, the board, what is [`Kept`] of accounts that stay, and sends that run,
//! which nothing waits for.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::discriminant;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::join_all;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use url::Url;

use super::{LAST_SENDS, Shared, forget_unconfigured, http_client, notifiers, watches_sharing};
use crate::alerting::state::State;
use crate::config::{Config, Heartbeat, NotifierConfig};
use crate::domain::Name;
use crate::domain::silence::Silence;
use crate::history::Cache;
use crate::notify::delivery::{Desk, Pauses, Sending, Stopped, Tried, Worker};
use crate::polling::poller;
use crate::polling::poller::{Memory, Scope, Watch};
use crate::polling::reports;
use crate::polling::reports::Plan;
use crate::polling::schedule::Schedule;
use crate::polling::scheduler;
use crate::polling::scheduler::{Halt, Jobs};
use crate::state::Book;
use crate::status::control::Board;
use crate::status::heartbeat::Target;
use crate::status::http;
use crate::status::http::Server;
use crate::util::clock::Clock;
use crate::util::secret::Redactor;

/// How long a running cycle may take when the next configuration waits for it. Then it is begun anew.
const LAST_CYCLE: Duration = Duration::from_secs(10);

/// What every generation uses.
pub(super) struct House {
    pub(super) book: Arc<Book>,
    pub(super) board: Arc<Board>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) jobs: Jobs,
    /// Who is told that the service is awake.
    pub(super) heartbeat: watch::Sender<Option<Target>>,
}

/// What a reload forgets only with the account that it belongs to.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) shared: Shared,
    pub(super) http: Option<Server>,
    memories: BTreeMap<Name, Remembered>,
    /// Sends that still ran when their workers were stopped. That of a notifier that left stays here to its end.
    sending: BTreeMap<Name, Sending>,
    /// The pauses of notifiers after failures, and by which configuration these send.
    pauses: BTreeMap<Name, (NotifierConfig, Pauses)>,
}

/// What an account's cycles remember, and of what.
struct Remembered {
    base_url: Url,
    scope: Scope,
    memory: Arc<Mutex<Memory>>,
}

/// Everything that can fail about a configuration, done; nothing of it runs yet.
pub(super) struct Built {
    pub(super) config: Config,
    watches: Vec<Arc<Watch>>,
    desks: BTreeMap<Name, Desk>,
    shared: Shared,
    /// Where it will answer, if that is not where it answers now.
    listener: Option<TcpListener>,
    heartbeat: Option<Target>,
}

impl Built {
    pub(super) fn new(
        config: &Config,
        redactor: &Redactor,
        clock: &Arc<dyn Clock>,
        kept: &Kept,
    ) -> anyhow::Result<Self> {
        let (watches, shared) = watches_sharing(config, redactor, clock, &kept.shared)?;
        let desks = notifiers(config, redactor)?;
        let listener = listener(config, kept.http.as_ref())?;
        let heartbeat = config.heartbeat.as_ref().map(target).transpose().context("heartbeat")?;
        Ok(Self { config: config.clone(), watches, desks, shared, listener, heartbeat })
    }
}

fn target(config: &Heartbeat) -> anyhow::Result<Target> {
    let http = http_client(&config.connection, Url::parse(config.url.expose()).ok().as_ref())?;
    Ok(Target { url: config.url.clone(), every: config.every, http })
}

/// The address that is new, taken.
fn listener(config: &Config, running: Option<&Server>) -> anyhow::Result<Option<TcpListener>> {
    let Some(http) = config.http.as_ref().filter(|http| running.is_none_or(|it| it.listen != http.listen)) else {
        return Ok(None);
    };
    let own = running.is_some_and(|it| it.listen.port() == http.listen.port());
    let what = if own { "this service has the port: restart it, or choose another" } else { "choose another address" };
    let bound = http::bind(http.listen);
    bound.map(Some).with_context(|| format!("http.listen: {} cannot be listened on ({what})", http.listen))
}

/// The running tasks of one configuration.
pub(super) struct Generation {
    cycles: JoinSet<()>,
    notifiers: BTreeMap<Name, NotifierConfig>,
    workers: JoinSet<(Name, Stopped)>,
    /// Workers that have been stopped.
    stopped: BTreeMap<Name, Stopped>,
    /// Reports, and what keeps ledgers and orders fresh.
    others: JoinSet<()>,
    halt: watch::Sender<Halt>,
    no_more_sends: watch::Sender<bool>,
}

impl Generation {
    /// Takes over: forgets what is no longer configured, then lets cycles and sends begin.
    pub(super) async fn start(built: Built, house: &House, kept: &mut Kept) -> Self {
        let Built { config, watches, desks, shared, listener, heartbeat } = built;
        forget_unconfigured(&house.book, &watches, &desks, house.clock.now()).await;
        let accounts = config.accounts.keys().cloned().collect();
        house.board.configured(&accounts, &config.rules, &desks.keys().cloned().collect());
        kept.shared = shared;
        kept.answer(&config, listener, house);
        house.heartbeat.send_replace(heartbeat);
        let (no_more_sends, sends_end) = watch::channel(false);
        let (halt, halted) = watch::channel(Halt::No);
        let quiet = desks.iter().filter_map(|(name, desk)| Some((name.clone(), desk.quiet_hours.clone()?)));
        house.board.quiet_hours(quiet.collect());
        let workers = spawn_workers(desks, &config.notifiers, house, kept, &sends_end);
        let mut others = JoinSet::new();
        spawn_reports(&config, house, &sends_end, &mut others).await;
        let mut memories = BTreeMap::new();
        let mut cycles = JoinSet::new();
        for watch in watches {
            let Some(account) = config.accounts.get(&watch.account) else { continue };
            if let Some(library) = &watch.library {
                let cache = Cache::new(books_folder(&config.state), &watch.account, account.base_url.as_str());
                others.spawn(library.keeper(&watch, &house.clock, Some(cache)).run(sends_end.clone()));
            }
            let memory = kept.memory(&watch, &account.base_url);
            let (base_url, scope) = (account.base_url.clone(), watch.scope.clone());
            memories.insert(watch.account.clone(), Remembered { base_url, scope, memory: Arc::clone(&memory) });
            cycles.spawn(run_account(watch, memory, account.schedule.clone(), house.shared(), halted.clone()));
        }
        kept.memories = memories;
        let notifiers = config.notifiers;
        Self { cycles, notifiers, workers, stopped: BTreeMap::new(), others, halt, no_more_sends }
    }

    /// Ends between two cycles; messages are sent meanwhile. A send that runs goes on: the next worker of its notifier marks
    /// it, and nobody else waits for it.
    pub(super) async fn leave(&mut self, kept: &mut Kept) {
        let _ = self.halt.send(Halt::AfterThis);
        let last = async { while self.cycles.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_CYCLE, last).await.is_err() {
            tracing::info!("a cycle still runs after ten seconds: it is begun anew with the new configuration");
            let _ = self.halt.send(Halt::Now);
            while self.cycles.join_next().await.is_some() {}
        }
        self.stop_workers().await;
        kept.sending.retain(|_, sending| !sending.has_ended());
        for (name, stopped) in std::mem::take(&mut self.stopped) {
            let (sending, pauses) = stopped.into_parts();
            kept.sending.extend(sending.map(|sending| (name.clone(), sending)));
            kept.pauses.extend(self.notifiers.remove(&name).map(|config| (name, (config, pauses))));
        }
    }

    /// Ends for good: cycles at once; running sends get ten seconds.
    pub(super) async fn stop(mut self, kept: &mut Kept) {
        let _ = self.halt.send(Halt::Now);
        let all = async {
            while self.cycles.join_next().await.is_some() {}
            self.stop_workers().await;
            let marked = std::mem::take(&mut self.stopped).into_values().map(Stopped::finish);
            let unmarked = kept.sending.values_mut().map(Sending::ended);
            tokio::join!(join_all(marked), join_all(unmarked));
        };
        if tokio::time::timeout(LAST_SENDS, all).await.is_err() {
            tracing::warn!("a send still runs after ten seconds: it is abandoned and stays owed");
        }
    }

    /// Stops whatever sends or has something sent, without a wait for sends that run.
    async fn stop_workers(&mut self) {
        let _ = self.no_more_sends.send(true); // everybody who listens may have ended already
        while self.others.join_next().await.is_some() {}
        while let Some(joined) = self.workers.join_next().await {
            self.stopped.extend(joined); // a worker that panicked leaves nothing
        }
    }
}

/// Where the books are kept between two starts: beside the state, and worth nothing but time.
fn books_folder(state: &Path) -> PathBuf {
    let mut name = state.file_name().unwrap_or_default().to_owned();
    name.push(".books");
    state.with_file_name(name)
}

impl House {
    fn shared(&self) -> Self {
        let (book, board) = (Arc::clone(&self.book), Arc::clone(&self.board));
        Self { book, board, clock: Arc::clone(&self.clock), jobs: self.jobs.clone(), heartbeat: self.heartbeat.clone() }
    }
}

impl Kept {
    /// Answers over HTTP as configured from now on.
    fn answer(&mut self, config: &Config, listener: Option<TcpListener>, house: &House) {
        let Some(wanted) = &config.http else {
            self.http = None;
            return;
        };
        let Some(listener) = listener else {
            self.http.iter().for_each(|running| running.want(wanted.token.clone()));
            return;
        };
        let House { book, board, clock, .. } = house.shared();
        match Server::start(wanted.listen, listener, wanted.token.clone(), http::Desk { board, book, clock }) {
            Ok(server) => self.http = Some(server),
            Err(error) => tracing::error!(%error, "http cannot be served: restart the service"),
        }
    }

    /// What an account that stays remembers of its divisions; of another place, or read in another way, it is worthless.
    fn memory(&self, watch: &Watch, base_url: &Url) -> Arc<Mutex<Memory>> {
        let same = |it: &&Remembered| it.base_url == *base_url && discriminant(&it.scope) == discriminant(&watch.scope);
        let known = self.memories.get(&watch.account).filter(same);
        known.map_or_else(Arc::default, |it| Arc::clone(&it.memory))
    }
}

/// One worker a notifier. It begins with the send that its predecessor left running, so that there are never two at once,
/// and with its pauses, unless it sends in another way now.
fn spawn_workers(
    desks: BTreeMap<Name, Desk>,
    notifiers: &BTreeMap<Name, NotifierConfig>,
    house: &House,
    kept: &mut Kept,
    stopped: &watch::Receiver<bool>,
) -> JoinSet<(Name, Stopped)> {
    let everyone: BTreeSet<Name> = desks.keys().cloned().collect();
    let mut pauses = std::mem::take(&mut kept.pauses);
    let mut tasks = JoinSet::new();
    for (name, desk) in desks {
        let board = Arc::clone(&house.board);
        let counter = Arc::new(move |name: &Name, tried: Tried| board.tried(name, tried));
        let (book, clock) = (Arc::clone(&house.book), Arc::clone(&house.clock));
        let worker = Worker::new(name.clone(), desk, everyone.clone(), book, clock).counted_by(counter);
        let same =
            pauses.remove(&name).filter(|(before, _)| notifiers.get(&name).is_some_and(|now| now.sends_as(before)));
        let worker = worker.going_on_with(kept.sending.remove(&name)).keeping(same.map(|(_, pauses)| pauses));
        let stopped = stopped.clone();
        tasks.spawn(async move { (name, worker.work(stopped).await) });
    }
    for notifier in kept.sending.keys() {
        tracing::info!(%notifier, "a send of a notifier that is no longer configured still runs: it is finished");
    }
    tasks
}

/// Reports end with the sends. What is remembered of reports that left the configuration goes.
async fn spawn_reports(config: &Config, house: &House, stopped: &watch::Receiver<bool>, tasks: &mut JoinSet<()>) {
    let forget = |state: &mut State| {
        let before = state.reports.len();
        state.reports.retain(|name, _| config.reports.contains_key(name));
        ((), state.reports.len() != before)
    };
    house.book.change(forget).await;
    let accounts: Arc<[Name]> = config.accounts.keys().cloned().collect();
    let silences: Arc<[Silence]> = config.silences.values().cloned().collect();
    for (name, report) in &config.reports {
        let (schedule, notify) = (report.schedule.clone(), report.notify.clone());
        let plan = Plan { name: name.clone(), schedule, notify, silences: Arc::clone(&silences) };
        let House { book, board, clock, .. } = house.shared();
        tasks.spawn(reports::run(plan, Arc::clone(&accounts), board, book, clock, stopped.clone()));
    }
}

async fn run_account(
    watch: Arc<Watch>,
    memory: Arc<Mutex<Memory>>,
    schedule: Schedule,
    house: House,
    halted: watch::Receiver<Halt>,
) {
    let House { book, board, clock, jobs, .. } = house;
    board.paced(&watch.account, memory.lock().await.progress());
    let cycle = |planned| {
        let (watch, memory, book) = (Arc::clone(&watch), Arc::clone(&memory), Arc::clone(&book));
        let (board, clock) = (Arc::clone(&board), Arc::clone(&clock));
        let period = schedule.next_after(planned).and_then(|next| (next - planned).to_std().ok());
        async move {
            let mut memory = memory.lock().await;
            memory.next_after(period);
            let outcome = poller::run(&watch, &mut memory, &book, clock.as_ref(), planned).await;
            board.cycle(&watch.account, outcome);
        }
    };
    let beat = |beat| board.beat(&watch.account, beat);
    scheduler::run(watch.account.clone(), schedule.clone(), jobs, Arc::clone(&clock), halted, cycle, beat).await;
}
