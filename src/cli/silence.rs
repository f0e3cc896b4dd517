//! `lowtide silence`: adds, lists and removes silences.
//!
//! The running service makes the change. If no service runs, the command locks the state, changes the file and unlocks it;
//! never both. While the configuration file has mistakes, only a running service can be asked: it uses the previous
//! configuration, and its alerts must stay possible to silence.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono_tz::Tz;
use serde::Serialize;

use super::args::{OutputFormat, SilenceAction, SilenceTerms};
use super::status::{self, StateSettings, silence_table, stamp, state_settings};
use super::{CommandContext, Exit, print_json};
use crate::cli::output::{print_error, print_line, write_stdout};
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

/// Number of attempts while a service starts or stops: the state is locked, but the socket does not answer.
const MAX_TRIES: u32 = 50;
/// Pause between two attempts.
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

/// The state to change, and the names that a silence can refer to.
struct SilenceTarget {
    state: PathBuf,
    timezone: Tz,
    names: NameSource,
}

/// Source of the names of accounts and rules.
enum NameSource {
    /// A valid configuration file.
    File(Box<Config>),
    /// The running service, because the file has mistakes.
    Service(Box<ServiceStatus>),
}

/// Finds the state and the known names. A file with mistakes is a failure only if no service runs.
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
                "lowtide: {} has mistakes (lowtide validate shows them); asking the running service, which still uses the \
                 previous configuration",
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
        print_error!("lowtide: the silence was not added: {} has passed", stamp(timezone, until));
        return Exit::Usage;
    };
    match output {
        OutputFormat::Json => print_json(&SilenceReport { id: Some(id), name: None, silence }),
        OutputFormat::Text => {
            print_line!("Silence {id} ({made_in}): {}, until {}.", scope_label(&silence), stamp(timezone, until));
            firing.iter().for_each(print_effect);
            if let Some(id) = silence.division
                && division_not_read(&target.state, &silence.account, id).await
            {
                print_line!(
                    "Careful: no division {id} of {} was read lately, so this may silence nothing.",
                    clean(&silence.account)
                );
            }
        }
    }
    Exit::Success
}

/// Describes what a silence covers: `acme, division 7, rule funds, warnings only`.
fn scope_label(silence: &Silence) -> String {
    let account = match silence.division {
        Some(id) => format!("{}, division {id}", clean(&silence.account)),
        None => clean(&silence.account),
    };
    let rule = silence.rule.as_ref().map_or_else(|| "every rule".to_owned(), |rule| format!("rule {}", clean(rule)));
    let level = if silence.level == Severity::Critical { "everything" } else { "warnings only" };
    format!("{account}, {rule}, {level}")
}

/// Returns `true` if the running service reads this account, but no such division of it.
async fn division_not_read(state: &Path, account: &str, division: u64) -> bool {
    let Ok(report) = control::ask::<ServiceStatus>(state, ControlRequest::Status).await else { return false };
    let mut readings = report.readings.iter().filter(|reading| *reading.account == *account).peekable();
    readings.peek().is_some() && readings.all(|reading| reading.division != Some(division))
}

/// Prints how the silence affects an alert that fires now.
fn print_effect(firing: &AlertUnderSilence) {
    let alert = clean(&firing.key.label());
    if firing.suppressed {
        print_line!("Silenced: {alert}, which fires at {}.", firing.level);
    } else {
        print_line!("NOT silenced: {alert}, which fires at {} (--level critical silences that too).", firing.level);
    }
}

/// Builds the silence that the arguments describe.
///
/// # Errors
///
/// Says what is wrong with the arguments.
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
        return Err(format!("the silence would end in the past, at {}", stamp(target.timezone, silence.until)));
    }
    silence.reason.clone_from(&terms.reason);
    silence.level = terms.level.into();
    silence.created_at = Some(now);
    Ok(silence)
}

