//! The nearest rows, exactly: all vectors of the parts that the caller sees are compared in memory, and the best of them are looked
//! up, under the condition and the caller's scope, until there are enough that nothing better can follow.

use std::future::poll_fn;
use std::sync::{Arc, PoisonError, RwLock};

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, query, query_scalar};

use super::super::super::StoreError;
use super::super::super::rem::*;
use super::super::SqliteStore;
use super::super::cells::Cells;
use super::columns::{number_list, part_number, read_row, row_columns};
use super::conditions::{Question, bound};
use super::shelf::{Candidate, Part, dot, scale, tolerance, unit};

/// Vectors of the parts are read behind this number.
pub(super) const READ_ON: &str = "SELECT seq, vector FROM rem_vectors WHERE part = ?1 AND seq > ?2 ORDER BY seq";
const COUNT: &str = "SELECT count(*) FROM rem_vectors WHERE part = ?1";
pub(super) const AHEAD: &str = "SELECT count(*) FROM rem_vectors WHERE part = ?1 AND seq > ?2";
pub(super) const VERIFY: &str = "SELECT v.seq, v.vector FROM json_each(?1) AS c CROSS JOIN rem_vectors AS v ON v.seq = c.value \
     CROSS JOIN rem_rows AS r ON r.no = v.row";
pub(super) const ROWS: &str = concat!(
    "SELECT v.seq, ",
    row_columns!(),
    " FROM json_each(?1) AS c CROSS JOIN rem_vectors AS v ON v.seq = c.value CROSS JOIN rem_rows AS r ON r.no = v.row"
);

/// From so many vectors on, comparing is not done on a thread that serves requests.
const MANY: usize = 2_000;
/// A part is compared with the database when so many vectors have come, or searches have been made.
const CHECK_EVERY: usize = 1_024;

/// A row that passed: its exact cosine, and the number of its vector.
type Passed = (f64, i64);

impl SqliteStore {
    pub(super) async fn nearest_rem(
        &self,
        scope: &Scope,
        vector: &RemVector,
        least: f64,
        question: &RemQuestion<'_>,
    ) -> Result<Vec<RemNear>, StoreError> {
        let limit = usize::try_from(question.limit).unwrap_or(usize::MAX);
        if limit == 0 || !is_direction(vector) {
            return Ok(Vec::new());
        }
        let mut snapshot = self.begin_search(Some(scope)).await?;
        let asked = Arc::new(unit(&vector.vector));
        let slack = tolerance(asked.len());
        #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is within the slack")]
        let floor = least as f32 - slack;
        let mut candidates = Vec::new();
        for owner in [Owner::Public, scope.owner()] {
            let number = part_number(&scope.tenant, &owner, question.table, &vector.space);
            self.candidates(&mut snapshot, number, &asked, floor, &mut candidates).await?;
        }
        let asked_of = Question { scope, of: question, first: 2 };
        let mut passed = self.best(&mut snapshot, &asked_of, vector, least, limit, candidates, slack).await?;
        // Of those that are equal to the last one, names and ids decide.
        passed.sort_by(|a, b| b.0.total_cmp(&a.0));
        if let Some((last, _)) = passed.get(limit - 1).copied() {
            passed.retain(|(cosine, _)| *cosine >= last);
        }
        let mut near = self.near_rows(&mut snapshot, &asked_of, &passed).await?;
        self.end_search(snapshot).await?;
        sort_near(&mut near);
        near.truncate(limit);
        Ok(near)
    }

