//! What one cycle makes of what it read: the pure middle, from reading to event, without a process and without a clock.

#![allow(clippy::unwrap_used, clippy::unnecessary_wraps)] // panicking is how a test ends

#[path = "support/nothing.rs"]
mod nothing;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lowtide::certcentral::{BalanceSource, ListedDivision, ReadError};
use lowtide::clock::{Clock, SystemClock};
use lowtide::cycle::{For, Harvest, Read, Scope, Watch, forget_unconfigured, read_once, settle};
use lowtide::domain::alert::Kind;
use lowtide::domain::balance::{Balance, Outlook, Unreadable};
use lowtide::domain::books::{Books, Ledger};
use lowtide::domain::event::Subject;
use lowtide::domain::money::{Currency, parse_amount};
use lowtide::domain::rule::{Amount, Level, Metric, Rule, Side};
use lowtide::domain::state::State;
use lowtide::domain::{Division, Name};
use lowtide::forecast::{Prospect, Spending};
use nothing::at;
use proptest::prelude::*;

fn level(below: &str, to: &str) -> Level {
    let threshold = Amount { value: parse_amount(below).unwrap(), currency: None };
    let mut level = Level::new(Side::Below, threshold, None).unwrap();
    level.notify = vec![Name::from(to)];
    level
}

fn watch(scope: Scope) -> Watch {
    let funds =
        Rule::new("funds".into(), Metric::AvailableFunds, Some(level("2000", "slack")), Some(level("500", "pager")));
    let invoices = Rule::new("owed".into(), Metric::UnpaidInvoices, Some(level("-1", "slack")), None);
    nothing::watch(scope, vec![funds.unwrap(), invoices.unwrap()], Some(Duration::from_secs(24 * 3600)))
}

fn good(balance: &str) -> Result<Balance, Unreadable> {
    let amount = |text: &str| parse_amount(text).unwrap();
    Ok(Balance {
        currency: Ok(Currency::parse("USD").unwrap()),
        balance: Ok(amount(balance)),
        unpaid_invoices: Ok(amount("0")),
        used_credit: Ok(amount("0")),
        credit_limit: Ok(Some(amount("0"))),
        unlimited: Ok(false),
        reported_total: Ok(None),
    })
}

fn fails(outlook: Outlook) -> Result<Balance, Unreadable> {
    Err(Unreadable { outlook, reason: "GET /finance/balance answered badly".to_owned() })
}

fn one(balance: Result<Balance, Unreadable>) -> Harvest {
    Harvest {
        reads: vec![Read { division: None, name: None, balance, prospect: None }],
        listing_failure: None,
        active: None,
    }
}

fn divisions(ids: &[u64]) -> Harvest {
    let reads = ids.iter().map(|id| Read {
        division: Some(*id),
        name: Some(format!("D{id}")),
        balance: good("100"),
        prospect: None,
    });
    Harvest { reads: reads.collect(), listing_failure: None, active: Some(ids.iter().copied().collect()) }
}

/// Every event that is owed, as `kind rule → recipients`, and nothing owed any more.
fn told(state: &mut State) -> Vec<String> {
    let told = state.owed.iter().map(|owed| {
        let names = owed.to.keys().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let what = match &owed.event.subject {
            Subject::Threshold(event) => format!("{} {}", event.kind.name(), event.key.rule),
            Subject::Unreadable(event) => {
                format!("{} unreadable ({} stand still)", event.kind.name(), event.standing_still.len())
            }
            Subject::Unwatched { division, rules, .. } => {
                format!("unwatched {} {}", division.unwrap(), rules.join("+"))
            }
            Subject::NotifierFailing { .. } | Subject::NotifierRecovered { .. } | Subject::Report(_) => {
                "notice".to_owned()
            }
        };
        format!("{what} → {names}")
    });
    let told = told.collect();
    for name in ["slack", "pager", "mail"] {
        let ids: BTreeSet<String> = state.owed_to(name).map(|(event, _)| event.id.clone()).collect();
        state.delivered(&name.into(), &ids, None, &[]);
    }
    assert!(state.owed.is_empty());
    told
}

