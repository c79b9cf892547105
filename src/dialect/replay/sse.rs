//! Writes a stored document as the event stream that could have been its source.
//!
//! Order within a choice: role, reasoning, content, refusal, other members, logprobs, tool calls, legacy function call,
//! `finish_reason`; after all choices usage if asked, then `[DONE]`. Invariant: assembling the stream gives the document
//! back. It must never write a line break inside an event, so line breaks between JSON tokens become spaces.

use std::borrow::Cow;

use super::super::kind::Dialect;
use super::super::members::{Member, array, get, object, push_string, string, unsigned};
use super::SseOptions;

/// Top-level members that providers repeat on every event; others come on the first only.
const REPEATED: [&str; 3] = ["model", "service_tier", "system_fingerprint"];
/// Texts that come in pieces, in this order.
const TEXTS: [&str; 4] = ["reasoning_content", "reasoning", "content", "refusal"];
const CALLS: [&str; 2] = ["tool_calls", "function_call"];

/// The whole stream, or `None` if `body` is not a document of the dialect.
pub(super) fn write(dialect: Dialect, body: &str, id: &str, created: u64, options: SseOptions) -> Option<Vec<u8>> {
    let body = if memchr::memchr2(b'\n', b'\r', body.as_bytes()).is_some() {
        Cow::Owned(body.replace(['\n', '\r'], " "))
    } else {
        Cow::Borrowed(body)
    };
    let top = object(&body)?;
    let choices = get(&top, "choices").and_then(array)?;
    let usage = get(&top, "usage").filter(|usage| *usage != "null" && options.include_usage);
    let mut writer = Writer::new(dialect, &top, id, created, options, body.len());
    for (position, choice) in choices.into_iter().enumerate() {
        let choice = object(choice)?;
        writer.begin_choice(&choice, position as u64)?;
        match dialect {
            Dialect::Chat => writer.message(&object(get(&choice, "message")?)?)?,
            _ => writer.text(&string(get(&choice, "text")?)?),
        }
        writer.end_choice(&choice);
    }
    Some(writer.finish(usage))
}

struct Writer<'a> {
    dialect: Dialect,
    chunk_chars: usize,
    out: Vec<u8>,
    /// Every event up to and including `"choices":[`.
    head: Vec<u8>,
    /// Members of the first event only.
    once: Vec<u8>,
    /// `,"usage":null` if usage will come.
    usage_null: &'static [u8],
    index: u64,
    /// The choice's `logprobs` member, and whether it was written.
    logprobs: Option<&'a str>,
}

