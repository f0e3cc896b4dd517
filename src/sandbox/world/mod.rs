//! The simulated account's life: orders are placed and renewed, deposits come and expire, invoices fall due and get paid.
//!
//! Pure but for its seeded chance: the same scenario, start and seed live the same life, however it is asked. Every change
//! of a balance is an entry of the ledger, so balance, history and orders agree at every moment. It knows no HTTP.

mod fund;
mod records;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;

use self::fund::{SimulatedFund, SimulatedLot};
pub use self::records::{
    AccountRecords, BalanceSheet, CertificateIssuance, RecordedDivision, SimulatedEntry, SimulatedOrder,
};
use super::scenario::{CreditLimit, DepositTime, DivisionPlan, InvoicePlan, ProductPlan, RenewalPlan, Scenario};
use crate::domain::Time;

const DAY: Duration = Duration::from_secs(24 * 3600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long before its end an order that was bought in the simulated time is renewed.
const DEFAULT_RENEWAL_LEAD: Duration = Duration::from_secs(14 * 24 * 3600);
/// How long before its end an order is renewed automatically.
const AUTO_RENEWAL_LEAD: Duration = Duration::from_secs(30 * 24 * 3600);
/// Nothing happens any more so long after the start: a sandbox that is left running must not grow for ever.
const MAX_SIMULATED_TIME: Duration = Duration::from_secs(5 * 366 * 24 * 3600);
/// The chance of added domains has streams of its own, so that it changes nobody else's.
const FIRST_DOMAIN_STREAM: u64 = 1 << 32;
/// The id of the first past order.
const FIRST_PAST_ORDER_ID: u64 = 105_000_001;
/// Past orders are listed as far back as `lowtide` looks: those that ended in the 400 days before the start. Each site has
/// one at least.
const PAST_ORDERS_WINDOW: Duration = Duration::from_secs(400 * 24 * 3600);
/// More than any account spends.
const AMPLE_OPENING: Decimal = Decimal::from_parts(0, 0, 10_000, false, 0);
/// The transaction type of a deposit.
const DEPOSIT: &str = "Credit Card Deposit";
/// A working day, from the hour of the scenario's start on.
const WORKING_DAY_SECONDS: u64 = 9 * 3600;

/// The account.
#[derive(Debug)]
pub struct SimulatedWorld {
    plans: Vec<DivisionPlan>,
    start: Time,
    now: Time,
    /// One for each division, or a single one that all of them share.
    funds: Vec<SimulatedFund>,
    entries: Vec<SimulatedEntry>,
    orders: Vec<SimulatedOrder>,
    /// Orders whose renewal was placed before the ledger begins.
    past_orders: Vec<SimulatedOrder>,
    streams: Vec<OrderStream>,
    domains: Vec<DomainStream>,
    chance: ChaCha8Rng,
    queue: BinaryHeap<Reverse<(Time, u64, WorldEvent)>>,
    planned: u64,
    /// Before the scenario's start nothing is refused for want of funds.
    history: bool,
}

/// An entry to be made.
#[derive(Default)]
struct Posting {
    change: Decimal,
    kind: &'static str,
    order: Option<u64>,
    note: Option<String>,
    expires: Option<Time>,
    /// A debit takes from this deposit alone, not from the oldest first.
    from_lot: Option<u64>,
}

#[derive(Debug)]
struct OrderStream {
    division: usize,
    product: ProductPlan,
    per_week: Decimal,
    chance: ChaCha8Rng,
}

#[derive(Debug)]
struct DomainStream {
    division: usize,
    price: Decimal,
    per_week: Decimal,
    chance: ChaCha8Rng,
}

/// What is going to happen; numbers are places in the lists of the world and its plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum WorldEvent {
    Week { stream: usize },
    Place { stream: usize },
    DomainWeek { domains: usize },
    AddDomain { domains: usize },
    AutoRenew { order: usize, early: Duration },
    Renew { order: usize, early: Duration },
    Deposit { division: usize, plan: usize },
    Expire { division: usize, entry: u64 },
    Invoice { division: usize, plan: usize },
    Paid { division: usize, plan: usize },
    Due { division: usize, plan: usize },
}

