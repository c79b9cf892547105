//! What the simulated model says. Every answer names its prompt and a digest of the whole conversation, so that an answer that
//! reached the wrong question shows in its text.
//!
//! The book (see `book`) may say what the answer is. Markers in the last user message change it: `[refuse]` gives a refusal. Model names do too: `sim-reason…` also thinks
//! aloud, `sim-cached…` reports half of the prompt as cached.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Value, json};

use super::fault::Fault;
use super::request::{ChatRequest, CompletionRequest, Function};
use super::schema;
use super::tokens::{self, Usage};

/// How much of a question an answer repeats, in bytes.
const QUOTE_BYTES: usize = 400;
/// The padding: plain words, and some that take more than one byte a character.
const FILLER: &str = "This text was made up by a simulator, not by a model; it says nothing – not even in a café in 東京 – \
and goes on only because a longer answer was asked for. ";

/// A whole answer, not yet in any wire form.
pub(super) struct Answer {
    pub(super) choices: Vec<Choice>,
    pub(super) usage: Usage,
}

/// One choice of an answer.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Choice {
    pub(super) reasoning: Option<String>,
    pub(super) content: Option<String>,
    pub(super) refusal: Option<String>,
    pub(super) calls: Vec<ToolCall>,
    /// `finish_reason`; `None` only by an ordered fault.
    pub(super) finish: Option<&'static str>,
}

/// A call of a tool; `arguments` is JSON text, possibly cut short by a token limit.
#[derive(Debug, PartialEq)]
pub(super) struct ToolCall {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: String,
}

/// The answer to a chat request: the one that is `listed`, or one of at least `wished` tokens.
pub(super) fn chat(request: &ChatRequest<'_>, listed: Option<String>, wished: u32, fault: &Fault) -> Answer {
    let question = request.question();
    let digest = short(request.conversation());
    let count = request.n.unwrap_or(1);
    let speaker =
        Speaker { request, question: &question, digest: &digest, listed, wished: wished_bytes(wished, fault) };
    let mut choices: Vec<Choice> = (0..count).map(|index| speaker.choice(index)).collect();
    if let Some(finish) = fault.finish {
        choices.iter_mut().for_each(|choice| choice.finish = Some(finish));
    }
    let prompt = request.messages.iter().map(|message| tokens::count(&message.text())).sum();
    let cached = if request.model.starts_with("sim-cached") { prompt / 2 } else { 0 };
    finished(choices, Usage { prompt, cached, ..Usage::default() }, fault)
}

/// The answer to a legacy completion request: `n` choices for each prompt, in order.
///
/// Unlike OpenAI there is no default limit of 16 tokens.
pub(super) fn completion(
    request: &CompletionRequest<'_>,
    prompts: &[Cow<'_, str>],
    wished: u32,
    fault: &Fault,
) -> Answer {
    let stops = request.stops();
    let mut choices = Vec::new();
    for prompt in prompts {
        let digest = short(blake3::hash(prompt.as_bytes()));
        for index in 0..request.n.unwrap_or(1) {
            let mut text = named(prompt, &digest, index, wished_bytes(wished, fault));
            let finish = limit(&mut text, &stops, request.max_tokens.unwrap_or(u32::MAX));
            if request.echo == Some(true) {
                text.insert_str(0, prompt);
            }
            choices.push(Choice {
                content: Some(text),
                finish: Some(fault.finish.unwrap_or(finish)),
                ..Choice::default()
            });
        }
    }
    let prompt = prompts.iter().map(|prompt| tokens::count(prompt)).sum();
    finished(choices, Usage { prompt, ..Usage::default() }, fault)
}

fn finished(mut choices: Vec<Choice>, mut usage: Usage, fault: &Fault) -> Answer {
    if fault.no_choices {
        choices.clear();
    }
    if fault.no_finish {
        choices.iter_mut().for_each(|choice| choice.finish = None);
    }
    usage.reasoning = choices.iter().map(|choice| choice.reasoning.as_deref().map_or(0, tokens::count)).sum();
    usage.completion = usage.reasoning + choices.iter().map(Choice::visible_tokens).sum::<u32>();
    Answer { choices, usage }
}

impl Choice {
    /// Tokens of everything but the reasoning.
    pub(super) fn visible_tokens(&self) -> u32 {
        let text = self.content.as_deref().or(self.refusal.as_deref()).map_or(0, tokens::count);
        let calls: u32 = self.calls.iter().map(|call| tokens::count(&call.name) + tokens::count(&call.arguments)).sum();
        text + calls
    }
}

struct Speaker<'a> {
    request: &'a ChatRequest<'a>,
    question: &'a str,
    digest: &'a str,
    listed: Option<String>,
    wished: usize,
}

