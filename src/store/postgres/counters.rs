//! Counters of budgets that several replicas share.
//!
//! Whoever holds for a tenant first takes a lock of that tenant, which lasts as long as the transaction; so what is counted
//! and what is then held belong to one moment, and no number of replicas together holds more than there is. Settling takes no
//! such lock, because a hold sees it as a whole or not at all, and does not wait for the disk that settling waits for. Locks
//! of several tenants, and rows of several budgets, are taken in one order, so nobody waits in a circle.
//!
//! Counters have connections of their own: requests wait for them, and must not wait behind batches of rows.

use std::collections::{HashMap, HashSet};

use sqlx::postgres::{PgRow, PgTransaction};
use sqlx::{query, query_as};

use super::super::{BoxFuture, BudgetAsk, BudgetUse, CounterStore, HoldAsk, Holding, StoreError};
use super::cells::{Cells, escaped, stored};
use super::{PostgresStore, pause};
use crate::clock::UnixMs;
use crate::ids::RequestId;

// A server that crashes may forget the holds of the last moments, as it may any hold by its expiry: no request waits for
// the disk because of that.
const BEGIN_HOLD: &str = "BEGIN; SET LOCAL synchronous_commit = off";
const LOCK: &str = "SELECT pg_advisory_xact_lock(k) FROM unnest($1::bigint[]) AS k";
// What is held; what has expired is ignored, and removed in passing unless somebody has it in hand. Soft budgets may hold
// any amounts: a sum that a number of the database has no room for is the largest one.
const USES: &str = "WITH expired AS (SELECT request, key FROM budget_holds WHERE key = ANY ($1) AND expires_at <= $4 \
         FOR UPDATE SKIP LOCKED), \
     removed AS (DELETE FROM budget_holds AS h USING expired AS e WHERE h.request = e.request AND h.key = e.key), \
     wanted AS (SELECT n, slot FROM unnest($2::bigint[], $3::bigint[]) AS w (n, slot)) \
     SELECT \
         (SELECT count(*) FROM wanted AS w WHERE w.n = b.n) = (SELECT count(*) FROM wanted AS w \
             JOIN budget_slots AS s ON s.key = b.key AND s.slot = w.slot WHERE w.n = b.n AND s.seeded), \
         (SELECT least(coalesce(sum(s.spent), 0), 9223372036854775807) FROM wanted AS w \
             JOIN budget_slots AS s ON s.key = b.key AND s.slot = w.slot WHERE w.n = b.n)::bigint, \
         (SELECT least(coalesce(sum(h.amount), 0), 9223372036854775807) FROM budget_holds AS h \
             WHERE h.key = b.key AND h.expires_at > $4)::bigint \
     FROM unnest($1::text[]) WITH ORDINALITY AS b (key, n) ORDER BY b.n";
const KNOWN: &str = "SELECT request FROM budget_holds WHERE request = ANY ($1) AND expires_at > $2 \
    UNION SELECT request FROM budget_settled WHERE request = ANY ($1)";
// What was settled while it was asked for holds nothing any more.
const HOLD: &str = "INSERT INTO budget_holds (request, key, amount, expires_at) \
    SELECT request, key, max(amount), max(expires_at) \
    FROM unnest($1::bytea[], $2::text[], $3::bigint[], $4::bigint[]) AS b (request, key, amount, expires_at) \
    WHERE NOT EXISTS (SELECT 1 FROM budget_settled AS s WHERE s.request = b.request) \
    GROUP BY request, key \
    ON CONFLICT (request, key) DO UPDATE SET amount = excluded.amount, expires_at = excluded.expires_at";
const SETTLED: &str = "INSERT INTO budget_settled (request, at) VALUES ($1, $2) ON CONFLICT (request) DO NOTHING";
const RELEASE: &str = "DELETE FROM budget_holds WHERE request = $1";
// A part of a period that is met here first counts from now on; `seed` adds what was spent before.
const SPEND: &str = "INSERT INTO budget_slots AS s (key, slot, spent, seeded) \
    SELECT key, slot, $3, false FROM (SELECT DISTINCT key, slot FROM unnest($1::text[], $2::bigint[]) AS b (key, slot)) AS b \
    ORDER BY key, slot ON CONFLICT (key, slot) DO UPDATE SET spent = least(s.spent::numeric + excluded.spent, 9223372036854775807)::bigint";
