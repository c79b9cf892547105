//! Server-sent events, cut out of a stream of byte chunks.
//!
//! First stage of a streamed answer. Follows the WHATWG rules ("9.2.6 Interpreting an event stream", HTML standard) on
//! bytes: lines end in CRLF, LF or CR and nothing else (U+2028 or U+0085 inside text is text), one byte-order mark is
//! skipped, `data` lines join with LF, comments and unknown fields are ignored.
//!
//! Invariants: the `raw` of all events plus the tail is exactly what was pushed; where the chunk boundaries lay changes
//! nothing; an event inside one chunk is a slice of it, not a copy; what is held is bounded by [`Limits`].
//! It must never decode text (that is done per event, never per chunk) and never hold back a complete event, except that a
//! CR at the end of a chunk waits for the next byte, which may be its LF.

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memchr2};

#[cfg(test)]
mod tests;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// How much of an unfinished event is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest line, without its end.
    pub line_bytes: usize,
    /// Longest event, with comments before it and its blank line.
    pub event_bytes: usize,
}

/// Why a stream can no longer be cut into events. What was not given out yet is in [`Framer::finish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A line is over [`Limits::line_bytes`].
    #[error("a line of the event stream is too long")]
    LineTooLong,
    /// An event is over [`Limits::event_bytes`].
    #[error("an event of the event stream is too long")]
    EventTooLong,
}

impl FrameError {
    /// Name for logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LineTooLong => "line_too_long",
            Self::EventTooLong => "event_too_long",
        }
    }
}

/// One whole event: everything up to and including a blank line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The exact bytes, with comments that preceded it and the blank line.
    pub raw: Bytes,
    /// The `data` lines joined with LF; `None` if there was none (a comment, a lone blank line).
    pub data: Option<Bytes>,
    /// The last `event` field.
    pub event_type: Option<Bytes>,
    /// Where `data` starts in `raw`, if it lies there in one piece.
    data_at: Option<usize>,
}

impl Event {
    /// This event with other data, which must not be empty: all else (comments, line ends, other fields) is kept if the
    /// data was one line, else the event is written anew.
    pub(super) fn with_data(&self, data: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(self.raw.len() + data.len());
        let old_len = self.data.as_ref().map_or(0, Bytes::len);
        let around = self.data_at.and_then(|at| Some((self.raw.get(..at)?, self.raw.get(at + old_len..)?)));
        if let Some((before, after)) = around {
            out.extend_from_slice(before);
            out.extend_from_slice(data);
            out.extend_from_slice(after);
            return out.freeze();
        }
        if let Some(name) = &self.event_type {
            out.extend_from_slice(b"event: ");
            out.extend_from_slice(name);
            out.extend_from_slice(b"\n");
        }
        for line in data.split(|byte| *byte == b'\n') {
            out.extend_from_slice(b"data: ");
            out.extend_from_slice(line);
            out.extend_from_slice(b"\n");
        }
        out.extend_from_slice(b"\n");
        out.freeze()
    }
}

/// What remained after the last whole event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing.
    Clean,
    /// An event without its blank line. It may be shown to the client, never stored.
    Incomplete(Bytes),
}

/// Cuts chunks into events: `push` a chunk, take `next_event` until `None`; at the end of the body `end`, `next_event`
/// until `None`, `finish`.
#[derive(Debug)]
pub struct Framer {
    limits: Limits,
    /// Bytes of the current event from earlier chunks.
    carry: BytesMut,
    /// The current chunk, from the first byte that was not given out.
    chunk: Bytes,
    /// How far `chunk` has been scanned.
    scanned: usize,
    /// Length of the current line so far.
    line: usize,
    /// The current line ended in CR; an LF right after belongs to it.
    after_cr: bool,
    /// No event was given out yet, so a byte-order mark may come.
    first: bool,
    ended: bool,
    failed: Option<FrameError>,
}

