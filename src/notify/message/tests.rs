//! Appearance of messages, and tests that text from outside cannot change their structure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{Duration, TimeZone, Utc};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::domain::Time;
use crate::domain::alert::{AlertKey, TransitionKind};
use crate::domain::balance::{Breakdown, MetricValue, Persistence};
use crate::domain::event::{EvaluatedThreshold, Event, EventSubject, ThresholdEvent, UnreadableEvent};
use crate::domain::forecast::{ForecastBand, ForecastSummary, FundChart, RenewalsDue, Runway};
use crate::domain::money::{Currency, Money, parse_amount};
use crate::domain::rule::{Metric, Severity, ThresholdAmount, ThresholdSide};
use crate::notify::channels::email::rendering::email;
use crate::notify::channels::slack::blocks::payload;
use crate::notify::{FallbackOrigin, Message, MessageContent, MessageContext, MessageEvent, RuleTexts};

fn now() -> Time {
    Utc.with_ymd_and_hms(2026, 11, 23, 8, 15, 0).unwrap()
}

fn usd(text: &str) -> Money {
    Money::new(parse_amount(text).unwrap(), Currency::parse("USD").unwrap())
}

fn key(division: Option<u64>, rule: &str) -> AlertKey {
    AlertKey { account: "acme".into(), division, rule: rule.into() }
}

fn event(subject: EventSubject) -> Event {
    Event { id: "1".to_owned(), at: now(), evaluated_at: None, subject, silence: None, audience: BTreeSet::new() }
}

fn funds(kind: TransitionKind, level: Severity, left: &str) -> ThresholdEvent {
    let threshold = if level == Severity::Critical { "500" } else { "2000" };
    let balance = usd(left).amount - usd("2000").amount;
    ThresholdEvent {
        key: key(Some(11224), "available-funds"),
        division_name: Some("History department".to_owned()),
        kind,
        level,
        since: if kind == TransitionKind::Raised { now() } else { now() - Duration::minutes(200) },
        metric: Metric::AvailableFunds,
        within: None,
        value: MetricValue::Amount(usd(left)),
        threshold: Some(EvaluatedThreshold {
            side: ThresholdSide::Below,
            bound: ThresholdAmount { value: usd(threshold).amount, currency: Some(usd("1").currency) }.into(),
        }),
        breakdown: Some(Breakdown {
            currency: usd("1").currency,
            balance,
            credit_limit: Some(usd("2000").amount),
            unpaid_invoices: usd("0").amount,
            used_credit: usd("0").amount,
        }),
        next_reminder: (kind != TransitionKind::Resolved).then(|| now() + Duration::days(1)),
        forecast: None,
        chart: None,
    }
}

/// Returns a forecast with about eleven days left and twelve renewals due.
fn forecast() -> ForecastSummary {
    let day = |day| Some(now() + Duration::days(day));
    ForecastSummary {
        runway: Runway::Until { about: day(11), early: day(4), late: day(19), percent: 90 },
        deposit: Some(usd("3200")),
        typical_order: None,
        paid_in_full: None,
        renewals: Some(RenewalsDue { count: 12, amount: usd("4788"), from_balance: Some(4788.into()) }),
        sparkline: (0..28).map(|day| 8 - day / 4).collect(),
    }
}

fn chart() -> Arc<FundChart> {
    let amount = |text| usd(text).amount;
    let day = |day| now() + Duration::days(day);
    Arc::new(FundChart {
        currency: usd("1").currency,
        now: now(),
        past: vec![(day(-28), amount("5431")), (day(0), amount("1431"))],
        thresholds: vec![(Severity::Warning, amount("2000"))],
        renewals: vec![(day(5), amount("4788"))],
        runway: forecast().runway,
        future: vec![ForecastBand { at: day(11), low: amount("-100"), middle: amount("0"), high: amount("500") }],
        percent: 90,
    })
}

fn funds_with_forecast() -> ThresholdEvent {
    ThresholdEvent { forecast: Some(Box::new(forecast())), chart: Some(chart()), ..warning() }
}

fn with_runway(runway: Runway) -> Event {
    let forecast = ForecastSummary {
        runway,
        typical_order: None,
        deposit: None,
        paid_in_full: None,
        renewals: None,
        sparkline: Vec::new(),
    };
    event(EventSubject::Threshold(ThresholdEvent { forecast: Some(Box::new(forecast)), ..warning() }))
}

fn warning() -> ThresholdEvent {
    funds(TransitionKind::Raised, Severity::Warning, "1431")
}

fn other(metric: Metric, side: ThresholdSide, value: &str, threshold: &str) -> Event {
    let limit = EvaluatedThreshold {
        side,
        bound: ThresholdAmount { value: usd(threshold).amount, currency: Some(usd("1").currency) }.into(),
    };
    let key = key(None, metric.name());
    event(EventSubject::Threshold(ThresholdEvent {
        key,
        division_name: None,
        metric,
        within: None,
        value: MetricValue::Amount(usd(value)),
        threshold: Some(limit),
        ..warning()
    }))
}

fn unreadable(kind: TransitionKind) -> Event {
    let firing = kind != TransitionKind::Resolved;
    event(EventSubject::Unreadable(UnreadableEvent {
        key: key(Some(11224), "unreadable"),
        division_name: Some("History department".to_owned()),
        kind,
        level: Severity::Warning,
        since: now() - Duration::hours(3),
        reason: firing.then(|| "CertCentral answered 403: the API key lacks a permission".to_owned()),
        persistence: firing.then_some(Persistence::Permanent),
        firing_alerts: if firing {
            vec![(key(Some(11224), "available-funds"), Severity::Critical)]
        } else {
            Vec::new()
        },
        unevaluated_rules: Vec::new(),
        next_reminder: None,
    }))
}

