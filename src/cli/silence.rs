//! `lowtide silence`: hush what is known already, for a while. Asks the running service; where none runs, it takes the
//! state's lock, changes the file and lets go. Never both. While the configuration file is a bad one, only a running service
//! is asked, which goes on with the one before: it must be possible to hush it.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono_tz::Tz;
use serde::Serialize;

use super::args::{OutputFormat, SilenceAction, SilenceTerms};
use super::status::{self, StateSettings, division_label, state_settings};
use super::{CommandContext, Exit, print_json};
use crate::cli::output::table::table;
use crate::cli::output::{print_error, print_line};
use crate::config::{Config, silence_end};
use crate::domain::rule::{Severity, UNREADABLE};
use crate::domain::silence::Silence;
use crate::domain::{Name, Time};
use crate::state;
use crate::state::silences::{AlertUnderSilence, SilenceChange, SilenceResult, apply_change};
use crate::state::{FileBackend, StateBackend, StateOpenError};
use crate::status::control;
use crate::status::control::{ControlRequest, ServiceStatus, SilenceReply, SilenceReport};
use crate::util::clock::{Clock, SystemClock};
use crate::util::text::clean;

/// How long a service that starts or stops just now is waited for.
const MAX_TRIES: u32 = 50;
/// The pause between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn run(context: &CommandContext, action: SilenceAction) -> Exit {
    let target = match find_target(context).await {
        Ok(target) => target,
        Err(exit) => return exit,
    };
    match action {
        SilenceAction::Add { terms, output } => add(&target, &terms, output).await,
        SilenceAction::List { output } => list(&target, output).await,
        SilenceAction::Remove { id } => remove(&target, &id).await,
    }
}

/// Whose silences they are.
struct SilenceTarget {
    state: PathBuf,
    timezone: Tz,
    names: NameSource,
}

/// Who knows what there is to silence.
enum NameSource {
    /// The configuration.
    File(Box<Config>),
    /// The running service alone: the file has become a bad one.
    Service(Box<ServiceStatus>),
}

/// A bad file is one for this command only where no service runs that could go on without it.
async fn find_target(context: &CommandContext) -> Result<SilenceTarget, Exit> {
    let (loaded, StateSettings { state, timezone }) = state_settings(context)?;
    if loaded.config.is_ok() {
        return context.report(loaded).map(|config| SilenceTarget {
            state,
            timezone,
            names: NameSource::File(Box::new(config)),
        });
    }
    match control::ask::<ServiceStatus>(&state, ControlRequest::Status).await {
        Ok(report) => {
            print_error!(
                "lowtide: {} has mistakes (lowtide validate shows them): the running service is asked, which uses the one \
                 before",
                context.file.display()
            );
            Ok(SilenceTarget { state, timezone, names: NameSource::Service(Box::new(report)) })
        }
        Err(_) => Err(context.report(loaded).map_or_else(|exit| exit, |_| Exit::Config)),
    }
}

async fn add(target: &SilenceTarget, terms: &SilenceTerms, output: OutputFormat) -> Exit {
    let (now, timezone) = (SystemClock.now(), target.timezone);
    let silence = match build_silence(target, terms, now) {
        Ok(silence) => silence,
        Err(why) => {
            print_error!("lowtide: {why}");
            return Exit::Usage;
        }
    };
    let until = silence.until;
    let (changed, made_in) = match change(target, SilenceChange::Add { silence: silence.clone() }).await {
        Ok(done) => done,
        Err(why) => {
            print_error!("lowtide: {why}");
            return Exit::Failure;
        }
    };
    let SilenceResult::Added { id, firing } = changed else {
        print_error!("lowtide: the silence was not made: {} has passed", time(timezone, until));
        return Exit::Usage;
    };
    match output {
        OutputFormat::Json => print_json(&SilenceReport { id: Some(id), name: None, silence }),
        OutputFormat::Text => {
            let rule =
                silence.rule.as_ref().map_or_else(|| "every rule".to_owned(), |rule| format!("rule {}", clean(rule)));
            let place_of = match silence.division {
                Some(id) => format!("{}, division {id}", clean(&silence.account)),
                None => clean(&silence.account),
            };
            let level = if terms.level.includes_critical() { "everything" } else { "warnings only" };
            print_line!("Silence {id} ({made_in}): {place_of}, {rule}, {level}, until {}.", time(timezone, until));
            firing.iter().for_each(print_effect);
            if let Some(id) = silence.division
                && division_not_read(&target.state, &silence.account, id).await
            {
                print_line!(
                    "Careful: no division {id} of {} was read lately, so this may hush nothing.",
                    clean(&silence.account)
                );
            }
        }
    }
    Exit::Success
}

/// Whether the running service reads this account, but no such division of it.
async fn division_not_read(state: &Path, account: &str, division: u64) -> bool {
    let Ok(report) = control::ask::<ServiceStatus>(state, ControlRequest::Status).await else { return false };
    let mut read = report.readings.iter().filter(|it| *it.account == *account).peekable();
    read.peek().is_some() && read.all(|it| it.division != Some(division))
}

