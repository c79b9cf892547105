//! REM on its seed data: each query of the contract, through text and both databases, with equal answers.
//!
//! Needs PostgreSQL at DATABASE_URL.

use std::time::Duration;

use remora::clock::Clock;
use remora::config::Migrate;
use remora::embed::{EmbedError, Embedder};
use remora::ids::{KeyId, RemId, TenantId};
use remora::rem::{self, Answer, BatchStage, Code, Fault, Rem, RemParts};
use remora::store::rem::{Owner, RemEdge, RemRow, RemTable, RemVector, RemWrite, Scope, SqlCaps};
use remora::store::{Database, LedgerRow};
use serde_json::{Map, Value, json};

use crate::fleet;

/// A database with REM above it.
pub(crate) struct World {
    pub(crate) what: &'static str,
    pub(crate) rem: Rem,
    database: Database,
    _dir: tempfile::TempDir,
    _server: Option<fleet::Database>,
}

impl World {
    pub(crate) async fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", dir.path().join("remora.db").display());
        Self::open("sqlite", &url, dir, None).await
    }

    pub(crate) async fn postgres() -> Self {
        let server = fleet::Database::new().await;
        Self::open("postgres", &server.url(), tempfile::tempdir().unwrap(), Some(server)).await
    }

    pub(crate) async fn both() -> [Self; 2] {
        [Self::sqlite().await, Self::postgres().await]
    }

    async fn open(what: &'static str, url: &str, dir: tempfile::TempDir, server: Option<fleet::Database>) -> Self {
        let database = Database::open(&url.parse().unwrap(), Migrate::Auto).await.unwrap();
        let stores = database.stores();
        let rem = Rem::new(RemParts {
            store: stores.rem.unwrap(),
            sql: stores.sql.unwrap(),
            embedder: Some(embedder()),
            caps: SqlCaps { rows: 1_000, bytes: 1 << 20, time: Duration::from_secs(10) },
            deadline: Duration::from_secs(60),
            clock: Clock::manual(NOW),
        });
        Self { what, rem, database, _dir: dir, _server: server }
    }

    pub(crate) async fn apply(&self, tenant: &str, writes: &[RemWrite]) {
        self.rem.parts().store.rem_apply(&TenantId::new(tenant), writes).await.unwrap();
    }

    pub(crate) async fn record(&self, requests: &[LedgerRow]) {
        self.database.stores().ledger.append(requests).await.unwrap();
    }

    /// Answers a query written as text, without the times that it took.
    pub(crate) async fn ask(&self, scope: &Scope, text: &str) -> Result<Answer, Fault> {
        let query = rem::parse(text)?;
        let mut answer = self.rem.run(scope, &query).await?;
        answer.timing_ms = rem::Timing::default();
        Ok(answer)
    }

    pub(crate) async fn close(self) {
        self.database.close().await;
    }
}

pub(crate) const NOW: u64 = 1_735_689_600_000;

/// Four numbers for each text of the cases; one text has none.
pub(crate) fn embedder() -> Embedder {
    Embedder::fixed(4, |text| match text {
        "team sync" => Ok(vec![0.6, 0.0, 0.8, 0.0]),
        "zero" => Err(EmbedError::BreakerOpen),
        _ => Ok(vec![1.0, 0.0, 0.0, 0.0]),
    })
}

pub(crate) fn scope(tenant: &str, key: &str) -> Scope {
    Scope { tenant: TenantId::new(tenant), key: KeyId::new(key) }
}

pub(crate) fn id(number: u64) -> RemId {
    RemId::from_bytes(u128::from(number).to_be_bytes())
}

pub(crate) fn owner(key: &str) -> Owner {
    if key == "public" { Owner::Public } else { Owner::Key(KeyId::new(key)) }
}

/// A row without anything that need not be there.
pub(crate) fn row(number: u64, table: RemTable, name: &str, of: &str) -> RemRow {
    RemRow {
        id: id(number),
        table,
        owner: owner(of),
        name: name.to_owned(),
        text: String::new(),
        label: String::new(),
        uri: None,
        tags: Vec::new(),
        data: Map::new(),
        aliases: Vec::new(),
        starts_at: None,
        ends_at: None,
        previous: None,
        part_of: None,
        entry: None,
        made: false,
        writer: None,
        created_at: NOW + number,
        updated_at: NOW + number,
        deleted_at: None,
    }
}

