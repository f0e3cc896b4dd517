//! Rules and scope of an account, as data: all that evaluating its readings needs.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::alert::AlertKey;
use crate::domain::rule::{Rule, UNREADABLE, UnreadablePolicy};
use crate::domain::silence::Silence;
use crate::domain::{Division, Name};

/// Selects the divisions that a cycle reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DivisionScope {
    /// The account itself, without a container id.
    Undivided,
    /// Every active division that the account lists, except these.
    All(BTreeSet<u64>),
    /// Exactly these divisions, listed or not.
    Listed(Vec<u64>),
}

/// The rules of one account and everything else that decides which events its readings cause. A poller adds the I/O.
#[derive(Debug, Clone)]
pub struct AccountPolicy {
    /// Name of the account.
    pub account: Name,
    /// Divisions that are read.
    pub scope: DivisionScope,
    /// All rules of the configuration, including those that do not watch this account.
    pub rules: Arc<[Rule]>,
    /// Settings of the alert about unreadable balances.
    pub unreadable: Arc<UnreadablePolicy>,
    /// All silences of the configuration. Those made by command are in the state.
    pub silences: Arc<[Silence]>,
    /// Notifiers that keep an incident open for each alert until they are notified of its end.
    pub incident_notifiers: Arc<BTreeSet<Name>>,
}

impl AccountPolicy {
    /// Returns the rules that watch a division, in the order of the configuration.
    pub fn rules_watching(&self, division: Division) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(move |rule| rule.watches(&self.account, division))
    }

    /// Returns true if the configuration still has the rule and the division of this alert.
    pub(super) fn covers(&self, key: &AlertKey) -> bool {
        let is_unreadable_alert = *key.rule == *UNREADABLE;
        let in_scope = match (&self.scope, key.division) {
            (DivisionScope::Undivided, division) => division.is_none(),
            (DivisionScope::Listed(ids), Some(id)) => ids.contains(&id),
            (DivisionScope::All(excluded), Some(id)) => !excluded.contains(&id),
            (DivisionScope::Listed(_), None) => false,
            (DivisionScope::All(_), None) => is_unreadable_alert,
        };
        let rule = self.rules.iter().find(|rule| rule.name == key.rule);
        in_scope && (is_unreadable_alert || rule.is_some_and(|rule| rule.watches(&key.account, key.division)))
    }
}
