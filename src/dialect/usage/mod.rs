//! Token counts as providers tell them, turned into kinds that do not overlap.
//!
//! Read once at the end of an answer. Providers disagree about what contains what: with OpenAI cached tokens are part of the
//! input and reasoning is part of the output, with Anthropic cached tokens stand beside the input, with Gemini thoughts stand
//! beside the output. Adding up what is a part, or forgetting what stands beside, is the common mistake. Invariant: the kinds of
//! [`Usage::tokens`] add up to [`Usage::prompt`] + [`Usage::completion`], whatever the provider claims about the parts. It must
//! never estimate: what was not told is `None`.

mod anthropic;
mod gemini;
mod openai;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

use serde_json::Value;

pub(super) use anthropic::Told as AnthropicTold;

use crate::store::Tokens;

/// Usage of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All input tokens.
    pub prompt: u64,
    /// All output tokens, with reasoning.
    pub completion: u64,
    /// The same by kind, without overlap.
    pub tokens: Tokens,
    /// The tier of service that was billed, if it is not the standard one: `batch`, `flex`, `priority` or `fast`.
    pub service: Option<&'static str>,
    /// It was made in the United States alone, which Anthropic charges more for.
    pub us: bool,
    /// Searches of the web, which are billed apart from tokens.
    pub searches: u64,
    /// It was told what the output is made of.
    pub(super) output_told: bool,
}

impl Usage {
    /// Reads the usage of a whole document or of one event, in whichever provider's shape it is. `None` if no count is there.
    pub fn of_document(document: &Value) -> Option<Self> {
        let inner = document.get("usage").filter(|usage| usage.is_object());
        let usage = match inner {
            Some(usage) => Self::of_usage(usage),
            None => gemini::read(document).or_else(|| openai::ollama(document)),
        }?;
        Some(usage.served_as(document.get("service_tier")))
    }

    /// Reads a member `usage`, in whichever shape it is.
    fn of_usage(usage: &Value) -> Option<Self> {
        let is_told = |name: &str| usage.get(name).is_some_and(Value::is_u64);
        if is_told("prompt_tokens") || is_told("completion_tokens") {
            Self::from_openai(usage)
        } else if anthropic::is_of(usage) {
            anthropic::Told::of(usage).usage()
        } else if is_told("input_tokens") || is_told("output_tokens") {
            openai::responses(usage)
        } else {
            Self::from_openai(usage)
        }
    }

    /// Reads OpenAI's shape (chat, completions, embeddings) and its relatives. `None` if no count is there.
    pub fn from_openai(usage: &Value) -> Option<Self> {
        Some(Extras::of(usage).on(openai::chat(usage)?))
    }

    /// The same from JSON text.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().as_ref().and_then(Self::from_openai)
    }

    /// With the tier that an answer names beside its usage; one that it names inside stays.
    pub(super) fn served_as(mut self, tier: Option<&Value>) -> Self {
        self.service = self.service.or_else(|| service(tier?.as_str()?));
        self
    }

    /// That of an answer which is pictures. OpenAI tells the sum of their tokens and not always what they are.
    #[must_use]
    pub fn in_pictures(mut self) -> Self {
        if !self.output_told && self.tokens.image_output == 0 {
            self.tokens.image_output = std::mem::take(&mut self.tokens.output);
        }
        self
    }

    /// All that makes the price another one, in one word for the ledger, as in `fast`, `priority+us` or `search:2`; none if
    /// nothing does. [`crate::price::Price::billed`] reads it.
    pub fn billed_as(&self) -> Option<String> {
        let searches = (self.searches > 0).then(|| format!("search:{}", self.searches));
        let parts = [self.service.map(str::to_owned), self.us.then(|| "us".to_owned()), searches];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join("+"))
    }
}

/// What Anthropic bills besides the tier, in its own shape or translated by somebody in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Extras {
    fast: Option<bool>,
    us: Option<bool>,
    searches: Option<u64>,
}

