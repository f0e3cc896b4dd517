//! Deposits that messages ask for, measured on the accounts of the shipped scenarios: do they last 30 days, and are
//! they not too large?
//!
//! Each account runs until its alert is raised. It is read over HTTP as `lowtide check` and `preview` do, the deposit
//! of the message is paid in, and 30 days pass. An ordinary run tries a few seeds. `LOWTIDE_LONG=1` (with
//! `--release`) tries two hundred, checks every fund against the target, and compares the table in `docs/forecast.md`
//! with the result; `LOWTIDE_WRITE=1` writes the table.

use std::sync::Arc;
use std::time::Duration;

use crate::{publish, published};
use lowtide::config::{self, Config, Environment, scenario};
use lowtide::domain::Time;
use lowtide::domain::balance::Reading;
use lowtide::domain::rule::Metric;
use lowtide::polling::forecasts::ForecastPurpose;
use lowtide::sandbox::clock::SteppedClock;
use lowtide::sandbox::scenario::{CreditLimit, DepositPlan, DepositTime, DivisionPlan, InvoicePlan, SHIPPED, Scenario};
use lowtide::sandbox::server::{API_KEY, PATH, SandboxServer};
use lowtide::sandbox::world::{SimulatedEntry, SimulatedWorld};
use lowtide::util::clock::Clock;
use lowtide::util::secret::Redactor;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;
use tokio::net::TcpListener;

/// Start of the demo, a Monday.
const START: &str = "2026-11-02T08:00:00Z";
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Time between two cycles of the demo.
const CYCLE: Duration = Duration::from_secs(2 * 3600);
/// Threshold of the demo's warning on available funds.
const DEMO_THRESHOLD: Decimal = Decimal::from_parts(2000, 0, 0, false, 0);
/// First day of the week within which a fund that never runs low in its scenario is made to.
const CHOSEN_DAY: u32 = 14;
const CYCLES_A_WEEK: u64 = 7 * 12;
/// Days that a deposit must last.
const DAYS: u32 = 30;
const FULL: u64 = 200;
const QUICK: u64 = 3;
/// Targets: percentage of deposits that last, and median of the deposit divided by what was needed.
const MIN_LASTING_PERCENT: f64 = 95.0;
const MAX_DEPOSIT_RATIO: f64 = 1.4;
/// Scenarios without a fund that can need a deposit, since its credit is unlimited.
const UNLIMITED_SCENARIOS: [&str; 1] = ["unlimited"];
/// Name of the table in the document.
const TABLE: &str = "deposits";

/// A division with limited funds in a shipped scenario.
struct ScenarioFund {
    /// Name of the scenario, and of the division if there are several.
    name: String,
    scenario: Scenario,
    division: u64,
}

/// Time and world at which a fund's alert is raised.
struct RaisedAlert {
    /// Scenario without the deposits after the alert.
    scenario: Scenario,
    at: Time,
    /// Threshold of the rule's warning.
    threshold: Decimal,
}

/// Outcome of one deposit.
struct DepositOutcome {
    /// True if no order was refused for lack of funds, and funds never fell below zero.
    lasts: bool,
    /// True if funds never fell below the threshold again.
    stays_over: bool,
    /// Deposit, divided by the purchases plus the amount missing to the threshold.
    of_needed: f64,
    /// High end of the forecast, divided by the purchases.
    high_of_bought: f64,
    /// Median of the forecast, divided by the purchases.
    middle_of_bought: f64,
}

/// Figures of the message and the forecast when the alert is raised.
struct MessageFigures {
    /// Deposit that the message asks for.
    deposit: Decimal,
    /// Median of the expected purchases in the next 30 days.
    middle: Decimal,
    /// High end of the expected purchases in the next 30 days.
    high: Decimal,
}

/// Outcomes of the deposits for one fund.
struct DepositRow {
    fund: String,
    outcomes: Vec<DepositOutcome>,
}

fn start() -> Time {
    START.parse().unwrap()
}

