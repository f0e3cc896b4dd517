//! Migration of a state document of version 1: the same content under other names.

use serde_json::{Map, Value};

/// Renames the keys and values of a version 1 document to those of version 2, in place. Leaves alone what it does not know.
pub(super) fn migrate(document: &mut Value) {
    let Some(root) = document.as_object_mut() else { return };
    rename(root, "owed", "queue");
    rename(root, "notifiers", "failing_notifiers");
    for alert in objects_in(root.get_mut("alerts")) {
        migrate_alert(alert);
    }
    for queued in objects_in(root.get_mut("queue")) {
        migrate_queued_event(queued);
    }
    for silence in objects_in(root.get_mut("silences")) {
        migrate_silence(silence);
    }
}

fn migrate_alert(alert: &mut Map<String, Value>) {
    rename(alert, "told", "notified");
    rename(alert, "blind", "unevaluated_rules");
    rename(alert, "hushed", "suppressed");
    if let Some(Value::Object(suppressed)) = alert.get_mut("suppressed") {
        rename(suppressed, "heard", "notified_level");
    }
}

fn migrate_silence(silence: &mut Map<String, Value>) {
    rename(silence, "made", "created_at");
}

fn migrate_queued_event(queued: &mut Map<String, Value>) {
    rename(queued, "to", "pending");
    for delivery in objects_in(queued.get_mut("pending")) {
        rename(delivery, "via", "in_place_of");
        rename(delivery, "only", "remaining_recipients");
    }
    let Some(Value::Object(event)) = queued.get_mut("event") else { return };
    rename(event, "judged_at", "evaluated_at");
    match event.get("about").and_then(Value::as_str) {
        Some("threshold") => migrate_threshold_event(event),
        Some("unreadable") => migrate_unreadable_event(event),
        Some("report") => migrate_report(event),
        _ => {}
    }
}

fn migrate_threshold_event(event: &mut Map<String, Value>) {
    rename(event, "ahead", "forecast");
    let Some(Value::Object(forecast)) = event.get_mut("forecast") else { return };
    rename(forecast, "spark", "sparkline");
    rename_value(forecast, "runway", &[("over", "exhausted"), ("endless", "beyond_horizon")]);
}

fn migrate_unreadable_event(event: &mut Map<String, Value>) {
    rename(event, "outlook", "persistence");
    rename_value(event, "persistence", &[("may_heal", "transient"), ("needs_action", "permanent")]);
    rename(event, "standing_still", "firing_alerts");
    rename(event, "blind", "unevaluated_rules");
}

fn migrate_report(event: &mut Map<String, Value>) {
    for row in objects_in(event.get_mut("rows")) {
        for alert in objects_in(row.get_mut("alerts")) {
            rename(alert, "blind", "unevaluated_rules");
        }
    }
    for silence in objects_in(event.get_mut("silences")) {
        migrate_silence(silence);
    }
}

fn rename(object: &mut Map<String, Value>, old: &str, new: &str) {
    if let Some(value) = object.remove(old) {
        object.insert(new.to_owned(), value);
    }
}

/// Replaces the text under `key` where it is one of the old names.
fn rename_value(object: &mut Map<String, Value>, key: &str, names: &[(&str, &str)]) {
    let Some(Value::String(text)) = object.get_mut(key) else { return };
    if let Some((_, new)) = names.iter().find(|(old, _)| text == old) {
        (*new).clone_into(text);
    }
}

