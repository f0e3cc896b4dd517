//! What the simulated account shows of itself: ledger entries, orders, and what a division holds.

use std::time::Duration;

use chrono::Days;
use rust_decimal::Decimal;

use crate::domain::Time;
use crate::domain::money::Currency;
use crate::sandbox::scenario::{CreditLimit, DivisionPlan};

/// How many days a certificate is valid at most since February 2026.
const CERTIFICATE_DAYS: u64 = 199;
/// A certificate is issued so long after its order was placed.
const ISSUANCE_DELAY: Duration = Duration::from_secs(2 * 3600);
/// The next certificate of an order comes so long before the last one ends.
const REISSUE_LEAD: Duration = Duration::from_secs(14 * 24 * 3600);

/// A line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulatedEntry {
    /// Unique; does not rise with time.
    pub id: u64,
    /// The division.
    pub division: u64,
    /// When.
    pub at: Time,
    /// What it did to the balance: above 0 a credit, below 0 a debit.
    pub change: Decimal,
    /// `CreditLimit`, `ChargedPrice`, …
    pub kind: &'static str,
    /// The order that it pays.
    pub order: Option<u64>,
    /// In words.
    pub note: Option<String>,
    /// When what is left of a deposit expires.
    pub expires: Option<Time>,
    /// The division's balance afterwards.
    pub balance_after: Decimal,
}

/// An order of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulatedOrder {
    /// Its id; rises with time, but for those from before the history.
    pub id: u64,
    /// The division.
    pub division: u64,
    /// Its product's name.
    pub product: String,
    /// What it cost.
    pub price: Decimal,
    /// How many years it lasts; 0 for one that was bought for a number of days.
    pub years: u32,
    /// The site.
    pub common_name: String,
    /// When it was placed.
    pub placed: Time,
    /// When it ends.
    pub ends: Time,
    /// Whether a later order took its place.
    pub renewed: bool,
    /// Whether it is renewed automatically.
    pub auto_renew: bool,
    /// How it gets its certificates.
    pub issuance: CertificateIssuance,
}

/// How an order gets its certificates. One that lasts longer than a certificate may gets several, one after the other, for
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateIssuance {
    /// How many days a certificate is valid at most.
    pub certificate_days: u64,
    /// Whether another certificate follows one that ends before the order; else it only has its first.
    pub reissued: bool,
    /// How long it takes until a certificate that was ordered anew is issued.
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
    /// How many came before it.
    pub number: u64,
    /// When it was issued.
    pub from: Time,
    /// When it ends.
    pub ends: Time,
}

impl SimulatedOrder {
    /// Whether its first certificate is issued by then.
    pub fn issued(&self, now: Time) -> bool {
        now >= self.placed + ISSUANCE_DELAY
    }

    /// Whether it is over: it lasts until the end of its last day.
    pub fn expired(&self, now: Time) -> bool {
        now.date_naive() > self.ends.date_naive()
    }

    /// Whether its next certificate was ordered and is not issued yet.
    pub fn reissuing(&self, now: Time) -> bool {
        let later = now + self.issuance.reissue_takes;
        self.issued(now) && self.certificate(later).number > self.certificate(now).number
    }

    /// Whether its certificates end before it does.
    pub fn is_plan(&self) -> bool {
        self.placed + Days::new(self.issuance.certificate_days) < self.ends
    }

    /// The certificate that is valid then: an order that lasts longer than a certificate may gets them in turn, for nothing,
    /// each a fortnight before the one before it ends.
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

    /// When the certificate that is valid then ends.
    pub fn certificate_ends(&self, now: Time) -> Time {
        self.certificate(now).ends
    }
}

/// What an account shows at one moment.
#[derive(Debug, Clone, Default)]
pub struct AccountRecords {
    /// At least one, with distinct ids.
    pub divisions: Vec<RecordedDivision>,
    /// All divisions hold the same funds: those of the first.
    pub shared_funds: bool,
    /// The ledger, in the order of time. A debit belongs to an order where the order was paid from the balance, and a
    /// credit where it takes a purchase back.
    pub entries: Vec<SimulatedEntry>,
    /// The orders that are listed.
    pub orders: Vec<SimulatedOrder>,
}

/// A division and what it holds.
#[derive(Debug, Clone)]
pub struct RecordedDivision {
    /// Its container id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Of all its amounts.
    pub currency: Currency,
    /// Its balance.
    pub balance: Decimal,
    /// How far the balance may go below zero.
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

/// What a division holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalanceSheet {
    /// Of all its amounts.
    pub currency: Currency,
    /// The prepaid balance.
    pub balance: Decimal,
    /// Owed for invoices.
    pub unpaid_invoices: Decimal,
    /// What other divisions of the same currency are below zero.
    pub used_by_others: Decimal,
    /// How far the balance may go below zero.
    pub credit: CreditLimit,
}

impl BalanceSheet {
    /// What can be spent; `None` without limit.
    pub fn available(&self) -> Option<Decimal> {
        match self.credit {
            CreditLimit::Unlimited => None,
            CreditLimit::Limit(limit) => Some(self.balance + limit - self.unpaid_invoices - self.used_by_others),
        }
    }
}
