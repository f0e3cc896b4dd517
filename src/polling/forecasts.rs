//! Looking ahead: whose books are wanted, and what they say beside a balance that was just read.
//!
//! Reads nothing itself: books come from the [`Shelf`], which is filled in the background. A cycle waits for it once, at its
//! first need and not for long; balances are read on time whatever becomes of the books.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rust_decimal::Decimal;

use crate::alerting::evaluate::evaluate;
use crate::alerting::state::{Remembered, State};
use crate::certcentral::BooksSource;
use crate::domain::alert::{AlertKey, Kind, transition};
use crate::domain::balance::{Balance, Reading};
use crate::domain::history::Books;
use crate::domain::money::plain;
use crate::domain::rule::{Metric, Rule, Side};
use crate::domain::{Division, Time};
use crate::forecast::{Prospect, PurchaseSums, Spending, is_told};
use crate::history::{Keeper, Shelf, Watched};
use crate::polling::poller::{Harvest, Memory, Read, Scope, Watch};
use crate::state::Book;
use crate::util::clock::Clock;

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
pub(crate) struct Drawn {
    balance: Balance,
    /// Of each of its divisions.
    parts: Vec<Books>,
    rules: Arc<[Rule]>,
    spending: Spending,
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
pub(crate) async fn look_ahead(watch: &Watch, memory: &mut Memory, harvest: &mut Harvest, book: &Book, now: Time) {
    let Some(library) = &watch.library else { return };
    if harvest.reads.is_empty() {
        return; // nothing could be listed: what was wanted before is wanted still
    }
    let before = std::mem::take(&mut memory.wanted);
    let wants = |read: &Read| match &read.balance {
        Ok(balance) => wanted(watch, read, balance, For::Messages),
        Err(_) => before.contains(&read.division),
    };
    let funds = funds(&harvest.reads, wants);
    let wanted: BTreeSet<Division> = divisions(&harvest.reads, &funds);
    library.shelf.want_shared(&wanted, &watched(watch, &harvest.reads, &funds));
    let news: Vec<&Fund> = book.read(|state| {
        let told = |fund: &&Fund| fund.iter().any(|place| has_news(state, watch, &harvest.reads[*place], now));
        funds.iter().filter(told).collect()
    });
    let told = divisions(&harvest.reads, news.iter().copied());
    let first = !wanted.is_empty() && !std::mem::replace(&mut memory.waited, true);
    library.shelf.settled(if first { &wanted } else { &told }, SHORT_PATIENCE).await;
    memory.drawn.retain(|division, _| wanted.contains(division));
    let mut budget = MOST_DRAWN;
    for fund in &funds {
        let judged = fund.iter().any(|place| watching(watch, &harvest.reads[*place]).any(|it| it.metric.looks_ahead()));
        let told = fund.iter().any(|place| told.contains(&harvest.reads[*place].division));
        if judged || told {
            // A little old is better than nothing, in a message.
            let may_draw = judged || budget > 0;
            budget = budget.saturating_sub(usize::from(!judged));
            let drawn = draw(watch, library, &mut memory.drawn, &harvest.reads, fund, now, may_draw).await;
            let prospect = drawn.map(|drawn| with_alerts(drawn, watch, book, &harvest.reads, fund));
            hand_out(&mut harvest.reads, fund, prospect.as_ref());
        }
    }
    memory.wanted = wanted;
}

/// The same once and for all, with the books read for it and kept nowhere: for `check` and `preview`.
pub(crate) async fn look_once(watch: &Watch, harvest: &mut Harvest, clock: &Arc<dyn Clock>, purpose: For) {
    let Some(library) = &watch.library else { return };
    let wants = |read: &Read| read.balance.as_ref().is_ok_and(|balance| wanted(watch, read, balance, purpose));
    let funds = funds(&harvest.reads, wants);
    let wanted = divisions(&harvest.reads, &funds);
    if wanted.is_empty() {
        return;
    }
    library.shelf.want_shared(&wanted, &watched(watch, &harvest.reads, &funds));
    let (_go_on, stopped) = tokio::sync::watch::channel(false);
    tokio::select! {
        () = library.keeper(watch, clock, None).run(stopped) => {}
        () = library.shelf.settled(&wanted, PATIENCE) => {}
    }
    for fund in &funds {
        let prospect = draw(watch, library, &mut HashMap::new(), &harvest.reads, fund, clock.now(), true).await;
        hand_out(&mut harvest.reads, fund, prospect.as_ref());
    }
}

/// The places of the reads that are one fund: one division, or several that report exactly the same figures.
type Fund = Vec<usize>;

/// The funds of which somebody wants any division's prospects. What one division of a shared fund spends, all of them have
/// spent: their books belong together.
fn funds(reads: &[Read], wants: impl Fn(&Read) -> bool) -> Vec<Fund> {
    let mut funds: Vec<Fund> = Vec::new();
    let mut known: HashMap<&Balance, usize> = HashMap::new();
    for (place, read) in reads.iter().enumerate() {
        let shared = read.balance.as_ref().ok().filter(|_| read.division.is_some());
        match shared.and_then(|balance| known.get(balance)) {
            Some(fund) => funds[*fund].push(place),
            None => {
                known.extend(shared.map(|balance| (balance, funds.len())));
                funds.push(vec![place]);
            }
        }
    }
    funds.retain(|fund| fund.iter().any(|place| wants(&reads[*place])));
    funds
}

/// What is watched, for finding out who else shares these funds. Where every division is watched there is nobody else.
fn watched(watch: &Watch, reads: &[Read], funds: &[Fund]) -> Watched {
    let all = match &watch.scope {
        Scope::Undivided => true,
        Scope::All(excluded) => excluded.is_empty(),
        Scope::Listed(_) => false,
    };
    if all {
        return Watched::default();
    }
    let ids = |fund: &Fund| fund.iter().filter_map(|place| reads[*place].division).collect();
    let readable = funds.iter().filter(|fund| fund.iter().any(|place| reads[*place].balance.is_ok()));
    Watched { funds: readable.map(ids).collect(), divisions: reads.iter().filter_map(|read| read.division).collect() }
}

fn hand_out(reads: &mut [Read], fund: &Fund, prospect: Option<&Arc<Prospect>>) {
    for place in fund {
        reads[*place].prospect = prospect.cloned();
    }
}

/// Makes the deposit of a fund end the alerts, too, that go on beyond their thresholds.
fn with_alerts(drawn: Arc<Prospect>, watch: &Watch, book: &Book, reads: &[Read], fund: &Fund) -> Arc<Prospect> {
    book.read(|state| {
        let firing = |rule: &Rule| -> Vec<_> {
            let watched =
                fund.iter().map(|place| &reads[*place]).filter(|it| rule.watches(&watch.account, it.division));
            let known = watched.filter_map(|read| remembered(state, watch, read, rule));
            known.map(|known| &known.alert).filter(|alert| alert.firing().is_some()).collect()
        };
        let alerts = watch.rules.iter().map(|rule| (rule, firing(rule)));
        drawn.with_alerts(alerts.filter(|(_, alerts)| !alerts.is_empty()))
    })
}

fn remembered<'s>(state: &'s State, watch: &Watch, read: &Read, rule: &Rule) -> Option<&'s Remembered> {
    state.alerts.get(&AlertKey { account: watch.account.clone(), division: read.division, rule: rule.name.clone() })
}

