//! Tests of what is particular to REM data on PostgreSQL: its indexes are used, the vector index never changes how many rows are
//! found, several replicas write the same rows at once, and names do not depend on the locale.

use std::collections::HashSet;

use serde_json::Map;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};

use super::super::super::Stores;
use super::super::super::sample::{row as request, tenant};
use super::super::tests::EmptyDatabase;
use super::*;
use crate::ids::KeyId;

const SPACE: &str = "test@1/16";

fn id(number: u64) -> RemId {
    RemId::from_bytes(u128::from(number).to_be_bytes())
}

fn me() -> Scope {
    Scope { tenant: tenant("t"), key: KeyId::new("me") }
}

fn row(owner: Owner, number: u64, name: &str) -> RemRow {
    RemRow {
        id: id(number),
        table: RemTable::Resources,
        owner,
        name: name.into(),
        text: format!("text {number} of word{}", number % 500),
        label: if number.is_multiple_of(10) { "rare" } else { "common" }.into(),
        uri: None,
        tags: vec![format!("tag{}", number % 4)],
        data: Map::new(),
        aliases: Vec::new(),
        starts_at: None,
        ends_at: None,
        previous: None,
        part_of: None,
        entry: None,
        made: false,
        writer: None,
        created_at: 1,
        updated_at: number,
        deleted_at: None,
    }
}

fn unit(random: &mut fastrand::Rng) -> Vec<f32> {
    let vector: Vec<f32> = (0..16).map(|_| random.f32() - 0.5).collect();
    let norm = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    vector.iter().map(|number| number / norm).collect()
}

fn edge(source: u64, target: &str) -> RemEdge {
    RemEdge {
        source: id(source),
        source_table: RemTable::Resources,
        kind: "knows".into(),
        target: target.into(),
        weight: 0.5,
        properties: Map::new(),
        created_at: 1,
    }
}

/// Of the rows every fifth is somebody else's and every seventh is of another tenant.
fn is_mine(number: u64) -> bool {
    !number.is_multiple_of(5) && !number.is_multiple_of(7)
}

/// Writes rows from number 1 on; gives their vectors.
async fn filled(store: &PostgresStore, count: u64) -> Vec<Vec<f32>> {
    let mut random = fastrand::Rng::with_seed(9);
    let vectors: Vec<Vec<f32>> = (0..count).map(|_| unit(&mut random)).collect();
    for (of, theirs) in [("t", false), ("u", true)] {
        let writes: Vec<RemWrite> = (1_u64..)
            .zip(&vectors)
            .filter(|(number, _)| number.is_multiple_of(7) == theirs)
            .map(|(number, vector)| {
                let owner = if number % 5 == 0 {
                    Owner::Key(KeyId::new("other"))
                } else if number % 2 == 0 {
                    Owner::Public
                } else {
                    me().owner()
                };
                let name = format!("{:08x} {number}", (number.wrapping_mul(2_654_435_761)) & 0xFFFF_FFFF);
                let vector = Some(RemVector { space: SPACE.into(), vector: vector.clone() });
                let edges = Some(vec![edge(number, &format!("target {}", number % 300))]);
                RemWrite::Put { row: Box::new(row(owner, number, &name)), vector, edges }
            })
            .collect();
        store.rem_apply(&tenant(of), &writes).await.unwrap();
    }
    vectors
}

async fn plan(store: &PostgresStore, settings: &str, statement: &str, arguments: &str) -> String {
    let mut snapshot = store.begin_rem(settings).await.unwrap();
    let prepare = format!("PREPARE asked AS {statement}");
    raw_sql(AssertSqlSafe(prepare)).execute(&mut *snapshot).await.unwrap();
    let explain = format!("EXPLAIN (ANALYZE, TIMING OFF) EXECUTE asked ({arguments})");
    let lines: Vec<PgRow> = raw_sql(AssertSqlSafe(explain)).fetch_all(&mut *snapshot).await.unwrap();
    raw_sql("DEALLOCATE asked").execute(&mut *snapshot).await.unwrap();
    lines.iter().map(|line| line.get::<String, _>(0) + "\n").collect()
}

