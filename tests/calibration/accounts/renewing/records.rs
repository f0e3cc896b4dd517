//! Conversion of a simulated account to the records that the API shows, and its future spend.

use lowtide::domain::Time;
use lowtide::sandbox::world::{SimulatedEntry, SimulatedOrder};
use rust_decimal::Decimal;

use super::super::{
    AFTER, AccountKind, FIRST_DIVISION, GeneratedAccount, days, now, scrambled_id, sorted_by_time, truncated,
};
use super::calendar::YEAR;
use super::traits::PRODUCTS;
use super::{PlacedOrder, RenewingAccount};

/// Days that the ledger covers.
const LEDGER_DAYS: i64 = 400;

impl RenewingAccount {
    pub(super) fn generated(mut self) -> GeneratedAccount {
        self.lines.sort_by_key(|line| line.at);
        let days_of_life = usize::try_from(-self.traits.begins).unwrap();
        let (mut past, mut future) = (vec![0; days_of_life.min(usize::try_from(YEAR).unwrap())], vec![0; AFTER]);
        for line in &self.lines {
            let (days, day) = match usize::try_from(line.day) {
                Ok(day) => (&mut future, Some(day)),
                Err(_) => (&mut past, usize::try_from(line.day + YEAR.min(-self.traits.begins)).ok()),
            };
            if let Some(spent) = day.and_then(|day| days.get_mut(day)) {
                *spent -= line.change;
            }
        }
        let daily_spend = past.iter().sum::<i64>() / i64::try_from(past.len()).unwrap();
        let prices = self.purchases().collect();
        let mut account = GeneratedAccount {
            entries: Vec::new(),
            orders: self.orders.iter().filter_map(|order| self.listed(order)).collect(),
            divisions: self.traits.divisions,
            is_young: self.traits.begins > -LEDGER_DAYS,
            future,
            past,
            daily_spend,
            prices,
        };
        account.entries = self.entries(account.available(15), daily_spend);
        account
    }

    fn listed(&self, order: &PlacedOrder) -> Option<SimulatedOrder> {
        let site = &self.sites[order.site];
        let is_known = order.day < 0 && order.canceled.is_none_or(|day| day >= 0);
        is_known.then(|| SimulatedOrder {
            id: order.id,
            division: site.division,
            product: PRODUCTS[order.product].0.to_owned(),
            price: Decimal::new(order.price, 2),
            years: u32::try_from(site.term.years()).unwrap(),
            common_name: site.name.clone(),
            placed: order.at,
            ends: now() + days(order.ends),
            renewed: order.renewed.is_some_and(|day| day < 0),
            auto_renew: self.traits.kind == AccountKind::RenewalsByAutomation,
            issuance: order.issuance,
        })
    }

    /// Returns the ledger, with deposits that kept the funds at `least` or above.
    fn entries(&self, least: i64, daily_spend: i64) -> Vec<SimulatedEntry> {
        #[allow(clippy::cast_precision_loss)]
        let deposit =
            i64::try_from(truncated((daily_spend as f64 * self.traits.deposit / 50_000.0).max(2.0)) * 50_000).unwrap();
        let mut entries = Vec::new();
        let mut put = |at: Time, change: i64, kind: &'static str, order: Option<u64>, division: u64| {
            let (id, change) = (scrambled_id(entries.len()), Decimal::new(change, 2));
            let (note, expires, balance_after) = (None, None, Decimal::ZERO);
            entries.push(SimulatedEntry { id, division, at, change, kind, order, note, expires, balance_after });
        };
        let mut funds = least;
        let known = self.lines.iter().rev().filter(|line| line.day < 0 && line.day >= -LEDGER_DAYS - 10);
        for line in known {
            put(line.at, line.change, line.kind, line.order, line.division);
            funds -= line.change;
            if funds >= least + deposit {
                let at = line.at - chrono::Duration::minutes(37);
                put(at, deposit, "Credit Card Deposit", None, FIRST_DIVISION);
                funds -= deposit;
            }
        }
        if self.traits.begins > -LEDGER_DAYS {
            put(now() + days(self.traits.begins), funds.max(100), "Credit", None, FIRST_DIVISION);
        }
        sorted_by_time(entries)
    }
}
