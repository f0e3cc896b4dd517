//! What a preview shows: the event that was asked for, about a real reading if one can be had, else about the sample.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::Duration;
use rust_decimal::Decimal;

use crate::alerting::evaluate::{Blind, evaluate};
use crate::alerting::process;
use crate::alerting::state::State;
use crate::app;
use crate::cli::Exit;
use crate::cli::args::{Preview as Options, PreviewEvent, PreviewLevel};
use crate::cli::output::grumble;
use crate::config::{Channel, Config};
use crate::domain::alert::Kind;
use crate::domain::balance::{Reading, Unreadable};
use crate::domain::event::Subject;
use crate::domain::report::{self, Figures, Latest, Occasion};
use crate::domain::rule::{Metric, Rule, Severity, Side, UNREADABLE};
use crate::domain::silence::{Note, Silence};
use crate::domain::{Name, Time};
use crate::notify::message::sample;
use crate::notify::message::sample::Place;
use crate::notify::{Content, Message};
use crate::polling::forecasts::For;
use crate::polling::poller;
use crate::polling::poller::{Read, Scope, Watch};
use crate::util::clock::{Clock, SystemClock};
use crate::util::secret::Redactor;
use crate::util::text::clean;

/// What is shown, and to whom it would be told.
pub(super) struct Scene {
    /// Nothing: the test message.
    subjects: Vec<Subject>,
    /// The silence that the message shows.
    silence: Option<Note>,
    /// Who would be told.
    pub(super) audience: BTreeSet<Name>,
    /// Whether its figures were read just now.
    pub(super) real: bool,
    /// What the reader should know about the figures.
    pub(super) notes: Vec<String>,
}

impl Scene {
    /// The message to one notifier.
    pub(super) fn message(&self, notifier: &Name, now: Time) -> Message {
        let mut message = sample::message(self.subjects.clone(), now);
        if self.subjects.is_empty() {
            message.content = Content::Test { notifier: notifier.clone() };
        }
        if let Content::Events(items) = &mut message.content {
            for item in items {
                Arc::make_mut(&mut item.event).silence.clone_from(&self.silence);
            }
        }
        message
    }
}

/// A silence as it is shown when it breaks (what becomes critical), is still on at the end (what resolves), or is over.
fn silence(event: PreviewEvent, level: Option<PreviewLevel>, now: Time) -> Option<Note> {
    let critical = level == Some(PreviewLevel::Critical);
    let until = match event {
        PreviewEvent::Escalated | PreviewEvent::Resolved | PreviewEvent::Readable => now + Duration::days(2),
        PreviewEvent::Raised | PreviewEvent::Reminder if critical => now + Duration::days(2),
        PreviewEvent::Raised | PreviewEvent::Reminder | PreviewEvent::Eased | PreviewEvent::Unreadable => now,
        _ => return None,
    };
    Some(Note { until, reason: Some("PO 4711 raised".to_owned()), level: Severity::Warning })
}

/// As the command line names it.
pub(super) fn name(event: PreviewEvent) -> &'static str {
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
pub(super) async fn scene(config: &Config, redactor: &Redactor, options: &Options, now: Time) -> Result<Scene, Exit> {
    let everyone: BTreeSet<Name> = config.notifiers.keys().cloned().collect();
    let of_unreadable = options.rule.as_deref() == Some(UNREADABLE);
    let hushed = silence(options.event, options.level, now).filter(|_| options.silenced);
    if options.silenced && hushed.is_none() {
        grumble!("lowtide: messages of {} show no silence", name(options.event));
        return Err(Exit::Usage);
    }
    let plain =
        |subjects| Scene { subjects, silence: None, audience: everyone.clone(), real: false, notes: Vec::new() };
    let kind = match options.event {
        PreviewEvent::Test => return Ok(plain(Vec::new())),
        PreviewEvent::Several => return several(config, options, now),
        PreviewEvent::Report => return page(config, redactor, options, now).await,
        PreviewEvent::NotifierFailing | PreviewEvent::NotifierRecovered => {
            let recovered = options.event == PreviewEvent::NotifierRecovered;
            let Some((name, failing)) = config.notifiers.iter().next() else { return Ok(plain(Vec::new())) };
            let error = (!recovered).then(|| failure(&failing.channel));
            return Ok(plain(vec![sample::notifier(name.clone(), error, now)]));
        }
        PreviewEvent::Unreadable | PreviewEvent::Raised | PreviewEvent::Unwatched => Kind::Raised,
        PreviewEvent::Readable | PreviewEvent::Resolved => Kind::Resolved,
        PreviewEvent::Escalated => Kind::Escalated,
        PreviewEvent::Eased => Kind::Eased,
        PreviewEvent::Reminder => Kind::Reminder,
    };
    let rule = config.rules.iter().find(|rule| options.rule.as_deref().is_none_or(|name| name == &*rule.name));
    let rule = rule.filter(|_| !of_unreadable);
    let shot = shoot(config, redactor, options, rule).await?;
    let scene = match (options.event, rule) {
        (PreviewEvent::Unwatched, _) => {
            let rules = config.rules.iter().take(1).map(|rule| rule.name.clone()).collect();
            plain(vec![sample::unwatched(&shot.place, rules)])
        }
        (PreviewEvent::Unreadable | PreviewEvent::Readable, _) | (_, None) => unreadable(config, kind, shot, now),
        (_, Some(rule)) => threshold(rule, kind, options, &shot, now)?,
    };
    Ok(Scene { silence: hushed, ..scene })
}

