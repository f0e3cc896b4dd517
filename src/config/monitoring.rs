//! Decodes `http` and `heartbeat`, through which others monitor the service.

use std::net::SocketAddr;

use super::catalog::{HEARTBEAT, HTTP};
use super::cursor::Cursor;
use super::model::{Heartbeat, Http};
use super::problem::ValueError;
use super::{secrets, values};

/// Reads `http`. The metrics contain amounts, so an address other than loopback needs a token or `allow_public`.
pub(super) fn http(cursor: &Cursor<'_>) -> Option<Http> {
    let section = cursor.section(HTTP)?;
    let token = secrets::secret(&section, "token", "token_file", false, bearer);
    let has_token = section.get("token").or_else(|| section.get("token_file")).is_some();
    let public = section.read_or_default("allow_public", values::boolean).unwrap_or(false);
    let cursor = section.required("listen", "an address and a port, such as 127.0.0.1:9095")?;
    let listen = cursor.read(socket_address)?;
    let may_be_allowed = ["token", "token_file", "allow_public"].into_iter().any(|key| section.has_misspelt(key));
    if !listen.ip().is_loopback() && !has_token && !public {
        if !may_be_allowed {
            let expected = "a loopback address such as 127.0.0.1:9095, or `token` or `token_file` beside it (`allow_public: true` shows the amounts to everyone who can reach the address)";
            cursor.report(ValueError::new("would be public without a token", expected));
        }
        return None;
    }
    (token.is_some() == has_token).then_some(Http { listen, token })
}

pub(super) fn heartbeat(cursor: &Cursor<'_>) -> Option<Heartbeat> {
    let section = cursor.section(HEARTBEAT)?;
    let insecure = secrets::allow_insecure(&section);
    let address = |text: &str| values::secure_web(text, insecure).map(|_| ());
    let url = secrets::secret(&section, "url", "url_file", true, address);
    let connection = secrets::connection(&section);
    let every = section.read_or_default("every", values::pause);
    Some(Heartbeat { url: url?, every: every?, connection })
}

fn socket_address(text: &str) -> Result<SocketAddr, ValueError> {
    let expected = "an address and a port, such as 127.0.0.1:9095 or [::1]:9095";
    text.parse().map_err(|_| ValueError::new("is not an address with a port", expected))
}

/// Accepts a token that can be sent in a header.
fn bearer(text: &str) -> Result<(), ValueError> {
    if text.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(());
    }
    Err(ValueError::new("is not a token", "a token of printable ASCII characters, without spaces"))
}
