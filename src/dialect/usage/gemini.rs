//! Gemini's own shape: cached tokens are part of the prompt, thoughts and what tools put into the prompt stand beside.

use serde_json::Value;

use super::{Claim, Usage, count, service, told};

/// Reads `usageMetadata`.
pub(super) fn read(document: &Value) -> Option<Usage> {
    let usage = document.get("usageMetadata")?;
    let prompt = told(usage, "/promptTokenCount");
    let candidates = told(usage, "/candidatesTokenCount");
    let total = told(usage, "/totalTokenCount");
    if prompt.is_none() && candidates.is_none() {
        return None;
    }
    let cache_read = count(usage, "/cachedContentTokenCount");
    let thoughts = count(usage, "/thoughtsTokenCount");
    let tools = count(usage, "/toolUsePromptTokenCount");
    let (prompt, candidates) = (prompt.unwrap_or(0), candidates.unwrap_or(0));
    // Documented to contain what was cached; there have been answers in which it did not, and then it is the smaller.
    let prompt = if cache_read > prompt { prompt.saturating_add(cache_read) } else { prompt };
    let prompt = prompt.saturating_add(tools);
    let named = prompt.saturating_add(candidates);
    let inside = thoughts > 0 && total == Some(named);
    // Some answers have the thoughts in the total only.
    let thoughts = if thoughts == 0 { total.unwrap_or(0).saturating_sub(named) } else { thoughts };
    let of = |list: &str, kind: &str| by_kind(usage, list, kind);
    let apart = |kind: &str| {
        of("promptTokensDetails", kind)
            .saturating_sub(of("cacheTokensDetails", kind))
            .saturating_add(of("toolUsePromptTokensDetails", kind))
    };
    let claim = Claim {
        prompt,
        completion: if inside { candidates } else { candidates.saturating_add(thoughts) },
        cache_read,
        cache_write: 0,
        cache_write_1h: 0,
        audio_input: apart("AUDIO"),
        image_input: apart("IMAGE"),
        reasoning: thoughts,
        audio_output: of("candidatesTokensDetails", "AUDIO"),
        image_output: of("candidatesTokensDetails", "IMAGE"),
    };
    let tier = ["trafficType", "serviceTier"].iter().find_map(|name| service(usage.get(name)?.as_str()?));
    Some(Usage { service: tier, ..claim.settle() })
}

/// Tokens of one kind of medium in a list of counts.
fn by_kind(usage: &Value, list: &str, kind: &str) -> u64 {
    let counts = usage.get(list).and_then(Value::as_array).into_iter().flatten();
    counts
        .filter(|entry| entry.get("modality").and_then(Value::as_str) == Some(kind))
        .map(|entry| count(entry, "/tokenCount"))
        .fold(0, u64::saturating_add)
}
