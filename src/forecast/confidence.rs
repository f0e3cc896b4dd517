//! How sure a rule wants to be, as a whole number of percent.

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;

use crate::domain::money::parse_amount;

/// How many futures of a hundred lie in a range: 50 to 99; 90 unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Confidence(u8);

/// Why something is no confidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a confidence: from 0.5 to 0.99 with at most two decimals, or 50% to 99%")]
pub struct ConfidenceError;

impl Confidence {
    /// From a whole number of percent.
    pub fn new(percent: u8) -> Result<Self, ConfidenceError> {
        (50..=99).contains(&percent).then_some(Self(percent)).ok_or(ConfidenceError)
    }

    /// A whole number of percent.
    pub fn percent(self) -> u8 {
        self.0
    }
}

impl Default for Confidence {
    fn default() -> Self {
        Self(90)
    }
}

impl FromStr for Confidence {
    type Err = ConfidenceError;

    /// Reads `0.9`, `0.95` or `90%`, exactly.
    fn from_str(text: &str) -> Result<Self, ConfidenceError> {
        let percent = match text.strip_suffix('%') {
            Some(number) => parse_amount(number.trim_end()),
            None => parse_amount(text).map(|share| share * Decimal::ONE_HUNDRED),
        };
        let percent = percent.map_err(|_| ConfidenceError)?.normalize();
        if !percent.is_integer() {
            return Err(ConfidenceError);
        }
        Self::new(u8::try_from(percent).map_err(|_| ConfidenceError)?)
    }
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confidence_is_a_share_or_a_percentage_of_whole_percent() {
        let read = |text: &str| text.parse::<Confidence>().map(Confidence::percent);
        for (text, percent) in [("0.9", 90), ("0.95", 95), ("0.50", 50), ("0.990", 99), ("90%", 90), ("50 %", 50)] {
            assert_eq!(read(text), Ok(percent), "{text}");
        }
        for text in ["", "%", "90", "1", "0", "0.49", "0.995", "100%", "49%", "92.5%", "-0.9", "nine", "9e-1"] {
            assert_eq!(read(text), Err(ConfidenceError), "{text}");
        }
        assert_eq!(Confidence::default().to_string(), "90%");
    }
}
