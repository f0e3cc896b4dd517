//! `notifiers`: where messages go, and who stands in for whom.

use std::collections::BTreeMap;

use chrono_tz::Tz;

use super::cursor::{Cursor, LoadContext, ValueError};
use super::keys::NOTIFIER;
use super::{NotifierConfig, channels, quiet, secrets, templates};
use crate::domain::Name;

/// A notifier as far as it can be understood.
pub(super) type NotifierDraft = (Name, Option<NotifierConfig>);

/// Reads all notifiers.
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
    let section = cursor.section(NOTIFIER)?;
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

/// A name that is one of `names`, which stand under the key `section`.
pub(super) fn known_name(ctx: &LoadContext<'_>, text: &str, names: &[Name], section: &str) -> Result<Name, ValueError> {
    let found = names.iter().find(|name| name.as_ref() == text).cloned();
    found.ok_or_else(|| {
        let known = names.iter().map(AsRef::as_ref);
        ValueError { found: None, expected: format!("a name under `{section}`"), suggestion: ctx.nearest(text, known) }
    })
}

/// Who stands in for whom, with the place that says so.
#[derive(Default)]
struct Fallbacks<'a>(BTreeMap<Name, (Name, Cursor<'a>)>);

impl Fallbacks<'_> {
    /// Reports each circle once, at its first notifier by name.
    fn refuse_cycles(&self) {
        for (start, (_, cursor)) in &self.0 {
            let mut chain = vec![Name::clone(start)];
            while let Some((next, _)) = chain.last().and_then(|last| self.0.get(last)) {
                if next == start {
                    let path: Vec<&str> = chain.iter().chain([next]).map(AsRef::as_ref).collect();
                    let expected = format!("a fallback that does not lead back to its start ({})", path.join(" → "));
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
