//! Brings the schema from one version to another, a step at a time, each in its own transaction.
//!
//! The version is SQLite's `user_version`, so it is committed together with the step. `sqlx::migrate!` was not taken:
//! it goes up or down by file name but refuses a newer database with a message nobody can act on, and needs its own
//! table before anything is known about the file.

use std::path::Path;

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection, query, query_scalar, raw_sql};

use super::super::StoreError;
use super::super::migrate::{Reach, Status, Step, Way, check_newer, names_after, oldest_program};
use super::fault::fault;
use super::file::{self, APPLICATION_ID, Found};
use super::{CHECK_UP_TO, MAKES_ONE, PAGE_BYTES, base, connect, done, run, writing};
use crate::config::Migrate;

pub(in crate::store) const STEPS: [Step; 7] = [
    Step { version: 1, name: "tables", up: include_str!("migrations/0001_tables.up.sql"), down: None, compatible: 1 },
    Step {
        version: 2,
        name: "indexes",
        up: include_str!("migrations/0002_indexes.up.sql"),
        down: Some(include_str!("migrations/0002_indexes.down.sql")),
        compatible: 1,
    },
    Step {
        version: 3,
        name: "admin_audit",
        up: include_str!("migrations/0003_admin_audit.up.sql"),
        down: Some(include_str!("migrations/0003_admin_audit.down.sql")),
        compatible: 1,
    },
    Step {
        version: 4,
        name: "decisions",
        up: include_str!("migrations/0004_decisions.up.sql"),
        down: Some(include_str!("migrations/0004_decisions.down.sql")),
        compatible: 1,
    },
    Step {
        version: 5,
        name: "tenancy",
        up: include_str!("migrations/0005_tenancy.up.sql"),
        down: Some(include_str!("migrations/0005_tenancy.down.sql")),
        compatible: 1,
    },
    Step {
        version: 6,
        name: "money",
        up: include_str!("migrations/0006_money.up.sql"),
        down: Some(include_str!("migrations/0006_money.down.sql")),
        // A trigger notes the rows of an older program, and they are summed later.
        compatible: 1,
    },
    Step {
        version: 7,
        name: "rem",
        up: include_str!("migrations/0007_rem.up.sql"),
        down: Some(include_str!("migrations/0007_rem.down.sql")),
        compatible: 1,
    },
];

/// The schema that this program works with.
pub(in crate::store) const LATEST: u32 = 7;
/// The oldest schema that holds data.
pub(in crate::store) const OLDEST: u32 = 1;

const NOTE_STEP: &str = "INSERT INTO meta (key, value) VALUES (?1, ?2)";
const FORGET_STEP: &str = "DELETE FROM meta WHERE key = ?1";
/// A schema version, and the oldest program schema that can work on it. A database that was last changed by a program
/// that did not say so has none, and is then for programs of its own schema only.
const COMPATIBLE: &str = "SELECT value FROM meta WHERE key = 'schema compatible'";
const SET_COMPATIBLE: &str = "INSERT INTO meta (key, value) VALUES ('schema compatible', ?1) \
    ON CONFLICT (key) DO UPDATE SET value = excluded.value";

/// Schema status of an existing database. Changes nothing.
pub async fn status(path: &Path) -> Result<Status, StoreError> {
    let current = version_of_existing(path).await?;
    Ok(Status { current, latest: LATEST, pending: names_after(&STEPS, current) })
}

/// Brings an existing database to schema `to`, or to the newest of this program; returns the names of the steps taken.
pub async fn migrate_up(path: &Path, to: Option<u32>) -> Result<Vec<&'static str>, StoreError> {
    let found = version_of_existing(path).await?;
    let to = to.unwrap_or(LATEST.max(found));
    check_target(path, Way::Up, found, to)?;
    up(path, to).await
}

/// Takes an existing database back to schema `to`, all data kept; returns the names of the steps undone.
pub async fn migrate_down(path: &Path, to: u32) -> Result<Vec<&'static str>, StoreError> {
    let found = version_of_existing(path).await?;
    check_target(path, Way::Down, found, to)?;
    let mut connection = connect(path, &writing(path)).await?;
    let mut undone = Vec::new();
    for step in STEPS.iter().rev().filter(|step| step.version > to) {
        let Some(down) = step.down else { continue };
        if take(path, &mut connection, Change { step, sql: down, up: false }).await? {
            undone.push(step.name);
        }
    }
    done(path, connection).await?;
    Ok(undone)
}

/// Whether the database at `path` can go that way.
fn check_target(path: &Path, way: Way, found: u32, to: u32) -> Result<(), StoreError> {
    Reach { least: OLDEST, known: LATEST }.check(&path.display(), way, found, to)
}

/// Makes sure that there is a database of ours at `path` and returns its schema version, 0 for a new one.
pub(super) async fn prepare(path: &Path) -> Result<u32, StoreError> {
    if file::inspect(path)? == Found::Nothing {
        create(path).await?;
    }
    version_of_existing(path).await
}

