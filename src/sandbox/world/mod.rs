//! The simulated account: orders are placed and renewed, deposits arrive and expire, invoices fall due and are paid.
//!
//! Pure, with seeded random choices: the same scenario, start and seed give the same simulation, however often it is read. Every
//! change of a balance is a ledger entry, so balance, history and orders agree at every moment.

mod events;
mod fund;
mod orders;
mod random;
mod records;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rust_decimal::Decimal;

use self::events::WorldEvent;
use self::fund::{SimulatedFund, SimulatedLot};
use self::orders::{DomainStream, OrderStream};
use self::random::{generator, scrambled_id};
pub use self::records::{
    AccountRecords, BalanceSheet, CertificateIssuance, RecordedDivision, SimulatedEntry, SimulatedOrder,
};
use super::scenario::{CreditLimit, DepositTime, DivisionPlan, Scenario};
use crate::domain::Time;

/// Time between a renewal and the end of the order, for orders that were placed during the simulation.
const DEFAULT_RENEWAL_LEAD: Duration = Duration::from_secs(14 * 24 * 3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
/// Simulated time after which nothing happens any more, so that a sandbox that is left running does not grow for ever.
const MAX_SIMULATED_TIME: Duration = Duration::from_secs(5 * 366 * 24 * 3600);
/// First random stream of added domains. They have their own streams so that they do not change other random choices.
const FIRST_DOMAIN_STREAM: u64 = 1 << 32;
/// Opening balance that is higher than the spend of any account.
const AMPLE_OPENING: Decimal = Decimal::from_parts(0, 0, 10_000, false, 0);
/// Transaction type of a deposit.
const DEPOSIT: &str = "Credit Card Deposit";

/// A simulated account at one moment.
#[derive(Debug)]
pub struct SimulatedWorld {
    plans: Vec<DivisionPlan>,
    start: Time,
    now: Time,
    /// One fund per division, or a single one that all divisions share.
    funds: Vec<SimulatedFund>,
    entries: Vec<SimulatedEntry>,
    orders: Vec<SimulatedOrder>,
    /// Orders whose renewal was placed before the ledger begins.
    past_orders: Vec<SimulatedOrder>,
    streams: Vec<OrderStream>,
    domains: Vec<DomainStream>,
    random: ChaCha8Rng,
    /// Scheduled events by time; the number keeps events of the same time in the order of their scheduling.
    queue: BinaryHeap<Reverse<(Time, u64, WorldEvent)>>,
    planned: u64,
    /// Set before the scenario's start, where nothing is refused for lack of funds.
    history: bool,
}

/// A ledger entry to be made.
#[derive(Default)]
struct Posting {
    change: Decimal,
    kind: &'static str,
    order: Option<u64>,
    note: Option<String>,
    expires: Option<Time>,
    /// Deposit that the debit consumes; `None` for the oldest first.
    from_lot: Option<u64>,
}

impl SimulatedWorld {
    /// Creates the account of a scenario whose first day begins at `start`, with its history.
    pub fn new(scenario: &Scenario, start: Time, seed: u64) -> Self {
        let mut world = Self::with_history(scenario, start, seed, Decimal::ZERO);
        if (0..scenario.funds()).any(|fund| world.overdraft(fund) > Decimal::ZERO) {
            world = Self::with_history(scenario, start, seed, AMPLE_OPENING);
        }
        for division in 0..scenario.funds() {
            // Past deposits exceeded the spend, or expired to another extent than in the trial.
            let rest = world.plans[division].balance - world.funds[division].balance;
            world.post_entry(division, start, Posting { change: rest, kind: "Adjustment", ..Posting::default() });
        }
        world.history = false;
        world
    }

    /// Simulates the history, with opening balances from which each fund reaches its balance at the start without an overdraft
    /// before. They are computed from a trial with the opening balance `guess`. A higher opening balance can leave more of a
    /// deposit unspent until it expires, so only a trial with ample money rules out an overdraft.
    fn with_history(scenario: &Scenario, start: Time, seed: u64, guess: Decimal) -> Self {
        let trial = Self::with_openings(scenario, start, seed, &vec![guess; scenario.funds()]);
        let missing = |fund: usize| (trial.plans[fund].balance - trial.funds[fund].balance).max(trial.overdraft(fund));
        let openings: Vec<Decimal> = (0..scenario.funds()).map(|fund| guess + missing(fund)).collect();
        Self::with_openings(scenario, start, seed, &openings)
    }

    /// Returns the highest amount by which a fund was below its credit limit, or below its balance at the start if that is lower;
    /// negative if it never was.
    fn overdraft(&self, fund: usize) -> Decimal {
        let plan = &self.plans[fund];
        let CreditLimit::Limit(limit) = plan.credit else { return Decimal::MIN };
        let shared = self.funds.len() < self.plans.len();
        let own = self.entries.iter().filter(|entry| shared || entry.division == plan.id);
        let lowest = own.map(|entry| entry.balance_after).min().unwrap_or_default();
        plan.balance.min(-limit) - lowest
    }

    /// Creates an account that shows these records at `at` and never changes.
    pub fn recorded(records: AccountRecords, at: Time) -> Self {
        let AccountRecords { divisions, shared_funds, entries, orders } = records;
        let funds = if shared_funds { divisions.len().min(1) } else { divisions.len() };
        let fund =
            |division: &RecordedDivision| SimulatedFund { balance: division.balance, ..SimulatedFund::default() };
        let funds = divisions.iter().take(funds).map(fund).collect();
        let plans = divisions.into_iter().map(RecordedDivision::without_plans).collect();
        Self { entries, orders, ..Self::without_events(plans, funds, at) }
    }

    fn with_openings(scenario: &Scenario, start: Time, seed: u64, openings: &[Decimal]) -> Self {
        let weeks = WEEK * u32::try_from(scenario.history.as_secs().div_ceil(WEEK.as_secs())).unwrap_or(u32::MAX);
        let deposits = scenario.divisions.iter().flat_map(|plan| &plan.deposits);
        let deposit_ages = deposits.filter_map(|deposit| match deposit.on {
            DepositTime::Ago(ago) => Some(ago),
            DepositTime::After(_) => None,
        });
        let history = deposit_ages.chain([weeks]).max().unwrap_or_default();
        let ledger_start = start - history - Duration::from_secs(1);
        let funds = (0..scenario.funds()).map(|_| SimulatedFund::default()).collect();
        let mut world = Self {
            now: ledger_start,
            random: generator(seed, 0),
            history: true,
            ..Self::without_events(scenario.divisions.clone(), funds, start)
        };
        for (division, opening) in openings.iter().enumerate() {
            let note = Some("Opening balance".to_owned());
            let posting = Posting { change: *opening, kind: "Credit", note, ..Posting::default() };
            world.post_entry(division, ledger_start, posting);
        }
        for (division, plan) in scenario.divisions.iter().enumerate() {
            world.plan_division(division, plan, start - weeks, seed);
        }
        world.run_until(start, false);
        world
    }

    /// Creates a world in which nothing happens.
    fn without_events(plans: Vec<DivisionPlan>, funds: Vec<SimulatedFund>, start: Time) -> Self {
        Self {
            plans,
            start,
            now: start,
            funds,
            entries: Vec::new(),
            orders: Vec::new(),
            past_orders: Vec::new(),
            streams: Vec::new(),
            domains: Vec::new(),
            random: generator(0, 0),
            queue: BinaryHeap::new(),
            planned: 0,
            history: false,
        }
    }

    /// Schedules the events of one division. Weekly events begin at `first_week`.
    fn plan_division(&mut self, division: usize, plan: &DivisionPlan, first_week: Time, seed: u64) {
        for orders in &plan.orders {
            let stream = self.streams.len();
            let (product, per_week) = (orders.product.clone(), orders.per_week);
            let random = generator(seed, stream as u64 + 1);
            self.streams.push(OrderStream { division, product, per_week, random });
            self.schedule(first_week, WorldEvent::Week { stream });
        }
        for added in &plan.added_domains {
            let domains = self.domains.len();
            let random = generator(seed, FIRST_DOMAIN_STREAM + domains as u64);
            self.domains.push(DomainStream { division, price: added.price, per_week: added.per_week, random });
            self.schedule(first_week, WorldEvent::DomainWeek { domains });
        }
        plan.renewals.iter().for_each(|renewals| self.add_past_orders(division, renewals));
        for (number, deposit) in plan.deposits.iter().enumerate() {
            let at = match deposit.on {
                DepositTime::Ago(ago) => self.start - ago,
                DepositTime::After(after) => self.start + after,
            };
            self.schedule(at, WorldEvent::Deposit { division, plan: number });
        }
        for (number, invoice) in plan.invoices.iter().enumerate() {
            self.schedule(self.start + invoice.on, WorldEvent::Invoice { division, plan: number });
        }
    }

    /// Simulates until `now`, for five years at most; ignores a time in the past.
    pub fn advance(&mut self, now: Time) {
        self.run_until(now.min(self.start + MAX_SIMULATED_TIME), true);
    }

    /// Changes a balance and adds the ledger entry, whose id it returns. No other function changes a balance.
    fn post_entry(&mut self, division: usize, at: Time, posting: Posting) -> Option<u64> {
        let Posting { change, kind, order, note, expires, from_lot } = posting;
        if change.is_zero() {
            return None;
        }
        let id = scrambled_id(self.entries.len() as u64);
        let fund = self.fund_mut(division);
        let debt = (-fund.balance).max(Decimal::ZERO);
        fund.balance += change;
        if change > debt {
            fund.lots.push_back(SimulatedLot { entry: id, left: change - debt });
        } else if change < Decimal::ZERO {
            fund.consume(-change, from_lot);
        }
        let balance_after = fund.balance;
        let division = self.plans[division].id;
        self.entries.push(SimulatedEntry { id, division, at, change, kind, order, note, expires, balance_after });
        Some(id)
    }

    fn fund_index(&self, division: usize) -> usize {
        if self.funds.len() == self.plans.len() { division } else { 0 }
    }

    fn fund(&self, division: usize) -> &SimulatedFund {
        &self.funds[self.fund_index(division)]
    }

    fn fund_mut(&mut self, division: usize) -> &mut SimulatedFund {
        let index = self.fund_index(division);
        &mut self.funds[index]
    }

    fn sheet_at(&self, division: usize) -> BalanceSheet {
        let (plan, fund, own) = (&self.plans[division], self.fund(division), self.fund_index(division));
        let others = self.plans.iter().zip(&self.funds).enumerate();
        let used = |(other, (other_plan, fund)): (usize, (&DivisionPlan, &SimulatedFund))| {
            (other != own && other_plan.currency == plan.currency).then(|| (-fund.balance).max(Decimal::ZERO))
        };
        BalanceSheet {
            currency: plan.currency,
            balance: fund.balance,
            unpaid_invoices: fund.unpaid,
            used_by_others: others.filter_map(used).sum(),
            credit: plan.credit,
        }
    }

    /// Returns the start of the scenario's first day.
    pub fn start(&self) -> Time {
        self.start
    }

    /// Iterates over the ids and names of the divisions.
    pub fn divisions(&self) -> impl ExactSizeIterator<Item = (u64, &str)> {
        self.plans.iter().map(|plan| (plan.id, plan.name.as_str()))
    }

    /// Returns the current figures of a division.
    pub fn sheet(&self, division: u64) -> Option<BalanceSheet> {
        let number = self.plans.iter().position(|plan| plan.id == division)?;
        Some(self.sheet_at(number))
    }

    /// Adds a deposit that does not expire. Ignores an unknown division.
    pub fn pay_in(&mut self, division: u64, amount: Decimal) {
        if let Some(number) = self.plans.iter().position(|plan| plan.id == division) {
            self.post_entry(number, self.now, Posting { change: amount, kind: DEPOSIT, ..Posting::default() });
        }
    }

    /// Returns how many orders, renewals and domains were refused because the funds of this division, which may be shared with
    /// others, were insufficient. A manual renewal is retried every day.
    pub fn refused(&self, division: u64) -> u64 {
        let number = self.plans.iter().position(|plan| plan.id == division);
        number.map_or(0, |number| self.fund(number).refused)
    }

    /// Returns the ledger so far, in the order of time.
    pub fn entries(&self) -> &[SimulatedEntry] {
        &self.entries
    }

    /// Returns every order so far except the past ones.
    pub fn orders(&self) -> &[SimulatedOrder] {
        &self.orders
    }

    /// Returns the orders whose renewal was placed before the ledger begins.
    pub fn past_orders(&self) -> &[SimulatedOrder] {
        &self.past_orders
    }
}

#[cfg(test)]
mod tests;
