//! Connections to a server, and what a server must be to hold our data.
//!
//! Pools for reading, for writing, for counting and for REM data, so that what requests wait for never waits for batches of rows or
//! for what callers ask of REM data. Every wait has an end: for a connection, for
//! a statement and for a lock. A connection from before the database was found read-only or gone is not used again: after
//! a fail-over it may lead to the old server.

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, query_scalar, raw_sql};

use super::super::StoreError;
use super::fault::fault;
use crate::config::StoreUrl;

/// Connections that write.
const WRITERS: u32 = 3;
/// Connections that read.
const READERS: u32 = 8;
/// Connections that find REM data for callers, and those that write it: what callers ask for there takes none from the others.
const REM_READERS: u32 = 4;
const REM_WRITERS: u32 = 2;
/// Connections that hold and settle budgets. More would wait for each other's locks.
const COUNTERS: u32 = 4;
/// Longest wait for a connection that writes, and for a lock it needs.
const WRITE_WAIT: Duration = Duration::from_secs(5);
/// Longest wait for a connection that reads. Whoever reads on the request path gives up earlier by itself; a scan at
/// start-up may wait for its turn.
const READ_WAIT: Duration = Duration::from_secs(1);
/// Longest statement that writes: a batch of thousands of rows on a busy server.
const WRITE_STATEMENT: &str = "60s";
/// Longest statement that reads: a page of a scan.
const READ_STATEMENT: &str = "30s";
/// Longest statement that finds REM data: a little more than a caller waits for.
const REM_STATEMENT: &str = "6s";
/// Longest wait for the connection that looks at the database when it is opened.
const CONNECT: Duration = Duration::from_secs(10);

/// The oldest server that works, as `server_version_num`.
const OLDEST_SERVER: i32 = 160_000;
/// The oldest pgvector with iterative scans.
const OLDEST_VECTOR: (u32, u32) = (0, 8);

const VECTOR_VERSION: &str = "SELECT extversion FROM pg_extension WHERE extname = 'vector'";
const READ_ONLY: &str = "SELECT current_setting('transaction_read_only') = 'on'";
const ENCODING: &str = "SELECT current_setting('server_encoding')";
const SERVER_VERSION: &str = "SELECT current_setting('server_version_num')::integer";

/// A server, how to log in to it, and its name without the password.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) place: String,
    options: PgConnectOptions,
}

/// When the server was last found gone or read-only.
pub(super) type Suspect = Arc<Mutex<Option<Instant>>>;

impl Server {
    pub(super) fn of(url: &StoreUrl) -> Result<Self, StoreError> {
        let place = url.to_string();
        let StoreUrl::Postgres(secret) = url else {
            return Err(StoreError::Failed(format!("{place}: not a PostgreSQL URL").into()));
        };
        // The driver's message may quote a part of the URL.
        let options = PgConnectOptions::from_str(secret.expose()).map_err(|_| {
            StoreError::Failed(format!("{place}: `[store] url` has a part that is not understood").into())
        })?;
        // Statement logging would cost on each statement and say nothing that our own metrics do not.
        Ok(Self { place, options: options.application_name("remora").disable_statement_logging() })
    }

    /// Few connections that write.
    pub(super) fn writers(&self, suspect: &Suspect) -> PgPool {
        pool(self.writing(), WRITERS, 1, WRITE_WAIT, suspect)
    }

    /// Connections that count what is spent. Where nobody has a budget none is made.
    pub(super) fn counters(&self, suspect: &Suspect) -> PgPool {
        pool(self.writing(), COUNTERS, 0, WRITE_WAIT, suspect)
    }

    fn writing(&self) -> PgConnectOptions {
        self.options.clone().options([
            ("statement_timeout", WRITE_STATEMENT),
            ("lock_timeout", "5s"),
            // A replica that stands still must not hold the numbers of changes for long.
            ("idle_in_transaction_session_timeout", "10s"),
            // A plan made while a table was small would later read all of it.
            ("plan_cache_mode", "force_custom_plan"),
        ])
    }

