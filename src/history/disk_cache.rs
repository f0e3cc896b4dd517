//! A copy of the history on disk, so that a restart does not read all of it again. Any of its files may be deleted at
//! any time.
//!
//! A file is used only if it is complete, of this version, and of this account at this address. It contains the ledger
//! or the orders of the account, no secret, and only its owner can read it.

use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::listing::OrderEnds;
use crate::domain::ledger::{Ledger, LedgerEntry};
use crate::domain::money::{Currency, parse_amount};
use crate::domain::order::Order;
use crate::domain::{Division, Time};
use crate::util::atomic_file;

/// Version of the file format. Increase it when the format or the window of days changes, since days that a file lacks
/// are never listed again.
const VERSION: u32 = 4;
/// Size limit of a file. Longer data is not saved, and is read from `CertCentral` at each start.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// The history cache of one account on disk.
#[derive(Debug)]
pub struct DiskCache {
    folder: PathBuf,
    /// Digest of the account's name and address, which is safe in a file name.
    owner: String,
}

/// Header in the first line of a file.
#[derive(Serialize, Deserialize)]
struct CacheFileHeader {
    version: u32,
    owner: String,
    division: Division,
    read: Time,
    /// Digest of all lines after the header.
    checksum: String,
}

/// A ledger entry: id, time in seconds, change, kind, balance after, currency, order, expiry in seconds.
#[derive(Serialize, Deserialize)]
struct CachedEntry<'a>(
    #[serde(borrow)] std::borrow::Cow<'a, str>,
    i64,
    String,
    #[serde(borrow)] std::borrow::Cow<'a, str>,
    Option<String>,
    Option<Currency>,
    Option<u64>,
    Option<i64>,
);

/// An order: id, division, price, expired, renewed, placed, bought until, plan, end of the certificate, end of the
/// order in the listing, end of the certificate and of the order when the latter was requested, product, common name.
#[derive(Serialize, Deserialize)]
struct CachedOrder(
    u64,
    Option<u64>,
    String,
    bool,
    bool,
    Option<NaiveDate>,
    Option<NaiveDate>,
    bool,
    NaiveDate,
    Option<NaiveDate>,
    Option<(NaiveDate, NaiveDate)>,
    Option<Arc<str>>,
    Option<Arc<str>>,
);

/// The end of an order in a listing that is not complete: id, end of the certificate when it was requested, end of the
/// order.
#[derive(Serialize, Deserialize)]
struct CachedOrderEnd(u64, (NaiveDate, NaiveDate));

