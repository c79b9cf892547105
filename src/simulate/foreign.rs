//! The dialects besides OpenAI's older ones: `POST /v1/messages` as Anthropic speaks it and `POST /v1/responses`, whole and as events.
//!
//! A request is turned into the chat request that asks the same, so that the same model answers: the text names its prompt, and a
//! `sim-cached…` model reports half of the prompt as read from the cache. Tools are not offered here.

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::answer::Answer;
use super::error::ApiError;
use super::tokens::{self, Usage};
use super::wire::{Head, to_json};

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    Messages,
    Responses,
}

#[derive(Deserialize)]
struct Request<'a> {
    model: String,
    stream: Option<bool>,
    max_tokens: Option<u32>,
    max_output_tokens: Option<u32>,
    #[serde(borrow)]
    system: Option<&'a RawValue>,
    #[serde(borrow)]
    instructions: Option<&'a RawValue>,
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

impl Foreign {
    /// The body of the chat request that asks the same.
    ///
    /// # Errors
    /// 400 when the body is not of this dialect.
    pub(super) fn as_chat(self, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let request: Request<'_> =
            serde_json::from_slice(body).map_err(|wrong| ApiError::bad_request(None, wrong.to_string()))?;
        let (first, turns, limit) = match self {
            Self::Messages => (request.system, request.messages, request.max_tokens),
            Self::Responses => (request.instructions, request.input, request.max_output_tokens),
        };
        if self == Self::Messages && limit.is_none() {
            return Err(ApiError::bad_request(Some("max_tokens"), "max_tokens: Field required"));
        }
        let mut messages: Vec<Value> = Vec::new();
        if let Some(content) = first.and_then(value) {
            messages.push(json!({"role": "system", "content": content}));
        }
        match turns.and_then(value) {
            Some(Value::Array(turns)) => {
                messages.extend(turns.into_iter().filter(|turn| turn.get("role").is_some_and(Value::is_string)));
            }
            Some(Value::String(text)) => messages.push(json!({"role": "user", "content": text})),
            _ => return Err(ApiError::bad_request(None, "the conversation is missing")),
        }
        let stream = request.stream.unwrap_or(false);
        let chat = json!({"model": request.model, "stream": stream, "max_tokens": limit, "messages": messages});
        Ok(to_json(&chat))
    }

    /// Beginning of the names of its answers.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Messages => "msg_",
            Self::Responses => "resp_",
        }
    }

    /// The whole answer.
    pub(super) fn whole(self, head: &Head, answer: &Answer) -> Vec<u8> {
        let (text, usage) = (text(answer), answer.usage);
        to_json(&match self {
            Self::Messages => message(head, &text, usage),
            Self::Responses => response(head, Some((&text, usage))),
        })
    }

    /// The answer as events, each with its name.
    pub(super) fn events(self, head: &Head, answer: &Answer) -> VecDeque<Vec<u8>> {
        let (text, usage) = (text(answer), answer.usage);
        let events = match self {
            Self::Messages => message_events(head, &text, usage),
            Self::Responses => response_events(head, &text, usage),
        };
        let named = |(number, mut event): (usize, Value)| {
            if let (Self::Responses, Some(members)) = (self, event.as_object_mut()) {
                members.insert("sequence_number".to_owned(), number.into());
            }
            let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
            format!("event: {kind}\ndata: {event}").into_bytes()
        };
        events.into_iter().enumerate().map(named).collect()
    }
}

fn message(head: &Head, text: &str, usage: Usage) -> Value {
    json!({"id": head.id, "type": "message", "role": "assistant", "model": head.model,
        "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": message_usage(usage, usage.completion)})
}

/// The response object: without `done` it has just begun.
fn response(head: &Head, done: Option<(&str, Usage)>) -> Value {
    let output: Vec<Value> = done.iter().map(|(text, _)| message_item(text, "completed")).collect();
    let usage = done.map(|(_, usage)| {
        json!({"input_tokens": usage.prompt, "input_tokens_details": {"cached_tokens": usage.cached},
            "output_tokens": usage.completion, "output_tokens_details": {"reasoning_tokens": usage.reasoning},
            "total_tokens": usage.prompt.saturating_add(usage.completion)})
    });
    json!({"id": head.id, "object": "response", "created_at": head.created,
        "status": if done.is_some() { "completed" } else { "in_progress" }, "error": null, "incomplete_details": null,
        "instructions": null, "model": head.model, "output": output, "parallel_tool_calls": true,
        "service_tier": "default", "tool_choice": "auto", "tools": [], "metadata": {}, "temperature": 1.0,
        "top_p": 1.0, "usage": usage})
}

