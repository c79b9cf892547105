//! Names by similarity: from trigrams in memory, each name then looked up; or, of an owner with too many names for that, from the
//! postings of the rarest trigrams of names whose length allows the similarity. Only names of owners that the caller sees are read.

use std::future::poll_fn;
use std::sync::PoisonError;

use sqlx::sqlite::SqliteConnection;
use sqlx::{query, query_scalar};

use super::super::super::StoreError;
use super::super::super::rem::*;
use super::super::SqliteStore;
use super::super::cells::{Cells, stored};
use super::columns::{number_list, scope_number, table, table_list};
use super::conditions::most;
use super::lexicon::Lexicon;
use crate::ids::RemId;

pub(super) const AHEAD: &str = "SELECT count(*) FROM rem_names WHERE tenant = ?1 AND owner = ?2 AND no > ?3";
pub(super) const READ_ON: &str =
    "SELECT no, name FROM rem_names WHERE tenant = ?1 AND owner = ?2 AND no > ?3 ORDER BY no";
pub(super) const VERIFY: &str = "SELECT r.id, n.tab, n.name FROM json_each(?1) AS c CROSS JOIN rem_names AS n ON n.no = c.value \
    CROSS JOIN rem_rows AS r ON r.no = n.row WHERE n.tenant = ?2 AND n.owner IN (?3, 'public') \
    AND (?4 IS NULL OR n.tab IN (SELECT value FROM json_each(?4)))";
/// How often each trigram is there, in names of the length in question; counting ends at a bound.
pub(super) const COMMON: &str = "SELECT g.value, (SELECT count(*) FROM (SELECT 1 FROM rem_grams AS p \
    WHERE p.scope = ?1 AND p.gram = g.value AND p.size BETWEEN ?2 AND ?3 LIMIT ?4)) FROM json_each(?5) AS g";
/// Names that have so many of these trigrams that with all the others they could reach the similarity. With `a` and `b` trigrams,
/// of which `s` are common, `s / (a + b - s) >= t` is `s * (1 + t) >= t * (a + b)`.
pub(super) const POSTINGS: &str = "SELECT r.id, n.tab, n.name FROM (\
        SELECT p.name AS name FROM json_each(?2) AS g CROSS JOIN rem_grams AS p \
        ON p.scope = ?1 AND p.gram = g.value AND p.size BETWEEN ?3 AND ?4 \
        GROUP BY p.name, p.size HAVING (count(*) + ?5) * (1.0 + ?6) >= ?6 * (?7 + p.size) - 0.000001\
    ) AS c CROSS JOIN rem_names AS n ON n.no = c.name CROSS JOIN rem_rows AS r ON r.no = n.row \
    WHERE n.tenant = ?8 AND n.owner = ?9 AND (?10 IS NULL OR n.tab IN (SELECT value FROM json_each(?10)))";

/// Postings that are counted to find the rarest trigrams, all together.
const COUNTED: usize = 30_000;
/// From so many names on, counting is not done on a thread that serves requests.
const MANY: usize = 10_000;
/// Trigrams in memory are compared with the database when so many names have come, or searches have been made.
const CHECK_EVERY: usize = 1_024;

impl SqliteStore {
    pub(super) async fn similar_rem(
        &self,
        scope: &Scope,
        text: &str,
        tables: &[RemTable],
        least: f64,
        limit: u32,
    ) -> Result<Vec<RemSimilar>, StoreError> {
        let grams = Grams::of(text);
        if grams.is_empty() || limit == 0 || least > 1.0 || least.is_nan() {
            return Ok(Vec::new());
        }
        let (least, limit) = (least.max(0.0), usize::try_from(limit).unwrap_or(usize::MAX));
        let mut snapshot = self.begin_search(Some(scope)).await?;
        let mut found: Vec<(f64, RemSimilar)> = Vec::new();
        let mut scored: Vec<(f64, i64)> = Vec::new();
        for owner in [Owner::Public, scope.owner()] {
            match self.scored(&mut snapshot, scope, &owner, &grams, least).await? {
                Some(names) => scored.extend(names),
                None => self.similar_of(&mut snapshot, scope, &owner, &grams, tables, least, &mut found).await?,
            }
        }
        self.look_up(&mut snapshot, scope, tables, &grams, scored, limit, &mut found).await?;
        self.end_search(snapshot).await?;
        found.sort_by(|(a, left), (b, right)| {
            b.total_cmp(a).then_with(|| left.name.cmp(&right.name)).then_with(|| left.id.cmp(&right.id))
        });
        found.truncate(limit);
        Ok(found.into_iter().map(|(_, similar)| similar).collect())
    }

