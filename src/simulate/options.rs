//! What a simulated upstream can be told: the command-line flags, which are also the library's options.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

/// How the simulated upstream answers. Every field has a flag of the same name.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8090")]
    pub listen: SocketAddr,
    /// Wait before the response head of every model request, for example 200ms.
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = parse_duration)]
    pub latency: Duration,
    /// Wait between two events of a streamed answer, for example 20ms.
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = parse_duration)]
    pub chunk_delay: Duration,
    /// Shortest answer, in completion tokens (one token is four bytes of UTF-8, rounded up).
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub tokens: u32,
    /// Share of model requests that fail with 500, from 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = parse_share)]
    pub error_rate: f64,
    /// Seed of the choice which requests fail.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Credential to ask for: `any` key, `none` at all, or exactly this one.
    #[arg(long, value_name = "any|none|KEY", default_value = "any")]
    pub require_key: KeyRule,
    /// TOML file of fault rules (`[[rule]]` with path, model, prompt, skip, times, fault).
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// JSON lines of answers to give (`{"question": "…", "answer": "…"}`); other questions get one that is made up.
    #[arg(long, value_name = "FILE")]
    pub answers: Option<PathBuf>,
    /// How long the beginning of a prompt is kept in the provider's own prompt cache, for example 5m; 0 keeps none.
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = parse_duration)]
    pub prompt_cache: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8090)),
            latency: Duration::ZERO,
            chunk_delay: Duration::ZERO,
            tokens: 64,
            error_rate: 0.0,
            seed: 0,
            require_key: KeyRule::Any,
            script: None,
            answers: None,
            prompt_cache: Duration::ZERO,
        }
    }
}

/// Which credential a request must carry, as `Authorization: Bearer …` or `x-api-key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRule {
    /// None is needed.
    None,
    /// Any but the empty one and those that start with `sk-invalid`.
    Any,
    /// Exactly this one.
    Exactly(String),
}

impl FromStr for KeyRule {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "none" => Self::None,
            "any" => Self::Any,
            key => Self::Exactly(key.to_owned()),
        })
    }
}

impl KeyRule {
    /// Whether `presented` (without its `Bearer `) is good enough.
    pub(super) fn admits(&self, presented: Option<&[u8]>) -> bool {
        match self {
            Self::None => true,
            Self::Any => presented.is_some_and(|key| !key.is_empty() && !key.starts_with(b"sk-invalid")),
            Self::Exactly(wanted) => presented == Some(wanted.as_bytes()),
        }
    }
}

/// A duration that could not be read.
#[derive(Debug, PartialEq, Eq)]
pub struct BadDuration(String);

impl fmt::Display for BadDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a duration; write a number and ms, s, m or h, for example 200ms", self.0)
    }
}

impl std::error::Error for BadDuration {}

/// Reads `200ms`, `1.5s`, `2m`, `1h` or `0`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, BadDuration> {
    let bad = || BadDuration(text.to_owned());
    let text_trimmed = text.trim();
    if text_trimmed == "0" {
        return Ok(Duration::ZERO);
    }
    let unit_at = text_trimmed.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(bad)?;
    let (number, unit) = text_trimmed.split_at(unit_at);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(bad()),
    };
    let number: f64 = number.parse().map_err(|_| bad())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(format!("`{text}` is not a number from 0 to 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit_and_nonsense_is_refused() {
        assert_eq!(parse_duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        for bad in ["", "5", "ms", "-1s", "1 fortnight"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn flags_and_library_defaults_agree() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            options: Options,
        }
        let parsed = <Cli as clap::Parser>::try_parse_from(["simulate"]).unwrap().options;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", Options::default()));
        let args = ["simulate", "--latency", "200ms", "--error-rate", "0.01", "--require-key", "k"];
        let set = <Cli as clap::Parser>::try_parse_from(args).unwrap().options;
        assert_eq!(set.latency, Duration::from_millis(200));
        assert_eq!(set.require_key, KeyRule::Exactly("k".into()));
        assert!(<Cli as clap::Parser>::try_parse_from(["simulate", "--error-rate", "2"]).is_err());
    }

    #[test]
    fn any_key_is_not_no_key() {
        assert!(!KeyRule::Any.admits(None));
        assert!(!KeyRule::Any.admits(Some(b"")));
        assert!(!KeyRule::Any.admits(Some(b"sk-invalid-1")));
        assert!(KeyRule::Any.admits(Some(b"sk-1")));
        assert!(KeyRule::None.admits(None));
        assert!(!KeyRule::Exactly("a".into()).admits(Some(b"b")));
    }
}
