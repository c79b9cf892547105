//! What a request costs: the price book and the arithmetic.
//!
//! Money is whole nano-dollars and prices are whole nano-dollars for a million tokens, so that every sum is exact; a request is
//! rounded once, half to even. A model without a price is *unpriced*, which is not the same as free: what then happens is a
//! policy.

pub mod count;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::config::{NanoUsd, glob_matches};
use crate::store::Tokens;

/// The list that comes with the program.
const SHIPPED: &str = include_str!("../../config/prices.json");
/// Tokens that a price is for.
const MILLION: i128 = 1_000_000;
/// Bytes of a price file.
const LARGEST_FILE: u64 = 16 << 20;

/// Prices of one model, nano-dollars for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Input that is neither read from nor written to the provider's cache.
    pub input: NanoUsd,
    /// Input read from the provider's cache.
    pub cache_read: NanoUsd,
    /// Input written to the provider's cache.
    pub cache_write: NanoUsd,
    /// Output without reasoning.
    pub output: NanoUsd,
    /// Reasoning output.
    pub reasoning: NanoUsd,
    /// Most output tokens of one answer, if that is known.
    pub max_output: Option<u64>,
}

/// Prices by model.
#[derive(Debug)]
pub struct PriceBook {
    version: Arc<str>,
    models: Vec<(Vec<String>, Price)>,
    highest: Option<Price>,
}

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: String,
    #[serde(default, rename = "source")]
    _source: String,
    models: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    names: Vec<String>,
    input: NanoUsd,
    cache_read: Option<NanoUsd>,
    cache_write: Option<NanoUsd>,
    output: NanoUsd,
    reasoning: Option<NanoUsd>,
    max_output: Option<u64>,
}

impl Row {
    /// What a provider does not price apart it bills like its kin.
    fn price(&self) -> Price {
        Price {
            input: self.input,
            cache_read: self.cache_read.unwrap_or(self.input),
            cache_write: self.cache_write.unwrap_or(self.input),
            output: self.output,
            reasoning: self.reasoning.unwrap_or(self.output),
            max_output: self.max_output,
        }
    }
}

