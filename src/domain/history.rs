//! An account's books, as CertCentral keeps them: the ledger (what moved the balance) and the orders (what will have to be
//! paid). Plain facts; what follows from them is [`crate::forecast`]'s.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::Time;
use super::balance::Unreadable;
use super::money::Currency;

/// One line of the ledger (`finance/balance-history`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// `CertCentral`'s own; unique, but it does not rise with time.
    pub id: Box<str>,
    /// When. The API names no zone: it is taken as UTC.
    pub at: Time,
    /// What it did to the balance: above 0 a credit, below 0 a debit.
    pub change: Decimal,
    /// `ChargedPrice`, `CreditLimit Card RequiredDeposit`, …: an open set.
    pub kind: Arc<str>,
    /// The balance afterwards, where the line says so.
    pub balance_after: Option<Decimal>,
    /// Of the amounts, where the line says so.
    pub currency: Option<Currency>,
    /// The order that it pays.
    pub order: Option<u64>,
    /// When what is left of this deposit expires.
    pub expires: Option<Time>,
}

/// The ledger of one fund: its lines, oldest first, each once. Cheap to copy.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Shared with every copy as of an earlier moment, of which only the first lines count.
    lines: Arc<Vec<LedgerEntry>>,
    count: usize,
}

impl Ledger {
    /// Puts lines in order. Those of one moment stay as they come; of two with the same id the later one in `entries`
    /// counts.
    pub fn new(entries: Vec<LedgerEntry>) -> Self {
        let newest: BTreeMap<Box<str>, usize> =
            entries.iter().enumerate().map(|(place, entry)| (entry.id.clone(), place)).collect();
        let counts = |place: usize, entry: &LedgerEntry| newest.get(&entry.id) == Some(&place);
        let mut entries: Vec<LedgerEntry> =
            entries.into_iter().enumerate().filter_map(|(place, it)| counts(place, &it).then_some(it)).collect();
        entries.sort_by_key(|entry| entry.at);
        Self { count: entries.len(), lines: Arc::new(entries) }
    }

    /// Its lines, oldest first.
    pub fn entries(&self) -> &[LedgerEntry] {
        &self.lines[..self.count]
    }

    /// The ledger as it was at a moment, without the lines that came later.
    #[must_use]
    pub fn as_of(&self, at: Time) -> Self {
        let count = self.entries().partition_point(|entry| entry.at <= at);
        Self { lines: Arc::clone(&self.lines), count }
    }
}

impl PartialEq for Ledger {
    fn eq(&self, other: &Self) -> bool {
        self.entries() == other.entries()
    }
}

impl Eq for Ledger {}

/// One order of a certificate that was issued and paid (`order/certificate`); nothing else has to be renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its number.
    pub id: u64,
    /// The division that pays for it, where the listing says so.
    pub division: Option<u64>,
    /// The `name_id` of its product, else the product's name, where the listing says so.
    pub product: Option<Arc<str>>,
    /// The common name of its certificate, in lower case, where the listing says so.
    pub common_name: Option<Arc<str>>,
    /// What it cost, in the account's own currency, and what its renewal is taken to cost.
    pub price: Decimal,
    /// Whether the listing calls it over: it tells whether orders are renewed, and is due no more.
    pub expired: bool,
    /// Whether a later order took its place.
    pub renewed: bool,
    /// When it was placed.
    pub placed: Option<NaiveDate>,
    /// The day up to which it was bought, as its date and its validity say. Its end may differ from it by some days.
    pub bought_until: Option<NaiveDate>,
    /// Whether it is a plan with several certificates, one after the other.
    pub is_plan: bool,
    /// When its present certificate ends.
    pub certificate_ends: NaiveDate,
    /// `order_valid_till`, from the listing or from its details: only the end of the order costs money.
    pub order_ends: Option<NaiveDate>,
}

impl Order {
    /// When it ends, as far as is known: the order's own end where that is known, else its certificate's, unless another
    /// certificate may follow (then `None`: it has to be asked for).
    pub fn ends(&self) -> Option<NaiveDate> {
        self.order_ends.or_else(|| (!self.end_is_uncertain()).then_some(self.certificate_ends))
    }

    /// The same, and where its end is in doubt, the day up to which it was bought.
    pub fn probably_ends(&self) -> Option<NaiveDate> {
        self.ends().or(self.bought_until)
    }

