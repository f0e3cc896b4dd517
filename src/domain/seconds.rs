//! Durations as they are saved (whole seconds) and as configurations write them (`36h`, `14d`).

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, Serializer};

pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_secs())
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

/// Formats a duration in the largest unit up to days that is exact: `14d` is shown as it was written, and zero is `0d`.
pub(crate) fn format_compact(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(24 * 3600, "d"), (3600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(length, _)| seconds.is_multiple_of(*length));
    unit.map_or_else(|| format!("{seconds}s"), |(length, unit)| format!("{}{unit}", seconds / length))
}

/// Serialization of an optional duration.
pub(super) mod option {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    // The signature that serde requires.
    #[allow(clippy::ref_option)]
    pub(in crate::domain) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(|duration| duration.as_secs()).serialize(serializer)
    }

    pub(in crate::domain) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Option::<u64>::deserialize(from).map(|seconds| seconds.map(Duration::from_secs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shown_in_the_largest_exact_unit() {
        let shown = |seconds| format_compact(Duration::from_secs(seconds));
        assert_eq!([0, 90, 120, 7200, 172_800].map(shown), ["0d", "90s", "2m", "2h", "2d"]);
    }
}
