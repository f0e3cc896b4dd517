//! Decodes scenarios of the sandbox into [`Scenario`], with the same diagnostics as a configuration.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use rust_decimal::Decimal;

use super::context::LoadContext;
use super::cursor::Cursor;
use super::environment::Environment;
use super::keys::Key;
use super::model::Quota;
use super::problem::{ConfigProblems, ValueError, one_of};
use super::section::Section;
use super::{accounts, values};
use crate::domain::Name;
use crate::domain::money::{Currency, parse_amount};
use crate::sandbox::scenario::{
    ApiFault as Outage, ApiFaultKind, CreditLimit, DepositPlan, DepositTime, DivisionPlan, DomainPlan, InvoicePlan,
    OrderPlan, ProductPlan, RenewalPlan, Scenario,
};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Maximum length of a scenario, and of its history.
const MAX_SPAN: Duration = Duration::from_secs(3 * 366 * 24 * 3600);
/// Minimum interval of deposits.
const MIN_DEPOSIT_INTERVAL: Duration = Duration::from_secs(3600);
/// Maximum number of orders that one entry of a scenario may have.
const MAX_ORDERS: u32 = 1000;

const ROOT: &[Key] = &[
    Key::plain("about"),
    Key::plain("length"),
    Key::plain("history"),
    Key::plain("rate_limit"),
    Key::plain("shared_funds"),
    Key::plain("divisions"),
    Key::plain("faults"),
];
const DIVISION: &[Key] = &[
    Key::plain("id"),
    Key::plain("currency"),
    Key::plain("balance"),
    Key::plain("credit_limit"),
    Key::plain("orders"),
    Key::plain("renewals"),
    Key::plain("added_domains"),
    Key::plain("deposits"),
    Key::plain("invoices"),
];
const ORDERS: &[Key] = &[
    Key::plain("product"),
    Key::plain("price"),
    Key::plain("years"),
    Key::plain("auto_renew"),
    Key::plain("per_week"),
];
const DOMAINS: &[Key] = &[Key::plain("price"), Key::plain("per_week")];
const RENEWALS: &[Key] = &[
    Key::plain("product"),
    Key::plain("price"),
    Key::plain("years"),
    Key::plain("auto_renew"),
    Key::plain("count"),
    Key::plain("from"),
    Key::plain("to"),
    Key::plain("early"),
];
const DEPOSIT: &[Key] =
    &[Key::plain("on"), Key::plain("ago"), Key::plain("amount"), Key::plain("every"), Key::plain("expires_after")];
const INVOICE: &[Key] = &[Key::plain("on"), Key::plain("amount"), Key::plain("due_after"), Key::plain("paid_after")];
const FAULT: &[Key] = &[Key::plain("from"), Key::plain("for"), Key::plain("kind")];

/// Loads a scenario, which is named after its file.
pub fn load(path: &Path) -> Result<Scenario, ConfigProblems> {
    let environment = Environment::new(std::iter::empty());
    let ctx = LoadContext::new(path, &environment).without_variables();
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let text = ctx.file(path, "a readable file with a scenario (`lowtide sandbox --help` lists the built-in ones)");
    let scenario = text.and_then(|(text, _)| decode(&ctx, &text, name));
    finish(&ctx, scenario)
}

/// Parses a scenario. `name` is the file that problems are reported for.
pub fn parse(name: &str, text: &str) -> Result<Scenario, ConfigProblems> {
    let environment = Environment::new(std::iter::empty());
    let ctx = LoadContext::new(Path::new(name), &environment).without_variables();
    let scenario = decode(&ctx, text, name.to_owned());
    finish(&ctx, scenario)
}

fn finish(ctx: &LoadContext<'_>, scenario: Option<Scenario>) -> Result<Scenario, ConfigProblems> {
    let problems = ctx.take_problems();
    scenario.filter(|_| problems.is_empty()).ok_or(ConfigProblems(problems))
}

