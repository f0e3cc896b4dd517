//! Decodes `accounts`.

use std::collections::{BTreeMap, BTreeSet};

use chrono_tz::Tz;
use url::Url;

use super::catalog::{ACCOUNT, REGIONS};
use super::cursor::Cursor;
use super::model::{Account, Divisions, Quota};
use super::problem::ValueError;
use super::section::Section;
use super::{secrets, section, values};
use crate::certcentral::pacing;
use crate::certcentral::pacing::RequestLoad;
use crate::domain::Name;
use crate::domain::schedule::{Schedule, ScheduleError};
use crate::util::clock::{Clock, SystemClock};
use crate::util::text::nearest;

/// An account, as far as it is valid. Rules that name it are checked even if it has problems of its own.
pub(super) struct AccountDraft {
    pub(super) name: Name,
    /// Selection of divisions; `None` if it is not valid.
    pub(super) divisions: Option<Divisions>,
    pub(super) account: Option<Account>,
}

pub(super) fn accounts(cursor: &Cursor<'_>, schedule: Option<&Schedule>, timezone: Tz) -> Vec<AccountDraft> {
    let accounts = cursor.named("account");
    let sections = accounts.into_iter().map(|(name, cursor)| (name, cursor.section(ACCOUNT)));
    let (drafts, sections): (Vec<AccountDraft>, Vec<Option<Section<'_>>>) =
        sections.map(|(name, section)| (draft(name, section.as_ref(), schedule, timezone), section)).unzip();
    warn_if_too_short(&drafts, &sections);
    drafts
}

fn draft(name: Name, section: Option<&Section<'_>>, default_schedule: Option<&Schedule>, timezone: Tz) -> AccountDraft {
    let Some(section) = section else { return AccountDraft { name, divisions: None, account: None } };
    let api_key = secrets::secret(section, "api_key", "api_key_file", true, secrets::api_key);
    let connection = secrets::connection(section);
    let urls = urls(section);
    let divisions = divisions(section);
    let schedule = match section.get("schedule") {
        Some(cursor) => self::schedule(&cursor, timezone),
        None => default_schedule.cloned(),
    };
    let rate_limit = rate_limit(section);
    let not_spend = not_spend(section);
    let account = match (api_key, urls, divisions.clone(), schedule, rate_limit) {
        (Some(api_key), Some((base_url, console_url)), Some(divisions), Some(schedule), Some(rate_limit)) => {
            Some(Account { api_key, base_url, divisions, schedule, console_url, rate_limit, not_spend, connection })
        }
        _ => None,
    };
    AccountDraft { name, divisions, account }
}

/// Description of a schedule.
const SCHEDULE: &str = "a crontab of 5 fields (\"*/15 * * * *\"), of 6 with seconds first, or \"every 15m\"";

pub(super) fn schedule(cursor: &Cursor<'_>, timezone: Tz) -> Option<Schedule> {
    cursor.read(|text| {
        let parsed = parse_schedule(text, timezone);
        // The parser's message may quote the value, which must not be shown if variables were put in.
        let hides = cursor.is_interpolated();
        parsed.map_err(|error| if hides { ValueError { expected: SCHEDULE.to_owned(), ..error } } else { error })
    })
}

pub(super) fn parse_schedule(text: &str, timezone: Tz) -> Result<Schedule, ValueError> {
    Schedule::parse(text, timezone).map_err(|error| match error {
        ScheduleError::NotASchedule => ValueError::new("is not a schedule", SCHEDULE),
        other => ValueError::new("is not a schedule", format!("{SCHEDULE} ({other})")),
    })
}

/// Warns, once for each API key, if the rate limit does not allow all divisions to be read within one period.
fn warn_if_too_short(drafts: &[AccountDraft], sections: &[Option<Section<'_>>]) {
    let (now, mut pauses) = (SystemClock.now(), BTreeMap::new());
    let mut pause = |schedule: &Schedule| {
        let known = pauses.entry(schedule.text().to_owned());
        *known.or_insert_with(|| schedule.shortest_pause(now))
    };
    let mut keys: BTreeMap<&str, Vec<(&AccountDraft, &Account, &Section<'_>)>> = BTreeMap::new();
    for (draft, section) in drafts.iter().zip(sections) {
        if let Some((account, section)) = draft.account.as_ref().zip(section.as_ref()) {
            keys.entry(account.api_key.expose()).or_default().push((draft, account, section));
        }
    }
    // A single account with a single request has time in every schedule.
    let few = |accounts: &[(&AccountDraft, &Account, &Section<'_>)]| matches!(accounts, [(_, account, _)] if account.divisions.count().is_none_or(|count| count == 1));
    for accounts in keys.values().filter(|accounts| !few(accounts)) {
        let quotas = accounts.iter().flat_map(|(_, account, _)| &account.rate_limit);
        let limits: Vec<pacing::RequestRate> = quotas.map(|quota| (quota.requests, quota.window)).collect();
        let load = |(draft, account, _): &(&AccountDraft, &Account, &Section<'_>)| {
            let (requests, period) = (account.divisions.count()?, pause(&account.schedule)?);
            Some((draft.name.clone(), RequestLoad { requests, period }))
        };
        let loads: BTreeMap<Name, RequestLoad> = accounts.iter().filter_map(load).collect();
        let too_short = accounts.iter().find_map(|(draft, _, section)| {
            let period = loads.get(&draft.name)?.period;
            let why = pacing::explain_overload(&loads, period, &limits)?;
            let at = section.get("divisions").or_else(|| section.get("schedule")).unwrap_or_else(|| section.at.clone());
            Some((at, why))
        });
        if let Some((cursor, why)) = too_short {
            let message = "the rate limit is too low for the schedule";
            cursor.warn(message, format!("fewer divisions, or a slower schedule: {why}"));
        }
    }
}

fn urls(section: &Section<'_>) -> Option<(Url, Url)> {
    let insecure = secrets::allow_insecure(section);
    let region = section.read_or_default("region", values::choice("is not a region", &REGIONS));
    let default = |address: fn((&'static str, &'static str)) -> &'static str| Url::parse(address(region?)).ok();
    let base = match section.get("base_url") {
        Some(cursor) => cursor.read(|text| values::base(text, insecure)),
        None => default(|(api, _)| api),
    };
    let console = match section.get("console_url") {
        Some(cursor) => cursor.read(values::web),
        None => default(|(_, console)| console),
    };
    base.zip(console)
}

fn divisions(section: &Section<'_>) -> Option<Divisions> {
    let expected = "all, or a list of division numbers such as [1234, 5678]";
    let divisions = match section.get("divisions") {
        None => Some(Divisions::Undivided),
        Some(cursor) if cursor.is_text() => cursor.read(|text| match text {
            "all" => Ok(Divisions::All { exclude: BTreeSet::new() }),
            other => {
                let suggestion = nearest(other, ["all"]);
                Err(ValueError::new("is neither `all` nor a list", expected).suggesting(suggestion))
            }
        }),
        Some(cursor) => cursor.distinct(expected, values::division).map(Divisions::Listed),
    };
    let Some(excluded) = section.get("exclude_divisions") else { return divisions };
    let listed_by_override = matches!(divisions, Some(Divisions::Listed(_)))
        && section.get("divisions").is_some_and(|cursor| cursor.is_override())
        && !excluded.is_override();
    if listed_by_override {
        return divisions;
    }
    let exclude = excluded.distinct("a list of division numbers such as [1234, 5678]", values::division);
    match divisions {
        Some(Divisions::All { .. }) => exclude.map(|ids| Divisions::All { exclude: ids.into_iter().collect() }),
        None => None,
        other => {
            let (message, found) =
                ("`exclude_divisions` needs `divisions: all`", "`exclude_divisions` without `divisions: all`");
            if !section.has_misspelt("divisions") {
                excluded.refuse(message, found, "`divisions: all` beside it");
            }
            other
        }
    }
}

/// Reads the transaction types that do not count as spend.
fn not_spend(section: &Section<'_>) -> Option<Vec<String>> {
    let expected = "a list of transaction types such as [Expired Deposit, Adjustment]";
    let items = section.get("not_spend")?.items(expected)?;
    Some(items.iter().filter_map(|item| item.read(values::line)).collect())
}

/// Parses the default quotas, as a file would write them.
fn quotas(text: &str) -> Result<Vec<Quota>, ValueError> {
    text.trim_matches(['[', ']']).split(", ").map(values::quota).collect()
}

/// Reads the request quotas; empty for `off`.
pub(super) fn rate_limit(section: &Section<'_>) -> Option<Vec<Quota>> {
    let expected = "off, or a list such as [100/5s, 1000/3m]";
    match section.get("rate_limit") {
        None => section::default(ACCOUNT, "rate_limit", quotas),
        Some(cursor) if cursor.is_text() => cursor.read(|text| match text {
            "off" => Ok(Vec::new()),
            _ => Err(ValueError::new("is neither `off` nor a list", expected)),
        }),
        Some(cursor) => {
            let items = cursor.items(expected)?;
            let all = items.len();
            let quotas: Vec<Quota> = items.iter().filter_map(|item| item.read(values::quota)).collect();
            (quotas.len() == all).then_some(quotas)
        }
    }
}
