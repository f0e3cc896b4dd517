//! Confidence of a forecast: the percentage of simulated futures that its range contains.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Percentage from 50 to 99; default 90.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Confidence(u8);

/// Error for a text or number that is not a confidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a confidence: 0.5 to 0.99, or 50% to 99%")]
pub struct ConfidenceError;

impl Confidence {
    /// Creates a confidence of this percentage.
    pub fn new(percent: u8) -> Result<Self, ConfidenceError> {
        if (50..=99).contains(&percent) { Ok(Self(percent)) } else { Err(ConfidenceError) }
    }

    /// Parses `0.9`, `0.95` or `90%`, exactly.
    pub fn parse(text: &str) -> Result<Self, ConfidenceError> {
        let digits = match (text.strip_suffix('%'), text.strip_prefix("0.")) {
            (Some(percent), _) => percent.to_owned(),
            (None, Some(fraction)) => {
                let fraction = fraction.trim_end_matches('0');
                if fraction.len() > 2 {
                    return Err(ConfidenceError);
                }
                format!("{fraction:0<2}")
            }
            (None, None) => return Err(ConfidenceError),
        };
        if digits.len() != 2 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ConfidenceError);
        }
        digits.parse().map_err(|_| ConfidenceError).and_then(Self::new)
    }

    /// Returns the percentage.
    pub fn percent(self) -> u8 {
        self.0
    }
}

impl Default for Confidence {
    fn default() -> Self {
        Self(90)
    }
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl TryFrom<u8> for Confidence {
    type Error = ConfidenceError;
    fn try_from(percent: u8) -> Result<Self, ConfidenceError> {
        Self::new(percent)
    }
}

impl From<Confidence> for u8 {
    fn from(confidence: Confidence) -> Self {
        confidence.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confidence_is_a_share_or_a_percentage_and_nothing_else() {
        for (text, percent) in [("0.9", 90), ("0.90", 90), ("0.95", 95), ("90%", 90), ("50%", 50), ("0.990", 99)] {
            assert_eq!(Confidence::parse(text).map(Confidence::percent), Ok(percent), "{text}");
        }
        for text in
            ["", "1", "1.0", "0", "0.", "0.4", "0.999", "90", "100%", "9%", "-0.9", "0.9%", "0x5", "9e1%", "+9%"]
        {
            assert_eq!(Confidence::parse(text), Err(ConfidenceError), "{text}");
        }
    }
}
