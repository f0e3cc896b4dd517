//! JSON document of a webhook event, version 1, as specified in docs/webhook.md.
//!
//! For machines: names are unchanged, amounts are exact decimals in strings, times are in UTC, and every key is always
//! present. Within a version keys may be added, but never changed or removed.

use chrono::SecondsFormat;
use serde_json::{Map, Value as Json, json};

use crate::domain::alert::TransitionKind;
use crate::domain::balance::{Breakdown, MetricValue, Persistence};
use crate::domain::event::{EvaluatedThreshold, Event, EventSubject, ThresholdEvent, UnreadableEvent};
use crate::domain::forecast::{ForecastSummary, RenewalsDue, Runway};
use crate::domain::money::{Money, plain};
use crate::domain::rule::{ThresholdAmount, ThresholdValue};
use crate::domain::{Division, Name, Time};
use crate::notify::message::phrase::ThresholdDistance;
use crate::notify::message::{forecast_lines, phrase, view};
use crate::notify::{Message, MessageContent, MessageContext, MessageEvent};

/// Version of the document.
const VERSION: u32 = 1;

/// All keys except `version` and `id`.
const KEYS: [&str; 28] = [
    "event",
    "about",
    "at",
    "summary",
    "alert_id",
    "rule",
    "account",
    "division",
    "level",
    "metric",
    "value",
    "threshold",
    "missing",
    "breakdown",
    "forecast",
    "since",
    "next_reminder",
    "reason",
    "transient",
    "firing_alerts",
    "unevaluated_rules",
    "notifier",
    "rules",
    "omitted",
    "in_place_of",
    "description",
    "link",
    "console_url",
];

/// Returns the document of a message about one event, or of a test message.
pub fn webhook_document(message: &Message, context: &MessageContext) -> Json {
    let mut record = Map::from_iter([("version".to_owned(), json!(VERSION)), ("id".to_owned(), json!(message.id))]);
    record.extend(KEYS.iter().map(|key| ((*key).to_owned(), Json::Null)));
    let mut set = |fields: Json| {
        if let Json::Object(fields) = fields {
            record.extend(fields);
        }
    };
    set(json!({ "summary": view(message, context).title, "at": time(message.at), "omitted": 0 }));
    match &message.content {
        MessageContent::Test { notifier } => set(json!({ "event": "test", "about": "test", "notifier": notifier })),
        MessageContent::Events(items) => {
            if let Some(item) = items.last() {
                set(event_fields(item));
                set(configured_texts(&item.event, context));
            }
        }
    }
    Json::Object(record)
}

fn event_fields(item: &MessageEvent) -> Json {
    let event = &item.event;
    let mut fields = match &event.subject {
        EventSubject::Threshold(threshold) => threshold_fields(threshold),
        EventSubject::Unreadable(unreadable) => unreadable_fields(unreadable),
        EventSubject::Unwatched { account, division, division_name, rules } => json!({
            "event": "unwatched", "about": "division", "account": account,
            "division": division_json(*division, division_name.as_deref()), "rules": rules,
        }),
        // Only notifiers with incidents are sent this event, but one of them may have become a webhook since it was queued.
        EventSubject::AlertEnded { key, .. } => json!({
            "event": "resolved", "about": "threshold", "rule": key.rule, "account": key.account,
            "division": division_json(key.division, None),
        }),
        EventSubject::NotifierRemoved { notifier } => json!({
            "event": "notifier_recovered", "about": "notifier", "notifier": notifier,
        }),
        EventSubject::NotifierFailing { notifier, since, error } => json!({
            "event": "notifier_failing", "about": "notifier", "notifier": notifier, "since": time(*since), "reason": error,
        }),
        EventSubject::NotifierRecovered { notifier, since } => json!({
            "event": "notifier_recovered", "about": "notifier", "notifier": notifier, "since": time(*since),
        }),
        // The title is in `summary`; the figures are only for people.
        EventSubject::Report(_) => json!({ "event": "report", "about": "report" }),
    };
    fields["forecast"] = forecast_lines::forecast_of(event).map_or(Json::Null, forecast_json);
    if let Some(key) = event.alert() {
        fields["alert_id"] = json!(key.id());
    }
    fields["at"] = json!(time(event.at));
    fields["omitted"] = json!(item.omitted);
    fields["in_place_of"] =
        item.in_place_of.as_ref().map_or(Json::Null, |via| json!({ "notifier": via.notifier, "error": via.error }));
    fields
}

