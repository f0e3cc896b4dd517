//! Writes the metrics in the Prometheus text format 0.0.4. Pure.
//!
//! Names and units follow the conventions of Prometheus. Amounts are exact decimals, which rules out the `prometheus-client` crate: its
//! gauges are floating-point numbers, and it writes OpenMetrics. An unreadable balance has no amount.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::domain::rule::{Metric, Rule, Severity, UNREADABLE};
use crate::domain::{Division, Name, Time};
use crate::polling::figures::LastReading;
use crate::status::control::ServiceStatus;
use crate::status::registry::AccountHealth;

/// Maximum number of divisions with series of their own. Divisions with alerts come first.
const MAX_DIVISIONS: usize = 2000;
/// Kinds of events that are shown from 0 on.
const EVENTS: [&str; 5] = ["raised", "escalated", "eased", "reminder", "resolved"];

/// Label names and values.
type Labels<'a> = Vec<(&'static str, &'a str)>;
/// Labels and formatted value of one sample.
type Sample<'a> = (Labels<'a>, String);

/// State of the process itself.
#[derive(Debug, Default)]
pub(super) struct ProcessStatus {
    /// `true` if the state on disk is the one in memory.
    pub(super) is_saved: bool,
    /// Number of log lines dropped because standard error was not read in time.
    pub(super) dropped_lines: usize,
}

/// Returns the whole page.
pub(super) fn page(
    report: &ServiceStatus,
    process: &ProcessStatus,
    rules: &[Rule],
    accounts: &BTreeMap<Name, AccountHealth>,
    now: Time,
) -> String {
    let mut page = MetricsText(String::new());
    let version = env!("CARGO_PKG_VERSION");
    page.gauge("lowtide_build_info", "The running version; always 1.", [(vec![("version", version)], "1".to_owned())]);
    let shown = ShownDivisions::of(report);
    divisions(&mut page, &shown);
    levels(&mut page, report, rules, &shown);
    cycles(&mut page, report, accounts);
    deliveries(&mut page, report, now);
    configuration(&mut page, report);
    let saved = [(Vec::new(), flag(process.is_saved))];
    page.gauge("lowtide_state_saved", "Whether the state could be saved when it last changed.", saved);
    let dropped = [(Vec::new(), process.dropped_lines.to_string())];
    page.counter(
        "lowtide_log_lines_dropped_total",
        "Log lines dropped because standard error was not read in time.",
        dropped,
    );
    page.0
}

/// Metrics text under construction.
struct MetricsText(String);

impl MetricsText {
    fn gauge<'a>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = Sample<'a>>) {
        self.family(name, "gauge", help, samples);
    }

    fn counter<'a>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = Sample<'a>>) {
        self.family(name, "counter", help, samples);
    }

    /// Writes a metric with all of its samples, or nothing if there are none. `help` must not need escaping.
    fn family<'a>(&mut self, name: &str, kind: &str, help: &str, samples: impl IntoIterator<Item = Sample<'a>>) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}"); // writing to a String cannot fail
        for (labels, value) in samples {
            let labels: Vec<String> = labels.iter().map(|(key, text)| format!("{key}=\"{}\"", escaped(text))).collect();
            let braces = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(self.0, "{name}{braces} {value}");
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn flag(yes: bool) -> String {
    u8::from(yes).to_string()
}

/// Formats a time as seconds since 1970, with milliseconds.
fn timestamp(at: Time) -> String {
    let ms = at.timestamp_millis();
    format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000))
}

/// Divisions that have series of their own.
struct ShownDivisions<'a> {
    /// Readings with the id of the division as a label, which is empty for an account without divisions.
    readings: Vec<(&'a LastReading, String)>,
    omitted: usize,
}

impl<'a> ShownDivisions<'a> {
    fn of(report: &'a ServiceStatus) -> Self {
        let with_alerts: BTreeSet<(&Name, Division)> =
            report.alerts.iter().map(|it| (&it.account, it.division)).collect();
        let mut readings: Vec<&LastReading> = report.readings.iter().collect();
        readings.sort_by_key(|it| !with_alerts.contains(&(&it.account, it.division)));
        let omitted = readings.len().saturating_sub(MAX_DIVISIONS);
        readings.truncate(MAX_DIVISIONS);
        readings.sort_by_key(|it| (&it.account, it.division));
        Self { readings: readings.into_iter().map(|it| (it, id(it.division))).collect(), omitted }
    }

    fn samples<'b>(&'b self, value: impl Fn(&LastReading) -> Option<String> + 'b) -> impl Iterator<Item = Sample<'b>> {
        self.readings.iter().filter_map(move |(it, id)| Some((division_labels(&it.account, id), value(it)?)))
    }
}

