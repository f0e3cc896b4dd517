//! `notifiers`: where messages go, and who stands in for whom.

use std::collections::BTreeMap;

use chrono_tz::Tz;

use super::cursor::{Context, Cursor, Fault, Section};
use super::keys::{EMAIL_ONLY, MENTION, NOTIFIER, SLACK_ONLY};
use super::{Channel, NotifierConfig, Tls, quiet, secrets, values};
use crate::domain::Name;
use crate::domain::rule::Severity;

/// A notifier as far as it can be understood.
pub(super) type Draft = (Name, Option<NotifierConfig>);

/// Most recipients of one notifier.
const MOST_RECIPIENTS: usize = 50;

#[derive(Clone, Copy)]
enum Type {
    Slack,
    Email,
}

/// Reads all notifiers.
pub(super) fn notifiers(cursor: &Cursor<'_>, timezone: Tz) -> Vec<Draft> {
    let found = cursor.named("notifier");
    let names: Vec<Name> = found.iter().map(|(name, _)| Name::clone(name)).collect();
    let mut fallbacks = Fallbacks::default();
    let mut drafts = Vec::new();
    for (name, cursor) in found {
        drafts.push((Name::clone(&name), notifier(&name, &cursor, &names, &mut fallbacks, timezone)));
    }
    fallbacks.refuse_circles();
    drafts
}

fn notifier<'a>(
    name: &Name,
    cursor: &Cursor<'a>,
    names: &[Name],
    fallbacks: &mut Fallbacks<'a>,
    timezone: Tz,
) -> Option<NotifierConfig> {
    let section = cursor.section(NOTIFIER)?;
    let connection = secrets::connection(&section);
    let insecure = secrets::allow_insecure(&section);
    let fallback = section.get("fallback").and_then(|cursor| {
        let target = cursor.read(|text| known_name(cursor.ctx, text, names, "notifiers"))?;
        fallbacks.0.insert(Name::clone(name), (Name::clone(&target), cursor));
        Some(target)
    });
    let quiet_hours = section.get("quiet_hours").and_then(|cursor| quiet::quiet_hours(&cursor, timezone));
    let types = [("slack", Type::Slack), ("email", Type::Email)];
    let channel = match section.required("type", "slack or email")?.read(values::choice(&types))? {
        Type::Slack => {
            section.refuse_keys(
                EMAIL_ONLY,
                "only keys of a `type: slack` notifier: webhook_url, webhook_url_file, mention, fallback, …",
            );
            slack(&section, insecure)
        }
        Type::Email => {
            section.refuse_keys(
                SLACK_ONLY,
                "only keys of a `type: email` notifier: host, port, tls, username, password, from, to, …",
            );
            email(&section, insecure)
        }
    };
    Some(NotifierConfig { channel: channel?, fallback, quiet_hours, connection })
}

/// A name that is one of `names`, which stand under the key `section`.
pub(super) fn known_name(ctx: &Context<'_>, text: &str, names: &[Name], section: &str) -> Result<Name, Fault> {
    let found = names.iter().find(|name| name.as_ref() == text).cloned();
    found.ok_or_else(|| {
        let known = names.iter().map(AsRef::as_ref);
        Fault { found: None, expected: format!("a name under `{section}`"), suggestion: ctx.nearest(text, known) }
    })
}

fn slack(section: &Section<'_>, insecure: bool) -> Option<Channel> {
    let address = |text: &str| values::secure_web(text, insecure).map(|_| ());
    let webhook_url = secrets::secret(section, "webhook_url", "webhook_url_file", true, address);
    let mut mention = BTreeMap::new();
    if let Some(levels) = section.get("mention").and_then(|cursor| cursor.section(MENTION)) {
        for severity in [Severity::Warning, Severity::Critical] {
            mention.extend(levels.read(&severity.to_string(), values::line).map(|text| (severity, text)));
        }
    }
    Some(Channel::Slack { webhook_url: webhook_url?, mention })
}

fn email(section: &Section<'_>, insecure: bool) -> Option<Channel> {
    let host = section.required("host", "the name of a mail server").and_then(|cursor| cursor.read(values::host));
    let tls = tls(section, host.as_deref(), insecure);
    let port = match section.get("port") {
        Some(cursor) => cursor.read(values::port),
        None => tls.map(|tls| match tls {
            Tls::Implicit => 465,
            Tls::Starttls => 587,
            Tls::None => 25,
        }),
    };
    let username = section.get("username").map(|cursor| cursor.read(values::line));
    let password = secrets::secret(section, "password", "password_file", false, |_| Ok(()));
    let has_password = section.get("password").or_else(|| section.get("password_file"));
    match (&username, &has_password) {
        (None, Some(password)) => password.refuse("a password without a username", "`username` beside it"),
        (Some(_), None) => section.missing("password", "`password` or `password_file` beside `username`"),
        _ => {}
    }
    let from = section.required("from", "the sender's mail address").and_then(|cursor| cursor.read(values::mailbox));
    let to = section.required("to", "a list of mail addresses").and_then(|cursor| recipients(&cursor));
    Some(Channel::Email {
        host: host?,
        port: port?,
        tls: tls?,
        credentials: username.flatten().zip(password),
        from: from?,
        to: to?,
    })
}

fn tls(section: &Section<'_>, host: Option<&str>, insecure: bool) -> Option<Tls> {
    let Some(cursor) = section.get("tls") else { return Some(Tls::Implicit) };
    let tls = cursor.read(values::choice(&[
        ("implicit", Tls::Implicit),
        ("starttls", Tls::Starttls),
        ("none", Tls::None),
    ]))?;
    if tls == Tls::None && !insecure && !host.is_none_or(values::is_loopback) {
        cursor.report("implicit or starttls (none is for loopback only, or with `allow_insecure: true`)".into());
    }
    Some(tls)
}

fn recipients(cursor: &Cursor<'_>) -> Option<Vec<lettre::message::Mailbox>> {
    let expected = format!("a list of one to {MOST_RECIPIENTS} mail addresses");
    let items = cursor.items(&expected)?;
    let all = items.len();
    if all > MOST_RECIPIENTS {
        cursor.refuse(format!("{all} addresses"), expected);
    }
    let to: Vec<_> = items.iter().filter_map(|item| item.read(values::mailbox)).collect();
    (to.len() == all).then_some(to)
}

/// Who stands in for whom, with the place that says so.
#[derive(Default)]
struct Fallbacks<'a>(BTreeMap<Name, (Name, Cursor<'a>)>);

impl Fallbacks<'_> {
    /// Reports each circle once, at its first notifier by name.
    fn refuse_circles(&self) {
        for (start, (_, cursor)) in &self.0 {
            let mut chain = vec![Name::clone(start)];
            while let Some((next, _)) = chain.last().and_then(|last| self.0.get(last)) {
                if next == start {
                    let way: Vec<&str> = chain.iter().chain([next]).map(AsRef::as_ref).collect();
                    let expected = format!("a fallback that does not lead back to its start ({})", way.join(" → "));
                    cursor.report(expected.into());
                    break;
                }
                // Beyond a smaller name it is either the circle of that one, or no circle of this start.
                if next < start || chain.contains(next) {
                    break;
                }
                chain.push(Name::clone(next));
            }
        }
    }
}
