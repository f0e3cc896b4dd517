//! Books on disk, so that a restart does not read all of them again. Any of its files may be deleted at any time.
//!
//! A file is believed only if it is whole, of this version and of this account at this address. It holds no secret, and
//! nobody but its owner can read it. What is in it is the account's ledger and orders, as they were read.

use std::fmt::Write as _;
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

/// Another form is another version, and so is another window of days: what a file lacks is never listed again.
const VERSION: u32 = 4;
/// No file is longer: what is, is read anew at each start.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// Where one account's books are kept.
#[derive(Debug)]
pub struct DiskCache {
    folder: PathBuf,
    /// A digest of the account's name and place: safe in a file's name, whatever they are.
    owner: String,
}

/// The first line of a file.
#[derive(Serialize, Deserialize)]
struct CacheFileHeader {
    version: u32,
    owner: String,
    division: Division,
    read: Time,
    /// Of everything below this line.
    checksum: String,
}

/// Id, seconds, change, kind, balance after, currency, order, expiry.
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

/// Id, division, price, expired, renewed, placed, bought until, plan, the certificate's end, the order's end by the listing,
/// the end that was asked for and at which certificate, product, common name.
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

/// Id, the end that was asked for, and at which certificate; what a listing that is not finished knows of an order.
#[derive(Serialize, Deserialize)]
struct CachedOrderEnd(u64, (NaiveDate, NaiveDate));

impl DiskCache {
    /// Files in `folder`, which is made when it is needed, for the account of this name at this address.
    pub fn new(folder: PathBuf, account: &str, base_url: &str) -> Self {
        Self { folder, owner: digest(format!("{account}\n{base_url}").as_bytes()) }
    }

    fn path(&self, what: &str) -> PathBuf {
        self.folder.join(format!("{}-{what}.jsonl", &self.owner[..16]))
    }

    fn ledger_path(&self, division: Division) -> PathBuf {
        self.path(&division.map_or_else(|| "ledger".to_owned(), |id| format!("ledger-{id}")))
    }

    pub(super) fn ledger(&self, division: Division) -> Option<(Ledger, Time)> {
        self.read_valid(&self.ledger_path(division), division, |lines| {
            let mut kinds = std::collections::BTreeSet::<Arc<str>>::new();
            let lines = lines.map(|line| {
                let line: CachedEntry<'_> = serde_json::from_str(line).ok()?;
                if !kinds.contains(&*line.3) {
                    kinds.insert(line.3.as_ref().into());
                }
                entry(line, |kind| kinds.get(kind).map(Arc::clone))
            });
            lines.collect::<Option<Vec<_>>>().map(Ledger::new)
        })
    }

    pub(super) fn save_ledger(&self, division: Division, ledger: &Ledger, read: Time) -> io::Result<()> {
        let lines = ledger.entries().iter().map(|it| {
            serde_json::to_string(&CachedEntry(
                it.id.as_ref().into(),
                it.at.timestamp(),
                it.change.to_string(),
                it.kind.as_ref().into(),
                it.balance_after.map(|amount| amount.to_string()),
                it.currency,
                it.order,
                it.expires.map(|at| at.timestamp()),
            ))
        });
        self.save(&self.ledger_path(division), division, read, lines)
    }

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
        let lines = orders.iter().map(|it| {
            serde_json::to_string(&CachedOrder(
                it.id,
                it.division,
                it.price.to_string(),
                it.expired,
                it.renewed,
                it.placed,
                it.bought_until,
                it.is_plan,
                it.certificate_ends,
                it.order_ends,
                ends.get(&it.id).copied(),
                it.product.clone(),
                it.common_name.clone(),
            ))
        });
        self.save(&self.path("orders"), None, read, lines)
    }

    /// The ends that were asked for, for a listing that has not been saved.
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

    /// They are in the listing, now that it has been saved.
    pub(super) fn remove_requested_ends(&self) {
        let _ = fs::remove_file(self.path("ends")); // its absence is what matters
    }

    /// A division that is wanted no more takes no space.
    pub(super) fn remove_ledger(&self, division: Division) {
        let _ = fs::remove_file(self.ledger_path(division)); // its absence is what matters
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
            return Err(io::Error::other(format!("they are longer than {MAX_FILE_BYTES} bytes")));
        }
        atomic_file::make_folder(&self.folder)?;
        atomic_file::replace(path, [file.as_bytes()])
    }

    /// What is in a file, if it is to be believed; what is not is told and left, and overwritten by the next save.
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
                tracing::info!(file = %path.display(), %error, "books on disk cannot be read: they are read from CertCentral");
                return None;
            }
        };
        let whole = || {
            let (header, body) = text.split_once('\n')?;
            let header: CacheFileHeader = serde_json::from_str(header).ok()?;
            let ours = header.version == VERSION && header.owner == self.owner && header.division == division;
            let whole = ours && header.checksum == digest(body.as_bytes());
            Some((whole.then(|| parse(body.lines()))??, header.read))
        };
        let valid = whole();
        if valid.is_none() {
            tracing::info!(file = %path.display(), "books on disk are damaged or another account's: they are read from CertCentral");
        }
        valid
    }
}

fn read(path: &std::path::Path) -> io::Result<String> {
    let mut text = String::new();
    let read = atomic_file::open_file(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_FILE_BYTES { Err(io::Error::other("the file is too long")) } else { Ok(text) }
}

fn entry(line: CachedEntry<'_>, share: impl FnOnce(&str) -> Option<Arc<str>>) -> Option<LedgerEntry> {
    let CachedEntry(id, at, change, kind, balance_after, currency, order, expires) = line;
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
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a string takes everything
        text
    })
}
