//! Size of the simulation.

use crate::domain::rule::HORIZON_DAYS;

/// Number of futures that are drawn.
pub(super) const FUTURES: usize = 600;
/// Days of a future.
pub(super) const DAYS: usize = HORIZON_DAYS as usize;
/// Weeks of a future; the last one is cut short.
pub(super) const WEEKS: usize = DAYS.div_ceil(7);
