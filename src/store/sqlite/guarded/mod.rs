//! Runs checked SQL of callers on this database, as if it had not been checked.
//!
//! Each statement has a connection of its own that is thrown away with it: open for reading only, with the caller's views, an
//! authorizer that refuses all it does not know, limits on sizes, and a handler that stops it at its deadline or when
//! nobody waits any more. It runs on a thread of the blocking pool; few do so at a time.
//!
//! It must never: read a table but through the caller's views, write, or hand out words of the database.

#[cfg(test)]
mod tests;
mod views;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, Statement};
use serde_json::Value;
use tokio::time::timeout_at;

use super::super::BoxFuture;
use super::super::rem::{Scope, SqlAnswer, SqlCaps, SqlFault, SqlGuarded, SqlPlaces, VIEWS, random_bytes, sql_float};
use super::SqliteStore;
use crate::ids::{KeyId, TenantId};

/// Statements that run at a time, each on a thread of its own: of all callers, of one tenant, and of one caller.
const PLACES: usize = 4;
const OF_ONE_TENANT: usize = 2;
const OF_ONE_CALLER: usize = 1;
/// Longest wait for a place.
const WAIT: Duration = Duration::from_secs(1);
/// Instructions between two looks at the clock: some ten microseconds.
const STEPS: i32 = 1_000;
/// Longest text, or row, at any place of a statement: with the few that it holds at a time this bounds its memory.
const LONGEST: i32 = 8 << 20;
/// Longest text of a statement.
const STATEMENT: i32 = 64 << 10;
/// Functions that a statement may call; `like` is the operator.
const FUNCTIONS: [&str; 22] = [
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "lower",
    "upper",
    "length",
    "coalesce",
    "nullif",
    "abs",
    "round",
    "substr",
    "trim",
    "ltrim",
    "rtrim",
    "row_number",
    "rank",
    "dense_rank",
    "lag",
    "lead",
    "like",
];

/// Places for statements: what they take is taken from nothing else.
pub(super) struct Places(SqlPlaces);

impl Default for Places {
    fn default() -> Self {
        Self(SqlPlaces::new(PLACES, OF_ONE_TENANT, OF_ONE_CALLER))
    }
}

/// What stands between a statement and the data. All of it, but in tests that show what each part is good for.
#[derive(Clone, Copy)]
struct Layers {
    read_only: bool,
    query_only: bool,
    authorizer: bool,
    views_apart: bool,
    limits: bool,
    deadline: bool,
}

impl Layers {
    const ALL: Self =
        Self { read_only: true, query_only: true, authorizer: true, views_apart: true, limits: true, deadline: true };
}

/// A statement to run.
struct Job {
    path: PathBuf,
    scope: Scope,
    text: String,
    caps: SqlCaps,
    layers: Layers,
    cancelled: Arc<AtomicBool>,
    end: Instant,
}

/// Stops the statement when nobody waits for it any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl SqliteStore {
    async fn guarded<T: Send + 'static>(
        &self,
        scope: &Scope,
        text: &str,
        caps: SqlCaps,
        run: fn(&Job) -> Result<T, SqlFault>,
    ) -> Result<T, SqlFault> {
        let end = Instant::now() + caps.time;
        let Some(place) = self.places.0.take(scope, WAIT.min(caps.time)).await else { return Err(SqlFault::Busy) };
        let cancelled = Arc::new(AtomicBool::new(false));
        let _stop = StopOnDrop(Arc::clone(&cancelled));
        let (path, scope, text) = (self.path.clone(), scope.clone(), text.to_owned());
        let job = Job { path, scope, text, caps, layers: Layers::ALL, cancelled, end };
        // The place is free when the thread is, which may be after the caller has gone.
        let work = tokio::task::spawn_blocking(move || {
            let _place = place;
            run(&job)
        });
        match timeout_at(end.into(), work).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(SqlFault::Unavailable("the statement ended the thread that it ran on".to_owned())),
            Err(_) => Err(SqlFault::Timeout),
        }
    }
}

impl SqlGuarded for SqliteStore {
    fn select<'a>(
        &'a self,
        scope: &'a Scope,
        text: &'a str,
        caps: SqlCaps,
    ) -> Pin<Box<dyn Future<Output = Result<SqlAnswer, SqlFault>> + Send + 'a>> {
        Box::pin(self.guarded(scope, text, caps, select))
    }

    fn plan<'a>(
        &'a self,
        scope: &'a Scope,
        text: &'a str,
        caps: SqlCaps,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<String>, SqlFault>> + Send + 'a>> {
        Box::pin(self.guarded(scope, text, caps, plan))
    }

    fn forget<'a>(&'a self, _: &'a TenantId, _: Option<&'a KeyId>) -> BoxFuture<'a, ()> {
        // What is set up for a caller goes with the connection.
        Box::pin(async { Ok(()) })
    }
}

