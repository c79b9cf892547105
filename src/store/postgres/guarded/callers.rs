//! A login role for each caller, made when he first sends SQL and dropped with his key or tenant.
//!
//! The role has no right of its own and is a member of nothing: the views are open to everybody and show what `rem_callers` says
//! of the role that asks. Its name and its password are made from a secret of this database, so that every replica knows
//! them and no statement has ever held the password: the server is given the verifier (RFC 5803).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgTransaction;
use sqlx::{AssertSqlSafe, Executor, query, query_as, query_scalar, raw_sql};

use super::super::super::StoreError;
use super::super::super::rem::{Scope, SqlFault, SqlPlaces, random_bytes};
use super::super::PostgresStore;
use crate::ids::{KeyId, TenantId};

/// Statements that run at a time in this process: of all callers, of one tenant, and of one caller.
pub(super) const PLACES: usize = 8;
const OF_ONE_TENANT: usize = 2;
const OF_ONE_CALLER: usize = 1;
/// Callers whose roles are remembered.
const REMEMBERED: usize = 10_000;
/// Rounds of the verifier, as the server itself makes it.
const ROUNDS: u32 = 4096;

const LOCK: &str = "SELECT pg_advisory_xact_lock(5940263861203517)";
const KEEP_SECRET: &str = "INSERT INTO rem_sql_secret (one, secret) VALUES (true, $1) ON CONFLICT DO NOTHING";
const SECRET: &str =
    "SELECT secret, current_database()::text, to_regclass('rem.requests') IS NOT NULL FROM rem_sql_secret";
/// Whether a view may show anything to a caller of this tenant.
const HAS: &str = "SELECT EXISTS (SELECT 1 FROM rem_rows WHERE tenant = $1) OR EXISTS (SELECT 1 FROM rem_edges WHERE tenant = $1) \
    OR EXISTS (SELECT 1 FROM requests WHERE tenant = $1)";
/// What a role is: `None` if there is none, else whether it has any right that it must not have.
const ROLE: &str = "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls OR rolinherit \
    OR EXISTS (SELECT 1 FROM pg_auth_members WHERE member = r.oid) FROM pg_roles r WHERE rolname = $1";
const PUT: &str = "INSERT INTO rem_callers (role, tenant, key) VALUES ($1, $2, $3) \
    ON CONFLICT (role) DO UPDATE SET tenant = excluded.tenant, key = excluded.key";
const OF_TENANT: &str = "DELETE FROM rem_callers WHERE tenant = $1 AND ($2::text IS NULL OR key = $2) RETURNING role";
const MAY_SIGNAL: &str = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user";
const STOP_ALL: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1";

/// How a caller logs in.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) role: String,
    pub(super) password: String,
}

/// Callers that are known, and places for statements.
pub(in crate::store::postgres) struct Callers {
    known: Mutex<HashMap<(TenantId, KeyId), Caller>>,
    pub(super) places: SqlPlaces,
}

impl Default for Callers {
    fn default() -> Self {
        Self { known: Mutex::default(), places: SqlPlaces::new(PLACES, OF_ONE_TENANT, OF_ONE_CALLER) }
    }
}

