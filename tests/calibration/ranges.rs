//! What the forecast promises, measured on accounts whose future is known: how often the truth lies in its ranges, how far
//! its middle is off, against the mean of the last 30 days, and whether a deposit for 30 days lasts so long.
//!
//! The program's own way: each account is shown over HTTP and read by the client and the keeper of books. Some accounts of
//! every kind are tried each time. `LOWTIDE_LONG=1` (with `--release`) tries five hundred of each, holds every cell to the
//! promise, and the tables in `docs/forecast.md` to what came out; `LOWTIDE_WRITE=1` writes them there. For tuning,
//! `LOWTIDE_KINDS="steady, renewals steady"` measures only these kinds, `LOWTIDE_LEDGERS=200` so many accounts of each, and
//! `LOWTIDE_FROM=10000` those from that number on; what comes out is printed, and nothing is held to it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::ledgers::{
    self, AccountKind, CHANGING, GeneratedAccount, HELD_OUT, ONCE_HELD_OUT, RENEWING, RENEWING_HELD_OUT,
    RENEWING_ONCE_HELD_OUT, TUNED,
};
use crate::over_http::AccountReader;
use crate::{publish, published};
use lowtide::domain::Time;
use lowtide::domain::forecast::Runway;
use lowtide::domain::history::AccountHistory;
use lowtide::forecast::{Confidence, Simulation, Spending};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;

const HORIZONS: [u32; 4] = [7, 14, 30, 60];
const PERCENTS: [u8; 3] = [50, 80, 90];
/// Funds of so many days' worth.
const FUNDS: [i64; 3] = [15, 30, 60];
/// Place of the 30 days for which a message asks for a deposit, in `HORIZONS` and in `FUNDS`.
const THIRTY: (usize, usize) = (2, 1);
const FULL: u64 = 500;
const QUICK: u64 = 3;
/// The cells of the first table that are held to a promise.
const COLUMNS: [&str; 10] = [
    "7 days",
    "14 days",
    "30 days",
    "60 days",
    "runway of 15",
    "runway of 30",
    "runway of 60",
    "runway of 15, early",
    "runway of 30, early",
    "runway of 60, early",
];
/// Cells that break the promise, as `docs/forecast.md` says below the table.
const KNOWN_MISSES: &[(AccountKind, &str)] = &[
    (AccountKind::Growing, "runway of 15, early"),
    (AccountKind::Growing, "runway of 30, early"),
    (AccountKind::Growing, "runway of 60, early"),
    (AccountKind::QuarterlyBatch, "60 days"),
    (AccountKind::StepUp, "60 days"),
    (AccountKind::StepUp, "runway of 60"),
    (AccountKind::OneDayAWeek, "runway of 15"),
    (AccountKind::OneDayAWeek, "runway of 30"),
    (AccountKind::OneDayAWeek, "runway of 60"),
    (AccountKind::YearlyRush, "30 days"),
    (AccountKind::YearlyRush, "60 days"),
    (AccountKind::YearlyRush, "runway of 60"),
    (AccountKind::YearlyRush, "runway of 30, early"),
    (AccountKind::YearlyRush, "runway of 60, early"),
    (AccountKind::PayrollBatches, "14 days"),
    (AccountKind::PayrollBatches, "30 days"),
    (AccountKind::PayrollBatches, "60 days"),
    (AccountKind::PayrollBatches, "runway of 15"),
    (AccountKind::PayrollBatches, "runway of 30"),
    (AccountKind::PayrollBatches, "runway of 60"),
    (AccountKind::UnequalOrders, "30 days"),
    (AccountKind::UnequalOrders, "60 days"),
    (AccountKind::UnequalOrders, "runway of 30, early"),
    (AccountKind::UnequalOrders, "runway of 60, early"),
    (AccountKind::RenewalsSteady, "runway of 60, early"),
    (AccountKind::RenewalsByAutomation, "7 days"),
    (AccountKind::RenewalsByAutomation, "14 days"),
    (AccountKind::RenewalsByAutomation, "runway of 15"),
    (AccountKind::RenewalsByAutomation, "runway of 60"),
    (AccountKind::GrowingByRenewals, "30 days"),
    (AccountKind::GrowingByRenewals, "60 days"),
    (AccountKind::GrowingByRenewals, "runway of 60"),
    (AccountKind::GrowingByRenewals, "runway of 15, early"),
    (AccountKind::GrowingByRenewals, "runway of 30, early"),
    (AccountKind::GrowingByRenewals, "runway of 60, early"),
    (AccountKind::ProductChange, "runway of 30, early"),
    (AccountKind::RenewalsAndBatches, "runway of 30, early"),
    (AccountKind::RenewalsAtMonthEnd, "60 days"),
    (AccountKind::RenewalsAtMonthEnd, "runway of 30"),
    (AccountKind::LargeOrdersRenewedEarly, "14 days"),
    (AccountKind::LargeOrdersRenewedEarly, "30 days"),
    (AccountKind::LargeOrdersRenewedEarly, "60 days"),
    (AccountKind::LargeOrdersRenewedEarly, "runway of 30"),
    (AccountKind::LargeOrdersRenewedEarly, "runway of 60"),
    (AccountKind::LargeOrdersRenewedEarly, "runway of 15, early"),
    (AccountKind::LargeOrdersRenewedEarly, "runway of 30, early"),
    (AccountKind::LargeOrdersRenewedEarly, "runway of 60, early"),
    (AccountKind::WildcardsReplaceOrders, "runway of 60, early"),
];
/// The same of whole groups.
const GROUP_MISSES: &[(&str, &str)] = &[
    ("renewals, held out at first, then tuned on", "60 days"),
    ("renewals, held out at first, then tuned on", "runway of 30, early"),
    ("renewals, held out at first, then tuned on", "runway of 60, early"),
];
/// Kinds that live by renewals and columns in which the middle is not a third closer than the mean of the last 30 days.
const NOT_A_THIRD_CLOSER: &[(AccountKind, &str)] = &[
    (AccountKind::EverySecondNew, "runway of 15"),
    (AccountKind::YoungerThanAYear, "30 days"),
    (AccountKind::GrowingByRenewals, "30 days"),
    (AccountKind::GrowingByRenewals, "runway of 15"),
    (AccountKind::GrowingByRenewals, "runway of 60"),
    (AccountKind::RenewalsAndBatches, "30 days"),
    (AccountKind::RenewalsAndBatches, "runway of 15"),
];
/// The row below each group, of the 90 % range alone.
const TOGETHER: &str = "*all together, 90 %*";
/// The name of the table on the page.
const TABLE: &str = "calibration";

