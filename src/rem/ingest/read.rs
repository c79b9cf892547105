//! The members of what people send, read one by one: a mistake is told with its place and how to mend it, and nothing that is not
//! known is passed over.

use serde_json::{Map, Value};

use super::super::{Code, Fault};
use crate::clock::UnixMs;

/// Bytes of `metadata`, `attributes` or `properties` as JSON.
const DATA_BYTES: usize = 64 << 10;
/// Objects and lists inside of each other.
const DATA_DEPTH: usize = 20;

/// An object whose members are taken out one by one.
pub(super) struct Form {
    members: Map<String, Value>,
    /// Where it is in the body, as in `[3].graph_edges[0]`; empty for the whole body.
    place: String,
    /// All names that were asked for.
    known: Vec<&'static str>,
}

impl Form {
    pub(super) fn of(value: &Value, place: String) -> Result<Self, Fault> {
        match value {
            Value::Object(members) => Ok(Self { members: members.clone(), place, known: Vec::new() }),
            _ => {
                let what = if place.is_empty() { "the body".to_owned() } else { format!("`{place}`") };
                Err(wrong(&place, format!("{what} must be a JSON object, as in {{\"name\": \"…\"}}")))
            }
        }
    }

    /// Where a member is.
    pub(super) fn place(&self, name: &str) -> String {
        if self.place.is_empty() { name.to_owned() } else { format!("{}.{name}", self.place) }
    }

    /// Whether a member is there, `null` or not.
    pub(super) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// A member as it is; `null` is the same as none.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.members.remove(name).filter(|value| !value.is_null())
    }

    /// A text of at most this many characters.
    pub(super) fn text(&mut self, name: &'static str, most: usize) -> Result<Option<String>, Fault> {
        let place = self.place(name);
        self.take(name).map(|value| text(&value, &place, most)).transpose()
    }

    /// A text that must be there, and not be blank; blanks around it are left out.
    pub(super) fn word(&mut self, name: &'static str, most: usize) -> Result<Option<String>, Fault> {
        let Some(word) = self.text(name, most)? else { return Ok(None) };
        let word = word.trim();
        if word.is_empty() {
            return Err(wrong(
                &self.place(name),
                format!("`{}` is blank; write at least one letter", self.place(name)),
            ));
        }
        Ok(Some(word.to_owned()))
    }

    /// True or false; false if it is not there.
    pub(super) fn flag(&mut self, name: &'static str) -> Result<bool, Fault> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => {
                Err(wrong(&self.place(name), format!("`{}` must be true or false, without quotes", self.place(name))))
            }
        }
    }

    /// A number of 0 to 1.
    pub(super) fn share(&mut self, name: &'static str) -> Result<Option<f64>, Fault> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let share = value.as_f64().filter(|share| (0.0..=1.0).contains(share));
        share.map(|share| Some(share + 0.0)).ok_or_else(|| {
            wrong(&self.place(name), format!("`{}` must be a number from 0 to 1, as in 0.8", self.place(name)))
        })
    }

    /// A time as RFC 3339 writes it.
    pub(super) fn time(&mut self, name: &'static str) -> Result<Option<UnixMs>, Fault> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let time = value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let time = time.and_then(|time| u64::try_from(time.as_millisecond()).ok());
        time.map(Some).ok_or_else(|| {
            let place = self.place(name);
            wrong(&place, format!("`{place}` is not a time since 1970 with its offset from UTC"))
                .hint("write it as in 2026-11-01T10:00:00Z or 2026-11-01T10:00:00+01:00")
        })
    }

    /// A list of texts that are not blank. Doubles are left out.
    pub(super) fn words(
        &mut self,
        name: &'static str,
        most: usize,
        longest: usize,
    ) -> Result<Option<Vec<String>>, Fault> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let place = self.place(name);
        let Value::Array(items) = value else {
            return Err(wrong(&place, format!("`{place}` must be a list of texts, as in [\"a\", \"b\"]")));
        };
        if items.len() > most {
            return Err(wrong(&place, format!("`{place}` has {} elements; at most {most} are kept", items.len())));
        }
        let mut words: Vec<String> = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            let place = format!("{place}[{at}]");
            let word = text(item, &place, longest)?;
            let word = word.trim();
            if word.is_empty() {
                return Err(wrong(&place, format!("`{place}` is blank; leave it out")));
            }
            if !words.iter().any(|other| other == word) {
                words.push(word.to_owned());
            }
        }
        Ok(Some(words))
    }

    /// An object of anything, within limits.
    pub(super) fn data(&mut self, name: &'static str) -> Result<Option<Map<String, Value>>, Fault> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let place = self.place(name);
        let Value::Object(data) = value else {
            return Err(wrong(&place, format!("`{place}` must be a JSON object, as in {{\"team\": \"search\"}}")));
        };
        if data.iter().any(|(name, value)| name.contains('\0') || !is_plain(value, DATA_DEPTH)) {
            let fix = format!("leave the character U+0000 out and nest at most {DATA_DEPTH} levels");
            return Err(wrong(&place, format!("`{place}` cannot be kept as it is")).hint(fix));
        }
        let bytes = serde_json::to_vec(&data).map_or(usize::MAX, |bytes| bytes.len());
        if bytes > DATA_BYTES {
            let text = format!("`{place}` has {bytes} bytes; at most {DATA_BYTES} are kept");
            return Err(Fault::new(Code::TooLarge, text).of(place));
        }
        Ok(Some(data))
    }

    /// Nothing else may be there.
    pub(super) fn end(self) -> Result<(), Fault> {
        let Some(name) = self.members.keys().next() else { return Ok(()) };
        let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        let place = self.place(&shown);
        let fault = wrong(&place, format!("`{place}` is not a member that is known here"));
        let lower = name.to_lowercase();
        let near = self.known.iter().map(|known| (strsim::damerau_levenshtein(&lower, known), known)).min();
        Err(match near {
            Some((distance, known)) if distance <= if known.len() <= 3 { 1 } else { 2 } => {
                fault.hint(format!("did you mean `{known}`?"))
            }
            _ => fault.hint(format!("known are: {}", self.known.join(", "))),
        })
    }
}

