//! Chart of a fund ([`FundChart`]): as PNG for emails, as SVG for pages, and as a description in words.
//!
//! Pure: the same chart gives the same bytes. Amounts stay decimals until they become a position on an axis; floats only
//! measure pixels inside the drawing library. Drawing takes some tens of milliseconds: not for async threads.

mod alt_text;
mod axis;
mod draw;
mod encode;

use std::sync::OnceLock;

use chrono_tz::Tz;
use plotters::backend::{BitMapBackend, SVGBackend};
use plotters::style::{FontStyle, register_font};

use crate::domain::forecast::FundChart;
use crate::util::text::escape_html;
pub use alt_text::alt_text;
pub(crate) use alt_text::likelihood_text;

/// Width of the PNG in pixels. An email shows it at half this size, so that it is sharp on phones too.
pub const WIDTH: u32 = 1120;
/// Height of the PNG in pixels.
pub const HEIGHT: u32 = 680;

/// Font family that stands for the embedded font here. Programs that show the SVG use their own font of that name.
const FAMILY: &str = "sans-serif";
/// Subset of `DejaVu` Sans; its licence is in the same folder.
const FONT: &[u8] = include_bytes!("dejavu-sans.ttf");

/// Error of a chart that cannot be drawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the chart cannot be drawn: {0}")]
pub struct DrawError(String);

impl DrawError {
    fn new(why: impl std::fmt::Display) -> Self {
        Self(why.to_string())
    }
}

/// Draws the chart as a PNG of [`WIDTH`] × [`HEIGHT`], with dates in the zone.
pub fn png(chart: &FundChart, zone: Tz) -> Result<Vec<u8>, DrawError> {
    register_embedded_font()?;
    let mut pixels = vec![0xff; (WIDTH * HEIGHT * 3) as usize];
    draw::draw(chart, zone, BitMapBackend::with_buffer(&mut pixels, (WIDTH, HEIGHT)))?;
    encode::png(&pixels).map_err(DrawError::new)
}

/// Draws the chart as an SVG element for a page: as wide as its container, with a text alternative.
pub fn svg(chart: &FundChart, zone: Tz) -> Result<String, DrawError> {
    register_embedded_font()?;
    let mut drawn = String::new();
    draw::draw(chart, zone, SVGBackend::with_string(&mut drawn, (WIDTH, HEIGHT)))?;
    let inside = drawn.split_once('>').map_or("", |(_, inside)| inside);
    let label = escape_html(&alt_text(chart, zone));
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\" \
         style=\"width:100%;max-width:{}px;height:auto;\">{inside}",
        WIDTH / 2
    ))
}

/// Registers the embedded font with the drawing library, once per process.
fn register_embedded_font() -> Result<(), DrawError> {
    static READY: OnceLock<bool> = OnceLock::new();
    let ready = READY.get_or_init(|| register_font(FAMILY, FontStyle::Normal, FONT).is_ok());
    if *ready { Ok(()) } else { Err(DrawError::new("the embedded font cannot be read")) }
}

#[cfg(test)]
mod tests;
