//! Names, exact and similar.
//!
//! Similar names are found among those of the two owners that the caller sees, and of nobody else: the index begins with a digest of
//! tenant and owner. Behind it stand the number of trigrams and a signature, in which each trigram has set one bit. Bits that a
//! name has in common with what is asked for are never fewer than the common trigrams, but for those that fell on one bit, so they
//! bound the similarity from above. Candidates are looked at from the highest bound on; the score itself is computed from the name.

use sqlx::postgres::PgConnection;
use sqlx::query;

use super::super::super::StoreError;
use super::super::super::rem::{Grams, Owner, RemNamed, RemSimilar, RemTable, Scope, key_digest};
use super::super::PostgresStore;
use super::super::cells::{Cells, unescaped};
use super::rows::{codes, owners, row, row_columns, scope_number, table};
use crate::ids::RemId;

pub(super) const NAMED: &str = concat!(
    "WITH found AS MATERIALIZED (SELECT k.asked, n.alias, n.name, n.row, n.tab ",
    "FROM unnest($1::bytea[], $2::bigint[]) AS k (key, asked) ",
    "JOIN rem_names AS n ON n.tenant = $3 AND n.key = k.key AND n.owner = ANY ($4) ",
    "WHERE n.tab = ANY ($5) ORDER BY k.asked, n.alias, n.tab, n.name, n.row LIMIT $6) ",
    "SELECT n.asked, n.alias, n.name, ",
    row_columns!(),
    " FROM found AS n ",
    "JOIN rem_rows AS r ON r.no = n.row AND r.tenant = $3 AND r.owner = ANY ($4) AND r.deleted_at IS NULL ",
    "ORDER BY n.asked, n.tab, r.name, r.id, n.name"
);

/// Names by how similar they may be, which the index alone tells. With `a` and `b` trigrams, of which `s` are common,
/// `s / (a + b - s) >= t` is `s >= (a + b) * t / (1 + t)`.
///
/// The distance of the signatures (pgvector's Jaccard distance of bits) is the cheapest condition, and nearly all names fail it.
pub(super) const SIMILAR: &str = "SELECT f.no, f.common / ($3 + f.size - f.common) AS bound FROM (\
        SELECT n.no, n.size, least(bit_count(n.grams & ('x' || $2)::bit(512)) + $4, $3, n.size)::double precision AS common \
        FROM rem_names AS n WHERE n.scope = ANY ($1) AND n.size BETWEEN $5 AND $6 AND (n.grams <%> ('x' || $2)::bit(512)) <= $11 \
        AND n.tab = ANY ($7) AND (bit_count(n.grams & ('x' || $2)::bit(512)) + $4)::double precision \
            >= greatest(($3 + n.size)::double precision * $8 - 0.000001, $4 + 1)) AS f \
    ORDER BY bound DESC, f.no LIMIT $9 OFFSET $10";
/// The names themselves.
pub(super) const SIMILAR_NAMES: &str = "SELECT r.id, n.tab, n.name FROM unnest($3::bigint[]) AS k (no) \
    CROSS JOIN LATERAL (SELECT m.* FROM rem_names AS m WHERE m.no = k.no OFFSET 0) AS n \
    CROSS JOIN LATERAL (SELECT o.* FROM rem_rows AS o WHERE o.no = n.row OFFSET 0) AS r \
    WHERE n.tenant = $1 AND n.owner = ANY ($2) AND r.tenant = $1 AND r.owner = ANY ($2) AND r.deleted_at IS NULL";

/// Of few names the planner would rather read the whole table, and be wrong when the others have many.
pub(super) const BY_INDEX: &str = "SET LOCAL enable_seqscan = off";
/// Candidates that one scan gives. Few searches need more, which takes another scan.
const OF_A_SCAN: usize = 2_048;
/// Candidates that are looked at in one go, at first.
const AT_FIRST: usize = 128;
/// Bytes of a signature.
const SIGNATURE: usize = 64;

