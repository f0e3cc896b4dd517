//! Futures, drawn from the past: what each spends, day by day.

use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rust_decimal::prelude::ToPrimitive as _;

use super::HORIZON_DAYS;
use super::history::{Due, History, Minor};
use super::lumps::Lumps;
use super::pace::{Story, scale, stories};

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
/// As if so many orders more had ended, and all been renewed: caution, where little is known.
const RENEWED_BEFORE: u32 = 2;
/// How many endings are drawn at most; what more of them would tell is reckoned.
const MOST_ENDINGS: u64 = 40;
/// One lead in so many is unlike those before it.
const OWN_WAY: u64 = 16;
/// Fewer than so many days before its end an order is renewed, where the ledger does not tell.
const LEADS: u64 = 31;

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
        let scale = i128::from(scale(story, level, number, week));
        for (day, past) in days.iter_mut().zip(&history.body[week]) {
            let scaled = Minor::try_from((i128::from(*past) * scale) >> 16).unwrap_or(Minor::MAX);
            *day = day.saturating_add(scaled);
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

/// When an order is renewed, if it is. What would have come about before today cannot be: so the closer its end without
/// a renewal, the less likely one is, where the others came earlier. Its lead is as one before it was, but one in
/// sixteen goes its own way.
fn renewal_day(due: &Due, share: u64, leads: &[u32], chance: &mut Chance) -> Option<u32> {
    let own = u64::from(due.days).min(LEADS - 1) + 1;
    let (early, all) = (wide(due.leads), wide(leads.len()));
    let (as_others, in_its_way) = ((OWN_WAY - 1) * LEADS * early, own * all.max(1));
    let (comes, never) = (share * (as_others + in_its_way), (1024 - share) * OWN_WAY * LEADS * all.max(1));
    let drawn = chance.below_wide(comes + never);
    if drawn >= comes {
        return None;
    }
    let way = drawn / share;
    let lead = match usize::try_from(way / ((OWN_WAY - 1) * LEADS)).ok().filter(|_| way < as_others) {
        Some(place) => leads.get(place).copied().unwrap_or(0),
        None => u32::try_from((way - as_others) / all.max(1)).unwrap_or(0),
    };
    due.days.checked_sub(lead)
}

/// Numbers drawn at random, the same ones each time.
pub(super) struct Chance(ChaCha8Rng);

impl Chance {
    /// One of the numbers below this, each as likely.
    fn below(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).unwrap_or(u64::MAX).min(u64::from(u32::MAX));
        usize::try_from((u64::from(self.0.next_u32()) * count) >> 32).unwrap_or(0)
    }

    /// One of the numbers below this.
    fn below_wide(&mut self, count: u64) -> u64 {
        u64::try_from((u128::from(self.0.next_u64()) * u128::from(count)) >> 64).unwrap_or(0)
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

    /// How many of 1024 orders are renewed, as far as these endings tell.
    fn renewed_of_1024(&mut self, renewed: u32, lapsed: u32) -> u64 {
        let (renewed, all) = (u64::from(renewed + RENEWED_BEFORE), u64::from(renewed + lapsed + RENEWED_BEFORE));
        let draws = all.min(MOST_ENDINGS);
        let hits = (0..draws).filter(|_| (u64::from(self.0.next_u32()) * all) >> 32 < renewed).count();
        let (mean, drawn) = (ratio(renewed, all), ratio(u64::try_from(hits).unwrap_or(0), draws));
        let share = mean + (drawn - mean) * ratio(draws, all).sqrt();
        (share * 1024.0).to_u64().unwrap_or(0).min(1024)
    }
}

/// Of two counts.
fn ratio(part: u64, whole: u64) -> f64 {
    let count = |it: u64| f64::from(u32::try_from(it).unwrap_or(u32::MAX));
    count(part) / count(whole.max(1))
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
