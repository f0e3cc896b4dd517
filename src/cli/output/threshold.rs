//! The threshold of a rule's level in the output of commands: an object in JSON, a few words in text.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::domain::rule::{Rule, Severity, ThresholdSide, ThresholdValue};

/// The threshold of one level.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RuleThreshold {
    side: ThresholdSide,
    at: ThresholdValue,
}

impl RuleThreshold {
    /// Returns the threshold of a rule's level, or `None` if the rule lacks that level.
    pub(crate) fn of(rule: &Rule, severity: Severity) -> Option<Self> {
        rule.level(severity).map(|level| Self { side: level.side(), at: level.threshold() })
    }
}

/// Writes text such as `below 2,000`.
impl fmt::Display for RuleThreshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.side, self.at)
    }
}

/// Writes `{ "below": "2000", "currency": null }` with the amount as in the configuration, or `{ "below_seconds": 604800 }`.
impl Serialize for RuleThreshold {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (side, seconds) = match self.side {
            ThresholdSide::Below => ("below", "below_seconds"),
            ThresholdSide::Above => ("above", "above_seconds"),
        };
        match self.at {
            ThresholdValue::Money(amount) => {
                let currency = amount.currency.map(|currency| currency.to_string());
                to.collect_map([(side, Some(amount.value.to_string())), ("currency", currency)])
            }
            ThresholdValue::Time { lasts } => to.collect_map([(seconds, lasts.as_secs())]),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::domain::money::Currency;
    use crate::domain::rule::ThresholdAmount;
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn a_threshold_is_an_object_in_json_and_words_in_text() {
        let amount = |value: &str, code: Option<&str>| {
            let currency = code.map(|code| Currency::parse(code).unwrap());
            ThresholdValue::Money(ThresholdAmount { value: value.parse().unwrap(), currency })
        };
        let both = |side, at| {
            let threshold = RuleThreshold { side, at };
            (serde_json::to_value(threshold).unwrap(), threshold.to_string())
        };
        let plain = both(ThresholdSide::Below, amount("2000", None));
        assert_eq!(plain, (json!({ "below": "2000", "currency": null }), "below 2,000".to_owned()));
        let exact = both(ThresholdSide::Above, amount("1000.50", Some("USD")));
        assert_eq!(exact, (json!({ "above": "1000.50", "currency": "USD" }), "above USD 1,000.50".to_owned()));
        let week = both(ThresholdSide::Below, Duration::from_secs(7 * 86400).into());
        assert_eq!(week, (json!({ "below_seconds": 604_800 }), "below 7d".to_owned()));
    }
}
