//! Money as people write it: dollars with a decimal point, in text, never as a floating-point number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Nano-dollars in a dollar.
const NANO: i64 = 1_000_000_000;

/// An amount in billionths of a US dollar. Its text is a decimal number of dollars, as in `12.50`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NanoUsd(pub i64);

/// Text that is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an amount of dollars: write digits with at most nine behind the point, as in \"12.50\"")]
pub struct BadMoney;

impl NanoUsd {
    /// Whole dollars; the largest amount there is if they are more.
    pub const fn dollars(dollars: i64) -> Self {
        Self(dollars.saturating_mul(NANO))
    }

    /// Dollars as a floating-point number, for gauges and plots only.
    #[expect(clippy::cast_precision_loss, reason = "nothing is counted with it")]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / NANO as f64
    }

    /// The sum; the largest amount there is if it is more.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for NanoUsd {
    /// At least two digits behind the point, more only where they are not zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0.unsigned_abs() / NANO.unsigned_abs(), self.0.unsigned_abs() % NANO.unsigned_abs());
        let digits = format!("{part:09}");
        let end = digits.trim_end_matches('0').len().max(2);
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{whole}.{}", digits.get(..end).unwrap_or_default())
    }
}

impl FromStr for NanoUsd {
    type Err = BadMoney;

    /// Reads `12`, `12.5` or `0.000000001`; no sign, no exponent, no separators.
    fn from_str(text: &str) -> Result<Self, BadMoney> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 9 {
            return Err(BadMoney);
        }
        let whole: i64 = whole.parse().map_err(|_| BadMoney)?;
        let part: i64 = format!("{part:0<9}").parse().map_err(|_| BadMoney)?;
        whole.checked_mul(NANO).and_then(|nano| nano.checked_add(part)).map(Self).ok_or(BadMoney)
    }
}

impl Serialize for NanoUsd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NanoUsd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_read_exactly_or_not_at_all() {
        for (text, nano) in
            [("12.50", 12_500_000_000), ("0", 0), ("0.000000001", 1), ("9223372036.854775807", i64::MAX)]
        {
            assert_eq!(text.parse(), Ok(NanoUsd(nano)), "{text}");
        }
        for text in
            ["", ".", "1.", ".5", "-1", "1e3", "1,000", "0.0000000001", "9223372036.854775808", " 1", "$1", "１"]
        {
            assert_eq!(text.parse::<NanoUsd>(), Err(BadMoney), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(nano in 0..=i64::MAX) {
            prop_assert_eq!(NanoUsd(nano).to_string().parse(), Ok(NanoUsd(nano)));
        }
    }

    #[test]
    fn amounts_look_like_money() {
        assert_eq!(NanoUsd(12_500_000_000).to_string(), "12.50");
        assert_eq!(NanoUsd(1).to_string(), "0.000000001");
        assert_eq!(NanoUsd(-1_500_000_000).to_string(), "-1.50");
    }
}
