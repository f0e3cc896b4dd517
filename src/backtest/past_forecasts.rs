//! What lay ahead of a fund at moments of its past, as far as the books of today can tell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Fund, Past, Script};
use crate::domain::Time;
use crate::domain::balance::Reading;
use crate::domain::history::{Books, Order};
use crate::domain::rule::{Metric, Rule};
use crate::forecast::{Prospect, Purchases};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// Looks ahead for one rule go through at most so many lines of the ledger together.
const BUDGET: usize = 40_000_000;
/// Drawing the futures costs as much as so many lines.
const DRAWING: usize = 100_000;

/// The looks ahead of one fund: at which moments each rule's books would have been looked at, and what they said then.
///
/// A rule's looks depend on nothing but the rule and the ledger: what is told of it does not change with the rules beside it.
pub(super) struct Hindsight<'a> {
    fund: &'a Fund,
    past: &'a Past,
    script: &'a Script<'a>,
    rules: Vec<Looking<'a>>,
    /// When each order was renewed; orders of which that is not known are not in the books.
    orders: Vec<(Order, Option<Time>)>,
    /// The prospect of the last step.
    prospect: Option<Arc<Prospect>>,
}

/// One rule that looks ahead.
struct Looking<'a> {
    rule: &'a Rule,
    /// The moments at which its books are looked at, in order.
    looks: Vec<Time>,
    /// The last look, and the reading that it gave.
    known: Option<(Time, Reading)>,
}

impl Looking<'_> {
    /// The last look at this step; `None` before the first one.
    fn look_at(&self, step: Time) -> Option<Time> {
        let place = self.looks.partition_point(|look| *look <= step).checked_sub(1)?;
        Some(self.looks[place])
    }
}

impl<'a> Hindsight<'a> {
    /// `None` where none of these rules looks ahead.
    pub(super) fn new(fund: &'a Fund, past: &'a Past, script: &'a Script<'a>, rules: Vec<&'a Rule>) -> Option<Self> {
        let looking = |rule: &'a Rule| Looking { rule, looks: looks(past, script, rule), known: None };
        let rules: Vec<Looking> = rules.into_iter().filter(|rule| rule.metric.looks_ahead()).map(looking).collect();
        if rules.is_empty() {
            return None;
        }
        Some(Self { fund, past, script, rules, orders: orders(fund, script), prospect: None })
    }

    /// The moments at which the books are looked at.
    pub(super) fn looks(&self) -> impl Iterator<Item = &Time> {
        self.rules.iter().flat_map(|looking| &looking.looks)
    }

    /// What was known at this step: each rule's reading is of its last look before it, which the first step always has.
    pub(super) fn at(&mut self, step: Time) -> Option<Arc<Prospect>> {
        let mut due: BTreeMap<Time, Vec<usize>> = BTreeMap::new();
        for (place, looking) in self.rules.iter().enumerate() {
            let look = looking.look_at(step)?;
            if looking.known.as_ref().is_none_or(|(known, _)| *known != look) {
                due.entry(look).or_default().push(place);
            }
        }
        for (look, places) in due {
            let prospect = self.prospect_of(look, &places);
            for place in places {
                let looking = &mut self.rules[place];
                looking.known = Some((look, prospect.reading(looking.rule)));
            }
            self.prospect = Some(Arc::new(prospect.with_readings(self.known())));
        }
        self.prospect.clone()
    }

    /// What the books said at a moment, to the rules at these places.
    fn prospect_of(&self, look: Time, places: &[usize]) -> Prospect {
        // Only a runway takes the futures.
        let rules = places.iter().map(|place| self.rules[*place].rule);
        let drawn_for = rules.filter(|rule| rule.metric == Metric::Runway);
        Prospect::new(&self.past.balance(look), self.books(look), self.script.spending, drawn_for, look)
    }

    fn known(&self) -> impl Iterator<Item = (&'a Rule, Reading)> {
        self.rules.iter().filter_map(|looking| Some((looking.rule, looking.known.as_ref()?.1.clone())))
    }

    /// The books as they were at the look, and as if they had been read then.
    fn books(&self, look: Time) -> Books {
        let today = look.date_naive();
        let then = |(order, renewed): &(Order, Option<Time>)| Order {
            renewed: renewed.is_some_and(|renewed| renewed <= look),
            expired: order.expired && order.ends().is_some_and(|end| end < today),
            ..order.clone()
        };
        let known = |(order, _): &&(Order, Option<Time>)| order.placed.is_none_or(|placed| placed <= today);
        let orders = || self.orders.iter().filter(known).map(then).collect();
        Books {
            ledger: self.fund.books.ledger.as_ref().map(|ledger| Arc::new(ledger.as_of(look))).map_err(Clone::clone),
            ledger_read: Some(look),
            orders: self.fund.books.orders.as_ref().map(|_| orders()).map_err(Clone::clone),
            orders_read: Some(look),
            ends: self.fund.books.ends.clone(),
        }
    }
}

/// The orders with the moment of their renewal. An order that was renewed at an unknown time is left out. One of which only
/// its details could tell when it ends, ends when what it was bought for is over.
fn orders(fund: &Fund, script: &Script<'_>) -> Vec<(Order, Option<Time>)> {
    let (Ok(ledger), Ok(orders)) = (&fund.books.ledger, &fund.books.orders) else { return Vec::new() };
    let renewals = Purchases::read(ledger, Some(orders), script.spending, script.to).renewed_at();
    let whole = |order: &Order| Order { order_ends: order.probably_ends(), ..order.clone() };
    let known = orders.iter().map(|order| (whole(order), renewals.get(&order.id).copied()));
    known.filter(|(order, renewed)| !order.renewed || renewed.is_some()).collect()
}

/// The first step; each UTC day; and each full hour after a change of the ledger, or of the rule's window of `spend`. Where
/// these are too many to be looked at in seconds, the days alone.
fn looks(past: &Past, script: &Script<'_>, rule: &Rule) -> Vec<Time> {
    let (from, to) = (script.from, script.to);
    let grid = |every: i64, at: Time| Time::from_timestamp((at.timestamp() + every - 1).div_euclid(every) * every, 0);
    let mut looks = BTreeSet::from([from]);
    let mut day = grid(DAY, from);
    while let Some(at) = day.filter(|at| *at <= to) {
        looks.insert(at);
        day = Time::from_timestamp(at.timestamp() + DAY, 0);
    }
    let days = looks.clone();
    let window = rule.within().filter(|_| rule.metric == Metric::Spend);
    let window = window.and_then(|within| chrono::Duration::from_std(within).ok());
    for delay in std::iter::once(chrono::Duration::zero()).chain(window) {
        let changes = past.changes(from - delay, to - delay).iter();
        looks.extend(changes.filter_map(|at| grid(HOUR, *at + delay)).filter(|at| *at > from && *at <= to));
    }
    let drawing = if rule.metric == Metric::Runway { DRAWING } else { 0 };
    let each = drawing + past.changes(Time::MIN_UTC, to).len();
    let affordable = looks.len().saturating_mul(each) <= BUDGET;
    (if affordable { looks } else { days }).into_iter().collect()
}