    /// Connections that read, and cannot write.
    pub(super) fn readers(&self, suspect: &Suspect) -> PgPool {
        pool(self.reading(READ_STATEMENT), READERS, 1, READ_WAIT, suspect)
    }

    /// Few connections that find REM data. Where nobody asks for it none is made.
    pub(super) fn rem_readers(&self, suspect: &Suspect) -> PgPool {
        pool(self.reading(REM_STATEMENT), REM_READERS, 0, READ_WAIT, suspect)
    }

    /// Few connections that write REM data, so that the ledger never waits for it.
    pub(super) fn rem_writers(&self, suspect: &Suspect) -> PgPool {
        pool(self.writing(), REM_WRITERS, 0, WRITE_WAIT, suspect)
    }

    fn reading(&self, longest: &str) -> PgConnectOptions {
        self.options.clone().options([
            ("statement_timeout", longest),
            ("default_transaction_read_only", "on"),
            // To compile the many sums of a report takes longer than to add them up.
            ("jit", "off"),
        ])
    }

    /// The one connection that waits for notifications. It may be idle for days.
    pub(super) fn listeners(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(WRITE_WAIT)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(self.options.clone())
    }

    /// How to log in as somebody else, with these settings.
    pub(super) fn as_caller(&self, role: &str, password: &str, settings: &[(&str, String)]) -> PgConnectOptions {
        let settings = settings.iter().map(|(name, value)| (*name, value));
        self.options.clone().username(role).password(password).application_name("remora sql").options(settings)
    }

    /// A connection of its own, for what may take long: steps of the schema, cleaning up.
    pub(super) async fn connect(&self) -> Result<PgConnection, StoreError> {
        let options = self.options.clone().options([("statement_timeout", "0"), ("lock_timeout", "0")]);
        match tokio::time::timeout(CONNECT, options.connect()).await {
            Ok(connected) => connected.map_err(|error| fault(&self.place, error)),
            Err(_) => {
                let detail = "no answer within 10 s".to_owned();
                Err(StoreError::Unreachable { place: self.place.clone(), detail })
            }
        }
    }

    /// Makes sure that the server can hold our data. `pgvector` is set up if it is not and that is allowed.
    pub(super) async fn check(&self, connection: &mut PgConnection, write: bool) -> Result<(), StoreError> {
        let said = |error| fault(&self.place, error);
        let version: i32 = query_scalar(SERVER_VERSION).fetch_one(&mut *connection).await.map_err(said)?;
        check_version(&self.place, version)?;
        let encoding: String = query_scalar(ENCODING).fetch_one(&mut *connection).await.map_err(said)?;
        if encoding != "UTF8" {
            let lack = format!("the encoding of the database is {encoding}");
            return Err(self.unsuitable(lack, "create one with `createdb --encoding UTF8 --template template0`"));
        }
        if write && query_scalar(READ_ONLY).fetch_one(&mut *connection).await.map_err(said)? {
            return Err(StoreError::ReadOnly { place: self.place.clone() });
        }
        let mut found: Option<String> =
            query_scalar(VECTOR_VERSION).fetch_optional(&mut *connection).await.map_err(said)?;
        if found.is_none() && write {
            self.create_vector(connection).await?;
            found = query_scalar(VECTOR_VERSION).fetch_optional(&mut *connection).await.map_err(said)?;
        }
        check_vector(&self.place, found.as_deref())
    }

