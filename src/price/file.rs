//! The form of a price list: what is written in `config/prices.json` and in the file of the operator.
//!
//! What a row does not price is billed like its kin (cached input like input, an hour's cache like the usual one, reasoning, sound
//! and pictures like text), so a list may be as short as what a provider publishes. A tier of input size or of service says only what differs.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cost::{Price, Rates, Served};
use crate::clock::UnixMs;
use crate::config::NanoUsd;

/// Bytes of a price file.
const LARGEST_FILE: u64 = 16 << 20;
/// Bytes of the version of a list: it is in every row of the ledger.
const LONGEST_VERSION: usize = 64;

/// A price file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PriceError {
    /// It cannot be read.
    #[error("{path}: cannot be read ({detail}); check `[prices] file`", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// It is not a price list.
    #[error("{place}: {detail}; see config/prices.json for the form")]
    Malformed {
        /// The file.
        place: String,
        /// What is wrong, with line and column.
        detail: String,
    },
}

/// A list.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) version: String,
    #[serde(default)]
    pub(super) source: String,
    pub(super) models: Vec<Model>,
}

/// One model, by all its names.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Model {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) provider: Option<String>,
    /// Names and patterns.
    pub(super) names: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_output: Option<u64>,
    /// The provider's page, to check the prices against.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<String>,
    /// Day of the list that they were taken from, which need not be what the page said on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) as_of: Option<String>,
    /// It costs what the model of this name costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) like: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) prices: Vec<Row>,
    // A model that has one price only may have it here.
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<NanoUsd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_read: Option<NanoUsd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_write: Option<NanoUsd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<NanoUsd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<NanoUsd>,
}

/// Prices from one day on; also what a tier of size (`input_tokens`) or of service has instead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) input: Option<NanoUsd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_read: Option<NanoUsd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_write: Option<NanoUsd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_write_1h: Option<NanoUsd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output: Option<NanoUsd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning: Option<NanoUsd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) audio_input: Option<NanoUsd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) audio_output: Option<NanoUsd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) image_input: Option<NanoUsd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) image_output: Option<NanoUsd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request: Option<NanoUsd>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) above: Vec<Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) batch: Option<Box<Row>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) flex: Option<Box<Row>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) priority: Option<Box<Row>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fast: Option<Box<Row>>,
}

/// What a row says by itself: the kinds in the order of `Tokens::KINDS`, then the price of a call.
type Said = [Option<NanoUsd>; 11];

impl Row {
    fn said(&self) -> Said {
        [
            self.input,
            self.cache_read,
            self.cache_write,
            self.cache_write_1h,
            self.output,
            self.reasoning,
            self.audio_input,
            self.audio_output,
            self.image_input,
            self.image_output,
            self.request,
        ]
    }

    /// All amounts in it and below it.
    pub(super) fn amounts(&self) -> Vec<NanoUsd> {
        let services = [&self.batch, &self.flex, &self.priority, &self.fast];
        let below = self.above.iter().chain(services.into_iter().flatten().map(|row| &**row));
        self.said().into_iter().flatten().chain(below.flat_map(Self::amounts)).collect()
    }

    /// The first of its members that has no place there.
    fn misplaced(&self, dated: bool, sized: bool, served: bool) -> Option<&'static str> {
        let tiers = [("batch", &self.batch), ("flex", &self.flex), ("priority", &self.priority), ("fast", &self.fast)];
        let own = [
            ("from", self.from.is_some() && !dated),
            ("input_tokens", self.input_tokens.is_some() != sized),
            ("above", !self.above.is_empty() && !dated),
        ];
        let own = own.into_iter().chain(tiers.iter().map(|(name, tier)| (*name, tier.is_some() && !served)));
        let inner = || tiers.iter().find_map(|(_, tier)| tier.as_ref()?.misplaced(false, false, false));
        let first = own.into_iter().find_map(|(name, wrong)| wrong.then_some(name));
        first.or_else(inner).or_else(|| self.above.iter().find_map(|tier| tier.misplaced(false, true, true)))
    }

    fn price(&self, version: &str, max_output: Option<u64>) -> Price {
        let mut tiers: Vec<(u64, Served)> =
            self.above.iter().map(|tier| (tier.input_tokens.unwrap_or(0), self.served(Some(tier)))).collect();
        tiers.sort_by_key(|(above, _)| *above);
        Price::new(version, self.from.as_deref(), max_output, self.served(None), tiers)
    }

    fn served(&self, tier: Option<&Self>) -> Served {
        let of = |service: fn(&Self) -> Option<&Self>| filled(laid(self, tier, service));
        Served {
            standard: of(|_| None),
            batch: of(|row| row.batch.as_deref()),
            flex: of(|row| row.flex.as_deref()),
            priority: of(|row| row.priority.as_deref()),
            fast: (self.fast.is_some() || tier.is_some_and(|tier| tier.fast.is_some()))
                .then(|| of(|row| row.fast.as_deref())),
        }
    }
}

