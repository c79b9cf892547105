//! Reading a chat or text completion body into a [`Call`].

use bytes::Bytes;

use super::billed::Billed;
use super::edit::{Edits, Undo, member_range};
use super::scope::is_excluded;
use super::{BadCall, Call, Controls, ExactOnly, Uncacheable, model_of};
use crate::config::Limits;
use crate::dialect::Dialect;
use crate::json::{Member, Node, Value, canonical_members, tagged};
use crate::price::Service;

impl Call {
    /// Reads the body of `POST /v1/chat/completions` or `POST /v1/completions`.
    ///
    /// # Errors
    /// Names the first member that is wrong. Members we do not know are never wrong.
    pub fn read(dialect: Dialect, body: &Bytes, limits: &Limits, max_temperature: f64) -> Result<Self, BadCall> {
        let root = Node::parse(body, limits)?;
        if !matches!(root.value, Value::Object(_)) {
            return Err(BadCall::param("body", "must be a JSON object"));
        }
        let model = model_of(&root)?;
        let stream = flag(&root, "stream")?.unwrap_or(false);
        let options = root.get("stream_options").filter(|o| !o.is_null());
        let asked_usage = match options {
            Some(options) => flag(options, "include_usage")?,
            None => None,
        };
        let turn = match dialect {
            Dialect::Completions => completion_turn(&root),
            _ => chat_turn(&root, limits)?,
        };
        check_counts(&root, limits)?;
        let billed = Billed::of(&root)?;
        // Which of the two an upstream heeds if both are there differs.
        let limits = [limit(&root, "max_completion_tokens")?, limit(&root, "max_tokens")?];
        let token_limit = limits.into_iter().flatten().min();
        let temperature = number(&root, "temperature")?.unwrap_or(1.0);

        let exact_only = exact_only(&root, temperature > max_temperature)?.or(turn.exact_only);
        let (body, usage_added) = upstream_body(&root, body, stream, options, asked_usage);
        Ok(Self {
            dialect,
            model,
            stream,
            include_usage: asked_usage.unwrap_or(false),
            user: root.get("user").and_then(Node::text).map(str::to_owned),
            token_limit,
            billed,
            service: Service::from_name(root.get("service_tier").and_then(Node::text)),
            choices: whole(&root, "n")?.and_then(|n| usize::try_from(n).ok()).unwrap_or(1),
            key_members: kept(&root, turn.member).map(|m| m.name.clone().into_owned()).collect(),
            earlier_turns: turn.earlier,
            text: if exact_only.is_none() { turn.text } else { None },
            exact_only,
            uncacheable: uncacheable(&root).or(turn.uncacheable),
            body,
            usage_added,
            controls: Controls::from_body(root.get("cache")),
            rest: turn.rest,
            last: turn.last,
        })
    }
}

/// The request taken apart at its last user turn.
struct Turn {
    /// The member that the turn stands in.
    member: &'static str,
    /// Number of turns before it.
    earlier: usize,
    rest: Vec<u8>,
    last: Vec<u8>,
    text: Option<String>,
    exact_only: Option<ExactOnly>,
    uncacheable: Option<Uncacheable>,
}

impl Turn {
    fn new(member: &'static str, earlier: usize, rest: Vec<u8>) -> Self {
        Self { member, earlier, rest, last: Vec::new(), text: None, exact_only: None, uncacheable: None }
    }
}

fn chat_turn(root: &Node<'_>, limits: &Limits) -> Result<Turn, BadCall> {
    let messages = root.get("messages").ok_or_else(|| BadCall::param("messages", "is missing"))?;
    let messages = messages.elements().ok_or_else(|| BadCall::param("messages", "must be an array"))?;
    too_many("messages", messages.len(), limits.messages)?;
    for (index, message) in messages.iter().enumerate() {
        if message.get("role").and_then(Node::text).is_none() {
            return Err(BadCall::param(format!("messages[{index}]"), "must be an object with a string `role`"));
        }
    }
    let mut rest = Vec::with_capacity(512);
    canonical_members(kept(root, "messages"), &mut rest);
    // An empty list is for upstream to judge.
    let (last, earlier) = messages.split_last().map_or((None, messages), |(last, earlier)| (Some(last), earlier));
    rest.extend_from_slice(&(earlier.len() as u64).to_le_bytes());
    for message in earlier {
        message.canonical(&mut rest);
    }
    let mut turn = Turn::new("messages", earlier.len(), rest);
    match last {
        Some(last) => last_message(last, &mut turn),
        None => turn.exact_only = Some(ExactOnly::LastTurn),
    }
    match messages.iter().filter_map(|m| m.get("content")).fold(Content::Text, |worst, c| worst.max(content(c))) {
        Content::Text => {}
        Content::Media => turn.exact_only = Some(ExactOnly::Media),
        Content::File => turn.uncacheable = Some(Uncacheable::External),
    }
    let tool_turn = |m: &Node<'_>| {
        let role = m.get("role").and_then(Node::text);
        matches!(role, Some("tool" | "function")) || m.get("tool_calls").is_some_and(|calls| !calls.is_null())
    };
    if messages.iter().any(tool_turn) {
        turn.exact_only = Some(ExactOnly::Tools);
    }
    Ok(turn)
}

