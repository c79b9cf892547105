//! A few members of JSON documents, picked out while the bytes pass.
//!
//! For answers that are passed on and not kept: a picture of 20 MB has its usage after the picture, and all that is wanted is the
//! usage. Invariants: what is held is bounded, whatever the documents are; where chunk boundaries lie changes nothing; what is not
//! JSON gives nothing and fails nothing. It must never be used to decide what a request is: it does not check that the bytes are
//! valid.

use memchr::memchr2;
use serde_json::{Map, Value};

/// Members that are picked out, of a document and of what it wraps.
const KEPT: [&str; 9] = [
    "usage",
    "usageMetadata",
    "model",
    "modelVersion",
    "service_tier",
    "prompt_eval_count",
    "eval_count",
    "type",
    "delta",
];

/// Members whose own members are picked out as if they were the document's: the answer in an event of Responses, the message in the
/// first event of Messages.
const WRAPPERS: [&str; 2] = ["response", "message"];

/// Of wrappers these are not picked out; they mean something else there.
const OUTSIDE: [&str; 2] = ["type", "delta"];

/// Longest name of a member that may be one of the kept, with its quotes.
const NAME_BYTES: usize = 32;
/// Longest value kept.
const VALUE_BYTES: usize = 64 << 10;

/// What the byte scanner expects at the level that it picks from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Name,
    Colon,
    Value,
    /// A value that is of no interest, or the rest of one.
    Skipped,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Gleaner {
    depth: usize,
    /// Depth at which members are picked: that of the document, or one more inside a wrapper; 0 outside of documents.
    level: usize,
    /// Depth of the document: 1, or 2 if documents are elements of an array.
    root: usize,
    in_string: bool,
    escaped: bool,
    place: Place,
    name: Vec<u8>,
    value: Vec<u8>,
    found: Map<String, Value>,
}

impl Gleaner {
    pub(super) fn new() -> Self {
        Self {
            depth: 0,
            level: 0,
            root: 1,
            in_string: false,
            escaped: false,
            place: Place::Skipped,
            name: Vec::new(),
            value: Vec::new(),
            found: Map::new(),
        }
    }

