//! What must be known of a request that is passed on as it came: who is asked, whether for a stream, and what it may cost.

use super::billed::Billed;
use super::{BadCall, model_of};
use crate::config::Limits;
use crate::json::Node;

/// A request to a route without a dialect of its own here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedCall {
    /// Model asked for.
    pub model: String,
    /// Whether the client wants an event stream.
    pub stream: bool,
    /// Whether the answer is made after the request has ended (Responses): who leaves stops nothing.
    pub background: bool,
    /// What decides how much it may cost.
    pub billed: Billed,
}

impl PassedCall {
    /// Reads the body. Whatever else is wrong with it is for upstream to say.
    ///
    /// # Errors
    /// It is not JSON within the limits, or does not name its model.
    pub fn read(body: &[u8], limits: &Limits) -> Result<Self, BadCall> {
        let root = Node::parse(body, limits)?;
        Ok(Self {
            model: model_of(&root)?,
            stream: root.get("stream").and_then(Node::boolean).unwrap_or(false),
            background: root.get("background").and_then(Node::boolean).unwrap_or(false),
            billed: Billed::of_passed(&root),
        })
    }
}
