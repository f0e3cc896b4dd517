//! Scenarios of the sandbox: YAML → [`Scenario`], with the same diagnostics as a configuration.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use rust_decimal::Decimal;

use super::cursor::{Cursor, LoadContext, Section, ValueError};
use super::environment::Environment;
use super::keys::{Key, Shape};
use super::load::sort;
use super::problem::{ConfigProblems, one_of};
use super::{Quota, accounts, values};
use crate::domain::Name;
use crate::domain::money::{Currency, parse_amount};
use crate::sandbox::scenario::{
    ApiFault as Outage, ApiFaultKind, CreditLimit, DepositPlan, DepositTime, DivisionPlan, DomainPlan, InvoicePlan,
    OrderPlan, ProductPlan, RenewalPlan, Scenario,
};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The longest scenario, and the longest history.
const MAX_SPAN: Duration = Duration::from_secs(3 * 366 * 24 * 3600);
/// Deposits come no more often than this.
const MIN_DEPOSIT_INTERVAL: Duration = Duration::from_secs(3600);
/// The most orders of one line of a scenario: more would only cost time.
const MAX_ORDERS: u32 = 1000;

const fn key(name: &'static str) -> Key {
    Key { name, shape: Shape::Scalar }
}

const ROOT: &[Key] = &[
    key("about"),
    key("length"),
    key("history"),
    key("rate_limit"),
    key("shared_funds"),
    key("divisions"),
    key("faults"),
];
const DIVISION: &[Key] = &[
    key("id"),
    key("currency"),
    key("balance"),
    key("credit_limit"),
    key("orders"),
    key("renewals"),
    key("added_domains"),
    key("deposits"),
    key("invoices"),
];
const ORDERS: &[Key] = &[key("product"), key("price"), key("years"), key("auto_renew"), key("per_week")];
const DOMAINS: &[Key] = &[key("price"), key("per_week")];
const RENEWALS: &[Key] = &[
    key("product"),
    key("price"),
    key("years"),
    key("auto_renew"),
    key("count"),
    key("from"),
    key("to"),
    key("early"),
];
const DEPOSIT: &[Key] = &[key("on"), key("ago"), key("amount"), key("every"), key("expires_after")];
const INVOICE: &[Key] = &[key("on"), key("amount"), key("due_after"), key("paid_after")];
const FAULT: &[Key] = &[key("from"), key("for"), key("kind")];

/// Reads a scenario's file; it is called by the file's name.
pub fn load(path: &Path) -> Result<Scenario, ConfigProblems> {
    let environment = Environment::new(std::iter::empty());
    let ctx = LoadContext { variables: false, ..LoadContext::new(path, &environment) };
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let text = ctx.file(path, "a readable file with a scenario (lowtide sandbox --help names those that come with it)");
    let scenario = text.and_then(|(text, _)| decode(&ctx, &text, name));
    finish(ctx, scenario)
}

/// Reads a scenario's text; problems are reported as of the file `name`.
pub fn parse(name: &str, text: &str) -> Result<Scenario, ConfigProblems> {
    let environment = Environment::new(std::iter::empty());
    let ctx = LoadContext { variables: false, ..LoadContext::new(Path::new(name), &environment) };
    let scenario = decode(&ctx, text, name.to_owned());
    finish(ctx, scenario)
}

fn finish(ctx: LoadContext<'_>, scenario: Option<Scenario>) -> Result<Scenario, ConfigProblems> {
    let mut problems = ctx.problems.into_inner();
    sort(&mut problems);
    scenario.filter(|_| problems.is_empty()).ok_or(ConfigProblems(problems))
}

