//! What a token is here: **four bytes of UTF-8, the last one rounded up**. It is not any model's tokenizer; it is a rule that a
//! test can check by hand. A text of `n` bytes counts `ceil(n / 4)`; a streamed answer carries one token per event, and a token
//! that would end inside a character ends before it.

use serde::Serialize;

const BYTES_PER_TOKEN: usize = 4;

/// Tokens of a text.
pub(super) fn count(text: &str) -> u32 {
    of_bytes(text.len())
}

/// Tokens of so many bytes.
pub(super) fn of_bytes(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(BYTES_PER_TOKEN)).unwrap_or(u32::MAX)
}

/// Bytes of so many tokens.
pub(super) fn to_bytes(tokens: u32) -> usize {
    (tokens as usize).saturating_mul(BYTES_PER_TOKEN)
}

/// The token that starts at byte `at` of `text`, or nothing at the end.
pub(super) fn token_at(text: &str, at: usize) -> Option<&str> {
    let aligned = at - at % BYTES_PER_TOKEN;
    // A character that straddles the border leaves `at` below it; the token then runs to the next border.
    let mut end = text.floor_char_boundary(aligned.saturating_add(BYTES_PER_TOKEN));
    if end <= at {
        end = text.floor_char_boundary(aligned.saturating_add(2 * BYTES_PER_TOKEN));
    }
    text.get(at..end).filter(|token| !token.is_empty())
}

/// All tokens of a text, in order; together they are the text.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let token = token_at(text, at)?;
        at += token.len();
        Some(token)
    })
}

/// Shortens a text to `limit` tokens; says whether anything was lost.
pub(super) fn truncate(text: &mut String, limit: u32) -> bool {
    let keep = to_bytes(limit);
    let longer = text.len() > keep;
    text.truncate(text.floor_char_boundary(keep));
    longer
}

/// What a request used, in tokens. `cached` is part of `prompt`, `reasoning` part of `completion`, as with OpenAI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) prompt: u32,
    pub(super) cached: u32,
    pub(super) completion: u32,
    pub(super) reasoning: u32,
}

#[derive(Serialize)]
struct UsageOut {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u32,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Serialize)]
struct PromptDetails {
    cached_tokens: u32,
    audio_tokens: u32,
}

#[derive(Serialize)]
struct CompletionDetails {
    reasoning_tokens: u32,
    audio_tokens: u32,
    accepted_prediction_tokens: u32,
    rejected_prediction_tokens: u32,
}

impl Serialize for Usage {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        UsageOut {
            prompt_tokens: self.prompt,
            completion_tokens: self.completion,
            total_tokens: self.prompt.saturating_add(self.completion),
            prompt_tokens_details: PromptDetails { cached_tokens: self.cached, audio_tokens: 0 },
            completion_tokens_details: CompletionDetails {
                reasoning_tokens: self.reasoning,
                audio_tokens: 0,
                accepted_prediction_tokens: 0,
                rejected_prediction_tokens: 0,
            },
        }
        .serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_four_bytes_rounded_up() {
        assert_eq!([count(""), count("a"), count("abcd"), count("abcde")], [0, 1, 1, 2]);
    }

    #[test]
    fn tokens_join_to_the_text_even_when_characters_straddle_borders() {
        for text in ["", "plain text", "aé東京☕👩‍👩‍👧 ß", "abc👩d", "👩👩", "aaa👩"] {
            let parts: Vec<&str> = tokens(text).collect();
            assert_eq!(parts.concat(), text);
            assert!(parts.len() <= count(text) as usize, "{text}: {parts:?}");
        }
    }

    #[test]
    fn truncation_never_splits_a_character() {
        let mut text = String::from("abc東京");
        assert!(truncate(&mut text, 1));
        assert_eq!(text, "abc");
        assert!(!truncate(&mut text, 1));
    }
}
