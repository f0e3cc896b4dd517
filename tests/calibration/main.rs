//! The forecast, measured on accounts whose future is known. Takes every processor it can get.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::cast_precision_loss)] // panicking is how a test ends; shares are no money

mod deposits;
mod ledgers;
mod over_http;
mod ranges;
mod renewing_kinds;

use std::ops::Range;
use std::sync::Mutex;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/forecast.md");
/// Held while the page is read or written, for several tests do at once.
static PAGE_LOCK: Mutex<()> = Mutex::new(());

/// Where a table stands on the page: between the comments of that name.
fn place(page: &str, name: &str) -> Range<usize> {
    let begin = format!("<!-- {name}: begin -->\n");
    page.find(&begin).unwrap() + begin.len()..page.find(&format!("<!-- {name}: end -->")).unwrap()
}

/// The published table of that name.
fn published(name: &str) -> String {
    let _lock = PAGE_LOCK.lock().unwrap();
    let page = std::fs::read_to_string(PAGE).unwrap();
    page[place(&page, name)].to_owned()
}

/// Publishes a table in the place of the one of that name.
fn publish(name: &str, table: &str) {
    let _lock = PAGE_LOCK.lock().unwrap();
    let mut page = std::fs::read_to_string(PAGE).unwrap();
    page.replace_range(place(&page, name), table);
    std::fs::write(PAGE, page).unwrap();
}
