//! Shared helpers: the clock, secrets, text from outside, files, logging and the HTTP client.

pub(crate) mod atomic_file;
pub mod clock;
pub mod http_client;
pub mod logging;
pub mod secret;
pub mod shutdown;
pub mod signature;
pub mod text;