/// What a notifier of this type may fail with.
fn failure(channel: &Channel) -> &'static str {
    match channel {
        Channel::Slack { .. } => sample::FAILURE,
        Channel::Email { .. } => "the mail server answered 535 to logging in: 5.7.8 authentication failed",
        Channel::Webhook { .. } => "the webhook answered 404 (nothing is there: look at `url`)",
        Channel::PagerDuty { .. } => "PagerDuty answered 403 (look at `routing_key` and `url`)",
        Channel::Teams { .. } => "Teams answered 404 (the workflow was removed or turned off: make a new one)",
    }
}

/// More alerts than a message tells in full, of sample figures.
fn several(config: &Config, options: &Options, now: Time) -> Result<Scene, Exit> {
    let asked = |rule: &&Rule| options.rule.as_deref().is_none_or(|name| name == &*rule.name);
    let Some(rule) = config.rules.iter().find(asked) else {
        grumble!("lowtide: name a rule with thresholds");
        return Err(Exit::Usage);
    };
    let watched = |name: &&Name| rule.accounts.as_ref().is_none_or(|names| names.contains(*name));
    let account = options.account.as_deref().map(Name::from).or_else(|| config.accounts.keys().find(watched).cloned());
    let subjects = sample::several(rule, &account.unwrap_or_else(|| "account".into()), now);
    let levels = [Severity::Warning, Severity::Critical].into_iter().filter_map(|level| rule.level(level));
    let audience = levels.flat_map(|level| level.notify.iter().cloned()).collect();
    Ok(Scene { subjects, silence: None, audience, real: false, notes: vec!["sample figures".to_owned()] })
}

