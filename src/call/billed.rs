//! What of a request decides how much it may cost at most.

use super::BadCall;
use super::read::{limit, whole};
use crate::json::{Node, Value};

/// Parts of a message whose payload stands in the request as text (base64, mostly) and is not billed by its length.
const PAYLOADS: [&str; 6] = ["image_url", "input_image", "image", "input_audio", "audio", "video_url"];
/// Parts that are billed by what is in them, and stand in the request by their whole text or by a name only.
const FILES: [&str; 4] = ["file", "input_file", "document", "container_upload"];
/// Pieces that a conversation counts for which the provider keeps and the request only names: it fills the context of most models.
const CONVERSATION: u64 = 4;

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

    /// Of a request of another dialect, Messages and Responses above all. What cannot be read sets no limit.
    pub(super) fn of_passed(root: &Node<'_>) -> Self {
        let names = ["max_tokens", "max_output_tokens", "max_completion_tokens"];
        let given = |name: &&str| root.get(name).is_some_and(|limit| !limit.is_null());
        let limits: Option<Vec<u64>> =
            names.iter().filter(|name| given(name)).map(|name| limit(root, name).ok().flatten()).collect();
        let answers = whole(root, "n").ok().flatten().unwrap_or(1).max(1);
        let output = limits.and_then(|limits| limits.into_iter().max());
        let mut billed = Self { output, answers, media: 0, media_bytes: 0 };
        for name in ["messages", "input", "system"] {
            root.get(name).into_iter().for_each(|part| billed.add_deep(part));
        }
        // A prompt that is kept is an object; one that is written out is a text.
        let kept = ["previous_response_id", "conversation", "container"];
        let is_kept = kept.iter().any(|name| root.get(name).is_some_and(|node| !node.is_null()))
            || root.get("prompt").is_some_and(|prompt| matches!(prompt.value, Value::Object(_)));
        if is_kept {
            billed.media = billed.media.saturating_add(CONVERSATION);
        }
        // What the provider's own tools find becomes input.
        let own = |tool: &Node<'_>| matches!(tool.get("type").and_then(Node::text), None | Some("function" | "custom"));
        let tools = root.get("tools").and_then(Node::elements).unwrap_or_default();
        billed.media = billed.media.saturating_add(tools.iter().filter(|tool| !own(tool)).count() as u64);
        billed
    }

    /// Adds media at any depth: tools answer with pictures too.
    fn add_deep(&mut self, node: &Node<'_>) {
        match &node.value {
            Value::Array(parts) => parts.iter().for_each(|part| self.add_deep(part)),
            Value::Object(members) => {
                let kind = node.get("type").and_then(Node::text);
                if kind.is_some_and(|kind| PAYLOADS.contains(&kind)) {
                    self.media += 1;
                    self.media_bytes += (node.end - node.start) as u64;
                    return;
                }
                self.media += u64::from(kind.is_some_and(|kind| FILES.contains(&kind)));
                members.iter().for_each(|member| self.add_deep(&member.node));
            }
            _ => {}
        }
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

    use super::*;
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
        let passed = |body: String| Billed::of_passed(&Node::parse(body.as_bytes(), &limits()).unwrap());
        let picture = r#"{"type":"image","source":{"type":"base64","data":"AAAA"}}"#;
        let found = passed(format!(
            r#"{{"model":"m","max_tokens":9,"tools":[{{"name":"own"}},{{"type":"web_search_20250305"}}],"messages":[
            {{"role":"user","content":[{{"type":"tool_result","content":[{picture}]}},{{"type":"document","source":{{}}}}]}}]}}"#
        ));
        assert_eq!(found, Billed { output: Some(9), answers: 1, media: 3, media_bytes: picture.len() as u64 });
        let found = passed(r#"{"model":"m","max_output_tokens":7,"input":"x","previous_response_id":"r"}"#.to_owned());
        assert_eq!(found, Billed { output: Some(7), answers: 1, media: CONVERSATION, media_bytes: 0 });
        let found = passed(r#"{"model":"m","prompt":"A fish","n":2}"#.to_owned());
        assert_eq!(found, Billed { output: None, answers: 2, media: 0, media_bytes: 0 });
        let found = passed(r#"{"model":"m","max_output_tokens":"7","max_tokens":5,"input":"x"}"#.to_owned());
        assert_eq!(found.output, None, "a limit that may not be heeded is none");
        let many = r#"{"model":"m","prompt":"a","best_of":1000}"#;
        assert!(Call::read(Dialect::Completions, &Bytes::from_static(many.as_bytes()), &limits(), 1.0).is_err());
    }
}