#[tokio::test]
async fn every_way_to_find_rows_goes_through_its_index() {
    let database = EmptyDatabase::new().await;
    let store = database.open().await;
    filled(&store, 4_000).await;
    let month = 30 * 86_400_000;
    let requests: Vec<_> = (1..=3_000_u64)
        .map(|number| {
            let started_at = 1_760_000_000_000 + number % 6 * month;
            crate::store::LedgerRow { started_at, ..request("t", (started_at << 16) + number) }
        })
        .collect();
    store.stores().ledger.append(&requests).await.unwrap();
    // Without the list of what is not in the indexes yet, which the planner would have to add.
    database.sql("VACUUM ANALYZE").await;
    let owners = "'{public,key:me}'";
    let hidden = "Seq Scan on rem";
    let cases = [
        (
            similar::NAMED,
            format!("ARRAY[sha256('x')], '{{0}}', 't', {owners}, '{{0,1,2}}', 10"),
            vec!["rem_names_by_key", "rem_rows_pkey"],
        ),
        (similar::SIMILAR_NAMES, format!("'t', {owners}, '{{1,2}}'"), vec!["rem_names_pkey", "rem_rows_pkey"]),
        (edges::FROM, format!("'t', ARRAY['\\xab'::bytea], {owners}, 0, '{{}}', 10"), vec!["rem_edges_pkey"]),
        (edges::TO, format!("'t', ARRAY[sha256('x')], {owners}, 0, '{{}}', 10"), vec!["rem_edges_by_target"]),
        (found::OF_IDS, format!("'t', ARRAY['\\xab'::bytea], {owners}"), vec!["rem_rows_tenant_id_key"]),
    ];
    let arguments = format!("'t', '', 0, {owners}, 10");
    let listed = plan(&store, "", listing::LISTED, &arguments).await;
    assert_eq!(listed.matches("rem_rows_by_owner").count(), 2, "{listed}");
    assert!(!listed.contains("Removed by Filter") && !listed.contains(hidden), "rows of others are read: {listed}");
    let spaces = store.rem_tables(&mut store.begin_rem("").await.unwrap(), Some(SPACE)).await.unwrap();
    let spaces: Vec<i32> = spaces.iter().map(|table| table.number).collect();
    let waiting = plan(&store, "", &keep::unembedded_sql(&spaces), &format!("10, '{SPACE}'")).await;
    assert_eq!(waiting.matches("rem_rows_by_space").count(), 3, "{waiting}");
    assert!(!waiting.contains(hidden) && !waiting.contains("Removed by"), "rows with a vector are read: {waiting}");
    let new = plan(&store, "SET LOCAL enable_seqscan = off", keep::NEW_ENTRIES, "'', '', 0, 10, '\\xff'").await;
    assert!(new.contains("entries_by_age"), "{new}");
    for (statement, arguments, indexes) in cases {
        let plan = plan(&store, "", statement, &arguments).await;
        assert!(indexes.iter().all(|index| plan.contains(index)) && !plan.contains(hidden), "{plan}");
    }
    let scopes = [Owner::Public, me().owner()].map(|owner| rows::scope_number(&tenant("t"), &owner));
    let asked = similar::Signed::of(&Grams::of("some name"));
    let arguments = format!(
        "'{{{},{}}}', '{}', {}, 0, 3, 30, '{{0,1,2}}', 0.23, 1024, 0, 0.71",
        scopes[0], scopes[1], asked.signature, asked.size
    );
    let similar = plan(&store, similar::BY_INDEX, similar::SIMILAR, &arguments).await;
    let whose = similar.lines().any(|line| line.contains("Index Cond: ((scope = ANY"));
    assert!(similar.contains("rem_names_by_grams") && whose && !similar.contains(hidden), "{similar}");
    let edges = plan(&store, "", edges::TO, &format!("'t', ARRAY[sha256('x')], {owners}, 0, '{{}}', 10")).await;
    let whose = edges.lines().any(|line| line.contains("Index Cond") && line.contains("owner = ANY"));
    assert!(whose, "edges of others are read: {edges}");
    let words = found::worded_sql("r.words @@ $4::tsquery AND $5::tsquery IS NOT NULL", "true");
    let word = format!("'''{}word7'''", rows::word_prefix(&tenant("t"), &me().owner(), RemTable::Resources));
    // Of so few rows the planner would rather read all.
    let words =
        plan(&store, "SET LOCAL enable_seqscan = off", &words, &format!("'t', 0, {owners}, {word}, {word}, 10")).await;
    assert!(words.contains("rem_rows_by_words") && !words.contains(hidden), "{words}");
    // The word is in eight rows; the two of another tenant are not met.
    let met = words.lines().find(|line| line.contains("Bitmap Index Scan")).unwrap();
    assert!(met.contains("actual rows=6."), "{words}");
    let at = 1_760_000_000_000_u64;
    let (from, to) = (at - puts::NEAR_MS, at + puts::NEAR_MS);
    let arguments = format!("ARRAY['\\xab'::bytea], '{{{from}}}', '{{{to}}}', 't', 'me'");
    let requests = plan(&store, "", super::super::ledger::OF_KEY, &arguments).await;
    let months: Vec<&str> = requests.lines().filter(|line| line.contains(" on requests_2")).collect();
    let read = months.iter().filter(|line| !line.contains("never executed")).count();
    assert!(months.len() > 5 && read == 1, "one month is read: {requests}");
}