/// Whether every database can keep it.
fn is_plain(value: &Value, depth: usize) -> bool {
    match value {
        Value::String(text) => !text.contains('\0'),
        Value::Array(items) => depth > 0 && items.iter().all(|item| is_plain(item, depth - 1)),
        Value::Object(members) => {
            depth > 0 && members.iter().all(|(name, value)| !name.contains('\0') && is_plain(value, depth - 1))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}

fn text(value: &Value, place: &str, most: usize) -> Result<String, Fault> {
    let Value::String(text) = value else { return Err(wrong(place, format!("`{place}` must be a text"))) };
    if text.contains('\0') {
        return Err(wrong(place, format!("`{place}` has the character U+0000, which cannot be kept; leave it out")));
    }
    let length = text.chars().count();
    if length > most {
        let text = format!("`{place}` has {length} characters; at most {most} are kept");
        return Err(Fault::new(Code::TooLarge, text).of(place).hint("shorten it, or send it in several pieces"));
    }
    Ok(text.clone())
}

/// A fault of this member.
pub(super) fn wrong(place: &str, text: String) -> Fault {
    let fault = Fault::new(Code::InvalidArgument, text);
    // The whole body has no name.
    if place.is_empty() { fault } else { fault.of(place) }
}

/// One object, or a list of them, each with its place in the body.
pub(super) fn items(body: &Value, most: usize) -> Result<Vec<Form>, Fault> {
    match body {
        Value::Array(items) if items.is_empty() => {
            Err(wrong("", "the list is empty; send one object, or a list of them".to_owned()))
        }
        Value::Array(items) if items.len() > most => {
            let text = format!("the list has {} objects; at most {most} are taken at once", items.len());
            Err(Fault::new(Code::TooLarge, text).hint("send them in several requests"))
        }
        Value::Array(items) => items.iter().enumerate().map(|(at, item)| Form::of(item, format!("[{at}]"))).collect(),
        one => Ok(vec![Form::of(one, String::new())?]),
    }
}
