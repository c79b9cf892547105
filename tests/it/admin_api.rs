//! The admin plane of the real program, over HTTP and through the command line.

use std::collections::{BTreeMap, BTreeSet};

use http::{Method, StatusCode};
use remora::simulate::{self, KeyRule, Options};
use serde_json::{Value, json};

use crate::child::{Home, Ran, Running, chat_request, request, says, try_exchange, until};
use crate::rig::{Answer, chat, chat_stream};

async fn simulator() -> simulate::Handle {
    let options = Options { require_key: KeyRule::None, ..Options::default() };
    simulate::spawn(options, "127.0.0.1:0".parse().unwrap()).await.unwrap()
}

/// Ids are in the order of time to the millisecond, so what is to come later must be made later.
async fn next_millisecond() {
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
}

/// Metrics in the text format, read as strictly as a scraper reads them.
struct Exposition {
    /// Type by family.
    families: BTreeMap<String, String>,
    /// Value by series, with its labels as written.
    series: BTreeMap<String, f64>,
}

impl Exposition {
    fn parse(text: &str) -> Self {
        let (mut families, mut series, mut helped) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(helped.insert(name.to_owned()) && !help.is_empty(), "{line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(helped.contains(name), "no help for {name}");
                assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} comes twice");
            } else {
                let (id, value) = line.rsplit_once(' ').unwrap();
                assert!(series.insert(id.to_owned(), value.parse().unwrap()).is_none(), "{id} comes twice");
            }
        }
        let all = Self { families, series };
        all.check();
        all
    }

    /// What `promtool check metrics` asks for.
    fn check(&self) {
        for id in self.series.keys() {
            let name = id.split('{').next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let histogram = base.filter(|base| self.families.get(*base).is_some_and(|kind| kind == "histogram"));
            assert!(self.families.contains_key(histogram.unwrap_or(name)), "{id} has no type");
        }
        for (name, kind) in &self.families {
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            assert!(name.starts_with("remora_") || name.starts_with("process_"), "{name}");
        }
        for id in self.series.keys().filter(|id| id.contains("le=\"+Inf\"")) {
            let count = id.replacen("_bucket", "_count", 1).replace(",le=\"+Inf\"", "").replace("{le=\"+Inf\"}", "");
            assert_eq!(self.series.get(&count), self.series.get(id), "{id} and {count}");
        }
    }

    async fn of(running: &Running) -> Self {
        let answer = running.admin(Method::GET, "/metrics", None).await;
        assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
        Self::parse(&answer.text())
    }

    /// Sum over the series of a family that have all these labels.
    fn sum(&self, family: &str, labels: &[&str]) -> f64 {
        let of = |id: &str| id.split('{').next() == Some(family) && labels.iter().all(|label| id.contains(label));
        self.series.iter().filter(|(id, _)| of(id)).map(|(_, value)| value).sum()
    }
}

/// The series of this version. Those for prices, budgets, limits, alerts and REM come with them.
const FAMILIES: &[(&str, &str)] = &[
    ("requests_total", "counter"),
    ("cache_requests_total", "counter"),
    ("cache_entries", "gauge"),
    ("cache_bytes", "gauge"),
    ("cache_verdicts_total", "counter"),
    ("cache_similarity", "histogram"),
    ("coalesced_requests_total", "counter"),
    ("embedding_seconds", "histogram"),
    ("index_search_seconds", "histogram"),
    ("index_entries", "gauge"),
    ("tokens_total", "counter"),
    ("overhead_seconds", "histogram"),
    ("request_seconds", "histogram"),
    ("ttft_seconds", "histogram"),
    ("upstream_requests_total", "counter"),
    ("upstream_seconds", "histogram"),
    ("ledger_queue_depth", "gauge"),
    ("ledger_lag_seconds", "gauge"),
    ("ledger_rows_total", "counter"),
    ("dependency_up", "gauge"),
    ("task_last_success_seconds", "gauge"),
    ("panics_total", "counter"),
    ("build_info", "gauge"),
];