fn threshold_fields(event: &ThresholdEvent) -> Json {
    let distance = phrase::distance_from_threshold(event).filter(|_| event.kind != TransitionKind::Resolved);
    let missing = distance.and_then(|(_, distance)| distance.missing());
    json!({
        "event": event.kind.name(), "about": "threshold",
        "rule": event.key.rule, "account": event.key.account,
        "division": division_json(event.key.division, event.division_name.as_deref()),
        "level": event.level.to_string(), "metric": event.metric.name(),
        "value": value(event.value), "threshold": event.threshold.as_ref().map(threshold),
        "missing": missing.map(|distance| match distance {
            ThresholdDistance::Money(money) => json!(money),
            ThresholdDistance::Time { duration, .. } => json!({ "seconds": duration.as_secs() }),
        }),
        "breakdown": event.breakdown.as_ref().map(breakdown),
        "since": time(event.since), "next_reminder": event.next_reminder.map(time),
    })
}

fn unreadable_fields(event: &UnreadableEvent) -> Json {
    let firing = event.firing_alerts.iter().map(|(key, level)| {
        json!({ "alert_id": key.id(), "rule": key.rule, "division": key.division, "level": level.to_string() })
    });
    json!({
        "event": event.kind.name(), "about": "unreadable",
        "rule": event.key.rule, "account": event.key.account,
        "division": division_json(event.key.division, event.division_name.as_deref()),
        "level": event.level.to_string(), "since": time(event.since), "next_reminder": event.next_reminder.map(time),
        "reason": event.reason, "transient": event.persistence.map(|persistence| persistence == Persistence::Transient),
        "firing_alerts": firing.collect::<Vec<_>>(), "unevaluated_rules": event.unevaluated_rules,
    })
}

/// Returns the configured texts of the event's rule and account.
fn configured_texts(event: &Event, context: &MessageContext) -> Json {
    let rule = event.alert().and_then(|key| context.rules.get(&key.rule));
    let account: Option<&Name> = match &event.subject {
        EventSubject::Unwatched { account, .. } => Some(account),
        _ => event.alert().map(|key| &key.account),
    };
    json!({
        "description": rule.and_then(|rule| rule.description.clone()),
        "link": rule.and_then(|rule| rule.link.clone()),
        "console_url": account.and_then(|account| context.console_urls.get(account)),
    })
}

fn division_json(division: Division, name: Option<&str>) -> Option<Json> {
    division.map(|id| json!({ "id": id, "name": name }))
}

fn value(value: MetricValue) -> Json {
    match value {
        MetricValue::Amount(money) => json!(money),
        MetricValue::Time(lasts) => json!({ "seconds": lasts.as_secs() }),
        MetricValue::Unlimited => json!("unlimited"),
    }
}

pub(crate) fn threshold(threshold: &EvaluatedThreshold) -> Json {
    let side = threshold.side.to_string();
    match threshold.bound {
        ThresholdValue::Money(ThresholdAmount { value, currency }) => {
            json!({ "side": side, "amount": plain(value, currency), "currency": currency })
        }
        ThresholdValue::Time { lasts } => json!({ "side": side, "seconds": lasts.as_secs() }),
    }
}

fn breakdown(parts: &Breakdown) -> Json {
    let plain = |amount| Money::new(amount, parts.currency).plain();
    json!({
        "balance": plain(parts.balance), "credit_limit": parts.credit_limit.map(plain),
        "unpaid_invoices": plain(parts.unpaid_invoices), "used_by_other_divisions": plain(parts.used_credit),
        "currency": parts.currency,
    })
}

fn forecast_json(forecast: &ForecastSummary) -> Json {
    let mut runway =
        json!({ "state": null, "about": null, "early": null, "late": null, "percent": null, "reason": null });
    let state = match &forecast.runway {
        Runway::Until { about, early, late, percent } => {
            for (key, at) in [("about", about), ("early", early), ("late", late)] {
                runway[key] = json!(at.map(time));
            }
            runway["percent"] = json!(percent);
            "until"
        }
        Runway::Exhausted => "exhausted",
        Runway::BeyondHorizon => "beyond_horizon",
        Runway::NotYetKnown(why) => {
            runway["reason"] = json!(why);
            "not_yet_known"
        }
    };
    runway["state"] = json!(state);
    json!({
        "runway": runway,
        "deposit": forecast.deposit,
        "paid_in_full": forecast.paid_in_full.map(renewals_json),
        "renewals": forecast.renewals.map(renewals_json),
        "sparkline": forecast.sparkline,
    })
}

fn renewals_json(due: RenewalsDue) -> Json {
    let currency = due.amount.currency;
    json!({
        "count": due.count, "amount": due.amount.plain(),
        "from_balance": due.from_balance.map(|part| Money::new(part, currency).plain()), "currency": currency,
    })
}

pub(crate) fn time(at: Time) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}
