//! Reads an account's history page by page: the ledger and the orders.
//!
//! Every request is a background request of the rate limiter, with a retry budget and pauses of its own: no balance
//! reading waits for the history, or fails because of a pause that the history was asked for. Nothing is kept between
//! two calls.

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

/// Number of ledger entries in one request. An entry is about 300 bytes, so that even a page of entries with long notes
/// is far smaller than the limit on bodies. If a page is larger, fewer entries are requested.
const ENTRIES_PER_PAGE: usize = 500;
/// Number of orders in one request. An order may list hundreds of names.
const ORDERS_PER_PAGE: usize = 250;
/// Number of orders that each page repeats of the page before it. If fewer orders than this leave a listing between two
/// pages, it is not read again.
const ORDERS_OVERLAP: usize = 10;
/// Number of undocumented statuses and forms that are counted separately.
const MAX_UNDOCUMENTED: usize = 20;

const LEDGER: ApiEndpoint<'static> = ApiEndpoint { path: "/finance/balance-history", division: false, optional: false };
const ORDERS: ApiEndpoint<'static> = ApiEndpoint { path: "/order/certificate", division: false, optional: false };

/// Filter for orders that were paid, including expired ones.
const ISSUED: &str = "issued";
/// Filter for orders that were paid and are waiting for another certificate.
const REISSUED: &str = "reissue_pending";

impl CertCentralClient {
    /// Lists the orders of one status whose certificates end between two days, both included.
    async fn orders_with_status(
        &self,
        status: &str,
        from: NaiveDate,
        to: NaiveDate,
    ) -> Result<ListItems<Order>, ReadError> {
        let parameters = [("filters[status]", status.to_owned()), ("filters[valid_till]", date_range(from, to))];
        let redactor = self.redactor();
        let list = ListRequest {
            endpoint: ApiEndpoint { optional: status == REISSUED, ..ORDERS },
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

/// Formats a date filter, both days included.
fn date_range(from: NaiveDate, to: NaiveDate) -> String {
    format!("{from}...{to}")
}

/// Merges listings. If an order is in several of them, the last one counts.
fn merge_lists(lists: Vec<ListItems<Order>>) -> OrderList {
    let (mut orders, mut undocumented) = (BTreeMap::new(), BTreeMap::new());
    for list in lists {
        orders.extend(list.items.into_iter().map(|order| (order.id, order)));
        undocumented.extend(list.undocumented);
    }
    OrderList { orders: orders.into_values().collect(), undocumented: count(undocumented) }
}

/// Counts undocumented orders by status or form. Those beyond the first [`MAX_UNDOCUMENTED`] are counted together as
/// `others`.
fn count(undocumented: BTreeMap<String, String>) -> BTreeMap<String, usize> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for what in undocumented.into_values() {
        let is_separate = counts.contains_key(&what) || counts.len() < MAX_UNDOCUMENTED;
        *counts.entry(if is_separate { what } else { "others".to_owned() }).or_default() += 1;
    }
    counts
}

#[async_trait]
impl HistorySource for CertCentralClient {
    async fn ledger(&self, division: Division, since: Option<NaiveDate>) -> Result<Vec<LedgerEntry>, ReadError> {
        let mut parameters = vec![("sort", "-transaction_date".to_owned())];
        parameters.extend(division.map(|id| ("container_id", id.to_string())));
        // The time zone of the filter is not documented. The end of tomorrow in UTC is in the future in every zone.
        let tomorrow = self.clock().now().date_naive() + Days::new(1);
        parameters.extend(since.map(|from| ("filters[transaction_date]", date_range(from, tomorrow.max(from)))));
        let redactor = self.redactor();
        let kinds = wire::EntryKinds::default();
        let list = ListRequest {
            endpoint: ApiEndpoint { division: division.is_some(), ..LEDGER },
            parameters: &parameters,
            limit: ENTRIES_PER_PAGE,
            // Entries are never removed from a ledger.
            overlap: 0,
            read: &|body: &[u8]| wire::ledger(body, redactor, &kinds),
        };
        let mut entries = self.all_pages(&list).await?.items;
        entries.reverse();
        Ok(entries)
    }

    /// A filter takes only one status. Orders that are being reissued are listed before and after the others, so that
    /// an order whose status changes meanwhile is in at least one of the listings.
    async fn orders(&self, from: NaiveDate, to: NaiveDate) -> Result<OrderList, ReadError> {
        let before = self.orders_with_status(REISSUED, from, to).await;
        if let Err(error) = &before
            && error.kind != ReadErrorKind::Refused
        {
            return Err(error.clone());
        }
        let issued = self.orders_with_status(ISSUED, from, to).await?;
        let lists = match before {
            Ok(before) => vec![before, issued, self.orders_with_status(REISSUED, from, to).await?],
            // An account without reissues refuses the filter, and has no such orders.
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
        let path = format!("{}/{id}", ORDERS.path);
        let endpoint = ApiEndpoint { path: &path, ..ORDERS };
        let response = self.get(RequestPriority::Background, endpoint, None).await.map_err(|failure| failure.error)?;
        wire::order_end(&response.body, self.redactor())
            .map_err(|problem| self.invalid_response(endpoint, &response, &problem))
    }
}
