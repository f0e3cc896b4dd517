//! The variables of templates: what a message says, in words and figures, entry by entry. docs/templates.md explains them.
//!
//! Every variable is always there; what an event does not have is an empty text, list or map of empty texts, so that
//! strictness only ever catches mistakes. Nothing here is escaped: that is the template's, by where it stands.

use serde::Serialize;

use super::entry::{Group, account, groups};
use super::text::{Times, lasted, name, visible};
use super::{phrase, picture, view};
use crate::domain::alert::Kind;
use crate::domain::balance::{Breakdown, Outlook};
use crate::domain::event::{Event, Subject, Value};
use crate::domain::money::Money;
use crate::domain::rule::Side;
use crate::notify::message::forecast_lines;
use crate::notify::{Content, Message, Words};

/// What a template knows: the worst event's own variables, and all events.
#[derive(Debug, Serialize)]
pub(in crate::notify) struct Variables {
    #[serde(flatten)]
    first: Fields,
    /// One line for the whole message.
    title: String,
    /// How many events there are.
    count: usize,
    /// Each with the variables of `first`.
    events: Vec<Fields>,
}

/// One alert (or several that share every figure), or one notice.
#[derive(Debug, Clone, Default, Serialize)]
struct Fields {
    event: &'static str,
    about: &'static str,
    level: String,
    colour: &'static str,
    account: String,
    division: String,
    place: String,
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
    chart_words: String,
    details: Vec<String>,
    history: Vec<String>,
    breakdown: Parts,
    description: String,
    link: String,
    console_url: String,
    next_reminder: String,
    reason: String,
    blind: String,
    heals: bool,
    notifier: String,
    instead_of: String,
}

/// How available funds are made up.
#[derive(Debug, Clone, Default, Serialize)]
struct Parts {
    balance: String,
    credit_limit: String,
    unpaid_invoices: String,
    used_credit: String,
}

/// The variables of a message.
pub(in crate::notify) fn variables(message: &Message, words: &Words) -> Variables {
    let times = Times { zone: words.timezone, now: message.at };
    let items = match &message.content {
        Content::Events(items) => items.as_slice(),
        Content::Test { .. } => &[],
    };
    let groups = groups(items);
    // By the same count as the view's, so that the names are the same.
    let mut pictures: Vec<_> = groups.iter().map(|group| picture::of(&group.newest.event, times.zone)).collect();
    picture::number(pictures.iter_mut(), message);
    let mut events: Vec<Fields> = groups.iter().map(|group| fields(group, times, words)).collect();
    for (fields, picture) in events.iter_mut().zip(pictures) {
        if let Some(picture) = picture {
            fields.chart = picture.source();
            fields.chart_words = picture.alternative;
        }
    }
    let first = events.first().cloned().unwrap_or_default();
    Variables { first, title: view(message, words).title, count: events.len(), events }
}

fn fields(group: &Group, times: Times, words: &Words) -> Fields {
    let event = &group.newest.event;
    let entry = group.entry(times, words);
    let key = event.alert();
    let wording = key.and_then(|key| words.rules.get(&key.rule));
    let over = event.kind() == Some(Kind::Resolved);
    let text = |text: Option<&String>| text.map(|text| visible(text)).unwrap_or_default();
    let console_url = account(event).and_then(|account| words.console_urls.get(account));
    let mut fields = Fields {
        event: event_name(event),
        level: event.level().map(|level| level.to_string()).unwrap_or_default(),
        colour: entry.tone.colour(),
        account: account(event).map(name).unwrap_or_default(),
        division: group.divisions.join(", "),
        place: group.place(),
        rule: key.map(|key| name(&key.rule)).unwrap_or_default(),
        since: times.full(group.since),
        at: times.full(event.at),
        lasted: if over { lasted(event.lasted(group.since)) } else { String::new() },
        headline: entry.headline,
        details: entry.to_do.into_iter().chain(entry.details).collect(),
        history: entry.history,
        description: text(wording.and_then(|it| it.description.as_ref())),
        link: address(wording.and_then(|it| it.link.as_ref())),
        console_url: address(console_url),
        next_reminder: group.next_reminder.map(|next| times.full(next)).unwrap_or_default(),
        instead_of: group.newest.via.as_ref().map(|via| name(&via.notifier)).unwrap_or_default(),
        ..Fields::default()
    };
    about(&mut fields, event);
    days_to_come(&mut fields, event, times);
    fields
}

