//! Changing single members of a body while every other byte stays as the client sent it.
//!
//! Provider prefix caches are byte-sensitive, so a body is never re-serialised.

use std::ops::Range;

use bytes::Bytes;

use crate::json::{Member, Node};

/// Where the first member that satisfies `wanted` stands, with one comma.
pub(super) fn member_range(members: &[Member<'_>], wanted: impl Fn(&Member<'_>) -> bool) -> Option<Range<usize>> {
    let index = members.iter().position(wanted)?;
    let member = members.get(index)?;
    Some(match index.checked_sub(1).and_then(|before| members.get(before)) {
        Some(before) => before.node.end..member.node.end,
        None => member.start..members.get(index + 1).map_or(member.node.end, |next| next.start),
    })
}

/// Replacements of byte ranges, in ascending order of place.
#[derive(Default)]
pub(super) struct Edits(Vec<(usize, usize, Vec<u8>)>);

impl Edits {
    /// Replaces `start..end` by `text`.
    pub(super) fn replace(&mut self, start: usize, end: usize, text: impl Into<Vec<u8>>) {
        self.0.push((start, end, text.into()));
    }

    /// Takes out the bytes.
    pub(super) fn remove(&mut self, range: Range<usize>) {
        self.replace(range.start, range.end, "");
    }

    /// Adds a member at the end of the object.
    pub(super) fn append_member(&mut self, object: &Node<'_>, text: &str) {
        let brace = object.end.saturating_sub(1);
        let comma = if object.members().is_empty() { "" } else { "," };
        self.replace(brace, brace, format!("{comma}{text}"));
    }

    /// The changed text; the same allocation if there is nothing to change.
    pub(super) fn apply(mut self, text: &Bytes) -> Bytes {
        if self.0.is_empty() {
            return text.clone();
        }
        self.0.sort_by_key(|(start, ..)| *start);
        let mut out = Vec::with_capacity(text.len() + 64);
        let mut at = 0;
        for (start, end, replacement) in self.0 {
            out.extend_from_slice(text.get(at..start).unwrap_or_default());
            out.extend_from_slice(&replacement);
            at = end;
        }
        out.extend_from_slice(text.get(at..).unwrap_or_default());
        out.into()
    }
}
