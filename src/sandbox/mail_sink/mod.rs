//! Mail sink: a plain SMTP server on loopback that accepts every email and keeps it.
//!
//! It delivers nothing and has neither passwords nor TLS. Every connection is bounded in time and memory, and no input makes it
//! panic.

mod conversation;
mod mail;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Activity, ActivityGuard};

pub use self::mail::ReceivedMail;

/// Longest connection, so that a silent client does not hold up a simulated clock.
const CONVERSATION_TIMEOUT: Duration = Duration::from_secs(120);
/// Pause after a failure to accept, for example without free file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// A running sink; it stops when dropped.
#[derive(Debug)]
pub struct MailSink {
    address: SocketAddr,
    mails: Arc<Mutex<Vec<ReceivedMail>>>,
    /// Stops the server and its conversations when dropped.
    _shutdown: DropGuard,
}

impl MailSink {
    /// Starts to serve on a listener, in the current runtime. Fails only if the listener has no address.
    pub fn start(listener: TcpListener, activity: Arc<dyn Activity>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let mails: Arc<Mutex<Vec<ReceivedMail>>> = Arc::default();
        let shutdown = CancellationToken::new();
        let serving = serve(listener, activity, Arc::clone(&mails));
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(serving));
        Ok(Self { address, mails, _shutdown: shutdown.drop_guard() })
    }

    /// Removes and returns the emails since the last call, oldest first.
    pub fn take(&self) -> Vec<ReceivedMail> {
        std::mem::take(&mut *self.mails.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the address to configure as `host` and `port`, with `tls: none`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Accepts connections. Their tasks are part of this one, so that they end with it.
async fn serve(listener: TcpListener, activity: Arc<dyn Activity>, mails: Arc<Mutex<Vec<ReceivedMail>>>) {
    let mut conversations = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = conversations.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            continue;
        };
        let busy = ActivityGuard::begin(&activity);
        let mails = Arc::clone(&mails);
        conversations.spawn(async move {
            let _busy = busy;
            let keep = |mail| mails.lock().unwrap_or_else(PoisonError::into_inner).push(mail);
            // An error means that the client has gone.
            let _ = tokio::time::timeout(CONVERSATION_TIMEOUT, conversation::converse(stream, keep)).await;
        });
    }
}

#[cfg(test)]
mod tests;
