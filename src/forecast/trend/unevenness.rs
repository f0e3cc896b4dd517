//! Unevenness of the weeks: do they compensate for one another?

/// Smallest standard deviation of the cumulative sum, to avoid a division by 0.
const MIN_SPREAD: f64 = 0.1;
/// Typical range of the cumulative deviations of independent weeks, in standard deviations of the sum.
const EXPECTED_RANGE: f64 = 1.25;
/// Range of weeks that compensate for one another, in ledgers of this length.
const MIN_RANGE: f64 = 0.35;
/// Ranges below the first are even, those above the second are not. Of independent weeks, one ledger in forty has a
/// range below the first.
const EVEN_RANGE: f64 = 0.75;
const UNEVEN_RANGE: f64 = 0.95;

/// Returns how uneven the sums of several weeks are compared with those of independent weeks: below 1 if weeks
/// compensate for one another, as in an account that buys the same amount each week on changing days.
pub(super) fn unevenness(roots: &[f64]) -> f64 {
    let weeks = f64::from(u32::try_from(roots.len()).unwrap_or(1).max(2));
    let mean = roots.iter().sum::<f64>() / weeks;
    let (mut sum, mut squares, mut least, mut most) = (0.0, 0.0, 0.0_f64, 0.0_f64);
    for root in roots {
        let apart = root - mean;
        (sum, squares) = (sum + apart, squares + apart * apart);
        (least, most) = (least.min(sum), most.max(sum));
    }
    let range = (most - least) / (squares * weeks / (weeks - 1.0)).sqrt().max(MIN_SPREAD);
    let even = |range: f64| (range - MIN_RANGE).max(0.0) / (EXPECTED_RANGE - MIN_RANGE);
    let between = (range - EVEN_RANGE).max(0.0) / (UNEVEN_RANGE - EVEN_RANGE);
    (even(range.min(EVEN_RANGE)) + (1.0 - even(EVEN_RANGE)) * between).min(1.0)
}
