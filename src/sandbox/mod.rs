//! A `CertCentral` that lives in the binary, and the sinks of the demo: nothing here talks to anything but loopback.
//!
//! A [`scenario`] says what happens; the [`world`] lives it, with every change of a balance in its ledger; the [`server`]
//! answers for it over HTTP. Nothing of the service depends on this.

mod answers;
pub mod clock;
pub mod scenario;
pub mod server;
pub mod world;

/// Hears of conversations that begin and end, so that a simulated clock stands still meanwhile.
pub trait Activity: Send + Sync {
    /// One begins.
    fn begin(&self);
    /// One has ended.
    fn end(&self);
}

impl Activity for () {
    fn begin(&self) {}
    fn end(&self) {}
}

/// A conversation, from its beginning until it is dropped, whatever ends it.
pub(crate) struct Conversation(std::sync::Arc<dyn Activity>);

impl Conversation {
    pub(crate) fn begin(activity: &std::sync::Arc<dyn Activity>) -> Self {
        activity.begin();
        Self(std::sync::Arc::clone(activity))
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.0.end();
    }
}
