//! When reports come, and from what they are made: the figures that the cycles read anyway. A report never reads itself.
//!
//! What is on a page is decided in [`crate::domain::report`], how it looks in the rendering; the outbox delivers it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::event::EventSubject;
use crate::domain::report::{self, LastReport, LatestFigures, ReportRequest, ReportTiming};
use crate::domain::silence::Silence;
use crate::domain::{Name, Time};
use crate::polling::schedule::Schedule;
use crate::state::StateStore;
use crate::status::registry::Registry;
use crate::util::clock::Clock;

/// The longest sleep: a machine that was suspended is that late at most.
const MAX_SLEEP: Duration = Duration::from_secs(30);
/// How long a report waits for cycles that began at its own time.
const FRESH_FIGURES_TIMEOUT: Duration = Duration::from_secs(20);
/// How long it waits for accounts that were not read since the start.
const FIRST_FIGURES_TIMEOUT: Duration = Duration::from_secs(120);

/// One report of the configuration.
#[derive(Debug, Clone)]
pub struct ReportPlan {
    /// Its name.
    pub name: Name,
    /// When it comes.
    pub schedule: Schedule,
    /// Who is told.
    pub notify: BTreeSet<Name>,
    /// The silences of the configuration, all of them.
    pub silences: Arc<[Silence]>,
}

/// The last figures of every account, in memory only.
#[derive(Debug, Default)]
pub struct FiguresByAccount(BTreeMap<Name, AccountFigures>);

#[derive(Debug)]
struct AccountFigures {
    /// When its last cycle ended.
    at: Time,
    latest: Vec<LatestFigures>,
}

impl FiguresByAccount {
    /// Notes what a cycle read. Where it could not read, the figures before stand, with the reason why they are old.
    pub fn note(&mut self, account: &Name, mut latest: Vec<LatestFigures>, listing_failure: Option<&str>, at: Time) {
        let before = self.0.remove(account).map(|before| before.latest).unwrap_or_default();
        for it in latest.iter_mut().filter(|it| it.figures.at.is_none()) {
            let same = before.iter().find(|before| before.figures.division == it.figures.division);
            if let Some(before) = same.filter(|before| before.figures.at.is_some()) {
                it.figures = before.figures.clone();
            }
        }
        if let Some(why) = listing_failure.filter(|_| latest.is_empty()) {
            latest = before;
            for it in &mut latest {
                it.failure = Some(why.to_owned());
            }
            if latest.is_empty() {
                let figures = report::FundFigures::never_read(account.clone(), None, None);
                latest.push(LatestFigures { figures, failure: Some(why.to_owned()) });
            }
        }
        self.0.insert(account.clone(), AccountFigures { at, latest });
    }

    /// Whether every one of these accounts was read at or after `since`.
    pub(crate) fn covers(&self, accounts: &[Name], since: Time) -> bool {
        accounts.iter().all(|account| self.0.get(account).is_some_and(|it| it.at >= since))
    }

    /// What is known of these accounts, in this order; an account that was never read says so.
    pub fn latest(&self, accounts: &[Name]) -> Vec<LatestFigures> {
        let of = |account: &Name| match self.0.get(account) {
            Some(it) => it.latest.clone(),
            None => vec![LatestFigures {
                figures: report::FundFigures::never_read(account.clone(), None, None),
                failure: Some("not read yet since the service started".to_owned()),
            }],
        };
        accounts.iter().flat_map(of).collect()
    }
}

/// Owes one report whenever it is due, until `shutdown` is cancelled.
pub async fn run(
    plan: ReportPlan,
    accounts: Arc<[Name]>,
    registry: Arc<Registry>,
    store: Arc<StateStore>,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) {
    let begun = clock.now();
    loop {
        let now = clock.now();
        let next = |start, after| plan.schedule.next_of_run(start, after);
        let when = store.read(|state| report::report_timing(state.reports.get(&plan.name), now, next));
        let work = async {
            match when {
                ReportTiming::FirstSeen => register(&plan, &store, now).await,
                ReportTiming::At(next) => {
                    clock.sleep((next - now).to_std().unwrap_or_default().min(MAX_SLEEP)).await;
                }
                ReportTiming::Now(due) => {
                    wait_for_figures(&registry, &accounts, due, begun, clock.as_ref()).await;
                    enqueue(&plan, due, &registry.latest_figures(&accounts), &store, clock.now()).await;
                }
                ReportTiming::Never => {
                    tracing::error!(report = %plan.name, schedule = plan.schedule.text(), "schedule never comes again: no further report");
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// A report that was never seen comes from now on: what was due before it existed is no one's loss.
async fn register(plan: &ReportPlan, store: &StateStore, now: Time) {
    store
        .change(|state| {
            state.reports.insert(plan.name.clone(), LastReport { due: now, figures: Vec::new() });
            ((), true)
        })
        .await;
}

/// Waits for figures from cycles at the time of the report, and for at most [`FRESH_FIGURES_TIMEOUT`] once every account has been
/// read since the start.
async fn wait_for_figures(registry: &Registry, accounts: &[Name], due: Time, begun: Time, clock: &dyn Clock) {
    let all_read_once = async {
        clock.sleep(FRESH_FIGURES_TIMEOUT).await;
        registry.wait_until_read(accounts, begun.min(due)).await;
    };
    tokio::select! {
        () = registry.wait_until_read(accounts, due) => {}
        () = all_read_once => {}
        () = clock.sleep(FIRST_FIGURES_TIMEOUT) => {}
    }
}

/// The page and what is remembered of it are one change: whatever happens afterwards, no time is told twice or not at all.
async fn enqueue(plan: &ReportPlan, due: Time, latest: &[LatestFigures], store: &StateStore, now: Time) {
    let rows = store
        .change(|state| {
            let next = plan.schedule.next_of_run(due, now);
            let context = ReportRequest { name: &plan.name, due, next, now, silences: &plan.silences };
            let (page, reported) = report::build_page(&context, latest, state);
            let rows = page.rows.len();
            state.enqueue_one(EventSubject::Report(Box::new(page)), now, &plan.notify, &BTreeMap::new());
            state.reports.insert(plan.name.clone(), reported);
            (rows, true)
        })
        .await;
    tracing::info!(report = %plan.name, %due, rows, "report is due");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::report::FundFigures;

    #[test]
    fn old_figures_stand_while_nothing_better_is_read() {
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
