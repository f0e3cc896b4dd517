//! Documented values are read exactly. Undocumented ones are named field by field, and never become 0.
#![allow(clippy::unwrap_used)]

use rust_decimal::Decimal;

use super::*;
use crate::domain::balance::FieldProblem;
use crate::domain::money::{Currency, parse_amount};
use crate::util::secret::Secret;

fn read(body: &str) -> Result<Balance, BodyProblem> {
    balance(body.as_bytes(), &Redactor::default())
}

fn decimal(text: &str) -> Decimal {
    parse_amount(text).unwrap()
}

#[test]
fn both_documented_examples_are_read() {
    let limited = read(
        r#"{"balance":"454.00","currency":"USD","unpaid_invoice_balance":"0.00","negative_balance_limit":"2000.00",
            "used_credit_from_other_containers":"0.00","total_available_funds":"2454.00"}"#,
    )
    .unwrap();
    assert_eq!(limited.balance, Ok(decimal("454")));
    assert_eq!(limited.credit_limit, Ok(Some(decimal("2000"))));
    assert_eq!(limited.reported_total, Ok(Some(decimal("2454"))));
    assert_eq!(limited.unlimited, Ok(false));
    assert_eq!(limited.currency, Ok(Currency::parse("USD").unwrap()));
    let unlimited = read(
        r#"{"balance":"-1000.70","currency":"USD","unpaid_invoice_balance":"0.00",
            "used_credit_from_other_containers":"0.00","unlimited_negative_balance":true}"#,
    )
    .unwrap();
    assert_eq!(unlimited.balance, Ok(decimal("-1000.70")));
    assert_eq!((unlimited.credit_limit, unlimited.reported_total), (Ok(None), Ok(None)));
    assert_eq!(unlimited.unlimited, Ok(true));
}

