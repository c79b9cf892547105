//! Request bodies as the simulated upstream reads them. Members it does not know are ignored, as a tolerant provider would.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::ApiError;

/// Most choices a request may ask for, as with OpenAI.
const MAX_CHOICES: u32 = 128;

/// Body of `POST /v1/chat/completions`.
#[derive(Deserialize)]
pub(super) struct ChatRequest<'a> {
    #[serde(borrow)]
    pub(super) model: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) messages: Vec<Message<'a>>,
    pub(super) stream: Option<bool>,
    pub(super) stream_options: Option<StreamOptions>,
    pub(super) n: Option<u32>,
    pub(super) max_tokens: Option<u32>,
    pub(super) max_completion_tokens: Option<u32>,
    #[serde(borrow)]
    stop: Option<&'a RawValue>,
    pub(super) logprobs: Option<bool>,
    pub(super) top_logprobs: Option<u32>,
    #[serde(borrow)]
    pub(super) tools: Option<Vec<Tool<'a>>>,
    #[serde(borrow)]
    pub(super) tool_choice: Option<&'a RawValue>,
    pub(super) parallel_tool_calls: Option<bool>,
    #[serde(borrow)]
    pub(super) response_format: Option<&'a RawValue>,
}

/// One message of a conversation.
#[derive(Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow)]
    pub(super) role: Cow<'a, str>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) tool_calls: Option<&'a RawValue>,
}

/// What a client wants to see in a stream.
#[derive(Clone, Copy, Default, Deserialize)]
pub(super) struct StreamOptions {
    /// `Some(true)`: `usage: null` on every event and one last event with the usage.
    pub(super) include_usage: Option<bool>,
}

/// A tool on offer.
#[derive(Deserialize)]
pub(super) struct Tool<'a> {
    #[serde(borrow)]
    pub(super) function: Option<Function<'a>>,
}

/// A function on offer; `parameters` is a JSON schema.
#[derive(Deserialize)]
pub(super) struct Function<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) parameters: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
}

impl<'a> ChatRequest<'a> {
    /// Reads and checks a body.
    ///
    /// # Errors
    /// 400 when it is not the JSON of a chat request.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, ApiError> {
        let request: Self = parse(body)?;
        if request.messages.is_empty() {
            return Err(ApiError::bad_request(Some("messages"), "[] is too short - 'messages'"));
        }
        check_choices(request.n)?;
        Ok(request)
    }

    /// The text of the last user message; empty when there is none.
    pub(super) fn question(&self) -> Cow<'a, str> {
        self.messages.iter().rev().find(|message| message.role == "user").map(Message::text).unwrap_or_default()
    }

    /// What a tool has said, if that is the last message.
    pub(super) fn tool_said(&self) -> Option<Cow<'a, str>> {
        self.messages.last().filter(|message| message.role == "tool").map(Message::text)
    }

    /// The smaller of the two limits, in completion tokens.
    pub(super) fn limit(&self) -> u32 {
        self.max_completion_tokens.into_iter().chain(self.max_tokens).min().unwrap_or(u32::MAX)
    }

    /// The stop sequences.
    pub(super) fn stops(&self) -> Vec<Cow<'a, str>> {
        strings(self.stop)
    }

    /// A digest of roles, texts and tool calls of the whole conversation: the same question in another context has another one.
    pub(super) fn conversation(&self) -> blake3::Hash {
        digest(&self.messages)
    }

    /// The same of what came before the last message.
    pub(super) fn context(&self) -> blake3::Hash {
        digest(self.messages.split_last().map_or(&[], |(_, before)| before))
    }
}

fn digest(messages: &[Message<'_>]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for message in messages {
        for part in [message.role.as_bytes(), message.text().as_bytes(), message.raw_extras()] {
            hasher.update(&part.len().to_le_bytes());
            hasher.update(part);
        }
    }
    hasher.finalize()
}

