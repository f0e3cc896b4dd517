//! A clock that the test steps, a disk that takes everything, and an alert's events owed there.
//!
//! Time is tokio's paused time: it jumps to the next timer as soon as nothing else can go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lowtide::clock::Clock;
use lowtide::domain::alert::{Alert, AlertKey, Kind, Latch};
use lowtide::domain::event::{Subject, Threshold, ThresholdEvent, Value};
use lowtide::domain::money::{Currency, Money, parse_amount};
use lowtide::domain::rule::{Amount, Metric, Severity, Side};
use lowtide::domain::state::{Remembered, State};
use lowtide::domain::{Name, Time};
use lowtide::store::{Book, Json, Store};

/// When every story begins.
pub fn epoch() -> Time {
    Time::from_timestamp(1_795_500_000, 0).unwrap()
}

/// A clock that stands at [`epoch`] when it is made.
pub struct Stepped {
    start: tokio::time::Instant,
}

impl Stepped {
    pub fn begin() -> Arc<dyn Clock> {
        Arc::new(Self { start: tokio::time::Instant::now() })
    }
}

#[async_trait]
impl Clock for Stepped {
    fn now(&self) -> Time {
        epoch() + chrono::Duration::from_std(self.start.elapsed()).unwrap()
    }
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Every save succeeds.
pub struct Disk;

impl Store for Disk {
    fn save(&self, _: &Json) -> std::io::Result<()> {
        Ok(())
    }
}

/// An alert of an account moves, and these are to be told.
pub async fn owe(book: &Book, now: Time, account: &str, kind: Kind, to: &[&str]) {
    book.change(|state| (queue(state, now, account, kind, to), true)).await;
}

/// The same, as a part of a change.
pub fn queue(state: &mut State, now: Time, account: &str, kind: Kind, to: &[&str]) {
    let usd = Currency::parse("USD").unwrap();
    let amount = |text: &str| parse_amount(text).unwrap();
    let key = AlertKey { account: account.into(), division: None, rule: "funds".into() };
    let subject = Subject::Threshold(ThresholdEvent {
        key: key.clone(),
        division_name: None,
        kind,
        level: if kind == Kind::Escalated { Severity::Critical } else { Severity::Warning },
        since: now,
        metric: Metric::AvailableFunds,
        within: None,
        value: Value::Amount(Money::new(amount(if kind == Kind::Resolved { "5000" } else { "100" }), usd)),
        threshold: Some(Threshold {
            side: Side::Below,
            bound: Amount { value: amount("2000"), currency: Some(usd) }.into(),
        }),
        breakdown: None,
        next_reminder: None,
        ahead: None,
        chart: None,
    });
    let recipients = to.iter().map(|name| Name::from(*name)).collect();
    if kind == Kind::Resolved {
        state.alerts.remove(&key);
    } else {
        let fresh = || Remembered {
            alert: Alert { warning: Some(Latch { since: now, firing: true }), ..Alert::default() },
            ..Remembered::default()
        };
        state.alerts.entry(key).or_insert_with(fresh).alert.last_event = Some(now);
    }
    state.owe(subject, now, &recipients, &BTreeMap::new());
}
