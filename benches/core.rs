//! Benchmarks of the pure core and of everything else that costs time besides the network: evaluation, processing,
//! rendering, saving and loading the state, forecast.
//!
//!     cargo bench --bench core

#![allow(clippy::unwrap_used)] // a benchmark that cannot run ends
#![allow(missing_docs)] // criterion's macros

mod work;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lowtide::alerting::process::process;
use lowtide::alerting::state::State;
use lowtide::forecast::{Confidence, Simulation, Spending};
use lowtide::notify::channels::email::rendering::email;
use lowtide::notify::channels::slack::payload;
use lowtide::state::{decode, encode};

fn evaluation(criterion: &mut Criterion) {
    let (rules, readings) = (work::rules(1), work::readings());
    let mut group = criterion.benchmark_group("evaluation");
    group.throughput(Throughput::Elements(readings.len() as u64));
    group.bench_function("evaluated, with transitions, two levels with hysteresis", |bench| {
        bench.iter(|| work::evaluate_all(black_box(&rules[0]), black_box(&readings)));
    });
    group.finish();
}

fn processing(criterion: &mut Criterion) {
    let policy = work::policy(3);
    let readings = work::account_readings(1000, 5000);
    let mut group = criterion.benchmark_group("process");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("1,000 divisions × 3 rules, no transitions", |bench| {
        let mut state = State::default();
        bench.iter(|| process(&mut state, &policy, black_box(&readings), work::at(0)).log_entries.len());
    });
    let falling = work::account_readings(1000, 100);
    group.sample_size(20);
    group.bench_function("1,000 divisions × 3 rules, all fall at once", |bench| {
        bench.iter(|| process(&mut State::default(), &policy, black_box(&falling), work::at(0)).log_entries.len());
    });
    group.finish();
}

fn rendering(criterion: &mut Criterion) {
    let context = work::message_context();
    let mut group = criterion.benchmark_group("rendering");
    group.sample_size(20);
    for (events, name) in [(1, "one alert"), (1000, "1,000 alerts")] {
        let message = work::message(events);
        group.bench_function(format!("Slack, {name}"), |bench| {
            bench.iter(|| payload(black_box(&message), &context, &std::collections::BTreeMap::new()).to_string().len());
        });
        group.bench_function(format!("email, {name}"), |bench| {
            bench.iter(|| email(black_box(&message), &context).html.len());
        });
    }
    group.finish();
}

fn state(criterion: &mut Criterion) {
    let states = [
        ("delivered to two notifiers", work::delivered_state(10_000)),
        ("pending for two notifiers", work::firing_state(10_000)),
    ];
    for (name, state) in states {
        let json = encode(&state).unwrap().to_bytes();
        let mut group = criterion.benchmark_group(format!("state of 10,000 firing alerts, {name}"));
        group.sample_size(20);
        group.throughput(Throughput::Bytes(json.len() as u64));
        group.bench_function("save, without the disk", |bench| {
            bench.iter(|| encode(black_box(&state)).unwrap().pieces().count());
        });
        group.bench_function("load, without the disk", |bench| {
            bench.iter_with_large_drop(|| decode(black_box(&json)).unwrap());
        });
        group.finish();
    }
}

fn forecast(criterion: &mut Criterion) {
    let spending = Spending::default();
    let by_lines = [1000, 10_000, 100_000].map(|lines| (format!("{lines} ledger lines"), work::history(lines)));
    let by_renewals = [400, 10_000].map(|sites| (format!("{sites} renewals a year"), work::renewing_history(sites)));
    for (what, (ledger, orders)) in by_lines.into_iter().chain(by_renewals) {
        let mut group = criterion.benchmark_group(format!("forecast of {what}"));
        group.sample_size(20);
        group.bench_function("all futures of a year, the runway and its range", |bench| {
            bench.iter(|| {
                let forecast =
                    Simulation::new(black_box(&ledger), Some(&orders), &spending, 20_000.into(), work::at(0));
                forecast.unwrap().runway(Confidence::default())
            });
        });
        group.finish();
    }
}

criterion_group!(benches, evaluation, processing, rendering, state, forecast);
criterion_main!(benches);