pub(crate) fn edge(source: &RemRow, target: &str, kind: &str, weight: f64) -> RemEdge {
    RemEdge {
        source: source.id,
        source_table: source.table,
        kind: kind.to_owned(),
        target: target.to_owned(),
        weight,
        properties: Map::new(),
        created_at: NOW,
    }
}

type Edges = [(&'static str, &'static str, f64)];

pub(crate) fn put(row: RemRow, edges: &Edges, vector: Option<[f32; 4]>) -> RemWrite {
    let space = embedder().space().to_string();
    let edges = edges.iter().map(|(target, kind, weight)| edge(&row, target, kind, *weight)).collect();
    RemWrite::Put {
        row: Box::new(row),
        vector: vector.map(|vector| RemVector { space, vector: vector.to_vec() }),
        edges: Some(edges),
    }
}

/// The table of the contract, row by row.
fn seed() -> Vec<RemWrite> {
    use RemTable::{Entities, Moments, Resources};
    let labelled =
        |number, table, name, of, label: &str| RemRow { label: label.into(), ..row(number, table, name, of) };
    let person =
        |number, name, of, role: &str| RemRow { text: role.into(), ..labelled(number, Entities, name, of, "person") };
    let says = |number, of, text: &str| RemRow { text: text.into(), ..row(number, Resources, "notes", of) };
    let moment = |number, name, kind: &str, starts: u64| RemRow {
        starts_at: Some(starts),
        ..labelled(number, Moments, name, "a", kind)
    };
    let hidden = RemRow { deleted_at: Some(NOW), ..row(9, Resources, "old-draft", "a") };
    let design: &Edges = &[
        ("Sarah Chen", "authored_by", 1.0),
        ("Mike Johnson", "reviewed_by", 0.8),
        ("API Design v1", "supersedes", 0.9),
    ];
    vec![
        put(person(1, "Sarah Chen", "a", "VP Engineering"), &[], None),
        put(person(2, "Mike Johnson", "a", "designer"), &[("Sarah Chen", "reports_to", 1.0)], None),
        put(person(3, "Alex Kim", "public", "engineer"), &[], None),
        put(labelled(4, Resources, "API Design v2", "a", "document"), design, Some([0.96, 0.28, 0.0, 0.0])),
        put(
            labelled(5, Resources, "project-plan", "a", "document"),
            &[("Meeting Notes", "references", 0.5), ("API Design v2", "depends_on", 0.9)],
            Some([0.8, 0.6, 0.0, 0.0]),
        ),
        put(
            labelled(6, Resources, "Meeting Notes", "a", "meeting"),
            &[("Engineering Sync", "documented_in", 0.8), ("project-plan", "part_of", 1.0)],
            Some([0.6, 0.8, 0.0, 0.0]),
        ),
        put(
            labelled(7, Resources, "onboarding-guide", "public", "tutorial"),
            &[("API Design v2", "references", 0.3)],
            Some([0.0, 1.0, 0.0, 0.0]),
        ),
        put(labelled(8, Resources, "salary-review", "b", "confidential"), &[], Some([1.0, 0.0, 0.0, 0.0])),
        put(hidden, &[("Sarah Chen", "authored_by", 1.0)], Some([1.0, 0.0, 0.0, 0.0])),
        put(says(10, "a", "alice notes"), &[], Some([0.0, 0.0, 1.0, 0.0])),
        put(says(11, "b", "bob notes"), &[], Some([0.0, 0.0, 1.0, 0.0])),
        put(labelled(12, Resources, "Q4 Retro", "a", "document"), &[], Some([0.0, 0.0, 0.0, 1.0])),
        put(
            moment(13, "Engineering Sync", "meeting", 1_705_312_800_000),
            &[("Sarah Chen", "attendee", 1.0), ("salary-review", "mentions", 0.4)],
            Some([0.6, 0.0, 0.8, 0.0]),
        ),
        put(moment(14, "Q4 Retro", "meeting", 1_734_703_200_000), &[], Some([0.0, 0.0, 0.0, 1.0])),
        put(
            moment(15, "Pairing Session", "coding-session", 1_733_835_600_000),
            &[("Mike Johnson", "attendee", 1.0)],
            Some([0.0, 0.6, 0.8, 0.0]),
        ),
    ]
}

