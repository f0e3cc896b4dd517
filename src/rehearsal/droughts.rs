//! When funds ran out, whatever the rules say of it.

use rust_decimal::Decimal;

use crate::domain::Time;
use crate::domain::books::Ledger;
use crate::forecast::Spending;

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

/// What a purchase usually costs: the median of the ledger's purchases; 0 where it has none.
pub fn usual_purchase(ledger: &Ledger, spending: &Spending) -> Decimal {
    let mut prices: Vec<Decimal> = ledger.entries().iter().filter_map(|entry| spending.spent(entry)).collect();
    prices.sort_unstable();
    prices.get(prices.len() / 2).copied().unwrap_or_default()
}

/// Whether so much is nothing to buy with: not above 0, or less than a usual purchase. An order that could not be paid leaves
/// no line in the ledger.
pub(super) fn is_dry(funds: Decimal, usual: Decimal) -> bool {
    funds <= Decimal::ZERO || funds < usual
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
