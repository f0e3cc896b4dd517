//! Message → what it says, free of any channel ([`View`]), and from there → Slack ([`blocks`]), mail
//! ([`mail`]) and Teams ([`card`]); for machines, an event as JSON ([`record`]).
//!
//! Pure: nothing here sends, logs or reads a clock. Strings in a [`View`] are plain text on one line each; every channel
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

use self::entry::Group;
use super::{Content, Item, Message, Words};
use crate::domain::rule::Severity;
pub use picture::Picture;
pub use report::{Line, ReportView};
pub(crate) use text::{cut, cut_bytes, flat};

/// Headlines of what is not told in full, before they are only counted.
pub(crate) const MOST_BRIEF: usize = 100;

/// Entries that are told in full; the rest gets a line each.
const IN_FULL: usize = 10;

/// What a message says, in the order in which it says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The worst of its entries.
    pub tone: Tone,
    /// One line for the whole message: the headline of the only entry, or a count.
    pub title: String,
    /// Told in full, most severe first; at most ten.
    pub entries: Vec<Entry>,
    /// The headlines of the rest.
    pub brief: Vec<String>,
    /// Levels that somebody is called for: they fire, and this message is not about their easing.
    pub calls: BTreeSet<Severity>,
    /// The message is a page of figures; its one entry says the same in lines, for channels without tables.
    pub report: Option<ReportView>,
}

/// How bad an entry is; ordered most severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
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

impl Tone {
    /// Its name, as a mail's subject shows it.
    pub fn name(self) -> &'static str {
        match self {
            Tone::Critical => "critical",
            Tone::Warning => "warning",
            Tone::Notice => "notice",
            Tone::Resolved => "resolved",
            Tone::Test => "TEST",
        }
    }

    /// Its colour, `#rrggbb`.
    pub fn colour(self) -> &'static str {
        match self {
            Tone::Critical => "#c62828",
            Tone::Warning => "#f2a100",
            Tone::Notice | Tone::Test => "#80868b",
            Tone::Resolved => "#2e7d32",
        }
    }
}

/// One alert (or several that share every figure), or one notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// How bad it is.
    pub tone: Tone,
    /// What, how much, and which threshold: one line.
    pub headline: String,
    /// The one thing to do: what to deposit. Told before the details, and louder.
    pub to_do: Option<String>,
    /// The missing amount, how the funds are made up, how long they last, what else there is to know.
    pub details: Vec<String>,
    /// The picture of the funds, for channels that can show one.
    pub picture: Option<Picture>,
    /// What went before, oldest first.
    pub history: Vec<String>,
    /// The rule's description.
    pub description: Option<String>,
    /// What can be opened: label and address.
    pub links: Vec<Link>,
    /// Rule and next reminder.
    pub footer: Option<String>,
}

/// Something to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// What it says.
    pub label: &'static str,
    /// An http(s) address.
    pub url: String,
    /// Whether it is what the reader is asked to do.
    pub primary: bool,
}

/// What the message says.
pub fn view(message: &Message, words: &Words) -> View {
    match &message.content {
        Content::Test { notifier } => test(notifier),
        Content::Events(items) => {
            let times = text::Times { zone: words.timezone, now: message.at };
            let mut view = events(&entry::groups(items), times, words);
            picture::number(view.entries.iter_mut().map(|entry| &mut entry.picture), message);
            if let [Item { event, via, .. }] = items.as_slice()
                && let Some(page) = event.report()
            {
                view.report = Some(report::view(page, via.as_ref().map(entry::in_place_of), times));
            }
            view
        }
    }
}

fn test(notifier: &str) -> View {
    let title =
        format!("This is a test from lowtide: notifier {} works. Nobody has to do anything.", text::name(notifier));
    View { tone: Tone::Test, title, entries: Vec::new(), brief: Vec::new(), calls: BTreeSet::new(), report: None }
}

fn events(groups: &[Group], times: text::Times, words: &Words) -> View {
    let title = match groups {
        [only] => only.headline(),
        several => count(several),
    };
    let tone = groups.first().map_or(Tone::Notice, Group::tone);
    let calls = groups.iter().filter_map(Group::calls).collect();
    let (in_full, rest) = groups.split_at(groups.len().min(IN_FULL));
    let entries = in_full.iter().map(|group| group.entry(times, words)).collect();
    let brief = rest.iter().map(Group::headline).collect();
    View { tone, title, entries, brief, calls, report: None }
}

/// `acme: 3 alerts: 1 critical, 2 warnings`; without the account where they are of several, or of none.
fn count(groups: &[Group]) -> String {
    let account = groups.first().and_then(Group::account);
    let account = account.filter(|it| groups.iter().all(|other| other.account() == Some(*it)));
    let account = account.map(|account| format!("{}: ", text::name(account))).unwrap_or_default();
    let of = |tone: Tone| groups.iter().filter(|group| group.tone() == tone).count();
    let plural = |n: usize, word: &str| if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") };
    let notices = of(Tone::Notice);
    let alerts = groups.len() - notices;
    if alerts == 0 {
        return format!("{account}{}", plural(notices, "notice"));
    }
    let parts = [
        (of(Tone::Critical), format!("{} critical", of(Tone::Critical))),
        (of(Tone::Warning), plural(of(Tone::Warning), "warning")),
        (of(Tone::Resolved), format!("{} resolved", of(Tone::Resolved))),
    ];
    let parts: Vec<String> = parts.into_iter().filter(|(n, _)| *n > 0).map(|(_, part)| part).collect();
    let rest = if notices > 0 { format!("; {}", plural(notices, "notice")) } else { String::new() };
    format!("{account}{}: {}{rest}", plural(alerts, "alert"), parts.join(", "))
}