/// Both databases with the seed.
async fn seeded() -> [World; 2] {
    let worlds = World::both().await;
    for world in &worlds {
        world.apply("t", &seed()).await;
        // What is written again changes nothing.
        world.apply("t", &seed()).await;
    }
    worlds
}

/// What both databases answer, which must be the same to the last byte.
async fn same(worlds: &[World; 2], scope: &Scope, text: &str) -> Answer {
    let [one, other] = worlds;
    let (one, other) = (one.ask(scope, text).await, other.ask(scope, text).await);
    let (one, other) = (one.unwrap_or_else(|e| panic!("{text}: {e}")), other.unwrap_or_else(|e| panic!("{text}: {e}")));
    assert_eq!(serde_json::to_string_pretty(&one).unwrap(), serde_json::to_string_pretty(&other).unwrap(), "{text}");
    assert_eq!(one.count, one.results.len() as u64);
    one
}

async fn fault(worlds: &[World; 2], scope: &Scope, text: &str) -> Fault {
    let [one, other] = worlds;
    let one = one.ask(scope, text).await.expect_err(text);
    assert_eq!(Err(one.clone()), other.ask(scope, text).await, "{text}");
    one
}

/// `table/name` of each row, with its score if there is one and its depth.
fn told(answer: &Answer) -> Vec<String> {
    let told = |found: &rem::Found| {
        let score = found.score.map(|score| format!(" {score:.3}")).unwrap_or_default();
        let depth = found.depth.map(|depth| format!("@{depth}")).unwrap_or_default();
        format!("{}/{}{score}{depth}", found.table, found.name)
    };
    answer.results.iter().map(told).collect()
}

#[tokio::test]
async fn lookups_of_the_contract() {
    let worlds = seeded().await;
    let (a, b) = (scope("t", "a"), scope("t", "b"));
    for text in ["LOOKUP sarah-chen", "lookup \"SARAH  CHEN\"", "LOOKUP sarah_chen", "GET SarahChen"] {
        let answer = same(&worlds, &a, text).await;
        assert_eq!(told(&answer), ["entities/Sarah Chen"], "{text}");
        assert_eq!(answer.results[0].data["description"], "VP Engineering");
    }
    let answer = same(&worlds, &a, "LOOKUP project-plan, onboarding-guide, nope").await;
    assert_eq!(told(&answer), ["resources/project-plan", "resources/onboarding-guide"]);
    assert_eq!(answer.missing, ["nope"]);
    let answer = same(&worlds, &a, "LOOKUP onboarding-guide, project-plan LIMIT 1").await;
    assert_eq!((told(&answer), answer.truncated), (vec!["resources/onboarding-guide".to_owned()], true));
    assert_eq!(told(&same(&worlds, &a, "LOOKUP \"Q4 Retro\"").await), ["resources/Q4 Retro", "moments/Q4 Retro"]);
    assert_eq!(told(&same(&worlds, &a, "LOOKUP \"Q4 Retro\" IN moments").await), ["moments/Q4 Retro"]);
    let answer = same(&worlds, &b, "LOOKUP notes").await;
    assert_eq!((answer.count, &answer.results[0].data["content"]), (1, &json!("bob notes")));
    for text in ["LOOKUP salary-review", "LOOKUP old-draft"] {
        let answer = same(&worlds, &a, text).await;
        assert_eq!((answer.count, answer.missing.len(), answer.suggestions.len()), (0, 1, 0), "{text}");
    }
    let answer = same(&worlds, &a, "LOOKUP \"Smith, John\"").await;
    assert_eq!(answer.missing, ["Smith, John"]);
    let wrong = fault(&worlds, &a, "LOOKUP \"unclosed").await;
    assert!(wrong.code == Code::ParseError && wrong.position.is_some(), "{wrong:?}");
    let wrong = fault(&worlds, &a, "hello world").await;
    assert!(wrong.code == Code::ParseError && wrong.hint.is_some(), "{wrong:?}");
    let answer = same(&worlds, &a, "LOOKUP projct-plan").await;
    assert_eq!((answer.suggestions[0].name.as_str(), answer.suggestions[0].score), ("project-plan", 0.642857));
}

