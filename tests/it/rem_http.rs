//! The REM sidecar over real sockets: who gets in, what is refused and how, rows written, read and kept apart.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use remora::config::{Config, Overrides, Tenant};
use remora::ids::TenantId;
use remora::store::rem::{RemRow, RemTable, RemWrite};
use serde_json::{Value, json};

use crate::child::{Home, says};
use crate::rig::{Answer, Plan, Rig};

/// Tenant `acme` with the keys `app`, `other`, `slow` (two requests a minute) and `bare` (without the right), and tenant `globex`.
const TENANTS: &str = r#"
[[tenant]]
name = "acme"
[[tenant.key]]
name = "app"
secret_env = "APP"
rights = ["rem"]
[[tenant.key]]
name = "other"
secret_env = "OTHER"
rights = ["rem"]
[[tenant.key]]
name = "slow"
secret_env = "SLOW"
rights = ["rem"]
limits = { rpm = 2 }
[[tenant.key]]
name = "bare"
secret_env = "BARE"
[[tenant]]
name = "globex"
[[tenant.key]]
name = "app"
secret_env = "GLOBEX"
rights = ["rem"]
"#;

pub(crate) const APP: &str = "key-of-acme-app-0123456789";
pub(crate) const OTHER: &str = "key-of-acme-other-0123456789";
const SLOW: &str = "key-of-acme-slow-0123456789";
pub(crate) const BARE: &str = "key-of-acme-bare-0123456789";
pub(crate) const GLOBEX: &str = "key-of-globex-app-0123456789";

/// Largest body.
pub(crate) const BODY: usize = 200 << 10;

pub(crate) fn tenants() -> Vec<Tenant> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("remora.toml");
    std::fs::write(&file, TENANTS).unwrap();
    let keys = [("APP", APP), ("OTHER", OTHER), ("SLOW", SLOW), ("BARE", BARE), ("GLOBEX", GLOBEX)];
    let env = keys.into_iter().map(|(name, key)| (name.to_owned(), key.to_owned()));
    Config::load(Some(&file), env, &Overrides::default()).unwrap_or_else(|problems| panic!("{problems}")).tenants
}

/// A proxy with the tenants above.
pub(crate) async fn rig() -> Rig {
    let change = |config: &mut Config| {
        config.tenants = tenants();
        config.server.passthrough = false;
        // A larger body than this may not be sent whole before it is refused.
        config.server.limits.body_bytes = BODY;
    };
    Rig::with(Plan { change: Arc::new(change), ..Plan::default() }).await
}

/// Sends anything to the sidecar.
pub(crate) async fn send(
    rig: &Rig,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    rig.exchange(crate::child::request(method, rig.app().rem.unwrap(), path, headers, body.into())).await
}

/// Sends JSON, or nothing, with a key.
pub(crate) async fn with_key(rig: &Rig, method: Method, path: &str, key: &str, body: Option<Value>) -> Answer {
    let bearer = format!("Bearer {key}");
    send(rig, method, path, &[("authorization", &bearer)], body.map(|body| body.to_string()).unwrap_or_default()).await
}

async fn ask(rig: &Rig, key: &str, query: &str) -> Answer {
    with_key(rig, Method::POST, "/rem/v1/query", key, Some(json!({ "query": query }))).await
}

/// The answer to a query that must be good.
async fn found(rig: &Rig, key: &str, query: &str) -> Value {
    let answer = ask(rig, key, query).await;
    assert_eq!(answer.status, StatusCode::OK, "{query}: {}", answer.text());
    answer.json()
}

