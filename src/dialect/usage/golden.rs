//! Usage as it was told in public, and what it must come to: `tests/data/usage`.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;

use super::*;
use crate::config::NanoUsd;
use crate::dialect::sse::{Framer, Limits};
use crate::dialect::{Dialect, PassedReader, StreamReader, UsageView};
use crate::price::{PriceBook, Service};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Golden {
    source: String,
    kind: String,
    #[serde(default, rename = "note")]
    _note: String,
    usd_per_million: BTreeMap<String, NanoUsd>,
    body: Option<Value>,
    stream: Option<String>,
    tokens: BTreeMap<String, u64>,
    service: Option<String>,
    /// The answer of a route that makes pictures.
    #[serde(default)]
    pictures: bool,
    usd: NanoUsd,
}

fn all() -> Vec<(String, Golden)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/usage");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "json"));
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let golden = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
        (name, golden)
    };
    paths.iter().map(read).collect()
}

fn golden(name: &str) -> Golden {
    all().into_iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("{name}")).1
}

impl Golden {
    /// The bytes of the answer and how they are announced.
    fn answer(&self) -> (Vec<u8>, &'static str) {
        match (&self.body, &self.stream) {
            (Some(body), None) => (serde_json::to_vec_pretty(body).unwrap(), "application/json"),
            (None, Some(stream)) => (stream.clone().into_bytes(), "text/event-stream; charset=utf-8"),
            _ => panic!("either a body or a stream"),
        }
    }

    /// What is read of it while it passes in chunks of this size.
    fn passed(&self, chunk: usize) -> Usage {
        let (bytes, kind) = self.answer();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        let mut reader = PassedReader::new(&headers);
        bytes.chunks(chunk).for_each(|part| reader.push(part));
        assert!(reader.is_settled());
        self.made(reader.usage().unwrap())
    }

    fn made(&self, usage: Usage) -> Usage {
        if self.pictures { usage.in_pictures() } else { usage }
    }

    /// The cost by an arithmetic that knows nothing of the price book.
    fn cost(&self, tokens: &Tokens) -> i128 {
        let rate = |kind: &str| i128::from(self.usd_per_million.get(kind).map_or(0, |rate| rate.0));
        let kinds = Tokens::KINDS.into_iter().zip(tokens.counts());
        kinds.map(|(kind, count)| i128::from(count) * rate(kind)).sum()
    }

    fn check(&self, name: &str, usage: &Usage) {
        let told = Tokens::KINDS.into_iter().zip(usage.tokens.counts()).filter(|(_, count)| *count > 0);
        let told: BTreeMap<String, u64> = told.map(|(kind, count)| (kind.to_owned(), count)).collect();
        assert_eq!(told, self.tokens, "{name}");
        assert_eq!(usage.service, self.service.as_deref(), "{name}");
        assert_eq!(self.cost(&usage.tokens), i128::from(self.usd.0) * 1_000_000, "{name}: to the nano-dollar");
        assert!(
            ["recorded", "documented"].contains(&self.kind.as_str()) && self.source.starts_with("https://"),
            "{name}"
        );
    }

    /// The same by the price book, for what its shortest form can say.
    fn check_with_the_book(&self, name: &str) {
        let kinds = ["input", "cache_read", "cache_write", "output", "reasoning"];
        assert!(self.tokens.keys().all(|kind| kinds.contains(&kind.as_str())), "{name}");
        let mut model = serde_json::json!({"names": ["m"]});
        for kind in kinds {
            if let Some(rate) = self.usd_per_million.get(kind) {
                model[kind] = rate.to_string().into();
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("prices.json");
        std::fs::write(&path, serde_json::json!({"version": "test", "models": [model]}).to_string()).unwrap();
        let price = PriceBook::load(Some(&path)).unwrap().price("m", 0).unwrap();
        assert_eq!(price.cost(&self.passed(usize::MAX).tokens, Service::Standard), self.usd, "{name}");
    }
}

#[test]
fn every_told_usage_comes_to_its_tokens_and_its_cost() {
    let all = all();
    assert!(all.len() >= 25, "{}", all.len());
    for (name, golden) in &all {
        golden.check(name, &golden.passed(usize::MAX));
        if let Some(body) = &golden.body {
            golden.check(name, &golden.made(Usage::of_document(body).unwrap()));
        }
    }
}

#[test]
fn usage_is_the_same_wherever_chunks_end() {
    for (name, golden) in &all() {
        for chunk in [1, 2, 3, 7, 64] {
            golden.check(&format!("{name} in chunks of {chunk}"), &golden.passed(chunk));
        }
    }
}

/// Tokens written to Anthropic's cache were charged as input and as writing: almost double.
#[test]
fn litellm_9812_what_is_written_to_the_cache_is_billed_once() {
    golden("anthropic-cache-write").check_with_the_book("9812");
    golden("anthropic-stream-behind-litellm").check_with_the_book("9812 as a stream");
}

/// Cached input of Anthropic was charged at the full price.
#[test]
fn litellm_11364_what_is_read_from_the_cache_has_its_own_price() {
    golden("anthropic-behind-litellm").check_with_the_book("11364");
    golden("anthropic-behind-litellm-streamed").check_with_the_book("11789");
}

/// Cached input of Gemini was charged once as text and once as cached.
#[test]
fn litellm_14849_cached_input_of_gemini_is_billed_once() {
    golden("gemini-behind-litellm").check_with_the_book("14849");
    golden("gemini-native-cached").check_with_the_book("10667");
    golden("gemini-native-cached-beside").check_with_the_book("42093");
}

/// Usage was lost where the last event of a stream had a choice beside it, and the cached tokens with it.
#[test]
fn litellm_36168_usage_beside_a_choice_is_usage() {
    let golden = golden("stream-usage-beside-a-choice");
    golden.check_with_the_book("36168");
    for view in [UsageView::AsSent, UsageView::Hidden] {
        let mut framer = Framer::new(Limits { line_bytes: 1 << 16, event_bytes: 1 << 16 });
        framer.push(Bytes::from(golden.answer().0));
        let mut reader = StreamReader::new(Dialect::Chat, view, 1 << 16);
        while let Some(event) = framer.next_event().unwrap() {
            reader.read(&event);
        }
        golden.check("36168 through the reader of chats", &reader.usage().unwrap());
    }
}

#[test]
fn a_tier_told_in_any_event_of_a_chat_is_that_of_its_usage() {
    let events = "data: {\"service_tier\":\"flex\",\"choices\":[]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\
                  \"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
    let mut framer = Framer::new(Limits { line_bytes: 1 << 16, event_bytes: 1 << 16 });
    framer.push(Bytes::from_static(events.as_bytes()));
    let mut reader = StreamReader::new(Dialect::Chat, UsageView::AsSent, 1 << 16);
    while let Some(event) = framer.next_event().unwrap() {
        reader.read(&event);
    }
    assert_eq!(reader.usage().unwrap().service, Some("flex"));
}
