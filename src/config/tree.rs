//! Parses YAML text into a tree of raw scalars, maps and lists with their places. Nothing is given a type here.
//!
//! The tree is bounded against hostile files: by depth, and by a number of values, in which an alias counts as much as
//! the value it stands for.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::problem::{printable, quoted};
use super::syntax::{self, YamlError};
use super::vocabulary::{is_secret, shown_key};

/// Maximum depth of nesting.
const MAX_DEPTH: usize = 64;
/// Maximum number of values in a file; long ones count as several.
const MAX_VALUES: usize = 10_000;
/// Number of bytes of a text that count as one value.
const BYTES_PER_VALUE: usize = 32;

/// Place of a value in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SourceLocation {
    /// Line and column of the file, both from 1.
    At(usize, usize),
    /// Name of an environment variable.
    Variable(Rc<str>),
}

/// A value with its place in the source.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: SourceLocation,
    pub(super) kind: NodeKind,
    /// Number of levels, including this one.
    height: usize,
    /// Number of values that it counts as.
    cost: usize,
}

/// Content of a value.
#[derive(Debug)]
pub(super) enum NodeKind {
    /// Empty, `~` or `null`, not in quotes.
    Null,
    /// Any other scalar, as written.
    Text(String),
    /// Entries in the order of the file; keys are unique.
    Map(Vec<NodeEntry>),
    List(Vec<Rc<Node>>),
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(super) struct NodeEntry {
    pub(super) key: String,
    pub(super) place: SourceLocation,
    pub(super) value: Rc<Node>,
}

impl Node {
    pub(super) fn new(place: SourceLocation, kind: NodeKind) -> Rc<Self> {
        let (height, cost) = match &kind {
            NodeKind::Null => (1, 1),
            NodeKind::Text(text) => (1, 1 + text.len() / BYTES_PER_VALUE),
            NodeKind::Map(entries) => {
                measure(entries.iter().map(|entry| (&entry.value, 1 + entry.key.len() / BYTES_PER_VALUE)))
            }
            NodeKind::List(items) => measure(items.iter().map(|item| (item, 0))),
        };
        Rc::new(Self { place, kind, height, cost })
    }

    /// Returns the entry of a key; `None` if the value is not a map or has no such key.
    pub(super) fn get(&self, key: &str) -> Option<&NodeEntry> {
        match &self.kind {
            NodeKind::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }
}

fn measure<'a>(children: impl Iterator<Item = (&'a Rc<Node>, usize)>) -> (usize, usize) {
    children.fold((1, 1), |(height, cost), (child, extra)| {
        (height.max(child.height + 1), cost.saturating_add(child.cost).saturating_add(extra))
    })
}

/// Parses a text into its tree and a list of errors. The tree is missing after an error that ends the parsing; a repeated
/// key does not. `expected` completes the error about an empty text.
pub(super) fn parse(text: &str, expected: &str) -> (Option<Rc<Node>>, Vec<YamlError>) {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let step = match event {
            Ok((event, span)) => builder.add_event(event, span),
            Err(error) => {
                let place = (error.marker().line(), error.marker().col() + 1);
                Err(syntax::explain(text, place, error.info(), builder.frames.iter().map(|frame| frame.place)))
            }
        };
        if let Err(fatal) = step {
            builder.errors.push(fatal);
            return (None, builder.errors);
        }
    }
    let empty = builder.root.as_ref().is_none_or(|root| matches!(root.kind, NodeKind::Null));
    if empty {
        let error = YamlError::new((1, 1), "an empty file", expected);
        builder.errors.push(YamlError { message: "the file is empty".to_owned(), ..error });
        return (None, builder.errors);
    }
    (builder.root, builder.errors)
}

#[derive(Default)]
struct Builder {
    frames: Vec<OpenFrame>,
    root: Option<Rc<Node>>,
    documents: usize,
    spent: usize,
    anchors: BTreeMap<usize, Rc<Node>>,
    errors: Vec<YamlError>,
}

struct OpenFrame {
    place: (usize, usize),
    anchor: usize,
    open: OpenCollection,
}

enum OpenCollection {
    List(Vec<Rc<Node>>),
    Map { entries: Vec<NodeEntry>, seen: HashMap<String, usize>, key: Option<(String, (usize, usize))> },
}