/// Events of Responses, without the numbers that they carry.
fn response_events(head: &Head, text: &str, usage: Usage) -> Vec<Value> {
    let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": []});
    let mut events = vec![
        json!({"type": "response.created", "response": response(head, None)}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": message_item("", "in_progress")}),
        json!({"type": "response.content_part.added", "item_id": ITEM, "output_index": 0, "content_index": 0,
            "part": part("")}),
    ];
    events.extend(tokens::tokens(text).map(|delta| {
        json!({"type": "response.output_text.delta", "item_id": ITEM, "output_index": 0, "content_index": 0,
            "delta": delta, "logprobs": []})
    }));
    events.extend([
        json!({"type": "response.output_text.done", "item_id": ITEM, "output_index": 0, "content_index": 0,
            "text": text, "logprobs": []}),
        json!({"type": "response.content_part.done", "item_id": ITEM, "output_index": 0, "content_index": 0,
            "part": part(text)}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": message_item(text, "completed")}),
        json!({"type": "response.completed", "response": response(head, Some((text, usage)))}),
    ]);
    events
}

/// Name of the one item of an answer.
const ITEM: &str = "msg_simulated";

fn message_item(text: &str, status: &str) -> Value {
    let content =
        if text.is_empty() { json!([]) } else { json!([{"type": "output_text", "text": text, "annotations": []}]) };
    json!({"id": ITEM, "type": "message", "role": "assistant", "status": status, "content": content})
}

/// Events of Messages.
fn message_events(head: &Head, text: &str, usage: Usage) -> Vec<Value> {
    let mut events = vec![
        json!({"type": "message_start", "message": {"id": head.id, "type": "message", "role": "assistant",
            "model": head.model, "content": [], "stop_reason": null, "stop_sequence": null,
            "usage": message_usage(usage, 1)}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "ping"}),
    ];
    events.extend(
        tokens::tokens(text).map(
            |text| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
        ),
    );
    events.extend([
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
            "usage": {"output_tokens": usage.completion}}),
        json!({"type": "message_stop"}),
    ]);
    events
}

/// Anthropic's input is what was not read from the cache.
fn message_usage(usage: Usage, output: u32) -> Value {
    json!({"input_tokens": usage.prompt.saturating_sub(usage.cached), "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached, "output_tokens": output, "service_tier": "standard"})
}

fn value(raw: &RawValue) -> Option<Value> {
    serde_json::from_str(raw.get()).ok()
}

fn text(answer: &Answer) -> String {
    let said = |choice: &super::answer::Choice| choice.content.clone().or_else(|| choice.refusal.clone());
    answer.choices.first().and_then(said).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::answer;
    use crate::simulate::fault::Fault;
    use crate::simulate::request::ChatRequest;

    #[test]
    fn both_dialects_say_what_a_chat_would_say_whole_and_as_events() {
        let messages = r#"{"model":"sim-cached","max_tokens":9,"system":"Be brief.","messages":[
            {"role":"user","content":[{"type":"text","text":"Where is the museum?"}]}]}"#;
        let responses = r#"{"model":"sim-cached","max_output_tokens":9,"instructions":"Be brief.","input":[
            {"role":"user","content":[{"type":"input_text","text":"Where is the museum?"}]}]}"#;
        let head = Head { id: "x".to_owned(), created: 1, model: "sim-cached".to_owned() };
        for (dialect, body) in [(Foreign::Messages, messages), (Foreign::Responses, responses)] {
            let chat = dialect.as_chat(body.as_bytes()).unwrap();
            let answer = answer::chat(&ChatRequest::parse(&chat).unwrap(), None, 100, &Fault::default());
            assert_eq!((answer.usage.prompt, answer.usage.cached, answer.usage.completion), (8, 4, 9));
            let events = dialect.events(&head, &answer);
            let data = |event: &Vec<u8>| {
                let text = String::from_utf8(event.clone()).unwrap();
                serde_json::from_str::<Value>(text.split_once("\ndata: ").unwrap().1).unwrap()
            };
            let written: String = events
                .iter()
                .map(data)
                .filter_map(|event| {
                    let delta = &event["delta"];
                    delta.as_str().or_else(|| delta["text"].as_str()).map(str::to_owned)
                })
                .collect();
            assert_eq!(written, text(&answer));
            let whole: Value = serde_json::from_slice(&dialect.whole(&head, &answer)).unwrap();
            assert!(whole.to_string().contains(&written.replace('"', "\\\"")), "{whole}");
        }
        assert!(Foreign::Messages.as_chat(br#"{"model":"m","messages":[]}"#).is_err(), "max_tokens is required");
    }
}
