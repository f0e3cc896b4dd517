//! Records of the simulated account: ledger entries, orders, and the figures of a division.

use std::time::Duration;

use chrono::Days;
use rust_decimal::Decimal;

use crate::domain::Time;
use crate::domain::money::Currency;
use crate::sandbox::scenario::{CreditLimit, DivisionPlan};

/// Longest validity of a certificate since February 2026, in days.
const CERTIFICATE_DAYS: u64 = 199;
/// Time from an order to its certificate.
const ISSUANCE_DELAY: Duration = Duration::from_secs(2 * 3600);
/// Time from the next certificate of an order to the end of the previous one.
const REISSUE_LEAD: Duration = Duration::from_secs(14 * 24 * 3600);

/// A line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulatedEntry {
    /// Unique id, not ordered by time.
    pub id: u64,
    /// Id of the division.
    pub division: u64,
    /// Time of the transaction.
    pub at: Time,
    /// Change of the balance: above 0 a credit, below 0 a debit.
    pub change: Decimal,
    /// Transaction type, such as `Credit` or `Charge`.
    pub kind: &'static str,
    /// Id of the order that the entry pays.
    pub order: Option<u64>,
    /// Description of the transaction.
    pub note: Option<String>,
    /// Time at which the unspent part of a deposit expires.
    pub expires: Option<Time>,
    /// Balance of the fund after the entry.
    pub balance_after: Decimal,
}

/// An order of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulatedOrder {
    /// Unique id, ordered by time except for orders from before the history.
    pub id: u64,
    /// Id of the division.
    pub division: u64,
    /// Name of the product.
    pub product: String,
    /// Price of the order.
    pub price: Decimal,
    /// Number of years that the order lasts; 0 if it was bought for a number of days.
    pub years: u32,
    /// Common name of the site.
    pub common_name: String,
    /// Time of the order.
    pub placed: Time,
    /// End of the order.
    pub ends: Time,
    /// Set if a later order renewed this one.
    pub renewed: bool,
    /// Set if the order is renewed automatically.
    pub auto_renew: bool,
    /// Terms of the order's certificates.
    pub issuance: CertificateIssuance,
}

/// Terms of an order's certificates. An order that outlasts a certificate gets several, one after another, at no charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateIssuance {
    /// Longest validity of a certificate, in days.
    pub certificate_days: u64,
    /// Set if a certificate that ends before its order is followed by another one.
    pub reissued: bool,
    /// Time from the order of a further certificate until it is issued.
    pub reissue_takes: Duration,
}

impl Default for CertificateIssuance {
    fn default() -> Self {
        Self { certificate_days: CERTIFICATE_DAYS, reissued: true, reissue_takes: ISSUANCE_DELAY }
    }
}

/// One of an order's certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimulatedCertificate {
    /// Number of earlier certificates of the order.
    pub number: u64,
    /// Time of its issuance.
    pub from: Time,
    /// End of its validity.
    pub ends: Time,
}

impl SimulatedOrder {
    /// Returns `true` if the first certificate has been issued at `now`.
    pub fn issued(&self, now: Time) -> bool {
        now >= self.placed + ISSUANCE_DELAY
    }

    /// Returns `true` if the order is over at `now`. An order lasts until the end of its last day.
    pub fn expired(&self, now: Time) -> bool {
        now.date_naive() > self.ends.date_naive()
    }

    /// Returns `true` if the next certificate has been ordered and not yet issued at `now`.
    pub fn reissuing(&self, now: Time) -> bool {
        let later = now + self.issuance.reissue_takes;
        self.issued(now) && self.certificate(later).number > self.certificate(now).number
    }

    /// Returns `true` if the order outlasts a certificate.
    pub fn is_plan(&self) -> bool {
        self.placed + Days::new(self.issuance.certificate_days) < self.ends
    }

    /// Returns the certificate that is valid at `now`. Each further certificate is issued two weeks before the previous one ends.
    pub fn certificate(&self, now: Time) -> SimulatedCertificate {
        let lifetime = Days::new(self.issuance.certificate_days);
        let mut certificate =
            SimulatedCertificate { number: 0, from: self.placed + ISSUANCE_DELAY, ends: self.placed + lifetime };
        while self.issuance.reissued && certificate.ends < self.ends && now + REISSUE_LEAD >= certificate.ends {
            let from = certificate.ends - REISSUE_LEAD;
            certificate = SimulatedCertificate { number: certificate.number + 1, from, ends: from + lifetime };
        }
        SimulatedCertificate { ends: certificate.ends.min(self.ends), ..certificate }
    }

    /// Returns the end of the certificate that is valid at `now`.
    pub fn certificate_ends(&self, now: Time) -> Time {
        self.certificate(now).ends
    }
}

/// Records of an account at one moment.
#[derive(Debug, Clone, Default)]
pub struct AccountRecords {
    /// Divisions of the account: at least one, with distinct ids.
    pub divisions: Vec<RecordedDivision>,
    /// Set if all divisions share the fund of the first one.
    pub shared_funds: bool,
    /// Ledger in the order of time. A debit with an order paid for it, and a credit with an order refunded it.
    pub entries: Vec<SimulatedEntry>,
    /// Orders in the account's list.
    pub orders: Vec<SimulatedOrder>,
}

/// A division and its balance.
#[derive(Debug, Clone)]
pub struct RecordedDivision {
    /// Container id of the division.
    pub id: u64,
    /// Name of the division.
    pub name: String,
    /// Currency of all amounts.
    pub currency: Currency,
    /// Current balance of the division.
    pub balance: Decimal,
    /// Lower limit of the balance.
    pub credit: CreditLimit,
}

impl RecordedDivision {
    pub(super) fn without_plans(self) -> DivisionPlan {
        let Self { id, name, currency, balance, credit } = self;
        DivisionPlan {
            id,
            name,
            currency,
            balance,
            credit,
            orders: Vec::new(),
            renewals: Vec::new(),
            added_domains: Vec::new(),
            deposits: Vec::new(),
            invoices: Vec::new(),
        }
    }
}

/// Current figures of a division.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalanceSheet {
    /// Currency of all amounts.
    pub currency: Currency,
    /// Prepaid balance of the fund.
    pub balance: Decimal,
    /// Sum of the unpaid invoices.
    pub unpaid_invoices: Decimal,
    /// Sum by which other divisions of the same currency are below zero.
    pub used_by_others: Decimal,
    /// Lower limit of the balance.
    pub credit: CreditLimit,
}

impl BalanceSheet {
    /// Returns the available funds, or `None` if they are unlimited.
    pub fn available(&self) -> Option<Decimal> {
        match self.credit {
            CreditLimit::Unlimited => None,
            CreditLimit::Limit(limit) => Some(self.balance + limit - self.unpaid_invoices - self.used_by_others),
        }
    }
}
