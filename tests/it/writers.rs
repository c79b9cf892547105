//! Against callers who do not trust each other: two writers for an answer, a rate for writing, an eye on probing.

use remora::clock::Clock;
use remora::config::Config;
use serde_json::json;

use crate::child::until;
use crate::rig::chat;
use crate::scripted::{SHOP, Scripted, is_served, line, metric, rows, shop};

const TIDES: &str = "Tell me about the tides";
const TIDES_PLEASE: &str = "Please tell me about the tides";
const MOON: &str = "The moon pulls the sea.";

fn two(config: &mut Config) {
    shop(config);
    config.cache.two_writers = true;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_answer_of_one_key_is_not_served_to_another_until_a_second_key_got_the_same() {
    let upstream = Scripted::start(&[(TIDES, MOON), (TIDES_PLEASE, MOON), ("TELL ME about the tides", MOON)]).await;
    let rig = upstream.rig(two).await;
    let [one, two, three] = SHOP;
    rig.chat(one, &chat(TIDES)).await;
    assert_eq!(line(&rig.chat(one, &chat(TIDES_PLEASE)).await), ("HIT", "semantic", ""), "one's own answer");
    let not_read = [("x-bf-cache-no-store", "true")];
    for near in [TIDES_PLEASE, "TELL ME about the tides"] {
        let asked = rig.chat_with(two, &not_read, &chat(near)).await;
        assert_eq!(line(&asked), ("MISS", "", "one_writer"), "{near}");
    }
    assert_eq!(line(&rig.chat(three, &chat(TIDES)).await), ("HIT", "exact", ""), "an equal request needs no vouching");
    // The second key gets the same answer from upstream and stores it.
    assert_eq!(line(&rig.chat(two, &chat(TIDES_PLEASE)).await), ("MISS", "", "one_writer"));
    until("the two are one group", || async {
        let all = rows(&rig, "/admin/v1/cache/entries").await;
        (all.len() == 1 && all[0]["prompts"].as_array().unwrap().len() == 2).then_some(())
    })
    .await;
    let vouched = rig.chat(three, &chat("TELL ME about the tides")).await;
    assert_eq!((line(&vouched), vouched.content().as_str()), (("HIT", "semantic", ""), MOON));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_second_key_with_another_answer_vouches_for_nothing() {
    let upstream = Scripted::start(&[(TIDES, "A lie."), (TIDES_PLEASE, MOON)]).await;
    let rig = upstream.rig(two).await;
    let [one, two, three] = SHOP;
    rig.chat(one, &chat(TIDES)).await;
    rig.chat(two, &chat(TIDES_PLEASE)).await;
    let asked = rig.chat_with(three, &[("cache-control", "only-if-cached")], &chat("TELL me about the tides")).await;
    assert_eq!(asked.status, 504, "{}", asked.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_key_stores_beyond_its_rate_is_served_and_not_stored() {
    let upstream = Scripted::start(&[]).await;
    let clock = Clock::manual(1_800_000_000_000);
    let rig = upstream.rig_at(clock.clone(), |config| config.cache.writes_per_minute = 2).await;
    let topics = ["tides", "garden", "museum", "invoice"];
    for (n, topic) in topics.iter().enumerate() {
        let answer = rig.chat("sk-a", &chat(topic)).await;
        assert_eq!((answer.cache(), answer.content().as_str()), ("MISS", *topic));
        assert_eq!(answer.reason() == "write_rate", n >= 2, "{topic}: {}", answer.reason());
        assert_eq!(answer.header("x-remora-entry").is_empty(), n >= 2, "{topic}");
    }
    for (n, topic) in topics.iter().enumerate() {
        assert_eq!(is_served(&rig, "sk-a", &chat(topic)).await, n < 2, "{topic}");
    }
    assert_ne!(rig.chat("sk-b", &chat("tides")).await.reason(), "write_rate", "another key has its own");
    clock.advance_ms(60_000);
    assert_ne!(rig.chat("sk-a", &chat("museum")).await.reason(), "write_rate");
    assert!(is_served(&rig, "sk-a", &chat("museum")).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_key_that_feels_for_the_threshold_is_reported() {
    let upstream = Scripted::start(&[(TIDES, MOON)]).await;
    let rig = upstream
        .rig(|config| {
            shop(config);
            config.cache.probe_alarm = 3;
        })
        .await;
    rig.chat(SHOP[0], &chat(TIDES)).await;
    let probe = async |key: &str, prompt: &str| {
        let asked = rig.chat_with(key, &[("x-bf-cache-no-store", "true")], &chat(prompt)).await;
        assert_eq!(line(&asked), ("MISS", "", "words_differ"), "{prompt}");
    };
    let probes = ["loosely: tides?", "the tides, loosely", "loosely put, what are tides"];
    for _ in 0..5 {
        probe(SHOP[1], probes[0]).await;
    }
    for prompt in &probes[..2] {
        probe(SHOP[2], prompt).await;
        probe(SHOP[1], prompt).await;
    }
    assert!(rows(&rig, "/admin/v1/cache/probing").await.is_empty(), "two different ones are not three");
    assert_eq!(metric(&rig, "remora_cache_probe_alarms_total", &[]).await, 0.0);
    probe(SHOP[1], probes[2]).await;
    probe(SHOP[1], "loosely speaking: tides").await;
    let found = rows(&rig, "/admin/v1/cache/probing").await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((&found[0]["key"], &found[0]["near_misses"]), (&json!("shop/two"), &json!(3)));
    assert!(found[0]["since_ms"].is_u64());
    assert_eq!(metric(&rig, "remora_cache_probe_alarms_total", &[]).await, 1.0, "told once");
}