/// What a row, a tier of size and a tier of service say together. Where both tiers say something and nothing is said of the two
/// together, the dearer one counts: it is not known what the provider does, and a cost must not be too small.
fn laid(row: &Row, tier: Option<&Row>, service: fn(&Row) -> Option<&Row>) -> Said {
    let none = Said::default();
    let both = tier.and_then(service).map_or(none, Row::said);
    let (by_size, by_service) = (tier.map_or(none, Row::said), service(row).map_or(none, Row::said));
    let mut said = row.said();
    for (((price, both), size), service) in said.iter_mut().zip(both).zip(by_size).zip(by_service) {
        *price = both.or(size.max(service)).or(*price);
    }
    said
}

/// What a provider does not price apart it bills like its kin.
fn filled(said: Said) -> Rates {
    let [input, read, write, write_1h, output, reasoning, audio_in, audio_out, image_in, image_out, request] = said;
    let (input, output) = (input.unwrap_or_default(), output.unwrap_or_default());
    let write = write.unwrap_or(input);
    Rates {
        kinds: [
            input,
            read.unwrap_or(input),
            write,
            write_1h.unwrap_or(write),
            output,
            reasoning.unwrap_or(output),
            audio_in.unwrap_or(input),
            audio_out.unwrap_or(output),
            image_in.unwrap_or(input),
            image_out.unwrap_or(output),
        ],
        request: request.unwrap_or_default(),
    }
}

impl Model {
    /// A model with these names and prices.
    pub(super) fn of(provider: Option<String>, names: Vec<String>, max_output: Option<u64>, prices: Vec<Row>) -> Self {
        Self { provider, names, max_output, prices, ..Self::default() }
    }

    /// For a message: where it is in the file and its first name.
    pub(super) fn place(&self, at: usize) -> String {
        match self.names.first() {
            Some(name) => format!("models[{at}] ({name})"),
            None => format!("models[{at}]"),
        }
    }

    /// Its prices as rows, in whatever form they are written.
    pub(super) fn rows(&self) -> Vec<Row> {
        if !self.prices.is_empty() || self.like.is_some() {
            return self.prices.clone();
        }
        let Self { input, cache_read, cache_write, output, reasoning, .. } = *self;
        vec![Row { input, cache_read, cache_write, output, reasoning, ..Row::default() }]
    }

    /// Its prices by the time they hold from, the latest first.
    pub(super) fn dated(&self, version: &str) -> Vec<(UnixMs, Price)> {
        let us = self.provider.as_deref() == Some("anthropic");
        let price = |row: &Row| row.price(version, self.max_output).dearer_in_the_us(us);
        let mut dated: Vec<(UnixMs, Price)> =
            self.rows().iter().map(|row| (row.from.as_deref().and_then(day_ms).unwrap_or(0), price(row))).collect();
        dated.sort_by_key(|(from, _)| std::cmp::Reverse(*from));
        dated
    }

    fn problem(&self) -> Option<String> {
        let flat = [self.input, self.cache_read, self.cache_write, self.output, self.reasoning];
        if self.names.is_empty() || self.names.iter().any(String::is_empty) {
            return Some("has no name, or an empty one".to_owned());
        }
        if flat.iter().any(Option::is_some) && !self.prices.is_empty() {
            return Some("has prices of its own and `prices`; give one of the two".to_owned());
        }
        if self.like.is_some() && (flat.iter().any(Option::is_some) || !self.prices.is_empty()) {
            return Some("is `like` another model and has prices; give one of the two".to_owned());
        }
        self.rows().iter().enumerate().find_map(|(at, row)| {
            let place = if self.prices.is_empty() { String::new() } else { format!("prices[{at}]: ") };
            if let Some(name) = row.misplaced(true, false, true) {
                return Some(format!("{place}`{name}` is missing or has no place there"));
            }
            if row.input.is_none() || row.output.is_none() {
                return Some(format!("{place}`input` and `output` are needed; write \"0\" for what is free"));
            }
            let from = row.from.as_deref().filter(|from| day_ms(from).is_none())?;
            Some(format!("{place}`from` is {from:?}, which is not a day; write it as in \"2026-10-01\""))
        })
    }
}

/// The first millisecond of a day in UTC, from `2026-10-01`.
pub fn day_ms(text: &str) -> Option<UnixMs> {
    let day: jiff::civil::Date = text.parse().ok().filter(|_| text.len() == 10)?;
    let start = jiff::tz::Offset::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok()?;
    UnixMs::try_from(start.as_millisecond()).ok()
}

/// The text of a file of the operator.
pub(super) fn read(path: &Path) -> Result<String, PriceError> {
    let unreadable = |detail: String| PriceError::Unreadable { path: path.to_owned(), detail };
    let size = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if size > LARGEST_FILE {
        return Err(unreadable(format!("it has {size} bytes, more than {LARGEST_FILE}")));
    }
    std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))
}