impl<'a> Message<'a> {
    /// The text of this message: the string, or the text parts joined.
    pub(super) fn text(&self) -> Cow<'a, str> {
        let Some(raw) = self.content.map(RawValue::get) else { return Cow::Borrowed("") };
        if let Some(text) = string(raw) {
            return text;
        }
        let parts: Vec<Part<'a>> = serde_json::from_str(raw).unwrap_or_default();
        let mut texts = parts.into_iter().filter_map(|part| part.text);
        match (texts.next(), texts.next()) {
            (None, _) => Cow::Borrowed(""),
            (Some(only), None) => only,
            (Some(first), Some(second)) => Cow::Owned([first, second].into_iter().chain(texts).collect::<String>()),
        }
    }

    /// What is not text but part of the conversation: tool calls, or the raw parts (images and the like).
    fn raw_extras(&self) -> &'a [u8] {
        let parts = self.content.map(RawValue::get).filter(|raw| raw.starts_with('['));
        self.tool_calls.map(RawValue::get).or(parts).unwrap_or("").as_bytes()
    }
}

/// Body of `POST /v1/completions`.
#[derive(Deserialize)]
pub(super) struct CompletionRequest<'a> {
    #[serde(borrow)]
    pub(super) model: Cow<'a, str>,
    #[serde(borrow)]
    prompt: Option<&'a RawValue>,
    pub(super) stream: Option<bool>,
    pub(super) stream_options: Option<StreamOptions>,
    pub(super) n: Option<u32>,
    pub(super) echo: Option<bool>,
    pub(super) max_tokens: Option<u32>,
    pub(super) logprobs: Option<u32>,
    #[serde(borrow)]
    stop: Option<&'a RawValue>,
}

impl<'a> CompletionRequest<'a> {
    /// Reads and checks a body.
    ///
    /// # Errors
    /// 400 when it is not the JSON of a completion request.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, ApiError> {
        let request: Self = parse(body)?;
        check_choices(request.n)?;
        Ok(request)
    }

    /// The prompts; one of token numbers is named by its JSON.
    ///
    /// # Errors
    /// 400 when `prompt` is neither.
    pub(super) fn prompts(&self) -> Result<Vec<Cow<'a, str>>, ApiError> {
        inputs(self.prompt, "prompt")
    }

    /// The stop sequences.
    pub(super) fn stops(&self) -> Vec<Cow<'a, str>> {
        strings(self.stop)
    }
}

/// Body of `POST /v1/embeddings`.
#[derive(Deserialize)]
pub(super) struct EmbeddingRequest<'a> {
    #[serde(borrow)]
    pub(super) model: Cow<'a, str>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    pub(super) dimensions: Option<u32>,
    #[serde(borrow)]
    pub(super) encoding_format: Option<Cow<'a, str>>,
}

impl<'a> EmbeddingRequest<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// 400 when it is not the JSON of an embedding request.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, ApiError> {
        parse(body)
    }

    /// The inputs, in order; one of token numbers is named by its JSON.
    ///
    /// # Errors
    /// 400 when `input` is missing, empty, or of another shape.
    pub(super) fn inputs(&self) -> Result<Vec<Cow<'a, str>>, ApiError> {
        let found = inputs(self.input, "input")?;
        if found.is_empty() || found.iter().any(|text| text.is_empty()) {
            return Err(ApiError::bad_request(Some("input"), "'$.input' is invalid: it may not be empty."));
        }
        Ok(found)
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        ApiError::bad_request(None, format!("We could not parse the JSON body of your request. (simulated: {error})"))
    })
}

fn check_choices(n: Option<u32>) -> Result<(), ApiError> {
    match n {
        Some(n) if n == 0 || n > MAX_CHOICES => {
            Err(ApiError::bad_request(Some("n"), format!("n must be 1 to {MAX_CHOICES}.")))
        }
        _ => Ok(()),
    }
}

