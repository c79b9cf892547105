//! Token counts as providers tell them, turned into kinds that do not overlap.
//!
//! Read once at the end of an answer. In OpenAI's shape cached tokens are part of `prompt_tokens` and reasoning tokens part
//! of `completion_tokens`; adding them up again is the common mistake. Invariant: the kinds of [`Usage::tokens`] add up to
//! [`Usage::prompt`] + [`Usage::completion`], whatever the provider claims about the parts. It must never estimate: what was
//! not told is `None`.

use serde_json::Value;

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
}

impl Usage {
    /// Reads OpenAI's shape (chat, completions, embeddings) and its relatives. `None` if no count is there.
    ///
    /// Relatives: `prompt_cache_hit_tokens` (DeepSeek) and a bare `cached_tokens` (Moonshot) stand for
    /// `prompt_tokens_details.cached_tokens`; xAI counts reasoning beside `completion_tokens`, which shows in `total_tokens`.
    pub fn from_openai(usage: &Value) -> Option<Self> {
        let count = |pointer: &str| usage.pointer(pointer).and_then(Value::as_u64);
        let prompt = count("/prompt_tokens");
        let told_completion = count("/completion_tokens");
        if prompt.is_none() && told_completion.is_none() {
            return None;
        }
        let prompt = prompt.unwrap_or(0);
        let told_completion = told_completion.unwrap_or(0);
        let reasoning = count("/completion_tokens_details/reasoning_tokens").unwrap_or(0);
        let with_reasoning = told_completion.saturating_add(reasoning);
        let beside = reasoning > 0 && count("/total_tokens") == Some(prompt.saturating_add(with_reasoning));
        let completion = if beside { with_reasoning } else { told_completion };

        let cached = count("/prompt_tokens_details/cached_tokens")
            .or_else(|| count("/prompt_cache_hit_tokens"))
            .or_else(|| count("/cached_tokens"));
        let cache_read = cached.unwrap_or(0).min(prompt);
        let written = count("/prompt_tokens_details/cache_write_tokens").unwrap_or(0);
        let cache_write = written.min(prompt.saturating_sub(cache_read));
        let reasoning = reasoning.min(completion);
        let tokens = Tokens {
            input: prompt.saturating_sub(cache_read).saturating_sub(cache_write),
            cache_read,
            cache_write,
            output: completion.saturating_sub(reasoning),
            reasoning,
        };
        Some(Self { prompt, completion, tokens })
    }

    /// The same from JSON text.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().as_ref().and_then(Self::from_openai)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Option<(u64, u64, u64, u64, u64)> {
        let usage = Usage::from_text(text)?;
        let t = usage.tokens;
        assert_eq!(t.input + t.cache_read + t.cache_write, usage.prompt);
        assert_eq!(t.output + t.reasoning, usage.completion);
        Some((t.input, t.cache_read, t.cache_write, t.output, t.reasoning))
    }

    #[test]
    fn openai_details_are_parts_and_not_additions() {
        let chat = r#"{"prompt_tokens":2006,"completion_tokens":300,"total_tokens":2306,
            "prompt_tokens_details":{"cached_tokens":1920,"audio_tokens":0},
            "completion_tokens_details":{"reasoning_tokens":192,"audio_tokens":0,
            "accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#;
        assert_eq!(tokens(chat), Some((86, 1920, 0, 108, 192)));
        assert_eq!(tokens(r#"{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}"#), Some((5, 0, 0, 7, 0)));
        assert_eq!(tokens(r#"{"prompt_tokens":8,"total_tokens":8}"#), Some((8, 0, 0, 0, 0)));
    }

    #[test]
    fn relatives_of_the_shape_are_read() {
        let vllm = r#"{"prompt_tokens":11,"total_tokens":31,"completion_tokens":20,"prompt_tokens_details":null}"#;
        assert_eq!(tokens(vllm), Some((11, 0, 0, 20, 0)));
        let ollama = r#"{"prompt_tokens":26,"completion_tokens":298,"total_tokens":324}"#;
        assert_eq!(tokens(ollama), Some((26, 0, 0, 298, 0)));
        let deepseek = r#"{"prompt_tokens":20,"completion_tokens":9,"total_tokens":29,"prompt_cache_hit_tokens":16,
            "prompt_cache_miss_tokens":4,"completion_tokens_details":{"reasoning_tokens":5}}"#;
        assert_eq!(tokens(deepseek), Some((4, 16, 0, 4, 5)));
        let moonshot = r#"{"prompt_tokens":20,"completion_tokens":1,"cached_tokens":7}"#;
        assert_eq!(tokens(moonshot), Some((13, 7, 0, 1, 0)));
        let openrouter = r#"{"prompt_tokens":100,"completion_tokens":1,
            "prompt_tokens_details":{"cached_tokens":10,"cache_write_tokens":60}}"#;
        assert_eq!(tokens(openrouter), Some((30, 10, 60, 1, 0)));
        let xai = r#"{"prompt_tokens":10,"completion_tokens":4,"total_tokens":44,
            "completion_tokens_details":{"reasoning_tokens":30}}"#;
        assert_eq!(tokens(xai), Some((10, 0, 0, 4, 30)));
    }

    #[test]
    fn claims_that_do_not_add_up_are_clamped() {
        let odd = r#"{"prompt_tokens":5,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":9,
            "cache_write_tokens":9},"completion_tokens_details":{"reasoning_tokens":18446744073709551615}}"#;
        assert_eq!(tokens(odd), Some((0, 5, 0, 0, 3)));
    }

    #[test]
    fn absent_or_malformed_usage_is_none() {
        for text in ["null", "{}", "[]", r#"{"prompt_tokens":-1}"#, r#"{"prompt_tokens":"5"}"#, "x"] {
            assert_eq!(tokens(text), None, "{text}");
        }
    }
}