impl SimulatedWorld {
    /// The life of `scenario` whose day 0 begins at `start`. It has its history already.
    pub fn new(scenario: &Scenario, start: Time, seed: u64) -> Self {
        let mut world = Self::with_history(scenario, start, seed, Decimal::ZERO);
        if (0..scenario.funds()).any(|fund| world.overdraft(fund) > Decimal::ZERO) {
            world = Self::with_history(scenario, start, seed, AMPLE_OPENING);
        }
        for division in 0..scenario.funds() {
            // Past deposits brought more than was spent, or more or less of them expired than in the trial.
            let rest = world.plans[division].balance - world.funds[division].balance;
            world.post_entry(division, start, Posting { change: rest, kind: "Adjustment", ..Posting::default() });
        }
        world.history = false;
        world
    }

    /// The history, with openings from which each fund comes to its balance at the start and is never overdrawn before. They
    /// are computed from a trial with the opening `guess`. A larger opening can leave more of a deposit unspent until it
    /// expires, so only a trial with plenty of money rules out an overdraft; one without money shows what accounts do.
    fn with_history(scenario: &Scenario, start: Time, seed: u64, guess: Decimal) -> Self {
        let trial = Self::with_openings(scenario, start, seed, &vec![guess; scenario.funds()]);
        let missing = |fund: usize| (trial.plans[fund].balance - trial.funds[fund].balance).max(trial.overdraft(fund));
        let openings: Vec<Decimal> = (0..scenario.funds()).map(|fund| guess + missing(fund)).collect();
        Self::with_openings(scenario, start, seed, &openings)
    }

    /// How far a fund was below its credit limit, or below its balance at the start where that is lower; negative if it never
    /// was.
    fn overdraft(&self, fund: usize) -> Decimal {
        let plan = &self.plans[fund];
        let CreditLimit::Limit(limit) = plan.credit else { return Decimal::MIN };
        let shared = self.funds.len() < self.plans.len();
        let its = self.entries.iter().filter(|entry| shared || entry.division == plan.id);
        let lowest = its.map(|entry| entry.balance_after).min().unwrap_or_default();
        plan.balance.min(-limit) - lowest
    }

    /// An account that shows these records at `at`. Nothing happens to it.
    pub fn recorded(records: AccountRecords, at: Time) -> Self {
        let AccountRecords { divisions, shared_funds, entries, orders } = records;
        let funds = if shared_funds { divisions.len().min(1) } else { divisions.len() };
        let fund =
            |division: &RecordedDivision| SimulatedFund { balance: division.balance, ..SimulatedFund::default() };
        Self {
            funds: divisions.iter().take(funds).map(fund).collect(),
            plans: divisions.into_iter().map(RecordedDivision::without_plans).collect(),
            start: at,
            now: at,
            entries,
            orders,
            past_orders: Vec::new(),
            streams: Vec::new(),
            domains: Vec::new(),
            chance: chance(0, 0),
            queue: BinaryHeap::new(),
            planned: 0,
            history: false,
        }
    }

