//! Variables of templates, for each entry of a message. docs/templates.md explains them.
//!
//! Every variable is always defined. If an event has no value for it, the variable is an empty text, an empty list or a map
//! of empty texts, so that strict rendering fails only for mistakes. Values are not escaped here: escaping depends on the
//! part that a template renders.

use serde::Serialize;

use super::entry::{AlertGroup, account, groups};
use super::text::{TimeFormatter, elapsed_text, name, visible};
use super::{phrase, picture, view};
use crate::domain::alert::TransitionKind;
use crate::domain::balance::{Breakdown, MetricValue, Persistence};
use crate::domain::event::{Event, EventSubject};
use crate::domain::money::Money;
use crate::domain::rule::ThresholdSide;
use crate::notify::message::forecast_lines;
use crate::notify::{Message, MessageContent, MessageContext};

/// Variables of one message: those of the most severe event, and all events.
#[derive(Debug, Serialize)]
pub(in crate::notify) struct TemplateVariables {
    #[serde(flatten)]
    first: EventVariables,
    /// Title of the whole message, in one line.
    title: String,
    /// Number of events in the message.
    count: usize,
    /// All events, each with the variables of `first`.
    events: Vec<EventVariables>,
}

/// Variables of an alert, of several alerts that share all figures, or of a notice.
#[derive(Debug, Clone, Default, Serialize)]
struct EventVariables {
    event: &'static str,
    about: &'static str,
    level: String,
    colour: &'static str,
    account: String,
    division: String,
    fund: String,
    rule: String,
    metric: &'static str,
    amount: String,
    figure: String,
    currency: String,
    side: String,
    threshold: String,
    missing: String,
    since: String,
    at: String,
    lasted: String,
    headline: String,
    runway: String,
    renewals: String,
    deposit: String,
    sparkline: String,
    chart: String,
    chart_alt: String,
    details: Vec<String>,
    history: Vec<String>,
    breakdown: BreakdownVariables,
    description: String,
    link: String,
    console_url: String,
    next_reminder: String,
    reason: String,
    unevaluated_rules: String,
    transient: bool,
    notifier: String,
    in_place_of: String,
}

/// Parts of the available funds.
#[derive(Debug, Clone, Default, Serialize)]
struct BreakdownVariables {
    balance: String,
    credit_limit: String,
    unpaid_invoices: String,
    used_credit: String,
}

/// Returns the variables of a message.
pub(in crate::notify) fn variables(message: &Message, context: &MessageContext) -> TemplateVariables {
    let times = TimeFormatter { zone: context.timezone, now: message.at };
    let items = match &message.content {
        MessageContent::Events(items) => items.as_slice(),
        MessageContent::Test { .. } => &[],
    };
    let groups = groups(items);
    // Charts are counted as in the view, so that their ids are the same.
    let mut pictures: Vec<_> = groups.iter().map(|group| picture::of(&group.newest.event, times.zone)).collect();
    picture::assign_ids(pictures.iter_mut(), message);
    let mut events: Vec<EventVariables> = groups.iter().map(|group| event_variables(group, times, context)).collect();
    for (fields, picture) in events.iter_mut().zip(pictures) {
        if let Some(picture) = picture {
            fields.chart = picture.source();
            fields.chart_alt = picture.alternative;
        }
    }
    let first = events.first().cloned().unwrap_or_default();
    TemplateVariables { first, title: view(message, context).title, count: events.len(), events }
}

fn event_variables(group: &AlertGroup, times: TimeFormatter, context: &MessageContext) -> EventVariables {
    let event = &group.newest.event;
    let entry = group.entry(times, context);
    let key = event.alert();
    let texts = key.and_then(|key| context.rules.get(&key.rule));
    let resolved = event.kind() == Some(TransitionKind::Resolved);
    let text = |text: Option<&String>| text.map(|text| visible(text)).unwrap_or_default();
    let console_url = account(event).and_then(|account| context.console_urls.get(account));
    let mut fields = EventVariables {
        event: event_name(event),
        level: event.level().map(|level| level.to_string()).unwrap_or_default(),
        colour: entry.status.colour(),
        account: account(event).map(name).unwrap_or_default(),
        division: group.divisions.join(", "),
        fund: group.fund_name(),
        rule: key.map(|key| name(&key.rule)).unwrap_or_default(),
        since: times.full(group.since),
        at: times.full(event.at),
        lasted: if resolved { elapsed_text(event.lasted(group.since)) } else { String::new() },
        headline: entry.headline,
        details: entry.to_do.into_iter().chain(entry.details).collect(),
        history: entry.history,
        description: text(texts.and_then(|it| it.description.as_ref())),
        link: address(texts.and_then(|it| it.link.as_ref())),
        console_url: address(console_url),
        next_reminder: group.next_reminder.map(|next| times.full(next)).unwrap_or_default(),
        in_place_of: group.newest.in_place_of.as_ref().map(|origin| name(&origin.notifier)).unwrap_or_default(),
        ..EventVariables::default()
    };
    set_subject(&mut fields, event);
    set_forecast(&mut fields, event, times);
    fields
}

