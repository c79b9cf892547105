//! OpenAI's shapes and those who dress like OpenAI.

use serde_json::Value;

use super::{Claim, Usage, count, largest, told, written};

/// Chat completions, completions and embeddings.
///
/// Relatives: `prompt_cache_hit_tokens` (DeepSeek), a bare `cached_tokens` (Moonshot) and `cache_read_input_tokens` (Anthropic
/// behind LiteLLM and others, which also leave `cached_tokens` at 0 beside it) stand for `prompt_tokens_details.cached_tokens`.
/// What stands beside a sum and not in it shows in `total_tokens`: reasoning with xAI, thinking that nobody names with Gemini,
/// cached tokens with some who translate from Anthropic, sound with Mistral.
pub(super) fn chat(usage: &Value) -> Option<Usage> {
    let prompt = told(usage, "/prompt_tokens");
    let completion = told(usage, "/completion_tokens");
    let (mut prompt, mut completion) = match (prompt, completion) {
        // Vectors of Voyage.
        (None, None) => (told(usage, "/total_tokens").filter(|total| *total > 0)?, 0),
        (prompt, completion) => (prompt.unwrap_or(0), completion.unwrap_or(0)),
    };
    let cache_read = largest(
        usage,
        &[
            "/prompt_tokens_details/cached_tokens",
            "/prompt_cache_hit_tokens",
            "/cached_tokens",
            "/cache_read_input_tokens",
        ],
    );
    let sum = largest(
        usage,
        &[
            "/prompt_tokens_details/cache_write_tokens",
            "/prompt_tokens_details/cache_creation_tokens",
            "/cache_creation_input_tokens",
        ],
    );
    let split = if usage.get("cache_creation").is_some_and(Value::is_object) {
        "/cache_creation"
    } else {
        "/prompt_tokens_details/cache_creation_token_details"
    };
    let (cache_write, cache_write_1h) = written(usage, sum, split);
    let mut reasoning = count(usage, "/completion_tokens_details/reasoning_tokens");

    let mut excess = count(usage, "/total_tokens").saturating_sub(prompt.saturating_add(completion));
    let anthropic = ["cache_read_input_tokens", "cache_creation_input_tokens"];
    let cached = cache_read.saturating_add(cache_write).saturating_add(cache_write_1h);
    let is_beside = if anthropic.iter().any(|name| usage.get(name).is_some()) {
        cached > prompt || (cached > 0 && cached == excess)
    } else {
        cached > prompt && cached == excess
    };
    if is_beside {
        prompt = prompt.saturating_add(cached);
        excess = excess.saturating_sub(cached);
    }
    let audio_input = count(usage, "/prompt_tokens_details/audio_tokens");
    if audio_input > prompt && audio_input == excess {
        // A transcription of Mistral's.
        prompt = prompt.saturating_add(audio_input);
        excess = 0;
    }
    if reasoning == 0 {
        reasoning = excess;
    }
    if reasoning == excess {
        completion = completion.saturating_add(excess);
    }
    let claim = Claim {
        prompt,
        completion,
        cache_read,
        cache_write,
        cache_write_1h,
        audio_input,
        image_input: count(usage, "/prompt_tokens_details/image_tokens"),
        reasoning,
        // Predicted tokens, accepted or rejected, are output like any other.
        audio_output: count(usage, "/completion_tokens_details/audio_tokens"),
        image_output: count(usage, "/completion_tokens_details/image_tokens"),
    };
    Some(claim.settle())
}

/// Responses, images and transcriptions: all parts are inside.
pub(super) fn responses(usage: &Value) -> Option<Usage> {
    let prompt = told(usage, "/input_tokens");
    let completion = told(usage, "/output_tokens");
    if prompt.is_none() && completion.is_none() {
        return None;
    }
    // Transcriptions write it without the `s`.
    let part = |side: &str, name: &str| {
        largest(usage, &[&format!("/{side}_tokens_details/{name}"), &format!("/{side}_token_details/{name}")])
    };
    let input = |name: &str| part("input", name);
    let output = |name: &str| part("output", name);
    let claim = Claim {
        prompt: prompt.unwrap_or(0),
        completion: completion.unwrap_or(0),
        cache_read: input("cached_tokens"),
        cache_write: input("cache_write_tokens"),
        cache_write_1h: 0,
        audio_input: input("audio_tokens"),
        image_input: input("image_tokens"),
        reasoning: output("reasoning_tokens"),
        audio_output: output("audio_tokens"),
        image_output: output("image_tokens"),
    };
    let output_told = ["output_tokens_details", "output_token_details"]
        .iter()
        .any(|name| usage.get(name).is_some_and(Value::is_object));
    Some(Usage { output_told, ..claim.settle() })
}

/// Ollama's own routes: counts stand in the last document of an answer, and a prompt that was still in memory has none.
pub(super) fn ollama(document: &Value) -> Option<Usage> {
    let completion = told(document, "/eval_count")?;
    Some(Claim { prompt: count(document, "/prompt_eval_count"), completion, ..Claim::default() }.settle())
}
