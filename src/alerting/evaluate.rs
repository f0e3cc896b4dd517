//! Evaluation of a reading: (rule, reading) → condition of each level, without regard to earlier readings.

use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

use crate::domain::balance::{Persistence, Reading, Unreadable};
use crate::domain::money::Currency;
use crate::domain::rule::{Level, Rule, Severity, ThresholdAmount, ThresholdSide, ThresholdValue};

/// Condition of one level for one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelCondition {
    /// At or beyond `clear_at` on the safe side. The level clears.
    Clear,
    /// Between the threshold and `clear_at`. A level that fires continues to fire.
    Between,
    /// Beyond the threshold on the firing side.
    Breached,
    /// Not comparable with the value. The level stays as it is.
    NotEvaluated,
}

/// Evaluation of one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelEvaluation {
    /// Condition for the value.
    pub condition: LevelCondition,
    /// Time for which it must stay breached before the level fires.
    pub hold: Duration,
}

/// Evaluation of a rule; `None` for a level that the rule does not have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evaluation {
    /// Evaluation of the warning level.
    pub warning: Option<LevelEvaluation>,
    /// Evaluation of the critical level.
    pub critical: Option<LevelEvaluation>,
    /// Reason why one of the levels could not be evaluated. If none could, there is no evaluation.
    pub problem: Option<Box<Unreadable>>,
}

impl Evaluation {
    /// Creates an evaluation with one level.
    pub fn single(severity: Severity, level: LevelEvaluation) -> Self {
        match severity {
            Severity::Warning => Self { warning: Some(level), ..Self::default() },
            Severity::Critical => Self { critical: Some(level), ..Self::default() },
        }
    }

    /// Returns the evaluation of one level.
    pub fn level(&self, severity: Severity) -> Option<LevelEvaluation> {
        match severity {
            Severity::Warning => self.warning,
            Severity::Critical => self.critical,
        }
    }

    /// Returns the most severe level that is breached.
    pub fn breached(&self) -> Option<Severity> {
        [Severity::Critical, Severity::Warning]
            .into_iter()
            .find(|severity| self.level(*severity).is_some_and(|level| level.condition == LevelCondition::Breached))
    }

    /// Returns `true` if the rule has this level and it could be evaluated.
    pub fn is_evaluated(&self, severity: Severity) -> bool {
        self.level(severity).is_some_and(|level| level.condition != LevelCondition::NotEvaluated)
    }
}

/// Reason why a reading could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotEvaluated {
    /// Too little history. No action is needed, and no alert changes.
    NotYetKnown(String),
    /// Ledger or orders are being read for the first time. No alert changes, not even `unreadable`.
    NotYetRead(String),
    /// A failure, or amounts in different currencies.
    Unreadable(Unreadable),
}

impl fmt::Display for NotEvaluated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotEvaluated::NotYetKnown(why) | NotEvaluated::NotYetRead(why) => write!(f, "not yet known: {why}"),
            NotEvaluated::Unreadable(why) => f.write_str(&why.reason),
        }
    }
}

/// Evaluates a reading. A threshold in another currency than the account reports is a problem and is not compared; the other
/// level is still evaluated.
pub fn evaluate(rule: &Rule, reading: &Reading) -> Result<Evaluation, NotEvaluated> {
    evaluate_in(rule, reading, None)
}

/// Evaluates a reading for an alert that fires on amounts in `alert_currency`. A level without a currency is compared with amounts
/// in that currency only: JPY 5,000 is no recovery from USD 1,000.
pub fn evaluate_in(
    rule: &Rule,
    reading: &Reading,
    alert_currency: Option<Currency>,
) -> Result<Evaluation, NotEvaluated> {
    let value = match reading {
        Reading::Amount(money) => {
            Some(ThresholdValue::from(ThresholdAmount { value: money.amount, currency: Some(money.currency) }))
        }
        Reading::Time(lasts) => Some(ThresholdValue::from(*lasts)),
        Reading::Unlimited => None,
        Reading::NotYetKnown(why) => return Err(NotEvaluated::NotYetKnown(why.clone())),
        Reading::NotYetRead(why) => return Err(NotEvaluated::NotYetRead(why.clone())),
        Reading::Unreadable(why) => return Err(NotEvaluated::Unreadable(why.clone())),
    };
    // A reading in another unit than the levels would be beyond no threshold, and so resolve alerts.
    if value.is_some_and(|value| value.unit() != rule.metric.unit()) {
        let reason = format!("rule {} received a reading in another unit than {}", rule.name, rule.metric);
        return Err(NotEvaluated::Unreadable(Unreadable { persistence: Persistence::Transient, reason }));
    }
    let reported = value.and_then(ThresholdValue::currency);
    let compares = |level: &Level| match (reported, level.currency().or(alert_currency)) {
        (Some(reported), Some(expected)) => reported == expected,
        _ => true,
    };
    let evaluate_level = |severity| {
        let level = rule.level(severity)?;
        let condition = if compares(level) { level_condition(level, value) } else { LevelCondition::NotEvaluated };
        Some(LevelEvaluation { condition, hold: level.hold })
    };
    let mut evaluation = Evaluation {
        warning: evaluate_level(Severity::Warning),
        critical: evaluate_level(Severity::Critical),
        problem: None,
    };
    let levels = [evaluation.warning, evaluation.critical];
    let any_level =
        |predicate: fn(&LevelCondition) -> bool| levels.iter().flatten().any(|level| predicate(&level.condition));
    if let Some(reported) = reported.filter(|_| any_level(|condition| *condition == LevelCondition::NotEvaluated)) {
        let problem = currency_mismatch(rule, reported, alert_currency);
        if !any_level(|condition| *condition != LevelCondition::NotEvaluated) {
            return Err(NotEvaluated::Unreadable(problem));
        }
        evaluation.problem = Some(Box::new(problem));
    }
    Ok(evaluation)
}

