//! `remora replay` as it is used: a file in, figures out, and what happens when something is wrong.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::child::{Home, says};

/// 12 intents, each asked in three ways.
fn intents() -> String {
    let things = [
        "card", "loan", "passport", "parcel", "ticket", "garden", "engine", "recipe", "concert", "invoice", "camera",
        "bicycle",
    ];
    let ways = ["Where is my {}?", "\"Hello, please tell me where my {} is\"", "I cannot find my {}"];
    let rows = things.iter().flat_map(|thing| ways.map(|way| format!("{},{thing}_lost\n", way.replace("{}", thing))));
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
