//! Reading an account's books: the ledger and the orders, page by page, behind whatever balances need.
//!
//! Every request takes a spare place of the limiter and has retries and pauses of its own, so that no balance reading ever
//! waits because of the books or is refused for a pause that they were asked for. It keeps nothing between two calls.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use chrono::{Days, NaiveDate};

use super::client::{Answer, Client, Failure, Lane};
use super::reply::Asked;
use super::wire::{self, Misfit, Page};
use super::{BooksSource, ReadError, ReadErrorKind};
use crate::domain::Division;
use crate::domain::balance::Balance;
use crate::domain::books::{Entry, Order};

/// Lines asked for at once. One is about 300 bytes, so that even lines with long notes stay far below the cap on bodies;
/// where they do not, fewer are asked for.
const LINES: usize = 500;
/// Orders asked for at once: one may list hundreds of names.
const ORDERS: usize = 250;
/// No page is made smaller than this: what is still too large then is no list of lines.
const FEWEST: usize = 10;
/// The most items of one list; more than any account is known to have, and still bounded. A list that goes on is an error,
/// and a total above it is not believed: a list that ends before is whole.
const MOST_ITEMS: usize = 500_000;
/// So many kinds of orders that are passed over are named in the log, of each page.
const MOST_ODD: usize = 20;
/// So many pages in a row may bring nothing new: a server that pays no heed to the offset is not asked for ever.
const MOST_REPEATS: usize = 3;

const HISTORY: Asked<'static> = Asked { path: "/finance/balance-history", division: false };
/// Under which statuses orders that were paid are listed: `issued` includes those that have expired.
const STATUSES: [&str; 2] = ["issued", "reissue_pending"];

const LISTING: Asked<'static> = Asked { path: "/order/certificate", division: false };

/// What makes a page of a body.
type Reader<'a, T> = dyn Fn(&[u8]) -> Result<Page<T>, Misfit> + Sync + 'a;

/// A list that comes in pages.
struct Paged<'a, T> {
    asked: Asked<'a>,
    /// What is asked for beside the page.
    parameters: &'a [(&'a str, String)],
    /// Items asked for at once.
    limit: usize,
    read: &'a Reader<'a, T>,
    /// What an item is known by.
    id: fn(&T) -> String,
}

impl Client {
    /// All items of a list in the order of its pages, each once. Items that come or go between two pages shift those
    /// behind them: what comes twice is taken once. A list ends with a short page that reaches the total, or with an empty
    /// one. Where the total says that there is more behind an empty page, a smaller page is asked for once, and an empty
    /// one again is an error: a list that lacks lines without saying so is worse than none.
    async fn all_pages<T: Send>(&self, list: Paged<'_, T>) -> Result<Vec<T>, ReadError> {
        let (mut limit, mut offset, mut repeats) = (list.limit, 0, 0);
        let (mut total, mut doubted) = (None, false);
        let (mut seen, mut items) = (BTreeSet::new(), Vec::new());
        loop {
            let answer = match self.page(&list, offset, limit).await {
                Err(Failure { too_large: true, .. }) if limit > FEWEST => {
                    limit = (limit / 2).max(FEWEST);
                    continue;
                }
                answer => answer.map_err(|failure| failure.error)?,
            };
            let page = (list.read)(&answer.body).map_err(|misfit| self.nonsense(list.asked, &answer, &misfit))?;
            let (count, before) = (page.items.len(), items.len());
            offset += page.listed;
            items.extend(page.items.into_iter().filter(|item| seen.insert((list.id)(item))));
            let ended = page.total.is_some_and(|total| offset as u64 >= total);
            if page.listed == 0 {
                // One that says nothing of itself, or 0 behind other pages, does not take back what those said.
                let says = page.total.filter(|it| *it > 0).or(total);
                let Some(total) = says.filter(|it| (offset as u64) < *it && *it <= MOST_ITEMS as u64) else {
                    return Ok(items);
                };
                if !doubted {
                    (limit, doubted) = ((limit / 2).max(FEWEST), true);
                    continue;
                }
                let misfit = format!("ends after {offset} of {total} items");
                return Err(self.nonsense(list.asked, &answer, &misfit));
            }
            if page.listed < limit && ended {
                return Ok(items);
            }
            (total, doubted) = (page.total.or(total), false);
            repeats = if count > 0 && items.len() == before { repeats + 1 } else { 0 };
            let misfit = match (repeats > MOST_REPEATS, offset > MOST_ITEMS) {
                (true, _) => "repeats the pages before it, whatever offset is asked for".to_owned(),
                (_, true) => format!("has still more items after {MOST_ITEMS}"),
                _ => continue,
            };
            return Err(self.nonsense(list.asked, &answer, &misfit));
        }
    }