fn decode(ctx: &LoadContext<'_>, text: &str, name: String) -> Option<Scenario> {
    let root = ctx.tree(text, "a scenario with divisions")?;
    let section = Cursor::root(ctx, &root).section(ROOT)?;
    let about = section.read("about", values::lines).unwrap_or_default();
    let length = section.read_or("length", 21 * DAY, span);
    let history = section.read_or("history", 90 * DAY, span);
    let quotas = accounts::rate_limit(&section);
    let divisions = section.required("divisions", "at least one division, by its name");
    let divisions = divisions.map_or_else(Vec::new, |cursor| cursor.named("division"));
    let mut ids = BTreeSet::new();
    let divisions: Vec<DivisionPlan> =
        divisions.iter().filter_map(|(name, cursor)| division(name, cursor, &mut ids)).collect();
    let shared_funds = section.read_or("shared_funds", false, values::boolean);
    if let (Some(true), Some(cursor)) = (shared_funds, section.get("shared_funds"))
        && divisions.windows(2).any(|pair| !have_same_funds(&pair[0], &pair[1]))
    {
        let message = "divisions that share funds must have the same funds";
        cursor.refuse(message, cursor.shown(), "the same currency, balance and credit_limit for every division");
    }
    let faults = each(&section, "faults", FAULT, fault);
    let rate_limit = quotas?.into_iter().map(|Quota { requests, window }| (requests, window)).collect();
    let (length, history, shared_funds) = (length?, history?, shared_funds?);
    Some(Scenario { name, about, length, history, rate_limit, shared_funds, divisions, faults })
}

fn have_same_funds(one: &DivisionPlan, other: &DivisionPlan) -> bool {
    (one.currency, one.balance, one.credit) == (other.currency, other.balance, other.credit)
}

fn division(name: &Name, cursor: &Cursor<'_>, ids: &mut BTreeSet<u64>) -> Option<DivisionPlan> {
    let section = cursor.section(DIVISION)?;
    let number = section.required("id", "the number of the division (its container id)");
    let id = number.as_ref().and_then(|cursor| cursor.read(values::division));
    if let (Some(cursor), Some(id)) = (&number, id)
        && !ids.insert(id)
    {
        cursor.refuse_again("is the id of another division", "another number for each division");
    }
    let currency = section.read_or("currency", Currency::parse("USD").ok()?, values::currency);
    let balance = section.required("balance", "the balance at the start").and_then(|cursor| cursor.read(amount));
    let credit = section.read_or("credit_limit", CreditLimit::Limit(Decimal::from(2000)), credit);
    let orders = each(&section, "orders", ORDERS, |entry| {
        let (product, per_week) =
            (product(entry), required(entry, "per_week", "the number of orders a week", per_week));
        Some(OrderPlan { product: product?, per_week: per_week? })
    });
    let renewals = each(&section, "renewals", RENEWALS, renewals);
    let added_domains = each(&section, "added_domains", DOMAINS, |entry| {
        let (price, per_week) = (
            required(entry, "price", "its price", price),
            required(entry, "per_week", "the number of orders a week", per_week),
        );
        Some(DomainPlan { price: price?, per_week: per_week? })
    });
    let deposits = each(&section, "deposits", DEPOSIT, deposit);
    let invoices = each(&section, "invoices", INVOICE, |entry| {
        let on = required(entry, "on", "the time at which it is issued, counted from the start", offset);
        let amount = required(entry, "amount", "its amount", price);
        let due_after = entry.read_or("due_after", 30 * DAY, span);
        let paid_after = entry.read_or("paid_after", None, |text| offset(text).map(Some));
        Some(InvoicePlan { on: on?, amount: amount?, due_after: due_after?, paid_after: paid_after? })
    });
    let name = name.to_string();
    Some(DivisionPlan {
        id: id?,
        name,
        currency: currency?,
        balance: balance?,
        credit: credit?,
        orders,
        renewals,
        added_domains,
        deposits,
        invoices,
    })
}

