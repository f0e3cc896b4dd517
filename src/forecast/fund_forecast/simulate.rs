//! The simulation for a fund's rules and messages.

use super::FundForecast;
use super::results::{CHART_FUTURE_DAYS, PurchaseAnalysis, SimulationResults};
use super::rules::{deposit_days, shows_forecast};
use crate::domain::balance::{Persistence, Reading};
use crate::domain::rule::Rule;
use crate::forecast::payments::PaymentShares;
use crate::forecast::purchases::Purchases;
use crate::forecast::simulation::Simulation;

impl FundForecast {
    /// Simulates the futures for these rules and their messages. Also returns the purchases that it learnt from.
    pub(super) fn simulate(&self, rules: &[&Rule]) -> (Result<SimulationResults, Reading>, Option<PurchaseAnalysis>) {
        let rules: Vec<&Rule> = rules.iter().copied().filter(|rule| shows_forecast(rule)).collect();
        if rules.is_empty() {
            return (Ok(SimulationResults::default()), None);
        }
        let orders = self.orders().ok();
        let purchases = self.ledger().map(|ledger| Purchases::read(ledger, orders, &self.spending, self.now));
        let known = purchases.as_ref().ok().filter(|_| orders.is_some());
        let purchase_analysis =
            known.map(|known| PurchaseAnalysis { past_year: known.past_year(), payments: PaymentShares::read(known) });
        (self.simulation_results(&rules, purchases), purchase_analysis)
    }

    fn simulation_results(
        &self,
        rules: &[&Rule],
        purchases: Result<Purchases<'_>, Reading>,
    ) -> Result<SimulationResults, Reading> {
        let Some(available) = self.available() else { return Err(self.funds.clone()) };
        // Without the known renewals, funds would seem to last longer. A forecast without them is better than none
        // only if the orders stay unreadable until somebody acts.
        match self.orders() {
            Ok(_) => {}
            Err(Reading::Unreadable(why)) if why.persistence == Persistence::Permanent => {}
            Err(reading) => return Err(reading),
        }
        let purchases = purchases?;
        let simulation =
            Simulation::from_purchases(&purchases, available).map_err(|why| Reading::NotYetKnown(why.to_string()))?;
        let mut results = SimulationResults { typical_order: purchases.typical_cost(), ..SimulationResults::default() };
        for rule in rules {
            let (confidence, days) = (rule.confidence, deposit_days(rule));
            let runway = || (simulation.runway(confidence), simulation.runway_early(confidence));
            results.runways.entry(confidence).or_insert_with(runway);
            results.bands.entry(confidence).or_insert_with(|| simulation.bands(CHART_FUTURE_DAYS, confidence));
            results.max_spend.entry((confidence, days)).or_insert_with(|| simulation.max_spend(days, confidence));
        }
        Ok(results)
    }
}
