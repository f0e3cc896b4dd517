//! Reads a list page by page, completely or not at all.
//!
//! A list may change while it is read. New items move others to later pages; an item that is then listed twice counts
//! once. Removed items move others to earlier pages, where they would be missed. Lists that lose items are therefore
//! read in overlapping pages: each page repeats the last items of the page before it. If a page shows none of them, or
//! if the list lacks about as many items at its end, it is read again. A list without a stable order seems to change on
//! every read: the items of all attempts together are used if they are as many as the list is said to have.

use std::collections::{BTreeMap, BTreeSet};

use super::ReadError;
use super::client::{ApiResponse, CertCentralClient, RequestFailure, RequestPriority};
use super::wire::{BodyProblem, ListPage, ListedItem};
use crate::certcentral::response::ApiEndpoint;

/// Smallest number of new items of a page. A page that is still too large is an error.
const MIN_PAGE_ITEMS: usize = 10;
/// Largest number of items of a list; more than any known account has. A longer list is an error. A larger total is
/// ignored: a list that ends before it is complete.
const MAX_ITEMS: usize = 500_000;
/// Number of pages in a row that may contain nothing new, so that reading ends if the server ignores the offset.
const MAX_REPEATED_PAGES: usize = 3;
/// Number of times that a changing list is read.
const MAX_ATTEMPTS: usize = 3;

/// Problem of a page that shows none of the last items of the page before it.
const DISCONTINUOUS: &str = "does not continue where the previous page ended: the list changed while it was read";

/// A parser of one page.
type PageReader<'a, T> = dyn Fn(&[u8]) -> Result<ListPage<T>, BodyProblem> + Sync + 'a;

/// A list that is read in pages.
pub(super) struct ListRequest<'a, T> {
    pub(super) endpoint: ApiEndpoint<'a>,
    /// Query parameters other than offset and limit.
    pub(super) parameters: &'a [(&'a str, String)],
    /// Number of new items in one request.
    pub(super) limit: usize,
    /// Number of items that a page repeats of the page before it; 0 for a list that never loses items.
    pub(super) overlap: usize,
    pub(super) read: &'a PageReader<'a, T>,
}

/// The items of all pages of a list, in their order and without duplicates.
#[derive(Debug)]
pub(super) struct ListItems<T> {
    pub(super) items: Vec<T>,
    /// Undocumented statuses and forms of items that were left out, by item id.
    pub(super) undocumented: BTreeMap<String, String>,
}

