//! Tokens counted here, where upstream did not tell: after a client has left, or from a server that sends no usage.
//!
//! The tokenizer is OpenAI's (`bpe-openai`); for models of others the count is near, not exact. Whatever is counted here is marked
//! `estimated` in the ledger.

use serde_json::Value;

/// Tokens taken for a picture, a sound or a file, whose tokens cannot be counted from the request. What a large picture
/// costs with OpenAI in high detail, rounded up.
pub const MEDIUM: u64 = 1_500;
/// Tokens around each message.
const AROUND: u64 = 4;
/// Depth to which a document is walked.
const DEEPEST: usize = 64;

/// Models of the older encoding.
const OLDER: [&str; 4] = ["gpt-3.5", "gpt-4-", "text-embedding-3", "text-embedding-ada"];

/// Tokens of a text for this model.
pub fn text(model: &str, text: &str) -> u64 {
    let older = model == "gpt-4" || OLDER.iter().any(|start| model.starts_with(start));
    let tokenizer = if older { bpe_openai::cl100k_base() } else { bpe_openai::o200k_base() };
    tokenizer.count(text) as u64
}

/// Tokens of a request's body: its texts, and a fixed number for each piece of other media.
pub fn request(model: &str, body: &[u8]) -> u64 {
    let Ok(document) = serde_json::from_slice::<Value>(body) else { return body.len() as u64 / 4 };
    let mut total = 0_u64;
    for name in ["messages", "prompt", "input", "system", "tools", "functions", "response_format"] {
        if let Some(part) = document.get(name) {
            total = total.saturating_add(walk(model, part, 0));
        }
    }
    total
}

/// Tokens of what the model wrote in a whole answer.
pub fn answer(model: &str, body: &[u8]) -> u64 {
    let Ok(document) = serde_json::from_slice::<Value>(body) else { return 0 };
    let choices = document.get("choices").and_then(Value::as_array);
    let written = |choice: &Value| {
        let part = choice.get("message").or_else(|| choice.get("text"));
        part.map_or(0, |part| walk(model, part, 0).saturating_sub(if part.is_object() { AROUND } else { 0 }))
    };
    choices.into_iter().flatten().map(written).fold(0, u64::saturating_add)
}

fn walk(model: &str, value: &Value, depth: usize) -> u64 {
    if depth > DEEPEST {
        return 0;
    }
    let sum = |parts: &mut dyn Iterator<Item = u64>| parts.fold(0, u64::saturating_add);
    match value {
        Value::String(words) => text(model, words),
        // An input of token numbers.
        Value::Number(_) => 1,
        Value::Array(parts) => sum(&mut parts.iter().map(|part| walk(model, part, depth + 1))),
        Value::Object(members) => {
            let is_message = members.contains_key("role");
            let of = |(name, part): (&String, &Value)| match name.as_str() {
                "image_url" | "input_audio" | "file" | "audio" if !part.is_null() => MEDIUM,
                "role" | "type" | "refusal" | "annotations" | "index" | "id" | "tool_call_id" => 0,
                _ => walk(model, part, depth + 1),
            };
            sum(&mut members.iter().map(of)).saturating_add(if is_message { AROUND } else { 0 })
        }
        Value::Null | Value::Bool(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_counted_as_openai_counts_them() {
        // From OpenAI's cookbook, "How to count tokens with tiktoken".
        assert_eq!(text("gpt-4o", "antidisestablishmentarianism"), 6);
        assert_eq!(text("gpt-4", "antidisestablishmentarianism"), 6);
        assert_eq!(text("gpt-4o", "お誕生日おめでとう"), 8);
        assert_eq!(text("gpt-4", "お誕生日おめでとう"), 9);
        assert_eq!(text("gpt-4o", ""), 0);
    }

    #[test]
    fn media_count_by_piece_and_not_by_their_bytes() {
        let picture = "A".repeat(400_000);
        let body = serde_json::json!({"model": "gpt-4o", "messages": [{"role": "user", "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{picture}")}}]}]});
        let count = request("gpt-4o", body.to_string().as_bytes());
        assert!((MEDIUM..MEDIUM + 20).contains(&count), "{count}");
    }

    #[test]
    fn an_answer_counts_for_all_its_choices_and_its_tool_calls() {
        let one = serde_json::json!({"choices": [{"message": {"role": "assistant", "content": "Hello there"}}]});
        let two = serde_json::json!({"choices": [
            {"message": {"role": "assistant", "content": "Hello there"}},
            {"message": {"role": "assistant", "content": null, "tool_calls": [
                {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]}}]});
        let count = |value: &serde_json::Value| answer("gpt-4o", value.to_string().as_bytes());
        assert_eq!(count(&one), text("gpt-4o", "Hello there"));
        assert!(count(&two) > count(&one));
        assert_eq!(answer("gpt-4o", b"no json"), 0);
    }
}
