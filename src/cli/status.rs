//! `lowtide status` and `lowtide health`: the status of the running service, or without one the content of its state file.

use std::path::PathBuf;

use chrono_tz::Tz;

use super::args::OutputFormat;
use super::{CommandContext, Exit, count, print_json};
use crate::cli::output::table::Table;
use crate::cli::output::{print_error, print_line, write_stdout};
use crate::config::{self, Config, Loaded};
use crate::domain::alert::AlertKey;
use crate::domain::silence::Silence;
use crate::domain::{Division, Time};
use crate::polling::figures::LastReading;
use crate::state;
use crate::status::answers::status_from_state;
use crate::status::control;
use crate::status::control::{
    AccountSummary, AlertSummary, ControlRequest, CycleHealth, PendingSummary, ReloadStatus, ServiceStatus,
    SilenceReport,
};
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

/// Path of the state, and the time zone for output.
pub(super) struct StateSettings {
    pub(super) state: PathBuf,
    pub(super) timezone: Tz,
}

/// Loads the configuration and returns the path of the state, also if the file has mistakes: a running service uses the
/// previous configuration and can still be asked.
pub(super) fn state_settings(context: &CommandContext) -> Result<(Loaded, StateSettings), Exit> {
    let mut loaded = context.load();
    let config::ConfigOutline { state, timezone } = std::mem::take(&mut loaded.outline);
    match state {
        Some(state) => Ok((loaded, StateSettings { state, timezone })),
        None => Err(context.report(loaded).map_or_else(|exit| exit, |_| Exit::Config)),
    }
}

/// Reads the state file. Requires a valid configuration, because only that says for certain which file it is.
fn report_without_service(context: &CommandContext, loaded: Loaded) -> Result<ServiceStatus, Exit> {
    let config = context.report(loaded)?;
    Ok(with_configuration(report_from_file(&config)?, &config, SystemClock.now()))
}

fn report_from_file(config: &Config) -> Result<ServiceStatus, Exit> {
    let state = state::read_only(&config.state).map_err(|why| {
        print_error!("lowtide: {why}");
        Exit::Failure
    })?;
    Ok(status_from_state(&state))
}

/// Returns the status of the running service, or without one the content of the state file, with the silences of the
/// configuration.
pub(super) async fn current_report(config: &Config) -> Result<ServiceStatus, Exit> {
    let report = match control::ask::<ServiceStatus>(&config.state, ControlRequest::Status).await {
        Ok(report) => report,
        Err(_) => report_from_file(config)?,
    };
    Ok(with_configuration(report, config, SystemClock.now()))
}

