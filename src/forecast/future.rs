//! Futures, drawn from the past: what each spends, day by day.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rust_decimal::prelude::ToPrimitive as _;

use super::HORIZON_DAYS;
use super::history::{History, Minor};
use super::leads::{LONGEST_LEADS, Odds};
use super::lumps::Lumps;
use super::pace::{Story, scale, stories};
use super::ratio::{UNCHANGED, scaled};
use super::renewal_model::RenewalModel;
use super::renewals::LONGEST_LEAD;
use super::share::Share;

/// How many futures are drawn.
pub(super) const FUTURES: usize = 600;
/// Days of each.
pub(super) const DAYS: usize = HORIZON_DAYS as usize;
/// Weeks of each, the last one cut short.
pub(super) const WEEKS: usize = DAYS.div_ceil(7);
/// The same books make the same forecast.
const SEED: u64 = 0x10_37_1d_e0;
/// A slope is believed for so many weeks, then the pace stays.
const SLOPE_WEEKS: usize = 13;
/// How far a habit that is taken up again differs from what it was: a deviation, as a share of the change.
const NOT_AS_BEFORE: f64 = 0.6;
/// So many weeks are drawn together, on average.
const RUN: usize = 6;
const DAYS_AHEAD: i32 = HORIZON_DAYS.cast_signed();

/// What each future has spent by the end of each day: future after future, day after day.
pub(super) fn draw(history: &History) -> Vec<Minor> {
    let stories = stories(history);
    let all = stories.iter().map(|story| story.weight).sum();
    let mut chance = Chance(ChaCha8Rng::seed_from_u64(SEED));
    let mut spent = vec![0; FUTURES * DAYS];
    let lumps = Lumps::read(&history.lumps);
    for future in spent.chunks_exact_mut(DAYS) {
        if let Some(story) = chance.one_of(&stories, all, |story| story.weight) {
            add_body(future, history, story, &mut chance);
        }
        if let Some(lumps) = &lumps {
            add_lumps(future, lumps, &mut chance);
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
fn add_body(future: &mut [Minor], history: &History, story: &Story, chance: &mut Chance) {
    let weeks = history.body.len();
    let luck = chance.normal();
    let mut level = story.level + story.unsure * luck;
    let mut slope = story.slope + story.tied * luck + story.slope_unsure * chance.normal();
    let changes = story.habits.as_ref().map(|habits| habits.future(chance));
    let mut week = chance.week(&story.rhythm.same[0], weeks);
    for (number, days) in future.chunks_mut(7).enumerate() {
        if number > 0 {
            week = chance.next_week(week, &story.rhythm.same[number], weeks);
        }
        match &changes {
            Some(changes) if changes.contains(&number) => {
                slope *= 1.0 + NOT_AS_BEFORE * chance.normal();
                (level, slope) = (level + slope, -slope);
            }
            Some(_) => {}
            None => {
                level += slope + story.step * chance.normal();
                slope = if number < SLOPE_WEEKS { slope * story.kept + story.turn * chance.normal() } else { 0.0 };
            }
        }
        let scale = scale(story, level, number, week);
        for (day, past) in days.iter_mut().zip(&history.body[week]) {
            *day = day.saturating_add(scaled(*past, scale));
        }
    }
}

/// Lumps like those that came, after gaps of one of the ways in which they may come.
fn add_lumps(future: &mut [Minor], lumps: &Lumps, chance: &mut Chance) {
    let Some(way) = chance.one_of(&lumps.ways, lumps.all, |way| way.weight) else { return };
    let (mut since, mut day) = (lumps.since, 0);
    loop {
        day += way.ends(since, chance.share()) - since;
        since = 0;
        let Some(it) = future.get_mut(day - 1) else { return };
        *it = it.saturating_add(lumps.prices[chance.below(lumps.prices.len())]);
    }
}

/// Orders are renewed as often, as long before their end and at such prices as those before them; and so are their renewals,
/// and the new orders of this future.
fn add_renewals(future: &mut [Minor], model: &RenewalModel, chance: &mut Chance) {
    if model.is_empty() {
        return;
    }
    let renewed = model.renewed.map(|share| chance.drawn(share));
    let from_balance = model.from_balance.map(|share| chance.drawn(share));
    let longest = chance.below(LONGEST_LEADS.len());
    add_renewals_of_new_orders(future, model, renewed.first * from_balance.balance, chance);
    let renewed = renewed.map(|share| Odds::of(*share));
    for due in &model.dues {
        let leads = &model.leads[due.leads];
        let (mut days, mut possible, mut odds) = (due.days, &due.possible, *renewed.of(due.standing));
        let mut price = None;
        while days < DAYS_AHEAD + LONGEST_LEAD
            && let Some(lead) = leads.lead(possible, longest, odds, chance.share())
            && let Ok(day) = usize::try_from(days - lead)
            && let day = model.calendar.near(day, chance).saturating_sub(usize::from(model.is_late_in_the_day))
            && let Some(day) = future.get_mut(day)
        {
            let price =
                *price.get_or_insert_with(|| scaled(due.price, *chance.any(&model.prices[due.prices], &UNCHANGED)));
            if chance.share() < *from_balance.of(due.payment) {
                *day = day.saturating_add(price);
            }
            days = days.saturating_add(due.length);
            (possible, odds) = (&leads.whole, renewed.renewed);
        }
    }
}

/// What is bought anew in this future is renewed in its turn, as far as that falls within the horizon.
fn add_renewals_of_new_orders(future: &mut [Minor], model: &RenewalModel, share: f64, chance: &mut Chance) {
    let lead = model.leads[0].any(chance.share());
    let after = i32::try_from(model.new_length).unwrap_or(i32::MAX).saturating_sub(lead);
    let Ok(after) = usize::try_from(after.max(1)) else { return };
    let first = parts(model.new_orders * share);
    let again = parts(share);
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
fn parts(share: f64) -> i64 {
    (share * 65_536.0).to_i64().unwrap_or(0)
}

/// Numbers drawn at random, the same ones each time.
pub(super) struct Chance(ChaCha8Rng);

impl Chance {
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
        let (run, last) = if of.is_empty() { (RUN, false) } else { (2 * RUN, week + 1 == weeks) };
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
    fn one_of<'a, T>(&mut self, told: &'a [T], all: f64, weight: impl Fn(&T) -> f64) -> Option<&'a T> {
        let mut left = all * self.share();
        let chosen = told.iter().find(|it| {
            left -= weight(it);
            left < 0.0
        });
        chosen.or(told.last())
    }

    /// One of the shares that this may be.
    fn drawn(&mut self, share: &Share) -> f64 {
        let (place, within) = (self.share(), self.share());
        share.drawn(place, within)
    }
}