    /// Similarities and numbers of an owner's names, some of which may be gone; `None` if there are too many for memory.
    async fn scored(
        &self,
        snapshot: &mut SqliteConnection,
        scope: &Scope,
        owner: &Owner,
        grams: &Grams,
        least: f64,
    ) -> Result<Option<Vec<(f64, i64)>>, StoreError> {
        let (number, of) = (scope_number(&scope.tenant, owner), owner.to_string());
        let mut lexicon = self.lexicons.part(number);
        let counted = async |snapshot: &mut SqliteConnection, after: i64| -> Result<usize, StoreError> {
            let count = query_scalar(AHEAD).bind(scope.tenant.as_str()).bind(&of).bind(after).fetch_one(snapshot).await;
            let count: i64 = count.map_err(|error| self.fault(error))?;
            Ok(usize::try_from(count).unwrap_or(0))
        };
        let (unchecked, len) = {
            let mut lexicon = lexicon.write().unwrap_or_else(PoisonError::into_inner);
            lexicon.unchecked += 1;
            (lexicon.unchecked, lexicon.len())
        };
        if unchecked >= CHECK_EVERY.max(len / 8) {
            let count = counted(&mut *snapshot, 0).await?;
            let much_is_gone = {
                let mut lexicon = lexicon.write().unwrap_or_else(PoisonError::into_inner);
                lexicon.unchecked = 0;
                count + count / 8 < lexicon.len()
            };
            if much_is_gone {
                lexicon = self.lexicons.renew(number);
            }
        }
        let (seen, len) = {
            let lexicon = lexicon.read().unwrap_or_else(PoisonError::into_inner);
            (lexicon.seen, lexicon.len())
        };
        let ahead = counted(&mut *snapshot, seen).await?;
        if !self.lexicons.holds(Lexicon::expected(len.saturating_add(ahead))) {
            self.lexicons.drop_part(number);
            return Ok(None);
        }
        if ahead > 0 {
            let mut fresh = Vec::with_capacity(ahead);
            {
                let mut rows = query(READ_ON).bind(scope.tenant.as_str()).bind(&of).bind(seen).fetch(&mut *snapshot);
                while let Some(row) = poll_fn(|context| rows.as_mut().poll_next(context)).await {
                    let row = row.map_err(|error| self.fault(error))?;
                    let mut cells = Cells::of("rem_names", &row);
                    let no: i64 = cells.take()?;
                    fresh.push((no, Grams::of(cells.take()?)));
                }
            }
            {
                let mut lexicon = lexicon.write().unwrap_or_else(PoisonError::into_inner);
                fresh.iter().for_each(|(no, grams)| lexicon.add(*no, grams));
            }
            self.lexicons.weigh(number);
        } else if len == 0 {
            self.lexicons.drop_empty(number);
            return Ok(Some(Vec::new()));
        }
        if len + ahead < MANY {
            return Ok(Some(lexicon.read().unwrap_or_else(PoisonError::into_inner).similar(grams, least)));
        }
        let grams = grams.clone();
        let counting = tokio::task::spawn_blocking(move || {
            lexicon.read().unwrap_or_else(PoisonError::into_inner).similar(&grams, least)
        });
        counting.await.map(Some).map_err(|error| StoreError::Failed(error.into()))
    }

