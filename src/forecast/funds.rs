//! Where the funds have been, told backwards from where they are.

use rust_decimal::Decimal;

use super::spending::entries_until;
use crate::domain::Time;
use crate::domain::ledger::Ledger;

/// How many days a sparkline shows.
const SPARKLINE_DAYS: u32 = 28;

/// Available funds once a day for the last `days` days, oldest first; the last is `now`'s.
///
/// Each line of the ledger is taken back from what is available now. Days before the ledger's first line are left
/// out; what the ledger does not tell (invoices, another credit limit) is taken as it is today.
pub fn past_funds(ledger: &Ledger, available_now: Decimal, now: Time, days: u32) -> Vec<(Time, Decimal)> {
    let known = entries_until(ledger, now);
    let Some(first) = known.first().map(|entry| entry.at) else { return vec![(now, available_now)] };
    let (mut left, mut funds) = (known, available_now);
    let mut past = Vec::new();
    for ago in 0..=days {
        let at = now - chrono::Duration::days(i64::from(ago));
        if at < first && ago > 0 {
            break;
        }
        while let Some((entry, before)) = left.split_last().filter(|(entry, _)| entry.at > at) {
            funds -= entry.change;
            left = before;
        }
        past.push((at, funds));
    }
    past.reverse();
    past
}

/// Available funds of the last four weeks, one value a day, the last `now`'s: from 0 (nothing left) to 8 (the most in
/// these weeks). Fewer where the ledger does not reach back so far; none where it says nothing.
pub fn sparkline(ledger: &Ledger, available_now: Decimal, now: Time) -> Vec<u8> {
    let funds = past_funds(ledger, available_now, now, SPARKLINE_DAYS - 1);
    if funds.len() < 2 {
        return Vec::new();
    }
    let most = funds.iter().map(|(_, amount)| *amount).max().unwrap_or_default();
    funds.into_iter().map(|(_, amount)| sparkline_height(amount, most)).collect()
}

/// Something that is left is at least 1 high.
fn sparkline_height(amount: Decimal, most: Decimal) -> u8 {
    if amount <= Decimal::ZERO || most <= Decimal::ZERO {
        return 0;
    }
    let eighths = (amount / most * Decimal::from(8)).round();
    u8::try_from(eighths).unwrap_or(8).clamp(1, 8)
}
