//! Fixed work for an instruction counter: one hot path in each run, named by the first argument. Instruction counts
//! do not depend on the load of the machine, as times do. `.ci/instructions` counts them and compares them with
//! `instructions.txt`.

#![allow(clippy::unwrap_used)] // a measurement that cannot be taken ends the run

mod work;

use std::collections::BTreeMap;
use std::hint::black_box;

use lowtide::alerting::process::process;
use lowtide::alerting::state::State;
use lowtide::certcentral::bodies;
use lowtide::domain::forecast::Runway;
use lowtide::forecast::{Confidence, Simulation, Spending};
use lowtide::notify::channels::email::rendering::email;
use lowtide::notify::channels::slack::payload;
use lowtide::state::{decode, encode};
use lowtide::util::secret::Redactor;

const BODY: &[u8] = br#"{"balance":"1431.00","currency":"USD","unpaid_invoice_balance":"0.00","negative_balance_limit":"2000.00","used_credit_from_other_containers":"0.00","total_available_funds":"3431.00"}"#;

fn main() {
    let path = std::env::args().nth(1).unwrap_or_default();
    let done = match path.as_str() {
        "nothing" => 0,
        "parse" => (0..1000).filter(|_| bodies::balance(black_box(BODY), &Redactor::default()).is_ok()).count(),
        "evaluate" => {
            let (rules, readings) = (work::rules(1), work::readings());
            (0..10).map(|_| work::evaluate_all(black_box(&rules[0]), black_box(&readings))).sum()
        }
        "process-quiet" => {
            let (policy, readings, mut state) = (work::policy(3), work::account_readings(1000, 5000), State::default());
            (0..5).map(|_| process(&mut state, &policy, black_box(&readings), work::at(0)).log_entries.len()).sum()
        }
        "process-falling" => {
            process(&mut State::default(), &work::policy(3), &work::account_readings(1000, 100), work::at(0))
                .log_entries
                .len()
        }
        "slack" => payload(&work::message(100), &work::message_context(), &BTreeMap::new()).to_string().len(),
        "mail" => email(&work::message(100), &work::message_context()).html.len(),
        "save" => encode(&work::firing_state(1000)).unwrap().pieces().count(),
        "forecast" => {
            let (ledger, orders) = work::history(10_000);
            let forecast = Simulation::new(&ledger, Some(&orders), &Spending::default(), 20_000.into(), work::at(0));
            usize::from(forecast.unwrap().runway(Confidence::default()) == Runway::Exhausted)
        }
        "load" => decode(&encode(&work::firing_state(1000)).unwrap().to_bytes()).unwrap().state.alerts.len(),
        // Without a path, or with the benchmark runner's own arguments, there is nothing to count.
        _ => return,
    };
    black_box(done);
}