    /// Whether the order may last longer than its present certificate, so that only its details tell when it ends. An order
    /// that is over has had its last certificate.
    pub fn end_is_uncertain(&self) -> bool {
        /// A certificate that ends at most so many days before its order is its last one.
        const LAST_CERTIFICATE: u64 = 30;
        if self.order_ends.is_some() || self.expired {
            return false;
        }
        let last = self.certificate_ends.checked_add_days(chrono::Days::new(LAST_CERTIFICATE));
        self.bought_until.map_or(self.is_plan, |until| last.is_some_and(|last| until > last))
    }
}

/// Why a part of the books is not at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HistoryGap {
    /// It is being read for the first time, or has never been wanted: no failure, and no alert.
    NotYetRead,
    /// It could not be read, and nothing of it is known from before that is fresh enough to use.
    Unreadable(Unreadable),
}

/// The books of one fund, as they were last read. Cheap to share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountHistory {
    /// What moved its balance.
    pub ledger: Result<Arc<Ledger>, HistoryGap>,
    /// When that ledger was read, however long ago; `None` where none has been.
    pub ledger_read: Option<Time>,
    /// Its orders.
    pub orders: Result<Arc<[Order]>, HistoryGap>,
    /// When these orders were asked for: what was bought later may be missing among them. `None` where none have been read.
    pub orders_read: Option<Time>,
    /// Why the ends of some of these orders could not be read, where they could not: such an order has no [`SimulatedOrder::order_ends_failure`].
    pub order_ends_failure: Option<Unreadable>,
}

impl AccountHistory {
    /// The books of several divisions that share one fund, as those of the fund: each line and each order once. What is
    /// missing of one of them is missing of all.
    pub fn merge(parts: &[AccountHistory]) -> Self {
        let [first, others @ ..] = parts else { return Self::unread() };
        others.iter().fold(first.clone(), AccountHistory::merge_with)
    }

    fn merge_with(self, other: &AccountHistory) -> Self {
        let ledger = match (self.ledger, &other.ledger) {
            (Ok(one), Ok(other)) => {
                Ok(Arc::new(Ledger::new(one.entries().iter().chain(other.entries()).cloned().collect())))
            }
            (one, other) => Err(merged_gap(one.err(), other.as_ref().err())),
        };
        let orders = match (self.orders, &other.orders) {
            (Ok(one), Ok(other)) => {
                let all: BTreeMap<u64, &Order> =
                    one.iter().chain(other.iter()).map(|order| (order.id, order)).collect();
                Ok(all.into_values().cloned().collect())
            }
            (one, other) => Err(merged_gap(one.err(), other.as_ref().err())),
        };
        let (ledger_read, orders_read) =
            (self.ledger_read.min(other.ledger_read), self.orders_read.min(other.orders_read));
        let order_ends_failure = self.order_ends_failure.or_else(|| other.order_ends_failure.clone());
        Self { ledger, ledger_read, orders, orders_read, order_ends_failure }
    }

    /// Nothing has been read yet.
    pub fn unread() -> Self {
        Self {
            ledger: Err(HistoryGap::NotYetRead),
            ledger_read: None,
            orders: Err(HistoryGap::NotYetRead),
            orders_read: None,
            order_ends_failure: None,
        }
    }
}

