//! Pages of lists, and the errors of their items.

use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{BodyProblem, id, reported_errors, shown};
use crate::domain::balance::FieldProblem;
use crate::util::secret::Redactor;

/// One page of a list.
#[derive(Debug)]
pub(in super::super) struct ListPage<T> {
    /// All items of the page in their order, each with its id.
    pub(in super::super) listed: Vec<(String, ListedItem<T>)>,
    /// Number of items on all pages, if the page says so.
    pub(in super::super) total: Option<u64>,
}

impl<T> ListPage<T> {
    /// Returns the items without the skipped and undocumented ones.
    pub(in super::super) fn into_items(self) -> Vec<T> {
        let item = |(_, listed)| match listed {
            ListedItem::Item(item) => Some(item),
            ListedItem::Skipped | ListedItem::Undocumented(_) => None,
        };
        self.listed.into_iter().filter_map(item).collect()
    }
}

/// An item of a page.
#[derive(Debug)]
pub(in super::super) enum ListedItem<T> {
    /// A ledger entry, or an order that was issued and paid, expired or not.
    Item(T),
    /// An order that was not paid, or that needs no renewal.
    Skipped,
    /// An order of an undocumented status or form, with a name for that status or form.
    Undocumented(String),
}

#[derive(Deserialize)]
struct RawPage<'a> {
    #[serde(borrow, default)]
    total: Option<&'a RawValue>,
}

/// An error of one item.
pub(super) enum ItemProblem {
    /// The item is not an object, or has a key twice.
    Form,
    /// A field of the item is malformed.
    Field(ItemFieldProblem),
}

/// A malformed field, shown as `` `debit` is … ``.
pub(super) struct ItemFieldProblem(Box<FieldProblem>);

impl fmt::Display for ItemFieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.0.field, self.0.problem)
    }
}

impl From<Box<FieldProblem>> for ItemProblem {
    fn from(problem: Box<FieldProblem>) -> Self {
        ItemProblem::Field(ItemFieldProblem(problem))
    }
}

/// Returns the problem of a body without its list, with the errors that the body reports instead.
pub(super) fn missing_list(key: &str, body: &[u8], redactor: &Redactor) -> BodyProblem {
    format!("has no `{key}`{}", reported_errors(body, redactor))
}

/// Returns the number of items on all pages. It is only a hint, so that a malformed one counts as absent.
pub(super) fn total(page: Option<&RawValue>) -> Option<u64> {
    let page: RawPage<'_> = serde_json::from_str(page?.get()).ok()?;
    id(page.total?)
}

/// Parses all items of a list. The error describes the first item that cannot be parsed; `what` is its name with an
/// article.
pub(super) fn parse_items<'a, T>(
    items: &[&'a RawValue],
    what: &str,
    redactor: &Redactor,
    parse: impl Fn(&'a RawValue) -> Result<T, ItemProblem>,
) -> Result<Vec<T>, BodyProblem> {
    let parse = |(index, item): (usize, &&'a RawValue)| {
        parse(item).map_err(|problem| match problem {
            ItemProblem::Form => {
                format!("lists {what} in an undocumented form: {} (item {})", shown(item, redactor), index + 1)
            }
            ItemProblem::Field(problem) => format!("lists {what} whose {problem} (item {})", index + 1),
        })
    };
    items.iter().enumerate().map(parse).collect()
}

/// Parses an object within a list.
pub(super) fn parse_object<'a, T: Deserialize<'a>>(item: &'a RawValue) -> Result<T, ItemProblem> {
    if !item.get().starts_with('{') {
        return Err(ItemProblem::Form);
    }
    serde_json::from_str(item.get()).map_err(|_| ItemProblem::Form)
}