fn decode(ctx: &LoadContext<'_>, text: &str, name: String) -> Option<Scenario> {
    let root = ctx.tree(text, "a scenario with divisions")?;
    let section = Cursor::root(ctx, &root).section(ROOT)?;
    let about = section.read("about", values::lines).unwrap_or_default();
    let length = or_default(&section, "length", span, 21 * DAY);
    let history = or_default(&section, "history", span, 90 * DAY);
    let quotas = accounts::rate_limit(&section);
    let divisions = section.required("divisions", "at least one division, by its name");
    let divisions = divisions.map_or_else(Vec::new, |cursor| cursor.named("division"));
    let mut ids = BTreeSet::new();
    let divisions: Vec<DivisionPlan> =
        divisions.iter().filter_map(|(name, cursor)| division(name, cursor, &mut ids)).collect();
    let shared_funds = or_default(&section, "shared_funds", values::boolean, false);
    if let (Some(true), Some(cursor)) = (shared_funds, section.get("shared_funds"))
        && divisions.windows(2).any(|pair| !holds_the_same(&pair[0], &pair[1]))
    {
        cursor.refuse(cursor.shown(), "the same currency, balance and credit_limit for every division");
    }
    let faults = each(&section, "faults", FAULT, fault);
    let rate_limit = quotas?.into_iter().map(|Quota { requests, window }| (requests, window)).collect();
    let (length, history, shared_funds) = (length?, history?, shared_funds?);
    Some(Scenario { name, about, length, history, rate_limit, shared_funds, divisions, faults })
}

fn holds_the_same(one: &DivisionPlan, other: &DivisionPlan) -> bool {
    (one.currency, one.balance, one.credit) == (other.currency, other.balance, other.credit)
}

