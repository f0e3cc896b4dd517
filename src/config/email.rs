//! Decodes a notifier with `type: email`: the mail server, the addresses, and the login.

use super::catalog::OAUTH2;
use super::cursor::Cursor;
use super::model::{ChannelConfig, EmailTlsConfig, OAuth2};
use super::problem::ValueError;
use super::section::Section;
use super::{secrets, values};
use crate::util::secret::Secret;

/// Maximum number of recipients of one notifier.
const MAX_RECIPIENTS: usize = 50;

/// Login at the mail server.
struct EmailLogin {
    username: Option<String>,
    password: Option<Secret>,
    oauth2: Option<OAuth2>,
}

/// Reads an email notifier.
pub(super) fn email(section: &Section<'_>, insecure: bool) -> Option<ChannelConfig> {
    let host = section.required("host", "the name of a mail server").and_then(|cursor| cursor.read(values::host));
    let tls = tls(section, host.as_deref(), insecure);
    let port = match section.get("port") {
        Some(cursor) => cursor.read(values::port),
        None => tls.map(default_port),
    };
    let login = login(section, insecure);
    let hello = section.read_optional("hello", values::hello);
    let from = section.required("from", "the sender's email address").and_then(|cursor| cursor.read(values::mailbox));
    let to = section.required("to", "a list of email addresses").and_then(|cursor| recipients(&cursor));
    let EmailLogin { username, password, oauth2 } = login?;
    Some(ChannelConfig::Email {
        host: host?,
        port: port?,
        tls: tls?,
        credentials: username.clone().zip(password),
        oauth2: username.zip(oauth2.map(Box::new)),
        hello: hello?,
        from: from?,
        to: to?,
    })
}

/// Reads user name, password and OAuth 2.0 credentials. Returns `None` if `oauth2` is wrong: the mailbox alone is no login.
fn login(section: &Section<'_>, insecure: bool) -> Option<EmailLogin> {
    let username = section.get("username").map(|cursor| cursor.read(values::line));
    let password = secrets::secret(section, "password", "password_file", false, |_| Ok(()));
    let has_password = section.get("password").or_else(|| section.get("password_file"));
    let oauth2 = section.get("oauth2").map(|cursor| oauth2(&cursor, insecure));
    match (&username, &has_password, &oauth2) {
        (None, None, Some(_)) => section.missing("username", "the mailbox to log in to, beside `oauth2`"),
        (None, Some(password), _) if !section.has_misspelt("username") => {
            let found = "a password without a username";
            password.refuse("missing `username` for the password", found, "`username` beside it");
        }
        (Some(_), None, None) => {
            section.missing("password", "`password`, `password_file` or `oauth2` beside `username`");
        }
        _ => {}
    }
    let oauth2 = match oauth2 {
        Some(read) => Some(read?),
        None => None,
    };
    Some(EmailLogin { username: username.flatten(), password, oauth2 })
}

fn default_port(tls: EmailTlsConfig) -> u16 {
    match tls {
        EmailTlsConfig::Implicit => 465,
        EmailTlsConfig::Starttls => 587,
        EmailTlsConfig::None => 25,
    }
}

fn tls(section: &Section<'_>, host: Option<&str>, insecure: bool) -> Option<EmailTlsConfig> {
    let modes = [
        ("implicit", EmailTlsConfig::Implicit),
        ("starttls", EmailTlsConfig::Starttls),
        ("none", EmailTlsConfig::None),
    ];
    let tls = section.read_or_default("tls", values::choice("is not a kind of encryption", &modes))?;
    if tls == EmailTlsConfig::None && !insecure && !host.is_none_or(values::is_loopback) {
        let expected = "implicit or starttls (none is for loopback only, or with `allow_insecure: true`)";
        section.get("tls")?.report(ValueError::new("is not encrypted", expected));
    }
    Some(tls)
}

fn recipients(cursor: &Cursor<'_>) -> Option<Vec<lettre::message::Mailbox>> {
    let expected = format!("a list of one to {MAX_RECIPIENTS} email addresses");
    let items = cursor.items(&expected)?;
    let all = items.len();
    if all > MAX_RECIPIENTS {
        cursor.refuse("too many email addresses", format!("{all} addresses"), expected);
    }
    let to: Vec<_> = items.iter().filter_map(|item| item.read(values::mailbox)).collect();
    (to.len() == all).then_some(to)
}

/// Reads OAuth 2.0 client credentials.
fn oauth2(cursor: &Cursor<'_>, insecure: bool) -> Option<OAuth2> {
    let section = cursor.section(OAUTH2)?;
    let token_url = section.required("token_url", "the address of the token endpoint");
    let token_url = token_url.and_then(|cursor| cursor.read(|text| values::secure_web(text, insecure)));
    let client_id = section.required("client_id", "the id of the application");
    let client_id = client_id.and_then(|cursor| cursor.read(values::line));
    let client_secret = secrets::secret(&section, "client_secret", "client_secret_file", true, |_| Ok(()));
    let scope = section.read_optional("scope", values::line);
    Some(OAuth2 { token_url: token_url?, client_id: client_id?, client_secret: client_secret?, scope: scope? })
}
