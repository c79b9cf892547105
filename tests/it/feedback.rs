//! Feedback: what was wrong is not served again, and nobody reaches what is not theirs.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::admin_api::problem;
use crate::child::{Home, says, until};
use crate::rig::{Answer, Rig, chat};
use crate::scripted::{SHOP, Scripted, is_served, line, metric, rows, shop, told};

const TIDES: &str = "Tell me about the tides";
const TIDES_PLEASE: &str = "Please tell me about the tides";
const LOOSELY: &str = "Describe the tides loosely";
const MOON: &str = "The moon pulls the sea.";

/// As a caller says it.
async fn say(rig: &Rig, key: &str, body: &Value) -> Answer {
    rig.send(Method::POST, "/v1/feedback", key, &[], Bytes::from(body.to_string())).await
}

fn about(answer: &Answer, verdict: &str) -> Value {
    json!({ "request_id": answer.header("x-remora-request-id"), "verdict": verdict })
}

/// As the operator says it.
async fn operator(rig: &Rig, body: Value) -> Answer {
    rig.admin(Method::POST, "/admin/v1/cache/feedback", Some(body)).await
}

async fn labels(rig: &Rig) -> Value {
    rows(rig, "/admin/v1/cache/learners").await[0]["labels"].clone()
}

fn served_to(told: &Value) -> Vec<&str> {
    told["served_to"].as_array().unwrap().iter().map(|row| row["request_id"].as_str().unwrap()).collect()
}

/// The shop with an answer about the tides.
async fn stocked() -> (Scripted, Rig) {
    let upstream = Scripted::start(&[(TIDES, MOON), (LOOSELY, MOON), (TIDES_PLEASE, "Twice a day.")]).await;
    let rig = upstream.rig(shop).await;
    assert_eq!(rig.chat(SHOP[0], &chat(TIDES)).await.cache(), "MISS");
    rig.settle().await;
    (upstream, rig)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bad_hit_is_not_served_again_and_teaches_once() {
    let (_upstream, mut rig) = stocked().await;
    let bad = rig.chat(SHOP[0], &chat(TIDES_PLEASE)).await;
    let own = rig.chat(SHOP[0], &chat(TIDES)).await;
    let other = rig.chat(SHOP[1], &chat(TIDES_PLEASE)).await;
    assert_eq!((line(&bad), line(&other)), (("HIT", "semantic", ""), ("HIT", "semantic", "")));
    rig.settle().await;
    let done = say(&rig, SHOP[0], &about(&bad, "bad")).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text());
    let done = done.json();
    assert_eq!((&done["entry"], &done["learnt"]), (&json!(bad.header("x-remora-entry")), &json!(true)));
    assert!(done["unlinked_point"].is_string(), "{done}");
    assert_eq!(served_to(&done), [own.header("x-remora-request-id")], "a caller sees its own key's requests only");
    for prompt in [TIDES, TIDES_PLEASE] {
        assert!(!is_served(&rig, SHOP[0], &chat(prompt)).await, "{prompt}");
    }
    let path = format!("/admin/v1/cache/decisions/{}", bad.header("x-remora-request-id"));
    let decision = told(&rig, &path).await;
    assert_eq!((&decision["right"], &decision["label"]), (&json!(false), &json!("feedback")));
    assert_eq!(labels(&rig).await, 1);

    let again = say(&rig, SHOP[0], &about(&bad, "bad")).await.json();
    assert_eq!((&again["learnt"], &again["unlinked_point"]), (&json!(false), &Value::Null));
    assert_eq!(labels(&rig).await, 1, "saying it twice makes it no truer");
    assert_eq!(metric(&rig, "remora_cache_labels_total", &["source=\"feedback\"", "label=\"wrong\""]).await, 1.0);

    rig.restart().await;
    for prompt in [TIDES, TIDES_PLEASE] {
        assert!(!is_served(&rig, SHOP[0], &chat(prompt)).await, "after a restart: {prompt}");
    }
    assert_eq!(labels(&rig).await, 1);
    assert_eq!(rig.chat(SHOP[0], &chat(TIDES_PLEASE)).await.content(), "Twice a day.");
}

