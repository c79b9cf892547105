//! `remora rem` against a running program: what it asks, what it prints, and how it ends.

use std::io::{BufRead, BufReader};
use std::process::Command;

use serde_json::{Value, json};

use crate::child::{Home, PATIENCE, Ran, Running, says};
use crate::rem_http::{APP, BARE};

const TENANTS: &str = r#"
[rem]
embed = "off"
[server]
passthrough = false
[[tenant]]
name = "acme"
[[tenant.key]]
name = "app"
secret_env = "APP"
rights = ["rem"]
[[tenant.key]]
name = "bare"
secret_env = "BARE"
"#;

const PEOPLE: &str = r#"{"table": "entities", "name": "Sarah Chen", "kind": "person", "description": "VP Engineering"}

{"table": "entities", "name": "Mike Johnson", "kind": "person"}
{"table": "facts", "source": "Sarah Chen", "type": "leads", "target": "Mike Johnson", "weight": 0.5}
{"table": "moments", "name": "Sync", "kind": "meeting", "starts_at": "2024-01-15T10:00:00Z", "summary": "weekly"}
{"table": "resources", "name": "plan", "content": "The plan of the semantic cache.", "category": "document"}
"#;

/// A program without the model, and a home of its own for the commands, which know it from the environment only.
struct On {
    home: Home,
    running: Running,
    _server: Home,
}

impl On {
    async fn new() -> Self {
        let server = Home::nowhere().exact().with(TENANTS).env("APP", APP).env("BARE", BARE);
        let running = server.start().await;
        let url = format!("http://{}", running.rem.unwrap());
        let home = Home::nowhere().env("REMORA_REM_URL", &url).env("REMORA_API_KEY", APP);
        home.write("people.jsonl", PEOPLE);
        let on = Self { home, running, _server: server };
        assert_eq!(on.rem(&["import", "people.jsonl"]).await.ok(), "people.jsonl: 5 objects\n");
        on
    }

    async fn rem(&self, args: &[&str]) -> Ran {
        self.home.run(&[&["rem"], args].concat()).await
    }

    async fn json(&self, args: &[&str]) -> Value {
        let ran = self.rem(&[args, &["--json"]].concat()).await;
        serde_json::from_str(ran.ok()).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    }

