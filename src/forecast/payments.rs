//! How much of a renewal's price is usually paid from the balance, told by what paid for the order itself.

use rust_decimal::Decimal;

use super::purchases::{Payment, Purchases};
use super::renewal_model::share_from_balance;

/// What paid for each order of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Payments {
    /// Of each order, in the order of the listing.
    made: Vec<Payment>,
    /// The share of an order whose payment the ledger does not show: 0 where nothing at all was bought from the balance,
    /// `None` where what was bought cannot be told.
    unknown: Option<Decimal>,
}

impl Payments {
    pub(super) fn learnt(purchases: &Purchases<'_>) -> Self {
        let nothing_bought = purchases.all.is_empty().then_some(Decimal::ZERO);
        let unknown = share_from_balance(&purchases.payments).or(nothing_bought);
        Self { made: purchases.payments.clone(), unknown }
    }

    /// The share of its price that the renewal of the order at this place usually takes from the balance, from 0 to 1.
    pub(super) fn share_from_balance(&self, place: usize) -> Option<Decimal> {
        match self.made.get(place)? {
            Payment::Balance => Some(Decimal::ONE),
            Payment::Elsewhere => Some(Decimal::ZERO),
            Payment::Unknown => self.unknown,
        }
    }
}
