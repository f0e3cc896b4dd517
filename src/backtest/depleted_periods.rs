//! When funds ran out, whatever the rules say of it.

use rust_decimal::Decimal;

use crate::domain::Time;
use crate::forecast::is_dry;

/// A time in which there was nothing left to buy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drought {
    /// When it began.
    pub from: Time,
    /// When there was enough again; `None`: it lasts.
    pub until: Option<Time>,
    /// The least that was left in it.
    pub lowest: Decimal,
}

/// Each time that funds ran out along this path, in order.
pub fn droughts(path: &[(Time, Decimal)], usual: Decimal) -> Vec<Drought> {
    let mut droughts: Vec<Drought> = Vec::new();
    for (at, funds) in path {
        let dry = is_dry(*funds, usual);
        match droughts.last_mut().filter(|last| last.until.is_none()) {
            Some(last) if dry => last.lowest = last.lowest.min(*funds),
            Some(last) => last.until = Some(*at),
            None if dry => droughts.push(Drought { from: *at, until: None, lowest: *funds }),
            None => {}
        }
    }
    droughts
}
