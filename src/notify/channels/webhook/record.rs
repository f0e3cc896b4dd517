//! One event → the JSON of a webhook, version 1; docs/webhook.md is its contract.
//!
//! For machines: names as they are, amounts as exact decimals in strings, times in UTC, every key always there. Within a
//! version keys may be added, never changed or taken away.

use chrono::SecondsFormat;
use serde_json::{Map, Value as Json, json};

use crate::domain::alert::Kind;
use crate::domain::balance::{Breakdown, Outlook};
use crate::domain::event::{Event, Subject, Threshold, ThresholdEvent, UnreadableEvent, Value};
use crate::domain::forecast::{Ahead, RenewalsDue, Runway};
use crate::domain::money::{Money, plain};
use crate::domain::rule::{Amount, Bound};
use crate::domain::{Division, Name, Time};
use crate::notify::message::phrase::By;
use crate::notify::message::{forecast_lines, phrase, view};
use crate::notify::{Content, Item, Message, Words};

/// The version of the document.
const VERSION: u32 = 1;

/// Every key but `version` and `id`.
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
    "ahead",
    "since",
    "next_reminder",
    "reason",
    "heals",
    "standing_still",
    "blind",
    "notifier",
    "rules",
    "omitted",
    "in_place_of",
    "description",
    "link",
    "console_url",
];

/// The document of a message about one event, or of a test.
pub fn record(message: &Message, words: &Words) -> Json {
    let mut record = Map::from_iter([("version".to_owned(), json!(VERSION)), ("id".to_owned(), json!(message.id))]);
    record.extend(KEYS.iter().map(|key| ((*key).to_owned(), Json::Null)));
    let mut set = |fields: Json| {
        if let Json::Object(fields) = fields {
            record.extend(fields);
        }
    };
    set(json!({ "summary": view(message, words).title, "at": time(message.at), "omitted": 0 }));
    match &message.content {
        Content::Test { notifier } => set(json!({ "event": "test", "about": "test", "notifier": notifier })),
        Content::Events(items) => {
            if let Some(item) = items.last() {
                set(of_item(item));
                set(wording(&item.event, words));
            }
        }
    }
    Json::Object(record)
}

fn of_item(item: &Item) -> Json {
    let event = &item.event;
    let mut fields = match &event.subject {
        Subject::Threshold(threshold) => of_threshold(threshold),
        Subject::Unreadable(unreadable) => of_unreadable(unreadable),
        Subject::Unwatched { account, division, division_name, rules } => json!({
            "event": "unwatched", "about": "division", "account": account,
            "division": of_division(*division, division_name.as_deref()), "rules": rules,
        }),
        // For notifiers that keep incidents, which no webhook does; one may have become a webhook meanwhile.
        Subject::AlertEnded { key, .. } => json!({
            "event": "resolved", "about": "threshold", "rule": key.rule, "account": key.account,
            "division": of_division(key.division, None),
        }),
        Subject::NotifierRemoved { notifier } => json!({
            "event": "notifier_recovered", "about": "notifier", "notifier": notifier,
        }),
        Subject::NotifierFailing { notifier, since, error } => json!({
            "event": "notifier_failing", "about": "notifier", "notifier": notifier, "since": time(*since), "reason": error,
        }),
        Subject::NotifierRecovered { notifier, since } => json!({
            "event": "notifier_recovered", "about": "notifier", "notifier": notifier, "since": time(*since),
        }),
        // Its title is the summary; the figures are for people's eyes.
        Subject::Report(_) => json!({ "event": "report", "about": "report" }),
    };
    fields["ahead"] = forecast_lines::ahead(event).map_or(Json::Null, days_to_come);
    if let Some(key) = event.alert() {
        fields["alert_id"] = json!(key.id());
    }
    fields["at"] = json!(time(event.at));
    fields["omitted"] = json!(item.omitted);
    fields["in_place_of"] =
        item.via.as_ref().map_or(Json::Null, |via| json!({ "notifier": via.notifier, "error": via.error }));
    fields
}