impl PostgresStore {
    pub(super) async fn named_rem(
        &self,
        scope: &Scope,
        keys: &[String],
        tables: &[RemTable],
        limit: u32,
    ) -> Result<Vec<RemNamed>, StoreError> {
        // Nothing is found by the empty form.
        let asked: Vec<(usize, &String)> = keys.iter().enumerate().filter(|(_, key)| !key.is_empty()).collect();
        let places: Vec<i64> = asked.iter().map(|(at, _)| i64::try_from(*at).unwrap_or(i64::MAX)).collect();
        let mut snapshot = self.begin_rem("").await?;
        let found = query(NAMED)
            .bind(asked.iter().map(|(_, key)| key_digest(key)).collect::<Vec<_>>())
            .bind(places)
            .bind(scope.tenant.as_str())
            .bind(owners(scope))
            .bind(codes(tables))
            .bind(i64::from(limit))
            .fetch_all(&mut *snapshot)
            .await
            .map_err(|error| self.fault(error))?;
        snapshot.end(self).await?;
        found
            .iter()
            .map(|found| {
                let mut cells = Cells::of("rem_names", found);
                let asked = cells.count()?;
                Ok(RemNamed {
                    asked: usize::try_from(asked).map_err(|error| cells.bad(&error))?,
                    alias: cells.take()?,
                    name: cells.string()?,
                    row: row(&mut cells)?,
                })
            })
            .collect()
    }

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
        let signed = Signed::of(&grams);
        let (shortest, longest) = lengths(signed.size, least);
        let (mut chunk, mut scanned) = (limit.saturating_mul(2).max(AT_FIRST), 0_usize);
        let mut found: Vec<(f64, RemSimilar)> = Vec::new();
        let mut snapshot = self.begin_rem(BY_INDEX).await?;
        'search: loop {
            let candidates = query(SIMILAR)
                .bind([Owner::Public, scope.owner()].map(|owner| scope_number(&scope.tenant, &owner)))
                .bind(&signed.signature)
                .bind(signed.size)
                .bind(signed.fallen)
                .bind(shortest)
                .bind(longest)
                .bind(codes(tables))
                .bind(least / (1.0 + least))
                .bind(i64::try_from(OF_A_SCAN).unwrap_or(i64::MAX))
                .bind(i64::try_from(scanned).unwrap_or(i64::MAX))
                .bind(signed.farthest(least))
                .fetch_all(&mut *snapshot)
                .await
                .map_err(|error| self.fault(error))?;
            let mut bounds = candidates.iter().map(|row| {
                let mut cells = Cells::of("rem_names", row);
                Ok((cells.take::<i64>()?, cells.take::<f64>()?))
            });
            loop {
                let some = bounds.by_ref().take(chunk).collect::<Result<Vec<_>, StoreError>>()?;
                let Some((_, bound)) = some.last().copied() else { break };
                self.names_of(&mut snapshot, scope, &grams, least, &some, &mut found).await?;
                found.sort_by(|(a, left), (b, right)| {
                    b.total_cmp(a).then_with(|| left.name.cmp(&right.name)).then_with(|| left.id.cmp(&right.id))
                });
                found.truncate(limit);
                // A name that is still to come is at most as similar as the bound of the last one.
                if found.len() == limit && found.last().is_some_and(|(score, _)| *score > bound) {
                    break 'search;
                }
                chunk = chunk.saturating_mul(2);
            }
            if candidates.len() < OF_A_SCAN {
                break;
            }
            scanned = scanned.saturating_add(OF_A_SCAN);
        }
        snapshot.end(self).await?;
        Ok(found.into_iter().map(|(_, similar)| similar).collect())
    }

    /// Looks candidates up, and keeps those that are similar enough.
    async fn names_of(
        &self,
        snapshot: &mut PgConnection,
        scope: &Scope,
        grams: &Grams,
        least: f64,
        candidates: &[(i64, f64)],
        found: &mut Vec<(f64, RemSimilar)>,
    ) -> Result<(), StoreError> {
        let rows = query(SIMILAR_NAMES)
            .bind(scope.tenant.as_str())
            .bind(owners(scope))
            .bind(candidates.iter().map(|(no, _)| *no).collect::<Vec<_>>())
            .fetch_all(snapshot)
            .await
            .map_err(|error| self.fault(error))?;
        for row in &rows {
            let mut cells = Cells::of("rem_names", row);
            let id = RemId::from_bytes(cells.id()?);
            let similar = RemSimilar { id, table: table(&mut cells)?, name: unescaped(cells.take()?).into_owned() };
            let score = grams.similarity(&Grams::of(&similar.name));
            if score >= least && score > 0.0 {
                found.push((score, similar));
            }
        }
        Ok(())
    }
}