/// Reads a list.
pub(super) fn parse(text: &str, place: &str) -> Result<File, PriceError> {
    let malformed = |detail: String| PriceError::Malformed { place: place.to_owned(), detail };
    let file: File = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
    if file.version.is_empty() || file.version.len() > LONGEST_VERSION {
        return Err(malformed(format!(
            "`version` must have 1 to {LONGEST_VERSION} bytes: it is in every row of the ledger"
        )));
    }
    let wrong = |(at, model): (usize, &Model)| Some(format!("{}: {}", model.place(at), model.problem()?));
    match file.models.iter().enumerate().find_map(wrong) {
        Some(detail) => Err(malformed(detail)),
        None => Ok(file),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Service;
    use super::*;
    use crate::store::Tokens;

    fn price(row: &str) -> Price {
        let text = format!(r#"{{"version":"v","models":[{{"names":["m"],"prices":[{row}]}}]}}"#);
        let file = parse(&text, "here").unwrap();
        file.models[0].dated("v").remove(0).1
    }

    fn cost(price: &Price, kind: &str, count: u64, service: Service) -> i64 {
        let mut counts = [0; 10];
        counts[Tokens::KINDS.iter().position(|name| *name == kind).unwrap()] = count;
        price.cost(&Tokens::of(counts), service).0
    }

    #[test]
    fn what_is_not_priced_costs_what_its_kin_costs() {
        let price = price(r#"{"input":"1","cache_write":"2","output":"8","reasoning":"9","audio_output":"20"}"#);
        for (kind, dollars) in [
            ("input", 1),
            ("cache_read", 1),
            ("cache_write", 2),
            ("cache_write_1h", 2),
            ("output", 8),
            ("reasoning", 9),
            ("audio_input", 1),
            ("audio_output", 20),
            ("image_input", 1),
            ("image_output", 8),
        ] {
            assert_eq!(cost(&price, kind, 1_000_000, Service::Batch), dollars * 1_000_000_000, "{kind}");
        }
    }

    #[test]
    fn a_tier_counts_for_all_tokens_of_a_request_with_more_input_than_its_size() {
        let price = price(
            r#"{"input":"1","output":"10","above":[{"input_tokens":200000,"input":"2","output":"15","priority":{"input":"5"}}],
                "batch":{"input":"0.5","output":"5"},"priority":{"input":"3","output":"20"}}"#,
        );
        let asked = |input, service| price.cost(&Tokens { input, output: 1_000_000, ..Tokens::default() }, service).0;
        assert_eq!(asked(200_000, Service::Standard), 10_200_000_000);
        assert_eq!(asked(200_001, Service::Standard), 15_400_002_000);
        assert_eq!(asked(200_000, Service::Batch), 5_100_000_000);
        assert_eq!(asked(400_000, Service::Batch), 15_800_000_000, "nothing is said of both: the dearer one");
        assert_eq!(asked(400_000, Service::Priority), 22_000_000_000, "5 is said of both, 20 is the dearer one");
        assert_eq!(asked(400_000, Service::Flex), 15_800_000_000);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (model, told) in [
            (r#"{"names":["m"],"input":1,"output":"2"}"#, "line 1"),
            (r#"{"names":["m"],"input":"-1","output":"2"}"#, "not an amount"),
            (r#"{"names":["m"],"inputs":"1","output":"2"}"#, "inputs"),
            (r#"{"names":["m"],"input":"1"}"#, "models[0] (m): `input` and `output` are needed"),
            (r#"{"names":[],"input":"1","output":"2"}"#, "models[0]: has no name"),
            (r#"{"names":["m"],"prices":[{"input":"1","output":"2","from":"1.10.2026"}]}"#, "prices[0]: `from`"),
            (r#"{"names":["m"],"prices":[{"input":"1","output":"2","above":[{"input":"2"}]}]}"#, "`input_tokens`"),
            (r#"{"names":["m"],"prices":[{"input":"1","output":"2","batch":{"flex":{}}}]}"#, "`flex`"),
            (r#"{"names":["m"],"like":"n","input":"1","output":"2"}"#, "`like`"),
        ] {
            let error =
                parse(&format!(r#"{{"version":"v","models":[{model}]}}"#), "prices.json").unwrap_err().to_string();
            assert!(error.contains(told) && error.starts_with("prices.json: "), "{model}: {error}");
        }
    }

    #[test]
    fn a_day_begins_at_midnight_in_utc() {
        assert_eq!(day_ms("1970-01-02"), Some(86_400_000));
        assert_eq!(day_ms("2026-10-01"), Some(1_790_812_800_000));
        for text in ["2026-13-01", "2026-10-1", "20261001", "2026-10-01T00:00:00Z", ""] {
            assert_eq!(day_ms(text), None, "{text}");
        }
    }
}