impl<'a> Writer<'a> {
    fn new(dialect: Dialect, top: &[Member<'a>], id: &str, created: u64, options: SseOptions, size: usize) -> Self {
        let object = if dialect == Dialect::Chat { "chat.completion.chunk" } else { "text_completion" };
        let mut head = b"data: {\"id\":".to_vec();
        push_string(&mut head, id);
        head.extend_from_slice(format!(",\"object\":\"{object}\",\"created\":{created}").as_bytes());
        let mut once = Vec::new();
        for (name, value) in top {
            match &**name {
                "id" | "object" | "created" | "choices" | "usage" => {}
                repeated if REPEATED.contains(&repeated) => push_member(&mut head, name, value),
                _ => push_member(&mut once, name, value),
            }
        }
        head.extend_from_slice(b",\"choices\":[");
        let pieces = size.checked_div(options.chunk_chars).unwrap_or(0) + 8;
        Self {
            dialect,
            chunk_chars: options.chunk_chars,
            out: Vec::with_capacity(size + pieces.saturating_mul(head.len() + 80)),
            head,
            once,
            usage_null: if options.include_usage { b",\"usage\":null" } else { b"" },
            index: 0,
            logprobs: None,
        }
    }

    fn begin_choice(&mut self, choice: &[Member<'a>], position: u64) -> Option<()> {
        self.index = get(choice, "index").map_or(Some(position), unsigned)?;
        self.logprobs = get(choice, "logprobs");
        Some(())
    }

    /// One event. `payload` writes the value of `delta` (or `text`), `rest` what follows `finish_reason`.
    fn event(&mut self, payload: impl FnOnce(&mut Vec<u8>), logprobs: Option<&str>, finish: &str, rest: &[Member<'_>]) {
        let name = if self.dialect == Dialect::Chat { "delta" } else { "text" };
        let out = &mut self.out;
        out.extend_from_slice(&self.head);
        out.extend_from_slice(format!("{{\"index\":{},\"{name}\":", self.index).as_bytes());
        payload(out);
        if let Some(logprobs) = logprobs {
            push_member(out, "logprobs", logprobs);
        }
        push_member(out, "finish_reason", finish);
        for (name, value) in rest {
            push_member(out, name, value);
        }
        out.extend_from_slice(b"}]");
        out.append(&mut self.once);
        out.extend_from_slice(self.usage_null);
        out.extend_from_slice(b"}\n\n");
    }

    fn piece(&mut self, payload: impl FnOnce(&mut Vec<u8>)) {
        let logprobs = self.logprobs.map(|_| "null");
        self.event(payload, logprobs, "null", &[]);
    }

    /// One event whose delta has one member.
    fn delta(&mut self, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
        self.piece(|out| {
            out.push(b'{');
            push_string(out, name);
            out.push(b':');
            value(out);
            out.push(b'}');
        });
    }

    fn all_logprobs(&mut self) {
        if let Some(logprobs) = self.logprobs.filter(|logprobs| *logprobs != "null") {
            let nothing: &[u8] = if self.dialect == Dialect::Chat { b"{}" } else { b"\"\"" };
            self.event(|out| out.extend_from_slice(nothing), Some(logprobs), "null", &[]);
        }
    }

    fn text(&mut self, text: &str) {
        for piece in pieces(text, self.chunk_chars) {
            self.piece(|out| push_string(out, piece));
        }
        self.all_logprobs();
    }

    fn message(&mut self, message: &[Member<'a>]) -> Option<()> {
        self.first_delta(message);
        for name in TEXTS {
            if let Some(text) = get(message, name).filter(|value| value.starts_with('"')) {
                for piece in pieces(&string(text)?, self.chunk_chars) {
                    self.delta(name, |out| push_string(out, piece));
                }
            }
        }
        for (name, value) in message {
            let in_pieces = TEXTS.contains(&&**name) && value.starts_with('"');
            if !in_pieces && !in_first(name, value) && !CALLS.contains(&&**name) {
                self.delta(name, |out| out.extend_from_slice(value.as_bytes()));
            }
        }
        self.all_logprobs();
        if let Some(calls) = get(message, "tool_calls").filter(|calls| *calls != "null") {
            for (position, call) in array(calls)?.into_iter().enumerate() {
                self.tool_call(position, &object(call)?)?;
            }
        }
        if let Some(call) = get(message, "function_call").filter(|call| *call != "null") {
            let function = object(call)?;
            self.delta("function_call", |out| push_function_head(out, &function));
            for piece in pieces(&arguments(&function)?, self.chunk_chars) {
                self.delta("function_call", |out| push_arguments(out, piece));
            }
        }
        Some(())
    }

    /// The role, with all that is null or empty.
    fn first_delta(&mut self, message: &[Member<'a>]) {
        self.piece(|out| {
            out.push(b'{');
            for (name, value) in message {
                let value = match &**name {
                    _ if in_first(name, value) => value,
                    "content" if value.starts_with('"') => "\"\"",
                    _ => continue,
                };
                push_member(out, name, value);
            }
            out.push(b'}');
        });
    }

    fn tool_call(&mut self, position: usize, call: &[Member<'a>]) -> Option<()> {
        let function = match get(call, "function").filter(|function| *function != "null") {
            Some(function) => Some(object(function)?),
            None => None,
        };
        self.delta("tool_calls", |out| {
            out.extend_from_slice(format!("[{{\"index\":{position}").as_bytes());
            for (name, value) in call {
                match (&**name, &function) {
                    ("index", _) => {}
                    ("function", Some(function)) => {
                        out.extend_from_slice(b",\"function\":");
                        push_function_head(out, function);
                    }
                    _ => push_member(out, name, value),
                }
            }
            out.extend_from_slice(b"}]");
        });
        let arguments = function.as_deref().map_or(Some(Cow::Borrowed("")), arguments)?;
        for piece in pieces(&arguments, self.chunk_chars) {
            self.delta("tool_calls", |out| {
                out.extend_from_slice(format!("[{{\"index\":{position},\"function\":").as_bytes());
                push_arguments(out, piece);
                out.extend_from_slice(b"}]");
            });
        }
        Some(())
    }

    fn end_choice(&mut self, choice: &[Member<'a>]) {
        let known = ["index", "message", "delta", "text", "logprobs", "finish_reason"];
        let rest: Vec<_> = choice.iter().filter(|(name, _)| !known.contains(&&**name)).cloned().collect();
        let nothing: &[u8] = if self.dialect == Dialect::Chat { b"{}" } else { b"\"\"" };
        let logprobs = self.logprobs.map(|_| "null");
        let finish = get(choice, "finish_reason").unwrap_or("null");
        self.event(|out| out.extend_from_slice(nothing), logprobs, finish, &rest);
    }

    fn finish(mut self, usage: Option<&str>) -> Vec<u8> {
        if let Some(usage) = usage {
            self.out.extend_from_slice(&self.head);
            self.out.push(b']');
            push_member(&mut self.out, "usage", usage);
            self.out.extend_from_slice(b"}\n\n");
        }
        self.out.extend_from_slice(b"data: [DONE]\n\n");
        self.out
    }
}

/// Whether a member of the message comes with the role.
fn in_first(name: &str, value: &str) -> bool {
    name == "role"
        || value == "null"
        || value == "\"\""
        || (name == "tool_calls" && array(value).is_some_and(|c| c.is_empty()))
}

/// A member, with a comma before it unless it is the first of its object.
fn push_member(out: &mut Vec<u8>, name: &str, value: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    push_string(out, name);
    out.push(b':');
    out.extend_from_slice(value.as_bytes());
}

/// A function with empty arguments; these follow in pieces.
fn push_function_head(out: &mut Vec<u8>, function: &[Member<'_>]) {
    out.push(b'{');
    for (name, value) in function {
        let value = if name == "arguments" && value.starts_with('"') { "\"\"" } else { value };
        push_member(out, name, value);
    }
    out.push(b'}');
}

fn push_arguments(out: &mut Vec<u8>, piece: &str) {
    out.extend_from_slice(b"{\"arguments\":");
    push_string(out, piece);
    out.push(b'}');
}

/// The function's arguments if they are a string, else nothing.
fn arguments<'a>(function: &[Member<'a>]) -> Option<Cow<'a, str>> {
    match get(function, "arguments").filter(|arguments| arguments.starts_with('"')) {
        Some(arguments) => string(arguments),
        None => Some(Cow::Borrowed("")),
    }
}

/// The text in pieces of `chars` characters, or whole for 0. None for an empty text.
fn pieces(text: &str, chars: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = match chars {
            0 => rest.len(),
            _ => rest.char_indices().nth(chars).map_or(rest.len(), |(at, _)| at),
        };
        let (piece, after) = rest.split_at_checked(end)?;
        rest = after;
        Some(piece).filter(|piece| !piece.is_empty())
    })
}
