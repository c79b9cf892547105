//! The text of a stored answer, for comparing answers with each other.
//!
//! Beside the life of a request: used in the background, after the reply has gone. It must never take a part of an answer
//! for the whole of it.

use serde::Deserialize;

use super::kind::Dialect;

#[derive(Deserialize)]
struct Document {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    message: Option<Message>,
    #[serde(default)]
    text: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    tool_calls: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    function_call: Option<serde::de::IgnoredAny>,
}

/// What the answer says. Nothing if it is not one choice of nothing but text.
pub fn answer_text(dialect: Dialect, body: &[u8]) -> Option<String> {
    let document: Document = serde_json::from_slice(body).ok()?;
    let [choice] = <[Choice; 1]>::try_from(document.choices).ok()?;
    match dialect {
        Dialect::Completions => choice.text,
        Dialect::Chat => {
            let message = choice.message?;
            message.content.filter(|_| message.tool_calls.is_none() && message.function_call.is_none())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_single_choice_of_plain_text_has_a_text() {
        let chat = |body: &str| answer_text(Dialect::Chat, body.as_bytes());
        assert_eq!(chat(r#"{"choices":[{"message":{"content":"hi"}}]}"#), Some("hi".to_owned()));
        assert_eq!(chat(r#"{"choices":[{"message":{"content":"hi","tool_calls":null}}]}"#), Some("hi".to_owned()));
        assert_eq!(chat(r#"{"choices":[{"message":{"content":"hi","tool_calls":[{}]}}]}"#), None);
        assert_eq!(chat(r#"{"choices":[{"message":{"content":[{"type":"text"}]}}]}"#), None);
        assert_eq!(chat(r#"{"choices":[{"message":{"content":"a"}},{"message":{"content":"b"}}]}"#), None);
        assert_eq!(chat("{}"), None);
        assert_eq!(answer_text(Dialect::Completions, br#"{"choices":[{"text":"hi"}]}"#), Some("hi".to_owned()));
        assert_eq!(answer_text(Dialect::Embeddings, br#"{"choices":[{"text":"hi"}]}"#), None);
    }
}
