//! What a rehearsal found, as data: the JSON of `backtest` is exactly this, and text and page are drawn from it.
//!
//! Times are RFC 3339 in UTC, amounts exact decimals as strings in the fund's currency, durations whole seconds.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use rust_decimal::Decimal;
use serde::{Serialize, Serializer};

use super::{Mail, Options, orders_problem};
use crate::backtest::{
    CRITICAL_DAYS, Drought, Fund, Happened, Life, Part, Past, Rehearsed, Script, WARNING_DAYS, crossings, droughts,
    gap, suggest,
};
use crate::cli::output::threshold::Threshold;
use crate::config::{Channel, Config};
use crate::domain::alert::Kind;
use crate::domain::balance::Reading;
use crate::domain::event::Value;
use crate::domain::history::Ledger;
use crate::domain::money::{Currency, Money, plain};
use crate::domain::rule::{Metric, Rule, Severity};
use crate::domain::{Division, Name, Time};
use crate::forecast::{PurchaseSum, Purchases, usual_purchase};
use crate::polling::poller;
use crate::polling::poller::Read;

/// An amount in the currency of its fund; in the JSON a string with the decimals of that currency.
#[derive(Clone, Copy)]
pub(super) struct Sum {
    pub(super) amount: Decimal,
    currency: Option<Currency>,
}

impl Serialize for Sum {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&plain(self.amount, self.currency))
    }
}

/// Everything that was found.
#[derive(Serialize)]
pub(super) struct Report {
    /// Days that were asked for.
    pub(super) days: u16,
    pub(super) accounts: Vec<AccountReport>,
    /// What each notifier would have been sent, of all accounts.
    pub(super) messages: Vec<Mailed>,
    /// What the result takes for granted.
    pub(super) assumed: Vec<&'static str>,
}

#[derive(Serialize)]
pub(super) struct Mailed {
    pub(super) notifier: Name,
    /// Messages; for notifiers that send one request an alert, requests.
    pub(super) messages: u64,
    pub(super) events: u64,
}

#[derive(Serialize)]
pub(super) struct AccountReport {
    pub(super) account: Name,
    pub(super) schedule: String,
    /// The first step; `null` where there was nothing to rehearse.
    pub(super) from: Option<Time>,
    /// The present.
    pub(super) to: Option<Time>,
    /// The first line of the ledger.
    pub(super) ledger_from: Option<Time>,
    pub(super) notes: Vec<String>,
    /// What could not be read.
    pub(super) failures: Vec<String>,
    pub(super) funds: Vec<FundReport>,
    /// It has no such division as was asked for.
    #[serde(skip)]
    pub(super) lacks_division: bool,
    #[serde(skip)]
    told: Mail,
}

#[derive(Serialize)]
pub(super) struct FundReport {
    pub(super) division: Division,
    pub(super) division_name: Option<String>,
    pub(super) currency: Option<String>,
    /// Available funds now; `null` where they are unlimited or unreadable.
    pub(super) available: Option<Money>,
    pub(super) unlimited: bool,
    /// What a purchase usually costs.
    pub(super) usual_purchase: Sum,
    pub(super) purchases: PurchasesReport,
    pub(super) rules: Vec<RuleReport>,
    /// When there was nothing left to buy with.
    pub(super) ran_out: Vec<RanOut>,
    /// `null` unless it was asked for.
    pub(super) suggestion: Option<Suggestion>,
    /// Available funds at the start and after each change, for the chart.
    #[serde(skip)]
    pub(super) path: Vec<(Time, Decimal)>,
}

/// The purchases of the past year by what they bought; every sum is `null` where they cannot be told apart.
#[derive(Serialize)]
pub(super) struct PurchasesReport {
    pub(super) renewals: Option<SumReport>,
    pub(super) new_orders: Option<SumReport>,
    pub(super) other: Option<SumReport>,
    /// Purchases that were taken back.
    pub(super) refunded: Option<usize>,
    /// Orders that were paid by card or on an invoice.
    pub(super) paid_elsewhere: Option<SumReport>,
    /// Why they cannot be told apart.
    pub(super) reason: Option<String>,
}

