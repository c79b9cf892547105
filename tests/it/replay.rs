//! `remora replay` as it is used: a file in, figures out, and what happens when something is wrong.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::canned::{Canned, chat_answer, response};
use crate::child::{Home, Running, says, until};
use crate::rig::{Answer, Plan, Rig, chat};

const THINGS: [&str; 12] = [
    "card", "loan", "passport", "parcel", "ticket", "garden", "engine", "recipe", "concert", "invoice", "camera",
    "bicycle",
];

/// 12 intents, each asked in three ways.
fn intents() -> String {
    let ways = ["Where is my {}?", "\"Hello, please tell me where my {} is\"", "I cannot find my {}"];
    let rows = THINGS.iter().flat_map(|thing| ways.map(|way| format!("{},{thing}_lost\n", way.replace("{}", thing))));
    format!("text,category\n{}", rows.collect::<String>())
}

const PAIRS: &str = r#"{"id":"1","category":"near_repeat","a":"Where is order 7781?","b":"where is order 7781","same_answer":true,"style":"minimal"}
{"id":"2","category":"number_date","a":"Where is order 7781?","b":"Where is order 7782?","same_answer":false,"style":"minimal"}
{"id":"3","subtype":"context_swap","a":[{"role":"user","content":"Rome"},{"role":"assistant","content":"Yes?"},{"role":"user","content":"Book it"}],"b":[{"role":"user","content":"Oslo"},{"role":"assistant","content":"Yes?"},{"role":"user","content":"Book it"}],"same_answer":false}
"#;

