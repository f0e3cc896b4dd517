//! Orders of the simulation: placing, renewing and paying them.

use std::time::Duration;

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use rust_decimal::Decimal;

use super::events::WorldEvent;
use super::{CertificateIssuance, Posting, SimulatedOrder, SimulatedWorld};
use crate::domain::Time;
use crate::sandbox::scenario::{ProductPlan, RenewalPlan};

/// Time between an automatic renewal and the end of the order.
const AUTO_RENEWAL_LEAD: Duration = Duration::from_secs(30 * 24 * 3600);
/// Id of the first past order.
const FIRST_PAST_ORDER_ID: u64 = 105_000_001;
/// Time before the start within which ended orders are listed, the same that `lowtide` looks at. Each site has at least one past
/// order.
const PAST_ORDERS_WINDOW: Duration = Duration::from_secs(400 * 24 * 3600);

/// Orders of one product that are placed every week.
#[derive(Debug)]
pub(super) struct OrderStream {
    pub(super) division: usize,
    pub(super) product: ProductPlan,
    pub(super) per_week: Decimal,
    pub(super) random: ChaCha8Rng,
}

/// Domains that are added to running orders every week.
#[derive(Debug)]
pub(super) struct DomainStream {
    pub(super) division: usize,
    pub(super) price: Decimal,
    pub(super) per_week: Decimal,
    pub(super) random: ChaCha8Rng,
}

impl SimulatedWorld {
    /// Adds the past orders of a renewal plan. Their ends are spread evenly, with a random offset.
    pub(super) fn add_past_orders(&mut self, division: usize, plan: &RenewalPlan) {
        let span = plan.to.saturating_sub(plan.from).as_secs();
        for number in 0..plan.count {
            let evenly = span * u64::from(number) / u64::from(plan.count);
            let offset = evenly + self.random.random_range(0..=span / u64::from(plan.count));
            self.add_past_order(division, plan, self.start + plan.from + Duration::from_secs(offset));
        }
    }

    /// Adds the last order of a site from before the ledger, and its predecessors, so that one order of the site ends at `ends`.
    /// Orders placed since the ledger began are renewals of it, and are paid like any other order.
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

    /// Renews an order, and plans the renewal of the new order with the lead `early`. Returns `false` if funds are insufficient.
    pub(super) fn renew(&mut self, at: Time, order: usize, early: Duration) -> bool {
        let old = &self.orders[order];
        let Some(division) = self.plans.iter().position(|plan| plan.id == old.division) else { return false };
        if old.renewed {
            return true;
        }
        let product =
            ProductPlan { name: old.product.clone(), price: old.price, years: old.years, auto_renew: old.auto_renew };
        // A renewal adds the full duration to the end of the order that it replaces.
        let (site, ends) = (old.common_name.clone(), old.ends.max(at) + product.duration());
        let can_afford = self.can_afford(division, product.price);
        if can_afford {
            self.orders[order].renewed = true;
            let renewal = self.buy(division, &product, at, ends, "Renewal");
            self.orders[renewal].common_name = site;
            self.plan_renewal(renewal, early);
        }
        can_afford
    }

    /// Adds a domain to a random running order, at a price for the remaining days of that order.
    pub(super) fn add_domain(&mut self, at: Time, domains: usize) {
        let DomainStream { division, price, random, .. } = &mut self.domains[domains];
        let (division, price, id) = (*division, *price, self.plans[*division].id);
        let running = |order: &&SimulatedOrder| order.division == id && order.issued(at) && !order.expired(at);
        let orders: Vec<&SimulatedOrder> = self.orders.iter().filter(running).collect();
        if orders.is_empty() {
            return;
        }
        let order = orders[random.random_range(0..orders.len())];
        let days = Decimal::from((order.ends - at).num_days().max(1));
        let (amount, paid) = ((price * days / Decimal::from(365)).round_dp(2), Some(order.id));
        let note = Some(format!("Additional domain for {}", order.product));
        if self.can_afford(division, amount) {
            let (change, kind) = (-amount, "Charge");
            self.post_entry(division, at, Posting { change, kind, order: paid, note, ..Posting::default() });
        }
    }

    /// Adds an order and its debit. `kind` begins the note of the debit: `Order` or `Renewal`.
    pub(super) fn buy(&mut self, division: usize, product: &ProductPlan, at: Time, ends: Time, kind: &str) -> usize {
        let order = self.add_order(division, product, at, ends);
        let (paid, note) = (Some(self.orders[order].id), Some(format!("{kind} of {}", product.name)));
        let posting = Posting { change: -product.price, kind: "Charge", order: paid, note, ..Posting::default() };
        self.post_entry(division, at, posting);
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

    pub(super) fn plan_renewal(&mut self, order: usize, early: Duration) {
        let ends = self.orders[order].ends;
        if self.orders[order].auto_renew && ends - AUTO_RENEWAL_LEAD >= self.now {
            self.schedule(ends - AUTO_RENEWAL_LEAD, WorldEvent::AutoRenew { order, early });
        }
        self.schedule((ends - early).max(self.now), WorldEvent::Renew { order, early });
    }

    /// Returns `true` if the funds are sufficient; otherwise counts a refusal.
    pub(super) fn can_afford(&mut self, division: usize, price: Decimal) -> bool {
        let can_afford = self.history || self.sheet_at(division).available().is_none_or(|available| available >= price);
        self.fund_mut(division).refused += u64::from(!can_afford);
        can_afford
    }
}

/// Returns the time between a renewal and the end of the order.
fn lead(product: &ProductPlan, early: Duration) -> Duration {
    if product.auto_renew { early.max(AUTO_RENEWAL_LEAD) } else { early }
}
