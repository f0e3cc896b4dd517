//! Decodes `silences`. A silence that has ended is only a warning, since files outlive silences.

use std::collections::BTreeMap;

use chrono_tz::Tz;

use super::accounts::AccountDraft;
use super::catalog::SILENCE;
use super::cursor::Cursor;
use super::model::Config;
use super::notifiers::known_name;
use super::problem::ValueError;
use super::tree::NodeKind;
use super::values;
use crate::domain::rule::{Severity, UNREADABLE};
use crate::domain::schedule::parse_moment;
use crate::domain::silence::Silence;
use crate::domain::{Name, Time};
use crate::util::text::clean;

/// Names and accounts that silences refer to.
pub(super) struct SilenceReferences<'k> {
    pub(super) accounts: &'k [AccountDraft],
    pub(super) account_names: &'k [Name],
    /// Names of all rules, including those with problems, and `unreadable`.
    pub(super) rules: Vec<Name>,
    pub(super) timezone: Tz,
    pub(super) now: Time,
}

/// Reads all silences and leaves out those with problems and those that have ended.
pub(super) fn silences(cursor: &Cursor<'_>, references: &SilenceReferences<'_>) -> BTreeMap<Name, Silence> {
    // The key may stay when the last silence is removed.
    if matches!(&cursor.node.kind, NodeKind::Map(entries) if entries.is_empty()) {
        return BTreeMap::new();
    }
    cursor
        .named("silence")
        .into_iter()
        .filter_map(|(name, cursor)| Some((name, silence(&cursor, references)?)))
        .collect()
}

fn silence(cursor: &Cursor<'_>, references: &SilenceReferences<'_>) -> Option<Silence> {
    let section = cursor.section(SILENCE)?;
    let account = section
        .required("account", "a name under `accounts`")
        .and_then(|cursor| cursor.read(|text| known_name(cursor.ctx, text, references.account_names, "accounts")));
    let division = section.read_optional("division", |text| {
        values::division(text).and_then(|id| reachable(id, account.as_ref(), references))
    });
    let rule = section.read_optional("rule", |text| known_name(cursor.ctx, text, &references.rules, "rules"));
    let level = section.read_or_default("level", values::level);
    let reason = section.read_optional("reason", values::reason);
    let end = section.required("until", values::MOMENT);
    let until = end.as_ref().and_then(|cursor| cursor.read(|text| values::moment(text, references.timezone)));
    let silence = Silence {
        account: account?,
        division: division?,
        rule: rule?,
        until: until?,
        reason: reason?,
        level: level?,
        created_at: None,
    };
    if silence.ended(references.now) {
        end?.warn("the silence has ended and has no effect", "a later time, or no such silence");
        return None;
    }
    Some(silence)
}

/// Returns the division if the account can have it. A silence that can never have an effect is a mistake.
fn reachable(id: u64, account: Option<&Name>, references: &SilenceReferences<'_>) -> Result<u64, ValueError> {
    let draft = references.accounts.iter().find(|draft| Some(&draft.name) == account);
    let has = draft.and_then(|draft| draft.divisions.as_ref()).is_none_or(|divisions| divisions.can_have(id));
    let expected = "a division that this account reads (its `divisions`)";
    if has { Ok(id) } else { Err(ValueError::new("is not read by this account", expected)) }
}

/// Returns the names that the `rule` of a silence may have; empty if there are no rules to refer to.
pub(super) fn rule_names(rules: Option<&Cursor<'_>>) -> Vec<Name> {
    let Some(NodeKind::Map(entries)) = rules.map(|cursor| &cursor.node.kind) else { return Vec::new() };
    entries.iter().map(|entry| Name::from(entry.key.as_str())).chain([UNREADABLE.into()]).collect()
}

/// Parses the reason of a silence that a command creates.
pub fn silence_reason(text: &str) -> Result<String, String> {
    values::reason(text).map_err(|error| error.expected)
}

impl Config {
    /// Creates a silence with the names of this configuration, for a command. Fails if it refers to something that is not there.
    pub fn silence(&self, account: &str, division: Option<u64>, rule: Option<&str>) -> Result<Silence, String> {
        let names = |names: Vec<&Name>| names.iter().map(|name| clean(name)).collect::<Vec<_>>().join(", ");
        let Some((account, settings)) = self.accounts.get_key_value(account) else {
            let known = names(self.accounts.keys().collect());
            return Err(format!("no account is called `{}`; there are {known}", clean(account)));
        };
        if let Some(id) = division.filter(|id| !settings.divisions.can_have(*id)) {
            return Err(format!(
                "account {} reads no division {id} (its `divisions` in {})",
                clean(account),
                self.file.display()
            ));
        }
        let unreadable = Name::from(UNREADABLE);
        let rules = || self.rules.iter().map(|rule| &rule.name).chain([&unreadable]);
        let found = rule.map(|requested| rules().find(|name| ***name == *requested).cloned());
        if let (Some(None), Some(requested)) = (&found, rule) {
            let known = names(rules().collect());
            return Err(format!("no rule is called `{}`; there are {known}", clean(requested)));
        }
        Ok(Silence {
            account: account.clone(),
            division,
            rule: found.flatten(),
            until: Time::UNIX_EPOCH,
            reason: None,
            level: Severity::Warning,
            created_at: None,
        })
    }
}

/// Parses the end of a silence; a time without an offset is in `timezone`.
pub fn silence_end(text: &str, timezone: Tz) -> Result<Time, String> {
    parse_moment(text, timezone).ok_or_else(|| format!("not a time: {}", values::MOMENT))
}
