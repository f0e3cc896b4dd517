//! The content of a preview: the selected event, with the account's present figures if they can be read, otherwise with sample
//! figures.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::Duration;
use rust_decimal::Decimal;

use super::target::{PreviewTarget, account_pollers, find_target};
use crate::alerting::evaluate::{NotEvaluated, evaluate};
use crate::alerting::process;
use crate::alerting::readings::DivisionReading;
use crate::alerting::report::{ReportRequest, build_page};
use crate::alerting::state::State;
use crate::cli::Exit;
use crate::cli::args::{PreviewArgs, PreviewEvent, PreviewLevel};
use crate::cli::output::print_error;
use crate::config::{ChannelConfig, Config};
use crate::domain::alert::TransitionKind;
use crate::domain::balance::Reading;
use crate::domain::event::EventSubject;
use crate::domain::report::{FundFigures, LatestFigures};
use crate::domain::rule::{Metric, Rule, Severity, ThresholdSide, UNREADABLE};
use crate::domain::silence::{Silence, SilenceSummary};
use crate::domain::{Name, Time};
use crate::notify::message::sample;
use crate::notify::{Message, MessageContent};
use crate::polling::figures::report_figures;
use crate::polling::forecasts::ForecastPurpose;
use crate::polling::poller::Poller;
use crate::util::secret::Redactor;
use crate::util::text::clean;

/// Subjects of the previewed notification, and the notifiers that would be notified.
pub(super) struct PreviewContent {
    /// Subjects of the events; empty for the test message.
    subjects: Vec<EventSubject>,
    /// Silence that the message shows.
    silence: Option<SilenceSummary>,
    /// Notifiers that would be notified.
    pub(super) notifiers: BTreeSet<Name>,
    /// Set if the figures were read just now.
    pub(super) real: bool,
    /// Notes about the figures.
    pub(super) notes: Vec<String>,
}

impl PreviewContent {
    /// Builds the message to one notifier.
    pub(super) fn message(&self, notifier: &Name, now: Time) -> Message {
        let mut message = sample::message(self.subjects.clone(), now);
        if self.subjects.is_empty() {
            message.content = MessageContent::Test { notifier: notifier.clone() };
        }
        if let MessageContent::Events(items) = &mut message.content {
            for item in items {
                Arc::make_mut(&mut item.event).silence.clone_from(&self.silence);
            }
        }
        message
    }
}

/// Returns the silence that a message of this event can show: one that a critical alert breaks, that is still active when the
/// alert resolves, or that has ended.
fn silence(event: PreviewEvent, level: Option<PreviewLevel>, now: Time) -> Option<SilenceSummary> {
    let critical = level == Some(PreviewLevel::Critical);
    let until = match event {
        PreviewEvent::Escalated | PreviewEvent::Resolved | PreviewEvent::Readable => now + Duration::days(2),
        PreviewEvent::Raised | PreviewEvent::Reminder if critical => now + Duration::days(2),
        PreviewEvent::Raised | PreviewEvent::Reminder | PreviewEvent::Eased | PreviewEvent::Unreadable => now,
        _ => return None,
    };
    Some(SilenceSummary { until, reason: Some("PO 4711 raised".to_owned()), level: Severity::Warning })
}

/// Returns the name of an event on the command line.
pub(super) fn event_name(event: PreviewEvent) -> &'static str {
    match event {
        PreviewEvent::Raised => "raised",
        PreviewEvent::Escalated => "escalated",
        PreviewEvent::Eased => "eased",
        PreviewEvent::Reminder => "reminder",
        PreviewEvent::Resolved => "resolved",
        PreviewEvent::Unreadable => "unreadable",
        PreviewEvent::Readable => "readable",
        PreviewEvent::Unwatched => "unwatched",
        PreviewEvent::NotifierFailing => "notifier-failing",
        PreviewEvent::NotifierRecovered => "notifier-recovered",
        PreviewEvent::Report => "report",
        PreviewEvent::Test => "test",
        PreviewEvent::Several => "several",
    }
}

