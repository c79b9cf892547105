use super::*;

fn verdict(dialect: Dialect, body: &str) -> Result<Finish, NotStorable> {
    let finished = inspect_whole(dialect, &Bytes::from(body.to_owned()));
    assert_eq!(finished.completion.is_some(), finished.verdict.is_ok());
    finished.verdict
}

/// A chat answer with one choice, `message` and `finish_reason` given as JSON text.
fn chat(message: &str, finish_reason: &str) -> Result<Finish, NotStorable> {
    let choice = format!(r#"{{"index":0,"message":{message},"finish_reason":{finish_reason}}}"#);
    verdict(Dialect::Chat, &format!(r#"{{"choices":[{choice}]}}"#))
}

#[test]
fn finished_text_and_tool_calls_are_storable() {
    assert_eq!(chat(r#"{"content":"hi"}"#, r#""stop""#), Ok(Finish::Stop));
    let call =
        r#"{"content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]}"#;
    assert_eq!(chat(call, r#""tool_calls""#), Ok(Finish::ToolCalls));
    assert_eq!(chat(call, r#""stop""#), Ok(Finish::ToolCalls), "tool calls count, whatever the reason says");
    let legacy = r#"{"content":null,"function_call":{"name":"f","arguments":"{}"}}"#;
    assert_eq!(chat(legacy, r#""function_call""#), Ok(Finish::ToolCalls));
    assert_eq!(chat(r#"{"content":[{"type":"text","text":"hi"}],"audio":null}"#, r#""stop""#), Ok(Finish::Stop));
    let custom = r#"{"tool_calls":[{"type":"custom","custom":{"name":"sh","input":"ls"}}]}"#;
    assert_eq!(chat(custom, r#""tool_calls""#), Ok(Finish::ToolCalls));
    assert_eq!(verdict(Dialect::Completions, r#"{"choices":[{"text":"a","finish_reason":"stop"}]}"#), Ok(Finish::Stop));
}

#[test]
fn every_other_finish_reason_is_refused_by_name() {
    let hi = r#"{"content":"hi"}"#;
    assert_eq!(chat(hi, "null"), Err(NotStorable::Unfinished));
    assert_eq!(chat(hi, r#""length""#), Err(NotStorable::Length));
    assert_eq!(chat(hi, r#""content_filter""#), Err(NotStorable::ContentFilter));
    assert_eq!(chat(hi, r#""error""#), Err(NotStorable::FinishReason));
    assert_eq!(chat(hi, "5"), Err(NotStorable::FinishReason));
    assert_eq!(chat(hi, r#""tool_calls""#), Err(NotStorable::ToolCall), "announced but absent");
}

#[test]
fn refusals_errors_empty_and_other_media_are_refused_by_name() {
    assert_eq!(chat(r#"{"content":null,"refusal":"no"}"#, r#""stop""#), Err(NotStorable::Refusal));
    for content in [r#"{"content":null}"#, r#"{"content":""}"#, r#"{"content":" \n"}"#, "{}", r#"{"content":[]}"#] {
        assert_eq!(chat(content, r#""stop""#), Err(NotStorable::Empty), "{content}");
    }
    for message in [
        r#"{"content":"hi","audio":{"id":"a"}}"#,
        r#"{"content":"hi","images":[{"type":"image_url"}]}"#,
        r#"{"content":[{"type":"image_url"}]}"#,
        r#"{"content":5}"#,
    ] {
        assert_eq!(chat(message, r#""stop""#), Err(NotStorable::NonText), "{message}");
    }
    assert_eq!(verdict(Dialect::Chat, r#"{"error":{"message":"no"}}"#), Err(NotStorable::ErrorMember));
    assert_eq!(
        verdict(Dialect::Chat, r#"{"choices":[{"error":{},"message":{"content":"a"},"finish_reason":"stop"}]}"#),
        Err(NotStorable::ErrorMember)
    );
    assert_eq!(verdict(Dialect::Chat, r#"{"choices":[]}"#), Err(NotStorable::Empty));
    assert_eq!(verdict(Dialect::Chat, "{"), Err(NotStorable::InvalidJson));
    assert_eq!(verdict(Dialect::Models, r#"{"data":[]}"#), Err(NotStorable::Dialect));
}

#[test]
fn tool_calls_need_a_name_and_arguments_that_are_json() {
    for function in [
        r#"{"name":"f","arguments":"{\"a\":"}"#,
        r#"{"name":"f","arguments":""}"#,
        r#"{"name":"f","arguments":{}}"#,
        r#"{"name":"f"}"#,
        r#"{"name":"","arguments":"{}"}"#,
        "null",
    ] {
        let message = format!(r#"{{"content":"x","tool_calls":[{{"function":{function}}}]}}"#);
        assert_eq!(chat(&message, r#""tool_calls""#), Err(NotStorable::ToolCall), "{function}");
    }
}

#[test]
fn every_choice_must_be_there_and_finished() {
    let choice = |index: u8, reason: &str| format!(r#"{{"index":{index},"text":"a","finish_reason":{reason}}}"#);
    let judge =
        |choices: &[String]| verdict(Dialect::Completions, &format!(r#"{{"choices":[{}]}}"#, choices.join(",")));
    let stop = r#""stop""#;
    assert_eq!(judge(&[choice(1, stop), choice(0, stop)]), Ok(Finish::Stop));
    assert_eq!(judge(&[choice(0, stop), choice(1, "null")]), Err(NotStorable::Unfinished));
    assert_eq!(judge(&[choice(1, stop)]), Err(NotStorable::ChoiceMissing));
    assert_eq!(judge(&[choice(0, stop), choice(0, stop)]), Err(NotStorable::ChoiceMissing));
    assert_eq!(judge(&[choice(0, stop), choice(2, stop)]), Err(NotStorable::ChoiceMissing));
    let body = Bytes::from(format!(r#"{{"choices":[{}]}}"#, choice(0, stop)));
    let one = inspect_whole(Dialect::Completions, &body);
    assert!(one.clone().expecting(1).completion.is_some());
    let missing = one.expecting(2);
    assert_eq!((missing.verdict, missing.completion), (Err(NotStorable::ChoiceMissing), None));
}

#[test]
fn usage_and_model_are_told_also_for_what_is_not_storable() {
    let body = r#"{"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
    for dialect in [Dialect::Chat, Dialect::Other] {
        let finished = inspect_whole(dialect, &Bytes::from_static(body.as_bytes()));
        assert!(finished.verdict.is_err());
        assert_eq!(finished.usage.map(|usage| (usage.prompt, usage.completion)), Some((3, 2)));
        assert_eq!(finished.model.as_deref(), Some("m"));
    }
}
