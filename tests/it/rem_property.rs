//! What a caller is told does not depend on what he may not see: any query gives the same bytes on a database with everybody's rows
//! and on one that holds only his.
//!
//! Needs PostgreSQL at DATABASE_URL.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use remora::ids::{KeyId, RemId, RequestId, TenantId};
use remora::rem::{self, BatchStage, Timing};
use remora::store::rem::{RemEdge, RemRow, RemTable, RemVector, RemWrite, Scope};
use remora::store::{LedgerRow, Tokens};
use serde_json::{Map, json};

use crate::rem_cases::{NOW, World, edge, embedder, owner, row, scope};

/// Names that collide: in their normal form, by a letter, or not at all.
const NAMES: [&str; 10] = [
    "Alpha",
    "alpha",
    "ALPHA one",
    "alpha-one",
    "alphaOne",
    "Beta",
    "beta_two",
    "gamma",
    "x",
    "a quite different thing",
];

/// Who may ask: two keys of a tenant, and one of another tenant that is called as one of those.
const CALLERS: [(bool, &str); 3] = [(false, "a"), (false, "b"), (true, "a")];

/// A row as it is drawn.
#[derive(Clone, Debug)]
struct Drawn {
    /// Whether it is of the other tenant.
    theirs: bool,
    owner: &'static str,
    table: RemTable,
    name: &'static str,
    alias: Option<&'static str>,
    hidden: bool,
    word: &'static str,
    angle: u8,
    edges: Vec<(&'static str, &'static str, u8)>,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let name = || prop::sample::select(NAMES.to_vec());
    let kind = prop::sample::select(vec!["knows", "cites", "part_of"]);
    let target = prop_oneof![9 => name(), 1 => Just("nowhere at all")];
    let owner = prop::sample::select(vec!["public", "a", "a", "b", "b"]);
    let table = prop::sample::select(RemTable::WRITTEN.to_vec());
    let word = prop::sample::select(vec!["whale", "whale shark", "cod", ""]);
    let place = (prop::bool::weighted(0.25), owner, table, name(), prop::option::weighted(0.2, name()));
    let rest = (prop::bool::weighted(0.1), word, 0..8_u8, prop::collection::vec((target, kind, 0..5_u8), 0..5));
    (place, rest).prop_map(|((theirs, owner, table, name, alias), (hidden, word, angle, edges))| Drawn {
        theirs,
        owner,
        table,
        name,
        alias,
        hidden,
        word,
        angle,
        edges,
    })
}

/// A request as it is drawn.
#[derive(Clone, Debug)]
struct Asked {
    theirs: bool,
    key: &'static str,
    status: u16,
    served_from: Option<&'static str>,
}

fn asked() -> impl Strategy<Value = Asked> {
    let name = prop::option::weighted(0.7, prop::sample::select(NAMES.to_vec()));
    let key = prop::sample::select(vec!["a", "b"]);
    (prop::bool::weighted(0.25), key, prop::sample::select(vec![200, 429, 503]), name)
        .prop_map(|(theirs, key, status, served_from)| Asked { theirs, key, status, served_from })
}

impl Asked {
    fn visible(&self, caller: (bool, &str)) -> bool {
        (self.theirs, self.key) == caller
    }

    /// The row of the ledger. Their ids are each other's neighbours.
    fn row(&self, tenant: &str, request: RequestId, caller: (bool, &str)) -> LedgerRow {
        let canary = if self.visible(caller) { "" } else { " canary" };
        LedgerRow {
            request,
            started_at: NOW,
            tenant: Some(TenantId::new(tenant)),
            key: Some(KeyId::new(self.key)),
            user: Some(format!("{}{canary}", self.key)),
            tags: Vec::new(),
            route: "POST /v1/chat/completions".into(),
            dialect: "chat".into(),
            model_asked: Some(format!("m{canary}")),
            model_answered: None,
            stream: false,
            outcome: "hit".into(),
            tier: Some("exact".into()),
            reason: None,
            similarity: Some(0.5),
            entry: None,
            status: self.status,
            upstream: None,
            upstream_status: None,
            tokens: Tokens { input: 3, output: 5, ..Tokens::default() },
            tokens_source: Some("replayed".into()),
            latency_us: 1_500,
            ttft_us: None,
            overhead_us: 10,
            cost_nano_usd: Some(0),
            embedding_nano_usd: None,
            saved_gross_nano_usd: Some(25_000),
            saved_nano_usd: Some(25_000),
            price_version: None,
            service: None,
            attempts: Vec::new(),
        }
    }