/// Builds the content. Undefined names have been refused before.
pub(super) async fn build_content(
    config: &Config,
    redactor: &Redactor,
    args: &PreviewArgs,
    now: Time,
) -> Result<PreviewContent, Exit> {
    let silence_note = silence(args.event, args.level, now).filter(|_| args.silenced);
    if args.silenced && silence_note.is_none() {
        print_error!("lowtide: messages of {} show no silence", event_name(args.event));
        return Err(Exit::Usage);
    }
    let kind = match args.event {
        PreviewEvent::Test => return Ok(to_everyone(config, Vec::new())),
        PreviewEvent::Several => return several(config, args, now),
        PreviewEvent::Report => return report_content(config, redactor, args, now).await,
        PreviewEvent::NotifierFailing => return Ok(notifier_content(config, true, now)),
        PreviewEvent::NotifierRecovered => return Ok(notifier_content(config, false, now)),
        PreviewEvent::Unreadable | PreviewEvent::Raised | PreviewEvent::Unwatched => TransitionKind::Raised,
        PreviewEvent::Readable | PreviewEvent::Resolved => TransitionKind::Resolved,
        PreviewEvent::Escalated => TransitionKind::Escalated,
        PreviewEvent::Eased => TransitionKind::Eased,
        PreviewEvent::Reminder => TransitionKind::Reminder,
    };
    let rule = config.rules.iter().find(|rule| args.rule.as_deref().is_none_or(|name| name == &*rule.name));
    let rule = rule.filter(|_| args.rule.as_deref() != Some(UNREADABLE));
    let target = find_target(config, redactor, args, rule).await?;
    let content = match (args.event, rule) {
        (PreviewEvent::Unwatched, _) => {
            let rules = config.rules.iter().take(1).map(|rule| rule.name.clone()).collect();
            to_everyone(config, vec![sample::unwatched(&target.fund, rules)])
        }
        (PreviewEvent::Unreadable | PreviewEvent::Readable, _) | (_, None) => unreadable(config, kind, target, now),
        (_, Some(rule)) => threshold(rule, kind, args, &target, now)?,
    };
    Ok(PreviewContent { silence: silence_note, ..content })
}

/// Returns content without figures that goes to all notifiers.
fn to_everyone(config: &Config, subjects: Vec<EventSubject>) -> PreviewContent {
    let notifiers = config.notifiers.keys().cloned().collect();
    PreviewContent { subjects, silence: None, notifiers, real: false, notes: Vec::new() }
}

/// Returns the failure or recovery of the first notifier.
fn notifier_content(config: &Config, failing: bool, now: Time) -> PreviewContent {
    let first = config.notifiers.iter().next();
    let subject = first.map(|(name, notifier)| {
        let error = failing.then(|| sample_failure(&notifier.channel));
        sample::notifier(name.clone(), error, now)
    });
    to_everyone(config, subject.into_iter().collect())
}

/// Returns a typical error of a type of notifier.
fn sample_failure(channel: &ChannelConfig) -> &'static str {
    match channel {
        ChannelConfig::Slack { .. } => sample::NOTIFIER_ERROR,
        ChannelConfig::Email { .. } => "the mail server answered 535 to logging in: 5.7.8 authentication failed",
        ChannelConfig::Webhook { .. } => "the webhook answered 404 (not found: check `url`)",
        ChannelConfig::PagerDuty { .. } => "PagerDuty answered 403 (check `routing_key` and `url`)",
        ChannelConfig::Teams { .. } => "Teams answered 404 (the workflow was removed or turned off: make a new one)",
    }
}

/// Returns more alerts than one message shows in full, with sample figures.
fn several(config: &Config, args: &PreviewArgs, now: Time) -> Result<PreviewContent, Exit> {
    let is_selected = |rule: &&Rule| args.rule.as_deref().is_none_or(|name| name == &*rule.name);
    let Some(rule) = config.rules.iter().find(is_selected) else {
        print_error!("lowtide: name a rule with thresholds");
        return Err(Exit::Usage);
    };
    let watched = |name: &&Name| rule.accounts.as_ref().is_none_or(|names| names.contains(*name));
    let account = args.account.as_deref().map(Name::from).or_else(|| config.accounts.keys().find(watched).cloned());
    let subjects = sample::several(rule, &account.unwrap_or_else(|| "account".into()), now);
    let levels = [Severity::Warning, Severity::Critical].into_iter().filter_map(|level| rule.level(level));
    let notifiers = levels.flat_map(|level| level.notify.iter().cloned()).collect();
    Ok(PreviewContent { subjects, silence: None, notifiers, real: false, notes: vec!["sample figures".to_owned()] })
}

