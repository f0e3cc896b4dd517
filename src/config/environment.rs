//! The environment, and the overrides in it (`LOWTIDE_ACCOUNTS__ACME__TIMEOUT=5s`), which figment merges into the file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::rc::Rc;

use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider, Source};

use super::catalog;
use super::keys::{self, Key, Shape};
use super::problem::{ConfigProblem, ProblemReport, one_of, printable, quoted};
use super::tree::{Node, NodeEntry, NodeKind, SourceLocation};
use crate::util::text::nearest;

const PREFIX: &str = "LOWTIDE_";

/// Environment variables that a configuration may use.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Environment {
    /// Creates it from the result of `std::env::vars_os()`. Variables that are not UTF-8 are left out.
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let utf8 = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Self(variables.into_iter().filter_map(utf8).collect())
    }

    /// Returns the value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(variables: T) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// Returns the file's tree with the overrides of the environment, and warnings about variables that override nothing.
pub(super) fn overlay(root: &Rc<Node>, environment: &Environment) -> (Rc<Node>, Vec<ConfigProblem>) {
    let mut warnings = Vec::new();
    let mut overrides = Vec::new();
    for (variable, text) in &environment.0 {
        let Some(name) = variable.strip_prefix(PREFIX) else { continue };
        if name == "CONFIG" || name.starts_with("LOG_") || is_injected(name) {
            continue;
        }
        let path: Vec<String> = name.to_lowercase().split("__").map(str::to_owned).collect();
        match shape_at(&path, root) {
            Ok(shape) => overrides.push(Override { variable, value: value_of(text, shape), path }),
            Err(error) => warnings.push(error.warn(variable, &path)),
        }
    }
    let paths: Vec<&[String]> = overrides.iter().map(|over| over.path.as_slice()).collect();
    let root = &without_replaced(root, Shape::Map(catalog::ROOT), &paths);
    let figment = overrides.iter().fold(Figment::from(FileValues(root)), Figment::merge);
    let merged = match figment.data() {
        Ok(mut data) => data.remove(&Profile::Default).unwrap_or_default(),
        // Neither provider can fail, so there is nothing to report; the file is used as it is.
        Err(_) => return (Rc::clone(root), warnings),
    };
    (resolve(Some(root), &Value::Dict(Tag::Default, merged), &figment), warnings)
}

/// Returns `true` for a variable that a container platform sets for a service called `lowtide`.
fn is_injected(name: &str) -> bool {
    name == "PORT" || name.starts_with("PORT_") || name.starts_with("SERVICE_")
}

/// Returns the file's tree without the keys that an override replaces because they exclude each other. `paths` are those of
/// the overrides below this node.
fn without_replaced(node: &Rc<Node>, shape: Shape, paths: &[&[String]]) -> Rc<Node> {
    let NodeKind::Map(entries) = &node.kind else { return Rc::clone(node) };
    let overridden = |key: &str| paths.iter().any(|path| path.first().is_some_and(|first| first == key));
    let known = if let Shape::Map(known) = shape { known } else { &[] };
    let is_replaced = |key: &str| !overridden(key) && keys::excluded_by(key, known).any(&overridden);
    let is_in_the_file = |key: &&&str| entries.iter().any(|entry| entry.key == ***key);
    let is_kept = |entry: &&NodeEntry| {
        let is_orphaned = |key: &&str| is_replaced(key) && !overridden(&entry.key);
        !is_replaced(&entry.key) && !keys::depends_on(&entry.key).iter().filter(is_in_the_file).any(is_orphaned)
    };
    let below = |entry: &NodeEntry| {
        let shape = match shape {
            Shape::Map(known) => known.iter().find(|key| key.name == entry.key).map(|key| key.shape),
            Shape::Named(known) => Some(Shape::Map(known)),
            _ => None,
        };
        let paths: Vec<&[String]> = paths
            .iter()
            .filter_map(|path| path.split_first().filter(|(first, _)| **first == entry.key).map(|(_, rest)| rest))
            .collect();
        let value = match shape {
            Some(shape) if !paths.is_empty() => without_replaced(&entry.value, shape, &paths),
            _ => Rc::clone(&entry.value),
        };
        NodeEntry { value, ..entry.clone() }
    };
    Node::new(node.place.clone(), NodeKind::Map(entries.iter().filter(is_kept).map(below).collect()))
}

/// The file as a provider of figment, in which every scalar is a string.
struct FileValues<'a>(&'a Node);

impl Provider for FileValues<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named("file")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let dict = to_value(self.0).into_dict().unwrap_or_default();
        Ok(Profile::Default.collect(dict))
    }
}

fn to_value(node: &Node) -> Value {
    match &node.kind {
        NodeKind::Null => Value::from(""),
        NodeKind::Text(text) => Value::from(text.as_str()),
        NodeKind::List(items) => Value::from(items.iter().map(|item| to_value(item)).collect::<Vec<_>>()),
        NodeKind::Map(entries) => {
            let dict: Dict = entries.iter().map(|entry| (entry.key.clone(), to_value(&entry.value))).collect();
            Value::from(dict)
        }
    }
}

/// One variable as figment sees it.
struct Override<'a> {
    variable: &'a str,
    path: Vec<String>,
    value: Value,
}

