//! Watching: nothing is served by similarity, and the report says what would have been.

use http::Method;
use remora::config::{CacheMode, Config};
use serde_json::{Value, json};

use crate::admin_api::problem;
use crate::child::{Home, says};
use crate::rig::{Rig, chat};
use crate::scripted::{SHOP, Scripted, compared, line, rows, shop, told};

const TIDES: &str = "Tell me about the tides";
const TIDES_PLEASE: &str = "Please tell me about the tides";
const MOON: &str = "The moon pulls the sea.";

/// A prompt, a near one, the near one again, and another in two ways to write it.
async fn watched(rig: &Rig, key: &str, headers: &[(&str, &str)]) {
    assert_eq!(line(&rig.chat_with(key, headers, &chat(TIDES)).await), ("MISS", "", "no_neighbour"));
    let near = rig.chat_with(key, headers, &chat(TIDES_PLEASE)).await;
    assert_eq!(line(&near), ("SHADOW", "", "shadow"));
    assert_eq!(near.content(), "Twice a day.", "fresh from upstream");
    assert!(near.header("cache-status").starts_with("remora; fwd=miss"), "{}", near.header("cache-status"));
    let row = rig.row(&near).await;
    assert_eq!((&row["outcome"], &row["reason"], &row["tier"]), (&json!("shadow"), &json!("shadow"), &Value::Null));
    let decision = told(rig, &format!("/admin/v1/cache/decisions/{}", near.header("x-remora-request-id"))).await;
    assert_eq!((&decision["mode"], &decision["would_serve"]), (&json!("shadow"), &json!(true)));
    assert_eq!(line(&rig.chat_with(key, headers, &chat(TIDES_PLEASE)).await), ("HIT", "exact", ""));
    rig.chat_with(key, headers, &chat("Tell me about the garden")).await;
    let same_words = rig.chat_with(key, headers, &chat("TELL me about the garden")).await;
    assert_eq!(line(&same_words), ("SHADOW", "", "shadow"), "the same words are similarity too");
}

