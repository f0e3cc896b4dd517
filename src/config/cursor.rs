//! A position in the tree: the value, its key path, and where to report problems with it.

use std::collections::HashSet;
use std::rc::Rc;

use super::context::LoadContext;
use super::interpolate::{ExpandError, expand};
use super::problem::{ProblemReport, ProblemSeverity, ValueError, ValueMessage, printable, quoted};
use super::syntax;
use super::tree::{Node, NodeEntry, NodeKind, SourceLocation};
use super::vocabulary::{is_secret, shown_key};
use crate::domain::Name;

/// Description of a value that must not be shown.
pub(super) const NOT_SHOWN: &str = "a value that is not shown";

/// Position of one value.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    pub(super) ctx: &'a LoadContext<'a>,
    pub(super) node: &'a Node,
    key: &'a str,
    key_place: &'a SourceLocation,
    pub(super) path: String,
}

impl<'a> Cursor<'a> {
    pub(super) fn root(ctx: &'a LoadContext<'a>, node: &'a Node) -> Self {
        Self { ctx, node, key: "", key_place: &node.place, path: String::new() }
    }

    /// Reports an error at this value.
    pub(super) fn refuse(&self, message: impl Into<String>, found: impl Into<String>, expected: impl Into<String>) {
        self.report(ValueError::sentence(message, expected).hiding(found));
    }

    /// Reports that `error` is wrong with this value.
    pub(super) fn report(&self, error: ValueError) {
        self.report_as(ProblemSeverity::Error, error);
    }

    /// Reports a problem that does not prevent the configuration from being used.
    pub(super) fn warn(&self, message: impl Into<String>, expected: impl Into<String>) {
        self.report_as(ProblemSeverity::Warning, ValueError::sentence(message, expected));
    }

    fn report_as(&self, severity: ProblemSeverity, error: ValueError) {
        let ValueError { message, found, mut expected, suggestion } = error;
        let hidden = found.is_some();
        if let (false, NodeKind::Text(text)) = (hidden, &self.node.kind)
            && let Some(known) = syntax::typographic_quote(text)
        {
            expected = format!("{expected} ({known})");
        }
        let message = match message {
            ValueMessage::Sentence(message) => message,
            ValueMessage::Predicate(predicate) => self.sentence(predicate, hidden),
        };
        let (place, source) = match &self.node.kind {
            NodeKind::Text(text) => (&self.node.place, self.visible(text, hidden)),
            _ => (self.key_place, Some(shown_key(self.key))),
        };
        let found = found.unwrap_or_else(|| self.shown());
        let (path, source) = (self.path.clone(), source.map(str::to_owned));
        self.ctx.report(place, ProblemReport { severity, path, message, found, expected, suggestion, source });
    }

