//! What is known of an account's books, how fresh it is, and what is to be asked next. It asks nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use chrono::{Days, NaiveDate, TimeDelta};

use crate::certcentral::{ReadError, ReadErrorKind};
use crate::domain::balance::{Outlook, Unreadable};
use crate::domain::books::{Books, Entry, Gap, Ledger, Order};
use crate::domain::{Division, Time};

/// A ledger is read so often at most, and is good for so long when it can be read no more.
const LEDGER_EVERY: TimeDelta = TimeDelta::hours(1);
const LEDGER_KEEPS: TimeDelta = TimeDelta::hours(48);
/// The same of the orders.
const ORDERS_EVERY: TimeDelta = TimeDelta::hours(24);
const ORDERS_KEEP: TimeDelta = TimeDelta::hours(72);
/// What failed is not tried again before that; nor, where somebody has to act first, before the longer time.
const RETRY: TimeDelta = TimeDelta::minutes(10);
const RETRY_REFUSED: TimeDelta = TimeDelta::hours(1);
/// Where the server itself is not well, nothing at all is asked for so long.
const PAUSE: TimeDelta = TimeDelta::minutes(5);
/// The part of a ledger that is kept: a deposit lasts a year.
const LEDGER_DAYS: u64 = 400;
/// What is new is asked for from so many days before the newest line on, whatever zone the dates of filters are of.
const OVERLAP_DAYS: u64 = 1;
/// Orders whose certificates ended so many days ago, or end so many days ahead.
const ORDERS_BACK: u64 = 180;
const ORDERS_AHEAD: u64 = 400;
/// A cache is written at least so often, that it is known to be fresh.
const SAVED_EVERY: TimeDelta = TimeDelta::hours(12);
/// So many orders' ends may fail in a row before the rest is left for later.
const MOST_FAILED_ENDS: u32 = 3;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    /// Look what the cache has.
    LoadLedger(Division),
    LoadOrders,
    /// A division that is wanted no more.
    Forget(Division),
    /// All lines since then.
    Ledger {
        division: Division,
        since: NaiveDate,
    },
    Orders {
        from: NaiveDate,
        to: NaiveDate,
    },
    /// When this order ends.
    End {
        order: u64,
        certificate_ends: NaiveDate,
    },
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Do(Task),
    /// Nothing before that.
    At(Time),
    /// Nothing, until something is wanted.
    Rest,
}

/// What came of a ledger that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// The first whole one.
    First,
    /// More of it.
    More,
    /// It does not go on where the one before ended: that one is dropped, and all is read.
    Broken,
}

/// One part of the books.
#[derive(Debug)]
struct Part<T> {
    /// What was read last, and when.
    known: Option<(T, Time)>,
    /// Why the last try failed; `None` after a good one.
    failure: Option<Unreadable>,
    /// When to read it again; `None`: now.
    due: Option<Time>,
    /// Whether the cache was looked at.
    loaded: bool,
    /// Whether it was tried, or came fresh from the cache.
    settled: bool,
    /// When the cache was last written, and of when.
    saved: Option<Time>,
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self { known: None, failure: None, due: None, loaded: false, settled: false, saved: None }
    }
}

impl<T> Part<T> {
    /// A time that is further ahead than anybody waits was noted before the clock was set back.
    fn is_due(&self, now: Time, every: TimeDelta) -> bool {
        self.due.is_none_or(|due| due <= now || due - now > every)
    }

    fn read_at(&self) -> Option<Time> {
        self.known.as_ref().map(|(_, read)| *read)
    }

    fn look(&self, now: Time, keeps: TimeDelta) -> Result<&T, Gap> {
        match (&self.known, &self.failure) {
            (Some((known, read)), _) if now - *read <= keeps => Ok(known),
            (_, Some(failure)) => Err(Gap::Unreadable(failure.clone())),
            (_, None) => Err(Gap::NotYetRead),
        }
    }

    fn loaded(&mut self, cached: Option<(T, Time)>, now: Time, every: TimeDelta) {
        self.loaded = true;
        let Some((known, read)) = cached else { return };
        self.saved = Some(read);
        if read <= now && now - read < every {
            self.due = Some(read + every);
            self.settled = true;
        }
        self.known = Some((known, read.min(now)));
    }

    fn read(&mut self, known: T, now: Time, every: TimeDelta) {
        (self.known, self.failure) = (Some((known, now)), None);
        (self.due, self.settled) = (Some(now + every), true);
    }

    fn fail(&mut self, failure: Unreadable, now: Time) {
        let pause = if failure.outlook == Outlook::NeedsAction { RETRY_REFUSED } else { RETRY };
        (self.failure, self.due, self.settled) = (Some(failure), Some(now + pause), true);
    }

