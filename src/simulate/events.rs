//! Streamed answers, event by event, in OpenAI's form: a role first (chat), then one token an event, then `finish_reason`, and
//! the usage last when it was asked for. Several choices take turns.
//!
//! Events are made when they are sent, so that ten thousand slow streams hold ten thousand answers, not their framing.

use serde::Serialize;

use super::answer::{Answer, Choice};
use super::fault::Fault;
use super::tokens::{self, Usage};
use super::wire::{ChatLogprobs, FINGERPRINT, Head, TextLogprobs};

/// What Azure sends before the first token.
const AZURE_FIRST: &[u8] = br#"{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"},"self_harm":{"filtered":false,"severity":"safe"},"sexual":{"filtered":false,"severity":"safe"},"violence":{"filtered":false,"severity":"safe"}}}]}"#;

/// Which API a stream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `chat.completion.chunk`
    Chat,
    /// `text_completion`
    Text,
}

/// The events of one answer.
pub(super) struct Events {
    dialect: Dialect,
    head: Head,
    choices: Vec<Cursor>,
    turn: usize,
    usage: Usage,
    top: Option<u32>,
    include_usage: bool,
    usage_every: bool,
    azure: bool,
    sent_tokens: u32,
}

struct Cursor {
    choice: Choice,
    stage: Stage,
    /// Characters sent, for the offsets of legacy log probabilities.
    chars: usize,
}

/// What a choice says next; the number is the byte reached.
#[derive(Clone, Copy)]
enum Stage {
    Role,
    Reasoning(usize),
    Content(usize),
    Refusal(usize),
    CallStart(usize),
    CallArguments(usize, usize),
    Finish,
    Done,
}