#[tokio::test]
async fn similar_names_of_the_contract() {
    let worlds = seeded().await;
    let a = scope("t", "a");
    let answer = same(&worlds, &a, "FUZZY \"sara chen\"").await;
    assert_eq!(told(&answer)[0], "entities/Sarah Chen 0.750");
    assert_eq!(told(&same(&worlds, &a, "FUZZY projct-plan").await)[0], "resources/project-plan 0.643");
    let wrong = fault(&worlds, &a, "FUZZY plan THRESHOLD 1.5").await;
    assert_eq!((wrong.code, wrong.parameter.as_deref()), (Code::InvalidArgument, Some("threshold")));
    let answer = same(&worlds, &a, "FUZZY \"notes review plan retro\" THRESHOLD 0.01").await;
    assert!(answer.count >= 4 && !told(&answer).iter().any(|row| row.contains("salary") || row.contains("draft")));
    // The pages of it are the whole of it.
    let (mut paged, mut after) = (Vec::new(), String::new());
    loop {
        let text = format!("FUZZY \"notes review plan retro\" THRESHOLD 0.01 LIMIT 2{after}");
        let page = same(&worlds, &a, &text).await;
        paged.extend(page.results);
        let Some(next) = page.next else { break };
        after = format!(" AFTER \"{next}\"");
    }
    assert_eq!(paged, answer.results);
    let wrong = fault(&worlds, &a, &format!("FUZZY other LIMIT 2{after}")).await;
    assert_eq!((wrong.code, wrong.parameter.as_deref()), (Code::InvalidArgument, Some("after")));
}

#[tokio::test]
async fn searches_of_the_contract() {
    let worlds = seeded().await;
    let a = scope("t", "a");
    let design = ["resources/API Design v2 0.960", "resources/project-plan 0.800", "resources/Meeting Notes 0.600"];
    for text in [
        "SEARCH \"api design\" IN resources LIMIT 3",
        "SEARCH \"api design\" FROM resources LIMIT 3",
        "SEARCH \"api design\" LIMIT 3",
        "SEARCH \"api design\"",
        "SEARCH \"api design\" MODE vector FIELD content",
    ] {
        let answer = same(&worlds, &a, text).await;
        assert_eq!(told(&answer), design, "{text}");
        assert!(answer.next.is_none() && !answer.truncated && !answer.degraded);
    }
    let answer = same(&worlds, &a, "SEARCH \"team sync\" IN moments").await;
    assert_eq!(told(&answer), ["moments/Engineering Sync 1.000", "moments/Pairing Session 0.640"]);
    for text in [
        "SEARCH \"api design\" IN resources WHERE \"category = 'meeting'\"",
        "SEARCH \"api design\" IN resources CATEGORY meeting",
    ] {
        assert_eq!(told(&same(&worlds, &a, text).await), ["resources/Meeting Notes 0.600"], "{text}");
    }
    let answer = same(&worlds, &a, "SEARCH \"api design\" IN resources, moments MIN_SIMILARITY 0.6").await;
    assert_eq!(told(&answer)[..2], design[..2]);
    assert_eq!(answer.count, 4, "both that have .6 too: {:?}", told(&answer));
    assert_eq!(fault(&worlds, &a, "SEARCH \"zero\" IN resources").await.code, Code::EmbeddingUnavailable);
    let answer = same(&worlds, &a, "SEARCH \"zero\" IN resources MODE hybrid").await;
    assert_eq!((answer.count, answer.degraded), (0, true));
    let answer = same(&worlds, &a, "SEARCH \"alice\" MODE text").await;
    assert_eq!(told(&answer), ["resources/notes"]);
    assert_eq!(same(&worlds, &a, "SEARCH \"bob\" MODE text").await.count, 0);
    let wrong = fault(&worlds, &a, "SEARCH \"api design\" FIELD summary").await;
    assert_eq!((wrong.code, wrong.parameter.as_deref()), (Code::InvalidArgument, Some("field")));
}

