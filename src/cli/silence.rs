//! `lowtide silence`: hush what is known already, for a while. Asks the running service; where none runs, it takes the
//! state's lock, changes the file and lets go. Never both.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use chrono_tz::Tz;
use serde::Serialize;

use super::args::{Output, SilenceAction, SilenceTerms};
use super::out::{grumble, say};
use super::status::{self, division};
use super::table::table;
use super::{Context, Exit, print_json};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::control::{self, Report, Request, SilenceReport, Silenced};
use crate::domain::Time;
use crate::silences::{Change, Changed, Firing, apply};
use crate::store::{self, FileStore, OpenError, Store};
use crate::text::clean;

/// How long a service that starts or stops just now is waited for.
const PATIENCE: u32 = 50;
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn run(context: &Context, action: SilenceAction) -> Exit {
    let config = match context.load_or_report() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    match action {
        SilenceAction::Add { terms, output } => add(&config, &terms, output).await,
        SilenceAction::List { output } => list(&config, output).await,
        SilenceAction::Remove { id } => remove(&config, &id).await,
    }
}

async fn add(config: &Config, terms: &SilenceTerms, output: Output) -> Exit {
    let now = SystemClock.now();
    let silence = match wanted(config, terms, now) {
        Ok(silence) => silence,
        Err(why) => {
            grumble!("lowtide: {why}");
            return Exit::Usage;
        }
    };
    let until = silence.until;
    let (changed, place) = match change(config, Change::Add { silence: silence.clone() }).await {
        Ok(done) => done,
        Err(why) => {
            grumble!("lowtide: {why}");
            return Exit::Failure;
        }
    };
    let Changed::Added { id, firing } = changed else {
        grumble!("lowtide: the silence was not made: {} has passed", time(config.timezone, until));
        return Exit::Usage;
    };
    match output {
        Output::Json => print_json(&SilenceReport { id: Some(id), name: None, silence }),
        Output::Text => {
            let rule =
                silence.rule.as_ref().map_or_else(|| "every rule".to_owned(), |rule| format!("rule {}", clean(rule)));
            let place_of = match silence.division {
                Some(id) => format!("{}, division {id}", clean(&silence.account)),
                None => clean(&silence.account),
            };
            let level = if terms.level.everything() { "everything" } else { "warnings only" };
            say!("Silence {id} ({place}): {place_of}, {rule}, {level}, until {}.", time(config.timezone, until));
            firing.iter().for_each(tell);
            if let Some(id) = silence.division
                && is_unseen(config, &silence.account, id).await
            {
                say!(
                    "Careful: no division {id} of {} was read lately, so this may hush nothing.",
                    clean(&silence.account)
                );
            }
        }
    }
    Exit::Success
}

/// Whether the running service reads this account, but no such division of it.
async fn is_unseen(config: &Config, account: &str, division: u64) -> bool {
    let Ok(report) = control::ask::<Report>(&config.state, Request::Status).await else { return false };
    let mut read = report.readings.iter().filter(|it| *it.account == *account).peekable();
    read.peek().is_some() && read.all(|it| it.division != Some(division))
}

/// What the silence means for an alert that fires now.
fn tell(firing: &Firing) {
    let alert = clean(&crate::cycle::label(&firing.key));
    if firing.hushed {
        say!("Hushed: {alert}, which fires at {}.", firing.level);
    } else {
        say!("NOT hushed: {alert}, which fires at {} (--level critical hushes that too).", firing.level);
    }
}

/// The silence that the arguments describe, or what is wrong with them.
fn wanted(config: &Config, terms: &SilenceTerms, now: Time) -> Result<crate::domain::silence::Silence, String> {
    let mut silence = config.silence(&terms.account, terms.division, terms.rule.as_deref())?;
    silence.until = match (terms.length, &terms.until) {
        (Some(length), _) => chrono::Duration::from_std(length).ok().and_then(|length| now.checked_add_signed(length)),
        (None, Some(until)) => Some(config.moment(until).map_err(|why| format!("--until {}: {why}", clean(until)))?),
        (None, None) => None,
    }
    .ok_or("a silence needs an end: --for 3d, or --until 2026-12-01T09:00")?;
    if silence.ended(now) {
        return Err(format!("the silence would end in the past, at {}", time(config.timezone, silence.until)));
    }
    silence.reason.clone_from(&terms.reason);
    silence.level = terms.level.into();
    silence.made = Some(now);
    Ok(silence)
}