#[derive(Serialize)]
pub(super) struct SumReport {
    pub(super) count: usize,
    pub(super) amount: Sum,
    pub(super) currency: Option<Currency>,
}

#[derive(Serialize)]
pub(super) struct RuleReport {
    pub(super) rule: Name,
    pub(super) metric: &'static str,
    pub(super) warning: Option<Threshold>,
    pub(super) critical: Option<Threshold>,
    /// Why it cannot be rehearsed.
    pub(super) skipped: Option<String>,
    pub(super) alerts: Vec<AlertReport>,
    /// Its thresholds, where they are amounts of available funds.
    #[serde(skip)]
    pub(super) lines: Vec<(Severity, Decimal)>,
    #[serde(skip)]
    warns_of_funds: bool,
}

#[derive(Serialize)]
pub(super) struct AlertReport {
    pub(super) raised: Time,
    /// `null`: it still fires at the end.
    pub(super) resolved: Option<Time>,
    pub(super) lasted_seconds: i64,
    /// It fired at the first step already: it may have begun long before.
    pub(super) began_before: bool,
    pub(super) events: Vec<EventReport>,
}

#[derive(Serialize)]
pub(super) struct EventReport {
    pub(super) at: Time,
    pub(super) event: &'static str,
    pub(super) level: Severity,
    pub(super) amount: Option<Sum>,
    pub(super) currency: Option<Currency>,
    /// A runway.
    pub(super) seconds: Option<u64>,
    pub(super) unlimited: bool,
    pub(super) told: Vec<Name>,
}

#[derive(Serialize)]
pub(super) struct RanOut {
    pub(super) from: Time,
    pub(super) until: Option<Time>,
    pub(super) lowest: Sum,
    /// The rules that told of it, the earliest first.
    pub(super) warned: Vec<Warned>,
}

#[derive(Serialize)]
pub(super) struct Warned {
    pub(super) rule: Name,
    pub(super) at: Time,
    /// Below 0: so long after.
    pub(super) seconds_before: i64,
}

#[derive(Serialize)]
pub(super) struct Suggestion {
    pub(super) warning: Option<Sum>,
    pub(super) critical: Option<Sum>,
    pub(super) spent_in_14_days: Option<Sum>,
    pub(super) spent_in_5_days: Option<Sum>,
    pub(super) days: Option<i64>,
    /// Why nothing is proposed.
    pub(super) reason: Option<String>,
    /// What each threshold was worth over the whole ledger.
    pub(super) compared: Vec<Compared>,
}

#[derive(Serialize)]
pub(super) struct Compared {
    /// `proposed`, or the rule's name.
    pub(super) rule: Name,
    pub(super) level: Severity,
    pub(super) below: Sum,
    /// The notice that this level is to give.
    pub(super) wanted_days: i64,
    /// How often funds fell below it.
    pub(super) fell: usize,
    /// How often what was left would have lasted so long.
    pub(super) in_time: usize,
    pub(super) too_late: usize,
    /// The present is too near to tell.
    pub(super) not_yet_known: usize,
    /// The shortest notice that is known.
    pub(super) shortest_seconds: Option<i64>,
}

impl Report {
    pub(super) fn new(config: &Config, options: &Options) -> Self {
        let mut assumed = vec![
            "Past funds are those of today with each later line of the ledger taken back. Credit limit, unpaid invoices and \
             credit used by other divisions are taken as they are today, because CertCentral keeps no history of them.",
            "As if the service had been started on the first day with nothing to remember, and had read everything on time \
             since. Quiet hours, silences and failures of notifiers are not replayed. The ledger's times are taken as UTC.",
            "Funds count as run out where nothing is left, or less than a usual purchase (the median of the last year): an \
             order that could not be paid leaves no line.",
        ];
        let asked = |rule: &&Rule| super::is_asked(options, rule);
        if config.rules.iter().filter(asked).any(|rule| rule.metric.looks_ahead()) {
            assumed.push(
                "Rules that look ahead see the ledger and the orders as they were at the last full hour after a change, or at \
                 the start of the UTC day. An order counts as renewed from the time at which its renewal was \
                 bought; an order whose renewal is neither listed nor found in the ledger is left out.",
            );
        }
        Self { days: options.days, accounts: Vec::new(), messages: Vec::new(), assumed }
    }