fn product(section: &Section<'_>) -> Option<ProductPlan> {
    let name = required(section, "product", "the product's name", values::line);
    let price = required(section, "price", "its price", price);
    let years = section.read_or("years", 1, years);
    let auto_renew = section.read_or("auto_renew", false, values::boolean);
    Some(ProductPlan { name: name?, price: price?, years: years?, auto_renew: auto_renew? })
}

fn renewals(section: &Section<'_>) -> Option<RenewalPlan> {
    let product = product(section);
    let count = required(section, "count", "the number of orders", count);
    let from = required(section, "from", "the earliest end of an order, counted from the start", offset);
    let to = required(section, "to", "the latest end of an order, counted from the start", offset);
    let early = section.read_or("early", 14 * DAY, offset);
    if let (Some(from), Some(to), Some(cursor)) = (from, to, section.get("to"))
        && to < from
    {
        cursor.report(ValueError::new("is before `from`", "a time that is not before `from`"));
    }
    if let (Some(product), Some(early), Some(cursor)) = (&product, early, section.get("early"))
        && early >= product.duration()
    {
        let days = product.duration().as_secs() / DAY.as_secs();
        let expected = format!("less than the {days} days that an order lasts (`years`)");
        cursor.report(ValueError::new("is too early", expected));
    }
    Some(RenewalPlan { product: product?, count: count?, from: from?, to: to?, early: early? })
}

fn deposit(section: &Section<'_>) -> Option<DepositPlan> {
    let on = match (section.get("on"), section.get("ago")) {
        (Some(_), Some(_)) => None, // reported with the section
        (None, Some(ago)) => ago.read(offset).map(DepositTime::Ago),
        _ => required(section, "on", "the time at which it arrives, counted from the start (or `ago`)", offset)
            .map(DepositTime::After),
    };
    let amount = required(section, "amount", "its amount", price);
    let every = section.read_or("every", None, |text| period(text).map(Some));
    let expires_after = section.read_or("expires_after", None, |text| span(text).map(Some));
    Some(DepositPlan { on: on?, amount: amount?, every: every?, expires_after: expires_after? })
}

fn fault(section: &Section<'_>) -> Option<Outage> {
    let from = required(section, "from", "the start of the fault, counted from the start", offset);
    let length = required(section, "for", "the duration of the fault", span);
    let kinds = one_of(ApiFaultKind::ALL.iter().map(|(word, _)| *word));
    let kind = required(section, "kind", &kinds, values::choice("is not a kind of fault", &ApiFaultKind::ALL));
    Some(Outage { from: from?, length: length?, kind: kind? })
}

/// Reads a list of maps and leaves out those with problems. Without the key, the list is empty.
fn each<T>(
    section: &Section<'_>,
    name: &str,
    keys: &'static [Key],
    read: impl Fn(&Section<'_>) -> Option<T>,
) -> Vec<T> {
    let items = section.get(name).and_then(|cursor| cursor.items("a list, each with its own keys"));
    let sections = items.unwrap_or_default();
    sections.iter().filter_map(|item| read(&item.section(keys)?)).collect()
}

/// Reads a required key.
fn required<T>(
    section: &Section<'_>,
    name: &str,
    expected: &str,
    parse: impl Fn(&str) -> Result<T, ValueError>,
) -> Option<T> {
    section.required(name, expected)?.read(parse)
}

fn bounded(duration: Duration) -> Result<Duration, ValueError> {
    let too_long = || ValueError::new("is too long", "a duration of at most three years");
    if duration > MAX_SPAN { Err(too_long()) } else { Ok(duration) }
}

fn offset(text: &str) -> Result<Duration, ValueError> {
    let duration = values::duration(text)?;
    bounded(duration)
}

fn span(text: &str) -> Result<Duration, ValueError> {
    let duration = values::pause(text)?;
    bounded(duration)
}

fn period(text: &str) -> Result<Duration, ValueError> {
    span(text)
        .ok()
        .filter(|period| *period >= MIN_DEPOSIT_INTERVAL)
        .ok_or_else(|| ValueError::new("is not an interval of deposits", "a duration from 1h to three years"))
}

fn number(text: &str, most: u32) -> Option<u32> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|number| digits && (1..=most).contains(number))
}

