//! Completions and streams made from a seed, to find what the recorded ones do not show.

use bytes::Bytes;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value, json};

use super::super::*;
use super::{observe, value};

/// Checks that a replay, put together again, is the stored document, in all its forms.
pub(crate) fn assert_replays(name: &str, dialect: Dialect, replay: &Replay, chunk_chars: usize) {
    let mut expected = value(replay.body());
    let json = value(&replay.json("01NEW", 77));
    assert_eq!(without_identity(json.clone()), without_identity(expected.clone()), "{name}");
    if expected.get("id").is_some() {
        let id = json["id"].as_str().unwrap();
        assert!(id.ends_with("-01NEW"), "{name}: {id}");
    }
    for include_usage in [true, false] {
        let stream = replay.sse("01NEW", 77, SseOptions { include_usage, chunk_chars }).unwrap();
        let (client, finished) = observe(dialect, UsageView::AsSent, &stream, &[]);
        assert_eq!(client, stream, "{name}");
        let completion = finished.completion.unwrap_or_else(|| panic!("{name}: {:?}", finished.verdict));
        if !include_usage {
            expected.as_object_mut().unwrap().shift_remove("usage");
        }
        assert_eq!(value(&completion)["created"], json!(77), "{name}");
        assert_eq!(
            without_identity(value(&completion)),
            without_identity(expected.clone()),
            "{name}\n{}",
            String::from_utf8_lossy(&stream)
        );
    }
}

fn without_identity(mut document: Value) -> Value {
    let members = document.as_object_mut().unwrap();
    members.shift_remove("id");
    members.shift_remove("created");
    document
}

fn text() -> BoxedStrategy<String> {
    prop_oneof![
        4 => "[a-zA-Z ,.]{1,60}",
        2 => "\\PC{1,40}",
        1 => Just("a\u{2028}b\u{85}\r\nc\t\"\\/\u{1}".to_owned()),
        1 => Just("👩\u{200d}👩\u{200d}👧 مرحبا 你好 สวัสดี".to_owned()),
    ]
    .boxed()
}

fn number() -> BoxedStrategy<Value> {
    let texts = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        Just("1.50".to_owned()),
        Just("-1.230e-05".to_owned()),
        Just("123456789012345678901234567890".to_owned()),
    ];
    texts.prop_map(|text| serde_json::from_str(&text).unwrap()).boxed()
}

fn any_json() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number(),
        text().prop_map(Value::from),
        Just(json!("")),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::vec(("[a-z]{1,6}", inner), 0..3).prop_map(|pairs| {
                let mut map = Map::new();
                map.extend(pairs);
                Value::from(map)
            }),
        ]
    })
    .boxed()
}

/// Members whose names no code knows.
fn unknown() -> BoxedStrategy<Map<String, Value>> {
    proptest::collection::vec(("x_[a-z]{1,5}", any_json()), 0..3).prop_map(|pairs| pairs.into_iter().collect()).boxed()
}

/// The member absent, null, or with one of the given values.
fn member(name: &'static str, values: BoxedStrategy<Value>) -> BoxedStrategy<Map<String, Value>> {
    prop_oneof![
        1 => Just(json!({})),
        1 => Just(json!({ name: null })),
        2 => values.prop_map(move |value| json!({ name: value })),
    ]
    .prop_map(|value| match value {
        Value::Object(map) => map,
        _ => Map::new(),
    })
    .boxed()
}

fn merged(parts: Vec<BoxedStrategy<Map<String, Value>>>) -> BoxedStrategy<Map<String, Value>> {
    parts.prop_map(|maps| maps.into_iter().flatten().collect()).boxed()
}

fn arguments() -> BoxedStrategy<String> {
    prop_oneof![Just("{}".to_owned()), text().prop_map(|text| json!({ "query": text, "n": 1 }).to_string())].boxed()
}

fn tool_calls() -> BoxedStrategy<Value> {
    let call = (text(), arguments(), unknown(), unknown(), any::<bool>());
    proptest::collection::vec(call, 0..4)
        .prop_map(|calls| {
            let calls = calls.into_iter().enumerate().map(|(n, (name, arguments, outer, inner, with_id))| {
                let mut function = json!({"name": format!("f{name}"), "arguments": arguments});
                function.as_object_mut().unwrap().extend(inner);
                let mut call = Map::new();
                if with_id {
                    call.insert("id".to_owned(), json!(format!("call_{n}")));
                }
                call.insert("type".to_owned(), json!("function"));
                call.insert("function".to_owned(), function);
                // A nested object grows like a function, where a repeated name is doubt; keep to that.
                call.extend(outer);
                Value::from(call)
            });
            calls.collect()
        })
        .boxed()
}

