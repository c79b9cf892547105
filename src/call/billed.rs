//! What of a request decides how much it may cost at most.

use super::BadCall;
use super::read::{limit, whole};
use crate::json::{Node, Value};

/// Parts of a message whose payload stands in the request as text (base64, mostly) and is not billed by its length.
const PAYLOADS: [&str; 6] = ["image_url", "input_image", "image", "input_audio", "audio", "video_url"];

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Billed {
    /// Output tokens of one answer at most; `None` if the request sets no limit, or one that an upstream may not heed.
    pub output: Option<u64>,
    /// Answers that are made, sent or not: `n` or `best_of`, for each prompt.
    pub answers: u64,
    /// Pictures, sounds, files and whatever else is not text.
    pub media: u64,
    /// Bytes of the body that belong to pictures and sounds.
    pub media_bytes: u64,
}

impl Billed {
    pub(super) fn of(root: &Node<'_>) -> Result<Self, BadCall> {
        // Which of the two an upstream heeds if both are there differs, so the larger one counts, and none at all if one says
        // that there is none.
        let names = ["max_completion_tokens", "max_tokens"];
        let given = |name: &&str| root.get(name).is_some_and(|limit| !limit.is_null());
        let limits: Vec<Option<u64>> =
            names.iter().filter(|name| given(name)).map(|name| limit(root, name)).collect::<Result<_, _>>()?;
        let output = limits.into_iter().collect::<Option<Vec<u64>>>().and_then(|limits| limits.into_iter().max());
        let choices = whole(root, "n")?.unwrap_or(1).max(whole(root, "best_of")?.unwrap_or(1)).max(1);
        let mut billed = Self { output, answers: choices.saturating_mul(prompts(root)), media: 0, media_bytes: 0 };
        for message in root.get("messages").and_then(Node::elements).unwrap_or_default() {
            if let Some(content) = message.get("content") {
                billed.add(content);
            }
            // An answer in sound is referred to by its number.
            billed.media += u64::from(message.get("audio").is_some_and(|audio| !audio.is_null()));
        }
        Ok(billed)
    }

    fn add(&mut self, content: &Node<'_>) {
        match &content.value {
            Value::Array(parts) => parts.iter().for_each(|part| self.add_part(part)),
            Value::String(_) | Value::Null => {}
            _ => self.media += 1,
        }
    }

    fn add_part(&mut self, part: &Node<'_>) {
        let kind = part.get("type").and_then(Node::text);
        if matches!(kind, Some("text" | "refusal")) {
            return;
        }
        self.media += 1;
        if kind.is_some_and(|kind| PAYLOADS.contains(&kind)) {
            self.media_bytes += (part.end - part.start) as u64;
        }
    }
}

/// Prompts of a text completion: one, or the elements of a list, unless these are the tokens of one.
fn prompts(root: &Node<'_>) -> u64 {
    let Some(list) = root.get("prompt").and_then(Node::elements) else { return 1 };
    let of_tokens = list.first().is_some_and(|first| matches!(first.value, Value::Number(_)));
    if of_tokens { 1 } else { (list.len() as u64).max(1) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::call::Call;
    use crate::call::tests::limits;
    use crate::dialect::Dialect;

    #[test]
    fn what_may_be_billed_counts_every_answer_prompt_and_piece() {
        let billed = |dialect, body: &str| {
            Call::read(dialect, &Bytes::from(body.to_owned()), &limits(), 1.0).map(|call| call.billed).unwrap()
        };
        let chat = |members: &str| {
            billed(Dialect::Chat, &format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}]{members}}}"#))
        };
        for (members, output, answers) in [
            ("", None, 1),
            (r#","max_tokens":5"#, Some(5), 1),
            (r#","max_tokens":1,"max_completion_tokens":100"#, Some(100), 1),
            (r#","max_tokens":5,"max_completion_tokens":-1"#, None, 1),
            (r#","max_tokens":5,"max_completion_tokens":null"#, Some(5), 1),
            (r#","n":3,"max_tokens":5"#, Some(5), 3),
        ] {
            let found = chat(members);
            assert_eq!((found.output, found.answers), (output, answers), "{members}");
        }
        for (members, answers) in [
            (r#""prompt":"a""#, 1),
            (r#""prompt":["a","b","c"]"#, 3),
            (r#""prompt":[[1,2],[3]],"n":2"#, 4),
            (r#""prompt":[1,2,3]"#, 1),
            (r#""prompt":"a","n":1,"best_of":8"#, 8),
        ] {
            let found = billed(Dialect::Completions, &format!(r#"{{"model":"m",{members}}}"#));
            assert_eq!(found.answers, answers, "{members}");
        }
        // Whatever else is special about the request, and however the member's name is written.
        let picture = r#"{"type":"image_url","image\u005furl":{"url":"https://x"}}"#;
        let body = format!(
            r#"{{"model":"m","seed":1,"tools":[{{"type":"function"}}],"messages":[{{"role":"user","content":[{picture},
            {{"type":"file","file":{{"file_id":"f"}}}},{{"type":"text","text":"y"}}]}}]}}"#
        );
        let found = billed(Dialect::Chat, &body);
        assert_eq!((found.media, found.media_bytes), (2, picture.len() as u64));
        let many = r#"{"model":"m","prompt":"a","best_of":1000}"#;
        assert!(Call::read(Dialect::Completions, &Bytes::from_static(many.as_bytes()), &limits(), 1.0).is_err());
    }
}