/// Adds the silences and quiet hours of the configuration, and marks the alerts that are silenced.
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
    report.silences.retain(|entry| entry.silence.in_force(now));
    for alert in &mut report.alerts {
        let key = AlertKey { account: alert.account.clone(), division: alert.division, rule: alert.rule.clone() };
        let silences = report.silences.iter().map(|entry| &entry.silence).filter(|silence| silence.matches(&key));
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
    let timezone = settings.timezone;
    let mut text = if report.running {
        "lowtide is running.\n\n".to_owned()
    } else {
        format!("No running service answers; this is the content of {}.\n\n", settings.state.display())
    };
    if let Some(reload) = &report.reload {
        text.push_str(&reload_text(reload, timezone));
    }
    text.push_str(&section("Cycles", &cycles(report, timezone)));
    text.push_str(&section("Alerts", &alerts(report, timezone)));
    if report.alerts.is_empty() {
        text.push_str("No alert is pending or firing.\n\n");
    }
    text.push_str(&section("Silences", &silence_table(&report.silences, timezone)));
    // A notifier without pending events is listed because it fails: it permanently rejected what it was sent.
    let (pending, failing): (Vec<_>, Vec<_>) = report.pending.iter().partition(|notifier| notifier.events > 0);
    text.push_str(&section("Pending notifications", &pending_notifications(&pending, timezone)));
    if pending.is_empty() {
        text.push_str("No undelivered notifications.\n\n");
    }
    text.push_str(&section("Failing notifiers", &failing_notifiers(&failing, timezone)));
    text.push_str(&section("Last readings", &last_readings(report, timezone)));
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// Formats the time and result of the last attempt to read the configuration.
fn reload_text(reload: &ReloadStatus, timezone: Tz) -> String {
    let at = stamp(timezone, reload.at);
    let result = if reload.ok {
        format!("loaded at {at}")
    } else {
        format!("REFUSED, still using the previous one; read at {at}")
    };
    let mut text = format!("Configuration: {result}\n");
    for problem in &reload.problems {
        text.push_str(&format!("  {}\n", clean(problem)));
    }
    text + "\n"
}

fn cycles(report: &ServiceStatus, timezone: Tz) -> Table {
    let row = |account: &AccountSummary| {
        vec![
            account.account.to_string(),
            stamp_or_dash(timezone, account.last_cycle),
            stamp_or_dash(timezone, account.next_cycle),
            if account.on_time { "yes" } else { "no" }.to_owned(),
        ]
    };
    Table::new("ACCOUNT|LAST CYCLE|NEXT CYCLE|ON TIME", &[], report.accounts.iter().map(row).collect())
}

fn alerts(report: &ServiceStatus, timezone: Tz) -> Table {
    let row = |alert: &AlertSummary| {
        vec![
            alert.rule.to_string(),
            alert.account.to_string(),
            division_label(alert.division, alert.division_name.as_deref()),
            alert.status.clone(),
            alert.level.to_string(),
            stamp_or_dash(timezone, alert.since),
            alert.notified.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            stamp_or_dash(timezone, alert.silenced.as_ref().map(|silence| silence.until)),
            alert.reason.clone().unwrap_or_default(),
        ]
    };
    let head = "RULE|ACCOUNT|DIVISION|STATUS|LEVEL|SINCE|NOTIFIED|SILENCED UNTIL|REASON";
    Table::new(head, &[], report.alerts.iter().map(row).collect())
}

fn pending_notifications(pending: &[&PendingSummary], timezone: Tz) -> Table {
    let row = |notifier: &&PendingSummary| {
        vec![
            notifier.notifier.to_string(),
            notifier.events.to_string(),
            stamp_or_dash(timezone, notifier.oldest),
            stamp_or_dash(timezone, notifier.held_until),
            stamp_or_dash(timezone, notifier.failing_since),
            notifier.error.clone().unwrap_or_default(),
        ]
    };
    Table::new("NOTIFIER|EVENTS|OLDEST|HELD UNTIL|FAILING SINCE|ERROR", &[], pending.iter().map(row).collect())
}

fn failing_notifiers(failing: &[&PendingSummary], timezone: Tz) -> Table {
    let row = |notifier: &&PendingSummary| {
        let since = stamp_or_dash(timezone, notifier.failing_since);
        vec![notifier.notifier.to_string(), since, notifier.error.clone().unwrap_or_default()]
    };
    Table::new("NOTIFIER|FAILING SINCE|ERROR", &[], failing.iter().map(row).collect())
}

fn last_readings(report: &ServiceStatus, timezone: Tz) -> Table {
    let row = |reading: &LastReading| {
        let metric = |name: &str| reading.metrics.get(name).cloned().unwrap_or_default();
        vec![
            reading.account.to_string(),
            division_label(reading.division, reading.division_name.as_deref()),
            stamp(timezone, reading.at),
            metric("available_funds"),
            metric("balance"),
            metric("unpaid_invoices"),
            metric("used_credit"),
        ]
    };
    let head = "ACCOUNT|DIVISION|READ AT|AVAILABLE FUNDS|BALANCE|UNPAID INVOICES|USED CREDIT";
    Table::new(head, &[], report.readings.iter().map(row).collect())
}

/// Formats a table with a title, or nothing if it has no rows.
fn section(title: &str, table: &Table) -> String {
    if table.rows.is_empty() {
        return String::new();
    }
    format!("{title} ({})\n{}\n", count(table.rows.len(), "row"), table.text())
}

/// Formats a time in the configured time zone.
pub(super) fn stamp(timezone: Tz, at: Time) -> String {
    at.with_timezone(&timezone).format("%Y-%m-%d %H:%M:%S %Z").to_string()
}

fn stamp_or_dash(timezone: Tz, at: Option<Time>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| stamp(timezone, at))
}

/// Formats a division for people: `Physics (7)`, `7`, or `-` for an account without divisions.
pub(super) fn division_label(id: Division, name: Option<&str>) -> String {
    match (id, name) {
        (Some(id), Some(name)) => format!("{name} ({id})"),
        (Some(id), None) => id.to_string(),
        (None, _) => "-".to_owned(),
    }
}

/// Returns silences as a table.
pub(super) fn silence_table(silences: &[SilenceReport], timezone: Tz) -> Table {
    let row = |SilenceReport { id, name, silence }: &SilenceReport| {
        let id = match (id, name) {
            (Some(id), _) => id.to_string(),
            (None, Some(name)) => format!("{name} (configuration)"),
            (None, None) => "-".to_owned(),
        };
        vec![
            id,
            silence.account.to_string(),
            division_label(silence.division, None),
            silence.rule.as_ref().map_or_else(|| "all".to_owned(), ToString::to_string),
            silence.level.to_string(),
            stamp(timezone, silence.until),
            silence.reason.clone().unwrap_or_default(),
        ]
    };
    Table::new("ID|ACCOUNT|DIVISION|RULE|LEVEL|UNTIL|REASON", &[], silences.iter().map(row).collect())
}
