//! Balances as CertCentral reports them, and the readings that rules get.
//!
//! Fields are read independently. A malformed field makes the metrics that need it unreadable, and is never read as 0.

use std::time::Duration;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::money::{AvailableFunds, Currency, Money};
use super::rule::Metric;

/// A field of the response that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
#[error("the response's `{field}` {problem}")]
pub struct FieldProblem {
    /// Name of the field in the API.
    pub field: &'static str,
    /// Problem, as the rest of a sentence: `is missing`, `is not a plain decimal number (found "NaN")`.
    pub problem: String,
}

/// A field of the response: its value or its problem. Problems are boxed, because thousands of readings are kept and few have
/// one.
pub type BalanceField<T> = Result<T, Box<FieldProblem>>;

/// Response to `GET /finance/balance`, parsed field by field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Balance {
    /// Currency of every amount.
    pub currency: BalanceField<Currency>,
    /// The prepaid balance; may be negative.
    pub balance: BalanceField<Decimal>,
    /// Sum of unpaid invoices. 0 if the field is absent: the API added it later.
    pub unpaid_invoices: BalanceField<Decimal>,
    /// Credit used by the account's other divisions. 0 if the field is absent: the API added it later.
    pub used_credit: BalanceField<Decimal>,
    /// Amount by which the balance may go below zero; `None` if the response does not contain it.
    pub credit_limit: BalanceField<Option<Decimal>>,
    /// `unlimited_negative_balance`: the balance may go below zero without limit.
    pub unlimited: BalanceField<bool>,
    /// `total_available_funds` as reported. It is compared with the computed amount, and used only if the limit is missing.
    pub reported_total: BalanceField<Option<Decimal>>,
}

/// Persistence of a failure: whether it can clear on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Persistence {
    /// Usually clears on its own: no connection, a timeout, 429, 5xx, an invalid body.
    Transient,
    /// Needs somebody to act: a 3xx, any other 4xx, a currency mismatch.
    Permanent,
}

/// Failure that made a reading impossible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// Persistence of the failure.
    pub persistence: Persistence,
    /// Description of the failure for people, without secrets.
    pub reason: String,
}

/// Reading of one metric of one account or division.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// An exact amount of money.
    Amount(Money),
    /// A duration, for a runway.
    Time(Duration),
    /// A value above every threshold.
    Unlimited,
    /// Too little history for a value, and the reason. No failure, and no alert.
    NotYetKnown(String),
    /// Ledger or orders are being read for the first time, so it is not known whether they are readable.
    NotYetRead(String),
    /// No value because of a failure. Changes no alert.
    Unreadable(Unreadable),
}

/// Value of a reading that could be evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricValue {
    /// An exact amount of money.
    Amount(Money),
    /// A duration, for a runway.
    #[serde(with = "super::seconds")]
    Time(Duration),
    /// A value above every threshold.
    Unlimited,
}

/// Anomaly in a response whose reading is good. It is logged once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BalanceAnomaly {
    /// The reported total differs from the computed one, which is used.
    ReportedTotalDiffers {
        /// `total_available_funds` as reported.
        reported: Money,
        /// Result of the formula.
        computed: Money,
    },
    /// The limit is missing and the account is not unlimited, so the reported total is used.
    ReportedTotalUsed {
        /// `total_available_funds` as reported.
        reported: Money,
    },
}

impl std::fmt::Display for BalanceAnomaly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BalanceAnomaly::ReportedTotalDiffers { reported, computed } => write!(
                f,
                "CertCentral reports {reported} of total available funds, the formula gives {computed}; rules see the formula's result"
            ),
            BalanceAnomaly::ReportedTotalUsed { reported } => {
                write!(f, "CertCentral reports no credit limit; its own total of {reported} is used as it is")
            }
        }
    }
}