    /// Adds what may be near in one part.
    async fn candidates(
        &self,
        snapshot: &mut SqliteConnection,
        number: i64,
        asked: &Arc<Vec<f32>>,
        floor: f32,
        candidates: &mut Vec<Candidate>,
    ) -> Result<(), StoreError> {
        let (part, seen, len) = self.current(snapshot, number).await?;
        let ahead: i64 = query_scalar(AHEAD)
            .bind(number)
            .bind(seen)
            .fetch_one(&mut *snapshot)
            .await
            .map_err(|error| self.fault(error))?;
        if ahead > 0 {
            let ahead = usize::try_from(ahead).unwrap_or(usize::MAX);
            if !self.shelf.holds(Part::expected(len.saturating_add(ahead), asked.len())) {
                // Too large to be kept: compared as it is read.
                self.shelf.drop_part(number);
                return self
                    .read_on(snapshot, number, 0, |seq, vector| {
                        let near = dot(asked, vector) * scale(vector);
                        if vector.len() == asked.len() && near >= floor {
                            candidates.push((near, seq));
                        }
                    })
                    .await;
            }
            let mut fresh = Vec::with_capacity(ahead.min(CHECK_EVERY));
            self.read_on(snapshot, number, seen, |seq, vector| fresh.push((seq, vector.to_vec()))).await?;
            let mut part = part.write().unwrap_or_else(PoisonError::into_inner);
            fresh.iter().for_each(|(seq, vector)| part.add(*seq, vector));
            drop(part);
            self.shelf.weigh(number);
        } else if len == 0 {
            self.shelf.drop_empty(number);
            return Ok(());
        }
        if len < MANY {
            part.read().unwrap_or_else(PoisonError::into_inner).candidates(asked, floor, candidates);
            return Ok(());
        }
        let asked = Arc::clone(asked);
        let compared = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            part.read().unwrap_or_else(PoisonError::into_inner).candidates(&asked, floor, &mut found);
            found
        });
        candidates.extend(compared.await.map_err(|error| StoreError::Failed(error.into()))?);
        Ok(())
    }

    /// The part, where reading goes on and how many vectors there are; a part in which much is gone begins anew.
    async fn current(
        &self,
        snapshot: &mut SqliteConnection,
        number: i64,
    ) -> Result<(Arc<RwLock<Part>>, i64, usize), StoreError> {
        let part = self.shelf.part(number);
        let (seen, len, unchecked) = {
            let mut part = part.write().unwrap_or_else(PoisonError::into_inner);
            part.unchecked += 1;
            (part.seen, part.len(), part.unchecked)
        };
        if unchecked < CHECK_EVERY.max(len / 8) {
            return Ok((part, seen, len));
        }
        let count: i64 =
            query_scalar(COUNT).bind(number).fetch_one(snapshot).await.map_err(|error| self.fault(error))?;
        let count = usize::try_from(count).unwrap_or(0);
        let (seen, len) = {
            let mut part = part.write().unwrap_or_else(PoisonError::into_inner);
            part.unchecked = 0;
            (part.seen, part.len())
        };
        if count + count / 8 >= len {
            return Ok((part, seen, len));
        }
        let part = self.shelf.renew(number);
        let (seen, len) = {
            let part = part.read().unwrap_or_else(PoisonError::into_inner);
            (part.seen, part.len())
        };
        Ok((part, seen, len))
    }

    /// Hands over all vectors of a part behind a number.
    async fn read_on(
        &self,
        snapshot: &mut SqliteConnection,
        number: i64,
        after: i64,
        mut each: impl FnMut(i64, &[f32]),
    ) -> Result<(), StoreError> {
        let mut rows = query(READ_ON).bind(number).bind(after).fetch(snapshot);
        while let Some(row) = poll_fn(|context| rows.as_mut().poll_next(context)).await {
            let row = row.map_err(|error| self.fault(error))?;
            let (seq, vector) = read_vector(&row)?;
            each(seq, &vector);
        }
        Ok(())
    }

    /// Looks candidates up, the nearest first, until no other one can be among the best `limit`.
    #[expect(clippy::too_many_arguments, reason = "one step of one search")]
    async fn best(
        &self,
        snapshot: &mut SqliteConnection,
        question: &Question<'_>,
        vector: &RemVector,
        least: f64,
        limit: usize,
        mut candidates: Vec<Candidate>,
        slack: f32,
    ) -> Result<Vec<Passed>, StoreError> {
        let filtered = question.of.cond.is_some() || question.of.label.is_some();
        let mut chunk = limit.saturating_mul(2).max(if filtered { 256 } else { 32 });
        let mut passed: Vec<Passed> = Vec::new();
        let mut rest = candidates.as_mut_slice();
        while !rest.is_empty() {
            let farther = |a: &Candidate, b: &Candidate| b.0.total_cmp(&a.0);
            if rest.len() > chunk {
                rest.select_nth_unstable_by(chunk, farther);
            }
            let (now, later) = rest.split_at_mut(chunk.min(rest.len()));
            let numbers = number_list(now.iter().map(|(_, number)| *number));
            let (sql, binds) = question.sql(VERIFY);
            let rows = bound(query(AssertSqlSafe(sql)).persistent(false).bind(numbers), &binds);
            let rows = rows.fetch_all(&mut *snapshot).await.map_err(|error| self.fault(error))?;
            for row in &rows {
                let (seq, stored) = read_vector(row)?;
                let cosine = cosine(&stored, &vector.vector);
                if cosine >= least && stored.len() == vector.vector.len() {
                    passed.push((cosine, seq));
                }
            }
            if let Some((_, (last, _), _)) =
                (passed.len() >= limit).then(|| passed.select_nth_unstable_by(limit - 1, |a, b| b.0.total_cmp(&a.0)))
            {
                let best_later = later.iter().map(|(near, _)| *near).fold(f32::NEG_INFINITY, f32::max);
                if f64::from(best_later + slack) < *last {
                    break;
                }
            }
            rest = later;
            chunk = chunk.saturating_mul(4);
        }
        Ok(passed)
    }

    async fn near_rows(
        &self,
        snapshot: &mut SqliteConnection,
        question: &Question<'_>,
        passed: &[Passed],
    ) -> Result<Vec<RemNear>, StoreError> {
        let numbers = number_list(passed.iter().map(|(_, number)| *number));
        let (sql, binds) = question.sql(ROWS);
        let rows = bound(query(AssertSqlSafe(sql)).persistent(false).bind(numbers), &binds);
        let rows = rows.fetch_all(snapshot).await.map_err(|error| self.fault(error))?;
        let cosines: std::collections::HashMap<i64, f64> = passed.iter().map(|(cosine, seq)| (*seq, *cosine)).collect();
        let mut near = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut cells = Cells::of("rem_rows", row);
            let seq: i64 = cells.take()?;
            if let Some(cosine) = cosines.get(&seq) {
                near.push(RemNear { row: read_row(&mut cells)?, cosine: *cosine });
            }
        }
        Ok(near)
    }
}

fn read_vector(row: &SqliteRow) -> Result<(i64, Vec<f32>), StoreError> {
    let mut cells = Cells::of("rem_vectors", row);
    Ok((cells.take()?, cells.vector_or_null()?.unwrap_or_default()))
}
