//! Reads balances, ledgers and orders: the traits that callers use, and the `CertCentral` client that implements them.
//!
//! Types of the wire format stay inside this module; callers get types of the domain. This module evaluates no amount
//! and keeps none.

mod client;
mod history;
pub mod pacing;
mod pages;
mod rate_limiter;
mod response;
mod retries;
mod text;
mod wire;

pub use client::{CertCentralClient, InvalidApiKey};
pub use rate_limiter::{LimiterAccount, RateLimitWindow, RateLimiter, RequestPermit};

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::NaiveDate;

use crate::domain::Division;
use crate::domain::balance::{Balance, Persistence, Unreadable};
use crate::domain::ledger::LedgerEntry;
use crate::domain::order::Order;

/// A source of balances for the cycles of one account.
#[async_trait]
pub trait BalanceSource: Send + Sync {
    /// Reads the balance of a division (`None`: of the account itself), with retries.
    async fn balance(&self, division: Division) -> Result<Balance, ReadError>;
    /// Lists the account's active divisions. Inactive ones are removed here and nowhere else.
    async fn divisions(&self) -> Result<Vec<ListedDivision>, ReadError>;
    /// Returns the rate limiter of the reads; `None` if there is none.
    fn limiter(&self) -> Option<&RateLimiter> {
        None
    }
}

/// A source of an account's ledger and orders. Each call includes its retries, and gives way to balance readings.
#[async_trait]
pub trait HistorySource: Send + Sync {
    /// Reads the ledger of a division (`None`: of the account itself): all of its entries, or those from the day
    /// `since` on, oldest first and without duplicates.
    async fn ledger(&self, division: Division, since: Option<NaiveDate>) -> Result<Vec<LedgerEntry>, ReadError>;
    /// Lists the paid orders of the whole account, including expired ones, whose certificates end between two days,
    /// both included.
    async fn orders(&self, from: NaiveDate, to: NaiveDate) -> Result<OrderList, ReadError>;
    /// Lists the ids of the account's active divisions.
    async fn division_ids(&self) -> Result<Vec<u64>, ReadError>;
    /// Reads the present balance of a division, to determine which divisions share a fund.
    async fn figures(&self, division: u64) -> Result<Balance, ReadError>;
    /// Reads the end of an order, which may be later than the end of its certificate; `None` if its details do not say.
    async fn order_end(&self, id: u64) -> Result<Option<NaiveDate>, ReadError>;
}

/// The orders of an account, as `CertCentral` lists them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderList {
    /// Orders by ascending id, without duplicates.
    pub orders: Vec<Order>,
    /// Number of orders left out because of an undocumented status or form, by that status or form.
    pub undocumented: BTreeMap<String, usize>,
}

/// A division as the account lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedDivision {
    /// Id of the container, which is what a division is called in the API.
    pub id: u64,
    /// Name as received, without secrets. It is not escaped for any output.
    pub name: String,
    /// False only if `is_active` is `false`; an absent `is_active` counts as active.
    pub active: bool,
}

/// A failed read. Its text is for people and contains no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ReadError {
    /// Kind of failure, for decisions and metric labels.
    pub kind: ReadErrorKind,
    /// One sentence: what failed, why, and what to do about it.
    pub reason: String,
}

/// Kinds of failures that callers distinguish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadErrorKind {
    /// No usable connection: refused, broken, DNS, TLS or a proxy.
    Connect,
    /// No complete response within the timeout.
    Timeout,
    /// Status 429, or no request because of a pause that it asked for.
    RateLimited,
    /// Status 408, 425 or 5xx.
    Server,
    /// A 2xx whose body is not as documented.
    InvalidResponse,
    /// A 3xx or any other 4xx: someone has to act.
    Refused,
}

impl ReadErrorKind {
    /// All kinds, in the order of the metric's labels.
    pub const ALL: [ReadErrorKind; 6] =
        [Self::Connect, Self::Timeout, Self::RateLimited, Self::Server, Self::InvalidResponse, Self::Refused];

    /// Returns the value of the metric label `kind`.
    pub fn name(self) -> &'static str {
        match self {
            ReadErrorKind::Connect => "connect",
            ReadErrorKind::Timeout => "timeout",
            ReadErrorKind::RateLimited => "rate_limited",
            ReadErrorKind::Server => "server",
            ReadErrorKind::InvalidResponse => "invalid_response",
            ReadErrorKind::Refused => "refused",
        }
    }

    /// Returns whether such a failure can clear on its own.
    pub fn persistence(self) -> Persistence {
        match self {
            ReadErrorKind::Refused => Persistence::Permanent,
            ReadErrorKind::Connect
            | ReadErrorKind::Timeout
            | ReadErrorKind::RateLimited
            | ReadErrorKind::Server
            | ReadErrorKind::InvalidResponse => Persistence::Transient,
        }
    }
}

impl From<ReadError> for Unreadable {
    fn from(error: ReadError) -> Self {
        Unreadable { persistence: error.kind.persistence(), reason: error.reason }
    }
}

/// Parsers of response bodies, public only for `fuzz/`, its corpus test and the benchmarks. Other callers read through
/// [`BalanceSource`] and [`HistorySource`].
#[doc(hidden)]
pub mod bodies {
    use chrono::NaiveDate;

    use super::{ListedDivision, wire};
    use crate::domain::balance::Balance;
    use crate::domain::ledger::LedgerEntry;
    use crate::domain::order::Order;
    use crate::util::secret::Redactor;

    /// Parses the body of `GET /finance/balance`. The error says what is wrong with the body.
    pub fn balance(body: &[u8], redactor: &Redactor) -> Result<Balance, String> {
        wire::balance(body, redactor)
    }

    /// Parses the body of `GET /container`.
    pub fn divisions(body: &[u8], redactor: &Redactor) -> Result<Vec<ListedDivision>, String> {
        wire::divisions(body, redactor)
    }

    /// Parses one page of `GET /finance/balance-history`: its entries, and the number of entries on all pages.
    pub fn history(body: &[u8], redactor: &Redactor) -> Result<(Vec<LedgerEntry>, Option<u64>), String> {
        let page = wire::ledger(body, redactor, &wire::EntryKinds::default())?;
        let total = page.total;
        Ok((page.into_items(), total))
    }

    /// Parses one page of `GET /order/certificate`: its paid orders, and the number of orders on all pages.
    pub fn orders(body: &[u8], redactor: &Redactor) -> Result<(Vec<Order>, Option<u64>), String> {
        let page = wire::orders(body, redactor)?;
        let total = page.total;
        Ok((page.into_items(), total))
    }

    /// Parses the body of `GET /order/certificate/{id}`, and returns when the order ends.
    pub fn order_end(body: &[u8], redactor: &Redactor) -> Result<Option<NaiveDate>, String> {
        wire::order_end(body, redactor)
    }

    /// Returns the codes and messages of an error body.
    pub fn errors(body: &[u8], redactor: &Redactor) -> Option<String> {
        wire::errors(body, redactor)
    }
}