#[tokio::test]
async fn walks_of_the_contract() {
    let worlds = seeded().await;
    let a = scope("t", "a");
    let answer = same(&worlds, &a, "TRAVERSE project-plan").await;
    let first = ["resources/project-plan@0", "resources/API Design v2@1", "resources/Meeting Notes@1"];
    assert_eq!(told(&answer), first);
    let via: Vec<_> = answer.results.iter().map(|found| (found.via.as_deref(), found.weight)).collect();
    assert_eq!(via, [(None, None), (Some("depends_on"), Some(0.9)), (Some("references"), Some(0.5))]);

    let answer = same(&worlds, &a, "TRAVERSE \"Project Plan\" DEPTH 2 MEMO \"round one\"").await;
    assert_eq!(told(&answer)[..3], first);
    assert_eq!(told(&answer)[3..], ["entities/Sarah Chen@2", "moments/Engineering Sync@2", "entities/Mike Johnson@2"]);
    assert_eq!(answer.results[3].path, ["project-plan", "API Design v2", "Sarah Chen"]);
    assert_eq!(answer.memo.as_deref(), Some("round one"));
    let dangling: Vec<_> = answer.edge_summary.iter().filter(|edges| edges.dangling > 0).collect();
    assert_eq!((dangling.len(), &dangling[0].samples[..]), (1, &["API Design v1".to_owned()][..]));
    let stages: Vec<_> = answer.stages.iter().map(|stage| (stage.depth, stage.nodes, stage.edges)).collect();
    assert_eq!(stages, [(0, 1, 0), (1, 2, 2), (2, 3, 5)]);

    let answer = same(&worlds, &a, "TRAVERSE project-plan DEPTH 2 TYPE references").await;
    assert_eq!(told(&answer), ["resources/project-plan@0", "resources/Meeting Notes@1"]);
    let answer = same(&worlds, &a, "TRAVERSE depends_on WITH LOOKUP \"project-plan\"").await;
    assert_eq!(told(&answer), ["resources/project-plan@0", "resources/API Design v2@1"]);
    let answer = same(&worlds, &a, "TRAVERSE project-plan DEPTH 0").await;
    assert_eq!(answer.count, 0);
    let plan: Vec<_> =
        answer.edge_summary.iter().map(|edges| (edges.kind.as_str(), edges.count, edges.samples[0].as_str())).collect();
    assert_eq!(plan, [("depends_on", 1, "API Design v2"), ("references", 1, "Meeting Notes")]);
    // Against the edges; what B has and what is hidden is not met, and A's edge to it looks like one to nothing.
    let answer = same(&worlds, &a, "TRAVERSE \"sarah chen\" INBOUND DEPTH 1 KEYS").await;
    let around =
        ["entities/Sarah Chen@0", "resources/API Design v2@1", "moments/Engineering Sync@1", "entities/Mike Johnson@1"];
    assert_eq!(told(&answer), around);
    let answer = same(&worlds, &a, "TRAVERSE \"Engineering Sync\" TYPE mentions").await;
    assert_eq!((answer.count, answer.edge_summary[0].dangling), (1, 1));
    let answer = same(&worlds, &a, "TRAVERSE WITH SEARCH \"api design\" IN resources LIMIT 2 DEPTH 1").await;
    assert_eq!((answer.results[0].score, answer.results[0].depth), (Some(0.96), Some(0)), "{:?}", told(&answer));
    let answer = same(&worlds, &a, "TRAVERSE nothing-of-that-name").await;
    assert_eq!((answer.count, answer.missing.len()), (0, 1));
}

#[tokio::test]
async fn a_batch_goes_on_where_a_stage_ended() {
    let worlds = seeded().await;
    let mut told_by = Vec::new();
    for world in &worlds {
        let stages = [("found", "FUZZY \"projct plan\" LIMIT 1"), ("around", "TRAVERSE WITH $found DEPTH 1")];
        let stages: Vec<BatchStage> =
            stages.map(|(name, text)| BatchStage { name: name.into(), query: rem::parse_stage(text).unwrap() }).into();
        let answers = world.rem.batch(&scope("t", "a"), &stages).await.unwrap();
        told_by.push(told(&answers[1].1));
        // Nobody else gets further than the names that he sees.
        let answers = world.rem.batch(&scope("t", "b"), &stages).await.unwrap();
        assert_eq!(answers[1].1.count, 0, "{}", world.what);
    }
    assert_eq!(told_by[0], ["resources/project-plan@0", "resources/API Design v2@1", "resources/Meeting Notes@1"]);
    assert_eq!(told_by[0], told_by[1]);
}