    fn with_openings(scenario: &Scenario, start: Time, seed: u64, openings: &[Decimal]) -> Self {
        let weeks = scenario.history.as_secs().div_ceil(WEEK.as_secs());
        let deposit_ages =
            scenario.divisions.iter().flat_map(|plan| &plan.deposits).filter_map(|deposit| match deposit.on {
                DepositTime::Ago(ago) => Some(ago),
                DepositTime::After(_) => None,
            });
        let history = deposit_ages.chain([WEEK * u32::try_from(weeks).unwrap_or(u32::MAX)]).max().unwrap_or_default();
        let ledger_start = start - history - Duration::from_secs(1);
        let first_week = start - WEEK * u32::try_from(weeks).unwrap_or(u32::MAX);
        let mut world = Self {
            plans: scenario.divisions.clone(),
            start,
            now: ledger_start,
            funds: (0..scenario.funds()).map(|_| SimulatedFund::default()).collect(),
            entries: Vec::new(),
            orders: Vec::new(),
            past_orders: Vec::new(),
            streams: Vec::new(),
            domains: Vec::new(),
            chance: chance(seed, 0),
            queue: BinaryHeap::new(),
            planned: 0,
            history: true,
        };
        for (division, opening) in openings.iter().enumerate() {
            let note = Some("Opening balance".to_owned());
            world.post_entry(
                division,
                ledger_start,
                Posting { change: *opening, kind: "Credit", note, ..Posting::default() },
            );
        }
        for (division, plan) in scenario.divisions.iter().enumerate() {
            for orders in &plan.orders {
                let number = world.streams.len();
                let (product, per_week) = (orders.product.clone(), orders.per_week);
                let chance = chance(seed, number as u64 + 1);
                world.streams.push(OrderStream { division, product, per_week, chance });
                world.schedule(first_week, WorldEvent::Week { stream: number });
            }
            for added in &plan.added_domains {
                let number = world.domains.len();
                let chance = chance(seed, FIRST_DOMAIN_STREAM + number as u64);
                world.domains.push(DomainStream { division, price: added.price, per_week: added.per_week, chance });
                world.schedule(first_week, WorldEvent::DomainWeek { domains: number });
            }
            plan.renewals.iter().for_each(|renewals| world.add_past_orders(division, renewals));
            for (number, deposit) in plan.deposits.iter().enumerate() {
                let at = match deposit.on {
                    DepositTime::Ago(ago) => start - ago,
                    DepositTime::After(after) => start + after,
                };
                world.schedule(at, WorldEvent::Deposit { division, plan: number });
            }
            for (number, invoice) in plan.invoices.iter().enumerate() {
                world.schedule(start + invoice.on, WorldEvent::Invoice { division, plan: number });
            }
        }
        world.run_until(start, false);
        world
    }

    /// Places the orders of `schedule`, with their ends spread evenly and a little by chance.
    fn add_past_orders(&mut self, division: usize, plan: &RenewalPlan) {
        let span = plan.to.saturating_sub(plan.from).as_secs();
        for number in 0..plan.count {
            let evenly = span * u64::from(number) / u64::from(plan.count);
            let offset = evenly + self.chance.random_range(0..=span / u64::from(plan.count));
            self.add_past_order(division, plan, self.start + plan.from + Duration::from_secs(offset));
        }
    }

    /// Places the last order of a site from before the ledger, and adds those that came before it, so that one order of the
    /// site ends at `ends`. Orders placed since the ledger began are renewals of this one, and paid like any other.
    fn add_past_order(&mut self, division: usize, plan: &RenewalPlan, mut ends: Time) {
        let (lasts, lead) = (plan.product.duration(), lead(&plan.product, plan.early));
        let placed = |ends: Time| ends - lasts - lead;
        while placed(ends) >= self.now {
            ends -= lasts;
        }
        while placed(ends + lasts) < self.now {
            ends += lasts;
        }
        let order = self.add_order(division, &plan.product, placed(ends), ends);
        self.plan_renewal(order, plan.early);
        loop {
            ends -= lasts;
            let id = FIRST_PAST_ORDER_ID + self.past_orders.len() as u64;
            let past = SimulatedOrder { id, placed: placed(ends), ends, renewed: true, ..self.orders[order].clone() };
            self.past_orders.push(past);
            if ends - lasts < self.start - PAST_ORDERS_WINDOW {
                break;
            }
        }
    }

    /// Lives until `now`, for five years at most; a time in the past changes nothing.
    pub fn advance(&mut self, now: Time) {
        self.run_until(now.min(self.start + MAX_SIMULATED_TIME), true);
    }

