use http::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::config::{CacheMode, Limits};
use crate::ids::TenantId;

pub(crate) fn limits() -> Limits {
    Limits {
        connections: 1,
        connections_per_ip: 1,
        h2_streams: 1,
        head_bytes: 1,
        headers: 1,
        uri_bytes: 1,
        body_bytes: 1,
        json_depth: 64,
        json_keys: 10_000,
        json_array: 100_000,
        json_string: 8 << 20,
        messages: 4,
        tools: 2,
        choices: 8,
        stop: 4,
        response_bytes: 1,
        sse_line_bytes: 1,
        sse_event_bytes: 1,
    }
}

fn read(body: &str) -> Result<Call, BadCall> {
    Call::read(Dialect::Chat, &Bytes::from(body.to_owned()), &limits(), 1.0)
}

fn chat(members: &str) -> Call {
    read(&format!(r#"{{"model":"m","messages":[{{"role":"user","content":"Hi there"}}]{members}}}"#)).unwrap()
}

fn keys(call: &Call) -> Keys {
    keys_as(call, "t", "", "tenant")
}

fn keys_as(call: &Call, tenant: &str, namespace: &str, share: &str) -> Keys {
    let tenant = TenantId::new(tenant);
    let scope = Scope { tenant: &tenant, namespace, share, upstream: "u", dialect: call.dialect, variant: "" };
    Keys::of(&SecretKey::new([7; 32]), &scope, call)
}

fn fingerprint(members: &str) -> [u8; 32] {
    keys(&chat(members)).fingerprint
}

#[test]
fn only_the_excluded_members_leave_the_key_alone() {
    let plain = fingerprint("");
    for same in [
        r#","stream":true"#,
        r#","stream":true,"stream_options":{"include_usage":true}"#,
        r#","user":"u""#,
        r#","metadata":{"a":"b"}"#,
        r#","service_tier":"flex""#,
        r#","prompt_cache_key":"k""#,
        r#","safety_identifier":"s""#,
        r#","cache":{"ttl":5}"#,
        r#","max_tokens":5"#,
        r#","max_completion_tokens":5"#,
    ] {
        assert_eq!(plain, fingerprint(same), "{same}");
    }
}

/// OmniRoute #14484: a hash that omits tools or the response format replays a forced tool call to others.
#[test]
fn regression_omniroute_14484_tools_and_response_format_are_in_the_key() {
    let plain = fingerprint("");
    for other in [
        r#","tools":[{"type":"function","function":{"name":"f"}}]"#,
        r#","tool_choice":"none""#,
        r#","response_format":{"type":"json_object"}"#,
        r#","temperature":0.5"#,
        r#","top_p":1"#,
        r#","seed":1"#,
        r#","n":1"#,
        r#","stop":"x""#,
        r#","logit_bias":{"1":2}"#,
        r#","reasoning_effort":"low""#,
        r#","parallel_tool_calls":true"#,
        r#","something_new":null"#,
        r#","cache":{"kind":"x"}"#,
        r#","cache":true"#,
    ] {
        assert_ne!(plain, fingerprint(other), "{other}");
    }
}

/// Bifrost #2791 and #3190: a hash over a map in its iteration order never hits.
#[test]
fn regression_bifrost_2791_3190_the_key_does_not_depend_on_member_order_or_blanks() {
    let one = read(r#"{"model":"m","temperature":0,"messages":[{"role":"user","content":"A"}],"x":{"a":1,"b":2}}"#);
    let two = read(
        r#"{ "x" : {"b":2, "a":1}, "messages" : [ {"content":"\u0041","role":"user"} ],
            "temperature":0, "model":"m" }"#,
    );
    assert_eq!(keys(&one.unwrap()), keys(&two.unwrap()));
}

/// LiteLLM #29086: the isolation scope must not hash the text that is allowed to vary.
#[test]
fn regression_litellm_29086_the_partition_does_not_change_with_the_last_user_turn() {
    let secret = SecretKey::new([7; 32]);
    let of = |text: &str| {
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"system","content":"s"}},{{"role":"user","content":"{text}"}}]}}"#
        );
        keys(&read(&body).unwrap())
    };
    let (one, two) = (of("What is the capital of France?"), of("Tell me the capital of France"));
    assert_eq!(one.partition(&secret, "space", None), two.partition(&secret, "space", None));
    assert_ne!(one.fingerprint, two.fingerprint);
    assert_ne!(one.partition(&secret, "space", None), one.partition(&secret, "other", None));
    assert_ne!(one.partition(&secret, "space", None), one.partition(&secret, "space", Some([0; 32])));
}