/// The promise of a column: of the ranges 85 to 95 %, and of the early ends at most 7 %.
fn is_kept(column: usize, percent: f64) -> bool {
    if column < HORIZONS.len() + FUNDS.len() { (85.0..=95.0).contains(&percent) } else { percent <= 7.0 }
}

/// The same of a few accounts, whose share is known to a few points only.
fn may_be_kept(column: usize, percent: f64) -> bool {
    const SLACK: f64 = 4.0;
    is_kept(column, percent - SLACK) || is_kept(column, percent) || is_kept(column, percent + SLACK)
}

/// What came of one account.
#[derive(Clone)]
struct TrialOutcome {
    /// Whether the truth lay in the range, by horizon and percent.
    spent: [[bool; PERCENTS.len()]; HORIZONS.len()],
    /// Whether the funds ended within the 90 % range, and whether before it.
    within: [bool; FUNDS.len()],
    before: [bool; FUNDS.len()],
    /// Absolute errors, the middle's and the naive mean's: of 30 days' spend in percent, of the runways in days.
    spend_off: [f64; 2],
    runway_off: [[f64; 2]; FUNDS.len()],
    /// What a deposit for 30 days is, as a share of what they took.
    deposit: f64,
}

/// One account, its books, and what it will spend.
struct Trial {
    name: String,
    case: GeneratedAccount,
    history: AccountHistory,
}

impl Trial {
    fn new(reader: &AccountReader, kind: AccountKind, number: u64) -> Self {
        let (name, case) = (format!("{} {number}", name(kind)), GeneratedAccount::new(kind, number));
        let available = case.available(FUNDS[THIRTY.1]);
        let (funds, history) = reader.read(case.records(available));
        assert_eq!(funds, Decimal::new(available, 2));
        Self { name, case, history: history }
    }

