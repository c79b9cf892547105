//! Tokens counted here, where upstream did not tell: after a client has left, or from a server that sends no usage.
//!
//! Texts are counted by the tokenizer of the model's family where it is in the program (`bpe-openai`): OpenAI's two, and the one that
//! Qwen 2 to 3 and Voyage 3 share. Llama 3 was made from the older one of OpenAI by adding words, so that one counts a little too much.
//! For Claude, Gemini, Mistral, DeepSeek and all others there is none: OpenAI's newer one counts, which is near and not exact, and no
//! factor is applied, because none is published. Whatever is counted here is marked `estimated` in the ledger.

use bpe_openai::Tokenizer;
use serde_json::Value;

/// Tokens taken for a picture, a sound or a file, whose tokens cannot be counted from the request. What a large picture
/// costs with OpenAI in high detail, rounded up.
pub const TYPICAL_MEDIUM: u64 = 1_500;
/// Tokens around each message.
const AROUND: u64 = 4;
/// Depth to which a document is walked.
const DEEPEST: usize = 64;

/// Models of OpenAI's older encoding (cl100k), and those whose own was made from it.
const OLDER: [&str; 9] = [
    "gpt-3.5",
    "gpt-4-",
    "text-embedding-",
    "davinci-002",
    "babbage-002",
    "llama-3",
    "llama3",
    "llama-v3",
    "meta-llama-3",
];
/// Models whose vocabulary is that of Qwen 2 to 3.
const QWEN: [&str; 8] =
    ["qwen2", "qwen-2", "qwq", "qwen3-", "qwen-3-", "voyage-3", "voyage-code-3", "voyage-context-3"];

/// Bytes of text that are counted; what is longer counts like its beginning. Requests of megabytes are counted on threads that others
/// wait for.
const COUNTED: usize = 256 << 10;

/// Texts that are counted together.
struct Counter {
    tokenizer: &'static Tokenizer,
    bytes: usize,
    tokens: u64,
    /// Bytes that were not counted.
    rest: usize,
}

impl Counter {
    fn of(model: &str) -> Self {
        Self { tokenizer: tokenizer(model), bytes: 0, tokens: 0, rest: 0 }
    }

    fn take(&mut self, text: &str) {
        let cut = text.floor_char_boundary(COUNTED.saturating_sub(self.bytes));
        let (counted, rest) = text.split_at_checked(cut).unwrap_or((text, ""));
        self.bytes += counted.len();
        self.tokens = self.tokens.saturating_add(self.tokenizer.count(counted) as u64);
        self.rest += rest.len();
    }

    fn total(&self) -> u64 {
        let rest = self.rest as u128 * u128::from(self.tokens) / self.bytes.max(1) as u128;
        self.tokens.saturating_add(u64::try_from(rest).unwrap_or(u64::MAX))
    }
}

/// Tokens of a text for this model.
pub fn text(model: &str, text: &str) -> u64 {
    let mut counter = Counter::of(model);
    counter.take(text);
    counter.total()
}

fn tokenizer(model: &str) -> &'static Tokenizer {
    let name = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
    let name = name.strip_prefix("ft:").unwrap_or(&name);
    let of = |family: &[&str]| family.iter().any(|start| name.starts_with(start));
    if name == "gpt-4" || of(&OLDER) {
        bpe_openai::cl100k_base()
    } else if of(&QWEN) {
        bpe_openai::voyage3_base()
    } else {
        bpe_openai::o200k_base()
    }
}

/// Tokens of a request's body: its texts, and a fixed number for each piece of other media.
pub fn request(model: &str, body: &[u8]) -> u64 {
    let Ok(document) = serde_json::from_slice::<Value>(body) else { return body.len() as u64 / 4 };
    let mut counter = Counter::of(model);
    let mut other = 0_u64;
    for name in ["messages", "prompt", "input", "instructions", "system", "tools", "functions", "response_format"] {
        if let Some(part) = document.get(name) {
            other = other.saturating_add(walk(&mut counter, part, 0));
        }
    }
    counter.total().saturating_add(other)
}

