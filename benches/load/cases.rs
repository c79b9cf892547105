//! What is measured: which program is asked, what, and what every answer must look like.
//!
//! Every answer is checked. A hit that was a miss, or an error page that came fast, would be a figure about something
//! else.

use crate::Fault;
use crate::client::Answer;
use crate::prompts::{self, BYPASS, EXACT, EXACT_UNSTORED};

/// Which program gets the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// The simulated upstream itself.
    Upstream,
    /// The bare proxy before it.
    Bare,
    /// Remora before it.
    Remora,
}

/// Which prompts the requests have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prompts {
    /// The same in every request; stored beforehand.
    One,
    /// A thousand in turn; stored beforehand.
    Thousand,
    /// Never seen before.
    New,
    /// Never seen before, but close to one that was stored beforehand.
    Near,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) to: To,
    pub(crate) prompts: Prompts,
    /// Cache controls.
    pub(crate) headers: &'static str,
    pub(crate) stream: bool,
    /// `x-remora-cache` and `x-remora-tier` of every answer; empty where there is none.
    pub(crate) cache: &'static str,
    pub(crate) tier: &'static str,
    /// Whether each request runs the model, so that there must be fewer of them.
    pub(crate) embeds: bool,
}

const UPSTREAM: Case = Case {
    name: "upstream alone",
    to: To::Upstream,
    prompts: Prompts::New,
    headers: "",
    stream: false,
    cache: "",
    tier: "",
    embeds: false,
};
const BARE: Case = Case { name: "bare proxy", to: To::Bare, ..UPSTREAM };
const MISS: Case = Case { name: "miss, stored", to: To::Remora, headers: EXACT, cache: "MISS", ..UPSTREAM };
const HIT: Case = Case { name: "exact hit", prompts: Prompts::One, headers: "", cache: "HIT", tier: "exact", ..MISS };
const NEAR: Case = Case { name: "semantic hit", prompts: Prompts::Near, tier: "semantic", embeds: true, ..HIT };

/// Stores what is found later.
pub(crate) const PRIMING: Case = Case { name: "priming", prompts: Prompts::Thousand, headers: "", ..MISS };

/// All rows of a round, in order. The bare proxy comes first among its kind: it is what the others are held against.
pub(crate) const CASES: [Case; 14] = [
    UPSTREAM,
    BARE,
    HIT,
    Case { name: "exact hit, 1000 prompts", prompts: Prompts::Thousand, ..HIT },
    MISS,
    Case { name: "miss, not stored", headers: EXACT_UNSTORED, ..MISS },
    Case { name: "bypass", headers: BYPASS, cache: "BYPASS", ..MISS },
    Case { name: "upstream alone, stream", stream: true, ..UPSTREAM },
    Case { name: "bare proxy, stream", stream: true, ..BARE },
    Case { name: "exact hit, stream", stream: true, ..HIT },
    Case { name: "miss, stored, stream", stream: true, ..MISS },
    Case { name: "bypass, stream", headers: BYPASS, cache: "BYPASS", stream: true, ..MISS },
    Case { name: "miss after embedding", headers: "", embeds: true, ..MISS },
    NEAR,
];

/// What is sent one request at a time, for its latency.
pub(crate) const ONE_BY_ONE: [Case; 5] = [UPSTREAM, BARE, HIT, MISS, NEAR];

/// Streams whose events come slowly, for the time to the first byte.
pub(crate) const SLOW_STREAMS: [Case; 3] =
    [Case { stream: true, ..UPSTREAM }, Case { stream: true, ..BARE }, Case { stream: true, ..MISS }];

impl Case {
    /// The request with this number.
    pub(crate) fn request(&self, number: usize) -> Vec<u8> {
        let prompt = match self.prompts {
            Prompts::One => prompts::numbered(0),
            Prompts::Thousand => prompts::numbered(number % 1_000),
            Prompts::New => prompts::numbered(1_000 + number),
            Prompts::Near => {
                prompts::paraphrase(number % prompts::TOPICS, 1 + number / prompts::TOPICS % prompts::VARIANTS)
            }
        };
        prompts::chat(&prompt, self.headers, self.stream)
    }

    /// Whether the answer is what this case is about.
    pub(crate) fn check(&self, answer: &Answer<'_>) -> Result<(), Fault> {
        let good = answer.head.starts_with(b"HTTP/1.1 200 ")
            && answer.says("You asked: ") != self.stream
            && answer.says("data: [DONE]") == self.stream
            && (self.cache.is_empty() || answer.has("x-remora-cache", self.cache))
            && (self.tier.is_empty() || answer.has("x-remora-tier", self.tier));
        if good {
            return Ok(());
        }
        let (head, body) = (String::from_utf8_lossy(answer.head), String::from_utf8_lossy(answer.body));
        Err(format!("{}: not the answer that this case measures:\n{head}{body}", self.name).into())
    }
}
