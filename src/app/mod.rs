//! The only place that builds concrete things from a configuration and spawns tasks.

mod channels;
mod generation;
mod reload;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::task::JoinSet;
use url::Url;

pub use self::reload::Source;

use self::generation::{Built, Generation, House, Kept};
use self::reload::Again;
use crate::alerting::process;
use crate::certcentral::{BooksSource, Client, Limiter, Sharer, Window};
use crate::config::{Account, Channel, Config, Connection, Divisions, Loaded, NotifierConfig};
use crate::domain::{Name, Time};
use crate::forecast::Spending;
use crate::history::Shelf;
use crate::notify::delivery::Desk;
use crate::notify::{RuleWords, Words};
use crate::polling::forecasts::Library;
use crate::polling::poller;
use crate::polling::poller::{Scope, Watch};
use crate::polling::scheduler::Jobs;
use crate::state::{Book, FileStore, OpenError, Opened};
use crate::status::control;
use crate::status::control::Board;
use crate::status::heartbeat;
use crate::status::systemd::Supervisor;
use crate::util::clock::Clock;
use crate::util::http_client;
use crate::util::secret::Redactor;

/// How long running sends get after the service was told to stop.
const LAST_SENDS: Duration = Duration::from_secs(10);

/// So many problems of a refused configuration are told.
const MOST_TOLD: usize = 50;

/// The pause before the control socket is tried again, where its folder was not to be used.
const SOCKET_AGAIN: Duration = Duration::from_secs(5);

/// The pause between two looks at the lock file and the control socket: somebody may have cleaned them away.
const OWN_AGAIN: Duration = Duration::from_secs(3);

/// How often a state that somebody else has is tried before it is refused, and the pause between.
const STATE_TRIES: u32 = 10;
const STATE_AGAIN: Duration = Duration::from_millis(100);

/// Why the service did not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The state is refused.
    #[error(transparent)]
    State(#[from] OpenError),
    /// Another process has taken the state while this one ran.
    #[error(
        "state {path} was taken by another lowtide after its lock file had gone: this one ends, so that nothing is sent twice"
    )]
    StateTaken {
        /// The state file.
        path: PathBuf,
    },
    /// Something could not be built.
    #[error("{0:#}")]
    Build(#[from] anyhow::Error),
}

/// The limiters by API key: everything that uses a key shares one.
type Limiters = BTreeMap<String, (Vec<Window>, Arc<Limiter>)>;

/// Tells whether a key is the one before; it is in memory only.
type KeyDigest = [u8; 32];

/// What a reload leaves as it is where it still fits.
#[derive(Default)]
struct Shared {
    limiters: Limiters,
    /// The books by account, of which place they are, and a digest of the key that they are read with.
    shelves: BTreeMap<Name, (Url, KeyDigest, Arc<Shelf>)>,
}

/// What each account's cycles need, built.
pub fn watches(config: &Config, redactor: &Redactor, clock: &Arc<dyn Clock>) -> anyhow::Result<Vec<Arc<Watch>>> {
    Ok(watches_sharing(config, redactor, clock, &Shared::default())?.0)
}

/// The same with what is `known` and still fits, and with what to know next time.
fn watches_sharing(
    config: &Config,
    redactor: &Redactor,
    clock: &Arc<dyn Clock>,
    known: &Shared,
) -> anyhow::Result<(Vec<Arc<Watch>>, Shared)> {
    let rules: Arc<[_]> = config.rules.clone().into();
    let unreadable = Arc::new(config.unreadable.clone());
    let limiters: Limiters =
        limits_by_key(config).into_iter().map(|(key, windows)| limiter(key, windows, &known.limiters)).collect();
    let mut sharers = sharers(config, clock.now());
    for (key, (_, limiter)) in &limiters {
        limiter.share(sharers.remove(key.as_str()).unwrap_or_default());
    }
    let mut shelves = BTreeMap::new();
    let silences: Arc<[_]> = config.silences.values().cloned().collect();
    let incident_notifiers = Arc::new(incident_notifiers(config));
    let mut build = |(name, account): (&Name, &Account)| {
        let limiter = limiters.get(account.api_key.expose()).map(|(_, limiter)| Arc::clone(limiter));
        let http =
            http_client(&account.connection, Some(&account.base_url)).with_context(|| format!("account {name}"))?;
        let client = Client::new(
            &**name,
            account.base_url.clone(),
            &account.api_key,
            http,
            limiter.unwrap_or_else(|| Arc::new(Limiter::new([]))),
            redactor.clone(),
            Arc::clone(clock),
        )
        .with_context(|| format!("account {name}"))?;
        let client = Arc::new(client);
        let digest: KeyDigest = Sha256::digest(account.api_key.expose()).into();
        let shelf = match known.shelves.get(name).filter(|(base_url, ..)| *base_url == account.base_url) {
            Some((_, before, shelf)) if *before == digest => Arc::clone(shelf),
            Some(_) => Arc::new(Shelf::doubting(Arc::clone(clock))),
            None => Arc::new(Shelf::new(Arc::clone(clock))),
        };
        shelves.insert(name.clone(), (account.base_url.clone(), digest, Arc::clone(&shelf)));
        let spending = account.not_spend.as_ref().map_or_else(Spending::default, Spending::without);
        let source: Arc<dyn BooksSource> = Arc::clone(&client) as _;
        Ok(Arc::new(Watch {
            account: name.clone(),
            source: client,
            library: Some(Arc::new(Library { shelf, source, spending })),
            scope: scope(&account.divisions),
            rules: Arc::clone(&rules),
            unreadable: Arc::clone(&unreadable),
            silences: Arc::clone(&silences),
            incident_notifiers: Arc::clone(&incident_notifiers),
        }))
    };
    let watches = config.accounts.iter().map(&mut build).collect::<anyhow::Result<_>>()?;
    Ok((watches, Shared { limiters, shelves }))
}

