//! Amounts in hundredths, the unit of the simulation: exact, and faster than `Decimal`.

use rust_decimal::{Decimal, RoundingStrategy};

/// Hundredths of the account's currency unit, the unit of the simulation.
pub(super) type Minor = i64;
/// Highest spend on a day. Keeps the sum of a year far below the limit of its type.
pub(super) const MAX_DAY_SPEND: Minor = 1_000_000_000_000_000;

/// Returns an amount in hundredths, rounded away from 0 and limited to `MAX_DAY_SPEND`.
pub(super) fn minor(amount: Decimal) -> Minor {
    let whole = match amount.scale() {
        0 => amount.mantissa() * 100,
        1 => amount.mantissa() * 10,
        2 => amount.mantissa(),
        _ => amount.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero).mantissa(),
    };
    let most = i128::from(MAX_DAY_SPEND);
    Minor::try_from(whole.clamp(-most, most)).unwrap_or(MAX_DAY_SPEND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_hundredths_and_bounded() {
        let of = |amount: &str| minor(amount.parse().unwrap());
        assert_eq!(["1", "1.5", "1.25", "-3.0"].map(of), [100, 150, 125, -300]);
        assert_eq!(["1.255", "-1.255", "0.00000001", "2.000000"].map(of), [126, -126, 0, 200]);
        assert_eq!(["99999999999999999999", "-99999999999999999999.5"].map(of), [MAX_DAY_SPEND, -MAX_DAY_SPEND]);
    }
}
