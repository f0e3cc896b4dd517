//! An account for whoever settles harvests of their own: nothing is ever read from it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lowtide::certcentral::{BalanceSource, ListedDivision, ReadError};
use lowtide::domain::balance::Balance;
use lowtide::domain::rule::{Rule, Severity, UnreadablePolicy};
use lowtide::domain::{Division, Time};
use lowtide::polling::poller::{AccountPolicy, DivisionScope};

struct UnreadSource;

#[async_trait]
impl BalanceSource for UnreadSource {
    async fn balance(&self, _: Division) -> Result<Balance, ReadError> {
        unreachable!("settling reads nothing")
    }
    async fn divisions(&self) -> Result<Vec<ListedDivision>, ReadError> {
        unreachable!("settling reads nothing")
    }
}

pub fn at(seconds: i64) -> Time {
    Time::from_timestamp(1_795_500_000 + seconds, 0).unwrap()
}

/// The account `acme` with these rules; what is unreadable for three hours is told to `slack`.
pub fn policy(scope: DivisionScope, rules: Vec<Rule>, remind_every: Option<Duration>) -> AccountPolicy {
    AccountPolicy {
        account: "acme".into(),
        source: Arc::new(UnreadSource),
        scope,
        rules: rules.into(),
        unreadable: Arc::new(UnreadablePolicy {
            after: Duration::from_secs(3 * 3600),
            level: Severity::Warning,
            remind_every,
            notify: vec!["slack".into()],
        }),
        silences: [].into(),
        incident_notifiers: Arc::default(),
        history: None,
    }
}