fn funds() -> Vec<ScenarioFund> {
    let of = |(name, text): &(&str, &str)| {
        let mut scenario = scenario::parse(name, text).unwrap();
        // Rate limits apply to real time, but this clock is simulated.
        scenario.rate_limit.clear();
        let limited = scenario.divisions.iter().filter(|plan| plan.credit != CreditLimit::Unlimited);
        let fund = |plan: &DivisionPlan| ScenarioFund {
            name: if scenario.divisions.len() > 1 { format!("{name}: {}", plan.name) } else { (*name).to_owned() },
            scenario: scenario.clone(),
            division: plan.id,
        };
        limited.map(fund).collect::<Vec<_>>()
    };
    SHIPPED.iter().flat_map(of).collect()
}

impl ScenarioFund {
    fn available(&self, world: &SimulatedWorld) -> Decimal {
        world.sheet(self.division).unwrap().available().unwrap()
    }

    /// Returns the purchases after `from`.
    fn bought(&self, world: &SimulatedWorld, from: Time) -> Decimal {
        let of_fund = |entry: &SimulatedEntry| self.scenario.shared_funds || entry.division == self.division;
        let its = |entry: &&SimulatedEntry| of_fund(entry) && entry.kind == "Charge";
        world.entries().iter().filter(its).filter(|entry| entry.at > from).map(|entry| -entry.change).sum()
    }

    /// Finds the first cycle of the demo at which its rule on available funds is raised. If there is none during the
    /// scenario, an invoice arrives in the third week, in another cycle for each seed. It leaves slightly less than
    /// two weeks' purchases, and the rule warns below that amount.
    fn alert(&self, seed: u64) -> RaisedAlert {
        let mut world = SimulatedWorld::new(&self.scenario, start(), seed);
        let cycles = u32::try_from(self.scenario.length.as_secs() / CYCLE.as_secs()).unwrap();
        for at in (0..=cycles).map(|cycle| CYCLE * cycle) {
            world.advance(start() + at);
            if self.available(&world) < DEMO_THRESHOLD
                && !self.scenario.faults.iter().any(|fault| fault.is_active_at(at))
            {
                let scenario = without_deposits_after(self.scenario.clone(), at);
                return RaisedAlert { scenario, at: start() + at, threshold: DEMO_THRESHOLD };
            }
        }
        let mut world = SimulatedWorld::new(&self.scenario, start(), seed);
        let chosen = DAY * CHOSEN_DAY + CYCLE * u32::try_from(seed % CYCLES_A_WEEK).unwrap();
        world.advance(start() + chosen);
        let threshold = (self.bought(&world, start() + chosen - DAY * 28) / Decimal::TWO).ceil();
        let amount = self.available(&world) - (threshold - Decimal::ONE);
        assert!(amount > Decimal::ZERO, "{}: {amount}", self.name);
        let mut scenario = without_deposits_after(self.scenario.clone(), chosen);
        let plan = scenario.divisions.iter_mut().find(|plan| plan.id == self.division).unwrap();
        plan.invoices.push(InvoicePlan { on: chosen, amount, due_after: DAY * 365, paid_after: None });
        RaisedAlert { scenario, at: start() + chosen, threshold }
    }

    fn try_deposit(&self, seed: u64) -> DepositOutcome {
        let alert = self.alert(seed);
        // A second world with the same seed runs exactly like the one that is read.
        let mut world = SimulatedWorld::new(&alert.scenario, start(), seed);
        world.advance(alert.at);
        let available = self.available(&world);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let figures = runtime.block_on(read(&alert, self.division, available, seed));
        world.pay_in(self.division, figures.deposit);
        let refused = world.refused(self.division);
        let mut least = self.available(&world);
        for cycle in 1..=DAYS * 12 {
            world.advance(alert.at + CYCLE * cycle);
            least = least.min(self.available(&world));
        }
        let (bought, missing) = (self.bought(&world, alert.at), alert.threshold - available);
        let ratio = |part: Decimal, whole: Decimal| (part / whole).to_f64().unwrap();
        DepositOutcome {
            lasts: least >= Decimal::ZERO && world.refused(self.division) == refused,
            stays_over: least >= alert.threshold,
            of_needed: ratio(figures.deposit, bought + missing),
            high_of_bought: ratio(figures.high, bought),
            middle_of_bought: ratio(figures.middle, bought),
        }
    }
}

