//! YAML text → a tree of raw scalars, maps and lists that know their place. Nothing is given a type here.
//!
//! Bounded on purpose: 64 levels, and a budget of values in which an alias costs as much as what it stands for.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::keys::{is_secret, shown_key};
use super::problem::{printable, quoted};
use super::syntax;

/// Deepest nesting.
const DEEPEST: usize = 64;
/// Most values in a file; long ones count as several.
const MOST_VALUES: usize = 10_000;
/// So many bytes of a text cost as much as one value.
const BYTES_A_VALUE: usize = 32;

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Line and column of the file, both from 1.
    At(usize, usize),
    /// An environment variable.
    Variable(Rc<str>),
}

/// A value with its place.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) kind: Kind,
    /// Levels below it, itself included.
    height: usize,
    /// Its share of the budget.
    cost: usize,
}

/// What a value is.
#[derive(Debug)]
pub(super) enum Kind {
    /// Empty, `~` or `null`, not in quotes.
    Null,
    /// Any other scalar, as written.
    Text(String),
    /// Entries in the order of the file; keys are unique.
    Map(Vec<Entry>),
    /// Items in order.
    List(Vec<Rc<Node>>),
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) value: Rc<Node>,
}

impl Node {
    pub(super) fn new(place: Place, kind: Kind) -> Rc<Self> {
        let (height, cost) = match &kind {
            Kind::Null => (1, 1),
            Kind::Text(text) => (1, 1 + text.len() / BYTES_A_VALUE),
            Kind::Map(entries) => {
                within(entries.iter().map(|entry| (&entry.value, 1 + entry.key.len() / BYTES_A_VALUE)))
            }
            Kind::List(items) => within(items.iter().map(|item| (item, 0))),
        };
        Rc::new(Self { place, kind, height, cost })
    }

    /// The value of a key of a map.
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }
}

fn within<'a>(children: impl Iterator<Item = (&'a Rc<Node>, usize)>) -> (usize, usize) {
    children.fold((1, 1), |(height, cost), (child, extra)| {
        (height.max(child.height + 1), cost.saturating_add(child.cost).saturating_add(extra))
    })
}

/// What is wrong with the text itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) place: (usize, usize),
    pub(super) path: String,
    pub(super) found: String,
    pub(super) expected: String,
}

impl Flaw {
    /// A flaw of the text, wherever in the file that is.
    pub(super) fn new(place: (usize, usize), found: impl Into<String>, expected: &str) -> Self {
        Self { place, path: String::new(), found: found.into(), expected: expected.to_owned() }
    }
}

/// Parses a text. The tree is there unless a flaw made it impossible to go on; repeated keys are flaws that do not. An
/// empty text is a flaw that says what was `expected`.
pub(super) fn parse(text: &str, expected: &str) -> (Option<Rc<Node>>, Vec<Flaw>) {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let step = match event {
            Ok((event, span)) => builder.take(event, span),
            Err(error) => {
                let place = (error.marker().line(), error.marker().col() + 1);
                Err(syntax::explain(text, place, error.info(), builder.frames.iter().map(|frame| frame.place)))
            }
        };
        if let Err(fatal) = step {
            builder.flaws.push(fatal);
            return (None, builder.flaws);
        }
    }
    let empty = builder.root.as_ref().is_none_or(|root| matches!(root.kind, Kind::Null));
    if empty {
        builder.flaws.push(Flaw::new((1, 1), "an empty file".to_owned(), expected));
        return (None, builder.flaws);
    }
    (builder.root, builder.flaws)
}

#[derive(Default)]
struct Builder {
    frames: Vec<Frame>,
    root: Option<Rc<Node>>,
    documents: usize,
    spent: usize,
    anchors: BTreeMap<usize, Rc<Node>>,
    flaws: Vec<Flaw>,
}

struct Frame {
    place: (usize, usize),
    anchor: usize,
    open: Open,
}

