//! Memory does not grow: after its first day, a service that lives through flapping, outages and reloads needs no more of it.
//! `LOWTIDE_LONG=1` lives for nine days with two thousand divisions; docs/performance.md shows a month with ten thousand.

#![allow(unreachable_pub, clippy::unwrap_used)] // panicking is how a test ends

#[path = "support/long_run.rs"]
mod long_run;
#[expect(dead_code, reason = "tests/it uses the rest of it")]
#[path = "support/service.rs"]
mod service;

#[tokio::test(start_paused = true)]
async fn memory_is_flat_after_the_first_day_of_flapping_outages_and_reloads() {
    let long = std::env::var_os("LOWTIDE_LONG").is_some_and(|value| value == "1");
    let (divisions, days) = if long { (2000, 9) } else { (200, 4) };
    let samples = long_run::run_days(divisions, days).await;
    let (first, rest) = samples.split_at(usize::try_from(long_run::CYCLES_PER_DAY).unwrap());
    let peak = |samples: &[f64]| samples.iter().copied().fold(0.0, f64::max);
    println!(
        "{divisions} divisions: at most {:.1} MiB on the first day, {:.1} MiB afterwards",
        peak(first),
        peak(rest)
    );
    // The allocator's own rounding is not growth.
    assert!(peak(rest) <= peak(first) * 1.05 + 1.0, "from {:.1} MiB to {:.1} MiB", peak(first), peak(rest));
}