    /// Adds up what each notifier would have been sent.
    pub(super) fn sum_up(&mut self, config: &Config) {
        let asked: Vec<&Mail> = self.accounts.iter().map(|account| &account.told).collect();
        for (name, notifier) in &config.notifiers {
            let per_alert = matches!(notifier.channel, Channel::Webhook { .. } | Channel::PagerDuty { .. });
            let told = asked.iter().filter_map(|mail| mail.get(name));
            let (messages, events) =
                told.fold((0, 0), |(messages, events), told| (messages + told.messages, events + told.events));
            let messages = if per_alert { events } else { messages };
            self.messages.push(Mailed { notifier: name.clone(), messages, events });
        }
    }

    /// What could not be read, with whose it is.
    pub(super) fn failures(&self) -> impl Iterator<Item = String> {
        self.accounts.iter().flat_map(|account| {
            account.failures.iter().map(|why| crate::util::text::clean(&format!("account {}: {why}", account.account)))
        })
    }
}

impl AccountReport {
    pub(super) fn new(account: Name, schedule: String) -> Self {
        Self {
            account,
            schedule,
            from: None,
            to: None,
            ledger_from: None,
            notes: Vec::new(),
            failures: Vec::new(),
            funds: Vec::new(),
            lacks_division: false,
            told: BTreeMap::new(),
        }
    }

    pub(super) fn fail(&mut self, read: &Read, why: &str) {
        self.failures.push(match read.division {
            Some(id) => format!("division {}: {why}", super::super::status::division(Some(id), read.name.as_deref())),
            None => why.to_owned(),
        });
    }

    /// The ledger has no line.
    pub(super) fn nothing(&mut self) {
        self.failures.push(
            "there is nothing to rehearse: CertCentral's balance history has no line of the last 400 days".to_owned(),
        );
    }

    /// Takes what the replay found.
    pub(super) fn tell(
        &mut self,
        script: &Script<'_>,
        rehearsed: Rehearsed,
        first: Time,
        options: &Options,
        twins: Option<Vec<u64>>,
    ) {
        (self.from, self.to, self.ledger_from) = (Some(script.from), Some(script.to), Some(first));
        self.told = rehearsed.told;
        if first > script.to - TimeDelta::days(i64::from(options.days)) {
            let days = (script.to - first).num_days();
            self.notes.push(format!("the ledger reaches back {}, so the rehearsal does, too", count_days(days)));
        }
        if let Some(twins) = twins {
            self.notes.push(format!(
                "{} {}; each is replayed with the ledgers of all of them",
                twins.len(),
                poller::SHARED_FUND
            ));
        }
        let mut parts = rehearsed.parts;
        for fund in script.funds {
            let (own, others): (Vec<Part>, Vec<Part>) =
                parts.into_iter().partition(|part| part.division == fund.division);
            parts = others;
            self.notes.extend(off_by(fund));
            self.funds.push(FundReport::new(script, fund, own, options));
        }
    }
}

fn count_days(days: i64) -> String {
    if days == 1 { "1 day".to_owned() } else { format!("{days} days") }
}

/// A ledger that does not end where the balance is.
fn off_by(fund: &Fund) -> Option<String> {
    let ledger = fund.books.ledger.as_ref().ok()?;
    let off = gap(&fund.balance, ledger.entries().last()?)?;
    let currency = fund.balance.currency.clone().ok()?;
    let whose = fund.division.map_or_else(String::new, |id| format!("division {id}: "));
    let off = Money::new(off, currency);
    Some(format!("{whose}the ledger's last line leaves {off} less than the balance: past funds may be off by so much"))
}

