//! One division's money: its balance, and which deposits it is left of.

use std::collections::VecDeque;

use rust_decimal::Decimal;

/// One division's money.
#[derive(Debug, Default)]
pub(super) struct SimulatedFund {
    pub(super) balance: Decimal,
    pub(super) unpaid: Decimal,
    /// How often something could not be bought.
    pub(super) refused: u64,
    /// What is left of each deposit, oldest first: together the balance, if that is above 0.
    pub(super) lots: VecDeque<SimulatedLot>,
}

#[derive(Debug)]
pub(super) struct SimulatedLot {
    pub(super) entry: u64,
    pub(super) left: Decimal,
}

impl SimulatedFund {
    /// Takes from one deposit, or from the oldest first; what no deposit covers is debt.
    pub(super) fn consume(&mut self, amount: Decimal, only: Option<u64>) {
        let mut due = amount;
        for lot in self.lots.iter_mut().filter(|lot| only.is_none_or(|entry| lot.entry == entry)) {
            let consumed = due.min(lot.left);
            lot.left -= consumed;
            due -= consumed;
        }
        self.lots.retain(|lot| !lot.left.is_zero());
    }
}