/// The rows of one policy family.
fn policies<'a>(report: &'a Value, family: &str) -> Vec<&'a Value> {
    report["policies"].as_array().unwrap().iter().filter(|row| row["policy"] == family).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_judged_alike_each_time_and_drawn() {
    let home = Home::nowhere();
    home.write("intents.csv", intents());
    let args = ["replay", "intents.csv", "--fixed", "0,1", "--json", "--plot", "curve.svg"];
    let ran = home.run(&args).await;
    let report: Value = serde_json::from_str(ran.ok()).unwrap();
    assert_eq!((&report["kind"], &report["requests"], &report["classes"]), (&"stream".into(), &36.into(), &12.into()));
    // At a cosine of 0 everything but the first request is served; of 36 in 12 intents most of it is wrong.
    let fixed = policies(&report, "fixed");
    let run = &fixed[0]["runs"][0];
    assert_eq!((&run["requests"], &run["hits"]), (&36.into(), &35.into()));
    assert!(run["wrong"].as_u64().unwrap() >= 20, "{run}");
    assert_eq!(fixed[1]["runs"][0]["hits"], 0, "no two texts are equal");
    assert_eq!(policies(&report, "current").len(), 1);
    assert!(ran.err.contains("embedding: 36 of 36"), "{}", ran.err);

    let svg = std::fs::read_to_string(home.path("curve.svg")).unwrap();
    says(&svg, &["<svg", "</svg>", "fixed + guards", "vcache", "current", "wrong answers / requests"]);
    assert_eq!(home.files().keys().collect::<Vec<_>>(), ["curve.svg", "intents.csv"]);

    assert_eq!(home.run(&args).await.ok(), ran.out, "a seed decides a run");
    let table = home.run(&["replay", "intents.csv", "--seeds", "2", "--limit", "20", "--answers", "noisy"]).await;
    says(table.ok(), &["20 requests", "seed 1, 2", "10 % reworded, 3 % of another intent", "fixed 0.85 + guards", "±"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pairs_are_judged_one_by_one_and_context_counts() {
    let home = Home::nowhere();
    home.write("pairs.jsonl", PAIRS);
    let ran = home.run(&["replay", "pairs.jsonl", "--fixed", "0.8", "--json"]).await;
    let report: Value = serde_json::from_str(ran.ok()).unwrap();
    let served = |family: &str| {
        let rows = policies(&report, family);
        (rows[0]["true_pairs_served"]["count"].clone(), rows[0]["traps_served"]["count"].clone())
    };
    assert_eq!(report["pairs"], 3);
    assert_eq!(served("fixed"), (1.into(), 1.into()), "the other number is served, the other conversation is not");
    assert_eq!(served("fixed + guards"), (1.into(), 0.into()));
    assert_eq!(served("current"), (1.into(), 0.into()));
    let table = home.run(&["replay", "pairs.jsonl"]).await;
    says(table.ok(), &["3 labelled pairs", "true pairs served", "trap · number_date · minimal", "trap · context_swap"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named_and_has_its_exit_code() {
    let home = Home::nowhere();
    home.write("bad.csv", "text,category\nfine,a\nnot fine\n");
    home.write("empty.jsonl", "\n");
    home.write("pairs.jsonl", PAIRS);
    home.write("intents.csv", intents());
    for (args, words) in [
        (&["bad.csv"][..], &["bad.csv:3: has 1 fields instead of 2"][..]),
        (&["empty.jsonl"], &["empty.jsonl: is empty"]),
        (&["absent.csv"], &["absent.csv: cannot be read"]),
        (&["intents.csv", "--split", "train"], &["has no splits"]),
        (&["--store", "sqlite://absent.db"], &["absent.db: there is no such database"]),
        (&["--store", "postgres://db"], &["give sqlite://PATH"]),
        (&["pairs.jsonl", "--plot", "absent/curve.svg"], &["absent/curve.svg: cannot be written"]),
    ] {
        says(home.run(&[&["replay"], args].concat()).await.failed(1), words);
    }
    for (args, words) in [
        (&[][..], &["<FILE>"][..]),
        (&["intents.csv", "--fixed", "0.9,2"], &["from 0 to 1"]),
        (&["intents.csv", "--seeds", "0"], &["--seeds"]),
        (&["intents.csv", "--answers", "noisy", "--wrong", "0.6", "--reworded", "0.6"], &["at most 1"]),
        (&["pairs.jsonl", "--limit", "2"], &["--limit is for streams"]),
        (&["intents.csv", "--store", "sqlite://remora.db"], &["cannot be used with", "--store"]),
        (&["intents.csv", "--tenant", "t"], &["--tenant selects from recorded traffic; give --store"]),
        (&["--store", "sqlite://remora.db", "--fit", "w.json"], &["cannot be used with", "--fit"]),
        (&["--store", "sqlite://remora.db", "--since", "long"], &["as in 7d"]),
        (&["--store", "sqlite://remora.db", "--answers", "noisy"], &["what really happened"]),
    ] {
        says(home.run(&[&["replay"], args].concat()).await.failed(2), words);
    }
    says(home.run(&["replay", "--help"]).await.ok(), &["Examples:", "--answers", "130 interrupted"]);
}

#[test]
fn ctrl_c_ends_it_at_once_and_leaves_no_file() {
    let home = Home::nowhere();
    let rows = (0..3_000).map(|i| format!("What is meant by the {i}th entry of the list?,c{}\n", i % 50));
    home.write("long.csv", format!("text,category\n{}", rows.collect::<String>()));
    let mut child = Command::new(env!("CARGO_BIN_EXE_remora"))
        .args(["replay", "long.csv", "--plot", "curve.svg"])
        .current_dir(home.dir.path())
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("embedding: "));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(out, "");
    assert_eq!(home.files().keys().collect::<Vec<_>>(), ["long.csv"]);
}

/// An upstream that says one thing of each of [`THINGS`].
async fn guide() -> Canned {
    Canned::start(|request| {
        let page = THINGS.iter().position(|thing| request.contains(*thing)).unwrap_or_default();
        let text = format!("The {} is on page {} of the guide, after the chapter on travel.", THINGS[page], page + 7);
        vec![response("application/json", "", chat_answer(&text).as_bytes())]
    })
    .await
}

/// Waits until the decision about an answer and its ledger row are stored.
async fn settled(running: &Running, answer: &Answer) {
    running.row(answer).await;
    let path = format!("/admin/v1/cache/decisions/{}", answer.header("x-remora-request-id"));
    let decided = || async { (running.admin(Method::GET, &path, None).await.status == StatusCode::OK).then_some(()) };
    until("the decision", decided).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn recorded_traffic_is_judged_while_the_program_runs_and_when_it_has_stopped() {
    let upstream = guide().await;
    let config = "[embedding]\ndeadline = \"20s\"\n[cache]\nrecord_prompts = true\n[cache.audit]\nrate = 0";
    let home = Home::new(&format!("http://{}", upstream.addr)).with(config);
    let running = home.start().await;
    let ways = [
        "Where is my {}?",
        "Where is my {} now?",
        "Please tell me where my {} is",
        "I can't find my {}",
        "What has become of my {}?",
    ];
    let mut hits = 0;
    for prompt in ways.iter().flat_map(|way| THINGS.map(|thing| way.replace("{}", thing))) {
        let answer = running.chat("sk-a", &chat(&prompt)).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        hits += usize::from(answer.cache() == "HIT");
        settled(&running, &answer).await;
    }
    assert!(hits > 0, "nothing was served by similarity");

    let args = ["replay", "--store", "sqlite://remora.db", "--fixed", "0,1", "--since", "1d"];
    let ran = home.run(&[&args[..], &["--json"]].concat()).await;
    let report: Value = serde_json::from_str(ran.ok()).unwrap();
    assert_eq!(
        (&report["kind"], &report["requests"], &report["file"]),
        (&json!("stream"), &json!(60), &json!("sqlite://remora.db"))
    );
    let facts = &report["recorded"];
    assert_eq!((&facts["decisions"], &facts["with_prompt"], &facts["unknown"]), (&json!(60), &json!(60), &json!(0)));
    assert_eq!((&facts["unchecked"], &facts["apart"]), (&json!(hits), &json!(0)), "nothing was audited");
    let classes = report["classes"].as_u64().unwrap();
    assert!((12..=60 - hits as u64).contains(&classes), "{classes} classes, {hits} hits");
    // At a cosine of 0 everything but the first request is served, and nearly all of it is wrong.
    let fixed = policies(&report, "fixed");
    assert_eq!((&fixed[0]["runs"][0]["hits"], &fixed[1]["runs"][0]["hits"]), (&json!(59), &json!(0)));
    assert!(fixed[0]["runs"][0]["wrong"].as_u64().unwrap() >= 20, "{}", fixed[0]);
    assert_eq!(policies(&report, "current").len(), 1);

    let again = running.chat("sk-a", &chat("Where is my card?")).await;
    assert_eq!((again.cache(), again.header("x-remora-tier")), ("HIT", "exact"), "the program goes on");
    running.stop().await;
    let before = home.files();
    let table = home.run(&[&args[..], &["--limit", "20", "--seeds", "2", "--model", "gpt-4o-mini"]].concat()).await;
    let unchecked = " of 20 requests rest on a hit that nobody checked";
    says(
        table.ok(),
        &["20 recorded requests", "gone after 1d", "60 decisions, all with prompts", unchecked, "fixed 1.00"],
    );
    assert_eq!(home.files(), before, "the store was only read");
    let nobody = home.run(&["replay", "--store", "sqlite://remora.db", "--tenant", "nobody"]).await;
    says(nobody.failed(1), &["no decision is recorded", "cache.record_prompts = true"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_without_a_candidate_leaves_a_row_only_where_prompts_are_recorded() {
    for record in [true, false] {
        let change = move |config: &mut remora::config::Config| {
            (config.cache.record_prompts, config.cache.similarity) = (record, 1.0);
        };
        let rig = Rig::with(Plan { change: std::sync::Arc::new(change), ..Plan::default() }).await;
        let mut rows = Vec::new();
        for (prompt, reason) in [("Tell me of tides", "no_neighbour"), ("Sing me a song", "below_threshold")] {
            let answer = rig.chat("sk-a", &chat(prompt)).await;
            assert_eq!((answer.cache(), answer.reason()), ("MISS", reason));
            rig.settle().await;
            let path = format!("/admin/v1/cache/decisions/{}", answer.header("x-remora-request-id"));
            let row = rig.admin(Method::GET, &path, None).await;
            assert_eq!(row.status == StatusCode::OK, record, "{}", row.text());
            if record {
                let row = row.json();
                assert_eq!((&row["verdict"], &row["prompt"]), (&json!(reason), &json!(prompt)));
                assert_eq!((&row["cosine"], &row["entry"]), (&Value::Null, &Value::Null), "{row}");
                rows.push(row);
            }
        }
        assert_eq!(rows.len(), if record { 2 } else { 0 });
    }
}
