//! The policy of an account, for tests and benchmarks that evaluate readings of their own.

use std::sync::Arc;
use std::time::Duration;

use lowtide::alerting::policy::{AccountPolicy, DivisionScope};
use lowtide::domain::Time;
use lowtide::domain::rule::{Rule, Severity, UnreadablePolicy};

/// Returns a fixed time plus these seconds.
pub fn at(seconds: i64) -> Time {
    Time::from_timestamp(1_795_500_000 + seconds, 0).unwrap()
}

/// Returns the policy of the account `acme` with these rules. After three hours, `slack` is notified of an unreadable balance.
pub fn policy(scope: DivisionScope, rules: Vec<Rule>, remind_every: Option<Duration>) -> AccountPolicy {
    AccountPolicy {
        account: "acme".into(),
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
    }
}