    fn outcome(&self) -> TrialOutcome {
        let forecasts = FUNDS.map(|days| self.forecast(days));
        let thirty = &forecasts[THIRTY.1];
        let inside = |days: u32, percent: u8| {
            let range = thirty.spend_range(days, confidence(percent));
            (range.low..=range.high).contains(&self.spent(days))
        };
        let runways = std::array::from_fn::<_, { FUNDS.len() }, _>(|place| {
            let (forecast, available) = (&forecasts[place], self.case.available(FUNDS[place]));
            (runway(forecast), self.lasts(available), self.naive_days(available))
        });
        let taken = (self.spent(30) * Decimal::ONE_HUNDRED).to_f64().unwrap();
        let thirty = thirty.spend_range(30, confidence(90));
        let [middle, high] = [thirty.middle, thirty.high].map(|it| (it * Decimal::ONE_HUNDRED).to_f64().unwrap());
        TrialOutcome {
            spent: HORIZONS.map(|days| PERCENTS.map(|percent| inside(days, percent))),
            within: runways.map(|((early, _, late), lasts, _)| (early..=late).contains(&lasts)),
            before: runways.map(|((early, ..), lasts, _)| lasts < early),
            spend_off: [middle, self.naive() * 30.0].map(|estimate| (estimate - taken).abs() / taken.max(1.0) * 100.0),
            runway_off: runways.map(|((_, about, _), lasts, naive)| {
                [about as f64, naive].map(|estimate| (estimate - lasts as f64).abs())
            }),
            deposit: high / taken.max(1.0),
        }
    }

    fn forecast(&self, days: i64) -> Simulation {
        let (ledger, orders) = (self.history.ledger.as_ref().unwrap(), self.history.orders.as_ref().unwrap());
        let available = Decimal::new(self.case.available(days), 2);
        Simulation::new(ledger, Some(orders), &Spending::default(), available, ledgers::now())
            .unwrap_or_else(|why| panic!("{}: {why}", self.name))
    }

    fn spent(&self, days: u32) -> Decimal {
        Decimal::new(self.case.future[..usize::try_from(days).unwrap()].iter().sum(), 2)
    }

    /// Days until more is spent than is there; 365 if that is later.
    fn lasts(&self, available: i64) -> i64 {
        let mut spent = 0;
        let enough = self.case.future.iter().take_while(|day| {
            spent += **day;
            spent <= available
        });
        i64::try_from(enough.count()).unwrap()
    }

    /// Of a day, by the last 30.
    fn naive(&self) -> f64 {
        let past = &self.case.past;
        past[past.len() - 30..].iter().sum::<i64>() as f64 / 30.0
    }

    fn naive_days(&self, available: i64) -> f64 {
        (available as f64 / self.naive().max(0.01)).min(365.0)
    }
}

/// Days until the early end, the middle and the late end of the 90 % range.
fn runway(forecast: &Simulation) -> (i64, i64, i64) {
    let days = |at: Option<Time>| at.map_or(365, |at| (at - ledgers::now()).num_days());
    match forecast.runway(confidence(90)) {
        Runway::Until { about, early, late, .. } => (days(early), days(about), days(late)),
        Runway::Exhausted => (0, 0, 0),
        Runway::BeyondHorizon | Runway::NotYetKnown(_) => (365, 365, 365),
    }
}

fn confidence(percent: u8) -> Confidence {
    Confidence::new(percent).unwrap()
}

/// What came of the accounts of one kind.
struct CalibrationRow {
    kind: AccountKind,
    outcomes: Vec<TrialOutcome>,
}

impl CalibrationRow {
    /// How often something was so, in percent.
    fn percent(&self, is_so: impl Fn(&TrialOutcome) -> bool) -> f64 {
        100.0 * self.outcomes.iter().filter(|outcome| is_so(outcome)).count() as f64 / self.outcomes.len() as f64
    }

    fn median(&self, value: impl Fn(&TrialOutcome) -> f64) -> f64 {
        let mut values: Vec<f64> = self.outcomes.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }

    /// The figure that is held to a promise.
    fn held(&self, column: usize) -> f64 {
        let (horizons, funds) = (HORIZONS.len(), FUNDS.len());
        match column {
            _ if column < horizons => self.percent(|it| it.spent[column][2]),
            _ if column < horizons + funds => self.percent(|it| it.within[column - horizons]),
            _ => self.percent(|it| it.before[column - horizons - funds]),
        }
    }

    fn ranges(&self) -> String {
        let mut line = format!("| {} |", name(self.kind));
        for column in 0..HORIZONS.len() {
            let [low, middle] = [0, 1].map(|percent| self.percent(|it| it.spent[column][percent]));
            line += &format!(" {low:.0} / {middle:.0} / **{:.1}** |", self.held(column));
        }
        for place in HORIZONS.len()..HORIZONS.len() + FUNDS.len() {
            line += &format!(" **{:.1}**, early {:.1} |", self.held(place), self.held(place + FUNDS.len()));
        }
        line
    }