enum Open {
    List(Vec<Rc<Node>>),
    Map { entries: Vec<Entry>, seen: HashMap<String, usize>, key: Option<(String, (usize, usize))> },
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Flaw> {
        let place = (span.start.line(), span.start.col() + 1);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Flaw::new(place, "a second document".to_owned(), "one document in a file"));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.as_ref().is_none_or(|tag| tag.suffix != "str");
                refuse_tag(tag.as_deref(), place)?;
                let null = plain && matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL");
                let kind = if null { Kind::Null } else { Kind::Text(text.into_owned()) };
                self.add(Node::new(Place::At(place.0, place.1), kind), anchor, place)
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_tag(tag.as_deref(), place)?;
                self.open(place, anchor, Open::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                refuse_tag(tag.as_deref(), place)?;
                self.open(place, anchor, Open::Map { entries: Vec::new(), seen: HashMap::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id).cloned() else {
                    return Err(Flaw::new(
                        place,
                        "an alias inside its own anchor".to_owned(),
                        "an anchor that ends before its alias",
                    ));
                };
                self.spend(node.cost, place)?;
                self.put(node, place)
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn open(&mut self, place: (usize, usize), anchor: usize, open: Open) -> Result<(), Flaw> {
        self.spend(1, place)?;
        self.fits(1, place)?;
        if let Some(Frame { open: Open::Map { key: None, .. }, .. }) = self.frames.last() {
            return Err(Flaw::new(place, "a key that is a map or a list".to_owned(), "a name as the key"));
        }
        self.frames.push(Frame { place, anchor, open });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Flaw> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        let kind = match frame.open {
            Open::List(items) => Kind::List(items),
            Open::Map { entries, .. } => Kind::Map(entries),
        };
        let node = Node::new(Place::At(frame.place.0, frame.place.1), kind);
        if frame.anchor > 0 {
            self.anchors.insert(frame.anchor, Rc::clone(&node));
        }
        self.put(node, frame.place)
    }

    fn add(&mut self, node: Rc<Node>, anchor: usize, place: (usize, usize)) -> Result<(), Flaw> {
        self.spend(node.cost, place)?;
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.put(node, place)
    }

    fn put(&mut self, node: Rc<Node>, place: (usize, usize)) -> Result<(), Flaw> {
        self.fits(node.height, place)?;
        match self.frames.last_mut().map(|frame| &mut frame.open) {
            None => self.root = Some(node),
            Some(Open::List(items)) => items.push(node),
            Some(Open::Map { key: unset @ None, .. }) => match &node.kind {
                Kind::Text(text) if text.starts_with(|c: char| c.is_whitespace() && !c.is_ascii()) => {
                    return Err(Flaw::new(place, "a no-break space in the indentation".to_owned(), "ordinary spaces"));
                }
                Kind::Text(text) => *unset = Some((text.clone(), place)),
                Kind::Null => *unset = Some(("null".to_owned(), place)),
                _ => return Err(Flaw::new(place, "a key that is a map or a list".to_owned(), "a name as the key")),
            },
            Some(Open::Map { entries, seen, key }) => {
                let Some((name, at)) = key.take() else { return Ok(()) };
                if let Some(first) = seen.get(&name) {
                    let first = *first;
                    self.repeated(&name, at, first);
                } else {
                    seen.insert(name.clone(), at.0);
                    entries.push(Entry { key: name, place: Place::At(at.0, at.1), value: node });
                }
            }
        }
        Ok(())
    }

    fn repeated(&mut self, name: &str, place: (usize, usize), first: usize) {
        let keys: Vec<&str> = self.frames.iter().filter_map(Frame::key).collect();
        let secret = keys.iter().any(|key| is_secret(key));
        let path: Vec<String> = keys.into_iter().map(|key| printable(shown_key(key))).collect();
        let what = if secret { "a key".to_owned() } else { format!("the key {}", quoted(shown_key(name))) };
        let found = format!("{what} again, after line {first}");
        self.flaws.push(Flaw { place, path: path.join("."), found, expected: "each key once".to_owned() });
    }

    fn fits(&self, height: usize, place: (usize, usize)) -> Result<(), Flaw> {
        if self.frames.len() + height > DEEPEST {
            return Err(Flaw::new(place, "deeper nesting than that".to_owned(), &format!("at most {DEEPEST} levels")));
        }
        Ok(())
    }

    fn spend(&mut self, cost: usize, place: (usize, usize)) -> Result<(), Flaw> {
        self.spent = self.spent.saturating_add(cost);
        if self.spent > MOST_VALUES {
            let expected = format!("at most {MOST_VALUES}, where an alias counts as all that it stands for");
            return Err(Flaw::new(place, "too many values".to_owned(), &expected));
        }
        Ok(())
    }
}

impl Frame {
    fn key(&self) -> Option<&str> {
        match &self.open {
            Open::Map { key: Some((name, _)), .. } => Some(name),
            _ => None,
        }
    }
}

/// The standard tags say nothing that the key does not say; any other would be silently without effect.
fn refuse_tag(tag: Option<&Tag>, place: (usize, usize)) -> Result<(), Flaw> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() || tag.suffix == "binary" => Err(Flaw::new(
            place,
            format!("the tag {}", quoted(&tag.to_string())),
            "a value without a tag (quote a text that begins with !)",
        )),
        _ => Ok(()),
    }
}