    async fn create_vector(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        // Two that do it at once: the lock makes the second wait, and then there is nothing to do.
        const CREATE: &str = "BEGIN; SELECT pg_advisory_xact_lock(5940263861203501); \
            CREATE EXTENSION IF NOT EXISTS vector; COMMIT";
        let Err(error) = raw_sql(CREATE).execute(&mut *connection).await else { return Ok(()) };
        // The transaction is aborted; the error that matters is the one above.
        let _rolled_back = raw_sql("ROLLBACK").execute(connection).await;
        match fault(&self.place, error) {
            StoreError::Failed(why) => {
                let lack = format!("the extension `vector` cannot be set up ({why})");
                Err(self.unsuitable(lack, "install pgvector 0.8 or newer on the database server"))
            }
            StoreError::Denied { detail, .. } => {
                let lack = format!("the extension `vector` is not set up and this user may not do it ({detail})");
                Err(self.unsuitable(lack, "let an administrator run `CREATE EXTENSION vector` in this database"))
            }
            other => Err(other),
        }
    }

    fn unsuitable(&self, lack: String, advice: &'static str) -> StoreError {
        StoreError::Unsuitable { place: self.place.clone(), lack, advice }
    }

    /// Closes a connection that was only needed for a moment.
    pub(super) async fn done(&self, connection: PgConnection) -> Result<(), StoreError> {
        connection.close().await.map_err(|error| fault(&self.place, error))
    }
}

fn pool(options: PgConnectOptions, size: u32, least: u32, wait: Duration, suspect: &Suspect) -> PgPool {
    let suspect = suspect.clone();
    PgPoolOptions::new()
        .max_connections(size)
        .min_connections(least)
        .acquire_timeout(wait)
        .idle_timeout(Duration::from_secs(300))
        .max_lifetime(Duration::from_secs(1800))
        .before_acquire(move |_, meta| {
            let since = suspect.lock().unwrap_or_else(PoisonError::into_inner).map(|at| at.elapsed());
            let usable = since.is_none_or(|since| meta.age < since);
            Box::pin(async move { Ok(usable) })
        })
        .connect_lazy_with(options)
}

/// Whether a server of this `server_version_num` works.
fn check_version(place: &str, version: i32) -> Result<(), StoreError> {
    if version >= OLDEST_SERVER {
        return Ok(());
    }
    let lack = format!("the server is PostgreSQL {}.{}, which is too old", version / 10_000, version % 10_000);
    Err(StoreError::Unsuitable { place: place.to_owned(), lack, advice: "use PostgreSQL 16 or newer; 18 is advised" })
}

/// Whether this version of pgvector works.
fn check_vector(place: &str, version: Option<&str>) -> Result<(), StoreError> {
    let place = place.to_owned();
    let Some(version) = version else {
        let lack = "the extension `vector` is not set up".to_owned();
        let advice = "run `CREATE EXTENSION vector` in this database, or `remora migrate up`";
        return Err(StoreError::Unsuitable { place, lack, advice });
    };
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found >= OLDEST_VECTOR {
        return Ok(());
    }
    let lack = format!("pgvector is {version}, which is too old");
    let advice = "install pgvector 0.8 or newer on the server and run `ALTER EXTENSION vector UPDATE`";
    Err(StoreError::Unsuitable { place, lack, advice })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_from_16_on_are_taken_and_older_ones_refused_with_advice() {
        for version in [160_000, 170_012, 180_006, 190_000] {
            assert!(check_version("here", version).is_ok(), "{version}");
        }
        for (version, shown) in [(150_018, "15.18"), (90_624, "9.624")] {
            let text = check_version("here", version).unwrap_err().to_string();
            assert!(text.contains(shown) && text.contains("PostgreSQL 16 or newer"), "{text}");
        }
    }

    #[test]
    fn pgvector_from_0_8_on_is_taken_and_older_or_none_refused_with_advice() {
        for version in ["0.8.0", "0.8.6", "0.10", "1.0.0"] {
            assert!(check_vector("here", Some(version)).is_ok(), "{version}");
        }
        for (version, advice) in [(Some("0.7.4"), "ALTER EXTENSION"), (None, "CREATE EXTENSION"), (Some("x"), "0.8")] {
            let text = check_vector("here", version).unwrap_err().to_string();
            assert!(text.contains(advice), "{text}");
        }
    }
}
