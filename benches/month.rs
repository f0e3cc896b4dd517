//! Simulates a month of ten thousand divisions with flapping, outages and daily reloads, and plots the memory that it
//! uses.
//!
//!     cargo bench --bench month -- docs/memory.svg

#![allow(unreachable_pub, clippy::unwrap_used, clippy::cast_precision_loss)] // a measurement that cannot be taken ends the run

#[path = "../tests/support/long_run.rs"]
mod long_run;
#[expect(dead_code, reason = "tests/it uses the rest of it")]
#[path = "../tests/support/service.rs"]
mod service;

use std::fmt::Write as _;

const DIVISIONS: u64 = 10_000;
const DAYS: u64 = 30;
/// Size of the plot in pixels.
const SIZE: (f64, f64) = (900.0, 320.0);
const MARGIN: f64 = 50.0;

fn main() {
    let Some(file) = std::env::args().skip(1).find(|arg| !arg.starts_with("--")) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let samples = runtime.block_on(long_run::run_days(DIVISIONS, DAYS));
    let day = |n: usize| &samples[n * 96..(n + 1) * 96];
    let peak = |samples: &[f64]| samples.iter().copied().fold(0.0, f64::max);
    let rest = (1..30).map(|n| peak(day(n))).fold(0.0, f64::max);
    println!(
        "at most {:.1} MiB on the first day, {rest:.1} MiB afterwards, {:.1} MiB on the last",
        peak(day(0)),
        peak(day(29))
    );
    std::fs::write(file, plot(&samples)).unwrap();
}

fn plot(samples: &[f64]) -> String {
    let top = (samples.iter().copied().fold(0.0, f64::max) / 20.0).ceil() * 20.0;
    let (width, height) = (SIZE.0 - 2.0 * MARGIN, SIZE.1 - 2.0 * MARGIN);
    let x = |day: f64| MARGIN + width * day / DAYS as f64;
    let y = |mib: f64| MARGIN + height * (1.0 - mib / top);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text x=\"{MARGIN}\" y=\"28\">Resident memory in MiB, 10,000 divisions, a simulated month (a reading of each every 15 minutes)</text>\n",
        SIZE.0, SIZE.1
    );
    for step in 0..=4 {
        let mib = top * f64::from(step) / 4.0;
        let (at, end) = (y(mib), SIZE.0 - MARGIN);
        let _ = writeln!(
            svg,
            "<path d=\"M{MARGIN} {at:.1}H{end}\" stroke=\"#ddd\"/><text x=\"8\" y=\"{:.1}\">{mib:.0}</text>",
            at + 4.0
        );
    }
    for day in (0..=DAYS).step_by(5) {
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{}\">day {day}</text>", x(day as f64) - 14.0, SIZE.1 - 24.0);
    }
    let points: Vec<String> =
        samples.iter().enumerate().map(|(n, mib)| format!("{:.1},{:.1}", x((n + 1) as f64 / 96.0), y(*mib))).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#1f6feb\" stroke-width=\"1.2\"/>\n</svg>",
        points.join(" ")
    );
    svg
}