/// Removes the deposits after this time, so that only the tested one is paid in.
fn without_deposits_after(mut scenario: Scenario, until: Duration) -> Scenario {
    let until_then = |deposit: &DepositPlan| {
        let (first, every) = match (deposit.on, deposit.every) {
            (DepositTime::Ago(_), None) => return vec![deposit.clone()],
            (DepositTime::Ago(_), Some(_)) => panic!("no shipped scenario repeats a deposit from before its start"),
            (DepositTime::After(first), every) => (first, every),
        };
        let times = std::iter::successors(Some(first), |at| Some(*at + every?)).take_while(|at| *at <= until);
        times.map(|at| DepositPlan { on: DepositTime::After(at), every: None, ..deposit.clone() }).collect()
    };
    for plan in &mut scenario.divisions {
        plan.deposits = plan.deposits.iter().flat_map(until_then).collect();
    }
    scenario
}

/// Returns the demo's rule on available funds, with this threshold.
fn configuration(base_url: &str, division: u64, threshold: Decimal) -> Config {
    let critical = threshold / Decimal::from(4);
    let text = format!(
        "accounts:\n  acme: {{ api_key: {API_KEY}, base_url: '{base_url}', rate_limit: off, divisions: [{division}] }}\n\
         notifiers:\n  slack: {{ type: slack, webhook_url: 'http://127.0.0.1:9/services/NOBODY' }}\n\
         rules:\n  available-funds:\n    metric: available_funds\n    warning: {{ below: {threshold} }}\n    \
         critical: {{ below: {critical} }}\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("alerts.yaml");
    std::fs::write(&file, text).unwrap();
    config::load(&file, &Environment::new(std::iter::empty())).config.unwrap_or_else(|problems| panic!("{problems}"))
}

/// Reads the account over HTTP when its alert is raised, with these available funds.
async fn read(alert: &RaisedAlert, division: u64, available: Decimal, seed: u64) -> MessageFigures {
    let clock = SteppedClock::new(start());
    let sandbox = SandboxServer::new(alert.scenario.clone(), seed, Arc::clone(&clock) as _, Arc::new(()));
    clock.advance(alert.at);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}{PATH}", listener.local_addr().unwrap());
    let server = tokio::spawn(sandbox.serve(listener));
    let clock: Arc<dyn Clock> = clock;
    let config = configuration(&base_url, division, alert.threshold);
    let pollers = lowtide::app::build_pollers(&config, &Redactor::default(), &clock).unwrap();
    let readings = pollers[0].read_once(ForecastPurpose::Messages).await;
    server.abort();
    let read = &readings.divisions[0];
    let funds = read.balance.as_ref().unwrap().reading(Metric::AvailableFunds);
    assert!(matches!(&funds, Reading::Amount(it) if it.amount == available), "{funds:?}");
    let (forecast, rule) = (read.forecast.as_ref().unwrap(), &config.rules[0]);
    let summary = forecast.summary(rule).unwrap();
    let deposit = summary.deposit.unwrap_or_else(|| panic!("the message asks for no deposit: {summary:?}")).amount;
    let last = forecast.chart(rule).unwrap().future[usize::try_from(DAYS).unwrap()];
    MessageFigures { deposit, middle: available - last.middle, high: available - last.low }
}

impl DepositRow {
    fn measure(fund: &ScenarioFund, seeds: u64) -> Self {
        Self { fund: fund.name.clone(), outcomes: (1..=seeds).map(|seed| fund.try_deposit(seed)).collect() }
    }

    fn percent(&self, which: impl Fn(&DepositOutcome) -> bool) -> f64 {
        100.0 * self.outcomes.iter().filter(|outcome| which(outcome)).count() as f64 / self.outcomes.len() as f64
    }

