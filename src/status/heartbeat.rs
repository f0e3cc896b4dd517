//! Heartbeat in the protocol of healthchecks.io: pings `<url>` while the service is healthy, `<url>/fail` when it becomes
//! unhealthy, and `<url>/start` at start.
//!
//! Independent of alerts and delivery: a ping that fails is logged once, is tried again and delays nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use url::Url;

use crate::alerting::queue::QueuedEvent;
use crate::domain::{Name, Time};
use crate::state::StateStore;
use crate::status::registry::Registry;
use crate::util::clock::Clock;
use crate::util::http_client;
use crate::util::secret::Secret;

/// Age from which a pending event makes the service unhealthy.
const MAX_PENDING_AGE: Duration = Duration::from_secs(600);
/// Shortest pause between two checks of the health while the registry or the state change.
const MIN_CHECK_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause between two checks: time alone makes cycles late and pending events old.
const MAX_CHECK_PAUSE: Duration = Duration::from_secs(5);
/// Longest pause before a failed ping is tried again.
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(30);

/// Target of the pings.
#[derive(Clone)]
pub struct HeartbeatTarget {
    /// Address to ping; a secret.
    pub url: Secret,
    /// Interval between pings while the service is healthy.
    pub interval: Duration,
    /// HTTP client for the address.
    pub http: reqwest::Client,
}

/// Health of the service as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ServiceHealth {
    /// The first cycle of an account is still running, and none is late.
    Unknown,
    Good,
    /// Unhealthy, with the reason.
    Bad(String),
}

/// Kind of a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeartbeatPing {
    Start,
    Good,
    Fail,
}

/// Pings sent to one target so far.
struct PingHistory {
    last: Option<HeartbeatPing>,
    next: Instant,
    failing: bool,
    /// Health that the log shows; `None` before the first line.
    logged: Option<bool>,
}

/// Pings the target that `targets` holds, until dropped. A new address starts with `/start`.
pub async fn run(
    mut targets: watch::Receiver<Option<HeartbeatTarget>>,
    registry: Arc<Registry>,
    store: Arc<StateStore>,
    clock: Arc<dyn Clock>,
) {
    let mut address: Option<Secret> = None;
    let mut history = PingHistory::new();
    let mut registry_changes = registry.changes();
    loop {
        let state_changed = store.changed();
        tokio::pin!(state_changed);
        state_changed.as_mut().enable();
        registry_changes.mark_seen();
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
                continue;
            }
        }
        let health_changed = async {
            tokio::select! {
                () = registry_changes.next() => {}
                () = state_changed => {}
            }
            tokio::time::sleep(MIN_CHECK_PAUSE).await;
        };
        tokio::select! {
            // Without a target, only a new configuration matters.
            () = health_changed, if address.is_some() => {}
            () = tokio::time::sleep_until(history.next_check(Instant::now())), if address.is_some() => {}
            changed = targets.changed() => if changed.is_err() { return },
        }
    }
}

/// Returns the health. It is good if the latest cycle of every account could read everything, cycles are on time, and no event
/// has been pending for longer than [`MAX_PENDING_AGE`].
fn health(registry: &Registry, store: &StateStore, now: Time) -> ServiceHealth {
    let accounts = registry.accounts();
    let unread = accounts.iter().filter(|(_, it)| it.readable == Some(false)).map(|(name, _)| name);
    let mut problems: Vec<String> =
        joined_names(unread).map(|names| format!("cannot be read completely: {names}")).into_iter().collect();
    problems.extend(joined_names(registry.health(now).late.iter()).map(|names| format!("cycles are late: {names}")));
    // Events held in quiet hours, now or until recently, are not overdue.
    let can_deliver = |name: &Name, critical| {
        ![now, now - MAX_PENDING_AGE].into_iter().any(|at| registry.is_held(name, at, critical))
    };
    let overdue = |queued: &QueuedEvent| {
        let is_old = (now - queued.event.at).to_std().is_ok_and(|age| age > MAX_PENDING_AGE);
        let late = queued.pending.keys().filter(|name| is_old && can_deliver(name, queued.event.is_about_critical()));
        late.map(|name| (queued.event.at, name.clone())).collect::<Vec<_>>()
    };
    let oldest = store.read(|state| state.queue.iter().flat_map(overdue).min());
    problems
        .extend(oldest.map(|(since, name)| format!("pending for {name} since {}", since.format("%Y-%m-%dT%H:%M:%SZ"))));
    if !problems.is_empty() {
        return ServiceHealth::Bad(problems.join("; "));
    }
    if accounts.values().all(|it| it.readable == Some(true)) { ServiceHealth::Good } else { ServiceHealth::Unknown }
}