impl Speaker<'_> {
    fn choice(&self, index: u32) -> Choice {
        if self.question.contains("[refuse]") {
            let refusal =
                format!("I am sorry, but I cannot help with that. (simulated refusal, conversation {})", self.digest);
            return Choice { refusal: Some(refusal), finish: Some("stop"), ..Choice::default() };
        }
        if let Some(calls) = ToolPlan::of(self.request, self.question).map(|plan| self.calls(&plan, index)) {
            return calls;
        }
        let reasoning = self.request.model.starts_with("sim-reason").then(|| {
            format!(
                "The user asks about conversation {}. I am simulated, so I repeat the question and stop.",
                self.digest
            )
        });
        let spent = reasoning.as_deref().map_or(0, tokens::count);
        let mut text = self.text(index);
        let finish = limit(&mut text, &self.request.stops(), self.request.limit().saturating_sub(spent));
        Choice { reasoning, content: Some(text), finish: Some(finish), ..Choice::default() }
    }

    fn text(&self, index: u32) -> String {
        let answer = || match (&self.listed, self.request.tool_said()) {
            (Some(listed), _) => listed.clone(),
            (None, Some(said)) => format!("The tool said: {said}"),
            (None, None) => named(self.question, self.digest, index, self.wished),
        };
        let format: Option<Value> = self.request.response_format.and_then(|raw| serde_json::from_str(raw.get()).ok());
        let kind = format.as_ref().and_then(|format| format.get("type")).and_then(Value::as_str);
        match (kind, &format) {
            (Some("json_object"), _) => {
                json!({"answer": answer(), "asked": self.question, "choice": index}).to_string()
            }
            (Some("json_schema"), Some(format)) => {
                let schema = format.pointer("/json_schema/schema").unwrap_or(&Value::Null);
                schema::instance(schema, &named(self.question, self.digest, index, 0)).to_string()
            }
            _ => answer(),
        }
    }

    fn calls(&self, plan: &ToolPlan<'_>, index: u32) -> Choice {
        let mut calls = Vec::new();
        let mut budget = self.request.limit();
        let mut finish = plan.finish;
        for (position, function) in plan.functions.iter().enumerate() {
            let schema =
                function.parameters.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or(Value::Null);
            let mut arguments = match (given(self.question, &function.name), schema) {
                (Some(given), _) => given,
                (None, Value::Null) => "{}".to_owned(),
                (None, schema) => schema::instance(&schema, self.question).to_string(),
            };
            if tokens::truncate(&mut arguments, budget) {
                finish = "length";
            }
            budget = budget.saturating_sub(tokens::count(&arguments));
            let id = format!("call_{}{index:04x}{position:04x}", self.digest);
            calls.push(ToolCall { id, name: function.name.clone().into_owned(), arguments });
        }
        Choice { calls, finish: Some(finish), ..Choice::default() }
    }
}

/// Which tools are called, and the `finish_reason` that goes with it.
struct ToolPlan<'a> {
    functions: Vec<&'a Function<'a>>,
    finish: &'static str,
}

#[derive(Deserialize)]
struct NamedChoice<'a> {
    #[serde(borrow)]
    function: NamedFunction<'a>,
}

#[derive(Deserialize)]
struct NamedFunction<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

