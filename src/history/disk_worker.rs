//! Access to the disk cache with a timeout, since a network file system may hang.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::DiskCache;
use crate::domain::Name;

/// Time limit for reading or writing one file.
const FILE_TIMEOUT: Duration = Duration::from_secs(30);

/// A disk cache whose files are read and written on blocking threads.
pub(super) struct DiskCacheWorker {
    account: Name,
    cache: Option<Arc<DiskCache>>,
    /// Work that exceeded the time limit. No other work starts before it ends, since each would block one more thread.
    overdue: Option<AbortHandle>,
}

impl DiskCacheWorker {
    /// Returns a worker for the cache of an account; without a cache it does nothing.
    pub(super) fn new(account: Name, cache: Option<DiskCache>) -> Self {
        Self { account, cache: cache.map(Arc::new), overdue: None }
    }

    pub(super) fn has_cache(&self) -> bool {
        self.cache.is_some()
    }

    /// Runs `work` on the cache. Returns `None` if there is no cache, or if the work panics or exceeds the time limit.
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
                tracing::error!(account = %self.account, %error, "history cache: internal error, please report it; the next start reads what is missing from CertCentral");
            }
            return done.ok();
        }
        if self.overdue.replace(task.abort_handle()).is_none() {
            let seconds = FILE_TIMEOUT.as_secs();
            tracing::warn!(account = %self.account, seconds, "history cache: the file system does not respond; the next start reads what is missing from CertCentral");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Mutex, mpsc};

    #[tokio::test]
    async fn a_panic_during_cache_access_is_logged() {
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
        assert_eq!(disk.run(|_| 1).await, Some(1), "later work runs again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_file_system_gets_no_work_until_it_responds() {
        let mut disk =
            DiskCacheWorker::new("acme".into(), Some(DiskCache::new("nowhere".into(), "acme", "https://us")));
        let (release, hangs) = mpsc::channel::<()>();
        let hung = tokio::join!(disk.run(move |_| hangs.recv()), tokio::time::advance(FILE_TIMEOUT)).0;
        assert!(hung.is_none());
        assert_eq!(disk.run(|_| 1).await, None, "no second thread is blocked");
        release.send(()).unwrap();
        for _ in 0..500 {
            if disk.run(|_| 1).await == Some(1) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("no work runs again within five seconds");
    }
}