    /// The edge that leaves it, if one does.
    fn link(&self, request: RequestId) -> Option<RemWrite> {
        let edge = RemEdge {
            source: RemId::from_bytes(request.to_bytes()),
            source_table: RemTable::Requests,
            kind: "served_from".into(),
            target: self.served_from?.to_owned(),
            weight: 1.0,
            properties: Map::new(),
            created_at: NOW,
        };
        Some(RemWrite::Link { owner: owner(self.key), edges: vec![edge] })
    }
}

impl Drawn {
    fn visible(&self, (theirs, key): (bool, &str)) -> bool {
        self.theirs == theirs && !self.hidden && ["public", key].contains(&self.owner)
    }

    /// The row as a write. What the caller must not see carries a word that must not turn up.
    fn write(&self, number: u64, caller: (bool, &str)) -> RemWrite {
        let canary = if self.visible(caller) { "" } else { " canary" };
        let row = RemRow {
            text: format!("{}{canary}", self.word),
            label: if self.angle.is_multiple_of(2) { "even".into() } else { "odd".into() },
            tags: vec![format!("t{}{canary}", self.angle)],
            data: json!({"number": number, "secret": canary}).as_object().unwrap().clone(),
            aliases: self.alias.map(str::to_owned).into_iter().collect(),
            deleted_at: self.hidden.then_some(1),
            ..row(number, self.table, self.name, self.owner)
        };
        let to = |(target, kind, weight): &(&str, &str, u8)| edge(&row, target, kind, f64::from(*weight) / 4.0);
        let mut edges: Vec<RemEdge> = Vec::new();
        for edge in self.edges.iter().map(to) {
            // One edge of a type leads to a name.
            let same = |other: &RemEdge| {
                other.kind == edge.kind
                    && remora::store::rem::normalise(&other.target) == remora::store::rem::normalise(&edge.target)
            };
            if !edges.iter().any(same) {
                edges.push(edge);
            }
        }
        let angle = f32::from(self.angle) / 8.0 * std::f32::consts::FRAC_PI_2;
        let vector =
            RemVector { space: embedder().space().to_string(), vector: vec![angle.cos(), angle.sin(), 0.0, 0.0] };
        RemWrite::Put { row: Box::new(row), vector: (self.angle < 7).then_some(vector), edges: Some(edges) }
    }
}

/// Every type of query, around a name and a request.
fn queries(name: &str, other: &str, request: RequestId) -> Vec<String> {
    [
        "LOOKUP \"{n}\"",
        "LOOKUP \"{n}\", \"{o}\", \"alfa\", nope",
        "LOOKUP \"{n}\", alfa IN entities LIMIT 2",
        "FUZZY \"{n}\"",
        "FUZZY \"alpa on\" THRESHOLD 0.05 LIMIT 3",
        "SEARCH \"whale\"",
        "SEARCH \"whale shark\" IN resources, entities, moments LIMIT 4",
        "SEARCH \"canary\" IN resources, entities, moments MODE text",
        "SEARCH \"whale\" IN entities, moments MODE vector MIN_SIMILARITY 0.1",
        "SEARCH \"cod\" IN resources CATEGORY even MIN_SIMILARITY 0",
        "SEARCH \"whale\" IN resources WHERE \"owner = 'public' OR name LIKE 'a%'\"",
        "TRAVERSE \"{n}\"",
        "TRAVERSE \"{n}\" DEPTH 3",
        "TRAVERSE \"{n}\" DEPTH 3 BOTH MIN_WEIGHT 0.3",
        "TRAVERSE \"{n}\" INBOUND DEPTH 2 TYPE knows, cites LIMIT 4",
        "TRAVERSE \"{n}\" PLAN",
        "TRAVERSE \"{n}\" PLAN INBOUND",
        "TRAVERSE WITH FUZZY \"{o}\" THRESHOLD 0.2 DEPTH 2 LAZY",
        "TRAVERSE WITH SEARCH \"whale\" IN moments DEPTH 2 KEYS ORDER BY name DESC",
        "SELECT name, owner, content, tags, metadata FROM resources ORDER BY id",
        "SELECT count(*) AS n, min(name) AS name FROM entities",
        "SELECT name, \"key\", table_name, alias, owner FROM names ORDER BY name, id, alias",
        "SELECT source, type, target, weight, owner FROM edges ORDER BY source_id, type, target",
        "TRAVERSE \"{r}\" DEPTH 2",
        "TRAVERSE \"{r}\" PLAN",
        "TRAVERSE \"{n}\" INBOUND TYPE served_from DEPTH 2",
        "SELECT id, user_name, model, status, input_tokens, saved_usd, latency_ms FROM requests ORDER BY id",
        "SELECT r.status, count(*) AS n FROM requests r JOIN edges e ON e.source_id = r.id GROUP BY r.status ORDER BY r.status",
        "SELECT e.target AS name, count(*) AS n FROM edges e JOIN names n ON n.name = e.target GROUP BY e.target ORDER BY e.target",
    ]
    .into_iter()
    .map(|text| text.replace("{n}", name).replace("{o}", other).replace("{r}", &request.to_string()))
    .collect()
}

