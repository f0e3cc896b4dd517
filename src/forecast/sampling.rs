//! Futures, drawn from the past: what each spends, day by day.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rust_decimal::prelude::ToPrimitive as _;

use super::HORIZON_DAYS;
use super::leads::{RenewalOdds, UNKNOWN_LEAD_LIMITS};
use super::ratio::{UNCHANGED, scaled};
use super::renewal_model::RenewalModel;
use super::renewals::MAX_LEAD_DAYS;
use super::share::ShareDistribution;
use crate::forecast::irregular_purchases::IrregularPurchases;
use crate::forecast::spend_history::{Minor, SpendHistory};
use crate::forecast::trend::{TrendModel, scale, trend_models};

/// How many futures are drawn.
pub(super) const FUTURES: usize = 600;
/// Days of each.
pub(super) const DAYS: usize = HORIZON_DAYS as usize;
/// Weeks of each, the last one cut short.
pub(super) const WEEKS: usize = DAYS.div_ceil(7);
/// The same books make the same forecast.
const SEED: u64 = 0x10_37_1d_e0;
/// A slope is believed for so many weeks, then the pace stays.
const MAX_SLOPE_WEEKS: usize = 13;
/// How far a habit that is taken up again differs from what it was: a deviation, as a share of the change.
const REGIME_DEVIATION: f64 = 0.6;
/// So many weeks are drawn together, on average.
const MEAN_RUN_WEEKS: usize = 6;
const DAYS_AHEAD: i32 = HORIZON_DAYS.cast_signed();

/// What each future has spent by the end of each day: future after future, day after day.
pub(super) fn simulate(history: &SpendHistory) -> Vec<Minor> {
    let models = trend_models(history);
    let all = models.iter().map(|model| model.weight).sum();
    let mut chance = SeededRng(ChaCha8Rng::seed_from_u64(SEED));
    let mut spent = vec![0; FUTURES * DAYS];
    let irregular = IrregularPurchases::read(&history.irregular);
    for future in spent.chunks_exact_mut(DAYS) {
        if let Some(model) = chance.weighted_choice(&models, all, |model| model.weight) {
            add_base_spend(future, history, model, &mut chance);
        }
        if let Some(irregular) = &irregular {
            add_irregular_purchases(future, irregular, &mut chance);
        }
        add_renewals(future, &history.renewals, &mut chance);
        let mut sum: Minor = 0;
        for day in future {
            sum = sum.saturating_add(*day);
            *day = sum;
        }
    }
    spent
}