/// Describes why levels of this rule cannot be compared with amounts in the reported currency.
fn currency_mismatch(rule: &Rule, reported: Currency, alert_currency: Option<Currency>) -> Unreadable {
    let named = rule.currency().filter(|named| *named != reported).map(|named| {
        let own: Vec<Severity> = [Severity::Warning, Severity::Critical]
            .into_iter()
            .filter(|severity| rule.level(*severity).is_some_and(|level| level.currency().is_some()))
            .collect();
        let (what, write) = match own.as_slice() {
            [one] if rule.levels().count() > 1 => (format!("its {one} threshold"), "that threshold"),
            _ => ("its thresholds".to_owned(), "the thresholds"),
        };
        format!(
            "rule {} has {what} in {named}, but CertCentral reports amounts in {reported}: \
             write {write} in {reported}, or without a currency",
            rule.name
        )
    });
    let names_none = rule.levels().any(|level| level.currency().is_none());
    let changed = alert_currency.filter(|alerted| names_none && *alerted != reported).map(|alerted| {
        format!(
            "rule {} alerted on an amount in {alerted}, but CertCentral reports amounts in {reported} now: \
             write its thresholds with their currency, or give this account a rule of its own",
            rule.name
        )
    });
    let reasons: Vec<String> = named.into_iter().chain(changed).collect();
    Unreadable { persistence: Persistence::Permanent, reason: reasons.join("; ") }
}

