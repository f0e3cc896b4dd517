//! Futures, drawn from the past: what each spends, day by day.

use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rust_decimal::prelude::ToPrimitive as _;

use super::HORIZON_DAYS;
use super::history::{Due, History, Minor};
use super::pace::{Story, scale, stories};

/// How many futures are drawn.
pub(super) const FUTURES: usize = 600;
/// Days of each.
pub(super) const DAYS: usize = HORIZON_DAYS as usize;
/// The same books make the same forecast.
const SEED: u64 = 0x10_37_1d_e0;
/// A slope is believed for so many weeks, then the pace stays.
const SLOPE_WEEKS: usize = 13;
/// As if so many orders more had ended, and all been renewed: caution, where little is known.
const RENEWED_BEFORE: u32 = 2;
/// How many endings are drawn at most; what more of them would tell is reckoned.
const MOST_ENDINGS: u64 = 40;
/// How often a fate that cannot be is drawn anew.
const FATES: usize = 16;
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
    let luck = chance.normal();
    let mut level = story.level + story.unsure * luck;
    let mut slope = story.slope + story.tied * luck + story.slope_unsure * chance.normal();
    let mut week = chance.below(weeks);
    for (number, days) in future.chunks_mut(7).enumerate() {
        level += slope + story.step * chance.normal();
        slope = if number < SLOPE_WEEKS { slope * story.kept + story.turn * chance.normal() } else { 0.0 };
        let scale = i128::from(scale(story, level, week));
        for (day, past) in days.iter_mut().zip(&history.body[week]) {
            let scaled = Minor::try_from((i128::from(*past) * scale) >> 16).unwrap_or(Minor::MAX);
            *day = day.saturating_add(scaled);
        }
        week = chance.next_week(week, weeks);
    }
}

/// Lumps come as often as they came, give or take what chance may have hidden; one that came once only, half as often.
fn add_lumps(future: &mut [Minor], history: &History, chance: &mut Chance) {
    let lumpy: Vec<bool> = history.lumps.iter().map(|week| week.iter().any(|day| *day > 0)).collect();
    let lumps = lumpy.iter().filter(|it| **it).count();
    if lumps == 0 {
        return;
    }
    let weeks = lumpy.len();
    let mut pool = vec![chance.below(weeks)];
    while let Some(last) = pool.last().filter(|_| pool.len() < weeks) {
        pool.push(chance.next_week(*last, weeks));
    }
    let mut place = chance.below(weeks);
    for days in future.chunks_mut(7) {
        let week = pool[place];
        place = chance.next_week(place, weeks);
        if lumpy[week] && (lumps > 1 || chance.coin()) {
            days.iter_mut().zip(&history.lumps[week]).for_each(|(day, lump)| *day = day.saturating_add(*lump));
        }
    }
}

/// Orders are renewed as often, and as long before their end, as those before them.
fn add_renewals(future: &mut [Minor], history: &History, chance: &mut Chance) {
    if history.dues.is_empty() {
        return;
    }
    let share = chance.renewed_of_1024(history.renewed, history.lapsed);
    for due in &history.dues {
        let day = renewal_day(due, share, &history.leads, chance).and_then(|day| usize::try_from(day).ok());
        if let Some(day) = day.and_then(|day| future.get_mut(day)) {
            *day = day.saturating_add(due.price);
        }
    }
}

/// When an order is renewed, if it is. A fate that would have come about before today is drawn anew: so the closer
/// its end without a renewal, the less likely one is, where the others came earlier.
fn renewal_day(due: &Due, share: usize, leads: &[u32], chance: &mut Chance) -> Option<u32> {
    for _ in 0..FATES {
        if chance.below(1024) >= share {
            return None;
        }
        if let Some(day) = due.days.checked_sub(chance.lead(leads)) {
            return Some(day);
        }
    }
    Some(chance.upto(due.days))
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

    /// Mostly the week that followed, so that runs of six weeks, on average, stay together: busy weeks come in rows.
    fn next_week(&mut self, week: usize, weeks: usize) -> usize {
        if self.below(6) > 0 { (week + 1) % weeks } else { self.below(weeks) }
    }

    fn coin(&mut self) -> bool {
        self.0.next_u32() & 1 == 1
    }

    /// About normal, with mean 0 and variance 1: the sum of four even ones.
    fn normal(&mut self) -> f64 {
        let bytes = self.0.next_u64().to_le_bytes();
        let sum: u32 = bytes.chunks_exact(2).map(|two| u32::from(u16::from_le_bytes([two[0], two[1]]))).sum();
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

    /// How long before its end an order is renewed: as one before it was, but one in sixteen in its own way.
    fn lead(&mut self, leads: &[u32]) -> u32 {
        if leads.is_empty() || self.below(16) == 0 { self.upto(LEAD) } else { leads[self.below(leads.len())] }
    }

    /// How many of 1024 orders are renewed, as far as these endings tell.
    fn renewed_of_1024(&mut self, renewed: u32, lapsed: u32) -> usize {
        let (renewed, all) = (u64::from(renewed + RENEWED_BEFORE), u64::from(renewed + lapsed + RENEWED_BEFORE));
        let draws = all.min(MOST_ENDINGS);
        let hits = (0..draws).filter(|_| (u64::from(self.0.next_u32()) * all) >> 32 < renewed).count();
        let (mean, drawn) = (ratio(renewed, all), ratio(u64::try_from(hits).unwrap_or(0), draws));
        let share = mean + (drawn - mean) * ratio(draws, all).sqrt();
        (share * 1024.0).to_usize().unwrap_or(0)
    }
}

/// Of two counts.
fn ratio(part: u64, whole: u64) -> f64 {
    let count = |it: u64| f64::from(u32::try_from(it).unwrap_or(u32::MAX));
    count(part) / count(whole.max(1))
}
