//! Tests that charts are legible, reproducible, and possible for any amounts and days.

use std::time::Instant;

use chrono::{Duration, TimeZone, Utc};
use proptest::prelude::*;
use rust_decimal::Decimal;

use super::*;
use crate::domain::Time;
use crate::domain::forecast::{ForecastBand, Runway};
use crate::domain::money::Currency;
use crate::domain::rule::Severity;

fn now() -> Time {
    Utc.with_ymd_and_hms(2026, 11, 23, 8, 15, 0).unwrap()
}

/// Returns a chart with four weeks down to 1,431, two renewals, and five weeks of forecast.
fn chart() -> FundChart {
    let day = |n: i64| now() + Duration::days(n);
    let step = |n: i64| Decimal::from(5431 - 1000 * (n / 7));
    let past = (0..=28).map(|n| (day(n - 28), step(n))).collect();
    let future = (1..=35).map(|n| ForecastBand {
        at: day(n),
        low: Decimal::from((1431 - 90 * n).max(-500)),
        middle: Decimal::from(1431 - 60 * n),
        high: Decimal::from(1431 - 30 * n),
    });
    FundChart {
        currency: Currency::parse("USD").unwrap(),
        now: now(),
        past,
        thresholds: vec![(Severity::Warning, Decimal::from(2000)), (Severity::Critical, Decimal::from(500))],
        renewals: vec![(day(5), Decimal::from(798)), (day(19), Decimal::new(119_700, 2))],
        runway: Runway::Until { about: Some(day(23)), early: Some(day(15)), late: None, percent: 90 },
        future: future.collect(),
        percent: 90,
    }
}

fn decoded(bytes: &[u8]) -> Vec<u8> {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((frame.width, frame.height, frame.buffer_size()), (WIDTH, HEIGHT, pixels.len()));
    pixels
}

#[test]
fn a_png_is_small_has_its_colours_and_is_reproducible() {
    let started = Instant::now();
    let bytes = png(&chart(), Tz::Europe__Amsterdam).unwrap();
    // Some ten milliseconds in a release build.
    assert!(started.elapsed() < Duration::seconds(30).to_std().unwrap());
    assert!(bytes.len() < 40_000, "{}", bytes.len());
    assert_eq!(bytes, png(&chart(), Tz::Europe__Amsterdam).unwrap());
    let pixels = decoded(&bytes);
    let has = |colour: [u8; 3]| pixels.chunks(3).filter(|pixel| *pixel == colour).count();
    for (colour, least) in [
        ([0x1a, 0x56, 0xc4], 3_000),
        ([0xd3, 0xe2, 0xfa], 10_000),
        ([0x8e, 0x63, 0xb5], 1_000),
        ([0xf2, 0xa1, 0x00], 3_000),
        ([0xc6, 0x28, 0x28], 3_000),
        ([0xff, 0xff, 0xff], 400_000),
    ] {
        assert!(has(colour) > least, "{colour:x?}: {}", has(colour));
    }
}

#[test]
fn the_alt_text_describes_the_chart() {
    insta::assert_snapshot!(alt_text(&chart(), Tz::Europe__Amsterdam), @"Chart of available funds from USD 5,431.00 on 26 Oct to USD 1,431.00 now; warning line at USD 2,000.00; critical line at USD 500.00; renewals due for USD 1,995.00 until 12 Dec; used up about 16 Dec (90 % likely from 8 Dec on).");
    let runway = Runway::NotYetKnown("the ledger is too short".to_owned());
    let (past, thresholds, renewals, future) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let little = FundChart { past, thresholds, renewals, runway, future, ..chart() };
    insta::assert_snapshot!(alt_text(&little, Tz::UTC), @"Chart of available funds; no forecast yet.");
}

#[test]
fn the_svg_has_the_same_content_and_the_alt_text() {
    let svg = svg(&chart(), Tz::UTC).unwrap();
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
    assert!(svg.contains("aria-label=\"Chart of available funds from USD 5,431.00"), "{svg}");
    for word in ["Available funds, USD", "forecast, 90 % likely", "warning 2,000", "critical 500", "today", "7 Dec"] {
        assert!(svg.contains(word), "{word} in {svg}");
    }
    assert_eq!(svg.matches("http").count(), 1, "only the name of SVG: {svg}");
}

