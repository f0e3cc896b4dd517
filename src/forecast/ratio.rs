//! Ratios: of amounts in 65,536ths, to scale whole numbers of hundredths exactly, and as floating point for
//! everything that is not an amount.

use super::minor::Minor;

/// A ratio of two amounts, in 65,536ths.
pub(super) type Ratio = i64;
/// The ratio of two equal amounts.
pub(super) const UNCHANGED: Ratio = 65_536;

/// Returns an amount times a ratio.
pub(super) fn scaled(amount: Minor, ratio: Ratio) -> Minor {
    match amount.checked_mul(ratio) {
        Some(product) => product >> 16,
        None => Minor::try_from((i128::from(amount) * i128::from(ratio)) >> 16).unwrap_or(Minor::MAX),
    }
}

/// Returns the ratio of two amounts, to 16 binary places.
pub(super) fn share(part: Minor, whole: Minor) -> f64 {
    let ratio = i128::from(part) * i128::from(UNCHANGED) / i128::from(whole.max(1));
    f64::from(i32::try_from(ratio).unwrap_or(i32::MAX)) / 65_536.0
}

/// Returns a number of items as floating point.
pub(super) fn count(items: usize) -> f64 {
    f64::from(u32::try_from(items).unwrap_or(u32::MAX))
}
