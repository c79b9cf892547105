//! Mistakes that other caching gateways have made and mended, each as a test under the name of its report.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::canned::{Canned, chat_answer};
use crate::rig::{Answer, Plan, Rig, bag_of_letters, chat, chat_stream};
use remora::embed::Embedder;

async fn patient() -> Rig {
    Rig::with_model().await
}

fn said(text: &str, more: &Value) -> Value {
    let mut body = chat(text);
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The isolation scope hashed the whole conversation, the last turn with it: no reworded prompt could ever hit.
#[tokio::test(flavor = "multi_thread")]
async fn litellm_29086_a_reworded_prompt_is_a_hit() {
    let rig = patient().await;
    let asked = |text: &str| {
        json!({ "model": "gpt-4o-mini", "temperature": 0, "messages": [
            { "role": "system", "content": "You are terse." }, { "role": "user", "content": text } ] })
    };
    let first = rig.chat("sk-a", &asked("What is the capital of France?")).await;
    let near = rig.chat("sk-a", &asked("What is the capital city of France?")).await;
    assert_eq!((near.cache(), near.header("x-remora-tier")), ("HIT", "semantic"), "{}", near.reason());
    assert_eq!(near.content(), first.content());
    let mut other = asked("What is the capital city of France?");
    other["messages"][0]["content"] = "You are verbose.".into();
    assert_eq!(rig.chat("sk-a", &other).await.cache(), "MISS", "the system turn must match exactly");
    assert_eq!(rig.sim.stats().requests, 2);
}

/// All prompts ended up under one key, so every question got the first answer.
#[tokio::test(flavor = "multi_thread")]
async fn litellm_12234_different_questions_never_lead_to_one_entry() {
    let rig = patient().await;
    let questions = [
        "What is the capital of France?",
        "How do I boil an egg?",
        "Write a haiku about autumn leaves.",
        "Explain the second law of thermodynamics.",
        "Who painted the Mona Lisa?",
        "Translate 'good morning' into Japanese.",
    ];
    let mut entries = Vec::new();
    for question in questions {
        let answer = rig.chat("sk-a", &chat(question)).await;
        assert_eq!(answer.cache(), "MISS", "{question}: {}", answer.text());
        assert!(answer.content().contains(question), "{}", answer.content());
        entries.push(answer.header("x-remora-entry").to_owned());
    }
    let mut distinct = entries.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), questions.len());
    for (question, entry) in questions.iter().zip(&entries) {
        let again = rig.chat("sk-a", &chat(question)).await;
        assert_eq!((again.cache(), again.header("x-remora-entry")), ("HIT", entry.as_str()));
        assert!(again.content().contains(question));
    }
}

/// The key was made of model, temperature and messages only: an answer made for one tool was served for another.
#[tokio::test(flavor = "multi_thread")]
async fn omniroute_14484_what_shapes_the_answer_is_in_the_key() {
    let rig = Rig::start().await;
    let tool = |name: &str| json!([{ "type": "function", "function": { "name": name } }]);
    let schema = |name: &str| {
        json!({ "type": "json_schema", "json_schema": { "name": "s", "schema":
            { "type": "object", "properties": { name: { "type": "string" } } } } })
    };
    let variants = [
        json!({}),
        json!({ "tools": tool("get_weather") }),
        json!({ "tools": tool("get_time") }),
        json!({ "tools": tool("get_weather"), "tool_choice": "none" }),
        json!({ "tools": tool("get_weather"), "tool_choice": "required" }),
        json!({ "tools": tool("get_weather"), "parallel_tool_calls": false }),
        json!({ "response_format": { "type": "json_object" } }),
        json!({ "response_format": schema("city") }),
        json!({ "response_format": schema("town") }),
        json!({ "temperature": 0.5 }),
        json!({ "top_p": 0.5 }),
        json!({ "seed": 1 }),
        json!({ "stop": ["x"] }),
        json!({ "logit_bias": { "50256": -100 } }),
        json!({ "frequency_penalty": 0.5 }),
        json!({ "presence_penalty": 0.5 }),
        json!({ "n": 2 }),
        json!({ "logprobs": true }),
        json!({ "reasoning_effort": "low" }),
        json!({ "verbosity": "low" }),
        json!({ "a_member_nobody_knows": 1 }),
        json!({ "a_member_nobody_knows": 1.0 }),
    ];
    for (index, variant) in variants.iter().enumerate() {
        let answer = rig.chat("sk-a", &said("What is the weather?", variant)).await;
        assert_eq!(answer.cache(), "MISS", "{variant}: {}", answer.text());
        assert_eq!(rig.sim.stats().requests, index as u64 + 1, "{variant}");
    }
    for variant in &variants {
        let again = rig.chat("sk-a", &said("What is the weather?", variant)).await;
        assert_eq!((again.cache(), again.header("x-remora-tier")), ("HIT", "exact"), "{variant}: {}", again.reason());
    }
}

