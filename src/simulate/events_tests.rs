use serde_json::Value;

use super::*;
use crate::simulate::answer;
use crate::simulate::request::{ChatRequest, CompletionRequest};

fn head() -> Head {
    Head { id: "x".into(), created: 1, model: "m".into() }
}

fn stream(body: &str, include_usage: bool, fault: &str) -> Vec<Value> {
    let fault = Fault::parse(fault).unwrap();
    let request = ChatRequest::parse(body.as_bytes()).unwrap();
    let answer = answer::chat(&request, None, 16, &fault);
    let top = (request.logprobs == Some(true)).then_some(2);
    collect(Events::new(Dialect::Chat, head(), answer, top, include_usage, &fault))
}

fn collect(mut events: Events) -> Vec<Value> {
    std::iter::from_fn(|| {
        let mut out = Vec::new();
        events.write_next(&mut out).then(|| serde_json::from_slice(&out).unwrap())
    })
    .collect()
}

fn joined(events: &[Value], choice: u64, pointer: &str) -> String {
    let of_choice = |event: &Value| event["choices"].as_array().unwrap().iter().find(|c| c["index"] == choice).cloned();
    let found = events.iter().filter_map(of_choice);
    found.filter_map(|c| c.pointer(pointer).and_then(Value::as_str).map(str::to_owned)).collect()
}

const QUESTION: &str = r#"{"model":"sim-reason","n":2,"logprobs":true,"messages":[{"role":"user","content":"café?"}]}"#;

#[test]
fn the_parts_of_a_stream_join_to_the_whole_answer_for_every_choice() {
    let request = ChatRequest::parse(QUESTION.as_bytes()).unwrap();
    let whole = answer::chat(&request, None, 16, &Fault::default());
    let events = stream(QUESTION, false, "");
    for (index, choice) in (0..).zip(&whole.choices) {
        assert_eq!(Some(joined(&events, index, "/delta/content")), choice.content);
        assert_eq!(Some(joined(&events, index, "/delta/reasoning_content")), choice.reasoning);
        assert_eq!(joined(&events, index, "/finish_reason"), "stop");
        assert_eq!(joined(&events, index, "/logprobs/content/0/token"), *choice.content.as_deref().unwrap());
    }
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(events[1]["choices"][0]["index"], 1);
}

#[test]
fn usage_is_null_but_on_the_last_event_and_absent_when_not_asked_for() {
    let without = stream(QUESTION, false, "");
    assert!(without.iter().all(|event| event.get("usage").is_none()));
    let with = stream(QUESTION, true, "");
    let (last, others) = with.split_last().unwrap();
    assert!(others.iter().all(|event| event["usage"].is_null() && event.get("usage").is_some()));
    assert_eq!(last["choices"], serde_json::json!([]));
    assert!(last["usage"]["completion_tokens"].as_u64().unwrap() > 0);
}

#[test]
fn tool_calls_stream_a_head_and_then_their_arguments() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"parallel"}],"tools":[{"type":"function","function":
        {"name":"a","parameters":{"type":"object","properties":{"p":{"type":"string"}}}}}]}"#;
    let events = stream(body, false, "");
    let calls: Vec<&Value> = events.iter().filter_map(|event| event.pointer("/choices/0/delta/tool_calls/0")).collect();
    let heads = calls.iter().filter(|call| call.get("id").is_some()).count();
    assert_eq!(heads, 2);
    let of = |index: u64| calls.iter().filter(move |call| call["index"] == index);
    let arguments: String = of(1).filter_map(|call| call["function"]["arguments"].as_str()).collect();
    assert_eq!(arguments, r#"{"p":"parallel"}"#);
    assert_eq!(joined(&events, 0, "/finish_reason"), "tool_calls");
}

#[test]
fn a_refusal_streams_as_refusal() {
    let events = stream(r#"{"model":"m","messages":[{"role":"user","content":"[refuse]"}]}"#, false, "");
    assert!(joined(&events, 0, "/delta/refusal").starts_with("I am sorry"));
    assert_eq!(joined(&events, 0, "/delta/content"), "");
}

#[test]
fn ordered_oddities_show_in_the_events() {
    let azure = stream(QUESTION, false, "azure");
    assert!(azure[0]["prompt_filter_results"].is_array() && azure[0]["choices"] == serde_json::json!([]));
    let every = stream(QUESTION, false, "usage-every-chunk");
    assert!(every.iter().all(|event| event["usage"]["total_tokens"].is_u64()));
    assert_eq!(joined(&stream(QUESTION, false, "no-finish"), 0, "/finish_reason"), "");
    assert!(stream(QUESTION, true, "no-usage").iter().all(|event| event.get("usage").is_none()));
}

#[test]
fn legacy_completions_stream_text() {
    let request = CompletionRequest::parse(br#"{"model":"m","prompt":"p"}"#).unwrap();
    let answer = answer::completion(&request, &request.prompts().unwrap(), 16, &Fault::default());
    let whole = answer.choices[0].content.clone().unwrap();
    let events = collect(Events::new(Dialect::Text, head(), answer, Some(1), true, &Fault::default()));
    assert_eq!(joined(&events, 0, "/text"), whole);
    assert_eq!(joined(&events, 0, "/finish_reason"), "stop");
    assert_eq!(events[1]["choices"][0]["logprobs"]["text_offset"], serde_json::json!([4]));
    assert_eq!(events.last().unwrap()["usage"]["completion_tokens"], whole.len().div_ceil(4));
}
