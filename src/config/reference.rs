//! The reference of all keys, docs/configuration.md, made from `catalog`.

use super::catalog;
use super::keys::{self, Key, Required, Shape, ValueKind};

const HEAD: &str = "\
<!-- Generated from src/config/catalog.rs; LOWTIDE_WRITE_DOCS=1 cargo test --test it config_schema writes it. -->

# Configuration reference

Every key of `alerts.yaml`. [alerts.example.yaml](../alerts.example.yaml) shows them in a complete file, and
[operations.md](operations.md) explains the behaviour behind them. `lowtide validate` lists every mistake in a file, and
[alerts.schema.json](alerts.schema.json) lets an editor check it.

| notation | meaning |
|---|---|
| `NAME` in a heading | a name that you choose |
| duration | a number and a unit: `90s`, `30m`, `4h`, `2d`, `1w` |
| amount | `2000`, `1999.95`, or with a currency: `2000 USD` |
| schedule | `every 15m`, a crontab of five fields, or of six with seconds first |
| secret | never shown in logs and messages; `validate` warns if other users can read it in the file |
| one of them | of these keys, a section has exactly one (required) or at most one |

`${NAME}` in a value is replaced by an environment variable. `LOWTIDE_…` variables override keys:
`LOWTIDE_UNREADABLE__AFTER=6h` sets `after` under `unreadable`.
";

/// Returns the text of docs/configuration.md.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    add_section(&mut page, "Top-level keys", "", catalog::ROOT);
    page
}

/// Adds the table of a section, followed by those of the sections below it.
fn add_section(page: &mut String, title: &str, path: &str, keys: &'static [Key]) {
    page.push_str(&format!("\n## {title}\n\n"));
    page.push_str("| key | type | default | description | example |\n|---|---|---|---|---|\n");
    for key in keys {
        page.push_str(&row(key));
    }
    for row in keys::alternatives(keys) {
        let names: Vec<String> = row.iter().map(|name| format!("`{name}`")).collect();
        page.push_str(&format!("\nOne of them: {}.\n", names.join(", ")));
    }
    for key in keys.iter().filter(|key| !key.below().is_empty()) {
        // Both levels have the same keys.
        if key.name == "critical" && path.ends_with("rules.NAME.") {
            continue;
        }
        let below = match key.shape {
            Shape::Named(_) => format!("{path}{}.NAME", key.name),
            _ => format!("{path}{}", key.name),
        };
        let title = if key.name == "warning" && path.ends_with("rules.NAME.") {
            format!("`{below}`, `{path}critical`")
        } else {
            format!("`{below}`")
        };
        add_section(page, &title, &format!("{below}."), key.below());
    }
}

fn row(key: &Key) -> String {
    let mut text = key.text.to_owned();
    if !key.types.is_empty() {
        text = format!("({}) {text}", key.types.join(", "));
    }
    if key.secret && !key.text.contains("secret") {
        text.push_str(" A secret.");
    }
    let default = match (key.default, key.required) {
        (Some(default), _) => default.to_owned(),
        (None, Required::Always) => "**required**".to_owned(),
        (None, Required::ForTypes(types)) if types.len() == key.types.len() => "**required**".to_owned(),
        (None, Required::ForTypes(types)) => format!("**required** for {}", types.join(", ")),
        (None, Required::Never) => String::new(),
    };
    let example = key.example.map_or_else(String::new, |example| format!("`{}`", escaped(example)));
    format!("| `{}` | {} | {} | {} | {example} |\n", key.name, type_name(key), escaped(&default), escaped(&text))
}

/// Escapes text for a cell of a table.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}

/// Returns the type of a key, in words.
fn type_name(key: &Key) -> String {
    let value = match key.value {
        ValueKind::Text => "text",
        ValueKind::Schedule => "schedule",
        ValueKind::Duration => "duration",
        ValueKind::DurationOrNever => "duration, or `never`",
        ValueKind::Threshold => "amount or duration",
        ValueKind::Confidence => "0.5 to 0.99",
        ValueKind::Boolean => "true, false",
        ValueKind::Port => "port",
        ValueKind::Division => "container id",
        ValueKind::Quota => "requests/duration",
        ValueKind::Url => "address",
        ValueKind::Path => "file",
        ValueKind::Email => "email address",
        ValueKind::Name => "name",
        ValueKind::Moment => "time",
        ValueKind::TimeOfDay => "time of day",
        ValueKind::Weekday => "day",
        ValueKind::Level | ValueKind::Metric | ValueKind::Region | ValueKind::NotifierType | ValueKind::EmailTls => {
            return catalog::choices(key.value).join(", ");
        }
    };
    match key.shape {
        Shape::Scalar => value.to_owned(),
        Shape::List => format!("list ({value})"),
        Shape::WordOrList(word) => format!("`{word}`, or list ({value})"),
        Shape::Map(_) => "section".to_owned(),
        Shape::Named(_) => "sections by name".to_owned(),
        Shape::Texts => "texts by name".to_owned(),
    }
}
