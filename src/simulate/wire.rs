//! OpenAI's JSON for whole answers: chat completions, completions, and the pieces that streamed answers share with them.

use serde::Serialize;

use super::answer::{Answer, Choice, ToolCall};
use super::tokens::{self, Usage};

/// What every object of one answer repeats.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) id: String,
    /// Unix seconds.
    pub(super) created: u64,
    pub(super) model: String,
}

/// Constant: the simulator has one backend.
pub(super) const FINGERPRINT: &str = "fp_simulated";

#[derive(Serialize)]
struct Completion<'a, C> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<C>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
    system_fingerprint: &'static str,
}

#[derive(Serialize)]
struct ChatChoice<'a> {
    index: usize,
    message: Message<'a>,
    logprobs: Option<ChatLogprobs<'a>>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Option<&'a str>,
    refusal: Option<&'a str>,
    annotations: [(); 0],
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
}

#[derive(Serialize)]
struct Call<'a> {
    id: &'a str,
    r#type: &'static str,
    function: CallFunction<'a>,
}

#[derive(Serialize)]
struct CallFunction<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Serialize)]
struct TextChoice<'a> {
    text: &'a str,
    index: usize,
    logprobs: Option<TextLogprobs<'a>>,
    finish_reason: Option<&'static str>,
}

/// The body of a chat completion; `top` asks for log probabilities with so many alternatives.
pub(super) fn chat_body(head: &Head, answer: &Answer, top: Option<u32>, with_usage: bool) -> Vec<u8> {
    let choices = answer.choices.iter().enumerate().map(|(index, choice)| chat_choice(index, choice, top)).collect();
    write(head, "chat.completion", choices, with_usage.then_some(answer.usage), Some("default"))
}

/// The body of a legacy completion.
pub(super) fn text_body<'a>(head: &Head, answer: &'a Answer, top: Option<u32>, with_usage: bool) -> Vec<u8> {
    let choice = |(index, choice): (usize, &'a Choice)| {
        let text = choice.content.as_deref().unwrap_or_default();
        TextChoice {
            text,
            index,
            logprobs: top.map(|top| TextLogprobs::of(tokens::tokens(text).collect(), 0, top)),
            finish_reason: choice.finish,
        }
    };
    let choices: Vec<_> = answer.choices.iter().enumerate().map(choice).collect();
    write(head, "text_completion", choices, with_usage.then_some(answer.usage), None)
}

fn write<C: Serialize>(
    head: &Head,
    object: &'static str,
    choices: Vec<C>,
    usage: Option<Usage>,
    service_tier: Option<&'static str>,
) -> Vec<u8> {
    let Head { id, created, model } = head;
    to_json(&Completion {
        id,
        object,
        created: *created,
        model,
        choices,
        usage,
        service_tier,
        system_fingerprint: FINGERPRINT,
    })
}

/// JSON of a value that cannot fail to serialise: all map keys are strings.
pub(super) fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

fn chat_choice(index: usize, choice: &Choice, top: Option<u32>) -> ChatChoice<'_> {
    let message = Message {
        role: "assistant",
        content: choice.content.as_deref(),
        refusal: choice.refusal.as_deref(),
        annotations: [],
        reasoning_content: choice.reasoning.as_deref(),
        tool_calls: choice.calls.iter().map(call).collect(),
    };
    let logprobs = top.zip(choice.content.as_deref()).map(|(top, text)| ChatLogprobs::of(tokens::tokens(text), top));
    ChatChoice { index, message, logprobs, finish_reason: choice.finish }
}

fn call(call: &ToolCall) -> Call<'_> {
    let function = CallFunction { name: &call.name, arguments: &call.arguments };
    Call { id: &call.id, r#type: "function", function }
}

/// `choices[].logprobs` of a chat answer.
#[derive(Serialize)]
pub(super) struct ChatLogprobs<'a> {
    content: Vec<TokenLogprob<'a>>,
    refusal: Option<()>,
}

#[derive(Serialize)]
struct TokenLogprob<'a> {
    token: &'a str,
    logprob: f64,
    bytes: &'a [u8],
    top_logprobs: Vec<TopLogprob<'a>>,
}

#[derive(Serialize)]
struct TopLogprob<'a> {
    token: &'a str,
    logprob: f64,
    bytes: &'a [u8],
}

impl<'a> ChatLogprobs<'a> {
    /// One record a token, with `top` alternatives: the token itself, then made-up ones.
    pub(super) fn of(parts: impl Iterator<Item = &'a str>, top: u32) -> Self {
        let content = parts.map(|token| {
            let first = (token, logprob(token));
            let alternatives = std::iter::once(first).chain(ALTERNATIVES).take(top as usize);
            let top_logprobs =
                alternatives.map(|(token, logprob)| TopLogprob { token, logprob, bytes: token.as_bytes() });
            let top_logprobs = top_logprobs.collect();
            TokenLogprob { token, logprob: logprob(token), bytes: token.as_bytes(), top_logprobs }
        });
        Self { content: content.collect(), refusal: None }
    }
}

const ALTERNATIVES: [(&str, f64); 4] = [(" or", -3.25), (" not", -4.5), (" maybe", -5.75), (".", -7.0)];

/// A stand-in that depends on the token only: from 0 to -0.96.
fn logprob(token: &str) -> f64 {
    let sum: u32 = token.bytes().map(u32::from).sum();
    -f64::from(sum % 97) / 100.0
}

/// `choices[].logprobs` of a legacy completion.
#[derive(Serialize)]
pub(super) struct TextLogprobs<'a> {
    tokens: Vec<&'a str>,
    token_logprobs: Vec<f64>,
    top_logprobs: Option<Vec<serde_json::Map<String, serde_json::Value>>>,
    text_offset: Vec<usize>,
}

impl<'a> TextLogprobs<'a> {
    /// One record a token; the first starts at character `offset` of the whole.
    pub(super) fn of(parts: Vec<&'a str>, offset: usize, top: u32) -> Self {
        let alternatives = |token: &&str| {
            let pairs = std::iter::once((*token, logprob(token))).chain(ALTERNATIVES).take(top as usize);
            pairs.map(|(token, logprob)| (token.to_owned(), logprob.into())).collect()
        };
        let offsets = parts.iter().scan(offset, |at, part| {
            let start = *at;
            *at += part.chars().count();
            Some(start)
        });
        Self {
            token_logprobs: parts.iter().map(|part| logprob(part)).collect(),
            top_logprobs: (top > 0).then(|| parts.iter().map(alternatives).collect()),
            text_offset: offsets.collect(),
            tokens: parts,
        }
    }
}