fn years(text: &str) -> Result<u32, ValueError> {
    number(text, 3).ok_or_else(|| ValueError::new("is not a number of years", "1, 2 or 3"))
}

fn count(text: &str) -> Result<u32, ValueError> {
    let invalid = || ValueError::new("is not a number of orders", format!("a whole number from 1 to {MAX_ORDERS}"));
    number(text, MAX_ORDERS).ok_or_else(invalid)
}

fn per_week(text: &str) -> Result<Decimal, ValueError> {
    let most = Decimal::from(MAX_ORDERS);
    let rate = parse_amount(text).ok().filter(|rate| *rate > Decimal::ZERO && *rate <= most && rate.scale() <= 2);
    rate.ok_or_else(|| {
        let expected = format!(
            "a number above 0 and at most {MAX_ORDERS}, such as 3 or 0.3, with at most 2 digits after the point"
        );
        ValueError::new("is not a number of orders", expected)
    })
}

/// Parses an amount as the API writes it, with at most two decimals.
fn cents(text: &str, accepts: impl Fn(&Decimal) -> bool, expected: &str) -> Result<Decimal, ValueError> {
    let amount = parse_amount(text).ok().filter(|amount| amount.scale() <= 2 && accepts(amount));
    let expected = format!("{expected}, with at most 18 digits before the point and 2 after it");
    amount.ok_or_else(|| ValueError::new("is not a valid amount", expected))
}

fn amount(text: &str) -> Result<Decimal, ValueError> {
    cents(text, |_| true, "an amount such as 2000 or -569.95")
}

fn price(text: &str) -> Result<Decimal, ValueError> {
    cents(text, |amount| *amount > Decimal::ZERO, "an amount above 0, such as 218 or 399.50")
}