fn message(events: Vec<Event>) -> Message {
    let items =
        events.into_iter().map(|event| MessageEvent { event: event.into(), omitted: 0, in_place_of: None }).collect();
    Message {
        id: "abc".to_owned(),
        at: now(),
        content: MessageContent::Events(items),
        references: Vec::new(),
        remaining_recipients: None,
    }
}

fn context() -> MessageContext {
    let description = Some("Ask Finance for a purchase order; a PO takes five working days.".to_owned());
    MessageContext {
        timezone: chrono_tz::Tz::Europe__Amsterdam,
        rules: BTreeMap::from([("available-funds".into(), RuleTexts { description, link: None })]),
        console_urls: BTreeMap::from([("acme".into(), "https://www.digicert.com/secure/?a=1&b=2|x".to_owned())]),
    }
}

fn mention() -> BTreeMap<Severity, String> {
    BTreeMap::from([(Severity::Critical, "<!here>".to_owned())])
}

/// Returns subject and text without the signature.
fn rendered(message: &Message) -> String {
    let mail = email(message, &context());
    format!("{}\n\n{}", mail.subject, mail.text.split("\n\n-- ").next().unwrap_or_default())
}

fn all(events: Vec<Event>) -> String {
    events.into_iter().map(|event| rendered(&message(vec![event]))).collect::<Vec<_>>().join("\n\n====\n")
}

