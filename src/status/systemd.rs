//! Notifies systemd: ready, reloading, stopping and, while cycles are on time, the watchdog.
//!
//! Uses the protocol of `sd_notify`: datagrams to the socket in `NOTIFY_SOCKET`. Does nothing if that is not set.
//! The `sd-notify` crate does not fit: it blocks while the socket is full, and it cannot connect to abstract sockets.

use std::io;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Connection to systemd, if it supervises this process.
#[derive(Debug, Default)]
pub struct Supervisor {
    socket: Option<UnixDatagram>,
    watchdog_timeout: Option<Duration>,
}

impl Supervisor {
    /// Connects as the environment says: `NOTIFY_SOCKET`, and `WATCHDOG_USEC` if `WATCHDOG_PID` is this process or unset.
    pub fn new(socket: Option<&str>, watchdog_usec: Option<&str>, watchdog_pid: Option<&str>) -> Self {
        let connected = socket.filter(|name| !name.is_empty()).map(connect);
        let socket = match connected.transpose() {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, "NOTIFY_SOCKET cannot be used: systemd is not notified");
                None
            }
        };
        let ours = watchdog_pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
        let limit = watchdog_usec.filter(|_| ours).and_then(|usec| usec.parse().ok()).filter(|usec| *usec > 0);
        Self { socket, watchdog_timeout: limit.map(Duration::from_micros) }
    }

    /// Returns the interval between watchdog pings: half of the watchdog timeout.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.socket.as_ref()?;
        self.watchdog_timeout.map(|limit| limit / 2)
    }

    /// Reports that the service has started or has finished a reload.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// Reports that a reload has begun.
    pub fn reloading(&self) {
        self.send("RELOADING=1");
    }

    /// Reports that shutdown has begun.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Tells the watchdog that the service is alive.
    pub fn ping_watchdog(&self) {
        self.send("WATCHDOG=1");
    }

    /// Sends without blocking. A message that does not fit into a full socket is lost.
    fn send(&self, state: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(state.as_bytes()) {
            tracing::debug!(%error, state, "systemd is not notified");
        }
    }
}

/// Connects to a path or, if the name begins with `@`, to an abstract socket of Linux.
fn connect(name: &str) -> io::Result<UnixDatagram> {
    let address = match name.strip_prefix('@') {
        #[cfg(target_os = "linux")]
        Some(name) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn messages_reach_a_path_or_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let abstract_name = format!("lowtide-test-{}", std::process::id());
        let named = UnixDatagram::bind(&path).unwrap();
        let unseen = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&abstract_name).unwrap()).unwrap();
        for (name, socket) in [(path.to_str().unwrap().to_owned(), named), (format!("@{abstract_name}"), unseen)] {
            let supervisor = Supervisor::new(Some(&name), Some("3000000"), Some(&std::process::id().to_string()));
            supervisor.ready();
            let mut received = [0; 64];
            let n = socket.recv(&mut received).unwrap();
            assert_eq!(&received[..n], b"READY=1");
            assert_eq!(supervisor.watchdog_interval(), Some(Duration::from_millis(1500)));
            assert_eq!(Supervisor::new(Some(&name), Some("3000000"), Some("1")).watchdog_interval(), None);
        }
        let disconnected = Supervisor::new(None, Some("3000000"), None);
        disconnected.ready();
        assert_eq!(disconnected.watchdog_interval(), None);
        assert!(Supervisor::new(Some("/no/such/socket"), None, None).socket.is_none());
    }
}