    fn middles(&self) -> String {
        let [spend, naive] = [0, 1].map(|whose| self.median(|it| it.spend_off[whose]));
        let mut line = format!("| {} | {spend:.0} % ({naive:.0} %) |", name(self.kind));
        for place in 0..FUNDS.len() {
            let [days, naive] = [0, 1].map(|whose| self.median(|it| it.runway_off[place][whose]));
            line += &format!(" {days:.1} ({naive:.1}) |");
        }
        let (covers, times) = (self.percent(|it| it.deposit >= 1.0), self.median(|it| it.deposit));
        line + &format!(" {covers:.1} % | {times:.2} |")
    }
}

/// `RenewalWaves` → `renewal waves`.
pub(crate) fn name(kind: AccountKind) -> String {
    let mut name = String::new();
    for letter in format!("{kind:?}").chars() {
        let goes_on =
            letter.is_lowercase() || (letter.is_ascii_digit() && name.ends_with(|it: char| it.is_ascii_digit()));
        name += if goes_on { "" } else { " " };
        name.push(letter.to_ascii_lowercase());
    }
    name.trim().replace("multi year", "multi-year")
}

/// Measures so many accounts of each kind, on all processors.
fn measure(kinds: &[AccountKind], numbers: std::ops::Range<u64>) -> Vec<CalibrationRow> {
    let all: Vec<(AccountKind, u64)> =
        kinds.iter().flat_map(|kind| numbers.clone().map(|number| (*kind, number))).collect();
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(vec![None; all.len()]));
    let work = || {
        let reader = AccountReader::new(ledgers::now());
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some((kind, number)) = all.get(place).copied() else { break };
            let outcome = Trial::new(&reader, kind, number).outcome();
            outcomes.lock().unwrap()[place] = Some(outcome);
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    let mut outcomes = outcomes.into_inner().unwrap().into_iter().map(Option::unwrap);
    let each = usize::try_from(numbers.end - numbers.start).unwrap();
    kinds.iter().map(|kind| CalibrationRow { kind: *kind, outcomes: outcomes.by_ref().take(each).collect() }).collect()
}

/// A column's figure over all accounts of these kinds.
fn pooled<'r>(rows: impl IntoIterator<Item = &'r CalibrationRow>, column: usize) -> f64 {
    let sum = |(sum, count), row: &CalibrationRow| {
        let accounts = row.outcomes.len() as f64;
        (sum + row.held(column) * accounts, count + accounts)
    };
    let (sum, count) = rows.into_iter().fold((0.0, 0.0), sum);
    sum / count
}

type Group<'g> = (&'g str, Vec<CalibrationRow>);

fn tables(groups: &[Group]) -> String {
    let mut ranges = "| kind | 7 days | 14 days | 30 days | 60 days | runway of 15 | runway of 30 | runway of 60 |\n\
                      |---|---|---|---|---|---|---|---|\n"
        .to_owned();
    let mut middles =
        "| kind | 30 days off by | runway of 15 off by | of 30 | of 60 | deposit lasts | is … times the spend |\n\
                       |---|---|---|---|---|---|---|\n"
            .to_owned();
    for (group, rows) in groups {
        ranges += &format!("| *{group}* | | | | | | | |\n");
        middles += &format!("| *{group}* | | | | | | |\n");
        for row in rows {
            ranges += &format!("{}\n", row.ranges());
            middles += &format!("{}\n", row.middles());
        }
        ranges += &format!("| {TOGETHER} |");
        for column in 0..HORIZONS.len() {
            ranges += &format!(" {:.1} |", pooled(rows, column));
        }
        for column in HORIZONS.len()..HORIZONS.len() + FUNDS.len() {
            ranges += &format!(" {:.1}, early {:.1} |", pooled(rows, column), pooled(rows, column + FUNDS.len()));
        }
        ranges.push('\n');
    }
    format!("{ranges}\n{middles}")
}

/// Kinds by their group.
fn groups() -> [(&'static str, &'static [AccountKind]); 7] {
    [
        ("tuned on", &TUNED),
        ("held out at first, then tuned on", &ONCE_HELD_OUT),
        ("held out", &HELD_OUT),
        ("changing habits, tuned on", &CHANGING),
        ("renewals, tuned on", &RENEWING),
        ("renewals, held out at first, then tuned on", &RENEWING_ONCE_HELD_OUT),
        ("renewals, held out", &RENEWING_HELD_OUT),
    ]
}

