//! The money of one fund: its balance, and the deposits that it consists of.

use std::collections::VecDeque;

use rust_decimal::Decimal;

/// Balance, unpaid invoices and deposits of one fund.
#[derive(Debug, Default)]
pub(super) struct SimulatedFund {
    pub(super) balance: Decimal,
    pub(super) unpaid: Decimal,
    /// Number of purchases refused for lack of funds.
    pub(super) refused: u64,
    /// Unspent part of each deposit, oldest first. Their sum is the balance, if that is above 0.
    pub(super) lots: VecDeque<SimulatedLot>,
}

/// Unspent part of a deposit.
#[derive(Debug)]
pub(super) struct SimulatedLot {
    pub(super) entry: u64,
    pub(super) left: Decimal,
}

impl SimulatedFund {
    /// Consumes one deposit, or the oldest first. An amount that no deposit covers is debt.
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
