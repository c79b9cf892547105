use super::*;

fn ask(body: &str) -> Answer {
    let body = format!("{{\"model\":\"sim\",{body}}}");
    chat(&ChatRequest::parse(body.as_bytes()).unwrap(), None, 32, &Fault::default())
}

fn user(text: &str) -> String {
    format!(r#""messages":[{{"role":"user","content":"{text}"}}]"#)
}

const TOOLS: &str = r#""tools":[{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}},
    {"type":"function","function":{"name":"get_time"}}]"#;

#[test]
fn an_answer_names_its_prompt_and_is_as_long_as_wished() {
    let answer = ask(&user("Where is order 4711?"));
    let text = answer.choices[0].content.as_deref().unwrap();
    assert!(text.starts_with("You asked: \"Where is order 4711?\". Simulated answer, conversation "), "{text}");
    assert_eq!(text.len(), 32 * 4);
    assert_eq!(answer.usage, Usage { prompt: 5, completion: 32, ..Usage::default() });
    assert_eq!(answer.choices[0].finish, Some("stop"));
}

#[test]
fn the_same_question_in_another_conversation_has_another_text() {
    let other = ask(r#""messages":[{"role":"system","content":"s"},{"role":"user","content":"q"}]"#);
    assert_ne!(ask(&user("q")).choices, other.choices);
    assert_eq!(ask(&user("q")).choices, ask(&user("q")).choices);
}

#[test]
fn limits_and_stop_sequences_cut_and_say_so() {
    let cut = ask(&format!(r#"{},"max_tokens":9,"max_completion_tokens":4"#, user("q")));
    assert_eq!(cut.choices[0].content.as_deref(), Some("You asked: \"q\". "));
    assert_eq!((cut.choices[0].finish, cut.usage.completion), (Some("length"), 4));
    let stopped = ask(&format!(r#"{},"stop":["nowhere","asked"]"#, user("q")));
    assert_eq!(stopped.choices[0].content.as_deref(), Some("You "));
    assert_eq!(stopped.choices[0].finish, Some("stop"));
    let exact = ask(&format!(r#"{},"max_tokens":32"#, user("q")));
    assert_eq!(exact.choices[0].finish, Some("stop"));
}

#[test]
fn tools_are_called_when_named_forced_or_all_at_once() {
    let named = ask(&format!("{},{TOOLS}", user("Get weather in Paris")));
    assert_eq!(named.choices[0].calls.len(), 1);
    assert_eq!(named.choices[0].calls[0].name, "get_weather");
    assert_eq!(named.choices[0].calls[0].arguments, r#"{"city":"Get weather in Paris"}"#);
    assert_eq!((named.choices[0].finish, &named.choices[0].content), (Some("tool_calls"), &None));

    assert!(ask(&format!("{},{TOOLS}", user("hello"))).choices[0].calls.is_empty());
    assert!(ask(&format!(r#"{},{TOOLS},"tool_choice":"none""#, user("get weather"))).choices[0].calls.is_empty());

    let forced =
        ask(&format!(r#"{},{TOOLS},"tool_choice":{{"type":"function","function":{{"name":"get_time"}}}}"#, user("hi")));
    assert_eq!((forced.choices[0].calls[0].name.as_str(), forced.choices[0].finish), ("get_time", Some("stop")));
    assert_eq!(ask(&format!(r#"{},{TOOLS},"tool_choice":"required""#, user("hi"))).choices[0].calls.len(), 1);

    let parallel = ask(&format!("{},{TOOLS}", user("in parallel please")));
    let ids: std::collections::BTreeSet<_> = parallel.choices[0].calls.iter().map(|call| &call.id).collect();
    assert_eq!(ids.len(), 2);
    let single = ask(&format!(r#"{},{TOOLS},"parallel_tool_calls":false"#, user("in parallel please")));
    assert_eq!(single.choices[0].calls.len(), 1);
}

#[test]
fn a_tool_result_is_answered_in_words() {
    let messages = r#""messages":[{"role":"user","content":"get weather"},{"role":"assistant","tool_calls":[]},{"role":"tool","content":"rain"}]"#;
    let answer = ask(&format!("{messages},{TOOLS}"));
    assert!(answer.choices[0].calls.is_empty());
    assert_eq!(answer.choices[0].content.as_deref(), Some("The tool said: rain"));
}

#[test]
fn a_question_may_say_what_a_tool_is_called_with() {
    let question = r#"Please get_weather {\"city\": \"Oslo\", \"days\": [1]} and tell me"#;
    let answer = ask(&format!("{},{TOOLS}", user(question)));
    assert_eq!(answer.choices[0].calls[0].arguments, r#"{"city":"Oslo","days":[1]}"#);
    let other = ask(&format!("{},{TOOLS}", user("get_weather [1]")));
    assert!(other.choices[0].calls[0].arguments.contains("get_weather [1]"), "no object: one is made up");
}

#[test]
fn tool_arguments_cut_by_the_limit_are_not_json_and_finish_with_length() {
    let answer = ask(&format!(r#"{},{TOOLS},"max_tokens":2"#, user("get weather in Paris")));
    assert!(serde_json::from_str::<Value>(&answer.choices[0].calls[0].arguments).is_err());
    assert_eq!(answer.choices[0].finish, Some("length"));
}

#[test]
fn json_formats_give_json() {
    let object = ask(&format!(r#"{},"response_format":{{"type":"json_object"}}"#, user("q")));
    let value: Value = serde_json::from_str(object.choices[0].content.as_deref().unwrap()).unwrap();
    assert_eq!(value["asked"], "q");
    let format = r#""response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object","properties":{"days":{"type":"integer"}}}}}"#;
    let schema = ask(&format!("{},{format}", user("q")));
    assert_eq!(schema.choices[0].content.as_deref(), Some(r#"{"days":7}"#));
}

#[test]
fn refusal_reasoning_choices_and_cached_tokens_are_as_asked() {
    let refused = ask(&user("please [refuse]"));
    assert!(refused.choices[0].refusal.is_some() && refused.choices[0].content.is_none());

    let body = format!(r#"{{"model":"sim-reason-1",{},"n":2}}"#, user("q"));
    let reasoned = chat(&ChatRequest::parse(body.as_bytes()).unwrap(), None, 0, &Fault::default());
    assert!(reasoned.usage.reasoning > 0 && reasoned.usage.completion > reasoned.usage.reasoning);
    assert_ne!(reasoned.choices[0].content, reasoned.choices[1].content);

    let body = format!(r#"{{"model":"sim-cached",{}}}"#, user("eight bytes and more"));
    let cached = chat(&ChatRequest::parse(body.as_bytes()).unwrap(), None, 0, &Fault::default());
    assert_eq!((cached.usage.prompt, cached.usage.cached), (5, 2));
}

#[test]
fn completions_echo_and_answer_each_prompt() {
    let body = br#"{"model":"m","prompt":["one","two"],"n":2,"echo":true}"#;
    let request = CompletionRequest::parse(body).unwrap();
    let answer = completion(&request, &request.prompts().unwrap(), 0, &Fault::default());
    assert_eq!(answer.choices.len(), 4);
    assert!(answer.choices[2].content.as_deref().unwrap().starts_with("twoYou asked: \"two\"."));
}

#[test]
fn ordered_faults_change_the_end_and_the_size() {
    let body = format!(r#"{{"model":"sim",{}}}"#, user("q"));
    let request = ChatRequest::parse(body.as_bytes()).unwrap();
    let with = |directives: &str| chat(&request, None, 32, &Fault::parse(directives).unwrap());
    assert_eq!(with("finish=content_filter").choices[0].finish, Some("content_filter"));
    assert_eq!(with("no-finish").choices[0].finish, None);
    assert_eq!(with("size=70000").choices[0].content.as_deref().unwrap().len(), 70000);
    assert!(with("no-choices").choices.is_empty());
}
