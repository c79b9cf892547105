//! Brings the schema from one version to another, a step at a time, each in its own transaction.
//!
//! The steps taken are rows of `remora_schema`, written in the transaction of the step, so one that is killed half-way
//! has not been taken and is taken by the next program that starts. A lock makes programs that start together take each
//! step once.

use sqlx::postgres::PgConnection;
use sqlx::{Connection, query, query_as, query_scalar, raw_sql};

use super::super::StoreError;
use super::super::migrate::{Reach, Status, Step, Way, check_newer, names_after, oldest_program};
use super::fault::fault;
use super::server::Server;
use crate::config::{Migrate, StoreUrl};

pub(in crate::store) const STEPS: [Step; 6] = [
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
        name: "changes",
        up: include_str!("migrations/0003_changes.up.sql"),
        down: Some(include_str!("migrations/0003_changes.down.sql")),
        // An older program makes changes that replicas would not learn of.
        compatible: 3,
    },
    Step {
        version: 4,
        name: "tenancy",
        up: include_str!("migrations/0004_tenancy.up.sql"),
        down: Some(include_str!("migrations/0004_tenancy.down.sql")),
        compatible: 3,
    },
    Step {
        version: 5,
        name: "money",
        up: include_str!("migrations/0005_money.up.sql"),
        down: Some(include_str!("migrations/0005_money.down.sql")),
        // A trigger notes the rows of an older program, and they are summed later.
        compatible: 3,
    },
    Step {
        version: 6,
        name: "rem",
        up: include_str!("migrations/0006_rem.up.sql"),
        down: Some(include_str!("migrations/0006_rem.down.sql")),
        compatible: 3,
    },
];

/// The schema that this program works with.
pub(in crate::store) const LATEST: u32 = 6;
/// The oldest schema that holds data.
pub(in crate::store) const OLDEST: u32 = 1;

const LOCK: &str = "SELECT pg_advisory_xact_lock(5940263861203502)";
// It is no news that the table is there already.
const NOTES: &str = "SET LOCAL client_min_messages = warning; CREATE TABLE IF NOT EXISTS remora_schema (
    version    integer NOT NULL PRIMARY KEY,
    name       text    NOT NULL,
    program    text    NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    compatible integer NOT NULL
)";
const NOTED: &str = "SELECT to_regclass('remora_schema') IS NOT NULL";
const VERSION: &str = "SELECT version, compatible FROM remora_schema ORDER BY version DESC LIMIT 1";
const NOTE_STEP: &str = "INSERT INTO remora_schema (version, name, program, compatible) VALUES ($1, $2, $3, $4)";
const FORGET_STEP: &str = "DELETE FROM remora_schema WHERE version = $1";
/// A table that is there already is somebody else's.
const DUPLICATE_TABLE: &str = "42P07";

/// Schema status of a database. Changes nothing.
pub(in crate::store) async fn status(url: &StoreUrl) -> Result<Status, StoreError> {
    let server = Server::of(url)?;
    let mut connection = server.connect().await?;
    let found = version(&server, &mut connection).await;
    server.done(connection).await?;
    let current = found?;
    Ok(Status { current, latest: LATEST, pending: names_after(&STEPS, current) })
}

/// Brings a database to schema `to`, or to the newest of this program; returns the names of the steps taken.
pub(in crate::store) async fn migrate_up(url: &StoreUrl, to: Option<u32>) -> Result<Vec<&'static str>, StoreError> {
    let server = Server::of(url)?;
    let mut connection = server.connect().await?;
    server.check(&mut connection, true).await?;
    let found = version(&server, &mut connection).await?;
    let to = to.unwrap_or(LATEST.max(found));
    Reach { least: OLDEST, known: LATEST }.check(url, Way::Up, found, to)?;
    let taken = up(&server, &mut connection, to).await?;
    server.done(connection).await?;
    Ok(taken)
}