    /// Returns the source text if an excerpt may show it.
    fn visible<'t>(&self, text: &'t str, hidden: bool) -> Option<&'t str> {
        let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        let is_variable = name.is_some_and(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
        (is_variable || (!hidden && !self.is_secret())).then_some(text)
    }

    /// Returns a sentence about the value. Its subject is the value, or the key where the value must not be shown.
    fn sentence(&self, predicate: &str, hidden: bool) -> String {
        match &self.node.kind {
            NodeKind::Text(text) if text.is_empty() => format!("{} is empty", self.name()),
            NodeKind::Text(text) if !hidden && !self.is_secret() => format!("{} {predicate}", quoted(text)),
            NodeKind::Text(_) => format!("the value of {} {predicate}", self.name()),
            NodeKind::Null => format!("{} is empty", self.name()),
            NodeKind::List(items) if items.is_empty() => format!("{} is an empty list", self.name()),
            NodeKind::Map(_) | NodeKind::List(_) => format!("{} cannot be {}", self.name(), self.shown()),
        }
    }

    /// Returns the key as messages name it, such as `` `notify[0]` ``.
    pub(super) fn name(&self) -> String {
        let name = self.path.rsplit('.').next().filter(|name| !name.is_empty());
        name.map_or_else(|| "the file".to_owned(), |name| format!("`{name}`"))
    }

    /// Describes the value as the source writes it.
    pub(super) fn shown(&self) -> String {
        match &self.node.kind {
            NodeKind::Null => "nothing".to_owned(),
            NodeKind::Map(_) => "a map".to_owned(),
            NodeKind::List(_) => "a list".to_owned(),
            NodeKind::Text(_) if self.is_secret() => NOT_SHOWN.to_owned(),
            NodeKind::Text(text) => quoted(text),
        }
    }

    fn is_secret(&self) -> bool {
        // Every value below `headers` is secret, whatever the header is called.
        self.path.rsplit('.').next().is_some_and(is_secret) || self.path.contains(".headers.")
    }

    /// Reports that the value has the wrong type.
    pub(super) fn refuse_type(&self, expected: impl Into<String>) {
        let found = if self.is_text() { "a text".to_owned() } else { self.shown() };
        let message = match &self.node.kind {
            NodeKind::Text(_) => format!("{} cannot be a text", self.name()),
            _ => self.sentence("", false),
        };
        self.refuse(message, found, expected);
    }

    /// Returns the entries of a map, or `None` after reporting that the value is something else.
    pub(super) fn entries(&self, expected: &str) -> Option<&'a [NodeEntry]> {
        match &self.node.kind {
            NodeKind::Map(entries) => return Some(entries),
            NodeKind::Text(text) if let Some((found, instead)) = syntax::forgotten(text) => {
                self.refuse(found, found, instead);
            }
            _ => self.refuse_type(expected),
        }
        None
    }

    /// Returns `true` for a scalar that is not null.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.node.kind, NodeKind::Text(_))
    }

    /// Returns `true` if the file writes the value with variables of the environment.
    pub(super) fn is_interpolated(&self) -> bool {
        matches!((&self.node.kind, &self.node.place), (NodeKind::Text(raw), SourceLocation::At(..)) if raw.contains("${"))
    }

    /// Returns `true` for a value that an environment variable gave in place of the file's.
    pub(super) fn is_override(&self) -> bool {
        matches!(self.node.place, SourceLocation::Variable(_))
    }

    /// Returns the value of a key of this map.
    pub(super) fn peek(&self, key: &str) -> Option<Cursor<'a>> {
        self.node.get(key).map(|entry| self.below(entry))
    }

    /// Returns the entries of a map whose keys are names that the user chooses.
    pub(super) fn named(&self, what: &str) -> Vec<(Name, Cursor<'a>)> {
        let expected = format!("at least one {what}, by its name");
        let Some(entries) = self.entries(&expected) else { return Vec::new() };
        if entries.is_empty() {
            self.refuse(format!("{} is empty", self.name()), "nothing", expected);
        }
        let mut named = Vec::new();
        for entry in entries {
            let cursor = self.below(entry);
            if entry.key.chars().any(char::is_control) || !(1..=64).contains(&entry.key.chars().count()) {
                let expected = format!("a name for the {what} of 1 to 64 characters, none of them a control character");
                let found = quoted(shown_key(&entry.key));
                let message = format!("invalid name {found}");
                self.ctx.report(&entry.place, ProblemReport::error(cursor.path.clone(), message, found, expected));
            }
            named.push((Name::from(entry.key.as_str()), cursor));
        }
        named
    }

    /// Returns the entries of a map of texts whose keys the user chooses.
    pub(super) fn texts(&self, expected: &str) -> Option<Vec<(&'a str, Cursor<'a>)>> {
        let entries = self.entries(expected)?;
        Some(entries.iter().map(|entry| (entry.key.as_str(), self.below(entry))).collect())
    }

    pub(super) fn below(&self, entry: &'a NodeEntry) -> Cursor<'a> {
        let path = self.path_of(&entry.key);
        Cursor { ctx: self.ctx, node: &entry.value, key: &entry.key, key_place: &entry.place, path }
    }

    /// Returns the path of a key of this map.
    pub(super) fn path_of(&self, key: &str) -> String {
        let key = printable(shown_key(key));
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }

    /// Reports an error at the key of this value.
    pub(super) fn report_at_key(&self, path: String, message: String, found: String, expected: String) {
        let source = Some(shown_key(self.key).to_owned());
        self.ctx
            .report(self.key_place, ProblemReport { source, ..ProblemReport::error(path, message, found, expected) });
    }

    /// Returns the items of a list that is not empty, or `None` after reporting something else.
    pub(super) fn items(&self, expected: &str) -> Option<Vec<Cursor<'a>>> {
        let NodeKind::List(items) = &self.node.kind else {
            let suggestion = match &self.node.kind {
                NodeKind::Text(text) if !self.is_secret() && !self.is_interpolated() => {
                    Some(format!("[{}]", printable(text)))
                }
                _ => None,
            };
            self.report(ValueError::new("is not a list", expected).suggesting(suggestion));
            return None;
        };
        if items.is_empty() {
            self.refuse(format!("{} is an empty list", self.name()), "an empty list", expected);
            return None;
        }
        let item = |(i, node): (usize, &'a Rc<Node>)| Cursor {
            ctx: self.ctx,
            node,
            key: self.key,
            key_place: &node.place,
            path: format!("{}[{i}]", self.path),
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// Returns the items of a list, each read by `parse`, without duplicates. Returns `None` if anything was reported.
    pub(super) fn distinct<T: Clone + Eq + std::hash::Hash>(
        &self,
        expected: &str,
        parse: impl Fn(&str) -> Result<T, ValueError>,
    ) -> Option<Vec<T>> {
        let items = self.items(expected)?;
        let all = items.len();
        let mut seen = HashSet::new();
        let mut values = Vec::new();
        for item in items {
            let Some(value) = item.read(&parse) else { continue };
            if seen.insert(value.clone()) {
                values.push(value);
            } else {
                item.refuse_again("is listed twice", "each only once");
            }
        }
        (values.len() == all).then_some(values)
    }

    /// Reports a value that was there before.
    pub(super) fn refuse_again(&self, predicate: &'static str, expected: &str) {
        let found = format!("{} again", self.shown());
        let source = match &self.node.kind {
            NodeKind::Text(text) => self.visible(text, false).map(str::to_owned),
            _ => None,
        };
        let message = self.sentence(predicate, false);
        let report = ProblemReport::error(self.path.clone(), message, found, expected.to_owned());
        self.ctx.report(&self.node.place, ProblemReport { source, ..report });
    }

    /// Returns the text of a scalar with its variables replaced, and whether there were any.
    pub(super) fn expanded(&self, expected: &str) -> Option<(String, bool)> {
        let NodeKind::Text(raw) = &self.node.kind else {
            self.refuse_type(expected);
            return None;
        };
        if self.is_override() {
            return Some((raw.clone(), true));
        }
        if !self.ctx.variables {
            return Some((raw.clone(), false));
        }
        match expand(raw, self.ctx.environment) {
            Ok(expanded) => return Some((expanded.text, expanded.from_environment)),
            Err(ExpandError::Unset(name)) => {
                let name = printable(&name);
                let expected = "a variable that is set before lowtide starts (write `$$` for a dollar sign)";
                self.refuse(format!("environment variable {name} is not set"), format!("`${{{name}}}`"), expected);
            }
            Err(ExpandError::Unterminated) => {
                self.report(ValueError::new("has `${` without `}`", "`}` after `${` (write `$${` for a plain `${`)"));
            }
            Err(ExpandError::NotAName) => {
                let expected = "a variable's name between `${` and `}`: letters, digits and underscores (write `$${` for a plain `${`)";
                self.report(ValueError::new("names no variable between `${` and `}`", expected));
            }
        }
        None
    }

    /// Returns the text of a scalar with its variables replaced, without reporting anything.
    pub(super) fn quietly_expanded(&self) -> Option<String> {
        let NodeKind::Text(raw) = &self.node.kind else { return None };
        if self.is_override() || !self.ctx.variables {
            return Some(raw.clone());
        }
        expand(raw, self.ctx.environment).ok().map(|expanded| expanded.text)
    }

    /// Returns a scalar, read by `parse`, or `None` after reporting what is wrong with it.
    pub(super) fn read<T>(&self, parse: impl Fn(&str) -> Result<T, ValueError>) -> Option<T> {
        if !self.is_text() {
            // The expectation is the one that the parser states about a text that it never accepts.
            let expected = parse("\u{0}").err().map_or_else(|| "a text".to_owned(), |error| error.expected);
            self.refuse_type(expected);
            return None;
        }
        let (text, _) = self.expanded("a text")?;
        parse(&text).map_err(|error| self.report(error)).ok()
    }
}
