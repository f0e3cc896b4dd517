//! Periods in which funds were depleted, independent of any rule.

use rust_decimal::Decimal;

use crate::domain::Time;
use crate::forecast::is_depleted;

/// A period in which the funds did not cover a typical order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DepletedPeriod {
    /// Begin of the period.
    pub from: Time,
    /// End of the period; `None` if it goes on.
    pub until: Option<Time>,
    /// Lowest funds in the period.
    pub lowest: Decimal,
}

/// Returns the depleted periods along this path of funds, in order.
pub fn depleted_periods(path: &[(Time, Decimal)], typical: Decimal) -> Vec<DepletedPeriod> {
    let mut periods: Vec<DepletedPeriod> = Vec::new();
    for (at, funds) in path {
        let is_depleted = is_depleted(*funds, typical);
        match periods.last_mut().filter(|last| last.until.is_none()) {
            Some(last) if is_depleted => last.lowest = last.lowest.min(*funds),
            Some(last) => last.until = Some(*at),
            None if is_depleted => periods.push(DepletedPeriod { from: *at, until: None, lowest: *funds }),
            None => {}
        }
    }
    periods
}
