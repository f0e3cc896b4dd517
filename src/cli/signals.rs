//! SIGTERM and SIGINT: a service shuts down in order, any other command ends at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Exit;

/// Returns a future that completes at SIGTERM or SIGINT. Listening starts now, so no signal is missed.
pub(super) fn stop_signal() -> Result<impl Future<Output = ()>, Exit> {
    match Signals::listen() {
        Ok(mut signals) => Ok(async move {
            signals.next().await;
        }),
        Err(error) => {
            tracing::error!(%error, "cannot listen for signals");
            Err(Exit::Failure)
        }
    }
}

/// Ends the process at SIGTERM or SIGINT, with the exit code that shells use: 128 plus the signal's number.
///
/// The kernel does the same, except for the first process of a container, whose unhandled signals it ignores. Listens on a
/// thread of its own, because every other thread may be blocked by an output that nobody reads.
pub(super) fn exit_on_signal() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut signals = {
        let _within = runtime.enter();
        Signals::listen()?
    };
    let wait = move || std::process::exit(128 + runtime.block_on(signals.next()).as_raw_value());
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        }
    }
}
