//! From readings to events, in memory: no process, no clock, no network.

#![allow(clippy::unnecessary_wraps)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::support::account_policy::{self, at};
use crate::support::stepped::{AcceptingBackend, VirtualClock, epoch};
use async_trait::async_trait;
use chrono::TimeDelta;
use lowtide::alerting::end_alerts::end_unconfigured_alerts;
use lowtide::alerting::policy::{AccountPolicy, DivisionScope};
use lowtide::alerting::process::process;
use lowtide::alerting::queue::NewEvent;
use lowtide::alerting::readings::{AccountReadings, CycleTime, DivisionReading};
use lowtide::alerting::report::{ReportRequest, build_page};
use lowtide::alerting::state::State;
use lowtide::certcentral::{BalanceSource, ListedDivision, ReadError};
use lowtide::domain::alert::TransitionKind;
use lowtide::domain::balance::{Balance, Persistence, Unreadable};
use lowtide::domain::event::EventSubject;
use lowtide::domain::history::AccountHistory;
use lowtide::domain::ledger::Ledger;
use lowtide::domain::money::{Currency, parse_amount};
use lowtide::domain::report::{FundFigures, LatestFigures};
use lowtide::domain::rule::{Level, Metric, Rule, Severity, ThresholdAmount, ThresholdSide};
use lowtide::domain::{Division, Name};
use lowtide::forecast::{FundForecast, Spending};
use lowtide::polling::forecasts::ForecastPurpose;
use lowtide::polling::poller::{Poller, PollerState};
use lowtide::state::StateStore;
use lowtide::util::clock::{Clock, SystemClock};
use proptest::prelude::*;

fn level(below: &str, to: &str) -> Level {
    let threshold = ThresholdAmount { value: parse_amount(below).unwrap(), currency: None };
    let mut level = Level::new(ThresholdSide::Below, threshold, None).unwrap();
    level.notify = vec![Name::from(to)];
    level
}