fn message() -> BoxedStrategy<Value> {
    merged(vec![
        member("role", Just(json!("assistant")).boxed()),
        member("content", text().prop_map(|text| json!(format!("c{text}"))).boxed()),
        member("reasoning_content", text().prop_map(Value::from).boxed()),
        member("refusal", Just(json!("")).boxed()),
        member("annotations", proptest::collection::vec(any_json(), 0..3).prop_map(Value::from).boxed()),
        member("tool_calls", tool_calls()),
        member("function_call", arguments().prop_map(|text| json!({"name": "old", "arguments": text})).boxed()),
        member("audio", Just(Value::Null).boxed()),
        unknown(),
    ])
    .prop_map(Value::from)
    .boxed()
}

fn logprobs() -> BoxedStrategy<Map<String, Value>> {
    let list = proptest::collection::vec(any_json(), 0..3).prop_map(Value::from);
    member(
        "logprobs",
        (list.clone(), list).prop_map(|(a, b)| json!({"content": a, "refusal": null, "tokens": b})).boxed(),
    )
}

/// A storable document of the dialect.
pub(crate) fn completion(dialect: Dialect) -> BoxedStrategy<Value> {
    let chat = dialect == Dialect::Chat;
    let choice = (message(), text(), logprobs(), unknown(), any::<bool>()).prop_map(
        move |(message, text, logprobs, more, split)| {
            let mut choice = Map::new();
            let calls = message["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty())
                || message["function_call"].is_object();
            let mut message = message;
            if !calls && !message["content"].is_string() {
                message["content"] = json!("needed");
            }
            if chat {
                choice.insert("message".to_owned(), message);
            } else {
                choice.insert("text".to_owned(), json!(format!("t{text}")));
            }
            choice.extend(logprobs);
            let reason = if chat && calls && split { "tool_calls" } else { "stop" };
            choice.insert("finish_reason".to_owned(), json!(reason));
            choice.extend(more);
            choice
        },
    );
    let usage = json!({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13, "x_detail": {"y": [1.50]},
        "prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 2}});
    let top = merged(vec![member("system_fingerprint", text().prop_map(Value::from).boxed()), unknown()]);
    (proptest::collection::vec(choice, 1..4), top, any::<bool>())
        .prop_map(move |(choices, top, with_usage)| {
            let object = if chat { "chat.completion" } else { "text_completion" };
            let mut document = json!({"id": "gen-1", "object": object, "created": 5, "model": "m"});
            let members = document.as_object_mut().unwrap();
            members.extend(top);
            let choices = choices.into_iter().enumerate().map(|(index, mut choice)| {
                choice.shift_insert(0, "index".to_owned(), json!(index));
                Value::from(choice)
            });
            members.insert("choices".to_owned(), choices.collect());
            if with_usage {
                members.insert("usage".to_owned(), usage.clone());
            }
            document
        })
        .boxed()
}

/// Streams from a fixed seed: replayed completions with other line ends, comments and blank lines mixed in.
pub(crate) fn streams(count: usize) -> Vec<Bytes> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut streams = Vec::new();
    for n in 0..count {
        let dialect = if n % 4 == 0 { Dialect::Completions } else { Dialect::Chat };
        let document = completion(dialect).new_tree(&mut runner).unwrap().current().to_string();
        let options = SseOptions { include_usage: n % 2 == 0, chunk_chars: n % 9 };
        let stream = Replay::new(dialect, document.into()).unwrap().sse("01", 1, options).unwrap();
        let line_end = ["\n", "\r\n", "\r"][n % 3];
        let noise = ["\n\n", "\n\n: keep-alive\n\n", "\n\n\n", "\n\n:a\nid: 4\nevent: message\n"][n % 4];
        let text = String::from_utf8(stream.to_vec()).unwrap().replace("\n\n", noise).replace('\n', line_end);
        streams.push(Bytes::from(text));
    }
    streams
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn assembling_a_replayed_chat_completion_gives_it_back(document in completion(Dialect::Chat), chunk_chars in 0_usize..9) {
        check(Dialect::Chat, &document, chunk_chars);
    }

    #[test]
    fn assembling_a_replayed_text_completion_gives_it_back(document in completion(Dialect::Completions), chunk_chars in 0_usize..9) {
        check(Dialect::Completions, &document, chunk_chars);
    }
}

fn check(dialect: Dialect, document: &Value, chunk_chars: usize) {
    for body in [document.to_string(), serde_json::to_string_pretty(document).unwrap()] {
        let body = Bytes::from(body);
        let finished = inspect_whole(dialect, &body);
        assert!(finished.verdict.is_ok(), "{:?} {document}", finished.verdict);
        assert_replays("generated", dialect, &Replay::new(dialect, body).unwrap(), chunk_chars);
    }
}
