//! The last figures of every account, for reports.

use std::collections::BTreeMap;

use crate::domain::report::{FundFigures, LatestFigures};
use crate::domain::{Name, Time};

/// Last figures of every account, in memory only.
#[derive(Debug, Default)]
pub struct FiguresByAccount(BTreeMap<Name, AccountFigures>);

#[derive(Debug)]
struct AccountFigures {
    /// End of the account's last cycle.
    at: Time,
    latest: Vec<LatestFigures>,
}

impl FiguresByAccount {
    /// Records the figures of a cycle. Divisions that could not be read keep their earlier figures, with the reason why they
    /// are old.
    pub fn note(&mut self, account: &Name, mut latest: Vec<LatestFigures>, listing_failure: Option<&str>, at: Time) {
        let before = self.0.remove(account).map(|before| before.latest).unwrap_or_default();
        for unread in latest.iter_mut().filter(|latest| latest.figures.at.is_none()) {
            let same = before.iter().find(|before| before.figures.division == unread.figures.division);
            if let Some(before) = same.filter(|before| before.figures.at.is_some()) {
                unread.figures = before.figures.clone();
            }
        }
        if let Some(why) = listing_failure.filter(|_| latest.is_empty()) {
            latest = before;
            for old in &mut latest {
                old.failure = Some(why.to_owned());
            }
            if latest.is_empty() {
                let figures = FundFigures::never_read(account.clone(), None, None);
                latest.push(LatestFigures { figures, failure: Some(why.to_owned()) });
            }
        }
        self.0.insert(account.clone(), AccountFigures { at, latest });
    }

    /// Returns true if a cycle of each of these accounts ended at or after `since`.
    pub(crate) fn covers(&self, accounts: &[Name], since: Time) -> bool {
        accounts.iter().all(|account| self.0.get(account).is_some_and(|it| it.at >= since))
    }

    /// Returns the figures of these accounts in order. An account that was never read has an entry that says so.
    pub fn latest(&self, accounts: &[Name]) -> Vec<LatestFigures> {
        let figures = |account: &Name| match self.0.get(account) {
            Some(it) => it.latest.clone(),
            None => vec![LatestFigures {
                figures: FundFigures::never_read(account.clone(), None, None),
                failure: Some("not read yet since the service started".to_owned()),
            }],
        };
        accounts.iter().flat_map(figures).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_figures_are_kept_until_a_division_is_read_again() {
        let at = |n: i64| Time::from_timestamp(1_795_500_000 + n, 0).unwrap();
        let (mut figures, a): (_, Name) = (FiguresByAccount::default(), "a".into());
        let accounts = [a.clone()];
        assert!(!figures.covers(&accounts, at(0)));
        assert!(figures.latest(&accounts)[0].failure.is_some());
        let good = FundFigures { at: Some(at(1)), ..FundFigures::never_read(a.clone(), Some(7), None) };
        figures.note(&a, vec![LatestFigures { figures: good.clone(), failure: None }], None, at(1));
        assert!(figures.covers(&accounts, at(1)) && !figures.covers(&accounts, at(2)));
        let unreadable = LatestFigures {
            figures: FundFigures::never_read(a.clone(), Some(7), None),
            failure: Some("503".to_owned()),
        };
        figures.note(&a, vec![unreadable], None, at(2));
        assert_eq!(
            figures.latest(&accounts),
            [LatestFigures { figures: good.clone(), failure: Some("503".to_owned()) }]
        );
        figures.note(&a, Vec::new(), Some("403"), at(3));
        assert_eq!(figures.latest(&accounts), [LatestFigures { figures: good, failure: Some("403".to_owned()) }]);
    }
}
