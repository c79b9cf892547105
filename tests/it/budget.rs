//! The error budget: zero serves nothing by similarity, a tenant may only lower it, what was learnt stays, and what is
//! explained is what is done.

use http::Method;
use remora::config::Config;
use remora::simulate::{self, KeyRule, Options};
use serde_json::{Value, json};

use crate::child::{Home, Running, says, until};
use crate::rig::{Rig, chat};
use crate::scripted::{SHOP, Scripted, compared, line, rows, shop};

const TIDES: &str = "Tell me about the tides";
const TIDES_PLEASE: &str = "Please tell me about the tides";

fn rate(of_all: f64, of_tenant: f64) -> impl Fn(&mut Config) {
    move |config| {
        shop(config);
        config.cache.max_error_rate = of_all;
        config.tenants[0].spec.cache.max_error_rate = Some(of_tenant);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_budget_of_zero_serves_equal_requests_only_and_a_tenant_may_only_lower_it() {
    let upstream = Scripted::start(&[]).await;
    for (of_all, of_tenant) in [(0.0, 0.0), (0.0, 0.5), (0.5, 0.0)] {
        let rig = upstream.rig(rate(of_all, of_tenant)).await;
        rig.chat(SHOP[0], &chat(TIDES)).await;
        for near in [TIDES_PLEASE, "TELL me about the tides"] {
            let asked = rig.chat(SHOP[0], &chat(near)).await;
            assert_eq!(line(&asked), ("MISS", "", "error_budget"), "{of_all} {of_tenant} {near}");
        }
        for equal in [TIDES, TIDES_PLEASE] {
            assert_eq!(line(&rig.chat(SHOP[0], &chat(equal)).await), ("HIT", "exact", ""));
        }
    }
    let rig = upstream.rig(rate(0.5, 0.001)).await;
    rig.chat(SHOP[0], &chat(TIDES)).await;
    assert_eq!(line(&rig.chat(SHOP[0], &chat(TIDES_PLEASE)).await), ("HIT", "semantic", ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_learnt_is_there_after_a_restart() {
    let upstream = Scripted::start(&[]).await;
    let mut rig = upstream.rig(|_| {}).await;
    for n in 0..12 {
        upstream.says(&format!("Where is parcel {n}?"), &format!("In hall {n}."));
        rig.chat("sk-a", &chat(&format!("Where is parcel {n}?"))).await;
        rig.chat("sk-b", &chat(&format!("Where is parcel {n}?"))).await;
    }
    compared(&rig, 22).await;
    let before = rows(&rig, "/admin/v1/cache/learners").await;
    assert_eq!(before.len(), 2, "each tenant has its own");
    for learner in &before {
        assert_eq!((&learner["seen"], &learner["labels"]), (&json!(12), &json!(11)), "{learner}");
    }
    rig.restart().await;
    assert_eq!(rows(&rig, "/admin/v1/cache/learners").await, before);
}

async fn learners(running: &Running) -> Value {
    running.told("/admin/v1/cache/learners").await["data"].clone()
}

async fn last_sweep(running: &Running) -> f64 {
    let text = running.admin(Method::GET, "/metrics", None).await.text();
    let line = text.lines().find(|line| line.starts_with("remora_task_last_success_seconds{task=\"sweep\"}")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_learnt_survives_kill_9_once_it_has_been_saved() {
    let options = Options { require_key: KeyRule::None, ..Options::default() };
    let sim = simulate::spawn(options, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let home = Home::new(&sim.url()).with("[embedding]\ndeadline = \"20s\"");
    let mut running = home.start().await;
    for n in 0..6 {
        running.chat("sk-one", &chat(&format!("Where is my order {}?", 7781 + n))).await;
    }
    let taught = || async {
        let learners = learners(&running).await;
        (learners[0]["labels"] == 5).then_some(learners)
    };
    let before = until("five misses have been compared", taught).await;
    assert_eq!(before[0]["seen"], 6);
    // What is learnt is saved with each sweep: the second one from now began after all of it was learnt, and when a third
    // begins the second has ended.
    for _ in 0..2 {
        let last = last_sweep(&running).await;
        until("a sweep", || async { (last_sweep(&running).await > last).then_some(()) }).await;
    }
    running.child.signal("KILL");
    running.child.ended().await;
    let running = home.start().await;
    assert_eq!(learners(&running).await, before);
}

/// Stored first, and asked about: paraphrases, traps, and what has nothing to do with any of them.
const PROMPTS: [&str; 36] = [
    "How do I reset my password?",
    "how do i reset my password",
    "How can I reset my password?",
    "I forgot my password, how do I get a new one?",
    "How do I reset my PIN?",
    "How do I not reset my password?",
    "Where is my order 7781?",
    "Where is my order 7782?",
    "Where is order 7781 now?",
    "Turn the lights on",
    "Turn the lights off",
    "Please turn the lights on",
    "What is the capital of France?",
    "What is the capital city of France?",
    "What is the capital of Spain?",
    "Summarise the meeting notes",
    "Please summarise the meeting notes",
    "Summarise the meeting notes in German",
    "How long does delivery take?",
    "How long will delivery take?",
    "How long did delivery take on Monday?",
    "What is your refund policy?",
    "Please explain the refund policy to me.",
    "Can I get a refund?",
    "How do I fly from Rome to Oslo?",
    "How do I fly from Oslo to Rome?",
    "Translate \"good morning\" into Italian.",
    "Translate \"good night\" into Italian.",
    "Which planets have rings?",
    "Which of the planets have rings?",
    "Write a haiku about autumn.",
    "Write a poem about autumn.",
    "Is it safe to eat raw eggs?",
    "Is it unsafe to eat raw eggs?",
    "Cancel my subscription",
    "I want to cancel my subscription",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_explained_is_what_is_done() {
    let rig = Rig::with_model().await;
    let first = rig.chat("sk-a", &chat("Hello there")).await;
    let tenant = rig.row(&first).await["tenant"].clone();
    let explain = async |headers: Value, body: &Value| -> Value {
        let ask = json!({ "tenant": tenant, "headers": headers, "body": body });
        let told = rig.admin(Method::POST, "/admin/v1/cache/explain", Some(ask)).await;
        assert_eq!(told.status, 200, "{}", told.text());
        told.json()
    };
    let mut served = [0, 0, 0];
    for (n, prompt) in PROMPTS.iter().chain(&PROMPTS[..6]).enumerate() {
        let headers: &[(&str, &str)] = match n % 9 {
            5 => &[("x-remora-similarity", "0.9")],
            7 => &[("x-remora-cache", "exact")],
            8 => &[("x-remora-cache", "shadow")],
            _ => &[],
        };
        let mut body = chat(prompt);
        if n % 7 == 2 {
            body["max_tokens"] = json!(3);
        }
        let as_json: serde_json::Map<String, Value> =
            headers.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        let told = explain(as_json.into(), &body).await;
        let answer = rig.chat_with("sk-a", headers, &body).await;
        let what = format!("{prompt} {headers:?}: {}", told["because"]);
        assert_eq!(told["result"] == "hit", answer.cache() == "HIT", "{what}");
        assert_eq!(told["tier"].as_str().unwrap_or(""), answer.header("x-remora-tier"), "{what}");
        if answer.cache() != "HIT" && answer.reason() != "finish_length" {
            assert_eq!(told["reason"], answer.reason(), "{what}");
        }
        assert!(!told["because"].as_str().unwrap().is_empty());
        served[match answer.header("x-remora-tier") {
            "exact" => 0,
            "semantic" => 1,
            _ => 2,
        }] += 1;
        rig.settle().await;
    }
    assert!(served.iter().all(|count| *count >= 3), "the prompts test little: {served:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_command_line_explains_a_decision_down_to_its_numbers() {
    let upstream = Scripted::start(&[]).await;
    let rig = upstream.rig(|_| {}).await;
    let first = rig.chat("sk-a", &chat(TIDES)).await;
    let tenant = rig.row(&first).await["tenant"].as_str().unwrap().to_owned();
    let home = Home::nowhere();
    home.write("request.json", chat(TIDES_PLEASE).to_string());
    let admin = format!("http://{}", rig.app().admin);
    let explain = async |more: &[&str]| {
        let args = ["cache", "explain", "--tenant", &tenant, "request.json", "--admin", &admin];
        home.run(&[&args[..], more].concat()).await
    };
    let told = explain(&[]).await;
    says(told.ok(), &["result       hit", "because ", "cosine 0.9700", "words ", "probability", "x·w", "group of 1"]);
    says(&told.out, &["group_size", "tenth_cosine", "learner      cold: 0 labels", "1 requests seen"]);
    says(explain(&["--header", "x-remora-cache=exact"]).await.ok(), &["result       miss", "reason       not_stored"]);
    says(explain(&["--header", "X-Remora-Cache=shadow"]).await.ok(), &["reason       shadow", "only watches"]);
    says(explain(&["--header", "x-remora-similarity=0.99"]).await.ok(), &["below_threshold", "floor of 0.99"]);
    explain(&["--header", "novalue"]).await.failed(2);
    says(explain(&["--header", "x-remora-cache=on"]).await.failed(1), &["400", "x-remora-cache"]);
}