    fn line(&self) -> String {
        let (lasts, stays_over) = (self.percent(|it| it.lasts), self.percent(|it| it.stays_over));
        let values: [fn(&DepositOutcome) -> f64; 3] =
            [|it| it.of_needed, |it| it.high_of_bought, |it| it.middle_of_bought];
        let [needed, high, middle] = values.map(|value| median(&self.outcomes, value));
        let fund = &self.fund;
        format!("| {fund} | **{lasts:.1}** | {stays_over:.1} | **{needed:.2}** | {high:.2} | {middle:.2} |\n")
    }
}

fn median<'o>(outcomes: impl IntoIterator<Item = &'o DepositOutcome>, value: impl Fn(&DepositOutcome) -> f64) -> f64 {
    let mut values: Vec<f64> = outcomes.into_iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn table(rows: &[DepositRow]) -> String {
    let head = "| fund | lasts, % | alert stays over, % | deposit / needed | high end / bought | middle / bought |\n\
                |---|---|---|---|---|---|\n";
    head.to_owned() + &rows.iter().map(DepositRow::line).collect::<String>()
}

#[test]
fn the_deposit_of_a_message_lasts_30_days_and_is_not_too_large() {
    let long = std::env::var_os("LOWTIDE_LONG").is_some();
    let (seeds, funds) = (if long { FULL } else { QUICK }, funds());
    let rows: Vec<DepositRow> = std::thread::scope(|scope| {
        let measured: Vec<_> = funds.iter().map(|fund| scope.spawn(move || DepositRow::measure(fund, seeds))).collect();
        measured.into_iter().map(|row| row.join().unwrap()).collect()
    });
    let table = table(&rows);
    println!("{table}");
    if !long {
        let all: Vec<&DepositOutcome> = rows.iter().flat_map(|row| &row.outcomes).collect();
        let lasting = all.iter().filter(|outcome| outcome.lasts).count();
        assert!(lasting as f64 >= all.len() as f64 * MIN_LASTING_PERCENT / 100.0, "{lasting} of {}", all.len());
        let times = median(all, |outcome| outcome.of_needed);
        assert!(times <= MAX_DEPOSIT_RATIO, "{times:.2}");
        return;
    }
    if std::env::var_os("LOWTIDE_WRITE").is_some() {
        publish(TABLE, &table);
    }
    for row in &rows {
        let (lasts, times) = (row.percent(|outcome| outcome.lasts), median(&row.outcomes, |outcome| outcome.of_needed));
        assert!(
            lasts >= MIN_LASTING_PERCENT && times <= MAX_DEPOSIT_RATIO,
            "{}: {lasts:.1} %, {times:.2} times",
            row.fund
        );
    }
    let text = published(TABLE);
    assert_eq!(text, table, "docs/forecast.md has other figures: LOWTIDE_LONG=1 LOWTIDE_WRITE=1");
}

/// The table may be empty if its figures are still to be measured.
#[test]
fn the_published_table_of_deposits_meets_its_targets() {
    let text = published(TABLE);
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("**")).collect();
    let funds = funds();
    assert!(lines.is_empty() || lines.len() == funds.len(), "{lines:#?}");
    for (fund, line) in funds.iter().zip(lines) {
        assert!(line.starts_with(&format!("| {} |", fund.name)), "{line}");
        let cells: Vec<f64> = line.split("**").skip(1).step_by(2).map(|cell| cell.parse().unwrap()).collect();
        assert!(
            matches!(cells[..], [lasts, times] if lasts >= MIN_LASTING_PERCENT && times <= MAX_DEPOSIT_RATIO),
            "{line}"
        );
    }
}

#[test]
fn every_shipped_scenario_but_the_unlimited_one_is_measured() {
    let funds = funds();
    for (name, _) in SHIPPED {
        let measured = funds.iter().any(|fund| fund.scenario.name == name);
        assert_eq!(measured, !UNLIMITED_SCENARIOS.contains(&name), "{name}");
    }
}