/// What the silence means for an alert that fires now.
fn print_effect(firing: &AlertUnderSilence) {
    let alert = clean(&firing.key.label());
    if firing.suppressed {
        print_line!("Hushed: {alert}, which fires at {}.", firing.level);
    } else {
        print_line!("NOT hushed: {alert}, which fires at {} (--level critical hushes that too).", firing.level);
    }
}

/// The silence that the arguments describe, or what is wrong with them.
fn build_silence(target: &SilenceTarget, terms: &SilenceTerms, now: Time) -> Result<Silence, String> {
    let (account, rule) = (&*terms.account, terms.rule.as_deref());
    let mut silence = match &target.names {
        NameSource::File(config) => config.silence(account, terms.division, rule)?,
        NameSource::Service(report) => build_from_service(report, account, terms.division, rule)?,
    };
    silence.until = match (terms.length, &terms.until) {
        (Some(length), _) => chrono::Duration::from_std(length).ok().and_then(|length| now.checked_add_signed(length)),
        (None, Some(until)) => {
            Some(silence_end(until, target.timezone).map_err(|why| format!("--until {}: {why}", clean(until)))?)
        }
        (None, None) => None,
    }
    .ok_or("a silence needs an end: --for 3d, or --until 2026-12-01T09:00")?;
    if silence.ended(now) {
        return Err(format!("the silence would end in the past, at {}", time(target.timezone, silence.until)));
    }
    silence.reason.clone_from(&terms.reason);
    silence.level = terms.level.into();
    silence.created_at = Some(now);
    Ok(silence)
}

/// A silence in the running service's words, or why it makes no sense there.
fn build_from_service(
    report: &ServiceStatus,
    account: &str,
    division: Option<u64>,
    rule: Option<&str>,
) -> Result<Silence, String> {
    let names = |names: &[&Name]| names.iter().map(|name| clean(name)).collect::<Vec<_>>().join(", ");
    let accounts: Vec<&Name> = report.accounts.iter().map(|it| &it.account).collect();
    let Some(known_name) = accounts.iter().find(|name| &****name == account) else {
        return Err(format!("no account is called `{}`; the service reads {}", clean(account), names(&accounts)));
    };
    let unreadable = Name::from(UNREADABLE);
    let rules: Vec<&Name> = report.rules.iter().chain([&unreadable]).collect();
    // A service from before it told its rules cannot be asked about them.
    let is_known = |rule: &str| report.rules.is_empty() || rules.iter().any(|name| &***name == rule);
    if let Some(rule) = rule.filter(|rule| !is_known(rule)) {
        return Err(format!("no rule is called `{}`; the service has {}", clean(rule), names(&rules)));
    }
    Ok(Silence {
        account: Name::clone(known_name),
        division,
        rule: rule.map(Name::from),
        until: Time::UNIX_EPOCH,
        reason: None,
        level: Severity::Warning,
        created_at: None,
    })
}

async fn remove(target: &SilenceTarget, id: &str) -> Exit {
    if let NameSource::File(config) = &target.names
        && config.silences.contains_key(id)
        && id.parse::<u32>().is_err()
    {
        let file = config.file.display();
        print_error!("lowtide: silence `{}` stands in {file}: take it out there", clean(id));
        return Exit::Usage;
    }
    let Ok(number) = id.parse::<u32>() else {
        print_error!("lowtide: no silence has the id `{}` (lowtide silence list shows them)", clean(id));
        return Exit::Usage;
    };
    match change(target, SilenceChange::Remove { id: number }).await {
        Ok((SilenceResult::Removed { silence }, made_in)) => {
            print_line!(
                "Silence {number} of {} is removed ({made_in}); what still fires is told at the next reading.",
                clean(&silence.account)
            );
            Exit::Success
        }
        Ok(_) => {
            print_error!(
                "lowtide: no silence has the id {number} (lowtide silence list shows them; those that ended are gone)"
            );
            Exit::Usage
        }
        Err(why) => {
            print_error!("lowtide: {why}");
            Exit::Failure
        }
    }
}

