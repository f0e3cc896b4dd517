//! Drawing of a chart with any backend of the library.

use chrono_tz::Tz;
use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use rust_decimal::Decimal;

use super::axis::{ChartAxis, ChartWindow, MoneyScale, short_amount};
use super::{DrawError, FAMILY};
use crate::chart::alt_text::likelihood_text;
use crate::domain::Time;
use crate::domain::forecast::FundChart;
use crate::domain::rule::Severity;

const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);
const EDGE: RGBColor = RGBColor(0xda, 0xdc, 0xe0);
const INK: RGBColor = RGBColor(0x3c, 0x40, 0x43);
const FUNDS: RGBColor = RGBColor(0x1a, 0x56, 0xc4);
const RANGE: RGBColor = RGBColor(0xd3, 0xe2, 0xfa);
const RENEWAL: RGBColor = RGBColor(0x8e, 0x63, 0xb5);
const WARNING: RGBColor = RGBColor(0xf2, 0xa1, 0x00);
const CRITICAL: RGBColor = RGBColor(0xc6, 0x28, 0x28);
/// Text colour of warnings. Their line's colour is too light to read as text.
const WARNING_INK: RGBColor = RGBColor(0x8a, 0x5a, 0x00);

/// Font sizes, in pixels.
const TITLE_SIZE: i32 = 50;
const LABEL_SIZE: i32 = 44;
/// Height above the plot, for title and legend.
const HEADER_HEIGHT: i32 = 172;

type ChartPlot<'a, DB> = ChartContext<'a, DB, Cartesian2d<ChartAxis, ChartAxis>>;

pub(super) fn draw<DB: DrawingBackend>(chart: &FundChart, zone: Tz, backend: DB) -> Result<(), DrawError> {
    let root = backend.into_drawing_area();
    root.fill(&PAPER).map_err(DrawError::new)?;
    let window = ChartWindow::from_chart(chart);
    let scale = MoneyScale::from_window(&window);
    let plot = axes(&root, &window, &scale, zone)?;
    let pen = ChartPen { plot, window: &window, scale: &scale, now: window.now };
    pen.range()?;
    pen.renewals()?;
    pen.thresholds()?;
    pen.funds()?;
    pen.today_line()?;
    legend(&root, chart, &window)?;
    let (width, height) = (signed(root.dim_in_pixel().0), signed(root.dim_in_pixel().1));
    root.draw(&Rectangle::new([(0, 0), (width - 1, height - 1)], EDGE.stroke_width(1))).map_err(DrawError::new)?;
    root.present().map_err(DrawError::new)
}

fn signed(pixels: u32) -> i32 {
    i32::try_from(pixels).unwrap_or(i32::MAX)
}

fn text_style(size: i32, colour: RGBColor, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    (FAMILY, size).into_font().color(&colour).pos(Pos::new(horizontal, vertical))
}

/// Draws the axes with their labels, and faint horizontal lines.
fn axes<'a, DB: DrawingBackend>(
    root: &'a DrawingArea<DB, Shift>,
    window: &ChartWindow,
    scale: &MoneyScale,
    zone: Tz,
) -> Result<ChartPlot<'a, DB>, DrawError> {
    let (days, dates) = window.axis(zone);
    let amounts = scale.labels();
    let longest = amounts.iter().map(|(_, label)| label.chars().count()).max().unwrap_or(1);
    let label = |labels: &[(i64, String)], at: i64| {
        labels.iter().find(|(place, _)| *place == at).map(|(_, label)| label.clone()).unwrap_or_default()
    };
    let mut plot = ChartBuilder::on(root)
        .margin_top(HEADER_HEIGHT)
        .margin_right(28)
        .margin_bottom(10)
        .x_label_area_size(LABEL_SIZE + 22)
        .y_label_area_size(i32::try_from(longest).unwrap_or(8) * LABEL_SIZE / 2 + 34)
        .build_cartesian_2d(days, scale.axis())
        .map_err(DrawError::new)?;
    plot.configure_mesh()
        .disable_x_mesh()
        .bold_line_style(EDGE)
        .light_line_style(TRANSPARENT)
        .axis_style(INK.stroke_width(2))
        .set_all_tick_mark_size(8)
        .label_style(text_style(LABEL_SIZE, INK, HPos::Center, VPos::Center))
        .x_label_formatter(&|at| label(&dates, *at))
        .y_label_formatter(&|at| label(&amounts, *at))
        .draw()
        .map_err(DrawError::new)?;
    Ok(plot)
}

/// Draws on the plot, in days and positions of amounts.
struct ChartPen<'a, DB: DrawingBackend> {
    plot: ChartPlot<'a, DB>,
    window: &'a ChartWindow<'a>,
    scale: &'a MoneyScale,
    now: Time,
}

