//! Calibration of the forecast: measurements on accounts whose future is known. Uses all processors.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::cast_precision_loss)] // panicking is how a test ends; shares are no money

mod account_reader;
mod accounts;
mod deposits;
mod ranges;
mod renewing_kinds;

use std::ops::Range;
use std::sync::Mutex;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/forecast.md");
/// Held while the document is read or written, since tests run in parallel.
static PAGE_LOCK: Mutex<()> = Mutex::new(());

/// Returns the position of a table in the document, between the comments with its name.
fn place(page: &str, name: &str) -> Range<usize> {
    let begin = format!("<!-- {name}: begin -->\n");
    page.find(&begin).unwrap() + begin.len()..page.find(&format!("<!-- {name}: end -->")).unwrap()
}

/// Returns the published table with this name.
fn published(name: &str) -> String {
    let _lock = PAGE_LOCK.lock().unwrap();
    let page = std::fs::read_to_string(PAGE).unwrap();
    page[place(&page, name)].to_owned()
}

/// Replaces the published table with this name.
fn publish(name: &str, table: &str) {
    let _lock = PAGE_LOCK.lock().unwrap();
    let mut page = std::fs::read_to_string(PAGE).unwrap();
    page.replace_range(place(&page, name), table);
    std::fs::write(PAGE, page).unwrap();
}