    /// Everything until `until`; what happens exactly then only if `inclusive`.
    fn run_until(&mut self, until: Time, inclusive: bool) {
        while let Some(Reverse((at, _, _))) = self.queue.peek()
            && (*at < until || (inclusive && *at == until))
        {
            let Some(Reverse((at, _, event))) = self.queue.pop() else { break };
            self.now = self.now.max(at);
            self.apply_event(at, event);
        }
        self.now = self.now.max(until);
    }

    fn schedule(&mut self, at: Time, event: WorldEvent) {
        self.planned += 1;
        self.queue.push(Reverse((at, self.planned, event)));
    }

    fn apply_event(&mut self, at: Time, event: WorldEvent) {
        match event {
            WorldEvent::Week { stream } => {
                let OrderStream { per_week, chance, .. } = &mut self.streams[stream];
                for moment in moments_of_week(*per_week, chance) {
                    self.schedule(at + moment, WorldEvent::Place { stream });
                }
                self.schedule(at + WEEK, WorldEvent::Week { stream });
            }
            WorldEvent::DomainWeek { domains } => {
                let DomainStream { per_week, chance, .. } = &mut self.domains[domains];
                for moment in moments_of_week(*per_week, chance) {
                    self.schedule(at + moment, WorldEvent::AddDomain { domains });
                }
                self.schedule(at + WEEK, WorldEvent::DomainWeek { domains });
            }
            WorldEvent::AddDomain { domains } => self.add_domain(at, domains),
            // It is submitted once, and fails where funds do not suffice.
            WorldEvent::AutoRenew { order, early } => drop(self.renew(at, order, early)),
            WorldEvent::Place { stream } => {
                let (division, product) = (self.streams[stream].division, self.streams[stream].product.clone());
                // A new order that cannot be paid is not taken.
                if self.affordable(division, product.price) {
                    let ends = at + product.duration();
                    let order = self.buy(division, &product, at, ends, "Order");
                    self.plan_renewal(order, DEFAULT_RENEWAL_LEAD);
                }
            }
            // By hand, and again every day until the order ends.
            WorldEvent::Renew { order, early } => {
                if !self.renew(at, order, early) && at + DAY < self.orders[order].ends {
                    self.schedule(at + DAY, WorldEvent::Renew { order, early });
                }
            }
            WorldEvent::Deposit { division, plan } => self.deposit(at, division, plan),
            WorldEvent::Expire { division, entry } => {
                let left = self.fund(division).lots.iter().find(|lot| lot.entry == entry).map(|lot| lot.left);
                if let Some(left) = left {
                    let (change, note) = (-left, Some(format!("Unused part of deposit {entry}")));
                    let from_lot = Some(entry);
                    let kind = "Expired Deposit";
                    self.post_entry(division, at, Posting { change, kind, note, from_lot, ..Posting::default() });
                }
            }
            WorldEvent::Invoice { division, plan } => {
                let InvoicePlan { amount, due_after, paid_after, .. } = self.plans[division].invoices[plan];
                self.fund_mut(division).unpaid += amount;
                match paid_after.filter(|paid| *paid <= due_after) {
                    Some(paid) => self.schedule(at + paid, WorldEvent::Paid { division, plan }),
                    None => self.schedule(at + due_after, WorldEvent::Due { division, plan }),
                }
            }
            WorldEvent::Paid { division, plan } => {
                let amount = self.plans[division].invoices[plan].amount;
                self.fund_mut(division).unpaid -= amount;
            }
            WorldEvent::Due { division, plan } => {
                let amount = self.plans[division].invoices[plan].amount;
                self.fund_mut(division).unpaid -= amount;
                let note = Some("Overdue invoice, taken from the balance".to_owned());
                let kind = "Invoice Payment";
                self.post_entry(division, at, Posting { change: -amount, kind, note, ..Posting::default() });
            }
        }
    }