    /// Takes the next bytes. Each document that ends in them is handed to `sink`, with its kept members only.
    pub(super) fn push(&mut self, mut bytes: &[u8], sink: &mut impl FnMut(Value)) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.in_string && !self.escaped {
                // Most of what passes is inside of strings.
                let plain = memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
                if let Some((text, rest)) = bytes.split_at_checked(plain).filter(|(text, _)| !text.is_empty()) {
                    self.hold(text);
                    bytes = rest;
                    continue;
                }
            }
            if self.in_string {
                self.take_in_string(byte)
            } else {
                self.take(byte, sink)
            }
            bytes = rest;
        }
    }

    /// Forgets a document that has not ended.
    pub(super) fn reset(&mut self) {
        *self = Self::new();
    }

    fn take_in_string(&mut self, byte: u8) {
        self.hold(&[byte]);
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => {
                self.in_string = false;
                if self.place == Place::Name && self.depth == self.level {
                    self.place = Place::Colon;
                }
            }
            _ => {}
        }
    }

    fn take(&mut self, byte: u8, sink: &mut impl FnMut(Value)) {
        let here = self.level > 0 && self.depth == self.level;
        match byte {
            b'"' => {
                self.in_string = true;
                self.hold(b"\"");
            }
            b'{' | b'[' => self.open(byte, here),
            b'}' | b']' => self.close(byte, here, sink),
            b',' if here => {
                self.end_value();
                self.place = Place::Name;
            }
            b':' if here && self.place == Place::Colon => {
                self.place = if self.is_kept() || self.is_wrapper() { Place::Value } else { Place::Skipped };
            }
            _ => self.hold(&[byte]),
        }
    }

    fn open(&mut self, byte: u8, here: bool) {
        self.depth = self.depth.saturating_add(1);
        if self.level == 0 {
            if self.depth == 1 && byte == b'[' {
                self.root = 2;
            } else if self.depth == self.root && byte == b'{' {
                self.enter();
            }
        } else if here && byte == b'{' && self.place == Place::Value && self.is_wrapper() {
            self.enter();
        } else {
            self.hold(&[byte]);
        }
    }

    fn enter(&mut self) {
        self.level = self.depth;
        self.place = Place::Name;
        self.name.clear();
        self.value.clear();
    }

    fn close(&mut self, byte: u8, here: bool, sink: &mut impl FnMut(Value)) {
        if here {
            self.end_value();
            self.place = Place::Skipped;
            if self.level == self.root {
                self.level = 0;
                let found = std::mem::take(&mut self.found);
                if !found.is_empty() {
                    sink(Value::Object(found));
                }
            } else {
                self.level = self.root;
            }
        } else {
            self.hold(&[byte]);
        }
        self.depth = self.depth.saturating_sub(1);
        if self.depth == 0 {
            self.root = 1;
        }
    }

    /// Keeps bytes of a name or of a value that is wanted.
    fn hold(&mut self, bytes: &[u8]) {
        let (held, most) = match self.place {
            Place::Name if self.in_string => (&mut self.name, NAME_BYTES),
            Place::Value => (&mut self.value, VALUE_BYTES),
            _ => return,
        };
        if held.len().saturating_add(bytes.len()) <= most {
            held.extend_from_slice(bytes);
        } else {
            // Too long to be of use.
            held.clear();
            self.place = match self.place {
                Place::Name => Place::Name,
                _ => Place::Skipped,
            };
            if self.place == Place::Name {
                // No name in quotes is that long, so what follows cannot become one of ours.
                self.name.resize(NAME_BYTES, b' ');
            }
        }
    }

    fn end_value(&mut self) {
        if self.place == Place::Value
            && let Some(name) = self.name().filter(|name| self.wants(name))
            && let Ok(value) = serde_json::from_slice(&self.value)
        {
            self.found.insert(name, value);
        }
        self.name.clear();
        self.value.clear();
    }

    fn name(&self) -> Option<String> {
        serde_json::from_slice(&self.name).ok()
    }

    fn wants(&self, name: &str) -> bool {
        KEPT.contains(&name) && (self.level == self.root || !OUTSIDE.contains(&name))
    }

    fn is_kept(&self) -> bool {
        self.name().is_some_and(|name| self.wants(&name))
    }

    fn is_wrapper(&self) -> bool {
        self.level == self.root && self.name().is_some_and(|name| WRAPPERS.contains(&name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn glean(text: &[u8], cuts: &[usize]) -> Vec<Value> {
        let mut found = Vec::new();
        let mut gleaner = Gleaner::new();
        let mut at = 0;
        for cut in cuts.iter().copied().chain([text.len()]) {
            gleaner.push(&text[at..cut], &mut |document| found.push(document));
            at = cut;
        }
        found
    }

    #[test]
    fn members_are_found_at_their_places_and_nowhere_else() {
        let text = br#" { "id":"x, \"usage\":{\"a\":1}", "data" : [{"usage":{"no":1},"model":"no"}], "us\u0061ge" : { "a" : [1, {"b":2}] },
            "response":{"type":"no","model":"m","usage":null,"output":[{"usage":9}]},"message":"text","type":"t"}
            {"model":"second"}[{"model":"a"},{"model":"b"}]"#;
        let expected = vec![
            json!({"usage": null, "model": "m", "type": "t"}),
            json!({"model": "second"}),
            json!({"model": "a"}),
            json!({"model": "b"}),
        ];
        assert_eq!(glean(text, &[]), expected);
        let every_byte: Vec<usize> = (1..text.len()).collect();
        assert_eq!(glean(text, &every_byte), expected);
    }

    #[test]
    fn what_is_held_does_not_grow_with_the_document() {
        let mut gleaner = Gleaner::new();
        let mut found = Vec::new();
        let chunk = "x".repeat(1 << 16);
        gleaner.push(br#"{"data":[{"b64_json":""#, &mut |document| found.push(document));
        for _ in 0..64 {
            gleaner.push(chunk.as_bytes(), &mut |document| found.push(document));
        }
        gleaner.push(br#""}],"model":""#, &mut |document| found.push(document));
        for _ in 0..64 {
            gleaner.push(chunk.as_bytes(), &mut |document| found.push(document));
        }
        assert!(gleaner.value.capacity() + gleaner.name.capacity() <= 2 * VALUE_BYTES + NAME_BYTES);
        gleaner.push(br#"","usage":{"input_tokens":1}}"#, &mut |document| found.push(document));
        assert_eq!(found, [json!({"usage": {"input_tokens": 1}})]);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<u32>().prop_map(Value::from),
            "[a-z\"\\\\{}\\[\\],: é]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 6, |inner| {
            let name = prop_oneof![
                proptest::sample::select(&KEPT[..]).prop_map(str::to_owned),
                proptest::sample::select(&WRAPPERS[..]).prop_map(str::to_owned),
                "[a-z\"\\\\:]{0,8}",
            ];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::hash_map(name, inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// What should be found, by a parser of whole documents.
    fn expected(document: &Value) -> Map<String, Value> {
        let mut found = Map::new();
        for (name, value) in document.as_object().into_iter().flatten() {
            if KEPT.contains(&name.as_str()) {
                found.insert(name.clone(), value.clone());
            } else if WRAPPERS.contains(&name.as_str()) {
                let inner = value.as_object().into_iter().flatten();
                let kept = |name: &str| KEPT.contains(&name) && !OUTSIDE.contains(&name);
                found.extend(inner.filter(|(name, _)| kept(name)).map(|(name, value)| (name.clone(), value.clone())));
            }
        }
        found
    }

    proptest! {
        #[test]
        fn the_same_is_found_as_in_the_parsed_document(
            document in any_json().prop_filter("an object", Value::is_object),
            pretty in any::<bool>(),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
        ) {
            let text = if pretty { serde_json::to_vec_pretty(&document) } else { serde_json::to_vec(&document) }.unwrap();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len())).collect();
            cuts.sort_unstable();
            let expected = expected(&document);
            let expected: Vec<Value> = if expected.is_empty() { Vec::new() } else { vec![Value::Object(expected)] };
            prop_assert_eq!(glean(&text, &cuts), expected);
        }

        #[test]
        fn bytes_that_are_no_json_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut gleaner = Gleaner::new();
            gleaner.push(&bytes, &mut |_| {});
        }
    }
}
