//! Generated accounts whose future is known, to measure a forecast against.
//!
//! They are seeded: the same kind and number give the same account. Amounts are in hundredths. `paced.rs` generates the
//! kinds that spend at a daily rate, `renewing.rs` those that live on renewals.

mod kinds;
mod paced;
mod renewing;

use lowtide::domain::Time;
use lowtide::domain::money::Currency;
use lowtide::sandbox::scenario::CreditLimit;
use lowtide::sandbox::world::{AccountRecords, RecordedDivision, SimulatedEntry, SimulatedOrder};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;

pub use self::kinds::{
    AccountKind, CHANGING, HELD_OUT, ONCE_HELD_OUT, RENEWING, RENEWING_HELD_OUT, RENEWING_ONCE_HELD_OUT, TUNED, name,
};
use self::paced::PacedAccount;

/// Days of the future that are generated.
pub const AFTER: usize = 365;

/// Id of the first division.
const FIRST_DIVISION: u64 = 11_224;
/// Credit limit of every account that is older than its ledger, in hundredths.
const CREDIT: i64 = 200_000;

/// A generated account at `now`, with its future.
pub struct GeneratedAccount {
    /// Ledger by time, without balances.
    entries: Vec<SimulatedEntry>,
    orders: Vec<SimulatedOrder>,
    divisions: u64,
    /// True if the ledger begins with the account.
    is_young: bool,
    /// Spend on each day from `now` on, in hundredths.
    pub future: Vec<i64>,
    /// Spend on each day before `now`, oldest first.
    pub past: Vec<i64>,
    /// Mean spend of a day.
    daily_spend: i64,
    /// Prices of the purchases of the last year.
    prices: Vec<i64>,
}

impl GeneratedAccount {
    pub fn new(kind: AccountKind, number: u64) -> Self {
        if [&RENEWING[..], &RENEWING_ONCE_HELD_OUT, &RENEWING_HELD_OUT].concat().contains(&kind) {
            return renewing::generate(kind, number);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(number * 1000 + kind as u64);
        let mut account = PacedAccount::new(kind, &mut rng);
        for day in 0..account.days() {
            account.simulate_day(day, &mut rng);
        }
        account.generated()
    }

    /// Returns funds for this number of days at the account's mean spend, and for at least two typical orders, since
    /// with less nothing can be bought.
    pub fn available(&self, days: i64) -> i64 {
        let mut prices = self.prices.clone();
        prices.sort_unstable();
        let usual = prices.get(prices.len() / 2).copied().unwrap_or_default();
        (self.daily_spend * days).max(2 * usual)
    }

    /// Returns the records that CertCentral shows for the account with these available funds.
    pub fn records(&self, available: i64) -> AccountRecords {
        let credit = if self.is_young { 0 } else { CREDIT };
        let mut balance = Decimal::new(available - credit, 2);
        let division = |number: u64| RecordedDivision {
            id: FIRST_DIVISION + number,
            name: format!("Division {number}"),
            currency: Currency::parse("USD").unwrap(),
            balance,
            credit: CreditLimit::Limit(Decimal::new(credit, 2)),
        };
        let divisions = (0..self.divisions).map(division).collect();
        let mut entries = self.entries.clone();
        for entry in entries.iter_mut().rev() {
            entry.balance_after = balance;
            balance -= entry.change;
        }
        if self.is_young {
            // A young account was empty before its first deposit.
            entries[0].change += balance;
        }
        AccountRecords { divisions, shared_funds: true, entries, orders: self.orders.clone() }
    }
}

/// The present time of every account.
pub fn now() -> Time {
    Time::from_timestamp(1_795_500_000, 0).unwrap()
}

fn days(days: i64) -> chrono::Duration {
    chrono::Duration::days(days)
}

/// Returns a unique id. Ids do not rise with time.
fn scrambled_id(number: usize) -> u64 {
    10_000_000 + (number as u64 + 1) * 48_271 % 2_147_483_647
}

fn sorted_by_time(mut entries: Vec<SimulatedEntry>) -> Vec<SimulatedEntry> {
    entries.sort_by_key(|entry| entry.at);
    entries
}

/// Returns the number without its fraction.
fn truncated(number: f64) -> usize {
    number.to_usize().unwrap()
}

/// Draws from a Poisson distribution.
fn poisson(mean: f64, rng: &mut ChaCha8Rng) -> usize {
    let (least, mut product, mut count) = ((-mean).exp(), rng.random::<f64>(), 0);
    while product > least {
        product *= rng.random::<f64>();
        count += 1;
    }
    count
}
