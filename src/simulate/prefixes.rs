//! The provider's own prompt cache, as OpenAI describes its: the beginning of a prompt that was seen a short while ago is
//! cheaper. It counts from 1,024 tokens on, in steps of 128, and every use keeps it for as long again.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::request::ChatRequest;
use super::stats::locked;
use super::tokens;

/// Tokens from which a beginning is kept.
const FROM: u32 = 1_024;
/// Step in which beginnings are told apart, tokens.
const STEP: u32 = 128;
/// Beginnings that are remembered; beyond it those that are over go, and if that is not enough, all.
const MOST: usize = 200_000;

/// Beginnings and when they were last seen.
#[derive(Debug, Default)]
pub(super) struct Prefixes(Mutex<HashMap<[u8; 32], Instant>>);

impl Prefixes {
    /// How many tokens of the prompt's beginning were seen within `ttl`. From now on all of it was.
    pub(super) fn read(&self, request: &ChatRequest<'_>, ttl: Duration) -> u32 {
        if ttl.is_zero() {
            return 0;
        }
        let now = Instant::now();
        let mut seen = locked(&self.0);
        if seen.len() >= MOST {
            seen.retain(|_, last| now.duration_since(*last) < ttl);
        }
        if seen.len() >= MOST {
            seen.clear();
        }
        let mut known = 0;
        for (count, digest) in beginnings(request) {
            let last = seen.insert(digest, now);
            if last.is_some_and(|last| now.duration_since(last) < ttl) {
                known = count;
            }
        }
        known
    }
}

/// Digests of the beginnings, with their length in tokens, shortest first.
fn beginnings(request: &ChatRequest<'_>) -> Vec<(u32, [u8; 32])> {
    let step = tokens::to_bytes(STEP);
    let mut hasher = blake3::Hasher::new();
    hasher.update(request.model.as_bytes());
    let (mut found, mut tokens, mut room) = (Vec::new(), 0, step);
    for message in &request.messages {
        let text = message.text();
        hasher.update(message.role.as_bytes());
        let mut rest = text.as_bytes();
        while let Some((part, after)) = rest.split_at_checked(room) {
            hasher.update(part);
            tokens += STEP;
            (rest, room) = (after, step);
            if tokens >= FROM {
                found.push((tokens, *hasher.finalize().as_bytes()));
            }
        }
        hasher.update(rest);
        room -= rest.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    fn read(prefixes: &Prefixes, system: usize, question: &str, ttl: Duration) -> u32 {
        let system = "s".repeat(tokens::to_bytes(u32::try_from(system).unwrap()));
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"{question}"}}]}}"#
        );
        prefixes.read(&ChatRequest::parse(body.as_bytes()).unwrap(), ttl)
    }

    #[test]
    fn a_beginning_counts_from_1024_tokens_in_steps_of_128_once_it_was_seen() {
        let prefixes = Prefixes::default();
        let counts = [1_023, 1_024, 1_200].map(|system| {
            let first = read(&prefixes, system, "one", LONG);
            (first, read(&prefixes, system, "two", LONG))
        });
        assert_eq!(counts[0], (0, 0), "too short");
        assert_eq!(counts[1], (0, 1_024));
        assert_eq!(counts[2], (1_024, 1_152), "the shorter one had been seen as the beginning of this one");
    }

    #[test]
    fn without_a_time_nothing_is_kept_and_another_beginning_is_not_known() {
        let prefixes = Prefixes::default();
        assert_eq!([read(&prefixes, 2_000, "q", Duration::ZERO), read(&prefixes, 2_000, "q", Duration::ZERO)], [0, 0]);
        assert_eq!(read(&prefixes, 2_000, "q", LONG), 0);
        let body = format!(r#"{{"model":"m","messages":[{{"role":"system","content":"{}"}}]}}"#, "x".repeat(9_000));
        assert_eq!(prefixes.read(&ChatRequest::parse(body.as_bytes()).unwrap(), LONG), 0);
    }
}
