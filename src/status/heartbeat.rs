//! Pings to a service that speaks up when they stay away: `<url>` while all is well, `<url>/fail` when that ends,
//! `<url>/start` at start.
//!
//! It decides nothing about alerts and delays nobody: a ping that fails is logged once and tried again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use url::Url;

use crate::alerting::queue::QueuedEvent;
use crate::domain::{Name, Time};
use crate::state::StateStore;
use crate::status::control::Registry;
use crate::util::clock::Clock;
use crate::util::http_client;
use crate::util::secret::Secret;

/// What has been owed for longer is not on its way any more.
const MAX_PENDING_AGE: Duration = Duration::from_secs(600);
/// The pause between two looks at how things are.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// The longest pause before a ping that failed is tried again.
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(30);

/// Who is told, and how often.
#[derive(Clone)]
pub struct HeartbeatTarget {
    /// Its address; a secret.
    pub url: Secret,
    /// The pause between two pings while all is well.
    pub interval: Duration,
    /// How it is reached.
    pub http: reqwest::Client,
}

/// How things are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ServiceHealth {
    /// Not every account's first cycle has ended yet, but none is late.
    Unknown,
    Good,
    /// And why.
    Bad(String),
}

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeartbeatPing {
    Start,
    Good,
    Fail,
}

/// What was said to one target.
struct PingHistory {
    last: Option<HeartbeatPing>,
    next: Instant,
    failing: bool,
    /// Whether the log says that all is well.
    logged: Option<bool>,
}

/// Pings the target that `targets` holds, until dropped. Another address begins anew.
pub async fn run(
    mut targets: watch::Receiver<Option<HeartbeatTarget>>,
    registry: Arc<Registry>,
    store: Arc<StateStore>,
    clock: Arc<dyn Clock>,
) {
    let mut address: Option<Secret> = None;
    let mut history = PingHistory::new();
    loop {
        let target = targets.borrow_and_update().clone();
        let configured = target.as_ref().map(|target| target.url.clone());
        if address != configured {
            (address, history) = (configured, PingHistory::new());
        }
        if let Some(target) = target {
            let health = health(&registry, &store, clock.now());
            history.log(&health);
            if let Some(ping) = history.due(&health, Instant::now()) {
                let sent = send(&target, ping).await;
                history.record(ping, sent, target.interval);
            }
        }
        tokio::select! {
            // With nobody to tell, there is nothing to look for.
            () = tokio::time::sleep(CHECK_INTERVAL), if address.is_some() => {}
            changed = targets.changed() => if changed.is_err() { return },
        }
    }
}

/// Good is: every account's latest cycle could read everything, cycles are on time, and nothing has been owed for long.
fn health(registry: &Registry, store: &StateStore, now: Time) -> ServiceHealth {
    let accounts = registry.accounts();
    let unread = accounts.iter().filter(|(_, it)| it.readable == Some(false)).map(|(name, _)| name);
    let mut problems: Vec<String> =
        joined_names(unread).map(|names| format!("cannot be read completely: {names}")).into_iter().collect();
    problems.extend(joined_names(registry.health(now).late.iter()).map(|names| format!("cycles are late: {names}")));
    // What is held in quiet hours, or was a moment ago, is where it belongs.
    let can_deliver = |name: &Name, critical| {
        ![now, now - MAX_PENDING_AGE].into_iter().any(|at| registry.is_held(name, at, critical))
    };
    let overdue = |queued: &QueuedEvent| {
        let is_old = (now - queued.event.at).to_std().is_ok_and(|age| age > MAX_PENDING_AGE);
        let late = queued.pending.keys().filter(|name| is_old && can_deliver(name, queued.event.is_about_critical()));
        late.map(|name| (queued.event.at, name.clone())).collect::<Vec<_>>()
    };
    let oldest = store.read(|state| state.queue.iter().flat_map(overdue).min());
    problems.extend(oldest.map(|(since, name)| format!("owed to {name} since {}", since.format("%Y-%m-%dT%H:%M:%SZ"))));
    if !problems.is_empty() {
        return ServiceHealth::Bad(problems.join("; "));
    }
    if accounts.values().all(|it| it.readable == Some(true)) { ServiceHealth::Good } else { ServiceHealth::Unknown }
}