#[test]
fn what_is_being_read_for_the_first_time_is_not_readable_again_and_what_is_too_young_is() {
    let lasts = Level::new(Side::Below, Duration::from_secs(14 * 86_400), None).unwrap();
    let runway = Rule::new("runway".into(), Metric::Runway, Some(lasts), None).unwrap();
    let watch = Watch { rules: vec![runway].into(), ..watch(Scope::Undivided) };
    let mut state = State::default();
    let mut play = |seconds, harvest: &Harvest| {
        settle(&mut state, &watch, harvest, at(seconds));
        told(&mut state)
    };
    assert_eq!(play(0, &one(fails(Outlook::NeedsAction))), ["raised unreadable (0 stand still) → slack"]);
    let unread = one(good("100"));
    assert_eq!(play(1, &unread), [""; 0]);
    let mut young = one(good("100"));
    let books = Books { ledger: Ok(Arc::new(Ledger::default())), orders: Ok([].into()), ..Books::unread() };
    let balance = good("100").unwrap();
    let prospect = Prospect::new(&balance, books, &Spending::default(), watch.rules.iter(), at(2));
    young.reads[0].prospect = Some(Arc::new(prospect));
    assert_eq!(play(2, &young), ["resolved unreadable (0 stand still) → slack"]);
}

#[test]
fn each_event_goes_to_its_level_and_the_end_to_all_who_heard_the_beginning() {
    let (watch, mut state) = (watch(Scope::Undivided), State::default());
    let mut play = |seconds, balance: &str| {
        settle(&mut state, &watch, &one(good(balance)), at(seconds));
        told(&mut state)
    };
    assert_eq!(play(0, "1999.99"), ["raised funds → slack"]);
    assert_eq!(play(1, "499.99"), ["escalated funds → pager"]);
    assert_eq!(play(2, "500"), ["eased funds → pager,slack"]);
    assert_eq!(play(3, "2000"), ["resolved funds → pager,slack"]);
    assert!(play(4, "2000").is_empty());
}

#[test]
fn an_alert_that_was_critical_is_over_when_the_warning_is_and_its_message_names_that_threshold() {
    let (watch, mut state) = (watch(Scope::Undivided), State::default());
    settle(&mut state, &watch, &one(good("100")), at(0));
    settle(&mut state, &watch, &one(good("5000")), at(900));
    let thresholds = state.owed.iter().filter_map(|owed| match &owed.event.subject {
        Subject::Threshold(event) => {
            Some((event.kind, event.threshold.as_ref().unwrap().bound.amount().unwrap().value.to_string()))
        }
        _ => None,
    });
    let expected = [(Kind::Raised, "500".to_owned()), (Kind::Resolved, "2000".to_owned())];
    assert_eq!(thresholds.collect::<Vec<_>>(), expected);
}

#[test]
fn a_quiet_cycle_changes_nothing_and_an_ok_alert_takes_no_space() {
    let (watch, mut state) = (watch(Scope::Undivided), State::default());
    assert!(!settle(&mut state, &watch, &one(good("5000")), at(0)).changed);
    settle(&mut state, &watch, &one(good("1000")), at(1));
    told(&mut state);
    assert!(!settle(&mut state, &watch, &one(good("1001")), at(2)).changed);
    settle(&mut state, &watch, &one(good("5000")), at(3));
    told(&mut state);
    assert_eq!(state, State::default());
}

