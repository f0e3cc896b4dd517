//! What is asked through the socket, and what comes back: plain values that outlive a version. A field that came later has a
//! default, so that a command understands a service that was started before it was upgraded.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

use crate::domain::rule::Severity;
use crate::domain::silence::{Silence, SilenceSummary};
use crate::domain::{Division, Name, Time};
use crate::polling::figures::LastReading;
use crate::state::silences::{SilenceChange, SilenceResult};

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum ControlRequest {
    /// Everything: [`ServiceStatus`].
    Status,
    /// Only whether the cycles are on time: [`CycleHealth`].
    Health,
    /// A silence more or less: [`SilenceReply`].
    Silence(SilenceChange),
}

/// What came of a change of silences.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SilenceReply {
    /// Whether it is on disk.
    pub saved: bool,
    /// What came of it.
    pub changed: SilenceResult,
}

/// Whether the cycles are on time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CycleHealth {
    /// All of them.
    pub on_time: bool,
    /// The accounts whose cycles are late.
    pub late: Vec<Name>,
}

/// What the state holds and, from a running service, the last readings.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Whether this comes from a running service, or only from its state file.
    pub running: bool,
    /// Its accounts and their cycles.
    #[serde(default)]
    pub accounts: Vec<AccountSummary>,
    /// The names of its rules; empty from one that is older than this field.
    #[serde(default)]
    pub rules: Vec<Name>,
    /// Alerts that are pending or firing.
    pub alerts: Vec<AlertSummary>,
    /// Silences that were made by command; `status` and `silence list` add those of the configuration.
    #[serde(default)]
    pub silences: Vec<SilenceReport>,
    /// What is owed, by notifier.
    pub pending: Vec<PendingSummary>,
    /// The last readings.
    #[serde(default)]
    pub readings: Vec<LastReading>,
    /// What the service did since it started.
    #[serde(default)]
    pub counts: ServiceCounters,
    /// How the configuration was last read.
    #[serde(default)]
    pub reload: Option<ReloadStatus>,
}

/// How the configuration was last read, at start or later.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReloadStatus {
    /// When.
    pub at: Time,
    /// Whether it is in use; else the one before stays.
    pub ok: bool,
    /// When the one in use was read.
    pub in_use_since: Time,
    /// What is wrong with it, or of one in use, what is to be known about it.
    pub problems: Vec<String>,
}

/// What a service did since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceCounters {
    /// Cycles that ended.
    pub cycles: u64,
    /// Divisions read.
    pub readings: u64,
    /// Divisions that could not be read.
    pub unreadable: u64,
    /// Events by name; those of the unreadable alert begin with `unreadable_`.
    pub events: BTreeMap<String, u64>,
    /// Requests for balances or listings that failed after their retries, by kind.
    #[serde(default)]
    pub read_errors: BTreeMap<String, u64>,
    /// Tries to send, by notifier and by what became of them.
    #[serde(default)]
    pub deliveries: BTreeMap<Name, BTreeMap<String, u64>>,
}

/// One account's cycles.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AccountSummary {
    /// Its name.
    pub account: Name,
    /// When its last cycle ended.
    pub last_cycle: Option<Time>,
    /// When the next one is due.
    pub next_cycle: Option<Time>,
    /// Whether its cycles are on time.
    pub on_time: bool,
    /// Whether one goes on just now.
    #[serde(default)]
    pub reading: bool,
}

/// One alert that is not ok.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AlertSummary {
    /// The rule's name, or `unreadable`.
    pub rule: Name,
    /// The account's name.
    pub account: Name,
    /// The division.
    pub division: Division,
    /// Its name.
    pub division_name: Option<String>,
    /// `pending` or `firing`.
    pub status: String,
    /// At which level.
    pub level: Severity,
    /// The first breached reading of that level.
    pub since: Option<Time>,
    /// Its last event.
    pub last_event: Option<Time>,
    /// Who was told.
    pub notified: Vec<Name>,
    /// Why it is unreadable.
    pub reason: Option<String>,
    /// The silence that keeps people from hearing of it.
    #[serde(default, serialize_with = "whole_note")]
    pub silenced: Option<SilenceSummary>,
}

/// One silence.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SilenceReport {
    /// Its id, where it was made by command.
    pub id: Option<u32>,
    /// Its name, where it stands in the configuration.
    pub name: Option<Name>,
    /// The silence.
    #[serde(flatten)]
    pub silence: Silence,
}

/// Scripts find every key; the state leaves out what is not set.
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

#[allow(clippy::ref_option)] // as serde calls it
fn whole_note<S: Serializer>(note: &Option<SilenceSummary>, to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct FullNote<'a> {
        until: Time,
        reason: Option<&'a str>,
        level: Severity,
    }
    let whole = note.as_ref().map(|SilenceSummary { until, reason, level }| FullNote {
        until: *until,
        reason: reason.as_deref(),
        level: *level,
    });
    whole.serialize(to)
}

/// What one notifier owes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PendingSummary {
    /// Its name.
    pub notifier: Name,
    /// How many events.
    pub events: usize,
    /// How many of them are about critical, its easing and end too: quiet hours may let those through.
    #[serde(default)]
    pub critical: usize,
    /// Until when they are held, in quiet hours; `status` knows it from the configuration.
    #[serde(default)]
    pub held_until: Option<Time>,
    /// The oldest of them.
    pub oldest: Option<Time>,
    /// Since when it fails, if it does.
    pub failing_since: Option<Time>,
    /// Its last failure.
    pub error: Option<String>,
}
