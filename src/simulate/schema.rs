//! A value that satisfies a JSON schema: the arguments of a simulated tool call and the answer to a `json_schema` request.
//!
//! Deterministic, and honest about its reach: it follows `type`, `enum`, `const`, `properties`, `items`, `anyOf`, `$ref` to
//! `#/$defs` or `#/definitions`, and the plain bounds. Every property is given, required or not.

use serde_json::{Map, Value};

/// How deep a schema is followed; a recursive one ends in `null` there.
const MAX_DEPTH: u32 = 8;
/// The longest array made for a `minItems`.
const MAX_ITEMS: u64 = 32;

/// An instance of `schema` whose strings carry `text`, so that the value still names its prompt.
pub(super) fn instance(schema: &Value, text: &str) -> Value {
    Maker { root: schema, text }.make(schema, 0)
}

struct Maker<'a> {
    root: &'a Value,
    text: &'a str,
}

impl Maker<'_> {
    fn make(&self, schema: &Value, depth: u32) -> Value {
        if depth > MAX_DEPTH {
            return Value::Null;
        }
        if let Some(fixed) = schema.get("const").or_else(|| first(schema, "enum")) {
            return fixed.clone();
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str).and_then(|name| self.resolve(name)) {
            return self.make(target, depth + 1);
        }
        if let Some(option) = ["anyOf", "oneOf", "allOf"].into_iter().find_map(|word| first(schema, word)) {
            return self.make(option, depth + 1);
        }
        match type_of(schema) {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, depth),
            "integer" => bound(schema, "minimum").unwrap_or_else(|| Value::from(7)),
            "number" => bound(schema, "minimum").unwrap_or_else(|| Value::from(0.5)),
            "boolean" => Value::Bool(true),
            "null" => Value::Null,
            _ => Value::String(self.string(schema)),
        }
    }

    fn object(&self, schema: &Value, depth: u32) -> Value {
        let properties = schema.get("properties").and_then(Value::as_object);
        let made = properties.into_iter().flatten().map(|(name, inner)| (name.clone(), self.make(inner, depth + 1)));
        Value::Object(made.collect::<Map<_, _>>())
    }

    fn array(&self, schema: &Value, depth: u32) -> Value {
        let count = schema.get("minItems").and_then(Value::as_u64).unwrap_or(1).clamp(1, MAX_ITEMS);
        let item = schema.get("items").map_or(Value::Null, |inner| self.make(inner, depth + 1));
        Value::Array((0..count).map(|_| item.clone()).collect())
    }

    fn string(&self, schema: &Value) -> String {
        let longest = schema.get("maxLength").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        self.text.chars().take(longest.unwrap_or(usize::MAX)).collect()
    }

    fn resolve(&self, name: &str) -> Option<&Value> {
        self.root.pointer(name.strip_prefix('#')?)
    }
}

fn first<'a>(schema: &'a Value, word: &str) -> Option<&'a Value> {
    schema.get(word)?.as_array()?.first()
}

fn bound(schema: &Value, word: &str) -> Option<Value> {
    schema.get(word).filter(|value| value.is_number()).cloned()
}

/// The first type that is not `null`; `object` when there are properties and no type.
fn type_of(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(name)) => name,
        Some(Value::Array(names)) => {
            names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or("null")
        }
        _ if schema.get("properties").is_some() => "object",
        _ => "string",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_member_gets_a_fitting_value() {
        let schema = json!({
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 3}, "unit": {"enum": ["c", "f"]}, "days": {"type": "integer", "minimum": 2},
                "ok": {"type": ["null", "boolean"]}, "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 2}
            },
            "$defs": {"tag": {"anyOf": [{"type": "number"}, {"type": "null"}]}}
        });
        assert_eq!(
            instance(&schema, "Paris"),
            json!({"city": "Par", "unit": "c", "days": 2, "ok": true, "tags": [0.5, 0.5]})
        );
    }

    #[test]
    fn a_schema_that_contains_itself_ends() {
        let schema = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
        assert!(instance(&schema, "x").to_string().len() < 200);
    }
}
