//! One generated account, its forecasts, and how they compare with its future.

use lowtide::domain::Time;
use lowtide::domain::forecast::Runway;
use lowtide::domain::history::AccountHistory;
use lowtide::forecast::{Confidence, Simulation, Spending};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;

use crate::account_reader::AccountReader;
use crate::accounts::{self, AccountKind, GeneratedAccount, name};

pub(super) const HORIZONS: [u32; 4] = [7, 14, 30, 60];
pub(super) const PERCENTS: [u8; 3] = [50, 80, 90];
/// Funds in days of mean spend.
pub(super) const FUNDS: [i64; 3] = [15, 30, 60];
/// Indexes of 30 days, which a message's deposit covers, in `HORIZONS` and in `FUNDS`.
const THIRTY: (usize, usize) = (2, 1);

/// Outcome of one account.
#[derive(Clone)]
pub(super) struct TrialOutcome {
    /// True if the spend was in the range, by horizon and percent.
    pub(super) spent: [[bool; PERCENTS.len()]; HORIZONS.len()],
    /// True if the funds ended within the 90 % range, and true if they ended before it.
    pub(super) within: [bool; FUNDS.len()],
    pub(super) before: [bool; FUNDS.len()],
    /// Absolute errors of the median and of the naive mean: of 30 days' spend in percent, of the runways in days.
    pub(super) spend_off: [f64; 2],
    pub(super) runway_off: [[f64; 2]; FUNDS.len()],
    /// Deposit for 30 days, divided by their spend.
    pub(super) deposit: f64,
}

/// One account, its history and its future.
pub(super) struct Trial {
    name: String,
    account: GeneratedAccount,
    history: AccountHistory,
}

impl Trial {
    pub(super) fn new(reader: &AccountReader, kind: AccountKind, number: u64) -> Self {
        let (name, account) = (format!("{} {number}", name(kind)), GeneratedAccount::new(kind, number));
        let available = account.available(FUNDS[THIRTY.1]);
        let (funds, history) = reader.read(account.records(available));
        assert_eq!(funds, Decimal::new(available, 2));
        Self { name, account, history }
    }

    pub(super) fn outcome(&self) -> TrialOutcome {
        let forecasts = FUNDS.map(|days| self.forecast(days));
        let thirty = &forecasts[THIRTY.1];
        let inside = |days: u32, percent: u8| {
            let range = thirty.spend_range(days, confidence(percent));
            (range.low..=range.high).contains(&self.spent(days))
        };
        let runways = std::array::from_fn::<_, { FUNDS.len() }, _>(|place| {
            let (forecast, available) = (&forecasts[place], self.account.available(FUNDS[place]));
            (runway(forecast), self.lasts(available), self.naive_days(available))
        });
        let taken = (self.spent(30) * Decimal::ONE_HUNDRED).to_f64().unwrap();
        let thirty = thirty.spend_range(30, confidence(90));
        let [middle, high] = [thirty.middle, thirty.high].map(|it| (it * Decimal::ONE_HUNDRED).to_f64().unwrap());
        TrialOutcome {
            spent: HORIZONS.map(|days| PERCENTS.map(|percent| inside(days, percent))),
            within: runways.map(|((early, _, late), lasts, _)| (early..=late).contains(&lasts)),
            before: runways.map(|((early, ..), lasts, _)| lasts < early),
            spend_off: [middle, self.naive() * 30.0].map(|estimate| (estimate - taken).abs() / taken.max(1.0) * 100.0),
            runway_off: runways.map(|((_, about, _), lasts, naive)| {
                [about as f64, naive].map(|estimate| (estimate - lasts as f64).abs())
            }),
            deposit: high / taken.max(1.0),
        }
    }

    fn forecast(&self, days: i64) -> Simulation {
        let (ledger, orders) = (self.history.ledger.as_ref().unwrap(), self.history.orders.as_ref().unwrap());
        let available = Decimal::new(self.account.available(days), 2);
        Simulation::new(ledger, Some(orders), &Spending::default(), available, accounts::now())
            .unwrap_or_else(|why| panic!("{}: {why}", self.name))
    }

    fn spent(&self, days: u32) -> Decimal {
        Decimal::new(self.account.future[..usize::try_from(days).unwrap()].iter().sum(), 2)
    }

    /// Returns the days until the funds are spent, at most 365.
    fn lasts(&self, available: i64) -> i64 {
        let mut spent = 0;
        let enough = self.account.future.iter().take_while(|day| {
            spent += **day;
            spent <= available
        });
        i64::try_from(enough.count()).unwrap()
    }

    /// Returns the mean spend of a day in the last 30 days.
    fn naive(&self) -> f64 {
        let past = &self.account.past;
        past[past.len() - 30..].iter().sum::<i64>() as f64 / 30.0
    }

    fn naive_days(&self, available: i64) -> f64 {
        (available as f64 / self.naive().max(0.01)).min(365.0)
    }
}

/// Returns the early end, median and late end of the 90 % range in days.
fn runway(forecast: &Simulation) -> (i64, i64, i64) {
    let days = |at: Option<Time>| at.map_or(365, |at| (at - accounts::now()).num_days());
    match forecast.runway(confidence(90)) {
        Runway::Until { about, early, late, .. } => (days(early), days(about), days(late)),
        Runway::Exhausted => (0, 0, 0),
        Runway::BeyondHorizon | Runway::NotYetKnown(_) => (365, 365, 365),
    }
}

fn confidence(percent: u8) -> Confidence {
    Confidence::new(percent).unwrap()
}