/// A limiter that is known goes on counting.
fn limiter(key: String, windows: Vec<Window>, known: &Limiters) -> (String, (Vec<Window>, Arc<Limiter>)) {
    let same = known.get(&key).filter(|(before, _)| *before == windows).map(|(_, limiter)| Arc::clone(limiter));
    let limiter = same.unwrap_or_else(|| Arc::new(Limiter::new(windows.iter().copied())));
    (key, (windows, limiter))
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

/// Notifiers that keep an incident open for each alert.
fn incident_notifiers(config: &Config) -> BTreeSet<Name> {
    let keeping = config.notifiers.iter().filter(|(_, it)| matches!(it.channel, Channel::PagerDuty { .. }));
    keeping.map(|(name, _)| name.clone()).collect()
}

/// What the accounts of each API key ask, as far as their configuration says: only a listing tells how many `all` are.
fn sharers(config: &Config, now: Time) -> BTreeMap<&str, Vec<Sharer>> {
    let mut sharers: BTreeMap<&str, Vec<Sharer>> = BTreeMap::new();
    for (name, account) in &config.accounts {
        let first = account.schedule.next_after(now);
        let next = first.and_then(|first| account.schedule.next_after(first));
        let period = next.zip(first).and_then(|(next, first)| (next - first).to_std().ok());
        let requests = account.divisions.count();
        let sharer = period.map(|period| Sharer { account: name.clone(), requests, period });
        sharers.entry(account.api_key.expose()).or_default().extend(sharer);
    }
    sharers
}

fn scope(divisions: &Divisions) -> Scope {
    match divisions {
        Divisions::Undivided => Scope::Undivided,
        Divisions::All { exclude } => Scope::All(exclude.clone()),
        Divisions::Listed(ids) => Scope::Listed(ids.clone()),
    }
}

/// A client for requests to `url`; `None`: an address that is not understood is nobody's own.
fn http_client(connection: &Connection, url: Option<&Url>) -> anyhow::Result<reqwest::Client> {
    if connection.ca_pem.is_none() && url.is_some_and(http_client::is_plain_loopback) {
        return Ok(http_client::plain_client(connection.timeout)?);
    }
    let (timeout, loopback) = (connection.timeout, url.is_some_and(http_client::is_loopback));
    Ok(http_client::client(&http_client::WebOptions { timeout, extra_ca_pem: connection.ca_pem.clone(), loopback })?)
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
        let built = channels::channel(name, notifier, &words, redactor).with_context(|| format!("notifier {name}"))?;
        let (fallback, quiet_hours) = (notifier.fallback.clone(), notifier.quiet_hours.clone());
        Ok((name.clone(), Desk { notifier: built, fallback, quiet_hours }))
    };
    config.notifiers.iter().map(build).collect()
}

/// What the service is asked by from outside, beside its control socket.
#[derive(Default)]
pub struct Outside {
    /// Where its configuration is read again; `None`: it keeps the one that it has.
    pub source: Option<Source>,
    /// Who is told how it is.
    pub supervisor: Supervisor,
}

