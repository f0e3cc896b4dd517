//! Decodes `notifiers` and checks that their fallbacks form no loop.

use std::collections::BTreeMap;

use chrono_tz::Tz;

use super::catalog::NOTIFIER;
use super::context::LoadContext;
use super::cursor::Cursor;
use super::keys::Key;
use super::model::NotifierConfig;
use super::problem::ValueError;
use super::{channels, quiet, secrets, templates};
use crate::domain::Name;

/// A notifier, as far as it is valid.
pub(super) type NotifierDraft = (Name, Option<NotifierConfig>);

pub(super) fn notifiers(cursor: &Cursor<'_>, timezone: Tz) -> Vec<NotifierDraft> {
    let found = cursor.named("notifier");
    let names: Vec<Name> = found.iter().map(|(name, _)| Name::clone(name)).collect();
    let mut fallbacks = Fallbacks::default();
    let mut drafts = Vec::new();
    for (name, cursor) in found {
        drafts.push((Name::clone(&name), notifier(&name, &cursor, &names, &mut fallbacks, timezone)));
    }
    fallbacks.refuse_cycles();
    drafts
}

fn notifier<'a>(
    name: &Name,
    cursor: &Cursor<'a>,
    names: &[Name],
    fallbacks: &mut Fallbacks<'a>,
    timezone: Tz,
) -> Option<NotifierConfig> {
    let channel_type = channels::type_of(cursor);
    let kind = channel_type.map_or("a notifier", |channel_type| channel_type.kind);
    let fits = |key: &Key| channel_type.is_none_or(|channel_type| key.fits_type(channel_type.name));
    let section = cursor.section_of(NOTIFIER, kind, fits)?;
    let connection = secrets::connection(&section);
    let insecure = secrets::allow_insecure(&section);
    let fallback = section.get("fallback").and_then(|cursor| {
        let target = cursor.read(|text| known_name(cursor.ctx, text, names, "notifiers"))?;
        fallbacks.0.insert(Name::clone(name), (Name::clone(&target), cursor));
        Some(target)
    });
    let quiet_hours = section.get("quiet_hours").and_then(|cursor| quiet::quiet_hours(&cursor, timezone));
    let templates = templates::templates(&section);
    let channel = channels::channel(&section, insecure);
    Some(NotifierConfig { channel: channel?, fallback, quiet_hours, connection, templates: templates? })
}

/// Parses a name that is one of `names`, the keys of the section `section`. Any name is accepted if the section is empty or
/// missing, since that is a problem of its own.
pub(super) fn known_name(ctx: &LoadContext<'_>, text: &str, names: &[Name], section: &str) -> Result<Name, ValueError> {
    if names.is_empty() {
        return Ok(Name::from(text));
    }
    let found = names.iter().find(|name| name.as_ref() == text).cloned();
    let predicate = match section {
        "accounts" => "is not the name of an account",
        "notifiers" => "is not the name of a notifier",
        _ => "is not the name of a rule",
    };
    found.ok_or_else(|| {
        let suggestion = ctx.nearest(text, names.iter().map(AsRef::as_ref));
        ValueError::new(predicate, format!("a name under `{section}`")).suggesting(suggestion)
    })
}

/// Fallbacks by the name of their notifier, each with its position.
#[derive(Default)]
struct Fallbacks<'a>(BTreeMap<Name, (Name, Cursor<'a>)>);

impl Fallbacks<'_> {
    /// Reports each loop once, at its first notifier by name.
    fn refuse_cycles(&self) {
        for (start, (_, cursor)) in &self.0 {
            let mut chain = vec![Name::clone(start)];
            while let Some((next, _)) = chain.last().and_then(|last| self.0.get(last)) {
                if next == start {
                    let path: Vec<&str> = chain.iter().chain([next]).map(AsRef::as_ref).collect();
                    let expected = format!("a fallback that does not lead back to its start ({})", path.join(" → "));
                    cursor.report(ValueError::new("leads back to its start", expected));
                    break;
                }
                // Beyond a smaller name lies either the loop of that one, or no loop of this start.
                if next < start || chain.contains(next) {
                    break;
                }
                chain.push(Name::clone(next));
            }
        }
    }
}