fn credit(text: &str) -> Result<CreditLimit, ValueError> {
    if text == "unlimited" {
        return Ok(CreditLimit::Unlimited);
    }
    let limit = cents(text, |limit| *limit >= Decimal::ZERO, "unlimited, or an amount such as 2000");
    limit.map(CreditLimit::Limit)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sandbox::scenario::SHIPPED;

    #[test]
    fn every_built_in_scenario_is_valid_and_described() {
        for (name, text) in SHIPPED {
            let scenario = parse(name, text).unwrap_or_else(|problems| panic!("{problems}"));
            assert!(!scenario.about.is_empty() && !scenario.divisions.is_empty(), "{name}");
        }
    }

    #[test]
    fn divisions_that_share_funds_must_have_the_same_funds() {
        let text = |balance: u32| {
            format!(
                "shared_funds: true\ndivisions:\n  A: {{ id: 1, balance: 100 }}\n  B: {{ id: 2, balance: {balance} }}\n"
            )
        };
        assert!(parse("mine.yaml", &text(100)).unwrap().shared_funds);
        insta::assert_snapshot!(parse("mine.yaml", &text(90)).unwrap_err(), @"mine.yaml:1:15: shared_funds: divisions that share funds must have the same funds; expected the same currency, balance and credit_limit for every division");
    }

    #[test]
    fn an_order_is_renewed_before_it_ends() {
        let text = |early: &str| {
            format!(
                "divisions: {{ A: {{ id: 1, balance: 0, renewals: [{{ product: X, price: 5, count: 1, from: 1d, to: 2d, early: {early} }}] }} }}"
            )
        };
        for early in ["0s", "364d", "729d, years: 2"] {
            parse("mine.yaml", &text(early)).unwrap_or_else(|problems| panic!("{problems}"));
        }
        for (early, expected) in [
            ("365d", "`365d` is too early; expected less than the 365 days that an order lasts (`years`)"),
            ("500d", "`500d` is too early; expected less than the 365 days"),
            ("730d, years: 2", "`730d` is too early; expected less than the 730 days"),
        ] {
            let problems = parse("mine.yaml", &text(early)).unwrap_err().to_string();
            assert!(problems.contains(expected), "{problems}");
        }
    }

    #[test]
    fn per_week_may_be_a_fraction_but_count_may_not() {
        let text = |orders: &str, count: &str| {
            format!(
                "divisions: {{ A: {{ id: 1, balance: 0, orders: [{{ product: X, price: 5, per_week: {orders} }}], renewals: [{{ product: X, price: 5, count: {count}, from: 1d, to: 2d }}] }} }}"
            )
        };
        for rate in ["0.3", "0.01", "1", "2.5", "1000"] {
            let scenario = parse("mine.yaml", &text(rate, "1")).unwrap_or_else(|problems| panic!("{problems}"));
            assert_eq!(scenario.divisions[0].orders[0].per_week, parse_amount(rate).unwrap());
        }
        for rate in ["0", "-1", "0.001", "1000.01", "1/3", "1e2"] {
            let message = parse("mine.yaml", &text(rate, "1")).unwrap_err().to_string();
            assert!(message.contains("such as 3 or 0.3"), "{rate}: {message}");
        }
        let message = parse("mine.yaml", &text("1", "0.3")).unwrap_err().to_string();
        assert!(
            message.contains("`0.3` is not a number of orders; expected a whole number from 1 to 1000"),
            "{message}"
        );
    }

    #[test]
    fn all_problems_of_a_scenario_are_reported_at_once() {
        let text = "length: 0s\nfautls: []\ndivisions:\n  Main:\n    id: 1\n    balance: 1,000\n    orders:\n      - { product: X, price: -5, per_week: lots }\n    deposits:\n      - { on: 3d, ago: 1d, amount: 5 }\n  Other: { id: 1, balance: 5, credit_limit: none }\nfaults:\n  - { from: 1d, for: 2h, kind: maintainance }\n";
        let problems = parse("mine.yaml", text).unwrap_err();
        insta::assert_snapshot!(problems, @"
    mine.yaml:1:9: length: `0s` is too short; expected a duration above 0, such as 90s, 30m, 4h, 2d or 1w
    mine.yaml:2:1: fautls: unknown key `fautls`; expected one of about, length, history, rate_limit, shared_funds, divisions, faults; did you mean `faults`?
    mine.yaml:6:14: divisions.Main.balance: `1,000` is not a valid amount; expected an amount such as 2000 or -569.95, with at most 18 digits before the point and 2 after it
    mine.yaml:8:30: divisions.Main.orders[0].price: `-5` is not a valid amount; expected an amount above 0, such as 218 or 399.50, with at most 18 digits before the point and 2 after it
    mine.yaml:8:44: divisions.Main.orders[0].per_week: `lots` is not a number of orders; expected a number above 0 and at most 1000, such as 3 or 0.3, with at most 2 digits after the point
    mine.yaml:10:24: divisions.Main.deposits[0].ago: `ago` and `on` exclude each other; expected only one of them
    mine.yaml:11:16: divisions.Other.id: `1` is the id of another division; expected another number for each division
    mine.yaml:11:45: divisions.Other.credit_limit: `none` is not a valid amount; expected unlimited, or an amount such as 2000, with at most 18 digits before the point and 2 after it
    mine.yaml:13:32: faults[0].kind: `maintainance` is not a kind of fault; expected one of maintenance, rate_limited, server_error, hang, html, revoked_key, forbidden, history_forbidden, broken; did you mean `maintenance`?
    ");
    }
}
