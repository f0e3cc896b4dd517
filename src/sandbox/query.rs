//! Query parameters of the simulated API: filters, sorting and pages.

use chrono::NaiveDate;
use serde_json::{Value, json};

use super::refusal::ApiRefusal;
use crate::domain::Time;

/// Highest number of items per page: documented for orders, and used in the documented example of the history.
const LARGEST_PAGE: usize = 1000;

/// Function that returns the text by which items are sorted.
type SortKey<T> = fn(&T) -> String;

/// Parameters of a request.
#[derive(Debug, Default)]
pub(super) struct ApiQuery(Vec<(String, String)>);

impl ApiQuery {
    pub(super) fn parse(query: &str) -> Self {
        Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// Creates a query with a single parameter.
    pub(super) fn of(name: &str, value: &str) -> Self {
        Self(vec![(name.to_owned(), value.to_owned())])
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, ApiRefusal> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        number.map(Some).ok_or_else(|| ApiRefusal::BadRequest(format!("{name} must be a number.")))
    }

    /// Returns the value of `filters[name]`.
    pub(super) fn filter(&self, name: &str) -> Option<&str> {
        self.get(&format!("filters[{name}]"))
    }

    pub(super) fn dates(&self, name: &str) -> Result<Option<DateRange>, ApiRefusal> {
        let Some(text) = self.filter(name) else { return Ok(None) };
        DateRange::parse(text).map(Some).ok_or_else(|| {
            ApiRefusal::BadRequest(format!("filters[{name}] must be >yyyy-MM-dd or yyyy-MM-dd...yyyy-MM-dd."))
        })
    }

    /// Returns the requested page of the items, and its description.
    pub(super) fn page<T>(&self, items: Vec<T>) -> Result<(Vec<T>, Value), ApiRefusal> {
        let most = self.number("limit")?.unwrap_or(LARGEST_PAGE as u64);
        if !(1..=LARGEST_PAGE as u64).contains(&most) {
            return Err(ApiRefusal::BadRequest(format!("limit must be from 1 to {LARGEST_PAGE}.")));
        }
        let offset = self.number("offset")?.unwrap_or(0);
        let page = json!({ "total": items.len(), "limit": most, "offset": offset });
        let (skip, take) = (usize::try_from(offset).unwrap_or(usize::MAX), usize::try_from(most).unwrap_or(usize::MAX));
        Ok((items.into_iter().skip(skip).take(take).collect(), page))
    }

    /// Sorts by the requested key, in descending order if it begins with `-`. The first key is the default.
    pub(super) fn sort<T>(&self, items: &mut [T], keys: &[(&str, SortKey<T>)]) -> Result<(), ApiRefusal> {
        let requested = self.get("sort").unwrap_or(keys[0].0);
        let (name, down) = requested.strip_prefix('-').map_or((requested, false), |name| (name, true));
        let Some((_, key)) = keys.iter().find(|(known, _)| known.trim_start_matches('-') == name) else {
            return Err(ApiRefusal::BadRequest(format!("Cannot sort by {name}.")));
        };
        items.sort_by_cached_key(key);
        if down {
            items.reverse();
        }
        Ok(())
    }
}

/// A range of days, both ends included.
#[derive(Debug)]
pub(super) struct DateRange {
    from: NaiveDate,
    to: Option<NaiveDate>,
}

impl DateRange {
    fn parse(text: &str) -> Option<Self> {
        let date = |text: &str| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
        match text.split_once("...") {
            Some((from, to)) => Some(Self { from: date(from)?, to: Some(date(to)?) }),
            None => Some(Self { from: date(text.strip_prefix('>')?)?.succ_opt()?, to: None }),
        }
    }

    pub(super) fn contains(&self, at: Time) -> bool {
        let day = at.date_naive();
        day >= self.from && self.to.is_none_or(|to| day <= to)
    }
}
