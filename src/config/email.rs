//! `type: email`: a mail server, who writes to whom, and how to log in.

use super::cursor::{Cursor, Section};
use super::keys::OAUTH2;
use super::{ChannelConfig, EmailTlsConfig, OAuth2, secrets, values};

/// Most recipients of one notifier.
const MAX_RECIPIENTS: usize = 50;

/// Reads an e-mail notifier.
pub(super) fn email(section: &Section<'_>, insecure: bool) -> Option<ChannelConfig> {
    let host = section.required("host", "the name of a mail server").and_then(|cursor| cursor.read(values::host));
    let tls = tls(section, host.as_deref(), insecure);
    let port = match section.get("port") {
        Some(cursor) => cursor.read(values::port),
        None => tls.map(|tls| match tls {
            EmailTlsConfig::Implicit => 465,
            EmailTlsConfig::Starttls => 587,
            EmailTlsConfig::None => 25,
        }),
    };
    let username = section.get("username").map(|cursor| cursor.read(values::line));
    let password = secrets::secret(section, "password", "password_file", false, |_| Ok(()));
    let has_password = section.get("password").or_else(|| section.get("password_file"));
    let oauth2 = section.get("oauth2").map(|cursor| oauth2(&cursor, insecure));
    match (&username, &has_password, &oauth2) {
        (None, None, Some(_)) => section.missing("username", "the mailbox that is logged in to, beside `oauth2`"),
        (None, Some(password), _) => password.refuse("a password without a username", "`username` beside it"),
        (Some(_), None, None) => {
            section.missing("password", "`password`, `password_file` or `oauth2` beside `username`");
        }
        _ => {}
    }
    let hello = section.get("hello").map(|cursor| cursor.read(values::hello));
    let from = section.required("from", "the sender's mail address").and_then(|cursor| cursor.read(values::mailbox));
    let to = section.required("to", "a list of mail addresses").and_then(|cursor| recipients(&cursor));
    // What is wrong with it has been reported; the mailbox alone is no login.
    let oauth2 = match oauth2 {
        Some(read) => Some(read?),
        None => None,
    };
    let hello = match hello {
        Some(read) => Some(read?),
        None => None,
    };
    let username = username.flatten();
    Some(ChannelConfig::Email {
        host: host?,
        port: port?,
        tls: tls?,
        credentials: username.clone().zip(password),
        oauth2: username.zip(oauth2.map(Box::new)),
        hello,
        from: from?,
        to: to?,
    })
}

fn tls(section: &Section<'_>, host: Option<&str>, insecure: bool) -> Option<EmailTlsConfig> {
    let Some(cursor) = section.get("tls") else { return Some(EmailTlsConfig::Implicit) };
    let tls = cursor.read(values::choice(&[
        ("implicit", EmailTlsConfig::Implicit),
        ("starttls", EmailTlsConfig::Starttls),
        ("none", EmailTlsConfig::None),
    ]))?;
    if tls == EmailTlsConfig::None && !insecure && !host.is_none_or(values::is_loopback) {
        cursor.report("implicit or starttls (none is for loopback only, or with `allow_insecure: true`)".into());
    }
    Some(tls)
}

fn recipients(cursor: &Cursor<'_>) -> Option<Vec<lettre::message::Mailbox>> {
    let expected = format!("a list of one to {MAX_RECIPIENTS} mail addresses");
    let items = cursor.items(&expected)?;
    let all = items.len();
    if all > MAX_RECIPIENTS {
        cursor.refuse(format!("{all} addresses"), expected);
    }
    let to: Vec<_> = items.iter().filter_map(|item| item.read(values::mailbox)).collect();
    (to.len() == all).then_some(to)
}

/// Whom to ask for a token, and with what.
fn oauth2(cursor: &Cursor<'_>, insecure: bool) -> Option<OAuth2> {
    let section = cursor.section(OAUTH2)?;
    let token_url = section.required("token_url", "the address of the token endpoint");
    let token_url = token_url.and_then(|cursor| cursor.read(|text| values::secure_web(text, insecure)));
    let client_id = section.required("client_id", "the id of the application");
    let client_id = client_id.and_then(|cursor| cursor.read(values::line));
    let client_secret = secrets::secret(&section, "client_secret", "client_secret_file", true, |_| Ok(()));
    let scope = section.get("scope").map(|cursor| cursor.read(values::line));
    let scope = match scope {
        Some(read) => Some(read?),
        None => None,
    };
    Some(OAuth2 { token_url: token_url?, client_id: client_id?, client_secret: client_secret?, scope })
}
