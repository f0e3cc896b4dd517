//! The only caller of the system clock, and the only place that waits by it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::Time;

/// Time as the service sees it: real, simulated, or stepped by a test.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Time;
    /// Waits until so much of this clock's time has passed.
    async fn sleep(&self, duration: Duration);
    /// The same, for a task in the background that nobody waits for between two pieces of its work. To a clock that is moved
    /// when everybody rests it is [`set_background_active`](Clock::set_background_active) whenever it does not doze.
    async fn sleep_idle(&self, duration: Duration) {
        self.sleep(duration).await;
    }
    /// A task in the background begins to work (`true`), or ends (`false`).
    fn set_background_active(&self, _is_active: bool) {}
}

/// A task in the background is there until this is dropped.
pub struct BackgroundActivity(Arc<dyn Clock>);

impl BackgroundActivity {
    /// It is there from now on.
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

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place that may
    fn now(&self) -> Time {
        // Milliseconds are what people and files want to see.
        chrono::SubsecRound::trunc_subsecs(chrono::Utc::now(), 3)
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
