//! From a message to its content ([`MessageView`]), the same for every channel. The channels render the view: Slack
//! ([`blocks`]), email ([`rendering`]) and Teams ([`card`]). Webhooks get each event as JSON ([`record`]).
//!
//! Pure: nothing here sends, logs or reads a clock. Strings in a [`MessageView`] are plain text on one line each. Each
//! channel escapes them in its own way, exactly once.
//!
//! [`blocks`]: crate::notify::channels::slack::blocks
//! [`rendering`]: crate::notify::channels::email::rendering
//! [`card`]: crate::notify::channels::teams::card
//! [`record`]: crate::notify::channels::webhook::record

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
use crate::util::text::counted;
pub use picture::ChartPicture;
pub use report::{ReportLine, ReportView};
pub(crate) use text::{cut, cut_bytes, flat};

/// Maximum number of entries shown as a headline only. The others are counted.
pub(crate) const MAX_BRIEF_HEADLINES: usize = 100;

/// Maximum number of entries shown in full. The others are shown as a headline.
const MAX_FULL_ENTRIES: usize = 10;

/// Content of a message, in the order of its display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageView {
    /// Status of the most severe entry.
    pub status: MessageStatus,
    /// One line for the whole message: the headline of the only entry, or a count.
    pub title: String,
    /// Entries shown in full, most severe first; at most ten.
    pub entries: Vec<MessageEntry>,
    /// Headlines of the other entries.
    pub brief: Vec<String>,
    /// Levels that mention people: the alerts fire at these levels, and the message does not say that they improved.
    pub mentioned_levels: BTreeSet<Severity>,
    /// Report, if the message is one. Its only entry has the same content as lines of text, for channels without tables.
    pub report: Option<ReportView>,
}

/// Status of an entry, most severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageStatus {
    /// An alert that fires at level critical.
    Critical,
    /// An alert that fires at level warning.
    Warning,
    /// A notice that is no alert.
    Notice,
    /// An alert that has ended.
    Resolved,
    /// A test message of `test-notify`.
    Test,
}

impl MessageStatus {
    /// Returns the name as the subject of an email shows it.
    pub fn name(self) -> &'static str {
        match self {
            MessageStatus::Critical => "critical",
            MessageStatus::Warning => "warning",
            MessageStatus::Notice => "notice",
            MessageStatus::Resolved => "resolved",
            MessageStatus::Test => "TEST",
        }
    }

    /// Returns the colour as `#rrggbb`.
    pub fn colour(self) -> &'static str {
        match self {
            MessageStatus::Critical => "#c62828",
            MessageStatus::Warning => "#f2a100",
            MessageStatus::Notice | MessageStatus::Test => "#80868b",
            MessageStatus::Resolved => "#2e7d32",
        }
    }
}

/// An alert, several alerts that share all figures, or a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageEntry {
    /// Status of the alert or notice.
    pub status: MessageStatus,
    /// Account, amount and threshold in one line.
    pub headline: String,
    /// The recommended action, which is a deposit. Shown before the details and with more weight.
    pub to_do: Option<String>,
    /// Further lines: the missing amount, the breakdown of the funds, the forecast.
    pub details: Vec<String>,
    /// Chart of the funds, for channels that can show one.
    pub picture: Option<ChartPicture>,
    /// Earlier events of the alert, oldest first.
    pub history: Vec<String>,
    /// Description of the rule, which may have several lines.
    pub description: Option<String>,
    /// Links below the text.
    pub links: Vec<MessageLink>,
    /// Last line: the rule and the time of the next reminder.
    pub footer: Option<String>,
}

/// A link with a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageLink {
    /// Text of the link.
    pub label: &'static str,
    /// Address that begins with `http://` or `https://`.
    pub url: String,
    /// True for the link to the recommended action.
    pub primary: bool,
}

/// Returns the content of a message.
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
    let title = format!("This is a test from lowtide: notifier {} works. No action needed.", text::name(notifier));
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

/// Returns `acme: 3 alerts: 1 critical, 2 warnings`. The account is left out if the alerts belong to several accounts or to
/// none.
fn count(groups: &[AlertGroup]) -> String {
    let account = groups.first().and_then(AlertGroup::account);
    let account = account.filter(|it| groups.iter().all(|other| other.account() == Some(*it)));
    let account = account.map(|account| format!("{}: ", text::name(account))).unwrap_or_default();
    let of = |status: MessageStatus| groups.iter().filter(|group| group.status() == status).count();
    let notices = of(MessageStatus::Notice);
    let alerts = groups.len() - notices;
    if alerts == 0 {
        return format!("{account}{}", counted(notices, "notice"));
    }
    let parts = [
        (of(MessageStatus::Critical), format!("{} critical", of(MessageStatus::Critical))),
        (of(MessageStatus::Warning), counted(of(MessageStatus::Warning), "warning")),
        (of(MessageStatus::Resolved), format!("{} resolved", of(MessageStatus::Resolved))),
    ];
    let parts: Vec<String> = parts.into_iter().filter(|(n, _)| *n > 0).map(|(_, part)| part).collect();
    let rest = if notices > 0 { format!("; {}", counted(notices, "notice")) } else { String::new() };
    format!("{account}{}: {}{rest}", counted(alerts, "alert"), parts.join(", "))
}
