//! What an answer was, and whether it may be stored.
//!
//! Called once at the end of an answer, for a plain body and for one assembled from a stream alike. Invariants: only an
//! answer that is whole, finished, textual and free of errors is storable; every "no" has a name; doubt is a no. It must
//! never look at the request: status, `no-store`, scope and size policy are decided elsewhere.

use bytes::Bytes;
use serde_json::Value;

use super::embeddings;
use super::kind::Dialect;
use super::usage::Usage;

#[cfg(test)]
mod tests;

/// Why a storable answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model was done.
    Stop,
    /// The model calls tools (or a legacy function): exact tier only.
    ToolCalls,
    /// The dialect has no such thing (embeddings).
    None,
}

impl Finish {
    /// Name as stored with an entry; empty for [`Finish::None`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::ToolCalls => "tool_calls",
            Self::None => "",
        }
    }
}

/// Why an answer may not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotStorable {
    /// Answers of this dialect are never stored.
    Dialect,
    /// The stream ended without `[DONE]`.
    NoTerminator,
    /// The stream ended inside an event.
    IncompleteEvent,
    /// An event or the body is not JSON of the expected form.
    InvalidJson,
    /// Pieces of the stream do not fit together in one clear way.
    Ambiguous,
    /// An error instead of, or in, the answer.
    ErrorMember,
    /// More bytes than asked to keep.
    TooLarge,
    /// A choice (or embedding) is missing.
    ChoiceMissing,
    /// A choice has no `finish_reason`.
    Unfinished,
    /// Cut off at the token limit.
    Length,
    /// Cut off by the provider's content filter.
    ContentFilter,
    /// A `finish_reason` that is none of the known ones.
    FinishReason,
    /// The model refused.
    Refusal,
    /// Neither text nor tool call.
    Empty,
    /// A tool call without name, or with arguments that are not JSON; or none where one was announced.
    ToolCall,
    /// Audio, images or other content that is not text.
    NonText,
    /// Embeddings of different or no length.
    Embedding,
}

impl NotStorable {
    /// Name for logs, metric labels and `x-remora-reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dialect => "dialect",
            Self::NoTerminator => "no_terminator",
            Self::IncompleteEvent => "incomplete_event",
            Self::InvalidJson => "invalid_json",
            Self::Ambiguous => "ambiguous_stream",
            Self::ErrorMember => "error_in_answer",
            Self::TooLarge => "too_large",
            Self::ChoiceMissing => "choice_missing",
            Self::Unfinished => "unfinished",
            Self::Length => "finish_length",
            Self::ContentFilter => "content_filter",
            Self::FinishReason => "finish_reason",
            Self::Refusal => "refusal",
            Self::Empty => "empty",
            Self::ToolCall => "tool_call",
            Self::NonText => "non_text",
            Self::Embedding => "embedding",
        }
    }
}

/// One answer at its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// The whole document, as a client that did not ask for a stream gets it; only if storable.
    pub completion: Option<Bytes>,
    /// What upstream said was used.
    pub usage: Option<Usage>,
    /// Model named by the answer.
    pub model: Option<String>,
    /// Bytes of text written by the model (content, reasoning, tool arguments), for an estimate where `usage` is missing.
    /// Counted on streams only, and no further than the answer was kept ([`NotStorable::TooLarge`]); 0 for a plain body.
    pub output_bytes: u64,
    /// Number of choices (embeddings: items) of a storable answer.
    pub choices: usize,
    /// May it be stored?
    pub verdict: Result<Finish, NotStorable>,
}

impl Finished {
    /// Takes back the verdict if there are fewer choices than the request's `n`: an answer cannot tell on its own that
    /// its last choices are missing.
    pub fn expecting(mut self, choices: usize) -> Self {
        if self.verdict.is_ok() && self.choices < choices {
            self.verdict = Err(NotStorable::ChoiceMissing);
            self.completion = None;
        }
        self
    }
}

/// Looks at a plain JSON body with status 200.
pub fn inspect_whole(dialect: Dialect, body: &Bytes) -> Finished {
    if dialect == Dialect::Embeddings {
        return embeddings::inspect(body);
    }
    judge(dialect, body)
}

/// Judges a document of the chat or completions dialect; of others only usage and model are read.
pub(super) fn judge(dialect: Dialect, body: &Bytes) -> Finished {
    let mut finished = Finished {
        completion: None,
        usage: None,
        model: None,
        output_bytes: 0,
        choices: 0,
        verdict: Err(NotStorable::InvalidJson),
    };
    let Ok(document) = serde_json::from_slice::<Value>(body) else { return finished };
    let usage = document.get("usage").and_then(Usage::from_openai);
    finished.usage = usage.map(|usage| usage.served_as(document.get("service_tier")));
    finished.model = document.get("model").and_then(Value::as_str).map(str::to_owned);
    finished.verdict = judge_document(dialect, &document);
    if finished.verdict.is_ok() {
        finished.choices = document.get("choices").and_then(Value::as_array).map_or(0, Vec::len);
        finished.completion = Some(body.clone());
    }
    finished
}