/// What is asked for by the environment, to look at.
fn requested_trials() -> Option<(Vec<AccountKind>, std::ops::Range<u64>)> {
    let variable = |name: &str| std::env::var(name).ok();
    let number = |name: &str| variable(name).map(|text| text.parse::<u64>().unwrap());
    let (kinds, from, ledgers) = (variable("LOWTIDE_KINDS"), number("LOWTIDE_FROM"), number("LOWTIDE_LEDGERS"));
    if kinds.is_none() && from.is_none() && ledgers.is_none() {
        return None;
    }
    let all = || groups().into_iter().flat_map(|(_, kinds)| kinds.iter().copied());
    let known = |requested: &str| {
        all().find(|kind| name(*kind) == requested).unwrap_or_else(|| panic!("no kind {requested:?}"))
    };
    let kinds =
        kinds.map_or_else(|| all().collect(), |kinds| kinds.split(',').map(|kind| known(kind.trim())).collect());
    let from = from.unwrap_or_default();
    Some((kinds, from..from + ledgers.unwrap_or(QUICK)))
}

#[test]
fn the_truth_lies_in_the_ranges_about_as_often_as_they_claim() {
    if let Some((kinds, numbers)) = requested_trials() {
        println!("{}", tables(&[("asked for", measure(&kinds, numbers))]));
        return;
    }
    let long = std::env::var_os("LOWTIDE_LONG").is_some();
    let kinds: Vec<AccountKind> = groups().iter().flat_map(|(_, kinds)| *kinds).copied().collect();
    let mut rows = measure(&kinds, 0..if long { FULL } else { QUICK }).into_iter();
    let groups = groups().map(|(group, kinds)| (group, rows.by_ref().take(kinds.len()).collect()));
    let tables = tables(&groups);
    println!("{tables}");
    if long && std::env::var_os("LOWTIDE_WRITE").is_some() {
        publish(TABLE, &tables);
    }
    let all = || groups.iter().flat_map(|(_, rows): &Group| rows);
    for (column, title) in COLUMNS.iter().enumerate() {
        let pooled = pooled(all(), column);
        let kept = if long { is_kept(column, pooled) } else { may_be_kept(column, pooled) };
        assert!(kept, "{title}: {pooled:.1} %");
        let published_matches = all().all(|row| (held_figures(&row.ranges())[column] - row.held(column)).abs() < 0.051);
        assert!(published_matches, "{title}: the table is read as it was written");
    }
    if !long {
        return;
    }
    for row in all() {
        for (column, title) in COLUMNS.iter().enumerate() {
            let (held, known) = (row.held(column), KNOWN_MISSES.contains(&(row.kind, title)));
            assert_eq!(is_kept(column, held), !known, "{}, {title}: {held:.1} %", name(row.kind));
        }
    }
    let text = published(TABLE);
    assert_eq!(text, tables, "docs/forecast.md tells other figures: LOWTIDE_LONG=1 LOWTIDE_WRITE=1");
}

/// The figures of a row of the first table that are held to a promise, in the order of `COLUMNS`; of the sums they are
/// not bold.
fn held_figures(line: &str) -> Vec<f64> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').skip(1).collect();
    let number = |text: &str| text.replace("**", "").trim().parse::<f64>().unwrap();
    let last = |cell: &&str| number(cell.rsplit('/').next().unwrap());
    let (spends, runways) = cells.split_at(HORIZONS.len());
    let runway = |place: usize| move |cell: &&str| number(cell.split(", early ").nth(place).unwrap());
    spends.iter().map(last).chain(runways.iter().map(runway(0))).chain(runways.iter().map(runway(1))).collect()
}