fn id(division: Division) -> String {
    division.map(|id| id.to_string()).unwrap_or_default()
}

fn division_labels<'a>(account: &'a str, division: &'a str) -> Labels<'a> {
    vec![("account", account), ("division", division)]
}

fn divisions(page: &mut MetricsText, shown: &ShownDivisions<'_>) {
    for (metric, help) in [
        (Metric::AvailableFunds, "Available funds at the last reading; absent if it failed or is unlimited."),
        (Metric::Balance, "Prepaid balance at the last reading; absent if it failed."),
        (Metric::UnpaidInvoices, "Unpaid invoices at the last reading; absent if it failed."),
        (Metric::UsedCredit, "Credit used by other divisions at the last reading; absent if it failed."),
    ] {
        let amount = |(it, _): &'_ (&'_ LastReading, String)| it.amounts.get(metric.name()).copied().flatten();
        let found: Vec<_> = shown.readings.iter().filter_map(|both| Some((both, amount(both)?))).collect();
        let codes: Vec<String> = found.iter().map(|(_, money)| money.currency.to_string()).collect();
        let samples = found.iter().zip(&codes).map(|(((it, id), money), code)| {
            let mut labels = division_labels(&it.account, id);
            labels.push(("currency", code.as_str()));
            (labels, money.amount.normalize().to_string())
        });
        page.gauge(&format!("lowtide_{}", metric.name()), help, samples);
    }
    let unlimited = |it: &LastReading| {
        let unlimited = it.metrics.get(Metric::AvailableFunds.name()).is_some_and(|text| text == "unlimited");
        it.is_readable().then(|| flag(unlimited))
    };
    page.gauge("lowtide_unlimited", "Whether available funds are unlimited.", shown.samples(unlimited));
    page.gauge(
        "lowtide_readable",
        "Whether the last reading succeeded.",
        shown.samples(|it| Some(flag(it.is_readable()))),
    );
    page.gauge(
        "lowtide_last_good_reading_timestamp_seconds",
        "When the balance was last read.",
        shown.samples(|it| it.last_good.map(timestamp)),
    );
    let names = shown.readings.iter().filter_map(|(it, id)| {
        let mut labels = division_labels(&it.account, id);
        labels.push(("name", it.division_name.as_deref()?));
        Some((labels, "1".to_owned()))
    });
    page.gauge("lowtide_division_info", "The division's name; always 1.", names);
    let omitted = [(Vec::new(), shown.omitted.to_string())];
    page.gauge("lowtide_divisions_omitted", "Divisions that are read but have no series of their own.", omitted);
}

fn levels(page: &mut MetricsText, report: &ServiceStatus, rules: &[Rule], shown: &ShownDivisions<'_>) {
    let alerts: BTreeMap<(&str, &str, Division), (&str, Severity)> =
        report.alerts.iter().map(|it| ((&*it.rule, &*it.account, it.division), (&*it.status, it.level))).collect();
    let value = |rule: &str, it: &LastReading, status: &str| {
        let alert = alerts.get(&(rule, &*it.account, it.division)).filter(|(is, _)| *is == status);
        alert.map_or(0, |(_, level)| if *level == Severity::Critical { 2 } else { 1 }).to_string()
    };
    let samples = |status: &'static str| {
        let (value, readings) = (&value, &shown.readings);
        readings.iter().flat_map(move |(it, id)| {
            let watching = rules.iter().filter(|rule| rule.watches(&it.account, it.division)).map(|rule| &*rule.name);
            watching.chain([UNREADABLE]).map(move |rule| {
                let mut labels = division_labels(&it.account, id);
                labels.push(("rule", rule));
                (labels, value(rule, it, status))
            })
        })
    };
    page.gauge("lowtide_alert_level", "The level that fires: 0 none, 1 warning, 2 critical.", samples("firing"));
    let help = "The level that is breached while nothing fires yet: 0 none, 1 warning, 2 critical.";
    page.gauge("lowtide_alert_pending_level", help, samples("pending"));
}