/// Parts of the available funds, for messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breakdown {
    /// Currency of every amount.
    pub currency: Currency,
    /// The prepaid balance, possibly negative.
    pub balance: Decimal,
    /// Credit limit; `None` if it is unlimited or not reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit_limit: Option<Decimal>,
    /// Sum of unpaid invoices.
    pub unpaid_invoices: Decimal,
    /// Credit used by other divisions.
    pub used_credit: Decimal,
}

impl Breakdown {
    /// Returns the sum of the parts; `None` without a credit limit.
    pub fn available(&self) -> Option<Decimal> {
        available(self.balance, self.credit_limit?, self.unpaid_invoices, self.used_credit)
    }
}

/// Computes balance + credit limit − unpaid invoices − credit used by other divisions. `None` on overflow.
fn available(balance: Decimal, limit: Decimal, unpaid: Decimal, used: Decimal) -> Option<Decimal> {
    balance.checked_add(limit)?.checked_sub(unpaid)?.checked_sub(used)
}

impl Balance {
    /// Returns the computed available funds or, if the response contains no credit limit, the reported ones.
    pub fn available_funds(&self) -> BalanceField<AvailableFunds> {
        if self.unlimited.clone()? {
            return Ok(AvailableFunds::Unlimited);
        }
        let currency = self.currency.clone()?;
        let amount = match self.computed()? {
            Some(amount) => amount,
            None => self.reported_total.clone()?.ok_or_else(|| FieldProblem {
                field: "negative_balance_limit",
                problem: "is missing, without `unlimited_negative_balance` and without `total_available_funds`: \
                          available funds cannot be computed"
                    .to_owned(),
            })?,
        };
        Ok(AvailableFunds::Limited(Money::new(amount, currency)))
    }

    /// Returns the reading of a metric. Metrics that need the ledger or orders are not yet read.
    pub fn reading(&self, metric: Metric) -> Reading {
        let funds = match metric {
            Metric::Runway | Metric::Spend | Metric::ExpiringFunds | Metric::RenewalsDue | Metric::Shortfall => {
                return Reading::NotYetRead("the account's ledger and orders have not been read yet".to_owned());
            }
            Metric::AvailableFunds => self.available_funds(),
            Metric::Balance => self.money(&self.balance),
            Metric::UnpaidInvoices => self.money(&self.unpaid_invoices),
            Metric::UsedCredit => self.money(&self.used_credit),
        };
        match funds {
            Ok(AvailableFunds::Limited(money)) => Reading::Amount(money),
            Ok(AvailableFunds::Unlimited) => Reading::Unlimited,
            Err(problem) => {
                Reading::Unreadable(Unreadable { persistence: Persistence::Transient, reason: problem.to_string() })
            }
        }
    }

    /// Returns an anomaly of a response that can be read.
    pub fn anomaly(&self) -> Option<BalanceAnomaly> {
        let (Ok(currency), Ok(false)) = (&self.currency, &self.unlimited) else { return None };
        let reported = Money::new(self.reported_total.clone().ok()??, *currency);
        match self.computed().ok()? {
            Some(amount) if amount == reported.amount => None,
            Some(amount) => {
                Some(BalanceAnomaly::ReportedTotalDiffers { reported, computed: Money::new(amount, *currency) })
            }
            None => Some(BalanceAnomaly::ReportedTotalUsed { reported }),
        }
    }

    /// Returns the parts, if each of them can be read.
    pub fn breakdown(&self) -> Option<Breakdown> {
        Some(Breakdown {
            currency: self.currency.clone().ok()?,
            balance: self.balance.clone().ok()?,
            credit_limit: self.credit_limit.clone().ok().flatten(),
            unpaid_invoices: self.unpaid_invoices.clone().ok()?,
            used_credit: self.used_credit.clone().ok()?,
        })
    }

    fn money(&self, amount: &BalanceField<Decimal>) -> BalanceField<AvailableFunds> {
        Ok(AvailableFunds::Limited(Money::new(amount.clone()?, self.currency.clone()?)))
    }

