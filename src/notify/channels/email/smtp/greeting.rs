//! EHLO, and the name in it. Servers reject names without a dot, and such a rejection concerns us and not a recipient.

use std::net::IpAddr;

use lettre::Address;

use super::SmtpFailure;
use super::connection::SmtpConnection;
use super::extensions::SmtpExtensions;
use super::reply::SmtpReply;

/// Returns the name in EHLO if none is configured: this host's name, or else our address (RFC 5321, 4.1.4).
pub(super) fn default_name(local: IpAddr) -> String {
    let host = hostname::get().ok().and_then(|name| name.into_string().ok());
    host.as_deref().and_then(full_name).map_or_else(|| literal(local), str::to_owned)
}

/// Returns the name if it is fully qualified: with a dot, and not `localhost.localdomain`.
fn full_name(host: &str) -> Option<&str> {
    let name = host.trim_end_matches('.');
    let is_valid_label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let full = name.contains('.') && name.split('.').all(is_valid_label);
    (full && !name.starts_with("localhost.") && name.parse::<IpAddr>().is_err()).then_some(name)
}

fn literal(local: IpAddr) -> String {
    match local {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    }
}

/// Sends EHLO, or HELO if EHLO is rejected.
pub(super) async fn greet(connection: &mut SmtpConnection, name: &str) -> Result<SmtpExtensions, SmtpFailure> {
    let reply = connection.command("EHLO", &format!("EHLO {name}")).await?;
    if reply.is_completed() {
        return Ok(SmtpExtensions::read(&reply));
    }
    // A server that does not know the command has not checked the name.
    let unknown = matches!(reply.code(), 500 | 502);
    let refusal = reply.refusal("EHLO", &if unknown { String::new() } else { hint(name) });
    if !reply.is_permanent() {
        return Err(SmtpFailure::transient(refusal));
    }
    let reply = connection.command("HELO", &format!("HELO {name}")).await?;
    if reply.is_completed() {
        return Ok(SmtpExtensions { refusal: Some(refusal), ..SmtpExtensions::default() });
    }
    Err(SmtpFailure::transient(reply.refusal("HELO", &hint(name))))
}

/// Returns the rejection with advice, if it is about the name in EHLO. Many servers reject the name only at MAIL or RCPT.
/// The address of the recipient is ignored, because it may contain such a word.
pub(super) fn hello_refusal(name: &str, reply: &SmtpReply, to: &str, recipient: Option<&Address>) -> Option<String> {
    let mut text = reply.text().to_ascii_lowercase();
    if let Some(address) = recipient {
        text = text.replace(&AsRef::<str>::as_ref(address).to_ascii_lowercase(), "");
    }
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let about_us = !reply.is_completed() && words.any(|word| matches!(word, "helo" | "ehlo"));
    about_us.then(|| reply.refusal(to, &hint(name)))
}

fn hint(name: &str) -> String {
    format!(" because of our name `{name}` (set `hello` to this host's full name)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fully_qualified_host_name_is_used_in_ehlo() {
        for (host, name) in [
            ("vm", None),
            ("", None),
            ("localhost", None),
            ("localhost.localdomain", None),
            ("alerts.example.com", Some("alerts.example.com")),
            ("alerts.example.com.", Some("alerts.example.com")),
            ("my_host.example.com", None),
            ("a..b", None),
            ("192.0.2.1", None),
            ("x y.example.com", None),
        ] {
            assert_eq!(full_name(host), name, "{host}");
        }
    }

    #[test]
    fn an_address_literal_names_the_family_only_of_ipv6() {
        assert_eq!(literal("192.0.2.7".parse().unwrap()), "[192.0.2.7]");
        assert_eq!(literal("2001:db8::7".parse().unwrap()), "[IPv6:2001:db8::7]");
    }
}