impl Provider for &Override<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::from("environment", Source::Custom(self.variable.to_owned()))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let nested = self.path.iter().rev().fold(self.value.clone(), |value, key| {
            let dict: Dict = [(key.clone(), value)].into_iter().collect();
            Value::from(dict)
        });
        Ok(Profile::Default.collect(nested.into_dict().unwrap_or_default()))
    }
}

/// A value of the environment: verbatim, or split at commas where a list belongs.
fn value_of(text: &str, shape: Shape) -> Value {
    let word = match shape {
        Shape::List => None,
        Shape::WordOrList(word) => Some(word),
        _ => return Value::from(text),
    };
    let trimmed = text.trim();
    if word == Some(trimmed) {
        return Value::from(trimmed);
    }
    let inner = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(trimmed);
    let mut quoted = false;
    let items = inner.split(|c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    let items: Vec<Value> = items.map(str::trim).map(Value::from).collect();
    Value::from(if inner.trim().is_empty() { Vec::new() } else { items })
}

/// Converts a merged value back. A value that figment took from the file becomes the file's node with its place.
fn resolve(file: Option<&Rc<Node>>, value: &Value, figment: &Figment) -> Rc<Node> {
    let variable = figment.get_metadata(value.tag()).and_then(|metadata| metadata.source.as_ref()?.custom());
    let place = SourceLocation::Variable(Rc::from(variable.unwrap_or_default()));
    match (value, file) {
        (Value::Dict(_, merged), file) => {
            let entries: &[NodeEntry] = match file.map(|node| &node.kind) {
                Some(NodeKind::Map(entries)) => entries,
                _ => &[],
            };
            let place = if entries.is_empty() { place } else { file.map_or(place, |node| node.place.clone()) };
            let of_file = entries.iter().filter_map(|entry| {
                let value = resolve(Some(&entry.value), merged.get(&entry.key)?, figment);
                Some(NodeEntry { key: entry.key.clone(), place: entry.place.clone(), value })
            });
            let known: std::collections::HashSet<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
            let new = merged.iter().filter(|(key, _)| !known.contains(key.as_str())).map(|(key, value)| {
                let value = resolve(None, value, figment);
                NodeEntry { key: key.clone(), place: value.place.clone(), value }
            });
            let all = of_file.chain(new).collect();
            match file {
                // An empty map of the file is kept.
                Some(node) if merged.is_empty() => Rc::clone(node),
                _ => Node::new(place, NodeKind::Map(all)),
            }
        }
        (_, Some(file)) if variable.is_none() => Rc::clone(file),
        (Value::Array(_, items), _) => {
            let items = items.iter().filter_map(Value::as_str);
            Node::new(
                place.clone(),
                NodeKind::List(items.map(|text| Node::new(place.clone(), NodeKind::Text(text.to_owned()))).collect()),
            )
        }
        (value, _) => Node::new(place, NodeKind::Text(value.as_str().unwrap_or_default().to_owned())),
    }
}

/// Reason why a variable overrides nothing.
enum OverrideError {
    /// A part of the path, by its index, is none of these keys.
    Unknown(usize, &'static [Key]),
    /// A part of the path, by its index, is a name that the file does not define in this section.
    Undefined(usize, &'static str),
    /// The path names a whole section.
    Section,
}

fn shape_at(path: &[String], root: &Node) -> Result<Shape, OverrideError> {
    let mut shape = Shape::Map(catalog::ROOT);
    let mut section = "";
    let mut node = Some(root);
    for (i, part) in path.iter().enumerate() {
        let below = node.and_then(|node| node.get(part));
        shape = match shape {
            Shape::Map(known) => {
                let key = known.iter().find(|key| key.name == *part).ok_or(OverrideError::Unknown(i, known))?;
                section = key.name;
                key.shape
            }
            Shape::Named(known) => {
                below.ok_or(OverrideError::Undefined(i, section))?;
                Shape::Map(known)
            }
            Shape::Texts => {
                below.ok_or(OverrideError::Undefined(i, section))?;
                Shape::Scalar
            }
            _ => return Err(OverrideError::Unknown(i, &[])),
        };
        node = below.map(|entry| entry.value.as_ref());
    }
    match shape {
        Shape::Map(_) | Shape::Named(_) | Shape::Texts => Err(OverrideError::Section),
        leaf => Ok(leaf),
    }
}

impl OverrideError {
    fn warn(&self, variable: &str, path: &[String]) -> ConfigProblem {
        let part = |i: usize| path.get(i).map_or("", String::as_str);
        let (found, expected, suggestion) = match self {
            OverrideError::Unknown(i, []) => (quoted(part(*i)), "no further level".to_owned(), None),
            OverrideError::Unknown(i, known) => {
                let names = keys::names(known);
                (quoted(part(*i)), one_of(names.clone()), nearest(part(*i), names))
            }
            OverrideError::Undefined(i, section) => {
                (quoted(part(*i)), format!("a name that the file has under `{section}`"), None)
            }
            OverrideError::Section => ("a whole section".to_owned(), "one key of it".to_owned(), None),
        };
        let message = match self {
            OverrideError::Unknown(..) => format!("ignored, since {found} is not a key"),
            OverrideError::Undefined(..) => format!("ignored, since {found} is not defined in the file"),
            OverrideError::Section => "ignored, since it names a whole section".to_owned(),
        };
        let report = ProblemReport::warning(printable(&path.join(".")), message, found, expected);
        ConfigProblem::new(printable(variable), None, ProblemReport { suggestion, ..report })
    }
}