/// Members that change how an answer is delivered, billed or attributed split the cache for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_shape_the_answer_is_not_in_the_key() {
    let rig = Rig::start().await;
    rig.chat("sk-a", &chat("Hello there")).await;
    for more in [
        json!({ "user": "u" }),
        json!({ "metadata": { "a": "b" } }),
        json!({ "service_tier": "flex" }),
        json!({ "prompt_cache_key": "k" }),
        json!({ "safety_identifier": "s" }),
        json!({ "stream": false }),
        json!({ "max_tokens": 4000 }),
    ] {
        let answer = rig.chat("sk-a", &said("Hello there", &more)).await;
        assert_eq!((answer.cache(), answer.header("x-remora-tier")), ("HIT", "exact"), "{more}");
    }
}

fn identity(answer: &Answer) -> (String, u64) {
    let json = answer.json();
    (json["id"].as_str().unwrap().to_owned(), json["created"].as_u64().unwrap())
}

/// A hit was the first answer byte for byte, with its id: clients that store answers by id lost the second.
#[tokio::test(flavor = "multi_thread")]
async fn semantic_router_940_a_hit_has_an_id_and_a_time_of_its_own() {
    let upstream =
        Canned::start(|_| vec![crate::canned::response("application/json", "", chat_answer("Hello").as_bytes())]).await;
    let rig = upstream.rig().await;
    let first = rig.chat("sk-a", &chat("Hello")).await;
    assert_eq!(identity(&first), ("chatcmpl-up".to_owned(), 1), "a miss is what upstream said");
    let mut seen = vec![identity(&first).0];
    for _ in 0..3 {
        let hit = rig.chat("sk-a", &chat("Hello")).await;
        let (id, created) = identity(&hit);
        assert!(id.starts_with("chatcmpl-") && !seen.contains(&id), "{id}");
        assert!(created > 1_700_000_000, "{created}");
        seen.push(id);
        let (mut one, mut two) = (first.json(), hit.json());
        for member in ["id", "created"] {
            one.as_object_mut().unwrap().remove(member);
            two.as_object_mut().unwrap().remove(member);
        }
        assert_eq!(one, two, "nothing else may differ");
    }
    let streamed = rig.chat("sk-a", &chat_stream("Hello")).await;
    assert_eq!(streamed.cache(), "HIT");
    let events: Vec<Value> = crate::streams::events(&streamed);
    let id = events[0]["id"].as_str().unwrap().to_owned();
    assert!(!seen.contains(&id));
    for event in &events {
        assert_eq!(event["id"], *id, "one id for the whole stream");
        assert!(event["created"].as_u64().unwrap() > 1_700_000_000);
        assert_eq!(event["model"], "m");
    }
    assert_eq!(upstream.requests().len(), 1);
}

/// The prompt was embedded once to look it up and once more to store it.
#[tokio::test(flavor = "multi_thread")]
async fn semantic_router_2290_a_prompt_is_embedded_once() {
    let rig = Rig::with(Plan { embedder: Some(Embedder::fixed(8, bag_of_letters)), ..Plan::default() }).await;
    let count = || (rig.app().cache.embedder().inferences(), rig.app().cache.embedder().cache_hits());
    let first = rig.chat("sk-a", &chat("What is the capital of France?")).await;
    assert_eq!(first.cache(), "MISS");
    assert!(!first.header("x-remora-entry").is_empty(), "it was stored");
    assert_eq!(count(), (1, 0), "one vector serves look-up and storing");
    let again = rig.chat("sk-a", &chat("What is the capital of France?")).await;
    assert_eq!((again.cache(), count()), ("HIT", (1, 0)), "an exact hit needs no vector");
    let same = rig.chat("sk-a", &chat("what is the capital of france")).await;
    assert_eq!((same.cache(), count()), ("HIT", (1, 0)), "nor does a prompt in the same words");
    let stream = rig.chat("sk-a", &chat_stream("Something else entirely, at some length")).await;
    assert_eq!((stream.cache(), count()), ("MISS", (2, 0)));
}

/// Members of objects came out of a map in random order, so that equal requests had different keys.
#[tokio::test(flavor = "multi_thread")]
async fn bifrost_2791_3190_the_order_of_members_does_not_matter() {
    let rig = Rig::start().await;
    let send = async |text: &str| {
        rig.send(Method::POST, "/v1/chat/completions", "sk-a", &[], Bytes::from(text.to_owned())).await
    };
    let one = send(
        r#"{"model":"m","temperature":0,"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"number"}}}}}],"messages":[{"role":"user","content":"Où est la gare?"}]}"#,
    )
    .await;
    let two = send(
        r#"{ "messages": [ {"content":"O\u00f9 est la gare?","role":"user"} ], "model":"m",
            "tools":[{"function":{"parameters":{"properties":{"b":{"type":"number"},"a":{"type":"string"}},"type":"object"},"name":"f"},"type":"function"}],
            "temperature":0 }"#,
    )
    .await;
    assert_eq!((one.cache(), two.cache()), ("MISS", "HIT"), "{}", two.reason());
    assert_eq!(two.header("x-remora-tier"), "exact");
    assert_eq!(two.header("x-remora-entry"), one.header("x-remora-entry"));
    let number =
        send(r#"{"model":"m","temperature":0.0,"messages":[{"role":"user","content":"Où est la gare?"}]}"#).await;
    assert_eq!(number.cache(), "MISS", "other members");
}