    async fn rows(&self, query: &str) -> Vec<Value> {
        self.json(&[query]).await["results"].as_array().unwrap().clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rem_a_query_is_answered_as_a_table_or_as_json_and_its_fault_has_a_mark() {
    let on = On::new().await;
    let ran = on.rem(&["lookup sarah_chen, nope"]).await;
    let lines: Vec<&str> = ran.ok().lines().collect();
    assert_eq!(lines[0], "table     name        what    text", "{ran:?}");
    assert_eq!(lines[1], "entities  Sarah Chen  person  VP Engineering");
    assert_eq!(lines[3], "missing      nope");
    assert!(lines.last().unwrap().starts_with("1 row; "), "{ran:?}");
    assert!(ran.err.is_empty() && !ran.out.contains('\u{1b}'), "{ran:?}");
    says(on.rem(&["FUZZY \"sara chen\""]).await.ok(), &["0.750000  entities  Sarah Chen"]);
    says(on.rem(&["TRAVERSE \"Sarah Chen\""]).await.ok(), &["leads", "Sarah Chen › Mike Johnson"]);
    says(on.rem(&["SELECT name AS n FROM moments"]).await.ok(), &["n\nSync\n"]);
    let told = on.json(&["SEARCH \"semantic cache\" MODE text"]).await;
    assert_eq!((&told["type"], &told["results"][0]["name"]), (&json!("search"), &json!("plan")));

    let ran = on.rem(&["LOOKUP \"unclosed"]).await;
    assert_eq!(ran.out, "", "what failed prints nothing where answers are expected");
    let lines: Vec<&str> = ran.failed(1).lines().collect();
    assert!(lines[0].starts_with("remora: 400 Bad Request: "), "{ran:?}");
    assert_eq!(lines[1..3], ["  LOOKUP \"unclosed", "         ^"], "{ran:?}");
    let ran = on.rem(&["hello world"]).await;
    says(ran.failed(1), &["  hello world\n  ^", "LOOKUP"]);
    let ran = on.rem(&["FUZZY plan THRESHOLD 1.5"]).await;
    says(ran.failed(1), &["400 Bad Request", "hreshold"]);
    let ran = on.rem(&["SEARCH plan"]).await;
    says(ran.ok(), &["degraded", "by words only"]);
    let ran = on.rem(&["SEARCH plan MODE vector"]).await;
    says(ran.failed(1), &["503 Service Unavailable", "MODE text"]);
    for wrong in [
        &["--watch", "5"][..],
        &["LOOKUP x", "--watch", "0"],
        &["LOOKUP x", "--file", "people.jsonl"],
        &["LOOKUP x", "and more"],
        &["LOOKUP x", "--unknown"],
        &["explain"],
        &["import"],
        &["import", "people.jsonl", "--table", "requests"],
    ] {
        let ran = on.rem(wrong).await;
        says(ran.failed(2), &["error: ", "--help"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rem_many_queries_are_asked_one_after_another_and_the_bad_ones_are_told_by_line() {
    let on = On::new().await;
    let queries = "# people\nLOOKUP \"Sarah Chen\"\n\nLOOKUP \"unclosed\nFUZZY \"mike jonson\"\r\n";
    let file = on.home.write("queries.txt", queries).display().to_string();
    for ran in [
        on.home.run_fed(&["rem"], queries).await,
        on.home.run_fed(&["rem", "--file", "-"], queries).await,
        on.rem(&["--file", &file]).await,
    ] {
        says(ran.failed(1), &["line 4: 400 Bad Request: ", "\n         ^", "remora: 1 of 3 queries failed"]);
        says(&ran.out, &["> LOOKUP \"Sarah Chen\"\n", "VP Engineering", "> FUZZY \"mike jonson\"\n", "Mike Johnson"]);
        assert!(!ran.out.contains("unclosed"), "{ran:?}");
    }
    let ran = on.home.run_fed(&["rem", "--json"], queries).await;
    ran.failed(1);
    let told: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told.len(), 3, "a line for each query: {ran:?}");
    assert_eq!((&told[1]["line"], &told[1]["error"]["code"]), (&json!(4), &json!("parse_error")), "{ran:?}");
    says(&ran.out, &["Sarah Chen", "Mike Johnson"]);
    let good = on.home.run_fed(&["rem"], "LOOKUP Sync\nLOOKUP plan").await;
    assert!(good.ok().contains("weekly") && good.err.is_empty(), "{good:?}");
    // No terminal, and nothing to ask: no prompt that waits for somebody.
    for empty in ["", "\n# only this\n"] {
        let ran = on.home.run_fed(&["rem"], empty).await;
        says(ran.failed(1), &["there is no query"]);
        assert_eq!(ran.out, "");
    }
    says(on.rem(&["--file", "nothing.txt"]).await.failed(1), &["nothing.txt: "]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rem_watch_asks_again_until_it_is_ended_and_does_not_repeat_what_is_wrong() {
    let on = On::new().await;
    let mut child = on.home.spawn(&["rem", "SELECT count(*) AS n FROM entities", "--json", "--watch", "1"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let pid = child.id().to_string();
    let watching = tokio::task::spawn_blocking(move || {
        let told = [lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap()];
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        let rest = lines.count();
        (told, rest, child.wait().unwrap())
    });
    let (told, rest, status) = tokio::time::timeout(PATIENCE, watching).await.expect("it goes on").unwrap();
    for line in told {
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["results"][0]["data"]["n"], 2, "{line}");
    }
    // One more round may have begun before the signal came.
    assert!(rest <= 1 && status.code() == Some(0), "{rest}, {status}");
    says(on.rem(&["LOOKUP \"unclosed", "--watch", "1"]).await.failed(1), &["400 Bad Request", "^"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rem_ways_to_an_answer_and_the_grammar_are_shown() {
    let on = On::new().await;
    let ran = on.rem(&["explain", "fuzzy \"sara chen\" limit 3"]).await;
    says(ran.ok(), &["query  FUZZY \"sara chen\"", "type   fuzzy", "\nplan\n  ", "\nstatements\n  "]);
    let told = on.json(&["explain", "LOOKUP x"]).await;
    assert!(!told["plan"].as_array().unwrap().is_empty(), "{told}");
    says(on.rem(&["explain", "LOOKUP \"x"]).await.failed(1), &["  LOOKUP \"x\n         ^"]);
    let ran = on.rem(&["schema"]).await;
    says(ran.ok(), &["resources\n  ", "name text", "searched: content", "lookup   = ", "TRAVERSE"]);
    assert_eq!(on.json(&["schema"]).await["tables"][0]["name"], "resources");
}

#[tokio::test(flavor = "multi_thread")]
async fn rem_files_are_brought_in_and_again_without_a_change() {
    let on = On::new().await;
    let long = "A sentence about the handbook of the house. ".repeat(60);
    on.home.write("handbook.md", format!("# The Handbook\n\n{long}\n\n## Refunds\n\n{long}"));
    on.home.write("notes.txt", "Just a few words about umbrellas.");
    let import = ["import", "handbook.md", "notes.txt", "people.jsonl", "--tag", "q4", "--category", "book"];
    assert_eq!(on.rem(&import).await.ok(), "handbook.md: 1 object\nnotes.txt: 1 object\npeople.jsonl: 5 objects\n");
    let edges = "SELECT source, type, target, weight FROM edges ORDER BY source, type, target";
    let all = "SELECT name, key, table_name, id, alias, owner FROM names ORDER BY key, id";
    let rows = on.rows("SELECT name, category, content, tags, uri FROM resources ORDER BY name").await;
    let names: Vec<&str> = rows.iter().map(|row| row["data"]["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"The Handbook") && names.contains(&"The Handbook › Refunds"), "{names:?}");
    let notes = &rows[names.iter().position(|name| *name == "notes").unwrap()]["data"];
    let whole = on.home.path("notes.txt").canonicalize().unwrap();
    assert_eq!((&notes["category"], &notes["uri"]), (&json!("book"), &json!(format!("file:{}", whole.display()))));
    assert!(notes["tags"].to_string().contains("q4"), "{notes}");
    let parts = on.rows("TRAVERSE \"The Handbook\" TYPE next_part DEPTH 10").await;
    assert!(parts.len() > 2, "in order, one behind the other: {parts:?}");

    let before = (rows, on.rows(all).await, on.rows(edges).await);
    on.rem(&import).await.ok();
    let rows = on.rows("SELECT name, category, content, tags, uri FROM resources ORDER BY name").await;
    let after = (rows, on.rows(all).await, on.rows(edges).await);
    assert_eq!(before, after);
    on.home.write("handbook.md", "# The Handbook\n\nShort now.");
    let told = on.json(&["import", "handbook.md"]).await;
    assert_eq!(told["files"][0], json!({ "file": "handbook.md", "objects": 1, "faults": [] }));
    assert_eq!(
        on.rows("SELECT name FROM resources WHERE uri LIKE 'file:/%/handbook.md'").await.len(),
        1,
        "no old parts"
    );

    // What is wrong in a file is found before anything is sent, of this file and of those beside it.
    on.home.write("bad.jsonl", "{\"name\": \"first\"}\nnot json\n");
    on.home.write("other.txt", "Never sent.");
    let ran = on.rem(&["import", "other.txt", "bad.jsonl"]).await;
    says(ran.failed(1), &["bad.jsonl, line 2: not JSON"]);
    // What the sidecar refuses is told with its line, and nothing around it was taken.
    on.home.write("refused.jsonl", "{\"name\": \"first\"}\n\n{\"name\": \"second\", \"colour\": \"red\"}\n");
    let ran = on.rem(&["import", "refused.jsonl"]).await;
    says(ran.failed(1), &["refused.jsonl: line 3: 400 Bad Request: ", "colour", "not everything was imported"]);
    on.home.write("bytes.txt", [0xff, 0xfe, 0x00]);
    says(on.rem(&["import", "bytes.txt"]).await.failed(1), &["bytes.txt is not UTF-8"]);
    says(on.rem(&["import", "missing.md"]).await.failed(1), &["missing.md: "]);
    let told = on.json(&["LOOKUP first, second, other"]).await;
    assert_eq!(told["count"], 0, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rem_an_import_that_is_ended_says_how_much_is_in() {
    // A server that takes what comes, and never answers.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    let home = Home::nowhere().env("REMORA_REM_URL", &url).env("REMORA_API_KEY", APP);
    home.write("people.jsonl", PEOPLE);
    let child = home.spawn(&["rem", "import", "people.jsonl"]);
    let ended = tokio::task::spawn_blocking(move || {
        let _asked = server.accept().unwrap();
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        child.wait_with_output().unwrap()
    });
    let ended = tokio::time::timeout(PATIENCE, ended).await.expect("it ends").unwrap();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "people.jsonl: 0 of 5 objects\n");
    says(&String::from_utf8_lossy(&ended.stderr), &["interrupted"]);
    let gone = Home::nowhere().env("REMORA_REM_URL", "http://127.0.0.1:9").env("REMORA_API_KEY", APP);
    gone.write("people.jsonl", PEOPLE);
    let ran = gone.run(&["rem", "import", "people.jsonl"]).await;
    says(ran.failed(1), &["no sidecar"]);
    assert_eq!(ran.out, "people.jsonl: 0 of 5 objects\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn rem_a_wrong_key_or_no_server_is_told_and_no_key_is_shown() {
    let on = On::new().await;
    let url = format!("http://{}", on.running.rem.unwrap());
    let none = Home::nowhere();
    let ran = none.run(&["rem", "LOOKUP x", "--rem", &url]).await;
    says(ran.failed(1), &["401 Unauthorized", "no key was sent: REMORA_API_KEY is not set", "--key-file"]);
    none.write("wrong.key", "canary-that-is-no-key-0123456789\n");
    let ran = none.run(&["rem", "LOOKUP x", "--rem", &url, "--key-file", "wrong.key"]).await;
    says(ran.failed(1), &["401 Unauthorized"]);
    assert!(!ran.err.contains("canary") && !ran.err.contains("no key was sent"), "{ran:?}");
    none.write("bare.key", format!("{BARE}\n"));
    let ran = none.run(&["rem", "LOOKUP x", "--rem", &url, "--key-file", "bare.key"]).await;
    says(ran.failed(1), &["403 Forbidden", "the right `rem`"]);
    assert!(!ran.err.contains(BARE), "{ran:?}");
    says(none.run(&["rem", "LOOKUP x", "--key-file", "no.key"]).await.failed(1), &["--key-file no.key: "]);
    none.write("app.key", APP);
    none.run(&["rem", "LOOKUP x", "--rem", &format!("{url}/"), "--key-file", "app.key"]).await.ok();
    let other = Home::nowhere().env("ACME_KEY", APP);
    other.run(&["rem", "LOOKUP x", "--rem", &url, "--key-env", "ACME_KEY"]).await.ok();

    let home = Home::nowhere().env("REMORA_REM_URL", "http://127.0.0.1:9").env("REMORA_API_KEY", APP);
    let ran = home.run(&["rem", "LOOKUP x"]).await;
    says(ran.failed(1), &["no sidecar at http://127.0.0.1:9", "remora serve"]);
    assert!(!ran.err.contains(APP), "{ran:?}");
    // The first line without an answer ends it: the others would wait for nobody, too.
    let ran = home.run_fed(&["rem"], "LOOKUP x\nLOOKUP y").await;
    says(ran.failed(1), &["line 1: no sidecar"]);
    assert!(!ran.err.contains("line 2"), "{ran:?}");
}