/// A string, a list of strings, a list of numbers (one input), or a list of such lists.
fn inputs<'a>(raw: Option<&'a RawValue>, param: &'static str) -> Result<Vec<Cow<'a, str>>, ApiError> {
    let wrong = || ApiError::bad_request(Some(param), format!("'{param}' must be text, tokens, or a list of either."));
    let raw = raw.ok_or_else(wrong)?.get();
    if let Some(text) = string(raw) {
        return Ok(vec![text]);
    }
    let items: Vec<&'a RawValue> = serde_json::from_str(raw).map_err(|_| wrong())?;
    let first = items.first().map_or("", |item| item.get());
    if first.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(vec![Cow::Borrowed(raw)]);
    }
    items.into_iter().map(|item| input_item(item.get()).ok_or_else(wrong)).collect()
}

fn input_item(raw: &str) -> Option<Cow<'_, str>> {
    string(raw).or_else(|| raw.starts_with('[').then_some(Cow::Borrowed(raw)))
}

fn strings(raw: Option<&RawValue>) -> Vec<Cow<'_, str>> {
    let Some(raw) = raw.map(RawValue::get) else { return Vec::new() };
    match string(raw) {
        Some(text) => vec![text],
        None => {
            let items: Vec<Text<'_>> = serde_json::from_str(raw).unwrap_or_default();
            items.into_iter().map(|item| item.0).collect()
        }
    }
}

/// A JSON string, borrowed where it has no escapes; a bare `Cow` would always be copied.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn string(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.starts_with('"') {
        return None;
    }
    serde_json::from_str::<Text<'_>>(raw).ok().map(|text| text.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_the_last_user_text_whatever_its_shape() {
        let body = br#"{"model":"m","messages":[{"role":"user","content":"old"},
            {"role":"user","content":[{"type":"text","text":"a\n"},{"type":"image_url","image_url":{"url":"u"}},{"type":"text","text":"b"}]},
            {"role":"assistant","content":null}]}"#;
        assert_eq!(ChatRequest::parse(body).unwrap().question(), "a\nb");
    }

    #[test]
    fn the_conversation_digest_sees_roles_texts_and_images() {
        let digest = |messages: &str| {
            let body = format!(r#"{{"model":"m","messages":{messages}}}"#);
            ChatRequest::parse(body.as_bytes()).unwrap().conversation()
        };
        let plain = digest(r#"[{"role":"user","content":"x"}]"#);
        assert_eq!(plain, digest(r#"[ {"content":"\u0078", "role":"user", "name":"n"} ]"#));
        assert_ne!(plain, digest(r#"[{"role":"system","content":"x"}]"#));
        assert_ne!(plain, digest(r#"[{"role":"user","content":[{"type":"text","text":"x"},{"type":"image_url"}]}]"#));
    }

    #[test]
    fn inputs_may_be_text_or_tokens_or_lists_of_them() {
        let inputs = |input: &str| {
            let body = format!(r#"{{"model":"m","input":{input}}}"#);
            let request = EmbeddingRequest::parse(body.as_bytes()).unwrap();
            request.inputs().map(|all| all.into_iter().map(Cow::into_owned).collect::<Vec<_>>())
        };
        assert_eq!(inputs(r#""a""#).unwrap(), ["a"]);
        assert_eq!(inputs(r#"["a","b"]"#).unwrap(), ["a", "b"]);
        assert_eq!(inputs("[1,2]").unwrap(), ["[1,2]"]);
        assert_eq!(inputs("[[1],[2,3]]").unwrap(), ["[1]", "[2,3]"]);
        for bad in ["[]", r#""""#, "null", "{}", r#"["a",{}]"#] {
            assert_eq!(inputs(bad).unwrap_err().status, 400, "{bad}");
        }
    }

    #[test]
    fn what_is_not_json_or_has_no_messages_is_refused() {
        for bad in [
            &b"{"[..],
            b"[]",
            br#"{"model":"m","messages":[]}"#,
            br#"{"model":"m","messages":[{"role":"user"}],"n":0}"#,
        ] {
            assert_eq!(ChatRequest::parse(bad).map(|_| ()).unwrap_err().status, 400);
        }
    }
}