fn division(name: &Name, cursor: &Cursor<'_>, ids: &mut BTreeSet<u64>) -> Option<DivisionPlan> {
    let section = cursor.section(DIVISION)?;
    let number = section.required("id", "the number of the division (its container id)");
    let id = number.as_ref().and_then(|cursor| cursor.read(values::division));
    if let (Some(cursor), Some(id)) = (&number, id)
        && !ids.insert(id)
    {
        cursor.refuse(format!("{} again", cursor.shown()), "another number for each division");
    }
    let currency = or_default(&section, "currency", values::currency, Currency::parse("USD").ok()?);
    let balance = section.required("balance", "the balance at the start").and_then(|cursor| cursor.read(amount));
    let credit = or_default(&section, "credit_limit", credit, CreditLimit::Limit(Decimal::from(2000)));
    let orders = each(&section, "orders", ORDERS, |it| {
        let (product, per_week) = (product(it), required(it, "per_week", "how many a week", per_week));
        Some(OrderPlan { product: product?, per_week: per_week? })
    });
    let renewals = each(&section, "renewals", RENEWALS, renewals);
    let added_domains = each(&section, "added_domains", DOMAINS, |it| {
        let (price, per_week) =
            (required(it, "price", "its price", price), required(it, "per_week", "how many a week", per_week));
        Some(DomainPlan { price: price?, per_week: per_week? })
    });
    let deposits = each(&section, "deposits", DEPOSIT, deposit);
    let invoices = each(&section, "invoices", INVOICE, |it| {
        let on = required(it, "on", "when it is written, counted from the start", offset);
        let amount = required(it, "amount", "its amount", price);
        let due_after = or_default(it, "due_after", span, 30 * DAY);
        let paid_after = or_default(it, "paid_after", |text| offset(text).map(Some), None);
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
    let years = or_default(section, "years", |text| number(text, 3).ok_or_else(|| "1, 2 or 3".into()), 1);
    let auto_renew = or_default(section, "auto_renew", values::boolean, false);
    Some(ProductPlan { name: name?, price: price?, years: years?, auto_renew: auto_renew? })
}

fn renewals(section: &Section<'_>) -> Option<RenewalPlan> {
    let product = product(section);
    let count = required(section, "count", "how many", count);
    let from = required(section, "from", "the earliest end of an order, counted from the start", offset);
    let to = required(section, "to", "the latest end of an order, counted from the start", offset);
    let early = or_default(section, "early", offset, 14 * DAY);
    if let (Some(from), Some(to), Some(cursor)) = (from, to, section.get("to"))
        && to < from
    {
        cursor.refuse(cursor.shown(), "not before `from`");
    }
    if let (Some(product), Some(early), Some(cursor)) = (&product, early, section.get("early"))
        && early >= product.duration()
    {
        let days = product.duration().as_secs() / DAY.as_secs();
        cursor.refuse(cursor.shown(), format!("less than the {days} days that an order lasts (`years`)"));
    }
    Some(RenewalPlan { product: product?, count: count?, from: from?, to: to?, early: early? })
}

fn deposit(section: &Section<'_>) -> Option<DepositPlan> {
    let on = match (section.get("on"), section.get("ago")) {
        (Some(_), Some(_)) => None, // reported with the section
        (None, Some(ago)) => ago.read(offset).map(DepositTime::Ago),
        _ => {
            required(section, "on", "when it comes, counted from the start (or `ago`)", offset).map(DepositTime::After)
        }
    };
    let amount = required(section, "amount", "its amount", price);
    let every = or_default(section, "every", |text| period(text).map(Some), None);
    let expires_after = or_default(section, "expires_after", |text| span(text).map(Some), None);
    Some(DepositPlan { on: on?, amount: amount?, every: every?, expires_after: expires_after? })
}

fn fault(section: &Section<'_>) -> Option<Outage> {
    let from = required(section, "from", "when it begins, counted from the start", offset);
    let length = required(section, "for", "how long it lasts", span);
    let kinds = one_of(ApiFaultKind::ALL.iter().map(|(word, _)| *word));
    let kind = required(section, "kind", &kinds, values::choice(&ApiFaultKind::ALL));
    Some(Outage { from: from?, length: length?, kind: kind? })
}

/// The maps of a list, those that are valid; without the key there are none.
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

/// A key that must be there.
fn required<T>(
    section: &Section<'_>,
    name: &str,
    expected: &str,
    parse: impl Fn(&str) -> Result<T, ValueError>,
) -> Option<T> {
    section.required(name, expected)?.read(parse)
}

/// A key that need not be there; `None` if it is and is wrong.
fn or_default<T>(
    section: &Section<'_>,
    name: &str,
    parse: impl Fn(&str) -> Result<T, ValueError>,
    default: T,
) -> Option<T> {
    match section.get(name) {
        Some(cursor) => cursor.read(parse),
        None => Some(default),
    }
}

fn offset(text: &str) -> Result<Duration, ValueError> {
    let duration = values::duration(text)?;
    if duration > MAX_SPAN { Err("a duration of at most three years".into()) } else { Ok(duration) }
}

fn span(text: &str) -> Result<Duration, ValueError> {
    let duration = values::pause(text)?;
    if duration > MAX_SPAN { Err("a duration of at most three years".into()) } else { Ok(duration) }
}

fn period(text: &str) -> Result<Duration, ValueError> {
    span(text)
        .ok()
        .filter(|period| *period >= MIN_DEPOSIT_INTERVAL)
        .ok_or_else(|| "a duration from 1h to three years".into())
}

fn number(text: &str, most: u32) -> Option<u32> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|number| digits && (1..=most).contains(number))
}

fn count(text: &str) -> Result<u32, ValueError> {
    number(text, MAX_ORDERS).ok_or_else(|| format!("a whole number from 1 to {MAX_ORDERS}").into())
}

fn per_week(text: &str) -> Result<Decimal, ValueError> {
    let most = Decimal::from(MAX_ORDERS);
    let rate = parse_amount(text).ok().filter(|rate| *rate > Decimal::ZERO && *rate <= most && rate.scale() <= 2);
    rate.ok_or_else(|| {
        format!("a number above 0 and at most {MAX_ORDERS}, such as 3 or 0.3, with at most 2 digits after the point")
            .into()
    })
}