/// Joins names with commas; `None` if there are none.
fn joined_names<'n>(names: impl Iterator<Item = &'n Name>) -> Option<String> {
    let names: Vec<&str> = names.map(AsRef::as_ref).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

impl PingHistory {
    fn new() -> Self {
        Self { last: None, next: Instant::now(), failing: false, logged: None }
    }

    /// Logs each change of the health, with its reason.
    fn log(&mut self, health: &ServiceHealth) {
        match health {
            ServiceHealth::Good if self.logged != Some(true) => tracing::info!("heartbeat reports healthy"),
            ServiceHealth::Bad(reason) if self.logged != Some(false) => {
                tracing::warn!(reason, "heartbeat reports unhealthy");
            }
            ServiceHealth::Unknown | ServiceHealth::Good | ServiceHealth::Bad(_) => return,
        }
        self.logged = Some(*health == ServiceHealth::Good);
    }

    /// Returns the ping that is due: a change of health at once, any other at its time.
    fn due(&self, health: &ServiceHealth, now: Instant) -> Option<HeartbeatPing> {
        let is_due = now >= self.next;
        match (self.last, health) {
            (None, _) => is_due.then_some(HeartbeatPing::Start),
            (Some(HeartbeatPing::Fail), ServiceHealth::Unknown | ServiceHealth::Bad(_)) => None,
            (last, ServiceHealth::Bad(_)) => {
                (last != Some(HeartbeatPing::Fail) && (is_due || !self.failing)).then_some(HeartbeatPing::Fail)
            }
            // The first cycle of a large account can take longer than a monitor waits after a start.
            (Some(_), ServiceHealth::Unknown) | (Some(HeartbeatPing::Good), ServiceHealth::Good) => {
                is_due.then_some(HeartbeatPing::Good)
            }
            (Some(_), ServiceHealth::Good) => (is_due || !self.failing).then_some(HeartbeatPing::Good),
        }
    }

    /// Returns when the health is to be checked again, even if nothing changes.
    fn next_check(&self, now: Instant) -> Instant {
        let latest = now + MAX_CHECK_PAUSE;
        if self.next > now { self.next.min(latest) } else { latest }
    }

    /// Records the outcome of a ping, and logs when pings begin to fail or succeed again.
    fn record(&mut self, ping: HeartbeatPing, sent: Result<(), String>, every: Duration) {
        let failed = sent.is_err();
        match sent {
            Ok(()) if self.failing => tracing::info!("heartbeat works again"),
            Err(reason) if !self.failing => {
                tracing::warn!(reason, "heartbeat could not be sent: trying again; readings and messages continue");
            }
            _ => {}
        }
        self.failing = failed;
        self.next = Instant::now() + if failed { every.min(MAX_RETRY_PAUSE) } else { every };
        // A failed `/start` is not repeated. Any other ping is repeated until it succeeds.
        if !failed || ping == HeartbeatPing::Start {
            self.last = Some(ping);
        }
    }
}

async fn send(target: &HeartbeatTarget, ping: HeartbeatPing) -> Result<(), String> {
    let url = ping_url(target.url.expose(), ping).ok_or("heartbeat.url is not a valid address")?;
    let response = match target.http.get(url).send().await {
        Ok(response) => response,
        Err(error) => return Err(http_client::explain(&error).await.text),
    };
    let status = response.status();
    if status.is_success() { Ok(()) } else { Err(format!("the monitor answered {}", status.as_u16())) }
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
        let reason = ServiceHealth::Bad("pending for mail since 2026-11-23T20:00:00Z".to_owned());
        assert_eq!(health(&registry, &store, at("2026-11-23T20:10:01Z")), reason);
        assert!(!bad("2026-11-23T20:10:00Z") && bad("2026-11-23T20:10:01Z"));
        let time = |text: &str| text.parse().unwrap();
        let quiet = QuietHours::new(chrono_tz::UTC, Some((time("19:00:00"), time("07:30:00"))), [], false);
        registry.set_quiet_hours([("mail".into(), quiet.unwrap())].into());
        assert!(!bad("2026-11-23T23:00:00Z") && !bad("2026-11-24T07:35:00Z"));
        assert!(bad("2026-11-24T07:40:00Z"), "the quiet hours ended more than ten minutes ago");
    }

    #[test]
    fn ping_suffixes_are_appended_to_the_path() {
        let at = |url, ping| ping_url(url, ping).unwrap().to_string();
        assert_eq!(at("https://hc.example/uuid", HeartbeatPing::Good), "https://hc.example/uuid");
        assert_eq!(at("https://hc.example/uuid/", HeartbeatPing::Start), "https://hc.example/uuid/start");
        assert_eq!(
            at("https://hc.example/ping/uuid?x=1", HeartbeatPing::Fail),
            "https://hc.example/ping/uuid/fail?x=1"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_pinged_at_once_and_good_health_at_every_interval() {
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
        assert_eq!(ping_for(bad(), Ok(())), None, "a failed ping is not repeated at once");
        tokio::time::advance(MAX_RETRY_PAUSE).await;
        assert_eq!(ping_for(bad(), Ok(())), Some(HeartbeatPing::Fail));
        tokio::time::advance(2 * every).await;
        assert_eq!(ping_for(bad(), Ok(())), None, "unhealthy is reported once");
        assert_eq!(ping_for(ServiceHealth::Good, Ok(())), Some(HeartbeatPing::Good));
    }

    #[tokio::test(start_paused = true)]
    async fn pings_continue_during_a_long_first_cycle() {
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
        assert_eq!(history.due(&ServiceHealth::Unknown, Instant::now()), None, "health is not known to be good again");
    }
}
