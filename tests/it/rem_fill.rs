//! Traffic becomes REM data: seen in the store of a running proxy, because what asks for it is tested elsewhere.

use std::sync::Arc;

use http::{Method, StatusCode};
use remora::config::{Config, Secret, Share};
use remora::ids::{KeyId, TenantId};
use remora::store::rem::{RemEdges, RemRow, RemStore, RemTable, Scope, normalise};
use serde_json::json;

use crate::child::until;
use crate::rem_http::{APP, OTHER, tenants};
use crate::rig::{Plan, Rig, chat};

const PROMPT: &str = "How long does a refund take?";

async fn rig(change: fn(&mut Config)) -> Rig {
    let change = move |config: &mut Config| {
        config.tenants = tenants();
        config.server.passthrough = false;
        config.cache.record_prompts = true;
        config.upstream.api_key = Some(Secret::new("sk-upstream".to_owned()));
        change(config);
    };
    Rig::with(Plan { change: Arc::new(change), ..Plan::default() }).await
}

fn scope(key: &str) -> Scope {
    Scope { tenant: TenantId::new("acme"), key: KeyId::new(format!("acme/{key}")) }
}

fn rem(rig: &Rig) -> Arc<dyn RemStore> {
    rig.app().stores.rem.clone().unwrap()
}

async fn named(rig: &Rig, key: &str, name: &str) -> Vec<RemRow> {
    let found = rem(rig).rem_named(&scope(key), &[normalise(name)], &[], 100).await.unwrap();
    found.into_iter().map(|found| found.row).collect()
}

/// The row of this name, when it is there.
async fn one(rig: &Rig, key: &str, name: &str) -> RemRow {
    until(name, || async { named(rig, key, name).await.pop() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rem_answers_models_users_and_sessions_of_a_caller_appear_and_others_see_none_of_it() {
    let rig = rig(|config| config.cache.share = Share::Key).await;
    let mut body = chat(PROMPT);
    body["user"] = json!("sarah");
    let miss = rig.chat_with(APP, &[("x-remora-tags", "team=support")], &body).await;
    assert_eq!((miss.status, miss.cache()), (StatusCode::OK, "MISS"), "{}", miss.text());
    rig.settle().await;
    let resource = one(&rig, "app", PROMPT).await;
    assert_eq!((resource.table, resource.text.as_str()), (RemTable::Resources, &*miss.content()));
    assert_eq!(
        (resource.label.as_str(), &*resource.tags),
        (body["model"].as_str().unwrap(), &["team=support".to_owned()][..])
    );
    let hit = rig.chat(APP, &body).await;
    assert_eq!(hit.cache(), "HIT");
    rig.settle().await;
    for (name, label) in [("sarah", "user"), ("acme/app", "key"), ("team=support", "tag")] {
        assert_eq!(one(&rig, "app", name).await.label, label);
    }
    let session = until("both requests in one session", || async {
        let sessions = named(&rig, "app", "session of sarah").await;
        sessions.into_iter().find(|session| session.text.starts_with("2 requests, 1 answered from the cache"))
    })
    .await;
    let wanted = RemEdges { kinds: &["served_from".to_owned()], min_weight: 0.0, limit: 10 };
    let answer = normalise(&format!("entry-{}", resource.entry.unwrap()));
    let served = rem(&rig).rem_edges_to(&scope("app"), &[answer], wanted).await.unwrap();
    assert_eq!(
        served.iter().map(|edge| (edge.source_table, edge.weight)).collect::<Vec<_>>(),
        [(RemTable::Requests, 1.0)]
    );
    for name in [PROMPT, "sarah", "team=support", &session.name] {
        assert!(named(&rig, "other", name).await.is_empty(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rem_a_resource_goes_with_its_answer_and_all_of_it_with_the_tenants_data() {
    let rig = rig(|config| config.cache.share = Share::Tenant).await;
    for prompt in [PROMPT, "Something else entirely: 42?"] {
        assert_eq!(rig.chat(APP, &chat(prompt)).await.status, StatusCode::OK);
    }
    rig.settle().await;
    // All keys of this tenant are served it for now; whose it is stays as it is when that is changed.
    let row = one(&rig, "app", PROMPT).await;
    assert_eq!(row.owner, scope("app").owner());
    assert_eq!(rig.chat(OTHER, &chat(PROMPT)).await.cache(), "HIT");
    assert!(named(&rig, "other", PROMPT).await.is_empty(), "{row:?}");
    let path = format!("/admin/v1/cache/entries/{}", row.entry.unwrap());
    let removed = rig.admin(Method::DELETE, &path, None).await;
    assert_eq!(removed.status, StatusCode::OK, "{path}: {}", removed.text());
    until("the row is gone", || async { named(&rig, "app", PROMPT).await.is_empty().then_some(()) }).await;
    one(&rig, "app", "Something else entirely: 42?").await;
    one(&rig, "app", "acme/app").await;
    let told = rig.admin(Method::DELETE, "/admin/v1/tenants/acme/data", None).await;
    assert_eq!(told.status, StatusCode::OK, "{}", told.text());
    assert!(told.json()["rem"].as_u64().unwrap() > 0, "{}", told.text());
    let left = rem(&rig).rem_export(None, 1_000).await.unwrap();
    assert!(left.iter().all(|of| of.tenant != TenantId::new("acme")), "{left:?}");
    assert_eq!(rig.chat(OTHER, &chat(PROMPT)).await.status, StatusCode::OK);
    rig.settle().await;
    one(&rig, "other", "acme/other").await;
    assert!(named(&rig, "app", "acme/app").await.is_empty(), "what was deleted does not come back from the ledger");
}
