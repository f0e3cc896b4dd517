//! Log lines of a cycle about its readings and events.

use std::collections::BTreeMap;

use crate::alerting::log_entry::AlertLogEntry;
use crate::alerting::readings::{AccountReadings, DivisionReading};
use crate::domain::balance::{BalanceAnomaly, Unreadable};
use crate::domain::{Division, Name};
use crate::polling::figures::{SHARED_FUND_NOTE, shared_fund};
use crate::polling::poller::PollerState;

/// Logs one line for each event. The field is `alert_level`, because `level` is the level of the log line.
pub(super) fn log_events(account: &Name, entries: &[AlertLogEntry]) {
    for entry in entries {
        tracing::info!(%account, event = entry.kind, alert = %entry.alert, alert_level = %entry.level, "{}", entry.text);
    }
}

/// Logs one warning for each distinct reason, with the number of divisions that share it.
pub(super) fn log_failures(account: &Name, readings: &[DivisionReading], listing_failure: Option<&Unreadable>) {
    let mut divisions_by_reason: BTreeMap<&str, Vec<Division>> = BTreeMap::new();
    for reading in readings {
        if let Err(why) = &reading.balance {
            divisions_by_reason.entry(&why.reason).or_default().push(reading.division);
        }
    }
    for (reason, divisions) in divisions_by_reason {
        tracing::warn!(%account, division = divisions[0], divisions = divisions.len(), reason, "balance cannot be read");
    }
    if let Some(why) = listing_failure {
        tracing::warn!(%account, reason = why.reason, "divisions cannot be listed");
    }
}

/// Logs anomalies of balances and funds that divisions share: each once, not in every cycle.
pub(super) fn log_anomalies(account: &Name, state: &mut PollerState, readings: &AccountReadings) {
    for reading in &readings.divisions {
        let Ok(balance) = &reading.balance else { continue };
        let Some(anomaly) = balance.anomaly() else {
            state.logged_anomalies.remove(&reading.division);
            continue;
        };
        let kind = match anomaly {
            BalanceAnomaly::ReportedTotalDiffers { .. } => "differs",
            BalanceAnomaly::ReportedTotalUsed { .. } => "used",
        };
        if state.logged_anomalies.insert(reading.division, kind) != Some(kind) {
            tracing::warn!(%account, division = reading.division, "{anomaly}");
        }
    }
    if !state.shared_fund_logged
        && let Some(divisions) = shared_fund(&readings.divisions)
    {
        state.shared_fund_logged = true;
        tracing::info!(%account, divisions = divisions.len(), first = divisions[0], "{SHARED_FUND_NOTE}");
    }
}
