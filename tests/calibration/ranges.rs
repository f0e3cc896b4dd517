//! Accuracy of the forecast, measured on accounts whose future is known: how often the true value is in the range,
//! how large the error of the median is compared with the mean of the last 30 days, and whether a deposit for 30 days
//! lasts.
//!
//! Each account is served over HTTP and read by the real client and refresher. An ordinary run tries a few accounts
//! of each kind. `LOWTIDE_LONG=1` (with `--release`) tries five hundred, checks every cell against the target, and
//! compares the tables in `docs/forecast.md` with the result; `LOWTIDE_WRITE=1` writes them. For tuning,
//! `LOWTIDE_KINDS="steady, renewals steady"` selects kinds, `LOWTIDE_LEDGERS=200` sets the number of accounts of each
//! kind, and `LOWTIDE_FROM=10000` the first account number. The figures are then only printed.

mod misses;
mod trial;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rust_decimal::Decimal;

use self::misses::{GROUP_MISSES, KNOWN_MISSES, NOT_A_THIRD_CLOSER};
use self::trial::{FUNDS, HORIZONS, Trial, TrialOutcome};
use crate::account_reader::AccountReader;
use crate::accounts::{
    self, AccountKind, CHANGING, GeneratedAccount, HELD_OUT, ONCE_HELD_OUT, RENEWING, RENEWING_HELD_OUT,
    RENEWING_ONCE_HELD_OUT, TUNED, name,
};
use crate::{publish, published};

const FULL: u64 = 500;
const QUICK: u64 = 3;
/// Columns of the first table that have a target.
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

/// Label of the row below each group, which shows the 90 % range only.
const TOGETHER: &str = "*all together, 90 %*";
/// Name of the table in the document.
const TABLE: &str = "calibration";

/// Reports whether a column meets its target: 85 to 95 % for ranges, at most 7 % for early ends.
fn meets_target(column: usize, percent: f64) -> bool {
    if column < HORIZONS.len() + FUNDS.len() { (85.0..=95.0).contains(&percent) } else { percent <= 7.0 }
}

/// Reports whether a column meets its target within the precision of a few accounts.
fn may_meet_target(column: usize, percent: f64) -> bool {
    const SLACK: f64 = 4.0;
    meets_target(column, percent - SLACK) || meets_target(column, percent) || meets_target(column, percent + SLACK)
}

/// Outcomes of the accounts of one kind.
struct CalibrationRow {
    kind: AccountKind,
    outcomes: Vec<TrialOutcome>,
}

impl CalibrationRow {
    /// Returns the percentage of accounts for which something is true.
    fn percent(&self, is_so: impl Fn(&TrialOutcome) -> bool) -> f64 {
        100.0 * self.outcomes.iter().filter(|outcome| is_so(outcome)).count() as f64 / self.outcomes.len() as f64
    }

    fn median(&self, value: impl Fn(&TrialOutcome) -> f64) -> f64 {
        let mut values: Vec<f64> = self.outcomes.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }

    /// Returns the figure of a column that has a target.
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

/// Measures these account numbers of each kind, on all processors.
fn measure(kinds: &[AccountKind], numbers: std::ops::Range<u64>) -> Vec<CalibrationRow> {
    let all: Vec<(AccountKind, u64)> =
        kinds.iter().flat_map(|kind| numbers.clone().map(|number| (*kind, number))).collect();
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(vec![None; all.len()]));
    let work = || {
        let reader = AccountReader::new(accounts::now());
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

/// Returns a column's figure over all accounts of these kinds.
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

/// Returns the kinds by group.
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

/// Returns the accounts that the environment selects.
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
fn ranges_contain_the_true_value_as_often_as_they_claim() {
    if let Some((kinds, numbers)) = requested_trials() {
        println!("{}", tables(&[("selected", measure(&kinds, numbers))]));
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
        let is_met = if long { meets_target(column, pooled) } else { may_meet_target(column, pooled) };
        assert!(is_met, "{title}: {pooled:.1} %");
        let published_matches = all().all(|row| (held_figures(&row.ranges())[column] - row.held(column)).abs() < 0.051);
        assert!(published_matches, "{title}: the parsed table differs from the figures");
    }
    if !long {
        return;
    }
    for row in all() {
        for (column, title) in COLUMNS.iter().enumerate() {
            let (held, known) = (row.held(column), KNOWN_MISSES.contains(&(row.kind, title)));
            assert_eq!(meets_target(column, held), !known, "{}, {title}: {held:.1} %", name(row.kind));
        }
    }
    let text = published(TABLE);
    assert_eq!(text, tables, "docs/forecast.md has other figures: LOWTIDE_LONG=1 LOWTIDE_WRITE=1");
}

/// Returns the figures with a target in a row of the first table, in the order of `COLUMNS`. Rows of kinds show them
/// in bold, rows of groups do not.
fn held_figures(line: &str) -> Vec<f64> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').skip(1).collect();
    let number = |text: &str| text.replace("**", "").trim().parse::<f64>().unwrap();
    let last = |cell: &&str| number(cell.rsplit('/').next().unwrap());
    let (spends, runways) = cells.split_at(HORIZONS.len());
    let runway = |place: usize| move |cell: &&str| number(cell.split(", early ").nth(place).unwrap());
    spends.iter().map(last).chain(runways.iter().map(runway(0))).chain(runways.iter().map(runway(1))).collect()
}

#[test]
fn the_published_table_meets_its_targets_but_for_listed_misses() {
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
            assert_eq!(meets_target(column, figure), !known, "{kind:?}, {}: {figure} %", COLUMNS[column]);
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
fn the_published_group_rows_are_means_and_meet_their_targets() {
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
                assert_eq!(meets_target(column, sum), !known, "{line}: {}", COLUMNS[column]);
            }
            kinds.clear();
            sums += 1;
        }
    }
    assert_eq!((sums, kinds.len()), (groups().len(), 0));
}

#[test]
fn accounts_are_read_as_they_were_generated() {
    let reader = AccountReader::new(accounts::now());
    let oldest = (accounts::now() - chrono::Duration::days(400)).date_naive();
    for (_, kinds) in groups() {
        for kind in kinds {
            let account = GeneratedAccount::new(*kind, 1);
            let records = account.records(account.available(30));
            let (funds, history) = reader.read(records.clone());
            assert_eq!(funds, Decimal::new(account.available(30), 2));
            let made = records.entries.iter().filter(|line| line.at.date_naive() >= oldest);
            let mut made: Vec<_> = made.map(|it| (it.at, it.id.to_string(), it.change, it.order)).collect();
            let ledger = history.ledger.unwrap();
            let mut read: Vec<_> =
                ledger.entries().iter().map(|it| (it.at, it.id.to_string(), it.change, it.order)).collect();
            made.sort();
            read.sort();
            assert_eq!(read, made, "{}", name(*kind));
            let orders = history.orders.unwrap();
            let running = records.orders.iter().filter(|it| !it.expired(accounts::now())).count();
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
