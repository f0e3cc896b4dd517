//! Charts of a message: their ids in the HTML, and their descriptions.
//!
//! Drawing takes time and is left to the sender of the email.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono_tz::Tz;

use crate::chart::{self, DrawError};
use crate::domain::event::{Event, EventSubject};
use crate::domain::forecast::FundChart;
use crate::notify::Message;
use crate::notify::message::forecast_lines;
use crate::util::text::escape_html;

/// Maximum number of charts in one message, so that emails stay small.
const MAX_PICTURES: usize = 3;

/// A chart of a message, not drawn yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChartPicture {
    /// Content-ID without angle brackets. HTML refers to it as `cid:` and this id.
    pub id: String,
    /// Description of the chart in words.
    pub alternative: String,
    chart: Arc<FundChart>,
    zone: Tz,
}

impl ChartPicture {
    /// Draws the chart as PNG. Takes some tens of milliseconds: not for async threads.
    pub fn png(&self) -> Result<Vec<u8>, DrawError> {
        chart::png(&self.chart, self.zone)
    }

    /// Draws the chart as a `data:` address, for a page that stands alone.
    pub fn data_url(&self) -> Result<String, DrawError> {
        Ok(format!("data:image/png;base64,{}", STANDARD.encode(self.png()?)))
    }

    /// Replaces the image of this chart in an HTML page by its description.
    pub(in crate::notify) fn replaced_by_alternative(&self, page: &str) -> String {
        let source = self.source();
        let (mut out, mut rest) = (String::with_capacity(page.len()), page);
        while let Some(at) = rest.find(&source) {
            let (before, after) = rest.split_at(at);
            let begin = before.rfind('<').filter(|begin| {
                let element = &before[*begin..];
                element.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("<img")) && !element.contains('>')
            });
            if let (Some(begin), Some(end)) = (begin, after.find('>')) {
                out += &before[..begin];
                out += &escape_html(&self.alternative);
                rest = &after[end + 1..];
            } else {
                out += before;
                out += &source;
                rest = &after[source.len()..];
            }
        }
        out + rest
    }

    /// Returns the address of the image in HTML.
    pub(crate) fn source(&self) -> String {
        format!("cid:{}", self.id)
    }
}

/// Returns the chart of an event, without an id yet.
pub(crate) fn of(event: &Event, zone: Tz) -> Option<ChartPicture> {
    forecast_lines::forecast_of(event)?;
    let EventSubject::Threshold(it) = &event.subject else { return None };
    let chart = Arc::clone(it.chart.as_ref()?);
    Some(ChartPicture { id: String::new(), alternative: chart::alt_text(&chart, zone), chart, zone })
}

/// Gives the first charts ids that no other message uses, and removes the others.
pub(crate) fn assign_ids<'a>(pictures: impl Iterator<Item = &'a mut Option<ChartPicture>>, message: &Message) {
    let mut n = 0;
    for slot in pictures {
        if let Some(picture) = slot {
            n += 1;
            picture.id = format!("chart-{n}.{}@lowtide", message.id);
        }
        if n > MAX_PICTURES {
            *slot = None;
        }
    }
}
