//! Labelled pairs, one JSON object a line. `a` and `b` are texts or lists of chat messages.

use serde_json::{Map, Value};

use super::{Pair, Side};
use crate::replay::ReplayError;

/// Reads the lines; blank ones are passed over.
pub(super) fn json_lines(name: &str, text: &str) -> Result<Vec<Pair>, ReplayError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            let number = index + 1;
            pair(number, line).map_err(|what| ReplayError::new(format!("{name}:{number}: {what}")))
        })
        .collect()
}

fn pair(line: usize, text: &str) -> Result<Pair, String> {
    let object: Map<String, Value> = serde_json::from_str(text)
        .map_err(|error| format!("is not a JSON object ({error}); write one object a line"))?;
    let word = |member: &str| object.get(member).and_then(Value::as_str).map(str::to_owned);
    let same_answer = object.get("same_answer").and_then(Value::as_bool);
    Ok(Pair {
        line,
        // Files of conversations call it subtype.
        category: word("category").or_else(|| word("subtype")).unwrap_or_default(),
        style: word("style").unwrap_or_default(),
        a: side(&object, "a")?,
        b: side(&object, "b")?,
        same_answer: same_answer.ok_or("`same_answer` must be true or false; add it")?,
    })
}

fn side(object: &Map<String, Value>, member: &str) -> Result<Side, String> {
    match object.get(member) {
        Some(Value::String(text)) if text.trim().is_empty() => {
            Err(format!("`{member}` is empty; write the prompt or take the line out"))
        }
        Some(Value::String(text)) => Ok(Side::Text(text.clone())),
        Some(messages @ Value::Array(list)) if !list.is_empty() => Ok(Side::Messages(messages.clone())),
        _ => Err(format!("`{member}` must be a text or a list of chat messages; correct or add it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_conversations_are_read_and_blank_lines_passed_over() {
        let text = concat!(
            r#"{"id":"1","category":"negation","a":"Cancel","b":"Don't cancel","same_answer":false,"style":"minimal"}"#,
            "\n\n",
            r#"{"id":"2","subtype":"context_swap","a":[{"role":"user","content":"x"}],"b":"y","same_answer":true}"#,
            "\n",
        );
        let pairs = json_lines("f", text).unwrap();
        assert_eq!((pairs[0].line, pairs[0].category.as_str(), pairs[0].style.as_str()), (1, "negation", "minimal"));
        assert_eq!((&pairs[0].b, pairs[0].same_answer), (&Side::Text("Don't cancel".into()), false));
        assert_eq!((pairs[1].line, pairs[1].category.as_str(), pairs[1].same_answer), (3, "context_swap", true));
        assert!(matches!(&pairs[1].a, Side::Messages(list) if list[0]["content"] == "x"));
    }

    #[test]
    fn a_bad_line_is_named_with_its_number() {
        let good = r#"{"a":"x","b":"y","same_answer":true}"#;
        for (bad, says) in [
            ("{", "is not a JSON object"),
            ("[]", "is not a JSON object"),
            (r#"{"a":"x","b":"y"}"#, "`same_answer` must be"),
            (r#"{"a":"x","b":"y","same_answer":"no"}"#, "`same_answer` must be"),
            (r#"{"a":"x","same_answer":true}"#, "`b` must be"),
            (r#"{"a":[],"b":"y","same_answer":true}"#, "`a` must be"),
            (r#"{"a":" ","b":"y","same_answer":true}"#, "`a` is empty"),
        ] {
            let error = json_lines("f", &format!("{good}\n{bad}\n")).unwrap_err();
            assert!(error.0.starts_with("f:2: ") && error.0.contains(says), "{bad}: {error}");
        }
    }
}