/// Runs the service until `stop` completes. Returns when everything has ended and is saved.
pub async fn run(
    config: &Config,
    redactor: &Redactor,
    clock: Arc<dyn Clock>,
    outside: Outside,
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let opened = open_state(&config.state, clock.as_ref()).await?;
    for problem in &opened.problems {
        tracing::error!("{problem}");
    }
    let book = Arc::new(Book::new(opened.state, Arc::new(opened.store)));
    tokio::select! {
        ended = run_with(Arc::clone(&book), config, redactor, clock, outside, stop) => ended,
        () = book.taken() => Err(RunError::StateTaken { path: config.state.clone() }),
    }
}

/// Runs the service with the state that it owns.
async fn run_with(
    book: Arc<Book>,
    config: &Config,
    redactor: &Redactor,
    clock: Arc<dyn Clock>,
    mut outside: Outside,
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let mut kept = Kept::default();
    let mut built = Built::new(config, redactor, &clock, &kept)?;
    let state = config.state.clone();
    let board = Arc::new(Board::default());
    board.loaded(clock.now(), Ok(Vec::new()));
    let mut background = background(&state, &book, &board, &clock);
    let (heartbeat, targets) = watch::channel(None);
    background.spawn(heartbeat::run(targets, Arc::clone(&board), Arc::clone(&book), Arc::clone(&clock)));
    let supervisor = Arc::new(outside.supervisor);
    background.spawn(stay_awake(Arc::clone(&supervisor), Arc::clone(&board), Arc::clone(&clock)));
    let jobs = Jobs::on_demand().await.context("the scheduler cannot be made")?;
    let house = House { book, board, clock, jobs, heartbeat };
    tokio::pin!(stop);
    loop {
        announce(&built.config);
        let mut generation = Generation::start(built, &house, &mut kept).await;
        supervisor.ready();
        let next = tokio::select! {
            () = &mut stop => None,
            next = next(&mut outside.source, &state, redactor, &house, &kept) => Some(next),
        };
        let Some(next) = next else { break finish(generation, &mut kept, &supervisor).await };
        supervisor.reloading();
        let left = tokio::select! {
            () = &mut stop => false,
            () = generation.leave(&mut kept) => true,
        };
        if !left {
            break finish(generation, &mut kept, &supervisor).await;
        }
        built = next;
    }
    let saved = house.book.flush().await;
    drop(background);
    let _ = std::fs::remove_file(control::socket_path(&state)); // its absence is what matters
    let owed = house.book.read(|state| state.owed.len());
    tracing::info!(owed, saved, "stopped");
    Ok(())
}

fn announce(config: &Config) {
    tracing::info!(accounts = config.accounts.len(), rules = config.rules.len(), notifiers = config.notifiers.len(), state = %config.state.display(), "lowtide runs");
}

/// A sign of life for as long as cycles are on time.
async fn stay_awake(supervisor: Arc<Supervisor>, board: Arc<Board>, clock: Arc<dyn Clock>) {
    let Some(pause) = supervisor.watchdog() else { return };
    loop {
        if board.health(clock.now()).on_time {
            supervisor.awake();
        }
        tokio::time::sleep(pause).await;
    }
}

async fn finish(generation: Generation, kept: &mut Kept, supervisor: &Supervisor) {
    supervisor.stopping();
    tracing::info!("told to stop: running sends get ten seconds");
    generation.stop(kept).await;
}

/// The next configuration that can be used, everything of it that can fail done. One that cannot is reported, and changes
/// nothing.
async fn next(source: &mut Option<Source>, state: &Path, redactor: &Redactor, house: &House, kept: &Kept) -> Built {
    let Some(source) = source else { return std::future::pending().await };
    loop {
        let asked = source.asked().await;
        let loaded = match source.read(asked).await {
            Again::New(loaded) => *loaded,
            Again::RefusedBefore | Again::Same { mended: false } => continue,
            Again::Same { mended: true } => {
                tracing::info!("configuration is again the one in use");
                house.board.loaded(house.clock.now(), Ok(Vec::new()));
                continue;
            }
        };
        match accept(loaded, state, redactor, house, kept) {
            Ok((built, notes)) => {
                source.taken();
                tracing::info!("configuration read again: it takes over between two cycles");
                house.board.loaded(house.clock.now(), Ok(notes));
                return built;
            }
            Err(mut problems) => {
                source.refuse();
                if let Some(more) = problems.len().checked_sub(MOST_TOLD).filter(|more| *more > 0) {
                    problems.truncate(MOST_TOLD);
                    problems.push(format!("and {more} more: `lowtide validate` shows all of them"));
                }
                for problem in &problems {
                    tracing::error!("{problem}");
                }
                tracing::error!(
                    problems = problems.len(),
                    "configuration refused: the one before stays in use; correct the file, and it is read again"
                );
                house.board.loaded(house.clock.now(), Err(problems));
            }
        }
    }
}