async fn remove(config: &Config, id: &str) -> Exit {
    if config.silences.contains_key(id) && id.parse::<u32>().is_err() {
        let file = config.file.display();
        grumble!("lowtide: silence `{}` stands in {file}: take it out there", clean(id));
        return Exit::Usage;
    }
    let Ok(number) = id.parse::<u32>() else {
        grumble!("lowtide: no silence has the id `{}` (lowtide silence list shows them)", clean(id));
        return Exit::Usage;
    };
    match change(config, Change::Remove { id: number }).await {
        Ok((Changed::Removed { silence }, place)) => {
            say!(
                "Silence {number} of {} is removed ({place}); what still fires is told at the next reading.",
                clean(&silence.account)
            );
            Exit::Success
        }
        Ok(_) => {
            grumble!(
                "lowtide: no silence has the id {number} (lowtide silence list shows them; those that ended are gone)"
            );
            Exit::Usage
        }
        Err(why) => {
            grumble!("lowtide: {why}");
            Exit::Failure
        }
    }
}

/// Has the service make the change or, where none runs, makes it in the file. Also where that was.
async fn change(config: &Config, change: Change) -> Result<(Changed, &'static str), String> {
    for tries in 0..PATIENCE {
        if tries > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        match control::ask::<Silenced>(&config.state, Request::Silence(change.clone())).await {
            Ok(Silenced { saved: true, changed }) => return Ok((changed, "in the running service")),
            Ok(Silenced { saved: false, .. }) => {
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
        match in_the_file(&config.state, change.clone()) {
            Err(Stop::InUse) => {} // it starts or stops just now
            Err(Stop::Failed(why)) => return Err(why),
            Ok(changed) => return Ok((changed, "in the state file; no service runs")),
        }
    }
    Err(format!("state {} is in use, but no service answers at its socket: try again", config.state.display()))
}

enum Stop {
    InUse,
    Failed(String),
}

/// Under the state's lock, as a service would. A state that cannot be read is left to the service.
fn in_the_file(path: &Path, change: Change) -> Result<Changed, Stop> {
    store::read_only(path).map_err(Stop::Failed)?;
    let owner = owner(path);
    let opened = FileStore::open(path, SystemClock.now()).map_err(|error| match error {
        OpenError::InUse { .. } => Stop::InUse,
        newer @ OpenError::Newer { .. } => Stop::Failed(newer.to_string()),
    })?;
    for problem in &opened.problems {
        grumble!("lowtide: {problem}");
    }
    let mut state = opened.state;
    let (changed, is_new) = apply(&mut state, change, SystemClock.now());
    if is_new {
        let saved = store::encode(&state).and_then(|json| opened.store.save(&json));
        saved.map_err(|error| Stop::Failed(format!("state {} cannot be saved: {error}", path.display())))?;
    }
    if let Some((user, group)) = owner {
        keep_owner(path, user, group);
    }
    Ok(changed)
}

/// Whose the state is: the file's owner, or the folder's.
fn owner(path: &Path) -> Option<(u32, u32)> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let there = path.metadata().or_else(|_| folder.metadata()).ok()?;
    Some((there.uid(), there.gid()))
}

/// Root may have made the change: the service must be able to open its files afterwards.
fn keep_owner(path: &Path, user: u32, group: u32) {
    for file in [path.to_owned(), store::beside(path, "lock")] {
        let Ok(there) = file.metadata() else { continue };
        if there.uid() != user
            && let Err(error) = std::os::unix::fs::chown(&file, Some(user), Some(group))
        {
            grumble!("lowtide: {} cannot be given to user {user}, whose state it is: {error}", file.display());
        }
    }
}

#[derive(Serialize)]
struct Listed<'a> {
    silences: &'a [SilenceReport],
}

async fn list(config: &Config, output: Output) -> Exit {
    let report = match status::ask(config).await {
        Ok(report) => report,
        Err(exit) => return exit,
    };
    match output {
        Output::Json => print_json(&Listed { silences: &report.silences }),
        Output::Text if report.silences.is_empty() => say!("Nothing is silenced."),
        Output::Text => say!("{}", rows(&report.silences, config.timezone).trim_end()),
    }
    Exit::Success
}

/// A table of silences.
pub(super) fn rows(silences: &[SilenceReport], timezone: Tz) -> String {
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
            division(it.silence.division, None),
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
