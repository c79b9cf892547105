//! Invalidation by the whole program: a dry run shows exactly what goes, what goes does not come back, and each change
//! leaves its row in the audit.

use std::sync::{Mutex, mpsc};

use bytes::Bytes;
use http::{Method, StatusCode};
use remora::simulate::{self, KeyRule, Options};
use serde_json::{Value, json};

use crate::admin_api::problem;
use crate::canned::{Canned, chat_answer, response};
use crate::child::{Home, Running, request, says, try_exchange};
use crate::rig::{Answer, chat};

const INVALIDATE: &str = "/admin/v1/cache/invalidate";
const KEY: &str = "sk-one";

/// Prompts around one subject, as different users put them.
const REFUNDS: [&str; 8] = [
    "What is your refund policy?",
    "Please explain the refund policy to me.",
    "How does the refund policy work for digital goods?",
    "Can I get a refund after two weeks?",
    "How long does a refund take?",
    "Who do I ask for a refund?",
    "Is there a fee when I request a refund?",
    "Refund rules for annual plans, please.",
];

/// Prompts about other things, some of which sound alike.
const OTHERS: [&str; 14] = [
    "What is the privacy policy of a bank?",
    "How do I reset my password?",
    "Write a haiku about autumn leaves.",
    "What is the capital of France?",
    "How tall is Mount Everest?",
    "Explain how photosynthesis works.",
    "Translate good morning into Italian.",
    "Which planets have rings?",
    "How do I bake sourdough bread?",
    "What does a borrow checker do in Rust?",
    "Recommend a novel by Tolstoy.",
    "Why is the sky blue at noon?",
    "When did the Roman Empire fall?",
    "How do vaccines train the immune system?",
];

/// Between the farthest refund (0.564) and the nearest other prompt (0.334), as the built-in model places them.
const RADIUS: f64 = 0.45;

/// The program with thirty answers of several kinds.
struct Stocked {
    home: Home,
    running: Running,
    _sim: simulate::Handle,
}

/// A request of the stock: path and body.
fn stock() -> Vec<(&'static str, Value)> {
    let mut all: Vec<(&str, Value)> =
        REFUNDS.iter().chain(&OTHERS).map(|prompt| ("/v1/chat/completions", chat(prompt))).collect();
    for n in 0..4 {
        let prompt = format!("Completed text number {n}");
        all.push(("/v1/completions", json!({ "model": "gpt-3.5-turbo-instruct", "prompt": prompt })));
        let input = format!("Embedded text number {n}");
        all.push(("/v1/embeddings", json!({ "model": "text-embedding-3-small", "input": input, "dimensions": 8 })));
    }
    all
}

async fn ask(running: &Running, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let bearer = format!("Bearer {KEY}");
    let headers: Vec<_> = headers.iter().copied().chain([("authorization", bearer.as_str())]).collect();
    running.exchange(request(Method::POST, running.data, path, &headers, Bytes::from(body.to_string()))).await
}

async fn post(running: &Running, what: Value) -> Answer {
    running.admin(Method::POST, INVALIDATE, Some(what)).await
}

async fn done(running: &Running, what: Value) -> Value {
    let answer = post(running, what).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    answer.json()
}

async fn dry(running: &Running, mut what: Value) -> Value {
    what["dry_run"] = json!(true);
    done(running, what).await
}

async fn trail(running: &Running) -> Vec<Value> {
    running.told("/admin/v1/audit").await["data"].as_array().unwrap().clone()
}