/// Splits the last message: its text may vary, its other members belong to the rest.
fn last_message(message: &Node<'_>, turn: &mut Turn) {
    let is_user = message.get("role").and_then(Node::text) == Some("user");
    let (text, form) = message.get("content").map_or((None, "none"), user_text);
    match text.filter(|t| is_user && !t.trim().is_empty()) {
        Some(text) => {
            canonical_members(message.members().iter().filter(|m| m.name != "content"), &mut turn.rest);
            tagged(&mut turn.rest, b'f', form.as_bytes());
            if let Some(content) = message.get("content") {
                content.canonical(&mut turn.last);
            }
            turn.text = Some(text);
        }
        None => {
            message.canonical(&mut turn.last);
            turn.exact_only = Some(ExactOnly::LastTurn);
        }
    }
}

/// The text of a user turn, and how it was written: a string, or parts that have nothing but `type` and `text`.
fn user_text(content: &Node<'_>) -> (Option<String>, &'static str) {
    if let Some(text) = content.text() {
        return (Some(text.to_owned()), "string");
    }
    let part = |p: &Node<'_>| match (p.members().len(), p.get("type").and_then(Node::text), p.get("text")) {
        (2, Some("text"), Some(text)) => text.text().map(str::to_owned),
        _ => None,
    };
    match content.elements().map(|parts| parts.iter().map(part).collect::<Option<Vec<_>>>()) {
        Some(Some(parts)) if !parts.is_empty() => (Some(parts.join("\n")), "parts"),
        _ => (None, "other"),
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Content {
    Text,
    Media,
    File,
}

fn content(node: &Node<'_>) -> Content {
    let kind = |part: &Node<'_>| match part.get("type").and_then(Node::text) {
        Some("text" | "refusal") => Content::Text,
        Some("file" | "input_file") => Content::File,
        _ => Content::Media,
    };
    match &node.value {
        Value::Array(parts) => parts.iter().map(kind).fold(Content::Text, Content::max),
        Value::String(_) | Value::Null => Content::Text,
        _ => Content::Media,
    }
}

fn completion_turn(root: &Node<'_>) -> Turn {
    let mut turn = Turn::new("prompt", 0, Vec::with_capacity(256));
    canonical_members(kept(root, "prompt"), &mut turn.rest);
    if let Some(prompt) = root.get("prompt") {
        prompt.canonical(&mut turn.last);
        turn.text = prompt.text().filter(|t| !t.trim().is_empty()).map(str::to_owned);
    }
    if turn.text.is_none() {
        turn.exact_only = Some(ExactOnly::PromptForm);
    }
    turn
}

fn kept<'m, 'a>(root: &'m Node<'a>, besides: &'static str) -> impl Iterator<Item = &'m Member<'a>> {
    root.members().iter().filter(move |m| m.name != besides && !is_excluded(m))
}

fn exact_only(root: &Node<'_>, too_hot: bool) -> Result<Option<ExactOnly>, BadCall> {
    let given = |name: &str| root.get(name).is_some_and(|n| !n.is_null());
    let logprobs = root.get("logprobs").is_some_and(|n| !n.is_null() && n.boolean() != Some(false));
    let choices = whole(root, "n")?.unwrap_or(1).max(whole(root, "best_of")?.unwrap_or(1));
    Ok(if given("tools") || given("functions") {
        Some(ExactOnly::Tools)
    } else if choices > 1 {
        Some(ExactOnly::Choices)
    } else if given("seed") {
        Some(ExactOnly::Seed)
    } else if logprobs || given("top_logprobs") {
        Some(ExactOnly::Logprobs)
    } else if too_hot {
        Some(ExactOnly::Temperature)
    } else {
        None
    })
}

/// Members that let an answer draw on what is not in the request: OpenAI, xAI, OpenRouter, Azure, Qwen.
const SEARCHES: [&str; 5] = ["web_search_options", "search_parameters", "plugins", "data_sources", "enable_search"];

/// Whether a tool is run by the provider, as web or file search is; the caller's own are functions or custom tools.
fn searches(tools: &Node<'_>) -> bool {
    let own = |tool: &Node<'_>| matches!(tool.get("type").and_then(Node::text), None | Some("function" | "custom"));
    tools.elements().is_some_and(|tools| !tools.iter().all(own))
}

