//! The only caller of the system clock, and the only place that waits by it.

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
