//! What an answer tells of its usage while it is passed on byte for byte, in whichever provider's format it is.
//!
//! Stands beside the bytes of routes that have no dialect of their own here. Invariants: it delays and changes nothing, holds a
//! bounded amount, and where chunk boundaries lie changes nothing. A stream is told from a document by its content type. It must
//! never be asked whether an answer is whole or may be stored; it knows only what was told so far.

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use memchr::memchr2;
use serde_json::Value;

use super::glean::Gleaner;
use super::stream::Written;
use super::usage::{AnthropicTold, Usage};

/// Bytes of written text that are kept for an estimate.
const TEXT_BYTES: usize = 256 << 10;
/// Longest name of a model kept.
const MODEL_BYTES: usize = 512;

/// See the module.
#[derive(Debug)]
pub struct PassedReader {
    form: Form,
    gleaner: Gleaner,
    told: Told,
    bytes: u64,
}

#[derive(Debug)]
enum Form {
    /// One JSON document, or several.
    Documents,
    /// Events whose data are JSON documents.
    Events(Line),
    /// Nothing that can be read.
    Other,
}

/// Where in a line of an event stream.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    /// Bytes of the line so far, up to those of [`FIELD`].
    matched: usize,
    kind: Kind,
    /// The last line ended in CR, whose LF may follow.
    after_cr: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    /// Still the name of the field.
    #[default]
    Name,
    Data,
    Other,
}

const FIELD: &[u8] = b"data:";

/// What has been told.
#[derive(Debug, Default)]
struct Told {
    usage: Option<Usage>,
    anthropic: Option<AnthropicTold>,
    model: Option<String>,
    /// Usage came, and no more of the answer after it.
    settled: bool,
    written: Written,
}

impl PassedReader {
    /// A reader for an answer with these headers.
    pub fn new(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let coding = text(CONTENT_ENCODING);
        let kind = text(CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let form = if !coding.is_empty() && !coding.eq_ignore_ascii_case("identity") {
            Form::Other
        } else if kind == "text/event-stream" {
            Form::Events(Line::default())
        } else if kind.ends_with("json") {
            Form::Documents
        } else {
            Form::Other
        };
        Self { form, gleaner: Gleaner::new(), told: Told::default(), bytes: 0 }
    }

    /// Takes the next bytes of the body.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        let Self { form, gleaner, told, .. } = self;
        match form {
            Form::Documents => gleaner.push(bytes, &mut |document| told.take(&document)),
            Form::Events(line) => line.push(bytes, gleaner, told),
            Form::Other => {}
        }
    }

    /// What has been told of the usage so far.
    pub fn usage(&self) -> Option<Usage> {
        self.told.usage
    }

    /// Whether the usage is that of the whole answer: a stream of Anthropic's tells its input at the start and its output at the
    /// end.
    pub fn is_settled(&self) -> bool {
        self.told.settled
    }

    /// The model that the answer names.
    pub fn model(&self) -> Option<&str> {
        self.told.model.as_deref()
    }

    /// Whether it is a stream of events, which show what the model writes.
    pub fn is_stream(&self) -> bool {
        matches!(self.form, Form::Events(_))
    }

    /// Whether it is of a form that can be read at all.
    pub fn is_read(&self) -> bool {
        !matches!(self.form, Form::Other)
    }

    /// What the model has written so far, as well as can be seen.
    pub fn written(&self) -> Written {
        match self.form {
            // A document that has not ended is not taken apart.
            Form::Documents => Written { text: String::new(), unkept: (self.bytes, 0) },
            Form::Events(_) => self.told.written.clone(),
            Form::Other => Written::default(),
        }
    }
}

impl Line {
    fn push(&mut self, mut bytes: &[u8], gleaner: &mut Gleaner, told: &mut Told) {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr)
                && let Some(rest) = bytes.strip_prefix(b"\n")
            {
                bytes = rest;
                continue;
            }
            let end = memchr2(b'\n', b'\r', bytes);
            let (line, rest) = bytes.split_at_checked(end.unwrap_or(bytes.len())).unwrap_or((bytes, b""));
            self.text(line, gleaner, told);
            let Some((last, rest)) = rest.split_first() else { return };
            self.after_cr = *last == b'\r';
            if self.kind == Kind::Name && self.matched == 0 {
                // A blank line ends the event.
                gleaner.reset();
            } else if self.kind == Kind::Data {
                gleaner.push(b"\n", &mut |document| told.take(&document));
            }
            (self.matched, self.kind) = (0, Kind::Name);
            bytes = rest;
        }
    }

    fn text(&mut self, mut line: &[u8], gleaner: &mut Gleaner, told: &mut Told) {
        while self.kind == Kind::Name {
            let Some((first, rest)) = line.split_first() else { return };
            if FIELD.get(self.matched) != Some(first) {
                // A byte-order mark may stand before the first field.
                self.kind = if self.matched == 0 && b"\xEF\xBB\xBF".contains(first) { Kind::Name } else { Kind::Other };
            } else {
                self.matched += 1;
                if self.matched == FIELD.len() {
                    self.kind = Kind::Data;
                }
            }
            line = rest;
        }
        if self.kind == Kind::Data {
            gleaner.push(line, &mut |document| told.take(&document));
        }
    }
}

impl Told {
    fn take(&mut self, document: &Value) {
        let text = |name: &str| document.get(name).and_then(Value::as_str);
        if let Some(model) = text("model").or_else(|| text("modelVersion")).filter(|name| !name.is_empty()) {
            self.model = Some(model.get(..model.floor_char_boundary(MODEL_BYTES)).unwrap_or(model).to_owned());
        }
        if let Some(delta) = document.get("delta") {
            self.write(delta);
        }
        let usage = document.get("usage").filter(|usage| usage.is_object());
        match (text("type"), usage) {
            (Some(kind @ ("message_start" | "message_delta")), Some(usage)) => {
                let told = self.anthropic.get_or_insert_default();
                told.take(AnthropicTold::of(usage));
                self.usage = told.usage();
                self.settled = kind == "message_delta";
            }
            (Some("message"), Some(usage)) => {
                self.usage = AnthropicTold::of(usage).usage();
                self.settled = true;
            }
            // What comes between is cumulative and no whole of anything.
            (Some(kind), _) if kind.starts_with("content_block") => self.settled = false,
            _ => {
                if let Some(usage) = Usage::of_document(document) {
                    self.usage = Some(usage);
                    self.settled = true;
                }
            }
        }
    }

    /// Counts what a delta adds: the text itself with Responses, an object with a text in it with Messages.
    fn write(&mut self, delta: &Value) {
        let parts = ["text", "partial_json", "thinking"];
        let texts = delta.as_str().into_iter().chain(parts.iter().filter_map(|name| delta.get(name)?.as_str()));
        for text in texts {
            if self.written.text.len().saturating_add(text.len()) <= TEXT_BYTES {
                self.written.text.push_str(text);
            } else {
                self.written.unkept.0 = self.written.unkept.0.saturating_add(text.len() as u64);
            }
        }
    }
}