/// Returns the first report of the configuration, or a weekly one if it has none, with the present figures of every account.
async fn report_content(
    config: &Config,
    redactor: &Redactor,
    args: &PreviewArgs,
    now: Time,
) -> Result<PreviewContent, Exit> {
    let (name, next, notifiers) = match config.reports.iter().next() {
        Some((name, report)) => (name.clone(), report.schedule.next_after(now), report.notify.clone()),
        None => ("weekly".into(), None, config.notifiers.keys().cloned().collect()),
    };
    if args.sample {
        let (subjects, notes) = (vec![sample::report(name, now)], vec!["sample figures".to_owned()]);
        return Ok(PreviewContent { subjects, silence: None, notifiers, real: false, notes });
    }
    let pollers = account_pollers(config, redactor)?;
    let is_selected =
        |poller: &&Arc<Poller>| args.account.as_deref().is_none_or(|name| name == &*poller.policy.account);
    let reads = pollers.iter().filter(is_selected).map(|poller| async move {
        let readings = poller.read_once(ForecastPurpose::Rules).await;
        let policy = &poller.policy;
        let mut latest = report_figures(&policy.account, &readings.divisions, now);
        if let Some(why) = readings.listing_failure.as_ref().filter(|_| latest.is_empty()) {
            let figures = FundFigures::never_read(policy.account.clone(), None, None);
            latest.push(LatestFigures { figures, failure: Some(why.reason.clone()) });
        }
        (policy, readings, latest)
    });
    let mut state = State::default();
    let mut latest = Vec::new();
    for (policy, readings, of_account) in futures_util::future::join_all(reads).await {
        process::process(&mut state, policy, &readings, now);
        latest.extend(of_account);
    }
    let silences: Vec<Silence> = config.silences.values().cloned().collect();
    let context = ReportRequest { name: &name, due: now, next, now, silences: &silences };
    let (page, _) = build_page(&context, &latest, &state);
    let notes = vec![
        "levels are those of a service that starts now; only the running service knows since when an alert fires, what \
         changed since the last report and what was silenced by command"
            .to_owned(),
    ];
    Ok(PreviewContent {
        subjects: vec![EventSubject::Report(Box::new(page))],
        silence: None,
        notifiers,
        real: true,
        notes,
    })
}

fn unreadable(config: &Config, kind: TransitionKind, target: PreviewTarget, now: Time) -> PreviewContent {
    let policy = &config.unreadable;
    let why = target.read.err().flatten();
    let mut notes = Vec::new();
    if why.is_none() && kind != TransitionKind::Resolved {
        notes.push("the reason is a sample".to_owned());
    }
    let real = why.is_some();
    let why = why.map(|why| (why.reason, why.persistence));
    let subjects = vec![sample::unreadable(kind, policy.level, why, &target.fund, now)];
    PreviewContent { subjects, silence: None, notifiers: policy.notify.iter().cloned().collect(), real, notes }
}

/// Returns the target's reading and its level if it can be shown; otherwise adds a note why sample figures are used.
fn usable_reading<'a>(
    rule: &Rule,
    kind: TransitionKind,
    target: &'a PreviewTarget,
    notes: &mut Vec<String>,
) -> Option<(&'a DivisionReading, Option<Severity>)> {
    let read = match &target.read {
        Ok(read) => read,
        Err(Some(failure)) => {
            let account = &target.fund.account;
            notes.push(format!("sample figures, since {account} cannot be read ({})", failure.reason));
            return None;
        }
        Err(None) => {
            notes.push("sample figures".to_owned());
            return None;
        }
    };
    let reading = read.reading(rule);
    match evaluate(rule, &reading) {
        Ok(_) if kind != TransitionKind::Resolved && has_nothing_to_warn_of(rule, &reading) => {
            let (metric, value) = (rule.metric, value_text(&reading));
            notes.push(format!("sample figures, since there is nothing to warn of at present ({metric} {value})"));
            None
        }
        Ok(verdict) => {
            notes.extend(verdict.problem.as_ref().map(|problem| problem.reason.clone()));
            Some((read, verdict.breached()))
        }
        Err(reason) => {
            notes.push(format!("sample figures, since {}", unknown(rule.metric, &reason)));
            None
        }
    }
}

