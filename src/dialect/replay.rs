//! A stored answer, served again as JSON or as a stream.
//!
//! Last stage of a hit. Invariants: apart from `id` and `created` the client gets exactly what was stored; put together
//! again, the streamed form equals the JSON form; whether the entry came from a stream cannot be told. Prepared once when an
//! entry is stored or loaded, so that a JSON hit is a few copies. It must never change `model` or `usage`.

use std::ops::Range;

use bytes::Bytes;

use super::kind::Dialect;
use super::members::{object, push_string, range_in, string};
use super::usage::Usage;

mod sse;
#[cfg(test)]
mod tests;

/// The stored text is not an answer of its dialect. Treated as a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored answer is not a document of its dialect")]
pub struct BadBody;

/// How to write a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SseOptions {
    /// The client asked for usage (`stream_options.include_usage`).
    pub include_usage: bool,
    /// Characters of text per event; 0 for all in one.
    pub chunk_chars: usize,
}

/// One stored answer, ready to be served.
#[derive(Clone, Debug)]
pub struct Replay {
    dialect: Dialect,
    body: Bytes,
    id_prefix: &'static str,
    /// Where the values of `id` and `created` stand, in order.
    splices: Vec<(Range<usize>, Splice)>,
    usage: Option<Usage>,
}

#[derive(Clone, Copy, Debug)]
enum Splice {
    Id,
    Created,
}

impl Replay {
    /// Prepares a stored document. `body` is kept by reference count.
    ///
    /// # Errors
    /// If it is not a document of the dialect, or the dialect cannot be replayed.
    pub fn new(dialect: Dialect, body: Bytes) -> Result<Self, BadBody> {
        let text = std::str::from_utf8(&body).map_err(|_| BadBody)?;
        let members = object(text).ok_or(BadBody)?;
        let mut id_prefix = if dialect == Dialect::Completions { "cmpl-" } else { "chatcmpl-" };
        let mut splices = Vec::new();
        let usage = members.iter().find(|(name, _)| name == "usage").and_then(|(_, value)| Usage::from_text(value));
        match dialect {
            Dialect::Embeddings => {}
            Dialect::Models | Dialect::Other => return Err(BadBody),
            Dialect::Chat | Dialect::Completions => {
                for (name, value) in &members {
                    let splice = match &**name {
                        "id" => Splice::Id,
                        "created" => Splice::Created,
                        _ => continue,
                    };
                    if let (Splice::Id, Some(id)) = (splice, string(value)) {
                        let known = ["chatcmpl-", "cmpl-", "gen-"].into_iter().find(|prefix| id.starts_with(prefix));
                        id_prefix = known.unwrap_or(id_prefix);
                    }
                    splices.push((range_in(text, value), splice));
                }
                let probe = SseOptions { include_usage: true, chunk_chars: 0 };
                sse::write(dialect, text, "", 0, probe).ok_or(BadBody)?;
            }
        }
        Ok(Self { dialect, body, id_prefix, splices, usage })
    }

    /// What the answer was billed for once, if the document tells.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// The document with a new id (the provider's prefix and `id`, a ULID) and creation time (Unix seconds).
    pub fn json(&self, id: &str, created: u64) -> Bytes {
        if self.splices.is_empty() {
            return self.body.clone();
        }
        let mut out = Vec::with_capacity(self.body.len() + 64);
        let mut at = 0;
        for (range, splice) in &self.splices {
            out.extend_from_slice(self.body.get(at..range.start).unwrap_or_default());
            match splice {
                Splice::Id => push_string(&mut out, &self.fresh_id(id)),
                Splice::Created => out.extend_from_slice(created.to_string().as_bytes()),
            }
            at = range.end;
        }
        out.extend_from_slice(self.body.get(at..).unwrap_or_default());
        out.into()
    }

    /// The same as a whole event stream, up to and including `[DONE]`.
    ///
    /// # Errors
    /// For embeddings, which have no streamed form.
    pub fn sse(&self, id: &str, created: u64, options: SseOptions) -> Result<Bytes, BadBody> {
        if self.dialect == Dialect::Embeddings {
            return Err(BadBody);
        }
        let text = std::str::from_utf8(&self.body).map_err(|_| BadBody)?;
        sse::write(self.dialect, text, &self.fresh_id(id), created, options).map(Bytes::from).ok_or(BadBody)
    }

    /// The stored document.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    fn fresh_id(&self, id: &str) -> String {
        format!("{}{id}", self.id_prefix)
    }
}
