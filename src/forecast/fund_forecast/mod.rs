//! What is known ahead of one fund at one reading: the readings of the metrics that look ahead, and what messages say.
//!
//! The futures are drawn once, for what the rules that watch the fund ask; then they are forgotten, and the answers stay.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use rust_decimal::Decimal;

use super::payments::UsualPayments;
use super::renewals::{is_open, renewed_since};
use super::{Confidence, Forecast, PurchaseSums, Purchases, RenewalsSum, Spending};
use super::{deposit, expiring, past, renewals_due, shortfall, sparkline, spend};
use crate::alerting::evaluate::{Blind, Verdict, evaluate};
use crate::domain::Time;
use crate::domain::alert::{Alert, transition};
use crate::domain::balance::{Balance, Outlook, Reading, Unreadable};
use crate::domain::forecast::{Ahead, Band, Chart, RenewalsDue, Runway};
use crate::domain::history::{Books, Gap, Ledger, Order};
use crate::domain::money::{Currency, Money};
use crate::domain::rule::{Bound, Level, Metric, Rule, Severity, Side};

/// A message says what has to be paid, and what to deposit, for so many days.
const MESSAGE_DAYS: u32 = 30;
/// The picture shows so many days that were, and so many to come.
const PAST_DAYS: u32 = 56;
const FUTURE_DAYS: u32 = 45;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// A ledger older than this does not say what was bought until now; it is read hourly.
const SPEND_KEEPS: TimeDelta = TimeDelta::hours(2);

/// Whether a deposit ends this rule's alert.
fn ends_by_deposit(rule: &Rule) -> bool {
    let bad = match rule.metric {
        Metric::AvailableFunds | Metric::Balance | Metric::Runway => Side::Below,
        Metric::Shortfall => Side::Above,
        _ => return false,
    };
    rule.levels().any(|level| level.side() == bad)
}

/// What is known ahead of one fund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prospect {
    now: Time,
    currency: Result<Currency, Unreadable>,
    funds: Reading,
    balance: Reading,
    books: Books,
    spending: Spending,
    futures: Result<Futures, Reading>,
    /// `None` where the ledger or the orders are not known, or nothing was drawn.
    learnt: Option<Learnt>,
    /// Ends every alert of this reading: of the rules that are breached, and those that [`Prospect::with_alerts`] added.
    deposit: Option<Deposit>,
    /// Readings that were made before.
    read: Vec<(Asked, Reading)>,
}

/// What a reading depends on, beside the books.
type Asked = (Metric, Option<Duration>, Confidence);

fn asked(rule: &Rule) -> Asked {
    (rule.metric, rule.within(), rule.confidence)
}

/// The amount to deposit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Deposit {
    amount: Decimal,
    /// The renewals that it pays for at their whole price, where only they make it so large.
    in_full: Option<RenewalsSum>,
}

impl Deposit {
    /// The larger one; of two that are equal, the one that does not depend on who pays for renewals.
    fn max(self, other: Self) -> Self {
        let key = |it: &Self| (it.amount, it.in_full.is_none());
        if key(&other) > key(&self) { other } else { self }
    }
}

/// What the past tells of purchases, each known for what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Learnt {
    past_year: PurchaseSums,
    payments: UsualPayments,
}

/// What the futures say together, for each confidence that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Futures {
    /// The usual cost of a purchase.
    usual: Decimal,
    runways: BTreeMap<Confidence, (Runway, Option<Duration>)>,
    bands: BTreeMap<Confidence, Vec<Band>>,
    /// The most that is spent in so many days.
    spent: BTreeMap<(Confidence, u32), Decimal>,
}

/// Whether a message about this rule's alert says what lies ahead.
pub fn is_told(rule: &Rule) -> bool {
    rule.metric.looks_ahead() || matches!(rule.metric, Metric::AvailableFunds | Metric::Balance)
}