/// The first report of the file, or of what one would be, from what every account reads now.
async fn page(config: &Config, redactor: &Redactor, options: &Options, now: Time) -> Result<Scene, Exit> {
    let (name, next, audience) = match config.reports.iter().next() {
        Some((name, report)) => (name.clone(), report.schedule.next_after(now), report.notify.clone()),
        None => ("weekly".into(), None, config.notifiers.keys().cloned().collect()),
    };
    if options.sample {
        let (subjects, notes) = (vec![sample::report(name, now)], vec!["sample figures".to_owned()]);
        return Ok(Scene { subjects, silence: None, audience, real: false, notes });
    }
    let watches = watches(config, redactor)?;
    let asked = |watch: &&Arc<Watch>| options.account.as_deref().is_none_or(|name| name == &*watch.account);
    let reads = watches.iter().filter(asked).map(|watch| async move {
        let harvest = poller::read_once(watch, &clock(), For::Rules).await;
        let mut latest = poller::latest(&watch.account, &harvest.reads, now);
        if let Some(why) = harvest.listing_failure.as_ref().filter(|_| latest.is_empty()) {
            let figures = Figures::none(watch.account.clone(), None, None);
            latest.push(Latest { figures, failure: Some(why.reason.clone()) });
        }
        (watch, harvest, latest)
    });
    let mut state = State::default();
    let mut latest = Vec::new();
    for (watch, harvest, of_account) in futures_util::future::join_all(reads).await {
        process::settle(&mut state, watch, &harvest, now);
        latest.extend(of_account);
    }
    let silences: Vec<Silence> = config.silences.values().cloned().collect();
    let of = Occasion { name: &name, due: now, next, now, silences: &silences };
    let (page, _) = report::page(&of, &latest, &state);
    let notes = vec![
        "levels are as a service that starts now would show them; only the running one knows since when something fires, \
         what changed since the last report and what was silenced by command"
            .to_owned(),
    ];
    Ok(Scene { subjects: vec![Subject::Report(Box::new(page))], silence: None, audience, real: true, notes })
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn watches(config: &Config, redactor: &Redactor) -> Result<Vec<Arc<Watch>>, Exit> {
    app::watches(config, redactor, &clock()).map_err(|error| {
        grumble!("lowtide: {error:#}");
        Exit::Failure
    })
}

fn unreadable(config: &Config, kind: Kind, shot: Shot, now: Time) -> Scene {
    let policy = &config.unreadable;
    let why = shot.read.err().flatten();
    let mut notes = Vec::new();
    if why.is_none() && kind != Kind::Resolved {
        notes.push("the reason is a sample".to_owned());
    }
    let real = why.is_some();
    let why = why.map(|why| (why.reason, why.outlook));
    let subjects = vec![sample::unreadable(kind, policy.level, why, &shot.place, now)];
    Scene { subjects, silence: None, audience: policy.notify.iter().cloned().collect(), real, notes }
}

fn threshold(rule: &Rule, kind: Kind, options: &Options, shot: &Shot, now: Time) -> Result<Scene, Exit> {
    let mut notes = Vec::new();
    let read = match &shot.read {
        Ok(read) => match evaluate(rule, &read.reading(rule)) {
            Ok(_) if kind != Kind::Resolved && says_nothing(rule, &read.reading(rule)) => {
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
            notes.push(format!("sample figures, since {} cannot be read ({})", shot.place.account, why.reason));
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
    let prospect = read.and_then(|(read, _)| read.prospect.clone());
    let (reading, figures) = match read {
        Some((read, breached)) => {
            let fits = if kind == Kind::Resolved { breached.is_none() } else { breached >= Some(level) };
            if !fits {
                let state = breached.map_or_else(|| "ok".to_owned(), |level| level.to_string());
                notes.push(format!(
                    "these are the present figures, at which the rule is {state}; --sample shows figures that fit"
                ));
            }
            let sampled = || sample::balance(rule, level, kind != Kind::Resolved);
            (read.reading(rule), read.balance.clone().unwrap_or_else(|_| sampled()))
        }
        None => {
            let breached = kind != Kind::Resolved;
            (sample::reading(rule, level, breached), sample::balance(rule, level, breached))
        }
    };
    let mut subject = sample::threshold(rule, kind, level, (&reading, &figures), &shot.place, now);
    if let Some(Subject::Threshold(event)) = subject.as_mut().filter(|_| real && kind != Kind::Resolved) {
        event.ahead = prospect.as_ref().and_then(|it| it.ahead(rule)).map(Box::new);
        if !fires && event.ahead.as_ref().is_some_and(|ahead| ahead.deposit.is_some()) {
            notes.push("the deposit assumes that this rule fires, too".to_owned());
        }
        event.chart = prospect.as_ref().and_then(|it| it.chart(rule)).map(Arc::new);
    }
    if let (false, Some(subject)) = (real, &mut subject) {
        sample::look_ahead(subject, rule, &figures, now);
    }
    let subjects = subject.into_iter().collect();
    let audience = rule.level(level).map(|level| level.notify.iter().cloned().collect()).unwrap_or_default();
    Ok(Scene { subjects, silence: None, audience, real, notes })
}

/// Whether a message that it fires could only contradict itself at this reading: none of what the rule warns of is there.
fn says_nothing(rule: &Rule, reading: &Reading) -> bool {
    let warns_of_much = rule.levels().all(|level| level.side() == Side::Above);
    match reading {
        Reading::Amount(money) => warns_of_much && money.amount <= Decimal::ZERO,
        Reading::Unlimited => !warns_of_much,
        _ => false,
    }
}

/// Why there is no reading, as the rest of a sentence.
fn unknown(metric: Metric, why: &Blind) -> String {
    match why {
        Blind::NotYetKnown(why) | Blind::NotYetRead(why) => format!("{metric} is not yet known ({why})"),
        Blind::Unreadable(why) => format!("{metric} cannot be read ({})", why.reason),
    }
}

fn in_figures(reading: &Reading) -> String {
    match reading {
        Reading::Amount(money) => money.to_string(),
        _ => "unlimited".to_owned(),
    }
}

/// The level that was asked for; else the one that fits the event and the figures.
fn level(rule: &Rule, kind: Kind, options: &Options, breached: Option<Severity>) -> Result<Severity, Exit> {
    let asked = options.level.map(|level| match level {
        PreviewLevel::Warning => Severity::Warning,
        PreviewLevel::Critical => Severity::Critical,
    });
    let by_event = match kind {
        Kind::Escalated => Some(Severity::Critical),
        Kind::Eased => Some(Severity::Warning),
        Kind::Raised | Kind::Reminder | Kind::Resolved => None,
    };
    let has = |severity: &Severity| rule.level(*severity).is_some();
    let first = [Severity::Warning, Severity::Critical].into_iter().find(has);
    let level = asked.or(by_event).or(breached).or(first).unwrap_or(Severity::Warning);
    if !has(&level) {
        grumble!("lowtide: rule `{}` has no level {level}", clean(&rule.name));
        return Err(Exit::Usage);
    }
    if by_event.is_some_and(|by_event| by_event != level || !has(&Severity::Warning) || !has(&Severity::Critical)) {
        let (what, right) = if kind == Kind::Escalated { ("escalates", "critical") } else { ("eases", "warning") };
        grumble!("lowtide: only an alert with both levels {what}, and then it is at {right}");
        return Err(Exit::Usage);
    }
    Ok(level)
}

/// One division, and what it reads.
struct Shot {
    place: Place,
    /// `Err(None)`: it was not asked.
    read: Result<Read, Option<Unreadable>>,
}

async fn shoot(config: &Config, redactor: &Redactor, options: &Options, rule: Option<&Rule>) -> Result<Shot, Exit> {
    let watches = watches(config, redactor)?;
    let watched = |watch: &&Arc<Watch>| match (&options.account, rule) {
        (Some(account), _) => **account == *watch.account,
        (None, Some(rule)) => rule.accounts.as_ref().is_none_or(|names| names.contains(&watch.account)),
        (None, None) => true,
    };
    let Some(watch) = watches.iter().find(watched) else { return Err(Exit::Failure) };
    if let Some(rule) = rule.filter(|rule| rule.accounts.as_ref().is_some_and(|names| !names.contains(&watch.account)))
    {
        grumble!("lowtide: rule `{}` does not watch account `{}`", clean(&rule.name), clean(&watch.account));
        return Err(Exit::Usage);
    }
    let undivided = watch.scope == Scope::Undivided;
    if let Some(id) = options.division.filter(|_| undivided) {
        grumble!("lowtide: account `{}` is read without divisions, so there is no {id}", clean(&watch.account));
        return Err(Exit::Usage);
    }
    let sampled = Place {
        account: watch.account.clone(),
        division: (!undivided).then_some(options.division.unwrap_or(sample::DIVISION)),
        division_name: (!undivided).then(|| sample::DIVISION_NAME.to_owned()),
    };
    if options.sample {
        return Ok(Shot { place: sampled, read: Err(None) });
    }
    match targets(watch, options, rule).await {
        Err(why) => Ok(Shot { place: sampled, read: Err(Some(why)) }),
        Ok(None) => {
            grumble!("lowtide: no such division of account `{}` is watched", clean(&watch.account));
            Err(Exit::Usage)
        }
        Ok(Some(scope)) => Ok(read(watch, scope).await.unwrap_or(Shot { place: sampled, read: Err(None) })),
    }
}

/// The one division to read: enough for a preview, and no burden on an account with hundreds. `None`: none is watched.
async fn targets(watch: &Watch, options: &Options, rule: Option<&Rule>) -> Result<Option<Scope>, Unreadable> {
    let ids: Vec<u64> = match &watch.scope {
        Scope::Undivided => return Ok(Some(Scope::Undivided)),
        Scope::Listed(ids) => ids.clone(),
        Scope::All(exclude) => {
            let listed = watch.source.divisions().await.map_err(Unreadable::from)?;
            listed.into_iter().map(|it| it.id).filter(|id| !exclude.contains(id)).collect()
        }
    };
    let asked = |id: &u64| options.division.is_none_or(|asked| asked == *id);
    let watched = |id: &u64| rule.is_none_or(|rule| rule.watches(&watch.account, Some(*id)));
    Ok(ids.into_iter().find(|id| asked(id) && watched(id)).map(|id| Scope::Listed(vec![id])))
}

async fn read(watch: &Watch, scope: Scope) -> Option<Shot> {
    let one = Watch {
        account: watch.account.clone(),
        source: Arc::clone(&watch.source),
        scope,
        rules: Arc::clone(&watch.rules),
        unreadable: Arc::clone(&watch.unreadable),
        silences: Arc::clone(&watch.silences),
        incident_notifiers: Arc::clone(&watch.incident_notifiers),
        library: watch.library.clone(),
    };
    let read = poller::read_once(&one, &clock(), For::Messages).await.reads.into_iter().next()?;
    let place = Place { account: watch.account.clone(), division: read.division, division_name: read.name.clone() };
    let failed = read.balance.as_ref().err().cloned();
    Some(Shot { place, read: failed.map_or(Ok(read), |why| Err(Some(why))) })
}
