//! Reading an account's books: the ledger and the orders, page by page, behind whatever balances need.
//!
//! Every request takes a spare place of the limiter and has retries and pauses of its own, so that no balance reading ever
//! waits because of the books or is refused for a pause that they were asked for. It keeps nothing between two calls.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{Days, NaiveDate};

use super::client::{CertCentralClient, RequestPriority};
use super::pages::{ListItems, ListRequest};
use super::wire;
use super::{HistorySource, OrderList, ReadError, ReadErrorKind};
use crate::certcentral::response::ApiEndpoint;
use crate::domain::Division;
use crate::domain::balance::Balance;
use crate::domain::ledger::LedgerEntry;
use crate::domain::order::Order;

/// Lines asked for at once. One is about 300 bytes, so that even lines with long notes stay far below the cap on bodies;
/// where they do not, fewer are asked for.
const LINES_PER_PAGE: usize = 500;
/// Orders asked for at once: one may list hundreds of names.
const ORDERS_PER_PAGE: usize = 250;
/// Fewer orders than that may leave a listing between two of its pages without it being read again.
const ORDERS_OVERLAP: usize = 10;
/// Undocumented statuses and forms that are told apart.
const MAX_UNDOCUMENTED: usize = 20;

const HISTORY: ApiEndpoint<'static> =
    ApiEndpoint { path: "/finance/balance-history", division: false, optional: false };
const LISTING: ApiEndpoint<'static> = ApiEndpoint { path: "/order/certificate", division: false, optional: false };

/// The status under which orders are listed that were paid, those that have expired among them.
const ISSUED: &str = "issued";
/// The status of orders that were paid and get another certificate.
const REISSUED: &str = "reissue_pending";

impl CertCentralClient {
    /// The orders that are listed under a status, and whose certificates end from one day to another.
    async fn orders_of(&self, status: &str, from: NaiveDate, to: NaiveDate) -> Result<ListItems<Order>, ReadError> {
        let parameters = [("filters[status]", status.to_owned()), ("filters[valid_till]", days(from, to))];
        let redactor = self.redactor();
        let list = ListRequest {
            endpoint: ApiEndpoint { optional: status == REISSUED, ..LISTING },
            parameters: &parameters,
            limit: ORDERS_PER_PAGE,
            overlap: ORDERS_OVERLAP,
            read: &|body: &[u8]| wire::orders(body, redactor),
        };
        let mut orders = self.all_pages(&list).await?;
        orders.items.retain(|order| (from..=to).contains(&order.certificate_ends));
        Ok(orders)
    }
}

/// A filter's days, both included.
fn days(from: NaiveDate, to: NaiveDate) -> String {
    format!("{from}...{to}")
}

/// Lists of which a later one counts where an order is in two.
fn merge_lists(lists: Vec<ListItems<Order>>) -> OrderList {
    let (mut orders, mut undocumented) = (BTreeMap::new(), BTreeMap::new());
    for list in lists {
        orders.extend(list.items.into_iter().map(|order| (order.id, order)));
        undocumented.extend(list.undocumented);
    }
    OrderList { orders: orders.into_values().collect(), undocumented: counted(undocumented) }
}

/// How many are of each kind; those beyond the first kinds are counted as one.
fn counted(undocumented: BTreeMap<String, String>) -> BTreeMap<String, usize> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for what in undocumented.into_values() {
        let is_told_apart = counts.contains_key(&what) || counts.len() < MAX_UNDOCUMENTED;
        *counts.entry(if is_told_apart { what } else { "others".to_owned() }).or_default() += 1;
    }
    counts
}

#[async_trait]
impl HistorySource for CertCentralClient {
    async fn ledger(&self, division: Division, since: Option<NaiveDate>) -> Result<Vec<LedgerEntry>, ReadError> {
        let mut parameters = vec![("sort", "-transaction_date".to_owned())];
        parameters.extend(division.map(|id| ("container_id", id.to_string())));
        // Whatever zone the days are of, tomorrow has not begun anywhere in it without being today here.
        let tomorrow = self.clock().now().date_naive() + Days::new(1);
        parameters.extend(since.map(|from| ("filters[transaction_date]", days(from, tomorrow.max(from)))));
        let redactor = self.redactor();
        let kinds = wire::EntryKinds::default();
        let list = ListRequest {
            endpoint: ApiEndpoint { division: division.is_some(), ..HISTORY },
            parameters: &parameters,
            limit: LINES_PER_PAGE,
            // No line is ever taken back.
            overlap: 0,
            read: &|body: &[u8]| wire::history(body, redactor, &kinds),
        };
        let mut entries = self.all_pages(&list).await?.items;
        entries.reverse();
        Ok(entries)
    }

    /// No filter has both statuses. What is reissued is listed before and after the other orders: one that changes from one
    /// status to the other meanwhile is in one of the lists.
    async fn orders(&self, from: NaiveDate, to: NaiveDate) -> Result<OrderList, ReadError> {
        let before = self.orders_of(REISSUED, from, to).await;
        if let Err(error) = &before
            && error.kind != ReadErrorKind::Refused
        {
            return Err(error.clone());
        }
        let issued = self.orders_of(ISSUED, from, to).await?;
        let lists = match before {
            Ok(before) => vec![before, issued, self.orders_of(REISSUED, from, to).await?],
            // An account that knows no such status has no such orders.
            Err(error) => {
                tracing::info!(account = self.account(), status = REISSUED, %error, "orders of a status cannot be listed");
                vec![issued]
            }
        };
        Ok(merge_lists(lists))
    }

    async fn division_ids(&self) -> Result<Vec<u64>, ReadError> {
        Ok(self.read_divisions(RequestPriority::Background).await?.iter().map(|division| division.id).collect())
    }

    async fn figures(&self, division: u64) -> Result<Balance, ReadError> {
        self.read_balance(RequestPriority::Background, Some(division)).await
    }

    async fn order_end(&self, id: u64) -> Result<Option<NaiveDate>, ReadError> {
        let path = format!("{}/{id}", LISTING.path);
        let endpoint = ApiEndpoint { path: &path, ..LISTING };
        let response = self.get(RequestPriority::Background, endpoint, None).await.map_err(|failure| failure.error)?;
        wire::order_end(&response.body, self.redactor())
            .map_err(|problem| self.invalid_response(endpoint, &response, &problem))
    }
}