#[test]
fn numbers_are_read_as_exactly_as_strings() {
    for (json, text) in [
        ("12.5", "12.5"),
        ("-0.1", "-0.1"),
        ("195", "195"),
        ("1e3", "1000"),
        ("9007199254740993.07", "9007199254740993.07"),
    ] {
        let body = format!(r#"{{"currency":"USD","balance":{json}}}"#);
        assert_eq!(read(&body).unwrap().balance, Ok(decimal(text)), "{json}");
    }
}

#[test]
fn absent_fields_have_their_documented_meaning() {
    let bare = read(r#"{"balance":"1","currency":"EUR"}"#).unwrap();
    assert_eq!((bare.unpaid_invoices, bare.used_credit), (Ok(Decimal::ZERO), Ok(Decimal::ZERO)));
    assert_eq!((bare.credit_limit, bare.reported_total, bare.unlimited), (Ok(None), Ok(None), Ok(false)));
    assert_eq!(read(r#"{"balance":"1"}"#).unwrap().currency.unwrap_err().problem, "is missing");
    assert_eq!(read(r#"{"currency":"EUR"}"#).unwrap().balance.unwrap_err().problem, "is missing");
}

#[test]
fn a_malformed_field_is_unreadable_alone_and_shows_its_value() {
    let table = [
        (r#""1,500.00""#, r#"found "1,500.00""#),
        (r#""NaN""#, r#"found "NaN""#),
        (r#""""#, r#"found """#),
        ("null", "found null"),
        ("true", "found true"),
        ("[1]", "found a list"),
        (r#"{"a":1}"#, "found an object"),
        ("\"\u{ff15}\u{ff10}\"", "found \"\u{ff15}\u{ff10}\""),
        (r#"" 5""#, r#"found " 5""#),
        (r#""1e3""#, r#"found "1e3""#),
        (r#""a\nb\u0000""#, r#"found "a\nb\u{0}""#),
        ("1e99", "found 1e99"),
    ];
    for key in [
        "balance",
        "unpaid_invoice_balance",
        "used_credit_from_other_containers",
        "negative_balance_limit",
        "total_available_funds",
    ] {
        for (json, expected) in table {
            let others = if key == "balance" { r#""currency":"USD""# } else { r#""currency":"USD","balance":"7""# };
            let read = read(&format!(r#"{{{others},"{key}":{json}}}"#)).unwrap();
            let problems: Vec<Box<FieldProblem>> = [
                read.balance.err(),
                read.unpaid_invoices.err(),
                read.used_credit.err(),
                read.credit_limit.err(),
                read.reported_total.err(),
                read.currency.err(),
                read.unlimited.err(),
            ]
            .into_iter()
            .flatten()
            .collect();
            assert_eq!(problems.len(), 1, "{key} {json}");
            assert_eq!(problems[0].field, key);
            assert!(problems[0].problem.contains(expected), "{}", problems[0].problem);
        }
    }
    for json in ["null", "\"true\"", "1", "\"\"", "[]"] {
        let read = read(&format!(r#"{{"currency":"USD","balance":"7","unlimited_negative_balance":{json}}}"#)).unwrap();
        assert!(read.unlimited.is_err(), "{json}");
    }
    for json in ["null", "7", "\"\"", "\"U$D\"", "\"ABCDEFGHIJKLM\""] {
        assert!(read(&format!(r#"{{"currency":{json},"balance":"7"}}"#)).unwrap().currency.is_err(), "{json}");
    }
}

#[test]
fn a_shown_value_is_short_and_contains_no_secret() {
    let redactor = Redactor::default();
    redactor.learn(&Secret::new("KEY-0123456789"));
    let body = format!(r#"{{"currency":"KEY-0123456789","balance":"{}"}}"#, "x".repeat(500));
    let read = balance(body.as_bytes(), &redactor).unwrap();
    assert!(read.balance.unwrap_err().problem.chars().count() < 100);
    assert_eq!(read.currency.unwrap_err().problem, r#"is not a currency code (found "***")"#);
}

#[test]
fn bodies_without_a_balance_are_described() {
    let deep = format!(r#"{{"a":{}"#, "[".repeat(900_000));
    let cases: [(&[u8], &str); 12] = [
        (b"", "is empty"),
        (b"<html><body>Sorry</body></html>", "it begins with: <html>"),
        (b"[]", "is not a JSON object"),
        (b"\"454.00\"", "is not a JSON object"),
        (b"null", "is not a JSON object"),
        (b"\xff\xfe{}", "is not UTF-8"),
        (b"{\"balance\":\"1\",\"currency\":\"\xff\"}", "is not UTF-8"),
        (br#"{"balance":"1","balance":"2","currency":"USD"}"#, "duplicate field `balance`"),
        (br#"{"balance":"1","currency":"USD"} {}"#, "trailing"),
        (br#"{"balance":"1","curr"#, "EOF"),
        (br#"{"errors":[{"code":"access_denied","message":"No"}]}"#, "access_denied (No)"),
        (deep.as_bytes(), "is not the documented JSON"),
    ];
    for (body, expected) in cases {
        let problem = balance(body, &Redactor::default()).unwrap_err();
        assert!(problem.contains(expected), "{problem}");
        assert!(problem.chars().count() < 220, "{problem}");
    }
}

#[test]
fn unknown_keys_are_ignored_at_any_depth() {
    let deep = format!(r#"{{"new":{}{},"balance":"1","currency":"USD"}}"#, "[".repeat(200_000), "]".repeat(200_000));
    assert_eq!(read(&deep).unwrap().balance, Ok(Decimal::ONE));
    assert_eq!(read("\u{feff}{\"balance\":\"1\",\"currency\":\"USD\"}\n").unwrap().balance, Ok(Decimal::ONE));
}

fn listing(items: &str) -> Result<Vec<ListedDivision>, BodyProblem> {
    divisions(format!(r#"{{"containers":{items}}}"#).as_bytes(), &Redactor::default())
}

#[test]
fn missing_fields_of_a_division_are_filled_in() {
    let read = listing(
        r#"[{"id":5,"name":"History <!channel>","is_active":true},{"id":"6"},{"id":7,"name":null,"is_active":false},
            {"id":8,"name":"  ","is_active":null},{"id":5,"name":"again"}]"#,
    )
    .unwrap();
    let summary: Vec<(u64, &str, bool)> =
        read.iter().map(|division| (division.id, division.name.as_str(), division.active)).collect();
    assert_eq!(
        summary,
        [(5, "History <!channel>", true), (6, "division 6", true), (7, "division 7", false), (8, "division 8", true)]
    );
    assert_eq!(listing("[]").unwrap(), []);
}

#[test]
fn a_listing_with_an_unreadable_division_is_refused() {
    for (items, expected) in [
        (r#"[{"id":1},{"name":"Arts"}]"#, "lists a division without an `id` called \"Arts\" (item 2)"),
        (r#"[{"id":-1,"name":"Arts"}]"#, "called \"Arts\" whose `id` is not a number: -1"),
        (r#"[{"id":1.5}]"#, "whose `id` is not a number: 1.5"),
        (r#"[{"id":null}]"#, "whose `id` is not a number: null"),
        (r#"[{"id":""}]"#, "whose `id` is not a number"),
        ("[7]", "in an undocumented form: 7"),
        (r#"[[1,"a",true]]"#, "in an undocumented form: a list"),
        (r#"{"id":1}"#, "is not the documented JSON"),
        ("null", "is not the documented JSON"),
    ] {
        let problem = listing(items).unwrap_err();
        assert!(problem.contains(expected), "{problem}");
    }
    assert!(divisions(b"{}", &Redactor::default()).unwrap_err().contains("containers"));
}

#[test]
fn error_bodies_are_read_with_tolerance() {
    let message = |body: &str| errors(body.as_bytes(), &Redactor::default());
    let full = r#"{"errors":[{"code":"access_denied|missing_permission","message":"You do not"},{"code":7},{"message":"m"},"s"]}"#;
    assert_eq!(message(full).unwrap(), "access_denied|missing_permission (You do not); 7; m");
    for none in ["", "Forbidden", "{}", r#"{"errors":[]}"#, r#"{"errors":"x"}"#, r#"{"errors":[[],{}]}"#, "[1]"] {
        assert_eq!(message(none), None, "{none}");
    }
}

#[test]
fn errors_in_a_200_are_shown_short_and_without_the_key() {
    let redactor = Redactor::default();
    redactor.learn(&Secret::new("hunter2-hunter2-key"));
    let body = format!(r#"{{"errors":[{{"code":"denied","message":"hunter2-hunter2-key\n{}"}}]}}"#, "x".repeat(10_000));
    let problem = balance(body.as_bytes(), &redactor).unwrap_err();
    assert!(problem.starts_with("has neither `balance` nor `currency` (it reports denied (*** xxx"), "{problem}");
    assert!(problem.chars().count() < 300 && !problem.contains('\n'), "{problem}");
}