    fn deposit(&mut self, at: Time, division: usize, plan: usize) {
        let deposit = self.plans[division].deposits[plan].clone();
        let expires = deposit.expires_after.map(|after| at + after);
        let (change, kind) = (deposit.amount, DEPOSIT);
        let entry = self.post_entry(division, at, Posting { change, kind, expires, ..Posting::default() });
        if let (Some(entry), Some(expires)) = (entry, expires) {
            self.schedule(expires, WorldEvent::Expire { division, entry });
        }
        if let Some(every) = deposit.every {
            self.schedule(at + every, WorldEvent::Deposit { division, plan });
        }
    }

    /// Whether the order is renewed now. Its renewal will be renewed `early` itself.
    fn renew(&mut self, at: Time, order: usize, early: Duration) -> bool {
        let old = &self.orders[order];
        let Some(division) = self.plans.iter().position(|plan| plan.id == old.division) else { return false };
        if old.renewed {
            return true;
        }
        let product =
            ProductPlan { name: old.product.clone(), price: old.price, years: old.years, auto_renew: old.auto_renew };
        // A renewal lasts as long as any order from the end of the one whose place it takes.
        let (site, ends) = (old.common_name.clone(), old.ends.max(at) + product.duration());
        let affordable = self.affordable(division, product.price);
        if affordable {
            self.orders[order].renewed = true;
            let renewal = self.buy(division, &product, at, ends, "Renewal");
            self.orders[renewal].common_name = site;
            self.plan_renewal(renewal, early);
        }
        affordable
    }

    /// Adds a domain to one of the running orders: it is charged for the days that are left of it.
    fn add_domain(&mut self, at: Time, domains: usize) {
        let DomainStream { division, price, chance, .. } = &mut self.domains[domains];
        let (division, price, id) = (*division, *price, self.plans[*division].id);
        let running = |order: &&SimulatedOrder| order.division == id && order.issued(at) && !order.expired(at);
        let orders: Vec<&SimulatedOrder> = self.orders.iter().filter(running).collect();
        if orders.is_empty() {
            return;
        }
        let order = orders[chance.random_range(0..orders.len())];
        let days = Decimal::from((order.ends - at).num_days().max(1));
        let (amount, paid) = ((price * days / Decimal::from(365)).round_dp(2), Some(order.id));
        let note = Some(format!("Additional domain for {}", order.product));
        if self.affordable(division, amount) {
            let (change, kind) = (-amount, "Charge");
            self.post_entry(division, at, Posting { change, kind, order: paid, note, ..Posting::default() });
        }
    }

    /// Adds an order and pays it: an `SimulatedOrder` or a `Renewal`.
    fn buy(&mut self, division: usize, product: &ProductPlan, at: Time, ends: Time, what: &str) -> usize {
        let order = self.add_order(division, product, at, ends);
        let (paid, note) = (Some(self.orders[order].id), Some(format!("{what} of {}", product.name)));
        let (change, kind) = (-product.price, "Charge");
        self.post_entry(division, at, Posting { change, kind, order: paid, note, ..Posting::default() });
        order
    }

    fn add_order(&mut self, division: usize, product: &ProductPlan, placed: Time, ends: Time) -> usize {
        let number = self.orders.len();
        let site = ["www", "shop", "api", "mail", "login", "intranet", "cdn", "status"][number % 8];
        self.orders.push(SimulatedOrder {
            id: 107_000_001 + number as u64,
            division: self.plans[division].id,
            product: product.name.clone(),
            price: product.price,
            years: product.years,
            common_name: format!("{site}-{number}.example.com"),
            placed,
            ends,
            renewed: false,
            auto_renew: product.auto_renew,
            issuance: CertificateIssuance::default(),
        });
        number
    }

    fn plan_renewal(&mut self, order: usize, early: Duration) {
        let ends = self.orders[order].ends;
        if self.orders[order].auto_renew && ends - AUTO_RENEWAL_LEAD >= self.now {
            self.schedule(ends - AUTO_RENEWAL_LEAD, WorldEvent::AutoRenew { order, early });
        }
        self.schedule((ends - early).max(self.now), WorldEvent::Renew { order, early });
    }

