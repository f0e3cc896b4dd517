//! What an account reported about its money, and the readings that rules get of it.
//!
//! Every field stands on its own: one that is malformed makes unreadable exactly the metrics that need it, never 0.

use std::time::Duration;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::money::{AvailableFunds, Currency, Money};
use super::rule::Metric;

/// A field that the response had, but not in a form that can be read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
#[error("the response's `{field}` {problem}")]
pub struct FieldProblem {
    /// The field's name in the API.
    pub field: &'static str,
    /// What is wrong with it, as the rest of a sentence: `is missing`, `is not a plain decimal number (found "NaN")`.
    pub problem: String,
}

/// One field of the response: its value, or why there is none; boxed, because thousands of readings are kept and hardly one
/// has a problem.
pub type BalanceField<T> = Result<T, Box<FieldProblem>>;

/// One `GET /finance/balance`, field by field, already parsed but not yet judged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Balance {
    /// Currency of every amount.
    pub currency: BalanceField<Currency>,
    /// The prepaid balance; may be negative.
    pub balance: BalanceField<Decimal>,
    /// Owed for unpaid invoices. An absent field is 0 (the API got it later).
    pub unpaid_invoices: BalanceField<Decimal>,
    /// Owed by the account's other divisions. An absent field is 0 (the API got it later).
    pub used_credit: BalanceField<Decimal>,
    /// How far the balance may go below zero; `None` if the response does not say.
    pub credit_limit: BalanceField<Option<Decimal>>,
    /// `unlimited_negative_balance`: the balance may go below zero without limit.
    pub unlimited: BalanceField<bool>,
    /// `total_available_funds` as reported; compared, and used only where the limit is missing.
    pub reported_total: BalanceField<Option<Decimal>>,
}

/// Whether what made a reading impossible can go away without anybody doing something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Persistence {
    /// It may heal by itself: no connection, a time-out, 429, 5xx, a body that makes no sense.
    Transient,
    /// Somebody has to act: a 3xx, any other 4xx, a currency mismatch.
    Permanent,
}

/// Why there is no reading. The reason is a sentence for people, free of secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// Whether it can heal by itself.
    pub persistence: Persistence,
    /// What failed and why, for people.
    pub reason: String,
}

/// What a rule sees of one metric of one account or division.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// An exact amount.
    Amount(Money),
    /// A duration.
    Time(Duration),
    /// More than every threshold.
    Unlimited,
    /// There is too little history to say it, and why: no failure, and no alert.
    NotYetKnown(String),
    /// What it takes is being read for the first time: nothing is known, not even whether it can be read.
    NotYetRead(String),
    /// Not known; changes no alert.
    Unreadable(Unreadable),
}

/// Something about a response that is worth telling once, though the reading is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BalanceAnomaly {
    /// The reported total is not what the formula gives; the formula counts.
    ReportedTotalDiffers {
        /// `total_available_funds`.
        reported: Money,
        /// What the formula gives.
        computed: Money,
    },
    /// The limit is missing and the account is not unlimited: the reported total stands in for the formula.
    ReportedTotalUsed {
        /// `total_available_funds`.
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

/// The parts that available funds are made of, for the messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breakdown {
    /// Of every amount here.
    pub currency: Currency,
    /// The prepaid balance.
    pub balance: Decimal,
    /// `None`: unlimited, or not reported (then `total` is what CertCentral reported).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit_limit: Option<Decimal>,
    /// Owed for unpaid invoices.
    pub unpaid_invoices: Decimal,
    /// Owed by other divisions.
    pub used_credit: Decimal,
}

impl Breakdown {
    /// Sum of the parts; `None` without a credit limit.
    pub fn available(&self) -> Option<Decimal> {
        available(self.balance, self.credit_limit?, self.unpaid_invoices, self.used_credit)
    }
}

/// The one formula: balance + credit limit − unpaid invoices − credit used by other divisions. `None` on overflow.
fn available(balance: Decimal, limit: Decimal, unpaid: Decimal, used: Decimal) -> Option<Decimal> {
    balance.checked_add(limit)?.checked_sub(unpaid)?.checked_sub(used)
}

impl Balance {
    /// Available funds by the formula, or as reported where the response names no credit limit.
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

    /// The reading of a metric, as far as a balance alone tells it.
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

    /// What is odd about a response that can be read.
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

    /// The parts, if each of them can be read.
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

    /// What the formula gives; `None` where the response names no limit.
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