#[tokio::test]
async fn sql_of_the_contract() {
    let worlds = seeded().await;
    let a = scope("t", "a");
    let answer = same(&worlds, &a, "SELECT name FROM resources ORDER BY name").await;
    let names: Vec<&str> = answer.results.iter().map(|found| found.name.as_str()).collect();
    assert_eq!(names, ["API Design v2", "Meeting Notes", "Q4 Retro", "notes", "onboarding-guide", "project-plan"]);
    let answer = same(&worlds, &a, "SQL moments WHERE \"kind='meeting'\" ORDER BY name LIMIT 10").await;
    assert_eq!(told(&answer), ["sql/Engineering Sync", "sql/Q4 Retro"]);
    let wrong = fault(&worlds, &a, "WITH d AS (DELETE FROM resources RETURNING *) SELECT * FROM d").await;
    assert_eq!(wrong.code, Code::ReadOnly);
    assert_eq!(same(&worlds, &a, "SELECT name FROM resources ORDER BY name").await.count, 6, "nothing was executed");
}

#[tokio::test]
async fn a_weight_has_the_same_digits_wherever_it_is_shown() {
    let worlds = World::both().await;
    let a = scope("t", "a");
    for world in &worlds {
        let plan = row(1, RemTable::Resources, "plan", "a");
        // As a similarity in single precision becomes, and one that two roundings would tear apart.
        let edges = [("Ann", "by", 0.985_560_059_547_424_3), ("Bob", "by", 0.123_456_5), ("Cy", "by", 0.000_000_4)];
        world.apply("t", &[put(plan, &edges, None), put(row(2, RemTable::Entities, "Ann", "a"), &[], None)]).await;
    }
    let walked = same(&worlds, &a, "TRAVERSE \"plan\"").await;
    assert_eq!(walked.results[1].weight, Some(0.985_56));
    let selected = same(&worlds, &a, "SELECT weight FROM edges ORDER BY weight DESC").await;
    let weights: Vec<f64> = selected.results.iter().map(|found| found.data["weight"].as_f64().unwrap()).collect();
    assert_eq!(weights, [0.985_56, rem::rounded(0.123_456_5), 0.0]);
    assert_eq!(same(&worlds, &a, "SELECT weight FROM edges WHERE weight = 0.98556").await.count, 1);
}

#[tokio::test]
async fn what_two_keys_call_alike_stays_apart() {
    let worlds = World::both().await;
    let (a, b) = (scope("t", "a"), scope("t", "b"));
    let diary = |number, of: &str| {
        let text = format!("the diary of {of}");
        let written = RemRow { text, label: "diary".into(), ..row(number, RemTable::Resources, "diary", of) };
        put(
            written,
            &[("diary", "follows", 1.0), (if of == "a" { "only a" } else { "only b" }, "names", 0.5)],
            Some([1.0, 0.0, 0.0, 0.0]),
        )
    };
    for world in &worlds {
        world.apply("t", &[diary(1, "a")]).await;
        world.apply("t", &[diary(2, "b")]).await;
        // (b) the other order.
        world.apply("t", &[put(row(3, RemTable::Entities, "x", "b"), &[], None)]).await;
        world.apply("t", &[put(row(4, RemTable::Entities, "x", "a"), &[], None)]).await;
        world.apply("other", &[diary(1, "a"), put(row(9, RemTable::Entities, "x", "public"), &[], None)]).await;
    }
    for (who, number, other) in [(&a, 1, "b"), (&b, 2, "a")] {
        for text in [
            "LOOKUP diary",
            "FUZZY diari",
            "SEARCH \"the diary\"",
            "SEARCH diary MODE text",
            "TRAVERSE diary DEPTH 3",
            "TRAVERSE diary INBOUND DEPTH 3",
            "TRAVERSE diary PLAN BOTH",
        ] {
            let answer = same(&worlds, who, text).await;
            assert!(answer.results.iter().all(|found| found.id == id(number).to_string()), "{text}");
            assert!(answer.count == 1 || text.contains("PLAN"), "{text}: {:?}", told(&answer));
            let written = serde_json::to_string(&answer).unwrap();
            assert!(!written.contains(&format!("only {other}")) && !written.contains(&format!("of {other}")), "{text}");
        }
        let answer = same(&worlds, who, "LOOKUP x").await;
        assert_eq!(answer.results[0].id, id(if number == 1 { 4 } else { 3 }).to_string());
        assert_eq!(answer.count, 1);
    }
}

