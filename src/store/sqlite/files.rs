//! Tests of what is particular to a database in a file: refusal without harm, migrations, traces on disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sqlx::{AssertSqlSafe, Connection, Row, query_scalar, raw_sql};

use super::super::conformance::Fixture;
use super::super::sample::{
    alert_row, audit_row, decision, delete, entry, entry_id, key_row, learned, link, new_decision, point, put,
    put_entry, row, tenant, tenant_record, token_row,
};
use super::super::{Counts, DirectoryWrite, Point, SqliteStore, StoreError, Stores};
use super::migrate::LATEST;
use super::{base, connect, migrate_down, migrate_up, status};
use crate::config::Migrate;

/// Names of all steps but the first, on both ways.
const UP: [&str; 6] = ["indexes", "admin_audit", "decisions", "tenancy", "money", "rem"];
const DOWN: [&str; 6] = ["rem", "money", "tenancy", "decisions", "admin_audit", "indexes"];

/// A new database in a directory of its own.
pub(crate) struct TempStore {
    pub(super) store: Arc<SqliteStore>,
    directory: tempfile::TempDir,
}

impl Fixture for TempStore {
    async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("remora.db"), Migrate::Auto).await.unwrap();
        Self { store, directory }
    }

    fn stores(&self) -> Stores {
        self.store.stores()
    }
}

impl TempStore {
    /// Runs SQL in it, as somebody else would.
    pub(crate) async fn run(&self, text: &str) {
        sql(&self.path(), text).await;
    }

    /// Opens it once more.
    pub(crate) async fn again(&self) -> Arc<SqliteStore> {
        SqliteStore::open(&self.path(), Migrate::Manual).await.unwrap()
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("remora.db")
    }

    /// A closed database with some content.
    async fn closed() -> Self {
        let temp = Self::open().await;
        fill(&temp.stores()).await;
        temp.store.close().await;
        temp
    }
}

async fn fill(stores: &Stores) {
    let mut writes: Vec<_> = (1..=50).map(|number| put("t", number)).collect();
    writes.extend([link("t", 4, 0, 3), link("t", 6, 1, 5)]);
    stores.entries.apply(&writes).await.unwrap();
    let rows: Vec<_> = (1..=50).map(|number| row("t", number)).collect();
    stores.ledger.append(&rows).await.unwrap();
    stores.audit.record(&audit_row(1), &[]).await.unwrap();
    let decisions: Vec<_> = (1..=20).map(|number| new_decision(decision("t", number))).collect();
    stores.decisions.write(&decisions).await.unwrap();
    stores.decisions.save_learned(&[learned("t", "gpt-4o", 1)]).await.unwrap();
    let puts = [
        DirectoryWrite::PutTenant(tenant_record("t")),
        DirectoryWrite::PutKey(key_row("t", 1)),
        DirectoryWrite::PutToken(token_row(1)),
    ];
    stores.directory.change_directory(0, &puts, &[audit_row(2)]).await.unwrap();
    stores.alerts.raise(&alert_row("t", 1), &["webhook".to_owned()]).await.unwrap();
}

/// The guards that objected to points of this entry.
async fn contradicting(stores: &Stores, number: u64) -> Vec<u16> {
    let points = stores.entries.points_of(&tenant("t"), entry_id(number)).await.unwrap();
    points.iter().map(|point| point.contradicts).filter(|bits| *bits != 0).collect()
}