/// Trigrams as they are in the index. Rows have been written with this: it must stay as it is.
pub(super) struct Signed {
    /// How many there are.
    pub(super) size: i32,
    /// 512 bits as hexadecimal digits.
    pub(super) signature: String,
    /// How many fell on a bit that another had set.
    fallen: i32,
}

impl Signed {
    pub(super) fn of(grams: &Grams) -> Self {
        let mut bytes = [0_u8; SIGNATURE];
        let mut fallen = 0;
        for code in grams.codes() {
            // The upper bits of the product depend on all of the code.
            let mixed = code.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 55;
            let bit = 1_u8 << (mixed & 7);
            let byte = usize::try_from(mixed >> 3).ok().and_then(|place| bytes.get_mut(place));
            let Some(byte) = byte else { continue };
            fallen += i32::from(*byte & bit != 0);
            *byte |= bit;
        }
        let signature = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { size: i32::try_from(grams.len()).unwrap_or(i32::MAX), signature, fallen }
    }

    /// Farthest that the signature of a name which is this similar may be, as Jaccard distance.
    ///
    /// Of `s` common trigrams at least `s - f` bits are common, if `f` fell on a bit that was set; so the similarity of the bits is at least
    /// `(s - f) / (a + b - s)`, which is `t - f * (1 + t) / (a + b)` or more, and `a + b` is at least `a * (1 + t)`.
    fn farthest(&self, least: f64) -> f64 {
        1.0 - least + f64::from(self.fallen) / f64::from(self.size.max(1)) + 1e-6
    }
}

/// Least and largest number of trigrams of a name that may be this similar to one with `len`.
fn lengths(len: i32, least: f64) -> (i32, i32) {
    let length = f64::from(len);
    // A hair below and above, so that no rounding takes away one that just reaches it.
    let longest = if least > 0.0 { number((length / least + 1e-6).floor()) } else { i32::MAX };
    (number((least * length - 1e-6).ceil()).max(1), longest)
}

#[expect(clippy::cast_possible_truncation, reason = "clamped; a count")]
fn number(value: f64) -> i32 {
    value.clamp(0.0, f64::from(i32::MAX)) as i32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ones(signature: &str) -> Vec<u32> {
        signature.chars().map(|digit| digit.to_digit(16).unwrap()).collect()
    }

    proptest! {
        #[test]
        fn no_bound_is_below_the_similarity(
            a in "[a-cäöüß東京都 ]{0,24}|[a-z ]{100,400}", b in "[a-cäöüß東京都 ]{0,24}|[a-z ]{100,400}", least in 0.0..1.0_f64,
        ) {
            let (asked, name) = (Grams::of(&a), Grams::of(&b));
            let (left, right) = (Signed::of(&asked), Signed::of(&name));
            let both: u32 = ones(&left.signature).iter().zip(ones(&right.signature)).map(|(a, b)| (a & b).count_ones()).sum();
            let common = (i32::try_from(both).unwrap() + left.fallen).min(left.size).min(right.size);
            let score = asked.similarity(&name);
            if score > 0.0 {
                let bound = f64::from(common) / f64::from(left.size + right.size - common);
                prop_assert!(bound >= score && both > 0, "{bound} {score}");
                let (shortest, longest) = lengths(left.size, least);
                prop_assert!(score < least || (shortest..=longest).contains(&right.size));
                let all: u32 = ones(&left.signature).iter().zip(ones(&right.signature)).map(|(a, b)| (a | b).count_ones()).sum();
                let distance = 1.0 - f64::from(both) / f64::from(all);
                prop_assert!(distance <= left.farthest(score), "{distance} {score}");
            }
        }
    }
}