impl PriceBook {
    /// The list that comes with the program, with the file of the operator laid over it: its models win.
    ///
    /// # Errors
    /// The file cannot be read or is not a price list.
    pub fn load(file: Option<&Path>) -> Result<Self, PriceError> {
        let shipped = parse(SHIPPED, "the shipped price list")?;
        let Some(path) = file else { return Ok(Self::of(&[shipped])) };
        let unreadable = |detail: String| PriceError::Unreadable { path: path.to_owned(), detail };
        let size = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
        if size > LARGEST_FILE {
            return Err(unreadable(format!("it has {size} bytes, more than {LARGEST_FILE}")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        Ok(Self::of(&[parse(&text, &path.display().to_string())?, shipped]))
    }

    /// Earlier files win.
    fn of(files: &[File]) -> Self {
        let versions: Vec<&str> = files.iter().map(|file| file.version.as_str()).collect();
        let models: Vec<(Vec<String>, Price)> =
            files.iter().flat_map(|file| &file.models).map(|row| (row.names.clone(), row.price())).collect();
        let highest = models.iter().map(|(_, price)| *price).reduce(|one, other| Price {
            input: one.input.max(other.input),
            cache_read: one.cache_read.max(other.cache_read),
            cache_write: one.cache_write.max(other.cache_write),
            output: one.output.max(other.output),
            reasoning: one.reasoning.max(other.reasoning),
            max_output: one.max_output.max(other.max_output),
        });
        Self { version: versions.join("+").into(), models, highest }
    }

    /// The price of a model: by its very name, else by the longest pattern that fits.
    pub fn price(&self, model: &str) -> Option<Price> {
        let mut best: Option<(usize, Price)> = None;
        for (names, price) in &self.models {
            for name in names {
                if name == model {
                    return Some(*price);
                }
                if best.is_none_or(|(length, _)| name.len() > length) && glob_matches(name, model) {
                    best = Some((name.len(), *price));
                }
            }
        }
        best.map(|(_, price)| price)
    }

    /// The highest price of each kind in the book, for models of which nothing is known.
    pub fn highest(&self) -> Option<Price> {
        self.highest
    }

    /// Which book this is, for the ledger.
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }
}

impl Price {
    /// What these tokens cost.
    pub fn cost(&self, tokens: &Tokens) -> NanoUsd {
        rounded(&[
            (tokens.input, self.input),
            (tokens.cache_read, self.cache_read),
            (tokens.cache_write, self.cache_write),
            (tokens.output, self.output),
            (tokens.reasoning, self.reasoning),
        ])
    }

    /// The most that so many tokens may cost, whatever kinds they turn out to be.
    pub fn worst(&self, input: u64, output: u64) -> NanoUsd {
        let dearest_input = self.input.max(self.cache_read).max(self.cache_write);
        rounded(&[(input, dearest_input), (output, self.output.max(self.reasoning))]).plus(NanoUsd(1))
    }
}

/// The sum, rounded once, half to even.
fn rounded(parts: &[(u64, NanoUsd)]) -> NanoUsd {
    let sum: i128 = parts.iter().map(|(tokens, price)| i128::from(*tokens) * i128::from(price.0)).sum();
    let (whole, rest) = (sum / MILLION, sum % MILLION);
    let up = rest * 2 > MILLION || (rest * 2 == MILLION && whole % 2 == 1);
    NanoUsd(i64::try_from(whole + i128::from(up)).unwrap_or(i64::MAX))
}

fn parse(text: &str, place: &str) -> Result<File, PriceError> {
    let malformed = |detail: String| PriceError::Malformed { place: place.to_owned(), detail };
    let file: File = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
    let nameless = |row: &&Row| row.names.is_empty() || row.names.iter().any(String::is_empty);
    if let Some(row) = file.models.iter().position(|row| nameless(&row)) {
        return Err(malformed(format!("models[{row}] has no name, or an empty one")));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(input: u64, cache_read: u64, output: u64) -> Tokens {
        Tokens { input, cache_read, output, ..Tokens::default() }
    }

    #[test]
    fn the_shipped_list_prices_models_and_their_dated_names() {
        let book = PriceBook::load(None).unwrap();
        let mini = book.price("gpt-4o-mini").unwrap();
        assert_eq!(book.price("gpt-4o-mini-2024-07-18"), Some(mini));
        assert_ne!(book.price("gpt-4o"), Some(mini));
        assert_eq!(book.price("gpt-4o-audio-preview"), None, "an audio model is not billed like its kin");
        assert_eq!(book.price("made-up"), None);
        // 1,000 uncached, 2,000 cached, 500 out: 0.00015 + 0.00015 + 0.0003 dollars.
        assert_eq!(mini.cost(&tokens(1_000, 2_000, 500)), NanoUsd(600_000));
    }

    #[test]
    fn the_operators_file_wins_and_a_bad_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("prices.json");
        std::fs::write(&path, r#"{"version":"ours","models":[{"names":["gpt-4o*"],"input":"1","output":"2"}]}"#)
            .unwrap();
        let book = PriceBook::load(Some(&path)).unwrap();
        assert_eq!(book.price("gpt-4o-audio-preview").unwrap().input, NanoUsd::dollars(1));
        assert_eq!(book.price("gpt-4o").unwrap().input, NanoUsd(2_500_000_000), "the very name wins over a pattern");
        assert!(book.version().starts_with("ours+"));
        std::fs::write(&path, r#"{"version":"x","models":[{"names":["a"],"input":1,"output":"2"}]}"#).unwrap();
        let told = PriceBook::load(Some(&path)).unwrap_err().to_string();
        assert!(told.contains("prices.json") && told.contains("line 1"), "{told}");
    }

    #[test]
    fn half_a_nano_dollar_goes_to_the_even_side() {
        let price = |input| Price {
            input: NanoUsd(input),
            cache_read: NanoUsd(0),
            cache_write: NanoUsd(0),
            output: NanoUsd(0),
            reasoning: NanoUsd(0),
            max_output: None,
        };
        assert_eq!(price(500_000).cost(&tokens(1, 0, 0)), NanoUsd(0));
        assert_eq!(price(1_500_000).cost(&tokens(1, 0, 0)), NanoUsd(2));
        assert_eq!(price(500_001).cost(&tokens(1, 0, 0)), NanoUsd(1));
    }

    proptest! {
        #[test]
        fn the_worst_case_is_never_less_than_the_cost(
            kinds in proptest::array::uniform5(0_u64..1_000_000),
            prices in proptest::array::uniform5(0_i64..100_000_000_000),
        ) {
            let [input, cache_read, cache_write, output, reasoning] = kinds;
            let price = Price {
                input: NanoUsd(prices[0]),
                cache_read: NanoUsd(prices[1]),
                cache_write: NanoUsd(prices[2]),
                output: NanoUsd(prices[3]),
                reasoning: NanoUsd(prices[4]),
                max_output: None,
            };
            let cost = price.cost(&Tokens { input, cache_read, cache_write, output, reasoning });
            prop_assert!(cost <= price.worst(input + cache_read + cache_write, output + reasoning));
        }
    }
}
