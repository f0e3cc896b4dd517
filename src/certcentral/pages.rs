//! Reading a list page by page, as a whole or not at all.
//!
//! A list may change while it is read. What is added moves items to later pages: what comes twice is taken once. What is
//! taken away moves items to earlier pages, where they would be missed: where that can be, a page repeats the last items of
//! the one before it, and a list whose next page shows none of them, or that lacks about as many at its end, is read again. A
//! list that has no stable order looks changed each time: what all tries brought is used if it is as much as the list says.

use std::collections::{BTreeMap, BTreeSet};

use super::ReadError;
use super::client::{ApiResponse, CertCentralClient, RequestFailure, RequestPriority};
use super::wire::{BodyProblem, ListPage, ListedItem};
use crate::certcentral::response::ApiEndpoint;

/// No page has fewer new items than this: what is still too large then is no list of lines.
const MIN_PAGE_ITEMS: usize = 10;
/// The most items of one list; more than any account is known to have, and still bounded. A list that goes on is an error,
/// and a total above it is not believed: a list that ends before is whole.
const MAX_ITEMS: usize = 500_000;
/// So many pages in a row may bring nothing new: a server that pays no heed to the offset is not asked for ever.
const MAX_REPEATED_PAGES: usize = 3;
/// Number of times that a list which changes meanwhile is read.
const MAX_ATTEMPTS: usize = 3;

/// Why items may be missing between two pages.
const DISCONTINUOUS: &str = "does not go on where the page before it ended: the list was changed while it was read";

/// What makes a page of a body.
type PageReader<'a, T> = dyn Fn(&[u8]) -> Result<ListPage<T>, BodyProblem> + Sync + 'a;

/// A list that comes in pages.
pub(super) struct ListRequest<'a, T> {
    pub(super) endpoint: ApiEndpoint<'a>,
    /// What is asked for beside the page.
    pub(super) parameters: &'a [(&'a str, String)],
    /// New items asked for at once.
    pub(super) limit: usize,
    /// Number of items that a page repeats of the one before it; 0 for a list that loses none.
    pub(super) overlap: usize,
    pub(super) read: &'a PageReader<'a, T>,
}

/// What is on all pages of a list, each item once, in their order.
#[derive(Debug)]
pub(super) struct ListItems<T> {
    pub(super) items: Vec<T>,
    /// What is undocumented of those that are missing among the items, by their ids.
    pub(super) undocumented: BTreeMap<String, String>,
}

/// The pages that one try has read.
struct ListPages<T> {
    /// Everything listed on them, by id, each once.
    listed: Vec<(String, ListedItem<T>)>,
    /// The largest total that a page said.
    total: Option<u64>,
    /// Why items may be missing.
    gap: Option<ReadError>,
}

impl CertCentralClient {
    /// All items of a list. One that is changed while it is read is read again, a few times at most.
    pub(super) async fn all_pages<T: Send>(&self, list: &ListRequest<'_, T>) -> Result<ListItems<T>, ReadError> {
        let (mut limit, mut tries) = (list.limit, Vec::new());
        loop {
            let is_last = tries.len() + 1 == MAX_ATTEMPTS;
            let mut pages = self.pages(list, &mut limit, is_last).await?;
            let Some(gap) = pages.gap.take() else { return Ok(ListItems::of(pages.listed)) };
            tries.push(pages);
            if is_last {
                return self.union(tries, gap);
            }
            tracing::debug!(account = self.account(), reason = %gap.reason, "a list is read again");
        }
    }

    /// Puts together what all tries brought, if that is as much as the list was ever said to have; else `gap` is the error.
    fn union<T>(&self, tries: Vec<ListPages<T>>, gap: ReadError) -> Result<ListItems<T>, ReadError> {
        let total = tries.iter().filter_map(|pages| pages.total).max();
        let mut seen = BTreeSet::new();
        // The newest answer counts.
        let listed = tries.into_iter().rev().flat_map(|pages| pages.listed);
        let listed: Vec<_> = listed.filter(|(id, _)| seen.insert(id.clone())).collect();
        let items = listed.len();
        if total.is_none_or(|total| (items as u64) < total) {
            return Err(gap);
        }
        tracing::warn!(account = self.account(), items, reason = %gap.reason, "a list was changed each time it was read: what all tries brought is used");
        Ok(ListItems::of(listed))
    }

