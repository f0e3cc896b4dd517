//! Looking ahead: whose books are wanted, and what they say beside a balance that was just read.
//!
//! Reads nothing itself: books come from the [`Shelf`], which is filled in the background. A cycle waits for it once, at its
//! first need and not for long; balances are read on time whatever becomes of the books.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rust_decimal::Decimal;

use super::{Harvest, Memory, Read, Watch};
use crate::books::{Keeper, Shelf};
use crate::certcentral::BooksSource;
use crate::clock::Clock;
use crate::domain::alert::{AlertKey, Kind, transition};
use crate::domain::balance::{Balance, Reading};
use crate::domain::books::{Books, Gap};
use crate::domain::evaluate::evaluate;
use crate::domain::rule::{Metric, Rule, Side};
use crate::domain::state::State;
use crate::domain::{Division, Time};
use crate::forecast::{Prospect, Spending, is_told};
use crate::store::Book;

/// How long a cycle waits for books that are just being read: the first one that wants them, and one that has something to
/// tell, so that the message says how long funds last.
const SHORT_PATIENCE: Duration = Duration::from_secs(3);
/// How long `check` waits for them.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long `backtest` waits for them: every division's, and a ledger may be long.
const LONG_PATIENCE: Duration = Duration::from_secs(1800);
const A_MOMENT: Duration = Duration::from_millis(200);
/// So many funds that only messages ask about are drawn anew in one cycle; the others keep what was drawn before.
const MOST_DRAWN: usize = 500;

/// An account's books, and how they are read.
pub struct Library {
    /// Where they stand.
    pub shelf: Arc<Shelf>,
    /// Where they come from.
    pub source: Arc<dyn BooksSource>,
    /// What counts as a purchase.
    pub spending: Spending,
}

/// What was drawn of a fund, and from what: it holds until one of them changes, or the hour.
pub(super) struct Drawn {
    balance: Balance,
    books: Books,
    hour: i64,
    prospect: Arc<Prospect>,
}

/// Whose prospects are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// Rules that look ahead.
    Rules,
    /// Them, and the messages about low funds.
    Messages,
}

/// Looks ahead of everything that was read, for the service's cycles.
pub(super) async fn look_ahead(watch: &Watch, memory: &mut Memory, harvest: &mut Harvest, book: &Book, now: Time) {
    let Some(library) = &watch.library else { return };
    if harvest.reads.is_empty() {
        return; // nothing could be listed: what was wanted before is wanted still
    }
    let before = std::mem::take(&mut memory.wanted);
    let wants = |read: &&Read| match &read.balance {
        Ok(balance) => wanted(watch, read, balance, For::Messages),
        Err(_) => before.contains(&read.division),
    };
    let wanted: BTreeSet<Division> = harvest.reads.iter().filter(wants).map(|read| read.division).collect();
    library.shelf.want(&wanted);
    let told: BTreeSet<Division> = book.read(|state| {
        let news =
            harvest.reads.iter().filter(|read| wanted.contains(&read.division) && has_news(state, watch, read, now));
        news.map(|read| read.division).collect()
    });
    let first = !wanted.is_empty() && !std::mem::replace(&mut memory.waited, true);
    library.shelf.settled(if first { &wanted } else { &told }, SHORT_PATIENCE).await;
    memory.drawn.retain(|division, _| wanted.contains(division));
    let mut budget = MOST_DRAWN;
    let judged = |read: &Read| watching(watch, read).any(|rule| rule.metric.looks_ahead());
    let drawn = |read: &&mut Read| wanted.contains(&read.division) && (told.contains(&read.division) || judged(read));
    for read in harvest.reads.iter_mut().filter(drawn) {
        read.prospect = draw(watch, library, &mut memory.drawn, read, now, &mut budget);
        // Each takes milliseconds, and there may be thousands of them.
        tokio::task::yield_now().await;
    }
    memory.wanted = wanted;
}

/// The same once and for all, with the books read for it and kept nowhere: for `check` and `preview`.
pub(super) async fn look_once(watch: &Watch, harvest: &mut Harvest, clock: &Arc<dyn Clock>, purpose: For) {
    let Some(library) = &watch.library else { return };
    let wants = |read: &&Read| read.balance.as_ref().is_ok_and(|balance| wanted(watch, read, balance, purpose));
    let wanted: BTreeSet<Division> = harvest.reads.iter().filter(wants).map(|read| read.division).collect();
    if wanted.is_empty() {
        return;
    }
    library.shelf.want(&wanted);
    let (_go_on, stopped) = tokio::sync::watch::channel(false);
    tokio::select! {
        () = library.keeper(watch, clock, None).run(stopped) => {}
        () = library.shelf.settled(&wanted, PATIENCE) => {}
    }
    let (mut drawn, mut budget) = (HashMap::new(), usize::MAX);
    for read in harvest.reads.iter_mut().filter(|read| wanted.contains(&read.division)) {
        read.prospect = draw(watch, library, &mut drawn, read, clock.now(), &mut budget);
    }
}

/// Which of an account's books somebody needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// What moved the balance.
    Ledger,
    /// The orders too.
    Orders,
}

