//! The share of renewals that is paid from the balance, by the source of the money for the order itself.

use rust_decimal::Decimal;
use rust_decimal::prelude::FromPrimitive as _;

use super::MIN_HISTORY_DAYS;
use super::purchases::{PaymentSource, Purchases, Renewal};
use super::renewals::days_before;
use super::share::ShareDistribution;

/// The source of the money for an order probably pays for its renewal, too: parameters of beta distributions.
const BALANCE_PRIOR: (u32, u32) = (21, 1);
const ELSEWHERE_PRIOR: (u32, u32) = (1, 13);
const UNKNOWN_PRIOR: (u32, u32) = (13, 1);
/// More cases than these make a share no more certain.
const MAX_CASES: u32 = 200;

/// A value for the orders of each source.
#[derive(Debug, Clone)]
pub(super) struct ByPaymentSource<T> {
    pub(super) balance: T,
    elsewhere: T,
    unknown: T,
}

impl<T> ByPaymentSource<T> {
    pub(super) fn of(&self, payment: PaymentSource) -> &T {
        match payment {
            PaymentSource::Balance => &self.balance,
            PaymentSource::Elsewhere => &self.elsewhere,
            PaymentSource::Unknown => &self.unknown,
        }
    }

    pub(super) fn map<U>(&self, mut value: impl FnMut(&T) -> U) -> ByPaymentSource<U> {
        ByPaymentSource {
            balance: value(&self.balance),
            elsewhere: value(&self.elsewhere),
            unknown: value(&self.unknown),
        }
    }
}

/// The share of the renewals of such orders that is paid from the balance, as these renewals show it.
pub(super) fn from_balance(purchases: &Purchases<'_>, renewals: &[Renewal]) -> ByPaymentSource<ShareDistribution> {
    let after = |payment| {
        let its = renewals.iter().filter(|renewal| purchases.payments[renewal.renewed] == payment);
        count_by_source(&its.map(|renewal| renewal.by.map_or(PaymentSource::Balance, |by| purchases.payments[by])))
    };
    let (balance, elsewhere) = count_by_source(&purchases.payments.iter().copied());
    let (stays, leaves) = after(PaymentSource::Balance);
    // Where nothing was ever paid from elsewhere, every order says so.
    let stays = if elsewhere == 0 { stays + balance } else { stays };
    ByPaymentSource {
        balance: ShareDistribution::new((stays, leaves), BALANCE_PRIOR, MAX_CASES),
        elsewhere: ShareDistribution::new(after(PaymentSource::Elsewhere), ELSEWHERE_PRIOR, MAX_CASES),
        unknown: unknown_share(balance, elsewhere),
    }
}

/// The same of orders that are older than the ledger.
fn unknown_share(balance: usize, elsewhere: usize) -> ShareDistribution {
    ShareDistribution::new((balance, elsewhere), UNKNOWN_PRIOR, MAX_CASES)
}

/// Numbers of these that were made from the balance, and from elsewhere.
fn count_by_source(all: &(impl Iterator<Item = PaymentSource> + Clone)) -> (usize, usize) {
    let count = |payment| all.clone().filter(|its| *its == payment).count();
    (count(PaymentSource::Balance), count(PaymentSource::Elsewhere))
}

/// The share of the renewals of each order that is usually paid from the balance, as people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PaymentShares {
    /// Of each order, in the order of the listing.
    payments: Vec<PaymentSource>,
    /// The share of an order whose payment the ledger does not show: 0 where nothing at all was bought from the balance,
    /// `None` where the ledger is too short to tell.
    unknown: Option<Decimal>,
}

impl PaymentShares {
    pub(super) fn read(purchases: &Purchases<'_>) -> Self {
        let too_short = purchases.days_covered().is_some_and(|days| days < MIN_HISTORY_DAYS);
        let unknown = if too_short {
            None
        } else if purchases.all.is_empty() {
            // What was ordered meanwhile was paid elsewhere; where nothing was, nothing is known.
            let first = days_before(purchases.now.date_naive(), 365);
            let was_ordered = purchases.orders.iter().any(|order| order.placed >= Some(first));
            was_ordered.then_some(Decimal::ZERO)
        } else {
            mean_balance_share(&purchases.payments)
        };
        Self { payments: purchases.payments.clone(), unknown }
    }

    /// The share of its price that the renewal of the order at this place usually takes from the balance, from 0 to 1.
    pub(super) fn share_from_balance(&self, place: usize) -> Option<Decimal> {
        match self.payments.get(place)? {
            PaymentSource::Balance => Some(Decimal::ONE),
            PaymentSource::Elsewhere => Some(Decimal::ZERO),
            PaymentSource::Unknown => self.unknown,
        }
    }
}

/// The mean share of orders that are older than the ledger: all of it where no payment is known to have been made elsewhere, and
/// `None` where no payment is known.
pub(super) fn mean_balance_share(payments: &[PaymentSource]) -> Option<Decimal> {
    /// Decimal places of the share.
    const PLACES: u32 = 4;
    match count_by_source(&payments.iter().copied()) {
        (0, 0) => None,
        (_, 0) => Some(Decimal::ONE),
        (balance, elsewhere) => {
            Decimal::from_f64(unknown_share(balance, elsewhere).mean()).map(|mean| mean.round_dp(PLACES))
        }
    }
}