/// Returns content about a rule's threshold.
fn threshold(
    rule: &Rule,
    kind: TransitionKind,
    args: &PreviewArgs,
    target: &PreviewTarget,
    now: Time,
) -> Result<PreviewContent, Exit> {
    let mut notes = Vec::new();
    let read = usable_reading(rule, kind, target, &mut notes);
    let level = level(rule, kind, args, read.as_ref().and_then(|(_, breached)| *breached))?;
    let real = read.is_some();
    let fires = read.as_ref().is_some_and(|(_, breached)| breached.is_some());
    let forecast = read.and_then(|(read, _)| read.forecast.clone());
    let (reading, figures) = match read {
        Some((read, breached)) => {
            let fits = if kind == TransitionKind::Resolved { breached.is_none() } else { breached >= Some(level) };
            if !fits {
                let state = breached.map_or_else(|| "ok".to_owned(), |level| level.to_string());
                notes.push(format!(
                    "present figures, at which the rule is {state}; --sample shows figures that fit the event"
                ));
            }
            let sampled = || sample::balance(rule, level, kind != TransitionKind::Resolved);
            (read.reading(rule), read.balance.clone().unwrap_or_else(|_| sampled()))
        }
        None => {
            let breached = kind != TransitionKind::Resolved;
            (sample::reading(rule, level, breached), sample::balance(rule, level, breached))
        }
    };
    let mut subject = sample::threshold(rule, kind, level, (&reading, &figures), &target.fund, now);
    if let Some(EventSubject::Threshold(event)) = subject.as_mut().filter(|_| real && kind != TransitionKind::Resolved)
    {
        event.forecast = forecast.as_ref().and_then(|forecast| forecast.summary(rule)).map(Box::new);
        if !fires && event.forecast.as_ref().is_some_and(|ahead| ahead.deposit.is_some()) {
            notes.push("the deposit assumes that this rule fires, too".to_owned());
        }
        event.chart = forecast.as_ref().and_then(|forecast| forecast.chart(rule)).map(Arc::new);
    }
    if let (false, Some(subject)) = (real, &mut subject) {
        sample::add_forecast(subject, rule, &figures, now);
    }
    let subjects = subject.into_iter().collect();
    let notifiers = rule.level(level).map(|level| level.notify.iter().cloned().collect()).unwrap_or_default();
    Ok(PreviewContent { subjects, silence: None, notifiers, real, notes })
}

/// Returns `true` if a message about this reading would contradict itself, because there is nothing that the rule could warn of:
/// an amount of zero for a rule with `above`, or unlimited funds for a rule with `below`.
fn has_nothing_to_warn_of(rule: &Rule, reading: &Reading) -> bool {
    let warns_of_much = rule.levels().all(|level| level.side() == ThresholdSide::Above);
    match reading {
        Reading::Amount(money) => warns_of_much && money.amount <= Decimal::ZERO,
        Reading::Unlimited => !warns_of_much,
        _ => false,
    }
}

/// Says why there is no reading, as the rest of a sentence.
fn unknown(metric: Metric, why: &NotEvaluated) -> String {
    match why {
        NotEvaluated::NotYetKnown(why) | NotEvaluated::NotYetRead(why) => format!("{metric} is not yet known ({why})"),
        NotEvaluated::Unreadable(why) => format!("{metric} cannot be read ({})", why.reason),
    }
}

fn value_text(reading: &Reading) -> String {
    match reading {
        Reading::Amount(money) => money.to_string(),
        _ => "unlimited".to_owned(),
    }
}

/// Returns the selected level, or the one that fits the event and the figures.
fn level(rule: &Rule, kind: TransitionKind, args: &PreviewArgs, breached: Option<Severity>) -> Result<Severity, Exit> {
    let requested = args.level.map(|level| match level {
        PreviewLevel::Warning => Severity::Warning,
        PreviewLevel::Critical => Severity::Critical,
    });
    let by_event = match kind {
        TransitionKind::Escalated => Some(Severity::Critical),
        TransitionKind::Eased => Some(Severity::Warning),
        TransitionKind::Raised | TransitionKind::Reminder | TransitionKind::Resolved => None,
    };
    let has = |severity: &Severity| rule.level(*severity).is_some();
    let first = [Severity::Warning, Severity::Critical].into_iter().find(has);
    let level = requested.or(by_event).or(breached).or(first).unwrap_or(Severity::Warning);
    if !has(&level) {
        print_error!("lowtide: rule `{}` has no level {level}", clean(&rule.name));
        return Err(Exit::Usage);
    }
    if by_event.is_some_and(|by_event| by_event != level || !has(&Severity::Warning) || !has(&Severity::Critical)) {
        let (what, right) =
            if kind == TransitionKind::Escalated { ("escalates", "critical") } else { ("eases", "warning") };
        print_error!("lowtide: only an alert with both levels {what}, and then it is at {right}");
        return Err(Exit::Usage);
    }
    Ok(level)
}