/// What was read, built, with what there is to note about it; or what is wrong with it.
fn accept(
    loaded: Loaded,
    state: &Path,
    redactor: &Redactor,
    house: &House,
    kept: &Kept,
) -> Result<(Built, Vec<String>), Vec<String>> {
    loaded.secrets.iter().for_each(|secret| redactor.learn(secret));
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let mut config = loaded.config.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let mut notes = Vec::new();
    if config.state != state {
        let wanted = std::mem::replace(&mut config.state, state.to_owned());
        let note = format!("state: {} needs a restart; {} stays in use until then", wanted.display(), state.display());
        tracing::warn!("{note}");
        notes.push(note);
    }
    let built = Built::new(&config, redactor, &house.clock, kept);
    let built = built.map_err(|error| vec![redactor.strike(&format!("{error:#}"))])?;
    Ok((built, notes))
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

/// What left the configuration ends quietly: a line in the log, no message. Its incidents are resolved.
async fn forget_unconfigured(book: &Book, watches: &[Arc<Watch>], desks: &BTreeMap<Name, Desk>, now: Time) {
    let watches: Vec<&Watch> = watches.iter().map(AsRef::as_ref).collect();
    let incident_notifiers = watches.first().map(|watch| Arc::clone(&watch.incident_notifiers)).unwrap_or_default();
    let (alerts, asked, dropped) = book
        .change(|state| {
            let alerts = process::forget_unconfigured(state, &watches, now);
            let before = state.notifiers.len();
            let configured = |name: &str| desks.contains_key(name);
            state.end_removed_notifiers(configured, &incident_notifiers, now);
            let asked = state.ask_new_fallbacks(|name| desks.get(name)?.fallback.clone());
            let dropped = state.forget_notifiers(configured);
            let changed = !alerts.is_empty() || asked > 0 || !dropped.is_empty() || state.notifiers.len() != before;
            ((alerts, asked, dropped), changed)
        })
        .await;
    for key in alerts {
        tracing::info!(
            alert = process::label(&key),
            "alert ended quietly: its rule, account or division left the configuration"
        );
    }
    if asked > 0 {
        tracing::info!(
            events = asked,
            "fallback replaced: what the old one has not delivered is queued for the new one"
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
            let served = control::serve(&path, Arc::clone(&book), Arc::clone(&board), Arc::clone(&clock));
            let served = tokio::select! {
                served = served => served,
                () = cleaned_away(&path, &book) => continue,
            };
            if let Err(error) = served
                && !std::mem::replace(&mut told, true)
            {
                tracing::error!(%error, "no control socket: `status` shows only the state file, `health` fails; tried again");
            }
            book.own().await;
            tokio::time::sleep(SOCKET_AGAIN).await;
        }
    });
    tasks
}

/// Keeps the state this process's own. Completes when the control socket is gone while it is.
async fn cleaned_away(state: &Path, book: &Book) {
    let socket = control::socket_path(state);
    loop {
        tokio::time::sleep(OWN_AGAIN).await;
        let gone = matches!(tokio::fs::try_exists(&socket).await, Ok(false));
        if book.own().await && gone {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::clock::SystemClock;

    #[test]
    fn a_reload_keeps_an_accounts_shelf_only_while_its_place_and_key_are_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.yaml");
        let config = |place: &str, key: &str| {
            let text = format!(
                "accounts: {{ acme: {{ api_key: '${{KEY}}', base_url: 'https://{place}/services/v2' }} }}\n\
                 notifiers: {{ slack: {{ type: slack, webhook_url: 'https://hooks.slack.com/services/T0/B0/abcdefgh' }} }}\n\
                 rules: {{ low: {{ metric: available_funds, warning: {{ below: 1 }}, notify: [slack] }} }}\n"
            );
            std::fs::write(&path, text).unwrap();
            crate::config::load(&path, &std::iter::once(("KEY", key)).collect()).config.unwrap()
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut shared = Shared::default();
        let mut shelf = |place, key| {
            let built = watches_sharing(&config(place, key), &Redactor::default(), &clock, &shared).unwrap();
            shared = built.1;
            Arc::clone(&shared.shelves.values().next().unwrap().2)
        };
        let first = shelf("www.digicert.com", "KEY-0123456789-FIRST");
        assert!(Arc::ptr_eq(&first, &shelf("www.digicert.com", "KEY-0123456789-FIRST")));
        let second = shelf("www.digicert.com", "KEY-0123456789-SECOND");
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(!Arc::ptr_eq(&second, &shelf("certcentral.digicert.eu", "KEY-0123456789-SECOND")));
    }
}