    /// Whether the cache is to be written now; then it counts as written.
    fn saves(&mut self, changed: bool, now: Time) -> bool {
        let save = changed || self.saved.is_none_or(|saved| saved > now || now - saved >= SAVED_EVERY);
        if save {
            self.saved = Some(now);
        }
        save
    }
}

/// The orders by the division that pays. One whose division is not said is everybody's: better one too many.
#[derive(Debug)]
struct Listing {
    all: Arc<[Order]>,
    by_division: BTreeMap<u64, Arc<[Order]>>,
    of_nobody: Arc<[Order]>,
}

impl Listing {
    fn new(orders: Vec<Order>) -> Self {
        let divisions: BTreeSet<u64> = orders.iter().filter_map(|order| order.division).collect();
        let mut by_division: BTreeMap<u64, Vec<Order>> = divisions.iter().map(|id| (*id, Vec::new())).collect();
        let mut of_nobody = Vec::new();
        for order in &orders {
            match order.division.and_then(|id| by_division.get_mut(&id)) {
                Some(own) => own.push(order.clone()),
                None => of_nobody.push(order.clone()),
            }
        }
        for own in by_division.values_mut() {
            own.extend(of_nobody.iter().cloned());
        }
        let by_division = by_division.into_iter().map(|(id, own)| (id, own.into())).collect();
        Self { all: orders.into(), by_division, of_nobody: of_nobody.into() }
    }

    fn of(&self, division: Division) -> &Arc<[Order]> {
        match division {
            None => &self.all,
            Some(id) => self.by_division.get(&id).unwrap_or(&self.of_nobody),
        }
    }
}

/// A listing whose orders' ends are still being asked for.
#[derive(Debug)]
struct Draft {
    orders: Vec<Order>,
    read: Time,
    /// Those whose ends could not be had this time.
    failed: EndsFailed,
    failed_in_a_row: u32,
    /// Whether one of them may be had soon.
    again: bool,
}

/// An order's own end, and the end of the certificate that it was asked at.
pub(super) type Ends = BTreeMap<u64, (NaiveDate, NaiveDate)>;

/// Why ends could not be read, by order, with the division that pays for it.
type EndsFailed = BTreeMap<u64, (Division, Unreadable)>;

/// How many orders are shown now, and what to write into the cache, if it is to be written.
pub(super) type Published = (usize, Option<(Arc<[Order]>, Ends)>);

/// Everything that is known of one account's books.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Exactly the divisions that are wanted.
    ledgers: BTreeMap<Division, Part<Arc<Ledger>>>,
    orders: Part<Listing>,
    draft: Option<Draft>,
    ends: Ends,
    /// Orders on the listing whose ends could not be read, the divisions that pay for them, and why.
    ends_failed: EndsFailed,
    paused: Option<Time>,
    dropped: BTreeSet<Division>,
}

impl Memory {
    pub(super) fn want(&mut self, divisions: &BTreeSet<Division>) {
        let before = mem::take(&mut self.ledgers);
        for (division, part) in before {
            if divisions.contains(&division) {
                self.ledgers.insert(division, part);
            } else {
                self.dropped.insert(division);
            }
        }
        for division in divisions {
            self.dropped.remove(division);
            self.ledgers.entry(*division).or_default();
        }
    }

    pub(super) fn books(&self, division: Division, now: Time) -> Books {
        let part = self.ledgers.get(&division);
        let orders = self.orders.look(now, ORDERS_KEEP).map(|listing| Arc::clone(listing.of(division)));
        Books {
            ledger: part.map_or(Err(Gap::NotYetRead), |part| part.look(now, LEDGER_KEEPS).cloned()),
            ledger_read: part.and_then(Part::read_at),
            orders,
            orders_read: self.orders.read_at(),
            ends: self.ends_failure(division),
        }
    }

    /// Of the ends that could not be read, why; what somebody has to mend first comes first.
    fn ends_failure(&self, division: Division) -> Option<Unreadable> {
        let of_it = |paid_by: Division| division.is_none() || paid_by.is_none() || paid_by == division;
        let failures = || self.ends_failed.values().filter(|(paid_by, _)| of_it(*paid_by)).map(|(_, why)| why);
        failures().find(|why| why.outlook == Outlook::NeedsAction).or_else(|| failures().next()).cloned()
    }

    /// Whether each of these was tried at least once, and nothing of them is to be asked at `now`.
    pub(super) fn settled(&self, divisions: &BTreeSet<Division>, now: Time) -> bool {
        let mut wanted = divisions.iter().filter_map(|division| self.ledgers.get(division)).peekable();
        let paused = self.paused.is_some_and(|until| until > now);
        let fresh = |part: &Part<Arc<Ledger>>| part.settled && (paused || !part.is_due(now, LEDGER_EVERY));
        wanted.peek().is_none() || (self.orders.settled && wanted.all(fresh))
    }