    /// Looks names up, the most similar first, until there are `limit` and no other one is as similar as the last of them.
    #[expect(clippy::too_many_arguments, reason = "one step of one search")]
    async fn look_up(
        &self,
        snapshot: &mut SqliteConnection,
        scope: &Scope,
        tables: &[RemTable],
        grams: &Grams,
        mut scored: Vec<(f64, i64)>,
        limit: usize,
        found: &mut Vec<(f64, RemSimilar)>,
    ) -> Result<(), StoreError> {
        let mut rest = scored.as_mut_slice();
        let mut chunk = limit.saturating_mul(2).max(32);
        let (mut seen, mut worst) = (0, f64::INFINITY);
        while !rest.is_empty() {
            if rest.len() > chunk {
                rest.select_nth_unstable_by(chunk, |a, b| b.0.total_cmp(&a.0));
            }
            let (now, later) = rest.split_at_mut(chunk.min(rest.len()));
            let rows = query(VERIFY)
                .bind(number_list(now.iter().map(|(_, no)| *no)))
                .bind(scope.tenant.as_str())
                .bind(scope.owner().to_string())
                .bind(table_list(tables))
                .fetch_all(&mut *snapshot)
                .await
                .map_err(|error| self.fault(error))?;
            for row in &rows {
                let mut cells = Cells::of("rem_names", row);
                let id = RemId::from_bytes(cells.id()?);
                let similar = RemSimilar { id, table: table(&mut cells)?, name: cells.take()? };
                let score = grams.similarity(&Grams::of(&similar.name));
                worst = worst.min(score);
                found.push((score, similar));
                seen += 1;
            }
            // Scores in memory are exact, so every later name is at most as similar as any of these.
            if seen >= limit && later.iter().all(|(score, _)| *score < worst) {
                break;
            }
            rest = later;
            chunk = chunk.saturating_mul(4);
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "one half of one search")]
    async fn similar_of(
        &self,
        snapshot: &mut SqliteConnection,
        scope: &Scope,
        owner: &Owner,
        grams: &Grams,
        tables: &[RemTable],
        least: f64,
        found: &mut Vec<(f64, RemSimilar)>,
    ) -> Result<(), StoreError> {
        let number = scope_number(&scope.tenant, owner);
        let (shortest, longest, needed) = bounds(grams.len(), least);
        // A name without any of the rarest ones has too few of the others.
        let kept = (grams.len() + 1).saturating_sub(needed).max(1);
        let mut rarest: Vec<i64> = grams.codes().iter().map(|code| stored(*code)).collect();
        if kept < rarest.len() {
            let rows = query(COMMON)
                .bind(number)
                .bind(shortest)
                .bind(longest)
                .bind(stored((COUNTED / rarest.len()).max(16) as u64))
                .bind(number_list(rarest.iter().copied()))
                .fetch_all(&mut *snapshot)
                .await
                .map_err(|error| self.fault(error))?;
            let count = |row| {
                let mut cells = Cells::of("rem_grams", row);
                let gram: i64 = cells.take()?;
                Ok((cells.take::<i64>()?, gram))
            };
            let mut counts = rows.iter().map(count).collect::<Result<Vec<_>, StoreError>>()?;
            counts.sort_unstable();
            rarest = counts.into_iter().take(kept).map(|(_, gram)| gram).collect();
        }
        let others = grams.len() - rarest.len();
        let rows = query(POSTINGS)
            .bind(number)
            .bind(number_list(rarest.into_iter()))
            .bind(shortest)
            .bind(longest)
            .bind(stored(others as u64))
            .bind(least)
            .bind(stored(grams.len() as u64))
            .bind(scope.tenant.as_str())
            .bind(owner.to_string())
            .bind(table_list(tables))
            .fetch_all(snapshot)
            .await
            .map_err(|error| self.fault(error))?;
        for row in &rows {
            let mut cells = Cells::of("rem_names", row);
            let id = RemId::from_bytes(cells.id()?);
            let similar = RemSimilar { id, table: table(&mut cells)?, name: cells.take()? };
            let score = grams.similarity(&Grams::of(&similar.name));
            if score >= least {
                found.push((score, similar));
            }
        }
        Ok(())
    }
}

/// Least and largest number of trigrams of a name that may be this similar to one with `len`, and how many they must share.
fn bounds(len: usize, least: f64) -> (i64, i64, usize) {
    let length = f64::from(u32::try_from(len).unwrap_or(u32::MAX));
    // A hair below and above, so that no rounding takes away one that just reaches it.
    let whole = |value: f64| i64::from(number(value));
    let shared = (least * length - 1e-6).ceil().max(1.0);
    let longest = if least > 0.0 { whole((length / least + 1e-6).floor()) } else { most(u32::MAX) };
    (whole(shared), longest, usize::try_from(number(shared)).unwrap_or(1))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped; a count")]
fn number(value: f64) -> u32 {
    value.clamp(0.0, f64::from(u32::MAX)) as u32
}
