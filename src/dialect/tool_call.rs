//! Tool calls, put together from deltas.
//!
//! Part of assembling a streamed answer. Providers disagree on how a delta names its call: `index` missing, reused for
//! different calls or starting at 1; `id` missing, repeated, or alone. Rule (as in apache/maka pull request 1995): records
//! in order of creation, each learns the index and id used for it; an empty id is absent. Arguments are concatenated as
//! text and not parsed before the end. It must never guess between two calls: what stays unclear is doubt.

use super::field::{Fields, MAX_MEMBERS, Meter, Rule};
use super::members::{Member, array, get, object, string, unsigned};

/// The calls of one choice.
#[derive(Debug, Default)]
pub(super) struct ToolCalls {
    calls: Vec<Call>,
    /// Which call an index last stood for; one entry for each index.
    by_index: Vec<(u64, usize)>,
}

#[derive(Debug, Default)]
struct Call {
    id: Option<String>,
    fields: Fields,
}

impl ToolCalls {
    /// Takes the `tool_calls` array of one delta.
    pub(super) fn merge(&mut self, value: &str, meter: &mut Meter) {
        let Some(entries) = array(value) else {
            meter.doubt = true;
            return;
        };
        for entry in entries {
            match object(entry) {
                Some(members) => self.merge_entry(&members, meter),
                None => meter.doubt = true,
            }
        }
    }