fn cycles(page: &mut MetricsText, report: &ServiceStatus, accounts: &BTreeMap<Name, AccountHealth>) {
    let by_account = |value: fn(&AccountHealth) -> Option<String>| {
        accounts.iter().filter_map(move |(name, it)| Some((vec![("account", &**name)], value(it)?)))
    };
    page.counter("lowtide_cycles_total", "Cycles that ended.", by_account(|it| Some(it.cycles.to_string())));
    let help = "Whether the latest cycle could read everything that the rules look at.";
    page.gauge("lowtide_account_readable", help, by_account(|it| it.readable.map(flag)));
    let cycles = || report.accounts.iter().map(|it| (vec![("account", &*it.account)], it));
    let ended = cycles().filter_map(|(labels, it)| Some((labels, timestamp(it.last_cycle?))));
    page.gauge("lowtide_last_cycle_timestamp_seconds", "When the latest cycle ended.", ended);
    let on_time = cycles().map(|(labels, it)| (labels, flag(it.on_time)));
    page.gauge("lowtide_cycles_on_time", "Whether cycles are on time.", on_time);
    let errors = report.counts.read_errors.iter().map(|(kind, n)| (vec![("kind", kind.as_str())], n.to_string()));
    page.counter("lowtide_read_errors_total", "Requests that failed after their retries.", errors);
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    for kind in EVENTS {
        kinds.extend([(kind.to_owned(), 0), (format!("{UNREADABLE}_{kind}"), 0)]);
    }
    kinds.extend(report.counts.events.iter().map(|(kind, n)| (kind.clone(), *n)));
    let events = kinds.iter().map(|(kind, n)| (vec![("kind", kind.as_str())], n.to_string()));
    page.counter("lowtide_events_total", "Events of alerts.", events);
}

fn deliveries(page: &mut MetricsText, report: &ServiceStatus, now: Time) {
    let attempts = report.counts.deliveries.iter().flat_map(|(notifier, outcomes)| {
        outcomes
            .iter()
            .map(move |(outcome, n)| (vec![("notifier", &**notifier), ("outcome", outcome.as_str())], n.to_string()))
    });
    page.counter("lowtide_deliveries_total", "Delivery attempts.", attempts);
    let pending: BTreeMap<&str, _> = report.pending.iter().map(|it| (&*it.notifier, it)).collect();
    let names: BTreeSet<&str> =
        report.counts.deliveries.keys().map(|name| &**name).chain(pending.keys().copied()).collect();
    let by_notifier = |value: &dyn Fn(&str) -> String| -> Vec<Sample<'_>> {
        names.iter().map(|name| (vec![("notifier", *name)], value(name))).collect()
    };
    let events = by_notifier(&|name| pending.get(name).map_or(0, |it| it.events).to_string());
    page.gauge("lowtide_pending_events", "Events that wait for delivery.", events);
    let age = |name: &str| {
        let oldest = pending.get(name).and_then(|it| it.oldest);
        let ms = oldest.map_or(0, |at| (now - at).num_milliseconds().max(0));
        format!("{}.{:03}", ms / 1000, ms % 1000)
    };
    page.gauge("lowtide_oldest_pending_age_seconds", "Age of the oldest pending event.", by_notifier(&age));
    let failing = by_notifier(&|name| flag(pending.get(name).is_some_and(|it| it.failing_since.is_some())));
    page.gauge("lowtide_notifier_failing", "Whether the last delivery attempt failed.", failing);
}

fn configuration(page: &mut MetricsText, report: &ServiceStatus) {
    let Some(reload) = &report.reload else { return };
    let ok = [(Vec::new(), flag(reload.ok))];
    page.gauge("lowtide_config_last_reload_successful", "Whether the configuration last read is in use.", ok);
    let at = [(Vec::new(), timestamp(reload.in_use_since))];
    let help = "When the configuration in use was read.";
    page.gauge("lowtide_config_last_reload_success_timestamp_seconds", help, at);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_is_bounded_and_shows_divisions_with_alerts_first() {
        let at: Time = "2026-11-23T09:15:00.250Z".parse().unwrap();
        let reading = |id: u64| {
            let json = serde_json::json!({ "account": "acme", "division": id, "division_name": null, "at": at,
                "metrics": {}, "amounts": { "balance": { "amount": "1.10", "currency": "USD" } }, "last_good": at });
            serde_json::from_value(json).unwrap()
        };
        let alert = serde_json::json!({ "rule": "funds", "account": "acme", "division": 2005, "division_name": null,
            "status": "firing", "level": "critical", "since": null, "last_event": null, "notified": [], "reason": null });
        let report = ServiceStatus {
            readings: (1..=2005).map(reading).collect(),
            alerts: vec![serde_json::from_value(alert).unwrap()],
            ..ServiceStatus::default()
        };
        let page = page(&report, &ProcessStatus::default(), &[], &BTreeMap::new(), at);
        assert_eq!(page.matches("lowtide_balance{").count(), MAX_DIVISIONS);
        assert!(page.contains("lowtide_divisions_omitted 5\n"));
        assert!(page.contains("lowtide_balance{account=\"acme\",division=\"2005\",currency=\"USD\"} 1.1\n"));
        assert!(
            page.contains(
                "lowtide_last_good_reading_timestamp_seconds{account=\"acme\",division=\"1\"} 1795425300.250\n"
            )
        );
        assert!(page.len() < 2_000_000, "{}", page.len());
    }
}
