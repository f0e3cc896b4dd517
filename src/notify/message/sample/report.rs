//! A sample report.

use chrono::Duration;
use rust_decimal::Decimal;

use super::{DIVISION, DIVISION_NAME, REASON};
use crate::domain::balance::MetricValue;
use crate::domain::event::EventSubject;
use crate::domain::money::{Currency, Money};
use crate::domain::report::{FundFigures, ReportAlert, ReportPage, ReportRow};
use crate::domain::rule::Severity;
use crate::domain::silence::Silence;
use crate::domain::{Name, Time};

/// Returns a report about three divisions: one critical, one that cannot be read, one ok.
pub fn report(name: Name, now: Time) -> EventSubject {
    let week = Duration::days(7);
    EventSubject::Report(Box::new(ReportPage {
        name,
        due: now,
        compared_with: Some(now - week),
        next: Some(now + week),
        rows: rows(now),
        silences: vec![silence(now)],
        failing: Vec::new(),
    }))
}

fn usd(amount: i64) -> Option<Money> {
    Currency::parse("USD").ok().map(|currency| Money::new(Decimal::from(amount), currency))
}

fn rows(now: Time) -> Vec<ReportRow> {
    let figures = |id, division: &str, funds| FundFigures {
        at: Some(now),
        funds: usd(funds).map(MetricValue::Amount),
        unpaid: usd(0),
        ..FundFigures::never_read("acme".into(), Some(id), Some(division.to_owned()))
    };
    let alert = ReportAlert {
        rule: "available-funds".into(),
        level: Severity::Critical,
        firing: true,
        since: Some(now - Duration::days(1)),
        silenced_until: None,
        unevaluated_rules: Vec::new(),
    };
    let before = |amount| usd(amount).map(MetricValue::Amount);
    vec![
        ReportRow {
            figures: FundFigures { unpaid: usd(1250), ..figures(DIVISION, DIVISION_NAME, 431) },
            unreadable: None,
            before: before(1631),
            alerts: vec![alert],
        },
        ReportRow {
            figures: FundFigures { at: Some(now - Duration::hours(4)), ..figures(11225, "Law school", 3120) },
            unreadable: Some(REASON.to_owned()),
            before: before(3120),
            alerts: Vec::new(),
        },
        ReportRow {
            figures: figures(11226, "Physics", 8088),
            unreadable: None,
            before: before(5088),
            alerts: Vec::new(),
        },
    ]
}

fn silence(now: Time) -> Silence {
    Silence {
        account: "acme".into(),
        division: Some(11225),
        rule: None,
        until: now + Duration::days(2),
        reason: Some("PO 4711 raised".to_owned()),
        level: Severity::Warning,
        created_at: Some(now - Duration::days(1)),
    }
}
