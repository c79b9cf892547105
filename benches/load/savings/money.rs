//! What calls cost, reckoned apart from the program: only the prices of single tokens come from its list.

use remora::price::{PriceBook, Service};
use remora::store::Tokens;
use serde::Deserialize;

use crate::{Fault, MODEL};

const MILLION: i128 = 1_000_000;

/// The `usage` of an answer.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Billed {
    prompt_tokens: u64,
    completion_tokens: u64,
    prompt_tokens_details: Details,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Details {
    cached_tokens: u64,
}

impl Billed {
    /// Input, of it cached, output.
    pub(crate) fn tokens(&self) -> [u64; 3] {
        [self.prompt_tokens, self.prompt_tokens_details.cached_tokens, self.completion_tokens]
    }
}

/// Nano-dollars for a million tokens.
#[derive(Clone, Debug)]
pub(crate) struct Rates {
    pub(crate) version: String,
    pub(crate) input: i64,
    pub(crate) cached: i64,
    pub(crate) output: i64,
}

impl Rates {
    /// From the list that comes with the program.
    pub(crate) fn shipped(now: u64) -> Result<Self, Fault> {
        let price = PriceBook::load(None)?.price(MODEL, now).ok_or("the model has no price")?;
        let of = |tokens: Tokens| price.cost(&tokens, Service::Standard).0;
        Ok(Self {
            version: price.version.to_string(),
            input: of(Tokens { input: 1_000_000, ..Tokens::default() }),
            cached: of(Tokens { cache_read: 1_000_000, ..Tokens::default() }),
            output: of(Tokens { output: 1_000_000, ..Tokens::default() }),
        })
    }

    /// Nano-dollars for a call, rounded once, half to even.
    pub(crate) fn cost(&self, billed: &Billed) -> i64 {
        let [input, cached, output] = billed.tokens().map(i128::from);
        let sum = (input - cached) * i128::from(self.input)
            + cached * i128::from(self.cached)
            + output * i128::from(self.output);
        let (whole, rest) = (sum / MILLION, sum % MILLION);
        let up = rest * 2 > MILLION || (rest * 2 == MILLION && whole % 2 == 1);
        (whole + i128::from(up)) as i64
    }
}