#[tokio::test]
async fn two_keys_that_ask_by_sql_see_their_own() {
    let worlds = World::both().await;
    for world in &worlds {
        world.apply("t", &[put(row(1, RemTable::Resources, "diary", "a"), &[("x", "y", 1.0)], None)]).await;
        world.apply("t", &[put(row(2, RemTable::Resources, "diary", "b"), &[("x", "y", 1.0)], None)]).await;
    }
    for (key, number) in [("a", 1), ("b", 2)] {
        for text in ["SELECT id FROM resources", "SELECT id FROM names", "SELECT source_id AS id FROM edges"] {
            let answer = same(&worlds, &scope("t", key), text).await;
            let ids: Vec<&Value> = answer.results.iter().map(|found| &found.data["id"]).collect();
            assert_eq!(ids, [&json!(id(number).to_string())], "{text}");
        }
    }
}

#[tokio::test]
async fn renamed_hidden_and_purged_rows_leave_no_ghost() {
    let worlds = World::both().await;
    let (a, long) = (scope("t", "a"), "long name ".repeat(100));
    let written = |name: &str| RemRow { text: "whale".into(), ..row(1, RemTable::Resources, name, "a") };
    let asked = async |worlds: &[World; 2], name: &str| {
        let mut counts = Vec::new();
        for text in
            [format!("LOOKUP \"{name}\""), format!("FUZZY \"{name}\" THRESHOLD 0.9"), format!("TRAVERSE \"{name}\"")]
        {
            counts.push(same(worlds, &a, &text).await.count);
        }
        counts
    };
    let apply = async |write: RemWrite| {
        for world in &worlds {
            world.apply("t", std::slice::from_ref(&write)).await;
        }
    };
    apply(put(written("first"), &[("first", "self", 1.0)], Some([1.0, 0.0, 0.0, 0.0]))).await;
    assert_eq!(asked(&worlds, "first").await, [1, 1, 1]);
    apply(put(written(long.trim()), &[], Some([1.0, 0.0, 0.0, 0.0]))).await;
    assert_eq!((asked(&worlds, "first").await, asked(&worlds, long.trim()).await), (vec![0, 0, 0], vec![1, 1, 1]));
    assert_eq!(same(&worlds, &a, "SEARCH whale").await.count, 1);
    apply(RemWrite::Hide { id: id(1), owner: owner("a"), at: NOW }).await;
    assert_eq!(asked(&worlds, long.trim()).await, [0, 0, 0]);
    assert_eq!(same(&worlds, &a, "SEARCH whale").await.count, 0);
    assert_eq!(same(&worlds, &a, "SEARCH whale MODE text").await.count, 0);
    apply(put(written("first"), &[], None)).await;
    assert_eq!(asked(&worlds, "first").await, [1, 1, 1]);
    apply(RemWrite::Purge { id: id(1), owner: owner("a") }).await;
    assert_eq!((asked(&worlds, "first").await, asked(&worlds, long.trim()).await), (vec![0, 0, 0], vec![0, 0, 0]));
    for world in worlds {
        world.close().await;
    }
}

#[tokio::test]
async fn every_query_can_be_explained() {
    let worlds = seeded().await;
    for world in &worlds {
        for text in ["LOOKUP a", "FUZZY a", "SEARCH a", "TRAVERSE a BOTH DEPTH 2", "TRAVERSE a PLAN"] {
            let plan = world.rem.explain(&scope("t", "a"), &rem::parse(text).unwrap()).await.unwrap();
            assert!(!plan.steps.is_empty() && !plan.statements.is_empty(), "{text}");
            let parameter = if world.what == "sqlite" { "?1" } else { "$1" };
            let own = |text: &String| text.contains(parameter) && !text.contains(" :");
            assert!(plan.statements.iter().all(own), "{text}: {plan:?}");
        }
        let text = "SEARCH \"canary\" IN resources, moments WHERE \"name = 'nightingale'\" CATEGORY \"sparrow\"";
        let plan = world.rem.explain(&scope("t", "a"), &rem::parse(text).unwrap()).await.unwrap();
        let statements = plan.statements.join("\n");
        for value in ["canary", "nightingale", "sparrow", "key:a"] {
            assert!(!statements.contains(value), "values are parameters: {statements}");
        }
        assert!(statements.contains("r.name") && statements.contains("rem_vectors"), "{statements}");
    }
}