impl Callers {
    fn with<T>(&self, work: impl FnOnce(&mut HashMap<(TenantId, KeyId), Caller>) -> T) -> T {
        work(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks again the next time: the role may have been dropped elsewhere.
    pub(super) fn doubt(&self, role: &str) {
        self.with(|known| known.retain(|_, caller| caller.role != role));
    }
}

impl PostgresStore {
    /// The role of this caller, made if there is none yet. Callers of tenants that have nothing share one that sees nothing: in
    /// passthrough mode whoever makes up a credential is a tenant of his own.
    pub(super) async fn caller(&self, scope: &Scope) -> Result<Caller, SqlFault> {
        let of = |scope: &Scope| (scope.tenant.clone(), scope.key.clone());
        let known = |scope: &Scope| self.guarded.with(|known| known.get(&of(scope)).cloned());
        if let Some(caller) = known(scope) {
            return Ok(caller);
        }
        let has = query_scalar(HAS).bind(scope.tenant.as_str()).fetch_one(&self.readers).await;
        let has: bool = has.map_err(|error| unavailable(&error))?;
        let scope = if has { scope } else { &nobody() };
        if let Some(caller) = known(scope) {
            return Ok(caller);
        }
        let who = of(scope);
        let caller = self.make_caller(scope).await?;
        self.guarded.with(|known| {
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(who, caller.clone());
        });
        Ok(caller)
    }

    async fn make_caller(&self, scope: &Scope) -> Result<Caller, SqlFault> {
        let away = |error: sqlx::Error| unavailable(&error);
        let fresh = random_bytes().map_err(|_| SqlFault::Unavailable("the system gives no random bytes".to_owned()))?;
        let mut transaction = self.begin_write().await.map_err(|_| SqlFault::Busy)?;
        query(LOCK).execute(&mut *transaction).await.map_err(away)?;
        query(KEEP_SECRET).bind(fresh.as_slice()).execute(&mut *transaction).await.map_err(away)?;
        let (secret, database, views): (Vec<u8>, String, bool) =
            query_as(SECRET).fetch_one(&mut *transaction).await.map_err(away)?;
        if !views {
            let text = "the database has no schema `rem`: let its owner run `GRANT CREATE ON DATABASE … TO` Remora's user, then run \
                `remora migrate down --to 5` and `remora migrate up`";
            return Err(SqlFault::Unavailable(text.to_owned()));
        }
        let caller = Caller::of(&secret, &database, scope);
        let found: Option<bool> =
            query_scalar(ROLE).bind(&caller.role).fetch_optional(&mut *transaction).await.map_err(away)?;
        match found {
            Some(true) => {
                let text = format!("the role {} has rights that it must not have; drop it", caller.role);
                return Err(SqlFault::Unavailable(text));
            }
            Some(false) => {}
            None => caller.create(&mut transaction).await.map_err(away)?,
        }
        let put = query(PUT).bind(&caller.role).bind(scope.tenant.as_str()).bind(scope.key.as_str());
        put.execute(&mut *transaction).await.map_err(away)?;
        self.commit(transaction).await.map_err(|_| SqlFault::Busy)?;
        Ok(caller)
    }

    /// Drops the roles of a tenant, or of one of its keys. Their rows are gone from then on, whoever is still logged in; who logs in
    /// before his role is dropped finds out that it is not known any more.
    pub(super) async fn drop_callers(&self, tenant: &TenantId, key: Option<&KeyId>) -> Result<(), StoreError> {
        self.guarded.with(|known| known.retain(|(of, by), _| of != tenant || key.is_some_and(|key| key != by)));
        let mut transaction = self.begin_write().await?;
        let roles = query_scalar(OF_TENANT).bind(tenant.as_str()).bind(key.map(KeyId::as_str));
        let roles: Vec<String> = roles.fetch_all(&mut *transaction).await.map_err(|error| self.fault(error))?;
        self.commit(transaction).await?;
        let mut failed = None;
        for role in roles {
            // The others go all the same.
            if let Err(error) = self.drop_caller(&role).await {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn drop_caller(&self, role: &str) -> Result<(), StoreError> {
        let said = |error: sqlx::Error| match self.fault(error) {
            StoreError::Denied { place, .. } => {
                let detail = format!(
                    "it may not drop the role {role}, which sees no rows any more; let an administrator run `ALTER ROLE … CREATEROLE` for \
                     the user, and `DROP ROLE {role}`"
                );
                StoreError::Denied { place, detail }
            }
            other => other,
        };
        // A statement that still runs sees its rows until it ends; it need not end by itself.
        query(STOP_ALL).bind(role).execute(&self.writer).await.map_err(said)?;
        if role.starts_with(PREFIX) && role.bytes().all(|letter| letter.is_ascii_alphanumeric() || letter == b'_') {
            let drop = AssertSqlSafe(format!("DROP ROLE IF EXISTS {role}"));
            raw_sql(drop).execute(&self.writer).await.map_err(said)?;
        }
        Ok(())
    }
}

/// Who has nothing. No tenant and no key has an empty name.
pub(super) fn nobody() -> Scope {
    Scope { tenant: TenantId::new(""), key: KeyId::new("") }
}

/// Beginning of all names of roles.
const PREFIX: &str = "remora_q_";

impl Caller {
    fn of(secret: &[u8], database: &str, scope: &Scope) -> Self {
        let whom = blake3::derive_key("remora rem sql caller", secret);
        let mut name = blake3::Hasher::new_keyed(&whom);
        for part in [database, scope.tenant.as_str(), scope.key.as_str()] {
            name.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes()).update(part.as_bytes());
        }
        let role = format!("{PREFIX}{}", hex(name.finalize().as_bytes().get(..16).unwrap_or_default()));
        let key = blake3::derive_key("remora rem sql password", secret);
        let password = hex(blake3::keyed_hash(&key, role.as_bytes()).as_bytes());
        Self { role, password }
    }

    async fn create(&self, transaction: &mut PgTransaction<'static>) -> sqlx::Result<()> {
        let (role, verifier) = (&self.role, verifier(&self.password, &self.role));
        let create = format!(
            "CREATE ROLE {role} LOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS \
             CONNECTION LIMIT 16 PASSWORD '{verifier}'"
        );
        transaction.execute(AssertSqlSafe(create)).await?;
        for setting in [
            "default_transaction_read_only = 'on'",
            "statement_timeout = '30s'",
            "lock_timeout = '1s'",
            "idle_in_transaction_session_timeout = '30s'",
            "work_mem = '4MB'",
            "search_path = 'rem', 'pg_temp'",
        ] {
            transaction.execute(AssertSqlSafe(format!("ALTER ROLE {role} SET {setting}"))).await?;
        }
        let superuser: bool = query_scalar(MAY_SIGNAL).fetch_one(&mut **transaction).await?;
        if superuser {
            // Only a superuser may say how much a statement may write to disk.
            transaction.execute(AssertSqlSafe(format!("ALTER ROLE {role} SET temp_file_limit = '256MB'"))).await?;
        } else {
            // Who is to stop a statement of the role must have its rights: there are none.
            let grant = format!("GRANT {role} TO CURRENT_USER WITH INHERIT TRUE, SET FALSE");
            transaction.execute(AssertSqlSafe(grant)).await?;
        }
        Ok(())
    }
}

/// Why there is no role, for whoever runs the program.
fn unavailable(error: &sqlx::Error) -> SqlFault {
    let code = error.as_database_error().and_then(|said| said.code().map(std::borrow::Cow::into_owned));
    match code.as_deref() {
        Some("42501") => SqlFault::Unavailable(
            "the database user may not make a role for the caller: let an administrator run `ALTER ROLE … CREATEROLE` for it"
                .to_owned(),
        ),
        Some("25006") => SqlFault::Unavailable("the database is read-only".to_owned()),
        _ => SqlFault::Unavailable("the database does not answer".to_owned()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the server keeps in the place of a password.
fn verifier(password: &str, role: &str) -> String {
    let salt = blake3::hash(role.as_bytes());
    let salt = salt.as_bytes().get(..16).unwrap_or_default();
    // PBKDF2 with one block (RFC 8018, section 5.2).
    let mut last = keyed(password.as_bytes(), &[salt, &1_u32.to_be_bytes()].concat());
    let mut salted = last;
    for _ in 1..ROUNDS {
        last = keyed(password.as_bytes(), &last);
        for (sum, byte) in salted.iter_mut().zip(last) {
            *sum ^= byte;
        }
    }
    let stored = Sha256::digest(keyed(&salted, b"Client Key"));
    let server = keyed(&salted, b"Server Key");
    format!("SCRAM-SHA-256${ROUNDS}:{}${}:{}", STANDARD.encode(salt), STANDARD.encode(stored), STANDARD.encode(server))
}

fn keyed(key: &[u8], text: &[u8]) -> [u8; 32] {
    match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mut mac) => {
            mac.update(text);
            mac.finalize().into_bytes().into()
        }
        // Keys may be of any length.
        Err(_) => [0; 32],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_roles_tell_callers_and_databases_apart_and_say_nothing() {
        let scope = |tenant: &str, key: &str| Scope { tenant: TenantId::new(tenant), key: KeyId::new(key) };
        let role = |database: &str, tenant: &str, key: &str| Caller::of(&[7; 32], database, &scope(tenant, key)).role;
        let all = [role("d", "a", "bc"), role("d", "ab", "c"), role("d", "a", "b"), role("e", "a", "b")];
        let different: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(different.len(), 4, "{all:?}");
        assert!(all[0].starts_with(PREFIX) && all[0].len() == PREFIX.len() + 32);
        assert_eq!(role("d", "a", "b"), role("d", "a", "b"));
        assert_ne!(Caller::of(&[8; 32], "d", &scope("a", "b")).role, role("d", "a", "b"));
    }

    /// The vector of RFC 7677, section 3: what a client proves with follows from the same keys.
    #[test]
    fn the_verifier_is_made_of_pbkdf2_and_hmac_as_the_rfc_says() {
        let text = verifier("pencil", "role");
        let parts: Vec<&str> = text.split(['$', ':']).collect();
        assert_eq!((parts[0], parts[1], parts.len()), ("SCRAM-SHA-256", "4096", 5), "{text}");
        assert_eq!(STANDARD.decode(parts[3]).unwrap().len(), 32);
    }
}
