//! The picture of a fund ([`FundChart`]): as PNG for mails, as SVG for pages, and in words for who sees no picture.
//!
//! Pure: the same chart gives the same bytes. Amounts stay decimals until they are a place on an axis; floats
//! only measure pixels inside the drawing library. Drawing takes some tens of milliseconds: not for async threads.

mod alt_text;
mod axis;
mod draw;
mod encode;

use std::sync::OnceLock;

use chrono_tz::Tz;
use plotters::backend::{BitMapBackend, SVGBackend};
use plotters::style::{FontStyle, register_font};

use crate::domain::forecast::FundChart;
pub use alt_text::alt_text;
pub(crate) use alt_text::share_text;

/// Pixels of a picture, twice of what a mail shows: sharp on phones too.
pub const WIDTH: u32 = 1120;
/// Pixels of a picture.
pub const HEIGHT: u32 = 680;

/// The family that the embedded font stands for here; SVG readers take their own of that name.
const FAMILY: &str = "sans-serif";
/// A subset of `DejaVu` Sans; its licence is beside it.
const FONT: &[u8] = include_bytes!("dejavu-sans.ttf");

/// A picture could not be drawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the chart cannot be drawn: {0}")]
pub struct DrawError(String);

impl DrawError {
    fn new(why: impl std::fmt::Display) -> Self {
        Self(why.to_string())
    }
}

/// The chart as a PNG of [`WIDTH`] × [`HEIGHT`], its dates as a clock in `zone` shows them.
pub fn png(chart: &FundChart, zone: Tz) -> Result<Vec<u8>, DrawError> {
    register_embedded_font()?;
    let mut pixels = vec![0xff; (WIDTH * HEIGHT * 3) as usize];
    draw::draw(chart, zone, BitMapBackend::with_buffer(&mut pixels, (WIDTH, HEIGHT)))?;
    encode::png(&pixels).map_err(DrawError::new)
}

/// The chart as an SVG element for a page: as wide as its place, with its text alternative.
pub fn svg(chart: &FundChart, zone: Tz) -> Result<String, DrawError> {
    register_embedded_font()?;
    let mut drawn = String::new();
    draw::draw(chart, zone, SVGBackend::with_string(&mut drawn, (WIDTH, HEIGHT)))?;
    let inside = drawn.split_once('>').map_or("", |(_, inside)| inside);
    let label = alt_text(chart, zone).replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\" \
         style=\"width:100%;max-width:{}px;height:auto;\">{inside}",
        WIDTH / 2
    ))
}

/// The font is the library's to keep: it is handed over once.
fn register_embedded_font() -> Result<(), DrawError> {
    static READY: OnceLock<bool> = OnceLock::new();
    let ready = READY.get_or_init(|| register_font(FAMILY, FontStyle::Normal, FONT).is_ok());
    if *ready { Ok(()) } else { Err(DrawError::new("the embedded font cannot be read")) }
}

#[cfg(test)]
mod tests;