fn answers() -> [(&'static str, &'static str); 2] {
    [(TIDES, MOON), (TIDES_PLEASE, "Twice a day.")]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn by_configuration_by_tenant_or_by_header_nothing_is_served_by_similarity() {
    let upstream = Scripted::start(&answers()).await;
    watched(&upstream.rig(|config| config.cache.mode = CacheMode::Shadow).await, "sk-a", &[]).await;
    let by_tenant = |config: &mut Config| {
        shop(config);
        config.tenants[0].spec.cache.mode = Some(CacheMode::Shadow);
    };
    watched(&upstream.rig(by_tenant).await, SHOP[0], &[]).await;
    let rig = upstream.rig(|_| {}).await;
    watched(&rig, "sk-a", &[("x-remora-cache", "shadow")]).await;
    assert_eq!(upstream.count(), 12, "each of three rigs asked for four");
    // Without the header the same prompts are served; with more than the configuration allows they are not.
    assert_eq!(line(&rig.chat("sk-a", &chat("tell ME about the tides")).await), ("HIT", "semantic", ""));
    let rig = upstream.rig(|config| config.cache.mode = CacheMode::Shadow).await;
    watched(&rig, "sk-a", &[("x-remora-cache", "semantic")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_could_not_be_served_anyway_is_no_would_be_hit() {
    let upstream = Scripted::start(&answers()).await;
    let rig = upstream.rig(|config| config.cache.mode = CacheMode::Shadow).await;
    rig.chat("sk-a", &chat(TIDES)).await;
    let mut short = chat(TIDES_PLEASE);
    short["max_tokens"] = json!(1);
    assert_eq!(line(&rig.chat("sk-a", &short).await), ("MISS", "", "token_limit"));
}

/// Where prompts are recorded, requests without a candidate leave a row too; the report counts the same all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn recorded_prompts_do_not_water_down_the_report() {
    let upstream = Scripted::start(&answers()).await;
    let recording = |config: &mut Config| {
        config.cache.mode = CacheMode::Shadow;
        config.cache.record_prompts = true;
    };
    let rig = upstream.rig(recording).await;
    for prompt in [TIDES, "Tell me about the garden", TIDES_PLEASE] {
        rig.chat("sk-a", &chat(prompt)).await;
    }
    let all = rows(&rig, "/admin/v1/cache/decisions").await;
    assert_eq!(all.iter().filter(|row| row["entry"].is_string()).count(), 1);
    assert_eq!((all.len(), &all[2]["prompt"], &all[0]["inputs"]), (3, &json!(TIDES_PLEASE), &json!({})));
    let report = rows(&rig, "/admin/v1/cache/shadow").await;
    assert_eq!((&report[0]["with_candidate"], &report[0]["would_be_hits"]), (&json!(1), &json!(1)));
    assert_eq!((&report[0]["refused"], &report[0]["look_ups_ever"]), (&json!({}), &json!(3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_report_counts_what_would_have_been_served_and_how_much_of_it_was_right() {
    let upstream = Scripted::start(&[
        (TIDES, MOON),
        (TIDES_PLEASE, "The moon pulls the sea"),
        ("Tell me about the garden", "Roses grow there."),
        ("Please tell me about the garden", "It is closed."),
        ("Tell me about the museum", "Old pots."),
        ("Describe the museum loosely", "Old pots."),
        ("Where is parcel 7781?", "In Rome."),
        ("Please, where is parcel 7782?", "In Oslo."),
        ("Tell me about the invoice", "It was paid on Monday."),
        ("Please tell me about the invoice", "Paid"),
    ])
    .await;
    let rig = upstream.rig(|config| config.cache.mode = CacheMode::Shadow).await;
    let mut asked = Vec::new();
    for prompt in [
        TIDES,
        TIDES_PLEASE,
        "Tell me about the garden",
        "Please tell me about the garden",
        "Tell me about the museum",
        "Describe the museum loosely",
        "Where is parcel 7781?",
        "Please, where is parcel 7782?",
        "Tell me about the invoice",
        "Please tell me about the invoice",
    ] {
        asked.push(rig.chat("sk-a", &chat(prompt)).await);
    }
    compared(&rig, 5).await;
    let tenant = rig.row(&asked[0]).await["tenant"].as_str().unwrap().to_owned();
    let report = told(&rig, "/admin/v1/cache/shadow").await;
    assert_eq!((report["data"].as_array().unwrap().len(), &report["truncated"]), (1, &json!(false)));
    let line = &report["data"][0];
    let expected = json!({
        "tenant": tenant, "model": "gpt-4o-mini", "with_candidate": 5, "look_ups_ever": 10, "would_be_hits": 3,
        "would_be_hit_share": 0.6, "right": 1, "wrong": 1, "unknown": 1, "saved_tokens": 6, "saved_tokens_known_for": 3,
        "refused": { "guard_numbers": 1, "words_differ": 1 },
        "advice": "at this error budget switching on would have served 3 of 5 requests that had a candidate (60.0 %); 1 of \
                   2 checked was wrong (50.0 %, 9.5–90.5 %)",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&line[name], value, "{name}");
    }
    assert!(report["counted"].as_str().unwrap().contains("with a candidate"));
    for (query, count) in [
        (format!("tenant={tenant}"), 1),
        ("tenant=nobody".into(), 0),
        ("model=gpt-4o-mini&since_s=3600".into(), 1),
        ("model=gpt-4o".into(), 0),
        ("since_s=0".into(), 0),
    ] {
        assert_eq!(rows(&rig, &format!("/admin/v1/cache/shadow?{query}")).await.len(), count, "{query}");
    }
    problem(&rig.admin(Method::GET, "/admin/v1/cache/shadow?since_s=soon", None).await, 400, &["since_s"]);

    // Pages of two make up the whole list, oldest first.
    let all = rows(&rig, "/admin/v1/cache/decisions").await;
    assert_eq!(all.len(), 5);
    assert!(all.is_sorted_by_key(|row| row["request_id"].as_str().unwrap().to_owned()));
    assert_eq!(all[0]["inputs"]["one"], 1.0);
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = told(&rig, &format!("/admin/v1/cache/decisions?limit=2{cursor}")).await;
        paged.extend(page["data"].as_array().unwrap().clone());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, all);
    assert!(rows(&rig, "/admin/v1/cache/decisions?tenant=nobody").await.is_empty());
    problem(&rig.admin(Method::GET, "/admin/v1/cache/decisions?cursor=x", None).await, 400, &["`x`"]);
    problem(&rig.admin(Method::GET, "/admin/v1/cache/decisions/x", None).await, 400, &["`x`"]);

    let admin = format!("http://{}", rig.app().admin);
    let home = Home::nowhere();
    let shown = home.run(&["cache", "shadow", "--since", "24h", "--admin", &admin]).await;
    says(shown.ok(), &["would_be_hits", "3", "50.0 % (9.5–90.5)", "not served: guard_numbers  1", "3 of 5 requests"]);
    let none = home.run(&["cache", "shadow", "--model", "other", "--admin", &admin]).await;
    says(none.ok(), &["No request with a candidate was watched"]);
    let shown = home.run(&["cache", "shadow", "--json", "--admin", &admin]).await;
    assert_eq!(serde_json::from_str::<Value>(shown.ok()).unwrap()["data"], report["data"]);
}