#[test]
fn what_needs_action_is_told_at_once_and_what_may_heal_after_three_hours_and_nothing_resolves_meanwhile() {
    let (watch, mut state) = (watch(Scope::Undivided), State::default());
    let mut play = |seconds, balance| {
        settle(&mut state, &watch, &one(balance), at(seconds));
        told(&mut state)
    };
    assert_eq!(play(0, good("100")), ["raised funds → pager"]);
    assert!(play(10, fails(Outlook::MayHeal)).is_empty());
    assert!(play(3 * 3600 + 9, fails(Outlook::MayHeal)).is_empty());
    assert_eq!(play(3 * 3600 + 10, fails(Outlook::MayHeal)), ["raised unreadable (1 stand still) → slack"]);
    assert!(play(3 * 3600 + 11, fails(Outlook::NeedsAction)).is_empty());
    assert_eq!(play(4 * 3600, good("100")), ["resolved unreadable (0 stand still) → slack"]);
    assert_eq!(play(5 * 3600, fails(Outlook::NeedsAction)), ["raised unreadable (1 stand still) → slack"]);
    assert_eq!(play(6 * 3600, good("5000")), ["resolved funds → pager", "resolved unreadable (0 stand still) → slack"]);
}

#[test]
fn a_failure_that_turns_into_one_that_needs_action_is_told_at_once() {
    let (watch, mut state) = (watch(Scope::Undivided), State::default());
    settle(&mut state, &watch, &one(fails(Outlook::MayHeal)), at(0));
    assert!(told(&mut state).is_empty());
    settle(&mut state, &watch, &one(fails(Outlook::NeedsAction)), at(60));
    assert_eq!(told(&mut state), ["raised unreadable (0 stand still) → slack"]);
}

#[test]
fn a_metric_that_cannot_be_had_keeps_only_its_own_rules_from_moving() {
    let (watch, mut state) = (watch(Scope::Undivided), State::default());
    settle(&mut state, &watch, &one(good("100")), at(0));
    told(&mut state);
    let mut limitless = good("9000").unwrap();
    limitless.credit_limit = Ok(None);
    limitless.unpaid_invoices = Ok(parse_amount("-5").unwrap());
    settle(&mut state, &watch, &one(Ok(limitless)), at(1));
    assert_eq!(told(&mut state), ["raised owed → slack"]);
    let stands = state.alerts.keys().map(|key| key.rule.to_string()).collect::<Vec<_>>();
    assert_eq!(stands, ["funds", "owed", "unreadable"]);
}

#[test]
fn a_division_that_is_gone_ends_its_alerts_with_one_notice_and_an_excluded_one_without() {
    let all = watch(Scope::All(BTreeSet::new()));
    let mut state = State::default();
    settle(&mut state, &all, &divisions(&[7, 8]), at(0));
    assert_eq!(told(&mut state), ["raised funds → pager", "raised funds → pager"]);
    settle(&mut state, &all, &divisions(&[7]), at(1));
    assert_eq!(told(&mut state), ["unwatched 8 funds → pager"]);
    let narrowed = watch(Scope::All(BTreeSet::from([7])));
    assert_eq!(forget_unconfigured(&mut state, &[&narrowed]).len(), 1);
    assert_eq!(state, State::default());
}

#[test]
fn what_is_owed_to_a_notifier_that_left_the_configuration_is_dropped_and_the_rest_stays() {
    let (watch, mut state) = (watch(Scope::Undivided), State::default());
    settle(&mut state, &watch, &one(good("1000")), at(0));
    settle(&mut state, &watch, &one(good("100")), at(1));
    let dropped = state.forget_notifiers(|name| name == "pager");
    assert_eq!(dropped, [(Name::from("slack"), 1)].into());
    assert_eq!(told(&mut state), ["escalated funds → pager"]);
}