fn divisions<'f>(reads: &[Read], funds: impl IntoIterator<Item = &'f Fund>) -> BTreeSet<Division> {
    funds.into_iter().flatten().map(|place| reads[*place].division).collect()
}

/// Reads the books of the funds of these reads, once and for `backtest`; kept nowhere. `told` hears, several times a second,
/// how many ledgers were read and how many lines they have together.
pub(crate) async fn books_once(
    watch: &Watch,
    reads: &[Read],
    wants: impl Fn(&Read) -> bool,
    clock: &Arc<dyn Clock>,
    told: &mut (dyn FnMut(usize, usize) + Send),
) -> BTreeMap<Division, Books> {
    let Some(library) = &watch.library else { return BTreeMap::new() };
    let funds: Vec<Fund> = funds(reads, wants);
    let wanted = divisions(reads, &funds);
    library.shelf.want_shared(&wanted, &watched(watch, reads, &funds));
    let (_go_on, stopped) = tokio::sync::watch::channel(false);
    let keeper = library.keeper(watch, clock, None).run(stopped);
    tokio::pin!(keeper);
    let parts = |fund: &Fund| {
        let divisions: Vec<Division> = fund.iter().map(|place| reads[*place].division).collect();
        let parts = library.shelf.parts(&divisions);
        (divisions, parts)
    };
    for _ in 0..LONG_PATIENCE.as_millis() / A_MOMENT.as_millis() {
        let settled = tokio::select! {
            () = &mut keeper => true,
            settled = tokio::time::timeout(A_MOMENT, library.shelf.settled(&wanted, LONG_PATIENCE)) => settled.is_ok(),
        };
        if settled {
            break;
        }
        let ledgers: Vec<_> = funds.iter().flat_map(|fund| parts(fund).1).map(|books| books.ledger).collect();
        let lines: Vec<usize> = ledgers.iter().flatten().map(|ledger| ledger.entries().len()).collect();
        told(lines.len(), lines.iter().sum());
    }
    let together = |fund: &Fund| {
        let (divisions, parts) = parts(fund);
        let books = Books::together(&parts);
        divisions.into_iter().map(move |division| (division, books.clone()))
    };
    funds.iter().flat_map(together).collect()
}

