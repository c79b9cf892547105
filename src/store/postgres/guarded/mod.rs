//! Runs checked SQL of callers on this database, as if it had not been checked.
//!
//! Each statement has a connection of its own, of the caller's role, that is never used again: what a statement changes of its
//! session ends with it. It runs in a read-only transaction, by the extended protocol (which takes one statement only), wrapped
//! in a SELECT that limits rows, if the planner does not expect too much of it. Its deadline is kept from outside: what is not
//! done by then, or has nobody who waits, is ended by another connection.
//!
//! It must never: run a text with the rights of the store's own user, use a connection twice, or hand out words of the
//! database.

mod answer;
mod callers;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::time::Duration;

use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, SqlSafeStr, query, query_as, query_scalar, raw_sql};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout, timeout_at};

use super::super::BoxFuture;
use super::super::rem::{Scope, SqlAnswer, SqlCaps, SqlFault, SqlGuarded, SqlPlace};
use super::PostgresStore;
use crate::ids::{KeyId, TenantId};
use answer::{Reading, fault};
use callers::Caller;
pub(super) use callers::Callers;

/// Longest wait for a place.
const WAIT: Duration = Duration::from_secs(1);
/// Longest wait for the end of a statement that is stopped.
const STOPPING: Duration = Duration::from_secs(5);
/// Most that the planner may expect, in its own units: a full read of a million rows is about 100,000.
const COST: f64 = 1e8;

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// Who the server knows it by, and whether it knows whose rows it may see.
const WHO: &str = "SELECT pg_backend_pid(), EXISTS (SELECT 1 FROM rem.me)";
/// The number of a process may belong to somebody else by now.
const STOP: &str = "SELECT pg_terminate_backend(pid, 4000) FROM pg_stat_activity WHERE pid = $1 AND usename = $2";

/// What is wanted of a statement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    Rows,
    Plan,
}

/// What it gave.
enum Gave {
    Rows(SqlAnswer),
    Plan(Vec<String>),
}

/// A statement that may still run on the server. Dropped while it does, it is ended there.
struct Running {
    pool: PgPool,
    role: String,
    pid: Option<i32>,
    place: Option<SqlPlace>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let (Some(pid), Ok(runtime)) = (self.pid.take(), Handle::try_current()) else { return };
        let (pool, role, place) = (self.pool.clone(), std::mem::take(&mut self.role), self.place.take());
        // The place is free when the statement has ended.
        drop(runtime.spawn(async move {
            let stop = query(STOP).bind(pid).bind(role).execute(&pool);
            if !matches!(timeout(STOPPING, stop).await, Ok(Ok(_))) {
                tracing::warn!("a statement of a caller could not be stopped; the server's own timeout stops it");
            }
            drop(place);
        }));
    }
}

impl PostgresStore {
    async fn guarded(&self, scope: &Scope, text: &str, caps: SqlCaps, want: Want) -> Result<Gave, SqlFault> {
        let end = Instant::now() + caps.time;
        let place = self.guarded.places.take(scope, WAIT.min(caps.time)).await;
        if place.is_none() {
            return Err(SqlFault::Busy);
        }
        let mut running = Running { pool: self.writer.clone(), role: String::new(), pid: None, place };
        let work = async {
            let (mut connection, role, pid) = self.log_in(scope, caps).await?;
            running.role = role;
            running.pid = Some(pid);
            let gave = run(&mut connection, text, caps, want).await;
            let whole = !matches!(&gave, Ok(Gave::Rows(answer)) if answer.truncated);
            // What was cut may still be sent: then the end is made by force.
            if whole && connection.close().await.is_ok() {
                running.pid = None;
            }
            gave
        };
        timeout_at(end, work).await.unwrap_or(Err(SqlFault::Timeout))
    }

    /// A connection of the caller's role that is known to be his, the role, and the number of its process.
    async fn log_in(&self, scope: &Scope, caps: SqlCaps) -> Result<(PgConnection, String, i32), SqlFault> {
        let caller = self.caller(scope).await?;
        match self.connect_as(&caller, caps).await {
            Ok((connection, pid, true)) => return Ok((connection, caller.role, pid)),
            // It may have been dropped by another replica, or be about to be: it is taken out of the list first.
            Ok((connection, ..)) => drop(connection.close().await),
            Err(error) if refused(&error) => {}
            Err(error) => return Err(fault(&error)),
        }
        self.guarded.doubt(&caller.role);
        let caller = self.caller(scope).await?;
        match self.connect_as(&caller, caps).await {
            Ok((connection, pid, true)) => Ok((connection, caller.role, pid)),
            Ok(_) => Err(SqlFault::Busy),
            Err(error) if refused(&error) => Err(SqlFault::Unavailable(
                "the database server does not let the caller's role in: let `pg_hba.conf` have a line for roles whose \
                 names start with `remora_q_`, with `scram-sha-256`"
                    .to_owned(),
            )),
            Err(error) => Err(fault(&error)),
        }
    }

