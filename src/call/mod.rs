//! One normalised request: what the caller asks, how far the cache may go with it, and the keys it is found by.
//!
//! Stands between the wire (a body in some dialect) and the cache, which sees only what is here.
//!
//! Invariant: every member of the request is part of the exact key unless `scope::EXCLUDED` names it; a member we do
//! not know can therefore never be varied by a hit.

mod billed;
pub mod controls;
mod edit;
mod embeddings;
mod passed;
mod read;
mod scope;

use bytes::Bytes;

pub use billed::Billed;
pub use controls::{BadControl, Controls};
pub use edit::Undo;
pub use embeddings::{EmbeddingsCall, Item};
pub use passed::PassedCall;
pub use scope::{Keys, Scope, SecretKey};

use crate::dialect::Dialect;
use crate::json::{JsonError, Member, Node};
use crate::price::Service;

/// One chat or text completion request, read and within the limits.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its wire format.
    pub dialect: Dialect,
    /// Model asked for.
    pub model: String,
    /// Whether the client wants an event stream.
    pub stream: bool,
    /// Whether the client wants the usage event of a stream.
    pub include_usage: bool,
    /// The body's `user`.
    pub user: Option<String>,
    /// `max_tokens` or `max_completion_tokens`.
    pub token_limit: Option<u64>,
    /// What decides how much it may cost.
    pub billed: Billed,
    /// The tier of service asked for.
    pub service: Service,
    /// `n`, 1 if not given.
    pub choices: usize,
    /// Names of the members that are part of the key, besides the messages or the prompt.
    pub key_members: Vec<String>,
    /// Number of messages before the last.
    pub earlier_turns: usize,
    /// The last user turn, if it is text and may be compared by similarity.
    pub text: Option<String>,
    /// Why similarity is not allowed, if it is not.
    pub exact_only: Option<ExactOnly>,
    /// Why the cache must be left alone, if it must.
    pub uncacheable: Option<Uncacheable>,
    /// What goes upstream: the client's bytes, with usage asked for in streams and our own members taken out.
    pub body: Bytes,
    /// Takes what asks for usage out of `body` again, if the client did not ask for it.
    pub usage_added: Option<Undo>,
    /// Cache controls in the body (LiteLLM's `cache` member).
    pub controls: Controls,
    /// Canonical form of all members but the last user turn.
    rest: Vec<u8>,
    /// Canonical form of the last user turn.
    last: Vec<u8>,
}

/// Why a request may be answered by an equal one only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExactOnly {
    /// It offers tools or functions.
    Tools,
    /// A message has content that is not text.
    Media,
    /// It asks for more than one choice.
    Choices,
    /// It sets a seed.
    Seed,
    /// It asks for log probabilities.
    Logprobs,
    /// Its temperature is above the ceiling.
    Temperature,
    /// The last turn is not text of the user.
    LastTurn,
    /// The prompt is not one string.
    PromptForm,
}

impl ExactOnly {
    /// All values.
    pub const ALL: [Self; 8] = [
        Self::Tools,
        Self::Media,
        Self::Choices,
        Self::Seed,
        Self::Logprobs,
        Self::Temperature,
        Self::LastTurn,
        Self::PromptForm,
    ];

    /// Name in headers, metrics, ledger and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Media => "media",
            Self::Choices => "choices",
            Self::Seed => "seed",
            Self::Logprobs => "logprobs",
            Self::Temperature => "temperature",
            Self::LastTurn => "last_turn",
            Self::PromptForm => "prompt_form",
        }
    }
}

/// Why a request is neither looked up nor stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Uncacheable {
    /// The provider is asked to keep state (`store: true`).
    ProviderState,
    /// The answer draws on something outside the request (web search, a stored file).
    External,
    /// The answer is not text (audio, images).
    Modality,
}

impl Uncacheable {
    /// Name in headers, metrics, ledger and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProviderState => "provider_state",
            Self::External => "external",
            Self::Modality => "modality",
        }
    }
}

/// A body that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCall {
    /// Not acceptable as JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A form that other servers of this endpoint take and we do not read; to be passed on as it is.
    #[error("the request is of a form that cannot be cached")]
    Foreign,
    /// A member has the wrong type or value.
    #[error("`{param}` {problem}")]
    Param {
        /// Path of the member, as in `messages[2].role`.
        param: String,
        /// What is wrong and what is expected.
        problem: String,
    },
}

impl BadCall {
    fn param(param: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Param { param: param.into(), problem: problem.into() }
    }
}

/// Longest name of a model; it goes into the ledger and stays in memory with each entry.
const MODEL_BYTES: usize = 512;

/// The model that a body asks for.
///
/// # Errors
/// It is missing, not a text, too long, or stands there again in another spelling: some upstreams take names of members
/// in any case, and would use a model that nobody has looked at.
pub fn model_of(root: &Node<'_>) -> Result<String, BadCall> {
    let again = |m: &Member<'_>| m.name != "model" && m.name.eq_ignore_ascii_case("model");
    if let Some(member) = root.members().iter().find(|m| again(m)) {
        return Err(BadCall::param(member.name.clone(), "must be written `model`"));
    }
    let model = root.get("model").ok_or_else(|| BadCall::param("model", "is missing; name the model to use"))?;
    let model = model.text().ok_or_else(|| BadCall::param("model", "must be a string"))?;
    if model.len() > MODEL_BYTES {
        return Err(BadCall::param("model", format!("is longer than {MODEL_BYTES} bytes")));
    }
    Ok(model.to_owned())
}

#[cfg(test)]
mod tests;
