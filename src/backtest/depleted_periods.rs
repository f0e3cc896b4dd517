//! When funds ran out, whatever the rules say of it.

use rust_decimal::Decimal;

use crate::domain::Time;
use crate::forecast::is_depleted;

/// A time in which there was nothing left to buy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DepletedPeriod {
    /// When it began.
    pub from: Time,
    /// When there was enough again; `None`: it lasts.
    pub until: Option<Time>,
    /// The least that was left in it.
    pub lowest: Decimal,
}

/// Each time that funds ran out along this path, in order.
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
