//! Reading balances and books: the traits that they are read through, and the `CertCentral` client behind them.
//!
//! Wire types stay inside; what leaves is the domain's. Nothing here judges or remembers an amount.

mod client;
mod history;
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

/// Where a cycle's balances come from.
#[async_trait]
pub trait BalanceSource: Send + Sync {
    /// One good read of one division (`None`: the account itself), retries included.
    async fn balance(&self, division: Division) -> Result<Balance, ReadError>;
    /// The account's active divisions; inactive ones are left out here, and nowhere else.
    async fn divisions(&self) -> Result<Vec<ListedDivision>, ReadError>;
    /// The limiter that its reads keep to; `None` where it has none.
    fn limiter(&self) -> Option<&RateLimiter> {
        None
    }
}

/// Where an account's books come from. Each call is one good read with its retries; it steps back for balance readings.
#[async_trait]
pub trait HistorySource: Send + Sync {
    /// The ledger's lines of one division (`None`: the account itself), oldest first, each once: all of them, or those from
    /// the day `since` on.
    async fn ledger(&self, division: Division, since: Option<NaiveDate>) -> Result<Vec<LedgerEntry>, ReadError>;
    /// The whole account's orders that were issued and paid, those that have expired among them, whose certificates end from
    /// one day to another, both included.
    async fn orders(&self, from: NaiveDate, to: NaiveDate) -> Result<OrderList, ReadError>;
    /// The account's active divisions.
    async fn division_ids(&self) -> Result<Vec<u64>, ReadError>;
    /// What one division holds now: it tells which divisions share one fund.
    async fn figures(&self, division: u64) -> Result<Balance, ReadError>;
    /// When one order ends, which may be later than its certificate; `None` where its details do not say.
    async fn order_end(&self, id: u64) -> Result<Option<NaiveDate>, ReadError>;
}

/// The orders of an account, as they are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderList {
    /// Each once, by its number.
    pub orders: Vec<Order>,
    /// Number of orders that are missing among them because their status or form is not documented, by what that is.
    pub undocumented: BTreeMap<String, usize>,
}

/// A division as the account lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedDivision {
    /// The container id.
    pub id: u64,
    /// Its name, as it comes: hostile until rendered.
    pub name: String,
    /// Whether it is in use; an absent `is_active` counts as active.
    pub active: bool,
}

/// Why a read failed. Its text is for people and free of secrets: the request, the status, `DigiCert`'s own code and message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ReadError {
    /// What kind of failure, for decisions and labels.
    pub kind: ReadErrorKind,
    /// One sentence for people: what failed, why, and what to do about it.
    pub reason: String,
}

/// The kinds of failure that a caller tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadErrorKind {
    /// No connection: refused, DNS, TLS.
    Connect,
    /// No answer in time.
    Timeout,
    /// 429, or a pause that the server asked for.
    RateLimited,
    /// 408, 425 or 5xx.
    Server,
    /// A 2xx whose body is not what is documented.
    InvalidResponse,
    /// A 3xx or any other 4xx: somebody has to act.
    Refused,
}

impl ReadErrorKind {
    /// Every kind.
    pub const ALL: [ReadErrorKind; 6] =
        [Self::Connect, Self::Timeout, Self::RateLimited, Self::Server, Self::InvalidResponse, Self::Refused];

    /// A word for labels.
    pub fn name(self) -> &'static str {
        match self {
            ReadErrorKind::Connect => "connect",
            ReadErrorKind::Timeout => "timeout",
            ReadErrorKind::RateLimited => "rate_limited",
            ReadErrorKind::Server => "server",
            ReadErrorKind::InvalidResponse => "nonsense",
            ReadErrorKind::Refused => "refused",
        }
    }

    /// Whether it can heal by itself.
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

/// What the client makes of a body. Public for `fuzz/` and `tests/it/fuzz_corpus.rs` alone: everybody else reads through
/// [`BalanceSource`] and [`HistorySource`].
#[doc(hidden)]
pub mod bodies {
    use chrono::NaiveDate;

    use super::{ListedDivision, wire};
    use crate::domain::balance::Balance;
    use crate::domain::ledger::LedgerEntry;
    use crate::domain::order::Order;
    use crate::util::secret::Redactor;

    /// `GET /finance/balance`, or what is wrong with it.
    pub fn balance(body: &[u8], redactor: &Redactor) -> Result<Balance, String> {
        wire::balance(body, redactor)
    }

    /// `GET /container`, or what is wrong with it.
    pub fn divisions(body: &[u8], redactor: &Redactor) -> Result<Vec<ListedDivision>, String> {
        wire::divisions(body, redactor)
    }

    /// One page of `GET /finance/balance-history`: its lines and the number on all pages, or what is wrong with it.
    pub fn history(body: &[u8], redactor: &Redactor) -> Result<(Vec<LedgerEntry>, Option<u64>), String> {
        let page = wire::history(body, redactor, &wire::EntryKinds::default())?;
        let total = page.total;
        Ok((page.into_items(), total))
    }

    /// One page of `GET /order/certificate`: its paid orders and the number on all pages, or what is wrong with it.
    pub fn orders(body: &[u8], redactor: &Redactor) -> Result<(Vec<Order>, Option<u64>), String> {
        let page = wire::orders(body, redactor)?;
        let total = page.total;
        Ok((page.into_items(), total))
    }

    /// `GET /order/certificate/{id}`: when the order ends, or what is wrong with it.
    pub fn order_end(body: &[u8], redactor: &Redactor) -> Result<Option<NaiveDate>, String> {
        wire::order_end(body, redactor)
    }

    /// An error body's words.
    pub fn errors(body: &[u8], redactor: &Redactor) -> Option<String> {
        wire::errors(body, redactor)
    }
}
