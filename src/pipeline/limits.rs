//! Limits and budgets on the way of a request: what it may need at most, what it is refused for, and the headers that tell.

use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::refusal::Refusal;
use super::{DataPlane, Exchange};
use crate::account::Record;
use crate::call::{Call, ExactOnly};
use crate::config::{NanoUsd, UnknownPrice};
use crate::limit::{Allowance, Left, Wish};
use crate::price::Price;
use crate::tenant::Principal;

/// Most tokens that one picture, sound or file of a request may count for: a large picture for a small model of OpenAI.
const MEDIUM: u64 = 50_000;
/// Output tokens reserved from limits for an answer without a limit; the difference is settled afterwards.
const USUAL_OUTPUT: u64 = 1_024;
/// Bytes of a token, about, in English text.
const TOKEN_BYTES: u64 = 4;

/// What a request may need at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    /// Input tokens at most. A token is a byte at least.
    input: u64,
    /// Output tokens at most, if the request says.
    output: Option<u64>,
    /// Answers asked for.
    choices: u64,
}

impl Needs {
    /// Of a completion.
    pub(super) fn of(call: &Call) -> Self {
        let media = if call.exact_only == Some(ExactOnly::Media) { media(&call.body) } else { 0 };
        let input = (call.body.len() as u64).saturating_add(media.saturating_mul(MEDIUM));
        Self { input, output: call.token_limit, choices: call.choices.max(1) as u64 }
    }

    /// Of a request whose answer is not made of tokens.
    pub(super) fn of_bytes(bytes: usize) -> Self {
        Self { input: bytes as u64, output: Some(0), choices: 1 }
    }

    /// The most that can be billed.
    fn worst(&self, price: &Price, assumed_output: u64) -> NanoUsd {
        let each = self.output.or(price.max_output).unwrap_or(assumed_output);
        price.worst(self.input, each.saturating_mul(self.choices))
    }

    /// What is taken from token limits before the answer is known.
    fn tokens(&self) -> u64 {
        let output = self.output.unwrap_or(USUAL_OUTPUT).saturating_mul(self.choices);
        (self.input / TOKEN_BYTES).saturating_add(output)
    }
}

/// Parts of a body that are not text, counted by the members that hold them.
fn media(body: &[u8]) -> u64 {
    let names: [&[u8]; 3] = [b"\"image_url\"", b"\"input_audio\"", b"\"file\""];
    names.iter().map(|name| memchr::memmem::find_iter(body, name).count() as u64).sum()
}

impl DataPlane {
    /// Takes one request from the caller's limits.
    pub(super) async fn count_request(&self, exchange: &Exchange) -> Result<(), Refusal> {
        let allowance = self.limiter.request(exchange.principal.caller(), self.clock.now_ms()).await?;
        exchange.record.allow(allowance);
        Ok(())
    }

    /// Whether a hit may be served to a tenant that wants none when its budget is spent.
    pub(super) async fn may_hit(&self, exchange: &Exchange, model: &str) -> Result<(), Refusal> {
        if exchange.principal.terms.tenant.hits_when_spent {
            return Ok(());
        }
        let caller = exchange.principal.caller();
        self.limiter.spent(caller, self.clock.now_ms(), model, &exchange.controls.tags).await?;
        Ok(())
    }

    /// Takes the tokens of a hit from the limits of a tenant that wants that.
    pub(super) fn count_hit(&self, exchange: &Exchange, tokens: u64) {
        if exchange.principal.terms.tenant.hits_take_tokens {
            self.limiter.take_tokens(exchange.principal.caller(), tokens);
        }
    }

    /// Asks whether the request may go upstream, and holds what it may need until its record ends.
    pub(super) async fn admit(&self, exchange: &Exchange, model: &str, needs: Needs) -> Result<(), Refusal> {
        self.admit_for(&exchange.principal, &exchange.controls.tags, &exchange.record, model, needs).await
    }

    /// [`Self::admit`] for a request that no client has sent.
    pub(super) async fn admit_for(
        &self,
        principal: &Principal,
        tags: &[(String, String)],
        record: &Record,
        model: &str,
        needs: Needs,
    ) -> Result<(), Refusal> {
        let price = self.price(principal, model)?;
        let worst = price.map_or(NanoUsd(0), |price| needs.worst(&price, self.assumed_output));
        let wish = Wish { request: record.id(), at: record.started_at(), model, tags, tokens: needs.tokens(), worst };
        let hold = self.limiter.admit(principal.caller(), wish).await?;
        record.charge(price.map(|price| (price, &**self.prices.version())), hold);
        Ok(())
    }

    /// The price of a model for this caller, or none if unpriced requests may pass.
    fn price(&self, principal: &Principal, model: &str) -> Result<Option<Price>, Refusal> {
        let known = self.prices.price(model);
        if known.is_some() {
            return Ok(known);
        }
        match principal.terms.tenant.unknown_price.unwrap_or(self.unknown_price) {
            UnknownPrice::Allow => Ok(None),
            UnknownPrice::AssumeMax => Ok(self.prices.highest()),
            UnknownPrice::Deny => Err(Refusal::unpriced(model)),
        }
    }
}

/// Writes OpenAI's `x-ratelimit-*` headers; what an upstream said of its own limits gives way to them.
pub(super) fn write_allowance(headers: &mut HeaderMap, allowance: &Allowance) {
    const REQUESTS: [HeaderName; 3] = [
        HeaderName::from_static("x-ratelimit-limit-requests"),
        HeaderName::from_static("x-ratelimit-remaining-requests"),
        HeaderName::from_static("x-ratelimit-reset-requests"),
    ];
    const TOKENS: [HeaderName; 3] = [
        HeaderName::from_static("x-ratelimit-limit-tokens"),
        HeaderName::from_static("x-ratelimit-remaining-tokens"),
        HeaderName::from_static("x-ratelimit-reset-tokens"),
    ];
    for ([limit, remaining, reset], left) in [(REQUESTS, allowance.requests), (TOKENS, allowance.tokens)] {
        let Some(Left { limit: most, remaining: rest, reset: wait }) = left else { continue };
        headers.insert(limit, HeaderValue::from(most));
        headers.insert(remaining, HeaderValue::from(rest));
        if let Ok(wait) = HeaderValue::from_str(&span(wait)) {
            headers.insert(reset, wait);
        }
    }
}

/// A duration as OpenAI writes it: `17ms`, `8.64s`, `6m0s`, `1h2m3s`.
fn span(wait: Duration) -> String {
    let ms = wait.as_nanos().div_ceil(1_000_000);
    let (seconds, ms) = (ms / 1_000, ms % 1_000);
    if seconds == 0 {
        return format!("{ms}ms");
    }
    let fraction = format!("{ms:03}");
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}{point}{fraction}s"),
        (0, m, s) => format!("{m}m{s}{point}{fraction}s"),
        (h, m, s) => format!("{h}h{m}m{s}{point}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_written_as_openai_writes_them() {
        for (ms, text) in [
            (0, "0ms"),
            (17, "17ms"),
            (1_000, "1s"),
            (8_640, "8.64s"),
            (360_000, "6m0s"),
            (432_000, "7m12s"),
            (90_951, "1m30.951s"),
            (3_723_000, "1h2m3s"),
        ] {
            assert_eq!(span(Duration::from_millis(ms)), text);
        }
        assert_eq!(span(Duration::from_micros(1)), "1ms", "never sooner than it is true");
    }
}