impl<T> From<Vec<(String, ListedItem<T>)>> for ListItems<T> {
    fn from(listed: Vec<(String, ListedItem<T>)>) -> Self {
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

/// The items that one attempt has read.
struct Attempt<T> {
    /// Items by id, without duplicates.
    listed: Vec<(String, ListedItem<T>)>,
    /// Largest total of any page.
    total: Option<u64>,
    /// Reason why items may be missing.
    gap: Option<ReadError>,
}

impl CertCentralClient {
    /// Reads all items of a list, and reads a list that changes meanwhile again, at most [`MAX_ATTEMPTS`] times in all.
    pub(super) async fn all_pages<T: Send>(&self, list: &ListRequest<'_, T>) -> Result<ListItems<T>, ReadError> {
        let (mut limit, mut attempts) = (list.limit, Vec::new());
        loop {
            let is_last = attempts.len() + 1 == MAX_ATTEMPTS;
            let mut attempt = self.read_pages(list, &mut limit, is_last).await?;
            let Some(gap) = attempt.gap.take() else { return Ok(attempt.listed.into()) };
            attempts.push(attempt);
            if is_last {
                return self.merge_attempts(attempts, gap);
            }
            tracing::debug!(account = self.account(), reason = %gap.reason, "rereading a list that changed");
        }
    }

    /// Merges the items of all attempts. Fails with `gap` if they are fewer than the largest total.
    fn merge_attempts<T>(&self, attempts: Vec<Attempt<T>>, gap: ReadError) -> Result<ListItems<T>, ReadError> {
        let total = attempts.iter().filter_map(|attempt| attempt.total).max();
        let mut seen = BTreeSet::new();
        // Of an item in several attempts, the latest one counts.
        let listed = attempts.into_iter().rev().flat_map(|attempt| attempt.listed);
        let listed: Vec<_> = listed.filter(|(id, _)| seen.insert(id.clone())).collect();
        let items = listed.len();
        if total.is_none_or(|total| (items as u64) < total) {
            return Err(gap);
        }
        tracing::warn!(account = self.account(), items, reason = %gap.reason, "a list changed on every read, using all that was read");
        Ok(listed.into())
    }

    /// Reads the pages of a list up to its end or, unless this is the last attempt, up to the first gap.
    ///
    /// `limit` is the number of new items in one request. It shrinks when a page is too large, and stays small for the
    /// attempts that follow.
    async fn read_pages<T: Send>(
        &self,
        list: &ListRequest<'_, T>,
        limit: &mut usize,
        is_last: bool,
    ) -> Result<Attempt<T>, ReadError> {
        let mut walk = PageWalk::new(list.overlap);
        loop {
            let overlap = walk.next_overlap();
            let response = match self.request_page(list, walk.offset - overlap, *limit + overlap).await {
                Err(RequestFailure { too_large: true, .. }) if *limit > MIN_PAGE_ITEMS => {
                    *limit = smaller(*limit);
                    continue;
                }
                result => result.map_err(|failure| failure.error)?,
            };
            let invalid = |problem: &str| self.invalid_response(list.endpoint, &response, problem);
            let page = (list.read)(&response.body).map_err(|problem| invalid(&problem))?;
            let added = walk.add(page, overlap);
            if let Some(problem) = &added.gap {
                walk.attempt.gap.get_or_insert_with(|| invalid(problem));
            }
            if walk.attempt.gap.is_some() && !is_last {
                return Ok(walk.attempt);
            }
            match walk.next_step(&added, *limit).map_err(|problem| invalid(&problem))? {
                PageStep::NextPage => {}
                PageStep::SmallerPage => *limit = smaller(*limit),
                PageStep::End => return Ok(walk.attempt),
            }
        }
    }

    async fn request_page<T>(
        &self,
        list: &ListRequest<'_, T>,
        offset: usize,
        limit: usize,
    ) -> Result<ApiResponse, RequestFailure> {
        let query = query(list.parameters, offset, limit);
        self.get(RequestPriority::Background, list.endpoint, Some(&query)).await
    }
}

/// The position of one attempt in a list, and the items read so far.
struct PageWalk<T> {
    /// Overlap of the pages of this list.
    overlap: usize,
    /// Number of positions of the list that were read.
    offset: usize,
    /// Total of the latest page that had one.
    total: Option<u64>,
    seen: BTreeSet<String>,
    /// Ids of the last items of the latest page.
    last_ids: Vec<String>,
    /// Number of pages in a row without a new item.
    repeated_pages: usize,
    /// True after an empty page before the total was requested once more with a smaller limit.
    retried_smaller: bool,
    attempt: Attempt<T>,
}

/// Facts about a page that was added to a [`PageWalk`].
struct AddedPage {
    /// Number of positions by which the page extends the list.
    advanced: usize,
    /// True if the list is read up to the page's total.
    reached_total: bool,
    /// True if all items of the page were known.
    is_repeated: bool,
    /// Reason why items may be missing before this page, or at the end of the list.
    gap: Option<String>,
}

/// The next request of an attempt.
enum PageStep {
    NextPage,
    /// The same position, with a smaller limit.
    SmallerPage,
    /// No request: the list is complete.
    End,
}

impl<T> PageWalk<T> {
    fn new(overlap: usize) -> Self {
        Self {
            overlap,
            offset: 0,
            total: None,
            seen: BTreeSet::new(),
            last_ids: Vec::new(),
            repeated_pages: 0,
            retried_smaller: false,
            attempt: Attempt { listed: Vec::new(), total: None, gap: None },
        }
    }

    /// Returns the number of items that the next page repeats: none while it would repeat all of them, since a server
    /// that ignores the offset would then look like one that respects it.
    fn next_overlap(&self) -> usize {
        if self.seen.len() > self.overlap { self.overlap } else { 0 }
    }

    /// Adds the items of a page that was requested with this overlap.
    fn add(&mut self, page: ListPage<T>, overlap: usize) -> AddedPage {
        let continues = overlap == 0 || continues(&page, &self.last_ids, self.offset);
        let advanced = page.listed.len().saturating_sub(overlap);
        self.offset += advanced;
        let reached_total = page.total.is_some_and(|total| self.offset as u64 >= total);
        // A page without a total, or with 0 after other pages, does not revoke the total of those pages.
        self.total = page.total.filter(|total| *total > 0 || advanced > 0).or(self.total);
        self.attempt.total = self.attempt.total.max(self.total);
        if !page.listed.is_empty() {
            self.last_ids = page.listed.iter().rev().take(self.overlap).map(|(id, _)| id.clone()).collect();
        }
        let known = self.seen.len();
        for (id, item) in page.listed {
            if self.seen.insert(id.clone()) {
                self.attempt.listed.push((id, item));
            }
        }
        let gap = if continues {
            missing_items(self.seen.len(), self.total.filter(|_| reached_total), self.overlap)
        } else {
            Some(DISCONTINUOUS.to_owned())
        };
        AddedPage { advanced, reached_total, is_repeated: self.seen.len() == known, gap }
    }

    /// Decides how to go on after a page that was requested with this limit.
    ///
    /// A list ends with a short page that reaches the total, or with a page that adds nothing. If the total says that
    /// there is more after the latter, a smaller page is requested once. If that adds nothing either, it is an error: a
    /// list that lacks items without saying so is worse than none.
    fn next_step(&mut self, added: &AddedPage, limit: usize) -> Result<PageStep, String> {
        if added.advanced == 0 {
            let more = self.total.filter(|total| (self.offset as u64) < *total && *total <= MAX_ITEMS as u64);
            let Some(total) = more else { return Ok(PageStep::End) };
            if self.retried_smaller {
                return Err(format!("ends after {} of {total} items", self.offset));
            }
            self.retried_smaller = true;
            return Ok(PageStep::SmallerPage);
        }
        if added.advanced < limit && added.reached_total {
            return Ok(PageStep::End);
        }
        self.retried_smaller = false;
        self.repeated_pages = if added.is_repeated { self.repeated_pages + 1 } else { 0 };
        if self.repeated_pages > MAX_REPEATED_PAGES {
            return Err("repeats earlier pages, whatever offset is requested".to_owned());
        }
        if self.offset > MAX_ITEMS {
            return Err(format!("has still more items after {MAX_ITEMS}"));
        }
        Ok(PageStep::NextPage)
    }
}

fn smaller(limit: usize) -> usize {
    (limit / 2).max(MIN_PAGE_ITEMS)
}

/// Returns whether a page shows one of the last items of the page before it, which it was requested to repeat. An empty
/// page shows none, but is the end of the list, unless the list is now shorter than `offset`.
fn continues<T>(page: &ListPage<T>, last_ids: &[String], offset: usize) -> bool {
    if page.listed.is_empty() {
        return page.total.is_none_or(|total| total == 0 || total >= offset as u64);
    }
    page.listed.iter().any(|(id, _)| last_ids.contains(id))
}

/// Returns the problem of a complete list of `total` items of which fewer were `seen`. A difference smaller than the
/// overlap is no problem: items may have been added while others left.
fn missing_items(seen: usize, total: Option<u64>, overlap: usize) -> Option<String> {
    let total = total.filter(|total| overlap > 0 && (seen + overlap) as u64 <= *total)?;
    Some(format!(
        "ends with {seen} of {total} items and duplicates: the list has no stable order, or changed while it was read"
    ))
}

fn query(parameters: &[(&str, String)], offset: usize, limit: usize) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters);
    query.append_pair("offset", &offset.to_string()).append_pair("limit", &limit.to_string());
    query.finish()
}
