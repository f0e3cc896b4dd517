//! The only place that builds concrete things from a configuration and spawns tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio_cron_scheduler::JobScheduler;

use crate::certcentral::{Client, Limiter, Window};
use crate::clock::Clock;
use crate::config::{Account, Channel, Config, Connection, Divisions, NotifierConfig, Tls};
use crate::control::{self, Board};
use crate::cycle::{self, Memory, Scope, Watch};
use crate::domain::Name;
use crate::notify::email::{self, Email, EmailOptions};
use crate::notify::outbox::{Desk, Worker};
use crate::notify::slack::Slack;
use crate::notify::{Notifier, RuleWords, Words};
use crate::schedule::Schedule;
use crate::secret::{Redactor, Secret};
use crate::store::{Book, FileStore, OpenError, Opened};
use crate::{scheduler, web};

/// How long running sends get after the service was told to stop.
const LAST_SENDS: Duration = Duration::from_secs(10);

/// The pause before the control socket is tried again, where its folder was not to be used.
const SOCKET_AGAIN: Duration = Duration::from_secs(5);

/// How often a state that somebody else has is tried before it is refused, and the pause between.
const STATE_TRIES: u32 = 10;
const STATE_AGAIN: Duration = Duration::from_millis(100);

/// Why the service did not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The state is refused.
    #[error(transparent)]
    State(#[from] OpenError),
    /// Something could not be built.
    #[error("{0:#}")]
    Build(#[from] anyhow::Error),
}

/// What each account's cycles need, built.
pub fn watches(config: &Config, redactor: &Redactor, clock: &Arc<dyn Clock>) -> anyhow::Result<Vec<Arc<Watch>>> {
    let rules: Arc<[_]> = config.rules.clone().into();
    let unreadable = Arc::new(config.unreadable.clone());
    let silences: Arc<[_]> = config.silences.values().cloned().collect();
    let mut limiters: BTreeMap<String, Arc<Limiter>> = BTreeMap::new();
    let limits = limits_by_key(config);
    let build = |(name, account): (&Name, &Account)| {
        let key = account.api_key.expose().to_owned();
        let windows = limits.get(&key).cloned().unwrap_or_default();
        let limiter = limiters.entry(key).or_insert_with(|| Arc::new(Limiter::new(windows)));
        let http = http_client(&account.connection, web::is_loopback(&account.base_url))
            .with_context(|| format!("account {name}"))?;
        let client = Client::new(
            &**name,
            account.base_url.clone(),
            &account.api_key,
            http,
            Arc::clone(limiter),
            redactor.clone(),
            Arc::clone(clock),
        )
        .with_context(|| format!("account {name}"))?;
        Ok(Arc::new(Watch {
            account: name.clone(),
            source: Arc::new(client),
            scope: scope(&account.divisions),
            rules: Arc::clone(&rules),
            unreadable: Arc::clone(&unreadable),
            silences: Arc::clone(&silences),
        }))
    };
    config.accounts.iter().map(build).collect()
}

/// Accounts that share a key share its limit: the windows of all of them hold.
fn limits_by_key(config: &Config) -> BTreeMap<String, Vec<Window>> {
    let mut limits: BTreeMap<String, Vec<Window>> = BTreeMap::new();
    for account in config.accounts.values() {
        let windows = limits.entry(account.api_key.expose().to_owned()).or_default();
        windows
            .extend(account.rate_limit.iter().map(|quota| Window { requests: quota.requests, length: quota.window }));
    }
    limits
}

fn scope(divisions: &Divisions) -> Scope {
    match divisions {
        Divisions::Undivided => Scope::Undivided,
        Divisions::All { exclude } => Scope::All(exclude.clone()),
        Divisions::Listed(ids) => Scope::Listed(ids.clone()),
    }
}

fn ca_pem(connection: &Connection) -> anyhow::Result<Option<Vec<u8>>> {
    let read = |path: &std::path::PathBuf| std::fs::read(path).with_context(|| format!("ca_file {}", path.display()));
    connection.ca_file.as_ref().map(read).transpose()
}

fn http_client(connection: &Connection, loopback: bool) -> anyhow::Result<reqwest::Client> {
    let options = web::WebOptions { timeout: connection.timeout, extra_ca_pem: ca_pem(connection)?, loopback };
    Ok(web::client(&options)?)
}

/// What messages say beside the events' own figures.
pub fn words(config: &Config) -> Words {
    let rule = |rule: &crate::domain::rule::Rule| {
        (rule.name.clone(), RuleWords { description: rule.description.clone(), link: rule.link.clone() })
    };
    Words {
        timezone: config.timezone,
        rules: config.rules.iter().map(rule).collect(),
        console_urls: config
            .accounts
            .iter()
            .map(|(name, account)| (name.clone(), account.console_url.to_string()))
            .collect(),
    }
}

/// The notifiers, built.
pub fn notifiers(config: &Config, redactor: &Redactor) -> anyhow::Result<BTreeMap<Name, Desk>> {
    let words = Arc::new(words(config));
    let build = |(name, notifier): (&Name, &NotifierConfig)| {
        let built = channel(name, notifier, &words, redactor).with_context(|| format!("notifier {name}"))?;
        let (fallback, quiet_hours) = (notifier.fallback.clone(), notifier.quiet_hours.clone());
        Ok((name.clone(), Desk { notifier: built, fallback, quiet_hours }))
    };
    config.notifiers.iter().map(build).collect()
}

fn channel(
    name: &Name,
    config: &NotifierConfig,
    words: &Arc<Words>,
    redactor: &Redactor,
) -> anyhow::Result<Arc<dyn Notifier>> {
    Ok(match &config.channel {
        Channel::Slack { webhook_url, mention } => {
            let loopback = url::Url::parse(webhook_url.expose()).is_ok_and(|url| web::is_loopback(&url));
            let http = http_client(&config.connection, loopback)?;
            Arc::new(Slack::new(
                name.clone(),
                webhook_url.clone(),
                mention.clone(),
                http,
                Arc::clone(words),
                redactor.clone(),
            ))
        }
        Channel::Email { host, port, tls, credentials, from, to } => {
            if let Some((user, password)) = credentials {
                // The form in which AUTH PLAIN sends it, and in which a server may echo it.
                redactor.learn(&Secret::new(format!("\0{user}\0{}", password.expose())));
            }
            let options = EmailOptions {
                host: host.clone(),
                port: *port,
                tls: security(*tls),
                credentials: credentials.clone(),
                from: from.clone(),
                to: to.clone(),
                timeout: config.connection.timeout,
                ca_pem: ca_pem(&config.connection)?,
            };
            Arc::new(Email::new(options, Arc::clone(words), redactor.clone())?)
        }
    })
}

fn security(tls: Tls) -> email::Tls {
    match tls {
        Tls::Implicit => email::Tls::Implicit,
        Tls::Starttls => email::Tls::Starttls,
        Tls::None => email::Tls::None,
    }
}

/// Runs the service until `stop` completes. Returns when everything has ended and is saved.
pub async fn run(
    config: &Config,
    redactor: &Redactor,
    clock: Arc<dyn Clock>,
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let opened = open_state(&config.state, clock.as_ref()).await?;
    for problem in &opened.problems {
        tracing::error!("{problem}");
    }
    let watches = watches(config, redactor, &clock)?;
    let desks = notifiers(config, redactor)?;
    let book = Arc::new(Book::new(opened.state, Arc::new(opened.store)));
    forget_unconfigured(&book, &watches, &desks).await;

    let (stopper, stopped) = watch::channel(false);
    let board = Arc::new(Board::default());
    let background = background(&config.state, &book, &board, &clock);
    let workers = spawn_workers(desks, &book, &clock, &stopped);
    let cycles = spawn_cycles(config, watches, &book, &board, &clock, &stopped).await?;
    tracing::info!(accounts = config.accounts.len(), rules = config.rules.len(), notifiers = config.notifiers.len(), state = %config.state.display(), "lowtide runs");

    stop.await;
    tracing::info!("told to stop: running sends get ten seconds");
    let _ = stopper.send(true); // everybody who listens may have ended already
    finish(cycles, workers).await;
    let saved = book.flush().await;
    drop(background);
    let _ = std::fs::remove_file(control::socket_path(&config.state)); // its absence is what matters
    let owed = book.read(|state| state.owed.len());
    tracing::info!(owed, saved, "stopped");
    Ok(())
}

/// Opens the state. Whoever has it may be a command that lets go in a moment; a service does not.
async fn open_state(path: &Path, clock: &dyn Clock) -> Result<Opened, OpenError> {
    for _ in 0..STATE_TRIES {
        match FileStore::open(path, clock.now()) {
            Err(OpenError::InUse { .. }) => tokio::time::sleep(STATE_AGAIN).await,
            opened => return opened,
        }
    }
    FileStore::open(path, clock.now())
}

/// What left the configuration ends quietly: a line in the log, no message.
async fn forget_unconfigured(book: &Book, watches: &[Arc<Watch>], desks: &BTreeMap<Name, Desk>) {
    let watches: Vec<&Watch> = watches.iter().map(AsRef::as_ref).collect();
    let (alerts, dropped) = book
        .change(|state| {
            let alerts = cycle::forget_unconfigured(state, &watches);
            let before = state.notifiers.len();
            let dropped = state.forget_notifiers(|name| desks.contains_key(name));
            let changed = !alerts.is_empty() || !dropped.is_empty() || state.notifiers.len() != before;
            ((alerts, dropped), changed)
        })
        .await;
    for key in alerts {
        tracing::info!(
            alert = cycle::label(&key),
            "alert ended quietly: its rule, account or division left the configuration"
        );
    }
    for (notifier, events) in dropped {
        tracing::warn!(%notifier, events, "owed notifications dropped: their notifier is no longer configured");
    }
}

/// Saving again and answering questions; ends when dropped.
fn background(state: &Path, book: &Arc<Book>, board: &Arc<Board>, clock: &Arc<dyn Clock>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (again, its_clock) = (Arc::clone(book), Arc::clone(clock));
    tasks.spawn(async move { again.save_again(its_clock.as_ref()).await });
    let (path, book, board, clock) = (state.to_owned(), Arc::clone(book), Arc::clone(board), Arc::clone(clock));
    tasks.spawn(async move {
        let mut told = false;
        loop {
            let (book, board) = (Arc::clone(&book), Arc::clone(&board));
            if let Err(error) = control::serve(&path, book, board, Arc::clone(&clock)).await
                && !std::mem::replace(&mut told, true)
            {
                tracing::error!(%error, "no control socket: `status` shows only the state file, `health` fails; tried again");
            }
            tokio::time::sleep(SOCKET_AGAIN).await;
        }
    });
    tasks
}

fn spawn_workers(
    desks: BTreeMap<Name, Desk>,
    book: &Arc<Book>,
    clock: &Arc<dyn Clock>,
    stopped: &watch::Receiver<bool>,
) -> JoinSet<()> {
    let everyone: BTreeSet<Name> = desks.keys().cloned().collect();
    let mut tasks = JoinSet::new();
    for (name, desk) in desks {
        let worker = Worker::new(name, desk, everyone.clone(), Arc::clone(book), Arc::clone(clock));
        tasks.spawn(worker.run(stopped.clone()));
    }
    tasks
}

async fn spawn_cycles(
    config: &Config,
    watches: Vec<Arc<Watch>>,
    book: &Arc<Book>,
    board: &Arc<Board>,
    clock: &Arc<dyn Clock>,
    stopped: &watch::Receiver<bool>,
) -> anyhow::Result<JoinSet<()>> {
    let jobs = JobScheduler::new().await.context("the scheduler cannot be made")?;
    jobs.start().await.context("the scheduler cannot be started")?;
    let mut tasks = JoinSet::new();
    for watch in watches {
        let Some(account) = config.accounts.get(&watch.account) else { continue };
        let (name, schedule, jobs) = (watch.account.clone(), account.schedule.clone(), jobs.clone());
        let (book, board, clock, stopped) = (Arc::clone(book), Arc::clone(board), Arc::clone(clock), stopped.clone());
        tasks.spawn(run_account(name, schedule, jobs, watch, book, board, clock, stopped));
    }
    Ok(tasks)
}

#[allow(clippy::too_many_arguments)] // one task's own share of everything
async fn run_account(
    name: Name,
    schedule: Schedule,
    jobs: JobScheduler,
    watch: Arc<Watch>,
    book: Arc<Book>,
    board: Arc<Board>,
    clock: Arc<dyn Clock>,
    stopped: watch::Receiver<bool>,
) {
    let memory = Arc::new(Mutex::new(Memory::default()));
    let cycle = |planned| {
        let (watch, memory, book) = (Arc::clone(&watch), Arc::clone(&memory), Arc::clone(&book));
        let (board, clock) = (Arc::clone(&board), Arc::clone(&clock));
        async move {
            let outcome = cycle::run(&watch, &mut *memory.lock().await, &book, clock.as_ref(), planned).await;
            board.cycle(&watch.account, outcome);
        }
    };
    let beat = |beat| board.beat(&name, beat);
    scheduler::run(name.clone(), schedule, jobs, Arc::clone(&clock), stopped, cycle, beat).await;
}

/// Cycles end at once; running sends get ten seconds.
async fn finish(mut cycles: JoinSet<()>, mut workers: JoinSet<()>) {
    let all = async {
        while cycles.join_next().await.is_some() {}
        while workers.join_next().await.is_some() {}
    };
    if tokio::time::timeout(LAST_SENDS, all).await.is_err() {
        tracing::warn!("a send still runs after ten seconds: it is abandoned and stays owed");
    }
}
