//! One part of the books: what was read last, how fresh it is, why it cannot be read, and when to read it again.

use chrono::TimeDelta;

use crate::domain::Time;
use crate::domain::balance::{Persistence, Unreadable};
use crate::domain::history::HistoryGap;

/// What failed is not tried again before that; nor, where somebody has to act first, before the longer time.
pub(super) const RETRY_INTERVAL: TimeDelta = TimeDelta::minutes(10);
const REFUSED_RETRY_INTERVAL: TimeDelta = TimeDelta::hours(1);
/// A cache is written at least so often, that it is known to be fresh.
const SAVE_INTERVAL: TimeDelta = TimeDelta::hours(12);

/// One part of the books.
#[derive(Debug)]
pub(super) struct HistoryPart<T> {
    /// What was read last, and when.
    pub(super) known: Option<(T, Time)>,
    /// Why the last try failed; `None` after a good one.
    pub(super) failure: Option<Unreadable>,
    /// When to read it again; `None`: now.
    pub(super) due: Option<Time>,
    /// Whether the cache was looked at.
    pub(super) loaded: bool,
    /// Whether it was tried, or came fresh from the cache.
    pub(super) settled: bool,
    /// When the cache was last written, and of when.
    pub(super) saved: Option<Time>,
    /// What is known may be another account's: it is not shown, but read on from.
    pub(super) unverified: bool,
}

impl<T> Default for HistoryPart<T> {
    fn default() -> Self {
        Self { known: None, failure: None, due: None, loaded: false, settled: false, saved: None, unverified: false }
    }
}

impl<T> HistoryPart<T> {
    /// A time that is further ahead than anybody waits was noted before the clock was set back.
    pub(super) fn is_due(&self, now: Time, every: TimeDelta) -> bool {
        self.due.is_none_or(|due| due <= now || due - now > every)
    }

    pub(super) fn read_at(&self) -> Option<Time> {
        self.known.as_ref().filter(|_| !self.unverified).map(|(_, read)| *read)
    }

    pub(super) fn fresh(&self, now: Time, max_age: TimeDelta) -> Result<&T, HistoryGap> {
        match (&self.known, &self.failure) {
            (Some((known, read)), _) if !self.unverified && now - *read <= max_age => Ok(known),
            (_, Some(failure)) => Err(HistoryGap::Unreadable(failure.clone())),
            (_, None) => Err(HistoryGap::NotYetRead),
        }
    }

    pub(super) fn loaded(&mut self, cached: Option<(T, Time)>, now: Time, every: TimeDelta) {
        self.loaded = true;
        let Some((known, read)) = cached.filter(|(_, read)| !is_ahead(*read, now)) else { return };
        self.saved = Some(read);
        if read <= now && now - read < every {
            self.due = Some(read + every);
            self.settled = true;
        }
        self.known = Some((known, read.min(now)));
    }

    /// Drops what was read by a clock that was ahead: by that clock the oldest days were no longer of interest, and nothing
    /// says that they are missing. It is read anew, as a whole.
    pub(super) fn drop_if_ahead(&mut self, now: Time) {
        if self.known.as_ref().is_some_and(|(_, read)| is_ahead(*read, now)) {
            (self.known, self.due, self.settled) = (None, None, false);
        }
    }

    pub(super) fn read(&mut self, known: T, now: Time, every: TimeDelta) {
        (self.known, self.failure) = (Some((known, now)), None);
        (self.due, self.settled, self.unverified) = (Some(now + every), true, false);
    }

    pub(super) fn mark_unverified(&mut self) {
        (self.due, self.settled, self.unverified) = (None, false, true);
    }

    pub(super) fn fail(&mut self, failure: Unreadable, now: Time) {
        let pause = if failure.persistence == Persistence::Permanent { REFUSED_RETRY_INTERVAL } else { RETRY_INTERVAL };
        (self.failure, self.due, self.settled) = (Some(failure), Some(now + pause), true);
    }

    /// Reports whether the cache is to be written now. Then it counts as written, unless whoever fails to clears `saved`.
    pub(super) fn should_save(&mut self, changed: bool, now: Time) -> bool {
        let save = changed || self.saved.is_none_or(|saved| saved > now || now - saved >= SAVE_INTERVAL);
        if save {
            self.saved = Some(now);
        }
        save
    }
}

/// Whether something was read on a later day than today.
fn is_ahead(read: Time, now: Time) -> bool {
    read.date_naive() > now.date_naive()
}