/// The gap of a whole that lacks a part: a failure is worse than what is being read.
fn merged_gap(one: Option<HistoryGap>, other: Option<&HistoryGap>) -> HistoryGap {
    match (one, other) {
        (Some(failed @ HistoryGap::Unreadable(_)), _) => failed,
        (_, Some(failed @ HistoryGap::Unreadable(_))) => failed.clone(),
        _ => HistoryGap::NotYetRead,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone as _;

    fn entry(id: &str, day: u32, change: i64) -> LedgerEntry {
        LedgerEntry {
            id: id.into(),
            at: chrono::Utc.with_ymd_and_hms(2026, 11, day, 12, 0, 0).unwrap(),
            change: Decimal::from(change),
            kind: "Charge".into(),
            balance_after: None,
            currency: None,
            order: None,
            expires: None,
        }
    }

    #[test]
    fn a_ledger_holds_each_entry_once_oldest_first() {
        let lines = [entry("9", 3, -1), entry("b", 2, -2), entry("a", 2, -3), entry("9", 3, -4)];
        let ledger = Ledger::new(lines.to_vec());
        let entries: Vec<_> = ledger.entries().iter().map(|it| (&*it.id, it.change)).collect();
        assert_eq!(entries, [("b", (-2).into()), ("a", (-3).into()), ("9", (-4).into())]);
    }

    #[test]
    fn a_ledger_as_of_a_moment_lacks_later_entries() {
        let ledger = Ledger::new(vec![entry("c", 3, -3), entry("a", 1, -1), entry("b", 2, -2)]);
        let noon = |day| chrono::Utc.with_ymd_and_hms(2026, 11, day, 12, 0, 0).unwrap();
        let two = ledger.as_of(noon(2));
        assert_eq!(two, Ledger::new(vec![entry("a", 1, -1), entry("b", 2, -2)]));
        assert_eq!(two.as_of(noon(3)), two, "what was cut off does not come back");
        assert_eq!(ledger.as_of(noon(1) - chrono::TimeDelta::seconds(1)), Ledger::default());
        assert_eq!(ledger.as_of(noon(3)), ledger);
    }

    #[test]
    fn histories_of_one_fund_are_merged_and_keep_each_others_gaps() {
        let part = |entries: Vec<LedgerEntry>| AccountHistory {
            ledger: Ok(Arc::new(Ledger::new(entries))),
            ..AccountHistory::unread()
        };
        let parts =
            [part(vec![entry("a", 1, -1), entry("c", 3, -3)]), part(vec![entry("b", 2, -2), entry("a", 1, -1)])];
        let merged = AccountHistory::merge(&parts).ledger.unwrap();
        assert_eq!(merged.entries().iter().map(|it| &*it.id).collect::<Vec<_>>(), ["a", "b", "c"]);
        let why = Unreadable { persistence: super::super::balance::Persistence::Transient, reason: "503".to_owned() };
        let failed = AccountHistory { ledger: Err(HistoryGap::Unreadable(why.clone())), ..AccountHistory::unread() };
        let [one, other] = parts;
        assert_eq!(AccountHistory::merge(&[one.clone(), failed, other]).ledger, Err(HistoryGap::Unreadable(why)));
        assert_eq!(AccountHistory::merge(&[one, AccountHistory::unread()]).ledger, Err(HistoryGap::NotYetRead));
    }

    #[test]
    fn an_order_ends_with_its_certificate_unless_bought_for_longer() {
        let date = |y, m, d| NaiveDate::from_ymd_opt(y, m, d).unwrap();
        let order = |certificate_ends, years: Option<i32>| Order {
            id: 1,
            division: None,
            product: None,
            common_name: None,
            price: Decimal::ONE,
            expired: false,
            renewed: false,
            placed: Some(date(2026, 1, 10)),
            bought_until: years.map(|years| date(2026 + years, 1, 10)),
            is_plan: false,
            certificate_ends,
            order_ends: None,
        };
        assert_eq!(order(date(2027, 1, 10), Some(1)).ends(), Some(date(2027, 1, 10)));
        assert_eq!(order(date(2026, 12, 20), Some(1)).ends(), Some(date(2026, 12, 20)));
        assert_eq!(order(date(2026, 7, 28), Some(1)).ends(), None);
        assert_eq!(order(date(2026, 7, 28), None).ends(), Some(date(2026, 7, 28)));
        let with_known_end = Order { order_ends: Some(date(2029, 1, 10)), ..order(date(2026, 7, 28), Some(3)) };
        assert_eq!((with_known_end.ends(), with_known_end.end_is_uncertain()), (Some(date(2029, 1, 10)), false));
        let plan = Order { is_plan: true, ..order(date(2026, 7, 28), None) };
        assert_eq!((plan.ends(), plan.probably_ends()), (None, None), "a plan goes on after its certificate");
        let last = Order { is_plan: true, ..order(date(2026, 12, 20), Some(1)) };
        assert_eq!(last.ends(), Some(date(2026, 12, 20)), "the last certificate of a plan");
        let over = Order { expired: true, ..order(date(2026, 7, 28), Some(1)) };
        assert_eq!(over.ends(), Some(date(2026, 7, 28)), "an order that is over lasts no longer");
    }
}
