//! Limits and budgets on the way of a request: what it may need at most, what it is refused for, and the headers that tell.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::refusal::Refusal;
use super::{DataPlane, Exchange};
use crate::account::Record;
use crate::call::{Billed, Call};
use crate::clock::UnixMs;
use crate::config::{NanoUsd, UnknownPrice};
use crate::limit::{Allowance, Left, Wish};
use crate::price::{Price, count};
use crate::telemetry::trace::Stage;
use crate::tenant::Principal;

/// Most tokens that one picture, sound or file of a request may count for: a large picture for a small model of OpenAI.
const LARGEST_MEDIUM: u64 = 50_000;
/// Output tokens reserved from limits for an answer without a limit; the difference is settled afterwards.
const USUAL_OUTPUT: u64 = 1_024;
/// No answer is longer, whatever limit a request sets. Tokens.
const LONGEST: u64 = 10_000_000;
/// Bytes of a token, about, in English text.
const TOKEN_BYTES: u64 = 4;

/// What a request may need at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    /// Bytes of text. A token is a byte at least.
    text: u64,
    /// Pieces that are not text.
    media: u64,
    /// Output tokens of one answer at most, if the request says.
    output: Option<u64>,
    /// Answers asked for.
    answers: u64,
}

impl Needs {
    /// Of a completion.
    pub(super) fn of(call: &Call) -> Self {
        Self::of_billed(call.body.len(), call.billed)
    }

    /// Of a request with a body of so many bytes, of which this is known.
    pub(super) fn of_billed(bytes: usize, billed: Billed) -> Self {
        let Billed { output, answers, media, media_bytes } = billed;
        Self { text: (bytes as u64).saturating_sub(media_bytes), media, output, answers }
    }

    /// Of a request whose answer is not made of tokens.
    pub(super) fn of_bytes(bytes: usize) -> Self {
        Self { text: bytes as u64, media: 0, output: Some(0), answers: 1 }
    }

    /// The most that can be billed.
    fn worst(&self, price: &Price, assumed_output: u64) -> NanoUsd {
        let input = self.text.saturating_add(self.media.saturating_mul(LARGEST_MEDIUM));
        price.worst(input, self.most_output(Some(price), assumed_output))
    }

    /// Most output tokens that can be billed.
    pub(super) fn most_output(&self, price: Option<&Price>, assumed_output: u64) -> u64 {
        let longest = price.and_then(|price| price.max_output);
        let each = self.output.or(longest).unwrap_or(assumed_output).min(LONGEST);
        each.saturating_mul(self.answers)
    }

    /// What is taken from token limits before the answer is known.
    fn tokens(&self) -> u64 {
        let output = self.output.unwrap_or(USUAL_OUTPUT).min(LONGEST).saturating_mul(self.answers);
        let media = self.media.saturating_mul(count::TYPICAL_MEDIUM);
        (self.text / TOKEN_BYTES).saturating_add(media).saturating_add(output)
    }
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
        let Exchange { principal, controls, record, .. } = exchange;
        let _stage = record.stage(Stage::Admit);
        let (wish, price) = self.wish(principal, &controls.tags, record, model, needs)?;
        let hold = self.limiter.admit(principal.caller(), wish).await?;
        record.charge(price, hold);
        Ok(())
    }

    /// [`Self::admit`] for a request that no client has sent.
    pub(super) async fn admit_unasked(
        &self,
        principal: &Principal,
        tags: &[(String, String)],
        record: &Record,
        model: &str,
        needs: Needs,
    ) -> Result<(), Refusal> {
        let _stage = record.stage(Stage::Admit);
        let (wish, price) = self.wish(principal, tags, record, model, needs)?;
        let hold = self.limiter.admit_unasked(principal.caller(), wish).await?;
        record.charge(price, hold);
        Ok(())
    }

    fn wish<'a>(
        &self,
        principal: &Principal,
        tags: &'a [(String, String)],
        record: &Record,
        model: &'a str,
        needs: Needs,
    ) -> Result<(Wish<'a>, Option<Arc<Price>>), Refusal> {
        let price = self.price(principal, model, record.started_at())?;
        let worst = price.as_ref().map_or(NanoUsd(0), |price| needs.worst(price, self.assumed_output));
        let wish = Wish { request: record.id(), at: record.started_at(), model, tags, tokens: needs.tokens(), worst };
        Ok((wish, price))
    }

    /// Whether nothing is to be known of what the caller's requests cost: no budget is hard, and none are refused for it.
    pub(super) fn lets_unpriced_pass(&self, exchange: &Exchange) -> bool {
        let terms = &exchange.principal.terms.tenant;
        let policy = terms.unknown_price.unwrap_or(self.unknown_price);
        policy != UnknownPrice::Deny && !terms.budgets.iter().any(|budget| budget.hard)
    }

    /// Asks whether a request may pass whose body is not read: it takes a seat, and its cost stays unknown. Who wants no such
    /// requests says `deny`; with `assume_max` there is nothing to assume it for, so a hard budget refuses it. One that nobody `bills`
    /// for passes in any case.
    pub(super) async fn admit_unread(&self, exchange: &Exchange, bills: bool) -> Result<(), Refusal> {
        let _stage = exchange.record.stage(Stage::Admit);
        let terms = &exchange.principal.terms.tenant;
        let hard = terms.budgets.iter().any(|budget| budget.hard);
        match terms.unknown_price.unwrap_or(self.unknown_price) {
            _ if !bills => {}
            UnknownPrice::Allow => {}
            UnknownPrice::AssumeMax if !hard => {}
            UnknownPrice::AssumeMax | UnknownPrice::Deny => return Err(Refusal::unpriced("")),
        }
        let record = &exchange.record;
        let wish = Wish {
            request: record.id(),
            at: record.started_at(),
            model: "",
            tags: &exchange.controls.tags,
            tokens: 0,
            worst: NanoUsd(0),
        };
        record.charge(None, self.limiter.admit(exchange.principal.caller(), wish).await?);
        Ok(())
    }

    /// The price of a model for this caller, or none if unpriced requests may pass.
    fn price(&self, principal: &Principal, model: &str, at: UnixMs) -> Result<Option<Arc<Price>>, Refusal> {
        let known = self.prices.price(model, at);
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
