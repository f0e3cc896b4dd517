//! What a preview shows: the event that was asked for, about a real reading if one can be had, else about the sample.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::Duration;
use rust_decimal::Decimal;

use crate::alerting::evaluate::{NotEvaluated, evaluate};
use crate::alerting::policy::{AccountPolicy, DivisionScope};
use crate::alerting::process;
use crate::alerting::readings::DivisionReading;
use crate::alerting::report::{ReportRequest, build_page};
use crate::alerting::state::State;
use crate::app;
use crate::cli::Exit;
use crate::cli::args::{PreviewArgs as Options, PreviewEvent, PreviewLevel};
use crate::cli::output::print_error;
use crate::config::{ChannelConfig, Config};
use crate::domain::alert::TransitionKind;
use crate::domain::balance::{Reading, Unreadable};
use crate::domain::event::EventSubject;
use crate::domain::report::{FundFigures, LatestFigures};
use crate::domain::rule::{Metric, Rule, Severity, ThresholdSide, UNREADABLE};
use crate::domain::silence::{Silence, SilenceSummary};
use crate::domain::{Name, Time};
use crate::notify::message::sample;
use crate::notify::message::sample::SampleTarget;
use crate::notify::{Message, MessageContent};
use crate::polling::figures::report_figures;
use crate::polling::forecasts::ForecastPurpose;
use crate::polling::poller::Poller;
use crate::util::clock::{Clock, SystemClock};
use crate::util::secret::Redactor;
use crate::util::text::clean;

/// What is shown, and to whom it would be told.
pub(super) struct PreviewContent {
    /// Nothing: the test message.
    subjects: Vec<EventSubject>,
    /// The silence that the message shows.
    silence: Option<SilenceSummary>,
    /// Who would be told.
    pub(super) notifiers: BTreeSet<Name>,
    /// Whether its figures were read just now.
    pub(super) real: bool,
    /// What the reader should know about the figures.
    pub(super) notes: Vec<String>,
}

impl PreviewContent {
    /// The message to one notifier.
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

/// A silence as it is shown when it breaks (what becomes critical), is still on at the end (what resolves), or is over.
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

/// As the command line names it.
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

/// Puts the event together. Names that nothing defines have been refused already.
pub(super) async fn build_content(
    config: &Config,
    redactor: &Redactor,
    options: &Options,
    now: Time,
) -> Result<PreviewContent, Exit> {
    let everyone: BTreeSet<Name> = config.notifiers.keys().cloned().collect();
    let of_unreadable = options.rule.as_deref() == Some(UNREADABLE);
    let silence_note = silence(options.event, options.level, now).filter(|_| options.silenced);
    if options.silenced && silence_note.is_none() {
        print_error!("lowtide: messages of {} show no silence", event_name(options.event));
        return Err(Exit::Usage);
    }
    let plain = |subjects| PreviewContent {
        subjects,
        silence: None,
        notifiers: everyone.clone(),
        real: false,
        notes: Vec::new(),
    };
    let kind = match options.event {
        PreviewEvent::Test => return Ok(plain(Vec::new())),
        PreviewEvent::Several => return several(config, options, now),
        PreviewEvent::Report => return report_content(config, redactor, options, now).await,
        PreviewEvent::NotifierFailing | PreviewEvent::NotifierRecovered => {
            let recovered = options.event == PreviewEvent::NotifierRecovered;
            let Some((name, failing)) = config.notifiers.iter().next() else { return Ok(plain(Vec::new())) };
            let error = (!recovered).then(|| sample_failure(&failing.channel));
            return Ok(plain(vec![sample::notifier(name.clone(), error, now)]));
        }
        PreviewEvent::Unreadable | PreviewEvent::Raised | PreviewEvent::Unwatched => TransitionKind::Raised,
        PreviewEvent::Readable | PreviewEvent::Resolved => TransitionKind::Resolved,
        PreviewEvent::Escalated => TransitionKind::Escalated,
        PreviewEvent::Eased => TransitionKind::Eased,
        PreviewEvent::Reminder => TransitionKind::Reminder,
    };
    let rule = config.rules.iter().find(|rule| options.rule.as_deref().is_none_or(|name| name == &*rule.name));
    let rule = rule.filter(|_| !of_unreadable);
    let target = find_target(config, redactor, options, rule).await?;
    let content = match (options.event, rule) {
        (PreviewEvent::Unwatched, _) => {
            let rules = config.rules.iter().take(1).map(|rule| rule.name.clone()).collect();
            plain(vec![sample::unwatched(&target.place, rules)])
        }
        (PreviewEvent::Unreadable | PreviewEvent::Readable, _) | (_, None) => unreadable(config, kind, target, now),
        (_, Some(rule)) => threshold(rule, kind, options, &target, now)?,
    };
    Ok(PreviewContent { silence: silence_note, ..content })
}

/// What a notifier of this type may fail with.
fn sample_failure(channel: &ChannelConfig) -> &'static str {
    match channel {
        ChannelConfig::Slack { .. } => sample::NOTIFIER_ERROR,
        ChannelConfig::Email { .. } => "the mail server answered 535 to logging in: 5.7.8 authentication failed",
        ChannelConfig::Webhook { .. } => "the webhook answered 404 (not found: check `url`)",
        ChannelConfig::PagerDuty { .. } => "PagerDuty answered 403 (check `routing_key` and `url`)",
        ChannelConfig::Teams { .. } => "Teams answered 404 (the workflow was removed or turned off: make a new one)",
    }
}

