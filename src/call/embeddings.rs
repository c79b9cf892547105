//! An embeddings request: each input item is cached by itself.

use std::ops::Range;

use bytes::Bytes;

use super::edit::{Edits, member_range};
use super::scope::is_excluded;
use super::{BadCall, Controls, model_of};
use crate::config::Limits;
use crate::json::{Node, Value, canonical_members};

/// One embeddings request, read and within the limits.
#[derive(Debug, Clone)]
pub struct EmbeddingsCall {
    /// Model asked for.
    pub model: String,
    /// The body's `user`.
    pub user: Option<String>,
    /// The inputs in order.
    pub items: Vec<Item>,
    /// What goes upstream when no item is cached.
    pub body: Bytes,
    /// Cache controls in the body (LiteLLM's `cache` member).
    pub controls: Controls,
    /// Canonical form of everything but the input.
    pub rest: Vec<u8>,
    original: Bytes,
    input: Range<usize>,
    cache_member: Option<Range<usize>>,
}

/// One input of an embeddings request: a text or an array of token numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its canonical form.
    pub canonical: Vec<u8>,
    span: Range<usize>,
}

impl EmbeddingsCall {
    /// Reads the body of `POST /v1/embeddings`.
    ///
    /// # Errors
    /// Names the first member that is wrong.
    pub fn read(body: &Bytes, limits: &Limits) -> Result<Self, BadCall> {
        let root = Node::parse(body, limits)?;
        let model = model_of(&root)?;
        let input = match root.get("input") {
            Some(input) => input,
            // Servers of multi-modal models take a conversation instead.
            None if root.get("messages").is_some() => return Err(BadCall::Foreign),
            None => return Err(BadCall::param("input", "is missing")),
        };
        let items = items(input)?;
        let mut rest = Vec::with_capacity(128);
        canonical_members(root.members().iter().filter(|m| m.name != "input" && !is_excluded(m)), &mut rest);
        let cache_member = member_range(root.members(), Controls::is_body_member);
        let mut edits = Edits::default();
        cache_member.iter().cloned().for_each(|range| edits.remove(range));
        Ok(Self {
            model,
            user: root.get("user").and_then(Node::text).map(str::to_owned),
            items,
            body: edits.apply(body),
            controls: Controls::from_body(root.get("cache")),
            rest,
            original: body.clone(),
            input: input.start..input.end,
            cache_member,
        })
    }

    /// A body that asks for the items at these indices only, in this order.
    pub fn body_for(&self, wanted: &[usize]) -> Bytes {
        let mut list = vec![b'['];
        for (nth, item) in wanted.iter().filter_map(|i| self.items.get(*i)).enumerate() {
            if nth > 0 {
                list.push(b',');
            }
            list.extend_from_slice(self.original.get(item.span.clone()).unwrap_or_default());
        }
        list.push(b']');
        let mut edits = Edits::default();
        self.cache_member.iter().cloned().for_each(|range| edits.remove(range));
        edits.replace(self.input.start, self.input.end, list);
        edits.apply(&self.original)
    }
}

fn items(input: &Node<'_>) -> Result<Vec<Item>, BadCall> {
    let wrong = || BadCall::param("input", "must be a string, an array of strings, or an array of token numbers");
    let item = |node: &Node<'_>| {
        let mut canonical = Vec::new();
        node.canonical(&mut canonical);
        Item { canonical, span: node.start..node.end }
    };
    let tokens = |list: &[Node<'_>]| !list.is_empty() && list.iter().all(|n| matches!(n.value, Value::Number(_)));
    match &input.value {
        Value::String(_) => Ok(vec![item(input)]),
        Value::Array(list) if tokens(list) => Ok(vec![item(input)]),
        // Texts, images and so on of servers of multi-modal models.
        Value::Array(list) if !list.is_empty() && list.iter().all(|n| !n.members().is_empty()) => Err(BadCall::Foreign),
        Value::Array(list) if !list.is_empty() => list
            .iter()
            .map(|node| match &node.value {
                Value::String(_) => Ok(item(node)),
                Value::Array(inner) if tokens(inner) => Ok(item(node)),
                _ => Err(wrong()),
            })
            .collect(),
        _ => Err(wrong()),
    }
}