#[tokio::test]
async fn the_vector_index_finds_the_nearest_and_exactly_as_many_as_there_are() {
    let database = EmptyDatabase::new().await;
    let mut store = std::sync::Arc::into_inner(database.open().await).unwrap();
    store.fast_from = 100;
    let count = 3_000;
    let vectors = filled(&store, count).await;
    let tagged = Cond::Is(
        *columns(RemTable::Resources).iter().find(|column| column.name == "tags").unwrap(),
        Compare::Equal,
        Literal::Text("tag3".into()),
    );
    let mut random = fastrand::Rng::with_seed(11);
    let (mut both, mut asked) = (0, 0);
    // Without statistics the index is always tried, with them the cheaper way is.
    for analyzed in [false, true] {
        if analyzed {
            database.sql("ANALYZE").await;
        }
        for round in 0..24_u32 {
            let query = unit(&mut random);
            let label = (round % 4 == 1).then_some("rare");
            let cond = (round % 4 == 2).then_some(&tagged);
            let limit = [10, 50, 1_000][usize::try_from(round % 3).unwrap()];
            let least = if round % 4 == 3 { 0.5 } else { -1.0 };
            let question = RemQuestion { table: RemTable::Resources, cond, label, limit };
            let asked_for = RemVector { space: SPACE.into(), vector: query.clone() };
            let near = store.rem_nearest(&me(), &asked_for, least, &question).await.unwrap();
            let mut known: Vec<(f64, u64)> = (1_u64..)
                .zip(&vectors)
                .filter(|(number, _)| is_mine(*number))
                .filter(|(number, _)| label.is_none() || number.is_multiple_of(10))
                .filter(|(number, _)| cond.is_none() || number % 4 == 3)
                .map(|(number, vector)| (cosine(vector, &query), number))
                .filter(|(cosine, _)| *cosine >= least)
                .collect();
            known.sort_by(|a, b| b.0.total_cmp(&a.0));
            known.truncate(usize::try_from(limit).unwrap());
            assert_eq!(near.len(), known.len(), "round {round}");
            assert!(near.windows(2).all(|pair| pair[0].cosine >= pair[1].cosine), "not best first");
            let wanted: HashSet<RemId> = known.iter().map(|(_, number)| id(*number)).collect();
            for near in &near {
                let number = near.row.updated_at;
                assert!(is_mine(number), "row {number} leaked");
                let vector = &vectors[usize::try_from(number).unwrap() - 1];
                assert!((near.cosine - cosine(vector, &query)).abs() < 1e-12, "the cosine of the full vectors");
                both += u32::from(wanted.contains(&near.row.id));
            }
            asked += u32::try_from(known.len()).unwrap();
        }
    }
    assert!(f64::from(both) / f64::from(asked) >= 0.97, "{both} of {asked}");
}

/// Everything, as text.
async fn everything(stores: &Stores) -> String {
    format!("{:?}", stores.rem.as_ref().unwrap().rem_export(None, 1_000).await.unwrap())
}

