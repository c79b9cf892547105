//! Members that grow over the events of a stream.
//!
//! Part of assembling a streamed answer. A delta is an increment, so strings concatenate and arrays append; outside of
//! deltas the last value that is not null counts. Invariants: `null` and absent stay apart; values keep their text; pieces
//! that do not fit together are reported as doubt, not guessed at. It must never grow without being measured.

use super::members::{object, push_string, string};
use super::tool_call::ToolCalls;

/// Members of one object, choices of an answer, calls of a choice: more is doubt. Keeps look-ups, which are linear, cheap.
pub(super) const MAX_MEMBERS: usize = 512;

/// What has been gathered, over one whole answer.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Bytes held, about.
    pub(super) held: usize,
    /// Bytes of text that the model wrote, after decoding.
    pub(super) output_bytes: u64,
    /// Pieces did not fit together.
    pub(super) doubt: bool,
}

/// How the values of one member combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The last value that is not null (nor an empty string after another value).
    Last,
    /// Strings concatenate, arrays append, other values as `Last`.
    Grow,
    /// An object whose members grow. The whole `name` again is taken for a repetition if the caller knows
    /// that this piece repeats its head (`true`), and is doubt if not.
    Nested(bool),
    /// The `tool_calls` array.
    Calls,
}

/// Members in the order in which they were first seen.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(Box<str>, Slot)>);

#[derive(Debug)]
enum Slot {
    Unset,
    Null,
    /// A decoded string.
    Text(String),
    /// What stands between the brackets of an array.
    Items(String),
    /// JSON text.
    Raw(String),
    Object(Fields),
    Calls(ToolCalls),
}

impl Fields {
    /// Takes one more value of the member `name`.
    pub(super) fn merge(&mut self, name: &str, value: &str, rule: Rule, meter: &mut Meter) {
        let position = self.0.iter().position(|(known, _)| **known == *name);
        if position.is_none() {
            if self.0.len() >= MAX_MEMBERS {
                meter.doubt = true;
                return;
            }
            meter.held += name.len();
            self.0.push((name.into(), Slot::Unset));
        }
        let found = match position {
            Some(position) => self.0.get_mut(position),
            None => self.0.last_mut(),
        };
        if let Some((_, slot)) = found {
            slot.merge(value, rule, meter);
        }
    }

    /// The JSON text of a member that is neither an object nor an array that grew.
    pub(super) fn raw(&self, name: &str) -> Option<&str> {
        self.0.iter().find_map(|(known, slot)| match slot {
            Slot::Raw(raw) if **known == *name => Some(raw.as_str()),
            _ => None,
        })
    }

    /// Whether the member `name` is a string with something in it.
    pub(super) fn has_text(&self, name: &str) -> bool {
        self.0.iter().any(|(known, slot)| matches!(slot, Slot::Text(text) if **known == *name && !text.is_empty()))
    }

    /// Whether `nested` has text in its member `name`.
    pub(super) fn has_nested_text(&self, nested: &str, name: &str) -> bool {
        self.0
            .iter()
            .any(|(known, slot)| matches!(slot, Slot::Object(fields) if **known == *nested && fields.has_text(name)))
    }

    /// Appends all text that grew: what the model wrote.
    pub(super) fn write_texts(&self, out: &mut String) {
        for (_, slot) in &self.0 {
            match slot {
                Slot::Text(text) => out.push_str(text),
                Slot::Object(fields) => fields.write_texts(out),
                Slot::Calls(calls) => calls.write_texts(out),
                Slot::Unset | Slot::Null | Slot::Items(_) | Slot::Raw(_) => {}
            }
        }
    }

    /// Appends the members, each with a comma before it if `out` does not end in `{`.
    pub(super) fn write_members(&self, out: &mut Vec<u8>) {
        for (name, slot) in &self.0 {
            if matches!(slot, Slot::Unset) {
                continue;
            }
            if out.last() != Some(&b'{') {
                out.push(b',');
            }
            push_string(out, name);
            out.push(b':');
            slot.write(out);
        }
    }

