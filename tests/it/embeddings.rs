//! Embeddings: cached item by item, and never re-encoded.

use bytes::Bytes;
use http::Method;
use remora::simulate::Options;
use serde_json::{Value, json};

use crate::rig::{Answer, Plan, Rig};

async fn embed(rig: &Rig, body: &Value) -> Answer {
    rig.send(Method::POST, "/v1/embeddings", "sk-a", &[], Bytes::from(body.to_string())).await
}

fn asked(input: &Value) -> Value {
    json!({ "model": "text-embedding-3-small", "dimensions": 8, "input": input })
}

/// The text of each item's vector, as it stands in the body.
fn vectors(answer: &Answer) -> Vec<String> {
    let text = answer.text();
    let after = |part: &str| {
        let end = part.find([']', '}']).unwrap();
        part[..end].trim_end_matches(',').to_owned()
    };
    text.split("\"embedding\":").skip(1).map(after).collect()
}

fn upstream_input(rig: &Rig) -> Value {
    let body: Value = serde_json::from_slice(&rig.sim.last().unwrap().body).unwrap();
    body["input"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_come_back_byte_for_byte() {
    let rig = Rig::start().await;
    for format in ["float", "base64"] {
        let mut body = asked(&json!(["one", "two", "three"]));
        body["encoding_format"] = format.into();
        let (first, again) = (embed(&rig, &body).await, embed(&rig, &body).await);
        assert_eq!((first.cache(), again.cache()), ("MISS", "HIT"), "{format}");
        assert_eq!(vectors(&first).len(), 3);
        assert_eq!(vectors(&again), vectors(&first), "{format}");
        assert_eq!(again.json(), first.json(), "{format}: the same list, model and usage");
        assert_eq!(again.header("x-remora-tier"), "exact");
        assert_eq!(first.header("cache-status"), "remora; fwd=miss; stored; detail=not_stored");
    }
    assert_eq!(rig.sim.stats().requests, 2, "the format is part of the key");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_missing_goes_upstream() {
    let rig = Rig::start().await;
    let all = embed(&rig, &asked(&json!(["a", "bb", "ccc", "dddd", "eeeee"]))).await;
    let whole = vectors(&all);
    let mixed = embed(&rig, &asked(&json!(["new one", "ccc", "new two", "a"]))).await;
    assert_eq!(mixed.cache(), "MISS");
    assert_eq!(upstream_input(&rig), json!(["new one", "new two"]), "in order");
    let got = vectors(&mixed);
    assert_eq!((&got[1], &got[3]), (&whole[2], &whole[0]));
    let data = mixed.json()["data"].clone();
    for (index, item) in data.as_array().unwrap().iter().enumerate() {
        assert_eq!((&item["index"], &item["object"]), (&json!(index), &json!("embedding")));
    }
    assert_eq!(mixed.json()["usage"]["prompt_tokens"], 4, "what was billed for now: two texts of two tokens");
    let row = rig.row(&mixed).await;
    assert_eq!((&row["tokens"]["input"], &row["tokens"]["source"]), (&json!(4), &json!("billed")));

    let hit = embed(&rig, &asked(&json!(["new two", "new one"]))).await;
    assert_eq!(hit.cache(), "HIT");
    assert_eq!(vectors(&hit), [got[2].clone(), got[0].clone()]);
    assert_eq!(hit.json()["usage"]["prompt_tokens"], 4);
    let single = embed(&rig, &asked(&json!("ccc"))).await;
    assert_eq!((single.cache(), vectors(&single)), ("HIT", vec![whole[2].clone()]), "a text alone is the same item");
    assert_eq!(rig.sim.stats().requests, 2);
    assert_eq!(rig.row(&single).await["tokens"]["source"], "replayed");
}

#[tokio::test(flavor = "multi_thread")]
async fn arrays_of_tokens_are_items_too() {
    let rig = Rig::start().await;
    let one = embed(&rig, &asked(&json!([1, 2, 3]))).await;
    assert_eq!((one.cache(), vectors(&one).len()), ("MISS", 1), "{}", one.text());
    let two = embed(&rig, &asked(&json!([[1, 2, 3], [4, 5]]))).await;
    assert_eq!(upstream_input(&rig), json!([[4, 5]]));
    assert_eq!(vectors(&two)[0], vectors(&one)[0]);
    assert_eq!(embed(&rig, &asked(&json!([[4, 5]]))).await.cache(), "HIT");
    assert_eq!(embed(&rig, &asked(&json!([4, 5]))).await.cache(), "HIT");
    assert_eq!(embed(&rig, &asked(&json!("[4,5]"))).await.cache(), "MISS", "a text that looks like tokens is a text");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_shapes_a_vector_is_in_the_key() {
    let rig = Rig::start().await;
    let variants = [
        json!({ "model": "text-embedding-3-small", "input": "x", "dimensions": 8 }),
        json!({ "model": "text-embedding-3-large", "input": "x", "dimensions": 8 }),
        json!({ "model": "text-embedding-3-small", "input": "x", "dimensions": 16 }),
        json!({ "model": "text-embedding-3-small", "input": "x", "dimensions": 8, "encoding_format": "base64" }),
        json!({ "model": "text-embedding-3-small", "input": "X", "dimensions": 8 }),
        json!({ "model": "text-embedding-3-small", "input": "x", "dimensions": 8, "task": "retrieval" }),
    ];
    for variant in &variants {
        assert_eq!(embed(&rig, variant).await.cache(), "MISS", "{variant}");
    }
    for variant in &variants {
        let mut named = variant.clone();
        named["user"] = "ann".into();
        assert_eq!(embed(&rig, &named).await.cache(), "HIT", "{variant}");
    }
    let other = Bytes::from(variants[0].to_string());
    assert_eq!(rig.send(Method::POST, "/v1/embeddings", "sk-b", &[], other).await.cache(), "MISS", "another caller");
}

#[tokio::test(flavor = "multi_thread")]
async fn controls_hold_for_embeddings() {
    let rig = Rig::start().await;
    let body = Bytes::from(asked(&json!(["x", "y"])).to_string());
    let go =
        async |header: (&str, &str)| rig.send(Method::POST, "/v1/embeddings", "sk-a", &[header], body.clone()).await;
    assert_eq!(go(("cache-control", "only-if-cached")).await.status, 504);
    assert_eq!(go(("cache-control", "no-store")).await.cache(), "BYPASS");
    assert_eq!(go(("x-remora-user", "ann")).await.cache(), "MISS");
    assert_eq!(go(("x-remora-user", "ann")).await.cache(), "HIT");
    assert_eq!(go(("cache-control", "no-cache")).await.cache(), "REFRESH");
    assert_eq!(go(("x-remora-namespace", "n")).await.cache(), "MISS");
    let row = rig.row(&go(("x-remora-tags", "a=b")).await).await;
    assert_eq!(
        (&row["dialect"], &row["tags"], &row["outcome"]),
        (&json!("embeddings"), &json!({ "a": "b" }), &json!("hit"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_upstream_passes_and_nothing_is_stored() {
    let rig = Rig::with(Plan { simulate: Options::default(), ..Plan::default() }).await;
    let mut body = asked(&json!("x"));
    body["dimensions"] = 99_999.into();
    for _ in 0..2 {
        let answer = embed(&rig, &body).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-remora-entry")), (400, ""));
        assert_eq!(answer.json()["error"]["param"], "dimensions", "upstream's own words");
        assert_eq!(rig.row(&answer).await["outcome"], "failed");
    }
    assert_eq!(rig.sim.stats().requests, 2);
}
