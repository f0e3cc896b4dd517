//! Requests and responses of the control socket: plain values that outlive a version. A field that was added later has a default,
//! so that a command understands a service of an older version.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize, Serializer};

use crate::alerting::state::{AlertRecord, State};
use crate::domain::alert::{AlertKey, AlertStatus};
use crate::domain::rule::Severity;
use crate::domain::silence::{Silence, SilenceSummary};
use crate::domain::{Division, Name, Time};
use crate::polling::figures::LastReading;
use crate::state::silences::{SilenceChange, SilenceResult};

/// A request to the running service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum ControlRequest {
    /// The whole status; answered with [`ServiceStatus`].
    Status,
    /// The health of the cycles; answered with [`CycleHealth`].
    Health,
    /// A silence to add or remove; answered with [`SilenceReply`].
    Silence(SilenceChange),
}

/// Response to a change of silences.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SilenceReply {
    /// `true` once the change is on disk.
    pub saved: bool,
    /// Result of the change.
    pub changed: SilenceResult,
}

/// Health of the cycles.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CycleHealth {
    /// `true` if the cycles of every account are on time.
    pub on_time: bool,
    /// Accounts whose cycles are late.
    pub late: Vec<Name>,
}

/// Contents of the state and, from a running service, the last readings.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// `true` if a running service answered, `false` if only its state file was read.
    pub running: bool,
    /// Accounts and their cycles.
    #[serde(default)]
    pub accounts: Vec<AccountSummary>,
    /// Names of the rules. Empty if the service is older than this field.
    #[serde(default)]
    pub rules: Vec<Name>,
    /// Alerts that are pending or firing.
    pub alerts: Vec<AlertSummary>,
    /// Silences added by command. `status` and `silence list` add those of the configuration.
    #[serde(default)]
    pub silences: Vec<SilenceReport>,
    /// Pending events by notifier.
    pub pending: Vec<PendingSummary>,
    /// Last reading of each division.
    #[serde(default)]
    pub readings: Vec<LastReading>,
    /// Counters since the service started.
    #[serde(default)]
    pub counts: ServiceCounters,
    /// Result of the last read of the configuration.
    #[serde(default)]
    pub reload: Option<ReloadStatus>,
}

/// Result of the last read of the configuration, at start or later.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReloadStatus {
    /// Time of that read.
    pub at: Time,
    /// `true` if that configuration is in use, `false` if the previous one stays in use.
    pub ok: bool,
    /// Time at which the configuration in use was read.
    pub in_use_since: Time,
    /// Problems that led to the refusal, or notes about the configuration in use.
    pub problems: Vec<String>,
}

/// Counters of a service since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceCounters {
    /// Number of finished cycles.
    pub cycles: u64,
    /// Number of successful readings.
    pub readings: u64,
    /// Number of failed readings.
    pub unreadable: u64,
    /// Number of events by name. Names of the unreadable alert begin with `unreadable_`.
    pub events: BTreeMap<String, u64>,
    /// Number of requests for balances or listings that failed after their retries, by kind.
    #[serde(default)]
    pub read_errors: BTreeMap<String, u64>,
    /// Number of delivery attempts, by notifier and outcome.
    #[serde(default)]
    pub deliveries: BTreeMap<Name, BTreeMap<String, u64>>,
}

/// Cycles of one account.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AccountSummary {
    /// Name of the account.
    pub account: Name,
    /// End of the last cycle.
    pub last_cycle: Option<Time>,
    /// Due time of the next cycle.
    pub next_cycle: Option<Time>,
    /// `true` if the cycles are on time.
    pub on_time: bool,
    /// `true` while a cycle runs.
    #[serde(default)]
    pub reading: bool,
}

/// An alert that is pending or firing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AlertSummary {
    /// Name of the rule, or `unreadable`.
    pub rule: Name,
    /// Name of the account.
    pub account: Name,
    /// Division, or `None` for an account without divisions.
    pub division: Division,
    /// Name of the division, if known.
    pub division_name: Option<String>,
    /// State of the alert: `pending` or `firing`.
    pub status: String,
    /// Level that is pending or firing.
    pub level: Severity,
    /// Time of the first breached reading of that level.
    pub since: Option<Time>,
    /// Time of the last event.
    pub last_event: Option<Time>,
    /// Notifiers that received this alert.
    pub notified: Vec<Name>,
    /// Reason why the balance is unreadable.
    pub reason: Option<String>,
    /// Silence that suppresses the alert.
    #[serde(default, serialize_with = "all_keys")]
    pub silenced: Option<SilenceSummary>,
}