    /// Appends the array as a whole answer has it: without `index`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (position, call) in self.calls.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            call.fields.write(out);
        }
        out.push(b']');
    }

    /// Appends names and arguments: what the model wrote.
    pub(super) fn write_texts(&self, out: &mut String) {
        for call in &self.calls {
            call.fields.write_texts(out);
        }
    }

    fn merge_entry(&mut self, members: &[Member<'_>], meter: &mut Meter) {
        let index = get(members, "index").and_then(unsigned);
        let id = get(members, "id").and_then(string).filter(|id| !id.is_empty());
        let position = self.find(index, id.as_deref(), members);
        if position.is_none() && self.calls.len() >= MAX_MEMBERS {
            meter.doubt = true;
            return;
        }
        let position = position.unwrap_or_else(|| {
            meter.held += size_of::<Call>();
            self.calls.push(Call::default());
            self.calls.len() - 1
        });
        if let Some(index) = index {
            self.learn_index(index, position, meter);
        }
        let Some(call) = self.calls.get_mut(position) else { return };
        let head_repeated = id.is_some() && call.id.as_deref() == id.as_deref();
        if let Some(id) = id {
            call.id = Some(id.into_owned());
        }
        for (name, value) in members {
            match &**name {
                "index" => {}
                "id" if *value == "\"\"" => {}
                _ if value.starts_with('{') => call.fields.merge(name, value, Rule::Nested(head_repeated), meter),
                _ => call.fields.merge(name, value, Rule::Last, meter),
            }
        }
    }

    /// The call that an entry continues, or `None` if it begins a new one.
    fn find(&self, index: Option<u64>, id: Option<&str>, members: &[Member<'_>]) -> Option<usize> {
        if let Some(id) = id {
            let by_id = self.calls.iter().rposition(|call| call.id.as_deref() == Some(id));
            // An index that already stands for a call with another id is being reused.
            return by_id.or_else(|| {
                let position = self.last_with_index(index?)?;
                self.calls.get(position).filter(|call| call.id.is_none()).map(|_| position)
            });
        }
        if let Some(index) = index {
            return self.last_with_index(index);
        }
        let last = self.calls.len().checked_sub(1)?;
        let begins = get(members, "function")
            .and_then(object)
            .and_then(|function| get(&function, "name"))
            .is_some_and(|name| name != "null" && name != "\"\"");
        let complete = self.calls.get(last).is_some_and(|call| call.fields.has_nested_text("function", "arguments"));
        if begins && complete { None } else { Some(last) }
    }

    fn learn_index(&mut self, index: u64, position: usize, meter: &mut Meter) {
        if let Some((_, stands_for)) = self.by_index.iter_mut().find(|(known, _)| *known == index) {
            *stands_for = position;
        } else if self.by_index.len() < MAX_MEMBERS {
            self.by_index.push((index, position));
        } else {
            meter.doubt = true;
        }
    }

    fn last_with_index(&self, index: u64) -> Option<usize> {
        self.by_index.iter().find(|(known, _)| *known == index).map(|(_, position)| *position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assemble(deltas: &[&str]) -> (String, bool) {
        let mut calls = ToolCalls::default();
        let mut meter = Meter::default();
        for delta in deltas {
            calls.merge(delta, &mut meter);
        }
        let mut out = Vec::new();
        calls.write(&mut out);
        (String::from_utf8(out).unwrap(), meter.doubt)
    }

    const TWO: &str = concat!(
        r#"[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},"#,
        r#"{"id":"b","type":"function","function":{"name":"g","arguments":"{}"}}]"#
    );

    #[test]
    fn calls_are_told_apart_by_index() {
        let (calls, doubt) = assemble(&[
            r#"[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]"#,
            r#"[{"index":0,"function":{"arguments":"{\"x\""}}]"#,
            r#"[{"index":1,"id":"b","type":"function","function":{"name":"g","arguments":""}}]"#,
            r#"[{"index":0,"function":{"arguments":":1}"}},{"index":1,"function":{"arguments":"{}"}}]"#,
        ]);
        assert_eq!((calls.as_str(), doubt), (TWO, false));
    }

    #[test]
    fn an_index_reused_for_another_id_begins_a_new_call() {
        let (calls, doubt) = assemble(&[
            r#"[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}]"#,
            r#"[{"index":0,"id":"b","type":"function","function":{"name":"g","arguments":"{"}}]"#,
            r#"[{"index":0,"function":{"arguments":"}"}}]"#,
        ]);
        assert_eq!((calls.as_str(), doubt), (TWO, false));
    }

    #[test]
    fn ids_alone_repeated_or_empty_lead_to_the_right_call() {
        let (calls, doubt) = assemble(&[
            r#"[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\""}}]"#,
            r#"[{"id":"b","type":"function","function":{"name":"g","arguments":""}}]"#,
            r#"[{"id":"a","type":"function","function":{"name":"f","arguments":":1}"}},{"id":"b","function":{"arguments":"{"}}]"#,
            r#"[{"id":"","function":{"arguments":"}"}}]"#,
        ]);
        assert_eq!((calls.as_str(), doubt), (TWO, false));
    }

    #[test]
    fn an_index_from_one_a_late_id_and_a_split_name_are_understood() {
        let (calls, doubt) = assemble(&[
            r#"[{"index":1,"id":null,"type":"function","function":{"name":"get_"}}]"#,
            r#"[{"index":1,"id":"a","function":{"name":"time","arguments":"{"}},{"index":1,"function":{"arguments":"}"}}]"#,
        ]);
        assert_eq!(calls, r#"[{"id":"a","type":"function","function":{"name":"get_time","arguments":"{}"}}]"#);
        assert!(!doubt);
    }

    #[test]
    fn entries_without_index_and_id_begin_a_call_when_they_name_one() {
        let (calls, doubt) = assemble(&[
            r#"[{"function":{"name":"f","arguments":"{}"}}]"#,
            r#"[{"function":{"name":"g","arguments":"{"}}]"#,
            r#"[{"function":{"arguments":"}"}}]"#,
        ]);
        assert_eq!(calls, r#"[{"function":{"name":"f","arguments":"{}"}},{"function":{"name":"g","arguments":"{}"}}]"#);
        assert!(!doubt);
    }

    #[test]
    fn a_name_repeated_without_its_id_is_doubt() {
        let (_, doubt) = assemble(&[
            r#"[{"index":0,"id":"a","function":{"name":"f","arguments":""}}]"#,
            r#"[{"index":0,"function":{"name":"f","arguments":"{}"}}]"#,
        ]);
        assert!(doubt);
    }
}
