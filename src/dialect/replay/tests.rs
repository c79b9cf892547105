use serde_json::{Value, json};

use super::*;

const CHAT: &str = concat!(
    r#"{"created": 1700000000, "x":1.50,"id":"chatcmpl-old","object":"chat.completion","model":"m","choices":[{"index":0,"#,
    r#""message":{"role":"assistant","content":"héllo","reasoning_content":"hm","refusal":null,"annotations":[],"#,
    r#""tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},"#,
    r#""logprobs":{"content":[{"token":"h"}],"refusal":null},"finish_reason":"tool_calls"}],"#,
    r#""usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"details":{"id":"kept"}}}"#
);

fn events(stream: &Bytes) -> Vec<Value> {
    let text = std::str::from_utf8(stream).unwrap();
    let text = text.strip_suffix("data: [DONE]\n\n").unwrap();
    let events = text.split_terminator("\n\n");
    events.map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap()).collect()
}

#[test]
fn json_changes_identity_and_nothing_else() {
    let replay = Replay::new(Dialect::Chat, Bytes::from_static(CHAT.as_bytes())).unwrap();
    let expected = CHAT.replace("chatcmpl-old", "chatcmpl-01ABC").replace("1700000000", "1800000001");
    assert_eq!(replay.json("01ABC", 1_800_000_001), expected);
    assert_eq!(replay.body(), CHAT);
}

#[test]
fn the_id_keeps_the_providers_style() {
    let id = |dialect, old: &str| {
        let body = format!(r#"{{"id":{old},"choices":[]}}"#);
        let json = Replay::new(dialect, body.into()).unwrap().json("01", 1);
        serde_json::from_slice::<Value>(&json).unwrap()["id"].as_str().unwrap().to_owned()
    };
    assert_eq!(id(Dialect::Chat, "\"chatcmpl-x\""), "chatcmpl-01");
    assert_eq!(id(Dialect::Chat, "\"gen-17-x\""), "gen-01");
    assert_eq!(id(Dialect::Chat, "\"f2a2c1d0-1234\""), "chatcmpl-01");
    assert_eq!(id(Dialect::Completions, "null"), "cmpl-01");
    assert_eq!(id(Dialect::Completions, "\"cmpl-x\""), "cmpl-01");
}

#[test]
fn a_stream_has_role_first_reason_last_then_usage() {
    let replay = Replay::new(Dialect::Chat, Bytes::from_static(CHAT.as_bytes())).unwrap();
    let events = events(&replay.sse("01", 9, SseOptions { include_usage: true, chunk_chars: 3 }).unwrap());
    let deltas: Vec<Value> = events.iter().map(|event| event["choices"][0]["delta"].clone()).collect();
    let call = |function: Value| json!({"tool_calls": [{"index": 0, "function": function}]});
    let expected = [
        json!({"role": "assistant", "content": "", "refusal": null}),
        json!({"reasoning_content": "hm"}),
        json!({"content": "hél"}),
        json!({"content": "lo"}),
        json!({"annotations": []}),
        json!({}),
        json!({"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
        call(json!({"arguments": "{\"a"})),
        call(json!({"arguments": "\":1"})),
        call(json!({"arguments": "}"})),
        json!({}),
        Value::Null,
    ];
    assert_eq!(deltas, expected);
    let (usage, chunks) = events.split_last().unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["details"], json!({"id": "kept"}));
    assert!(chunks.iter().all(|event| event["usage"] == Value::Null && event.get("usage").is_some()));
    assert!(events.iter().all(|event| event["id"] == "chatcmpl-01" && event["created"] == 9 && event["model"] == "m"));
    assert!(events.iter().all(|event| event["object"] == "chat.completion.chunk"));
    let reasons: Vec<&Value> = chunks.iter().map(|event| &event["choices"][0]["finish_reason"]).collect();
    assert_eq!(reasons.iter().filter(|reason| !reason.is_null()).count(), 1);
    assert_eq!(**reasons.last().unwrap(), json!("tool_calls"));
    assert_eq!(events.iter().filter(|event| event.get("x").is_some()).count(), 1, "unknown members come once");
}

#[test]
fn usage_is_absent_unless_asked_for() {
    let replay = Replay::new(Dialect::Chat, Bytes::from_static(CHAT.as_bytes())).unwrap();
    let events = events(&replay.sse("01", 9, SseOptions { include_usage: false, chunk_chars: 0 }).unwrap());
    assert!(events.iter().all(|event| event.get("usage").is_none() && event["choices"] != json!([])));
}

#[test]
fn line_breaks_between_tokens_never_reach_the_stream() {
    let pretty = "{\r\n\"id\":\"a\",\n\"choices\":[{\"message\":{\"content\":\"x\\ny\",\n\"z\":{\r\n}}\n}]}";
    let replay = Replay::new(Dialect::Chat, Bytes::from(pretty)).unwrap();
    let stream = replay.sse("01", 1, SseOptions { include_usage: false, chunk_chars: 0 }).unwrap();
    assert!(!stream.contains(&b'\r'));
    assert!(events(&stream).iter().any(|event| event["choices"][0]["delta"]["content"] == "x\ny"));
}

#[test]
fn what_is_not_an_answer_of_its_dialect_is_refused() {
    for body in ["", "[]", "{}", r#"{"choices":[1]}"#, r#"{"choices":[{}]}"#, r#"{"choices":[{"message":1}]}"#] {
        assert_eq!(Replay::new(Dialect::Chat, Bytes::from(body)).err(), Some(BadBody), "{body}");
    }
    assert!(Replay::new(Dialect::Completions, Bytes::from(r#"{"choices":[{"message":{}}]}"#)).is_err());
    assert!(Replay::new(Dialect::Other, Bytes::from("{}")).is_err());
    let list = Bytes::from(r#"{"data":[]}"#);
    let replay = Replay::new(Dialect::Embeddings, list.clone()).unwrap();
    assert_eq!(replay.json("01", 1), list);
    assert!(replay.sse("01", 1, SseOptions { include_usage: false, chunk_chars: 0 }).is_err());
}