impl Stocked {
    async fn new() -> Self {
        let options = Options { require_key: KeyRule::None, ..Options::default() };
        let sim = simulate::spawn(options, "127.0.0.1:0".parse().unwrap()).await.unwrap();
        // Each prompt of the stock is to be an answer of its own, however alike two of them are.
        let home = Home::new(&sim.url()).with("[embedding]\ndeadline = \"20s\"\n[cache]\nsimilarity = 0.95");
        let running = home.start().await;
        for (n, (path, body)) in stock().into_iter().enumerate() {
            let tags = format!("parity={}, third={}", n % 2, n % 3);
            let answer = ask(&running, path, &[("x-remora-tags", &tags)], &body).await;
            assert_eq!(answer.cache(), "MISS", "{body}: {}", answer.text());
        }
        let stocked = Self { home, running, _sim: sim };
        assert_eq!(stocked.hits().await.len(), 30);
        stocked
    }

    /// Which of the stock the cache would answer, from any tier; changes nothing.
    async fn hits(&self) -> Vec<usize> {
        let mut hits = Vec::new();
        for (nth, (path, body)) in stock().iter().enumerate() {
            let answer = ask(&self.running, path, &[("cache-control", "only-if-cached")], body).await;
            match answer.status.as_u16() {
                200 => hits.push(nth),
                504 => {}
                other => panic!("{other}: {}", answer.text()),
            }
        }
        hits
    }

