//! A map of known keys: reports unknown, excluded and missing ones. A mistake is reported once: a required key that is only
//! misspelt is not reported as missing, too.

use super::cursor::Cursor;
use super::keys::{self, Key};
use super::problem::{ProblemReport, ValueError, one_of, printable, quoted};
use super::syntax;
use super::tree::{NodeEntry, SourceLocation};
use super::vocabulary::shown_key;

/// Returns the default of a key, as `catalog` describes it.
pub(super) fn default<T>(known: &'static [Key], key: &str, parse: impl Fn(&str) -> Result<T, ValueError>) -> Option<T> {
    parse(known.iter().find(|known| known.name == key)?.default?).ok()
}

/// A map of known keys.
pub(super) struct Section<'a> {
    pub(super) at: Cursor<'a>,
    entries: &'a [NodeEntry],
    known: &'static [Key],
    /// Known keys that unknown ones probably stand for.
    misspelt: Vec<String>,
}

impl<'a> Cursor<'a> {
    /// Opens a map of known keys and reports unknown ones.
    pub(super) fn section(&self, known: &'static [Key]) -> Option<Section<'a>> {
        self.section_of(known, "", |_| true)
    }

    /// Opens a map of known keys of which only those that `fits` accepts belong there. `kind` names such a section in
    /// messages, such as "a Slack notifier".
    pub(super) fn section_of(
        &self,
        known: &'static [Key],
        kind: &str,
        fits: impl Fn(&Key) -> bool + Copy,
    ) -> Option<Section<'a>> {
        let fitting = known.iter().filter(move |key| fits(key)).map(|key| key.name);
        let expected = format!("a map with the keys {}", fitting.clone().collect::<Vec<_>>().join(", "));
        let entries = self.entries(&expected)?;
        let mut section = Section { at: self.clone(), entries, known, misspelt: Vec::new() };
        for entry in entries {
            match known.iter().find(|key| key.name == entry.key) {
                Some(key) if fits(key) => {}
                Some(_) => section.refuse_foreign(entry, kind, fitting.clone()),
                None => section.refuse_unknown(entry, fitting.clone()),
            }
        }
        keys::alternatives(known).for_each(|row| section.refuse_alternatives(row));
        Some(section)
    }
}