#[test]
fn the_published_table_keeps_the_promise_but_where_the_page_says_so() {
    let text = published(TABLE);
    let (ranges, middles) = text.split_once("\n\n").unwrap();
    let kinds: Vec<AccountKind> = groups().iter().flat_map(|(_, kinds)| *kinds).copied().collect();
    let lines: Vec<&str> = ranges.lines().filter(|line| line.contains("**")).collect();
    let others: Vec<&str> = middles.lines().skip(2).filter(|line| !line.starts_with("| *")).collect();
    assert_eq!((lines.len(), others.len()), (kinds.len(), kinds.len()));
    for ((kind, line), other) in kinds.into_iter().zip(lines).zip(others) {
        let begins = format!("| {} |", name(kind));
        assert!(line.starts_with(&begins) && other.starts_with(&begins), "{line}\n{other}");
        let figures = held_figures(line);
        assert_eq!(figures.len(), COLUMNS.len(), "{line}");
        for (column, figure) in figures.into_iter().enumerate() {
            let known = KNOWN_MISSES.contains(&(kind, COLUMNS[column]));
            assert_eq!(is_kept(column, figure), !known, "{kind:?}, {}: {figure} %", COLUMNS[column]);
        }
    }
}

#[test]
fn the_published_median_is_a_third_closer_on_renewal_accounts() {
    let text = published(TABLE);
    let (_, middles) = text.split_once("\n\n").unwrap();
    for kind in [&RENEWING[..], &RENEWING_ONCE_HELD_OUT, &RENEWING_HELD_OUT].concat() {
        let line = middles.lines().find(|line| line.starts_with(&format!("| {} |", name(kind)))).unwrap();
        let numbers = |cell: &str| -> Vec<f64> {
            let digits = cell.split(|it: char| !it.is_ascii_digit() && it != '.');
            digits.filter_map(|digits| digits.parse().ok()).collect()
        };
        let closer = |cell: &str| {
            let [own, naive] = numbers(cell)[..] else { panic!("{cell}") };
            own <= naive * 2.0 / 3.0
        };
        for (column, cell) in ["30 days", COLUMNS[4], COLUMNS[5], COLUMNS[6]].into_iter().zip(line.split('|').skip(2)) {
            assert_eq!(closer(cell), !NOT_A_THIRD_CLOSER.contains(&(kind, column)), "{column}: {line}");
        }
    }
}

#[test]
fn the_published_sums_are_those_of_their_groups_and_keep_the_promise() {
    let text = published(TABLE);
    let (mut kinds, mut sums) = (Vec::new(), 0);
    for line in text.lines() {
        if line.contains("**") {
            kinds.push(held_figures(line));
        } else if line.starts_with(&format!("| {TOGETHER} |")) {
            for (column, sum) in held_figures(line).into_iter().enumerate() {
                let mean = kinds.iter().map(|figures| figures[column]).sum::<f64>() / kinds.len() as f64;
                assert!((sum - mean).abs() < 0.051, "{line}: {}: {mean}", COLUMNS[column]);
                let known = GROUP_MISSES.contains(&(groups()[sums].0, COLUMNS[column]));
                assert_eq!(is_kept(column, sum), !known, "{line}: {}", COLUMNS[column]);
            }
            kinds.clear();
            sums += 1;
        }
    }
    assert_eq!((sums, kinds.len()), (groups().len(), 0));
}

#[test]
fn accounts_are_read_as_they_were_made() {
    let reader = AccountReader::new(ledgers::now());
    let oldest = (ledgers::now() - chrono::Duration::days(400)).date_naive();
    for (_, kinds) in groups() {
        for kind in kinds {
            let case = GeneratedAccount::new(*kind, 1);
            let records = case.records(case.available(30));
            let (funds, history) = reader.read(records.clone());
            assert_eq!(funds, Decimal::new(case.available(30), 2));
            let made = records.entries.iter().filter(|line| line.at.date_naive() >= oldest);
            let mut made: Vec<_> = made.map(|it| (it.at, it.id.to_string(), it.change, it.order)).collect();
            let ledger = history.ledger.unwrap();
            let mut read: Vec<_> =
                ledger.entries().iter().map(|it| (it.at, it.id.to_string(), it.change, it.order)).collect();
            made.sort();
            read.sort();
            assert_eq!(read, made, "{}", name(*kind));
            let orders = history.orders.unwrap();
            let running = records.orders.iter().filter(|it| !it.expired(ledgers::now())).count();
            assert!(orders.iter().filter(|it| !it.expired).count() <= running && orders.len() <= records.orders.len());
            for order in orders.iter() {
                let its = records.orders.iter().find(|it| it.id == order.id).unwrap();
                let fields = (order.price, order.renewed, order.order_ends, order.division);
                assert_eq!(fields, (its.price, its.renewed, Some(its.ends.date_naive()), Some(its.division)));
                assert_eq!(order.common_name.as_deref(), Some(&*its.common_name));
            }
        }
    }
}
