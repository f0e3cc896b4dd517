//! One part of the history, such as a ledger: its data, the time of its last read, its last failure, and when it is
//! due.

use chrono::TimeDelta;

use crate::domain::Time;
use crate::domain::balance::{Persistence, Unreadable};
use crate::domain::history::HistoryGap;

/// Pause after a transient failure.
pub(super) const RETRY_INTERVAL: TimeDelta = TimeDelta::minutes(10);
/// Pause after a permanent failure, on which someone has to act.
const REFUSED_RETRY_INTERVAL: TimeDelta = TimeDelta::hours(1);
/// Time after which even unchanged data is saved, so that the disk cache counts as fresh.
const SAVE_INTERVAL: TimeDelta = TimeDelta::hours(12);

/// One part of the history, of type `T`.
#[derive(Debug)]
pub(super) struct HistoryPart<T> {
    /// Data of the last good read, and its time.
    pub(super) known: Option<(T, Time)>,
    /// Failure of the last read; `None` after a good one.
    pub(super) failure: Option<Unreadable>,
    /// Time of the next read; `None` if it is due now.
    pub(super) due: Option<Time>,
    /// True after the disk cache was looked up.
    pub(super) loaded: bool,
    /// True after a read, good or failed, or if the disk cache had fresh data.
    pub(super) settled: bool,
    /// Read time of the data that was saved last.
    pub(super) saved: Option<Time>,
    /// True while the data may belong to another account. It is hidden, but the next read continues it.
    pub(super) unverified: bool,
}

impl<T> Default for HistoryPart<T> {
    fn default() -> Self {
        Self { known: None, failure: None, due: None, loaded: false, settled: false, saved: None, unverified: false }
    }
}

impl<T> HistoryPart<T> {
    /// Returns whether the part is due. A due time further ahead than `interval` was set before the clock was set back.
    pub(super) fn is_due(&self, now: Time, interval: TimeDelta) -> bool {
        self.due.is_none_or(|due| due <= now || due - now > interval)
    }

    /// Returns the time of the last good read, unless the data is unverified.
    pub(super) fn read_at(&self) -> Option<Time> {
        self.known.as_ref().filter(|_| !self.unverified).map(|(_, read)| *read)
    }

    /// Returns the data if it is at most `max_age` old.
    pub(super) fn fresh(&self, now: Time, max_age: TimeDelta) -> Result<&T, HistoryGap> {
        match (&self.known, &self.failure) {
            (Some((known, read)), _) if !self.unverified && now - *read <= max_age => Ok(known),
            (_, Some(failure)) => Err(HistoryGap::Unreadable(failure.clone())),
            (_, None) => Err(HistoryGap::NotYetRead),
        }
    }

    /// Records the data of the disk cache. Data from a later day than today is ignored.
    pub(super) fn loaded(&mut self, cached: Option<(T, Time)>, now: Time, interval: TimeDelta) {
        self.loaded = true;
        let Some((known, read)) = cached.filter(|(_, read)| !is_ahead(*read, now)) else { return };
        self.saved = Some(read);
        if read <= now && now - read < interval {
            self.due = Some(read + interval);
            self.settled = true;
        }
        self.known = Some((known, read.min(now)));
    }

    /// Drops data that was read while the clock was ahead: it lacks the oldest days, which were outside of the window
    /// by that clock. Everything is read again.
    pub(super) fn drop_if_ahead(&mut self, now: Time) {
        if self.known.as_ref().is_some_and(|(_, read)| is_ahead(*read, now)) {
            (self.known, self.due, self.settled) = (None, None, false);
        }
    }

    /// Records a good read.
    pub(super) fn read(&mut self, known: T, now: Time, interval: TimeDelta) {
        (self.known, self.failure) = (Some((known, now)), None);
        (self.due, self.settled, self.unverified) = (Some(now + interval), true, false);
    }

    /// Hides the data until a read continues it, and makes that read due.
    pub(super) fn mark_unverified(&mut self) {
        (self.due, self.settled, self.unverified) = (None, false, true);
    }

    /// Records a failed read. The next one is due after a pause.
    pub(super) fn fail(&mut self, failure: Unreadable, now: Time) {
        let pause = if failure.persistence == Persistence::Permanent { REFUSED_RETRY_INTERVAL } else { RETRY_INTERVAL };
        (self.failure, self.due, self.settled) = (Some(failure), Some(now + pause), true);
    }

    /// Returns whether to save now, and notes `now` as the time of the save. Clear `saved` if saving fails.
    pub(super) fn should_save(&mut self, changed: bool, now: Time) -> bool {
        let save = changed || self.saved.is_none_or(|saved| saved > now || now - saved >= SAVE_INTERVAL);
        if save {
            self.saved = Some(now);
        }
        save
    }
}

/// Returns whether a time is on a later day than `now`.
fn is_ahead(read: Time, now: Time) -> bool {
    read.date_naive() > now.date_naive()
}
