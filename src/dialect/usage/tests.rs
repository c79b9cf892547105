//! What no recorded body shows: claims that do not add up, and properties of all of them.

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn claims_that_do_not_add_up_are_clamped() {
    let odd = json!({"prompt_tokens": 5, "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 9, "cache_write_tokens": 9},
        "completion_tokens_details": {"reasoning_tokens": u64::MAX}});
    let usage = Usage::from_openai(&odd).unwrap();
    assert_eq!(usage.tokens, Tokens { cache_read: 5, reasoning: 3, ..Tokens::default() });
    let absurd = Usage::from_openai(&json!({"prompt_tokens": u64::MAX, "completion_tokens": 1_u64 << 50})).unwrap();
    assert_eq!((absurd.prompt, absurd.completion), (1 << 40, 1 << 40));
}

#[test]
fn cached_tokens_that_stand_beside_the_prompt_are_input_and_not_reasoning() {
    let beside = json!({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 1_008,
        "prompt_tokens_details": {"cached_tokens": 1_000}});
    let tokens = Tokens { input: 5, cache_read: 1_000, output: 3, ..Tokens::default() };
    assert_eq!(Usage::from_openai(&beside).unwrap().tokens, tokens);
}

#[test]
fn a_sum_that_stands_alone_is_the_prompt() {
    let usage = Usage::of_document(&json!({"usage": {"total_tokens": 7}})).unwrap();
    assert_eq!((usage.prompt, usage.tokens), (7, Tokens { input: 7, ..Tokens::default() }));
    assert_eq!(Usage::from_openai(&json!({"total_tokens": 0})), None);
}

#[test]
fn absent_or_malformed_usage_is_none() {
    for text in ["null", "{}", "[]", r#"{"prompt_tokens":-1}"#, r#"{"prompt_tokens":"5"}"#, "x"] {
        assert_eq!(Usage::from_text(text), None, "{text}");
    }
    for document in
        [json!(null), json!({"usage": null}), json!({"usage": []}), json!({"usage": {"input_tokens": null}})]
    {
        assert_eq!(Usage::of_document(&document), None, "{document}");
    }
}

#[test]
fn a_tier_that_is_not_known_is_the_standard_one() {
    let tier = |name: &str| {
        let document = json!({"service_tier": name, "usage": {"prompt_tokens": 1, "completion_tokens": 1}});
        Usage::of_document(&document).unwrap().service
    };
    assert_eq!(
        ["default", "auto", "scale", "standard", "flex", "priority", "batch"].map(tier),
        [None, None, None, None, Some("flex"), Some("priority"), Some("batch")]
    );
}

#[test]
fn what_a_picture_is_made_of_is_believed_where_it_is_told() {
    let read = |usage: Value| Usage::of_document(&json!({ "usage": usage })).unwrap().in_pictures().tokens;
    let pictures = Tokens { input: 23, image_output: 1_056, ..Tokens::default() };
    assert_eq!(read(json!({"input_tokens": 23, "output_tokens": 1_056})), pictures);
    let told = json!({"input_tokens": 23, "output_tokens": 1_056, "output_tokens_details": {"text_tokens": 1_056, "image_tokens": 0}});
    assert_eq!(read(told), Tokens { input: 23, output: 1_056, ..Tokens::default() });
}

#[test]
fn what_is_billed_beside_the_tier_is_in_the_word_of_the_ledger() {
    let word = |usage: Value| Usage::of_document(&json!({ "usage": usage })).unwrap().billed_as();
    for (more, expected) in [
        (
            json!({"speed": "standard", "inference_geo": "not_available", "server_tool_use": {"web_search_requests": 0}}),
            None,
        ),
        (json!({"speed": "fast", "service_tier": "standard"}), Some("fast")),
        (json!({"inference_geo": "us", "service_tier": "priority"}), Some("priority+us")),
        (
            json!({"speed": "fast", "inference_geo": "us", "server_tool_use": {"web_search_requests": 2}}),
            Some("fast+us+search:2"),
        ),
    ] {
        let mut usage = json!({"input_tokens": 1, "cache_read_input_tokens": 0});
        usage.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(word(usage).as_deref(), expected, "{more}");
    }
    assert_eq!(word(json!({"prompt_tokens": 1, "speed": "fast"})).as_deref(), Some("fast"), "translated by somebody");
}

#[test]
fn a_stream_keeps_what_its_start_told_and_its_end_does_not() {
    let mut told = AnthropicTold::of(&json!({"input_tokens": 1, "cache_creation_input_tokens": 5_000, "speed": "fast",
        "inference_geo": "us", "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 5_000}}));
    told.take(AnthropicTold::of(&json!({"output_tokens": 9, "cache_creation_input_tokens": 8_000,
        "server_tool_use": {"web_search_requests": 1}})));
    let usage = told.usage().unwrap();
    assert_eq!((usage.tokens.cache_write, usage.tokens.cache_write_1h), (3_000, 5_000), "an hour's stay an hour's");
    assert_eq!(usage.billed_as().as_deref(), Some("fast+us+search:1"));
}

/// Any count, often small and sometimes absurd, or something else altogether.
fn claimed() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => (0_u64..5_000).prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => Just(json!(-3)),
    ]
}

/// A usage in which any member of any shape may stand.
fn usage_of_any_shape() -> impl Strategy<Value = Value> {
    const TOP: [&str; 12] = [
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "cached_tokens",
        "prompt_cache_hit_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "input_tokens",
        "output_tokens",
        "promptTokenCount",
        "candidatesTokenCount",
        "thoughtsTokenCount",
    ];
    const INNER: [&str; 8] = [
        "cached_tokens",
        "cache_write_tokens",
        "audio_tokens",
        "image_tokens",
        "reasoning_tokens",
        "text_tokens",
        "ephemeral_1h_input_tokens",
        "ephemeral_5m_input_tokens",
    ];
    const LISTS: [&str; 5] = [
        "prompt_tokens_details",
        "completion_tokens_details",
        "input_tokens_details",
        "output_tokens_details",
        "cache_creation",
    ];
    let members = |names: &'static [&'static str]| {
        proptest::collection::hash_map(proptest::sample::select(names), claimed(), 0..names.len()).prop_map(|map| {
            map.into_iter().map(|(name, count)| (name.to_owned(), count)).collect::<serde_json::Map<_, _>>()
        })
    };
    (members(&TOP), proptest::collection::vec((proptest::sample::select(&LISTS[..]), members(&INNER)), 0..4)).prop_map(
        |(mut top, lists)| {
            top.extend(lists.into_iter().map(|(name, inner)| (name.to_owned(), Value::Object(inner))));
            Value::Object(top)
        },
    )
}

proptest! {
    #[test]
    fn the_kinds_always_add_up_to_what_is_billed(usage in usage_of_any_shape(), native in any::<bool>()) {
        let document = if native { json!({"usageMetadata": usage}) } else { json!({"usage": usage}) };
        if let Some(usage) = Usage::of_document(&document) {
            let tokens = usage.tokens;
            let outside = [tokens.output, tokens.reasoning, tokens.audio_output, tokens.image_output];
            let output = outside.into_iter().fold(0, u64::saturating_add);
            prop_assert_eq!((tokens.input_sum(), output), (usage.prompt, usage.completion));
        }
    }

    /// Whoever tells twice tells the same: nothing is added.
    #[test]
    fn telling_anthropics_usage_again_changes_nothing(usage in usage_of_any_shape()) {
        let told = AnthropicTold::of(&usage);
        let mut again = told;
        again.take(told);
        prop_assert_eq!(again.usage(), told.usage());
    }
}