/// Returns the condition of a level. `None` is unlimited, above every threshold.
fn level_condition(level: &Level, value: Option<ThresholdValue>) -> LevelCondition {
    let firing_side = match level.side() {
        ThresholdSide::Below => Ordering::Less,
        ThresholdSide::Above => Ordering::Greater,
    };
    let beyond = |bound| value.map_or(Some(Ordering::Greater), |value| value.compare(bound)) == Some(firing_side);
    match (beyond(level.threshold()), beyond(level.clear_at())) {
        (true, _) => LevelCondition::Breached,
        (false, true) => LevelCondition::Between,
        (false, false) => LevelCondition::Clear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::money::{Currency, Money, parse_amount};
    use crate::domain::rule::{Metric, RuleError, ThresholdAmount};

    fn amount(text: &str) -> ThresholdAmount {
        ThresholdAmount { value: parse_amount(text).unwrap(), currency: None }
    }

    fn rule(side: ThresholdSide, threshold: &str, clear_at: Option<&str>) -> Rule {
        let level = Level::new(side, amount(threshold), clear_at.map(amount)).unwrap();
        Rule::new("funds".into(), Metric::AvailableFunds, Some(level), None).unwrap()
    }

    fn usd(text: &str) -> Reading {
        Reading::Amount(Money::new(parse_amount(text).unwrap(), Currency::parse("USD").unwrap()))
    }

    fn warning_condition(rule: &Rule, reading: &Reading) -> LevelCondition {
        evaluate(rule, reading).unwrap().warning.unwrap().condition
    }

    #[test]
    fn thresholds_are_strict_and_levels_clear_at_their_clear_at() {
        use LevelCondition::{Between, Breached, Clear};
        let below = rule(ThresholdSide::Below, "2000", Some("2500"));
        for (value, want) in
            [("1999.99999999", Breached), ("2000", Between), ("2499.99", Between), ("2500", Clear), ("-1", Breached)]
        {
            assert_eq!(warning_condition(&below, &usd(value)), want, "{value}");
        }
        let above = rule(ThresholdSide::Above, "1000", Some("0"));
        for (value, want) in [("1000.01", Breached), ("1000", Between), ("0.01", Between), ("0", Clear), ("-5", Clear)]
        {
            assert_eq!(warning_condition(&above, &usd(value)), want, "{value}");
        }
        let plain = rule(ThresholdSide::Below, "2000", None);
        assert_eq!(warning_condition(&plain, &usd("2000")), Clear);
    }

    #[test]
    fn unlimited_is_above_every_threshold() {
        assert_eq!(
            warning_condition(&rule(ThresholdSide::Below, "2000", None), &Reading::Unlimited),
            LevelCondition::Clear
        );
        assert_eq!(
            warning_condition(&rule(ThresholdSide::Above, "2000", None), &Reading::Unlimited),
            LevelCondition::Breached
        );
    }

    #[test]
    fn a_runway_is_compared_with_durations_and_with_nothing_else() {
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        let level = Level::new(ThresholdSide::Below, days(14), Some(days(21))).unwrap();
        let rule = Rule::new("runway".into(), Metric::Runway, Some(level.clone()), None).unwrap();
        for (lasts, want) in
            [(13, LevelCondition::Breached), (14, LevelCondition::Between), (21, LevelCondition::Clear)]
        {
            assert_eq!(warning_condition(&rule, &Reading::Time(days(lasts))), want, "{lasts}");
        }
        assert_eq!(warning_condition(&rule, &Reading::Unlimited), LevelCondition::Clear);
        assert!(matches!(evaluate(&rule, &usd("1")), Err(NotEvaluated::Unreadable(_))));
        assert!(matches!(
            evaluate(&rule, &Reading::NotYetKnown("young".to_owned())),
            Err(NotEvaluated::NotYetKnown(_))
        ));
        let error = Rule::new("funds".into(), Metric::AvailableFunds, Some(level), None).unwrap_err();
        assert_eq!(error.to_string(), "available_funds is measured in money");
    }

    #[test]
    fn a_threshold_in_another_currency_is_reported_never_compared() {
        let eur = ThresholdAmount { currency: Some(Currency::parse("EUR").unwrap()), ..amount("2000") };
        let level = Level::new(ThresholdSide::Below, eur, None).unwrap();
        let rule = Rule::new("funds".into(), Metric::AvailableFunds, Some(level), None).unwrap();
        let Err(NotEvaluated::Unreadable(why)) = evaluate(&rule, &usd("1")) else { panic!("compared") };
        assert_eq!(why.persistence, Persistence::Permanent);
        assert_eq!(
            why.reason,
            "rule funds has its thresholds in EUR, but CertCentral reports amounts in USD: \
             write the thresholds in USD, or without a currency"
        );
    }

    #[test]
    fn a_level_in_another_currency_leaves_the_other_to_be_evaluated() {
        let of = |text: &str, currency: Option<&str>| {
            let currency = currency.map(|code| Currency::parse(code).unwrap());
            Level::new(ThresholdSide::Below, ThresholdAmount { currency, ..amount(text) }, None).ok()
        };
        let rule = |warning, critical| Rule::new("funds".into(), Metric::AvailableFunds, warning, critical).unwrap();
        let warning_in_eur = rule(of("2000", Some("EUR")), of("500", None));
        let evaluation = evaluate(&warning_in_eur, &usd("88")).unwrap();
        assert_eq!(evaluation.breached(), Some(Severity::Critical));
        assert!(!evaluation.is_evaluated(Severity::Warning));
        assert_eq!(
            evaluation.problem.unwrap().reason,
            "rule funds has its warning threshold in EUR, but CertCentral reports amounts in USD: \
             write that threshold in USD, or without a currency"
        );
        let critical_in_eur = rule(of("2000", None), of("500", Some("EUR")));
        let evaluation = evaluate(&critical_in_eur, &usd("88")).unwrap();
        assert_eq!(evaluation.breached(), Some(Severity::Warning));
        assert!(evaluation.problem.is_some() && !evaluation.is_evaluated(Severity::Critical));
        // Unlimited funds have no currency.
        assert_eq!(evaluate(&critical_in_eur, &Reading::Unlimited).unwrap().problem, None);
        // The level without a currency fired on amounts in another currency than is reported now.
        let jpy = Some(Currency::parse("JPY").unwrap());
        let Err(NotEvaluated::Unreadable(why)) = evaluate_in(&critical_in_eur, &usd("88"), jpy) else {
            panic!("compared")
        };
        assert!(why.reason.contains("critical threshold in EUR") && why.reason.contains("an amount in JPY"), "{why:?}");
    }

    #[test]
    fn impossible_levels_do_not_exist() {
        assert!(matches!(
            Level::new(ThresholdSide::Below, amount("2000"), Some(amount("1999"))),
            Err(RuleError::ClearsWhereItFires { .. })
        ));
        let level = |side, at| Some(Level::new(side, amount(at), None).unwrap());
        let rule = |warning, critical| Rule::new("r".into(), Metric::Balance, warning, critical).unwrap_err();
        assert_eq!(rule(None, None), RuleError::NoLevel);
        assert!(matches!(
            rule(level(ThresholdSide::Below, "5"), level(ThresholdSide::Below, "6")),
            RuleError::Swapped { .. }
        ));
        assert_eq!(rule(level(ThresholdSide::Below, "5"), level(ThresholdSide::Above, "6")), RuleError::OppositeSides);
    }
}