const RENEW: &str = "UPDATE budget_holds SET expires_at = greatest(expires_at, $2) WHERE request = ANY ($1)";
// Only what is not seeded is brought up: settlements of what the ledger has may still be on their way to the others.
const SEED: &str = "INSERT INTO budget_slots AS s (key, slot, spent, seeded) \
    SELECT $1, slot, max(spent), true FROM unnest($2::bigint[], $3::bigint[]) AS b (slot, spent) \
    GROUP BY slot ORDER BY slot \
    ON CONFLICT (key, slot) DO UPDATE SET spent = CASE WHEN s.seeded THEN s.spent ELSE greatest(s.spent, excluded.spent) END, \
    seeded = true";
const RAISE: &str = "UPDATE budget_slots AS s SET spent = b.spent \
    FROM (SELECT slot, max(spent) AS spent FROM unnest($2::bigint[], $3::bigint[]) AS w (slot, spent) GROUP BY slot) AS b \
    WHERE s.key = $1 AND s.slot = b.slot AND s.seeded AND s.spent < b.spent";
const CORRECT: &str = "UPDATE budget_slots SET spent = $4 WHERE key = $1 AND slot = $2 AND spent = $3 AND seeded";
const USE: &str = "SELECT count(*) FILTER (WHERE seeded), least(coalesce(sum(spent), 0), 9223372036854775807)::bigint, \
    (SELECT least(coalesce(sum(h.amount), 0), 9223372036854775807) FROM budget_holds AS h WHERE h.key = $1 AND h.expires_at > $3)::bigint \
    FROM budget_slots WHERE key = $1 AND slot = ANY ($2)";
// In pieces, so that no transaction is long.
const PIECE: i64 = 10_000;
const FORGET_SLOTS: &str = "DELETE FROM budget_slots WHERE slot < $1 \
    AND ctid = ANY (ARRAY(SELECT ctid FROM budget_slots WHERE slot < $1 LIMIT $2))";
const FORGET_HOLDS: &str = "DELETE FROM budget_holds WHERE expires_at < $1 \
    AND ctid = ANY (ARRAY(SELECT ctid FROM budget_holds WHERE expires_at < $1 ORDER BY expires_at LIMIT $2))";
const FORGET_SETTLED: &str = "DELETE FROM budget_settled WHERE at < $1 \
    AND ctid = ANY (ARRAY(SELECT ctid FROM budget_settled WHERE at < $1 ORDER BY at LIMIT $2))";

/// Runs a write again where it met others on the same rows.
macro_rules! retrying {
    ($once:expr) => {
        Box::pin(async move {
            let mut round = 0;
            loop {
                match $once.await {
                    Err(error) => pause(&mut round, error).await?,
                    done => return done,
                }
            }
        })
    };
}

impl CounterStore for PostgresStore {
    fn hold<'a>(&'a self, asks: &'a [HoldAsk], now: UnixMs) -> BoxFuture<'a, Vec<Holding>> {
        retrying!(self.hold_once(asks, now))
    }

    fn settle<'a>(
        &'a self,
        request: RequestId,
        budgets: &'a [(String, UnixMs)],
        amount: i64,
        now: UnixMs,
    ) -> BoxFuture<'a, ()> {
        retrying!(self.settle_once(request, budgets, amount, now))
    }

    fn renew<'a>(&'a self, requests: &'a [RequestId], expires_at: UnixMs) -> BoxFuture<'a, ()> {
        retrying!(async {
            let ids: Vec<[u8; 16]> = requests.iter().map(|request| request.to_bytes()).collect();
            let renewed = query(RENEW).bind(ids).bind(stored(expires_at)).execute(&self.counters).await;
            renewed.map(|_| ()).map_err(|error| self.pool_fault(&self.counters, error))
        })
    }

    fn seed<'a>(&'a self, key: &'a str, slots: &'a [(UnixMs, i64)]) -> BoxFuture<'a, ()> {
        retrying!(self.bring_up(SEED, key, slots))
    }

    fn raise<'a>(&'a self, key: &'a str, slots: &'a [(UnixMs, i64)]) -> BoxFuture<'a, ()> {
        retrying!(self.bring_up(RAISE, key, slots))
    }

    fn correct<'a>(&'a self, key: &'a str, slot: UnixMs, seen: i64, spent: i64) -> BoxFuture<'a, bool> {
        retrying!(async {
            let corrected = query(CORRECT)
                .bind(escaped(key))
                .bind(stored(slot))
                .bind(seen)
                .bind(spent)
                .execute(&self.counters)
                .await;
            let corrected = corrected.map_err(|error| self.pool_fault(&self.counters, error))?;
            Ok(corrected.rows_affected() > 0)
        })
    }

    fn budget_use<'a>(&'a self, key: &'a str, slots: &'a [UnixMs], now: UnixMs) -> BoxFuture<'a, Option<BudgetUse>> {
        Box::pin(async move {
            let mut starts: Vec<i64> = slots.iter().map(|slot| stored(*slot)).collect();
            starts.sort_unstable();
            starts.dedup();
            let wanted = starts.len();
            let (there, spent, held): (i64, i64, i64) = query_as(USE)
                .bind(escaped(key))
                .bind(starts)
                .bind(stored(now))
                .fetch_one(&self.readers)
                .await
                .map_err(|error| self.fault(error))?;
            Ok((usize::try_from(there) == Ok(wanted)).then_some(BudgetUse { spent, held }))
        })
    }

    fn forget_counters(&self, slots: UnixMs, requests: UnixMs) -> BoxFuture<'_, ()> {
        retrying!(async {
            for (statement, before) in [(FORGET_SLOTS, slots), (FORGET_HOLDS, requests), (FORGET_SETTLED, requests)] {
                loop {
                    let piece = query(statement).bind(stored(before)).bind(PIECE).execute(&self.counters).await;
                    let gone = piece.map_err(|error| self.pool_fault(&self.counters, error))?.rows_affected();
                    if gone < PIECE.unsigned_abs() {
                        break;
                    }
                }
            }
            Ok(())
        })
    }
}

