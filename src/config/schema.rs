//! The JSON Schema of `alerts.yaml`, for editors, made from `catalog`.
//!
//! The schema accepts everything that the loader accepts, except what only an environment variable would make valid.
//! Checks that need other values are left to the loader.

use serde_json::{Map, Value, json};

use super::catalog;
use super::keys::{self, Key, Required, Shape, ValueKind};

/// Groups of keys of which a section needs at least one.
const AT_LEAST_ONE: &[&[&str]] = &[&["warning", "critical"]];

/// Returns the JSON Schema, draft 2020-12.
pub fn schema() -> Value {
    let mut root = section(catalog::ROOT);
    let head = [
        ("$schema", "https://json-schema.org/draft/2020-12/schema"),
        ("title", "alerts.yaml of lowtide"),
        ("description", "Configuration of lowtide. `lowtide validate` finds more mistakes than this schema can."),
    ];
    for (key, text) in head {
        root[key] = text.into();
    }
    root
}

/// Returns the schema of a map of known keys.
fn section(keys: &'static [Key]) -> Value {
    let properties: Map<String, Value> = keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    require(&mut schema, keys, |required| required == Required::Always);
    let mut conditions = Vec::new();
    if keys.iter().any(|key| key.value == ValueKind::NotifierType) {
        conditions.extend(catalog::NOTIFIER_TYPES.map(|name| for_type(keys, name)));
    }
    let excluded = keys::alternatives(keys).flat_map(pairs);
    conditions.extend(excluded.map(|pair| json!({ "not": { "required": pair } })));
    if !conditions.is_empty() {
        schema["allOf"] = conditions.into();
    }
    schema
}

/// Returns every two keys of a group.
fn pairs(row: &'static [&'static str]) -> impl Iterator<Item = [&'static str; 2]> {
    row.iter().enumerate().flat_map(move |(i, one)| row[i + 1..].iter().map(move |other| [*one, *other]))
}

/// Adds the required keys to a schema, and the groups of which one key is required.
fn require(schema: &mut Value, keys: &'static [Key], is_required: impl Fn(Required) -> bool) {
    let required = |name: &str| keys.iter().any(|key| key.name == name && is_required(key.required));
    let groups: Vec<&[&str]> = keys::alternatives(keys).filter(|row| row.iter().any(|name| required(name))).collect();
    let alone: Vec<&str> =
        keys::names(keys).filter(|name| required(name) && !groups.iter().any(|group| group.contains(name))).collect();
    if !alone.is_empty() {
        schema["required"] = json!(alone);
    }
    let has = |name: &&str| keys.iter().any(|key| key.name == *name);
    let at_least_one = AT_LEAST_ONE.iter().copied().filter(|row| is_required(Required::Always) && row.iter().all(has));
    for group in groups.into_iter().chain(at_least_one) {
        let either = |name: &&str| json!({ "required": [name] });
        schema["anyOf"] = group.iter().map(either).collect();
    }
}

/// Returns the condition for a type of notifier: its required keys, and the keys that it must not have.
fn for_type(keys: &'static [Key], name: &str) -> Value {
    let foreign = keys.iter().filter(|key| !key.fits_type(name));
    let foreign: Map<String, Value> = foreign.map(|key| (key.name.to_owned(), json!(false))).collect();
    let mut then = json!({ "properties": foreign });
    require(&mut then, keys, |required| matches!(required, Required::ForTypes(types) if types.contains(&name)));
    json!({ "if": { "properties": { "type": { "const": name } }, "required": ["type"] }, "then": then })
}

/// Returns the schema of a key's value.
fn property(key: &Key) -> Value {
    let items = || json!({ "type": "array", "minItems": 1, "items": value(key.value) });
    let mut schema = match key.shape {
        Shape::Scalar => value(key.value),
        Shape::List => items(),
        Shape::WordOrList(word) => json!({ "anyOf": [one_of(&[word]), items()] }),
        Shape::Map(keys) => section(keys),
        Shape::Texts => json!({ "type": "object", "additionalProperties": anything() }),
        Shape::Named(keys) => {
            let names = json!({ "minLength": 1, "maxLength": 64 });
            json!({
                "type": "object", "minProperties": 1, "propertyNames": names, "additionalProperties": section(keys),
            })
        }
    };
    let default = key.default.map_or_else(String::new, |default| format!(" Default: {default}."));
    let secret = if key.secret && !key.text.contains("secret") { " A secret." } else { "" };
    schema["description"] = format!("{}{secret}{default}", key.text).into();
    schema
}