impl<'a> ToolPlan<'a> {
    /// Tools are called when `tool_choice` forces it, or when the last message is the user's and names a tool. The word
    /// `parallel` in it calls every tool on offer (a single one twice), unless `parallel_tool_calls` is false.
    fn of(request: &'a ChatRequest<'a>, question: &str) -> Option<Self> {
        let tools = request.tools.as_deref().unwrap_or_default();
        let offered: Vec<&Function<'a>> = tools.iter().filter_map(|tool| tool.function.as_ref()).collect();
        let first = *offered.first()?;
        let choice = request.tool_choice.map_or("\"auto\"", |raw| raw.get());
        if let Ok(NamedChoice { function }) = serde_json::from_str(choice) {
            let chosen = offered.into_iter().find(|offer| offer.name == function.name)?;
            // OpenAI ends a call that was forced by name with `stop`.
            return Some(Self { functions: vec![chosen], finish: "stop" });
        }
        let mut functions = Self::asked_for(&offered, question);
        match choice {
            "\"none\"" => return None,
            "\"required\"" if functions.is_empty() => functions.push(first),
            "\"required\"" => {}
            _ if functions.is_empty() || request.messages.last().is_some_and(|last| last.role != "user") => {
                return None;
            }
            _ => {}
        }
        if request.parallel_tool_calls == Some(false) {
            functions.truncate(1);
        }
        Some(Self { functions, finish: "tool_calls" })
    }

    fn asked_for(offered: &[&'a Function<'a>], question: &str) -> Vec<&'a Function<'a>> {
        let question = question.to_lowercase();
        if question.contains("parallel") {
            return match offered {
                [only] => vec![only, only],
                all => all.to_vec(),
            };
        }
        let named = |function: &&&Function<'_>| {
            let name = function.name.to_lowercase();
            question.contains(&name) || question.contains(&name.replace('_', " "))
        };
        offered.iter().filter(named).copied().collect()
    }
}

/// The JSON object that follows the tool's name in the question, as in `get_weather {"city": "Oslo"}`: a person who tries out a
/// loop of tool calls says in it what the model is to ask for.
fn given(question: &str, name: &str) -> Option<String> {
    let (_, behind) = question.split_once(name)?;
    let behind = behind.trim_start();
    let mut values = serde_json::Deserializer::from_str(behind).into_iter::<Value>();
    values.next()?.ok().filter(Value::is_object).map(|value| value.to_string())
}

/// `You asked: "…". …`, at least `bytes` long.
fn named(question: &str, digest: &str, index: u32, bytes: usize) -> String {
    let quote = question.get(..question.floor_char_boundary(QUOTE_BYTES)).unwrap_or_default();
    let dots = if quote.len() < question.len() { "…" } else { "" };
    let choice = if index == 0 { String::new() } else { format!(" Choice {index}.") };
    let mut text = format!("You asked: \"{quote}{dots}\". Simulated answer, conversation {digest}.{choice}");
    if text.len() < bytes {
        pad(&mut text, bytes);
    }
    text
}

/// Pads to exactly `bytes`; a character that does not fit any more becomes full stops.
fn pad(text: &mut String, bytes: usize) {
    text.reserve(bytes + FILLER.len() - text.len());
    text.push(' ');
    while text.len() < bytes {
        text.push_str(FILLER);
    }
    text.truncate(text.floor_char_boundary(bytes));
    while text.len() < bytes {
        text.push('.');
    }
}

/// Cuts at the first stop sequence, then at the token limit; says how the text ended.
fn limit(text: &mut String, stops: &[Cow<'_, str>], limit: u32) -> &'static str {
    let stop = stops.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| text.find(stop.as_ref())).min();
    if let Some(at) = stop {
        text.truncate(at);
    }
    if tokens::truncate(text, limit) { "length" } else { "stop" }
}

fn wished_bytes(tokens: u32, fault: &Fault) -> usize {
    fault.size.map_or_else(|| tokens::to_bytes(fault.tokens.unwrap_or(tokens)), |bytes| bytes as usize)
}

fn short(digest: blake3::Hash) -> String {
    let hex = digest.to_hex();
    hex.get(..16).unwrap_or_default().to_owned()
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
