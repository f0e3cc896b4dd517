//! Orders of certificates, which have to be renewed and paid.

use std::sync::Arc;

use chrono::NaiveDate;
use rust_decimal::Decimal;

/// An order of a certificate that was issued and paid (`order/certificate`). Nothing else has to be renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Number of the order.
    pub id: u64,
    /// Division that pays for it, if the listing names it.
    pub division: Option<u64>,
    /// `name_id` of its product, or else the product's name, if the listing contains one.
    pub product: Option<Arc<str>>,
    /// Common name of its certificate, in lower case, if the listing contains it.
    pub common_name: Option<Arc<str>>,
    /// Price in the account's currency. The renewal is assumed to cost the same.
    pub price: Decimal,
    /// Set if the listing says that it has expired. It is evidence of renewal habits, and is no longer due.
    pub expired: bool,
    /// Set if a later order replaced it.
    pub renewed: bool,
    /// Date on which it was placed.
    pub placed: Option<NaiveDate>,
    /// Day until which it was bought, by its date and validity. The order may end some days earlier or later.
    pub bought_until: Option<NaiveDate>,
    /// Set for a plan with several certificates, one after another.
    pub is_plan: bool,
    /// Day on which its present certificate ends.
    pub certificate_ends: NaiveDate,
    /// Day on which the order ends (`order_valid_till`), from the listing or from its details. Only the end of the order costs
    /// money.
    pub order_ends: Option<NaiveDate>,
}

impl Order {
    /// Returns the day on which the order ends: its own end if known, or else its certificate's. Returns `None` if another
    /// certificate may follow; only the details of the order then contain its end.
    pub fn ends(&self) -> Option<NaiveDate> {
        self.order_ends.or_else(|| (!self.end_is_uncertain()).then_some(self.certificate_ends))
    }

    /// Returns the day on which the order ends or, if that is uncertain, the day until which it was bought.
    pub fn probably_ends(&self) -> Option<NaiveDate> {
        self.ends().or(self.bought_until)
    }

    /// Returns `true` if the order may last longer than its present certificate, so that only its details contain its end. An
    /// order that has expired has had its last certificate.
    pub fn end_is_uncertain(&self) -> bool {
        /// A certificate that ends at most this many days before its order is the last one.
        const LAST_CERTIFICATE_DAYS: u64 = 30;
        if self.order_ends.is_some() || self.expired {
            return false;
        }
        let last = self.certificate_ends.checked_add_days(chrono::Days::new(LAST_CERTIFICATE_DAYS));
        self.bought_until.map_or(self.is_plan, |until| last.is_some_and(|last| until > last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