/// Has the service make the change or, where none runs, makes it in the file. Also where that was.
async fn change(target: &SilenceTarget, change: SilenceChange) -> Result<(SilenceResult, &'static str), String> {
    let state = &target.state;
    for tries in 0..MAX_TRIES {
        if tries > 0 {
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        match control::ask::<SilenceReply>(state, ControlRequest::Silence(change.clone())).await {
            Ok(SilenceReply { saved: true, changed }) => return Ok((changed, "in the running service")),
            Ok(SilenceReply { saved: false, .. }) => {
                return Err(
                    "the running service has made the change, but cannot save it: see its log; a restart forgets it"
                        .to_owned(),
                );
            }
            // Nobody listens. Any other failure may have come after the change was made: it is not asked for twice.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {}
            Err(error) => {
                return Err(format!(
                    "the running service gave no answer ({error}): look at `lowtide silence list` before trying again"
                ));
            }
        }
        if matches!(target.names, NameSource::Service(_)) {
            continue; // whose file it is must be certain
        }
        match change_file(state, change.clone()) {
            Err(ChangeError::InUse) => {} // it starts or stops just now
            Err(ChangeError::Failed(why)) => return Err(why),
            Ok(changed) => return Ok((changed, "in the state file; no service runs")),
        }
    }
    Err(format!("state {} is in use, but no service answers at its socket: try again", state.display()))
}

enum ChangeError {
    InUse,
    Failed(String),
}

/// Under the state's lock, as a service would. A state that cannot be read is left to the service.
fn change_file(path: &Path, change: SilenceChange) -> Result<SilenceResult, ChangeError> {
    state::read_only(path).map_err(ChangeError::Failed)?;
    let owner = owner(path);
    let made: Vec<&Path> = path.ancestors().skip(1).filter(|folder| is_missing(folder)).collect();
    let opened = FileBackend::open(path, SystemClock.now()).map_err(|error| match error {
        StateOpenError::InUse { .. } => ChangeError::InUse,
        newer @ StateOpenError::Newer { .. } => ChangeError::Failed(newer.to_string()),
    })?;
    for problem in &opened.problems {
        print_error!("lowtide: {problem}");
    }
    let mut state = opened.state;
    let (changed, is_new) = apply_change(&mut state, change, SystemClock.now());
    if is_new {
        let saved = state::encode(&state).and_then(|json| opened.backend.save(&json));
        saved.map_err(|error| ChangeError::Failed(format!("state cannot be saved: {error}")))?;
    }
    if let Some((user, group)) = owner {
        let files = [path.to_owned(), state::beside(path, "lock")];
        for entry in files.iter().map(PathBuf::as_path).chain(made) {
            restore_owner(entry, user, group);
        }
    }
    Ok(changed)
}

fn is_missing(folder: &Path) -> bool {
    !folder.as_os_str().is_empty() && !folder.exists()
}

/// Whose the state is: the owner of the file, or of the nearest folder above it that is there.
fn owner(path: &Path) -> Option<(u32, u32)> {
    let metadata =
        path.ancestors().filter(|place| !place.as_os_str().is_empty()).find_map(|place| place.metadata().ok());
    metadata.or_else(|| Path::new(".").metadata().ok()).map(|there| (there.uid(), there.gid()))
}

/// Root may have made the change: the service must be able to open its files afterwards. The folder is the service's, who could
/// have put a link to somebody else's file there: links are never followed.
fn restore_owner(path: &Path, user: u32, group: u32) {
    let Ok(metadata) = path.symlink_metadata() else { return };
    if metadata.uid() != user
        && !metadata.is_symlink()
        && let Err(error) = std::os::unix::fs::lchown(path, Some(user), Some(group))
    {
        print_error!("lowtide: {} cannot be given to user {user}, whose state it is: {error}", path.display());
    }
}

#[derive(Serialize)]
struct SilenceList<'a> {
    silences: &'a [SilenceReport],
}

async fn list(target: &SilenceTarget, output: OutputFormat) -> Exit {
    let (silences, by_command) = match &target.names {
        NameSource::File(config) => match status::current_report(config).await {
            Ok(report) => (report.silences, ""),
            Err(exit) => return exit,
        },
        // Those of the file in use stand in no file any more.
        NameSource::Service(report) => {
            let mut silences = report.silences.clone();
            silences.retain(|it| it.silence.in_force(SystemClock.now()));
            (silences, " by command; silences of the configuration are not shown")
        }
    };
    match output {
        OutputFormat::Json => print_json(&SilenceList { silences: &silences }),
        OutputFormat::Text if silences.is_empty() => print_line!("Nothing is silenced{by_command}."),
        OutputFormat::Text => print_line!("{}", silence_table(&silences, target.timezone).trim_end()),
    }
    Exit::Success
}

/// A table of silences.
pub(super) fn silence_table(silences: &[SilenceReport], timezone: Tz) -> String {
    let head = "ID|ACCOUNT|DIVISION|RULE|LEVEL|UNTIL|REASON";
    let mut rows: Vec<Vec<String>> = vec![head.split('|').map(str::to_owned).collect()];
    rows.extend(silences.iter().map(|it| {
        let id = match (&it.id, &it.name) {
            (Some(id), _) => id.to_string(),
            (None, Some(name)) => format!("{name} (configuration)"),
            (None, None) => "-".to_owned(),
        };
        vec![
            id,
            it.silence.account.to_string(),
            division_label(it.silence.division, None),
            it.silence.rule.as_ref().map_or_else(|| "all".to_owned(), ToString::to_string),
            it.silence.level.to_string(),
            time(timezone, it.silence.until),
            it.silence.reason.clone().unwrap_or_default(),
        ]
    }));
    table(&rows, &[])
}

fn time(timezone: Tz, at: Time) -> String {
    at.with_timezone(&timezone).format("%Y-%m-%d %H:%M:%S %Z").to_string()
}