/// Brings an older schema up to date, or says how to. A database without any schema is new and never refused.
pub(super) async fn up_if_allowed(path: &Path, found: u32, migrate: Migrate) -> Result<(), StoreError> {
    if found > 0 && found < LATEST && migrate == Migrate::Manual {
        return Err(StoreError::Older { place: path.display().to_string(), found, needed: LATEST });
    }
    up(path, LATEST).await.map(|_| ())
}

async fn up(path: &Path, to: u32) -> Result<Vec<&'static str>, StoreError> {
    let mut connection = connect(path, &writing(path)).await?;
    let mut taken = Vec::new();
    for step in STEPS.iter().filter(|step| step.version <= to) {
        if take(path, &mut connection, Change { step, sql: step.up, up: true }).await? {
            taken.push(step.name);
        }
    }
    done(path, connection).await?;
    Ok(taken)
}

/// One direction of one step.
struct Change {
    step: &'static Step,
    sql: &'static str,
    up: bool,
}

/// Takes one step if the database stands right before it; says whether it did. The version is read inside the
/// transaction, so two programs that start together do not take a step twice.
async fn take(path: &Path, connection: &mut SqliteConnection, change: Change) -> Result<bool, StoreError> {
    let above = change.step.version;
    let (from, to) = if change.up { (above - 1, above) } else { (above, above - 1) };
    let attempt = async {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let found: u32 = query_scalar("PRAGMA user_version").fetch_one(&mut *transaction).await?;
        if found != from {
            return Ok(false);
        }
        let note = format!("schema step {above}");
        if !change.up {
            query(FORGET_STEP).bind(&note).execute(&mut *transaction).await?;
        }
        raw_sql(change.sql).execute(&mut *transaction).await?;
        let compatible = format!("{to} {}", oldest_program(&STEPS, to));
        query(SET_COMPATIBLE).bind(compatible).execute(&mut *transaction).await?;
        if change.up {
            let taken_by = format!("{}, by {}", change.step.name, env!("CARGO_PKG_VERSION"));
            query(NOTE_STEP).bind(note).bind(taken_by).execute(&mut *transaction).await?;
        }
        // A pragma takes no parameters; the number is ours.
        raw_sql(AssertSqlSafe(format!("PRAGMA user_version = {to}"))).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(true)
    };
    attempt.await.map_err(|error| fault(path, error))
}

/// Creates a database that holds nothing but our mark. The mark is in the first page ever written, so a file that was
/// interrupted at any moment of its making is either empty or recognisably ours.
async fn create(path: &Path) -> Result<(), StoreError> {
    file::create_private(path)?;
    let mut connection = connect(path, &base(path).page_size(PAGE_BYTES)).await?;
    raw_sql(AssertSqlSafe(format!("PRAGMA application_id = {APPLICATION_ID}")))
        .execute(&mut connection)
        .await
        .map_err(|error| fault(path, error))?;
    run(path, &mut connection, "PRAGMA journal_mode = WAL").await?;
    done(path, connection).await
}

/// Schema version of a database of ours, after a check for damage.
async fn version_of_existing(path: &Path) -> Result<u32, StoreError> {
    let Found::Ours { bytes, journal } = file::inspect(path)? else {
        return Err(StoreError::Missing { place: path.display().to_string(), advice: MAKES_ONE });
    };
    // A read-only connection leaves the file alone, but cannot roll back the journal of an interrupted creation.
    let mut connection = connect(path, &base(path).read_only(!journal)).await?;
    let looked = look(path, &mut connection, bytes).await;
    // The check has the better error; a failing close after it adds nothing.
    let closed = done(path, connection).await;
    let version = looked?;
    closed?;
    Ok(version)
}

async fn look(path: &Path, connection: &mut SqliteConnection, bytes: u64) -> Result<u32, StoreError> {
    let version: u32 =
        query_scalar("PRAGMA user_version").fetch_one(&mut *connection).await.map_err(|error| fault(path, error))?;
    if version > LATEST {
        let said: Option<String> = query_scalar(COMPATIBLE).fetch_optional(&mut *connection).await.unwrap_or_default();
        // The note counts for the version it was made for.
        let of_version =
            said.as_deref().and_then(|text| text.split_once(' ')).filter(|(of, _)| *of == version.to_string());
        check_newer(&path.display(), version, of_version.and_then(|(_, oldest)| oldest.parse().ok()), LATEST)?;
    }
    if bytes <= CHECK_UP_TO {
        let verdict: String = query_scalar("PRAGMA quick_check(1)")
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| fault(path, error))?;
        if verdict != "ok" {
            return Err(StoreError::Corrupt { path: path.to_path_buf(), detail: verdict });
        }
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_count_up_from_one_to_the_latest_and_only_the_first_has_no_way_back() {
        let versions: Vec<u32> = STEPS.iter().map(|step| step.version).collect();
        assert_eq!(versions, (1..=LATEST).collect::<Vec<_>>());
        let no_way_back: Vec<u32> = STEPS.iter().filter(|step| step.down.is_none()).map(|step| step.version).collect();
        assert_eq!(no_way_back, [OLDEST]);
    }
}
