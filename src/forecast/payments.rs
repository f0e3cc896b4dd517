//! Share of renewals that is paid from the balance, by how the renewed order was paid.

use rust_decimal::Decimal;
use rust_decimal::prelude::FromPrimitive as _;

use super::purchase::{PaymentSource, Renewal};
use super::purchases::Purchases;
use super::renewal_window::days_before;
use super::requirements::MIN_HISTORY_DAYS;
use super::share::ShareDistribution;

/// Parameters of beta distributions: an order and its renewal are probably paid in the same way.
const BALANCE_PRIOR: (u32, u32) = (21, 1);
const ELSEWHERE_PRIOR: (u32, u32) = (1, 13);
const UNKNOWN_PRIOR: (u32, u32) = (13, 1);
/// Number of renewals beyond which a share becomes no more certain.
const MAX_CASES: u32 = 200;

/// A value for each source of payment.
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

/// Returns the share of renewals that is paid from the balance, for each source of payment of the renewed order.
pub(super) fn from_balance(purchases: &Purchases<'_>, renewals: &[Renewal]) -> ByPaymentSource<ShareDistribution> {
    let after = |payment| {
        let matching = renewals.iter().filter(|renewal| purchases.payments[renewal.renewed] == payment);
        count_by_source(&matching.map(|renewal| renewal.by.map_or(PaymentSource::Balance, |by| purchases.payments[by])))
    };
    let (balance, elsewhere) = count_by_source(&purchases.payments.iter().copied());
    let (stays, leaves) = after(PaymentSource::Balance);
    // If nothing was ever paid elsewhere, every order counts as evidence for it.
    let stays = if elsewhere == 0 { stays + balance } else { stays };
    ByPaymentSource {
        balance: ShareDistribution::new((stays, leaves), BALANCE_PRIOR, MAX_CASES),
        elsewhere: ShareDistribution::new(after(PaymentSource::Elsewhere), ELSEWHERE_PRIOR, MAX_CASES),
        unknown: unknown_share(balance, elsewhere),
    }
}

/// Returns the share for renewals of orders that are older than the ledger.
fn unknown_share(balance: usize, elsewhere: usize) -> ShareDistribution {
    ShareDistribution::new((balance, elsewhere), UNKNOWN_PRIOR, MAX_CASES)
}

/// Counts the payments from the balance and those from elsewhere.
fn count_by_source(all: &(impl Iterator<Item = PaymentSource> + Clone)) -> (usize, usize) {
    let count = |payment| all.clone().filter(|source| *source == payment).count();
    (count(PaymentSource::Balance), count(PaymentSource::Elsewhere))
}

/// Share of each order's renewal that is usually paid from the balance, as shown in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PaymentShares {
    /// Source of each order's payment, in the order of the listing.
    payments: Vec<PaymentSource>,
    /// Share for orders whose payment is not in the ledger: 0 if nothing was bought from the balance, `None` if the
    /// ledger is too short to tell.
    unknown: Option<Decimal>,
}

impl PaymentShares {
    pub(super) fn read(purchases: &Purchases<'_>) -> Self {
        let too_short = purchases.days_covered().is_some_and(|days| days < MIN_HISTORY_DAYS);
        let unknown = if too_short {
            None
        } else if purchases.all.is_empty() {
            // Orders placed within the year were paid elsewhere. Without any, nothing is known.
            let first = days_before(purchases.now.date_naive(), 365);
            let was_ordered = purchases.orders.iter().any(|order| order.placed >= Some(first));
            was_ordered.then_some(Decimal::ZERO)
        } else {
            mean_balance_share(&purchases.payments)
        };
        Self { payments: purchases.payments.clone(), unknown }
    }

    /// Returns the share, from 0 to 1, of the price of this order's renewal that is usually paid from the balance.
    pub(super) fn share_from_balance(&self, index: usize) -> Option<Decimal> {
        match self.payments.get(index)? {
            PaymentSource::Balance => Some(Decimal::ONE),
            PaymentSource::Elsewhere => Some(Decimal::ZERO),
            PaymentSource::Unknown => self.unknown,
        }
    }
}

/// Returns the mean share for orders that are older than the ledger: 1 if no payment is known to have been made
/// elsewhere, `None` if no payment is known.
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
