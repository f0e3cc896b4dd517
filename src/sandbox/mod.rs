//! A simulated `CertCentral`, and the Slack and mail sinks of the demo. All of it uses loopback only.
//!
//! A [`scenario`] describes an account, the [`world`] simulates it with a ledger entry for every change of a balance, and the
//! [`server`] answers over HTTP. Nothing in the service depends on this module.

mod answers;
pub mod clock;
pub mod draw;
pub mod mail_sink;
mod query;
mod refusal;
pub mod scenario;
pub mod server;
pub mod slack_sink;
pub mod world;

use std::sync::Arc;

/// Counter of running requests and connections, so that a simulated clock can stand still while there are any.
pub trait Activity: Send + Sync {
    /// Notes that a request or connection has begun.
    fn begin(&self);
    /// Notes that a request or connection has ended.
    fn end(&self);
}

impl Activity for () {
    fn begin(&self) {}
    fn end(&self) {}
}

/// An activity that ends when this guard is dropped, also if its task is aborted or panics.
pub(crate) struct ActivityGuard(Arc<dyn Activity>);

impl ActivityGuard {
    pub(crate) fn begin(activity: &Arc<dyn Activity>) -> Self {
        activity.begin();
        Self(Arc::clone(activity))
    }
}

impl Drop for ActivityGuard {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod testing {
    //! Helpers for the tests of both sinks and of the drawing: a real message, and a counting activity.

    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Mutex;

    use chrono::{Duration, TimeZone, Utc};

    use crate::domain::alert::{AlertKey, TransitionKind};
    use crate::domain::balance::{Breakdown, MetricValue};
    use crate::domain::event::{EvaluatedThreshold, Event, EventSubject, ThresholdEvent};
    use crate::domain::money::{Currency, Money, parse_amount};
    use crate::domain::rule::{Metric, Severity, ThresholdAmount, ThresholdSide};
    use crate::notify::{Message, MessageContent, MessageContext, MessageEvent, RuleTexts};

    /// Number of activities that have begun, and of those that have ended.
    #[derive(Default)]
    pub(super) struct ActivityCount(pub(super) Mutex<(usize, usize)>);

    impl super::Activity for ActivityCount {
        fn begin(&self) {
            self.0.lock().unwrap().0 += 1;
        }

        fn end(&self) {
            self.0.lock().unwrap().1 += 1;
        }
    }

    /// Builds a message with one alert per division: USD 1,431.00 left of 2,000.00.
    pub(super) fn message(divisions: &[&str]) -> Message {
        let items = divisions.iter().enumerate().map(|(at, name)| MessageEvent {
            event: warning(11224 + at as u64, name).into(),
            omitted: 0,
            in_place_of: None,
        });
        Message {
            id: "abc123".to_owned(),
            at: Utc.with_ymd_and_hms(2026, 11, 23, 8, 15, 0).unwrap(),
            content: MessageContent::Events(items.collect()),
            references: Vec::new(),
            remaining_recipients: None,
        }
    }

    fn warning(division: u64, name: &str) -> Event {
        let usd = Currency::parse("USD").unwrap();
        let amount = |text| parse_amount(text).unwrap();
        let at = Utc.with_ymd_and_hms(2026, 11, 23, 8, 15, 0).unwrap();
        // Divisions with the same figures would be shown as one fund.
        let left = 1431 + division - 11224;
        Event {
            id: format!("event-{division}"),
            at,
            evaluated_at: None,
            subject: EventSubject::Threshold(ThresholdEvent {
                key: AlertKey { account: "acme".into(), division: Some(division), rule: "available-funds".into() },
                division_name: Some(name.to_owned()),
                kind: TransitionKind::Raised,
                level: Severity::Warning,
                since: at,
                metric: Metric::AvailableFunds,
                within: None,
                value: MetricValue::Amount(Money::new(amount(&left.to_string()), usd)),
                threshold: Some(EvaluatedThreshold {
                    side: ThresholdSide::Below,
                    bound: ThresholdAmount { value: amount("2000"), currency: Some(usd) }.into(),
                }),
                breakdown: Some(Breakdown {
                    currency: usd,
                    balance: amount(&left.to_string()) - amount("2000"),
                    credit_limit: Some(amount("2000")),
                    unpaid_invoices: amount("0"),
                    used_credit: amount("0"),
                }),
                next_reminder: Some(at + Duration::days(1)),
                forecast: None,
                chart: None,
            }),
            silence: None,
            audience: BTreeSet::new(),
        }
    }

    pub(super) fn message_context() -> MessageContext {
        let description = Some("Ask Finance for a purchase order; a PO takes five working days.".to_owned());
        MessageContext {
            timezone: chrono_tz::Tz::Europe__Amsterdam,
            rules: BTreeMap::from([("available-funds".into(), RuleTexts { description, link: None })]),
            console_urls: BTreeMap::from([("acme".into(), "https://www.digicert.com/secure/".to_owned())]),
        }
    }

    pub(super) fn mention() -> BTreeMap<Severity, String> {
        BTreeMap::from([(Severity::Warning, "<!here>".to_owned())])
    }
}
