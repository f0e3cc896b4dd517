//! Pings to a service that speaks up when they stay away: `<url>` while all is well, `<url>/fail` when that ends,
//! `<url>/start` at start.
//!
//! It decides nothing about alerts and delays nobody: a ping that fails is logged once and tried again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use url::Url;

use crate::alerting::state::Owed;
use crate::domain::{Name, Time};
use crate::state::Book;
use crate::status::control::Board;
use crate::util::clock::Clock;
use crate::util::http_client;
use crate::util::secret::Secret;

/// What has been owed for longer is not on its way any more.
const LONGEST_OWED: Duration = Duration::from_secs(600);
/// The pause between two looks at how things are.
const LOOK: Duration = Duration::from_millis(500);
/// The longest pause before a ping that failed is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// Who is told, and how often.
#[derive(Clone)]
pub struct Target {
    /// Its address; a secret.
    pub url: Secret,
    /// The pause between two pings while all is well.
    pub every: Duration,
    /// How it is reached.
    pub http: reqwest::Client,
}

/// How things are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Health {
    /// Not every account's first cycle has ended yet, but none is late.
    Unknown,
    Good,
    /// And why.
    Bad(String),
}

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ping {
    Start,
    Good,
    Fail,
}

/// What was said to one target.
struct Told {
    last: Option<Ping>,
    next: Instant,
    failing: bool,
    /// Whether the log says that all is well.
    logged: Option<bool>,
}

/// Pings the target that `targets` holds, until dropped. Another address begins anew.
pub async fn run(
    mut targets: watch::Receiver<Option<Target>>,
    board: Arc<Board>,
    book: Arc<Book>,
    clock: Arc<dyn Clock>,
) {
    let mut address: Option<Secret> = None;
    let mut told = Told::nothing();
    loop {
        let target = targets.borrow_and_update().clone();
        let now_at = target.as_ref().map(|target| target.url.clone());
        if address != now_at {
            (address, told) = (now_at, Told::nothing());
        }
        if let Some(target) = target {
            let health = health(&board, &book, clock.now());
            told.log(&health);
            if let Some(ping) = told.due(&health, Instant::now()) {
                let sent = send(&target, ping).await;
                told.note(ping, sent, target.every);
            }
        }
        tokio::select! {
            // With nobody to tell, there is nothing to look for.
            () = tokio::time::sleep(LOOK), if address.is_some() => {}
            changed = targets.changed() => if changed.is_err() { return },
        }
    }
}

/// Good is: every account's latest cycle could read everything, cycles are on time, and nothing has been owed for long.
fn health(board: &Board, book: &Book, now: Time) -> Health {
    let accounts = board.accounts();
    let unread = accounts.iter().filter(|(_, it)| it.good == Some(false)).map(|(name, _)| name);
    let mut ails: Vec<String> =
        list(unread).map(|names| format!("cannot be read completely: {names}")).into_iter().collect();
    ails.extend(list(board.health(now).late.iter()).map(|names| format!("cycles are late: {names}")));
    // What is held in quiet hours, or was a moment ago, is where it belongs.
    let free = |name: &Name, critical| ![now, now - LONGEST_OWED].into_iter().any(|at| board.held(name, at, critical));
    let overdue = |owed: &Owed| {
        let is_old = (now - owed.event.at).to_std().is_ok_and(|age| age > LONGEST_OWED);
        let late = owed.to.keys().filter(|name| is_old && free(name, owed.event.is_about_critical()));
        late.map(|name| (owed.event.at, name.clone())).collect::<Vec<_>>()
    };
    let oldest = book.read(|state| state.owed.iter().flat_map(overdue).min());
    ails.extend(oldest.map(|(since, name)| format!("owed to {name} since {}", since.format("%Y-%m-%dT%H:%M:%SZ"))));
    if !ails.is_empty() {
        return Health::Bad(ails.join("; "));
    }
    if accounts.values().all(|it| it.good == Some(true)) { Health::Good } else { Health::Unknown }
}