fn judge_document(dialect: Dialect, document: &Value) -> Result<Finish, NotStorable> {
    if !matches!(dialect, Dialect::Chat | Dialect::Completions) {
        return Err(NotStorable::Dialect);
    }
    if is_set(document, "error") {
        return Err(NotStorable::ErrorMember);
    }
    let choices = document.get("choices").and_then(Value::as_array).filter(|choices| !choices.is_empty());
    let choices = choices.ok_or(NotStorable::Empty)?;
    let mut seen = vec![false; choices.len()];
    let mut finish = Finish::Stop;
    for (position, choice) in choices.iter().enumerate() {
        let index = choice.get("index").map_or(Some(position), |index| usize::try_from(index.as_u64()?).ok());
        let place = index.and_then(|index| seen.get_mut(index)).ok_or(NotStorable::ChoiceMissing)?;
        if std::mem::replace(place, true) {
            return Err(NotStorable::ChoiceMissing);
        }
        if judge_choice(dialect, choice)? == Finish::ToolCalls {
            finish = Finish::ToolCalls;
        }
    }
    Ok(finish)
}

fn judge_choice(dialect: Dialect, choice: &Value) -> Result<Finish, NotStorable> {
    if is_set(choice, "error") {
        return Err(NotStorable::ErrorMember);
    }
    let announced = judge_finish_reason(choice.get("finish_reason"))?;
    let (has_text, has_calls) = if dialect == Dialect::Completions {
        (has_text(choice.get("text")), false)
    } else {
        judge_message(choice.get("message").ok_or(NotStorable::Empty)?)?
    };
    match (announced, has_text, has_calls) {
        (_, _, true) => Ok(Finish::ToolCalls),
        (Finish::ToolCalls, _, false) => Err(NotStorable::ToolCall),
        (_, true, false) => Ok(Finish::Stop),
        (_, false, false) => Err(NotStorable::Empty),
    }
}

fn judge_finish_reason(reason: Option<&Value>) -> Result<Finish, NotStorable> {
    match reason {
        None | Some(Value::Null) => Err(NotStorable::Unfinished),
        Some(reason) => match reason.as_str() {
            Some("stop") => Ok(Finish::Stop),
            Some("tool_calls" | "function_call") => Ok(Finish::ToolCalls),
            Some("length") => Err(NotStorable::Length),
            Some("content_filter") => Err(NotStorable::ContentFilter),
            _ => Err(NotStorable::FinishReason),
        },
    }
}

/// Whether a message has text, and whether it has tool calls.
fn judge_message(message: &Value) -> Result<(bool, bool), NotStorable> {
    if has_text(message.get("refusal")) {
        return Err(NotStorable::Refusal);
    }
    if ["audio", "images", "image", "video"].into_iter().any(|name| is_set(message, name)) {
        return Err(NotStorable::NonText);
    }
    let has_text = match message.get("content") {
        None | Some(Value::Null) => false,
        Some(Value::Array(parts)) => judge_parts(parts)?,
        content @ Some(Value::String(_)) => has_text(content),
        Some(_) => return Err(NotStorable::NonText),
    };
    let mut has_calls = false;
    if let Some(calls) = message.get("tool_calls").and_then(Value::as_array) {
        has_calls = !calls.is_empty();
        calls.iter().try_for_each(judge_tool_call)?;
    }
    if let Some(call) = message.get("function_call").filter(|call| !call.is_null()) {
        has_calls = true;
        judge_function(call)?;
    }
    Ok((has_text, has_calls))
}

fn judge_parts(parts: &[Value]) -> Result<bool, NotStorable> {
    let mut any = false;
    for part in parts {
        match part.get("type").and_then(Value::as_str) {
            Some("text") => any |= has_text(part.get("text")),
            Some("thinking") => {}
            Some("refusal") => return Err(NotStorable::Refusal),
            _ => return Err(NotStorable::NonText),
        }
    }
    Ok(any)
}

fn judge_tool_call(call: &Value) -> Result<(), NotStorable> {
    match (call.get("function"), call.get("custom")) {
        (Some(function), _) => judge_function(function),
        // A custom tool takes free text.
        (None, Some(custom)) if has_text(custom.get("name")) => Ok(()),
        _ => Err(NotStorable::ToolCall),
    }
}

fn judge_function(function: &Value) -> Result<(), NotStorable> {
    let arguments = function.get("arguments").and_then(Value::as_str).ok_or(NotStorable::ToolCall)?;
    if !has_text(function.get("name")) || serde_json::from_str::<serde::de::IgnoredAny>(arguments).is_err() {
        return Err(NotStorable::ToolCall);
    }
    Ok(())
}

/// Whether a member is there and neither null nor an empty array.
fn is_set(object: &Value, name: &str) -> bool {
    object.get(name).is_some_and(|value| !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty()))
}

fn has_text(value: Option<&Value>) -> bool {
    value.and_then(Value::as_str).is_some_and(|text| !text.trim().is_empty())
}