impl<DB: DrawingBackend> ChartPen<'_, DB> {
    fn at(&self, at: Time, amount: Decimal) -> (i64, i64) {
        (at.timestamp(), self.scale.place(amount))
    }

    /// Returns the position of the reading, where the forecast begins.
    fn reading(&self) -> Option<(i64, i64)> {
        self.window.past.last().map(|(_, amount)| self.at(self.now, *amount))
    }

    /// Draws the range of the forecast and its median.
    fn range(&self) -> Result<(), DrawError> {
        let future = &self.window.future;
        if future.is_empty() {
            return Ok(());
        }
        let area = self.plot.plotting_area();
        let start = self.reading();
        let upper = start.into_iter().chain(future.iter().map(|band| self.at(band.at, band.high)));
        let lower = future.iter().rev().map(|band| self.at(band.at, band.low));
        let outline: Vec<(i64, i64)> = upper.chain(lower).collect();
        area.draw(&Polygon::new(outline, RANGE.filled())).map_err(DrawError::new)?;
        // The line ends on the day on which the funds are gone.
        let gone = future.iter().position(|band| band.middle <= Decimal::ZERO).map_or(future.len(), |last| last + 1);
        let middle: Vec<(i64, i64)> =
            start.into_iter().chain(future[..gone].iter().map(|band| self.at(band.at, band.middle))).collect();
        area.draw(&DashedPathElement::new(middle, 14, 10, FUNDS.stroke_width(4))).map_err(DrawError::new)
    }

    /// Draws a bar for every day on which orders end.
    fn renewals(&self) -> Result<(), DrawError> {
        let area = self.plot.plotting_area();
        let paper = area.strip_coord_spec();
        let (columns, rows) = area.get_pixel_range();
        for (day, amount) in &self.window.renewals {
            let (x, foot) = area.map_coordinate(&self.at(*day, Decimal::ZERO));
            let top = area.map_coordinate(&self.at(*day, *amount)).1.min(foot - 3);
            let (x, foot, top) = (x - columns.start, foot - rows.start, top - rows.start);
            let bar = Rectangle::new([(x - 6, top), (x + 6, foot)], RENEWAL.filled());
            paper.draw(&bar).map_err(DrawError::new)?;
        }
        Ok(())
    }

    fn thresholds(&self) -> Result<(), DrawError> {
        let area = self.plot.plotting_area();
        let paper = area.strip_coord_spec();
        let (columns, rows) = area.get_pixel_range();
        let mut labelled: Option<i32> = None;
        for (level, amount) in self.window.thresholds {
            let (colour, ink) = match level {
                Severity::Warning => (WARNING, WARNING_INK),
                Severity::Critical => (CRITICAL, CRITICAL),
            };
            let y = area.map_coordinate(&(self.now.timestamp(), self.scale.place(*amount))).1 - rows.start;
            let line = vec![(0, y), (columns.end - columns.start, y)];
            paper.draw(&PathElement::new(line, colour.stroke_width(4))).map_err(DrawError::new)?;
            let text = format!("{level} {}", short_amount(*amount));
            let style = text_style(LABEL_SIZE, ink, HPos::Left, VPos::Bottom);
            // Labels of two lines that are close are placed side by side.
            let across = if labelled.is_some_and(|other| (other - y).abs() < LABEL_SIZE + 8) { 400 } else { 16 };
            labelled = Some(y);
            paper.draw(&Text::new(text, (across, y - 4), style)).map_err(DrawError::new)?;
        }
        Ok(())
    }

    fn funds(&self) -> Result<(), DrawError> {
        let area = self.plot.plotting_area();
        let line: Vec<(i64, i64)> = self.window.past.iter().map(|(at, amount)| self.at(*at, *amount)).collect();
        area.draw(&PathElement::new(line, FUNDS.stroke_width(6))).map_err(DrawError::new)?;
        match self.reading() {
            Some(reading) => area.draw(&Circle::new(reading, 10, FUNDS.filled())).map_err(DrawError::new),
            None => Ok(()),
        }
    }

    /// Draws a line at the time of the reading.
    fn today_line(&self) -> Result<(), DrawError> {
        let area = self.plot.plotting_area();
        let paper = area.strip_coord_spec();
        let (columns, rows) = area.get_pixel_range();
        let x = area.map_coordinate(&(self.now.timestamp(), 0)).0 - columns.start;
        let line = [(x, 0), (x, rows.end - rows.start)];
        paper.draw(&DashedPathElement::new(line, 6, 6, INK.stroke_width(2))).map_err(DrawError::new)?;
        let right = x > (columns.end - columns.start) * 3 / 4;
        let (side, place) = if right { (HPos::Right, x - 10) } else { (HPos::Left, x + 10) };
        paper
            .draw(&Text::new("today", (place, 4), text_style(LABEL_SIZE, INK, side, VPos::Top)))
            .map_err(DrawError::new)
    }
}

/// Draws the title and the legend.
fn legend<DB: DrawingBackend>(
    root: &DrawingArea<DB, Shift>,
    chart: &FundChart,
    window: &ChartWindow,
) -> Result<(), DrawError> {
    let title = format!("Available funds, {}", chart.currency);
    root.draw(&Text::new(title, (24, 20), text_style(TITLE_SIZE, INK, HPos::Left, VPos::Top)))
        .map_err(DrawError::new)?;
    let mut keys = Vec::new();
    if !window.future.is_empty() {
        keys.push((RANGE, format!("forecast, {}", likelihood_text(chart.percent))));
    }
    if !window.renewals.is_empty() {
        keys.push((RENEWAL, "renewals due".to_owned()));
    }
    let mut x = 24;
    for (colour, text) in keys {
        let swatch = Rectangle::new([(x, 92), (x + 36, 126)], colour.filled());
        root.draw(&swatch).map_err(DrawError::new)?;
        let style = text_style(LABEL_SIZE, INK, HPos::Left, VPos::Center);
        let (width, _) = root.estimate_text_size(&text, &style).map_err(DrawError::new)?;
        root.draw(&Text::new(text, (x + 46, 113), style)).map_err(DrawError::new)?;
        x += 46 + signed(width) + 48;
    }
    Ok(())
}
