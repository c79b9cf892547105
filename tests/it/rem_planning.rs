//! The notes of a planning meeting, as a person brings them in and asks for them: through the command line, with the built-in model,
//! on both databases with equal answers.
//!
//! Needs PostgreSQL at DATABASE_URL.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use remora::config::Config;
use serde_json::{Value, json};

use crate::child::{Home, says, until};
use crate::fleet::Database;
use crate::rem_http::{APP, tenants, with_key};
use crate::rig::{Plan, Rig};

/// A proxy with the documents, each with its vector.
async fn brought_in(postgres: Option<&Database>) -> Rig {
    let url = postgres.map(|database| database.url().parse().unwrap());
    let change = move |config: &mut Config| {
        // Unoptimised builds on a busy machine take longer for a vector than a user would wait.
        config.embedding.deadline = Duration::from_secs(20);
        config.tenants = tenants();
        config.server.passthrough = false;
        config.rem.deadline = Duration::from_secs(30);
        if let Some(url) = &url {
            config.store.url = Clone::clone(url);
        }
    };
    let rig = Rig::with(Plan { embedder: None, change: Arc::new(change), ..Plan::default() }).await;
    let home =
        Home::nowhere().env("REMORA_REM_URL", &format!("http://{}", rig.app().rem.unwrap())).env("REMORA_API_KEY", APP);
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rem-demo");
    let file = |name: &str| demo.join(name).display().to_string();
    let notes = file("planning-meeting.txt");
    let ran = home.run(&["rem", "import", &notes, "--public", "--category", "meeting"]).await;
    says(ran.ok(), &["planning-meeting.txt: 1 object"]);
    says(home.run(&["rem", "import", &file("facts.jsonl")]).await.ok(), &["facts.jsonl: 12 objects"]);
    let store = rig.app().stores.rem.clone().unwrap();
    until("every text has its vector", || async {
        let all = store.rem_export(None, 1_000).await.unwrap();
        let bare = all
            .iter()
            .filter(|whole| whole.row.as_ref().is_some_and(|row| !row.text.is_empty()) && whole.vectors.is_empty());
        (bare.count() == 0).then_some(())
    })
    .await;
    rig
}

/// What both answer, which must be the same but for the times of writing.
async fn same(rigs: &[Rig; 2], query: &str) -> Vec<Value> {
    let mut told = Vec::new();
    for rig in rigs {
        let body = json!({ "query": query });
        let answer = with_key(rig, Method::POST, "/rem/v1/query", APP, Some(body)).await;
        assert_eq!(answer.status, StatusCode::OK, "{query}: {}", answer.text());
        let mut answer = answer.json();
        answer.as_object_mut().unwrap().remove("timing_ms");
        for row in answer["results"].as_array_mut().unwrap() {
            if let Some(data) = row["data"].as_object_mut() {
                data.retain(|name, _| !matches!(name.as_str(), "created_at" | "updated_at"));
            }
        }
        told.push(answer);
    }
    assert_eq!(told[0], told[1], "{query}");
    told.pop().unwrap()["results"].as_array().unwrap().clone()
}

fn names(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["name"].as_str().unwrap()).collect()
}

fn content(row: &Value) -> &str {
    row["data"]["content"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rem_the_planning_meeting_is_found_by_what_it_says_when_it_was_and_who_was_there() {
    let database = Database::new().await;
    let rigs = [brought_in(None).await, brought_in(Some(&database)).await];

    // Of eleven parts, and whatever else there is, the best is the one that answers.
    let owner = "2. Semantic Caching (Week 3-4)\n   - Cache architecture design\n   - Vector similarity matching\n   - TTL and \
                 invalidation logic\n   - Cost tracking metrics\n   Owner: Sarah Chen\n";
    let decided = "✓ Approved: Semantic caching implementation (ROI: 30% cost reduction)\n";
    for (query, says) in [
        ("SEARCH \"who owns the semantic cache?\" LIMIT 1", owner),
        ("SEARCH \"who is responsible for semantic caching?\" MODE vector LIMIT 1", owner),
        ("SEARCH \"decisions\" LIMIT 1", decided),
        ("SEARCH \"what were the decisions?\" LIMIT 1", decided),
        ("SEARCH \"which decisions were approved or deferred?\" MODE vector LIMIT 1", "✓ Deferred: Mobile app"),
        ("SEARCH \"what are the risks?\" LIMIT 1", "Risk: Data loss or corruption"),
        ("SEARCH \"what are the risks?\" MODE vector LIMIT 1", "Risk: Exceeding $8K/month budget"),
        // These have no word of the text, and lie less near to it than what is asked for without saying.
        ("SEARCH \"what was decided?\" MIN_SIMILARITY 0.2 LIMIT 1", decided),
        ("SEARCH \"what could go wrong?\" MIN_SIMILARITY 0.2 LIMIT 1", "Risk: Data loss or corruption"),
    ] {
        let found = same(&rigs, query).await;
        assert!(found.len() == 1 && content(&found[0]).contains(says), "{query}: {found:#?}");
    }
    for query in ["SEARCH \"what was decided?\"", "SEARCH \"what could go wrong?\""] {
        assert_eq!(same(&rigs, query).await, [] as [Value; 0], "{query}: docs/rem-cookbook.md says otherwise");
    }
    let found = same(&rigs, "SEARCH \"code freeze\" MODE text LIMIT 2").await;
    assert!(content(&found[0]).to_lowercase().contains("code freeze"), "{found:#?}");

    let december = "SQL moments WHERE \"starts_at >= '2024-12-01' AND starts_at < '2025-01-01'\" ORDER BY starts_at";
    let found = same(&rigs, december).await;
    let names_of = |rows: &[Value]| rows.iter().map(|row| row["data"]["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names_of(&found), ["Semantic Caching MVP", "Incident 2024-12-03"]);
    let meeting = same(&rigs, "LOOKUP q4-planning-meeting").await;
    assert_eq!((names(&meeting), &meeting[0]["table"]), (vec!["Q4 Planning Meeting"], &json!("moments")));
    assert_eq!(meeting[0]["data"]["starts_at"], "2024-11-15T10:00:00.000Z", "{meeting:#?}");

    let owned = same(&rigs, "TRAVERSE \"Sarah Chen\" TYPE owns").await;
    assert_eq!(names(&owned), ["Sarah Chen", "Semantic Caching"]);
    let planned = same(&rigs, "TRAVERSE sarah TYPE owns, planned_in DEPTH 2").await;
    assert_eq!(names(&planned), ["Sarah Chen", "Semantic Caching", "planning-meeting"]);
    assert_eq!(
        (&planned[2]["depth"], &planned[2]["via"], &planned[2]["path"]),
        (&json!(2), &json!("planned_in"), &json!(["Sarah Chen", "Semantic Caching", "planning-meeting"]))
    );
    assert_eq!(names(&same(&rigs, "FUZZY \"mike rodrigez\" LIMIT 1").await), ["Mike Rodriguez"]);
    // The document is in parts, one behind the other, and all of it is there.
    let parts = same(&rigs, "TRAVERSE planning-meeting TYPE next_part DEPTH 10").await;
    let text: String = parts.iter().map(content).collect();
    let solid = |text: &str| text.chars().filter(|letter| !letter.is_whitespace()).collect::<String>();
    let whole =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rem-demo/planning-meeting.txt"));
    assert_eq!(solid(&text), solid(&whole.unwrap()));
}
