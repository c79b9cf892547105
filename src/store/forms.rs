//! The forms in which our types are stored in any database: vectors as little-endian `f32`, tags as JSON, counts and
//! times as signed 64-bit integers, words of closed lists as text.
//!
//! Every form is exact: what is read is what was written, but for counts beyond 63 bits.

use std::borrow::Cow;

use super::StoreError;

const NO_TAGS: &str = "[]";

/// The words that nearly every entry or decision has; others are allocated, so a missing one costs time, not truth.
const COMMON_WORDS: [&str; 13] = [
    "",
    "chat",
    "completions",
    "embeddings",
    "responses",
    "stop",
    "tool_calls",
    "serve",
    "shadow",
    "accept",
    "audit",
    "miss",
    "feedback",
];

pub(super) fn word(text: &str) -> Cow<'static, str> {
    match COMMON_WORDS.iter().find(|common| **common == text) {
        Some(common) => Cow::Borrowed(common),
        None => Cow::Owned(text.to_owned()),
    }
}

/// Tags as stored: `[["name","value"], …]`.
pub(super) fn tags_text(tags: &[(String, String)]) -> Result<Cow<'static, str>, StoreError> {
    if tags.is_empty() {
        return Ok(Cow::Borrowed(NO_TAGS));
    }
    serde_json::to_string(tags).map(Cow::Owned).map_err(|error| StoreError::Failed(error.into()))
}

/// Tags as they were before [`tags_text`].
pub(super) fn tags_of(text: &str) -> Result<Vec<(String, String)>, serde_json::Error> {
    // By far most rows have none.
    if text == NO_TAGS {
        return Ok(Vec::new());
    }
    serde_json::from_str(text)
}

/// A vector as stored.
pub(super) fn vector_bytes(vector: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(vector.len() * 4);
    for number in vector {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes
}

/// A vector as it was before [`vector_bytes`].
pub(super) fn vector_of(bytes: &[u8]) -> Result<Vec<f32>, &'static str> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err("a vector whose length is not a multiple of four bytes");
    }
    Ok(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
}

/// A count or time as stored. What exceeds 63 bits is clamped: no such value is real, and a ledger row must not fail.
pub(super) fn stored(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// [`stored`] of a value that may be absent.
pub(super) fn stored_or_null(value: Option<u64>) -> Option<i64> {
    value.map(stored)
}