fn event_name(event: &Event) -> &'static str {
    match (&event.subject, event.kind()) {
        (_, Some(kind)) => kind.name(),
        (Subject::Unwatched { .. }, _) => "unwatched",
        (Subject::NotifierFailing { .. }, _) => "notifier_failing",
        (Subject::NotifierRecovered { .. } | Subject::NotifierRemoved { .. }, _) => "notifier_recovered",
        _ => "report",
    }
}

fn days_to_come(fields: &mut Fields, event: &Event, times: Times) {
    let Some(ahead) = forecast_lines::ahead(event) else { return };
    fields.runway = forecast_lines::runway(event, times).unwrap_or_default();
    fields.renewals = ahead.renewals.as_ref().map(forecast_lines::renewals).unwrap_or_default();
    fields.deposit = forecast_lines::deposit(event).map(|money| money.to_string()).unwrap_or_default();
    fields.sparkline = forecast_lines::bars(&ahead.spark);
}

/// What only one kind of event has.
fn about(fields: &mut Fields, event: &Event) {
    match &event.subject {
        Subject::Threshold(it) => {
            fields.about = "threshold";
            fields.metric = it.metric.name();
            match it.value {
                Value::Amount(money) => {
                    fields.amount = money.to_string();
                    fields.figure = money.figure();
                    fields.currency = money.currency.to_string();
                }
                Value::Time(lasts) => fields.amount = phrase::lasting(lasts),
                Value::Unlimited => "unlimited".clone_into(&mut fields.amount),
            }
            if let Some(threshold) = &it.threshold {
                fields.threshold = phrase::amount(threshold);
                fields.side = match threshold.side {
                    Side::Below => "below".to_owned(),
                    Side::Above => "above".to_owned(),
                };
            }
            let missing = phrase::beyond(it).and_then(|(_, by)| by.missing());
            fields.missing = missing.map(|by| by.to_string()).unwrap_or_default();
            fields.breakdown = it.breakdown.as_ref().map(parts).unwrap_or_default();
        }
        Subject::Unreadable(it) => {
            fields.about = "unreadable";
            fields.reason = it.reason.as_deref().map(phrase::quote).unwrap_or_default();
            fields.blind = it.blind.iter().map(|rule| name(rule)).collect::<Vec<_>>().join(", ");
            fields.heals = it.outlook == Some(Outlook::MayHeal);
        }
        Subject::NotifierFailing { notifier, error, .. } => {
            fields.about = "notifier";
            fields.notifier = name(notifier);
            fields.reason = phrase::quote(error);
        }
        Subject::NotifierRecovered { notifier, .. } | Subject::NotifierRemoved { notifier } => {
            fields.about = "notifier";
            fields.notifier = name(notifier);
        }
        Subject::AlertEnded { .. } => fields.about = "threshold",
        Subject::Unwatched { .. } => fields.about = "unwatched",
        Subject::Report(_) => fields.about = "report",
    }
}

fn parts(of: &Breakdown) -> Parts {
    let figure = |amount| Money::new(amount, of.currency).figure();
    Parts {
        balance: figure(of.balance),
        credit_limit: of.credit_limit.map(figure).unwrap_or_default(),
        unpaid_invoices: figure(of.unpaid_invoices),
        used_credit: figure(of.used_credit),
    }
}

/// An address of the web that breaks out of neither quotes nor Slack's `<…|…>`.
fn address(url: Option<&String>) -> String {
    let web = url.filter(|url| url.starts_with("https://") || url.starts_with("http://"));
    web.map(|url| super::flat(url).replace('|', "%7C").replace('<', "%3C").replace('>', "%3E").replace('"', "%22"))
        .unwrap_or_default()
}