/// Takes a database back to schema `to`, all data kept; returns the names of the steps undone.
pub(in crate::store) async fn migrate_down(url: &StoreUrl, to: u32) -> Result<Vec<&'static str>, StoreError> {
    let server = Server::of(url)?;
    let mut connection = server.connect().await?;
    let found = version(&server, &mut connection).await?;
    Reach { least: OLDEST, known: LATEST }.check(url, Way::Down, found, to)?;
    let mut undone = Vec::new();
    for step in STEPS.iter().rev().filter(|step| step.version > to) {
        let Some(down) = step.down else { continue };
        if take(&server, &mut connection, step, down, Way::Down).await? {
            undone.push(step.name);
        }
    }
    server.done(connection).await?;
    Ok(undone)
}

/// Brings an older schema up to date, or says how to. A database without any schema is new and never refused.
pub(super) async fn prepare(
    server: &Server,
    connection: &mut PgConnection,
    migrate: Migrate,
) -> Result<(), StoreError> {
    let found = version(server, connection).await?;
    if found >= LATEST {
        return Ok(());
    }
    if found > 0 && migrate == Migrate::Manual {
        return Err(StoreError::Older { place: server.place.clone(), found, needed: LATEST });
    }
    up(server, connection, LATEST).await.map(|_| ())
}

async fn up(server: &Server, connection: &mut PgConnection, to: u32) -> Result<Vec<&'static str>, StoreError> {
    let mut taken = Vec::new();
    for step in STEPS.iter().filter(|step| step.version <= to) {
        if take(server, connection, step, step.up, Way::Up).await? {
            taken.push(step.name);
        }
    }
    Ok(taken)
}

/// Takes one step if the database stands right before it; says whether it did. The version is read under the lock, so
/// programs that start together do not take a step twice.
async fn take(
    server: &Server,
    connection: &mut PgConnection,
    step: &Step,
    sql: &'static str,
    way: Way,
) -> Result<bool, StoreError> {
    let above = step.version;
    let from = if way == Way::Up { above - 1 } else { above };
    let attempt = async {
        let mut transaction = connection.begin().await?;
        query(LOCK).execute(&mut *transaction).await?;
        raw_sql(NOTES).execute(&mut *transaction).await?;
        let found: Option<(i32, i32)> = query_as(VERSION).fetch_optional(&mut *transaction).await?;
        if number(found.map_or(0, |(version, _)| version)) != from {
            transaction.rollback().await?;
            return Ok(false);
        }
        raw_sql(sql).execute(&mut *transaction).await?;
        match way {
            Way::Up => {
                query(NOTE_STEP)
                    .bind(signed(above))
                    .bind(step.name)
                    .bind(env!("CARGO_PKG_VERSION"))
                    .bind(signed(oldest_program(&STEPS, above)))
                    .execute(&mut *transaction)
                    .await?;
            }
            Way::Down => {
                query(FORGET_STEP).bind(signed(above)).execute(&mut *transaction).await?;
            }
        }
        transaction.commit().await?;
        Ok(true)
    };
    attempt.await.map_err(|error: sqlx::Error| match error.as_database_error() {
        Some(said) if said.code().as_deref() == Some(DUPLICATE_TABLE) && from == 0 => {
            StoreError::Foreign { place: server.place.clone(), detail: said.message().to_owned() }
        }
        _ => fault(&server.place, error),
    })
}

/// Schema version of the database, 0 if it has none; refused if this program cannot work on it.
pub(super) async fn version(server: &Server, connection: &mut PgConnection) -> Result<u32, StoreError> {
    let said = |error| fault(&server.place, error);
    let noted: bool = query_scalar(NOTED).fetch_one(&mut *connection).await.map_err(said)?;
    if !noted {
        return Ok(0);
    }
    let found: Option<(i32, i32)> = query_as(VERSION).fetch_optional(connection).await.map_err(said)?;
    let Some((version, compatible)) = found else { return Ok(0) };
    let version = number(version);
    if version > LATEST {
        check_newer(&server.place, version, Some(number(compatible)), LATEST)?;
    }
    Ok(version)
}

fn number(version: i32) -> u32 {
    u32::try_from(version).unwrap_or(u32::MAX)
}

fn signed(version: u32) -> i32 {
    i32::try_from(version).unwrap_or(i32::MAX)
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