#[tokio::test(flavor = "multi_thread")]
async fn health_and_every_series_after_some_traffic() {
    let sim = simulator().await;
    let home = Home::new(&sim.url()).with("[embedding]\ndeadline = \"20s\"\n[telemetry]\nmodels = [\"gpt-4o-mini\"]");
    let running = home.start().await;
    for (path, text) in [("/livez", "ok\n"), ("/readyz", "ready\n")] {
        let answer = running.admin(Method::GET, path, None).await;
        assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, text));
    }
    let order = running.chat("sk-one", &chat("Where is my order 7781?")).await;
    assert_eq!(order.cache(), "MISS");
    assert_eq!(running.chat("sk-one", &chat("Where is my order 7782?")).await.reason(), "guard_numbers");
    assert_eq!(running.chat("sk-one", &chat("Where is my order 7781?")).await.cache(), "HIT");
    assert_eq!(running.chat("sk-one", &chat_stream("Where is my order 7781?")).await.cache(), "HIT");
    running.row(&order).await;

    let seen = Exposition::of(&running).await;
    for (name, kind) in FAMILIES {
        assert_eq!(seen.families.get(&format!("remora_{name}")).map(String::as_str), Some(*kind), "{name}");
    }
    for name in ["process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"] {
        assert!(seen.families.contains_key(name), "{name}");
    }
    let model = "model=\"gpt-4o-mini\"";
    assert_eq!(seen.sum("remora_requests_total", &[model, "outcome=\"miss\"", "dialect=\"chat\""]), 2.0);
    assert_eq!(seen.sum("remora_requests_total", &[model, "outcome=\"hit\""]), 2.0);
    assert_eq!(seen.sum("remora_cache_requests_total", &["result=\"hit\"", "tier=\"exact\""]), 2.0);
    assert_eq!(seen.sum("remora_cache_verdicts_total", &["reason=\"guard_numbers\""]), 1.0);
    assert_eq!(seen.sum("remora_upstream_requests_total", &["status_class=\"2xx\""]), 2.0);
    assert_eq!(seen.sum("remora_request_seconds_count", &[]), 4.0);
    assert_eq!(seen.sum("remora_panics_total", &[]), 0.0);
    assert_eq!(seen.sum("remora_dependency_up", &["name=\"store\""]), 1.0);
    assert!(seen.sum("remora_tokens_total", &["source=\"replayed\""]) > 0.0);
    assert_eq!(seen.sum("remora_build_info", &[env!("CARGO_PKG_VERSION")]), 1.0);
    promtool(&running.admin(Method::GET, "/metrics", None).await);
}

