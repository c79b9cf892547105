//! One streamed answer, observed event by event while it passes to the client.
//!
//! Sits between the framer and the client: for each event it says what to send, and at the end what the answer was. The
//! upstream is always asked for usage; a client that did not ask must not see the traces of that. Invariants: an event
//! is sent as it came, or dropped whole, or rewritten whole; an answer counts as finished only with `[DONE]`. It must never
//! fail the stream: what it cannot read passes unchanged and makes the answer not storable.

use bytes::Bytes;

use super::assemble::Assembler;
use super::kind::Dialect;
use super::members::{Member, get, object, without};
use super::sse::{Event, Tail};
use super::usage::{Usage, service};
use super::verdict::{Finished, NotStorable, judge};

/// What the client is to see of usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageView {
    /// Whatever upstream sends: the client asked for usage, or we did not.
    AsSent,
    /// We asked upstream for usage and the client did not: the extra event without choices is dropped and `"usage":null` is
    /// removed. Usage on an event that has choices stays, since providers that do so do it unasked.
    Hidden,
}

/// What to send to the client for one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rendered {
    /// `Event::raw`.
    AsIs,
    /// Nothing.
    Drop,
    /// These bytes instead of `Event::raw`.
    Rewritten(Bytes),
}

/// Observes one streamed answer.
#[derive(Debug)]
pub struct StreamReader {
    dialect: Dialect,
    view: UsageView,
    max_bytes: usize,
    assembler: Assembler,
    done: bool,
    /// The answer grew over `max_bytes` and is no longer gathered.
    over: bool,
    fault: Option<NotStorable>,
    /// Events with choices that came after `over`.
    unread: u64,
}

/// What the model has written up to some moment of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Text, reasoning and tool arguments of all choices; empty once the answer was too long to be kept.
    pub text: String,
    /// Bytes of text that are not in `text`, and events that were not read at all.
    pub unkept: (u64, u64),
}

impl StreamReader {
    /// A reader at the start of a stream. An answer of over `max_bytes` is not kept (and not storable). For dialects other
    /// than chat and completions it looks only for usage and errors.
    pub fn new(dialect: Dialect, view: UsageView, max_bytes: usize) -> Self {
        Self {
            dialect,
            view,
            max_bytes,
            assembler: Assembler::new(dialect),
            done: false,
            over: false,
            fault: None,
            unread: 0,
        }
    }

    /// Takes the next event and says what the client gets for it.
    pub fn read(&mut self, event: &Event) -> Rendered {
        if event.event_type.as_deref() == Some(b"error") {
            self.set_fault(NotStorable::ErrorMember);
        }
        let Some(data) = &event.data else { return Rendered::AsIs };
        let Ok(text) = std::str::from_utf8(data) else {
            self.set_fault(NotStorable::InvalidJson);
            return Rendered::AsIs;
        };
        match text.trim_ascii() {
            "" => return Rendered::AsIs,
            "[DONE]" => {
                self.done = true;
                return Rendered::AsIs;
            }
            _ => {}
        }
        let Some(members) = object(text) else {
            self.set_fault(NotStorable::InvalidJson);
            return Rendered::AsIs;
        };
        self.take(&members);
        self.render(event, text, &members)
    }

    /// Whether `[DONE]` was seen.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// What has been written so far, for an estimate where upstream does not tell.
    pub fn written(&self) -> Written {
        let mut text = String::new();
        self.assembler.write_texts(&mut text);
        let kept = text.len() as u64;
        Written { text, unkept: (self.assembler.meter.output_bytes.saturating_sub(kept), self.unread) }
    }

    /// What upstream has told so far of what was used.
    pub fn usage(&self) -> Option<Usage> {
        let usage = self.assembler.usage().and_then(Usage::from_text)?;
        let tier = || self.assembler.service_tier().and_then(|tier| service(&tier));
        Some(Usage { service: usage.service.or_else(tier), ..usage })
    }

    /// Why the answer can already be known not to be storable, such as an error in the stream.
    pub fn fault(&self) -> Option<NotStorable> {
        self.fault
    }

    /// Ends the stream, after the body ended or was given up. `tail` is what the framer had left.
    pub fn finish(self, tail: &Tail) -> Finished {
        let unfinished = match tail {
            Tail::Incomplete(_) => NotStorable::IncompleteEvent,
            Tail::Clean => NotStorable::NoTerminator,
        };
        let doubt = self.assembler.meter.doubt.then_some(NotStorable::Ambiguous);
        let fault = self.fault.or((!self.done).then_some(unfinished)).or(doubt);
        let usage = self.usage();
        let model = self.assembler.model();
        let output_bytes = self.assembler.meter.output_bytes;
        let not_stored = |reason| Finished {
            completion: None,
            usage,
            model: model.clone(),
            output_bytes,
            choices: 0,
            verdict: Err(reason),
        };
        if let Some(fault) = fault {
            return not_stored(fault);
        }
        if !matches!(self.dialect, Dialect::Chat | Dialect::Completions) {
            return not_stored(NotStorable::Dialect);
        }
        let document = Bytes::from(self.assembler.document());
        if document.len() > self.max_bytes {
            return not_stored(NotStorable::TooLarge);
        }
        let judged = judge(self.dialect, &document);
        Finished { usage, model, output_bytes, ..judged }
    }

    fn set_fault(&mut self, fault: NotStorable) {
        self.fault.get_or_insert(fault);
    }

    fn take(&mut self, members: &[Member<'_>]) {
        for (name, value) in members {
            match &**name {
                "error" if *value != "null" => self.set_fault(NotStorable::ErrorMember),
                // Clients stop reading at the terminator; only usage is still of interest.
                "usage" => self.assembler.take_usage(value),
                "choices" if self.over && !self.done => self.unread += 1,
                _ if self.over || self.done || !matches!(self.dialect, Dialect::Chat | Dialect::Completions) => {}
                _ => self.assembler.take(name, value),
            }
        }
        if self.assembler.meter.held > self.max_bytes {
            self.over = true;
            self.set_fault(NotStorable::TooLarge);
            self.assembler.forget_choices();
        }
    }

    fn render(&self, event: &Event, text: &str, members: &[Member<'_>]) -> Rendered {
        let usage = get(members, "usage");
        let (UsageView::Hidden, Dialect::Chat | Dialect::Completions, Some(usage)) = (self.view, self.dialect, usage)
        else {
            return Rendered::AsIs;
        };
        if usage == "null" {
            let rewritten = without(text, members, "usage").map(|text| event.with_data(text.as_bytes()));
            return rewritten.map_or(Rendered::AsIs, Rendered::Rewritten);
        }
        let no_choices = get(members, "choices").is_none_or(is_bare);
        let error = get(members, "error").is_some_and(|error| error != "null");
        if no_choices && !error { Rendered::Drop } else { Rendered::AsIs }
    }
}

/// Whether a JSON value is `null` or an empty array.
fn is_bare(value: &str) -> bool {
    value == "null"
        || value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|inner| inner.trim().is_empty())
}