fn select(job: &Job) -> Result<SqlAnswer, SqlFault> {
    let secret = secret()?;
    let connection = open(job, &secret)?;
    let mut statement = prepare(&connection, &job.text)?;
    if statement.is_explain() != 0 {
        return Err(SqlFault::NotAllowed);
    }
    let columns: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
    let mut answer = SqlAnswer { columns, rows: Vec::new(), truncated: false };
    let mut left = job.caps.bytes;
    let mut rows = statement.query([]).map_err(|error| fault(&error))?;
    while let Some(row) = rows.next().map_err(|error| fault(&error))? {
        let mut values = Vec::with_capacity(answer.columns.len());
        let mut bytes = 2;
        for column in 0..answer.columns.len() {
            let value = value(row.get_ref(column).map_err(|error| fault(&error))?)?;
            bytes += bytes_of(&value);
            values.push(value);
        }
        if answer.rows.len() as u64 >= u64::from(job.caps.rows) || bytes > left {
            answer.truncated = true;
            break;
        }
        left -= bytes;
        answer.rows.push(values);
    }
    Ok(answer)
}

fn plan(job: &Job) -> Result<Vec<String>, SqlFault> {
    let secret = secret()?;
    let connection = open(job, &secret)?;
    prepare(&connection, &job.text)?;
    let mut statement = prepare(&connection, &format!("EXPLAIN QUERY PLAN {}", job.text))?;
    let mut rows = statement.query([]).map_err(|error| fault(&error))?;
    let mut depths: Vec<(i64, usize)> = Vec::new();
    let mut lines = Vec::new();
    while let Some(row) = rows.next().map_err(|error| fault(&error))? {
        let read = || Ok::<(i64, i64, String), rusqlite::Error>((row.get(0)?, row.get(1)?, row.get(3)?));
        let (id, parent, detail) = read().map_err(|error| fault(&error))?;
        let depth = depths.iter().find(|(known, _)| *known == parent).map_or(0, |(_, depth)| depth + 1);
        depths.push((id, depth));
        lines.push(format!("{}{}", "  ".repeat(depth), detail.replace(&format!("_{secret}"), "")));
    }
    Ok(lines)
}