    /// Returns the result of the formula; `None` if the response contains no limit.
    fn computed(&self) -> BalanceField<Option<Decimal>> {
        let Some(limit) = self.credit_limit.clone()? else { return Ok(None) };
        let (balance, unpaid, used) = (self.balance.clone()?, self.unpaid_invoices.clone()?, self.used_credit.clone()?);
        available(balance, limit, unpaid, used)
            .map(Some)
            .ok_or_else(|| FieldProblem { field: "balance", problem: "is too large to compute with".to_owned() }.into())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::domain::money::parse_amount;

    pub(crate) fn sample(balance: &str, limit: Option<&str>, unpaid: &str, used: &str) -> Balance {
        let amount = |text: &str| parse_amount(text).unwrap();
        Balance {
            currency: Ok(Currency::parse("USD").unwrap()),
            balance: Ok(amount(balance)),
            unpaid_invoices: Ok(amount(unpaid)),
            used_credit: Ok(amount(used)),
            credit_limit: Ok(limit.map(amount)),
            unlimited: Ok(false),
            reported_total: Ok(None),
        }
    }

    fn shown(reading: &Reading) -> String {
        match reading {
            Reading::Amount(money) => money.to_string(),
            Reading::Unlimited => "unlimited".to_owned(),
            Reading::Time(_) => panic!("no balance is a duration"),
            Reading::NotYetKnown(why) | Reading::NotYetRead(why) => why.clone(),
            Reading::Unreadable(why) => why.reason.clone(),
        }
    }

    #[test]
    fn available_funds_follow_the_formula() {
        let balance = sample("-569.00", Some("2000.00"), "100.50", "0.25");
        assert_eq!(shown(&balance.reading(Metric::AvailableFunds)), "USD 1,330.25");
        assert_eq!(shown(&balance.reading(Metric::Balance)), "USD \u{2212}569.00");
        assert_eq!(shown(&balance.reading(Metric::UnpaidInvoices)), "USD 100.50");
        assert_eq!(shown(&balance.reading(Metric::UsedCredit)), "USD 0.25");
    }

    #[test]
    fn the_flag_means_unlimited_whatever_else_is_there() {
        let broken = || Box::new(FieldProblem { field: "balance", problem: "is missing".to_owned() });
        let mut balance = sample("-1000.70", None, "0", "0");
        balance.unlimited = Ok(true);
        balance.balance = Err(broken());
        balance.reported_total = Ok(Some(Decimal::ZERO));
        assert_eq!(balance.reading(Metric::AvailableFunds), Reading::Unlimited);
        assert!(matches!(balance.reading(Metric::Balance), Reading::Unreadable(_)));
    }

    #[test]
    fn the_reported_total_is_used_where_there_is_no_limit() {
        let mut balance = sample("10", None, "0", "0");
        assert!(shown(&balance.reading(Metric::AvailableFunds)).contains("`negative_balance_limit` is missing"));
        assert_eq!(shown(&balance.reading(Metric::Balance)), "USD 10.00");
        balance.reported_total = Ok(Some(Decimal::from(77)));
        assert_eq!(shown(&balance.reading(Metric::AvailableFunds)), "USD 77.00");
        assert!(matches!(balance.anomaly(), Some(BalanceAnomaly::ReportedTotalUsed { .. })));
    }

    #[test]
    fn a_reported_total_that_differs_is_noted_not_used() {
        let mut balance = sample("454.00", Some("2000.00"), "0", "0");
        balance.reported_total = Ok(Some(Decimal::from(2454)));
        assert_eq!(balance.anomaly(), None);
        balance.reported_total = Ok(Some(Decimal::from(9999)));
        assert_eq!(shown(&balance.reading(Metric::AvailableFunds)), "USD 2,454.00");
        assert!(balance.anomaly().unwrap().to_string().contains("USD 9,999.00"));
    }
}