fn of_threshold(event: &ThresholdEvent) -> Json {
    let beyond = phrase::beyond(event).filter(|_| event.kind != Kind::Resolved);
    let missing = beyond.and_then(|(_, by)| by.missing());
    json!({
        "event": event.kind.name(), "about": "threshold",
        "rule": event.key.rule, "account": event.key.account,
        "division": of_division(event.key.division, event.division_name.as_deref()),
        "level": event.level.to_string(), "metric": event.metric.name(),
        "value": value(event.value), "threshold": event.threshold.as_ref().map(threshold),
        "missing": missing.map(|by| match by {
            By::Money(money) => json!(money),
            By::Time { lasts, .. } => json!({ "seconds": lasts.as_secs() }),
        }),
        "breakdown": event.breakdown.as_ref().map(breakdown),
        "since": time(event.since), "next_reminder": event.next_reminder.map(time),
    })
}

fn of_unreadable(event: &UnreadableEvent) -> Json {
    let still = event.standing_still.iter().map(|(key, level)| {
        json!({ "alert_id": key.id(), "rule": key.rule, "division": key.division, "level": level.to_string() })
    });
    json!({
        "event": event.kind.name(), "about": "unreadable",
        "rule": event.key.rule, "account": event.key.account,
        "division": of_division(event.key.division, event.division_name.as_deref()),
        "level": event.level.to_string(), "since": time(event.since), "next_reminder": event.next_reminder.map(time),
        "reason": event.reason, "heals": event.outlook.map(|outlook| outlook == Outlook::MayHeal),
        "standing_still": still.collect::<Vec<_>>(), "blind": event.blind,
    })
}

/// What the configuration says about the event's rule and account.
fn wording(event: &Event, words: &Words) -> Json {
    let rule = event.alert().and_then(|key| words.rules.get(&key.rule));
    let account: Option<&Name> = match &event.subject {
        Subject::Unwatched { account, .. } => Some(account),
        _ => event.alert().map(|key| &key.account),
    };
    json!({
        "description": rule.and_then(|rule| rule.description.clone()),
        "link": rule.and_then(|rule| rule.link.clone()),
        "console_url": account.and_then(|account| words.console_urls.get(account)),
    })
}

fn of_division(division: Division, name: Option<&str>) -> Option<Json> {
    division.map(|id| json!({ "id": id, "name": name }))
}

fn value(value: Value) -> Json {
    match value {
        Value::Amount(money) => json!(money),
        Value::Time(lasts) => json!({ "seconds": lasts.as_secs() }),
        Value::Unlimited => json!("unlimited"),
    }
}

pub(crate) fn threshold(threshold: &Threshold) -> Json {
    let side = threshold.side.to_string();
    match threshold.bound {
        Bound::Money(Amount { value, currency }) => {
            json!({ "side": side, "amount": plain(value, currency), "currency": currency })
        }
        Bound::Time { lasts } => json!({ "side": side, "seconds": lasts.as_secs() }),
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

fn days_to_come(ahead: &Ahead) -> Json {
    let mut runway =
        json!({ "state": null, "about": null, "early": null, "late": null, "percent": null, "reason": null });
    let state = match &ahead.runway {
        Runway::Until { about, early, late, percent } => {
            for (key, at) in [("about", about), ("early", early), ("late", late)] {
                runway[key] = json!(at.map(time));
            }
            runway["percent"] = json!(percent);
            "until"
        }
        Runway::Over => "over",
        Runway::Endless => "endless",
        Runway::NotYetKnown(why) => {
            runway["reason"] = json!(why);
            "not_yet_known"
        }
    };
    runway["state"] = json!(state);
    json!({
        "runway": runway,
        "deposit": ahead.deposit,
        "paid_in_full": ahead.paid_in_full.map(renewals),
        "renewals": ahead.renewals.map(renewals),
        "spark": ahead.spark,
    })
}

fn renewals(due: RenewalsDue) -> Json {
    let currency = due.amount.currency;
    json!({
        "count": due.count, "amount": due.amount.plain(),
        "from_balance": due.from_balance.map(|part| Money::new(part, currency).plain()), "currency": currency,
    })
}

pub(crate) fn time(at: Time) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}