fn policy(scope: DivisionScope) -> AccountPolicy {
    let funds =
        Rule::new("funds".into(), Metric::AvailableFunds, Some(level("2000", "slack")), Some(level("500", "pager")));
    let invoices = Rule::new("invoices".into(), Metric::UnpaidInvoices, Some(level("-1", "slack")), None);
    account_policy::policy(scope, vec![funds.unwrap(), invoices.unwrap()], Some(Duration::from_secs(24 * 3600)))
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

fn fails(persistence: Persistence) -> Result<Balance, Unreadable> {
    Err(Unreadable { persistence, reason: "GET /finance/balance answered badly".to_owned() })
}

fn account_readings(balance: Result<Balance, Unreadable>) -> AccountReadings {
    AccountReadings {
        divisions: vec![DivisionReading { division: None, name: None, balance, forecast: None }],
        listing_failure: None,
        active: None,
    }
}

fn divisions(ids: &[u64]) -> AccountReadings {
    let reads = ids.iter().map(|id| DivisionReading {
        division: Some(*id),
        name: Some(format!("D{id}")),
        balance: good("100"),
        forecast: None,
    });
    AccountReadings { divisions: reads.collect(), listing_failure: None, active: Some(ids.iter().copied().collect()) }
}

/// Returns the pending events as `kind rule → recipients`, and marks them as delivered.
fn take_events(state: &mut State) -> Vec<String> {
    let events = state.queue.iter().map(|queued| {
        let names = queued.pending.keys().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let what = match &queued.event.subject {
            EventSubject::Threshold(event) => format!("{} {}", event.kind.name(), event.key.rule),
            EventSubject::Unreadable(event) => {
                format!("{} unreadable ({} unchanged)", event.kind.name(), event.firing_alerts.len())
            }
            EventSubject::Unwatched { division, rules, .. } => {
                format!("unwatched {} {}", division.unwrap(), rules.join("+"))
            }
            EventSubject::AlertEnded { key, level } => format!("ended {} {level}", key.rule),
            EventSubject::NotifierFailing { .. }
            | EventSubject::NotifierRecovered { .. }
            | EventSubject::NotifierRemoved { .. }
            | EventSubject::Report(_) => "notice".to_owned(),
        };
        format!("{what} → {names}")
    });
    let events = events.collect();
    for name in ["slack", "pager", "mail"] {
        let ids: BTreeSet<String> = state.queue.pending_for(name).map(|(event, _)| event.id.clone()).collect();
        state.mark_delivered(&name.into(), &ids, None, &[]);
    }
    assert!(state.queue.is_empty());
    events
}

#[test]
fn a_first_ledger_read_does_not_end_unreadable_but_a_young_ledger_does() {
    let lasts = Level::new(ThresholdSide::Below, Duration::from_secs(14 * 86_400), None).unwrap();
    let runway = Rule::new("runway".into(), Metric::Runway, Some(lasts), None).unwrap();
    let policy = AccountPolicy { rules: vec![runway].into(), ..policy(DivisionScope::Undivided) };
    let mut state = State::default();
    let mut play = |seconds, readings: &AccountReadings| {
        process(&mut state, &policy, readings, at(seconds));
        take_events(&mut state)
    };
    assert_eq!(play(0, &account_readings(fails(Persistence::Permanent))), ["raised unreadable (0 unchanged) → slack"]);
    let unread = account_readings(good("100"));
    assert_eq!(play(1, &unread), [""; 0]);
    let mut young = account_readings(good("100"));
    let history =
        AccountHistory { ledger: Ok(Arc::new(Ledger::default())), orders: Ok([].into()), ..AccountHistory::unread() };
    let balance = good("100").unwrap();
    let forecast = FundForecast::new(&balance, history, &Spending::default(), policy.rules.iter(), at(2));
    young.divisions[0].forecast = Some(Arc::new(forecast));
    assert_eq!(play(2, &young), ["resolved unreadable (0 unchanged) → slack"]);
}

#[test]
fn each_event_goes_to_its_level_and_the_end_to_all_notified() {
    let (policy, mut state) = (policy(DivisionScope::Undivided), State::default());
    let mut play = |seconds, balance: &str| {
        process(&mut state, &policy, &account_readings(good(balance)), at(seconds));
        take_events(&mut state)
    };
    assert_eq!(play(0, "1999.99"), ["raised funds → slack"]);
    assert_eq!(play(1, "499.99"), ["escalated funds → pager"]);
    assert_eq!(play(2, "500"), ["eased funds → pager,slack"]);
    assert_eq!(play(3, "2000"), ["resolved funds → pager,slack"]);
    assert!(play(4, "2000").is_empty());
}

#[test]
fn a_former_critical_alert_resolves_by_the_warning_threshold() {
    let (policy, mut state) = (policy(DivisionScope::Undivided), State::default());
    process(&mut state, &policy, &account_readings(good("100")), at(0));
    process(&mut state, &policy, &account_readings(good("5000")), at(900));
    let thresholds = state.queue.iter().filter_map(|queued| match &queued.event.subject {
        EventSubject::Threshold(event) => {
            Some((event.kind, event.threshold.as_ref().unwrap().bound.amount().unwrap().value.to_string()))
        }
        _ => None,
    });
    let expected = [(TransitionKind::Raised, "500".to_owned()), (TransitionKind::Resolved, "2000".to_owned())];
    assert_eq!(thresholds.collect::<Vec<_>>(), expected);
}

#[test]
fn a_quiet_cycle_changes_nothing_and_an_ok_alert_takes_no_space() {
    let (policy, mut state) = (policy(DivisionScope::Undivided), State::default());
    assert!(!process(&mut state, &policy, &account_readings(good("5000")), at(0)).changed);
    process(&mut state, &policy, &account_readings(good("1000")), at(1));
    take_events(&mut state);
    assert!(!process(&mut state, &policy, &account_readings(good("1001")), at(2)).changed);
    process(&mut state, &policy, &account_readings(good("5000")), at(3));
    take_events(&mut state);
    assert_eq!(state, State::default());
}

#[test]
fn permanent_failures_alert_at_once_and_transient_after_three_hours() {
    let (policy, mut state) = (policy(DivisionScope::Undivided), State::default());
    let mut play = |seconds, balance| {
        process(&mut state, &policy, &account_readings(balance), at(seconds));
        take_events(&mut state)
    };
    assert_eq!(play(0, good("100")), ["raised funds → pager"]);
    assert!(play(10, fails(Persistence::Transient)).is_empty());
    assert!(play(3 * 3600 + 9, fails(Persistence::Transient)).is_empty());
    assert_eq!(play(3 * 3600 + 10, fails(Persistence::Transient)), ["raised unreadable (1 unchanged) → slack"]);
    assert!(play(3 * 3600 + 11, fails(Persistence::Permanent)).is_empty());
    assert_eq!(play(4 * 3600, good("100")), ["resolved unreadable (0 unchanged) → slack"]);
    assert_eq!(play(5 * 3600, fails(Persistence::Permanent)), ["raised unreadable (1 unchanged) → slack"]);
    assert_eq!(play(6 * 3600, good("5000")), ["resolved funds → pager", "resolved unreadable (0 unchanged) → slack"]);
}

#[test]
fn a_failure_that_becomes_permanent_is_notified_at_once() {
    let (policy, mut state) = (policy(DivisionScope::Undivided), State::default());
    process(&mut state, &policy, &account_readings(fails(Persistence::Transient)), at(0));
    assert!(take_events(&mut state).is_empty());
    process(&mut state, &policy, &account_readings(fails(Persistence::Permanent)), at(60));
    assert_eq!(take_events(&mut state), ["raised unreadable (0 unchanged) → slack"]);
}

#[test]
fn an_unreadable_metric_keeps_only_its_own_rules_unchanged() {
    let (policy, mut state) = (policy(DivisionScope::Undivided), State::default());
    process(&mut state, &policy, &account_readings(good("100")), at(0));
    take_events(&mut state);
    let mut limitless = good("9000").unwrap();
    limitless.credit_limit = Ok(None);
    limitless.unpaid_invoices = Ok(parse_amount("-5").unwrap());
    process(&mut state, &policy, &account_readings(Ok(limitless)), at(1));
    assert_eq!(take_events(&mut state), ["raised invoices → slack"]);
    let alerts = state.alerts.keys().map(|key| key.rule.to_string()).collect::<Vec<_>>();
    assert_eq!(alerts, ["funds", "invoices", "unreadable"]);
}

#[test]
fn a_gone_division_ends_its_alerts_with_one_notice_unless_excluded() {
    let all = policy(DivisionScope::All(BTreeSet::new()));
    let mut state = State::default();
    process(&mut state, &all, &divisions(&[7, 8]), at(0));
    assert_eq!(take_events(&mut state), ["raised funds → pager", "raised funds → pager"]);
    process(&mut state, &all, &divisions(&[7]), at(1));
    assert_eq!(take_events(&mut state), ["unwatched 8 funds → pager"]);
    let narrowed = policy(DivisionScope::All(BTreeSet::from([7])));
    assert_eq!(end_unconfigured_alerts(&mut state, &[&narrowed], at(2)).len(), 1);
    assert_eq!(state, State::default());
}

#[test]
fn pending_events_of_a_removed_notifier_are_dropped_the_rest_stays() {
    let (policy, mut state) = (policy(DivisionScope::Undivided), State::default());
    process(&mut state, &policy, &account_readings(good("1000")), at(0));
    process(&mut state, &policy, &account_readings(good("100")), at(1));
    let dropped = state.drop_unconfigured_notifiers(|name| name == "pager");
    assert_eq!(dropped, [(Name::from("slack"), 1)].into());
    assert_eq!(take_events(&mut state), ["escalated funds → pager"]);
}

#[test]
fn a_failed_division_listing_makes_the_account_unreadable() {
    let all = policy(DivisionScope::All(BTreeSet::new()));
    let mut state = State::default();
    process(&mut state, &all, &divisions(&[7]), at(0));
    take_events(&mut state);
    let failure = fails(Persistence::Permanent).unwrap_err();
    let unlisted = AccountReadings { divisions: Vec::new(), listing_failure: Some(failure), active: None };
    process(&mut state, &all, &unlisted, at(1));
    assert_eq!(take_events(&mut state), ["raised unreadable (1 unchanged) → slack"]);
    process(&mut state, &all, &divisions(&[7]), at(2));
    assert_eq!(take_events(&mut state), ["resolved unreadable (0 unchanged) → slack"]);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_listing_for_names_delays_readings_by_seconds_only() {
    struct HangingListing;
    #[async_trait]
    impl BalanceSource for HangingListing {
        async fn balance(&self, _: Division) -> Result<Balance, ReadError> {
            Ok(good("100").unwrap())
        }
        async fn divisions(&self) -> Result<Vec<ListedDivision>, ReadError> {
            std::future::pending().await
        }
    }
    let policy = policy(DivisionScope::Listed(vec![7]));
    let poller = Poller { policy, source: Arc::new(HangingListing), history: None, clock: Arc::new(SystemClock) };
    let started = tokio::time::Instant::now();
    let readings = poller.read_once(ForecastPurpose::Rules).await;
    assert!(started.elapsed() <= Duration::from_secs(4));
    assert!(readings.listing_failure.is_none() && readings.divisions[0].balance.is_ok());
}

proptest! {
    #[test]
    fn unreadable_changes_no_alert_and_saving_is_the_identity(
        steps in proptest::collection::vec((0i64..30_000, proptest::option::of(0i64..6000), any::<bool>()), 1..40)
    ) {
        let (policy, mut state, mut now) = (policy(DivisionScope::Undivided), State::default(), 0);
        for (gap, funds, is_transient) in steps {
            now += gap;
            let persistence = if is_transient { Persistence::Transient } else { Persistence::Permanent };
            let before = state.clone();
            let readings = account_readings(funds.map_or_else(|| fails(persistence), |funds| good(&funds.to_string())));
            let processed = process(&mut state, &policy, &readings, at(now));
            prop_assert_eq!(processed.changed, state != before, "a change is reported exactly if there is one");
            let rules = |state: &State| {
                state.alerts.iter().filter(|(key, _)| &*key.rule != "unreadable").map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>()
            };
            if funds.is_none() {
                prop_assert_eq!(rules(&before), rules(&state));
            }
            let json = lowtide::state::encode(&state).unwrap().to_bytes();
            prop_assert_eq!(&serde_json::from_slice::<State>(&json).unwrap(), &state);
            take_events(&mut state);
        }
    }
}

#[test]
fn a_rule_that_cannot_be_evaluated_is_not_an_unreadable_balance() {
    let (mut state, policy) = (State::default(), policy(DivisionScope::Undivided));
    let mut rules = policy.rules.to_vec();
    let foreign =
        ThresholdAmount { value: parse_amount("2000").unwrap(), currency: Some(Currency::parse("EUR").unwrap()) };
    let mut foreign = Level::new(ThresholdSide::Below, foreign, None).unwrap();
    foreign.notify = vec!["slack".into()];
    rules.push(Rule::new("foreign".into(), Metric::AvailableFunds, Some(foreign), None).unwrap());
    let with_a_foreign_one = AccountPolicy { rules: rules.into(), ..self::policy(DivisionScope::Undivided) };
    process(&mut state, &with_a_foreign_one, &account_readings(good("5000")), at(0));
    process(&mut state, &policy, &account_readings(good("5000")), at(60));
    process(&mut state, &with_a_foreign_one, &account_readings(fails(Persistence::Permanent)), at(120));
    process(&mut state, &policy, &account_readings(good("5000")), at(180));
    let events = state.queue.iter().filter_map(|queued| match &queued.event.subject {
        EventSubject::Unreadable(event) => Some((event.kind.name(), event.unevaluated_rules.clone())),
        _ => None,
    });
    let foreign: Vec<Name> = vec!["foreign".into()];
    let expected = [("raised", foreign.clone()), ("resolved", foreign), ("raised", vec![]), ("resolved", vec![])];
    assert_eq!(events.collect::<Vec<_>>(), expected);
}

#[test]
fn warning_notifiers_get_eased_of_an_alert_that_began_critical() {
    let (policy, mut state) = (policy(DivisionScope::Undivided), State::default());
    let mut play = |seconds, balance: &str| {
        process(&mut state, &policy, &account_readings(good(balance)), at(seconds));
        take_events(&mut state)
    };
    assert_eq!(play(0, "100"), ["raised funds → pager"]);
    assert_eq!(play(1, "1000"), ["eased funds → pager,slack"]);
    assert_eq!(play(2, "5000"), ["resolved funds → pager,slack"]);
}

fn euros(below: &str, to: &str) -> Level {
    let eur = Some(Currency::parse("EUR").unwrap());
    let mut level =
        Level::new(ThresholdSide::Below, ThresholdAmount { value: parse_amount(below).unwrap(), currency: eur }, None)
            .unwrap();
    level.notify = vec![to.into()];
    level
}

fn with_funds(warning: Level, critical: Level) -> AccountPolicy {
    let funds = Rule::new("funds".into(), Metric::AvailableFunds, Some(warning), Some(critical)).unwrap();
    account_policy::policy(DivisionScope::Undivided, vec![funds], Some(Duration::from_secs(24 * 3600)))
}

#[test]
fn a_level_in_another_currency_does_not_affect_the_other() {
    for (policy, raised) in [
        (with_funds(euros("2000", "slack"), level("500", "pager")), "raised funds → pager"),
        (with_funds(level("2000", "slack"), euros("500", "pager")), "raised funds → slack"),
    ] {
        let mut state = State::default();
        process(&mut state, &policy, &account_readings(good("88")), at(0));
        assert_eq!(take_events(&mut state), [raised, "raised unreadable (0 unchanged) → slack"]);
        process(&mut state, &policy, &account_readings(good("5000")), at(60));
        assert_eq!(take_events(&mut state), [raised.replace("raised", "resolved")]);
        let left: Vec<&str> = state.alerts.keys().map(|key| &*key.rule).collect();
        assert_eq!(left, ["unreadable"], "the level still cannot be evaluated");
    }
}

#[test]
fn a_level_that_can_no_longer_be_compared_stays_unchanged() {
    let (before, mut state) = (policy(DivisionScope::Undivided), State::default());
    process(&mut state, &before, &account_readings(good("100")), at(0));
    take_events(&mut state);
    let after = with_funds(euros("2000", "slack"), level("500", "pager"));
    process(&mut state, &after, &account_readings(good("9000")), at(60));
    assert_eq!(take_events(&mut state), ["eased funds → pager,slack", "raised unreadable (1 unchanged) → slack"]);
    process(&mut state, &after, &account_readings(good("9000")), at(60 + 2 * 24 * 3600));
    assert!(take_events(&mut state).iter().all(|it| !it.contains("funds")), "an unchanged alert sends no reminders");
    process(&mut state, &before, &account_readings(good("9000")), at(120 + 2 * 24 * 3600));
    assert_eq!(take_events(&mut state), ["resolved funds → pager,slack", "resolved unreadable (0 unchanged) → slack"]);
}

#[test]
fn a_level_is_compared_only_in_the_currency_that_it_fired_in() {
    let (policy, mut state) = (with_funds(euros("2000", "slack"), level("500", "pager")), State::default());
    process(&mut state, &policy, &account_readings(good("88")), at(0));
    take_events(&mut state);
    let yen = Balance { currency: Ok(Currency::parse("JPY").unwrap()), ..good("9000").unwrap() };
    process(&mut state, &policy, &account_readings(Ok(yen)), at(60));
    assert_eq!(take_events(&mut state), [""; 0]);
    assert_eq!(state.alerts.len(), 2, "neither alert resolves");
}

#[test]
fn no_two_alerts_or_notices_share_an_event_id() {
    let (mut state, now) = (State::default(), at(0));
    let pairs = [("a/b", "c"), ("a", "b/c"), ("unwatched", "c"), ("~unwatched", "c")];
    for (rule, account) in pairs {
        let rule = Rule::new(rule.into(), Metric::AvailableFunds, Some(level("2000", "slack")), None).unwrap();
        let policy = AccountPolicy {
            account: account.into(),
            ..account_policy::policy(DivisionScope::Undivided, vec![rule], None)
        };
        process(&mut state, &policy, &account_readings(good("1000")), now);
    }
    let (account, division_name, rules) = (Name::from("c"), None, Vec::new());
    let gone = EventSubject::Unwatched { account, division: None, division_name, rules };
    state.queue.enqueue(NewEvent::notice(gone, now, ["slack".into()].into()));
    // Delivered events are gone from the queue, so each id must differ from all others by itself.
    let stems: BTreeSet<&str> = state.queue.iter().filter_map(|queued| queued.event.id.split('@').next()).collect();
    assert_eq!(stems.len(), pairs.len() + 1, "{stems:?}");
    assert!(state.queue.iter().all(|queued| !queued.event.id.contains(".2")), "{stems:?}");
}

#[test]
fn status_and_report_show_since_when_the_level_they_name_is_breached() {
    let (policy, mut state) = (policy(DivisionScope::Undivided), State::default());
    process(&mut state, &policy, &account_readings(good("1000")), at(0));
    process(&mut state, &policy, &account_readings(good("100")), at(900));
    let status = lowtide::status::answers::status_from_state(&state);
    assert_eq!((status.alerts[0].level, status.alerts[0].since), (Severity::Critical, Some(at(900))));
    let latest = [LatestFigures { figures: FundFigures::never_read("acme".into(), None, None), failure: None }];
    let name = Name::from("weekly");
    let request = ReportRequest { name: &name, due: at(901), next: None, now: at(901), silences: &[] };
    let (page, _) = build_page(&request, &latest, &state);
    assert_eq!(page.rows[0].alerts[0].since, Some(at(900)));
    // The same within a `for`.
    let mut slow = level("500", "pager");
    slow.hold = Duration::from_secs(3600);
    let mut both = level("2000", "slack");
    both.hold = Duration::from_secs(3600);
    let (policy, mut state) = (with_funds(both, slow), State::default());
    process(&mut state, &policy, &account_readings(good("1000")), at(0));
    process(&mut state, &policy, &account_readings(good("100")), at(900));
    let status = lowtide::status::answers::status_from_state(&state);
    assert_eq!((status.alerts[0].level, status.alerts[0].since), (Severity::Critical, Some(at(900))));
}

/// Answers after ten minutes, with the next of these currencies.
struct SlowSource(Arc<dyn Clock>, std::sync::Mutex<Vec<&'static str>>);

#[async_trait]
impl BalanceSource for SlowSource {
    async fn balance(&self, _: Division) -> Result<Balance, ReadError> {
        self.0.sleep(Duration::from_secs(600)).await;
        let currency = self.1.lock().unwrap().pop().unwrap();
        Ok(Balance { currency: Ok(Currency::parse(currency).unwrap()), ..good("100").unwrap() })
    }
    async fn divisions(&self) -> Result<Vec<ListedDivision>, ReadError> {
        unreachable!("the account has none")
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_is_stamped_when_queued_and_its_reminder_as_planned() {
    let (clock, store) = (VirtualClock::begin(), StateStore::new(State::default(), Arc::new(AcceptingBackend)));
    let source = Arc::new(SlowSource(Arc::clone(&clock), std::sync::Mutex::new(vec!["USD"])));
    let poller = Poller { policy: policy(DivisionScope::Undivided), source, history: None, clock };
    poller.run_cycle(&mut PollerState::default(), &store, epoch()).await;
    let queued = epoch() + Duration::from_secs(600);
    store.read(|state| {
        let event = &state.queue.events()[0].event;
        let EventSubject::Threshold(threshold) = &event.subject else { panic!("{event:?}") };
        assert_eq!((event.at, threshold.since), (queued, epoch()));
        assert_eq!(threshold.next_reminder, Some(epoch() + Duration::from_secs(24 * 3600)));
        assert_eq!(state.alerts.values().next().unwrap().alert.last_event, Some(epoch()));
    });
}

#[test]
fn an_alert_lasts_from_its_first_planned_reading_to_its_last() {
    let (policy, mut state) = (policy(DivisionScope::Undivided), State::default());
    // Reading takes ten minutes in each cycle.
    let cycle =
        |hours: i64| CycleTime::new(at(0) + TimeDelta::hours(hours), at(0) + TimeDelta::minutes(60 * hours + 10));
    process(&mut state, &policy, &account_readings(good("100")), cycle(0));
    process(&mut state, &policy, &account_readings(good("9000")), cycle(2));
    let event = &state.queue.events().last().unwrap().event;
    let EventSubject::Threshold(threshold) = &event.subject else { panic!("{event:?}") };
    assert_eq!((threshold.kind, event.lasted(threshold.since)), (TransitionKind::Resolved, TimeDelta::hours(2)));
    assert_eq!(event.at, at(0) + TimeDelta::minutes(130));
}

#[tokio::test(start_paused = true)]
async fn a_cycle_in_another_currency_than_before_is_not_complete() {
    let (clock, store) = (VirtualClock::begin(), StateStore::new(State::default(), Arc::new(AcceptingBackend)));
    let source = Arc::new(SlowSource(Arc::clone(&clock), std::sync::Mutex::new(vec!["USD", "JPY", "USD"])));
    let policy = policy(DivisionScope::Undivided);
    let (poller, mut poller_state) = (Poller { policy, source, history: None, clock }, PollerState::default());
    for complete in [true, false, true] {
        let outcome = poller.run_cycle(&mut poller_state, &store, poller.clock.now()).await;
        assert_eq!(outcome.complete, complete);
    }
}

fn with_incidents(policy: AccountPolicy) -> AccountPolicy {
    AccountPolicy { incident_notifiers: Arc::new(BTreeSet::from(["pager".into()])), ..policy }
}

#[test]
fn an_easing_opens_no_incident_where_warnings_do_not_go() {
    let (policy, mut state) = (with_incidents(policy(DivisionScope::Undivided)), State::default());
    process(&mut state, &policy, &account_readings(good("100")), at(0));
    assert_eq!(take_events(&mut state), ["raised funds → pager"]);
    process(&mut state, &policy, &account_readings(good("1000")), at(1));
    assert_eq!(state.hand_over(&"slack".into(), &"pager".into(), "404", None), 0);
    assert_eq!(take_events(&mut state), ["eased funds → slack"]);
    process(&mut state, &policy, &account_readings(good("5000")), at(2));
    assert_eq!(take_events(&mut state), ["resolved funds → pager,slack"]);
}

#[test]
fn an_unconfigured_alert_resolves_its_incident_without_a_message() {
    let all = with_incidents(policy(DivisionScope::All(BTreeSet::new())));
    let mut state = State::default();
    process(&mut state, &all, &divisions(&[7, 8, 9]), at(0));
    // One event is delivered, the others are pending.
    let ids = BTreeSet::from([state.queue.events()[0].event.id.clone()]);
    state.mark_delivered(&"pager".into(), &ids, None, &[]);
    let narrowed = with_incidents(policy(DivisionScope::All(BTreeSet::from([7, 8]))));
    assert_eq!(end_unconfigured_alerts(&mut state, &[&narrowed], at(1)).len(), 2);
    assert_eq!(state.hand_over(&"pager".into(), &"mail".into(), "404", None), 2, "the two that were raised");
    let expected = [
        "raised funds → mail,pager",
        "raised funds → mail,pager",
        "ended funds critical → pager",
        "ended funds critical → pager",
    ];
    assert_eq!(take_events(&mut state), expected);
    // For a division that is gone from the listing, people get a notice, and each incident is resolved.
    process(&mut state, &narrowed, &AccountReadings { divisions: Vec::new(), ..divisions(&[7, 8]) }, at(2));
    assert_eq!(take_events(&mut state), ["ended funds critical → pager", "unwatched 9 funds → mail"]);
    assert_eq!(state, State::default());
}

#[test]
fn a_failing_notifier_removed_from_the_configuration_is_resolved() {
    let (mut state, incidents) = (State::default(), BTreeSet::from(["pager".into()]));
    for name in ["gone", "brief"] {
        state.record_failure(&name.into(), "404", at(0)).reported = name == "gone";
    }
    state.end_removed_notifiers(|name| name == "pager", &incidents, at(1));
    let queued: Vec<_> = state.queue.iter().map(|queued| queued.event.subject.clone()).collect();
    assert_eq!(queued, [EventSubject::NotifierRemoved { notifier: "gone".into() }]);
    assert_eq!(state.hand_over(&"pager".into(), &"mail".into(), "404", None), 0);
    let json = lowtide::state::encode(&state).unwrap().to_bytes();
    assert_eq!(serde_json::from_slice::<State>(&json).unwrap(), state);
}

#[test]
fn pending_events_of_an_ended_alert_open_no_incident_by_fallback() {
    let (policy, mut state) = (with_incidents(policy(DivisionScope::Undivided)), State::default());
    process(&mut state, &policy, &account_readings(good("1000")), at(0));
    let other = with_incidents(account_policy::policy(DivisionScope::Undivided, Vec::new(), None));
    assert_eq!(end_unconfigured_alerts(&mut state, &[&other], at(1)).len(), 1);
    assert_eq!(state.hand_over(&"slack".into(), &"pager".into(), "404", None), 0);
    assert_eq!(take_events(&mut state), ["raised funds → slack"]);
}

#[test]
fn an_event_queued_by_an_older_version_keeps_its_id_and_thread() {
    let (policy, mut state) = (policy(DivisionScope::Undivided), State::default());
    process(&mut state, &policy, &account_readings(good("1000")), at(0));
    let new = state.queue.events()[0].event.id.clone();
    let old = "a/b/funds/acme@1";
    let json = String::from_utf8(lowtide::state::encode(&state).unwrap().to_bytes()).unwrap();
    let mut state: State = serde_json::from_str(&json.replace(&new, old)).unwrap();
    process(&mut state, &policy, &account_readings(good("5000")), at(60));
    state.mark_delivered(&"slack".into(), &BTreeSet::from([old.to_owned()]), Some("<first@example.com>"), &[]);
    let (event, delivery) = state.queue.pending_for("slack").next().unwrap();
    assert_eq!(
        (event.kind(), delivery.thread.as_deref()),
        (Some(TransitionKind::Resolved), Some("<first@example.com>"))
    );
}
