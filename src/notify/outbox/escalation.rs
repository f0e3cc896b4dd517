//! A notifier that keeps failing: its fallback is asked, and in the end everybody else hears of it.
//!
//! Nothing is sent here: what is handed over or reported is owed, and its worker delivers it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Worker;
use crate::domain::Time;
use crate::domain::event::Subject;
use crate::domain::state::{State, Trouble};

/// After so much failure the fallback is asked.
pub const FALLBACK_AFTER: Duration = Duration::from_secs(300);
/// After so much failure the other notifiers are told.
pub const REPORT_AFTER: Duration = Duration::from_secs(3600);
/// A planned time may be so far ahead of a clock that was not set but slewed.
const SLEWED: chrono::Duration = chrono::Duration::minutes(1);

impl Worker {
    /// After five minutes of failure the fallback is asked; after an hour everybody else hears of it.
    pub(super) async fn escalate(&mut self) {
        let now = self.clock.now();
        let Some(trouble) = self.trouble(now).await else { return };
        let age = (now - trouble.since).to_std().unwrap_or_default();
        if self.failures > 0
            && age.min(self.oldest_owed(now)) >= FALLBACK_AFTER
            && let Some(fallback) = self.desk.fallback.clone()
        {
            let name = self.name.clone();
            let hand = |state: &mut State| {
                let handed = state.hand_over(&name, &fallback, &trouble.error, None);
                (handed, handed > 0)
            };
            let handed = self.book.change(hand).await;
            if handed > 0 {
                tracing::warn!(notifier = %self.name, %fallback, events = handed, "notifier keeps failing: its fallback is asked");
            }
        }
        if age >= REPORT_AFTER && !trouble.reported {
            self.report(&trouble.error, trouble.since, now).await;
        }
    }

    /// Its failure, if it fails. One that began in the future (the clock went back) counts from now.
    async fn trouble(&mut self, now: Time) -> Option<Trouble> {
        let trouble = self.book.read(|state| state.notifiers.get(&self.name).cloned())?;
        if trouble.since <= now {
            return Some(trouble);
        }
        let from_now = |state: &mut State| {
            let trouble = state.notifiers.get_mut(&self.name);
            let trouble = trouble.map(|trouble| {
                trouble.since = trouble.since.min(now);
                trouble.clone()
            });
            let changed = trouble.is_some();
            (trouble, changed)
        };
        self.book.change(from_now).await
    }

    async fn report(&mut self, error: &str, since: Time, now: Time) {
        let (name, others) = (self.name.clone(), self.others());
        self.book
            .change(|state| {
                let subject = Subject::NotifierFailing { notifier: name.clone(), since, error: error.to_owned() };
                state.owe(subject, now, &others, &BTreeMap::new());
                if let Some(trouble) = state.notifiers.get_mut(&name) {
                    trouble.reported = true;
                }
                ((), true)
            })
            .await;
        tracing::error!(notifier = %self.name, %since, error, "notifier has failed for an hour: reported through all others");
    }

    /// How long the oldest event has been owed: a failure of long ago that left nothing owed is no reason to hurry. One
    /// from the future was owed before the clock went back, and so before anything that counts from then.
    fn oldest_owed(&self, now: Time) -> Duration {
        let age = |at: Time| match (now - at).to_std() {
            Ok(age) => age,
            Err(_) if at - now > SLEWED => Duration::MAX,
            Err(_) => Duration::ZERO,
        };
        self.book.read(|state| state.owed_to(&self.name).map(|(event, _)| age(event.at)).max()).unwrap_or_default()
    }

    /// How long until the failure is an hour old, where that is still to be reported.
    pub(super) fn report_due(&self) -> Option<Duration> {
        let now = self.clock.now();
        let trouble = self.book.read(|state| state.notifiers.get(&self.name).cloned())?;
        let age = (now - trouble.since).to_std().unwrap_or_default();
        let handing = Some(FALLBACK_AFTER.saturating_sub(age.min(self.oldest_owed(now)))).filter(|_| self.failures > 0);
        let reporting = Some(REPORT_AFTER.saturating_sub(age)).filter(|_| !trouble.reported);
        let due = [handing, reporting].into_iter().flatten().filter(|due| !due.is_zero()).min()?;
        Some(due.max(Duration::from_millis(100)))
    }
}
