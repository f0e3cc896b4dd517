//! Enqueues reports when they are due, from the figures that cycles have read. Reports cause no reads of their own.
//!
//! The content of a page comes from [`crate::domain::report`]. The delivery workers render and send it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::alerting::queue::NewEvent;
use crate::alerting::report::{ReportRequest, build_page};
use crate::domain::event::EventSubject;
use crate::domain::report::{FundFigures, LastReport, LatestFigures, ReportTiming, report_timing};
use crate::domain::silence::Silence;
use crate::domain::{Name, Time};
use crate::polling::schedule::Schedule;
use crate::state::StateStore;
use crate::status::registry::Registry;
use crate::util::clock::Clock;

/// The longest sleep. After a suspend, a report is late by at most this.
const MAX_SLEEP: Duration = Duration::from_secs(30);
/// The longest wait for cycles that run at the time of the report.
const FRESH_FIGURES_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest wait for accounts that have not been read since the service started.
const FIRST_FIGURES_TIMEOUT: Duration = Duration::from_secs(120);

/// Schedule and recipients of one configured report.
#[derive(Debug, Clone)]
pub struct ReportPlan {
    /// Name of the report.
    pub name: Name,
    /// Times at which it is due.
    pub schedule: Schedule,
    /// Notifiers that get it.
    pub notify: BTreeSet<Name>,
    /// All silences of the configuration.
    pub silences: Arc<[Silence]>,
}

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

/// Enqueues one report whenever it is due, until `shutdown` is cancelled.
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
        let when = store.read(|state| report_timing(state.reports.get(&plan.name), now, next));
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

/// Registers a new report. It is due from now on; earlier times are not made up for.
async fn register(plan: &ReportPlan, store: &StateStore, now: Time) {
    store
        .change(|state| {
            state.reports.insert(plan.name.clone(), LastReport { due: now, figures: Vec::new() });
            ((), true)
        })
        .await;
}

/// Waits until the figures are recent enough for a report that is due at `due`.
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

/// Enqueues the page and stores the reported time in one change, so that a crash neither repeats nor loses a report.
async fn enqueue(plan: &ReportPlan, due: Time, latest: &[LatestFigures], store: &StateStore, now: Time) {
    let rows = store
        .change(|state| {
            let next = plan.schedule.next_of_run(due, now);
            let context = ReportRequest { name: &plan.name, due, next, now, silences: &plan.silences };
            let (page, reported) = build_page(&context, latest, state);
            let rows = page.rows.len();
            state.queue.enqueue(NewEvent::notice(EventSubject::Report(Box::new(page)), now, plan.notify.clone()));
            state.reports.insert(plan.name.clone(), reported);
            (rows, true)
        })
        .await;
    tracing::info!(report = %plan.name, %due, rows, "report is due");
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