/// What the counters say of one budget.
#[derive(Clone, Copy)]
struct Found {
    seeded: bool,
    used: BudgetUse,
}

/// The budgets of many requests, each asked for once, and what has been given out of them since they were read.
struct Till<'a> {
    /// Budgets with the slots that count.
    budgets: Vec<(&'a str, &'a [UnixMs])>,
    found: Vec<Found>,
    given: HashMap<&'a str, i64>,
}

impl<'a> Till<'a> {
    fn of(asks: &'a [HoldAsk]) -> Self {
        let mut budgets = Vec::new();
        for budget in asks.iter().flat_map(|ask| &ask.budgets) {
            let one = (budget.key.as_str(), budget.slots.as_slice());
            if !budgets.contains(&one) {
                budgets.push(one);
            }
        }
        Self { budgets, found: Vec::new(), given: HashMap::new() }
    }

    fn standing(&self, ask: &BudgetAsk) -> Option<Found> {
        let place = self.budgets.iter().position(|one| *one == (ask.key.as_str(), ask.slots.as_slice()))?;
        let mut found = *self.found.get(place)?;
        found.used.held = found.used.held.saturating_add(self.given.get(ask.key.as_str()).copied().unwrap_or(0));
        Some(found)
    }

    /// Gives a request what it asks for, from all of its budgets or from none.
    fn give(&mut self, ask: &'a HoldAsk, known: bool) -> Holding {
        let unseeded = Found { seeded: false, used: BudgetUse::default() };
        let found: Vec<Found> = ask.budgets.iter().map(|budget| self.standing(budget).unwrap_or(unseeded)).collect();
        let missing: Vec<usize> = (0..).zip(&found).filter(|(_, of)| !of.seeded).map(|(place, _)| place).collect();
        if !missing.is_empty() {
            return Holding::Unseeded(missing);
        }
        let uses: Vec<BudgetUse> = found.iter().map(|of| of.used).collect();
        if known {
            return Holding::Held(uses);
        }
        for (place, (budget, used)) in ask.budgets.iter().zip(&uses).enumerate() {
            if used.spent.saturating_add(used.held).saturating_add(budget.amount) > budget.limit {
                return Holding::Short(place, *used);
            }
        }
        for budget in &ask.budgets {
            let given = self.given.entry(budget.key.as_str()).or_default();
            *given = given.saturating_add(budget.amount);
        }
        Holding::Held(uses)
    }
}

