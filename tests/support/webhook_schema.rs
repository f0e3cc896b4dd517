//! The part of JSON Schema that docs/webhook.md uses, implemented independently of what it checks.

use serde_json::Value;

const DOCS: &str = include_str!("../../docs/webhook.md");

/// Returns the first JSON block below a heading of docs/webhook.md.
pub fn documented(heading: &str) -> Value {
    let below = DOCS.split_once(&format!("\n## {heading}\n")).unwrap().1;
    let block = below.split_once("```json\n").unwrap().1.split_once("```").unwrap().0;
    serde_json::from_str(block).unwrap()
}

/// Panics if a document differs from the documentation, or has an undocumented key.
pub fn expect_documented(document: &Value) {
    let schema = documented("JSON Schema");
    let faults = faults(&schema, &schema, document, "");
    assert!(faults.is_empty(), "{faults:#?}\n{document:#}");
}

pub fn faults(root: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (keyword, wanted) in schema.as_object().unwrap() {
        let fits = match keyword.as_str() {
            "$schema" | "title" | "description" | "$defs" | "items" => true,
            "const" => value == wanted,
            "enum" => wanted.as_array().unwrap().contains(value),
            "pattern" => value.as_str().is_none_or(|text| matches(wanted.as_str().unwrap(), text)),
            "type" => {
                let names = wanted.as_array().cloned().unwrap_or_else(|| vec![wanted.clone()]);
                names.iter().any(|name| is(value, name.as_str().unwrap()))
            }
            "required" => {
                let lacks = |key: &Value| value.is_object() && value.get(key.as_str().unwrap()).is_none();
                !wanted.as_array().unwrap().iter().any(lacks)
            }
            "$ref" => {
                let name = wanted.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                found.extend(faults(root, &root["$defs"][name], value, at));
                true
            }
            "anyOf" => wanted.as_array().unwrap().iter().any(|one| faults(root, one, value, at).is_empty()),
            "properties" => {
                for (key, part) in value.as_object().into_iter().flatten() {
                    match wanted.get(key) {
                        Some(schema) => found.extend(faults(root, schema, part, &format!("{at}.{key}"))),
                        None => found.push(format!("{at}.{key} is not documented")),
                    }
                }
                true
            }
            other => panic!("{other} is not known here"),
        };
        if !fits {
            found.push(format!("{at}: {value} does not fit {keyword} {wanted}"));
        }
    }
    if let (Some(schema), Value::Array(items)) = (schema.get("items"), value) {
        found.extend(items.iter().flat_map(|item| faults(root, schema, item, &format!("{at}[]"))));
    }
    found
}

fn is(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    }
}

/// Checks the two patterns of the schema: a time and an amount.
fn matches(pattern: &str, text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if pattern.contains('T') {
        let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        return shape == "0000-00-00T00:00:00.000Z";
    }
    let bare = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = bare.split_once('.').map_or((bare, None), |(whole, fraction)| (whole, Some(fraction)));
    digits(whole) && fraction.is_none_or(digits)
}