/// Has promtool look at it as well, where it is installed.
fn promtool(metrics: &Answer) {
    use std::io::Write;
    let piped = std::process::Stdio::piped;
    let tool = std::process::Command::new("promtool").args(["check", "metrics"]).stdin(piped()).stderr(piped()).spawn();
    let Ok(mut tool) = tool else { return };
    tool.stdin.take().unwrap().write_all(&metrics.body).unwrap();
    let output = tool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_made_up_models_keys_and_paths_add_no_series() {
    let sim = simulator().await;
    let home = Home::new(&sim.url()).exact();
    let running = home.start().await;
    let junk = async |n: usize| {
        let mut body = chat("Hello");
        body["model"] = json!(format!("junk-model-{n}"));
        let key = format!("sk-junk-{n}");
        let answer = running.chat(&key, &body).await;
        assert_eq!((answer.status, answer.cache()), (StatusCode::OK, "MISS"));
        let path = format!("/v1/junk/{n}");
        let headers = [("x-remora-user", key.as_str()), ("x-remora-tags", "junk=1"), ("authorization", "Bearer sk-x")];
        running.exchange(request(Method::GET, running.data, &path, &headers, Default::default())).await;
    };
    junk(0).await;
    // A request is counted when its reply has gone, which may be after it was read.
    let counted = || async {
        let seen = Exposition::of(&running).await;
        (seen.sum("remora_requests_total", &[]) == 2.0).then_some(seen)
    };
    let before = until("both requests are counted", counted).await;
    for n in 1..=1_000 {
        junk(n).await;
    }
    let counted = || async {
        let seen = Exposition::of(&running).await;
        (seen.sum("remora_requests_total", &["model=\"other\"", "tenant=\"other\""]) == 2_002.0).then_some(seen)
    };
    let after = until("all requests are counted", counted).await;
    let ids = |seen: &Exposition| seen.series.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(ids(&after), ids(&before));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_can_be_looked_up_by_its_id() {
    let sim = simulator().await;
    let home = Home::new(&sim.url()).exact();
    let running = home.start().await;
    let headers = [("x-remora-user", "ada"), ("x-remora-tags", "team=blue")];
    let miss = running.chat_with("sk-one", &headers, &chat("What is a remora?")).await;
    next_millisecond().await;
    let hit = running.chat("sk-one", &chat("What is a remora?")).await;
    next_millisecond().await;
    let refused = running.chat("sk-one", &json!({ "model": "m", "messages": "none" })).await;
    let row = running.row(&miss).await;
    let expected = json!({
        "request_id": miss.header("x-remora-request-id"), "user": "ada", "tags": { "team": "blue" },
        "route": "POST /v1/chat/completions", "dialect": "chat", "model_asked": "gpt-4o-mini", "stream": false,
        "outcome": "miss", "status": 200, "upstream_status": 200, "entry": miss.header("x-remora-entry"),
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&row[name], value, "{name}");
    }
    assert_eq!(row["tokens"]["source"], "billed");
    assert!(!row.to_string().contains("sk-one"), "the caller's key is not on record");
    let row = running.row(&hit).await;
    assert_eq!(
        (&row["outcome"], &row["tier"], &row["tokens"]["source"]),
        (&json!("hit"), &json!("exact"), &json!("replayed"))
    );
    let row = running.row(&refused).await;
    assert_eq!((&row["outcome"], &row["status"]), (&json!("refused"), &json!(refused.status.as_u16())));

    let recent = running.told("/admin/v1/requests").await;
    let ids: Vec<&str> = recent["data"].as_array().unwrap().iter().map(|r| r["request_id"].as_str().unwrap()).collect();
    assert_eq!(ids, [&refused, &hit, &miss].map(|answer| answer.header("x-remora-request-id")), "newest first");
    let tenant = row["tenant"].as_str().unwrap();
    let one = running.told(&format!("/admin/v1/requests?tenant={tenant}&limit=1")).await;
    assert_eq!(one["data"].as_array().unwrap().len(), 1);
    assert_eq!(running.told("/admin/v1/requests?tenant=nobody").await["data"], json!([]));
}

/// A problem document with this status and words in its detail.
#[track_caller]
pub(crate) fn problem(answer: &Answer, status: u16, words: &[&str]) {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/problem+json", "{}", answer.text());
    let body = answer.json();
    assert_eq!((&body["status"], &body["type"]), (&json!(status), &json!("about:blank")));
    assert!(body["title"].is_string());
    says(body["detail"].as_str().unwrap(), words);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_of_the_admin_plane_is_a_problem_document() {
    let running = Home::nowhere().exact();
    let running = running.start().await;
    let get = async |path: &str| running.admin(Method::GET, path, None).await;
    problem(&get("/nothing").await, 404, &["/readyz"]);
    problem(&get("/admin/v1/nothing").await, 404, &[]);
    problem(&get("/admin/v1/requests/01ARZ3NDEKTSV4RRFFQ69G5FAV").await, 404, &["request"]);
    problem(&get("/admin/v1/requests/rubbish").await, 400, &["rubbish"]);
    problem(&get("/admin/v1/requests?limit=many").await, 400, &["limit"]);
    problem(&get("/admin/v1/requests?colour=blue").await, 400, &["colour"]);
    problem(&get("/admin/v1/cache/entries/rubbish").await, 400, &["rubbish"]);
    problem(&get("/admin/v1/cache/entries/01ARZ3NDEKTSV4RRFFQ69G5FAV").await, 404, &["entry"]);
    problem(&get("/admin/v1/cache/entries?limit=-1").await, 400, &["limit"]);
    problem(&get("/admin/v1/cache/entries?cursor=rubbish").await, 400, &["rubbish"]);
    problem(&get("/admin/v1/cache/entries?tag=novalue").await, 400, &["name=value"]);
    problem(&get("/admin/v1/cache/search").await, 400, &["`q`"]);
    let wrong_method = get("/admin/v1/cache/invalidate").await;
    problem(&wrong_method, 405, &["allow"]);
    assert_eq!(wrong_method.header("allow"), "POST");

    let post = async |path: &str, body: &str| {
        running.admin_with(Method::POST, path, &[("content-type", "application/json")], body.to_owned()).await
    };
    let invalidate = "/admin/v1/cache/invalidate";
    problem(&post(invalidate, "{}").await, 400, &["nothing narrows", "all"]);
    problem(&post(invalidate, "{\"dry_run\": true}").await, 400, &["nothing narrows"]);
    problem(&post(invalidate, "{\"modle\": \"x\"}").await, 422, &["modle"]);
    problem(&post(invalidate, "{\"id\": \"x\"}").await, 400, &["`x`"]);
    problem(&post(invalidate, "{\"tag\": \"x\"}").await, 400, &["name=value"]);
    problem(&post(invalidate, "{").await, 400, &[]);
    let plain = running.admin_with(Method::POST, invalidate, &[("x-none", "1")], "").await;
    problem(&plain, 415, &[]);
    let large = post(invalidate, &format!("{{\"tag\": \"{}\"}}", "x".repeat(2 << 20))).await;
    problem(&large, 413, &[]);
    let explain = "/admin/v1/cache/explain";
    problem(&post(explain, "{\"tenant\": \"t\"}").await, 422, &["body"]);
    problem(&post(explain, "{\"tenant\": \"t\", \"body\": 3}").await, 400, &[]);
    problem(&post(explain, "{\"tenant\": \"t\", \"path\": \"/v1/models\", \"body\": {}}").await, 400, &["/v1/models"]);
    // The strict checks in front of the router speak the same way.
    let twice = running.admin_with(Method::GET, "/livez", &[("host", "a"), ("host", "b")], "").await;
    problem(&twice, 400, &[]);
}

const TOKEN: &str = "admin-0123456789abcdef";

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_everything_but_health_needs_it() {
    let home = Home::nowhere().exact().with("[admin]\ntoken_env = \"TOKEN\"").env("TOKEN", TOKEN);
    let running = home.start().await;
    let closed = ["/metrics", "/admin/v1/requests", "/admin/v1/cache/stats", "/admin/v1/cache/entries"];
    let with =
        async |path: &str, value: &str| running.admin_with(Method::GET, path, &[("authorization", value)], "").await;
    for path in closed {
        let none = running.admin(Method::GET, path, None).await;
        problem(&none, 401, &["token"]);
        assert_eq!(none.header("www-authenticate"), "Bearer");
        for wrong in ["Bearer admin-0123456789abcdeg", "Bearer admin-", "Bearer ", "Basic YTpi", TOKEN] {
            problem(&with(path, wrong).await, 401, &["token"]);
        }
        assert_eq!(with(path, &format!("Bearer {TOKEN}")).await.status, StatusCode::OK, "{path}");
        // Whoever has the token may come by any name.
        let headers = [("authorization", &*format!("Bearer {TOKEN}")), ("host", "remora.example")];
        assert_eq!(running.admin_with(Method::GET, path, &headers, "").await.status, StatusCode::OK);
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(running.admin(Method::GET, path, None).await.status, StatusCode::OK);
    }
    let admin = running.admin_url();
    let stats = home.run(&["cache", "stats", "--admin", &admin]).await;
    says(stats.failed(1), &["401", "token"]);
    assert!(!running.stop().await.contains(TOKEN));
    let home = home.env("REMORA_ADMIN_TOKEN", TOKEN);
    let running = home.start().await;
    says(home.run(&["cache", "stats", "--admin", &running.admin_url()]).await.ok(), &["entries"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_a_web_page_of_a_foreign_host_does_not_get_in() {
    let running = Home::nowhere().exact();
    let running = running.start().await;
    let of = async |path: &str, host: &str| running.admin_with(Method::GET, path, &[("host", host)], "").await;
    for path in ["/metrics", "/admin/v1/requests", "/admin/v1/cache/entries"] {
        for foreign in ["evil.example", "evil.example:8081", "localhost.evil.example"] {
            problem(&of(path, foreign).await, 401, &["loopback", "localhost"]);
        }
        for own in ["localhost", "localhost:8081", "127.0.0.1:8081", "[::1]:8081"] {
            assert_eq!(of(path, own).await.status, StatusCode::OK, "{path} as {own}");
        }
    }
    assert_eq!(of("/livez", "evil.example").await.status, StatusCode::OK, "a probe may come by any name");
}

/// Four answers of two tenants, models and tags.
struct Stocked {
    home: Home,
    running: Running,
    sim: simulate::Handle,
}

const TENANTS: &str = "[[tenant]]\nname = \"acme\"\n[[tenant.key]]\nname = \"app\"\nsecret_env = \"ACME_KEY\"\n\
    [[tenant]]\nname = \"umbrella\"\n[[tenant.key]]\nname = \"app\"\nsecret_env = \"UMBRELLA_KEY\"\n";
const ACME: &str = "rk-acme-0123456789abcdef";
const UMBRELLA: &str = "rk-umbrella-0123456789abcdef";

/// Key, model, tags and prompt of each answer.
const STOCK: [(&str, &str, &str, &str); 4] = [
    (ACME, "gpt-4o", "team=blue", "What is a refund?"),
    (ACME, "gpt-4o-mini", "team=blue, lang=en", "What is a 100% _refund_?"),
    (ACME, "gpt-4o-mini", "team=red", "Who are you?"),
    (UMBRELLA, "gpt-4o", "team=red", "What is a refund?"),
];

impl Stocked {
    async fn new() -> Self {
        let sim = simulator().await;
        let home = Home::new(&sim.url()).exact().with(TENANTS).env("ACME_KEY", ACME).env("UMBRELLA_KEY", UMBRELLA);
        let running = home.start().await;
        let stocked = Self { home, running, sim };
        for nth in 0..STOCK.len() {
            let answer = stocked.ask(nth).await;
            assert_eq!(answer.cache(), "MISS", "{}", answer.text());
            next_millisecond().await;
        }
        stocked.written(STOCK.len()).await;
        stocked
    }

    async fn ask(&self, nth: usize) -> Answer {
        let (key, model, tags, prompt) = STOCK[nth];
        let mut body = chat(prompt);
        body["model"] = json!(model);
        self.running.chat_with(key, &[("x-remora-tags", tags)], &body).await
    }

    /// Waits until the store has so many entries.
    async fn written(&self, count: usize) {
        let found = || async {
            let all = self.running.told("/admin/v1/cache/search?q=").await;
            (all["data"].as_array().unwrap().len() == count).then_some(())
        };
        until("the entries are in the store", found).await;
    }

    /// Which of the stock would be answered by the cache; changes nothing.
    async fn hits(&self) -> Vec<usize> {
        let mut hits = Vec::new();
        for (nth, (key, model, _, prompt)) in STOCK.iter().enumerate() {
            let mut body = chat(prompt);
            body["model"] = json!(model);
            let answer = self.running.chat_with(key, &[("cache-control", "only-if-cached")], &body).await;
            match answer.status.as_u16() {
                200 => hits.push(nth),
                504 => {}
                other => panic!("{other}: {}", answer.text()),
            }
        }
        hits
    }

    async fn invalidate(&self, what: Value) -> Value {
        let answer = self.running.admin(Method::POST, "/admin/v1/cache/invalidate", Some(what)).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.json()
    }

    async fn restart(self) -> Self {
        let Self { home, running, sim } = self;
        running.stop().await;
        let running = home.start().await;
        Self { home, running, sim }
    }

    async fn cli(&self, args: &[&str]) -> Ran {
        self.home.run(&[args, &["--admin", &self.running.admin_url()]].concat()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_listed_filtered_paged_shown_and_deleted() {
    let stocked = Stocked::new().await;
    let told = async |path: &str| stocked.running.told(&format!("/admin/v1/cache/{path}")).await;
    let rows = |listed: &Value| listed["data"].as_array().unwrap().clone();
    let all = told("entries").await;
    let prompts: Vec<String> = rows(&all).iter().map(|row| row["prompts"][0].as_str().unwrap().to_owned()).collect();
    assert_eq!(prompts, [STOCK[3].3, STOCK[2].3, STOCK[1].3, STOCK[0].3], "newest first");
    assert_eq!(all["next_cursor"], Value::Null);
    let row = &rows(&all)[2];
    assert_eq!(
        (&row["tenant"], &row["model"], &row["writer"]),
        (&json!("acme"), &json!("gpt-4o-mini"), &json!("acme/app"))
    );
    assert_eq!(row["tags"], json!(["team=blue", "lang=en"]));
    for (query, count) in [
        ("tenant=acme", 3),
        ("tenant=nobody", 0),
        ("model=gpt-4o", 2),
        ("tag=team=red", 2),
        ("tag=team%3Dred", 2),
        ("tenant=acme&tag=team=red", 1),
        ("namespace=x", 0),
    ] {
        assert_eq!(rows(&told(&format!("entries?{query}")).await).len(), count, "{query}");
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = told(&format!("entries?limit=1{cursor}")).await;
        seen.extend(rows(&page));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, rows(&all));

    for (q, count) in [("refund", 3), ("REFUND", 3), ("100%25", 1), ("_refund_", 1), ("%25", 1), ("nothing", 0)] {
        assert_eq!(rows(&told(&format!("search?q={q}")).await).len(), count, "{q}");
    }
    assert_eq!(rows(&told("search?q=refund&tenant=umbrella").await).len(), 1);
    assert_eq!(rows(&told("search?q=refund&limit=2").await).len(), 2);

    let id = row["entry"].as_str().unwrap();
    let one = told(&format!("entries/{id}")).await;
    says(one["body"]["choices"][0]["message"]["content"].as_str().unwrap(), &["refund"]);
    let delete = async || stocked.running.admin(Method::DELETE, &format!("/admin/v1/cache/entries/{id}"), None).await;
    assert_eq!(delete().await.json(), json!({ "removed": 1 }));
    problem(&delete().await, 404, &["entry"]);
    assert_eq!(stocked.hits().await, [0, 2, 3]);
    let stats = told("stats").await;
    assert_eq!((&stats["entries"], &stats["index"]["flat"]), (&json!(3), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_invalidated_is_no_hit_any_more_not_even_after_a_restart() {
    let cases = [
        (json!({ "tag": "team=blue" }), vec![2, 3]),
        (json!({ "model": "gpt-4o" }), vec![1, 2]),
        (json!({ "tenant": "acme" }), vec![3]),
        (json!({ "tenant": "umbrella", "model": "gpt-4o" }), vec![0, 1, 2]),
        (json!({ "writer": "acme/app", "tag": "team=red" }), vec![0, 1, 3]),
        (json!({ "older_than_s": 3600 }), vec![0, 1, 2, 3]),
        (json!({ "older_than_s": 0, "tenant": "umbrella" }), vec![0, 1, 2]),
        (json!({ "tenant": "nobody" }), vec![0, 1, 2, 3]),
        (json!({ "all": true }), vec![]),
    ];
    let mut stocked = Stocked::new().await;
    for (what, left) in cases {
        let gone = STOCK.len() - left.len();
        let mut dry = what.clone();
        dry["dry_run"] = json!(true);
        let told = stocked.invalidate(dry).await;
        assert_eq!((&told["dry_run"], &told["would_remove"]), (&json!(true), &json!(gone)), "{what}");
        assert_eq!(told["examples"].as_array().unwrap().len(), gone);
        assert_eq!(stocked.hits().await, [0, 1, 2, 3], "a dry run removes nothing: {what}");

        let removed = stocked.invalidate(what.clone()).await;
        let expected = json!({
            "dry_run": false, "removed": gone, "points": gone, "bytes": told["bytes"], "strays": 0,
            "audit": removed["audit"],
        });
        assert_eq!(removed, expected, "{what}");
        assert_eq!(stocked.hits().await, left, "{what}");
        stocked = stocked.restart().await;
        assert_eq!(stocked.hits().await, left, "after a restart: {what}");
        // Asked again, all are there again.
        let before = stocked.sim.stats().requests;
        for nth in 0..STOCK.len() {
            stocked.ask(nth).await;
        }
        assert_eq!(stocked.sim.stats().requests - before, gone as u64);
        stocked.written(STOCK.len()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidation_that_races_with_answers_leaves_none_of_before() {
    let stocked = Stocked::new().await;
    let mut askers = Vec::new();
    for n in 0..40 {
        let (client, data) = (stocked.running.client.clone(), stocked.running.data);
        askers.push(tokio::spawn(async move {
            try_exchange(&client, chat_request(data, ACME, &[], &chat(&format!("race {n}")))).await.unwrap()
        }));
    }
    for asker in askers.drain(..20) {
        assert_eq!(asker.await.unwrap().cache(), "MISS");
    }
    stocked.invalidate(json!({ "tenant": "acme" })).await;
    assert_eq!(stocked.hits().await, [3]);
    for asker in askers {
        asker.await.unwrap();
    }
    let stocked = stocked.restart().await;
    assert_eq!(stocked.hits().await, [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_tells_what_would_happen_and_changes_nothing() {
    let sim = simulator().await;
    let home = Home::new(&sim.url()).with("[embedding]\ndeadline = \"20s\"").with(TENANTS);
    let home = home.env("ACME_KEY", ACME).env("UMBRELLA_KEY", UMBRELLA);
    let running = home.start().await;
    running.row(&running.chat(ACME, &chat("Where is my order 7781?")).await).await;
    let explain = async |tenant: &str, prompt: &str| {
        let key = format!("{tenant}/app");
        let ask = json!({ "tenant": tenant, "key": key, "body": chat(prompt) });
        let answer = running.admin(Method::POST, "/admin/v1/cache/explain", Some(ask)).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.json()
    };
    let exact = explain("acme", "Where is my order 7781?").await;
    assert_eq!((&exact["result"], &exact["tier"]), (&json!("hit"), &json!("exact")), "{exact}");
    let near = explain("acme", "Where is my order 7782?").await;
    assert_eq!((&near["result"], &near["reason"]), (&json!("miss"), &json!("guard_numbers")), "{near}");
    let neighbour = &near["neighbours"][0];
    assert_eq!(neighbour["prompt"], "Where is my order 7781?");
    let numbers = neighbour["guards"].as_array().unwrap().iter().find(|guard| guard["guard"] == "numbers").unwrap();
    says(&numbers["evidence"].to_string(), &["7781", "7782"]);
    assert_eq!(near["partition"], exact["partition"]);
    let other = explain("umbrella", "Where is my order 7781?").await;
    assert_eq!((&other["result"], &other["neighbours"]), (&json!("miss"), &json!([])), "{other}");
    assert_ne!(other["fingerprint"], exact["fingerprint"]);
    assert_eq!(running.told("/admin/v1/cache/stats").await["entries"], 1);
    assert_eq!(running.told("/admin/v1/requests").await["data"].as_array().unwrap().len(), 1);
    assert_eq!(sim.stats().requests, 1);

    home.write("request.json", chat("Where is my order 7782?").to_string());
    let admin = running.admin_url();
    let args = ["cache", "explain", "--tenant", "acme", "--key", "acme/app", "request.json", "--admin", &admin];
    let ran = home.run(&args).await;
    says(ran.ok(), &["result       miss", "reason       guard_numbers", "neighbours   1", "numbers", "7781", "7782"]);
    let ran = home.run(&[&args[..], &["--json"]].concat()).await;
    assert_eq!(serde_json::from_str::<Value>(ran.ok()).unwrap()["reason"], "guard_numbers");
    let missing = home.run(&["cache", "explain", "--tenant", "acme", "none.json", "--admin", &admin]).await;
    says(missing.failed(1), &["none.json"]);
    home.write("broken.json", "{");
    let broken = home.run(&["cache", "explain", "--tenant", "acme", "broken.json", "--admin", &admin]).await;
    says(broken.failed(1), &["broken.json"]);
    assert_eq!(home.run(&["cache", "explain", "request.json", "--admin", &admin]).await.code, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_the_cache_and_takes_things_out_of_it() {
    let stocked = Stocked::new().await;
    let as_json = async |args: &[&str]| -> Value {
        serde_json::from_str(stocked.cli(&[args, &["--json"]].concat()).await.ok()).unwrap()
    };
    says(stocked.cli(&["cache", "stats"]).await.ok(), &["entries", "4", "in_memory", "index"]);
    assert_eq!(as_json(&["cache", "stats"]).await["entries"], 4);

    let listed = stocked.cli(&["cache", "entries"]).await;
    says(listed.ok(), &["entry", "tenant", "model", "acme", "umbrella", "gpt-4o-mini", "Who are you?"]);
    assert_eq!(listed.out.lines().count(), 5, "a head and four rows");
    let listed = stocked.cli(&["cache", "entries", "--tenant", "acme", "--tag", "team=blue", "--limit", "1"]).await;
    assert_eq!(listed.ok().lines().count(), 2);
    assert_eq!(as_json(&["cache", "entries"]).await["data"].as_array().unwrap().len(), 4);

    let found = stocked.cli(&["cache", "search", "100% _re"]).await;
    says(found.ok(), &["What is a 100% _refund_?", "acme"]);
    assert_eq!(found.out.lines().count(), 2);
    assert_eq!(
        as_json(&["cache", "search", "refund", "--tenant", "umbrella"]).await["data"].as_array().unwrap().len(),
        1
    );

    let dry = stocked.cli(&["cache", "invalidate", "--model", "gpt-4o", "--dry-run"]).await;
    says(dry.ok(), &["would_remove", "2", "dry_run", "true"]);
    assert_eq!(as_json(&["cache", "invalidate", "--model", "gpt-4o", "--dry-run"]).await["would_remove"], 2);
    assert_eq!(stocked.hits().await.len(), 4);
    says(stocked.cli(&["cache", "invalidate", "--tag", "team=red"]).await.ok(), &["removed", "2"]);
    assert_eq!(stocked.hits().await, [0, 1]);
    let nothing = stocked.cli(&["cache", "invalidate"]).await;
    says(nothing.failed(1), &["400", "nothing narrows"]);
    says(stocked.cli(&["cache", "invalidate", "--all"]).await.ok(), &["removed", "2"]);
    assert!(stocked.hits().await.is_empty());

    let hit = stocked.ask(0).await;
    stocked.running.row(&hit).await;
    let id = hit.header("x-remora-request-id");
    let row = stocked.cli(&["request", id]).await;
    says(row.ok(), &[id, "POST /v1/chat/completions", "acme", "outcome", "miss", "gpt-4o"]);
    assert_eq!(as_json(&["request", id]).await["request_id"], id);
    let rows = stocked.cli(&["request", "--tenant", "acme", "--limit", "1"]).await;
    says(rows.ok(), &["request_id", "outcome", "acme"]);
    assert_eq!(rows.out.lines().count(), 2);
    says(stocked.cli(&["request", "01ARZ3NDEKTSV4RRFFQ69G5FAV"]).await.failed(1), &["404", "no such request"]);
    says(stocked.cli(&["request", "a/b"]).await.failed(1), &["400", "a/b"]);

    let nobody = stocked.home.run(&["cache", "stats", "--admin", "http://127.0.0.1:9"]).await;
    says(nobody.failed(1), &["http://127.0.0.1:9", "remora serve", "--admin"]);
    let data = format!("http://{}", stocked.running.data);
    says(stocked.home.run(&["cache", "stats", "--admin", &data]).await.failed(1), &["404"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_moves_the_schema_both_ways_and_keeps_all_data() {
    let stocked = Stocked::new().await;
    let Stocked { home, running, sim } = stocked;
    running.stop().await;
    let store = format!("sqlite://{}", home.database().display());
    let migrate = async |args: &[&str]| home.run(&[&["migrate"], args, &["--store", &store]].concat()).await;
    says(migrate(&["status"]).await.ok(), &["database: schema 7", "program:  schema 7"]);
    says(migrate(&["up"]).await.ok(), &["Nothing to do"]);
    says(
        migrate(&["down", "--to", "1"]).await.ok(),
        &["rem: done", "money: done", "tenancy: done", "decisions: done", "admin_audit: done", "indexes: done"],
    );
    let pending = [
        "database: schema 1",
        "pending:  indexes",
        "pending:  admin_audit",
        "pending:  decisions",
        "pending:  tenancy",
        "pending:  money",
        "pending:  rem",
    ];
    says(migrate(&["status"]).await.ok(), &pending);
    let status: Value = serde_json::from_str(migrate(&["status", "--json"]).await.ok()).unwrap();
    assert_eq!(
        status,
        json!({ "current": 1, "latest": 7, "pending": ["indexes", "admin_audit", "decisions", "tenancy", "money", "rem"] })
    );
    for wrong in ["0", "8"] {
        says(migrate(&["down", "--to", wrong]).await.failed(1), &["cannot go down", wrong]);
    }
    assert_eq!(migrate(&["down"]).await.code, Some(2));
    says(
        migrate(&["up"]).await.ok(),
        &["indexes: done", "admin_audit: done", "decisions: done", "tenancy: done", "money: done", "rem: done"],
    );
    let none = home.run(&["migrate", "status", "--store", "sqlite://none.db"]).await;
    says(none.failed(1), &["none.db", "no such database", "remora serve"]);
    assert!(!home.path("none.db").exists());
    says(
        home.run(&["migrate", "up", "--store", "mysql://x"]).await.failed(1),
        &["--store", "sqlite://", "postgres://"],
    );
    says(migrate(&["plan"]).await.ok(), &["Nothing to do"]);
    says(
        migrate(&["plan", "--to", "3"]).await.ok(),
        &["-- down 5: tenancy", "-- down 4: decisions", "DROP COLUMN contradicts"],
    );
    says(migrate(&["status"]).await.ok(), &["database: schema 7"]);
    says(
        migrate(&["down", "--to", "2"]).await.ok(),
        &["rem: done", "money: done", "tenancy: done", "decisions: done", "admin_audit: done"],
    );
    says(migrate(&["up", "--to", "3"]).await.ok(), &["admin_audit: done"]);
    says(migrate(&["status"]).await.ok(), &["database: schema 3", "pending:  decisions", "pending:  tenancy"]);
    for wrong in ["2", "8"] {
        says(migrate(&["up", "--to", wrong]).await.failed(1), &["cannot go up", wrong]);
    }
    says(migrate(&["up"]).await.ok(), &["decisions: done", "tenancy: done", "money: done", "rem: done"]);
    let running = home.start().await;
    assert_eq!(Stocked { home, running, sim }.hits().await, [0, 1, 2, 3]);
}