/// Past weeks, in short runs, each scaled from its own level to the one that the story has come to.
fn add_base_spend(future: &mut [Minor], history: &SpendHistory, model: &TrendModel, chance: &mut SeededRng) {
    let weeks = history.base.len();
    let level_draw = chance.normal();
    let mut level = model.level + model.level_deviation * level_draw;
    let mut slope = model.slope + model.slope_per_level * level_draw + model.slope_deviation * chance.normal();
    let changes = model.regimes.as_ref().map(|habits| habits.draw_changes(chance));
    let mut week = chance.week(&model.seasonality.similar_weeks[0], weeks);
    for (number, days) in future.chunks_mut(7).enumerate() {
        if number > 0 {
            week = chance.next_week(week, &model.seasonality.similar_weeks[number], weeks);
        }
        match &changes {
            Some(changes) if changes.contains(&number) => {
                slope *= 1.0 + REGIME_DEVIATION * chance.normal();
                (level, slope) = (level + slope, -slope);
            }
            Some(_) => {}
            None => {
                level += slope + model.level_step * chance.normal();
                slope = if number < MAX_SLOPE_WEEKS {
                    slope * model.slope_persistence + model.slope_step * chance.normal()
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

/// Lumps like those that came, after gaps of one of the ways in which they may come.
fn add_irregular_purchases(future: &mut [Minor], irregular: &IrregularPurchases, chance: &mut SeededRng) {
    let Some(gap_model) =
        chance.weighted_choice(&irregular.gap_models, irregular.total_weight, |gap_model| gap_model.weight)
    else {
        return;
    };
    let (mut since, mut day) = (irregular.days_since_last, 0);
    loop {
        day += gap_model.gap_end(since, chance.share()) - since;
        since = 0;
        let Some(it) = future.get_mut(day - 1) else { return };
        *it = it.saturating_add(irregular.prices[chance.below(irregular.prices.len())]);
    }
}

/// Orders are renewed as often, as long before their end and at such prices as those before them; and so are their renewals,
/// and the new orders of this future.
fn add_renewals(future: &mut [Minor], model: &RenewalModel, chance: &mut SeededRng) {
    if model.is_empty() {
        return;
    }
    let renewed = model.renewed.map(|share| chance.draw_share(share));
    let from_balance = model.from_balance.map(|share| chance.draw_share(share));
    let longest = chance.below(UNKNOWN_LEAD_LIMITS.len());
    add_renewals_of_new_orders(future, model, renewed.new * from_balance.balance, chance);
    let renewed = renewed.map(|share| RenewalOdds::from_share(*share));
    for due in &model.due_renewals {
        let leads = &model.lead_distributions[due.lead_distribution];
        let (mut days, mut possible, mut odds) = (due.days_to_end, &due.remaining_leads, *renewed.of(due.order_class));
        let mut price = None;
        while days < DAYS_AHEAD + MAX_LEAD_DAYS
            && let Some(lead) = leads.draw_lead(possible, longest, odds, chance.share())
            && let Ok(day) = usize::try_from(days - lead)
            && let day =
                model.calendar.nearest_renewal_day(day, chance).saturating_sub(usize::from(model.is_late_in_the_day))
            && let Some(day) = future.get_mut(day)
        {
            let price = *price.get_or_insert_with(|| {
                scaled(due.price, *chance.any(&model.price_ratios[due.price_ratios], &UNCHANGED))
            });
            if chance.share() < *from_balance.of(due.payment_source) {
                *day = day.saturating_add(price);
            }
            days = days.saturating_add(due.length_days);
            (possible, odds) = (&leads.unrestricted, renewed.renewal);
        }
    }
}

/// What is bought anew in this future is renewed in its turn, as far as that falls within the horizon.
fn add_renewals_of_new_orders(future: &mut [Minor], model: &RenewalModel, share: f64, chance: &mut SeededRng) {
    let lead = model.lead_distributions[0].draw_known_lead(chance.share());
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

/// A share in 65 536ths.
fn as_ratio(share: f64) -> i64 {
    (share * 65_536.0).to_i64().unwrap_or(0)
}

/// Numbers drawn at random, the same ones each time.
pub(super) struct SeededRng(ChaCha8Rng);

impl SeededRng {
    /// One of the numbers below this, each as likely.
    fn below(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).unwrap_or(u64::MAX).min(u64::from(u32::MAX));
        usize::try_from((u64::from(self.0.next_u32()) * count) >> 32).unwrap_or(0)
    }

    /// Any of these, each as likely; no number is drawn where there is but one.
    fn any<'a, T>(&mut self, of: &'a [T], none: &'a T) -> &'a T {
        match of {
            [] => none,
            [only] => only,
            of => &of[self.below(of.len())],
        }
    }

    /// One of these past weeks; of all, if there are none.
    fn week(&mut self, of: &[usize], weeks: usize) -> usize {
        if of.is_empty() { self.below(weeks) } else { of[self.below(of.len())] }
    }

    /// Mostly the week that followed, so that runs of weeks stay together, else one of these. Where a rhythm is kept,
    /// runs are twice as long, and do not go on from the end of the past to its beginning.
    fn next_week(&mut self, week: usize, of: &[usize], weeks: usize) -> usize {
        let (run, last) = if of.is_empty() { (MEAN_RUN_WEEKS, false) } else { (2 * MEAN_RUN_WEEKS, week + 1 == weeks) };
        if self.below(run) > 0 && !last { (week + 1) % weeks } else { self.week(of, weeks) }
    }

    /// About normal, with mean 0 and variance 1: the sum of four even ones.
    pub(super) fn normal(&mut self) -> f64 {
        let bytes = self.0.next_u64().to_le_bytes();
        let sum: u32 = bytes.chunks_exact(2).map(|two| u32::from(u16::from_le_bytes([two[0], two[1]]))).sum();
        (f64::from(sum) / 65_536.0 - 2.0) * 1.732_050_8
    }

    /// From 0 to less than 1.
    pub(super) fn share(&mut self) -> f64 {
        f64::from(self.0.next_u32()) / 4_294_967_296.0
    }

    /// One of these, by how believable each is; `all` is the sum of that.
    fn weighted_choice<'a, T>(&mut self, options: &'a [T], all: f64, weight: impl Fn(&T) -> f64) -> Option<&'a T> {
        let mut left = all * self.share();
        let chosen = options.iter().find(|it| {
            left -= weight(it);
            left < 0.0
        });
        chosen.or(options.last())
    }

    /// One of the shares that this may be.
    fn draw_share(&mut self, share: &ShareDistribution) -> f64 {
        let (place, within) = (self.share(), self.share());
        share.sample(place, within)
    }
}
