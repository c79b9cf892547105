use super::super::super::rem::canaries::{ALIKE, CANARY, ENDLESS, PROBE, hostile, id, scope, statements};
use tokio::time::timeout;

use super::*;
use crate::config::Migrate;
use crate::ids::RemId;

const CAPS: SqlCaps = SqlCaps { rows: 1_000, bytes: 1 << 20, time: Duration::from_secs(20) };

struct Rig {
    store: Arc<SqliteStore>,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Rig {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("remora.db");
        let store = SqliteStore::open(&path, Migrate::Auto).await.unwrap();
        let connection = Connection::open(&path).unwrap();
        let blob = |bytes: &[u8]| format!("x'{}'", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        for text in statements(blob, |flag| if flag { "1" } else { "0" }) {
            connection.execute(&text, []).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
        Self { store, path, _directory: directory }
    }

    /// All rows of all tables.
    fn digest(&self) -> String {
        let connection = Connection::open(&self.path).unwrap();
        let mut tables =
            connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").unwrap();
        let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let mut hasher = blake3::Hasher::new();
        for table in tables {
            let mut statement = connection.prepare(&format!("SELECT * FROM \"{table}\"")).unwrap();
            let columns = statement.column_count();
            let mut rows = statement.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                for column in 0..columns {
                    hasher.update(format!("{table} {:?}", row.get_ref(column).unwrap()).as_bytes());
                }
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    fn job(&self, text: &str, layers: Layers) -> Job {
        Job {
            path: self.path.clone(),
            scope: scope("a", "k1"),
            text: text.to_owned(),
            caps: CAPS,
            layers,
            cancelled: Arc::default(),
            end: Instant::now() + CAPS.time,
        }
    }

    fn run(&self, text: &str, layers: Layers) -> Result<SqlAnswer, SqlFault> {
        select(&self.job(text, layers))
    }
}

fn shown(answer: &SqlAnswer) -> String {
    serde_json::to_string(&answer.rows).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_sees_his_rows_and_public_ones_and_answers_are_those_of_the_other_database() {
    let rig = Rig::new().await;
    for (text, rows) in ALIKE {
        let answer = rig.store.select(&scope("a", "k1"), text, CAPS).await;
        assert_eq!(answer.as_ref().map(shown).as_deref(), Ok(rows), "{text}");
    }
    for (view, columns) in VIEWS {
        let answer = rig.store.select(&scope("a", "k1"), &format!("SELECT * FROM \"{view}\""), CAPS).await.unwrap();
        assert_eq!(answer.columns, columns, "{view}");
        assert!(!answer.rows.is_empty() && !shown(&answer).contains(CANARY), "{view}: {}", shown(&answer));
    }
    let ids = rig.store.select(&scope("a", "k1"), "SELECT id FROM resources ORDER BY name", CAPS).await.unwrap();
    let expected = [RemId::from_bytes(id(0)).to_string(), RemId::from_bytes(id(1)).to_string()];
    assert_eq!(ids.rows.iter().map(|row| row[0].as_str().unwrap()).collect::<Vec<_>>(), expected);
    let other = rig.store.select(&scope("b", "k1"), "SELECT name FROM resources ORDER BY name", CAPS).await.unwrap();
    assert_eq!(shown(&other), r#"[["CANARY of a namesake"],["CANARY of a tenant"]]"#);
    let quoted = rig.store.select(&scope("a' OR 1 = 1 --", "k1"), "SELECT name FROM resources", CAPS).await.unwrap();
    assert!(quoted.rows.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_statements_that_nobody_has_checked_see_no_canary_and_write_nothing() {
    let rig = Rig::new().await;
    let before = rig.digest();
    for text in hostile() {
        for text in [text.to_owned(), format!("{text} --"), format!("EXPLAIN {text}")] {
            let caps = SqlCaps { time: Duration::from_secs(2), ..CAPS };
            let found = rig.store.select(&scope("a", "k1"), &text, caps).await;
            assert!(!format!("{found:?}").contains(CANARY), "{text}: {found:?}");
            let plan = rig.store.plan(&scope("a", "k1"), &text, caps).await;
            assert!(!format!("{plan:?}").contains(CANARY), "{text}: {plan:?}");
        }
    }
    assert_eq!(rig.digest(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_authorizer_tables_are_read_and_with_it_they_are_not() {
    let rig = Rig::new().await;
    let without = Layers { authorizer: false, ..Layers::ALL };
    for text in [
        "SELECT text FROM rem_rows",
        "SELECT text FROM main.rem_rows",
        "WITH resources AS (SELECT text FROM rem_rows) SELECT text FROM resources",
        "WITH resources AS (SELECT text FROM main.rem_rows) SELECT * FROM resources",
        "SELECT (SELECT group_concat(text) FROM rem_rows)",
    ] {
        assert!(shown(&rig.run(text, without).unwrap()).contains(CANARY), "{text}");
        assert_eq!(rig.run(text, Layers::ALL), Err(SqlFault::NotAllowed), "{text}");
    }
    // Without the authorizer the secret names are known.
    let names = rig.run("SELECT name FROM sqlite_temp_schema", without).unwrap();
    assert_eq!(names.rows.len(), 2 * VIEWS.len());
    for text in [
        "SELECT name FROM sqlite_temp_schema",
        "SELECT count(*) FROM sqlite_schema",
        "SELECT count(*) FROM rem_rows",
        "SELECT count(*) FROM main.requests",
        "SELECT \"user\" FROM main.requests",
        "SELECT count(*) FROM REM_ROWS",
        "SELECT 1 FROM rem_rows",
        "SELECT count(*) FROM pragma_database_list",
        "SELECT count(*) FROM json_each('[1]')",
        "SELECT count(*) FROM rem_words",
        "SELECT randomblob(8)",
        "SELECT name FROM resources WHERE name GLOB 'x'",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT n FROM r LIMIT 3",
        "PRAGMA table_list",
    ] {
        assert_eq!(rig.run(text, Layers::ALL), Err(SqlFault::NotAllowed), "{text}");
    }
}

#[test]
fn only_a_secret_name_lets_tables_be_read() {
    let asked = |accessor| AuthContext {
        action: AuthAction::Read { table_name: "rem_rows", column_name: "text" },
        database_name: Some("main"),
        accessor,
    };
    let decide = |accessor| authorise(&asked(accessor), "0123", &HashSet::new());
    assert_eq!(decide(Some("resources_0123")), Authorization::Allow);
    for accessor in [None, Some("resources"), Some("resources_0124"), Some("_0123"), Some("resources_")] {
        assert_eq!(decide(accessor), Authorization::Deny, "{accessor:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_three_layers_keeps_statements_from_writing() {
    let rig = Rig::new().await;
    let before = rig.digest();
    let none = Layers { read_only: false, query_only: false, authorizer: false, ..Layers::ALL };
    let delete = "DELETE FROM rem_edges WHERE target = 'to guide' RETURNING target";
    for layers in
        [Layers { read_only: true, ..none }, Layers { query_only: true, ..none }, Layers { authorizer: true, ..none }]
    {
        // Whatever `select` does itself to refuse it is left out.
        let connection = set_up(&rig.job("", layers), "x").unwrap();
        let refused = connection.query_row(delete, [], |_| Ok(()));
        assert_eq!(refused.map_err(|error| fault(&error)), Err(SqlFault::NotAllowed));
        assert_eq!(rig.digest(), before);
    }
    assert_eq!(rig.run(delete, none), Err(SqlFault::NotAllowed));
    assert_eq!(rig.digest(), before);
    let connection = set_up(&rig.job("", none), "x").unwrap();
    connection.query_row(delete, [], |_| Ok(())).unwrap();
    drop(connection);
    assert_ne!(rig.digest(), before, "the test would not notice a write");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_bound_what_a_statement_builds() {
    let rig = Rig::new().await;
    let without = Layers { limits: false, ..Layers::ALL };
    let ten = |text: &str| [text; 10].join(" || ");
    let long = format!(
        "WITH a AS (SELECT '{}' AS x), b AS (SELECT {t} AS x FROM a), c AS (SELECT {t} AS x FROM b), d AS (SELECT {t} AS x FROM c) \
         SELECT length(x) AS n FROM d",
        "x".repeat(10_000),
        t = ten("x")
    );
    assert_eq!(rig.run(&long, without).map(|answer| shown(&answer)).as_deref(), Ok("[[10000000]]"));
    assert_eq!(rig.run(&long, Layers::ALL), Err(SqlFault::TooLarge));
    let deep = format!("SELECT 1{} AS n", " + 1".repeat(400));
    assert!(rig.run(&deep, without).is_ok());
    assert!(rig.run(&deep, Layers::ALL).is_err());
    let joined = format!("SELECT 1 AS n{}", " UNION ALL SELECT 1".repeat(50));
    assert!(rig.run(&joined, without).is_ok());
    assert!(rig.run(&joined, Layers::ALL).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_ends_at_its_deadline_or_when_nobody_waits() {
    let rig = Rig::new().await;
    let over = |layers| {
        select(&Job { end: Instant::now(), ..rig.job("SELECT count(*) FROM names a, names b, names c", layers) })
    };
    assert_eq!(over(Layers::ALL), Err(SqlFault::Timeout));
    assert!(over(Layers { deadline: false, ..Layers::ALL }).is_ok());
    let nobody = Job { cancelled: Arc::new(AtomicBool::new(true)), ..rig.job(ENDLESS, Layers::ALL) };
    assert_eq!(select(&nobody), Err(SqlFault::Timeout));

    let caps = SqlCaps { time: Duration::from_millis(100), ..CAPS };
    assert_eq!(rig.store.select(&scope("a", "k1"), ENDLESS, caps).await, Err(SqlFault::Timeout));
    // Callers that go away leave all places free.
    for _ in 0..2 * PLACES {
        let (caller, caps) = (scope("a", "k1"), SqlCaps { time: Duration::from_secs(3_600), ..CAPS });
        let running = rig.store.select(&caller, ENDLESS, caps);
        assert!(timeout(Duration::from_millis(20), running).await.is_err());
    }
    let places = rig.store.places.0.take_all(PLACES);
    let all = timeout(Duration::from_secs(30), places).await.expect("a place is not free again");
    // And who finds none is told so.
    let caps = SqlCaps { time: Duration::from_millis(50), ..CAPS };
    assert_eq!(rig.store.select(&scope("a", "k1"), "SELECT 1 AS x", caps).await, Err(SqlFault::Busy));
    drop(all);
    assert!(rig.store.select(&scope("a", "k1"), "SELECT 1 AS x", CAPS).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_cut_at_rows_and_bytes() {
    let rig = Rig::new().await;
    let all = rig.run("SELECT name FROM names", Layers::ALL).unwrap();
    assert!(!all.truncated);
    let caps = SqlCaps { rows: 3, ..CAPS };
    let few = rig.store.select(&scope("a", "k1"), "SELECT name FROM names", caps).await.unwrap();
    assert_eq!((few.rows.len(), few.truncated), (3, true));
    let exact = SqlCaps { rows: u32::try_from(all.rows.len()).unwrap(), ..CAPS };
    let exact = rig.store.select(&scope("a", "k1"), "SELECT name FROM names", exact).await.unwrap();
    assert_eq!((exact.rows.len(), exact.truncated), (all.rows.len(), false));
    let small =
        rig.store.select(&scope("a", "k1"), "SELECT name FROM names", SqlCaps { bytes: 50, ..CAPS }).await.unwrap();
    assert!(small.truncated && !small.rows.is_empty() && small.rows.len() < all.rows.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_condition_of_a_caller_is_computed_on_rows_of_others() {
    let rig = Rig::new().await;
    let text = format!("SELECT name FROM resources WHERE {PROBE} ORDER BY name");
    assert_eq!(rig.run(&text, Layers::ALL).map(|answer| shown(&answer)).as_deref(), Ok(r#"[["guide"],["mine"]]"#));
    // It does fail where there is a canary.
    let other = Job { scope: scope("b", "k1"), ..rig.job(&text, Layers::ALL) };
    assert!(matches!(select(&other), Err(SqlFault::Statement(_))));
    // Names and edges of a hidden row are read before it is known that it is hidden.
    let without = Layers { views_apart: false, ..Layers::ALL };
    for (view, column, rows) in [("names", "name", 33), ("edges", "target", 4)] {
        let text = format!("SELECT {column} FROM {view} WHERE {}", PROBE.replace("\"content\"", column));
        assert!(matches!(rig.run(&text, without), Err(SqlFault::Statement(_))), "{text}");
        assert_eq!(rig.run(&text, Layers::ALL).map(|answer| answer.rows.len()), Ok(rows), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_in_our_words_and_plans_name_no_secret() {
    let rig = Rig::new().await;
    for text in [
        "SELECT nope FROM resources",
        "SELECT \"nope\" FROM resources",
        "SELECT name FROM nowhere",
        "SELEC",
        "SELECT nope(1)",
    ] {
        match rig.run(text, Layers::ALL) {
            Err(SqlFault::Statement(words)) => {
                assert!(!words.contains("nope") && !words.contains("nowhere"), "{words}")
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    let plan = rig.store.plan(&scope("a", "k1"), "SELECT name FROM resources", CAPS).await.unwrap();
    assert!(plan.iter().any(|line| line.contains("rem_rows_by_owner")), "{plan:?}");
    assert!(!plan.iter().any(|line| line.split('_').any(|part| part.len() > 40)), "{plan:?}");
}