impl DiskCache {
    /// Returns the cache of an account in `folder`, which is created by the first save.
    pub fn new(folder: PathBuf, account: &str, base_url: &str) -> Self {
        Self { folder, owner: digest(format!("{account}\n{base_url}").as_bytes()) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{}-{name}.jsonl", &self.owner[..16]))
    }

    fn ledger_path(&self, division: Division) -> PathBuf {
        self.path(&division.map_or_else(|| "ledger".to_owned(), |id| format!("ledger-{id}")))
    }

    /// Loads the ledger of a division, and the time at which it was read.
    pub(super) fn ledger(&self, division: Division) -> Option<(Ledger, Time)> {
        self.read_valid(&self.ledger_path(division), division, |lines| {
            let mut kinds = std::collections::BTreeSet::<Arc<str>>::new();
            let entries = lines.map(|line| {
                let cached: CachedEntry<'_> = serde_json::from_str(line).ok()?;
                if !kinds.contains(&*cached.3) {
                    kinds.insert(cached.3.as_ref().into());
                }
                entry(cached, |kind| kinds.get(kind).map(Arc::clone))
            });
            entries.collect::<Option<Vec<_>>>().map(Ledger::new)
        })
    }

    pub(super) fn save_ledger(&self, division: Division, ledger: &Ledger, read: Time) -> io::Result<()> {
        let lines = ledger.entries().iter().map(|entry| {
            serde_json::to_string(&CachedEntry(
                entry.id.as_ref().into(),
                entry.at.timestamp(),
                entry.change.to_string(),
                entry.kind.as_ref().into(),
                entry.balance_after.map(|amount| amount.to_string()),
                entry.currency,
                entry.order,
                entry.expires.map(|at| at.timestamp()),
            ))
        });
        self.save(&self.ledger_path(division), division, read, lines)
    }

    /// Loads the orders, the ends that were requested for them, and the time at which they were listed.
    pub(super) fn orders(&self) -> Option<(Vec<Order>, OrderEnds, Time)> {
        let orders = self.read_valid(&self.path("orders"), None, |lines| {
            let mut ends = OrderEnds::new();
            let lines = lines.map(|line| {
                let listed: CachedOrder = serde_json::from_str(line).ok()?;
                let CachedOrder(id, division, price, expired, renewed, placed, bought_until, is_plan, ..) = listed;
                let CachedOrder(.., certificate_ends, order_ends, end, product, common_name) = listed;
                ends.extend(end.map(|end| (id, end)));
                let price = parse_amount(&price).ok()?;
                Some(Order {
                    id,
                    division,
                    product,
                    common_name,
                    price,
                    expired,
                    renewed,
                    placed,
                    bought_until,
                    is_plan,
                    certificate_ends,
                    order_ends,
                })
            });
            let orders = lines.collect::<Option<Vec<_>>>()?;
            Some((orders, ends))
        });
        orders.map(|((orders, ends), read)| (orders, ends, read))
    }

    pub(super) fn save_orders(&self, orders: &[Order], ends: &OrderEnds, read: Time) -> io::Result<()> {
        let lines = orders.iter().map(|order| {
            serde_json::to_string(&CachedOrder(
                order.id,
                order.division,
                order.price.to_string(),
                order.expired,
                order.renewed,
                order.placed,
                order.bought_until,
                order.is_plan,
                order.certificate_ends,
                order.order_ends,
                ends.get(&order.id).copied(),
                order.product.clone(),
                order.common_name.clone(),
            ))
        });
        self.save(&self.path("orders"), None, read, lines)
    }

    /// Loads the ends that were requested for a listing that was not complete.
    pub(super) fn requested_ends(&self) -> OrderEnds {
        let ends = self.read_valid(&self.path("ends"), None, |lines| {
            let parse_end = |line| serde_json::from_str(line).ok().map(|CachedOrderEnd(id, end)| (id, end));
            lines.map(parse_end).collect::<Option<OrderEnds>>()
        });
        ends.map_or_else(OrderEnds::new, |(ends, _)| ends)
    }

    pub(super) fn save_requested_ends(&self, ends: &OrderEnds, read: Time) -> io::Result<()> {
        let lines = ends.iter().map(|(id, end)| serde_json::to_string(&CachedOrderEnd(*id, *end)));
        self.save(&self.path("ends"), None, read, lines)
    }

    /// Deletes the separate file of requested ends, after a listing that includes them was saved.
    pub(super) fn remove_requested_ends(&self) {
        let _ = fs::remove_file(self.path("ends")); // fails if there is no such file, which is fine
    }

    /// Deletes the ledger of a division.
    pub(super) fn remove_ledger(&self, division: Division) {
        let _ = fs::remove_file(self.ledger_path(division)); // fails if there is no such file, which is fine
    }

    fn save(
        &self,
        path: &std::path::Path,
        division: Division,
        read: Time,
        lines: impl Iterator<Item = serde_json::Result<String>>,
    ) -> io::Result<()> {
        let mut body = String::new();
        for line in lines {
            body.push_str(&line?);
            body.push('\n');
        }
        let header = CacheFileHeader {
            version: VERSION,
            owner: self.owner.clone(),
            division,
            read,
            checksum: digest(body.as_bytes()),
        };
        let file = format!("{}\n{body}", serde_json::to_string(&header)?);
        if file.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::other(format!("the file would be longer than {MAX_FILE_BYTES} bytes")));
        }
        atomic_file::make_folder(&self.folder)?;
        atomic_file::replace(path, [file.as_bytes()])
    }

    /// Reads a file and the time of its data. An invalid file is logged and ignored, and the next save replaces it.
    fn read_valid<T>(
        &self,
        path: &std::path::Path,
        division: Division,
        parse: impl FnOnce(std::str::Lines<'_>) -> Option<T>,
    ) -> Option<(T, Time)> {
        let text = match read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::info!(file = %path.display(), %error, "cannot read the history cache, reading from CertCentral");
                return None;
            }
        };
        let contents = || {
            let (header, body) = text.split_once('\n')?;
            let header: CacheFileHeader = serde_json::from_str(header).ok()?;
            let ours = header.version == VERSION && header.owner == self.owner && header.division == division;
            let valid = ours && header.checksum == digest(body.as_bytes());
            Some((valid.then(|| parse(body.lines()))??, header.read))
        };
        let contents = contents();
        if contents.is_none() {
            tracing::info!(file = %path.display(), "history cache is damaged or belongs to another account, reading from CertCentral");
        }
        contents
    }
}

fn read(path: &std::path::Path) -> io::Result<String> {
    let mut text = String::new();
    let read = atomic_file::open_file(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_FILE_BYTES { Err(io::Error::other("the file is too long")) } else { Ok(text) }
}

fn entry(cached: CachedEntry<'_>, share: impl FnOnce(&str) -> Option<Arc<str>>) -> Option<LedgerEntry> {
    let CachedEntry(id, at, change, kind, balance_after, currency, order, expires) = cached;
    Some(LedgerEntry {
        id: id.into(),
        at: Time::from_timestamp(at, 0)?,
        change: parse_amount(&change).ok()?,
        kind: share(&kind)?,
        balance_after: match balance_after {
            Some(amount) => Some(parse_amount(&amount).ok()?),
            None => None,
        },
        currency,
        order,
        expires: match expires {
            Some(at) => Some(Time::from_timestamp(at, 0)?),
            None => None,
        },
    })
}

fn digest(bytes: &[u8]) -> String {
    crate::util::text::hex(&Sha256::digest(bytes))
}