#[test]
fn no_line_is_drawn_after_the_funds_are_gone() {
    // A forecast that falls below zero on the given day, with 35 days in total.
    let rightmost = |gone: i64| {
        let future = (1..=35).map(|n| ForecastBand {
            at: now() + Duration::days(n),
            low: Decimal::ZERO,
            middle: Decimal::from((gone - n).max(0) * 10),
            high: Decimal::from(500),
        });
        let svg = svg(&FundChart { future: future.collect(), ..chart() }, Tz::UTC).unwrap();
        let lines = svg.split("<polyline").filter(|line| line.contains("#1A56C4"));
        let points = lines.filter_map(|line| line.split("points=\"").nth(1)?.split('"').next());
        let across = points.flat_map(str::split_whitespace).filter_map(|point| point.split(',').next()?.parse().ok());
        across.fold(0.0_f64, f64::max)
    };
    let (early, late, never) = (rightmost(5), rightmost(20), rightmost(100));
    assert!(early > 0.0 && early + 50.0 < late && late + 50.0 < never, "{early} {late} {never}");
}

#[test]
fn every_drawn_character_is_in_the_font() {
    // A missing glyph is drawn as a box, which nobody can read.
    let text = "Available funds, warning critical today futures renewals due 0123456789.,\u{2212}TBM JanFebMarAprMayJunJulAugSepOctNovDec";
    let font = font_code_points(FONT);
    for sign in text.chars() {
        assert!(font.contains(&(sign as u32)), "{sign}");
    }
}

/// Returns the code points of a font's format 4 character map.
fn font_code_points(font: &[u8]) -> Vec<u32> {
    let u16_at = |at: usize| u32::from(u16::from_be_bytes([font[at], font[at + 1]]));
    let u32_at = |at: usize| (u16_at(at) << 16 | u16_at(at + 2)) as usize;
    let tables = u16_at(4) as usize;
    let table = (0..tables).map(|n| 12 + n * 16).find(|at| &font[*at..at + 4] == b"cmap").unwrap();
    let cmap = u32_at(table + 8);
    let maps = (0..u16_at(cmap + 2) as usize).map(|n| cmap + u32_at(cmap + 4 + n * 8 + 4));
    let map = maps.into_iter().find(|at| u16_at(*at) == 4).unwrap();
    let segments = (u16_at(map + 6) / 2) as usize;
    let ends = map + 14;
    let starts = ends + segments * 2 + 2;
    (0..segments).flat_map(|n| u16_at(starts + n * 2)..=u16_at(ends + n * 2)).collect()
}

fn amounts() -> impl Strategy<Value = Decimal> {
    prop_oneof![
        Just(Decimal::ZERO),
        Just(Decimal::MAX),
        Just(Decimal::MIN),
        Just(Decimal::new(1, 28)),
        (-1_000_000_i64..1_000_000).prop_map(|cents| Decimal::new(cents, 2)),
        any::<i64>().prop_map(Decimal::from),
    ]
}

fn times() -> impl Strategy<Value = Time> {
    prop_oneof![
        Just(Time::MIN_UTC),
        Just(Time::MAX_UTC),
        (-40_i64..40).prop_map(|days| now() + Duration::days(days)),
        (-8_000_000_000_000_i64..8_000_000_000_000).prop_map(|at| Time::from_timestamp(at, 0).unwrap_or_default()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_chart_can_be_drawn(
        now in prop_oneof![3 => Just(now()), 1 => times()],
        past in prop::collection::vec((times(), amounts()), 0..12),
        renewals in prop::collection::vec((times(), amounts()), 0..6),
        thresholds in prop::collection::vec((prop_oneof![Just(Severity::Warning), Just(Severity::Critical)], amounts()), 0..3),
        future in prop::collection::vec((times(), amounts(), amounts(), amounts()), 0..12),
        percent in any::<u8>(),
        zone in prop_oneof![Just(Tz::UTC), Just(Tz::Pacific__Apia), Just(Tz::America__Sao_Paulo)],
    ) {
        let future = future.into_iter().map(|(at, low, middle, high)| ForecastBand { at, low, middle, high }).collect();
        let chart = FundChart { currency: Currency::parse("USD").unwrap(), now, past, thresholds, renewals, runway: Runway::BeyondHorizon, future, percent };
        // SVG is drawn by the same code as PNG, in less time.
        if percent.is_multiple_of(8) {
            decoded(&png(&chart, zone).unwrap());
        }
        prop_assert!(svg(&chart, zone).unwrap().contains("</svg>"));
    }
}