impl Builder {
    fn add_event(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlError> {
        let place = (span.start.line(), span.start.col() + 1);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(YamlError::new(place, "a second document", "one document in a file"));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.as_ref().is_none_or(|tag| tag.suffix != "str");
                refuse_tag(tag.as_deref(), place)?;
                let null = plain && matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL");
                let kind = if null { NodeKind::Null } else { NodeKind::Text(text.into_owned()) };
                self.add(Node::new(SourceLocation::At(place.0, place.1), kind), anchor, place)
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_tag(tag.as_deref(), place)?;
                self.open(place, anchor, OpenCollection::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                refuse_tag(tag.as_deref(), place)?;
                self.open(place, anchor, OpenCollection::Map { entries: Vec::new(), seen: HashMap::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id).cloned() else {
                    let expected = "an anchor that ends before its alias";
                    return Err(YamlError::new(place, "an alias inside its own anchor", expected));
                };
                self.spend(node.cost, place)?;
                self.put(node, place)
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn open(&mut self, place: (usize, usize), anchor: usize, open: OpenCollection) -> Result<(), YamlError> {
        self.spend(1, place)?;
        self.fits(1, place)?;
        if let Some(OpenFrame { open: OpenCollection::Map { key: None, .. }, .. }) = self.frames.last() {
            return Err(YamlError::new(place, "a key that is a map or a list", "a name as the key"));
        }
        self.frames.push(OpenFrame { place, anchor, open });
        Ok(())
    }

    fn close(&mut self) -> Result<(), YamlError> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        let kind = match frame.open {
            OpenCollection::List(items) => NodeKind::List(items),
            OpenCollection::Map { entries, .. } => NodeKind::Map(entries),
        };
        let node = Node::new(SourceLocation::At(frame.place.0, frame.place.1), kind);
        if frame.anchor > 0 {
            self.anchors.insert(frame.anchor, Rc::clone(&node));
        }
        self.put(node, frame.place)
    }

    fn add(&mut self, node: Rc<Node>, anchor: usize, place: (usize, usize)) -> Result<(), YamlError> {
        self.spend(node.cost, place)?;
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.put(node, place)
    }

    fn put(&mut self, node: Rc<Node>, place: (usize, usize)) -> Result<(), YamlError> {
        self.fits(node.height, place)?;
        match self.frames.last_mut().map(|frame| &mut frame.open) {
            None => self.root = Some(node),
            Some(OpenCollection::List(items)) => items.push(node),
            Some(OpenCollection::Map { key: pending @ None, .. }) => match &node.kind {
                NodeKind::Text(text) if text.starts_with(|c: char| c.is_whitespace() && !c.is_ascii()) => {
                    return Err(YamlError::new(place, "a no-break space in the indentation", "ordinary spaces"));
                }
                NodeKind::Text(text) => *pending = Some((text.clone(), place)),
                NodeKind::Null => *pending = Some(("null".to_owned(), place)),
                _ => {
                    return Err(YamlError::new(place, "a key that is a map or a list", "a name as the key"));
                }
            },
            Some(OpenCollection::Map { entries, seen, key }) => {
                let Some((name, at)) = key.take() else { return Ok(()) };
                if let Some(first) = seen.get(&name) {
                    let first = *first;
                    self.repeated(&name, at, first);
                } else {
                    seen.insert(name.clone(), at.0);
                    entries.push(NodeEntry { key: name, place: SourceLocation::At(at.0, at.1), value: node });
                }
            }
        }
        Ok(())
    }

    fn repeated(&mut self, name: &str, place: (usize, usize), first: usize) {
        let keys: Vec<&str> = self.frames.iter().filter_map(OpenFrame::key).collect();
        let secret = keys.iter().any(|key| is_secret(key));
        let path: Vec<String> = keys.into_iter().map(|key| printable(shown_key(key))).collect();
        let what = if secret { "a key".to_owned() } else { format!("the key {}", quoted(shown_key(name))) };
        let found = format!("{what} again, after line {first}");
        let message = if secret {
            format!("duplicate key, first used in line {first}")
        } else {
            format!("duplicate key {}, first used in line {first}", quoted(shown_key(name)))
        };
        let path = path.join(".");
        let source = (!secret).then(|| shown_key(name).to_owned());
        self.errors.push(YamlError { place, path, message, found, expected: "each key once".to_owned(), source });
    }

    fn fits(&self, height: usize, place: (usize, usize)) -> Result<(), YamlError> {
        if self.frames.len() + height > MAX_DEPTH {
            return Err(YamlError::new(place, "nesting is too deep", format!("at most {MAX_DEPTH} levels")));
        }
        Ok(())
    }

    fn spend(&mut self, cost: usize, place: (usize, usize)) -> Result<(), YamlError> {
        self.spent = self.spent.saturating_add(cost);
        if self.spent > MAX_VALUES {
            let expected = format!("at most {MAX_VALUES}; an alias counts as much as the value it stands for");
            return Err(YamlError::new(place, "too many values", expected));
        }
        Ok(())
    }
}

impl OpenFrame {
    fn key(&self) -> Option<&str> {
        match &self.open {
            OpenCollection::Map { key: Some((name, _)), .. } => Some(name),
            _ => None,
        }
    }
}

/// Refuses a tag that is not one of the standard ones: it would silently have no effect.
fn refuse_tag(tag: Option<&Tag>, place: (usize, usize)) -> Result<(), YamlError> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() || tag.suffix == "binary" => Err(YamlError::new(
            place,
            format!("the tag {}", quoted(&tag.to_string())),
            "a value without a tag (put a text that begins with `!` in quotes)",
        )),
        _ => Ok(()),
    }
}
