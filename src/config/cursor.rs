//! Walking the tree: a cursor knows the value, its key path and where to report what is wrong with it.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::environment::Environment;
use super::files;
use super::interpolate::{ExpandError, expand};
use super::keys::{self, Key, is_secret, shown_key};
use super::load::ConfigOutline;
use super::problem::{ConfigProblem, ProblemSeverity, one_of, printable, quoted};
use super::sources::Sources;
use super::syntax;
use super::tree::{self, Node, NodeEntry, NodeKind, SourceLocation};
use crate::domain::Name;
use crate::util::secret::Secret;
use crate::util::text::nearest;

/// What the whole decoding shares.
pub(super) struct LoadContext<'a> {
    /// The file as the user named it.
    pub(super) file: String,
    /// Its folder: relative paths in it start there.
    pub(super) folder: PathBuf,
    pub(super) environment: &'a Environment,
    pub(super) problems: RefCell<Vec<ConfigProblem>>,
    pub(super) secrets: RefCell<Vec<Secret>>,
    /// The files that were read, or should have been.
    pub(super) sources: RefCell<Sources>,
    /// What can be said of the configuration even if it is refused.
    pub(super) outline: RefCell<ConfigOutline>,
    /// Whether a secret stands in the file itself.
    pub(super) literal_secret: Cell<bool>,
    /// Whether `${NAME}` stands for a variable of the environment.
    pub(super) variables: bool,
}

/// Why a text is not what its key wants.
pub(super) struct ValueError {
    /// Instead of the source text, where that must not be shown or says too little.
    pub(super) found: Option<String>,
    pub(super) expected: String,
    pub(super) suggestion: Option<String>,
}

impl<T: Into<String>> From<T> for ValueError {
    fn from(expected: T) -> Self {
        Self { found: None, expected: expected.into(), suggestion: None }
    }
}

/// One value on the way down.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    pub(super) ctx: &'a LoadContext<'a>,
    pub(super) node: &'a Node,
    key_place: &'a SourceLocation,
    pub(super) path: String,
}

impl<'a> Cursor<'a> {
    pub(super) fn root(ctx: &'a LoadContext<'a>, node: &'a Node) -> Self {
        Self { ctx, node, key_place: &node.place, path: String::new() }
    }

    /// Reports an error here.
    pub(super) fn refuse(&self, found: impl Into<String>, expected: impl Into<String>) {
        self.report(ValueError { found: Some(found.into()), expected: expected.into(), suggestion: None });
    }

    /// Reports an error here; what was found is the source text unless the fault says otherwise.
    pub(super) fn report(&self, error: ValueError) {
        let place = match self.node.kind {
            NodeKind::Text(_) => &self.node.place,
            _ => self.key_place,
        };
        let ValueError { found, mut expected, suggestion } = error;
        if let (None, NodeKind::Text(text)) = (&found, &self.node.kind)
            && let Some(known) = syntax::typographic_quote(text)
        {
            expected = format!("{expected} ({known})");
        }
        let found = found.unwrap_or_else(|| self.shown());
        self.ctx.push(place, self.path.clone(), found, expected, suggestion);
    }

    /// Reports something here that keeps nobody from using the configuration.
    pub(super) fn warn(&self, expected: impl Into<String>) {
        self.report(expected.into().into());
        if let Some(problem) = self.ctx.problems.borrow_mut().last_mut() {
            problem.severity = ProblemSeverity::Warning;
        }
    }

    /// What is here, as the source writes it.
    pub(super) fn shown(&self) -> String {
        match &self.node.kind {
            NodeKind::Null => "nothing".to_owned(),
            NodeKind::Map(_) => "a map".to_owned(),
            NodeKind::List(_) => "a list".to_owned(),
            NodeKind::Text(_) if self.is_secret() => "a value that is not shown".to_owned(),
            NodeKind::Text(text) => quoted(text),
        }
    }

    fn is_secret(&self) -> bool {
        // What stands below `headers` is secret, whatever the header is called.
        self.path.rsplit('.').next().is_some_and(is_secret) || self.path.contains(".headers.")
    }

    /// What kind of thing is here, without its text.
    fn shape(&self) -> String {
        if self.is_text() { "a text".to_owned() } else { self.shown() }
    }

