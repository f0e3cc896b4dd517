//! Scheduled events of the simulation.

use std::cmp::Reverse;
use std::time::Duration;

use rust_decimal::Decimal;

use super::random::moments_of_week;
use super::{DAY, DEFAULT_RENEWAL_LEAD, DEPOSIT, Posting, SimulatedWorld, WEEK};
use crate::domain::Time;
use crate::sandbox::scenario::InvoicePlan;

/// A scheduled event. Numbers are indices into the lists of the world and its plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WorldEvent {
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
    /// Applies the events before `until`, and those exactly at it if `inclusive`.
    pub(super) fn run_until(&mut self, until: Time, inclusive: bool) {
        while let Some(Reverse((at, _, _))) = self.queue.peek()
            && (*at < until || (inclusive && *at == until))
        {
            let Some(Reverse((at, _, event))) = self.queue.pop() else { break };
            self.now = self.now.max(at);
            self.apply_event(at, event);
        }
        self.now = self.now.max(until);
    }

    pub(super) fn schedule(&mut self, at: Time, event: WorldEvent) {
        self.planned += 1;
        self.queue.push(Reverse((at, self.planned, event)));
    }

    fn apply_event(&mut self, at: Time, event: WorldEvent) {
        match event {
            WorldEvent::Week { stream } => self.plan_week_of_orders(at, stream),
            WorldEvent::Place { stream } => self.place_order(at, stream),
            WorldEvent::DomainWeek { domains } => self.plan_week_of_domains(at, domains),
            WorldEvent::AddDomain { domains } => self.add_domain(at, domains),
            // Automatic renewal is attempted once, and fails if funds are insufficient.
            WorldEvent::AutoRenew { order, early } => drop(self.renew(at, order, early)),
            // Manual renewal is retried every day until the order ends.
            WorldEvent::Renew { order, early } => {
                if !self.renew(at, order, early) && at + DAY < self.orders[order].ends {
                    self.schedule(at + DAY, WorldEvent::Renew { order, early });
                }
            }
            WorldEvent::Deposit { division, plan } => self.deposit(at, division, plan),
            WorldEvent::Expire { division, entry } => self.expire(at, division, entry),
            WorldEvent::Invoice { division, plan } => self.receive_invoice(at, division, plan),
            WorldEvent::Paid { division, plan } => {
                self.settle_invoice(division, plan);
            }
            WorldEvent::Due { division, plan } => self.charge_overdue_invoice(at, division, plan),
        }
    }

    fn plan_week_of_orders(&mut self, at: Time, stream: usize) {
        let orders = &mut self.streams[stream];
        for moment in moments_of_week(orders.per_week, &mut orders.random) {
            self.schedule(at + moment, WorldEvent::Place { stream });
        }
        self.schedule(at + WEEK, WorldEvent::Week { stream });
    }

    fn plan_week_of_domains(&mut self, at: Time, domains: usize) {
        let stream = &mut self.domains[domains];
        for moment in moments_of_week(stream.per_week, &mut stream.random) {
            self.schedule(at + moment, WorldEvent::AddDomain { domains });
        }
        self.schedule(at + WEEK, WorldEvent::DomainWeek { domains });
    }

    /// Places a new order, unless it cannot be paid.
    fn place_order(&mut self, at: Time, stream: usize) {
        let (division, product) = (self.streams[stream].division, self.streams[stream].product.clone());
        if self.can_afford(division, product.price) {
            let ends = at + product.duration();
            let order = self.buy(division, &product, at, ends, "Order");
            self.plan_renewal(order, DEFAULT_RENEWAL_LEAD);
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

    /// Takes the unspent part of an expired deposit from the balance.
    fn expire(&mut self, at: Time, division: usize, entry: u64) {
        let Some(lot) = self.fund(division).lots.iter().find(|lot| lot.entry == entry) else { return };
        let (change, kind, from_lot) = (-lot.left, "Expired Deposit", Some(entry));
        let note = Some(format!("Unused part of deposit {entry}"));
        self.post_entry(division, at, Posting { change, kind, note, from_lot, ..Posting::default() });
    }

    fn receive_invoice(&mut self, at: Time, division: usize, plan: usize) {
        let InvoicePlan { amount, due_after, paid_after, .. } = self.plans[division].invoices[plan];
        self.fund_mut(division).unpaid += amount;
        match paid_after.filter(|paid| *paid <= due_after) {
            Some(paid) => self.schedule(at + paid, WorldEvent::Paid { division, plan }),
            None => self.schedule(at + due_after, WorldEvent::Due { division, plan }),
        }
    }

    /// Removes a paid invoice from the unpaid ones, and returns its amount.
    fn settle_invoice(&mut self, division: usize, plan: usize) -> Decimal {
        let amount = self.plans[division].invoices[plan].amount;
        self.fund_mut(division).unpaid -= amount;
        amount
    }

    fn charge_overdue_invoice(&mut self, at: Time, division: usize, plan: usize) {
        let (change, kind) = (-self.settle_invoice(division, plan), "Invoice Payment");
        let note = Some("Overdue invoice, taken from the balance".to_owned());
        self.post_entry(division, at, Posting { change, kind, note, ..Posting::default() });
    }
}
