//! `http` and `heartbeat`: how others see that the service is awake, and what it read.

use std::net::SocketAddr;
use std::time::Duration;

use super::cursor::{Cursor, Section, ValueError};
use super::keys::{HEARTBEAT, HTTP};
use super::{Heartbeat, Http, secrets, values};

/// How often a heartbeat is sent unless the file says otherwise.
const EVERY: Duration = Duration::from_secs(300);

/// Reads `http`. Amounts are not public: beyond this machine it takes a token, or a word.
pub(super) fn http(cursor: &Cursor<'_>) -> Option<Http> {
    let section = cursor.section(HTTP)?;
    let token = secrets::secret(&section, "token", "token_file", false, bearer);
    let has_token = section.get("token").or_else(|| section.get("token_file")).is_some();
    let public = section.read("allow_public", values::boolean).unwrap_or(false);
    let at = section.required("listen", "an address and a port, such as 127.0.0.1:9095")?;
    let listen = at.read(address)?;
    if !listen.ip().is_loopback() && !has_token && !public {
        at.report(
            "a loopback address such as 127.0.0.1:9095, or `token` or `token_file` beside it (`allow_public: true` shows \
             the amounts to everyone who can reach the address)"
                .into(),
        );
        return None;
    }
    (token.is_some() == has_token).then_some(Http { listen, token })
}

/// Reads `heartbeat`.
pub(super) fn heartbeat(cursor: &Cursor<'_>) -> Option<Heartbeat> {
    let section = cursor.section(HEARTBEAT)?;
    let insecure = secrets::allow_insecure(&section);
    let address = |text: &str| values::secure_web(text, insecure).map(|_| ());
    let url = secrets::secret(&section, "url", "url_file", true, address);
    let connection = secrets::connection(&section);
    let every = every(&section);
    Some(Heartbeat { url: url?, every: every?, connection })
}

fn every(section: &Section<'_>) -> Option<Duration> {
    section.get("every").map_or(Some(EVERY), |cursor| cursor.read(values::pause))
}

fn address(text: &str) -> Result<SocketAddr, ValueError> {
    text.parse().map_err(|_| "an address and a port, such as 127.0.0.1:9095 or [::1]:9095".into())
}

/// A token travels in a header.
fn bearer(text: &str) -> Result<(), ValueError> {
    if text.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(());
    }
    Err("a token of printable ASCII characters, without spaces".into())
}