    /// The entries of a map; `None` after reporting that it is something else.
    fn entries(&self, expected: &str) -> Option<&'a [NodeEntry]> {
        if let NodeKind::Map(entries) = &self.node.kind {
            return Some(entries);
        }
        match &self.node.kind {
            NodeKind::Text(text) if let Some((found, instead)) = syntax::forgotten(text) => self.refuse(found, instead),
            _ => self.refuse(self.shape(), expected),
        }
        None
    }

    /// Whether a scalar is here.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.node.kind, NodeKind::Text(_))
    }

    /// Whether the file writes it with variables of the environment.
    pub(super) fn is_interpolated(&self) -> bool {
        matches!((&self.node.kind, &self.node.place), (NodeKind::Text(raw), SourceLocation::At(..)) if raw.contains("${"))
    }

    /// The value of a key of the map that is here.
    pub(super) fn peek(&self, key: &str) -> Option<Cursor<'a>> {
        self.node.get(key).map(|entry| self.below(entry))
    }

    /// A map of known keys; unknown ones are reported.
    pub(super) fn section(&self, known: &'static [Key]) -> Option<Section<'a>> {
        let entries =
            self.entries(&format!("a map with the keys {}", keys::names(known).collect::<Vec<_>>().join(", ")))?;
        let section = Section { at: self.clone(), entries };
        for entry in entries.iter().filter(|entry| known.iter().all(|key| key.name != entry.key)) {
            section.unknown(entry, keys::names(known));
        }
        keys::alternatives(known).for_each(|row| section.refuse_alternatives(row));
        Some(section)
    }

    /// A map keyed by names that the user chooses.
    pub(super) fn named(&self, what: &str) -> Vec<(Name, Cursor<'a>)> {
        let expected = format!("at least one {what}, by its name");
        let Some(entries) = self.entries(&expected) else { return Vec::new() };
        if entries.is_empty() {
            self.refuse("nothing", expected);
        }
        let mut named = Vec::new();
        for entry in entries {
            let cursor = self.below(entry);
            if entry.key.chars().any(char::is_control) || !(1..=64).contains(&entry.key.chars().count()) {
                let expected = format!("a name for the {what} of 1 to 64 characters, none of them a control character");
                self.ctx.push(&entry.place, cursor.path.clone(), quoted(shown_key(&entry.key)), expected, None);
            }
            named.push((Name::from(entry.key.as_str()), cursor));
        }
        named
    }

    /// A map of keys that the user chooses, each with a text.
    pub(super) fn texts(&self, expected: &str) -> Option<Vec<(&'a str, Cursor<'a>)>> {
        let entries = self.entries(expected)?;
        Some(entries.iter().map(|entry| (entry.key.as_str(), self.below(entry))).collect())
    }

    fn below(&self, entry: &'a NodeEntry) -> Cursor<'a> {
        Cursor { ctx: self.ctx, node: &entry.value, key_place: &entry.place, path: join(&self.path, &entry.key) }
    }

    /// The items of a list.
    pub(super) fn items(&self, expected: &str) -> Option<Vec<Cursor<'a>>> {
        let NodeKind::List(items) = &self.node.kind else {
            let suggestion = match &self.node.kind {
                NodeKind::Text(text) if !self.is_secret() && !self.is_interpolated() => {
                    Some(format!("[{}]", printable(text)))
                }
                _ => None,
            };
            self.report(ValueError { found: None, expected: expected.to_owned(), suggestion });
            return None;
        };
        if items.is_empty() {
            self.refuse("an empty list", expected);
            return None;
        }
        let item = |(i, node): (usize, &'a std::rc::Rc<Node>)| Cursor {
            ctx: self.ctx,
            node,
            key_place: &node.place,
            path: format!("{}[{i}]", self.path),
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// The items of a list, each read by `parse`, none of them twice. `None` if anything was reported.
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
                item.refuse(format!("{} again", item.shown()), "each only once");
            }
        }
        (values.len() == all).then_some(values)
    }

    /// Returns `true` for a value that a variable of the environment gave in place of the file's.
    pub(super) fn is_override(&self) -> bool {
        matches!(self.node.place, SourceLocation::Variable(_))
    }

    /// The text of a scalar with its variables put in, and whether there were any.
    pub(super) fn expanded(&self, expected: &str) -> Option<(String, bool)> {
        let NodeKind::Text(raw) = &self.node.kind else {
            self.refuse(self.shape(), expected);
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
                self.refuse(
                    quoted(&format!("${{{name}}}")),
                    format!("the environment variable {} to be set", printable(&name)),
                );
            }
            Err(ExpandError::Unterminated) => self.report("`}` after `${` (write `$${` for a plain `${`)".into()),
            Err(ExpandError::NotAName) => {
                self.report("a variable's name between `${` and `}`: letters, digits and underscores (write `$${` for a plain `${`)".into());
            }
        }
        None
    }

    /// A scalar, read by `parse`.
    pub(super) fn read<T>(&self, parse: impl Fn(&str) -> Result<T, ValueError>) -> Option<T> {
        if !self.is_text() {
            // What is expected is what the parser says of a text that it cannot want.
            let expected = parse("\u{0}").err().map_or_else(|| "a text".to_owned(), |error| error.expected);
            self.refuse(self.shape(), expected);
            return None;
        }
        let (text, _) = self.expanded("a text")?;
        parse(&text).map_err(|error| self.report(error)).ok()
    }
}

/// So many problems get suggestions; a file with more is no file with typos, and looking for them takes time.
const MAX_SUGGESTIONS: usize = 100;