    /// A list ends with a short page that reaches the total, or with one that brings nothing behind what was read. Where the
    /// total says that there is more, a smaller page is asked for once, and then it is an error: a list that lacks lines
    /// without saying so is worse than none. Reading ends at the first gap, unless this try `is_last`. `limit` is the number of
    /// new items asked for at once: what was too large is not asked for again.
    async fn pages<T: Send>(
        &self,
        list: &ListRequest<'_, T>,
        limit: &mut usize,
        is_last: bool,
    ) -> Result<ListPages<T>, ReadError> {
        let (mut offset, mut repeats) = (0, 0);
        let (mut total, mut retried_smaller) = (None, false);
        let (mut seen, mut last) = (BTreeSet::new(), Vec::new());
        let mut found = ListPages { listed: Vec::new(), total: None, gap: None };
        loop {
            // Where all items would come again, a server that pays no heed to the offset could not be told from one that does.
            let overlap = if seen.len() > list.overlap { list.overlap } else { 0 };
            let response = match self.page(list, offset - overlap, *limit + overlap).await {
                Err(RequestFailure { too_large: true, .. }) if *limit > MIN_PAGE_ITEMS => {
                    *limit = (*limit / 2).max(MIN_PAGE_ITEMS);
                    continue;
                }
                page_result => page_result.map_err(|failure| failure.error)?,
            };
            let page = (list.read)(&response.body)
                .map_err(|problem| self.invalid_response(list.endpoint, &response, &problem))?;
            let goes_on = overlap == 0 || goes_on(&page, &last, offset);
            let behind = page.listed.len().saturating_sub(overlap);
            offset += behind;
            let ended = page.total.is_some_and(|total| offset as u64 >= total);
            // One that says nothing of itself, or 0 behind other pages, does not take back what those said.
            total = page.total.filter(|it| *it > 0 || behind > 0).or(total);
            found.total = found.total.max(total);
            let known = seen.len();
            if !page.listed.is_empty() {
                last = page.listed.iter().rev().take(list.overlap).map(|(id, _)| id.clone()).collect();
            }
            for (id, listed) in page.listed {
                if seen.insert(id.clone()) {
                    found.listed.push((id, listed));
                }
            }
            let gap = if goes_on {
                missing_items(seen.len(), total.filter(|_| ended), list.overlap)
            } else {
                Some(DISCONTINUOUS.to_owned())
            };
            if let Some(problem) = gap {
                found.gap.get_or_insert_with(|| self.invalid_response(list.endpoint, &response, &problem));
            }
            if found.gap.is_some() && !is_last {
                return Ok(found);
            }
            if behind == 0 {
                let Some(total) = total.filter(|it| (offset as u64) < *it && *it <= MAX_ITEMS as u64) else {
                    return Ok(found);
                };
                if !retried_smaller {
                    (*limit, retried_smaller) = ((*limit / 2).max(MIN_PAGE_ITEMS), true);
                    continue;
                }
                let problem = format!("ends after {offset} of {total} items");
                return Err(self.invalid_response(list.endpoint, &response, &problem));
            }
            if behind < *limit && ended {
                return Ok(found);
            }
            retried_smaller = false;
            repeats = if seen.len() == known { repeats + 1 } else { 0 };
            let problem = match (repeats > MAX_REPEATED_PAGES, offset > MAX_ITEMS) {
                (true, _) => "repeats the pages before it, whatever offset is asked for".to_owned(),
                (_, true) => format!("has still more items after {MAX_ITEMS}"),
                _ => continue,
            };
            return Err(self.invalid_response(list.endpoint, &response, &problem));
        }
    }

    async fn page<T>(
        &self,
        list: &ListRequest<'_, T>,
        offset: usize,
        limit: usize,
    ) -> Result<ApiResponse, RequestFailure> {
        let query = query(list.parameters, offset, limit);
        self.get(RequestPriority::Background, list.endpoint, Some(&query)).await
    }
}

impl<T> ListItems<T> {
    fn of(listed: Vec<(String, ListedItem<T>)>) -> Self {
        let mut list = Self { items: Vec::new(), undocumented: BTreeMap::new() };
        for (id, listed) in listed {
            match listed {
                ListedItem::Item(item) => list.items.push(item),
                ListedItem::Skipped => {}
                ListedItem::Undocumented(what) => drop(list.undocumented.insert(id, what)),
            }
        }
        list
    }
}

/// Whether a page shows one of the last items of the page before it, which it was asked to repeat. An empty page shows none;
/// it is the end of the list, unless the list has become shorter than what was read of it.
fn goes_on<T>(page: &ListPage<T>, last: &[String], offset: usize) -> bool {
    if page.listed.is_empty() {
        return page.total.is_none_or(|total| total == 0 || total >= offset as u64);
    }
    page.listed.iter().any(|(id, _)| last.contains(id))
}

/// Why items are taken to be missing at the end of a list of `total` items of which so many were seen. Some may have been
/// added before the others while it was read, as some may have left.
fn missing_items(seen: usize, total: Option<u64>, overlap: usize) -> Option<String> {
    let total = total.filter(|total| overlap > 0 && (seen + overlap) as u64 <= *total)?;
    Some(format!(
        "ends with {seen} of {total} items and others twice: the list has no stable order, or was changed while it was read"
    ))
}

fn query(parameters: &[(&str, String)], offset: usize, limit: usize) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters);
    query.append_pair("offset", &offset.to_string()).append_pair("limit", &limit.to_string());
    query.finish()
}
