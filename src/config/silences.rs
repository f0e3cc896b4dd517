//! `silences`: what nobody wants to hear for a while. Each has an end; one whose end has passed is warned about, and no
//! more: files outlive silences.

use std::collections::BTreeMap;

use chrono_tz::Tz;

use super::accounts::AccountDraft;
use super::cursor::{Cursor, ValueError};
use super::keys::SILENCE;
use super::notifiers::known_name;
use super::tree::NodeKind;
use super::values;
use crate::domain::rule::{Severity, UNREADABLE};
use crate::domain::silence::Silence;
use crate::domain::{Name, Time};
use crate::polling::schedule::parse_moment;

/// What silences refer to.
pub(super) struct SilenceReferences<'k> {
    pub(super) accounts: &'k [AccountDraft],
    pub(super) account_names: &'k [Name],
    /// The rules, those with problems among them, and the alert about unreadable balances.
    pub(super) rules: Vec<Name>,
    pub(super) timezone: Tz,
    pub(super) now: Time,
}

/// Reads all silences; those with problems, and those that have ended, are left out.
pub(super) fn silences(cursor: &Cursor<'_>, references: &SilenceReferences<'_>) -> BTreeMap<Name, Silence> {
    // The last silence goes, its key may stay.
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
    let division = section.get("division").map(|cursor| {
        cursor.read(|text| values::division(text).and_then(|id| reachable(id, account.as_ref(), references)))
    });
    let rule =
        section.get("rule").map(|cursor| cursor.read(|text| known_name(cursor.ctx, text, &references.rules, "rules")));
    let levels = [("warning", Severity::Warning), ("critical", Severity::Critical)];
    let level = section.get("level").map_or(Some(Severity::Warning), |cursor| cursor.read(values::choice(&levels)));
    let reason = section.get("reason").map(|cursor| cursor.read(values::reason));
    let end = section.required("until", &format!("when it ends: {}", values::MOMENT));
    let until = end.as_ref().and_then(|cursor| cursor.read(|text| values::moment(text, references.timezone)));
    let silence = Silence {
        account: account?,
        division: division.map_or(Some(None), |id| id.map(Some))?,
        rule: rule.map_or(Some(None), |rule| rule.map(Some))?,
        until: until?,
        reason: reason.map_or(Some(None), |reason| reason.map(Some))?,
        level: level?,
        created_at: None,
    };
    if silence.ended(references.now) {
        end?.warn("a later time, or the silence taken out: it has ended and hushes nothing");
        return None;
    }
    Some(silence)
}

/// Whether the account can have this division: a silence that can never hush anything is a mistake.
fn reachable(id: u64, account: Option<&Name>, references: &SilenceReferences<'_>) -> Result<u64, ValueError> {
    let draft = references.accounts.iter().find(|draft| Some(&draft.name) == account);
    let has = draft.and_then(|draft| draft.divisions.as_ref()).is_none_or(|divisions| divisions.can_have(id));
    if has { Ok(id) } else { Err("a division that this account reads (its `divisions`)".into()) }
}

/// The names that a silence's `rule` may have.
pub(super) fn rule_names(rules: Option<&Cursor<'_>>) -> Vec<Name> {
    let Some(NodeKind::Map(entries)) = rules.map(|cursor| &cursor.node.kind) else { return vec![UNREADABLE.into()] };
    entries.iter().map(|entry| Name::from(entry.key.as_str())).chain([UNREADABLE.into()]).collect()
}

/// Why something is silenced, as the command line gives it.
pub fn silence_reason(text: &str) -> Result<String, String> {
    values::reason(text).map_err(|error| error.expected)
}

impl super::Config {
    /// A silence in this configuration's own words, or why it makes no sense here; for one that is made by command.
    pub fn silence(&self, account: &str, division: Option<u64>, rule: Option<&str>) -> Result<Silence, String> {
        let names =
            |names: Vec<&Name>| names.iter().map(|name| crate::util::text::clean(name)).collect::<Vec<_>>().join(", ");
        let Some((account, settings)) = self.accounts.get_key_value(account) else {
            let known = names(self.accounts.keys().collect());
            return Err(format!("no account is called `{}`; there are {known}", crate::util::text::clean(account)));
        };
        if let Some(id) = division.filter(|id| !settings.divisions.can_have(*id)) {
            return Err(format!(
                "account {} reads no division {id} (its `divisions` in {})",
                crate::util::text::clean(account),
                self.file.display()
            ));
        }
        let unreadable = Name::from(UNREADABLE);
        let rules = || self.rules.iter().map(|rule| &rule.name).chain([&unreadable]);
        let found = rule.map(|requested| rules().find(|name| ***name == *requested).cloned());
        if let (Some(None), Some(requested)) = (&found, rule) {
            let known = names(rules().collect());
            return Err(format!("no rule is called `{}`; there are {known}", crate::util::text::clean(requested)));
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

/// When `--until` says, in the configuration's zone.
pub fn silence_end(text: &str, timezone: Tz) -> Result<Time, String> {
    parse_moment(text, timezone).ok_or_else(|| format!("not a time: {}", values::MOMENT))
}