/// Streams were looked up and never stored.
#[tokio::test(flavor = "multi_thread")]
async fn litellm_24579_streams_are_stored() {
    let rig = Rig::start().await;
    let first = rig.chat("sk-a", &chat_stream("Tell me a story")).await;
    assert_eq!(first.cache(), "MISS");
    let streamed = rig.chat("sk-a", &chat_stream("Tell me a story")).await;
    let whole = rig.chat("sk-a", &chat("Tell me a story")).await;
    assert_eq!((streamed.cache(), whole.cache()), ("HIT", "HIT"));
    assert_eq!(streamed.streamed(), first.streamed());
    assert_eq!(whole.content(), first.streamed());
    assert_eq!(rig.sim.stats().requests, 1);
}

/// Consecutive turns are nearly alike, and so were their embeddings: a conversation got the answer to its last turn.
#[tokio::test(flavor = "multi_thread")]
async fn litellm_28778_another_history_never_gets_a_stale_turn() {
    let rig = patient().await;
    let turn = |history: &[(&str, &str)], last: &str| {
        let mut messages: Vec<Value> =
            history.iter().map(|(role, content)| json!({ "role": role, "content": content })).collect();
        messages.push(json!({ "role": "user", "content": last }));
        json!({ "model": "gpt-4o-mini", "messages": messages })
    };
    let deleting = [("user", "Delete my account"), ("assistant", "Shall I delete it?")];
    let keeping = [("user", "Keep my account"), ("assistant", "Shall I keep it?")];
    let histories: [&[(&str, &str)]; 4] = [&[], &deleting, &keeping, &deleting[..1]];
    let mut answers = Vec::new();
    for history in histories {
        let answer = rig.chat("sk-a", &turn(history, "Yes, do that please")).await;
        assert_eq!(answer.cache(), "MISS", "{history:?} {}", answer.text());
        answers.push(answer.content());
    }
    for (history, first) in histories.iter().zip(&answers) {
        let again = rig.chat("sk-a", &turn(history, "Yes, do that please")).await;
        assert_eq!((again.cache(), &again.content()), ("HIT", first));
        assert_eq!(answers.iter().filter(|other| *other == first).count(), 1, "the answer names its conversation");
    }
    let mut growing = turn(&[], "Count on");
    for _ in 0..5 {
        let answer = rig.chat("sk-a", &growing).await;
        assert_eq!(answer.cache(), "MISS", "each turn of a growing conversation is new");
        let messages = growing["messages"].as_array_mut().unwrap();
        messages.push(json!({ "role": "assistant", "content": answer.content() }));
        messages.push(json!({ "role": "user", "content": "Count on" }));
    }
}

/// A body that ended early was stored as if it were whole.
#[tokio::test(flavor = "multi_thread")]
async fn pingora_a_truncated_body_is_never_stored() {
    let rig = Rig::start().await;
    let faults = ["truncate", "cut=0", "reset-after=0", "empty", "rubbish"];
    for fault in faults {
        let question = chat(&format!("A question with the fault {fault}"));
        let broken = rig.chat_with(&format!("sk-{fault}"), &[("x-simulate", fault)], &question).await;
        assert_eq!(broken.status, 502, "{fault}: {}", broken.text());
        let again = rig.chat(&format!("sk-{fault}"), &question).await;
        assert_eq!((again.status.as_u16(), again.cache()), (200, "MISS"), "{fault}");
    }
    let stream_faults =
        ["cut=3", "reset-after=3", "error-event=3", "no-done", "no-final-blank", "no-finish", "no-choices"];
    for fault in stream_faults {
        let question = chat_stream(&format!("A streamed question with the fault {fault}"));
        let broken = rig.chat_with(&format!("sk-{fault}"), &[("x-simulate", fault)], &question).await;
        assert_eq!(broken.status, 200, "{fault}");
        let again = rig.chat(&format!("sk-{fault}"), &question).await;
        assert_eq!((again.status.as_u16(), again.cache()), (200, "MISS"), "{fault}: {}", again.reason());
    }
    for fault in ["finish=length", "finish=content_filter", "no-finish", "no-choices", "error-event=0"] {
        let question = chat(&format!("A whole question with the fault {fault}"));
        let odd = rig.chat_with(&format!("sk-{fault}"), &[("x-simulate", fault)], &question).await;
        assert_eq!((odd.status.as_u16(), odd.header("x-remora-entry")), (200, ""), "{fault}");
        assert!(!odd.reason().is_empty() && odd.reason() != "no_neighbour", "{fault}: says why it was not stored");
        assert_eq!(rig.chat(&format!("sk-{fault}"), &question).await.cache(), "MISS", "{fault}");
    }
    assert_eq!(rig.sim.stats().requests, 2 * (faults.len() + stream_faults.len() + 5) as u64);
}