    /// As after `kill -9` and a new start.
    async fn killed(self) -> Self {
        let Self { home, mut running, _sim } = self;
        running.child.signal("KILL");
        running.child.ended().await;
        let running = home.start().await;
        Self { home, running, _sim }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_radius_around_a_subject_takes_what_is_about_it_and_nothing_else() {
    let stocked = Stocked::new().await;
    let running = &stocked.running;
    let ranked = dry(running, json!({ "near": "refund policy", "radius": 0.01, "examples": 30 })).await;
    let of = |row: &Value| (row["prompts"][0].as_str().unwrap().to_owned(), row["cosine"].as_f64().unwrap());
    let ranked: Vec<(String, f64)> = ranked["examples"].as_array().unwrap().iter().map(of).collect();
    assert!(ranked.is_sorted_by(|a, b| a.1 >= b.1), "{ranked:?}");
    let (about, rest) = ranked.split_at(REFUNDS.len());
    assert!(about.iter().all(|(prompt, cosine)| REFUNDS.contains(&prompt.as_str()) && *cosine >= RADIUS), "{about:?}");
    assert!(rest.iter().all(|(_, cosine)| *cosine < RADIUS), "{rest:?}");

    let what = json!({ "near": "refund policy", "radius": RADIUS });
    let planned = dry(running, what.clone()).await;
    assert_eq!((&planned["would_remove"], &planned["points"]), (&json!(8), &json!(8)));
    assert_eq!(planned["examples"].as_array().unwrap().len(), 5, "the default");
    assert!(planned["examples"][0]["age_s"].is_u64() && planned["examples"][0]["tenant"].is_string());
    assert_eq!(stocked.hits().await.len(), 30, "a dry run removes nothing");
    assert_eq!(trail(running).await, [json!(null); 0], "and leaves no row");
    // With the default radius only what comes very close is meant.
    let close = dry(running, json!({ "near": "What is your refund policy?" })).await;
    assert_eq!(close["would_remove"], dry(running, json!({ "near": REFUNDS[0], "radius": 0.8 })).await["would_remove"]);
    assert_eq!(dry(running, json!({ "near": "zebra stripes" })).await["would_remove"], 0);

    let told = done(running, what).await;
    for name in ["points", "bytes"] {
        assert_eq!(told[name], planned[name], "{name}");
    }
    assert_eq!((&told["removed"], &told["strays"]), (&json!(8), &json!(0)));
    let left: Vec<usize> = (8..30).collect();
    assert_eq!(stocked.hits().await, left);
    let stocked = stocked.killed().await;
    assert_eq!(stocked.hits().await, left, "after kill -9");
    // What was similar is not answered either.
    let similar = ask(&stocked.running, "/v1/chat/completions", &[], &chat("What is your refund policy then?")).await;
    assert_eq!((similar.cache(), similar.header("x-remora-entry").len()), ("MISS", 26));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_select_removes_what_its_dry_run_said_and_leaves_one_row() {
    let mut stocked = Stocked::new().await;
    // An answer of the simulator repeats its question.
    let steps = [
        (json!({ "text": "REFUND policy" }), 3),
        (json!({ "answer_text": "mount everest" }), 1),
        (json!({ "dialect": "completions", "tag": "parity=0" }), 4),
        (json!({ "dialect": "embeddings", "tag": ["parity=1", "third=2"] }), 2),
        (json!({ "tier": "exact" }), 2),
        (json!({ "text": "haiku", "near": "poems about autumn", "radius": 0.4 }), 1),
        (json!({ "model": "gpt-4o-mini", "text": "how", "older_than_s": 0 }), 5),
        (json!({ "text": "how", "older_than_s": 0 }), 0),
        (json!({ "younger_than_s": 3600, "text": "refund", "namespace": "" }), 4),
        (json!({ "older_than_s": 3600 }), 0),
        (json!({ "younger_than_s": 3600 }), 8),
    ];
    let mut live = 30;
    let mut rows = 0;
    for (what, expected) in steps {
        let planned = dry(&stocked.running, what.clone()).await;
        assert_eq!(planned["would_remove"], expected, "{what}");
        let mut order = what.clone();
        order["expect_count"] = planned["would_remove"].clone();
        order["expect"] = planned["plan"].clone();
        order["reason"] = json!(format!("step {rows}"));
        let told = done(&stocked.running, order).await;
        for (told_as, planned_as) in [("removed", "would_remove"), ("points", "points"), ("bytes", "bytes")] {
            assert_eq!(told[told_as], planned[planned_as], "{what}");
        }
        assert!(told.get("warning").is_none(), "{told}");
        live -= expected;
        rows += 1;
        assert_eq!(stocked.hits().await.len(), live, "{what}");
        let trail = trail(&stocked.running).await;
        assert_eq!(trail.len(), rows, "{what}");
        let row = &trail[0];
        assert_eq!((&row["id"], &row["what"]), (&told["audit"], &what));
        assert_eq!((&row["actor"], &row["action"]), (&json!("loopback"), &json!("cache.invalidate")));
        assert_eq!(row["reason"], format!("step {}", rows - 1));
        assert_eq!((&row["result"]["removed"], &row["result"]["confirmed"]), (&json!(expected), &json!(true)));
        if rows % 4 == 0 {
            stocked = stocked.killed().await;
            assert_eq!(stocked.hits().await.len(), live, "after kill -9: {what}");
        }
    }
    assert_eq!((live, trail(&stocked.running).await.len()), (0, rows), "the audit survives a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_entry_goes_by_either_name_and_by_delete() {
    let stocked = Stocked::new().await;
    let running = &stocked.running;
    let id = async |nth: usize| {
        let (path, body) = stock().swap_remove(nth);
        ask(running, path, &[], &body).await.header("x-remora-entry").to_owned()
    };
    let (by_id, by_group, deleted) = (id(0).await, id(1).await, id(2).await);
    assert_eq!(done(running, json!({ "id": by_id })).await["removed"], 1);
    assert_eq!(done(running, json!({ "group": by_group, "id": by_group })).await["removed"], 1);
    let path = format!("/admin/v1/cache/entries/{deleted}?reason=wrong%20answer");
    assert_eq!(running.admin(Method::DELETE, &path, None).await.json(), json!({ "removed": 1 }));
    assert_eq!(stocked.hits().await, (3..30).collect::<Vec<_>>());
    problem(&running.admin(Method::DELETE, &path, None).await, 404, &["entry"]);
    let trail = trail(running).await;
    assert_eq!(trail.len(), 3, "what was refused leaves no row");
    assert_eq!((&trail[0]["action"], &trail[0]["reason"]), (&json!("cache.delete"), &json!("wrong answer")));
    assert_eq!((&trail[0]["what"]["id"], &trail[0]["result"]["removed"]), (&json!(deleted), &json!(1)));

    let page = running.told("/admin/v1/audit?limit=2").await;
    assert_eq!(page["data"], json!(trail[..2]));
    let next = running.told(&format!("/admin/v1/audit?limit=2&cursor={}", page["next_cursor"].as_str().unwrap())).await;
    assert_eq!((&next["data"], &next["next_cursor"]), (&json!(trail[2..]), &json!(null)));
    problem(&running.admin(Method::GET, "/admin/v1/audit?cursor=x", None).await, 400, &["`x`"]);
    problem(&running.admin(Method::GET, "/admin/v1/audit?colour=blue", None).await, 400, &["colour"]);
    let stocked = stocked.killed().await;
    assert_eq!(stocked.hits().await, (3..30).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_names_what_is_wrong_and_the_way_out_and_changes_nothing() {
    let stocked = Stocked::new().await;
    let running = &stocked.running;
    for (what, words) in [
        (json!({}), vec!["nothing narrows", "near", "\"all\": true"]),
        (json!({ "tag": [] }), vec!["nothing narrows"]),
        (json!({ "id": "x" }), vec!["`x`", "26 characters"]),
        (json!({ "group": "y" }), vec!["`y`", "26 characters"]),
        (json!({ "id": "x", "group": "y" }), vec!["`id`", "`group`", "one of them"]),
        (json!({ "near": "refund", "radius": 0 }), vec!["radius", "above 0 and up to 1", "not 0"]),
        (json!({ "near": "refund", "radius": 1.5 }), vec!["radius", "not 1.5"]),
        (json!({ "near": "refund", "radius": -1 }), vec!["radius", "not -1"]),
        (json!({ "radius": 0.9, "model": "m" }), vec!["`radius` goes with `near`"]),
        (json!({ "near": " " }), vec!["`near` is empty"]),
        (json!({ "text": "" }), vec!["`text` is empty"]),
        (json!({ "answer_text": "" }), vec!["`answer_text` is empty"]),
        (json!({ "tag": ["a=b", "c"] }), vec!["name=value"]),
        (json!({ "dialect": "morse" }), vec!["`morse`", "chat, completions, embeddings"]),
        (json!({ "tier": "third" }), vec!["`third`", "exact or semantic"]),
        (json!({ "all": true, "reason": "x".repeat(1_001) }), vec!["`reason`", "1001", "1000"]),
    ] {
        problem(&post(running, what).await, 400, &words);
    }
    for (what, words) in [
        (json!({ "modle": "m" }), vec!["modle", "younger_than_s"]),
        (json!({ "tag": 3 }), vec!["name=value", "list"]),
        (json!({ "older_than_s": "30d" }), vec!["older_than_s"]),
    ] {
        problem(&post(running, what).await, 422, &words);
    }
    let refused = post(running, json!({ "text": "refund", "expect_count": 7 })).await;
    problem(&refused, 409, &["8 entries", "7 were expected", "nothing was removed"]);
    assert_eq!(stocked.hits().await.len(), 30);
    assert!(trail(running).await.is_empty());
    // Another plan is told, not refused.
    let told = done(running, json!({ "text": "haiku", "expect": "0123", "expect_count": 1 })).await;
    says(told["warning"].as_str().unwrap(), &["changed", "expect_count"]);
    assert_eq!(trail(running).await[0]["result"]["as_planned"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_embedder_near_is_refused_with_the_reason_and_all_else_works() {
    let sim = simulate::spawn(Options::default(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let closed = "[embedding]\nkind = \"openai\"\nmodel = \"m\"\ndimensions = 4\nurl = \"http://127.0.0.1:9/v1\"";
    let running = Home::new(&sim.url()).with(closed).start().await;
    assert_eq!(running.chat(KEY, &chat(REFUNDS[0])).await.cache(), "MISS");
    for dry_run in [true, false] {
        let refused = post(&running, json!({ "near": "refund", "dry_run": dry_run })).await;
        problem(&refused, 503, &["`near`", "remote_unreachable", "`text`"]);
    }
    assert_eq!(done(&running, json!({ "text": "refund" })).await["removed"], 1);
    assert_eq!(trail(&running).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_answer_that_was_asked_for_before_and_comes_after_is_not_stored() {
    let (arrived, arrivals) = mpsc::channel();
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let upstream = Canned::start(move |seen| {
        arrived.send(()).unwrap();
        gate.lock().unwrap().recv().unwrap();
        let embeddings = json!({
            "object": "list", "model": "e", "data": [{ "object": "embedding", "index": 0, "embedding": [0.5, 0.5] }],
            "usage": { "prompt_tokens": 2, "total_tokens": 2 },
        });
        let body = if seen.contains("/v1/embeddings") { embeddings.to_string() } else { chat_answer("About refunds.") };
        vec![response("application/json", "", body.as_bytes())]
    })
    .await;
    let running = Home::new(&format!("http://{}", upstream.addr)).exact().start().await;
    let arrivals = std::sync::Arc::new(Mutex::new(arrivals));
    let embeddings = json!({ "model": "e", "input": "refund" });
    for (path, body, what, stored_before) in [
        ("/v1/chat/completions", chat("A refund, please"), json!({ "text": "refund" }), 0),
        // The answer to the first, which was stored in the end.
        ("/v1/chat/completions", chat("Money, please"), json!({ "answer_text": "ABOUT refunds" }), 1),
        ("/v1/embeddings", embeddings, json!({ "model": "e" }), 0),
    ] {
        let ask = |control: &'static str| {
            let headers = [("authorization", "Bearer sk-one"), ("cache-control", control)];
            let sent = request(Method::POST, running.data, path, &headers, Bytes::from(body.to_string()));
            let client = running.client.clone();
            async move { try_exchange(&client, sent).await.unwrap() }
        };
        let arrives = || {
            let arrivals = std::sync::Arc::clone(&arrivals);
            tokio::task::spawn_blocking(move || arrivals.lock().unwrap().recv().unwrap())
        };
        let asking = tokio::spawn(ask("max-age=60"));
        arrives().await.unwrap();
        assert_eq!(done(&running, what.clone()).await["removed"], stored_before, "{what}");
        release.send(()).unwrap();
        let answer = asking.await.unwrap();
        assert_eq!((answer.status, answer.cache()), (StatusCode::OK, "MISS"), "the client has its answer");
        assert_eq!(ask("only-if-cached").await.status, StatusCode::GATEWAY_TIMEOUT, "{what}: it was stored");
        if path == "/v1/chat/completions" {
            assert_eq!(answer.reason(), "invalidated");
        }
        // Asked again, after the invalidation, it is.
        let asking = tokio::spawn(ask("max-age=60"));
        arrives().await.unwrap();
        release.send(()).unwrap();
        asking.await.unwrap();
        assert_eq!(ask("only-if-cached").await.status, StatusCode::OK, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_has_every_filter_and_shows_examples_and_the_audit() {
    let stocked = Stocked::new().await;
    let admin = stocked.running.admin_url();
    let cli = async |args: &[&str]| stocked.home.run(&[args, &["--admin", &admin]].concat()).await;
    let invalidate = async |args: &[&str]| cli(&[&["cache", "invalidate"], args].concat()).await;

    let radius = RADIUS.to_string();
    let near = ["--near", "refund policy", "--radius", &radius];
    let shown = invalidate(&[&near[..], &["--dry-run", "--examples", "2"]].concat()).await;
    says(shown.ok(), &["would_remove  8", "plan ", "cosine", "age_s", "refund policy"]);
    assert_eq!(shown.out.lines().filter(|line| line.contains("0.")).count(), 2, "{}", shown.out);
    let json: Value =
        serde_json::from_str(invalidate(&[&near[..], &["--dry-run", "--json"]].concat()).await.ok()).unwrap();
    assert_eq!(json["examples"].as_array().unwrap().len(), 5);

    let plan = json["plan"].as_str().unwrap();
    let wrong = invalidate(&[&near[..], &["--expect-count", "9", "--yes"]].concat()).await;
    says(wrong.failed(1), &["409", "8 entries", "9 were expected"]);
    let expecting = ["--expect", plan, "--expect-count", "8", "--yes", "--reason", "new terms"];
    says(invalidate(&[&near[..], &expecting[..]].concat()).await.ok(), &["removed", "8", "audit"]);
    let warned = invalidate(&["--text", "haiku", "--expect", plan]).await;
    assert!(warned.err.contains("changed since the dry run"), "{warned:?}");
    says(warned.ok(), &["removed", "1"]);

    for (args, count) in [
        (&["--tag", "parity=1", "--tag", "third=0", "--tier", "exact"][..], "1"),
        (&["--dialect", "embeddings", "--younger-than", "1h"], "3"),
        (&["--dialect", "completions", "--older-than", "30d"], "0"),
        (&["--older-than", "0", "--answer-text", "everest"], "1"),
        (&["--older-than", "86400"], "0"),
    ] {
        says(invalidate(args).await.ok(), &[&format!("removed  {count}\n")]);
    }
    for wrong in [&["--older-than", "1.5h"][..], &["--radius", "x"], &["--frobnicate"]] {
        invalidate(wrong).await.failed(2);
    }
    says(invalidate(&["--near", "x", "--radius", "2"]).await.failed(1), &["400", "radius"]);
    says(invalidate(&["--group", "x"]).await.failed(1), &["400", "`x`"]);
    says(&stocked.home.run(&["cache", "invalidate", "--help"]).await.out, &["--near", "group", "refund policy"]);

    let listed = cli(&["audit", "list"]).await;
    says(listed.ok(), &["actor", "loopback", "cache.invalidate", "new terms"]);
    assert_eq!(listed.out.lines().count(), 8, "a head and seven rows: {}", listed.out);
    let json: Value = serde_json::from_str(cli(&["audit", "list", "--limit", "1", "--json"]).await.ok()).unwrap();
    assert_eq!(json["data"][0]["what"], json!({ "older_than_s": 86400 }));
    let cursor = json["next_cursor"].as_str().unwrap();
    assert_eq!(cli(&["audit", "list", "--cursor", cursor]).await.ok().lines().count(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_tells_tokens_apart_and_gives_none_away() {
    let mut actors = Vec::new();
    for token in ["admin-0123456789abcdef", "admin-fedcba9876543210"] {
        let home = Home::nowhere().exact().with("[admin]\ntoken_env = \"TOKEN\"").env("TOKEN", token);
        // Both programs have the same secret, and so would hash alike.
        std::fs::write(home.path("secret"), [7; 32]).unwrap();
        std::process::Command::new("chmod").arg("600").arg(home.path("secret")).status().unwrap();
        let home = home.with("[store]\nsecret_file = \"secret\"").env("REMORA_ADMIN_TOKEN", token);
        let running = home.start().await;
        let admin = running.admin_url();
        home.run(&["cache", "invalidate", "--all", "--admin", &admin]).await.ok();
        let row = home.run(&["audit", "list", "--json", "--admin", &admin]).await;
        assert!(!row.ok().contains(token));
        let row: Value = serde_json::from_str(row.ok()).unwrap();
        actors.push(row["data"][0]["actor"].as_str().unwrap().to_owned());
    }
    assert!(actors.iter().all(|actor| actor.len() == 8 && actor.bytes().all(|b| b.is_ascii_hexdigit())), "{actors:?}");
    assert_ne!(actors[0], actors[1]);
}