/// An answer or a fault as bytes, times aside.
async fn told(world: &World, scope: &Scope, text: &str) -> String {
    match world.ask(scope, text).await {
        Ok(answer) => serde_json::to_string(&answer).unwrap(),
        Err(fault) => format!("{fault:?}"),
    }
}

async fn batched(world: &World, scope: &Scope, name: &str) -> String {
    let texts =
        [("found", format!("FUZZY \"{name}\" THRESHOLD 0.1")), ("around", "TRAVERSE WITH $found BOTH DEPTH 2".into())];
    let stages: Vec<BatchStage> = texts
        .into_iter()
        .map(|(name, text)| BatchStage { name: name.into(), query: rem::parse_stage(&text).unwrap() })
        .collect();
    let mut answers = world.rem.batch(scope, &stages).await.unwrap();
    for (_, answer) in &mut answers {
        answer.timing_ms = Timing::default();
    }
    serde_json::to_string(&answers).unwrap()
}

/// Draws `cases` worlds, each in tenants of its own, and compares `all` with `mine`.
fn compare(runtime: &tokio::runtime::Runtime, all: &World, mine: &World, cases: u32) {
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let number = std::cell::Cell::new(0_u32);
    let strategy = (
        prop::sample::select(CALLERS.to_vec()),
        prop::collection::vec(drawn(), 1..24),
        prop::collection::vec(asked(), 1..8),
        (0..NAMES.len(), 0..NAMES.len(), any::<prop::sample::Index>()),
    );
    let done = runner.run(&strategy, |(who, rows, asked, (name, other, one))| {
        number.set(number.get() + 1);
        let tenants = [format!("ours{}", number.get()), format!("theirs{}", number.get())];
        let tenant = |theirs: bool| tenants[usize::from(theirs)].as_str();
        // No two tenants have a request of one id.
        let request = |place: usize| {
            let within = u128::from(number.get()) << 16 | place as u128;
            RequestId::from_bytes((u128::from(NOW) << 80 | within).to_be_bytes())
        };
        runtime.block_on(async {
            for (place, row) in rows.iter().enumerate() {
                // Tenants use the same ids, as those that are derived from what they stand for may be.
                let write = [row.write(place as u64, who)];
                all.apply(tenant(row.theirs), &write).await;
                if row.visible(who) {
                    mine.apply(tenant(who.0), &write).await;
                }
            }
            for (place, asked) in asked.iter().enumerate() {
                let (row, link) = (asked.row(tenant(asked.theirs), request(place), who), asked.link(request(place)));
                let link: Vec<RemWrite> = link.into_iter().collect();
                let worlds: &[&World] = if asked.visible(who) { &[all, mine] } else { &[all] };
                for world in worlds {
                    world.record(std::slice::from_ref(&row)).await;
                    world.apply(tenant(asked.theirs), &link).await;
                }
            }
            let caller = scope(tenant(who.0), who.1);
            for text in queries(NAMES[name], NAMES[other], request(one.index(asked.len()))) {
                let (here, there) = (told(all, &caller, &text).await, told(mine, &caller, &text).await);
                prop_assert_eq!(&here, &there, "{}", text);
                prop_assert!(!here.replace("SEARCH \\\"canary", "").contains("canary"), "{}: {}", text, here);
                prop_assert!(!here.contains("NaN"));
            }
            prop_assert_eq!(batched(all, &caller, NAMES[name]).await, batched(mine, &caller, NAMES[name]).await);
            Ok(())
        })
    });
    done.unwrap_or_else(|failed| panic!("{}: {failed}", all.what));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn answers_on_sqlite_do_not_depend_on_what_others_have() {
    let runtime = runtime();
    let (all, mine) = runtime.block_on(async { (World::sqlite().await, World::sqlite().await) });
    compare(&runtime, &all, &mine, 60);
    runtime.block_on(async { (all.close().await, mine.close().await) });
}

#[test]
fn answers_on_postgres_do_not_depend_on_what_others_have() {
    let runtime = runtime();
    let (all, mine) = runtime.block_on(async { (World::postgres().await, World::postgres().await) });
    compare(&runtime, &all, &mine, 24);
    runtime.block_on(async { (all.close().await, mine.close().await) });
}

#[test]
fn answers_of_both_databases_are_equal() {
    let runtime = runtime();
    let (all, mine) = runtime.block_on(async { (World::postgres().await, World::sqlite().await) });
    compare(&runtime, &all, &mine, 24);
    runtime.block_on(async { (all.close().await, mine.close().await) });
}
