//! Fixed work for the benchmarks of the core, the same in every run.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)] // every benchmark uses its own part

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lowtide::alerting::evaluate::evaluate;
use lowtide::alerting::policy::{AccountPolicy, DivisionScope};
use lowtide::alerting::process::process;
use lowtide::alerting::readings::{AccountReadings, DivisionReading};
use lowtide::alerting::state::State;
use lowtide::alerting::transition::transition;
use lowtide::domain::alert::Alert;
use lowtide::domain::balance::{Balance, Reading};
use lowtide::domain::ledger::{Ledger, LedgerEntry};
use lowtide::domain::money::{Currency, Money};
use lowtide::domain::order::Order;
use lowtide::domain::rule::{Level, Metric, Rule, ThresholdAmount, ThresholdSide};
use lowtide::notify::{Message, MessageContent, MessageContext, MessageEvent, RuleTexts};
use rust_decimal::Decimal;

#[path = "../../tests/support/account_policy.rs"]
mod account_policy;

pub use account_policy::at;

/// Creates rules with a warning below 2,000 and critical below 500, each cleared 250 higher.
pub fn rules(count: usize) -> Vec<Rule> {
    let amount = |value: i64| ThresholdAmount { value: value.into(), currency: None };
    let level = |below: i64| {
        let mut level = Level::new(ThresholdSide::Below, amount(below), Some(amount(below + 250))).unwrap();
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

/// Creates readings on both sides of every threshold.
pub fn readings() -> Vec<Reading> {
    (0..1000i64).map(|n| Reading::Amount(Money::new(Decimal::new(n * 7919 % 300_000, 2), usd()))).collect()
}

/// Evaluates every reading and applies the transitions to an alert. Returns the number of transitions.
pub fn evaluate_all(rule: &Rule, readings: &[Reading]) -> usize {
    let (mut alert, now) = (Alert::default(), at(0));
    let daily = |_| Some(Duration::from_secs(24 * 3600));
    let mut transitions = 0;
    for reading in readings {
        let evaluation = evaluate(rule, reading).unwrap();
        let (next, happened) = transition(&alert, &evaluation, daily, now);
        alert = next;
        transitions += usize::from(happened.is_some());
    }
    transitions
}

/// Creates a policy with this number of rules.
pub fn policy(count: usize) -> AccountPolicy {
    account_policy::policy(DivisionScope::Listed(Vec::new()), rules(count), None)
}

/// Creates readings of divisions, each with figures of its own from `funds` on.
pub fn account_readings(divisions: u64, funds: u64) -> AccountReadings {
    let balance = |id: u64| Balance {
        currency: Ok(usd()),
        balance: Ok(Decimal::from(funds + id % 400)),
        unpaid_invoices: Ok(Decimal::ZERO),
        used_credit: Ok(Decimal::ZERO),
        credit_limit: Ok(Some(Decimal::ZERO)),
        unlimited: Ok(false),
        reported_total: Ok(None),
    };
    let read = |id: u64| DivisionReading {
        division: Some(id),
        name: Some(format!("Division {id}")),
        balance: Ok(balance(id)),
        forecast: None,
    };
    AccountReadings { divisions: (1..=divisions).map(read).collect(), listing_failure: None, active: None }
}

/// Creates a state with firing alerts, pending for two notifiers that never answered.
pub fn firing_state(alerts: u64) -> State {
    let mut state = State::default();
    process(&mut state, &policy(1), &account_readings(alerts, 100), at(0));
    assert_eq!(state.alerts.len() as u64, alerts);
    state
}

/// Creates a state with firing alerts that were delivered, with the Message-IDs of their emails.
pub fn delivered_state(alerts: u64) -> State {
    let mut state = firing_state(alerts);
    let ids: BTreeSet<String> = state.queue.iter().map(|queued| queued.event.id.clone()).collect();
    state.mark_delivered(&"slack".into(), &ids, None, &[]);
    state.mark_delivered(&"mail".into(), &ids, Some("<0123456789abcdef0123456789abcdef@lowtide.example>"), &[]);
    assert!(state.queue.is_empty());
    state
}

/// Creates a ledger with a purchase every hour, and 100 orders that are due one by one in the coming months.
pub fn history(lines: i64) -> (Ledger, Vec<Order>) {
    let hours = chrono::Duration::hours;
    let line = |ago: i64| LedgerEntry {
        id: ago.to_string().into(),
        at: at(0) - hours(ago),
        change: Decimal::from(-(10 + ago * 7919 % 90)),
        kind: "Charge".into(),
        balance_after: None,
        currency: None,
        order: Some(ago.unsigned_abs()),
        expires: None,
    };
    let order = |id: u64| Order {
        id,
        division: None,
        product: None,
        common_name: None,
        price: Decimal::from(200 + id % 100),
        expired: false,
        renewed: false,
        placed: None,
        bought_until: None,
        is_plan: false,
        certificate_ends: (at(0) + chrono::Duration::days(2 * i64::try_from(id).unwrap())).date_naive(),
        order_ends: None,
    };
    (Ledger::new((1..=lines).map(line).collect()), (1..=100).map(order).collect())
}

/// Creates an account with this number of renewals a year, evenly spread, each ten days before the end. The last two
/// orders of each site are listed.
pub fn renewing_history(sites: i64) -> (Ledger, Vec<Order>) {
    let day = |ago: i64| (at(0) - chrono::Duration::days(ago)).date_naive();
    let (mut lines, mut orders) = (Vec::new(), Vec::new());
    for site in 0..sites {
        let renewed_ago = 1 + site * 364 / sites;
        let order = |id: i64, placed: i64, ends_ago: i64| Order {
            id: id.unsigned_abs(),
            division: None,
            product: Some(["ssl_basic", "ssl_plus", "ssl_ev"][usize::try_from(site % 3).unwrap()].into()),
            common_name: Some(format!("site-{site}.example.com").as_str().into()),
            price: Decimal::from(200 + 100 * (site % 3)),
            expired: ends_ago > 0,
            renewed: id % 2 == 0,
            placed: Some(day(placed)),
            bought_until: Some(day(placed - 365)),
            is_plan: false,
            certificate_ends: day(ends_ago),
            order_ends: Some(day(ends_ago)),
        };
        let ends_ago = renewed_ago - 10;
        orders.push(order(2 * site, ends_ago + 365, ends_ago));
        orders.push(order(2 * site + 1, renewed_ago, ends_ago - 365));
        lines.push(LedgerEntry {
            id: site.to_string().into(),
            at: at(0) - chrono::Duration::days(renewed_ago),
            change: -orders[orders.len() - 1].price,
            kind: "Charge".into(),
            balance_after: None,
            currency: None,
            order: Some(orders[orders.len() - 1].id),
            expires: None,
        });
    }
    (Ledger::new(lines), orders)
}

/// Creates a message for this number of simultaneous alerts.
pub fn message(alerts: u64) -> Message {
    let state = firing_state(alerts);
    let items = state
        .queue
        .pending_for("slack")
        .map(|(event, _)| MessageEvent { event: event.clone(), omitted: 0, in_place_of: None })
        .collect();
    Message {
        id: "abc".to_owned(),
        at: at(1),
        content: MessageContent::Events(items),
        references: Vec::new(),
        remaining_recipients: None,
    }
}

pub fn message_context() -> MessageContext {
    let description = Some("Ask Finance for a purchase order; a PO takes five working days.".to_owned());
    MessageContext {
        timezone: chrono_tz::Europe::Amsterdam,
        rules: BTreeMap::from([("rule-0".into(), RuleTexts { description, link: None })]),
        console_urls: BTreeMap::from([("acme".into(), "https://www.digicert.com/secure/".to_owned())]),
    }
}