fn names(answer: &Value) -> Vec<&str> {
    answer["results"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect()
}

/// Writes something that must be good; the identities of its rows.
pub(crate) async fn write(rig: &Rig, key: &str, table: &str, body: Value) -> Vec<String> {
    let answer = with_key(rig, Method::POST, &format!("/rem/v1/{table}"), key, Some(body)).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{table}: {}", answer.text());
    let rows = answer.json()["rows"].as_array().unwrap().clone();
    rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

/// Status and code of a refusal, which must be a problem document with all its members.
fn problem(answer: &Answer) -> (u16, String) {
    assert_eq!(answer.header("content-type"), "application/problem+json", "{}", answer.text());
    let document = answer.json();
    for member in ["type", "title", "status", "code", "detail", "position", "hint", "parameter"] {
        assert!(document.get(member).is_some(), "{member}: {document}");
    }
    assert_eq!(document["status"], answer.status.as_u16());
    let text = answer.text().to_lowercase();
    for word in ["sqlite", "postgres", "sqlx", "rem_rows", "rem_names", "panicked"] {
        assert!(!text.contains(word), "{word}: {text}");
    }
    (answer.status.as_u16(), document["code"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_ask_is_told_why_and_how_long_to_wait() {
    let rig = rig().await;
    let body = json!({ "query": "LOOKUP x" }).to_string();
    let nobody = send(&rig, Method::POST, "/rem/v1/query", &[], body.clone()).await;
    assert_eq!(problem(&nobody), (401, "unauthorized".to_owned()));
    assert_eq!(nobody.header("www-authenticate"), "Bearer");
    let wrong = ask(&rig, "key-of-nobody-at-all-0123456789", "LOOKUP x").await;
    assert_eq!(problem(&wrong), (401, "unauthorized".to_owned()));
    let bare = ask(&rig, BARE, "LOOKUP x").await;
    assert_eq!(problem(&bare), (403, "forbidden".to_owned()));
    says(bare.json()["hint"].as_str().unwrap(), &["the right `rem`"]);
    for path in ["/rem/v1/schema", "/rem/v1/resources", "/rem/v1/entities/x", "/rem/v1/nothing", "/"] {
        let answer = send(&rig, Method::GET, path, &[], "").await;
        assert_eq!(problem(&answer), (401, "unauthorized".to_owned()), "{path}");
    }
    let mcp = send(&rig, Method::POST, "/rem/mcp", &[], json!({ "jsonrpc": "2.0" }).to_string()).await;
    assert_eq!(problem(&mcp), (401, "unauthorized".to_owned()));

    for _ in 0..2 {
        found(&rig, SLOW, "LOOKUP x").await;
    }
    let third = ask(&rig, SLOW, "LOOKUP x").await;
    assert_eq!(problem(&third), (429, "rate_limited".to_owned()));
    assert!((1..=60).contains(&third.header("retry-after").parse::<u64>().unwrap()));
    let metrics = rig.admin(Method::GET, "/metrics", None).await.text();
    says(
        &metrics,
        &[
            r#"remora_rem_requests_total{status="rate_limited",type="other"} 1"#,
            r#"remora_rem_requests_total{status="ok",type="lookup"} 2"#,
            r#"remora_rem_requests_total{status="unauthorized",type="mcp"} 1"#,
            r#"remora_rem_seconds_count{type="lookup"} 2"#,
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_a_problem_with_its_code_and_place() {
    let rig = rig().await;
    for (query, status, code) in [
        (json!({ "query": "hello world" }), 400, "parse_error"),
        (json!({ "query": "LOOKUP \"unclosed" }), 400, "parse_error"),
        (json!({ "query": "" }), 400, "parse_error"),
        (json!({ "query": "FUZZY plan THRESHOLD 1.5" }), 400, "invalid_argument"),
        (json!({ "query": "LOOKUP x IN nowhere" }), 400, "unknown_table"),
        (json!({ "query": "DELETE FROM resources" }), 400, "parse_error"),
        (json!({ "query": "LOOKUP x", "type": "lookup" }), 400, "parse_error"),
        (json!({ "type": "lookup" }), 400, "parse_error"),
        (json!({ "type": "lookup", "keys": ["x"], "limit": 0 }), 400, "invalid_argument"),
        (json!([1]), 400, "parse_error"),
        (json!({ "query": "x".repeat(70_000) }), 413, "too_large"),
    ] {
        let answer = with_key(&rig, Method::POST, "/rem/v1/query", APP, Some(query.clone())).await;
        let told = problem(&answer);
        let shown = query.to_string().chars().take(80).collect::<String>();
        assert_eq!(told, (status, code.to_owned()), "{shown}: {}", answer.text());
    }
    let unclosed = ask(&rig, APP, "LOOKUP \"unclosed").await.json();
    assert_eq!(unclosed["position"], 7);
    let threshold = ask(&rig, APP, "FUZZY plan THRESHOLD 1.5").await.json();
    assert_eq!(threshold["parameter"], "threshold");
    assert!(ask(&rig, APP, "hello world").await.json()["hint"].as_str().unwrap().contains("LOOKUP"));

    let bearer = format!("Bearer {APP}");
    let json_kind = [("authorization", bearer.as_str())];
    let answer = send(&rig, Method::POST, "/rem/v1/query", &json_kind, "{\"query\": ").await;
    assert_eq!(problem(&answer), (400, "parse_error".to_owned()));
    let answer = send(&rig, Method::PUT, "/rem/v1/query", &json_kind, "{}").await;
    assert_eq!(problem(&answer), (405, "method_not_allowed".to_owned()));
    assert_eq!(answer.header("allow"), "POST");
    let answer = send(&rig, Method::GET, "/rem/v1/queries", &json_kind, "").await;
    assert_eq!(problem(&answer), (404, "not_found".to_owned()));
    let plain = http::Request::post(format!("http://{}/rem/v1/query", rig.app().rem.unwrap()))
        .header("authorization", &bearer)
        .header("content-type", "text/plain")
        .body(http_body_util::Full::new(Bytes::from("LOOKUP x")))
        .unwrap();
    assert_eq!(problem(&rig.exchange(plain).await), (415, "unsupported_media_type".to_owned()));
    let large = vec![b' '; BODY + 1];
    let answer = send(&rig, Method::POST, "/rem/v1/resources", &json_kind, large).await;
    assert_eq!(problem(&answer), (413, "too_large".to_owned()));
    let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    for (method, path, parameter) in [
        (Method::GET, "?limit=0".to_owned(), "limit"),
        (Method::GET, "?limit=abc".to_owned(), "limit"),
        (Method::GET, "?limit=".to_owned(), "limit"),
        (Method::GET, "?limit=5&limit=6".to_owned(), "limit"),
        (Method::GET, "?limit=1001&after=x".to_owned(), "limit"),
        (Method::GET, "?after=x".to_owned(), "after"),
        (Method::GET, "?foo=1".to_owned(), "foo"),
        (Method::DELETE, format!("/{id}?purge=maybe"), "purge"),
        (Method::DELETE, format!("/{id}?all"), "all"),
    ] {
        let path = format!("/rem/v1/resources{path}");
        let answer = with_key(&rig, method, &path, APP, None).await;
        assert_eq!(problem(&answer), (400, "invalid_argument".to_owned()), "{path}");
        let told = answer.json();
        assert_eq!(told["parameter"], parameter, "{path}: {told}");
        let detail = told["detail"].as_str().unwrap();
        assert!(detail.contains(parameter) && !detail.contains("deserialize"), "{path}: {detail}");
    }
    let nothing = with_key(&rig, Method::POST, "/rem/v1/resources", APP, Some(json!([]))).await;
    assert_eq!(problem(&nothing), (400, "invalid_argument".to_owned()));
    assert_eq!(nothing.json()["parameter"], Value::Null);
    for (path, body, twice) in [
        ("/rem/v1/query", r#"{"query": "LOOKUP a", "query": "LOOKUP b"}"#, "query"),
        ("/rem/v1/batch", r#"{"stages": [{"name": "a", "query": "LOOKUP a", "n\u0061me": "b"}]}"#, "name"),
        ("/rem/v1/entities", r#"{"name": "Ann", "attributes": {"team": 1, "team": 2}}"#, "team"),
    ] {
        let answer = send(&rig, Method::POST, path, &json_kind, body).await;
        assert_eq!(problem(&answer), (400, "parse_error".to_owned()), "{body}");
        assert_eq!(answer.json()["parameter"], twice, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_written_found_changed_listed_and_deleted() {
    let rig = rig().await;
    let sarah = json!({ "name": "Sarah Chen", "kind": "person", "description": "VP Engineering", "aliases": ["SC"] });
    let ids = write(&rig, APP, "entities", sarah).await;
    let plan = json!({
        "name": "project-plan",
        "content": "The plan of the semantic cache, owned by Sarah.",
        "category": "document",
        "graph_edges": [{ "dst": "Sarah Chen", "rel_type": "authored_by", "weight": 1.0 }],
    });
    write(&rig, APP, "resources", plan).await;
    let sync = json!({ "name": "Engineering Sync", "kind": "meeting", "starts_at": "2024-01-15T10:00:00Z", "summary": "weekly" });
    write(&rig, APP, "moments", sync).await;
    let edge = json!({ "source": "Engineering Sync", "target": "Sarah Chen", "type": "attendee" });
    let linked = with_key(&rig, Method::POST, "/rem/v1/edges", APP, Some(edge)).await;
    assert_eq!((linked.status, &linked.json()["edges"]), (StatusCode::CREATED, &json!(1)), "{}", linked.text());

    for query in ["LOOKUP sarah-chen", "LOOKUP \"SARAH  CHEN\"", "LOOKUP SC", "FUZZY \"sara chen\" IN entities"] {
        assert_eq!(names(&found(&rig, APP, query).await), ["Sarah Chen"], "{query}");
    }
    assert_eq!(names(&found(&rig, APP, "SEARCH \"semantic cache\" MODE text").await), ["project-plan"]);
    let walked = found(&rig, APP, "TRAVERSE \"Sarah Chen\" INBOUND").await;
    assert_eq!(names(&walked), ["Sarah Chen", "Engineering Sync", "project-plan"]);
    let batch = json!({ "stages": [
        { "name": "a", "query": "LOOKUP project-plan" },
        { "name": "b", "query": "TRAVERSE WITH $a DEPTH 1" },
    ] });
    let batch = with_key(&rig, Method::POST, "/rem/v1/batch", APP, Some(batch)).await;
    assert_eq!(batch.status, StatusCode::OK, "{}", batch.text());
    assert_eq!(batch.json()["stages"][1]["name"], "b");
    assert_eq!(names(&batch.json()["stages"][1]["answer"]), ["project-plan", "Sarah Chen"]);
    let wrong = json!({ "stages": [{ "name": "a", "query": "LOOKUP x" }, { "name": "b", "query": "SEARCH \"zero\" FIELD nothing" }] });
    let wrong = with_key(&rig, Method::POST, "/rem/v1/batch", APP, Some(wrong)).await;
    assert_eq!(problem(&wrong), (400, "invalid_argument".to_owned()));
    let explained = with_key(&rig, Method::POST, "/rem/v1/explain", APP, Some(json!({ "query": "LOOKUP x" }))).await;
    assert_eq!(explained.status, StatusCode::OK, "{}", explained.text());
    assert!(!explained.json()["plan"].as_array().unwrap().is_empty(), "{}", explained.text());

    let path = format!("/rem/v1/entities/{}", ids[0]);
    let one = with_key(&rig, Method::GET, &path, APP, None).await.json();
    assert_eq!((&one["name"], &one["data"]["kind"]), (&json!("Sarah Chen"), &json!("person")));
    let changed = with_key(&rig, Method::PATCH, &path, APP, Some(json!({ "name": "Sarah Chen-Lee" }))).await;
    assert_eq!(
        (changed.status, &changed.json()["name"]),
        (StatusCode::OK, &json!("Sarah Chen-Lee")),
        "{}",
        changed.text()
    );
    assert_eq!(names(&found(&rig, APP, "LOOKUP \"Sarah Chen\"").await), Vec::<&str>::new(), "no ghost of the old name");
    let gone = with_key(&rig, Method::DELETE, &path, APP, None).await;
    assert_eq!((gone.status, gone.text().as_str()), (StatusCode::NO_CONTENT, ""));
    assert_eq!(with_key(&rig, Method::GET, &path, APP, None).await.status, StatusCode::NOT_FOUND);
    assert_eq!(names(&found(&rig, APP, "LOOKUP \"Sarah Chen-Lee\"").await), Vec::<&str>::new());
    let purged = with_key(&rig, Method::DELETE, &format!("{path}?purge=true"), APP, None).await;
    assert_eq!(purged.status, StatusCode::NO_CONTENT, "{}", purged.text());

    let many: Vec<Value> = (0..25).map(|n| json!({ "name": format!("thing {n:02}"), "kind": "thing" })).collect();
    write(&rig, APP, "entities", json!(many)).await;
    let (mut seen, mut path) = (Vec::new(), "/rem/v1/entities?limit=10".to_owned());
    loop {
        let page = with_key(&rig, Method::GET, &path, APP, None).await.json();
        seen.extend(names(&page).into_iter().map(str::to_owned));
        let Some(next) = page["next"].as_str() else { break };
        assert_eq!(page["count"], 10);
        path = format!("/rem/v1/entities?limit=10&after={next}");
    }
    seen.sort();
    let all: Vec<String> = (0..25).map(|n| format!("thing {n:02}")).collect();
    assert_eq!(seen, all, "each once");
    let first = found(&rig, APP, "FUZZY thing LIMIT 20").await;
    let next = first["next"].as_str().unwrap();
    let rest = found(&rig, APP, &format!("FUZZY thing LIMIT 20 AFTER \"{next}\"")).await;
    assert_eq!((&first["count"], &rest["count"], &rest["next"]), (&json!(20), &json!(5), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_anothers_is_answered_as_if_it_were_not_there() {
    let rig = rig().await;
    let secret = json!({ "name": "salary-review", "content": "canary of app", "graph_edges": [{ "target": "diary", "type": "t" }] });
    let ids = write(&rig, APP, "resources", secret).await;
    write(&rig, APP, "entities", json!({ "name": "handbook", "public": true })).await;
    for (key, sees_public) in [(OTHER, true), (GLOBEX, false)] {
        for query in [
            "LOOKUP salary-review",
            "FUZZY salary-reviw THRESHOLD 0.1",
            "SEARCH \"canary of app\"",
            "SEARCH \"canary\" MODE text",
            "TRAVERSE salary-review",
            "TRAVERSE diary INBOUND",
        ] {
            let answer = found(&rig, key, query).await;
            assert_eq!((&answer["count"], &answer["results"]), (&json!(0), &json!([])), "{query}: {answer}");
            for said in ["suggestions", "edge_summary"] {
                assert_eq!(answer[said], json!([]), "{query}: {answer}");
            }
        }
        assert_eq!(found(&rig, key, "LOOKUP handbook").await["count"], u64::from(sees_public));
        let listed = with_key(&rig, Method::GET, "/rem/v1/resources", key, None).await.json();
        assert_eq!(listed["results"], json!([]));
        // Another's, one that never was, and what is no identity at all: the same bytes.
        let mut told = Vec::new();
        for id in [ids[0].as_str(), "01ARZ3NDEKTSV4RRFFQ69G5FAV", "x", "%FF"] {
            let path = format!("/rem/v1/resources/{id}");
            for (method, body) in
                [(Method::GET, None), (Method::PATCH, Some(json!({ "name": "mine now" }))), (Method::DELETE, None)]
            {
                let answer = with_key(&rig, method, &path, key, body).await;
                assert_eq!(problem(&answer), (404, "not_found".to_owned()));
                told.push(answer.body);
            }
        }
        assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{told:?}");
        let purge =
            with_key(&rig, Method::DELETE, &format!("/rem/v1/resources/{}?purge=true", ids[0]), key, None).await;
        assert_eq!(problem(&purge), (404, "not_found".to_owned()));
        assert_eq!(purge.body, told[0], "as if there were none");
    }
    assert_eq!(names(&found(&rig, APP, "LOOKUP salary-review").await), ["salary-review"], "it is still there");
    // The same name again, by another key: each finds his own.
    write(&rig, OTHER, "resources", json!({ "name": "salary-review", "content": "of other" })).await;
    let other = found(&rig, OTHER, "LOOKUP salary-review").await;
    assert_eq!((&other["count"], &other["results"][0]["data"]["content"]), (&json!(1), &json!("of other")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hidden_is_purged_whole_and_by_the_route_of_its_table_only() {
    let rig = rig().await;
    let store = rig.app().stores.rem.clone().unwrap();
    let text: String = (0..300).map(|n| format!("Sentence number {n} says something about the plan. ")).collect();
    for public in [false, true] {
        let ids = write(&rig, APP, "resources", json!({ "name": "Plan", "content": text, "public": public })).await;
        assert!(ids.len() > 3, "{ids:?}");
        let path = format!("/rem/v1/resources/{}", ids[0]);
        let purge = format!("{path}?purge=true");
        assert_eq!(with_key(&rig, Method::DELETE, &path, APP, None).await.status, StatusCode::NO_CONTENT);
        for (key, path) in
            [(APP, &path), (OTHER, &purge), (GLOBEX, &purge), (APP, &purge.replace("resources", "entities"))]
        {
            let answer = with_key(&rig, Method::DELETE, path, key, None).await;
            assert_eq!(problem(&answer), (404, "not_found".to_owned()), "{path}");
        }
        assert_eq!(store.rem_export(None, 100).await.unwrap().len(), ids.len());
        assert_eq!(with_key(&rig, Method::DELETE, &purge, APP, None).await.status, StatusCode::NO_CONTENT);
        assert_eq!(store.rem_export(None, 100).await.unwrap(), [], "every part of it");
        assert_eq!(with_key(&rig, Method::DELETE, &purge, APP, None).await.status, StatusCode::NOT_FOUND);
    }
    let made = RemRow { made: true, ..crate::rem_cases::row(1, RemTable::Entities, "gpt", "acme/app") };
    let id = made.id;
    let put = RemWrite::Put { row: Box::new(made), vector: None, edges: None };
    store.rem_apply(&TenantId::new("acme"), &[put]).await.unwrap();
    for (table, told) in [("moments", (404, "not_found")), ("entities", (403, "forbidden"))] {
        let path = format!("/rem/v1/{table}/{id}?purge=true");
        let answer = with_key(&rig, Method::DELETE, &path, APP, None).await;
        assert_eq!(problem(&answer), (told.0, told.1.to_owned()));
    }
    assert_eq!(store.rem_export(None, 100).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_row_is_changed_by_the_key_that_wrote_it_and_no_other() {
    let rig = rig().await;
    let handbook = |text: &str| json!({ "name": "handbook", "description": text, "public": true });
    let ids = write(&rig, APP, "entities", handbook("of app")).await;
    let path = format!("/rem/v1/entities/{}", ids[0]);
    let purge = format!("{path}?purge=true");
    let edge = json!({ "source_id": ids[0], "target": "nowhere", "type": "t" });
    for (method, path, body) in [
        (Method::PATCH, path.as_str(), Some(json!({ "description": "of other" }))),
        (Method::DELETE, &path, None),
        (Method::DELETE, &purge, None),
        (Method::POST, "/rem/v1/edges", Some(edge.clone())),
    ] {
        let answer = with_key(&rig, method, path, OTHER, body).await;
        assert_eq!(problem(&answer), (403, "forbidden".to_owned()), "{path}: {}", answer.text());
    }
    assert_ne!(write(&rig, OTHER, "entities", handbook("of other")).await, ids);
    assert_eq!(write(&rig, APP, "entities", handbook("of app again")).await, ids, "his own is replaced");
    let both = found(&rig, GLOBEX, "LOOKUP handbook").await;
    assert_eq!(both["count"], 0);
    let both = found(&rig, OTHER, "LOOKUP handbook").await;
    let mut texts: Vec<&str> =
        both["results"].as_array().unwrap().iter().map(|row| row["data"]["description"].as_str().unwrap()).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["of app again", "of other"]);
    assert_eq!(with_key(&rig, Method::POST, "/rem/v1/edges", APP, Some(edge)).await.status, StatusCode::CREATED);
    assert_eq!(with_key(&rig, Method::DELETE, &path, APP, None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(found(&rig, APP, "LOOKUP handbook").await["count"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_and_the_description_can_be_read() {
    let rig = rig().await;
    let schema = with_key(&rig, Method::GET, "/rem/v1/schema", APP, None).await.json();
    assert_eq!(schema["tables"][0]["name"], "resources");
    assert_eq!(schema["tables"][0]["embedded_field"], "content");
    assert!(schema["grammar"].as_str().unwrap().contains("TRAVERSE"));
    let described = send(&rig, Method::GET, "/rem/openapi.json", &[], "").await;
    assert_eq!((described.status, &described.json()["openapi"]), (StatusCode::OK, &json!("3.1.0")));
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_sees_what_the_key_sees_and_does_nothing_else() {
    let rig = rig().await;
    let plan = json!({ "name": "plan", "content": "canary", "graph_edges": [{ "target": "Ann", "type": "by" }] });
    write(&rig, APP, "resources", plan).await;
    let counted = found(&rig, APP, "SELECT count(*) AS n FROM resources").await;
    assert_eq!(counted["results"][0]["data"]["n"], 1);
    assert_eq!(found(&rig, APP, "SELECT * FROM edges").await["count"], 1);
    for key in [OTHER, GLOBEX] {
        for query in ["SELECT * FROM resources", "SELECT * FROM edges", "SELECT * FROM names WHERE key = 'plan'"] {
            let answer = found(&rig, key, query).await;
            assert_eq!(answer["results"], json!([]), "{query}");
        }
    }
    for (query, code) in [
        ("WITH d AS (DELETE FROM resources RETURNING *) SELECT * FROM d", "read_only"),
        ("SQL DELETE FROM resources", "read_only"),
        ("SQL DELETE FROM resources WHERE name = 'plan' LIMIT 1", "read_only"),
        ("SELECT * FROM pg_authid", "unknown_table"),
        ("SELECT load_extension('x') FROM resources", "not_allowed"),
    ] {
        assert_eq!(problem(&ask(&rig, APP, query).await), (400, code.to_owned()), "{query}");
    }
    let schema = with_key(&rig, Method::GET, "/rem/v1/schema", APP, None).await.json();
    for query in schema["examples"].as_array().unwrap() {
        let answer = ask(&rig, APP, query.as_str().unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK, "{query}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_configuration_every_credential_asks_for_what_is_its_own() {
    let rig = Rig::start().await;
    let nobody = send(&rig, Method::POST, "/rem/v1/query", &[], json!({ "query": "LOOKUP x" }).to_string()).await;
    assert_eq!(problem(&nobody), (401, "unauthorized".to_owned()));
    write(&rig, "sk-one", "entities", json!({ "name": "diary", "public": true })).await;
    assert_eq!(names(&found(&rig, "sk-one", "LOOKUP diary").await), ["diary"]);
    assert_eq!(names(&found(&rig, "sk-two", "LOOKUP diary").await), Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_serves_it_ends_it_in_order_and_does_without() {
    let home = Home::nowhere().exact();
    let running = home.start().await;
    let rem = running.rem.unwrap();
    let ask = || {
        let headers = [("authorization", "Bearer sk-one")];
        crate::child::request(Method::POST, rem, "/rem/v1/query", &headers, r#"{"query": "LOOKUP x"}"#.into())
    };
    assert_eq!(running.exchange(ask()).await.status, StatusCode::OK);
    let refused = tokio::net::TcpStream::connect(rem).await.unwrap();
    drop(refused);
    running.child.signal("INT");
    let mut child = running.child;
    assert_eq!(child.ended().await.code(), Some(0), "{}", child.log());
    says(&child.log(), &["SIGINT", "connections closed plane=\"rem\"", "store closed, bye"]);

    let home = Home::nowhere().exact().with("[rem]\nenabled = false");
    let running = home.start().await;
    assert_eq!(running.rem, None);
    assert!(!running.stop().await.contains("plane=\"rem\""));
}