fn event_name(event: &Event) -> &'static str {
    match (&event.subject, event.kind()) {
        (_, Some(kind)) => kind.name(),
        (EventSubject::Unwatched { .. }, _) => "unwatched",
        (EventSubject::NotifierFailing { .. }, _) => "notifier_failing",
        (EventSubject::NotifierRecovered { .. } | EventSubject::NotifierRemoved { .. }, _) => "notifier_recovered",
        _ => "report",
    }
}

fn set_forecast(fields: &mut EventVariables, event: &Event, times: TimeFormatter) {
    let Some(forecast) = forecast_lines::forecast_of(event) else { return };
    fields.runway = forecast_lines::runway(event, times).unwrap_or_default();
    fields.renewals = forecast.renewals.as_ref().map(forecast_lines::renewals).unwrap_or_default();
    fields.deposit = forecast_lines::deposit(event).map(|money| money.to_string()).unwrap_or_default();
    fields.sparkline = forecast_lines::bars(&forecast.sparkline);
}

/// Sets the variables that depend on the kind of event.
fn set_subject(fields: &mut EventVariables, event: &Event) {
    match &event.subject {
        EventSubject::Threshold(it) => {
            fields.about = "threshold";
            fields.metric = it.metric.name();
            match it.value {
                MetricValue::Amount(money) => {
                    fields.amount = money.to_string();
                    fields.figure = money.figure();
                    fields.currency = money.currency.to_string();
                }
                MetricValue::Time(lasts) => fields.amount = phrase::duration_text(lasts),
                MetricValue::Unlimited => "unlimited".clone_into(&mut fields.amount),
            }
            if let Some(threshold) = &it.threshold {
                fields.threshold = phrase::threshold_text(threshold);
                fields.side = match threshold.side {
                    ThresholdSide::Below => "below".to_owned(),
                    ThresholdSide::Above => "above".to_owned(),
                };
            }
            let missing = phrase::distance_from_threshold(it).and_then(|(_, by)| by.missing());
            fields.missing = missing.map(|by| by.to_string()).unwrap_or_default();
            fields.breakdown = it.breakdown.as_ref().map(breakdown_variables).unwrap_or_default();
        }
        EventSubject::Unreadable(it) => {
            fields.about = "unreadable";
            fields.reason = it.reason.as_deref().map(phrase::quote).unwrap_or_default();
            fields.unevaluated_rules =
                it.unevaluated_rules.iter().map(|rule| name(rule)).collect::<Vec<_>>().join(", ");
            fields.transient = it.persistence == Some(Persistence::Transient);
        }
        EventSubject::NotifierFailing { notifier, error, .. } => {
            fields.about = "notifier";
            fields.notifier = name(notifier);
            fields.reason = phrase::quote(error);
        }
        EventSubject::NotifierRecovered { notifier, .. } | EventSubject::NotifierRemoved { notifier } => {
            fields.about = "notifier";
            fields.notifier = name(notifier);
        }
        EventSubject::AlertEnded { .. } => fields.about = "threshold",
        EventSubject::Unwatched { .. } => fields.about = "unwatched",
        EventSubject::Report(_) => fields.about = "report",
    }
}

fn breakdown_variables(breakdown: &Breakdown) -> BreakdownVariables {
    let figure = |amount| Money::new(amount, breakdown.currency).figure();
    BreakdownVariables {
        balance: figure(breakdown.balance),
        credit_limit: breakdown.credit_limit.map(figure).unwrap_or_default(),
        unpaid_invoices: figure(breakdown.unpaid_invoices),
        used_credit: figure(breakdown.used_credit),
    }
}

/// Returns a web address without characters that would end a quoted attribute or Slack's `<…|…>`. Empty if it is no web
/// address.
fn address(url: Option<&String>) -> String {
    let web = url.filter(|url| url.starts_with("https://") || url.starts_with("http://"));
    web.map(|url| super::flat(url).replace('|', "%7C").replace('<', "%3C").replace('>', "%3E").replace('"', "%22"))
        .unwrap_or_default()
}