fn uncacheable(root: &Node<'_>) -> Option<Uncacheable> {
    let given = |name: &str| root.get(name).is_some_and(|n| !n.is_null());
    let not_text = |n: &Node<'_>| n.elements().is_some_and(|kinds| kinds.iter().any(|k| k.text() != Some("text")));
    if root.get("store").and_then(Node::boolean) == Some(true) || given("previous_response_id") || given("conversation")
    {
        Some(Uncacheable::ProviderState)
    } else if SEARCHES.into_iter().any(given) || root.get("tools").is_some_and(searches) {
        Some(Uncacheable::External)
    } else if given("audio") || root.get("modalities").is_some_and(not_text) {
        Some(Uncacheable::Modality)
    } else {
        None
    }
}

fn upstream_body(
    root: &Node<'_>,
    body: &Bytes,
    stream: bool,
    options: Option<&Node<'_>>,
    asked_usage: Option<bool>,
) -> (Bytes, Option<Undo>) {
    let mut edits = Edits::default();
    if let Some(range) = member_range(root.members(), Controls::is_body_member) {
        edits.remove(range);
    }
    // Usage is asked for in any case, since without it a stream cannot be accounted: what is billed and not seen, such as
    // reasoning, would be spent and not counted. A client that does not want it does not get it.
    let mut usage_added = None;
    if stream && asked_usage != Some(true) {
        let before = edits.len();
        match (options, root.get("stream_options")) {
            // Not an object (PHP writes an empty one as `[]`): upstream has its own opinion of that.
            (Some(options), _) if !matches!(options.value, Value::Object(_)) => {}
            (Some(options), _) => match options.get("include_usage") {
                Some(other) => edits.replace(other.start, other.end, "true"),
                None => edits.append_member(options, r#""include_usage":true"#),
            },
            (None, Some(null)) => edits.replace(null.start, null.end, r#"{"include_usage":true}"#),
            (None, None) => edits.append_member(root, r#""stream_options":{"include_usage":true}"#),
        }
        usage_added = if edits.len() > before { edits.undo(body) } else { None };
    }
    (edits.apply(body), usage_added)
}

fn check_counts(root: &Node<'_>, limits: &Limits) -> Result<(), BadCall> {
    if let Some(tools) = root.get("tools").and_then(Node::elements) {
        too_many("tools", tools.len(), limits.tools)?;
    }
    if let Some(stop) = root.get("stop").and_then(Node::elements) {
        too_many("stop", stop.len(), limits.stop)?;
    }
    for name in ["n", "best_of"] {
        if let Some(choices) = whole(root, name)?.filter(|n| *n > limits.choices) {
            return Err(BadCall::param(name, format!("is {choices}, the limit is {}", limits.choices)));
        }
    }
    Ok(())
}

fn too_many(param: &str, have: usize, limit: usize) -> Result<(), BadCall> {
    if have > limit { Err(BadCall::param(param, format!("has {have} elements, the limit is {limit}"))) } else { Ok(()) }
}

fn flag(node: &Node<'_>, name: &str) -> Result<Option<bool>, BadCall> {
    typed(node, name, Node::boolean, "must be true or false")
}

pub(super) fn whole(node: &Node<'_>, name: &str) -> Result<Option<u64>, BadCall> {
    typed(node, name, unsigned, "must be a whole number that is not negative")
}

/// A token limit. Servers of local models take -1 for none.
pub(super) fn limit(node: &Node<'_>, name: &str) -> Result<Option<u64>, BadCall> {
    if node.get(name).and_then(Node::double).is_some_and(|limit| limit < 0.0) {
        return Ok(None);
    }
    whole(node, name)
}

/// A whole number in any spelling: `5`, `5.0` and `5e0` are one number in JSON, and upstreams take them as such.
fn unsigned(node: &Node<'_>) -> Option<u64> {
    node.unsigned().or_else(|| {
        let double = node.double().filter(|double| *double >= 0.0 && double.fract() == 0.0)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, and saturates above")]
        Some(double as u64)
    })
}

fn number(node: &Node<'_>, name: &str) -> Result<Option<f64>, BadCall> {
    typed(node, name, Node::double, "must be a number")
}

/// `None` for an absent or null member, an error for one of another type.
fn typed<'a, T>(
    node: &Node<'a>,
    name: &str,
    read: impl Fn(&Node<'a>) -> Option<T>,
    expected: &str,
) -> Result<Option<T>, BadCall> {
    match node.get(name).filter(|n| !n.is_null()) {
        None => Ok(None),
        Some(value) => read(value).map(Some).ok_or_else(|| BadCall::param(name, expected)),
    }
}
