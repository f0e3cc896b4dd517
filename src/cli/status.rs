//! `lowtide status` and `lowtide health`: what a running service, or else its state file, has to tell.

use std::path::PathBuf;

use chrono_tz::Tz;

use super::args::OutputFormat;
use super::{CommandContext, Exit, count, print_json};
use crate::cli::output::table::table;
use crate::cli::output::{print_error, print_line, write_stdout};
use crate::config::{self, Config, Loaded};
use crate::domain::alert::AlertKey;
use crate::domain::silence::Silence;
use crate::domain::{Division, Time};
use crate::state;
use crate::status::control;
use crate::status::control::{ControlRequest, CycleHealth, ReloadStatus, ServiceStatus, SilenceReport};
use crate::util::clock::{Clock, SystemClock};
use crate::util::text::clean;

pub(super) async fn status(context: &CommandContext, output: OutputFormat) -> Exit {
    let (loaded, settings) = match state_settings(context) {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let answer = control::ask::<ServiceStatus>(&settings.state, ControlRequest::Status).await;
    let report = match (answer, &loaded.config) {
        (Ok(report), Ok(config)) => with_configuration(report, config, SystemClock.now()),
        (Ok(report), Err(_)) => report,
        (Err(_), _) => match report_without_service(context, loaded) {
            Ok(report) => report,
            Err(exit) => return exit,
        },
    };
    match output {
        OutputFormat::Json => print_json(&report),
        OutputFormat::Text => write_stdout(&text(&report, &settings)),
    }
    Exit::Success
}

/// Where to ask, and in which zone to show times.
pub(super) struct StateSettings {
    pub(super) state: PathBuf,
    pub(super) timezone: Tz,
}

/// A running service goes on when its file becomes a bad one, so a bad one must not keep anybody from asking.
pub(super) fn state_settings(context: &CommandContext) -> Result<(Loaded, StateSettings), Exit> {
    let mut loaded = context.load();
    let config::ConfigOutline { state, timezone } = std::mem::take(&mut loaded.outline);
    match state {
        Some(state) => Ok((loaded, StateSettings { state, timezone })),
        None => Err(context.report(loaded).map_or_else(|exit| exit, |_| Exit::Config)),
    }
}

/// What the state file tells while no service runs. Whose file it is must then be certain.
fn report_without_service(context: &CommandContext, loaded: Loaded) -> Result<ServiceStatus, Exit> {
    let config = context.report(loaded)?;
    Ok(with_configuration(report_from_file(&config)?, &config, SystemClock.now()))
}

fn report_from_file(config: &Config) -> Result<ServiceStatus, Exit> {
    let state = state::read_only(&config.state).map_err(|why| {
        print_error!("lowtide: {why}");
        Exit::Failure
    })?;
    Ok(control::status_from_state(&state))
}

/// What the running service, or else its state file, has to tell, with the silences of the configuration.
pub(super) async fn current_report(config: &Config) -> Result<ServiceStatus, Exit> {
    let report = match control::ask::<ServiceStatus>(&config.state, ControlRequest::Status).await {
        Ok(report) => report,
        Err(_) => report_from_file(config)?,
    };
    Ok(with_configuration(report, config, SystemClock.now()))
}

/// Adds what only the configuration knows: its silences, shown at the alerts that they are about, and quiet hours.
fn with_configuration(mut report: ServiceStatus, config: &Config, now: Time) -> ServiceStatus {
    let configured = config.silences.iter();
    report.silences.extend(configured.map(|(name, silence)| SilenceReport {
        id: None,
        name: Some(name.clone()),
        silence: silence.clone(),
    }));
    for pending in report.pending.iter_mut().filter(|pending| pending.events > 0) {
        let quiet = config.notifiers.get(&pending.notifier).and_then(|notifier| notifier.quiet_hours.as_ref());
        pending.held_until = quiet.and_then(|quiet| quiet.quiet_until(now, pending.critical > 0));
    }
    report.silences.retain(|it| it.silence.in_force(now));
    for alert in &mut report.alerts {
        let key = AlertKey { account: alert.account.clone(), division: alert.division, rule: alert.rule.clone() };
        let silences = report.silences.iter().map(|it| &it.silence).filter(|silence| silence.matches(&key));
        let longest = silences.filter(|silence| silence.level >= alert.level).max_by_key(|silence| silence.until);
        alert.silenced = longest.map(Silence::summary);
    }
    report
}

pub(super) async fn health(context: &CommandContext) -> Exit {
    let (loaded, settings) = match state_settings(context) {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    match control::ask::<CycleHealth>(&settings.state, ControlRequest::Health).await {
        Ok(CycleHealth { on_time: true, .. }) => {
            print_line!("ok: cycles are on time");
            Exit::Success
        }
        Ok(health) => {
            print_line!(
                "late: no cycle on time for {}",
                health.late.iter().map(|name| clean(name)).collect::<Vec<_>>().join(", ")
            );
            Exit::Failure
        }
        Err(_) if loaded.config.is_err() => context.report(loaded).map_or_else(|exit| exit, |_| Exit::Config),
        Err(error) => {
            print_line!("no running service answers at {}: {error}", control::socket_path(&settings.state).display());
            Exit::Failure
        }
    }
}

fn text(report: &ServiceStatus, settings: &StateSettings) -> String {
    let time = |time: Option<Time>| {
        time.map_or_else(
            || "-".to_owned(),
            |time| time.with_timezone(&settings.timezone).format("%Y-%m-%d %H:%M:%S %Z").to_string(),
        )
    };
    let mut text = String::new();
    if report.running {
        text.push_str("lowtide is running.\n\n");
    } else {
        text.push_str(&format!("No running service answers; this is what {} holds.\n\n", settings.state.display()));
    }
    if let Some(reload) = &report.reload {
        text.push_str(&reload_text(reload, &time(Some(reload.at))));
    }
    section(&mut text, "Cycles", report.accounts.len(), "ACCOUNT|LAST CYCLE|NEXT CYCLE|ON TIME", |rows| {
        rows.extend(report.accounts.iter().map(|it| {
            vec![
                it.account.to_string(),
                time(it.last_cycle),
                time(it.next_cycle),
                if it.on_time { "yes" } else { "no" }.to_owned(),
            ]
        }));
    });
    section(
        &mut text,
        "Alerts",
        report.alerts.len(),
        "RULE|ACCOUNT|DIVISION|STATUS|LEVEL|SINCE|TOLD|SILENCED UNTIL|REASON",
        |rows| {
            rows.extend(report.alerts.iter().map(|it| {
                let notified = it.notified.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                vec![
                    it.rule.to_string(),
                    it.account.to_string(),
                    division_label(it.division, it.division_name.as_deref()),
                    it.status.clone(),
                    it.level.to_string(),
                    time(it.since),
                    notified,
                    time(it.silenced.as_ref().map(|note| note.until)),
                    it.reason.clone().unwrap_or_default(),
                ]
            }));
        },
    );
    if report.alerts.is_empty() {
        text.push_str("No alert is pending or firing.\n\n");
    }
    if !report.silences.is_empty() {
        let title = format!("Silences ({})", count(report.silences.len(), "row"));
        text.push_str(&format!("{title}\n{}\n", super::silence::silence_table(&report.silences, settings.timezone)));
    }
    let (pending, failing): (Vec<_>, Vec<_>) = report.pending.iter().partition(|it| it.events > 0);
    section(&mut text, "Owed", pending.len(), "NOTIFIER|EVENTS|OLDEST|HELD UNTIL|FAILING SINCE|ERROR", |rows| {
        rows.extend(pending.iter().map(|it| {
            vec![
                it.notifier.to_string(),
                it.events.to_string(),
                time(it.oldest),
                time(it.held_until),
                time(it.failing_since),
                it.error.clone().unwrap_or_default(),
            ]
        }));
    });
    if pending.is_empty() {
        text.push_str("Nothing is owed.\n\n");
    }
    // What it refused for good is not owed to it any more.
    section(&mut text, "Failing notifiers", failing.len(), "NOTIFIER|FAILING SINCE|ERROR", |rows| {
        rows.extend(
            failing
                .iter()
                .map(|it| vec![it.notifier.to_string(), time(it.failing_since), it.error.clone().unwrap_or_default()]),
        );
    });
    let head = "ACCOUNT|DIVISION|READ AT|AVAILABLE FUNDS|BALANCE|UNPAID INVOICES|USED CREDIT";
    section(&mut text, "Last readings", report.readings.len(), head, |rows| {
        rows.extend(report.readings.iter().map(|it| {
            let metric = |name: &str| it.metrics.get(name).cloned().unwrap_or_default();
            vec![
                it.account.to_string(),
                division_label(it.division, it.division_name.as_deref()),
                time(Some(it.at)),
                metric("available_funds"),
                metric("balance"),
                metric("unpaid_invoices"),
                metric("used_credit"),
            ]
        }));
    });
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// How the configuration was last read.
fn reload_text(reload: &ReloadStatus, at: &str) -> String {
    let verdict = if reload.ok { "in use since it was read" } else { "REFUSED, the one before stays in use; read" };
    let mut text = format!("Configuration: {verdict} at {at}\n");
    for problem in &reload.problems {
        text.push_str(&format!("  {}\n", clean(problem)));
    }
    text + "\n"
}

/// A titled table; nothing where there are no rows.
fn section(text: &mut String, title: &str, n: usize, head: &str, fill: impl FnOnce(&mut Vec<Vec<String>>)) {
    if n == 0 {
        return;
    }
    let mut rows = vec![head.split('|').map(str::to_owned).collect()];
    fill(&mut rows);
    text.push_str(&format!("{title} ({})\n{}\n", count(n, "row"), table(&rows, &[])));
}

/// A division for people.
pub(super) fn division_label(id: Division, name: Option<&str>) -> String {
    match (id, name) {
        (Some(id), Some(name)) => format!("{name} ({id})"),
        (Some(id), None) => id.to_string(),
        (None, _) => "-".to_owned(),
    }
}