    /// Logs in. Besides the connection, the number of its process, and whether the role is known as a caller's.
    async fn connect_as(&self, caller: &Caller, caps: SqlCaps) -> sqlx::Result<(PgConnection, i32, bool)> {
        let mut connection = self.connection_of(caller, caps).await?;
        let (pid, known) = query_as(WHO).fetch_one(&mut connection).await?;
        Ok((connection, pid, known))
    }

    async fn connection_of(&self, caller: &Caller, caps: SqlCaps) -> sqlx::Result<PgConnection> {
        let time = format!("{}ms", caps.time.as_millis().max(1));
        let settings = [
            ("default_transaction_read_only", "on".to_owned()),
            ("statement_timeout", time.clone()),
            ("idle_in_transaction_session_timeout", time),
            ("lock_timeout", "1s".to_owned()),
            ("work_mem", "4MB".to_owned()),
            ("search_path", "rem,pg_temp".to_owned()),
            ("standard_conforming_strings", "on".to_owned()),
            ("max_parallel_workers_per_gather", "0".to_owned()),
            ("jit", "off".to_owned()),
            // The server finds out by itself that nobody is there any more.
            ("client_connection_check_interval", "1s".to_owned()),
        ];
        self.server.as_caller(&caller.role, &caller.password, &settings).connect().await
    }
}

impl SqlGuarded for PostgresStore {
    fn select<'a>(
        &'a self,
        scope: &'a Scope,
        text: &'a str,
        caps: SqlCaps,
    ) -> Pin<Box<dyn Future<Output = Result<SqlAnswer, SqlFault>> + Send + 'a>> {
        Box::pin(async move {
            match self.guarded(scope, text, caps, Want::Rows).await? {
                Gave::Rows(answer) => Ok(answer),
                Gave::Plan(_) => Err(SqlFault::NotAllowed),
            }
        })
    }

    fn plan<'a>(
        &'a self,
        scope: &'a Scope,
        text: &'a str,
        caps: SqlCaps,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<String>, SqlFault>> + Send + 'a>> {
        Box::pin(async move {
            match self.guarded(scope, text, caps, Want::Plan).await? {
                Gave::Plan(lines) => Ok(lines),
                Gave::Rows(_) => Err(SqlFault::NotAllowed),
            }
        })
    }

    fn forget<'a>(&'a self, tenant: &'a TenantId, key: Option<&'a KeyId>) -> BoxFuture<'a, ()> {
        Box::pin(self.drop_callers(tenant, key))
    }
}

async fn run(connection: &mut PgConnection, text: &str, caps: SqlCaps, want: Want) -> Result<Gave, SqlFault> {
    let said = |error: sqlx::Error| fault(&error);
    raw_sql(BEGIN).execute(&mut *connection).await.map_err(said)?;
    // A line break, lest a comment at its end hide what follows.
    let inner = format!("(\n{text}\n) AS q");
    if want == Want::Plan {
        // Without costs, which are made of the rows of all tenants.
        let explain = AssertSqlSafe(format!("EXPLAIN (COSTS OFF) SELECT * FROM {inner}"));
        return query_scalar(explain).fetch_all(connection).await.map(Gave::Plan).map_err(said);
    }
    let looked = connection.prepare(AssertSqlSafe(format!("SELECT * FROM {inner} LIMIT 0")).into_sql_str()).await;
    let reading = Reading::of(&looked.map_err(said)?)?;
    let wrapped = reading.wrapped(&inner, caps);
    let expected: Vec<String> =
        query_scalar(AssertSqlSafe(format!("EXPLAIN {wrapped}"))).fetch_all(&mut *connection).await.map_err(said)?;
    if answer::cost(&expected).is_none_or(|cost| cost > COST) {
        let text = "the database expects this statement to take far too long; narrow it down with WHERE";
        return Err(SqlFault::Statement(text.to_owned()));
    }
    reading.read(connection, wrapped, caps).await.map(Gave::Rows)
}

/// Whether the server does not let this role in.
fn refused(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|said| said.code().map(|code| code.starts_with("28"))).unwrap_or(false)
}
