//! Control socket beside the state file (mode 0600). `status` and `health` query the running service through it, and `silence`
//! adds and removes silences.
//!
//! Requests and responses are one line of JSON each. Access is controlled by the mode of the file alone. Only silences can be
//! changed.

pub use crate::status::answers::{
    AccountSummary, AlertSummary, ControlRequest, CycleHealth, PendingSummary, ReloadStatus, ServiceCounters,
    ServiceStatus, SilenceReply, SilenceReport,
};

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::domain::Time;
use crate::state::StateStore;
use crate::state::silences;
use crate::state::silences::{SilenceChange, SilenceResult};
use crate::status::registry::Registry;
use crate::util::clock::Clock;

/// Longest wait for the other side of the socket.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest request line, in bytes.
const MAX_REQUEST_BYTES: u64 = 4096;
/// Longest socket path that every system accepts, in bytes.
const MAX_PATH_BYTES: usize = 100;

/// Returns the path of the socket that belongs to a state file.
pub fn socket_path(state: &Path) -> PathBuf {
    crate::state::beside(state, "sock")
}

/// A socket path short enough for the system. A long one is replaced by a path through the opened folder.
struct ShortSocketPath {
    path: PathBuf,
    /// Keeps the folder open while the path is used.
    _folder: Option<std::fs::File>,
}

impl ShortSocketPath {
    fn of(path: &Path) -> io::Result<Self> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        };
        if path.as_os_str().len() <= MAX_PATH_BYTES {
            return Ok(Self { path: path.to_owned(), _folder: None });
        }
        let folder = std::fs::File::open(folder)?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _folder: Some(folder) })
    }
}

/// Serves the control socket until dropped. The socket appears under its name only once its mode is set.
pub async fn serve(
    state: &Path,
    store: Arc<StateStore>,
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
) -> io::Result<()> {
    let (path, fresh) = (socket_path(state), crate::state::beside(state, "sk"));
    let _ = std::fs::remove_file(&fresh); // left by a process that died before the rename
    let listener = ShortSocketPath::of(&fresh).and_then(|short| UnixListener::bind(&short.path))?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&fresh, &path)?;
    loop {
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "control socket cannot accept");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let (store, registry, clock) = (Arc::clone(&store), Arc::clone(&registry), Arc::clone(&clock));
        tokio::spawn(async move {
            let answered = tokio::time::timeout(SOCKET_TIMEOUT, answer(stream, &store, &registry, clock.now())).await;
            if let Ok(Err(error)) = answered {
                tracing::debug!(%error, "control request not answered");
            }
        });
    }
}

async fn answer(mut stream: UnixStream, store: &StateStore, registry: &Registry, now: Time) -> io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut line = String::new();
    BufReader::new(reading.take(MAX_REQUEST_BYTES)).read_line(&mut line).await?;
    let mut json = match serde_json::from_str(&line)? {
        ControlRequest::Status => serde_json::to_vec(&store.read(|state| registry.status(state, now)))?,
        ControlRequest::Health => serde_json::to_vec(&registry.health(now))?,
        ControlRequest::Silence(change) => serde_json::to_vec(&change_silences(store, change, now).await)?,
    };
    json.push(b'\n');
    writing.write_all(&json).await
}

/// Changes silences, saves, then answers: a confirmed silence survives a crash.
async fn change_silences(store: &StateStore, change: SilenceChange, now: Time) -> SilenceReply {
    let changed = store.change(|state| silences::apply_change(state, change, now)).await;
    match &changed {
        SilenceResult::Added { id, .. } => tracing::info!(id, "silence added"),
        SilenceResult::Removed { .. } => tracing::info!("silence removed: active alerts notify at the next check"),
        SilenceResult::Unknown | SilenceResult::AlreadyEnded => {}
    }
    SilenceReply { saved: store.flush().await, changed }
}

/// Sends a request to the service that owns `state`. An error means that no service answered.
pub async fn ask<R: serde::de::DeserializeOwned>(state: &Path, request: ControlRequest) -> io::Result<R> {
    let exchange = async {
        let short = ShortSocketPath::of(&socket_path(state))?;
        let mut stream = UnixStream::connect(&short.path).await?;
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(serde_json::from_slice(&answer)?)
    };
    tokio::time::timeout(SOCKET_TIMEOUT, exchange)
        .await
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
}