impl PostgresStore {
    async fn hold_once(&self, asks: &[HoldAsk], now: UnixMs) -> Result<Vec<Holding>, StoreError> {
        let mut till = Till::of(asks);
        if till.budgets.is_empty() {
            return Ok(asks.iter().map(|_| Holding::Held(Vec::new())).collect());
        }
        let said = |error| self.pool_fault(&self.counters, error);
        let mut transaction = self.counters.begin_with(BEGIN_HOLD).await.map_err(said)?;
        self.lock_tenants(&mut transaction, till.budgets.iter().map(|(key, _)| *key)).await?;
        let keys: Vec<_> = till.budgets.iter().map(|(key, _)| escaped(key)).collect();
        let (mut numbers, mut slots) = (Vec::new(), Vec::new());
        for (number, (_, wanted)) in (1_i64..).zip(&till.budgets) {
            numbers.extend(wanted.iter().map(|_| number));
            slots.extend(wanted.iter().map(|slot| stored(*slot)));
        }
        let uses = query(USES).bind(&keys).bind(numbers).bind(slots).bind(stored(now));
        let rows = uses.fetch_all(&mut *transaction).await.map_err(said)?;
        till.found = rows.iter().map(read).collect::<Result<_, _>>()?;
        let requests: Vec<[u8; 16]> = asks.iter().map(|ask| ask.request.to_bytes()).collect();
        let known = query_as(KNOWN).bind(&requests).bind(stored(now)).fetch_all(&mut *transaction).await;
        let mut known: HashSet<Vec<u8>> = known.map_err(said)?.into_iter().map(|(request,)| request).collect();
        let (mut answers, mut holds) =
            (Vec::with_capacity(asks.len()), (Vec::new(), Vec::new(), Vec::new(), Vec::new()));
        for ask in asks {
            let request = ask.request.to_bytes();
            let again = known.contains(request.as_slice());
            let answer = till.give(ask, again);
            if !again && matches!(answer, Holding::Held(_)) {
                // The same request twice in one batch holds once.
                known.insert(request.to_vec());
                for budget in &ask.budgets {
                    holds.0.push(request);
                    holds.1.push(escaped(&budget.key));
                    holds.2.push(budget.amount);
                    holds.3.push(stored(ask.expires_at));
                }
            }
            answers.push(answer);
        }
        if !holds.0.is_empty() {
            let (requests, keys, amounts, expiries) = holds;
            let held = query(HOLD).bind(requests).bind(keys).bind(amounts).bind(expiries);
            held.execute(&mut *transaction).await.map_err(said)?;
        }
        transaction.commit().await.map_err(said)?;
        Ok(answers)
    }

    async fn settle_once(
        &self,
        request: RequestId,
        budgets: &[(String, UnixMs)],
        amount: i64,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        let said = |error| self.pool_fault(&self.counters, error);
        let mut transaction = self.counters.begin().await.map_err(said)?;
        query(RELEASE).bind(request.to_bytes()).execute(&mut *transaction).await.map_err(said)?;
        let first = query(SETTLED).bind(request.to_bytes()).bind(stored(now)).execute(&mut *transaction).await;
        if first.map_err(said)?.rows_affected() > 0 {
            let keys: Vec<_> = budgets.iter().map(|(key, _)| escaped(key)).collect();
            let slots: Vec<i64> = budgets.iter().map(|(_, slot)| stored(*slot)).collect();
            let spent = query(SPEND).bind(keys).bind(slots).bind(amount).execute(&mut *transaction).await;
            spent.map_err(said)?;
        }
        transaction.commit().await.map_err(said)
    }

    async fn bring_up(&self, statement: &'static str, key: &str, slots: &[(UnixMs, i64)]) -> Result<(), StoreError> {
        let starts: Vec<i64> = slots.iter().map(|(slot, _)| stored(*slot)).collect();
        let spent: Vec<i64> = slots.iter().map(|(_, spent)| *spent).collect();
        let brought = query(statement).bind(escaped(key)).bind(starts).bind(spent).execute(&self.counters).await;
        brought.map(|_| ()).map_err(|error| self.pool_fault(&self.counters, error))
    }

    /// Waits until nobody else holds for these tenants. What stands before the first `/` of a key is its tenant.
    async fn lock_tenants<'k>(
        &self,
        transaction: &mut PgTransaction<'static>,
        keys: impl Iterator<Item = &'k str>,
    ) -> Result<(), StoreError> {
        let mut locks: Vec<i64> = keys.map(|key| lock_of(key.split('/').next().unwrap_or_default())).collect();
        locks.sort_unstable();
        locks.dedup();
        let locked = query(LOCK).bind(locks).execute(&mut **transaction).await;
        locked.map(|_| ()).map_err(|error| self.pool_fault(&self.counters, error))
    }
}

/// The number of a tenant's lock, the same in every replica. Two tenants with one number would only wait for each other.
fn lock_of(tenant: &str) -> i64 {
    let hash = blake3::derive_key("remora 2026 budget lock", tenant.as_bytes());
    i64::from_le_bytes(*hash.first_chunk::<8>().unwrap_or(&[0; 8]))
}

fn read(row: &PgRow) -> Result<Found, StoreError> {
    let mut cells = Cells::of("budget_slots", row);
    Ok(Found { seeded: cells.take()?, used: BudgetUse { spent: cells.take()?, held: cells.take()? } })
}