impl FundReport {
    fn new(script: &Script<'_>, fund: &Fund, parts: Vec<Part>, options: &Options) -> Self {
        let none = Ledger::default();
        let ledger = fund.books.ledger.as_deref().unwrap_or(&none);
        let past = Past::new(&fund.balance, ledger);
        let path = past.path(script.from, script.to);
        let usual = usual_purchase(ledger, script.spending, script.to);
        let reading = fund.balance.reading(Metric::AvailableFunds);
        let rule = |part: Part| {
            let rule = script.rules.iter().find(|rule| rule.name == part.rule)?;
            Some(RuleReport::new(rule, part, script))
        };
        let rules: Vec<RuleReport> = parts.into_iter().filter_map(rule).collect();
        let currency = fund.balance.currency.as_ref().ok().copied();
        let sum = |amount| Sum { amount, currency };
        let droughts = droughts(&path, usual);
        let ran_out = droughts.iter().map(|it| RanOut::new(it, &rules, script.to, sum(it.lowest))).collect();
        let whole = ledger.entries().first().map(|first| past.path(first.at, script.to)).unwrap_or_default();
        let suggestion = (options.suggest && !whole.is_empty())
            .then(|| Suggestion::new(script, (ledger, currency), &whole, usual, &rules));
        Self {
            division: fund.division,
            division_name: fund.name.clone(),
            currency: currency.map(|currency| currency.to_string()),
            available: if let Reading::Amount(money) = reading { Some(money) } else { None },
            unlimited: reading == Reading::Unlimited,
            usual_purchase: sum(usual),
            purchases: PurchasesReport::new(fund, script),
            rules,
            ran_out,
            suggestion,
            path,
        }
    }
}

impl PurchasesReport {
    fn new(fund: &Fund, script: &Script<'_>) -> Self {
        let (Ok(ledger), Ok(orders)) = (&fund.books.ledger, &fund.books.orders) else {
            let reason = orders_problem(&fund.books);
            return Self {
                renewals: None,
                new_orders: None,
                other: None,
                refunded: None,
                paid_elsewhere: None,
                reason,
            };
        };
        let sums = Purchases::read(ledger, Some(orders), script.spending, script.to).past_year();
        let currency = fund.balance.currency.as_ref().ok().copied();
        let sum = |sum: PurchaseSum| {
            let amount = Sum { amount: sum.amount, currency };
            Some(SumReport { count: sum.count, amount, currency })
        };
        Self {
            renewals: sum(sums.renewals),
            new_orders: sum(sums.new_orders),
            other: sum(sums.other),
            refunded: Some(sums.refunded),
            paid_elsewhere: sum(sums.paid_elsewhere),
            reason: None,
        }
    }
}

impl RuleReport {
    fn new(rule: &Rule, part: Part, script: &Script<'_>) -> Self {
        let line = |severity| {
            let level = rule.level(severity).filter(|_| rule.metric == Metric::AvailableFunds)?;
            Some((severity, level.threshold().amount()?.value))
        };
        let (lives, skipped) = match part.lives {
            Ok(lives) => (lives, None),
            Err(why) => (Vec::new(), Some(why.to_string())),
        };
        Self {
            rule: rule.name.clone(),
            metric: rule.metric.name(),
            warning: Threshold::of(rule, Severity::Warning),
            critical: Threshold::of(rule, Severity::Critical),
            skipped,
            alerts: lives.iter().filter_map(|life| AlertReport::new(life, script)).collect(),
            lines: [Severity::Warning, Severity::Critical].into_iter().filter_map(line).collect(),
            warns_of_funds: matches!(
                rule.metric,
                Metric::AvailableFunds | Metric::Balance | Metric::Runway | Metric::Shortfall
            ),
        }
    }
}

impl AlertReport {
    fn new(life: &Life, script: &Script<'_>) -> Option<Self> {
        let (raised, resolved) = (life.raised()?, life.resolved());
        Some(Self {
            raised,
            resolved,
            lasted_seconds: (resolved.unwrap_or(script.to) - raised).num_seconds(),
            began_before: raised == script.from,
            events: life.events.iter().map(EventReport::new).collect(),
        })
    }
}