    /// The orders that are listed under a status, and whose certificates end from one day to another.
    async fn orders_of(&self, status: &str, from: NaiveDate, to: NaiveDate) -> Result<Vec<Order>, ReadError> {
        let parameters = [("filters[status]", status.to_owned()), ("filters[valid_till]", days(from, to))];
        let redactor = self.redactor();
        let read = |body: &[u8]| {
            let page = wire::orders(body, redactor)?;
            for (what, orders) in page.odd.iter().take(MOST_ODD) {
                tracing::debug!(account = self.account(), status = what, orders, "orders are passed over");
            }
            Ok(page)
        };
        let list = Paged {
            asked: LISTING,
            parameters: &parameters,
            limit: ORDERS,
            read: &read,
            id: |it: &Order| it.id.to_string(),
        };
        let mut orders = self.all_pages(list).await?;
        orders.retain(|order| (from..=to).contains(&order.certificate_ends));
        Ok(orders)
    }

    async fn page<T>(&self, list: &Paged<'_, T>, offset: usize, limit: usize) -> Result<Answer, Failure> {
        let query = query(list.parameters, offset, limit);
        self.ask(Lane::Spare, list.asked, Some(&query)).await
    }
}

fn query(parameters: &[(&str, String)], offset: usize, limit: usize) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters);
    query.append_pair("offset", &offset.to_string()).append_pair("limit", &limit.to_string());
    query.finish()
}

/// A filter's days, both included.
fn days(from: NaiveDate, to: NaiveDate) -> String {
    format!("{from}...{to}")
}

#[async_trait]
impl BooksSource for Client {
    async fn ledger(&self, division: Division, since: Option<NaiveDate>) -> Result<Vec<Entry>, ReadError> {
        let mut parameters = vec![("sort", "-transaction_date".to_owned())];
        parameters.extend(division.map(|id| ("container_id", id.to_string())));
        // Whatever zone the days are of, tomorrow has not begun anywhere in it without being today here.
        let tomorrow = self.clock().now().date_naive() + Days::new(1);
        parameters.extend(since.map(|from| ("filters[transaction_date]", days(from, tomorrow.max(from)))));
        let redactor = self.redactor();
        let kinds = wire::Kinds::default();
        let read = |body: &[u8]| wire::history(body, redactor, &kinds);
        let asked = Asked { division: division.is_some(), ..HISTORY };
        let list =
            Paged { asked, parameters: &parameters, limit: LINES, read: &read, id: |it: &Entry| it.id.to_string() };
        let mut entries = self.all_pages(list).await?;
        entries.reverse();
        Ok(entries)
    }

    async fn orders(&self, from: NaiveDate, to: NaiveDate) -> Result<Vec<Order>, ReadError> {
        let mut orders: BTreeMap<u64, Order> = BTreeMap::new();
        for (place, status) in STATUSES.into_iter().enumerate() {
            match self.orders_of(status, from, to).await {
                Ok(listed) => orders.extend(listed.into_iter().map(|order| (order.id, order))),
                // An account that knows no such status has no such orders.
                Err(error) if place > 0 && error.kind == ReadErrorKind::Refused => {
                    tracing::info!(account = self.account(), status, %error, "orders of a status cannot be listed");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(orders.into_values().collect())
    }

    async fn listed(&self) -> Result<Vec<u64>, ReadError> {
        Ok(self.read_divisions(Lane::Spare).await?.iter().map(|division| division.id).collect())
    }

    async fn figures(&self, division: u64) -> Result<Balance, ReadError> {
        self.read_balance(Lane::Spare, Some(division)).await
    }

    async fn order_end(&self, id: u64) -> Result<Option<NaiveDate>, ReadError> {
        let path = format!("{}/{id}", LISTING.path);
        let asked = Asked { path: &path, division: false };
        let answer = self.ask(Lane::Spare, asked, None).await.map_err(|failure| failure.error)?;
        wire::order_end(&answer.body, self.redactor()).map_err(|misfit| self.nonsense(asked, &answer, &misfit))
    }
}
