//! Strict JSON reading: limits, no duplicate members, number text and byte positions kept.
//!
//! Request bodies are read once, here, into a tree that borrows from the body. Positions let the proxy change one
//! member and forward the client's other bytes untouched; number text keeps `1` and `1.0`, and integers beyond 2^53,
//! apart in cache keys. Tokenising is done by the `jiter` crate.
//!
//! Must never accept a document that two parsers could read differently: duplicate members are refused.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use jiter::{Jiter, JiterError, Peek};

use crate::config::Limits;

/// A JSON value with its place in the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Node<'a> {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset behind the last byte.
    pub end: usize,
    /// The value.
    pub value: Value<'a>,
}

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// The number's text, unchanged.
    Number(&'a str),
    /// The string, unescaped.
    String(Cow<'a, str>),
    /// The elements.
    Array(Vec<Node<'a>>),
    /// The members in their order; names are distinct.
    Object(Vec<Member<'a>>),
}

/// One member of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Member<'a> {
    /// The name, unescaped.
    pub name: Cow<'a, str>,
    /// Offset of the name's opening quote.
    pub start: usize,
    /// The value.
    pub node: Node<'a>,
}

/// Why a document was refused, in words for the person who sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON.
    #[error("the body is not valid JSON: {0}")]
    Syntax(String),
    /// A member name stands twice in one object.
    #[error("the member `{name}` stands twice in one object (at byte {at}); send it once")]
    Duplicate {
        /// The name.
        name: String,
        /// Offset of the second one.
        at: usize,
    },
    /// A limit of the proxy.
    #[error("the JSON body has {what}, the limit is {limit}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

impl<'a> Node<'a> {
    /// Reads one document that fills `text`.
    ///
    /// # Errors
    /// Bad syntax, a duplicate member name, or more of something than `limits` allows.
    pub fn parse(text: &'a [u8], limits: &Limits) -> Result<Self, JsonError> {
        let mut reader = Reader { text, jiter: Jiter::new(text), limits, names: 0 };
        let first = reader.jiter.peek().map_err(|e| reader.syntax(&e))?;
        let node = reader.value(first, 0)?;
        reader.jiter.finish().map_err(|e| reader.syntax(&e))?;
        Ok(node)
    }

    /// The member `name`, if this is an object that has it.
    pub fn get(&self, name: &str) -> Option<&Node<'a>> {
        self.members().iter().find(|m| m.name == name).map(|m| &m.node)
    }

    /// The members, none if this is not an object.
    pub fn members(&self) -> &[Member<'a>] {
        match &self.value {
            Value::Object(members) => members,
            _ => &[],
        }
    }

    /// The elements, if this is an array.
    pub fn elements(&self) -> Option<&[Node<'a>]> {
        match &self.value {
            Value::Array(elements) => Some(elements),
            _ => None,
        }
    }

    /// The text, if this is a string.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number as an unsigned integer, if it is one.
    pub fn unsigned(&self) -> Option<u64> {
        match &self.value {
            Value::Number(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The nearest double, if this is a number.
    pub fn double(&self) -> Option<f64> {
        match &self.value {
            Value::Number(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The truth value, if this is one.
    pub fn boolean(&self) -> Option<bool> {
        match self.value {
            Value::Bool(b) => Some(b),
            _ => None,
        }
    }

    /// Whether this is `null`.
    pub fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// Appends a canonical form: equal for documents that differ only in blanks, escapes and the order of members,
    /// different for all others. Every part carries its length, so parts cannot run into each other.
    pub fn canonical(&self, out: &mut Vec<u8>) {
        match &self.value {
            Value::Null => out.push(b'n'),
            Value::Bool(false) => out.push(b'f'),
            Value::Bool(true) => out.push(b't'),
            Value::Number(text) => tagged(out, b'd', text.as_bytes()),
            Value::String(text) => tagged(out, b's', text.as_bytes()),
            Value::Array(elements) => {
                out.push(b'a');
                out.extend_from_slice(&(elements.len() as u64).to_le_bytes());
                for element in elements {
                    element.canonical(out);
                }
            }
            Value::Object(members) => canonical_members(members.iter(), out),
        }
    }
}

/// [`Node::canonical`] of an object that has only these members.
pub fn canonical_members<'m, 'a: 'm>(members: impl Iterator<Item = &'m Member<'a>>, out: &mut Vec<u8>) {
    let mut sorted: Vec<&Member<'_>> = members.collect();
    sorted.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    out.push(b'o');
    out.extend_from_slice(&(sorted.len() as u64).to_le_bytes());
    for member in sorted {
        tagged(out, b'k', member.name.as_bytes());
        member.node.canonical(out);
    }
}

/// Appends a tag, the length and the bytes.
pub fn tagged(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

struct Reader<'a, 'l> {
    text: &'a [u8],
    jiter: Jiter<'a>,
    limits: &'l Limits,
    names: usize,
}

impl<'a> Reader<'a, '_> {
    fn value(&mut self, peek: Peek, depth: usize) -> Result<Node<'a>, JsonError> {
        let start = self.jiter.current_index();
        let value = match peek {
            Peek::Null => {
                self.jiter.known_null().map_err(|e| self.syntax(&e))?;
                Value::Null
            }
            Peek::True | Peek::False => Value::Bool(self.jiter.known_bool(peek).map_err(|e| self.syntax(&e))?),
            Peek::String => {
                let unescaped = match self.jiter.known_str() {
                    Ok(text) => self::owned_if_escaped(self.text, start, text),
                    Err(e) => return Err(self.syntax(&e)),
                };
                Value::String(self.string(start, unescaped)?)
            }
            Peek::Array => Value::Array(self.array(depth + 1)?),
            Peek::Object => Value::Object(self.object(depth + 1)?),
            _ => {
                if let Err(e) = self.jiter.known_number_bytes(peek) {
                    return Err(self.syntax(&e));
                }
                let end = self.jiter.current_index();
                let bytes = self.text.get(start..end).unwrap_or_default();
                Value::Number(std::str::from_utf8(bytes).map_err(|e| JsonError::Syntax(e.to_string()))?)
            }
        };
        Ok(Node { start, end: self.jiter.current_index(), value })
    }

    fn array(&mut self, depth: usize) -> Result<Vec<Node<'a>>, JsonError> {
        self.check("arrays and objects nested too deeply", depth, self.limits.json_depth)?;
        let mut elements = Vec::new();
        let mut next = self.jiter.known_array().map_err(|e| self.syntax(&e))?;
        while let Some(peek) = next {
            self.check("too many elements in an array", elements.len() + 1, self.limits.json_array)?;
            elements.push(self.value(peek, depth)?);
            next = self.jiter.array_step().map_err(|e| self.syntax(&e))?;
        }
        Ok(elements)
    }

    fn object(&mut self, depth: usize) -> Result<Vec<Member<'a>>, JsonError> {
        self.check("arrays and objects nested too deeply", depth, self.limits.json_depth)?;
        let mut members: Vec<Member<'a>> = Vec::new();
        let mut from = self.jiter.current_index();
        let mut next = self.jiter.known_object().map(|n| n.map(str::to_owned));
        while let Some(name) = next.map_err(|e| self.syntax(&e))? {
            // The tokenizer now stands behind the colon; the name's quote is the first one after the last token.
            let quote = memchr::memchr(b'"', self.text.get(from..).unwrap_or_default()).unwrap_or_default();
            let start = from + quote;
            self.names += 1;
            self.check("too many members", self.names, self.limits.json_keys)?;
            self.check("a member name that is too long", name.len(), self.limits.json_string)?;
            let peek = self.jiter.peek().map_err(|e| self.syntax(&e))?;
            let node = self.value(peek, depth)?;
            from = node.end;
            members.push(Member { name: Cow::Owned(name), start, node });
            next = self.jiter.next_key().map(|n| n.map(str::to_owned));
        }
        match duplicate(&members) {
            Some(member) => Err(JsonError::Duplicate { name: member.name.clone().into_owned(), at: member.start }),
            None => Ok(members),
        }
    }

    fn string(&self, start: usize, unescaped: Option<String>) -> Result<Cow<'a, str>, JsonError> {
        let text = match unescaped {
            Some(text) => Cow::Owned(text),
            None => {
                let inside = (start + 1)..self.jiter.current_index().saturating_sub(1);
                let bytes = self.text.get(inside).unwrap_or_default();
                Cow::Borrowed(std::str::from_utf8(bytes).map_err(|e| JsonError::Syntax(e.to_string()))?)
            }
        };
        self.check("a string that is too long (bytes)", text.len(), self.limits.json_string)?;
        Ok(text)
    }

    fn check(&self, what: &'static str, have: usize, limit: usize) -> Result<(), JsonError> {
        if have > limit { Err(JsonError::TooLarge { what, limit }) } else { Ok(()) }
    }

    fn syntax(&self, error: &JiterError) -> JsonError {
        let place = error.get_position(&self.jiter);
        JsonError::Syntax(format!("{} at line {}, column {}", Plain(error), place.line, place.column))
    }
}

/// `None` if the decoded text is the same bytes as the source, which can then be borrowed.
fn owned_if_escaped(source: &[u8], start: usize, decoded: &str) -> Option<String> {
    let raw = source.get(start + 1..start + 1 + decoded.len());
    if raw == Some(decoded.as_bytes()) && source.get(start + 1 + decoded.len()) == Some(&b'"') {
        None
    } else {
        Some(decoded.to_owned())
    }
}

fn duplicate<'m, 'a>(members: &'m [Member<'a>]) -> Option<&'m Member<'a>> {
    const FEW: usize = 12;
    if members.len() <= FEW {
        let twice = |(i, m): &(usize, &Member<'_>)| members.iter().take(*i).any(|earlier| earlier.name == m.name);
        return members.iter().enumerate().find(twice).map(|(_, m)| m);
    }
    let mut seen = HashSet::with_capacity(members.len());
    members.iter().find(|m| !seen.insert(m.name.as_ref()))
}

struct Plain<'e>(&'e JiterError);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.error_type)
    }
}

#[cfg(test)]
mod tests;