/// Returns the objects directly inside an array or an object.
fn objects_in(container: Option<&mut Value>) -> Vec<&mut Map<String, Value>> {
    match container {
        Some(Value::Array(items)) => items.iter_mut().filter_map(Value::as_object_mut).collect(),
        Some(Value::Object(fields)) => fields.values_mut().filter_map(Value::as_object_mut).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::state::{StateDecodeError, decode};

    /// A state file that version 0.1.0 wrote, with its checksum.
    const WRITTEN: &[u8] = include_bytes!("../../tests/fixtures/state-version-1.json");

    fn reencoded(version1: &[u8]) -> serde_json::Value {
        let state = decode(version1).unwrap().state;
        serde_json::from_slice(&crate::state::encode(&state).unwrap().to_bytes()).unwrap()
    }

    #[test]
    fn a_version_1_file_is_migrated_whole() {
        let decoded = decode(WRITTEN).unwrap();
        assert!(!decoded.altered, "its checksum fits");
        // The old names, replaced as text where no value contains one.
        let mut expected = String::from_utf8(WRITTEN.to_vec()).unwrap();
        for (old, new) in [
            ("owed", "queue"),
            ("notifiers", "failing_notifiers"),
            ("told", "notified"),
            ("blind", "unevaluated_rules"),
            ("hushed", "suppressed"),
            ("heard", "notified_level"),
            ("to", "pending"),
            ("via", "in_place_of"),
            ("judged_at", "evaluated_at"),
            ("outlook", "persistence"),
            ("ahead", "forecast"),
            ("spark", "sparkline"),
            ("made", "created_at"),
        ] {
            let old = format!("\"{old}\": ");
            assert!(expected.contains(&old), "the file has {old}");
            expected = expected.replace(&old, &format!("\"{new}\": "));
        }
        expected = expected.replace("\"may_heal\"", "\"transient\"").replace("\"needs_action\"", "\"permanent\"");
        let mut expected: serde_json::Value = serde_json::from_str(&expected).unwrap();
        let mut migrated = reencoded(WRITTEN);
        assert_eq!(migrated["version"], 2);
        for document in [&mut expected, &mut migrated] {
            document.as_object_mut().unwrap().retain(|key, _| key != "version" && key != "checksum");
        }
        assert_eq!(migrated, expected);
    }

    #[test]
    fn rare_keys_and_values_of_version_1_are_migrated() {
        let low = |runway: &str| {
            json!({
                "id": runway, "at": "2026-11-20T09:15:00Z", "about": "threshold", "account": "acme", "rule": "funds",
                "kind": "raised", "level": "warning", "since": "2026-11-20T09:15:00Z", "metric": "available_funds",
                "value": "unlimited", "ahead": { "runway": runway }, "audience": ["mail"],
            })
        };
        let unreadable = json!({
            "id": "u", "at": "2026-11-20T09:15:00Z", "about": "unreadable", "account": "acme", "rule": "unreadable",
            "kind": "raised", "level": "warning", "since": "2026-11-20T09:15:00Z", "outlook": "may_heal",
            "standing_still": [[{ "account": "acme", "rule": "funds" }, "critical"]], "audience": ["mail"],
        });
        let to = json!({ "mail": { "only": ["late@example.com"] } });
        let owed: Vec<_> =
            [low("over"), low("endless"), unreadable].map(|event| json!({ "event": event, "to": to })).into();
        let migrated = reencoded(json!({ "version": 1, "owed": owed }).to_string().as_bytes());
        let runways = [0, 1].map(|i| migrated["queue"][i]["event"]["forecast"]["runway"].clone());
        assert_eq!(runways, ["exhausted", "beyond_horizon"]);
        let recipients = &migrated["queue"][0]["pending"]["mail"]["remaining_recipients"];
        assert_eq!(*recipients, json!(["late@example.com"]));
        let unreadable = &migrated["queue"][2]["event"];
        assert_eq!(unreadable["persistence"], "transient");
        assert_eq!(unreadable["firing_alerts"], json!([[{ "account": "acme", "rule": "funds" }, "critical"]]));
    }

    #[test]
    fn an_edited_version_1_file_is_used_and_reported() {
        let edited = String::from_utf8(WRITTEN.to_vec()).unwrap().replace("PO 4711", "PO 4712");
        let decoded = decode(edited.as_bytes()).unwrap();
        assert!(decoded.altered);
        assert_eq!(decoded.state.silences[&1].reason.as_deref(), Some("PO 4712"));
        let unknown = edited.replace("\"hushed\"", "\"hashed\"");
        assert!(matches!(decode(unknown.as_bytes()), Err(StateDecodeError::Unusable(_))));
    }
}