impl Library {
    /// The task that fills the shelf for this watch.
    pub fn keeper(&self, watch: &Watch, clock: &Arc<dyn Clock>, cache: Option<crate::history::Cache>) -> Keeper {
        let windows = watch.rules.iter().filter_map(Rule::within).map(|within| within.as_secs().div_ceil(24 * 3600));
        let (source, shelf) = (Arc::clone(&self.source), Arc::clone(&self.shelf));
        let longest = windows.max().unwrap_or_default();
        Keeper::new(watch.account.clone(), source, shelf, Arc::clone(clock), cache, longest)
    }
}

/// What lies ahead of a fund: as it was drawn before, if nothing has changed, else drawn anew where that may be.
async fn draw(
    watch: &Watch,
    library: &Library,
    drawn: &mut HashMap<Division, Drawn>,
    reads: &[Read],
    fund: &Fund,
    now: Time,
    may_draw: bool,
) -> Option<Arc<Prospect>> {
    let first = reads.get(*fund.first()?)?;
    let balance = first.balance.as_ref().ok()?.clone();
    let ids: Vec<Division> = fund.iter().map(|place| reads[*place].division).collect();
    let parts = library.shelf.parts(&ids);
    let hour = now.timestamp().div_euclid(3600);
    let known = drawn.get(&first.division);
    let fits = |it: &&Drawn| {
        let books = it.parts.len() == parts.len() && it.parts.iter().zip(&parts).all(|(one, other)| same(one, other));
        books && it.hour == hour && it.balance == balance && Arc::ptr_eq(&it.rules, &watch.rules)
    };
    if let Some(known) = known.filter(|it| !may_draw || (fits(it) && it.spending == library.spending)) {
        return Some(Arc::clone(&known.prospect));
    }
    if !may_draw {
        return None;
    }
    let watched = |rule: &&Rule| fund.iter().any(|place| rule.watches(&watch.account, reads[*place].division));
    let rules: Vec<Rule> = watch.rules.iter().filter(watched).cloned().collect();
    let (of, spending, books) = (balance.clone(), library.spending.clone(), parts.clone());
    // Milliseconds, and now and then much more: not for the threads that read and send.
    let drawing =
        tokio::task::spawn_blocking(move || Prospect::new(&of, Books::together(&books), &spending, &rules, now));
    let prospect = Arc::new(drawing.await.ok()?);
    let before = drawn.get(&first.division).and_then(|it| it.prospect.past_year());
    if let Some(sums) = prospect.past_year().filter(|sums| before != Some(sums)) {
        log_purchases(watch, &ids, &balance, sums);
    }
    let (rules, spending, kept) = (Arc::clone(&watch.rules), library.spending.clone(), Arc::clone(&prospect));
    drawn.insert(first.division, Drawn { balance, parts, rules, spending, hour, prospect: kept });
    Some(prospect)
}

/// How much of the past year's purchases was what, of the divisions that share a fund.
fn log_purchases(watch: &Watch, divisions: &[Division], balance: &Balance, sums: &PurchaseSums) {
    let currency = balance.currency.as_ref().ok().copied();
    tracing::debug!(
        account = %watch.account,
        division = divisions.first().copied().flatten(),
        divisions = divisions.len(),
        currency = currency.map(tracing::field::display),
        renewals = sums.renewals.count,
        renewals_amount = plain(sums.renewals.amount, currency),
        new_orders = sums.new_orders.count,
        new_orders_amount = plain(sums.new_orders.amount, currency),
        other = sums.other.count,
        other_amount = plain(sums.other.amount, currency),
        refunded = sums.refunded,
        paid_elsewhere = sums.paid_elsewhere.count,
        paid_elsewhere_amount = plain(sums.paid_elsewhere.amount, currency),
        "purchases of the past year"
    );
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
    let when = |books: &Books| (books.ledger_read, books.orders_read);
    ledgers && orders && when(one) == when(other) && one.ends == other.ends
}

fn watching<'w>(watch: &'w Watch, read: &Read) -> impl Iterator<Item = &'w Rule> {
    let (account, division) = (&watch.account, read.division);
    watch.rules.iter().filter(move |rule| rule.watches(account, division))
}

/// Whether a message about funds may come of this reading, so that what lies ahead is worth the drawing.
fn has_news(state: &State, watch: &Watch, read: &Read, now: Time) -> bool {
    watching(watch, read).filter(|rule| is_told(rule) && !rule.metric.looks_ahead()).any(|rule| {
        let known = remembered(state, watch, read, rule);
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
    if !matches!(rule.metric, Metric::AvailableFunds | Metric::Balance) {
        return false;
    }
    let Reading::Amount(money) = balance.reading(rule.metric) else { return false };
    rule.levels().filter(|level| level.side() == Side::Below).any(|level| {
        let bound = level.clear_at().amount().map_or(Decimal::ZERO, |amount| amount.value);
        money.amount <= bound.max(Decimal::ZERO).checked_add(bound).unwrap_or(Decimal::MAX)
    })
}