impl<'a> Section<'a> {
    /// Returns the value of a key, if it is there.
    pub(super) fn get(&self, key: &str) -> Option<Cursor<'a>> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| self.at.below(entry))
    }

    /// Returns the value of a key, or `None` after reporting that it is missing.
    pub(super) fn required(&self, key: &str, expected: &str) -> Option<Cursor<'a>> {
        let found = self.get(key);
        if found.is_none() {
            self.missing(key, expected);
        }
        found
    }

    /// Reports that a key is missing, unless it or an alternative to it is only misspelt.
    pub(super) fn missing(&self, key: &str, expected: &str) {
        if self.has_misspelt(key) || keys::excluded_by(key, self.known).any(|other| self.has_misspelt(other)) {
            return;
        }
        let message = format!("missing required key `{key}`");
        self.at.report_at_key(self.at.path_of(key), message, "nothing".to_owned(), expected.to_owned());
    }

    /// Returns `true` if a key is there under a name that is close to it.
    pub(super) fn has_misspelt(&self, key: &str) -> bool {
        self.misspelt.iter().any(|misspelt| misspelt == key)
    }

    /// Returns a scalar by its key; `None` if it is missing, or wrong and reported.
    pub(super) fn read<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, ValueError>) -> Option<T> {
        self.get(key)?.read(parse)
    }

    /// Returns a scalar by its key, or its default from `catalog`; `None` if it is wrong and reported.
    pub(super) fn read_or_default<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, ValueError>) -> Option<T> {
        self.get(key).map_or_else(|| default(self.known, key, &parse), |cursor| cursor.read(&parse))
    }

    /// Returns a scalar by its key, or `default` without the key; `None` if it is wrong and reported.
    pub(super) fn read_or<T>(&self, key: &str, default: T, parse: impl Fn(&str) -> Result<T, ValueError>) -> Option<T> {
        self.get(key).map_or(Some(default), |cursor| cursor.read(parse))
    }

    /// Returns `Some(None)` without the key, `Some(value)` for a valid scalar, and `None` for a wrong one.
    pub(super) fn read_optional<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, ValueError>,
    ) -> Option<Option<T>> {
        self.read_or(key, None, |text| parse(text).map(Some))
    }

    /// Reports each of these keys that is there beside one before it.
    fn refuse_alternatives(&self, row: &[&str]) {
        let mut present = row.iter().filter_map(|key| Some((*key, self.get(key)?)));
        let Some((first, one)) = present.next() else { return };
        let first = match &one.node.place {
            SourceLocation::At(..) => quoted(first),
            SourceLocation::Variable(name) => format!("{} ({})", quoted(first), printable(name)),
        };
        for (key, other) in present {
            let message = format!("{} and {first} exclude each other", quoted(key));
            let found = format!("{} beside {first}", quoted(key));
            other.refuse(message, found, "only one of them");
        }
    }

    /// Reports those of these keys that are there although they do not belong in `kind`.
    pub(super) fn refuse_keys(&self, keys: &[&str], kind: &str, expected: &str) {
        for entry in self.entries.iter().filter(|entry| keys.contains(&entry.key.as_str())) {
            self.report_key(entry, format!("{} is not a key of {kind}", quoted(&entry.key)), expected.to_owned(), None);
        }
    }

    /// Reports a key that belongs in another kind of this section.
    fn refuse_foreign(&mut self, entry: &NodeEntry, kind: &str, fitting: impl Iterator<Item = &'static str> + Clone) {
        let suggestion = self.suggest(&entry.key, fitting.clone());
        let message = format!("{} is not a key of {kind}", quoted(&entry.key));
        self.report_key(entry, message, one_of(fitting), suggestion);
    }

    fn refuse_unknown(&mut self, entry: &NodeEntry, fitting: impl Iterator<Item = &'static str> + Clone) {
        let begins_with = |key: &str| entry.key.strip_prefix(key).is_some_and(|rest| rest.starts_with(' '));
        let instead = if entry.key == "<<" {
            Some(("merge keys are not supported", "an alias (`*name`) in place of a whole section"))
        } else if fitting.clone().any(begins_with) {
            Some(syntax::WITHOUT_COLON)
        } else {
            syntax::forgotten(&entry.key)
        };
        if let Some((message, expected)) = instead {
            let word = entry.key.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
            self.misspelt.push(word.to_owned());
            self.report_key(entry, message.to_owned(), expected.to_owned(), None);
            return;
        }
        let suggestion = self.suggest(&entry.key, fitting.clone());
        let message = format!("unknown key {}", quoted(shown_key(&entry.key)));
        self.report_key(entry, message, one_of(fitting), suggestion);
    }

    /// Returns the key that is probably meant by `name`, and notes it as misspelt.
    fn suggest(&mut self, name: &str, fitting: impl Iterator<Item = &'static str> + Clone) -> Option<String> {
        let mut free = fitting.clone().filter(|key| self.get(key).is_none());
        let contains = |key: &&str| {
            let (long, short) = if key.len() < name.len() { (name, *key) } else { (*key, name) };
            short.len() >= 3 && (long.starts_with(short) || long.ends_with(&format!("_{short}")))
        };
        let near = self.at.ctx.nearest(name, fitting).or_else(|| free.find(contains).map(str::to_owned));
        self.misspelt.extend(near.clone());
        near
    }

    fn report_key(&self, entry: &NodeEntry, message: String, expected: String, suggestion: Option<String>) {
        let shown = shown_key(&entry.key);
        let report = ProblemReport::error(self.at.path_of(&entry.key), message, quoted(shown), expected);
        self.at.ctx.report(&entry.place, ProblemReport { suggestion, source: Some(shown.to_owned()), ..report });
    }
}