#[tokio::test]
async fn replicas_that_write_the_same_rows_at_once_leave_what_one_leaves() {
    let database = EmptyDatabase::new().await;
    let stores = [database.open().await, database.open().await];
    let writes: Vec<RemWrite> = (1..=60)
        .map(|number| RemWrite::Put {
            row: Box::new(RemRow { made: true, ..row(Owner::Public, number, &format!("model {number}")) }),
            vector: Some(RemVector { space: SPACE.into(), vector: vec![0.25; 16] }),
            edges: Some((0..3).map(|target| edge(number, &format!("model {target}"))).collect()),
        })
        .collect();
    let backwards: Vec<RemWrite> = writes.iter().rev().cloned().collect();
    let links: Vec<RemWrite> = (1..=60)
        .rev()
        .map(|number| RemWrite::Link {
            owner: Owner::Public,
            edges: vec![edge(number, "model 2"), edge(number, "model 1")],
        })
        .collect();
    let tasks: Vec<_> = (0..6_usize)
        .map(|turn| {
            let store = stores[turn % 2].clone();
            let mut writes = if turn % 3 == 0 { backwards.clone() } else { writes.clone() };
            if turn % 2 == 1 {
                writes.extend(links.clone());
            }
            tokio::spawn(async move { store.rem_apply(&tenant("t"), &writes).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let together = everything(&stores[0].stores()).await;
    let alone = EmptyDatabase::new().await;
    let one = alone.open().await;
    one.rem_apply(&tenant("t"), &writes).await.unwrap();
    assert_eq!(together, everything(&one.stores()).await);
    let names: i64 =
        sqlx::query_scalar("SELECT count(*) FROM rem_names").fetch_one(&mut database.connect().await).await.unwrap();
    assert_eq!(names, 60, "no name is there twice");
}

#[tokio::test]
async fn similar_names_of_any_letters_are_found_whatever_the_locale_takes_for_a_letter() {
    let database = EmptyDatabase::with("LOCALE 'C'").await;
    let store = database.open().await;
    let names = ["Ärger im Büro", "東京タワー", "Ünïcödé nàmé", "plain name", "İstanbul Ⅳ ²", "दिल्ली मेट्रो"];
    let writes: Vec<RemWrite> = (1_u64..)
        .zip(names)
        .map(|(number, name)| RemWrite::Put {
            row: Box::new(row(me().owner(), number, name)),
            vector: None,
            edges: None,
        })
        .collect();
    store.rem_apply(&tenant("t"), &writes).await.unwrap();
    for text in ["ärger im büro", "東京タワ", "unïcödé nàmé", "PLAIN NAMES", "istanbul ⅳ ²", "दिल्ली मेट्र"]
    {
        for least in [0.3, 0.5] {
            let found = store.rem_similar(&me(), text, &[], least, 100).await.unwrap();
            let found: HashSet<&str> = found.iter().map(|found| &*found.name).collect();
            let asked = Grams::of(text);
            let must = names.iter().filter(|name| asked.similarity(&Grams::of(name)) >= least);
            for name in must {
                assert!(found.contains(name), "{text} finds {name}: {found:?}");
            }
        }
    }
}

/// Where others have many names like it, their number does not tell.
#[tokio::test]
async fn names_of_others_are_not_met_in_a_search() {
    let database = EmptyDatabase::new().await;
    let store = database.open().await;
    filled(&store, 20).await;
    let others: Vec<RemWrite> = (1_000_u64..3_000)
        .map(|number| RemWrite::Put {
            row: Box::new(row(me().owner(), number, &format!("acquisition of company {number}"))),
            vector: None,
            edges: None,
        })
        .collect();
    store.rem_apply(&tenant("u"), &others).await.unwrap();
    let own =
        RemWrite::Put { row: Box::new(row(Owner::Public, 500, "acquisition of a company")), vector: None, edges: None };
    store.rem_apply(&tenant("t"), &[own]).await.unwrap();
    database.sql("VACUUM ANALYZE").await;
    let found = store.rem_similar(&me(), "aquisition of company", &[], 0.3, 100).await.unwrap();
    assert_eq!(found.iter().map(|found| &*found.name).collect::<Vec<_>>(), ["acquisition of a company"]);
    let scopes = [Owner::Public, me().owner()].map(|owner| rows::scope_number(&tenant("t"), &owner));
    let asked = similar::Signed::of(&Grams::of("acquisition of company"));
    let arguments = format!(
        "'{{{},{}}}', '{}', {}, 0, 1, 10000, '{{0,1,2}}', 0, 1024, 0, 1",
        scopes[0], scopes[1], asked.signature, asked.size
    );
    let plan = plan(&store, similar::BY_INDEX, similar::SIMILAR, &arguments).await;
    let read = plan.lines().skip_while(|line| !line.contains("rem_names_by_grams"));
    let removed: Vec<&str> = read.take(4).filter(|line| line.contains("Rows Removed by Filter")).collect();
    let removed = removed.first().and_then(|line| line.rsplit(' ').next()?.parse::<u32>().ok()).unwrap_or(0);
    assert!(removed <= 20, "{plan}");
}

#[tokio::test]
async fn of_many_similar_names_the_most_similar_are_given() {
    let database = EmptyDatabase::new().await;
    let store = database.open().await;
    // More than a scan gives, most of them with the same bound or a better one.
    let mut random = fastrand::Rng::with_seed(3);
    let names: Vec<String> = (0..2_500)
        .map(|number| {
            let mut word = || (0..6).map(|_| random.char('a'..='d')).collect::<String>();
            format!("{} {} {number}", word(), word())
        })
        .collect();
    let writes: Vec<RemWrite> = (1_u64..)
        .zip(&names)
        .map(|(number, name)| RemWrite::Put {
            row: Box::new(row(me().owner(), number, name)),
            vector: None,
            edges: None,
        })
        .collect();
    store.rem_apply(&tenant("t"), &writes).await.unwrap();
    let asked =
        [("abcd dcba", 0.0, 5), ("abcd dcba 1", 0.0, 2_400), ("aabbcc ddccbb 7", 0.1, 700), ("aaaa", 0.2, 2_000)];
    for (text, least, limit) in asked {
        let asked = Grams::of(text);
        let mut known: Vec<(f64, &str)> =
            names.iter().map(|name| (asked.similarity(&Grams::of(name)), &**name)).collect();
        known.retain(|(score, _)| *score >= least && *score > 0.0);
        known.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        known.truncate(limit);
        let found = store.rem_similar(&me(), text, &[], least, u32::try_from(limit).unwrap()).await.unwrap();
        let found: Vec<&str> = found.iter().map(|found| &*found.name).collect();
        assert_eq!(found, known.iter().map(|(_, name)| *name).collect::<Vec<_>>(), "{text}");
    }
}

#[tokio::test]
async fn reads_that_nobody_waits_for_end_and_take_no_connection_of_others() {
    let database = EmptyDatabase::new().await;
    let store = database.open().await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(store.begin_rem("").await.unwrap());
    }
    assert!(matches!(store.begin_rem("").await, Err(StoreError::Busy { .. })), "REM has no more");
    let mut others = Vec::new();
    for _ in 0..8 {
        others.push(store.begin_read().await.unwrap());
    }
    drop(others);
    let mut written = Vec::new();
    for _ in 0..2 {
        written.push(store.begin_rem_write().await.unwrap());
    }
    store.begin_write().await.unwrap();
    drop(written);
    drop(held);

    let limit: String = sqlx::query_scalar("SELECT current_setting('statement_timeout')")
        .fetch_one(&mut *store.begin_rem("").await.unwrap())
        .await
        .unwrap();
    assert_eq!(limit, "6s");
    let mut other = database.connect().await;
    let mut running = async |wanted: i64| loop {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query = 'SELECT pg_sleep(3600)'",
        )
        .fetch_one(&mut other)
        .await
        .unwrap();
        if count == wanted {
            break;
        }
    };
    let reading = {
        let store = store.clone();
        tokio::spawn(async move {
            let mut snapshot = store.begin_rem("SET LOCAL statement_timeout = 0").await.unwrap();
            raw_sql("SELECT pg_sleep(3600)").execute(&mut *snapshot).await.map(drop)
        })
    };
    running(1).await;
    reading.abort();
    assert!(reading.await.unwrap_err().is_cancelled());
    // It would run for an hour.
    running(0).await;
}
