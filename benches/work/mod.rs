//! Work of a fixed size for the benchmarks of the core: the same at every run.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)] // every benchmark uses its own part

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lowtide::certcentral::{BalanceSource, ListedDivision, ReadError};
use lowtide::cycle::{Harvest, Read, Scope, Watch, settle};
use lowtide::domain::alert::{Alert, transition};
use lowtide::domain::balance::{Balance, Reading};
use lowtide::domain::evaluate::evaluate;
use lowtide::domain::money::{Currency, Money};
use lowtide::domain::rule::{Amount, Level, Metric, Rule, Side, UnreadablePolicy};
use lowtide::domain::state::State;
use lowtide::domain::{Division, Time};
use lowtide::notify::{Content, Item, Message, RuleWords, Words};
use rust_decimal::Decimal;

pub fn at(seconds: i64) -> Time {
    Time::from_timestamp(1_795_500_000 + seconds, 0).unwrap()
}

/// So many rules: warning below 2000 and critical below 500, each cleared 250 higher.
pub fn rules(count: usize) -> Vec<Rule> {
    let amount = |value: i64| Amount { value: value.into(), currency: None };
    let level = |below: i64| {
        let mut level = Level::new(Side::Below, amount(below), Some(amount(below + 250))).unwrap();
        level.notify = vec!["slack".into(), "mail".into()];
        Some(level)
    };
    let rule = |n: usize| {
        let metric = if n.is_multiple_of(2) { Metric::AvailableFunds } else { Metric::Balance };
        Rule::new(format!("rule-{n}").into(), metric, level(2000), level(500)).unwrap()
    };
    (0..count).map(rule).collect()
}

fn usd() -> Currency {
    Currency::parse("USD").unwrap()
}

/// Amounts on every side of every threshold.
pub fn readings() -> Vec<Reading> {
    (0..1000i64).map(|n| Reading::Amount(Money::new(Decimal::new(n * 7919 % 300_000, 2), usd()))).collect()
}

/// Judges every reading and moves an alert by every verdict. Returns how often it moved.
pub fn judge(rule: &Rule, readings: &[Reading]) -> usize {
    let (mut alert, now) = (Alert::default(), at(0));
    let daily = |_| Some(Duration::from_secs(24 * 3600));
    let mut moves = 0;
    for reading in readings {
        let verdict = evaluate(rule, reading).unwrap();
        let (next, moved) = transition(&alert, &verdict, daily, now);
        alert = next;
        moves += usize::from(moved.is_some());
    }
    moves
}

struct Nothing;

#[async_trait]
impl BalanceSource for Nothing {
    async fn balance(&self, _: Division) -> Result<Balance, ReadError> {
        unreachable!("settling reads nothing")
    }
    async fn divisions(&self) -> Result<Vec<ListedDivision>, ReadError> {
        unreachable!("settling reads nothing")
    }
}

/// An account with so many rules.
pub fn watch(count: usize) -> Watch {
    Watch {
        account: "acme".into(),
        source: Arc::new(Nothing),
        scope: Scope::Listed(Vec::new()),
        rules: rules(count).into(),
        unreadable: Arc::new(UnreadablePolicy {
            after: Duration::from_secs(3 * 3600),
            level: lowtide::domain::rule::Severity::Warning,
            remind_every: None,
            notify: vec!["slack".into()],
        }),
        silences: [].into(),
        library: None,
    }
}

/// So many divisions, each with figures of its own from `funds` on.
pub fn harvest(divisions: u64, funds: u64) -> Harvest {
    let balance = |id: u64| Balance {
        currency: Ok(usd()),
        balance: Ok(Decimal::from(funds + id % 400)),
        unpaid_invoices: Ok(Decimal::ZERO),
        used_credit: Ok(Decimal::ZERO),
        credit_limit: Ok(Some(Decimal::ZERO)),
        unlimited: Ok(false),
        reported_total: Ok(None),
    };
    let read = |id: u64| Read {
        division: Some(id),
        name: Some(format!("Division {id}")),
        balance: Ok(balance(id)),
        prospect: None,
    };
    Harvest { reads: (1..=divisions).map(read).collect(), listing_failure: None, active: None }
}

/// A state with so many firing alerts, owed to two notifiers that never answered.
pub fn firing(alerts: u64) -> State {
    let mut state = State::default();
    settle(&mut state, &watch(1), &harvest(alerts, 100), at(0));
    assert_eq!(state.alerts.len() as u64, alerts);
    state
}

/// What a notifier is given when so many alerts fire at once.
pub fn message(alerts: u64) -> Message {
    let state = firing(alerts);
    let items = state.owed_to("slack").map(|(event, _)| Item { event: event.clone(), omitted: 0, via: None }).collect();
    Message { id: "abc".to_owned(), at: at(1), content: Content::Events(items), references: Vec::new(), only: None }
}

pub fn words() -> Words {
    let description = Some("Ask Finance for a purchase order; a PO takes five working days.".to_owned());
    Words {
        timezone: chrono_tz::Europe::Amsterdam,
        rules: BTreeMap::from([("rule-0".into(), RuleWords { description, link: None })]),
        console_urls: BTreeMap::from([("acme".into(), "https://www.digicert.com/secure/".to_owned())]),
    }
}
