//! The clock of the service. The only caller of the system clock.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::Time;

/// A source of time: the system, a simulation, or a test that steps it.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Returns the present time.
    fn now(&self) -> Time;
    /// Waits for `duration` of this clock's time.
    async fn sleep(&self, duration: Duration);
    /// Waits like [`sleep`](Clock::sleep), in a background task between two pieces of its work. A clock that advances only while
    /// all tasks wait treats such a task as active except during this wait; see
    /// [`set_background_active`](Clock::set_background_active).
    async fn sleep_idle(&self, duration: Duration) {
        self.sleep(duration).await;
    }
    /// Registers (`true`) or removes (`false`) an active background task.
    fn set_background_active(&self, _is_active: bool) {}
}

/// Guard that keeps a background task registered until it is dropped.
pub struct BackgroundActivity(Arc<dyn Clock>);

impl BackgroundActivity {
    /// Registers a background task.
    pub fn begin(clock: &Arc<dyn Clock>) -> Self {
        clock.set_background_active(true);
        Self(Arc::clone(clock))
    }
}

impl Drop for BackgroundActivity {
    fn drop(&mut self) {
        self.0.set_background_active(false);
    }
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the only place that reads the system clock
    fn now(&self) -> Time {
        // Messages and files show milliseconds at most.
        chrono::SubsecRound::trunc_subsecs(chrono::Utc::now(), 3)
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