/// An amount as the API writes it: with at most two decimals.
fn cents(text: &str, accepts: impl Fn(&Decimal) -> bool, expected: &str) -> Result<Decimal, ValueError> {
    let amount = parse_amount(text).ok().filter(|amount| amount.scale() <= 2 && accepts(amount));
    amount.ok_or_else(|| format!("{expected}, with at most 18 digits before the point and 2 after it").into())
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
    fn every_shipped_scenario_is_valid_and_says_what_it_is_about() {
        for (name, text) in SHIPPED {
            let scenario = parse(name, text).unwrap_or_else(|problems| panic!("{problems}"));
            assert!(!scenario.about.is_empty() && !scenario.divisions.is_empty(), "{name}");
        }
    }

    #[test]
    fn divisions_that_share_their_funds_hold_the_same() {
        let text = |balance: u32| {
            format!(
                "shared_funds: true\ndivisions:\n  A: {{ id: 1, balance: 100 }}\n  B: {{ id: 2, balance: {balance} }}\n"
            )
        };
        assert!(parse("mine.yaml", &text(100)).unwrap().shared_funds);
        insta::assert_snapshot!(parse("mine.yaml", &text(90)).unwrap_err(), @"mine.yaml:1:15: shared_funds: found `true`, expected the same currency, balance and credit_limit for every division");
    }

    #[test]
    fn an_order_is_renewed_within_the_time_that_it_lasts() {
        let text = |early: &str| {
            format!(
                "divisions: {{ A: {{ id: 1, balance: 0, renewals: [{{ product: X, price: 5, count: 1, from: 1d, to: 2d, early: {early} }}] }} }}"
            )
        };
        for early in ["0s", "364d", "729d, years: 2"] {
            parse("mine.yaml", &text(early)).unwrap_or_else(|problems| panic!("{problems}"));
        }
        for (early, expected) in [
            ("365d", "found `365d`, expected less than the 365 days that an order lasts (`years`)"),
            ("500d", "found `500d`, expected less than the 365 days"),
            ("730d, years: 2", "found `730d`, expected less than the 730 days"),
        ] {
            let problems = parse("mine.yaml", &text(early)).unwrap_err().to_string();
            assert!(problems.contains(expected), "{problems}");
        }
    }

    #[test]
    fn per_week_may_be_a_fraction_and_count_may_not() {
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
        assert!(message.contains("found `0.3`, expected a whole number from 1 to 1000"), "{message}");
    }

    #[test]
    fn all_problems_of_a_scenario_are_reported_at_once() {
        let text = "length: 0s\nfautls: []\ndivisions:\n  Main:\n    id: 1\n    balance: 1,000\n    orders:\n      - { product: X, price: -5, per_week: lots }\n    deposits:\n      - { on: 3d, ago: 1d, amount: 5 }\n  Other: { id: 1, balance: 5, credit_limit: none }\nfaults:\n  - { from: 1d, for: 2h, kind: maintainance }\n";
        let problems = parse("mine.yaml", text).unwrap_err();
        insta::assert_snapshot!(problems, @r#"
    mine.yaml:1:9: length: found `0s`, expected a duration above 0, such as 90s, 30m, 4h, 2d or 1w
    mine.yaml:2:1: fautls: found `fautls`, expected one of about, length, history, rate_limit, shared_funds, divisions, faults; did you mean `faults`?
    mine.yaml:6:14: divisions.Main.balance: found `1,000`, expected an amount such as 2000 or -569.95, with at most 18 digits before the point and 2 after it
    mine.yaml:8:30: divisions.Main.orders[0].price: found `-5`, expected an amount above 0, such as 218 or 399.50, with at most 18 digits before the point and 2 after it
    mine.yaml:8:44: divisions.Main.orders[0].per_week: found `lots`, expected a number above 0 and at most 1000, such as 3 or 0.3, with at most 2 digits after the point
    mine.yaml:10:24: divisions.Main.deposits[0].ago: found `ago` beside `on`, expected only one of them
    mine.yaml:11:16: divisions.Other.id: found `1` again, expected another number for each division
    mine.yaml:11:45: divisions.Other.credit_limit: found `none`, expected unlimited, or an amount such as 2000, with at most 18 digits before the point and 2 after it
    mine.yaml:13:32: faults[0].kind: found `maintainance`, expected one of maintenance, rate_limited, server_error, hang, html, revoked_key, forbidden, history_forbidden, broken; did you mean `maintenance`?
    "#);
    }
}