impl Extras {
    fn of(usage: &Value) -> Self {
        let is = |name: &str, value: &str| Some(usage.get(name)?.as_str()?.eq_ignore_ascii_case(value));
        Self {
            fast: is("speed", "fast"),
            us: is("inference_geo", "us"),
            searches: told(usage, "/server_tool_use/web_search_requests").map(|count| count.min(MOST_SEARCHES)),
        }
    }

    /// What is told next takes the place of what was told.
    fn take(&mut self, next: Self) {
        self.fast = next.fast.or(self.fast);
        self.us = next.us.or(self.us);
        self.searches = next.searches.max(self.searches);
    }

    fn on(self, mut usage: Usage) -> Usage {
        if self.fast == Some(true) {
            usage.service = Some("fast");
        }
        usage.us = self.us == Some(true);
        usage.searches = self.searches.unwrap_or(0);
        usage
    }
}

/// What providers call tiers of service in answers, in one word each; the usual tier, whatever its name, is none.
pub(super) fn service(tier: &str) -> Option<&'static str> {
    match tier.to_ascii_lowercase().as_str() {
        "batch" => Some("batch"),
        // Gemini on Vertex tells it as `trafficType`.
        "flex" | "on_demand_flex" => Some("flex"),
        "priority" | "on_demand_priority" => Some("priority"),
        _ => None,
    }
}

/// What a provider has told, all of it: the parts that are said to be inside `prompt` and `completion` are not trusted to fit.
#[derive(Clone, Copy, Debug, Default)]
struct Claim {
    prompt: u64,
    completion: u64,
    cache_read: u64,
    cache_write: u64,
    cache_write_1h: u64,
    audio_input: u64,
    image_input: u64,
    reasoning: u64,
    audio_output: u64,
    image_output: u64,
}

impl Claim {
    /// Cuts the parts down to what fits: each takes what the ones before it have left.
    fn settle(self) -> Usage {
        let mut input = self.prompt;
        let mut output = self.completion;
        let take = |left: &mut u64, claimed: u64| {
            let taken = claimed.min(*left);
            *left -= taken;
            taken
        };
        let tokens = Tokens {
            cache_read: take(&mut input, self.cache_read),
            cache_write: take(&mut input, self.cache_write),
            cache_write_1h: take(&mut input, self.cache_write_1h),
            audio_input: take(&mut input, self.audio_input),
            image_input: take(&mut input, self.image_input),
            input,
            reasoning: take(&mut output, self.reasoning),
            audio_output: take(&mut output, self.audio_output),
            image_output: take(&mut output, self.image_output),
            output,
        };
        Usage { prompt: self.prompt, completion: self.completion, tokens, ..Usage::default() }
    }
}

/// Most tokens that are believed of one call: far more than any model takes, and few enough that sums of millions of calls and their
/// costs stay within 63 bits.
const MOST: u64 = 1 << 40;

/// The same for searches of the web.
const MOST_SEARCHES: u64 = 1 << 20;

/// The count at a place, 0 if there is none.
fn count(value: &Value, pointer: &str) -> u64 {
    told(value, pointer).unwrap_or(0)
}

fn told(value: &Value, pointer: &str) -> Option<u64> {
    value.pointer(pointer).and_then(Value::as_u64).map(|count| count.min(MOST))
}

/// The largest count at any of these places, which say the same in different clothes.
fn largest(value: &Value, pointers: &[&str]) -> u64 {
    pointers.iter().map(|pointer| count(value, pointer)).max().unwrap_or(0)
}

/// Writing for five minutes and for an hour, from their sum and their split: which of both is there differs.
fn written(value: &Value, sum: u64, split: &str) -> (u64, u64) {
    let hour = count(value, &format!("{split}/ephemeral_1h_input_tokens"));
    let minutes = count(value, &format!("{split}/ephemeral_5m_input_tokens"));
    let sum = if sum == 0 { hour.saturating_add(minutes) } else { sum };
    let hour = hour.min(sum);
    (sum - hour, hour)
}
