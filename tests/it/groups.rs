//! Answer groups: prompts that got the same answer become one entry, and only those.

use http::Method;
use remora::clock::Clock;
use serde_json::{Value, json};

use crate::child::until;
use crate::rig::{Rig, chat};
use crate::scripted::{Scripted, compared, is_served, line, metric, rows, told};

const TIDES: &str = "Tell me about the tides";
const LOOSELY: &str = "Describe the tides loosely";
const MOON: &str = "The moon pulls the sea.";

async fn entries(rig: &Rig) -> Vec<Value> {
    rows(rig, "/admin/v1/cache/entries").await
}

/// Waits until there is one entry with so many prompts.
async fn grouped(rig: &Rig, prompts: usize) -> Value {
    until("the prompts are one group", || async {
        let all = entries(rig).await;
        (all.len() == 1 && all[0]["prompts"].as_array().unwrap().len() == prompts).then(|| all[0].clone())
    })
    .await
}

async fn two_in_a_group() -> (Scripted, Rig) {
    let upstream = Scripted::start(&[(TIDES, MOON), (LOOSELY, "the moon pulls the sea")]).await;
    let rig = upstream.rig(|_| {}).await;
    let first = rig.chat_with("sk-a", &[("x-remora-tags", "a=1, both=x")], &chat(TIDES)).await;
    assert_eq!(line(&first), ("MISS", "", "no_neighbour"));
    let second = rig.chat_with("sk-a", &[("x-remora-tags", "b=2, both=x")], &chat(LOOSELY)).await;
    assert_eq!(line(&second), ("MISS", "", "words_differ"));
    grouped(&rig, 2).await;
    (upstream, rig)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_prompts_with_one_answer_share_one_stored_answer_also_after_a_restart() {
    let (upstream, mut rig) = two_in_a_group().await;
    for start in 0..2 {
        rig.settle().await;
        let counts = rig.app().stores.entries.counts().await.unwrap();
        assert_eq!((counts.entries, counts.points), (1, 2), "start {start}");
        let (one, other) = (rig.chat("sk-a", &chat(TIDES)).await, rig.chat("sk-a", &chat(LOOSELY)).await);
        assert_eq!((line(&one), line(&other)), (("HIT", "exact", ""), ("HIT", "exact", "")), "start {start}");
        assert_eq!(one.header("x-remora-entry"), other.header("x-remora-entry"));
        assert_eq!((one.content(), other.content()), (MOON.to_owned(), MOON.to_owned()));
        assert_eq!(grouped(&rig, 2).await["entry"], one.header("x-remora-entry"));
        rig.restart().await;
    }
    assert_eq!(upstream.count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tags_are_united_and_either_takes_the_whole_group_away() {
    let (_upstream, rig) = two_in_a_group().await;
    for (tag, count) in [("a=1", 1), ("b=2", 1), ("both=x", 1), ("a=2", 0)] {
        assert_eq!(rows(&rig, &format!("/admin/v1/cache/entries?tag={tag}")).await.len(), count, "{tag}");
    }
    assert_eq!(entries(&rig).await[0]["tags"], json!(["a=1", "both=x", "b=2"]), "each once");
    let removed = rig.admin(Method::POST, "/admin/v1/cache/invalidate", Some(json!({ "tag": "b=2" }))).await.json();
    assert_eq!((&removed["removed"], &removed["points"]), (&json!(1), &json!(2)), "{removed}");
    for prompt in [TIDES, LOOSELY] {
        assert!(!is_served(&rig, "sk-a", &chat(prompt)).await, "{prompt}");
    }
    rig.settle().await;
    let counts = rig.app().stores.entries.counts().await.unwrap();
    assert_eq!((counts.entries, counts.points), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn prompts_with_different_answers_stay_apart() {
    let upstream = Scripted::start(&[(TIDES, MOON), (LOOSELY, "They come twice a day.")]).await;
    let rig = upstream.rig(|_| {}).await;
    rig.chat("sk-a", &chat(TIDES)).await;
    let other = rig.chat("sk-a", &chat(LOOSELY)).await;
    compared(&rig, 1).await;
    assert_eq!(entries(&rig).await.len(), 2);
    assert_eq!(metric(&rig, "remora_cache_links_total", &[]).await, 0.0);
    let decision = told(&rig, &format!("/admin/v1/cache/decisions/{}", other.header("x-remora-request-id"))).await;
    assert_eq!((&decision["right"], &decision["label"]), (&json!(false), &json!("miss")));
    assert_eq!((&decision["verdict"], &decision["would_serve"]), (&json!("words_differ"), &json!(false)));
    for (prompt, answer) in [(TIDES, MOON), (LOOSELY, "They come twice a day.")] {
        assert_eq!(rig.chat("sk-a", &chat(prompt)).await.content(), answer);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_number_trap_stays_a_miss_however_many_of_its_kind_are_stored() {
    let upstream = Scripted::start(&[]).await;
    let rig = upstream.rig(|_| {}).await;
    for n in 0..6 {
        let prompt = format!("Where is parcel {}?", 7781 + n);
        upstream.says(&prompt, &format!("It is in hall {n}."));
        let answer = rig.chat("sk-a", &chat(&prompt)).await;
        assert_eq!(answer.content(), format!("It is in hall {n}."));
        assert_eq!(answer.reason(), if n == 0 { "no_neighbour" } else { "guard_numbers" });
    }
    compared(&rig, 5).await;
    assert_eq!(entries(&rig).await.len(), 6);
}

/// "Yes" to three questions is not one answer: linked, they would show the guard that names do not matter.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn questions_that_were_all_answered_with_yes_do_not_vouch_for_another() {
    let upstream = Scripted::start(&[]).await;
    let rig = upstream.rig(|_| {}).await;
    let question = |city: &str| format!("Is the museum of {city} open on weekdays?");
    for city in ["Rome", "Paris", "Madrid", "Vienna"] {
        upstream.says(&question(city), "Yes.");
        assert_eq!(rig.chat("sk-a", &chat(&question(city))).await.cache(), "MISS", "{city}");
    }
    compared(&rig, 3).await;
    assert_eq!(entries(&rig).await.len(), 4);
    upstream.says(&question("Oslo"), "No.");
    let trap = rig.chat("sk-a", &chat(&question("Oslo"))).await;
    assert_eq!((trap.cache(), trap.reason(), trap.content().as_str()), ("MISS", "guard_entities", "No."));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_prompt_with_a_short_lifetime_does_not_join_a_group_that_lives_longer() {
    let upstream = Scripted::start(&[(TIDES, MOON), (LOOSELY, MOON)]).await;
    let clock = Clock::manual(1_800_000_000_000);
    let rig = upstream.rig_at(clock.clone(), |_| {}).await;
    rig.chat("sk-a", &chat(TIDES)).await;
    rig.chat_with("sk-a", &[("x-remora-ttl", "60s")], &chat(LOOSELY)).await;
    compared(&rig, 1).await;
    assert_eq!(entries(&rig).await.len(), 2);
    clock.advance_ms(60_000);
    assert!(!is_served(&rig, "sk-a", &chat(LOOSELY)).await, "as its caller asked");
    assert!(is_served(&rig, "sk-a", &chat(TIDES)).await);
    // The other way round it may: the group ends sooner than the caller would have taken.
    rig.chat("sk-a", &chat(LOOSELY)).await;
    grouped(&rig, 2).await;
}