impl<'a> LoadContext<'a> {
    /// What decoding the file at `path` needs.
    pub(super) fn new(path: &Path, environment: &'a Environment) -> Self {
        Self {
            file: path.display().to_string(),
            folder: path.parent().unwrap_or(Path::new("")).to_owned(),
            environment,
            problems: RefCell::default(),
            secrets: RefCell::default(),
            sources: RefCell::default(),
            outline: RefCell::default(),
            literal_secret: Cell::new(false),
            variables: true,
        }
    }

    /// The text of a YAML file and its permission bits; `None` after reporting what is wrong with it.
    pub(super) fn file(&self, path: &Path, expected: &str) -> Option<(String, Option<u32>)> {
        let read = files::yaml(path, expected);
        let content = read.as_ref().map_or_else(|error| &error.found, |(text, _)| text);
        self.sources.borrow_mut().note(path, content.as_bytes());
        let error = match read {
            Ok(read) => return Some(read),
            Err(error) => error,
        };
        let (line, column) = error.place.unzip();
        self.problems.borrow_mut().push(ConfigProblem {
            severity: ProblemSeverity::Error,
            file: self.file.clone(),
            line,
            column,
            path: String::new(),
            found: error.found,
            expected: error.expected,
            suggestion: None,
        });
        None
    }

    /// The tree of a text; its flaws are reported.
    pub(super) fn tree(&self, text: &str, expected: &str) -> Option<Rc<Node>> {
        let (root, errors) = tree::parse(text, expected);
        for error in errors {
            self.push(&SourceLocation::At(error.place.0, error.place.1), error.path, error.found, error.expected, None);
        }
        root
    }

    /// The known word that is nearest to `text`, if any is near.
    pub(super) fn nearest<'k>(&self, text: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
        if self.problems.borrow().len() < MAX_SUGGESTIONS { nearest(text, known) } else { None }
    }

    pub(super) fn push(
        &self,
        place: &SourceLocation,
        path: String,
        found: String,
        expected: String,
        suggestion: Option<String>,
    ) {
        let (file, line, column) = match place {
            SourceLocation::At(line, column) => (self.file.clone(), Some(*line), Some(*column)),
            SourceLocation::Variable(name) => (name.to_string(), None, None),
        };
        let severity = ProblemSeverity::Error;
        self.problems.borrow_mut().push(ConfigProblem {
            severity,
            file,
            line,
            column,
            path,
            found,
            expected,
            suggestion,
        });
    }
}

fn join(path: &str, key: &str) -> String {
    let key = printable(shown_key(key));
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// A map whose keys are known.
pub(super) struct Section<'a> {
    pub(super) at: Cursor<'a>,
    entries: &'a [NodeEntry],
}

impl<'a> Section<'a> {
    /// The value of a key, if it is there.
    pub(super) fn get(&self, key: &str) -> Option<Cursor<'a>> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| self.at.below(entry))
    }

    /// The value of a key; reports that it is missing.
    pub(super) fn required(&self, key: &str, expected: &str) -> Option<Cursor<'a>> {
        let found = self.get(key);
        if found.is_none() {
            self.missing(key, expected);
        }
        found
    }

    /// Reports that a key is missing.
    pub(super) fn missing(&self, key: &str, expected: &str) {
        self.at.ctx.push(self.at.key_place, join(&self.at.path, key), "nothing".to_owned(), expected.to_owned(), None);
    }

    /// A scalar by its key; `None` if it is missing, or wrong and reported.
    pub(super) fn read<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, ValueError>) -> Option<T> {
        self.get(key)?.read(parse)
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
            other.refuse(format!("{} beside {first}", quoted(key)), "only one of them");
        }
    }

    /// Reports those of these keys that are there although `instead` are the ones that fit.
    pub(super) fn refuse_keys(&self, keys: &[&str], expected: &str) {
        for entry in self.entries.iter().filter(|entry| keys.contains(&entry.key.as_str())) {
            let path = join(&self.at.path, &entry.key);
            self.at.ctx.push(&entry.place, path, quoted(&entry.key), expected.to_owned(), None);
        }
    }

    fn unknown(&self, entry: &NodeEntry, known: impl Iterator<Item = &'static str> + Clone) {
        let (path, found) = (join(&self.at.path, &entry.key), quoted(shown_key(&entry.key)));
        let begins_with = |key: &str| entry.key.strip_prefix(key).is_some_and(|rest| rest.starts_with(' '));
        let instead = if entry.key == "<<" {
            Some("no merge key; an alias (`*name`) can stand for a whole section")
        } else if known.clone().any(begins_with) {
            Some(syntax::WITHOUT_COLON.1)
        } else {
            syntax::forgotten(&entry.key).map(|(_, instead)| instead)
        };
        let (expected, suggestion) = match instead {
            Some(instead) => (instead.to_owned(), None),
            None => (one_of(known.clone()), self.at.ctx.nearest(&entry.key, known)),
        };
        self.at.ctx.push(&entry.place, path, found, expected, suggestion);
    }
}