impl Prospect {
    /// Draws what these books and this balance say at `now`, for these rules. Those that are breached count as alerts that the
    /// deposit has to end.
    pub fn new<'r>(
        balance: &Balance,
        books: Books,
        spending: &Spending,
        rules: impl IntoIterator<Item = &'r Rule>,
        now: Time,
    ) -> Self {
        let rules: Vec<&Rule> = rules.into_iter().collect();
        let (funds, of_balance) = (balance.reading(Metric::AvailableFunds), balance.reading(Metric::Balance));
        let currency = balance
            .currency
            .clone()
            .map_err(|problem| Unreadable { outlook: Outlook::MayHeal, reason: problem.to_string() });
        let books = up_to_date(books, spending);
        let (spending, futures) = (spending.clone(), Err(Reading::Unlimited));
        let mut prospect = Self {
            now,
            currency,
            funds,
            balance: of_balance,
            books,
            spending,
            futures,
            learnt: None,
            deposit: None,
            read: Vec::new(),
        };
        (prospect.futures, prospect.learnt) = prospect.draw(&rules);
        let breached = rules.iter().filter(|rule| prospect.is_breached(rule));
        prospect.deposit = breached.filter_map(|rule| prospect.deposit(rule)).reduce(Deposit::max);
        prospect
    }

    /// The purchases of the past year by what they bought; `None` where they cannot be told apart, or nothing was drawn.
    pub fn past_year(&self) -> Option<&PurchaseSums> {
        self.learnt.as_ref().map(|learnt| &learnt.past_year)
    }

    fn is_breached(&self, rule: &Rule) -> bool {
        self.evaluated(rule).is_ok_and(|verdict| verdict.breached().is_some())
    }

    fn evaluated(&self, rule: &Rule) -> Result<Verdict, Blind> {
        match rule.metric {
            Metric::AvailableFunds => evaluate(rule, &self.funds),
            Metric::Balance => evaluate(rule, &self.balance),
            _ => evaluate(rule, &self.reading(rule)),
        }
    }

    /// Adds alerts that fire, of the rules that this was drawn for, to those that the deposit ends: beyond its threshold, an
    /// alert goes on up to `clear_at`, and while it cannot be evaluated.
    #[must_use]
    pub fn with_alerts<'a>(self: Arc<Self>, alerts: impl IntoIterator<Item = (&'a Rule, Vec<&'a Alert>)>) -> Arc<Self> {
        let goes_on = |rule: &Rule, alerts: Vec<&Alert>| match self.evaluated(rule) {
            // Counted already.
            Ok(verdict) if verdict.breached().is_some() => false,
            Ok(verdict) => {
                alerts.iter().any(|alert| transition(alert, &verdict, |_| None, self.now).0.firing().is_some())
            }
            Err(_) => alerts.iter().any(|alert| alert.firing().is_some()),
        };
        let ended = alerts.into_iter().filter(|(rule, _)| ends_by_deposit(rule));
        let going_on = ended.filter_map(|(rule, alerts)| goes_on(rule, alerts).then_some(rule));
        let deposits = going_on.filter_map(|rule| self.deposit(rule)).chain(self.deposit.clone());
        let deposit = deposits.reduce(Deposit::max);
        if deposit == self.deposit { self } else { Arc::new(Self { deposit, ..(*self).clone() }) }
    }

    /// Answers with these readings where one of these rules is asked about, whatever its own books say: for a replay, in
    /// which each rule has the reading of its own last look.
    #[must_use]
    pub fn with_readings<'r>(self, readings: impl IntoIterator<Item = (&'r Rule, Reading)>) -> Self {
        Self { read: readings.into_iter().map(|(rule, reading)| (asked(rule), reading)).collect(), ..self }
    }

    /// The reading of a metric that looks ahead; of the others, what the balance says of the funds is not asked here.
    pub fn reading(&self, rule: &Rule) -> Reading {
        if let Some((_, reading)) = self.read.iter().find(|(known, _)| *known == asked(rule)) {
            return reading.clone();
        }
        let found = match rule.metric {
            Metric::Runway => return self.runway(rule.confidence),
            Metric::Shortfall if self.funds == Reading::Unlimited => Ok(Decimal::ZERO),
            Metric::Shortfall => self.shortfall(rule),
            Metric::Spend => self.fresh_ledger().map(|it| spend(it, &self.spending, self.now, within(rule))),
            Metric::ExpiringFunds => self.ledger().map(|it| expiring(it, &self.spending, self.now, within(rule))),
            Metric::RenewalsDue => self.renewals(within(rule)).map(|sum| sum.amount),
            Metric::AvailableFunds | Metric::Balance | Metric::UnpaidInvoices | Metric::UsedCredit => {
                return Reading::NotYetKnown("this is read from the balance".to_owned());
            }
        };
        match (found, &self.currency) {
            (Ok(amount), Ok(currency)) => Reading::Amount(Money::new(amount, *currency)),
            (Err(reading), _) => reading,
            (Ok(_), Err(why)) => Reading::Unreadable(why.clone()),
        }
    }

    /// What a message about this rule's alert says of the days to come.
    pub fn ahead(&self, rule: &Rule) -> Option<Ahead> {
        if !is_told(rule) {
            return None;
        }
        let runway = self.told_runway(rule.confidence)?;
        let money = |amount| Some(Money::new(amount, *self.currency.as_ref().ok()?));
        let due = |sum: RenewalsSum| {
            Some(RenewalsDue { count: sum.count, amount: money(sum.amount)?, from_balance: sum.from_balance })
        };
        // One number for all that is wrong with a fund: two would be added up, or the smaller one believed.
        let deposit = self.deposit(rule).into_iter().chain(self.deposit.clone()).reduce(Deposit::max);
        let deposit = deposit.filter(|_| ends_by_deposit(rule));
        let spark = self.available().zip(self.ledger().ok()).map(|(funds, ledger)| sparkline(ledger, funds, self.now));
        let usual = self.futures.as_ref().ok().map(|futures| futures.usual).filter(|usual| *usual > Decimal::ZERO);
        Some(Ahead {
            typical_order: usual.filter(|_| runway == Runway::Over).and_then(money),
            runway,
            deposit: deposit.as_ref().and_then(|deposit| money(deposit.amount)),
            paid_in_full: deposit.and_then(|deposit| deposit.in_full).and_then(due),
            renewals: self.renewals(DAY * MESSAGE_DAYS).ok().and_then(due),
            spark: spark.unwrap_or_default(),
        })
    }

    /// How long the funds last, as text and picture of a message tell it.
    fn told_runway(&self, confidence: Confidence) -> Option<Runway> {
        Some(match (&self.futures, &self.funds) {
            (_, Reading::Unlimited) => Runway::Endless,
            (_, Reading::Amount(money)) if money.amount <= Decimal::ZERO => Runway::Over,
            (Ok(futures), _) => futures.runways.get(&confidence)?.0.clone(),
            (Err(Reading::NotYetKnown(why) | Reading::NotYetRead(why)), _) => Runway::NotYetKnown(why.clone()),
            (Err(Reading::Unreadable(_)), _) => {
                Runway::NotYetKnown("the account's ledger or orders cannot be read".to_owned())
            }
            (Err(_), _) => return None,
        })
    }

    /// The picture for a message about this rule's alert; `None` where the ledger or the funds are not known.
    pub fn chart(&self, rule: &Rule) -> Option<Chart> {
        let (funds, ledger) = self.available().zip(self.ledger().ok())?;
        if !is_told(rule) {
            return None;
        }
        let lines = [Severity::Warning, Severity::Critical].into_iter().filter_map(|severity| {
            let level = rule.level(severity).filter(|_| rule.metric == Metric::AvailableFunds)?;
            let level = Some(level).filter(|level| self.compares_with(level))?;
            Some((severity, level.threshold().amount()?.value))
        });
        let bands = self.futures.as_ref().ok().and_then(|futures| futures.bands.get(&rule.confidence));
        Some(Chart {
            currency: *self.currency.as_ref().ok()?,
            now: self.now,
            past: past(ledger, funds, self.now, PAST_DAYS),
            thresholds: lines.collect(),
            renewals: self.orders().map(|orders| self.renewals_by_day(orders)).unwrap_or_default(),
            runway: self.told_runway(rule.confidence)?,
            future: bands.cloned().unwrap_or_default(),
            percent: rule.confidence.percent(),
        })
    }

    fn runway(&self, confidence: Confidence) -> Reading {
        match (&self.funds, &self.futures) {
            (Reading::Unlimited, _) => Reading::Unlimited,
            (Reading::Unreadable(why), _) => Reading::Unreadable(why.clone()),
            (Reading::Amount(money), _) if money.amount <= Decimal::ZERO => Reading::Time(Duration::ZERO),
            (_, Err(reading)) => reading.clone(),
            (_, Ok(futures)) => match futures.runways.get(&confidence) {
                Some((_, Some(lasts))) => Reading::Time(*lasts),
                Some((_, None)) => Reading::Unlimited,
                None => Reading::NotYetKnown("the forecast was made for other rules".to_owned()),
            },
        }
    }

    fn shortfall(&self, rule: &Rule) -> Result<Decimal, Reading> {
        let Some(available) = self.available() else { return Err(self.funds.clone()) };
        Ok(shortfall(&self.renewals(within(rule))?, available))
    }

    fn available(&self) -> Option<Decimal> {
        match &self.funds {
            Reading::Amount(money) => Some(money.amount),
            _ => None,
        }
    }

    /// The ledger, if every amount in it is in the currency of the balance.
    fn ledger(&self) -> Result<&Ledger, Reading> {
        let ledger = self.books.ledger.as_deref().map_err(|gap| missing(gap, "ledger"))?;
        let Ok(currency) = &self.currency else { return Ok(ledger) };
        let other = ledger.entries().iter().find_map(|entry| entry.currency.filter(|it| it != currency));
        match other {
            None => Ok(ledger),
            Some(other) => Err(Reading::Unreadable(Unreadable {
                outlook: Outlook::NeedsAction,
                reason: format!(
                    "the ledger has amounts in {other}, but the balance is in {currency}: no forecast can add them up; \
                     leave this account out of the rules that look ahead (`accounts` of the rule)"
                ),
            })),
        }
    }

    /// The ledger, if it is young enough to say what was bought until now: in an old one the newest purchases are missing,
    /// and an alert about them would seem over.
    fn fresh_ledger(&self) -> Result<&Ledger, Reading> {
        let stale = self.books.ledger_read.filter(|read| self.now - *read > SPEND_KEEPS);
        match stale {
            None => self.ledger(),
            Some(read) => Err(Reading::Unreadable(Unreadable {
                outlook: Outlook::MayHeal,
                reason: format!(
                    "the ledger was last read {}: what was bought since is not known",
                    read.format("%Y-%m-%d %H:%M UTC")
                ),
            })),
        }
    }

    fn orders(&self) -> Result<&[Order], Reading> {
        self.books.orders.as_deref().map_err(|gap| missing(gap, "list of orders"))
    }

    fn renewals(&self, within: Duration) -> Result<RenewalsSum, Reading> {
        let share = |place| self.learnt.as_ref()?.payments.share_from_balance(place);
        let sum = renewals_due(self.orders()?, self.now, within, share);
        if sum.in_doubt.is_empty() {
            return Ok(sum);
        }
        // Whoever reads the orders has asked for these, too: it failed.
        let many = sum.in_doubt.len();
        let what = format!("{many} orders may end in these days, but the details that say when could not be read");
        Err(Reading::Unreadable(match &self.books.ends {
            Some(why) => Unreadable { outlook: why.outlook, reason: format!("{what}: {}", why.reason) },
            None => Unreadable { outlook: Outlook::MayHeal, reason: what },
        }))
    }

    fn renewals_by_day(&self, orders: &[Order]) -> Vec<(Time, Decimal)> {
        let mut days: BTreeMap<Time, Decimal> = BTreeMap::new();
        let (today, last) = (self.now.date_naive(), (self.now + DAY * FUTURE_DAYS).date_naive());
        for order in orders.iter().filter(|order| is_open(order, today)) {
            let day = order.ends().filter(|day| (today..=last).contains(day));
            if let Some(at) = day.and_then(|day| day.and_hms_opt(12, 0, 0)) {
                *days.entry(at.and_utc().max(self.now)).or_default() += order.price;
            }
        }
        days.into_iter().collect()
    }

    /// The one number that finance needs: what resolves the alert for good, and pays for the next 30 days. A rule that does
    /// not measure funds has none.
    fn deposit(&self, rule: &Rule) -> Option<Deposit> {
        let (available, futures) = (self.available()?, self.futures.as_ref().ok()?);
        let level = milder(rule, |level| self.compares_with(level))?;
        let safe = level.clear_at().amount().filter(|_| level.side() == Side::Below).map(|amount| amount.value);
        let keep = match rule.metric {
            Metric::AvailableFunds => safe?,
            // The balance is that much less (or more) than what is available.
            Metric::Balance => match &self.balance {
                Reading::Amount(balance) => safe?.checked_add(available.checked_sub(balance.amount)?)?,
                _ => return None,
            },
            Metric::Runway | Metric::Shortfall => Decimal::ZERO,
            _ => return None,
        };
        let spent = *futures.spent.get(&(rule.confidence, days_of(rule)))?;
        let usual = deposit(keep, available, spent).map(|amount| Deposit { amount, in_full: None });
        let in_full = self.deposit_in_full(rule, available).filter(|_| rule.metric == Metric::Shortfall);
        usual.into_iter().chain(in_full).reduce(Deposit::max)
    }

    /// A shortfall counts renewals at their whole price, also what is usually paid from elsewhere.
    fn deposit_in_full(&self, rule: &Rule, available: Decimal) -> Option<Deposit> {
        let renewals = self.renewals(within(rule)).ok()?;
        let amount = shortfall(&renewals, available).ceil();
        (amount > Decimal::ZERO).then_some(Deposit { amount, in_full: Some(renewals) })
    }

    /// Whether a level's amounts are in the currency of the funds.
    fn compares_with(&self, level: &Level) -> bool {
        self.currency.as_ref().is_ok_and(|currency| level.compares_with(*currency))
    }

    /// Everything that the rules, and the messages about their alerts, want to know of the futures, and what was learnt for
    /// it.
    fn draw(&self, rules: &[&Rule]) -> (Result<Futures, Reading>, Option<Learnt>) {
        let rules: Vec<&Rule> = rules.iter().copied().filter(|rule| is_told(rule)).collect();
        if rules.is_empty() {
            return (Ok(Futures::default()), None);
        }
        let orders = self.orders().ok();
        let purchases = self.ledger().map(|ledger| Purchases::read(ledger, orders, &self.spending, self.now));
        let known = purchases.as_ref().ok().filter(|_| orders.is_some());
        let learnt = known.map(|it| Learnt { past_year: it.past_year(), payments: UsualPayments::read(it) });
        (self.futures(&rules, purchases), learnt)
    }

    fn futures(&self, rules: &[&Rule], purchases: Result<Purchases<'_>, Reading>) -> Result<Futures, Reading> {
        let Some(available) = self.available() else { return Err(self.funds.clone()) };
        // Without the known renewals funds would seem to last longer than they do. Only where somebody has to act before
        // the orders can be read is that better than nothing.
        match self.orders() {
            Ok(_) => {}
            Err(Reading::Unreadable(why)) if why.outlook == Outlook::NeedsAction => {}
            Err(reading) => return Err(reading),
        }
        let purchases = purchases?;
        let forecast = Forecast::of(&purchases, available).map_err(|why| Reading::NotYetKnown(why.to_string()))?;
        let mut futures = Futures { usual: purchases.usual(), ..Futures::default() };
        for rule in rules {
            let (confidence, days) = (rule.confidence, days_of(rule));
            let runway = || (forecast.runway(confidence), forecast.runway_early(confidence));
            futures.runways.entry(confidence).or_insert_with(runway);
            futures.bands.entry(confidence).or_insert_with(|| forecast.bands(FUTURE_DAYS, confidence));
            futures.spent.entry((confidence, days)).or_insert_with(|| forecast.spend_over(days, confidence));
        }
        Ok(futures)
    }
}