/// A silence, added by command or configured.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SilenceReport {
    /// Id of a silence added by command.
    pub id: Option<u32>,
    /// Name of a silence in the configuration.
    pub name: Option<Name>,
    /// Scope, end and reason of the silence.
    #[serde(flatten)]
    pub silence: Silence,
}

/// Writes every key, `null` where nothing is set, for scripts. The state leaves such keys out.
impl Serialize for SilenceReport {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct FullSilence<'a> {
            id: Option<u32>,
            name: Option<&'a Name>,
            account: &'a Name,
            division: Division,
            rule: Option<&'a Name>,
            until: Time,
            reason: Option<&'a str>,
            level: Severity,
            made: Option<Time>,
        }
        let Silence { account, division, rule, until, reason, level, created_at: made } = &self.silence;
        let (id, name) = (self.id, self.name.as_ref());
        let (division, rule, reason) = (*division, rule.as_ref(), reason.as_deref());
        FullSilence { id, name, account, division, rule, until: *until, reason, level: *level, made: *made }
            .serialize(to)
    }
}

#[allow(clippy::ref_option)] // signature required by serde
fn all_keys<S: Serializer>(note: &Option<SilenceSummary>, to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct SilenceWithAllKeys<'a> {
        until: Time,
        reason: Option<&'a str>,
        level: Severity,
    }
    let whole = note.as_ref().map(|SilenceSummary { until, reason, level }| SilenceWithAllKeys {
        until: *until,
        reason: reason.as_deref(),
        level: *level,
    });
    whole.serialize(to)
}

/// Pending events of one notifier.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PendingSummary {
    /// Name of the notifier.
    pub notifier: Name,
    /// Number of pending events.
    pub events: usize,
    /// Number of pending events about the critical level, including its easing and end. Quiet hours may let these through.
    #[serde(default)]
    pub critical: usize,
    /// End of the quiet hours that hold the events. `status` computes it from the configuration.
    #[serde(default)]
    pub held_until: Option<Time>,
    /// Time of the oldest pending event.
    pub oldest: Option<Time>,
    /// Start of the failure, if the notifier is failing.
    pub failing_since: Option<Time>,
    /// Text of the last failure.
    pub error: Option<String>,
}

/// Builds the status from the state alone.
pub fn status_from_state(state: &State) -> ServiceStatus {
    let alert = |(key, known): (&AlertKey, &AlertRecord)| {
        let (status, level) = match known.alert.status() {
            AlertStatus::Ok => return None,
            AlertStatus::Pending(level) => ("pending", level),
            AlertStatus::Firing(level) => ("firing", level),
        };
        Some(AlertSummary {
            rule: key.rule.clone(),
            account: key.account.clone(),
            division: key.division,
            division_name: known.division_name.clone(),
            status: status.to_owned(),
            level,
            since: known.alert.level_since(),
            last_event: known.alert.last_event,
            notified: known.alert.notified.keys().cloned().collect(),
            reason: known.reason.clone(),
            silenced: known.suppressed.as_ref().map(|suppression| suppression.silence.clone()),
        })
    };
    let names: BTreeSet<&Name> =
        state.queue.iter().flat_map(|event| event.pending.keys()).chain(state.failing_notifiers.keys()).collect();
    let pending = names.into_iter().map(|name| {
        let failure = state.failing_notifiers.get(name);
        PendingSummary {
            notifier: name.clone(),
            events: state.queue.pending_for(name).count(),
            critical: state.queue.pending_for(name).filter(|(event, _)| event.is_about_critical()).count(),
            held_until: None,
            oldest: state.queue.pending_for(name).map(|(event, _)| event.at).min(),
            failing_since: failure.map(|failure| failure.since),
            error: failure.map(|failure| failure.error.clone()),
        }
    });
    let silence =
        |(id, silence): (&u32, &Silence)| SilenceReport { id: Some(*id), name: None, silence: silence.clone() };
    ServiceStatus {
        alerts: state.alerts.iter().filter_map(alert).collect(),
        silences: state.silences.iter().map(silence).collect(),
        pending: pending.collect(),
        ..ServiceStatus::default()
    }
}