/// A group's other prompts would lead the same question to the same wrong answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bad_hit_on_a_group_of_several_prompts_is_not_served_again_either() {
    let upstream = Scripted::start(&[(TIDES, MOON), ("Explain the tides", MOON)]).await;
    let rig = upstream.rig(|_| {}).await;
    rig.chat("sk-a", &chat(TIDES)).await;
    // Only an equal request is asked for, so it is a miss; its answer joins the first.
    let near = [("x-remora-similarity", "1")];
    rig.chat_with("sk-a", &near, &chat("Explain the tides, loosely")).await;
    upstream.says("Loosely explain the tides", MOON);
    rig.chat_with("sk-a", &near, &chat("Loosely explain the tides")).await;
    rig.settle().await;
    let bad = rig.chat("sk-a", &chat(TIDES_PLEASE)).await;
    assert_eq!(line(&bad), ("HIT", "semantic", ""));
    rig.settle().await;
    let done = operator(&rig, about(&bad, "bad")).await.json();
    assert_eq!(done["entry"], bad.header("x-remora-entry"));
    let asked = rig.chat_with("sk-a", &[("cache-control", "only-if-cached")], &chat(TIDES_PLEASE)).await;
    assert_eq!(asked.status, StatusCode::GATEWAY_TIMEOUT, "{}", asked.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bad_answer_that_was_no_near_hit_is_removed() {
    let (upstream, mut rig) = stocked().await;
    let hit = rig.chat(SHOP[0], &chat(TIDES)).await;
    assert_eq!(line(&hit), ("HIT", "exact", ""));
    rig.settle().await;
    let done = say(&rig, SHOP[0], &about(&hit, "bad")).await.json();
    assert_eq!(done["removed_entry"], hit.header("x-remora-entry"));
    assert_eq!((&done["learnt"], &done["unlinked_point"]), (&json!(false), &Value::Null), "{done}");
    assert!(!is_served(&rig, SHOP[0], &chat(TIDES)).await);
    rig.restart().await;
    assert!(!is_served(&rig, SHOP[0], &chat(TIDES)).await, "after a restart");
    assert_eq!(upstream.count(), 1);
}

/// The audit, without the tenants that the configuration declared at the start.
async fn trail(rig: &Rig) -> Vec<Value> {
    let mut rows = rows(rig, "/admin/v1/audit").await;
    rows.retain(|row| row["action"] != "tenant.declare");
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_reaches_a_request_of_another_key_nor_one_that_never_was() {
    let (_upstream, rig) = stocked().await;
    let hit = rig.chat(SHOP[0], &chat(TIDES_PLEASE)).await;
    rig.settle().await;
    let unknown = json!({ "request_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "verdict": "bad" });
    for (key, body) in [(SHOP[1], about(&hit, "bad")), (SHOP[0], unknown.clone()), (SHOP[2], about(&hit, "good"))] {
        let refused = say(&rig, key, &body).await;
        assert_eq!(
            (refused.status, &refused.json()["error"]["code"]),
            (StatusCode::NOT_FOUND, &json!("unknown_request"))
        );
    }
    problem(&operator(&rig, unknown).await, 404, &["01ARZ3NDEKTSV4RRFFQ69G5FAV"]);
    assert_eq!(say(&rig, "rk-nobody-0123456789abcdef", &about(&hit, "bad")).await.status, StatusCode::UNAUTHORIZED);
    assert!(is_served(&rig, SHOP[0], &chat(TIDES)).await && is_served(&rig, SHOP[0], &chat(TIDES_PLEASE)).await);
    assert_eq!(labels(&rig).await, 0);
    assert_eq!(trail(&rig).await, Vec::<Value>::new(), "what was refused leaves no row");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn praise_of_a_caller_teaches_nothing_and_that_of_the_operator_does() {
    let (_upstream, rig) = stocked().await;
    let hit = rig.chat(SHOP[0], &chat(TIDES_PLEASE)).await;
    let other = rig.chat(SHOP[1], &chat(TIDES_PLEASE)).await;
    rig.settle().await;
    assert_eq!(say(&rig, SHOP[0], &about(&hit, "good")).await.json()["learnt"], false);
    assert_eq!(labels(&rig).await, 0);
    let mut body = about(&hit, "good");
    body["reason"] = json!("read and found right");
    let done = operator(&rig, body).await.json();
    assert_eq!((&done["learnt"], &done["tenant"]), (&json!(true), &json!("shop")));
    assert_eq!(served_to(&done), [other.header("x-remora-request-id")], "the operator sees all keys");
    assert_eq!(done["served_to"][0]["key"], "shop/two");
    assert_eq!(labels(&rig).await, 1);
    assert!(is_served(&rig, SHOP[0], &chat(TIDES_PLEASE)).await);
    let trail = trail(&rig).await;
    assert_eq!(trail.len(), 1);
    assert_eq!((&trail[0]["action"], &trail[0]["actor"]), (&json!("cache.feedback"), &json!("loopback")));
    assert_eq!((&trail[0]["id"], &trail[0]["reason"]), (&done["audit"], &json!("read and found right")));
    assert_eq!(trail[0]["what"], about(&hit, "good"));
    assert_eq!((&trail[0]["result"]["learnt"], &trail[0]["result"]["served_to"]), (&json!(true), &json!(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn feedback_that_cannot_be_read_is_refused_with_what_is_wrong() {
    let (_upstream, rig) = stocked().await;
    let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    for (body, word) in [
        (json!({ "request_id": "x", "verdict": "bad" }), "26 characters"),
        (json!({ "request_id": id, "verdict": "meh" }), "good"),
        (json!({ "request_id": id, "verdict": "bad", "within_hours": 0 }), "within_hours"),
        (json!({ "request_id": id, "verdict": "bad", "within_hours": 100_000 }), "8760"),
        (json!({ "request_id": id }), "verdict"),
        (json!({ "request_id": id, "verdict": "bad", "colour": "blue" }), "colour"),
        (json!([]), "request_id"),
    ] {
        let refused = say(&rig, SHOP[0], &body).await;
        assert_eq!(
            (refused.status, &refused.json()["error"]["code"]),
            (StatusCode::BAD_REQUEST, &json!("bad_feedback"))
        );
        assert!(refused.json()["error"]["message"].as_str().unwrap().contains(word), "{}", refused.text());
        let refused = operator(&rig, body.clone()).await;
        assert!(matches!(refused.status.as_u16(), 400 | 422), "{body}: {}", refused.text());
    }
    let long = json!({ "request_id": id, "verdict": "bad", "reason": "x".repeat(1_001) });
    problem(&operator(&rig, long).await, 400, &["`reason`", "1001"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_command_line_gives_feedback_and_shows_what_was_learnt_and_decided() {
    let (_upstream, rig) = stocked().await;
    let hit = rig.chat(SHOP[0], &chat(TIDES_PLEASE)).await;
    let other = rig.chat(SHOP[1], &chat(TIDES_PLEASE)).await;
    rig.settle().await;
    let admin = format!("http://{}", rig.app().admin);
    let home = Home::nowhere();
    let cli = async |args: &[&str]| home.run(&[args, &["--admin", &admin]].concat()).await;
    let id = hit.header("x-remora-request-id");

    let shown = cli(&["cache", "decisions", "--tenant", "shop", "--since", "1h"]).await;
    says(shown.ok(), &["verdict", "accept", "0.9700", "serve", id]);
    assert_eq!(shown.out.lines().count(), 3, "a head and two rows: {}", shown.out);
    assert_eq!(cli(&["cache", "decisions", "--cursor", id]).await.ok().lines().count(), 2);
    says(cli(&["cache", "decisions", id]).await.ok(), &[id, "would_serve", "true", "cosine"]);
    says(cli(&["cache", "decisions", "01ARZ3NDEKTSV4RRFFQ69G5FAV"]).await.failed(1), &["404", "decision"]);

    let done = cli(&["cache", "feedback", id, "bad", "--within", "7d", "--reason", "an old price"]).await;
    says(done.ok(), &["unlinked_point", "learnt", "true", "audit", "served the same answer: 1"]);
    says(&done.out, &[other.header("x-remora-request-id"), "shop/two", "semantic"]);
    let learners = cli(&["cache", "learners", "--tenant", "shop"]).await;
    says(learners.ok(), &["stage", "cold", "shop", "gpt-4o-mini", "0.0 % (0.0–100.0)"]);
    assert_eq!(cli(&["cache", "learners", "--tenant", "nobody"]).await.ok().lines().count(), 1);
    let json: Value = serde_json::from_str(cli(&["cache", "learners", "--json"]).await.ok()).unwrap();
    assert_eq!((&json["data"][0]["labels"], &json["data"][0]["stage"]), (&json!(1), &json!("cold")));
    until("the audit row", || async {
        let listed = cli(&["audit", "list"]).await;
        listed.ok().contains("an old price").then_some(())
    })
    .await;
    for wrong in [&["cache", "feedback", id, "meh"][..], &["cache", "feedback", id, "bad", "--within", "0"]] {
        cli(wrong).await.failed(2);
    }
    for command in ["feedback", "learners", "shadow", "decisions", "explain"] {
        says(home.run(&["cache", command, "--help"]).await.ok(), &["Example", "remora cache"]);
    }
}