/// A part of a name that nobody can guess.
fn secret() -> Result<String, SqlFault> {
    let bytes = random_bytes();
    let bytes = bytes.map_err(|_| SqlFault::Unavailable("the system gives no random bytes".to_owned()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn open(job: &Job, secret: &str) -> Result<Connection, SqlFault> {
    set_up(job, secret).map_err(|error| match fault(&error) {
        timeout @ SqlFault::Timeout => timeout,
        _ => SqlFault::Unavailable("the database cannot be opened for SQL at this moment".to_owned()),
    })
}

fn set_up(job: &Job, secret: &str) -> rusqlite::Result<Connection> {
    let layers = job.layers;
    let way = if layers.read_only { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
    let connection = Connection::open_with_flags(path(&job.path), way | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_millis(500))?;
    for (switch, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, false),
        (DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, false),
        // A name in " that is none must not become a text.
        (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
        (DbConfig::SQLITE_DBCONFIG_DQS_DDL, false),
    ] {
        connection.set_db_config(switch, on)?;
    }
    // What does not fit into the page cache of 4 MiB goes to a file that has no name.
    connection.execute_batch(
        "PRAGMA cell_size_check = ON; PRAGMA temp_store = 1; PRAGMA cache_size = -4096; PRAGMA mmap_size = 0; \
         PRAGMA case_sensitive_like = ON;",
    )?;
    connection.execute_batch(&views::all(&job.scope, secret, layers.views_apart))?;
    let known = known(&connection)?;
    if layers.query_only {
        connection.execute_batch("PRAGMA query_only = ON")?;
    }
    if layers.limits {
        for (limit, most) in [
            (Limit::SQLITE_LIMIT_LENGTH, LONGEST),
            (Limit::SQLITE_LIMIT_SQL_LENGTH, STATEMENT),
            (Limit::SQLITE_LIMIT_COLUMN, 400),
            (Limit::SQLITE_LIMIT_EXPR_DEPTH, 300),
            (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 30),
            (Limit::SQLITE_LIMIT_VDBE_OP, 500_000),
            (Limit::SQLITE_LIMIT_FUNCTION_ARG, 24),
            (Limit::SQLITE_LIMIT_ATTACHED, 0),
            (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1_000),
            (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 0),
            (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 0),
            (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
        ] {
            connection.set_limit(limit, most)?;
        }
    }
    if layers.authorizer {
        let secret = secret.to_owned();
        connection.authorizer(Some(move |asked: AuthContext<'_>| authorise(&asked, &secret, &known)))?;
    }
    if layers.deadline {
        let (cancelled, end) = (Arc::clone(&job.cancelled), job.end);
        let over = move || cancelled.load(Ordering::Relaxed) || Instant::now() >= end;
        connection.progress_handler(STEPS, Some(over))?;
    }
    Ok(connection)
}

/// A path that is a file and never an URI or `:memory:`.
fn path(path: &Path) -> PathBuf {
    if path.is_absolute() { path.to_path_buf() } else { Path::new(".").join(path) }
}

/// Names of all tables, views and modules there are: what is called otherwise is named by the statement itself.
fn known(connection: &Connection) -> rusqlite::Result<HashSet<String>> {
    let mut names = connection.prepare(
        "SELECT lower(name) FROM main.sqlite_schema UNION SELECT lower(name) FROM temp.sqlite_schema \
         UNION SELECT lower(name) FROM pragma_module_list",
    )?;
    names.query_map([], |row| row.get(0))?.collect()
}

/// Whether a step of a statement may be taken. What is not named here may not.
fn authorise(asked: &AuthContext<'_>, secret: &str, known: &HashSet<String>) -> Authorization {
    let inner = asked.accessor.is_some_and(|by| VIEWS.iter().any(|(view, _)| views::name(view, secret) == by));
    let allowed = match asked.action {
        AuthAction::Select => true,
        AuthAction::Read { table_name, column_name } => {
            let view = |table: &str| VIEWS.iter().any(|(view, _)| *view == table);
            let name = table_name.to_lowercase();
            if inner {
                views::TABLES.contains(&table_name)
            } else if view(table_name) {
                // A table of the file may be called as a view is, and is not meant. No database is named where nothing of it is read
                // but that there are rows; then the view goes before the table.
                match asked.database_name {
                    Some(database) => database == "temp",
                    None => column_name.is_empty(),
                }
            } else if let Some(stem) = table_name.strip_suffix(secret).and_then(|stem| stem.strip_suffix('_')) {
                view(stem)
            } else {
                // Nothing of it is read but that there are rows: it may be what WITH names, and must not be a table.
                column_name.is_empty()
                    && !known.contains(&name)
                    && !["sqlite_", "pragma_", "json", "fts", "dbstat"].iter().any(|own| name.starts_with(own))
            }
        }
        AuthAction::Function { function_name } => {
            let name = function_name.to_ascii_lowercase();
            FUNCTIONS.contains(&name.as_str()) || inner && views::FUNCTIONS.contains(&name.as_str())
        }
        _ => false,
    };
    if allowed { Authorization::Allow } else { Authorization::Deny }
}

fn prepare<'c>(connection: &'c Connection, text: &str) -> Result<Statement<'c>, SqlFault> {
    let statement = connection.prepare(text).map_err(|error| fault(&error))?;
    if !statement.readonly() || statement.column_count() == 0 || statement.parameter_count() > 0 {
        return Err(SqlFault::NotAllowed);
    }
    Ok(statement)
}

fn value(value: ValueRef<'_>) -> Result<Value, SqlFault> {
    match value {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(number) => Ok(Value::from(number)),
        ValueRef::Real(number) => Ok(sql_float(number)),
        ValueRef::Text(text) => Ok(Value::String(String::from_utf8_lossy(text).into_owned())),
        ValueRef::Blob(_) => Err(SqlFault::NotAllowed),
    }
}

/// About what it takes as JSON.
fn bytes_of(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64 + 3,
        _ => 20,
    }
}

/// What the database said, in our words: its own may quote what it was given, or tell of what the caller must not see.
fn fault(error: &rusqlite::Error) -> SqlFault {
    let said = |text: &str| SqlFault::Statement(text.to_owned());
    let words = match error {
        rusqlite::Error::MultipleStatement => return SqlFault::NotAllowed,
        rusqlite::Error::SqliteFailure(_, Some(words)) => words.as_str(),
        _ => "",
    };
    match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => return SqlFault::Timeout,
        Some(ErrorCode::TooBig | ErrorCode::OutOfMemory) => return SqlFault::TooLarge,
        Some(ErrorCode::AuthorizationForStatementDenied | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            return SqlFault::NotAllowed;
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => return SqlFault::Busy,
        _ => {}
    }
    // The authorizer's "no" has words of its own if it is said to a function or a column.
    if words.contains("prohibited") || words.contains("not authorized") {
        return SqlFault::NotAllowed;
    }
    for (mark, ours) in [
        ("no such column", "the statement names a column that is not there"),
        ("no such table", "the statement names a table that is not there"),
        ("no such function", "the statement calls a function that is not there"),
        ("ambiguous column", "a column is in more than one table; write the table before it"),
        ("integer overflow", "a number is out of its range"),
        ("misuse of", "an aggregate or window function stands where it may not, as in WHERE"),
        ("wrong number of arguments", "a function has the wrong number of arguments"),
        ("LIKE or GLOB pattern too complex", "the pattern of LIKE is longer than 1000 bytes"),
        ("do not have the same number", "the SELECTs of a UNION have different numbers of columns"),
        ("ORDER BY term", "ORDER BY names what is no column of the answer"),
        ("GROUP BY clause is required", "HAVING needs GROUP BY"),
        ("parser stack overflow", "the statement is nested too deeply"),
        ("too many", "the statement is too large"),
        ("Expression tree is too large", "the statement is nested too deeply"),
    ] {
        if words.contains(mark) {
            return said(ours);
        }
    }
    said("the database does not take this statement")
}