/// Reads the books of these divisions, once and for `backtest`; kept nowhere. `told` hears, several times a second, how many
/// ledgers were read and how many lines they have together.
pub(super) async fn books_once(
    watch: &Watch,
    wanted: &BTreeSet<Division>,
    needs: Needs,
    clock: &Arc<dyn Clock>,
    told: &mut (dyn FnMut(usize, usize) + Send),
) -> BTreeMap<Division, Books> {
    let Some(library) = &watch.library else { return BTreeMap::new() };
    library.shelf.want(wanted);
    let (_go_on, stopped) = tokio::sync::watch::channel(false);
    let keeper = library.keeper(watch, clock, None).run(stopped);
    tokio::pin!(keeper);
    let books = |division: &Division| (*division, library.shelf.books(*division));
    for _ in 0..LONG_PATIENCE.as_millis() / A_MOMENT.as_millis() {
        let settled = tokio::select! {
            () = &mut keeper => true,
            settled = tokio::time::timeout(A_MOMENT, library.shelf.settled(wanted, LONG_PATIENCE)) => settled.is_ok(),
        };
        let ledgers: Vec<_> = wanted.iter().map(|division| library.shelf.books(*division).ledger).collect();
        let known = ledgers.iter().all(|ledger| !matches!(ledger, Err(Gap::NotYetRead)));
        if settled || (known && needs == Needs::Ledger) {
            break;
        }
        let lines: Vec<usize> = ledgers.iter().flatten().map(|ledger| ledger.entries().len()).collect();
        told(lines.len(), lines.iter().sum());
    }
    wanted.iter().map(books).collect()
}

impl Library {
    /// The task that fills the shelf for this watch.
    pub fn keeper(&self, watch: &Watch, clock: &Arc<dyn Clock>, cache: Option<crate::books::Cache>) -> Keeper {
        let windows = watch.rules.iter().filter_map(Rule::within).map(|within| within.as_secs().div_ceil(24 * 3600));
        let (source, shelf) = (Arc::clone(&self.source), Arc::clone(&self.shelf));
        let longest = windows.max().unwrap_or_default();
        Keeper::new(watch.account.clone(), source, shelf, Arc::clone(clock), cache, longest)
    }
}

fn draw(
    watch: &Watch,
    library: &Library,
    drawn: &mut HashMap<Division, Drawn>,
    read: &Read,
    now: Time,
    budget: &mut usize,
) -> Option<Arc<Prospect>> {
    let balance = read.balance.as_ref().ok()?;
    let (books, hour) = (library.shelf.books(read.division), now.timestamp().div_euclid(3600));
    let known = drawn.get(&read.division);
    let fits = |it: &&Drawn| it.hour == hour && it.balance == *balance && same(&it.books, &books);
    if let Some(known) = known.filter(fits) {
        return Some(Arc::clone(&known.prospect));
    }
    let rules = || watching(watch, read);
    if !rules().any(|rule| rule.metric.looks_ahead()) {
        // A little old is better than nothing, in a message.
        *budget = match budget.checked_sub(1) {
            Some(left) => left,
            None => return known.map(|known| Arc::clone(&known.prospect)),
        };
    }
    let prospect = Arc::new(Prospect::new(balance, books.clone(), &library.spending, rules(), now));
    let (balance, kept) = (balance.clone(), Arc::clone(&prospect));
    drawn.insert(read.division, Drawn { balance, books, hour, prospect: kept });
    Some(prospect)
}

/// Whether two looks at the shelf found the very same reads.
fn same(one: &Books, other: &Books) -> bool {
    let ledgers = match (&one.ledger, &other.ledger) {
        (Ok(one), Ok(other)) => Arc::ptr_eq(one, other),
        (one, other) => one == other,
    };
    let orders = match (&one.orders, &other.orders) {
        (Ok(one), Ok(other)) => Arc::ptr_eq(one, other),
        (one, other) => one == other,
    };
    ledgers && orders
}

fn watching<'w>(watch: &'w Watch, read: &Read) -> impl Iterator<Item = &'w Rule> {
    let (account, division) = (&watch.account, read.division);
    watch.rules.iter().filter(move |rule| rule.watches(account, division))
}

/// Whether a message about funds may come of this reading, so that what lies ahead is worth the drawing.
fn has_news(state: &State, watch: &Watch, read: &Read, now: Time) -> bool {
    watching(watch, read).filter(|rule| is_told(rule) && !rule.metric.looks_ahead()).any(|rule| {
        let key = AlertKey { account: watch.account.clone(), division: read.division, rule: rule.name.clone() };
        let known = state.alerts.get(&key);
        let before = known.map(|known| known.alert.clone()).unwrap_or_default();
        let Ok(verdict) = evaluate(rule, &read.reading(rule)) else { return false };
        let remind = |severity| rule.level(severity).and_then(|level| level.remind_every);
        let (_, moved) = transition(&before, &verdict, remind, now);
        moved.is_some_and(|moved| moved.kind != Kind::Resolved) || known.is_some_and(|known| known.hushed.is_some())
    })
}

/// Whether somebody wants to know what lies ahead: a rule, or a message that is due or may soon be.
fn wanted(watch: &Watch, read: &Read, balance: &Balance, purpose: For) -> bool {
    watching(watch, read).any(|rule| rule.metric.looks_ahead() || (purpose == For::Messages && is_near(rule, balance)))
}

/// Whether funds are within reach of a threshold: at most twice as much, so that the books are at hand when it is crossed.
fn is_near(rule: &Rule, balance: &Balance) -> bool {
    if !is_told(rule) || !matches!(rule.metric, Metric::AvailableFunds | Metric::Balance) {
        return false;
    }
    let Reading::Amount(money) = balance.reading(rule.metric) else { return false };
    rule.levels().filter(|level| level.side() == Side::Below).any(|level| {
        let bound = level.clear_at().amount().map_or(Decimal::ZERO, |amount| amount.value);
        money.amount <= bound.max(Decimal::ZERO).checked_add(bound).unwrap_or(Decimal::MAX)
    })
}
