//! Past funds, computed backwards from the present.

use rust_decimal::Decimal;

use super::spending::entries_until;
use crate::domain::Time;
use crate::domain::ledger::Ledger;

/// Days that a sparkline shows.
const SPARKLINE_DAYS: u32 = 28;

/// Returns the available funds once a day for the last `days` days, oldest first; the last value is the one at `now`.
///
/// Past funds are today's funds minus every later ledger line. Days before the first line are left out. Invoices and
/// the credit limit are not in the ledger, so their present values are used.
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

/// Returns the available funds of the last four weeks as heights from 0 (no funds) to 8 (the highest funds in these
/// weeks), one a day, the last at `now`. Shorter if the ledger is; empty if it has fewer than two days.
pub fn sparkline(ledger: &Ledger, available_now: Decimal, now: Time) -> Vec<u8> {
    let funds = past_funds(ledger, available_now, now, SPARKLINE_DAYS - 1);
    if funds.len() < 2 {
        return Vec::new();
    }
    let most = funds.iter().map(|(_, amount)| *amount).max().unwrap_or_default();
    funds.into_iter().map(|(_, amount)| sparkline_height(amount, most)).collect()
}

/// Returns the height for an amount; at least 1 if any funds are left.
fn sparkline_height(amount: Decimal, most: Decimal) -> u8 {
    if amount <= Decimal::ZERO || most <= Decimal::ZERO {
        return 0;
    }
    let eighths = (amount / most * Decimal::from(8)).round();
    u8::try_from(eighths).unwrap_or(8).clamp(1, 8)
}