/// The books, with what the ledger knows already and the older listing of orders does not.
fn up_to_date(mut books: Books, spending: &Spending) -> Books {
    if let (Ok(orders), Ok(ledger), Some(listed)) = (&books.orders, &books.ledger, books.orders_read) {
        let renewed = renewed_since(orders, ledger, spending, listed);
        if !renewed.is_empty() {
            let seen = |order: &Order| Order { renewed: order.renewed || renewed.contains(&order.id), ..order.clone() };
            books.orders = Ok(orders.iter().map(seen).collect());
        }
    }
    books
}

/// The level that clears last, of those that count.
fn milder(rule: &Rule, counts: impl Fn(&Level) -> bool) -> Option<&Level> {
    rule.levels().find(|level| counts(level))
}

/// How many days the deposit for an alert of this rule has to last.
fn days_of(rule: &Rule) -> u32 {
    let lasts = match (rule.metric, milder(rule, |_| true).map(Level::clear_at)) {
        (Metric::Runway, Some(Bound::Time { lasts })) => lasts,
        _ => rule.within().filter(|_| rule.metric == Metric::Shortfall).unwrap_or_default(),
    };
    u32::try_from(lasts.as_secs().div_ceil(DAY.as_secs())).unwrap_or(u32::MAX).max(MESSAGE_DAYS)
}

fn within(rule: &Rule) -> Duration {
    rule.within().unwrap_or_default()
}

fn missing(gap: &Gap, what: &str) -> Reading {
    match gap {
        Gap::NotYetRead => Reading::NotYetRead(format!("the {what} is still being read")),
        Gap::Unreadable(why) => Reading::Unreadable(why.clone()),
    }
}

#[cfg(test)]
mod tests;