#[test]
fn a_warning_reads_as_the_contract_says() {
    insta::assert_snapshot!(rendered(&message(vec![event(EventSubject::Threshold(warning()))])), @r##"
    [warning] acme · History department: USD 1,431.00 left (warning below USD 2,000.00)

    acme · History department: USD 1,431.00 left (warning below USD 2,000.00)
    USD 569.00 under the threshold since Mon 23 Nov, 09:15 CET.
    Balance −569.00 + credit limit 2,000.00 − unpaid invoices 0.00 − used by other divisions 0.00
    Ask Finance for a purchase order; a PO takes five working days.
    Deposit funds: https://www.digicert.com/secure/?a=1&b=2|x
    rule available-funds · next reminder Tue 24 Nov, 09:15
    "##);
}

#[test]
fn every_transition_has_its_own_wording() {
    let transitions = [
        funds(TransitionKind::Escalated, Severity::Critical, "431"),
        funds(TransitionKind::Eased, Severity::Warning, "1800"),
        funds(TransitionKind::Reminder, Severity::Warning, "2100"),
        funds(TransitionKind::Resolved, Severity::Warning, "5431"),
        ThresholdEvent { value: MetricValue::Unlimited, ..funds(TransitionKind::Resolved, Severity::Warning, "5431") },
    ];
    let transitions = transitions
        .into_iter()
        .map(|it| event(EventSubject::Threshold(ThresholdEvent { next_reminder: None, breakdown: None, ..it })));
    insta::assert_snapshot!(all(transitions.collect()), @r##"
    [critical] Now critical: acme · History department: USD 431.00 left (critical below USD 500.00)

    Now critical: acme · History department: USD 431.00 left (critical below USD 500.00)
    USD 69.00 under the threshold since Mon 23 Nov, 05:55 CET.
    Ask Finance for a purchase order; a PO takes five working days.
    Deposit funds: https://www.digicert.com/secure/?a=1&b=2|x
    rule available-funds

    ====
    [warning] Improved to warning: acme · History department: USD 1,800.00 left (warning below USD 2,000.00)

    Improved to warning: acme · History department: USD 1,800.00 left (warning below USD 2,000.00)
    USD 200.00 under the threshold since Mon 23 Nov, 05:55 CET.
    Ask Finance for a purchase order; a PO takes five working days.
    Deposit funds: https://www.digicert.com/secure/?a=1&b=2|x
    rule available-funds

    ====
    [warning] Still warning: acme · History department: USD 2,100.00 left (warning below USD 2,000.00)

    Still warning: acme · History department: USD 2,100.00 left (warning below USD 2,000.00)
    Since Mon 23 Nov, 05:55 CET.
    Ask Finance for a purchase order; a PO takes five working days.
    Deposit funds: https://www.digicert.com/secure/?a=1&b=2|x
    rule available-funds

    ====
    [resolved] acme · History department: USD 5,431.00 left

    Resolved: acme · History department: USD 5,431.00 left
    Back above USD 2,000.00 after 3 h 20 min.
    Ask Finance for a purchase order; a PO takes five working days.
    rule available-funds

    ====
    [resolved] acme · History department: unlimited funds

    Resolved: acme · History department: unlimited funds
    Back above USD 2,000.00 after 3 h 20 min.
    Ask Finance for a purchase order; a PO takes five working days.
    rule available-funds
    "##);
}

#[test]
fn every_metric_has_its_own_wording() {
    insta::assert_snapshot!(all(vec![
        other(Metric::Balance, ThresholdSide::Below, "431", "500"),
        other(Metric::UnpaidInvoices, ThresholdSide::Above, "1200", "1000"),
        other(Metric::UsedCredit, ThresholdSide::Above, "1200", "1000"),
    ]), @r##"
    [warning] acme: balance USD 431.00 (warning below USD 500.00)

    acme: balance USD 431.00 (warning below USD 500.00)
    USD 69.00 under the threshold since Mon 23 Nov, 09:15 CET.
    Deposit funds: https://www.digicert.com/secure/?a=1&b=2|x
    rule balance · next reminder Tue 24 Nov, 09:15

    ====
    [warning] acme: USD 1,200.00 of unpaid invoices (warning above USD 1,000.00)

    acme: USD 1,200.00 of unpaid invoices (warning above USD 1,000.00)
    USD 200.00 over the threshold since Mon 23 Nov, 09:15 CET.
    Deposit funds: https://www.digicert.com/secure/?a=1&b=2|x
    rule unpaid_invoices · next reminder Tue 24 Nov, 09:15

    ====
    [warning] acme: USD 1,200.00 of credit used by other divisions (warning above USD 1,000.00)

    acme: USD 1,200.00 of credit used by other divisions (warning above USD 1,000.00)
    USD 200.00 over the threshold since Mon 23 Nov, 09:15 CET.
    Deposit funds: https://www.digicert.com/secure/?a=1&b=2|x
    rule used_credit · next reminder Tue 24 Nov, 09:15
    "##);
}

#[test]
fn a_resolved_shortfall_shows_no_amount() {
    let EventSubject::Threshold(it) = other(Metric::Shortfall, ThresholdSide::Above, "0", "0").subject else {
        panic!()
    };
    let within = Some(std::time::Duration::from_secs(30 * 24 * 3600));
    let text = rendered(&message(vec![event(EventSubject::Threshold(ThresholdEvent {
        kind: TransitionKind::Resolved,
        within,
        ..it
    }))]));
    assert!(text.contains("Resolved: acme: funds cover the renewals due within 30 days"), "{text}");
}

#[test]
fn notices_are_rendered_too() {
    let (notifier, since) = ("finance-slack".into(), now() - Duration::hours(1));
    let failing = EventSubject::NotifierFailing { notifier, since, error: "Slack answered 503".to_owned() };
    let recovered = EventSubject::NotifierRecovered { notifier: "finance-slack".into(), since };
    let unwatched = EventSubject::Unwatched {
        account: "acme".into(),
        division: Some(11224),
        division_name: None,
        rules: vec!["available-funds".into(), "unpaid-invoices".into()],
    };
    let test = Message { content: MessageContent::Test { notifier: "finance-slack".into() }, ..message(Vec::new()) };
    let events = vec![
        unreadable(TransitionKind::Raised),
        unreadable(TransitionKind::Resolved),
        event(unwatched),
        event(failing),
        event(recovered),
    ];
    insta::assert_snapshot!(format!("{}\n\n====\n{}", all(events), rendered(&test)), @r##"
    [warning] acme · History department: the balance cannot be read

    acme · History department: the balance cannot be read
    Unreadable since Mon 23 Nov, 06:15 CET (warning).
    Reason: CertCentral answered 403: the API key lacks a permission.
    This does not clear on its own: someone has to act.
    Still firing when it was last read: available-funds (critical).
    Open alerts stay open meanwhile.
    rule unreadable

    ====
    [resolved] acme · History department: the balance can be read again

    Resolved: acme · History department: the balance can be read again
    It could not be read since Mon 23 Nov, 06:15 CET (for 3 h).
    rule unreadable

    ====
    [notice] acme · division 11224 is no longer watched: the division is gone from CertCentral's list

    acme · division 11224 is no longer watched: the division is gone from CertCentral's list
    Its alerts ended: available-funds, unpaid-invoices.

    ====
    [notice] Notifier finance-slack cannot deliver

    Notifier finance-slack cannot deliver
    It has failed since Mon 23 Nov, 08:15 CET.
    Last error: Slack answered 503.

    ====
    [notice] Notifier finance-slack works again

    Notifier finance-slack works again
    It could not deliver since Mon 23 Nov, 08:15 CET (for 1 h).

    ====
    [TEST] This is a test from lowtide: notifier finance-slack works. No action needed.

    This is a test from lowtide: notifier finance-slack works. No action needed.
    "##);
}

fn unevaluated_rules(kind: TransitionKind, rules: &[&str]) -> Event {
    let EventSubject::Unreadable(it) = unreadable(kind).subject else { panic!() };
    let rules = rules.iter().map(|rule| (*rule).into()).collect();
    event(EventSubject::Unreadable(UnreadableEvent { unevaluated_rules: rules, ..it }))
}

#[test]
fn unevaluated_rules_do_not_make_a_read_balance_unreadable() {
    let events = vec![
        unevaluated_rules(TransitionKind::Raised, &["runway", "spend"]),
        unevaluated_rules(TransitionKind::Reminder, &["runway"]),
        unevaluated_rules(TransitionKind::Resolved, &["runway"]),
    ];
    insta::assert_snapshot!(all(events), @"
    [warning] acme · History department: rules runway and spend cannot be evaluated

    acme · History department: rules runway and spend cannot be evaluated
    Unreadable since Mon 23 Nov, 06:15 CET (warning).
    Reason: CertCentral answered 403: the API key lacks a permission.
    This does not clear on its own: someone has to act.
    Still firing when it was last evaluated: available-funds (critical).
    Open alerts stay open meanwhile.
    rule unreadable

    ====
    [warning] Still warning: acme · History department: rule runway cannot be evaluated

    Still warning: acme · History department: rule runway cannot be evaluated
    Unreadable since Mon 23 Nov, 06:15 CET (warning).
    Reason: CertCentral answered 403: the API key lacks a permission.
    This does not clear on its own: someone has to act.
    Still firing when it was last evaluated: available-funds (critical).
    Open alerts stay open meanwhile.
    rule unreadable

    ====
    [resolved] acme · History department: everything can be read again

    Resolved: acme · History department: everything can be read again
    Some data could not be read since Mon 23 Nov, 06:15 CET (for 3 h).
    rule unreadable
    ");
    let many = unevaluated_rules(TransitionKind::Raised, &["a", "b", "c", "d", "e", "f", "g"]);
    let view = super::view(&message(vec![many]), &context());
    assert_eq!(view.title, "acme · History department: rules a, b, c, d, e and 2 more cannot be evaluated");
    let record = |event| {
        crate::notify::channels::webhook::record::webhook_document(&message(vec![event]), &context())["unevaluated_rules"].clone()
    };
    assert_eq!(record(unevaluated_rules(TransitionKind::Raised, &["runway"])), serde_json::json!(["runway"]));
    assert_eq!(record(unreadable(TransitionKind::Raised)), serde_json::json!([]));
}

fn runway(kind: TransitionKind, days: u64) -> ThresholdEvent {
    let day = std::time::Duration::from_secs(24 * 3600);
    ThresholdEvent {
        key: key(None, "runway"),
        division_name: None,
        metric: Metric::Runway,
        value: MetricValue::Time(day * u32::try_from(days).unwrap()),
        threshold: Some(EvaluatedThreshold { side: ThresholdSide::Below, bound: (day * 14).into() }),
        breakdown: None,
        next_reminder: None,
        ..funds(kind, Severity::Warning, "1431")
    }
}

#[test]
fn a_runway_shows_its_early_end() {
    let events = [
        runway(TransitionKind::Raised, 4),
        runway(TransitionKind::Raised, 13),
        ThresholdEvent {
            forecast: Some(Box::new(ForecastSummary { runway: Runway::Exhausted, ..forecast() })),
            ..runway(TransitionKind::Raised, 0)
        },
        ThresholdEvent { forecast: Some(Box::new(forecast())), ..runway(TransitionKind::Raised, 0) },
        runway(TransitionKind::Reminder, 20),
        runway(TransitionKind::Resolved, 14),
        runway(TransitionKind::Resolved, 161),
        ThresholdEvent { value: MetricValue::Unlimited, ..runway(TransitionKind::Resolved, 0) },
    ];
    let two_lines = |it: ThresholdEvent| {
        let view = super::view(&message(vec![event(EventSubject::Threshold(it))]), &context());
        format!("{}\n{}", view.title, view.entries[0].details[0])
    };
    insta::assert_snapshot!(events.map(two_lines).join("\n\n"), @"
    acme: funds may last only 4 days (warning below 14 days)
    10 days under the threshold since Mon 23 Nov, 09:15 CET.

    acme: funds may last only 13 days (warning below 14 days)
    1 day under the threshold since Mon 23 Nov, 09:15 CET.

    acme: funds do not cover a typical order (warning below 14 days)
    14 days under the threshold since Mon 23 Nov, 09:15 CET.

    acme: funds may not last a day (warning below 14 days)
    14 days under the threshold since Mon 23 Nov, 09:15 CET.

    Still warning: acme: funds last at least 20 days (warning below 14 days)
    Since Mon 23 Nov, 05:55 CET.

    Resolved: acme: funds last at least 14 days
    Back at 14 days after 3 h 20 min.

    Resolved: acme: funds last at least 161 days
    Back above 14 days after 3 h 20 min.

    Resolved: acme: funds last for more than a year
    Back above 14 days after 3 h 20 min.
    ");
    let record = crate::notify::channels::webhook::record::webhook_document(
        &message(vec![event(EventSubject::Threshold(runway(TransitionKind::Raised, 4)))]),
        &context(),
    );
    assert_eq!(record["missing"], serde_json::json!({ "seconds": 864_000 }));
}

#[test]
fn no_deposit_is_suggested_where_it_does_not_help() {
    let labels = |metric| {
        let EventSubject::Threshold(it) = other(metric, ThresholdSide::Above, "500", "100").subject else { panic!() };
        let within = Some(std::time::Duration::from_secs(30 * 24 * 3600));
        let it = ThresholdEvent { within, ..it };
        let view = super::view(&message(vec![event(EventSubject::Threshold(it))]), &context());
        let labels: Vec<&str> = view.entries[0].links.iter().map(|link| link.label).collect();
        (view.title, labels)
    };
    let expiring =
        "acme: USD 500.00 of deposits expire within 30 days unless they are spent (warning above USD 100.00)";
    assert_eq!(labels(Metric::ExpiringFunds), (expiring.to_owned(), vec![]));
    assert!(labels(Metric::Spend).1.is_empty());
    assert_eq!(labels(Metric::Shortfall).1, ["Deposit funds"]);
}

#[test]
fn a_count_names_the_account_where_all_are_of_one() {
    let of = |account: &str, rule: &str| {
        let key = AlertKey { account: account.into(), division: None, rule: rule.into() };
        event(EventSubject::Threshold(ThresholdEvent { key, ..warning() }))
    };
    let title = |events| super::view(&message(events), &context()).title;
    assert_eq!(title(vec![of("acme", "a"), of("acme", "b")]), "acme: 2 alerts: 2 warnings");
    assert_eq!(title(vec![of("acme", "a"), of("other", "a")]), "2 alerts: 2 warnings");
    let failing = EventSubject::NotifierFailing { notifier: "chat".into(), since: now(), error: "no".to_owned() };
    assert_eq!(title(vec![of("acme", "a"), event(failing)]), "1 alert: 1 warning; 1 notice");
}

#[test]
fn events_of_one_alert_and_divisions_of_one_fund_are_grouped() {
    let mut history = vec![event(EventSubject::Threshold(warning()))];
    history[0].at = now() - Duration::hours(5);
    history.push(event(EventSubject::Threshold(funds(TransitionKind::Escalated, Severity::Critical, "431"))));
    let division = |id, name: &str| {
        let key = key(Some(id), "available-funds");
        event(EventSubject::Threshold(ThresholdEvent { key, division_name: Some(name.to_owned()), ..warning() }))
    };
    let mut message = message(
        [division(7, "Law"), division(8, "Arts"), unreadable(TransitionKind::Resolved)]
            .into_iter()
            .chain(history)
            .collect(),
    );
    if let MessageContent::Events(items) = &mut message.content {
        items[4].omitted = 3;
        items[4].in_place_of = Some(FallbackOrigin {
            notifier: "finance-slack".into(),
            error: "Slack answered 404: no_service".to_owned(),
        });
    }
    insta::assert_snapshot!(rendered(&message), @"
    [critical] acme: 3 alerts: 1 critical, 1 warning, 1 resolved

    acme: 3 alerts: 1 critical, 1 warning, 1 resolved

    Now critical: acme · History department: USD 431.00 left (critical below USD 500.00)
    USD 69.00 under the threshold since Mon 23 Nov, 05:55 CET.
    Balance −1,569.00 + credit limit 2,000.00 − unpaid invoices 0.00 − used by other divisions 0.00
    Sent here because finance-slack could not deliver: Slack answered 404: no_service
      Raised Mon 23 Nov, 04:15 CET at USD 1,431.00
      3 more changes in between
    Ask Finance for a purchase order; a PO takes five working days.
    Deposit funds: https://www.digicert.com/secure/?a=1&b=2|x
    rule available-funds · next reminder Tue 24 Nov, 09:15

    acme · Law, Arts: USD 1,431.00 left (warning below USD 2,000.00)
    USD 569.00 under the threshold since Mon 23 Nov, 09:15 CET.
    Balance −569.00 + credit limit 2,000.00 − unpaid invoices 0.00 − used by other divisions 0.00
    Ask Finance for a purchase order; a PO takes five working days.
    Deposit funds: https://www.digicert.com/secure/?a=1&b=2|x
    rule available-funds · next reminder Tue 24 Nov, 09:15

    Resolved: acme · History department: the balance can be read again
    It could not be read since Mon 23 Nov, 06:15 CET (for 3 h).
    rule unreadable
    ");
}

#[test]
fn a_total_without_a_limit_names_its_source() {
    let limitless = warning().breakdown.map(|parts| Breakdown { credit_limit: None, ..parts });
    let reported = ThresholdEvent { breakdown: limitless, ..warning() };
    let text = rendered(&message(vec![event(EventSubject::Threshold(reported.clone()))]));
    assert!(text.contains("(credit limit not reported; CertCentral's own total is shown)"), "{text}");
    let resolved = ThresholdEvent { kind: TransitionKind::Resolved, value: MetricValue::Unlimited, ..reported };
    let text = rendered(&message(vec![event(EventSubject::Threshold(resolved))]));
    assert!(text.contains("unlimited funds") && !text.contains("credit limit"), "{text}");
}

#[test]
fn a_past_reminder_and_a_foreign_threshold_are_left_out() {
    let foreign = EvaluatedThreshold {
        side: ThresholdSide::Below,
        bound: ThresholdAmount { value: usd("2000").amount, currency: Some(Currency::parse("EUR").unwrap()) }.into(),
    };
    let odd = ThresholdEvent { next_reminder: Some(now() - Duration::hours(1)), threshold: Some(foreign), ..warning() };
    let text = rendered(&message(vec![event(EventSubject::Threshold(odd))]));
    assert!(!text.contains("next reminder") && !text.contains("under the threshold"), "{text}");
}

#[test]
fn slack_says_the_headline_once() {
    let body = payload(&message(vec![event(EventSubject::Threshold(warning()))]), &context(), &mention());
    insta::assert_snapshot!(serde_json::to_string_pretty(&body).unwrap(), @r##"
    {
      "attachments": [
        {
          "blocks": [
            {
              "text": {
                "text": "USD 569.00 under the threshold since Mon 23 Nov, 09:15 CET.\nBalance −569.00 + credit limit 2,000.00 − unpaid invoices 0.00 − used by other divisions 0.00",
                "type": "mrkdwn",
                "verbatim": true
              },
              "type": "section"
            },
            {
              "text": {
                "text": "Ask Finance for a purchase order; a PO takes five working days.",
                "type": "mrkdwn",
                "verbatim": false
              },
              "type": "section"
            },
            {
              "elements": [
                {
                  "text": "<https://www.digicert.com/secure/?a=1&amp;b=2%7Cx|Deposit funds>   rule available-funds · next reminder Tue 24 Nov, 09:15",
                  "type": "mrkdwn",
                  "verbatim": true
                }
              ],
              "type": "context"
            }
          ],
          "color": "#f2a100",
          "fallback": "acme · History department: USD 1,431.00 left (warning below USD 2,000.00)"
        }
      ],
      "text": "acme · History department: USD 1,431.00 left (warning below USD 2,000.00)",
      "unfurl_links": false,
      "unfurl_media": false
    }
    "##);
}

#[test]
fn slack_mentions_people_only_for_what_gets_or_stays_bad() {
    let text = |events: Vec<ThresholdEvent>| {
        let events = events.into_iter().map(|it| event(EventSubject::Threshold(it))).collect();
        payload(&message(events), &context(), &mention())["text"].as_str().unwrap().to_owned()
    };
    let at = |division, it: ThresholdEvent| ThresholdEvent { key: key(Some(division), "available-funds"), ..it };
    let critical = || funds(TransitionKind::Raised, Severity::Critical, "431");
    assert_eq!(
        text(vec![
            at(1, warning()),
            at(2, critical()),
            at(3, funds(TransitionKind::Resolved, Severity::Warning, "9000"))
        ]),
        "<!here> acme: 3 alerts: 1 critical, 1 warning, 1 resolved"
    );
    assert!(text(vec![critical()]).starts_with("<!here> acme"));
    for quiet in [
        warning(),
        funds(TransitionKind::Resolved, Severity::Critical, "9000"),
        funds(TransitionKind::Eased, Severity::Warning, "900"),
    ] {
        assert!(!text(vec![quiet]).contains("<!here>"));
    }
}

#[test]
fn more_than_ten_are_ten_in_full_and_a_line_each_as_far_as_they_fit() {
    let events = (0..200).map(|id| {
        let value = MetricValue::Amount(usd(&id.to_string()));
        event(EventSubject::Threshold(ThresholdEvent {
            key: key(Some(id), "available-funds"),
            division_name: None,
            value,
            ..warning()
        }))
    });
    let message = message(events.collect());
    let body = payload(&message, &context(), &mention());
    assert_eq!(body["attachments"].as_array().unwrap().len(), 11);
    let rest = body["attachments"][10]["blocks"][0]["text"]["text"].as_str().unwrap();
    assert!(rest.starts_with("acme · division 10: USD 10.00 left") && rest.contains("\nand "), "{rest}");
    assert!(rendered(&message).ends_with("and 90 more"));
}

#[test]
fn html_and_text_carry_the_same_facts() {
    let events = vec![event(EventSubject::Threshold(warning())), unreadable(TransitionKind::Raised)];
    let mail = email(&message(events), &context());
    assert!(mail.html.contains("USD\u{a0}569.00 under"), "no line breaks within an amount: {}", mail.html);
    let html = mail.html.replace("&#39;", "'").replace("&amp;", "&").replace('\u{a0}', " ");
    for line in mail.text.lines().filter(|line| !line.is_empty() && *line != "-- ") {
        let fact = line.trim_start_matches("Deposit funds: ").trim();
        assert!(html.contains(fact), "{fact} in {html}");
    }
    assert!(!html.contains("<img") && !html.contains("src="));
}

/// Collects every string with the name of its field.
fn strings<'a>(name: &'a str, value: &'a Json, out: &mut Vec<(&'a str, &'a str)>) {
    match value {
        Json::String(text) => out.push((name, text)),
        Json::Array(values) => values.iter().for_each(|value| strings(name, value, out)),
        Json::Object(fields) => fields.iter().for_each(|(name, value)| strings(name, value, out)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_name_breaks_slacks_limits_or_pings_anybody(
        names in proptest::collection::vec("(\\PC|<!channel>|&|<@U1>|\n){0,300}", 1..30),
        description in "(\\PC|<!channel>|&){0,3500}",
        url in "https://[a-z|<>&/]{0,2500}",
    ) {
        let events = names.iter().enumerate().map(|(id, name)| {
            let key = key(Some(id as u64), "available-funds");
            let value = MetricValue::Amount(usd(&id.to_string()));
            event(EventSubject::Threshold(ThresholdEvent { key, division_name: Some(name.clone()), value, ..warning() }))
        });
        let mut context = context();
        context.rules.insert("available-funds".into(), RuleTexts { description: Some(description), link: Some(url.clone()) });
        context.console_urls.insert("acme".into(), url);
        let message = message(events.collect());
        let body = payload(&message, &context, &BTreeMap::new());
        let mut all = Vec::new();
        strings("", &body, &mut all);
        prop_assert!(all.iter().map(|(_, text)| text.chars().count()).sum::<usize>() < 12_000);
        let blocks: usize = body["attachments"].as_array().unwrap().iter().map(|it| it["blocks"].as_array().unwrap().len()).sum();
        prop_assert!(blocks <= 50);
        for (field, text) in all {
            prop_assert!(text.chars().count() <= 3000 || field != "text");
            prop_assert!(!text.contains("<!") && !text.contains("<@"), "{text}");
            let escapes = text.match_indices('&').all(|(at, _)| ["&amp;", "&lt;", "&gt;"].iter().any(|it| text[at..].starts_with(it)));
            prop_assert!(escapes, "{text}");
        }
        let mail = email(&message, &context);
        prop_assert!(mail.subject.chars().count() <= 150 && !mail.subject.contains(char::is_control));
        prop_assert!(!mail.html.contains("<!channel>"));
    }
}

#[test]
fn low_funds_say_what_to_deposit_how_long_they_last_and_how_it_went() {
    let message = message(vec![event(EventSubject::Threshold(funds_with_forecast()))]);
    insta::assert_snapshot!(rendered(&message), @r"
    [warning] acme · History department: USD 1,431.00 left (warning below USD 2,000.00)

    acme · History department: USD 1,431.00 left (warning below USD 2,000.00)
    Deposit USD 3,200.00 to end all alerts for these funds and cover the next 30 days.
    USD 569.00 under the threshold since Mon 23 Nov, 09:15 CET.
    Balance −569.00 + credit limit 2,000.00 − unpaid invoices 0.00 − used by other divisions 0.00
    Funds last until about Fri 4 Dec (90 % likely between 27 Nov and 12 Dec).
    Renewals due in the next 30 days: 12 for USD 4,788.00.
    Last 4 weeks ████▇▇▇▇▆▆▆▆▅▅▅▅▄▄▄▄▃▃▃▃▂▂▂▂
    Ask Finance for a purchase order; a PO takes five working days.
    Deposit funds: https://www.digicert.com/secure/?a=1&b=2|x
    rule available-funds · next reminder Tue 24 Nov, 09:15
    ");
    let body = payload(&message, &context(), &mention());
    insta::assert_snapshot!(body["attachments"][0]["blocks"][0]["text"]["text"].as_str().unwrap(), @r"
    *Deposit USD 3,200.00 to end all alerts for these funds and cover the next 30 days.*
    USD 569.00 under the threshold since Mon 23 Nov, 09:15 CET.
    Balance −569.00 + credit limit 2,000.00 − unpaid invoices 0.00 − used by other divisions 0.00
    Funds last until about Fri 4 Dec (90 % likely between 27 Nov and 12 Dec).
    Renewals due in the next 30 days: 12 for USD 4,788.00.
    Last 4 weeks ████▇▇▇▇▆▆▆▆▅▅▅▅▄▄▄▄▃▃▃▃▂▂▂▂
    ");
    let card = crate::notify::channels::teams::card::payload(&message, &context());
    let line = card.pointer("/attachments/0/content/body/0/items/1/inlines/0").unwrap();
    assert_eq!(line["weight"], "Bolder");
    assert!(line["text"].as_str().unwrap().starts_with("Deposit USD 3,200.00 to end all alerts"), "{line}");
    assert!(card.to_string().contains("Funds last until about Fri 4 Dec"));
}

#[test]
fn the_html_of_an_email_has_one_card_with_chart_and_button() {
    let mail = email(&message(vec![event(EventSubject::Threshold(funds_with_forecast()))]), &context());
    insta::assert_snapshot!(mail.html);
}

#[test]
fn renewals_not_paid_from_the_balance_say_so() {
    let with = |from_balance: &str| {
        let renewals = RenewalsDue { from_balance: parse_amount(from_balance).ok(), ..forecast().renewals.unwrap() };
        let it = ThresholdEvent {
            forecast: Some(Box::new(ForecastSummary { renewals: Some(renewals), ..forecast() })),
            ..funds_with_forecast()
        };
        message(vec![event(EventSubject::Threshold(it))])
    };
    let line = |from_balance: &str| {
        let text = rendered(&with(from_balance));
        text.lines().find(|line| line.starts_with("Renewals due")).unwrap().to_owned()
    };
    insta::assert_snapshot!(line("3904.44"), @"Renewals due in the next 30 days: 12 for USD 4,788.00, of which about USD 3,900 is usually paid from the balance.");
    insta::assert_snapshot!(line("87.5"), @"Renewals due in the next 30 days: 12 for USD 4,788.00, of which about USD 88 is usually paid from the balance.");
    insta::assert_snapshot!(line("0"), @"Renewals due in the next 30 days: 12 for USD 4,788.00, none of which is usually paid from the balance.");
    for nearly_all in ["4788", "4548.6", ""] {
        assert_eq!(line(nearly_all), "Renewals due in the next 30 days: 12 for USD 4,788.00.", "{nearly_all}");
    }
    let part = "of which about USD 3,900 is usually paid from the balance.";
    let message = with("3904.44");
    let mail = email(&message, &context());
    let slack = payload(&message, &context(), &mention()).to_string();
    let teams = crate::notify::channels::teams::card::payload(&message, &context()).to_string();
    for channel in [mail.text, mail.html, slack, teams] {
        assert!(channel.replace('\u{a0}', " ").contains(part), "{channel}");
    }
    let record = |from_balance| {
        crate::notify::channels::webhook::record::webhook_document(&with(from_balance), &context())["forecast"]["renewals"]
            .clone()
    };
    assert_eq!((&record("3904.4")["from_balance"], &record("")["from_balance"]), (&json!("3904.40"), &Json::Null));
}

#[test]
fn a_deposit_that_pays_for_renewals_in_full_says_so() {
    let in_full = RenewalsDue { from_balance: parse_amount("871.6").ok(), ..forecast().renewals.unwrap() };
    let it = |in_full| ThresholdEvent {
        forecast: Some(Box::new(ForecastSummary { paid_in_full: Some(in_full), ..forecast() })),
        ..funds_with_forecast()
    };
    let to_do = |in_full| {
        let text = rendered(&message(vec![event(EventSubject::Threshold(it(in_full)))]));
        text.lines().find(|line| line.starts_with("Deposit")).unwrap().to_owned()
    };
    insta::assert_snapshot!(to_do(in_full), @"Deposit USD 3,200.00 to end all alerts for these funds and cover the next 30 days. It counts USD 4,788.00 of renewals in full, of which about USD 872 is usually paid from the balance.");
    let record = |it| {
        crate::notify::channels::webhook::record::webhook_document(
            &message(vec![event(EventSubject::Threshold(it))]),
            &context(),
        )["forecast"]
            .clone()
    };
    let counted = json!({ "count": 12, "amount": "4788.00", "from_balance": "871.60", "currency": "USD" });
    assert_eq!(record(it(in_full))["paid_in_full"], counted);
    assert_eq!(record(funds_with_forecast()).get("paid_in_full"), Some(&Json::Null));
    let all = RenewalsDue { from_balance: parse_amount("4700").ok(), ..in_full };
    assert!(to_do(all).ends_with("cover the next 30 days."), "nearly all is");
}

#[test]
fn the_text_and_the_picture_of_a_message_name_the_same_days() {
    let day = |days| Some(now() + Duration::days(days));
    let until = |about, early, late| Runway::Until { about, early, late, percent: 90 };
    for (runway, days) in [
        (until(day(11), day(4), day(19)), vec!["4 Dec", "27 Nov", "12 Dec"]),
        (until(day(0), day(0), day(1)), vec!["23 Nov", "24 Nov"]),
        (until(day(50), day(40), None), vec!["12 Jan 2027", "2 Jan 2027"]),
        (until(None, day(40), None), vec!["2 Jan 2027"]),
        (Runway::Exhausted, vec!["he funds do not cover a typical order"]),
    ] {
        let picture = FundChart { runway: runway.clone(), ..(*chart()).clone() };
        let forecast = Some(Box::new(ForecastSummary { runway, ..forecast() }));
        let it = ThresholdEvent { forecast, chart: Some(Arc::new(picture)), ..warning() };
        let mail = email(&message(vec![event(EventSubject::Threshold(it))]), &context());
        let alternative = mail.html.split("alt=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        for day in days {
            assert!(mail.text.contains(day), "{day} in {}", mail.text);
            assert!(alternative.contains(day), "{day} in {alternative}");
        }
    }
}

#[test]
fn every_runway_has_its_own_sentence() {
    let day = |day| Some(now() + Duration::days(day));
    let until = |about, early, late, percent| Runway::Until { about, early, late, percent };
    let lines: Vec<String> = [
        until(day(11), day(4), day(50), 90),
        until(day(11), day(4), None, 95),
        until(None, day(4), None, 90),
        until(None, None, None, 90),
        until(day(11), day(11), day(11), 90),
        until(day(11), None, day(12), 90),
        Runway::Exhausted,
        Runway::BeyondHorizon,
        Runway::NotYetKnown("the ledger is 9 days long, a forecast needs 14".to_owned()),
    ]
    .into_iter()
    .map(|runway| rendered(&message(vec![with_runway(runway)])).lines().nth(5).unwrap_or_default().to_owned())
    .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    Funds last until about Fri 4 Dec (90 % likely between 27 Nov and 12 Jan 2027).
    Funds last until about Fri 4 Dec (95 % likely between 27 Nov and more than a year from now).
    Funds probably last for more than a year, but may end as early as Fri 27 Nov.
    At the recent pace the funds last for more than a year.
    Funds last until about Fri 4 Dec.
    Funds last until about Fri 4 Dec.
    The funds do not cover a typical order: certificates can no longer be ordered or renewed from this account, except for cheaper ones.
    At the recent pace the funds last for more than a year.
    How long the funds last is not known yet: the ledger is 9 days long, a forecast needs 14.
    ");
}

#[test]
fn only_without_any_funds_can_nothing_be_ordered() {
    let email_of = |left: &str, metric| {
        let forecast = Some(Box::new(ForecastSummary {
            runway: Runway::Exhausted,
            typical_order: Some(usd("399")),
            ..forecast()
        }));
        let past = vec![(now() - Duration::days(1), usd("900").amount), (now(), usd(left).amount)];
        let chart = Some(Arc::new(FundChart { runway: Runway::Exhausted, past, ..(*chart()).clone() }));
        let funds = funds(TransitionKind::Raised, Severity::Critical, left);
        let it = match metric {
            Metric::Runway => ThresholdEvent { breakdown: funds.breakdown, ..runway(TransitionKind::Raised, 0) },
            _ => funds,
        };
        email(&message(vec![event(EventSubject::Threshold(ThresholdEvent { forecast, chart, ..it }))]), &context())
    };
    for metric in [Metric::AvailableFunds, Metric::Runway] {
        let little = email_of("88", metric);
        let sentence = "The funds do not cover a typical order (USD 399.00): certificates can no longer be ordered or renewed from this account, except for cheaper ones.";
        assert!(little.text.contains(sentence), "{}", little.text);
        assert!(little.html.contains("; the funds do not cover a typical order."), "{}", little.html);
        for left in ["0", "-100"] {
            let none = email_of(left, metric);
            let sentence = "No funds are left: certificates can no longer be ordered or renewed from this account.";
            assert!(none.text.contains(sentence), "{}", none.text);
            assert!(
                none.html.contains("; no funds are left.") && !none.html.contains("typical order"),
                "{}",
                none.html
            );
            assert_eq!(none.text.contains("acme: no funds are left (warning below 14 days)"), metric == Metric::Runway);
        }
    }
}

#[test]
fn resolved_alerts_and_debts_have_no_forecast() {
    let resolved = ThresholdEvent { kind: TransitionKind::Resolved, ..funds_with_forecast() };
    let debts = ThresholdEvent { metric: Metric::UnpaidInvoices, ..funds_with_forecast() };
    for it in [resolved, debts] {
        let message = message(vec![event(EventSubject::Threshold(it))]);
        let mail = email(&message, &context());
        assert!(!mail.text.contains("Deposit USD") && !mail.text.contains("last until"), "{}", mail.text);
        assert!(mail.pictures.is_empty() && !mail.html.contains("<img"), "{}", mail.html);
        assert_eq!(
            crate::notify::channels::webhook::record::webhook_document(&message, &context())["forecast"],
            Json::Null
        );
    }
}

#[test]
fn divisions_share_an_entry_only_if_their_forecasts_match() {
    let at = |division, forecast: ForecastSummary| {
        let key = key(Some(division), "available-funds");
        event(EventSubject::Threshold(ThresholdEvent {
            key,
            forecast: Some(Box::new(forecast)),
            ..funds_with_forecast()
        }))
    };
    let entries = |other| super::view(&message(vec![at(1, forecast()), at(2, other)]), &context()).entries.len();
    assert_eq!(entries(forecast()), 1);
    assert_eq!(entries(ForecastSummary { deposit: Some(usd("3201")), ..forecast() }), 2);
}

#[test]
fn a_mail_shows_a_few_pictures_and_says_in_words_what_they_show() {
    let at = |division| {
        let key = key(Some(division), "available-funds");
        let deposit = Some(usd(&format!("{division}")));
        let forecast = Some(Box::new(ForecastSummary { deposit, ..forecast() }));
        event(EventSubject::Threshold(ThresholdEvent { key, forecast, ..funds_with_forecast() }))
    };
    let mail = email(&message((1..=5).map(at).collect()), &context());
    let ids: Vec<&str> = mail.pictures.iter().map(|picture| picture.id.as_str()).collect();
    assert_eq!(ids, ["chart-1.abc@lowtide", "chart-2.abc@lowtide", "chart-3.abc@lowtide"]);
    assert_eq!(mail.html.matches("<img ").count(), 3);
    for id in ids {
        assert!(mail.html.contains(&format!("<img src=\"cid:{id}\" alt=\"Chart of available funds from USD 5,431.00")));
    }
    assert!(mail.pictures[0].png().unwrap().starts_with(b"\x89PNG"));
    assert_eq!(mail.text.matches("Deposit USD").count(), 5);
}

#[test]
fn a_sparkline_stays_on_one_line() {
    for (spark, expected) in [
        (vec![], None),
        (vec![0], Some("Last 1 day .")),
        (vec![8, 255, 0, 1], Some("Last 4 days \u{2588}\u{2588}.\u{2581}")),
    ] {
        let forecast = ForecastSummary { sparkline: spark, ..forecast() };
        let it = ThresholdEvent { forecast: Some(Box::new(forecast)), ..funds_with_forecast() };
        let text = email(&message(vec![event(EventSubject::Threshold(it))]), &context()).text;
        assert_eq!(text.lines().find(|line| line.starts_with("Last ")), expected);
    }
    let long = ForecastSummary { sparkline: vec![3; 5000], ..forecast() };
    let it = ThresholdEvent { forecast: Some(Box::new(long)), ..funds_with_forecast() };
    let text = email(&message(vec![event(EventSubject::Threshold(it))]), &context()).text;
    assert!(text.lines().all(|line| line.chars().count() < 120), "{text}");
}