    /// Whether the funds suffice; where they do not, the refusal is counted.
    fn affordable(&mut self, division: usize, price: Decimal) -> bool {
        let affordable = self.history || self.sheet_at(division).available().is_none_or(|available| available >= price);
        self.fund_mut(division).refused += u64::from(!affordable);
        affordable
    }

    /// The one place where a balance changes: with its entry, whose id it returns.
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
        let place = self.fund_index(division);
        &mut self.funds[place]
    }

    fn sheet_at(&self, division: usize) -> BalanceSheet {
        let (plan, fund, own) = (&self.plans[division], self.fund(division), self.fund_index(division));
        let others = self.plans.iter().zip(&self.funds).enumerate();
        let used = |(other, (its, fund)): (usize, (&DivisionPlan, &SimulatedFund))| {
            (other != own && its.currency == plan.currency).then(|| (-fund.balance).max(Decimal::ZERO))
        };
        BalanceSheet {
            currency: plan.currency,
            balance: fund.balance,
            unpaid_invoices: fund.unpaid,
            used_by_others: others.filter_map(used).sum(),
            credit: plan.credit,
        }
    }

    /// When its day 0 began.
    pub fn start(&self) -> Time {
        self.start
    }

    /// Id and name of the divisions.
    pub fn divisions(&self) -> impl ExactSizeIterator<Item = (u64, &str)> {
        self.plans.iter().map(|plan| (plan.id, plan.name.as_str()))
    }

    /// What a division holds now.
    pub fn sheet(&self, division: u64) -> Option<BalanceSheet> {
        let number = self.plans.iter().position(|plan| plan.id == division)?;
        Some(self.sheet_at(number))
    }

    /// Pays so much into a division now, as a deposit that does not expire. A division that does not exist gets nothing.
    pub fn pay_in(&mut self, division: u64, amount: Decimal) {
        if let Some(number) = self.plans.iter().position(|plan| plan.id == division) {
            self.post_entry(number, self.now, Posting { change: amount, kind: DEPOSIT, ..Posting::default() });
        }
    }

    /// How often an order, a renewal or a domain was refused because the funds of this division, which it may share with
    /// others, did not suffice. A renewal by hand is tried every day.
    pub fn refused(&self, division: u64) -> u64 {
        let number = self.plans.iter().position(|plan| plan.id == division);
        number.map_or(0, |number| self.fund(number).refused)
    }

    /// The ledger so far, in the order of time.
    pub fn entries(&self) -> &[SimulatedEntry] {
        &self.entries
    }

    /// Every order so far but the past ones.
    pub fn orders(&self) -> &[SimulatedOrder] {
        &self.orders
    }

    /// Orders whose renewal was placed before the ledger begins.
    pub fn past_orders(&self) -> &[SimulatedOrder] {
        &self.past_orders
    }
}

fn chance(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    chance.set_stream(stream);
    chance
}

/// How long before its end an order is renewed.
fn lead(product: &ProductPlan, early: Duration) -> Duration {
    if product.auto_renew { early.max(AUTO_RENEWAL_LEAD) } else { early }
}

/// As many moments of a week as `per_week` says; its fraction is the chance of one more.
fn moments_of_week(per_week: Decimal, chance: &mut ChaCha8Rng) -> Vec<Duration> {
    let (whole, fraction) = (per_week.to_u32().unwrap_or_default(), per_week.fract());
    let one_more = !fraction.is_zero() && Decimal::new(chance.random_range(0..100), 2) < fraction;
    (0..whole + u32::from(one_more)).map(|_| in_working_hours(chance)).collect()
}

/// A moment of a week, from its beginning.
fn in_working_hours(chance: &mut ChaCha8Rng) -> Duration {
    let (day, second) = (chance.random_range(0..5), chance.random_range(0..WORKING_DAY_SECONDS));
    DAY * day + Duration::from_secs(second)
}

/// Another number for each, in no order.
fn scrambled_id(number: u64) -> u64 {
    // 48271 generates every residue of this prime.
    10_000_000 + (number + 1) * 48_271 % 2_147_483_647
}

#[cfg(test)]
mod tests;
