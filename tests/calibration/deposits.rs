//! Whether the deposit that a message asks for lasts 30 days, and whether it is not too much: measured on the accounts of
//! the shipped scenarios.
//!
//! Each account lives until its alert is raised. It is read over HTTP as `lowtide check` and `preview` read one, the
//! deposit of the message is paid in, and 30 days go by. Some seeds are tried each time. `LOWTIDE_LONG=1` (with
//! `--release`) tries two hundred, holds every fund to the promise, and the table in `docs/forecast.md` to what came out;
//! `LOWTIDE_WRITE=1` writes it there.

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

/// The Monday on which the demo begins.
const START: &str = "2026-11-02T08:00:00Z";
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The time from one cycle of the demo to the next.
const CYCLE: Duration = Duration::from_secs(2 * 3600);
/// The demo warns below this amount of available funds.
const DEMO_THRESHOLD: Decimal = Decimal::from_parts(2000, 0, 0, false, 0);
/// A fund that never runs low in its scenario is made to within the week that begins on this day.
const CHOSEN_DAY: u32 = 14;
const CYCLES_A_WEEK: u64 = 7 * 12;
/// So many days a deposit has to last.
const DAYS: u32 = 30;
const FULL: u64 = 200;
const QUICK: u64 = 3;
/// The promise: so many of a hundred deposits last, and the median one is at most so many times what was needed.
const LEAST_LASTING: f64 = 95.0;
const MOST_TIMES: f64 = 1.4;
/// Scenarios without any fund that a deposit can be asked for: the credit has no limit.
const LEFT_OUT: [&str; 1] = ["unlimited"];
/// The name of the table on the page.
const TABLE: &str = "deposits";

/// A division with limited funds of a shipped scenario.
struct ScenarioFund {
    /// The scenario, and the division where there are several.
    name: String,
    scenario: Scenario,
    division: u64,
}

/// When a fund's alert is raised, and in which life.
struct RaisedAlert {
    /// The scenario without the deposits that come after the alert.
    scenario: Scenario,
    at: Time,
    /// The rule warns below this amount.
    threshold: Decimal,
}

/// What came of one deposit.
struct DepositOutcome {
    /// Nothing was refused for want of funds, and they never were below zero.
    lasts: bool,
    /// Funds never came below the threshold again.
    stays_over: bool,
    /// The deposit, as a multiple of what was bought plus what was missing to the threshold.
    of_needed: f64,
    /// The high end of the forecast, as a multiple of what was bought.
    high_of_bought: f64,
    /// The same of the forecast's middle.
    middle_of_bought: f64,
}

/// What the message and the forecast say when the alert is raised.
struct MessageFigures {
    /// The amount that the message asks for.
    deposit: Decimal,
    /// The middle of what the forecast expects to be bought in the next 30 days.
    middle: Decimal,
    /// The high end of the same.
    high: Decimal,
}

/// What came of the deposits of one fund.
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
        // Limits are of real time, and this time is none.
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

    /// What was bought after `from`.
    fn bought(&self, world: &SimulatedWorld, from: Time) -> Decimal {
        let of_fund = |entry: &SimulatedEntry| self.scenario.shared_funds || entry.division == self.division;
        let its = |entry: &&SimulatedEntry| of_fund(entry) && entry.kind == "Charge";
        world.entries().iter().filter(its).filter(|entry| entry.at > from).map(|entry| -entry.change).sum()
    }

    /// The first cycle of the demo at which its rule on available funds is raised. Where that never happens while the
    /// scenario lasts, an invoice comes in the third week, at another cycle for each seed; it leaves a little less than two
    /// weeks' purchases, and the rule warns below these.
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
        // The same life as the one that is read, since it depends on nothing but the seed.
        let mut world = SimulatedWorld::new(&alert.scenario, start(), seed);
        world.advance(alert.at);
        let available = self.available(&world);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let said = runtime.block_on(read(&alert, self.division, available, seed));
        world.pay_in(self.division, said.deposit);
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
            of_needed: ratio(said.deposit, bought + missing),
            high_of_bought: ratio(said.high, bought),
            middle_of_bought: ratio(said.middle, bought),
        }
    }
}

/// The scenario without the deposits that come after that time: only the one that is tried is paid in then.
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

/// The demo's rule on available funds, for this threshold.
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

/// Reads the account over HTTP when its alert is raised. It has this much available then.
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
    let ahead = forecast.summary(rule).unwrap();
    let deposit = ahead.deposit.unwrap_or_else(|| panic!("no deposit is asked for: {ahead:?}")).amount;
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
fn the_deposit_of_a_message_lasts_30_days_and_is_not_too_much() {
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
        assert!(lasting as f64 >= all.len() as f64 * LEAST_LASTING / 100.0, "{lasting} of {}", all.len());
        let times = median(all, |outcome| outcome.of_needed);
        assert!(times <= MOST_TIMES, "{times:.2}");
        return;
    }
    if std::env::var_os("LOWTIDE_WRITE").is_some() {
        publish(TABLE, &table);
    }
    for row in &rows {
        let (lasts, times) = (row.percent(|outcome| outcome.lasts), median(&row.outcomes, |outcome| outcome.of_needed));
        assert!(lasts >= LEAST_LASTING && times <= MOST_TIMES, "{}: {lasts:.1} %, {times:.2} times", row.fund);
    }
    let text = published(TABLE);
    assert_eq!(text, table, "docs/forecast.md has other figures: LOWTIDE_LONG=1 LOWTIDE_WRITE=1");
}

/// An empty table stands for figures that are still to be measured.
#[test]
fn the_published_table_of_deposits_keeps_the_promise() {
    let text = published(TABLE);
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("**")).collect();
    let funds = funds();
    assert!(lines.is_empty() || lines.len() == funds.len(), "{lines:#?}");
    for (fund, line) in funds.iter().zip(lines) {
        assert!(line.starts_with(&format!("| {} |", fund.name)), "{line}");
        let cells: Vec<f64> = line.split("**").skip(1).step_by(2).map(|cell| cell.parse().unwrap()).collect();
        assert!(matches!(cells[..], [lasts, times] if lasts >= LEAST_LASTING && times <= MOST_TIMES), "{line}");
    }
}

#[test]
fn every_shipped_scenario_but_the_unlimited_one_is_measured() {
    let funds = funds();
    for (name, _) in SHIPPED {
        let measured = funds.iter().any(|fund| fund.scenario.name == name);
        assert_eq!(measured, !LEFT_OUT.contains(&name), "{name}");
    }
}
