use super::super::super::conformance::Fixture;
use super::super::super::rem::VIEWS;
use super::super::super::rem::canaries::{ALIKE, CANARY, ENDLESS, PROBE, hostile, id, scope, statements};
use super::super::tests::TempDatabase;
use super::callers::{PLACES, nobody};
use super::*;
use crate::config::{Migrate, StoreUrl};
use crate::ids::RemId;
use std::sync::Arc;

const CAPS: SqlCaps = SqlCaps { rows: 1_000, bytes: 1 << 20, time: Duration::from_secs(30) };
const TABLES: &str =
    "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname";

struct Rig {
    temp: TempDatabase,
    store: Arc<PostgresStore>,
}

impl Rig {
    async fn new() -> Self {
        let temp = TempDatabase::open().await;
        fill(&temp).await;
        Self { store: temp.store.clone(), temp }
    }

    /// All rows of all tables.
    async fn digest(&self) -> String {
        let mut connection = self.temp.database.connect().await;
        let tables: Vec<String> = query_scalar(TABLES).fetch_all(&mut connection).await.unwrap();
        let mut hasher = blake3::Hasher::new();
        for table in tables {
            let rows = AssertSqlSafe(format!(
                "SELECT coalesce(string_agg(t::text, '|' ORDER BY t::text), '') FROM {table} AS t"
            ));
            let rows: String = query_scalar(rows).fetch_one(&mut connection).await.unwrap();
            hasher.update(format!("{table} {rows}").as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    async fn select(&self, text: &str) -> Result<SqlAnswer, SqlFault> {
        self.store.select(&scope("a", "k1"), text, CAPS).await
    }

    async fn role(&self) -> String {
        self.store.caller(&scope("a", "k1")).await.unwrap().role
    }

    /// Runs SQL as the database's superuser and gives one text.
    async fn ask(&self, text: &str) -> Option<String> {
        let text = AssertSqlSafe(text.to_owned());
        query_scalar(text).fetch_one(&mut self.temp.database.connect().await).await.unwrap()
    }

    /// Roles belong to the server and would stay.
    async fn done(self) {
        for tenant in ["a", "b", "c", ""] {
            self.store.forget(&TenantId::new(tenant), None).await.unwrap();
        }
    }
}

async fn fill(temp: &TempDatabase) {
    let blob =
        |bytes: &[u8]| format!("'\\x{}'::bytea", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    for text in statements(blob, |flag| if flag { "true" } else { "false" }) {
        temp.database.sql(&text).await;
    }
}

fn shown(answer: &SqlAnswer) -> String {
    serde_json::to_string(&answer.rows).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_sees_his_rows_and_public_ones_and_answers_are_those_of_the_other_database() {
    let rig = Rig::new().await;
    for (text, rows) in ALIKE {
        let answer = rig.select(text).await;
        assert_eq!(answer.as_ref().map(shown).as_deref(), Ok(rows), "{text}");
    }
    for (view, columns) in VIEWS {
        let answer = rig.select(&format!("SELECT * FROM \"{view}\"")).await.unwrap();
        assert_eq!(answer.columns, columns, "{view}");
        assert!(!answer.rows.is_empty() && !shown(&answer).contains(CANARY), "{view}: {}", shown(&answer));
    }
    let ids = rig.select("SELECT id FROM resources ORDER BY name").await.unwrap();
    let expected = [RemId::from_bytes(id(0)).to_string(), RemId::from_bytes(id(1)).to_string()];
    assert_eq!(ids.rows.iter().map(|row| row[0].as_str().unwrap()).collect::<Vec<_>>(), expected);
    let other = rig.store.select(&scope("b", "k1"), "SELECT name FROM resources ORDER BY name", CAPS).await.unwrap();
    assert_eq!(shown(&other), r#"[["CANARY of a namesake"],["CANARY of a tenant"]]"#);
    let quoted = rig.store.select(&scope("a' OR 1 = 1 --", "k1"), "SELECT name FROM resources", CAPS).await.unwrap();
    assert!(quoted.rows.is_empty());
    rig.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_statements_that_nobody_has_checked_see_no_canary_and_write_nothing() {
    let rig = Rig::new().await;
    rig.select("SELECT 1 AS x").await.unwrap();
    let before = rig.digest().await;
    for text in hostile() {
        for text in [text.to_owned(), format!("{text} --"), format!("SELECT 1) AS q; {text}; SELECT * FROM (SELECT 1")]
        {
            let caps = SqlCaps { time: Duration::from_secs(2), ..CAPS };
            let found = rig.store.select(&scope("a", "k1"), &text, caps).await;
            assert!(!format!("{found:?}").contains(CANARY), "{text}: {found:?}");
        }
        let plan = rig.store.plan(&scope("a", "k1"), text, CAPS).await;
        assert!(!format!("{plan:?}").contains(CANARY), "{text}: {plan:?}");
    }
    assert_eq!(rig.digest().await, before);
    rig.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_variable_does_not_keep_apart_a_role_does() {
    let rig = Rig::new().await;
    // As the store's own user, a text that was not checked reads everything.
    let mut own = rig.temp.database.connect().await;
    let tables = "SELECT text FROM public.rem_rows";
    let Ok(Gave::Rows(all)) = run(&mut own, tables, CAPS, Want::Rows).await else {
        panic!("the tables cannot be read")
    };
    assert!(shown(&all).contains(CANARY));
    for text in [
        tables,
        "SELECT secret::text FROM public.rem_sql_secret",
        "SELECT role FROM public.rem_callers",
        "SELECT content FROM public.entries",
        "SELECT rolpassword FROM pg_authid",
    ] {
        let refused = rig.select(text).await;
        assert!(matches!(refused, Err(SqlFault::NotAllowed | SqlFault::Statement(_))), "{text}: {refused:?}");
    }
    // These run where nobody has checked them, and change nothing.
    for text in [
        "SELECT r.name FROM (SELECT set_config('app.tenant', 'b', true) OFFSET 0) s, LATERAL (SELECT * FROM resources) r",
        "SELECT set_config('role', 'postgres', false) AS x",
        "SELECT set_config('session_authorization', 'postgres', false) AS x",
        "SELECT query_to_xml('SELECT set_config(''app.tenant'', ''b'', false), name FROM rem.resources', true, true, '')::text AS x",
        "SELECT set_config('search_path', 'public', false) AS x, name FROM rem.resources",
    ] {
        let found = rig.select(text).await;
        assert!(!format!("{found:?}").contains(CANARY), "{text}: {found:?}");
    }
    // And the session that was changed is not the next one's.
    assert_eq!(
        rig.select("SELECT set_config('work_mem', '64MB', false) AS x").await.map(|answer| shown(&answer)).as_deref(),
        Ok(r#"[["64MB"]]"#)
    );
    assert_eq!(
        rig.select("SELECT current_setting('work_mem') AS x").await.map(|answer| shown(&answer)).as_deref(),
        Ok(r#"[["4MB"]]"#)
    );
    // Who has no role sees no rows of anybody.
    let mut own = rig.temp.database.connect().await;
    let Ok(Gave::Rows(none)) = run(&mut own, "SELECT name FROM rem.resources", CAPS, Want::Rows).await else {
        panic!("no view")
    };
    assert!(none.rows.is_empty());
    rig.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_has_no_right_of_its_own() {
    let rig = Rig::new().await;
    let role = rig.role().await;
    let may = format!(
        "SELECT string_agg(c.oid::regclass::text, ',') FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'S') \
         AND (CASE WHEN c.relkind = 'S' THEN has_sequence_privilege('{role}', c.oid, 'USAGE') ELSE has_table_privilege('{role}', c.oid, \
         'SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER') END)"
    );
    assert_eq!(rig.ask(&may).await, None);
    let schema = format!(
        "SELECT (has_schema_privilege('{role}', 'public', 'CREATE') OR has_schema_privilege('{role}', 'rem', 'CREATE'))::text"
    );
    assert_eq!(rig.ask(&schema).await.as_deref(), Some("false"));
    let what = format!(
        "SELECT concat_ws(' ', rolcanlogin, rolinherit, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication, rolconnlimit) FROM pg_roles WHERE rolname = '{role}'"
    );
    assert_eq!(rig.ask(&what).await.as_deref(), Some("t f f f f f f 16"));
    // The password is kept as a verifier, and it is the one of the password that we have.
    let kept = rig.ask(&format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'")).await.unwrap();
    assert!(kept.starts_with("SCRAM-SHA-256$4096:"), "{kept}");
    // One that was given more is not used any more.
    rig.temp.database.sql(&format!("ALTER ROLE {role} SUPERUSER")).await;
    rig.store.guarded.doubt(&role);
    assert!(matches!(rig.select("SELECT 1 AS x").await, Err(SqlFault::Unavailable(_))));
    rig.temp.database.sql(&format!("ALTER ROLE {role} NOSUPERUSER")).await;
    rig.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_transaction_is_read_only_whatever_rights_there_are() {
    let rig = Rig::new().await;
    // The role is there.
    rig.role().await;
    let evil = "CREATE FUNCTION public.evil() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'DELETE FROM public.rem_edges RETURNING target'; \
         GRANT EXECUTE ON FUNCTION public.evil() TO PUBLIC";
    rig.temp.database.sql(evil).await;
    let before = rig.digest().await;
    assert_eq!(rig.select("SELECT public.evil() AS x").await, Err(SqlFault::NotAllowed));
    let also = "SELECT set_config('transaction_read_only', 'off', false) AS x, public.evil() AS y";
    assert!(rig.select(also).await.is_err());
    assert_eq!(rig.digest().await, before);
    // Two statements are one too many for the extended protocol; the simple one takes both.
    let two = "SELECT 1 AS x; COMMIT; SELECT public.evil() AS x";
    assert!(rig.select(two).await.is_err());
    assert_eq!(rig.digest().await, before);
    let caller = rig.store.caller(&scope("a", "k1")).await.unwrap();
    let mut simple = rig.store.connection_of(&caller, CAPS).await.unwrap();
    let off = "BEGIN READ WRITE; SELECT public.evil(); COMMIT";
    raw_sql(off).execute(&mut simple).await.unwrap();
    assert_ne!(rig.digest().await, before, "the test would not notice a write");
    rig.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_ends_at_its_deadline_though_it_has_switched_its_own_off() {
    let rig = Rig::new().await;
    let role = rig.role().await;
    let endless = "SELECT set_config('statement_timeout', '0', false) AS a, set_config('client_connection_check_interval', '0', false) AS b, \
        pg_sleep(3600)::text AS c";
    for text in [endless, ENDLESS] {
        let caps = SqlCaps { time: Duration::from_secs(2), ..CAPS };
        assert_eq!(rig.store.select(&scope("a", "k1"), text, caps).await, Err(SqlFault::Timeout), "{text}");
    }
    // Callers that go away leave nothing behind, and all places free.
    for _ in 0..6 {
        let caller = scope("a", "k1");
        let running = rig.store.select(&caller, endless, SqlCaps { time: Duration::from_secs(3_600), ..CAPS });
        assert!(timeout(Duration::from_millis(300), running).await.is_err());
    }
    let all = timeout(Duration::from_secs(60), rig.store.guarded.places.take_all(PLACES)).await;
    let all = all.expect("a place is not free again");
    let busy =
        format!("SELECT count(*)::text FROM pg_stat_activity WHERE usename = '{role}' AND query LIKE '%pg_sleep%'");
    assert_eq!(rig.ask(&busy).await.as_deref(), Some("0"));
    let caps = SqlCaps { time: Duration::from_millis(50), ..CAPS };
    assert_eq!(rig.store.select(&scope("a", "k1"), "SELECT 1 AS x", caps).await, Err(SqlFault::Busy));
    drop(all);
    assert!(rig.select("SELECT 1 AS x").await.is_ok());
    rig.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_planner_expects_too_much_of_is_not_run() {
    let rig = Rig::new().await;
    let huge = "SELECT count(*) AS n FROM generate_series(1, 1000000000000) AS g";
    assert!(matches!(rig.select(huge).await, Err(SqlFault::Statement(words)) if words.contains("too long")));
    assert_eq!(answer::cost(&["Limit  (cost=0.00..12.50 rows=1 width=8)".to_owned()]), Some(12.5));
    assert_eq!(answer::cost(&["nothing".to_owned()]), None);
    rig.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_cut_at_rows_and_bytes_and_long_texts_are_not_sent() {
    let rig = Rig::new().await;
    let caller = scope("a", "k1");
    let all = rig.select("SELECT name FROM names").await.unwrap();
    assert!(!all.truncated);
    let few = rig.store.select(&caller, "SELECT name FROM names", SqlCaps { rows: 3, ..CAPS }).await.unwrap();
    assert_eq!((few.rows.len(), few.truncated), (3, true));
    let exact = SqlCaps { rows: u32::try_from(all.rows.len()).unwrap(), ..CAPS };
    let exact = rig.store.select(&caller, "SELECT name FROM names", exact).await.unwrap();
    assert_eq!((exact.rows.len(), exact.truncated), (all.rows.len(), false));
    let small = rig.store.select(&caller, "SELECT name FROM names", SqlCaps { bytes: 50, ..CAPS }).await.unwrap();
    assert!(small.truncated && !small.rows.is_empty() && small.rows.len() < all.rows.len());
    assert_eq!(rig.select("SELECT repeat('x', 100000000) AS x").await, Err(SqlFault::TooLarge));
    rig.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_condition_of_a_caller_is_computed_on_rows_of_others() {
    let rig = Rig::new().await;
    let text = format!("SELECT name FROM resources WHERE {PROBE} ORDER BY name");
    assert_eq!(rig.select(&text).await.map(|answer| shown(&answer)).as_deref(), Ok(r#"[["guide"],["mine"]]"#));
    // Without the barrier the error tells of a row.
    rig.temp.database.sql("ALTER VIEW rem.resources SET (security_barrier = false)").await;
    assert!(matches!(rig.select(&text).await, Err(SqlFault::Statement(_))));
    rig.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_of_tenants_that_have_nothing_share_a_role_until_they_have_something() {
    let rig = Rig::new().await;
    let roles = async || rig.ask("SELECT count(*)::text FROM rem_callers").await.unwrap();
    let before = roles().await;
    for stranger in ["c", "d", "e"] {
        let answer = rig.store.select(&scope(stranger, "k1"), "SELECT name FROM names", CAPS).await;
        assert_eq!(answer.map(|answer| answer.rows.len()), Ok(0));
    }
    assert_eq!((before.as_str(), roles().await.as_str()), ("0", "1"));
    let shared = rig.store.caller(&scope("c", "k1")).await.unwrap().role;
    assert_eq!(shared, rig.store.caller(&nobody()).await.unwrap().role);
    // Also if another replica, or an administrator, has dropped it.
    rig.temp.database.sql(&format!("DROP ROLE {shared}")).await;
    assert!(rig.store.select(&scope("d", "k1"), "SELECT name FROM names", CAPS).await.is_ok());
    rig.temp.database.sql("UPDATE rem_rows SET tenant = 'c' WHERE name = 'guide'").await;
    let answer = rig.store.select(&scope("c", "k1"), "SELECT name FROM resources", CAPS).await.unwrap();
    assert_eq!(shown(&answer), r#"[["guide"]]"#);
    assert_ne!(rig.store.caller(&scope("c", "k1")).await.unwrap().role, shared);
    let answer = rig.store.select(&scope("d", "k1"), "SELECT name FROM resources", CAPS).await;
    assert_eq!(answer.map(|answer| answer.rows.len()), Ok(0));
    rig.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_go_with_their_key_or_tenant_and_come_back_when_they_are_needed() {
    let rig = Rig::new().await;
    let (first, second) = (rig.role().await, rig.store.caller(&scope("a", "k2")).await.unwrap().role);
    let other = rig.store.caller(&scope("b", "k1")).await.unwrap().role;
    assert!(first != second && first != other);
    let there = || async {
        let text = format!(
            "SELECT string_agg(rolname, ',' ORDER BY rolname = '{first}' DESC, rolname = '{second}' DESC) FROM pg_roles WHERE rolname IN ('{first}', '{second}', '{other}')"
        );
        rig.ask(&text).await.unwrap_or_default()
    };
    assert_eq!(there().await, format!("{first},{second},{other}"));
    rig.store.forget(&TenantId::new("a"), Some(&KeyId::new("k1"))).await.unwrap();
    assert_eq!(there().await, format!("{second},{other}"));
    rig.store.forget(&TenantId::new("a"), None).await.unwrap();
    assert_eq!(there().await, other);
    assert_eq!(rig.select("SELECT name FROM resources ORDER BY name").await.map(|answer| answer.rows.len()), Ok(2));
    // Another replica that drops it has taken it out of the list, and dropped or not yet dropped what this one remembers.
    rig.temp.database.sql("DELETE FROM rem_callers").await;
    assert_eq!(rig.select("SELECT name FROM resources ORDER BY name").await.map(|answer| answer.rows.len()), Ok(2));
    rig.temp.database.sql(&format!("DROP ROLE {first}")).await;
    assert_eq!(rig.select("SELECT name FROM resources ORDER BY name").await.map(|answer| answer.rows.len()), Ok(2));
    rig.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_the_right_to_make_roles_is_told_what_to_do_and_with_it_all_works() {
    let rig = Rig::new().await;
    let user = format!("remora_test_{:016x}", fastrand::u64(..));
    let name = rig.ask("SELECT current_database()::text").await.unwrap();
    // The same tables as another user's.
    let give = format!(
        "CREATE ROLE {user} LOGIN; ALTER DATABASE {name} OWNER TO {user}; DO $$ DECLARE t record; BEGIN \
         FOR t IN SELECT c.oid::regclass AS r FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ('public', 'rem') \
         AND c.relkind IN ('r', 'p', 'v') LOOP EXECUTE 'ALTER TABLE ' || t.r || ' OWNER TO {user}'; END LOOP; END $$; ALTER SCHEMA rem OWNER TO {user}"
    );
    rig.temp.database.sql(&give).await;
    let server = std::env::var("DATABASE_URL").unwrap();
    let (_, place) = server.split_once('@').unwrap();
    let (host, _) = place.split_once('/').unwrap();
    let url: StoreUrl = format!("postgres://{user}@{host}/{name}").parse().unwrap();
    let store = PostgresStore::open(&url, Migrate::Auto).await.unwrap();
    let caller = scope("a", "k1");
    match store.select(&caller, "SELECT name FROM resources", CAPS).await {
        Err(SqlFault::Unavailable(words)) => assert!(words.contains("CREATEROLE"), "{words}"),
        other => panic!("{other:?}"),
    }
    rig.temp.database.sql(&format!("ALTER ROLE {user} CREATEROLE")).await;
    let found = store.select(&caller, "SELECT name FROM resources ORDER BY name", CAPS).await;
    assert_eq!(found.map(|answer| shown(&answer)).as_deref(), Ok(r#"[["guide"],["mine"]]"#));
    // It may end what runs in the role, too.
    let running = store.select(
        &caller,
        "SELECT set_config('statement_timeout', '0', false) AS a, pg_sleep(3600)::text AS b",
        SqlCaps { time: Duration::from_secs(2), ..CAPS },
    );
    assert_eq!(running.await, Err(SqlFault::Timeout));
    drop(
        timeout(Duration::from_secs(60), store.guarded.places.take_all(PLACES))
            .await
            .expect("a place is not free again"),
    );
    let busy = "SELECT count(*)::text FROM pg_stat_activity WHERE usename LIKE 'remora_q_%' AND query LIKE '%pg_sleep%' AND datname = current_database()";
    assert_eq!(rig.ask(busy).await.as_deref(), Some("0"));
    // The right to make roles is taken away again: what to do is told, and both callers see nothing all the same.
    let roles = [store.caller(&caller).await.unwrap().role, store.caller(&scope("a", "k2")).await.unwrap().role];
    rig.temp.database.sql(&format!("ALTER ROLE {user} NOCREATEROLE")).await;
    let told = store.forget(&TenantId::new("a"), None).await.unwrap_err().to_string();
    assert!(
        told.contains("CREATEROLE") && roles.iter().any(|role| told.contains(&format!("DROP ROLE {role}"))),
        "{told}"
    );
    assert_eq!(rig.ask("SELECT count(*)::text FROM rem_callers WHERE tenant = 'a'").await.as_deref(), Some("0"));
    for role in roles {
        rig.temp.database.sql(&format!("DROP ROLE {role}")).await;
    }
    store.close().await;
    let back = format!(
        "ALTER DATABASE {name} OWNER TO postgres; REASSIGN OWNED BY {user} TO postgres; DROP OWNED BY {user}; DROP ROLE {user}"
    );
    rig.temp.database.sql(&back).await;
    rig.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_in_our_words() {
    let rig = Rig::new().await;
    for (text, part) in [
        ("SELECT nope FROM resources", "column"),
        ("SELECT name FROM nowhere", "table"),
        ("SELEC", "cannot be read"),
        ("SELECT nope(1) AS x", "CAST"),
        ("SELECT CAST(content AS integer) AS x FROM resources", "number"),
        ("SELECT 1 / 0 AS x", "zero"),
        ("SELECT name, count(*) AS n FROM resources", "GROUP BY"),
    ] {
        match rig.select(text).await {
            Err(SqlFault::Statement(words)) => {
                assert!(words.contains(part) && !words.contains("nope") && !words.contains("mine"), "{text}: {words}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    let plan = rig.store.plan(&scope("a", "k1"), "SELECT name FROM resources", CAPS).await.unwrap();
    assert!(
        plan.iter().any(|line| line.contains("rem_rows")) && !plan.iter().any(|line| line.contains("cost=")),
        "{plan:?}"
    );
    rig.done().await;
}