/// Returns the schema of any scalar.
fn anything() -> Value {
    json!({ "type": ["string", "number", "boolean"] })
}

/// Returns the schema of a scalar. An environment variable may stand for any part of it.
fn value(value: ValueKind) -> Value {
    let text = |pattern: &str| json!({ "type": "string", "pattern": format!("^(?:{pattern})$|\\$\\{{") });
    let duration = "0|[0-9]+[smhdw]";
    match value {
        ValueKind::Schedule => text(r"\s*every\s+[0-9]+[smhdw]\s*|\s*\S+(?:\s+\S+){4,5}\s*"),
        ValueKind::Duration => json!({ "anyOf": [{ "const": 0 }, text(duration)] }),
        ValueKind::DurationOrNever => text(r"[0-9]+[smhdw]|never"),
        ValueKind::Threshold => json!({ "anyOf": [
            { "type": "number" }, text(r"-?[0-9]+(?:\.[0-9]+)?(?: +[A-Za-z]{3})?|[0-9]+[smhdw]"),
        ] }),
        ValueKind::Confidence => json!({ "anyOf": [
            { "type": "number", "minimum": 0.5, "maximum": 0.99 }, text(r"0\.[5-9][0-9]*|[5-9][0-9]%"),
        ] }),
        ValueKind::Boolean => json!({ "anyOf": [{ "type": "boolean" }, text("true|false")] }),
        ValueKind::Port => json!({ "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 65535 }, text("[0-9]+")] }),
        ValueKind::Division => json!({ "anyOf": [{ "type": "integer", "minimum": 1 }, text("[0-9]+")] }),
        ValueKind::Quota => text("[0-9]+/[0-9]+[smhdw]"),
        ValueKind::Url => text(r"[Hh][Tt][Tt][Pp][Ss]?:.+"),
        ValueKind::Level | ValueKind::Metric | ValueKind::Region | ValueKind::NotifierType | ValueKind::EmailTls => {
            one_of(&catalog::choices(value))
        }
        ValueKind::Text
        | ValueKind::Path
        | ValueKind::Email
        | ValueKind::Name
        | ValueKind::Moment
        | ValueKind::TimeOfDay
        | ValueKind::Weekday => anything(),
    }
}

fn one_of(words: &[&str]) -> Value {
    json!({ "anyOf": [{ "enum": words }, { "type": "string", "pattern": "\\$\\{" }] })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `check` for every key, with its path.
    fn each_key(keys: &'static [Key], path: &str, check: &mut impl FnMut(&str, &Key)) {
        for key in keys {
            let path = format!("{path}.{}", key.name);
            check(&path, key);
            each_key(key.below(), &path, check);
        }
    }

    #[test]
    fn every_key_is_described_by_sentences() {
        each_key(catalog::ROOT, "", &mut |path, key| {
            assert!(key.text.ends_with('.') && key.text.len() > 10, "{path}: {}", key.text);
            assert!(!key.default.is_some_and(|default| default.ends_with('.')), "{path}");
        });
    }

    #[test]
    fn every_example_is_valid_in_the_schema_of_its_key() {
        each_key(catalog::ROOT, "", &mut |path, key| {
            let Some(example) = key.example else {
                assert!(!key.below().is_empty(), "{path} has no example");
                return;
            };
            let value: Value = serde_saphyr::from_str(example).unwrap_or_else(|error| panic!("{path}: {error}"));
            let validator = jsonschema::draft202012::new(&property(key)).unwrap_or_else(|error| panic!("{error}"));
            assert!(validator.is_valid(&value), "{path}: {example}");
        });
    }
}
