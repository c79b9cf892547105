//! The finished document, put together from the events of a stream.
//!
//! Fed by [`super::StreamReader`] while the stream passes. Its output is what a client would have got without `stream`,
//! with every unknown member in it, so that one stored entry serves both forms. Invariants: choices are told apart by
//! `index`; usage is the last one told, never a sum; `obfuscation` (padding against traffic analysis) is left out. It must
//! never judge: that is done on the finished document, by the same code as for a plain body.

use super::field::{Fields, MAX_MEMBERS, Meter, Rule};
use super::kind::Dialect;
use super::members::{array, get, object, push_string, string, unsigned, without};

/// State of one answer.
#[derive(Debug)]
pub(super) struct Assembler {
    dialect: Dialect,
    top: Fields,
    choices: Vec<Choice>,
    usage: Option<String>,
    pub(super) meter: Meter,
}

#[derive(Debug)]
struct Choice {
    index: u64,
    message: Fields,
    rest: Fields,
}

impl Assembler {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self { dialect, top: Fields::default(), choices: Vec::new(), usage: None, meter: Meter::default() }
    }

    /// Takes one member of an event's document.
    pub(super) fn take(&mut self, name: &str, value: &str) {
        match name {
            "usage" => self.take_usage(value),
            "choices" => match array(value) {
                Some(choices) => choices.into_iter().for_each(|choice| self.take_choice(choice)),
                None => self.meter.doubt |= value != "null",
            },
            "object" => {
                let whole = if self.dialect == Dialect::Chat { "\"chat.completion\"" } else { "\"text_completion\"" };
                self.top.merge(name, whole, Rule::Last, &mut self.meter);
            }
            "x_groq" => self.take_groq(value),
            "obfuscation" => {}
            _ => self.top.merge(name, value, Rule::Last, &mut self.meter),
        }
    }

    /// Takes usage; the last that is not null counts.
    pub(super) fn take_usage(&mut self, value: &str) {
        if value != "null" {
            value.clone_into(self.usage.get_or_insert_default());
        }
    }

    /// Groq puts the usage of a stream, unasked, into a member of its own; its plain answers have it in the usual place.
    fn take_groq(&mut self, value: &str) {
        let members = object(value).unwrap_or_default();
        let usage = get(&members, "usage").unwrap_or("null");
        self.take_usage(usage);
        let rest = without(value, &members, "usage").filter(|_| usage != "null");
        self.top.merge("x_groq", rest.as_deref().unwrap_or(value), Rule::Last, &mut self.meter);
    }

    /// Forgets the choices to free their memory; usage and model stay known.
    pub(super) fn forget_choices(&mut self) {
        self.choices = Vec::new();
    }

    /// Model named by the answer.
    pub(super) fn model(&self) -> Option<String> {
        self.top.raw("model").and_then(string).map(std::borrow::Cow::into_owned)
    }

    /// The tier of service that the answer names.
    pub(super) fn service_tier(&self) -> Option<std::borrow::Cow<'_, str>> {
        self.top.raw("service_tier").and_then(string)
    }

    /// JSON text of the usage.
    pub(super) fn usage(&self) -> Option<&str> {
        self.usage.as_deref()
    }

    /// Appends what the model has written so far, in all choices.
    pub(super) fn write_texts(&self, out: &mut String) {
        for choice in &self.choices {
            choice.message.write_texts(out);
            choice.rest.write_texts(out);
        }
    }

    /// The document as JSON text.
    pub(super) fn document(mut self) -> Vec<u8> {
        self.choices.sort_by_key(|choice| choice.index);
        self.take("object", "");
        let mut out = Vec::with_capacity(self.meter.held + 256);
        out.push(b'{');
        self.top.write_members(&mut out);
        out.extend_from_slice(b",\"choices\":[");
        for (position, choice) in self.choices.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            out.extend_from_slice(format!("{{\"index\":{}", choice.index).as_bytes());
            if self.dialect == Dialect::Chat {
                out.extend_from_slice(b",\"message\":");
                choice.message.write(&mut out);
            }
            choice.rest.write_members(&mut out);
            out.push(b'}');
        }
        out.push(b']');
        if let Some(usage) = self.usage() {
            out.push(b',');
            push_string(&mut out, "usage");
            out.push(b':');
            out.extend_from_slice(usage.as_bytes());
        }
        out.push(b'}');
        out
    }

    fn take_choice(&mut self, text: &str) {
        let Some(members) = object(text) else {
            self.meter.doubt = true;
            return;
        };
        let index = get(&members, "index").and_then(unsigned).unwrap_or(0);
        let known = self.choices.iter().position(|choice| choice.index == index);
        if known.is_none() && self.choices.len() >= MAX_MEMBERS {
            self.meter.doubt = true;
            return;
        }
        let position = known.unwrap_or_else(|| {
            self.meter.held += size_of::<Choice>();
            self.choices.push(Choice { index, message: Fields::default(), rest: Fields::default() });
            self.choices.len() - 1
        });
        let Some(choice) = self.choices.get_mut(position) else { return };
        for (name, value) in members {
            choice.take(self.dialect, &name, value, &mut self.meter);
        }
    }
}

impl Choice {
    fn take(&mut self, dialect: Dialect, name: &str, value: &str, meter: &mut Meter) {
        match (name, dialect) {
            ("index", _) => {}
            ("delta", Dialect::Chat) => self.take_delta(value, meter),
            // Some providers repeat the whole message so far beside the delta.
            ("message", Dialect::Chat) => {}
            ("text", Dialect::Completions) => self.rest.merge(name, value, Rule::Grow, meter),
            ("logprobs", _) => self.rest.merge(name, value, Rule::Nested(false), meter),
            _ => self.rest.merge(name, value, Rule::Last, meter),
        }
    }

    fn take_delta(&mut self, value: &str, meter: &mut Meter) {
        let Some(members) = object(value) else {
            meter.doubt |= value != "null";
            return;
        };
        for (name, value) in members {
            let rule = match &*name {
                "role" => Rule::Last,
                "tool_calls" => Rule::Calls,
                "function_call" => Rule::Nested(false),
                _ => Rule::Grow,
            };
            self.message.merge(&name, value, rule, meter);
        }
    }
}
