//! A clock on tokio's paused time, a backend that accepts everything, and alerts whose events are queued in the state.
//!
//! Paused time jumps to the next timer as soon as nothing else can run.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lowtide::alerting::queue::NewEvent;
use lowtide::alerting::state::{AlertRecord, State};
use lowtide::domain::alert::{Alert, AlertKey, LevelState, TransitionKind};
use lowtide::domain::balance::MetricValue;
use lowtide::domain::event::{EvaluatedThreshold, EventSubject, ThresholdEvent};
use lowtide::domain::money::{Currency, Money, parse_amount};
use lowtide::domain::rule::{Metric, Severity, ThresholdAmount, ThresholdSide};
use lowtide::domain::{Name, Time};
use lowtide::state::{JsonPieces, StateBackend, StateStore};
use lowtide::util::clock::Clock;

/// The time at which every test begins.
pub fn epoch() -> Time {
    Time::from_timestamp(1_795_500_000, 0).unwrap()
}

/// A clock that begins at [`epoch`].
pub struct VirtualClock {
    start: tokio::time::Instant,
}

impl VirtualClock {
    pub fn begin() -> Arc<dyn Clock> {
        Arc::new(Self { start: tokio::time::Instant::now() })
    }
}

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> Time {
        epoch() + chrono::Duration::from_std(self.start.elapsed()).unwrap()
    }
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// A backend whose saves always succeed.
pub struct AcceptingBackend;

impl StateBackend for AcceptingBackend {
    fn save(&self, _: &JsonPieces) -> std::io::Result<()> {
        Ok(())
    }
}

/// Changes an alert of an account and enqueues the event for these notifiers.
pub async fn enqueue(store: &StateStore, now: Time, account: &str, kind: TransitionKind, to: &[&str]) {
    store.change(|state| (enqueue_in(state, now, account, kind, to), true)).await;
}

/// Does the same within a change of the state.
pub fn enqueue_in(state: &mut State, now: Time, account: &str, kind: TransitionKind, to: &[&str]) {
    let usd = Currency::parse("USD").unwrap();
    let amount = |text: &str| parse_amount(text).unwrap();
    let key = AlertKey { account: account.into(), division: None, rule: "funds".into() };
    let subject = EventSubject::Threshold(ThresholdEvent {
        key: key.clone(),
        division_name: None,
        kind,
        level: if kind == TransitionKind::Escalated { Severity::Critical } else { Severity::Warning },
        since: now,
        metric: Metric::AvailableFunds,
        within: None,
        value: MetricValue::Amount(Money::new(
            amount(if kind == TransitionKind::Resolved { "5000" } else { "100" }),
            usd,
        )),
        threshold: Some(EvaluatedThreshold {
            side: ThresholdSide::Below,
            bound: ThresholdAmount { value: amount("2000"), currency: Some(usd) }.into(),
        }),
        breakdown: None,
        next_reminder: None,
        forecast: None,
        chart: None,
    });
    let recipients = to.iter().map(|name| Name::from(*name)).collect();
    if kind == TransitionKind::Resolved {
        state.alerts.remove(&key);
    } else {
        let fresh = || AlertRecord {
            alert: Alert { warning: Some(LevelState { since: now, firing: true }), ..Alert::default() },
            ..AlertRecord::default()
        };
        state.alerts.entry(key).or_insert_with(fresh).alert.last_event = Some(now);
    }
    state.queue.enqueue(NewEvent::notice(subject, now, recipients));
}
