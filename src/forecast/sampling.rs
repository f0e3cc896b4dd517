//! Futures drawn from the past: the spend of each day.

use rust_decimal::prelude::ToPrimitive as _;

use super::horizon::{DAYS, FUTURES};
use super::leads::{RenewalOdds, UNKNOWN_LEAD_LIMITS};
use super::minor::Minor;
use super::random::SeededRng;
use super::ratio::{UNCHANGED, scaled};
use super::renewal_model::RenewalModel;
use super::renewal_window::MAX_LEAD_DAYS;
use crate::domain::rule::HORIZON_DAYS;
use crate::forecast::irregular_purchases::IrregularPurchases;
use crate::forecast::spend_history::SpendHistory;
use crate::forecast::trend::{TrendModel, scale, trend_models};

/// Weeks for which a slope continues. After that, the level stays.
const MAX_SLOPE_WEEKS: usize = 13;
/// Standard deviation by which a regime differs from its earlier level when it returns, as a share of the change.
const REGIME_DEVIATION: f64 = 0.6;

const DAYS_AHEAD: i32 = HORIZON_DAYS.cast_signed();

/// Returns the cumulative spend of each future at the end of each day, one future after the other.
pub(super) fn simulate(history: &SpendHistory) -> Vec<Minor> {
    let models = trend_models(history);
    let all = models.iter().map(|model| model.weight).sum();
    let mut rng = SeededRng::new();
    let mut spent = vec![0; FUTURES * DAYS];
    let irregular = IrregularPurchases::read(&history.irregular);
    for future in spent.chunks_exact_mut(DAYS) {
        if let Some(model) = rng.weighted_choice(&models, all, |model| model.weight) {
            add_base_spend(future, history, model, &mut rng);
        }
        if let Some(irregular) = &irregular {
            add_irregular_purchases(future, irregular, &mut rng);
        }
        add_renewals(future, &history.renewals, &mut rng);
        let mut sum: Minor = 0;
        for day in future {
            sum = sum.saturating_add(*day);
            *day = sum;
        }
    }
    spent
}

/// Adds past weeks in short runs, each scaled from its own level to the level of this future.
fn add_base_spend(future: &mut [Minor], history: &SpendHistory, model: &TrendModel, rng: &mut SeededRng) {
    let weeks = history.base.len();
    let level_draw = rng.normal();
    let mut level = model.level + model.level_deviation * level_draw;
    let mut slope = model.slope + model.slope_per_level * level_draw + model.slope_deviation * rng.normal();
    let changes = model.regimes.as_ref().map(|regimes| regimes.draw_changes(rng));
    let mut week = rng.week(&model.seasonality.similar_weeks[0], weeks);
    for (number, days) in future.chunks_mut(7).enumerate() {
        if number > 0 {
            week = rng.next_week(week, &model.seasonality.similar_weeks[number], weeks);
        }
        match &changes {
            Some(changes) if changes.contains(&number) => {
                slope *= 1.0 + REGIME_DEVIATION * rng.normal();
                (level, slope) = (level + slope, -slope);
            }
            Some(_) => {}
            None => {
                level += slope + model.level_step * rng.normal();
                slope = if number < MAX_SLOPE_WEEKS {
                    slope * model.slope_persistence + model.slope_step * rng.normal()
                } else {
                    0.0
                };
            }
        }
        let scale = scale(model, level, number, week);
        for (day, past) in days.iter_mut().zip(&history.base[week]) {
            *day = day.saturating_add(scaled(*past, scale));
        }
    }
}

/// Adds irregular purchases like those of the past, with gaps drawn from one of the models.
fn add_irregular_purchases(future: &mut [Minor], irregular: &IrregularPurchases, rng: &mut SeededRng) {
    let Some(gap_model) =
        rng.weighted_choice(&irregular.gap_models, irregular.total_weight, |gap_model| gap_model.weight)
    else {
        return;
    };
    let (mut since, mut day) = (irregular.days_since_last, 0);
    loop {
        day += gap_model.gap_end(since, rng.uniform()) - since;
        since = 0;
        let Some(day_spend) = future.get_mut(day - 1) else { return };
        *day_spend = day_spend.saturating_add(irregular.prices[rng.below(irregular.prices.len())]);
    }
}

/// Adds the renewals of known orders, of their renewals, and of the new orders of this future, with the share, lead
/// and price learnt from the past.
fn add_renewals(future: &mut [Minor], model: &RenewalModel, rng: &mut SeededRng) {
    if model.is_empty() {
        return;
    }
    let renewed = model.renewed.map(|share| rng.draw_share(share));
    let from_balance = model.from_balance.map(|share| rng.draw_share(share));
    let longest = rng.below(UNKNOWN_LEAD_LIMITS.len());
    add_renewals_of_new_orders(future, model, renewed.new * from_balance.balance, rng);
    let renewed = renewed.map(|share| RenewalOdds::from_share(*share));
    for due in &model.due_renewals {
        let leads = &model.lead_distributions[due.lead_distribution];
        let (mut days, mut possible, mut odds) = (due.days_to_end, &due.remaining_leads, *renewed.of(due.order_class));
        let mut price = None;
        while days < DAYS_AHEAD + MAX_LEAD_DAYS
            && let Some(lead) = leads.draw_lead(possible, longest, odds, rng.uniform())
            && let Ok(day) = usize::try_from(days - lead)
            && let day =
                model.calendar.nearest_renewal_day(day, rng).saturating_sub(usize::from(model.is_late_in_the_day))
            && let Some(day) = future.get_mut(day)
        {
            let price = *price
                .get_or_insert_with(|| scaled(due.price, *rng.any(&model.price_ratios[due.price_ratios], &UNCHANGED)));
            if rng.uniform() < *from_balance.of(due.payment_source) {
                *day = day.saturating_add(price);
            }
            days = days.saturating_add(due.length_days);
            (possible, odds) = (&leads.unrestricted, renewed.renewal);
        }
    }
}

/// Adds renewals of the new orders of this future, as far as they fall within the horizon.
fn add_renewals_of_new_orders(future: &mut [Minor], model: &RenewalModel, share: f64, rng: &mut SeededRng) {
    let lead = model.lead_distributions[0].draw_known_lead(rng.uniform());
    let after = i32::try_from(model.new_order_days).unwrap_or(i32::MAX).saturating_sub(lead);
    let Ok(after) = usize::try_from(after.max(1)) else { return };
    let first = as_ratio(model.new_order_share * share);
    let again = as_ratio(share);
    if after >= future.len() || first == 0 {
        return;
    }
    let mut renewals = vec![0; future.len()];
    for day in after..future.len() {
        let before = day - after;
        renewals[day] = scaled(future[before], first).saturating_add(scaled(renewals[before], again));
    }
    for (day, renewal) in future.iter_mut().zip(renewals) {
        *day = day.saturating_add(renewal);
    }
}

/// Returns a share in 65,536ths.
fn as_ratio(share: f64) -> i64 {
    (share * 65_536.0).to_i64().unwrap_or(0)
}