    /// Appends the object.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        self.write_members(out);
        out.push(b'}');
    }
}

impl Slot {
    fn merge(&mut self, value: &str, rule: Rule, meter: &mut Meter) {
        if value == "null" {
            if matches!(self, Self::Unset) {
                *self = Self::Null;
            }
            return;
        }
        match rule {
            Rule::Last => self.replace(value, meter),
            Rule::Grow if value.starts_with('"') => self.append_text(value, meter),
            Rule::Grow if value.starts_with('[') => self.append_items(value, meter),
            Rule::Grow => self.replace(value, meter),
            Rule::Nested(head_repeated) => self.merge_object(value, head_repeated, meter),
            Rule::Calls => self.merge_calls(value, meter),
        }
    }

    fn replace(&mut self, value: &str, meter: &mut Meter) {
        match self {
            Self::Raw(old) if old == value || value == "\"\"" => {}
            Self::Raw(old) => {
                meter.held += value.len().saturating_sub(old.len());
                value.clone_into(old);
            }
            Self::Unset | Self::Null => {
                meter.held += value.len();
                *self = Self::Raw(value.to_owned());
            }
            _ => meter.doubt = true,
        }
    }

    fn append_text(&mut self, value: &str, meter: &mut Meter) {
        let Some(text) = string(value) else {
            meter.doubt = true;
            return;
        };
        meter.held += text.len();
        meter.output_bytes += text.len() as u64;
        match self {
            Self::Text(all) => all.push_str(&text),
            Self::Unset | Self::Null => *self = Self::Text(text.into_owned()),
            _ => meter.doubt = true,
        }
    }

    fn append_items(&mut self, value: &str, meter: &mut Meter) {
        let items = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or_default().trim();
        meter.held += items.len() + 1;
        match self {
            Self::Items(all) => {
                if !all.is_empty() && !items.is_empty() {
                    all.push(',');
                }
                all.push_str(items);
            }
            Self::Unset | Self::Null => *self = Self::Items(items.to_owned()),
            _ => meter.doubt = true,
        }
    }

    fn merge_object(&mut self, value: &str, head_repeated: bool, meter: &mut Meter) {
        let Some(members) = object(value) else {
            meter.doubt = true;
            return;
        };
        if matches!(self, Self::Unset | Self::Null) {
            *self = Self::Object(Fields::default());
        }
        let Self::Object(fields) = self else {
            meter.doubt = true;
            return;
        };
        for (name, value) in members {
            if name == "name" && fields.repeats_text("name", value) {
                meter.doubt |= !head_repeated;
                continue;
            }
            fields.merge(&name, value, Rule::Grow, meter);
        }
    }

    fn merge_calls(&mut self, value: &str, meter: &mut Meter) {
        if matches!(self, Self::Unset | Self::Null) {
            *self = Self::Calls(ToolCalls::default());
        }
        match self {
            Self::Calls(calls) => calls.merge(value, meter),
            _ => meter.doubt = true,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Unset | Self::Null => out.extend_from_slice(b"null"),
            Self::Text(text) => push_string(out, text),
            Self::Items(items) => {
                out.push(b'[');
                out.extend_from_slice(items.as_bytes());
                out.push(b']');
            }
            Self::Raw(raw) => out.extend_from_slice(raw.as_bytes()),
            Self::Object(fields) => fields.write(out),
            Self::Calls(calls) => calls.write(out),
        }
    }
}

impl Fields {
    /// Whether `value` is a string equal to all of the non-empty text of the member `name` so far.
    fn repeats_text(&self, name: &str, value: &str) -> bool {
        self.0.iter().any(|(known, slot)| {
            matches!(slot, Slot::Text(text) if **known == *name && !text.is_empty()
                && string(value).is_some_and(|again| again == *text))
        })
    }
}
