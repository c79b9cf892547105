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

/// Takes one change of a body back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undo {
    /// Where it stands in the changed body.
    at: Range<usize>,
    was: Bytes,
}

impl Undo {
    /// The body without the change.
    pub fn apply(&self, body: &[u8]) -> Bytes {
        let before = body.get(..self.at.start).unwrap_or_default();
        let after = body.get(self.at.end..).unwrap_or_default();
        [before, &self.was, after].concat().into()
    }
}

/// Replacements of byte ranges, in ascending order of place.
#[derive(Default)]
pub(super) struct Edits(Vec<(usize, usize, Vec<u8>)>);

impl Edits {
    /// Replaces `start..end` by `text`.
    pub(super) fn replace(&mut self, start: usize, end: usize, text: impl Into<Vec<u8>>) {
        self.0.push((start, end, text.into()));
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
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

    /// What takes the last replacement back that was asked for.
    pub(super) fn undo(&self, text: &Bytes) -> Option<Undo> {
        let (start, end, replacement) = self.0.last()?;
        // What is changed before it moves it.
        let before = self.0.iter().filter(|(from, ..)| from < start);
        let at = before.fold(*start, |at, (from, to, text)| (at + text.len()).saturating_sub(to - from));
        Some(Undo { at: at..at + replacement.len(), was: Bytes::copy_from_slice(text.get(*start..*end)?) })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_change_is_taken_back_and_the_others_stay() {
        let text = Bytes::from_static(b"one two three");
        for (removed, place, with, changed, undone) in [
            (0..4, 8..13, "3", "two 3", "two three"),
            (7..13, 0..3, "first", "first two", "one two"),
            (0..4, 13..13, ", four", "two three, four", "two three"),
            (3..7, 0..0, "", "one three", "one three"),
        ] {
            let mut edits = Edits::default();
            edits.remove(removed);
            edits.replace(place.start, place.end, with);
            let undo = edits.undo(&text).unwrap();
            let after = edits.apply(&text);
            assert_eq!((&after[..], &undo.apply(&after)[..]), (changed.as_bytes(), undone.as_bytes()));
        }
        assert_eq!(Edits::default().undo(&text), None);
    }
}
