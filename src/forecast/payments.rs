//! The share of renewals that is paid from the balance, by the source of the money for the order itself.

use rust_decimal::Decimal;
use rust_decimal::prelude::FromPrimitive as _;

use super::LEAST_HISTORY_DAYS;
use super::purchases::{Payment, Purchases, Renewal};
use super::renewals::days_before;
use super::share::Share;

/// The source of the money for an order probably pays for its renewal, too: parameters of beta distributions.
const STAYS_WITH_BALANCE: (u32, u32) = (21, 1);
const STAYS_ELSEWHERE: (u32, u32) = (1, 13);
const UNKNOWN: (u32, u32) = (13, 1);
/// More cases than these make a share no more certain.
const MOST_CASES: u32 = 200;

/// A value for the orders of each source.
#[derive(Debug, Clone)]
pub(super) struct ByPayment<T> {
    pub(super) balance: T,
    elsewhere: T,
    unknown: T,
}

impl<T> ByPayment<T> {
    pub(super) fn of(&self, payment: Payment) -> &T {
        match payment {
            Payment::Balance => &self.balance,
            Payment::Elsewhere => &self.elsewhere,
            Payment::Unknown => &self.unknown,
        }
    }

    pub(super) fn map<U>(&self, mut value: impl FnMut(&T) -> U) -> ByPayment<U> {
        ByPayment { balance: value(&self.balance), elsewhere: value(&self.elsewhere), unknown: value(&self.unknown) }
    }
}

/// The share of the renewals of such orders that is paid from the balance, as these renewals show it.
pub(super) fn from_balance(purchases: &Purchases<'_>, renewals: &[Renewal]) -> ByPayment<Share> {
    let after = |payment| {
        let its = renewals.iter().filter(|renewal| purchases.payments[renewal.renewed] == payment);
        counted(&its.map(|renewal| renewal.by.map_or(Payment::Balance, |by| purchases.payments[by])))
    };
    let (balance, elsewhere) = counted(&purchases.payments.iter().copied());
    let (stays, leaves) = after(Payment::Balance);
    // Where nothing was ever paid from elsewhere, every order says so.
    let stays = if elsewhere == 0 { stays + balance } else { stays };
    ByPayment {
        balance: Share::new((stays, leaves), STAYS_WITH_BALANCE, MOST_CASES),
        elsewhere: Share::new(after(Payment::Elsewhere), STAYS_ELSEWHERE, MOST_CASES),
        unknown: of_unknown(balance, elsewhere),
    }
}

/// The same of orders that are older than the ledger.
fn of_unknown(balance: usize, elsewhere: usize) -> Share {
    Share::new((balance, elsewhere), UNKNOWN, MOST_CASES)
}

/// Numbers of these that were made from the balance, and from elsewhere.
fn counted(all: &(impl Iterator<Item = Payment> + Clone)) -> (usize, usize) {
    let count = |payment| all.clone().filter(|its| *its == payment).count();
    (count(Payment::Balance), count(Payment::Elsewhere))
}

/// The share of the renewals of each order that is usually paid from the balance, as people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UsualPayments {
    /// Of each order, in the order of the listing.
    made: Vec<Payment>,
    /// The share of an order whose payment the ledger does not show: 0 where nothing at all was bought from the balance,
    /// `None` where the ledger is too short to tell.
    unknown: Option<Decimal>,
}

impl UsualPayments {
    pub(super) fn read(purchases: &Purchases<'_>) -> Self {
        let too_short = purchases.days_covered().is_some_and(|days| days < LEAST_HISTORY_DAYS);
        let unknown = if too_short {
            None
        } else if purchases.all.is_empty() {
            // What was ordered meanwhile was paid elsewhere; where nothing was, nothing is known.
            let first = days_before(purchases.now.date_naive(), 365);
            let was_ordered = purchases.orders.iter().any(|order| order.placed >= Some(first));
            was_ordered.then_some(Decimal::ZERO)
        } else {
            usual_share(&purchases.payments)
        };
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

/// The mean share of orders that are older than the ledger: all of it where no payment is known to have been made elsewhere, and
/// `None` where no payment is known.
pub(super) fn usual_share(made: &[Payment]) -> Option<Decimal> {
    /// Decimal places of the share.
    const PLACES: u32 = 4;
    match counted(&made.iter().copied()) {
        (0, 0) => None,
        (_, 0) => Some(Decimal::ONE),
        (balance, elsewhere) => {
            Decimal::from_f64(of_unknown(balance, elsewhere).mean()).map(|mean| mean.round_dp(PLACES))
        }
    }
}
