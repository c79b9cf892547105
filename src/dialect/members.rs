//! JSON objects as lists of members whose values stay the text they were.
//!
//! Used for every event and every stored body. Invariants: no value is re-encoded (number text, escapes, spaces stay),
//! order and duplicates are kept. It must never build a tree: an event is read in about a microsecond because this is
//! only a scan.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Name and value text of one member.
pub(super) type Member<'a> = (Cow<'a, str>, &'a str);

/// The members of a JSON object, or `None` if the text is not exactly one well-formed object.
pub(super) fn object(text: &str) -> Option<Vec<Member<'_>>> {
    serde_json::from_str::<Members<'_>>(text).ok().map(|members| members.0)
}

/// The value texts of a JSON array, or `None` if the text is not one.
pub(super) fn array(text: &str) -> Option<Vec<&str>> {
    let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
    Some(items.into_iter().map(RawValue::get).collect())
}

/// The decoded string, or `None` if the text is not a JSON string (or has half a surrogate pair in it).
pub(super) fn string(text: &str) -> Option<Cow<'_, str>> {
    if !text.starts_with('"') {
        return None;
    }
    serde_json::from_str::<Text<'_>>(text).ok().map(|text| text.0)
}

/// The unsigned integer, or `None` if the text is not one.
pub(super) fn unsigned(text: &str) -> Option<u64> {
    text.parse().ok()
}

/// The value text of the last member of that name.
pub(super) fn get<'a>(members: &[Member<'a>], name: &str) -> Option<&'a str> {
    members.iter().rev().find(|(key, _)| key == name).map(|(_, value)| *value)
}

/// Appends `text` as a JSON string.
#[expect(clippy::expect_used, reason = "a string always serialises and a Vec takes every write")]
pub(super) fn push_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string always serialises into a Vec");
}

/// Byte range of `value`, which must be one of the member values of `text`.
pub(super) fn range_in(text: &str, value: &str) -> std::ops::Range<usize> {
    let start = value.as_ptr().addr().saturating_sub(text.as_ptr().addr());
    start..start + value.len()
}

/// The object text without the members of that name; everything else stays byte for byte.
pub(super) fn without(text: &str, members: &[Member<'_>], name: &str) -> Option<String> {
    let mut at = text.find('{')? + 1;
    let mut out = String::with_capacity(text.len());
    out.push_str(text.get(..at)?);
    let mut none_kept = true;
    for (position, (key, value)) in members.iter().enumerate() {
        let end = range_in(text, value).end;
        let mut piece = text.get(at..end)?;
        at = end;
        if key == name {
            continue;
        }
        if std::mem::take(&mut none_kept) && position > 0 {
            piece = piece.split_once(',')?.1;
        }
        out.push_str(piece);
    }
    out.push_str(text.get(at..)?);
    Some(out)
}

struct Members<'a>(Vec<Member<'a>>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(8);
        while let Some(name) = map.next_key::<Text<'de>>()? {
            members.push((name.0, map.next_value::<&RawValue>()?.get()));
        }
        Ok(Members(members))
    }
}

struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> String {
        without(text, &object(text).unwrap(), "usage").unwrap()
    }

    #[test]
    fn a_member_is_cut_out_and_the_rest_stays_byte_for_byte() {
        assert_eq!(cut(r#"{"a":1.0e+2,"usage":null}"#), r#"{"a":1.0e+2}"#);
        assert_eq!(cut(r#"{ "usage" : null , "a":1 }"#), r#"{ "a":1 }"#);
        assert_eq!(cut(r#"{"a":1, "usage":null, "b":[ 2 ]}"#), r#"{"a":1, "b":[ 2 ]}"#);
        assert_eq!(cut(r#"{"usage":null}"#), "{}");
        assert_eq!(cut(r#"{"usage":null,"usage":{},"\u0061":"é,"}"#), r#"{"\u0061":"é,"}"#);
        assert_eq!(cut(r#" {"b":{"usage":null}} "#), r#" {"b":{"usage":null}} "#);
        assert_eq!(cut("{}"), "{}");
    }

    #[test]
    fn members_keep_number_text_order_and_duplicates() {
        let text = r#"{"z":1.50,"a":12345678901234567890123,"z":"\ud83d\ude00"}"#;
        let members = object(text).unwrap();
        assert_eq!(members.iter().map(|m| m.1).collect::<Vec<_>>()[..2], ["1.50", "12345678901234567890123"]);
        assert_eq!(get(&members, "z").and_then(string).as_deref(), Some("😀"));
    }

    #[test]
    fn what_is_not_one_object_is_refused() {
        for text in ["", "[]", "{", r#"{"a":1}x"#, r#"{"a":tru}"#, r#"{"a":01}"#, "null"] {
            assert!(object(text).is_none(), "{text}");
        }
        assert_eq!(string(r#""\ud83d""#), None);
        assert_eq!(string("null"), None);
    }
}
