//! Figures that miss their target, as `docs/forecast.md` lists them.

use crate::accounts::AccountKind;

/// Cells that miss their target, as listed below the table in `docs/forecast.md`.
pub(super) const KNOWN_MISSES: &[(AccountKind, &str)] = &[
    (AccountKind::Growing, "runway of 15, early"),
    (AccountKind::Growing, "runway of 30, early"),
    (AccountKind::Growing, "runway of 60, early"),
    (AccountKind::QuarterlyBatch, "60 days"),
    (AccountKind::StepUp, "60 days"),
    (AccountKind::StepUp, "runway of 60"),
    (AccountKind::OneDayAWeek, "runway of 15"),
    (AccountKind::OneDayAWeek, "runway of 30"),
    (AccountKind::OneDayAWeek, "runway of 60"),
    (AccountKind::YearlyRush, "30 days"),
    (AccountKind::YearlyRush, "60 days"),
    (AccountKind::YearlyRush, "runway of 60"),
    (AccountKind::YearlyRush, "runway of 30, early"),
    (AccountKind::YearlyRush, "runway of 60, early"),
    (AccountKind::PayrollBatches, "14 days"),
    (AccountKind::PayrollBatches, "30 days"),
    (AccountKind::PayrollBatches, "60 days"),
    (AccountKind::PayrollBatches, "runway of 15"),
    (AccountKind::PayrollBatches, "runway of 30"),
    (AccountKind::PayrollBatches, "runway of 60"),
    (AccountKind::UnequalOrders, "30 days"),
    (AccountKind::UnequalOrders, "60 days"),
    (AccountKind::UnequalOrders, "runway of 30, early"),
    (AccountKind::UnequalOrders, "runway of 60, early"),
    (AccountKind::RenewalsSteady, "runway of 60, early"),
    (AccountKind::RenewalsByAutomation, "7 days"),
    (AccountKind::RenewalsByAutomation, "14 days"),
    (AccountKind::RenewalsByAutomation, "runway of 15"),
    (AccountKind::RenewalsByAutomation, "runway of 60"),
    (AccountKind::GrowingByRenewals, "30 days"),
    (AccountKind::GrowingByRenewals, "60 days"),
    (AccountKind::GrowingByRenewals, "runway of 60"),
    (AccountKind::GrowingByRenewals, "runway of 15, early"),
    (AccountKind::GrowingByRenewals, "runway of 30, early"),
    (AccountKind::GrowingByRenewals, "runway of 60, early"),
    (AccountKind::ProductChange, "runway of 30, early"),
    (AccountKind::RenewalsAndBatches, "runway of 30, early"),
    (AccountKind::RenewalsAtMonthEnd, "60 days"),
    (AccountKind::RenewalsAtMonthEnd, "runway of 30"),
    (AccountKind::LargeOrdersRenewedEarly, "14 days"),
    (AccountKind::LargeOrdersRenewedEarly, "30 days"),
    (AccountKind::LargeOrdersRenewedEarly, "60 days"),
    (AccountKind::LargeOrdersRenewedEarly, "runway of 30"),
    (AccountKind::LargeOrdersRenewedEarly, "runway of 60"),
    (AccountKind::LargeOrdersRenewedEarly, "runway of 15, early"),
    (AccountKind::LargeOrdersRenewedEarly, "runway of 30, early"),
    (AccountKind::LargeOrdersRenewedEarly, "runway of 60, early"),
    (AccountKind::WildcardsReplaceOrders, "runway of 60, early"),
];
/// Group rows that miss their target.
pub(super) const GROUP_MISSES: &[(&str, &str)] = &[
    ("renewals, held out at first, then tuned on", "60 days"),
    ("renewals, held out at first, then tuned on", "runway of 30, early"),
    ("renewals, held out at first, then tuned on", "runway of 60, early"),
];
/// Renewing kinds and columns in which the error of the median is not at least a third smaller than that of the mean
/// of the last 30 days.
pub(super) const NOT_A_THIRD_CLOSER: &[(AccountKind, &str)] = &[
    (AccountKind::EverySecondNew, "runway of 15"),
    (AccountKind::YoungerThanAYear, "30 days"),
    (AccountKind::GrowingByRenewals, "30 days"),
    (AccountKind::GrowingByRenewals, "runway of 15"),
    (AccountKind::GrowingByRenewals, "runway of 60"),
    (AccountKind::RenewalsAndBatches, "30 days"),
    (AccountKind::RenewalsAndBatches, "runway of 15"),
];