/// More alerts than a message tells in full, of sample figures.
fn several(config: &Config, options: &Options, now: Time) -> Result<PreviewContent, Exit> {
    let is_selected = |rule: &&Rule| options.rule.as_deref().is_none_or(|name| name == &*rule.name);
    let Some(rule) = config.rules.iter().find(is_selected) else {
        print_error!("lowtide: name a rule with thresholds");
        return Err(Exit::Usage);
    };
    let watched = |name: &&Name| rule.accounts.as_ref().is_none_or(|names| names.contains(*name));
    let account = options.account.as_deref().map(Name::from).or_else(|| config.accounts.keys().find(watched).cloned());
    let subjects = sample::several(rule, &account.unwrap_or_else(|| "account".into()), now);
    let levels = [Severity::Warning, Severity::Critical].into_iter().filter_map(|level| rule.level(level));
    let notifiers = levels.flat_map(|level| level.notify.iter().cloned()).collect();
    Ok(PreviewContent { subjects, silence: None, notifiers, real: false, notes: vec!["sample figures".to_owned()] })
}

/// The first report of the file, or of what one would be, from what every account reads now.
async fn report_content(
    config: &Config,
    redactor: &Redactor,
    options: &Options,
    now: Time,
) -> Result<PreviewContent, Exit> {
    let (name, next, notifiers) = match config.reports.iter().next() {
        Some((name, report)) => (name.clone(), report.schedule.next_after(now), report.notify.clone()),
        None => ("weekly".into(), None, config.notifiers.keys().cloned().collect()),
    };
    if options.sample {
        let (subjects, notes) = (vec![sample::report(name, now)], vec!["sample figures".to_owned()]);
        return Ok(PreviewContent { subjects, silence: None, notifiers, real: false, notes });
    }
    let pollers = account_pollers(config, redactor)?;
    let is_selected =
        |poller: &&Arc<Poller>| options.account.as_deref().is_none_or(|name| name == &*poller.policy.account);
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
        "levels are as a service that starts now would show them; only the running one knows since when something fires, \
         what changed since the last report and what was silenced by command"
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

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn account_pollers(config: &Config, redactor: &Redactor) -> Result<Vec<Arc<Poller>>, Exit> {
    app::build_pollers(config, redactor, &clock()).map_err(|error| {
        print_error!("lowtide: {error:#}");
        Exit::Failure
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
    let subjects = vec![sample::unreadable(kind, policy.level, why, &target.place, now)];
    PreviewContent { subjects, silence: None, notifiers: policy.notify.iter().cloned().collect(), real, notes }
}

fn threshold(
    rule: &Rule,
    kind: TransitionKind,
    options: &Options,
    target: &PreviewTarget,
    now: Time,
) -> Result<PreviewContent, Exit> {
    let mut notes = Vec::new();
    let read = match &target.read {
        Ok(read) => match evaluate(rule, &read.reading(rule)) {
            Ok(_) if kind != TransitionKind::Resolved && nothing_to_warn_of(rule, &read.reading(rule)) => {
                notes.push(format!(
                    "sample figures, since there is nothing to warn of at present ({} {})",
                    rule.metric,
                    in_figures(&read.reading(rule))
                ));
                None
            }
            Ok(verdict) => {
                notes.extend(verdict.problem.as_ref().map(|why| why.reason.clone()));
                Some((read, verdict.breached()))
            }
            Err(why) => {
                notes.push(format!("sample figures, since {}", unknown(rule.metric, &why)));
                None
            }
        },
        Err(Some(why)) => {
            notes.push(format!("sample figures, since {} cannot be read ({})", target.place.account, why.reason));
            None
        }
        Err(None) => {
            notes.push("sample figures".to_owned());
            None
        }
    };
    let level = level(rule, kind, options, read.as_ref().and_then(|(_, breached)| *breached))?;
    let real = read.is_some();
    let fires = read.as_ref().is_some_and(|(_, breached)| breached.is_some());
    let forecast = read.and_then(|(read, _)| read.forecast.clone());
    let (reading, figures) = match read {
        Some((read, breached)) => {
            let fits = if kind == TransitionKind::Resolved { breached.is_none() } else { breached >= Some(level) };
            if !fits {
                let state = breached.map_or_else(|| "ok".to_owned(), |level| level.to_string());
                notes.push(format!(
                    "these are the present figures, at which the rule is {state}; --sample shows figures that fit"
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
    let mut subject = sample::threshold(rule, kind, level, (&reading, &figures), &target.place, now);
    if let Some(EventSubject::Threshold(event)) = subject.as_mut().filter(|_| real && kind != TransitionKind::Resolved)
    {
        event.forecast = forecast.as_ref().and_then(|it| it.summary(rule)).map(Box::new);
        if !fires && event.forecast.as_ref().is_some_and(|ahead| ahead.deposit.is_some()) {
            notes.push("the deposit assumes that this rule fires, too".to_owned());
        }
        event.chart = forecast.as_ref().and_then(|it| it.chart(rule)).map(Arc::new);
    }
    if let (false, Some(subject)) = (real, &mut subject) {
        sample::add_forecast(subject, rule, &figures, now);
    }
    let subjects = subject.into_iter().collect();
    let notifiers = rule.level(level).map(|level| level.notify.iter().cloned().collect()).unwrap_or_default();
    Ok(PreviewContent { subjects, silence: None, notifiers, real, notes })
}

/// Whether a message that it fires could only contradict itself at this reading: none of what the rule warns of is there.
fn nothing_to_warn_of(rule: &Rule, reading: &Reading) -> bool {
    let warns_of_much = rule.levels().all(|level| level.side() == ThresholdSide::Above);
    match reading {
        Reading::Amount(money) => warns_of_much && money.amount <= Decimal::ZERO,
        Reading::Unlimited => !warns_of_much,
        _ => false,
    }
}

/// Why there is no reading, as the rest of a sentence.
fn unknown(metric: Metric, why: &NotEvaluated) -> String {
    match why {
        NotEvaluated::NotYetKnown(why) | NotEvaluated::NotYetRead(why) => format!("{metric} is not yet known ({why})"),
        NotEvaluated::Unreadable(why) => format!("{metric} cannot be read ({})", why.reason),
    }
}

fn in_figures(reading: &Reading) -> String {
    match reading {
        Reading::Amount(money) => money.to_string(),
        _ => "unlimited".to_owned(),
    }
}

/// The level that was asked for; else the one that fits the event and the figures.
fn level(rule: &Rule, kind: TransitionKind, options: &Options, breached: Option<Severity>) -> Result<Severity, Exit> {
    let requested = options.level.map(|level| match level {
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

/// One division, and what it reads.
struct PreviewTarget {
    place: SampleTarget,
    /// `Err(None)`: it was not asked.
    read: Result<DivisionReading, Option<Unreadable>>,
}

async fn find_target(
    config: &Config,
    redactor: &Redactor,
    options: &Options,
    rule: Option<&Rule>,
) -> Result<PreviewTarget, Exit> {
    let pollers = account_pollers(config, redactor)?;
    let watched = |poller: &&Arc<Poller>| match (&options.account, rule) {
        (Some(account), _) => **account == *poller.policy.account,
        (None, Some(rule)) => rule.accounts.as_ref().is_none_or(|names| names.contains(&poller.policy.account)),
        (None, None) => true,
    };
    let Some(poller) = pollers.iter().find(watched) else { return Err(Exit::Failure) };
    let policy = &poller.policy;
    if let Some(rule) = rule.filter(|rule| rule.accounts.as_ref().is_some_and(|names| !names.contains(&policy.account)))
    {
        print_error!("lowtide: rule `{}` does not watch account `{}`", clean(&rule.name), clean(&policy.account));
        return Err(Exit::Usage);
    }
    let undivided = policy.scope == DivisionScope::Undivided;
    if let Some(id) = options.division.filter(|_| undivided) {
        print_error!("lowtide: account `{}` is read without divisions, so there is no {id}", clean(&policy.account));
        return Err(Exit::Usage);
    }
    let sampled = SampleTarget {
        account: policy.account.clone(),
        division: (!undivided).then_some(options.division.unwrap_or(sample::DIVISION)),
        division_name: (!undivided).then(|| sample::DIVISION_NAME.to_owned()),
    };
    if options.sample {
        return Ok(PreviewTarget { place: sampled, read: Err(None) });
    }
    match first_scope(poller, options, rule).await {
        Err(why) => Ok(PreviewTarget { place: sampled, read: Err(Some(why)) }),
        Ok(None) => {
            print_error!("lowtide: no such division of account `{}` is watched", clean(&policy.account));
            Err(Exit::Usage)
        }
        Ok(Some(scope)) => {
            Ok(read_target(poller, scope).await.unwrap_or(PreviewTarget { place: sampled, read: Err(None) }))
        }
    }
}

/// The one division to read: enough for a preview, and no burden on an account with hundreds. `None`: none is watched.
async fn first_scope(
    Poller { policy, source, .. }: &Poller,
    options: &Options,
    rule: Option<&Rule>,
) -> Result<Option<DivisionScope>, Unreadable> {
    let ids: Vec<u64> = match &policy.scope {
        DivisionScope::Undivided => return Ok(Some(DivisionScope::Undivided)),
        DivisionScope::Listed(ids) => ids.clone(),
        DivisionScope::All(exclude) => {
            let listed = source.divisions().await.map_err(Unreadable::from)?;
            listed.into_iter().map(|it| it.id).filter(|id| !exclude.contains(id)).collect()
        }
    };
    let is_requested = |id: &u64| options.division.is_none_or(|requested| requested == *id);
    let watched = |id: &u64| rule.is_none_or(|rule| rule.watches(&policy.account, Some(*id)));
    Ok(ids.into_iter().find(|id| is_requested(id) && watched(id)).map(|id| DivisionScope::Listed(vec![id])))
}

async fn read_target(poller: &Poller, scope: DivisionScope) -> Option<PreviewTarget> {
    let policy = AccountPolicy { scope, ..poller.policy.clone() };
    let single = Poller { policy, ..poller.clone() };
    let read = single.read_once(ForecastPurpose::Messages).await.divisions.into_iter().next()?;
    let place = SampleTarget {
        account: single.policy.account.clone(),
        division: read.division,
        division_name: read.name.clone(),
    };
    let failed = read.balance.as_ref().err().cloned();
    Some(PreviewTarget { place, read: failed.map_or(Ok(read), |why| Err(Some(why))) })
}