    /// What to do at `now`; `watched_days` is how far ahead an order's end can matter.
    pub(super) fn next(&mut self, now: Time, watched_days: u64) -> Next {
        if let Some(division) = self.dropped.pop_first() {
            return Next::Do(Task::Forget(division));
        }
        if self.ledgers.is_empty() {
            return Next::Rest;
        }
        if !self.orders.loaded {
            return Next::Do(Task::LoadOrders);
        }
        if let Some(division) = self.ledgers.iter().find(|(_, part)| !part.loaded).map(|(division, _)| *division) {
            return Next::Do(Task::LoadLedger(division));
        }
        if let Some(until) = self.paused.filter(|until| *until > now && *until - now <= PAUSE) {
            return Next::At(until);
        }
        self.due(now, watched_days).map_or_else(|| self.earliest(now), Next::Do)
    }

    /// Ledgers first, the one that waits longest before the others; then what the listing at hand lacks; then a new one.
    fn due(&self, now: Time, watched_days: u64) -> Option<Task> {
        let due = self.ledgers.iter().filter(|(_, part)| part.is_due(now, LEDGER_EVERY));
        if let Some((division, part)) = due.min_by_key(|(_, part)| part.due) {
            let newest = part.known.as_ref().and_then(|(ledger, _)| ledger.entries().last());
            let since = newest.map_or(oldest_day(now), |line| line.at.date_naive() - Days::new(OVERLAP_DAYS));
            return Some(Task::Ledger { division: *division, since: since.max(oldest_day(now)) });
        }
        if let Some(draft) = &self.draft {
            return draft.lacking(&self.ends, now, watched_days);
        }
        let today = now.date_naive();
        let (from, to) = (today - Days::new(ORDERS_BACK), today + Days::new(ORDERS_AHEAD));
        self.orders.is_due(now, ORDERS_EVERY).then_some(Task::Orders { from, to })
    }

    fn earliest(&self, now: Time) -> Next {
        let ledgers = self.ledgers.values().filter_map(|part| part.due);
        ledgers.chain(self.orders.due).min().map_or(Next::At(now + LEDGER_EVERY), |due| Next::At(due.max(now)))
    }

    pub(super) fn loaded_ledger(&mut self, division: Division, cached: Option<(Ledger, Time)>, now: Time) {
        if let Some(part) = self.ledgers.get_mut(&division) {
            part.loaded(cached.map(|(ledger, read)| (Arc::new(ledger), read)), now, LEDGER_EVERY);
        }
    }

    pub(super) fn loaded_orders(&mut self, cached: Option<(Vec<Order>, Ends, Time)>, now: Time) {
        let listing = cached.map(|(orders, ends, read)| {
            self.ends = ends;
            (Listing::new(self.with_ends(orders)), read)
        });
        self.orders.loaded(listing, now, ORDERS_EVERY);
    }

    /// Takes in what was read since a day. With it, the ledger if the cache is to be written.
    pub(super) fn read_ledger(
        &mut self,
        division: Division,
        lines: Vec<Entry>,
        now: Time,
    ) -> Option<(Came, Option<Arc<Ledger>>)> {
        let part = self.ledgers.get_mut(&division)?;
        let Some((before, _)) = part.known.take().filter(|(ledger, _)| !ledger.entries().is_empty()) else {
            let ledger = Arc::new(Ledger::new(lines));
            part.read(Arc::clone(&ledger), now, LEDGER_EVERY);
            return Some((Came::First, part.saves(true, now).then_some(ledger)));
        };
        let newest = before.entries().last().map(|line| &line.id);
        if !lines.iter().any(|line| Some(&line.id) == newest) {
            // Another account's, or rewritten: nothing of it is believed.
            part.due = None;
            return Some((Came::Broken, None));
        }
        let oldest = oldest_day(now);
        let kept = before.entries().iter().filter(|line| line.at.date_naive() >= oldest).cloned();
        let merged = Ledger::new(kept.chain(lines).collect());
        let changed = merged != *before;
        let ledger = if changed { Arc::new(merged) } else { before };
        part.read(Arc::clone(&ledger), now, LEDGER_EVERY);
        Some((Came::More, part.saves(changed, now).then_some(ledger)))
    }

    /// The listing is shown once the ends that matter have been asked for.
    pub(super) fn read_orders(&mut self, orders: Vec<Order>, now: Time) {
        let (failed, failed_in_a_row, again) = (EndsFailed::new(), 0, false);
        self.draft = Some(Draft { orders, read: now, failed, failed_in_a_row, again });
    }

