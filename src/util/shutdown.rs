//! Shutdown in two stages. Everything that ends in a single step takes a plain [`CancellationToken`].

use tokio_util::sync::CancellationToken;

/// Shutdown of tasks that may finish their work: the first stage lets no new work begin, the second one abandons running work.
/// Clones share their stages.
#[derive(Debug, Clone)]
pub struct StagedShutdown {
    begun: CancellationToken,
    abandoned: CancellationToken,
}

impl StagedShutdown {
    /// Creates a shutdown that is abandoned with `parent`.
    pub fn child_of(parent: &CancellationToken) -> Self {
        let abandoned = parent.child_token();
        Self { begun: abandoned.child_token(), abandoned }
    }

    /// Begins the shutdown: running work is finished, and none follows.
    pub fn begin(&self) {
        self.begun.cancel();
    }

    /// Begins the shutdown and abandons running work.
    pub fn abandon(&self) {
        self.abandoned.cancel();
    }

    /// Waits until the shutdown begins, in either stage.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Waits until running work is to be abandoned.
    pub async fn abandoned(&self) {
        self.abandoned.cancelled().await;
    }
}

impl Default for StagedShutdown {
    fn default() -> Self {
        Self::child_of(&CancellationToken::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn running_work_is_abandoned_only_in_the_second_stage() {
        let shutdown = StagedShutdown::default();
        assert!(shutdown.begun().now_or_never().is_none());
        shutdown.begin();
        assert!(shutdown.begun().now_or_never().is_some() && shutdown.abandoned().now_or_never().is_none());
        shutdown.abandon();
        assert!(shutdown.abandoned().now_or_never().is_some());
    }

    #[test]
    fn the_end_of_a_parent_abandons_running_work() {
        let parent = CancellationToken::new();
        let shutdown = StagedShutdown::child_of(&parent);
        parent.cancel();
        assert!(shutdown.begun().now_or_never().is_some() && shutdown.abandoned().now_or_never().is_some());
    }
}
