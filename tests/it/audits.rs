//! Audits: a part of the hits is asked again in the background, and nobody waits for it.

use remora::config::{Budget, Config, Period};
use serde_json::{Value, json};

use crate::child::until;
use crate::rig::{Rig, chat, chat_stream};
use crate::scripted::{SHOP, Scripted, compared, is_served, line, metric, reaches, rows, shop, told};

const TIDES: &str = "Tell me about the tides";
const TIDES_PLEASE: &str = "Please tell me about the tides";
const GARDEN: &str = "Tell me about the garden";
const GARDEN_PLEASE: &str = "Please tell me about the garden";
const MOON: &str = "The moon pulls the sea.";
const ROSES: &str = "Roses grow there.";

fn all(config: &mut Config) {
    config.cache.audit.rate = 1.0;
}

/// Waits for the ledger row of the audit of a request.
async fn audit_of(rig: &Rig, request: &str) -> Value {
    until("the audit's ledger row", || async {
        let rows = rows(rig, "/admin/v1/requests").await;
        rows.into_iter().find(|row| row["tags"]["audit_of"] == request)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hit_is_served_at_once_and_checked_behind_the_callers_back() {
    let upstream = Scripted::start(&[(TIDES, MOON), (TIDES_PLEASE, "The moon pulls the sea!")]).await;
    let rig = upstream.rig(all).await;
    rig.chat("sk-a", &chat(TIDES)).await;
    upstream.hold(TIDES_PLEASE);
    let hit = rig.chat_with("sk-a", &[("x-remora-tags", "team=blue")], &chat(TIDES_PLEASE)).await;
    // It has been read to its end, and upstream has answered nothing yet.
    assert_eq!((line(&hit), hit.content().as_str()), (("HIT", "semantic", ""), MOON));
    assert_eq!(metric(&rig, "remora_cache_checked_hits_total", &[]).await, 0.0);
    until("the audit arrives", || async { (upstream.arrivals(TIDES_PLEASE) == 1).then_some(()) }).await;
    let sent = upstream.canned.requests().len();
    assert_eq!(sent, 1, "the second is still held");
    upstream.release(TIDES_PLEASE);
    compared(&rig, 1).await;
    assert!(upstream.canned.requests()[1].to_lowercase().contains("authorization: bearer sk-a"), "as the caller");

    let id = hit.header("x-remora-request-id");
    let row = audit_of(&rig, id).await;
    assert_eq!((&row["outcome"], &row["status"], &row["tags"]["team"]), (&json!("audit"), &json!(200), &json!("blue")));
    assert_eq!((&row["tokens"]["output"], &row["tokens"]["source"]), (&json!(2), &json!("billed")), "its cost is seen");
    assert_eq!((&row["key"], &row["upstream"]), (&rig.row(&hit).await["key"], &json!("openai")));
    let decision = told(&rig, &format!("/admin/v1/cache/decisions/{id}")).await;
    assert_eq!((&decision["right"], &decision["label"]), (&json!(true), &json!("audit")));
    assert_eq!(metric(&rig, "remora_cache_checked_hits_total", &["result=\"right\""]).await, 1.0);
    reaches(&rig, "remora_cache_false_hit_ratio", &["bound=\"high\""], 0.1).await;
    assert_eq!(metric(&rig, "remora_cache_false_hit_ratio", &["bound=\"estimate\""]).await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_wrong_hit_counts_as_wrong_and_the_right_answer_takes_its_place() {
    let upstream = Scripted::start(&[(GARDEN, ROSES), (GARDEN_PLEASE, "There is none.")]).await;
    let rig = upstream.rig(all).await;
    rig.chat("sk-a", &chat(GARDEN)).await;
    let hit = rig.chat("sk-a", &chat(GARDEN_PLEASE)).await;
    assert_eq!((line(&hit), hit.content().as_str()), (("HIT", "semantic", ""), ROSES));
    compared(&rig, 1).await;
    assert_eq!(metric(&rig, "remora_cache_checked_hits_total", &["result=\"wrong\""]).await, 1.0);
    let learners = rows(&rig, "/admin/v1/cache/learners").await;
    assert_eq!((&learners[0]["audits"], &learners[0]["wrong"]), (&json!(1), &json!(1)));
    assert_eq!(learners[0]["wrong_of_hits"][0], 1.0);
    let again = rig.chat("sk-a", &chat(GARDEN_PLEASE)).await;
    assert_eq!((line(&again), again.content().as_str()), (("HIT", "exact", ""), "There is none."));
    reaches(&rig, "remora_cache_false_hit_ratio", &["bound=\"estimate\""], 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_more_are_asked_again_than_the_cap_of_the_hour_and_of_the_day() {
    type Cap = fn(&mut Config);
    let [of_hour, of_day]: [Cap; 2] =
        [|config| config.cache.audit.per_hour = 1, |config| config.cache.audit.tokens_per_day = 1];
    // Tokens that are not told are estimated, and count.
    for (cap, silent) in [(of_hour, false), (of_day, false), (of_day, true)] {
        let upstream =
            Scripted::start(&[(TIDES, MOON), (TIDES_PLEASE, MOON), (GARDEN, ROSES), (GARDEN_PLEASE, ROSES)]).await;
        if silent {
            upstream.tell_no_usage();
        }
        let rig = upstream
            .rig(move |config| {
                all(config);
                cap(config);
            })
            .await;
        rig.chat("sk-a", &chat(TIDES)).await;
        rig.chat("sk-a", &chat(GARDEN)).await;
        let first = rig.chat("sk-a", &chat(TIDES_PLEASE)).await;
        audit_of(&rig, first.header("x-remora-request-id")).await;
        assert_eq!(rig.chat("sk-a", &chat(GARDEN_PLEASE)).await.cache(), "HIT");
        compared(&rig, 1).await;
        assert_eq!((upstream.count(), upstream.arrivals(GARDEN_PLEASE)), (3, 0));
        // Another tenant has its own.
        for prompt in [TIDES, TIDES_PLEASE] {
            rig.chat("sk-b", &chat(prompt)).await;
        }
        compared(&rig, 2).await;
        assert_eq!(upstream.arrivals(TIDES_PLEASE), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_upstream_that_fails_in_an_audit_changes_nothing_for_anyone() {
    let upstream = Scripted::start(&[(TIDES, MOON)]).await;
    let rig = upstream.rig(all).await;
    let first = rig.chat("sk-a", &chat(TIDES)).await;
    upstream.fail(TIDES_PLEASE);
    for round in 0..3 {
        let hit = rig.chat("sk-a", &chat(TIDES_PLEASE)).await;
        assert_eq!((line(&hit), hit.content().as_str()), (("HIT", "semantic", ""), MOON), "round {round}");
        assert_eq!(hit.header("x-remora-entry"), first.header("x-remora-entry"));
        let row = audit_of(&rig, hit.header("x-remora-request-id")).await;
        assert_eq!((&row["upstream_status"], &row["tokens"]["source"]), (&json!(500), &Value::Null), "{row}");
    }
    assert_eq!(metric(&rig, "remora_cache_comparisons_total", &[]).await, 0.0);
    assert_eq!(metric(&rig, "remora_cache_labels_total", &[]).await, 0.0);
    assert!(is_served(&rig, "sk-a", &chat(TIDES)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_audit_without_room_in_the_budget_is_no_refused_request() {
    let upstream = Scripted::start(&[(TIDES, MOON)]).await;
    let rig = upstream
        .rig(|config| {
            all(config);
            shop(config);
            config.tenants[0].spec.budgets = vec![Budget {
                name: "day".to_owned(),
                period: Period::Day,
                usd: "0.01".parse().unwrap(),
                hard: true,
                alert_at: Vec::new(),
                key: None,
                model: None,
                tag: None,
            }];
        })
        .await;
    let limited = |prompt: &str, tokens: u64| {
        let mut body = chat(prompt);
        body["max_tokens"] = tokens.into();
        body
    };
    assert_eq!(rig.chat(SHOP[0], &limited(TIDES, 10)).await.cache(), "MISS");
    let hit = rig.chat(SHOP[0], &limited(TIDES_PLEASE, 1_000_000)).await;
    assert_eq!((hit.cache(), hit.status.as_u16()), ("HIT", 200));
    let row = audit_of(&rig, hit.header("x-remora-request-id")).await;
    assert_eq!((&row["outcome"], &row["reason"]), (&json!("audit"), &json!("budget_exceeded")), "{row}");
    assert_eq!(upstream.arrivals(TIDES_PLEASE), 0);
    assert_eq!(metric(&rig, "remora_replies_total", &[]).await, 2.0);
    assert_eq!(metric(&rig, "remora_budget_rejections_total", &[]).await, 0.0);
    // A caller's request that has no room is one.
    let refused = rig.chat(SHOP[0], &limited(GARDEN, 1_000_000)).await;
    assert_eq!(refused.status.as_u16(), 429);
    assert_eq!(metric(&rig, "remora_budget_rejections_total", &[]).await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_streamed_hit_is_checked_too() {
    let upstream = Scripted::start(&[(TIDES, MOON), (TIDES_PLEASE, MOON)]).await;
    let rig = upstream.rig(all).await;
    rig.chat("sk-a", &chat_stream(TIDES)).await;
    let hit = rig.chat("sk-a", &chat_stream(TIDES_PLEASE)).await;
    assert_eq!((hit.cache(), hit.streamed().as_str()), ("HIT", MOON));
    let row = audit_of(&rig, hit.header("x-remora-request-id")).await;
    assert_eq!((&row["outcome"], &row["stream"]), (&json!("audit"), &json!(true)));
    reaches(&rig, "remora_cache_checked_hits_total", &["result=\"right\""], 1.0).await;
}
