//! Coalescing: equal requests in flight share one upstream call, and nobody pays for another's misfortune.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use remora::simulate::Options;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::child::until;
use crate::rig::{Answer, Plan, Rig, chat, chat_stream};
use crate::streams::{events, open};

async fn slow(latency: u64, chunk_delay: u64) -> Arc<Rig> {
    let simulate = Options {
        latency: Duration::from_millis(latency),
        chunk_delay: Duration::from_millis(chunk_delay),
        ..Options::default()
    };
    Arc::new(Rig::with(Plan { simulate, ..Plan::default() }).await)
}

/// Sends all of them at once.
async fn at_once(rig: &Arc<Rig>, key: &'static str, bodies: Vec<Value>) -> Vec<Answer> {
    let mut sending = JoinSet::new();
    for (index, body) in bodies.into_iter().enumerate() {
        let rig = Arc::clone(rig);
        sending.spawn(async move { (index, rig.chat(key, &body).await) });
    }
    let mut answers: Vec<(usize, Answer)> = sending.join_all().await;
    answers.sort_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

fn counted<'a>(words: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for word in words {
        *counts.entry(word).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_equal_streams_are_one_upstream_request() {
    let rig = slow(400, 5).await;
    let answers = at_once(&rig, "sk-a", vec![chat_stream("Tell me a story"); 20]).await;
    assert_eq!(rig.sim.stats().requests, 1);
    assert_eq!(counted(answers.iter().map(Answer::cache)), BTreeMap::from([("COALESCED", 19), ("MISS", 1)]));
    assert!(answers.iter().all(|answer| answer.body == answers[0].body), "the same bytes from the first on");
    assert!(answers[0].text().ends_with("data: [DONE]\n\n"));

    rig.settle().await;
    let rows = rig.app().stores.ledger.recent(None, 100).await.unwrap();
    assert_eq!(counted(rows.iter().map(|row| row.outcome.as_ref())), BTreeMap::from([("coalesced", 19), ("miss", 1)]));
    let billed: Vec<_> = rows.iter().filter(|row| row.tokens_source.as_deref() == Some("billed")).collect();
    assert_eq!(billed.len(), 1, "tokens are billed once");
    assert_eq!((billed[0].outcome.as_ref(), billed[0].tokens.output), ("miss", 64));
    assert_eq!(rows.iter().filter(|row| row.upstream.is_some()).count(), 1);
    let followers: Vec<_> = rows.iter().filter(|row| row.outcome == "coalesced").collect();
    assert!(followers.iter().all(|row| row.tokens == billed[0].tokens && row.cost_nano_usd == Some(0)));
    assert_eq!(rig.chat("sk-a", &chat("Tell me a story")).await.cache(), "HIT");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_equal_whole_requests_are_one_upstream_request() {
    let rig = slow(400, 0).await;
    let tools = json!([{ "type": "function", "function": { "name": "f" } }]);
    let mut body = chat("A question with tools, so that only an equal one may share its answer");
    body["tools"] = tools;
    let answers = at_once(&rig, "sk-a", vec![body; 20]).await;
    assert_eq!(rig.sim.stats().requests, 1);
    assert_eq!(counted(answers.iter().map(Answer::cache)), BTreeMap::from([("COALESCED", 19), ("MISS", 1)]));
    assert!(answers.iter().all(|answer| answer.body == answers[0].body));
    let one = answers.iter().find(|answer| answer.cache() == "COALESCED").unwrap();
    assert!(one.header("cache-status").starts_with("remora; fwd=miss; collapsed"), "{}", one.header("cache-status"));
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_finish_when_the_leaders_client_leaves_and_the_answer_is_stored() {
    let rig = slow(0, 15).await;
    let body = chat_stream("Tell me a long story");
    let mut leader = open(&rig, "sk-a", &body).await;
    let leader_id = leader.headers()["x-remora-request-id"].to_str().unwrap().to_owned();
    assert_eq!(leader.headers()["x-remora-cache"], "MISS");
    leader.body_mut().frame().await.unwrap().unwrap();
    let mut followers = Vec::new();
    for _ in 0..3 {
        let mut follower = open(&rig, "sk-a", &body).await;
        assert_eq!(follower.headers()["x-remora-cache"], "COALESCED");
        let first = follower.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
        followers.push((first, follower));
    }
    drop(leader);
    let mut texts = Vec::new();
    for (first, follower) in followers {
        let rest = follower.into_body().collect().await.unwrap().to_bytes();
        texts.push([first, rest].concat());
    }
    assert!(texts.iter().all(|text| *text == texts[0]));
    assert!(texts[0].ends_with(b"data: [DONE]\n\n"));
    let stats = rig.sim.stats();
    assert_eq!((stats.requests, stats.aborted), (1, 0));
    let hit = rig.chat("sk-a", &body).await;
    assert_eq!(hit.cache(), "HIT");

    rig.settle().await;
    let rows = rig.app().stores.ledger.recent(None, 100).await.unwrap();
    assert_eq!(
        counted(rows.iter().map(|row| row.outcome.as_ref())),
        BTreeMap::from([("cancelled", 1), ("coalesced", 3), ("hit", 1)])
    );
    let billed: Vec<_> = rows.iter().filter(|row| row.tokens_source.as_deref() == Some("billed")).collect();
    assert_eq!(billed.len(), 1, "what upstream billed stands in the row of the one who caused it");
    assert_eq!(billed[0].request.to_string(), leader_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_every_client_has_left_the_call_is_given_up_and_can_be_asked_anew() {
    let rig = slow(0, 20).await;
    let body = chat_stream("Tell me a long story");
    let (mut one, mut two) = (open(&rig, "sk-a", &body).await, open(&rig, "sk-a", &body).await);
    one.body_mut().frame().await.unwrap().unwrap();
    two.body_mut().frame().await.unwrap().unwrap();
    drop(one);
    drop(two);
    while rig.sim.stats().aborted == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let again = rig.chat("sk-a", &body).await;
    assert_eq!(again.cache(), "MISS", "half an answer is no answer");
    assert!(again.text().ends_with("data: [DONE]\n\n"));
    assert_eq!(rig.sim.stats().requests, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_follower_takes_over_from_a_leader_that_failed() {
    for (fault, leader_status) in [("latency=400ms+status=503", 503), ("latency=400ms+close", 502)] {
        let rig = slow(300, 0).await;
        rig.sim.script(&format!("[[rule]]\ntimes = 1\nfault = \"{fault}\"")).unwrap();
        let answers = at_once(&rig, "sk-a", vec![chat("Who goes next?"); 8]).await;
        let statuses = counted(answers.iter().map(|answer| if answer.status == 200 { "good" } else { "failed" }));
        assert_eq!(statuses, BTreeMap::from([("failed", 1), ("good", 7)]), "{fault}");
        let failed = answers.iter().find(|answer| answer.status != 200).unwrap();
        assert_eq!(failed.status, leader_status);
        let good = answers.iter().filter(|answer| answer.status == 200);
        assert_eq!(counted(good.map(Answer::cache)), BTreeMap::from([("COALESCED", 6), ("MISS", 1)]), "{fault}");
        assert_eq!(rig.sim.stats().requests, 2, "{fault}: exactly one follower went upstream");
        rig.settle().await;
        assert_eq!(rig.app().stores.ledger.count().await.unwrap(), 8);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_request_is_told_to_all_who_sent_it() {
    let rig = slow(400, 0).await;
    let mut body = chat("Hello");
    body["model"] = "no-such-model".into();
    let answers = at_once(&rig, "sk-a", vec![body; 5]).await;
    assert!(answers.iter().all(|answer| answer.status == 404 && answer.body == answers[0].body));
    assert_eq!(rig.sim.stats().requests, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_could_be_answered_differently_are_not_joined() {
    let rig = slow(300, 0).await;
    let limited = |limit: u64| {
        let mut body = chat("How long?");
        body["max_tokens"] = limit.into();
        body
    };
    at_once(&rig, "sk-a", vec![limited(100), limited(200), chat("How long?"), chat_stream("How long?")]).await;
    assert_eq!(rig.sim.stats().requests, 4);
    rig.sim.reset();
    let one = at_once(&rig, "sk-b", vec![chat("Whose?")]);
    let (one, two) = tokio::join!(one, at_once(&rig, "sk-c", vec![chat("Whose?")]));
    assert_eq!((one[0].cache(), two[0].cache()), ("MISS", "MISS"));
    assert_eq!(rig.sim.stats().requests, 2, "nor are those of different callers");
}

/// A caller's own deadline holds, whoever else asks the same and has more time.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_a_deadline_does_not_wait_for_one_without() {
    let rig = slow(1_500, 0).await;
    let leading = {
        let rig = Arc::clone(&rig);
        tokio::spawn(async move { rig.chat("sk-a", &chat("Who has the time?")).await })
    };
    while rig.sim.stats().in_flight == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let hurried = rig.chat_with("sk-a", &[("x-remora-timeout", "100ms")], &chat("Who has the time?")).await;
    assert_eq!(hurried.status, 504, "{}", hurried.text());
    assert_eq!(hurried.json()["error"]["code"], "deadline_exceeded");
    let leader = leading.await.unwrap();
    assert_eq!((leader.status.as_u16(), leader.cache()), (200, "MISS"));
}

/// Whoever joins a stream sees of usage what it asked for, not what the leader asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_sees_usage_if_and_only_if_it_asked() {
    let asked = |usage: Option<bool>| {
        let mut body = chat_stream("Tell me about usage");
        if let Some(usage) = usage {
            body["stream_options"] = json!({ "include_usage": usage });
        }
        body
    };
    let all = [None, Some(true), Some(false)];
    for leader in all {
        let rig = slow(300, 0).await;
        let leading = {
            let (rig, body) = (Arc::clone(&rig), asked(leader));
            tokio::spawn(async move { rig.chat("sk-a", &body).await })
        };
        while rig.sim.stats().in_flight == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let followers = at_once(&rig, "sk-a", all.map(asked).to_vec()).await;
        for (who, answer) in all.iter().zip(&followers).chain([(&leader, &leading.await.unwrap())]) {
            let bare = events(answer).iter().filter(|event| event["choices"].as_array().unwrap().is_empty()).count();
            let named = events(answer).iter().filter(|event| event.get("usage").is_some()).count();
            if *who == Some(true) {
                assert_eq!(bare, 1, "asked, leader {leader:?}");
            } else {
                assert_eq!((bare, named), (0, 0), "{who:?} did not ask, leader {leader:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_before_an_invalidation_is_no_answer_to_what_is_asked_after_it() {
    let rig = slow(4_000, 0).await;
    let asking = || {
        let rig = Arc::clone(&rig);
        tokio::spawn(async move { rig.chat("sk-a", &chat("Tell me a story")).await })
    };
    let invalidate = async |filter: Value| {
        let done = rig.admin(Method::POST, "/admin/v1/cache/invalidate", Some(filter)).await;
        assert_eq!(done.status, StatusCode::OK, "{}", done.text());
    };
    let first = asking();
    until("it is upstream", || async { (rig.sim.stats().requests == 1).then_some(()) }).await;
    // One that cannot mean the answer keeps nobody apart.
    invalidate(json!({ "tenant": "somebody-else" })).await;
    let joined = asking();
    until("the second has come", || async { (rig.app().metrics.in_flight_now() == 2).then_some(()) }).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    invalidate(json!({ "text": "story" })).await;
    let after = rig.chat("sk-a", &chat("Tell me a story")).await;
    let (first, joined) = (first.await.unwrap(), joined.await.unwrap());
    assert_eq!([first.cache(), joined.cache(), after.cache()], ["MISS", "COALESCED", "MISS"]);
    assert_eq!((first.reason(), rig.sim.stats().requests), ("invalidated", 2));
    assert_eq!(rig.chat("sk-a", &chat("Tell me a story")).await.cache(), "HIT", "the later one is kept");
}
