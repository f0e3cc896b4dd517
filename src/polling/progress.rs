//! Progress of an account's cycles, so that health checks can tell a long cycle from one that hangs.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::domain::Time;

/// Progress of an account's cycles. Shared with the status registry, which reads it at any time.
#[derive(Debug, Default)]
pub struct CycleProgress {
    needed_ms: AtomicU64,
    last_read_ms: AtomicI64,
}

impl CycleProgress {
    /// Sets the time that a cycle needs under the rate limit.
    pub fn set_needed(&self, needed: Duration) {
        self.needed_ms.store(u64::try_from(needed.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns the time that a cycle needs under the rate limit; zero until it is known.
    pub fn needed_duration(&self) -> Duration {
        Duration::from_millis(self.needed_ms.load(Ordering::Relaxed))
    }

    /// Records that a read has ended, successfully or not.
    pub fn record_read(&self, at: Time) {
        self.last_read_ms.store(at.timestamp_millis(), Ordering::Relaxed);
    }

    /// Returns the end of the last read; the Unix epoch if there was none.
    pub fn last_read(&self) -> Time {
        Time::from_timestamp_millis(self.last_read_ms.load(Ordering::Relaxed)).unwrap_or_default()
    }
}
