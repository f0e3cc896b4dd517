//! Futures, drawn from the past: what each spends, day by day.

use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::HORIZON_DAYS;
use super::history::{Due, History, Minor};
use super::pace::{Story, scale, stories};

/// How many futures are drawn.
pub(super) const FUTURES: usize = 1000;
/// Days of each.
pub(super) const DAYS: usize = HORIZON_DAYS as usize;
/// The same books make the same forecast.
const SEED: u64 = 0x10_37_1d_e0;
/// A slope is believed for so many weeks, then the pace stays.
const SLOPE_WEEKS: usize = 13;
/// As if so many orders more had ended, and all been renewed: caution, where little is known.
const RENEWED_BEFORE: u32 = 2;
/// More endings than this tell nothing more about how many are renewed.
const MOST_ENDINGS: u32 = 40;
/// So many days before its end an order is renewed at the earliest, where the ledger does not tell.
const LEAD: u32 = 30;

/// What each future has spent by the end of each day: future after future, day after day.
pub(super) fn draw(history: &History) -> Vec<Minor> {
    let stories = stories(&history.body);
    let mut chance = Chance(ChaCha8Rng::seed_from_u64(SEED));
    let mut spent = vec![0; FUTURES * DAYS];
    for future in spent.chunks_exact_mut(DAYS) {
        if let Some(story) = chance.story(&stories) {
            add_body(future, history, story, &mut chance);
        }
        add_lumps(future, history, &mut chance);
        add_renewals(future, history, &mut chance);
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
    let mut level = story.level + story.unsure * chance.normal();
    let mut week = chance.below(weeks);
    for (number, days) in future.chunks_mut(7).enumerate() {
        level += story.step * chance.normal() + if number < SLOPE_WEEKS { story.slope } else { 0.0 };
        let scale = i128::from(scale(story, level, week));
        for (day, past) in days.iter_mut().zip(&history.body[week]) {
            *day += Minor::try_from((i128::from(*past) * scale) >> 16).unwrap_or(Minor::MAX / 1000);
        }
        week = if chance.coin() { (week + 1) % weeks } else { chance.below(weeks) };
    }
}

/// Lumps come as often as they came, give or take what chance may have hidden; one that came once only, half as often.
fn add_lumps(future: &mut [Minor], history: &History, chance: &mut Chance) {
    let lumpy: Vec<bool> = history.lumps.iter().map(|week| week.iter().any(|day| *day > 0)).collect();
    let lumps = lumpy.iter().filter(|it| **it).count();
    if lumps == 0 {
        return;
    }
    let pool: Vec<usize> = (0..lumpy.len()).map(|_| chance.below(lumpy.len())).collect();
    for days in future.chunks_mut(7) {
        let week = pool[chance.below(pool.len())];
        if lumpy[week] && (lumps > 1 || chance.coin()) {
            days.iter_mut().zip(&history.lumps[week]).for_each(|(day, lump)| *day += lump);
        }
    }
}

/// Orders are renewed as often, and as long before their end, as those before them.
fn add_renewals(future: &mut [Minor], history: &History, chance: &mut Chance) {
    let share = chance.renewed_of_1024(history.renewed, history.lapsed);
    for due in history.dues.iter().filter(|_| !history.dues.is_empty()) {
        if chance.below(1024) < share {
            if let Some(day) = future.get_mut(renewal_day(due, &history.leads, chance)) {
                *day += due.price;
            }
        }
    }
}

/// A lead that has passed already is drawn anew, from the days that remain.
fn renewal_day(due: &Due, leads: &[u32], chance: &mut Chance) -> usize {
    let lead = if leads.is_empty() { chance.upto(LEAD) } else { leads[chance.below(leads.len())] };
    let day = due.days.checked_sub(lead).unwrap_or_else(|| chance.upto(due.days));
    usize::try_from(day).unwrap_or(usize::MAX)
}

struct Chance(ChaCha8Rng);

impl Chance {
    /// One of the numbers below this, each as likely.
    fn below(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).unwrap_or(u64::MAX).min(u64::from(u32::MAX));
        usize::try_from((u64::from(self.0.next_u32()) * count) >> 32).unwrap_or(0)
    }

    /// From 0 to this, each as likely.
    fn upto(&mut self, last: u32) -> u32 {
        u32::try_from((u64::from(self.0.next_u32()) * (u64::from(last) + 1)) >> 32).unwrap_or(0)
    }

    fn coin(&mut self) -> bool {
        self.0.next_u32() & 1 == 1
    }

    /// About normal, with mean 0 and variance 1: the sum of four even ones.
    fn normal(&mut self) -> f64 {
        let bits = self.0.next_u64();
        let sum: u32 = (0..4).map(|part| u32::from((bits >> (16 * part)) as u16)).sum();
        (f64::from(sum) / 65_536.0 - 2.0) * 1.732_050_8
    }

    fn story<'a>(&mut self, stories: &'a [Story]) -> Option<&'a Story> {
        let all: f64 = stories.iter().map(|story| story.weight).sum();
        let mut left = all * f64::from(self.0.next_u32()) / 4_294_967_296.0;
        let chosen = stories.iter().find(|story| {
            left -= story.weight;
            left < 0.0
        });
        chosen.or(stories.last())
    }

    /// How many of 1024 orders are renewed, as far as these endings tell.
    fn renewed_of_1024(&mut self, renewed: u32, lapsed: u32) -> usize {
        let (renewed, all) = (u64::from(renewed + RENEWED_BEFORE), u64::from(renewed + lapsed + RENEWED_BEFORE));
        let draws = all.min(u64::from(MOST_ENDINGS));
        let hits = (0..draws).filter(|_| (u64::from(self.0.next_u32()) * all) >> 32 < renewed).count();
        hits * 1024 / usize::try_from(draws).unwrap_or(1).max(1)
    }
}
