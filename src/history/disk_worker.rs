//! The cache behind a deadline: a network file system may hang, and no book waits for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::DiskCache;
use crate::domain::Name;

/// How long one file may take to be read or written.
const FILE_TIMEOUT: Duration = Duration::from_secs(30);

/// A cache, whose files are read and written on other threads.
pub(super) struct DiskCacheWorker {
    account: Name,
    cache: Option<Arc<DiskCache>>,
    /// Work that took too long. Until it is over there is no other: each would take one more thread.
    overdue: Option<AbortHandle>,
}

impl DiskCacheWorker {
    /// `account` is its name in the log.
    pub(super) fn new(account: Name, cache: Option<DiskCache>) -> Self {
        Self { account, cache: cache.map(Arc::new), overdue: None }
    }

    pub(super) fn has_cache(&self) -> bool {
        self.cache.is_some()
    }

    /// Runs something on the cache; `None` where there is none, or where it panics or takes too long.
    pub(super) async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&DiskCache) -> T + Send + 'static,
    ) -> Option<T> {
        let cache = Arc::clone(self.cache.as_ref()?);
        if self.overdue.as_ref().is_some_and(|work| !work.is_finished()) {
            return None;
        }
        let mut task = tokio::task::spawn_blocking(move || work(&cache));
        if let Ok(done) = timeout(FILE_TIMEOUT, &mut task).await {
            self.overdue = None;
            if let Err(error) = &done {
                tracing::error!(account = %self.account, %error, "books on disk: internal error, please report it; without them, a start reads them from CertCentral");
            }
            return done.ok();
        }
        if self.overdue.replace(task.abort_handle()).is_none() {
            let seconds = FILE_TIMEOUT.as_secs();
            tracing::warn!(account = %self.account, seconds, "books on disk: the file system does not answer; without it, a start reads them from CertCentral");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Mutex, mpsc};

    #[tokio::test]
    async fn a_panic_of_work_on_the_cache_is_logged() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let writer = Mutex::new(file.reopen().unwrap());
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let mut disk =
            DiskCacheWorker::new("acme".into(), Some(DiskCache::new("nowhere".into(), "acme", "https://us")));
        assert_eq!(disk.run(|_| panic!("no such line")).await, None::<()>);
        let logged = std::fs::read_to_string(file.path()).unwrap();
        assert!(logged.contains("ERROR") && logged.contains("account=acme"), "{logged}");
        assert!(logged.contains("no such line"), "{logged}");
        assert_eq!(disk.run(|_| 1).await, Some(1), "it is asked again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_file_system_is_left_alone_until_it_answers() {
        let mut disk =
            DiskCacheWorker::new("acme".into(), Some(DiskCache::new("nowhere".into(), "acme", "https://us")));
        let (answer, hangs) = mpsc::channel::<()>();
        let hung = tokio::join!(disk.run(move |_| hangs.recv()), tokio::time::advance(FILE_TIMEOUT)).0;
        assert!(hung.is_none());
        assert_eq!(disk.run(|_| 1).await, None, "no second thread is lost");
        answer.send(()).unwrap();
        for _ in 0..500 {
            if disk.run(|_| 1).await == Some(1) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it is never asked again");
    }
}