/// Names in a row, if there are any.
fn joined_names<'n>(names: impl Iterator<Item = &'n Name>) -> Option<String> {
    let names: Vec<&str> = names.map(AsRef::as_ref).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

impl PingHistory {
    fn new() -> Self {
        Self { last: None, next: Instant::now(), failing: false, logged: None }
    }

    /// A line at each change of what is said, and why.
    fn log(&mut self, health: &ServiceHealth) {
        match health {
            ServiceHealth::Good if self.logged != Some(true) => tracing::info!("heartbeat says that all is well"),
            ServiceHealth::Bad(reason) if self.logged != Some(false) => {
                tracing::warn!(reason, "heartbeat says that something fails");
            }
            ServiceHealth::Unknown | ServiceHealth::Good | ServiceHealth::Bad(_) => return,
        }
        self.logged = Some(*health == ServiceHealth::Good);
    }

    /// What is to be said now: a change at once, the rest when its time has come.
    fn due(&self, health: &ServiceHealth, now: Instant) -> Option<HeartbeatPing> {
        let is_due = now >= self.next;
        match (self.last, health) {
            (None, _) => is_due.then_some(HeartbeatPing::Start),
            (Some(HeartbeatPing::Fail), ServiceHealth::Unknown | ServiceHealth::Bad(_)) => None,
            (last, ServiceHealth::Bad(_)) => {
                (last != Some(HeartbeatPing::Fail) && (is_due || !self.failing)).then_some(HeartbeatPing::Fail)
            }
            // A large account is read for longer than a monitor waits after a start.
            (Some(_), ServiceHealth::Unknown) | (Some(HeartbeatPing::Good), ServiceHealth::Good) => {
                is_due.then_some(HeartbeatPing::Good)
            }
            (Some(_), ServiceHealth::Good) => (is_due || !self.failing).then_some(HeartbeatPing::Good),
        }
    }

    /// Notes how a ping went; tells when that changes.
    fn record(&mut self, ping: HeartbeatPing, sent: Result<(), String>, every: Duration) {
        let failed = sent.is_err();
        match sent {
            Ok(()) if self.failing => tracing::info!("heartbeat works again"),
            Err(reason) if !self.failing => {
                tracing::warn!(reason, "heartbeat could not be sent: tried again; readings and messages go on");
            }
            _ => {}
        }
        self.failing = failed;
        self.next = Instant::now() + if failed { every.min(MAX_RETRY_PAUSE) } else { every };
        // A start that was missed is no news any more; all else is said until it is heard.
        if !failed || ping == HeartbeatPing::Start {
            self.last = Some(ping);
        }
    }
}

async fn send(target: &HeartbeatTarget, ping: HeartbeatPing) -> Result<(), String> {
    let url = ping_url(target.url.expose(), ping).ok_or("heartbeat.url is no address")?;
    let response = match target.http.get(url).send().await {
        Ok(response) => response,
        Err(error) => return Err(http_client::explain(&error).await.text),
    };
    let status = response.status();
    if status.is_success() { Ok(()) } else { Err(format!("it answered {}", status.as_u16())) }
}

fn ping_url(url: &str, ping: HeartbeatPing) -> Option<Url> {
    let mut url = Url::parse(url).ok()?;
    let suffix = match ping {
        HeartbeatPing::Start => "start",
        HeartbeatPing::Good => return Some(url),
        HeartbeatPing::Fail => "fail",
    };
    url.path_segments_mut().ok()?.pop_if_empty().push(suffix);
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerting::queue::NewEvent;
    use crate::alerting::state::State;
    use crate::domain::event::EventSubject;
    use crate::domain::quiet_hours::QuietHours;

    struct NoopBackend;

    impl crate::state::StateBackend for NoopBackend {
        fn save(&self, _: &crate::state::JsonPieces) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn old_pending_event_is_bad_unless_held_in_quiet_hours() {
        let at = |text: &str| text.parse::<Time>().unwrap();
        let (registry, mut state) = (Registry::default(), State::default());
        let subject = EventSubject::NotifierRecovered { notifier: "slack".into(), since: at("2026-11-23T20:00:00Z") };
        state.queue.enqueue(NewEvent::notice(subject, at("2026-11-23T20:00:00Z"), ["mail".into()].into()));
        let store = StateStore::new(state, std::sync::Arc::new(NoopBackend));
        let bad = |text: &str| matches!(health(&registry, &store, at(text)), ServiceHealth::Bad(_));
        let reason = ServiceHealth::Bad("owed to mail since 2026-11-23T20:00:00Z".to_owned());
        assert_eq!(health(&registry, &store, at("2026-11-23T20:10:01Z")), reason);
        assert!(!bad("2026-11-23T20:10:00Z") && bad("2026-11-23T20:10:01Z"));
        let time = |text: &str| text.parse().unwrap();
        let quiet = QuietHours::new(chrono_tz::UTC, Some((time("19:00:00"), time("07:30:00"))), [], false);
        registry.set_quiet_hours([("mail".into(), quiet.unwrap())].into());
        assert!(!bad("2026-11-23T23:00:00Z") && !bad("2026-11-24T07:35:00Z"));
        assert!(bad("2026-11-24T07:40:00Z"), "the hours have long ended");
    }

    #[test]
    fn suffixes_go_to_the_end_of_the_path() {
        let at = |url, ping| ping_url(url, ping).unwrap().to_string();
        assert_eq!(at("https://hc.example/uuid", HeartbeatPing::Good), "https://hc.example/uuid");
        assert_eq!(at("https://hc.example/uuid/", HeartbeatPing::Start), "https://hc.example/uuid/start");
        assert_eq!(
            at("https://hc.example/ping/uuid?x=1", HeartbeatPing::Fail),
            "https://hc.example/ping/uuid/fail?x=1"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn changes_ping_once_at_once_and_good_health_at_every_interval() {
        let every = Duration::from_secs(300);
        let mut history = PingHistory::new();
        let bad = || ServiceHealth::Bad("acme".to_owned());
        let mut ping_for = |health, sent: Result<(), String>| {
            let ping = history.due(&health, Instant::now());
            if let Some(ping) = ping {
                history.record(ping, sent, every);
            }
            ping
        };
        assert_eq!(ping_for(ServiceHealth::Unknown, Ok(())), Some(HeartbeatPing::Start));
        assert_eq!(ping_for(ServiceHealth::Unknown, Ok(())), None);
        assert_eq!(ping_for(ServiceHealth::Good, Ok(())), Some(HeartbeatPing::Good));
        assert_eq!(ping_for(ServiceHealth::Good, Ok(())), None);
        tokio::time::advance(every).await;
        assert_eq!(ping_for(ServiceHealth::Good, Ok(())), Some(HeartbeatPing::Good));
        assert_eq!(ping_for(bad(), Err("no".to_owned())), Some(HeartbeatPing::Fail));
        assert_eq!(ping_for(bad(), Ok(())), None, "not again at once");
        tokio::time::advance(MAX_RETRY_PAUSE).await;
        assert_eq!(ping_for(bad(), Ok(())), Some(HeartbeatPing::Fail));
        tokio::time::advance(2 * every).await;
        assert_eq!(ping_for(bad(), Ok(())), None, "once a change");
        assert_eq!(ping_for(ServiceHealth::Good, Ok(())), Some(HeartbeatPing::Good));
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_first_cycle_is_pinged_for_at_every_interval() {
        let every = Duration::from_secs(300);
        let mut history = PingHistory::new();
        for expected in [HeartbeatPing::Start, HeartbeatPing::Good, HeartbeatPing::Good] {
            assert_eq!(history.due(&ServiceHealth::Unknown, Instant::now()), Some(expected));
            history.record(expected, Ok(()), every);
            assert_eq!(history.due(&ServiceHealth::Unknown, Instant::now()), None);
            tokio::time::advance(every).await;
        }
        history.record(HeartbeatPing::Fail, Ok(()), every);
        tokio::time::advance(every).await;
        assert_eq!(history.due(&ServiceHealth::Unknown, Instant::now()), None, "nothing is known to be well again");
    }
}