impl EventReport {
    fn new(happened: &Happened) -> Self {
        let (money, seconds, unlimited) = match happened.value {
            Value::Amount(money) => (Some(money), None, false),
            Value::Time(lasts) => (None, Some(lasts.as_secs()), false),
            Value::Unlimited => (None, None, true),
        };
        Self {
            at: happened.at,
            event: happened.kind.name(),
            level: happened.level,
            amount: money.map(|money| Sum { amount: money.amount, currency: Some(money.currency) }),
            currency: money.map(|money| money.currency),
            seconds,
            unlimited,
            told: happened.told.iter().cloned().collect(),
        }
    }

    pub(super) fn is(&self, kind: Kind) -> bool {
        self.event == kind.name()
    }
}

impl RanOut {
    fn new(drought: &Drought, rules: &[RuleReport], to: Time, lowest: Sum) -> Self {
        let tells = |alert: &&AlertReport| {
            alert.raised < drought.until.unwrap_or(to) && alert.resolved.is_none_or(|resolved| resolved > drought.from)
        };
        let warned = |rule: &RuleReport| {
            let alert = rule.alerts.iter().find(tells)?;
            let seconds_before = (drought.from - alert.raised).num_seconds();
            Some(Warned { rule: rule.rule.clone(), at: alert.raised, seconds_before })
        };
        let mut warned: Vec<Warned> = rules.iter().filter(|rule| rule.warns_of_funds).filter_map(warned).collect();
        warned.sort_by_key(|it| it.at);
        Self { from: drought.from, until: drought.until, lowest, warned }
    }
}

impl Suggestion {
    fn new(
        script: &Script<'_>,
        (ledger, currency): (&Ledger, Option<Currency>),
        whole: &[(Time, Decimal)],
        usual: Decimal,
        rules: &[RuleReport],
    ) -> Self {
        let sum = |amount| Sum { amount, currency };
        let compare = |rule: Name, level: Severity, below: Decimal| {
            let found = crossings(whole, ledger, below, usual, script.to);
            Compared::new(rule, level, sum(below), &found)
        };
        let present =
            rules.iter().flat_map(|rule| rule.lines.iter().map(|(level, below)| (rule.rule.clone(), *level, *below)));
        let mut compared: Vec<Compared> = present.map(|(rule, level, below)| compare(rule, level, below)).collect();
        match suggest(ledger, script.spending, script.to) {
            Err(why) => Self {
                warning: None,
                critical: None,
                spent_in_14_days: None,
                spent_in_5_days: None,
                days: None,
                reason: Some(why.to_string()),
                compared,
            },
            Ok(proposal) => {
                compared.insert(0, compare("proposed".into(), Severity::Critical, proposal.critical));
                compared.insert(0, compare("proposed".into(), Severity::Warning, proposal.warning));
                Self {
                    warning: Some(sum(proposal.warning)),
                    critical: Some(sum(proposal.critical)),
                    spent_in_14_days: Some(sum(proposal.spent_in_14_days)),
                    spent_in_5_days: Some(sum(proposal.spent_in_5_days)),
                    days: Some(proposal.days),
                    reason: None,
                    compared,
                }
            }
        }
    }
}

impl Compared {
    fn new(rule: Name, level: Severity, below: Sum, crossings: &[crate::backtest::Crossing]) -> Self {
        let wanted_days = if level == Severity::Critical { CRITICAL_DAYS } else { WARNING_DAYS };
        let enough = |wanted: Option<bool>| {
            crossings.iter().filter(|it| it.notice.is_enough(TimeDelta::days(wanted_days)) == wanted).count()
        };
        let lasted = |it: &crate::backtest::Crossing| match it.notice {
            crate::backtest::Notice::Lasted(lasted) => Some(lasted.num_seconds()),
            crate::backtest::Notice::AtLeast(_) => None,
        };
        Self {
            rule,
            level,
            below,
            wanted_days,
            fell: crossings.len(),
            in_time: enough(Some(true)),
            too_late: enough(Some(false)),
            not_yet_known: enough(None),
            shortest_seconds: crossings.iter().filter_map(lasted).min(),
        }
    }
}