/// Tokens of what the model wrote in a whole answer.
pub fn answer(model: &str, body: &[u8]) -> u64 {
    let Ok(document) = serde_json::from_slice::<Value>(body) else { return 0 };
    let choices = document.get("choices").and_then(Value::as_array);
    let mut counter = Counter::of(model);
    let written = |choice: &Value| {
        let part = choice.get("message").or_else(|| choice.get("text"));
        part.map_or(0, |part| walk(&mut counter, part, 0).saturating_sub(if part.is_object() { AROUND } else { 0 }))
    };
    let other = choices.into_iter().flatten().map(written).fold(0, u64::saturating_add);
    counter.total().saturating_add(other)
}

/// Has the texts counted, and tells the tokens of all else.
fn walk(counter: &mut Counter, value: &Value, depth: usize) -> u64 {
    if depth > DEEPEST {
        return 0;
    }
    let sum = |parts: &mut dyn Iterator<Item = u64>| parts.fold(0, u64::saturating_add);
    match value {
        Value::String(words) => {
            counter.take(words);
            0
        }
        // An input of token numbers.
        Value::Number(_) => 1,
        Value::Array(parts) => sum(&mut parts.iter().map(|part| walk(counter, part, depth + 1))),
        Value::Object(members) => {
            let is_message = members.contains_key("role");
            let of = |(name, part): (&String, &Value)| match name.as_str() {
                "image_url" | "input_audio" | "file" | "audio" | "file_data" if !part.is_null() => TYPICAL_MEDIUM,
                // Messages: what a picture or a document is made of.
                "source" if part.get("type").is_some_and(|kind| kind != "text" && kind != "content") => TYPICAL_MEDIUM,
                "role" | "type" | "refusal" | "annotations" | "index" | "id" | "tool_call_id" => 0,
                _ => walk(counter, part, depth + 1),
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
    fn a_long_text_counts_like_its_beginning_whether_in_one_piece_or_in_many() {
        let line = "The quick brown fox jumps over the lazy dog. ";
        let once = text("gpt-4o", &line.repeat(1_000));
        let many = serde_json::json!({"prompt": vec![line.repeat(1_000); 20]}).to_string();
        for count in [text("gpt-4o", &line.repeat(20_000)), request("gpt-4o", many.as_bytes())] {
            let exact = once * 20;
            assert!(count.abs_diff(exact) * 1_000 < exact, "{count} for {exact}");
        }
        let mut counter = Counter::of("gpt-4o");
        (0..20).for_each(|_| counter.take(&"あ".repeat(50_000)));
        assert!(counter.bytes <= COUNTED && counter.bytes + counter.rest == 3_000_000);
    }

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
    fn a_family_is_found_by_the_name_of_the_model_however_it_is_written() {
        let birthday = "お誕生日おめでとう";
        for model in ["openai/gpt-4", "ft:gpt-3.5-turbo:acme::7", "meta-llama/Llama-3.3-70B-Instruct-Turbo"] {
            assert_eq!(text(model, birthday), 9, "{model}");
        }
        for model in ["openai/gpt-oss-120b", "claude-haiku-4-5", "gemini-2.5-pro", "qwen3.5-plus", "gpt-4.1"] {
            assert_eq!(text(model, birthday), 8, "{model}");
        }
        // Qwen counts each digit.
        assert_eq!((text("Qwen/Qwen2.5-7B-Instruct", "2026"), text("gpt-4o", "2026")), (4, 2));
    }

    #[test]
    fn media_count_by_piece_and_not_by_their_bytes() {
        let picture = "A".repeat(400_000);
        let body = serde_json::json!({"model": "gpt-4o", "messages": [{"role": "user", "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{picture}")}}]}]});
        let messages = serde_json::json!({"model": "claude", "messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": picture}},
            {"type": "text", "text": "What is this?"}]}]});
        for body in [body, messages] {
            let count = request("gpt-4o", body.to_string().as_bytes());
            assert!((TYPICAL_MEDIUM..TYPICAL_MEDIUM + 20).contains(&count), "{count}");
        }
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