    /// An order whose details do not say when it ends ends with its certificate.
    pub(super) fn read_end(&mut self, order: u64, certificate_ends: NaiveDate, end: Option<NaiveDate>) {
        self.ends.insert(order, (certificate_ends, end.unwrap_or(certificate_ends)));
        self.draft.iter_mut().for_each(|draft| draft.failed_in_a_row = 0);
    }

    pub(super) fn fail_end(&mut self, order: u64, error: &ReadError) {
        let Some(draft) = &mut self.draft else { return };
        let paid_by = draft.orders.iter().find(|it| it.id == order).and_then(|it| it.division);
        draft.failed.insert(order, (paid_by, Unreadable::from(error.clone())));
        draft.failed_in_a_row += 1;
        draft.again |= error.kind.outlook() == Outlook::MayHeal;
    }

    /// Shows a listing that lacks no end any more.
    pub(super) fn publish(&mut self, now: Time, watched_days: u64) -> Option<Published> {
        let draft = self.draft.take_if(|draft| draft.lacking(&self.ends, now, watched_days).is_none())?;
        let listed: BTreeSet<u64> = draft.orders.iter().map(|order| order.id).collect();
        self.ends.retain(|order, _| listed.contains(order));
        let listing = Listing::new(self.with_ends(draft.orders));
        let all = Arc::clone(&listing.all);
        let changed = self.orders.known.as_ref().is_none_or(|(before, _)| before.all != all);
        self.orders.read(listing, draft.read, ORDERS_EVERY);
        self.ends_failed = draft.failed;
        if draft.again {
            self.orders.due = Some(now + RETRY);
        }
        let save = self.orders.saves(changed, now).then(|| (Arc::clone(&all), self.ends.clone()));
        Some((all.len(), save))
    }

    /// Whether a part failed in this way the time before, or another division's did.
    pub(super) fn fail_ledger(&mut self, division: Division, error: ReadError, now: Time) -> bool {
        let told = self.ledgers.values().any(|part| is_known(part.failure.as_ref(), &error));
        let kind = error.kind;
        let failure = Unreadable::from(error);
        self.pause(kind, &failure, now);
        if let Some(part) = self.ledgers.get_mut(&division) {
            part.fail(failure, now);
        }
        told
    }

    pub(super) fn fail_orders(&mut self, error: ReadError, now: Time) -> bool {
        let told = is_known(self.orders.failure.as_ref(), &error);
        let kind = error.kind;
        let failure = Unreadable::from(error);
        self.pause(kind, &failure, now);
        self.orders.fail(failure, now);
        told
    }

    /// What keeps one request from being answered keeps all: the others that are due are not tried, and fail alike.
    fn pause(&mut self, kind: ReadErrorKind, failure: &Unreadable, now: Time) {
        if matches!(kind, ReadErrorKind::Refused | ReadErrorKind::Nonsense) {
            return;
        }
        self.paused = Some(now + PAUSE);
        for part in self.ledgers.values_mut().filter(|part| part.is_due(now, LEDGER_EVERY)) {
            (part.failure, part.settled) = (Some(failure.clone()), true);
        }
        if self.orders.is_due(now, ORDERS_EVERY) {
            (self.orders.failure, self.orders.settled) = (Some(failure.clone()), true);
        }
    }

    fn with_ends(&self, mut orders: Vec<Order>) -> Vec<Order> {
        for order in &mut orders {
            let known = self.ends.get(&order.id).filter(|(certificate, _)| *certificate == order.certificate_ends);
            order.order_ends = known.map(|(_, end)| *end);
        }
        orders
    }
}

impl Draft {
    /// The next order whose end is to be asked for.
    fn lacking(&self, ends: &Ends, now: Time, watched_days: u64) -> Option<Task> {
        if self.failed_in_a_row >= MOST_FAILED_ENDS {
            return None;
        }
        let last = now.date_naive() + Days::new(watched_days);
        let matters = |order: &&Order| {
            order.issued && !order.renewed && order.certificate_ends <= last && order.end_is_in_doubt()
        };
        let unknown = |order: &&Order| {
            !self.failed.contains_key(&order.id)
                && ends.get(&order.id).is_none_or(|(certificate, _)| *certificate != order.certificate_ends)
        };
        let order = self.orders.iter().filter(matters).find(unknown)?;
        Some(Task::End { order: order.id, certificate_ends: order.certificate_ends })
    }
}

/// Reasons hold times and numbers: what is known is told by its beginning, up to what was said.
fn is_known(before: Option<&Unreadable>, error: &ReadError) -> bool {
    before.is_some_and(|before| before.outlook == error.kind.outlook() && gist(&before.reason) == gist(&error.reason))
}

fn gist(reason: &str) -> &str {
    reason.split(':').next().unwrap_or_default()
}

fn oldest_day(now: Time) -> NaiveDate {
    now.date_naive() - Days::new(LEDGER_DAYS)
}