/// One step of a choice.
enum Said<'a> {
    Role { with_content: bool },
    Reasoning(&'a str),
    Content(&'a str),
    Refusal(&'a str),
    CallStart { index: usize, id: &'a str, name: &'a str },
    CallArguments { index: usize, part: &'a str },
    Finish(&'static str),
}

#[derive(Serialize)]
struct Chunk<'a, C> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
    system_fingerprint: &'static str,
    choices: C,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

#[derive(Serialize)]
struct ChatChunkChoice<'a> {
    index: usize,
    delta: Delta<'a>,
    logprobs: Option<ChatLogprobs<'a>>,
    finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[CallDelta<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Option<&'a str>>,
}

#[derive(Serialize)]
struct CallDelta<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    function: FunctionDelta<'a>,
}

#[derive(Serialize)]
struct FunctionDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

#[derive(Serialize)]
struct TextChunkChoice<'a> {
    text: &'a str,
    index: usize,
    logprobs: Option<TextLogprobs<'a>>,
    finish_reason: Option<&'static str>,
}

impl Events {
    /// The events of `answer`. `top` asks for log probabilities, `include_usage` for OpenAI's usage event.
    pub(super) fn new(
        dialect: Dialect,
        head: Head,
        answer: Answer,
        top: Option<u32>,
        include_usage: bool,
        fault: &Fault,
    ) -> Self {
        let first = if dialect == Dialect::Chat { Stage::Role } else { Stage::Content(0) };
        let cursor = |choice| Cursor { choice, stage: first, chars: 0 };
        Self {
            dialect,
            head,
            choices: answer.choices.into_iter().map(cursor).collect(),
            turn: 0,
            usage: answer.usage,
            top,
            include_usage: include_usage && !fault.no_usage,
            usage_every: fault.usage_every_chunk,
            azure: fault.azure,
            sent_tokens: 0,
        }
    }

    /// Writes the JSON of the next event; `false` and nothing written when there is none.
    pub(super) fn write_next(&mut self, out: &mut Vec<u8>) -> bool {
        if std::mem::take(&mut self.azure) {
            out.extend_from_slice(AZURE_FIRST);
            return true;
        }
        for _ in 0..self.choices.len() {
            let turn = self.turn % self.choices.len().max(1);
            self.turn = turn + 1;
            if self.write_step(turn, out) {
                return true;
            }
        }
        if !std::mem::take(&mut self.include_usage) {
            return false;
        }
        write_chunk::<[(); 0]>(out, &self.head, self.dialect, [], Some(Some(self.usage)));
        true
    }

    fn write_step(&mut self, index: usize, out: &mut Vec<u8>) -> bool {
        let Some(cursor) = self.choices.get_mut(index) else { return false };
        let offset = cursor.chars;
        let Some(said) = cursor.next() else { return false };
        if matches!(said, Said::Reasoning(_) | Said::Content(_) | Said::Refusal(_) | Said::CallArguments { .. }) {
            self.sent_tokens = self.sent_tokens.saturating_add(1);
        }
        let usage = if self.usage_every {
            Some(Some(Usage { completion: self.sent_tokens.min(self.usage.completion), ..self.usage }))
        } else {
            self.include_usage.then_some(None)
        };
        // `self` is borrowed by `said`, so the parts of the chunk are named one by one.
        let (head, top) = (&self.head, self.top);
        match self.dialect {
            Dialect::Chat => write_chunk(out, head, self.dialect, [chat_choice(index, &said, top)], usage),
            Dialect::Text => write_chunk(out, head, self.dialect, [text_choice(index, &said, top, offset)], usage),
        }
        true
    }
}

fn write_chunk<C: Serialize>(
    out: &mut Vec<u8>,
    head: &Head,
    dialect: Dialect,
    choices: C,
    usage: Option<Option<Usage>>,
) {
    let (object, service_tier) = match dialect {
        Dialect::Chat => ("chat.completion.chunk", Some("default")),
        Dialect::Text => ("text_completion", None),
    };
    let Head { id, created, model } = head;
    let chunk =
        Chunk { id, object, created: *created, model, service_tier, system_fingerprint: FINGERPRINT, choices, usage };
    // Writing into memory does not fail; were it to, the event would be cut short and its reader would say so.
    let _ = serde_json::to_writer(out, &chunk);
}

fn chat_choice<'a>(index: usize, said: &Said<'a>, top: Option<u32>) -> ChatChunkChoice<'a> {
    let mut choice = ChatChunkChoice { index, delta: Delta::default(), logprobs: None, finish_reason: None };
    let delta = &mut choice.delta;
    match *said {
        Said::Role { with_content } => {
            delta.role = Some("assistant");
            delta.content = Some(with_content.then_some(""));
            delta.refusal = Some(None);
        }
        Said::Reasoning(part) => delta.reasoning_content = Some(part),
        Said::Content(part) => {
            delta.content = Some(Some(part));
            choice.logprobs = top.map(|top| ChatLogprobs::of(std::iter::once(part), top));
        }
        Said::Refusal(part) => delta.refusal = Some(Some(part)),
        Said::CallStart { index, id, name } => {
            let function = FunctionDelta { name: Some(name), arguments: "" };
            delta.tool_calls = Some([CallDelta { index, id: Some(id), r#type: Some("function"), function }]);
        }
        Said::CallArguments { index, part } => {
            let function = FunctionDelta { name: None, arguments: part };
            delta.tool_calls = Some([CallDelta { index, id: None, r#type: None, function }]);
        }
        Said::Finish(reason) => choice.finish_reason = Some(reason),
    }
    choice
}

fn text_choice<'a>(index: usize, said: &Said<'a>, top: Option<u32>, offset: usize) -> TextChunkChoice<'a> {
    let (text, finish_reason) = match *said {
        Said::Content(part) => (part, None),
        Said::Finish(reason) => ("", Some(reason)),
        _ => ("", None),
    };
    let logprobs = top.filter(|_| !text.is_empty()).map(|top| TextLogprobs::of(vec![text], offset, top));
    TextChunkChoice { text, index, logprobs, finish_reason }
}

impl Cursor {
    fn next(&mut self) -> Option<Said<'_>> {
        let choice = &self.choice;
        loop {
            match self.stage {
                Stage::Role => {
                    self.stage = Stage::Reasoning(0);
                    return Some(Said::Role { with_content: choice.content.is_some() });
                }
                Stage::Reasoning(at) => match part(&choice.reasoning, at) {
                    Some(part) => {
                        self.stage = Stage::Reasoning(at + part.len());
                        return Some(Said::Reasoning(part));
                    }
                    None => self.stage = Stage::Content(0),
                },
                Stage::Content(at) => match part(&choice.content, at) {
                    Some(part) => {
                        self.stage = Stage::Content(at + part.len());
                        self.chars += part.chars().count();
                        return Some(Said::Content(part));
                    }
                    None => self.stage = Stage::Refusal(0),
                },
                Stage::Refusal(at) => match part(&choice.refusal, at) {
                    Some(part) => {
                        self.stage = Stage::Refusal(at + part.len());
                        return Some(Said::Refusal(part));
                    }
                    None => self.stage = Stage::CallStart(0),
                },
                Stage::CallStart(index) => match choice.calls.get(index) {
                    Some(call) => {
                        self.stage = Stage::CallArguments(index, 0);
                        return Some(Said::CallStart { index, id: &call.id, name: &call.name });
                    }
                    None => self.stage = Stage::Finish,
                },
                Stage::CallArguments(index, at) => {
                    match choice.calls.get(index).and_then(|call| tokens::token_at(&call.arguments, at)) {
                        Some(part) => {
                            self.stage = Stage::CallArguments(index, at + part.len());
                            return Some(Said::CallArguments { index, part });
                        }
                        None => self.stage = Stage::CallStart(index + 1),
                    }
                }
                Stage::Finish => {
                    self.stage = Stage::Done;
                    return choice.finish.map(Said::Finish);
                }
                Stage::Done => return None,
            }
        }
    }
}

fn part(text: &Option<String>, at: usize) -> Option<&str> {
    tokens::token_at(text.as_deref()?, at)
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
