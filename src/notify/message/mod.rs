//! Message → what it says, free of any channel ([`MessageView`]), and from there → Slack ([`blocks`]), mail
//! ([`mail`]) and Teams ([`card`]); for machines, an event as JSON ([`record`]).
//!
//! Pure: nothing here sends, logs or reads a clock. Strings in a [`MessageView`] are plain text on one line each; every channel
//! escapes them in its own way, exactly once.

pub(crate) mod custom_templates;
pub(crate) mod entry;
pub(crate) mod forecast_lines;
pub(crate) mod phrase;
pub(crate) mod picture;
pub(crate) mod report;
pub(crate) mod text;
pub(crate) mod variables;

pub mod sample;
pub mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use self::entry::AlertGroup;
use super::{Message, MessageContent, MessageContext, MessageEvent};
use crate::domain::rule::Severity;
pub use picture::ChartPicture;
pub use report::{ReportLine, ReportView};
pub(crate) use text::{cut, cut_bytes, flat};

/// Headlines of what is not told in full, before they are only counted.
pub(crate) const MAX_BRIEF_HEADLINES: usize = 100;

/// Entries that are told in full; the rest gets a line each.
const MAX_FULL_ENTRIES: usize = 10;

/// What a message says, in the order in which it says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageView {
    /// The worst of its entries.
    pub status: MessageStatus,
    /// One line for the whole message: the headline of the only entry, or a count.
    pub title: String,
    /// Told in full, most severe first; at most ten.
    pub entries: Vec<MessageEntry>,
    /// The headlines of the rest.
    pub brief: Vec<String>,
    /// Levels that somebody is called for: they fire, and this message is not about their easing.
    pub mentioned_levels: BTreeSet<Severity>,
    /// The message is a page of figures; its one entry says the same in lines, for channels without tables.
    pub report: Option<ReportView>,
}

/// How bad an entry is; ordered most severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageStatus {
    /// Fires at critical.
    Critical,
    /// Fires at warning.
    Warning,
    /// Something to know.
    Notice,
    /// Over.
    Resolved,
    /// No alert at all.
    Test,
}

impl MessageStatus {
    /// Its name, as a mail's subject shows it.
    pub fn name(self) -> &'static str {
        match self {
            MessageStatus::Critical => "critical",
            MessageStatus::Warning => "warning",
            MessageStatus::Notice => "notice",
            MessageStatus::Resolved => "resolved",
            MessageStatus::Test => "TEST",
        }
    }

    /// Its colour, `#rrggbb`.
    pub fn colour(self) -> &'static str {
        match self {
            MessageStatus::Critical => "#c62828",
            MessageStatus::Warning => "#f2a100",
            MessageStatus::Notice | MessageStatus::Test => "#80868b",
            MessageStatus::Resolved => "#2e7d32",
        }
    }
}

/// One alert (or several that share every figure), or one notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageEntry {
    /// How bad it is.
    pub status: MessageStatus,
    /// What, how much, and which threshold: one line.
    pub headline: String,
    /// The one thing to do: what to deposit. Told before the details, and louder.
    pub to_do: Option<String>,
    /// The missing amount, how the funds are made up, how long they last, what else there is to know.
    pub details: Vec<String>,
    /// The picture of the funds, for channels that can show one.
    pub picture: Option<ChartPicture>,
    /// What went before, oldest first.
    pub history: Vec<String>,
    /// The rule's description.
    pub description: Option<String>,
    /// What can be opened: label and address.
    pub links: Vec<MessageLink>,
    /// Rule and next reminder.
    pub footer: Option<String>,
}

/// Something to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageLink {
    /// What it says.
    pub label: &'static str,
    /// An http(s) address.
    pub url: String,
    /// Whether it is what the reader is asked to do.
    pub primary: bool,
}

/// What the message says.
pub fn view(message: &Message, context: &MessageContext) -> MessageView {
    match &message.content {
        MessageContent::Test { notifier } => test(notifier),
        MessageContent::Events(items) => {
            let times = text::TimeFormatter { zone: context.timezone, now: message.at };
            let mut view = events(&entry::groups(items), times, context);
            picture::assign_ids(view.entries.iter_mut().map(|entry| &mut entry.picture), message);
            if let [MessageEvent { event, in_place_of, .. }] = items.as_slice()
                && let Some(page) = event.report()
            {
                view.report = Some(report::view(page, in_place_of.as_ref().map(entry::fallback_note), times));
            }
            view
        }
    }
}

fn test(notifier: &str) -> MessageView {
    let title =
        format!("This is a test from lowtide: notifier {} works. Nobody has to do anything.", text::name(notifier));
    MessageView {
        status: MessageStatus::Test,
        title,
        entries: Vec::new(),
        brief: Vec::new(),
        mentioned_levels: BTreeSet::new(),
        report: None,
    }
}

fn events(groups: &[AlertGroup], times: text::TimeFormatter, context: &MessageContext) -> MessageView {
    let title = match groups {
        [only] => only.headline(),
        several => count(several),
    };
    let status = groups.first().map_or(MessageStatus::Notice, AlertGroup::status);
    let mentioned_levels = groups.iter().filter_map(AlertGroup::mentioned_level).collect();
    let (in_full, rest) = groups.split_at(groups.len().min(MAX_FULL_ENTRIES));
    let entries = in_full.iter().map(|group| group.entry(times, context)).collect();
    let brief = rest.iter().map(AlertGroup::headline).collect();
    MessageView { status, title, entries, brief, mentioned_levels, report: None }
}

/// `acme: 3 alerts: 1 critical, 2 warnings`; without the account where they are of several, or of none.
fn count(groups: &[AlertGroup]) -> String {
    let account = groups.first().and_then(AlertGroup::account);
    let account = account.filter(|it| groups.iter().all(|other| other.account() == Some(*it)));
    let account = account.map(|account| format!("{}: ", text::name(account))).unwrap_or_default();
    let of = |status: MessageStatus| groups.iter().filter(|group| group.status() == status).count();
    let plural = |n: usize, word: &str| if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") };
    let notices = of(MessageStatus::Notice);
    let alerts = groups.len() - notices;
    if alerts == 0 {
        return format!("{account}{}", plural(notices, "notice"));
    }
    let parts = [
        (of(MessageStatus::Critical), format!("{} critical", of(MessageStatus::Critical))),
        (of(MessageStatus::Warning), plural(of(MessageStatus::Warning), "warning")),
        (of(MessageStatus::Resolved), format!("{} resolved", of(MessageStatus::Resolved))),
    ];
    let parts: Vec<String> = parts.into_iter().filter(|(n, _)| *n > 0).map(|(_, part)| part).collect();
    let rest = if notices > 0 { format!("; {}", plural(notices, "notice")) } else { String::new() };
    format!("{account}{}: {}{rest}", plural(alerts, "alert"), parts.join(", "))
}