/// Names in a row, if there are any.
fn list<'n>(names: impl Iterator<Item = &'n Name>) -> Option<String> {
    let names: Vec<&str> = names.map(AsRef::as_ref).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

impl Told {
    fn nothing() -> Self {
        Self { last: None, next: Instant::now(), failing: false, logged: None }
    }

    /// A line at each change of what is said, and why.
    fn log(&mut self, health: &Health) {
        match health {
            Health::Good if self.logged != Some(true) => tracing::info!("heartbeat says that all is well"),
            Health::Bad(reason) if self.logged != Some(false) => {
                tracing::warn!(reason, "heartbeat says that something fails");
            }
            Health::Unknown | Health::Good | Health::Bad(_) => return,
        }
        self.logged = Some(*health == Health::Good);
    }

    /// What is to be said now: a change at once, the rest when its time has come.
    fn due(&self, health: &Health, now: Instant) -> Option<Ping> {
        let come = now >= self.next;
        match (self.last, health) {
            (None, _) => come.then_some(Ping::Start),
            (Some(Ping::Fail), Health::Unknown | Health::Bad(_)) => None,
            (last, Health::Bad(_)) => (last != Some(Ping::Fail) && (come || !self.failing)).then_some(Ping::Fail),
            // A large account is read for longer than a monitor waits after a start.
            (Some(_), Health::Unknown) | (Some(Ping::Good), Health::Good) => come.then_some(Ping::Good),
            (Some(_), Health::Good) => (come || !self.failing).then_some(Ping::Good),
        }
    }

    /// Notes how a ping went; tells when that changes.
    fn note(&mut self, ping: Ping, sent: Result<(), String>, every: Duration) {
        let failed = sent.is_err();
        match sent {
            Ok(()) if self.failing => tracing::info!("heartbeat works again"),
            Err(reason) if !self.failing => {
                tracing::warn!(reason, "heartbeat could not be sent: tried again; readings and messages go on");
            }
            _ => {}
        }
        self.failing = failed;
        self.next = Instant::now() + if failed { every.min(AGAIN) } else { every };
        // A start that was missed is no news any more; all else is said until it is heard.
        if !failed || ping == Ping::Start {
            self.last = Some(ping);
        }
    }
}

async fn send(target: &Target, ping: Ping) -> Result<(), String> {
    let url = address(target.url.expose(), ping).ok_or("heartbeat.url is no address")?;
    let response = match target.http.get(url).send().await {
        Ok(response) => response,
        Err(error) => return Err(http_client::explain(&error).await.text),
    };
    let status = response.status();
    if status.is_success() { Ok(()) } else { Err(format!("it answered {}", status.as_u16())) }
}

fn address(url: &str, ping: Ping) -> Option<Url> {
    let mut url = Url::parse(url).ok()?;
    let suffix = match ping {
        Ping::Start => "start",
        Ping::Good => return Some(url),
        Ping::Fail => "fail",
    };
    url.path_segments_mut().ok()?.pop_if_empty().push(suffix);
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerting::state::State;
    use crate::domain::event::Subject;
    use crate::domain::quiet_hours::QuietHours;

    struct Nowhere;

    impl crate::state::Store for Nowhere {
        fn save(&self, _: &crate::state::Json) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_has_been_owed_for_long_is_bad_unless_it_is_held_in_quiet_hours() {
        let at = |text: &str| text.parse::<Time>().unwrap();
        let (board, mut state) = (Board::default(), State::default());
        let subject = Subject::NotifierRecovered { notifier: "slack".into(), since: at("2026-11-23T20:00:00Z") };
        state.owe(subject, at("2026-11-23T20:00:00Z"), &["mail".into()].into(), &std::collections::BTreeMap::new());
        let book = Book::new(state, std::sync::Arc::new(Nowhere));
        let bad = |text: &str| matches!(health(&board, &book, at(text)), Health::Bad(_));
        let reason = Health::Bad("owed to mail since 2026-11-23T20:00:00Z".to_owned());
        assert_eq!(health(&board, &book, at("2026-11-23T20:10:01Z")), reason);
        assert!(!bad("2026-11-23T20:10:00Z") && bad("2026-11-23T20:10:01Z"));
        let time = |text: &str| text.parse().unwrap();
        let quiet = QuietHours::new(chrono_tz::UTC, Some((time("19:00:00"), time("07:30:00"))), [], false);
        board.quiet_hours([("mail".into(), quiet.unwrap())].into());
        assert!(!bad("2026-11-23T23:00:00Z") && !bad("2026-11-24T07:35:00Z"));
        assert!(bad("2026-11-24T07:40:00Z"), "the hours have long ended");
    }

    #[test]
    fn suffixes_go_to_the_end_of_the_path() {
        let at = |url, ping| address(url, ping).unwrap().to_string();
        assert_eq!(at("https://hc.example/uuid", Ping::Good), "https://hc.example/uuid");
        assert_eq!(at("https://hc.example/uuid/", Ping::Start), "https://hc.example/uuid/start");
        assert_eq!(at("https://hc.example/ping/uuid?x=1", Ping::Fail), "https://hc.example/ping/uuid/fail?x=1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_said_at_once_and_once_and_well_being_at_every_interval() {
        let every = Duration::from_secs(300);
        let mut told = Told::nothing();
        let bad = || Health::Bad("acme".to_owned());
        let mut said = |health, sent: Result<(), String>| {
            let ping = told.due(&health, Instant::now());
            if let Some(ping) = ping {
                told.note(ping, sent, every);
            }
            ping
        };
        assert_eq!(said(Health::Unknown, Ok(())), Some(Ping::Start));
        assert_eq!(said(Health::Unknown, Ok(())), None);
        assert_eq!(said(Health::Good, Ok(())), Some(Ping::Good));
        assert_eq!(said(Health::Good, Ok(())), None);
        tokio::time::advance(every).await;
        assert_eq!(said(Health::Good, Ok(())), Some(Ping::Good));
        assert_eq!(said(bad(), Err("no".to_owned())), Some(Ping::Fail));
        assert_eq!(said(bad(), Ok(())), None, "not again at once");
        tokio::time::advance(AGAIN).await;
        assert_eq!(said(bad(), Ok(())), Some(Ping::Fail));
        tokio::time::advance(2 * every).await;
        assert_eq!(said(bad(), Ok(())), None, "once a change");
        assert_eq!(said(Health::Good, Ok(())), Some(Ping::Good));
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_first_cycle_is_pinged_for_at_every_interval() {
        let every = Duration::from_secs(300);
        let mut told = Told::nothing();
        for expected in [Ping::Start, Ping::Good, Ping::Good] {
            assert_eq!(told.due(&Health::Unknown, Instant::now()), Some(expected));
            told.note(expected, Ok(()), every);
            assert_eq!(told.due(&Health::Unknown, Instant::now()), None);
            tokio::time::advance(every).await;
        }
        told.note(Ping::Fail, Ok(()), every);
        tokio::time::advance(every).await;
        assert_eq!(told.due(&Health::Unknown, Instant::now()), None, "nothing is known to be well again");
    }
}
