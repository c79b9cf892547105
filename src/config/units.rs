//! Durations and sizes as people write them.
//!
//! One unit each and a whole number, so that every value has one way to be written and arithmetic is exact: `1500ms`,
//! never `1.5s`. Rendering picks the largest unit that divides the value, and parsing what was rendered gives it back.

use std::time::Duration;

/// Units of time with their length in milliseconds, largest first.
const TIMES: [(&str, u64); 5] =
    [("d", 24 * 60 * 60 * 1000), ("h", 60 * 60 * 1000), ("m", 60 * 1000), ("s", 1000), ("ms", 1)];

/// Units of size with their bytes, largest first.
const SIZES: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Reads `500ms`, `30s`, `10m`, `24h` or `7d`. `None` for anything else, also when it overflows.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let (_, factor) = TIMES.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor).map(Duration::from_millis)
}

/// Reads `8MiB`, `64KiB`, `1GiB`, `1TiB`, `512B` or plain bytes. `None` for anything else, also when it overflows.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "" | "B" => 1,
        unit => SIZES.iter().find(|(name, _)| *name == unit)?.1,
    };
    number.checked_mul(factor)
}

/// The shortest text that [`parse_duration`] reads back as `value`, to the millisecond.
pub(crate) fn show_duration(value: Duration) -> String {
    let ms = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    let fitting = TIMES.iter().find(|(_, factor)| ms != 0 && ms.is_multiple_of(*factor));
    match fitting {
        Some((unit, factor)) => format!("{}{unit}", ms / factor),
        None => "0s".to_owned(),
    }
}

/// The shortest text that [`parse_size`] reads back as `bytes`.
pub(super) fn show_size(bytes: u64) -> String {
    let fitting = SIZES.iter().find(|(_, factor)| bytes != 0 && bytes.is_multiple_of(*factor));
    match fitting {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

/// Splits digits from the unit behind them; one blank between the two is allowed.
fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, unit.strip_prefix(' ').unwrap_or(unit)))
}

/// A duration as text for serde; absent or null is none.
pub(super) mod optional_duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::config) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.serialize_str(&super::show_duration(*value)),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Duration>, D::Error> {
        let Some(text) = Option::<String>::deserialize(source)? else { return Ok(None) };
        let wrong =
            || serde::de::Error::custom("not a duration: write a whole number and a unit, as in 30s, 10m or 24h");
        super::parse_duration(&text).map(Some).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_documented_forms_are_read() {
        assert_eq!(parse_duration("30s"), Some(Duration::from_secs(30)));
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("10 m"), Some(Duration::from_secs(600)));
        assert_eq!(parse_duration("24h"), Some(Duration::from_secs(86_400)));
        assert_eq!(parse_duration("7d"), Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(parse_size("8MiB"), Some(8 << 20));
        assert_eq!(parse_size("64KiB"), Some(64 << 10));
        assert_eq!(parse_size("1GiB"), Some(1 << 30));
        assert_eq!(parse_size("4096"), Some(4096));
    }

    #[test]
    fn what_could_be_misread_is_refused() {
        for text in ["", "s", "30", "1.5s", "-1s", "1h30m", "30S", "99999999999999d", "3 0s", "∞s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        for text in ["", "MiB", "8MB", "8mib", "1.5GiB", "-1", "99999999999TiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(ms in 0u64..1 << 50, bytes in 0u64..) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
            prop_assert_eq!(parse_size(&show_size(bytes)), Some(bytes));
        }

        #[test]
        fn any_text_is_answered_without_a_panic(text in any::<String>()) {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}