pub(super) async fn sql(path: &Path, text: &str) {
    let mut connection = connect(path, &base(path)).await.unwrap();
    raw_sql(AssertSqlSafe(text)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn refusal(path: &Path, migrate: Migrate) -> StoreError {
    match SqliteStore::open(path, migrate).await {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    }
}

/// Opening fails with this name, says what to do, and leaves the file as it was.
async fn refused_untouched(path: &Path, name: &str, advice: &str) {
    let before = fs::read(path).unwrap();
    let error = refusal(path, Migrate::Auto).await;
    assert_eq!(error.as_str(), name, "{error}");
    let text = error.to_string();
    assert!(text.contains(advice) && text.contains(&path.display().to_string()), "{text}");
    assert!(fs::read(path).unwrap() == before, "the file changed");
}

#[tokio::test]
async fn what_was_written_is_there_after_closing_and_opening_again() {
    let temp = TempStore::closed().await;
    let again = SqliteStore::open(&temp.path(), Migrate::Manual).await.unwrap();
    let stores = again.stores();
    assert_eq!(stores.entries.counts().await.unwrap(), Counts { entries: 50, points: 100 });
    assert_eq!(stores.ledger.count().await.unwrap(), 50);
    assert_eq!(stores.entries.points_of(&tenant("t"), entry_id(3)).await.unwrap().len(), 3);
    assert_eq!((contradicting(&stores, 3).await, contradicting(&stores, 5).await), (vec![0b101], vec![0b101]));
    assert_eq!(stores.decisions.decision(decision("t", 20).request).await.unwrap(), Some(decision("t", 20)));
    assert_eq!(stores.decisions.learned().await.unwrap(), [learned("t", "gpt-4o", 1)]);
    again.close().await;
    assert_eq!(stores.ledger.count().await.unwrap_err().as_str(), "closed");
}

#[tokio::test]
async fn a_transaction_that_fails_half_way_leaves_nothing() {
    let temp = TempStore::open().await;
    sql(
        &temp.path(),
        "CREATE TRIGGER a BEFORE INSERT ON points WHEN NEW.prompt = 'bad' BEGIN SELECT RAISE(ABORT, 'no'); END;
         CREATE TRIGGER b BEFORE INSERT ON requests WHEN NEW.status = 1 BEGIN SELECT RAISE(ABORT, 'no'); END;",
    )
    .await;
    let stores = temp.stores();
    let bad = Point { prompt: Some("bad".into()), ..point("t", 2, 0) };
    let writes = [put("t", 1), put_entry(entry("t", 2), vec![bad])];
    assert_eq!(stores.entries.apply(&writes).await.unwrap_err().as_str(), "failed");
    assert_eq!(stores.entries.counts().await.unwrap(), Counts::default());

    let rows = [row("t", 1), super::super::LedgerRow { status: 1, ..row("t", 2) }];
    assert_eq!(stores.ledger.append(&rows).await.unwrap_err().as_str(), "failed");
    assert_eq!(stores.ledger.count().await.unwrap(), 0);
    // The connection is usable again.
    stores.ledger.append(&rows[..1]).await.unwrap();
    assert_eq!(stores.ledger.count().await.unwrap(), 1);
}

#[tokio::test]
async fn after_the_database_rolled_back_by_itself_the_next_write_succeeds() {
    // A full disk or a failed read ends a transaction without being asked to; so does this trigger.
    let temp = TempStore::open().await;
    let trigger = "CREATE TRIGGER b BEFORE INSERT ON requests WHEN NEW.status = 1 \
                   BEGIN SELECT RAISE(ROLLBACK, 'no'); END;";
    sql(&temp.path(), trigger).await;
    let stores = temp.stores();
    let rows = [row("t", 1), super::super::LedgerRow { status: 1, ..row("t", 2) }];
    for _ in 0..3 {
        assert_eq!(stores.ledger.append(&rows).await.unwrap_err().as_str(), "failed");
        assert_eq!(stores.ledger.count().await.unwrap(), 0);
    }
    stores.ledger.append(&rows[..1]).await.unwrap();
    stores.entries.apply(&[put("t", 1)]).await.unwrap();
    assert_eq!(stores.ledger.count().await.unwrap(), 1);
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_advice() {
    let temp = TempStore::closed().await;
    sql(&temp.path(), "PRAGMA user_version = 900").await;
    refused_untouched(&temp.path(), "newer_schema", "Run the newer program, or restore a backup").await;
    assert_eq!(migrate_up(&temp.path(), None).await.unwrap_err().as_str(), "newer_schema");
}

#[tokio::test]
async fn opening_to_read_sees_a_database_in_use_and_can_change_nothing() {
    let temp = TempStore::open().await;
    fill(&temp.stores()).await;
    let reader = SqliteStore::open_to_read(&temp.path()).await.unwrap();
    let (own, read) = (temp.stores(), reader.stores());
    assert_eq!((read.ledger.count().await.unwrap(), read.decisions.learned().await.unwrap().len()), (50, 1));
    assert!(read.ledger.append(&[row("t", 51)]).await.is_err());
    own.ledger.append(&[row("t", 51)]).await.unwrap();
    assert_eq!(read.ledger.count().await.unwrap(), 51, "what is written meanwhile is seen, and nothing is locked");
    reader.close().await;
    own.ledger.append(&[row("t", 52)]).await.unwrap();
    temp.store.close().await;

    let closed = fs::read(temp.path()).unwrap();
    SqliteStore::open_to_read(&temp.path()).await.unwrap().close().await;
    migrate_down(&temp.path(), LATEST - 1).await.unwrap();
    let older = fs::read(temp.path()).unwrap();
    assert_ne!(closed, older);
    let refusal = async |path: &Path| match SqliteStore::open_to_read(path).await {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => (error.as_str(), error.to_string()),
    };
    let (name, text) = refusal(&temp.path()).await;
    assert!(name == "older_schema" && text.contains("remora migrate up"), "{text}");
    assert!(fs::read(temp.path()).unwrap() == older, "the file changed");
    sql(&temp.path(), "PRAGMA user_version = 900").await;
    assert_eq!(refusal(&temp.path()).await.0, "newer_schema");
    let absent = temp.directory.path().join("absent.db");
    assert_eq!((refusal(&absent).await.0, absent.exists()), ("missing", false));
}

#[tokio::test]
async fn a_newer_schema_that_says_this_program_can_work_on_it_is_opened() {
    let temp = TempStore::closed().await;
    let newer = |compatible: u32| {
        format!(
            "PRAGMA user_version = 900; \
             INSERT INTO meta (key, value) VALUES ('schema compatible', '900 {compatible}') \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        )
    };
    sql(&temp.path(), &newer(LATEST + 1)).await;
    refused_untouched(&temp.path(), "newer_schema", "Run the newer program").await;
    sql(&temp.path(), &newer(LATEST)).await;
    let store = SqliteStore::open(&temp.path(), Migrate::Auto).await.unwrap();
    store.stores().entries.apply(&[put("t", 99)]).await.unwrap();
    store.close().await;
    assert_eq!(status(&temp.path()).await.unwrap().current, 900);
    assert_eq!(migrate_up(&temp.path(), None).await.unwrap(), [""; 0]);
    assert_eq!(migrate_down(&temp.path(), 1).await.unwrap_err().as_str(), "newer_schema", "its steps are not known");
}

#[tokio::test]
async fn a_refused_file_keeps_its_log() {
    let temp = TempStore::closed().await;
    let mut newer = connect(&temp.path(), &base(&temp.path())).await.unwrap();
    raw_sql("PRAGMA user_version = 900").execute(&mut newer).await.unwrap();
    // Copied while it is open, as after a kill: the newer version is in the log only.
    let killed = tempfile::tempdir().unwrap();
    let (path, log) = (killed.path().join("remora.db"), killed.path().join("remora.db-wal"));
    fs::copy(temp.path(), &path).unwrap();
    fs::copy(temp.directory.path().join("remora.db-wal"), &log).unwrap();
    let before = fs::read(&log).unwrap();
    refused_untouched(&path, "newer_schema", "it was not changed").await;
    assert!(!before.is_empty() && fs::read(&log).unwrap() == before, "the log changed");
}

#[tokio::test]
async fn an_older_schema_is_refused_under_manual_and_migrated_under_auto() {
    let temp = TempStore::closed().await;
    assert_eq!(migrate_down(&temp.path(), 1).await.unwrap(), DOWN);
    let error = refusal(&temp.path(), Migrate::Manual).await;
    assert_eq!(error.as_str(), "older_schema");
    assert!(error.to_string().contains("remora migrate up"), "{error}");
    assert_eq!(status(&temp.path()).await.unwrap().current, 1, "refusing must not migrate");

    SqliteStore::open(&temp.path(), Migrate::Auto).await.unwrap().close().await;
    assert_eq!(status(&temp.path()).await.unwrap().current, LATEST);
}

#[tokio::test]
async fn down_and_up_again_leaves_schema_and_data_equal() {
    async fn schema(path: &Path) -> Vec<String> {
        let mut connection = connect(path, &base(path)).await.unwrap();
        let listing = "SELECT name || ': ' || coalesce(sql, '') FROM sqlite_schema ORDER BY name";
        query_scalar(listing).fetch_all(&mut connection).await.unwrap()
    }
    async fn data(path: &Path) -> String {
        let store = SqliteStore::open(path, Migrate::Manual).await.unwrap();
        let stores = store.stores();
        let entries = stores.entries.scan(0, None, 1000).await.unwrap();
        let rows = stores.ledger.recent(None, 1000).await.unwrap();
        let trail = stores.audit.trail(None, 1000).await.unwrap();
        let decisions = stores.decisions.since(None, 0, None, 1000).await.unwrap();
        let learned = stores.decisions.learned().await.unwrap();
        let directory = stores.directory.directory().await.unwrap();
        let chain = stores.audit.audit_chain(0, 1000).await.unwrap();
        let alerts = stores.alerts.alerts(None, None, 1000).await.unwrap();
        store.close().await;
        assert_eq!((entries.len(), rows.len(), trail.len()), (50, 50, 2));
        assert_eq!((decisions.len(), learned.len(), chain.len(), directory.keys.len(), alerts.len()), (20, 1, 2, 1, 1));
        format!("{entries:?} {rows:?} {trail:?} {decisions:?} {learned:?} {directory:?} {chain:?} {alerts:?}")
    }
    let temp = TempStore::closed().await;
    let path = temp.path();
    let before = (schema(&path).await, data(&path).await);
    assert_eq!(status(&path).await.unwrap().pending, [""; 0]);

    assert_eq!(migrate_down(&path, 1).await.unwrap(), DOWN);
    let below = status(&path).await.unwrap();
    assert_eq!((below.current, below.latest, below.pending), (1, LATEST, UP.to_vec()));
    assert_ne!(schema(&path).await, before.0, "the step down did nothing");

    assert_eq!(migrate_up(&path, None).await.unwrap(), UP);
    assert_eq!((schema(&path).await, data(&path).await), before);
    assert_eq!(migrate_up(&path, None).await.unwrap(), [""; 0], "a second time there is nothing to do");
}

#[tokio::test]
async fn what_an_older_program_changes_is_met_again_on_the_way_up() {
    let temp = TempStore::closed().await;
    let path = temp.path();
    assert_eq!(migrate_down(&path, 3).await.unwrap(), ["rem", "money", "tenancy", "decisions"]);
    // An older program names the columns that it knows, and deletes entries with all that hangs on them.
    let blob = |number: u64| format!("x'{number:032x}'");
    let changes = format!(
        "INSERT INTO points (tenant, entry, id, partition, fingerprint, writer, created_at) \
         VALUES ('t', {}, {}, {2}, {2}, 'w', 0); DELETE FROM entries WHERE id = {3};",
        blob(1),
        blob(1_007),
        format!("x'{:064x}'", 1),
        blob(3),
    );
    sql(&path, &changes).await;
    assert_eq!(migrate_up(&path, None).await.unwrap(), ["decisions", "tenancy", "money", "rem"]);
    let store = SqliteStore::open(&path, Migrate::Manual).await.unwrap();
    let stores = store.stores();
    assert_eq!(stores.entries.counts().await.unwrap(), Counts { entries: 49, points: 98 });
    assert_eq!((contradicting(&stores, 5).await, contradicting(&stores, 1).await), (vec![0b101], vec![]));
    assert_eq!(stores.entries.points_of(&tenant("t"), entry_id(1)).await.unwrap().len(), 3);
    assert_eq!(stores.decisions.since(None, 0, None, 1000).await.unwrap().len(), 20);
    store.close().await;
}

#[tokio::test]
async fn hits_and_decisions_are_looked_up_by_index() {
    let temp = TempStore::closed().await;
    let mut connection = connect(&temp.path(), &base(&temp.path())).await.unwrap();
    for (statement, index) in super::INDEXED {
        let plan = format!("EXPLAIN QUERY PLAN {statement}");
        let rows = sqlx::query(AssertSqlSafe(plan)).fetch_all(&mut connection).await.unwrap();
        let steps: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
        assert!(steps.iter().any(|step| step.contains(index)), "{statement}: {steps:?}");
        assert!(steps.iter().all(|step| !step.contains("SCAN") && !step.contains("TEMP B-TREE")), "{steps:?}");
    }
    connection.close().await.unwrap();
}

#[tokio::test]
async fn the_audit_neither_changes_nor_loses_a_row() {
    let temp = TempStore::closed().await;
    let mut connection = connect(&temp.path(), &base(&temp.path())).await.unwrap();
    for statement in ["UPDATE admin_audit SET actor = 'nobody'", "DELETE FROM admin_audit", "DELETE FROM audit_chain"] {
        let error = raw_sql(statement).execute(&mut connection).await.unwrap_err();
        assert!(error.to_string().contains("append-only"), "{statement}: {error}");
    }
    connection.close().await.unwrap();
    let store = SqliteStore::open(&temp.path(), Migrate::Manual).await.unwrap();
    assert_eq!(store.stores().audit.trail(None, 10).await.unwrap(), [audit_row(2), audit_row(1)]);
}

#[tokio::test]
async fn going_down_never_deletes_data_and_never_goes_up() {
    let temp = TempStore::closed().await;
    for asked in [0, LATEST + 1] {
        assert_eq!(migrate_down(&temp.path(), asked).await.unwrap_err().as_str(), "no_such_version");
    }
    assert_eq!(status(&temp.path()).await.unwrap().current, LATEST);
}

#[tokio::test]
async fn migrating_what_does_not_exist_creates_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("remora.db");
    for error in [status(&path).await.unwrap_err(), migrate_up(&path, None).await.unwrap_err()] {
        assert_eq!(error.as_str(), "missing");
    }
    assert!(!path.exists());
}

#[tokio::test]
async fn the_database_of_another_program_is_refused_untouched() {
    let directory = tempfile::tempdir().unwrap();
    for (name, id) in [("anonymous.db", 0), ("marked.db", 0x4750_4b47)] {
        let path = directory.path().join(name);
        let mut other = connect(&path, &base(&path).create_if_missing(true)).await.unwrap();
        let text = format!("PRAGMA application_id = {id}; CREATE TABLE entries (a); INSERT INTO entries VALUES (1);");
        raw_sql(AssertSqlSafe(text)).execute(&mut other).await.unwrap();
        other.close().await.unwrap();
        refused_untouched(&path, "foreign", "it was not changed. Move the file away").await;
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "no file was made beside them");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_untouched() {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in [("text", "[store]\nurl = \"\"\n".repeat(100)), ("short", "x".into())] {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        refused_untouched(&path, "not_a_database", "it was not changed. Move the file away").await;
    }
    assert_eq!(refusal(directory.path(), Migrate::Auto).await.as_str(), "not_a_database");
}

#[tokio::test]
async fn a_damaged_file_is_refused_untouched() {
    let temp = TempStore::closed().await;
    let whole = fs::read(temp.path()).unwrap();
    let half = whole.len() / 2;

    fs::write(temp.path(), &whole[..half]).unwrap();
    refused_untouched(&temp.path(), "corrupt", "Restore a backup, or move the file").await;

    // Each page but the first starts with what it is; blot out that part of every one.
    let mut blotted = whole.clone();
    for page in blotted.chunks_mut(8192).skip(1) {
        page[..64].fill(0xee);
    }
    fs::write(temp.path(), &blotted).unwrap();
    refused_untouched(&temp.path(), "corrupt", "it was not changed").await;

    fs::write(temp.path(), &whole).unwrap();
    assert_eq!(status(&temp.path()).await.unwrap().current, LATEST, "and whole it is accepted");
}

#[tokio::test]
async fn a_log_whose_database_was_moved_away_is_not_deleted() {
    let temp = TempStore::open().await;
    fill(&temp.stores()).await;
    // Copied while it is open, as after a kill; the log holds what was written.
    let moved = tempfile::tempdir().unwrap();
    let path = moved.path().join("remora.db");
    let log = moved.path().join("remora.db-wal");
    fs::copy(temp.path(), &path).unwrap();
    fs::copy(temp.directory.path().join("remora.db-wal"), &log).unwrap();
    let aside = moved.path().join("aside.db");
    fs::rename(&path, &aside).unwrap();
    let before = fs::read(&log).unwrap();
    let error = refusal(&path, Migrate::Auto).await;
    assert_eq!(error.as_str(), "stray_log", "{error}");
    assert!(fs::read(&log).unwrap() == before && !path.exists());

    fs::rename(&aside, &path).unwrap();
    let store = SqliteStore::open(&path, Migrate::Auto).await.unwrap();
    assert_eq!(store.stores().ledger.count().await.unwrap(), 50, "together they are whole");
}

#[tokio::test]
async fn a_missing_directory_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let error = refusal(&directory.path().join("no/such/remora.db"), Migrate::Auto).await;
    assert_eq!(error.as_str(), "directory_missing");
    assert!(error.to_string().contains("create it"), "{error}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_directory_that_cannot_be_written_is_refused() {
    // Permissions do not bind root; here no process may create a file.
    let error = refusal(Path::new("/proc/self/remora.db"), Migrate::Auto).await;
    assert_eq!(error.as_str(), "unwritable");
    assert!(error.to_string().contains("check the owner and the permissions"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_may_read_what_is_created() {
    use std::os::unix::fs::PermissionsExt;
    let temp = TempStore::open().await;
    fill(&temp.stores()).await;
    for file in fs::read_dir(temp.directory.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{}", file.path().display());
    }
}

#[tokio::test]
async fn an_empty_file_and_a_creation_that_was_interrupted_become_a_database() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("remora.db");
    fs::write(&path, "").unwrap();
    SqliteStore::open(&path, Migrate::Manual).await.unwrap().close().await;

    let marked = directory.path().join("marked.db");
    super::migrate::prepare(&marked).await.unwrap();
    SqliteStore::open(&marked, Migrate::Manual).await.unwrap().close().await;
}

#[tokio::test]
async fn deleted_and_purged_content_is_in_no_file() {
    const CANARY: &str = "canary-4f1d7c";
    fn traces(directory: &Path) -> usize {
        let files = fs::read_dir(directory).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap());
        files.map(|bytes| memchr::memmem::find_iter(&bytes, CANARY).count()).sum()
    }
    let temp = TempStore::open().await;
    let stores = temp.stores();
    let mut secret = entry("t", 1);
    secret.body = format!("{CANARY} {}", "long ".repeat(10_000)).into();
    secret.tags = vec![("user".into(), CANARY.into())];
    let prompt = Point { prompt: Some(CANARY.into()), ..point("t", 1, 0) };
    stores.entries.apply(&[put_entry(secret, vec![prompt]), put("t", 2)]).await.unwrap();
    stores.entries.purge().await.unwrap();
    assert!(traces(temp.directory.path()) >= 3, "the canary must be seen while it is there");

    stores.entries.apply(&[delete("t", 1)]).await.unwrap();
    stores.entries.purge().await.unwrap();
    assert_eq!(traces(temp.directory.path()), 0);
    assert!(stores.entries.entry(&tenant("t"), entry_id(2)).await.unwrap().is_some());
}