/// Builds a silence with the names that the running service knows.
fn build_from_service(
    report: &ServiceStatus,
    account: &str,
    division: Option<u64>,
    rule: Option<&str>,
) -> Result<Silence, String> {
    let names = |names: &[&Name]| names.iter().map(|name| clean(name)).collect::<Vec<_>>().join(", ");
    let accounts: Vec<&Name> = report.accounts.iter().map(|entry| &entry.account).collect();
    let Some(known_name) = accounts.iter().find(|name| &****name == account) else {
        return Err(format!("no account is called `{}`; the service reads {}", clean(account), names(&accounts)));
    };
    let unreadable = Name::from(UNREADABLE);
    let rules: Vec<&Name> = report.rules.iter().chain([&unreadable]).collect();
    // An older service does not report its rules; any name is accepted then.
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
        print_error!("lowtide: silence `{}` is defined in {file}: remove it there", clean(id));
        return Exit::Usage;
    }
    let Ok(number) = id.parse::<u32>() else {
        print_error!("lowtide: no silence has the id `{}` (lowtide silence list shows them)", clean(id));
        return Exit::Usage;
    };
    match change(target, SilenceChange::Remove { id: number }).await {
        Ok((SilenceResult::Removed { silence }, made_in)) => {
            print_line!(
                "Silence {number} of {} was removed ({made_in}); active alerts notify at the next check.",
                clean(&silence.account)
            );
            Exit::Success
        }
        Ok(_) => {
            print_error!(
                "lowtide: no silence has the id {number} (lowtide silence list shows them; ended silences are gone)"
            );
            Exit::Usage
        }
        Err(why) => {
            print_error!("lowtide: {why}");
            Exit::Failure
        }
    }
}

/// Asks the service to make the change, or makes it in the file if no service runs. Also returns which of the two it was, as
/// part of a sentence.
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
                    "the running service made the change, but could not save it (see its log): it is lost at a restart"
                        .to_owned(),
                );
            }
            // No service runs. After any other error the change may have been made, so it is not requested again.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {}
            Err(error) => {
                return Err(format!(
                    "no answer from the running service ({error}): look at `lowtide silence list` before trying again"
                ));
            }
        }
        if matches!(target.names, NameSource::Service(_)) {
            continue; // only a valid configuration says for certain which file it is
        }
        match change_file(state, change.clone()) {
            Err(ChangeError::InUse) => {} // the service is starting or stopping
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

/// Changes the state file under its lock. An unreadable state is left for the service to report.
fn change_file(path: &Path, change: SilenceChange) -> Result<SilenceResult, ChangeError> {
    state::read_only(path).map_err(ChangeError::Failed)?;
    let owner = owner(path);
    let created: Vec<&Path> = path.ancestors().skip(1).filter(|folder| is_missing(folder)).collect();
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
        for entry in files.iter().map(PathBuf::as_path).chain(created) {
            restore_owner(entry, user, group);
        }
    }
    Ok(changed)
}

fn is_missing(folder: &Path) -> bool {
    !folder.as_os_str().is_empty() && !folder.exists()
}

/// Returns the user and group that own the state file, or the nearest existing folder above it.
fn owner(path: &Path) -> Option<(u32, u32)> {
    let named = path.ancestors().filter(|entry| !entry.as_os_str().is_empty());
    let metadata = named.chain([Path::new(".")]).find_map(|entry| entry.metadata().ok())?;
    Some((metadata.uid(), metadata.gid()))
}

/// Gives a file back to the owner of the state, if root made the change, so that the service can open it. Links are never
/// followed: the service owns the folder and could have put a link to somebody else's file there.
fn restore_owner(path: &Path, user: u32, group: u32) {
    let Ok(metadata) = path.symlink_metadata() else { return };
    if metadata.uid() != user
        && !metadata.is_symlink()
        && let Err(error) = std::os::unix::fs::lchown(path, Some(user), Some(group))
    {
        print_error!("lowtide: cannot give {} to user {user}, who owns the state: {error}", path.display());
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
        // The previous configuration is in no file any more, so its silences are unknown here.
        NameSource::Service(report) => {
            let mut silences = report.silences.clone();
            silences.retain(|entry| entry.silence.in_force(SystemClock.now()));
            (silences, " by command; silences of the configuration are not shown")
        }
    };
    match output {
        OutputFormat::Json => print_json(&SilenceList { silences: &silences }),
        OutputFormat::Text if silences.is_empty() => print_line!("Nothing is silenced{by_command}."),
        OutputFormat::Text => write_stdout(&silence_table(&silences, target.timezone).text()),
    }
    Exit::Success
}
