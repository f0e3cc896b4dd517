//! Enqueues reports when they are due, from the figures that cycles have read. Reports cause no reads of their own.
//!
//! The content of a page comes from [`crate::domain::report`]. The delivery workers render and send it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::alerting::queue::NewEvent;
use crate::alerting::report::{ReportRequest, build_page};
use crate::domain::event::EventSubject;
use crate::domain::report::{LastReport, LatestFigures, ReportTiming, report_timing};
use crate::domain::schedule::Schedule;
use crate::domain::silence::Silence;
use crate::domain::{Name, Time};
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
