//! Events and messages as the service makes them, with figures of one sample account.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{TimeZone, Utc};
use lowtide::domain::Time;
use lowtide::domain::alert::{AlertKey, TransitionKind};
use lowtide::domain::balance::{Breakdown, MetricValue};
use lowtide::domain::event::{EvaluatedThreshold, Event, EventSubject, ThresholdEvent};
use lowtide::domain::forecast::{ForecastBand, ForecastSummary, FundChart, RenewalsDue, Runway};
use lowtide::domain::money::{Currency, Money, parse_amount};
use lowtide::domain::rule::{Metric, Severity, ThresholdAmount, ThresholdSide};
use lowtide::notify::{Message, MessageContent, MessageContext, MessageEvent, RuleTexts};

/// Returns Mon 23 Nov 2026, 09:15 in Amsterdam.
pub fn now() -> Time {
    Utc.with_ymd_and_hms(2026, 11, 23, 8, 15, 0).unwrap()
}

/// Returns a warning about the division of that name: USD 1,431.00 left of 2,000.00.
pub fn warning(division_name: &str) -> Event {
    let usd = Currency::parse("USD").unwrap();
    let amount = |text| parse_amount(text).unwrap();
    Event {
        id: "event-1".to_owned(),
        at: now(),
        evaluated_at: None,
        subject: EventSubject::Threshold(ThresholdEvent {
            key: AlertKey { account: "acme".into(), division: Some(11224), rule: "available-funds".into() },
            division_name: Some(division_name.to_owned()),
            kind: TransitionKind::Raised,
            level: Severity::Warning,
            since: now(),
            metric: Metric::AvailableFunds,
            within: None,
            value: MetricValue::Amount(Money::new(amount("1431"), usd)),
            threshold: Some(EvaluatedThreshold {
                side: ThresholdSide::Below,
                bound: ThresholdAmount { value: amount("2000"), currency: Some(usd) }.into(),
            }),
            breakdown: Some(Breakdown {
                currency: usd,
                balance: amount("-569"),
                credit_limit: Some(amount("2000")),
                unpaid_invoices: amount("0"),
                used_credit: amount("0"),
            }),
            next_reminder: Some(now() + chrono::Duration::days(1)),
            forecast: None,
            chart: None,
        }),
        silence: None,
        audience: BTreeSet::new(),
    }
}

/// Returns the same warning with a forecast and a chart.
pub fn warning_with_forecast() -> Event {
    let usd = Currency::parse("USD").unwrap();
    let amount = |text| parse_amount(text).unwrap();
    let day = |day| now() + chrono::Duration::days(day);
    let mut event = warning("History department");
    if let EventSubject::Threshold(it) = &mut event.subject {
        it.forecast = Some(Box::new(ForecastSummary {
            runway: Runway::Until { about: Some(day(11)), early: Some(day(4)), late: Some(day(19)), percent: 90 },
            deposit: Some(Money::new(amount("3200"), usd)),
            typical_order: None,
            paid_in_full: None,
            renewals: Some(RenewalsDue {
                count: 12,
                amount: Money::new(amount("4788"), usd),
                from_balance: Some(amount("4788")),
            }),
            sparkline: (0..28).map(|day| 8 - day / 4).collect(),
        }));
        let band = |n| ForecastBand {
            at: day(n),
            low: amount("1431") - amount("100") * rust_decimal::Decimal::from(n),
            middle: amount("1431") - amount("80") * rust_decimal::Decimal::from(n),
            high: amount("1431") - amount("50") * rust_decimal::Decimal::from(n),
        };
        it.chart = Some(Arc::new(FundChart {
            currency: usd,
            now: now(),
            past: vec![(day(-28), amount("5431")), (day(-9), amount("3000")), (day(0), amount("1431"))],
            thresholds: vec![(Severity::Warning, amount("2000")), (Severity::Critical, amount("500"))],
            renewals: vec![(day(5), amount("1596")), (day(12), amount("3192"))],
            runway: Runway::Until { about: Some(day(11)), early: Some(day(4)), late: Some(day(19)), percent: 90 },
            future: (1..=30).map(band).collect(),
            percent: 90,
        }));
    }
    event
}

/// Returns a message with these events.
pub fn message(events: Vec<Event>) -> Message {
    let items =
        events.into_iter().map(|event| MessageEvent { event: event.into(), omitted: 0, in_place_of: None }).collect();
    Message {
        id: "abc123".to_owned(),
        at: now(),
        content: MessageContent::Events(items),
        references: Vec::new(),
        remaining_recipients: None,
    }
}

/// Returns the texts of the configuration.
pub fn message_context() -> MessageContext {
    let description = Some("Ask Finance for a purchase order; a PO takes five working days.".to_owned());
    MessageContext {
        timezone: chrono_tz::Tz::Europe__Amsterdam,
        rules: BTreeMap::from([("available-funds".into(), RuleTexts { description, link: None })]),
        console_urls: BTreeMap::from([("acme".into(), "https://www.digicert.com/secure/".to_owned())]),
    }
}
