//! Appearance of reports, and Slack's limits for any number of divisions.

use std::collections::BTreeMap;

use chrono::{Duration, TimeZone, Utc};

use super::*;
use crate::domain::Time;
use crate::domain::event::EventSubject;
use crate::domain::report::FundFigures;
use crate::domain::silence::Silence;
use crate::notify::Message;
use crate::notify::channels::email::rendering::email;
use crate::notify::channels::slack::blocks::payload;
use crate::notify::message::sample;

fn now() -> Time {
    Utc.with_ymd_and_hms(2026, 11, 23, 8, 0, 0).unwrap()
}

fn many(n: u64, name_of: impl Fn(u64) -> String) -> Message {
    let EventSubject::Report(mut page) = sample::report("weekly".into(), now()) else { panic!() };
    let proto = page.rows.clone();
    page.rows = (0..n)
        .map(|id| {
            let mut row = proto[(id / 4 % 3) as usize].clone();
            row.figures = FundFigures { division: Some(id), division_name: Some(name_of(id)), ..row.figures };
            row
        })
        .collect();
    page.rows.sort_by_key(|row| (row.rank(), row.figures.division));
    sample::message(vec![EventSubject::Report(page)], now())
}

#[test]
fn a_report_reads_well() {
    let message = sample::message(vec![sample::report("weekly".into(), now())], now());
    let mail = email(&message, &sample::context());
    insta::assert_snapshot!(format!("{}\n\n{}", mail.subject, mail.text));
    let body = payload(&message, &sample::context(), &BTreeMap::new());
    insta::assert_snapshot!(serde_json::to_string_pretty(&body).unwrap());
    insta::assert_snapshot!(mail.html);
}

#[test]
fn rules_without_a_result_do_not_make_read_funds_unreadable() {
    let EventSubject::Report(page) = sample::report("weekly".into(), now()) else { panic!() };
    let (standing, times) = (page.rows[0].alerts[0].clone(), TimeFormatter { zone: chrono_tz::Tz::UTC, now: now() });
    let unevaluated_rules = ReportAlert {
        rule: UNREADABLE.into(),
        level: Severity::Warning,
        unevaluated_rules: vec!["runway".into()],
        ..standing
    };
    let remarks = |unreadable: Option<&str>| {
        let unreadable = unreadable.map(str::to_owned);
        let row = ReportRow { alerts: vec![unevaluated_rules.clone()], unreadable, ..page.rows[0].clone() };
        (row.rank(), report_line(&row, times).remarks[0].clone())
    };
    let since = "warning since Sun 22 Nov, 08:00 UTC";
    assert_eq!(remarks(None), (ReportRowRank::Warning, format!("rule runway cannot be evaluated: {since}")));
    assert_eq!(remarks(Some("503")), (ReportRowRank::Unreadable, format!("unreadable: {since}")));
}

#[test]
fn five_hundred_divisions_fit_and_the_rest_is_counted() {
    for name in [|id| format!("Division {id}"), |id: u64| format!("<!channel> & *{}* {id}", "x".repeat(200))] {
        let message = many(500, name);
        let body = payload(&message, &sample::context(), &BTreeMap::new());
        let attachments = body["attachments"].as_array().unwrap();
        let blocks: usize = attachments.iter().map(|it| it["blocks"].as_array().unwrap().len()).sum();
        assert!(blocks <= 50, "{blocks}");
        let sections = attachments.iter().flat_map(|it| it["blocks"].as_array().unwrap());
        assert!(sections.filter_map(|it| it["text"]["text"].as_str()).all(|text| text.encode_utf16().count() <= 3000));
        let json = body.to_string();
        assert!(json.chars().count() < 15_000, "{}", json.len());
        assert!(!json.contains("<!channel>"));
        assert!(json.contains(" more: ") && json.contains(" ok"), "{json}");
        assert_eq!(body["text"], "Report weekly · 500 divisions: 168 critical, 168 unreadable, 164 ok");
        let mail = email(&message, &sample::context());
        assert_eq!(mail.html.matches("border-left:4px").count(), 500);
        assert!(!mail.html.contains("<!channel>"));
    }
}

#[test]
fn a_fallback_and_a_failing_notifier_are_noted() {
    let EventSubject::Report(mut page) = sample::report("weekly".into(), now()) else { panic!() };
    page.failing = vec![("chat".into(), now() - Duration::hours(2))];
    page.compared_with = None;
    let times = TimeFormatter { zone: chrono_tz::Tz::UTC, now: now() };
    let view = view(&page, Some("Sent here because chat could not deliver: 404".to_owned()), times);
    assert_eq!(view.summary, "As of Mon 23 Nov, 08:00 UTC.");
    assert_eq!(view.notes[1], "Notifier chat has failed since Mon 23 Nov, 06:00 UTC.");
}

#[test]
fn many_silences_and_failing_notifiers_fit_or_are_counted() {
    let EventSubject::Report(mut page) = sample::report("weekly".into(), now()) else { panic!() };
    let one = page.silences[0].clone();
    page.silences = vec![Silence { reason: Some("<!channel> & more ".repeat(16)), ..one }; 300];
    page.failing = vec![("n".repeat(64).as_str().into(), now()); 100];
    let message = sample::message(vec![EventSubject::Report(page)], now());
    let body = payload(&message, &sample::context(), &BTreeMap::new());
    let attachments = body["attachments"].as_array().unwrap();
    let elements = attachments.iter().filter_map(|it| it["blocks"][0]["elements"][0]["text"].as_str());
    let longest = elements.map(|text| text.encode_utf16().count()).max().unwrap();
    assert!((1000..=3000).contains(&longest), "{longest}");
    let json = body.to_string();
    assert!(json.contains("and 292 more silences") && !json.contains("<!channel>"), "{json}");
    let mail = email(&message, &sample::context());
    assert!(mail.text.contains("and 200 more silences") && mail.html.contains("and 200 more silences"));
}