#[test]
fn divisions_that_cannot_be_listed_make_the_account_unreadable_and_end_nothing() {
    let all = watch(Scope::All(BTreeSet::new()));
    let mut state = State::default();
    settle(&mut state, &all, &divisions(&[7]), at(0));
    told(&mut state);
    let failure = fails(Outlook::NeedsAction).unwrap_err();
    let blind = Harvest { reads: Vec::new(), listing_failure: Some(failure), active: None };
    settle(&mut state, &all, &blind, at(1));
    assert_eq!(told(&mut state), ["raised unreadable (1 stand still) → slack"]);
    settle(&mut state, &all, &divisions(&[7]), at(2));
    assert_eq!(told(&mut state), ["resolved unreadable (0 stand still) → slack"]);
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_hangs_delays_no_reading_by_more_than_seconds_where_it_is_wanted_for_names_only() {
    struct NoNames;
    #[async_trait]
    impl BalanceSource for NoNames {
        async fn balance(&self, _: Division) -> Result<Balance, ReadError> {
            Ok(good("100").unwrap())
        }
        async fn divisions(&self) -> Result<Vec<ListedDivision>, ReadError> {
            std::future::pending().await
        }
    }
    let watch = Watch { source: Arc::new(NoNames), ..watch(Scope::Listed(vec![7])) };
    let started = tokio::time::Instant::now();
    let harvest = read_once(&watch, &(Arc::new(SystemClock) as Arc<dyn Clock>), For::Rules).await;
    assert!(started.elapsed() <= Duration::from_secs(4));
    assert!(harvest.listing_failure.is_none() && harvest.reads[0].balance.is_ok());
}

proptest! {
    #[test]
    fn unreadable_changes_no_alert_and_saving_is_the_identity(
        steps in proptest::collection::vec((0i64..30_000, proptest::option::of(0i64..6000), any::<bool>()), 1..40)
    ) {
        let (watch, mut state, mut now) = (watch(Scope::Undivided), State::default(), 0);
        for (gap, funds, heals) in steps {
            now += gap;
            let outlook = if heals { Outlook::MayHeal } else { Outlook::NeedsAction };
            let before = state.clone();
            let harvest = one(funds.map_or_else(|| fails(outlook), |funds| good(&funds.to_string())));
            let settled = settle(&mut state, &watch, &harvest, at(now));
            prop_assert_eq!(settled.changed, state != before, "what changed is saved, and nothing else");
            let rules = |state: &State| {
                state.alerts.iter().filter(|(key, _)| &*key.rule != "unreadable").map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>()
            };
            if funds.is_none() {
                prop_assert_eq!(rules(&before), rules(&state));
            }
            let json = lowtide::store::encode(&state).unwrap().to_bytes();
            prop_assert_eq!(&serde_json::from_slice::<State>(&json).unwrap(), &state);
            told(&mut state);
        }
    }
}

#[test]
fn what_cannot_be_judged_is_told_apart_from_a_balance_that_cannot_be_read() {
    let (mut state, watch) = (State::default(), watch(Scope::Undivided));
    let mut rules = watch.rules.to_vec();
    let foreign = Amount { value: parse_amount("2000").unwrap(), currency: Some(Currency::parse("EUR").unwrap()) };
    let mut foreign = Level::new(Side::Below, foreign, None).unwrap();
    foreign.notify = vec!["slack".into()];
    rules.push(Rule::new("foreign".into(), Metric::AvailableFunds, Some(foreign), None).unwrap());
    let with_a_foreign_one = Watch { rules: rules.into(), ..self::watch(Scope::Undivided) };
    settle(&mut state, &with_a_foreign_one, &one(good("5000")), at(0));
    settle(&mut state, &watch, &one(good("5000")), at(60));
    settle(&mut state, &with_a_foreign_one, &one(fails(Outlook::NeedsAction)), at(120));
    settle(&mut state, &watch, &one(good("5000")), at(180));
    let told = state.owed.iter().filter_map(|owed| match &owed.event.subject {
        Subject::Unreadable(event) => Some((event.kind.name(), event.blind.clone())),
        _ => None,
    });
    let foreign: Vec<Name> = vec!["foreign".into()];
    let expected = [("raised", foreign.clone()), ("resolved", foreign), ("raised", vec![]), ("resolved", vec![])];
    assert_eq!(told.collect::<Vec<_>>(), expected);
}