/// LiteLLM #28778: consecutive turns are nearly alike, so everything before the last turn must match exactly.
#[test]
fn regression_litellm_28778_another_history_is_another_partition() {
    let secret = SecretKey::new([7; 32]);
    let of = |history: &str| {
        let body = format!(r#"{{"model":"m","messages":[{history}{{"role":"user","content":"yes, do it"}}]}}"#);
        keys(&read(&body).unwrap()).partition(&secret, "space", None)
    };
    let all = [
        of(""),
        of(r#"{"role":"assistant","content":"Delete it?"},"#),
        of(r#"{"role":"assistant","content":"Keep it?"},"#),
        of(r#"{"role":"user","content":"Delete it?"},"#),
        of(r#"{"role":"system","content":"x"},{"role":"assistant","content":"Keep it?"},"#),
    ];
    for (i, one) in all.iter().enumerate() {
        assert!(all[..i].iter().all(|other| other != one), "history {i}");
    }
}

#[test]
fn tenant_namespace_and_share_are_in_every_key() {
    let call = chat("");
    let base = keys_as(&call, "t", "", "tenant");
    for other in [
        keys_as(&call, "t2", "", "tenant"),
        keys_as(&call, "t", "n", "tenant"),
        keys_as(&call, "t", "", "key:k"),
        // Parts must not run into each other.
        keys_as(&call, "t\u{0}", "", "tenant"),
    ] {
        let secret = SecretKey::new([7; 32]);
        assert_ne!(base.fingerprint, other.fingerprint);
        assert_ne!(base.partition(&secret, "s", None), other.partition(&secret, "s", None));
        assert_ne!(base.normalised(&secret, "hi"), other.normalised(&secret, "hi"));
    }
}

#[test]
fn requests_that_may_not_be_compared_by_similarity_say_why() {
    for (members, expected) in [
        ("", None),
        (r#","temperature":1"#, None),
        (r#","tools":[{"type":"function","function":{"name":"f"}}]"#, Some(ExactOnly::Tools)),
        (r#","functions":[]"#, Some(ExactOnly::Tools)),
        (r#","n":2"#, Some(ExactOnly::Choices)),
        (r#","seed":0"#, Some(ExactOnly::Seed)),
        (r#","logprobs":true"#, Some(ExactOnly::Logprobs)),
        (r#","logprobs":false"#, None),
        (r#","temperature":1.2"#, Some(ExactOnly::Temperature)),
    ] {
        let call = chat(members);
        assert_eq!(call.exact_only, expected, "{members}");
        assert_eq!(call.text.is_some(), expected.is_none(), "{members}");
    }
    for (message, expected) in [
        (r#"{"role":"assistant","content":"x"}"#, Some(ExactOnly::LastTurn)),
        (r#"{"role":"tool","content":"x","tool_call_id":"1"}"#, Some(ExactOnly::Tools)),
        (r#"{"role":"user","content":[{"type":"text","text":"x"}]}"#, None),
        (r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"u"}}]}"#, Some(ExactOnly::Media)),
        (r#"{"role":"user","content":"  "}"#, Some(ExactOnly::LastTurn)),
    ] {
        let call = read(&format!(r#"{{"model":"m","messages":[{message}]}}"#)).unwrap();
        assert_eq!(call.exact_only, expected, "{message}");
    }
}

#[test]
fn requests_that_keep_state_or_reach_outside_are_not_cached() {
    for (members, expected) in [
        (r#","store":true"#, Some(Uncacheable::ProviderState)),
        (r#","store":false"#, None),
        (r#","web_search_options":{}"#, Some(Uncacheable::External)),
        (r#","search_parameters":{"mode":"auto"}"#, Some(Uncacheable::External)),
        (r#","plugins":[{"id":"web"}]"#, Some(Uncacheable::External)),
        (r#","tools":[{"type":"web_search"}]"#, Some(Uncacheable::External)),
        (r#","tools":[{"type":"function","function":{"name":"f"}}]"#, None),
        (r#","modalities":["text","audio"]"#, Some(Uncacheable::Modality)),
        (r#","modalities":["text"]"#, None),
    ] {
        assert_eq!(chat(members).uncacheable, expected, "{members}");
    }
}

#[test]
fn usage_is_asked_for_and_every_other_byte_stays() {
    let usage = r#""stream_options":{"include_usage":true}"#;
    for (body, expected) in [
        (r#"{"model":"m", "messages":[{"role":"user","content":"x"}]}"#.to_owned(), None),
        (
            r#"{"model":"m", "messages":[{"role":"user","content":"x"}], "stream":true }"#.to_owned(),
            Some(format!(r#"{{"model":"m", "messages":[{{"role":"user","content":"x"}}], "stream":true ,{usage}}}"#)),
        ),
        (
            r#"{"stream":true,"stream_options":null,"model":"m","messages":[{"role":"user","content":"x"}]}"#
                .to_owned(),
            Some(format!(r#"{{"stream":true,{usage},"model":"m","messages":[{{"role":"user","content":"x"}}]}}"#)),
        ),
        (
            r#"{"stream":true,"stream_options":{"a":1},"model":"m","messages":[{"role":"user","content":"x"}]}"#
                .to_owned(),
            Some(
                r#"{"stream":true,"stream_options":{"a":1,"include_usage":true},"model":"m","messages":[{"role":"user","content":"x"}]}"#
                    .to_owned(),
            ),
        ),
        (
            r#"{"stream":true,"stream_options":{"include_usage":false},"model":"m","messages":[{"role":"user","content":"x"}]}"#
                .to_owned(),
            Some(
                r#"{"stream":true,"stream_options":{"include_usage":true},"model":"m","messages":[{"role":"user","content":"x"}]}"#
                    .to_owned(),
            ),
        ),
        (
            r#"{"model":"m","cache":{"no-cache":true},"messages":[{"role":"user","content":"x"}]}"#.to_owned(),
            Some(r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#.to_owned()),
        ),
        (
            r#"{"cache":{"ttl":1}, "model":"m","messages":[{"role":"user","content":"x"}]}"#.to_owned(),
            Some(r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#.to_owned()),
        ),
        // Not an object: nothing can be put into it.
        (r#"{"stream":true,"stream_options":[],"model":"m","messages":[{"role":"user","content":"x"}]}"#.to_owned(), None),
        // Not LiteLLM's: left for upstream.
        (r#"{"model":"m","cache":{"kind":"x"},"messages":[{"role":"user","content":"x"}]}"#.to_owned(), None),
    ] {
        let call = read(&body).unwrap();
        assert_eq!(call.body, expected.as_ref().unwrap_or(&body));
        let asks = expected.is_some_and(|expected| expected.contains("include_usage"));
        assert_eq!(call.usage_added.map(|added| added.apply(&call.body)), asks.then(|| body.into()));
    }
}

#[test]
fn token_limits_are_read_in_every_spelling_that_upstreams_take() {
    for (members, expected) in [
        (r#","max_tokens":5"#, Some(5)),
        (r#","max_tokens":5.0"#, Some(5)),
        (r#","max_tokens":5e1"#, Some(50)),
        (r#","max_tokens":null"#, None),
        (r#","max_tokens":-1"#, None),
        (r#","max_tokens":-1,"max_completion_tokens":9"#, Some(9)),
        (r#","max_tokens":5,"max_completion_tokens":100"#, Some(5)),
        (r#","max_tokens":100,"max_completion_tokens":5"#, Some(5)),
        (r#","max_tokens":99999999999999999999999"#, Some(u64::MAX)),
    ] {
        assert_eq!(chat(members).token_limit, expected, "{members}");
    }
    assert_eq!(chat(r#","n":2.0"#).choices, 2);
    assert_eq!(chat(r#","n":2.0"#).exact_only, Some(ExactOnly::Choices));
    for wrong in [r#","max_tokens":5.5"#, r#","max_tokens":"5""#, r#","n":1.5"#] {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}]{wrong}}}"#);
        assert!(read(&body).is_err(), "{wrong}");
    }
}

#[test]
fn null_in_place_of_a_value_is_no_value() {
    let nulls = r#","stream":null,"stream_options":null,"n":null,"stop":null,"temperature":null,"tools":null,
        "seed":null,"max_tokens":null,"user":null,"logprobs":null,"store":null,"functions":null,"modalities":null"#;
    let call = chat(nulls);
    assert_eq!((call.exact_only, call.uncacheable, call.stream, call.choices), (None, None, false, 1));
    let turns = r#"{"model":"m","messages":[
        {"role":"assistant","content":"b","tool_calls":null,"function_call":null,"refusal":null},
        {"role":"assistant","content":null},{"role":"wizard"},{"role":"user","content":"c"}]}"#;
    let call = read(turns).unwrap();
    assert_eq!((call.exact_only, call.text.as_deref()), (None, Some("c")));
}

#[test]
fn wrong_types_name_the_member() {
    for (body, expected) in [
        ("[]", "body"),
        (r#"{"messages":[]}"#, "model"),
        (r#"{"model":1,"messages":[]}"#, "model"),
        // A key that may use `m` only must not get at `x`, which upstreams that ignore case would take.
        (r#"{"model":"m","Model":"x","messages":[{"role":"user","content":"x"}]}"#, "Model"),
        (r#"{"model":"m"}"#, "messages"),
        (r#"{"model":"m","messages":"x"}"#, "messages"),
        (r#"{"model":"m","messages":[1]}"#, "messages[0]"),
        (r#"{"model":"m","messages":[{"role":"user"},{"content":"x"}]}"#, "messages[1]"),
        (r#"{"model":"m","stream":"yes","messages":[{"role":"user","content":"x"}]}"#, "stream"),
        (r#"{"model":"m","temperature":"hot","messages":[{"role":"user","content":"x"}]}"#, "temperature"),
        (r#"{"model":"m","n":9,"messages":[{"role":"user","content":"x"}]}"#, "n"),
        (r#"{"model":"m","n":-1,"messages":[{"role":"user","content":"x"}]}"#, "n"),
        (r#"{"model":"m","stop":["a","b","c","d","e"],"messages":[{"role":"user","content":"x"}]}"#, "stop"),
        (r#"{"model":"m","tools":[1,2,3],"messages":[{"role":"user","content":"x"}]}"#, "tools"),
    ] {
        match read(body) {
            Err(BadCall::Param { param, .. }) => assert_eq!(param, expected, "{body}"),
            other => panic!("{body} gave {other:?}"),
        }
    }
    let five = format!("[{}]", [r#"{"role":"user","content":"x"}"#; 5].join(","));
    assert!(read(&format!(r#"{{"model":"m","messages":{five}}}"#)).is_err());
}

#[test]
fn embedding_items_are_cut_out_of_the_body() {
    let body = Bytes::from_static(br#"{"input": ["a", "b\n", [1, 2]], "cache":{"ttl":1},"model":"e"}"#);
    let call = EmbeddingsCall::read(&body, &limits()).unwrap();
    assert_eq!(call.items.len(), 3);
    assert_eq!(call.body, &br#"{"input": ["a", "b\n", [1, 2]],"model":"e"}"#[..]);
    assert_eq!(call.body_for(&[2, 1]), &br#"{"input": [[1, 2],"b\n"],"model":"e"}"#[..]);
    let single = EmbeddingsCall::read(&Bytes::from_static(br#"{"model":"e","input":[1,2,3]}"#), &limits()).unwrap();
    assert_eq!(single.items.len(), 1);
    for foreign in
        [r#"{"model":"e","input":[{"image":"u"},{"text":"t"}]}"#, r#"{"model":"e","messages":[{"role":"user"}]}"#]
    {
        assert_eq!(EmbeddingsCall::read(&Bytes::from(foreign), &limits()).err(), Some(BadCall::Foreign), "{foreign}");
    }
    for bad in [r#"{"model":"e","input":[]}"#, r#"{"model":"e","input":[1,"a"]}"#, r#"{"model":"e","input":{}}"#] {
        assert!(EmbeddingsCall::read(&Bytes::from(bad), &limits()).is_err(), "{bad}");
    }
}

fn controls(pairs: &[(&'static str, &'static str)]) -> Result<Controls, BadControl> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    Controls::from_headers(&headers)
}

#[test]
fn controls_are_read_from_our_headers_and_from_aliases() {
    let all = controls(&[
        ("cache-control", "max-age=60, no-cache"),
        ("x-remora-cache", "exact"),
        ("x-remora-similarity", "0.97"),
        ("x-remora-ttl", "10m"),
        ("x-remora-namespace", "n"),
        ("x-remora-tags", "team=a, app=b"),
        ("x-remora-user", "u"),
        ("x-remora-timeout", "30s"),
        ("helicone-user-id", "ignored"),
        ("helicone-property-plan", "pro"),
    ])
    .unwrap();
    assert_eq!(all.mode, Some(CacheMode::Exact));
    assert_eq!(all.similarity, Some(0.97));
    assert_eq!(all.ttl, Some(std::time::Duration::from_secs(600)));
    assert_eq!(all.namespace.as_deref(), Some("n"));
    assert_eq!(all.tags.len(), 3);
    assert_eq!(all.timeout, Some(std::time::Duration::from_secs(30)));
    assert!(all.no_cache && !all.no_store);
    assert_eq!(all.max_age, Some(std::time::Duration::from_secs(60)));

    for (name, value, check) in [
        ("x-portkey-cache-force-refresh", "true", (|c| c.no_cache) as fn(&Controls) -> bool),
        ("x-portkey-cache-namespace", "n", |c| c.namespace.as_deref() == Some("n")),
        ("helicone-cache-enabled", "false", |c| c.mode == Some(CacheMode::Off)),
        ("helicone-cache-enabled", "true", |c| *c == Controls::default()),
        ("helicone-cache-seed", "s", |c| c.namespace.as_deref() == Some("s")),
        ("helicone-user-id", "u", |c| c.user.as_deref() == Some("u")),
        ("cf-aig-skip-cache", "true", |c| c.mode == Some(CacheMode::Off)),
        ("cf-aig-cache-ttl", "60", |c| c.ttl == Some(std::time::Duration::from_secs(60))),
        ("cf-aig-metadata", r#"{"team":"a","n":1}"#, |c| c.tags.len() == 2),
        ("x-bf-cache-ttl", "30s", |c| c.ttl == Some(std::time::Duration::from_secs(30))),
        ("x-bf-cache-threshold", "0.99", |c| c.similarity == Some(0.99)),
        ("x-bf-cache-no-store", "true", |c| c.no_store && c.mode.is_none()),
        ("cache-control", "no-store", |c| c.no_store && c.mode == Some(CacheMode::Off)),
        ("cache-control", "only-if-cached", |c| c.only_if_cached),
        // A mistake in another product's header must not fail a request.
        ("x-bf-cache-threshold", "high", |c| c.similarity.is_none()),
    ] {
        assert!(check(&controls(&[(name, value)]).unwrap()), "{name}: {value}");
    }
}

#[test]
fn a_foreign_namespace_that_cannot_be_used_goes_without_the_cache() {
    let long: &'static str = String::leak("x".repeat(300));
    for (name, value) in
        [("helicone-cache-seed", long), ("x-portkey-cache-namespace", long), ("helicone-user-id", long)]
    {
        let read = controls(&[(name, value)]).unwrap();
        assert_eq!((read.mode, read.namespace, read.user), (Some(CacheMode::Off), None, None), "{name}");
    }
    for namespace in [format!("\"{long}\""), "7".to_owned(), "[\"a\"]".to_owned()] {
        let read = chat(&format!(r#","cache":{{"namespace":{namespace}}}"#)).controls;
        assert_eq!(read.mode, Some(CacheMode::Off), "{namespace}");
        assert_eq!(Controls::default().or(read).mode, Some(CacheMode::Off));
    }
    assert_eq!(chat(r#","cache":{"namespace":null}"#).controls, Controls::default());
}

#[test]
fn a_mistake_in_our_own_header_is_told() {
    for (name, value) in [
        ("x-remora-cache", "on"),
        ("x-remora-similarity", "1.5"),
        ("x-remora-similarity", "NaN"),
        ("x-remora-ttl", "soon"),
        ("x-remora-timeout", "0"),
        ("x-remora-tags", "team"),
        ("x-remora-tags", "a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1,i=1,j=1,k=1"),
        ("x-remora-namespace", ""),
    ] {
        assert_eq!(controls(&[(name, value)]).unwrap_err().header, name, "{value}");
    }
}

#[test]
fn an_age_that_cannot_be_read_accepts_nothing() {
    use std::time::Duration;
    for (value, expected) in [
        ("max-age=60, max-age=5", Duration::from_secs(5)),
        ("max-age=\"7\"", Duration::from_secs(7)),
        ("max-age=99999999999999999999", Duration::from_secs(u64::MAX)),
        ("max-age=18446744073709551615", Duration::from_secs(u64::MAX)),
        ("max-age=-1", Duration::ZERO),
        ("max-age", Duration::ZERO),
        ("max-age=soon", Duration::ZERO),
    ] {
        assert_eq!(controls(&[("cache-control", value)]).unwrap().max_age, Some(expected), "{value}");
    }
    let mut headers = HeaderMap::new();
    headers.insert("cache-control", HeaderValue::from_bytes(b"x=\xff, no-store").unwrap());
    assert!(Controls::from_headers(&headers).unwrap().no_store);
}

#[test]
fn no_duration_in_a_header_is_too_much() {
    for value in ["1e300", "18446744073709551615", "1e19", "-1", "NaN", "inf", "99999999999999999999d", "0.0000001"] {
        let value: &'static str = String::leak(value.to_owned());
        for name in ["x-remora-ttl", "x-remora-timeout", "cf-aig-cache-ttl", "x-bf-cache-ttl"] {
            let _ = controls(&[(name, value)]);
        }
    }
}

#[test]
fn tags_of_other_gateways_never_refuse_our_own() {
    let own = "a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1,i=1,j=1";
    for pairs in
        [[("x-remora-tags", own), ("helicone-property-k", "1")], [("helicone-property-k", "1"), ("x-remora-tags", own)]]
    {
        assert_eq!(controls(&pairs).unwrap().tags.len(), 10);
    }
}

#[test]
fn off_wins_over_any_other_mode_whatever_the_order() {
    let both = controls(&[("x-remora-cache", "semantic"), ("cache-control", "no-store")]).unwrap();
    assert_eq!(both.mode, Some(CacheMode::Off));
}

#[test]
fn the_tier_of_service_that_is_asked_for_is_known_and_another_word_is_the_standard_one() {
    for (tier, service) in [
        (r#","service_tier":"flex""#, Service::Flex),
        (r#","service_tier":"priority""#, Service::Priority),
        (r#","service_tier":"auto""#, Service::Standard),
        (r#","service_tier":7"#, Service::Standard),
        ("", Service::Standard),
    ] {
        assert_eq!(chat(tier).service, service, "{tier}");
    }
}