impl Framer {
    /// A framer at the start of a stream.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            carry: BytesMut::new(),
            chunk: Bytes::new(),
            scanned: 0,
            line: 0,
            after_cr: false,
            first: true,
            ended: false,
            failed: None,
        }
    }

    /// Takes the next chunk of the body.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            // Only if the caller did not drain the events of the last chunk.
            let mut joined = BytesMut::with_capacity(self.chunk.len() + chunk.len());
            joined.extend_from_slice(&self.chunk);
            joined.extend_from_slice(&chunk);
            self.chunk = joined.freeze();
        }
    }

    /// Says that the body ended properly: a CR that waits is a line end now, so one more event may come.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// The next whole event, or `None` if more bytes are needed.
    ///
    /// # Errors
    /// When a limit is passed, and from then on.
    pub fn next_event(&mut self) -> Result<Option<Event>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        loop {
            let line_end = self.next_line_end();
            self.check_limits()?;
            let Some(line_end) = line_end else {
                self.carry.extend_from_slice(&self.chunk);
                self.chunk = Bytes::new();
                self.scanned = 0;
                return Ok(None);
            };
            self.scanned = line_end;
            if std::mem::take(&mut self.line) == 0 {
                return Ok(Some(self.take_event(line_end)));
            }
        }
    }

    /// What is left: everything that was pushed and not given out as an event.
    pub fn finish(mut self) -> Tail {
        if self.carry.is_empty() && self.chunk.is_empty() {
            return Tail::Clean;
        }
        self.carry.extend_from_slice(&self.chunk);
        Tail::Incomplete(self.carry.freeze())
    }

    /// Position in `chunk` just after the end of the current line, once that is known.
    fn next_line_end(&mut self) -> Option<usize> {
        if !self.after_cr {
            let rest = self.chunk.get(self.scanned..).unwrap_or_default();
            let Some(at) = memchr2(b'\n', b'\r', rest) else {
                self.line += rest.len();
                self.scanned = self.chunk.len();
                return None;
            };
            self.after_cr = rest.get(at) == Some(&b'\r');
            self.line += at;
            self.scanned += at + 1;
            if !self.after_cr {
                return Some(self.scanned);
            }
        }
        let next = self.chunk.get(self.scanned);
        if next.is_none() && !self.ended {
            return None;
        }
        self.after_cr = false;
        Some(self.scanned + usize::from(next == Some(&b'\n')))
    }

    fn check_limits(&mut self) -> Result<(), FrameError> {
        let error = if self.line > self.limits.line_bytes {
            FrameError::LineTooLong
        } else if self.carry.len() + self.scanned > self.limits.event_bytes {
            FrameError::EventTooLong
        } else {
            return Ok(());
        };
        self.failed = Some(error);
        Err(error)
    }

    fn take_event(&mut self, end: usize) -> Event {
        let part = self.chunk.split_to(end);
        self.scanned = 0;
        let raw = if self.carry.is_empty() {
            part
        } else {
            self.carry.extend_from_slice(&part);
            self.carry.split().freeze()
        };
        let bom = std::mem::take(&mut self.first) && raw.starts_with(BOM);
        parse(raw, if bom { BOM.len() } else { 0 })
    }
}

/// Reads the fields of one event, from `at` on.
fn parse(raw: Bytes, mut at: usize) -> Event {
    let mut data = Data::None;
    let mut event_type = None;
    while let Some(rest) = raw.get(at..).filter(|rest| !rest.is_empty()) {
        let len = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let line = rest.get(..len).unwrap_or(rest);
        let colon = memchr(b':', line).unwrap_or(len);
        let (name, mut value) = line.split_at_checked(colon).unwrap_or((line, b""));
        if value.starts_with(b":") {
            value.advance(1);
        }
        if value.starts_with(b" ") {
            value.advance(1);
        }
        let start = at + len - value.len();
        match name {
            b"data" => data = data.and(&raw, start, value.len()),
            b"event" => event_type = Some(raw.slice(start..start + value.len())),
            _ => {}
        }
        // The LF of a CRLF then reads as an empty line, which is no field.
        at += len + 1;
    }
    let (data, data_at) = match data {
        Data::None => (None, None),
        Data::One(start, len) => (Some(raw.slice(start..start + len)), Some(start)),
        Data::Many(joined) => (Some(joined.freeze()), None),
    };
    Event { raw, data, event_type, data_at }
}

enum Data {
    None,
    One(usize, usize),
    Many(BytesMut),
}

impl Data {
    fn and(self, raw: &Bytes, start: usize, len: usize) -> Self {
        let mut joined = match self {
            Self::None => return Self::One(start, len),
            Self::One(start, len) => BytesMut::from(raw.slice(start..start + len)),
            Self::Many(joined) => joined,
        };
        joined.extend_from_slice(b"\n");
        joined.extend_from_slice(&raw.slice(start..start + len));
        Self::Many(joined)
    }
}
